"""How many units, how small an effect, how much power, how long: find the one from the others."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

import numpy as np
from scipy.optimize import brentq

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.abtest.hypotheses import Equivalence
from causalrec.abtest.power._numbers import as_list, as_number
from causalrec.abtest.power.design import Design, DesignOptions
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, PowerCurveResult, PowerResult

_MOST_UNITS = 1e15  # in all
_NUMBERS = "finite numbers, such as [0.02, 0.05]"
_ONE = "one finite number, such as 0.05; power_curve takes several"
_Function = TypeVar("_Function", bound=Callable[..., object])


def _takes_a_design(function: _Function) -> _Function:
    """Let help and completion list the design's parameters, which the function takes as ``options``."""
    own = inspect.signature(function, eval_str=False)
    named = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in dataclasses.fields(Design)
    ]
    function.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
    return function


@_takes_a_design
def solve_power(
    design: Design | None = None,
    *,
    effect: float | None = None,
    relative_effect: float | None = None,
    n_obs: float | None = None,
    power: float | None = None,
    **options: Unpack[DesignOptions],
) -> PowerResult:
    """Find the one of effect, number of units and power that is not given.

    Parameters
    ----------
    design : Design, optional
        Or its parameters by name: ``solve_power(mean=10, std=20, effect=1, power=0.8)``.
    effect, relative_effect : float, optional
        The true difference, or as a share of the control mean. For non-inferiority and equivalence often 0.
    n_obs : float, optional
        Units in all, of every arm.
    power : float, optional
    mean, std, proportion : float
        Of a unit in control: mean and standard deviation, or the share of a proportion; see :class:`Design`.
    alpha : float
    alternative : {"two-sided", "greater", "less"}
    hypothesis : NonInferiority or Equivalence, optional
    ratio, n_arms, weights : float, int, sequence of float
        How units are split: those of a treatment arm per unit of control and the number of arms, or all shares.
    adjustment : {"none", "bonferroni"}
    test : {"absolute", "relative"}
    method : {"t", "student", "normal"} for means, {"pooled", "unpooled", "arcsine"} for proportions
    variance_reduction, design_effect : float
        What covariates take from the variance, and the factor that clusters put on it.
    daily_units : float or sequence of float, optional
    metric : str

    Returns
    -------
    PowerResult
        With whole units rounded up arm by arm, and the power that those have. An unknown effect is the smallest that is
        seen (a rise where both signs are); of non-inferiority the worst that still passes, of equivalence the largest
        (a rise; a fall where a proportion has no room to rise by the margin). Where a proportion ends before the power
        falls to what is asked, the effect is that end, and the power more.

    Raises
    ------
    CausalRecError
        Unless exactly one is unknown; where no effect, or no number of units up to 1e15, can do it; for numbers that
        are missing or infinite; for a wrong design.

    Examples
    --------
    >>> solve_power(mean=10, std=20, effect=1, power=0.8, daily_units=1_000).n_obs
    12562
    >>> mde = solve_power(proportion=0.2, n_obs=10_000, power=0.9, variance_reduction=0.3)
    >>> print(f"{mde.effect:.4f} {mde.relative_effect:.1%}")
    0.0221 11.1%
    """
    design = _design(design, options)
    if relative_effect is not None:
        effect = float(_absolute(design, effect, as_number(relative_effect, name="relative_effect", expected=_ONE)))
    unknown = [k for k, v in {"effect": effect, "n_obs": n_obs, "power": power}.items() if v is None]
    if len(unknown) != 1:
        raise CausalRecError(
            f"{len(unknown)} of effect (or relative_effect), n_obs and power are missing ({list_some(unknown)}); give "
            "two of them, such as effect=0.5 and power=0.8, to find the third."
        )
    if effect is not None:
        effect = as_number(effect, name="effect", expected=_ONE)
    if n_obs is not None:
        n_obs = _units(n_obs)
    if power is not None and not design.alpha < as_number(power, name="power") < 1:
        raise CausalRecError(f"power is {power}; expected a number between alpha ({design.alpha}) and 1, such as 0.8.")
    if n_obs is None:
        per_control = _units_needed(design, effect, power)  # type: ignore[arg-type]
        arms = [math.ceil(per_control * share * (1 - 1e-12)) for share in design.shares]
        n_obs = sum(arms)
    else:
        arms = _apportion(n_obs, design.shares)
    if effect is None:
        effect = _detectable_effect(design, n_obs, power)  # type: ignore[arg-type]
    return PowerResult(
        metric=design.metric, baseline=design.baseline, std=design.unit_std, effect=float(effect),
        relative_effect=float(effect) / design.baseline if design.baseline else NAN,
        power=float(design.power(effect, n_obs)), alpha=design.alpha, alternative=design.question_name,
        n_obs=round(n_obs), n_control=arms[0], n_treatment=min(arms[1:]), n_arms=design.n_arms,
        days=NAN if design.daily_units is None else runtime_days(n_obs, design.daily_units), method=design.describe(),
    )  # fmt: skip


@_takes_a_design
def power_curve(
    design: Design | None = None,
    *,
    effect: float | Sequence[float] | None = None,
    relative_effect: float | Sequence[float] | None = None,
    n_obs: Sequence[float] | None = None,
    **options: Unpack[DesignOptions],
) -> PowerCurveResult:
    """Power over numbers of units, a curve for each effect.

    Parameters
    ----------
    design : Design, optional
        Or its parameters by name.
    effect, relative_effect : float or sequence of float
        One of them.
    n_obs : sequence of float, optional
        Units in all; by default 100 sizes for each effect, up to what it needs for a power of 95%.
    mean, std, proportion : float
        Of a unit in control: mean and standard deviation, or the share of a proportion; see :class:`Design`.
    alpha : float
    alternative : {"two-sided", "greater", "less"}
    hypothesis : NonInferiority or Equivalence, optional
    ratio, n_arms, weights : float, int, sequence of float
        How units are split: those of a treatment arm per unit of control and the number of arms, or all shares.
    adjustment : {"none", "bonferroni"}
    test : {"absolute", "relative"}
    method : {"t", "student", "normal"} for means, {"pooled", "unpooled", "arcsine"} for proportions
    variance_reduction, design_effect : float
        What covariates take from the variance, and the factor that clusters put on it.
    daily_units : float or sequence of float, optional
    metric : str

    Raises
    ------
    CausalRecError
        Without an effect, for numbers that are missing or infinite, or a wrong design.

    Examples
    --------
    >>> curve = power_curve(proportion=0.0179, effect=[0.0025, 0.005], n_obs=[10_000, 20_000, 40_000])
    >>> curve.power.round(2)
    array([[0.15, 0.25, 0.45],
           [0.42, 0.71, 0.94]])
    """
    design = _design(design, options)
    if relative_effect is not None:
        effect = _absolute(design, effect, as_list(relative_effect, name="relative_effect", expected=_NUMBERS))
    if effect is None:
        raise CausalRecError("effect is missing; give one or several, or relative_effect, to draw a curve for each.")
    effects = as_list(effect, name="effect", expected=_NUMBERS)
    if n_obs is None:
        sizes = np.unique(np.ceil(np.concatenate([_sizes(design, float(e)) for e in effects])))
    else:
        sizes = as_list(n_obs, name="n_obs", expected="finite numbers of units, such as [1_000, 2_000]")
        for size in (sizes.min(), sizes.max()):
            _units(size)
    whole = np.ceil(sizes).astype(np.int64)
    return PowerCurveResult(
        metric=design.metric, baseline=design.baseline, alpha=design.alpha, method=design.describe(), n_obs=whole,
        effect=effects, power=design.power(effects[:, None], whole[None, :]),
    )  # fmt: skip


def runtime_days(n_obs: float, daily_units: float | Sequence[float]) -> int:
    """Whole days until ``n_obs`` units have come.

    Parameters
    ----------
    n_obs : float
        > 0.
    daily_units : float or sequence of float
        New units a day; of a sequence the last one holds from then on, as returning users thin out the new ones.

    Raises
    ------
    CausalRecError
        For negative, missing or infinite numbers, or where the units never come.

    Examples
    --------
    >>> runtime_days(12_562, 1_000), runtime_days(12_562, [5_000, 2_000, 500])
    (13, 14)
    """
    n_obs = _units(n_obs)
    expected = "a number > 0, or one for each of the first days"
    daily = as_list(daily_units, name="daily_units", expected=expected)
    if (daily < 0).any():
        raise CausalRecError(f"daily_units is {daily_units!r}; expected {expected}.")
    come = np.cumsum(daily)
    if n_obs <= come[-1]:
        return int(np.searchsorted(come, n_obs)) + 1
    if daily[-1] == 0:
        raise CausalRecError(f"daily_units bring {come[-1]:g} units and then none; {n_obs:g} are needed. Run it wider.")
    return len(daily) + math.ceil((n_obs - float(come[-1])) / float(daily[-1]))


def _apportion(n_obs: float, shares: Sequence[float]) -> list[int]:
    """Whole units of each arm that sum to ``n_obs``: those with the largest remainders get what rounding down left."""
    exact = np.asarray(shares) * (round(n_obs) / sum(shares))
    arms = np.floor(exact * (1 + 1e-12)).astype(np.int64)
    left = round(n_obs) - int(arms.sum())
    arms[np.argsort(arms - exact, kind="stable")[:left]] += 1
    return [int(n) for n in arms]


def _units(n_obs: Any) -> float:
    found = as_number(n_obs, name="n_obs", expected="a finite number of units")
    if not 0 < found <= _MOST_UNITS:
        raise CausalRecError(f"n_obs is {found:g}; expected a number of units in (0, {_MOST_UNITS:g}].")
    return found


def _sizes(design: Design, effect: float) -> FloatArray:
    """100 sizes up to what an effect needs for a power of 95%, each larger by the same factor."""
    needed = _units_needed(design, effect, 0.95) * sum(design.shares)
    fewest = design.fewest_units / min(design.shares) * sum(design.shares)
    return np.geomspace(max(needed / 100, fewest), max(needed, fewest + 1), 100)


def _units_needed(design: Design, effect: float, power: float) -> float:
    """Units of control, not rounded."""
    in_all = sum(design.shares)
    sizes = design.fewest_units * max(1.0, 1 / min(design.shares)) * 2.0 ** np.arange(60)
    sizes = np.minimum(sizes, _MOST_UNITS / in_all)
    reached = design.power(effect, sizes * in_all) >= power
    if not reached[-1]:
        if _is_beyond_null(design, effect):
            raise CausalRecError(
                f"an effect of {effect:g} needs more than {_MOST_UNITS:g} units for a power of {power:g}. Check its "
                "unit, that of std, and how near the margin it lies."
            )
        raise CausalRecError(
            f"no number of units gives an effect of {effect:g} a power of {power:g}: it lies on the side of the null "
            f"({design.question_name}). Check its sign, the alternative and the margin."
        )
    first = int(np.argmax(reached))
    if first == 0:
        return float(sizes[0])
    found = brentq(
        lambda n: float(design.power(effect, n * in_all)) - power, sizes[first - 1], sizes[first], rtol=1e-13
    )
    return float(found)


def _is_beyond_null(design: Design, effect: float) -> bool:
    """Whether enough units would show the effect."""
    tests = design.one_sided_tests
    shifts = [effect - t.offset + (0 if t.theta == 1 else (1 - t.theta) * design.baseline) for t in tests]
    beyond = [t.direction * shift > 0 for t, shift in zip(tests, shifts, strict=True)]
    return all(beyond) if isinstance(design.question, Equivalence) else any(beyond)


def _detectable_effect(design: Design, n_obs: float, power: float) -> float:
    """Go from the edge of the null away from it until the power is there."""
    edge, way, limit = _search(design)
    if design.power(edge, n_obs) >= power:  # a proportion ends before the null begins
        return edge
    step = design.unit_std * math.sqrt(2 * sum(design.shares) / n_obs)
    steps = step * 2.0 ** np.arange(-4, 60)
    steps = np.append(steps[steps < limit], limit) if math.isfinite(limit) else steps
    reached = design.power(edge + way * steps, n_obs) >= power
    if not reached.any():
        raise CausalRecError(
            f"no effect has a power of {power:g} with {n_obs:g} units ({design.question_name}). Plan for more units, "
            "a wider margin or less power."
        )
    first = int(np.argmax(reached))
    low, high = (steps[first - 1] if first else 0.0), steps[first]
    found = brentq(lambda s: float(design.power(edge + way * s, n_obs)) - power, low, high, xtol=1e-300, rtol=1e-13)
    return float(edge + way * found)


def _search(design: Design) -> tuple[float, int, float]:
    """The effect at the edge of the null, or the last one before it, the way to go from it, and how far one can."""
    test = design.one_sided_tests[0]
    fall, rise = _reach(design)
    if isinstance(design.question, Equivalence):  # from a margin to no effect
        margin = design.question.margin * (abs(design.baseline) if design.question.relative else 1)
        if rise < margin <= -fall:
            return -margin, 1, margin
        return min(margin, rise), -1, min(margin, rise)
    edge = test.offset + (test.theta - 1) * design.baseline if test.theta != 1 else test.offset
    edge = min(max(edge, fall), rise)
    return edge, test.direction, (rise - edge) if test.direction == 1 else (edge - fall)


def _reach(design: Design) -> tuple[float, float]:
    """The largest fall and rise that there can be."""
    if math.isnan(design.proportion):
        return -math.inf, math.inf
    return -design.proportion * (1 - 1e-12), (1 - design.proportion) * (1 - 1e-12)


def _design(design: Design | None, options: DesignOptions) -> Design:
    known = [f.name for f in dataclasses.fields(Design)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise CausalRecError(
            f"{unknown[0]!r} is not a parameter of a design; expected some of {list_some(known, 20)}."
            f"{nearest(unknown[0], known)}"
        )
    if not isinstance(design, Design | None):
        raise CausalRecError(
            f"design is {design!r}; expected a Design. Give numbers by name, such as std=20, effect=1 and power=0.8."
        )
    if design is None:
        return Design(**options)
    return dataclasses.replace(design, **options) if options else design


def _absolute(design: Design, effect: Any, relative_effect: Any) -> Any:
    if effect is not None:
        raise CausalRecError("effect and relative_effect were both given; pass one.")
    if not abs(design.baseline) > 0:
        raise CausalRecError(f"mean is {design.mean}; a relative effect needs one that is not zero.")
    return np.asarray(relative_effect, dtype=np.float64) * design.baseline
