"""Hidden bias in matched sets: what p-values and effects would be if the odds of treatment differed by up to gamma."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative, check_confidence_level, check_vector, list_some
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.observational._hidden_bias import (
    bernoulli_tail,
    binomial_critical,
    critical_value,
    crossing,
    exact_is_cheap,
    pair_averages_at,
    signed_ranks,
    trials_tail,
    turning_point,
)
from causalrec.results import RosenbaumResult

Alternative: TypeAlias = Literal["two-sided", "greater", "less"]
Tail: TypeAlias = Callable[[float, bool], float]
GAMMAS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
_STATISTICS = ("signed_rank", "sign")
_ZEROS = ("drop", "keep")


@dataclass(frozen=True)
class Effects:
    """Ranges of an additive effect at one gamma."""

    estimate_low: float
    estimate_high: float
    ci_low: float
    ci_high: float


NO_EFFECTS = Effects(*[float("nan")] * 4)


def rosenbaum_bounds(
    treated: Any,
    control: Any = None,
    *,
    gamma: Sequence[float] | FloatArray | float = GAMMAS,
    statistic: Literal["signed_rank", "sign"] = "signed_rank",
    alternative: Alternative = "two-sided",
    zeros: Literal["drop", "keep"] = "drop",
    exact: bool | None = None,
    confidence_level: float = 0.95,
) -> RosenbaumResult:
    r"""Bounds on a test of matched pairs when the odds of treatment within a pair differ by a factor of up to gamma.

    Within a pair each was equally likely to be the treated one if nothing hidden mattered. With hidden bias up to Γ
    the chance lies between 1 / (1 + Γ) and Γ / (1 + Γ), and the p-value between the tails of :math:`\sum_s q_s B_s`
    with independent :math:`B_s` of these chances (Rosenbaum 2002, Observational Studies, 2nd edition, section 4.3).
    The Hodges–Lehmann estimate and the interval are the additive effects τ at which differences minus τ meet the
    expectation, or are not rejected (Rosenbaum 1993, JASA 88, "Hodges-Lehmann point estimates of treatment effect in
    observational studies").

    Parameters
    ----------
    treated : array of shape (n,)
        Outcomes of the treated of each pair, or treated - control where ``control`` is not given.
    control : array of shape (n,), optional
        Outcomes of the controls, in the same order.
    gamma : numbers of at least 1
    statistic : {"signed_rank", "sign"}
        Wilcoxon's signed rank, or the number of positive differences (which makes no use of their size).
    alternative : {"two-sided", "greater", "less"}
        ``"greater"``: the treatment raises the outcome. Two-sided p-values are twice the smaller one; their intervals
        are of two one-sided tests at half the level.
    zeros : {"drop", "keep"}
        Whether pairs without a difference are left out before ranking, or after. They never count in the statistic.
    exact : bool, optional
        Distribution of the signed rank counted out, ties and all, or normal. Default: exact for up to 100 pairs.
    confidence_level : float
        Of intervals; its complement is the limit of p-values for ``turning_gamma``.

    Returns
    -------
    RosenbaumResult

    Raises
    ------
    CausalRecError
        For gamma below 1 and options that are not known.
    OutcomeError
        For missing values, and where all differences are zero.

    Notes
    -----
    The interval takes all pairs, zeros too, with ranks 1, …, n, since the shifted differences have no ties but by
    chance. Where many pairs are alike it may end at 0 while the p-value, which leaves them out, is below the level.

    Examples
    --------
    >>> found = rosenbaum_bounds([7.0, 9, 4, 8, 6, 5, 9, 7], [3.0, 2, 1, 6, 5, 6, 2, 3], gamma=[1, 2])
    >>> round(found.pvalue, 5), round(found.turning_gamma, 3)
    (0.02344, 1.275)
    """
    d = _differences(treated, control)
    gammas = check_gamma(gamma)
    for name, option, known in (("statistic", statistic, _STATISTICS), ("zeros", zeros, _ZEROS)):
        if option not in known:
            raise CausalRecError(f"{name} is {option!r}; expected one of {list_some(known)}.")
    n_used = int(np.count_nonzero(d))
    if n_used == 0:
        raise OutcomeError(
            f"all {len(d)} pairs have the same outcome in treated and control, so that no test can tell them apart. "
            "Check the outcome, or take a finer one."
        )
    counted = exact_is_cheap(len(d)) if exact is None else bool(exact)
    if statistic == "sign":
        value, tails = _sign_test(d)
        method = "sign test, exact"
    else:
        value, tails = _signed_rank_test(d, zeros, exact=counted)
        method = f"signed rank, {'exact' if counted else 'normal approximation'}"

    def effects(g: float, alpha: float) -> Effects:
        return _pair_effects(d, statistic, g, alpha, exact=counted)

    return bounds_result(
        tails, effects, gammas, n_sets=len(d), n_used=n_used, method=method, alternative=alternative,
        statistic=value, confidence_level=confidence_level,
    )  # fmt: skip


def mcnemar_bounds(
    n_treated_only: int,
    n_control_only: int,
    *,
    gamma: Sequence[float] | FloatArray | float = GAMMAS,
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
) -> RosenbaumResult:
    """Bounds on McNemar's exact test: pairs in which one of two has the outcome, when hidden bias is at most gamma.

    Of the discordant pairs the number in which it is the treated is binomial, with a chance between 1 / (1 + Γ) and
    Γ / (1 + Γ) (Rosenbaum 2002, section 4.3.2).

    Parameters
    ----------
    n_treated_only, n_control_only : int
        Pairs in which the treated alone, and in which the control alone, has the outcome.
    gamma, alternative, confidence_level
        As in :func:`rosenbaum_bounds`.

    Raises
    ------
    CausalRecError
        When there are no discordant pairs, or gamma is below 1.

    Examples
    --------
    Smoking and lung cancer, 122 discordant pairs (Rosenbaum 2002, section 4.3.2):

    >>> found = mcnemar_bounds(110, 12, gamma=[4, 5, 6], alternative="greater")
    >>> found.pvalue_high.round(5).tolist()
    [0.00196, 0.02317, 0.09693]
    """
    counts = [_whole(n, name) for n, name in ((n_treated_only, "n_treated_only"), (n_control_only, "n_control_only"))]
    if sum(counts) == 0:
        raise CausalRecError(
            "there are no discordant pairs: in each both have the outcome, or neither. Such pairs say nothing about "
            "the effect; match more units, or take another outcome."
        )
    return bounds_result(
        _two_tails(counts[0], counts[1]), None, check_gamma(gamma), n_sets=sum(counts), n_used=sum(counts),
        method="McNemar, exact", alternative=alternative, statistic=float(counts[0]), confidence_level=confidence_level,
    )  # fmt: skip


def amplify_gamma(gamma: float, treatment_odds: Any) -> FloatArray:
    """What gamma means for a confounder of both treatment and outcome: Δ = (ΓΛ - 1) / (Λ - Γ).

    A bias of Γ in the treatment alone is the same as a confounder that multiplies the odds of treatment by Λ and those
    of a positive difference in the outcome by Δ (Rosenbaum and Silber 2009, JASA 104, "Amplification of sensitivity
    analysis in matched observational studies", proposition 1).

    Parameters
    ----------
    gamma : float
    treatment_odds : array of numbers above gamma
        Λ.

    Returns
    -------
    array
        Δ of each Λ.

    Raises
    ------
    CausalRecError
        For gamma below 1, or Λ not above it.

    Examples
    --------
    >>> amplify_gamma(2.0, [3, 5]).tolist()
    [5.0, 3.0]
    """
    value = float(check_gamma(gamma)[0])
    odds = np.atleast_1d(np.asarray(treatment_odds, dtype=np.float64))
    if not (odds > value).all():
        raise CausalRecError(
            f"treatment_odds has {list_some(odds[~(odds > value)])}; expected numbers above gamma = {value:g}: a "
            "weaker confounder cannot make so much bias."
        )
    return np.asarray((value * odds - 1) / (odds - value))


def check_gamma(gamma: Any) -> FloatArray:
    """Distinct gammas in ascending order, shape (k,)."""
    values = np.unique(np.asarray(gamma, dtype=np.float64).ravel())
    if values.size == 0 or not (np.isfinite(values).all() and values.min() >= 1):
        found = list_some(values[~(values >= 1) | ~np.isfinite(values)]) if values.size else "none"
        raise CausalRecError(
            f"gamma: found {found}; expected finite numbers of at least 1, the factor by which odds of treatment "
            "differ. Of a factor below 1 pass its inverse."
        )
    return values


def bounds_result(
    tails: tuple[Tail, Tail],
    effects: Callable[[float, float], Effects] | None,
    gammas: FloatArray,
    *,
    n_sets: int,
    n_used: int,
    method: str,
    alternative: str,
    statistic: float,
    confidence_level: float,
) -> RosenbaumResult:
    """The result from tails of the test.

    Parameters
    ----------
    tails : pair of functions of gamma and whether bias is the worst or the most favourable
        One-sided p-values for ``"greater"`` and ``"less"``.
    effects : function of gamma and the one-sided level, optional
    """
    check_alternative(alternative)
    alpha = 1 - check_confidence_level(confidence_level)

    def pvalue(g: float, worst: bool) -> float:
        if alternative == "two-sided":
            return min(1.0, 2 * min(tail(g, worst) for tail in tails))
        return tails[alternative == "less"](g, worst)

    side = alpha / 2 if alternative == "two-sided" else alpha
    found = [NO_EFFECTS if effects is None else effects(g, side) for g in gammas]
    ci_low = np.array([-math.inf if alternative == "less" and effects else e.ci_low for e in found])
    ci_high = np.array([math.inf if alternative == "greater" and effects else e.ci_high for e in found])
    unbiased = found[0] if effects is None or gammas[0] == 1 else effects(1.0, side)
    return RosenbaumResult(
        n_sets=n_sets, n_used=n_used, method=method, alternative=alternative, statistic=float(statistic),
        pvalue=pvalue(1.0, True), confidence_level=confidence_level,
        turning_gamma=turning_point(lambda g: pvalue(g, True), alpha), estimate=unbiased.estimate_low, gamma=gammas,
        pvalue_low=np.array([pvalue(g, False) for g in gammas]),
        pvalue_high=np.array([pvalue(g, True) for g in gammas]),
        estimate_low=np.array([e.estimate_low for e in found]),
        estimate_high=np.array([e.estimate_high for e in found]),
        ci_low=ci_low, ci_high=ci_high,
    )  # fmt: skip


def _differences(treated: Any, control: Any) -> FloatArray:
    first = check_vector(treated, name="treated")
    if len(first) == 0:
        raise OutcomeError("treated has no values; expected one per matched pair. Check the matching.")
    if control is None:
        return first
    return first - check_vector(control, name="control", n_rows=len(first))


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise CausalRecError(f"{name} is {value!r}; expected a whole number of pairs, 0 or more.")
    return int(value)


def chance(gamma: float, worst: bool) -> float:
    """The greatest, or least, chance to be the treated of a pair."""
    return gamma / (1 + gamma) if worst else 1 / (1 + gamma)


def _two_tails(n_positive: int, n_negative: int) -> tuple[Tail, Tail]:
    n = n_positive + n_negative

    def greater(g: float, worst: bool) -> float:
        return trials_tail([(n, chance(g, worst))], n_positive)

    def less(g: float, worst: bool) -> float:
        return trials_tail([(n, chance(g, worst))], n_negative)

    return greater, less


def _sign_test(d: FloatArray) -> tuple[float, tuple[Tail, Tail]]:
    counts = int(np.count_nonzero(d > 0)), int(np.count_nonzero(d < 0))
    return float(counts[0]), _two_tails(*counts)


def _signed_rank_test(d: FloatArray, zeros: str, *, exact: bool) -> tuple[float, tuple[Tail, Tail]]:
    ranks, positive = signed_ranks(d, zeros)
    value, total = float(ranks[positive].sum()), float(ranks.sum())

    def greater(g: float, worst: bool) -> float:
        return bernoulli_tail(ranks, value, chance(g, worst), exact=exact)

    def less(g: float, worst: bool) -> float:
        return bernoulli_tail(ranks, total - value, chance(g, worst), exact=exact)

    return value, (greater, less)


def _pair_effects(d: FloatArray, statistic: str, gamma: float, alpha: float, *, exact: bool) -> Effects:
    p = chance(gamma, True)
    n = len(d)
    ranked = statistic == "signed_rank"
    count = n * (n + 1) // 2 if ranked else n
    ranks = np.arange(1.0, n + 1)
    limit = critical_value(ranks, p, alpha, exact=exact) if ranked else binomial_critical(n, p, alpha)

    def at(values: FloatArray, place: int) -> float:
        return pair_averages_at(values, place) if ranked else float(np.partition(values, place - 1)[place - 1])

    def lowest(values: FloatArray) -> tuple[float, float]:
        places = crossing(count, p * count)
        estimate = (at(values, places[0]) + at(values, places[1])) / 2
        return estimate, at(values, count - limit + 1) if limit <= count else -math.inf

    (estimate_low, ci_low), (estimate_high, ci_high) = lowest(d), lowest(-d)
    return Effects(estimate_low, -estimate_high, ci_low, -ci_high)
