"""Whether predicted effects are the ones that are seen: by group, and in one number."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import format_interval, format_level, format_number, pvalue_text
from causalrec.results.effects import EffectResult


@dataclass(frozen=True, eq=False)
class UpliftCalibrationResult(EffectResult):
    """Observed against predicted effect in groups of the prediction, and the calibration error.

    Attributes
    ----------
    estimate, ci_low, ci_high : float
        Root of the mean squared gap of the groups, less what the noise of the groups' effects adds to it (0 where
        nothing is left), and its interval; in the outcome's unit.
    std_error : float
        NaN where the interval reaches zero: there the estimate is not nearly normal.
    pvalue : float
        Of the null that no group has a gap (Wald), with ``statistic``, ``df`` and ``df_error`` (F).
    squared, squared_std_error, squared_ci_low, squared_ci_high : float
        The mean squared gap, unbiased and so below zero at times.
    raw : float
        The root with the noise left in: what is usually reported.
    bin : int array of shape (n_bins,)
        1 for the highest predictions.
    n, share : arrays of shape (n_bins,)
        Rows, and share of the weight.
    predicted : array of shape (n_bins,)
        Mean prediction.
    effect, effect_std_error, effect_ci_low, effect_ci_high : arrays of shape (n_bins,)
        Observed effect.
    gap, gap_std_error, gap_ci_low, gap_ci_high : arrays of shape (n_bins,)
        Observed less predicted.
    """

    control: str
    treatment: str
    squared: float
    squared_std_error: float
    squared_ci_low: float
    squared_ci_high: float
    raw: float
    statistic: float
    df: int
    df_error: float
    n_bins: int
    bin: IntArray = field(repr=False)
    n: IntArray = field(repr=False)
    share: FloatArray = field(repr=False)
    predicted: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    effect_std_error: FloatArray = field(repr=False)
    effect_ci_low: FloatArray = field(repr=False)
    effect_ci_high: FloatArray = field(repr=False)
    gap: FloatArray = field(repr=False)
    gap_std_error: FloatArray = field(repr=False)
    gap_ci_low: FloatArray = field(repr=False)
    gap_ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per group."""
        names = (
            "bin", "n", "share", "predicted", "effect", "effect_std_error", "effect_ci_low", "effect_ci_high",
            "gap", "gap_std_error", "gap_ci_low", "gap_ci_high",
        )  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        lines = [
            f"Calibration error of predicted effects of {self.treatment} against {self.control}: "
            f"{format_number(self.estimate)}, {format_level(self.confidence_level)} CI "
            f"{format_interval(self.ci_low, self.ci_high)}; all {self.n_bins} gaps zero: {pvalue_text(self.pvalue)}; "
            f"n = {self.n_obs:,} ({self.method})"
        ]
        for i, number in enumerate(self.bin):
            interval = format_interval(self.effect_ci_low[i], self.effect_ci_high[i])
            lines.append(
                f"  group {number}: predicted {format_number(self.predicted[i])}, "
                f"observed {format_number(self.effect[i])} {interval}"
            )
        return "\n".join(lines)
