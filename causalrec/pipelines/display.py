"""What a person sees in the terminal: progress while a command works, one table when it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from causalrec.features import Materialized
from causalrec.pipelines.data import DatasetStatus
from causalrec.pipelines.infer import Inference
from causalrec.pipelines.progress import Advance
from causalrec.pipelines.summary import RunSummary
from causalrec.report import summary_header
from causalrec.results import format_number

_PLAIN_WIDTH = 140
_NARROW = 118
_FIRST_COLUMNS, _LAST_COLUMNS = 2, 3


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
        text = TextColumn("{task.description}")
        columns = (
            SpinnerColumn(),
            text,
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
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


def print_features(found: Sequence[Materialized], console: Console) -> None:
    """What was materialised."""
    table = Table("features", "rows", "days computed", "days reused", header_style="bold")
    for each in found:
        table.add_row(each.path.parent.name, f"{each.rows:,}", str(each.days_computed), str(each.days_reused))
    console.print(table)
    for each in found:
        console.print(escape(str(each.path)), soft_wrap=True)


def print_inference(found: Inference, console: Console) -> None:
    """A first look at the scores, and where they are."""
    for name, (path, frame) in found.outputs.items():
        table = Table(title=f"{name}: the first of {len(frame):,} rows", title_justify="left", header_style="bold")
        shown = frame[frame.columns[:_FIRST_COLUMNS].union(frame.columns[-_LAST_COLUMNS:], sort=False)]
        for column in shown.columns:
            table.add_column(escape(str(column)), overflow="fold")
        for row in shown.head(5).itertuples(index=False, name=None):
            table.add_row(*(escape(format_number(v) if isinstance(v, float) else str(v)) for v in row))
        console.print(table)
        console.print(f"written to {escape(str(path))}", soft_wrap=True)


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
