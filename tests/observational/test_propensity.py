"""The propensity score against published values, statsmodels and scikit-learn; design matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from causalrec.exceptions import CausalRecError, ColumnError, OverlapError, TreatmentError
from causalrec.observational import design, design_matrix, fit_propensity, propensity

MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]


@pytest.fixture
def lalonde(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")


def hajek(score: np.ndarray, treatment: np.ndarray, y: np.ndarray, estimand: str) -> float:
    own = {"ate": np.ones(len(y)), "att": score, "atc": 1 - score}[estimand]
    w = own / np.where(treatment == 1, score, 1 - score)
    return np.average(y[treatment == 1], weights=w[treatment == 1]) - np.average(
        y[treatment == 0], weights=w[treatment == 0]
    )


def confounded(seed: int, n: int) -> tuple[np.ndarray, ...]:
    """Covariates, true propensity, treatment, and an outcome with effect 1, confounded through the propensity.

    A part of the outcome runs across the propensity: what a score that is estimated balances by chance.
    """
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    logit = 0.8 * X[:, 0] - 0.5 * X[:, 1] - 0.3
    propensity = 1 / (1 + np.exp(-logit))
    treatment = (rng.random(n) < propensity).astype(np.int64)
    return X, propensity, treatment, logit + treatment + X @ [1.0, 1.6] + rng.normal(size=n)


@pytest.mark.data
def test_propensity_equals_statsmodels_logit(lalonde: pd.DataFrame) -> None:
    import statsmodels.api as sm

    X, _ = design_matrix(lalonde[MATCHIT])
    t = lalonde["treat"].to_numpy()
    peer = sm.Logit(t, sm.add_constant(X)).fit(disp=0, tol=1e-14, method="newton").predict()
    np.testing.assert_allclose(fit_propensity(X, treatment=t).score, peer, rtol=0, atol=1e-8)


@pytest.mark.data
def test_propensity_gives_published_weighted_effects(lalonde: pd.DataFrame) -> None:
    """MatchIt's vignette prints .5774 as the mean score of the treated; the effects are Hájek's (PSweight 1.2)."""
    t, y = lalonde["treat"].to_numpy(), lalonde["re78"].to_numpy()
    score = fit_propensity(design_matrix(lalonde[MATCHIT])[0], treatment=t).score
    assert score[t == 1].mean() == pytest.approx(0.5774, abs=5e-5)
    assert hajek(score, t, y, "att") == pytest.approx(1214.071, abs=1e-3)
    assert hajek(score, t, y, "ate") == pytest.approx(224.676, abs=1e-3)


@pytest.mark.data
def test_propensity_gives_the_weights_of_what_if_program_12_2(data_dir: Path) -> None:
    """Hernán and Robins, "Causal Inference: What If", program 12.2: mean 1.996, range 1.054 to 16.700, effect 3.441."""
    frame = pd.read_csv(data_dir / "nhefs" / "NHEFS.csv").dropna(subset=["wt82_71"])
    squares = ["age", "smokeintensity", "smokeyrs", "wt71"]
    X, _ = design_matrix(
        frame[["sex", "race", *squares]]
        .assign(**{f"{c}2": frame[c] ** 2 for c in squares})
        .assign(**{c: frame[c].astype("category") for c in ("education", "exercise", "active")})
    )
    t = frame["qsmk"].to_numpy()
    score = fit_propensity(X, treatment=t).score
    w = 1 / np.where(t == 1, score, 1 - score)
    assert (w.mean(), w.std(ddof=1), w.min(), w.max()) == pytest.approx((1.99628, 1.47479, 1.0537, 16.7001), abs=5e-5)
    assert hajek(score, t, frame["wt82_71"].to_numpy(), "ate") == pytest.approx(3.44054, abs=1e-5)


def test_constant_and_collinear_columns_change_nothing() -> None:
    X, _, t, _ = confounded(0, 300)
    more = np.column_stack([X, X[:, 0] - 3 * X[:, 1], np.full(300, 0.1), 1000 + 1e-3 * X[:, 1], np.zeros(300)])
    np.testing.assert_allclose(
        fit_propensity(more, treatment=t).score, fit_propensity(X, treatment=t).score, rtol=0, atol=1e-9
    )


def test_only_constant_columns_give_the_share_of_the_treated() -> None:
    assert fit_propensity(np.ones((4, 2)), treatment=np.array([0, 1, 1, 1])).score == pytest.approx(0.75)


def test_units_of_covariates_do_not_matter() -> None:
    X, _, t, _ = confounded(1, 300)
    np.testing.assert_allclose(
        fit_propensity(X * [1e6, 1e-6] + [1e7, 5], treatment=t).score, fit_propensity(X, treatment=t).score, atol=1e-7
    )


def test_one_extreme_unit_does_not_stop_the_fit() -> None:
    """Newton's full step overshoots here; the answer is statsmodels' by another optimiser."""
    import statsmodels.api as sm

    X, _, t, _ = confounded(2, 400)
    X[np.flatnonzero(t == 0)[0], 0] = 60.0
    peer = sm.Logit(t, sm.add_constant(X)).fit(disp=0, method="bfgs", gtol=1e-10, maxiter=500).predict()
    np.testing.assert_allclose(fit_propensity(X, treatment=t).score, peer, atol=1e-6)


@pytest.mark.parametrize(
    "decides",
    [
        pytest.param(lambda x, t: t.astype(float), id="complete, binary"),
        pytest.param(lambda x, t: np.abs(x) * (2 * t - 1), id="complete, continuous"),
        pytest.param(lambda x, t: ((t == 1) & (x > 1)).astype(float), id="some of the treated only"),
        pytest.param(lambda x, t: ((t == 0) & (x > 1)).astype(float), id="some of the controls only"),
    ],
)
def test_separation_is_an_error_that_says_so(decides) -> None:
    X, _, t, _ = confounded(3, 300)
    with pytest.raises(OverlapError, match=r"separate treated from control.*Remove the covariate"):
        fit_propensity(np.column_stack([X[:, 1], decides(X[:, 0], t)]), treatment=t)


def test_more_columns_than_units_is_separation() -> None:
    with pytest.raises(OverlapError):
        fit_propensity(np.random.default_rng(0).normal(size=(10, 20)), treatment=np.arange(10) % 2)


def test_equal_rows_get_equal_scores_in_any_order() -> None:
    """A matrix product may round equal rows differently; then ties would not be ties."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(7, 9))
    which = rng.integers(0, 7, 1001)
    t = (rng.random(1001) < 0.4).astype(np.int64)
    assert len(np.unique(fit_propensity(rows[which], treatment=t).score)) == 7


@pytest.mark.parametrize("model", ["logistic", "probit"])
@pytest.mark.parametrize("weighted", [False, True])
def test_regressions_equal_statsmodels_with_their_information(model, weighted) -> None:
    """Coefficients by their scores; the covariance by the variance of the linear predictor, which no scaling moves."""
    import statsmodels.api as sm

    X, _, t, _ = confounded(5, 400)
    weight = np.random.default_rng(0).integers(1, 4, 400).astype(float) if weighted else np.ones(400)
    link = sm.families.links.Logit() if model == "logistic" else sm.families.links.Probit()
    peer = sm.GLM(t, sm.add_constant(X), family=sm.families.Binomial(link), freq_weights=weight).fit(tol=1e-14)
    found = fit_propensity(X, treatment=t, model=model, sample_weight=weight if weighted else None)
    np.testing.assert_allclose(found.score, peer.predict(), rtol=0, atol=1e-8)
    design_ = sm.add_constant(X)
    hessian = peer.model.hessian(peer.params, observed=True)
    expected = np.einsum("ij,jk,ik->i", design_, np.linalg.inv(-hessian), design_)
    ours = np.einsum("ij,jk,ik->i", found.design, np.linalg.inv(found.information), found.design)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("model", ["logistic", "probit"])
def test_influence_is_what_a_unit_more_of_weight_does(model) -> None:
    """The effect of raising one unit's weight on Σ g e, by fitting again, against the influence."""
    X, _, t, _ = confounded(6, 120)
    gradient = np.random.default_rng(1).normal(size=120)
    found = fit_propensity(X, treatment=t, model=model)
    step = 1e-4
    for unit in (0, 7, 50):
        moved = [
            gradient @ fit_propensity(X, treatment=t, model=model, sample_weight=1 + s * (np.arange(120) == unit)).score
            for s in (step, -step)
        ]
        slope = (moved[0] - moved[1]) / (2 * step)
        assert found.influence(t, gradient)[unit] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_many_rows_are_fitted_as_few_are(monkeypatch) -> None:
    """Starting on some rows, and sums over parts: the same maximum."""
    X, _, t, _ = confounded(7, 3000)
    plain = fit_propensity(X, treatment=t).score
    monkeypatch.setattr(propensity, "_FIRST_FEW", 100)
    monkeypatch.setattr(design, "_MANY", 100)
    monkeypatch.setattr(design, "_BLOCK", 64)
    np.testing.assert_allclose(fit_propensity(X, treatment=t).score, plain, rtol=0, atol=1e-9)


def test_a_start_on_few_rows_that_are_separated_does_no_harm(monkeypatch) -> None:
    X, _, t, _ = confounded(8, 2000)
    plain = fit_propensity(X, treatment=t).score
    monkeypatch.setattr(propensity, "_FIRST_FEW", 3)
    np.testing.assert_allclose(fit_propensity(X, treatment=t).score, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", ["logistic", LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)])
def test_cross_fitted_scores_come_from_other_folds(model) -> None:
    from causalrec.nuisance import make_folds

    X, _, t, _ = confounded(9, 400)
    found = fit_propensity(X, treatment=t, model=model, n_folds=4, random_state=3)
    fold = make_folds(t, 4, random_state=3)
    for j in range(4):
        peer = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(X[fold != j], t[fold != j])
        np.testing.assert_allclose(found.score[fold == j], peer.predict_proba(X[fold == j])[:, 1], atol=1e-7)
    assert found.cross_fitted
    assert not found.parametric
    assert "cross-fitted on 4 folds" in found.method


def test_boosted_trees_take_frames_as_they_are_and_are_cross_fitted() -> None:
    X, true, t, _ = confounded(10, 4000)
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "plan": pd.Categorical(np.where(X[:, 0] > 0, "x", "y"))})
    frame.loc[::50, "b"] = np.nan
    before = frame.copy(deep=True)
    found = fit_propensity(frame, treatment=t, model="boosted", calibration="sigmoid")
    pd.testing.assert_frame_equal(frame, before)
    assert found.method == "boosted trees, cross-fitted on 5 folds, sigmoid calibration"
    assert np.sqrt(np.mean((found.score - true) ** 2)) < 0.06
    in_sample = fit_propensity(frame, treatment=t, model="boosted", n_folds=1)
    assert not in_sample.cross_fitted
    assert "in sample" in in_sample.method


def test_rows_of_a_group_lie_in_one_fold() -> None:
    """Copies of a unit in other folds would be known to the model that scores it."""
    X, _, t, _ = confounded(11, 150)
    units = np.arange(150)
    twice = fit_propensity(np.vstack([X, X]), treatment=np.tile(t, 2), n_folds=5, groups=np.tile(units, 2)).score
    np.testing.assert_allclose(twice[:150], twice[150:], rtol=0, atol=1e-12)


def test_clipping_is_said_and_the_score_is_then_taken_as_known() -> None:
    X, _, t, _ = confounded(12, 500)
    plain, found = fit_propensity(X, treatment=t), fit_propensity(X, treatment=t, clip=0.2)
    outside = (plain.score < 0.2) | (plain.score > 0.8)
    assert found.share_clipped == pytest.approx(outside.mean())
    np.testing.assert_array_equal(found.score, np.clip(plain.score, 0.2, 0.8))
    assert plain.parametric
    assert not found.parametric
    assert fit_propensity(X, treatment=t, clip=1e-6).parametric
    assert "clipped to [0.2, 0.8]" in found.method


def test_scores_next_to_0_and_1_are_no_error() -> None:
    """Controls of 60 standard deviations beside the others: 1 - 1e-17 is 1 to a computer, the weights are plain."""
    X, _, t, _ = confounded(14, 400)
    far = np.vstack([X, [[-60.0, 0.0], [60.0, 0.0]]])
    score = fit_propensity(far, treatment=np.r_[t, 0, 1]).score
    assert 0 < score[-2] < 1e-12
    assert 1 - 1e-12 < score[-1] < 1


def test_a_classifier_that_is_certain_is_an_error_unless_clipped() -> None:
    from sklearn.tree import DecisionTreeClassifier

    X, _, t, _ = confounded(15, 200)
    with pytest.raises(OverlapError, match=r"exactly 0 or 1 for \d+ of 200 units.*clip=0.01"):
        fit_propensity(X, treatment=t, model=DecisionTreeClassifier(random_state=0))
    clipped = fit_propensity(X, treatment=t, model=DecisionTreeClassifier(random_state=0), clip=0.05).score
    assert (clipped.min(), clipped.max()) == (0.05, 0.95)


def test_labels_and_control() -> None:
    X, _, t, _ = confounded(13, 300)
    labels = np.where(t == 1, "mail", "none")
    by_label = fit_propensity(X, treatment=labels, control="none").score
    np.testing.assert_array_equal(by_label, fit_propensity(X, treatment=t).score)


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"model": "logit"}, CausalRecError, "expected one of 'logistic', 'probit', 'boosted'"),
        ({"model": LogisticRegression}, CausalRecError, "expected one of"),
        ({"calibration": "sigmoid"}, CausalRecError, "set n_folds=5"),
        ({"calibration": "platt", "n_folds": 5}, CausalRecError, "expected 'sigmoid'"),
        ({"clip": 0.5}, CausalRecError, "clip is 0.5"),
        ({"n_folds": 0}, CausalRecError, "n_folds is 0"),
        ({"sample_weight": np.zeros(60)}, CausalRecError, "zero in every row"),
        ({"sample_weight": np.arange(60) % 2}, TreatmentError, "arm 0 has no weight"),
        ({"treatment": np.ones(60)}, TreatmentError, "only 1"),
        ({"treatment": np.arange(60) % 3, "control": 0}, TreatmentError, "compares two arms"),
        ({"treatment": np.arange(60) % 2 + 1}, TreatmentError, "Pass control=1"),
        ({"treatment": np.arange(50) % 2}, CausalRecError, "50 values but there are 60 rows"),
    ],
)
def test_bad_input(options, error, message) -> None:
    X = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(error, match=message):
        fit_propensity(X, **{"treatment": np.arange(60) % 2, **options})


def test_a_level_of_one_arm_alone_is_named() -> None:
    frame = pd.DataFrame({"plan": ["a"] * 30 + ["b"] * 10, "x": np.random.default_rng(0).normal(size=40)})
    t = np.r_[np.arange(30) % 2, np.ones(10, dtype=int)]
    with pytest.raises(OverlapError, match="Values that only one arm has: 'plan_b'"):
        fit_propensity(frame, treatment=t)


def test_a_known_score_is_checked() -> None:
    known = propensity.as_propensity(0.3, n_rows=4)
    assert known.known
    assert known.score.tolist() == [0.3] * 4
    assert propensity.as_propensity(known, n_rows=4) is known
    with pytest.raises(CausalRecError, match="is of 4 units but there are 5"):
        propensity.as_propensity(known, n_rows=5)
    with pytest.raises(OverlapError, match="strictly between 0 and 1"):
        propensity.as_propensity([0.5, 1.0], n_rows=2)


# --- design matrix --------------------------------------------------------------------------------------------------


def test_design_matrix_codes_levels_that_occur() -> None:
    frame = pd.DataFrame({
        "plan": pd.Categorical(["b", "c", "b"], categories=["a", "b", "c"]), "age": [1, 2, 3],
        "vip": [True, False, True], "city": ["x", "y", "x"],
    })  # fmt: skip
    X, names = design_matrix(frame)
    assert names.tolist() == ["age", "vip", "plan_c", "city_y"]
    np.testing.assert_array_equal(X, [[1, 1, 0, 0], [2, 0, 1, 1], [3, 1, 0, 0]])
    X, names = design_matrix(frame, all_levels=True)
    assert names.tolist() == ["age", "vip", "plan_b", "plan_c", "city_x", "city_y"]
    np.testing.assert_array_equal(X[:, 2:4].sum(axis=1), 1)


@pytest.mark.parametrize(
    "column,message",
    [
        ([1.0, None], "'x' have missing values"),
        ([1.0, np.inf], "'x' have infinite values"),
        (["a", None], "'x' have missing values"),
        (pd.to_datetime(["2025-01-01", "2025-01-02"]), "'x' are times"),
    ],
)
def test_design_matrix_refuses(column, message) -> None:
    with pytest.raises(ColumnError, match=message):
        design_matrix(pd.DataFrame({"x": column, "z": [1, 2]}))


def test_a_score_of_another_treatment_or_order_is_refused() -> None:
    from causalrec.observational import aipw_parametric, g_estimation, match, subclassification, weights

    X, _, t, y = confounded(16, 300)
    score, other = fit_propensity(X, treatment=t), np.roll(t, 1)
    for call in (
        lambda: weights(treatment=other, propensity=score),
        lambda: match(treatment=other, propensity=score),
        lambda: subclassification(y, treatment=other, propensity=score),
        lambda: aipw_parametric(X, y, treatment=other, propensity=score),
        lambda: g_estimation(X, y, treatment=other, propensity=score),
    ):
        with pytest.raises(CausalRecError, match="not fitted on this treatment"):
            call()
    weighted = fit_propensity(X, treatment=t, model="probit", sample_weight=np.arange(300) % 3 + 1.0)
    assert propensity.as_propensity(weighted, n_rows=300, treatment=t) is weighted
