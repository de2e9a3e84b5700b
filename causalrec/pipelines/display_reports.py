"""A report on a log in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from causalrec.pipelines.display import _cells, _fitting, _print_text, _print_title, _table
from causalrec.results.base import format_number

if TYPE_CHECKING:
    import pandas as pd

    from causalrec.pipelines.reports import LogReport

_WORDS = ("variant", "step", "day", "segment", "check", "counted", "example", "option")
_LESS_NEEDED = ("example", "counted", "users", "option", "per_buyer", "purchases", "buyers")


def print_log_report(report: LogReport, console: Console) -> None:
    """What it found, its table, and where it was written."""
    console.print()
    _print_text(str(report.result).splitlines()[0], console)
    console.print()
    shown = report.shown
    if len(shown):
        _print_title(report.caption, console)
        columns = {str(name): _written(shown[name]) for name in shown.columns}
        fitting = _fitting(columns, [name for name in _LESS_NEEDED if name in columns], console.width)
        left = {*_WORDS, str(shown.columns[0])}
        console.print(_table(fitting, console, left=[name for name in fitting if name in left]))
    if report.path is not None:
        console.print(f"written to {escape(str(report.path))}", soft_wrap=True)


def _written(values: pd.Series) -> list[str]:
    """Counts and amounts as on the page, the rest as in other tables."""
    import pandas as pd

    is_number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    return [format_number(value) for value in values] if is_number else _cells(values)
