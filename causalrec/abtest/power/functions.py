"""The power of two-sample tests, from the sampling law of their statistic; arrays are broadcast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from causalrec._typing import FloatArray
from causalrec.abtest.hypotheses import OneSidedTest


@dataclass(frozen=True)
class Sampling:
    """Mean and standard error of an estimated shift from the null, the error that the test believes, its df."""

    shift: FloatArray
    error: FloatArray
    null_error: FloatArray
    df: FloatArray | None = None  # None: the normal law

    def reject(self, direction: int, size: float) -> FloatArray:
        """P(the one-sided test at level ``size`` rejects that the shift is zero in this direction)."""
        with np.errstate(divide="ignore"):  # no error left: certain
            shift = direction * self.shift / self.error
        if self.df is not None:
            return _noncentral_t_tail(-special.stdtrit(self.df, size), self.df, shift)
        return np.asarray(special.ndtr(shift + special.ndtri(size) * self.null_error / self.error))


_NODES, _WEIGHTS = (a / 2 for a in np.polynomial.legendre.leggauss(96))


def _noncentral_t_tail(critical: FloatArray, df: FloatArray, shift: FloatArray) -> FloatArray:
    """P(T > critical) of noncentral t, also where scipy gives NaN, as it does for some shifts of 37 and more.

    There the mean over the chi-square law of its variance, of P(Z > critical s / sigma - shift), by Gauss and Legendre.
    """
    critical, df, shift = np.broadcast_arrays(critical, df, shift)
    found = np.atleast_1d(1 - special.nctdtr(df, shift, critical))
    lost = np.isnan(found)
    if lost.any():
        t, nu, mean = (np.atleast_1d(a)[lost][:, None] for a in (critical, df, shift))
        spread = np.sqrt(special.chdtri(nu, _NODES + 0.5) / nu)
        found[lost] = special.ndtr(mean - t * spread) @ _WEIGHTS
    return found.reshape(critical.shape)


def sampling_of_means(
    mean: float, std: float, effect: FloatArray, n0: FloatArray, n1: FloatArray, test: OneSidedTest, *, method: str
) -> Sampling:
    """Of treatment - theta x control - offset; ``std`` is that of both arms.

    The law is normal (``"normal"``), or Student's t with Welch's (``"t"``) or the pooled variance's (``"student"``)
    degrees of freedom.
    """
    shift = effect - test.offset
    if test.theta != 1:
        shift = shift + (1 - test.theta) * mean
    v0, v1 = (test.theta * std) ** 2 / n0, std**2 / n1
    error = np.sqrt(v0 + v1)
    df = {"t": _welch_df(v0, n0, v1, n1), "student": n0 + n1 - 2, "normal": None}[method]
    return Sampling(shift, error, error, df)


def sampling_of_relative_effect(
    mean: float, std: float, effect: FloatArray, n0: FloatArray, n1: FloatArray, *, method: str
) -> Sampling:
    """Of treatment / control - 1 by the delta method, times the control mean; tested against zero."""
    grown = 1 + effect / mean
    v0, v1 = (grown * std) ** 2 / n0, std**2 / n1
    error = np.sqrt(v0 + v1)
    return Sampling(np.asarray(effect), error, error, _welch_df(v0, n0, v1, n1) if method == "t" else None)


def _welch_df(v0: FloatArray, n0: FloatArray, v1: FloatArray, n1: FloatArray) -> FloatArray:
    return np.asarray((v0 + v1) ** 2 / (v0**2 / (n0 - 1) + v1**2 / (n1 - 1)))


def sampling_of_proportions(
    p0: float,
    effect: FloatArray,
    n0: FloatArray,
    n1: FloatArray,
    test: OneSidedTest,
    *,
    pooled: bool,
    variance_factor: float,
) -> Sampling:
    """Of p1 - theta p0 - offset; ``pooled`` tests with the variance of no effect (Fleiss et al. 2003, ch. 4)."""
    p1 = p0 + effect
    v0, v1 = p0 * (1 - p0) / n0, p1 * (1 - p1) / n1
    error = np.sqrt(variance_factor * (test.theta**2 * v0 + v1))
    null_error = error
    if pooled:
        share = (n0 * p0 + n1 * p1) / (n0 + n1)
        null_error = np.sqrt(variance_factor * share * (1 - share) * (1 / n0 + 1 / n1))
    return Sampling(p1 - test.theta * p0 - test.offset, error, null_error)


def sampling_of_arcsines(
    p0: float, effect: FloatArray, n0: FloatArray, n1: FloatArray, *, variance_factor: float
) -> Sampling:
    """Of Cohen's (1988) h = 2 arcsin(sqrt(p1)) - 2 arcsin(sqrt(p0)), whose variance does not depend on p."""
    h = 2 * np.arcsin(np.sqrt(p0 + effect)) - 2 * np.arcsin(np.sqrt(p0))
    error = np.sqrt(variance_factor * (1 / n0 + 1 / n1))
    return Sampling(h, error, error)
