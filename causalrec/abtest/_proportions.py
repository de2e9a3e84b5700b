"""Statistics of two binomial counts that are not Wald's: how far the data are from a null, and the limits that follow.

Throughout ``x0`` of ``n0`` in control and ``x1`` of ``n1`` in treatment. A null is p1 = theta p0 + offset, where
theta = 1 or offset = 0. A distance is signed, and near standard normal if the null holds; a limit is where it reaches a
quantile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

_POLISHED = 1e-6  # the most that a root can be wrong
_FAR = 1e8  # a distance, where the null allows no variance


@dataclass(frozen=True)
class Counts:
    """Successes and units of control (0) and treatment (1)."""

    x0: float
    n0: int
    x1: float
    n1: int

    @property
    def p0(self) -> float:
        """Share in control."""
        return self.x0 / self.n0

    @property
    def p1(self) -> float:
        """Share in treatment."""
        return self.x1 / self.n1


class Statistic(ABC):
    """A distance and the limits that go with it."""

    @abstractmethod
    def distance(self, theta: float, offset: float) -> float:
        """Of the data from p1 = theta p0 + offset, positive where p1 is larger."""

    @abstractmethod
    def difference(self, quantile: float) -> tuple[float, float]:
        """Limits of p1 - p0."""

    @abstractmethod
    def ratio(self, quantile: float) -> tuple[float, float]:
        """Limits of p1 / p0."""


def wilson_limits(x: float, n: int, quantile: float) -> tuple[float, float]:
    """Wilson's (1927) score limits of one proportion.

    Examples
    --------
    >>> low, high = wilson_limits(0, 10, 1.96)
    >>> print(f"{low:.3f} {high:.3f}")
    0.000 0.278
    """
    z2 = quantile**2
    middle, half = 2 * x + z2, quantile * math.sqrt(z2 + 4 * x * (1 - x / n))
    low, high = (middle - half) / (2 * (n + z2)), (middle + half) / (2 * (n + z2))
    return (low if x > 0 else 0.0), (high if x < n else 1.0)


@dataclass(frozen=True)
class Newcombe(Statistic):
    """Wilson's limits of each arm, combined as independent deviations (Newcombe 1998, method 10; ratio: 2016)."""

    counts: Counts

    def distance(self, theta: float, offset: float) -> float:
        """The quantile at which a limit of p1 - theta p0 meets the offset: the interval, read backwards."""
        gap = self.counts.p1 - theta * self.counts.p0 - offset
        if gap == 0:
            return 0.0

        def beyond(quantile: float) -> float:
            return self._half_width(theta, quantile, lower=gap > 0) - abs(gap)

        top = 8.0
        while beyond(top) < 0:
            top *= 2
            if top > _FAR:  # the two limits together never go that far
                return math.copysign(math.inf, gap)
        return math.copysign(brentq(beyond, 0.0, top, xtol=1e-13), gap)

    def difference(self, quantile: float) -> tuple[float, float]:
        d = self.counts.p1 - self.counts.p0
        low, high = (self._half_width(1.0, quantile, lower=lower) for lower in (True, False))
        return d - low, d + high

    def ratio(self, quantile: float) -> tuple[float, float]:
        """The theta for which a limit of p1 - theta p0 is zero, a quadratic (Newcombe 2016, MOVER-R)."""
        c = self.counts
        (l0, u0), (l1, u1) = wilson_limits(c.x0, c.n0, quantile), wilson_limits(c.x1, c.n1, quantile)
        product = c.p0 * c.p1
        a, b = u0 * (2 * c.p0 - u0), l1 * (2 * c.p1 - l1)
        below = product + math.sqrt(product**2 - a * b)
        low = b / below if below > 0 else 0.0
        a, b = l0 * (2 * c.p0 - l0), u1 * (2 * c.p1 - u1)
        return low, (product + math.sqrt(product**2 - a * b)) / a if a > 0 else math.inf

    def _half_width(self, theta: float, quantile: float, *, lower: bool) -> float:
        """From p1 - theta p0 down to its lower limit, or up to its upper one."""
        c = self.counts
        (l0, u0), (l1, u1) = wilson_limits(c.x0, c.n0, quantile), wilson_limits(c.x1, c.n1, quantile)
        if lower:
            return math.hypot(c.p1 - l1, theta * (u0 - c.p0))
        return math.hypot(u1 - c.p1, theta * (c.p0 - l0))


class Restricted(Statistic):
    """A statistic at the likeliest proportions that a null allows; its limits are found by inverting it."""

    counts: Counts

    def difference(self, quantile: float) -> tuple[float, float]:
        d = self.counts.p1 - self.counts.p0
        low, high = Newcombe(self.counts).difference(quantile)

        def at(delta: float) -> float:
            return self.distance(1.0, delta)

        return _limit(at, quantile, d, low, -1.0), _limit(at, -quantile, d, high, 1.0)

    def ratio(self, quantile: float) -> tuple[float, float]:
        c = self.counts
        never = -_FARTHEST_LOG if c.x0 else _FARTHEST_LOG  # the ratio is 0 or infinite
        start = math.log(c.p1 / c.p0) if c.x0 and c.x1 else never
        low, high = Newcombe(self.counts).ratio(quantile)

        def at(log_theta: float) -> float:
            return self.distance(math.exp(log_theta), 0.0)

        low = math.exp(_limit(at, quantile, start, math.log(low), -_FARTHEST_LOG)) if c.x1 else 0.0
        high = math.exp(_limit(at, -quantile, start, math.log(high), _FARTHEST_LOG)) if c.x0 else math.inf
        return low, high


_FARTHEST_LOG = 200.0


def _limit(distance: Callable[[float], float], target: float, start: float, guess: float, last: float) -> float:
    """Where a falling distance reaches the target on the way from the start to the last place, sought near a guess.

    The last place, if nowhere.
    """
    if start == last:
        return last
    way = math.copysign(1.0, last - start)

    def short(place: float) -> float:
        return (distance(place) - target) * way  # positive before the limit

    step = max(min(abs(guess - start), 1.0) / 20, 1e-9)
    near = far = min(max(guess, min(start, last)), max(start, last))
    if short(near) > 0:
        while short(far) > 0:
            if far == last:
                return last
            near, far, step = far, _at_most(far + way * step, last, way), 4 * step
    else:
        while short(near) < 0:
            near, far, step = _at_most(near - way * step, start, -way), near, 4 * step
    return float(brentq(short, near, far, xtol=1e-13))


def _at_most(place: float, last: float, way: float) -> float:
    """The place, or the last one if that lies beyond it."""
    return min(place, last) if way > 0 else max(place, last)


@dataclass(frozen=True)
class Score(Restricted):
    """Miettinen and Nurminen's (1985) score statistic, with their factor N / (N - 1) on the variance."""

    counts: Counts

    def distance(self, theta: float, offset: float) -> float:
        c = self.counts
        p0, p1 = restricted_proportions(c, theta, offset)
        total = c.n0 + c.n1
        variance = (p1 * (1 - p1) / c.n1 + theta**2 * p0 * (1 - p0) / c.n0) * total / (total - 1)
        return _standardised(c.p1 - theta * c.p0 - offset, variance)


@dataclass(frozen=True)
class LikelihoodRatio(Restricted):
    """The signed root of the log-likelihood ratio G; for p1 = p0 optionally with Yates's half unit."""

    counts: Counts
    correction: bool = False

    def distance(self, theta: float, offset: float) -> float:
        c = self.counts
        p0, p1 = restricted_proportions(c, theta, offset)
        gap = c.p1 - theta * c.p0 - offset
        if self.correction and (theta, offset) == (1.0, 0.0):
            nearer = math.copysign(min(0.5, abs(c.x1 - c.n1 * p1)), gap)
            c = Counts(c.x0 + nearer, c.n0, c.x1 - nearer, c.n1)
        g = 2 * (_log_ratio(c.x0, c.n0, p0) + _log_ratio(c.x1, c.n1, p1))
        return math.copysign(math.sqrt(max(g, 0.0)), gap)


def _log_ratio(x: float, n: int, p: float) -> float:
    """Log-likelihood of a count at its own share less that at p."""
    found = 0.0
    for observed, expected in ((x, n * p), (n - x, n * (1 - p))):
        if observed > 0:
            found += observed * math.log(observed / expected) if expected > 0 else _FAR
    return found


def _standardised(gap: float, variance: float) -> float:
    if variance > 0:
        return gap / math.sqrt(variance)
    return math.copysign(_FAR, gap) if gap else 0.0


def restricted_proportions(counts: Counts, theta: float, offset: float) -> tuple[float, float]:
    """The likeliest (p0, p1) with p1 = theta p0 + offset (Miettinen and Nurminen 1985, appendix).

    Examples
    --------
    >>> p0, p1 = restricted_proportions(Counts(48, 80, 56, 70), 1.0, 0.2)  # what was seen: nothing is restricted
    >>> print(f"{p0:.6f} {p1:.6f}")
    0.600000 0.800000
    """
    if offset == 0:
        p0 = _likeliest_with_ratio(counts, theta)
        return p0, min(theta * p0, 1.0)
    p0 = _likeliest_with_difference(counts, offset)
    return p0, min(max(p0 + offset, 0.0), 1.0)


def _likeliest_with_ratio(c: Counts, theta: float) -> float:
    a = (c.n0 + c.n1) * theta
    b = theta * (c.n1 + c.x0) + c.x1 + c.n0
    successes = c.x0 + c.x1
    # The smaller root, in the form that does not cancel.
    root = 2 * successes / (b + math.sqrt(max(b * b - 4 * a * successes, 0.0)))
    return min(root, 1.0, 1 / theta)


def _likeliest_with_difference(c: Counts, delta: float) -> float:
    total, successes = c.n0 + c.n1, c.x0 + c.x1
    l2 = (c.n1 + 2 * c.n0) * delta - total - successes
    l1 = (c.n0 * delta - total - 2 * c.x0) * delta + successes
    l0 = c.x0 * delta * (1 - delta)
    third = l2 / (3 * total)
    q = third**3 - l1 * l2 / (6 * total**2) + l0 / (2 * total)
    p = math.copysign(math.sqrt(max(third**2 - l1 / (3 * total), 0.0)), q)
    angle = (math.pi + math.acos(min(max(q / p**3, -1.0), 1.0))) / 3 if p else 0.0
    root = 2 * p * math.cos(angle) - third
    for _ in range(2):  # the arc cosine loses half the digits near 1
        slope = (3 * total * root + 2 * l2) * root + l1
        value = ((total * root + l2) * root + l1) * root + l0
        if abs(value) < abs(slope) * _POLISHED:  # at a double root both are rounding, and so is their quotient
            root -= value / slope
    return min(max(root, 0.0, -delta), 1.0, 1 - delta)
