"""Stitched events equal a loop over all pairs, whatever the table, the plan and the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalrec.engines import LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError, DatasetError, EngineError, TimeError
from causalrec.journeys import _pairs
from causalrec.journeys._arrays import argsort_whole
from causalrec.journeys.stitching import as_of, count_stitched, stitch, stitch_events

from .oracle import Row, journeys

SECOND = 1_000_000
USERS = st.sampled_from(["ann", "zoë", "李-1", "o'neil\\", None])
TIMES = st.one_of(st.none(), st.integers(0, 12).map(lambda s: 1_700_000_000 * SECOND + s * SECOND))


def _rows(least: int = 0) -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries({
        "user_id": USERS, "item_id": st.sampled_from([1, 2]), "event_time": TIMES,
        "x": st.one_of(st.none(), st.integers(0, 3)),
    })  # fmt: skip
    return st.lists(row, min_size=least, max_size=16)


def frame(rows: list[Row]) -> pd.DataFrame:
    """Rows as a frame, typed also where there are none."""
    made = {
        "user_id": pd.array([r["user_id"] for r in rows], dtype="str"),
        "item_id": np.array([r["item_id"] for r in rows], dtype=np.int64),
        "event_time": np.array([r["event_time"] for r in rows], dtype="datetime64[us]"),
        "x": pd.array([r["x"] for r in rows], dtype="Int64"),
    }
    return pd.DataFrame(made)


def plain(found: pd.DataFrame, columns: list[str]) -> list[list[Any]]:
    """Values of columns as Python has them: numbers and times in microseconds as int, nulls as None."""
    lists = [[_plain(v) for v in found[c]] for c in columns]
    return [list(row) for row in zip(*lists, strict=True)]


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return (value - pd.Timestamp(0)) // pd.Timedelta(1, "us")
    return value if isinstance(value, str) else int(value)


def expected(base: list[Row], stages: list[list[Row]], *args: Any) -> list[list[Any]]:
    """The oracle's journeys: what a row has, then time and x of each stage."""
    chains = journeys(base, stages, *args)
    return [
        [*(row[c] for c in OWN), *(None if e is None else e[c] for e in chain for c in ("event_time", "x"))]
        for row, chain in zip(base, chains, strict=True)
    ]


@pytest.fixture(scope="module")
def duckdb() -> Iterator[LocalEngine]:
    """One engine for all examples: to open one takes longer than a query."""
    with LocalEngine(threads=1) as opened:
        yield opened


OWN = ["user_id", "item_id", "event_time", "x"]


EXAMPLES = given(
    data=st.tuples(_rows(), _rows(), _rows(), _rows(1)),
    tolerance=st.sampled_from([None, 0, 1, 3]),
    by=st.sampled_from([["user_id"], ["user_id", "item_id"]]),
    strict=st.booleans(),
    by_sql=st.booleans(),
)
QUIET = [HealthCheck.too_slow]


@settings(max_examples=5, deadline=None, suppress_health_check=QUIET)
@EXAMPLES
def test_journeys_equal_the_loop_over_all_pairs(
    duckdb: LocalEngine, data: tuple[list[Row], ...], tolerance: int | None, by: list[str], strict: bool, by_sql: bool
) -> None:
    """Ties, gaps of exactly the tolerance, unicode, nulls: frames by arrays and by SQL, and by names."""
    views, clicks, carts, orders = data
    width = None if tolerance is None else timedelta(seconds=tolerance)
    want = expected(orders, [carts, clicks, views], by, None if width is None else tolerance * SECOND, strict)
    columns = OWN + [f"{stage}_{c}" for stage in ("cart", "click", "view") for c in ("event_time", "x")]
    frames = [frame(rows) for rows in data]
    with pytest.MonkeyPatch.context() as patch:
        if by_sql:
            patch.setattr(_pairs, "key_codes", lambda keys: None)
        found = stitch(*frames, width, by=by, strict=strict)
    assert plain(found, columns) == want
    with LocalEngine(threads=1) as engine:
        for name, table in zip("abcd", frames, strict=True):
            engine.register(name, table)
        named = stitch("a", "b", "c", "d", width, by=by, strict=strict, engine=engine)
    assert _sorted(plain(named, columns)) == _sorted(want)


@pytest.mark.slow
def test_many_more_journeys(duckdb: LocalEngine) -> None:
    """The same over 80 examples."""
    body = EXAMPLES(test_journeys_equal_the_loop_over_all_pairs.hypothesis.inner_test)
    settings(max_examples=80, deadline=None, suppress_health_check=QUIET)(body)(duckdb)


def _sorted(rows: list[list[Any]]) -> list[list[Any]]:
    """In an order that ties only equal rows."""
    return sorted(rows, key=repr)


@pytest.mark.parametrize(
    ("tolerance", "strict"), [("2s", False), pytest.param(None, True, marks=pytest.mark.slow_on_spark)]
)
def test_both_engines_equal_the_loop(engine: Any, tolerance: str | None, strict: bool) -> None:
    """One text: a table of many ties on each engine, from names, a link and a chain."""
    rng = np.random.default_rng(7)
    users = ["ann", "zoë", "李-1", "o'neil\\", None]

    def rows(n: int) -> list[Row]:
        return [
            {
                "user_id": users[rng.integers(5)], "item_id": int(rng.integers(1, 3)),
                "event_time": None if rng.random() < 0.1 else (1_700_000_000 + int(rng.integers(30))) * SECOND,
                "x": None if rng.random() < 0.2 else int(rng.integers(4)),
            }
            for _ in range(n)
        ]  # fmt: skip

    views, carts, orders = rows(90), rows(60), rows(40)
    for name, table in (("views", views), ("carts", carts), ("orders", orders)):
        engine.register(name, frame(table))
    width = None if tolerance is None else int(tolerance[:-1]) * SECOND
    found = stitch("views", None, "carts", "orders", tolerance, by="user_id", strict=strict, engine=engine)
    found = found if isinstance(found, pd.DataFrame) else _pandas(found)
    columns = [*OWN, "cart_event_time", "cart_x", "view_event_time", "view_x"]
    want = expected(orders, [carts, views], ["user_id"], width, strict)
    assert _sorted(plain(found, columns)) == _sorted(want)


def _pandas(found: Any) -> pd.DataFrame:
    """A Spark DataFrame as pandas, which PySpark itself warns of."""
    from causalrec.engines.arrow import arrow_to_pandas

    return arrow_to_pandas(found.toArrow())


@pytest.mark.spark
def test_spark_frames_stay_in_the_callers_session(spark_session: Any) -> None:
    """Without an engine; the result outlives the engine that made it and no view is left behind."""
    views, orders = (spark_session.createDataFrame(pa.table(frame(rows))) for rows in (VIEWS, ORDERS))
    before = {t.name for t in spark_session.catalog.listTables()}
    found = as_of(orders, views, "1h", by="user_id", prefix="view")
    assert found.sparkSession is spark_session
    assert {t.name for t in spark_session.catalog.listTables()} == before
    assert _sorted(plain(_pandas(found), [*OWN, "view_event_time", "view_item_id", "view_x"])) == _sorted(
        plain(as_of(frame(ORDERS), frame(VIEWS), "1h", by="user_id", prefix="view"),
              [*OWN, "view_event_time", "view_item_id", "view_x"])
    )  # fmt: skip
    with pytest.raises(EngineError, match="'later' is a Spark DataFrame and 'earlier' is not"):
        as_of(orders, frame(VIEWS), "1h")


START = 1_700_000_000 * SECOND
VIEWS: list[Row] = [
    {"user_id": "ann", "item_id": 1, "event_time": START, "x": 1},
    {"user_id": "ann", "item_id": 1, "event_time": START, "x": 2},
    {"user_id": "bob", "item_id": 1, "event_time": START + 5 * SECOND, "x": 3},
]
ORDERS: list[Row] = [
    {"user_id": "ann", "item_id": 1, "event_time": START + 10 * SECOND, "x": 10},
    {"user_id": "bob", "item_id": 1, "event_time": START + 4 * SECOND, "x": 11},
    {"user_id": "ann", "item_id": 1, "event_time": START, "x": 12},
]


def test_the_rules_in_words(duckdb: LocalEngine) -> None:
    """Exactly the tolerance counts, equal times count unless strict, ties go by order_by and then by all columns."""
    views, orders = frame(VIEWS), frame(ORDERS)
    assert as_of(orders, views, "10s", engine=duckdb)["earlier_x"].fillna(-1).tolist() == [2, -1, 2]
    assert as_of(orders, views, "9s", engine=duckdb)["earlier_x"].fillna(-1).tolist() == [-1, -1, 2]
    assert as_of(orders, views, "10s", strict=True, engine=duckdb)["earlier_x"].fillna(-1).tolist() == [2, -1, -1]
    assert as_of(orders, views, "0s", engine=duckdb)["earlier_x"].fillna(-1).tolist() == [-1, -1, 2]
    turned = views.assign(place=[1, 0, 0])
    assert as_of(orders, turned, "10s", order_by="place", engine=duckdb)["earlier_x"].fillna(-1).tolist() == [1, -1, 1]


def test_an_as_of_join_equals_that_of_pandas() -> None:
    """Another implementation, on rows without ties."""
    rng = np.random.default_rng(3)
    start = pd.Timestamp("2026-01-01").as_unit("us")

    def log(n: int, name: str) -> pd.DataFrame:
        seconds = rng.choice(40 * n, n, replace=False)
        return pd.DataFrame({
            "user_id": rng.integers(0, 20, n), "event_time": start + pd.to_timedelta(seconds, unit="s"),
            name: np.arange(n),
        }).astype({"event_time": "datetime64[us]"})  # fmt: skip

    later, earlier = log(600, "order"), log(900, "mail")
    found = as_of(later, earlier, "20m", prefix="e")
    renamed = earlier.rename(columns={"mail": "e_mail"}).assign(e_event_time=lambda d: d["event_time"])
    other = pd.merge_asof(
        later.sort_values("event_time"), renamed.sort_values("event_time"), on="event_time", by="user_id",
        tolerance=pd.Timedelta(minutes=20),
    ).sort_values("order", ignore_index=True)  # fmt: skip
    pd.testing.assert_frame_equal(found, other[list(found.columns)])
    assert 0.2 < found["e_mail"].notna().mean() < 0.8


def test_the_order_of_rows_changes_nothing(duckdb: LocalEngine) -> None:
    """Permuted tables give permuted rows; the caller's index is kept, and no frame is changed."""
    rng = np.random.default_rng(11)
    views = frame([*VIEWS] * 3).assign(x=pd.array(rng.integers(0, 5, 9), dtype="Int64"))
    orders = frame([*ORDERS] * 2).set_axis(list("uvwxyz"))
    kept = views.copy(), orders.copy()
    found = as_of(orders, views, "1h", engine=duckdb)
    for _ in range(4):
        moved = orders.iloc[rng.permutation(6)]
        again = as_of(moved, views.iloc[rng.permutation(9)], "1h", engine=duckdb)
        pd.testing.assert_frame_equal(again, found.loc[moved.index])
    pd.testing.assert_frame_equal(views, kept[0])
    pd.testing.assert_frame_equal(orders, kept[1])


def test_one_log_gives_what_its_tables_give() -> None:
    """The same journeys from a column of types; other types are left out and rows keep their labels."""
    tables = {"view": frame(VIEWS), "click": frame(VIEWS[1:]), "purchase": frame(ORDERS), "search": frame(ORDERS)}
    log = pd.concat([t.assign(event_type=name) for name, t in tables.items()], ignore_index=True)
    log = log.sample(frac=1, random_state=4)
    found = stitch_events(log, "1d", stages=["view", "click", "purchase"])
    parts = [log[log["event_type"] == name].drop(columns="event_type") for name in ("view", "click", "purchase")]
    other = stitch(parts[0], parts[1], purchases=parts[2], tolerance="1d")
    pd.testing.assert_frame_equal(found.drop(columns="event_type"), other)
    assert set(found["event_type"]) == {"purchase"}


def test_kinds_of_tables(tmp_path: Path) -> None:
    """Polars stays Polars, lazy stays lazy, Arrow and files come as pandas, with one meaning."""
    views, orders = frame(VIEWS), frame(ORDERS)
    want = as_of(orders, views, "1h")
    for n, table in (("v", views), ("o", orders)):
        table.to_parquet(tmp_path / f"{n}.parquet")
    eager = as_of(pl.from_pandas(orders), pl.from_pandas(views), "1h")
    lazy = as_of(pl.from_pandas(orders).lazy(), pl.from_pandas(views).lazy(), "1h")
    assert isinstance(eager, pl.DataFrame)
    assert isinstance(lazy, pl.LazyFrame)
    assert eager.equals(lazy.collect())
    assert eager["earlier_x"].to_list() == [2, None, 2]
    arrow = as_of(pa.table(orders), pa.table(views), "1h")
    files = as_of(tmp_path / "o.parquet", str(tmp_path / "v.parquet"), "1h").sort_values("x", ignore_index=True)
    mixed = as_of(tmp_path / "o.parquet", views, "1h").sort_values("x", ignore_index=True)
    for other in (arrow, files, mixed):
        assert plain(other, list(want.columns)) == plain(want, list(want.columns))


def test_wide_ids_and_long_tolerances_are_exact() -> None:
    """Integers beyond 2^53 survive nulls, and so do gaps that leave 64 bits beside a place."""
    at = pd.to_datetime(["2000-01-01", "2026-01-01"]).as_unit("us")
    views = pd.DataFrame({"user_id": [1, 1], "event_time": at, "view": [2**60 + 1, 2**60 + 3]})
    orders = pd.DataFrame({"user_id": [1, 2], "event_time": at[::-1]})
    found = as_of(orders, views.iloc[:1], "9999w", prefix="e")
    assert found["e_view"].dropna().tolist() == [2**60 + 1]
    many = pd.concat([views] * 300).assign(view=range(600))
    assert as_of(orders, many, "500000w", prefix="e")["e_view"].fillna(-1).tolist() == [599, -1]


def _as_strange_keys(kind: str, codes: np.ndarray) -> Any:
    """The same keys in another type, or spread so far that code and time leave 64 bits."""
    made: dict[str, Callable[[], Any]] = {
        "small": lambda: codes.astype(np.int8),
        "wide": lambda: codes.astype(np.int64) * (2**61 // 40) - 2**60,
        "unsigned": lambda: codes.astype(np.uint64) + np.uint64(2**63),
        "float": lambda: np.where(codes == 0, -0.0, codes / 4.0),
        "category": lambda: pd.Categorical([f"k{c}" for c in codes]),
        "object": lambda: np.array([None if c == 5 else f"k{c}" for c in codes], dtype=object),
        "boolean": lambda: codes % 2 == 0,
    }
    return made[kind]()


@pytest.mark.parametrize("kind", ["small", "wide", "unsigned", "float", "category", "object", "boolean"])
def test_arrays_give_what_sql_gives(duckdb: LocalEngine, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of any type, nanoseconds before and after 1970 that are rounded, centuries of times, many ties."""
    rng = np.random.default_rng(23)
    unit, far = ("ns", 10**9) if kind in ("small", "object") else ("us", 10**15)

    def table(n: int) -> pd.DataFrame:
        keys, items = rng.integers(0, 40, n), rng.integers(0, 3, n)
        at = rng.integers(-12, 12, n) * (far // 10) + rng.choice([-1499, 0, 1400, 2500], n)
        at = np.where(rng.random(n) < 0.03, np.iinfo(np.int64).min, at)  # NaT
        made = {"user_id": _as_strange_keys(kind, keys), "item_id": _as_strange_keys(kind, items),
                "event_time": at.astype(f"datetime64[{unit}]"), "x": rng.integers(0, 3, n)}  # fmt: skip
        return pd.DataFrame(made)

    later, earlier = table(300), table(800)
    for by, strict, order in ((["user_id"], False, "x"), (["user_id", "item_id"], True, ())):
        width = timedelta(microseconds=far // 4)
        found = as_of(later, earlier, width, by=by, strict=strict, order_by=order, engine=duckdb)
        with monkeypatch.context() as patch:
            patch.setattr(_pairs, "key_codes", lambda keys: None)
            other = as_of(later, earlier, width, by=by, strict=strict, order_by=order, engine=duckdb)
        pd.testing.assert_frame_equal(found, other)
        assert 0.02 < found["earlier_x"].notna().mean() < 0.98


def test_sorting_keeps_the_order_of_equal_numbers() -> None:
    """Against numpy's stable sort: numbers of 63 bits, of which many share their first, and few."""
    rng = np.random.default_rng(2)
    for values in (rng.integers(0, 2**63 - 1, 5_000), 2**62 + rng.integers(0, 30, 5_000), rng.integers(0, 9, 5_000)):
        np.testing.assert_array_equal(argsort_whole(values), np.argsort(values, kind="stable"))
    mixed = np.concatenate([rng.integers(0, 50, 900), 2**62 + rng.integers(0, 50, 900)])
    np.testing.assert_array_equal(argsort_whole(mixed), np.argsort(mixed, kind="stable"))


def test_few_rows_and_none() -> None:
    """Tables without rows give results without rows, or rows without a match."""
    none, views, orders = frame([]), frame(VIEWS), frame(ORDERS)
    assert len(as_of(none, views, "1d")) == 0
    assert as_of(orders, none, "1d")["earlier_event_time"].isna().all()
    assert list(as_of(none, none, "1d").columns) == list(as_of(orders, views, "1d").columns)
    assert as_of(orders[:1], views[:1], "1d")["earlier_x"].tolist() == [1]


def test_counts_of_what_was_found() -> None:
    """Matched and unmatched rows by stage."""
    found = stitch(frame(VIEWS), purchases=frame(ORDERS), tolerance="10s")
    assert count_stitched(found).to_dict("records") == [
        {"stage": "view", "n": 3, "n_matched": 2, "n_unmatched": 1, "share_matched": 2 / 3}
    ]
    with pytest.raises(ColumnError, match="view_event_time"):
        count_stitched(frame(ORDERS))


BAD: list[tuple[str, type[CausalRecError], dict[str, Any], str]] = [
    ("a missing column", ColumnError, {"by": "usr"}, "usr"),
    ("no key", ColumnError, {"by": ()}, "by is"),
    ("None as key", ColumnError, {"by": None}, "by is None"),
    ("a number as key", ColumnError, {"by": 3}, "by is 3"),
    ("text as times", TimeError, {"event_time": "user_id"}, "'user_id' is string; expected timestamps"),
    ("a tolerance below zero", TimeError, {"tolerance": timedelta(seconds=-1)}, "below zero"),
    ("a tolerance that is no duration", TimeError, {"tolerance": "soon"}, "tolerance is 'soon'"),
    ("a number of what", TimeError, {"tolerance": 7}, "tolerance is 7"),
    ("an order of nothing", ColumnError, {"order_by": "rank"}, "rank"),
    ("no such file", DatasetError, {"earlier": "nowhere/views.parquet"}, "nowhere"),
    ("no such table", EngineError, {"earlier": "views"}, "earlier is 'views'"),
    ("no table", EngineError, {"earlier": 3}, "found int"),
    ("a name twice", ColumnError, {"later": frame(ORDERS).assign(earlier_x=1)}, "'earlier_x' twice"),
    ("keys of two types", ColumnError, {"earlier": frame(VIEWS).assign(user_id=1)}, "string in later and integer"),
]


@pytest.mark.parametrize(("what", "error", "changes", "message"), BAD, ids=[b[0] for b in BAD])
def test_bad_input(
    duckdb: LocalEngine, what: str, error: type[CausalRecError], changes: dict[str, Any], message: str
) -> None:
    """A named error that says what was found."""
    arguments = {
        "later": frame(ORDERS),
        "earlier": frame(VIEWS),
        "tolerance": "1h",
        "by": "user_id",
        "engine": duckdb,
        **changes,
    }
    with pytest.raises(error, match=message):
        as_of(**arguments)


def test_too_few_tables_or_stages() -> None:
    """A journey has two stages at least."""
    with pytest.raises(ConfigError, match="'view' events alone"):
        stitch(frame(VIEWS))
    with pytest.raises(ConfigError, match="each once"):
        stitch_events(frame(VIEWS), stages=["view", "view"])
    with pytest.raises(ColumnError, match="'item_id' is integer; expected text"):
        stitch_events(frame(VIEWS), stages=["view", "purchase"], event_type="item_id", by="user_id")
