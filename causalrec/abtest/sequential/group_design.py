"""Group-sequential designs: how much larger at most, how much smaller on average, than a test with one look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import brentq

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative
from causalrec.abtest.sequential.bounds import (
    Bounds,
    Exits,
    Futility,
    bounds_result,
    check_fractions,
    check_share,
    exit_probabilities,
    fixed_drift,
    solve_bounds,
)
from causalrec.abtest.sequential.spending import Spending, as_spending, spending_name
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, GroupDesignResult, PowerResult


@dataclass(frozen=True)
class _Plan:
    """What is asked of a design; ``size`` of one side."""

    looks: tuple[float, ...]
    size: float
    spending: Spending
    two_sided: bool
    power: float
    futility: Spending | None
    binding: bool

    def bounds(self, drift: float) -> Bounds:
        futility = Futility(self.futility, 1 - self.power, drift, self.binding) if self.futility else None
        return solve_bounds(self.looks, self.size, self.spending, two_sided=self.two_sided, futility=futility)

    def exits(self, bounds: Bounds, drift: float) -> Exits:
        return exit_probabilities(self.looks, bounds.upper, bounds.lower, drift, two_sided=self.two_sided)

    def power_at(self, drift: float) -> float:
        return float(self.exits(self.bounds(drift), drift).above.sum())


def design_group_sequential(
    fixed: PowerResult | None = None,
    *,
    n_looks: int | None = None,
    fractions: Sequence[float] | None = None,
    alpha: float | None = None,
    power: float | None = None,
    alternative: str | None = None,
    spending: str | Spending = "obrien-fleming",
    futility: str | Spending | None = None,
    binding: bool = False,
) -> GroupDesignResult:
    """Plan the looks of an experiment: bounds, the drift they need for the power, and when it will stop.

    Parameters
    ----------
    fixed : PowerResult, optional
        Of :func:`solve_power`, for a test with one look: gives alpha, power and alternative unless they are named, and
        the units that the design multiplies. With ``adjustment="bonferroni"`` name the alpha of each comparison.
    n_looks, fractions : int, sequence of float
        Equally spaced looks (5 by default), or the share of the maximum information at each; the last is 1.
    alpha, power, alternative : float, float, str
        By default 0.05, 0.8 and two-sided, of which power is to reject on the side of the effect.
    spending, futility, binding
        See :func:`group_sequential_bounds`. Beta is spent under the drift of the design, so that its power is exact
        where the bound for futility is obeyed.

    Returns
    -------
    GroupDesignResult
        Expected numbers are means over when the experiment stops. Units at the looks are rounded up.

    Raises
    ------
    CausalRecError
        For both ways to give the looks, fractions that do not end at 1, a fixed design for equivalence, or a
        power not above alpha.

    Examples
    --------
    >>> design = design_group_sequential(n_looks=5, power=0.9)
    >>> print(f"{design.inflation_factor:.4f} {design.expected_alternative:.3f}")
    1.0231 0.759
    >>> from causalrec.abtest import solve_power
    >>> plan = design_group_sequential(solve_power(mean=10, std=20, effect=1, power=0.8), n_looks=4)
    >>> plan.n_obs.tolist()
    [3203, 6405, 9607, 12809]
    """
    looks = _looks(n_looks, fractions)
    alternative = _alternative(fixed, alternative)
    alpha = check_share(_given(alpha, fixed.alpha if fixed else None, 0.05), name="alpha", example=0.05)
    power = check_share(_given(power, fixed.power if fixed else None, 0.8), name="power", example=0.8)
    two_sided = alternative == "two-sided"
    if power <= alpha:
        raise CausalRecError(f"power is {power}; expected a number between alpha ({alpha}) and 1, such as 0.8.")
    if binding and futility is None:
        raise CausalRecError("binding is True without a bound for futility; give futility, such as 'pocock'.")
    plan = _Plan(
        looks, alpha / (2 if two_sided else 1), as_spending(spending), two_sided, power,
        None if futility is None else as_spending(futility), binding,
    )  # fmt: skip
    single = fixed_drift(plan.size, power)
    drift = brentq(lambda d: plan.power_at(d) - power, 0.9 * single, 4 * single, xtol=1e-10)
    return _result(plan, drift, single, alpha=alpha, alternative=alternative, fixed=fixed)


def _result(
    plan: _Plan, drift: float, single: float, *, alpha: float, alternative: str, fixed: PowerResult | None
) -> GroupDesignResult:
    bounds = plan.bounds(drift)
    null, effect = plan.exits(bounds, 0.0), plan.exits(bounds, drift)
    inflation = (drift / single) ** 2
    expected = [inflation * _expected(plan.looks, exits) for exits in (null, effect)]
    futility = Futility(plan.futility, 1 - plan.power, drift, plan.binding) if plan.futility else None
    shown = bounds_result(
        plan.looks, bounds, alpha=alpha, alternative=alternative, spending=spending_name(plan.spending),
        futility=futility,
    )  # fmt: skip
    units = NAN if fixed is None else float(fixed.n_obs)
    n_obs = np.array([] if fixed is None else [_up(units * inflation * t) for t in plan.looks], dtype=np.int64)
    values = {f.name: getattr(shown, f.name) for f in fields(shown)} | {"drift": float(drift), "beta": 1 - plan.power}
    return GroupDesignResult(
        **values, power=plan.power, inflation_factor=inflation, expected_null=expected[0],
        expected_alternative=expected[1], n_obs_fixed=units, n_obs_max=float(n_obs[-1]) if len(n_obs) else NAN,
        n_obs_null=units * expected[0], n_obs_alternative=units * expected[1],
        method="canonical joint normal law" + (f"; one look: {fixed.method}" if fixed else ""), n_obs=n_obs,
        efficacy_null=null.rejected, futility_null=_not_rejected(null), efficacy_alternative=effect.rejected,
        futility_alternative=_not_rejected(effect),
    )  # fmt: skip


def _not_rejected(exits: Exits) -> FloatArray:
    """Stops for futility; whatever comes to the end without a rejection counts there."""
    futile = exits.futile.copy()
    futile[-1] = max(1 - float(exits.rejected.sum() + futile[:-1].sum()), 0.0)
    return futile


def _expected(looks: Sequence[float], exits: Exits) -> float:
    """Mean fraction at which the experiment stops."""
    early = exits.stopped[:-1]
    return float(early @ np.array(looks[:-1]) + (1 - early.sum()) * looks[-1])


def _up(units: float) -> int:
    return math.ceil(units * (1 - 1e-12))


def _looks(n_looks: int | None, fractions: Sequence[float] | None) -> tuple[float, ...]:
    if fractions is None:
        n = 5 if n_looks is None else n_looks
        if n < 1 or int(n) != n:
            raise CausalRecError(f"n_looks is {n_looks}; expected a whole number of looks, such as 5.")
        return tuple((k + 1) / n for k in range(int(n)))
    if n_looks is not None:
        raise CausalRecError("both n_looks and fractions are given; expected one: n_looks spaces them equally.")
    looks = check_fractions(fractions)
    if not math.isclose(looks[-1], 1.0, rel_tol=1e-12):
        raise CausalRecError(f"the last of the fractions is {looks[-1]}; expected 1, where a design ends.")
    return (*looks[:-1], 1.0)


def _alternative(fixed: PowerResult | None, alternative: str | None) -> str:
    if fixed is not None and fixed.alternative == "equivalence":
        raise CausalRecError(
            "the fixed design is for equivalence, whose two tests have no common bound; plan it apart."
        )
    if alternative is None:
        found = "two-sided" if fixed is None else fixed.alternative
        return "greater" if found == "non-inferiority" else found
    return check_alternative(alternative)


def _given(named: float | None, designed: float | None, usual: float) -> float:
    return named if named is not None else designed if designed is not None else usual
