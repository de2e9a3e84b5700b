"""How long units stay: curves, tests and effects of arms, churn by period, retention by day."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.abtest import ABResult
from causalrec.results.base import (
    NAN,
    Result,
    format_interval,
    format_level,
    format_number,
    pvalue_text,
    written_interval,
)
from causalrec.results.effects import EffectResult


def _columns(result: Result, names: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({name: getattr(result, name) for name in names})


def _effect_of(effects: tuple[ABResult, ...], treatment: str) -> ABResult:
    for effect in effects:
        if effect.treatment == treatment:
            return effect
    raise KeyError(f"{treatment!r} is unknown; known treatments: {', '.join(e.treatment for e in effects)}")


@dataclass(frozen=True, eq=False)
class SurvivalCurveResult(Result):
    """The share of an arm that is still there at each time (Kaplan and Meier).

    Attributes
    ----------
    arm : str
    n_obs, n_events : int
    follow_up : float
        The last time at which a unit was seen; the curve is not known after it, unless all have left.
    median, median_low, median_high : float
        When half have left, in the unit of the durations; NaN if that has not come. An infinite high end: not known.
    time, survival, std_error, ci_low, ci_high : arrays of shape (n_times,)
        From time 0; ``survival`` is the share still there just after ``time``. NaN where there is no interval: before
        the first event, and once all have left.
    at_risk, events : arrays of shape (n_times,)
        Units still seen just before ``time``, and events at it.
    times : array
        Where :meth:`to_frame` looks at the curve; empty for every time.
    """

    arm: str
    n_obs: int
    n_events: int
    follow_up: float
    median: float
    median_low: float
    median_high: float
    confidence_level: float
    method: str
    time: FloatArray = field(repr=False)
    survival: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    at_risk: FloatArray = field(repr=False)
    events: FloatArray = field(repr=False)
    times: FloatArray = field(repr=False)

    def at(self, times: ArrayLike) -> pd.DataFrame:
        """The curve at any times: NaN where it is not known, after the last unit was seen."""
        t = np.atleast_1d(np.asarray(times, dtype=np.float64))
        row = np.searchsorted(self.time, t, side="right") - 1
        known = (t >= 0) & ((t <= self.time[-1]) | (self.survival[-1] == 0))
        shown = {
            name: np.where(known, getattr(self, name)[row], NAN)
            for name in ("survival", "std_error", "ci_low", "ci_high")
        }
        after = np.minimum(np.searchsorted(self.time, t), len(self.time) - 1)
        at_risk = np.where(t <= self.time[-1], self.at_risk[after], 0)
        return pd.DataFrame({"arm": self.arm, "time": t} | shown | {"at_risk": at_risk})

    def to_frame(self) -> pd.DataFrame:
        """A row per time: each at which something happened, or those asked for."""
        if len(self.times):
            return self.at(self.times)
        names = ("time", "survival", "std_error", "ci_low", "ci_high", "at_risk", "events")
        return _columns(self, names).assign(arm=self.arm)[["arm", *names]]

    def __str__(self) -> str:
        return f"{self.arm}: {_median_words(self)}, {self.n_events:,} of {self.n_obs:,} seen to leave ({self.method})"


def _median_words(curve: SurvivalCurveResult) -> str:
    if math.isnan(curve.median):
        last = curve.survival[-1] if len(curve.survival) else NAN
        return f"more than half are still there at {format_number(curve.follow_up)} ({last:.1%})"
    words = f"half have left by {format_number(curve.median)}"
    return f"{words} {format_level(curve.confidence_level)} CI {format_interval(curve.median_low, curve.median_high)}"


@dataclass(frozen=True, eq=False)
class SurvivalResult(Result):
    """The survival curves of all arms, control first."""

    n_obs: int
    n_events: int
    confidence_level: float
    method: str
    curves: tuple[SurvivalCurveResult, ...]

    def __getitem__(self, arm: str) -> SurvivalCurveResult:
        for curve in self.curves:
            if curve.arm == arm:
                return curve
        raise KeyError(f"{arm!r} is unknown; known arms: {', '.join(c.arm for c in self.curves)}")

    def at(self, times: ArrayLike) -> pd.DataFrame:
        """Each curve at any times, a row per arm and time."""
        return pd.concat([curve.at(times) for curve in self.curves], ignore_index=True)

    def to_frame(self) -> pd.DataFrame:
        """A row per arm and time."""
        return pd.concat([curve.to_frame() for curve in self.curves], ignore_index=True)

    def __str__(self) -> str:
        return "\n".join(map(str, self.curves))


@dataclass(frozen=True, eq=False)
class LogrankResult(Result):
    """Whether arms leave at the same rates: a weighted log-rank test.

    Attributes
    ----------
    arm, n, observed, expected : arrays of shape (n_arms,)
        Units; events, and those expected if all arms left at one rate (unweighted).
    """

    statistic: float
    df: int
    pvalue: float
    n_obs: int
    n_events: int
    n_strata: int
    method: str
    arm: AnyArray = field(repr=False)
    n: FloatArray = field(repr=False)
    observed: FloatArray = field(repr=False)
    expected: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per arm."""
        return _columns(self, ("arm", "n", "observed", "expected"))

    def __str__(self) -> str:
        arms = "; ".join(
            f"{arm}: {seen:,.0f} left, {due:,.1f} expected"
            for arm, seen, due in zip(self.arm, self.observed, self.expected, strict=True)
        )
        return (
            f"do the arms leave at one rate? {pvalue_text(self.pvalue)} (chi-square {format_number(self.statistic)}, "
            f"{self.df} df, {self.method}). {arms}"
        )


@dataclass(frozen=True, eq=False)
class RestrictedMeanResult(Result):
    """The mean time that units stay until a horizon: the area under each survival curve up to it.

    Attributes
    ----------
    horizon : float
    effects : tuple of ABResult
        Each arm against control; ``relative_effect`` is the ratio of the means less one.
    arm, mean, std_error, ci_low, ci_high : arrays of shape (n_arms,)
    """

    horizon: float
    n_obs: int
    confidence_level: float
    method: str
    effects: tuple[ABResult, ...]
    arm: AnyArray = field(repr=False)
    mean: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def __getitem__(self, treatment: str) -> ABResult:
        return _effect_of(self.effects, treatment)

    def to_frame(self) -> pd.DataFrame:
        """A row per effect."""
        return pd.DataFrame([effect.to_dict() for effect in self.effects])

    def __str__(self) -> str:
        return "\n".join(
            f"in the first {format_number(self.horizon)}, {e.treatment} stays {format_number(e.treatment_mean)} on "
            f"average, {e.control} {format_number(e.control_mean)}: a difference of "
            f"{written_interval(e.estimate, e.ci_low, e.ci_high)}, {pvalue_text(e.pvalue)}"
            for e in self.effects
        )


@dataclass(frozen=True, eq=False)
class HazardRatioResult(EffectResult):
    """How much faster one arm leaves than control, in a proportional hazards model.

    ``estimate``, ``std_error`` and the interval are of the log hazard ratio.

    Attributes
    ----------
    hazard_ratio, hazard_ratio_low, hazard_ratio_high : float
        1: as fast as control; 0.8: at each time, 20% fewer of those still there leave.
    n_events : int
        Of all arms.
    proportional_statistic, proportional_pvalue : float
        Whether the ratio is the same at all times (chi-square, 1 df): a small p says that it is not, and the ratio an
        average over time. NaN where not tested.
    """

    _first: ClassVar[tuple[str, ...]] = ("control", "treatment")

    control: str
    treatment: str
    hazard_ratio: float
    hazard_ratio_low: float
    hazard_ratio_high: float
    n_events: int
    proportional_statistic: float
    proportional_pvalue: float

    def __str__(self) -> str:
        share = abs(self.hazard_ratio - 1)
        words = f"{share:.1%} {'faster' if self.hazard_ratio > 1 else 'more slowly'}"
        shown = written_interval(self.hazard_ratio, self.hazard_ratio_low, self.hazard_ratio_high)
        doubt = ""
        if self.proportional_pvalue < 0.05:
            doubt = f"; but the ratio changes over time ({pvalue_text(self.proportional_pvalue)})"
        return (
            f"{self.treatment} leaves {words} than {self.control}: hazard ratio {shown}, {pvalue_text(self.pvalue)}"
            f"{doubt}, n = {self.n_obs:,}, {self.n_events:,} events ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class CoxResult(Result):
    """A proportional hazards model: the effects of arms, and all coefficients with the test of proportionality.

    Attributes
    ----------
    effects : tuple of HazardRatioResult
    term : array of shape (n_terms,)
        Arms first, then covariates.
    estimate, std_error, ci_low, ci_high, pvalue : arrays of shape (n_terms,)
        Of log hazard ratios.
    proportional_statistic, proportional_pvalue : arrays of shape (n_terms,)
    """

    n_obs: int
    n_events: int
    n_clusters: int
    n_strata: int
    log_likelihood: float
    concordance: float
    confidence_level: float
    method: str
    proportional_method: str
    effects: tuple[HazardRatioResult, ...]
    term: AnyArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    proportional_statistic: FloatArray = field(repr=False)
    proportional_pvalue: FloatArray = field(repr=False)

    def __getitem__(self, treatment: str) -> HazardRatioResult:
        for effect in self.effects:
            if effect.treatment == treatment:
                return effect
        raise KeyError(f"{treatment!r} is unknown; known treatments: {', '.join(e.treatment for e in self.effects)}")

    def to_frame(self) -> pd.DataFrame:
        """A row per coefficient."""
        return _columns(self, (
            "term", "estimate", "std_error", "ci_low", "ci_high", "pvalue", "proportional_statistic",
            "proportional_pvalue",
        ))  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(map(str, self.effects))


@dataclass(frozen=True, eq=False)
class ChurnResult(Result):
    """Of those still there at the start of a period, the share that leaves in it; by arm.

    Attributes
    ----------
    period : float
        Length, in the unit of the durations.
    arm, start, end : arrays of shape (n_rows,)
        A row per arm and period [start, end), arm by arm, control first.
    at_risk, events, hazard, ci_low, ci_high : arrays of shape (n_rows,)
        Units at the start (of those seen until the end, if some came late: just before it), events, and the share.
    ratio, ratio_low, ratio_high, pvalue : arrays of shape (n_rows,)
        To control's share; NaN for control, and where either is 0 or not known.
    """

    period: float
    n_periods: int
    n_obs: int
    confidence_level: float
    control: str
    method: str
    arm: AnyArray = field(repr=False)
    start: FloatArray = field(repr=False)
    end: FloatArray = field(repr=False)
    at_risk: FloatArray = field(repr=False)
    events: FloatArray = field(repr=False)
    hazard: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    ratio: FloatArray = field(repr=False)
    ratio_low: FloatArray = field(repr=False)
    ratio_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per arm and period."""
        return _columns(self, (
            "arm", "start", "end", "at_risk", "events", "hazard", "ci_low", "ci_high", "ratio", "ratio_low",
            "ratio_high", "pvalue",
        ))  # fmt: skip

    def __str__(self) -> str:
        lines = [f"leave per {format_number(self.period)}, of those still there at its start ({self.method})"]
        for arm in dict.fromkeys(self.arm.tolist()):
            hazards = self.hazard[self.arm == arm]
            lines.append(f"  {arm}: " + ", ".join("–" if np.isnan(h) else f"{h:.1%}" for h in hazards))
        return "\n".join(lines)


def retention_metric(day: float) -> str:
    """How the effects of :class:`RetentionResult` are named.

    Examples
    --------
    >>> retention_metric(7), retention_metric(1)
    ('retention, 7 days', 'retention, 1 day')
    """
    return f"retention, {format_number(day)} day{'' if day == 1 else 's'}"


@dataclass(frozen=True, eq=False)
class RetentionResult(Result):
    """The share of each arm still there after some days, censoring handled, and the differences to control.

    Attributes
    ----------
    effects : tuple of ABResult
        Each day, each arm against control; the metric is named ``retention, 7 days``.
    arm, day, retention, std_error, ci_low, ci_high, at_risk : arrays of shape (n_rows,)
        A row per arm and day, arm by arm, control first; ``at_risk`` counts who was still seen just before.
    note : array of shape (n_rows,)
        Why a number is not known; empty where it is.
    """

    n_obs: int
    confidence_level: float
    control: str
    method: str
    effects: tuple[ABResult, ...]
    arm: AnyArray = field(repr=False)
    day: FloatArray = field(repr=False)
    retention: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    at_risk: FloatArray = field(repr=False)
    note: AnyArray = field(repr=False)

    def effect(self, day: float, treatment: str | None = None) -> ABResult:
        """The difference after ``day`` days; of one arm, where there are several.

        Raises
        ------
        KeyError
            For another day or arm, or without ``treatment`` among several.
        """
        metric = retention_metric(day)
        found = [e for e in self.effects if e.metric == metric and treatment in (None, e.treatment)]
        if len(found) != 1:
            known = sorted({(e.metric, e.treatment) for e in self.effects})
            raise KeyError(f"{(day, treatment)} is {'ambiguous' if found else 'unknown'}; known: {known}")
        return found[0]

    def to_frame(self) -> pd.DataFrame:
        """A row per arm and day."""
        return _columns(
            self, ("arm", "day", "retention", "std_error", "ci_low", "ci_high", "at_risk", "note")
        )  # fmt: skip

    def __str__(self) -> str:
        lines = []
        for e in self.effects:
            day = e.metric.removeprefix("retention, ")
            here = np.isin(self.arm, [e.control, e.treatment]) & [retention_metric(d) == e.metric for d in self.day]
            unknown = math.isnan(e.estimate)
            why = "; ".join(text for text in self.note[here & (np.isnan(self.retention) | (not unknown))] if text)
            if unknown:
                lines.append(f"after {day}: {e.treatment} against {e.control} is not known: {why}")
                continue
            shown = written_interval(e.estimate, e.ci_low, e.ci_high, percent=True).replace("%", "")
            lines.append(
                f"after {day}, {e.treatment_mean:.1%} of {e.treatment} and {e.control_mean:.1%} of {e.control} are "
                f"still there: {shown} points, {why or pvalue_text(e.pvalue)}"
            )
        return "\n".join(lines)
