"""Losses of predicted effects that need no truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.scores import check_effects, dr_losses, r_losses


def r_loss(uplift: Any, nuisance: Nuisances) -> float:
    """The mean R-loss of predicted effects (Nie and Wager 2021, Biometrika 108, equation 4); less is better.

    It differs from the mean squared error of the effects, weighted by the variance of the treatment, by a constant
    that no predictor can change: it compares predictors where no truth is known. Its root is on the outcome's scale.

    Parameters
    ----------
    uplift : array of shape (n,) or (n, k - 1)
        Effects predicted for the rows of ``nuisance`` by models that did not see them.
    nuisance : Nuisances

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, t = rng.normal(size=(300, 1)), rng.integers(0, 2, 300)
    >>> from sklearn.linear_model import LinearRegression
    >>> from causalrec.nuisance import fit_nuisances
    >>> nuisances = fit_nuisances(X, X[:, 0] * t, treatment=t, propensity=0.5, outcome_model=LinearRegression())
    >>> bool(r_loss(X[:, 0], nuisances) < r_loss(0 * X[:, 0], nuisances))
    True
    """
    table = check_effects(uplift, nuisance.n_obs, len(nuisance.labels))
    rows = r_losses(table, nuisance.y, nuisance.codes, nuisance.mean_outcome, nuisance.propensity)
    return float(np.average(rows, weights=nuisance.sample_weight))


def dr_loss(uplift: Any, nuisance: Nuisances) -> float:
    """The mean squared distance of predicted effects to doubly robust scores (Kennedy 2023); less is better.

    It differs from the mean squared error of the effects by a constant that no predictor can change.

    Parameters
    ----------
    uplift : array of shape (n,) or (n, k - 1)
        Effects predicted for the rows of ``nuisance`` by models that did not see them.
    nuisance : Nuisances
    """
    table = check_effects(uplift, nuisance.n_obs, len(nuisance.labels))
    return float(np.average(dr_losses(table, nuisance.effect_scores()), weights=nuisance.sample_weight))
