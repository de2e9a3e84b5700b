"""Segments, a policy tree and importances as results."""

from __future__ import annotations

import numpy as np

from causalrec.results import (
    PermutationImportanceResult,
    PolicyTreeResult,
    SegmentsResult,
    ShapImportanceResult,
)

NAN = float("nan")
NAMES = np.array(["persuadables", "sure things", "lost causes", "sleeping dogs"])


def segments(k: int = 4, threshold: float = 0.02, mapped: bool = True) -> SegmentsResult:
    effect = np.array([0.3, 0.05, -0.02, -0.2])[:k]
    lift = np.array([1.2, 0.1, -0.05, -0.25])[:k]
    low, high = np.array([np.inf, 0.1, -0.1]), np.array([0.1, -0.1, -np.inf])
    cells = np.arange(2 * k if mapped else 0)
    none = np.empty(0)
    return SegmentsResult(
        "none", "e-mail", threshold, NAN, 0.4, 0.06, 0.01, 0.04, 0.08, 0.95, 4000, k, "3 groups", NAMES[:k],
        np.arange(1, k + 1) * 100, np.full(k, 1 / k), effect + 0.01, effect, np.full(k, 0.05), effect - 0.1,
        effect + 0.1, np.linspace(0.6, 0.3, k), np.full(k, 0.01), lift, lift - 0.1, lift + 0.1, high, low,
        np.array([100, 200, 100]), *[np.array([0.3, 0.0, -0.2])] * 5,
        np.array(["persuadables", "no effect shown", "sleeping dogs"]), np.empty(0, dtype=str), np.empty(0, dtype=str),
        none, none, none, NAMES[cells // 2], cells / 10, 1 - cells / 10, cells + 1,
    )  # fmt: skip


def tree(depth: int = 2, arms: tuple[str, ...] = ("none", "e-mail")) -> PolicyTreeResult:
    """A full tree: the left half of the leaves gets control."""
    parents, sides = [-1], [""]
    last = [0]
    for _ in range(depth):
        following = []
        for parent in last:
            for side in ("yes", "no"):
                following.append(len(parents))
                parents.append(parent)
                sides.append(side)
        last = following
    m = len(parents)
    leaf = np.array([k in last for k in range(m)])
    arm = np.array([arms[k % len(arms)] for k in range(m)])
    compared = np.where(arm == arms[0], arms[1], arm)
    share = np.array([1.0 / 2 ** (len(bin(k + 1)) - 3) for k in range(m)])
    gain = np.where(arm == arms[0], -0.0123, 0.0456)
    each = np.linspace(0.1, 0.2, len(arms))
    return PolicyTreeResult(
        0.25, 0.01, 0.23, 0.27, depth, len(last), 0.95, 1000, "held-out rows", "depth 2, exact search", np.array(arms),
        np.full(len(arms), 1 / len(arms)), each, each / 10, each - 0.02, each + 0.02, each / 100, np.array(parents),
        np.array(sides), np.where(leaf, "", "x ≤ 1.5"), arm, compared, (1000 * share).astype(np.int64), share, gain,
        gain - 0.01, gain + 0.01,
    )  # fmt: skip


def permutation(m: int = 4, name: str = "covariate") -> PermutationImportanceResult:
    rise = np.linspace(0.4, -0.05, m)
    return PermutationImportanceResult(
        "X-learner", 1.0, 1.2, m, 10, 500, 0.95, "R-loss, 10 shuffles", np.array([f"{name} {k}" for k in range(m)]),
        rise, np.full(m, 0.05), rise - 0.15, rise + 0.15, np.full(m, 0.01),
    )  # fmt: skip


def shap(m: int = 4, name: str = "covariate") -> ShapImportanceResult:
    size = np.linspace(0.4, 0.1, m)
    way = np.array([0.9, -0.8, 0.1, NAN] * m)[:m]
    return ShapImportanceResult(
        "X-learner", 0.1, m, 500, "SHAP", np.array([f"{name} {k}" for k in range(m)]), size, size / size.sum(), way
    )
