"""Balance and overlap against published tables, repeated units and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.exceptions import CausalRecError, ColumnError, TreatmentError
from causalrec.observational import balance_table, design_matrix, fit_propensity, overlap, weight_spread

ESTIMANDS = ("ate", "att", "atc")
MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]


@pytest.fixture
def lalonde(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")


def confounded(n: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"age": rng.normal(40, 10, n), "plan": rng.choice(["a", "b", "c"], n), "new": rng.random(n) < 0.4}
    )
    return frame, (rng.random(n) < 1 / (1 + np.exp(-(frame["age"] - 40) / 10))).astype(int)


# --- published ------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_balance_before_matching_is_that_of_matchit(lalonde: pd.DataFrame) -> None:
    """summary(matchit(treat ~ ..., method = NULL)) of MatchIt, printed in its vignette."""
    result = balance_table(lalonde[MATCHIT], treatment=lalonde["treat"], estimand="att")
    table = result.to_frame().set_index("covariate")
    for covariate, smd, ratio, ks in (("age", -0.3094, 0.4400, 0.1577), ("re74", -0.7211, 0.5181, 0.4470)):
        found = table.loc[covariate, ["smd_before", "variance_ratio_before", "ks_before"]].to_numpy(float)
        np.testing.assert_allclose(found, [smd, ratio, ks], rtol=0, atol=5e-5)
    assert table.loc["race_black", "smd_before"] == pytest.approx(1.7615, abs=5e-5)
    # The largest is that of race_white, as MatchIt's vignette prints it: -1.8819.
    assert result.max_abs_smd_before == pytest.approx(1.8819, abs=5e-5)
    assert (result.worst, result.n_beyond, result.adjusted) == ("race_white", 8, False)
    pd.testing.assert_series_equal(table["ks_before"], table["ks_after"], check_names=False)


@pytest.mark.data
def test_balance_after_greedy_matching_is_that_of_matchit(lalonde: pd.DataFrame) -> None:
    """1:1 without replacement, descending logistic score: age .0718, educ -.1290, re74 -.0505 (MatchIt's vignette)."""
    t = lalonde["treat"].to_numpy()
    score = fit_propensity(design_matrix(lalonde[MATCHIT])[0], treatment=t).score
    free, weights = list(np.flatnonzero(t == 0)), t.astype(float)
    for i in sorted(np.flatnonzero(t == 1), key=lambda k: -score[k]):
        weights[free.pop(int(np.argmin(np.abs(score[free] - score[i]))))] = 1.0
    result = balance_table(lalonde[MATCHIT], treatment=t, weights=weights, estimand="att")
    after = result.to_frame().set_index("covariate")["smd_after"]
    np.testing.assert_allclose(after[["age", "educ", "re74"]], [0.0718, -0.1290, -0.0505], rtol=0, atol=5e-5)
    assert (result.ess_treated, result.ess_control) == (185, 185)
    assert not result.balanced


# --- definitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_weighted_balance_equals_repeated_units(estimand: str) -> None:
    """An integer weight is the mean over copies; the variance divisor is that of reliability weights."""
    rng = np.random.default_rng(5)
    X, t = np.column_stack([rng.normal(size=40), rng.integers(0, 2, 40)]), np.arange(40) % 2
    w = rng.integers(1, 4, 40).astype(float)
    result = balance_table(X, treatment=t, weights=w, estimand=estimand, names=["a", "b"], method="m")
    table = result.to_frame()
    arms = [X[t == a] for a in (0, 1)]
    var = [np.array([a[:, 0].var(ddof=1), a[:, 1].mean() * (1 - a[:, 1].mean())]) for a in arms]
    scale = np.sqrt({"ate": (var[0] + var[1]) / 2, "att": var[1], "atc": var[0]}[estimand])
    copies = [np.repeat(X[t == a], w[t == a].astype(int), axis=0) for a in (0, 1)]
    np.testing.assert_allclose(table["smd_after"], (copies[1].mean(axis=0) - copies[0].mean(axis=0)) / scale)
    np.testing.assert_allclose(table["mean_treated_after"], copies[1].mean(axis=0))
    reliability = [
        (copies[a][:, 0].var() * w[t == a].sum()) / (w[t == a].sum() - (w[t == a] ** 2).sum() / w[t == a].sum())
        for a in (0, 1)
    ]
    assert table["variance_ratio_after"][0] == pytest.approx(reliability[1] / reliability[0])
    assert np.isnan(table["variance_ratio_after"][1])
    assert table["ks_after"][0] == pytest.approx(
        stats.ks_2samp(copies[1][:, 0], copies[0][:, 0], method="asymp").statistic
    )
    assert table["ks_after"][1] == pytest.approx(abs(copies[1][:, 1].mean() - copies[0][:, 1].mean()))
    assert result.ess_control == pytest.approx(w[t == 0].sum() ** 2 / (w[t == 0] ** 2).sum())


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=3, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_distance_of_distributions_is_scipys_with_ties(rows: list[tuple[int, bool]]) -> None:
    x = np.array([float(v) for v, _ in rows])
    t = np.array([1, 0, *(int(b) for _, b in rows[2:])])
    x[0] = 7.0  # not a 0/1 covariate
    found = balance_table(x[:, None], treatment=t).ks_before[0]
    assert found == pytest.approx(stats.ks_2samp(x[t == 1], x[t == 0], method="asymp").statistic, abs=1e-12)


def test_the_pooled_denominator_is_the_root_of_the_mean_variance_not_of_the_sum() -> None:
    """Causallib divided by the root of the sum (its issue 78), which makes every difference smaller by √2."""
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=400), np.arange(400) % 2
    x = (x - np.where(t == 1, x[t == 1].mean(), x[t == 0].mean())) / np.where(
        t == 1, x[t == 1].std(ddof=1), x[t == 0].std(ddof=1)
    )
    x += 0.106 * t  # unit variances, so that the difference is the standardised one
    assert balance_table(x[:, None], treatment=t).smd_before[0] == pytest.approx(0.106)
    assert balance_table(x[:, None], treatment=t).smd_before[0] != pytest.approx(0.106 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("denominator, arm", [("treated", 1), ("control", 0)])
def test_the_denominator_can_be_chosen(denominator: str, arm: int) -> None:
    frame, t = confounded()
    x = frame["age"].to_numpy()
    result = balance_table(frame, treatment=t, estimand="ate", denominator=denominator)
    gap = x[t == 1].mean() - x[t == 0].mean()
    assert result.smd_before[0] == pytest.approx(gap / x[t == arm].std(ddof=1))
    assert result.denominator == f"standard deviation of the {'treated' if arm else 'controls'}"


def test_a_covariate_that_one_arm_lacks_is_not_called_balanced() -> None:
    """The treated do not vary, so that their standard deviation cannot be the unit; the difference must still show."""
    X, t = (
        np.array([[1.0, 7.1], [1.0, 7.1], [1.0, 7.1], [0.0, 7.1], [0.0, 7.1], [1.0, 7.1]]),
        np.array([1, 1, 1, 0, 0, 0]),
    )
    result = balance_table(X, names=["female", "same"], treatment=t, estimand="att")
    p = 4 / 6
    assert result.smd_before[0] == pytest.approx((2 / 3) / np.sqrt(p * (1 - p)))
    assert abs(result.smd_before[1]) < 1e-12
    assert not result.balanced
    assert result.worst == "female"


def test_sample_weights_are_the_state_before() -> None:
    frame, t = confounded()
    w = np.random.default_rng(3).integers(1, 4, len(t))
    copies = np.repeat(np.arange(len(t)), w)
    result = balance_table(frame, treatment=t, sample_weight=w, weights=w)
    whole = balance_table(frame.iloc[copies], treatment=t[copies])
    np.testing.assert_allclose(result.mean_treated_before, whole.mean_treated_before)
    np.testing.assert_allclose(result.ks_before, whole.ks_before, atol=1e-12)
    np.testing.assert_array_equal(result.smd_before, result.smd_after)


def test_weights_of_a_regression_balance_means_exactly_and_may_be_negative() -> None:
    """Residuals of the treatment are the weights of least squares: Chattopadhyay and Zubizarreta 2023, Biometrika."""
    frame, t = confounded()
    frame["age"] = np.exp(frame["age"] / 8)
    Z = np.column_stack([np.ones(300), frame["age"], frame["new"], frame["plan"] == "a", frame["plan"] == "b"])
    residual = t - Z @ np.linalg.lstsq(Z.astype(float), t, rcond=None)[0]
    weights = np.where(t == 1, residual, -residual)
    assert (weights < 0).any()
    result = balance_table(frame, treatment=t, weights=weights)
    np.testing.assert_allclose(result.smd_after, 0, atol=1e-9)
    assert result.negative_share == pytest.approx(-weights[weights < 0].sum() / np.abs(weights).sum())
    assert np.isnan(result.ks_after).all()
    assert np.isnan(result.max_ks_after)
    assert "is negative" in str(result)
    with pytest.raises(CausalRecError, match="regression"):
        weight_spread(weights, treatment=t)


# --- invariance -----------------------------------------------------------------------------------------------------


def test_order_of_rows_units_and_labels_change_nothing_and_the_frame_stays() -> None:
    frame, t = confounded()
    copy, w = frame.copy(deep=True), np.random.default_rng(2).random(len(t))
    order = np.random.default_rng(4).permutation(len(t))
    plain = balance_table(frame, treatment=t, weights=w)
    moved = balance_table(frame.iloc[order], treatment=t[order], weights=w[order])
    scaled = balance_table(frame.assign(age=1e6 - 3e-4 * frame["age"]), treatment=t, weights=w)
    labels = balance_table(frame, treatment=np.where(t == 1, "mail", "none"), control="none", weights=w)
    sign = np.array([-1, *[1] * 4])
    for other, flip in ((moved, 1), (scaled, sign), (labels, 1)):
        for what in ("smd_before", "smd_after"):
            np.testing.assert_allclose(getattr(other, what), flip * getattr(plain, what), rtol=1e-6)
        np.testing.assert_allclose(other.ks_after, plain.ks_after, rtol=1e-9)
        np.testing.assert_allclose(other.variance_ratio_after, plain.variance_ratio_after, rtol=1e-6)
    assert plain.covariate.tolist() == ["age", "new", "plan_a", "plan_b", "plan_c"]
    pd.testing.assert_frame_equal(frame, copy)


def test_text_puts_the_worst_first() -> None:
    frame, t = confounded()
    weights = np.where(frame["age"] > 40, 0.5, 1.0)
    text = str(balance_table(frame, treatment=t, weights=weights, method="halved")).splitlines()
    assert text[0].startswith("Balance of 300 units (ate, halved); effective units: treated ")
    assert text[2].split()[:3] == ["covariate", "treated", "control"]
    sizes = [abs(float(line.split()[4])) for line in text[3:]]
    assert sizes == sorted(sizes, reverse=True)
    many = balance_table(np.random.default_rng(0).normal(size=(50, 20)), treatment=np.arange(50) % 2)
    assert str(many).splitlines()[-1] == "  and 5 more"


def test_without_distances_all_else_is_the_same() -> None:
    frame, t = confounded()
    w = np.random.default_rng(2).random(len(t))
    plain, fast = (balance_table(frame, treatment=t, weights=w, distances=d).to_frame() for d in (True, False))
    pd.testing.assert_frame_equal(plain.drop(columns=["ks_before", "ks_after"]),
                                  fast.drop(columns=["ks_before", "ks_after"]))  # fmt: skip
    assert fast["ks_after"].isna().tolist() == [True, False, False, False, False]  # shares need no sorting


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, kind, words",
    [
        ({"weights": np.zeros(300)}, CausalRecError, ["control units", "add up to 0", "caliper"]),
        ({"weights": -np.ones(300)}, CausalRecError, ["control units", "add up to -"]),
        ({"weights": np.ones(3)}, CausalRecError, ["3 values", "300 rows"]),
        ({"denominator": "treatd"}, CausalRecError, ["'treatd'", "Did you mean 'treated'"]),
        ({"estimand": "late"}, CausalRecError, ["'late'", "'att'"]),
        ({"treatment": np.ones(300)}, TreatmentError, ["two arms"]),
        ({"treatment": np.arange(300) % 3}, TreatmentError, ["control"]),
        ({"names": ["a"]}, CausalRecError, ["names", "1 values"]),
    ],
)
def test_bad_input_is_named(change: dict[str, object], kind: type[Exception], words: list[str]) -> None:
    frame, t = confounded()
    with pytest.raises(kind) as caught:
        balance_table(frame, **{"treatment": t, **change})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_values_are_named() -> None:
    frame, t = confounded()
    with pytest.raises(ColumnError, match="'age'"):
        balance_table(frame.assign(age=frame["age"].where(frame["age"] < 50)), treatment=t)


# --- weights and overlap --------------------------------------------------------------------------------------------


def test_the_spread_of_weights() -> None:
    rng = np.random.default_rng(7)
    w, t = rng.lognormal(size=1000), np.arange(1000) % 2
    w[:100] = 0
    result = weight_spread(w, treatment=t, method="ipw")
    arm = w[t == 1]
    assert result.ess_treated == pytest.approx(arm.sum() ** 2 / (arm**2).sum())
    assert result.max_treated == pytest.approx(arm.max() / arm.mean())
    assert result.top_share_treated == pytest.approx(np.sort(arm)[-5:].sum() / arm.sum())
    assert (result.n_zero_treated, result.n_zero_control) == (50, 50)
    assert result.treated.sum() == pytest.approx(0.9)
    assert result.edges[0] > 0
    equal = weight_spread(np.full(10, 3.0), treatment=np.arange(10) % 2)
    assert (equal.max_control, equal.treated.sum()) == (1.0, pytest.approx(1.0))


def test_overlap_counts_those_without_company() -> None:
    rng = np.random.default_rng(6)
    score, t = rng.random(500), rng.integers(0, 2, 500)
    score[t == 1] = 0.2 + 0.8 * score[t == 1]
    result = overlap(score, t)
    inside = (score >= max(score[t == 0].min(), score[t == 1].min())) & (
        score <= min(score[t == 0].max(), score[t == 1].max())
    )
    assert result.share_outside_common_support == pytest.approx(1 - inside.mean())
    assert result.treated.sum() == pytest.approx(1)
    assert result.control.sum() == pytest.approx(1)
    assert (result.treated[:8] == 0).all()
    assert (result.min_propensity, result.max_propensity) == (score.min(), score.max())


@pytest.mark.parametrize("threshold", [-0.1, float("nan")])
def test_a_threshold_is_a_distance(threshold) -> None:
    with pytest.raises(CausalRecError, match="expected a standardised difference"):
        balance_table(np.arange(4.0)[:, None], treatment=[0, 1, 0, 1], threshold=threshold)


def test_columns_may_have_numbers_for_names() -> None:
    frame = pd.DataFrame({0: [1.0, 2.0, 3.0], 1: ["x", "y", "x"]})
    X, names = design_matrix(frame)
    assert [str(name) for name in names] == ["0", "1_y"]
    np.testing.assert_array_equal(X, [[1, 0], [2, 1], [3, 0]])
