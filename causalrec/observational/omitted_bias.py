"""Hidden confounders of doubly robust effects: bounds from what they explain, whatever the models."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_two_arms
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.scores import Estimand, effect_influence
from causalrec.observational._errors import sandwich_error
from causalrec.observational.design import check_estimand
from causalrec.results import ConfounderStrengthResult, OmittedBiasResult


class BiasParts(NamedTuple):
    """An effect, σ² and ν², and the influence of each unit on them, on the scale of a sum; see :func:`bias_parts`."""

    estimate: float
    residual_variance: float
    weight_variance: float
    psi_estimate: FloatArray
    psi_residual: FloatArray
    psi_weight: FloatArray

    @property
    def scale(self) -> float:
        """√(σ² ν²): the bias of a confounder that explains half of all."""
        return math.sqrt(self.residual_variance * self.weight_variance)


def bias_parts(
    y: FloatArray,
    treatment: IntArray,
    outcomes: FloatArray,
    propensity: FloatArray,
    *,
    estimand: Estimand = "ate",
    weight: FloatArray | None = None,
) -> BiasParts:
    r"""What bounds on an effect rest on: σ² = E(Y - μ_T(X))², and ν² = Eα² of its weights α, with influences.

    The effect is E m(X; μ) = E αY with α = w(X)(T / e - (1 - T) / (1 - e)), w = 1 for the ate, e / P(T = 1) for the
    att and (1 - e) / P(T = 0) for the atc. ν² is taken as E[2 m(X; α) - α²], which errors of α change little
    (Chernozhukov, Cinelli, Newey, Sharma and Syrgkanis 2022, "Long story short: omitted variable bias in causal
    machine learning", section 5). The influences of the att and atc count that the arm's share is estimated.

    Parameters
    ----------
    y : array of shape (n,), treatment : 0/1 array of shape (n,)
    outcomes, propensity : arrays of shape (n, 2)
        Expected outcomes and probabilities of control and treatment, out of fold.
    estimand : {"ate", "att", "atc"}
    weight : array of shape (n,), optional

    Examples
    --------
    >>> half = np.full((4, 2), 0.5)
    >>> parts = bias_parts(np.array([0.0, 1, 0, 1]), np.array([0, 0, 1, 1]), half, half)
    >>> parts.residual_variance, parts.weight_variance
    (0.25, 4.0)
    """
    share = np.ones(len(y)) if weight is None else weight
    share = share / share.sum()
    numerator, denominator = effect_influence(y, treatment, outcomes, propensity, estimand=estimand)
    total = float(share @ denominator)
    estimate = float(share @ numerator) / total
    squares = (y - outcomes[np.arange(len(y)), treatment]) ** 2
    own = {"ate": np.ones(len(y)), "att": propensity[:, 1], "atc": propensity[:, 0]}[estimand] / total
    there = {"ate": np.ones(len(y)), "att": treatment, "atc": 1 - treatment}[estimand] / total
    alpha = own * np.where(treatment == 1, 1 / propensity[:, 1], -1 / propensity[:, 0])
    moment = there * own * (1 / propensity[:, 1] + 1 / propensity[:, 0])
    elements = 2 * moment - alpha**2
    variances = float(share @ squares), float(share @ elements)
    by_share = np.zeros(len(y)) if estimand == "ate" else 2 * variances[1] * (denominator / total - 1)
    return BiasParts(
        estimate, *variances, share * (numerator - estimate * denominator) / total, share * (squares - variances[0]),
        share * (elements - variances[1] - by_share),
    )  # fmt: skip


def omitted_bias(
    nuisances: Nuisances,
    *,
    cf_outcome: float = 0.03,
    cf_treatment: float = 0.03,
    rho: float = 1.0,
    null: float = 0.0,
    estimand: Estimand = "ate",
    confidence_level: float = 0.95,
) -> OmittedBiasResult:
    r"""Bounds on a doubly robust effect when a hidden confounder of a given strength was left out.

    The bias is at most :math:`|\rho| \sqrt{\sigma^2 \nu^2}\, C_Y C_D` with :math:`C_Y^2` = ``cf_outcome``, the
    confounder's share of the outcome's residual variance, and :math:`C_D^2` = ``cf_treatment`` /
    (1 - ``cf_treatment``), from its share of the variance of the weights α (Chernozhukov et al. 2022, "Long story
    short", theorem 2 and corollary 1). The errors of the bounds add the influences of σ² and ν² (section 5).

    Parameters
    ----------
    nuisances : Nuisances
        Of two arms, from :func:`~causalrec.nuisance.fit_nuisances`.
    cf_outcome : float in [0, 1]
    cf_treatment : float in [0, 1)
    rho : float in [-1, 1]
        Correlation of the errors in outcome and weights; 1 is the worst case.
    null : float
        What robustness values are to reach.
    estimand : {"ate", "att", "atc"}
    confidence_level : float
        Of ``ci_low`` to ``ci_high``, two-sided: one-sided bounds at 95% are those at 0.9.

    Returns
    -------
    OmittedBiasResult

    Raises
    ------
    CausalRecError, TreatmentError
        For strengths outside [0, 1), other than two arms, and weights so extreme that ν² is not positive.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression, LogisticRegression
    >>> from causalrec.nuisance import fit_nuisances
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.normal(size=(400, 1)), rng.integers(0, 2, 400)
    >>> nuisances = fit_nuisances(x, x[:, 0] + treatment + rng.normal(size=400), treatment=treatment,
    ...     outcome_model=LinearRegression(), propensity_model=LogisticRegression())
    >>> found = omitted_bias(nuisances)
    >>> found.ci_low < found.estimate_low < found.estimate < found.estimate_high < found.ci_high
    True
    """
    check_two_arms(nuisances.labels, what="a bound on omitted bias")
    check_estimand(estimand)
    level = check_confidence_level(confidence_level)
    for name, value in (("cf_outcome", cf_outcome), ("cf_treatment", cf_treatment)):
        if not (0 <= value < 1 or (name == "cf_outcome" and value == 1)):
            raise CausalRecError(
                f"{name} is {value}; expected a share of variance, at least 0 and below 1 (of the outcome 1 at most)."
            )
    if not -1 <= rho <= 1:
        raise CausalRecError(f"rho is {rho}; expected a correlation between -1 and 1; 1 is the worst case.")
    parts = bias_parts(
        nuisances.y, nuisances.codes, nuisances.outcomes, nuisances.propensity, estimand=estimand,
        weight=nuisances.sample_weight,
    )  # fmt: skip
    if not parts.weight_variance > 0:
        raise CausalRecError(
            f"the variance of the weights is estimated as {parts.weight_variance:.3g}; expected a number above 0. "
            "Propensities near 0 or 1 do that: clip or trim them."
        )
    if not parts.residual_variance > 0:
        raise CausalRecError(
            "the outcome models fit the outcome without error, so that no confounder can be hidden in it. Check the "
            "outcome: is it constant, or made from the covariates?"
        )
    bounds = _Bounds(parts, nuisances.groups, float(stats.norm.isf((1 - level) / 2)))
    strength = abs(rho) * math.sqrt(cf_outcome * cf_treatment / (1 - cf_treatment))
    low, error_low = bounds.end(-strength)
    high, error_high = bounds.end(strength)
    return OmittedBiasResult(
        estimand=estimand, method="aipw", n_obs=nuisances.n_obs, estimate=parts.estimate, std_error=bounds.end(0.0)[1],
        cf_outcome=float(cf_outcome), cf_treatment=float(cf_treatment), rho=float(rho), null=float(null),
        estimate_low=low, estimate_high=high, error_low=error_low, error_high=error_high,
        ci_low=low - bounds.z * error_low, ci_high=high + bounds.z * error_high,
        robustness_value=bounds.robustness(null, abs(rho), interval=False),
        robustness_value_alpha=bounds.robustness(null, abs(rho), interval=True),
        residual_variance=parts.residual_variance, weight_variance=parts.weight_variance, confidence_level=level,
    )  # fmt: skip


def confounder_strength(
    nuisances: Nuisances, without: Nuisances, *, name: str = "covariate", estimand: Estimand = "ate"
) -> ConfounderStrengthResult:
    """What a covariate explains of outcome and weights: nuisances with it, and fitted again without it.

    Shares gained over what was unexplained, as a benchmark for :func:`omitted_bias` (Chernozhukov et al. 2022,
    section 6); a loss, by chance, counts as 0.

    Parameters
    ----------
    nuisances, without : Nuisances
        On the same rows.

    Raises
    ------
    CausalRecError
        When they are not of the same outcomes and treatments.
    """
    if not (np.array_equal(nuisances.y, without.y) and np.array_equal(nuisances.codes, without.codes)):
        raise CausalRecError(
            "the two fits are of other outcomes or treatments; fit both on the same rows, with and without the "
            "covariate."
        )
    full, short = (
        bias_parts(n.y, n.codes, n.outcomes, n.propensity, estimand=estimand, weight=n.sample_weight)
        for n in (nuisances, without)
    )
    return strength_of(full, short, name=name)


def strength_of(full: BiasParts, short: BiasParts, *, name: str) -> ConfounderStrengthResult:
    """The benchmark of two sets of parts: cf_outcome = (σ²_s - σ²) / σ², cf_treatment = (ν² - ν²_s) / ν²_s, at most 1.

    Both are the ratio C² that bounds use for the outcome, and that of cf / (1 - cf) is for the weights.
    """
    by_outcome = short.residual_variance - full.residual_variance
    by_weight = full.weight_variance - short.weight_variance
    change = short.estimate - full.estimate
    spread = math.sqrt(max(by_outcome, 0.0) * max(by_weight, 0.0))
    rho = min(1.0, abs(change) / spread) if spread > 0 else 1.0
    return ConfounderStrengthResult(
        name=name, estimate=full.estimate, estimate_without=short.estimate,
        cf_outcome=min(1.0, max(0.0, by_outcome / full.residual_variance)),
        cf_treatment=min(1.0, max(0.0, by_weight / short.weight_variance)), rho=math.copysign(rho, change),
    )  # fmt: skip


class _Bounds(NamedTuple):
    parts: BiasParts
    clusters: IntArray | None
    z: float

    def end(self, strength: float) -> tuple[float, float]:
        """A bound and its error, at ± |ρ| C_Y C_D."""
        p = self.parts
        lean = strength / (2 * p.scale)
        psi = p.psi_estimate + lean * (p.residual_variance * p.psi_weight + p.weight_variance * p.psi_residual)
        used = psi != 0
        n = max(int(used.sum()), 2)
        factor = math.sqrt(n / (n - 1)) if self.clusters is None else 1.0
        return p.estimate + strength * p.scale, factor * sandwich_error(psi, self.clusters)

    def robustness(self, null: float, rho: float, *, interval: bool) -> float:
        """The cf, the same for both, at which the end towards ``null`` reaches it; 1 where none does."""
        side = -1.0 if self.parts.estimate > null else 1.0

        def gap(cf: float) -> float:
            value, error = self.end(side * rho * cf / math.sqrt(1 - cf))
            return side * (value - null) + (self.z * error if interval else 0.0)

        if gap(0.0) >= 0:
            return 0.0
        highest = 1 - 1e-9
        return float(optimize.brentq(gap, 0.0, highest, xtol=1e-12)) if gap(highest) > 0 else 1.0
