"""How much hidden bias it takes to change a conclusion: Rosenbaum's gamma, E-values, partial R², tipping points."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.base import Result, format_interval, format_level, format_number, pvalue_text


@dataclass(frozen=True, eq=False)
class RosenbaumResult(Result):
    """What hidden bias of each size could have made of matched sets.

    In two units of a set the odds of treatment differ at most by the factor gamma: at gamma 1 chance decided within
    sets.

    Attributes
    ----------
    n_sets, n_used : int
        Matched sets, and those that say something: differences that are not zero, discordant pairs.
    method : str
        The test, and where its distribution comes from.
    alternative : str
        ``"two-sided"``, ``"greater"`` (the treatment raises the outcome) or ``"less"``.
    statistic : float
    pvalue : float
        Without hidden bias.
    confidence_level : float
        Its complement is the limit of p-values, alpha.
    turning_gamma : float
        The least gamma at which the largest possible p-value is above alpha; 1 where it is so without any bias.
    estimate : float
        Hodges–Lehmann estimate of an additive effect without hidden bias; NaN for binary outcomes.
    gamma : array of shape (k,)
        In ascending order. So are the rest:
    pvalue_low, pvalue_high : arrays of shape (k,)
        The least and greatest p-value that bias of this size can produce.
    estimate_low, estimate_high : arrays of shape (k,)
    ci_low, ci_high : arrays of shape (k,)
        Interval that covers the effect whatever the bias up to gamma.
    """

    n_sets: int
    n_used: int
    method: str
    alternative: str
    statistic: float
    pvalue: float
    confidence_level: float
    turning_gamma: float
    estimate: float
    gamma: FloatArray = field(repr=False)
    pvalue_low: FloatArray = field(repr=False)
    pvalue_high: FloatArray = field(repr=False)
    estimate_low: FloatArray = field(repr=False)
    estimate_high: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    @property
    def alpha(self) -> float:
        """The limit of p-values: 1 - ``confidence_level``."""
        return 1 - self.confidence_level

    def to_frame(self) -> pd.DataFrame:
        """A row per gamma."""
        names = (
            "gamma", "pvalue_low", "pvalue_high", "estimate_low", "estimate_high", "ci_low", "ci_high",
        )  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        limit = format_number(round(self.alpha, 10))
        if self.turning_gamma <= 1:
            verdict = f"not significant at {limit} even without hidden bias"
        else:
            turn = format_number(self.turning_gamma)
            verdict = f"significant at {limit} up to gamma = {turn}, where bias alone could explain it"
        rows = [
            f"  gamma {format_number(float(g))}: p at most {format_number(float(p))}"
            + ("" if np.isnan(low) else f", effect within {format_interval(float(low), float(high))}")
            for g, p, low, high in zip(self.gamma, self.pvalue_high, self.ci_low, self.ci_high, strict=True)
        ]
        head = f"Rosenbaum bounds, {self.method}, {self.n_used:,} of {self.n_sets:,} sets: {pvalue_text(self.pvalue)}"
        return "\n".join([f"{head}; {verdict}", *rows])


@dataclass(frozen=True, eq=False)
class EValueResult(Result):
    """How strongly a hidden confounder must go with treatment and outcome to explain an association away.

    Attributes
    ----------
    measure : str
        ``"rr"``, ``"or"``, ``"hr"``, ``"rd"``, ``"smd"`` or ``"ols"``: what was estimated.
    estimate, ci_low, ci_high : float
        As given; NaN without an interval.
    true_value : float
        The value that the estimate is to be moved to.
    conversion : str
        How it became a risk ratio.
    risk_ratio, risk_ratio_low, risk_ratio_high : float
    evalue : float
        Least risk ratio of the confounder, with the treatment and with the outcome alike, that moves the estimate to
        ``true_value``.
    evalue_ci : float
        The same for the limit of the interval that is nearer; 1 where the interval has ``true_value``, NaN without one.
    confidence_level : float
    """

    measure: str
    estimate: float
    ci_low: float
    ci_high: float
    true_value: float
    conversion: str
    risk_ratio: float
    risk_ratio_low: float
    risk_ratio_high: float
    evalue: float
    evalue_ci: float
    confidence_level: float = 0.95

    def __str__(self) -> str:
        end = "" if np.isnan(self.evalue_ci) else f", for the interval {format_number(self.evalue_ci)}"
        value = f"{self.measure} {format_number(self.estimate)} {format_interval(self.ci_low, self.ci_high)}"
        return (
            f"E-value {format_number(self.evalue)}{end} ({value}, moved to {format_number(self.true_value)}; "
            f"{self.conversion}): a hidden confounder must go with both the treatment and the outcome by a risk ratio "
            "of this size, beyond what was adjusted for."
        )


@dataclass(frozen=True, eq=False)
class PartialR2Result(Result):
    """How much of treatment and outcome a hidden confounder must explain to change a regression's conclusion.

    Attributes
    ----------
    treatment : str
    estimate, std_error, tstat : float
        The coefficient of the treatment, with its classical error.
    dof, n_obs : int
        Residual degrees of freedom; units.
    q : float
        Share of the estimate that is to be explained away: 1 is all of it.
    confidence_level : float
    partial_r2 : float
        Share of the outcome's residual variance that the treatment explains. A confounder that explains all that
        is left of the outcome must explain this much of the treatment to bring the estimate to zero.
    robustness_value : float
        A confounder that explains this share of the residual variance both of treatment and outcome takes ``q`` of the
        estimate away.
    robustness_value_alpha : float
        The same for the interval: its end then reaches (1 - q) times the estimate. 0 where it does already.
    benchmark : array of shape (m,)
        Covariates that hidden confounders are compared with; a row each. So are the rest:
    kd, ky : arrays of shape (m,)
        How many times as much of the treatment, and of the outcome, the confounder explains.
    r2_treatment, r2_outcome : arrays of shape (m,)
        Shares of residual variance that such a confounder explains at most; an outcome's share of more than 1 is 1.
    adjusted_estimate, adjusted_error, adjusted_t, adjusted_low, adjusted_high : arrays of shape (m,)
        What the regression would give with the confounder in it, at worst. ``adjusted_t`` is against (1 - q) times
        the estimate.
    grid : array of shape (g,)
        Shares of variance, for contours.
    grid_estimate, grid_t : arrays of shape (g, g)
        The adjusted estimate and its t statistic; a row per share of the outcome, a column per share of the treatment.
    """

    treatment: str
    estimate: float
    std_error: float
    tstat: float
    dof: int
    n_obs: int
    q: float
    confidence_level: float
    partial_r2: float
    robustness_value: float
    robustness_value_alpha: float
    critical_t: float
    benchmark: AnyArray = field(repr=False)
    kd: FloatArray = field(repr=False)
    ky: FloatArray = field(repr=False)
    r2_treatment: FloatArray = field(repr=False)
    r2_outcome: FloatArray = field(repr=False)
    adjusted_estimate: FloatArray = field(repr=False)
    adjusted_error: FloatArray = field(repr=False)
    adjusted_t: FloatArray = field(repr=False)
    adjusted_low: FloatArray = field(repr=False)
    adjusted_high: FloatArray = field(repr=False)
    grid: FloatArray = field(repr=False)
    grid_estimate: FloatArray = field(repr=False)
    grid_t: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per benchmark."""
        names = ("benchmark", "kd", "ky", "r2_treatment", "r2_outcome", "adjusted_estimate", "adjusted_error",
                 "adjusted_t", "adjusted_low", "adjusted_high")  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        level = format_level(self.confidence_level)
        share = "" if self.q == 1 else f"{self.q:.0%} of "
        lines = [
            f"Effect of {self.treatment}: {format_number(self.estimate)} (t = {format_number(self.tstat)}, "
            f"{self.dof:,} degrees of freedom), partial R² {self.partial_r2:.2%}",
            f"  robustness value {self.robustness_value:.2%}: a hidden confounder must explain that much of what is "
            f"left of treatment and outcome to explain away {share}the estimate",
            f"  {self.robustness_value_alpha:.2%} for the {level} interval",
        ]
        for k, name in enumerate(self.benchmark):
            interval = format_interval(float(self.adjusted_low[k]), float(self.adjusted_high[k]))
            lines.append(
                f"  {format_number(float(self.kd[k]))}x {name}: R² {self.r2_treatment[k]:.2%} of treatment, "
                f"{self.r2_outcome[k]:.2%} of outcome; estimate {format_number(float(self.adjusted_estimate[k]))} "
                f"{interval}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class OmittedBiasResult(Result):
    """What a hidden confounder of a given strength could have made of a doubly robust effect.

    Attributes
    ----------
    estimand, method : str
    n_obs : int
    estimate, std_error : float
    cf_outcome : float
        Share of the outcome's residual variance that the confounder explains.
    cf_treatment : float
        Share of the variance of the weights (the Riesz representer) with the confounder that it brings in.
    rho : float
        Correlation of the two errors, 1 at worst.
    null : float
    estimate_low, estimate_high : float
        The effect is between these, at that strength.
    error_low, error_high : float
    ci_low, ci_high : float
        With the sampling error of both ends.
    robustness_value : float
        Strength, the same for treatment and outcome, at which the bounds reach ``null``.
    robustness_value_alpha : float
        At which the interval does; 0 where it does without any confounder.
    residual_variance, weight_variance : float
        σ² = E(Y - μ)² and ν² = Eα² of the effect's weights α.
    confidence_level : float
    """

    estimand: str
    method: str
    n_obs: int
    estimate: float
    std_error: float
    cf_outcome: float
    cf_treatment: float
    rho: float
    null: float
    estimate_low: float
    estimate_high: float
    error_low: float
    error_high: float
    ci_low: float
    ci_high: float
    robustness_value: float
    robustness_value_alpha: float
    residual_variance: float
    weight_variance: float
    confidence_level: float

    def __str__(self) -> str:
        return (
            f"{self.estimand} {format_number(self.estimate)} by {self.method}: with a hidden confounder of "
            f"{self.cf_outcome:.2%} of the outcome and {self.cf_treatment:.2%} of the treatment's weights within "
            f"{format_interval(self.estimate_low, self.estimate_high)}, "
            f"{format_level(self.confidence_level)} CI {format_interval(self.ci_low, self.ci_high)}; robustness value "
            f"{self.robustness_value:.2%}, of the interval {self.robustness_value_alpha:.2%} "
            f"(to reach {format_number(self.null)})"
        )


@dataclass(frozen=True, eq=False)
class ConfounderStrengthResult(Result):
    """What an observed covariate explains, for comparison with a hidden confounder.

    Attributes
    ----------
    name : str
    estimate, estimate_without : float
    cf_outcome, cf_treatment : float
        On the scale of :class:`OmittedBiasResult`.
    rho : float
        Correlation of the errors that leaving the covariate out makes, with the sign of the change of the estimate.
    """

    name: str
    estimate: float
    estimate_without: float
    cf_outcome: float
    cf_treatment: float
    rho: float


@dataclass(frozen=True, eq=False)
class TippingResult(Result):
    """What a hidden confounder must be like to bring an estimate, or the end of its interval, to a value.

    Attributes
    ----------
    scale : str
        ``"ratio"`` or ``"difference"``.
    confounder : str
        ``"binary"``, or ``"normal"``: in standard deviations.
    estimate, ci_low, ci_high : float
    null : float
        The value that is to be reached.
    end : float
        The end of the interval nearer to ``null``; NaN where the interval has ``null``, or there is none.
    treated, control : arrays of shape (m,)
        Prevalence, or mean, of the confounder in each arm; a row per combination. So are the rest:
    effect_for_estimate, effect_for_interval : arrays of shape (m,)
        The effect of the confounder on the outcome (a ratio, or a difference) that is needed. NaN where no effect is
        enough, and for the interval where it has ``null`` already.
    """

    scale: str
    confounder: str
    estimate: float
    ci_low: float
    ci_high: float
    null: float
    end: float
    treated: FloatArray = field(repr=False)
    control: FloatArray = field(repr=False)
    effect_for_estimate: FloatArray = field(repr=False)
    effect_for_interval: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per combination of prevalences, or means."""
        names = ("treated", "control", "effect_for_estimate", "effect_for_interval")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        what = "prevalence" if self.confounder == "binary" else "mean"
        head = (
            f"Tipping points of {format_number(self.estimate)} {format_interval(self.ci_low, self.ci_high)} to "
            f"{format_number(self.null)}: effect on the outcome ({self.scale}) that a {self.confounder} confounder "
            "needs"
        )
        rows = [
            f"  {what} {format_number(float(p))} in treated, {format_number(float(c))} in controls: "
            f"{format_number(float(e))} for the estimate, {format_number(float(i))} for the interval"
            for p, c, e, i in zip(
                self.treated, self.control, self.effect_for_estimate, self.effect_for_interval, strict=True
            )
        ]
        return "\n".join([head, *rows])
