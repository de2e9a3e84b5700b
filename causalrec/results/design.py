"""The design of an experiment: how many units, and what they can show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result, format_number, format_percent

_USUAL_POWER = 0.8
_SHOWN = 6  # sizes that are printed of a curve


@dataclass(frozen=True, eq=False)
class PowerResult(Result):
    """A design: who, how many, what can be seen.

    Attributes
    ----------
    effect, relative_effect : float
        Against the baseline (NaN relative to none); the smallest detectable one where it was asked for.
    n_obs, n_control, n_treatment : int
        Units in all (of every arm), in control, and in each other arm.
    days : float
        Runtime at the given traffic; NaN where none was given.
    """

    metric: str
    baseline: float
    std: float
    effect: float
    relative_effect: float
    power: float
    alpha: float
    alternative: str
    n_obs: int
    n_control: int
    n_treatment: int
    n_arms: int
    days: float
    method: str

    def __str__(self) -> str:
        relative = "" if math.isnan(self.relative_effect) else f" ({format_percent(self.relative_effect)})"
        arms = "each of the other arms" if self.n_arms > 2 else "treatment"
        known = {"baseline": self.baseline, "standard deviation": self.std}
        given = ", ".join(f"{name} {format_number(v)}" for name, v in known.items() if not math.isnan(v))
        days = "" if math.isnan(self.days) else f"; {self.days:,.0f} days"
        return (
            f"{f'{self.metric}: ' if self.metric else ''}{self.power:.1%} power for an effect of "
            f"{format_number(self.effect)}{relative} with {self.n_obs:,} units: {self.n_control:,} in control, "
            f"{self.n_treatment:,} in {arms}{days} ({self.alternative}, alpha {format_number(self.alpha)}"
            f"{f', {given}' if given else ''}; {self.method})"
        )


@dataclass(frozen=True, eq=False)
class PowerCurveResult(Result):
    """Power over sample sizes, a curve per effect.

    Attributes
    ----------
    n_obs : array of shape (m,)
    effect : array of shape (k,)
    power : array of shape (k, m)
    """

    metric: str
    baseline: float
    alpha: float
    method: str
    n_obs: IntArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    power: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per effect and size."""
        rows = [(e, n, p) for e, line in zip(self.effect, self.power, strict=True)
                for n, p in zip(self.n_obs, line, strict=True)]  # fmt: skip
        return pd.DataFrame(rows, columns=["effect", "n_obs", "power"])

    def __str__(self) -> str:
        """A line per effect: from how many units it has 80% power, and its power at some sizes."""
        name = f"{self.metric}: " if self.metric else ""
        baseline = "" if math.isnan(self.baseline) else f", baseline {format_number(self.baseline)}"
        head = f"{name}power by units in all arms, alpha {format_number(self.alpha)}{baseline} ({self.method})"
        at = np.unique(np.linspace(0, len(self.n_obs) - 1, min(_SHOWN, len(self.n_obs))).round().astype(np.int64))
        rows = [("effect", *(f"{n:,}" for n in self.n_obs[at]), "80% from")]
        for effect, power in zip(self.effect, self.power, strict=True):
            enough = self.n_obs[power >= _USUAL_POWER]
            reached = f"{enough.min():,}" if enough.size else "not reached"
            rows.append((format_number(effect), *(_share(p) for p in power[at]), reached))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{text:>{w}}" for text, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([head, *(f"  {line}" for line in lines)])


def _share(power: float) -> str:
    return "–" if math.isnan(power) else f"{power:.0%}"
