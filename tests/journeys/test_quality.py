"""The quality of a log: every check finds what was planted, on both engines; cleaning drops it and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.exceptions import CausalRecError, ColumnError, TimeError, TreatmentError
from causalrec.journeys.cleaning import clean
from causalrec.journeys.quality import check_quality, usual_limit

COLUMNS = {
    "item": "item_id", "event_type": "kind", "variant": "variant", "arrival": "came", "registered": "joined",
    "now": "2025-06-01",
}  # fmt: skip


def sound(n_users: int = 8) -> pd.DataFrame:
    """Views, then carts, then purchases, in order and soon after they happened."""
    rows = [
        (f"ü{u}", item, pd.Timestamp("2025-01-01 10:00") + pd.Timedelta(days=d, minutes=m), kind, "AB"[u % 2])
        for u in range(n_users)
        for item in (1, 2)
        for d, (m, kind) in enumerate([(0, "view"), (5, "cart"), (5, "purchase")])
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time", "kind", "variant"])
    frame["came"] = frame["event_time"] + pd.Timedelta("2s")
    frame["joined"] = pd.Timestamp("2024-12-24")
    return frame


def broken() -> pd.DataFrame:
    """One thing of each kind wrong, and a bot."""
    frame = sound()
    frame.loc[0, "user_id"] = None
    frame.loc[1, "event_time"] = pd.NaT
    frame.loc[7, "variant"] = "C"  # ü1
    frame.loc[13, ["event_time", "came"]] = pd.Timestamp("2025-06-02")  # ü2, in the future
    frame.loc[19, "came"] = frame.loc[19, "event_time"] - pd.Timedelta("1us")  # ü3, later than it arrived
    frame.loc[25, "came"] = frame.loc[25, "event_time"] + pd.Timedelta("1D") + pd.Timedelta("1us")  # ü4, late
    frame.loc[31, ["event_time", "came"]] = pd.Timestamp(0)  # ü5, before clocks, before it registered
    frame.loc[37, "kind"] = "view"  # ü6 bought without a cart
    frame.loc[40, ["event_time", "came"]] = pd.to_datetime(["2025-01-02 10:04", "2025-01-02 10:06"])  # after 10:05
    bot = pd.DataFrame({
        "user_id": "bot", "item_id": np.arange(601), "kind": "view", "variant": "A",
        "joined": pd.Timestamp("2025-01-01"), "event_time": pd.Timestamp("2025-01-02")
        + pd.to_timedelta(np.arange(601), unit="min"),
    })  # fmt: skip
    bot["came"] = bot["event_time"]
    return pd.concat([frame, frame.iloc[[44, 44]], bot], ignore_index=True)


def counts(result) -> dict[str, tuple[int, int]]:
    return {c: (int(n), int(u)) for c, n, u in zip(result.check, result.n, result.users, strict=True) if n}


@pytest.mark.slow_on_spark
def test_everything_planted_is_found(engine):
    engine.register("broken", broken())
    found = check_quality("broken", engine=engine, **COLUMNS)
    assert counts(found) == {
        "no user_id": (1, 0),
        "no event_time": (1, 1),
        "copies of another event": (2, 1),
        "of users in several variants": (6, 1),
        "of bot-like users": (601, 1),
        "in the future": (1, 1),
        "before any clock was set": (1, 1),
        "before the user registered": (1, 1),
        "later than it arrived": (1, 1),
        "arrived more than 1d late": (1, 1),
        "out of order": (1, 1),
        "cart without an earlier view": (1, 1),
        "purchase without an earlier cart": (3, 3),
    }
    examples = dict(zip(found.check, found.example, strict=True))
    assert examples["in the future"] == "ü2"
    assert examples["of users in several variants"] == "ü1"
    assert examples["of bot-like users"] == "bot"
    assert (found.n_null, found.n_skewed, found.n_duplicate, found.n_bots, found.n_bot_events) == (2, 3, 2, 1, 601)
    assert (found.n_obs, found.n_users, found.per_day_limit) == (651, 9, 500)
    assert (found.first_time, found.last_time) == ("1970-01-01 00:00:00", "2025-06-02 00:00:00")
    engine.drop("broken")


def test_what_needs_no_further_column_is_found(engine):
    engine.register("broken", broken())
    assert counts(check_quality("broken", engine=engine, now="2025-06-01")) == {
        "no user_id": (1, 0),
        "no event_time": (1, 1),
        "copies of another event": (2, 1),
        "of bot-like users": (601, 1),
        "in the future": (1, 1),
        "before any clock was set": (1, 1),
    }
    engine.drop("broken")


@pytest.mark.slow_on_spark
def test_cleaning_on_both_engines(engine):
    engine.register("broken", broken())
    options = {"nulls": "drop", "skew": "drop", "duplicates": "drop", "several_variants": "drop", "bots": "drop"}
    kept, dropped = clean("broken", engine=engine, **options, **COLUMNS)
    assert dict(zip(dropped.rule, dropped.dropped.tolist(), strict=True)) == {
        "nulls": 2, "skew": 3, "duplicates": 2, "several_variants": 6, "bots": 601
    }  # fmt: skip
    engine.register("cleaned", kept)
    again = check_quality("cleaned", engine=engine, **COLUMNS)
    assert (again.n_obs, dropped.n_kept) == (37, 37)
    assert not {n for n, o in zip(again.check, again.option, strict=True) if o} & set(again.found)
    assert list(engine.columns("cleaned")) == list(broken().columns)
    for name in ("broken", "cleaned"):
        engine.drop(name)


def test_nothing_wrong_nothing_found():
    found = check_quality(sound(), **COLUMNS)
    assert found.found == ()
    assert str(found).endswith("nothing found in 16 checks.")


def test_frames_keep_their_rows_kind_and_index_and_are_not_changed():
    polars = pytest.importorskip("polars")
    frame = broken().set_index(pd.Index(np.arange(651)[::-1], name="place")).astype({"kind": "category"})
    before = frame.copy(deep=True)
    kept, dropped = clean(frame, nulls="drop", duplicates="drop", **COLUMNS)
    expected = frame[~(frame["user_id"].isna() | frame["event_time"].isna() | frame.duplicated())]
    pd.testing.assert_frame_equal(kept, expected)
    pd.testing.assert_frame_equal(frame, before)
    assert str(dropped) == "kept 647 of 651 events; dropped 2 by nulls, 2 by duplicates"
    other = polars.from_pandas(frame)
    again, _ = clean(other, nulls="drop", duplicates="drop", **COLUMNS)
    assert isinstance(again, polars.DataFrame)
    assert again.to_dicts() == polars.from_pandas(expected).to_dicts()
    same, nothing = clean(frame, **COLUMNS)
    pd.testing.assert_frame_equal(same, frame)
    assert (nothing.rule, nothing.n_kept) == ((), 651)


def test_order_of_rows_does_not_matter():
    frame = broken()
    a, b = (check_quality(f, **COLUMNS) for f in (frame, frame.sample(frac=1, random_state=0)))
    pd.testing.assert_frame_equal(a.to_frame(), b.to_frame())
    assert a.to_dict() == b.to_dict()


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3), st.integers(0, 2), st.sampled_from("AB")),
        max_size=12,
    )
)
def test_counts_equal_a_naive_count(rows):
    frame = pd.DataFrame(rows, columns=["user_id", "second", "came", "variant"]).astype(
        {"user_id": "string", "variant": "string", "second": "int64", "came": "int64"}
    )
    frame["event_time"] = pd.Timestamp("2025-01-01") + pd.to_timedelta(frame["second"] * 40, unit="s")
    found = check_quality(frame, variant="variant", order_by="came", per_day=3, per_minute=2)
    known = frame.dropna(subset=["user_id"])
    several = known.groupby("user_id")["variant"].nunique() > 1
    unique = known.drop_duplicates()
    minutes = unique.groupby(["user_id", unique["event_time"].dt.floor("min")]).size().groupby("user_id").max()
    bots = (unique.groupby("user_id").size() > 3) | (minutes > 2)
    late = [
        any(o["came"] < r["came"] and o["second"] > r["second"] for o in rows_of) for _, rows_of, r in _pairs(frame)
    ]
    assert found.n_duplicate == int(frame.duplicated().sum())
    assert found.n_several_variants == int(several.sum())
    assert found.n_bots == int(bots.sum())
    assert found.n_bot_events == int(known["user_id"].isin(bots.index[bots]).sum())
    assert found.n_out_of_order == sum(late)
    assert found.n_null == int(frame["user_id"].isna().sum())


def _pairs(frame: pd.DataFrame):
    rows = frame.to_dict("records")
    for k, row in enumerate(rows):
        same = [o for o in rows if (o["user_id"] is pd.NA and row["user_id"] is pd.NA) or (
            o["user_id"] is not pd.NA and row["user_id"] is not pd.NA and o["user_id"] == row["user_id"])]  # fmt: skip
        yield k, same, row


def test_what_is_usual_is_robust():
    rng = np.random.default_rng(0)
    busy = rng.lognormal(4, 0.5, 1000).astype(int)
    with_bots = np.concatenate([busy, np.full(300, 50_000)])  # a quarter of all
    limits = [usual_limit(*np.unique(values, return_counts=True), 100) for values in (busy, with_bots)]
    assert 500 < limits[0] < limits[1] < 50_000
    assert usual_limit(np.array([1]), np.array([10]), 100) == 100
    assert usual_limit(np.array([], dtype=int), np.array([], dtype=int), 7) == 7
    frame = sound()
    assert check_quality(frame, per_day=1).n_bots == 8
    assert check_quality(frame, per_minute=1).n_bots == 8


@pytest.mark.parametrize("n", [0, 1])
def test_next_to_nothing(n):
    frame = sound().iloc[:n]
    found = check_quality(frame, **COLUMNS)
    assert (found.n_obs, found.n_users, found.found) == (n, n, ())
    kept, dropped = clean(frame, nulls="drop", bots="drop", several_variants="error", **COLUMNS)
    assert (len(kept), dropped.n_kept) == (n, n)


def test_all_null():
    frame = sound().assign(user_id=pd.Series(dtype="string"), event_time=pd.Series(dtype="datetime64[us]"))
    found = check_quality(frame)
    assert (found.n_null, found.n_users, found.first_time) == (48, 0, "")
    assert len(clean(frame, nulls="drop")[0]) == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"nulls": "error"}, ColumnError, "no user_id: 1 event"),
        ({"skew": "error"}, TimeError, "in the future: 1 event"),
        ({"several_variants": "error"}, TreatmentError, "such as 'ü1'"),
        ({"duplicates": "error"}, CausalRecError, "duplicates='drop'"),
        ({"bots": "error"}, CausalRecError, "of bot-like users: 601 events"),
        ({"bots": "remove"}, CausalRecError, "expected 'keep', 'drop' or 'error'"),
        ({"duplicate": "drop"}, CausalRecError, "Did you mean 'duplicates'"),
        ({"now": "soon"}, TimeError, "now is 'soon'"),
        ({"start": "2030-01-01"}, TimeError, "after now"),
        ({"late_after": -1}, TimeError, "late_after"),
        ({"per_day": 0}, CausalRecError, "per_day is 0"),
        ({"arrival": "kind"}, TimeError, "expected timestamps"),
        ({"order_by": "kind"}, ColumnError, "a whole number or a time"),
        ({"user": "usr_id"}, ColumnError, "user_id"),
    ],
)
def test_what_is_wrong_is_named(options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        clean(broken(), **{**COLUMNS, **options})
