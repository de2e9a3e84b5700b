"""The difference of two versions, against what pandas says of the two frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import StoreError
from causalrec.features import Aggregation, FeatureSet, FeatureStore

START = pd.Timestamp("2025-03-01")
OLD = FeatureSet(
    "spend", ("user",), "events", "at",
    (
        Aggregation("sum", "v", "2d", name="spend"),
        Aggregation("count", window="2d", name="n"),
        Aggregation("last", "shop", "1d", name="shop"),
        Aggregation("mean", "v", "1d", name="mean"),
    ),
)  # fmt: skip
NEW = replace(
    OLD,
    aggregations=(
        Aggregation("sum", "v", "3d", "v > 0", name="spend"),
        Aggregation("count", window="2d", name="n"),
        Aggregation("last", "shop", "2d", name="shop"),
        Aggregation("max", "v", name="most"),
    ),
)


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> FeatureStore:
    rng = np.random.default_rng(0)
    at = START + pd.to_timedelta(rng.integers(0, 24 * 6, 60), "h").astype("timedelta64[us]")
    v, shop = rng.normal(0, 1, 60), rng.choice(["x", "y"], 60)
    engine.register("events", pd.DataFrame({"user": rng.integers(0, 6, 60), "at": at, "v": v, "shop": shop}))
    store = FeatureStore(engine, tmp_path)
    store.materialize(OLD, "2025-03-01", "2025-03-06")
    store.materialize(NEW, "2025-03-03", "2025-03-08")
    return store


def as_pandas(store: FeatureStore, features: FeatureSet) -> pd.DataFrame:
    frame = store.load(features)
    return frame if isinstance(frame, pd.DataFrame) else frame.toArrow().to_pandas()


def test_a_diff_says_what_changed_and_by_how_much(store: FeatureStore) -> None:
    a, b = OLD.spec_hash[:8], NEW.spec_hash[:8]
    diff = store.diff("spend", a[:5], b)
    assert (diff.name, diff.old, diff.new, diff.settings) == ("spend", a, b, ())
    old, new = as_pandas(store, OLD), as_pandas(store, NEW)
    assert (diff.rows_old, diff.rows_new) == (len(old), len(new))
    assert diff.days_old == ("2025-03-01", "2025-03-02")
    assert diff.days_new == ("2025-03-06", "2025-03-07")
    both = old.merge(new, on=["user", "event_time"], suffixes=("_old", "_new"))
    frame = diff.to_frame().set_index("name")
    assert frame["status"].to_dict() == {
        "spend": "changed", "n": "same", "shop": "changed", "most": "added", "mean": "removed",
    }  # fmt: skip
    for name in ("spend", "n", "shop"):
        x, y = both[f"{name}_old"], both[f"{name}_new"]
        assert frame.loc[name, "n_compared"] == len(both)
        assert frame.loc[name, "n_different"] == ((x != y) & ~(x.isna() & y.isna())).sum()
    gap = (both["spend_old"] - both["spend_new"]).abs().max()
    assert frame.loc["spend", "max_abs_difference"] == pytest.approx(gap)
    assert gap > 0
    assert 0 < frame.loc["shop", "n_different"] < len(both)
    assert frame.loc["n", "max_abs_difference"] == 0
    assert frame.loc[["shop", "most", "mean"], "max_abs_difference"].isna().all()
    assert diff.with_status("added") == ("most",)
    assert diff.with_status("removed") == ("mean",)
    assert str(diff).splitlines() == [
        f"spend: {a} → {b}",
        f"  ~ spend: sum(v) over 2d → sum(v) over 3d where v > 0; {frame.loc['spend', 'n_different']} of {len(both)} "
        f"rows differ, by {gap:.4g} at most",
        f"  = n; 0 of {len(both)} rows differ",
        f"  ~ shop: last(shop) over 1d → last(shop) over 2d; {frame.loc['shop', 'n_different']} of {len(both)} rows "
        "differ",
        "  + most: max(v) over all time",
        "  - mean: mean(v) over 1d",
        f"  rows: {len(old)} → {len(new)}",
        f"  only in {a}: 2 days, 2025-03-01 to 2025-03-02",
        f"  only in {b}: 2 days, 2025-03-06 to 2025-03-07",
    ]


def test_a_version_is_like_itself(store: FeatureStore) -> None:
    diff = store.diff(OLD, OLD.spec_hash, OLD.spec_hash)
    assert {f.status for f in diff.features} == {"same"}
    assert all(f.n_different == 0 < f.n_compared for f in diff.features)
    assert "only in" not in str(diff)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[FeatureStore]:
    with LocalEngine() as engine:
        at = START + pd.to_timedelta(range(5), "D").astype("timedelta64[us]")
        events = pd.DataFrame({"user": [1] * 5, "at": at, "v": range(5), "shop": list("aabbc")})
        engine.register("events", events)
        engine.register("others", events.rename(columns={"user": "customer"}))
        yield FeatureStore(engine, tmp_path)


def test_settings_that_changed_are_named(local: FeatureStore) -> None:
    old = FeatureSet("s", ("user",), "events", "at", (Aggregation("max", "v", name="m"),))
    new = replace(old, keys=("customer",), source="others", computed={"m2": "m * 2"})
    for features in (old, new):
        local.materialize(features, "2025-03-01", "2025-03-04")
    diff = local.diff("s", old.spec_hash[:8], new.spec_hash[:8])
    assert diff.settings == (("keys", ["user"], ["customer"]), ("source", "events", "others"))
    assert [(f.name, f.status, f.new) for f in diff.features] == [
        ("m", "same", "max(v) over all time"), ("m2", "added", "m * 2"),
    ]  # fmt: skip
    # Rows of other keys cannot be matched.
    assert {f.n_compared for f in diff.features} == {0}


def test_values_of_other_types_and_rows_that_stand_twice(local: FeatureStore) -> None:
    spine = pd.DataFrame({"user": [1, 1, 1], "event_time": START + pd.to_timedelta([2, 2, 3], "D")})
    old = FeatureSet("s", ("user",), "events", "at", (Aggregation("max", "v", name="m"),))
    text = replace(old, aggregations=(Aggregation("max", "shop", name="m"),))
    empty = replace(old, aggregations=(Aggregation("max", "v", "1s", name="m"),))
    for features in (old, text, empty):
        local.materialize(features, spine=spine)
    by_text, by_null = (local.diff("s", old.spec_hash, f.spec_hash).features[0] for f in (text, empty))
    assert (by_text.n_compared, by_text.n_different) == (2, 2)
    assert np.isnan(by_text.max_abs_difference)
    assert (by_null.n_compared, by_null.n_different) == (2, 2)
    assert np.isnan(by_null.max_abs_difference)


def test_what_is_not_there_cannot_be_compared(local: FeatureStore) -> None:
    local.materialize(OLD, "2025-03-01", "2025-03-04")
    with pytest.raises(StoreError, match=f"version 'nope' is unknown; there are '{OLD.spec_hash[:8]}'"):
        local.diff("spend", OLD.spec_hash[:8], "nope")
    with pytest.raises(StoreError, match="'spent' is not materialised"):
        local.diff("spent", "a", "b")
    local.materialize(NEW, "2025-03-01", "2025-03-04")
    with pytest.raises(StoreError, match="version '' is unknown"):
        local.diff("spend", "", "")
