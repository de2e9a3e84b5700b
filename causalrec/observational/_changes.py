"""The ways to change a study's data so that the answer is known: drawn at random, on copies, with nothing fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._outcomes import fit_outcome, make_design
from causalrec.observational._study_data import StudyData
from causalrec.observational.design import as_design
from causalrec.results import PropensityResult

NOISE = "noise"


@dataclass(frozen=True, eq=False)
class Change:
    """What one simulation changes; None stays as it is.

    Attributes
    ----------
    treatment : 0/1 array of shape (n,)
    outcome : array of shape (n,)
    covariate : array of shape (n,)
        One more.
    rows : int array of shape (m,)
        The units in use; some may come several times.
    repeated : bool
        Whether some do.
    seed : int
        For folds and fitted trees.
    """

    treatment: IntArray | None = None
    outcome: FloatArray | None = None
    covariate: FloatArray | None = None
    rows: IntArray | None = None
    repeated: bool = False
    seed: int = 0


Draw: TypeAlias = Callable[[np.random.Generator], Change]


# --- what is drawn --------------------------------------------------------------------------------------------------


def permuted_treatment(data: StudyData, strata: IntArray | None = None) -> tuple[Draw, str]:
    """Draws of a treatment without effect, and what they are in words.

    Permuted; within ``strata`` of shape (n,) if they are given; whole clusters where the treatment does not vary
    within them; and drawn anew by a score that is known and varies, since units are then not exchangeable.
    """
    t = data.treatment.astype(np.int8)  # a permutation of bytes stays in the processor's cache
    known = data.propensity
    first, own = _whole_clusters(data)
    by = "" if own is None else " by cluster"
    if known is not None and known.known and strata is None and np.ptp(known.score) > 0:
        chance = known.score if own is None else known.score[first]

        def by_design(rng: np.random.Generator) -> Change:
            drawn = (rng.random(len(chance)) < chance).astype(np.int64)
            return Change(treatment=drawn if own is None else drawn[own])

        return by_design, f"treatment drawn anew{by} by its known probabilities"
    if strata is not None:
        units = strata if own is None else strata[first]
        kept = t if own is None else t[first]
        order = np.argsort(units, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(units[order])) + 1)

        def within(rng: np.random.Generator) -> Change:
            drawn = np.empty(len(kept), dtype=np.int64)
            for part in parts:
                drawn[part] = rng.permutation(kept[part])
            return Change(treatment=drawn if own is None else drawn[own])

        return within, f"treatment permuted{by} within {len(parts)} strata of the score"
    kept = t if own is None else t[first]

    def anywhere(rng: np.random.Generator) -> Change:
        drawn = rng.permutation(kept).astype(np.int64)
        return Change(treatment=drawn if own is None else drawn[own])

    return anywhere, f"permuted treatment{by}"


def _whole_clusters(data: StudyData) -> tuple[IntArray, IntArray | None]:
    """The first row of each cluster and the cluster of each row; None where the treatment varies within one."""
    if data.clusters is None:
        return np.arange(data.n_obs), None
    _, first, own = np.unique(data.clusters, return_index=True, return_inverse=True)
    alike = bool((data.treatment == data.treatment[first][own]).all())
    return first, own.astype(np.int64) if alike else None


def score_strata(data: StudyData, n_strata: int) -> IntArray:
    """Strata of even size by the study's score, shape (n,); of clusters treated as a whole by their mean score.

    Raises
    ------
    CausalRecError
        For fewer than two strata, or more than there are pairs of units, and where there is no score.
    """
    if not isinstance(n_strata, int | np.integer) or not 2 <= n_strata <= max(2, data.n_obs // 2):
        raise CausalRecError(
            f"strata is {n_strata!r}; expected the number of strata of the score, from 2 to half the units, such as 5."
        )
    if data.X is None and data.propensity is None:
        raise CausalRecError("there are no covariates that a score could be made of; leave strata out.")
    score = data.score().score
    _, own = _whole_clusters(data)
    if own is not None:
        score = np.bincount(own, score) / np.bincount(own)
    cuts = np.unique(np.quantile(score, np.arange(1, n_strata) / n_strata))
    found = np.searchsorted(cuts, score, side="right").astype(np.int64)
    return found if own is None else found[own]


def random_cause(data: StudyData) -> tuple[Draw, str]:
    """Draws of a covariate that is nothing but noise.

    Raises
    ------
    CausalRecError
        Where there are no covariates that one could be added to.
    """
    if data.X is None:
        raise CausalRecError("there are no covariates, so that one more would not be adjusted for.")
    return lambda rng: Change(covariate=rng.normal(size=data.n_obs)), "a standard normal covariate added"


def subsets(data: StudyData, share: float) -> tuple[Draw, str]:
    """Draws of a share of the units (of whole clusters), without replacement.

    Raises
    ------
    CausalRecError
        For a share that is not within (0, 1), or leaves none or all.
    """
    members, n = _members(data)
    what = "units" if data.clusters is None else "clusters"
    size = round(share * n) if isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < 1 else 0
    if not 0 < size < n:
        raise CausalRecError(f"subset is {share!r}; expected the share of the {n:,} {what} to keep, such as 0.8.")
    return lambda rng: Change(rows=members(np.sort(rng.permutation(n)[:size]))), f"{share:.0%} of the {what}"


def resamples(data: StudyData) -> tuple[Draw, str]:
    """Draws of as many units (or whole clusters), with replacement."""
    members, n = _members(data)
    what = "units" if data.clusters is None else "clusters"
    return (
        lambda rng: Change(rows=members(np.sort(rng.integers(0, n, n))), repeated=True),
        f"{what} drawn with replacement",
    )


def _members(data: StudyData) -> tuple[Callable[[IntArray], IntArray], int]:
    """The rows of some units, and how many units there are: rows, or clusters."""
    if data.clusters is None:
        return lambda chosen: chosen, data.n_obs
    own = np.unique(data.clusters, return_inverse=True)[1]
    order = np.argsort(own, kind="stable")
    sizes = np.bincount(own)
    start = np.cumsum(sizes) - sizes

    def rows(chosen: IntArray) -> IntArray:
        length = sizes[chosen]
        before = np.cumsum(length) - length
        return np.asarray(order[np.repeat(start[chosen] - before, length) + np.arange(int(length.sum()))])

    return rows, len(sizes)


def dummy_outcome(data: StudyData, how: str) -> tuple[Draw, str]:
    """Draws of an outcome on the scale of the true one that the treatment did not change.

    ``"permuted"``: of other units. ``"simulated"``: what covariates say of it (least squares; logistic for 0/1) plus
    the residual of another unit, so that it hangs on the covariates as the true one does, and an estimator that does
    not adjust for them is caught.

    Raises
    ------
    CausalRecError
        For an unknown kind, or a simulated outcome without covariates.
    """
    if how == "permuted":
        return lambda rng: Change(outcome=rng.permutation(data.y)), "permuted outcome"
    if how != "simulated":
        raise CausalRecError(f"dummy is {how!r}; expected 'permuted' or 'simulated'.")
    if data.X is None:
        raise CausalRecError("there are no covariates to simulate an outcome from; pass dummy='permuted'.")
    binary = bool(np.isin(data.y, (0.0, 1.0)).all())
    mean, residual = _without_effect(data, "logistic" if binary else "linear")
    if binary:
        return (
            lambda rng: Change(outcome=(rng.random(len(mean)) < mean).astype(np.float64)),
            "0/1 outcome simulated from the covariates, without effect",
        )
    return (
        lambda rng: Change(outcome=mean + rng.permutation(residual)),
        "outcome simulated from the covariates and residuals of other units, without effect",
    )


def _without_effect(data: StudyData, family: str) -> tuple[FloatArray, FloatArray]:
    """Expected outcomes of all units as controls, from a regression on covariates and treatment, and its residuals."""
    matrix, names = as_design(data.X)
    weight = np.ones(data.n_obs) if data.sample_weight is None else data.sample_weight
    both = make_design(np.column_stack([matrix, data.treatment]), [*names, "treatment"], weight > 0)
    fit = fit_outcome(both.Z, data.y, weight, family, who="all")
    Z = both.Z.copy()
    if both.names[-1] == "treatment":
        Z[:, -1] = Z[data.treatment == 0, -1].min()
    shift = Z @ fit.coef
    if family == "logistic":
        return np.asarray(special.expit(shift)), fit.residual
    return np.asarray(shift), data.y - both.Z @ fit.coef


# --- the changed study ------------------------------------------------------------------------------------------------


def with_change(data: StudyData, change: Change) -> StudyData:
    """The study's units, changed: new arrays, with nothing fitted but a score that nothing in it has changed.

    Raises
    ------
    CausalRecError
        For a propensity that was fitted outside, and would have to be fitted anew.
    """
    found = data if change.treatment is None else data.with_treatment(change.treatment)
    if change.covariate is not None:
        _check_fitted_here(data, "more covariates")
        found = replace(found, X=with_column(data.X, change.covariate), _fits={})
    if change.rows is not None:
        _check_fitted_here(data, "other units")
        found = _of_rows(found, change.rows)
    if change.outcome is not None:
        scores = {key: fit for key, fit in found._fits.items() if key[0] == "score"}  # no outcome is in them
        found = replace(found, y=change.outcome, _fits=scores)
    return replace(found, random_state=change.seed)


def with_options(options: Mapping[str, Any], data: StudyData, change: Change) -> dict[str, Any]:
    """A method's options for the changed units: those that have a value per unit follow the rows."""
    if change.rows is None:
        return dict(options)
    return {name: _values_of(value, change.rows, data.n_obs) for name, value in options.items()}


def _values_of(value: Any, rows: IntArray, n: int) -> Any:
    if isinstance(value, pd.DataFrame | pd.Series) and len(value) == n:
        return value.iloc[rows].reset_index(drop=True)
    if isinstance(value, np.ndarray) and value.ndim and len(value) == n:
        return value[rows]
    if isinstance(value, list | tuple) and len(value) == n:
        return [value[i] for i in rows]
    return value


def _of_rows(data: StudyData, rows: IntArray) -> StudyData:
    """Some units, or some several times."""
    n = data.n_obs
    found: dict[str, Any] = {}
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if isinstance(value, PropensityResult):
            found[field.name] = replace(
                value, n_obs=len(rows), score=value.score[rows],
                sample_weight=None if value.sample_weight is None else value.sample_weight[rows],
            )  # fmt: skip
        elif field.name == "routes":
            found[field.name] = {name: route.take(rows) for name, route in value.items()}
        elif field.name not in ("kept", "notes", "_fits"):
            found[field.name] = _values_of(value, rows, n)
    return replace(data, **found, _fits={})


def _check_fitted_here(data: StudyData, what: str) -> None:
    if data.propensity is not None and not data.propensity.known:
        raise CausalRecError(
            f"propensity is given as fitted ({data.propensity.method}) and cannot be fitted anew for {what}; pass "
            "propensity_model instead."
        )


def with_column(X: Any, column: FloatArray, name: str = NOISE) -> Any:
    """Covariates with one more, under a name of its own; what is given is not changed."""
    if not isinstance(X, pd.DataFrame):
        return np.column_stack([X, column])
    while name in X.columns:
        name += "_"
    return X.assign(**{name: column}) if all(isinstance(c, str) for c in X.columns) else pd.concat(
        [X, pd.Series(column, name=name, index=X.index)], axis=1
    )  # fmt: skip
