"""Effects with their uncertainty, and what supports them: ranking metrics, refutations, overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from causalrec._typing import FloatArray
from causalrec.results.base import NAN, Result, format_interval, format_level, format_number, format_pvalue


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
class OverlapResult(Result):
    """How far the propensities of treated and control units lie over each other, and what weighting by them costs.

    Attributes
    ----------
    n_obs : int
    min_propensity, max_propensity : float
    share_outside_common_support : float
        Share of units whose propensity lies where only one arm is found.
    method : str
        Where the propensities come from.
    edges : array of shape (b + 1,)
    treated, control : arrays of shape (b,)
        Share of each arm between two edges.
    n_treated, n_control : int
    support_low, support_high : float
        The range of propensities that both arms share.
    crump_low, crump_high : float
        The range that gives the most precise estimate (Crump et al. 2009); 0 and 1 where trimming gains nothing.
    share_trimmed : float
        Share of units outside that range.
    ess_treated, ess_control : float
        Effective sample sizes (Σw)²/Σw² of the weights for ``estimand``.
    share_clipped : float
        Share of units whose propensity was moved to a bound.
    estimand : str
    treated_after, control_after : arrays of shape (b,), or None
        Share of each arm's weight between two edges.
    """

    n_obs: int
    min_propensity: float
    max_propensity: float
    share_outside_common_support: float
    method: str
    edges: FloatArray = field(repr=False)
    treated: FloatArray = field(repr=False)
    control: FloatArray = field(repr=False)
    n_treated: int = 0
    n_control: int = 0
    support_low: float = NAN
    support_high: float = NAN
    crump_low: float = NAN
    crump_high: float = NAN
    share_trimmed: float = NAN
    ess_treated: float = NAN
    ess_control: float = NAN
    share_clipped: float = 0.0
    estimand: str = "ate"
    treated_after: FloatArray | None = field(repr=False, default=None)
    control_after: FloatArray | None = field(repr=False, default=None)

    def to_frame(self) -> pd.DataFrame:
        """A row per histogram bin: its limits and the share of each arm in it, also after weighting."""
        columns = {"low": self.edges[:-1], "high": self.edges[1:], "treated": self.treated, "control": self.control}
        after = {"treated_after": self.treated_after, "control_after": self.control_after}
        return pd.DataFrame({**columns, **{name: value for name, value in after.items() if value is not None}})

    def __str__(self) -> str:
        number = format_number
        trimming = f"[{number(self.crump_low)}, {number(self.crump_high)}]; outside: {self.share_trimmed:.1%} of units"
        sizes = (
            f"{arm} {size:,.{0 if size >= 1000 else 1}f} of {n:,}"
            for arm, size, n in (
                ("treated", self.ess_treated, self.n_treated),
                ("control", self.ess_control, self.n_control),
            )
        )
        lines = [
            f"Overlap of propensities ({self.method}): {self.n_treated:,} treated and {self.n_control:,} control units",
            f"range           {number(self.min_propensity)} to {number(self.max_propensity)}",
            f"common support  {format_interval(self.support_low, self.support_high)}; outside: "
            f"{self.share_outside_common_support:.1%} of units",
            f"Crump trimming  {trimming if self.share_trimmed > 0 else 'none'}",
            f"effective size  {', '.join(sizes)} (weights for the {self.estimand})",
        ]
        if self.share_clipped:
            lines.append(f"clipped         {self.share_clipped:.1%} of units")
        return "\n  ".join(lines)
