"""Results of refutations, to draw."""

from __future__ import annotations

import numpy as np

from causalrec.results import RefutationResult, RefutationsResult, SimulatedConfounderResult

KINDS = ("placebo_treatment", "random_common_cause", "data_subset", "dummy_outcome", "negative_control_outcome: before")


def refuted(kinds: tuple[str, ...] = KINDS, pvalue: float = 0.5) -> RefutationsResult:
    """An estimate of 1 with an error of 0.2; the negative control is off."""
    return RefutationsResult(
        "mail", "spend", "ate", "matching", 1.0, 0.2, kinds, tuple(_one(kind, pvalue) for kind in kinds),
        np.array([0.001 if "control" in kind else pvalue for kind in kinds]), ("bootstrap: not valid",),
    )  # fmt: skip


def _one(name: str, pvalue: float) -> RefutationResult:
    kind = name.split(":")[0]
    expected = 1.0 if kind in ("random_common_cause", "data_subset") else 0.0
    draws = expected + 0.1 * np.random.default_rng(0).normal(size=100)
    low, high = np.quantile(draws, [0.025, 0.975])
    if "control" in kind:
        return RefutationResult(
            kind, 1.0, 0.2, 0.0, 30.0, 9.0, 12.0, 48.0, 0.001, np.nan, 0.95, 1, "ols", "Little.", np.array([30.0])
        )
    return RefutationResult(
        kind, 1.0, 0.2, expected, float(draws.mean()), 0.1, float(low), float(high), pvalue, 0.01, 0.95, 100,
        "estimated anew", "Little.", draws,
    )  # fmt: skip


def made_up() -> SimulatedConfounderResult:
    """An estimate of 1 that a hidden cause of 20% of both takes away; one benchmark is beyond the grid."""
    strengths = np.array([0.0, 0.1, 0.2, 0.3])
    effect = 1 - 5 * np.sqrt(strengths[:, None] * strengths[None, :])
    return SimulatedConfounderResult(
        "mail", "spend", "ate", "matching", 1.0, 0.2, 0.2, 5, strengths, effect, 0 * effect, np.array(["age", "loyal"]),
        np.array([0.1, 0.05]), np.array([0.1, 0.6]), np.array([0.5, 0.1]),
    )  # fmt: skip
