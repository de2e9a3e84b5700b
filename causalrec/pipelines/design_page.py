"""The design document: one page on what is asked, how long it takes, and what will be decided how; before the start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalrec.abtest.hypotheses import Equivalence, Hypothesis, NonInferiority, Superiority
from causalrec.abtest.inference import FixedHorizon
from causalrec.experiment_config import ExperimentConfig
from causalrec.pipelines.abtest_design import (
    GUARDRAIL,
    PRIMARY,
    SECONDARY,
    ExperimentPlan,
    MetricPlan,
    daily_units,
    days_until,
    plan_experiment,
)
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.plots import plot_power_curve
from causalrec.report import figure_of, render_template, write_report
from causalrec.results import format_level, format_number, format_percent
from causalrec.tracking import git_commit

_HEADER = (
    ("metric", "text"), ("what is asked", "text"), ("in control", ""), ("effect that matters", ""),
    ("units needed", ""), ("days", ""), ("seen with all units", ""),
)  # fmt: skip
_ROLES = {
    PRIMARY: "Primary: what is decided on",
    GUARDRAIL: "Guardrails: must be shown not to be harmed",
    SECONDARY: "Secondary: to understand, not to decide",
}
_MOST_ROWS = 12


@dataclass(frozen=True)
class DesignDocument:
    """The plan, and where its page is."""

    title: str
    plan: ExperimentPlan
    lines: tuple[str, ...]
    path: Path


def write_design(
    config: ExperimentConfig, data: Path | None = None, output: Path | None = None, *, reporter: Reporter | None = None
) -> DesignDocument:
    """Plan an experiment and write its design document, one page of A4.

    Parameters
    ----------
    config : ExperimentConfig
    data : Path, optional
        A past period; ``design.data`` by default.
    output : Path, optional
        The HTML file to write; ``<output_dir>/<name>_design.html`` by default.
    reporter : Reporter, optional

    Raises
    ------
    CausalRecError
        See :func:`causalrec.pipelines.abtest_design.plan_experiment`; where the place cannot be written.
    """
    reporter = reporter or SilentReporter()
    with reporter.stage("design"):
        plan = plan_experiment(config, data)
    with reporter.stage("page"):
        target = output or config.output_dir / f"{config.name}_design.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        path = write_report(target, design_html(config, plan))
    return DesignDocument(config.name, plan, tuple(summary_lines(config, plan)), path)


def design_html(config: ExperimentConfig, plan: ExperimentPlan) -> str:
    """The page as HTML, with its figure inside it."""
    return render_template(
        "design.html.j2", title=config.name, question=config.description or f"What does {config.variant} change?",
        facts=_facts(config, plan), header=_HEADER, groups=_groups(config, plan), measured=_measured(config, plan),
        figure=_figure(plan), looks=_looks(config, plan), parts=list(_parts(config, plan)),
        made=_made(plan),
    )  # fmt: skip


def summary_lines(config: ExperimentConfig, plan: ExperimentPlan) -> Iterator[str]:
    """What a terminal shows of the plan."""
    days = "" if math.isnan(plan.days) else f", {_days(plan.days)} at the given traffic"
    yield f"{plan.most_units:,} units in all arms{days}; {plan.largest.name} sets the size"
    for m in (*plan.of(PRIMARY), *plan.of(GUARDRAIL)):
        if m.needed is not None:
            own = days_until(config, m.needed.n_obs)
            in_days = "" if math.isnan(own) else f", {_days(own)}"
            yield f"{m.role} {m.name}: {m.needed.n_obs:,} units{in_days} for {_effect(m)}"
    if plan.looks is not None:
        yield _expected(plan)


def _facts(config: ExperimentConfig, plan: ExperimentPlan) -> list[tuple[str, str, str]]:
    split = " : ".join(f"{100 * share:.4g}%" for share in plan.shares)
    found = [
        ("arms", split, " : ".join(plan.arms)),
        ("unit", config.cluster or config.unit or "a row", "assigned by lot"),
        ("units in all arms", f"{plan.most_units:,}", f"{plan.largest.name} needs most"),
    ]
    if not math.isnan(plan.days):
        found.append(("runs for", _days(plan.days), "at the given traffic"))
    if plan.looks is not None:
        found.append(("expected units", f"{plan.looks.expected:,.0f}", "if the effect is as planned"))
    else:
        found.append(("looks", "one", "at the end"))
    return found


def _groups(config: ExperimentConfig, plan: ExperimentPlan) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Rows by role; where there are many, secondary metrics are left out."""
    groups = [(role, [_row(config, m) for m in plan.of(role)]) for role in _ROLES]
    room = _MOST_ROWS - sum(len(rows) for role, rows in groups if role != SECONDARY)
    shown = [(_ROLES[role], rows[: max(room, 0)] if role == SECONDARY else rows) for role, rows in groups]
    return [(role, rows) for role, rows in shown if rows]


def _row(config: ExperimentConfig, m: MetricPlan) -> tuple[str, ...]:
    known = m.design is not None and not math.isnan(m.design.baseline)
    needed = "–" if m.needed is None else f"{m.needed.n_obs:,}"
    days = math.nan if m.needed is None else days_until(config, m.needed.n_obs)
    return (
        m.name, _asked(m.hypothesis), format_number(m.design.baseline) if known and m.design else "–", _effect(m),
        needed, "–" if math.isnan(days) else f"{days:,.0f}", _seen(m),
    )  # fmt: skip


def _asked(hypothesis: Hypothesis) -> str:
    if isinstance(hypothesis, Superiority):
        return {"two-sided": "is it different?", "greater": "is it higher?", "less": "is it lower?"}[
            hypothesis.alternative
        ]
    margin = f"{100 * hypothesis.margin:.4g}%" if hypothesis.relative else format_number(hypothesis.margin)
    if isinstance(hypothesis, Equivalence):
        return f"is it within ±{margin}?"
    worse = "lower" if hypothesis.higher_is_better else "higher"
    return f"is it less than {margin} {worse}?"


def _effect(m: MetricPlan) -> str:
    """The effect that a size is for."""
    if m.needed is None:
        return "–"
    if m.needed.effect == 0:
        return "no effect"
    relative = m.needed.relative_effect
    return format_number(m.needed.effect) if math.isnan(relative) else format_percent(relative)


def _seen(m: MetricPlan) -> str:
    """The smallest effect that all units show; of a margin, the worst that still passes."""
    if m.seen is None:
        return "–"
    relative = m.seen.relative_effect
    size = format_number(abs(m.seen.effect)) if math.isnan(relative) else f"{100 * abs(relative):.3g}%"
    sign = "±" if m.hypothesis == Superiority() else "+" if m.seen.effect >= 0 else "−"
    return f"{sign}{size}"


def _measured(config: ExperimentConfig, plan: ExperimentPlan) -> Iterator[str]:
    tests = format_level(plan.alpha)
    each = ""
    if plan.n_comparisons > 1:
        each = f", {100 * plan.alpha / plan.n_comparisons:.3g}% for each of {plan.n_comparisons} primary comparisons"
    margin = "; a margin is to be shown where the change does nothing" if _has_margin(plan) else ""
    yield (
        f"For {format_level(config.design.power)} power at {tests} false alarms{each}{margin}. Seen with all units: "
        "the smallest true effect that is found with that power (of a margin: the worst that still passes)."
    )
    hidden = len(plan.metrics) - sum(len(rows) for _, rows in _groups(config, plan))
    if hidden:
        yield f"And {hidden} more secondary metrics, which the config names."


def _has_margin(plan: ExperimentPlan) -> bool:
    return any(isinstance(m.hypothesis, NonInferiority) for m in plan.of(GUARDRAIL))


def _figure(plan: ExperimentPlan) -> dict[str, str]:
    axes = plot_power_curve(plan.curve)
    return figure_of(axes, "power")


def _looks(config: ExperimentConfig, plan: ExperimentPlan) -> dict[str, Any] | None:
    found = plan.looks
    if found is None:
        return None
    header = ["look", "units", "days", "stops beyond", "by then: if it works", "if not"]
    rows = [
        [f"{k}", f"{n:,}", _number(days_until(config, n)), f"±{z:.2f} se", f"{a:.0%}", f"{b:.1%}"]
        for k, (n, z, a, b) in enumerate(
            zip(found.n_obs, found.bound, found.stopped, found.stopped_null, strict=True), 1
        )
    ]
    said = _expected(plan)
    if daily_units(config) is None:
        header, rows = [h for h in header if h != "days"], [[c for i, c in enumerate(r) if i != 2] for r in rows]
    return {
        "title": f"Looks ({found.method})",
        "header": header,
        "rows": rows,
        "lines": [f"{said[:1].upper()}{said[1:]}."],
    }


def _expected(plan: ExperimentPlan) -> str:
    if plan.looks is None:
        return ""
    return (
        f"expected units of {plan.largest.name}: {plan.looks.expected:,.0f} if the effect is as planned, "
        f"{plan.looks.expected_null:,.0f} if there is none; at most {plan.looks.n_obs[-1]:,}, one look would take "
        f"{plan.n_obs:,}"
    )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"


def _parts(config: ExperimentConfig, plan: ExperimentPlan) -> Iterator[dict[str, Any]]:
    yield {"title": "What will be decided, and how", "lines": list(_rule(config, plan)), "kind": ""}
    yield {"title": "What is checked", "lines": list(_checks(config, plan)), "kind": ""}
    yield {"title": "What would stop it", "lines": list(_stops(config, plan)), "kind": "stop"}


def _rule(config: ExperimentConfig, plan: ExperimentPlan) -> Iterator[str]:
    if (rule := config.rule()) is not None:
        yield from rule.in_words()
        days = rule.max_days
        if days is not None and plan.days > days:
            yield f"That is before the {_days(plan.days)} that the size takes: allow more time, or look for more."
        return
    primary, guardrails = _names(plan, PRIMARY), _names(plan, GUARDRAIL)
    safe = f" and {guardrails} {'are' if len(plan.of(GUARDRAIL)) > 1 else 'is'} shown within the margin" * bool(
        guardrails
    )
    yield f"Ship, if {primary} {'improve' if len(plan.of(PRIMARY)) > 1 else 'improves'}{safe}."
    harm = f", if {guardrails} {'are' if len(plan.of(GUARDRAIL)) > 1 else 'is'} beyond the margin" * bool(guardrails)
    yield f"Don't ship{harm}, if {primary} is worse, or if the effect that matters is ruled out."
    yield f"Otherwise keep running, until {plan.most_units:,} units."


def _names(plan: ExperimentPlan, role: str) -> str:
    names = [m.name for m in plan.of(role)]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _checks(config: ExperimentConfig, plan: ExperimentPlan) -> Iterator[str]:
    if config.weights is not None:
        within = f", also within {', '.join(config.segments)}" if config.segments else ""
        yield f"The split is as designed (p ≥ {config.srm_threshold:g}){within}."
    else:
        yield "The split is not checked, as the config gives no `weights`."
    conflict = "the run stops" if config.on_conflict == "raise" else "they are left out and counted"
    if config.unit or config.cluster:
        yield f"No unit is in two arms ({conflict} if some are)."
    before = [c for section in config.metrics.values() for c in _covariates(section)]
    if before:
        yield f"Arms do not differ before the start: {', '.join(dict.fromkeys(before))}."
    if config.checks.outlier_quantile is not None:
        yield f"No arm has more outliers (beyond the {100 * config.checks.outlier_quantile:g}% quantile)."
    if config.checks.aa_simulations:
        yield f"An A/A simulation of {config.checks.aa_simulations:,} splits finds what it should: nothing."
    if config.segments:
        n = len(config.segments) * len(plan.metrics)
        yield f"Effects by segment are explored, not decided on: {n} questions, corrected for their number."


def _covariates(section: dict[str, Any]) -> list[str]:
    found = section.get("covariates") or []
    return [found] if isinstance(found, str) else [str(name) for name in found]


def _stops(config: ExperimentConfig, plan: ExperimentPlan) -> Iterator[str]:
    if config.weights is not None:
        yield f"A sample ratio mismatch (p < {config.srm_threshold:g}): something is broken, no result counts."
    if plan.of(GUARDRAIL):
        yield f"Harm: the interval of {_names(plan, GUARDRAIL)} is wholly beyond the margin."
    if isinstance(config.experiment().inference, FixedHorizon):
        yield (
            f"Nothing else. A good or bad result before {plan.most_units:,} units is no reason to stop: the test is "
            "made for one look."
        )
    elif plan.looks is not None:
        yield f"A primary effect beyond the bound of its look, as above ({plan.looks.method})."
    else:
        yield "A belief strong enough under the rule; the size is that of a test with one look."


def _made(plan: ExperimentPlan) -> str:
    commit = git_commit()
    code = f" Made by causalrec at commit {commit[:10]}." if commit else ""
    return f"What control looks like: {plan.source}.{code}"


def _days(days: float) -> str:
    return f"{days:,.0f} day{'s' * (days != 1)}"
