"""One look at a running experiment: every comparison, what it has answered so far, and whether to stop."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from causalrec._validation import list_some
from causalrec.abtest.aggregates import ALL, UNTRIGGERED, Aggregates
from causalrec.abtest.collected import check_collected, checked_arms
from causalrec.abtest.comparisons import Question, compare, pair_cells
from causalrec.abtest.estimation.scores import Names
from causalrec.abtest.inference import FixedHorizon, Inference, upper_tail
from causalrec.abtest.metrics import Metric, SampleRatio
from causalrec.abtest.sequential.group_plan import GroupPlan
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.sample_ratio import sequential_sample_ratio
from causalrec.abtest.sequential.stagewise import stagewise_analysis
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.results import NAN, ABResult, MonitorResult, StagewiseResult, format_level
from causalrec.results.answers import answer_words
from causalrec.results.base import pvalue_text

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment

_DONE = ("rejected", "futile", "not shown")


@dataclass(frozen=True)
class Rules:
    """How an experiment is monitored."""

    experiment: Experiment
    inference: Inference | GroupPlan
    primary: tuple[str, ...]  # empty: every metric decides, at its own error
    stop_when: str

    def decides(self, metric: str) -> bool:
        """Whether a metric counts for the decision."""
        return not self.primary or metric in self.primary

    def alpha(self, metric: str, n_arms: int) -> float:
        """The error of a comparison, an equal share of the whole among those of primary metrics."""
        alpha = 1 - float(self.experiment.confidence_level)
        return alpha / (len(self.primary) * n_arms) if metric in self.primary else alpha


@dataclass(frozen=True)
class _Standing:
    """A comparison at a look."""

    effect: ABResult | None
    fixed: ABResult | None
    bound: float
    spent: float
    pvalue: float
    state: str
    answer: str
    since: int
    stopped: StagewiseResult | None = None
    note: str = ""


def units_by_arm(aggregates: Aggregates) -> dict[Hashable, int]:
    """Units of each arm, those that did not trigger included."""
    counts: dict[Hashable, int] = {}
    for dimension in (ALL, UNTRIGGERED):
        for (arm, _), cell in aggregates.cells.get(dimension, {}).items():
            counts[arm] = counts.get(arm, 0) + cell.n
    return counts


def look_at(
    rules: Rules, aggregates: Aggregates, before: MonitorResult | None, *, label: str, final: bool
) -> MonitorResult:
    """The status after one more look.

    Raises
    ------
    CausalRecError
        For aggregates of another experiment, a look without new units, arms that were not there at the first look, or
        a group-sequential plan that has ended.
    """
    experiment = rules.experiment
    check_collected(experiment, aggregates)
    labels = {str(arm): arm for arm in checked_arms(experiment, aggregates)}
    control, *seen = labels
    keys = _comparisons(rules, seen, before)
    n = sum(units_by_arm(aggregates).values())
    inference = _inference_at(rules.inference, n, before, final=final)
    found = []
    for k, (metric, treatment) in enumerate(keys):
        alpha = rules.alpha(metric, len({arm for _, arm in keys}))
        last = None if before is None else _standing_of(before, k)
        names = Names(metric, control, treatment)
        found.append(_stand(rules, aggregates, names, labels, inference, alpha, last, look=_number(before)))
    return _collected(rules, keys, found, aggregates, before, inference, label=label, control=control)


def _number(before: MonitorResult | None) -> int:
    return 1 if before is None else before.look + 1


def _comparisons(rules: Rules, seen: Sequence[str], before: MonitorResult | None) -> list[tuple[str, str]]:
    """Each metric of each arm, as at the first look."""
    if before is None:
        metrics = [name for name, metric in rules.experiment.metrics.items() if isinstance(metric, Metric)]
        designed = [str(arm) for arm in rules.experiment._designed_shares() if arm != rules.experiment.control]
        return [(metric, arm) for metric in metrics for arm in dict.fromkeys([*designed, *seen])]
    keys = list(zip(before.metric.tolist(), before.treatment.tolist(), strict=True))
    new = [arm for arm in seen if arm not in {known for _, known in keys}]
    if new:
        raise TreatmentError(
            f"the arms {list_some(new)} were not there at the first look, when the error was shared among "
            f"{list_some(dict.fromkeys(arm for _, arm in keys))}. Name all arms from the start by SampleRatio(weights)."
        )
    return keys


def _inference_at(inference: Inference | GroupPlan, n: int, before: MonitorResult | None, *, final: bool) -> Inference:
    previous = [] if before is None else before.units.tolist()
    if previous and n < previous[-1]:
        raise CausalRecError(
            f"found {n:,} units where the last look had {previous[-1]:,}; a look is at everything so far. Pass a day "
            "by itself to update()."
        )
    if not isinstance(inference, GroupPlan):
        if final:
            raise CausalRecError("final=True is for a GroupPlan; looks of this inference are all alike.")
        return inference
    if before is not None and before.fraction >= 1:
        raise CausalRecError(
            f"the plan ended at look {before.look} with {before.n_obs:,} of {before.n_max:,.0f} units; there is no "
            "error left to spend. Read the status, and plan another experiment for another question."
        )
    if previous and n == previous[-1]:
        raise CausalRecError(f"there are {n:,} units, as at the last look; a look needs new ones. Wait for them.")
    return inference.at(n, previous, final=final)


def _standing_of(before: MonitorResult, k: int) -> _Standing:
    pick = {name: getattr(before, name)[k] for name in ("spent", "pvalue", "state", "answer", "since")}
    return _Standing(
        None, None, NAN, float(pick["spent"]), float(pick["pvalue"]), str(pick["state"]), str(pick["answer"]),
        int(pick["since"]),
    )  # fmt: skip


def _stand(
    rules: Rules,
    aggregates: Aggregates,
    names: Names,
    labels: Mapping[str, Hashable],
    inference: Inference,
    alpha: float,
    last: _Standing | None,
    *,
    look: int,
) -> _Standing:
    """A comparison at this look, given how it stood before."""
    metric: Any = rules.experiment.metrics[names.metric]
    question = Question(rules.experiment.hypothesis, 1 - alpha, rules.experiment.relative, inference)
    try:
        if names.treatment not in labels:
            raise OutcomeError(f"{names.metric}: arm {names.treatment!r} has no units yet.")
        cells = pair_cells(aggregates.cells[ALL], labels[names.control], labels[names.treatment], names.metric)
        effect = compare(metric, names, cells, question)
        fixed = compare(metric, names, cells, replace(question, inference=FixedHorizon()))
    except OutcomeError as error:
        waiting = _Standing(None, None, NAN, NAN, NAN, "unknown", "no answer yet", 0)
        return replace(last or waiting, note=f"look {look}: {error}")
    pvalue = float(np.nanmin([effect.pvalue, NAN if last is None else last.pvalue, math.inf]))
    bound, spent = _bound(effect, inference, alpha)
    now = _Standing(effect, fixed, bound, spent, pvalue if math.isfinite(pvalue) else NAN, "open", "no answer yet", 0)
    if last is not None and last.state in _DONE and not (last.state == "futile" and effect.significant):
        kept = last if last.state == "futile" else replace(last, pvalue=now.pvalue)
        return replace(kept, effect=effect, fixed=fixed, bound=bound)
    return _answered(now, effect, inference, alpha, look)


def _sides(effect: ABResult) -> int:
    return 2 if effect.hypothesis == "two-sided" else 1


def _bound(effect: ABResult, inference: Inference, alpha: float) -> tuple[float, float]:
    """The bound at this look in standard errors, and what is spent of the error (NaN: nothing is)."""
    if isinstance(inference, GroupSequential):
        solved = inference.solve(alpha, two_sided=_sides(effect) == 2)
        return solved.upper[-1], _sides(effect) * solved.spent[-1]
    ends = [abs(end - effect.estimate) for end in (effect.ci_low, effect.ci_high) if math.isfinite(end)]
    return (max(ends) / effect.std_error if ends and effect.std_error > 0 else NAN), NAN


def _answered(now: _Standing, effect: ABResult, inference: Inference, alpha: float, look: int) -> _Standing:
    """The same with its answer, if it has one."""
    ended = isinstance(inference, GroupSequential) and inference.ended
    futile = isinstance(inference, GroupSequential) and _gave_up(effect, inference, alpha)
    if math.isnan(effect.pvalue):
        return replace(now, state="unknown", answer="not tested")
    if not (effect.significant or futile or ended):
        return now
    if effect.significant:
        now = replace(now, state="rejected", answer=answer_words(effect), since=look)
    elif ended:
        now = replace(now, state="not shown", answer=answer_words(effect), since=look)
    else:
        now = replace(now, state="futile", answer="given up: too little to be shown by the end", since=look)
    if isinstance(inference, GroupSequential):
        with suppress(CausalRecError):  # equivalence, and two sides with binding futility, have no stagewise order
            return replace(now, stopped=stagewise_analysis(effect, inference))
    return now


def _gave_up(effect: ABResult, inference: GroupSequential, alpha: float) -> bool:
    """Whether the statistic is at the bound for futility or below (with two sides: nearer to zero)."""
    if inference.futility is None or effect.hypothesis == "equivalence" or math.isnan(effect.statistic):
        return False
    floor = inference.futility_bound(alpha, two_sided=_sides(effect) == 2)
    z = abs(effect.statistic)
    if math.isfinite(effect.df):
        z = -float(ndtri(upper_tail(z, effect.df)))
    if _sides(effect) == 2:
        return bool(z <= floor)
    downwards = effect.hypothesis == "less" or (
        effect.hypothesis == "non-inferiority" and math.isfinite(effect.ci_high)
    )
    return bool((-1 if downwards else 1) * math.copysign(z, effect.statistic) <= floor)


def _collected(
    rules: Rules,
    keys: Sequence[tuple[str, str]],
    found: Sequence[_Standing],
    aggregates: Aggregates,
    before: MonitorResult | None,
    inference: Inference,
    *,
    label: str,
    control: str,
) -> MonitorResult:
    look, n = _number(before), sum(units_by_arm(aggregates).values())
    split = _split_pvalue(rules.experiment, aggregates, before)
    threshold = max((d.threshold for d in _designs(rules.experiment)), default=0.0)
    mismatch = (before is not None and before.split_mismatch) or split < threshold
    decides = [rules.decides(metric) for metric, _ in keys]
    states = [each.state for each, counts in zip(found, decides, strict=True) if counts]
    decision, reason = _decision(states, rules.stop_when, split if mismatch else NAN)
    plan = rules.inference if isinstance(rules.inference, GroupPlan) else None
    fraction = n / plan.n_max if plan else NAN
    if isinstance(inference, GroupSequential) and inference.final:
        fraction = max(fraction, 1.0)
    arms = len({arm for _, arm in keys})
    kept = () if before is None else before.stopped
    return MonitorResult(
        decision=decision, reason=reason, look=look, label=label, n_obs=n, n_max=float(plan.n_max) if plan else NAN,
        fraction=fraction, inference=inference.name, stop_when=rules.stop_when,
        confidence_level=float(rules.experiment.confidence_level), split_pvalue=split, split_mismatch=bool(mismatch),
        control=control, effects=tuple(each.effect for each in found if each.effect is not None),
        stopped=_stopped(kept, found), notes=tuple(_notes(rules, keys, found)),
        labels=(*(() if before is None else before.labels), label),
        units=np.array([*(() if before is None else before.units.tolist()), n], dtype=np.int64),
        metric=np.array([metric for metric, _ in keys]), treatment=np.array([arm for _, arm in keys]),
        decides=np.array(decides), alpha=np.array([rules.alpha(metric, arms) for metric, _ in keys]),
        **{name: np.array([getattr(each, name) for each in found]) for name in ("spent", "pvalue", "state", "answer")},
        since=np.array([each.since for each in found], dtype=np.int64), **_rows(found, before, look),
    )  # fmt: skip


def _stopped(kept: Sequence[StagewiseResult], found: Sequence[_Standing]) -> tuple[StagewiseResult, ...]:
    """Of all comparisons that have stopped; one that was given up and then rejected has the later one."""
    new = [each.stopped for each in found if each.stopped is not None]
    again = {(each.metric, each.treatment) for each in new}
    return (*(each for each in kept if (each.metric, each.treatment) not in again), *new)


def _rows(found: Sequence[_Standing], before: MonitorResult | None, look: int) -> dict[str, Any]:
    """The history with this look's rows, column by column."""
    here = [(k, each) for k, each in enumerate(found) if each.effect is not None and each.fixed is not None]
    columns: dict[str, list[Any]] = {"row_comparison": [k for k, _ in here], "row_look": [look] * len(here)}
    for name, of in (
        ("estimate", "estimate"), ("std_error", "std_error"), ("statistic", "statistic"), ("ci_low", "ci_low"),
        ("ci_high", "ci_high"), ("look_pvalue", "pvalue"),
    ):  # fmt: skip
        columns[name] = [getattr(each.effect, of) for _, each in here]
    columns |= {f"fixed_{end}": [getattr(each.fixed, f"ci_{end}") for _, each in here] for end in ("low", "high")}
    columns["bound"] = [each.bound for _, each in here]
    kinds = {name: np.int64 if name.startswith("row_") else np.float64 for name in columns}
    old = {name: [] if before is None else getattr(before, name) for name in columns}
    return {name: np.array([*old[name], *column], dtype=kinds[name]) for name, column in columns.items()}


def _designs(experiment: Experiment) -> list[SampleRatio]:
    return [metric for metric in experiment.metrics.values() if isinstance(metric, SampleRatio)]


def _split_pvalue(experiment: Experiment, aggregates: Aggregates, before: MonitorResult | None) -> float:
    """The smallest so far; NaN where no split was designed."""
    counts = units_by_arm(aggregates)
    found = [sequential_sample_ratio(counts, design.weights).pvalue for design in _designs(experiment)]
    if not found:
        return NAN
    return min([*found, 1.0 if before is None or math.isnan(before.split_pvalue) else before.split_pvalue])


def _decision(states: Sequence[str], stop_when: str, broken: float) -> tuple[str, str]:
    """Stop or continue, and why."""
    if not math.isnan(broken):
        return "stop", (
            f"the arms do not have the sizes that were designed ({pvalue_text(broken)}). Find the fault before you "
            "read any effect"
        )
    rejected, done = sum(state == "rejected" for state in states), sum(state in _DONE for state in states)
    n, s = len(states), "" if len(states) == 1 else "s"
    if done == n:
        if n == 1:
            return "stop", {
                "rejected": "the question is answered", "futile": "an answer by the end is unlikely",
                "not shown": "the plan has ended",
            }[states[0]]  # fmt: skip
        return "stop", f"all {n} comparisons that decide are done, {rejected} of them with what they were to show"
    if stop_when == "any" and rejected:
        return "stop", f"{rejected} of {n} comparison{s} that decide{'' if s else 's'} has shown what it was to show"
    return "continue", f"{n - done} of {n} comparison{s} that decide{'' if s else 's'} without an answer"


def _notes(rules: Rules, keys: Sequence[tuple[str, str]], found: Sequence[_Standing]) -> Iterator[str]:
    """What a reader must know."""
    level = format_level(round(1 - float(rules.experiment.confidence_level), 12))
    deciding = sum(rules.decides(metric) for metric, _ in keys)
    if deciding > 1 and rules.primary:
        yield f"{level} is shared equally among the {deciding} comparisons of {list_some(rules.primary)} (Bonferroni)"
    elif deciding > 1:
        yield f"{deciding} comparisons, each at {level}: not corrected for their number; primary= shares it among some"
    if not _designs(rules.experiment):
        yield "the sizes of the arms are not checked; add SampleRatio(weights) to the metrics"
    yield from (each.note for each in found if each.note)
