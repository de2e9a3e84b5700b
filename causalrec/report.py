"""One self-contained HTML page from results: numbers, figures, and what to doubt."""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._validation import optional_import
from causalrec.exceptions import StoreError
from causalrec.results import NAN, EffectResult, format_interval, format_number


@dataclass(frozen=True)
class SummaryRow:
    """A line of the summary: what was asked, the answer, and the truth where it is known."""

    stage: str
    what: str
    estimate: float
    ci_low: float = NAN
    ci_high: float = NAN
    pvalue: float = NAN
    truth: float = NAN
    n: int = 0

    @classmethod
    def of(cls, stage: str, what: str, result: EffectResult, truth: float = NAN) -> SummaryRow:
        """The line of an estimate."""
        return cls(stage, what, result.estimate, result.ci_low, result.ci_high, result.pvalue, truth, result.n_obs)

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        return (
            self.stage,
            self.what,
            format_number(self.estimate),
            format_interval(self.ci_low, self.ci_high),
            format_number(self.pvalue),
            format_number(self.truth),
            f"{self.n:,}" if self.n else "–",
        )


def summary_header(confidence_level: float) -> tuple[str, ...]:
    """The names of the cells of a :class:`SummaryRow`."""
    return ("stage", "what", "estimate", f"{confidence_level * 100:g}% interval", "p-value", "truth", "n")


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, figures (matplotlib Axes or Figures) and tables by caption."""

    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Any, ...] = field(default=(), repr=False)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)


def render_report(
    title: str,
    question: str,
    summary: Sequence[SummaryRow],
    sections: Sequence[Section],
    *,
    confidence_level: float = 0.95,
    findings: Sequence[str] = (),
    notes: Sequence[str] = (),
    appendix: str = "",
) -> str:
    """The page as HTML: figures inside it, no network, for screen and paper."""
    jinja2 = optional_import("jinja2", extra="plots")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
    )
    pages = [
        {
            "title": s.title,
            "text": s.text,
            "figures": [_data_uri(f) for f in s.figures],
            "tables": {caption: _cells(frame) for caption, frame in s.tables.items()},
        }
        for s in sections
    ]
    page = environment.get_template("report.html.j2").render(
        title=title, question=question, header=summary_header(confidence_level), findings=findings, notes=notes,
        summary=[r.cells() for r in summary], sections=pages, appendix=appendix,
    )  # fmt: skip
    return str(page)


def write_report(path: Path, html: str) -> Path:
    """Write the page in one step. Raises :class:`StoreError` when the place cannot be written."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        scratch.write_text(html, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}. Choose another place.") from error
    return path


def _data_uri(drawing: Any) -> str:
    figure = drawing if hasattr(drawing, "savefig") else drawing.figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _cells(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {
        "header": [str(c).replace("_", " ") for c in frame.columns],
        "rows": [[format_number(v) for v in row] for row in frame.itertuples(index=False, name=None)],
    }
