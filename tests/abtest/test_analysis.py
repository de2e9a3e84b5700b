"""Experiments and aggregates that do not go together, and values that a metric cannot be of."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.abtest import Experiment, Mean, Proportion, Quantile, Ratio, Retention, SampleRatio
from causalrec.exceptions import (
    BalanceWarning,
    CausalRecError,
    EmptyTableError,
    EngineError,
    OutcomeError,
    TreatmentError,
)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 400
    user = rng.integers(0, 100, n)
    return pd.DataFrame({
        "arm": np.where(user % 2, "A", "B"), "user": user, "home": user // 2 % 3, "y": rng.normal(5, 1, n),
        "q": rng.poisson(5, n) + 1, "x": rng.normal(size=n), "device": rng.choice(["phone", "web"], n),
        "steps": rng.integers(0, 5, n),
    })  # fmt: skip


def experiment(metric, **options):
    return Experiment({"m": metric}, variant="arm", control="A", **options)


@pytest.mark.parametrize(
    ("asked", "collected", "message"),
    [
        (experiment(Ratio("y", "q")), experiment(Mean("y")), "columns 'value'; expected 'value', 'den'"),
        (experiment(Mean("y", covariates="x")), experiment(Mean("y")), "columns 'value'; expected 'value', 'x'"),
        (experiment(Mean("y")), experiment(Mean("y", covariates="x")), "columns 'value', 'x'; expected 'value'"),
        (experiment(Quantile("y")), experiment(Mean("y")), "no quantile 'm' of arm"),
        (experiment(Mean("y"), cluster="user"), experiment(Mean("y")), "are of rows, but cluster is 'user'"),
        (experiment(Mean("y")), experiment(Mean("y"), cluster="user"), "are of clusters, but cluster is None"),
        (experiment(Mean("y"), segments="device"), experiment(Mean("y")), "no cells for 'device'"),
        (experiment(Mean("y"), strata="home"), experiment(Mean("y")), "do not go with strata=['home']"),
        (experiment(Mean("y")), experiment(Mean("y"), strata="home"), "do not go with strata=[]"),
        (
            Experiment({"other": Mean("y")}, variant="arm", control="A"), experiment(Mean("y")),
            "other: the aggregates of arm",
        ),
    ],
)  # fmt: skip
def test_aggregates_of_another_experiment_are_refused(frame, asked, collected, message):
    with pytest.raises(CausalRecError, match=re.escape(message)):
        asked.analyze(collected.collect(frame))


@pytest.mark.parametrize("options", [{}, {"cluster": "user"}, {"strata": "home"}])
def test_a_proportion_of_other_values_is_refused(frame, options):
    with pytest.raises(OutcomeError, match="values other than 0 and 1"):
        experiment(Proportion("steps"), **options).analyze(frame)


def test_no_size_is_planned_for_a_quantile_that_many_share(frame):
    with pytest.raises(OutcomeError, match="share the value at the quantile"):
        experiment(Quantile("steps")).solve_power(frame, relative_effect=0.1, power=0.8)


def test_a_design_without_control_is_refused(frame):
    designed = Experiment({"m": Mean("y"), "split": SampleRatio({"B": 1, "C": 1})}, variant="arm", control="A")
    with pytest.raises(TreatmentError, match="control 'A' has no share among 'B', 'C'"):
        designed.solve_power(frame, relative_effect=0.1, power=0.8)


class TestPrePeriod:
    @pytest.fixture(scope="class")
    @staticmethod
    def shifted(frame):
        """x differs between arms among those on the web only."""
        moved = (frame["arm"] == "B") & (frame["device"] == "web")
        return frame.assign(x=frame["x"] + 2.0 * moved)

    @staticmethod
    def pvalue(rows):
        return stats.ttest_ind(rows.x[rows.arm == "B"], rows.x[rows.arm == "A"], equal_var=False).pvalue

    def test_each_metric_has_its_own_rows_checked(self, shifted):
        metrics = {
            "phone": Mean("y", covariates="x", where="device = 'phone'"), "all": Mean("y", covariates="x"),
            "ratio": Ratio("y", "q", covariates="x"),
        }  # fmt: skip
        with pytest.warns(BalanceWarning, match="x differs between A and B before the experiment in the rows of all"):
            found = Experiment(metrics, variant="arm", control="A").analyze(shifted).pre_period
        assert [e.segment for e in found] == ["rows of phone", "rows of all"]
        assert found[0].pvalue == pytest.approx(self.pvalue(shifted[shifted.device == "phone"]), rel=1e-9)
        assert found[1].pvalue == pytest.approx(self.pvalue(shifted), rel=1e-9)

    def test_metrics_with_the_same_rows_share_a_check(self, frame):
        metrics = {"y": Mean("y", covariates="x"), "drop": Mean("q", covariates="x", missing="drop")}
        (balance,) = Experiment(metrics, variant="arm", control="A").analyze(frame).pre_period
        assert balance.segment == ""
        assert balance.pvalue == pytest.approx(self.pvalue(frame), rel=1e-9)


class TestTrend:
    def test_effects_stand_where_there_is_no_slope(self, frame):
        day_one = frame.assign(day=0)
        result = experiment(Mean("y"), day="day").analyze(day_one)
        assert result["m"].pvalue == experiment(Mean("y")).analyze(frame)["m"].pvalue
        (trend,) = result.trends
        assert np.isnan([trend.estimate, trend.std_error, trend.ci_low, trend.pvalue]).all()
        assert "too few days" in trend.method
        assert trend.day.tolist() == [0]
        assert trend.effect[0] == pytest.approx(result["m"].estimate, rel=1e-12)
        assert any("has no slope" in note for note in result.notes)
        assert "m" in str(result)

    def test_a_proportion_without_success_has_no_slope(self, frame):
        never = frame.assign(day=np.arange(len(frame)) % 3, never=0)
        result = experiment(Proportion("never", method="newcombe"), day="day").analyze(never)
        assert result["m"].ci_low < 0 < result["m"].ci_high
        assert np.isnan(result.trends[0].pvalue)


class TestTrigger:
    @pytest.mark.parametrize(("arms", "named"), [("A", "A"), ("B", "B"), ("AB", "[AB]")])
    def test_an_arm_that_never_triggered_is_named(self, frame, arms, named):
        table = frame.assign(saw=~frame["arm"].isin(list(arms)))
        with pytest.raises(TreatmentError, match=f"no unit of arm '{named}' triggered"):
            experiment(Mean("y"), trigger="saw").analyze(table)


def test_dimensions_whose_names_begin_alike_are_kept_apart(frame):
    renamed = frame.rename(columns={"device": "s", "home": "s = a"})
    both = experiment(Mean("y"), segments=["s", "s = a"]).analyze(renamed)
    alone = experiment(Mean("y"), segments="s").analyze(renamed)
    assert [(i.dimension, i.n_groups) for i in both.interactions] == [("s", 2), ("s = a", 3)]
    assert both.interactions[0].pvalue == pytest.approx(alone.interactions[0].pvalue, rel=1e-9)


class TestMessages:
    def test_a_file_without_rows_is_called_empty(self, tmp_path):
        path = tmp_path / "none.csv"
        path.write_text("arm,y,day\n")
        for design in ({}, {"day": "day"}):
            with pytest.raises(EmptyTableError, match="0 rows"):
                experiment(Mean("y"), **design).analyze(path)

    @pytest.mark.parametrize(
        ("metric", "design", "named"),
        [(Mean("y"), {"where": "yy > 0"}, "where is 'yy > 0'"), (Mean("y", where="y >"), {}, "where of metric 'm' is")],
    )
    def test_a_condition_that_cannot_be_read_is_named(self, frame, metric, design, named):
        with pytest.raises(EngineError, match=re.escape(named)):
            experiment(metric, **design).analyze(frame)

    def test_metrics_need_names(self):
        for metrics in ([Mean("y")], Mean("y"), "y"):
            with pytest.raises(CausalRecError, match="expected a mapping of names to metrics"):
                Experiment(metrics, variant="arm", control="A")

    def test_control_of_another_type_is_shown(self, frame):
        table = frame.assign(arm=(frame["arm"] == "B").astype(int))
        counted = Experiment({"m": Mean("y")}, variant="arm", control=0).collect(table)
        for data in (table, counted):
            with pytest.raises(TreatmentError, match=re.escape("Write control=0.")):
                Experiment({"m": Mean("y")}, variant="arm", control="0").analyze(data)

    @pytest.mark.parametrize("exposed", [None, "q"])
    def test_text_is_no_time(self, frame, exposed):
        table = frame.assign(seen="2025-01-01")
        with pytest.raises(CausalRecError, match=r"'seen' is string; expected times.*pd.to_datetime"):
            experiment(Retention("seen", exposed=exposed)).analyze(table)

    def test_text_is_no_number(self, frame):
        with pytest.raises(CausalRecError, match=r"'device' is string; expected numbers.*pd.to_numeric"):
            experiment(Mean("device")).analyze(frame)


def test_denominators_that_cancel_are_zero(frame):
    signs = np.where(frame.groupby("arm").cumcount() % 2, 0.1, -0.1) * (1 + frame.groupby("arm").cumcount() // 2 % 3)
    even = frame.assign(sign=signs).groupby("arm").head(180)
    with pytest.raises(OutcomeError, match="mean of the denominator is 0"):
        experiment(Ratio("y", "sign")).analyze(even)
