"""The verdict: ship, don't ship, keep running, or broken, with reasons that a product manager reads in a minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import ndtri

from causalrec._validation import list_some
from causalrec.abtest.decisions import reasons
from causalrec.abtest.decisions.horizon import Clock, Wait, wait_of
from causalrec.abtest.decisions.reading import BAYESIAN, Reading, critical, read_effects
from causalrec.abtest.decisions.rule import DecisionRule, correction_name
from causalrec.abtest.decisions.trust import faults
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, AAResult, ExperimentResult, PosteriorResult, VerdictResult
from causalrec.results.decisions import PLANNED_END

_FIXED = "fixed horizon"


class _Case(NamedTuple):
    """What a verdict is made of."""

    readings: tuple[Reading, ...]
    rule: DecisionRule
    clock: Clock
    inference: str

    def of(self, arm: str) -> tuple[Reading, ...]:
        return tuple(r for r in self.readings if r.effect.treatment == arm)

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(r.effect.treatment for r in self.readings))


class _Call(NamedTuple):
    verdict: str
    reasons: tuple[str, ...]
    arm: str = ""
    tied: tuple[str, ...] = ()
    units: float = NAN
    days: float = NAN
    assumed: str = ""


def decide_experiment(
    result: ExperimentResult,
    rule: DecisionRule,
    *,
    posteriors: Sequence[PosteriorResult] | None = None,
    aa: Sequence[AAResult] = (),
    days_run: float | None = None,
    n_conflicting: int = 0,
) -> VerdictResult:
    """Apply a rule to what an experiment found.

    1. Broken, if the arms do not have their designed sizes, differed before, or an A/A test fails.
    2. Keep running, if a fixed-horizon test has not come to its planned end: looking earlier raises false alarms.
    3. Ship, if an arm wins on its primaries (corrected), loses on none, and no guardrail is harmed by more than its
       margin, each shown. Of several the best; those that cannot be told from it are named.
    4. Don't ship, if no arm can pass any more: a guardrail is harmed, a primary has fallen, or the interval excludes
       the smallest effect of interest; or if the time is up.
    5. Keep running otherwise, and how long: until the arm can be expected to be decided at the rule's power if the true
       effect is the smallest of interest, or without one the observed effect, which is optimistic; for a guardrail if
       there is no true effect. Errors shrink with the root of the units.

    Parameters
    ----------
    result : ExperimentResult
    rule : DecisionRule
    posteriors : sequence of PosteriorResult, optional
        Those of ``result`` by default. Where one has a loss threshold, its primary is won by expected loss, not by its
        interval.
    aa : sequence of AAResult
        Of :func:`simulate_aa`.
    days_run : float, optional
        Otherwise computed from the units and the rule's units per day.
    n_conflicting : int
        Units that were dropped since they were in several arms.

    Raises
    ------
    CausalRecError
        For a rule that does not go with the metrics of the result; see :meth:`DecisionRule.check`.

    Examples
    --------
    >>> from causalrec.abtest import NonInferiority, welch_test
    >>> from causalrec.results import ExperimentResult
    >>> minutes = welch_test(30.0, 400.0, 9_000, 31.2, 400.0, 9_000, metric="minutes")
    >>> no_worse = NonInferiority(0.02, higher_is_better=False)
    >>> crashes = welch_test(0.1, 0.09, 9_000, 0.101, 0.09, 9_000, metric="crashes", hypothesis=no_worse)
    >>> result = ExperimentResult(18_000, 0.95, (minutes, crashes))
    >>> decide_experiment(result, DecisionRule("minutes", guardrails="crashes")).headline
    'Ship treatment'
    """
    rule.check({e.metric: e.hypothesis for e in result.effects})
    beliefs = result.posteriors if posteriors is None else posteriors
    inferences = list(dict.fromkeys(e.inference for e in result.effects if rule.role(e.metric)))
    if len(inferences) != 1:
        raise CausalRecError(
            f"found effects by {list_some(inferences)}; a verdict takes all from one analysis: exp.analyze(data)."
        )
    readings = tuple(read_effects(result, rule, beliefs))
    case = _Case(readings, rule, Clock(result.n_obs, rule, days_run), inferences[0])
    broken = tuple(faults(result, rule, aa, n_conflicting))
    call = _Call("broken", broken) if broken else _early(case) if _is_early(case) else _decided(case)
    return VerdictResult(
        verdict=call.verdict, arm=call.arm, n_obs=result.n_obs, confidence_level=result.confidence_level,
        inference=case.inference, correction=rule.correction, more_units=call.units, more_days=call.days,
        assumed=call.assumed, method=_method(case), tied=call.tied, reasons=call.reasons,
        rows=tuple(r.row for r in readings),
    )  # fmt: skip


def _is_early(case: _Case) -> bool:
    return case.inference == _FIXED and case.clock.is_early and not case.clock.days_left <= 0


def _early(case: _Case) -> _Call:
    planned, clock = case.rule.n_planned or 0, case.clock
    units = float(planned - clock.n_obs)
    days = clock.days_for(units)
    said = (
        f"{clock.n_obs:,} of the {planned:,} planned units have come ({clock.n_obs / planned:.0%}). A fixed-horizon "
        "test is looked at once, at its end: stopping at a good moment before raises false alarms. Always valid and "
        "group-sequential inference may be looked at earlier.",
        *reasons.harm(case.readings, early=True),
    )
    return _Call("keep running", said, units=units, days=days, assumed=PLANNED_END)


def _decided(case: _Case) -> _Call:
    passing = [arm for arm in case.arms if _passes(case.of(arm), case.rule)]
    if passing:
        return _ship(case, passing)
    still = [arm for arm in case.arms if not _fails(case.of(arm), case.rule)]
    if still and not case.clock.is_up:
        return _keep_running(case, still)
    why = [line for arm in case.arms for line in reasons.against(case.of(arm), case.rule, several=len(case.arms) > 1)]
    if still:
        why.insert(0, reasons.time_is_up(case.rule, case.clock))
    return _Call("don't ship", (*why, *reasons.others(case.readings)))


def _primaries(arm: Sequence[Reading]) -> list[str]:
    return [r.status for r in arm if r.role == "primary"]


def _passes(arm: Sequence[Reading], rule: DecisionRule) -> bool:
    statuses = _primaries(arm)
    wins = [status == "win" for status in statuses]
    enough = all(wins) if rule.need == "all" else any(wins)
    return enough and "loss" not in statuses and all(r.status == "no harm shown" for r in arm if r.role == "guardrail")


def _fails(arm: Sequence[Reading], rule: DecisionRule) -> bool:
    """Whether it cannot pass any more."""
    if any(r.status == "harm" for r in arm) or "loss" in _primaries(arm):
        return True
    small = [status == "too small" for status in _primaries(arm)]
    return any(small) if rule.need == "all" else all(small)


def _ship(case: _Case, passing: list[str]) -> _Call:
    def lift(arm: str) -> float:
        first = next(r for r in case.of(arm) if r.role == "primary")
        return first.sign * first.effect.estimate

    best, *rest = sorted(passing, key=lift, reverse=True)
    pairs = len(passing) * (len(passing) - 1) // 2
    tied = tuple(arm for arm in rest if not _told_apart(case, best, arm, pairs))
    arm = case.of(best)
    said = (
        *reasons.wins(arm),
        *reasons.no_harm(arm),
        *reasons.best_of(best, rest, tied, case.rule.primaries[0]),
        *reasons.smaller_than_wished(arm, case.rule),
        *reasons.failed_arms([a for a in case.arms if a not in passing]),
        *reasons.others(arm),
        *reasons.may_stop(case.inference, case.clock, case.rule),
    )
    return _Call("ship", said, arm=best, tied=tied)


def _told_apart(case: _Case, best: str, other: str, pairs: int) -> bool:
    """Whether the first primary differs between two treatments, corrected for the pairs of arms that pass.

    Each arm's error is its own; a covariance by shared covariates or strata is not known here and left out.
    """
    one, two = (next(r.effect for r in case.of(arm) if r.role == "primary") for arm in (best, other))
    error = math.hypot(one.treatment_std_error, two.treatment_std_error)
    limit = _two_sided(critical(one), one.hypothesis, 1 - one.confidence_level, pairs)
    return error > 0 and abs(one.treatment_mean - two.treatment_mean) > limit * error


def _two_sided(limit: float, hypothesis: str, size: float, tests: int) -> float:
    """A critical distance as that of a two-sided test of so many."""
    own = size / 2 if hypothesis == "two-sided" else size
    return limit * float(ndtri(size / 2 / tests) / ndtri(own))


def _keep_running(case: _Case, still: list[str]) -> _Call:
    waits = {arm: wait_of(case.of(arm), case.rule) for arm in still}
    known = {arm: wait for arm, wait in waits.items() if math.isfinite(wait.factor)}
    arm = min(known, key=lambda a: known[a].factor) if known else still[0]
    wait = known.get(arm, Wait(NAN, ""))
    units = math.ceil(case.clock.n_obs * (wait.factor - 1)) if math.isfinite(wait.factor) else NAN
    days = case.clock.days_for(units)
    said = (
        *reasons.undecided(case.of(arm), case.rule, several=len(case.arms) > 1),
        *reasons.how_long(wait, units, days, case.clock),
        *reasons.look_once_more(case.inference, case.rule),
        *reasons.failed_arms([a for a in case.arms if a not in still]),
        *reasons.others(case.of(arm)),
    )
    if case.clock.days_left < days:
        days = math.ceil(case.clock.days_left)
    return _Call("keep running", said, units=float(units), days=float(days), assumed=wait.assumed)


def _method(case: _Case) -> str:
    primaries = [r for r in case.readings if r.role == "primary"]
    tests = max(r.tests for r in primaries)
    corrected = f", corrected for {tests} tests ({correction_name(case.rule.correction)})" if tests > 1 else ""
    early = " Stopping early by beliefs raises the rate of false alarms." if case.inference == BAYESIAN else ""
    return f"{case.inference[0].upper()}{case.inference[1:]} inference{corrected}; roles were fixed by the rule.{early}"
