"""What stands against a study's conclusion, what it comes to, and what would change it: sentences from results."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec.results import (
    AdjustedEffect,
    BalanceResult,
    EffectComparisonResult,
    IdentificationResult,
    InstrumentEffect,
    OverlapResult,
    RefutationsResult,
    SensitivityResult,
    format_interval,
    format_number,
)
from causalrec.results.study import rounded_times, short_method

_WHOM = {
    "ate": "all units", "att": "the treated", "atc": "the untreated", "ato": "those that could be in either arm",
    "late": "those whom the instrument moves",
}  # fmt: skip
_NO_CHANCE = 0.01  # a probability of the arm that is asked about, below which its outcome is a guess
_SOME, _MANY = 0.05, 0.1  # shares of units without a like, unless chance alone leaves so many
_BY_CHANCE = 0.95  # what chance leaves, but for one sample in twenty
_FAR_APART = 0.25  # standard deviations that no regression should be trusted with (Rubin 2001; Stuart 2010)
_UNLIKE = 2.0  # standard deviations, at which two normal distributions share less than a third of their area
_FEW_CLUSTERS = 40  # Cameron and Miller 2015, Journal of Human Resources 50, section VI
_FEW_UNITS = 30
_WEAK = 10.0  # F of a first stage (Staiger and Stock 1997, Econometrica 65)
_SMALL_GAMMA, _MODEST_GAMMA = 1.2, 1.5
_POWER = 0.8


class Doubt(NamedTuple):
    """A sentence, and whether it alone makes an estimate doubtful."""

    severe: bool
    text: str


@dataclass(frozen=True)
class Evidence:
    """What was found of one estimate.

    ``unsupported`` is the share of the units asked about that have no like in the other arm, ``balance_of`` what
    the balance is by: ``"effect"`` (its own weights), ``"score"`` (weights from the score), or nothing, ``n_asked`` the
    units that those left out are counted among.
    """

    treatment: str
    outcome: str
    identification: IdentificationResult
    effect: AdjustedEffect
    comparison: EffectComparisonResult | None
    balance: BalanceResult | None
    overlap: OverlapResult | None
    refutations: RefutationsResult
    sensitivity: SensitivityResult
    balance_of: str = ""
    unsupported: float = 0.0
    n_asked: int = 0
    n_clusters: int | None = None
    randomised: bool = False

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return not self.effect.ci_low <= 0 <= self.effect.ci_high and math.isfinite(self.effect.std_error)


def unsupported_share(score: FloatArray, treatment: IntArray, estimand: str, weight: FloatArray | None = None) -> float:
    """The share of the units asked about whose like is not found in the other arm.

    The chance of the other arm is below 1%, or the score lies beyond all of the other arm's. None are so for the
    overlap, which asks about units by their chance of either arm.

    Examples
    --------
    >>> score, treatment = np.array([0.001, 0.5, 0.5, 0.9]), np.array([0, 0, 1, 1])
    >>> unsupported_share(score, treatment, "ate"), unsupported_share(score, treatment, "att")
    (0.5, 0.5)
    """
    asked = {"ate": (1, 0), "att": (1,), "atc": (0,)}.get(estimand, ())
    share = np.ones(len(score)) if weight is None else weight
    alone, whole = 0.0, 0.0
    for arm in asked:
        own = treatment == arm
        others = score[~own]
        chance = 1 - score[own] if arm else score[own]
        lonely = (score[own] < others.min()) | (score[own] > others.max()) | (chance < _NO_CHANCE)
        alone += float(share[own][lonely].sum())
        whole += float(share[own].sum())
    return alone / whole if whole > 0 else 0.0


def share_by_chance(n_treated: int, n_control: int, estimand: str) -> float:
    """The share of the units asked about that chance leaves beyond the other arm, where both are drawn alike.

    Of m values m / (k + 1) on average are above all of k others, with a variance of about r (1 + r) for r of that mean
    (Gumbel and von Schelling 1950, Annals of Mathematical Statistics 21, "The distribution of the number of
    exceedances"); as many are below. The normal quantile of 95% above the mean.

    Examples
    --------
    >>> round(share_by_chance(20, 20, "ate"), 3), round(share_by_chance(5000, 5000, "ate"), 4)
    (0.207, 0.0009)
    """
    arms = {"ate": ((n_treated, n_control), (n_control, n_treated)), "att": ((n_treated, n_control),),
            "atc": ((n_control, n_treated),)}.get(estimand, ())  # fmt: skip
    rates = [m / (k + 1) for m, k in arms]
    asked = sum(m for m, _ in arms)
    if not asked:
        return 0.0
    spread = math.sqrt(sum(2 * r * (1 + r) for r in rates))
    return min(1.0, (2 * sum(rates) + float(stats.norm.ppf(_BY_CHANCE)) * spread) / asked)


def find_doubts(found: Evidence) -> list[Doubt]:
    """What stands against an estimate, the severe first."""
    parts = (_instruments, _overlap, _before, _balance, _refutations, _methods, _hidden_bias, _units)
    doubts = [doubt for part in parts for doubt in part(found)]
    return sorted(doubts, key=lambda doubt: not doubt.severe)


def verdict_of(found: Evidence, doubts: list[Doubt]) -> str:
    """``"doubtful"`` where a doubt is severe; else ``"randomised"`` or ``"plausible"``."""
    if any(doubt.severe for doubt in doubts):
        return "doubtful"
    return "randomised" if found.randomised else "plausible"


def write_conclusion(found: Evidence, doubts: list[Doubt]) -> str:
    """The effect in a sentence, and how far it can be trusted in another."""
    e = found.effect
    whom = _WHOM.get(e.estimand, f"those of the {e.estimand}")
    value = f"{format_number(e.estimate)} {format_interval(e.ci_low, e.ci_high)}"
    if not math.isfinite(e.std_error):
        first = (
            f"The effect of {found.treatment} on {found.outcome} is {value} over {whom}, of an error that is not known"
        )
    elif found.significant:
        way = "higher" if e.estimate > 0 else "lower"
        size = format_interval(*sorted((abs(e.ci_low), abs(e.ci_high))))
        first = (
            f"With {found.treatment}, {found.outcome} is {way} by {format_number(abs(e.estimate))} {size} on average "
            f"over {whom}"
        )
    else:
        first = (
            f"No effect of {found.treatment} on {found.outcome} is shown, and none is ruled out within the interval: "
            f"{value} on average over {whom}"
        )
    return f"{first}{_trust(found, doubts)}"


def _trust(found: Evidence, doubts: list[Doubt]) -> str:
    verdict = verdict_of(found, doubts)
    if verdict == "doubtful":
        n = sum(doubt.severe for doubt in doubts)
        bear = "The data hardly bear it as a causal effect" if found.significant else "Nor could these data show one"
        return f". {bear}: {n} severe doubt{'s' * (n > 1)}."
    if verdict == "randomised":
        return ". It is causal by design, as the treatment was assigned by chance."
    if found.identification.strategy in ("instrument", "front_door"):
        return ". It is causal if the assumptions of its identification hold, which data cannot show."
    rest = f", if nothing but what was adjusted for ties {found.treatment} to {found.outcome}."
    times = found.sensitivity.strongest_times_ci
    if not (found.significant and found.sensitivity.strongest and math.isfinite(times) and times > 0):
        return rest
    return (
        f"{rest} A hidden cause {rounded_times(times)} times as strong as {found.sensitivity.strongest}, the strongest "
        "covariate, would be enough to undo it."
    )


def find_changes(found: Evidence) -> Iterator[str]:
    """What would change the conclusion, a sentence each."""
    if not found.significant:
        yield from _more_units(found)
    if found.randomised:
        yield "An assignment that was not by chance after all, or outcomes that are missing more in one arm."
    elif found.significant:
        yield from found.sensitivity.sentences()
    else:
        yield "A hidden cause of treatment and outcome, which may hide an effect as well as make one."
    yield from _another_method(found)
    gone = found.effect.n_dropped
    if gone:
        yield f"The effect on {gone:,} units that are not in the estimate, which may be any."
    if not found.randomised and found.identification.strategy == "backdoor" and found.identification.backdoor_variables:
        yield (
            "A covariate that the treatment itself changes, which must not be adjusted for, or a common cause that is "
            "not among the covariates."
        )


def _more_units(found: Evidence) -> Iterator[str]:
    """How many units would tell an effect of this size from zero."""
    e = found.effect
    if not (math.isfinite(e.std_error) and e.std_error > 0 and e.estimate):
        return
    needed = float(stats.norm.isf((1 - e.confidence_level) / 2) + stats.norm.isf(1 - _POWER))
    times = (needed * e.std_error / e.estimate) ** 2
    if times > 1:
        yield (
            f"More units: an effect of this size is told from zero, with {_POWER:.0%} power, by "
            f"{format_number(float(f'{times:.2g}'))} times as many."
        )


def _another_method(found: Evidence) -> Iterator[str]:
    others = _others(found)
    if not others:
        return
    e = found.effect
    crosses = [(name, other.ci_low <= 0 <= other.ci_high, other.estimate * e.estimate < 0) for name, other in others]
    against = [name for name, zero, turned in crosses if (zero or turned if found.significant else not zero)]
    lowest, highest = (pick(others, key=lambda pair: pair[1].estimate) for pick in (min, max))
    spread = (
        f"from {format_number(lowest[1].estimate)} by {_plain(lowest[0])} to {format_number(highest[1].estimate)} by "
        f"{_plain(highest[0])}"
    )
    if against:
        names = ", ".join(_plain(name) for name in against)
        what = "include zero or lie beyond it" if found.significant else "leave zero out"
        yield f"Another method: the intervals of {names} {what}; estimates run {spread}."
    elif len(others) > 1:
        yield f"Not another method: other estimates of the {e.estimand} run {spread}."


def _others(found: Evidence) -> list[tuple[str, AdjustedEffect]]:
    """Methods that adjust, with the same estimand, beside the headline's own."""
    if found.comparison is None:
        return []
    own = found.effect.recipe.name if found.effect.recipe is not None else ""
    return [
        (name, effect)
        for name, effect in zip(found.comparison.names, found.comparison.effects, strict=True)
        if name not in (own, "difference_in_means")
        and effect.estimand == found.effect.estimand
        and math.isfinite(effect.std_error)
    ]


def _plain(name: str) -> str:
    return name.replace("_", " ")


# --- doubts ---------------------------------------------------------------------------------------------------------


def _instruments(found: Evidence) -> Iterator[Doubt]:
    e = found.effect
    if isinstance(e, InstrumentEffect) and e.first_stage_f < _WEAK:
        yield Doubt(
            True,
            f"Weak instruments: the first stage has F = {format_number(round(e.first_stage_f, 2))}, below {_WEAK:g}; "
            "estimate and error cannot be trusted (Staiger and Stock 1997).",
        )


def _overlap(found: Evidence) -> Iterator[Doubt]:
    lap = found.overlap
    if lap is None:
        return
    chance = share_by_chance(lap.n_treated, lap.n_control, lap.estimand)
    if found.unsupported > max(_SOME, chance):
        yield Doubt(
            found.unsupported > max(_MANY, chance),
            f"Lack of overlap: {found.unsupported:.1%} of {_WHOM.get(lap.estimand, 'the units')} have no like in the "
            f"other arm (propensities {format_number(lap.min_propensity)} to {format_number(lap.max_propensity)}); "
            "what they would have done there is a guess of the model.",
        )
    for arm, size, n in (("treated", lap.ess_treated, lap.n_treated), ("controls", lap.ess_control, lap.n_control)):
        if math.isfinite(size) and size < 0.25 * min(lap.n_treated, lap.n_control):
            yield Doubt(
                size < 0.1 * min(lap.n_treated, lap.n_control) or size < 10,
                f"Extreme weights: for the {lap.estimand} the {n:,} {arm} count like {max(size, 1):,.0f}, so that few "
                "units carry it.",
            )


def _before(found: Evidence) -> Iterator[Doubt]:
    """Arms so unlike before any adjustment that an estimate rests on few units, or on a model."""
    balance = found.balance
    if balance is None or found.randomised or not balance.max_abs_smd_before > _UNLIKE / 2:
        return
    k = int(np.nanargmax(np.abs(balance.smd_before)))
    far = int((np.abs(balance.smd_before) > _UNLIKE / 2).sum())
    verb = "is" if far == 1 else "are"
    yield Doubt(
        balance.max_abs_smd_before > _UNLIKE,
        f"Arms unlike: before adjustment {far} of {balance.n_covariates} covariates {verb} more than "
        f"{_UNLIKE / 2:g} standard deviation apart, at worst {balance.covariate[k]} with "
        f"{format_number(round(balance.max_abs_smd_before, 2))}; the estimate rests on few units or on its model.",
    )


def _balance(found: Evidence) -> Iterator[Doubt]:
    balance = found.balance
    if balance is None or balance.balanced or not found.balance_of:
        return
    by = "The adjustment" if found.balance_of == "effect" else "Weights from the score, beside which the method models,"
    verb = "leaves" if found.balance_of == "effect" else "leave"
    yield Doubt(
        balance.max_abs_smd_after > _FAR_APART,
        f"Imbalance: {by} {verb} {balance.n_beyond} of {balance.n_covariates} covariates more than "
        f"{format_number(balance.threshold)} standard deviations apart, at worst {balance.worst} with "
        f"{format_number(round(balance.max_abs_smd_after, 3))}.",
    )


def _refutations(found: Evidence) -> Iterator[Doubt]:
    results = found.refutations
    for name, r, passed in zip(results.names, results.results, results.verdicts, strict=True):
        if not passed:
            yield Doubt(
                True,
                f"Failed refutation: {_plain(name)} finds {format_number(r.new_effect)} where "
                f"{format_number(r.expected)} is expected ({r.method}).",
            )


def _methods(found: Evidence) -> Iterator[Doubt]:
    """Methods whose estimates are further apart than the error of either."""
    others = _others(found)
    z = float(stats.norm.isf((1 - found.effect.confidence_level) / 2))
    apart = [
        (name, other)
        for name, other in others
        if abs(other.estimate - found.effect.estimate) > z * max(other.std_error, found.effect.std_error)
    ]
    if not apart:
        return
    apart.sort(key=lambda pair: -abs(pair[1].estimate - found.effect.estimate))
    named = ", ".join(f"{_plain(name)} {format_number(other.estimate)}" for name, other in apart[:3])
    yield Doubt(
        len(apart) > 1,
        f"Methods disagree: {len(apart)} of {len(others)} others are further from "
        f"{format_number(found.effect.estimate)} than their errors ({named}).",
    )


def _hidden_bias(found: Evidence) -> Iterator[Doubt]:
    """How little hidden bias would undo an effect; none of a design by chance.

    Severe where it would undo the estimate itself: that a little undoes the interval is so of any small sample.
    """
    s = found.sensitivity
    if found.randomised or not found.significant:
        return
    weak_gamma = math.isfinite(s.gamma) and s.gamma < _SMALL_GAMMA
    weak_cause = math.isfinite(s.strongest_times_ci) and s.strongest_times_ci < 1
    severe = weak_gamma and weak_cause and s.strongest_times < 1
    if weak_gamma or (math.isfinite(s.gamma) and s.gamma < _MODEST_GAMMA):
        what = "matched sets show no effect even without any"
        if s.gamma > 1:
            what = (
                f"gamma of matched sets is {s.gamma:.2f}; a hidden cause that changes the odds of treatment by "
                f"{s.gamma - 1:.0%} could explain what they show"
            )
        yield Doubt(severe, f"Hidden bias: {what}.")
    if weak_cause:
        what = "includes zero without any"
        if s.strongest_times_ci > 0:
            what = f"is undone by one {rounded_times(s.strongest_times_ci)} times as strong as {s.strongest}"
        yield Doubt(severe, f"Hidden causes: the interval of a linear regression {what}.")


def _units(found: Evidence) -> Iterator[Doubt]:
    e = found.effect
    asked = max(found.n_asked, e.n_dropped)
    if e.n_dropped > 0.01 * asked:
        yield Doubt(
            e.n_dropped > 0.5 * asked,
            f"Units left out: {e.n_dropped:,} of {asked:,} ({e.n_dropped / asked:.1%}) are trimmed or without a match; "
            "the effect is that of the rest.",
        )
    if found.n_clusters is not None and found.n_clusters < _FEW_CLUSTERS:
        yield Doubt(False, f"Few clusters: errors rest on {found.n_clusters}, and are too small with so few.")
    if min(e.n_treated, e.n_control) < _FEW_UNITS:
        yield Doubt(
            False,
            f"Few units: {e.n_treated:,} treated and {e.n_control:,} controls; errors and p-values are those of large "
            "samples.",
        )
    if e.share_clipped > 0.01:
        yield Doubt(False, f"Clipping: {e.share_clipped:.1%} of the propensities were moved to a bound.")
    if not math.isfinite(e.std_error):
        yield Doubt(False, f"No error: {short_method(e.method)} has none here.")
