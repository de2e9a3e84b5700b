"""An experiment's results as a table for people: text of at most 110 columns, and HTML."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from causalrec.results.answers import answer_groups, correction_line, relative_margins
from causalrec.results.base import (
    format_level,
    format_number,
    pvalue_text,
    short_pvalue,
    written_interval,
)

if TYPE_CHECKING:
    from causalrec.results.abtest import ABResult, ExperimentResult

WIDTH = 110
_NAMES = (0, 1)  # columns that are text: left aligned, and cut where the table would be too wide
_SHORTEST_NAME = 8


def scorecard_text(result: ExperimentResult) -> str:
    """The scorecard, the checks and the notes."""
    sizes = [part for line in _sizes(result.effects) for part in _wrapped(line, "")]
    heading = ["on triggered units:"] if result.diluted else []
    first = [part for line in (*verdict_lines(result), *split_alarms(result)) for part in _wrapped(line, "")]
    lines = [_title(result), *first, *sizes]
    if result.effects:
        lines += ["", *heading, *_text_table(result.effects)]
    if result.diluted:
        lines += ["", "on all units, triggered or not:", *_text_table(result.diluted)]
    for block in ([*scorecard_answers(result)], [*scorecard_questions(result), *scorecard_checks(result)]):
        if block:
            lines += ["", *(part for line in block for part in _wrapped(line, ""))]
    if result.notes:
        lines += ["", "notes", *(part for note in result.notes for part in _wrapped(note, "- "))]
    return "\n".join(lines)


def scorecard_html(result: ExperimentResult) -> str:
    """The same as HTML."""
    parts = [_html_table(_title(result), result.effects)] if result.effects else [f"<p>{escape(_title(result))}</p>"]
    if result.diluted:
        parts.append(_html_table("on all units, triggered or not", result.diluted))
    said = (scorecard_answers(result), scorecard_questions(result), scorecard_checks(result))
    lines = [*_sizes(result.effects), *(line for each in said for line in each), *result.notes]
    parts.append(f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>")
    first = [f"<p><b>{escape(line)}</b></p>" for line in (*verdict_lines(result), *split_alarms(result))]
    return "".join([*first, *parts])


def verdict_lines(result: ExperimentResult) -> Iterator[str]:
    """What the decision rule says, the verdict in capitals, and why."""
    if result.verdict is not None:
        yield result.verdict.headline.upper()
        yield from result.verdict.reasons


def split_alarms(result: ExperimentResult) -> Iterator[str]:
    """A split that is not the designed one, which makes every effect doubtful."""
    for ratio in result.sample_ratio:
        if ratio.mismatch:
            p = pvalue_text(ratio.pvalue)
            yield f"SAMPLE RATIO MISMATCH ({p}): do not trust the effects until its cause is found"


def scorecard_answers(result: ExperimentResult) -> Iterator[str]:
    """Which metrics answer what, and that their number is not corrected for."""
    yield from answer_groups(result.effects)
    yield from (posterior.answer for posterior in result.posteriors)
    if line := correction_line(result):
        yield line


def _title(result: ExperimentResult) -> str:
    units = f"{result.n_obs:,} units"
    if result.diluted:
        units = f"{max(_triggered(result.effects)):,} triggered of {units}"
    credible = "credible " if result.inference == "Bayesian" else ""
    often = f", {result.inference}" if result.inference not in ("fixed horizon", "Bayesian") else ""
    return f"Experiment: {units}, {format_level(result.confidence_level)} {credible}intervals{often}"


def _triggered(effects: Sequence[ABResult]) -> Iterator[int]:
    """Units of all arms with a value, by metric."""
    for metric in {e.metric for e in effects}:
        own = [e for e in effects if e.metric == metric]
        yield own[0].n_control + sum(e.n_treatment for e in own)


def _sizes(effects: Sequence[ABResult]) -> Iterator[str]:
    """Units by arm, and which metrics have others."""
    by_metric: dict[str, dict[str, int]] = {}
    for e in effects:
        by_metric.setdefault(e.metric, {}).update({e.control: e.n_control, e.treatment: e.n_treatment})
    groups: dict[str, list[str]] = {}
    for metric, units in by_metric.items():
        groups.setdefault(", ".join(f"{arm} {n:,}" for arm, n in units.items()), []).append(metric)
    usual = max(groups, key=lambda sizes: len(groups[sizes]), default="")
    for sizes, metrics in sorted(groups.items(), key=lambda item: item[0] != usual):
        yield f"n: {sizes}" if sizes == usual else f"n of {', '.join(metrics)}: {sizes}"


def scorecard_rows(effects: Sequence[ABResult]) -> list[tuple[str, ...]]:
    """Header and a row per effect."""
    controls = {e.control for e in effects}
    base = controls.pop() if len(controls) == 1 else "control"
    rows: list[tuple[str, ...]] = [("metric", "arm", base, "treatment", "lift", "difference", "p")]
    for e in effects:
        lift = written_interval(e.relative_effect, e.relative_ci_low, e.relative_ci_high, percent=True)
        difference = written_interval(e.estimate, e.ci_low, e.ci_high)
        means = (format_number(e.control_mean), format_number(e.treatment_mean))
        rows.append((e.metric, e.treatment, *means, lift, difference, short_pvalue(e.pvalue)))
    return rows


def without_tests(effects: Sequence[ABResult]) -> bool:
    """Whether there are no p-values to show."""
    return bool(effects) and all(e.inference == "Bayesian" for e in effects)


def _shown_rows(effects: Sequence[ABResult]) -> list[tuple[str, ...]]:
    rows = scorecard_rows(effects)
    return [row[:-1] for row in rows] if without_tests(effects) else rows


def _text_table(effects: Sequence[ABResult]) -> list[str]:
    rows = _shown_rows(effects)
    rows[0] = tuple(_cut(text, 10) if i == 2 else text for i, text in enumerate(rows[0]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    free = WIDTH - sum(widths) - 2 * (len(widths) - 1)
    while free < 0 and max(widths[i] for i in _NAMES) > _SHORTEST_NAME:
        widest = max(_NAMES, key=lambda i: widths[i])
        widths[widest] -= 1
        free += 1
    lines = []
    for row in rows:
        cells = [
            f"{_cut(text, width):<{width}}" if i in _NAMES or i in (4, 5) else f"{text:>{width}}"
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _cut(text: str, width: int) -> str:
    """Leave out the middle: names often differ at their end."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def _html_table(caption: str, effects: Sequence[ABResult]) -> str:
    header, *rows = _shown_rows(effects)
    head = "".join(f"<th style='text-align:left'>{escape(text)}</th>" for text in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def scorecard_questions(result: ExperimentResult) -> Iterator[str]:
    """What was asked where it is not whether there is a difference, a line each."""
    for metric, e in {e.metric: e for e in result.effects if e.hypothesis != "two-sided"}.items():
        yield f"{metric}: p and interval are {_hypothesis(e)}"


def scorecard_checks(result: ExperimentResult) -> Iterator[str]:
    """What was checked, a line each."""
    for metric in _adjusted_apart(result.effects):
        yield f"{metric}: the value of control depends on the arm beside it, as each comparison is adjusted by itself"
    for ratio in result.sample_ratio:
        arms = ", ".join(
            f"{arm} {count:,} of {expected:,.0f} expected"
            for arm, count, expected in zip(ratio.arms, ratio.counts, ratio.expected, strict=True)
        )
        verdict = "MISMATCH" if ratio.mismatch else "not tested" if math.isnan(ratio.pvalue) else "as designed"
        yield f"sample ratio: {arms}; {pvalue_text(ratio.pvalue)}, {verdict}"
    for split in result.segment_ratios:
        yield (
            f"sample ratio by {split.dimension}: {split.most_suspicious!r} is the most suspicious of "
            f"{split.n_segments}; {pvalue_text(split.pvalue)}{', MISMATCH' if split.mismatch else ''}"
        )
    if result.pre_period:
        worst = min(result.pre_period, key=lambda e: e.pvalue)
        n = len(result.pre_period)
        most = f"of {n} comparisons {worst.metric} of {worst.treatment} differs most" if n > 1 else worst.metric
        yield f"before the experiment: {most}, {pvalue_text(worst.pvalue)}"
    tests = sorted(result.interactions, key=lambda test: (math.isnan(test.pvalue), test.pvalue))
    for test in tests[:1]:
        yield (
            f"effects by segment: of {_count(len(tests), 'test')} for a difference, {test.metric} of {test.treatment} "
            f"by {test.dimension} has the smallest p: {short_pvalue(test.pvalue)}"
        )
    trends = sorted((t for t in result.trends if not math.isnan(t.pvalue)), key=lambda trend: trend.pvalue)
    for trend in trends[:1]:
        change = written_interval(trend.estimate, trend.ci_low, trend.ci_high)
        yield (
            f"effects by day: of {_count(len(trends), 'slope')}, {trend.metric} of {trend.treatment} has the smallest "
            f"p: {short_pvalue(trend.pvalue)}, a change of {change} a day"
        )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _adjusted_apart(effects: Sequence[ABResult]) -> list[str]:
    """Metrics whose control has another value beside each arm."""
    seen: dict[str, set[str]] = {}
    for e in effects:
        seen.setdefault(e.metric, set()).add(format_number(e.control_mean))
    return [metric for metric, values in seen.items() if len(values) > 1]


def _hypothesis(effect: ABResult) -> str:
    if effect.hypothesis in ("greater", "less"):
        return f"one-sided ({effect.hypothesis})"
    known = [m for m in (effect.margin_low, effect.margin_high) if not math.isnan(m)]
    margins = [f"{100 * m:+.4g}%" if relative_margins(effect) else format_number(m) for m in known]
    level = effect.interval_level
    at = "" if level == effect.confidence_level else f", {format_level(level)} interval"
    return f"of {effect.hypothesis}, margin{'s' * (len(margins) > 1)} {' and '.join(margins)}{at}"


def _wrapped(line: str, bullet: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, initial_indent=bullet, subsequent_indent=" " * (len(bullet) or 2), break_on_hyphens=False
    )
