"""The placebo: its p-values are uniform where there is no effect, its draws independent and fixed by the seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.exceptions import CausalRecError
from causalrec.observational import ObservationalStudy, estimate_ate, placebo_treatment

COVARIATES = ["x0", "x1", "x2"]


def make_frame(n: int = 400, seed: int = 0, *, n_covariates: int = 3, randomised: bool = False) -> pd.DataFrame:
    """Confounded by x0, with effect 1 + x0: larger for the treated than for all."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_covariates))
    chance = np.full(n, 0.4) if randomised else 1 / (1 + np.exp(-X[:, 0]))
    t = (rng.random(n) < chance).astype(np.int64)
    y = X[:, 0] + t * (1 + X[:, 0]) + rng.normal(size=n)
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(n_covariates)]).assign(t=t, y=y)


def study_of(frame: pd.DataFrame, **change: Any) -> ObservationalStudy:
    return ObservationalStudy(frame, **{"treatment": "t", "outcome": "y", "covariates": COVARIATES, **change})


def difference_of(frame: pd.DataFrame) -> Callable[[np.ndarray], float]:
    y = frame["y"].to_numpy()
    return lambda permuted: float(y[permuted == 1].mean() - y[permuted == 0].mean())


def matching_of(frame: pd.DataFrame) -> Callable[[np.ndarray], float]:
    X, y = frame[["x0"]].to_numpy(), frame["y"].to_numpy()
    return lambda permuted: estimate_ate(X, y, treatment=permuted, method="matching").estimate


@pytest.mark.parametrize("estimator", [difference_of, pytest.param(matching_of, marks=pytest.mark.slow)])
def test_pvalues_are_uniform_where_there_is_no_effect(estimator) -> None:
    """With 39 permutations P(estimate_pvalue <= 0.1) is exactly 4/40 for a randomised treatment without effect."""
    n_runs = 80 if estimator is difference_of else 200
    of_estimate, of_mean = np.empty(n_runs), np.empty(n_runs)
    for seed in range(n_runs):
        frame = make_frame(60, seed, n_covariates=1, randomised=True)
        frame["y"] = frame["y"] - frame["t"] * (1 + frame["x0"])
        estimate_fn, t = estimator(frame), frame["t"].to_numpy()
        placebo = placebo_treatment(estimate_fn, t, estimate_fn(t), n_simulations=39, random_state=seed)
        of_estimate[seed], of_mean[seed] = placebo.estimate_pvalue, placebo.pvalue
    for pvalues in (of_estimate, of_mean):
        for level in (0.1, 0.5):
            low, high = stats.binom.interval(0.998, n_runs, level)
            assert low <= (pvalues <= level).sum() <= high


def test_draws_are_distinct_and_fixed_by_the_seed() -> None:
    frame = make_frame()
    one, same, other = (study_of(frame, random_state=s).placebo("lin", n_simulations=20) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.draws, same.draws)
    assert one.to_dict() == same.to_dict()
    assert len(np.unique(np.concatenate([one.draws, other.draws]))) == 40
    assert one.estimate_pvalue == 1 / 21  # the true effect is far beyond any permutation's


def test_statistics_come_from_the_draws() -> None:
    placebo = study_of(make_frame(), confidence_level=0.8).placebo("difference_in_means", n_simulations=50)
    assert placebo.pvalue == pytest.approx(stats.ttest_1samp(placebo.draws, 0).pvalue, rel=1e-9)
    assert (placebo.ci_low, placebo.ci_high) == pytest.approx(tuple(np.quantile(placebo.draws, [0.1, 0.9])))
    assert (placebo.new_effect, placebo.new_std) == pytest.approx((placebo.draws.mean(), placebo.draws.std(ddof=1)))


@pytest.mark.parametrize("method", ["matching", "ipw", "lin"])
def test_everything_is_estimated_anew_for_each_permutation(method: str) -> None:
    frame = make_frame(200)
    placebo = study_of(frame, random_state=5).placebo(method, n_simulations=3)
    X, t, y = frame[COVARIATES].to_numpy(), frame["t"].to_numpy(), frame["y"].to_numpy()
    permuted = [np.random.default_rng(s).permutation(t) for s in np.random.SeedSequence(5).spawn(3)]
    expected = [estimate_ate(X, y, treatment=p, method=method).estimate for p in permuted]
    np.testing.assert_allclose(placebo.draws, expected, atol=1e-9)
    assert placebo.estimate == estimate_ate(X, y, treatment=t, method=method).estimate
    assert placebo.method == f"permuted treatment, everything estimated anew by {method}"


def test_ties_between_estimate_and_placebo_count_in_spite_of_rounding() -> None:
    placebo = placebo_treatment(lambda _: 0.1 + 0.2, np.array([0, 1]), 0.3, n_simulations=4)
    assert placebo.estimate_pvalue == 1.0
    placebo = placebo_treatment(lambda _: 0.3, np.array([0, 1]), 0.1 + 0.2, n_simulations=4)
    assert placebo.estimate_pvalue == 1.0
    assert placebo.pvalue == 0.0  # the same effect each time, and not zero


def test_an_outcome_that_never_varies() -> None:
    placebo = study_of(make_frame().assign(y=0.0)).placebo("difference_in_means", n_simulations=20)
    assert (placebo.pvalue, placebo.estimate_pvalue) == (1.0, 1.0)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    study_of(make_frame()).placebo("ols", n_simulations=4, progress=lambda done, n: told.append((done, n)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_one_simulation_is_too_few() -> None:
    with pytest.raises(CausalRecError, match="n_simulations is 1; expected at least 2"):
        study_of(make_frame()).placebo("ols", n_simulations=1)
