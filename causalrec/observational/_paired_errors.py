"""Effects from matched sets that share no unit, and their errors: clustered by set, and by user as well."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.observational._errors import clustered_by, sandwich_error
from causalrec.observational.design import regressors
from causalrec.results import MatchResult


class Members(NamedTuple):
    """A row per unit in a set: its set, its row number, and its weight, before that is shared among ties."""

    group: IntArray
    row: IntArray
    weight: FloatArray


def paired_effect(
    y: FloatArray,
    match: MatchResult,
    treatment: IntArray,
    *,
    X: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> tuple[float, float, str]:
    """The weighted difference of the matched arms, and its standard error clustered by matched set.

    The coefficient of the treatment in a weighted regression of the outcome on it, and on ``X`` if given. Clustering
    by set is valid after matching without replacement, though the sets depend on the data (Abadie and Spiess 2022,
    JASA 117, "Robust post-matching inference", propositions 2 and 3): if matches are so close that what remains of
    bias is small against the error, or the regression on ``X`` is right. The score counts as known: where it was
    estimated on these units, and the outcome depends on what it balances by chance, the error is too large (by a third
    to a half in the simulations of the tests), unless ``X`` has these covariates. With ``clusters``, users seen in
    several rows, it is clustered both ways.

    Where tied units share their weight, the squares are expected values over which of them is taken. Strata of the
    score (``method="fine"``) are few and large: there the error is by unit, within strata (:func:`strata_influence`).

    Parameters
    ----------
    y : array of shape (n,)
    match : MatchResult of matching without replacement
    treatment : 0/1 array of shape (n,)
    X : array of shape (n, p), optional
        Covariates to adjust for what matching left.
    clusters : int array of shape (n,), optional

    Returns
    -------
    estimate, std_error : float
        The error is NaN for a single set, or a single cluster.
    note : str
        What the error is.
    """
    estimate, factor = _regression(y, treatment, match.weights, X)
    members = members_of(match, treatment)
    if match.method == "fine":
        influence = strata_influence(factor, members, treatment, match.unit)
        used = members.row
        error = sandwich_error(influence[used], None if clusters is None else clusters[used])
        return estimate, error, "error within strata" + clustered_by(clusters)
    sets = set_error(factor, members, match.tie)
    if clusters is None:
        return estimate, sets, "error clustered by matched set"
    used = np.flatnonzero(match.weights > 0)
    users = sandwich_error((match.weights * factor)[used], clusters[used])
    variance = sets**2 + users**2 - _both_at_once(factor, members, match.tie, clusters)
    error = math.sqrt(variance) if variance > 0 else max(sets, users)
    return estimate, error, "error clustered by matched set" + clustered_by(clusters).replace(", clustered", " and")


def _regression(
    y: FloatArray, treatment: IntArray, weights: FloatArray, X: FloatArray | None
) -> tuple[float, FloatArray]:
    """The coefficient of the treatment, and each row's influence on it per unit of its weight."""
    used = np.flatnonzero(weights > 0)
    w, d, out = weights[used], treatment[used].astype(np.float64), y[used]
    Z = np.ones((len(used), 1)) if X is None else regressors(X[used])
    root = np.sqrt(w)[:, None]
    # Frisch–Waugh–Lovell: what is left of treatment and outcome after the other regressors.
    both = np.column_stack([d, out])
    left = both - Z @ np.linalg.lstsq(root * Z, root * both, rcond=None)[0]
    size = float(w @ left[:, 0] ** 2)
    estimate = float(w @ (left[:, 0] * left[:, 1])) / size
    factor = np.zeros(len(y))
    factor[used] = left[:, 0] * (left[:, 1] - estimate * left[:, 0]) / size
    return estimate, factor


def members_of(match: MatchResult, treatment: IntArray) -> Members:
    """Members of sets that share no unit: pairs, or subclasses, where all of an arm have the same slice of the pool."""
    asking = treatment[match.unit] == treatment[match.unit[0]]  # for the ate the sets of one arm hold everybody
    unit = match.unit[asking]
    start, first, group, askers = np.unique(
        match.start[asking], return_index=True, return_inverse=True, return_counts=True
    )
    size = match.stop[asking][first] - start
    ends = np.cumsum(size)
    row = match.pool[np.arange(int(size.sum())) + np.repeat(start - ends + size, size)]
    own, share = np.ones(len(unit)), np.repeat(askers / size, size)
    if match.estimand == "ate":
        own, share = own + (size / askers)[group], share + 1
    return Members(
        np.concatenate([group, np.repeat(np.arange(len(size)), size)]), np.concatenate([unit, row]),
        np.concatenate([own, share]),
    )  # fmt: skip


def set_error(factor: FloatArray, members: Members, tie: IntArray | None = None) -> float:
    """The root of Σ_sets (Σ w_i factor_i)², times G / (G - 1): :func:`sandwich_error` clustered by set.

    With classes of ties, the expectation of the squares: a set holds c of the n units of a class, drawn without
    replacement, so that their sum has mean c times the class mean, and variance c (n - c) / (n - 1) times its variance.
    """
    n_sets = int(members.group.max()) + 1
    if n_sets < 2:
        return float("nan")
    if tie is None:
        sums = np.bincount(members.group, members.weight * factor[members.row])
        return math.sqrt(float(sums @ sums) * n_sets / (n_sets - 1))
    size = np.bincount(tie)
    mean = np.bincount(tie, factor) / size
    spread = np.bincount(tie, (factor - mean[tie]) ** 2) / size
    pairs = members.group * len(size) + tie[members.row]
    _, first, count = np.unique(pairs, return_index=True, return_counts=True)
    group, weight, kind = members.group[first], members.weight[first], tie[members.row[first]]
    sums = np.bincount(group, weight * count * mean[kind])
    left = (size[kind] - count) / np.maximum(size[kind] - 1, 1)
    variance = float(sums @ sums) + float((weight**2 * count * left) @ spread[kind])
    return math.sqrt(variance * n_sets / (n_sets - 1))


def strata_influence(factor: FloatArray, members: Members, treatment: IntArray, asked: IntArray) -> FloatArray:
    """Influence of each row, shape (n,), where sets are strata of the score: deviations from the mean of the arm there.

    Their squares are Neyman's variance in every stratum, divisors n - 1, plus the spread of the effect between strata
    by the units whose effect is ``asked`` for. A unit alone in its arm and stratum deviates from the mean of all.
    """
    cell = 2 * members.group + treatment[members.row]
    here, weight = factor[members.row], members.weight
    size = np.bincount(cell)
    mean = np.bincount(cell, here) / np.maximum(size, 1)
    alone = size[cell] == 1
    inside = np.where(alone, here, (here - mean[cell]) * np.sqrt(size[cell] / np.maximum(size[cell] - 1, 1)))
    share = np.zeros(len(factor))
    share[asked] = 1.0
    share = share[members.row]
    share /= np.bincount(members.group, share)[members.group]
    total = np.bincount(members.group, weight * here)
    influence = np.zeros(len(factor))
    influence[members.row] = weight * inside + share * total[members.group]
    return influence


def _both_at_once(factor: FloatArray, members: Members, tie: IntArray | None, clusters: IntArray) -> float:
    """Variance clustered by set and user at once: among ties as if no user had two rows in one set."""
    if tie is not None:
        squares = (np.bincount(tie, factor**2) / np.bincount(tie))[tie[members.row]]
        n = len(members.row)
        return float(members.weight**2 @ squares) * n / (n - 1)
    users = np.unique(clusters, return_inverse=True)[1][members.row]
    both = members.group * (int(users.max()) + 1) + users
    return sandwich_error(members.weight * factor[members.row], both) ** 2
