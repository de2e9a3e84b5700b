"""Results of metrics from estimates and influence functions."""

from __future__ import annotations

import numpy as np
from scipy import special

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level
from causalrec.evaluation import _metrics as metrics
from causalrec.evaluation._metrics import Choice
from causalrec.evaluation._ranked import Ranked
from causalrec.evaluation._tops import lift_shares
from causalrec.evaluation.conventions import describe
from causalrec.nuisance.arm_scores import ArmScores, influence_error
from causalrec.results import NAN, EffectResult

# Relative to the largest outcome: an error below it is rounding, not certainty.
_ROUNDING = 1e-13
SILENT_TOP = "the outcomes of an arm do not vary in the top, which is no certainty"


def metric_result(choice: Choice, ranked: Ranked, confidence_level: float | None) -> EffectResult:
    """A metric with its interval and p-value; with a level of None its value alone."""
    if confidence_level is not None:
        return result_and_influence(choice, ranked, check_confidence_level(confidence_level))[0]
    how = f"{_how(choice, ranked.scores)}; value alone"
    value, n = metrics.value(choice, ranked), metrics.units_used(choice, ranked)
    return EffectResult(value, NAN, NAN, NAN, NAN, NAN, n, how, choice.estimand)


def result_and_influence(choice: Choice, ranked: Ranked, level: float) -> tuple[EffectResult, FloatArray]:
    """A metric with its interval and p-value, and its influence function in the order of the score."""
    if choice.metric == "lift_share":
        return _lift_share(choice, ranked, level)
    n, name = metrics.units_used(choice, ranked), choice.estimand
    estimate, influence = metrics.estimate(choice, ranked)
    how = method_words(choice, ranked.scores)
    if metrics.without_information(choice, ranked):
        how += "; all predictions are equal, so the score is zero by definition"
        return EffectResult(0.0, 0.0, 0.0, 0.0, NAN, level, n, how, name), influence
    error = honest_error(influence, ranked.scores, ranked.clusters)
    if np.isnan(error) and not np.isnan(influence).any():
        how += "; none here: the outcome does not vary within the arms, or there is one cluster"
    elif np.isnan(error) and choice.metric == "uplift_at_k":
        how += f"; none here: {SILENT_TOP}"
    return interval_result(estimate, error, level, n, how, name), influence


def interval_result(
    estimate: float, error: float, level: float, n_obs: int, method: str, estimand: str
) -> EffectResult:
    """An estimate with its normal interval and two-sided p-value; NaN where there is no error."""
    half = -float(special.ndtri((1 - level) / 2)) * error
    pvalue = float(2 * special.ndtr(-abs(estimate) / error)) if error > 0 else NAN
    return EffectResult(estimate, error, estimate - half, estimate + half, pvalue, level, n_obs, method, estimand)


def honest_error(influence: FloatArray, scores: ArmScores, clusters: IntArray | None) -> float:
    """The standard error, or NaN where nothing varies: a zero would look like certainty."""
    error = influence_error(influence, clusters)
    largest = max(abs(float(scores.y.max())), abs(float(scores.y.min())))
    return error if error > _ROUNDING * largest else NAN


def method_words(choice: Choice, scores: ArmScores) -> str:
    """How a metric and its standard error are computed."""
    if choice.of_peer:
        return describe(choice.metric, choice.convention) + (", clustered" if scores.clusters is not None else "")
    return f"{_how(choice, scores)}; {error_words(scores)}"


def error_words(scores: ArmScores) -> str:
    """How the standard errors were computed."""
    return "influence-function standard error" + (", clustered" if scores.clusters is not None else "")


def _how(choice: Choice, scores: ArmScores) -> str:
    if choice.of_peer:
        return f"as {choice.convention} defines it"
    if choice.metric != "uplift_at_k" or scores.outcomes is not None:
        return scores.method
    how = "difference of the arms' means" + ("" if scores.shares_estimated else ", known propensity")
    return how + (" in the best of each" if choice.strategy == "by_group" else "")


def _lift_share(choice: Choice, ranked: Ranked, level: float) -> tuple[EffectResult, FloatArray]:
    """With Fieller's interval, which is honest where the whole effect is small, and the test of a random order."""
    found, share, name = lift_shares(ranked, choice.k), choice.k, choice.estimand
    estimate, influence = found.estimate_and_influence()
    how = f"{method_words(choice, ranked.scores)}, Fieller's interval; "
    how += f"p-value of a share of {share:g}, that of a random order"
    if ranked.constant or share == 1:
        how += "; here the share is that by definition"
        return EffectResult(share, 0.0, share, share, NAN, level, ranked.n, how, name), 0 * ranked.weight
    low, high = found.fieller(ranked, level)
    if np.isinf(low):
        how += "; the whole effect cannot be told from zero, so the share has no bounds"
    error = honest_error(found.above_random, ranked.scores, ranked.clusters)
    test = interval_result(found.gain - share * found.total, error, level, ranked.n, how, name)
    std_error = ranked.error(influence)
    return EffectResult(estimate, std_error, low, high, test.pvalue, level, ranked.n, how, name), influence
