"""Weighted effects against published values, statsmodels, and estimating equations differentiated by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels
import statsmodels.api as sm
from scipy import optimize, special, stats

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance.support import TARGETS, crump_bounds
from causalrec.observational import fit_propensity, weighting_effect, weights

MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]


@pytest.fixture
def lalonde(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")


@pytest.fixture
def nhefs(data_dir: Path) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Covariates as Hernán and Robins enter them, treatment and outcome of the 1,566 with an outcome."""
    frame = pd.read_csv(data_dir / "nhefs" / "NHEFS.csv").dropna(subset=["wt82_71"])
    squares = ["age", "smokeintensity", "smokeyrs", "wt71"]
    X = (
        frame[["sex", "race", *squares]]
        .assign(**{f"{c}2": frame[c] ** 2 for c in squares})
        .assign(**{c: frame[c].astype("category") for c in ("education", "exercise", "active")})
    )
    return X, frame["qsmk"].to_numpy(), frame["wt82_71"].to_numpy()


def confounded(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A score that is logistic in two covariates, and an effect that varies with the first."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    t = (rng.random(n) < special.expit(0.7 * X[:, 0] - 0.5 * X[:, 1] - 0.4)).astype(np.int64)
    return X, t, X @ [1.5, 1.0] + t * (1 + X[:, 0]) + rng.normal(size=n)


# --- published ------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(("estimand", "printed"), [("att", 1214.071), ("ate", 224.676), ("ato", 1242.201)])
def test_effects_on_matchits_lalonde(lalonde, estimand, printed) -> None:
    """Logistic score, Hájek's means, n = 614; overlap weights as R package PSweight 1.2 has them."""
    design = weights(lalonde[MATCHIT], treatment=lalonde["treat"], estimand=estimand)
    effect = weighting_effect(lalonde["re78"], design, treatment=lalonde["treat"])
    assert effect.estimate == pytest.approx(printed, abs=5e-4)
    assert (effect.estimand, effect.n_treated, effect.n_control) == (estimand, 185, 429)


@pytest.mark.data
def test_what_if_program_12_2(nhefs) -> None:
    """Hernán and Robins, "Causal Inference: What If": weights of mean 1.996, effect 3.4 (2.4, 4.5), robust error."""
    X, t, y = nhefs
    design = weights(X, treatment=t)
    w = design.weights
    assert (w.mean(), w.std(ddof=1), w.min(), w.max()) == pytest.approx((1.99628, 1.47479, 1.0537, 16.7001), abs=5e-5)
    printed = weighting_effect(y, design, treatment=t, weights_known=True)
    assert (printed.estimate, printed.std_error) == pytest.approx((3.44054, 0.52549), abs=5e-6)
    assert (printed.ci_low, printed.ci_high) == pytest.approx((2.411, 4.470), abs=5e-4)
    counted = weighting_effect(y, design, treatment=t)
    assert (counted.estimate, counted.std_error) == pytest.approx((3.44054, 0.48707), abs=5e-6)
    assert "known" in printed.method
    assert "counts the estimation" in counted.method


@pytest.mark.data
def test_what_if_program_12_3_stabilised_weights(nhefs) -> None:
    """Mean .999, range 0.33 to 4.30, and the same effect."""
    X, t, y = nhefs
    design = weights(X, treatment=t, method="stabilised")
    assert design.weights.mean() == pytest.approx(0.999, abs=5e-4)
    assert (design.weights.min(), design.weights.max()) == pytest.approx((0.33, 4.30), abs=5e-3)
    plain, same = (weighting_effect(y, d, treatment=t) for d in (weights(X, treatment=t), design))
    assert (same.estimate, same.std_error) == pytest.approx((plain.estimate, plain.std_error), rel=1e-9)


def cattaneo() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Birth weights of Cattaneo (2010), in the wheel of statsmodels."""
    data = pd.read_csv(Path(statsmodels.__file__).parent / "treatment" / "tests" / "results" / "cataneo2.csv")
    columns = ["mmarried_", "mage", "mage2", "fbaby_", "medu"]
    return data[columns].to_numpy(float), data["mbsmoke_"].to_numpy(), data["bweight"].to_numpy(float)


@pytest.mark.parametrize("estimand", ["ate", "att"])
def test_cattaneo_as_stata_prints_it(estimand) -> None:
    """teffects ipw of Stata 14, in the tests of statsmodels: ATE -230.6886 (25.8152), ATT -225.1773 (23.6646)."""
    from statsmodels.treatment.tests.results.results_teffects import results_ipw

    X, t, y = cattaneo()
    effect = weighting_effect(y, weights(X, treatment=t, estimand=estimand, model="probit"), treatment=t)
    printed = (results_ipw.table if estimand == "ate" else results_ipw.table_t)[0]
    assert (effect.estimate, effect.std_error) == pytest.approx(tuple(printed[:2]), rel=1e-7)
    assert (effect.ci_low, effect.ci_high) == pytest.approx(tuple(printed[4:6]), rel=1e-7)


# --- against other ways to compute the same -------------------------------------------------------------------------


def stacked_error(X, t, y, moments, n_means, sample_weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Means and covariance from estimating equations: all of them in one vector, derivatives by number.

    ``moments(e, means)`` are those of the means given the score, shape (n, n_means).
    """
    Z, w = np.column_stack([np.ones(len(X)), X]), np.ones(len(X)) if sample_weight is None else sample_weight

    def all_moments(theta):
        e = special.expit(Z @ theta[n_means:])
        return np.column_stack([moments(e, theta[:n_means]), (w * (t - e))[:, None] * Z])

    found = optimize.root(lambda theta: all_moments(theta).sum(axis=0), np.zeros(n_means + Z.shape[1]), tol=1e-13)
    theta = found.x
    steps = 1e-5 * np.eye(len(theta))
    A = np.column_stack([(all_moments(theta + d) - all_moments(theta - d)).sum(axis=0) / 2e-5 for d in steps])
    m = all_moments(theta)
    bread = np.linalg.inv(A)
    return theta[:n_means], (bread @ m.T @ m @ bread.T)[:n_means, :n_means]


def tilt(e, estimand):
    return {"ate": 1.0 + 0 * e, "att": e, "atc": 1 - e, "ato": e * (1 - e), "atm": np.minimum(e, 1 - e)}[estimand]


@pytest.mark.parametrize("estimand", TARGETS)
@pytest.mark.parametrize("weighted", [False, True])
def test_error_is_that_of_stacked_equations(estimand, weighted) -> None:
    X, t, y = confounded(0, 400)
    sw = np.random.default_rng(1).uniform(0.2, 3, 400) if weighted else None
    h = np.ones(400) if sw is None else sw

    def moments(e, means):
        w1, w0 = h * tilt(e, estimand) * t / e, h * tilt(e, estimand) * (1 - t) / (1 - e)
        return np.column_stack([w1 * (y - means[0]), w0 * (y - means[1])])

    means, cov = stacked_error(X, t, y, moments, 2, sw)
    effect = weighting_effect(y, weights(X, treatment=t, estimand=estimand, sample_weight=sw), treatment=t)
    assert effect.estimate == pytest.approx(means[0] - means[1], rel=1e-8)
    assert effect.std_error == pytest.approx(np.sqrt([1, -1] @ cov @ [1, -1]), rel=1e-5)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_horvitz_thompson_error_is_that_of_stacked_equations(estimand) -> None:
    X, t, y = confounded(1, 400)
    sw = np.random.default_rng(1).uniform(0.2, 3, 400)
    own = sw * {"ate": np.ones(400), "att": t, "atc": 1 - t}[estimand]

    def moments(e, means):
        h = sw * tilt(e, estimand)
        return (h * t * y / e - h * (1 - t) * y / (1 - e) - own * means[0])[:, None]

    means, cov = stacked_error(X, t, y, moments, 1, sw)
    design = weights(X, treatment=t, estimand=estimand, method="horvitz_thompson", sample_weight=sw)
    effect = weighting_effect(y, design, treatment=t)
    assert (effect.estimate, effect.std_error) == pytest.approx((means[0], np.sqrt(cov[0, 0])), rel=1e-5)


def test_trimmed_and_clipped_errors_are_those_of_stacked_equations() -> None:
    X, t, y = confounded(2, 500)
    kept = np.abs(fit_propensity(X, treatment=t).score - 0.5) <= 0.25

    def effect_of(inside, bound):
        def moments(e, means):
            e = np.clip(e, bound, 1 - bound)
            return np.column_stack([inside * t / e * (y - means[0]), inside * (1 - t) / (1 - e) * (y - means[1])])

        means, cov = stacked_error(X, t, y, moments, 2)
        return means[0] - means[1], np.sqrt([1, -1] @ cov @ [1, -1])

    trimmed = weighting_effect(y, weights(X, treatment=t, trim=0.25), treatment=t)
    assert (trimmed.estimate, trimmed.std_error) == pytest.approx(effect_of(kept, 0.0), rel=1e-5)
    assert (trimmed.n_dropped, trimmed.n_obs) == ((~kept).sum(), kept.sum())
    clipped = weighting_effect(y, weights(X, treatment=t, clip=0.2), treatment=t)
    assert (clipped.estimate, clipped.std_error) == pytest.approx(effect_of(np.ones(500), 0.2), rel=1e-4)
    score = fit_propensity(X, treatment=t).score
    assert clipped.share_clipped == np.mean((score < 0.2) | (score > 0.8)) > 0
    assert "clipped to [0.2, 0.8]" in clipped.method


def test_known_weights_give_whites_error_and_liang_and_zegers_with_clusters() -> None:
    _, t, y = confounded(3, 300)
    w, groups = np.random.default_rng(0).uniform(0.5, 2, 300), np.arange(300) // 3
    model = sm.WLS(y, sm.add_constant(t.astype(float)), weights=w)
    plain = weighting_effect(y, w, treatment=t, estimand="ate")
    white = model.fit(cov_type="HC0")
    assert (plain.estimate, plain.std_error) == pytest.approx((white.params[1], white.bse[1]), rel=1e-10)
    by_group = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    clustered = weighting_effect(y, w, treatment=t, clusters=groups)
    assert clustered.std_error == pytest.approx(by_group.bse[1] * np.sqrt(100 / 99), rel=1e-10)
    assert (clustered.estimand, clustered.method) == (
        "as weighted", "weights as given; weights taken as known, clustered by 100 groups",
    )  # fmt: skip


def test_a_known_score_is_taken_as_known() -> None:
    X, t, y = confounded(4, 300)
    e = special.expit(0.7 * X[:, 0] - 0.5 * X[:, 1] - 0.4)
    effect = weighting_effect(y, weights(treatment=t, propensity=e), treatment=t)
    white = sm.WLS(y, sm.add_constant(t.astype(float)), weights=1 / np.where(t == 1, e, 1 - e)).fit(cov_type="HC0")
    assert (effect.estimate, effect.std_error) == pytest.approx((white.params[1], white.bse[1]), rel=1e-10)
    assert "known" in effect.method


def test_rows_that_are_copies_count_as_sample_weights_do() -> None:
    X, t, y = confounded(5, 200)
    copies = np.random.default_rng(5).integers(1, 4, 200)
    rows = np.repeat(np.arange(200), copies)
    for estimand in TARGETS:
        weighted = weights(X, treatment=t, estimand=estimand, sample_weight=copies, trim="crump")
        repeated = weights(X[rows], treatment=t[rows], estimand=estimand, trim="crump")
        # The copies of a unit are a cluster: without the factor G / (G - 1) the errors are equal.
        one = weighting_effect(y, weighted, treatment=t)
        other = weighting_effect(y[rows], repeated, treatment=t[rows], clusters=rows)
        assert one.estimate == pytest.approx(other.estimate, rel=1e-9)
        assert one.std_error == pytest.approx(other.std_error * np.sqrt(199 / 200), rel=1e-8)


# --- what must not matter -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", TARGETS)
def test_units_order_and_names_change_nothing(estimand) -> None:
    X, t, y = confounded(6, 250)

    def effect(X, t, y, **more):
        found = weighting_effect(y, weights(X, treatment=t, estimand=estimand, **more), treatment=t, **more)
        return np.array([found.estimate, found.std_error])

    plain = effect(X, t, y)
    order = np.random.default_rng(6).permutation(250)
    assert effect(X[order], t[order], y[order]) == pytest.approx(plain, rel=1e-9)
    assert effect(X * [1e3, 1e-3] + [1e4, 5], t, 1e6 + 2 * y) == pytest.approx(2 * plain, rel=1e-6)
    assert effect(X, np.where(t == 1, "mail", "none"), y, control="none") == pytest.approx(plain)
    for same in (t.astype(bool), t.astype(float)):
        assert effect(X, same, y) == pytest.approx(plain)
    frame = pd.DataFrame(X, index=np.arange(250)[::-1])
    assert effect(frame, pd.Series(t, index=frame.index), pd.Series(y)) == pytest.approx(plain)


def test_arms_that_change_places_change_the_sign() -> None:
    X, t, y = confounded(7, 250)
    for one, other in (("ate", "ate"), ("att", "atc"), ("ato", "ato"), ("atm", "atm")):
        there = weighting_effect(y, weights(X, treatment=t, estimand=one), treatment=t)
        back = weighting_effect(y, weights(X, treatment=1 - t, estimand=other), treatment=1 - t)
        assert (there.estimate, there.std_error) == pytest.approx((-back.estimate, back.std_error), rel=1e-8)


def test_overlap_weights_balance_the_covariates_exactly() -> None:
    """Li, Morgan and Zaslavsky 2018, theorem 3: for a logistic score by maximum likelihood."""
    X, t, _ = confounded(8, 200)
    w = weights(X, treatment=t, estimand="ato").weights
    one, other = (np.average(X[t == a], axis=0, weights=w[t == a]) for a in (0, 1))
    np.testing.assert_allclose(one, other, atol=1e-8)


def test_nothing_that_was_given_is_changed() -> None:
    X, t, y = confounded(9, 100)
    frame = pd.DataFrame(X, columns=["a", "b"])
    before = [frame.copy(), t.copy(), y.copy()]
    score = fit_propensity(frame, treatment=t)
    kept = score.score.copy()
    weighting_effect(y, weights(treatment=t, propensity=score, clip=0.4, trim=0.1), treatment=t)
    pd.testing.assert_frame_equal(frame, before[0])
    np.testing.assert_array_equal(t, before[1])
    np.testing.assert_array_equal(y, before[2])
    np.testing.assert_array_equal(score.score, kept)


# --- trimming and what the result says ------------------------------------------------------------------------------


def test_trimming_by_rules() -> None:
    X, t, y = confounded(10, 400)
    score = fit_propensity(2 * X, treatment=t)
    low, high = crump_bounds(score.score, "att")
    design = weights(treatment=t, propensity=score, estimand="att", trim="crump")
    assert (design.trim_low, design.trim_high) == (low, high)
    outside = score.score > high
    np.testing.assert_array_equal(design.weights == 0, outside)
    # Those whose effect was asked for are the treated.
    assert weighting_effect(y, design, treatment=t).n_dropped == (outside & (t == 1)).sum()
    assert f"trimmed to [{low:.4g}, {high:.4g}]" in design.method


def test_effective_sizes_and_the_largest_share() -> None:
    design = weights(treatment=[0, 0, 1, 1], propensity=[0.2, 0.5, 0.5, 0.8], sample_weight=[1, 1, 1, 3])
    np.testing.assert_allclose(design.weights, [1.25, 2, 2, 3.75])
    assert design.ess_treated == pytest.approx(5.75**2 / (4 + 3.75**2))
    assert design.largest_share == pytest.approx(3.75 / 5.75)


def test_a_score_of_another_model_is_taken_as_known_and_said_to_be() -> None:
    from sklearn.naive_bayes import GaussianNB

    X, t, y = confounded(11, 300)
    effect = weighting_effect(y, weights(X, treatment=t, model=GaussianNB()), treatment=t)
    assert "GaussianNB, cross-fitted on 5 folds; weights taken as known" in effect.method


# --- coverage -------------------------------------------------------------------------------------------------------


def truth(estimand: str) -> float:
    """The effect 1 + x1 averaged over the tilted population, by quadrature over x1 and what else is in the score."""
    nodes, w = np.polynomial.hermite_e.hermegauss(60)
    x1, x2 = np.meshgrid(nodes, nodes)
    h = np.outer(w, w) * tilt(special.expit(0.7 * x1 - 0.5 * x2 - 0.4), estimand)
    return float((h * (1 + x1)).sum() / h.sum())


def covered(estimand: str, n_runs: int, n: int, *, clusters: bool = False, weighted: bool = False, **options) -> int:
    """How many of the 95% intervals hold the truth; users come with three rows each, which share covariates."""
    hits, goal = 0, truth(estimand)
    for seed in range(n_runs):
        X, t, y = confounded(1000 + seed, n)
        rows, rng = np.arange(n), np.random.default_rng(seed)
        if clusters:
            rows = np.repeat(rows, rng.integers(1, 4, n))
            y = y + 2 * rng.normal(size=n)
        noise = rng.normal(size=len(rows))
        # Rows of a selected sample, whose weights bring it back to the population.
        sw = None
        if weighted:
            p = 0.3 + 0.6 * special.expit(X[rows, 0])
            chosen = rng.random(len(rows)) < p
            rows, noise, sw = rows[chosen], noise[chosen], 1 / p[chosen]
        design = weights(X[rows], treatment=t[rows], estimand=estimand, sample_weight=sw, **options)
        effect = weighting_effect(y[rows] + noise, design, treatment=t[rows], clusters=rows if clusters else None)
        hits += abs(effect.estimate - goal) <= effect.ci_high - effect.estimate
    return hits


def within_chance(hits: int, n_runs: int) -> bool:
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    return bool(low <= hits <= high)


@pytest.mark.parametrize("estimand", ["ate", "att", "ato"])
def test_intervals_cover(estimand) -> None:
    assert within_chance(covered(estimand, 100, 400), 100)


@pytest.mark.slow
@pytest.mark.parametrize("estimand", TARGETS)
@pytest.mark.parametrize(
    "how", [{}, {"clusters": True}, {"weighted": True}, {"model": "probit"}], ids=lambda h: "-".join(h) or "plain"
)
def test_intervals_cover_in_many_ways(estimand, how) -> None:
    """The probit score is not quite right, and its curve near enough."""
    assert within_chance(covered(estimand, 600, 1000, **how), 600)


@pytest.mark.slow
@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_intervals_of_horvitz_thompson_cover(estimand) -> None:
    assert within_chance(covered(estimand, 600, 2000, method="horvitz_thompson"), 600)


# --- bad input ------------------------------------------------------------------------------------------------------

X4, T4 = np.array([[1.0], [2.0], [1.5], [3.0]]), np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimand": "atx"}, CausalRecError, "estimand is 'atx'.*Did you mean"),
        ({"method": "hayek"}, CausalRecError, "method is 'hayek'.*Did you mean 'hajek'"),
        ({"method": "horvitz_thompson", "estimand": "ato"}, CausalRecError, "need a population of known size"),
        ({"propensity": 0.5}, CausalRecError, "found both"),
        ({"X": None}, CausalRecError, "found neither"),
        ({"clip": 0.6}, CausalRecError, "clip is 0.6"),
        ({"trim": "crumb"}, CausalRecError, "trim is 'crumb'"),
        ({"treatment": np.ones(4)}, TreatmentError, "needs two arms"),
        ({"treatment": [0, 1, 2, 0], "control": 0}, TreatmentError, "compares two arms; found 3"),
        ({"treatment": [1, 2, 2, 1]}, TreatmentError, "with control="),
        ({"treatment": [0, 1, np.nan, 0]}, TreatmentError, "1 of 4 values are missing"),
        ({"sample_weight": [0, 1, 1, 0]}, TreatmentError, "arm 0 has no weight"),
        ({"sample_weight": [1, -1, 1, 1]}, CausalRecError, "1 negative"),
        ({"X": X4 * [[1], [np.nan], [1], [1]]}, ColumnError, "missing or infinite"),
        ({"X": np.array([[0.0], [1.0], [1.0], [0.0]])}, OverlapError, "separate"),
        ({"X": X4[:3]}, CausalRecError, "4 values but there are 3 rows|3 rows"),
        ({"X": None, "propensity": [0.1, 0.5, 1.0, 0.5]}, OverlapError, "not strictly between"),
        ({"X": None, "propensity": [0.1, 0.2, 0.2, 0.1], "trim": (0.15, 0.3)}, OverlapError, "no control unit"),
        ({"method": "entropy_balancing", "trim": 0.1}, CausalRecError, "'trim' cannot be used"),
        ({"method": "entropy_balancing", "X": None}, CausalRecError, "X is missing"),
    ],
)
def test_weights_refuse(options, error, message) -> None:
    with pytest.raises(error, match=message):
        weights(**{"X": X4, "treatment": T4, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"y": [1.0, np.nan, 2.0, 3.0]}, OutcomeError, "y: 1 of 4"),
        ({"y": [1.0, 2.0]}, CausalRecError, "y has 2 values"),
        (
            {"weights": [1.0, 1.0, 0.0, 1.0]},
            TreatmentError,
            "arm 1: units with a weight above zero: 1 of 2; at least 2",
        ),
        ({"weights": [0.0, 1.0, 1.0, 0.0]}, TreatmentError, "arm 0: .* 0 of 2"),
        ({"weights": [1.0, -1.0, 1.0, 1.0]}, CausalRecError, "1 negative"),
        ({"weights": [1.0, np.nan, 1.0, 1.0]}, CausalRecError, "weights: 1 of 4"),
        ({"estimand": "att", "weights": None}, CausalRecError, "for the ate, not the att"),
        ({"clusters": [1, 1, 1, 1]}, CausalRecError, "clusters holds the one value"),
        ({"clusters": [1, None, 2, 2]}, CausalRecError, "1 of 4 values are missing"),
        ({"confidence_level": 95}, CausalRecError, "confidence_level is 95"),
    ],
)
def test_effects_refuse(options, error, message) -> None:
    given = {"y": [1.0, 2.0, 3.0, 4.0], "weights": [1.0, 1.0, 1.0, 1.0], "treatment": T4, **options}
    if given["weights"] is None:
        given["weights"] = weights(treatment=T4, propensity=0.5)
    with pytest.raises(error, match=message):
        weighting_effect(given.pop("y"), given.pop("weights"), **given)


@pytest.mark.parametrize("method", ["hajek", "horvitz_thompson", "entropy_balancing"])
def test_weights_are_of_one_treatment_in_one_order(method) -> None:
    X, t, y = confounded(10, 200)
    design = weights(X, treatment=t, estimand="att", method=method)
    moved = np.random.default_rng(0).permutation(200)
    for other in (1 - t, t[moved], np.where(np.arange(200) == 3, 1 - t, t)):
        with pytest.raises(CausalRecError, match="treatment differs from that of the weights"):
            weighting_effect(y, design, treatment=other)
    names = np.where(t == 1, "mail", "none")
    assert weighting_effect(y, design, treatment=names, control="none").estimate == pytest.approx(
        weighting_effect(y, design, treatment=t).estimate
    )
