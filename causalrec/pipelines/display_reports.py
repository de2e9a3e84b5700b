"""A report on a log in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from causalrec._validation import list_some
from causalrec.pipelines.display import fitting_columns, print_text, print_title, text_cells, text_table
from causalrec.results import AttributionResult, CreditResult
from causalrec.results.base import format_number

if TYPE_CHECKING:
    import pandas as pd

    from causalrec.pipelines.reports import LogReport

_WORDS = ("variant", "step", "day", "segment", "check", "counted", "example", "option")
_LESS_NEEDED = (
    "example", "counted", "users", "option", "per_buyer", "purchases", "buyers", "linear", "position based",
    "time decay", "users touched", "plain difference", "first touch",
)  # fmt: skip


def print_log_report(report: LogReport, console: Console) -> None:
    """What it found, its table, what credit and attribution rest on, and where it was written."""
    console.print()
    print_text(report.said[0], console)
    console.print()
    shown = report.shown
    if len(shown):
        print_title(report.caption, console)
        columns = {str(name): _written(shown[name]) for name in shown.columns}
        fitting = fitting_columns(columns, [name for name in _LESS_NEEDED if name in columns], console.width)
        left = {*_WORDS, str(shown.columns[0])}
        console.print(text_table(fitting, console, left=[name for name in fitting if name in left]))
        hidden = [name for name in columns if name not in fitting]
        if hidden:
            print_text(f"not shown: {list_some(hidden)}", console)
    if isinstance(report.result, AttributionResult | CreditResult):
        for line in report.said[1:]:
            print_text(line, console)
    if report.path is not None:
        console.print(f"written to {escape(str(report.path))}", soft_wrap=True)


def _written(values: pd.Series) -> list[str]:
    """Counts and amounts as on the page, the rest as in other tables."""
    import pandas as pd

    is_number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    return [format_number(value) for value in values] if is_number else text_cells(values)
