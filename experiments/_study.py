"""What the studies share: arguments, tables on the terminal, figures as PNG files, and one page of conclusions."""

from __future__ import annotations

import argparse
import platform
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from causalrec.datasets import load_dataset
from causalrec.plots import plot_forest
from causalrec.report import Section, SummaryRow, render_report, write_report
from causalrec.results import ABResult, EffectResult, format_number
from causalrec.tracking import git_commit, package_versions

_WIDTH = 110
_Effect = TypeVar("_Effect", bound=EffectResult)


def study_arguments(
    name: str, description: str | None, arguments: Sequence[str] | None = None, *, module: str = "run"
) -> argparse.Namespace:
    """``output``, a directory that is made if need be, and ``data_dir``, ``None`` for where causalrec looks itself.

    A ``module`` other than ``run`` is a further part of the study, with a directory of its own.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}.{module}",
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    output = Path("runs") / "experiments" / (name if module == "run" else f"{name}_{module}")
    parser.add_argument("--output", type=Path, default=output, help="directory of figures and page")
    parser.add_argument("--data-dir", type=Path, help="directory of the public data sets; CAUSALREC_DATA_DIR if absent")
    return parser.parse_args(arguments)


@dataclass
class Study:
    """A study as it is told: each section is printed when it is added, and kept for the page."""

    title: str
    question: str
    sections: list[Section] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        print(f"{self.title}\n{'=' * len(self.title)}\n{_wrapped(self.question)}")

    def add(
        self,
        title: str,
        *text: str,
        tables: Mapping[str, pd.DataFrame] | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Print a section and keep it; figures are Axes by the name of their file, without an ending."""
        print(f"\n{title}\n{'-' * len(title)}")
        for caption, frame in (tables or {}).items():
            print(f"\n{_wrapped(caption)}\n{as_text(frame)}")
        for line in text:
            print(f"\n{_wrapped(line)}")
        self.figures |= figures or {}
        self.sections.append(Section(title, text, tuple((figures or {}).values()), dict(tables or {})))

    def finish(
        self,
        directory: Path,
        *,
        conclusions: Sequence[str],
        caveats: Sequence[str] = (),
        summary: Sequence[SummaryRow] = (),
        made: str = "",
    ) -> Path:
        """Print the conclusions and write the figures and ``index.html``, which opens with them; the page's path."""
        for title, lines in (("Conclusions", conclusions), ("What to doubt", caveats)):
            if lines:
                print(f"\n{title}\n{'-' * len(title)}")
            for line in lines:
                print(textwrap.fill(line, _WIDTH, initial_indent="- ", subsequent_indent="  "))
        save_figures(self.figures, directory)
        doubts = [Section("What to doubt", tuple(caveats))] if caveats else []
        page = render_report(
            self.title,
            self.question,
            summary,
            [*doubts, *self.sections],
            topic="of",
            findings=conclusions,
            appendix=f"{made or how_made()}\n\nfigures beside this page, PNG:\n{', '.join(self.figures)}",
        )
        path = write_report(directory / "index.html", page)
        print(f"\n{len(self.figures)} figures and {path}")
        return path


def how_made(
    name: str = "", *, module: str = "run", data: Sequence[str] = (), data_dir: Path | None = None, seeds: str = ""
) -> str:
    """What it takes to get the page again: command, code, packages, data sets by content digest, seeds."""
    versions = {"python": platform.python_version(), **package_versions()}
    lines = {
        "command": f"python -m experiments.{name}.{module}" if name else "",
        "commit": git_commit() or "unknown",
        "versions": textwrap.fill(", ".join(f"{k} {v}" for k, v in versions.items()), _WIDTH),
        "data by sha256": "\n".join(f"{load_dataset(d, data_dir).digest}  {d}" for d in data),
        "seeds": seeds,
    }
    return "\n\n".join(f"{title}:\n{text}" for title, text in lines.items() if text)


def in_points(effect: _Effect) -> _Effect:
    """The effect on a share in percentage points."""
    return replace(effect, estimate=100 * effect.estimate, ci_low=100 * effect.ci_low, ci_high=100 * effect.ci_high)


def forest_in_points(effects: Sequence[ABResult], title: str) -> Any:
    """Effects on a share as a forest, in percentage points."""
    axes = plot_forest([in_points(e) for e in effects], relative=False, title=title)
    axes.set_xlabel(f"percentage points against {effects[0].control}")
    return axes


def save_figures(figures: Mapping[str, Any], directory: Path) -> None:
    """Save Axes by name as PNG files below ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, axes in figures.items():
        axes.figure.savefig(directory / f"{name}.png", dpi=110, facecolor="white")


def as_text(frame: pd.DataFrame) -> str:
    """A table for the terminal, numbers as causalrec writes them."""
    written = frame.apply(lambda column: [_cell(value) for value in column])
    numbers = [column for column in frame if pd.api.types.is_numeric_dtype(frame[column])]
    widths = {c: max([len(str(c)), *(len(v) for v in written[c])]) for c in frame}
    lines = ["  ".join(f"{c!s:>{w}}" if c in numbers else f"{c!s:<{w}}" for c, w in widths.items()).rstrip()]
    for row in written.itertuples(index=False, name=None):
        cells = zip(row, widths.items(), strict=True)
        lines.append("  ".join(f"{v:>{w}}" if c in numbers else f"{v:<{w}}" for v, (c, w) in cells).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    return value if isinstance(value, str) else format_number(value)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
