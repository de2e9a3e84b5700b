"""Bounds of group-sequential tests by recursive integration (Armitage, McPherson & Rowe 1969).

The statistics Z_1, Z_2, ... of the looks have the canonical joint law (Jennison & Turnbull 2000, section 3.1): with
fractions t_k of the information, the scores B_k = Z_k sqrt(t_k) are a Brownian motion with drift, seen at the t_k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative, list_some
from causalrec.abtest.sequential.spending import Spending, as_spending, spending_name
from causalrec.abtest.sequential.walk import REACH, TINIEST, Intervals, Walk
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, GroupBoundsResult


class Exits(NamedTuple):
    """Probabilities to stop at each look, arrays of shape (looks,).

    Attributes
    ----------
    above, below : array
        Null rejected: at the upper bound, or with two sides at the lower one.
    futile : array
        Stopped for futility; at the last look that is not to reject where there is a bound for futility.
    """

    above: FloatArray
    below: FloatArray
    futile: FloatArray

    @property
    def rejected(self) -> FloatArray:
        """On either side."""
        return self.above + self.below

    @property
    def stopped(self) -> FloatArray:
        """For any reason."""
        return self.above + self.below + self.futile


@dataclass(frozen=True)
class Futility:
    """When to give up: beta spending under an alternative.

    Attributes
    ----------
    spending : callable
    beta : float
        Probability to miss an effect of the drift, spent on it.
    drift : float
        Mean of the score at fraction 1, z sqrt(t), under that effect.
    binding : bool
        If it will be obeyed the efficacy bound accounts for it, and is lower.
    """

    spending: Spending
    beta: float
    drift: float
    binding: bool = False


class Bounds(NamedTuple):
    """Bounds on the z scale and what is spent by each look, of one side; -inf where there is none for futility."""

    upper: tuple[float, ...]
    lower: tuple[float, ...]
    spent: tuple[float, ...]
    missed: tuple[float, ...]


def going_on(upper: float, lower: float, *, two_sided: bool) -> Intervals:
    """Where one goes on: below the upper bound and above that for futility; with two sides in mirror image too."""
    if not two_sided:
        return ((lower, upper),)
    return ((-upper, -lower), (lower, upper)) if lower > 0 else ((-upper, upper),)


@lru_cache(maxsize=512)
def solve_bounds(
    fractions: tuple[float, ...],
    size: float,
    spending: Spending,
    *,
    two_sided: bool,
    futility: Futility | None = None,
    final: bool = False,
) -> Bounds:
    """Bounds that spend the error of one side, ``size``, as planned; see :func:`group_sequential_bounds`.

    What could not be spent at a look (too little for a finite bound) is left for the next.
    """
    ends = [t >= 1 or (final and t == fractions[-1]) for t in fractions]
    targets = [size if ended else spending(t, size) for t, ended in zip(fractions, ends, strict=True)]
    null = Walk(reach=_reach(targets))
    missing = Walk(futility.drift) if futility else None
    upper, lower, spent, missed = [], [], [0.0], [0.0]
    for k, t in enumerate(fractions):
        root, ended, target = math.sqrt(t), ends[k], targets[k]
        score = null.upper_point(max(target - spent[-1], 0.0), t)
        bound = max(score, 0.0) if two_sided else score
        spent.append(min(spent[-1] + null.above(bound, t), max(target, spent[-1])))
        floor = -math.inf
        if futility and missing:
            allowed = futility.beta if ended else futility.spending(min(t, 1.0), futility.beta)
            floor = bound if ended else min(_futile(missing, max(allowed - missed[-1], 0.0), t, two_sided), bound)
            missed.append(missed[-1] + _missed(missing, floor, t, two_sided))
        upper.append(bound / root)
        lower.append(floor / root)
        if k + 1 < len(fractions):
            after = fractions[k + 1]
            obeyed = floor if futility and futility.binding else -math.inf
            null.go_on(going_on(bound, obeyed, two_sided=two_sided), t, after)
            if missing:
                missing.go_on(going_on(bound, floor, two_sided=two_sided), t, after)
    return Bounds(tuple(upper), tuple(lower), tuple(spent[1:]), tuple(missed[1:]))


def _reach(targets: Sequence[float]) -> float:
    """How far out the walk must be known for its smallest tail."""
    steps = [b - a for a, b in pairwise([0.0, *targets]) if b - a > TINIEST]
    return max(REACH, 3 - float(ndtri(min(steps, default=0.5))))


def _futile(walk: Walk, probability: float, t: float, two_sided: bool) -> float:
    """The score below which (with two sides: nearer to zero than which) one gives up with this probability."""
    if not two_sided:
        return walk.lower_point(probability, t)
    if probability <= TINIEST:
        return -math.inf
    reach = (walk.reach + abs(walk.drift)) * math.sqrt(max(t, 1.0))
    if walk.between(-reach, reach, t) <= probability:
        return reach
    return float(brentq(lambda x: walk.between(-x, x, t) - probability, 0.0, reach, xtol=1e-12))


def _missed(walk: Walk, floor: float, t: float, two_sided: bool) -> float:
    if floor == -math.inf:
        return 0.0
    return walk.between(-floor, floor, t) if two_sided else walk.below(floor, t)


def exit_probabilities(
    fractions: Sequence[float],
    upper: Sequence[float],
    lower: Sequence[float],
    drift: float,
    *,
    two_sided: bool,
) -> Exits:
    """Probabilities to stop at each look under a drift, with bounds on the z scale (lower: for futility)."""
    walk = Walk(drift)
    found: list[tuple[float, float, float]] = []
    for k, t in enumerate(fractions):
        high, low = upper[k] * math.sqrt(t), lower[k] * math.sqrt(t)
        found.append(
            (walk.above(high, t), walk.below(-high, t) if two_sided else 0.0, _missed(walk, low, t, two_sided))
        )
        if k + 1 < len(fractions):
            walk.go_on(going_on(high, low, two_sided=two_sided), t, fractions[k + 1])
    above, below, futile = np.array(found).T
    return Exits(above, below, futile)


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """Fractions of the information that rise from above 0.

    Raises
    ------
    CausalRecError
        For others, or none.
    """
    checked = tuple(float(t) for t in fractions)
    if not checked or not all(0 < t < math.inf for t in checked):
        raise CausalRecError(
            f"fractions are {list_some(checked) or 'none'}; expected shares of the maximum information at the looks, "
            "above 0, such as [0.25, 0.5, 1]."
        )
    if any(a >= b for a, b in pairwise(checked)):
        raise CausalRecError(
            f"fractions are {list_some(checked)}; expected each above the one before: a look needs new data."
        )
    return checked


def fixed_drift(size: float, power: float) -> float:
    """The drift that a test with one look at the end detects with this power, on its side; ``size`` of that side."""
    return float(ndtri(power) - ndtri(size))


def check_share(value: float, *, name: str, example: float) -> float:
    """Return a number strictly between 0 and 1."""
    if not 0 < float(value) < 1:
        raise CausalRecError(f"{name} is {value}; expected a number in (0, 1), such as {example}.")
    return float(value)


def group_sequential_bounds(
    fractions: Sequence[float],
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    spending: str | Spending = "obrien-fleming",
    futility: str | Spending | None = None,
    power: float = 0.8,
    drift: float | None = None,
    binding: bool = False,
    final: bool = False,
) -> GroupBoundsResult:
    """Bounds for any looks: only the fractions so far count, so a look need not have been planned.

    Looks may be chosen by the calendar or by convenience, but not by the results seen so far. At fraction 1 and beyond
    (more data than planned) the bound spends all that is left; ``final`` does so at the last of the fractions, where an
    experiment ends before its maximum. With a bound for futility that is also the end: it meets the other there.

    Parameters
    ----------
    fractions : sequence of float
        Information at each look as shares of the maximum: of the units that are planned, in most experiments.
    alpha : float
        Of both sides together for two-sided tests, each of which spends half of it.
    alternative : {"two-sided", "greater", "less"}
        Bounds are in the direction of the alternative; with two sides the lower one mirrors the upper one.
    spending, futility : {"obrien-fleming", "pocock"} or callable of (fraction, error)
        Of alpha and of beta = 1 - power. With two sides, giving up is for statistics near zero.
    power, drift : float
        Of the alternative for which beta is spent; the drift is its expected statistic at fraction 1, by default that
        of a test with one look and this power (with which the power is a little less than that;
        :func:`design_group_sequential` finds the drift that keeps it).
    binding : bool
        If the bound for futility is sure to be obeyed the other may account for it.
    final : bool

    Raises
    ------
    CausalRecError
        For fractions that do not rise or are too close, or an error outside (0, 1).

    Examples
    --------
    >>> bounds = group_sequential_bounds([0.2, 0.4, 0.6, 0.8, 1.0])
    >>> print(bounds.upper.round(3))
    [4.877 3.357 2.68  2.29  2.031]
    """
    looks = check_fractions(fractions)
    two_sided = check_alternative(alternative) == "two-sided"
    size = check_share(alpha, name="alpha", example=0.05) / (2 if two_sided else 1)
    rule, plan = as_spending(spending), None
    if futility is not None:
        power = check_share(power, name="power", example=0.8)
        drift = fixed_drift(size, power) if drift is None else drift
        if not 0 < drift < math.inf:
            raise CausalRecError(f"drift is {drift}; expected a positive number, such as 2.8.")
        plan = Futility(as_spending(futility), 1 - power, float(drift), binding)
    bounds = solve_bounds(looks, size, rule, two_sided=two_sided, futility=plan, final=final)
    return bounds_result(
        looks, bounds, alpha=alpha, alternative=alternative, spending=spending_name(rule), futility=plan
    )


def bounds_result(
    fractions: tuple[float, ...],
    bounds: Bounds,
    *,
    alpha: float,
    alternative: str,
    spending: str,
    futility: Futility | None,
) -> GroupBoundsResult:
    """Bounds as a result; ``spending`` by its name."""
    sides = 2 if alternative == "two-sided" else 1
    upper, lower = np.array(bounds.upper), np.array(bounds.lower)
    if sides == 2:
        lower = np.where(lower > 0, lower, np.nan)
    return GroupBoundsResult(
        n_looks=len(fractions), alpha=float(alpha), alternative=alternative, spending=spending,
        futility=spending_name(futility.spending) if futility else "none",
        binding=bool(futility and futility.binding), beta=futility.beta if futility else NAN,
        drift=futility.drift if futility else NAN, fraction=np.array(fractions), upper=upper,
        lower=np.where(np.isfinite(lower), lower, np.nan), nominal_alpha=sides * ndtr(-upper),
        alpha_spent=sides * np.array(bounds.spent),
        beta_spent=np.array(bounds.missed) if futility else np.full(len(fractions), np.nan),
    )  # fmt: skip


def crossing_probabilities(bounds: GroupBoundsResult, drift: float) -> Exits:
    """Probabilities to stop at each look if the statistic at fraction 1 has this mean.

    Bounds for futility are obeyed.

    Examples
    --------
    >>> bounds = group_sequential_bounds([0.5, 1.0], spending="pocock")
    >>> print(crossing_probabilities(bounds, 0.0).rejected.round(4), crossing_probabilities(bounds, 3.0).above.round(4))
    [0.031 0.019] [0.4858 0.3228]
    """
    if not math.isfinite(drift):
        raise CausalRecError(f"drift is {drift}; expected a finite number, such as 2.8.")
    lower = np.where(np.isnan(bounds.lower), -np.inf, bounds.lower)
    two_sided = bounds.alternative == "two-sided"
    return exit_probabilities(
        bounds.fraction.tolist(), bounds.upper.tolist(), lower.tolist(), float(drift), two_sided=two_sided
    )


def wang_tsiatis_bounds(
    n_looks: int, *, alpha: float = 0.05, alternative: str = "two-sided", shape: float = 0.0
) -> GroupBoundsResult:
    """Bounds of the classic tests with equally spaced looks: c (k / K)^(shape - 1/2) (Wang & Tsiatis 1987).

    ``shape`` 0 gives O'Brien and Fleming's test (1979), 1/2 Pocock's (1977). The looks must come as planned.

    Raises
    ------
    CausalRecError
        For fewer than one look, or a shape outside [-1, 1].

    Examples
    --------
    >>> print(wang_tsiatis_bounds(5).upper[-1].round(3), wang_tsiatis_bounds(5, shape=0.5).upper.round(3))
    2.04 [2.413 2.413 2.413 2.413 2.413]
    """
    if int(n_looks) != n_looks or n_looks < 1 or not -1 <= shape <= 1:
        raise CausalRecError(f"n_looks is {n_looks}, shape {shape}; expected 1 look or more and a shape in [-1, 1].")
    two_sided = check_alternative(alternative) == "two-sided"
    size = check_share(alpha, name="alpha", example=0.05) / (2 if two_sided else 1)
    looks = tuple((k + 1) / n_looks for k in range(int(n_looks)))
    form, none = np.array(looks) ** (shape - 0.5), [-math.inf] * int(n_looks)

    def spent(constant: float) -> FloatArray:
        exits = exit_probabilities(looks, (constant * form).tolist(), none, 0.0, two_sided=two_sided)
        return np.cumsum(exits.above)

    constant = brentq(lambda c: float(spent(c)[-1]) - size, 0.0, 2 - float(ndtri(size)) + n_looks**0.5, xtol=1e-12)
    bounds = Bounds(tuple((constant * form).tolist()), tuple(none), tuple(spent(constant).tolist()), ())
    name = {0.0: "classic O'Brien–Fleming", 0.5: "classic Pocock"}.get(shape, f"Wang–Tsiatis (shape {shape:g})")
    return bounds_result(looks, bounds, alpha=alpha, alternative=alternative, spending=name, futility=None)
