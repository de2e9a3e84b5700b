"""One self-contained HTML page from results: numbers, figures, and what to doubt."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._files import new_file
from causalrec._validation import optional_import
from causalrec.results import (
    NAN,
    EffectResult,
    format_interval,
    format_level,
    format_metric,
    format_number,
    format_percent,
    format_pvalue,
)

_NAMES = {
    "pvalue": "p-value",
    "n_obs": "n",
    "ci_low": "low",
    "ci_high": "high",
    "relative_ci_low": "relative low",
    "relative_ci_high": "relative high",
    "adjusted_pvalue": "adjusted p-value",
    "uniformity_pvalue": "uniformity p-value",
}
_ON_ONE_LINE = 34  # characters of a column whose cells are not broken
_LONG = 30  # rows, beyond which a table is folded


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
            format_pvalue(self.pvalue),
            format_number(self.truth),
            f"{self.n:,}" if self.n else "–",
        )


def summary_header(confidence_level: float, topic: str = "stage") -> tuple[str, ...]:
    """The names of the cells of a :class:`SummaryRow`; ``topic`` is what its stages are called."""
    return (topic, "what", "estimate", f"{format_level(confidence_level)} interval", "p-value", "truth", "n")


@dataclass(frozen=True)
class Picture:
    """A figure as PNG, drawn once for all who want it, and what it shows in words."""

    png: bytes = field(repr=False)
    text: str

    @classmethod
    def of(cls, drawing: Any) -> Picture:
        """Draw a matplotlib Axes or Figure.

        The label of an Axes (``ax.get_label()``), which those of :mod:`causalrec.plots` have, is its text for readers
        who do not see the picture; else its title.
        """
        figure = drawing if hasattr(drawing, "savefig") else drawing.figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, facecolor="white")
        axes = [drawing] if hasattr(drawing, "get_title") else list(drawing.axes)
        texts = [str(a.get_label() or a.get_title(loc="left") or a.get_title()) for a in axes]
        return cls(buffer.getvalue(), " ".join(text for text in texts if text))


@dataclass(frozen=True)
class Banner:
    """What to do, at the top of the page: a word or two, its kind, and the reasons in a sentence each.

    ``kind`` is ``"go"``, ``"stop"``, ``"wait"`` or ``"broken"``, which say its colour.
    """

    text: str
    kind: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, figures (matplotlib Axes or Figures, or Pictures) and tables by caption.

    Tables that are long, or named in ``folded``, are closed until a reader opens them.
    """

    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Any, ...] = field(default=(), repr=False)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    folded: tuple[str, ...] = ()


def render_report(
    title: str,
    question: str,
    summary: Sequence[SummaryRow] | pd.DataFrame,
    sections: Sequence[Section],
    *,
    confidence_level: float = 0.95,
    topic: str = "stage",
    caption: str = "",
    banner: Banner | None = None,
    alarms: Sequence[str] = (),
    findings: Sequence[str] = (),
    checks: Sequence[str] = (),
    notes: Sequence[str] = (),
    appendix: str = "",
) -> str:
    """The page as HTML: figures inside it, no network, for screen and paper.

    Above the sections stand the banner, then the alarms, the findings and the checks, a sentence each, and the summary:
    lines of what was asked, or a table with its caption.

    Raises
    ------
    MissingExtraError
        Without jinja2, which comes with ``causalrec[plots]``.
    """
    parts = [
        {
            "title": s.title,
            "text": s.text,
            "figures": [figure_of(f, s.title) for f in s.figures],
            "tables": [{"caption": name, **_cells(frame, folded=name in s.folded)} for name, frame in s.tables.items()],
        }
        for s in sections
    ]
    return render_template(
        "report.html.j2", title=title, question=question, banner=banner, alarms=alarms, findings=findings,
        checks=checks, notes=notes, sections=parts, appendix=appendix,
        **_top(summary, caption, summary_header(confidence_level, topic)),
    )  # fmt: skip


def render_template(name: str, **values: Any) -> str:
    """A page of :mod:`causalrec.templates`, what is written in it escaped.

    Raises
    ------
    MissingExtraError
        Without jinja2, which comes with ``causalrec[plots]``.
    """
    jinja2 = optional_import("jinja2", extra="plots")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return str(environment.get_template(name).render(**values))


def write_report(path: Path, html: str) -> Path:
    """Write the page in one step. Raises :class:`StoreError` when the place cannot be written."""
    with new_file(path) as scratch:
        scratch.write_text(html, encoding="utf-8")
    return path


def _top(summary: Sequence[SummaryRow] | pd.DataFrame, caption: str, names: Sequence[str]) -> dict[str, Any]:
    """The summary as the lines, or as the table, that the template knows."""
    if isinstance(summary, pd.DataFrame):
        return {"lead": {"caption": caption, **_cells(summary), "long": False}}
    return {"summary": _summary(summary, names)}


def _summary(rows: Sequence[SummaryRow], names: Sequence[str]) -> dict[str, Any]:
    """Header and rows; the stage is named where it changes, and the truth shown only where some is known."""
    header, cells = list(names), [list(row.cells()) for row in rows]
    starts = [i == 0 or row.stage != rows[i - 1].stage for i, row in enumerate(rows)]
    if all(math.isnan(row.truth) for row in rows):
        drop = header.index("truth")
        header, cells = [*header[:drop], *header[drop + 1 :]], [[*c[:drop], *c[drop + 1 :]] for c in cells]
    body = [{"starts": start, "cells": [c[0] if start else "", *c[1:]]} for start, c in zip(starts, cells, strict=True)]
    return {"header": header, "rows": body}


def figure_of(drawing: Any, title: str) -> dict[str, str]:
    """A figure inside the page, and what it shows in words."""
    picture = drawing if isinstance(drawing, Picture) else Picture.of(drawing)
    return {
        "uri": "data:image/png;base64," + base64.b64encode(picture.png).decode(),
        "alt": picture.text or f"A figure of the section {title}.",
    }


def _cells(frame: pd.DataFrame, *, folded: bool = False) -> dict[str, Any]:
    """Header and rows of a table; the cells of a column of numbers are of no kind."""
    columns = [str(c) for c in frame.columns]
    numeric = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t) for t in frame.dtypes]
    written = [[_written(v, c) for v in frame.iloc[:, i]] for i, c in enumerate(columns)]
    kinds = [
        "" if n else "text short" if max(map(len, cells), default=0) <= _ON_ONE_LINE else "text"
        for n, cells in zip(numeric, written, strict=True)
    ]
    return {
        "header": [
            {"name": _NAMES.get(c, c.replace("_", " ")), "text": not n} for c, n in zip(columns, numeric, strict=True)
        ],
        "rows": [
            [{"value": value, "kind": kind} for value, kind in zip(row, kinds, strict=True)]
            for row in zip(*written, strict=True)
        ],
        "long": folded or len(frame) > _LONG,
    }


def _written(value: Any, column: str) -> str:
    """A cell for a person: what is missing as a dash, relative effects as percentages, ``ndcg_at_10`` as NDCG@10."""
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if column.startswith("relative") and isinstance(value, int | float):
        return format_percent(float(value)) if math.isfinite(value) else format_number(value)
    if column == "estimand":
        return format_metric(str(value))
    return format_number(value)
