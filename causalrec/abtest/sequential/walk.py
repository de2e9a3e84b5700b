"""A Brownian motion seen at looks: its density among the paths that go on, by recursive integration.

The density is carried from look to look (Armitage, McPherson & Rowe 1969) on Gauss-Legendre panels no wider than a few
standard deviations of what has to be integrated, so that the error is near that of rounding for any spacing of looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError

Intervals: TypeAlias = tuple[tuple[float, float], ...]

TINIEST = 1e-300  # less error than this is kept for a later look

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANEL = 7.0  # standard deviations of the integrand that 16 nodes resolve to about 1e-13
_MOST_PANELS = 300
REACH = 8.3  # beyond which a normal law has less than 1e-16 on a side
_ROOT_TWO_PI = math.sqrt(2 * math.pi)


class Walk:
    """Where the score stands at the last look, among the paths that went on: nodes, each with a mass.

    Parameters
    ----------
    drift : float
        Mean of the score at fraction 1.
    reach : float
        How many standard deviations of the score at a look are kept above its mean where no bound ends it.
    """

    def __init__(self, drift: float = 0.0, reach: float = REACH) -> None:
        self.drift, self.reach = drift, reach
        self.fraction = 0.0
        self.nodes: FloatArray = np.zeros(1)
        self.mass: FloatArray = np.ones(1)

    def above(self, score: float, fraction: float) -> float:
        """P(going on so far, and B at the fraction >= score)."""
        step = fraction - self.fraction
        return float(self.mass @ ndtr((self.nodes + self.drift * step - score) / math.sqrt(step)))

    def below(self, score: float, fraction: float) -> float:
        """P(going on so far, and B at the fraction <= score)."""
        step = fraction - self.fraction
        return float(self.mass @ ndtr((score - self.nodes - self.drift * step) / math.sqrt(step)))

    def between(self, low: float, high: float, fraction: float) -> float:
        """P(going on so far, and B at the fraction in (low, high))."""
        return max(self.below(high, fraction) - self.below(low, fraction), 0.0)

    def density(self, score: FloatArray | float, fraction: float) -> FloatArray:
        """Of B at the fraction, among the paths going on so far."""
        step = fraction - self.fraction
        away = np.subtract.outer(np.asarray(score, dtype=np.float64), self.nodes + self.drift * step)
        return np.asarray(np.exp(away * away * (-0.5 / step)) @ self.mass / (_ROOT_TWO_PI * math.sqrt(step)))

    def go_on(self, intervals: Intervals, fraction: float, following: float) -> None:
        """Keep the paths with B in the intervals; ``following`` is the fraction of the look after this one."""
        middle, spread = self.drift * fraction, self.reach * math.sqrt(fraction)
        width = _PANEL / math.sqrt(1 / (fraction - self.fraction) + 1 / (following - fraction))
        nodes: list[FloatArray] = [np.zeros(0)]
        weights: list[FloatArray] = [np.zeros(0)]
        for low, high in intervals:
            start, stop = max(low, middle - REACH * math.sqrt(fraction)), min(high, middle + spread)
            if start < stop:
                edges = np.linspace(start, stop, _panels((stop - start) / width, fraction, following) + 1)
                half = np.diff(edges)[:, None] / 2
                nodes.append((edges[:-1, None] + half * (1 + _NODES)).ravel())
                weights.append((half * _WEIGHTS).ravel())
        at = np.concatenate(nodes)
        self.mass = np.concatenate(weights) * self.density(at, fraction) if len(at) else np.zeros(0)
        self.nodes, self.fraction = at, fraction

    def upper_point(self, probability: float, fraction: float) -> float:
        """The score with P(going on so far, B >= score) = probability; infinite where there is none."""
        if probability <= TINIEST:
            return math.inf
        if probability >= self.mass.sum() * (1 - 1e-15):
            return -math.inf
        return _solve_tail(
            lambda x: self.above(x, fraction), lambda x: float(self.density(x, fraction)), probability,
            start=-float(ndtri(min(probability, 0.5))) * math.sqrt(fraction), scale=math.sqrt(fraction),
        )  # fmt: skip

    def lower_point(self, probability: float, fraction: float) -> float:
        """The score with P(going on so far, B <= score) = probability; infinite where there is none."""
        if probability <= TINIEST:
            return -math.inf
        if probability >= self.mass.sum() * (1 - 1e-15):
            return math.inf
        return -_solve_tail(
            lambda x: self.below(-x, fraction), lambda x: float(self.density(-x, fraction)), probability,
            start=-self.drift * fraction - float(ndtri(min(probability, 0.5))) * math.sqrt(fraction),
            scale=math.sqrt(fraction),
        )  # fmt: skip


def _panels(wanted: float, fraction: float, following: float) -> int:
    n = max(math.ceil(wanted), 1)
    if n > _MOST_PANELS:
        raise CausalRecError(
            f"looks at fractions {fraction:.6g} and {following:.6g} are too close to each other to be told apart; "
            "leave one of them out. For a look after every few units take AlwaysValid."
        )
    return n


def _solve_tail(
    tail: Callable[[float], float], density: Callable[[float], float], target: float, *, start: float, scale: float
) -> float:
    """The x at which a falling tail is ``target``: Newton's method on its normal quantile, which is nearly straight."""
    goal, x = float(ndtri(target)), start
    for _ in range(40):
        here = float(ndtri(tail(x)))
        slope = density(x) * _ROOT_TWO_PI * math.exp(here * here / 2) if abs(here) < 37 else 0.0
        if not (math.isfinite(here) and slope > 0):
            break
        step = (here - goal) / slope
        x += max(-3 * scale, min(3 * scale, step))
        if abs(step) < 1e-11 * scale:
            return x
    low, high = start - scale, start + scale
    while tail(low) < target:
        low -= high - low
    while tail(high) > target:
        high += high - low
    return float(brentq(lambda y: tail(y) - target, low, high, xtol=1e-13, rtol=1e-14))
