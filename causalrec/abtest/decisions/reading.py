"""How a rule reads one effect: which way is better, and whether better, worse or too small is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.inference import upper_quantile
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, ABResult, ExperimentResult, PosteriorResult, RoleResult
from causalrec.results.answers import margins, relative_margins

BAYESIAN = "Bayesian"
_FIXED = "fixed horizon"


@dataclass(frozen=True)
class Reading:
    """An effect in its role.

    Attributes
    ----------
    sign : int
        1 where higher is better, -1 where lower is.
    tests : int
        In its family; ``adjusted`` is corrected for so many.
    """

    effect: ABResult
    role: str
    sign: int
    adjusted: float
    tests: int
    status: str

    @property
    def row(self) -> RoleResult:
        """For the table of a verdict."""
        e = self.effect
        return RoleResult(
            metric=e.metric, role=self.role, arm=e.treatment, status=self.status, hypothesis=e.hypothesis,
            effect=e.estimate, ci_low=e.ci_low, ci_high=e.ci_high, relative_effect=e.relative_effect,
            relative_ci_low=e.relative_ci_low, relative_ci_high=e.relative_ci_high, pvalue=e.pvalue,
            adjusted_pvalue=self.adjusted,
        )  # fmt: skip

    @property
    def key(self) -> tuple[str, str]:
        """Metric and arm."""
        return self.effect.metric, self.effect.treatment


def read_effects(result: ExperimentResult, rule: DecisionRule, posteriors: Sequence[PosteriorResult]) -> list[Reading]:
    """Every effect that has a role: primaries, guardrails, secondaries."""
    beliefs = {p.metric: p for p in posteriors}
    readings = [
        Reading(e, role, better_side(e, rule), NAN, 1, "undecided")
        for role in ("primary", "guardrail", "secondary")
        for e in result.effects
        if rule.role(e.metric) == role
    ]
    return [
        replace(r, status=_status(r, rule, beliefs.get(r.effect.metric))) for r in _corrected(readings, rule)
    ]  # fmt: skip


def better_side(effect: ABResult, rule: DecisionRule) -> int:
    """1 where higher is better, -1 where lower is: by the hypothesis, else by the rule."""
    if effect.hypothesis == "less" or (effect.hypothesis == "non-inferiority" and math.isnan(effect.margin_low)):
        return -1
    return -1 if effect.metric in rule.lower_is_better else 1


def critical(effect: ABResult) -> float:
    """The distance in standard errors beyond which the effect's own test rejects, uncorrected."""
    size = 1 - effect.confidence_level
    if effect.inference == _FIXED:
        return upper_quantile(size / 2 if effect.hypothesis == "two-sided" else size, effect.df)
    ends = [abs(end - effect.estimate) for end in (effect.ci_low, effect.ci_high) if math.isfinite(end)]
    return max(ends) / effect.std_error if ends and effect.std_error > 0 else NAN


def both_ends(effect: ABResult, *, relative: bool = False) -> tuple[float, float]:
    """The interval; an open end is where the same one-sided test in the other direction puts it."""
    value, low, high = (
        (effect.relative_effect, effect.relative_ci_low, effect.relative_ci_high) if relative
        else (effect.estimate, effect.ci_low, effect.ci_high)
    )  # fmt: skip
    if math.isinf(low) and math.isfinite(high):
        low = 2 * value - high
    elif math.isinf(high) and math.isfinite(low):
        high = 2 * value - low
    return low, high


def smallest(effect: ABResult, size: Mapping[str, float]) -> float:
    """The smallest effect of interest in the metric's unit."""
    return size["relative"] * abs(effect.control_mean) if "relative" in size else size["absolute"]


def _corrected(readings: Sequence[Reading], rule: DecisionRule) -> list[Reading]:
    """With p-values corrected within each family; beliefs are not corrected."""
    families: dict[tuple[str, ...], dict[int, float]] = {}
    for k, reading in enumerate(readings):
        families.setdefault(_family(reading, rule), {})[k] = reading.effect.pvalue
    found = list(readings)
    for family in families.values():
        plain = rule.correction == "none" or readings[next(iter(family))].effect.inference == BAYESIAN
        adjusted = family if plain else adjust_pvalues(family, rule.correction)
        tests = 1 if plain else sum(not math.isnan(p) for p in family.values())
        for k, p in adjusted.items():
            found[k] = replace(readings[k], adjusted=p, tests=max(tests, 1))
    return found


def _family(reading: Reading, rule: DecisionRule) -> tuple[str, ...]:
    """What is corrected together: tests of which all must reject are not."""
    apart = reading.role == "guardrail" or (reading.role == "primary" and rule.need == "all")
    metric = reading.effect.metric if apart or "metrics" not in rule.over else ""
    return reading.role, metric, "" if "variants" in rule.over else reading.effect.treatment


def _status(reading: Reading, rule: DecisionRule, belief: PosteriorResult | None) -> str:
    if reading.role == "guardrail":
        if _harmed(reading):
            return "harm"
        return "no harm shown" if _shown(reading) else "undecided"
    decided = belief is not None and reading.effect.inference == BAYESIAN and not math.isnan(belief.loss_threshold)
    status = _by_loss(reading, belief) if decided and belief is not None else _by_test(reading)
    size = rule.mde.get(reading.effect.metric)
    if status == "undecided" and size is not None and _too_small(reading, size):
        return "too small"
    return status


def _by_test(reading: Reading) -> str:
    effect = reading.effect
    if effect.hypothesis == "two-sided":
        if not _shown(reading):
            return "undecided"
        return "win" if reading.sign * effect.estimate > 0 else "loss"
    return "win" if _shown(reading) else "loss" if _harmed(reading) else "undecided"


def _by_loss(reading: Reading, belief: PosteriorResult) -> str:
    """Choosing the arm, or control, is expected to cost less than one cares about."""
    if belief.higher_is_better != (reading.sign > 0):
        raise CausalRecError(
            f"{belief.metric}: the posterior takes {'higher' if belief.higher_is_better else 'lower'} values as "
            "better, the rule the other ones. Set the rule's lower_is_better to what is meant."
        )
    if not belief.can_stop:
        return "undecided"
    if belief.best == belief.control:
        return "loss"
    arm = belief.arms.index(reading.effect.treatment)
    return "win" if belief.expected_loss[arm] < belief.loss_threshold else "loss"


def _shown(reading: Reading) -> bool:
    """Whether the effect's own null is rejected, corrected; by the interval where there is no p-value."""
    effect = reading.effect
    if not math.isnan(reading.adjusted) and effect.inference != BAYESIAN:
        return reading.adjusted < 1 - effect.confidence_level
    low, high = both_ends(effect)
    if effect.hypothesis in ("non-inferiority", "equivalence"):
        least, most = margins(effect, relative=False)
        return (math.isnan(least) or low > least) and (math.isnan(most) or high < most) and not math.isnan(low)
    side = {"greater": 1, "less": -1}.get(effect.hypothesis)
    return (low > 0 and side != -1) or (high < 0 and side != 1)


def _harmed(reading: Reading) -> bool:
    """Whether the same test in the other direction rejects: the effect is beyond the margin, or on the wrong side."""
    effect, limit = reading.effect, critical(reading.effect)
    if effect.hypothesis == "equivalence":
        relative = relative_margins(effect)
        low, high = both_ends(effect, relative=relative)
        least, most = margins(effect, relative=relative)
        return high < least or low > most
    if math.isfinite(effect.statistic) and effect.inference != BAYESIAN:
        return reading.sign * effect.statistic < -limit
    low, high = both_ends(effect)
    least, most = margins(effect, relative=False)
    null = 0.0 if effect.hypothesis != "non-inferiority" else least if reading.sign > 0 else most
    return high < null if reading.sign > 0 else low > null


def _too_small(reading: Reading, size: Mapping[str, float]) -> bool:
    """Whether the interval excludes every effect of interest."""
    effect = reading.effect
    relative = "relative" in size and effect.control_mean > 0
    low, high = both_ends(effect, relative=relative)
    best = high if reading.sign > 0 else -low
    return best < (size["relative"] if relative else smallest(effect, size))
