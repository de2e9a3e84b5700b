"""What is Spark's own: sessions, settings, frames that stay on the cluster."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from causalrec.engines import Engine, LocalEngine, SparkEngine
from causalrec.exceptions import EngineError

pytestmark = pytest.mark.spark


def test_a_session_it_did_not_start_is_left_as_it_was(spark_session: Any) -> None:
    spark_session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    spark_session.sql("SELECT 1 AS mine").createOrReplaceTempView("theirs")
    try:
        with SparkEngine(session=spark_session) as engine:
            engine.register("theirs", pd.DataFrame({"a": [1]}))
            assert engine.columns("theirs") == {"a": "integer"}
            assert engine.frame("SELECT 1").sparkSession.conf.get("spark.sql.session.timeZone") == "UTC"
        assert spark_session.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
        assert spark_session.table("theirs").columns == ["mine"]
        assert spark_session.sql("SELECT 1 AS one").toArrow().to_pydict() == {"one": [1]}
    finally:
        spark_session.conf.set("spark.sql.session.timeZone", "UTC")
        spark_session.catalog.dropTempView("theirs")


def test_a_session_that_runs_already_is_taken(spark_session: Any) -> None:
    with SparkEngine() as engine:
        found = engine.frame("SELECT 1 AS one").sparkSession
        assert found.sparkContext.applicationId == spark_session.sparkContext.applicationId
    assert spark_session.sql("SELECT 1 AS one").toArrow().to_pydict() == {"one": [1]}


def test_spark_frames_stay_on_spark(spark_session: Any) -> None:
    theirs = spark_session.range(5).selectExpr("id AS user", "timestamp_micros(id) AS at")
    with SparkEngine(session=spark_session) as engine:
        engine.register("events", theirs)
        assert engine.columns("events") == {"user": "integer", "at": "timestamptz"}
        mine = engine.frame("SELECT user FROM events WHERE user > 2")
        engine.register("some", mine)
        assert sorted(row.user for row in mine.collect()) == [3, 4]
        found = engine.collect(f"SELECT SUM({engine.dialect.epoch_us('at')}) AS s FROM events JOIN some USING (user)")
        assert found["s"].tolist() == [7]
        assert spark_session.catalog.listTables("global_temp") == []


def test_names_are_of_the_engine_alone(spark_session: Any) -> None:
    with SparkEngine(session=spark_session) as one, SparkEngine(session=spark_session) as other:
        one.register("t", pd.DataFrame({"a": [1]}))
        with pytest.raises(EngineError, match="no table named 't'"):
            other.columns("t")


def test_sql_is_strict_and_typed_as_on_the_local_engine(spark_session: Any) -> None:
    with SparkEngine(session=spark_session) as engine:
        with pytest.raises(EngineError, match="CAST_INVALID_INPUT"):
            engine.collect("SELECT CAST('x' AS INT) AS i")
        found = engine.frame("SELECT TIMESTAMP '2025-01-01 00:00:00' AS t")
        assert found.schema["t"].dataType.typeName() == "timestamp_ntz"


def test_options(spark_session: Any) -> None:
    options = {"spark.sql.shuffle.partitions": 3, "spark.sql.cbo.enabled": True}
    with SparkEngine(session=spark_session, options=options) as engine:
        conf = engine.frame("SELECT 1").sparkSession.conf
        assert (conf.get("spark.sql.shuffle.partitions"), conf.get("spark.sql.cbo.enabled")) == ("3", "true")
    with pytest.raises(EngineError, match="refuses an option"):
        SparkEngine(session=spark_session, options={"spark.sql.warehouse.dir": "elsewhere"})
    with pytest.raises(EngineError, match="both given"):
        SparkEngine("local[1]", session=spark_session)


def test_nothing_is_left_behind(spark_session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(Path(tempfile.gettempdir()).glob("causalrec-spark-*"))
    java_home = os.environ.get("JAVA_HOME")
    with SparkEngine(session=spark_session) as engine:
        engine.register("t", pd.DataFrame({"a": range(3_000_000)}))
        assert engine.collect("SELECT COUNT(*) AS n FROM t")["n"].tolist() == [3_000_000]
    assert set(Path(tempfile.gettempdir()).glob("causalrec-spark-*")) <= before
    assert list(tmp_path.iterdir()) == []
    assert os.environ.get("JAVA_HOME") == java_home


def test_a_table_of_another_database_gets_a_plain_name(spark_session: Any, tmp_path: Path) -> None:
    spark_session.sql("CREATE DATABASE shop LOCATION '{}'".format(tmp_path / "shop"))
    try:
        spark_session.range(3).write.saveAsTable("shop.orders")
        with SparkEngine(session=spark_session) as engine:
            with pytest.raises(EngineError, match=r"create_view\('orders', 'SELECT \* FROM shop.orders'\)"):
                engine.columns("shop.orders")
            engine.create_view("orders", "SELECT * FROM shop.orders")
            assert engine.columns("orders") == {"id": "integer"}
            engine.register("orders", engine.frame("SELECT * FROM shop.orders WHERE id > 0"))
            assert engine.collect("SELECT SUM(id) AS s FROM orders")["s"].tolist() == [3]
    finally:
        spark_session.sql("DROP DATABASE shop CASCADE")


def test_each_value_of_a_partition_is_one_file(spark_session: Any, tmp_path: Path) -> None:
    with SparkEngine(session=spark_session) as engine:
        sql = "SELECT id, CAST(id % 5 AS STRING) AS `the part`, 1 AS one FROM range(0, 1000, 1, 7)"
        engine.write_parquet(sql, tmp_path / "out", partition_by=["the part", "one"])
    found = sorted(str(p.parent.relative_to(tmp_path / "out")) for p in tmp_path.rglob("*.parquet"))
    assert found == [f"the part={i}/one=1" for i in range(5)]


EVERY_TYPE = pa.table(
    {
        "i": pa.array([1, 2, 3], pa.int32()),
        "long": [2**60 + 1, None, -5],
        "real": [0.1, None, -1e300],
        "flag": [True, None, False],
        "text": ["ü 😀 'x'", None, ""],
        "price": pa.array([Decimal("12.34"), None, Decimal("-0.01")], pa.decimal128(12, 2)),
        "naive": pa.array([-1, None, 1_761_438_600_000_001], pa.timestamp("us")),
        "zoned": pa.array([-1, None, 1_761_438_600_000_001], pa.timestamp("us", "UTC")),
        "date": [dt.date(1969, 12, 31), None, dt.date(2025, 10, 26)],
        "day": [dt.date(2025, 1, 1), dt.date(2025, 1, 2), dt.date(2025, 1, 2)],
    }
)


@pytest.mark.parametrize("partition_by", [(), ("day",)])
@pytest.mark.parametrize("writer", ["local", "spark"])
def test_each_engine_reads_what_the_other_writes(
    spark_session: Any, tmp_path: Path, writer: str, partition_by: tuple[str, ...]
) -> None:
    with SparkEngine(session=spark_session) as spark, LocalEngine(threads=1) as local:
        by: Engine = spark if writer == "spark" else local
        by.register("t", EVERY_TYPE)
        by.write_parquet("SELECT * FROM t", tmp_path / "t", partition_by=partition_by)
        spark.register("read", tmp_path / "t")
        local.register("read", tmp_path / "t")
        assert spark.columns("read") == local.columns("read") == by.columns("t")
        expected = by.collect("SELECT * FROM t ORDER BY i")
        for engine in (spark, local):
            pd.testing.assert_frame_equal(engine.collect("SELECT * FROM read ORDER BY i"), expected)


def test_times_as_spark_writes_them_by_default(spark_session: Any, tmp_path: Path) -> None:
    times = spark_session.sql("SELECT timestamp_micros(-1) AS t UNION ALL SELECT timestamp_micros(1761438600000001)")
    spark_session.conf.set("spark.sql.parquet.outputTimestampType", "INT96")
    times.write.parquet(str(tmp_path / "t"))
    spark_session.conf.unset("spark.sql.parquet.outputTimestampType")
    with SparkEngine(session=spark_session) as spark, LocalEngine(threads=1) as local:
        for engine in (spark, local):
            engine.register("t", tmp_path / "t")
            assert engine.columns("t") == {"t": "timestamp"}
            found = engine.collect(f"SELECT {engine.dialect.epoch_us('t')} AS us FROM t ORDER BY t")
            assert found["us"].tolist() == [-1, 1_761_438_600_000_001]


def quiet(said: list[str]) -> bool:
    """Whether Spark said nothing; of its vector module Java itself always warns."""
    return all("incubator modules" in line for line in said)


@pytest.mark.slow
def test_executors_in_processes_of_their_own(cluster_job: Callable[[str], dict[str, Any]]) -> None:
    found = cluster_job("smoke")
    assert (found["executors"], found["left"]) == (2, 0)
    assert found["sums"] == [1_000, 3_000_000 * 2_999_999 // 2]
    assert found["files"] == 3
    assert found["made"] == ["out"]
    assert quiet(found["said"])


@pytest.mark.slow
def test_a_cluster_after_threads(cluster_job: Callable[[str], dict[str, Any]]) -> None:
    found = cluster_job("twice")
    assert (found["sums"], found["executors"], found["made"]) == ([[10], [10]], 2, [])
    assert quiet(found["said"])
