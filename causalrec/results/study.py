"""A study on one page: the estimand, the effect by every method, what supports it and what would overturn it."""

from __future__ import annotations

from dataclasses import dataclass, field

from causalrec.results.balance import BalanceResult
from causalrec.results.base import Result
from causalrec.results.effects import OverlapResult
from causalrec.results.identification import IdentificationResult
from causalrec.results.observational import AdjustedEffect, EffectComparisonResult
from causalrec.results.refutation import RefutationsResult
from causalrec.results.sensitivity import (
    EValueResult,
    OmittedBiasResult,
    PartialR2Result,
    RosenbaumResult,
    TippingResult,
)


@dataclass(frozen=True, eq=False)
class SensitivityResult(Result):
    """How much hidden bias one estimate bears, on every scale that applies to it.

    Attributes
    ----------
    treatment, outcome, estimand, method : str
    estimate, ci_low, ci_high, confidence_level : float
    gamma : float
        Rosenbaum's gamma at which the conclusion turns; NaN where there are no matched sets.
    evalue, evalue_ci : float
        E-values of the estimate and of the nearer end of its interval.
    robustness_value, robustness_value_alpha : float
        Share of what is left of treatment and outcome that a hidden cause must explain to bring the estimate, or the
        end of its interval, to zero.
    strongest : str
        The covariate that explains most; a hidden cause like it would be the benchmark. Empty without covariates.
    rosenbaum : RosenbaumResult or None
    evalues : EValueResult or None
    partial_r2 : PartialR2Result or None
        Of the linear regression.
    omitted_bias : OmittedBiasResult or None
        Of doubly robust effects.
    tipping : TippingResult or None
    notes : tuple of str
        What could not be computed, and why.
    """

    treatment: str
    outcome: str
    estimand: str
    method: str
    estimate: float
    ci_low: float
    ci_high: float
    confidence_level: float
    gamma: float
    evalue: float
    evalue_ci: float
    robustness_value: float
    robustness_value_alpha: float
    strongest: str
    rosenbaum: RosenbaumResult | None = field(repr=False, default=None)
    evalues: EValueResult | None = field(repr=False, default=None)
    partial_r2: PartialR2Result | None = field(repr=False, default=None)
    omitted_bias: OmittedBiasResult | None = field(repr=False, default=None)
    tipping: TippingResult | None = field(repr=False, default=None)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class StudyReport(Result):
    """All of a study on one page; ``write_study_report`` of :mod:`causalrec.pipelines.ate` makes an HTML page of it.

    Attributes
    ----------
    treatment, outcome, estimand : str
    n_obs : int
    identification : IdentificationResult
    effect : AdjustedEffect
        The headline; without the weights of single units.
    comparison : EffectComparisonResult or None
        Every method beside it; None without covariates.
    balance : BalanceResult or None
    overlap : OverlapResult or None
    refutations : RefutationsResult
    sensitivity : SensitivityResult
    doubts : tuple of str
        What stands against the conclusion, worst first, a sentence each.
    conclusion : str
        In a sentence or two: the effect, and what would change it.
    notes : tuple of str
    """

    treatment: str
    outcome: str
    estimand: str
    n_obs: int
    identification: IdentificationResult
    effect: AdjustedEffect
    comparison: EffectComparisonResult | None
    balance: BalanceResult | None
    overlap: OverlapResult | None
    refutations: RefutationsResult
    sensitivity: SensitivityResult
    doubts: tuple[str, ...]
    conclusion: str
    notes: tuple[str, ...] = ()
