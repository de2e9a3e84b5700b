"""Columns of an item table by key, and tiers against a loop, on every engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import ColumnError, ConfigError, EngineError
from causalrec.features.attributes import AttributeFeatures, attributes_relation, check_attributes

ITEMS = pd.DataFrame(
    {
        "item": ["a", "b", "ü 😀", "o'k", None],
        "shop": [1, 1, 2, 2, 1],
        "category": ["toys", None, "Bücher", "x,y", "nobody's"],
        "price": [0.1, 10.0, np.nan, 50.0, 7.0],
        "stock": [3, 1, 2, 3, 9],
    }
)
BASE = AttributeFeatures("item", ("item",), "items", ("category", "price"))


def compute(engine: Engine, features: AttributeFeatures, items: pd.DataFrame, asked: list[Any]) -> pd.DataFrame:
    """One row per asked key, in order."""
    rows = [key if isinstance(key, tuple) else (key,) for key in asked]
    table = pd.DataFrame(rows, columns=[f"__k{i}" for i in range(len(features.keys))]).assign(__t=range(len(rows)))
    engine.register("items", items)
    engine.register("asked", table)
    check_attributes(features, engine)
    found = engine.collect(attributes_relation(features, "asked", engine)).sort_values("__t", ignore_index=True)
    assert list(found.columns) == [*table.columns, *features.feature_names]
    assert list(found["__t"]) == list(range(len(rows)))
    return found


def listed(values: pd.Series) -> list[Any]:
    return [None if pd.isna(v) else v for v in values]


def tier(value: float | None, values: list[float | None], tiers: int | tuple[float, ...]) -> int | None:
    """The definition, as a loop."""
    if value is None or math.isnan(value):
        return None
    if isinstance(tiers, tuple):
        return 1 + sum(value >= point for point in tiers)
    known = [v for v in values if v is not None and not math.isnan(v)]
    return 1 + tiers * sum(v < value for v in known) // len(known)


def test_columns_by_key(engine: Engine) -> None:
    found = compute(engine, BASE, ITEMS, ["b", "a", "ü 😀", "o'k", "z", "a"])
    assert listed(found["category"]) == [None, "toys", "Bücher", "x,y", None, "toys"]
    assert listed(found["price"]) == [10.0, 0.1, None, 50.0, None, 0.1]


def test_several_keys(engine: Engine) -> None:
    features = AttributeFeatures("item", ("shop", "item"), "items", ("category",), {"stock": 2}, prefix="item_")
    found = compute(engine, features, ITEMS, [(1, "a"), (2, "a"), (2, "o'k")])
    assert listed(found["item_category"]) == ["toys", None, "x,y"]
    assert listed(found["item_stock_tier"]) == [2, None, 2]


@pytest.mark.parametrize("tiers", [2, 3, 10, (10,), (0.1, 10, 50), (-1e300, 1e-7)])
def test_tiers_are_what_the_loop_says(engine: Engine, tiers: int | tuple[float, ...]) -> None:
    rng = np.random.default_rng(3)
    prices = rng.choice([0.1, 0.30000000000000004, 10, 50, -2, 1e-7, np.nan], 41)
    items = pd.DataFrame({"item": [f"i{i}" for i in range(41)], "price": prices, "n": rng.integers(-60, 60, 41)})
    features = AttributeFeatures("item", ("item",), "items", tiers={"price": tiers, "n": tiers})
    found = compute(engine, features, items, list(items["item"]))
    for column in ("price", "n"):
        values = [float(v) for v in items[column]]
        assert listed(found[f"{column}_tier"]) == [tier(v, values, tiers) for v in values]


@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5, -3.0, 1e9])), min_size=1, max_size=30),
    tiers=st.integers(2, 40),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tiers(values: list[float | None], tiers: int) -> None:
    items = pd.DataFrame({"item": range(len(values)), "price": pd.array(values, dtype="Float64")})
    with LocalEngine(threads=1) as engine:
        features = AttributeFeatures("item", ("item",), "items", tiers={"price": tiers})
        found = compute(engine, features, items, list(items["item"]))
    assert listed(found["price_tier"]) == [tier(v, values, tiers) for v in values]


def test_tiers_of_even_numbers_are_of_even_size(engine: Engine) -> None:
    items = pd.DataFrame({"item": range(9), "price": [9, 8, 7, 6, 5, 4, 3, 2, 1]})
    found = compute(engine, AttributeFeatures("i", ("item",), "items", tiers={"price": 3}), items, list(range(9)))
    assert list(found["price_tier"]) == [3, 3, 3, 2, 2, 2, 1, 1, 1]


def test_a_table_of_no_rows_or_numbers(engine: Engine) -> None:
    items = pd.DataFrame({"item": ["a"], "price": [np.nan]})
    features = AttributeFeatures("item", ("item",), "items", ("price",), {"price": 3})
    assert listed(compute(engine, features, items, ["a", "b"])["price_tier"]) == [None, None]
    assert listed(compute(engine, features, items.iloc[:0], ["a"])["price_tier"]) == [None]


def test_the_order_of_rows_does_not_matter(engine: Engine) -> None:
    features = AttributeFeatures("item", ("item",), "items", ("category",), {"price": 2})
    keys = ["a", "b", "o'k", "ü 😀"]
    once = compute(engine, features, ITEMS, keys)
    pd.testing.assert_frame_equal(compute(engine, features, ITEMS.iloc[::-1], keys), once)


def test_a_key_with_several_rows_is_refused(engine: Engine) -> None:
    items = pd.concat([ITEMS, ITEMS.iloc[[1, 1, 3]]])
    with pytest.raises(ColumnError, match=r"2 keys have several rows, such as item = 'b' with 3.*'last'"):
        compute(engine, BASE, items, ["a"])


def test_rows_without_a_key_belong_to_nobody(engine: Engine) -> None:
    items = pd.concat([ITEMS, ITEMS.iloc[[4]]])
    assert listed(compute(engine, BASE, items, ["a", None])["category"]) == ["toys", None]


@pytest.mark.parametrize(
    ("features", "kind", "message"),
    [
        (AttributeFeatures("i", ("item",), "items", ("colour",)), ColumnError, "missing column 'colour'"),
        (AttributeFeatures("i", ("itm",), "items", ("price",)), ColumnError, "Did you mean 'item'"),
        (AttributeFeatures("i", ("item",), "items", tiers={"category": 3}), ColumnError, "'category' is string"),
        (AttributeFeatures("i", ("item",), "itms", ("price",)), EngineError, "no table named 'itms'"),
    ],
)
def test_what_does_not_fit_the_table(features: AttributeFeatures, kind: type[Exception], message: str) -> None:
    with LocalEngine() as engine:
        engine.register("items", ITEMS)
        with pytest.raises(kind, match=message):
            check_attributes(features, engine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ()}, "at least one key"),
        ({"keys": "item"}, "keys is 'item'; expected a tuple"),
        ({"columns": ()}, "columns or tiers"),
        ({"columns": ("item",)}, "'item' is a key"),
        ({"columns": ("price", "PRICE")}, "'price' appears twice"),
        ({"tiers": {"price": 1}}, "is 1; expected how many tiers, from 2 on"),
        ({"tiers": {"price": True}}, "is True"),
        ({"tiers": {"price": (5, 5)}}, "cut points that rise"),
        ({"tiers": {"price": (1, math.inf)}}, "cut points that rise"),
        ({"tiers": {"price": ()}}, "cut points that rise"),
        ({"tiers": {"price": "low"}}, "is 'low'"),
        ({"name": ""}, "it names a directory"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AttributeFeatures(**{"name": "item", "keys": ("item",), "source": "items", "columns": ("price",), **changes})


def test_plain_values_and_back() -> None:
    features = AttributeFeatures("item", ("item",), "items", ("category",), {"price": 3, "stock": (1, 2.5)})
    values = features.to_dict()
    assert values["kind"] == "attributes"
    assert AttributeFeatures.from_dict(values) == features
    assert hash(AttributeFeatures.from_dict(values)) == hash(features)
    assert AttributeFeatures.from_dict({**values, "tiers": {"price": 4}}).spec_hash != features.spec_hash
    with pytest.raises(ConfigError, match="colour"):
        AttributeFeatures.from_dict({**values, "colour": 1})


def test_a_declaration_keeps_its_own_copy_of_the_tiers() -> None:
    tiers = {"price": 3}
    features = AttributeFeatures("item", ("item",), "items", tiers=tiers)
    tiers["price"] = 5
    assert features.tiers == {"price": 3}
