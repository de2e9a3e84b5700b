"""The store on disk: killed at any moment, shared by processes, damaged, left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow.dataset as pads
import pytest

from causalrec.engines import LocalEngine
from causalrec.exceptions import EngineError, StoreError
from causalrec.features import Aggregation, FeatureSet, FeatureStore, materialize, registry
from causalrec.features.registry import Version, list_versions

START, END = "2025-03-01", "2025-03-08"
FEATURES = FeatureSet("n", ("user",), "events", "at", (Aggregation("sum", "v", "2d", name="n"),))
USERS = 5


def make_events(v: float = 1.0) -> pd.DataFrame:
    at = pd.date_range("2025-02-28", periods=10).as_unit("us")
    return pd.DataFrame([(user, t, v * (user + 1)) for user in range(USERS) for t in at], columns=["user", "at", "v"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    with LocalEngine(threads=1) as engine:
        engine.register("events", make_events())
        yield FeatureStore(engine, tmp_path)


def expected(store: FeatureStore, features: FeatureSet = FEATURES) -> pd.DataFrame:
    """All users at all days, by a plain training frame."""
    days = pd.MultiIndex.from_product([pd.date_range(START, END, inclusive="left").as_unit("us"), range(USERS)])
    asked = days.to_frame(index=False, name=["event_time", "user"])[["user", "event_time"]]
    frame: pd.DataFrame = store.training_frame(asked, features)
    return frame


def left_behind(path: Path) -> set[str]:
    """What is on disk and not in the registry."""
    days = json.loads(registry_of(path).read_text())["days"].values()
    known = {
        registry_of(path).name,
        f".{path.name}.lock",
        *(f"{path.name}/{file}" for d in days for file in d["files"]),
    }
    found = [p for p in path.parent.rglob("*") if p.is_file() and path.name in str(p)]
    return {str(p.relative_to(path.parent)) for p in found} - known


def path_of(store: FeatureStore) -> Path:
    assert store.root is not None
    return store.root / "n" / FEATURES.spec_hash[:8]


def registry_of(path: Path) -> Path:
    return path.with_name(f"_{path.name}.json")


# ---- killed ------------------------------------------------------------------------------------------------------

PRELUDE = """
import importlib.util, os, pathlib, signal, time
spec = importlib.util.spec_from_file_location("t", {file!r})
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)
from causalrec.features import materialize, registry
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""
MOMENTS = {
    "in the scratch directory": """
def dying(self, sql, path, **options):
    path.mkdir(parents=True)
    (path / "half.parquet").write_bytes(b"PAR1half")
    die()
t.LocalEngine.write_parquet = dying
""",
    "before the commit": "registry.Version.commit = lambda *arguments: die()",
    "between the moves": """
rename, left = pathlib.Path.rename, [3]
def dying(self, target):
    if not left[0]:
        die()
    left[0] -= 1
    return rename(self, target)
pathlib.Path.rename = dying
""",
    "before the registry": "registry.Version._write = lambda *arguments: die()",
    "in the registry": """
def dying(self, record):
    with registry.new_file(self.registry) as scratch:
        scratch.write_text("{{")
        die()
registry.Version._write = dying
""",
    "after the registry": "registry.Version._remove = lambda *arguments: die()",
    "between the removals": """
unlink, left = pathlib.Path.unlink, [3]
def dying(self, missing_ok=False):
    if self.suffix == ".parquet":
        if not left[0]:
            die()
        left[0] -= 1
    return unlink(self, missing_ok=missing_ok)
pathlib.Path.unlink = dying
""",
    "after the second batch": """
materialize.BATCH_DAYS, left = 2, [2]
commit = registry.Version.commit
def dying(*arguments):
    commit(*arguments)
    left[0] -= 1
    if not left[0]:
        die()
registry.Version.commit = dying
""",
}  # fmt: skip
RUN = """
with t.LocalEngine(threads=1) as engine:
    engine.register("events", t.make_events({v}))
    t.FeatureStore(engine, pathlib.Path({root!r})).materialize(t.FEATURES, t.START, t.END)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(
    ("had", "moment"),
    [
        *(pytest.param(True, m, marks=() if m == "in the registry" else pytest.mark.slow) for m in MOMENTS),
        *(pytest.param(False, m, marks=pytest.mark.slow) for m in ("before the commit", "in the registry")),
    ],
)
def test_a_kill_leaves_what_was_there_and_the_next_run_completes(store: FeatureStore, had: bool, moment: str) -> None:
    """The values change, and the run that writes the new ones is killed."""
    assert store.root is not None
    old = expected(store)
    path = store.root / "n" / FEATURES.spec_hash[:8]
    if had:
        store.materialize(FEATURES, START, END)
    code = (PRELUDE + MOMENTS[moment] + RUN).format(file=__file__, v=10.0, root=str(store.root))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    store.engine.register("events", make_events(10.0))
    new = expected(store)
    finished = {"after the registry": 7, "between the removals": 7, "after the second batch": 4}.get(moment, 0)
    if had:
        kept = store.load(FEATURES)
        split = finished * USERS
        pd.testing.assert_frame_equal(kept, pd.concat([new[:split], old[split:]]))
    else:
        with pytest.raises(StoreError, match="not materialised"):
            store.load(FEATURES)
    assert store.materialize(FEATURES, START, END).days_computed == 7 - finished
    pd.testing.assert_frame_equal(store.load(FEATURES), new)
    assert left_behind(path) == set()
    assert store.materialize(FEATURES, START, END).days_computed == 0
    store.engine.register("kept", path)
    assert len(store.engine.collect("SELECT * FROM kept")) == 7 * USERS


def test_what_a_living_process_writes_is_left_alone(store: FeatureStore) -> None:
    path = store.materialize(FEATURES, START, END).path
    with Version(path).scratch() as scratch:
        (scratch / "half.parquet").write_bytes(b"half")
        store.materialize(FEATURES, START, END)
        assert (scratch / "half.parquet").exists()
        # A directory without an owner's lock is one whose owner is gone.
        gone = path.with_name(f".{path.name}.gone.tmp")
        gone.mkdir()
        (path / "day=2025-03-02" / "stray.parquet").touch()
        (path / "day=2024-01-01").mkdir()
        (path / "day=2024-01-01" / "stray.parquet").touch()
        store.materialize(FEATURES, START, END)
        assert not gone.exists()
        assert not (path / "day=2024-01-01").exists()
    assert left_behind(path) == set()


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_an_interrupt_waits_for_the_end_of_a_commit(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, kind: type[BaseException]
) -> None:
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    moved = Version._moved

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(number)
        return moved(*arguments)

    store.materialize(FEATURES, START, "2025-03-03")
    store.engine.register("events", make_events(10.0))
    monkeypatch.setattr(Version, "_moved", interrupted)
    with pytest.raises(kind):
        store.materialize(FEATURES, START, END)
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    monkeypatch.undo()
    pd.testing.assert_frame_equal(store.load(FEATURES), expected(store))
    done = store.materialize(FEATURES, START, END)
    assert done.days_computed == 0
    assert left_behind(done.path) == set()


# ---- several at once ---------------------------------------------------------------------------------------------

BESIDE = """
materialize.BATCH_DAYS = {batch}
with t.LocalEngine(threads=1) as engine:
    engine.register("events", t.make_events())
    store = t.FeatureStore(engine, pathlib.Path({root!r}))
    pathlib.Path({ready!r}).touch()
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.01)
    for features in {sets}:
        print(store.materialize(features, {start!r}, {end!r}).days_computed)
"""
OTHER = replace(FEATURES, aggregations=(Aggregation("sum", "v", "3d", name="n"),))


def run_at_once(tmp_path: Path, root: Path, runs: list[dict[str, Any]]) -> list[list[int]]:
    """Start processes that wait for each other, and give the numbers of days that each computed."""
    go, started = tmp_path / "go", []
    go.unlink(missing_ok=True)
    for i, run in enumerate(runs):
        ready = tmp_path / f"ready{i}"
        ready.unlink(missing_ok=True)
        values = {"batch": 2, "start": START, "end": END, "sets": "[t.FEATURES]", **run}
        code = (PRELUDE + BESIDE).format(file=__file__, root=str(root), ready=str(ready), go=str(go), **values)
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    while not all((tmp_path / f"ready{i}").exists() or p.poll() is not None for i, p in enumerate(started)):
        time.sleep(0.01)
    go.touch()
    found = []
    for process in started:
        out, problems = process.communicate(timeout=120)
        assert process.returncode == 0, problems.decode()
        found.append([int(line) for line in out.split()])
    return found


@pytest.mark.parametrize(
    ("runs", "rounds"),
    [
        ([{}, {}], 1),
        *(
            pytest.param(runs, 2, marks=pytest.mark.slow)  # the second finds the days, and no registry
            for runs in (
                [{}, {}],
                [{"start": "2025-03-01", "end": "2025-03-06"}, {"start": "2025-03-03", "end": END, "batch": 1}],
                [{"sets": "[t.FEATURES, t.OTHER]"}, {"sets": "[t.OTHER, t.FEATURES]", "batch": 3}],
            )
        ),
    ],
)
def test_two_processes_make_what_one_makes(
    store: FeatureStore,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    runs: list[dict[str, Any]],
    rounds: int,
) -> None:
    aside = tmp_path_factory.mktemp("aside")
    for _ in range(rounds):
        done = run_at_once(aside, tmp_path, runs)
        sets = [FEATURES, OTHER] if len(done[0]) == 2 else [FEATURES]
        for features in sets:
            pd.testing.assert_frame_equal(store.load(features), expected(store, features))
            assert store.materialize(features, START, END).days_computed == 0
            assert left_behind(tmp_path / "n" / features.spec_hash[:8]) == set()
        assert sum(map(sum, done)) >= 7 * len(sets)
        for file in tmp_path.glob("n/_*.json"):
            file.unlink()


def test_a_reader_sees_all_old_or_all_new(store: FeatureStore) -> None:
    """While the values change again and again, each load has seven days, each all of one run's values."""
    store.materialize(FEATURES, START, END)
    stop, problems = threading.Event(), []

    def write() -> None:
        try:
            with LocalEngine(threads=1) as engine:
                for i in range(15):
                    engine.register("events", make_events(float(i + 2)))
                    FeatureStore(engine, store.root).materialize(FEATURES, START, END)
        except Exception as error:
            problems.append(error)
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        values = store.load(FEATURES)
        assert len(values) == 7 * USERS
        ratio = values["n"] / ((values["user"] + 1) * values["event_time"].dt.day.map(lambda d: 1.0 if d == 1 else 2.0))
        assert ratio.nunique() == 1, ratio.unique()
        seen.add(ratio.iloc[0])
    writer.join()
    assert not problems
    assert seen


# ---- full, and read-only -----------------------------------------------------------------------------------------

FULL = [
    (LocalEngine, "write_parquet", EngineError('IO Error: Async write failed: {"exception_type":"IO","errno":"28"}')),
    (LocalEngine, "write_parquet", EngineError("the query failed: java.io.IOException: No space left on device")),
    (Path, "rename", OSError(28, "No space left on device")),
    (Version, "_write", OSError(28, "No space left on device")),
]


@pytest.mark.parametrize(("place", "name", "error"), FULL)
def test_a_full_disk_keeps_what_was_done(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, place: type, name: str, error: Exception
) -> None:
    real, left = getattr(place, name), [5 if place is Path else 2]

    def filling(*arguments: Any, **options: Any) -> Any:
        if not left[0]:
            raise error
        left[0] -= 1
        return real(*arguments, **options)

    monkeypatch.setattr(materialize, "BATCH_DAYS", 2)
    monkeypatch.setattr(place, name, filling)
    with pytest.raises(StoreError, match=rf"no space left in {re.escape(str(store.root))}.* 4 of 7 days are kept"):
        store.materialize(FEATURES, START, END)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(store.load(FEATURES), expected(store)[: 4 * USERS])
    assert left_behind(path_of(store)) == set()
    assert store.materialize(FEATURES, START, END).days_computed == 3
    pd.testing.assert_frame_equal(store.load(FEATURES), expected(store))


def test_nothing_is_written_where_all_is_there(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for features in (OTHER, FEATURES):
        store.materialize(features, START, END)

    def read_only(version: Version) -> None:
        raise StoreError(f"cannot write {version.path}: Read-only file system.")

    monkeypatch.setattr(Version, "_locked", read_only)
    for features in (FEATURES, OTHER):  # the latter would become the newest, if that could be written
        assert store.materialize(features, START, END).days_reused == 7
    with pytest.raises(StoreError, match=r"cannot write .*Read-only"):
        store.materialize(FEATURES, START, "2025-03-09")


def test_a_name_stands_for_the_version_that_was_last_asked_for(store: FeatureStore) -> None:
    first, second = (store.materialize(features, START, END).path for features in (FEATURES, OTHER))
    pd.testing.assert_frame_equal(store.load("n"), expected(store, OTHER))
    before = contents(first.parent)
    assert store.materialize(FEATURES, START, END).days_computed == 0
    pd.testing.assert_frame_equal(store.load("n"), expected(store))
    assert store.list()["version"].tolist() == [second.name, first.name]
    after = contents(first.parent)
    assert after.keys() == before.keys()
    assert {file for file in after if after[file] != before[file]} == {registry_of(first)}
    old, new = (json.loads(found[registry_of(first)][1]) for found in (before, after))
    assert {**old, "updated_at": new["updated_at"]} == new
    assert store.materialize(FEATURES, START, END).days_computed == 0
    assert contents(first.parent) == after


def contents(path: Path) -> dict[Path, tuple[int, bytes]]:
    """Inode and content of each file: one that was replaced has another inode."""
    return {file: (file.stat().st_ino, file.read_bytes()) for file in path.rglob("*") if file.is_file()}


# ---- read without the store --------------------------------------------------------------------------------------


def read_by_duckdb(path: Path) -> pd.DataFrame:
    import duckdb

    return duckdb.sql(f"SELECT * FROM '{path}/**/*.parquet'").df()


READERS: dict[str, Callable[[Path], Any]] = {
    "pandas": pd.read_parquet,
    "polars": lambda path: pl.read_parquet(path).to_pandas(),
    "polars, lazily": lambda path: pl.scan_parquet(path).collect().to_pandas(),
    "arrow": lambda path: pads.dataset(path, partitioning="hive").to_table().to_pandas(),
    "arrow without days": lambda path: pads.dataset(path).to_table().to_pandas(),
    "duckdb": read_by_duckdb,
}


@pytest.mark.parametrize("reader", READERS)
def test_any_reader_reads_a_version_as_it_stands(store: FeatureStore, reader: str) -> None:
    path = store.materialize(FEATURES, START, END).path
    with Version(path).scratch() as scratch:  # somebody is writing more
        (scratch / "half.parquet").write_bytes(b"half")
        found = READERS[reader](path)[["user", "event_time", "n"]]
    kept = found.sort_values(["event_time", "user"], ignore_index=True)
    pd.testing.assert_frame_equal(kept, expected(store), check_dtype=False)


@pytest.mark.spark
def test_spark_reads_a_version_as_it_stands(store: FeatureStore, spark_session: Any) -> None:
    found = spark_session.read.parquet(str(store.materialize(FEATURES, START, END).path))
    assert found.columns == ["user", "event_time", "n", "day"]
    assert found.count() == 7 * USERS


# ---- damaged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "[]", '{"days": {}}', '{"days": 3}', "\xff"])
def test_a_damaged_registry_says_what_to_do(store: FeatureStore, text: str) -> None:
    path = registry_of(store.materialize(FEATURES, START, END).path)
    path.write_bytes(text.encode("latin-1"))
    for action in (store.load, lambda f: store.materialize(f, START, END), lambda f: store.load(f.name)):
        with pytest.raises(StoreError, match=r"_.{8}\.json cannot be read: .*Remove it; materialize makes it anew"):
            action(FEATURES)
    assert store.list()["kind"].tolist() == ["damaged"]
    path.unlink()
    assert store.materialize(FEATURES, START, END).days_computed == 7
    pd.testing.assert_frame_equal(store.load(FEATURES), expected(store))


def test_a_version_under_a_wrong_name_is_not_read(store: FeatureStore) -> None:
    path = store.materialize(FEATURES, START, END).path
    for each in (path, registry_of(path)):
        each.rename(each.with_name(each.name.replace(path.name, "0123abcd")))
    with pytest.raises(StoreError, match="belongs to version"):
        store.load("n")


@pytest.mark.parametrize("damage", ["lost", "empty", "cut"])
def test_a_damaged_day_says_what_to_do(store: FeatureStore, damage: str) -> None:
    path = store.materialize(FEATURES, START, END).path
    file = next((path / "day=2025-03-02").iterdir())
    content = file.read_bytes()
    file.unlink()
    if damage != "lost":
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(
        StoreError, match=r"a day of n .* cannot be read: .*day=2025-03-02.*Remove .*materialize again\.$"
    ):
        store.load(FEATURES)
    assert len(store.load(FEATURES, start="2025-03-03")) == 5 * USERS
    assert store.materialize(FEATURES, START, END).days_computed == 1
    pd.testing.assert_frame_equal(store.load(FEATURES), expected(store))


def test_a_list_of_all_there_is(store: FeatureStore) -> None:
    assert store.root is not None
    empty = store.list()
    columns = ["name", "version", "kind", "features", "first_day", "last_day", "days", "rows", "bytes", "updated_at"]
    assert list(empty) == columns
    assert empty.empty
    assert list(list_versions(store.root / "nowhere")) == columns
    store.materialize(FEATURES, START, END)
    store.materialize(OTHER, START, "2025-03-03")
    found = store.list()
    assert found.drop(columns=["bytes", "updated_at"]).to_dict("records") == [
        {
            "name": "n", "version": features.spec_hash[:8], "kind": "events", "features": 1, "days": days,
            "first_day": pd.Timestamp(START), "last_day": pd.Timestamp(last), "rows": days * USERS,
        }
        for features, days, last in ((FEATURES, 7, "2025-03-07"), (OTHER, 2, "2025-03-02"))
    ]  # fmt: skip
    size = sum(p.stat().st_size for p in (store.root / "n" / FEATURES.spec_hash[:8]).rglob("*.parquet"))
    assert found["bytes"].iloc[0] == size
    assert found["updated_at"].is_monotonic_increasing
    now = pd.Timestamp.now("UTC").tz_localize(None)
    assert found["updated_at"].between(now - pd.Timedelta("1h"), now).all()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable here")
def test_what_may_not_be_read_is_named(store: FeatureStore) -> None:
    path = store.materialize(FEATURES, START, END).path
    registry_of(path).chmod(0)
    with pytest.raises(StoreError, match=r"_.{8}\.json cannot be read: PermissionError"):
        store.load(FEATURES)


def test_a_lock_that_nobody_gives_back_is_named(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    path = store.materialize(FEATURES, START, END).path
    monkeypatch.setattr(registry, "_PATIENCE", 0.1)
    with FileLock(path.with_name(f".{path.name}.lock")):
        assert store.materialize(FEATURES, START, END).days_computed == 0
        with pytest.raises(StoreError, match="has been locked by another process"):
            store.materialize(FEATURES, START, "2025-03-09")
