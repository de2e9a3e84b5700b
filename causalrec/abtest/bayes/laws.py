"""Posterior laws of independent arms: Betas of shares, Gammas of rates, normals of anything with a standard error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError

_TINY = 1e-16  # of probability: what lies beyond is left out of integrals
_LEAST = 1e-300


@dataclass(frozen=True, eq=False)
class Arms(ABC):
    """The posteriors of k independent arms, of one family.

    ``first`` and ``second`` are the family's parameters, arrays of shape (k,). Integrals are taken over a coordinate t
    in which every density is smooth and falls off exponentially: the logit of a share, the logarithm of a rate, the
    value itself where it is normal.
    """

    first: FloatArray
    second: FloatArray
    ends: ClassVar[tuple[float, ...]] = ()  # finite ends of the values' range

    @classmethod
    def of(cls, first: ArrayLike, second: ArrayLike) -> Self:
        """From one pair of parameters, or sequences of them.

        Raises
        ------
        CausalRecError
            For parameters that are not finite, or not positive where they must be.
        """
        one, two = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (first, second)))
        arms = cls(one.copy(), two.copy())
        positive = two if isinstance(arms, Normals) else np.concatenate([one, two])
        if not (np.isfinite(one).all() and np.isfinite(two).all() and (positive > 0).all()):
            raise CausalRecError(
                f"found the parameters {one.tolist()} and {two.tolist()}; expected finite numbers, positive ones "
                f"({'but for the means' if isinstance(arms, Normals) else 'all of them'})."
            )
        return arms

    def __len__(self) -> int:
        return len(self.first)

    def take(self, which: int | Sequence[int]) -> Self:
        """Some of the arms."""
        index = np.atleast_1d(which)
        return type(self)(self.first[index], self.second[index])

    @property
    @abstractmethod
    def mean(self) -> FloatArray:
        """Of shape (k,)."""

    @property
    @abstractmethod
    def std(self) -> FloatArray:
        """Of shape (k,)."""

    @abstractmethod
    def cdf(self, x: ArrayLike) -> FloatArray:
        """P(arm <= x), of shape (k, m) for x of shape (m,) or (k, m)."""

    @abstractmethod
    def sf(self, x: ArrayLike) -> FloatArray:
        """P(arm > x), small ones too."""

    @abstractmethod
    def quantile(self, q: float) -> FloatArray:
        """Of shape (k,)."""

    @property
    @abstractmethod
    def reach(self) -> tuple[FloatArray, FloatArray]:
        """Where the coordinate begins and ends, but for 1e-16 of probability each."""

    @property
    @abstractmethod
    def place(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the coordinate."""

    @abstractmethod
    def value(self, t: FloatArray) -> FloatArray:
        """The value at a coordinate."""

    @abstractmethod
    def slope(self, t: FloatArray) -> FloatArray:
        """Derivative of :meth:`value`."""

    @abstractmethod
    def coordinate(self, x: float) -> float:
        """The inverse of :meth:`value`; not finite at the ends of the range and beyond."""

    @abstractmethod
    def density(self, t: FloatArray) -> FloatArray:
        """Density of the coordinate, of shape (k, m)."""

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density of the value, of shape (k, m)."""
        t = np.array([self.coordinate(float(v)) for v in np.ravel(np.asarray(x))])
        return self.density(t) / self.slope(t)


class Normals(Arms):
    """``first`` is the mean, ``second`` the standard deviation.

    Examples
    --------
    >>> print(Normals.of([0.0, 1.0], 1.0).cdf([0.0]).round(4).tolist())
    [[0.5], [0.1587]]
    """

    @property
    def mean(self) -> FloatArray:
        """See :class:`Arms`."""
        return self.first

    @property
    def std(self) -> FloatArray:
        """See :class:`Arms`."""
        return self.second

    def _z(self, x: ArrayLike) -> FloatArray:
        z: FloatArray = (np.asarray(x) - self.first[:, None]) / self.second[:, None]
        return z

    def cdf(self, x: ArrayLike) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.ndtr(self._z(x)))

    def sf(self, x: ArrayLike) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.ndtr(-self._z(x)))

    def quantile(self, q: float) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(self.first + special.ndtri(q) * self.second)

    @property
    def reach(self) -> tuple[FloatArray, FloatArray]:
        """See :class:`Arms`."""
        return self.quantile(_TINY), 2 * self.first - self.quantile(_TINY)

    @property
    def place(self) -> tuple[FloatArray, FloatArray]:
        """See :class:`Arms`."""
        return self.first, self.second

    def value(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return t

    def slope(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.ones_like(t)

    def coordinate(self, x: float) -> float:
        """See :class:`Arms`."""
        return x

    def density(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(np.exp(-0.5 * self._z(t) ** 2) / (np.sqrt(2 * np.pi) * self.second[:, None]))


class Betas(Arms):
    """``first`` is a (successes), ``second`` b (failures), each with the prior's.

    Examples
    --------
    >>> print(Betas.of([42.5], [62.5]).quantile(0.025).round(6).tolist())
    [0.313242]
    """

    ends: ClassVar[tuple[float, ...]] = (0.0, 1.0)

    @property
    def mean(self) -> FloatArray:
        """See :class:`Arms`."""
        return self.first / (self.first + self.second)

    @property
    def std(self) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(np.sqrt(self.mean * (1 - self.mean) / (self.first + self.second + 1)))

    def cdf(self, x: ArrayLike) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.betainc(self.first[:, None], self.second[:, None], np.clip(x, 0.0, 1.0)))

    def sf(self, x: ArrayLike) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.betaincc(self.first[:, None], self.second[:, None], np.clip(x, 0.0, 1.0)))

    def quantile(self, q: float) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.betaincinv(self.first, self.second, q))

    @property
    def reach(self) -> tuple[FloatArray, FloatArray]:
        """See :class:`Arms`."""
        low, high = (
            np.maximum(special.betaincinv(*pair, _TINY), _LEAST)
            for pair in ((self.first, self.second), (self.second, self.first))
        )
        return np.log(low) - np.log1p(-low), np.log1p(-high) - np.log(high)

    @property
    def place(self) -> tuple[FloatArray, FloatArray]:
        """See :class:`Arms`."""
        middle = special.digamma(self.first) - special.digamma(self.second)
        spread = np.sqrt(special.polygamma(1, self.first) + special.polygamma(1, self.second))
        return np.asarray(middle), np.asarray(spread)

    def value(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.expit(t))

    def slope(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.expit(t) * special.expit(-t))

    def coordinate(self, x: float) -> float:
        """See :class:`Arms`."""
        return float(special.logit(x))

    def density(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        a, b = self.first[:, None], self.second[:, None]
        return np.asarray(np.exp(a * special.log_expit(t) + b * special.log_expit(-t) - special.betaln(a, b)))


class Gammas(Arms):
    """``first`` is the shape (events), ``second`` the rate (exposure), each with the prior's.

    Examples
    --------
    >>> print(Gammas.of([10.5], [100.0]).mean.tolist())
    [0.105]
    """

    ends: ClassVar[tuple[float, ...]] = (0.0,)

    @property
    def mean(self) -> FloatArray:
        """See :class:`Arms`."""
        return self.first / self.second

    @property
    def std(self) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(np.sqrt(self.first) / self.second)

    def _scaled(self, x: ArrayLike) -> FloatArray:
        return np.asarray(self.second[:, None] * np.maximum(x, 0.0))

    def cdf(self, x: ArrayLike) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.gammainc(self.first[:, None], self._scaled(x)))

    def sf(self, x: ArrayLike) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.gammaincc(self.first[:, None], self._scaled(x)))

    def quantile(self, q: float) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(special.gammaincinv(self.first, q) / self.second)

    @property
    def reach(self) -> tuple[FloatArray, FloatArray]:
        """See :class:`Arms`."""
        low, high = special.gammaincinv(self.first, _TINY), special.gammainccinv(self.first, _TINY)
        return np.log(np.maximum(low, _LEAST) / self.second), np.log(high / self.second)

    @property
    def place(self) -> tuple[FloatArray, FloatArray]:
        """See :class:`Arms`."""
        spread = np.sqrt(special.polygamma(1, self.first))
        return np.asarray(special.digamma(self.first) - np.log(self.second)), np.asarray(spread)

    def value(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.exp(t)

    def slope(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.exp(t)

    def coordinate(self, x: float) -> float:
        """See :class:`Arms`."""
        return float(np.log(x)) if x > 0 else -np.inf

    def density(self, t: FloatArray) -> FloatArray:
        """See :class:`Arms`."""
        return np.asarray(stats.loggamma.pdf(t + np.log(self.second)[:, None], self.first[:, None]))
