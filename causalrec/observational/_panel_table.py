"""From a table with a row per unit and period to a panel: outcomes by unit and period, groups, covariates, clusters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import (
    check_columns,
    check_not_empty,
    check_treatment,
    check_two_arms,
    check_vector,
    list_some,
)
from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError
from causalrec.observational._panel_cells import NEVER, Panel
from causalrec.observational.design import design_matrix


class Names(NamedTuple):
    """Columns by role."""

    unit: str
    time: str
    outcome: str
    treatment: str | None
    first_treated: str | None
    covariates: tuple[str, ...]
    clusters: str | None


class Table(NamedTuple):
    """The checked panel."""

    panel: Panel
    times: AnyArray
    clusters: IntArray | None
    n_dropped: int


def panel_table(frame: Any, names: Names, control: object, unbalanced: str) -> Table:
    """Check the rows and lay them out; nothing of the frame is changed."""
    if not isinstance(frame, pd.DataFrame) and hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if (names.treatment is None) == (names.first_treated is None):
        raise CausalRecError("pass either treatment= (0/1 by unit and period) or first_treated= (a time by unit).")
    roles = [r for r in (*names[:5], *names.covariates, names.clusters) if r is not None]
    check_columns(frame.columns, roles, where="frame")
    check_not_empty(len(frame), where="frame")
    if frame[names.unit].isna().any():
        raise ColumnError(f"{names.unit} is missing in {int(frame[names.unit].isna().sum())} rows; drop these rows.")
    units, unit_values = pd.factorize(frame[names.unit])
    times, periods = _periods(frame[names.time], names.time)
    _check_once(units, periods, unit_values, times, names)
    keep, n_dropped = _complete(units, len(times), unbalanced, names)
    rows = np.flatnonzero(keep[units])
    order = rows[np.lexsort((periods[rows], units[rows]))]
    grid = order.reshape(-1, len(times))  # row numbers, a row per unit
    y = check_vector(frame[names.outcome].to_numpy(), name=names.outcome)[grid]
    group = _from_treatment(frame, names, control, grid) if names.treatment else _from_times(frame, names, times, grid)
    _check_groups(group, names)
    X = _unit_covariates(frame, names.covariates, grid)
    clusters = None if names.clusters is None else _constant(frame[names.clusters], grid, names.clusters)
    return Table(Panel(y, group, X), times, clusters, n_dropped)


def _periods(column: pd.Series, name: str) -> tuple[AnyArray, IntArray]:
    """The times that occur, ascending, and the place of each row's among them."""
    if column.isna().any():
        raise ColumnError(f"{name} is missing in {int(column.isna().sum())} rows; drop these rows.")
    values = column.dt.to_timestamp() if isinstance(column.dtype, pd.PeriodDtype) else column
    if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values)):
        raise ColumnError(
            f"{name} holds {column.iloc[0]!r}, which has no order that one can rely on; expected numbers or dates."
        )
    times, periods = np.unique(values.to_numpy(), return_inverse=True)
    if len(times) < 2:
        raise ColumnError(f"{name} has a single value; at least a period before treatment and one after are needed.")
    return times, periods


def _check_once(units: IntArray, periods: IntArray, unit_values: AnyArray, times: AnyArray, names: Names) -> None:
    counts = np.bincount(units * len(times) + periods)
    if counts.max() > 1:
        first = int(np.argmax(counts > 1))
        raise ColumnError(
            f"there are several rows of a unit in one period, {int((counts > 1).sum())} times (such as {names.unit} "
            f"{list_some([unit_values[first // len(times)]])} at {names.time} {times[first % len(times)]}); "
            "aggregate these to a row per unit and period first."
        )


def _complete(units: IntArray, n_periods: int, unbalanced: str, names: Names) -> tuple[AnyArray, int]:
    """Which units have all periods."""
    keep: AnyArray = np.asarray(np.bincount(units) == n_periods)
    n_dropped = int((~keep).sum())
    if n_dropped and unbalanced == "error":
        raise ColumnError(
            f"{n_dropped} of {len(keep)} units lack some of the {n_periods} values of {names.time}. Fill the rows in "
            "(with 0, where no event means 0), or pass unbalanced='drop' to leave these units out."
        )
    if not keep.any():
        raise ColumnError(f"no unit has all {n_periods} values of {names.time}; restrict the table to fewer of them.")
    return keep, n_dropped


def _from_treatment(frame: pd.DataFrame, names: Names, control: object, grid: IntArray) -> IntArray:
    """First treated period of each unit, from a treatment that must stay on."""
    codes, labels = check_treatment(frame[names.treatment], control=control)
    check_two_arms(labels, what="difference-in-differences")
    on = codes[grid]
    off = int((np.diff(on, axis=1) < 0).any(axis=1).sum())
    if off:
        raise TreatmentError(
            f"{names.treatment} turns off again in {off} of {len(on)} units; the method is for treatment that stays "
            "on. Code first exposure as treatment, or cut the table before it ends."
        )
    return np.where(on.any(axis=1), on.argmax(axis=1), NEVER)


def _from_times(frame: pd.DataFrame, names: Names, times: AnyArray, grid: IntArray) -> IntArray:
    column = frame[names.first_treated]
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    missing = column.isna().to_numpy()
    dated = np.issubdtype(times.dtype, np.datetime64)
    if dated != pd.api.types.is_datetime64_any_dtype(column) and not missing.all():
        raise ColumnError(f"{names.first_treated} is of type {column.dtype}, {names.time} of {times.dtype}; use one.")
    values = column.to_numpy() if dated else column.to_numpy(dtype=np.float64, na_value=np.nan)
    places = np.where(missing, NEVER, np.searchsorted(times, np.where(missing, times[0], values)))
    places = np.where(places >= len(times), NEVER, places)  # after the last period: not treated within the panel
    return _constant(pd.Series(places), grid, str(names.first_treated), code=False)


def _constant(column: pd.Series, grid: IntArray, name: str, *, code: bool = True) -> IntArray:
    """The value of each unit, which must be the same in all its rows; as codes unless it is a number already."""
    if column.isna().any():
        raise ColumnError(f"{name} is missing in {int(column.isna().sum())} rows; drop these or give them a value.")
    values = pd.factorize(column)[0] if code else column.to_numpy()
    found = values[grid]
    changing = int((found != found[:, :1]).any(axis=1).sum())
    if changing:
        raise ColumnError(
            f"{name} changes over time in {changing} of {len(grid)} units; it must be one value per unit, such as the "
            "one before treatment."
        )
    own = found[:, 0]
    return np.asarray(np.unique(own, return_inverse=True)[1] if code else own, dtype=np.int64)


def _check_groups(group: IntArray, names: Names) -> None:
    column = names.treatment or names.first_treated
    early = int((group == 0).sum())
    if early:
        raise TreatmentError(
            f"{column}: {early} of {len(group)} units are treated from the first period on, so that nothing is known "
            "from before. Drop them, or add earlier periods. Where a value stands for 'never', make it missing."
        )
    if (group == NEVER).all():
        raise TreatmentError(f"{column}: no unit is treated within the periods of the table.")


def _unit_covariates(frame: pd.DataFrame, covariates: tuple[str, ...], grid: IntArray) -> FloatArray | None:
    if not covariates:
        return None
    for name in covariates:
        if not frame[name].isna().any():  # else design_matrix names it
            _constant(frame[name], grid, name)
    return design_matrix(frame[list(covariates)].iloc[grid[:, 0]])[0]
