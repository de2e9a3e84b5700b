"""Metrics of a Spark DataFrame: the numbers and words of the metrics on arrays, and their errors."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

from causalrec import evaluation
from causalrec.evaluation import _spark_ranks, spark
from causalrec.evaluation._spark_areas import tied_terms
from causalrec.evaluation._spark_ranks import better, check_same_rows
from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    EngineError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)

pytestmark = pytest.mark.spark
N = 2_000
# How rows are weighted, clustered, assigned: with two arms or three.
DESIGNS: dict[str, dict[str, Any]] = {
    "plain": {"treatment": "t"},
    "clusters": {"treatment": "t", "clusters": "user", "sample_weight": "w"},
    "known": {"treatment": "t", "propensity": "e", "sample_weight": "w"},
    "arms": {"treatment": "arm", "control": "none", "arm": "mail", "clusters": "user"},
    "arms_known": {
        "treatment": "arm", "control": "none", "arm": "app", "propensity": {"none": "a", "app": "b", "mail": "c"},
    },
}  # fmt: skip
# Few scores, all different, one score in seven of ten rows, one in all.
CASES = [
    ("fine", "plain"), ("tied", "clusters"), ("heavy", "known"), ("heavy", "arms"), ("tied", "arms_known"),
    ("constant", "clusters"),
]  # fmt: skip


def table(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    fine = rng.normal(size=N)
    found = pd.DataFrame({
        "fine": fine, "tied": np.round(fine + rng.normal(size=N), 1), "constant": np.full(N, 0.3),
        "heavy": np.where(rng.random(N) < 0.7, 0.25, fine), "t": rng.integers(0, 2, N),
        "user": rng.choice([f"u{i}" for i in range(150)], N), "e": rng.uniform(0.2, 0.8, N),
        "w": np.where(rng.random(N) < 0.1, 0.0, rng.exponential(size=N)),
        "a": 0.2 + 0.1 * rng.random(N), "b": np.full(N, 0.3), "id": np.arange(N),
    })  # fmt: skip
    found["c"] = 1 - found["a"] - found["b"]
    found["arm"] = np.where(found["t"] == 0, "none", np.where(rng.random(N) < 0.5, "app", "mail"))
    found["y"] = 3 + fine * found["t"] + rng.normal(size=N)
    found["flag"] = found["y"] > 3
    return found


def on_spark(session: Any, rows: pd.DataFrame) -> Any:
    import pyarrow as pa

    return session.createDataFrame(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return table()


@pytest.fixture(scope="module")
def frame(spark_session: Any, rows: pd.DataFrame) -> Any:
    return on_spark(spark_session, rows).repartition(3).persist()


@pytest.fixture
def many_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were two thousand times as many rows."""
    monkeypatch.setattr(_spark_ranks, "ROWS_PER_BUCKET", 100)


def on_arrays(name: str, rows: pd.DataFrame, uplift: Any, design: dict[str, Any], **settings: Any) -> Any:
    """The metric on arrays, for the columns that Spark gets by name."""
    named = dict(design)
    propensity = named.pop("propensity", None)
    if isinstance(propensity, dict):
        named["propensity"] = rows[[propensity[arm] for arm in ("none", "app", "mail")]].to_numpy()
    elif propensity is not None:
        named["propensity"] = rows[propensity]
    for column in ("sample_weight", "clusters"):
        if column in named:
            named[column] = rows[named[column]]
    treatment = rows[named.pop("treatment")]
    return getattr(evaluation, name)(rows["y"], uplift, treatment, **named, **settings)


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    for field in fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, float) or (isinstance(b, np.ndarray) and b.dtype.kind == "f"):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=field.name)
        elif isinstance(b, np.ndarray):
            assert a.tolist() == b.tolist(), field.name
        else:
            assert a == b, field.name


METRICS = [
    ("qini_score", {}), ("auuc_score", {}), ("rate", {}), ("rate", {"target": "qini"}), ("uplift_at_k", {"k": 0.2}),
    ("uplift_at_k", {"k": 1}), ("lift_share", {"share": 0.3}), ("lift_share", {"share": 1}), ("uplift_by_bin", {}),
    ("uplift_by_bin", {"bins": [-1.0, 0.0, 0.5]}),
]  # fmt: skip
CURVES = ("qini_curve", "uplift_curve", "cumulative_gain_curve", "toc_curve")


class TestSameNumbers:
    def test_qini_of_heavy_ties_with_clusters_and_weights(self, frame, rows, many_buckets):
        design = DESIGNS["clusters"]
        found = spark.qini_score(frame, outcome="y", uplift="heavy", **design)
        assert_same(found, on_arrays("qini_score", rows, rows["heavy"], design))

    @pytest.mark.slow
    def test_the_effect_of_the_best_of_three_arms(self, frame, rows):
        design = DESIGNS["arms"]
        found = spark.uplift_at_k(frame, outcome="y", uplift="tied", k=0.3, **design)
        assert_same(found, on_arrays("uplift_at_k", rows, rows["tied"], design, k=0.3))

    @pytest.mark.slow
    @pytest.mark.parametrize(("score", "design"), CASES)
    def test_scores(self, frame, rows, many_buckets, score, design):
        for name, settings in METRICS:
            found = getattr(spark, name)(frame, outcome="y", uplift=score, **DESIGNS[design], **settings)
            assert_same(found, on_arrays(name, rows, rows[score], DESIGNS[design], **settings))

    @pytest.mark.slow
    @pytest.mark.parametrize(("score", "design"), CASES)
    def test_curves(self, frame, rows, many_buckets, score, design):
        for name in CURVES:
            found = getattr(spark, name)(frame, outcome="y", uplift=score, **DESIGNS[design])
            assert_same(found, on_arrays(name, rows, rows[score], DESIGNS[design], label=score))

    @pytest.mark.slow
    @pytest.mark.parametrize("design", ["plain", "clusters"])
    @pytest.mark.parametrize("metric", ["qini", "auuc", "autoc", "uplift_at_k", "lift_share"])
    def test_scorers_in_pairs(self, frame, rows, many_buckets, metric, design):
        named = {"new": "fine", "old": "tied", "same": "fine", "none": "constant"}
        settings = {"metric": metric, "k": 0.4, "baseline": "old" if design == "plain" else None}
        found = spark.compare_scorers(frame, outcome="y", uplift=named, **DESIGNS[design], **settings)
        uplift = {name: rows[column] for name, column in named.items()}
        assert_same(found, on_arrays("compare_scorers", rows, uplift, DESIGNS[design], **settings))

    @pytest.mark.slow
    def test_a_boolean_outcome_and_a_single_cluster(self, frame, rows):
        found = spark.qini_score(frame, outcome="flag", uplift="tied", treatment="t")
        assert_same(found, evaluation.qini_score(rows["flag"], rows["tied"], rows["t"]))
        one = spark.rate(frame.selectExpr("*", "1 AS one"), outcome="y", uplift="tied", treatment="t", clusters="one")
        assert np.isnan(one.std_error)
        assert "there is one cluster" in one.method

    @pytest.mark.slow
    @pytest.mark.parametrize("clusters", [None, "user"])
    def test_a_group_with_a_silent_arm_has_no_interval(self, spark_session, rows, clusters):
        # Nothing happens to the untreated in the best group.
        changed = rows.assign(y=np.where((rows["t"] == 0) & (rows["fine"] > 0.5), 3.0, rows["y"]))
        found = spark.uplift_by_bin(
            on_spark(spark_session, changed), outcome="y", uplift="fine", treatment="t", bins=[-0.5, 0.5],
            clusters=clusters,
        )  # fmt: skip
        design = {"treatment": "t"} if clusters is None else {"treatment": "t", "clusters": clusters}
        assert_same(found, on_arrays("uplift_by_bin", changed, changed["fine"], design, bins=[-0.5, 0.5]))
        assert np.isnan(found.ci_low).tolist() == [True, False, False]
        top = spark.uplift_at_k(
            on_spark(spark_session, changed), outcome="y", uplift="fine", treatment="t", k=0.1, clusters=clusters
        )
        assert_same(top, on_arrays("uplift_at_k", changed, changed["fine"], design, k=0.1))
        assert np.isnan(top.std_error)

    @pytest.mark.slow
    def test_negative_zero_is_zero(self, frame, rows):
        found = spark.qini_score(
            frame.selectExpr("*", "IF(id % 2 = 0, -0D, 0D) AS z"), outcome="y", uplift="z", treatment="t"
        )
        assert found.estimate == found.std_error == 0
        assert "all predictions are equal" in found.method


def test_sums_over_ties_in_closed_form():
    above, gain, size, weight, value = 7.5, 3.0, 6, 9.0, -2.0
    place = np.arange(1, size + 1)
    total = above + place * weight / size
    toc = (gain + place * value / size) / total
    t, u = weight / size / total, weight / size * toc / total
    expected = [t.sum(), (place * t).sum(), u.sum(), (place * u).sum(), toc.sum()]
    np.testing.assert_allclose(tied_terms(above, gain, size, weight, value), expected, rtol=1e-12)
    first = tied_terms(0.0, 0.0, size, weight, value)[0]
    np.testing.assert_allclose(first, special.digamma(size + 1) - special.digamma(1))


def test_sums_of_better_buckets():
    assert better(np.array([1.0, 2.0, 4.0])).tolist() == [6.0, 4.0, 0.0]


NAMED = {"outcome": "y", "uplift": "fine", "treatment": "t"}
COLUMNS = [
    ({"outcome": "z"}, ColumnError, "missing column 'z'"),
    ({"uplift": "fines"}, ColumnError, "Did you mean 'fine'"),
    ({"uplift": "arm"}, OutcomeError, "'arm' is of type string"),
    ({"propensity": "q"}, ColumnError, "missing column 'q'"),
]
# A column v; what is named; the error.
VALUES = [
    ("IF(id < 2, NULL, fine)", {"uplift": "v"}, OutcomeError, "uplift 'v': 2 of 2000 values are missing or infinite"),
    ("IF(id < 3, double('nan'), fine)", {"uplift": "v"}, OutcomeError, "uplift 'v': 3 of 2000"),
    ("IF(id < 3, double('inf'), y)", {"outcome": "v"}, OutcomeError, "outcome 'v': 3 of 2000"),
    ("2", {"outcome": "v"}, OutcomeError, "y is 2 in all 2000 rows"),
    ("1", {"treatment": "v"}, TreatmentError, "found only 1 in 2000 rows"),
    ("IF(id < 4, NULL, t)", {"treatment": "v"}, TreatmentError, "4 of 2000 values are missing"),
    ("1", {"treatment": "arm"}, TreatmentError, "expected 0/1, or labels together with control="),
    ("1", {"treatment": "arm", "control": "none"}, TreatmentError, "arm"),
    ("IF(t = 1, 0, 1)", {"sample_weight": "v"}, TreatmentError, "arm 1 has no weight"),
    ("IF(id < 6, -1, 1)", {"sample_weight": "v"}, CausalRecError, "6 negative values"),
    ("IF(id < 5, 0, 0.5)", {"propensity": "v"}, OverlapError, "5 of 2000 values are not strictly"),
    ("IF(id < 8, NULL, id)", {"clusters": "v"}, CausalRecError, "clusters: 8 of 2000"),
]


class TestBadInput:
    @pytest.mark.parametrize(("named", "error", "message"), COLUMNS)
    def test_columns(self, frame, named, error, message):
        with pytest.raises(error, match=message):
            spark.qini_score(frame, **{**NAMED, **named})

    @pytest.mark.slow
    @pytest.mark.parametrize(("column", "named", "error", "message"), VALUES)
    def test_values(self, frame, column, named, error, message):
        with pytest.raises(error, match=message):
            spark.qini_score(frame.selectExpr("*", f"{column} AS v"), **{**NAMED, **named})

    def test_settings(self, frame, rows):
        with pytest.raises(CausalRecError, match=r"k is 0; expected a share in \(0, 1\]"):
            spark.uplift_at_k(frame, **NAMED, k=0)
        with pytest.raises(CausalRecError, match=r"share is 1\.5"):
            spark.lift_share(frame, **NAMED, share=1.5)
        with pytest.raises(CausalRecError, match="target is 'auto'"):
            spark.rate(frame, **NAMED, target="auto")
        with pytest.raises(CausalRecError, match="bins is 1"):
            spark.uplift_by_bin(frame, **NAMED, bins=1)
        with pytest.raises(CausalRecError, match=r"confidence_level"):
            spark.toc_curve(frame, **NAMED, confidence_level=95)
        with pytest.raises(
            CausalRecError, match=r"expected a Spark DataFrame\. For rows in memory use causalrec.evaluation"
        ):
            spark.qini_score(rows, **NAMED)

    def test_scorers(self, frame):
        others = {"outcome": "y", "treatment": "t"}
        with pytest.raises(CausalRecError, match="expected two or more columns"):
            spark.compare_scorers(frame, uplift="fine", **others)
        with pytest.raises(CausalRecError, match="found the scorers 'fine'; expected two or more"):
            spark.compare_scorers(frame, uplift=["fine"], **others)
        with pytest.raises(CausalRecError, match="baseline='new' is no scorer"):
            spark.compare_scorers(frame, uplift=["fine", "tied"], baseline="new", **others)
        with pytest.raises(CausalRecError, match=r"metric is 'gini'.*Did you mean 'qini'"):
            spark.compare_scorers(frame, uplift=["fine", "tied"], metric="gini", **others)

    @pytest.mark.slow
    def test_no_rows_and_a_small_top(self, frame):
        with pytest.raises(EmptyTableError, match="0 rows"):
            spark.qini_score(frame.where("id < 0"), **NAMED)
        with pytest.raises(TreatmentError, match=r"the top 0\.1% holds"):
            spark.uplift_at_k(frame, **NAMED, k=0.001)


def test_rows_that_change():
    check_same_rows(5.0, 5)
    with pytest.raises(EngineError, match="gave 7 rows of positive weight first and 5 later: it changes"):
        check_same_rows(5.0, 7)
