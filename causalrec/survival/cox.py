"""Cox's proportional hazards by lifelines: hazard ratios of arms, robust errors, and whether they hold at all times."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import (
    check_columns,
    check_confidence_level,
    check_length,
    check_vector,
    list_some,
    optional_import,
)
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.results.base import NAN
from causalrec.results.survival import CoxResult, HazardRatioResult
from causalrec.survival.lifetimes import Lifetimes, check_lifetimes
from causalrec.survival.sandwich import influences, robust_errors
from causalrec.survival.tables import RiskTable

_DURATION, _EVENT, _ENTRY, _WEIGHT = "_duration", "_event", "_entry", "_weight"
_ROUNDING = 1e-8
_NO_ENTRY = "not tested: lifelines has no residuals with late entries"
_SCHOENFELD = "Grambsch and Therneau, against 1 - Kaplan-Meier"


def cox_effect(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any,
    control: object = None,
    covariates: Any = None,
    strata: Any = None,
    clusters: Any = None,
    entry: Any = None,
    weights: Any = None,
    robust: bool = True,
    proportional_hazards: bool = True,
    confidence_level: float = 0.95,
) -> CoxResult:
    """Estimate how much faster each arm leaves than control, at all times alike: hazard ratios by Cox's model.

    Needs the extra ``survival`` (lifelines). Ties are Efron's.

    Parameters
    ----------
    durations, event_observed : array-like of shape (n,)
        As of :func:`kaplan_meier`.
    treatment : array-like of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    covariates : DataFrame of shape (n, k), optional
        Measured before the start; numbers and booleans, text and categories as a column per level but the first.
    strata : array-like of shape (n,) or DataFrame, optional
        Each with a baseline hazard of its own.
    clusters : array-like of shape (n,), optional
        Rows of one user: errors are robust to their dependence.
    entry : array-like of shape (n,), optional
        When each came under observation.
    weights : array-like of shape (n,), optional
        Positive; of any kind with ``robust``, else counts. Results count rows as units all the same.
    robust : bool
        Sandwich standard errors (Lin and Wei 1989), right also where the ratio is not the same at all times; always so
        with ``clusters``.
    proportional_hazards : bool
        Test that it is the same: Schoenfeld residuals against 1 - S(t), as R's ``cox.zph`` did before survival 3.0;
        not with late entries. It takes most of the time.
    confidence_level : float

    Returns
    -------
    CoxResult
        A :class:`HazardRatioResult` per arm against control, and every coefficient.

    Raises
    ------
    OutcomeError, TreatmentError, CausalRecError
        As of :func:`kaplan_meier`; where the model does not converge: a covariate that separates events, or columns
        that repeat each other.
    MissingExtraError
        Without lifelines.

    Notes
    -----
    Cox (1972), JRSS B 34; Lin and Wei (1989), JASA 84; Grambsch and Therneau (1994), Biometrika 81. A hazard ratio
    compares those still there, who differ between arms once some have left; for "how much longer do they stay" see
    :func:`rmst_difference`.

    Examples
    --------
    >>> result = cox_effect([2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1],
    ...                     treatment=["new"] * 5 + ["old"] * 5, control="old")
    >>> round(result["new"].hazard_ratio, 3), round(result["new"].estimate, 3)
    (0.633, -0.457)
    """
    level = check_confidence_level(confidence_level)
    n_rows = len(np.asarray(durations))
    free = None if weights is None else _check_weights(weights, n_rows, robust or clusters is not None)
    lifetimes = check_lifetimes(durations, event_observed, treatment=treatment, control=control, entry=entry)
    layout = _Layout(lifetimes, covariates, strata, clusters, free)
    model = layout.fit()
    test, how = _proportionality(layout, model, proportional_hazards)
    return _result(layout, model, test, how, level, robust)


class _Layout:
    """The table that lifelines takes, and the names of its columns."""

    def __init__(self, lifetimes: Lifetimes, covariates: Any, strata: Any, clusters: Any, weights: Any) -> None:
        n_rows = len(lifetimes.durations)
        self.lifetimes = lifetimes
        self.arms = [f"{arm} against {lifetimes.arms[0]}" for arm in lifetimes.arms[1:]]
        columns: dict[str, Any] = {_DURATION: lifetimes.durations, _EVENT: lifetimes.observed.astype(np.int64)}
        dummies = {name: (lifetimes.codes == k + 1).astype(np.float64) for k, name in enumerate(self.arms)}
        others = _numbers(covariates, n_rows)
        layers = _codes(strata, n_rows, "strata")
        self.terms = [*dummies, *others]
        check_columns(self.terms, [], where="covariates")
        self.strata = [f"_stratum_{k}" for k in range(len(layers))]
        self.options: dict[str, Any] = {"strata": self.strata} if self.strata else {}
        columns |= dummies | others | dict(zip(self.strata, layers, strict=True))
        self.late = bool(np.isfinite(lifetimes.entry).any())
        if self.late:
            columns[_ENTRY] = np.where(np.isfinite(lifetimes.entry), lifetimes.entry, 0.0)
            self.options["entry_col"] = _ENTRY
        if weights is not None:
            columns[_WEIGHT] = weights
            self.options["weights_col"] = _WEIGHT
        self.clusters: IntArray | None = None
        self.n_clusters = n_rows
        if clusters is not None:
            [self.clusters] = _codes(clusters, n_rows, "clusters")
            self.n_clusters = len(np.unique(self.clusters))
        self.frame = pd.DataFrame(columns)

    def fit(self) -> Any:
        """The fitted model, with its own errors."""
        lifelines = optional_import("lifelines", extra="survival")
        try:
            with _quiet():
                return lifelines.CoxPHFitter().fit(
                    self.frame, duration_col=_DURATION, event_col=_EVENT, **self.options
                )  # fmt: skip
        except (lifelines.exceptions.ConvergenceError, lifelines.exceptions.ConvergenceWarning) as error:
            raise CausalRecError(
                f"Cox's model does not converge with {list_some(self.terms)}: a column without variation among events, "
                "one that separates those who leave from those who stay, or columns that repeat each other. Drop it."
            ) from error

    def robust_errors(self, model: Any) -> FloatArray:
        """Those of :mod:`causalrec.survival.sandwich`."""
        frame, terms = self.frame, self.terms
        moved = influences(
            (frame[terms] - frame[terms].mean()).to_numpy(dtype=np.float64),
            model.params_.reindex(terms).to_numpy(dtype=np.float64),
            model.variance_matrix_.loc[terms, terms].to_numpy(dtype=np.float64),
            durations=self.lifetimes.durations, observed=self.lifetimes.observed, entry=self.lifetimes.entry,
            weights=frame[_WEIGHT].to_numpy(dtype=np.float64) if _WEIGHT in frame else np.ones(len(frame)),
            strata=frame.groupby(self.strata).ngroup().to_numpy() if self.strata else np.zeros(len(frame)),
        )  # fmt: skip
        return robust_errors(moved, self.clusters)


@contextmanager
def _quiet() -> Iterator[None]:
    """Mute a library that uses what pandas 4 drops, and changes how numpy reports; doubts about a fit are errors."""
    exceptions = optional_import("lifelines.exceptions", extra="survival")
    with warnings.catch_warnings(), np.errstate():
        warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
        warnings.simplefilter("ignore", exceptions.StatisticalWarning)  # of weights that are not integers
        warnings.simplefilter("error", exceptions.ConvergenceWarning)
        yield


def _check_weights(weights: Any, n_rows: int, robust: bool) -> FloatArray:
    values = check_vector(weights, name="weights", n_rows=n_rows)
    if (values <= 0).any():
        raise CausalRecError(f"weights: {int((values <= 0).sum())} of {n_rows} are not positive. Drop those rows.")
    if not robust and (values != np.floor(values)).any():
        raise CausalRecError("weights that are not counts need robust standard errors: pass robust=True.")
    return values


def _codes(values: Any, n_rows: int, name: str) -> list[Any]:
    if values is None:
        return []
    frame = values if isinstance(values, pd.DataFrame) else pd.Series(np.asarray(values)).to_frame()
    check_length(len(frame), n_rows, name=name)
    found = [pd.factorize(frame.iloc[:, k])[0] for k in range(frame.shape[1])]
    missing = sum(int((codes < 0).sum()) for codes in found)
    if missing:
        raise CausalRecError(f"{name}: {missing} values are missing. Name them or drop those rows.")
    return found


def _numbers(covariates: Any, n_rows: int) -> dict[str, FloatArray]:
    if covariates is None:
        return {}
    if not isinstance(covariates, pd.DataFrame):
        raise ColumnError(f"covariates is a {type(covariates).__name__}; expected a DataFrame with named columns.")
    check_length(len(covariates), n_rows, name="covariates")
    check_columns(covariates.columns, [], where="covariates")
    found: dict[str, FloatArray] = {}
    for name in covariates.columns:
        column = covariates[name]
        if pd.api.types.is_numeric_dtype(column.dtype):
            found[str(name)] = check_vector(column, name=str(name))
            continue
        if column.isna().any():
            raise ColumnError(f"covariates: {int(column.isna().sum())} values of {name!r} are missing. Name them.")
        levels = pd.get_dummies(column, prefix=str(name), prefix_sep=" = ", drop_first=True, dtype=float)
        found |= {str(level): levels[level].to_numpy() for level in levels.columns}
    return found


def _proportionality(layout: _Layout, model: Any, asked: bool) -> tuple[pd.DataFrame | None, str]:
    if not asked or layout.late:
        return None, _NO_ENTRY if asked else "not asked for"
    statistics = optional_import("lifelines.statistics", extra="survival")
    with _quiet():
        found = statistics.proportional_hazard_test(model, layout.frame, time_transform=_share_left)
    return found.summary, _SCHOENFELD


def _share_left(durations: Any, events: Any, weights: Any) -> pd.Series:
    """1 - S just before each time, of all arms together."""
    times = np.asarray(durations, dtype=np.float64)
    n_rows = len(times)
    seen, counts = np.asarray(events, dtype=bool), np.asarray(weights, dtype=np.float64)
    none = np.full(n_rows, -np.inf)
    table = RiskTable.of(Lifetimes(times, seen, none, counts, np.zeros(n_rows, dtype=np.int64), ("all",)))
    before = np.append(1.0, table.survival)[table.rows_before(times, strictly=True)]
    return pd.Series(1 - before, index=durations.index)


def _result(
    layout: _Layout, model: Any, test: pd.DataFrame | None, how: str, level: float, robust: bool
) -> CoxResult:  # fmt: skip
    estimate = model.params_.reindex(layout.terms).to_numpy(dtype=np.float64)
    robust = robust or layout.clusters is not None
    error = model.standard_errors_.reindex(layout.terms).to_numpy(dtype=np.float64)
    if robust:  # NaN where no unit moves the estimate, as where all leave at one time
        moved = layout.robust_errors(model)
        error = np.where(moved > _ROUNDING * error, moved, NAN)
    z = stats.norm.isf((1 - level) / 2)
    low, high = estimate - z * error, estimate + z * error
    pvalue = 2 * stats.norm.sf(np.abs(estimate / error))
    ours = pd.DataFrame(NAN, index=layout.terms, columns=["test_statistic", "p"]) if test is None else test
    statistic, doubt = (ours[c].reindex(layout.terms).to_numpy(dtype=np.float64) for c in ("test_statistic", "p"))
    method = _method(layout, robust)
    times = layout.lifetimes
    with np.errstate(over="ignore"):
        ratio, ratio_low, ratio_high = np.exp(estimate), np.exp(low), np.exp(high)
    effects = tuple(
        HazardRatioResult(
            estimate=float(estimate[k]), std_error=float(error[k]), ci_low=float(low[k]), ci_high=float(high[k]),
            pvalue=float(pvalue[k]), confidence_level=level, n_obs=len(layout.frame), method=method,
            estimand="log hazard ratio", control=times.arms[0], treatment=times.arms[k + 1],
            hazard_ratio=float(ratio[k]), hazard_ratio_low=float(ratio_low[k]), hazard_ratio_high=float(ratio_high[k]),
            n_events=times.n_events, proportional_statistic=float(statistic[k]), proportional_pvalue=float(doubt[k]),
        )
        for k in range(len(layout.arms))
    )  # fmt: skip
    try:
        with _quiet():
            concordance = float(model.concordance_index_)
    except ZeroDivisionError:  # no two units left at different times
        concordance = NAN
    return CoxResult(
        n_obs=len(layout.frame), n_events=times.n_events, n_clusters=layout.n_clusters, n_strata=_n_strata(layout),
        log_likelihood=float(model.log_likelihood_), concordance=concordance, confidence_level=level, method=method,
        proportional_method=how, effects=effects, term=np.array(layout.terms), estimate=estimate, std_error=error,
        ci_low=low, ci_high=high, pvalue=pvalue, proportional_statistic=statistic, proportional_pvalue=doubt,
    )  # fmt: skip


def _n_strata(layout: _Layout) -> int:
    return len(layout.frame[layout.strata].drop_duplicates()) if layout.strata else 1


def _method(layout: _Layout, robust: bool) -> str:
    errors = "cluster-robust" if layout.clusters is not None else "robust" if robust else "model-based"
    parts: Sequence[str] = [
        "Cox, Efron ties",
        f"{errors} errors",
        *[f"{len(layout.terms) - len(layout.arms)} covariate columns"] * (len(layout.terms) > len(layout.arms)),
        *[f"{_n_strata(layout)} strata"] * bool(layout.strata),
    ]
    return ", ".join(parts)
