"""A learner of four kinds of boosted models, two folds each of the nuisances, as results."""

from __future__ import annotations

import numpy as np

from causalrec.results import BoostingCurveResult, ImportanceResult

NAMES = ["outcome, control", "outcome, control", "outcome, treated", "outcome, treated", "effect"]
PARTS = ["fold 1", "fold 2", "fold 1", "fold 2", ""]
TREES = np.array([12, 9, 20, 15, 0])


def boosting(rounds: int = 30) -> BoostingCurveResult:
    at = np.arange(rounds + 1)
    validation = [1 - 0.01 * np.minimum(at, t) + 0.002 * np.maximum(at - t, 0) for t in TREES[:4]]
    train = [1 - 0.015 * at for _ in TREES[:4]]
    short = np.array([1.0, 1.01])
    last = np.array([v[t] for v, t in zip([*validation, short], TREES, strict=True)])
    return BoostingCurveResult(
        "DR-learner", 5, 12.0, 20, np.array(NAMES), np.array(PARTS),
        np.array(["logloss"] * 4 + ["mse"]), TREES, np.array([2, 2, 4, 2, 0]),
        np.array([t[k] for t, k in zip([*train, short], TREES, strict=True)]), last, 1 - last,
        np.r_[np.repeat(np.arange(4), rounds + 1), 4, 4], np.r_[np.tile(at, 4), 0, 1],
        np.concatenate([*train, short]), np.concatenate([*validation, short]),
    )  # fmt: skip


def importances(n: int = 4, name: str = "covariate") -> ImportanceResult:
    shares = np.array([2.0**-k for k in range(1, n)] + [0.0])
    shares[0] += 1 - shares.sum()
    names = np.array([f"{name} {k}" for k in range(n)])
    return ImportanceResult("DR-learner", "effect", "fall of the loss", n, n - 1, names, shares)
