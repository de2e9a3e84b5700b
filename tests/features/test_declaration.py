"""Declarations in YAML: what they mean, and what a person who mistypes is told."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalrec.datasets import simulate_marketplace
from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError, DatasetError, TimeError
from causalrec.features import (
    Aggregation,
    AttributeFeatures,
    CalendarFeatures,
    FeatureDeclarations,
    FeatureSet,
    FeatureStore,
    Source,
    read_features,
)

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "features" / "marketplace.yaml"
TEXT = """
sources:
  events:
    path: logs/events.csv
    time_column: at
    order_by: [step]
    derived: {amount: price * n}
  items: {path: [items_a.csv, items_b.csv]}
  orders: {table: shop.orders}

features:
  customer:
    keys: user
    source: events
    aggregations:
      - {op: count}
      - {op: sum, column: amount, window: [3d, 90m, all], where: "kind = 'buy'", name: spend}
      - {op: max, column: price, window: [7d]}
      - {op: recency, name: since}
    derived: {double_price: price * 2}
    computed: {dear: spend_3d > 10}
  pair:
    keys: [user, item]
    source: orders
    aggregations: [{op: count, window: 1w, name: pairs}]
  item: {keys: item, source: items, attributes: category, tiers: {price: 3, stock: [1, 10]}, prefix: item_}
  when:
    calendar: {parts: [hour, is_holiday], holidays: [2025-12-25, "2025-12-26"], time_zone: Europe/Berlin}
"""
SETS = (
    FeatureSet(
        "customer",
        ("user",),
        "events",
        "at",
        (
            Aggregation("count"),
            Aggregation("sum", "amount", "3d", "kind = 'buy'", "spend_3d"),
            Aggregation("sum", "amount", "90m", "kind = 'buy'", "spend_90m"),
            Aggregation("sum", "amount", None, "kind = 'buy'", "spend_all"),
            Aggregation("max", "price", "7d"),
            Aggregation("recency", name="since"),
        ),
        ("step",),
        {"amount": "price * n", "double_price": "price * 2"},
        {"dear": "spend_3d > 10"},
    ),
    FeatureSet("pair", ("user", "item"), "orders", "event_time", (Aggregation("count", window="1w", name="pairs"),)),
    AttributeFeatures("item", ("item",), "items", ("category",), {"price": 3, "stock": (1, 10)}, "item_"),
    CalendarFeatures("when", ("hour", "is_holiday"), ("2025-12-25", "2025-12-26"), "Europe/Berlin"),
)


def read(directory: Path, text: str) -> FeatureDeclarations:
    file = directory / "features.yaml"
    file.write_text(text, encoding="utf-8")
    return read_features(file)


def test_every_kind_of_declaration(tmp_path: Path) -> None:
    declared = read(tmp_path, TEXT)
    assert declared.sets == SETS
    assert dict(declared.sources) == {
        "events": Source("events", (Path("logs/events.csv"),)),
        "items": Source("items", (Path("items_a.csv"), Path("items_b.csv"))),
        "orders": Source("orders", (), "shop.orders"),
    }


@pytest.mark.parametrize("declared", SETS, ids=lambda each: each.name)
def test_plain_values_and_back(declared: Any) -> None:
    values = json.loads(json.dumps(declared.to_dict()))
    again = type(declared).from_dict(values)
    assert again == declared
    assert again.spec_hash == declared.spec_hash


def test_choosing(tmp_path: Path) -> None:
    declared = read(tmp_path, TEXT)
    assert declared["pair"] == SETS[1]
    assert declared.chosen() == tuple(declared) == SETS
    assert declared.chosen(["when", "pair", "when"]) == (SETS[3], SETS[1])
    with pytest.raises(ConfigError, match=r"no features named 'custmer' are declared. Did you mean 'customer'"):
        declared.chosen(["custmer"])


def test_a_mapping_that_is_read_only(tmp_path: Path) -> None:
    declared = read(tmp_path, TEXT)
    with pytest.raises(TypeError):
        declared.sources["more"] = Source("more")  # type: ignore[index]


def test_from_files_to_a_training_frame(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the paths of a declaration start
    (tmp_path / "logs").mkdir()
    pd.DataFrame(
        {
            "user": [1, 1, 2], "item": ["a", "b", "a"], "at": ["2025-12-20 10:00:00"] * 2 + ["2025-12-24 10:00:00"],
            "kind": ["buy", "buy", "see"], "price": [2.5, 4.0, 1.0], "n": [2, 3, 1], "step": [1, 2, 1],
        }
    ).to_csv(tmp_path / "logs" / "events.csv", index=False)  # fmt: skip
    items = pd.DataFrame({"item": ["a", "b"], "category": ["x", "y"], "price": [1, 2], "stock": [5, 20]})
    for name, part in (("items_a", items.iloc[:1]), ("items_b", items.iloc[1:])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    declared = read(tmp_path, TEXT)
    names = ["customer", "item", "when"]
    declared.register(engine, names)
    asked = pd.DataFrame(
        {"user": [1, 2], "item": ["b", "z"], "event_time": pd.to_datetime(["2025-12-21 00:00", "2025-12-24 23:30"])}
    )
    found = FeatureStore(engine).training_frame(asked, declared.chosen(names))
    assert found["spend_3d"].tolist() == [17.0, 0.0]
    assert found["events_count_all"].tolist() == [2, 1]
    assert found["dear"].tolist() == [True, False]
    assert [None if pd.isna(v) else v for v in found["item_category"]] == ["y", None]
    assert found["item_stock_tier"].iloc[0] == 3
    assert found["hour"].tolist() == [1, 0]
    assert found["is_holiday"].tolist() == [0, 1]  # half past midnight in Berlin


def test_a_table_of_the_engine(engine: Engine, tmp_path: Path) -> None:
    engine.register("kept", pd.DataFrame({"user": [1], "at": [pd.Timestamp("2025-01-01")]}))
    text = """
    sources: {%s: {time_column: at%s}}
    features: {seen: {keys: user, source: %s, aggregations: [{op: count, name: n}]}}
    """
    asked = pd.DataFrame({"user": [1], "event_time": [pd.Timestamp("2025-01-02")]})
    for source, table in (("other", ", table: kept"), ("kept", ""), ("kept", ", table: kept")):
        declared = read(tmp_path, text % (source, table, source))
        declared.register(engine)
        assert FeatureStore(engine).training_frame(asked, declared.sets)["n"].tolist() == [1]


@pytest.mark.spark
def test_a_table_of_sparks_catalogue(spark_session: Any, tmp_path: Path) -> None:
    from causalrec.engines import SparkEngine

    spark_session.sql("CREATE DATABASE IF NOT EXISTS shop")
    spark_session.sql(
        "CREATE TABLE IF NOT EXISTS shop.orders USING parquet AS SELECT 1 AS user, 2 AS item, "
        "TIMESTAMP_NTZ '2025-01-01' AS event_time"
    )
    try:
        with SparkEngine(session=spark_session) as engine:
            declared = read(tmp_path, TEXT)
            declared.register(engine, ["pair"])
            asked = pd.DataFrame({"user": [1], "item": [2], "event_time": [pd.Timestamp("2025-01-02")]}).astype(
                {"user": "int32", "item": "int32"}
            )
            assert FeatureStore(engine).training_frame(asked, declared["pair"])["pairs"].tolist() == [1]
    finally:
        spark_session.sql("DROP TABLE shop.orders")
        spark_session.sql("DROP DATABASE shop")


def test_only_what_is_chosen_must_be_there(tmp_path: Path) -> None:
    declared = read(tmp_path, TEXT)
    with LocalEngine() as engine:
        declared.register(engine, ["when"])
        with pytest.raises(DatasetError, match=r"events\.csv"):
            declared.register(engine)


def test_a_source_without_a_place(tmp_path: Path) -> None:
    declared = read(
        tmp_path, "{sources: {log: {}}, features: {a: {keys: u, source: log, aggregations: [{op: count}]}}}"
    )
    with LocalEngine() as engine, pytest.raises(ConfigError, match=r"'log' has no path.*Give its path"):
        declared.register(engine)


SET = "keys: u, source: e, aggregations: [{op: count}]"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", ConfigError, "is empty; expected a mapping of sections such as `sources:`"),
        ("- 1", ConfigError, "holds a list"),
        ("a: [", ConfigError, r"cannot be read as YAML.*line"),
        ("sources: {}", ConfigError, "'features' is missing"),
        ("features: {}", ConfigError, "'features'.*at least 1"),
        ("source: {}", ConfigError, "unknown key 'source'. Did you mean 'sources'"),
        ("{sources: {e: {pth: x}}, features: {a: {%s}}}", ConfigError, "'sources.e.pth'. Did you mean 'path'"),
        ("{sources: {e: {path: x, table: y}}, features: {a: {%s}}}", ConfigError, "path and table are both given"),
        ("{sources: {evnts: {}}, features: {a: {keys: u, source: events, aggregations: [{op: count}]}}}",
         ConfigError, "features.a: there is no source 'events'. Did you mean 'evnts'"),
        ("{features: {a: {%s}}}", ConfigError, "there is no source 'e'. It takes none"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e, agregations: []}}}", ConfigError,
         "'features.a.agregations'. Did you mean 'aggregations'"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e}}}", ConfigError, "expected one of aggregations.*none"),
        ("{sources: {e: {}}, features: {a: {%s, calendar: {}}}}", ConfigError, "found 'aggregations', 'calendar'"),
        ("{sources: {e: {}}, features: {a: {%s, prefix: x}}}", ConfigError, "'prefix' has no place here.*'computed'"),
        ("features: {a: {calendar: {}, keys: u}}", ConfigError, "'keys' has no place here"),
        ("features: {a: {calendar: }}", ConfigError, "calendar is empty"),
        ("features: {a: {calendar: {part: hour}}}", ConfigError, "'features.a.calendar.part'. Did you mean 'parts'"),
        ("features: {a: {calendar: {parts: hours}}}", ConfigError, "features.a: .*'hours' is unknown.*'hour'"),
        ("features: {a: {calendar: {holidays: [1.5]}}}", TimeError, "features.a: .*1.5 is no date"),
        ("{sources: {e: {}}, features: {a: {aggregations: [{op: count}]}}}", ConfigError, "keys and source are needed"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e, aggregations: [{op: cont}]}}}", ConfigError,
         "features.a: op is 'cont'.*Did you mean 'count'"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e, aggregations: [{op: sum}]}}}", ColumnError,
         "features.a: op 'sum' needs a column"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e, aggregations: [{op: count, window: 0d}]}}}", TimeError,
         "features.a: window is '0d'"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e, aggregations: [{op: count, window: 3}]}}}", ConfigError,
         r"features.a.aggregations.0.window.*found 3"),
        ("{sources: {e: {}}, features: {a: {keys: u, source: e, tiers: {price: low}}}}", ConfigError, "is 'low'"),
        ("{sources: {e: {}}, features: {a/b: {%s}}}", ConfigError, "it names a directory"),
        ("{sources: {e: {}}, features: {a: {%s}, a: {%s}}}", ConfigError, "the key 'a' is given twice"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, kind: type[CausalRecError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        read(tmp_path, text.replace("%s", SET))
    assert "features.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml does not exist; expected a YAML file"):
        read_features(tmp_path / "nope.yaml")


def test_the_shipped_example_over_the_marketplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    declared = read_features("marketplace")
    assert declared == read_features(SHIPPED)
    with pytest.raises(ConfigError, match=r"marketplac does not exist.*Those at hand: .*marketplace"):
        read_features("marketplac")
    market, _ = simulate_marketplace(n_users=60, random_state=2)
    with LocalEngine(threads=1) as engine:
        engine.register("events", market.events)
        engine.register("items", market.items)
        asked = market.events[["user_id", "item_id", "event_time"]].tail(50)
        found = FeatureStore(engine).training_frame(asked, declared.sets)
    assert list(found.columns) == [*asked.columns, *(n for each in declared for n in each.feature_names)]
    assert found["impressions_30d"].max() > 0
    assert found["category"].notna().all()
    assert set(found["price_tier"]) <= {1, 2, 3}
    assert found["is_holiday"].isin([0, 1]).all()
    assert datetime.date.fromisoformat(declared["when"].to_dict()["holidays"][0]).year == 2025
