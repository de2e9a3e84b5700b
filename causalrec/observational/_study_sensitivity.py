"""How much hidden bias an estimate of a study bears: every scale that applies to it, and why others do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_columns, check_confidence_level
from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError
from causalrec.nuisance.support import balancing_weights
from causalrec.observational._benchmarks import strength_of_benchmark, times_as_strong
from causalrec.observational._outcomes import triangle
from causalrec.observational._study_data import StudyData
from causalrec.observational.design import as_design, regressors
from causalrec.observational.evalue import evalue
from causalrec.observational.matched_sets import matched_set_bounds
from causalrec.observational.matching import match
from causalrec.observational.methods import matched, nuisances
from causalrec.observational.omitted_bias import confounder_strength, omitted_bias
from causalrec.observational.partial_r2 import sensitivity_ols
from causalrec.observational.rosenbaum import GAMMAS, check_gamma
from causalrec.observational.tipping import tipping_points
from causalrec.results import (
    NAN,
    AdjustedEffect,
    ConfounderStrengthResult,
    EValueResult,
    MatchResult,
    OmittedBiasResult,
    PartialR2Result,
    RosenbaumResult,
    SensitivityResult,
)
from causalrec.results.study import take_benchmarks

OTHER_WAYS = ("instrumental_variable", "front_door")
"""Methods that hidden causes of treatment and outcome do not bias."""
_CALIPER = 0.2  # standard deviations of the logit (Austin 2011, Pharmaceutical Statistics 10)
_REFITTED = 10_000  # rows, up to which cross-fitted nuisances are fitted again for a benchmark without being asked
_STRENGTH = 0.03
_NO_ERROR = 1e-6
_Notes: TypeAlias = tuple[str, ...]


def study_sensitivity(
    data: StudyData,
    effect: AdjustedEffect,
    *,
    treatment: str,
    outcome: str,
    gammas: Any = None,
    benchmarks: Sequence[Any] | None = None,
    confidence_level: float | None = None,
) -> SensitivityResult:
    """Every scale of hidden bias that applies to an estimate; see :meth:`ObservationalStudy.sensitivity`."""
    if not isinstance(effect, AdjustedEffect):
        raise CausalRecError(
            f"effect is of type {type(effect).__name__}; expected an estimate, as study.estimate(method) gives."
        )
    if not math.isfinite(effect.estimate):
        raise CausalRecError(
            f"the estimate is {effect.estimate}; expected a finite number. Look at its method's error."
        )
    check_outcome_varies(data, outcome)
    effect = _at_level(effect, confidence_level)
    level = effect.confidence_level
    gamma = check_gamma(GAMMAS if gammas is None else gammas)
    chosen = _chosen(data, benchmarks)
    name = effect.recipe.name if effect.recipe is not None else ""
    found: dict[str, Any] = {
        "treatment": treatment, "outcome": outcome, "estimand": effect.estimand, "method": effect.method,
        "estimate": effect.estimate, "ci_low": effect.ci_low, "ci_high": effect.ci_high, "confidence_level": level,
    }  # fmt: skip
    if name in OTHER_WAYS:
        return SensitivityResult(**found, **_flat(None, None, None, None), notes=(_other_way(name),))
    bounds, of_sets = _bounds(data, effect, gamma, level)
    evalues, of_ratios = _evalues(data, effect)
    regression, of_regression = _regression(data, chosen, treatment, level)
    strongest = "" if regression is None or not len(regression.benchmark) else str(regression.benchmark[0])
    refitted = chosen if benchmarks is not None else [strongest] if strongest and data.n_obs <= _REFITTED else []
    bias, strengths, of_aipw = _omitted(data, effect, refitted)
    notes = (*of_sets, *of_ratios, *of_regression, *of_aipw)
    flat = _flat(bounds, evalues, regression, bias)
    if data.clusters is not None:  # the regression's own error counts rows
        flat["strongest_times_ci"] = NAN
        flat["robustness_value_alpha"] = NAN if bias is None else bias.robustness_value_alpha
    return SensitivityResult(
        **found, **flat, rosenbaum=bounds, evalues=evalues, partial_r2=regression, omitted_bias=bias,
        tipping=tipping_points(effect), strengths=strengths, notes=notes,
    )  # fmt: skip


def check_outcome_varies(data: StudyData, outcome: str) -> None:
    """Raise :class:`OutcomeError` for an outcome of which nothing could be told."""
    if np.ptp(data.y) == 0:
        raise OutcomeError(
            f"{outcome} is {data.y[0]:g} for every unit, so that no effect can be told from none. Check the column, or "
            "take an outcome that varies."
        )


def _at_level(effect: AdjustedEffect, confidence_level: float | None) -> AdjustedEffect:
    """The effect with a normal interval at another level."""
    if confidence_level is None or check_confidence_level(confidence_level) == effect.confidence_level:
        return effect
    half = float(stats.norm.isf((1 - confidence_level) / 2)) * effect.std_error
    low, high = effect.estimate - half, effect.estimate + half
    return replace(effect, ci_low=low, ci_high=high, confidence_level=confidence_level)


def _chosen(data: StudyData, benchmarks: Sequence[Any] | None) -> list[str]:
    """The covariates to compare with: those asked for, or all."""
    columns = [] if data.X is None else [str(c) for c in _frame(data).columns]
    if benchmarks is None:
        return columns
    asked = [benchmarks] if isinstance(benchmarks, str) else [str(b) for b in benchmarks]
    check_columns(columns, asked, where="benchmarks, among the covariates of the study")
    return asked


def _frame(data: StudyData) -> pd.DataFrame:
    if isinstance(data.X, pd.DataFrame):
        return data.X
    return pd.DataFrame(data.X, columns=[f"x{i}" for i in range(data.X.shape[1])])


def _other_way(name: str) -> str:
    way = name.replace("_", " ")
    doubt = {
        "instrumental_variable": "that the instrument changes the outcome by the treatment alone and has no cause in "
        "common with it",
        "front_door": "that the mediators carry the whole effect and have no hidden cause in common with the outcome",
    }[name]
    return (
        f"by {way}: hidden causes of treatment and outcome do no harm, so that no scale here applies; what must be "
        f"believed is {doubt}"
    )


def _flat(
    bounds: RosenbaumResult | None,
    evalues: EValueResult | None,
    regression: PartialR2Result | None,
    bias: OmittedBiasResult | None,
) -> dict[str, Any]:
    """The numbers that stand for all: NaN where there is none."""
    robust: PartialR2Result | OmittedBiasResult | None = regression if bias is None else bias
    times = (NAN, NAN)
    if regression is not None and len(regression.benchmark):
        strength = strength_of_benchmark(float(regression.r2_treatment[0]), float(regression.r2_outcome[0]))
        times = tuple(  # type: ignore[assignment]
            times_as_strong(regression.estimate, regression.std_error, regression.dof, *strength, critical_t=t)
            for t in (0.0, regression.critical_t)
        )
    return {
        "gamma": NAN if bounds is None else bounds.turning_gamma,
        "evalue": NAN if evalues is None else evalues.evalue,
        "evalue_ci": NAN if evalues is None else evalues.evalue_ci,
        "robustness_value": NAN if robust is None else robust.robustness_value,
        "robustness_value_alpha": NAN if robust is None else robust.robustness_value_alpha,
        "strongest": "" if regression is None or not len(regression.benchmark) else str(regression.benchmark[0]),
        "strongest_times": times[0], "strongest_times_ci": times[1],
    }  # fmt: skip


# --- matched sets ---------------------------------------------------------------------------------------------------


def _bounds(
    data: StudyData, effect: AdjustedEffect, gamma: FloatArray, level: float
) -> tuple[RosenbaumResult | None, _Notes]:
    """Rosenbaum's bounds of the estimate's own sets where no unit is in two, else of pairs made for them."""
    reason = _without_sets(data)
    if reason:
        return None, (f"no gamma: {reason}",)
    recipe, said = effect.recipe, ""
    if recipe is not None and recipe.name in ("matching", "full_matching"):
        options = {**({"pairing": "full"} if recipe.name == "full_matching" else {}), **recipe.options}
        try:
            own = matched(data, recipe.estimand, options)
            if not own.replace:
                return _of_sets(data, own, gamma, level), ()
            said = "the estimate's own sets share units; "
        except CausalRecError as error:
            said = f"not of the estimate's own sets ({error}); "
    try:
        pairs = _pairs(data)
        found = _of_sets(data, pairs, gamma, level)
    except CausalRecError as error:
        return None, (f"no gamma: {error}",)
    arm = "treated" if pairs.estimand == "att" else "controls"
    asked = int(np.count_nonzero(data.treatment == (pairs.estimand == "att")))
    return found, (
        f"gamma: {said}of {pairs.n_matched:,} pairs, each of {asked:,} {arm} with the nearest by the logit of the "
        f"score that was still free, within {_CALIPER:g} standard deviations",
    )


def _without_sets(data: StudyData) -> str:
    if data.clusters is not None:
        return "the bounds take matched sets to be independent, and rows of one cluster are not"
    if data.sample_weight is not None:
        return "the bounds are for units that count alike, and sample weights are given"
    if data.X is None and data.propensity is None:
        return "there are no covariates to match on"
    if data.propensity is not None and np.ptp(data.propensity.score) == 0:
        return "the propensity is the same for all, so that every pair is as good as another"
    return ""


def _pairs(data: StudyData) -> MatchResult:
    """Pairs without replacement: each unit of the smaller arm with the nearest by score."""
    smaller = "att" if 2 * int(data.treatment.sum()) <= data.n_obs else "atc"
    return match(
        treatment=data.treatment, propensity=data.score(), distance="logit", estimand=smaller, replace=False,
        caliper=_CALIPER,
    )  # fmt: skip


def _of_sets(data: StudyData, found: MatchResult, gamma: FloatArray, level: float) -> RosenbaumResult:
    return matched_set_bounds(
        data.y, _settled(found, data.y), treatment=data.treatment, gamma=gamma, confidence_level=level
    )


def _settled(found: MatchResult, y: FloatArray) -> MatchResult:
    """The sets with one of several units alike taken by lot, instead of the first row.

    The lot is drawn by a hash of the outcome's rank, so that it is the same whatever the order of rows.
    """
    if found.tie is None:
        return found
    rank = np.unique(y, return_inverse=True)[1].astype(np.uint64)
    lot = pd.util.hash_array(rank)
    by_row, by_lot = np.argsort(found.tie, kind="stable"), np.lexsort((lot, found.tie))
    place: IntArray = np.empty(len(y), dtype=np.int64)
    place[by_row] = by_lot
    return replace(found, unit=place[found.unit], pool=place[found.pool])


# --- E-values -------------------------------------------------------------------------------------------------------


def _evalues(data: StudyData, effect: AdjustedEffect) -> tuple[EValueResult | None, _Notes]:
    """Of a risk difference where the outcome is 0/1, else of a difference in residual standard deviations."""
    measure: Literal["rd", "ols"] = "rd" if set(np.unique(data.y)) <= {0.0, 1.0} else "ols"
    try:
        if measure == "rd":
            return evalue(effect, measure="rd", baseline_risk=_baseline(data, effect)), ()
        spread = _residual_spread(data)
        if spread <= _NO_ERROR * float(np.ptp(data.y)):
            return None, ("no E-value: treatment and covariates fit the outcome without error",)
        return evalue(effect, measure="ols", sd=spread), ()
    except CausalRecError as error:
        return None, (f"no E-value: {error}",)


def _baseline(data: StudyData, effect: AdjustedEffect) -> float:
    """The mean outcome of controls, weighted as the estimand asks: the risk without treatment."""
    control = data.treatment == 0
    weight = effect.weights
    if weight is None or len(weight) != data.n_obs or (weight[control] < 0).any():
        weight = np.ones(data.n_obs) if data.sample_weight is None else data.sample_weight
        if data.X is not None or data.propensity is not None:
            with suppress(OverlapError):  # without a score the controls as they are
                weight = weight * balancing_weights(data.score().score, data.treatment, effect.estimand)[0]
    return float(np.average(data.y[control], weights=weight[control]))


def _residual_spread(data: StudyData) -> float:
    """The standard deviation of what a regression on treatment and covariates leaves of the outcome."""
    Z = np.ones((data.n_obs, 1)) if data.X is None else regressors(as_design(data.X)[0])
    free = data.n_obs - Z.shape[1] - 1
    if free < 1:
        raise CausalRecError(f"{data.n_obs} units leave nothing over after {Z.shape[1] + 1} coefficients.")
    whole = np.column_stack([Z, data.treatment, data.y - data.y.mean()])
    if data.sample_weight is not None:
        whole = whole * np.sqrt(data.sample_weight / data.sample_weight.mean())[:, None]
    return abs(float(triangle(whole)[-1, -1])) / math.sqrt(free)


# --- shares of variance ---------------------------------------------------------------------------------------------


def _regression(
    data: StudyData, benchmarks: list[str], treatment: str, level: float
) -> tuple[PartialR2Result | None, _Notes]:
    """The linear regression beside hidden causes like each covariate, the strongest first."""
    if data.X is None:
        return None, ("no robustness value of a regression: there are no covariates",)
    if data.sample_weight is not None:
        return None, ("no robustness value of a regression: its theory has no sample weights",)
    try:
        found, notes = _beside(data, benchmarks, treatment, level)
    except CausalRecError as error:
        return None, (f"no robustness value of a regression: {error}",)
    if data.clusters is not None:
        notes = (*notes, "the regression's robustness value is of its estimate alone: its error takes rows to be "
                         "independent, and there are clusters")  # fmt: skip
    return _strongest_first(found), notes


def _sensitivity_ols(data: StudyData, benchmarks: list[str], treatment: str, level: float) -> PartialR2Result:
    return sensitivity_ols(
        _frame(data), data.y, treatment=data.treatment, benchmarks=benchmarks, kd=1.0, confidence_level=level,
        name=treatment,
    )  # fmt: skip


def _beside(data: StudyData, benchmarks: list[str], treatment: str, level: float) -> tuple[PartialR2Result, _Notes]:
    """The regression beside the covariates that a hidden cause can be as strong as, and why others are none."""
    try:
        return _sensitivity_ols(data, benchmarks, treatment, level), ()
    except CausalRecError:
        _sensitivity_ols(data, [], treatment, level)  # raises what is not a benchmark's fault
    able, notes = [], []
    for name in benchmarks:
        try:
            _sensitivity_ols(data, [name], treatment, level)
        except CausalRecError as error:
            notes.append(str(error))
        else:
            able.append(name)
    return _sensitivity_ols(data, able, treatment, level), tuple(notes)


def _strongest_first(found: PartialR2Result) -> PartialR2Result:
    """The benchmarks by the bias that a cause like them makes."""
    bias = np.abs(found.estimate - found.adjusted_estimate)
    order = np.argsort(-np.round(bias / max(abs(found.estimate), found.std_error), 10), kind="stable")
    return take_benchmarks(found, order)


# --- doubly robust effects ------------------------------------------------------------------------------------------


def _omitted(
    data: StudyData, effect: AdjustedEffect, benchmarks: list[str]
) -> tuple[OmittedBiasResult | None, tuple[ConfounderStrengthResult, ...], _Notes]:
    """Bounds on AIPW from the study's nuisances, with a hidden cause like the first of the benchmarks."""
    recipe = effect.recipe
    if recipe is None or recipe.name != "aipw":
        return None, (), ()
    estimand: Any = recipe.estimand
    fitted = nuisances(data, recipe.options)
    strengths, notes = [], []
    for name in benchmarks:
        try:
            without = nuisances(_without(data, name), recipe.options)
            strengths.append(confounder_strength(fitted, without, name=name, estimand=estimand))
        except CausalRecError as error:
            notes.append(f"no strength of {name} for AIPW: {error}")
    cf = [(s.cf_outcome, min(s.cf_treatment, 1 - 1e-9)) for s in strengths] or [(_STRENGTH, _STRENGTH)]
    try:
        found = omitted_bias(
            fitted, cf_outcome=cf[0][0], cf_treatment=cf[0][1], estimand=estimand,
            confidence_level=effect.confidence_level,
        )  # fmt: skip
    except CausalRecError as error:
        return None, tuple(strengths), (*notes, f"no robustness value of AIPW: {error}")
    return found, tuple(strengths), tuple(notes)


def _without(data: StudyData, name: str) -> StudyData:
    """The study without a covariate, nothing fitted."""
    frame = _frame(data)
    if data.propensity is not None:
        raise CausalRecError("the score is given, and cannot be fitted without it.")
    if frame.shape[1] == 1:
        raise CausalRecError("it is the only covariate.")
    return replace(data, X=frame.drop(columns=[c for c in frame.columns if str(c) == name]), _fits={})
