"""Group effects, projections and calibration: closed forms, statsmodels, and coverage in simulation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.tools.tools import add_constant

from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError
from causalrec.nuisance import Nuisances, fit_nuisances
from causalrec.results import dump_results, load_results
from causalrec.uplift import (
    TLearner,
    best_linear_projection,
    calibration_test,
    group_average_effects,
    sequential_effects,
)
from causalrec.uplift.heterogeneity import quantile_groups


def simulate(n: int = 600, arms: int = 2, seed: int = 0, **options: Any) -> tuple[pd.DataFrame, Nuisances, np.ndarray]:
    """Covariates, nuisances by linear models, and the true effects, of shape (n, arms - 1)."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({
        "age": rng.normal(size=n), "visits": rng.normal(size=n),
        "country": pd.Categorical(rng.choice(["DE", "FR", "NL"], n), categories=["FR", "DE", "NL", "XX"]),
    })  # fmt: skip
    tau = np.column_stack([(k + 1) * (0.5 + X["age"]) + 0.3 * (X["country"] == "DE") for k in range(arms - 1)])
    odds = np.column_stack([np.ones(n), *(np.exp(0.4 * X["age"]) for _ in range(arms - 1))])
    t = (rng.random((n, 1)) > np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    y = X["age"] + X["visits"] + np.where(t > 0, tau[np.arange(n), np.maximum(t - 1, 0)], 0) + rng.normal(size=n)
    Z = X[["age", "visits"]].assign(de=(X["country"] == "DE").astype(float))
    nuisance = fit_nuisances(
        Z, y, treatment=t, control=0, outcome_model=LinearRegression(), propensity_model=LogisticRegression(), **options
    )
    return X, nuisance, tau


X, NUISANCE, TAU = simulate()
N = len(X)
WEIGHT = np.random.default_rng(1).uniform(0.5, 2.0, N)
USERS = np.random.default_rng(2).integers(0, 150, N)
WEIGHTED = replace(NUISANCE, sample_weight=WEIGHT)
X3, NUISANCE3, TAU3 = simulate(900, arms=3, seed=3)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def frames_close(found: Any, expected: Any) -> None:
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("nuisance", [NUISANCE, WEIGHTED], ids=["equal", "weighted"])
@pytest.mark.parametrize("clusters", [None, USERS], ids=["rows", "users"])
def test_one_group_is_the_average_effect(nuisance: Nuisances, clusters: Any) -> None:
    found = group_average_effects(nuisance, TAU, n_groups=1, clusters=clusters)
    average = nuisance.average_effect(clusters=clusters)
    close(found.effect, average.estimate)
    close(found.std_error, average.std_error)
    assert (found.average, found.average_ci_low) == (average.estimate, average.ci_low)
    assert np.isnan([found.difference, found.equal_pvalue, found.rise_pvalue]).all()
    assert found.n_groups == 1
    intercept = best_linear_projection(nuisance, clusters=clusters)
    close(intercept.coefficient, average.estimate)
    assert np.isnan(intercept.joint_pvalue)


@pytest.mark.parametrize("nuisance", [NUISANCE, WEIGHTED], ids=["equal", "weighted"])
def test_groups_of_labels_are_means_of_scores(nuisance: Nuisances) -> None:
    found = group_average_effects(nuisance, groups=X["country"])
    weight = np.ones(N) if nuisance.sample_weight is None else nuisance.sample_weight
    scores = nuisance.effect_scores()[:, 0]
    assert found.group.tolist() == ["FR", "DE", "NL"]  # in their own order, without the one that is not there
    for k, country in enumerate(found.group):
        inside = (X["country"] == country).to_numpy()
        close(found.effect[k], np.average(scores[inside], weights=weight[inside]))
        close(found.std_error[k], nuisance.take(np.flatnonzero(inside)).average_effect().std_error)
        close(found.pvalue[k], 2 * stats.t.sf(abs(found.effect[k] / found.std_error[k]), inside.sum() - 1))
    close(found.share, [weight[X["country"] == c].sum() / weight.sum() for c in found.group])
    # the same as a projection on indicators
    line = best_linear_projection(nuisance, X[["country"]])
    assert line.term.tolist() == ["intercept", "country=DE", "country=NL"]
    close(line.coefficient, [found.effect[0], *(found.effect[1:] - found.effect[0])])


def test_difference_and_equality_are_welchs() -> None:
    found = group_average_effects(NUISANCE, groups=np.where(X["age"] > 0, "old", "young"))
    scores = NUISANCE.effect_scores()[:, 0]
    welch = stats.ttest_ind(scores[X["age"] > 0], scores[X["age"] <= 0], equal_var=False)
    close(found.difference_pvalue, welch.pvalue)
    close([found.difference_ci_low, found.difference_ci_high], welch.confidence_interval(0.95))
    close(found.equal_statistic, welch.statistic**2)
    close(found.equal_pvalue, 2 * stats.t.sf(abs(welch.statistic), N - 2))
    assert found.falling
    close(found.rise_pvalue, stats.t.sf(-welch.statistic, N - 2))


def test_equality_of_many_groups_is_statsmodels_wald_test() -> None:
    group = NUISANCE.fold
    found = group_average_effects(NUISANCE, groups=group, clusters=np.arange(N))
    D = (group[:, None] == np.arange(5)).astype(float)
    fit = OLS(NUISANCE.effect_scores()[:, 0], D).fit(cov_type="HC2", use_t=True)
    close(found.std_error, fit.bse)
    test = fit.f_test(np.eye(5)[:-1] - np.eye(5)[1:])
    close((found.equal_statistic, found.equal_pvalue), (float(test.fvalue), float(test.pvalue)))


def test_a_rise_in_the_wrong_place_is_seen() -> None:
    right = group_average_effects(NUISANCE, TAU, n_groups=4)
    wrong = group_average_effects(NUISANCE, -TAU, n_groups=4)
    assert right.rise_pvalue > 0.5
    assert not wrong.falling
    assert wrong.rise_pvalue < 0.01
    assert wrong.difference < 0 < right.difference
    steps = np.diff(wrong.effect) / np.hypot(wrong.std_error[1:], wrong.std_error[:-1])
    close(wrong.rise_pvalue, 3 * stats.t.sf(steps.max(), N - 4))


def test_quantile_groups_by_brute_force() -> None:
    rng = np.random.default_rng(5)
    uplift, weight, fold = rng.integers(0, 12, 200) / 4.0, rng.uniform(0.1, 2, 200), rng.integers(0, 3, 200)
    found = quantile_groups(uplift, weight, fold, 4)
    for i in range(200):
        same = fold == fold[i]
        above = weight[same & (uplift > uplift[i])].sum()
        tied = weight[same & (uplift == uplift[i])].sum()
        assert found[i] == int((above + tied / 2) / weight[same].sum() * 4)
    even = np.bincount(quantile_groups(rng.normal(size=1000), np.ones(1000), None, 5))
    assert even.tolist() == [200] * 5


def test_ties_stay_together_and_are_said() -> None:
    found = group_average_effects(NUISANCE, np.zeros(N))
    assert found.n_groups == 1
    assert "ties leave 1" in found.method
    assert "out of fold, intervals narrow where effects hardly differ" in found.method
    halves = group_average_effects(NUISANCE, (X["age"] > 0).to_numpy(float), predictions="of one model")
    assert halves.n_groups == 2
    close(halves.effect, group_average_effects(NUISANCE, groups=np.where(X["age"] > 0, "a", "b")).effect)
    close(halves.predicted, [1.0, 0.0])
    # a constant that differs between folds orders folds, not people
    assert group_average_effects(NUISANCE, NUISANCE.fold.astype(float)).n_groups == 1
    assert group_average_effects(NUISANCE, NUISANCE.fold.astype(float), predictions="of one model").n_groups == 5


@pytest.mark.parametrize("weight", [np.ones(N), WEIGHT], ids=["equal", "weighted"])
def test_projection_is_statsmodels_hc3(weight: np.ndarray) -> None:
    found = best_linear_projection(replace(NUISANCE, sample_weight=weight), X, confidence_level=0.9)
    A = add_constant(pd.get_dummies(X, drop_first=False)[["age", "visits", "country_DE", "country_NL"]].astype(float))
    fit = WLS(NUISANCE.effect_scores()[:, 0], A, weights=weight).fit(cov_type="HC3", use_t=True)
    assert found.term.tolist() == ["intercept", "age", "visits", "country=DE", "country=NL"]
    close(found.coefficient, fit.params)
    close(found.std_error, fit.bse)
    close(found.pvalue, fit.pvalues)
    close(np.column_stack([found.ci_low, found.ci_high]), fit.conf_int(0.1))
    joint = fit.f_test(np.eye(5)[1:])
    close((found.joint_statistic, found.joint_pvalue), (float(joint.fvalue), float(joint.pvalue)))
    assert found.df == N - 5


def test_projection_by_cluster_and_by_the_groups_of_the_folds() -> None:
    by_user = best_linear_projection(NUISANCE, X[["age"]], clusters=USERS)
    assert "CR3" in by_user.method
    assert by_user.df == len(np.unique(USERS)) - 1
    frames_close(best_linear_projection(replace(NUISANCE, groups=USERS), X[["age"]]), by_user)
    frames_close(best_linear_projection(NUISANCE, X[["age"]], clusters=[f"user {u}" for u in USERS]), by_user)
    alone = best_linear_projection(NUISANCE, X[["age"]], clusters=np.arange(N))
    close(alone.std_error, best_linear_projection(NUISANCE, X[["age"]]).std_error)
    grouped = group_average_effects(replace(NUISANCE, groups=USERS), TAU)
    assert "clustered by" in grouped.method
    frames_close(grouped, group_average_effects(NUISANCE, TAU, clusters=USERS))


def test_projection_takes_arrays_text_flags_and_polars() -> None:
    import polars as pl

    whole = best_linear_projection(NUISANCE, X)
    text = X.assign(country=X["country"].astype(str).map({"FR": "A", "DE": "B", "NL": "C"}))
    close(best_linear_projection(NUISANCE, text).coefficient, whole.coefficient)
    assert best_linear_projection(NUISANCE, text).term[-1] == "country=C"
    close(best_linear_projection(NUISANCE, pl.from_pandas(text)).coefficient, whole.coefficient)
    array = best_linear_projection(NUISANCE, X[["age", "visits"]].to_numpy())
    assert array.term.tolist() == ["intercept", "x0", "x1"]
    flag = best_linear_projection(NUISANCE, pd.DataFrame({"old": X["age"] > 0}))
    groups = group_average_effects(NUISANCE, groups=X["age"] > 0)
    close(flag.coefficient, [groups.effect[0], groups.effect[1] - groups.effect[0]])
    close(best_linear_projection(NUISANCE, X["age"]).coefficient,
          best_linear_projection(NUISANCE, X[["age"]]).coefficient)  # fmt: skip


def calibration_columns(nuisance: Nuisances, uplift: np.ndarray) -> np.ndarray:
    codes = np.arange(1, len(nuisance.labels))
    moved = (nuisance.codes[:, None] == codes) - nuisance.propensity[:, 1:]
    mean = np.average(uplift, axis=0, weights=nuisance.sample_weight)
    return np.column_stack([f for k in range(len(codes)) for f in
                            (moved[:, k] * mean[k], moved[:, k] * (uplift[:, k] - mean[k]))])  # fmt: skip


@pytest.mark.parametrize("nuisance", [NUISANCE, WEIGHTED], ids=["equal", "weighted"])
def test_calibration_is_statsmodels_hc3_one_sided(nuisance: Nuisances) -> None:
    found = calibration_test(nuisance, 2 * TAU)
    weight = np.ones(N) if nuisance.sample_weight is None else nuisance.sample_weight
    fit = WLS(nuisance.y - nuisance.mean_outcome, calibration_columns(nuisance, 2 * TAU), weights=weight)
    fit = fit.fit(cov_type="HC3", use_t=True)
    close([found.mean, found.differential], fit.params)
    close([found.mean_std_error, found.differential_std_error], fit.bse)
    close([found.mean_pvalue, found.differential_pvalue], stats.t.sf(fit.tvalues, N - 2))
    close([[found.mean_ci_low, found.mean_ci_high], [found.differential_ci_low, found.differential_ci_high]],
          fit.conf_int())  # fmt: skip
    assert 0.4 < found.differential < 0.6  # the predictions spread twice as widely as the effects


def test_calibration_of_several_arms_takes_all_at_once() -> None:
    fit = OLS(NUISANCE3.y - NUISANCE3.mean_outcome, calibration_columns(NUISANCE3, TAU3)).fit(cov_type="HC3")
    for arm in (1, 2):
        found = calibration_test(NUISANCE3, TAU3, arm=arm)
        close([found.mean, found.differential], fit.params[2 * arm - 2 : 2 * arm])
        assert (found.control, found.treatment) == ("0", str(arm))
        assert found.differential_ci_low < 1 < found.differential_ci_high


def test_calibration_of_predictions_that_do_not_vary() -> None:
    found = calibration_test(NUISANCE, np.full(N, 0.5))
    assert np.isnan([found.differential, found.differential_pvalue]).all()
    assert "do not vary" in found.method
    assert found.mean_pvalue < 0.01
    nothing = calibration_test(NUISANCE, np.zeros(N))
    assert np.isnan([nothing.mean, nothing.differential]).all()
    assert "the mean prediction is 0 and the predictions do not vary" in nothing.method


def test_several_arms_one_at_a_time() -> None:
    for arm in (1, 2):
        found = group_average_effects(NUISANCE3, TAU3, arm=arm, n_groups=3)
        close(found.effect @ found.share, NUISANCE3.effect_scores()[:, arm - 1].mean())
        close(found.predicted @ found.share, TAU3[:, arm - 1].mean())
        line = best_linear_projection(NUISANCE3, X3[["age"]], arm=arm)
        close(line.coefficient, np.polyfit(X3["age"], NUISANCE3.effect_scores()[:, arm - 1], 1)[::-1])
    for call in (group_average_effects, calibration_test):
        with pytest.raises(TreatmentError, match="3 arms"):
            call(NUISANCE3, TAU3)
        with pytest.raises(TreatmentError, match="'B'"):
            call(NUISANCE3, TAU3, arm="B")
        with pytest.raises(CausalRecError, match=r"\(900, 2\)"):
            call(NUISANCE3, TAU3[:, 0], arm=1)


def test_arms_the_other_way_round_turn_the_sign() -> None:
    turned = replace(
        NUISANCE, codes=1 - NUISANCE.codes, labels=(1, 0), outcomes=NUISANCE.outcomes[:, ::-1],
        propensity=NUISANCE.propensity[:, ::-1],
    )  # fmt: skip
    one, other = group_average_effects(NUISANCE, TAU, n_groups=4), group_average_effects(turned, -TAU, n_groups=4)
    close(other.effect, -one.effect[::-1])
    close(other.std_error, one.std_error[::-1])
    close((other.difference, other.equal_pvalue), (one.difference, one.equal_pvalue))
    line, back = best_linear_projection(NUISANCE, X), best_linear_projection(turned, X)
    close((back.coefficient, back.ci_low, back.ci_high), (-line.coefficient, -line.ci_high, -line.ci_low))
    close(calibration_test(turned, -TAU).differential, calibration_test(NUISANCE, TAU).differential)


def test_row_order_plays_no_part() -> None:
    order = np.random.default_rng(9).permutation(N)
    moved = WEIGHTED.take(order)
    frames_close(group_average_effects(moved, TAU[order], clusters=USERS[order]),
                 group_average_effects(WEIGHTED, TAU, clusters=USERS))  # fmt: skip
    frames_close(best_linear_projection(moved, X.iloc[order], clusters=USERS[order]),
                 best_linear_projection(WEIGHTED, X, clusters=USERS))  # fmt: skip
    frames_close(calibration_test(moved, TAU[order]), calibration_test(WEIGHTED, TAU))


def test_two_copies_are_weights_of_two_and_no_more_evidence_for_a_cluster() -> None:
    twice = np.r_[np.arange(N), np.arange(N)]
    copies = NUISANCE.take(twice)
    double = replace(NUISANCE, sample_weight=np.full(N, 2.0))
    one, two = group_average_effects(double, TAU), group_average_effects(copies, TAU[twice])
    close(two.effect, one.effect)
    close(group_average_effects(copies, TAU[twice], clusters=twice).std_error, one.std_error)
    close(best_linear_projection(copies, X.iloc[twice]).coefficient, best_linear_projection(double, X).coefficient)
    close(best_linear_projection(copies, X.iloc[twice], clusters=twice).std_error,
          best_linear_projection(double, X).std_error)  # fmt: skip
    close(calibration_test(copies, TAU[twice]).differential, calibration_test(double, TAU).differential)


def test_rows_without_weight_are_as_good_as_absent() -> None:
    kept = np.flatnonzero(X["visits"] > 0)
    off = replace(NUISANCE, sample_weight=np.where(X["visits"] > 0, 1.0, 0.0))
    part = NUISANCE.take(kept)
    frames_close(group_average_effects(off, TAU, clusters=USERS),
                 group_average_effects(part, TAU[kept], clusters=USERS[kept]))  # fmt: skip
    frames_close(best_linear_projection(off, X), best_linear_projection(part, X.iloc[kept]))
    frames_close(calibration_test(off, TAU), calibration_test(part, TAU[kept]))
    missing = X.assign(age=X["age"].where(X["visits"] > 0))
    frames_close(best_linear_projection(off, missing), best_linear_projection(part, X.iloc[kept]))


def test_units_and_scale() -> None:
    """Outcomes in cents: estimates and errors 100 times as large, tests the same."""
    cents = replace(NUISANCE, y=100 * NUISANCE.y, outcomes=100 * NUISANCE.outcomes)
    for one, hundred in (
        (group_average_effects(NUISANCE, TAU), group_average_effects(cents, 100 * TAU)),
        (best_linear_projection(NUISANCE, X), best_linear_projection(cents, X)),
    ):
        close(hundred.std_error, 100 * one.std_error)
        close(hundred.pvalue, one.pvalue)
    close(calibration_test(cents, 100 * TAU).differential, calibration_test(NUISANCE, TAU).differential)


def test_a_group_of_one_row_has_an_effect_and_no_error() -> None:
    labels = np.where(np.arange(N) == 7, "alone", "rest")
    found = group_average_effects(NUISANCE, groups=labels)
    close(found.effect[0], NUISANCE.effect_scores()[7, 0])
    assert np.isnan([found.std_error[0], found.pvalue[0], found.difference_pvalue, found.equal_pvalue]).all()
    assert np.isfinite(found.std_error[1])
    with pytest.raises(CausalRecError, match="one row alone decides the coefficient of 'x0'"):
        best_linear_projection(NUISANCE, (np.arange(N) == 7)[:, None])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: group_average_effects(NUISANCE), CausalRecError, ["neither uplift nor groups"]),
        (lambda: group_average_effects(NUISANCE, TAU[:9]), CausalRecError, ["uplift", "9", "600"]),
        (lambda: group_average_effects(NUISANCE, TAU * np.nan), CausalRecError, ["missing"]),
        (lambda: group_average_effects(NUISANCE, TAU, n_groups=0), CausalRecError, ["n_groups is 0"]),
        (lambda: group_average_effects(NUISANCE, TAU, predictions="mine"), CausalRecError, ["'mine'", "'in sequence'"]),
        (lambda: group_average_effects(NUISANCE, groups=["a"] * 9), CausalRecError, ["groups", "9"]),
        (lambda: group_average_effects(NUISANCE, groups=[None] + ["a"] * 599), CausalRecError, ["1 of 600"]),
        (lambda: group_average_effects(NUISANCE, TAU, clusters=np.zeros(N)), CausalRecError, ["groups"]),
        (lambda: group_average_effects(NUISANCE, TAU, confidence_level=95), CausalRecError, ["confidence_level"]),
        (lambda: group_average_effects(replace(NUISANCE, sample_weight=(USERS == 3) * 1.0), TAU, clusters=USERS),
         CausalRecError, ["one cluster"]),
        (lambda: best_linear_projection(NUISANCE, X.assign(z=2 * X["age"])), ColumnError, ["'z'", "Leave them out"]),
        (lambda: best_linear_projection(NUISANCE, X.assign(z=1)), ColumnError, ["'z'", "constant"]),
        (lambda: best_linear_projection(NUISANCE, X.assign(z=[np.nan] + [1.0] * 599)), ColumnError, ["missing in 1"]),
        (lambda: best_linear_projection(NUISANCE, X.assign(z=np.inf)), ColumnError, ["'z'", "infinite"]),
        (lambda: best_linear_projection(NUISANCE, X.assign(z=pd.Timestamp("2024"))), ColumnError, ["'z'", "datetime"]),
        (lambda: best_linear_projection(NUISANCE, X[:9]), CausalRecError, ["A", "9", "600"]),
        (lambda: best_linear_projection(NUISANCE, np.arange(N)), CausalRecError, ["two dimensions"]),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_texts_and_saving() -> None:
    groups, line, right = (
        group_average_effects(NUISANCE, TAU), best_linear_projection(NUISANCE, X), calibration_test(NUISANCE, TAU),
    )  # fmt: skip
    assert "1 − 5: " in str(groups)
    assert "falling from the first to the last" in str(groups)
    assert "all but the intercept zero: p = " in str(line)
    assert "differential prediction" in str(right)
    loaded = load_results(dump_results({"groups": groups, "line": line, "right": right}))
    frames_close(loaded["groups"], groups)
    frames_close(loaded["line"], line)
    assert str(loaded["right"]) == str(right)


def covered(low: Any, high: Any, truth: Any) -> Any:
    return (np.asarray(low) <= truth) & (truth <= np.asarray(high))


def binomial_bounds(runs: int, share: float = 0.95, chance: float = 1e-3) -> tuple[float, float]:
    return tuple(stats.binom.ppf([chance / 2, 1 - chance / 2], runs, share) / runs)


@pytest.mark.slow
def test_intervals_cover_under_confounding() -> None:
    """tau = 0.5 + x0 + z with z of 0/1; treated more often where x0 and the baseline are high.

    Groups by the sign of x0 have the effects 0.5 + 0.5 ± sqrt(2 / pi); the projection on (x0, z) is tau itself.
    """
    rng, runs = np.random.default_rng(12), 400
    hits = []
    for _ in range(runs):
        n = 500
        x, z = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
        t = rng.binomial(1, 1 / (1 + np.exp(-0.8 * x[:, 0])))
        tau = 0.5 + x[:, 0] + z
        y = 2 * x[:, 0] + x[:, 1] + tau * t + rng.normal(size=n) * (1 + 0.5 * np.abs(x[:, 0]))
        Z = np.column_stack([x, z])
        nuisance = fit_nuisances(Z, y, treatment=t, outcome_model=LinearRegression(),
                                 propensity_model=LogisticRegression(C=1e3))  # fmt: skip
        groups = group_average_effects(nuisance, groups=np.where(x[:, 0] > 0, "a", "b"))
        line = best_linear_projection(nuisance, np.column_stack([x[:, 0], z]))
        gap = np.sqrt(2 / np.pi)
        hits.append([
            *covered(groups.ci_low, groups.ci_high, [1 + gap, 1 - gap]),
            covered(groups.difference_ci_low, groups.difference_ci_high, 2 * gap),
            *covered(line.ci_low, line.ci_high, [0.5, 1.0, 1.0]),
        ])  # fmt: skip
    low, high = binomial_bounds(runs)
    share = np.mean(hits, axis=0)
    assert ((share >= low) & (share <= min(high, 0.99))).all(), share


@pytest.mark.slow
def test_intervals_by_user_cover_where_those_by_row_do_not() -> None:
    """Ten rows a user, who has a taste of his own for the treatment that he always or never gets."""
    rng, runs = np.random.default_rng(13), 300
    hits = []
    for _ in range(runs):
        users = np.repeat(np.arange(60), 10)
        x = rng.normal(size=60)[users]
        t = rng.binomial(1, 0.5, 60)[users]
        y = x + (1 + 0.5 * x) * t + rng.normal(size=60)[users] + rng.normal(size=600)
        X = np.column_stack([x, rng.normal(size=600)])
        nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, groups=users, outcome_model=LinearRegression())
        groups = group_average_effects(nuisance, groups=x > 0)
        line = best_linear_projection(nuisance, x[:, None])
        rows = best_linear_projection(replace(nuisance, groups=None), x[:, None])
        gap = 0.5 * np.sqrt(2 / np.pi)
        hits.append([
            *covered(groups.ci_low, groups.ci_high, [1 - gap, 1 + gap]), *covered(line.ci_low, line.ci_high, [1, 0.5]),
            covered(rows.ci_low[0], rows.ci_high[0], 1),
        ])  # fmt: skip
    low, _ = binomial_bounds(runs)
    share = np.mean(hits, axis=0)
    assert (share[:4] >= low).all(), share
    assert share[4] < 0.7, share


@pytest.mark.slow
def test_in_sequence_no_differences_are_found_where_there_are_none() -> None:
    """The effect is 1 for all: in sequence every test keeps its level; out of fold they err as much as is said."""
    rng, runs, names = np.random.default_rng(14), 400, ("out of fold", "in sequence")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(runs):
        X, t = rng.normal(size=(400, 3)), rng.integers(0, 2, 400)
        y = X[:, 0] + t + rng.normal(size=400)
        nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        learner = TLearner(LinearRegression())
        rows, effects = sequential_effects(learner, X, y, treatment=t, nuisance=nuisance)
        for name, part, uplift in (
            ("out of fold", nuisance, TLearner().fit_predict(X, y, treatment=t, nuisance=nuisance)),
            ("in sequence", nuisance.take(rows), effects),
        ):
            groups = group_average_effects(part, uplift, predictions=name)  # type: ignore[arg-type]
            covers = covered(groups.ci_low, groups.ci_high, 1.0)
            found[name].append([
                groups.equal_pvalue, groups.rise_pvalue, calibration_test(part, uplift).differential_pvalue,
                groups.difference_pvalue, *np.where(covers, 1.0, 0.0),
            ])  # fmt: skip
    high = binomial_bounds(runs, 0.05)[1]
    rejected = {name: (np.array(rows) < 0.05).mean(axis=0) for name, rows in found.items()}
    assert (rejected["in sequence"] <= high).all(), rejected
    assert rejected["out of fold"][2] <= high, rejected  # the calibration test
    assert high < rejected["out of fold"][3] <= binomial_bounds(runs, 0.16)[1], rejected
    assert rejected["out of fold"][[0, *range(4, 9)]].max() <= binomial_bounds(runs, 0.14)[1], rejected
