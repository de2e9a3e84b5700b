"""A study in the terminal: its page in text, and where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from causalrec.pipelines.display import print_places

if TYPE_CHECKING:
    from causalrec.pipelines.ate import StudySummary


def print_study(summary: StudySummary, console: Console) -> None:
    """The report, and where everything is."""
    console.print()
    console.print(escape(str(summary.report)), soft_wrap=not console.is_terminal)
    console.print()
    print_places(summary.path, str(summary.page), summary.tracking, console)
