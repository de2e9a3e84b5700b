"""The reasons of a verdict as short sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from causalrec.abtest.decisions.horizon import NONE, OBSERVED, WIDTH, Clock, Wait
from causalrec.abtest.decisions.reading import BAYESIAN, Reading, both_ends, smallest
from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.results import format_number
from causalrec.results.answers import margins, relative_margins
from causalrec.results.base import pvalue_text, written_interval
from causalrec.results.decisions import two_digits


def wins(arm: Sequence[Reading]) -> Iterator[str]:
    """Of the primaries."""
    for r in arm:
        if r.role == "primary" and r.status == "win":
            yield f"{r.effect.metric} of {r.effect.treatment}: {r.row.size}, {_better(r)} than {_against(r)}{_p(r)}."


def no_harm(arm: Sequence[Reading]) -> Iterator[str]:
    """Of the guardrails that pass."""
    passed = [f"{r.effect.metric} ({r.row.size}; margin {_margin(r)})" for r in arm if r.status == "no harm shown"]
    if passed:
        are = "is" if len(passed) == 1 else "are"
        yield f"{_and(passed)} {are} shown to be worse by less than the margin, if at all."


def harm(readings: Sequence[Reading], *, early: bool = False) -> Iterator[str]:
    """Of the guardrails that are harmed."""
    for r in readings:
        if r.status == "harm":
            seen = ", though not at a planned look: if it hurts, stop for safety" if early else ""
            yield (
                f"{r.effect.metric} of {r.effect.treatment} is harmed: {_both(r)}, worse by more than the margin of "
                f"{_margin(r)}{seen}."
            )


def against(arm: Sequence[Reading], rule: DecisionRule, *, several: bool) -> Iterator[str]:
    """Why an arm does not ship."""
    yield from harm(arm)
    for r in arm:
        if r.role == "primary":
            yield from _against_primary(r, rule, several)
    open_ones = [r for r in arm if r.role == "guardrail" and r.status == "undecided"]
    for r in open_ones:
        yield f"{_name(r, several)} is not shown to be worse by less than {_margin(r)}: {r.row.size}."


def _against_primary(r: Reading, rule: DecisionRule, several: bool) -> Iterator[str]:
    name = _name(r, several)
    if r.status == "win":
        yield f"{name} is {_better(r)} ({r.row.size}){_p(r)}, but that does not decide alone."
    elif r.status == "loss":
        yield f"{name} is worse than {_against(r)}: {r.row.size}{_p(r)}."
    elif r.status == "too small":
        yield (
            f"{name}: {r.row.size}. The smallest effect of interest, {_mde(r, rule)}, lies outside the interval: it "
            "would have been seen."
        )
    else:
        yield f"{name} is not shown to be better: {r.row.size}{_p(r)}."


def undecided(arm: Sequence[Reading], rule: DecisionRule, *, several: bool) -> Iterator[str]:
    """What is still open, and what is not."""
    for r in arm:
        name = _name(r, several)
        if r.role == "primary" and r.status == "win":
            yield f"{name} is {_better(r)}: {r.row.size}{_p(r)}."
        elif r.role == "primary" and r.status == "undecided":
            within = ""
            if r.effect.metric in rule.mde and _open_to(r, rule):
                within = f"; {_mde(r, rule)}, the smallest effect of interest, is still possible"
            yield f"{name} is not settled: {r.row.size}{_p(r)}{within}."
        elif r.role == "primary":
            yield from _against_primary(r, rule, several)
        elif r.role == "guardrail" and r.status == "undecided":
            yield f"{name} is not yet shown to be worse by less than its margin of {_margin(r)}: {r.row.size}."


def how_long(wait: Wait, units: float, days: float, clock: Clock) -> Iterator[str]:
    """At the observed rate, and what that assumes."""
    if not math.isfinite(units):
        yield (
            "How long that takes cannot be said: the effect seen points the wrong way or is nil, and no smallest "
            "effect of interest is given (mde)."
        )
        return
    more = f"{two_digits(units)} more units"
    long = more if math.isnan(days) else f"about {days:,.0f} more days ({more} at {clock.per_day})"
    if wait.assumed == WIDTH:
        yield (
            f"After {long} the interval of {wait.metric} is too narrow to hold both no effect and the smallest "
            "effect of interest."
        )
    else:
        caution = {
            OBSERVED: "the true effect is as large as the observed one, which is optimistic",
            NONE: "it has no true effect there",
        }.get(wait.assumed, "the true effect is the smallest of interest")
        yield f"{wait.metric} can be expected to be settled after {long}, if {caution}."
    if clock.days_left < days:
        yield (
            f"Only {max(clock.days_left, 0):,.0f} days are left of {clock.rule.max_days:g}: it may well end undecided, "
            "and then the arm does not ship."
        )


def look_once_more(inference: str, rule: DecisionRule) -> Iterator[str]:
    """That a test at a fixed horizon is not extended for free."""
    if inference == "fixed horizon" and rule.n_planned is None:
        yield (
            "This was a fixed-horizon look. To extend such a test and look again raises false alarms: fix the new end "
            "now and decide there, or take inference='always_valid' from here on."
        )


def time_is_up(rule: DecisionRule, clock: Clock) -> str:
    """Why it is decided now."""
    if rule.n_planned is not None and not clock.is_early:
        return f"The planned end is reached ({clock.n_obs:,} of {rule.n_planned:,} units), and it is not shown."
    return f"The time is up ({clock.days:,.0f} of {rule.max_days:g} days), and it is not shown."


def best_of(best: str, rest: Sequence[str], tied: Sequence[str], metric: str) -> Iterator[str]:
    """Among several arms that pass."""
    if tied:
        yield f"{_and([best, *tied])} pass and cannot be told apart by {metric}: take the one that is cheapest to keep."
    elif rest:
        yield f"{best} is better than {_and(rest)} by {metric}."


def smaller_than_wished(arm: Sequence[Reading], rule: DecisionRule) -> Iterator[str]:
    """Of a win whose interval excludes the smallest effect of interest."""
    for r in arm:
        if r.role == "primary" and r.status == "win" and r.effect.metric in rule.mde and not _open_to(r, rule):
            moves = "rises" if r.sign > 0 else "falls"
            yield (
                f"{r.effect.metric} {moves}, but by less than {_mde(r, rule)}, the smallest effect of interest: is it "
                "worth keeping?"
            )


def failed_arms(names: Sequence[str]) -> Iterator[str]:
    """The other arms."""
    if names:
        yield f"{_and(names)} {'does' if len(names) == 1 else 'do'} not pass."


def others(arm: Sequence[Reading]) -> Iterator[str]:
    """What else moved, which explains and does not decide: up or down, whichever of them is better."""
    several = len({r.effect.treatment for r in arm}) > 1
    shown = [r for r in arm if r.role == "secondary" and r.status in ("win", "loss")]
    for words, higher in (("higher", True), ("lower", False)):
        found = [f"{_name(r, several)} ({r.row.size})" for r in shown if (r.effect.estimate > 0) == higher]
        if found:
            yield f"Also {words}, though it does not decide: {_and(found)}."


def may_stop(inference: str, clock: Clock, rule: DecisionRule) -> Iterator[str]:
    """Why now is a good moment."""
    if inference == "always valid":
        yield "You may stop now: the intervals hold however often one looks."
    elif inference == "group sequential":
        yield "The bound of this look is crossed, so you may stop now."
    elif inference == "fixed horizon" and rule.n_planned is not None and not clock.is_early:
        yield f"This is the planned end ({clock.n_obs:,} of {rule.n_planned:,} units)."


def _both(r: Reading) -> str:
    """The effect with both ends: the one that the hypothesis leaves open is the one that shows harm."""
    percent = math.isfinite(r.effect.relative_effect) and r.effect.control_mean > 0
    value = r.effect.relative_effect if percent else r.effect.estimate
    return written_interval(value, *both_ends(r.effect, relative=percent), percent=percent, words=True)


def _open_to(r: Reading, rule: DecisionRule) -> bool:
    """Whether the smallest effect of interest is still possible."""
    size = rule.mde[r.effect.metric]
    relative = "relative" in size and r.effect.control_mean > 0
    low, high = both_ends(r.effect, relative=relative)
    return (high if r.sign > 0 else -low) >= (size["relative"] if relative else smallest(r.effect, size))


def _mde(r: Reading, rule: DecisionRule) -> str:
    size = rule.mde[r.effect.metric]
    sign = "+" if r.sign > 0 else "−"
    return f"{sign}{100 * size['relative']:.4g}%" if "relative" in size else f"{sign}{format_number(size['absolute'])}"


def _margin(r: Reading) -> str:
    relative = relative_margins(r.effect)
    found = [abs(m) for m in margins(r.effect, relative=relative) if not math.isnan(m)]
    return f"{100 * found[0]:.4g}%" if relative else format_number(found[0])


def _better(r: Reading) -> str:
    if r.effect.hypothesis == "non-inferiority":
        return f"worse by less than {_margin(r)}, if at all,"
    if r.effect.hypothesis == "equivalence":
        return f"within ±{_margin(r)}"
    return "higher" if r.sign > 0 else "lower"


def _against(r: Reading) -> str:
    return r.effect.control


def _p(r: Reading) -> str:
    if r.effect.inference == BAYESIAN or math.isnan(r.adjusted):
        return ""
    return f" ({pvalue_text(r.adjusted)}{f', corrected for {r.tests} tests' if r.tests > 1 else ''})"


def _name(r: Reading, several: bool) -> str:
    return f"{r.effect.metric} of {r.effect.treatment}" if several else r.effect.metric


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
