"""Predicted effects and costs of several arms, in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec._validation import check_length, check_not_empty, check_vector, list_some
from causalrec.exceptions import CausalRecError, TreatmentError


def effect_table(
    uplift: Any, known: Sequence[Any] | None, *, n_rows: int | None = None
) -> tuple[FloatArray, list[Any]]:
    """Predicted effects as a table of shape (n, m), and the arms of its columns.

    Parameters
    ----------
    uplift : array of shape (n,) or (n, m), data frame, or mapping of arms to arrays of shape (n,)
        A frame or mapping may leave arms out: these are never given.
    known : sequence of arms, optional
        Those other than control, in the order of an array's columns. None: a frame's columns or a mapping's keys, else
        1..m.

    Raises
    ------
    TreatmentError
        For unknown arms.
    CausalRecError
        For another shape, and missing or infinite values.
    """
    uplift = as_pandas(uplift)
    if isinstance(uplift, pd.DataFrame | Mapping):
        arms = list(uplift)
        strange = [] if known is None else [arm for arm in arms if arm not in known]
        if strange or not arms:
            raise TreatmentError(
                f"uplift has columns {list_some(arms)}; expected arms other than control: {list_some(known or [])}."
            )
        n = len(np.ravel(uplift[arms[0]])) if n_rows is None else n_rows
        table = np.column_stack([check_vector(uplift[arm], name=f"uplift of {arm!r}", n_rows=n) for arm in arms])
    else:
        table = _numbers(uplift, "uplift")
        table = table[:, None] if table.ndim == 1 else table
        arms = list(range(1, table.shape[-1] + 1)) if known is None else list(known)
        if table.ndim != 2 or table.shape[1] != len(arms):
            raise CausalRecError(
                f"uplift has shape {np.shape(uplift)}; expected a column for each of the {len(arms)} arms "
                f"{list_some(arms)}, or a frame with columns named by arms."
            )
    check_not_empty(len(table), where="uplift")
    if n_rows is not None:
        check_length(len(table), n_rows, name="uplift")
    bad = int((~np.isfinite(table)).any(axis=1).sum())
    if bad:
        raise CausalRecError(f"uplift is missing or infinite in {bad} of {len(table)} rows; score every row.")
    return table, arms


def cost_table(cost: Any, arms: Sequence[Any], *, n_rows: int, free: bool = False, name: str = "cost") -> FloatArray:
    """What each arm costs in each row more than control does, shape (n, m).

    Parameters
    ----------
    cost : float, mapping of arms to floats or arrays of shape (n,), data frame, array of shape (m,), (n,) or (n, m)
        An array of shape (n,) is for one arm.
    arms : the m arms
    free : bool
        Whether a cost of zero is allowed.

    Raises
    ------
    CausalRecError
        For missing arms, another shape, missing values, and costs that are not above zero.
    """
    m, cost = len(arms), as_pandas(cost)
    if isinstance(cost, pd.DataFrame | Mapping):
        missing = [arm for arm in arms if arm not in cost]
        if missing:
            raise CausalRecError(f"{name} names {list_some(cost)}; expected one for each of {list_some(arms)}.")
        table = np.column_stack([_column(cost[arm], n_rows, name) for arm in arms])
    else:
        values = _numbers(cost, name)
        if m == 1 and values.shape == (n_rows,):
            values = values[:, None]
        if values.shape not in ((), (m,), (n_rows, m)):
            raise CausalRecError(
                f"{name} has shape {values.shape}; expected one number, {{arm: number}}, or an array of shape ({m},) "
                f"or ({n_rows}, {m}) for the arms {list_some(arms)}."
            )
        table = np.broadcast_to(values, (n_rows, m))
    good = np.isfinite(table) & ((table >= 0) if free else (table > 0))
    if not good.all():
        bad = table[~good]
        raise CausalRecError(
            f"{name}: {bad.size} of {table.size} values are {'below zero' if free else 'not above zero'} or missing, "
            f"such as {bad[0]:g}. Give what an arm costs more than control; "
            + ("leave out what pays for itself." if free else "an arm that costs nothing needs no budget.")
        )
    return table


def value_column(value: Any, *, n_rows: int) -> FloatArray:
    """What a unit of outcome is worth in each row, shape (n,).

    Raises
    ------
    CausalRecError
        For values that are not above zero, or missing.
    """
    column = _column(value, n_rows, "value")
    if not (np.isfinite(column) & (column > 0)).all():
        raise CausalRecError("value has entries that are not above zero; expected what a unit of outcome is worth.")
    return column


def check_amount(amount: Any, *, name: str) -> float:
    """Return a number of 0 or more."""
    if not isinstance(amount, Number) or not 0 <= float(amount) < np.inf:  # type: ignore[arg-type]
        raise CausalRecError(f"{name} is {amount!r}; expected a number of 0 or more.")
    return float(amount)  # type: ignore[arg-type]


def check_worth(value: Any) -> float:
    """Return what a unit of outcome is worth, a number above 0."""
    if not isinstance(value, Number) or not 0 < float(value) < np.inf:  # type: ignore[arg-type]
        raise CausalRecError(f"value is {value!r}; expected a number above 0, what a unit of outcome is worth.")
    return float(value)  # type: ignore[arg-type]


def as_pandas(frame: Any) -> Any:
    """Frames of Polars as those of pandas, so that columns go by name."""
    return frame.to_pandas() if hasattr(frame, "to_pandas") else frame


def _numbers(values: Any, name: str) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CausalRecError(f"{name} does not hold numbers in rows and columns ({error}).") from error


def _column(values: Any, n_rows: int, name: str) -> FloatArray:
    if np.ndim(values) == 0:
        return np.full(n_rows, float(_numbers(values, name)))
    return check_vector(values, name=name, n_rows=n_rows)
