"""What every result has: scalar fields that print, go into a table and into MLflow; how numbers are written."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from html import escape
from typing import ClassVar

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


def count_text(n: float, one: str, ending: str = "s") -> str:
    """A number of things: ``1 user``, ``2 users``."""
    return f"{format_number(n)} {one}{ending * (n != 1)}"


def format_pvalue(pvalue: float) -> str:
    """Write a p-value; one too small for a double is not zero."""
    return "<1e-300" if pvalue == 0 else format_number(pvalue)


def short_pvalue(pvalue: float) -> str:
    """Three digits are enough."""
    return f"{pvalue:.3g}" if 1e-3 <= pvalue < 1 else format_pvalue(pvalue)


def pvalue_text(pvalue: float) -> str:
    """A p-value in a sentence: ``p = 0.0123``, or ``p < 1e-300``."""
    return "p < 1e-300" if pvalue == 0 else f"p = {short_pvalue(pvalue)}"


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


def written_interval(value: float, low: float, high: float, *, percent: bool = False, words: bool = False) -> str:
    """A value and its interval with as many decimals as three digits of the interval's half width need.

    A dash alone where nothing is known. With ``words`` an open end reads "at least" or "at most".

    Examples
    --------
    >>> print(written_interval(0.0731, 0.0383, 0.109, percent=True))
    +7.3% [+3.8%, +10.9%]
    >>> print(written_interval(-0.4123, float("-inf"), 0.0351, words=True))
    -0.412, at most 0.035
    """
    numbers = [100 * x if percent else x for x in (value, low, high)]
    ends = [x for x in numbers[1:] if math.isfinite(x)]
    if math.isnan(value) and not ends:
        return "–"
    width = (ends[1] - ends[0]) / 2 if len(ends) == 2 else abs(numbers[0] - ends[0]) if ends else abs(numbers[0])
    decimals = 2 - math.floor(math.log10(width)) if width > 0 and math.isfinite(width) else 2
    sign, unit = ("+", "%") if percent else ("", "")

    def text(x: float) -> str:
        if not math.isfinite(x):
            return "–" if math.isnan(x) else f"{x:{sign}}"
        return f"{x:{sign}.2e}{unit}" if decimals > 7 else f"{x:{sign},.{max(decimals - percent, 0)}f}{unit}"

    shown, *interval = (text(x) for x in numbers)
    if interval == ["–", "–"]:
        return shown
    if words and len(ends) == 1:
        return f"{shown}, {f'at least {interval[0]}' if math.isfinite(low) else f'at most {interval[1]}'}"
    return f"{shown} [{interval[0]}, {interval[1]}]"


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results."""

    _first: ClassVar[tuple[str, ...]] = ()  # fields that stand first in dictionaries and tables

    def to_dict(self) -> dict[str, Scalar]:
        """The scalar fields by name; arrays are left to :meth:`to_frame`."""
        names = [*self._first, *(f.name for f in dataclasses.fields(self) if f.name not in self._first)]
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name in names
            if isinstance(value := getattr(self, name), str | int | float | bool | np.generic)
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
