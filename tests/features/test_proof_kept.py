"""What is kept on disk against the loop, while events arrive one day after another, late or out of order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.engines.arrow import arrow_to_pandas
from causalrec.exceptions import StoreError
from causalrec.features import Aggregation, FeatureSet, FeatureStore
from causalrec.features.grid import daily_grid

from .oracle import LENGTHS, Row, agree, answers
from .tables import MEANING, a_set, arrow_events, generated, same_bits, us

DAY = LENGTHS["d"]
FIRST = us("2025-03-01")
N_DAYS = 8
WHOLE_DAYS = a_set(
    Aggregation("count", window="2d"),
    Aggregation("sum", "x", "2d"),
    Aggregation("last", "text", "1d", "kind = 'buy'"),
    Aggregation("n_unique", "n", "3d"),
    Aggregation("recency", window="3d"),
    name="whole days",
)
ALL_TIME = a_set(
    Aggregation("count"),
    Aggregation("mean", "x", "90m"),
    Aggregation("std", "x", "1w"),
    Aggregation("first", "text"),
    Aggregation("min", "price"),
    keys=("num", "who"),
    name="all time",
)


def days_of_events(seed: int) -> list[Row]:
    events, _ = generated(seed, n_events=300, n_asked=1, days=N_DAYS)
    return [e for e in events if e["at"] is not None]


def midnights(events: list[Row], features: FeatureSet, days: range) -> list[Row]:
    """Who has an event before it, at every midnight."""
    rows = []
    for day in days:
        now = FIRST + day * DAY
        known = {tuple(e[k] for k in features.keys) for e in events if e["at"] < now}
        rows += [{**dict(zip(features.keys, key, strict=True)), "event_time": now} for key in known if None not in key]
    return rows


def opened(engine: Engine, root: Path, events: list[Row]) -> FeatureStore:
    engine.register("events", arrow_events(events))
    return FeatureStore(engine, root)


def date(day: int) -> str:
    return str(np.datetime64(FIRST + day * DAY, "us").astype("datetime64[D]"))


def loaded(store: FeatureStore, features: FeatureSet, **options: Any) -> pd.DataFrame:
    found = store.load(features, **options)
    frame = found if isinstance(found, pd.DataFrame) else arrow_to_pandas(found.toArrow())
    frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True).dt.tz_localize(None).astype("datetime64[us]")
    return frame.sort_values(["event_time", *features.keys], ignore_index=True)


def in_order(rows: list[Row], features: FeatureSet) -> list[Row]:
    return sorted(rows, key=lambda r: (r["event_time"], *(r[k] for k in features.keys)))


@pytest.mark.slow_on_spark
@pytest.mark.parametrize("features", [WHOLE_DAYS, ALL_TIME], ids=lambda f: f.name)
def test_what_is_kept_is_what_the_loop_says(engine: Engine, tmp_path: Path, features: FeatureSet) -> None:
    events = days_of_events(1)
    store = opened(engine, tmp_path, events)
    done = store.materialize(features, date(0), date(N_DAYS))
    asked = in_order(midnights(events, features, range(N_DAYS)), features)
    kept = loaded(store, features)
    assert (done.rows, done.days_computed, done.days_reused) == (len(asked), N_DAYS, 0)
    assert kept["event_time"].astype("int64").tolist() == [r["event_time"] for r in asked]
    for key in features.keys:
        assert kept[key].tolist() == [r[key] for r in asked]
    agree(kept, answers(events, asked, features, MEANING))
    spine = kept[[*features.keys, "event_time"]]
    again = store.training_frame(spine, features)
    same_bits(kept[list(features.feature_names)], again[list(features.feature_names)])


@pytest.mark.parametrize("features", [WHOLE_DAYS, ALL_TIME], ids=lambda f: f.name)
def test_day_by_day_while_events_arrive_is_all_at_once_afterwards(tmp_path: Path, features: FeatureSet) -> None:
    """What will happen changes no feature of today, and no day is computed twice."""
    events = days_of_events(2)
    with LocalEngine(threads=2) as engine:
        for day in range(N_DAYS):
            store = opened(engine, tmp_path / "daily", [e for e in events if e["at"] < FIRST + day * DAY])
            done = store.materialize(features, date(0), date(day + 1))
            assert (done.days_computed, done.days_reused) == (1, day)
        once = opened(engine, tmp_path / "once", events)
        once.materialize(features, date(0), date(N_DAYS))
        assert store.materialize(features, date(0), date(N_DAYS)).days_computed == 0
        same_bits(loaded(store, features), loaded(once, features))


@pytest.mark.parametrize("seed", range(6))
def test_late_changed_and_deleted_events(tmp_path: Path, seed: int) -> None:
    """After any change, filling what is stale is the same as starting anew."""
    rng, events = np.random.default_rng(seed), days_of_events(3)
    with LocalEngine(threads=2) as engine:
        for features in (WHOLE_DAYS, ALL_TIME):
            store = opened(engine, tmp_path / "kept", events)
            store.materialize(features, date(0), date(N_DAYS))
            changed = [dict(e) for e in events if rng.random() > 0.02]
            late = dict(changed[rng.integers(len(changed))])
            late["at"] = FIRST + int(rng.integers(0, N_DAYS * 24)) * LENGTHS["h"]
            changed.append(late)
            touched = changed[rng.integers(len(changed))]
            touched["x"], touched["text"] = 5.25, "new"
            store = opened(engine, tmp_path / "kept", changed)
            store.materialize(features, date(0), date(N_DAYS))
            anew = opened(engine, tmp_path / f"anew {features.name}", changed)
            anew.materialize(features, date(0), date(N_DAYS))
            same_bits(loaded(store, features), loaded(anew, features))
            assert store.materialize(features, date(0), date(N_DAYS)).days_computed == 0


@pytest.mark.parametrize(("hours", "days"), [(0, [4, 5, 6]), (1, [4, 5, 6]), (23, [4, 5, 6])])
def test_a_late_event_touches_the_days_whose_windows_reach_it(tmp_path: Path, hours: int, days: list[int]) -> None:
    """An event of the day 3 lies in the windows, of at most three days, of the midnights of 4, 5 and 6."""
    events = [e for e in days_of_events(4) if e["who"] is not None]
    known = {**events[0], "who": "a", "at": FIRST - 30 * DAY}
    late = {**known, "at": FIRST + 3 * DAY + hours * LENGTHS["h"], "x": 1.0, "kind": "buy"}
    with LocalEngine(threads=2) as engine:
        store = opened(engine, tmp_path, [*events, known])
        store.materialize(WHOLE_DAYS, date(0), date(N_DAYS))
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
        store = opened(engine, tmp_path, [*events, known, late])
        done = store.materialize(WHOLE_DAYS, date(0), date(N_DAYS))
        assert (done.days_computed, done.days_reused) == (len(days), N_DAYS - len(days))
        kept = {p.parent.name for p, time in before.items() if p.exists() and p.stat().st_mtime_ns == time}
        assert kept == {f"day={date(d)}" for d in range(N_DAYS)} - {f"day={date(d)}" for d in days}


def test_a_changed_declaration_is_another_version(engine: Engine, tmp_path: Path) -> None:
    store = opened(engine, tmp_path, days_of_events(5))
    store.materialize(WHOLE_DAYS, date(0), date(2))
    changed = a_set(Aggregation("count", window="1d"), name=WHOLE_DAYS.name)
    with pytest.raises(StoreError, match="materialize"):
        store.load(changed)
    store.materialize(changed, date(0), date(1))
    assert set(loaded(store, WHOLE_DAYS)["event_time"]) == set(pd.to_datetime([date(1), date(0)]).as_unit("us")) - {
        pd.Timestamp(date(0))
    }
    versions = store.list()
    assert versions["name"].tolist() == [WHOLE_DAYS.name] * 2
    assert sorted(versions["days"]) == [1, 2]


def by_polars(events: list[Row], grid: pd.DataFrame, window: str) -> pl.DataFrame:
    """Aggregates of ``[t - w, t)`` by Polars, which rolls over events and midnights in one sorted table."""
    log = pl.DataFrame({c: [e[c] for e in events] for c in ("who", "at", "x")}).drop_nulls(["who", "at"])
    log = log.with_columns(pl.from_epoch("at", "us"))
    asked = pl.DataFrame({"who": grid["who"].tolist(), "at": grid["event_time"].to_numpy()})
    both = pl.concat([log, asked.with_columns(x=pl.lit(None, pl.Float64))]).sort("who", "at")
    x = pl.col("x")
    aggregates = {"count": x.count(), "sum": x.sum(), "mean": x.mean(), "min": x.min(), "max": x.max(), "std": x.std()}
    rolled = both.rolling("at", period=window, closed="left", group_by="who").agg(**aggregates)
    return asked.join(rolled.unique(["who", "at"]), on=["who", "at"], how="left", maintain_order="left")


@pytest.mark.parametrize("window", ["1d", "3d", "1w", "36h"])
def test_a_grid_is_what_polars_rolls(window: str) -> None:
    events = days_of_events(8)
    customers = ["a", "A", "ü 😀", "o'k", "nobody"]
    grid = daily_grid(customers, date(0), date(N_DAYS + 3), key="who")
    ops = ("sum", "mean", "min", "max", "std")
    features = a_set(
        Aggregation("count", window=window, where="x IS NOT NULL", name="count"),
        *(Aggregation(op, "x", window, name=op) for op in ops),
    )
    with LocalEngine(threads=2) as engine:
        engine.register("events", arrow_events(events))
        wide = FeatureStore(engine).training_frame(grid, features)
    expected = by_polars(events, grid, window)
    assert wide["count"].tolist() == expected["count"].to_list()
    for op in ops:
        np.testing.assert_allclose(
            wide[op].to_numpy(float), expected[op].to_numpy().astype(float), rtol=1e-9, atol=1e-5
        )


def test_a_grid_has_every_customer_at_every_midnight() -> None:
    grid = daily_grid(["b", "ü", "a", "b"], "2025-02-27", "2025-03-02", key="who")
    days = pd.to_datetime(["2025-02-27", "2025-02-28", "2025-03-01"])
    assert list(zip(grid["who"], grid["event_time"], strict=True)) == [
        (w, day) for w in ("a", "b", "ü") for day in days
    ]


def test_a_grid_of_features_is_what_is_kept(tmp_path: Path) -> None:
    """Two ways to ask for the same: a grid of all customers, and what is kept for them."""
    events = days_of_events(9)
    customers = pd.DataFrame({"who": sorted({e["who"] for e in events if e["who"] is not None})})
    with LocalEngine(threads=2) as engine:
        store = opened(engine, tmp_path, events)
        store.materialize(WHOLE_DAYS, date(2), date(6), entities=customers)
        grid = store.training_frame(daily_grid(customers, date(2), date(6)), WHOLE_DAYS)
        kept = loaded(store, WHOLE_DAYS)
    grid = grid.sort_values(["event_time", "who"], ignore_index=True)
    assert kept[["who", "event_time"]].values.tolist() == grid[["who", "event_time"]].values.tolist()
    names = list(WHOLE_DAYS.feature_names)
    same_bits(kept[names], grid[names])
