"""A study's report as figures, sections of its page, and the banner they stand under; from results alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from causalrec.plots import (
    plot_balance,
    plot_confounding,
    plot_effects,
    plot_gamma,
    plot_graph,
    plot_overlap,
    plot_refutations,
)
from causalrec.report import Banner, Section
from causalrec.results import (
    EffectComparisonResult,
    PartialR2Result,
    RefutationsResult,
    SensitivityResult,
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
    return found | refutation_figures(report.refutations) | hidden_bias_figures(report.sensitivity)


def refutation_figures(found: RefutationsResult) -> dict[str, Any]:
    """A panel for each refutation, by the name ``"refutations"``; nothing where none has draws."""
    return {"refutations": plot_refutations(found)} if found.results else {}


def hidden_bias_figures(found: SensitivityResult) -> dict[str, Any]:
    """Contours with the strongest covariates, and the curve of gamma: ``"confounding"`` and ``"gamma"``."""
    drawn: dict[str, Any] = {}
    benchmarks = found.strongest_benchmarks(_BENCHMARKS)
    if benchmarks is not None:
        drawn["confounding"] = plot_confounding(benchmarks)
    if found.rosenbaum is not None:
        drawn["gamma"] = plot_gamma(found.rosenbaum)
    return drawn


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
        return _named(drawn, names)

    sections = [Section("What is asked, and what must be believed", tuple(_estimand(report)), of("graph"))]
    if report.comparison is not None:
        table = {"Estimates": _methods_table(report.comparison)}
        text = (f"No estimate by {failure}" for failure in report.comparison.failures)
        sections.append(Section("The effect by every method", tuple(text), of("effects"), table))
    if report.balance is not None or report.overlap is not None:
        sections.append(_support(report, of("balance", "overlap")))
    sections.append(refutation_section(report.refutations, drawn))
    if _scales_of(report.sensitivity) is not None or any(_unsaid(report.sensitivity, (*report.changes, *report.notes))):
        sections.append(hidden_bias_section(report.sensitivity, drawn, said_elsewhere=(*report.changes, *report.notes)))
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


def _named(figures: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(figures[name] for name in names if name in figures)


def refutation_section(found: RefutationsResult, figures: Mapping[str, Any]) -> Section:
    """What was found and expected, and what passing means; ``figures`` as :func:`refutation_figures` has them."""
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
    return Section("Refutations", tuple(text), _named(figures, ["refutations"]), tables)


def _refutations_table(found: RefutationsResult) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "refutation": [name.replace("_", " ") for name in found.names],
            "found": [r.new_effect for r in found.results], "expected": [r.expected for r in found.results],
            "spread": [r.new_std for r in found.results], "adjusted_pvalue": found.adjusted_pvalue,
            "passed": list(found.verdicts),
        }
    )  # fmt: skip


def hidden_bias_section(
    found: SensitivityResult, figures: Mapping[str, Any], *, said_elsewhere: Collection[str] = ()
) -> Section:
    """How much hidden bias it takes, beside covariates; ``figures`` of :func:`hidden_bias_figures`."""
    tables = {}
    scales = _scales_of(found)
    if scales is not None:
        tables["How much hidden bias it takes"] = scales
    if found.partial_r2 is not None and len(found.partial_r2.benchmark):
        tables["The regression beside a hidden cause like each covariate"] = _beside(found.partial_r2)
    if found.rosenbaum is not None:
        tables["Matched sets by gamma"] = found.rosenbaum.to_frame().dropna(axis=1, how="all")
    return Section(
        "Hidden bias", tuple(_unsaid(found, said_elsewhere)), _named(figures, ["confounding", "gamma"]), tables,
        ("Matched sets by gamma",),
    )  # fmt: skip


def _unsaid(found: SensitivityResult, elsewhere: Collection[str]) -> Iterator[str]:
    yield from (text for text in found.sentences() if text not in elsewhere)
    yield from (f"{note[:1].upper()}{note[1:]}." for note in found.notes if note not in elsewhere)


def _scales_of(found: SensitivityResult) -> pd.DataFrame | None:
    """A row per scale that applies."""
    names = {
        "gamma": "multiply the odds of treatment within matched sets by (gamma)",
        "evalue": "go with treatment and outcome by a risk ratio of (E-value)",
        "robustness_value": "explain this share of what is left of both (robustness value)",
        "times_as_strong": f"be so many times as strong as {found.strongest}",
    }
    scales = found.to_frame().dropna(subset=["estimate", "interval"], how="all")
    if not len(scales):
        return None
    share = (scales["scale"] == "robustness_value").tolist()
    written = {
        column: [_as_share(v) if s else format_number(v) for v, s in zip(scales[column], share, strict=True)]
        for column in ("estimate", "interval")
    }
    return pd.DataFrame(
        {
            "a hidden cause must …": scales["scale"].map(names).tolist(),
            "to bring the estimate to zero": written["estimate"], "its interval": written["interval"],
        }
    )  # fmt: skip


def _beside(found: PartialR2Result) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a hidden cause like": found.benchmark.tolist(),
            "explains of treatment": [_as_share(x) for x in found.r2_treatment],
            "of outcome": [_as_share(x) for x in found.r2_outcome], "estimate": found.adjusted_estimate,
            "interval": [format_interval(*e) for e in zip(found.adjusted_low, found.adjusted_high, strict=True)],
        }
    )  # fmt: skip


def _as_share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2%}"
