"""The customer-day spine."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from causalrec.engines import Engine
from causalrec.exceptions import ColumnError, TimeError
from causalrec.features import daily_grid

WEEK = ("2025-02-26", "2025-03-05")


@pytest.mark.parametrize(
    "customers",
    [["b", "a", "b"], np.array(["b", "a"]), pd.Series(["b", "a"]), ("a", "b"), pd.DataFrame({"user": ["a", "b"]})],
)
def test_every_customer_at_every_midnight(customers: Any) -> None:
    grid = daily_grid(customers, *WEEK, key="user")
    assert grid["user"].tolist() == ["a"] * 7 + ["b"] * 7
    assert grid["event_time"].tolist() == 2 * pd.date_range(WEEK[0], periods=7).tolist()
    assert grid["event_time"].dtype == "datetime64[us]"


def test_the_key_may_name_itself() -> None:
    start, end = datetime.date(2025, 1, 1), pd.Timestamp("2025-01-02", tz="UTC")
    for customers in (pd.Series([2, 1], name="user"), pl.DataFrame({"user": [2, 1]})):
        assert daily_grid(customers, start, end)["user"].tolist() == [1, 2]


def test_a_table_gives_the_engines_own_frame(engine: Engine) -> None:
    engine.register("customers", pd.DataFrame({"user": [2, 1, 2], "name": "x"}))
    grid = daily_grid("customers", *WEEK, key="user", engine=engine)
    frame = grid if isinstance(grid, pd.DataFrame) else grid.toArrow().to_pandas()
    found = frame.sort_values(["user", "event_time"], ignore_index=True)
    expected = daily_grid([1, 2], *WEEK, key="user")
    assert found.to_numpy().tolist() == expected.to_numpy().tolist()
    if engine.name == "spark":
        again = daily_grid(grid.select("user"), *WEEK, engine=engine)
        assert again.count() == len(expected)


@pytest.mark.parametrize(
    ("kind", "message", "arguments", "options"),
    [
        (ColumnError, "has no name; give key=", (["a"], *WEEK), {}),
        (ColumnError, "1 of 2 have no 'user'", (["a", None], *WEEK), {"key": "user"}),
        (ColumnError, "say which one is the key", (pd.DataFrame({"a": [1], "b": [1]}), *WEEK), {}),
        (ColumnError, "missing column 'c'", (pd.DataFrame({"a": [1]}), *WEEK), {"key": "c"}),
        (ColumnError, "give engine=", ("customers", *WEEK), {}),
        (ColumnError, "customers: the keys cannot be sorted", (["a", 1], *WEEK), {"key": "user"}),
        (TimeError, "start is '01/02/2025'; .*year, month, day", (["a"], "01/02/2025", WEEK[1]), {"key": "user"}),
        (ColumnError, "found int", (3, *WEEK), {}),
        (TimeError, "start must be before end", (["a"], WEEK[1], WEEK[0]), {"key": "user"}),
        (TimeError, "within a day", (["a"], "2025-01-01 01:00", WEEK[0]), {"key": "user"}),
        (TimeError, "start is 'soon'", (["a"], "soon", WEEK[0]), {"key": "user"}),
    ],
)
def test_what_makes_no_grid_is_named(kind: type[Exception], message: str, arguments: Any, options: Any) -> None:
    with pytest.raises(kind, match=message):
        daily_grid(*arguments, **options)
