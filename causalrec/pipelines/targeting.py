"""Whom to treat: segments learned on units held out, and an action for every unit of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec._schema import validated
from causalrec._typing import BoolArray
from causalrec.config import RunConfig
from causalrec.exceptions import CausalRecError, ConfigError
from causalrec.nuisance import arm_scores
from causalrec.pipelines.bases import learner_name
from causalrec.pipelines.uplift import Judged, Task
from causalrec.policy import PolicyTree, allocate, learn_segments, profit_curve
from causalrec.results import (
    NAN,
    PolicyTreeResult,
    ProfitCurveResult,
    SegmentRule,
    SegmentsResult,
    format_level,
    format_number,
)
from causalrec.results.segments import PERSUADABLES, SLEEPING_DOGS
from causalrec.uplift_config import TargetingConfig

SEGMENT, ACTION, COST, GAIN = "uplift_segment", "action", "cost", "expected_gain"
BASELINE = "outcome_if_control"


@dataclass(frozen=True)
class Recommendations:
    """What to do with each unit of a batch, how often, and what that rests on.

    Attributes
    ----------
    frame : frame of n rows
        ``uplift_segment`` where segments are known, ``action`` (the name of an arm), and where costs are ``cost`` and
        ``expected_gain``: value times uplift less the cost for those who are treated, else 0.
    counts : frame
        Units by segment (or all) and action.
    spend, gain : float
        Of the batch; NaN without costs.
    basis : tuple of str
        A sentence each.
    """

    frame: pd.DataFrame = field(repr=False)
    counts: pd.DataFrame = field(repr=False)
    spend: float = NAN
    gain: float = NAN
    basis: tuple[str, ...] = ()


def find_segments(
    frame: pd.DataFrame, predicted: pd.DataFrame, task: Task, judged: Judged, confidence_level: float
) -> tuple[SegmentsResult | None, SegmentRule | None, str]:
    """Segments of units held out and the rule for new ones; or why there are none.

    Parameters
    ----------
    frame, predicted : frames of n rows
        The units, and what their model predicts of them. Where it does not predict the outcome without treatment, the
        rule leaves those undecided whose effect is not shown.
    """
    baseline = predicted[BASELINE].to_numpy() if BASELINE in predicted else None
    try:
        found = learn_segments(
            frame[task.outcome].to_numpy(), predicted["uplift"].to_numpy(), frame[task.treatment].to_numpy(),
            baseline=baseline, X=frame[list(task.covariates)], nuisance=judged.nuisance,
            confidence_level=confidence_level,
        )  # fmt: skip
    except CausalRecError as error:
        return None, None, f"uplift: no segments: {error}"
    found = replace(found, control=task.arms[0], treatment=task.arms[1])
    rule = found.rule if baseline is not None else replace(found.rule, baseline_cut=NAN)
    return found, rule, ""


def profit(
    frame: pd.DataFrame, predicted: pd.DataFrame, task: Task, judged: Judged, config: RunConfig
) -> ProfitCurveResult:
    """Profit by share treated, on units held out, at the value and cost of the config."""
    money = config.uplift.targeting
    if money is None:
        raise ConfigError("uplift.targeting is missing; profit needs a value and a cost.")
    return profit_curve(
        frame[task.outcome].to_numpy(), predicted["uplift"].to_numpy(), frame[task.treatment].to_numpy(),
        value=money.value, cost=money.cost, label=learner_name(config.uplift),
        confidence_level=config.confidence_level, nuisance=judged.scored_by,
    )  # fmt: skip


def policy_tree(frame: pd.DataFrame, task: Task, judged: Judged, config: RunConfig) -> PolicyTreeResult | None:
    """Whom to treat in a few questions, with the value of such a tree; None where none is asked for or can be learned.

    By doubly robust scores of the units held out, each scored by a tree that did not see it; at the value and cost of
    the config, else as if treatment cost nothing.
    """
    depth, money = config.uplift.policy_tree_depth, config.uplift.targeting
    if not depth or judged.nuisance is None:
        return None
    y, treatment = frame[task.outcome].to_numpy(), frame[task.treatment].to_numpy()
    scores = replace(arm_scores(y, treatment, nuisance=judged.nuisance), labels=task.arms)
    worth, cost = (1.0, None) if money is None else (money.value, money.cost)
    try:
        return PolicyTree(depth, value=worth, cost=cost).cross_evaluate(
            frame[list(task.covariates)], scores, random_state=config.seed, confidence_level=config.confidence_level
        )
    except CausalRecError:  # too few units to split
        return None


def chosen_targeting(configured: TargetingConfig | None, given: Mapping[str, float]) -> TargetingConfig | None:
    """The config's targeting with what was given in its place; None where there is neither.

    Raises
    ------
    ConfigError
        For an amount that is not above zero, or a value without a cost, or the reverse.
    """
    raw = {} if configured is None else configured.model_dump()
    if not given:
        return configured
    raw |= given
    lacking = [name for name in ("value", "cost") if name not in raw]
    if lacking:
        raise ConfigError(
            f"{' and '.join(f'--{name}' for name in given)} is given, but no {' and no '.join(lacking)}. Costs are "
            "weighed against what a unit of the outcome is worth: give --value and --cost, or uplift.targeting in the "
            "config."
        )
    return validated(TargetingConfig, raw, where="targeting")


def recommend(
    scores: pd.DataFrame, arms: Sequence[str], rule: SegmentRule | None, targeting: TargetingConfig | None
) -> Recommendations:
    """An action for every unit, by cost and budget where they are known, else by segment, else by the sign of uplift.

    Whole units only: one that the budget would pay for in part is not treated. Nobody is whose segment is sleeping
    dogs, whom treatment was shown to harm.

    Parameters
    ----------
    scores : frame of n rows
        ``uplift``, and ``outcome_if_control`` where the rule needs it.
    arms : pair of str
        Names of control and treatment.
    """
    uplift = scores["uplift"].to_numpy(np.float64)
    columns: dict[str, Any] = {}
    if rule is not None:
        baseline = scores[BASELINE] if rule.needs_baseline else None
        columns[SEGMENT] = rule.assign(uplift, baseline)
    treated, basis = _treated(uplift, columns.get(SEGMENT), rule, targeting)
    columns[ACTION] = np.where(treated, arms[1], arms[0]).astype(object)
    spend = gain = NAN
    if targeting is not None:
        columns[COST] = np.where(treated, targeting.cost, 0.0)
        columns[GAIN] = np.where(treated, targeting.value * uplift - targeting.cost, 0.0)
        spend, gain = float(columns[COST].sum()), float(columns[GAIN].sum())
    frame = pd.DataFrame(columns)
    return Recommendations(frame, _counts(frame, arms), spend, gain, basis)


def _treated(
    uplift: Any, segment: Any, rule: SegmentRule | None, targeting: TargetingConfig | None
) -> tuple[BoolArray, tuple[str, ...]]:
    """Who is treated, and why."""
    if targeting is not None:
        return _by_cost(uplift, segment, targeting)
    if rule is not None:
        level = format_level(rule.confidence_level)
        return segment == PERSUADABLES, (
            f"treated: the {PERSUADABLES}, in whose group of predicted uplift units held out show an effect above zero "
            f"({level} for all groups at once)",
            "costs count for nothing yet: --value and --cost, or uplift.targeting in the config, weigh them",
        )
    return uplift > 0, (
        "treated: everybody whose predicted uplift is above zero, which no held-out data have confirmed: causalrec "
        "evaluate finds segments; --value and --cost, or uplift.targeting in the config, weigh costs",
    )


def _by_cost(uplift: Any, segment: Any, targeting: TargetingConfig) -> tuple[BoolArray, tuple[str, ...]]:
    harmed = np.zeros(len(uplift), dtype=bool) if segment is None else segment == SLEEPING_DOGS
    plan = allocate(
        np.where(harmed, np.minimum(uplift, 0.0), uplift), cost=targeting.cost, value=targeting.value,
        total_budget=targeting.budget,
    )  # fmt: skip
    treated = np.asarray(plan.assigned == 1)
    value, cost = format_number(targeting.value), format_number(targeting.cost)
    said = [f"treated: where the predicted gain, {value} × uplift, is above the cost of {cost}"]
    if targeting.budget is not None:
        short = plan.shadow_price > 0
        rest = f"one more spent would bring in {format_number(targeting.value * plan.shadow_price)}"
        end = f", which is spent: {rest}" if short else ", which is more than they cost"
        said[0] += f", the highest first, up to a budget of {format_number(targeting.budget)}{end}"
    if segment is not None:
        unsure = int((treated & (segment != PERSUADABLES)).sum())
        if unsure:
            said.append(
                f"of the {int(treated.sum()):,} treated {unsure:,} are in segments whose effect is not shown to be "
                "above zero: with them the prediction is all there is to go by"
            )
    if harmed.any():
        said.append(f"not treated: {int(harmed.sum()):,} {SLEEPING_DOGS}, whom treatment was shown to harm")
    said.append("the expected gain is as predicted, and a little too high, since the highest predictions are chosen")
    return treated, tuple(said)


def _counts(frame: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Units by segment, the most first, and action."""
    segment = frame[SEGMENT] if SEGMENT in frame else pd.Series("all", index=frame.index)
    table = pd.crosstab(segment, frame[ACTION]).reindex(columns=list(arms), fill_value=0)
    table = table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    return pd.DataFrame({"segment": table.index, **{arm: table[arm].to_numpy() for arm in arms}})
