"""What the uplift stage found, for people: rows of the summary, and sentences no stronger than their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from causalrec.report import SummaryRow
from causalrec.results import (
    NAN,
    ChampionResult,
    EffectResult,
    PolicyTreeResult,
    ProfitCurveResult,
    Result,
    SegmentsResult,
    format_interval,
    format_number,
)
from causalrec.results.base import pvalue_text, written_interval
from causalrec.results.segments import PERSUADABLES, SLEEPING_DOGS

SEGMENTS, PROFIT, TREE = "uplift_segments", "uplift_profit", "uplift_policy_tree"  # names of results
SEGMENT_MAP = f"{SEGMENTS}_map"  # and of a figure


def uplift_rows(results: Mapping[str, Result], truths: Mapping[str, float]) -> Iterator[SummaryRow]:
    """A row per metric of the uplift model, then whether it is better than the champion, and what it would earn."""
    labels = {
        "qini": "Qini: gain over a random order",
        "auuc": "AUUC: area under the gain curve",
        "autoc": "AUTOC: effect at the top over that of all",
        **{name: _top(results, name) for name in results if name.startswith("uplift_at_")},
        **{name: _lift(name) for name in results if name.startswith("lift_share_at_")},
        "uplift_calibration": "calibration error of predicted effects",
    }
    for name, text in labels.items():
        found = results.get(name)
        if isinstance(found, EffectResult):
            # The p-value of AUUC asks whether the average effect is zero, not whether the score is any good.
            row = SummaryRow.of("uplift", text, found, truths.get(name, NAN))
            yield replace(row, pvalue=NAN) if name == "auuc" else row
    profit = results.get(PROFIT)
    if isinstance(profit, ProfitCurveResult):
        yield SummaryRow(
            "uplift", f"profit per unit, {profit.rule_share:.0%} treated by cost", profit.rule_profit,
            profit.rule_profit_ci_low, profit.rule_profit_ci_high, profit.rule_profit_pvalue, NAN, profit.n_obs,
        )  # fmt: skip


def uplift_findings(results: Mapping[str, Result]) -> Iterator[str]:
    """What the model can be used for, and whom to treat."""
    verdict = uplift_verdict(results)
    if verdict is not None:
        yield f"{verdict}."
    for found in results.values():
        if isinstance(found, ChampionResult):
            yield champion_sentence(found)
    segments, profit = results.get(SEGMENTS), results.get(PROFIT)
    if isinstance(segments, SegmentsResult):
        yield segments_sentence(segments)
    if isinstance(profit, ProfitCurveResult):
        yield profit_sentence(profit)


def uplift_verdict(results: Mapping[str, Result]) -> str | None:
    """Whether the uplift model is shown to rank people by their effect; None without its Qini."""
    qini = results.get("qini")
    if not isinstance(qini, EffectResult):
        return None
    verdict = verdict_of(
        qini,
        "ranks people by their effect better than chance",
        "ranks people by their effect worse than chance: do not target by it",
        "is not shown to rank people by their effect: do not target by it yet",
    )
    return f"The uplift model {verdict} (Qini {estimate_text(qini)})"


def champion_sentence(found: ChampionResult) -> str:
    """The comparison with the champion for people, with the way to overrule it where it says nothing."""
    text = str(found)
    open_ended = not found.promoted and found.verdict != "worse"
    ask = " To make it the champion all the same: causalrec evaluate --promote." if open_ended else ""
    return f"{text[:1].upper()}{text[1:]}.{ask}"


def segments_sentence(found: SegmentsResult) -> str:
    """How many people are shown to gain, what share of the lift they hold, and whether any are shown to lose."""
    names = [str(name) for name in found.segment]
    if PERSUADABLES not in names:
        said = "No group of predicted uplift is shown to gain by treatment"
    else:
        k = names.index(PERSUADABLES)
        said = (
            f"{found.share[k]:.0%} of people are {PERSUADABLES} (effect "
            f"{written_interval(found.effect[k], found.ci_low[k], found.ci_high[k])})"
        )
        if math.isfinite(found.lift_share_ci_low[k]) and math.isfinite(found.lift_share_ci_high[k]):
            ends = f"[{found.lift_share_ci_low[k]:.0%}, {found.lift_share_ci_high[k]:.0%}]"
            said += f" and hold {found.lift_share[k]:.0%} {ends} of what treating everybody would bring"
    if SLEEPING_DOGS in names:
        k = names.index(SLEEPING_DOGS)
        effect = written_interval(found.effect[k], found.ci_low[k], found.ci_high[k])
        return f"{said}; {found.share[k]:.0%} are {SLEEPING_DOGS}, whom it harms (effect {effect})."
    return f"{said}; none are shown to be harmed by it."


def profit_sentence(found: ProfitCurveResult) -> str:
    """Where profit is highest, and what the cost rule earns beside treating everybody."""
    best = f"{found.best_share:.0%} [{found.best_share_low:.0%}, {found.best_share_high:.0%}]"
    rule = written_interval(found.rule_profit, found.rule_profit_ci_low, found.rule_profit_ci_high)
    everybody = written_interval(found.all_profit, found.all_profit_ci_low, found.all_profit_ci_high)
    return (
        f"Profit per unit is highest with {best} treated; treating the {found.rule_share:.0%} whose predicted value is "
        f"above the cost earns {rule} ({pvalue_text(found.rule_profit_pvalue)}), treating everybody {everybody}."
    )


def tree_sentence(found: PolicyTreeResult) -> str:
    """What a few questions are worth beside treating nobody and everybody."""
    nobody, everybody = (
        written_interval(found.gain[k], found.gain_ci_low[k], found.gain_ci_high[k]) for k in (0, -1)
    )  # fmt: skip
    return (
        f"A policy tree of at most {found.depth} questions treats {found.arm_share[-1]:.0%} of people and earns "
        f"{nobody} per unit more than treating nobody, {everybody} more than treating everybody ({found.evaluated})."
    )


def estimate_text(result: EffectResult) -> str:
    """An estimate with its interval."""
    return f"{format_number(result.estimate)} {format_interval(result.ci_low, result.ci_high)}"


def verdict_of(result: EffectResult, up: str, down: str, unclear: str) -> str:
    """What the interval carries."""
    return up if result.ci_low > 0 else down if result.ci_high < 0 else unclear


def _top(results: Mapping[str, Result], name: str) -> str:
    """Ties at the cut are taken whole, so the share may be another one than was asked for."""
    top, whole = results[name], results.get("qini")
    share = float(name.removeprefix("uplift_at_").removesuffix("pct"))
    if isinstance(top, EffectResult) and isinstance(whole, EffectResult):
        taken = 100 * top.n_obs / whole.n_obs
        share = share if abs(taken - share) < 1 else round(taken)
    return f"effect in the top {share:g}% by predicted uplift"


def _lift(name: str) -> str:
    share = name.removeprefix("lift_share_at_").removesuffix("pct")
    return f"share of the whole lift in the top {share}%"
