"""Does the effect on a proxy tell that on the outcome: within one experiment, and over many?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from causalrec._validation import check_confidence_level
from causalrec.abtest.decisions._joint import JointEffects, joint_effects
from causalrec.abtest.inference import upper_quantile, upper_tail
from causalrec.abtest.relative import fieller_ratio
from causalrec.exceptions import OutcomeError
from causalrec.moments import Moments
from causalrec.results import ProxyResult

_ALL_EXPLAINED = 1e-12  # share of the outcome's variance


class _Slope(NamedTuple):
    value: float
    variance: float
    pvalue_same: float  # of one slope in both arms


def proxy_analysis(
    control: Moments,
    treatment: Moments,
    *,
    proxy: str,
    outcome: str,
    size: str | None = None,
    names: tuple[str, str] = ("control", "treatment"),
    confidence_level: float = 0.95,
) -> ProxyResult:
    """Compare the effect on an outcome with what the effect on a proxy predicts, in one experiment.

    With s and y the effects on proxy and outcome and b the slope of the outcome on the proxy within arms (pooled), the
    prediction is b s, and the rest, y - b s, is the treatment's coefficient in the regression of the outcome on
    treatment and proxy. Prentice's (1989) fourth criterion is that it be zero; b s / y is the proportion explained
    of Freedman, Graubard and Schatzkin (1992), here with Fieller's interval.

    The errors are of large samples and take b to be independent of s and y, as it is where the outcome is linear in the
    proxy with one variance in each arm. Where the variance grows with the proxy, that of b is larger; it enters with
    (s / b)^2 beside the variance of s, so that this matters little unless the proxy's effect is far more certain than
    the slope.

    None of this makes the proxy a cause: units were randomised to the arms, not to the proxy. What moves both within
    arms enters b, and a proxy that would fail elsewhere can explain everything here (VanderWeele 2013).

    Parameters
    ----------
    control, treatment : Moments
        Of the columns, a row per unit that was assigned (per cluster: sums of its rows, and how many they are). From a
        table by :func:`causalrec.engines.collect_moments`.
    proxy, outcome : str
    size : str, optional
        The number of rows of a cluster: effects are then on means per row, and the slope is one of clusters.
    names : pair of str
        The arms, control first.
    confidence_level : float

    Raises
    ------
    ColumnError
        For a column that is not there, or is named twice.
    OutcomeError
        For fewer than three units in an arm, values that are not finite, no variance, or a proxy of which the outcome
        is a multiple.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> minutes = rng.normal([[30.0], [31.0]], 10, size=(2, 5000))
    >>> spend = 0.2 * minutes + rng.normal(0, 1, size=(2, 5000))
    >>> a, b = (Moments.from_array(np.c_[m, s], ["minutes", "spend"]) for m, s in zip(minutes, spend))
    >>> found = proxy_analysis(a, b, proxy="minutes", outcome="spend")
    >>> print(f"{found.predicted_effect:.3f} of {found.outcome_effect:.3f}, rest p = {found.remainder_pvalue:.2f}")
    0.242 of 0.230, rest p = 0.55
    """
    check_confidence_level(confidence_level)
    joint = joint_effects(control, treatment, [proxy, outcome], size=size, names=names)
    slope = _slope(joint, proxy, outcome)
    s, y = (float(v) for v in joint.effect)
    cov = joint.covariance
    predicted = slope.value * s
    # By s, y and b, of which b is independent.
    var_predicted = slope.value**2 * float(cov[0, 0]) + s**2 * slope.variance
    shared = slope.value * float(cov[0, 1])
    var_rest = float(np.array([-slope.value, 1.0]) @ cov @ np.array([-slope.value, 1.0])) + s**2 * slope.variance
    z = upper_quantile((1 - confidence_level) / 2)
    low, high, _ = fieller_ratio(predicted, var_predicted, y, float(cov[1, 1]), z, covariance=shared)
    fields: dict[str, float] = {}
    for name, effect, variance in (
        ("proxy", s, cov[0, 0]), ("outcome", y, cov[1, 1]), ("predicted", predicted, var_predicted),
        ("remainder", y - predicted, var_rest),
    ):  # fmt: skip
        fields |= _described(name, effect, float(variance), z)
    del fields["predicted_pvalue"]  # it adds nothing to the proxy's
    return ProxyResult(
        proxy=proxy, outcome=outcome, control=names[0], treatment=names[1], **fields, slope=slope.value,
        slope_std_error=math.sqrt(slope.variance), slopes_pvalue=slope.pvalue_same,
        explained=predicted / y if y else math.nan, explained_ci_low=low, explained_ci_high=high,
        confidence_level=float(confidence_level), n_obs=sum(joint.n),
        method=f"z, slope within arms{' over clusters' if size else ''}, Fieller interval of the part explained",
    )  # fmt: skip


def _described(name: str, effect: float, variance: float, z: float) -> dict[str, float]:
    error = math.sqrt(variance)
    first = name if name == "remainder" else f"{name}_effect"
    return {
        first: effect, f"{name}_std_error": error, f"{name}_ci_low": effect - z * error,
        f"{name}_ci_high": effect + z * error, f"{name}_pvalue": 2 * upper_tail(abs(effect) / error),
    }  # fmt: skip


def _slope(joint: JointEffects, proxy: str, outcome: str) -> _Slope:
    """Least squares within arms, pooled, with a residual variance for each arm."""
    n = np.array(joint.n, dtype=np.float64)
    spread, mixed, own = (joint.arms[:, i, j] * (n - 1) for i, j in ((0, 0), (0, 1), (1, 1)))
    slope = float(mixed.sum() / spread.sum())
    left = own - 2 * slope * mixed + slope**2 * spread
    if not (left.sum() > _ALL_EXPLAINED * own.sum()):
        raise OutcomeError(
            f"{outcome} is {slope:g} times {proxy} for every unit, give or take a constant, so one says nothing of the "
            "other. Take another proxy."
        )
    noise = left / (n - 2)
    variance = float(spread @ noise / spread.sum() ** 2)
    same = math.nan
    if (spread > 0).all():
        each = mixed / spread
        apart = (own - each * mixed) / (n - 2) / spread
        same = 2 * upper_tail(abs(float(each[1] - each[0])) / math.sqrt(max(float(apart.sum()), 1e-300)))
    return _Slope(slope, variance, same)
