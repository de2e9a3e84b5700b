"""Effects with their uncertainty, and what supports them: ranking metrics, refutations, balance, overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.base import Result, format_interval, format_level, format_number, format_pvalue


@dataclass(frozen=True, eq=False)
class EffectResult(Result):
    """An estimate with its uncertainty.

    Attributes
    ----------
    estimate, std_error, ci_low, ci_high : float
        In the outcome's unit.
    pvalue : float
        Of the null that the estimand is zero; two-sided unless ``method`` says otherwise.
    confidence_level : float
        NaN where the value alone was asked for.
    n_obs : int
        Rows (or units) used.
    method, estimand : str
        How it was computed, and what of: ``"ate"``, ``"att"``, ``"qini"``, ``"ndcg_at_10"``, …
    """

    estimate: float
    std_error: float
    ci_low: float
    ci_high: float
    pvalue: float
    confidence_level: float
    n_obs: int
    method: str
    estimand: str

    def __float__(self) -> float:
        return float(self.estimate)

    def __str__(self) -> str:
        if math.isnan(self.confidence_level):  # only a value was asked for
            return f"{self.estimand} = {format_number(self.estimate)}, n = {self.n_obs:,} ({self.method})"
        return (
            f"{self.estimand} = {format_number(self.estimate)} "
            f"{format_level(self.confidence_level)} CI {format_interval(self.ci_low, self.ci_high)}, "
            f"p = {format_pvalue(self.pvalue)}, n = {self.n_obs:,} ({self.method})"
        )


@dataclass(frozen=True, eq=False)
class RankingResult(EffectResult):
    """A ranking metric averaged over queries that have at least one positive."""

    model: str
    k: int
    n_without_positives: int


@dataclass(frozen=True, eq=False)
class RefutationResult(Result):
    """What an estimator finds where there is nothing to find.

    Attributes
    ----------
    kind : str
        ``"placebo_treatment"``, …
    estimate : float
        The effect that was to be refuted.
    placebo_effect, placebo_std : float
        Mean and standard deviation of the effects under the placebo.
    ci_low, ci_high : float
        Central quantiles of the placebo effects.
    pvalue : float
        Two-sided Monte-Carlo p-value of the null that the placebo effects centre on zero.
        A small one means that the estimator finds effects where there are none.
    estimate_pvalue : float
        Share of placebo effects at least as far from zero as the estimate, ``(1 + #) / (1 + n)``.
    draws : array of shape (n_simulations,)
    """

    kind: str
    estimate: float
    placebo_effect: float
    placebo_std: float
    ci_low: float
    ci_high: float
    pvalue: float
    estimate_pvalue: float
    confidence_level: float
    n_simulations: int
    method: str
    draws: FloatArray = field(repr=False)


@dataclass(frozen=True, eq=False)
class BalanceResult(Result):
    """Covariate balance between treated and control units, before and after adjustment.

    Standardised mean differences divide by the standard deviation that ``denominator`` names,
    computed before adjustment in both columns, so that the two can be compared.
    """

    n_obs: int
    max_abs_smd_before: float
    max_abs_smd_after: float
    threshold: float
    balanced: bool
    denominator: str
    method: str
    covariate: AnyArray = field(repr=False)
    smd_before: FloatArray = field(repr=False)
    smd_after: FloatArray = field(repr=False)
    variance_ratio_before: FloatArray = field(repr=False)
    variance_ratio_after: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per covariate (a row per level of a categorical one)."""
        names = ("covariate", "smd_before", "smd_after", "variance_ratio_before", "variance_ratio_after")
        return pd.DataFrame({name: getattr(self, name) for name in names})


@dataclass(frozen=True, eq=False)
class OverlapResult(Result):
    """How far the propensities of treated and control units lie over each other."""

    n_obs: int
    min_propensity: float
    max_propensity: float
    share_outside_common_support: float
    method: str
    edges: FloatArray = field(repr=False)
    treated: FloatArray = field(repr=False)
    control: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per histogram bin: its limits and the share of each arm in it."""
        return pd.DataFrame(
            {"low": self.edges[:-1], "high": self.edges[1:], "treated": self.treated, "control": self.control}
        )


@dataclass(frozen=True, eq=False)
class IdentificationResult(Result):
    """What must be held fixed for the effect to be causal, in DoWhy's terms and in words."""

    estimand: str
    treatment: str
    outcome: str
    backdoor_variables: tuple[str, ...]
    assumptions: tuple[str, ...]
    expression: str

    def __str__(self) -> str:
        adjust = ", ".join(self.backdoor_variables) or "nothing (randomised)"
        lines = [f"Effect of {self.treatment} on {self.outcome} ({self.estimand}); adjust for: {adjust}."]
        return "\n".join([*lines, *(f"  assumes {text}" for text in self.assumptions)])
