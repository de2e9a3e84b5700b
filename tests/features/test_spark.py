"""Features on Spark: frames stay there, partitions never show, and an executor may die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from causalrec.engines import LocalEngine, SparkEngine
from causalrec.features import Aggregation, FeatureSet, FeatureStore

from ..cluster_jobs import asked, log

pytestmark = pytest.mark.spark

EVERYTHING = FeatureSet(
    "everything", ("user",), "events", "at",
    tuple(
        Aggregation(op, column, window)
        for op, column, window in [
            ("count", None, "3d"), ("sum", "amount", "3d"), ("mean", "amount", None), ("min", "amount", "3d"),
            ("max", "item", None), ("std", "item", "3d"), ("first", "amount", "3d"), ("last", "item", None),
            ("n_unique", "item", "3d"), ("recency", None, None),
        ]
    ),
)  # fmt: skip
DAILY = FeatureSet("daily", ("user",), "events", "at", (Aggregation("sum", "amount", "7d", name="sum_7d"),))


def tables(n_users: int = 8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Few users, so that some have many events and ask often; ties and doubled rows are among them."""
    events = log(3_000, n_users)
    events["at"] = events["at"].dt.floor("h")
    light = log(300, 100).assign(user=lambda t: t["user"] + 1_000)
    return pd.concat([events, events[:50], light], ignore_index=True), asked(400, n_users + 40)


def sorted_rows(frame: Any) -> pd.DataFrame:
    """A Spark DataFrame on this side, in an order of its own."""
    return frame.toArrow().to_pandas().sort_values(["user", "event_time"], ignore_index=True)


@pytest.fixture
def spark(spark_session: Any) -> Iterator[SparkEngine]:
    with SparkEngine(session=spark_session) as engine:
        yield engine


def on_spark(spark_session: Any, frame: pd.DataFrame) -> Any:
    """A DataFrame of the user's own session."""
    with SparkEngine(session=spark_session) as other:
        other.register("t", frame)
        other.frame("SELECT * FROM t").createOrReplaceGlobalTempView("handed")
    try:
        return spark_session.table("global_temp.handed")
    finally:
        spark_session.catalog.dropGlobalTempView("handed")


def test_frames_stay_on_spark(spark_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    events, spine = (on_spark(spark_session, t) for t in tables())
    spine.createOrReplaceTempView("spine")  # the user's own, as are its settings
    before = {row.key: row.value for row in spark_session.sql("SET").collect()}
    collected = []
    collect = SparkEngine.collect

    def recorded(engine: SparkEngine, sql: str) -> pd.DataFrame:
        collected.append(collect(engine, sql))
        return collected[-1]

    monkeypatch.setattr(SparkEngine, "collect", recorded)
    try:
        with SparkEngine(session=spark_session) as engine:
            engine.register("events", events)
            wide = FeatureStore(engine).training_frame(spine, [EVERYTHING, DAILY])
            views = [t.name for t in engine.frame("SELECT 1").sparkSession.catalog.listTables() if t.isTemporary]
            assert views == ["events"]
        assert [len(frame) for frame in collected] == [1] * len(collected)
        assert wide.columns == [*spine.columns, *EVERYTHING.feature_names, "sum_7d"]
        assert wide.count() == spine.count()
        assert [t.name for t in spark_session.catalog.listTables()] == ["spine"]
        assert {row.key: row.value for row in spark_session.sql("SET").collect()} == before
    finally:
        spark_session.catalog.dropTempView("spine")


def test_both_engines_agree(spark: SparkEngine, spark_session: Any) -> None:
    events, spine = tables()
    spark.register("events", events)
    found = sorted_rows(FeatureStore(spark).training_frame(on_spark(spark_session, spine), EVERYTHING))
    with LocalEngine(threads=1) as local:
        local.register("events", events)
        expected = FeatureStore(local).training_frame(spine, EVERYTHING)
    expected = expected.sort_values(["user", "event_time"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-9, atol=0)


@pytest.mark.slow
def test_partitions_do_not_matter(spark: SparkEngine, spark_session: Any) -> None:
    events, spine = (on_spark(spark_session, t) for t in tables())
    layouts = [
        (events.coalesce(1), spine.coalesce(1)),
        (events.repartition(7).persist(), spine.repartition(200, "event_time")),
        (events.repartition(200, "item"), spine.repartition(7, "user")),
        (events.orderBy("amount"), spine.orderBy("event_time", ascending=False)),
    ]
    found = []
    for log_of, asking in layouts:
        spark.register("events", log_of)
        wide = FeatureStore(spark).training_frame(asking, EVERYTHING)
        log_of.unpersist()
        found.append(sorted_rows(wide))
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], check_exact=True)


def test_rows_asked_twice_and_without_a_key(spark: SparkEngine) -> None:
    spark.register("events", spark.frame("SELECT 1 AS user, TIMESTAMP '2025-01-01' AS at, 2.5e0 AS amount"))
    rows = "(1, TIMESTAMP '2025-01-02'), (1, TIMESTAMP '2025-01-02'), (NULL, TIMESTAMP '2025-01-02')"
    spine = spark.frame(f"SELECT * FROM VALUES {rows} AS t(user, event_time)")
    wide = sorted_rows(FeatureStore(spark).training_frame(spine, DAILY))
    assert wide["sum_7d"].tolist() == [2.5, 2.5, 0.0]


@pytest.mark.slow
def test_a_user_with_a_million_events(spark: SparkEngine) -> None:
    spark.create_view(
        "events",
        "SELECT 1 AS user, timestamp_micros(1735689600000000 + id * 7000000) AS at, CAST(id % 10 AS DOUBLE) AS amount "
        "FROM range(1000000)",
    )
    spark.create_view(
        "spine", "SELECT 1 AS user, timestamp_micros(1735689600000000 + id * 350000000) AS event_time FROM range(20000)"
    )
    features = FeatureSet(
        "skew", ("user",), "events", "at",
        (Aggregation("count", window="30d", name="n"), Aggregation("sum", "amount", "30d", name="s")),
    )  # fmt: skip
    wide = FeatureStore(spark).training_frame("spine", features)
    wide.createOrReplaceTempView("wide")
    found = wide.sparkSession.sql("SELECT COUNT(*) AS rows, SUM(n) AS n, SUM(s) AS s, MAX(n) AS most FROM wide")
    row = found.toArrow().to_pylist()[0]
    # An event every 7 s, asked every 350 s: row k has 50 k events before it, of the last 30 days at most 370,286.
    most = -(-30 * 86_400 // 7)
    assert row["most"] in (most - 1, most)
    expected = sum(min(50 * k, (30 * 86_400) // 7 if 50 * k > most else most) for k in range(20_000))
    assert (row["rows"], row["n"]) == (20_000, expected)


@pytest.mark.slow
def test_an_executor_that_is_killed_changes_nothing(cluster_job: Callable[[str], dict[str, Any]]) -> None:
    found = cluster_job("killed")
    for job in ("frame", "kept"):
        assert found[job]["rows"] > 0
        assert (found[job]["lost"], found[job]["same"]) == (1, True), job
