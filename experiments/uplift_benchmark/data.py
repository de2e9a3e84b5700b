"""The tasks: simulations whose effects are known, and the semi-synthetic replications of IHDP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wishart
from sklearn.model_selection import train_test_split

from causalrec.datasets import data_directory
from causalrec.exceptions import DatasetError

Floats = NDArray[np.float64]
SETTINGS = {
    "A": "hard outcome and propensity, easy effect",
    "B": "randomised",
    "C": "confounded, constant effect",
    "D": "arms that have nothing in common",
}
SEED = 1337  # of the linear set, as published


@dataclass(frozen=True)
class Task:
    """Rows to learn from, rows to predict, and the true effect in both."""

    name: str
    X: Floats
    y: Floats
    treatment: NDArray[np.int64]
    tau: Floats
    X_test: Floats
    tau_test: Floats


def nie_wager(setting: str, n: int, rng: np.random.Generator, *, d: int = 6, sigma: float = 1.0) -> tuple[Floats, ...]:
    """Covariates, outcome, treatment and effect of setting A, B, C or D.

    Nie and Wager 2021, "Quasi-oracle estimation of heterogeneous treatment effects", section 6.1:
    Y = b(X) + (W - 1/2) tau(X) + sigma N(0, 1), W ~ Bernoulli(e(X)).
    """
    X = rng.uniform(size=(n, d)) if setting == "A" else rng.normal(size=(n, d))
    e, b, tau = _SURFACES[setting](X)
    treatment = (rng.uniform(size=n) < e).astype(np.int64)
    y = b + (treatment - 0.5) * tau + sigma * rng.normal(size=n)
    return X, y, treatment, tau


def _setting_a(X: Floats) -> tuple[Floats, Floats, Floats]:
    waves = np.sin(np.pi * X[:, 0] * X[:, 1])
    return (
        np.clip(waves, 0.1, 0.9),
        waves + 2 * (X[:, 2] - 0.5) ** 2 + X[:, 3] + 0.5 * X[:, 4],
        (X[:, 0] + X[:, 1]) / 2,
    )


def _setting_b(X: Floats) -> tuple[Floats, Floats, Floats]:
    b = np.maximum.reduce([X[:, 0] + X[:, 1], X[:, 2], np.zeros(len(X))]) + np.maximum(X[:, 3] + X[:, 4], 0)
    return np.full(len(X), 0.5), b, X[:, 0] + np.logaddexp(0, X[:, 1])


def _setting_c(X: Floats) -> tuple[Floats, Floats, Floats]:
    return (
        1 / (1 + np.exp(X[:, 1] + X[:, 2])),
        2 * np.logaddexp(0, X[:, 0] + X[:, 1] + X[:, 2]),
        np.ones(len(X)),
    )


def _setting_d(X: Floats) -> tuple[Floats, Floats, Floats]:
    treated, control = np.maximum(X[:, 0] + X[:, 1] + X[:, 2], 0), np.maximum(X[:, 3] + X[:, 4], 0)
    return 1 / (1 + np.exp(-X[:, 0]) + np.exp(-X[:, 1])), (treated + control) / 2, treated - control


_SURFACES = {"A": _setting_a, "B": _setting_b, "C": _setting_c, "D": _setting_d}


def nie_wager_tasks(runs: int, *, n: int = 1000, seed: int = 0) -> Iterator[Task]:
    """``runs`` draws of every setting, each with fresh rows to predict."""
    for k, setting in enumerate(SETTINGS):
        for run in range(runs):
            rng = np.random.default_rng([seed, k, run])
            X, y, treatment, tau = nie_wager(setting, n, rng)
            X_test, _, _, tau_test = nie_wager(setting, n, rng)
            yield Task(f"{setting}-{run:03d}", X, y, treatment, tau, X_test, tau_test)


def linear_task(n: int = 100_000, d: int = 25) -> Task:
    """Linear outcome and effect, correlated covariates, 30% treated at random; 80% to learn from.

    The synthetic set of metalearners' benchmarks (``benchmarks/readme.md`` of Quantco/metalearners), drawn in the same
    order from the same seed, so that published errors can be had to the digit. Its noise is N(0, 1), and N(0, 1/4) more
    for the treated.
    """
    rng = np.random.default_rng(SEED)
    mean = rng.uniform(-5, 5, size=d)
    covariance = wishart.rvs(df=d, scale=np.eye(d), random_state=rng)
    X = rng.multivariate_normal(mean, covariance, size=n)
    treatment = rng.multinomial(1, np.column_stack([np.full(n, 0.7), np.full(n, 0.3)])).argmax(axis=1)
    of_control, of_effect = rng.uniform(size=d), rng.uniform(size=d)
    tau = X @ of_effect
    y = X @ of_control + treatment * tau + rng.normal(size=n)
    y += treatment * rng.normal(0, 0.5, size=n)
    train, test = train_test_split(np.arange(n), test_size=0.2, random_state=SEED)
    return Task("linear", X[train], y[train], treatment[train], tau[train], X[test], tau[test])


def ihdp_tasks(replications: int = 50, path: Path | None = None, *, held_out: float = 0.2) -> Iterator[Task]:
    """Replications of IHDP (Hill 2011, response surface B): 747 children, 25 covariates, simulated outcomes.

    With ``held_out`` of the rows to predict (the same rows in all replications), else with all rows in both places.
    """
    import pandas as pd

    file = (path or data_directory()) / "ihdp" / "ihdp_npci_1-50.parquet"
    if not file.exists():
        raise DatasetError(f"found no {file}; expected the replications of IHDP there, see shared/data/README.md.")
    frame = pd.read_parquet(file)
    covariates = [f"x{j}" for j in range(1, 26)]
    for replication in range(1, replications + 1):
        rows = frame[frame["replication"] == replication]
        everyone = np.arange(len(rows))
        train, test = train_test_split(everyone, test_size=held_out, random_state=42) if held_out else (everyone,) * 2
        X, y = rows[covariates].to_numpy(np.float64), rows["y_factual"].to_numpy(np.float64)
        treatment, tau = rows["treatment"].to_numpy(np.int64), (rows["mu1"] - rows["mu0"]).to_numpy(np.float64)
        yield Task(
            f"ihdp-{replication:02d}", X[train], y[train], treatment[train], tau[train], X[test], tau[test]
        )  # fmt: skip
