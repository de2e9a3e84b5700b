"""What is asked of an experiment's data before its effects are believed: splits, A/A tests, outliers, distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.results.base import Result, format_number, format_pvalue, pvalue_text


@dataclass(frozen=True, eq=False)
class SampleRatioResult(Result):
    """Whether the arms have the sizes that the design asked for."""

    pvalue: float
    statistic: float
    df: int
    n_obs: int
    threshold: float
    mismatch: bool
    method: str
    arms: tuple[str, ...] = field(default=())
    counts: tuple[int, ...] = field(default=())
    expected: tuple[float, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """A row per arm: observed and expected counts."""
        return pd.DataFrame({"arm": self.arms, "count": self.counts, "expected": self.expected})


@dataclass(frozen=True, eq=False)
class SegmentRatioResult(Result):
    """The sample ratio within every segment, worst first.

    ``pvalue`` is the smallest, corrected for having looked at all (Holm); ``most_suspicious`` names its segment.
    """

    _first: ClassVar[tuple[str, ...]] = ("dimension",)

    most_suspicious: str
    pvalue: float
    threshold: float
    mismatch: bool
    n_segments: int
    method: str
    segment: AnyArray = field(repr=False)
    n: IntArray = field(repr=False)
    statistic: FloatArray = field(repr=False)
    raw_pvalue: FloatArray = field(repr=False)
    adjusted_pvalue: FloatArray = field(repr=False)
    dimension: str = ""

    def to_frame(self) -> pd.DataFrame:
        """A row per segment, the most suspicious first."""
        names = ("segment", "n", "statistic", "raw_pvalue", "adjusted_pvalue")
        return pd.DataFrame({name: getattr(self, name) for name in names})


@dataclass(frozen=True, eq=False)
class AAResult(Result):
    """What the analysis finds when the arms are drawn by lot, so that there is nothing to find.

    Attributes
    ----------
    false_positive_rate, ci_low, ci_high : float
        Share of simulations with p below ``alpha``, with its exact binomial interval.
    uniformity_pvalue : float
        Of the Kolmogorov–Smirnov test that the p-values are uniform.
    calibrated : bool
        Whether ``alpha`` lies in the interval.
    pvalues : array of shape (n_simulations,)
    """

    metric: str
    alpha: float
    false_positive_rate: float
    ci_low: float
    ci_high: float
    uniformity_pvalue: float
    calibrated: bool
    n_simulations: int
    n_obs: int
    method: str
    pvalues: FloatArray = field(repr=False)

    def __str__(self) -> str:
        verdict = "as it should be" if self.calibrated else "NOT as it should be"
        return (
            f"{self.metric}: {self.false_positive_rate:.1%} [{self.ci_low:.1%}, {self.ci_high:.1%}] of "
            f"{self.n_simulations:,} splits by lot find an effect at alpha = {format_number(self.alpha)}, {verdict}; "
            f"uniformity p = {format_pvalue(self.uniformity_pvalue)}, n = {self.n_obs:,} ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class OutlierResult(Result):
    """Values beyond a threshold, by arm, and whether their share differs between arms.

    ``column`` names the values where they are not the metric's own: the numerator of a ratio.
    """

    metric: str
    low: float
    high: float
    pvalue: float
    method: str
    arms: tuple[str, ...] = field(default=())
    n: tuple[int, ...] = field(default=())
    n_outside: tuple[int, ...] = field(default=())
    mean: tuple[float, ...] = field(default=())
    mean_inside: tuple[float, ...] = field(default=())
    column: str = ""

    @property
    def label(self) -> str:
        """What the values are."""
        return self.column or self.metric

    def to_frame(self) -> pd.DataFrame:
        """A row per arm."""
        frame = pd.DataFrame({"arm": self.arms, "n": self.n, "n_outside": self.n_outside})
        return frame.assign(share=frame["n_outside"] / frame["n"], mean=self.mean, mean_inside=self.mean_inside)

    def __str__(self) -> str:
        shares = ", ".join(
            f"{out:,} of {n:,} ({out / n:.2%}) in {arm}"
            for arm, n, out in zip(self.arms, self.n, self.n_outside, strict=True)
        )
        of = f"{self.metric}, of {self.column}" if self.label != self.metric else self.metric
        return f"{of}: {self.threshold} are {shares}; {pvalue_text(self.pvalue)} ({self.method})"

    @property
    def threshold(self) -> str:
        """What is outside, in words."""
        if math.isinf(self.low):
            return f"above {format_number(self.high)}"
        if math.isinf(self.high):
            return f"below {format_number(self.low)}"
        return f"outside [{format_number(self.low)}, {format_number(self.high)}]"


@dataclass(frozen=True, eq=False)
class DistributionResult(Result):
    """Quantiles and mean of a metric in every arm.

    Attributes
    ----------
    arms : tuple of str
    quantile : array of shape (m,)
        Probabilities, such as .05, .25, .5, .75, .95.
    value : array of shape (n_arms, m)
    mean : array of shape (n_arms,)
    column : str
        What the values are where they are not the metric's own: the numerator of a ratio, the column of a quantile.
    """

    metric: str
    n_obs: int
    arms: tuple[str, ...]
    quantile: FloatArray = field(repr=False)
    value: FloatArray = field(repr=False)
    mean: FloatArray = field(repr=False)
    column: str = ""

    @property
    def label(self) -> str:
        """What the values are."""
        return self.column or self.metric

    def to_frame(self) -> pd.DataFrame:
        """A row per arm, a column per quantile."""
        frame = pd.DataFrame(self.value, columns=[f"q{100 * q:g}" for q in self.quantile])
        frame.insert(0, "arm", self.arms)
        return frame.assign(mean=self.mean)
