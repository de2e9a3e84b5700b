"""The study of uplift learners: published figures to the digit, surfaces by hand, tables, losses."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from causalrec.exceptions import DatasetError
from causalrec.uplift import TLearner
from experiments.uplift_benchmark import peers
from experiments.uplift_benchmark.columns import OURS, fit_ours
from experiments.uplift_benchmark.data import (
    SETTINGS,
    Task,
    ihdp_tasks,
    linear_task,
    nie_wager,
    nie_wager_tasks,
)
from experiments.uplift_benchmark.ols import ols_table
from experiments.uplift_benchmark.tables import learner_table, lost, mean_and_error, nie_wager_table, paired, roots
from experiments.uplift_benchmark.why import explain


@pytest.mark.parametrize(
    ("setting", "share", "mean", "variance"),
    [  # of the effect: A (U1 + U2) / 2; B X1 + log(1 + exp(X2)); C 1; D E max(N(0, 3), 0) - E max(N(0, 2), 0)
        ("A", None, 0.5, 1 / 24),
        ("B", 0.5, 0.806, 1.27),
        ("C", 0.5, 1.0, 0.0),
        ("D", 0.31, (np.sqrt(3) - np.sqrt(2)) / np.sqrt(2 * np.pi), (3 + 2) * (1 / 2 - 1 / (2 * np.pi))),
    ],
)
def test_settings_have_the_moments_of_the_paper(
    setting: str, share: float | None, mean: float, variance: float
) -> None:
    n = 100_000
    X, y, treatment, tau = nie_wager(setting, n, np.random.default_rng(1))
    assert (X.shape, y.shape) == ((n, 6), (n,))
    assert tau.mean() == pytest.approx(mean, abs=0.015)
    assert tau.var() == pytest.approx(variance, abs=0.03)
    if share is not None:
        assert treatment.mean() == pytest.approx(share, abs=0.008)


def test_noise_is_one_and_draws_differ() -> None:
    """The treated of setting B less half the effect and the controls plus half have the same surface and noise 1."""
    X, y, treatment, tau = nie_wager("B", 50_000, np.random.default_rng(2))
    surface = np.maximum.reduce([X[:, 0] + X[:, 1], X[:, 2], np.zeros(len(X))]) + np.maximum(X[:, 3] + X[:, 4], 0)
    noise = y - (treatment - 0.5) * tau - surface
    assert (noise.mean(), noise.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.015))
    tasks = list(nie_wager_tasks(2, n=20))
    assert [t.name for t in tasks] == [f"{s}-00{r}" for s in SETTINGS for r in (0, 1)]
    assert not np.array_equal(tasks[0].y, tasks[1].y)
    assert not np.array_equal(tasks[0].X, tasks[0].X_test)


@pytest.mark.slow
def test_published_errors_of_the_large_linear_set() -> None:
    """Quantco/metalearners, benchmarks/readme.md: T .0458966 in sample, .0456347 out of it."""
    task = linear_task()
    learner = TLearner(LinearRegression()).fit(task.X, task.y, treatment=task.treatment)
    for X, tau, published in ((task.X, task.tau, 0.0458966), (task.X_test, task.tau_test, 0.0456347)):
        assert np.sqrt(np.mean((learner.predict(X) - tau) ** 2)) == pytest.approx(published, abs=5e-7)


@pytest.mark.data
def test_published_errors_of_ihdp(data_dir: Path) -> None:
    """The figures of least squares on replications 1 to 10, all rows, to four digits."""
    table = ols_table(list(ihdp_tasks(10, data_dir, held_out=0.0)))
    assert table["mean"].tolist() == table["published mean"].tolist() == [4.6734, 2.0238]
    assert table["median"].tolist() == table["published median"].tolist() == [1.2362, 0.7300]


@pytest.mark.data
def test_ihdp_is_split_in_the_same_way_in_all_replications(data_dir: Path, tmp_path: Path) -> None:
    one, two = ihdp_tasks(2, data_dir)
    assert (len(one.y), len(one.X_test)) == (597, 150)
    assert np.array_equal(one.X, two.X)
    assert not np.array_equal(one.y, two.y)
    with pytest.raises(DatasetError, match="found no"):
        next(ihdp_tasks(1, tmp_path))


def _errors() -> pd.DataFrame:
    """Three draws; the peer's R-learner is better by 0.1 or so, its S-learner worse."""
    rows = []
    for run, noise in enumerate((0.0, 0.01, -0.01)):
        for column, learner, mse in (
            (OURS, "S", 0.1), ("EconML, XGBoost", "S", 0.3), (OURS, "R", 0.4), ("EconML, XGBoost", "R", 0.3),
            (f"{OURS}, XGBoost", "R", 0.6),
        ):  # fmt: skip
            shift = noise if column == OURS else 0.0
            rows.append({"set": "A", "task": f"A-{run:03d}", "column": column, "learner": learner,
                         "mse": mse + shift, "mse_train": mse, "seconds": 1.0})  # fmt: skip
    return pd.DataFrame(rows)


def test_tables_by_hand() -> None:
    errors = _errors()
    table = learner_table(errors, [OURS, "EconML, XGBoost"], mean_and_error).set_index("learner")
    assert table.loc["R"].tolist() == ["0.4 ± 0.00577", "0.3 ± 0"]
    assert table.loc["T"].tolist() == ["–", "–"]
    assert roots(pd.Series([0.04, 0.09, 1.0])) == "0.5 / 0.3"
    published = nie_wager_table(errors, [OURS], "A")["published, tuned XGBoost"]
    assert published.tolist() == ["0.09", "0.15", "0.05", "0.05", "–"]
    log, error = paired(errors, OURS, "EconML, XGBoost", "R")
    logs = np.log(np.array([0.4, 0.41, 0.39]) / 0.3)
    assert (log, error) == pytest.approx((logs.mean(), logs.std(ddof=1) / np.sqrt(3)))


def test_losses_are_named_with_their_reason() -> None:
    errors = _errors()
    found = lost(errors, ["EconML, XGBoost"])
    assert found[["set", "learner", "to"]].to_numpy().tolist() == [["A", "R", "EconML, XGBoost"]]
    why = explain(errors, found)["why"].iloc[0]
    assert why.startswith("with XGBoost's defaults as base it has 2 times the peer's error")


def test_peers_that_are_here() -> None:
    """EconML comes with the extras; the rest is in an environment of its own."""
    assert set(peers.available()) <= set(peers.COLUMNS)


@pytest.mark.slow
def test_same_base_same_answers() -> None:
    """Least squares: S, T and X of causalrec and EconML are the same numbers."""
    pytest.importorskip("econml", reason="econml is not installed; pip install 'causalrec[ate]'")
    X, y, treatment, tau = nie_wager("B", 500, np.random.default_rng(3))
    task = Task("B-000", X, y, treatment, tau, X[:50], tau[:50])
    found, seconds = fit_ours(f"{OURS}, linear", task)
    assert len(seconds) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of imports
        learners = peers.econml(peers.linear, peers.logistic)
    for name in ("S", "T", "X"):
        theirs = learners[name](X, treatment, y)(X)
        assert found[name][:500] == pytest.approx(np.ravel(theirs), abs=1e-8)
