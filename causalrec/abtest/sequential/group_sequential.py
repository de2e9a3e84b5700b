"""Group-sequential inference for any estimate: at the present look, given when the earlier ones were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from causalrec._validation import list_some
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.inference import upper_quantile, upper_tail
from causalrec.abtest.sequential.bounds import (
    Bounds,
    Futility,
    check_fractions,
    check_share,
    fixed_drift,
    group_sequential_bounds,
    solve_bounds,
)
from causalrec.abtest.sequential.spending import Spending, as_spending, spending_name
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, GroupBoundsResult

_DEEPEST, _SHALLOWEST, _MIDDLE = 5.5, -1.5, 0.5  # normal quantiles of the sizes between which bounds are tabulated
_DEEP_NODES, _SHALLOW_NODES = 20, 14
_SMALLEST = 1e-307


@dataclass(frozen=True)
class GroupSequential:
    """The last of the looks that an experiment has had so far, at fractions of the maximum information.

    The interval is the repeated one (Jennison & Turnbull 1989): its critical value is the bound of the present look.
    The p-value belongs to it: the smallest size at which this look would reject (the repeated p-value; Liu & Anderson
    2008 call it sequential). So p < size just where the bound is crossed, at every size at once, whether or not the
    experiment stops here; :func:`stagewise_analysis` gives what is known once it has stopped. Bounds are of the normal
    law; for t statistics they are those with the same nominal p-value (the significance level approach of
    Jennison & Turnbull 2000).

    Parameters
    ----------
    fractions : sequence of float
        Information at the looks so far, the present one last, as shares of the maximum. In most experiments that is
        units of the units planned: see :meth:`at`.
    spending : {"obrien-fleming", "pocock"} or callable
        See :func:`group_sequential_bounds`.
    futility : str or callable, optional
        Of beta = 1 - ``power``; see :meth:`futility_bound`. It changes nothing else unless it is ``binding``.
    binding : bool
        The null is rejected sooner, given that every look so far would have been the last below the bound for futility.
    power, drift : float
        Of the alternative for which beta is spent: see :func:`group_sequential_bounds`.
    final : bool
        This look is the last though its fraction is below 1: spend all that is left.

    Notes
    -----
    The table behind the p-values is solved once for a plan and serves any number of metrics (a tenth of a second for 20
    looks, half a second for 50); with it bounds are within 1e-6 of the exact ones. A p-value above 0.6 (two-sided) or
    0.93 (0.3 with a binding bound for futility) is given as 1, and one below 4e-8 is an upper bound by Bonferroni's
    inequality, which is close there; at the first look all are exact.

    Examples
    --------
    >>> look = GroupSequential([0.25, 0.5])
    >>> estimate = Estimate(10.0, 10.6, 0.02, 0.02, 0.0, math.inf, 500, 500, "z")
    >>> print(f"{look.critical(estimate, 0.05, two_sided=True):.3f}")
    2.963
    >>> print(f"{look.pvalue(estimate, 3.0, two_sided=True):.4f}")
    0.0469
    """

    fractions: tuple[float, ...]
    spending: str | Spending = "obrien-fleming"
    _: KW_ONLY
    futility: str | Spending | None = None
    binding: bool = False
    power: float = 0.8
    drift: float | None = None
    final: bool = False

    name: ClassVar[str] = "group sequential"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", check_fractions(self.fractions))
        object.__setattr__(self, "spending", as_spending(self.spending))
        if self.futility is not None:
            object.__setattr__(self, "futility", as_spending(self.futility))
        elif self.binding:
            raise CausalRecError("binding is True without a bound for futility; give futility, such as 'pocock'.")
        check_share(self.power, name="power", example=0.8)
        if self.drift is not None and not 0 < self.drift < math.inf:
            raise CausalRecError(f"drift is {self.drift}; expected a positive number, such as 2.8.")

    @classmethod
    def at(cls, n: float, *, n_max: float, previous: Sequence[float] = (), **options: Any) -> GroupSequential:
        """The look with ``n`` units of ``n_max`` planned, after looks with ``previous`` units.

        Examples
        --------
        >>> GroupSequential.at(5_000, n_max=10_000, previous=[2_000]).fractions
        (0.2, 0.5)
        """
        if not 0 < n_max < math.inf:
            raise CausalRecError(f"n_max is {n_max}; expected the number of units planned in all, such as 10_000.")
        units = [*previous, n]
        if not all(0 < a < math.inf for a in units) or any(a >= b for a, b in pairwise(units)):
            raise CausalRecError(
                f"looks were at {list_some(units)} units; expected numbers above 0 that rise: a look needs new units."
            )
        return cls(tuple(float(each) / float(n_max) for each in units), **options)

    @property
    def look(self) -> int:
        """The number of the present look, from 1."""
        return len(self.fractions)

    @property
    def ended(self) -> bool:
        """Whether the present look spends all that is left."""
        return self.final or self.fractions[-1] >= 1

    def critical(self, estimate: Estimate, size: float, *, two_sided: bool) -> float:
        """The bound of the present look; infinite where nothing may be spent."""
        z = _critical(self, size / 2 if two_sided else size, two_sided)
        return z if math.isinf(estimate.df) or math.isinf(z) else upper_quantile(upper_tail(z), estimate.df)

    def pvalue(self, estimate: Estimate, distance: float, *, two_sided: bool) -> float:
        """The smallest size at which the present look rejects."""
        if math.isnan(distance):
            return NAN
        z = abs(distance) if two_sided else distance
        if not math.isinf(estimate.df):
            z = -float(ndtri(upper_tail(z, estimate.df)))
        return min((2 if two_sided else 1) * _size_of(self, z, two_sided), 1.0)

    def note(self, estimate: Estimate, size: float, *, two_sided: bool) -> str:  # noqa: ARG002 - of the looks alone
        """Which look, and what has been spent."""
        spent = self.solve(size, two_sided=two_sided).spent[-1] * (2 if two_sided else 1)
        final = ", the last" if self.ended else ""
        return (
            f"group sequential, look {self.look} at {self.fractions[-1]:.1%} of the information{final}, "
            f"{spending_name(self.spending)} spending, {spent:.3g} of {size:.3g} spent"  # type: ignore[arg-type]
        )

    def bounds(self, size: float = 0.05, *, two_sided: bool = True) -> GroupBoundsResult:
        """Those of all looks so far."""
        return group_sequential_bounds(
            self.fractions, alpha=size, alternative="two-sided" if two_sided else "greater", spending=self.spending,
            futility=self.futility, power=self.power, drift=self.drift, binding=self.binding, final=self.final,
        )  # fmt: skip

    def futility_bound(self, size: float = 0.05, *, two_sided: bool = True) -> float:
        """Give up where the statistic is below it (two-sided: closer to zero); NaN where there is none.

        Examples
        --------
        >>> look = GroupSequential([0.25, 0.5], futility="obrien-fleming", power=0.9)
        >>> print(f"{look.futility_bound(0.025, two_sided=False):.3f}")
        0.232
        """
        return float(self.bounds(size, two_sided=two_sided).lower[-1])

    def futility_plan(self, side: float) -> Futility | None:
        """Beta spending at a size, of one side."""
        if self.futility is None:
            return None
        drift = fixed_drift(side, self.power) if self.drift is None else self.drift
        return Futility(self.futility, 1 - self.power, drift, self.binding)  # type: ignore[arg-type]

    def solve(self, size: float, *, two_sided: bool) -> Bounds:
        """Bounds on the z scale, without that for futility unless it is binding."""
        return _solve(self, size / 2 if two_sided else size, two_sided)


def _solve(plan: GroupSequential, side: float, two_sided: bool) -> Bounds:
    obeyed = plan.futility_plan(side) if plan.binding else None
    spending: Spending = plan.spending  # type: ignore[assignment]
    return solve_bounds(plan.fractions, side, spending, two_sided=two_sided, futility=obeyed, final=plan.final)


class _Piece(NamedTuple):
    """Bound of the present look as a polynomial of the normal quantile of the size, between two of these."""

    low: float
    high: float
    coefficients: tuple[float, ...]
    bound_low: float
    bound_high: float

    def __call__(self, x: float) -> float:
        """Clenshaw's recurrence in plain numbers, quicker than arrays for one value."""
        u = (2 * x - self.low - self.high) / (self.high - self.low)
        here = before = 0.0
        for c in self.coefficients[:0:-1]:
            here, before = c + 2 * u * here - before, here
        return self.coefficients[0] + u * here - before


@lru_cache(maxsize=256)
def _piece(plan: GroupSequential, two_sided: bool, low: float, high: float, n: int) -> _Piece:
    def bounds(xs: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([_solve(plan, float(ndtr(-x)), two_sided).upper[-1] for x in xs])

    fitted = np.polynomial.Chebyshev.interpolate(bounds, n - 1, domain=[low, high])
    piece = _Piece(low, high, tuple(map(float, fitted.coef)), NAN, NAN)
    return piece._replace(bound_low=piece(low), bound_high=piece(high))


@lru_cache(maxsize=256)
def _deepest(plan: GroupSequential) -> float:
    """The quantile down to which bounds are tabulated: as far as there is something to spend at this look."""
    if _step(plan, float(ndtr(-_DEEPEST))) > _SMALLEST:
        return _DEEPEST
    if not _step(plan, float(ndtr(-_MIDDLE))) > _SMALLEST:
        return -math.inf
    low, high = _MIDDLE, _DEEPEST
    while high - low > 1e-3:
        x = (low + high) / 2
        low, high = (x, high) if _step(plan, float(ndtr(-x))) > _SMALLEST else (low, x)
    return low


def _step(plan: GroupSequential, side: float) -> float:
    """What may be spent on one side between the last look and this one."""
    spending: Spending = plan.spending  # type: ignore[assignment]
    now = side if plan.ended else spending(plan.fractions[-1], side)
    return now - (spending(min(plan.fractions[-2], 1.0), side) if plan.look > 1 else 0.0)


@lru_cache(maxsize=4096)
def _critical(plan: GroupSequential, side: float, two_sided: bool) -> float:
    check_share(side, name="size", example=0.05)
    x, deepest = -float(ndtri(side)), _deepest(plan)
    shallowest = _MIDDLE if two_sided or plan.binding else _SHALLOWEST
    if plan.look == 1 or deepest == -math.inf:
        return _solve(plan, side, two_sided).upper[-1]
    if x > deepest:
        step = _step(plan, side)
        return max(-float(ndtri(step)), _main(plan, two_sided).bound_high) if step > _SMALLEST else math.inf
    x = max(x, shallowest)
    return _main(plan, two_sided)(x) if x >= _MIDDLE else _shallow(plan)(x)


def _main(plan: GroupSequential, two_sided: bool) -> _Piece:
    return _piece(plan, two_sided, _MIDDLE, _deepest(plan), _DEEP_NODES)


def _shallow(plan: GroupSequential) -> _Piece:
    return _piece(plan, False, _SHALLOWEST, _MIDDLE, _SHALLOW_NODES)


def _size_of(plan: GroupSequential, z: float, two_sided: bool) -> float:
    """The size of one side at which the bound of this look is z."""
    deepest = _deepest(plan)
    if plan.look == 1:
        return _without_earlier_looks(plan, z)
    if deepest == -math.inf:
        return 1.0
    main = _main(plan, two_sided)
    if z >= main.bound_high:
        return _without_earlier_looks(plan, z, most=float(ndtr(-deepest)))
    piece = main
    if z <= main.bound_low:
        if two_sided or plan.binding:
            return 1.0
        piece = _shallow(plan)
        if z <= piece.bound_low:
            return 1.0
    return float(ndtr(-brentq(lambda x: piece(x) - z, piece.low, piece.high, xtol=1e-14)))


def _without_earlier_looks(plan: GroupSequential, z: float, most: float = 1 - 1e-12) -> float:
    """The size whose spending at this look is the normal tail beyond z: exact at the first look, else more than needed.

    Found on the logarithm, from above: where spending is too small for a double the largest such size. It is at most
    ``most``: of a later look spending falls again towards a size of 1, all of which is spent before.
    """
    tail = float(ndtr(-z))
    if plan.look == 1 and plan.ended:
        return tail
    low, high = math.log(_SMALLEST), math.log(most)
    if _step(plan, most) <= tail:
        return 1.0 if plan.look == 1 else most
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if _step(plan, math.exp(middle)) > tail else (middle, high)
    return math.exp(high)
