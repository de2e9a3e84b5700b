"""The report's sections of the uplift model: does it rank, are its effects right, whom to treat, what is it made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from causalrec.pipelines.uplift import AIPW, BOOSTING, GROUPS, IMPORTANCES, LOSSES, OVERLAP
from causalrec.pipelines.uplift_metrics import BINS, CALIBRATION, QINI_CURVE, TOC_CURVE, UPLIFT_CURVE
from causalrec.pipelines.uplift_summary import (
    PROFIT,
    SEGMENT_MAP,
    SEGMENTS,
    TREE,
    profit_sentence,
    segments_sentence,
    tree_sentence,
)
from causalrec.report import Section
from causalrec.results import (
    BoostingCurveResult,
    EffectResult,
    GroupEffectsResult,
    ImportanceResult,
    LearnerComparisonResult,
    PolicyTreeResult,
    ProfitCurveResult,
    Result,
    SegmentsResult,
    UpliftCalibrationResult,
    format_interval,
    format_number,
    format_pvalue,
)
from causalrec.results.base import written_interval

_LOSS_COLUMNS = {
    "learner": "learner",
    "r_loss": "R-loss",
    "r_difference": "above the lowest",
    "r_ci_low": "low",
    "r_ci_high": "high",
    "r_pvalue": "p-value",
    "dr_loss": "DR-loss",
    "dr_difference": "above the lowest DR-loss",
}
_PROFILE_ROWS = 5  # of each segment, the covariates that set it apart most


def uplift_sections(results: Mapping[str, Result], figures: Mapping[str, Any]) -> list[Section]:
    """The sections that have results; none where no uplift model was judged."""
    if "qini" not in results:
        return []
    parts = (_ranks(figures), _right(results, figures), _whom(results, figures), _made_of(results, figures))
    return [part for part in parts if part is not None]


def _shown(figures: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(figures[name] for name in names if name in figures)


def _ranks(figures: Mapping[str, Any]) -> Section:
    text = (
        "Units held out from training, the highest predicted uplift first. Qini is the area between the gain curve and "
        "that of a random order, AUUC the area under the curve, both in the outcome's unit per unit of the population; "
        "AUTOC is how much larger the effect among the best is than that of all, averaged over how many are the best.",
    )
    names = (QINI_CURVE, UPLIFT_CURVE if UPLIFT_CURVE in figures else TOC_CURVE)
    return Section("Uplift", text, _shown(figures, *names))


def _right(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Section | None:
    text = tuple(_right_text(results))
    tables = {
        caption: _losses(results[name]) if name == LOSSES else results[name].to_frame()
        for caption, name in (
            ("By predicted uplift", BINS),
            ("Effects by group, doubly robust", GROUPS),
            ("Losses that need no truth, against one effect for all", LOSSES),
        )
        if name in results
    }
    found = _shown(figures, BINS, CALIBRATION if CALIBRATION in figures else GROUPS)
    folded = ("By predicted uplift", "Effects by group, doubly robust")
    return Section("Are the predicted effects right?", text, found, tables, folded) if text or found else None


def _right_text(results: Mapping[str, Result]) -> Iterator[str]:
    calibration, groups, losses = (results.get(name) for name in (CALIBRATION, GROUPS, LOSSES))
    if isinstance(calibration, UpliftCalibrationResult):
        interval = format_interval(calibration.ci_low, calibration.ci_high)
        yield (
            f"Calibration error, the typical gap between predicted and observed effects of {calibration.n_bins} groups "
            f"beyond its noise: {format_number(calibration.estimate)} {interval}; that there is no gap: p = "
            f"{format_pvalue(calibration.pvalue)}."
        )
    if isinstance(groups, GroupEffectsResult) and groups.n_groups > 1:
        gap = format_interval(groups.difference_ci_low, groups.difference_ci_high)
        yield (
            f"Effect in the group predicted highest less that in the lowest, doubly robust: "
            f"{format_number(groups.difference)} {gap}, p = {format_pvalue(groups.difference_pvalue)}; that the effect "
            f"is the same in all {groups.n_groups} groups: p = {format_pvalue(groups.equal_pvalue)}."
        )
    if isinstance(losses, LearnerComparisonResult):
        yield _loss_text(losses)


def _losses(losses: Result) -> pd.DataFrame:
    """What fits on a page: both losses, and the interval of the R-loss."""
    return losses.to_frame()[list(_LOSS_COLUMNS)].rename(columns=_LOSS_COLUMNS)


def _loss_text(losses: LearnerComparisonResult) -> str:
    """Whether the predictions are closer to the units' effects than the same effect for all."""
    best, level = str(losses.learner[0]), 1 - losses.confidence_level
    if losses.n_learners < 2:
        return f"R-loss {format_number(losses.r_loss[0])} ({losses.method})."
    gap, pvalue = losses.r_difference[1], losses.r_pvalue[1]
    verdict = "has a lower R-loss than a" if pvalue < level else "cannot be told by R-loss from a"
    return (
        f"The {best} {verdict} {losses.learner[1]}: {format_number(losses.r_loss[0])}, less by {format_number(gap)} "
        f"{format_interval(losses.r_ci_low[1], losses.r_ci_high[1])}, p = {format_pvalue(pvalue)}."
    )


def _whom(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Section | None:
    segments, profit, tree = (results.get(name) for name in (SEGMENTS, PROFIT, TREE))
    text, tables = [], {}
    if isinstance(segments, SegmentsResult):
        text += [
            segments_sentence(segments),
            "Segments are groups of predicted uplift whose effect was measured on units held out; their intervals hold "
            f"for all of them at once ({segments.method}).",
        ]
        tables["Segments"] = _segment_table(segments)
        tables["Who they are"] = segments.profile().groupby("segment", sort=False).head(_PROFILE_ROWS)
    if isinstance(profit, ProfitCurveResult):
        text.append(f"{profit_sentence(profit)} The range of the best share counts that these data chose it.")
    if isinstance(tree, PolicyTreeResult):
        text.append(tree_sentence(tree))
    found = _shown(figures, SEGMENTS, SEGMENT_MAP, PROFIT, TREE)
    return Section("Whom to treat", tuple(text), found, tables, ("Who they are",)) if text else None


def _segment_table(found: SegmentsResult) -> pd.DataFrame:
    """A row per segment, intervals in the cells."""

    def lift(k: int) -> str:
        ends = (found.lift_share_ci_low[k], found.lift_share_ci_high[k])
        bounds = f"[{ends[0]:.0%}, {ends[1]:.0%}]" if np.isfinite(ends).all() else "(no bounds)"
        return f"{found.lift_share[k]:.0%} {bounds}"

    rows = range(found.n_segments)
    return pd.DataFrame({
        "segment": found.segment, "n": found.n, "share": [f"{share:.0%}" for share in found.share],
        "effect": [written_interval(found.effect[k], found.ci_low[k], found.ci_high[k]) for k in rows],
        "outcome without treatment": found.outcome, "share of the whole lift": [lift(k) for k in rows],
    })  # fmt: skip


def _made_of(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Section | None:
    text = tuple(_made_of_text(results))
    tables = {
        caption: results[name].to_frame()
        for caption, name in (("Sizes that the data chose", BOOSTING), ("What the prediction depends on", IMPORTANCES))
        if name in results
    }
    found = _shown(figures, IMPORTANCES, BOOSTING, OVERLAP)
    return Section("The uplift model", text, found, tables, tuple(tables)) if text or found else None


def _made_of_text(results: Mapping[str, Result]) -> Iterator[str]:
    curves, weights, effect = results.get(BOOSTING), results.get(IMPORTANCES), results.get(AIPW)
    if isinstance(weights, ImportanceResult) and weights.n_used:
        yield f"The predicted {weights.what} depends on: {weights.top()}."
    if isinstance(curves, BoostingCurveResult):
        yield f"Sizes that the data chose: {'; '.join(curves.sizes())}."
    if isinstance(effect, EffectResult):
        yield f"Average effect by the learner's own nuisances, on the units of training: {effect}."
