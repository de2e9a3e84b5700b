"""Sessions equal a loop over all pairs of events, on both engines, and pandas' own groupby."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import import_module
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
from causalrec.engines.arrow import arrow_to_pandas
from causalrec.exceptions import CausalRecError, ColumnError, DatasetError, TimeError
from causalrec.journeys.sessions import session_features, sessionize, sessions

from .oracle import Row, session_numbers

SECOND = 1_000_000
START = 1_700_000_000
USERS = ["ann", "zoë", "李-1", "o'neil\\", "ann-1", None]


def frame(rows: list[Row]) -> pd.DataFrame:
    """Rows as a frame, typed also where there are none."""
    return pd.DataFrame({
        "user_id": pd.array([r["user_id"] for r in rows], dtype="str"),
        "event_time": np.array([r["event_time"] for r in rows], dtype="datetime64[us]"),
        "event_type": pd.array([r.get("event_type", "view") for r in rows], dtype="str"),
    })  # fmt: skip


def ids(rows: list[Row], gap: int) -> list[str | None]:
    """What the oracle says, as ids."""
    numbers = session_numbers(rows, gap)
    return [None if n is None else f"{r['user_id']}-{n}" for r, n in zip(rows, numbers, strict=True)]


def texts(found: pd.Series) -> list[str | None]:
    """Texts with None for nulls."""
    return [None if pd.isna(v) else v for v in found]


@pytest.fixture(scope="module")
def duckdb() -> Iterator[LocalEngine]:
    """One engine for all examples: to open one takes longer than a query."""
    with LocalEngine(threads=1) as opened:
        yield opened


EVENT = st.fixed_dictionaries({
    "user_id": st.sampled_from(USERS),
    "event_time": st.one_of(st.none(), st.integers(0, 20).map(lambda s: (START + s) * SECOND)),
})  # fmt: skip


EXAMPLES = given(rows=st.lists(EVENT, max_size=25), gap=st.integers(0, 4))
QUIET = [HealthCheck.too_slow]


@settings(max_examples=6, deadline=None, suppress_health_check=QUIET)
@EXAMPLES
def test_ids_equal_the_loop_over_all_pairs(duckdb: LocalEngine, rows: list[Row], gap: int) -> None:
    """Ties, gaps of exactly the limit and of zero, unicode, nulls; numbers by user from 1."""
    log = frame(rows)
    found = sessionize(log, timedelta(seconds=gap), engine=duckdb)
    assert texts(found["session_id"]) == ids(rows, gap * SECOND)
    assert [None if pd.isna(n) else int(n) for n in found["session_number"]] == session_numbers(rows, gap * SECOND)
    duckdb.register("log", log)
    named = sessionize("log", f"{gap}s", engine=duckdb)
    assert sorted(map(str, texts(named["session_id"]))) == sorted(map(str, ids(rows, gap * SECOND)))


@pytest.mark.slow
def test_many_more_logs(duckdb: LocalEngine) -> None:
    """The same over 100 examples."""
    body = EXAMPLES(test_ids_equal_the_loop_over_all_pairs.hypothesis.inner_test)
    settings(max_examples=100, deadline=None, suppress_health_check=QUIET)(body)(duckdb)


def _many(n: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [
        {
            "user_id": USERS[rng.integers(len(USERS))],
            "event_time": None if rng.random() < 0.05 else (START + int(rng.integers(120))) * SECOND,
            "event_type": ["view", "cart", "it's"][rng.integers(3)],
        }
        for _ in range(n)
    ]


def test_both_engines_equal_the_loop_and_pandas(engine: Any) -> None:
    """Ids by the oracle; rows of sessions and of users by pandas one-liners over them."""
    rows = _many(150, 3)
    log = frame(rows)
    engine.register("log", log)

    def pandas(found: Any) -> pd.DataFrame:
        return found if isinstance(found, pd.DataFrame) else arrow_to_pandas(found.toArrow())

    found = pandas(sessionize("log", "2s", engine=engine))
    want = log.assign(session_id=ids(rows, 2 * SECOND))
    key = ["user_id", "event_time", "event_type"]
    assert _bag(found, [*key, "session_id"]) == _bag(want, [*key, "session_id"])

    each = pandas(sessions("log", "2s", event_type="event_type", engine=engine))
    known = want.dropna(subset=["session_id"]).sort_values(["event_time", "event_type"])
    groups = known.groupby("session_id")
    other = pd.DataFrame({
        "session_start": groups["event_time"].min(), "session_end": groups["event_time"].max(),
        "duration_seconds": (groups["event_time"].max() - groups["event_time"].min()).dt.total_seconds(),
        "n_events": groups.size(), "bounce": groups.size() == 1, "entry_event": groups["event_type"].first(),
        "exit_event": groups["event_type"].last(),
        **{f"n_{kind}": groups["event_type"].agg(lambda x, kind=kind: (x == kind).sum())
           for kind in ("cart", "it's", "view")},
    })  # fmt: skip
    by_id = each.set_index("session_id").sort_index()
    pd.testing.assert_frame_equal(by_id[list(other.columns)], other, check_dtype=False, check_index_type=False)
    assert list(each.columns[:3]) == ["user_id", "session_id", "session_number"]
    assert each["user_id"].is_monotonic_increasing

    users = pandas(session_features("log", "2s", engine=engine)).set_index("user_id")
    grouped = each.groupby("user_id")
    pd.testing.assert_frame_equal(
        users,
        pd.DataFrame({
            "n_sessions": grouped.size(), "mean_events": grouped["n_events"].mean(),
            "mean_duration_seconds": grouped["duration_seconds"].mean(), "bounce_rate": grouped["bounce"].mean(),
            "last_session_end": grouped["session_end"].max(),
        }),
        check_dtype=False, check_index_type=False,
    )  # fmt: skip


def _bag(table: pd.DataFrame, columns: list[str]) -> list[str]:
    return sorted(str([None if pd.isna(v) else str(v) for v in row]) for row in table[columns].to_numpy(dtype=object))


@pytest.mark.slow  # stitching shows the same by default
@pytest.mark.spark
def test_a_spark_frame_stays_one(spark_session: Any) -> None:
    """In the caller's session, where SQL finds it."""
    log = frame(_many(20, 5))
    found = sessionize(spark_session.createDataFrame(pa.table(log)), "2s")
    assert found.sparkSession is spark_session
    assert _bag(arrow_to_pandas(found.toArrow()), ["session_id"]) == _bag(sessionize(log, "2s"), ["session_id"])


def test_the_rule_at_the_gap() -> None:
    """Exactly the gap stays, one microsecond more does not."""
    start = datetime(2026, 1, 1)
    pauses = [timedelta(0), timedelta(minutes=30), timedelta(minutes=60, microseconds=1)]
    log = pd.DataFrame({"user_id": 7, "event_time": [start + pause for pause in pauses]})
    assert sessionize(log, "30m")["session_number"].tolist() == [1, 1, 2]
    assert sessionize(log, "30m")["session_id"].tolist() == ["7-1", "7-1", "7-2"]


@pytest.mark.parametrize("kind", ["text", "wide", "category", "float", "date"])
def test_arrays_give_what_sql_gives(duckdb: LocalEngine, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users of several types, some unknown; times in nanoseconds and as dates; the same ids to the letter."""
    rng = np.random.default_rng(31)
    codes = rng.integers(0, 30, 400)
    users: Any = {
        "text": np.array([None if c == 3 else f"zoë-{c}" for c in codes], dtype=object),
        "wide": pd.array(codes * 2**57 - 2**61, dtype="Int64"),
        "category": pd.Categorical([f"u{c}" for c in codes]),
        "float": codes / 4,
        "date": codes.astype(np.int16),
    }[kind]
    at = rng.integers(-(10**6), 10**6, 400)
    time = at.astype("datetime64[D]").astype("datetime64[s]") if kind == "date" else at.astype("datetime64[ns]")
    log = pd.DataFrame({"user_id": users, "event_time": time})
    log.loc[::50, "event_time"] = pd.NaT
    gap = "200d" if kind == "date" else timedelta(microseconds=40)
    found = sessionize(log, gap, engine=duckdb)
    with monkeypatch.context() as patch:
        patch.setattr(import_module("causalrec.journeys.sessions"), "key_codes", lambda keys: None)
        pd.testing.assert_frame_equal(found, sessionize(log, gap, engine=duckdb))
    assert found["session_number"].max() > 2


def test_a_log_with_sessions_of_its_own() -> None:
    """Only a table that keeps the log's columns must refuse it; ties are broken by that column too."""
    log = frame(_many(60, 19))
    own = log.assign(session_id="s", Session_Number=7)
    kinds = {"event_type": "event_type"}
    pd.testing.assert_frame_equal(sessions(own, "2s", **kinds), sessions(log, "2s", **kinds))
    pd.testing.assert_frame_equal(session_features(own, "2s"), session_features(log, "2s"))
    tied = frame([{"user_id": "ann", "event_time": START * SECOND, "event_type": t} for t in ("a", "b")])
    each = sessions(tied.assign(session_id=["2", "1"])[["session_id", *tied.columns]], "1s", **kinds)
    assert each[["entry_event", "exit_event"]].values.tolist() == [["b", "a"]]
    with pytest.raises(ColumnError, match="'session_id'"):
        sessions(log.rename(columns={"user_id": "session_id"}), "2s", user="session_id")


def test_nothing_at_or_after_the_moment_counts() -> None:
    """Features as of a time are those of the log without what comes later."""
    log = frame(_many(100, 9))
    moment = pd.Timestamp(START + 60, unit="s")
    found = session_features(log, "3s", as_of=moment)
    pd.testing.assert_frame_equal(found, session_features(log[log["event_time"] < moment], "3s"))
    zoned = session_features(log, "3s", as_of=moment.tz_localize("UTC").tz_convert("Asia/Tokyo"))
    pd.testing.assert_frame_equal(found, zoned)
    assert len(session_features(log, "3s", as_of="1999-01-01")) == 0


def test_the_order_of_rows_changes_nothing(duckdb: LocalEngine) -> None:
    """Permuted logs give permuted ids and the same sessions; the caller's frame keeps its index and is not changed."""
    log = frame(_many(80, 13)).set_axis([f"r{i}" for i in range(80)])
    kept, found, each = (
        log.copy(),
        sessionize(log, "2s", engine=duckdb),
        sessions(log, "2s", event_type="event_type", engine=duckdb),
    )
    for seed in range(3):
        moved = log.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(sessionize(moved, "2s", engine=duckdb), found.loc[moved.index])
        pd.testing.assert_frame_equal(sessions(moved, "2s", event_type="event_type", engine=duckdb), each)
    pd.testing.assert_frame_equal(log, kept)


def test_ties_of_entry_and_exit_go_by_the_order_column() -> None:
    """Before all columns break them."""
    log = frame([{"user_id": "ann", "event_time": START * SECOND, "event_type": t} for t in ("a", "b", "c")])
    each = sessions(log, "1s", event_type="event_type")
    assert each[["entry_event", "exit_event"]].values.tolist() == [["a", "c"]]
    turned = sessions(log.assign(place=[2, 0, 1]), "1s", event_type="event_type", order_by="place")
    assert turned[["entry_event", "exit_event"]].values.tolist() == [["b", "a"]]


def test_kinds_of_tables_and_none(tmp_path: Path) -> None:
    """Polars stays Polars, Arrow and files come as pandas; one row and none are no special case."""
    log = frame(_many(30, 17))
    want = sessionize(log, "2s")
    log.to_parquet(tmp_path / "log.parquet")
    eager, lazy = sessionize(pl.from_pandas(log), "2s"), sessionize(pl.from_pandas(log).lazy(), "2s")
    assert isinstance(eager, pl.DataFrame)
    assert isinstance(lazy, pl.LazyFrame)
    assert eager.equals(lazy.collect())
    assert eager["session_id"].to_list() == texts(want["session_id"])
    assert texts(sessionize(pa.table(log), "2s")["session_id"]) == texts(want["session_id"])
    assert _bag(sessionize(tmp_path / "log.parquet", "2s"), ["session_id"]) == _bag(want, ["session_id"])
    assert isinstance(sessions(pl.from_pandas(log), "2s"), pl.DataFrame)
    for n in (0, 1):
        assert len(sessionize(log[:n], "2s")) == n
    assert len(sessions(log[:0], "2s", event_type="event_type")) == 0
    assert len(session_features(log[:0], "2s")) == 0


BAD: list[tuple[str, type[CausalRecError], dict[str, Any], str]] = [
    ("a missing column", ColumnError, {"user": "usr"}, "usr"),
    ("text as times", TimeError, {"event_time": "event_type"}, "'event_type' is string; expected timestamps"),
    ("a gap below zero", TimeError, {"gap": timedelta(seconds=-1)}, "below zero"),
    ("a gap that is no duration", TimeError, {"gap": "half an hour"}, "gap is 'half an hour'"),
    ("a number of what", TimeError, {"gap": 30}, "gap is 30"),
    ("no time", TimeError, {"gap": pd.NaT}, "gap is NaT"),
    ("a name of the result", ColumnError, {"events": frame([]).assign(Session_ID=1)}, "session_id"),
    ("no such file", DatasetError, {"events": "nowhere/log.parquet"}, "nowhere"),
]


@pytest.mark.parametrize(("what", "error", "changes", "message"), BAD, ids=[b[0] for b in BAD])
def test_bad_input(
    duckdb: LocalEngine, what: str, error: type[CausalRecError], changes: dict[str, Any], message: str
) -> None:
    """A named error that says what was found."""
    with pytest.raises(error, match=message):
        sessionize(**{"events": frame([]), "gap": "30m", "engine": duckdb, **changes})


def test_types_and_moments_that_cannot_be() -> None:
    """Types that are no text or give one column twice, an ``as_of`` that is no time."""
    log = frame([{"user_id": "ann", "event_time": START * SECOND, "event_type": t} for t in ("a", "A")])
    with pytest.raises(ColumnError, match="'A', 'a'"):
        sessions(log, "1s", event_type="event_type")
    with pytest.raises(ColumnError, match="expected text"):
        sessions(log.assign(k=1), "1s", event_type="k")
    with pytest.raises(ColumnError, match="more than 200 values"):
        sessions(frame([{"user_id": "a", "event_time": 0, "event_type": f"t{i}"} for i in range(201)]), "1s",
                 event_type="event_type")  # fmt: skip
    for wrong in ("yesterdayish", 3, pd.NaT):
        with pytest.raises(TimeError, match="as_of is"):
            session_features(log, "1s", as_of=wrong)
