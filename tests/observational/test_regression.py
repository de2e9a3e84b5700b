"""Least squares and standardisation against published values, statsmodels, closed forms and simulated truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, OverlapError, TreatmentError
from causalrec.observational._outcomes import fit_outcome, independent, make_design
from causalrec.observational.regression import difference_in_means, lin_effect, ols_effect
from causalrec.observational.standardisation import standardisation

ESTIMANDS = ("ate", "att", "atc")
ERRORS = ("HC0", "HC1", "HC2", "HC3")
COVARIATES = ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"]
MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]


@pytest.fixture(scope="module")
def nsw_dw(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "nsw_dw.csv")


@pytest.fixture(scope="module")
def lalonde(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")


def nhefs(data_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The 1,566 of known weight change, and the covariates of the book with the squares that it uses."""
    frame = pd.read_csv(data_dir / "nhefs" / "NHEFS.csv").dropna(subset=["wt82_71"])
    return frame, book_covariates(frame)


def book_covariates(frame: pd.DataFrame) -> pd.DataFrame:
    squares = {f"{c}_2": frame[c] ** 2 for c in ("age", "smokeintensity", "smokeyrs", "wt71")}
    levels = {c: frame[c].astype("category") for c in ("education", "exercise", "active")}
    return frame[["sex", "race", "age", "smokeintensity", "smokeyrs", "wt71"]].assign(**squares, **levels)


def cattaneo() -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Outcome covariates, birth weights, and whether the mother smoked: the data of Stata's manual on teffects."""
    import statsmodels

    path = Path(statsmodels.__file__).parent / "treatment" / "tests" / "results" / "cataneo2.csv"
    frame = pd.read_csv(path)
    return frame, frame["bweight"], frame["mbsmoke_"]


OUTCOME_COVARIATES = ["prenatal1_", "mmarried_", "mage", "fbaby_"]


def confounded(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Covariates, treatment, an outcome linear in them within each arm, and the effect of every unit."""
    X = rng.normal(size=(n, 3))
    treatment = (rng.random(n) < 1 / (1 + np.exp(-(0.6 * X[:, 0] - 0.4 * X[:, 1])))).astype(np.int64)
    effect = 1.0 + X[:, 0] - 0.5 * X[:, 2]
    noise = rng.normal(size=n) * (1 + 0.5 * np.abs(X[:, 1]))
    return X, treatment, X @ [1.0, 1.0, 0.5] + treatment * effect + noise, effect


TRUTH = {"ate": 1.0, "att": 1.0 + 0.26855, "atc": 1.0 - 0.26855}  # E[x0 given t = 1], by integration (the next test)


def test_truth_of_the_simulation() -> None:
    """E[x0 e(x)] / E[e(x)], by Gauss–Hermite quadrature over both covariates of the propensity."""
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    a, b = np.meshgrid(nodes, nodes, indexing="ij")
    w = np.outer(weight, weight)
    e = 1 / (1 + np.exp(-(0.6 * a - 0.4 * b)))
    assert (w * e * a).sum() / (w * e).sum() == pytest.approx(0.26855, abs=5e-6)


def covered(found: list[tuple[float, float]], truth: float) -> int:
    estimate, error = np.array(found).T
    return int((np.abs(estimate - truth) <= 1.959964 * error).sum())


# --- difference in means --------------------------------------------------------------------------------------------


@pytest.mark.data
def test_difference_in_means_of_the_experiment(nsw_dw: pd.DataFrame) -> None:
    """Dehejia and Wahba 1999: 1,794; errors as R's sandwich and Stata print them, HC2 being Neyman's."""
    y, t = nsw_dw["re78"], nsw_dw["treat"]
    found = {kind: difference_in_means(y, treatment=t, error=kind) for kind in ("HC1", "HC2")}
    assert found["HC1"].estimate == pytest.approx(1794.343, abs=1e-3)
    assert found["HC1"].std_error == pytest.approx(670.82, abs=6e-3)
    assert found["HC2"].std_error == pytest.approx(670.997, abs=5e-4)
    assert difference_in_means(y, treatment=t).std_error == found["HC2"].std_error
    assert (found["HC2"].n_treated, found["HC2"].n_control, found["HC2"].n_obs) == (185, 260, 445)


@pytest.mark.data
def test_difference_in_means_of_lalondes_sample(data_dir: Path) -> None:
    """LaLonde 1986, table 5: 886."""
    frame = pd.read_csv(data_dir / "lalonde" / "nsw.csv")
    hc1 = difference_in_means(frame["re78"], treatment=frame["treat"], error="HC1")
    assert hc1.estimate == pytest.approx(886.30, abs=5e-3)
    assert hc1.std_error == pytest.approx(488.14, abs=5e-3)
    assert difference_in_means(frame["re78"], treatment=frame["treat"]).std_error == pytest.approx(488.20, abs=5e-3)


def test_errors_of_a_difference_are_neymans_and_students() -> None:
    rng = np.random.default_rng(1)
    y, t = rng.normal(size=50) * 3, np.arange(50) < 17
    a, b = y[t], y[~t]
    neyman = np.sqrt(a.var(ddof=1) / 17 + b.var(ddof=1) / 33)
    assert difference_in_means(y, treatment=t).std_error == pytest.approx(neyman)
    student = stats.ttest_ind(a, b)
    found = difference_in_means(y, treatment=t, error="classical")
    assert found.estimate / found.std_error == pytest.approx(student.statistic)


def test_weights_of_a_difference_are_copies_of_rows() -> None:
    rng = np.random.default_rng(2)
    y, t, w = rng.normal(size=40), np.arange(40) % 2, rng.integers(0, 4, 40)
    found = difference_in_means(y, treatment=t, sample_weight=w, error="HC0")
    copies = difference_in_means(np.repeat(y, w), treatment=np.repeat(t, w), error="HC0")
    assert found.estimate == pytest.approx(copies.estimate)
    assert found.n_obs == (w > 0).sum()
    rows = np.repeat(np.arange(40), w)
    clustered = difference_in_means(np.repeat(y, w), treatment=np.repeat(t, w), clusters=rows)
    groups, units = (w > 0).sum(), w.sum()
    factor = np.sqrt(groups / (groups - 1) * (units - 1) / (units - 2))
    assert clustered.std_error == pytest.approx(found.std_error * factor)


# --- least squares --------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_regression_on_the_cps_controls(nsw_dw: pd.DataFrame, data_dir: Path) -> None:
    """The treated of the experiment with CPS-1: naive -8,497.516 (581.92), ten covariates 1,066.376 (626.85), HC1."""
    controls = pd.read_csv(data_dir / "lalonde" / "cps_controls.csv")
    frame = pd.concat([nsw_dw[nsw_dw["treat"] == 1], controls], ignore_index=True)
    naive = difference_in_means(frame["re78"], treatment=frame["treat"], error="HC1")
    assert (naive.estimate, naive.std_error) == (pytest.approx(-8497.516, abs=5e-4), pytest.approx(581.92, abs=5e-3))
    X = frame[COVARIATES].assign(u74=(frame["re74"] == 0).astype(int), u75=(frame["re75"] == 0).astype(int))
    found = ols_effect(X, frame["re78"], treatment=frame["treat"], error="HC1")
    assert (found.estimate, found.std_error) == (pytest.approx(1066.376, abs=5e-4), pytest.approx(626.85, abs=5e-3))
    assert (found.n_treated, found.n_control, found.estimand) == (185, 15992, "ato")


@pytest.mark.data
def test_regression_of_matchits_example(lalonde: pd.DataFrame) -> None:
    """R's lm on MatchIt's lalonde prints 1548.244 (781.279): the error of one common variance."""
    found = ols_effect(lalonde[MATCHIT], lalonde["re78"], treatment=lalonde["treat"], error="classical")
    assert (found.estimate, found.std_error) == (pytest.approx(1548.244, abs=5e-4), pytest.approx(781.279, abs=5e-4))
    naive = difference_in_means(lalonde["re78"], treatment=lalonde["treat"])
    assert naive.estimate == pytest.approx(-635.026, abs=5e-4)


@pytest.mark.data
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimand", ["ato", *ESTIMANDS])
def test_errors_equal_statsmodels(lalonde: pd.DataFrame, estimand: str, weighted: bool) -> None:
    """Main effects, and all interactions about the mean of the estimand's units; their coefficients and errors."""
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    t, y = lalonde["treat"].to_numpy(), lalonde["re78"].to_numpy()
    w = rng.random(len(t)) if weighted else np.ones(len(t))
    groups = rng.integers(0, 60, len(t))
    X = pd.get_dummies(lalonde[MATCHIT], drop_first=True, dtype=float).to_numpy()
    if estimand != "ato":
        own = {"ate": np.ones(len(t)), "att": t, "atc": 1 - t}[estimand]
        X = X - np.average(X, axis=0, weights=own * w)
        X = np.column_stack([X, X * t[:, None]])
    peer = sm.WLS(y, np.column_stack([np.ones(len(t)), t, X]), weights=w)

    def ours(**options: object) -> tuple[float, float]:
        given_: dict = {"treatment": t, "estimand": estimand, "sample_weight": w if weighted else None, **options}
        if estimand == "ato":
            found = ols_effect(lalonde[MATCHIT], y, **given_)
        else:
            found = lin_effect(lalonde[MATCHIT], y, population=False, **given_)
        return found.estimate, found.std_error

    for kind in ERRORS:
        fit = peer.fit(cov_type=kind)
        assert ours(error=kind) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-8)
    fit = peer.fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert ours(clusters=groups) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-8)
    if estimand == "ato":
        fit = peer.fit()
        assert ours(error="classical") == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-8)


@pytest.mark.data
@pytest.mark.parametrize("estimand", ["ato", *ESTIMANDS])
def test_weights_give_the_estimate_and_exact_balance(lalonde: pd.DataFrame, estimand: str) -> None:
    t, y = lalonde["treat"].to_numpy() == 1, lalonde["re78"].to_numpy()
    method = ols_effect if estimand == "ato" else lin_effect
    found = method(lalonde[MATCHIT], y, treatment=t, estimand=estimand)
    X = pd.get_dummies(lalonde[MATCHIT], dtype=float).to_numpy()
    means = [np.average(np.column_stack([y, X]), axis=0, weights=np.where(arm, found.weights, 0)) for arm in (t, ~t)]
    assert means[0][0] - means[1][0] == pytest.approx(found.estimate)
    np.testing.assert_allclose(means[0][1:], means[1][1:], rtol=1e-9)
    if estimand in ("att", "atc"):
        own = t if estimand == "att" else ~t
        np.testing.assert_allclose(means[0][1:], X[own].mean(axis=0), rtol=1e-9)


def test_centring_counts_for_a_population() -> None:
    """Without noise the effect of these very units is known; that of their population is as uncertain as its mean."""
    rng = np.random.default_rng(4)
    x, t = rng.normal(size=300), rng.integers(0, 2, 300)
    y = x + t * (1 + 2 * x)
    assert lin_effect(x[:, None], y, treatment=t, population=False).std_error == pytest.approx(0, abs=1e-12)
    assert lin_effect(x[:, None], y, treatment=t).std_error == pytest.approx(2 * x.std() / np.sqrt(300))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.01, 100),
    shift=st.floats(-1e3, 1e3),
    unit=st.floats(1e-6, 1e6),
)
def test_units_order_and_arms(seed: int, scale: float, shift: float, unit: float) -> None:
    """Affine in the outcome, blind to the covariates' units and the order of rows; swapped arms change the sign."""
    rng = np.random.default_rng(seed)
    X, t, y, _ = confounded(rng, 120)
    groups, order = rng.integers(0, 30, 120), rng.permutation(120)
    moved = (X * [unit, 1, 1] + [shift, 0, 0])[order]
    swapped = {"ate": "ate", "att": "atc", "atc": "att"}
    for method in (lin_effect, standardisation):
        for estimand in ESTIMANDS:
            plain = method(X, y, treatment=t, estimand=estimand, clusters=groups)
            other = method(
                moved, (shift + scale * y)[order], treatment=1 - t[order], estimand=swapped[estimand],
                clusters=groups[order],
            )  # fmt: skip
            assert (-other.estimate, other.std_error) == pytest.approx(
                (scale * plain.estimate, scale * plain.std_error), rel=1e-6, abs=1e-7 * scale
            )


# --- standardisation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimand,estimate,error",
    [("ate", -239.63921146434, 23.82402100183), ("att", -223.30165083857, 22.742195167601)],
)
def test_standardisation_equals_stata(estimand: str, estimate: float, error: float) -> None:
    """Stata's teffects ra on Cattaneo's birth weights, as statsmodels' tests record it (results_teffects.py)."""
    frame, y, t = cattaneo()
    found = standardisation(frame[OUTCOME_COVARIATES], y, treatment=t, estimand=estimand)
    assert (found.estimate, found.std_error) == pytest.approx((estimate, error), rel=1e-9)


@pytest.mark.data
def test_standardisation_of_the_book(data_dir: Path) -> None:
    """Hernán and Robins, What If, chapter 13: 3.5 (2.6, 4.5), by a regression with one product; program 11.1: 3.46."""
    frame, X = nhefs(data_dir)
    found = standardisation(X, frame["wt82_71"], treatment=frame["qsmk"], interactions=["smokeintensity"])
    assert found.estimate == pytest.approx(3.51737, abs=5e-6)  # printed by the book's programs
    assert (found.ci_low, found.ci_high) == (pytest.approx(2.6, abs=0.05), pytest.approx(4.5, abs=0.05))
    plain = ols_effect(X, frame["wt82_71"], treatment=frame["qsmk"])
    assert plain.estimate == pytest.approx(3.46262, abs=5e-6)
    no_products = standardisation(X, frame["wt82_71"], treatment=frame["qsmk"], interactions=[])
    assert no_products.estimate == pytest.approx(plain.estimate, rel=1e-10)


@pytest.mark.data
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_all_products_are_a_regression_in_each_arm(lalonde: pd.DataFrame, estimand: str) -> None:
    X = pd.get_dummies(lalonde[MATCHIT], drop_first=True, dtype=float)
    common = {"treatment": lalonde["treat"], "estimand": estimand}
    apart = standardisation(X, lalonde["re78"], **common)
    joint = standardisation(X, lalonde["re78"], interactions=list(X.columns), **common)
    assert (apart.estimate, apart.std_error) == pytest.approx((joint.estimate, joint.std_error), rel=1e-8)
    lin = lin_effect(X, lalonde["re78"], error="HC0", **common)
    assert (apart.estimate, apart.std_error) == pytest.approx((lin.estimate, lin.std_error), rel=1e-8)


@pytest.mark.parametrize("family", ["logistic", "poisson"])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_likelihoods_equal_statsmodels_and_the_jackknife(family: str, estimand: str) -> None:
    """The estimate from statsmodels' coefficients; the error against leaving out every unit once."""
    import statsmodels.api as sm

    rng = np.random.default_rng(5)
    X, t, _, _ = confounded(rng, 300)
    mean = X @ [0.5, -0.5, 0.3] + 0.4 * t
    y = rng.poisson(np.exp(mean / 2)) if family == "poisson" else (rng.random(300) < 1 / (1 + np.exp(-mean))) * 1
    kind = sm.families.Poisson() if family == "poisson" else sm.families.Binomial()
    A = sm.add_constant(X)
    expected = [sm.GLM(y[t == a], A[t == a], family=kind).fit(tol=1e-12).predict(A) for a in (0, 1)]
    own = {"ate": t >= 0, "att": t == 1, "atc": t == 0}[estimand]
    common = {"estimand": estimand, "outcome_model": family}
    found = standardisation(X, y, treatment=t, **common)
    assert found.estimate == pytest.approx((expected[1] - expected[0])[own].mean(), rel=1e-7)
    if estimand != "ate":
        keep = ~np.eye(300, dtype=bool)
        leave = np.array([standardisation(X[k], y[k], treatment=t[k], **common).estimate for k in keep[::2]])
        rough = np.sqrt(2 * ((leave - leave.mean()) ** 2).sum())
        assert found.std_error == pytest.approx(rough, rel=0.15)


@pytest.mark.parametrize("estimand", ["atc", *(pytest.param(e, marks=pytest.mark.slow) for e in ("ate", "att"))])
def test_intervals_cover_under_confounding(estimand: str) -> None:
    n_runs, found = 300, {"lin": [], "standardisation": []}
    for seed in range(n_runs):
        X, t, y, _ = confounded(np.random.default_rng(seed), 400)
        lin = lin_effect(X, y, treatment=t, estimand=estimand)
        same = standardisation(X, y, treatment=t, estimand=estimand)
        found["lin"].append((lin.estimate, lin.std_error))
        found["standardisation"].append((same.estimate, same.std_error))
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    for name, pairs in found.items():
        assert low <= covered(pairs, TRUTH[estimand]) <= high, name


@pytest.mark.slow
@pytest.mark.parametrize("family", ["logistic", "poisson"])
def test_intervals_of_likelihoods_cover(family: str) -> None:
    """Clusters of two units that share an outcome's noise, and weights; the truth by a million draws."""

    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        X = np.repeat(rng.normal(size=(n // 2, 2)), 2, axis=0)
        t = np.repeat((rng.random(n // 2) < 1 / (1 + np.exp(-X[::2, 0]))).astype(int), 2)
        u = np.repeat(rng.random(n // 2), 2)
        mean = [1 / (1 + np.exp(-(X[:, 0] - 0.5 * X[:, 1] + a * 0.7))) for a in (0, 1)]
        if family == "poisson":
            mean = [np.exp((X[:, 0] - 0.5 * X[:, 1] + a * 0.7) / 2) for a in (0, 1)]
            return X, t, stats.poisson.ppf(u, np.where(t == 1, mean[1], mean[0])), mean[1] - mean[0]
        return X, t, (u < np.where(t == 1, mean[1], mean[0])).astype(float), mean[1] - mean[0]

    _, t, _, effect = draw(np.random.default_rng(99), 2_000_000)
    for estimand, own in (("ate", t >= 0), ("att", t == 1)):
        truth, n_runs, found = effect[own].mean(), 800, []
        for seed in range(n_runs):
            X, t_, y, _ = draw(np.random.default_rng(seed), 800)
            one = standardisation(
                X, y, treatment=t_, estimand=estimand, outcome_model=family, clusters=np.arange(800) // 2
            )
            found.append((one.estimate, one.std_error))
        low, high = stats.binom.interval(0.999, n_runs, 0.95)
        assert low <= covered(found, truth) <= high


@pytest.mark.slow
@pytest.mark.parametrize("method", [ols_effect, lin_effect, standardisation])
def test_clustered_intervals_cover(method) -> None:
    """Users of unlike numbers of rows, treated as a whole by a covariate of theirs; errors of rows alone do not."""
    n_runs, found, rows_alone = 1000, [], []
    for seed in range(n_runs):
        rng = np.random.default_rng(seed)
        user = np.repeat(np.arange(200), rng.integers(1, 6, 200))
        a, shock = rng.normal(size=200), rng.normal(size=200)
        t = (rng.random(200) < 1 / (1 + np.exp(-0.6 * a))).astype(int)[user]
        X = np.column_stack([a[user], rng.normal(size=len(user))])
        y = X @ [1.0, 0.5] + t + shock[user] + rng.normal(size=len(user))
        one, other = method(X, y, treatment=t, clusters=user), method(X, y, treatment=t)
        found.append((one.estimate, one.std_error))
        rows_alone.append((other.estimate, other.std_error))
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    assert low <= covered(found, 1.0) <= high
    assert covered(rows_alone, 1.0) < 0.85 * n_runs


# --- designs and bad input ------------------------------------------------------------------------------------------


def test_collinear_columns_are_left_out_from_the_right_and_said() -> None:
    rng = np.random.default_rng(6)
    X, t, y, _ = confounded(rng, 200)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    more = frame.assign(sum=X[:, 0] + X[:, 1], one=1.0, again=X[:, 2] * 1e-7 + 5)
    for method in (ols_effect, lin_effect, standardisation):
        plain, wide = method(frame, y, treatment=t), method(more, y, treatment=t)
        assert (wide.estimate, wide.std_error) == pytest.approx((plain.estimate, plain.std_error), rel=1e-7)
        assert "without 'sum', 'one', 'again', collinear" in wide.method
        assert "without" not in plain.method
    shuffled = ols_effect(more.iloc[::-1], y[::-1], treatment=t[::-1])
    assert shuffled.method == ols_effect(more, y, treatment=t).method


def test_units_of_weight_zero_are_not_there() -> None:
    """A category that only they have is no column, and they add to no count."""
    rng = np.random.default_rng(12)
    X, t, y, _ = confounded(rng, 120)
    frame = pd.DataFrame(X, columns=list("abc")).assign(plan=np.where(np.arange(120) < 20, "gold", "basic"))
    used = np.arange(120) >= 20
    weight, groups = used * rng.random(120), np.arange(120) // 2
    for method in (ols_effect, lin_effect, standardisation):
        for clusters in (None, groups):
            there = method(frame, y, treatment=t, sample_weight=weight, clusters=clusters)
            gone = method(
                frame[list("abc")][used], y[used], treatment=t[used], sample_weight=weight[used],
                clusters=None if clusters is None else groups[used],
            )  # fmt: skip
            assert (there.estimate, there.std_error) == pytest.approx((gone.estimate, gone.std_error))
            assert there.n_obs == gone.n_obs == 100


def test_nearly_collinear_columns_keep_their_digits() -> None:
    """Two columns that differ by a millionth: normal equations alone would lose most digits of the coefficients."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=500)
    X = np.column_stack([x, x + 1e-6 * rng.normal(size=500)])
    t = rng.integers(0, 2, 500)
    y = X @ [1.0, 2.0] + 3.0 * t
    assert ols_effect(X, y, treatment=t).estimate == pytest.approx(3.0, rel=1e-9)
    Z = make_design(X, ["a", "b"]).Z
    assert independent(Z).all()
    fit = fit_outcome(Z, y, np.ones(500), who="all")
    np.testing.assert_allclose(fit.predict(Z), np.linalg.lstsq(Z, y)[0] @ Z.T, rtol=1e-9, atol=1e-9)


def test_a_category_of_one_arm_is_named() -> None:
    rng = np.random.default_rng(8)
    t = np.arange(60) % 2
    frame = pd.DataFrame({"x": rng.normal(size=60), "plan": np.where((t == 1) & (np.arange(60) < 20), "gold", "basic")})
    y = rng.normal(size=60)
    with pytest.raises(OverlapError, match=r"the 30 control units cannot tell what 'plan_gold' does.*merge its"):
        lin_effect(frame, y, treatment=t)
    with pytest.raises(OverlapError, match="control units cannot tell what 'plan_gold' does"):
        standardisation(frame, y, treatment=t, estimand="att")
    # Of controls alone, the treated with the level are not asked about; nor does the main effect need them.
    for estimand in ("ate", "atc"):
        flipped = frame.assign(plan=frame["plan"].where(t == 0, "basic"))
        assert np.isfinite(lin_effect(flipped, y, treatment=t, estimand=estimand).estimate)
    alone = frame.assign(plan=np.where(frame["plan"] == "gold", "gold", "basic"))
    kept = ols_effect(alone, y, treatment=t)
    rest = ols_effect(alone[["x"]][alone["plan"] == "basic"], y[alone["plan"] == "basic"],
                      treatment=t[alone["plan"] == "basic"])  # fmt: skip
    assert np.isfinite(kept.estimate)
    assert rest.n_obs == 50


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"estimand": "ate"}, CausalRecError, "main effects averages effects by the overlap.*lin_effect"),
        ({"error": "hc2"}, CausalRecError, "error is 'hc2'.*Did you mean 'HC2'"),
        ({"error": "CR1"}, CausalRecError, "'CR1' without clusters"),
        ({"error": "HC1", "clusters": np.arange(40) // 2}, CausalRecError, "'HC1' with clusters"),
        ({"treatment": np.ones(40)}, TreatmentError, "found only 1"),
        ({"treatment": np.arange(40) % 3, "control": 0}, TreatmentError, "compares two arms; found 3"),
        ({"treatment": np.arange(40) % 2 + 1}, TreatmentError, "Pass control=1"),
        ({"y": np.r_[np.nan, np.zeros(39)]}, OutcomeError, "y: 1 of 40 values are missing"),
        ({"y": np.zeros(39)}, CausalRecError, "y has 39 values but there are 40 rows"),
        ({"treatment": (np.arange(40) == 3) * 1}, TreatmentError, "the treated arm has 1 unit; a regression needs at"),
        ({"sample_weight": np.arange(40) % 2}, TreatmentError, "control arm has 0 units of a weight above zero"),
        ({"X": np.column_stack([np.arange(40) % 2, np.ones(40)])}, OverlapError, "covariates determine the treatment"),
        ({"X": pd.DataFrame({"x": [None, *range(39)]})}, ColumnError, "'x' have missing values"),
        ({"confidence_level": 95}, CausalRecError, "confidence_level is 95"),
    ],
)
def test_regression_refuses(options: dict, error: type[Exception], message: str) -> None:
    rng = np.random.default_rng(9)
    options = {"X": rng.normal(size=(40, 2)), "y": rng.normal(size=40), "treatment": np.arange(40) % 2, **options}
    with pytest.raises(error, match=message):
        ols_effect(options.pop("X"), options.pop("y"), **options)


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"outcome_model": "logit"}, CausalRecError, "outcome_model is 'logit'.*'logistic'"),
        ({"outcome_model": "logistic", "y": np.arange(40.0)}, OutcomeError, "38 of 40 values are not between 0 and 1"),
        ({"outcome_model": "poisson", "y": -np.ones(40)}, OutcomeError, "not of zero or more"),
        ({"outcome_model": "logistic", "y": np.zeros(40)}, OutcomeError, "no maximum: all outcomes are 0"),
        ({"outcome_model": "logistic", "y": (np.arange(40) > 20) * 1.0}, OutcomeError, "separate outcomes"),
        ({"interactions": "x0"}, ColumnError, r"expected a list of columns, such as \['x0'\]"),
        ({"interactions": ["x9"]}, ColumnError, "missing column 'x9'"),
        ({"estimand": "atx"}, CausalRecError, "estimand is 'atx'"),
    ],
)
def test_standardisation_refuses(options: dict, error: type[Exception], message: str) -> None:
    X = np.column_stack([np.arange(40.0), np.cos(np.arange(40.0))])
    options = {"y": np.sin(np.arange(40.0)), "treatment": np.arange(40) % 2, **options}
    with pytest.raises(error, match=message):
        standardisation(X, options.pop("y"), **options)


def test_an_outcome_that_never_varies_has_no_effect_and_no_interval() -> None:
    X, t, _, _ = confounded(np.random.default_rng(10), 60)
    for found in (
        difference_in_means(np.full(60, 3.0), treatment=t),
        ols_effect(X, np.full(60, 3.0), treatment=t),
        lin_effect(X, np.full(60, 3.0), treatment=t),
        standardisation(X, np.full(60, 3.0), treatment=t, outcome_model="poisson"),
    ):
        assert found.estimate == pytest.approx(0, abs=1e-12)
        assert found.std_error == pytest.approx(0, abs=1e-12)


def test_a_regression_that_fits_exactly_has_no_error_to_give() -> None:
    rng = np.random.default_rng(13)
    X, t, y = rng.normal(size=(30, 9)), np.arange(30) < 10, rng.normal(size=30)
    for method in (lin_effect, standardisation):
        with pytest.raises(OverlapError, match="10 treated units leave nothing over after 10 columns"):
            method(X, y, treatment=t)
        assert method(X, y, treatment=t, estimand="att").std_error > 0.1


def test_labels_and_callers_data_stay() -> None:
    X, t, y, _ = confounded(np.random.default_rng(11), 80)
    frame, names = pd.DataFrame(X, columns=list("abc")), np.where(t == 1, "mail", "none")
    before = frame.copy(), y.copy(), names.copy()
    found = lin_effect(frame, y, treatment=names, control="none")
    assert found.estimate == lin_effect(X, y, treatment=t.astype(bool)).estimate
    pd.testing.assert_frame_equal(frame, before[0])
    np.testing.assert_array_equal(y, before[1])
    np.testing.assert_array_equal(names, before[2])
