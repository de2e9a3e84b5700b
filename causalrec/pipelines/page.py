"""The report's sections and the figures, from named results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from causalrec.pipelines.ate_page import (
    hidden_bias_figures,
    hidden_bias_section,
    refutation_figures,
    refutation_section,
)
from causalrec.pipelines.log_quality import quality_section
from causalrec.pipelines.summary import (
    CROSS_CHECK,
    EFFECT,
    EFFECTS,
    IDENTIFICATION,
    REFUTATIONS,
    experiment,
    hidden_bias,
    ranking,
)
from causalrec.pipelines.uplift import BOOSTING, GROUPS, IMPORTANCES, OVERLAP
from causalrec.pipelines.uplift_metrics import BINS, CALIBRATION, QINI_CURVE, TOC_CURVE, UPLIFT_CURVE
from causalrec.pipelines.uplift_page import uplift_sections
from causalrec.pipelines.uplift_summary import PROFIT, SEGMENT_MAP, SEGMENTS, TREE
from causalrec.plots import (
    plot_ab,
    plot_balance,
    plot_boosting,
    plot_curve,
    plot_effects,
    plot_group_effects,
    plot_importances,
    plot_overlap,
    plot_policy_tree,
    plot_profit,
    plot_ranking,
    plot_segment_map,
    plot_segments,
    plot_uplift_bins,
    plot_uplift_calibration,
)
from causalrec.report import Section
from causalrec.results import (
    BalanceResult,
    BoostingCurveResult,
    EffectComparisonResult,
    EffectResult,
    IdentificationResult,
    OverlapResult,
    RefutationsResult,
    Result,
    SampleRatioResult,
    SegmentsResult,
    format_number,
    format_pvalue,
)

_PLOTS: dict[str, Callable[..., Any]] = {
    QINI_CURVE: plot_curve,
    UPLIFT_CURVE: plot_curve,
    TOC_CURVE: plot_curve,
    BINS: plot_uplift_bins,
    CALIBRATION: plot_uplift_calibration,
    SEGMENTS: plot_segments,
    PROFIT: plot_profit,
    TREE: plot_policy_tree,
    GROUPS: plot_group_effects,
    IMPORTANCES: plot_importances,
    OVERLAP: plot_overlap,
    "balance": plot_balance,
    "overlap": plot_overlap,
}


_METHOD_COLUMNS = ["name", "estimand", "estimate", "std_error", "ci_low", "ci_high", "n_obs", "max_abs_smd", "method"]


def draw(results: Mapping[str, Result], truths: Mapping[str, float]) -> dict[str, Any]:
    """Every figure that the results allow, by name."""
    figures = {name: plot(results[name]) for name, plot in _PLOTS.items() if name in results}
    segments = results.get(SEGMENTS)
    if isinstance(segments, SegmentsResult) and len(segments.map_n):
        figures[SEGMENT_MAP] = plot_segment_map(segments)
    scores = list(ranking(results, "ndcg").values())
    if scores:
        figures["ranking"] = plot_ranking(scores)
    curves = results.get(BOOSTING)
    if isinstance(curves, BoostingCurveResult) and len(curves.curve_model):
        figures[BOOSTING] = plot_boosting(curves)
    effects = {
        label: results[name]
        for label, name in (("main estimate", EFFECT), ("doubly robust", CROSS_CHECK))
        if name in results
    }
    if effects:
        figures["average_effect"] = plot_effects(effects, truth=truths.get(EFFECT))  # type: ignore[arg-type]
    compared = results.get(EFFECTS)
    if isinstance(compared, EffectComparisonResult):
        figures[EFFECTS] = plot_effects(compared, truth=truths.get(EFFECT), title="Effect by method")
    refuted, hidden = results.get(REFUTATIONS), hidden_bias(results)
    if isinstance(refuted, RefutationsResult):
        figures |= refutation_figures(refuted)
    if hidden is not None:
        figures |= hidden_bias_figures(hidden)
    tests = list(experiment(results).values())
    if tests:
        figures["ab_test"] = plot_ab(tests)
    return figures


def sections(results: Mapping[str, Result], figures: Mapping[str, Any]) -> list[Section]:
    """The parts of the report that have results."""
    parts = (
        quality_section(results),
        _ranking(results, figures),
        *uplift_sections(results, figures),
        _effect(results, figures),
        *_doubts(results, figures),
        _experiment(results, figures),
    )
    return [part for part in parts if part is not None]


def _shown(figures: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(figures[name] for name in names if name in figures)


def _ranking(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Section | None:
    rows = {m: ranking(results, m) for m in ("ndcg", "map", "recall")}
    if not rows["ndcg"]:
        return None
    first = next(iter(rows["ndcg"].values()))
    table = pd.DataFrame([r.to_dict() for group in rows.values() for r in group.values()])
    text = (
        f"The last period, which the model has not seen. {first.n_obs:,} users did something relevant in it; "
        f"{first.n_without_positives:,} known users did not, cannot be judged, and are left out. Relevant items that "
        "were no candidates count against every order. Equal scores are ordered by item.",
    )
    columns = ["estimand", "model", "estimate", "ci_low", "ci_high", "n_obs", "n_without_positives"]
    return Section("Ranker", text, _shown(figures, "ranking"), {"Metrics": table[columns]}, folded=("Metrics",))


def _effect(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Section | None:
    effect = results.get(EFFECT)
    if not isinstance(effect, EffectResult):
        return None
    text = [f"{effect}."]
    found = results.get(IDENTIFICATION)
    if isinstance(found, IdentificationResult):
        adjust = ", ".join(found.backdoor_variables) or "nothing, since treatment was assigned at random"
        text = [f"Adjusted for: {adjust}.", "Assumed: " + "; ".join(found.assumptions) + ".", *text]
    if CROSS_CHECK in results:
        text.append(f"Another way, doubly robust: {results[CROSS_CHECK]}.")
    tables = {}
    compared = results.get(EFFECTS)
    if isinstance(compared, EffectComparisonResult):
        text.append(_by_method(compared))
        tables["Effect by method"] = compared.to_frame()[_METHOD_COLUMNS]
    balance, overlap = results.get("balance"), results.get("overlap")
    if isinstance(balance, BalanceResult):
        verdict = "within" if balance.balanced else "beyond"
        text.append(
            f"Largest standardised difference between the groups: {format_number(balance.max_abs_smd_before)} before, "
            f"{format_number(balance.max_abs_smd_after)} after, {verdict} the usual limit of {balance.threshold}."
        )
        tables["Covariate balance"] = balance.to_frame()
    if isinstance(overlap, OverlapResult):
        text.append(
            f"Propensities run from {format_number(overlap.min_propensity)} to "
            f"{format_number(overlap.max_propensity)}; "
            f"{overlap.share_outside_common_support:.1%} of units lie where only one group is found."
        )
    return Section(
        "Average effect",
        tuple(text),
        _shown(figures, "average_effect", EFFECTS, "balance", "overlap"),
        tables,
    )


def _doubts(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Iterator[Section]:
    """What the average effect survived; how much hidden bias it bears, where treatment was not given at random."""
    refuted, hidden = results.get(REFUTATIONS), hidden_bias(results)
    if isinstance(refuted, RefutationsResult):
        yield refutation_section(refuted, figures)
    if hidden is not None:
        yield hidden_bias_section(hidden, figures)


def _by_method(compared: EffectComparisonResult) -> str:
    """Whether the methods agree, and which gave no estimate."""
    adjusted = [e for n, e in zip(compared.names, compared.effects, strict=True) if n != "difference_in_means"]
    adjusted = [e for e in adjusted if e.estimand == compared.estimand] or adjusted
    missing = [f"No estimate by {why}." for why in compared.failures]
    if not adjusted:
        return " ".join(missing)
    low, high = min(e.estimate for e in adjusted), max(e.estimate for e in adjusted)
    said = (
        f"{len(adjusted)} ways to adjust for the same covariates give {format_number(low)} to {format_number(high)}; "
        "that they agree does not show that these covariates suffice."
    )
    return " ".join([said, *missing])


def _experiment(results: Mapping[str, Result], figures: Mapping[str, Any]) -> Section | None:
    tests = list(experiment(results).values())
    if not tests:
        return None
    text = []
    ratio = results.get("sample_ratio")
    if isinstance(ratio, SampleRatioResult):
        counts = ", ".join(f"{a} {n:,}" for a, n in zip(ratio.arms, ratio.counts, strict=True))
        verdict = "a mismatch: find its cause before reading on" if ratio.mismatch else "as designed"
        text.append(f"Units: {counts}; sample ratio p = {format_pvalue(ratio.pvalue)}, {verdict}.")
    columns = ["metric", "control_mean", "treatment_mean", "estimate", "ci_low", "ci_high", "relative_effect",
               "relative_ci_low", "relative_ci_high", "pvalue", "n_obs"]  # fmt: skip
    table = pd.DataFrame([r.to_dict() for r in tests])[columns]
    text += [f"{r.metric}: {r.method}." for r in tests]
    return Section("A/B test", tuple(text), _shown(figures, "ab_test"), {"Metrics": table})
