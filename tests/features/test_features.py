"""Features as of a time against a loop that anyone can check, on every engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import ColumnError, ConfigError, TimeError
from causalrec.features import Aggregation, FeatureSet, FeatureStore, parse_window
from causalrec.features.spec import OPERATIONS, OUTCOME_OPERATIONS

START = pd.Timestamp("2025-03-01")
HOUR = 3_600_000_000
US_A_DAY = 86_400_000_000


def us(time: pd.Timestamp) -> int:
    return int(time.value) // 1000


def oracle(events: pd.DataFrame, spine: pd.DataFrame, features: FeatureSet, *, ahead: bool = False) -> pd.DataFrame:
    """One loop over the rows that ask, one over the events."""
    found: list[dict[str, Any]] = []
    ties = ["order", *(c for c in events.columns if c not in (*features.keys, "at", "order"))]
    log = [{c: None if pd.isna(v) else v for c, v in event.items()} for event in events.to_dict("records")]
    for row in spine.to_dict("records"):
        now, values = us(row["event_time"]), {}
        mine = [e for e in log if e["at"] is not None and all(e[k] == row[k] for k in features.keys)]
        for a in features.aggregations:
            width = parse_window(a.window) if a.window else 2**62
            seen = []
            for event in mine:
                gap = us(event["at"]) - now
                inside = 0 <= gap < width if ahead else -width <= gap < 0
                wanted = a.where is None or event["kind"] == "buy"
                value = event[a.column] if a.column else 1
                if inside and wanted and value is not None:
                    order = tuple((0, "") if event[c] is None else (1, event[c]) for c in ties)
                    seen.append((us(event["at"]), order, value))
            values[a.label] = aggregate(a.op, sorted(seen, key=lambda s: s[:2]), now)
        found.append(values)
    return pd.DataFrame(found, columns=list(features.feature_names))


def aggregate(op: str, seen: list[tuple[int, Any, Any]], now: int) -> float | str | None:
    values = [v for _, _, v in seen]
    if op in ("count", "sum", "n_unique"):
        return {"count": len(values), "sum": math.fsum(values) if op == "sum" else 0, "n_unique": len(set(values))}[op]
    if not values or (op == "std" and len(values) < 2):
        return None
    if op == "recency":
        return (now - max(t for t, _, _ in seen)) / US_A_DAY
    if op == "mean":
        return math.fsum(values) / len(values)
    if op == "std":
        return float(np.std(np.array(values, dtype=float), ddof=1))
    return {"min": min, "max": max, "first": lambda v: v[0], "last": lambda v: v[-1]}[op](values)


def compare(found: pd.DataFrame, expected: pd.DataFrame, scale: float = 0.0) -> None:
    """Whole numbers and text exactly, others to 1e-9 of their size or of what was added up to get them."""
    assert list(found.columns) == list(expected.columns)
    for column in expected:
        for got, want in zip(found[column], expected[column], strict=True):
            if want is None or (isinstance(want, float) and math.isnan(want)):
                assert pd.isna(got), (column, got, want)
            elif isinstance(want, float):
                assert got == pytest.approx(want, rel=1e-9, abs=1e-9 * scale), column
            else:
                assert got == want, (column, got, want)


def every_feature(keys: tuple[str, ...], windows: tuple[str | None, ...] = ("3h", None)) -> FeatureSet:
    """All operations on all windows, some with a condition; the explicit order breaks ties."""
    wanted = []
    for window in windows:
        for op in OPERATIONS:
            columns = {"count": [None], "recency": [None], "n_unique": ["x", "n", "text"]}.get(op, ["x", "n"])
            columns = [*columns, "text"] if op in ("min", "max", "first", "last") else columns
            wanted += [Aggregation(op, column, window) for column in columns]
        wanted += [Aggregation(op, "n", window, where="kind = 'buy' OR kind = 'none'") for op in ("sum", "last", "min")]
        wanted += [Aggregation("recency", None, window, where="kind = 'buy'")]
    return FeatureSet("all", keys, "events", "at", tuple(wanted), order_by=("order",))


# Few users, hours and values, so that ties, edges of windows and duplicates are common.
HOURS = st.integers(0, 60)
EVENT = st.fixed_dictionaries(
    {
        "user": st.one_of(st.none(), st.sampled_from(["a", "b", "ü 😀", "o'k"])),
        "shop": st.sampled_from([1, 2]),
        "at": st.one_of(st.none(), HOURS),
        "order": st.one_of(st.none(), st.integers(0, 2)),
        "x": st.one_of(st.none(), st.floats(-1e4, 1e4, allow_subnormal=False)),
        "n": st.one_of(st.none(), st.integers(-3, 3)),
        "text": st.one_of(st.none(), st.sampled_from(["", "p", "q", "Ä"])),
        "kind": st.sampled_from(["buy", "view"]),
    }
)
ASK = st.fixed_dictionaries(
    {"user": st.sampled_from(["a", "b", "ü 😀", "c"]), "shop": st.sampled_from([1, 2]), "event_time": HOURS}
)


def frames(events: list[dict[str, Any]], asked: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    log = pd.DataFrame(events, columns=["user", "shop", "at", "order", "x", "n", "text", "kind"])
    log["at"] = START + pd.to_timedelta(log["at"].astype("float64"), unit="h").astype("timedelta64[us]")
    log = log.astype({"x": "float64", "order": "Int64", "n": "Int64", "user": "str", "text": "str"})
    spine = pd.DataFrame(asked)
    spine["event_time"] = START + pd.to_timedelta(spine["event_time"], unit="h").astype("timedelta64[us]")
    return log, spine.astype({"user": "str"})


def compute(
    engine: Engine, events: pd.DataFrame, spine: pd.DataFrame, features: FeatureSet, *, ahead: bool = False
) -> pd.DataFrame:
    engine.register("events", events)
    store = FeatureStore(engine)
    wide = store.outcome_frame(spine, features) if ahead else store.training_frame(spine, features)
    pd.testing.assert_frame_equal(wide[list(spine.columns)], spine)
    return wide[list(features.feature_names)]


@pytest.fixture(scope="module")
def local() -> Any:
    with LocalEngine(threads=1) as engine:
        yield engine


TABLES: dict[str, Any] = {
    "events": st.lists(EVENT, min_size=1, max_size=12),
    "asked": st.lists(ASK, min_size=1, max_size=4),
}


@settings(max_examples=30, deadline=None)
@given(**TABLES, keys=st.sampled_from([("user",), ("shop",), ("user", "shop")]))
def test_features_equal_the_loop(
    local: LocalEngine, events: list[Any], asked: list[Any], keys: tuple[str, ...]
) -> None:
    log, spine = frames(events, asked)
    features = every_feature(keys)
    compare(compute(local, log, spine, features), oracle(log, spine, features), scale=1e4)


OUTCOMES = FeatureSet(
    "outcomes", ("user",), "events", "at",
    tuple(Aggregation(op, None if op == "count" else "n", w) for op in OUTCOME_OPERATIONS for w in ("2h", "1d")),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(**TABLES)
def test_outcomes_equal_the_loop(local: LocalEngine, events: list[Any], asked: list[Any]) -> None:
    log, spine = frames(events, asked)
    compare(compute(local, log, spine, OUTCOMES, ahead=True), oracle(log, spine, OUTCOMES, ahead=True))


@settings(max_examples=15, deadline=None)
@given(**TABLES, seed=st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(local: LocalEngine, events: list[Any], asked: list[Any], seed: int) -> None:
    log, spine = frames(events, asked)
    features = every_feature(("user",))
    before = compute(local, log, spine, features)
    after = compute(local, log.sample(frac=1, random_state=seed), spine, features)
    compare(after, before.astype(object), scale=1e4)


@settings(max_examples=15, deadline=None)
@given(**TABLES)
def test_events_at_or_after_t_do_not_matter(local: LocalEngine, events: list[Any], asked: list[Any]) -> None:
    log, spine = frames(events, asked[:1])
    features = every_feature(("user",))
    before = compute(local, log, spine, features)
    past = log[~(log["at"] >= spine["event_time"].iloc[0])]
    pd.testing.assert_frame_equal(compute(local, past, spine, features), before, check_dtype=False)


def big_tables(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng, n = np.random.default_rng(seed), 400
    users = np.array(["a", "b", "ü 😀", "o'k", None], dtype=object)
    events = [
        {
            "user": users[rng.integers(5)], "shop": int(rng.integers(1, 3)),
            "at": None if rng.random() < 0.02 else int(rng.integers(60)),
            "order": None if rng.random() < 0.2 else int(rng.integers(3)),
            "x": None if rng.random() < 0.1 else float(rng.normal(0, 100)),
            "n": None if rng.random() < 0.1 else int(rng.integers(-3, 4)),
            "text": None if rng.random() < 0.1 else str(rng.choice(["", "p", "q", "Ä"])),
            "kind": str(rng.choice(["buy", "view"])),
        }
        for _ in range(n)
    ]  # fmt: skip
    asked = [
        {"user": users[rng.integers(4)], "shop": int(rng.integers(1, 3)), "event_time": int(rng.integers(62))}
        for _ in range(25)
    ]
    return frames(events + events[:20], asked)


def test_features_equal_the_loop_on_every_engine(engine: Engine) -> None:
    log, spine = big_tables(1)
    features = every_feature(("user", "shop"), ("1d",))
    compare(compute(engine, log, spine, features), oracle(log, spine, features), scale=1e4)


def test_outcomes_equal_the_loop_on_every_engine(engine: Engine) -> None:
    log, spine = big_tables(7)
    compare(compute(engine, log, spine, OUTCOMES, ahead=True), oracle(log, spine, OUTCOMES, ahead=True))


def one_user(times: list[pd.Timestamp], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"user": 1, "at": times, **columns})


def ask(*times: Any) -> pd.DataFrame:
    return pd.DataFrame({"user": 1, "event_time": list(times)})


def a_set(*aggregations: Aggregation, **options: Any) -> FeatureSet:
    given: dict[str, Any] = {"name": "s", "keys": ("user",), "source": "events", "time_column": "at"}
    return FeatureSet(**{**given, "aggregations": aggregations, **options})


def test_a_window_is_closed_at_its_start_and_open_at_t(engine: Engine) -> None:
    t, tick, w = START, pd.Timedelta(1, "us"), pd.Timedelta("3D")
    edges = [t - w - tick, t - w, t - tick, t, t + w - tick, t + w]
    engine.register("events", one_user(edges, v=[1, 10, 100, 1_000, 10_000, 100_000]))
    total = a_set(Aggregation("sum", "v", "3d", name="s"))
    store = FeatureStore(engine)
    assert store.training_frame(ask(t), total)["s"].tolist() == [110]
    assert store.outcome_frame(ask(t), total)["s"].tolist() == [11_000]


def test_no_event_gives_zero_or_null(engine: Engine) -> None:
    engine.register("events", pd.DataFrame({"user": [2], "at": [START], "v": [1.0]}))
    features = a_set(
        *(Aggregation(op, None if op in ("count", "recency") else "v", "1d", name=op) for op in OPERATIONS)
    )
    row = FeatureStore(engine).training_frame(ask(START), features).iloc[0]
    assert {op for op in OPERATIONS if row[op] == 0} == {"count", "sum", "n_unique"}
    assert {op for op in OPERATIONS if pd.isna(row[op])} == set(OPERATIONS) - {"count", "sum", "n_unique"}


def test_ties_follow_the_order_column_and_then_all_columns(engine: Engine) -> None:
    tied = one_user([START] * 3, step=[2, 1, 2], v=["b", "z", "a"])
    later = ask(START + pd.Timedelta("1h"))
    for rows in (tied, tied.iloc[::-1]):
        engine.register("events", rows)
        first, last = Aggregation("first", "v", name="first"), Aggregation("last", "v", name="last")
        by_step = FeatureStore(engine).training_frame(later, a_set(first, last, order_by=("step",))).iloc[0]
        assert (by_step["first"], by_step["last"]) == ("z", "b")  # step, then v
        by_v = FeatureStore(engine).training_frame(later, a_set(first, last, order_by=("v",))).iloc[0]
        assert (by_v["first"], by_v["last"]) == ("a", "z")


def test_zones_meet_in_utc(engine: Engine) -> None:
    """Berlin's clock showed 02:30 twice on 2025-10-26: at 00:30 and at 01:30 UTC."""
    naive = pd.to_datetime(["2025-10-26 00:30", "2025-10-26 01:30"])
    zoned = naive.tz_localize("UTC").tz_convert("Europe/Berlin")
    since = a_set(Aggregation("count", window="1h", name="n"), Aggregation("recency", name="r"))
    for at in (naive, zoned):
        engine.register("events", one_user(list(at)))
        for times in (naive, zoned):
            wide = FeatureStore(engine).training_frame(ask(*times), since)
            assert wide["n"].tolist() == [0, 1]
            assert wide["r"].isna().tolist() == [True, False]
            assert wide["r"].iloc[1] == pytest.approx(1 / 24, rel=1e-12)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_any_unit_of_time(engine: Engine, unit: str) -> None:
    at = pd.Series(pd.to_datetime(["1969-12-31", "1970-01-02"])).dt.as_unit(unit)
    engine.register("events", pd.DataFrame({"user": 1, "at": at}))
    spine = pd.DataFrame({"user": 1, "event_time": at + pd.Timedelta(1, "s")})
    assert FeatureStore(engine).training_frame(spine, a_set(Aggregation("count", name="n")))["n"].tolist() == [1, 2]


ODD = ["t", "o", "v0", "f0", "k", "w", "Select", "a b", 'quo"te', "back`tick", "ünï", "semi;colon", "per%cent", "o'k"]


@pytest.mark.parametrize("name", ODD)
def test_columns_may_have_any_name(engine: Engine, name: str) -> None:
    table = f"log {name}"
    engine.register(table, pd.DataFrame({name: [1, 1], f"{name} at": [START, START], f"{name} v": [3, 4]}))
    spine = pd.DataFrame({name: [1], f"{name} now": [START + pd.Timedelta("1h")]})
    v = f"{name} v"
    wanted = [("sum", f"sum {name}"), ("last", f"{name}."), ("n_unique", "u")]
    aggregations = tuple(Aggregation(op, v, name=label) for op, label in wanted)
    features = FeatureSet("odd", (name,), table, f"{name} at", aggregations, order_by=(v,))
    row = FeatureStore(engine).training_frame(spine, features, event_time=f"{name} now").iloc[0]
    assert (row[f"sum {name}"], row[f"{name}."], row["u"]) == (7, 4, 2)


NUMBERS = {
    "boolean": pa.bool_(),
    "small": pa.int8(),
    "unsigned": pa.uint32(),
    "single": pa.float32(),
    "decimal": pa.decimal128(9, 2),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_any_type_are_added_up(engine: Engine, kind: str) -> None:
    v = pa.array([1.0, 1.0, 0.0, None]).cast(NUMBERS[kind])
    engine.register("events", pa.table({"user": [1] * 4, "at": [START.to_pydatetime()] * 4, "v": v}))
    ops = ("sum", "mean", "std", "min", "max", "n_unique")
    features = a_set(*(Aggregation(op, "v", name=op) for op in ops))
    row = FeatureStore(engine).training_frame(ask(START + pd.Timedelta("1h")), features).iloc[0]
    assert [float(row[op]) for op in ops] == pytest.approx([2, 2 / 3, math.sqrt(1 / 3), 0, 1, 2], rel=1e-12)


def test_several_sets_and_the_index_of_the_spine(engine: Engine) -> None:
    engine.register("events", pd.DataFrame({"user": [1, 2], "shop": ["x", "y"], "at": START}))
    spine = pd.DataFrame({"shop": ["y", "x"], "user": [1, 1], "event_time": START + pd.Timedelta("1h")}, index=[7, 3])
    count = Aggregation("count", name="n_user")
    sets = [a_set(count), a_set(Aggregation("count", name="n_both"), name="both", keys=("user", "shop"))]
    wide = FeatureStore(engine).training_frame(spine, sets)
    assert wide.index.tolist() == [7, 3]
    assert (wide["n_user"].tolist(), wide["n_both"].tolist()) == ([1, 1], [0, 1])
    with pytest.raises(ColumnError, match="'n_user' are taken"):
        FeatureStore(engine).training_frame(wide, sets[0])


EVENTS = pd.DataFrame({"user": [1, 2], "at": START, "text": ["a", "b"], "v": [1.0, 2.0]})
COUNT = a_set(Aggregation("count", name="n"))


def wrong(
    kind: type[Exception],
    message: str,
    features: FeatureSet = COUNT,
    events: pd.DataFrame = EVENTS,
    spine: pd.DataFrame | None = None,
) -> tuple[Any, ...]:
    return kind, message, features, events, ask(START) if spine is None else spine


WRONG = {
    "a column missing": wrong(ColumnError, "missing column 'vv'.*Did you mean 'v'", a_set(Aggregation("sum", "vv"))),
    "a key missing": wrong(ColumnError, "missing column 'user'", events=EVENTS.drop(columns="user")),
    "a key of the spine missing": wrong(ColumnError, "spine: missing", spine=ask(START).drop(columns="user")),
    "no time": wrong(ColumnError, "missing column 'event_time'", spine=ask(START).drop(columns="event_time")),
    "no order": wrong(ColumnError, "missing column 'seq'", a_set(Aggregation("last", "v"), order_by=("seq",))),
    "sum of text": wrong(ColumnError, "sum needs numbers, but 'text' is string", a_set(Aggregation("sum", "text"))),
    "keys of other types": wrong(
        ColumnError, "key 'user' is integer in the spine and string in table", events=EVENTS.astype({"user": str})
    ),
    "keys with holes": wrong(
        ColumnError, "key 'user' is float in the spine and integer", spine=ask(START).astype({"user": float})
    ),
    "text times": wrong(TimeError, "'at' is string; expected timestamps", events=EVENTS.astype({"at": str})),
    "number times": wrong(TimeError, "'event_time' is integer", spine=ask(1_700_000_000)),
    "null times": wrong(TimeError, "1 rows have no 'event_time'", spine=ask(START, pd.NaT)),
    "no SQL": wrong(ConfigError, r"condition 'v >> \(' is not", a_set(Aggregation("count", where="v >> ("))),
    "no such name": wrong(ConfigError, "condition 'nope = 1' is not", a_set(Aggregation("count", where="nope = 1"))),
    "two statements": wrong(ConfigError, "is not understood", a_set(Aggregation("count", where="1 = 1; SELECT 1"))),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(engine: Engine, case: str) -> None:
    kind, message, features, events, spine = WRONG[case]
    engine.register("events", events)
    with pytest.raises(kind, match=message):
        FeatureStore(engine).training_frame(spine, features)


def test_outcomes_need_a_window_and_an_operation_that_looks_ahead(engine: Engine) -> None:
    engine.register("events", EVENTS)
    for bad in (Aggregation("count"), Aggregation("last", "v", "1d")):
        with pytest.raises(ColumnError, match="an outcome needs a window and one of"):
            FeatureStore(engine).outcome_frame(ask(START), a_set(bad))


def test_the_spine_is_forgotten_even_after_an_error() -> None:
    with LocalEngine() as engine:
        engine.register("events", EVENTS)
        with pytest.raises(ColumnError):
            FeatureStore(engine).training_frame(ask(START), a_set(Aggregation("sum", "text")))
        FeatureStore(engine).training_frame(ask(START), a_set(Aggregation("count", where="v > 1", name="n")))
        assert engine.collect("SELECT view_name FROM duckdb_views() WHERE NOT internal")["view_name"].tolist() == [
            "events"
        ]
