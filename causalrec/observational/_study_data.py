"""The units of a study as arrays, and the models that its methods share."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Number
from pickle import PicklingError
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import (
    check_confidence_level,
    check_covariates,
    check_length,
    check_treatment,
    check_two_arms,
    check_vector,
    check_weights,
)
from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    OutcomeError,
    TreatmentError,
)
from causalrec.nuisance import Nuisances, fit_nuisances
from causalrec.nuisance.folds import check_groups
from causalrec.observational.missing import check_missing, complete_covariates, complete_rows
from causalrec.observational.propensity import as_propensity, fit_propensity
from causalrec.results import PropensityResult

_SMALL = 5 * 10**6  # covariate values


@dataclass(frozen=True, eq=False)
class Route:
    """What a graph leaves beside adjustment: an instrument or a front door.

    Attributes
    ----------
    through : DataFrame of n rows
        Instruments, or mediators.
    X : DataFrame of n rows, or None
        Covariates given which they serve.
    """

    through: pd.DataFrame
    X: pd.DataFrame | None = None

    def take(self, rows: Any) -> Route:
        """The same of some units: a mask, or positions."""
        return Route(self.through.iloc[rows], None if self.X is None else self.X.iloc[rows])


@dataclass(frozen=True, eq=False)
class StudyData:
    """Complete units: covariates, outcome, treatment, and what belongs to them.

    Attributes
    ----------
    X : frame or array of shape (n, p), or None
        Without gaps; text is categories.
    y : array of shape (n,)
    treatment : 0/1 array of shape (n,)
    clusters : int array of shape (n,), or None
    sample_weight : array of shape (n,), or None
    propensity : PropensityResult, or None
        P(treated given X) as given: known by design, or fitted before.
    kept : bool array
        Which of the rows given are units.
    notes : tuple of str
        What was done about missing values, and in short as ``summary``.
    routes : mapping of methods to Route
        What ``"instrumental_variable"`` and ``"front_door"`` go by, where a graph leaves these.
    only : str
        The one method that the graph leaves where no set of columns suffices to adjust for, whose covariates are
        ``X``; else empty.
    why_only : str
        Why, in words, and what is left.
    """

    X: Any
    y: FloatArray
    treatment: IntArray
    clusters: IntArray | None
    sample_weight: FloatArray | None
    propensity: PropensityResult | None
    propensity_model: Any
    confidence_level: float
    random_state: int
    kept: BoolArray
    notes: tuple[str, ...]
    summary: str
    routes: Mapping[str, Route] = field(default_factory=dict)
    only: str = ""
    why_only: str = ""
    _fits: dict[Any, Any] = field(default_factory=dict)

    @property
    def n_obs(self) -> int:
        """Units."""
        return len(self.y)

    @property
    def digest(self) -> int:
        """Of outcome and treatment: an estimate of other units is not taken for one of these."""
        if "digest" not in self._fits:
            self._fits["digest"] = zlib.crc32(self.y.tobytes(), zlib.crc32(self.treatment.tobytes()))
        return int(self._fits["digest"])

    @property
    def small(self) -> bool:
        """Whether threads would only cost."""
        return self.n_obs * (1 if self.X is None else self.X.shape[1]) < _SMALL

    def score(self, model: Any = None, **settings: Any) -> PropensityResult:
        """The propensity: as given, or fitted once for each specification.

        Raises
        ------
        OverlapError
            Where the covariates separate the arms; with the levels that only one arm has.
        """
        if self.propensity is not None:
            return self.propensity
        model = self.propensity_model if model is None else model
        key = ("score", _key(model), *_settings(settings))
        found: PropensityResult = self._once(key, lambda: self._fit_score(model, settings))
        return found

    def _fit_score(self, model: Any, settings: dict[str, Any]) -> PropensityResult:
        return fit_propensity(
            self.X, treatment=self.treatment, model=model, sample_weight=self.sample_weight, groups=self.clusters,
            random_state=self.random_state, **settings,
        )  # fmt: skip

    def nuisance(self, **settings: Any) -> Nuisances:
        """Outcome models and propensity, cross-fitted once for each specification.

        A score that is given serves here if it is known or out of fold; one that has seen its units is fitted anew.
        """
        key = ("nuisance", *_settings(settings))
        given = self.propensity
        known = given.score if given is not None and (given.known or given.cross_fitted) else None
        found: Nuisances = self._once(
            key,
            lambda: fit_nuisances(
                self.X, self.y, treatment=self.treatment, propensity=known, groups=self.clusters,
                sample_weight=self.sample_weight, **{"random_state": self.random_state, **settings},
            ),
        )  # fmt: skip
        return found

    def _once(self, key: Any, fit: Any) -> Any:
        """What was fitted before under a key, or an error that it raised: it would be raised again."""
        if key not in self._fits:
            try:
                self._fits[key] = fit()
            except CausalRecError as error:
                self._fits[key] = error
        found = self._fits[key]
        if isinstance(found, CausalRecError):
            raise found
        return found

    def route(self, method: str) -> Route:
        """What a method goes by, complete.

        Raises
        ------
        CausalRecError
            Where the graph leaves no such way, there is no graph, or values are missing.
        """
        if method not in self.routes:
            what = {"instrumental_variable": "instrument", "front_door": "front door"}.get(method, method)
            where = (
                "needs a graph that has one" if what == "front door" else "needs a graph that has one, or instruments"
            )
            raise CausalRecError(f"the study has no {what}; {method} {where}. study.identify() says what there is.")
        found = self.routes[method]
        if method == self.only:
            found = replace(found, X=self.X)
        parts = [found.through] if found.X is None or method == self.only else [found.through, found.X]
        gaps = {str(c): int(m) for part in parts for c, m in part.isna().sum().items() if m}
        if gaps:
            counted = ", ".join(f"{m:,} of {c}" for c, m in gaps.items())
            raise ColumnError(f"missing values that {method} would need: {counted}. Leave these rows out of the frame.")
        return found

    def with_treatment(self, treatment: IntArray) -> StudyData:
        """The same units under another treatment, with nothing fitted.

        Raises
        ------
        CausalRecError
            For a propensity that was fitted outside, which cannot be fitted anew.
        """
        if self.propensity is not None and not self.propensity.known:
            raise CausalRecError(
                f"propensity is given as fitted ({self.propensity.method}) and cannot be fitted anew for another "
                "treatment; pass propensity_model instead."
            )
        return replace(self, treatment=treatment, _fits={})


def _key(value: Any) -> Any:
    """What a setting is, not where: two models of one class with the same parameters are the same."""
    if isinstance(value, str | int | float | bool | None):
        return value
    try:
        return joblib.hash(value)
    except (PicklingError, TypeError, AttributeError):  # a class of a notebook with a lambda in it, say
        return value


def _settings(settings: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, _key(value)) for name, value in sorted(settings.items()) if value is not None)


def make_study_data(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    clusters: Any = None,
    sample_weight: Any = None,
    propensity: Any = None,
    propensity_model: Any = "logistic",
    missing: str = "error",
    confidence_level: float = 0.95,
    random_state: int = 0,
    outcome: str = "y",
    routes: Mapping[str, Route] | None = None,
    only: str = "",
    why_only: str = "",
) -> StudyData:
    """Check all parts of a study and bring them to arrays; nothing that is given is changed.

    ``outcome`` is what messages call ``y``. Instruments or mediators of the method that is left alone (``only``) must
    be complete like the outcome; those of other routes are looked at when these are asked for.

    Raises
    ------
    ColumnError, TreatmentError, OutcomeError, OverlapError, EmptyTableError, CausalRecError
        With what was found and the remedy.
    """
    level = check_confidence_level(confidence_level)
    check_missing(missing)
    if propensity is not None and not (isinstance(propensity_model, str) and propensity_model == "logistic"):
        raise CausalRecError(
            f"propensity is given together with propensity_model={propensity_model!r}, which only a fit can use; pass "
            "one of them."
        )
    parts = {outcome: y, "treatment": treatment, "clusters": clusters, "sample_weight": sample_weight}
    if not isinstance(propensity, PropensityResult) and np.ndim(propensity) > 0:
        parts["propensity"] = propensity
    ways = dict(routes or {})
    if only:
        parts |= {f"{name} ({only})": column for name, column in ways[only].through.items()}
    columns = {name: _column(values) for name, values in parts.items() if values is not None}
    n = len(columns[outcome])
    for name, column in columns.items():
        check_length(len(column), n, name=name)
    X = None if X is None else _covariates(X, n)
    kept, notes = _complete(X, columns, missing, outcome)
    summary = "".join(notes)
    if X is not None:
        X = X if kept.all() else X[kept]
        X, filled = _filled(X, missing)
        if filled:
            how = "marked" if missing == "indicator" else "imputed"
            notes, summary = filled, f"missing values of {len(filled)} covariate{'s' * (len(filled) > 1)} {how}"
    columns = {name: column if kept.all() else column[kept] for name, column in columns.items()}
    ways = ways if kept.all() else {name: way.take(kept) for name, way in ways.items()}
    codes, labels = check_treatment(columns["treatment"], control=control)
    check_two_arms(labels, what="an average effect")
    n = len(codes)
    return StudyData(
        X=X,
        y=check_vector(columns[outcome], name=outcome),
        treatment=codes,
        clusters=check_groups(columns.get("clusters"), n_rows=n, name="clusters"),
        sample_weight=None if sample_weight is None else check_weights(columns["sample_weight"], n_rows=n),
        propensity=None if propensity is None else _given_score(columns.get("propensity", propensity), kept),
        propensity_model=propensity_model, confidence_level=level, random_state=random_state, kept=kept, notes=notes,
        summary=summary, routes=ways, only=only, why_only=why_only,
    )  # fmt: skip


def _given_score(propensity: Any, kept: BoolArray) -> PropensityResult:
    if isinstance(propensity, PropensityResult) and not kept.all():
        raise CausalRecError(
            f"propensity was fitted on {propensity.n_obs:,} rows, of which missing='drop' leaves {int(kept.sum()):,}; "
            "drop the rows first, and fit it on those that are left."
        )
    return as_propensity(propensity, n_rows=int(kept.sum()))


def _column(values: Any) -> pd.Series:
    """One value a row, with positions as index."""
    if hasattr(values, "to_pandas"):  # Polars, Arrow
        values = values.to_pandas()
    if isinstance(values, pd.DataFrame) and values.shape[1] == 1:
        values = values.iloc[:, 0]
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if isinstance(values, list | tuple):
        return pd.Series(list(values), dtype=object if any(isinstance(v, str) for v in values) else None)
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise CausalRecError(f"a column has shape {array.shape}; expected one dimension, one value per row.")
    return pd.Series(array)


def _covariates(X: Any, n_rows: int) -> Any:
    """A frame with positions as index and text as categories, or an array of numbers."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "c":
        raise ColumnError("X holds complex numbers; expected real ones, text or categories.")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "biuf":
        X = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[-1])]).infer_objects()
    X = check_covariates(X)
    check_length(len(X), n_rows, name="X")
    if not isinstance(X, pd.DataFrame):
        return np.asarray(X, dtype=np.float64)
    X = X.reset_index(drop=True)
    text = _text_columns(X)
    if text:
        X = X.copy(deep=False)
        for column in text:
            X[column] = _as_categories(X[column])
    return X


def _text_columns(X: pd.DataFrame) -> list[Any]:
    api = pd.api.types
    return [c for c, t in X.dtypes.items() if t == object or api.is_string_dtype(t)]  # noqa: E721


def _as_categories(column: pd.Series) -> pd.Series:
    """Text as categories; numbers that came as objects, as from databases, as numbers."""
    seen = column.notna()
    if column.dtype == object and all(isinstance(value, Number | np.bool_) for value in column[seen]):
        return column.where(seen, np.nan).astype(np.float64)
    return column.astype(str).where(seen).astype("category")


def _complete(X: Any, columns: dict[str, pd.Series], missing: str, outcome: str) -> tuple[BoolArray, tuple[str, ...]]:
    """Which rows are kept, and how many are not."""
    table = pd.DataFrame(columns)
    n = len(table)
    if missing != "drop":
        gaps = {c: int(m) for c, m in table.isna().sum().items() if m}
        if gaps:
            first: Any = next(iter(gaps))
            kinds: dict[Any, type[CausalRecError]] = {outcome: OutcomeError, "treatment": TreatmentError}
            counted = ", ".join(f"{m:,} of {c}" for c, m in gaps.items())
            raise kinds.get(first, CausalRecError)(
                f"missing values in {n:,} rows: {counted}. These are never filled: pass missing='drop' to leave the "
                "rows out, which is right where they are missing at random, or drop them yourself."
            )
        return np.ones(n, dtype=bool), ()
    kept = complete_rows(table)
    if X is not None:
        kept &= complete_rows(X) if isinstance(X, pd.DataFrame) else ~np.isnan(X).any(axis=1)
    left = int((~kept).sum())
    if left == n:
        raise EmptyTableError(
            f"missing='drop' leaves none of {n:,} rows: each has some missing value. Drop columns first."
        )
    return kept, (f"{left:,} of {n:,} rows with missing values left out",) if left else ()


def _filled(X: Any, missing: str) -> tuple[Any, tuple[str, ...]]:
    if not isinstance(X, pd.DataFrame):
        if not np.isnan(X).any():
            return X, ()
        X = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    filled, _, notes = complete_covariates(X, list(X.columns), missing=missing)
    return filled, notes
