"""Curves, log-rank tests and restricted means equal R's printed values, lifelines, closed forms and loops."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.survival import kaplan_meier, logrank_test, rmst_difference

# Acute myelogenous leukaemia (Miller 1981, Survival Analysis, p. 49): `aml` of R's survival package.
AML_TIME = [9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161, 5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45]
AML_EVENT = [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
AML_ARM = ["Maintained"] * 11 + ["Nonmaintained"] * 12
AML = {"treatment": AML_ARM, "control": "Nonmaintained"}


@pytest.fixture(scope="module")
def three_arms():
    rng = np.random.default_rng(5)
    n = 240
    arm = rng.choice(["a", "b", "c"], n)
    life = np.ceil(rng.exponential(np.select([arm == "a", arm == "b"], [20.0, 25.0], 32.0)))
    end = rng.integers(5, 60, n)
    stratum = rng.choice(["x", "y"], n)
    return pd.DataFrame({"time": np.minimum(life, end), "event": life <= end, "arm": arm, "stratum": stratum})


def test_aml_equals_r():
    # R: summary(survfit(Surv(time, status) ~ x, data = aml)), columns survival and std.err
    curves = kaplan_meier(AML_TIME, AML_EVENT, treatment=AML_ARM)
    maintained = curves["Maintained"].at([9, 13, 18, 23, 31, 34, 48])
    assert maintained["survival"].round(3).tolist() == [0.909, 0.818, 0.716, 0.614, 0.491, 0.368, 0.184]
    assert maintained["std_error"].round(4).tolist() == [0.0867, 0.1163, 0.1397, 0.1526, 0.1642, 0.1627, 0.1535]
    assert maintained["at_risk"].tolist() == [11, 10, 8, 7, 5, 4, 2]
    others = curves["Nonmaintained"].at([5, 8, 12, 23, 27, 30, 33, 43, 45])
    assert others["survival"].round(4).tolist() == [
        0.8333, 0.6667, 0.5833, 0.4861, 0.3889, 0.2917, 0.1944, 0.0972, 0.0,
    ]  # fmt: skip
    assert others["std_error"].round(4).tolist()[:-1] == [
        0.1076, 0.1361, 0.1423, 0.1481, 0.1470, 0.1387, 0.1219, 0.0919,
    ]  # fmt: skip
    assert [curves["Maintained"].median, curves["Nonmaintained"].median] == [31, 23]


def test_aml_restricted_means_equal_r():
    # R: print(survfit(Surv(time, status) ~ x, data = aml), print.rmean = TRUE): upper limit 161, rmean and se(rmean)
    result = rmst_difference(AML_TIME, AML_EVENT, **AML)
    assert result.horizon == 161
    assert result.mean.round(1).tolist() == [22.7, 52.6]
    assert result.std_error.round(2).tolist() == [4.18, 19.83]


def test_aml_log_rank_equals_r():
    # R: survdiff(Surv(time, status) ~ x, data = aml): chisq 3.4, p 0.0653; with rho = 1: 2.8, p 0.0955
    result = logrank_test(AML_TIME, AML_EVENT, **AML)
    assert [round(result.statistic, 1), round(result.pvalue, 4), result.df] == [3.4, 0.0653, 1]
    assert result.observed.tolist() == [11, 7]
    assert result.expected.round(2).tolist() == [7.31, 10.69]
    early = logrank_test(AML_TIME, AML_EVENT, **AML, weighting="fleming-harrington", rho=1)
    assert [round(early.statistic, 1), round(early.pvalue, 4)] == [2.8, 0.0955]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_curves_equal_lifelines(three_arms, level):
    lifelines = pytest.importorskip("lifelines")
    curves = kaplan_meier(three_arms.time, three_arms.event, treatment=three_arms.arm, confidence_level=level)
    for curve in curves.curves:
        rows = three_arms[three_arms.arm == curve.arm]
        with np.errstate():
            other = lifelines.KaplanMeierFitter(alpha=1 - level).fit(rows.time, rows.event)
        at = other.survival_function_.index
        ours = curve.at(at)
        theirs = pd.concat([other.survival_function_, other.confidence_interval_], axis=1).to_numpy()
        inside = (theirs[:, 0] > 0) & (theirs[:, 0] < 1)
        assert inside.sum() > 20
        np.testing.assert_allclose(ours["survival"], theirs[:, 0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.loc[inside, ["ci_low", "ci_high"]], theirs[inside, 1:], rtol=1e-10)
        assert ours.loc[~inside, "ci_low"].isna().all()
        assert ours["at_risk"].tolist() == other.event_table["at_risk"].tolist()
        assert curve.median == other.median_survival_time_
        bounds = lifelines.utils.median_survival_times(other.confidence_interval_).to_numpy()[0]
        assert [curve.median_low, curve.median_high] == bounds.tolist()


@pytest.mark.data
def test_waltons_equals_the_known_medians(data_dir):
    # lifelines' documentation: median 56 of all; by group 58 and 26 (README of the data)
    frame = pd.read_csv(data_dir / "lifelines" / "waltons_dataset.csv")
    assert kaplan_meier(frame["T"], frame["E"])["all"].median == 56
    curves = kaplan_meier(frame["T"], frame["E"], treatment=frame["group"], control="control")
    assert [c.arm for c in curves.curves] == ["control", "miR-137"]
    assert [c.median for c in curves.curves] == [58, 26]
    # lifelines' documentation of logrank_test on these: 122.25, p < 0.005 (-log2 p 91.99)
    test = logrank_test(frame["T"], frame["E"], treatment=frame["group"], control="control")
    assert round(test.statistic, 2) == 122.25
    assert -math.log2(test.pvalue) == pytest.approx(91.99, abs=0.005)


def test_late_entries_by_hand_and_by_lifelines(three_arms):
    # At 3 the unit that enters at 3 is not yet at risk: S(3) = 1 - 1/2, S(5) = S(3) (1 - 1/2).
    curve = kaplan_meier([3, 5, 8], [1, 1, 0], entry=[0, 0, 3])["all"]
    assert curve.at([3, 5])["survival"].tolist() == [0.5, 0.25]
    assert curve.at([2, 3, 4])["at_risk"].tolist() == [2, 2, 2]
    lifelines = pytest.importorskip("lifelines")
    entry = np.where(three_arms.time > 4, 3.5, 0.0)  # not at the time of an event, where lifelines differs
    ours = kaplan_meier(three_arms.time, three_arms.event, entry=entry)["all"]
    with np.errstate():
        other = lifelines.KaplanMeierFitter().fit(three_arms.time, three_arms.event, entry=entry)
    theirs = other.survival_function_.iloc[:, 0]
    np.testing.assert_allclose(ours.at(theirs.index)["survival"], theirs, rtol=1e-12)


def test_counts_are_repeated_rows(three_arms):
    grouped = three_arms.groupby(["time", "event", "arm"]).size().reset_index(name="count")
    for call in (kaplan_meier, logrank_test, rmst_difference):
        one = call(three_arms.time, three_arms.event, treatment=three_arms.arm, control="a")
        two = call(grouped.time, grouped.event, treatment=grouped.arm, control="a", weights=grouped["count"])
        pd.testing.assert_frame_equal(one.to_frame(), two.to_frame())
        assert one.n_obs == two.n_obs == 240


def test_times_beyond_follow_up_are_not_known():
    result = kaplan_meier([2, 4, 9], [1, 1, 0], times=[0, 3, 9, 10])
    assert result.to_frame()["survival"].round(6).tolist()[:3] == [1, 0.666667, 0.333333]
    assert math.isnan(result.to_frame()["survival"][3])
    assert kaplan_meier([2, 4], [1, 1]).at([9])["survival"].tolist() == [0]
    assert math.isnan(kaplan_meier([2, 4, 9], [1, 0, 0])["all"].median)
    assert "more than half are still there at 9 (66.7%)" in str(kaplan_meier([2, 4, 9], [1, 0, 0]))


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
@pytest.mark.parametrize("weighting", ["logrank", "wilcoxon", "tarone-ware", "peto", "fleming-harrington"])
@pytest.mark.parametrize("arms", [("a", "b"), ("a", "b", "c")])
def test_log_rank_equals_lifelines(three_arms, weighting, arms):
    statistics = pytest.importorskip("lifelines.statistics")
    rows = three_arms[three_arms.arm.isin(arms)]
    powers = {"rho": 0.5, "gamma": 1.5} if weighting == "fleming-harrington" else {}
    ours = logrank_test(rows.time, rows.event, treatment=rows.arm, control="a", weighting=weighting, **powers)
    with np.errstate():
        other = statistics.multivariate_logrank_test(
            rows.time, rows.arm, rows.event, weightings=None if weighting == "logrank" else weighting,
            **({"p": 0.5, "q": 1.5} if powers else {}),
        )  # fmt: skip
    assert ours.statistic == pytest.approx(other.test_statistic, rel=1e-10)
    assert ours.pvalue == pytest.approx(other.p_value, rel=1e-9)
    assert ours.df == len(arms) - 1


def test_stratified_log_rank_equals_a_loop(three_arms):
    rows = three_arms[three_arms.arm != "c"]
    score = variance = 0.0
    for _, part in rows.groupby("stratum"):
        for t in sorted(part.time[part.event].unique()):
            n, n1 = (part.time >= t).sum(), ((part.time >= t) & (part.arm == "b")).sum()
            gone = part.event & (part.time == t)
            d, d1 = gone.sum(), (gone & (part.arm == "b")).sum()
            score += d1 - d * n1 / n
            variance += d * n1 * (n - n1) * (n - d) / (n**2 * (n - 1)) if n > 1 else 0
    ours = logrank_test(rows.time, rows.event, treatment=rows.arm, control="a", strata=rows.stratum)
    assert ours.statistic == pytest.approx(score**2 / variance, rel=1e-10)
    assert ours.n_strata == 2
    assert "2 strata" in ours.method


def test_restricted_mean_without_censoring_is_the_mean():
    rng = np.random.default_rng(2)
    life, arm = rng.exponential(10, 300), np.repeat([0, 1], 150)
    result = rmst_difference(life, np.ones(300), treatment=arm, horizon=12)
    cut = [np.minimum(life[arm == a], 12) for a in (0, 1)]
    np.testing.assert_allclose(result.mean, [c.mean() for c in cut], rtol=1e-12)
    np.testing.assert_allclose(result.std_error, [c.std() / math.sqrt(150) for c in cut], rtol=1e-10)
    effect = result["1"]
    assert effect.estimate == pytest.approx(cut[1].mean() - cut[0].mean(), rel=1e-12)
    assert effect.std_error == pytest.approx(math.hypot(*(c.std() for c in cut)) / math.sqrt(150), rel=1e-10)
    assert effect.relative_effect == pytest.approx(cut[1].mean() / cut[0].mean() - 1, rel=1e-12)
    assert (effect.relative_ci_low < 0 < effect.relative_ci_high) == (effect.pvalue > 0.05)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
def test_restricted_mean_equals_lifelines(three_arms):
    lifelines = pytest.importorskip("lifelines")
    result = rmst_difference(three_arms.time, three_arms.event, treatment=three_arms.arm, control="a", horizon=40)
    for arm, mean in zip(result.arm, result.mean, strict=True):
        rows = three_arms[three_arms.arm == arm]
        with np.errstate():
            other = lifelines.KaplanMeierFitter().fit(rows.time, rows.event)
            theirs = lifelines.utils.restricted_mean_survival_time(other, t=40)
        assert mean == pytest.approx(theirs, rel=1e-3)  # by quadrature of a step function


def test_horizon_beyond_follow_up_is_refused():
    with pytest.raises(CausalRecError, match="arm 'new' was followed until 6 only"):
        rmst_difference([2, 9, 4, 6], [1, 0, 1, 0], treatment=["old", "old", "new", "new"], control="old", horizon=8)
    everybody = rmst_difference([2, 9, 4, 6], [1, 0, 1, 1], treatment=[0, 0, 1, 1], horizon=8)
    assert everybody.mean[1] == 5
    with pytest.raises(CausalRecError, match="horizon is -1"):
        rmst_difference([2, 9, 4, 6], [1, 0, 1, 0], treatment=[0, 0, 1, 1], horizon=-1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 1000))
def test_swapped_arms_other_units_and_other_orders(seed, scale):
    rng = np.random.default_rng(seed)
    time, event, arm = rng.integers(1, 12, 40), rng.random(40) < 0.7, np.repeat(["a", "b"], 20)
    event[[0, 20]] = True
    order = rng.permutation(40)
    first = rmst_difference(time, event, treatment=arm, control="a", horizon=min(time[:20].max(), time[20:].max()))["b"]
    other = rmst_difference(
        (time * scale)[order], event[order], treatment=arm[order], control="b",
        horizon=min((time[:20] * scale).max(), (time[20:] * scale).max()),
    )["a"]  # fmt: skip
    assert other.estimate == pytest.approx(-scale * first.estimate, rel=1e-9, abs=1e-9 * scale)
    assert other.std_error == pytest.approx(scale * first.std_error, rel=1e-9, nan_ok=True)
    test = logrank_test(time, event, treatment=arm, control="a")
    same = logrank_test((time * scale)[order], event[order], treatment=arm[order], control="b")
    assert same.statistic == pytest.approx(test.statistic, rel=1e-9, abs=1e-12)


GOOD = {"durations": [1, 2, 3, 4], "event_observed": [1, 0, 1, 0], "treatment": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"durations": [1, -2, 3, 4]}, OutcomeError, "1 of 4 are negative"),
        ({"durations": [1, np.nan, 3, 4]}, OutcomeError, "durations: 1 of 4 values are missing"),
        ({"event_observed": [1, 0, 2, 0]}, OutcomeError, r"event_observed holds 2.0; expected 0/1"),
        ({"event_observed": [0, 0, 0, 0]}, CausalRecError, "no events"),
        ({"event_observed": [1, 0]}, CausalRecError, "event_observed has 2 values but there are 4 rows"),
        ({"treatment": [1, 1, 1, 1]}, TreatmentError, "an effect needs two arms"),
        ({"treatment": ["a", "a", "b", "b"]}, TreatmentError, "control="),
        ({"treatment": [0, 0, 1, np.nan]}, TreatmentError, "1 of 4 values are missing"),
        ({"treatment": None}, CausalRecError, "treatment is None"),
        ({"entry": [0, 0, 3, 0]}, CausalRecError, r"row 2: entry 3, duration 3"),
        ({"weights": [1, 1, 1.5, 1]}, CausalRecError, "are not counts"),
    ],
)
def test_named_errors(change, error, words):
    with pytest.raises(error, match=words):
        logrank_test(**GOOD | change)


def test_errors_of_log_rank():
    with pytest.raises(CausalRecError, match="Did you mean 'wilcoxon'"):
        logrank_test(**GOOD, weighting="wilcoxson")
    with pytest.raises(CausalRecError, match="rho and gamma are of"):
        logrank_test(**GOOD, rho=1)
    with pytest.raises(CausalRecError, match="strata: 1 of 4 values are missing"):
        logrank_test(**GOOD, strata=["x", None, "x", "x"])
    with pytest.raises(CausalRecError, match="at risk together"):
        logrank_test([1, 2, 3, 4], [1, 1, 1, 1], treatment=[0, 0, 1, 1], strata=["x", "x", "y", "y"])
    assert kaplan_meier([1, 2], [1, 1], treatment=["a", "a"])["a"].n_obs == 2
    with pytest.raises(KeyError, match="known arms: a"):
        kaplan_meier([1, 2], [1, 1], treatment=["a", "a"])["b"]
