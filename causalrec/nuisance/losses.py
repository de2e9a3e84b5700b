"""Losses of predicted effects that need no truth, with standard errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.folds import check_groups
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.scores import average_of_scores, check_effects, dr_losses, effect_result, r_losses
from causalrec.results import NAN, EffectResult


def r_loss(uplift: Any, nuisance: Nuisances, *, clusters: Any = None, confidence_level: float = 0.95) -> EffectResult:
    """The mean R-loss of predicted effects (Nie and Wager 2021, Biometrika 108, equation 4); less is better.

    It differs from the mean squared error of the effects, weighted by the variance of the treatment, by a constant
    that no predictor can change: it compares predictors where no truth is known. Its root is on the outcome's scale.

    Parameters
    ----------
    uplift : array of shape (n,) or (n, k - 1)
        Effects predicted for the rows of ``nuisance`` by models that did not see them.
    nuisance : Nuisances
    clusters : array of shape (n,), optional
        Rows that are not independent; the groups of ``nuisance`` by default.
    confidence_level : float

    Returns
    -------
    EffectResult
        In squared units of the outcome; ``float`` of it is the loss. The error is that of the mean over these rows,
        with the nuisances as they are. No p-value: that a loss is zero is no hypothesis. Two predictors are told apart
        by the difference of their losses on the same rows, which varies far less than each of them:
        ``causalrec.evaluation.compare_scorers``, :func:`causalrec.uplift.compare_effects`.

    Raises
    ------
    CausalRecError
        For effects of another shape, or that are missing or infinite; no Nuisances; a confidence level outside (0, 1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, t = rng.normal(size=(300, 1)), rng.integers(0, 2, 300)
    >>> from sklearn.linear_model import LinearRegression
    >>> from causalrec.nuisance import fit_nuisances
    >>> nuisances = fit_nuisances(X, X[:, 0] * t, treatment=t, propensity=0.5, outcome_model=LinearRegression())
    >>> float(r_loss(X[:, 0], nuisances)) < float(r_loss(0 * X[:, 0], nuisances))
    True
    """
    table = _table(uplift, nuisance)
    rows = r_losses(table, nuisance.y, nuisance.codes, nuisance.mean_outcome, nuisance.propensity)
    return _mean_loss(rows, nuisance, clusters, confidence_level, "r_loss")


def dr_loss(uplift: Any, nuisance: Nuisances, *, clusters: Any = None, confidence_level: float = 0.95) -> EffectResult:
    """The mean squared distance of predicted effects to doubly robust scores (Kennedy 2023); less is better.

    It differs from the mean squared error of the effects by a constant that no predictor can change, and is noisier
    than the R-loss where some arm is unlikely. Parameters, result and errors as for :func:`r_loss`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, t = rng.normal(size=(300, 1)), rng.integers(0, 2, 300)
    >>> from sklearn.linear_model import LinearRegression
    >>> from causalrec.nuisance import fit_nuisances
    >>> nuisances = fit_nuisances(X, X[:, 0] * t, treatment=t, propensity=0.5, outcome_model=LinearRegression())
    >>> loss = dr_loss(X[:, 0], nuisances)
    >>> loss.estimate < 0.01, loss.n_obs
    (True, 300)
    """
    table = _table(uplift, nuisance)
    return _mean_loss(dr_losses(table, nuisance.effect_scores()), nuisance, clusters, confidence_level, "dr_loss")


def _table(uplift: Any, nuisance: Nuisances) -> FloatArray:
    if not isinstance(nuisance, Nuisances):
        raise CausalRecError(
            f"nuisance is of type {type(nuisance).__name__}; expected the Nuisances of these rows. See "
            "causalrec.nuisance.fit_nuisances."
        )
    return check_effects(uplift, nuisance.n_obs, len(nuisance.labels))


def _mean_loss(
    rows: FloatArray, nuisance: Nuisances, clusters: Any, confidence_level: float, name: str
) -> EffectResult:
    level = check_confidence_level(confidence_level)
    units = nuisance.groups if clusters is None else check_groups(clusters, n_rows=nuisance.n_obs, name="clusters")
    weight = nuisance.sample_weight
    mean, error = average_of_scores(rows, np.ones(len(rows)), weight=weight, clusters=units)
    how = f"mean over rows{'' if units is None else f', clustered by {len(np.unique(units)):,} groups'}"
    found = effect_result(
        mean, error, confidence_level=level, n_obs=len(rows) if weight is None else int(np.count_nonzero(weight)),
        method=f"{how}; no p-value, since a loss of zero is no hypothesis", estimand=name,
    )  # fmt: skip
    return replace(found, pvalue=NAN)
