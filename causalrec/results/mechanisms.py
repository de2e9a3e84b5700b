"""How an effect comes about: through a proxy, at another's cost, in some segments, at a step of a funnel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.results.base import Result, format_level, format_number, pvalue_text, short_pvalue, written_interval

_NOT_CAUSAL = (
    "The slope is of units that chose their own {proxy}: what moves both enters it, so a small rest does not prove "
    "that {proxy} is the way by which {outcome} moves, nor a large one that it is not."
)


def _share_text(share: float, low: float, high: float, what: str) -> str:
    """A share with its Fieller interval, or why it has none."""
    if math.isinf(low) and math.isinf(high):
        return f"{what} cannot be said: its divisor is not distinguishable from zero"
    shown = ", ".join(f"{x:.0%}" for x in (low, high))
    return f"{what} is {share:.0%} [{shown}]"


@dataclass(frozen=True, eq=False)
class ProxyResult(Result):
    """Whether the effect on an outcome is what the effect on a proxy leads one to expect, within one experiment.

    Attributes
    ----------
    proxy_effect, outcome_effect : float
        Treatment - control, each with ``std_error``, interval and two-sided p-value.
    slope, slope_std_error : float
        Of the outcome on the proxy over the units within arms.
    slopes_pvalue : float
        Of the null that this slope is the same in both arms.
    predicted_effect : float
        slope x proxy_effect.
    explained : float
        predicted_effect / outcome_effect; its interval is Fieller's, and unbounded where the outcome's effect cannot be
        told from zero.
    remainder : float
        outcome_effect - predicted_effect: the effect on units of equal proxy, if nothing else moves both.
    """

    _first: ClassVar[tuple[str, ...]] = ("proxy", "outcome", "control", "treatment")

    proxy: str
    outcome: str
    control: str
    treatment: str
    proxy_effect: float
    proxy_std_error: float
    proxy_ci_low: float
    proxy_ci_high: float
    proxy_pvalue: float
    outcome_effect: float
    outcome_std_error: float
    outcome_ci_low: float
    outcome_ci_high: float
    outcome_pvalue: float
    slope: float
    slope_std_error: float
    slopes_pvalue: float
    predicted_effect: float
    predicted_std_error: float
    predicted_ci_low: float
    predicted_ci_high: float
    explained: float
    explained_ci_low: float
    explained_ci_high: float
    remainder: float
    remainder_std_error: float
    remainder_ci_low: float
    remainder_ci_high: float
    remainder_pvalue: float
    confidence_level: float
    n_obs: int
    method: str

    @property
    def caveat(self) -> str:
        """What the analysis cannot show."""
        alpha, slopes = 1 - self.confidence_level, ""
        if self.slopes_pvalue < alpha:
            slopes = (
                f" The slope differs between the arms (p = {short_pvalue(self.slopes_pvalue)}): the treatment changes "
                "what a unit of the proxy is worth, so one slope predicts badly."
            )
        return _NOT_CAUSAL.format(proxy=self.proxy, outcome=self.outcome) + slopes

    def __str__(self) -> str:
        def written(name: str) -> str:
            return written_interval(*(getattr(self, f"{name}{end}") for end in ("_effect", "_ci_low", "_ci_high")))

        differs = self.remainder_pvalue < 1 - self.confidence_level
        rest = written_interval(self.remainder, self.remainder_ci_low, self.remainder_ci_high)
        share = _share_text(self.explained, self.explained_ci_low, self.explained_ci_high, "the part explained")
        return (
            f"{self.treatment} − {self.control}: {self.proxy} changed by {written('proxy')}, for which its slope "
            f"within arms predicts a change of {self.outcome} of {written('predicted')}; found "
            f"{written('outcome')}; {share}, and the rest, {rest}, {'is' if differs else 'is not'} distinguishable "
            f"from zero ({pvalue_text(self.remainder_pvalue)}). {self.caveat}"
        )


@dataclass(frozen=True, eq=False)
class ProxyAcrossResult(Result):
    """Whether true effects on a proxy go with true effects on an outcome, over many experiments.

    Attributes
    ----------
    correlation, slope : float
        Of the true effects, with intervals; unbounded where the true effects on the proxy may not vary at all.
    intercept : float
        The outcome's effect where the proxy's is zero.
    pvalue : float
        Of the null that the true effects are not correlated.
    naive_correlation, naive_slope : float
        Of the estimated effects: what sampling noise, which the two share, makes of them.
    proxy_mean, outcome_mean, proxy_spread, outcome_spread : float
        Mean and standard deviation of the true effects.
    proxy_effect, outcome_effect, proxy_std_error, outcome_std_error, sampling_correlation : arrays of shape (k,)
        As given.
    """

    _first: ClassVar[tuple[str, ...]] = ("proxy", "outcome")

    proxy: str
    outcome: str
    n_experiments: int
    correlation: float
    correlation_ci_low: float
    correlation_ci_high: float
    slope: float
    slope_ci_low: float
    slope_ci_high: float
    intercept: float
    pvalue: float
    naive_correlation: float
    naive_slope: float
    proxy_mean: float
    outcome_mean: float
    proxy_spread: float
    outcome_spread: float
    confidence_level: float
    method: str
    proxy_effect: FloatArray = field(repr=False)
    outcome_effect: FloatArray = field(repr=False)
    proxy_std_error: FloatArray = field(repr=False)
    outcome_std_error: FloatArray = field(repr=False)
    sampling_correlation: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per experiment."""
        names = ("proxy_effect", "outcome_effect", "proxy_std_error", "outcome_std_error", "sampling_correlation")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        correlation = f"{self.correlation:.2f} [{self.correlation_ci_low:.2f}, {self.correlation_ci_high:.2f}]"
        slope = written_interval(self.slope, self.slope_ci_low, self.slope_ci_high)
        if math.isinf(self.slope_ci_low) and math.isinf(self.slope_ci_high):
            slope = f"{format_number(self.slope)}, without a bound: the true effects on the proxy may not vary at all"
        return (
            f"Over {self.n_experiments} experiments the true effects on {self.proxy} and {self.outcome} are correlated "
            f"by {correlation} ({pvalue_text(self.pvalue)}; the estimates by {self.naive_correlation:.2f}, noise "
            f"included); a unit more of {self.proxy} went with a change of {self.outcome} of {slope}. This holds for "
            f"changes like these {self.n_experiments}: one that moves {self.proxy} by another way may not move "
            f"{self.outcome}."
        )


@dataclass(frozen=True, eq=False)
class CannibalisationResult(Result):
    """Whether what was promoted gained at the cost of the rest.

    Attributes
    ----------
    target_effect, rest_effect, total_effect : float
        Treatment - control, with ``std_error`` and two-sided intervals; the third is the sum of the others.
    target_pvalue, total_pvalue : float
        Two-sided.
    rest_pvalue : float
        One-sided, of the null that the rest does not fall.
    share_taken : float
        -rest_effect / target_effect: the part of the gain that came from the rest. 1 means a mere shift, below 0 that
        the rest gained too. Its interval is Fieller's, unbounded where the target's effect cannot be told from zero.
    """

    _first: ClassVar[tuple[str, ...]] = ("target", "rest", "control", "treatment")

    target: str
    rest: str
    control: str
    treatment: str
    target_effect: float
    target_std_error: float
    target_ci_low: float
    target_ci_high: float
    target_pvalue: float
    rest_effect: float
    rest_std_error: float
    rest_ci_low: float
    rest_ci_high: float
    rest_pvalue: float
    total_effect: float
    total_std_error: float
    total_ci_low: float
    total_ci_high: float
    total_pvalue: float
    share_taken: float
    share_taken_ci_low: float
    share_taken_ci_high: float
    confidence_level: float
    n_obs: int
    method: str

    @property
    def verdict(self) -> str:
        """``"no gain"``, ``"a mere shift"``, ``"cannibalised in part"``, ``"total falls"`` or ``"not seen"``."""
        alpha = 1 - self.confidence_level
        if self.total_pvalue < alpha and self.total_effect < 0:
            return "total falls"
        if not (self.target_pvalue < alpha and self.target_effect > 0):
            return "no gain"
        if not self.rest_pvalue < alpha:
            return "not seen"
        return "cannibalised in part" if self.total_pvalue < alpha else "a mere shift"

    def __str__(self) -> str:
        def written(name: str) -> str:
            return written_interval(*(getattr(self, f"{name}{end}") for end in ("_effect", "_ci_low", "_ci_high")))

        share = _share_text(
            self.share_taken, self.share_taken_ci_low, self.share_taken_ci_high, "the share taken from the rest"
        )
        return (
            f"{self.treatment} − {self.control}: {self.target} {written('target')}, {self.rest} {written('rest')} "
            f"(falls: {pvalue_text(self.rest_pvalue)}), total {written('total')}; {share}. {self._conclusion()}"
        )

    def _conclusion(self) -> str:
        target, rest = self.target, self.rest
        return {
            "total falls": f"The total falls: {rest} loses more than {target} gains.",
            "no gain": f"No gain of {target} is shown, so there is nothing that could have been taken.",
            "not seen": f"{target} gains, and no loss of {rest} is shown; its interval says how large one may be.",
            "cannibalised in part": f"{target} gains partly at the cost of {rest}, and the total still rises.",
            "a mere shift": f"{target} gains at the cost of {rest}, and no change of the total is shown.",
        }[self.verdict]


@dataclass(frozen=True, eq=False)
class SegmentScanResult(Result):
    """Effects in segments, with all that were looked at counted.

    Attributes
    ----------
    overall : float
        The effect on all units, with its interval.
    n_effects, n_differences : int
        Tests that the p-values are corrected for: of an effect in a segment, and of a difference from the others.
    n_metrics, n_arms, n_dimensions : int
        What these are of.
    expected_best : float
        Where the best of the segments shown would be expected if all had the overall effect: noise alone.
    segment : array of str, shape (k,)
    estimate, std_error, pvalue, adjusted : arrays of shape (k,)
        The effect in each segment, its p-value, and the corrected one.
    difference, difference_pvalue, difference_adjusted : arrays of shape (k,)
        From the other groups of the same dimension; NaN where that cannot be tested.
    shrunken, shrunken_low, shrunken_high : arrays of shape (k,)
        The effect that one should expect, and its interval.
    n_obs : array of int, shape (k,)
        Units.
    """

    _first: ClassVar[tuple[str, ...]] = ("metric", "control", "treatment")

    metric: str
    control: str
    treatment: str
    overall: float
    overall_ci_low: float
    overall_ci_high: float
    n_effects: int
    n_differences: int
    n_metrics: int
    n_arms: int
    n_dimensions: int
    expected_best: float
    correction: str
    confidence_level: float
    method: str
    segment: AnyArray = field(repr=False)
    n_obs: IntArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    adjusted: FloatArray = field(repr=False)
    difference: FloatArray = field(repr=False)
    difference_pvalue: FloatArray = field(repr=False)
    difference_adjusted: FloatArray = field(repr=False)
    shrunken: FloatArray = field(repr=False)
    shrunken_low: FloatArray = field(repr=False)
    shrunken_high: FloatArray = field(repr=False)

    @property
    def different(self) -> tuple[str, ...]:
        """The segments whose effect differs from that of the others, after correction."""
        return tuple(map(str, self.segment[self.difference_adjusted < 1 - self.confidence_level]))

    def to_frame(self) -> pd.DataFrame:
        """A row per segment."""
        names = (
            "segment", "n_obs", "estimate", "std_error", "pvalue", "adjusted", "difference", "difference_pvalue",
            "difference_adjusted", "shrunken", "shrunken_low", "shrunken_high",
        )  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        found = self.different
        named = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        said = f"{named} differ{'s' * (len(found) == 1)} from the others of the dimension" if found else (
            "no segment differs from the others of its dimension")  # fmt: skip
        lines = [
            f"{self.metric}, {self.treatment} − {self.control}: {self._counted()}; after correction "
            f"({self.correction}) {said}."
        ]
        if np.isfinite(self.estimate).any():
            best = int(np.nanargmax(self.estimate))
            lines.append(
                f"The largest effect is {format_number(self.estimate[best])} ({self.segment[best]}), overall "
                f"{format_number(self.overall)}; if all had one effect, the largest of {len(self.segment)} would by "
                f"chance alone be about {format_number(self.expected_best)}. Expect there "
                + written_interval(self.shrunken[best], self.shrunken_low[best], self.shrunken_high[best])
                + f" ({format_level(self.confidence_level)})."
            )
        return " ".join(lines)

    def _counted(self) -> str:
        parts = [f"{len(self.segment)} segments of {self.n_dimensions} dimension{'s' * (self.n_dimensions > 1)}"]
        if self.n_metrics > 1:
            parts.append(f"{self.n_metrics} metrics")
        if self.n_arms > 1:
            parts.append(f"{self.n_arms} arms")
        return f"{' × '.join(parts)} tried, {self.n_effects} effects and {self.n_differences} differences"


@dataclass(frozen=True, eq=False)
class FunnelResult(Result):
    """Units by arm that reached each step, and where an arm gains or loses.

    Attributes
    ----------
    arm, step : tuple of str
        Control first; in the order of the funnel.
    count : array of int, shape (arms, steps)
        Units that reached the step, and all before it.
    of_all, of_all_low, of_all_high : arrays of shape (arms, steps)
        Share of those at the first step, with Wilson's interval.
    of_previous, of_previous_low, of_previous_high : arrays of shape (arms, steps)
        Share of those at the step before; NaN at the first.
    effect, effect_low, effect_high, pvalue, adjusted : arrays of shape (arms, steps)
        Difference of ``of_all`` from control; NaN at the first step and for control. ``adjusted`` is Holm's over all.
    step_effect, step_effect_low, step_effect_high, step_adjusted : arrays of shape (arms, steps)
        Difference of ``of_previous`` from control, with Holm's p-value over all: it says where arms part, not why, as
        those who reached the step before are no longer the same kind of units in both arms.
    """

    arm: tuple[str, ...]
    step: tuple[str, ...]
    confidence_level: float
    n_obs: int
    method: str
    count: IntArray = field(repr=False)
    of_all: FloatArray = field(repr=False)
    of_all_low: FloatArray = field(repr=False)
    of_all_high: FloatArray = field(repr=False)
    of_previous: FloatArray = field(repr=False)
    of_previous_low: FloatArray = field(repr=False)
    of_previous_high: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    effect_low: FloatArray = field(repr=False)
    effect_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    adjusted: FloatArray = field(repr=False)
    step_effect: FloatArray = field(repr=False)
    step_effect_low: FloatArray = field(repr=False)
    step_effect_high: FloatArray = field(repr=False)
    step_adjusted: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per arm and step."""
        arms, steps = np.repeat(self.arm, len(self.step)), np.tile(self.step, len(self.arm))
        names = (
            "count", "of_all", "of_all_low", "of_all_high", "of_previous", "of_previous_low", "of_previous_high",
            "effect", "effect_low", "effect_high", "pvalue", "adjusted", "step_effect", "step_effect_low",
            "step_effect_high", "step_adjusted",
        )  # fmt: skip
        return pd.DataFrame({"arm": arms, "step": steps} | {name: getattr(self, name).ravel() for name in names})

    def __str__(self) -> str:
        shares = "; ".join(
            f"{arm}: " + " → ".join(f"{s} {c:,} ({p:.2%})" for s, c, p in zip(self.step, row, of_all, strict=True))
            for arm, row, of_all in zip(self.arm, self.count, self.of_all, strict=True)
        )
        return f"{shares}. {' '.join(self._said(k) for k in range(1, len(self.arm)))}"

    def _said(self, k: int) -> str:
        """How an arm ends against control, and at which step it parts most."""
        last = written_interval(self.effect[k, -1], self.effect_low[k, -1], self.effect_high[k, -1], percent=True)
        p = self.adjusted[k, -1]
        text = f"{self.arm[k]} − {self.arm[0]} at {self.step[-1]}: {last.replace('%', ' pp')}"
        if not math.isnan(p):
            text += f", corrected {pvalue_text(float(p))}"
        clear = self.step_adjusted[k] < 1 - self.confidence_level
        if not clear.any():
            return f"{text}; at no step do the arms clearly part."
        at = int(np.nanargmin(self.step_adjusted[k]))
        return (
            f"{text}; they part most from {self.step[at - 1]} to {self.step[at]} "
            f"({100 * self.step_effect[k, at]:+.2f} pp of those who got that far)."
        )
