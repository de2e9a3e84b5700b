"""Tipping points: what a hidden confounder must be like to bring an estimate, or its interval, to a value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_length, check_vector
from causalrec.exceptions import CausalRecError
from causalrec.results import EffectResult, TippingResult

SCALES = ("difference", "ratio")
CONFOUNDERS = ("binary", "normal")
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def without_confounder(
    estimate: float, *, treated: Any, control: Any, effect: Any, scale: str = "difference", confounder: str = "binary"
) -> FloatArray:
    r"""What an estimate would be if a hidden confounder, alike in effect in both arms, were adjusted for.

    Lin, Psaty and Kronmal 1998, Biometrics 54, "Assessing the sensitivity of regression results to unmeasured
    confounders in observational studies". A binary confounder with prevalences :math:`p_1, p_0` and effect γ on the
    outcome: a difference loses :math:`\gamma (p_1 - p_0)`, a ratio of rates is divided by
    :math:`(1 + (\gamma - 1) p_1) / (1 + (\gamma - 1) p_0)` (equation 2.6; for rare outcomes of odds and hazards too).
    A normal confounder of variance 1 with means :math:`p_1, p_0`: the same difference, and a ratio is divided by
    :math:`\gamma^{p_1 - p_0}`.

    Parameters
    ----------
    treated, control : prevalences in [0, 1], or means, of the confounder in the arms
    effect : numbers
        Ratio (above 0) or difference of the outcome with the confounder against without, or per standard deviation.
    scale : {"difference", "ratio"}
    confounder : {"binary", "normal"}

    Returns
    -------
    array

    Examples
    --------
    >>> without_confounder(2.0, treated=0.5, control=0.0, effect=3.0, scale="ratio").tolist()
    [1.0]
    """
    _check_kinds(scale, confounder)
    p1, p0 = _arms(treated, control, confounder)
    strength = np.atleast_1d(np.asarray(effect, dtype=np.float64))
    if scale == "difference":
        return np.asarray(estimate - strength * (p1 - p0))
    if not (strength > 0).all():
        raise CausalRecError("effect has values that are not above 0; a ratio is expected with scale='ratio'.")
    if confounder == "normal":
        return np.asarray(estimate / strength ** (p1 - p0))
    return np.asarray(estimate * (1 + (strength - 1) * p0) / (1 + (strength - 1) * p1))


def tipping_points(
    estimate: float | EffectResult,
    ci_low: float | None = None,
    ci_high: float | None = None,
    *,
    treated: Any = None,
    control: Any = None,
    scale: str = "difference",
    confounder: str = "binary",
    null: float | None = None,
) -> TippingResult:
    """The effect on the outcome that a hidden confounder needs, for each way it may be spread over the arms.

    The inverse of :func:`without_confounder` at ``null``, for the estimate and for the end of its interval nearer to
    ``null``, whose width is taken to stay.

    Parameters
    ----------
    estimate : float or EffectResult
        A result brings its interval.
    ci_low, ci_high : float, optional
    treated, control : arrays of prevalences, or of means in standard deviations
        Pairs of equal length. Default: all pairs of 0, 10, 25, 50, 75, 90 and 100% that differ; means 0.1, 0.2, 0.5
        and 1 above 0.
    scale : {"difference", "ratio"}
    confounder : {"binary", "normal"}
    null : float, optional
        Default: 0, or 1 for ratios.

    Returns
    -------
    TippingResult

    Raises
    ------
    CausalRecError
        For ratios that are not positive, prevalences outside [0, 1], and an interval without the estimate.

    Examples
    --------
    >>> found = tipping_points(2.0, 1.5, 2.6, treated=[0.5], control=[0.0], scale="ratio")
    >>> found.effect_for_estimate.tolist(), found.effect_for_interval.tolist()
    ([3.0], [2.0])
    """
    _check_kinds(scale, confounder)
    if isinstance(estimate, EffectResult):
        ci_low, ci_high, estimate = estimate.ci_low, estimate.ci_high, estimate.estimate
    value = float(estimate)
    low, high = (math.nan if end is None else float(end) for end in (ci_low, ci_high))
    target = (1.0 if scale == "ratio" else 0.0) if null is None else float(null)
    _check_values(value, low, high, target, scale)
    p1, p0 = _arms(*_defaults(treated, control, confounder), confounder)
    end = low if value > target else high
    if not math.isnan(end) and (end <= target if value > target else end >= target):
        end = math.nan
    return TippingResult(
        scale=scale, confounder=confounder, estimate=value, ci_low=low, ci_high=high, null=target, end=end, treated=p1,
        control=p0, effect_for_estimate=needed_effect(value, target, p1, p0, scale=scale, confounder=confounder),
        effect_for_interval=needed_effect(end, target, p1, p0, scale=scale, confounder=confounder),
    )  # fmt: skip


def needed_effect(
    value: float, target: float, treated: FloatArray, control: FloatArray, *, scale: str, confounder: str
) -> FloatArray:
    """The effect of a confounder that moves ``value`` to ``target``; NaN where none does.

    Parameters
    ----------
    treated, control : arrays of shape (m,)
        Prevalences, or means.

    Examples
    --------
    >>> needed_effect(2.0, 1.0, np.array([0.2]), np.array([0.1]), scale="ratio", confounder="binary").tolist()
    [nan]
    """
    apart = treated - control
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale == "difference":
            found = (value - target) / apart
        elif confounder == "normal":
            found = (value / target) ** (1 / apart)
        else:
            ratio = value / target
            found = 1 + (ratio - 1) / (treated - ratio * control)
    enough = np.isfinite(found) & (apart != 0)
    if scale == "ratio":
        enough &= found > 0
    return np.where(enough, found, np.nan)


def _check_kinds(scale: str, confounder: str) -> None:
    for name, value, known in (("scale", scale, SCALES), ("confounder", confounder, CONFOUNDERS)):
        if value not in known:
            raise CausalRecError(f"{name} is {value!r}; expected {known[0]!r} or {known[1]!r}.")


def _check_values(value: float, low: float, high: float, target: float, scale: str) -> None:
    if not (math.isfinite(value) and math.isfinite(target)):
        raise CausalRecError(f"estimate is {value} and null is {target}; expected finite numbers.")
    if low > value or high < value:
        raise CausalRecError(
            f"the interval [{low:g}, {high:g}] does not contain the estimate {value:g}; expected ci_low <= estimate <= "
            "ci_high. Check their order and scale."
        )
    if scale == "ratio" and min(x for x in (value, low, high, target) if not math.isnan(x)) <= 0:
        raise CausalRecError(
            "scale='ratio' needs numbers above 0, but the estimate, its interval or null is not; pass "
            "scale='difference', or exponentiate logarithms first."
        )


def _defaults(treated: Any, control: Any, confounder: str) -> tuple[Any, Any]:
    if treated is not None and control is not None:
        return treated, control
    if treated is not None or control is not None:
        raise CausalRecError("treated and control go together: pass both, one value per case, or neither.")
    if confounder == "normal":
        return (0.1, 0.2, 0.5, 1.0), (0.0, 0.0, 0.0, 0.0)
    pairs = [(a, b) for a in _SHARES for b in _SHARES if a != b]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _arms(treated: Any, control: Any, confounder: str) -> tuple[FloatArray, FloatArray]:
    first, second = (
        check_vector(np.atleast_1d(np.asarray(v)), name=n) for v, n in ((treated, "treated"), (control, "control"))
    )
    check_length(len(second), len(first), name="control")
    both = np.concatenate([first, second])
    if confounder == "binary" and ((both < 0) | (both > 1)).any():
        raise CausalRecError(
            f"prevalences run from {both.min():g} to {both.max():g}; expected shares between 0 and 1. For means pass "
            "confounder='normal'."
        )
    return first, second
