"""Cox's model gives R's coefficients, robust and clustered errors and tests of proportionality."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.survival import cox_effect, logrank_test
from causalrec.survival.sandwich import influences

pytest.importorskip("lifelines")
OTHERS = ["age", "race", "wexp", "mar", "paro", "prio"]


@pytest.fixture(scope="module")
def rossi(data_dir):
    return pd.read_csv(data_dir / "lifelines" / "rossi.csv")


@pytest.fixture(scope="module")
def two_arms():
    rng = np.random.default_rng(11)
    arm = np.repeat(["old", "new"], 60)
    life = rng.exponential(np.where(arm == "old", 10.0, 16.0))
    return pd.DataFrame({"time": np.minimum(life, 20), "event": life < 20, "arm": arm, "age": rng.normal(40, 9, 120)})


@pytest.mark.data
def test_rossi_equals_r(rossi):
    # Fox and Weisberg, Cox regression (appendix to An R Companion): coxph(Surv(week, arrest) ~ fin + ... + prio)
    result = cox_effect(rossi.week, rossi.arrest, treatment=rossi.fin, covariates=rossi[OTHERS], robust=False)
    table = result.to_frame().set_index("term")
    assert table.index.tolist() == ["1 against 0", *OTHERS]
    assert table["estimate"].round(5).tolist() == [-0.37942, -0.05744, 0.3139, -0.1498, -0.4337, -0.08487, 0.0915]
    assert table["std_error"].round(5).tolist() == [0.19138, 0.022, 0.30799, 0.21222, 0.38187, 0.19576, 0.02865]
    assert table["pvalue"].round(5).tolist() == [0.04742, 0.00903, 0.30812, 0.48029, 0.25606, 0.66461, 0.0014]
    effect = result["1"]
    assert [round(v, 4) for v in (effect.hazard_ratio, 1 / effect.hazard_ratio)] == [0.6843, 1.4614]
    assert round(result.log_likelihood, 3) == -658.748
    assert round(result.concordance, 2) == 0.64
    assert effect.n_events == 114
    assert "1 leaves 31.6% more slowly than 0" in str(effect)


@pytest.mark.data
def test_rossi_with_strata_equals_r(rossi):
    # R: coxph(Surv(week, arrest) ~ fin + age + strata(race, paro, mar, wexp) + prio); lifelines' test against R
    result = cox_effect(
        rossi.week, rossi.arrest, treatment=rossi.fin, covariates=rossi[["age", "prio"]],
        strata=rossi[["race", "paro", "mar", "wexp"]], proportional_hazards=False,
    )  # fmt: skip
    assert result.estimate.round(4).tolist() == [-0.3355, -0.0590, 0.1002]
    assert result.n_strata == len(rossi[["race", "paro", "mar", "wexp"]].drop_duplicates())
    assert result.proportional_method == "not asked for"
    assert np.isnan(result.proportional_pvalue).all()


@pytest.mark.data
def test_proportionality_equals_r(rossi):
    # Fox and Weisberg (2011), appendix: cox.zph(coxph(Surv(week, arrest) ~ fin + age + prio)), chisq and p
    result = cox_effect(rossi.week, rossi.arrest, treatment=rossi.fin, covariates=rossi[["age", "prio"]])
    assert result.proportional_statistic.round(5).tolist() == [0.00507, 6.54147, 0.77288]
    assert result.proportional_pvalue.round(4).tolist() == [0.9433, 0.0105, 0.3793]
    clustered = cox_effect(
        rossi.week, rossi.arrest, treatment=rossi.fin, covariates=rossi[["age", "prio"]], clusters=np.arange(432) // 2
    )
    np.testing.assert_allclose(clustered.proportional_statistic, result.proportional_statistic, rtol=1e-6)


def test_robust_errors_equal_r(two_arms):
    # R: coxph(Surv(T, E) ~ var1 + var2, robust = TRUE), from lifelines' tests against R: 7.680, -0.915; 2.097, 0.827
    time = np.array([7.335846, 5.269797, 11.684092, 12.678458, 6.601666])
    x = [[0.209325, 0.184677], [0.693919, 0.071893], [0.443804, 1.364646], [0.065636, 0.098375], [0.386294, 1.663092]]
    estimate, error = _by_hand(np.array(x), time, np.ones(5))
    assert estimate.round(3).tolist() == [7.680, -0.915]
    assert error.round(3).tolist() == [2.097, 0.827]
    result = cox_effect(
        two_arms.time, two_arms.event, treatment=two_arms.arm, control="old", covariates=two_arms[["age"]]
    )
    x = np.column_stack([two_arms.arm == "new", two_arms.age - 40]).astype(float)
    estimate, error = _by_hand(x, two_arms.time.to_numpy(), two_arms.event.to_numpy(float))
    np.testing.assert_allclose(result.estimate, estimate, rtol=1e-6)
    np.testing.assert_allclose(result.std_error, error, rtol=1e-6)


def test_clustered_errors_equal_r():
    # R: coxph(Surv(T, E) ~ var1 + var2 + cluster(id)), from lifelines' tests against R: 5.9752 and 4.0683
    time = [7.335846, 5.269797, 11.684092, 12.678458, 6.601666]
    covariates = pd.DataFrame({"var2": [0.184677, 0.071893, 1.364646, 0.098375, 1.663092]})
    result = cox_effect(
        time, [1] * 5, treatment=[1, 1, 2, 2, 2], control=1, covariates=covariates, clusters=[1, 1, 2, 3, 4],
        proportional_hazards=False,
    )  # fmt: skip
    assert result.std_error == pytest.approx([5.9752, 4.0683], rel=2e-3)
    assert result.n_clusters == 4
    assert "cluster-robust" in result.method


def _by_hand(x, time, event):
    """Newton's steps on the partial likelihood, events untied; and Lin and Wei's sandwich."""
    order = np.argsort(time)
    x, event, beta, n = x[order], event[order], np.zeros(2), len(time)
    for _ in range(60):
        risk = np.exp(x @ beta)
        means = np.array([np.average(x[i:], axis=0, weights=risk[i:]) for i in range(n)])
        parts = [(x[i:] - means[i]).T * risk[i:] @ (x[i:] - means[i]) / risk[i:].sum() for i in range(n)]
        info = np.sum([e * part for e, part in zip(event, parts, strict=True)], axis=0)
        beta = beta + np.clip(np.linalg.solve(info, event @ (x - means)), -1, 1)
    rate = event / np.array([risk[i:].sum() for i in range(n)])
    scores = np.array([
        event[i] * (x[i] - means[i]) - risk[i] * (rate[: i + 1] @ (x[i] - means[: i + 1])) for i in range(n)
    ])  # fmt: skip
    inner = scores @ np.linalg.inv(info)
    return beta, np.sqrt(np.diag(inner.T @ inner))


def test_an_entry_splits_a_life(two_arms):
    whole = cox_effect(two_arms.time, two_arms.event, treatment=two_arms.arm, control="old", robust=False)
    late = two_arms[two_arms.time > 4]
    first = two_arms.assign(stop=np.minimum(two_arms.time, 4), event=two_arms.event & (two_arms.time <= 4), entry=0.0)
    parts = pd.concat([first, late.assign(stop=late.time, entry=4.0)])
    split = cox_effect(
        parts.stop, parts.event, treatment=parts.arm, control="old", entry=parts.entry, robust=False
    )  # fmt: skip
    np.testing.assert_allclose(split.estimate, whole.estimate, rtol=1e-6)
    np.testing.assert_allclose(split.std_error, whole.std_error, rtol=1e-6)
    assert split.proportional_method.startswith("not tested")
    assert split.n_events == whole.n_events
    clustered = cox_effect(
        parts.stop, parts.event, treatment=parts.arm, control="old", entry=parts.entry, clusters=parts.index
    )
    robust = cox_effect(two_arms.time, two_arms.event, treatment=two_arms.arm, control="old")
    np.testing.assert_allclose(clustered.std_error, robust.std_error, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
@pytest.mark.filterwarnings("ignore::lifelines.exceptions.StatisticalWarning")
def test_influences_with_ties_are_the_derivatives_by_weights():
    # Of the estimates that lifelines finds with the weight of one row a little more and a little less.
    lifelines = pytest.importorskip("lifelines")
    rng = np.random.default_rng(8)
    n = 80
    frame = pd.DataFrame({
        "time": rng.integers(1, 8, n).astype(float), "event": rng.random(n) < 0.7, "x": rng.normal(size=n),
        "z": rng.integers(0, 3, n).astype(float), "s": rng.integers(0, 2, n), "w": rng.integers(1, 4, n).astype(float),
    })  # fmt: skip
    frame["from"] = np.where(frame["time"] > 4, 2.0, 0.0)

    def fit(weights):
        with np.errstate():
            return lifelines.CoxPHFitter().fit(
                frame.assign(w=weights), "time", "event", strata=["s"], weights_col="w", entry_col="from",
                fit_options={"precision": 1e-10},
            )  # fmt: skip

    model, x = fit(frame["w"]), frame[["x", "z"]]
    ours = influences(
        (x - x.mean()).to_numpy(), model.params_.to_numpy(), model.variance_matrix_.to_numpy(),
        durations=frame["time"].to_numpy(), observed=frame["event"].to_numpy(bool), entry=frame["from"].to_numpy(),
        weights=frame["w"].to_numpy(), strata=frame["s"].to_numpy(),
    )  # fmt: skip
    np.testing.assert_allclose(ours.sum(axis=0), 0, atol=1e-6)
    for row in (0, 1, 2, 3, 17, 44):
        change = np.where(np.arange(n) == row, 0.01, 0)
        moved = (fit(frame["w"] + change).params_ - fit(frame["w"] - change).params_).to_numpy() / 0.02
        np.testing.assert_allclose(ours[row], frame["w"][row] * moved, rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_robust_errors_without_ties_are_those_of_lifelines(two_arms):
    lifelines = pytest.importorskip("lifelines")
    frame = two_arms.assign(new=(two_arms.arm == "new").astype(float), s=two_arms.index % 2, c=two_arms.index // 3)
    kept = frame[["time", "event", "new", "age", "s", "c"]]
    ask = {"treatment": frame.arm, "control": "old", "covariates": frame[["age"]], "strata": frame.s}
    for clusters in (None, frame.c):
        with np.errstate():
            other = lifelines.CoxPHFitter().fit(
                kept if clusters is not None else kept.drop(columns="c"), "time", "event", strata=["s"],
                robust=clusters is None, cluster_col=None if clusters is None else "c",
            )  # fmt: skip
        ours = cox_effect(frame.time, frame.event, **ask, clusters=clusters)
        np.testing.assert_allclose(ours.std_error, other.standard_errors_[["new", "age"]], rtol=1e-6)


def test_near_the_log_rank_test_and_one_over_the_other(two_arms):
    cox = cox_effect(two_arms.time, two_arms.event, treatment=two_arms.arm, control="old")["new"]
    back = cox_effect(two_arms.time, two_arms.event, treatment=two_arms.arm, control="new")["old"]
    assert cox.hazard_ratio == pytest.approx(1 / back.hazard_ratio, rel=1e-8)
    assert cox.hazard_ratio_low == pytest.approx(1 / back.hazard_ratio_high, rel=1e-8)
    test = logrank_test(two_arms.time, two_arms.event, treatment=two_arms.arm, control="old")
    assert (cox.estimate / cox.std_error) ** 2 == pytest.approx(test.statistic, rel=0.1)  # Wald and score agree roughly


def test_counts_are_repeated_rows_and_levels_are_columns(two_arms):
    city = np.where(two_arms.index % 3 == 0, "Rome", "Bonn")
    counts = np.where(two_arms.index % 2 == 0, 2, 1)
    repeated = two_arms.assign(city=city).loc[two_arms.index.repeat(counts)]
    one = cox_effect(
        two_arms.time, two_arms.event, treatment=two_arms.arm, control="old", weights=counts, robust=False,
        covariates=pd.DataFrame({"city": city, "age": two_arms.age}),
    )  # fmt: skip
    two = cox_effect(
        repeated.time, repeated.event, treatment=repeated.arm, control="old", covariates=repeated[["city", "age"]],
        robust=False,
    )  # fmt: skip
    assert one.term.tolist() == ["new against old", "city = Rome", "age"]
    np.testing.assert_allclose(one.estimate, two.estimate, rtol=0.02)  # ties by Efron: repeated rows are tied
    assert math.isfinite(one.log_likelihood)


def test_numpy_reports_as_before(two_arms):
    before = np.geterr()
    cox_effect(two_arms.time, two_arms.event, treatment=two_arms.arm, control="old")
    assert np.geterr() == before


def test_named_errors(two_arms):
    ask = {"durations": two_arms.time, "event_observed": two_arms.event, "treatment": two_arms.arm, "control": "old"}
    with pytest.raises(ColumnError, match="covariates is a ndarray"):
        cox_effect(**ask, covariates=two_arms[["age"]].to_numpy())
    with pytest.raises(CausalRecError, match="does not converge with 'new against old', 'a', 'b'"):
        cox_effect(**ask, covariates=pd.DataFrame({"a": two_arms.age, "b": 2 * two_arms.age}))
    with pytest.raises(CausalRecError, match="does not converge"):
        cox_effect(**ask, covariates=pd.DataFrame({"a": np.ones(120)}))
    with pytest.raises(CausalRecError, match="clusters has 2 values but there are 120 rows"):
        cox_effect(**ask, clusters=[1, 2])
    with pytest.raises(CausalRecError, match="strata: 1 values are missing"):
        cox_effect(**ask, strata=["x"] * 119 + [None])
    with pytest.raises(CausalRecError, match="not counts need robust"):
        cox_effect(**ask, weights=np.full(120, 0.5), robust=False)
    with pytest.raises(KeyError, match="known treatments: new"):
        cox_effect(**ask)["newer"]
