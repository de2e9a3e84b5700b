"""What is Spark's own: sessions, settings, frames that stay on the cluster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalrec.engines import SparkEngine
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
