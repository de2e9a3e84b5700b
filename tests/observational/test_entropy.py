"""Entropy balancing: published values, conditions of the optimum, estimating equations differentiated by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, special, stats

from causalrec.exceptions import CausalRecError, ColumnError, OverlapError, TreatmentError
from causalrec.observational import entropy_balancing, weighting_effect, weights

COVARIATES = ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75", "none74", "none75"]
MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]


def confounded(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    t = (rng.random(n) < special.expit(0.7 * X[:, 0] - 0.5 * X[:, 1] - 0.4)).astype(np.int64)
    return X, t, X @ [1.5, 1.0] + t * (1 + X[:, 0]) + rng.normal(size=n)


def trained(data_dir: Path, controls: str) -> pd.DataFrame:
    """The 185 trained of Dehejia and Wahba with controls from a survey."""
    files = (pd.read_csv(data_dir / "lalonde" / f"{name}.csv") for name in ("nsw_dw", controls))
    frame = pd.concat(files, ignore_index=True).query("treat == 1 or data_id != 'Dehejia-Wahba Sample'")
    return frame.assign(none74=frame["re74"] == 0, none75=frame["re75"] == 0)


# --- published ------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("controls", "printed", "exact", "robust"),
    [("cps_controls", 1406.27, 1406.30, 654.93), ("psid_controls", 2420.49, 2424.66, 876.85)],
)
def test_effects_of_training_on_survey_controls(data_dir, controls, printed, exact, robust) -> None:
    """Imbens and Xu's tutorial on LaLonde prints 1406.27 (654.93) and 2420.49 (876.85), ten covariates.

    Its weights come from R package ebal, which stops near the solution; the exact dual gives 1406.30 and 2424.66. Its
    error is HC1 of the weighted regression on treatment, which takes the weights as known.
    """
    frame = trained(data_dir, controls)
    t, y = frame["treat"].to_numpy(), frame["re78"].to_numpy()
    design = entropy_balancing(frame[COVARIATES], treatment=t)
    known = weighting_effect(y, design, treatment=t, weights_known=True)
    assert known.estimate == pytest.approx(exact, abs=5e-3)
    assert known.estimate == pytest.approx(printed, rel=2e-3)
    hc1 = known.std_error * np.sqrt(len(t) / (len(t) - 2))
    assert hc1 == pytest.approx(robust, rel=5e-4)
    white = sm.WLS(y, sm.add_constant(t.astype(float)), weights=design.weights).fit(cov_type="HC1")
    assert (known.estimate, hc1) == pytest.approx((white.params[1], white.bse[1]), rel=1e-9)
    if controls == "cps_controls":
        assert hc1 == pytest.approx(654.93, abs=5e-3)


@pytest.mark.data
def test_effect_on_matchits_lalonde(data_dir) -> None:
    frame = pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")
    t = frame["treat"].to_numpy()
    design = weights(frame[MATCHIT], treatment=t, estimand="att", method="entropy_balancing")
    effect = weighting_effect(frame["re78"], design, treatment=t)
    assert effect.estimate == pytest.approx(1273.262, abs=5e-4)
    assert (effect.estimand, effect.n_obs, effect.ess_treated) == ("att", 614, 185)
    dummies = pd.get_dummies(frame[MATCHIT]).to_numpy(float)
    means = [np.average(dummies[t == a], axis=0, weights=design.weights[t == a]) for a in (0, 1)]
    np.testing.assert_allclose(means[0], means[1], rtol=1e-8)


# --- against other ways to compute the same -------------------------------------------------------------------------


@pytest.mark.parametrize("base", [False, True])
def test_weights_minimise_relative_entropy(base) -> None:
    """Hainmueller 2012, equations 2 to 4: convex, so that the conditions of Karush, Kuhn and Tucker are enough."""
    rng = np.random.default_rng(0)
    X, t = rng.normal(size=(30, 2)), np.repeat([0, 1], [20, 10])
    q = rng.uniform(0.5, 2, 30) if base else np.ones(30)
    found = entropy_balancing(X, treatment=t, base_weights=q).weights
    pool, goal = X[t == 0], X[t == 1].mean(axis=0)
    np.testing.assert_allclose(np.average(pool, axis=0, weights=found[t == 0]), goal, atol=1e-9)
    ratio, Z = np.log(found[t == 0] / q[t == 0]), np.column_stack([np.ones(20), pool])
    assert np.abs(ratio - Z @ np.linalg.lstsq(Z, ratio)[0]).max() < 1e-10
    np.testing.assert_array_equal(found[t == 1], 1.0)


@pytest.mark.parametrize("estimand", ["att", "atc", "ate"])
@pytest.mark.parametrize("weighted", [False, True])
def test_error_is_that_of_stacked_equations(estimand, weighted) -> None:
    """Population means, tilts of the arms and means of the outcome in one vector; derivatives by number."""
    X, t, y = confounded(0, 300)
    sw = np.random.default_rng(1).uniform(0.3, 2, 300) if weighted else np.ones(300)
    asked = sw * {"att": t, "atc": 1 - t, "ate": np.ones(300)}[estimand]

    def moments(theta):
        mu, means, tilts = theta[:2], theta[2:4], theta[4:].reshape(2, 2)
        parts = [asked[:, None] * (X - mu)]
        for arm in (0, 1):
            if {"att": 1, "atc": 0}.get(estimand) == arm:
                w = asked
                parts.append(1e-3 * np.ones((300, 1)) * tilts[arm])  # not needed: stays at zero
            else:
                w = sw * (t == arm) * np.exp((X - X.mean(axis=0)) @ tilts[arm])
                parts.append(w[:, None] * (X - mu))
            parts.append((w * (y - means[arm]))[:, None])
        return np.column_stack(parts)

    theta = optimize.root(lambda b: moments(b).sum(axis=0), np.zeros(8), tol=1e-13).x
    A = np.column_stack(
        [(moments(theta + d) - moments(theta - d)).sum(axis=0) / 2e-5 for d in 1e-5 * np.eye(len(theta))]
    )
    influence = np.linalg.solve(A, moments(theta).T)
    effect = weighting_effect(
        y, entropy_balancing(X, treatment=t, estimand=estimand, sample_weight=sw), treatment=t
    )  # fmt: skip
    assert effect.estimate == pytest.approx(theta[3] - theta[2], rel=1e-7)
    assert effect.std_error == pytest.approx(np.sqrt(((influence[3] - influence[2]) ** 2).sum()), rel=1e-5)


def test_it_removes_all_that_is_linear_in_what_is_balanced() -> None:
    """With an outcome that is linear the error of the att is that of the noise, whatever the score."""
    X, t, _ = confounded(1, 200)
    effect = weighting_effect(3 + X @ [5.0, -2.0] + 2 * t, entropy_balancing(X, treatment=t), treatment=t)
    assert effect.estimate == pytest.approx(2, abs=1e-8)
    assert effect.std_error == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("estimand", ["att", "atc", "ate"])
def test_higher_moments_and_interactions_agree(estimand) -> None:
    X, t, _ = confounded(2, 600)
    X = np.column_stack([X, X[:, 0] > 0.3])
    design = entropy_balancing(X, treatment=t, estimand=estimand, moments=2, interactions=True)
    assert "8 means" in design.method  # 3 means, 2 squares, 3 products
    every = np.column_stack([X, X[:, :2] ** 2, X[:, [0]] * X[:, [1]], X[:, [2]] * X[:, :2]])
    population = {"att": t == 1, "atc": t == 0, "ate": t >= 0}[estimand]
    for arm in (0, 1):
        mean = np.average(every[t == arm], axis=0, weights=design.weights[t == arm])
        np.testing.assert_allclose(mean, every[population].mean(axis=0), atol=1e-7)


# --- what must not matter -------------------------------------------------------------------------------------------


def test_units_order_and_redundant_columns_change_nothing() -> None:
    X, t, _ = confounded(3, 200)
    plain = entropy_balancing(X, treatment=t, moments=2).weights
    order = np.random.default_rng(3).permutation(200)
    np.testing.assert_allclose(
        entropy_balancing(X[order], treatment=t[order], moments=2).weights, plain[order], rtol=1e-6
    )
    scaled = entropy_balancing(X * [1e5, 1e-4] + [3e5, 1], treatment=t, moments=2).weights
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)
    more = np.column_stack([X, np.full(200, 7.0)])
    np.testing.assert_allclose(entropy_balancing(more, treatment=t, moments=2).weights, plain, rtol=1e-6)
    linear = entropy_balancing(np.column_stack([X, X[:, 0] - 3 * X[:, 1]]), treatment=t)
    np.testing.assert_allclose(linear.weights, entropy_balancing(X, treatment=t).weights, rtol=1e-6)
    for noise in (1e-9, 1e-7, 1e-6, 1e-5, 1e-4):  # as good as linear, or just not
        near = np.column_stack([X, X[:, 0] + noise * np.random.default_rng(8).normal(size=200)])
        w = entropy_balancing(near, treatment=t).weights
        assert np.average(X[t == 0], axis=0, weights=w[t == 0]) == pytest.approx(X[t == 1].mean(axis=0), abs=1e-7)
    y = X[:, 0] + t
    errors = [
        weighting_effect(y + X[:, 1] ** 2, d, treatment=t).std_error
        for d in (linear, entropy_balancing(X, treatment=t))
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


def test_a_sample_weight_is_a_number_of_copies() -> None:
    X, t, _ = confounded(4, 120)
    copies = np.random.default_rng(4).integers(1, 4, 120)
    for estimand in ("att", "atc", "ate"):
        weighted = entropy_balancing(X, treatment=t, estimand=estimand, sample_weight=copies)
        repeated = entropy_balancing(np.repeat(X, copies, axis=0), treatment=np.repeat(t, copies), estimand=estimand)
        np.testing.assert_allclose(np.repeat(weighted.weights / copies, copies), repeated.weights, rtol=1e-6)


def test_nothing_that_was_given_is_changed() -> None:
    X, t, _ = confounded(5, 100)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(c=["x", "y"] * 50)
    copy, array = frame.copy(), X.copy()
    entropy_balancing(frame, treatment=t)
    entropy_balancing(X, treatment=t)
    pd.testing.assert_frame_equal(frame, copy)
    np.testing.assert_array_equal(X, array)


# --- edges ----------------------------------------------------------------------------------------------------------


def test_where_the_population_lacks_a_level_the_arm_does_without_it() -> None:
    """No treated unit has the level: controls with it get weight zero, the limit of ever larger tilts."""
    rng = np.random.default_rng(6)
    X = np.column_stack([rng.normal(size=100), np.arange(100) % 4 == 0])
    t = (rng.random(100) < 0.5).astype(int)
    t[X[:, 1] == 1] = 0
    design = entropy_balancing(X, treatment=t)
    np.testing.assert_array_equal(design.weights[X[:, 1] == 1], 0.0)
    keep = X[:, 1] == 0
    alone = entropy_balancing(X[keep][:, :1], treatment=t[keep])
    np.testing.assert_allclose(design.weights[keep], alone.weights, rtol=1e-7)
    y = rng.normal(size=100) + X[:, 0]
    errors = [weighting_effect(v, d, treatment=s).std_error for v, d, s in ((y, design, t), (y[keep], alone, t[keep]))]
    assert errors[0] == pytest.approx(errors[1], rel=1e-7)


@pytest.mark.parametrize(
    ("X", "named"),
    [
        (pd.DataFrame({"age": [20, 30, 40, 35, 45, 50.0], "size": [1, 2, 3, 2, 1, 3.0]}), "'age'"),
        # Each mean is within reach alone, but not both together.
        (
            pd.DataFrame(
                {
                    "a": [0, 1, 0, 0, 1, 0, 0.9, 0.9],
                    "b": [0, 0, 1, 0, 0, 1, 0.9, 0.8],
                    "c": [1, 1, 1, 3, 3, 3, 1.9, 2.1],
                }
            ),
            "'b', 'a'|'a', 'b'",
        ),
        # Two columns that are one among the controls, but not among the treated.
        (pd.DataFrame({"a": [0, 1, 2, 0.5, 1, 2.0], "b": [0, 1, 2, 0.5, 1, 0.5]}), "'b', 'a'|'a', 'b'"),
    ],
)
def test_means_out_of_reach_are_named(X, named) -> None:
    with pytest.raises(OverlapError, match=f"no weights of the units of arm 0 .* above all in ({named})"):
        entropy_balancing(X, treatment=[0] * (len(X) - 2) + [1] * 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimand": "ato"}, CausalRecError, "estimand is 'ato'"),
        ({"moments": 0}, CausalRecError, "moments is 0"),
        ({"moments": 1.5}, CausalRecError, r"moments is 1\.5"),
        ({"X": np.ones((4, 1))}, CausalRecError, "no covariate varies"),
        ({"X": np.array([[1.0], [np.inf], [2.0], [3.0]])}, ColumnError, "missing or infinite"),
        ({"treatment": [1, 1, 1, 1]}, TreatmentError, "needs two arms"),
        ({"base_weights": [0, 1, 1, 0]}, TreatmentError, "arm 0: .* 0 of 2"),
        ({"sample_weight": [1, 0, 0, 1]}, TreatmentError, "arm 1: .* 0 of 2"),
    ],
)
def test_it_refuses(options, error, message) -> None:
    given = {"X": np.array([[1.0], [2.0], [1.5], [3.0]]), "treatment": [0, 1, 1, 0], **options}
    with pytest.raises(error, match=message):
        entropy_balancing(**given)


# --- coverage -------------------------------------------------------------------------------------------------------


def covered(estimand: str, n_runs: int, n: int, *, clusters: bool = False) -> int:
    """Intervals that hold the effect 1 + E[x1] of the population asked for, by quadrature."""
    nodes, w = np.polynomial.hermite_e.hermegauss(60)
    x1, x2 = np.meshgrid(nodes, nodes)
    e = special.expit(0.7 * x1 - 0.5 * x2 - 0.4)
    h = np.outer(w, w) * {"att": e, "atc": 1 - e, "ate": 1.0}[estimand]
    goal = float((h * (1 + x1)).sum() / h.sum())
    hits = 0
    for seed in range(n_runs):
        X, t, y = confounded(2000 + seed, n)
        rng = np.random.default_rng(seed)
        rows = np.repeat(np.arange(n), rng.integers(1, 4, n)) if clusters else np.arange(n)
        design = entropy_balancing(X[rows], treatment=t[rows], estimand=estimand)
        effect = weighting_effect(
            y[rows] + rng.normal(size=len(rows)), design, treatment=t[rows], clusters=rows if clusters else None
        )
        hits += abs(effect.estimate - goal) <= effect.ci_high - effect.estimate
    return hits


def within_chance(hits: int, n_runs: int) -> bool:
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    return bool(low <= hits <= high)


@pytest.mark.parametrize("estimand", ["att", "ate"])
def test_intervals_cover(estimand) -> None:
    assert within_chance(covered(estimand, 100, 400), 100)


@pytest.mark.slow
@pytest.mark.parametrize("estimand", ["att", "atc", "ate"])
@pytest.mark.parametrize("clusters", [False, True])
def test_intervals_cover_with_and_without_clusters(estimand, clusters) -> None:
    assert within_chance(covered(estimand, 600, 800, clusters=clusters), 600)
