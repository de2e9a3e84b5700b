"""Ranking queries: drawn from the past alone, judged by the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.engines import Engine, LocalEngine
from causalrec.exceptions import EmptyTableError
from causalrec.features import Candidates, CandidateSpec, build_candidates

CUTOFF = pd.Timestamp("2025-03-01")
LOG = pd.DataFrame(
    [
        ("ann", "a", "2025-02-01", "purchase"),
        ("ann", "b", "2025-02-20", "view"),
        ("ann", "b", "2025-03-01", "view"),  # at the cutoff itself: the future
        ("ann", "b", "2025-03-02", "purchase"),
        ("ann", "z", "2025-03-03", "view"),  # never seen before: missed
        ("bob", "c", "2025-02-27", "cart"),
        ("bob", "c", "2025-03-08", "purchase"),  # a week after the cutoff: outside
        ("cat", "a", "2025-03-02", "purchase"),  # no event before the cutoff: no query
        ("dan", "c", "2025-02-28", "click"),
        ("dan", "a", "2025-03-07", "cart"),
        ("eve", "a", "2025-02-28", "impression"),
        (None, "d", "2025-02-28", "purchase"),
    ],
    columns=["user_id", "item_id", "event_time", "event_type"],
).assign(event_time=lambda f: pd.to_datetime(f["event_time"]))


def candidates_of(engine: Engine, log: pd.DataFrame, **spec: Any) -> Candidates:
    engine.register("events", log)
    return build_candidates(engine, "events", [CUTOFF], CandidateSpec(**spec))


def test_queries_relevance_and_what_is_missed(engine: Engine) -> None:
    found = candidates_of(engine, LOG)
    rows = found.rows.set_index(["user_id", "item_id"])["relevance"].unstack()
    expected = pd.DataFrame(
        {"a": [0, 2], "b": [3, 0], "c": [0, 0]}, index=pd.Index(["ann", "dan"], name="user_id")
    ).rename_axis(columns="item_id")
    pd.testing.assert_frame_equal(rows, expected)
    assert found.rows["event_time"].eq(CUTOFF).all()
    assert found.missed.to_dict("records") == [{"query": "2025-03-01T00:00 ann", "grade": 1}]
    # bob and eve were there before and did nothing relevant in the week after.
    assert found.users.to_dict("records") == [{"event_time": CUTOFF, "n_active": 2, "n_silent": 2}]


def test_the_future_decides_relevance_and_nothing_else() -> None:
    with LocalEngine() as engine:
        whole = candidates_of(engine, LOG).rows
        keep_queries = LOG.assign(item_id=LOG["item_id"].where(LOG["event_time"] < CUTOFF, "new"))
        changed = candidates_of(engine, keep_queries).rows
    columns = ["query", "user_id", "item_id", "event_time"]
    pd.testing.assert_frame_equal(whole[columns], changed[columns])
    assert whole["relevance"].sum() > 0 == changed["relevance"].sum()


def test_limits_take_the_most_popular_and_the_own_last_items() -> None:
    with LocalEngine() as engine:
        rows = candidates_of(engine, LOG, recent_window="27d", n_recent=1, n_all_time=0, n_history=1).rows
    # Popularity is the sum of grades: a 3 (but 28 days ago), c 2 + 1, b 1.
    assert rows.groupby("user_id")["item_id"].agg(list).to_dict() == {"ann": ["b", "c"], "dan": ["c"]}


def test_row_order_never_matters_and_the_sample_is_by_user() -> None:
    rng = np.random.default_rng(0)
    log = pd.DataFrame({
        "user_id": rng.integers(0, 200, 3000), "item_id": rng.integers(0, 50, 3000),
        "event_time": pd.Timestamp("2025-02-01") + pd.to_timedelta(rng.integers(0, 34 * 86400, 3000), unit="s"),
        "event_type": rng.choice(["view", "purchase"], 3000),
    })  # fmt: skip
    with LocalEngine() as engine:
        first = candidates_of(engine, log, max_queries=40)
        second = candidates_of(engine, log.sample(frac=1, random_state=1), max_queries=40)
        all_rows = candidates_of(engine, log).rows
    pd.testing.assert_frame_equal(first.rows, second.rows)
    assert first.rows["user_id"].nunique() == 40
    mine = all_rows[all_rows["user_id"].isin(first.rows["user_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(first.rows, mine)


def test_nobody_to_ask_is_an_error_with_a_remedy() -> None:
    with LocalEngine() as engine, pytest.raises(EmptyTableError, match=r"no user with events before .*ranker\.horizon"):
        candidates_of(engine, LOG[LOG["event_time"] < CUTOFF])
