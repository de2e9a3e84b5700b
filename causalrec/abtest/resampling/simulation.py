"""A/A simulation: does the analysis, on the user's own data, find nothing where there is nothing to find?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from causalrec._resampling import Progress, draw_in_blocks
from causalrec._typing import FloatArray, RandomState
from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.moments import Moments
from causalrec.results import AAResult


def simulate_aa(
    values: Any,
    names: Sequence[str],
    pvalue: Callable[[Moments, Moments], float],
    *,
    weights: tuple[float, float] = (0.5, 0.5),
    n_simulations: int = 1_000,
    alpha: float = 0.05,
    confidence_level: float = 0.95,
    metric: str = "metric",
    method: str = "",
    rng: RandomState = None,
    progress: Progress | None = None,
) -> AAResult:
    """Split the units by lot again and again, analyse each split, and see how often p falls below ``alpha``.

    Each unit goes to treatment with its designed share, independently, as in an experiment. The moments of an arm are
    sums over its units, so a block of simulations is one product of matrices, and control is the rest.

    Parameters
    ----------
    values : array-like of shape (n_units, p)
        A row per unit of randomisation: the columns that the analysis needs, of both arms of the past experiment or of
        a time without one.
    names : sequence of str, length p
    pvalue : callable
        The analysis: from the moments of control and of treatment (over ``names``) to a p-value. NaN, or an
        ``OutcomeError``, where a split allows none; those simulations do not count, and ``method`` says how many.
    weights : pair of floats
        Designed shares of control and treatment, in any scale.
    n_simulations : int
    alpha : float
        In (0, 1).
    confidence_level : float
        Of the exact binomial interval (Clopper and Pearson 1934) of the false-positive rate.
    metric, method : str
        For the result.
    rng : int or Generator, optional
    progress : callable, optional
        Called with the simulations done and those asked for.

    Returns
    -------
    AAResult
        ``calibrated`` says whether ``alpha`` is in the interval, ``uniformity_pvalue`` tests that p-values are uniform
        (Kolmogorov and Smirnov). P-values of discrete data, such as exact tests of proportions, are not.

    Raises
    ------
    OutcomeError
        For missing or infinite values, fewer than four units, or no simulation with a p-value.
    TreatmentError
        For weights that are not two positive numbers.
    CausalRecError
        For another shape, or an ``alpha`` outside (0, 1).

    Examples
    --------
    >>> def z_test(control, treatment):
    ...     variance = control.var_of("spend") / control.n + treatment.var_of("spend") / treatment.n
    ...     z = (treatment.mean_of("spend") - control.mean_of("spend")) / variance**0.5
    ...     return 2 * stats.norm.sf(abs(z))
    >>> spend = np.random.default_rng(0).exponential(10, size=(5_000, 1))
    >>> simulate_aa(spend, ["spend"], z_test, n_simulations=400, rng=1).calibrated
    True
    """
    check_confidence_level(confidence_level)
    if not 0 < alpha < 1:
        raise CausalRecError(f"alpha is {alpha}; expected a number in (0, 1), such as 0.05.")
    share = _treated_share(weights)
    array = np.asarray(values, dtype=np.float64)
    everybody = Moments.from_array(array, names)
    if everybody.n < 4:
        raise OutcomeError(f"{metric}: found {everybody.n} units; an A/A simulation needs at least four.")
    splits = _Splits(array, everybody, share)
    sums = draw_in_blocks(splits.treated_sums, n_simulations, width=everybody.n, rng=rng, progress=progress)
    pvalues = np.array([_pvalue_or_nan(pvalue, *splits.moments(row)) for row in sums])
    found = pvalues[~np.isnan(pvalues)]
    if not len(found):
        raise OutcomeError(
            f"{metric}: none of {n_simulations} splits gave a p-value. There are too few units, or the metric does not "
            "vary; look at it first."
        )
    n_without = n_simulations - len(found)
    note = f"{n_without:,} of {n_simulations:,} splits gave no p-value" if n_without else ""
    hits = stats.binomtest(int((found < alpha).sum()), len(found), alpha)
    interval = hits.proportion_ci(confidence_level, method="exact")
    return AAResult(
        metric=metric, alpha=alpha, false_positive_rate=float(hits.statistic), ci_low=float(interval.low),
        ci_high=float(interval.high), uniformity_pvalue=float(stats.kstest(found, "uniform").pvalue),
        calibrated=bool(interval.low <= alpha <= interval.high), n_simulations=len(found), n_obs=everybody.n,
        method="; ".join(part for part in (method, "random splits of the units", note) if part), pvalues=found,
    )  # fmt: skip


class _Splits:
    """Moments of random subsets, from sums of the columns and of their products."""

    def __init__(self, values: FloatArray, everybody: Moments, share: float) -> None:
        self._everybody = everybody
        self._share = share
        self._pairs = np.triu_indices(values.shape[1])
        centred = values - everybody.mean  # so that products of sums do not swallow the variances
        products = centred[:, self._pairs[0]] * centred[:, self._pairs[1]]
        self._columns = np.column_stack([np.ones(len(values)), centred, products])
        self._total = self._columns.sum(axis=0)

    def treated_sums(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Sums over the treated units of ``size`` splits: n, columns, products."""
        treated = rng.random((size, self._everybody.n), dtype=np.float32) < np.float32(self._share)
        return np.asarray(treated.astype(np.float64) @ self._columns)

    def moments(self, treated: FloatArray) -> tuple[Moments, Moments]:
        """Control and treatment from one row of :meth:`treated_sums`."""
        return self._moments(self._total - treated), self._moments(treated)

    def _moments(self, sums: FloatArray) -> Moments:
        p = len(self._everybody.names)
        n, column_sums = round(sums[0]), sums[1 : p + 1]
        mean = column_sums / max(n, 1)
        products = np.zeros((p, p))
        products[self._pairs] = sums[p + 1 :]
        products.T[self._pairs] = sums[p + 1 :]
        products -= n * np.outer(mean, mean)
        np.fill_diagonal(products, np.maximum(products.diagonal(), 0.0))
        return Moments(n, self._everybody.names, self._everybody.mean + mean, products)


def _treated_share(weights: tuple[float, float]) -> float:
    if len(weights) != 2 or not all(math.isfinite(w) and w > 0 for w in weights):
        raise TreatmentError(
            f"weights are {weights}; expected two positive numbers, control first, such as (0.9, 0.1)."
        )
    return float(weights[1] / (weights[0] + weights[1]))


def _pvalue_or_nan(pvalue: Callable[[Moments, Moments], float], control: Moments, treatment: Moments) -> float:
    try:
        return float(pvalue(control, treatment))
    except OutcomeError:  # this split has too few units, or no variance
        return math.nan
