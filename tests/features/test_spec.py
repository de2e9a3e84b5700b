"""Declarations: what they refuse, and what their hash stands for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from causalrec.exceptions import ColumnError, ConfigError, TimeError
from causalrec.features import Aggregation, FeatureSet, parse_window

SPEND = Aggregation("sum", "spend", "7d")
BASE = FeatureSet("base", ("user",), "events", "at", (SPEND, Aggregation("last", "item")))


@pytest.mark.parametrize(
    ("window", "microseconds"),
    [("1s", 1_000_000), ("90m", 5_400_000_000), ("36h", 129_600_000_000), ("2w", 1_209_600_000_000)],
)
def test_windows(window: str, microseconds: int) -> None:
    assert parse_window(window) == microseconds


@pytest.mark.parametrize("window", ["0d", "-1d", "3x", "1.5d", "d", "3 d", "", "3D", "1d2h", "١d", "999999999999d"])
def test_windows_that_are_none(window: str) -> None:
    with pytest.raises(TimeError, match="window"):
        Aggregation("count", window=window)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Aggregation("summ", "x"), ConfigError, "Did you mean 'sum'"),
        (lambda: Aggregation("sum"), ColumnError, "'sum' needs a column"),
        (lambda: Aggregation("count", "x"), ColumnError, "'count' takes no column"),
        (lambda: replace(BASE, keys=()), ConfigError, "at least one key"),
        (lambda: replace(BASE, keys="user"), ConfigError, "keys is 'user'; expected a tuple"),
        (lambda: replace(BASE, aggregations=()), ConfigError, "one aggregation"),
        (lambda: replace(BASE, aggregations=(SPEND, SPEND)), ConfigError, "'spend_sum_7d' appears twice"),
        (
            lambda: replace(BASE, aggregations=(replace(SPEND, name="N"), replace(SPEND, name="n"))),
            ConfigError, "'n' appears twice",
        ),
        (lambda: replace(BASE, name="../up"), ConfigError, "names a directory"),
        (lambda: replace(BASE, computed={"spend_sum_7d": "1"}), ConfigError, "'spend_sum_7d' appears twice"),
        (lambda: replace(BASE, derived={"amount": ""}), ConfigError, "derived is .*expected names and the SQL"),
        (lambda: replace(BASE, derived=["a * b"]), ConfigError, "derived is .*expected names and the SQL"),
        (lambda: replace(BASE, aggregations=(replace(SPEND, name="__t"),)), ConfigError, "'__t' starts with '__'"),
        (lambda: FeatureSet.from_dict({"name": "x"}), ConfigError, "cannot be built"),
        (lambda: FeatureSet.from_dict({**BASE.to_dict(), "colour": 1}), ConfigError, "colour"),
    ],
)  # fmt: skip
def test_declarations_that_are_refused(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_labels() -> None:
    assert Aggregation("count", window="3d", where="kind = 'buy'").label == "events_count_3d_kind_buy"
    assert Aggregation("mean", "price").label == "price_mean_all"


def test_a_set_goes_to_plain_values_and_back() -> None:
    whole = replace(BASE, derived={"amount": "price * n"}, computed={"half": "spend_sum_7d / 2", "a": "1"})
    assert FeatureSet.from_dict(whole.to_dict()) == whole
    assert whole.feature_names[-2:] == ("half", "a")
    plain = BASE.to_dict()
    assert (
        FeatureSet.from_dict({**plain, "keys": list(plain["keys"]), "aggregations": list(plain["aggregations"])})
        == BASE
    )


def test_any_change_of_meaning_changes_the_hash() -> None:
    spends: list[dict[str, Any]] = [
        {"op": "mean"}, {"column": "price"}, {"window": "8d"}, {"window": None}, {"where": "a > 1"}, {"name": "z"},
    ]  # fmt: skip
    changed = [
        replace(BASE, name="other"),
        replace(BASE, keys=("item",)),
        replace(BASE, source="log"),
        replace(BASE, time_column="ts"),
        replace(BASE, order_by=("seq",)),
        replace(BASE, aggregations=(SPEND,)),
        replace(BASE, derived={"amount": "price * n"}),
        replace(BASE, computed={"amount": "price * n"}),
        *(replace(BASE, aggregations=(replace(SPEND, **change), BASE.aggregations[1])) for change in spends),
    ]
    hashes = {s.spec_hash for s in [BASE, *changed]}
    assert len(hashes) == len(changed) + 1
    assert FeatureSet.from_dict(BASE.to_dict()).spec_hash == BASE.spec_hash
