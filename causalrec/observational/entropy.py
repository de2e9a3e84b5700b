"""Entropy balancing: weights that give one arm exactly the covariate means of a population."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from causalrec._threads import one_thread
from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_treatment, check_two_arms, check_weights, list_some
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational._weights import check_arms_weigh, weights_result
from causalrec.observational.design import as_design, check_estimand
from causalrec.results import WeightsResult

_STEPS = 200
_BALANCED = 1e-9  # in standard deviations
_FLAT = 1e-12  # least variance of a direction, as a share of the largest
_OFF = 1e-5  # most that a mean may be off in a direction without variance, in standard deviations
_SMALL = 10**8


class _Tilt(NamedTuple):
    """Weights that sum to one over the units of a pool, and the inverse of their moments' derivative."""

    weight: FloatArray
    bread: FloatArray


def entropy_balancing(
    X: Any,
    *,
    treatment: Any,
    estimand: str = "att",
    moments: int = 1,
    interactions: bool = False,
    base_weights: Any = None,
    sample_weight: Any = None,
    control: Any = None,
) -> WeightsResult:
    r"""Weights nearest to equal ones that balance the means of the covariates exactly.

    The weights :math:`w_i = q_i e^{\lambda^\top x_i}` of an arm minimise the relative entropy :math:`\sum w \log (w/q)`
    to base weights q, given that their means of x are those of the treated (att), the controls (atc), or all units
    (ate, for both arms). λ is found by Newton's method on the convex dual, until no mean differs by a billionth of a
    standard deviation. Effects come from :func:`weighting_effect`.

    Parameters
    ----------
    X : frame or array of shape (n, p)
    treatment : array-like of shape (n,)
        0/1, or two labels with ``control``.
    estimand : {"att", "atc", "ate"}
    moments : int
        1 for means, 2 for means of squares too, so that variances agree, and so on; of covariates that have more than
        two values.
    interactions : bool
        Balance the means of the products of each two covariates too.
    base_weights : array-like of shape (n,), optional
        q, instead of equal ones.
    sample_weight : array-like of shape (n,), optional
        What each unit counts in the population; multiplies q.
    control : label, optional

    Raises
    ------
    OverlapError
        When no weights give these means: they lie outside of the convex hull of the arm. The covariates that are in
        the way are named.
    CausalRecError, ColumnError, TreatmentError
        For other estimands or moments, missing values, one arm, or an arm without weight.

    Notes
    -----
    Hainmueller 2012, Political Analysis 20, "Entropy balancing for causal effects", equations 4 to 8. The estimate is
    doubly robust: right where the log odds of treatment, or the outcome without treatment, are linear in what is
    balanced (Zhao and Percival 2017, Journal of Causal Inference 5). Where all units of the population lie at the
    edge of a covariate's range, units of the arm elsewhere get weight zero.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [1.0], [2.0]])
    >>> entropy_balancing(X, treatment=[0, 0, 0, 1, 1]).weights.round(4).tolist()
    [0.2324, 0.5352, 1.2324, 1.0, 1.0]
    """
    check_estimand(estimand)
    if not isinstance(moments, int | np.integer) or moments < 1:
        raise CausalRecError(f"moments is {moments!r}; expected a whole number: 1 for means, 2 for variances too.")
    matrix, names = as_design(X)
    n = len(matrix)
    codes, labels = check_treatment(treatment, n_rows=n, control=control)
    check_two_arms(labels, what="entropy balancing")
    given, base = check_weights(sample_weight, n_rows=n), check_weights(base_weights, n_rows=n)
    population = given * {"att": codes == 1, "atc": codes == 0}.get(estimand, 1.0)
    check_arms_weigh(given * base, codes, labels)
    with one_thread(n * matrix.shape[1] ** 2 < _SMALL):
        Z, names = moment_columns(matrix, names, moments, interactions=interactions)
        Z -= np.average(Z, axis=0, weights=population)
        return _balance(Z, names, codes, labels, given * base, population, estimand)


def moment_columns(
    X: FloatArray, names: AnyArray, moments: int = 1, *, interactions: bool = False
) -> tuple[FloatArray, AnyArray]:
    """Columns whose means are to agree, in standard deviations, and their names.

    Powers are of standardised covariates, so that units change nothing; columns that do not vary are left out.
    """
    columns, labels = [], []
    spread = X.std(axis=0)
    for j in np.flatnonzero(spread > 1e-12 * np.abs(X).max(axis=0, initial=0.0)):
        x = (X[:, j] - X[:, j].mean()) / spread[j]
        binary = moments > 1 and bool(((x == x.min()) | (x == x.max())).all())
        columns.append([x, *(x**k for k in range(2, 1 if binary else moments + 1))])
        labels.append([str(names[j]), *(f"{names[j]}^{k}" for k in range(2, 1 if binary else moments + 1))])
    pairs = list(combinations(range(len(columns)), 2)) if interactions else []
    flat = [x for powers in columns for x in powers] + [columns[a][0] * columns[b][0] for a, b in pairs]
    flat_names = [name for powers in labels for name in powers] + [f"{labels[a][0]} × {labels[b][0]}" for a, b in pairs]
    sizes = [float(x.std()) for x in flat]
    varied = [j for j, size in enumerate(sizes) if size > _FLAT]
    if not varied:
        raise CausalRecError("no covariate varies: there is nothing to balance. Pass covariates that differ.")
    Z = np.empty((len(X), len(varied)))
    for place, k in enumerate(varied):
        Z[:, place] = flat[k] / sizes[k]
    return Z, np.array([flat_names[j] for j in varied], dtype=object)


def _balance(
    Z: FloatArray,
    names: AnyArray,
    codes: IntArray,
    labels: tuple[Any, ...],
    base: FloatArray,
    population: FloatArray,
    estimand: str,
) -> WeightsResult:
    """Bring the arms that are not the population to its means, which are zero; stack their estimating equations."""
    total = float(population.sum())
    arms = {"att": (0,), "atc": (1,), "ate": (0, 1)}[estimand]
    weight = np.where(np.isin(codes, arms), 0.0, population)
    residual, slope = np.zeros((len(Z), len(arms))), np.zeros((len(Z), len(arms)))
    bread = np.empty((len(arms), Z.shape[1], Z.shape[1]))
    for b, arm in enumerate(arms):
        pool = np.flatnonzero((codes == arm) & (base > 0))
        tilt = _tilt(Z[pool], base[pool] / base[pool].sum(), names, labels[arm])
        weight[pool] = total * tilt.weight
        slope[pool, b] = weight[pool]
        residual[:, b] = population
        residual[pool, b] -= weight[pool]
        bread[b] = tilt.bread / total
    return weights_result(
        weight, codes, estimand=estimand, method=f"entropy balancing of {Z.shape[1]} mean{'s' * (Z.shape[1] != 1)}",
        design=Z, residual=residual, slope=slope, bread=bread,
    )  # fmt: skip


def _tilt(D: FloatArray, q: FloatArray, names: AnyArray, label: Any) -> _Tilt:
    """Weights q exp(λ'd) of a pool that bring the mean of ``D`` to zero."""
    inside = _on_faces(D, names, label)
    reachable, base = D[inside], q[inside] / q[inside].sum()
    mean = base @ reachable
    values, vectors = np.linalg.eigh((reachable * base[:, None]).T @ reachable - np.outer(mean, mean))
    flat = values <= _FLAT * max(float(values[-1]), _FLAT)
    off = np.abs(mean @ vectors[:, flat])
    if off.size and off.max() > _OFF:
        raise _infeasible(names, vectors[:, flat][:, int(np.argmax(off))], label)
    spread = np.sqrt(values[~flat])
    whiten = vectors[:, ~flat] / spread
    weight, (weight[inside], lam) = np.zeros(len(D)), _solve(reachable @ whiten, base, spread)
    if lam is not None:
        raise _infeasible(names, whiten @ lam, label)
    moment = (D * weight[:, None]).T @ D
    return _Tilt(weight, np.asarray(np.linalg.pinv(moment, rcond=_FLAT, hermitian=True), dtype=np.float64))


def _on_faces(D: FloatArray, names: AnyArray, label: Any) -> AnyArray:
    """The units that can have weight: a mean at the edge of a covariate's range leaves only those at this edge."""
    inside = np.ones(len(D), dtype=bool)
    for _ in range(D.shape[1] + 1):
        low, high = D[inside].min(axis=0), D[inside].max(axis=0)
        beyond = (low > _BALANCED) | (high < -_BALANCED)
        if beyond.any():
            raise _infeasible(names, beyond * 1.0, label)
        edge = ((low > -_BALANCED) | (high < _BALANCED)) & (high - low > 2 * _BALANCED)
        if not edge.any():
            return inside
        inside &= (np.abs(D[:, edge]) <= _BALANCED).all(axis=1)
    return inside


def _solve(W: FloatArray, q: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Newton's method on log Σ q exp(λ'w), which is convex, with step halving; ``spread`` are the units of ``W``.

    At a solution it is minus the relative entropy, which no weights bring above -log min q: below that there is none,
    and the direction λ that leads there is returned beside the weights.
    """
    lam = np.zeros(W.shape[1])
    floor = float(np.log(q.min())) - 1e-6
    value, weight = _log_mean(W @ lam, q)
    for _ in range(_STEPS):
        gradient = weight @ W
        if np.abs(gradient * spread).max(initial=0.0) < _BALANCED:
            return weight, None
        hessian = (W * weight[:, None]).T @ W - np.outer(gradient, gradient)
        hessian[np.diag_indices_from(hessian)] += 1e-14 * np.trace(hessian)
        step = np.linalg.lstsq(hessian, -gradient, rcond=None)[0]
        size, slope = 1.0, float(gradient @ step)
        trial, moved = _log_mean(W @ (lam + step), q)
        while trial > value + 1e-4 * size * slope + 1e-14 * abs(value) and size > 1e-8:
            size /= 2
            trial, moved = _log_mean(W @ (lam + size * step), q)
        lam, value, weight = lam + size * step, trial, moved
        if value < floor:
            break
    return weight, lam


def _log_mean(eta: FloatArray, q: FloatArray) -> tuple[float, FloatArray]:
    """The logarithm of Σ q exp(eta), and its gradient by eta: weights that sum to one."""
    top = float(eta.max())
    tilted = q * np.exp(eta - top)
    total = float(tilted.sum())
    return top + float(np.log(total)), tilted / total


def _infeasible(names: AnyArray, direction: FloatArray, label: Any) -> OverlapError:
    size = np.abs(direction)
    named = names[np.argsort(-size, kind="stable")][: max(1, min(3, int((size > 0.3 * size.max()).sum())))]
    return OverlapError(
        f"no weights of the units of arm {label!r} give the means asked for: they lie outside of what they "
        f"span, above all in {list_some(named)}. Leave these out, ask for fewer moments, or restrict the data to where "
        "both arms occur."
    )
