"""Features on disk: only what changed is computed, and a run that is killed leaves nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, StoreError, TimeError
from causalrec.features import Aggregation, FeatureSet, FeatureStore

START = pd.Timestamp("2025-03-01")
FEATURES = FeatureSet(
    "spend", ("user",), "events", "at",
    (Aggregation("sum", "v", "2d", name="spend"), Aggregation("last", "shop", "2d", name="shop")),
)  # fmt: skip


def make_events(days: int = 6) -> pd.DataFrame:
    rng, n = np.random.default_rng(3), 40 * days
    at = START + pd.to_timedelta(rng.integers(0, days * 24, n), "h").astype("timedelta64[us]")
    v, shop = rng.normal(0, 1, n).round(2), rng.choice(["x", "y"], n)
    return pd.DataFrame({"user": rng.integers(0, 5, n), "at": at, "v": v, "shop": shop})


def make_spine(days: int = 6) -> pd.DataFrame:
    grid = pd.MultiIndex.from_product([range(5), START + pd.to_timedelta(range(days), "D") + pd.Timedelta("12h")])
    return grid.to_frame(index=False, name=["user", "event_time"])


def opened(engine: Engine, root: Path, events: pd.DataFrame | None = None) -> FeatureStore:
    engine.register("events", make_events() if events is None else events)
    return FeatureStore(engine, root)


def by_row(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["event_time", "user"], ignore_index=True)


def test_what_is_kept_is_what_is_computed(engine: Engine, tmp_path: Path) -> None:
    store, spine = opened(engine, tmp_path), make_spine()
    done = store.materialize(FEATURES, spine)
    assert (done.rows, done.days_computed, done.days_reused) == (30, 6, 0)
    pd.testing.assert_frame_equal(by_row(store.load(FEATURES)), by_row(store.training_frame(spine, FEATURES)))
    again = store.materialize(FEATURES, spine)
    assert (again.rows, again.days_computed, again.days_reused) == (30, 0, 6)
    registry = json.loads((done.path / "registry.json").read_text())
    assert registry["spec_hash"] == FEATURES.spec_hash
    assert registry["days"]["2025-03-01"]["rows"] == 5
    assert registry["days"]["2025-03-01"]["schema"]["spend"] == "float64"
    assert FeatureSet.from_dict(registry["features"]) == FEATURES
    assert sorted(p.name for p in done.path.iterdir()) == [*(f"day=2025-03-0{d}" for d in range(1, 7)), "registry.json"]


def computed(store: FeatureStore, spine: pd.DataFrame, features: FeatureSet = FEATURES) -> set[str]:
    """Materialise, and say which days' files are new."""
    base = store._base(features)
    before = {p: p.stat().st_ino for p in base.glob("day=*/part.parquet")}
    done = store.materialize(features, spine)
    after = {p: p.stat().st_ino for p in base.glob("day=*/part.parquet")}
    new = {p.parent.name.removeprefix("day=2025-03-") for p in after if after[p] != before.get(p)}
    assert done.days_computed == len(new)
    pd.testing.assert_frame_equal(
        by_row(store.load(features)).drop_duplicates(ignore_index=True),
        by_row(store.training_frame(spine, features)).drop_duplicates(ignore_index=True),
    )
    return new


def test_only_days_that_can_change_are_computed(tmp_path: Path) -> None:
    with LocalEngine() as engine:
        check_what_is_computed(engine, tmp_path)


def check_what_is_computed(engine: Engine, root: Path) -> None:
    store, spine, events = opened(engine, root), make_spine(), make_events()
    assert computed(store, spine) == {"01", "02", "03", "04", "05", "06"}
    assert computed(store, spine.sample(frac=1, random_state=0)) == set()
    moved = spine.copy()
    moved.loc[moved["event_time"].dt.day == 4, "user"] += 1
    assert computed(store, moved) == {"04"}
    # An event of the third day is seen for two days: from noon of the third to noon of the fifth.
    late = pd.DataFrame({"user": [1], "at": [START + pd.Timedelta("2D")], "v": [5.0], "shop": ["z"]})
    engine.register("events", pd.concat([events, late]))
    assert computed(store, moved) == {"03", "04", "05"}
    engine.register("events", pd.concat([events, late, late.assign(at=START + pd.Timedelta("9D"))]))
    assert computed(store, moved) == set()
    assert computed(store, moved, replace(FEATURES, aggregations=(Aggregation("sum", "v", name="spend"),))) == {
        "01", "02", "03", "04", "05", "06",
    }  # fmt: skip


def test_a_day_that_is_lost_is_made_again(tmp_path: Path) -> None:
    with LocalEngine() as engine:
        store, spine = opened(engine, tmp_path), make_spine()
        path = store.materialize(FEATURES, spine).path
        (path / "day=2025-03-02" / "part.parquet").unlink()
        with pytest.raises(StoreError, match=r"cannot be read.*materialize again"):
            store.load(FEATURES)
        assert store.materialize(FEATURES, spine).days_computed == 1
        assert len(store.load(FEATURES)) == 30
        (path / "registry.json").write_text("{")
        with pytest.raises(StoreError, match=r"registry\.json cannot be read"):
            store.materialize(FEATURES, spine)


def test_days_are_utc_days(engine: Engine, tmp_path: Path) -> None:
    store = opened(engine, tmp_path)
    late = pd.Series(pd.to_datetime(["2025-03-03 23:30"])).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    done = store.materialize(FEATURES, pd.DataFrame({"user": [1], "event_time": late}))
    assert (done.path / "day=2025-03-03" / "part.parquet").is_file()
    assert store.load(FEATURES)["event_time"].tolist() == late.tolist()


KILLED = """
import os, signal
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("t", {file!r})
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)
from causalrec.features import store
write, left = store._write_day, [{after}]
def dying(path, frame):
    if not left[0]:
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / ".part.parquet.half.tmp").write_bytes(b"half a day")
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    write(path, frame)
store._write_day = dying
with t.LocalEngine() as engine:
    t.opened(engine, Path({root!r}), t.make_events().assign(v=1.0)).materialize(t.FEATURES, t.make_spine())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(("had", "after"), [(0, 3), (6, 3), (6, 0)])
def test_a_kill_leaves_a_registry_that_holds(tmp_path: Path, had: int, after: int) -> None:
    """The events change and the second run is killed: what is registered is right, and the third run completes."""
    spine = make_spine()
    with LocalEngine() as engine:
        if had:
            opened(engine, tmp_path).materialize(FEATURES, spine)
        code = KILLED.format(file=__file__, after=after, root=str(tmp_path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        store = opened(engine, tmp_path, make_events().assign(v=1.0))
        base = store._base(FEATURES)
        assert json.loads((base / "registry.json").read_text())["days"] == {}
        with pytest.raises(StoreError, match="not materialised"):
            store.load(FEATURES)
        assert store.materialize(FEATURES, spine).days_computed == 6
        pd.testing.assert_frame_equal(by_row(store.load(FEATURES)), by_row(store.training_frame(spine, FEATURES)))
        assert store.materialize(FEATURES, spine).days_computed == 0


@pytest.mark.parametrize(
    ("spine", "kind", "message"),
    [
        (make_spine().assign(event_time="2025-03-01"), TimeError, "'event_time' is"),
        (make_spine().assign(event_time=pd.NaT), TimeError, "30 rows have no 'event_time'"),
        (make_spine().drop(columns="event_time"), ColumnError, "missing column 'event_time'"),
        (make_spine().drop(columns="user"), ColumnError, "missing column 'user'"),
        (make_spine().assign(spend=1), ColumnError, "'spend' are taken"),
    ],
)
def test_nothing_is_written_for_a_bad_spine(
    tmp_path: Path, spine: pd.DataFrame, kind: type[CausalRecError], message: str
) -> None:
    with LocalEngine() as engine, pytest.raises(kind, match=message):
        opened(engine, tmp_path).materialize(FEATURES, spine)
    assert list(tmp_path.iterdir()) == []


def test_roots(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with LocalEngine() as engine:
        with pytest.raises(StoreError, match="no root directory"):
            FeatureStore(engine).load(FEATURES)
        with pytest.raises(StoreError, match="cannot write"):
            opened(engine, tmp_path / "file").materialize(FEATURES, make_spine())
        with pytest.raises(StoreError, match="not materialised"):
            opened(engine, tmp_path).load(FEATURES)
        empty = opened(engine, tmp_path).materialize(FEATURES, make_spine().iloc[:0])
        assert (empty.rows, empty.days_computed, empty.days_reused) == (0, 0, 0)


def test_a_failure_while_writing_leaves_no_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    def full(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(StoreError, match="No space left"):
            store.materialize(FEATURES, make_spine())
        assert list(tmp_path.rglob("*.tmp")) == []
        monkeypatch.undo()
        assert store.materialize(FEATURES, make_spine()).days_computed == 6
