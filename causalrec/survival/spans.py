"""What a risk table says of a span of time: the share that stays through it, of those there at its start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrec.results.base import NAN
from causalrec.survival.tables import RiskTable, log_log_interval


@dataclass(frozen=True)
class Span:
    """A share that stays, with its standard error and interval.

    Where nobody was seen to leave there is no log-log interval; the low end is then the exact (binomial) one of those
    still at risk at the end, (alpha / 2)^(1 / n). Where all left there is none.
    """

    stays: float
    log_variance: float
    low: float
    high: float
    at_risk_start: float
    at_risk_end: float
    events: float

    @property
    def std_error(self) -> float:
        """Greenwood's; NaN where all or none left."""
        return float(self.stays * np.sqrt(self.log_variance)) if 0 < self.stays < 1 else NAN


def stay_through(table: RiskTable, start: float, end: float, level: float, *, closed: bool) -> Span:
    """The share that stays from ``start`` to ``end``; departures at ``start`` count, at ``end`` only if ``closed``."""
    first = int(table.rows_before(np.array([start]), strictly=True)[0])
    last = int(table.rows_before(np.array([end]), strictly=not closed)[0])
    inside = slice(first, last)
    n, d = table.at_risk[inside], table.events[inside]
    stays = float(np.prod(1 - d / np.maximum(n, 1)))
    variance = float(table.greenwood_terms[inside].sum())
    at_end = table.rows_before(np.array([end]), strictly=True)[0]
    left = float(table.at_risk[at_end]) if at_end < len(table.time) else 0.0
    low, high = (float(v[0]) for v in log_log_interval(np.array([stays]), np.array([variance]), level))
    if stays == 1 and left > 0:
        low, high = ((1 - level) / 2) ** (1 / left), 1.0
    there = float(table.at_risk[first]) if first < len(table.time) else 0.0
    return Span(stays, variance, low, high, there, left, float(d.sum()))
