"""DoWhy's estimators by name, on frames of their own, their estimands and errors said as they are.

Imported inside functions alone, since dowhy takes seconds; :mod:`causalrec.observational.peers` lists the names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest, optional_import
from causalrec.exceptions import CausalRecError
from causalrec.observational._inputs import Sample, asked, read_sample
from causalrec.observational._shield import shielded
from causalrec.observational._study_data import StudyData
from causalrec.results import AdjustedEffect

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import; restored on leaving the block
    optional_import("dowhy", extra="ate")
    from dowhy.causal_estimators.distance_matching_estimator import DistanceMatchingEstimator
    from dowhy.causal_estimators.doubly_robust_estimator import DoublyRobustEstimator
    from dowhy.causal_estimators.generalized_linear_model_estimator import GeneralizedLinearModelEstimator
    from dowhy.causal_estimators.instrumental_variable_estimator import InstrumentalVariableEstimator
    from dowhy.causal_estimators.linear_regression_estimator import LinearRegressionEstimator
    from dowhy.causal_estimators.propensity_score_matching_estimator import PropensityScoreMatchingEstimator
    from dowhy.causal_estimators.propensity_score_stratification_estimator import PropensityScoreStratificationEstimator
    from dowhy.causal_estimators.propensity_score_weighting_estimator import PropensityScoreWeightingEstimator
    from dowhy.causal_identifier.identified_estimand import IdentifiedEstimand

TREATMENT, OUTCOME, ROW = "treatment", "outcome", "row"
_SCORE, _INSTRUMENT = "propensity_score", "instrument"
_SCHEMES = ("ips_weight", "ips_normalized_weight", "ips_stabilized_weight")
_NO_ERROR = "no error, as DoWhy has none but a bootstrap"
_NEIGHBOURS = f"{_NO_ERROR}, which is not valid for nearest neighbours (Abadie and Imbens 2008)"
_FAMILIES = {"Binomial": (0.0, 1.0), "Poisson": (0.0, np.inf)}  # the outcomes of each; Gaussian: linear_regression


# --- what DoWhy is given ----------------------------------------------------------------------------------------------


def make_estimand(names: list[str], instruments: list[str] | None = None) -> Any:
    """DoWhy's estimand: adjust for columns, or move by instruments; no graph is searched."""
    return IdentifiedEstimand(
        None, TREATMENT, OUTCOME, estimands={"backdoor": {}, "iv": {"assumptions": {}}},
        backdoor_variables={"backdoor": names}, instrumental_variables=instruments or [],
        default_backdoor_id="backdoor", identifier_method="iv" if instruments else "backdoor",
    )  # fmt: skip


def make_frame(data: StudyData) -> tuple[pd.DataFrame, list[str]]:
    """A frame of its own for DoWhy, and its covariates: numbers are floats, names cannot clash with DoWhy's."""
    columns: dict[str, Any] = {}
    for i in range(0 if data.X is None else data.X.shape[1]):
        column = data.X.iloc[:, i] if isinstance(data.X, pd.DataFrame) else pd.Series(data.X[:, i])
        number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        columns[f"x{i}"] = column.to_numpy(dtype=np.float64, copy=True) if number else column.copy()
    names = list(columns)
    own = {TREATMENT: data.treatment.copy(), OUTCOME: data.y.copy(), ROW: np.arange(data.n_obs)}
    return pd.DataFrame({**columns, **own}), names


# --- what DoWhy gives -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fitted:
    """An estimate of DoWhy's, the estimator, and the frame with the columns that it left."""

    value: float
    estimator: Any
    frame: pd.DataFrame
    sample: Sample
    estimand: str
    note: str = ""

    def effect(self, text: str, std_error: float = float("nan"), **rest: Any) -> AdjustedEffect:
        sample = self.sample if std_error == std_error else replace(self.sample, clusters=None)
        return sample.effect(self.value, std_error, method=f"{text}{self.note}", estimand=self.estimand, **rest)


def dowhy_effect(data: StudyData, name: str, estimand: str, options: dict[str, Any]) -> AdjustedEffect:
    """An effect by one of DoWhy's estimators, such as ``"dowhy.propensity_score_matching"``.

    Raises
    ------
    CausalRecError
        Where DoWhy cannot estimate, with what it says.
    """
    sample = read_sample(
        data.y, treatment=data.treatment, clusters=data.clusters, confidence_level=data.confidence_level, what=name
    )
    return _RUNS[name](data, sample, estimand, dict(options))


def _fit(
    data: StudyData, sample: Sample, estimand: str, kind: Callable[..., Any], *, by_score: bool = False,
    of_units: bool = False, **settings: Any,
) -> _Fitted:  # fmt: skip
    """Fit on a frame of its own; ``of_units`` evaluates the effect of the units that the estimand is of."""
    frame, names = make_frame(data)
    if by_score and data.propensity is not None:
        frame[_SCORE] = data.propensity.score
    units = frame[asked(data.treatment, estimand) == 1] if of_units and estimand != "ate" else frame
    target = "ate" if of_units else estimand
    return _estimate(kind, make_estimand(names), frame, units, target, sample, estimand, data.random_state, settings)


def _estimate(
    kind: Callable[..., Any], to_identify: Any, frame: pd.DataFrame, units: pd.DataFrame, target: str, sample: Sample,
    estimand: str, random_state: int, settings: dict[str, Any],
) -> _Fitted:  # fmt: skip
    """DoWhy's own two steps, shielded."""
    noted: list[warnings.WarningMessage]
    with shielded(np.random.SeedSequence(random_state)), warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            estimator = kind(to_identify, **settings).fit(frame)
            value = float(estimator.estimate_effect(units, target_units=target).value)
        except Exception as error:  # DoWhy raises plain ones
            raise CausalRecError(f"DoWhy could not estimate the {estimand}: {error}.") from error
    if not np.isfinite(value):
        raise CausalRecError(f"DoWhy's estimate of the {estimand} is {value}; check the units of each arm and score.")
    failed = any(issubclass(w.category, ConvergenceWarning) for w in noted)
    note = "; the score's regression did not converge: scale the covariates" if failed else ""
    return _Fitted(value, estimator, frame, sample, estimand, note)


def _linear_regression(data: StudyData, sample: Sample, estimand: str, _: dict[str, Any]) -> AdjustedEffect:
    found = _fit(data, sample, estimand, LinearRegressionEstimator)
    by = "robust error (HC1, statsmodels)" if sample.clusters is None else "error of statsmodels"
    how = {"cov_type": "HC1"} if sample.clusters is None else {"cov_type": "cluster", "groups": sample.clusters}
    error = float(found.estimator.model.get_robustcov_results(**how).bse[1])
    return found.effect(f"DoWhy's linear regression, {by}", error)


def _generalized_linear_model(
    data: StudyData, sample: Sample, estimand: str, options: dict[str, Any]
) -> AdjustedEffect:
    import statsmodels.api as sm  # type: ignore[import-untyped]

    family = options.get("family", "Binomial")
    if family not in _FAMILIES:
        raise CausalRecError(
            f"family is {family!r}; expected one of {list_some(_FAMILIES)}.{nearest(str(family), _FAMILIES)}"
        )
    low, high = _FAMILIES[family]
    if data.y.min() < low or data.y.max() > high:
        raise CausalRecError(
            f"the outcome runs from {data.y.min():g} to {data.y.max():g}; the {family} family is of outcomes from "
            f"{low:g} to {high:g}. Use 'dowhy.linear_regression'."
        )
    found = _fit(
        data, sample, estimand, GeneralizedLinearModelEstimator, of_units=True,
        glm_family=getattr(sm.families, family)(),
    )  # fmt: skip
    return found.effect(f"DoWhy's generalised linear model, {family}; {_NO_ERROR}")


def _score_model(options: dict[str, Any], data: StudyData) -> dict[str, Any]:
    model = options.get("propensity_model")
    if model is not None and data.propensity is not None:
        raise CausalRecError("propensity is given together with propensity_model, which only a fit can use.")
    return {"propensity_score_model": None if model is None else clone(model)}


def _score_text(options: dict[str, Any], data: StudyData) -> str:
    if data.propensity is not None:
        return f"score as given ({data.propensity.method})"
    model = options.get("propensity_model")
    return "penalised logistic score" if model is None else f"score by {type(model).__name__}"


def _propensity_score_matching(
    data: StudyData, sample: Sample, estimand: str, options: dict[str, Any]
) -> AdjustedEffect:
    found = _fit(data, sample, estimand, PropensityScoreMatchingEstimator, by_score=True, **_score_model(options, data))
    return found.effect(
        f"DoWhy's propensity score matching, {_score_text(options, data)}; {_NEIGHBOURS}",
        propensity=found.frame[_SCORE].to_numpy(dtype=np.float64),
    )


def _propensity_score_weighting(
    data: StudyData, sample: Sample, estimand: str, options: dict[str, Any]
) -> AdjustedEffect:
    scheme = options.get("weighting_scheme", "ips_weight")
    if scheme not in _SCHEMES:
        raise CausalRecError(
            f"weighting_scheme is {scheme!r}; expected one of {list_some(_SCHEMES)}.{nearest(str(scheme), _SCHEMES)}"
        )
    low, high = float(options.get("min_ps_score", 0.05)), float(options.get("max_ps_score", 0.95))
    found = _fit(
        data, sample, estimand, PropensityScoreWeightingEstimator, by_score=True, **_score_model(options, data),
        weighting_scheme=scheme, min_ps_score=low, max_ps_score=high,
    )  # fmt: skip
    used = found.frame[_SCORE].to_numpy(dtype=np.float64)
    column = {"ate": "", "att": "t", "atc": "c"}[estimand] + scheme
    return found.effect(
        f"DoWhy's propensity score weighting, {_score_text(options, data)} clipped to [{low:g}, {high:g}]; {_NO_ERROR}",
        propensity=used,
        share_clipped=float(np.mean((used <= low) | (used >= high))),
        weights=found.frame[column].to_numpy(dtype=np.float64),
    )


def _propensity_score_stratification(
    data: StudyData, sample: Sample, estimand: str, options: dict[str, Any]
) -> AdjustedEffect:
    fewest = int(options.get("clipping_threshold", 10))
    found = _fit(
        data, sample, estimand, PropensityScoreStratificationEstimator, by_score=True, **_score_model(options, data),
        num_strata=options.get("num_strata", "auto"), clipping_threshold=fewest,
    )  # fmt: skip
    weights, n_strata = stratum_weights(found.frame["strata"].to_numpy(), data, estimand, fewest)
    used, wanted = weights > 0, asked(data.treatment, estimand) == 1
    return found.effect(
        f"DoWhy's propensity score stratification, {n_strata} strata, {_score_text(options, data)}; strata with "
        f"{fewest} units or fewer of an arm left out; {_NO_ERROR}",
        propensity=found.frame[_SCORE].to_numpy(dtype=np.float64), weights=weights, n_obs=int(used.sum()),
        n_treated=int((used & (data.treatment == 1)).sum()), n_control=int((used & (data.treatment == 0)).sum()),
        n_dropped=int((wanted & ~used).sum()),
    )  # fmt: skip


def stratum_weights(strata: Any, data: StudyData, estimand: str, fewest: int) -> tuple[FloatArray, int]:
    """The weight of each unit in DoWhy's mean over strata: units asked for in its stratum by those of its arm there."""
    codes = np.unique(strata, return_inverse=True)[1]
    treated = np.bincount(codes, weights=data.treatment)
    control = np.bincount(codes) - treated
    kept = np.minimum(treated, control) > fewest
    total = np.bincount(codes, weights=asked(data.treatment, estimand))
    arm = np.where(data.treatment == 1, treated[codes], control[codes])
    return np.where(kept[codes], total[codes] / np.maximum(arm, 1), 0.0), int(kept.sum())


def _distance_matching(data: StudyData, sample: Sample, estimand: str, options: dict[str, Any]) -> AdjustedEffect:
    k = int(options.get("num_matches_per_unit", 1))
    metric = options.get("distance_metric", "minkowski")
    found = _fit(data, sample, estimand, DistanceMatchingEstimator, num_matches_per_unit=k, distance_metric=metric)
    weights = asked(data.treatment, estimand).astype(np.float64)
    for matches in (found.estimator.matched_indices_att, found.estimator.matched_indices_atc):
        for others in (matches or {}).values():
            weights[others] += 1 / k
    return found.effect(
        f"DoWhy's distance matching, {k}:1, {metric} on covariates as they are; {_NEIGHBOURS}",
        weights=weights,
    )


def _doubly_robust(data: StudyData, sample: Sample, estimand: str, options: dict[str, Any]) -> AdjustedEffect:
    if data.propensity is not None:
        raise CausalRecError("DoWhy's doubly robust estimator takes no propensity that is given; use aipw.")
    low, high = float(options.get("min_ps_score", 0.01)), float(options.get("max_ps_score", 0.99))
    found = _fit(
        data, sample, estimand, DoublyRobustEstimator, **_score_model(options, data), min_ps_score=low,
        max_ps_score=high,
    )  # fmt: skip
    return found.effect(
        f"DoWhy's doubly robust estimator, linear outcomes, {_score_text(options, data)} clipped to [{low:g}, "
        f"{high:g}]; {_NO_ERROR}"
    )


def _instrumental_variable(data: StudyData, sample: Sample, estimand: str, _: dict[str, Any]) -> AdjustedEffect:
    route = data.route("instrumental_variable")
    if route.through.shape[1] > 1 or (route.X is not None and route.X.shape[1]):
        raise CausalRecError(
            f"DoWhy's estimator takes one instrument and no covariates; the study has {route.through.shape[1]} and "
            f"{0 if route.X is None else route.X.shape[1]} (several it fits through the origin). Use "
            "'instrumental_variable'."
        )
    frame, _names = make_frame(data)
    values = route.through.iloc[:, 0].to_numpy()
    levels, codes = np.unique(values, return_inverse=True)
    frame[_INSTRUMENT] = codes if len(levels) == 2 else values  # DoWhy knows two levels by 0 and 1 alone
    found = _estimate(
        InstrumentalVariableEstimator, make_estimand([], [_INSTRUMENT]), frame, frame, "ate", sample, estimand,
        data.random_state, {},
    )  # fmt: skip
    return found.effect(f"DoWhy's instrumental variable (Wald's ratio); {_NO_ERROR}")


_RUNS: dict[str, Callable[[StudyData, Sample, str, dict[str, Any]], AdjustedEffect]] = {
    "dowhy.linear_regression": _linear_regression,
    "dowhy.generalized_linear_model": _generalized_linear_model,
    "dowhy.propensity_score_matching": _propensity_score_matching,
    "dowhy.propensity_score_weighting": _propensity_score_weighting,
    "dowhy.propensity_score_stratification": _propensity_score_stratification,
    "dowhy.distance_matching": _distance_matching,
    "dowhy.doubly_robust": _doubly_robust,
    "dowhy.instrumental_variable": _instrumental_variable,
}
