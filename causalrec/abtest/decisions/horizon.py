"""How long to keep running: when the errors will be small enough, at the rate at which units come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import ndtri

from causalrec.abtest.decisions.reading import Reading, critical, smallest
from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.power.power import runtime_days
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN
from causalrec.results.answers import margins

SMALLEST, OBSERVED, NONE = "the smallest effect of interest", "the observed effect", "no true effect"
WIDTH = "an interval as narrow as the smallest effect of interest"


class Wait(NamedTuple):
    """How many times as many units are needed, and for what true effect."""

    factor: float
    assumed: str
    metric: str = ""


def wait_of(arm: Sequence[Reading], rule: DecisionRule) -> Wait:
    """Until an arm can be expected to be decided: its open guardrails, and as many primaries as must win."""
    waits = [_of_guardrail(r, rule.power) for r in arm if r.role == "guardrail" and r.status == "undecided"]
    primaries = [r for r in arm if r.role == "primary"]
    open_ones = [_of_primary(r, rule) for r in primaries if r.status == "undecided"]
    if rule.need == "all":
        waits += open_ones
    elif not any(r.status == "win" for r in primaries):
        known = [w for w in open_ones if math.isfinite(w.factor)]
        waits += [min(known, key=lambda w: w.factor)] if known else open_ones[:1]
    if not waits or any(math.isnan(w.factor) for w in waits):
        return Wait(NAN, "")
    return max(waits, key=lambda w: w.factor)


def _of_primary(reading: Reading, rule: DecisionRule) -> Wait:
    effect, metric = reading.effect, reading.effect.metric
    if effect.hypothesis in ("non-inferiority", "equivalence"):
        return _of_guardrail(reading, rule.power)
    size = rule.mde.get(metric)
    if size is None:
        return Wait(_factor(reading, reading.sign * effect.estimate, rule.power), OBSERVED, metric)
    target = smallest(effect, size)
    wait = Wait(_factor(reading, target, rule.power), SMALLEST, metric)
    if not wait.factor <= 1:
        return wait
    # By now it should have been seen. At the latest, the interval is too narrow to hold both it and zero.
    width = 2 * _limit(reading) * effect.std_error
    return Wait(later if (later := (width / target) ** 2) > 1 else NAN, WIDTH, metric)


def _of_guardrail(reading: Reading, power: float) -> Wait:
    effect = reading.effect
    least, most = margins(effect, relative=False)
    margin = min(abs(m) for m in (least, most) if not math.isnan(m))
    wait = Wait(_factor(reading, margin, power), NONE, effect.metric)
    if wait.factor <= 1:
        left = margin + reading.sign * effect.estimate if effect.hypothesis == "non-inferiority" else NAN
        wait = Wait(_factor(reading, left, power), OBSERVED, effect.metric)
    return wait


def _limit(reading: Reading) -> float:
    """The critical distance, corrected for the tests of the family as Bonferroni would."""
    effect = reading.effect
    size = (1 - effect.confidence_level) / (2 if effect.hypothesis == "two-sided" else 1)
    return critical(effect) * float(ndtri(size / reading.tests) / ndtri(size))


def _factor(reading: Reading, distance: float, power: float) -> float:
    """By how much the variance must shrink for that power at that distance from the null."""
    limit = _limit(reading)
    if not (distance > 0 and math.isfinite(limit)):
        return NAN
    return ((limit + float(ndtri(power))) * reading.effect.std_error / distance) ** 2


class Clock:
    """Units and days so far, and to come.

    Parameters
    ----------
    n_obs : int
    rule : DecisionRule
    days_run : float, optional
        Otherwise as many days as the units took to come at the rule's rate.

    Raises
    ------
    CausalRecError
        For days that are missing, infinite or negative.
    """

    def __init__(self, n_obs: int, rule: DecisionRule, days_run: float | None) -> None:
        if days_run is not None and not 0 <= days_run < math.inf:
            raise CausalRecError(f"days_run is {days_run}; expected the days so far, a number >= 0, or None.")
        self.n_obs, self.rule = n_obs, rule
        rate = rule.units_per_day
        if rate is None and days_run:
            rate = n_obs / days_run
        self._rate = rate
        self.days = days_run if days_run is not None else self._days_until(n_obs) if rate is not None else NAN

    def _days_until(self, n: float) -> float:
        if isinstance(self._rate, int | float):
            return n / self._rate
        return float(runtime_days(n, self._rate)) if self._rate is not None else NAN

    def days_for(self, more_units: float) -> float:
        """Whole days until so many more have come; NaN at an unknown rate."""
        if self._rate is None or not math.isfinite(more_units):
            return NAN
        if isinstance(self._rate, int | float):
            return float(math.ceil(more_units / self._rate))
        return self._days_until(self.n_obs + more_units) - self._days_until(self.n_obs)

    @property
    def per_day(self) -> str:
        """The rate in words; empty if it is not known."""
        if self._rate is None:
            return ""
        last = self._rate if isinstance(self._rate, int | float) else self._rate[-1]
        return f"{last:,.0f} units a day"

    @property
    def days_left(self) -> float:
        """Until the rule's last day; infinite without one, NaN where the days so far are not known."""
        return math.inf if self.rule.max_days is None else self.rule.max_days - self.days

    @property
    def is_early(self) -> bool:
        """Before the planned end."""
        return self.rule.n_planned is not None and self.n_obs < self.rule.n_planned

    @property
    def is_up(self) -> bool:
        """At the planned end, or after the last day."""
        planned = self.rule.n_planned is not None and not self.is_early
        return planned or self.days_left <= 0
