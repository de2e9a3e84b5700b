"""Results of hidden bias, to draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.results import PartialR2Result, RosenbaumResult


def confounding(n: int = 2, sign: float = 1.0) -> PartialR2Result:
    """An estimate of 0.1 with an error of 0.025 and 400 degrees of freedom; benchmarks at 2% and 4%."""
    grid = np.linspace(0, 0.3, 31)
    d, y = grid[None, :], grid[:, None]
    estimate = 0.1 - 0.025 * np.sqrt(400 * d * y / (1 - d))
    error = 0.025 * np.sqrt((1 - y) / (1 - d) * 400 / 399)
    at = 0.02 * np.arange(1, n + 1)
    return PartialR2Result(
        "mail", 0.1 * sign, 0.025, 4.0 * sign, 400, 410, 1.0, 0.95, 0.038, 0.181, 0.097, 1.966,
        np.array(["age"] * n, dtype=object), np.arange(1.0, n + 1), np.arange(1.0, n + 1), at, 4 * at,
        sign * (0.1 - at), np.full(n, 0.02), sign * (5 - 50 * at), sign * (0.1 - at) - 0.04, sign * (0.1 - at) + 0.04,
        grid, sign * estimate, sign * estimate / error,
    )  # fmt: skip


def rosenbaum(**changes: Any) -> RosenbaumResult:
    gamma = np.array([1.0, 1.5, 2.0, 3.0])
    values: dict[str, Any] = {
        "n_sets": 60, "n_used": 58, "method": "signed rank, exact", "alternative": "two-sided", "statistic": 1200.0,
        "pvalue": 0.0001, "confidence_level": 0.95, "turning_gamma": 2.4, "estimate": 1.0, "gamma": gamma,
        "pvalue_low": np.array([1e-4, 1e-7, 1e-9, 0.0]), "pvalue_high": np.array([1e-4, 0.003, 0.02, 0.12]),
        "estimate_low": 1 - 0.3 * (gamma - 1), "estimate_high": 1 + 0.3 * (gamma - 1),
        "ci_low": 0.6 - 0.35 * (gamma - 1), "ci_high": 1.4 + 0.35 * (gamma - 1),
    }  # fmt: skip
    return RosenbaumResult(**(values | changes))
