"""A study's report as figures, sections of its page, and the banner they stand under; from results alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from causalrec.plots import (
    plot_balance,
    plot_confounding,
    plot_effects,
    plot_gamma,
    plot_overlap,
    plot_placebo,
)
from causalrec.plots.graph import plot_graph
from causalrec.report import Banner, Section
from causalrec.results import (
    EffectComparisonResult,
    RefutationsResult,
    StudyReport,
    format_interval,
    format_number,
)
from causalrec.results.study import support_lines

_BENCHMARKS = 4  # in the figure of contours
_VERDICTS = {
    "doubtful": ("Doubtful as a causal effect", "stop"),
    "plausible": ("Plausible, if nothing hidden matters", "wait"),
    "randomised": ("Causal by design", "go"),
}


def study_banner(report: StudyReport) -> Banner:
    """The verdict, then the conclusion and the doubts as its reasons."""
    text, kind = _VERDICTS.get(report.verdict, ("What was found", "wait"))
    if report.verdict == "plausible" and report.identification.strategy in ("instrument", "front_door"):
        text = "Plausible, if the assumptions hold"
    return Banner(text, kind, (report.conclusion, *report.doubts))


def draw_study(report: StudyReport) -> dict[str, Any]:
    """The figures that there is something for, as matplotlib Axes by name."""
    found: dict[str, Any] = {}
    if report.identification.edges:
        found["graph"] = plot_graph(report.identification)
    if report.comparison is not None:
        found["effects"] = plot_effects(report.comparison, title="The effect by every method")
    if report.balance is not None:
        found["balance"] = plot_balance(report.balance)
    if report.overlap is not None and report.overlap.min_propensity < report.overlap.max_propensity:
        found["overlap"] = plot_overlap(report.overlap)
    found |= _refutation_figures(report.refutations)
    hidden = report.sensitivity
    benchmarks = hidden.strongest_benchmarks(_BENCHMARKS)
    if benchmarks is not None:
        found["confounding"] = plot_confounding(benchmarks)
    if hidden.rosenbaum is not None:
        found["gamma"] = plot_gamma(hidden.rosenbaum)
    return found


def _refutation_figures(found: RefutationsResult) -> dict[str, Any]:
    """The placebo's draws beside the estimate."""
    drawn = [r for r in found.results if r.kind == "placebo_treatment" and np.isfinite(r.draws).sum() > 1]
    return {"refutations": plot_placebo(drawn[0])} if drawn else {}


def study_sections(report: StudyReport, figures: Mapping[str, Any] | None = None) -> list[Section]:
    """The page from the estimand to what would change the conclusion.

    Parameters
    ----------
    report : StudyReport
    figures : mapping of names to pictures, optional
        Of :func:`draw_study`; without, they are drawn here.
    """
    drawn = dict(draw_study(report) if figures is None else figures)

    def of(*names: str) -> tuple[Any, ...]:
        return tuple(drawn[name] for name in names if name in drawn)

    sections = [Section("What is asked, and what must be believed", tuple(_estimand(report)), of("graph"))]
    if report.comparison is not None:
        table = {"Estimates": _methods_table(report.comparison)}
        text = (f"No estimate by {failure}" for failure in report.comparison.failures)
        sections.append(Section("The effect by every method", tuple(text), of("effects"), table))
    if report.balance is not None or report.overlap is not None:
        sections.append(_support(report, of("balance", "overlap")))
    sections.append(_refutations(report, of("refutations")))
    sections.append(_hidden(report, of("confounding", "gamma")))
    if report.changes:
        sections.append(Section("What would change the conclusion", report.changes))
    return sections


def _estimand(report: StudyReport) -> Iterator[str]:
    found = report.identification
    first, *rest = str(found).split("\n")
    yield first
    for line in rest:
        text = line.strip()
        yield f"{text[:1].upper()}{text[1:].rstrip('.')}."
    effect = report.effect
    yield (
        f"The headline: {format_number(effect.estimate)} {format_interval(effect.ci_low, effect.ci_high)}, by "
        f"{effect.method}."
    )


def _methods_table(compared: EffectComparisonResult) -> pd.DataFrame:
    """A row per method; the estimand where it is another."""
    frame = compared.to_frame()
    table = pd.DataFrame(
        {
            "method": [name.replace("_", " ") for name in frame["name"]], "estimand": frame["estimand"],
            "estimate": frame["estimate"], "std error": frame["std_error"],
            "interval": [format_interval(*ends) for ends in zip(frame["ci_low"], frame["ci_high"], strict=True)],
            "units": frame["n_obs"], "left out": frame["n_dropped"], "worst |SMD|": frame["max_abs_smd"].round(4),
        }
    )  # fmt: skip
    dull = [name for name, value in (("estimand", compared.estimand), ("left out", 0)) if (table[name] == value).all()]
    return table.drop(columns=dull)


def _support(report: StudyReport, figures: tuple[Any, ...]) -> Section:
    tables = {}
    if report.balance is not None:
        frame = report.balance.to_frame()
        columns = ["covariate", "smd_before", "smd_after", "variance_ratio_before", "variance_ratio_after"]
        order = frame["smd_before"].abs().sort_values(ascending=False, kind="stable").index
        tables["Covariates, the farthest apart before first"] = frame.loc[order, columns].reset_index(drop=True)
    return Section(
        "Can the arms be compared? Balance and overlap", tuple(support_lines(report)), figures, tables, tuple(tables)
    )


def _refutations(report: StudyReport, figures: tuple[Any, ...]) -> Section:
    found = report.refutations
    text = [f"Not run: {failure}" for failure in found.failures]
    tables = {}
    if found.names:
        verdict = "It passed them all" if found.passed else "It failed some of them"
        text.insert(
            0,
            f"The estimate {format_number(found.estimate)} ({found.method}) was made again of data changed so that the "
            f"answer is known. {verdict}; p-values are adjusted for their number (Holm).",
        )
        tables["Refutations"] = _refutations_table(found)
        text += [f"{name.replace('_', ' ').capitalize()}. {r.meaning}" for name, r in zip(found.names, found.results,
                 strict=True)]  # fmt: skip
    elif not text:
        text = ["None was run."]
    return Section("Refutations", tuple(text), figures, tables)


def _refutations_table(found: RefutationsResult) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "refutation": [name.replace("_", " ") for name in found.names],
            "found": [r.new_effect for r in found.results], "expected": [r.expected for r in found.results],
            "spread": [r.new_std for r in found.results], "adjusted_pvalue": found.adjusted_pvalue,
            "passed": list(found.verdicts),
        }
    )  # fmt: skip


def _hidden(report: StudyReport, figures: tuple[Any, ...]) -> Section:
    """The scales and the covariates beside; in words only what the page's end does not say."""
    found = report.sensitivity
    names = {
        "gamma": "multiply the odds of treatment within matched sets by (gamma)",
        "evalue": "go with treatment and outcome by a risk ratio of (E-value)",
        "robustness_value": "explain this share of what is left of both (robustness value)",
        "times_as_strong": f"be so many times as strong as {found.strongest}",
    }
    scales = found.to_frame().dropna(subset=["estimate", "interval"], how="all")
    scales = scales.assign(scale=scales["scale"].map(names))
    shares = scales["scale"] == names["robustness_value"]
    for column in ("estimate", "interval"):
        scales[column] = [_as_share(v) if share else format_number(v) for v, share in
                          zip(scales[column], shares, strict=True)]  # fmt: skip
    tables = {}
    if len(scales):
        scales.columns = pd.Index(["a hidden cause must …", "to bring the estimate to zero", "its interval"])
        tables["How much hidden bias it takes"] = scales
    if found.partial_r2 is not None and len(found.partial_r2.benchmark):
        beside = found.partial_r2.to_frame().drop(columns=["kd", "ky", "adjusted_error", "adjusted_t"])
        for column in ("r2_treatment", "r2_outcome"):
            beside[column] = beside[column].map(_as_share)
        beside.columns = pd.Index(
            ["a hidden cause like", "explains of treatment", "of outcome", "estimate", "low", "high"]
        )
        tables["The regression beside a hidden cause like each covariate"] = beside
    if found.rosenbaum is not None and math.isfinite(found.gamma):
        tables["Matched sets by gamma"] = found.rosenbaum.to_frame().dropna(axis=1, how="all")
    said = [text for text in found.sentences() if text not in report.changes]
    said += [f"{note[:1].upper()}{note[1:]}." for note in found.notes if note not in report.notes]
    return Section("Hidden bias", tuple(said), figures, tables, ("Matched sets by gamma",))


def _as_share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2%}"
