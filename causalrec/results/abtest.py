"""What an experiment gives: effects of arms, the checks around them, the design before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.results.base import (
    NAN,
    Result,
    format_interval,
    format_level,
    format_number,
    format_percent,
    format_pvalue,
)
from causalrec.results.effects import EffectResult
from causalrec.results.scorecard import scorecard_html, scorecard_text


@dataclass(frozen=True, eq=False)
class ABResult(EffectResult):
    """The effect of one arm of an experiment against control on one metric: treatment - control.

    Attributes
    ----------
    hypothesis : str
        What ``pvalue`` and the interval answer: ``"two-sided"``, ``"greater"``, ``"less"``, ``"non-inferiority"`` or
        ``"equivalence"``.
    margin_low, margin_high : float
        Effects inside are not inferior, or equivalent; in the metric's unit, or relative if ``method`` says so. NaN
        where there is none.
    segment : str
        Which units: ``"device = phone"``; empty for all.
    control_std_error, treatment_std_error : float
        Of the two values in the arms; NaN where they are not known apart.
    """

    metric: str
    control: str
    treatment: str
    control_mean: float
    treatment_mean: float
    n_control: int
    n_treatment: int
    statistic: float
    df: float
    relative_effect: float
    relative_ci_low: float
    relative_ci_high: float
    hypothesis: str = "two-sided"
    margin_low: float = NAN
    margin_high: float = NAN
    segment: str = ""
    control_std_error: float = NAN
    treatment_std_error: float = NAN

    @property
    def significant(self) -> bool:
        """Whether the null of ``hypothesis`` is rejected at ``1 - confidence_level``."""
        return self.pvalue < 1 - self.confidence_level

    def __str__(self) -> str:
        where = f" ({self.segment})" if self.segment else ""
        return (
            f"{self.metric}{where}: {self.treatment} − {self.control} = {format_number(self.estimate)} "
            f"{format_level(self.confidence_level)} CI {format_interval(self.ci_low, self.ci_high)}, relative "
            f"{format_percent(self.relative_effect)} "
            f"[{format_percent(self.relative_ci_low)}, {format_percent(self.relative_ci_high)}], "
            f"p = {format_pvalue(self.pvalue)}, n = {self.n_obs:,} ({self.method})"
        )


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
class HeterogeneityResult(Result):
    """Whether the effect differs between the groups of one dimension (an interaction test)."""

    metric: str
    control: str
    treatment: str
    dimension: str
    statistic: float
    df: int
    pvalue: float
    n_groups: int
    method: str


@dataclass(frozen=True, eq=False)
class TrendResult(EffectResult):
    """The effect by day, and its change per day (``estimate``): falling for novelty, rising for primacy.

    Attributes
    ----------
    day, effect, effect_low, effect_high : arrays of shape (n_days,)
        The effect on each day with its interval.
    """

    metric: str
    control: str
    treatment: str
    day: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    effect_low: FloatArray = field(repr=False)
    effect_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per day."""
        return pd.DataFrame({name: getattr(self, name) for name in ("day", "effect", "effect_low", "effect_high")})


@dataclass(frozen=True, eq=False)
class ExperimentResult(Result):
    """All that one scan says of an experiment.

    Attributes
    ----------
    effects : tuple of ABResult
        Each metric, each arm against control.
    sample_ratio : tuple of SampleRatioResult
        One, or none where no split was designed.
    segment_ratios : tuple of SegmentRatioResult
        The split within each dimension.
    diluted : tuple of ABResult
        Of a triggered analysis: the effect on everybody.
    segments : tuple of ABResult
        Effects within segments.
    interactions : tuple of HeterogeneityResult
        Whether effects differ between segments, per metric, arm and dimension.
    trends : tuple of TrendResult
        Effects by day since exposure.
    pre_period : tuple of ABResult
        "Effects" on covariates measured before assignment, which should be none.
    notes : tuple of str
        What a reader must know before believing the effects.
    """

    n_obs: int
    confidence_level: float
    effects: tuple[ABResult, ...]
    sample_ratio: tuple[SampleRatioResult, ...] = ()
    segment_ratios: tuple[SegmentRatioResult, ...] = ()
    diluted: tuple[ABResult, ...] = ()
    segments: tuple[ABResult, ...] = ()
    interactions: tuple[HeterogeneityResult, ...] = ()
    trends: tuple[TrendResult, ...] = ()
    pre_period: tuple[ABResult, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, key: str | tuple[str, str]) -> ABResult:
        """The effect on a metric, or on a (metric, treatment) where there are several arms."""
        metric, treatment = key if isinstance(key, tuple) else (key, None)
        found = [e for e in self.effects if e.metric == metric and treatment in (None, e.treatment)]
        if len(found) != 1:
            known = sorted({(e.metric, e.treatment) for e in self.effects})
            raise KeyError(f"{key!r} is {'ambiguous' if found else 'unknown'}; known (metric, treatment): {known}")
        return found[0]

    def to_frame(self) -> pd.DataFrame:
        """A row per metric and arm."""
        return pd.DataFrame([e.to_dict() for e in self.effects])

    def __str__(self) -> str:
        return scorecard_text(self)

    def _repr_html_(self) -> str:
        return scorecard_html(self)


@dataclass(frozen=True, eq=False)
class ResamplingResult(EffectResult):
    """A difference between two samples by resampling.

    Attributes
    ----------
    kind : str
        ``"bootstrap"`` or ``"permutation"``.
    statistic : str
        What was compared: ``"mean"``, ``"median"``, …
    control_value, treatment_value : float
        The statistic in each sample.
    draws : array of shape (n_resamples,)
        Its difference in each resample.
    """

    kind: str
    statistic: str
    control_value: float
    treatment_value: float
    n_resamples: int
    draws: FloatArray = field(repr=False)

    def __str__(self) -> str:
        if self.kind == "bootstrap":
            return super().__str__()
        return (  # a test of no effect has no interval
            f"{self.estimand} = {format_number(self.estimate)}, p = {format_pvalue(self.pvalue)}, "
            f"n = {self.n_obs:,} ({self.method})"
        )


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


@dataclass(frozen=True, eq=False)
class OutlierResult(Result):
    """Values beyond a threshold, by arm, and whether their share differs between arms."""

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

    def to_frame(self) -> pd.DataFrame:
        """A row per arm."""
        frame = pd.DataFrame({"arm": self.arms, "n": self.n, "n_outside": self.n_outside})
        return frame.assign(share=frame["n_outside"] / frame["n"], mean=self.mean, mean_inside=self.mean_inside)


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
    """

    metric: str
    n_obs: int
    arms: tuple[str, ...]
    quantile: FloatArray = field(repr=False)
    value: FloatArray = field(repr=False)
    mean: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per arm, a column per quantile."""
        frame = pd.DataFrame(self.value, columns=[f"q{100 * q:g}" for q in self.quantile])
        frame.insert(0, "arm", self.arms)
        return frame.assign(mean=self.mean)
