"""Standardisation (g-computation, regression adjustment): outcomes predicted for all units under either arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import list_some
from causalrec.observational._inputs import Sample, read_sample
from causalrec.observational._outcomes import (
    Design,
    OutcomeFit,
    check_outcome_model,
    check_outcomes,
    fit_outcome,
    independent,
    make_design,
    named_columns,
)
from causalrec.observational.design import as_design, check_estimand
from causalrec.observational.regression import check_identified, fit_arm
from causalrec.results import AdjustedEffect


def standardisation(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    estimand: str = "ate",
    outcome_model: str = "linear",
    interactions: str | Sequence[Any] = "all",
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    r"""The mean difference of the outcomes that a regression expects of the estimand's units under either arm.

    Robins 1986, Mathematical Modelling 7 (the g-formula of one treatment); Hernán and Robins 2020, "Causal Inference:
    What If", chapter 13. Right where the outcome model is; its error, of stacked estimating equations, counts the
    coefficients and the units over which the mean is taken. It has no small-sample factor, and is too small by about
    √(1 - q/n) where an arm has n units for q columns: with more than a tenth use :func:`lin_effect`, whose HC2 or HC3
    is not.

    Parameters
    ----------
    X : frame or array of shape (n, p)
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    control : label, optional
    estimand : {"ate", "att", "atc"}
    outcome_model : {"linear", "logistic", "poisson"}
        Least squares, or the mean expit(x'β) of outcomes in [0, 1], or exp(x'β) of outcomes of zero or more: right
        about the error whatever the distribution, if the mean is right.
    interactions : "all" or sequence of columns of X
        With all, each arm has a regression of its own. Else one regression holds the covariates, the treatment, and
        its products with these columns, whose categories must be given as numbers.
    sample_weight : array of shape (n,), optional
        In the regression and in the mean.
    clusters : array of shape (n,), optional
        Units that are not independent, such as rows of one user.
    confidence_level : float

    Returns
    -------
    AdjustedEffect
        Linear models come with the weights that each arm's outcomes have in the estimate.

    Raises
    ------
    OverlapError
        When an arm cannot say what a covariate does: a category that it lacks, say.
    OutcomeError
        For outcomes that the model does not allow, or a likelihood without a maximum.
    ColumnError, TreatmentError, CausalRecError
        For missing values and settings that are not allowed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=1000)
    >>> treatment = (rng.random(1000) < 1 / (1 + np.exp(-x))).astype(int)
    >>> y = 2.0 * x + treatment * (1.0 + x)
    >>> found = standardisation(x[:, None], y, treatment=treatment, estimand="att")
    >>> bool(np.isclose(found.estimate, 1.0 + x[treatment == 1].mean()))
    True
    """
    matrix, names = as_design(X)
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="standardisation", n_rows=len(matrix),
    )  # fmt: skip
    check_estimand(estimand)
    family = check_outcome_model(outcome_model)
    check_outcomes(sample.y, family)
    design = make_design(matrix, names, sample.weight > 0)
    if isinstance(interactions, str) and interactions == "all":
        arms, how = arm_models(sample, design, family, estimand), f"{family} regression in each arm"
    else:
        products = named_columns(matrix, names, interactions, what="interactions")[:, 1:]
        arms, how = _common_model(sample, design, products, family), f"one {family} regression"
        how += f" with interactions of {list_some(list(map(str, interactions)))}" if len(interactions) else ""
    share = sample.units(estimand)
    estimate, influence = mean_contrast(arms, share)
    weights = None
    if family == "linear":
        signed = _implied(arms, share)
        weights = signed * np.where(sample.treatment == 1, 1.0, -1.0) * sample.n_obs
    return sample.effect(
        estimate, sample.error(influence), estimand=estimand, weights=weights,
        method=f"standardisation, {how}, stacked estimating equations{design.suffix()}",
    )  # fmt: skip


class ArmMean(NamedTuple):
    """What a regression expects of all units under one arm."""

    fit: OutcomeFit
    Z: FloatArray  # the design under this arm
    mean: FloatArray

    def pull(self, gradient: FloatArray) -> FloatArray:
        """The gradient by the coefficients of an estimate whose gradient by the means is given."""
        return np.asarray(self.Z.T @ (gradient * self.fit.slope(self.mean)))


def arm_models(
    sample: Sample,
    design: Design,
    family: str,
    estimand: str,
    weights: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[ArmMean, ArmMean]:
    """A regression in each arm, control first; ``weights`` by arm in place of those of the sample.

    Where the estimand is of an arm's own units, this arm's regression needs an intercept alone: the mean of what a
    regression with its natural link expects of its own units is that of their outcomes.
    """
    found = []
    for code in (0, 1):
        own = (estimand, code) in (("att", 1), ("atc", 0))
        columns = 1 if own else design.Z.shape[1]
        chosen = Design(design.Z[:, :columns], design.names[:columns], ())
        fit = fit_arm(sample, chosen, code, "linear" if own else family, None if weights is None else weights[code])
        found.append(ArmMean(fit, chosen.Z, fit.predict(chosen.Z)))
    return found[0], found[1]


def mean_contrast(arms: tuple[ArmMean, ArmMean], share: FloatArray) -> tuple[float, FloatArray]:
    """The weighted mean of the differences expected, and its influence on the scale of a sum, shape (n,).

    Influence: share (m_1 - m_0 - τ), and by way of the coefficients what :class:`OutcomeFit` says.
    """
    control, treated = arms
    gaps = treated.mean - control.mean
    estimate = float(share @ gaps)
    influence = share * (gaps - estimate)
    for arm, sign in ((treated, 1.0), (control, -1.0)):
        influence = influence + sign * arm.fit.influence(arm.pull(share))
    return estimate, influence


def _implied(arms: tuple[ArmMean, ArmMean], share: FloatArray) -> FloatArray:
    """Coefficients of the outcomes in an estimate by linear regressions, shape (n,)."""
    control, treated = arms
    one = treated.fit.weight * treated.fit.reach(treated.pull(share))
    return np.asarray(one - control.fit.weight * control.fit.reach(control.pull(share)))


def _common_model(sample: Sample, design: Design, products: FloatArray, family: str) -> tuple[ArmMean, ArmMean]:
    """One regression on covariates, treatment and some products, seen as a mean for each arm."""

    def under(t: FloatArray) -> FloatArray:
        return np.column_stack([design.Z, t, t[:, None] * products])

    n, q = design.Z.shape
    observed, ones = under(sample.treatment.astype(np.float64)), np.ones(n)
    names = np.array(
        [*design.names, "treatment", *[f"product {j + 1}" for j in range(products.shape[1])]], dtype=object
    )
    keep = np.ones(observed.shape[1], dtype=bool)
    keep[q + 1 :] = independent(products)  # the same product twice is one
    check_identified(observed[:, keep], sample.weight, names[keep], who="all")
    fit = fit_outcome(observed[:, keep], sample.y, sample.weight, family, who="all")
    arms = [under(t)[:, keep] for t in (0 * ones, ones)]
    return ArmMean(fit, arms[0], fit.predict(arms[0])), ArmMean(fit, arms[1], fit.predict(arms[1]))
