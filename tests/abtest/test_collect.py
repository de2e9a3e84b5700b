"""Aggregates from tables of every kind against pandas and numpy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.abtest.aggregates import ALL, TREND, UNTRIGGERED, Aggregates, Cell
from causalrec.abtest.collection.collect import collect, unit_values
from causalrec.abtest.experiment import Experiment
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention, SampleRatio
from causalrec.engines import LocalEngine
from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    EngineError,
    OutcomeError,
    TreatmentError,
)
from causalrec.moments import Moments


def make_frame(n: int = 6_000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2025-01-01")
    frame = pd.DataFrame({
        "user": np.arange(n),
        "arm": rng.choice(["A", "B", "C"], n),
        "spend": np.where(rng.random(n) < 0.4, rng.lognormal(1, 1.5, n), 0.0),
        "before": rng.normal(1e8, 1, n),
        "clicks": rng.poisson(2, n),
        "views": rng.integers(1, 9, n),
        "bought": rng.random(n) < 0.3,
        "device": rng.choice(np.array(["phone", "web", None], dtype=object), n),
        "age": rng.integers(0, 3, n),
        "day": rng.integers(0, 5, n),
        "touched": rng.random(n) < 0.6,
        "house": rng.integers(0, 400, n),
        "exposed": start + pd.to_timedelta(rng.integers(0, 29 * 86_400, n), "s"),
        "seen": start + pd.to_timedelta(rng.integers(10 * 86_400, 30 * 86_400, n), "s"),
    })  # fmt: skip
    frame.loc[rng.random(n) < 0.2, "seen"] = pd.NaT
    frame["block"] = frame["house"] % 5
    frame["house_arm"] = np.array(["A", "B", "C"])[frame["house"] % 3]
    return frame


METRICS: dict[str, Metric | SampleRatio] = {
    "spend": Mean("spend", covariates=["before", "views"]),
    "ctr": Ratio("clicks", "views", covariates=["before"]),
    "bought": Proportion("bought"),
    "capped": Mean("spend", winsorize=0.95),
    "phone": Mean("clicks", where="device = 'phone'"),
    "kept": Retention("seen", days=7),
    "p90": Quantile("spend", 0.9),
    "split": SampleRatio(),
}


def design(metrics: Any = None, **options: Any) -> Experiment:
    return Experiment(metrics or METRICS, **{"variant": "arm", "control": "A", **options})


MERGEABLE = {name: metric for name, metric in METRICS.items() if not isinstance(metric, Quantile)}
ROWS = design(MERGEABLE, strata="age", segments="device", day="day", exposed_at="exposed")
TRIGGERED = design(strata=(), segments=["device", "age"], trigger="touched", exposed_at="exposed")
HOUSES = design(variant="house_arm", cluster="house", segments="device", day="day", exposed_at="exposed")


DESIGNS = {
    "rows": ROWS,
    "triggered": TRIGGERED,
    "houses": HOUSES,
    "strata of houses": design(MERGEABLE, variant="house_arm", cluster="house", strata="block", exposed_at="exposed"),
}


def close(found: Moments, values: Any, rtol: float = 1e-11) -> None:
    expected = Moments.from_array(np.asarray(values, dtype=np.float64), found.names)
    scale = np.sqrt(np.outer(np.diag(expected.products), np.diag(expected.products)))
    assert found.n == expected.n
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rtol, atol=1e-300)
    assert (np.abs(found.products - expected.products) <= rtol * scale + 1e-300).all()


def same(one: Aggregates, two: Aggregates, rtol: float = 1e-10) -> None:
    assert list(one.cells) == list(two.cells)
    for dimension, cells in one.cells.items():
        assert list(cells) == list(two.cells[dimension])
        for key, cell in cells.items():
            other = two.cells[dimension][key]
            assert (cell.n, list(cell.moments), list(cell.quantiles)) == (
                other.n, list(other.moments), list(other.quantiles),
            )  # fmt: skip
            for name, moments in cell.moments.items():
                found = other.moments[name]
                scale = np.sqrt(np.outer(np.diag(moments.products), np.diag(moments.products)))
                assert (found.n, found.names) == (moments.n, moments.names)
                np.testing.assert_allclose(found.mean, moments.mean, rtol=rtol)
                assert (np.abs(found.products - moments.products) <= rtol * scale).all()
            for name, quantile in cell.quantiles.items():
                assert other.quantiles[name].n == quantile.n
                assert other.quantiles[name].value == pytest.approx(quantile.value, rel=rtol)
                assert other.quantiles[name].variance == pytest.approx(quantile.variance, rel=rtol)
    for field in ("clustered", "n_rows", "n_conflicting", "n_duplicates", "n_missing", "n_immature", "nested"):
        assert getattr(one, field) == getattr(two, field)
    assert one.thresholds == {k: pytest.approx(v, rel=rtol) for k, v in two.thresholds.items()}


def bits(found: Aggregates) -> list[bytes]:
    return [
        m.mean.tobytes() + m.products.tobytes()
        for cells in found.cells.values()
        for cell in cells.values()
        for m in cell.moments.values()
    ]


KINDS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "polars": lambda frame, _: __import__("polars").from_pandas(frame),
    "lazy polars": lambda frame, _: __import__("polars").from_pandas(frame).lazy(),
    "arrow": lambda frame, _: __import__("pyarrow").Table.from_pandas(frame),
    "duckdb": lambda frame, _: __import__("duckdb").connect().from_df(frame),
    "dataset": lambda frame, path: (
        frame.to_parquet(path / "t.parquet") or __import__("pyarrow.dataset").dataset.dataset(path / "t.parquet")
    ),
    "parquet": lambda frame, path: frame.to_parquet(path / "t.parquet") or path / "t.parquet",
    "csv": lambda frame, path: frame.to_csv(path / "t.csv", index=False) or str(path / "t.csv"),
}


@cache
def collected(name: str) -> Aggregates:
    return collect(DESIGNS[name], make_frame())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DESIGNS)
def test_local_tables_of_every_kind_agree(kind: str, name: str, tmp_path: Path) -> None:
    same(collect(DESIGNS[name], KINDS[kind](make_frame(), tmp_path)), collected(name))


# Few metrics: Spark takes longer to compile them than to compute them.
ON_SPARK = {
    "rows": design(
        {name: METRICS[name] for name in ("ctr", "capped", "phone")}, strata="age", segments="device", trigger="touched"
    ),
    "houses": design(
        {name: METRICS[name] for name in ("ctr", "kept", "p90")}, variant="house_arm", cluster="house", day="day",
        exposed_at="exposed",
    ),
}  # fmt: skip


@pytest.mark.spark
@pytest.mark.parametrize("name", ON_SPARK)
def test_a_spark_frame_agrees_with_pandas(name: str, spark_session: Any) -> None:
    import pyarrow as pa

    frame = make_frame(2_000)
    table = spark_session.createDataFrame(pa.Table.from_pandas(frame, preserve_index=False))
    same(collect(ON_SPARK[name], table), collect(ON_SPARK[name], frame))
    assert not [t.name for t in spark_session.catalog.listTables()]
    assert not [t.name for t in spark_session.catalog.listTables("global_temp")]
    assert spark_session.sparkContext._jsc.getPersistentRDDs().isEmpty()


@pytest.mark.spark
@pytest.mark.parametrize("cluster", [pytest.param(None, marks=pytest.mark.slow), "house"])
def test_on_spark_any_number_of_metrics_is_one_job(spark_session: Any, cluster: str | None) -> None:
    import pyarrow as pa

    metrics: dict[str, Metric | SampleRatio] = {
        "spend": Mean("spend", covariates=["clicks"]), "ctr": Ratio("clicks", "views"), "bought": Proportion("bought"),
        "kept": Retention("seen", days=7, as_of="2025-02-01"), "phone": Mean("clicks", where="device = 'phone'"),
    }  # fmt: skip
    experiment = design(
        metrics, variant="house_arm", cluster=cluster, segments="device", strata="block", exposed_at="exposed"
    )
    table = spark_session.createDataFrame(pa.Table.from_pandas(make_frame(), preserve_index=False))
    context, group = spark_session.sparkContext, f"collect {cluster}"
    context.setJobGroup(group, "")
    try:
        collect(experiment, table)
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
    assert len(context.statusTracker().getJobIdsForGroup(group)) == 1


def test_a_registered_table_is_read_where_it_is() -> None:
    with LocalEngine() as engine:
        engine.register("t", make_frame())
        same(collect(ROWS, (engine, "t")), collect(ROWS, make_frame()))
        assert engine.columns("t")


def test_moments_of_rows_by_stratum_segment_and_day() -> None:
    frame = make_frame()
    found = collect(ROWS, frame)
    columns = {"spend": ["spend", "before", "views"], "ctr": ["clicks", "views", "before"], "bought": ["bought"]}
    dimensions = {ALL: "age", "device": "device", "day": "day"}
    for dimension, column in dimensions.items():
        parts = frame.groupby(["arm", column], dropna=False)
        assert len(found.cells[dimension]) == parts.ngroups
        for (arm, group), part in parts:
            cell = found.cells[dimension][arm, None if pd.isna(group) else group]
            assert cell.n == len(part)
            for metric, names in columns.items():
                close(cell.moments[metric], part[names])
    assert found.n_rows == len(frame)
    assert found.cells[ALL]["A", 0].moments["ctr"].names == ("value", "den", "before")
    assert found.arms == ("A", "B", "C")


def test_rows_that_do_not_count_are_left_out_and_counted() -> None:
    frame = make_frame()
    frame.loc[frame.index[:50], "spend"] = np.nan
    metrics = {
        "phone": Mean("clicks", where="device = 'phone'"), "some": Mean("spend", missing="drop"),
        "zero": Mean("spend", missing="zero"),
    }  # fmt: skip
    found = collect(design(metrics), frame)
    part = frame[frame["arm"] == "B"]
    cell = found.cells[ALL]["B", None]
    close(cell.moments["phone"], part.loc[part["device"] == "phone", ["clicks"]])
    close(cell.moments["some"], part[["spend"]].dropna())
    close(cell.moments["zero"], part[["spend"]].fillna(0))
    assert found.n_missing == {"some": 50}


def test_retention_counts_those_who_were_exposed_for_long_enough() -> None:
    frame = make_frame()
    horizon = pd.Timedelta(7, "D")
    mature = frame[frame["exposed"] + horizon <= frame["seen"].max()]
    kept = (mature["seen"] - mature["exposed"]) >= horizon
    found = collect(design({"kept": Retention("seen", 7)}, exposed_at="exposed"), frame)
    close(found.cells[ALL]["A", None].moments["kept"], kept[mature["arm"] == "A"].to_frame())
    assert found.n_immature == {"kept": len(frame) - len(mature)}
    frame["days"] = (frame["seen"] - frame["exposed"]).dt.total_seconds() / 86_400
    by_days = collect(design({"kept": Retention("days", 7)}, exposed_at="exposed"), frame)
    same(found, by_days)
    without = collect(design({"kept": Retention("days", 7)}), frame)
    close(without.cells[ALL]["A", None].moments["kept"], (frame.loc[frame["arm"] == "A", ["days"]] >= 7))


def test_one_threshold_for_all_arms() -> None:
    frame = make_frame()
    metrics = {"spend": Mean("spend", winsorize=(0.05, 0.95)), "ctr": Ratio("clicks", "views", winsorize=0.9)}
    found = collect(design(metrics), frame)
    low, high = np.quantile(frame["spend"], [0.05, 0.95])
    assert found.thresholds["spend"] == pytest.approx((low, high))
    assert found.thresholds["ctr (denominator)"] == pytest.approx(np.quantile(frame["views"], [0, 0.9]))
    part = frame[frame["arm"] == "C"]
    close(found.cells[ALL]["C", None].moments["spend"], part[["spend"]].clip(low, high))


def test_triggered_rows_are_apart() -> None:
    frame = make_frame()
    found = collect(design({"spend": Mean("spend")}, trigger="touched"), frame)
    for dimension, flag in ((ALL, True), (UNTRIGGERED, False)):
        part = frame[(frame["arm"] == "A") & (frame["touched"] == flag)]
        close(found.cells[dimension]["A", None].moments["spend"], part[["spend"]])


def house_sums(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    sums = frame.assign(rows=1).groupby([*by, "house", "house_arm"], dropna=False)
    return sums[["spend", "rows", "before", "views", "clicks"]].sum().reset_index()


def test_moments_of_clusters_are_those_of_their_sums() -> None:
    frame = make_frame()
    found = collect(HOUSES, frame)
    sums = house_sums(frame, [])
    for arm, part in sums.groupby("house_arm"):
        cell = found.cells[ALL][arm, None]
        assert cell.n == len(part)
        close(cell.moments["spend"], part[["spend", "rows", "before", "views"]])
        close(cell.moments["ctr"], part[["clicks", "views", "rows", "before"]])
    for (arm, device), part in house_sums(frame, ["device"]).groupby(["house_arm", "device"], dropna=False):
        cell = found.cells["device"][arm, None if pd.isna(device) else device]
        close(cell.moments["spend"], part[["spend", "rows", "before", "views"]])
    assert found.clustered
    assert found.nested == {"device": False}
    nested = collect(design({"spend": Mean("spend")}, variant="house_arm", cluster="house", segments="kind"),
                     frame.assign(kind=frame["house"] % 4))  # fmt: skip
    assert nested.nested == {"kind": True}


@pytest.mark.parametrize("cluster", [None, "house"])
def test_sums_by_day_for_the_slope(cluster: str | None) -> None:
    frame = make_frame()
    found = collect(design({"ctr": Ratio("clicks", "views")}, variant="house_arm", day="day", cluster=cluster), frame)
    day, w, v = frame["day"], frame["views"], frame["clicks"]
    terms = pd.DataFrame({"w": w, "dw": day * w, "ddw": day**2 * w, "v": v, "dv": day * v})
    if cluster:
        terms = terms.groupby([frame["house"], frame["house_arm"]]).sum()
        expected = terms.xs("B", level="house_arm")
    else:
        expected = terms[frame["house_arm"] == "B"]
    moments = found.cells[TREND]["B", None].moments["ctr"]
    assert moments.names == ("w", "dw", "ddw", "v", "dv")
    close(moments, expected)


def test_parts_in_any_order_are_the_whole() -> None:
    frame = make_frame()
    metrics = {"spend": Mean("spend", covariates=["before"]), "ctr": Ratio("clicks", "views")}
    experiment = design(metrics, segments="device")
    parts = [collect(experiment, part) for _, part in frame.groupby("day")]
    whole = collect(experiment, frame)
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        merged = parts[order[0]]
        for k in order[1:]:
            merged = merged.merge(parts[k])
        assert merged.n_rows == whole.n_rows
        for key, cell in whole.cells["device"].items():
            for name, moments in cell.moments.items():
                found = merged.cells["device"][key].moments[name]
                # A part's mean is a double: half of its last digit, at 1e8, is 7e-9.
                spread = np.sqrt(np.diag(moments.products) / moments.n)
                rounding = moments.n * np.outer(spread, np.spacing(moments.mean))
                scale = np.sqrt(np.outer(np.diag(moments.products), np.diag(moments.products)))
                error = np.abs(found.products - moments.products)
                assert (error <= 1e-12 * scale + rounding + rounding.T).all()
                np.testing.assert_allclose(found.mean, moments.mean, rtol=1e-15)


def test_arms_and_strata_that_are_far_apart_lose_nothing(engine: Any) -> None:
    rng, n = np.random.default_rng(3), 4_000
    frame = pd.DataFrame({"arm": rng.choice(["A", "B"], n), "level": rng.integers(0, 2, n)})
    frame["y"] = rng.normal(0, 1, n) + 1e8 * frame["level"] + 1e9 * (frame["arm"] == "B")
    engine.register("t", frame)
    found = collect(design({"y": Mean("y")}, strata="level"), (engine, "t"))
    for (arm, level), part in frame.groupby(["arm", "level"]):
        close(found.cells[ALL][arm, level].moments["y"], part[["y"]])


@pytest.mark.parametrize("experiment", [ROWS, HOUSES], ids=["rows", "houses"])
def test_rows_in_any_order_give_the_same_bits(experiment: Experiment) -> None:
    frame = make_frame(200_000)
    assert bits(collect(experiment, frame.sample(frac=1, random_state=0))) == bits(collect(experiment, frame))


def test_pooled_arms_are_one() -> None:
    frame = make_frame()
    metrics = {"spend": Mean("spend"), "p90": Quantile("spend", 0.9)}
    found = collect(design(metrics, pool={"new": ["B", "C"]}), frame)
    expected = collect(design(metrics), frame.replace({"arm": {"B": "new", "C": "new"}}))
    same(found, expected)


@pytest.mark.slow_on_spark
@pytest.mark.parametrize("condition", ["spend > 5", "NOT spend > 5", "spend <> 2", "isnan(spend)"])
def test_a_condition_sees_nan_in_files_as_in_frames(condition: str, engine: Any, tmp_path: Path) -> None:
    """NaN is larger than any number; the footers of a file do not tell that there is one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    spend = np.array([[1.0, 2.0, np.nan, 3.0], [6.0, 7.0, np.nan, 8.0]])
    above = (spend > 5) | np.isnan(spend)
    expected = {
        "spend > 5": above, "NOT spend > 5": ~above, "isnan(spend)": np.isnan(spend),
        "spend <> 2": spend != 2,
    }[condition]  # fmt: skip
    for k, values in enumerate(spend):
        # A frame of pandas would make nulls of NaN.
        table = pa.table({"arm": ["A", "B"] * 4, "y": [1] * 8, "spend": np.repeat(values, 2)})
        pq.write_table(table, tmp_path / f"{k}.parquet")
        for source in (table, tmp_path / f"{k}.parquet"):
            engine.register("t", source)
            if expected[k].any():
                everyone = collect(design({"y": Mean("y")}, where=condition), (engine, "t"))
                assert everyone.n_rows == 2 * expected[k].sum()
            some = collect(design({"y": Mean("y", where=condition), "n": Mean("y")}), (engine, "t"))
            assert some.cells[ALL]["A", None].moments["y"].n == expected[k].sum()


def test_days_must_be_there_for_quantiles_too() -> None:
    frame = make_frame(300).astype({"day": "Int64"})
    frame.loc[:6, "day"] = pd.NA
    for metric in (Quantile("spend"), Mean("spend")):
        with pytest.raises(ColumnError, match="day 'day' is missing in 7 rows"):
            collect(design({"m": metric}, day="day"), frame)
        with pytest.raises(ColumnError, match="day 'day' is missing in 7 rows"):
            collect(design({"m": metric}, variant="house_arm", cluster="house", day="day"), frame)


@pytest.mark.parametrize(("labels", "control"), [([0, 1], 0), ([False, True], False), (["x", "y"], "x")])
def test_labels_of_arms_stay_what_they_are(labels: list[Any], control: Any) -> None:
    frame = pd.DataFrame({"arm": labels * 10, "y": np.arange(20.0)})
    arms = collect(design({"y": Mean("y"), "q": Quantile("y")}, control=control), frame).arms
    assert arms == tuple(labels)
    assert [type(a) for a in arms] == [type(a) for a in labels]


def test_units_in_several_arms_and_repeated_rows() -> None:
    frame = make_frame(600)
    twice = frame.iloc[:4].assign(arm=["B" if a == "A" else "A" for a in frame["arm"].iloc[:4]])
    again = frame.iloc[10:15]
    metrics = {"spend": Mean("spend")}
    with pytest.raises(TreatmentError, match=r"4 of 600 units are in several arms, such as user 0, 1, 2, 3\."):
        collect(design(metrics, unit="user"), pd.concat([frame, twice]))
    with pytest.raises(OutcomeError, match=r"5 of 600 units have several rows, such as user 10.*cluster='user'"):
        collect(design(metrics, unit="user"), pd.concat([frame, again]))
    drop = design(metrics, unit="user", on_conflict="drop", on_duplicate="drop")
    found = collect(drop, pd.concat([frame, twice, again]))
    assert (found.n_conflicting, found.n_duplicates, found.n_rows) == (4, 5, 596)
    close(found.cells[ALL]["A", None].moments["spend"], frame.iloc[4:].query("arm == 'A'")[["spend"]])
    with pytest.raises(OutcomeError, match="1 of 600 units have several rows that differ"):
        collect(drop, pd.concat([frame, frame.iloc[[9]].assign(spend=-1.0)]))


def test_clusters_in_several_arms_or_strata(engine: Any) -> None:
    frame = make_frame(2_000)
    frame.loc[frame.index[0], "house_arm"] = "A" if frame["house_arm"].iloc[0] == "B" else "B"
    house = frame["house"].iloc[0]
    engine.register("t", frame)
    options = {"variant": "house_arm", "cluster": "house"}
    metrics = {"spend": Mean("spend")}
    with pytest.raises(TreatmentError, match=rf"1 of \d+ units are in several arms, such as house {house}\."):
        collect(design(metrics, **options), (engine, "t"))
    found = collect(design(metrics, **options, on_conflict="drop"), (engine, "t"))
    rest = frame[frame["house"] != house]
    same(found, collect(design(metrics, **options), rest).merge(Aggregates({ALL: {}}, True, n_conflicting=1)))
    with pytest.raises(OutcomeError, match=r"clusters of 'house' have several values of 'age'"):
        collect(design(metrics, **options, strata="age"), rest)


def test_quantiles_are_numpys_and_their_variance_covers() -> None:
    frame = make_frame()
    cell = collect(design(segments="device", exposed_at="exposed"), frame).cells["device"]["A", "web"]
    part = frame[(frame["arm"] == "A") & (frame["device"] == "web")]
    assert cell.quantiles["p90"].value == pytest.approx(np.quantile(part["spend"], 0.9), rel=1e-13)
    assert cell.quantiles["p90"].n == len(part)


@pytest.mark.slow
@pytest.mark.parametrize(("cluster", "q"), [(None, 0.5), (None, 0.9), ("c", 0.5), ("c", 0.9)])
def test_intervals_of_quantiles_cover(cluster: str | None, q: float) -> None:
    """A lognormal metric; clusters of four share half of the log's variance. 95% within binomial bounds."""
    from scipy.stats import norm

    rng, n_simulations, n = np.random.default_rng(11), 400, 2_000
    experiment = design({"q": Quantile("y", q)}, cluster=cluster)
    truth, covered = float(np.exp(norm.ppf(q))), 0
    with LocalEngine() as engine:
        for _ in range(n_simulations):
            c = np.arange(2 * n) // 4
            y = np.exp(np.sqrt(0.5) * (rng.normal(size=c.max() + 1)[c] + rng.normal(size=2 * n)))
            engine.register("t", pd.DataFrame({"arm": np.where(c % 2, "A", "B"), "c": c, "y": y}))
            found = collect(experiment, (engine, "t")).cells[ALL]["A", None].quantiles["q"]
            variance = found.variance
            covered += abs(found.value - truth) <= 1.96 * np.sqrt(variance)
    if cluster is None:  # rows of a cluster are not independent
        assert covered / n_simulations < 0.95
    else:
        assert 0.92 <= covered / n_simulations <= 0.98


def test_values_per_unit() -> None:
    frame = make_frame()
    experiment = design({"ctr": Ratio("clicks", "views", covariates=["before"])})
    values, names, arms = unit_values(experiment, frame, "ctr")
    assert names == ("value", "den", "before")
    np.testing.assert_array_equal(values, frame[["clicks", "views", "before"]].to_numpy(float))
    assert arms.tolist() == frame["arm"].tolist()
    clustered = design({"spend": Mean("spend")}, variant="house_arm", cluster="house")
    values, names, _ = unit_values(clustered, frame, "spend")
    assert names == ("value", "rows")
    np.testing.assert_allclose(values, house_sums(frame, []).sort_values("house")[["spend", "rows"]])
    with pytest.raises(ColumnError, match=r"'sped' has no values for each unit.*Did you mean 'spend'"):
        unit_values(clustered, frame, "sped")


def test_parts_with_other_ends_of_observation_are_not_merged() -> None:
    frame = make_frame()
    early, late = frame[frame["seen"] < "2025-01-20"], frame[~(frame["seen"] < "2025-01-20")]
    kept = design({"kept": Retention("seen", 7)}, exposed_at="exposed")
    with pytest.raises(CausalRecError, match=r"cannot merge: retention was observed until .*as_of="):
        collect(kept, early).merge(collect(kept, late))
    fixed = design({"kept": Retention("seen", 7, as_of=date(2025, 1, 30))}, exposed_at="exposed")
    same(collect(fixed, early).merge(collect(fixed, late)), collect(fixed, frame))


@pytest.mark.parametrize("column", ["unit", "cluster"])
def test_nan_is_no_id_in_any_table(column: str, engine: Any) -> None:
    import pyarrow as pa

    ids = np.where(np.arange(40) == 7, np.nan, np.arange(40.0))
    for table in (
        pa.table({"arm": ["A", "B"] * 20, "y": np.arange(40.0), "u": ids}),
        pd.DataFrame({"arm": ["A", "B"] * 20, "y": np.arange(40.0), "u": ids}),
    ):
        engine.register("t", table)
        with pytest.raises(TreatmentError, match=r"1 rows have no 'u'.*where='u IS NOT NULL'"):
            collect(design({"y": Mean("y")}, **{column: "u"}), (engine, "t"))


def test_a_unit_that_is_the_cluster_may_have_several_rows() -> None:
    frame = make_frame()
    both = collect(design({"y": Mean("spend")}, variant="house_arm", unit="house", cluster="house"), frame)
    same(both, collect(design({"y": Mean("spend")}, variant="house_arm", cluster="house"), frame))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_duplicate": "drop", "cluster": "house"}, "on_duplicate='drop' needs unit="),
        ({"on_conflict": "drop"}, "on_conflict='drop' needs unit= or cluster="),
        ({"pool": {"x": "BC"}}, "expected a list of arms, such as"),
        ({"pool": {"x": ["B"], "y": ["B", "C"]}}, "names the arm 'B' more than once"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CausalRecError, match=message):
        design({"y": Mean("spend")}, **options)


@pytest.mark.parametrize("winsorize", [np.float32(0.99), (0.01, np.float64(0.99))])
def test_winsorising_takes_numbers_of_any_kind(winsorize: Any) -> None:
    assert Mean("y", winsorize=winsorize).winsorize[1] == pytest.approx(0.99)  # type: ignore[index]


@pytest.mark.parametrize(
    "metric",
    [
        lambda: Mean("y", winsorize=(0.5,)), lambda: Mean("y", winsorize="x"),  # type: ignore[arg-type]
        lambda: Retention("t", as_of="yesterdays"), lambda: Retention("t", as_of=pd.NaT),
        lambda: Retention("t", as_of=float("nan")), lambda: Retention("t", float("inf")),
    ],
)  # fmt: skip
def test_bad_options_of_metrics_are_named(metric: Callable[[], Metric]) -> None:
    with pytest.raises(CausalRecError, match=r"(winsorize|as_of|days) is .*expected"):
        metric()


@pytest.mark.parametrize("as_of", [date(2025, 1, 30), np.datetime64("2025-01-30"), "2025-01-30"])
def test_the_end_of_observation_is_a_date_of_any_kind(as_of: Any) -> None:
    found = collect(design({"kept": Retention("seen", 7, as_of=as_of)}, exposed_at="exposed"), make_frame(300))
    assert found.as_of == {"kept": pd.Timestamp("2025-01-30").value / 1000}


def changed(**columns: Any) -> pd.DataFrame:
    return make_frame(300).assign(**columns)


BAD: dict[str, tuple[dict[str, Any], pd.DataFrame, type[CausalRecError], str]] = {
    "one arm": ({}, changed(arm="A"), TreatmentError, "found only 'A'"),
    "unknown control": ({"control": "Aa"}, changed(), TreatmentError, "control='Aa' is not among the arms"),
    "control of another type": ({"control": "0", "variant": "age"}, changed(), TreatmentError, r"Write control=0\."),
    "odd name": ({"variant": "my arm"}, changed(**{"my arm": ["A", "B", None] * 100}), TreatmentError,
                 r"""where='"my arm" IS NOT NULL'"""),
    "no rows": ({"where": "age > 9"}, changed(), EmptyTableError, "0 rows"),
    "no arm": ({}, changed(arm=["A", "B", None] * 100), TreatmentError, "100 of 300 rows have no 'arm'"),
    "missing column": ({"segments": "devise"}, changed(), ColumnError, "Did you mean 'device'"),
    "unknown pool": ({"pool": {"x": ["D"]}}, changed(), TreatmentError, "pool names the arm 'D'"),
    "trigger": ({"trigger": "age"}, changed(), ColumnError, "trigger 'age' is integer; expected a boolean"),
    "day": ({"day": "spend"}, changed(), ColumnError, "day 'spend' is float; expected whole days"),
    "missing": ({}, changed(spend=[np.nan] + [1.0] * 299), OutcomeError, "1 of .* rows in arm .* missing='drop'"),
    "infinite": ({}, changed(spend=[np.inf] + [1.0] * 299), OutcomeError, "'spend': 1 of"),
    "text": ({}, changed(spend="1"), ColumnError, "'spend' is string; expected numbers"),
    "missing house": ({"variant": "house_arm", "cluster": "house"}, changed(house=[None] + [3] * 299, house_arm="A"),
                      TreatmentError, "1 rows have no 'house'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    options, frame, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        collect(design({"spend": Mean("spend")}, **options), frame)


def test_missing_covariates_have_a_remedy_of_their_own() -> None:
    frame = changed(before=[np.nan] + [1.0] * 299)
    with pytest.raises(OutcomeError, match=r"covariate 'before' of metric 'm': 1 of .* does not look at the arm"):
        collect(design({"m": Mean("spend", covariates=["before"], missing="drop")}), frame)


@pytest.mark.parametrize("kind", ["polars", "parquet"])
def test_nan_in_a_file_is_found_although_its_footer_does_not_tell(kind: str, tmp_path: Path) -> None:
    import polars as pl

    for values in ([1.0, 2.0, float("nan"), 3.0], [1.0, 1.0, float("nan"), 1.0]):
        table: Any = pl.DataFrame({"arm": ["A", "A", "B", "B"], "spend": values})
        if kind == "parquet":
            table.write_parquet(tmp_path / "t.parquet")
            table = tmp_path / "t.parquet"
        with pytest.raises(OutcomeError, match="1 of 2 rows in arm 'B'"):
            collect(design({"spend": Mean("spend")}), table)


def of_arms(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"arm": ["A", "B"] * 4, "c": [0, 1] * 4, **columns})


NAN: dict[str, tuple[Metric, str | None, list[float] | None]] = {
    "winsorised": (Mean("y", winsorize=0.9), None, None),
    "of clusters": (Mean("y"), "c", None),
    "of a ratio": (Ratio("y", "c"), None, None),
    "dropped": (Mean("y", missing="drop"), None, [2.0, 2.0]),
    "winsorised and dropped": (Mean("y", winsorize=0.9, missing="drop"), None, [2.0, 2.0]),
    "zero": (Mean("y", missing="zero"), None, [1.0, 2.0]),
    "winsorised zero": (Mean("y", winsorize=0.9, missing="zero"), None, [1.0, 2.0]),
    "of clusters, zero": (Mean("y", missing="zero"), "c", [4.0, 8.0]),
}


@pytest.mark.parametrize("case", NAN)
@pytest.mark.parametrize("other", [3.0, 1.0])
def test_nan_in_parquet_is_what_it_is_in_a_frame(case: str, other: float, tmp_path: Path) -> None:
    metric, cluster, means = NAN[case]
    frame = of_arms(y=[np.nan, 1.0, 2.0, other] * 2)
    if other == 1.0:  # a footer that says that all numbers are 1
        frame["y"] = frame["y"].where(frame["y"].isna(), 1.0)
        means = means and [m / 2 for m in means]
    frame.to_parquet(tmp_path / "t.parquet")
    for table in (frame, tmp_path / "t.parquet"):
        experiment = design({"m": metric}, cluster=cluster)
        if means is None:
            with pytest.raises(OutcomeError, match=r"2 of 4 rows in arm 'A'|1 of 1 clusters in arm 'A'"):
                collect(experiment, table)
            continue
        cells = collect(experiment, table).cells[ALL]
        assert [cells[arm, None].moments["m"].mean_of("value") for arm in "AB"] == means


ODD_ARMS: dict[str, list[Any]] = {
    "quotes": ["it's", 'a\\b"c'], "empty": ["", "é\n😀"], "numbers": [7, -3], "floats": [0.5, 1e20],
    "booleans": [False, True], "dates": [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02")],
    "categories": ["x", "y"],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_ARMS)
def test_arms_of_any_kind(kind: str, engine: Any) -> None:
    frame = pd.DataFrame({"arm": ODD_ARMS[kind] * 10, "y": np.arange(20.0)})
    if kind == "categories":
        frame["arm"] = frame["arm"].astype("category")
    engine.register("t", frame)
    found = collect(design({"y": Mean("y"), "q": Quantile("y")}, control=ODD_ARMS[kind][0]), (engine, "t"))
    assert list(found.arms) == ODD_ARMS[kind]
    for k, cell in enumerate(found.cells[ALL].values()):
        assert (cell.moments["y"].mean_of("value"), cell.quantiles["q"].value) == (9.0 + k, 9.0 + k)


ODD_NAMES = ['my "col"', "select", "UPPER", "back`tick", "semi;--", "u", "n", "x0", "a0", "s0", "split", "flaw", "y"]


@pytest.mark.parametrize("cluster", [None, "u"])
def test_columns_of_any_name(cluster: str | None, engine: Any) -> None:
    """Some of them are names that our queries use themselves."""
    frame = pd.DataFrame({name: np.arange(40.0) + k for k, name in enumerate(ODD_NAMES)})
    frame = frame.assign(u=np.arange(40) // 2, d0=np.arange(40) // 20, g0=["p", "q"] * 20)
    frame["group"] = np.where(frame["u"] % 2, "B", "A")
    engine.register("t", frame)
    metrics = {name: Mean(name) for name in ODD_NAMES if name != "u"}
    found = collect(design(metrics, variant="group", cluster=cluster, segments=["g0", "d0"]), (engine, "t"))
    for k, name in enumerate(ODD_NAMES):
        if name != "u":
            per_cluster = 1 if cluster is None else 2
            moments = found.cells[ALL]["A", None].moments[name]
            assert moments.mean_of("value") == per_cluster * (18.5 + k)


ODD_VALUES: dict[str, tuple[Any, float]] = {
    "booleans": ([True, False] * 4, 1.0), "wide": ([2**52, 0] * 4, 2.0**52),
    "decimals": ([Decimal("0.10"), Decimal("0.20")] * 4, 0.1),
    "float32": (np.array([0.5, 1.5] * 4, dtype=np.float32), 0.5),
    "uint8": (np.array([255, 1] * 4, dtype=np.uint8), 255.0),
    "nullable": (pd.array([3, 4] * 4, dtype="Int64"), 3.0), "all the same": ([3.0] * 8, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_VALUES)
def test_values_of_any_kind(kind: str, engine: Any) -> None:
    values, mean = ODD_VALUES[kind]
    engine.register("t", of_arms(y=values))
    moments = collect(design({"y": Mean("y")}), (engine, "t")).cells[ALL]["A", None].moments["y"]
    assert (moments.mean_of("value"), moments.var_of("value")) == (mean, 0.0)


WIDE = {"int64": 2**62, "the least": -(2**63), "uint64": 2**64 - 10}


@pytest.mark.parametrize("kind", WIDE)
def test_whole_numbers_beyond_doubles(kind: str, engine: Any) -> None:
    low, small = WIDE[kind], np.random.default_rng(5).integers(0, 9, 400)
    arm = np.where(np.arange(400) % 2, "B", "A")
    values = np.array([low + int(k) for k in small], dtype=np.uint64 if low > 2**63 else np.int64)
    if engine.dialect.one_scan and low > 2**63:
        pytest.skip("Spark has no such type")
    engine.register("t", pd.DataFrame({"arm": arm, "c": np.arange(400) // 20 * 2 + np.arange(400) % 2, "y": values}))
    refused = pytest.raises(OutcomeError, match=r"'y': found whole numbers about .*Subtract a constant")
    with refused:
        collect(design({"y": Mean("y")}, cluster="c"), (engine, "t"))
    if engine.dialect.one_scan:
        with refused:
            collect(design({"y": Mean("y")}), (engine, "t"))
        return
    moments = collect(design({"y": Mean("y")}), (engine, "t")).cells[ALL]["A", None].moments["y"]
    assert moments.mean_of("value") == float(low)
    assert moments.var_of("value") == pytest.approx(np.var(small[arm == "A"], ddof=1), rel=1e-12)


def test_times_without_an_exposure_are_refused() -> None:
    with pytest.raises(ColumnError, match="Give the experiment exposed_at="):
        collect(design({"kept": Retention("seen", 7)}), make_frame(300))


@pytest.mark.parametrize("table", [3, {"arm": [1]}, None])
def test_what_is_no_table_is_refused(table: Any) -> None:
    with pytest.raises(EngineError, match="expected a pandas, Polars"):
        collect(design(), table)


def test_a_cell_knows_its_size() -> None:
    cell = collect(design({"split": SampleRatio()}), make_frame()).cells[ALL]["A", None]
    assert cell == Cell(int((make_frame()["arm"] == "A").sum()))
