"""What an experiment gives: effects of arms, where and when they differ, and all of it together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec._validation import nearest
from causalrec.exceptions import CausalRecError
from causalrec.results.answers import answer_words
from causalrec.results.base import (
    NAN,
    Result,
    format_interval,
    format_level,
    format_number,
    format_percent,
    format_pvalue,
)
from causalrec.results.bayes import PosteriorResult
from causalrec.results.checks import SampleRatioResult, SegmentRatioResult
from causalrec.results.decisions import VerdictResult
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
    inference : str
        How often one may look: ``"fixed horizon"`` (once, at a planned end), ``"always valid"``,
        ``"group sequential"``; or ``"Bayesian"``.
    """

    _first: ClassVar[tuple[str, ...]] = ("metric", "control", "treatment", "segment")

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
    inference: str = "fixed horizon"

    @property
    def significant(self) -> bool:
        """Whether the null of ``hypothesis`` is rejected at ``1 - confidence_level``."""
        return self.pvalue < 1 - self.confidence_level

    @property
    def interval_level(self) -> float:
        """The level of the intervals: that of the test, but for equivalence 2 x confidence_level - 1.

        The interval lies within the margins just when both of its one-sided tests reject.
        """
        level = self.confidence_level
        return round(2 * level - 1, 12) if self.hypothesis == "equivalence" else level

    def __str__(self) -> str:
        where = f" ({self.segment})" if self.segment else ""
        p = "p < 1e-300" if self.pvalue == 0 else f"p = {format_pvalue(self.pvalue)}"
        answer = "" if self.hypothesis == "two-sided" else f", {answer_words(self)}"
        return (
            f"{self.metric}{where}: {self.treatment} − {self.control} = {format_number(self.estimate)} "
            f"{format_level(self.interval_level)} CI {format_interval(self.ci_low, self.ci_high)}, relative "
            f"{format_percent(self.relative_effect)}{_relative_interval(self)}, "
            f"{p}{answer}, n = {self.n_obs:,} ({self.method})"
        )


def _relative_interval(effect: ABResult) -> str:
    """Nothing where it says nothing."""
    low, high = effect.relative_ci_low, effect.relative_ci_high
    if math.isnan(effect.relative_effect) and not (math.isfinite(low) or math.isfinite(high)):
        return ""
    return f" [{format_percent(low)}, {format_percent(high)}]"


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

    _first: ClassVar[tuple[str, ...]] = ("metric", "control", "treatment")

    metric: str
    control: str
    treatment: str
    day: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    effect_low: FloatArray = field(repr=False)
    effect_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per day."""
        whole = np.isfinite(self.day).all() and bool((self.day == np.floor(self.day)).all())
        day = self.day.astype(np.int64) if whole else self.day
        return pd.DataFrame({"day": day} | {n: getattr(self, n) for n in ("effect", "effect_low", "effect_high")})


Part: TypeAlias = Literal[
    "effects", "segments", "interactions", "trends", "diluted", "pre_period", "sample_ratio", "segment_ratios"
]


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
    posteriors : tuple of PosteriorResult
        What is believed of each metric in all arms, where the inference is Bayesian.
    verdict : VerdictResult or None
        What the experiment's decision rule says, if it has one.
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
    posteriors: tuple[PosteriorResult, ...] = ()
    verdict: VerdictResult | None = None

    @property
    def inference(self) -> str:
        """How often one may look: see :class:`ABResult`."""
        return self.effects[0].inference if self.effects else "fixed horizon"

    def __getitem__(self, key: str | tuple[str, str]) -> ABResult:
        """The effect on a metric, or on a (metric, treatment) where there are several arms."""
        metric, treatment = key if isinstance(key, tuple) else (key, None)
        found = [e for e in self.effects if e.metric == metric and treatment in (None, e.treatment)]
        if len(found) != 1:
            known = sorted({(e.metric, e.treatment) for e in self.effects})
            raise KeyError(f"{key!r} is {'ambiguous' if found else 'unknown'}; known (metric, treatment): {known}")
        return found[0]

    def to_frame(self, what: Part = "effects") -> pd.DataFrame:
        """A part of the result as a table: a row per effect, segment, test, trend or check; no rows if there is none.

        Parameters
        ----------
        what : str
            ``"effects"``, ``"segments"``, ``"interactions"``, ``"trends"``, ``"diluted"``, ``"pre_period"``,
            ``"sample_ratio"`` or ``"segment_ratios"``.

        Raises
        ------
        CausalRecError
            For another part.
        """
        if what not in get_args(Part):
            raise CausalRecError(
                f"what is {what!r}; expected one of {', '.join(get_args(Part))}.{nearest(str(what), get_args(Part))}"
            )
        return pd.DataFrame([e.to_dict() for e in getattr(self, what)])

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
