"""What a person sees in the terminal: progress while a command works, one table when it is done."""

from __future__ import annotations

import math
import os
import textwrap
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from causalrec._validation import list_some
from causalrec.pipelines.abtest_verdict import verdict_title
from causalrec.report import summary_header
from causalrec.results.base import format_number, short_pvalue
from causalrec.results.scorecard import (
    scorecard_answers,
    scorecard_checks,
    scorecard_questions,
    scorecard_rows,
    without_tests,
)

if TYPE_CHECKING:  # what is shown comes from whoever made it; a quick command need not import the others
    import pandas as pd

    from causalrec.features import FeatureDiff, Materialized
    from causalrec.pipelines.abtest import ABTestSummary
    from causalrec.pipelines.data import DatasetStatus
    from causalrec.pipelines.design_page import DesignDocument
    from causalrec.pipelines.features import VersionView, Written
    from causalrec.pipelines.infer import Inference
    from causalrec.pipelines.progress import Advance
    from causalrec.pipelines.summary import RunSummary
    from causalrec.pipelines.targeting import Recommendations
    from causalrec.results import ABResult, HeterogeneityResult

_PLAIN_WIDTH = 140
_NARROW = 118
_HEAD = 5
_FIRST_COLUMNS = 3  # such as two keys and the time
_KEYS = 1
_LONG_NUMBER = 1e15  # beyond it a float is no longer sure of its unit
# What the list of versions can do without, in that order.
_LESS_NEEDED = ("kind", "size", "columns", "updated (UTC)", "rows")


class _CountColumn(ProgressColumn):
    """How much is done, once it is known of how much."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f}")


class ConsoleReporter:
    """Draws the stage at work; where there is no terminal, a line at its start and one at its end."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if console is None and not self.console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            self.console = Console(highlight=False, width=_PLAIN_WIDTH)

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """Enter a stage."""
        started = time.perf_counter()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _CountColumn(), TimeElapsedColumn())
        if not self.console.is_terminal:
            self.console.print(f"… {title}")
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(title, total=None)
            try:
                yield lambda done, total: bar.update(task, completed=done, total=total)
            except BaseException:
                self.console.print(f"[red]✗[/red] {title:<16} {time.perf_counter() - started:6.1f} s")
                raise
        self.console.print(f"[green]✓[/green] {title:<16} {time.perf_counter() - started:6.1f} s")

    def note(self, text: str) -> None:
        """Say one line."""
        self.console.print(_broken(f"  • {text}", self.console).replace("•", "[yellow]•[/yellow]", 1), soft_wrap=True)


def print_summary(summary: RunSummary, console: Console) -> None:
    """The table of a run, its findings, and where everything is."""
    console.print()
    console.print(_summary_table(summary, narrow=console.width < _NARROW))
    for sentence in summary.findings:
        print_text(f"  {sentence}", console)
    console.print()
    report = "made by: causalrec evaluate" if summary.report is None else str(summary.report)
    print_places(summary.path, report, summary.tracking, console)


def _summary_table(summary: RunSummary, *, narrow: bool) -> Table:
    """A row per question; where the terminal is narrow, stages are headings and only the numbers that matter stay."""
    header = summary_header(summary.confidence_level)
    no_truth = all(math.isnan(row.truth) for row in summary.rows)
    shown = [i for i, name in enumerate(header) if not (name == "truth" and no_truth)]
    if narrow:
        shown = [i for i in shown if header[i] not in ("stage", "p-value", "n")]
    table = Table(title=escape(summary.title), title_justify="left", title_style="bold", header_style="bold")
    for i in shown:
        numeric = header[i] not in ("stage", "what")
        table.add_column(header[i], justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    stage = None
    for row in summary.rows:
        cells = [escape(cell) for cell in row.cells()]
        if row.stage != stage:
            table.add_section()
            if narrow:
                table.add_row(f"[bold]{cells[0]}[/bold]")
        elif not narrow:
            cells[0] = ""
        table.add_row(*(cells[i] for i in shown))
        stage = row.stage
    return table


def print_abtest(summary: ABTestSummary, console: Console) -> None:
    """The verdict, the scorecard, the checks, whether effects differ between segments, and where everything is."""
    found = summary.results.experiment
    console.print()
    if (verdict := found.verdict) is not None:
        console.print(f"[bold reverse] {escape(verdict_title(verdict))} [/bold reverse]")
        for reason in verdict.reasons:
            print_text(f"  {reason}", console)
        console.print()
    print_title(summary.title, console)
    for line in summary.alarms:
        console.print(f"[bold red]![/bold red] {_broken(line, console)}", soft_wrap=not console.is_terminal)
    console.print(_scorecard(found.effects, console))
    if found.diluted:
        print_title("on all units, triggered or not", console)
        console.print(_scorecard(found.diluted, console))
    for line in (*scorecard_answers(found), *scorecard_questions(found)):
        print_text(f"  {line}", console)
    console.print()
    for line in scorecard_checks(replace(found, interactions=())):
        print_text(f"  {line}", console)
    for aa in summary.results.aa:
        print_text(
            f"  A/A: {aa.false_positive_rate:.1%} [{aa.ci_low:.1%}, {aa.ci_high:.1%}] of {aa.n_simulations:,} splits "
            f"find an effect on {aa.metric} at alpha = {aa.alpha:g}{'' if aa.calibrated else ', NOT AS IT SHOULD'}",
            console,
        )
    if found.interactions:
        console.print()
        print_title("does the effect differ between groups? p of each dimension", console)
        console.print(_interactions(found.interactions, console))
        for sentence in summary.findings:
            print_text(f"  {sentence}", console)
    console.print()
    print_places(summary.path, str(summary.report), summary.tracking, console)


def print_design(document: DesignDocument, console: Console) -> None:
    """How many units the experiment takes, and where its page is."""
    console.print()
    print_title(f"{document.title}: design", console)
    for line in document.lines:
        print_text(f"  {line}", console)
    console.print()
    console.print(f"page     {escape(str(document.path))}", soft_wrap=True)


def _scorecard(effects: Sequence[ABResult], console: Console) -> Table:
    """A row per effect; where the terminal is narrow, lift and p stay."""
    (metric, arm, control, treatment, lift, difference, p), *rows = scorecard_rows(effects)
    names = (metric, arm, f"in {control}", f"in {treatment}", lift, difference, p)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    if len(set(columns[arm])) == 1:
        del columns[arm]
    if without_tests(effects):
        del columns[p]
    shown = fitting_columns(columns, (difference, *names[2:4]), console.width)
    return text_table(shown, console, left=(metric, arm, lift, difference))


def _interactions(tests: Sequence[HeterogeneityResult], console: Console) -> Table:
    """P-values: a row per metric and arm, a column per dimension."""
    arms = {test.treatment for test in tests}
    rows: dict[str, dict[str, str]] = {}
    for test in tests:
        row = rows.setdefault(f"{test.metric}, {test.treatment}" if len(arms) > 1 else test.metric, {})
        row[f"by {test.dimension}"] = short_pvalue(test.pvalue)
    dimensions = dict.fromkeys(name for row in rows.values() for name in row)
    columns = {"metric": list(rows)} | {d: [row.get(d, "–") for row in rows.values()] for d in dimensions}
    return text_table(columns, console, left=("metric",))


def print_places(run: Path, report: str, tracking: str, console: Console) -> None:
    """Where the files of a run are, and where it is tracked."""
    for name, text in (("run", str(run)), ("report", report), ("tracking", tracking)):
        console.print(f"{name:<8} {escape(text)}", soft_wrap=True)


def print_materialized(found: Sequence[Materialized], console: Console) -> None:
    """What was materialised."""
    columns = {
        "features": [each.path.parent.name for each in found],
        "version": [each.path.name for each in found],
        "rows": [f"{each.rows:,}" for each in found],
        "days computed": [f"{each.days_computed:,}" for each in found],
        "days reused": [f"{each.days_reused:,}" for each in found],
    }
    console.print(text_table(columns, console, left=("features", "version")))
    for each in found:
        console.print(escape(str(each.path)), soft_wrap=True)


def print_versions(found: pd.DataFrame, root: Path, console: Console) -> None:
    """What is kept in a feature store, a row per version."""
    if found.empty:
        print_text(f"nothing is kept in {root} yet; causalrec features materialize fills it.", console)
        return
    rows = [_version_cells(row) for row in found.to_dict("records")]
    names = ("features", "version", "kind", "columns", "days", "from", "to", "rows", "size", "updated (UTC)")
    columns = fitting_columns(
        {name: [row.get(name, "") for row in rows] for name in names}, _LESS_NEEDED, console.width
    )
    console.print(text_table(columns, console, left=("features", "version", "kind")))


def _version_cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    cells = {"features": row["name"], "version": row["version"]}
    if row["kind"] == "damaged":
        return {**cells, **dict.fromkeys(("kind", "days"), "damaged")}
    first, last = row["first_day"], row["last_day"]
    return {
        **cells, "kind": row["kind"], "columns": f"{row['features']:,}", "days": _of_span(row["days"], first, last),
        "from": _day(first), "to": _day(last), "rows": f"{row['rows']:,}",
        "size": _size(row["bytes"]), "updated (UTC)": f"{row['updated_at']:%Y-%m-%d %H:%M}",
    }  # fmt: skip


def _of_span(days: int, first: pd.Timestamp, last: pd.Timestamp) -> str:
    """How many days, and of how many from the first to the last where some between are not there."""
    span = (last - first).days + 1 if days else 0
    return f"{days:,}" if days >= span else f"{days:,} of {span:,}"


def print_version(view: VersionView, console: Console) -> None:
    """A version's columns, days and first rows."""
    record = view.record
    name = str(record.declaration["name"])
    print_title(f"{name} {view.version}, computed by {record.engine}", console)
    shown = (*record.keys, record.event_time, *record.features)
    columns = {
        "column": list(shown),
        "type": [record.schema.get(column, "–") for column in shown],
        "what it is": [
            "key" if column in record.keys else view.definitions.get(column, "the time that is asked about")
            for column in shown
        ],
    }
    console.print(text_table(columns, console, left=columns, folded="what it is"))
    held = record.days.values()
    content = f"{sum(day.rows for day in held):,} rows, {_size(sum(day.bytes for day in held))}"
    updated = f"updated {record.updated_at[:16].replace('T', ' ')} UTC"
    print_text(f"{_span_text(list(record.days))}; {content}; {updated}", console)
    if len(view.head):
        _print_rows(f"the first rows of {max(record.days)}", view.head, console)


def _span_text(days: Sequence[str]) -> str:
    import pandas as pd

    if not days:
        return "0 days"
    first, last = min(days), max(days)
    counted = _of_span(len(days), pd.Timestamp(first), pd.Timestamp(last))
    return f"{counted} day{'s' * (counted != '1')}, {first} to {last}"


def print_diff(diff: FeatureDiff, console: Console) -> None:
    """How two versions differ."""
    print_text(str(diff), console)


def print_written(written: Written, console: Console) -> None:
    """A first look at a table, and where it is."""
    of = "" if written.version is None else f"{written.version}: "
    _print_rows(f"{of}the first of {written.rows:,} rows", written.head, console)
    console.print(f"written to {escape(str(written.path))}", soft_wrap=True)


def print_inference(found: Inference, console: Console) -> None:
    """A first look at the scores and what they say to do, and where they are."""
    for name, (path, frame) in found.outputs.items():
        columns = [str(column) for column in frame.columns]
        own = columns.index(name) if name in columns else len(columns)  # what was scored by stands before the scores
        less = columns[_KEYS:own] + [column for column in columns if column.startswith("outcome_if_")]
        _print_rows(f"{name}: the first of {len(frame):,} rows", frame, console, less if own < len(columns) else None)
        if name == "uplift" and found.recommendations is not None:
            _print_recommendations(found.recommendations, console)
        console.print(f"written to {escape(str(path))}", soft_wrap=True)


def _print_recommendations(advice: Recommendations, console: Console) -> None:
    """How many of each segment get which action, what that costs and brings, and what it rests on."""
    counts = advice.counts
    print_title("how many, by segment and action", console)
    cells = {str(c): [f"{n:,}" if isinstance(n, int) else str(n) for n in counts[c].tolist()] for c in counts.columns}
    console.print(text_table(cells, console, left=("segment",)))
    if not math.isnan(advice.spend):
        print_text(f"spend {format_number(advice.spend)}, expected gain {format_number(advice.gain)}", console)
    for line in advice.basis:
        print_text(f"  {line[:1].upper()}{line[1:]}.", console)


def print_title(title: str, console: Console) -> None:
    """A table's own title would be broken to the table's width."""
    console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=not console.is_terminal)


def print_text(text: str, console: Console) -> None:
    """A line or more, broken between words."""
    console.print(_broken(text, console), soft_wrap=True)


def _broken(text: str, console: Console) -> str:
    """Text for rich, its lines broken between words where a terminal would break them anywhere."""
    if not console.is_terminal:
        return escape(text)
    wrapper = textwrap.TextWrapper(console.width, break_long_words=False, break_on_hyphens=False)
    lines = []
    for line in text.splitlines():
        wrapper.subsequent_indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += wrapper.wrap(line)
    return escape("\n".join(lines))


def _print_rows(title: str, frame: pd.DataFrame, console: Console, less_needed: Sequence[str] | None = None) -> None:
    """The first rows; of more columns than fit, the first and the last, or all but those that are less needed."""
    whole = {str(column): text_cells(frame[column].head(_HEAD)) for column in frame.columns}
    most = list(whole)[_FIRST_COLUMNS:-1]
    least = most if less_needed is None else [*less_needed, *(column for column in most if column not in less_needed)]
    shown = fitting_columns(whole, least, console.width)
    hidden = [column for column in whole if column not in shown]
    print_title(f"{title}; {len(shown)} of {len(whole)} columns" if hidden else title, console)
    console.print(text_table(shown, console, left=shown))
    if hidden:
        print_text(f"not shown: {list_some(hidden)}", console)


def text_cells(values: pd.Series) -> list[str]:
    """Values for a person: keys as they are written elsewhere, days without a clock."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(values.dtype) and (values.isna() | (values.dt.normalize() == values)).all():
        return [_day(time) for time in values]
    return [_cell(value) for value in values]


def _cell(value: Any) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if not isinstance(value, float) or math.isinf(value):
        return str(value)
    if value.is_integer() and abs(value) < _LONG_NUMBER:
        return f"{value:.0f}"
    return f"{value:.1f}" if 1e5 <= abs(value) < _LONG_NUMBER else f"{value:.6g}"


def fitting_columns(
    columns: Mapping[str, Sequence[str]], less_needed: Iterable[str], width: int
) -> dict[str, Sequence[str]]:
    """The columns that have room beside each other; those that are less needed give way in their order."""
    widths = {name: 3 + _width(name, cells) for name, cells in columns.items()}
    for name in less_needed:
        if 1 + sum(widths.values()) <= width:
            break
        del widths[name]
    return {name: columns[name] for name in widths}


def _width(name: str, cells: Sequence[str]) -> int:
    return max(map(cell_len, (name, *cells)))


def text_table(
    columns: Mapping[str, Sequence[str]], console: Console, *, left: Iterable[str], folded: str | None = None
) -> Table:
    """Whole cells, but for those of a column that may be folded, and for those that would fill half the width."""
    table = Table(header_style="bold")
    for name, cells in columns.items():
        whole = name != folded and _width(name, cells) <= console.width // 2
        justify: Literal["left", "right"] = "left" if name in left else "right"
        table.add_column(escape(name), justify=justify, no_wrap=whole, overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, row))
    return table


def _day(time: pd.Timestamp) -> str:
    return "–" if time != time else f"{time:%Y-%m-%d}"  # NaT is the one that differs from itself


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB" if n_bytes >= 2**20 else f"{n_bytes / 2**10:,.1f} KiB"


def print_files(paths: Sequence[Path], console: Console) -> None:
    """Files that were written, with their sizes."""
    for path in paths:
        console.print(f"{escape(str(path))}  {path.stat().st_size / 2**20:.1f} MiB", soft_wrap=True)


def print_datasets(found: Sequence[DatasetStatus], console: Console) -> None:
    """Which public data sets are at hand."""
    table = Table("data set", "rows", "state", header_style="bold")
    for each in found:
        mark = "[green]✓[/green]" if each.rows is not None else "[yellow]–[/yellow]"
        rows = "–" if each.rows is None else f"{each.rows:,}"
        table.add_row(f"{mark} {each.name}", rows, escape(each.state))
    console.print(table)
