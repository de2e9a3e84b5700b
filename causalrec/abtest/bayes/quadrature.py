"""Integrals over the posteriors of independent arms: which is best, what choosing each would cost, differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from causalrec._typing import FloatArray
from causalrec.abtest.bayes.laws import Arms, Betas, Gammas, Normals
from causalrec.exceptions import CausalRecError

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_NEAR = 7.0  # standard deviations around an arm within which steps are as small as it is narrow
_STEP = 2.0
_WIDEST = 0.7
_FLOOR = -1e4  # for the logarithm of a probability of 0
_LONGEST_SUM = 100_000
_GRADES = 4.0 ** -np.arange(9)
_ALMOST_NEVER = 1e-9


class Grid(NamedTuple):
    """Nodes of a coordinate with their weights."""

    t: FloatArray
    weight: FloatArray


def panels(breaks: FloatArray) -> Grid:
    """Sixteen nodes of Gauss and Legendre in each panel between breaks."""
    half, middle = np.diff(breaks) / 2, (breaks[1:] + breaks[:-1]) / 2
    return Grid(np.ravel(middle[:, None] + half[:, None] * _NODES), np.ravel(half[:, None] * _WEIGHTS))


def grid(arms: Arms, at: Sequence[float] = (), within: tuple[float, float] | None = None) -> Grid:
    """Nodes over all of the arms, close together where one of them is narrow.

    ``at`` are coordinates where an integrand has a kink; panels become ever smaller towards it. ``within`` are ends
    other than those of the arms.
    """
    low, high = arms.reach
    return march(*(within or (float(low.min()), float(high.max()))), *arms.place, bent=not isinstance(arms, Normals),
                 at=at)  # fmt: skip


def march(
    low: float, high: float, middle: FloatArray, spread: FloatArray, *, bent: bool, at: Sequence[float] = ()
) -> Grid:
    """Nodes from low to high, in steps as small as what lies there is narrow; ``bent`` coordinates have skew laws."""
    step = _STEP * (np.minimum(spread, _WIDEST) if bent else spread)
    start, stop = middle - _NEAR * spread, middle + _NEAR * spread
    breaks, here = [low], low
    while here < high:
        steps = np.where(here > stop, np.inf, np.maximum((start - here) / 2, step))
        here = min(here + float(steps.min()), high)
        breaks.append(here)
    kinks = [kink + side * grade for kink in at for side in (-1.0, 0.0, 1.0) for grade in _GRADES * float(step.min())]
    found = np.unique([*breaks, *kinks])
    return panels(found[(found >= low) & (found <= high)])


def _others(arms: Arms, nodes: Grid, highest: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each arm: P(it is below x); the logarithm of P(all others are); f(t) dt. "Below" is above if not highest."""
    x = arms.value(nodes.t)
    below, above = arms.cdf(x), arms.sf(x)
    if not highest:
        below, above = above, below
    with np.errstate(divide="ignore"):
        logs = np.where(below < 0.5, np.log(below), np.log1p(-np.minimum(above, 0.5)))
    logs = np.maximum(logs, _FLOOR)
    return below, logs.sum(axis=0) - logs, arms.density(nodes.t) * nodes.weight


def prob_best(arms: Arms, *, highest: bool = True) -> FloatArray:
    """P(arm is the best) of each: the integral of f_i times the product of the other F_j, of shape (k,).

    Correct to about 1e-10. With two arms it is :func:`prob_greater`, so exact where there is a formula.

    Examples
    --------
    >>> print(prob_best(Betas.of([42.5, 500.5], [62.5, 509.5])).round(7).tolist())
    [0.0370935, 0.9629065]
    """
    if len(arms) == 1:
        return np.ones(1)
    if len(arms) == 2:
        up, down = prob_greater(arms, 1, 0), prob_greater(arms, 0, 1)
        return np.array([down, up] if highest else [up, down])
    _, others, mass = _others(arms, grid(arms), highest)
    found = (mass * np.exp(others)).sum(axis=1)
    total: FloatArray = found / found.sum()  # one but for rounding
    return total


def expected_loss(arms: Arms, *, highest: bool = True) -> FloatArray:
    """What choosing each arm costs: E[max - arm], of shape (k,), in the unit of the arms.

    That is the integral of F_i(x) (1 - product of the other F_j(x)), in which nothing cancels, so tiny losses are right
    too.

    Examples
    --------
    >>> print(f"{expected_loss(Betas.of([42.5, 500.5], [62.5, 509.5]))[1]:.8f}")
    0.00076167
    """
    if len(arms) == 1:
        return np.zeros(1)
    nodes = grid(arms)
    below, others, _ = _others(arms, nodes, highest)
    loss: FloatArray = (below * -np.expm1(others)) @ (arms.slope(nodes.t) * nodes.weight)
    return loss


def prob_greater(arms: Arms, i: int, j: int) -> float:
    """P(arm i > arm j): of normals and Gammas by their formula, of Betas with a whole parameter by a finite sum.

    Of two Gammas it is a Beta's distribution function; of two Betas Cook's (2005) integral, a sum of as many terms as a
    whole parameter has units (Miller 2015), else quadrature.

    Examples
    --------
    >>> print(f"{prob_greater(Betas.of([2.0, 1.0], [1.0, 2.0]), 0, 1):.6f}")
    0.833333
    """
    a, b = arms.first[[i, j]], arms.second[[i, j]]
    if isinstance(arms, Normals):
        return float(special.ndtr((a[0] - a[1]) / np.hypot(b[0], b[1])))
    if isinstance(arms, Gammas):
        return float(special.betainc(a[1], a[0], b[1] / (b[0] + b[1])))
    if not isinstance(arms, Betas):
        return prob_below(arms, j, i, Line(0.0, 1.0))
    # P(X > Y) is P(1 - Y > 1 - X), whose parameters change places.
    for c0, d0, c1, d1 in ((a[0], b[0], a[1], b[1]), (b[1], a[1], b[0], a[0])):
        if c0 == round(c0) and c0 <= _LONGEST_SUM:
            return _beta_sum(c0, d0, c1, d1)
    return prob_below(arms, j, i, Line(0.0, 1.0))


def _beta_sum(a1: float, b1: float, a0: float, b0: float) -> float:
    """P(Beta(a1, b1) > Beta(a0, b0)) for whole a1, in logarithms."""
    i = np.arange(a1)
    logs = special.betaln(a0 + i, b0 + b1) - np.log(b1 + i) - special.betaln(1 + i, b1) - special.betaln(a0, b0)
    return float(min(np.exp(special.logsumexp(logs)), 1.0))


class Line(NamedTuple):
    """x -> shift + factor x, with factor > 0."""

    shift: float
    factor: float

    def __call__(self, x: FloatArray) -> FloatArray:
        """The value at x."""
        return self.shift + self.factor * x

    @property
    def inverse(self) -> Line:
        """The line back."""
        return Line(-self.shift / self.factor, 1 / self.factor)


def prob_below(arms: Arms, i: int, j: int, line: Line) -> float:
    """P(arm j > line(arm i)), by quadrature over the one that is narrower."""
    from_i = arms.std[i] * line.factor <= arms.std[j]
    along, other, way = (i, j, line) if from_i else (j, i, line.inverse)
    one, two = arms.take(along), arms.take(other)
    kinks = [one.coordinate(x) for x in way.inverse(np.array(arms.ends)) if _inside(x, arms)]
    nodes = grid(one, kinks)
    x = way(one.value(nodes.t))
    tail = two.sf(x) if from_i else two.cdf(x)
    return float(np.clip((tail * one.density(nodes.t)) @ nodes.weight, 0.0, 1.0)[0])


def _inside(x: float, arms: Arms) -> bool:
    return x > arms.ends[0] and (len(arms.ends) == 1 or x < arms.ends[1])


def difference_quantile(arms: Arms, i: int, j: int, q: float) -> float:
    """The q-quantile of arm i - arm j."""
    middle, spread = float(arms.mean[i] - arms.mean[j]), float(np.hypot(arms.std[i], arms.std[j]))
    if isinstance(arms, Normals):
        return middle + float(special.ndtri(q)) * spread
    return solve_quantile(lambda d: 1 - prob_below(arms, j, i, Line(d, 1.0)), q, middle, spread)


def ratio_quantile(arms: Arms, i: int, j: int, q: float) -> float:
    """The q-quantile of arm i / arm j, both positive (Betas or Gammas); of two Gammas by the formula."""
    if isinstance(arms, Gammas):
        y = float(special.betaincinv(arms.first[i], arms.first[j], q))
        rest = float(special.betaincinv(arms.first[j], arms.first[i], 1 - q))
        return y / rest * float(arms.second[j] / arms.second[i])
    middle = math.log(arms.mean[i] / arms.mean[j])
    spread = float(np.hypot(*(arms.std[[i, j]] / arms.mean[[i, j]])))
    log = solve_quantile(lambda r: 1 - prob_below(arms, j, i, Line(0.0, math.exp(r))), q, middle, spread)
    return math.exp(log)


def solve_quantile(cdf: Callable[[float], float], q: float, middle: float, spread: float) -> float:
    """Where a distribution function is ``q``, from about where its law lies.

    Raises
    ------
    CausalRecError
        Where it is not reached within any sensible distance.
    """
    if not spread > 0:
        return middle
    guess = middle + float(special.ndtri(q)) * spread
    low, high, reach = guess - spread / 4, guess + spread / 4, spread / 4
    for _ in range(60):
        below, above = cdf(low) >= q, cdf(high) < q
        if not (below or above):
            return float(optimize.brentq(lambda x: cdf(x) - q, low, high, xtol=1e-11 * spread, rtol=1e-14))
        reach *= 2
        low, high = (low - reach, low) if below else (high, high + reach)
    raise CausalRecError(
        f"the {q:g} quantile of a posterior was not found near {middle:g}, give or take {spread:g}; expected a law "
        "with such a quantile. Give a prior that is not so wide, or collect more."
    )


def value_remaining(arms: Arms, leader: int, *, q: float = 0.95, highest: bool = True) -> float:
    """The q-quantile of how much better than the leader the best arm is: of max / leader - 1 (Scott 2010).

    P(max <= (1 + v) leader) is one integral over the leader. NaN where the leader may be negative, of which there is
    no share. If low is good, the quantile of 1 - min / leader.

    Examples
    --------
    >>> print(f"{value_remaining(Betas.of([42.5, 500.5], [62.5, 509.5]), 1):.4f}")
    0.0000
    >>> print(f"{value_remaining(Betas.of([442.5, 500.5], [566.5, 509.5]), 1, q=0.999):.4f}")
    0.0251
    """
    one, others = arms.take(leader), [k for k in range(len(arms)) if k != leader]
    if not others:
        return 0.0
    if not float(one.cdf(np.array([0.0]))[0, 0]) < _ALMOST_NEVER:
        return math.nan
    rest = arms.take(others)

    def reached(v: float) -> float:
        line = Line(0.0, 1 + v if highest else 1 - v)
        nodes = _stretched(one, rest, line)
        x = line(one.value(nodes.t))
        tails = rest.cdf(x) if highest else rest.sf(x)
        return float((tails.prod(axis=0) * one.density(nodes.t)[0]) @ nodes.weight)

    return first_reaching(reached, q, highest)


def first_reaching(reached: Callable[[float], float], q: float, highest: bool) -> float:
    """The least gain v >= 0 with P(the best gains no more) = q; below 1 if low is good."""
    if reached(0.0) >= q:
        return 0.0
    low, high = 0.0, 0.01
    while reached(high) < q:
        low, high = high, (2 * high if highest else (1 + high) / 2)
        if high > 1e9 or (high >= 1 - 1e-12 and not highest):
            return math.inf if highest else 1.0
    return float(optimize.brentq(lambda v: reached(v) - q, low, high, xtol=1e-10))


def _stretched(one: Arms, rest: Arms, line: Line) -> Grid:
    """Nodes of one arm that also resolve the others at the line's values."""
    low, high = (float(end[0]) for end in one.reach)
    middle, spread = ([float(v[0])] for v in one.place)
    means = line.inverse(rest.mean)
    for mean, std in zip(means, rest.std / line.factor, strict=True):
        if not one.ends or _inside(float(mean), one):
            middle.append(one.coordinate(float(mean)))
            spread.append(float(std / one.slope(np.array(middle[-1]))))
    kinks = [one.coordinate(x) for x in line.inverse(np.array(one.ends)) if _inside(x, one)]
    return march(low, high, np.array(middle), np.array(spread), bent=bool(one.ends), at=kinks)
