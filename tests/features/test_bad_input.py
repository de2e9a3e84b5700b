"""Mistakes in features, tables and spines: a named error that says what to do, or a documented result."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError, EngineError, TimeError
from causalrec.features import Aggregation, FeatureSet, FeatureStore, parse_window, plan

DAY = pd.Timestamp("2025-05-01")
EVENTS = pd.DataFrame(
    {
        "user": [1, 1, 2],
        "shop": ["a", "b", None],
        "at": DAY,
        "day": pd.Series([DAY.date()] * 3),
        "spend": [1.5, 2.5, 4.0],
        "kind": ["buy", "view", "buy"],
    }
)
ASKED = pd.DataFrame({"user": [1, 2], "event_time": DAY + pd.Timedelta("1h")})


def a_set(*aggregations: Aggregation, **changes: Any) -> FeatureSet:
    given: dict[str, Any] = {"name": "s", "keys": ("user",), "source": "events", "time_column": "at"}
    return FeatureSet(**{**given, "aggregations": aggregations or (Aggregation("count", name="n"),), **changes})


def ask(engine: Engine, features: Any, spine: pd.DataFrame = ASKED, events: pd.DataFrame = EVENTS) -> pd.DataFrame:
    engine.register("events", events)
    return FeatureStore(engine).training_frame(spine, features)


def refused(case: str, kind: type[Exception], message: str, *given: Any, **named: Any) -> None:
    """All cases in one test: each engine is opened once."""
    try:
        ask(*given, **named)
    except kind as error:
        assert re.search(message, str(error)), (case, str(error))  # noqa: PT017
        return
    pytest.fail(f"{case}: not refused")


@pytest.mark.parametrize(
    "window",
    ["0d", "00h", "-3d", "3 days", "3D", "1.5d", "d", "", " 3d", "3d ", "3", 3, 0, "١d", "1e3s", "9" * 20 + "d"],
)
def test_a_window_that_is_none_is_refused_when_it_is_written(window: Any) -> None:
    for build in (parse_window, lambda w: Aggregation("count", window=w)):
        with pytest.raises(TimeError, match="window"):
            build(window)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"op": "median", "column": "spend"}, ConfigError, "op is 'median'; expected one of"),
        ({"op": "sums", "column": "spend"}, ConfigError, "Did you mean 'sum'"),
        ({"op": "sum"}, ColumnError, "'sum' needs a column"),
        ({"op": "count", "column": "spend"}, ColumnError, "'count' takes no column"),
    ],
)
def test_an_aggregation_that_means_nothing(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Aggregation(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregations": ()}, "at least one"),
        ({"keys": ()}, "at least one key"),
        ({"keys": "user"}, "keys is 'user'; expected a tuple"),
        ({"order_by": "at"}, "order_by is 'at'; expected a tuple"),
        ({"name": "../elsewhere"}, "names a directory"),
        ({"name": ""}, "names a directory"),
        ({"aggregations": (Aggregation("count"), Aggregation("count"))}, "appears twice"),
        ({"aggregations": (Aggregation("count", name="N"), Aggregation("recency", name="n"))}, "appears twice"),
    ],
)
def test_a_set_that_means_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_set(**{"aggregations": (Aggregation("count"),), **changes})


TEXT_TIMES = EVENTS.assign(at=EVENTS["at"].astype(str))
WRONG: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "column": (ColumnError, "'spent'.*Did you mean 'spend'", {"features": a_set(Aggregation("sum", "spent"))}),
    "key": (ColumnError, "'usr'.*Did you mean 'user'", {"features": a_set(keys=("usr",))}),
    "key of the spine": (ColumnError, "spine.*'shop'", {"features": a_set(keys=("user", "shop"))}),
    "key of the events": (ColumnError, "'events'.*'user'", {"events": EVENTS.drop(columns="user")}),
    "time column": (ColumnError, "'when'", {"features": a_set(time_column="when")}),
    "order": (ColumnError, "'step'", {"features": a_set(order_by=("step",))}),
    "table": (EngineError, "no table named 'event'.*events", {"features": a_set(source="event")}),
    "sum of text": (
        ColumnError,
        "sum needs numbers.*'kind' is string",
        {"features": a_set(Aggregation("sum", "kind"))},
    ),
    "mean of text": (ColumnError, "mean needs numbers", {"features": a_set(Aggregation("mean", "kind"))}),
    "std of text": (ColumnError, "std needs numbers", {"features": a_set(Aggregation("std", "kind"))}),
    "sum of times": (
        ColumnError,
        "sum needs numbers.*'at' is timestamp",
        {"features": a_set(Aggregation("sum", "at"))},
    ),
    "sum of days": (ColumnError, "sum needs numbers.*'day' is date", {"features": a_set(Aggregation("sum", "day"))}),
    "text as time": (TimeError, "'at' is string.*to_datetime", {"events": TEXT_TIMES}),
    "numbers as time": (TimeError, "'at' is integer", {"events": EVENTS.assign(at=[1, 2, 3])}),
    "text as asked time": (TimeError, "'event_time' is string", {"spine": ASKED.astype({"event_time": "str"})}),
    "number as asked time": (TimeError, "'event_time' is integer", {"spine": ASKED.assign(event_time=[1, 2])}),
    "no asked time": (ColumnError, "'event_time'", {"spine": ASKED.drop(columns="event_time")}),
    "asked time missing": (TimeError, "1 rows have no 'event_time'", {"spine": ASKED.assign(event_time=[DAY, None])}),
    "text as key": (
        ColumnError,
        "key 'user' is string in the spine and integer",
        {"spine": ASKED.astype({"user": "str"})},
    ),
    "float as key": (ColumnError, "key 'user' is float in the spine", {"spine": ASKED.astype({"user": "float"})}),
    "key is a boolean": (ColumnError, "key 'user' is boolean in the spine", {"spine": ASKED.astype({"user": "bool"})}),
    "name taken": (ColumnError, "'n' are taken", {"spine": ASKED.assign(n=1)}),
    "name taken in capitals": (ColumnError, "taken", {"spine": ASKED.assign(N=1)}),
    "name of a key": (ColumnError, "'user' are taken", {"features": a_set(Aggregation("count", name="user"))}),
    "name twice": (ColumnError, "'n' are taken", {"features": [a_set(), a_set(name="other")]}),
    "name twice in capitals": (
        ColumnError,
        "taken",
        {"features": [a_set(), a_set(Aggregation("count", name="N"), name="other")]},
    ),
}


def test_what_does_not_fit_the_tables_is_named(engine: Engine) -> None:
    for case, (kind, message, given) in WRONG.items():
        refused(case, kind, message, engine, **{"features": a_set(), **given})


CONDITIONS = {
    "no SQL": "spend >",
    "open bracket": "(spend > 1",
    "closing bracket": "spend > 1)",
    "two conditions glued": "spend > 1) OR (spend < 1",
    "unknown column": "spent > 1",
    "unknown function": "no_such_function(spend) > 1",
    "aggregate": "SUM(spend) > 1",
    "window function": "row_number() OVER (ORDER BY at) > 1",
    "other rows": "spend > LEAD(spend) OVER (ORDER BY at)",
    "subquery": "spend > (SELECT AVG(spend) FROM events)",
    "subquery of rows": "spend IN (SELECT spend FROM events)",
    "subquery that exists": "EXISTS (SELECT 1 FROM events)",
    "statements": "spend > 1; DROP TABLE events",
    "only a semicolon": "spend > 1;",
    "comment": "spend > 1) -- ",
    "comment alone": "-- nothing",
    "text": "kind",
    "spaces": "   ",
}


def test_a_condition_that_is_none_is_named(engine: Engine) -> None:
    for case, condition in CONDITIONS.items():
        features = a_set(Aggregation("count", where=condition, name="n"))
        refused(case, ConfigError, f"condition {re.escape(repr(condition))}", engine, features)


def test_a_comment_in_a_condition_ends_with_its_line(engine: Engine) -> None:
    assert ask(engine, a_set(Aggregation("count", where="spend > 2 -- the dear ones", name="n")))["n"].tolist() == [
        1,
        1,
    ]


def test_outcomes_that_mean_nothing_are_named(engine: Engine) -> None:
    engine.register("events", EVENTS)
    for op in ("first", "last", "recency", "std"):
        column = None if op == "recency" else "spend"
        with pytest.raises(CausalRecError, match=f"{op!r}.*an outcome needs a window"):
            FeatureStore(engine).outcome_frame(ASKED, a_set(Aggregation(op, column, "1d", name="y")))
    with pytest.raises(CausalRecError, match="an outcome needs a window"):
        FeatureStore(engine).outcome_frame(ASKED, a_set(Aggregation("count", name="y")))


def test_a_key_that_no_event_has_and_a_key_that_is_null_have_no_events(engine: Engine) -> None:
    spine = pd.DataFrame({"user": pd.array([1, 99, None], "Int64"), "event_time": DAY + pd.Timedelta("1h")})
    wanted = [Aggregation(op, "spend", name=op) for op in ("sum", "n_unique", "mean", "last", "std")]
    events = pd.concat([EVENTS.astype({"user": "Int64"}), EVENTS.assign(user=pd.array([None] * 3, "Int64"))])
    found = ask(engine, a_set(*wanted, Aggregation("count", name="count")), spine, events)
    assert found[["count", "sum", "n_unique"]].values.tolist() == [[2, 4.0, 2], [0, 0.0, 0], [0, 0.0, 0]]
    assert found[["mean", "last", "std"]].isna().all(axis=1).tolist() == [False, True, True]


def test_an_empty_table_and_an_empty_spine_are_no_mistakes(engine: Engine) -> None:
    wanted = a_set(Aggregation("count", name="n"), Aggregation("sum", "spend", "1d", name="s"), Aggregation("recency"))
    found = ask(engine, wanted, events=EVENTS.iloc[:0])
    assert found[["n", "s"]].values.tolist() == [[0, 0], [0, 0]]
    assert found["events_recency_all"].isna().all()
    none = ask(engine, wanted, spine=ASKED.iloc[:0])
    assert len(none) == 0
    assert list(none.columns) == ["user", "event_time", "n", "s", "events_recency_all"]


DERIVED = {
    "unknown column": ({"derived": {"d": "spent * 2"}}, "spent"),
    "no SQL": ({"derived": {"d": "spend *"}}, "'d'"),
    "aggregate": ({"derived": {"d": "SUM(spend)"}}, "'d'"),
    "other rows": ({"derived": {"d": "LEAD(spend) OVER (ORDER BY at)"}}, "'d'"),
    "subquery": ({"derived": {"d": "(SELECT MAX(spend) FROM events)"}}, "'d'"),
    "glued": ({"derived": {"d": "spend) + (spend"}}, "'d'"),
    "statements": ({"derived": {"d": "spend; SELECT 1"}}, "'d'"),
    "name of a column": ({"derived": {"spend": "spend * 2"}}, "'spend' is in the table"),
    "name of a column in capitals": ({"derived": {"SPEND": "spend * 2"}}, "is in the table"),
    "computed from nothing": ({"computed": {"c": "m / 2"}}, "'c'"),
    "computed from events": ({"computed": {"c": "spend / 2"}}, "'c'"),
    "computed no SQL": ({"computed": {"c": "n /"}}, "'c'"),
    "computed aggregate": ({"computed": {"c": "SUM(n)"}}, "'c'"),
    "computed from other rows": ({"computed": {"c": "LEAD(n) OVER (ORDER BY n)"}}, "'c'"),
    "computed by a subquery": ({"computed": {"c": "n + (SELECT COUNT(*) FROM events)"}}, "'c'"),
    "computed glued": ({"computed": {"c": "n) + (n"}}, "'c'"),
}


def test_derived_and_computed_that_are_none_are_named(engine: Engine) -> None:
    for case, (changes, message) in DERIVED.items():
        refused(case, ConfigError, message, engine, a_set(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"derived": {"d": ""}},
        {"derived": {"d": 5}},
        {"derived": {1: "spend"}},
        {"derived": "spend * 2"},
        {"computed": {"n": "n + 1"}},
        {"computed": {"N": "n + 1"}},
        {"computed": ("n + 1",)},
    ],
)
def test_derived_and_computed_are_checked_when_they_are_written(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        a_set(**changes)


def test_a_derived_column_is_a_column(engine: Engine) -> None:
    """It may be a key, the time, an order or a condition, but of the wrong type it is refused as any other."""
    double = {"buyer": "CASE WHEN spend > 3 THEN 2 ELSE 1 END", "later": "day", "double": "spend * 2"}
    spine = ASKED.rename(columns={"user": "buyer"})
    features = a_set(
        Aggregation("last", "double", where="double > 3", name="last"),
        keys=("buyer",), time_column="later", order_by=("double",), derived=double,
    )  # fmt: skip
    assert ask(engine, features, spine)["last"].tolist() == [5.0, 8.0]
    with pytest.raises(ColumnError, match="sum needs numbers"):
        ask(engine, a_set(Aggregation("sum", "label"), derived={"label": "CONCAT(kind, '!')"}))
    with pytest.raises(TimeError, match="'later' is string"):
        ask(engine, a_set(time_column="later", derived={"later": "CONCAT(kind, '!')"}))


NO_DECLARATIONS = ["n", None, 5, Aggregation("count"), [Aggregation("count")], {"name": "s"}]


def test_what_is_no_declaration_or_no_table_is_named(engine: Engine) -> None:
    for features in NO_DECLARATIONS:
        refused(repr(features), CausalRecError, "FeatureSet", engine, features)
    for spine in ({"user": [1]}, [1], ASKED["user"], None, 5):
        refused(repr(spine), CausalRecError, "expected a pandas", engine, a_set(), spine)


@pytest.mark.parametrize("name", ["__t", "__k0", "__row", "__v0"])
def test_names_of_our_own_do_not_meet_those_of_the_user(engine: Engine, name: str) -> None:
    """As a feature such a name is refused or right, never something else; as a column it is like any other."""
    total = Aggregation("sum", "spend", name=name)
    try:
        assert ask(engine, a_set(total))[name].tolist() == [4.0, 4.0]
    except CausalRecError as error:
        assert repr(name) in str(error)  # noqa: PT017
    events, spine = (t.rename(columns={"user": name}) for t in (EVENTS, ASKED))
    assert ask(engine, a_set(keys=(name,)), spine, events)["n"].tolist() == [2, 1]
    events = EVENTS.rename(columns={"spend": name})
    last = Aggregation("last", name, where=f"{name} > 2", name="last")
    assert ask(engine, a_set(last, order_by=(name,)), events=events)["last"].tolist() == [2.5, 4.0]


def test_columns_of_the_spine_that_are_not_needed_may_have_any_name_and_type(engine: Engine) -> None:
    spine = ASKED.assign(**{"other": [object(), object()]}).rename(columns={"other": 0})
    wide = ask(engine, a_set(), spine)
    assert list(wide.columns) == ["user", "event_time", 0, "n"]
    assert wide["n"].tolist() == [2, 1]


@pytest.mark.slow_on_spark
@pytest.mark.parametrize("shape", [0, 10**9], ids=["windowed", "joined"])
def test_sums_of_whole_numbers_beyond_64_bits(engine: Engine, monkeypatch: pytest.MonkeyPatch, shape: int) -> None:
    """What fits is exact whatever is added on the way; a mean is a float anyway; what does not fit is named."""
    monkeypatch.setattr(plan, "WINDOW_COST", shape)
    big = EVENTS.assign(user=1, at=DAY + pd.to_timedelta([0, 1, 2], unit="D"), big=[2**62, 2**62, -(2**62) - 1])
    asked = pd.DataFrame({"user": 1, "event_time": DAY + pd.to_timedelta([1, 3, 4], unit="D")})
    wanted = [Aggregation(op, "big", w, name=f"{op} {w}") for op in ("sum", "mean") for w in (None, "36h")]
    found = ask(engine, a_set(*wanted), asked, big)
    assert found["sum None"].tolist() == [2**62, 2**62 - 1, 2**62 - 1]
    assert found["sum 36h"].tolist() == [2**62, -(2**62) - 1, 0]
    assert found["mean None"].tolist() == [2.0**62, (2**62 - 1) / 3, (2**62 - 1) / 3]
    assert found["mean 36h"].tolist()[:2] == [2.0**62, -(2.0**62)]
    asked = asked.assign(event_time=DAY + pd.Timedelta("2D"))
    with pytest.raises(EngineError, match=r"'s'.*'total' is a sum.*CAST\(big AS DOUBLE\)"):
        ask(engine, a_set(Aggregation("sum", "big", name="total")), asked, big)
    remedy = [Aggregation("sum", "wide", name="total"), Aggregation("mean", "big", name="mean")]
    found = ask(engine, a_set(*remedy, derived={"wide": "CAST(big AS DOUBLE)"}), asked, big)
    assert found[["total", "mean"]].values.tolist() == [[2.0**63, 2.0**62]] * 3


def test_unsigned_numbers_beyond_63_bits(engine: Engine) -> None:
    """Numbers like others where the engine has such a type; where it has none, the column is named."""
    events = EVENTS.assign(hash=pd.array([2**64 - 1, 1, None], "UInt64"))
    wanted = [Aggregation(op, "hash", name=op) for op in ("max", "last", "mean", "std", "n_unique")]
    if engine.name == "spark":
        with pytest.raises(EngineError, match=r"'hash'.*uint64.*Convert it"):
            ask(engine, a_set(*wanted), events=events)
        return
    found = ask(engine, a_set(*wanted, order_by=("hash",)), events=events).astype(object)
    assert found.loc[0, ["max", "last", "mean", "n_unique"]].tolist() == [2**64 - 1, 2**64 - 1, 2.0**63, 2]
    assert found.loc[0, "std"] == pytest.approx(2**63.5, rel=1e-9)
    with pytest.raises(EngineError, match="'total' is a sum"):
        ask(engine, a_set(Aggregation("sum", "hash", name="total")), events=events)


def test_no_digit_of_a_number_is_lost_beside_nulls(engine: Engine) -> None:
    """Long ids stay themselves where another row has none, and small numbers are floats there as pandas has them."""
    long = EVENTS.assign(id=[2**53 + 1, 2**53 + 1, 5], small=[1, 2, 3])
    nobody = pd.concat([ASKED, ASKED.assign(user=99)], ignore_index=True)
    found = ask(engine, a_set(Aggregation("max", "id", name="id"), Aggregation("max", "small", name="s")), nobody, long)
    assert [None if pd.isna(v) else v for v in found["id"]] == [2**53 + 1, 5, None, None]
    assert (str(found["id"].dtype), str(found["s"].dtype)) == ("Int64", "float64")
