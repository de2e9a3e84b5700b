"""For whom it works: effects of groups, a line through the effects, and learners compared without the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.results.base import Result, format_level, format_number, pvalue_text, short_pvalue, written_interval
from causalrec.results.effects import EffectResult


@dataclass(frozen=True, eq=False)
class GroupEffectsResult(Result):
    """Average effect of an arm against control in each of several groups (GATES).

    Attributes
    ----------
    group, n, share, predicted : arrays of shape (n_groups,)
        Label (1 for the highest predictions), rows, share of the weight, mean predicted effect (NaN where none was
        given).
    effect, std_error, ci_low, ci_high, pvalue : arrays of shape (n_groups,)
        In the outcome's unit; NaN error where a group has a single unit.
    difference : float
        Effect of the first group less that of the last, with its error, interval and p-value.
    equal_statistic, equal_pvalue : float
        Wald's F test that all groups have the same effect.
    falling : bool
        Whether the effects never rise from the first group to the last.
    rise_pvalue : float
        Of the null that they never rise, by the largest rise from a group to the next, Bonferroni over the steps: small
        where the order of the groups is wrong.
    average, average_std_error, average_ci_low, average_ci_high : float
        The effect on everybody.
    """

    control: str
    treatment: str
    difference: float
    difference_std_error: float
    difference_ci_low: float
    difference_ci_high: float
    difference_pvalue: float
    equal_statistic: float
    equal_pvalue: float
    falling: bool
    rise_pvalue: float
    average: float
    average_std_error: float
    average_ci_low: float
    average_ci_high: float
    confidence_level: float
    n_obs: int
    n_groups: int
    method: str
    group: AnyArray = field(repr=False)
    n: IntArray = field(repr=False)
    share: FloatArray = field(repr=False)
    predicted: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per group."""
        names = ("group", "n", "share", "predicted", "effect", "std_error", "ci_low", "ci_high", "pvalue")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        lines = [f"Effect of {self.treatment} against {self.control} by group ({self.method}), n = {self.n_obs:,}"]
        lines += _table(self.group, self.effect, self.ci_low, self.ci_high, self.pvalue, after=self.predicted)
        if self.n_groups > 1:
            gap = written_interval(self.difference, self.difference_ci_low, self.difference_ci_high)
            lines.append(
                f"  {self.group[0]} − {self.group[-1]}: {gap}, {pvalue_text(self.difference_pvalue)}; all equal: "
                f"{pvalue_text(self.equal_pvalue)}; {'falling' if self.falling else 'not falling'} from the first to "
                f"the last ({pvalue_text(self.rise_pvalue)} of a rise)"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class ProjectionResult(Result):
    """The linear function of some covariates that is nearest to the effect (best linear projection).

    Attributes
    ----------
    term : array of shape (p,)
        ``"intercept"``, names of covariates, and ``"name=level"`` for categories, whose first level is the reference.
    coefficient, std_error, statistic, pvalue, ci_low, ci_high : arrays of shape (p,)
        In the outcome's unit per unit of the covariate, with t statistics.
    joint_statistic, joint_pvalue : float
        Wald's F test that all but the intercept are zero; NaN where there is nothing else.
    df : float
        Degrees of freedom of the t statistics.
    """

    control: str
    treatment: str
    joint_statistic: float
    joint_pvalue: float
    df: float
    confidence_level: float
    n_obs: int
    method: str
    term: AnyArray = field(repr=False)
    coefficient: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    statistic: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per term."""
        names = ("term", "coefficient", "std_error", "statistic", "pvalue", "ci_low", "ci_high")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        lines = [f"Effect of {self.treatment} against {self.control}: {self.method}, n = {self.n_obs:,}"]
        lines += _table(self.term, self.coefficient, self.ci_low, self.ci_high, self.pvalue)
        if len(self.term) > 1:
            lines.append(f"  all but the intercept zero: {pvalue_text(self.joint_pvalue)}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class CalibrationResult(Result):
    """Whether predicted effects have the right mean and spread: both coefficients are 1 where they do.

    Attributes
    ----------
    mean, differential : float
        Coefficients of the mean prediction and of the deviation from it, with errors, intervals (two-sided) and
        p-values of the null that they are not above zero (one-sided). A small ``differential_pvalue`` says that the
        effect differs between people and that the predictions see some of it; a coefficient well under 1 that they
        spread too widely. NaN where predictions do not vary.
    """

    control: str
    treatment: str
    mean: float
    mean_std_error: float
    mean_ci_low: float
    mean_ci_high: float
    mean_pvalue: float
    differential: float
    differential_std_error: float
    differential_ci_low: float
    differential_ci_high: float
    differential_pvalue: float
    confidence_level: float
    n_obs: int
    method: str

    def __str__(self) -> str:
        mean = written_interval(self.mean, self.mean_ci_low, self.mean_ci_high)
        differential = written_interval(self.differential, self.differential_ci_low, self.differential_ci_high)
        return (
            f"Calibration of the predicted effects of {self.treatment} against {self.control} ({self.method}), "
            f"{format_level(self.confidence_level)} CI, n = {self.n_obs:,}\n"
            f"  mean prediction          {mean}, {pvalue_text(self.mean_pvalue)} (1: right on average)\n"
            f"  differential prediction  {differential}, {pvalue_text(self.differential_pvalue)} (1: right spread)"
        )


@dataclass(frozen=True, eq=False)
class LearnerComparisonResult(Result):
    """Learners by their loss on rows that they had not seen, without knowing the true effects.

    Attributes
    ----------
    best : str
        The learner with the lowest R-loss.
    n_close : int
        Learners, the best among them, that the R-loss cannot tell from it at ``1 - confidence_level``.
    learner : array of shape (m,)
        Names, lowest R-loss first; ``"constant effect"`` predicts the same effect for all.
    r_loss, dr_loss : arrays of shape (m,)
        Mean losses, in the square of the outcome's unit. They hold the outcome's noise, so only differences count.
    r_difference, r_std_error, r_ci_low, r_ci_high, r_pvalue : arrays of shape (m,)
        Loss less the lowest one, row by row; zero, and NaN, for the best. Errors of out-of-fold predictions count
        that folds share training rows; intervals and p-values are corrected for the choice of the best (Bonferroni).
    dr_difference, dr_std_error, dr_ci_low, dr_ci_high, dr_pvalue : arrays of shape (m,)
        The same of the DR-loss, whose best may be another.
    effects : tuple of EffectResult
        Average effect of every arm but control, from the same nuisances.
    """

    best: str
    n_close: int
    n_learners: int
    n_obs: int
    confidence_level: float
    method: str
    effects: tuple[EffectResult, ...]
    learner: AnyArray = field(repr=False)
    r_loss: FloatArray = field(repr=False)
    r_difference: FloatArray = field(repr=False)
    r_std_error: FloatArray = field(repr=False)
    r_ci_low: FloatArray = field(repr=False)
    r_ci_high: FloatArray = field(repr=False)
    r_pvalue: FloatArray = field(repr=False)
    dr_loss: FloatArray = field(repr=False)
    dr_difference: FloatArray = field(repr=False)
    dr_std_error: FloatArray = field(repr=False)
    dr_ci_low: FloatArray = field(repr=False)
    dr_ci_high: FloatArray = field(repr=False)
    dr_pvalue: FloatArray = field(repr=False)

    @property
    def close(self) -> tuple[str, ...]:
        """Names of the learners that the R-loss cannot tell from the best, best first."""
        near = np.isnan(self.r_pvalue) | (self.r_pvalue >= 1 - self.confidence_level)
        return tuple(str(name) for name in self.learner[near])

    def to_frame(self) -> pd.DataFrame:
        """A row per learner, lowest R-loss first."""
        kinds = ("loss", "difference", "std_error", "ci_low", "ci_high", "pvalue")
        columns = [f"{loss}_{kind}" for loss in ("r", "dr") for kind in kinds]
        return pd.DataFrame({"learner": self.learner} | {name: getattr(self, name) for name in columns})

    def __str__(self) -> str:
        others = [name for name in self.close if name != self.best]
        worse = self.n_learners - len(self.close)
        told = f"cannot be told from it: {', '.join(others)}" if others else "no other comes close"
        lines = [
            f"{self.n_learners} learners on n = {self.n_obs:,} rows ({self.method}). Lowest R-loss: {self.best}; {told}"
            + (f"; {worse} {'is' if worse == 1 else 'are'} worse." if worse and others else ".")
        ]
        width = max(len(str(name)) for name in self.learner)
        for i, name in enumerate(self.learner):
            lines.append(
                f"  {name!s:<{width}}  R-loss {format_number(self.r_loss[i])}{_more(self, 'r', i)}; "
                f"DR-loss {format_number(self.dr_loss[i])}{_more(self, 'dr', i)}"
            )
        return "\n".join([*lines, *(f"  {effect}" for effect in self.effects)])


def _more(result: LearnerComparisonResult, loss: str, i: int) -> str:
    """How much more a learner loses than the best."""
    gap, low, high, pvalue = (getattr(result, f"{loss}_{kind}")[i] for kind in ("difference", "ci_low", "ci_high",
                                                                                "pvalue"))  # fmt: skip
    if np.isnan(pvalue):
        return " (lowest)" if gap == 0 else ""
    return f" (+{written_interval(gap, low, high)}, {pvalue_text(pvalue)})"


def _table(
    names: AnyArray,
    values: FloatArray,
    low: FloatArray,
    high: FloatArray,
    pvalues: FloatArray,
    after: FloatArray | None = None,
) -> list[str]:
    """Lines of a value, its interval and p-value for each name, and of what was predicted."""
    intervals = [written_interval(*row) for row in zip(values, low, high, strict=True)]
    width, wide = max(len(str(name)) for name in names), max(map(len, intervals))
    lines = [
        f"  {name!s:<{width}}  {interval:<{wide}}  p {'–' if np.isnan(p) else short_pvalue(p)}"
        for name, interval, p in zip(names, intervals, pvalues, strict=True)
    ]
    if after is None or np.isnan(after).all():
        return lines
    return [f"{line}, predicted {format_number(value)}" for line, value in zip(lines, after, strict=True)]
