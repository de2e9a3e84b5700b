"""G-estimation of a linear structural mean model: the effect that leaves the treatment unrelated to what remains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._inputs import read_sample
from causalrec.observational._outcomes import named_columns
from causalrec.observational.design import as_design, check_estimand
from causalrec.observational.doubly_robust import score_text
from causalrec.observational.propensity import as_propensity, fit_propensity
from causalrec.observational.regression import check_identified
from causalrec.results import AdjustedEffect, PropensityResult


def g_estimation(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    propensity: PropensityResult | Any = None,
    propensity_model: str = "logistic",
    control: Any = None,
    estimand: str = "ato",
    modifiers: Sequence[Any] = (),
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    r"""The effect ψ for which y - ψt, the outcome without treatment, is unrelated to the treatment given covariates.

    Robins 1994, Communications in Statistics 23, "Correcting for non-compliance ... using structural nested mean
    models"; Hernán and Robins 2020, "Causal Inference: What If", chapter 14. In closed form
    :math:`\psi = \sum w (t - e) y / \sum w (t - e) t`. The outcome is not modelled; the propensity e must be right.

    Parameters
    ----------
    X : frame or array of shape (n, p)
        Covariates of the propensity.
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    propensity : PropensityResult, float or array of shape (n,), optional
        From :func:`fit_propensity`; numbers are taken as known by design. By default fitted on ``X``.
    propensity_model : {"logistic", "probit"}
        Of the propensity that is fitted here.
    control : label, optional
    estimand : {"ato", "ate", "att", "atc"}
        Without modifiers the estimate averages effects with weights e(1 - e): those of the overlap, ``"ato"``. That
        equals the others only where all effects are equal, so that they are not offered. With modifiers it is the
        mean of the modelled effects over the units asked for: ``"ate"``, ``"att"`` or ``"atc"``.
    modifiers : sequence of columns of X
        The effect is linear in these: ψ0 + ψ1 v + ….
    sample_weight : array of shape (n,), optional
        Such as inverse probabilities of being observed; taken as known in the error.
    clusters : array of shape (n,), optional
        Units that are not independent, such as rows of one user.
    confidence_level : float
        Of a Wald interval from stacked estimating equations. Books invert a test of the treatment's relation to
        y - ψt over a grid of ψ, which gives about the same.

    Returns
    -------
    AdjustedEffect
        With the propensity and the weights of outcomes; without modifiers they are overlap weights.

    Raises
    ------
    OverlapError
        When the covariates separate the arms, or a modifier does not vary among the treated.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values and settings that are not allowed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=2000)
    >>> treatment = (rng.random(2000) < 1 / (1 + np.exp(-x))).astype(int)
    >>> y = x**2 + treatment * (1.0 + x) + rng.normal(size=2000)
    >>> found = g_estimation(x[:, None], y, treatment=treatment, estimand="att", modifiers=["x0"])
    >>> bool(abs(found.estimate - (1.0 + x[treatment == 1].mean())) < 2 * found.std_error)
    True
    """
    matrix, names = as_design(X)
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="g-estimation", n_rows=len(matrix),
    )  # fmt: skip
    V = named_columns(matrix, names, modifiers, what="modifiers")
    _check_estimand(estimand, modifiers)
    if propensity is None:
        weight = sample.weight if sample.weighted else None
        propensity = fit_propensity(X, treatment=sample.treatment, model=propensity_model, sample_weight=weight)
    score = as_propensity(propensity, n_rows=sample.n_obs, treatment=sample.treatment)
    labels = np.array(["intercept", *map(str, modifiers)], dtype=object)
    check_identified(V, sample.weight * sample.treatment, labels, who=sample.arm(1))
    share = np.full(sample.n_obs, 1 / sample.n_obs) if estimand == "ato" else sample.units(estimand)
    parts = structural_effect(sample.y, sample.treatment, score.score, V, sample.weight, share)
    influence = parts.influence + score.influence(sample.treatment, parts.by_score)
    how = f"g-estimation, effect {'linear in ' + ', '.join(map(str, modifiers)) if modifiers else 'by overlap'}"
    return sample.effect(
        parts.estimate, sample.error(influence), method=f"{how}; {score_text(score)}", estimand=estimand,
        weights=parts.implied * np.where(sample.treatment == 1, 1.0, -1.0) * sample.n_obs,
        propensity=score.score, share_clipped=score.share_clipped,
    )  # fmt: skip


class Structural(NamedTuple):
    """A structural effect taken apart."""

    estimate: float
    influence: FloatArray  # with the score as known
    by_score: FloatArray  # gradient by each unit's score
    implied: FloatArray  # coefficient of each outcome


def structural_effect(
    y: FloatArray, treatment: IntArray, score: FloatArray, V: FloatArray, weight: FloatArray, share: FloatArray
) -> Structural:
    r"""The mean of V'ψ where ψ solves :math:`\sum w (t - e)(y - t V'\psi) V = 0`.

    Parameters
    ----------
    y, treatment, score, weight : arrays of shape (n,)
    V : array of shape (n, q)
        Intercept first; independent among the treated.
    share : array of shape (n,)
        Over which the effects are averaged; sums to 1.
    """
    gap = weight * (treatment - score)
    A = (V * (gap * treatment)[:, None]).T @ V
    psi = np.linalg.solve(A, V.T @ (gap * y))
    effects = V @ psi
    estimate = float(share @ effects)
    direction = V @ np.linalg.solve(A.T, V.T @ share)
    rest = y - treatment * effects
    return Structural(
        estimate, gap * rest * direction + share * (effects - estimate), -weight * rest * direction, gap * direction
    )


def _check_estimand(estimand: str, modifiers: Sequence[Any]) -> None:
    if estimand != "ato":
        check_estimand(estimand)
    if (estimand == "ato") == bool(len(modifiers)):
        raise CausalRecError(
            f"estimand is {estimand!r} with {len(modifiers)} modifiers. Without modifiers g-estimation averages "
            "effects by the overlap of the arms: 'ato'. With modifiers=[...], in which the effect is linear, it gives "
            "ate, att or atc."
        )
