"""Results of ranking by uplift, as figures get them."""

from __future__ import annotations

import numpy as np

from causalrec.results import CurveResult, ScorerComparisonResult, UpliftCalibrationResult

NAN = float("nan")


def calibration(n: int = 5, pvalue: float = 0.02) -> UpliftCalibrationResult:
    predicted = np.linspace(0.3, -0.1, n)
    effect = 0.5 * predicted + 0.02
    width = np.full(n, 0.08)
    return UpliftCalibrationResult(
        0.06, 0.02, 0.01, 0.11, pvalue, 0.95, 100 * n, "groups", "calibration_error", "none", "e-mail", 0.0036, 0.002,
        0.0001, 0.0121, 0.07, 3.1, n, 400.0, n, np.arange(1, n + 1), np.full(n, 100), np.full(n, 1 / n), predicted,
        effect, width / 2, effect - width, effect + width, effect - predicted, width / 2, effect - predicted - width,
        effect - predicted + width,
    )  # fmt: skip


def scorers(metric: str = "qini", higher: bool = True, name: str = "new") -> ScorerComparisonResult:
    estimate = np.array([0.02, 0.03, 0.01])
    gap = np.array([-0.01, 0.01, 0.02])
    return ScorerComparisonResult(
        metric, higher, name, "", 0.95, 1000, 3, 3, "influence functions", np.array(["old", name, "random"]), estimate,
        np.full(3, 0.004), estimate - 0.008, estimate + 0.008, np.array([0.001, 0.001, NAN]),
        np.array(["old", "old", name]), np.array([name, "random", "random"]), gap, np.full(3, 0.006), gap - 0.012,
        gap + 0.012, np.array([0.1, 0.1, 0.001]), np.array([0.2, 0.2, 0.003]),
    )  # fmt: skip


def curve(kind: str, label: str = "T-learner", band: str = "pointwise") -> CurveResult:
    """A curve of averages, which swings at the start."""
    fraction = np.linspace(0.01, 1, 100)
    value = 0.1 * (1.5 - fraction)
    value[0] = 50.0
    half = 0.03 / np.sqrt(fraction)
    return CurveResult(kind, label, 0.9, 1000, fraction, value, value - half, value + half, np.full(100, 0.05), band)
