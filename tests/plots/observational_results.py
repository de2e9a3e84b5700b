"""Results of average effects from logs, to draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.results import (
    AdjustedEffect,
    BalanceResult,
    EffectComparisonResult,
    OverlapResult,
    PanelEffectResult,
    WeightSpreadResult,
)

NAN = float("nan")


def balance(n: int = 4, name: str = "x", **changes: Any) -> BalanceResult:
    before = np.resize([0.4, -0.5, 0.05, 0.2], n) * (1 + np.arange(n) // 4)
    after = np.resize([0.02, -0.03, 0.01, 0.0], n)
    ones = np.ones(n)
    values: dict[str, Any] = {
        "n_obs": 1000, "n_treated": 400, "n_control": 600, "ess_treated": 400.0, "ess_control": 300.0,
        "estimand": "att", "denominator": "treated", "method": "matching", "negative_share": 0.0, "adjusted": True,
        "threshold": 0.1, "balanced": True, "n_covariates": n, "n_beyond": 0, "n_variance_beyond": 0, "worst": "x1",
        "max_abs_smd_before": 0.5, "max_abs_smd_after": 0.03, "max_ks_before": 0.3, "max_ks_after": 0.1,
        "covariate": np.array([f"{name}{i}" for i in range(n)], dtype=object), "mean_treated_before": ones,
        "mean_control_before": ones, "mean_treated_after": ones, "mean_control_after": ones, "smd_before": before,
        "smd_after": after, "variance_ratio_before": ones, "variance_ratio_after": ones, "ks_before": ones,
        "ks_after": ones,
    }  # fmt: skip
    return BalanceResult(**(values | changes))


def overlap(n: int = 10, **changes: Any) -> OverlapResult:
    edges = np.linspace(0, 1, n + 1)
    treated = np.arange(1, n + 1) / np.arange(1, n + 1).sum()
    return OverlapResult(1000, 0.1, 0.9, 0.02, "logistic", edges, treated, treated[::-1].copy(), **changes)


def trimmed() -> OverlapResult:
    flat = np.full(10, 0.1)
    return overlap(
        n_treated=400, n_control=600, support_low=0.2, support_high=0.95, crump_low=0.08, crump_high=0.92,
        share_trimmed=0.03, ess_treated=300.0, ess_control=200.0, treated_after=flat, control_after=flat,
    )  # fmt: skip


def weight_spread(**changes: Any) -> WeightSpreadResult:
    values: dict[str, Any] = {
        "n_obs": 1000, "n_treated": 400, "n_control": 600, "n_zero_treated": 0, "n_zero_control": 60,
        "ess_treated": 350.0, "ess_control": 123.4, "max_treated": 3.0, "max_control": 9.5, "top_share_treated": 0.02,
        "top_share_control": 0.08, "method": "ipw", "edges": np.logspace(-1, 1, 5),
        "treated": np.array([0.1, 0.2, 0.6, 0.1]), "control": np.array([0.2, 0.4, 0.2, 0.1]),
    }  # fmt: skip
    return WeightSpreadResult(**(values | changes))


def adjusted(estimate: float = 0.5, low: float = 0.3, high: float = 0.7, estimand: str = "att") -> AdjustedEffect:
    return AdjustedEffect(estimate, 0.1, low, high, 0.01, 0.95, 1000, "Hájek", estimand, 400, 600)


def comparison() -> EffectComparisonResult:
    effects = (adjusted(-0.2, -0.4, 0.0), adjusted(), adjusted(0.6, 0.4, 0.8, "ato"))
    smd = np.array([0.51, 0.02, NAN])
    return EffectComparisonResult("mail", "spend", "att", 1000, ("naive", "ipw", "overlap_weights"), effects, smd)


def panel(**changes: Any) -> PanelEffectResult:
    event = np.array([-3, -2, -1, 0, 1])
    estimate, error = np.array([0.1, -0.1, 0.0, 0.5, 0.7]), np.array([0.1, 0.1, 0.0, 0.1, 0.2])
    values: dict[str, Any] = dict.fromkeys(
        ("simple", "simple_error", "by_group", "by_group_error", "by_event", "by_event_error", "by_calendar",
         "by_calendar_error", "twfe_estimate", "twfe_error", "twfe_negative"), 0.5,
    ) | {
        "estimate": 0.6, "std_error": 0.1, "ci_low": 0.4, "ci_high": 0.8, "pvalue": 1e-9, "confidence_level": 0.95,
        "n_obs": 500, "method": "difference-in-differences", "estimand": "att", "outcome": "spend",
        "control_group": "never_treated", "base_period": "universal", "aggregation": "group", "anticipation": 0,
        "n_units": 100, "n_treated": 40, "n_control": 60, "n_periods": 5, "n_groups": 1, "n_clusters": 100,
        "n_dropped": 0, "n_without_control": 0, "pretrend_statistic": 1.4, "pretrend_df": 2, "pretrend_pvalue": 0.497,
        "critical_value": 2.5, "group": np.array([3]), "group_n": np.array([40]), "group_estimate": estimate[-1:],
        "group_error": error[-1:], "event": event, "event_estimate": estimate, "event_error": error,
        "event_low": estimate - 1.96 * error, "event_high": estimate + 1.96 * error,
        "event_band_low": estimate - 2.5 * error, "event_band_high": estimate + 2.5 * error,
        "cell_group": np.full(5, 3), "cell_time": event + 3, "cell_estimate": estimate, "cell_error": error,
    }  # fmt: skip
    return PanelEffectResult(**(values | changes))
