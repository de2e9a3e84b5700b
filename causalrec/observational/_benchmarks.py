"""How a hidden confounder compares with an observed covariate: what it explains, and how much stronger it must be."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

from causalrec.observational.partial_r2 import as_strong_as, confounded

_STEPS = 200


def strength_of_benchmark(r2_treatment: float, r2_outcome: float) -> tuple[float, float]:
    """What a covariate itself explains, from what a confounder as strong as it explains at most.

    The inverse of :func:`as_strong_as` at kd = ky = 1.

    Examples
    --------
    >>> [round(r2, 6) for r2 in strength_of_benchmark(*as_strong_as(0.2, 0.1, 1, 1, name="age"))]
    [0.2, 0.1]
    """
    by_treatment = r2_treatment / (1 + r2_treatment)
    shared = by_treatment * r2_treatment / (1 - by_treatment)
    odds = r2_outcome * (1 - shared) / (1 + math.sqrt(shared)) ** 2
    return by_treatment, odds / (1 + odds)


def times_as_strong(
    estimate: float, std_error: float, dof: int, r2_treatment: float, r2_outcome: float, *, critical_t: float = 0.0
) -> float:
    """How many times as strong as a benchmark a confounder must be to bring an estimate, or its interval, to zero.

    The least k = kd = ky at which :func:`confounded`, of what :func:`as_strong_as` gives, is ``critical_t`` adjusted
    errors from zero or nearer.

    Parameters
    ----------
    r2_treatment, r2_outcome : float
        What the benchmark explains of the treatment given the other covariates, and of the outcome given these and
        the treatment.
    critical_t : float
        0: the estimate itself.

    Returns
    -------
    float
        0 where nothing is needed; infinite where no confounder of the kind is enough.

    Examples
    --------
    Darfur (Cinelli and Hazlett 2020, table 1), where three times the strength of ``female`` leave 0.0304 of 0.0973:

    >>> round(times_as_strong(0.0973158, 0.0232565, 783, 0.009081, 0.109002), 2)
    4.34
    """
    if r2_treatment <= 0 or r2_outcome <= 0:
        return 0.0 if _left_over(0.0, estimate, std_error, dof, 0.5, 0.5, critical_t) <= 0 else math.inf
    arguments = (estimate, std_error, dof, r2_treatment, r2_outcome, critical_t)
    most = (1 - r2_treatment) / r2_treatment
    steps = most * np.linspace(0.0, 1 - 1e-9, _STEPS) ** 4  # finer where benchmarks are weak
    gaps = [_left_over(float(k), *arguments) for k in steps]
    over = next((i for i, gap in enumerate(gaps) if gap <= 0), None)
    if over is None or over == 0:
        return math.inf if over is None else 0.0
    return float(optimize.brentq(_left_over, steps[over - 1], steps[over], args=arguments, xtol=1e-12))


def _left_over(
    k: float, estimate: float, std_error: float, dof: int, r2_treatment: float, r2_outcome: float, critical_t: float
) -> float:
    """How far beyond ``critical_t`` errors an estimate still is, with a confounder k times as strong."""
    r2 = as_strong_as(r2_treatment, r2_outcome, k, k, name="covariate") if k > 0 else (0.0, 0.0)
    value, error = confounded(abs(estimate), std_error, dof, *r2)
    return float(value - critical_t * error)
