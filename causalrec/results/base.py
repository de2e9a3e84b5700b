"""What every result has: scalar fields that print, go into a table and into MLflow; how numbers are written."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from causalrec._typing import Scalar

NAN = float("nan")


def format_number(value: object) -> str:
    """Write a number for a person: four significant digits, NaN as a dash, tiny p-values kept."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if number == 0 or 1e-3 <= abs(number) < 1e4:
        return f"{number:.4g}"
    return f"{number:,.0f}" if 1e4 <= abs(number) < 1e12 else f"{number:.2e}"


def format_pvalue(pvalue: float) -> str:
    """Write a p-value; one too small for a double is not zero."""
    return "<1e-300" if pvalue == 0 else format_number(pvalue)


def format_metric(estimand: str) -> str:
    """Write the name of a ranking metric: ``ndcg_at_10`` as NDCG@10, recall_at_5 as recall@5.

    Examples
    --------
    >>> format_metric("ndcg_at_10"), format_metric("recall_at_5")
    ('NDCG@10', 'recall@5')
    """
    name, at, k = estimand.partition("_at_")
    return f"{name.upper() if name in ('ndcg', 'map') else name}@{k}" if at else estimand


def format_percent(value: float) -> str:
    """Write a share as a signed percentage, NaN as a dash."""
    return "–" if math.isnan(value) else f"{value:+.2%}"


def format_level(confidence_level: float) -> str:
    """Write a confidence level as ``95%`` or ``99.5%``, never rounded up to 100%."""
    return f"{100 * confidence_level:.10g}%"


def format_interval(low: float, high: float) -> str:
    """Write an interval as ``[low, high]``, or a dash where there is none."""
    if math.isnan(low) and math.isnan(high):
        return "–"
    return f"[{format_number(low)}, {format_number(high)}]"


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results."""

    def to_dict(self) -> dict[str, Scalar]:
        """The scalar fields by name; arrays are left to :meth:`to_frame`."""
        return {
            f.name: value.item() if isinstance(value, np.generic) else value
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), str | int | float | bool | np.generic)
        }

    def to_frame(self) -> pd.DataFrame:
        """One row, a column per scalar field; tables by nature give their own rows."""
        return pd.DataFrame([self.to_dict()])

    def __str__(self) -> str:
        rows = {name: format_number(value) for name, value in self.to_dict().items()}
        width = max(map(len, rows))
        body = "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
        return f"{type(self).__name__}\n{body}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(format_number(value))}</td></tr>"
            for name, value in self.to_dict().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"
