"""Users before, during and after a period: against pandas, row by row, and by the definition of the times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.exceptions import CausalRecError, ColumnError, EmptyTableError, TimeError
from causalrec.journeys.credit import RULES, credit
from causalrec.journeys.exposures import exposures

from .test_credit import DAY, START, big_log, converted, touched

PERIOD = (START + 8 * DAY, START + 10 * DAY)
US = pd.Timedelta("1us")


def by_hand(touches: pd.DataFrame, orders: pd.DataFrame, history: pd.Timedelta | None = None) -> pd.DataFrame:
    """The same table, a user at a time."""
    start, end = PERIOD
    first = pd.Timestamp.min if history is None else start - history
    past_t = touches[(touches["event_time"] < start) & (touches["event_time"] >= first)]
    past_c = orders[(orders["event_time"] < start) & (orders["event_time"] >= first)]
    during = touches[(touches["event_time"] >= start) & (touches["event_time"] < end)]
    after = orders[(orders["event_time"] >= end) & (orders["event_time"] < end + 3 * DAY)]
    users = sorted({*past_t["user_id"], *past_c["user_id"]})
    channels = sorted(during[during["user_id"].isin(users)]["channel"].unique())
    rows = []
    for user in users:
        of = [t[t["user_id"] == user] for t in (past_t, past_c, during, after)]
        row: dict[str, Any] = {"user_id": user}
        row |= {f"touched_{c}": int((of[2]["channel"] == c).any()) for c in channels}
        row |= {f"touches_before_{c}": int((of[0]["channel"] == c).sum()) for c in sorted(past_t["channel"].unique())}
        row |= {"conversions_before": len(of[1]), "value_before": of[1]["value"].sum()}
        row["days_since_touch"] = (start - of[0]["event_time"].max()) / DAY
        row["days_since_conversion"] = (start - of[1]["event_time"].max()) / DAY
        rows.append(row | {"conversions_after": len(of[3]), "value_after": of[3]["value"].sum()})
    return pd.DataFrame(rows)


@pytest.mark.slow_on_spark
def test_the_table_is_that_of_a_loop_over_users_on_both_engines(engine: Any) -> None:
    touches, orders = big_log(500, seed=4)
    orders = orders.assign(value=orders["value"].round(2))
    engine.register("touch_log", touches)
    engine.register("orders", orders)
    found = exposures(
        "touch_log", "orders", period=PERIOD, outcome_window="3d", history="5d", value="value", engine=engine
    )
    expected = by_hand(touches, orders, 5 * DAY)
    pd.testing.assert_frame_equal(found.frame, expected, check_dtype=False, rtol=1e-12)
    assert [f"touched_{c}" for c in found.channels] == [c for c in expected if c.startswith("touched_")]
    assert found.before == tuple(c for c in expected if "before" in c or "since" in c)
    assert set(found.counts) == {c for c in found.before if c.startswith("touches_")} | {"conversions_before"}


def test_the_credit_is_of_the_same_touches_outcomes_and_users() -> None:
    touches, orders = big_log(400, seed=5)
    found = exposures(touches, orders, period=PERIOD, outcome_window="3d", value="value")
    users = set(found.frame["user_id"])
    during = touches["event_time"].between(*PERIOD, inclusive="left") & touches["user_id"].isin(users)
    after = orders["event_time"].between(PERIOD[1], PERIOD[1] + 3 * DAY, inclusive="left")
    kept = orders[after & orders["user_id"].isin(users)]
    again = credit(touches[during], kept, rules=RULES, window=None, value="value")
    assert found.credit.channels == again.channels
    np.testing.assert_allclose(found.credit.credit, again.credit, atol=1e-9)
    np.testing.assert_allclose(found.credit.value, again.value, rtol=1e-12)
    np.testing.assert_allclose(found.credit.credit.sum(axis=0), found.frame["conversions_after"].sum())
    np.testing.assert_allclose(found.credit.value.sum(axis=0), found.frame["value_after"].sum())


def test_every_bound_is_closed_at_its_start_and_open_at_its_end() -> None:
    start, end, last = 8.0, 10.0, 13.0
    us = US / DAY
    touches = touched((1, "old", 0), (1, "a", start), (2, "b", start - us), (2, "c", end - us), (2, "d", end))
    orders = converted((1, start - us), (1, start), (1, end - us), (1, end), (2, last - us), (2, last))
    frame = exposures(touches, orders, period=PERIOD, outcome_window="3d").frame.set_index("user_id")
    assert list(frame.filter(like="touched_")) == ["touched_a", "touched_c"]
    assert frame["touched_a"].tolist() == [1, 0]
    assert frame["touches_before_b"].tolist() == [0, 1]
    assert frame["conversions_before"].tolist() == [1, 0]
    assert frame["conversions_after"].tolist() == [1, 1]
    assert frame.loc[1, "days_since_conversion"] == pytest.approx(us)
    assert np.isnan(frame.loc[2, "days_since_conversion"])


def test_nothing_after_the_start_changes_what_is_known_before() -> None:
    touches, orders = big_log(400, seed=6)
    whole = exposures(touches, orders, period=PERIOD, outcome_window="3d")
    late = exposures(
        touches[touches["event_time"] < PERIOD[1]], orders[~orders["event_time"].between(*PERIOD)], period=PERIOD,
        outcome_window="3d",
    )  # fmt: skip
    pd.testing.assert_frame_equal(whole.frame, late.frame)
    before = ["user_id", *whole.before]
    cut = exposures(
        pd.concat([touches[touches["event_time"] < PERIOD[0]], touched((1, "new", 9))]),
        pd.concat([orders[orders["event_time"] < PERIOD[0]], converted((1, 11)).assign(value=1.0)]),
        period=PERIOD, outcome_window="3d",
    )  # fmt: skip
    pd.testing.assert_frame_equal(whole.frame[before], cut.frame[before])


def test_rows_in_any_order_and_the_callers_tables_as_they_were() -> None:
    touches, orders = big_log(300, seed=7)
    kept = touches.copy(deep=True), orders.copy(deep=True)
    found = exposures(touches, orders, period=PERIOD, outcome_window="3d", value="value")
    shuffled = [t.sample(frac=1, random_state=1) for t in (touches, orders)]
    again = exposures(*shuffled, period=PERIOD, outcome_window="3d", value="value")
    pd.testing.assert_frame_equal(found.frame, again.frame, check_exact=True)
    np.testing.assert_array_equal(found.credit.value, again.credit.value)
    pd.testing.assert_frame_equal(touches, kept[0])
    pd.testing.assert_frame_equal(orders, kept[1])


def test_users_of_a_table_are_the_units_with_its_columns() -> None:
    people = pd.DataFrame({"user_id": [3, 1, 9], "tier": pd.Categorical(["a", "b", None]), "age": [30, np.nan, 50]})
    touches, orders = touched((1, "x", 9), (2, "x", 9)), converted((1, 11), (2, 11))
    found = exposures(touches, orders, period=PERIOD, users=people, covariates=["tier", "age"])
    assert found.frame["user_id"].tolist() == [1, 3, 9]
    assert found.frame["tier"].fillna("-").tolist() == ["b", "a", "-"]
    assert found.frame["touched_x"].tolist() == [1, 0, 0]
    assert found.before[:2] == ("tier", "age")
    assert found.credit.n_conversions == 1  # user 2 is nobody here


def test_channels_can_be_chosen() -> None:
    touches = touched((1, "x", 1), (1, "x", 9), (2, "y", 9), (2, "x", 2))
    found = exposures(touches, converted((1, 11)), period=PERIOD, channels=["y"])
    assert found.channels == ("y",)
    assert "touched_x" not in found.frame
    assert found.credit.channels == ("x", "y", "(none)")


GOOD = {"touches": touched((1, "x", 1), (1, "x", 9)), "conversions": converted((1, 11)), "period": PERIOD}
USERS = pd.DataFrame({"user_id": [1, 1, None], "age": [1, 2, 3]}).astype({"user_id": "Int64"})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"period": PERIOD[::-1]}, TimeError, "expected an end after the start"),
        ({"period": "2025"}, TimeError, "expected its start and its end"),
        ({"period": ("soon", "later")}, TimeError, "the period's start is 'soon'"),
        ({"period": (None, PERIOD[1])}, TimeError, "the period's start is missing"),
        ({"outcome_window": "0d"}, TimeError, "outcome_window is '0d'; expected a length of time above zero"),
        ({"history": "0d"}, TimeError, "history is '0d'"),
        ({"conversions": converted((1, 9))}, TimeError, "the outcome window to .* has not been logged"),
        ({"touches": touched((1, "x", 1))}, EmptyTableError, "no user has a touch in the period"),
        ({"touches": touched((1, "x", 9))}, EmptyTableError, "no user has a touch or a conversion in the history"),
        ({"channels": ["X"]}, ColumnError, "channels: 'X' asked for, and the period has touches of 'x'"),
        ({"channels": "x"}, ColumnError, r"expected a list: \['x'\]"),
        ({"covariates": ["age"]}, ColumnError, "are columns of users="),
        ({"covariates": "age", "users": USERS}, ColumnError, r"expected a list of columns: \['age'\]"),
        ({"covariates": ["agee"], "users": USERS}, ColumnError, "users: missing column 'agee'.*Did you mean 'age'"),
        ({"users": USERS}, ColumnError, "1 rows have no 'user_id' and 1 repeat one"),
        ({"users": USERS.iloc[:0]}, EmptyTableError, "users: the table has 0 rows"),
        ({"users": pd.DataFrame({"user_id": ["1"]})}, ColumnError, "'user_id' is string in users and integer"),
        ({"users": USERS.iloc[:1].rename(columns={"age": "touched_x"}), "covariates": ["touched_x"]}, ColumnError,
         "the column 'touched_x' has a name that the result needs"),
        ({"rules": ["last"]}, CausalRecError, "rule is 'last'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {**GOOD, **options}
    with pytest.raises(error, match=message):
        exposures(given.pop("touches"), given.pop("conversions"), **given)
