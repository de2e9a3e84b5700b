"""Intervals of ratios of two estimates."""

from __future__ import annotations

import math


def fieller_interval(
    top: float, bottom: float, var_top: float, var_bottom: float, covariance: float, critical: float
) -> tuple[float, float]:
    """All ratios r for which top - r bottom is not significantly different from zero.

    Fieller 1954, Journal of the Royal Statistical Society B 16, "Some problems in interval estimation". Infinite ends
    where the bottom is not significantly different from zero: the set is then everything, or all but a gap, and no
    finite interval holds it.

    Parameters
    ----------
    top, bottom : float
        Estimates, with their variances and covariance.
    critical : float
        Errors on either side, such as 1.96; negative to exchange the ends.

    Returns
    -------
    low, high : float
        NaN where a variance is.

    Examples
    --------
    >>> low, high = fieller_interval(2.0, 1.0, 0.01, 0.0, 0.0, 1.96)  # a bottom that is known: the normal interval
    >>> round(low, 6), round(high, 6)
    (1.804, 2.196)
    >>> fieller_interval(2.0, 1.0, 0.01, 1.0, 0.0, 1.96)
    (-inf, inf)
    """
    z2 = critical**2
    a = bottom**2 - z2 * var_bottom
    middle = top * bottom - z2 * covariance
    # middle^2 - a (top^2 - z2 var_top), multiplied out: the difference of squares loses all digits when z2 v << m^2.
    spread = var_bottom * top**2 - 2 * covariance * top * bottom + z2 * covariance**2 + var_top * a
    if math.isnan(a + middle + spread):
        return math.nan, math.nan
    if not a > 0:
        return -math.inf, math.inf
    root = math.copysign(math.sqrt(z2 * max(spread, 0.0)), critical)
    return (middle - root) / a, (middle + root) / a
