"""Results of experiments for the tests of figures, with numbers that are easy to recognise."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.results import (
    AAResult,
    ABResult,
    DistributionResult,
    PowerCurveResult,
    ResamplingResult,
    TrendResult,
)

NAN = float("nan")


def effect(metric: str = "visit", relative: float = 0.25, low: float = 0.1, high: float = 0.4, **more: Any) -> ABResult:
    known: dict[str, Any] = {
        "control": "none", "treatment": "e-mail", "control_mean": 0.2, "treatment_mean": 0.25, "n_control": 500,
        "n_treatment": 400, "statistic": 5.0, "df": 998.0, "relative_effect": relative, "relative_ci_low": low,
        "relative_ci_high": high, "control_std_error": 0.01, "treatment_std_error": 0.02,
    }  # fmt: skip
    method = more.pop("method", "Welch")
    return ABResult(0.05, 0.01, 0.02, 0.08, 0.001, 0.95, 900, method, "ate", metric=metric, **(known | more))


def power_curve(metric: str = "visit", sizes: tuple[int, ...] = (100, 200, 300)) -> PowerCurveResult:
    power = np.linspace([0.1, 0.5], [0.6, 0.9], len(sizes)).T
    return PowerCurveResult(metric, 0.2, 0.05, "z", np.array(sizes), np.array([0.01, 0.02]), power)


def bootstrap(draws: Any = None, low: float = -1.0, high: float = 1.5) -> ResamplingResult:
    draws = np.random.default_rng(0).normal(0.2, 0.6, 500) if draws is None else np.asarray(draws)
    return ResamplingResult(
        0.25, 0.6, low, high, 0.7, 0.95, 100, "BCa", "difference", "bootstrap", "mean", 1.0, 1.25, len(draws), draws
    )


def permutation() -> ResamplingResult:
    draws = np.random.default_rng(0).normal(0, 0.6, 500)
    return ResamplingResult(
        2.5, NAN, NAN, NAN, 0.002, 0.95, 100, "permutation", "difference", "permutation", "median", 1.0, 3.5, 500, draws
    )


def aa(metric: str = "visit", n: int = 200) -> AAResult:
    pvalues = (np.arange(n) + 0.5) / n
    return AAResult(metric, 0.05, 0.05, 0.02, 0.09, 1.0, True, n, 1000, "Welch t", pvalues)


def distribution(metric: str = "minutes", arms: tuple[str, ...] = ("none", "e-mail")) -> DistributionResult:
    quantile = np.array([0.5, 0.05, 0.25, 0.75, 0.95])  # in no order
    value = np.array([[30.0, 1.0, 10.0, 50.0, 90.0]]) + np.arange(len(arms))[:, None]
    return DistributionResult(metric, 900, arms, quantile, value, 40.0 + np.arange(len(arms)))


def trend(metric: str = "minutes", n_days: int = 3, slope: float = -1.0) -> TrendResult:
    day = np.arange(n_days, dtype=float)
    effect = 5.0 + slope * day
    return TrendResult(
        slope, 0.2, slope - 0.4, slope + 0.4, 0.001, 0.95, 900, "weighted least squares", "slope", metric, "none",
        "e-mail", day, effect, effect - 2, effect + 2,
    )  # fmt: skip
