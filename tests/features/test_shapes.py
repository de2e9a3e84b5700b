"""Every shape that a query can take gives the same as the loop, whatever the order of rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import ColumnError, ConfigError
from causalrec.features import Aggregation, FeatureSet, FeatureStore, frames, plan

from . import test_features as loop

START = pd.Timestamp("2025-03-01")
ALL_JOINED, BOTH, ALL_WINDOWED = 1e9, 2.0, 0.0


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[plan.Plan]:
    """The plans that are made from here on."""
    made: list[plan.Plan] = []

    def noted(*args: Any, **options: Any) -> plan.Plan:
        made.append(plan.make_plan(*args, **options))
        return made[-1]

    monkeypatch.setattr(frames, "make_plan", noted)
    return made


def midnights() -> pd.DataFrame:
    asked = [
        (user, shop, START + pd.Timedelta(d, "D")) for user in ("a", "b", None) for shop in (1, 2) for d in range(5)
    ]
    spine = pd.DataFrame(asked, columns=["user", "shop", "event_time"]).astype({"user": "str"})
    return spine.astype({"event_time": "datetime64[us]"})


@pytest.mark.slow_on_spark
@pytest.mark.parametrize("cost", [ALL_JOINED, BOTH, ALL_WINDOWED])
def test_each_shape_equals_the_loop(
    engine: Engine, cost: float, plans: list[plan.Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", cost)
    log, spine = loop.big_tables(3)
    few_of_b = log[(log["user"] != "b") | (log["shop"] == 2)].reset_index(drop=True)
    features = loop.every_feature(("user", "shop"), ("1d", None))
    found = loop.compute(engine, few_of_b, spine, features)
    loop.compare(found, loop.oracle(few_of_b, spine, features), scale=1e4)
    outcomes = loop.compute(engine, few_of_b, spine, loop.OUTCOMES, ahead=True)
    loop.compare(outcomes, loop.oracle(few_of_b, spine, loop.OUTCOMES, ahead=True))
    shapes = {ALL_JOINED: (True, False), BOTH: (True, True), ALL_WINDOWED: (False, True)}
    assert (plans[0].joined, plans[0].windowed) == shapes[cost]
    assert plans[0].tied


@pytest.mark.slow_on_spark
def test_a_grid_of_midnights_equals_the_loop(
    engine: Engine, plans: list[plan.Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", ALL_WINDOWED)
    log, _ = loop.big_tables(4)
    spine = midnights()
    for windows in (("1d", "2d"), ("1d", "5h", None)):
        features = loop.every_feature(("user", "shop"), windows)
        found = loop.compute(engine, log, spine, features)
        loop.compare(found, loop.oracle(log, spine, features), scale=1e4)
        assert plans[-1].daily
    ops = ("count", "sum", "mean", "min", "max", "n_unique")
    ahead = tuple(Aggregation(op, None if op == "count" else "x", w) for op in ops for w in ("1d", "2d"))
    outcomes = FeatureSet("ahead", ("user",), "events", "at", ahead)
    found = loop.compute(engine, log, spine, outcomes, ahead=True)
    loop.compare(found, loop.oracle(log, spine, outcomes, ahead=True), scale=1e4)
    assert plans[-1].daily


@pytest.mark.parametrize("cost", [ALL_JOINED, BOTH, ALL_WINDOWED])
@pytest.mark.parametrize("daily", [False, True])
def test_the_order_of_rows_changes_no_bit(cost: float, daily: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", cost)
    rng = np.random.default_rng(5)
    log, spine = loop.big_tables(5)
    log["x"] *= np.exp(rng.normal(0, 12, len(log)))
    features = loop.every_feature(("user",), ("1d", "2d", None))
    if cost != ALL_JOINED:  # a moving deviation is right to rounding only
        kept = tuple(a for a in features.aggregations if a.op != "std")
        features = FeatureSet("all", ("user",), "events", "at", kept, order_by=("order",))
    spine = midnights() if daily else spine
    found = []
    for seed, threads in ((0, 1), (1, 2), (2, 2)):
        with LocalEngine(threads=threads) as engine:
            shuffled = log.sample(frac=1, random_state=seed)
            found.append(loop.compute(engine, shuffled, spine, features))
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], check_exact=True)


@pytest.mark.parametrize("cost", [ALL_JOINED, ALL_WINDOWED])
def test_sums_lose_nothing_beside_large_values(engine: Engine, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", cost)
    at = START + pd.to_timedelta(np.arange(6), unit="D")
    values = [1e12, 0.1, -1e12, 1e-3, 3e-3, 7.0]
    engine.register("events", pd.DataFrame({"user": 1, "at": at, "v": values}))
    features = loop.a_set(Aggregation("sum", "v", name="all"), Aggregation("mean", "v", "3d", name="late"))
    wide = FeatureStore(engine).training_frame(loop.ask(*at), features)
    assert wide["all"].tolist() == [math.fsum(values[:i]) for i in range(6)]
    assert wide["late"].iloc[-1] == pytest.approx((-1e12 + 0.004) / 3, rel=1e-15)
    engine.register("events", pd.DataFrame({"user": [1, 1, 2], "at": START, "v": [1e-300, 2e-300, 1e149]}))
    assert FeatureStore(engine).training_frame(loop.ask(at[1]), features)["all"].tolist() == [3e-300]


@pytest.mark.parametrize("cost", [ALL_JOINED, ALL_WINDOWED])
def test_what_is_no_number_stays_in_its_window(engine: Engine, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", cost)
    at = [START + pd.Timedelta(d, "D") for d in range(5)]
    v = pa.array([1.0, np.inf, 2.0, np.nan, 4.0])
    engine.register("events", pa.table({"user": [1] * 5, "at": pa.array(at, pa.timestamp("us")), "v": v}))
    ops = ("sum", "mean", "std", "max")
    features = loop.a_set(*(Aggregation(op, "v", "1d", name=op) for op in ops), Aggregation("sum", "v", name="all"))
    spine = loop.ask(*(t + pd.Timedelta("1h") for t in at))
    wide = FeatureStore(engine).training_frame(spine, features)
    for op in ("sum", "mean", "max"):
        np.testing.assert_array_equal(wide[op].to_numpy(float), [1, np.inf, 2, np.nan, 4])
    assert wide["std"].isna().all()
    np.testing.assert_array_equal(wide["all"].to_numpy(float), [1, np.inf, np.inf, np.nan, np.nan])


@pytest.mark.parametrize("cost", [ALL_JOINED, ALL_WINDOWED])
@pytest.mark.parametrize("mean", [1e8, 1e12])
def test_deviations_do_not_drown_in_a_large_mean(
    engine: Engine, cost: float, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "WINDOW_COST", cost)
    steps = np.arange(300) % 3
    at = START + pd.to_timedelta(np.arange(300), unit="s")
    engine.register("events", pd.DataFrame({"user": 1, "at": at, "v": mean + steps}))
    features = loop.a_set(Aggregation("std", "v", name="std"))
    wide = FeatureStore(engine).training_frame(loop.ask(START + pd.Timedelta("1h")), features)
    assert wide["std"].iloc[0] == pytest.approx(np.std(steps, ddof=1), rel=1e-12)


SHOPPING = pd.DataFrame(
    {"user": [1, 1, 2], "at": START, "price": [2.0, 3.0, 5.0], "n": [1, 2, 4], "kind": ["view", "click", "view"]}
)
DERIVED = FeatureSet(
    "shopping", ("user",), "events", "at",
    (
        Aggregation("sum", "amount", name="spent"),
        Aggregation("count", where="amount > 5 -- dear", name="dear"),
        Aggregation("last", "kind", name="last"),
    ),
    order_by=("amount",),
    derived={"amount": "price * n"},
    computed={"share": "dear / NULLIF(spent, 0)", "twice": "2 * dear"},
)  # fmt: skip


def test_derived_columns_and_computed_features(engine: Engine) -> None:
    engine.register("events", SHOPPING)
    spine = pd.DataFrame({"user": [1, 2, 3], "event_time": START + pd.Timedelta("1h")})
    wide = FeatureStore(engine).training_frame(spine, DERIVED)
    assert list(wide.columns[2:]) == ["spent", "dear", "last", "share", "twice"]
    assert wide["spent"].tolist() == [8, 20, 0]
    assert wide["dear"].tolist() == [1, 1, 0]
    assert wide["last"].tolist()[:2] == ["click", "view"]
    np.testing.assert_allclose(wide["share"].to_numpy(float), [1 / 8, 1 / 20, np.nan])
    assert wide["twice"].tolist() == [2, 2, 0]


ODD_SQL = {
    "an unknown column": ({"derived": {"amount": "cost * n"}}, "derived column 'amount' is not understood"),
    "a name that is taken": ({"derived": {"Price": "n"}}, "'price' is in the table already"),
    "an aggregate": ({"derived": {"amount": "SUM(n)"}}, "derived column 'amount' is not understood"),
    "brackets": ({"derived": {"amount": "n) + (n"}}, "derived column 'amount' is not understood"),
    "an unknown feature": ({"computed": {"share": "deer / 2"}}, "computed feature 'share' is not understood"),
}


@pytest.mark.parametrize("case", ODD_SQL)
def test_sql_that_is_none_is_named(engine: Engine, case: str) -> None:
    change, message = ODD_SQL[case]
    engine.register("events", SHOPPING)
    features = FeatureSet.from_dict({**DERIVED.to_dict(), **change})
    with pytest.raises(ConfigError, match=message):
        FeatureStore(engine).training_frame(loop.ask(START), features)


def test_a_least_value_of_lists_is_refused() -> None:
    with LocalEngine() as engine:
        engine.register("events", pa.table({"user": [1], "at": pa.array([START], pa.timestamp("us")), "v": [[1, 2]]}))
        with pytest.raises(ColumnError, match="min needs numbers, text or times"):
            FeatureStore(engine).training_frame(loop.ask(START), loop.a_set(Aggregation("min", "v")))


COUNT = FeatureSet("n", ("user",), "events", "at", (Aggregation("count", name="n"),))


def test_a_frame_comes_back_as_its_own_kind(engine: Engine) -> None:
    engine.register("events", SHOPPING)
    spine = pd.DataFrame({"x": ["p", "q"], "user": [2, 1], "event_time": START + pd.Timedelta("1h")})
    spine["event_time"] = spine["event_time"].astype("datetime64[us]")
    store = FeatureStore(engine)
    polars = store.training_frame(pl.from_pandas(spine), COUNT)
    assert isinstance(polars, pl.DataFrame)
    assert polars.select("x", "n").rows() == [("p", 1), ("q", 2)]
    lazy = store.training_frame(pl.from_pandas(spine).lazy(), COUNT)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(polars)
    arrow = store.training_frame(pa.Table.from_pandas(spine), COUNT)
    assert isinstance(arrow, pa.Table)
    assert arrow.column("n").to_pylist() == [1, 2]
    engine.register("asked", spine)
    own = store.training_frame("asked", COUNT)
    frame = own if isinstance(own, pd.DataFrame) else own.toArrow().to_pandas()
    assert sorted(zip(frame["x"], frame["n"], strict=True)) == [("p", 1), ("q", 2)]


@pytest.mark.spark
def test_a_spark_frame_stays_one(spark_session: Any) -> None:
    from causalrec.engines import SparkEngine

    spine = pa.table(
        {"user": [2, 1, 9, None], "event_time": pa.array([START + pd.Timedelta("1h")] * 4, pa.timestamp("us"))}
    )
    with SparkEngine(session=spark_session) as engine:
        engine.register("events", SHOPPING)
        wide = FeatureStore(engine).training_frame(spark_session.createDataFrame(spine), COUNT)
        assert type(wide).__module__.startswith("pyspark")
        found = {row["user"]: row["n"] for row in wide.collect()}
    assert found == {2: 1, 1: 2, 9: 0, None: 0}


def test_one_key_with_most_events_is_windowed_and_the_others_joined(plans: list[plan.Plan]) -> None:
    rng = np.random.default_rng(6)
    user = np.concatenate([np.zeros(5000, int), rng.integers(1, 500, 5000)])
    log = pd.DataFrame({"user": user, "at": START + pd.to_timedelta(rng.integers(0, 10**6, len(user)), unit="s")})
    asked = log.sample(2000, random_state=0).rename(columns={"at": "event_time"}).reset_index(drop=True)
    with LocalEngine() as engine:
        engine.register("events", log)
        wide = FeatureStore(engine).training_frame(asked, COUNT)
    assert (plans[0].joined, plans[0].windowed) == (True, True)
    times = {u: np.sort(t["at"].to_numpy()) for u, t in log.groupby("user")}
    expected = [np.searchsorted(times[u], np.datetime64(t)) for u, t in asked.itertuples(index=False)]
    assert wide["n"].tolist() == expected


@pytest.mark.parametrize("odd", ["user", None, Aggregation("count"), {"user": 1}])
def test_what_is_no_declaration_or_no_table_is_named(odd: Any) -> None:
    with LocalEngine() as engine:
        engine.register("events", SHOPPING)
        with pytest.raises(ConfigError, match="as features; expected FeatureSet"):
            FeatureStore(engine).training_frame(loop.ask(START), odd)
        with pytest.raises(ColumnError, match="spine: found list; expected a pandas"):
            FeatureStore(engine).training_frame([odd], COUNT)


def test_hundreds_of_sums_of_floats() -> None:
    """Planners take long, or give up, over subqueries that are nested once for each value."""
    rng = np.random.default_rng(0)
    at = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 24, 200), "h")
    events = pd.DataFrame({"user": 1, "at": at, "size": rng.random(200), "x": rng.normal(size=200)})
    sums = tuple(Aggregation("sum", "x", where=f"size < {i / 400}", name=f"x{i}") for i in range(400))
    with LocalEngine() as engine:
        engine.register("events", events)
        features = FeatureSet("many", ("user",), "events", "at", sums)
        asked = pd.DataFrame({"user": [1], "event_time": [pd.Timestamp("2025-01-02")]})
        row = FeatureStore(engine).training_frame(asked, features).iloc[0]
    expected = [math.fsum(events.loc[events["size"] < i / 400, "x"]) for i in range(400)]
    assert [row[f"x{i}"] for i in range(400)] == pytest.approx(expected, rel=1e-12, abs=1e-12)
