"""Tables and feature sets for the proofs: strategies for Hypothesis, larger ones by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from hypothesis import strategies as st

from causalrec.engines import Engine
from causalrec.features import Aggregation, FeatureSet, FeatureStore

from .oracle import LENGTHS, SECOND, Row

MEANING = {
    "kind = 'buy'": lambda e: None if e["kind"] is None else e["kind"] == "buy",
    "n > 0 OR flag": lambda e: _either(None if e["n"] is None else e["n"] > 0, e["flag"]),
    "price < 0": lambda e: None if e["price"] is None else e["price"] < 0,
}
CONDITIONS = tuple(MEANING)
MEANING |= {
    "n * 2 - seq": lambda e: None if None in (e["n"], e["seq"]) else e["n"] * 2 - e["seq"],
    "CASE WHEN kind = 'buy' THEN x END": lambda e: e["x"] if e["kind"] == "buy" else None,
    "double_n > 0": lambda e: None if e["double_n"] is None else e["double_n"] > 0,
    "events / NULLIF(twos, 0)": lambda f: f["events"] / f["twos"] if f["twos"] else None,
    "COALESCE(twos, -1) + events": lambda f: f["events"] + (-1 if f["twos"] is None else f["twos"]),
}
DERIVED = {"double_n": "n * 2 - seq", "bought": "CASE WHEN kind = 'buy' THEN x END"}
COMPUTED = {"ratio": "events / NULLIF(twos, 0)", "both": "COALESCE(twos, -1) + events"}
TYPES = {
    "who": pa.string(),
    "num": pa.int64(),
    "at": pa.timestamp("us"),
    "seq": pa.int32(),
    "x": pa.float64(),
    "n": pa.int64(),
    "flag": pa.bool_(),
    "price": pa.decimal128(12, 2),
    "text": pa.string(),
    "kind": pa.string(),
}
NUMBERS, ANYTHING = ("x", "n", "flag", "price"), ("x", "n", "flag", "price", "text")
COLUMNS_OF = {
    **dict.fromkeys(("count", "recency"), (None,)),
    **dict.fromkeys(("sum", "mean", "std"), NUMBERS),
    **dict.fromkeys(("min", "max", "first", "last", "n_unique"), ANYTHING),
}
UNITS = {"s": SECOND, "ms": 1_000, "us": 1, "ns": 1}
ZONES = ("UTC", "Europe/Berlin", "America/New_York")


def _either(a: bool | None, b: bool | None) -> bool | None:
    if a or b:
        return True
    return None if a is None or b is None else False


def us(text: str) -> int:
    return int(np.datetime64(text.replace(" ", "T"), "us").astype(np.int64))


# Moments around which the events lie: before and after 1970, the hours when clocks change, and far ahead.
BASES = {
    name: us(name)
    for name in (
        "1955-07-01 12:00", "1970-01-01", "2025-03-30 01:00", "2025-10-26 01:00", "2025-03-09 07:00",
        "2025-11-02 06:00", "2250-01-01", "2900-02-28",
    )
}  # fmt: skip


def arrow_events(rows: Sequence[Row], unit: str = "us", zone: str | None = None) -> pa.Table:
    columns = {name: pa.array([r[name] for r in rows], kind) for name, kind in TYPES.items() if name != "at"}
    columns["at"] = arrow_times([r["at"] for r in rows], unit, zone)
    return pa.table({name: columns[name] for name in TYPES})


def arrow_times(times: Sequence[int | None], unit: str, zone: str | None) -> pa.Array:
    return pa.array(times, pa.int64()).cast(pa.timestamp("us", zone)).cast(pa.timestamp(unit, zone))


def spine_frame(rows: Sequence[Row], unit: str = "us", zone: str | None = None) -> pd.DataFrame:
    times = pd.Series(np.array([r["event_time"] for r in rows], dtype="datetime64[us]")).dt.as_unit(unit)
    if zone:
        times = times.dt.tz_localize("UTC").dt.tz_convert(zone)
    who, num = pd.array([r["who"] for r in rows], "str"), pd.array([r["num"] for r in rows], "Int64")
    return pd.DataFrame({"num": num, "event_time": times, "who": who})


WHO = ["a", "A", "ü 😀", "o'k", "", " "]
NUM = [0, -1, 7, 2**62, 2**62 + 1, -(2**62)]
FLOATS = st.one_of(
    st.none(),
    st.floats(-1e4, 1e4, allow_subnormal=False).map(lambda v: v + 0.0),  # no -0.0: it equals 0.0 and prints otherwise
    st.sampled_from([0.1, 0.2, 0.3, 1e-3, -1e-3, 1e-300, 1e8, 1e8 + 1, 1e12, -1e12, 2.5]),
)


@st.composite
def tables(draw: st.DrawFn, floats: st.SearchStrategy[float | None] = FLOATS, n_events: int = 14) -> Any:
    """Events, rows that ask, the unit and the zone of each. Few users and moments, so that ties are common."""
    unit, asked_unit = draw(st.sampled_from(list(UNITS))), draw(st.sampled_from(list(UNITS)))
    tick = max(UNITS[unit], UNITS[asked_unit])
    bases = [b for b in BASES.values() if not (b > us("2260-01-01") and "ns" in (unit, asked_unit))]
    base = draw(st.sampled_from(bases))
    steps = [0, SECOND, 90 * LENGTHS["m"], 3 * LENGTHS["h"], LENGTHS["d"], LENGTHS["w"], 600 * LENGTHS["d"]]
    moment = st.builds(
        lambda step, sign, ticks: base + sign * step + tick * ticks,
        st.sampled_from(steps), st.sampled_from([-1, 1]), st.integers(-1, 1),
    )  # fmt: skip
    few_who = draw(st.lists(st.sampled_from(WHO), min_size=1, max_size=3))
    few_num = draw(st.lists(st.sampled_from(NUM), min_size=1, max_size=2))
    who, num = st.sampled_from([*few_who, None]), st.sampled_from([*few_num, None])
    event = st.fixed_dictionaries(
        {
            "who": who,
            "num": num,
            "at": st.one_of(st.just(None), moment, moment, moment, moment),
            "seq": st.sampled_from([None, 0, 1]),
            "x": floats,
            "n": st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**53 + 1, -(2**40)])),
            "flag": st.sampled_from([None, True, False]),
            "price": st.one_of(st.none(), st.integers(-500, 500).map(lambda v: Decimal(v) / 100)),
            "text": st.sampled_from([None, "", "p", "q", "Ä"]),
            "kind": st.sampled_from([None, "buy", "view"]),
        }
    )
    events = draw(st.lists(event, max_size=n_events))
    events = [{c: e[c] for c in TYPES} for e in events]  # ties are broken by columns as they stand in the table
    events += events[: draw(st.integers(0, 3))]  # the same row twice
    ask = st.fixed_dictionaries({"num": num, "event_time": moment, "who": who})
    asked = draw(st.lists(ask, min_size=1, max_size=5))
    asked += asked[: draw(st.integers(0, 2))]
    zones = st.sampled_from([None, *ZONES])
    return events, asked, (unit, draw(zones)), (asked_unit, draw(zones))


@st.composite
def feature_sets(draw: st.DrawFn, windows: Sequence[str | None] = ("1s", "90m", "3h", "1d", "1w", None)) -> FeatureSet:
    def one(op: str) -> st.SearchStrategy[Aggregation]:
        where = st.sampled_from([None, None, *CONDITIONS])
        return st.builds(Aggregation, st.just(op), st.sampled_from(COLUMNS_OF[op]), st.sampled_from(windows), where)

    wanted = draw(st.lists(st.sampled_from(list(COLUMNS_OF)).flatmap(one), min_size=1, max_size=8))
    return a_set(
        *wanted,
        keys=draw(st.sampled_from([("who",), ("num",), ("num", "who")])),
        order_by=draw(st.sampled_from([(), ("seq",), ("n", "seq")])),
    )


def a_set(*aggregations: Aggregation, **options: Any) -> FeatureSet:
    """A feature set over the events, its features named in order."""
    named = tuple(replace(a, name=a.name or f"f{i} {a.op} {a.column}") for i, a in enumerate(aggregations))
    given: dict[str, Any] = {"name": "proof", "keys": ("who",), "source": "events", "time_column": "at"}
    return FeatureSet(**{**given, "aggregations": named, **options})


def every_operation(*windows: str | None, columns: Sequence[str] = ANYTHING) -> tuple[Aggregation, ...]:
    return tuple(
        Aggregation(op, column, window)
        for window in windows
        for op, usable in COLUMNS_OF.items()
        for column in usable
        if column is None or column in columns
    )


def compute(engine: Engine, events: Any, spine: Any, features: FeatureSet, *, ahead: bool = False) -> pd.DataFrame:
    engine.register("events", events)
    store = FeatureStore(engine)
    wide = store.outcome_frame(spine, features) if ahead else store.training_frame(spine, features)
    pd.testing.assert_frame_equal(wide[list(spine.columns)], spine)
    return wide[list(features.feature_names)]


@st.composite
def outcome_sets(draw: st.DrawFn) -> FeatureSet:
    features = draw(feature_sets(windows=("1s", "90m", "3h", "1d", "1w")))
    wanted = [a for a in features.aggregations if a.op in ("count", "sum", "mean", "min", "max", "n_unique")]
    return replace(features, aggregations=tuple(wanted) or a_set(Aggregation("count", window="3h")).aggregations)


def generated(seed: int, n_events: int = 400, n_asked: int = 40, days: int = 40) -> tuple[list[Row], list[Row]]:
    """Larger tables: sizes of amounts from thousandths to billions, hourly moments with ties, a tenth of all nulls."""
    rng = np.random.default_rng(seed)
    base = us("2025-03-01")

    def moment() -> int:
        return base + int(rng.integers(0, days * 24)) * LENGTHS["h"] + int(rng.integers(-1, 2))

    def sometimes(value: Any) -> Any:
        return None if rng.random() < 0.1 else value

    events = [
        {
            "who": sometimes(WHO[rng.choice(4, p=[0.5, 0.35, 0.1, 0.05])]),
            "num": sometimes(NUM[rng.integers(4)]),
            "at": sometimes(moment()),
            "seq": sometimes(int(rng.integers(3))),
            "x": sometimes(float(rng.normal() * 10.0 ** rng.integers(-3, 10))),
            "n": sometimes(int(rng.integers(-(2**40), 2**40))),
            "flag": sometimes(bool(rng.random() < 0.5)),
            "price": sometimes(Decimal(int(rng.integers(-9999, 9999))) / 100),
            "text": sometimes(["", "p", "q", "Ä", "z\n"][rng.integers(5)]),
            "kind": sometimes(["buy", "view"][rng.integers(2)]),
        }
        for _ in range(n_events)
    ]
    asked = [
        {
            "num": NUM[rng.integers(5)],
            "event_time": moment(),
            "who": sometimes(WHO[rng.choice(5, p=[0.5, 0.3, 0.1, 0.05, 0.05])]),
        }
        for _ in range(n_asked)
    ]
    return events + events[: n_events // 20], asked + asked[:5]


EVERYTHING = (
    *every_operation("1w"),
    *(replace(a, where=w) for a, w in zip(every_operation("36h"), CONDITIONS * 20, strict=False)),
    *every_operation(None, columns=("x", "text")),
)


def same_bits(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal to the last bit; only what nulls do to the type of a column may differ."""
    for column in one:
        for a, b in zip(one[column].tolist(), other[column].tolist(), strict=True):
            assert (pd.isna(a) and pd.isna(b)) or a == b, (column, a, b)


def layouts(table: pa.Table, path: Any) -> list[Any]:
    """The same rows in memory, as one file, as seven files, and as directories by a value."""
    pq.write_table(table, path / "one.parquet", row_group_size=100)
    for i in range(7):
        (path / "seven").mkdir(exist_ok=True)
        pq.write_table(table.slice(i * 450, 450), path / "seven" / f"{i}.parquet")
    part = table.append_column("part", pa.array([i % 3 for i in range(len(table))], pa.int32()))
    by_part = ds.partitioning(pa.schema([("part", pa.int32())]), flavor="hive")
    ds.write_dataset(part, path / "hive", format="parquet", partitioning=by_part)
    return [table, path / "one.parquet", path / "seven", path / "hive"]
