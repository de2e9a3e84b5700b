"""Checks by name. Each returns the clean value or raises an error that says what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    MissingExtraError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)

_SHOWN = 8


def list_some(values: Iterable[object], limit: int = _SHOWN) -> str:
    """Write the first few values for a message, and say how many are left out."""
    shown = [repr(v) if isinstance(v, str) else str(v) for v in values]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to ``name``, else ``""``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def check_columns(found: Iterable[object], required: Iterable[str], *, where: str) -> None:
    """Raise :class:`ColumnError` naming the columns of ``required`` absent from ``found``."""
    have = [str(c) for c in found]
    doubled = sorted({c for c in have if have.count(c) > 1}) if len(set(have)) < len(have) else []
    if doubled:
        raise ColumnError(f"{where}: column names appear twice: {list_some(doubled)}. Rename or drop one of each.")
    missing = [c for c in dict.fromkeys(required) if c not in set(have)]
    if missing:
        raise ColumnError(
            f"{where}: missing column{'s' * (len(missing) > 1)} {list_some(missing)}; found {list_some(have, 20)}."
            f"{nearest(missing[0], have)}"
        )


def check_not_empty(n_rows: int, *, where: str) -> None:
    """Raise :class:`EmptyTableError` when there are no rows."""
    if n_rows == 0:
        raise EmptyTableError(f"{where}: the table has 0 rows; at least one is needed. Check the path and the filters.")


def check_confidence_level(confidence_level: float) -> float:
    """Return the level if it lies strictly between 0 and 1."""
    if not 0.0 < float(confidence_level) < 1.0:
        raise CausalRecError(f"confidence_level is {confidence_level}; expected a number in (0, 1), such as 0.95.")
    return float(confidence_level)


def check_alternative(alternative: str) -> str:
    """Return one of scipy's names ``two-sided``, ``greater``, ``less``."""
    known = ("two-sided", "greater", "less")
    if alternative not in known:
        raise CausalRecError(f"alternative is {alternative!r}; expected one of {list_some(known)}.")
    return alternative


def check_length(n_found: int, n_expected: int, *, name: str) -> None:
    """Raise when a vector does not have one value per row."""
    if n_found != n_expected:
        raise CausalRecError(f"{name} has {n_found} values but there are {n_expected} rows; pass one value per row.")


def check_vector(values: Any, *, name: str, n_rows: int | None = None) -> FloatArray:
    """Return a finite float vector of shape (n,).

    Raises :class:`OutcomeError` with the count of missing or infinite values.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise CausalRecError(f"{name} has shape {array.shape}; expected one dimension, one value per row.")
    if n_rows is not None:
        check_length(len(array), n_rows, name=name)
    try:
        vector = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise OutcomeError(
            f"{name} holds values that are not numbers ({error}). Convert it to a number first."
        ) from error
    n_bad = int(len(vector) - np.isfinite(vector).sum())
    if n_bad:
        raise OutcomeError(
            f"{name}: {n_bad} of {len(vector)} values are missing or infinite. "
            "Drop those rows or fill them in a way that you can defend; causalrec does not guess."
        )
    return vector


def check_weights(sample_weight: Any, *, n_rows: int) -> FloatArray:
    """Return non-negative weights of shape (n,), all ones for ``None``."""
    if sample_weight is None:
        return np.ones(n_rows)
    weights = check_vector(sample_weight, name="sample_weight", n_rows=n_rows)
    if (weights < 0).any():
        raise CausalRecError(f"sample_weight has {int((weights < 0).sum())} negative values; weights must be >= 0.")
    if not weights.any():
        raise CausalRecError("sample_weight is zero in every row; at least one weight must be positive.")
    return weights


def check_propensity(propensity: Any, *, n_rows: int) -> FloatArray:
    """Return P(treated given X) of shape (n,) strictly inside (0, 1); a scalar is repeated."""
    vector = np.full(n_rows, float(propensity)) if np.ndim(propensity) == 0 else None
    if vector is None:
        vector = check_vector(propensity, name="propensity", n_rows=n_rows)
    n_bad = int(((vector <= 0) | (vector >= 1) | np.isnan(vector)).sum())
    if n_bad:
        raise OverlapError(
            f"propensity: {n_bad} of {n_rows} values are not strictly between 0 and 1. A unit that is certain to be "
            "(un)treated has no comparison; drop those rows and say so, or pass the design's true probability."
        )
    return vector


def check_treatment(
    treatment: Any, *, n_rows: int | None = None, control: object = None
) -> tuple[IntArray, tuple[Any, ...]]:
    """Code a treatment as 0..k-1, control first.

    Parameters
    ----------
    treatment : array-like of shape (n,)
        0/1 (ints, floats or booleans), or labels of two or more arms with ``control`` naming one of them.
    n_rows : int, optional
        Expected length.
    control : label, optional
        The arm that effects are measured against. Needed unless the values are 0/1.

    Returns
    -------
    codes : int array of shape (n,), 0 is the control arm
    labels : the arm labels, ``labels[codes[i]]`` is row i's arm

    Raises
    ------
    TreatmentError
        On missing values, one arm only, an unknown control, or labels without a control.
    """
    values = pd.Series(np.asarray(treatment, dtype=object) if isinstance(treatment, list | tuple) else treatment)
    if n_rows is not None:
        check_length(len(values), n_rows, name="treatment")
    n_missing = int(values.isna().sum())
    if n_missing:
        raise TreatmentError(f"treatment: {n_missing} of {len(values)} values are missing. Drop those rows first.")
    arms = sorted(values.unique().tolist(), key=lambda a: (str(type(a)), a))
    if len(arms) < 2:
        only = f"only {arms[0]!r} in {len(values)} rows" if arms else "no rows"
        raise TreatmentError(f"treatment: found {only}; an effect needs two arms. Check the filter or the split.")
    if control is None:
        if not set(arms) <= {0, 1}:
            raise TreatmentError(
                f"treatment: found the values {list_some(arms)}; expected 0/1, or labels together with control=. "
                f"Pass control={arms[0]!r}, say, if that is the arm to compare with."
            )
        return values.astype(np.float64).to_numpy().astype(np.int64), (0, 1)
    if control not in arms:
        hint = nearest(str(control), [str(a) for a in arms])
        raise TreatmentError(f"control={control!r} is not among the arms {list_some(arms)}.{hint}")
    labels = (control, *[a for a in arms if a != control])
    codes = pd.Categorical(values, categories=list(labels)).codes
    return np.asarray(codes, dtype=np.int64), labels


def check_two_arms(labels: Sequence[object], *, what: str) -> None:
    """Raise :class:`TreatmentError` where a method compares exactly two arms."""
    if len(labels) != 2:
        raise TreatmentError(
            f"{what} compares two arms; found {len(labels)}: {list_some(labels)}. Keep the control and one other arm."
        )


def check_covariates(X: Any) -> Any:
    """Return a frame untouched, or a 2-D array, with at least one row and column.

    Polars frames become pandas frames, so that names and categories survive.
    """
    if not isinstance(X, pd.DataFrame) and hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, pd.DataFrame):
        check_columns(X.columns, [], where="X")
    else:
        X = np.asarray(X)
        if X.ndim != 2:
            raise CausalRecError(f"X has shape {X.shape}; expected two dimensions, (n_rows, n_covariates).")
    check_not_empty(X.shape[0], where="X")
    if X.shape[1] == 0:
        raise ColumnError("X has no columns; pass at least one covariate.")
    return X


def optional_import(module: str, *, extra: str) -> ModuleType:
    """Import a heavy package inside the function that needs it, or name the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.split(".")[0]):
            raise
        raise MissingExtraError(
            f"{module} is not installed; it is needed here. Install it with: pip install 'causalrec[{extra}]'"
        ) from error
