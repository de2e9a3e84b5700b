"""The feature store against the loop of ``oracle.py``: generated tables, every shape of query, no leakage."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalrec.engines import Engine, LocalEngine
from causalrec.features import (
    Aggregation,
    AttributeFeatures,
    CalendarFeatures,
    FeatureSet,
    FeatureStore,
    frames,
    plan,
)
from causalrec.features.spec import OUTCOME_OPERATIONS

from ..conftest import REPO
from .oracle import LENGTHS, SECOND, agree, answers
from .tables import (
    BASES,
    COLUMNS_OF,
    COMPUTED,
    DERIVED,
    EVERYTHING,
    FLOATS,
    MEANING,
    TYPES,
    ZONES,
    a_set,
    arrow_events,
    compute,
    every_operation,
    feature_sets,
    generated,
    layouts,
    outcome_sets,
    same_bits,
    spine_frame,
    tables,
    us,
)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalEngine]:
    with LocalEngine(threads=2) as opened:
        yield opened


MIXED = 8  # of the larger tables, some keys go one way and some the other


many = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
some = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", params=[0, 1, 10**9], ids=["windowed", "mixed", "joined"])
def cost(request: pytest.FixtureRequest) -> Iterator[int]:
    """What the planner thinks that windows cost beside joins, so that each shape of query is reached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "WINDOW_COST", request.param)
        yield request.param


@many
@given(tables(), feature_sets())
def test_features_are_what_the_loop_says(local: LocalEngine, cost: int, table: Any, features: FeatureSet) -> None:
    events, asked, (unit, zone), (asked_unit, asked_zone) = table
    found = compute(local, arrow_events(events, unit, zone), spine_frame(asked, asked_unit, asked_zone), features)
    agree(found, answers(events, asked, features, MEANING))


@some
@given(tables(), outcome_sets())
def test_outcomes_are_what_the_loop_says(local: LocalEngine, cost: int, table: Any, features: FeatureSet) -> None:
    events, asked, (unit, zone), (asked_unit, asked_zone) = table
    spine = spine_frame(asked, asked_unit, asked_zone)
    found = compute(local, arrow_events(events, unit, zone), spine, features, ahead=True)
    agree(found, answers(events, asked, features, MEANING, ahead=True))


STRANGE = st.one_of(FLOATS, st.sampled_from([math.nan, math.inf, -math.inf]))


@some
@given(tables(floats=STRANGE), feature_sets())
def test_nan_and_infinity_spoil_only_their_windows(
    local: LocalEngine, cost: int, table: Any, features: FeatureSet
) -> None:
    events, asked, _, _ = table
    events = [{**e, "at": None if e["at"] is None else e["at"] // SECOND * SECOND} for e in events]
    agree(compute(local, arrow_events(events), spine_frame(asked), features), answers(events, asked, features, MEANING))


@some
@given(tables(), st.sampled_from(["1s", "3h", "1w", None]))
def test_derived_columns_and_computed_features(local: LocalEngine, cost: int, table: Any, window: str | None) -> None:
    events, asked, _, _ = table
    wanted = [Aggregation("count", window=window, name="events"), Aggregation("last", "double_n", window, name="twos")]
    wanted += [Aggregation(op, c, window, "double_n > 0") for op in ("sum", "first") for c in ("double_n", "bought")]
    features = a_set(*wanted, order_by=("double_n",), derived=DERIVED, computed=COMPUTED)
    agree(compute(local, arrow_events(events), spine_frame(asked), features), answers(events, asked, features, MEANING))


LEVELS = {"a": 1, "ü 😀": 2, " ": None}
PEOPLE = pa.table({"who": list(LEVELS), "level": pa.array(list(LEVELS.values()), pa.int64())})


@some
@given(tables(), st.lists(feature_sets(), min_size=1, max_size=3))
def test_several_declarations_and_a_table_that_asks(
    local: LocalEngine, cost: int, table: Any, sets: list[FeatureSet]
) -> None:
    """Sets of the same and of other keys, the calendar and attributes side by side, for a table known by its name."""
    events, asked, (unit, zone), (asked_unit, asked_zone) = table
    sets = [
        replace(each, aggregations=tuple(replace(a, name=f"{i} {a.label}") for a in each.aggregations))
        for i, each in enumerate(sets)
    ]
    local.register("events", arrow_events(events, unit, zone))
    local.register("people", PEOPLE)
    local.register("asked", spine_frame(asked, asked_unit, asked_zone).assign(row=range(len(asked))))
    calendar = CalendarFeatures("calendar", ("hour", "month"))
    people = AttributeFeatures("people", ("who",), "people", ("level",))
    wide = FeatureStore(local).training_frame("asked", [calendar, *sets, people])
    wide = wide.sort_values("row", ignore_index=True)
    assert wide["row"].tolist() == list(range(len(asked)))
    for each in sets:
        agree(wide[list(each.feature_names)], answers(events, asked, each, MEANING))
    times = [datetime(1970, 1, 1) + timedelta(microseconds=r["event_time"]) for r in asked]
    assert wide[["hour", "month"]].values.tolist() == [[t.hour, t.month] for t in times]
    levels = wide["level"].astype(object).where(wide["level"].notna(), None)
    assert levels.tolist() == [LEVELS.get(r["who"]) for r in asked]


@some
@given(tables(), feature_sets())
def test_what_happens_at_or_after_t_changes_no_bit(
    local: LocalEngine, cost: int, table: Any, features: FeatureSet
) -> None:
    events, asked, _, _ = table
    asked = asked[:1]
    past = [e for e in events if e["at"] is None or e["at"] < asked[0]["event_time"]]
    spine = spine_frame(asked)
    now, then = (compute(local, arrow_events(log), spine, features) for log in (events, past))
    same_bits(now, then)


@some
@given(tables(), outcome_sets())
def test_outcomes_see_nothing_outside_their_window(
    local: LocalEngine, cost: int, table: Any, features: FeatureSet
) -> None:
    events, asked, _, _ = table
    features = replace(features, aggregations=tuple(replace(a, window="3h") for a in features.aggregations))
    now = asked[0]["event_time"]
    inside = [e for e in events if e["at"] is not None and now <= e["at"] < now + 3 * LENGTHS["h"]]
    spine = spine_frame(asked[:1])
    all_of_it, only_inside = (
        compute(local, arrow_events(log), spine, features, ahead=True) for log in (events, inside)
    )
    same_bits(all_of_it, only_inside)


@some
@given(tables(), feature_sets(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_bit(
    local: LocalEngine, cost: int, table: Any, features: FeatureSet, random: Any
) -> None:
    events, asked, _, _ = table
    shuffled = random.sample(events, len(events))
    places = random.sample(range(len(asked)), len(asked))
    before = compute(local, arrow_events(events), spine_frame(asked), features)
    after = compute(local, arrow_events(shuffled), spine_frame([asked[i] for i in places]), features)
    same_bits(before.iloc[places].reset_index(drop=True), after)


@some
@given(tables(), feature_sets())
def test_who_else_asks_changes_no_bit(local: LocalEngine, cost: int, table: Any, features: FeatureSet) -> None:
    events, asked, _, _ = table
    together = compute(local, arrow_events(events), spine_frame(asked), features)
    for i, row in enumerate(asked):
        alone = compute(local, arrow_events(events), spine_frame([row]), features)
        same_bits(together.iloc[[i]].reset_index(drop=True), alone)


@st.composite
def grids(draw: st.DrawFn) -> Any:
    """Every midnight of a week or so for a few keys, some of them without events."""
    events, asked, _, _ = draw(tables())
    near = asked[0]["event_time"] // LENGTHS["d"] + draw(st.integers(-3, 1))
    users = {(r["num"], r["who"]) for r in asked}
    days = [(near + i) * LENGTHS["d"] for i in range(draw(st.integers(2, 9)))]
    events += [{**e, "at": draw(st.sampled_from(days)) + draw(st.integers(-1, 1))} for e in events[:4]]
    grid = [{"num": num, "event_time": day, "who": who} for num, who in sorted(users, key=str) for day in days]
    return events, draw(st.permutations(grid))


@some
@given(grids(), feature_sets(windows=("1d", "2d", "1w", "48h", "90m", None)))
def test_daily_grids_are_what_the_loop_says(local: LocalEngine, cost: int, table: Any, features: FeatureSet) -> None:
    events, grid = table
    found = compute(local, arrow_events(events), spine_frame(grid), features)
    agree(found, answers(events, grid, features, MEANING))


def test_every_shape_is_reached(local: LocalEngine) -> None:
    """Guards the proofs above: were the planner to change, they would go on to pass by one shape alone."""
    events, asked = generated(5)
    days = [{"num": 7, "who": w, "event_time": us("2025-03-05") + i * LENGTHS["d"]} for w in "aA" for i in range(9)]
    seen = set()
    with pytest.MonkeyPatch.context() as patch:
        made = frames.make_plan

        def watched(*given: Any, **options: Any) -> Any:
            chosen = made(*given, **options)
            seen.add((chosen.joined, chosen.windowed, chosen.daily))
            return chosen

        patch.setattr(frames, "make_plan", watched)
        for rows, value in ((asked, 0), (asked, MIXED), (asked, 10**9), (days, 0)):
            patch.setattr(plan, "WINDOW_COST", value)
            compute(local, arrow_events(events), spine_frame(rows), a_set(*EVERYTHING))
    assert {(True, False, False), (True, True, False), (False, True, True)} <= seen
    assert any(windowed and not joined for joined, windowed, _ in seen)


def test_every_operation_on_every_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", MIXED)
    events, asked = generated(5)
    features = a_set(*EVERYTHING[::2], order_by=("seq",))
    found = compute(engine, arrow_events(events), spine_frame(asked, zone="Europe/Berlin"), features)
    agree(found, answers(events, asked, features, MEANING))


@pytest.mark.slow_on_spark
def test_daily_grids_and_outcomes_on_every_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", 1)
    events, _ = generated(7, n_events=300, days=12)
    grid = [
        {"num": num, "who": who, "event_time": us("2025-02-28") + i * LENGTHS["d"]}
        for num, who in ((7, "a"), (0, "A"), (7, "nobody"), (None, "a"))
        for i in range(13)
    ]
    by_day = (*every_operation("2d", columns=("x", "text")), *every_operation(None, columns=("n",)))
    features = a_set(*by_day, keys=("num", "who"))
    found = compute(engine, arrow_events(events), spine_frame(grid), features)
    agree(found, answers(events, grid, features, MEANING))
    wanted = [a for w in ("90m", "3d") for a in every_operation(w, columns=("x", "n")) if a.op in OUTCOME_OPERATIONS]
    outcomes = a_set(*wanted)
    found = compute(engine, arrow_events(events), spine_frame(grid), outcomes, ahead=True)
    agree(found, answers(events, grid, outcomes, MEANING, ahead=True))


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        *(("local", kind) for kind in ("pandas", "index", "polars", "lazy", "arrow", "table")),
        pytest.param("spark", "polars", marks=[pytest.mark.spark, pytest.mark.slow]),
        pytest.param("spark", "table", marks=pytest.mark.spark),
    ],
    indirect=["engine"],
)
def test_any_kind_of_table_may_ask(engine: Engine, kind: str) -> None:
    """The rows that come back are those that went in, in their order, as what they were."""
    events, asked = generated(12, n_events=60, n_asked=15)
    features = a_set(*every_operation("1w", columns=("n", "text")))
    pandas = spine_frame(asked).assign(mine=range(len(asked)))
    spine: Any = {
        "pandas": lambda: pandas,
        "index": lambda: pandas.set_index(pd.Index(range(100, 100 - len(pandas), -1), name="row")),
        "polars": lambda: pl.from_pandas(pandas),
        "lazy": lambda: pl.from_pandas(pandas).lazy(),
        "arrow": lambda: pa.Table.from_pandas(pandas, preserve_index=False),
        "table": lambda: "asked",
    }[kind]()
    engine.register("events", arrow_events(events))
    engine.register("asked", pandas)
    wide = FeatureStore(engine).training_frame(spine, features)
    if kind in ("pandas", "index"):
        pd.testing.assert_frame_equal(wide[list(spine.columns)], spine)
        found = wide
    elif kind == "table":
        found = wide.toArrow().to_pandas() if engine.name == "spark" else wide
    else:
        assert type(wide) is type(spine)
        collected = wide.collect() if kind == "lazy" else wide
        found = collected.to_pandas()
    found = found.sort_values("mine") if kind == "table" else found
    assert found["mine"].tolist() == list(range(len(asked)))
    agree(found, answers(events, asked, features, MEANING))


@pytest.mark.slow_on_spark
@pytest.mark.parametrize("zone", ZONES[1:])
def test_days_of_23_and_25_hours_are_hours_in_utc(engine: Engine, zone: str) -> None:
    """A window of 1d is 24 hours even where the local day is shorter or longer."""
    for spring, autumn in (("2025-03-30 01:00", "2025-10-26 01:00"), ("2025-03-09 07:00", "2025-11-02 06:00")):
        hours = [BASES[name] + i * LENGTHS["h"] for name in (spring, autumn) for i in range(-30, 31)]
        blank = dict.fromkeys(TYPES)
        events = [{**blank, "who": "a", "at": at, "n": i} for i, at in enumerate(hours)]
        asked = [{"who": "a", "num": None, "event_time": at} for at in hours]
        features = a_set(*(Aggregation(op, "n", w) for op in ("sum", "last", "first") for w in ("1h", "1d", "1w")))
        found = compute(engine, arrow_events(events, zone=zone), spine_frame(asked, zone=zone), features)
        agree(found, answers(events, asked, features, MEANING))


def test_the_last_bit_does_not_depend_on_rows_files_or_threads(tmp_path: Any) -> None:
    """Sums of amounts that differ by thirteen orders of magnitude show any change of order."""
    events, asked = generated(11, n_events=3_000, n_asked=200, days=9)
    features = a_set(*EVERYTHING, keys=("who",), order_by=())
    table, spine = arrow_events(events), spine_frame(asked)
    rng = np.random.default_rng(0)
    mixed = table.take(rng.permutation(len(events)))
    with LocalEngine(threads=1) as engine:
        expected = compute(engine, table, spine, features)
    for source in layouts(mixed, tmp_path):
        for threads in (1, 2, 4):
            with LocalEngine(threads=threads) as engine:
                same_bits(compute(engine, source, spine, features), expected)


@pytest.mark.parametrize("spread", [2, 9])
def test_sums_of_floats_are_exact_and_rounded_once(cost: int, local: LocalEngine, spread: int) -> None:
    """So no bit of them can depend on rows, threads, the shape of the query, or on events outside their window."""
    rng, day = np.random.default_rng(spread), us("2025-01-01")
    at = day + rng.integers(0, 20 * 24, 900) * LENGTHS["h"]
    x = np.where(rng.random(900) < 0.3, 0.1, rng.normal(size=900) * 10.0 ** rng.integers(-spread, spread, 900))
    who = np.array(["a", "b", "c"])[rng.choice(3, 900, p=[0.6, 0.39, 0.01])]
    blank = dict.fromkeys(TYPES)
    events = [{**blank, "who": w, "at": int(t), "x": float(v)} for w, t, v in zip(who, at, x, strict=True)]
    asked = [{"who": w, "num": None, "event_time": day + i * 12 * LENGTHS["h"]} for w in "abc" for i in range(42)]
    windows = {"3d": 3 * LENGTHS["d"], "36h": 36 * LENGTHS["h"], None: 100 * LENGTHS["d"]}
    features = a_set(*(Aggregation("sum", "x", w) for w in windows))
    found = compute(local, arrow_events(events), spine_frame(asked), features)
    for name, width in zip(features.feature_names, windows.values(), strict=True):
        for got, row in zip(found[name].tolist(), asked, strict=True):
            now = row["event_time"]
            assert got == math.fsum(x[(who == row["who"]) & (at >= now - width) & (at < now)]), (name, row)


@pytest.mark.parametrize(
    "shape", [pytest.param(0, id="windowed"), pytest.param(10**9, id="joined", marks=pytest.mark.slow_on_spark)]
)
def test_amounts_of_all_sizes_keep_nine_digits(engine: Engine, shape: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of thousandths beside a column's thousands of billions, and large ones that cancel or hardly differ."""
    monkeypatch.setattr(plan, "WINDOW_COST", shape)
    blank = {**dict.fromkeys(TYPES), "who": "a"}
    day = us("2025-01-01")
    small = [1e-3 * (i + 1) for i in range(40)]
    large = [1e12, -1e12, 3.5e12, -3.5e12, 1e12 + 0.5]
    events = [{**blank, "at": day + i, "x": v} for i, v in enumerate(small)]
    events += [{**blank, "at": day + LENGTHS["d"] + i, "x": v} for i, v in enumerate(large)]
    events += [{**blank, "who": "b", "at": day + i, "x": 1e8 + i % 3} for i in range(50)]
    events += [{**blank, "who": "c", "at": day + i // 30, "x": 1e12 + i % 3} for i in range(900)]
    times = [day + 5, day + 40, day + LENGTHS["d"] + 2, day + LENGTHS["d"] + 5, day + 3 * LENGTHS["d"]]
    asked = [{"who": who, "num": None, "event_time": t} for t in times for who in "abc"]
    features = a_set(*(Aggregation(op, "x", w) for op in ("sum", "mean", "std") for w in ("1h", "2d", None)))
    found = compute(engine, arrow_events(events), spine_frame(asked), features)
    agree(found, answers(events, asked, features, MEANING))


def test_keys_of_other_types(engine: Engine) -> None:
    """Dictionaries, booleans, days and small integers find their equals; so do dictionaries and plain text."""
    at = pa.array([us("2025-01-01") + i for i in range(6)], pa.timestamp("us"))
    later = pa.array([us("2025-01-02")] * 3).cast(pa.timestamp("us")).to_pandas()
    keys = {
        "dictionary": (pa.array(["a", "b", "a", None, "ü", "b"]).dictionary_encode(), pd.Categorical(["b", "ü", "zz"])),
        "text": (pa.array(["a", "b", "a", None, "ü", "b"]), pd.Categorical(["b", "ü", "zz"], ["zz", "ü", "b"])),
        "boolean": (pa.array([True, False, True, None, True, False]), pd.array([False, True, None], "boolean")),
        "small": (pa.array([1, -2, 1, None, 3, -2], pa.int8()), np.array([-2, 3, 100], "int64")),
        "unsigned": (pa.array([1, 2, 1, None, 3, 2], pa.uint32()), np.array([2, 3, 100], "int16")),
    }  # fmt: skip
    for name, (mine, theirs) in keys.items():
        events = pa.table({"k": mine, "at": at})
        spine = pd.DataFrame({"k": theirs, "event_time": later})
        found = compute(engine, events, spine, a_set(Aggregation("count", name="n"), keys=("k",)))
        assert found["n"].tolist() == ([2, 3, 0] if name == "boolean" else [2, 1, 0]), name


def test_times_and_text_are_values_too(engine: Engine) -> None:
    at = pd.to_datetime(["2025-01-01", "2025-01-03", "2025-01-02"])
    seen = pd.to_datetime(["1960-02-29 00:00:00.000001", "2030-01-01", "2025-06-01"], format="ISO8601")
    events = pd.DataFrame({"who": "a", "at": at, "seen": seen, "text": ["b", "ä", "a"]})
    spine = pd.DataFrame({"who": ["a"], "event_time": pd.to_datetime(["2025-02-01"])})
    ops = ("min", "max", "first", "last", "n_unique")
    features = a_set(*(Aggregation(op, c, name=f"{op} {c}") for op in ops for c in ("seen", "text")))
    row = compute(engine, events, spine, features).iloc[0]
    assert [row[f"{op} seen"] for op in ops] == [seen[0], seen[1], seen[0], seen[1], 3]
    assert [row[f"{op} text"] for op in ops] == ["a", "ä", "b", "ä", 3]


def sliced(log: pd.DataFrame, asked: pd.DataFrame, window: int) -> dict[str, list[Any]]:
    """All operations on the events of each row's window, found by bisection in a sorted table."""
    starts = np.searchsorted(log["user"], np.arange(log["user"].max() + 3))
    at, v, k = (log[c].to_numpy() for c in ("at", "v", "k"))
    found: dict[str, list[Any]] = {op: [] for op in (*COLUMNS_OF, "total")}
    for user, now in zip(asked["user"], asked["event_time"], strict=True):
        lo, hi = starts[user : user + 2]
        a, b = lo + np.searchsorted(at[lo:hi], [now - window, now])
        some, whole = v[a:b], k[a:b]
        n = b - a
        found["count"].append(n)
        found["sum"].append(math.fsum(some))
        found["total"].append(int(whole.sum()))
        found["n_unique"].append(len(set(whole.tolist())))
        found["mean"].append(math.fsum(some) / n if n else None)
        found["std"].append(float(np.std(some, ddof=1)) if n > 1 else None)
        found["min"].append(some.min() if n else None)
        found["max"].append(some.max() if n else None)
        found["first"].append(some[0] if n else None)
        found["last"].append(some[-1] if n else None)
        found["recency"].append((now - at[b - 1]) / LENGTHS["d"] if n else None)
    return found


@pytest.mark.slow
def test_three_million_events(tmp_path: Path) -> None:
    rng, n, day = np.random.default_rng(0), 3_000_000, us("2025-01-01")
    log = pd.DataFrame({"user": rng.integers(0, 75_000, n), "at": day + rng.integers(0, 90 * LENGTHS["d"], n)})
    log["v"], log["k"] = rng.normal(20, 30, n).round(2), rng.integers(-5, 30, n)
    ordered = log.sort_values(["user", "at", "v", "k"], ignore_index=True)
    asked = pd.DataFrame({"user": rng.integers(0, 75_100, 300_000)})
    asked["event_time"] = day + rng.integers(0, 91 * LENGTHS["d"], len(asked))
    ops = {op: None if op in ("count", "recency") else "v" for op in COLUMNS_OF} | {"n_unique": "k"}
    windows = {"3d": 3 * LENGTHS["d"], "30d": 30 * LENGTHS["d"]}
    wanted = [Aggregation(op, c, w, name=f"{op} {w}") for w in windows for op, c in ops.items()]
    wanted += [Aggregation("sum", "k", w, name=f"total {w}") for w in windows]
    log.assign(at=log["at"].to_numpy().astype("datetime64[us]")).to_parquet(tmp_path / "events.parquet")
    spine = asked.assign(event_time=asked["event_time"].to_numpy().astype("datetime64[us]"))
    with LocalEngine(threads=2) as engine:
        found = compute(engine, tmp_path / "events.parquet", spine, a_set(*wanted, keys=("user",)))
    known = asked.assign(user=asked["user"].clip(upper=ordered["user"].max() + 1))
    for window, length in windows.items():
        for op, expected in sliced(ordered, known, length).items():
            got = found[f"{op} {window}"]
            if op in ("count", "n_unique", "total"):
                assert got.tolist() == expected, (op, window)
            else:
                np.testing.assert_allclose(got.to_numpy(float), np.array(expected, float), rtol=1e-9, atol=1e-10)


ON_A_CLUSTER = """
from causalrec.engines import SparkEngine
from causalrec.features import plan
from tests.features.oracle import agree, answers
from tests.features.tables import EVERYTHING, MEANING, a_set, arrow_events, compute, generated, spine_frame

if __name__ == "__main__":
    plan.WINDOW_COST = 3
    events, asked = generated(6, n_events=600)
    features = a_set(*EVERYTHING, keys=("num", "who"), order_by=("seq",))
    with SparkEngine(master="local-cluster[2,1,1024]") as engine:
        found = compute(engine, arrow_events(events), spine_frame(asked), features)
    agree(found, answers(events, asked, features, MEANING))
    print("agreed")
"""


@pytest.mark.slow
@pytest.mark.spark
def test_executors_of_their_own_agree(spark_session: Any) -> None:
    """In a process of its own: one process has one Spark."""
    ran = subprocess.run([sys.executable, "-c", ON_A_CLUSTER], cwd=REPO, capture_output=True, text=True, timeout=300)
    assert ran.stdout.strip() == "agreed", ran.stderr[-2_000:]
