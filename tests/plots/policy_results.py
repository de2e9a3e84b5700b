"""Results of targeting for the figures' tests."""

from __future__ import annotations

import numpy as np

from causalrec.results import CostCurveComparisonResult, CostCurveResult, PolicyRegretResult, ProfitCurveResult


def cost(label: str = "both arms", total: float = 0.5, height: float = 1.0) -> CostCurveResult:
    spend = np.linspace(0, total, 11)
    gain = height * spend * (1.5 - spend)
    half = 0.1 * spend
    return CostCurveResult(label, "none", ("mail",), total, 0.95, 900, "scores", spend, gain, half / 1.96, gain - half,
                           gain + half, 0.6 * spend)  # fmt: skip


def difference() -> CostCurveComparisonResult:
    spend = np.linspace(0, 0.5, 11)
    gap = 0.4 * spend
    return CostCurveComparisonResult(
        "both", "mail only", 0.5, 0.05, 0.01, 0.03, 0.07, 1e-6, 0.95, 900, "paired", spend, gap, 0.1 * spend,
        gap - 0.2 * spend, gap + 0.2 * spend,
    )  # fmt: skip


def profit(fixed: float = 0.0) -> ProfitCurveResult:
    share = np.linspace(0, 1, 11)
    value = share * (1.2 - share) - np.where(share > 0, fixed, 0.0)
    half = 0.1 * share
    near = ((share > 0.35) & (share < 0.85)).astype(np.int64)
    return ProfitCurveResult(
        "DR-learner", 0.6, 0.4, 0.8, 0.36, 0.2, 0.52, 0.55, 0.35, 0.25, 0.45, 1e-9, 0.2, 0.1, 0.3, 1e-4, fixed, 0.95,
        900, "scores", share, value, half / 2, value - half, value + half, value - 2 * half, value + 2 * half,
        0.2 * share - fixed, near,
    )  # fmt: skip


def regret(*names: str) -> PolicyRegretResult:
    many = names or ("tree", "all mail", "all none")
    lost = np.linspace(0, 0.4, len(many))
    low, high = np.maximum(lost - 0.1, 0), lost + 0.1
    return PolicyRegretResult(
        many[0], len(many), 0.95, 900, "scores", np.array(many, dtype=object), 1 - lost, 0 * lost + 0.05, 0.9 - lost,
        1.1 - lost, lost, low, high, (low == 0).astype(np.int64),
    )  # fmt: skip
