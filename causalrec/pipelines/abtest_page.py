"""An experiment's results as figures, sections of the report, and names in MLflow; from results alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.pipelines.abtest_verdict import beliefs, by_role, with_roles
from causalrec.plots import plot_aa, plot_ab, plot_distribution, plot_forest, plot_posterior, plot_rates, plot_trend
from causalrec.report import Section
from causalrec.results import (
    AAResult,
    ABResult,
    DistributionResult,
    ExperimentResult,
    HeterogeneityResult,
    OutlierResult,
    Result,
    format_pvalue,
)
from causalrec.results.answers import answer_groups, answer_sentences, correction_line
from causalrec.results.base import pvalue_text, short_pvalue
from causalrec.results.scorecard import scorecard_checks, scorecard_rows, split_alarms, without_tests

_MANY_EFFECTS = 12  # beyond which a sentence for each would not be read
_SUSPICIOUS = 0.01


@dataclass(frozen=True)
class ABTestResults:
    """Everything that was found: the experiment itself, and further looks at its data."""

    experiment: ExperimentResult
    outliers: tuple[OutlierResult, ...] = ()
    distributions: tuple[DistributionResult, ...] = ()
    aa: tuple[AAResult, ...] = ()

    def named(self) -> dict[str, Result | Sequence[Result]]:
        """By name, those that there are."""
        found: dict[str, Result | Sequence[Result]] = {"experiment": self.experiment}
        more = {"outliers": self.outliers, "distributions": self.distributions, "aa": self.aa}
        return found | {name: each for name, each in more.items() if each}


def metrics_of(result: ExperimentResult) -> dict[str, Result]:
    """The results that are numbers of the run: effects, diluted ones, trends, the sample ratio."""
    arms = {e.treatment for e in result.effects}

    def name(of: Any) -> str:
        return f"{of.metric}_{of.treatment}" if len(arms) > 1 else str(of.metric)

    named: dict[str, Result] = {name(e): e for e in result.effects}
    named |= {f"{name(e)}_diluted": e for e in result.diluted}
    named |= {f"{name(e)}_trend": e for e in result.trends}
    return named | dict(zip(["sample_ratio"], result.sample_ratio, strict=False))


def rows_of(results: Sequence[Result]) -> pd.DataFrame:
    """A row per result."""
    return pd.DataFrame([r.to_dict() for r in results])


def interaction_table(tests: Sequence[HeterogeneityResult]) -> pd.DataFrame:
    """A row per interaction test, the smallest p-value first; adjusted for their number by Holm's method."""
    table = rows_of(tests)[["metric", "treatment", "dimension", "n_groups", "statistic", "pvalue"]]
    if table["treatment"].nunique() == 1:
        table = table.drop(columns="treatment")
    table["adjusted_pvalue"] = adjust_pvalues(table["pvalue"].to_numpy(), "holm")
    return table.sort_values("pvalue", kind="stable", ignore_index=True)


def answers(result: ExperimentResult) -> tuple[str, ...]:
    """The answer of each metric in a sentence, by answer where there are many; then what they are not corrected for."""
    effects = result.effects
    lines = answer_sentences(effects) if len(effects) <= _MANY_EFFECTS else answer_groups(effects)
    among = ["on triggered units"] if result.diluted else []
    return tuple(f"{line}." for line in (*lines, *among, correction_line(result)) if line)


def checks(result: ExperimentResult) -> tuple[str, ...]:
    """The checks in a sentence each; of the interactions only the strongest, corrected for how many there are."""
    said = [f"{line}." for line in scorecard_checks(replace(result, interactions=()))]
    unchecked = () if result.sample_ratio else ("sample ratio: not checked, as the designed weights are not given.",)
    return (*unchecked, *said, *strongest_interaction(result.interactions))


def alarms(results: ABTestResults) -> Iterator[str]:
    """What makes the effects doubtful: a broken split, units in several arms, outliers that differ, a false test."""
    found = results.experiment
    yield from (f"{line}." for line in split_alarms(found))
    for split in found.segment_ratios:
        if split.mismatch:
            yield (
                f"Sample ratio mismatch where {split.dimension} = {split.most_suspicious} "
                f"({pvalue_text(split.pvalue)}, corrected for {split.n_segments} groups)."
            )
    yield from (f"{note[:1].upper()}{note[1:]}." for note in found.notes if "more than one arm" in note)
    for before in found.pre_period:
        if before.pvalue < _SUSPICIOUS:
            yield (
                f"{before.metric} differs between {before.control} and {before.treatment} before the experiment "
                f"({pvalue_text(before.pvalue)})."
            )
    for outlier in results.outliers:
        if outlier.pvalue < _SUSPICIOUS:
            yield f"Outliers: the arms have different shares of units beyond the threshold. {outlier}."
    for aa in results.aa:
        hits = int((aa.pvalues < aa.alpha).sum())
        if stats.binomtest(hits, aa.n_simulations, aa.alpha).pvalue < _SUSPICIOUS:
            yield f"A/A simulation: the test does not keep its level. {aa}."


def strongest_interaction(tests: Sequence[HeterogeneityResult]) -> Iterator[str]:
    """The interaction with the smallest p-value, in words."""
    if not any(np.isfinite(test.pvalue) for test in tests):
        return
    first = interaction_table(tests).iloc[0]
    yield (
        f"Of {len(tests)} comparisons between segments, the effect on {first['metric']} differs most by "
        f"{first['dimension']}: p = {short_pvalue(first['pvalue'])}, {short_pvalue(first['adjusted_pvalue'])} "
        "corrected for their number."
    )


def lead_frame(effects: Sequence[ABResult], roles: Mapping[str, str]) -> pd.DataFrame:
    """The scorecard at the top: by role, where something is decided."""
    ordered = by_role(effects, roles) if roles else effects
    return with_roles(scorecard_frame(ordered), roles)


def scorecard_frame(effects: Sequence[ABResult]) -> pd.DataFrame:
    """The scorecard with the units of each arm; arm and segment only where there are several; the cells are text."""
    header, *rows = scorecard_rows(effects)
    names = [name if name != "treatment" else "in the arm" for name in header]
    names[2] = f"in {names[2]}"
    frame = pd.DataFrame(rows, columns=names)
    arms = list(dict.fromkeys(e.treatment for e in effects))
    if len(arms) == 1:
        frame = frame.drop(columns="arm").rename(columns={"in the arm": f"in {arms[0]}"})
    if without_tests(effects):
        frame = frame.drop(columns="p")
    if any(e.segment for e in effects):
        frame.insert(1, "segment", [e.segment or "all" for e in effects])
    return frame.assign(units=[f"{e.n_control:,} / {e.n_treatment:,}" for e in effects])


def draw_figures(results: ABTestResults, *, shares: Collection[str] = ()) -> dict[str, Any]:
    """Every figure by name; the values of ``shares`` are shown in percent."""
    found = results.experiment
    metrics = list(dict.fromkeys(e.metric for e in found.effects))
    figures = {"effects": plot_ab(found.effects)}
    for metric in metrics:
        figures[f"rates_{metric}"] = plot_rates(_of(found.effects, metric), as_percent=metric in shares)
    for effect in found.effects:
        of_arm = [e for e in _of(found.segments, effect.metric) if e.treatment == effect.treatment]
        if of_arm:
            figures[f"segments_{effect.metric}_{effect.treatment}"] = plot_forest([effect, *of_arm])
    figures |= {f"posterior_{p.metric}": plot_posterior(p, as_percent=p.metric in shares) for p in found.posteriors}
    figures |= {f"trend_{t.metric}_{t.treatment}": plot_trend(t) for t in found.trends}
    figures |= {f"distribution_{d.metric}": plot_distribution(d) for d in _each_once(results.distributions)}
    return figures | {f"aa_{a.metric}": plot_aa(a) for a in results.aa}


def _each_once(distributions: Sequence[DistributionResult]) -> list[DistributionResult]:
    """Without those of the same values under another metric's name."""
    kept: dict[bytes, DistributionResult] = {}
    for each in distributions:
        kept.setdefault(each.value.tobytes() + each.mean.tobytes(), each)
    return list(kept.values())


def _of(effects: Sequence[ABResult], metric: str) -> list[ABResult]:
    return [e for e in effects if e.metric == metric]


def sections(results: ABTestResults, figures: Mapping[str, Any], *, decided: Section | None = None) -> list[Section]:
    """The parts of the report that have results; ``decided`` says how the verdict came about."""
    found = results.experiment
    parts = (
        _effects(found, figures),
        beliefs(found.posteriors, _named(figures, "posterior_")),
        _segments(found, figures),
        decided,
        _trends(found, figures),
        _assignment(found),
        _data(results, figures),
        _aa(results, figures),
    )
    return [part for part in parts if part is not None]


def _named(figures: Mapping[str, Any], *prefixes: str) -> tuple[Any, ...]:
    return tuple(figure for name, figure in figures.items() if name.startswith(prefixes))


def _effects(found: ExperimentResult, figures: Mapping[str, Any]) -> Section:
    tables = {}
    if found.diluted:
        tables["On all units, triggered or not"] = scorecard_frame(found.diluted)
    methods = [(metric, _with_notes(metric, method, found.notes))
               for metric, method in dict.fromkeys((e.metric, e.method) for e in found.effects)]  # fmt: skip
    tables["How each is estimated"] = pd.DataFrame(methods, columns=["metric", "method"])
    return Section("Effects", (), _named(figures, "effects", "rates_"), tables)


def _with_notes(metric: str, method: str, notes: Sequence[str]) -> str:
    """The method, and what was done to the metric's values before."""
    own = [note.removeprefix(f"{metric}: ") for note in notes if note.startswith(f"{metric}: ")]
    return "; ".join([method, *own])


def _segments(found: ExperimentResult, figures: Mapping[str, Any]) -> Section | None:
    if not found.segments:
        return None
    text = (
        "Among many groups some differ by chance. Ask first whether the effect differs between the groups of a "
        "dimension at all, with the p-value that is corrected for the number of such questions.",
    )
    tables = {}
    if found.interactions:
        tables["Does the effect differ between groups?"] = interaction_table(found.interactions)
    tables["Effects within segments"] = scorecard_frame(found.segments)
    return Section("Segments", text, _named(figures, "segments_"), tables)


def _trends(found: ExperimentResult, figures: Mapping[str, Any]) -> Section | None:
    trends = found.trends
    if not trends:
        return None
    text = tuple(f"{t.metric}, {t.treatment}: {t.method}." for t in trends)
    columns = ["metric", "treatment", "estimate", "ci_low", "ci_high", "pvalue", "n_obs"]
    return Section(
        "Over time", text, _named(figures, "trend_"), {"Change of the effect per day": rows_of(trends)[columns]}
    )


def _assignment(found: ExperimentResult) -> Section | None:
    if not (found.sample_ratio or found.pre_period):
        return None
    tables = {f"Units, {ratio.method}": ratio.to_frame() for ratio in found.sample_ratio}
    if found.segment_ratios:
        columns = ["dimension", "most_suspicious", "n_segments", "pvalue", "mismatch"]
        tables["Split within segments: the most suspicious"] = rows_of(found.segment_ratios)[columns]
    if found.pre_period:
        tables["Before the experiment, where nothing should differ"] = scorecard_frame(found.pre_period)
    text = tuple(
        f"Sample ratio: p = {format_pvalue(r.pvalue)}"
        f"{', a mismatch: find its cause before reading on' if r.mismatch else ', as designed'}."
        for r in found.sample_ratio
    )
    return Section("Assignment", text, (), tables)


def _data(results: ABTestResults, figures: Mapping[str, Any]) -> Section | None:
    if not (results.outliers or results.distributions):
        return None
    text = tuple(_outlier_sentence(o) for o in results.outliers)
    tables = {}
    if results.outliers:
        parts = [o.to_frame().assign(metric=o.metric, values=o.label) for o in results.outliers]
        table = pd.concat(parts, ignore_index=True)
        tables["Outliers"] = table[["metric", "values", *table.columns.drop(["metric", "values"])]]
    return Section("Outliers and distributions", text, _named(figures, "distribution_"), tables)


def _outlier_sentence(found: OutlierResult) -> str:
    of = f"{found.metric}, values of {found.label}" if found.label != found.metric else found.metric
    if math.isnan(found.pvalue):
        return f"{of}: {found.threshold}; {found.method}."
    differs = "the share differs" if found.pvalue < _SUSPICIOUS else "no clear sign that the share differs"
    return f"{of}: {found.threshold}; {differs} between arms ({pvalue_text(found.pvalue)}, {found.method})."


def _aa(results: ABTestResults, figures: Mapping[str, Any]) -> Section | None:
    if not results.aa:
        return None
    columns = ["metric", "false_positive_rate", "ci_low", "ci_high", "uniformity_pvalue", "calibrated", "n_simulations"]
    text = (
        "The units are split by lot again and again, so there is nothing to find: p-values should be uniform, and the "
        "share below alpha about alpha.",
    )
    return Section("A/A simulation", text, _named(figures, "aa_"), {"False positives": rows_of(results.aa)[columns]})
