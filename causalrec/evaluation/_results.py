"""Results of metrics from estimates and influence functions."""

from __future__ import annotations

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level
from causalrec.evaluation import _metrics as metrics
from causalrec.evaluation._metrics import Choice
from causalrec.evaluation._ranked import Ranked
from causalrec.evaluation._tops import lift_shares
from causalrec.evaluation.conventions import describe
from causalrec.nuisance.arm_scores import ArmScores
from causalrec.results import NAN, EffectResult

# Relative to the largest outcome: an error below it is rounding, not certainty.
_ROUNDING = 1e-13


def metric_result(choice: Choice, ranked: Ranked, confidence_level: float | None) -> EffectResult:
    """A metric with its interval and p-value; with a level of None its value alone."""
    n, name = metrics.units_used(choice, ranked), choice.estimand
    if confidence_level is None:
        value = metrics.value(choice, ranked)
        return EffectResult(value, NAN, NAN, NAN, NAN, NAN, n, f"{_how(choice, ranked.scores)}; value alone", name)
    level = check_confidence_level(confidence_level)
    if choice.metric == "lift_share":
        return _lift_share_result(choice, ranked, level)
    estimate, influence = metrics.estimate(choice, ranked)
    how = f"{_how(choice, ranked.scores)}; {error_words(ranked.scores)}"
    if choice.of_peer:
        how = describe(choice.metric, choice.convention)
    if metrics.without_information(choice, ranked):
        how += "; all predictions are equal, so the score is zero by definition"
        return EffectResult(0.0, 0.0, 0.0, 0.0, NAN, level, n, how, name)
    error = honest_error(influence, ranked)
    if np.isnan(error) and not np.isnan(influence).any():
        how += "; none here: the outcome does not vary within the arms, or there is one cluster"
    return interval_result(estimate, error, level, n, how, name)


def interval_result(
    estimate: float, error: float, level: float, n_obs: int, method: str, estimand: str
) -> EffectResult:
    """An estimate with its normal interval and two-sided p-value; NaN where there is no error."""
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else NAN
    return EffectResult(estimate, error, estimate - half, estimate + half, pvalue, level, n_obs, method, estimand)


def honest_error(influence: FloatArray, ranked: Ranked) -> float:
    """The standard error, or NaN where nothing varies: a zero would look like certainty."""
    error = ranked.error(influence)
    scores = ranked.scores
    return error if error > _ROUNDING * max(abs(float(scores.y.max())), abs(float(scores.y.min()))) else NAN


def error_words(scores: ArmScores) -> str:
    """How the standard errors were computed."""
    return "influence-function standard error" + (", clustered" if scores.clusters is not None else "")


def _how(choice: Choice, scores: ArmScores) -> str:
    if choice.of_peer:
        return f"as {choice.convention} defines it"
    how = scores.method
    if choice.metric == "uplift_at_k" and choice.strategy == "by_group":
        how += ", the best of each arm"
    return how


def _lift_share_result(choice: Choice, ranked: Ranked, level: float) -> EffectResult:
    """With Fieller's interval, which is honest where the whole effect is small, and the test of a random order."""
    found = lift_shares(ranked, choice.k)
    estimate, influence = found.estimate_and_influence()
    how = f"{_how(choice, ranked.scores)}; {error_words(ranked.scores)}, Fieller's interval; "
    how += f"p-value of a share of {choice.k:g}, that of a random order"
    error = honest_error(found.above_random, ranked)
    gap = found.gain - choice.k * found.total
    if ranked.constant or choice.k == 1:
        how += "; the order says nothing, so the share is that by definition"
        return EffectResult(choice.k, 0.0, choice.k, choice.k, NAN, level, ranked.n, how, choice.estimand)
    low, high = found.fieller(ranked, level)
    if np.isinf(low):
        how += "; the whole effect cannot be told from zero, so the share has no bounds"
    pvalue = float(2 * stats.norm.sf(abs(gap) / error)) if error > 0 else NAN
    std_error = ranked.error(influence)
    return EffectResult(estimate, std_error, low, high, pvalue, level, ranked.n, how, choice.estimand)
