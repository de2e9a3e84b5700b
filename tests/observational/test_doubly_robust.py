"""Doubly robust effects against Stata's printed output, closed forms and simulated truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError, TreatmentError
from causalrec.nuisance import fit_nuisances
from causalrec.observational._support import check_levels
from causalrec.observational.doubly_robust import aipw, aipw_parametric
from causalrec.observational.propensity import fit_propensity
from causalrec.observational.standardisation import standardisation
from causalrec.results import PropensityResult

ESTIMANDS = ("ate", "att", "atc")
LINEAR = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression(C=1e6)}


def cattaneo() -> tuple[pd.DataFrame, pd.Series, pd.Series, PropensityResult]:
    """Stata's example: outcome covariates, birth weights, whether the mother smoked, and its probit score."""
    import statsmodels

    path = Path(statsmodels.__file__).parent / "treatment" / "tests" / "results" / "cataneo2.csv"
    frame = pd.read_csv(path)
    t = frame["mbsmoke_"]
    score = fit_propensity(frame[["mmarried_", "mage", "mage2", "fbaby_", "medu"]], treatment=t, model="probit")
    return frame[["prenatal1_", "mmarried_", "mage", "fbaby_"]], frame["bweight"], t, score


def confounded(seed: int, n: int, p: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Covariates, treatment, outcome, and the true propensity; every effect is 1 + x0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    e = 1 / (1 + np.exp(-(0.6 * X[:, 0] - 0.4 * X[:, 1])))
    t = (rng.random(n) < e).astype(np.int64)
    return X, t, X[:, 0] + X[:, 1] + t * (1 + X[:, 0]) + rng.normal(size=n), e


TRUTH = {"ate": 1.0, "att": 1.26855, "atc": 1.0 - 0.26855}  # as in test_regression, where it is integrated


# --- parametric -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form,estimand,estimate,error",
    [
        ("augmented", "ate", -230.98920111258, 26.210564625435),
        ("weighted_augmented", "ate", -227.19561819, 27.34793562),
        ("weighted_regression", "ate", -229.96707794, 26.62667572),
        ("weighted_regression", "att", -223.54526199, 23.79401567),
    ],
)
def test_parametric_forms_equal_stata(form: str, estimand: str, estimate: float, error: float) -> None:
    """Stata's teffects aipw, aipw with weighted regressions, and ipwra: results_teffects.py of statsmodels."""
    X, y, t, score = cattaneo()
    found = aipw_parametric(X, y, treatment=t, propensity=score, form=form, estimand=estimand)
    assert (found.estimate, found.std_error) == pytest.approx((estimate, error), rel=1e-8)
    assert found.method.endswith("probit regression, unpenalised, counted in the error")


@pytest.mark.slow
def test_statsmodels_computes_the_same() -> None:
    """The effect over the untreated, which Stata does not print."""
    import statsmodels.api as sm
    from statsmodels.treatment.treatment_effects import TreatmentEffect

    X, y, t, score = cattaneo()
    select = sm.Probit(t, score.design).fit(disp=False)
    peer = TreatmentEffect(sm.OLS(y, sm.add_constant(X)), t.to_numpy(), results_select=select)
    found = aipw_parametric(X, y, treatment=t, propensity=score, form="weighted_regression", estimand="atc")
    assert found.estimate == pytest.approx(peer.ipw_ra(return_results=False, effect_group=0)[0], rel=1e-7)


@pytest.mark.parametrize("form", ["augmented", "weighted_augmented", "weighted_regression"])
@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("outcome_model", ["linear", "poisson"])
def test_stacked_error_equals_the_numerical_jackknife(form: str, estimand: str, outcome_model: str) -> None:
    """The infinitesimal jackknife: the derivative of the whole estimate, score and all, by each unit's weight."""
    if form == "weighted_augmented" and estimand != "ate":
        return
    X, t, y, _ = confounded(1, 42)
    y = np.abs(y) if outcome_model == "poisson" else y
    common = {"treatment": t, "form": form, "estimand": estimand, "outcome_model": outcome_model}
    step, tilt = 1e-4, np.eye(42)
    up, down = (
        [aipw_parametric(X, y, sample_weight=1 + sign * step * row, **common).estimate for row in tilt]
        for sign in (1, -1)
    )
    influence = (np.array(up) - np.array(down)) / (2 * step)
    found = aipw_parametric(X, y, **common)
    assert found.std_error == pytest.approx(np.sqrt(influence @ influence), rel=1e-5)
    groups = np.arange(42) // 3
    sums = np.bincount(groups, weights=influence)
    clustered = aipw_parametric(X, y, clusters=groups, **common)
    assert clustered.std_error == pytest.approx(np.sqrt(sums @ sums * 14 / 13), rel=1e-5)


@pytest.mark.parametrize("form", ["augmented", "weighted_regression"])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_weights_of_outcomes_give_the_estimate(form: str, estimand: str) -> None:
    X, t, y, _ = confounded(2, 200)
    w = np.random.default_rng(0).random(200)
    found = aipw_parametric(X, y, treatment=t, form=form, estimand=estimand, sample_weight=w)
    means = [np.average(np.column_stack([y, X]), axis=0, weights=np.where(t == a, found.weights, 0)) for a in (1, 0)]
    assert means[0][0] - means[1][0] == pytest.approx(found.estimate)
    np.testing.assert_allclose(means[0][1:], means[1][1:], atol=1e-12)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_a_constant_known_score_changes_nothing_in_linear_regressions(estimand: str) -> None:
    X, t, y, _ = confounded(3, 200)
    known = aipw_parametric(X, y, treatment=t, propensity=0.3, estimand=estimand, form="weighted_regression")
    plain = standardisation(X, y, treatment=t, estimand=estimand)
    assert (known.estimate, known.std_error) == pytest.approx((plain.estimate, plain.std_error))
    assert known.method.endswith("known by design")


@pytest.mark.parametrize("wrong", ["neither", "outcome", "propensity"])
def test_parametric_intervals_cover_if_one_model_is_right(wrong: str) -> None:
    """A wrong propensity sees noise alone; a wrong regression sees the first covariate alone."""
    n_runs, found = 200, {"ate": [], "att": []}
    for seed in range(n_runs):
        X, t, y, _ = confounded(seed, 400)
        score = fit_propensity(X[:, 2:] if wrong == "propensity" else X, treatment=t)
        for estimand, pairs in found.items():
            one = aipw_parametric(
                X[:, :1] if wrong == "outcome" else X, y, treatment=t, propensity=score, estimand=estimand
            )
            pairs.append((one.estimate, one.std_error))
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    for estimand, pairs in found.items():
        estimate, error = np.array(pairs).T
        assert low <= (np.abs(estimate - TRUTH[estimand]) <= 1.959964 * error).sum() <= high, estimand


@pytest.mark.slow
@pytest.mark.parametrize("form", ["augmented", "weighted_augmented", "weighted_regression"])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_parametric_intervals_cover_with_clusters_and_weights(form: str, estimand: str) -> None:
    """Units in threes share covariates and noise; those of a large x0 are half as likely in the sample, and weigh 2."""
    if form == "weighted_augmented" and estimand != "ate":
        return
    n_runs, pairs = 1000, []
    for seed in range(n_runs):
        rng = np.random.default_rng(seed)
        X, t, y, _ = confounded(seed, 600)
        y = y + 0.5 * rng.normal(size=600)
        keep = (X[:, 0] < 0) | (rng.random(600) < 0.5)
        X, t, y = (np.repeat(v[keep], 3, axis=0) for v in (X, t, y))
        w = np.where(X[:, 0] < 0, 1.0, 2.0)
        one = aipw_parametric(
            X, y, treatment=t, form=form, estimand=estimand, sample_weight=w, clusters=np.arange(len(y)) // 3
        )
        pairs.append((one.estimate, one.std_error))
    estimate, error = np.array(pairs).T
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    assert low <= (np.abs(estimate - TRUTH[estimand]) <= 1.959964 * error).sum() <= high


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"form": "aipw"}, CausalRecError, "form is 'aipw'; expected one of 'augmented'"),
        ({"form": "weighted_augmented", "estimand": "att"}, CausalRecError, "for the ate, not the att"),
        ({"estimand": "atx"}, CausalRecError, "estimand is 'atx'"),
        ({"propensity": np.r_[0.0, np.full(39, 0.5)]}, OverlapError, "1 of 40 values are not strictly between"),
        ({"propensity": np.full(30, 0.5)}, CausalRecError, "propensity has 30 values but there are 40 rows"),
        ({"outcome_model": "logistic"}, OutcomeError, "not between 0 and 1"),
        ({"X": np.column_stack([np.arange(40) % 2, np.cos(np.arange(40))])}, OverlapError, "separate"),
        ({"sample_weight": np.arange(40) % 2}, TreatmentError, "0 units of a weight above zero"),
        ({"y": np.full(40, np.inf)}, OutcomeError, "40 of 40 values are missing or infinite"),
    ],
)
def test_parametric_refuses(options: dict, error: type[Exception], message: str) -> None:
    X, _, y, _ = confounded(4, 40)
    options = {"X": X, "y": y, "treatment": np.arange(40) % 2, **options}
    with pytest.raises(error, match=message):
        aipw_parametric(options.pop("X"), options.pop("y"), **options)


# --- cross-fitted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_cross_fitted_effect_is_that_of_the_nuisances(estimand: str) -> None:
    X, t, y, _ = confounded(5, 300)
    groups, w = np.arange(300) // 2, np.random.default_rng(0).random(300)
    found = aipw(X, y, treatment=t, estimand=estimand, clusters=groups, sample_weight=w, **LINEAR)
    nuisance = fit_nuisances(X, y, treatment=t, groups=groups, sample_weight=w, **LINEAR)
    same = nuisance.average_effect(estimand)
    assert (found.estimate, found.std_error, found.method) == (same.estimate, same.std_error, same.method)
    ready = aipw(X, y, treatment=t, nuisance=nuisance, estimand=estimand)
    assert (ready.estimate, ready.std_error) == (found.estimate, found.std_error)
    np.testing.assert_array_equal(found.propensity, nuisance.propensity[:, 1])
    e = found.propensity
    own = {"ate": 1.0, "att": e, "atc": 1 - e}[estimand]
    np.testing.assert_allclose(found.weights, w * own / np.where(t == 1, e, 1 - e))


def test_a_known_propensity_is_used_and_nothing_is_fitted() -> None:
    X, t, y, e = confounded(6, 300)
    found = aipw(X, y, treatment=t, propensity=e, outcome_model=LinearRegression())
    np.testing.assert_array_equal(found.propensity, e)
    assert found.method == "AIPW, 5 folds, known propensity"


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"propensity": "score"}, CausalRecError, "fitted on the very units.*aipw_parametric"),
        ({"nuisance": "ready", "propensity": 0.5}, CausalRecError, "nuisance is given together with 'propensity'"),
        ({"nuisance": "ready", "clip": 0.01}, CausalRecError, "nuisance is given together with 'clip'"),
        ({"nuisance": "other"}, CausalRecError, "fitted on other data: treatment or y differs in 80 of 80"),
        ({"estimand": "ato"}, CausalRecError, "estimand is 'ato'"),
        ({"treatment": np.arange(80) % 3, "control": 0}, TreatmentError, "compares two arms; found 3"),
        ({"treatment": (np.arange(80) < 2) * 1}, TreatmentError, "has 2 rows"),
    ],
)
def test_cross_fitting_refuses(options: dict, error: type[Exception], message: str) -> None:
    X, t, y, _ = confounded(7, 80)
    values = {
        "score": lambda: fit_propensity(X, treatment=t),
        "ready": lambda: fit_nuisances(X, y, treatment=t, **LINEAR),
        "other": lambda: fit_nuisances(X, y + 1, treatment=t, **LINEAR),
    }
    options = {k: values[v]() if isinstance(v, str) and v in values else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        aipw(X, y, **{"treatment": t, **options})


def test_separated_arms_and_lonely_levels_are_refused() -> None:
    """Boosted scores never reach 0 or 1: what a likelihood notices by itself must be looked for."""
    X, t, y, e = confounded(9, 400)
    frame = pd.DataFrame(X, columns=list("abc"))
    with pytest.raises(OverlapError, match="separate treated from control units perfectly"):
        aipw(frame.assign(age=10.0 * t), y, treatment=t)
    plan = np.where((t == 1) & (X[:, 0] > 0), "gold", "basic")
    n_gold = (plan == "gold").sum()
    for column in (plan, pd.Categorical(plan), (plan == "gold").astype(float)):
        with pytest.raises(OverlapError, match=rf"plan=(gold|1.0) \({n_gold} units, no control\)"):
            check_levels(frame.assign(plan=column), t, "att")
    with pytest.raises(OverlapError, match="no control"):
        aipw(frame.assign(plan=(plan == "gold") * 1), y, treatment=t, n_folds=2, **LINEAR)
    known = aipw(
        frame.assign(plan=(plan == "gold") * 1), y, treatment=t, propensity=e, outcome_model=LinearRegression()
    )
    assert np.isfinite(known.estimate)  # known to be by chance
    # Of controls alone, treated units of that level are not asked about; nor is the level of few units, by chance.
    allowed = frame.assign(plan=pd.Categorical(plan))
    check_levels(allowed, t, "atc")
    few = np.where(np.arange(400) == np.flatnonzero(t == 1)[0], "rare", "basic")
    check_levels(frame.assign(plan=few), t, "ate")
    with pytest.raises(OverlapError, match="no treated"):
        check_levels(frame.assign(plan=np.where((t == 0) & (X[:, 0] > 0), "old", "basic")), t, "ate")


def test_callers_data_stay() -> None:
    X, t, y, _ = confounded(8, 100)
    frame = pd.DataFrame(X, columns=list("abc")).assign(plan=pd.Categorical(np.where(X[:, 0] > 0, "x", "y")))
    before = frame.copy()
    aipw_parametric(frame, y, treatment=t)
    models = {k: make_pipeline(StandardScaler(), v) for k, v in LINEAR.items()}
    aipw(frame[list("abc")], y, treatment=t, **models)
    pd.testing.assert_frame_equal(frame, before)


def curved(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Products and kinks in both models."""
    X = rng.normal(size=(n, 6))
    e = 1 / (1 + np.exp(-(0.7 * X[:, 0] * X[:, 1] + 0.5 * np.abs(X[:, 2]) - 0.4 + 0.3 * X[:, 3])))
    t = (rng.random(n) < e).astype(np.int64)
    effect = 1 + X[:, 0]
    y = X[:, 0] * X[:, 1] + np.abs(X[:, 2]) + np.sin(2 * X[:, 3]) + t * effect + rng.normal(size=n)
    return X, t, y, effect


def straight(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Twenty covariates, all of which decide treatment and outcome: what trees alone learn too slowly."""
    X = rng.normal(size=(n, 20))
    slopes = np.linspace(1, 0.1, 20)
    t = (rng.random(n) < 1 / (1 + np.exp(-0.3 * X @ slopes))).astype(np.int64)
    effect = 1 + X[:, 0]
    return X, t, X @ slopes + t * effect + rng.normal(size=n), effect


@pytest.mark.slow
@pytest.mark.parametrize("design,n,bound", [(straight, 500, 0.93), (curved, 1000, 0.85)])
def test_cross_fitted_intervals_of_the_default_models(design, n: int, bound: float) -> None:
    """Smooth slopes in many covariates are covered; products and kinks are learned too slowly at a thousand units."""
    big = design(np.random.default_rng(99), 400_000)
    truth = {"ate": big[3].mean(), "att": big[3][big[1] == 1].mean()}
    n_runs, found = 60, {"ate": [], "att": []}
    for seed in range(n_runs):
        X, t, y, _ = design(np.random.default_rng(seed), n)
        nuisance = fit_nuisances(X, y, treatment=t, n_jobs=1)
        for estimand, pairs in found.items():
            one = aipw(X, y, treatment=t, nuisance=nuisance, estimand=estimand)
            pairs.append((one.estimate, one.std_error))
    for estimand, pairs in found.items():
        estimate, error = np.array(pairs).T
        held = (np.abs(estimate - truth[estimand]) <= 1.959964 * error).sum()
        assert held >= stats.binom.ppf(0.001, n_runs, bound), (estimand, held)
