"""What the predicted effect depends on: three answers to three questions.

- :func:`gain_importance`: what did the base models split by? Free, without errors; of a learner that models outcomes it
  tells what outcomes depend on.
- :func:`permutation_importance`: how much worse do predicted effects get without the covariate? By the R-loss on rows
  that the learner has not seen, with intervals. The one to decide by.
- :func:`causalrec.uplift.shap_importance`: how far does the covariate move the predicted effects? Of the model, right
  or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.exceptions import NotFittedError

from causalrec._typing import FloatArray, IntArray, RandomState
from causalrec._validation import check_columns, check_confidence_level, check_covariates, check_length
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances
from causalrec.nuisance.arm_scores import influence_error
from causalrec.nuisance.scores import check_effects, r_losses
from causalrec.results import ImportanceResult, PermutationImportanceResult
from causalrec.uplift.comparison import constant_effects, treatment_residuals
from causalrec.uplift.heterogeneity import sample_of


def gain_importance(learner: Any) -> ImportanceResult:
    """Shares of the covariates in what the base models gained by them, the most important first.

    Parameters
    ----------
    learner : fitted uplift learner

    Raises
    ------
    NotFittedError
        Before ``fit``.
    CausalRecError
        For base models without importances.

    Examples
    --------
    >>> from causalrec.uplift import XLearner
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(600, 2)), rng.integers(0, 2, 600)
    >>> y = X[:, 1] * treatment + 0.1 * rng.normal(size=600)
    >>> gain_importance(XLearner().fit(X, y, treatment=treatment, propensity=0.5)).covariate.tolist()
    ['x1', 'x0']
    """
    names = covariate_names(learner)
    try:
        raw = np.asarray(learner.feature_importances_, dtype=np.float64)
    except AttributeError as error:
        raise CausalRecError(
            f"the base models of {type(learner).__name__} have no importances ({error}). Use permutation_importance, "
            "which takes any learner."
        ) from error
    shares: FloatArray = raw / (raw.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")
    return ImportanceResult(
        model=type(learner).__name__, what="outcome" if hasattr(learner, "predict_outcomes") else "effect",
        method="gain, mean over the base models", n_covariates=len(shares), n_used=int((shares > 0).sum()),
        covariate=np.array(names)[order], importance=shares[order],
    )  # fmt: skip


def permutation_importance(
    learner: Any,
    X: Any,
    nuisance: Nuisances,
    *,
    columns: Any = None,
    n_repeats: int = 10,
    clusters: Any = None,
    confidence_level: float = 0.95,
    rng: RandomState = 0,
) -> PermutationImportanceResult:
    """How much the R-loss of the predicted effects rises when the values of a covariate are shuffled among the rows.

    Parameters
    ----------
    learner : fitted uplift learner
        Fitted on **other rows** than these; anything with ``predict`` will do.
    X : frame or array of shape (n, p)
    nuisance : Nuisances
        Of these rows, from :func:`causalrec.nuisance.fit_nuisances`.
    columns : sequence of names, or mapping of names to lists of names, optional
        Which covariates, or sets of covariates to shuffle together, such as those that measure the same; all, one by
        one, by default. Columns of an array are numbers.
    n_repeats : int
        Shuffles of each.
    clusters : array of shape (n,), optional
        Rows that are not independent; the groups of ``nuisance`` by default.
    confidence_level : float
    rng : int or Generator

    Raises
    ------
    ColumnError
        For unknown columns.
    CausalRecError
        For rows other than those of ``nuisance``, no repeats, or no columns.

    Notes
    -----
    Breiman (2001, Machine Learning 45) with the loss of Nie and Wager (2021), whose differences are those of the mean
    squared error of the effects, weighted by the variance of the treatment: an importance is what it would be if the
    effects were seen. A shuffled mean is one over pairs of rows, one that receives and one that gives its value, and
    the standard error counts both (Hoeffding's projections of a two-sample U-statistic); the noise of the shuffles is
    part of it. Two covariates that say the same stand in for each other: shuffle them together.

    Examples
    --------
    >>> from causalrec.nuisance import fit_nuisances
    >>> from causalrec.uplift import TLearner
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(2)
    >>> X, treatment = rng.normal(size=(1000, 2)), rng.integers(0, 2, 1000)
    >>> y = X[:, 1] * treatment + rng.normal(size=1000)
    >>> learner = TLearner(LinearRegression()).fit(X[:500], y[:500], treatment=treatment[:500])
    >>> nuisance = fit_nuisances(
    ...     X[500:], y[500:], treatment=treatment[500:], propensity=0.5, outcome_model=LinearRegression())
    >>> found = permutation_importance(learner, X[500:], nuisance)
    >>> found.covariate.tolist(), (found.ci_low > 0).tolist()
    (['x1', 'x0'], [True, False])
    """
    level, random = check_confidence_level(confidence_level), np.random.default_rng(rng)
    table = check_covariates(X)
    check_length(table.shape[0], nuisance.n_obs, name="X")
    if not isinstance(n_repeats, int | np.integer) or n_repeats < 1:
        raise CausalRecError(f"n_repeats is {n_repeats!r}; expected a whole number of 1 or more, such as 10.")
    sets = _column_sets(table, columns)
    sample, k = sample_of(nuisance, clusters), len(nuisance.labels)
    rows = np.flatnonzero(sample.keep)
    part, weight = nuisance.take(rows), sample.weight / sample.weight.mean()
    table = take_rows(table, rows)

    def losses(covariates: Any) -> FloatArray:
        effects = check_effects(learner.predict(covariates), len(rows), k)
        return r_losses(effects, part.y, part.codes, part.mean_outcome, part.propensity)

    now = losses(table)
    estimates, errors = np.empty(len(sets)), np.empty(len(sets))
    for s, places in enumerate(sets.values()):
        orders = [random.permutation(len(rows)) for _ in range(n_repeats)]
        shuffled = [losses(_shuffled(table, places, order)) for order in orders]
        estimates[s], influence = shuffle_rise(now, shuffled, orders, weight)
        errors[s] = influence_error(influence, sample.clusters)
    return _permutation_result(learner, sets, estimates, errors, now, part, weight, level, n_repeats, sample.errors)


def shuffle_rise(
    now: FloatArray, shuffled: list[FloatArray], orders: list[IntArray], weight: FloatArray
) -> tuple[float, FloatArray]:
    r"""Mean rise of the loss over shuffles, and its influence function.

    With :math:`L_{ij}` the loss of row i with the value of row j, the estimate is the mean of
    :math:`w_i (L_{ij} - L_{ii})` over pairs (i, j) of the shuffles. A row moves it as one that receives,
    :math:`E_j w_i (L_{ij} - L_{ii}) - w_i \theta`, and as one that gives, :math:`E_j w_j (L_{ji} - L_{jj})` less its
    mean.

    Parameters
    ----------
    now : array of shape (n,)
        Losses as they are.
    shuffled : list of arrays of shape (n,)
        Losses after each shuffle.
    orders : list of int arrays of shape (n,)
        The row that each row's value came from.
    weight : array of shape (n,)
        With a mean of one.

    Examples
    --------
    >>> rise, influence = shuffle_rise(np.zeros(2), [np.array([1.0, 3.0])], [np.array([1, 0])], np.ones(2))
    >>> rise, influence.tolist()
    (2.0, [0.0, 0.0])
    """
    received, given = np.zeros(len(now)), np.zeros(len(now))
    for losses, order in zip(shuffled, orders, strict=True):
        rises = weight * (losses - now) / len(orders)
        received += rises
        given[order] += rises
    rise = float(received.mean())
    return rise, received - weight * rise + given - given.mean()


def _permutation_result(
    learner: Any,
    sets: Mapping[str, list[int]],
    estimates: FloatArray,
    errors: FloatArray,
    now: FloatArray,
    part: Nuisances,
    weight: FloatArray,
    level: float,
    n_repeats: int,
    clustered: str,
) -> PermutationImportanceResult:
    order = np.argsort(-estimates, kind="stable")
    estimates, errors = estimates[order], errors[order]
    half = float(stats.norm.isf((1 - level) / 2)) * errors
    with np.errstate(divide="ignore", invalid="ignore"):
        pvalue = np.where(errors > 0, 2 * stats.norm.sf(np.abs(estimates) / errors), np.nan)
    constant = constant_effects(
        part.y - part.mean_outcome, treatment_residuals(part.codes, part.propensity), part.fold, weight
    )
    flat = r_losses(constant, part.y, part.codes, part.mean_outcome, part.propensity)
    return PermutationImportanceResult(
        model=type(learner).__name__, loss=float(np.mean(weight * now)), constant_loss=float(np.mean(weight * flat)),
        n_covariates=len(sets), n_repeats=int(n_repeats), n_obs=len(now), confidence_level=level,
        method=f"R-loss, {n_repeats} shuffles{clustered}", covariate=np.array(list(sets))[order], importance=estimates,
        std_error=errors, ci_low=estimates - half, ci_high=estimates + half, pvalue=pvalue,
    )  # fmt: skip


def covariate_names(learner: Any) -> list[str]:
    """Names of the covariates of a fitted learner; x0, x1, … for an array.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    """
    if not hasattr(learner, "models_"):
        raise NotFittedError(f"this {type(learner).__name__} is not fitted yet; call fit first.")
    known = getattr(learner, "feature_names_in_", None)
    return [f"x{j}" for j in range(learner.n_features_in_)] if known is None else [str(name) for name in known]


def _column_sets(table: Any, columns: Any) -> dict[str, list[int]]:
    """Names, and the places of the columns that are shuffled together."""
    names = list(table.columns) if isinstance(table, pd.DataFrame) else list(range(table.shape[1]))
    if columns is None:
        asked = {name: [name] for name in names}
    elif isinstance(columns, Mapping):
        asked = {name: list(each) for name, each in columns.items()}
    elif isinstance(columns, Sequence) and not isinstance(columns, str):
        asked = {name: [name] for name in columns}
    else:
        raise CausalRecError(f"columns is {columns!r}; expected names in a list, or {{name: [names]}}.")
    check_columns(names, [name for each in asked.values() for name in each], where="columns")
    if not asked or not all(asked.values()):
        raise CausalRecError("columns names nothing to shuffle; expected at least one covariate in each set.")
    place = {str(name): j for j, name in enumerate(names)}
    plain = not isinstance(table, pd.DataFrame)
    return {
        f"x{name}" if plain and isinstance(name, int) else str(name): [place[str(each)] for each in of]
        for name, of in asked.items()
    }


def _shuffled(table: Any, places: list[int], order: IntArray) -> Any:
    """The same rows with some columns taken from others."""
    if not isinstance(table, pd.DataFrame):
        changed = table.copy()
        changed[:, places] = table[order][:, places]
        return changed
    changed = table.copy(deep=False)
    for j in places:
        changed.isetitem(j, table.iloc[:, j].array[order])
    return changed


def take_rows(table: Any, rows: IntArray) -> Any:
    """Some rows of a frame or array."""
    return table.iloc[rows] if isinstance(table, pd.DataFrame) else table[rows]
