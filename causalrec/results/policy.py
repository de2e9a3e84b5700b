"""Whom to treat: what policies are worth, who gets what under a budget, costs, profits, and the best share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError
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


@dataclass(frozen=True, eq=False)
class PolicyValueResult(EffectResult):
    """The mean outcome if a policy decided who gets what (``estimate``), and what that gains on another policy.

    Attributes
    ----------
    baseline : str
        The other policy.
    baseline_value : float
    difference, difference_std_error, difference_ci_low, difference_ci_high, difference_pvalue : float
        Value less that of the baseline, from the same rows (paired).
    share_changed : float
        Share of the population that gets another arm than under the baseline.
    arm : array of shape (k,)
        Control first.
    share : array of shape (k,)
        Share of the population that the policy gives each arm.
    """

    baseline: str
    baseline_value: float
    difference: float
    difference_std_error: float
    difference_ci_low: float
    difference_ci_high: float
    difference_pvalue: float
    share_changed: float
    arm: AnyArray = field(repr=False)
    share: FloatArray = field(repr=False)

    def __str__(self) -> str:
        level = format_level(self.confidence_level)
        gap = written_interval(self.difference, self.difference_ci_low, self.difference_ci_high)
        given = ", ".join(f"{arm} {share:.1%}" for arm, share in zip(self.arm, self.share, strict=True))
        return (
            f"policy value = {written_interval(self.estimate, self.ci_low, self.ci_high)} ({level} CI); gives {given}\n"
            f"  less {self.baseline} ({format_number(self.baseline_value)}): {gap}, "
            f"{pvalue_text(self.difference_pvalue)}; {self.share_changed:.1%} of people change arm\n"
            f"  n = {self.n_obs:,} ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class PolicyRegretResult(Result):
    """What each of several policies loses on the best of them.

    Attributes
    ----------
    best : str
        The policy with the highest estimated value.
    policy : array of shape (m,)
        Names, highest value first.
    value, std_error, ci_low, ci_high : arrays of shape (m,)
        Mean outcome under each, with an interval of its own.
    regret : array of shape (m,)
        Highest estimated value less this one; too low for the best itself on average, as the highest of several
        estimates is too high.
    regret_ci_low, regret_ci_high : arrays of shape (m,)
        Bounds of the true regret against whichever policy is truly best, corrected for the choice.
    may_be_best : int array of shape (m,)
        1 where the policy belongs to the set that holds the best one with ``confidence_level``.
    """

    best: str
    n_policies: int
    confidence_level: float
    n_obs: int
    method: str
    policy: AnyArray = field(repr=False)
    value: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    regret: FloatArray = field(repr=False)
    regret_ci_low: FloatArray = field(repr=False)
    regret_ci_high: FloatArray = field(repr=False)
    may_be_best: IntArray = field(repr=False)

    @property
    def close(self) -> tuple[str, ...]:
        """Names of the policies that may be the best."""
        return tuple(str(name) for name, near in zip(self.policy, self.may_be_best, strict=True) if near)

    def to_frame(self) -> pd.DataFrame:
        """A row per policy, highest value first."""
        names = ("policy", "value", "std_error", "ci_low", "ci_high", "regret", "regret_ci_low", "regret_ci_high",
                 "may_be_best")  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        width = max(len(str(name)) for name in self.policy)
        level = format_level(self.confidence_level)
        lines = [f"Regret of {self.n_policies} policies, {level} bounds, n = {self.n_obs:,} ({self.method})"]
        for i, name in enumerate(self.policy):
            value = written_interval(self.value[i], self.ci_low[i], self.ci_high[i])
            bounds = format_interval(self.regret_ci_low[i], self.regret_ci_high[i])
            mark = ", may be the best" if self.may_be_best[i] else ""
            lines.append(f"  {name!s:<{width}}  value {value}, regret {format_number(self.regret[i])} {bounds}{mark}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class AllocationResult(Result):
    """Which arm for whom under a budget, as predicted effects and costs have it.

    Attributes
    ----------
    budget : float
        Per unit of the population; NaN for none.
    value : float
        Of a unit of outcome in the costs' unit; NaN where none was given.
    spend, gain, profit : float
        Per unit of the population; the gain in the outcome's unit as *predicted*. The rule picks high predictions, and
        some of them are high by luck: give the arms to :func:`causalrec.evaluation.policy_value` on rows that the
        model has not seen for an honest number. ``profit`` is value times gain less spend, NaN without a value.
    shadow_price : float
        Predicted gain from one more unit of spend; 0 where the budget does not bind.
    split_row, split_arm, split_share : int, str, float
        The row at which the budget ends gets ``split_arm`` with this probability (else the arm in ``assigned``); -1,
        ``""`` and 0 where there is none.
    arm : array of shape (k,)
        Control first; ``share``, ``arm_spend`` and ``arm_gain`` belong to these, per unit of the population.
    assigned : int array of shape (n,)
        Position in ``arm`` of each row's arm.
    """

    n_obs: int
    budget: float
    value: float
    spend: float
    gain: float
    profit: float
    shadow_price: float
    share_treated: float
    split_row: int
    split_arm: str
    split_share: float
    method: str
    arm: AnyArray = field(repr=False)
    share: FloatArray = field(repr=False)
    arm_spend: FloatArray = field(repr=False)
    arm_gain: FloatArray = field(repr=False)
    assigned: IntArray = field(repr=False)

    @property
    def arms(self) -> AnyArray:
        """The label of each row's arm, shape (n,); the split row keeps what it surely gets."""
        return np.asarray(self.arm[self.assigned])

    def probabilities(self) -> FloatArray:
        """P(arm) of each row, shape (n, k): one and zeros, but in the row that is split."""
        table = np.zeros((self.n_obs, len(self.arm)))
        table[np.arange(self.n_obs), self.assigned] = 1.0
        if self.split_row >= 0:
            table[self.split_row] *= 1 - self.split_share
            table[self.split_row, [str(a) for a in self.arm].index(self.split_arm)] += self.split_share
        return table

    def to_frame(self) -> pd.DataFrame:
        """A row per arm: its share of the population, and its spend and predicted gain per unit of the population."""
        return pd.DataFrame({"arm": self.arm, "share": self.share, "spend": self.arm_spend, "gain": self.arm_gain})

    def __str__(self) -> str:
        given = ", ".join(f"{arm} {share:.1%}" for arm, share in zip(self.arm, self.share, strict=True))
        budget = "no budget" if np.isnan(self.budget) else f"budget {format_number(self.budget)}"
        profit = "" if np.isnan(self.profit) else f", predicted profit {format_number(self.profit)}"
        return (
            f"{given}; {budget}, spend {format_number(self.spend)}, predicted gain {format_number(self.gain)}{profit} "
            f"per unit of {self.n_obs:,}; one more unit of spend gains {format_number(self.shadow_price)} "
            f"({self.method})"
        )


@dataclass(frozen=True, eq=False)
class CostCurveResult(Result):
    """What a rule gains over what it spends, both per unit of the population, highest gain per cost first.

    Attributes
    ----------
    arms : tuple
        That the rule may give; control costs nothing.
    total_spend : float
        Where the rule has nothing left to spend on; more money changes nothing.
    spend : array of shape (m,)
        From 0; beyond ``total_spend`` it is a budget that is not used up.
    gain, std_error, ci_low, ci_high : arrays of shape (m,)
        In the outcome's unit, with pointwise intervals.
    untargeted : array of shape (m,)
        The gain if the same is spent without looking at who it is spent on.
    """

    label: str
    control: str
    arms: tuple[Any, ...]
    total_spend: float
    confidence_level: float
    n_obs: int
    method: str
    spend: FloatArray = field(repr=False)
    gain: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    untargeted: FloatArray = field(repr=False)

    def at(self, budget: float) -> EffectResult:
        """The gain of spending ``budget`` per unit of the population.

        Straight between the points of the curve (ask :func:`causalrec.policy.cost_curve` for your ``budgets`` to have
        points there); flat beyond its end.

        Raises
        ------
        CausalRecError
            For a negative budget.
        """
        how = f"gain of {self.label} at a spend of {format_number(budget)}, {self.method}"
        return _at(budget, self.spend, self.gain, self.std_error, self.confidence_level, self.n_obs, how, "gain")

    def to_frame(self) -> pd.DataFrame:
        """A row per point."""
        names = ("spend", "gain", "std_error", "ci_low", "ci_high", "untargeted")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        last = written_interval(self.gain[-1], self.ci_low[-1], self.ci_high[-1])
        middle = self.at(self.spend[-1] / 2)
        end = f"spending {format_number(self.spend[-1])}"
        if self.spend[-1] > self.total_spend * (1 + 1e-9):
            end = f"a budget of {format_number(self.spend[-1])}, {format_number(self.total_spend)} of it spent,"
        return (
            f"{self.label}: {end} per unit gains {last}; half of it gains "
            f"{written_interval(middle.estimate, middle.ci_low, middle.ci_high)} "
            f"({format_level(self.confidence_level)} CI), n = {self.n_obs:,} ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class CostCurveComparisonResult(Result):
    """How much more one rule gains than another at the same spend, on the same rows.

    Attributes
    ----------
    first, second : str
        The difference is first less second.
    area, area_std_error, area_ci_low, area_ci_high, area_pvalue : float
        The difference integrated over spends from 0 to ``up_to``: over ``up_to`` it is the mean difference.
    spend, difference, std_error, ci_low, ci_high : arrays of shape (m,)
        Pointwise intervals.
    """

    first: str
    second: str
    up_to: float
    area: float
    area_std_error: float
    area_ci_low: float
    area_ci_high: float
    area_pvalue: float
    confidence_level: float
    n_obs: int
    method: str
    spend: FloatArray = field(repr=False)
    difference: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def at(self, budget: float) -> EffectResult:
        """The difference in gain at a spend of ``budget`` per unit of the population, as :meth:`CostCurveResult.at`."""
        how = f"{self.first} less {self.second} at a spend of {format_number(budget)}, {self.method}"
        return _at(
            budget, self.spend, self.difference, self.std_error, self.confidence_level, self.n_obs, how,
            "gain_difference",
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """A row per point."""
        names = ("spend", "difference", "std_error", "ci_low", "ci_high")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        area = written_interval(self.area, self.area_ci_low, self.area_ci_high)
        return (
            f"{self.first} less {self.second}, area up to a spend of {format_number(self.up_to)}: {area} "
            f"({format_level(self.confidence_level)} CI), {pvalue_text(self.area_pvalue)}, n = {self.n_obs:,} "
            f"({self.method})"
        )


@dataclass(frozen=True, eq=False)
class ProfitCurveResult(Result):
    """Profit over the share treated, highest predicted profit first, and which share is best.

    All profits are per unit of the population, in the unit of value and cost.

    Attributes
    ----------
    best_share : float
        Where the estimated profit is highest.
    best_share_low, best_share_high : float
        Ends of the set of shares whose profit is not significantly below the best: the set holds the share that is
        truly best (among those of the curve) with ``confidence_level``.
    best_profit, best_profit_ci_low, best_profit_ci_high : float
        Profit at ``best_share``. The highest of many estimates is too high on average; the interval is that of the
        band over all shares, which counts the choice.
    rule_share, rule_profit, rule_profit_ci_low, rule_profit_ci_high, rule_profit_pvalue : float
        Treat those whose predicted value is above the cost: no choice by these data, so a plain interval.
    all_profit, all_profit_ci_low, all_profit_ci_high, all_profit_pvalue : float
        Everybody treated; nobody treated is 0.
    fixed_cost : float
        Per unit of the population, spent once anybody is treated.
    share, profit, std_error, ci_low, ci_high : arrays of shape (m,)
        With pointwise intervals.
    band_low, band_high : arrays of shape (m,)
        All shares at once.
    random : array of shape (m,)
        The same share treated in a random order.
    may_be_best : int array of shape (m,)
        1 for the shares in the set.
    """

    label: str
    best_share: float
    best_share_low: float
    best_share_high: float
    best_profit: float
    best_profit_ci_low: float
    best_profit_ci_high: float
    rule_share: float
    rule_profit: float
    rule_profit_ci_low: float
    rule_profit_ci_high: float
    rule_profit_pvalue: float
    all_profit: float
    all_profit_ci_low: float
    all_profit_ci_high: float
    all_profit_pvalue: float
    fixed_cost: float
    confidence_level: float
    n_obs: int
    method: str
    share: FloatArray = field(repr=False)
    profit: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    band_low: FloatArray = field(repr=False)
    band_high: FloatArray = field(repr=False)
    random: FloatArray = field(repr=False)
    may_be_best: IntArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per point."""
        names = ("share", "profit", "std_error", "ci_low", "ci_high", "band_low", "band_high", "random", "may_be_best")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        best = written_interval(self.best_profit, self.best_profit_ci_low, self.best_profit_ci_high)
        rule = written_interval(self.rule_profit, self.rule_profit_ci_low, self.rule_profit_ci_high)
        everybody = written_interval(self.all_profit, self.all_profit_ci_low, self.all_profit_ci_high)
        return (
            f"{self.label}: profit per unit is highest with {self.best_share:.0%} treated "
            f"[{self.best_share_low:.0%}, {self.best_share_high:.0%}]\n"
            f"  there {best}, corrected for the choice\n"
            f"  where the predicted value is above the cost ({self.rule_share:.1%}) {rule}, "
            f"{pvalue_text(self.rule_profit_pvalue)}\n"
            f"  everybody {everybody}, {pvalue_text(self.all_profit_pvalue)}; nobody 0\n"
            f"  {format_level(self.confidence_level)} CI, n = {self.n_obs:,} ({self.method})"
        )


def _at(
    budget: float,
    spend: FloatArray,
    value: FloatArray,
    error: FloatArray,
    level: float,
    n_obs: int,
    method: str,
    estimand: str,
) -> EffectResult:
    """A point of a curve with its interval."""
    if not budget >= 0:
        raise CausalRecError(f"budget is {budget}; expected a spend per unit of the population of 0 or more.")
    estimate, std_error = float(np.interp(budget, spend, value)), float(np.interp(budget, spend, error))
    half = float(stats.norm.isf((1 - level) / 2)) * std_error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / std_error)) if std_error > 0 else NAN
    return EffectResult(estimate, std_error, estimate - half, estimate + half, pvalue, level, n_obs, method, estimand)
