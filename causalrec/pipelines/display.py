"""What a person sees in the terminal: progress while a command works, one table when it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from causalrec.report import summary_header
from causalrec.results import format_number

if TYPE_CHECKING:  # what is shown comes from whoever made it; a quick command need not import the others
    import pandas as pd

    from causalrec.features import FeatureDiff, Materialized
    from causalrec.pipelines.data import DatasetStatus
    from causalrec.pipelines.features import VersionView, Written
    from causalrec.pipelines.infer import Inference
    from causalrec.pipelines.progress import Advance
    from causalrec.pipelines.summary import RunSummary

_PLAIN_WIDTH = 140
_NARROW = 118
_FIRST_COLUMNS, _LAST_COLUMNS = 2, 3


class _CountColumn(ProgressColumn):
    """How much is done, once it is known of how much."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f}")


class ConsoleReporter:
    """Draws the stage at work; where there is no terminal, a line at its start and one at its end."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if console is None and not self.console.is_terminal:
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
        self.console.print(f"  [yellow]•[/yellow] {escape(text)}", soft_wrap=True)


def print_summary(summary: RunSummary, console: Console) -> None:
    """The table of a run, its findings, and where everything is."""
    console.print()
    console.print(_summary_table(summary, narrow=console.width < _NARROW))
    for sentence in summary.findings:
        console.print(f"  {escape(sentence)}", soft_wrap=True)
    console.print()
    report = "made by: causalrec evaluate" if summary.report is None else str(summary.report)
    for name, text in (("run", str(summary.path)), ("report", report), ("tracking", summary.tracking)):
        console.print(f"{name:<8} {escape(text)}", soft_wrap=True)


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


def print_materialized(found: Sequence[Materialized], console: Console) -> None:
    """What was materialised."""
    table = Table("features", "version", header_style="bold")
    for name in ("rows", "days computed", "days reused"):
        table.add_column(name, justify="right")
    for each in found:
        counts = (f"{n:,}" for n in (each.rows, each.days_computed, each.days_reused))
        table.add_row(escape(each.path.parent.name), each.path.name, *counts)
    console.print(table)
    for each in found:
        console.print(escape(str(each.path)), soft_wrap=True)


def print_versions(found: pd.DataFrame, root: Path, console: Console) -> None:
    """What is kept in a feature store, a row per version."""
    if found.empty:
        console.print(f"nothing is kept in {escape(str(root))} yet; causalrec features materialize fills it.")
        return
    table = Table(header_style="bold")
    shown = ["features", "version", "kind", "columns", "days", "from", "to", "rows", "size", "updated (UTC)"]
    if console.width < _NARROW:
        shown = ["features", "version", "days", "from", "to", "rows"]
    for name in shown:
        is_text = name in ("features", "version", "kind")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=name != "features", overflow="fold")
    for row in found.to_dict("records"):
        cells = _version_cells(row)
        table.add_row(*(cells.get(name, "") for name in shown))
    console.print(table)


def _version_cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    cells = {"features": escape(row["name"]), "version": row["version"]}
    if row["kind"] == "damaged":
        return {**cells, **dict.fromkeys(("kind", "days"), "[red]damaged[/red]")}
    return {
        **cells, "kind": row["kind"], "columns": f"{row['features']:,}", "days": f"{row['days']:,}",
        "from": _day(row["first_day"]), "to": _day(row["last_day"]), "rows": f"{row['rows']:,}",
        "size": _size(row["bytes"]), "updated (UTC)": f"{row['updated_at']:%Y-%m-%d %H:%M}",
    }  # fmt: skip


def print_version(view: VersionView, console: Console) -> None:
    """A version's columns, days and first rows."""
    record = view.record
    name = str(record.declaration["name"])
    _print_title(f"{name} {view.version}, computed by {record.engine}", console)
    table = Table("column", "type", "what it is", header_style="bold")
    for column in (*record.keys, record.event_time, *record.features):
        what = "key" if column in record.keys else view.definitions.get(column, "the time that is asked about")
        table.add_row(escape(column), escape(record.schema.get(column, "–")), escape(what))
    console.print(table)
    held = record.days.values()
    counts = f"{len(held):,} day{'s' * (len(held) != 1)}" + (
        f", {min(record.days)} to {max(record.days)}" if held else ""
    )
    content = f"{sum(day.rows for day in held):,} rows, {_size(sum(day.bytes for day in held))}"
    updated = f"updated {record.updated_at[:16].replace('T', ' ')} UTC"
    console.print(f"{counts}; {content}; {updated}", soft_wrap=True)
    if len(view.head):
        _print_rows(f"the first rows of {max(record.days)}", view.head, console)


def print_diff(diff: FeatureDiff, console: Console) -> None:
    """How two versions differ."""
    console.print(escape(str(diff)), soft_wrap=True)


def print_written(written: Written, console: Console) -> None:
    """A first look at a table, and where it is."""
    _print_rows(f"the first of {written.rows:,} rows", written.head, console)
    console.print(f"written to {escape(str(written.path))}", soft_wrap=True)


def print_inference(found: Inference, console: Console) -> None:
    """A first look at the scores, and where they are."""
    for name, (path, frame) in found.outputs.items():
        _print_rows(f"{name}: the first of {len(frame):,} rows", frame, console)
        console.print(f"written to {escape(str(path))}", soft_wrap=True)


def _print_title(title: str, console: Console) -> None:
    """A table's own title would be broken to the table's width."""
    console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)


def _print_rows(title: str, frame: pd.DataFrame, console: Console) -> None:
    """The first rows; of many columns the first and the last."""
    _print_title(title, console)
    table = Table(header_style="bold")
    shown = frame[frame.columns[:_FIRST_COLUMNS].union(frame.columns[-_LAST_COLUMNS:], sort=False)]
    for column in shown.columns:
        table.add_column(escape(str(column)), overflow="fold")
    for row in shown.head(5).itertuples(index=False, name=None):
        table.add_row(*(escape(format_number(v) if isinstance(v, float) else str(v)) for v in row))
    console.print(table)


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
