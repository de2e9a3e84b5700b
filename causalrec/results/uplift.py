"""Curves and groups of predicted uplift."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result


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

    def to_frame(self) -> pd.DataFrame:
        """A row per point of the curve."""
        names = ("fraction", "value", "ci_low", "ci_high", "random")
        return pd.DataFrame({name: getattr(self, name) for name in names})


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
