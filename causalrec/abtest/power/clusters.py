"""What clusters cost: the correlation within them, and the factor that it puts on the variance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_length, check_vector
from causalrec.exceptions import CausalRecError, OutcomeError


def design_effect(mean_size: float, icc: float, *, size_std: float = 0.0) -> float:
    """The factor that clusters put on the variance of a mean of rows, for :class:`Design`.

    1 + (((size_std / mean_size)^2 + 1) mean_size - 1) icc (Eldridge, Ashby and Kerry 2006; of equal sizes Kish 1965).

    Parameters
    ----------
    mean_size, size_std : float
        Rows of a cluster: their mean (>= 1) and standard deviation.
    icc : float
        Correlation of two rows of a cluster, in [0, 1]; see :func:`intraclass_correlation`.

    Raises
    ------
    CausalRecError
        For numbers out of range.

    Examples
    --------
    >>> print(f"{design_effect(20, 0.05):.2f} {design_effect(20, 0.05, size_std=10):.2f}")
    1.95 2.20
    """
    expected = {
        "mean_size": (mean_size, 1 <= mean_size < math.inf, "rows of a cluster, >= 1"),
        "icc": (icc, 0 <= icc <= 1, "a correlation in [0, 1]"),
        "size_std": (size_std, 0 <= size_std < math.inf, "a finite number >= 0"),
    }
    for name, (found, fine, words) in expected.items():
        if not fine:
            raise CausalRecError(f"{name} is {found}; expected {words}.")
    return 1 + (((size_std / mean_size) ** 2 + 1) * mean_size - 1) * icc


def intraclass_correlation(values: Any, clusters: Any) -> float:
    """The correlation of two rows of one cluster, by analysis of variance (Donner 1986), in [-1 / (m - 1), 1].

    Parameters
    ----------
    values, clusters : array-like of shape (n,)
        Of one arm, or of a time before the experiment: an effect would count as correlation.

    Raises
    ------
    OutcomeError
        For missing values or clusters, fewer than two clusters, no cluster of two rows, or values that do not vary.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> user = np.repeat(np.arange(2_000), 5)
    >>> print(f"{intraclass_correlation(rng.normal(0, 0.5, 2_000)[user] + rng.normal(0, 1, 10_000), user):.2f}")
    0.21
    """
    y = check_vector(values, name="values")
    check_length(len(clusters), len(y), name="clusters")
    codes, labels = pd.factorize(np.asarray(clusters))
    n, k = len(y), len(labels)
    if (codes < 0).any():
        raise OutcomeError(f"clusters: {(codes < 0).sum()} of {n} are missing. Drop those rows first.")
    if not 1 < k < n:
        raise OutcomeError(
            f"found {k} clusters of {n} rows; a correlation within clusters needs two clusters, and one of two rows."
        )
    y = y - y.mean()
    sizes = np.bincount(codes)
    means = np.bincount(codes, y) / sizes
    between = float(sizes @ means**2) / (k - 1)
    within = float(((y - means[codes]) ** 2).sum()) / (n - k)
    size = (n - float(sizes @ sizes) / n) / (k - 1)
    if not between + within > 0:
        raise OutcomeError("values: all are the same, so they have no correlation. Check the column.")
    return (between - within) / (between + (size - 1) * within)
