"""Checks by name. Each returns the clean value or raises an error that says what to do."""

from __future__ import annotations

import difflib
import importlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Number
from types import ModuleType
from typing import Any, Self

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
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


def check_columns(found: Iterable[object], required: Iterable[object], *, where: str) -> None:
    """Raise :class:`ColumnError` naming the columns of ``required`` absent from ``found``, or names used twice."""
    have = [str(c) for c in found]
    known = set(have)
    if len(known) < len(have):
        doubled = sorted(c for c, times in Counter(have).items() if times > 1)
        raise ColumnError(f"{where}: column names appear twice: {list_some(doubled)}. Rename or drop one of each.")
    missing = [c for c in dict.fromkeys(map(str, required)) if c not in known]
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

    Numbers and booleans are taken as they are; text, even of digits, and times are not numbers. Raises
    :class:`OutcomeError` for those, and with the count of missing or infinite values.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise CausalRecError(f"{name} has shape {array.shape}; expected one dimension, one value per row.")
    if n_rows is not None:
        check_length(len(array), n_rows, name=name)
    vector = _as_floats(array, name=name)
    n_bad = len(vector) - int(np.count_nonzero(np.isfinite(vector)))
    if n_bad:
        raise OutcomeError(
            f"{name}: {n_bad} of {len(vector)} values are missing or infinite. "
            "Drop those rows or fill them in a way that you can defend; causalrec does not guess."
        )
    return vector


def _as_floats(array: AnyArray, *, name: str) -> FloatArray:
    if array.dtype.kind == "O":
        absent = np.asarray(pd.isna(array), dtype=bool)
        strange = next((v for v in array[~absent] if not isinstance(v, Number | np.bool_)), None)
        if strange is None:
            array = np.where(absent, np.nan, array)
    else:
        strange = array[0] if len(array) and array.dtype.kind not in "biuf" else None
    if strange is not None:
        raise OutcomeError(
            f"{name} holds {strange!r} ({type(strange).__name__}), which is not a number; expected numbers or "
            "booleans. Convert it first."
        )
    return array.astype(np.float64)


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
    plain = _zeros_and_ones(treatment) if control is None else None
    if plain is not None and n_rows in (None, len(plain)):
        return plain, (0, 1)
    values = _as_series(treatment)
    if n_rows is not None:
        check_length(len(values), n_rows, name="treatment")
    n_missing = int(values.isna().sum())
    if n_missing:
        raise TreatmentError(f"treatment: {n_missing} of {len(values)} values are missing. Drop those rows first.")
    found, uniques = pd.factorize(values)
    arms = sorted(uniques, key=_arm_order)
    if len(arms) < 2:
        only = f"only {arms[0]!r} in {len(values)} rows" if arms else "no rows"
        raise TreatmentError(f"treatment: found {only}; an effect needs two arms. Check the filter or the split.")
    if control is None:
        if not set(arms) <= {0, 1}:
            raise TreatmentError(
                f"treatment: found the values {list_some(arms)}; expected 0/1, or labels together with control=. "
                f"Pass control={arms[0]!r}, say, if that is the arm to compare with."
            )
        labels: tuple[Any, ...] = (0, 1)
    elif control in arms:
        labels = tuple(sorted(arms, key=lambda arm: arm != control))  # stable: control first, the others in order
    else:
        raise TreatmentError(
            f"control={control!r} is not among the arms {list_some(arms)}.{_control_hint(control, arms)}"
        )
    place = {arm: code for code, arm in enumerate(labels)}
    return np.array([place[arm] for arm in uniques], dtype=np.int64)[found], labels


def _zeros_and_ones(treatment: Any) -> IntArray | None:
    """The codes of an array or series of plain numbers that are 0 and 1 and nothing else: the usual case, at once."""
    dtype = getattr(treatment, "dtype", None)
    if not isinstance(treatment, np.ndarray | pd.Series) or not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
        return None
    values = np.asarray(treatment)
    if values.ndim != 1 or len(values) == 0 or values.min() != 0 or values.max() != 1:
        return None
    if dtype.kind == "f" and not ((values == 0) | (values == 1)).all():
        return None
    return values.astype(np.int64)


def _as_series(treatment: Any) -> pd.Series:
    if isinstance(treatment, pd.Series | pd.Categorical):
        return pd.Series(treatment)
    if isinstance(treatment, list | tuple):
        # Element by element: numpy would turn [1, "a"] into text and pairs into a matrix.
        column = np.empty(len(treatment), dtype=object)
        column[:] = [arm.item() if isinstance(arm, np.generic) else arm for arm in treatment]
        return pd.Series(column)
    array = np.asarray(treatment)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise TreatmentError(f"treatment has shape {array.shape}; expected one dimension, one value per row.")
    return pd.Series(array)


def _arm_order(arm: Hashable) -> tuple[str, Any]:
    """Numbers before text, each in its own order; anything else by how it is written."""
    if isinstance(arm, int | float | np.integer | np.floating | np.bool_):
        return ("", float(arm))
    return (type(arm).__name__, arm if isinstance(arm, str) else repr(arm))


def _control_hint(control: object, arms: Sequence[object]) -> str:
    same = [arm for arm in arms if str(arm) == str(control)]
    if same:
        return f" That arm is of type {type(same[0]).__name__}, not {type(control).__name__}: pass control={same[0]!r}."
    return nearest(str(control), map(str, arms)) or " Pass one of them as control."


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
            raise CausalRecError(
                f"X has shape {X.shape}; expected two dimensions, (n_rows, n_covariates). Reshape your data: "
                "X.reshape(-1, 1) if it is one covariate."
            )
    check_not_empty(X.shape[0], where="X")
    if X.shape[1] == 0:
        raise ColumnError("X has no columns; pass at least one covariate.")
    return X


@dataclass(frozen=True)
class CovariateForm:
    """The columns that a model was fitted on, to bring later covariates into the same form."""

    n_columns: int
    columns: tuple[Any, ...] | None
    categories: dict[Any, pd.CategoricalDtype] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Any) -> Self:
        """The form of covariates that :func:`check_covariates` returned."""
        if not isinstance(X, pd.DataFrame):
            return cls(X.shape[1], None)
        kinds = {c: t for c, t in X.dtypes.items() if isinstance(t, pd.CategoricalDtype)}
        return cls(X.shape[1], tuple(X.columns), kinds)

    @property
    def names(self) -> AnyArray | None:
        """scikit-learn's ``feature_names_in_``: only where every name is a string."""
        if self.columns is None or not all(isinstance(c, str) for c in self.columns):
            return None
        return np.array(self.columns, dtype=object)

    def apply(self, X: Any) -> Any:
        """Covariates with the columns and the category codes of ``fit``; a frame's columns may come in any order.

        Raises
        ------
        ColumnError
            For a missing column, another number of columns, an array where names are needed, or a category that
            ``fit`` did not see.
        """
        X = check_covariates(X)
        if self.columns is not None:
            if not isinstance(X, pd.DataFrame):
                raise ColumnError(
                    f"X at predict is an array, but the model was fitted on a frame with the columns "
                    f"{list_some(self.columns)}. Pass a frame with these names, so that none can be mixed up."
                )
            check_columns(X.columns, self.columns, where="X at predict")
            X = X[list(self.columns)]
            return (
                X.assign(**{c: _recoded(X[c], kind) for c, kind in self.categories.items()}) if self.categories else X
            )
        if X.shape[1] != self.n_columns:
            raise ColumnError(
                f"X at predict has {X.shape[1]} columns; the model was fitted on {self.n_columns}. Pass the same ones."
            )
        return X.to_numpy() if isinstance(X, pd.DataFrame) else X


def _recoded(values: pd.Series, kind: pd.CategoricalDtype) -> pd.Series:
    unknown = values[values.notna() & ~values.isin(kind.categories)].unique()
    if len(unknown):
        raise ColumnError(
            f"X at predict: column {values.name!r} holds categories that the model was not fitted on: "
            f"{list_some(unknown)}; it knows {list_some(kind.categories)}. Map them to a known one, or to missing."
        )
    # Not astype: it leaves the codes alone where the categories differ in their order only.
    codes = kind.categories.get_indexer(pd.Index(values))
    return pd.Series(pd.Categorical.from_codes(codes, dtype=kind), index=values.index)


def check_model_columns(X: Any, *, model: str) -> None:
    """Raise :class:`ColumnError` for columns that are not numbers, booleans or categories: XGBoost cannot read them."""
    if not isinstance(X, pd.DataFrame):
        return
    api = pd.api.types
    strange = [
        c for c, t in X.dtypes.items()
        if not (api.is_numeric_dtype(t) or api.is_bool_dtype(t) or isinstance(t, pd.CategoricalDtype))
    ]  # fmt: skip
    if strange:
        raise ColumnError(
            f"X: column{'s' * (len(strange) > 1)} {list_some(strange)} of type {X[strange[0]].dtype}; {model} takes "
            f"numbers, booleans and categories. Convert text with X[{strange[0]!r}].astype('category')."
        )


def optional_import(module: str, *, extra: str) -> ModuleType:
    """Import a heavy package inside the function that needs it, or name the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:  # the package is there, something that it needs is not
            raise
        raise MissingExtraError(
            f"{module} is not installed; it is needed here. Install it with: pip install 'causalrec[{extra}]'"
        ) from error
