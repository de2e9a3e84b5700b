"""The store on disk: killed at any moment, shared by processes, damaged, left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalrec.engines import LocalEngine
from causalrec.exceptions import StoreError
from causalrec.features import Aggregation, FeatureSet, FeatureStore
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
    days = json.loads((path / "registry.json").read_text())["days"].values()
    known = {"registry.json", ".lock", *(file for day in days for file in day["files"])}
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} - known


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
    with registry.new_file(self.path / "registry.json") as scratch:
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
    [*((True, moment) for moment in MOMENTS), *((False, m) for m in ("before the commit", "in the registry"))],
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
        (path / ".gone.tmp").mkdir()
        (path / "day=2025-03-02" / "stray.parquet").touch()
        (path / "day=2024-01-01").mkdir()
        (path / "day=2024-01-01" / "stray.parquet").touch()
        store.materialize(FEATURES, START, END)
        assert not (path / ".gone.tmp").exists()
        assert not (path / "day=2024-01-01").exists()
    assert left_behind(path) == set()


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
    "runs",
    [
        [{}, {}],
        [{"start": "2025-03-01", "end": "2025-03-06"}, {"start": "2025-03-03", "end": END, "batch": 1}],
        [{"sets": "[t.FEATURES, t.OTHER]"}, {"sets": "[t.OTHER, t.FEATURES]", "batch": 3}],
    ],
)
def test_two_processes_make_what_one_makes(
    store: FeatureStore, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, runs: list[dict[str, Any]]
) -> None:
    aside = tmp_path_factory.mktemp("aside")
    for _ in range(2):
        done = run_at_once(aside, tmp_path, runs)
        sets = [FEATURES, OTHER] if len(done[0]) == 2 else [FEATURES]
        for features in sets:
            pd.testing.assert_frame_equal(store.load(features), expected(store, features))
            assert store.materialize(features, START, END).days_computed == 0
            assert left_behind(tmp_path / "n" / features.spec_hash[:8]) == set()
        assert sum(map(sum, done)) >= 7 * len(sets)
        for file in tmp_path.glob("n/*/registry.json"):
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


# ---- damaged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "[]", '{"days": {}}', '{"days": 3}', "\xff"])
def test_a_damaged_registry_says_what_to_do(store: FeatureStore, text: str) -> None:
    path = store.materialize(FEATURES, START, END).path / "registry.json"
    path.write_bytes(text.encode("latin-1"))
    for action in (store.load, lambda f: store.materialize(f, START, END), lambda f: store.load(f.name)):
        with pytest.raises(StoreError, match=r"registry\.json cannot be read: .*Remove it; materialize makes it anew"):
            action(FEATURES)
    assert store.list()["kind"].tolist() == ["damaged"]
    path.unlink()
    assert store.materialize(FEATURES, START, END).days_computed == 7
    pd.testing.assert_frame_equal(store.load(FEATURES), expected(store))


def test_a_version_under_a_wrong_name_is_not_read(store: FeatureStore) -> None:
    path = store.materialize(FEATURES, START, END).path
    path.rename(path.with_name("0123abcd"))
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
    (path / "registry.json").chmod(0)
    with pytest.raises(StoreError, match=r"registry\.json cannot be read: PermissionError"):
        store.load(FEATURES)


def test_a_lock_that_nobody_gives_back_is_named(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    from causalrec.features import registry

    path = store.materialize(FEATURES, START, END).path
    monkeypatch.setattr(registry, "_PATIENCE", 0.1)
    with FileLock(path / ".lock"), pytest.raises(StoreError, match="has been locked by another process"):
        store.materialize(FEATURES, START, END)
