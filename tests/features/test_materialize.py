"""Features on disk: only what changed is computed, whichever engine writes and whoever else is at it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError, EngineError, StoreError, TimeError
from causalrec.features import Aggregation, FeatureSet, FeatureStore, materialize
from causalrec.features.attributes import AttributeFeatures
from causalrec.features.calendar import CalendarFeatures

START = pd.Timestamp("2025-03-01")
FEATURES = FeatureSet(
    "spend", ("user",), "events", "at",
    (Aggregation("sum", "v", "2d", name="spend"), Aggregation("last", "shop", "36h", name="shop")),
)  # fmt: skip
WEEK = ("2025-03-01", "2025-03-08")


def make_events(days: int = 6) -> pd.DataFrame:
    """Events of users 0 to 4, who are all known after the first day."""
    rng, n = np.random.default_rng(3), 40 * days
    at = START + pd.to_timedelta(rng.integers(0, days * 24, n), "h").astype("timedelta64[us]")
    v, shop = rng.normal(0, 1, n).round(2), rng.choice(["x", "y"], n)
    return pd.DataFrame({"user": rng.integers(0, 5, n), "at": at, "v": v, "shop": shop})


def event(at: str, *, user: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"user": [user], "at": pd.to_datetime([at]).as_unit("us"), "v": [5.0], "shop": ["z"]})


def make_spine(days: int = 6) -> pd.DataFrame:
    grid = pd.MultiIndex.from_product([range(5), START + pd.to_timedelta(range(days), "D") + pd.Timedelta("12h")])
    return grid.to_frame(index=False, name=["user", "event_time"])


def opened(engine: Engine, root: Path, events: pd.DataFrame | None = None) -> FeatureStore:
    engine.register("events", make_events() if events is None else events)
    return FeatureStore(engine, root)


def as_pandas(frame: Any) -> pd.DataFrame:
    """A frame of either engine, by time and user."""
    if not isinstance(frame, pd.DataFrame):
        frame = frame.toArrow().to_pandas()
    times = frame["event_time"].astype("datetime64[us]")
    return frame.assign(event_time=times).sort_values(["event_time", "user"], ignore_index=True)


def registry_of(path: Path) -> Path:
    return path.with_name(f"_{path.name}.json")


def entries(path: Path) -> dict[str, Any]:
    """What the registry says of each day of March."""
    registry = registry_of(path)
    days = json.loads(registry.read_text())["days"] if registry.exists() else {}
    return {day.removeprefix("2025-03-"): entry for day, entry in days.items()}


def computed(store: FeatureStore, *days: str, features: Any = FEATURES, **options: Any) -> set[str]:
    """Materialise, and say which days are new; what is kept must be what training_frame says."""
    assert store.root is not None
    path = store.root / features.name / features.spec_hash[:8]
    before = entries(path)
    done = store.materialize(features, *days, **options)
    new = {day for day, entry in entries(path).items() if entry != before.get(day)}
    assert done.days_computed == len(new)
    if store.engine.name == "spark":
        return new  # what it computes is tested below, once
    kept = as_pandas(store.load(features))
    asked = kept.drop(columns=list(features.feature_names))
    pd.testing.assert_frame_equal(kept, store.training_frame(asked, features), check_dtype=False)
    return new


def march(first: int, last: int) -> set[str]:
    return {f"{day:02d}" for day in range(first, last + 1)}


# Spark takes seconds here, and the same text of SQL is compared between the engines in the other files by default.
SLOW_ON_SPARK = pytest.mark.parametrize(
    "engine", ["local", pytest.param("spark", marks=[pytest.mark.spark, pytest.mark.slow])], indirect=True
)


@SLOW_ON_SPARK
def test_each_midnight_has_the_keys_that_are_known(engine: Engine, tmp_path: Path) -> None:
    store, events = opened(engine, tmp_path, pd.concat([make_events(), event("2025-03-04", user=7)])), []
    done = store.materialize(FEATURES, *WEEK, progress=lambda *days: events.append(days))
    # Nobody at the midnight of the first event, 5 users on the five days after, user 7 from the day after the fourth.
    assert (done.rows, done.days_computed, done.days_reused) == (5 * 6 + 3, 7, 0)
    assert events == [(0, 7), (7, 7)]
    kept = as_pandas(store.load(FEATURES))
    assert kept.groupby(kept["event_time"].dt.day)["user"].apply(list).to_dict() == {
        2: [0, 1, 2, 3, 4], 3: [0, 1, 2, 3, 4], 4: [0, 1, 2, 3, 4],
        5: [0, 1, 2, 3, 4, 7], 6: [0, 1, 2, 3, 4, 7], 7: [0, 1, 2, 3, 4, 7],
    }  # fmt: skip
    wide = store.training_frame(kept[["user", "event_time"]], FEATURES)
    pd.testing.assert_frame_equal(kept, wide)
    again = store.materialize(FEATURES, *WEEK, progress=lambda *days: events.append(days))
    assert (again.rows, again.days_computed, again.days_reused) == (33, 0, 7)
    assert events[2:] == [(7, 7)]


@SLOW_ON_SPARK
def test_the_registry_says_how_it_came_about(engine: Engine, tmp_path: Path) -> None:
    path = opened(engine, tmp_path).materialize(FEATURES, *WEEK).path
    assert path == tmp_path / "spend" / FEATURES.spec_hash[:8]
    registry = json.loads(registry_of(path).read_text())
    assert registry["spec_hash"] == FEATURES.spec_hash
    assert FeatureSet.from_dict(registry["declaration"]) == FEATURES
    assert registry["engine"] == engine.name
    assert registry["schema"] == {"user": "int64", "event_time": "timestamp[us]", "spend": "double", "shop": "string"}
    assert list(registry["days"]) == [f"2025-03-0{day}" for day in range(1, 8)]
    assert registry["days"]["2025-03-01"]["files"] == []
    second = registry["days"]["2025-03-02"]
    assert second["rows"] == 5
    assert second["bytes"] == sum((path / file).stat().st_size for file in second["files"])
    assert {p.name for p in path.iterdir()} == {f"day=2025-03-0{day}" for day in range(2, 8)}
    assert {p.name for p in path.parent.iterdir()} == {path.name, registry_of(path).name, f".{path.name}.lock"}


def test_only_days_that_can_change_are_computed(tmp_path: Path) -> None:
    with LocalEngine() as engine:
        check_what_is_computed(engine, tmp_path)


@pytest.mark.spark
def test_only_days_that_can_change_are_computed_on_spark(tmp_path: Path, spark_session: Any) -> None:
    from causalrec.engines import SparkEngine

    with SparkEngine(session=spark_session) as engine:
        store = opened(engine, tmp_path)
        assert computed(store, *WEEK) == march(1, 7)
        assert computed(store, *WEEK) == set()
        engine.register("events", pd.concat([make_events().sample(frac=1), event("2025-03-03 10:00")]))
        assert computed(store, *WEEK) == {"04", "05"}


def check_what_is_computed(engine: Engine, root: Path) -> None:
    events = make_events()
    store = opened(engine, root, events)
    assert computed(store, *WEEK) == march(1, 7)
    engine.register("events", events.sample(frac=1, random_state=0))
    assert store.materialize(FEATURES, *WEEK).days_computed == 0
    # An event on the third is seen for two days: at the midnights of the fourth and the fifth.
    late = event("2025-03-03 10:00")
    engine.register("events", pd.concat([events, late]))
    assert computed(store, *WEEK) == {"04", "05"}
    # One at a midnight is not before it.
    engine.register("events", pd.concat([events, late, event("2025-03-05")]))
    assert computed(store, *WEEK) == {"06", "07"}
    engine.register("events", pd.concat([events, late, event("2025-03-05"), event("2025-03-20")]))
    assert store.materialize(FEATURES, *WEEK).days_computed == 0
    # A new key is there on all days after.
    engine.register("events", pd.concat([events, late, event("2025-03-03 11:00", user=9)]))
    assert computed(store, *WEEK) == march(4, 7)
    # More days than before.
    assert computed(store, "2025-03-05", "2025-03-10") == {"08", "09"}
    assert len(as_pandas(store.load(FEATURES, start="2025-03-08"))) == 12


def test_without_a_limit_a_window_reaches_all_later_days(tmp_path: Path) -> None:
    features = replace(FEATURES, aggregations=(Aggregation("sum", "v"), Aggregation("count", window="1d")))
    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        assert computed(store, *WEEK, features=features) == march(1, 7)
        engine.register("events", pd.concat([make_events(), event("2025-03-03 10:00")]))
        assert computed(store, *WEEK, features=features) == march(4, 7)


@SLOW_ON_SPARK
def test_entities_are_kept_also_before_they_are_known(engine: Engine, tmp_path: Path) -> None:
    store, entities = opened(engine, tmp_path), pd.DataFrame({"user": [1, 99, 1]})
    assert computed(store, *WEEK, entities=entities) == march(1, 7)
    kept = as_pandas(store.load(FEATURES))
    assert kept["user"].tolist() == [1, 99] * 7
    assert kept.loc[kept["user"] == 99, "spend"].tolist() == [0.0] * 7
    engine.register("people", entities.iloc[::-1])
    assert store.materialize(FEATURES, *WEEK, entities="people").days_computed == 0
    engine.register("people", pd.DataFrame({"user": [1, 98]}))
    assert computed(store, *WEEK, entities="people") == march(1, 7)
    with pytest.raises(ColumnError, match="entities: 1 rows have no value of a key"):
        store.materialize(FEATURES, *WEEK, entities=pd.DataFrame({"user": [1, None]}))
    with pytest.raises(ColumnError, match="missing column 'user'"):
        store.materialize(FEATURES, *WEEK, entities=pd.DataFrame({"usr": [1]}))


@pytest.mark.parametrize(
    "entities",
    [
        [1, 99, 1], (99, 1), np.array([1, 99]), pd.Series([1, 99]), pd.Series([99, 1], name="who"), range(1, 100, 98),
        pd.DataFrame({"user": [1, 99]}), pl.DataFrame({"user": [1, 99]}), pl.LazyFrame({"user": [1, 99]}),
        pl.Series([1, 99]), pa.array([1, 99]), pa.table({"user": [1, 99], "name": ["x", "y"]}),
    ],
    ids=lambda each: type(each).__module__.split(".")[0] + "." + type(each).__name__,
)  # fmt: skip
def test_entities_come_in_many_types(local_engine: Engine, tmp_path: Path, entities: Any) -> None:
    store = opened(local_engine, tmp_path)
    assert store.materialize(FEATURES, *WEEK, entities=entities).rows == 14
    assert as_pandas(store.load(FEATURES))["user"].tolist() == [1, 99] * 7
    assert store.materialize(FEATURES, *WEEK, entities=pd.DataFrame({"user": [99, 1]})).days_computed == 0


@pytest.mark.parametrize(
    ("keys", "entities", "message"),
    [
        (("user",), [1, None], r"entities: 1 of 2 have no 'user'; drop them"),
        (("user",), 3, "entities: found int; expected keys, a frame or the name of a table"),
        (("user",), ["a"], "'user' is string"),
        (("user",), ["a", 1], r"entities: the keys cannot be sorted .*one type"),
        (("user",), [], "entities: found no keys; give some, or leave entities out"),
        (("user",), pd.DataFrame([[1, 2]], columns=["user", "USER"]), "table 'entities': column names appear twice"),
        (("user", "shop"), [1, 2], "entities: found list; expected a frame with the columns user, shop"),
    ],
)
def test_entities_that_are_none_are_named(
    local_engine: Engine, tmp_path: Path, keys: tuple[str, ...], entities: Any, message: str
) -> None:
    with pytest.raises(ColumnError, match=message):
        opened(local_engine, tmp_path).materialize(replace(FEATURES, keys=keys), *WEEK, entities=entities)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow_on_spark
def test_a_spine_is_kept_by_its_utc_days(engine: Engine, tmp_path: Path) -> None:
    store, spine = opened(engine, tmp_path), make_spine()
    assert computed(store, spine=spine) == march(1, 6)
    assert store.materialize(FEATURES, spine=spine.sample(frac=1, random_state=0)).days_computed == 0
    moved = spine.copy()
    moved.loc[moved["event_time"].dt.day == 4, "user"] += 1
    engine.register("asked", moved)
    assert computed(store, spine="asked") == {"04"}
    # At noon an event of the third is seen from the third to the fifth.
    engine.register("events", pd.concat([make_events(), event("2025-03-03")]))
    assert computed(store, spine="asked") == {"03", "04", "05"}
    # Days that are not asked for are left alone.
    assert computed(store, spine=moved[moved["event_time"].dt.day != 2]) == set()
    assert len(as_pandas(store.load(FEATURES))) == 30
    late = pd.Series(pd.to_datetime(["2025-03-09 00:30"])).dt.tz_localize("Asia/Tokyo")
    path = store.materialize(FEATURES, spine=pd.DataFrame({"user": [1], "event_time": late})).path
    assert (path / "day=2025-03-08").is_dir()
    assert as_pandas(store.load(FEATURES))["event_time"].iloc[-1] == pd.Timestamp("2025-03-08 15:30")


@pytest.mark.spark
def test_spark_frames_are_kept_and_given(tmp_path: Path, spark_session: Any) -> None:
    from causalrec.engines import SparkEngine

    with SparkEngine(session=spark_session) as engine:
        store = opened(engine, tmp_path)
        spine = spark_session.createDataFrame(pa.Table.from_pandas(make_spine()))
        assert store.materialize(FEATURES, spine=spine).rows == 30
        kept = store.load(FEATURES, start="2025-03-02", end=datetime.date(2025, 3, 4))
        assert kept.columns == ["user", "event_time", "spend", "shop"]
        assert kept.count() == 10


@pytest.mark.spark
@pytest.mark.parametrize("writes", ["spark", pytest.param("local", marks=pytest.mark.slow)])
def test_each_engine_reads_what_the_other_wrote(tmp_path: Path, spark_session: Any, writes: str) -> None:
    from causalrec.engines import SparkEngine

    with LocalEngine() as local, SparkEngine(session=spark_session) as spark:
        engines: Sequence[Engine] = (local, spark)
        writer, reader = engines if writes == "local" else engines[::-1]
        root = tmp_path / writer.name
        path = opened(writer, root).materialize(FEATURES, *WEEK).path
        wrote, read = (as_pandas(FeatureStore(engine, root).load(FEATURES)) for engine in (writer, reader))
        pd.testing.assert_frame_equal(wrote, read)
        reader.register("kept", path)
        assert list(reader.columns("kept")) == ["user", "event_time", "spend", "shop", "day"]
        by_day = reader.collect("SELECT day, COUNT(*) AS n FROM kept GROUP BY day ORDER BY day")
        assert by_day["day"].tolist() == list(pd.date_range("2025-03-02", "2025-03-07"))
        assert by_day["n"].tolist() == [5] * 6
        # Both see the same input; each trusts its own hashes only.
        assert opened(reader, root).materialize(FEATURES, *WEEK).days_computed == 7
        pd.testing.assert_frame_equal(wrote, as_pandas(FeatureStore(local, root).load(FEATURES)))


@SLOW_ON_SPARK
def test_attributes_are_kept_for_all_keys(engine: Engine, tmp_path: Path) -> None:
    items = pd.DataFrame({"user": [1, 2], "color": ["red", "blue"]})
    engine.register("items", items)
    store, features = FeatureStore(engine, tmp_path), AttributeFeatures("item", ("user",), "items", ("color",))
    assert computed(store, "2025-03-01", "2025-03-04", features=features) == march(1, 3)
    assert as_pandas(store.load(features))["color"].tolist() == ["red", "blue"] * 3
    assert store.materialize(features, "2025-03-01", "2025-03-04").days_computed == 0
    engine.register("items", items.assign(color="red"))
    assert computed(store, "2025-03-01", "2025-03-04", features=features) == march(1, 3)


def test_features_of_the_time_alone_need_a_spine(engine: Engine, tmp_path: Path) -> None:
    store, features = FeatureStore(engine, tmp_path), CalendarFeatures("when", ("weekday",))
    with pytest.raises(ConfigError, match=r"no keys.*spine="):
        store.materialize(features, *WEEK)
    assert store.materialize(features, spine=make_spine()).rows == 30
    assert as_pandas(store.load(features))["weekday"].tolist() == np.repeat([6, 7, 1, 2, 3, 4], 5).tolist()


@SLOW_ON_SPARK
def test_names_and_places_may_be_odd(engine: Engine, tmp_path: Path) -> None:
    name = 'o\'k `x` "y"'
    engine.register("events", make_events().rename(columns={"shop": name}))
    features = FeatureSet(
        "my set-1", (name, "doubled"), "events", "at", (Aggregation("sum", "v", name="${v}"),),
        derived={"doubled": "2 * user"},
    )  # fmt: skip
    store = FeatureStore(engine, tmp_path / "a=b" / "x[1] {z} 'q' ü")
    assert store.materialize(features, *WEEK).rows == 6 * 10
    kept = store.load(features) if engine.name == "local" else store.load(features).toArrow().to_pandas()
    assert list(kept.columns) == [name, "doubled", "event_time", "${v}"]
    assert set(kept["doubled"]) == {0, 2, 4, 6, 8}
    assert store.diff(features, features.spec_hash, features.spec_hash).features[0].n_compared == 60


def test_a_changed_declaration_leaves_the_former_version(tmp_path: Path) -> None:
    changed = replace(FEATURES, aggregations=(Aggregation("sum", "v", name="spend"),))
    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        first, second = (store.materialize(f, *WEEK) for f in (FEATURES, changed))
        assert first.path != second.path
        assert second.days_computed == 7
        assert "shop" not in store.load("spend")
        assert "shop" in store.load("spend", version=first.path.name[:5])
        assert "shop" in store.load(FEATURES)
        with pytest.raises(StoreError, match=f"version 'zz' is unknown; there are .*{first.path.name}"):
            store.load("spend", version="zz")
        with pytest.raises(StoreError, match=r"'spent' is not materialised.*Did you mean 'spend'"):
            store.load("spent")


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    with LocalEngine() as engine:
        store = opened(engine, tmp_path / "one")
        expected = store.materialize(FEATURES, *WEEK)
        monkeypatch.setattr(materialize, "BATCH_ROWS", 10)
        other = FeatureStore(engine, tmp_path / "many")
        done = other.materialize(FEATURES, *WEEK, progress=lambda *days: steps.append(days))
        assert steps == [(0, 7), (3, 7), (5, 7), (7, 7)]
        assert (done.rows, done.days_computed) == (expected.rows, expected.days_computed)
        pd.testing.assert_frame_equal(store.load(FEATURES), other.load(FEATURES))
        monkeypatch.setattr(materialize, "BATCH_DAYS", 1)
        assert FeatureStore(engine, tmp_path / "days").materialize(FEATURES, *WEEK).days_computed == 7


def test_an_interrupt_loses_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(materialize, "BATCH_ROWS", 5)
    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            store.materialize(FEATURES, *WEEK, progress=interrupted)
        assert len(store.load(FEATURES)) == 4 * 5
        assert not list(tmp_path.rglob(".*.tmp"))
        assert computed(store, *WEEK) == {"06", "07"}


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2025-03-08", "2025-03-01", "start must be before end"),
        ("2025-03-01", "2025-03-01", "start must be before end"),
        ("2025-03-01", None, "end missing; give start= and end="),
        (None, None, "start and end missing"),
        ("2025-03-01 06:00", "2025-03-08", "start is '2025-03-01 06:00', within a day"),
        ("soon", "2025-03-08", "start is 'soon'; expected a UTC midnight"),
        ("01/03/2025", "2025-03-08", "start is '01/03/2025'; expected .* such as '2025-01-31': year, month, day"),
        ("2025-03-01", "8 March 2025", "end is '8 March 2025'; expected .* year, month, day"),
        ("2025-03-40", "2025-04-08", "start is '2025-03-40'; expected a UTC midnight"),
        (20250301, "2025-03-08", "start is 20250301; expected"),
        (pd.NaT, "2025-03-08", "start is missing"),
        ("2025-03-01", pd.Timestamp("2025-03-08", tz="Asia/Tokyo"), "end is Timestamp.* within a day"),
    ],
)
def test_days_that_are_none_are_named(tmp_path: Path, start: object, end: object, message: str) -> None:
    with LocalEngine() as engine, pytest.raises(TimeError, match=message):
        opened(engine, tmp_path).materialize(FEATURES, start, end)
    assert list(tmp_path.iterdir()) == []


def test_days_come_in_many_types(tmp_path: Path) -> None:
    texts = ("2025-03-01", "2025-03-01 00:00", "2025-03-01T00:00:00Z", "2025-03-01 09:00+09:00")
    dates = (datetime.date(2025, 3, 1), datetime.datetime(2025, 3, 1), np.datetime64("2025-03-01"))
    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        assert store.materialize(FEATURES, *WEEK).days_computed == 7
        for start in (*texts, *dates, START, pd.Timestamp("2025-03-01 09:00", tz="Asia/Tokyo")):
            assert store.materialize(FEATURES, start, "2025-03-08").days_reused == 7
            assert len(store.load(FEATURES, start=start, end="2025-03-03")) == 5


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"start": "2025-03-01", "spine": make_spine()}, ConfigError, "start and end .*or a spine, not both"),
        ({"spine": make_spine().assign(event_time="2025-03-01")}, TimeError, "'event_time' is"),
        ({"spine": make_spine().assign(event_time=pd.NaT)}, TimeError, "30 rows have no 'event_time'"),
        ({"spine": make_spine().drop(columns="event_time")}, ColumnError, "missing column 'event_time'"),
        ({"spine": make_spine().drop(columns="user")}, ColumnError, "missing column 'user'"),
        ({"spine": [1, 2]}, EngineError, "table 'spine': found list; expected a pandas"),
        ({"spine": make_spine().assign(spend=1)}, ColumnError, "'spend' are taken"),
        ({"spine": make_spine().assign(Day=1)}, ColumnError, "'Day' would be taken for the day"),
        ({"start": WEEK[0], "end": WEEK[1], "event_time": "user"}, ColumnError, "'user' is a key"),
    ],
)
def test_nothing_is_written_for_bad_arguments(
    tmp_path: Path, options: dict[str, Any], kind: type[CausalRecError], message: str
) -> None:
    with LocalEngine() as engine, pytest.raises(kind, match=message):
        opened(engine, tmp_path).materialize(FEATURES, **options)
    assert list(tmp_path.iterdir()) == []


def test_roots(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with LocalEngine() as engine:
        with pytest.raises(StoreError, match="no root directory"):
            FeatureStore(engine).load(FEATURES)
        with pytest.raises(StoreError, match="no root directory"):
            FeatureStore(engine).list()
        with pytest.raises(StoreError, match="cannot write"):
            opened(engine, tmp_path / "file").materialize(FEATURES, *WEEK)
        store = opened(engine, tmp_path)
        with pytest.raises(StoreError, match="not materialised"):
            store.load(FEATURES)
        empty = store.materialize(FEATURES, spine=make_spine().iloc[:0])
        assert (empty.rows, empty.days_computed, empty.days_reused) == (0, 0, 0)
        store.materialize(FEATURES, *WEEK)
        with pytest.raises(StoreError, match=r"no rows from 2025-04-01; it holds 2025-03-01 to 2025-03-07"):
            store.load(FEATURES, start="2025-04-01")


def test_rows_of_other_columns_do_not_mix(tmp_path: Path) -> None:
    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        store.materialize(FEATURES, *WEEK)
        with pytest.raises(StoreError, match=r"holds the columns .*another root"):
            store.materialize(FEATURES, spine=make_spine().assign(page="home"))
        with pytest.raises(StoreError, match=r"holds the columns .*another root"):
            store.materialize(FEATURES, *WEEK, event_time="as_of")
        assert store.materialize(FEATURES, *WEEK).days_computed == 0


def test_a_failure_while_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalEngine() as engine:
        store = opened(engine, tmp_path)
        store.materialize(FEATURES, "2025-03-01", "2025-03-04")
        kept = store.load(FEATURES)
        odd = replace(FEATURES, aggregations=(Aggregation("count", where="1 / CAST(shop AS INTEGER) > 0", name="n"),))
        for features in (odd, FEATURES):
            if features is FEATURES:
                monkeypatch.setattr(Path, "rename", full_disk)
            with pytest.raises(CausalRecError):
                store.materialize(features, *WEEK)
            assert not list(tmp_path.rglob(".*.tmp"))
        pd.testing.assert_frame_equal(store.load(FEATURES), kept)
        monkeypatch.undo()
        assert store.materialize(FEATURES, *WEEK).days_computed == 4


def full_disk(source: Path, target: Path) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def local_engine() -> Iterator[LocalEngine]:
    with LocalEngine(threads=1) as engine:
        yield engine


def test_a_column_of_another_type_makes_its_days_anew(local_engine: Engine, tmp_path: Path) -> None:
    """DuckDB hashes 1 and true alike."""
    store = FeatureStore(local_engine, tmp_path)
    log = pd.DataFrame({"user": [1, 2], "at": pd.to_datetime(["2025-01-01", "2025-01-02"]), "x": [1, 0]})
    most = FeatureSet("most", ("user",), "log", "at", (Aggregation("max", "x", name="most"),))
    local_engine.register("log", log)
    assert store.materialize(most, "2025-01-02", "2025-01-05").days_computed == 3
    local_engine.register("log", log.assign(x=log["x"].astype(bool)))
    assert store.materialize(most, "2025-01-02", "2025-01-05").days_computed == 3
    assert store.load(most)["most"].dtype == bool


def used(d: str = "v", *, order_by: tuple[str, ...] = (), derived: Any = None, **aggregation: Any) -> FeatureSet:
    each = Aggregation(**{"op": "sum", "column": d, "window": "2d", "name": "n", **aggregation})
    return FeatureSet("used", ("user",), "events", "at", (each,), order_by=order_by, derived=derived or {})


@pytest.mark.parametrize(
    ("features", "matters"),
    [
        (used(), False),
        (used("Note_1", op="max"), True),
        (used(order_by=("Note_1",)), True),
        (used(where="NOTE_1 = 'a'"), True),
        (used(where="\"note_1\" = 'a'"), True),
        (used(where="shop = 'x'"), False),
        (used("x", derived={"x": "LENGTH(note_1)"}), True),
        (used("x", derived={"x": "2 * v"}), False),
        (used(where="hash(src) % 2 = 0"), True),
        (used(where="hash(#5) % 2 = 0"), True),
        (used(where="struct_pack(a := COLUMNS('Note.*')).a = 'a'"), True),
        (used(op="last"), True),
    ],
    ids=lambda value: "" if isinstance(value, FeatureSet) else str(value),
)
def test_only_columns_that_can_matter_are_looked_at(
    local_engine: Engine, tmp_path: Path, features: FeatureSet, matters: bool
) -> None:
    events = make_events().assign(Note_1=["a", "bb"] * 120)
    store = opened(local_engine, tmp_path, events)
    assert computed(store, *WEEK, features=features) == march(1, 7)
    edited = events["Note_1"].where(events["at"] < pd.Timestamp("2025-03-06"), "ccc")
    local_engine.register("events", events.assign(Note_1=edited))
    assert computed(store, *WEEK, features=features) == ({"07"} if matters else set())
    if not matters:
        local_engine.register("events", events.assign(Note_1=1.5))
        assert computed(store, *WEEK, features=features) == set()
        local_engine.register("events", events.assign(more=1).drop(columns="Note_1"))
        assert computed(store, *WEEK, features=features) == set()
    local_engine.register("events", events.assign(Note_1=edited, user=events["user"].where(events.index != 0, 7)))
    assert computed(store, *WEEK, features=features)


def test_a_name_with_quotes_always_matters(local_engine: Engine, tmp_path: Path) -> None:
    events = make_events().assign(**{'the "note"': "a"})
    features = used(where='"the ""note""" = \'a\'')
    store = opened(local_engine, tmp_path, events)
    assert computed(store, *WEEK, features=features) == march(1, 7)
    local_engine.register("events", events.assign(**{'the "note"': "b"}))
    assert computed(store, *WEEK, features=features) == march(2, 7)


def test_only_attributes_that_are_taken_are_looked_at(local_engine: Engine, tmp_path: Path) -> None:
    items = pd.DataFrame({"user": [1, 2], "color": ["red", "blue"], "price": [1.0, 2.0], "note": "x"})
    features = AttributeFeatures("item", ("user",), "items", ("color",), {"price": 2})
    store = FeatureStore(local_engine, tmp_path)
    for changed, n in (({}, 7), ({"note": "y"}, 0), ({"price": [3.0, 2.0]}, 7), ({"color": "red"}, 7)):
        local_engine.register("items", items.assign(**changed))
        assert store.materialize(features, *WEEK).days_computed == n
        items = items.assign(**changed)


@SLOW_ON_SPARK
def test_keys_and_times_that_are_derived(engine: Engine, tmp_path: Path) -> None:
    store = FeatureStore(engine, tmp_path)
    days = pd.to_datetime(["2025-01-01", "2025-01-02"])
    engine.register("log", pd.DataFrame({"user": [1, 2], "sent": days, "read": days + pd.Timedelta(hours=36)}))
    derived = {"who": "user + 10 -- of the other shop", "seen": "COALESCE(read, sent)"}
    count = FeatureSet("seen", ("who",), "log", "seen", (Aggregation("count", window="1d", name="n"),), derived=derived)
    assert store.materialize(count, "2025-01-02", "2025-01-06").rows == 3 + 2
    kept = store.load(count)
    found = kept if isinstance(kept, pd.DataFrame) else pd.DataFrame([row.asDict() for row in kept.collect()])
    rows = found.sort_values(["event_time", "who"])[["who", "n"]].to_numpy().tolist()
    assert rows == [[11, 1], [11, 0], [12, 1], [11, 0], [12, 0]]


def test_several_declarations_at_once_are_refused(local_engine: Engine, tmp_path: Path) -> None:
    count = FeatureSet("seen", ("user",), "log", "at", (Aggregation("count", name="n"),))
    with pytest.raises(ConfigError, match="Give one at a time"):
        FeatureStore(local_engine, tmp_path).materialize([count, count], "2025-01-01", "2025-01-02")  # type: ignore[arg-type]


def test_progress_moves_within_a_long_call(
    local_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialize, "_SHORT_ROWS", 1)
    log = pd.DataFrame({"user": [1], "at": pd.to_datetime(["2025-01-01"])})
    local_engine.register("log", log)
    count = FeatureSet("seen", ("user",), "log", "at", (Aggregation("count", name="n"),))
    told: list[tuple[int, int]] = []
    FeatureStore(local_engine, tmp_path).materialize(
        count, "2025-01-02", "2025-01-22", progress=lambda done, total: told.append((done, total))
    )
    assert told == [(done, 20) for done in range(0, 21, 2)]
