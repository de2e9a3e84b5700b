"""Credit by rule: the naive oracle, numbers by hand, and that credit adds up to the conversions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.engines import LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, EngineError, OutcomeError, TimeError
from causalrec.journeys.credit import RULES, credit, credit_by_conversion
from causalrec.journeys.sessions import sessions
from causalrec.journeys.stitching import stitch_events

from .credit_oracle import NONE, by_conversion, totals

START = pd.Timestamp("2025-01-01")
DAY = pd.Timedelta(days=1)
CHANNELS = ["email", "Email", "søk", "展示", "push 'x'", ""]


def table(rows: list[tuple], names: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(event_time=pd.to_datetime(frame["event_time"]).astype("datetime64[us]"))


def touched(*rows: tuple[Any, str, float]) -> pd.DataFrame:
    """Touches from user, channel and day."""
    return table([(u, c, START + d * DAY) for u, c, d in rows], ["user_id", "channel", "event_time"])


def converted(*rows: tuple[Any, float]) -> pd.DataFrame:
    return table([(u, START + d * DAY) for u, d in rows], ["user_id", "event_time"])


def shares(rule: str, days: list[float], at: float = 30.0, **options: Any) -> list[float]:
    """The credit of touches of channels c0, c1, … on those days for one conversion."""
    touches = touched(*((1, f"c{i}", d) for i, d in enumerate(days)))
    found = credit(touches, converted((1, at)), rule=rule, **options).of(rule)
    return [found[f"c{i}"] for i in range(len(days))]


# --- the oracle -----------------------------------------------------------------------------------------------------


@st.composite
def logs(draw: Any, most: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Few users and few times, so that ties, same seconds and touches exactly at the window's edge are common."""
    user = st.sampled_from(["ann", "bo", "çem", None])
    time = st.one_of(
        st.integers(0, 12).map(lambda h: START + pd.Timedelta(hours=h)), st.sampled_from([START + DAY, pd.NaT])
    )
    touch = st.tuples(user, st.sampled_from(CHANNELS), time, st.sampled_from([None, 1, 2]))
    touches = table(draw(st.lists(touch, max_size=most)), ["user_id", "channel", "event_time", "step"])
    conversion = st.tuples(user, time, st.sampled_from([0.0, 1.5, 0.1, -2.25, 1e9]))
    conversions = table(draw(st.lists(conversion, max_size=6)), ["user_id", "event_time", "value"])
    texts = {"user_id": pd.StringDtype(), "step": "Int64"}
    return (
        touches.astype({**texts, "channel": pd.StringDtype()}),
        conversions.astype({"user_id": pd.StringDtype(), "value": float}),
    )


def check(
    found: Any, touches: pd.DataFrame, conversions: pd.DataFrame, rules: Sequence[str] = RULES, **options: Any
) -> None:
    expected = {rule: totals(touches, conversions, rule, **options) for rule in rules}
    values = {rule: totals(touches, conversions, rule, value="value", **options) for rule in rules}
    scale = conversions["value"].abs().sum()
    for rule, got in zip(rules, found.credit.T, strict=True):
        for channel, number in zip(found.channels, got, strict=True):
            assert number == pytest.approx(expected[rule].get(channel, 0.0), abs=1e-9)
        assert got.sum() == pytest.approx(len(conversions), abs=1e-9)
        worth = found.value[:, rules.index(rule)]
        for channel, number in zip(found.channels, worth, strict=True):
            assert number == pytest.approx(values[rule].get(channel, 0.0), rel=1e-9, abs=1e-9 + 1e-14 * scale)
        assert worth.sum() == pytest.approx(conversions["value"].sum(), rel=1e-9, abs=1e-9 + 1e-14 * scale)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalEngine]:
    """One engine for all examples."""
    with LocalEngine(threads=1) as engine:
        yield engine


WINDOW, HALF_LIFE = pd.Timedelta(hours=6), pd.Timedelta(hours=3)


@settings(max_examples=8, deadline=None)
@given(tables=logs())
def test_credit_is_that_of_the_oracle(tables, local: LocalEngine) -> None:
    check_against_oracle(*tables, local)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(tables=logs(most=25))
def test_credit_is_that_of_the_oracle_in_more_logs(tables, local: LocalEngine) -> None:
    check_against_oracle(*tables, local)


def check_against_oracle(touches: pd.DataFrame, conversions: pd.DataFrame, engine: LocalEngine) -> None:
    shared: dict[str, Any] = {"rules": RULES, "order_by": "step", "value": "value", "engine": engine}
    found = credit(touches, conversions, window="6h", half_life="3h", **shared)
    check(found, touches, conversions, window=WINDOW, half_life=HALF_LIFE)
    everything = credit(touches, conversions, window=None, half_life="1s", **shared)
    check(everything, touches, conversions, window=None, half_life=pd.Timedelta(seconds=1))


@settings(max_examples=5, deadline=None)
@given(tables=logs(), random=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_bit(tables, random, local: LocalEngine) -> None:
    found = []
    for _ in range(2):
        shuffled = [t.sample(frac=1, random_state=random.randrange(2**31)) for t in tables]
        found.append(credit(*shuffled, rules=RULES, window="6h", half_life="3h", value="value", engine=local))
    np.testing.assert_array_equal(found[0].credit, found[1].credit)
    np.testing.assert_array_equal(found[0].value, found[1].value)
    assert found[0].channels == found[1].channels


@settings(max_examples=6, deadline=None)
@given(tables=logs())
def test_shares_of_each_conversion_are_those_of_the_oracle(tables, local: LocalEngine) -> None:
    touches, conversions = tables
    numbered = conversions.assign(order_no=np.arange(len(conversions)))
    found = credit_by_conversion(
        touches, numbered, rules=RULES, window="6h", half_life="3h", order_by="step", engine=local
    )
    assert found["order_no"].is_monotonic_increasing
    for rule in RULES:
        expected = by_conversion(touches, conversions, rule, window=WINDOW, half_life=HALF_LIFE)
        for number, share in enumerate(expected):
            got = found[found["order_no"] == number].set_index("channel")[rule]
            assert got.sum() == pytest.approx(1, abs=1e-9)
            assert dict(got[got != 0]) == pytest.approx({c: w for c, w in share.items() if w}, abs=1e-9)


def big_log(n: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    touches = pd.DataFrame({
        "user_id": rng.integers(0, 40, n), "channel": rng.choice(CHANNELS, n),
        "event_time": (START + pd.to_timedelta(rng.integers(0, 400, n), unit="h")).astype("datetime64[us]"),
        "step": rng.integers(0, 3, n),
    })  # fmt: skip
    m = n // 4
    conversions = pd.DataFrame({
        "user_id": rng.integers(0, 50, m), "value": rng.lognormal(3, 2, m),
        "event_time": (START + pd.to_timedelta(rng.integers(0, 500, m), unit="h")).astype("datetime64[us]"),
    })  # fmt: skip
    return touches, conversions


@pytest.mark.parametrize("rules", [pytest.param(RULES, marks=pytest.mark.slow_on_spark), ("linear", "time_decay")])
def test_engines_say_the_same_as_the_oracle(engine: Any, rules: Sequence[str]) -> None:
    """Many touches, ties and edges at once."""
    touches, conversions = big_log(200)
    engine.register("touch_log", touches)
    engine.register("orders", conversions)
    found = credit(
        "touch_log", "orders", rules=rules, window="72h", half_life="10h", order_by="step", value="value",
        engine=engine,
    )  # fmt: skip
    expected = {"window": pd.Timedelta(hours=72), "half_life": pd.Timedelta(hours=10)}
    check(found, touches.astype({"user_id": "Int64"}), conversions, rules, **expected)
    assert found.n_touched == sum(NONE not in s for s in by_conversion(touches, conversions, "linear", **expected))


@pytest.mark.spark
@pytest.mark.slow
def test_spark_frames_stay_on_spark(spark_session: Any, tmp_path: Path) -> None:
    touches, conversions = big_log(200, seed=1)
    frames = []
    for name, frame in (("t", touches), ("c", conversions)):
        frame.to_parquet(tmp_path / f"{name}.parquet")
        frames.append(spark_session.read.parquet(str(tmp_path / f"{name}.parquet")))
    found = credit_by_conversion(*frames, rules=["linear", "time_decay"], window="5d")
    assert found.sparkSession is spark_session
    local = credit_by_conversion(touches, conversions, rules=["linear", "time_decay"], window="5d")
    keys = ["user_id", "event_time", "value", "channel"]
    pd.testing.assert_frame_equal(
        found.toArrow().to_pandas().sort_values(keys, ignore_index=True)[local.columns],
        local.sort_values(keys, ignore_index=True),
        check_dtype=False, rtol=1e-12,
    )  # fmt: skip


# --- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "days", "expected"),
    [
        ("first_touch", [1, 2, 3], [1, 0, 0]),
        ("last_touch", [1, 2, 3], [0, 0, 1]),
        ("linear", [1, 2, 3, 4], [0.25] * 4),
        ("position_based", [5], [1]),
        ("position_based", [5, 6], [0.5, 0.5]),
        ("position_based", [5, 6, 7], [0.4, 0.2, 0.4]),
        ("position_based", [5, 6, 7, 8], [0.4, 0.1, 0.1, 0.4]),
        # half-life 7 days: ages 21, 14 and 7 days count 1/8, 1/4, 1/2, of 7/8
        ("time_decay", [9, 16, 23], [1 / 7, 2 / 7, 4 / 7]),
        ("time_decay", [23], [1]),
    ],
)
def test_shares_by_hand(rule: str, days: list[float], expected: list[float]) -> None:
    assert shares(rule, days) == pytest.approx(expected, abs=1e-12)


def test_position_of_two_touches_keeps_the_ratio_of_the_ends() -> None:
    assert shares("position_based", [1, 2], position=(0.6, 0.2, 0.2)) == pytest.approx([0.75, 0.25])
    assert shares("position_based", [1, 2], position=(0, 1, 0)) == [0.5, 0.5]
    assert shares("position_based", [1, 2, 3], position=(0, 1, 0)) == [0, 1, 0]


def test_a_half_life_of_a_second_does_not_underflow() -> None:
    assert shares("time_decay", [1, 20], half_life="1s") == [0, 1]
    assert shares("time_decay", [1, 20], half_life=timedelta(days=19)) == pytest.approx([1 / 3, 2 / 3])


def test_the_window_starts_with_the_touch_at_its_edge_and_ends_before_the_conversion() -> None:
    at = pd.Timedelta("1us") / DAY
    found = credit(
        touched((1, "edge", 3), (1, "before", 3 - at), (1, "same time", 10), (2, "after", 11)),
        converted((1, 10), (2, 10)), rule="linear", window="7d",
    )  # fmt: skip
    assert found.of("linear") == {"after": 0, "before": 0, "edge": 1, "same time": 0, NONE: 1}
    assert (found.n_conversions, found.n_touched, found.n_touches) == (2, 1, 4)


def test_touches_of_one_second_are_in_the_order_asked_for_else_of_their_channels() -> None:
    touches = touched((1, "b", 2), (1, "a", 2), (1, "c", 2)).assign(step=[1, 2, None])
    after = converted((1, 3))
    assert credit(touches, after, rule="last_touch").of("last_touch")["c"] == 1
    by_step = credit(touches, after, rules=["first_touch", "last_touch"], order_by="step")
    assert by_step.of("last_touch")["a"] == by_step.of("first_touch")["c"] == 1  # nulls come first


def test_equal_conversions_are_each_one() -> None:
    found = credit(touched((1, "a", 1)), converted((1, 2), (1, 2), (1, 2)), rule="last_touch")
    assert found.of("last_touch") == {"a": 3, NONE: 0}


def test_tables_of_any_kind_give_the_same_and_stay_as_they_were(tmp_path: Path) -> None:
    import polars as pl

    touches, conversions = big_log(60)
    before = touches.copy(deep=True), conversions.copy(deep=True)
    paths = [tmp_path / "t.parquet", tmp_path / "c.csv"]
    touches.to_parquet(paths[0])
    conversions.to_csv(paths[1], index=False)
    found = credit(touches, conversions, rules=RULES, value="value")
    for given_ in ((pl.from_pandas(touches), pl.from_pandas(conversions).lazy()), [str(p) for p in paths]):
        again = credit(*given_, rules=RULES, value="value")
        np.testing.assert_array_equal(again.credit, found.credit)
        np.testing.assert_allclose(again.value, found.value, rtol=1e-12)
    assert isinstance(credit_by_conversion(pl.from_pandas(touches), pl.from_pandas(conversions)), pl.DataFrame)
    pd.testing.assert_frame_equal(touches, before[0])
    pd.testing.assert_frame_equal(conversions, before[1])


def test_categories_and_numbers_are_channels_too() -> None:
    touches = touched((1, "b", 1), (1, "a", 1)).assign(channel=pd.Categorical(["b", "a"], categories=["b", "a"]))
    assert credit(touches, converted((1, 2)), rule="last_touch").of("last_touch")["b"] == 1  # by name, not by code
    numbers = touched((1, "b", 1)).assign(channel=[7])
    assert credit(numbers, converted((1, 2))).channels == ("7", NONE)


def test_columns_by_other_names() -> None:
    touches = touched((1, "a", 1)).rename(columns={"user_id": "who", "channel": "source", "event_time": "at"})
    orders = converted((1, 2)).rename(columns={"user_id": "who", "event_time": "paid at"})
    found = credit(touches, orders, user="who", channel="source", event_time="at", conversion_time="paid at")
    assert found.of("last_touch") == {"a": 1, NONE: 0}


def test_empty_tables() -> None:
    nobody = touched().astype({"user_id": "int64", "channel": str})
    found = credit(nobody, converted((1, 2)), rules=RULES)
    assert found.channels == (NONE,)
    assert (found.credit == 1).all()
    found = credit(touched((1, "a", 1)), converted().astype({"user_id": "int64"}), rules=RULES)
    assert (found.credit == 0).all()
    assert np.isnan(found.share).all()
    assert len(credit_by_conversion(nobody, converted((1, 2)))) == 1


def test_what_belongs_to_nobody_is_counted() -> None:
    touches = touched((1, "a", 1), (None, "b", 1)).astype({"user_id": "Int64"})
    orders = converted((1, 2), (None, 2)).astype({"user_id": "Int64"})
    found = credit(touches, orders)
    assert (found.n_touches, found.n_touches_left_out, found.n_conversions_without_user) == (1, 1, 1)
    assert found.of("last_touch") == {"a": 1, NONE: 1}
    assert "1 touch, left out; 1 conversion," in str(found)


def test_the_table_of_a_result() -> None:
    found = credit(
        touched((1, "a", 1), (1, "b", 2)), converted((1, 3), (2, 3)).assign(paid=[10.0, 5.0]), rules=["linear"],
        value="paid",
    )  # fmt: skip
    assert found.to_frame().to_dict("list") == {
        "channel": ["a", "b", NONE], "linear": [0.5, 0.5, 1.0], "value_linear": [5.0, 5.0, 5.0]
    }  # fmt: skip
    assert found.share.tolist() == [[0.5], [0.5]]
    assert found.total_value == 15
    assert found.counted == "touches of the 30d before each"
    assert credit(touched((1, "a", 1)), converted((1, 3)), window=None).counted == "touches at any time before each"


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rule": "last_tuch"}, CausalRecError, "rule is 'last_tuch'; expected one of .* Did you mean 'last_touch'"),
        ({"rules": "linear"}, CausalRecError, r"rules is the text 'linear'; expected a list of rules: \['linear'\]"),
        ({"rules": []}, CausalRecError, "rules is empty"),
        ({"window": "0d"}, TimeError, "window is '0d'; expected a length of time above zero"),
        ({"window": timedelta(days=-1)}, TimeError, "window is .* below zero"),
        ({"window": "a month"}, TimeError, "window is 'a month'"),
        ({"half_life": "0s"}, TimeError, "half_life is '0s'"),
        ({"half_life": None}, TimeError, "half_life is None"),
        ({"position": (0.5, 0.5, 0.5)}, CausalRecError, "three shares of at least 0 that add up to 1"),
        ({"position": (0.4, 0.6)}, CausalRecError, "three shares"),
        ({"position": (-0.5, 1.0, 0.5)}, CausalRecError, "three shares"),
        ({"position": "even"}, CausalRecError, "three shares"),
        ({"channel": "chanel"}, ColumnError, "touches: missing column 'chanel'.*Did you mean 'channel'"),
        ({"value": "revenue"}, ColumnError, "conversions: missing column 'revenue'"),
        ({"value": "note"}, ColumnError, "'note' is string; expected numbers"),
        ({"value": "holey"}, OutcomeError, "1 of 2 values of 'holey' are missing or infinite"),
        ({"order_by": "step"}, ColumnError, "touches: missing column 'step'"),
        ({"event_time": "user_id"}, TimeError, "expected timestamps"),
        ({"channel": "event_time"}, ColumnError, "'event_time' is timestamp; expected text"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    orders = converted((1, 2), (2, 3)).assign(note="x", holey=[1.0, np.inf])
    with pytest.raises(error, match=message):
        credit(touched((1, "a", 1)), orders, **options)


@pytest.mark.parametrize(
    ("touches", "message"),
    [
        (touched((1, "a", 1), (1, None, 1)), "1 of 2 have no 'channel'"),
        (touched((1, NONE, 1)), r"1 are of a channel '\(none\)'"),
        (touched(("1", "a", 1)), "'user_id' is string in the touches and integer in the conversions"),
    ],
)
def test_bad_touches_are_named(touches: pd.DataFrame, message: str) -> None:
    with pytest.raises(ColumnError, match=message):
        credit(touches, converted((1, 2)))


def test_names_that_the_result_needs() -> None:
    with pytest.raises(ColumnError, match="found a column 'channel'"):
        credit_by_conversion(touched((1, "a", 1)), converted((1, 2)).assign(channel="web"))
    with pytest.raises(CausalRecError, match="there is no credit by 'linear'"):
        credit(touched((1, "a", 1)), converted((1, 2))).of("linear")
    with pytest.raises(EngineError):
        credit("no such table", converted((1, 2)))


@pytest.mark.parametrize("n", [0, 2])
def test_columns_without_any_value_are_text(n: int) -> None:
    """pandas gives them no type; sessions and stages take them too."""
    times = pd.Series(pd.date_range("2025-01-01", periods=n)).astype("datetime64[us]")
    nothing = pd.Series([None] * n, dtype=object)
    events = pd.DataFrame({"user_id": nothing, "item_id": nothing, "event_type": nothing, "event_time": times})
    assert len(sessions(events, "30m", event_type="event_type")) == 0
    assert len(stitch_events(events, "1d", stages=["view", "purchase"])) == 0
    touches = events.assign(channel=nothing if n == 0 else "email")
    assert credit(touches, events).n_conversions == n
