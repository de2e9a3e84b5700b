"""What is known when a group-sequential test has stopped: p-value, interval and estimate that allow for the looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.optimize import brentq
from scipy.special import ndtri

from causalrec.abtest.inference import upper_tail
from causalrec.abtest.sequential.bounds import going_on
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.spending import spending_name
from causalrec.abtest.sequential.walk import Walk
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, ABResult, StagewiseResult


class Tails(NamedTuple):
    """Probabilities of outcomes at least as high, and at least as low, as the one seen."""

    high: float
    low: float


def stagewise_tails(
    statistic: float,
    fractions: Sequence[float],
    upper: Sequence[float],
    lower: Sequence[float] | None = None,
    *,
    drift: float = 0.0,
    two_sided: bool = True,
) -> Tails:
    """Tails of the statistic at the last look by stagewise ordering, after earlier looks that did not stop.

    Outcomes are ordered by which bound was crossed, then by when (earlier is more extreme), then by the statistic
    (Fairbanks & Madsen 1982; Tsiatis, Rosner & Mehta 1984; Jennison & Turnbull 2000, chapter 8). Only the bounds of
    earlier looks matter, so it needs no plan for later ones.

    Parameters
    ----------
    statistic : float
        At the last of the fractions, positive in the direction of the alternative.
    fractions : sequence of float
    upper, lower : sequence of float
        Bounds of the looks before, on the z scale; those for futility of a one-sided test only if binding.
    drift : float
        Mean of the statistic at fraction 1.
    two_sided : bool
        Whether minus ``upper`` stops too.

    Examples
    --------
    >>> print(f"{stagewise_tails(2.2, [0.5, 1.0], [2.797], two_sided=False).high:.5f}")
    0.01521
    """
    walk = Walk(drift, reach=max(9.0, abs(statistic) + 3))
    high = low = 0.0
    for k, t in enumerate(fractions[:-1]):
        root = math.sqrt(t)
        top = upper[k] * root
        bottom = -math.inf if lower is None else lower[k] * root
        high += walk.above(top, t)
        low += walk.below(-top if two_sided else bottom, t)
        walk.go_on(going_on(top, bottom, two_sided=two_sided), t, fractions[k + 1])
    score = statistic * math.sqrt(fractions[-1])
    return Tails(high + walk.above(score, fractions[-1]), low + walk.below(score, fractions[-1]))


def _drift_with(
    high: float, statistic: float, fractions: Sequence[float], upper: Sequence[float], lower: Sequence[float] | None,
    *, two_sided: bool,
) -> float:  # fmt: skip
    """The drift under which outcomes at least as high as this one have the probability ``high``."""

    def excess(drift: float) -> float:
        return stagewise_tails(statistic, fractions, upper, lower, drift=drift, two_sided=two_sided).high - high

    start = (statistic + float(ndtri(high))) / math.sqrt(fractions[-1])
    below, above = start - 0.5, start + 0.5
    while excess(below) > 0:
        below -= 2 * (above - below)
    while excess(above) < 0:
        above += 2 * (above - below)
    return float(brentq(excess, below, above, xtol=1e-10))


def stagewise_analysis(result: ABResult, inference: GroupSequential) -> StagewiseResult:
    """P-value, interval and median-unbiased estimate of an experiment that stopped at the present look.

    Parameters
    ----------
    result : ABResult
        Of :func:`infer` or an experiment at that look, for superiority or non-inferiority.
    inference : GroupSequential
        The same looks. None of the earlier ones may have crossed its bound (at the level of the result).

    Returns
    -------
    StagewiseResult
        At the level of the result. Bounds for futility count only if they are binding. Of a one-sided test the interval
        is open on the side of the alternative. Under the null the p-value is uniform, and below alpha just when the
        bound was crossed; of two sides it is twice the smaller tail.

    Raises
    ------
    CausalRecError
        Where the look does not stop the experiment, for equivalence, which stops by two tests, for a two-sided test
        with a binding bound for futility, whose outcomes have no order, or a result without a standard error.

    Examples
    --------
    >>> from causalrec.abtest import Estimate, infer
    >>> look = GroupSequential([0.5, 0.75])
    >>> estimate = Estimate(10.0, 10.6, 0.02, 0.02, 0.0, math.inf, 500, 500, "z")
    >>> found = infer(estimate, metric="orders", control="A", treatment="B", inference=look)
    >>> stopped = stagewise_analysis(found, look)
    >>> print(f"{stopped.estimate:.3f} [{stopped.ci_low:.3f}, {stopped.ci_high:.3f}], p = {stopped.pvalue:.4f}")
    0.586 [0.182, 0.983], p = 0.0049
    """
    side = _check_stopped(result, inference)
    two_sided = side == "two-sided"
    size = 1 - result.confidence_level
    bounds = inference.solve(size, two_sided=two_sided)
    turn = -1.0 if side == "less" else 1.0
    z = turn * _normal(result.statistic, result.df)
    bound, floor = bounds.upper[-1], inference.futility_bound(size, two_sided=two_sided)
    rejected = (abs(z) if two_sided else z) >= bound
    gave_up = (abs(z) if two_sided else z) <= floor
    if not (rejected or gave_up or inference.ended):
        raise CausalRecError(
            f"{result.metric}: the statistic {z:.3f} at look {inference.look} does not cross its bound {bound:.3f}, so "
            "the experiment goes on. Where it ends here for other reasons take GroupSequential(..., final=True)."
        )
    looks = inference.fractions
    lower = bounds.lower if inference.binding else None
    tails = stagewise_tails(z, looks, bounds.upper, lower, two_sided=two_sided)
    half = size / 2 if two_sided else size

    def effect(high: float) -> float:
        drift = _drift_with(high, z, looks, bounds.upper, lower, two_sided=two_sided)
        return result.estimate + turn * (drift * math.sqrt(looks[-1]) - z) * result.std_error

    ends = [effect(half), effect(1 - half) if two_sided else turn * math.inf]
    return StagewiseResult(
        estimate=effect(0.5), std_error=NAN, ci_low=min(ends), ci_high=max(ends),
        pvalue=min(2 * min(tails), 1.0) if two_sided else tails.high, confidence_level=result.confidence_level,
        n_obs=result.n_obs, method=f"stagewise ordering, {spending_name(inference.spending)} spending",  # type: ignore[arg-type]
        estimand=result.estimand, look=inference.look, fraction=looks[-1], statistic=z, bound=bound,
        rejected=rejected, naive_estimate=result.estimate, naive_std_error=result.std_error,
        repeated_ci_low=result.ci_low, repeated_ci_high=result.ci_high, repeated_pvalue=result.pvalue,
        alternative=side, metric=result.metric, control=result.control, treatment=result.treatment,
    )  # fmt: skip


def _normal(statistic: float, df: float) -> float:
    """The normal quantile with the same tail as a t statistic."""
    if math.isinf(df):
        return statistic
    return math.copysign(float(ndtri(upper_tail(abs(statistic), df))), statistic)


def _check_stopped(result: ABResult, inference: GroupSequential) -> str:
    """The side of the test: two-sided, greater or less."""
    if result.hypothesis == "equivalence":
        raise CausalRecError(
            f"{result.metric}: equivalence stops when both of its tests reject, and such outcomes have no stagewise "
            "order; take the repeated interval and p-value of the result."
        )
    if result.inference != inference.name:
        raise CausalRecError(
            f"{result.metric}: the result is by {result.inference} inference; expected group sequential, by the same "
            "looks: pass inference= to infer or analyze."
        )
    if not result.std_error > 0:
        raise CausalRecError(f"{result.metric}: the result has no standard error, so nothing can be said at stopping.")
    side = result.hypothesis
    if side == "non-inferiority":
        side = "greater" if math.isinf(result.ci_high) else "less"
    if side == "two-sided" and inference.binding:
        raise CausalRecError(
            f"{result.metric}: a two-sided test with a binding bound for futility stops near zero too, and such "
            "outcomes have no stagewise order; take binding=False, or a one-sided alternative."
        )
    return side
