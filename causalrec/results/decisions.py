"""Decisions and what they are worth: verdicts, corrected tests, yearly impact, effects without the winner's luck."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import ClassVar

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.base import (
    NAN,
    Result,
    format_level,
    format_number,
    pvalue_text,
    short_pvalue,
    written_interval,
)
from causalrec.results.effects import EffectResult

PLANNED_END = "the planned end"
_HEADLINES = {"ship": "Ship", "don't ship": "Don't ship", "keep running": "Keep running", "broken": "Broken"}


@dataclass(frozen=True, eq=False)
class RoleResult(Result):
    """One metric of one arm, as a verdict reads it.

    Attributes
    ----------
    metric, arm : str
    role : str
        ``"primary"``, ``"guardrail"`` or ``"secondary"``.
    status : str
        ``"win"``, ``"loss"``, ``"too small"`` (the interval excludes the smallest effect of interest) or
        ``"undecided"``; of a guardrail ``"no harm shown"`` (worse by less than its margin), ``"harm"`` (by more) or
        ``"undecided"``.
    hypothesis : str
    effect, ci_low, ci_high : float
        In the metric's unit.
    relative_effect, relative_ci_low, relative_ci_high : float
    pvalue, adjusted_pvalue : float
        The second is corrected for the tests of the same role.
    """

    metric: str
    role: str
    arm: str
    status: str
    hypothesis: str
    effect: float
    ci_low: float
    ci_high: float
    relative_effect: float
    relative_ci_low: float
    relative_ci_high: float
    pvalue: float
    adjusted_pvalue: float

    @property
    def size(self) -> str:
        """The lift in words, or the difference where there is none."""
        if math.isfinite(self.relative_effect):
            ends = (self.relative_effect, self.relative_ci_low, self.relative_ci_high)
            return written_interval(*ends, percent=True, words=True)
        return written_interval(self.effect, self.ci_low, self.ci_high, words=True)

    def __str__(self) -> str:
        return (
            f"{self.metric} of {self.arm} ({self.role}): {self.size}, {self.status} "
            f"({pvalue_text(self.adjusted_pvalue)} corrected)"
        )


@dataclass(frozen=True, eq=False)
class VerdictResult(Result):
    """What to do, and why.

    Attributes
    ----------
    verdict : str
        ``"ship"``, ``"don't ship"``, ``"keep running"`` or ``"broken"``.
    arm : str
        The one to ship; empty for other verdicts.
    n_obs : int
    confidence_level : float
    inference, correction : str
    more_units, more_days : float
        How long to keep running, in units of all arms and in days; NaN where that is not known, or for other verdicts.
    assumed : str
        Which effect that assumes.
    method : str
        How it was decided.
    tied : tuple of str
        Arms that pass as well and cannot be told from ``arm``.
    reasons : tuple of str
        Short sentences, the weightiest first.
    rows : tuple of RoleResult
        Every metric and arm: primaries, guardrails, secondaries.
    """

    verdict: str
    arm: str
    n_obs: int
    confidence_level: float
    inference: str
    correction: str
    more_units: float
    more_days: float
    assumed: str
    method: str
    tied: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    rows: tuple[RoleResult, ...] = ()

    @property
    def headline(self) -> str:
        """The verdict for a banner: ``Ship B``, ``Keep running: about 9 more days``."""
        text = _HEADLINES[self.verdict]
        if self.verdict == "ship":
            return f"{text} {self.arm}{f' (or {_listed(self.tied)})' if self.tied else ''}"
        if self.verdict == "broken":
            return f"{text}: do not trust the effects"
        return f"{text}: {wait}" if (wait := self.wait) else text

    @property
    def wait(self) -> str:
        """How much longer, in words; empty where it is not known."""
        if self.verdict != "keep running":
            return ""
        if math.isfinite(self.more_days):
            return f"about {self.more_days:,.0f} more day{'s' * (self.more_days != 1)}"
        if not math.isfinite(self.more_units):
            return ""
        if self.assumed == PLANNED_END:
            return f"{self.more_units:,.0f} more units"
        return f"about {two_digits(self.more_units)} more units"

    def to_frame(self) -> pd.DataFrame:
        """A row per metric and arm."""
        return pd.DataFrame([row.to_dict() for row in self.rows])

    def __str__(self) -> str:
        lines = [self.headline.upper() if self.verdict == "broken" else self.headline]
        lines += [f"  - {reason}" for reason in self.reasons]
        if self.rows:
            table = [("role", "metric", "arm", "effect", "p, corrected", "status")]
            table += [(r.role, r.metric, r.arm, r.size, short_pvalue(r.adjusted_pvalue), r.status) for r in self.rows]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += ["", *("  " + "  ".join(f"{t:<{w}}" for t, w in zip(row, widths, strict=True)).rstrip()
                            for row in table)]  # fmt: skip
        return "\n".join([*lines, "", f"  {self.method}"])

    def _repr_html_(self) -> str:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        return f"<p><b>{escape(self.headline)}</b></p><ul>{reasons}</ul>{super()._repr_html_()}"


def two_digits(value: float) -> str:
    """A number that is estimated: two digits of it.

    Examples
    --------
    >>> two_digits(100_395), two_digits(7.4)
    ('100,000', '7')
    """
    return f"{float(f'{value:.1e}'):,.0f}"


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(names)


@dataclass(frozen=True, eq=False)
class MultiplicityResult(Result):
    """Tests corrected for their number.

    Attributes
    ----------
    correction : str
    n_tests, n_families : int
        Tests in all, and families that are corrected apart from each other.
    n_before, n_after : int
        Rejected without and with the correction.
    confidence_level : float
        Of the intervals of a family together.
    method : str
    metric, treatment, segment, family : arrays of shape (m,)
    estimate, pvalue, adjusted_pvalue : arrays of shape (m,)
    ci_low, ci_high : arrays of shape (m,)
        Simultaneous intervals, which hold all together at ``confidence_level``; NaN where the correction has none.
    """

    correction: str
    n_tests: int
    n_families: int
    n_before: int
    n_after: int
    confidence_level: float
    method: str
    metric: AnyArray = field(repr=False)
    treatment: AnyArray = field(repr=False)
    segment: AnyArray = field(repr=False)
    family: AnyArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    adjusted_pvalue: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per test."""
        names = ("metric", "treatment", "segment", "family", "estimate", "ci_low", "ci_high", "pvalue",
                 "adjusted_pvalue")  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        alpha = format_level(round(1 - self.confidence_level, 12))
        head = (
            f"{self.n_after} of {self.n_tests} tests reject at {alpha} when corrected for their number, "
            f"{self.n_before} when not ({self.method})"
        )
        return f"{head}\n{self.to_frame().to_string(index=False)}"


@dataclass(frozen=True, eq=False)
class ImpactResult(EffectResult):
    """What an effect is worth in a year.

    ``estimate``, ``std_error``, ``ci_low``, ``ci_high`` are of the yearly value, net of the cost; ``pvalue`` is that of
    the effect.

    Attributes
    ----------
    metric, control, treatment : str
    prob_loss : float
        The probability that the yearly value is below zero, by the law of the estimate and no prior.
    effect : float
        What it was computed from: in the metric's unit per unit, or relative to the baseline.
    scale : str
        ``"absolute"`` or ``"relative"``.
    per_year : float
        Units in a year, or the baseline of a year.
    value_per_unit, rollout, cost : float
    persistence : float
        The share of the effect that is left on average over the year; 1 without decay.
    unit : str
        Of the value, such as ``"EUR"``.
    caveats : tuple of str
    """

    _first: ClassVar[tuple[str, ...]] = ("metric", "control", "treatment")

    metric: str
    control: str
    treatment: str
    prob_loss: float
    effect: float
    scale: str
    per_year: float
    value_per_unit: float
    rollout: float
    cost: float
    persistence: float
    unit: str = ""
    caveats: tuple[str, ...] = ()

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        ends = " to ".join(format_money(v) for v in (self.ci_low, self.ci_high))
        lines = [
            f"{self.metric}: {self.treatment} instead of {self.control} is worth {format_money(self.estimate)}{unit} "
            f"a year ({format_level(self.confidence_level)} interval {ends}); the probability of a loss is "
            f"{format_chance(self.prob_loss)}",
            *(f"  - {caveat}" for caveat in self.caveats),
            f"  {self.method}",
        ]
        return "\n".join(lines)


def format_money(value: float) -> str:
    """A value for a manager: whole numbers from 100 on."""
    if math.isnan(value) or math.isinf(value):
        return format_number(value)
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def format_chance(p: float) -> str:
    """A probability for a manager."""
    if math.isnan(p):
        return "not known"
    return "below 0.1%" if p < 0.001 else "above 99.9%" if p > 0.999 else f"{p:.1%}"


@dataclass(frozen=True, eq=False)
class ShrinkageResult(Result):
    """Effects drawn towards their common mean by as much as their errors are larger than their true differences.

    Attributes
    ----------
    prior_mean, prior_std : float
        Of the true effects.
    n_effects, n_sign_changes : int
    mean_kept : float
        What is left of the distance from the mean, on average.
    confidence_level : float
    method : str
    label : array of shape (n,)
    estimate, std_error : arrays of shape (n,)
        As measured.
    shrunk, shrunk_error, ci_low, ci_high : arrays of shape (n,)
        After it, with credible intervals.
    """

    prior_mean: float
    prior_std: float
    n_effects: int
    n_sign_changes: int
    mean_kept: float
    confidence_level: float
    method: str
    label: AnyArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    shrunk: FloatArray = field(repr=False)
    shrunk_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per effect."""
        names = ("label", "estimate", "std_error", "shrunk", "shrunk_error", "ci_low", "ci_high")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        top = int(np.nanargmax(np.abs(self.estimate))) if np.isfinite(self.estimate).any() else -1
        said = (
            f"{self.n_effects} effects keep {self.mean_kept:.0%} of their distance from "
            f"{format_number(self.prior_mean)} on average"
        )
        if top >= 0:
            said += (
                f"; the largest, {self.label[top]}, goes from {format_number(self.estimate[top])} to "
                f"{format_number(self.shrunk[top])}"
            )
        return f"{said} ({self.method})"


@dataclass(frozen=True, eq=False)
class ConditionalResult(EffectResult):
    """An effect given that it was significant, which is why it is reported.

    ``estimate`` and its interval are conditional, ``std_error`` is of the unconditional estimate, and ``pvalue`` is
    conditional too: of no effect, given that the test rejects.

    Attributes
    ----------
    reported : float
        The estimate as it was seen.
    alpha : float
        The size of the test that it passed.
    alternative : str
    """

    reported: float = NAN
    alpha: float = NAN
    alternative: str = "two-sided"

    def __str__(self) -> str:
        return (
            f"{format_number(self.reported)} was reported because it was significant; given that, the likeliest effect "
            f"is {format_number(self.estimate)}, {format_level(self.confidence_level)} interval "
            f"[{format_number(self.ci_low)}, {format_number(self.ci_high)}] ({self.method})"
        )
