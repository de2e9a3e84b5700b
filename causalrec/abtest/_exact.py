"""Exact tests of two binomial counts: Fisher's, Barnard's and Boschloo's.

Barnard's and Boschloo's p-value is the largest probability, over the share that both arms have under the null, of a
table at least as extreme as the one seen. Tables that are equally extreme but for rounding count as such; scipy's
Barnard test compares the statistics as they are rounded, and can leave such tables out.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats
from scipy.optimize import minimize_scalar

from causalrec._typing import BoolArray, FloatArray
from causalrec.exceptions import CausalRecError

_MOST_TABLES = 1_000_000  # possible outcomes that Barnard's and Boschloo's tests go through
_TIE = 1e-9
_HELD = 4_000_000  # numbers held at once
_PEAKS = 5


def exact_pvalue(x0: int, n0: int, x1: int, n1: int, method: str, alternative: str, *, pooled: bool = True) -> float:
    """Fisher's conditional test, Barnard's (1945, of the z statistic) or Boschloo's (1970, of Fisher's p).

    Of two sides Fisher's adds up the tables that are no likelier, Barnard's those with a z no smaller in size, and
    Boschloo's is twice the smaller of the one-sided p-values, as scipy's are.

    Raises
    ------
    CausalRecError
        For Barnard's and Boschloo's tests of more tables than can be gone through.

    Examples
    --------
    >>> print(f"{exact_pvalue(2, 8, 6, 9, 'boschloo', 'greater'):.4f}")
    0.0551
    """
    if method == "fisher":
        table = [[x1, x0], [n1 - x1, n0 - x0]]
        return float(stats.fisher_exact(table, alternative=alternative).pvalue)
    n_tables = (n0 + 1) * (n1 + 1)
    if n_tables > _MOST_TABLES:
        raise CausalRecError(
            f"method={method!r} would go through {n_tables:,} possible tables, more than {_MOST_TABLES:,}; with arms "
            f"of {n0:,} and {n1:,} units take 'miettinen-nurminen' or 'fisher'."
        )
    if method == "boschloo" and alternative == "two-sided":
        return min(1.0, 2 * min(exact_pvalue(x0, n0, x1, n1, method, side) for side in ("greater", "less")))
    a, b = np.arange(n0 + 1)[:, None], np.arange(n1 + 1)[None, :]
    if method == "boschloo":
        above = alternative == "greater"
        tail = stats.hypergeom.sf(b - 1, n0 + n1, a + b, n1) if above else stats.hypergeom.cdf(b, n0 + n1, a + b, n1)
        extreme = tail <= tail[x0, x1] * (1 + _TIE)
    else:
        z = _z(a / n0, n0, b / n1, n1, pooled=pooled)
        z = {"greater": z, "less": -z, "two-sided": np.abs(z)}[alternative]
        extreme = z >= z[x0, x1] - _TIE * max(1.0, abs(z[x0, x1])) if math.isfinite(z[x0, x1]) else z == z[x0, x1]
    return _largest_probability(extreme)


def _z(p0: FloatArray, n0: int, p1: FloatArray, n1: int, *, pooled: bool) -> FloatArray:
    gap = p1 - p0
    share = (n0 * p0 + n1 * p1) / (n0 + n1)
    variance = share * (1 - share) * (1 / n0 + 1 / n1) if pooled else p0 * (1 - p0) / n0 + p1 * (1 - p1) / n1
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(gap) < 1e-12, 0.0, gap / np.sqrt(np.maximum(variance, 0.0)))


def _largest_probability(extreme: BoolArray) -> float:
    """Of a set of tables (n0 + 1, n1 + 1), over the common share p = sin(angle)^2: a grid, then its highest peaks.

    On that scale a binomial law of n units has everywhere the width 1 / (2 sqrt(n)).
    """
    n0, n1 = extreme.shape[0] - 1, extreme.shape[1] - 1
    weights = extreme.astype(np.float64)
    arms = [(n, -special.betaln(np.arange(n + 1) + 1, n - np.arange(n + 1) + 1) - math.log(n + 1)) for n in (n0, n1)]

    def probability(angles: FloatArray) -> FloatArray:
        control, treatment = (np.exp(log_choose + _log_power(n, angles)) for n, log_choose in arms)
        return np.asarray(((control @ weights) * treatment).sum(axis=1))

    angles = np.linspace(0, math.pi / 2, 200 + 8 * math.isqrt(max(n0, n1)))
    step, size = angles[1], max(1, _HELD // (n0 + n1 + 2))
    found = np.concatenate([probability(angles[i : i + size]) for i in range(0, len(angles), size)])
    padded = np.concatenate([[-1.0], found, [-1.0]])
    peaks = np.flatnonzero((found >= padded[:-2]) & (found >= padded[2:]))
    best = float(found.max())
    for i in peaks[np.argsort(-found[peaks])][:_PEAKS]:
        bounds = (max(angles[i] - step, 0.0), min(angles[i] + step, math.pi / 2))
        top = minimize_scalar(
            lambda angle: -float(probability(np.array([angle]))[0]), bounds=bounds, method="bounded",
            options={"xatol": 1e-9},
        )  # fmt: skip
        best = max(best, -float(top.fun))
    return min(best, 1.0)


def _log_power(n: int, angles: FloatArray) -> FloatArray:
    """X log p + (n - x) log(1 - p) for x of 0 to n, shape (len(angles), n + 1)."""
    sine, cosine = np.maximum(np.sin(angles), 1e-150)[:, None], np.maximum(np.cos(angles), 1e-150)[:, None]
    return np.asarray(2 * np.arange(n + 1) * np.log(sine / cosine) + 2 * n * np.log(cosine))
