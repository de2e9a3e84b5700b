"""Reports on a log equal pandas on real data and brute force on small tables, on both engines."""

from __future__ import annotations

import math
import re
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.datasets import load_dataset, online_retail_purchases, retailrocket_events
from causalrec.exceptions import CausalRecError, ColumnError, EngineError, TimeError
from causalrec.journeys import _sql
from causalrec.journeys._steps import known_steps
from causalrec.journeys.quality import check_quality
from causalrec.journeys.reports import (
    cohort_retention,
    conversion_funnel,
    daily_active_users,
    revenue_by_segment,
)

STEPS = ["view", "cart", "buy"]


def log(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Ties, unicode, nulls, users in both variants, times before 1970."""
    rng = np.random.default_rng(seed)
    hours = rng.integers(-60, 24 * 20, n)
    frame = pd.DataFrame({
        "user_id": rng.choice(["a", "ü'", "c:user", "d", "e"], n),
        "item_id": rng.integers(0, 4, n),
        "event_time": pd.Timestamp("1970-01-03") + pd.to_timedelta(hours, unit="h"),
        "event_type": rng.choice([*STEPS, "search"], n, p=[0.5, 0.2, 0.1, 0.2]),
        "variant": rng.choice(["A", "B"], n, p=[0.9, 0.1]),
        "revenue": np.round(rng.normal(5, 10, n), 2),
    })  # fmt: skip
    return frame.mask(rng.random(frame.shape) < 0.02)


def reached(frame: pd.DataFrame, steps: list[str], window: pd.Timedelta) -> int:
    """By trying every combination of events."""
    times = [frame.loc[frame["event_type"] == s, "event_time"].dropna().tolist() for s in steps]
    deepest = 0
    for k in range(1, len(steps) + 1):
        chains = product(*times[:k])
        if any(all(a <= b for a, b in pairwise(c)) and c[-1] - c[0] <= window for c in chains):
            deepest = k
    return deepest


@pytest.mark.slow_on_spark
@pytest.mark.parametrize("unit", ["user", "user_item"])
def test_funnel_equals_brute_force(engine, unit):
    frame, window = log(150), pd.Timedelta("36h")
    keys = ["user_id"] if unit == "user" else ["user_id", "item_id"]
    engine.register("funnel_log", frame)
    found = conversion_funnel("funnel_log", STEPS, unit=unit, window="36h", variant="variant", control="B",
                              engine=engine)  # fmt: skip
    assert found.arm == ("B", "(none)", "A")
    for row, variant in enumerate(found.arm):
        part = frame[frame["variant"].fillna("(none)") == variant].dropna(subset=[*keys, "event_time"])
        deepest = [reached(group, STEPS, window) for _, group in part.groupby(keys)]
        assert found.count[row].tolist() == [sum(d >= k for d in deepest) for k in (1, 2, 3)]
    if unit == "user":
        k, n = int(found.count[2, 1]), int(found.count[2, 0])
        low, high = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
        assert (found.of_all[2, 1], found.of_all_low[2, 1], found.of_all_high[2, 1]) == (k / n, low, high)
    else:
        assert np.isnan(found.of_all_low).all()
        assert "not independent" in found.method
    engine.drop("funnel_log")


def test_reports_on_both_engines_equal_pandas(engine):
    frame = log()
    engine.register("small_log", frame)
    known = frame.dropna(subset=["user_id", "event_time"]).assign(
        day=lambda f: f["event_time"].dt.normalize(), variant=lambda f: f["variant"].fillna("(none)")
    )
    daily = daily_active_users("small_log", variant="variant", engine=engine)
    expected = known.groupby(["day", "variant"])["user_id"].nunique()
    shown = daily.to_frame().set_index(["day", "variant"])["users"]
    pd.testing.assert_series_equal(shown[shown > 0].sort_index(), expected.sort_index(), check_names=False,
                                   check_index_type=False)  # fmt: skip
    assert daily.n_left_out == len(frame) - len(known)
    assert daily.n_days == (known["day"].max() - known["day"].min()).days + 1

    buys = known[known["event_type"] == "buy"]
    kept = cohort_retention("small_log", days=[1, 7], period="day", event_type="event_type", active=["buy"],
                            engine=engine)  # fmt: skip
    first = buys.groupby("user_id")["day"].min()
    for cohort, row in kept.to_frame().groupby("cohort"):
        users = first.index[first == cohort]
        assert row["size"].tolist() == [len(users)] * 2
        for day, share in zip(row["day"], row["retention"], strict=True):
            then = cohort + pd.Timedelta(day, "D")
            seen = buys[(buys["day"] == then) & buys["user_id"].isin(users)]["user_id"].nunique()
            assert math.isnan(share) if then > buys["day"].max() else share == seen / len(users)

    sold = revenue_by_segment("small_log", segment="item_id", engine=engine)
    by = frame.assign(item=frame["item_id"].map("{:.1f}".format).replace("nan", "(none)")).groupby("item")
    assert dict(zip(sold.segment, sold.revenue, strict=True)) == pytest.approx(by["revenue"].sum().to_dict())
    assert dict(zip(sold.segment, sold.users, strict=True)) == by["user_id"].nunique().to_dict()
    assert sold.n_no_user == frame["user_id"].isna().sum()
    assert sold.n_no_revenue == frame["revenue"].isna().sum()
    engine.drop("small_log")


@pytest.mark.data
def test_retailrocket_equals_pandas(data_dir: Path):
    path = data_dir / "retailrocket" / "sample_events.csv"
    raw = pd.read_csv(path, parse_dates=["datetime"])
    names = {"user": "visitorid", "event_time": "datetime"}
    daily = daily_active_users(path, **names)
    expected = raw.groupby(raw["datetime"].dt.floor("D"))["visitorid"].nunique()
    frame = daily.to_frame()
    assert frame[frame["users"] > 0].set_index("day")["users"].to_dict() == expected.to_dict()

    found = conversion_funnel(path, item="itemid", event_type="event", unit="user_item", window="7d", **names)
    assert found.step == ("view", "addtocart", "transaction")
    several = raw[raw.groupby(["visitorid", "itemid"])["event"].transform("nunique") > 1]
    several = several.rename(columns={"datetime": "event_time", "event": "event_type"})
    groups = several.groupby(["visitorid", "itemid"])
    brute = [reached(group, list(found.step), pd.Timedelta("7D")) for _, group in groups]
    assert found.count[0, 0] == len(raw[raw["event"] == "view"].drop_duplicates(["visitorid", "itemid"]))
    assert found.count[0, 1:].tolist() == [sum(d >= k for d in brute) for k in (2, 3)]
    events, _ = retailrocket_events(load_dataset("retailrocket", data_dir))
    assert conversion_funnel(events, unit="user_item").count.tolist() == found.count.tolist()

    kept = cohort_retention(path, **names)
    days = raw.assign(day=raw["datetime"].dt.floor("D"))[["visitorid", "day"]].drop_duplicates()
    days["after"] = (days["day"] - days.groupby("visitorid")["day"].transform("min")).dt.days
    first = days.groupby("visitorid")["day"].min()
    for k, day in enumerate((1, 7, 14, 30, 60)):
        whole = first[first + pd.Timedelta(day, "D") <= days["day"].max()]
        assert kept.seen[k] == len(whole)
        assert kept.seen_active[k] == days[(days["after"] == day) & days["visitorid"].isin(whole.index)].shape[0]
    weekly = kept.to_frame().groupby("cohort")["size"].first()
    assert weekly.to_dict() == first.groupby(first.dt.to_period("W-SUN").dt.start_time).size().to_dict()


@pytest.mark.data
def test_online_retail_and_complete_journey_equal_pandas(data_dir: Path):
    events, _ = online_retail_purchases(load_dataset("online_retail", data_dir))
    raw = pd.read_parquet(data_dir / "online_retail" / "online_retail.parquet")
    kept = cohort_retention(events, days=[30], period="month")
    first = events.groupby("user_id")["event_time"].min().dt.to_period("M")
    assert kept.size.tolist() == first.value_counts().sort_index().tolist()
    assert kept.n_obs == 4338  # customers with a purchase
    assert np.isnan(kept.retention[-2:]).tolist() == [[True], [True]]  # November's last users came after the 9th
    assert not np.isnan(kept.retention[:-2]).any()

    sold = revenue_by_segment(raw.assign(amount=raw["Quantity"] * raw["UnitPrice"]), segment="Country",
                              revenue="amount", user="CustomerID")  # fmt: skip
    assert sold.total == pytest.approx(9_747_747.93, abs=0.005)  # as published
    by = raw.assign(amount=raw["Quantity"] * raw["UnitPrice"]).groupby("Country")
    assert dict(zip(sold.segment, sold.revenue, strict=True)) == pytest.approx(by["amount"].sum().to_dict())
    assert dict(zip(sold.segment, sold.users, strict=True)) == by["CustomerID"].nunique().to_dict()
    assert sold.n_no_user == 135_080

    lines = pd.read_parquet(data_dir / "completejourney" / "transactions_sample.parquet")
    homes = pd.read_parquet(data_dir / "completejourney" / "demographics.parquet")
    found = revenue_by_segment(lines, segment="income", revenue="sales_value", user="household_id", attributes=homes)
    merged = lines.merge(homes, how="left", on="household_id")
    expected = merged.assign(income=merged["income"].astype(object).fillna("(none)")).groupby("income")["sales_value"]
    assert dict(zip(found.segment, found.revenue, strict=True)) == pytest.approx(expected.sum().to_dict())


def test_order_and_kind_of_the_table_do_not_matter_and_it_is_not_changed():
    frame = log(seed=3)
    before = frame.copy(deep=True)
    shuffled = frame.sample(frac=1, random_state=1)
    polars = pytest.importorskip("polars")
    for ask in (
        lambda t: daily_active_users(t, variant="variant"),
        lambda t: conversion_funnel(t, STEPS, variant="variant", unit="user_item"),
        lambda t: cohort_retention(t, days=[1, 3]),
        lambda t: revenue_by_segment(t, segment="variant"),
    ):
        a, *others = (ask(t) for t in (frame, shuffled, polars.from_pandas(frame).lazy()))
        for b in others:
            pd.testing.assert_frame_equal(a.to_frame(), b.to_frame(), check_exact=True)
            assert str(a) == str(b)
    pd.testing.assert_frame_equal(frame, before)


def test_days_are_utc_and_a_window_is_whole():
    zoned = pd.DataFrame({
        "user_id": [1, 1, 2, 2], "event_type": ["view", "buy", "view", "buy"],
        "event_time": pd.to_datetime(["2025-01-01 00:30+01:00", "2025-01-01 01:30+01:00", "2025-01-01T00:00Z",
                                      "2025-01-01T00:00:00.000001Z"], utc=True, format="ISO8601"),
    })  # fmt: skip
    assert daily_active_users(zoned).day == ("2024-12-31", "2025-01-01")
    assert daily_active_users(zoned).users.ravel().tolist() == [1, 2]
    assert conversion_funnel(zoned, ["view", "buy"], window="1h").count.tolist() == [[2, 2]]  # an hour is within it
    assert conversion_funnel(zoned, ["view", "buy"], window="59m").count.tolist() == [[2, 1]]
    assert conversion_funnel(zoned, ["view", "buy"], window="0s").count.tolist() == [[2, 0]]


def test_a_window_begins_at_the_view_that_leads_furthest():
    times = pd.to_datetime(["2025-01-01", "2025-03-01", "2025-03-02", "2025-03-20"])
    frame = pd.DataFrame({"user_id": 1, "event_type": ["view", "view", "cart", "buy"], "event_time": times})
    assert conversion_funnel(frame, STEPS, window="7d").count.tolist() == [[1, 1, 0]]
    assert conversion_funnel(frame, STEPS, window="19d").count.tolist() == [[1, 1, 1]]
    assert conversion_funnel(frame, STEPS, window="18d").count.tolist() == [[1, 1, 0]]


def test_retention_ends_where_the_log_does():
    times = pd.to_datetime(["2025-01-06", "2025-01-08", "2025-01-13", "2025-01-15"])
    frame = pd.DataFrame({"user_id": [1, 2, 1, 2], "event_time": times})
    found = cohort_retention(frame, days=[7, 8])
    assert found.retention.tolist() == [[1.0, pytest.approx(math.nan, nan_ok=True)]]
    assert (found.seen.tolist(), found.seen_active.tolist()) == ([2, 1], [2, 0])
    later = cohort_retention(frame, days=[7, 8], end="2025-01-20")
    assert later.retention.tolist() == [[1.0, 0.0]]
    with pytest.raises(TimeError, match="has an event on 2025-01-15"):
        cohort_retention(frame, end="2025-01-15")
    assert cohort_retention(frame, period="month").cohort == ("2025-01-01",)
    assert "day 60: not reached" in str(cohort_retention(frame))


@pytest.mark.parametrize("n", [0, 1])
def test_next_to_nothing(n):
    frame = log().dropna().iloc[:n]
    daily, kept = daily_active_users(frame), cohort_retention(frame)
    assert (daily.n_days, daily.n_obs, kept.n_obs) == (n, n, n)
    two = frame.assign(event_type="view") if n == 0 else pd.concat([frame.assign(event_type=s) for s in STEPS])
    assert conversion_funnel(two, STEPS).count.tolist() == [[n] * 3]
    assert revenue_by_segment(frame, segment="variant").n_obs == n
    assert all(str(r) and r.to_frame() is not None for r in (daily, kept))


def test_all_null():
    frame = log().assign(user_id=None, variant=None).astype({"user_id": "string", "variant": "string"})
    assert daily_active_users(frame, variant="variant").n_left_out == len(frame)
    assert cohort_retention(frame).n_left_out == len(frame)
    assert conversion_funnel(frame, STEPS, variant="variant").count.tolist() == [[0, 0, 0]]
    assert revenue_by_segment(frame, segment="variant").segment == ("(none)",)


def test_steps_are_known_by_name():
    assert known_steps(["purchase", "cart", "click", "impression"]) == ["impression", "click", "cart", "purchase"]
    with pytest.raises(CausalRecError, match="Name them"):
        conversion_funnel(log().assign(event_type="search"))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda t: daily_active_users(t, user="usr_id"), ColumnError, "user_id"),
        (lambda t: daily_active_users(t, event_time="item_id"), TimeError, "expected timestamps"),
        (lambda t: daily_active_users(t, active=["buy"]), ColumnError, "event_type is None"),
        (lambda t: daily_active_users(t, active="buy", event_type="event_type"), CausalRecError, "expected a list"),
        (lambda t: daily_active_users(t, variant="arm"), ColumnError, "arm"),
        (lambda t: daily_active_users(object()), EngineError, "object"),
        (lambda t: daily_active_users(t, attributes=t), ColumnError, "repeat"),
        (lambda t: daily_active_users(t, attributes=pd.DataFrame({"user_id": [1]})), ColumnError, "integer"),
        (lambda t: conversion_funnel(t, ["view"]), CausalRecError, "two or more"),
        (lambda t: conversion_funnel(t, ["view", "bye"]), ColumnError, "Did you mean 'buy'"),
        (lambda t: conversion_funnel(t, STEPS, window="soon"), TimeError, "window"),
        (lambda t: conversion_funnel(t, STEPS, unit="session"), CausalRecError, "user_item"),
        (lambda t: conversion_funnel(t, STEPS, variant="variant", control="C"), CausalRecError, "control is 'C'"),
        (lambda t: cohort_retention(t, days=[0]), CausalRecError, "1 or more"),
        (lambda t: cohort_retention(t, days=[]), CausalRecError, "1 or more"),
        (lambda t: cohort_retention(t, days=None), CausalRecError, "1 or more"),
        (lambda t: cohort_retention(t, period="year"), CausalRecError, "'month'"),
        (lambda t: cohort_retention(t, end="2025-01-01 12:00"), TimeError, "midnight"),
        (lambda t: revenue_by_segment(t, segment="variant", revenue="event_type"), ColumnError, "sum of numbers"),
    ],
)
def test_what_is_wrong_is_named(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call(log())


def test_every_sql_file_says_what_it_is_and_is_used():
    files = sorted((Path(_sql.__file__).parent / "sql").glob("*.sql"))
    assert {f.stem for f in files} >= {"daily_active_users", "funnel", "retention", "revenue", "quality"}
    assert all(f.read_text(encoding="utf-8").startswith("-- ") for f in files)
    with pytest.raises(KeyError, match="user"):
        _sql.fill_sql("revenue", {"segment": "s"})


@pytest.mark.parametrize("amounts", [[1.0, np.inf, -np.inf, 1e15, np.nan]])
def test_amounts_beyond_what_can_be_added_are_counted(engine, amounts):
    frame = pd.DataFrame({"user_id": range(5), "land": "FR", "revenue": amounts})
    found = revenue_by_segment(frame, segment="land", engine=engine)
    assert (found.total, found.n_no_revenue, found.n_beyond) == (1.0, 1, 3)
    assert "1 event without an amount; 3 amounts left out, infinite or of 1e15 and more." in str(found)


def test_one_of_a_thing_is_one():
    one = pd.DataFrame({"user_id": [1], "event_time": pd.to_datetime(["2025-01-01"])})
    assert str(cohort_retention(one)).startswith("1 user in 1 cohort by week")
    assert str(check_quality(one)).startswith("1 event of 1 user,")
