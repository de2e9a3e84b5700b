"""What looking early does to false alarms."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result, format_number


@dataclass(frozen=True, eq=False)
class PeekingResult(Result):
    """Shares of simulated experiments without an effect that have raised an alarm by each look.

    Attributes
    ----------
    n_obs : int
        Units of both arms at the last look.
    confidence_level : float
        Of the intervals of the rates.
    methods : tuple of str, length m
    looks : array of shape (k,)
        Units of both arms.
    false_alarm_rate, ci_low, ci_high : array of shape (m, k)
        So far, and their exact binomial intervals.
    """

    metric: str
    alpha: float
    alternative: str
    n_looks: int
    n_simulations: int
    n_obs: int
    confidence_level: float
    methods: tuple[str, ...]
    looks: IntArray = field(repr=False)
    false_alarm_rate: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per method and look."""
        n = len(self.looks)
        return pd.DataFrame({
            "method": [method for method in self.methods for _ in range(n)],
            "n_obs": list(self.looks) * len(self.methods),
            "false_alarm_rate": self.false_alarm_rate.ravel(),
            "ci_low": self.ci_low.ravel(),
            "ci_high": self.ci_high.ravel(),
        })  # fmt: skip

    def __str__(self) -> str:
        found = "; ".join(
            f"{method} {rate[-1]:.1%} ({low[-1]:.1%} to {high[-1]:.1%})"
            for method, rate, low, high in zip(
                self.methods, self.false_alarm_rate, self.ci_low, self.ci_high, strict=True
            )
        )
        looks = "one look" if self.n_looks == 1 else f"{self.n_looks:,} looks"
        return (
            f"{self.metric}: false alarms after {looks}, at alpha {format_number(self.alpha)}: {found} "
            f"({self.n_simulations:,} simulated experiments without an effect, up to {self.n_obs:,} units, "
            f"{self.alternative})"
        )
