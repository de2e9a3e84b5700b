"""Curves and groups of predicted uplift, and intervals at single points."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result, format_interval, format_level, format_number, written_interval

_ROUND_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class CurveResult(Result):
    """A curve over the share of units targeted, best scores first.

    Attributes
    ----------
    kind : str
        ``"qini"`` or ``"uplift"``.
    fraction : array of shape (m,)
        Share of units targeted, from 0 to 1.
    value, ci_low, ci_high : arrays of shape (m,)
        Gain per unit of the whole population, pointwise interval (NaN where none).
    random : array of shape (m,)
        The same for a random order.
    label : str
        Name of the scorer.
    band : str
        ``"pointwise"``: each interval holds for its own point; ``"simultaneous"``: all at once.
    """

    kind: str
    label: str
    confidence_level: float
    n_obs: int
    fraction: FloatArray = field(repr=False)
    value: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    random: FloatArray = field(repr=False)
    band: str = "pointwise"

    def to_frame(self) -> pd.DataFrame:
        """A row per point of the curve."""
        names = ("fraction", "value", "ci_low", "ci_high", "random")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        """A few of the points, those nearest to round shares."""
        near = np.abs(self.fraction[:, None] - np.array(_ROUND_SHARES)).argmin(axis=0)
        lines = [f"{self.kind.replace('_', ' ')} curve of {self.label}, n = {self.n_obs:,}"]
        for at in dict.fromkeys(near.tolist()):
            interval = written_interval(self.value[at], self.ci_low[at], self.ci_high[at])
            lines.append(f"  best {self.fraction[at]:.1%}: {interval}, random order {format_number(self.random[at])}")
        return "\n".join([*lines, f"{self.band} {format_level(self.confidence_level)} intervals"])


@dataclass(frozen=True, eq=False)
class UpliftBinsResult(Result):
    """Predicted and observed effect in equal groups of units, best scores first."""

    confidence_level: float
    n_obs: int
    bin: IntArray = field(repr=False)
    n: IntArray = field(repr=False)
    predicted: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per group."""
        names = ("bin", "n", "predicted", "effect", "ci_low", "ci_high")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        lines = [
            f"Effect by group of predicted uplift, the highest first, n = {self.n_obs:,} "
            f"({format_level(self.confidence_level)} intervals)"
        ]
        columns = (self.bin, self.n, self.predicted, self.effect, self.ci_low, self.ci_high)
        for number, n, predicted, effect, low, high in zip(*columns, strict=False):
            lines.append(
                f"  group {number} (n = {n:,}): predicted {format_number(predicted)}, observed {format_number(effect)} "
                f"{format_interval(low, high)}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class UpliftIntervalsResult(Result):
    """Effects at single points with pointwise intervals: each holds for its own point, not for all at once.

    Attributes
    ----------
    control : str
        The arm that effects are measured against.
    arms : tuple of str
        The other arms, in the order of the columns.
    n_obs : int
        Rows that were fitted on.
    method : str
        Where the errors come from.
    covers : str
        What lies inside with probability ``confidence_level``; more than the method can promise is not claimed.
    estimate, std_error, ci_low, ci_high : arrays of shape (m,) for two arms, (m, k - 1) for k
    """

    control: str
    arms: tuple[str, ...]
    confidence_level: float
    n_obs: int
    method: str
    covers: str
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per point and arm; ``point`` counts the rows of the covariates from 0."""
        names, n_points = ("estimate", "std_error", "ci_low", "ci_high"), len(self.estimate)
        head = {"point": np.repeat(np.arange(n_points), len(self.arms)), "arm": list(self.arms) * n_points}
        return pd.DataFrame(head | {name: np.ravel(getattr(self, name)) for name in names})

    def __str__(self) -> str:
        frame, lines = self.to_frame(), []
        for arm in self.arms:
            part = frame[frame["arm"] == arm]
            width = (part["ci_high"] - part["ci_low"]).median() / 2
            lines.append(
                f"effect of {arm} against {self.control} at {len(part):,} points: {(part['ci_low'] > 0).sum():,} above "
                f"zero, {(part['ci_high'] < 0).sum():,} below; median {format_number(part['estimate'].median())} ± "
                f"{format_number(width)}"
            )
        level = format_level(self.confidence_level)
        return "\n".join([*lines, f"pointwise {level} intervals for {self.covers}, n = {self.n_obs:,} ({self.method})"])
