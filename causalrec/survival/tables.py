"""Who is at risk when: the one table behind Kaplan-Meier, log-rank, restricted means, hazards and retention.

Counted here and not taken from lifelines, whose table has a late entrant at risk already at the moment of entry (R and
the theory: just after), and keeps only the whole part of weighted numbers at risk in Greenwood's variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec.survival.lifetimes import Lifetimes


@dataclass(frozen=True, eq=False)
class RiskTable:
    """Numbers at each distinct time, in order, from time 0.

    Attributes
    ----------
    time, at_risk, events : float arrays of shape (n_times,)
        Units with entry < time <= duration, and events at that time.
    """

    time: FloatArray
    at_risk: FloatArray
    events: FloatArray

    @classmethod
    def of(cls, lifetimes: Lifetimes) -> RiskTable:
        """Count."""
        late = np.isfinite(lifetimes.entry)
        time = np.unique(np.concatenate([[0.0], lifetimes.durations, lifetimes.entry[late]]))
        place = np.searchsorted(time, lifetimes.durations)
        removed = np.bincount(place, weights=lifetimes.weights, minlength=len(time))
        seen = np.where(lifetimes.observed, lifetimes.weights, 0.0)
        events = np.bincount(place, weights=seen, minlength=len(time)).astype(np.float64)
        come = np.searchsorted(time, lifetimes.entry[late])
        entered = np.bincount(come, weights=lifetimes.weights[late], minlength=len(time))
        there = lifetimes.weights[~late].sum() + np.cumsum(entered) - entered
        return cls(time, there - (np.cumsum(removed) - removed), events)

    @property
    def survival(self) -> FloatArray:
        """The product-limit estimate just after each time (Kaplan and Meier 1958)."""
        share: FloatArray = 1 - self.events / np.maximum(self.at_risk, 1)
        return np.asarray(np.cumprod(share), dtype=np.float64)

    @property
    def greenwood_terms(self) -> FloatArray:
        """Greenwood's d / (n (n - d)), whose running sum is the variance of log S. Infinite where all have left."""
        n, d = self.at_risk, self.events
        terms = np.zeros(len(n))
        np.divide(d, n * (n - d), out=terms, where=(d > 0) & (n > d))
        terms[(d > 0) & (n <= d)] = np.inf
        return terms

    @property
    def follow_up(self) -> float:
        """Until when the curve is known: the last time, or for ever once all have left."""
        return np.inf if self.survival[-1] == 0 else float(self.time[-1])

    def rows_before(self, times: FloatArray, *, strictly: bool = False) -> IntArray:
        """How many rows lie at or before each time; strictly before."""
        return np.searchsorted(self.time, times, side="left" if strictly else "right").astype(np.int64)


def log_log_interval(
    survival: FloatArray, log_variance: FloatArray, confidence_level: float
) -> tuple[FloatArray, FloatArray]:
    """The interval of survival on the scale of log(-log S), which stays in (0, 1); NaN where S is 0 or 1.

    Kalbfleisch and Prentice (2002), The Statistical Analysis of Failure Time Data, section 1.4: S^exp(±z s) with
    s^2 = log_variance / log(S)^2.

    Parameters
    ----------
    survival, log_variance : float arrays of one shape
        S and the variance of log S.
    confidence_level : float
    """
    z = stats.norm.isf((1 - confidence_level) / 2)
    inside = (survival > 0) & (survival < 1)
    s = np.where(inside, survival, np.nan)
    spread = np.exp(z * np.sqrt(np.where(inside, log_variance, np.nan)) / np.abs(np.log(s)))
    return s**spread, s ** (1 / spread)
