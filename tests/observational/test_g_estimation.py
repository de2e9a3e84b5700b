"""G-estimation and instruments against published values, statsmodels, closed forms and simulated truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.exceptions import CausalRecError, ColumnError, OverlapError, TreatmentError
from causalrec.observational.g_estimation import g_estimation
from causalrec.observational.instruments import instrumental_variable
from causalrec.observational.propensity import fit_propensity
from causalrec.observational.regression import difference_in_means, ols_effect


@pytest.fixture(scope="module")
def nhefs(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "nhefs" / "NHEFS.csv")


def book_covariates(frame: pd.DataFrame) -> pd.DataFrame:
    squares = {f"{c}_2": frame[c] ** 2 for c in ("age", "smokeintensity", "smokeyrs", "wt71")}
    levels = {c: frame[c].astype("category") for c in ("education", "exercise", "active")}
    return frame[["sex", "race", "age", "smokeintensity", "smokeyrs", "wt71"]].assign(**squares, **levels)


def confounded(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariates, treatment, and an outcome that is not linear in them; every effect is 1 + x0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    t = (rng.random(n) < 1 / (1 + np.exp(-(0.6 * X[:, 0] - 0.4 * X[:, 1])))).astype(np.int64)
    return X, t, np.exp(X[:, 0] / 2) + X[:, 1] + t * (1 + X[:, 0]) + rng.normal(size=n)


def instrumented(seed: int, n: int, strength: float) -> tuple[np.ndarray, ...]:
    """Instrument, treatment and outcome, the latter two with a hidden cause; the effect is 1 for all."""
    rng = np.random.default_rng(seed)
    hidden, offered = rng.normal(size=n), rng.integers(0, 2, n)
    t = (strength * (offered - 0.5) + hidden + rng.normal(size=n) > 0).astype(np.int64)
    return offered, t, t + hidden + rng.normal(size=n)


# --- g-estimation ---------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_g_estimation_of_the_book(nhefs: pd.DataFrame) -> None:
    """Hernán and Robins, What If, section 14.5: 3.4459 in closed form, 3.4 (2.5, 4.5) by inverting a test.

    The outcome is missing for 63; the rest weigh the inverse of their probability of being seen.
    """
    X, seen = book_covariates(nhefs), nhefs["wt82_71"].notna().to_numpy()
    weight = 1 / fit_propensity(X.assign(qsmk=nhefs["qsmk"]), treatment=seen).score[seen]
    rows = nhefs[seen]
    found = g_estimation(X[seen], rows["wt82_71"], treatment=rows["qsmk"], sample_weight=weight)
    assert found.estimate == pytest.approx(3.445899, abs=5e-7)
    assert (found.ci_low, found.ci_high) == (pytest.approx(2.5, abs=0.05), pytest.approx(4.4, abs=0.05))
    plain = g_estimation(X[seen], rows["wt82_71"], treatment=rows["qsmk"])
    assert plain.estimate == pytest.approx(3.461149, abs=5e-7)  # the book's program without the weights


@pytest.mark.data
def test_regression_on_the_score_of_the_book(nhefs: pd.DataFrame) -> None:
    """Section 15.2: 3.5506 beside a score that was fitted on all 1,629."""
    seen = nhefs["wt82_71"].notna().to_numpy()
    score = fit_propensity(book_covariates(nhefs), treatment=nhefs["qsmk"]).score[seen]
    rows = nhefs[seen]
    found = ols_effect(score[:, None], rows["wt82_71"], treatment=rows["qsmk"], error="classical")
    assert found.estimate == pytest.approx(3.55060, abs=5e-6)
    assert (found.ci_low, found.ci_high) == (pytest.approx(2.65, abs=0.01), pytest.approx(4.45, abs=0.01))


def test_logistic_g_estimation_is_overlap_weighting() -> None:
    """A logistic score with an intercept makes Σ(t - e) zero: its estimate is that of overlap weights."""
    X, t, y = confounded(0, 300)
    found = g_estimation(X, y, treatment=t)
    e = fit_propensity(X, treatment=t).score
    means = [np.average(y[t == a], weights=np.where(a, 1 - e, e)[t == a]) for a in (0, 1)]
    assert found.estimate == pytest.approx(means[1] - means[0])
    np.testing.assert_allclose(found.weights / found.weights[0], np.where(t, 1 - e, e) / np.where(t, 1 - e, e)[0])


@pytest.mark.parametrize("estimand", ["ato", "ate", "att", "atc"])
@pytest.mark.parametrize("model", ["logistic", "probit"])
def test_stacked_error_equals_the_numerical_jackknife(estimand: str, model: str) -> None:
    X, t, y = confounded(1, 50)
    common = {"treatment": t, "estimand": estimand, "propensity_model": model}
    common["modifiers"] = [] if estimand == "ato" else ["x1", "x0"]
    step = 1e-4
    up, down = (
        [g_estimation(X, y, sample_weight=1 + sign * step * row, **common).estimate for row in np.eye(50)]
        for sign in (1, -1)
    )
    influence = (np.array(up) - np.array(down)) / (2 * step)
    assert g_estimation(X, y, **common).std_error == pytest.approx(np.sqrt(influence @ influence), rel=1e-5)
    sums = np.bincount(np.arange(50) // 2, weights=influence)
    clustered = g_estimation(X, y, clusters=np.arange(50) // 2, **common)
    assert clustered.std_error == pytest.approx(np.sqrt(sums @ sums * 25 / 24), rel=1e-5)


def test_g_intervals_cover_where_the_outcome_is_not_linear() -> None:
    truth = {"ate": 1.0, "att": 1.26855, "ato": 1.0}  # by symmetry the overlap is centred at zero
    n_runs, found = 250, {estimand: [] for estimand in truth}
    for seed in range(n_runs):
        X, t, y = confounded(seed, 400)
        score = fit_propensity(X, treatment=t)
        for estimand, pairs in found.items():
            modifiers = [] if estimand == "ato" else ["x0"]
            one = g_estimation(X, y, treatment=t, propensity=score, estimand=estimand, modifiers=modifiers)
            pairs.append((one.estimate, one.std_error))
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    for estimand, pairs in found.items():
        estimate, error = np.array(pairs).T
        assert low <= (np.abs(estimate - truth[estimand]) <= 1.959964 * error).sum() <= high, estimand


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"estimand": "ate"}, CausalRecError, "'ate' with 0 modifiers.*'ato'"),
        ({"modifiers": ["x0"]}, CausalRecError, "'ato' with 1 modifiers"),
        ({"estimand": "atx", "modifiers": ["x0"]}, CausalRecError, "estimand is 'atx'"),
        ({"estimand": "ate", "modifiers": "x0"}, ColumnError, "modifiers is the text 'x0'"),
        ({"estimand": "ate", "modifiers": ["y"]}, ColumnError, "modifiers, among the columns of X: missing column 'y'"),
        ({"estimand": "ate", "modifiers": ["x0", "x0"]}, OverlapError, "treated units cannot tell what 'x0' does"),
        ({"X": np.column_stack([np.arange(40) % 2, np.cos(np.arange(40))])}, OverlapError, "separate"),
    ],
)
def test_g_estimation_refuses(options: dict, error: type[Exception], message: str) -> None:
    X, _, y = confounded(2, 40)
    options = {"X": X, "treatment": np.arange(40) % 2, **options}
    with pytest.raises(error, match=message):
        g_estimation(options.pop("X"), y, **options)


# --- instruments ----------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_instrument_of_the_book(nhefs: pd.DataFrame) -> None:
    """Section 16.1: cigarette prices of 1982 of 1.50 and more; 2.396, SE 19.84, (-36.5, 41.3), F 0.8: worthless."""
    rows = nhefs.dropna(subset=["wt82_71", "price82"])
    high = rows["price82"] >= 1.5
    found = instrumental_variable(None, rows["wt82_71"], treatment=rows["qsmk"], instruments=high, error="classical")
    assert found.estimate == pytest.approx(2.396, abs=5e-4)
    assert found.std_error == pytest.approx(19.840, abs=5e-4)
    assert (found.ci_low, found.ci_high) == (pytest.approx(-36.5, abs=0.05), pytest.approx(41.3, abs=0.05))
    assert found.first_stage_f == pytest.approx(0.8, abs=0.05)
    assert "weak instruments (first-stage F = 0.822), the interval does not hold" in found.method
    assert (found.anderson_rubin_low, found.anderson_rubin_high) == (-np.inf, np.inf)
    assert found.n_obs == 1476


@pytest.mark.data
def test_two_stages_equal_statsmodels(nhefs: pd.DataFrame) -> None:
    import statsmodels.api as sm
    from statsmodels.sandbox.regression.gmm import IV2SLS

    rows = nhefs.dropna(subset=["wt82_71", "price82", "price71"])
    X, y, t = book_covariates(rows), rows["wt82_71"].to_numpy(), rows["qsmk"].to_numpy()
    W = sm.add_constant(pd.get_dummies(X, drop_first=True, dtype=float).to_numpy())
    Z = np.column_stack([W, rows["price82"], rows["price71"]])
    peer = IV2SLS(y, np.column_stack([W, t]), Z).fit()
    first = sm.OLS(t, Z)
    instruments = rows[["price82", "price71"]].assign(sum=rows["price82"] + rows["price71"])
    found = instrumental_variable(X, y, treatment=t, instruments=instruments, error="classical")
    assert (found.estimate, found.std_error) == pytest.approx((peer.params[-1], peer.bse[-1]), rel=1e-7)
    assert found.n_instruments == 2  # their sum says nothing more
    last_two = np.eye(Z.shape[1])[-2:]
    assert found.first_stage_f == pytest.approx(float(first.fit().f_test(last_two).fvalue), rel=1e-7)
    robust = instrumental_variable(X, y, treatment=t, instruments=instruments)
    bread = np.linalg.inv(Z.T @ Z)
    fitted = Z @ bread @ Z.T @ np.column_stack([W, t])
    inverse = np.linalg.inv(fitted.T @ fitted)
    residual = y - np.column_stack([W, t]) @ peer.params
    meat = (fitted * residual[:, None] ** 2).T @ fitted
    assert robust.std_error == pytest.approx(np.sqrt((inverse @ meat @ inverse)[-1, -1]), rel=1e-7)
    white = first.fit(cov_type="HC0").f_test(last_two).fvalue
    assert robust.first_stage_f == pytest.approx(float(white), rel=1e-7)


def test_one_instrument_is_walds_ratio() -> None:
    offered, t, y = instrumented(0, 500, 1.0)
    found = instrumental_variable(None, y, treatment=t, instruments=offered)
    top, bottom = (difference_in_means(v, treatment=offered, error="HC0") for v in (y, t))
    assert found.estimate == pytest.approx(top.estimate / bottom.estimate)
    assert found.first_stage_f == pytest.approx((bottom.estimate / bottom.std_error) ** 2)
    # At the ends of Anderson and Rubin's interval the instrument is just not related to y - b t.
    for b in (found.anderson_rubin_low, found.anderson_rubin_high):
        rest = difference_in_means(y - b * t, treatment=offered, error="HC0")
        assert abs(rest.estimate / rest.std_error) == pytest.approx(1.959964, rel=1e-6)


def test_the_treatment_as_its_own_instrument_is_least_squares() -> None:
    X, t, y = confounded(3, 200)
    groups, w = np.arange(200) // 4, np.random.default_rng(0).random(200)
    iv = instrumental_variable(X, y, treatment=t, instruments=t, sample_weight=w, clusters=groups)
    ols = ols_effect(X, y, treatment=t, sample_weight=w, clusters=groups)
    assert iv.estimate == pytest.approx(ols.estimate)
    assert iv.std_error * np.sqrt(199 / 196) == pytest.approx(ols.std_error)  # without the factor of its coefficients
    plain = instrumental_variable(X, y, treatment=t, instruments=t[:, None], sample_weight=w)
    assert plain.std_error == pytest.approx(ols_effect(X, y, treatment=t, sample_weight=w, error="HC0").std_error)


def test_instrument_intervals_cover_and_ols_does_not() -> None:
    n_runs, iv, ar, naive = 300, 0, 0, 0
    for seed in range(n_runs):
        offered, t, y = instrumented(seed, 600, 1.5)
        one = instrumental_variable(None, y, treatment=t, instruments=offered)
        iv += one.ci_low <= 1 <= one.ci_high
        ar += one.anderson_rubin_low <= 1 <= one.anderson_rubin_high
        plain = difference_in_means(y, treatment=t)
        naive += plain.ci_low <= 1 <= plain.ci_high
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    assert low <= iv <= high
    assert low <= ar <= high
    assert naive == 0


def test_anderson_and_rubins_interval_covers_with_weak_instruments() -> None:
    n_runs, held, said = 300, 0, 0
    for seed in range(n_runs):
        offered, t, y = instrumented(seed, 307, 0.1)
        one = instrumental_variable(None, y, treatment=t, instruments=offered)
        held += one.anderson_rubin_low <= 1 <= one.anderson_rubin_high
        said += "weak instruments" in one.method
    assert held >= stats.binom.ppf(0.001, n_runs, 0.95)
    assert said > 0.95 * n_runs


def test_instruments_in_any_units_and_order() -> None:
    offered, t, y = instrumented(4, 300, 1.0)
    X = np.random.default_rng(1).normal(size=(300, 2))
    order = np.random.default_rng(2).permutation(300)
    one = instrumental_variable(X, y, treatment=t, instruments=offered)
    other = instrumental_variable(
        X[order] * 1000 + 5, (2 * y - 7)[order], treatment=1 - t[order], instruments=1e-5 * offered[order]
    )
    assert (2 * one.estimate, 2 * one.std_error) == pytest.approx((-other.estimate, other.std_error))
    assert one.first_stage_f == pytest.approx(other.first_stage_f)
    assert one.anderson_rubin_low * 2 == pytest.approx(-other.anderson_rubin_high)


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"instruments": np.ones(40)}, OverlapError, "no instrument is left"),
        ({"instruments": "covariate"}, OverlapError, "no instrument is left"),
        ({"instruments": np.arange(39)}, CausalRecError, "instruments has 39 values"),
        ({"instruments": np.r_[np.nan, np.zeros(39)]}, ColumnError, "'x0' of X have missing or infinite values"),
        ({"instruments": "balanced", "X": None}, OverlapError, "do not move the treatment at all"),
        ({"estimand": "att"}, CausalRecError, "estimand is 'att'.*'late'"),
        ({"error": "HC1"}, CausalRecError, "error is 'HC1'; expected one of 'robust', 'classical'"),
        ({"treatment": np.zeros(40)}, TreatmentError, "found only 0"),
    ],
)
def test_instruments_refuse(options: dict, error: type[Exception], message: str) -> None:
    rng = np.random.default_rng(5)
    X, t = rng.normal(size=(40, 2)), np.arange(40) % 2
    named = {"covariate": X[:, 0] * 3 - 1, "balanced": np.repeat([0, 1], 20)}
    options = {"X": X, "treatment": t, "instruments": rng.normal(size=40), **options}
    if isinstance(options["instruments"], str):
        options["instruments"] = named[options["instruments"]]
    with pytest.raises(error, match=message):
        instrumental_variable(options.pop("X"), rng.normal(size=40), **options)
