"""Results of heterogeneous effects as they come out of the analyses, to draw in tests."""

from __future__ import annotations

import numpy as np

from causalrec.results import EffectResult, GroupEffectsResult, LearnerComparisonResult, ProjectionResult

NAN = float("nan")


def groups(
    effect: tuple[float, ...] = (0.72, 0.52, 0.34, 0.26, 0.02),
    labels: tuple[object, ...] | None = None,
    predicted: bool = True,
    half: float = 0.12,
) -> GroupEffectsResult:
    """Effects of five groups, or of as many as are given, with intervals of the same width."""
    values, k = np.array(effect), len(effect)
    names = np.arange(1, k + 1) if labels is None else np.array(labels)
    return GroupEffectsResult(
        "none", "e-mail", values[0] - values[-1], 0.09, 0.5, 0.9, 1e-15, 20.0, 2e-15, True, 1.0, 0.37, 0.03, 0.31, 0.43,
        0.95, 6_000, k, "mean AIPW scores by predicted uplift", names, np.full(k, 6_000 // k), np.full(k, 1 / k),
        values + 0.01 if predicted else np.full(k, NAN), values, np.full(k, half / 2), values - half, values + half,
        np.full(k, 0.01),
    )  # fmt: skip


def projection(terms: tuple[str, ...] = ("intercept", "age", "visits", "country=Germany")) -> ProjectionResult:
    """Coefficients of which some differ from zero."""
    values = np.resize([-0.45, 0.02, -0.004, 0.12], len(terms))
    error = np.resize([0.12, 0.002, 0.016, 0.08], len(terms))
    return ProjectionResult(
        "none", "e-mail", 12.0, 6e-17, 5_990.0, 0.95, 6_000, "HC3", np.array(terms), values, error, values / error,
        np.full(len(terms), 0.01), values - 2 * error, values + 2 * error,
    )  # fmt: skip


def learners(names: tuple[str, ...] = ("X", "T", "S", "constant effect")) -> LearnerComparisonResult:
    """Learners of which the second cannot be told from the first; by DR-loss the second is the best."""
    m = len(names)
    r, dr = 0.004 * np.arange(m), 0.01 * np.abs(np.arange(m) - 1.0)
    columns = []
    for gap, lowest in ((r, 1.016), (dr, 4.32)):
        error = np.where(gap > 0, 0.002, NAN)
        columns += [lowest + gap, gap, error, gap - 2.2 * error, gap + 2.2 * error, np.where(gap > 0, 0.04, NAN)]
    ate = EffectResult(0.37, 0.03, 0.31, 0.43, 1e-40, 0.95, 6_000, "AIPW", "ate")
    return LearnerComparisonResult(names[0], 1, m, 6_000, 0.95, "paired t", (ate,), np.array(names), *columns)
