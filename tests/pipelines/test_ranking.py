"""Queries on a time split: labels, features and baselines against loops over a small log."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.config import RunConfig, parse_config
from causalrec.engines import LocalEngine
from causalrec.exceptions import ConfigError, EmptyTableError
from causalrec.features import FeatureStore
from causalrec.pipelines.ranking import (
    ALL_TIME,
    LAST_SEEN,
    RECENT,
    Queries,
    RankingData,
    build_ranking,
    feature_sets,
    score_ranking,
    train_ranker,
)
from causalrec.results import EffectResult, RankingResult, dump_results

WEEK = pd.Timedelta("7D")
GRADES = {"click": 1, "cart": 2, "purchase": 3}
END = pd.Timestamp("2025-03-03")
FEATURES = {
    "user": [{"op": "count", "name": "user_events"}, {"op": "recency", "name": "user_recency"}],
    "item": [{"op": "count", "window": "7d", "where": "event_type = 'purchase'", "name": "item_sold"}],
    "user_item": [{"op": "count", "name": "pair_events"}],
}


@cache
def log() -> pd.DataFrame:
    """Eight weeks of some users; a few come only later, and many do nothing in a given week."""
    rng = np.random.default_rng(5)
    n, n_users = 1500, 60
    active = rng.pareto(1.0, n_users) + 0.1
    user = rng.choice(n_users, n, p=active / active.sum())
    day = rng.uniform(0, 56, n)
    frame = pd.DataFrame({
        "user_id": user, "item_id": (20 * rng.beta(1, 3, n)).astype(int),
        "event_type": rng.choice(["impression", "click", "cart", "purchase"], n, p=[0.5, 0.3, 0.1, 0.1]),
        "event_time": (END - pd.Timedelta("56D") + pd.to_timedelta(day, unit="D")).astype("datetime64[us]"),
    })  # fmt: skip
    frame = frame[frame["event_time"] >= END - pd.Timedelta("56D") + pd.to_timedelta(frame["user_id"] / 2, unit="D")]
    last = pd.DataFrame(
        {"user_id": [0], "item_id": [0], "event_type": ["click"], "event_time": [END - pd.Timedelta("1s")]}
    )
    edges = pd.DataFrame({  # on a cutoff exactly: an event of the week that begins
        "user_id": 1, "item_id": [3, 4], "event_type": "purchase", "event_time": [END - WEEK, END - 2 * WEEK],
    })  # fmt: skip
    return pd.concat([frame, last, edges], ignore_index=True).sort_values("event_time", ignore_index=True)


def config_of(**ranker: Any) -> RunConfig:
    return parse_config({
        "name": "test", "events": {"table": "events"}, "features": FEATURES,
        "ranker": {
            "k": 5, "train_cutoffs": 2, "popularity_window": "14d", "params": {"n_estimators": 10, "n_jobs": 1},
            "candidates": {"n_recent": 6, "n_all_time": 4, "n_history": 5}, **ranker,
        },
    })  # fmt: skip


def build(config: RunConfig, events: pd.DataFrame | None = None) -> RankingData:
    assert config.events is not None
    with LocalEngine(threads=1) as engine:
        engine.register("events", log() if events is None else events)
        return build_ranking(config, config.events, engine, FeatureStore(engine))


@cache
def built() -> RankingData:
    return build(config_of())


def parts_of(data: RankingData) -> pd.DataFrame:
    return pd.concat([q.frame for q in data.queries()], ignore_index=True)


def graded(grades: dict[str, int] = GRADES) -> pd.DataFrame:
    events = log()
    return events.assign(grade=events["event_type"].map(grades).fillna(0).astype(int)).query("grade > 0")


def labels(cutoff: pd.Timestamp, grades: dict[str, int] = GRADES) -> dict[tuple[int, int], int]:
    """The best grade of every pair in the week after a cutoff, of users who were there before it."""
    known = set(log().loc[log()["event_time"] < cutoff, "user_id"])
    after = graded(grades)
    after = after[
        (after["event_time"] >= cutoff) & (after["event_time"] < cutoff + WEEK) & after["user_id"].isin(known)
    ]
    return {(int(u), int(i)): int(g) for (u, i), g in after.groupby(["user_id", "item_id"])["grade"].max().items()}


# --- the split --------------------------------------------------------------------------------------------------


def test_the_parts_are_one_horizon_apart_and_no_label_is_in_two() -> None:
    data = built()
    cutoffs = [END - i * WEEK for i in (5, 4, 3, 2, 1)]
    assert data.cutoffs == tuple(f"{c:%Y-%m-%d}" for c in cutoffs)
    times = [sorted(q.frame["event_time"].unique()) for q in data.queries()]
    assert times == [cutoffs[:2], cutoffs[2:3], cutoffs[3:4], cutoffs[4:]]
    windows = [(c, c + WEEK) for part in times for c in part]
    for (_, end), (start, _) in pairwise(windows):
        assert end == start
    assert windows[-1][1] == END
    queries = [set(q.frame["query"]) for q in data.queries()]
    assert sum(map(len, queries)) == len(set.union(*queries))


@pytest.mark.parametrize(("target", "grades"), [("any", GRADES), ("purchase", {"purchase": 1})])
def test_labels_are_the_best_grades_up_to_the_next_cutoff(target: str, grades: dict[str, int]) -> None:
    data = built() if target == "any" else build(config_of(target=target))
    for queries in data.queries():
        for cutoff, rows in queries.frame.groupby("event_time"):
            expected = labels(cutoff, grades)
            pairs = list(zip(rows["user_id"], rows["item_id"], strict=True))
            assert rows["relevance"].tolist() == [expected.get(pair, 0) for pair in pairs]
            assert set(rows["user_id"]) == {user for user, _ in expected}
            lost = sorted(
                (f"{cutoff:%Y-%m-%dT%H:%M} {u}", g) for (u, i), g in expected.items() if (u, i) not in set(pairs)
            )
            missed = queries.missed[queries.missed["query"].str.startswith(f"{cutoff:%Y-%m-%d}")]
            assert sorted(zip(missed["query"], missed["grade"], strict=True)) == lost
    assert set(parts_of(data)["relevance"]) == {0, *grades.values()}


def test_users_without_anything_relevant_are_counted() -> None:
    for queries in built().queries():
        expected = 0
        for cutoff in queries.frame["event_time"].unique():
            known = set(log().loc[log()["event_time"] < cutoff, "user_id"])
            expected += len(known - {user for user, _ in labels(cutoff)})
        assert queries.n_silent == expected > 0


def test_each_cutoff_of_its_own_sees_only_what_was_before_it() -> None:
    """Without the events from a cutoff on, every feature of its rows is the same."""
    config, data = config_of(), built()
    assert config.events is not None
    for cutoff, rows in parts_of(data).groupby("event_time"):
        with LocalEngine(threads=1) as engine:
            engine.register("events", log()[log()["event_time"] < cutoff])
            spine = rows[["user_id", "item_id", "event_time"]]
            again = FeatureStore(engine).training_frame(spine, feature_sets(config, config.events))
        for name in data.features:
            np.testing.assert_array_equal(again[name].astype(float), rows[name].astype(float), err_msg=name)


def test_the_events_after_the_test_cutoff_change_nothing_but_its_labels() -> None:
    cutoff = END - WEEK
    rng = np.random.default_rng(0)
    events = log().copy()
    later = (events["event_time"] >= cutoff) & (events["event_time"] < events["event_time"].max())
    events.loc[later, "item_id"] = rng.permutation(events.loc[later, "item_id"])
    first, second = built(), build(config_of(), events)
    for mine, theirs in zip(first.queries()[:3], second.queries()[:3], strict=True):
        pd.testing.assert_frame_equal(mine.frame, theirs.frame)
        pd.testing.assert_frame_equal(mine.missed, theirs.missed)
    columns = [c for c in first.test.frame if c != "relevance"]
    pd.testing.assert_frame_equal(first.test.frame[columns], second.test.frame[columns])
    assert (first.test.frame["relevance"] != second.test.frame["relevance"]).any()


def test_features_are_those_of_a_loop() -> None:
    rows = parts_of(built()).sample(60, random_state=0)
    for row in rows.to_dict("records"):
        before = log()[log()["event_time"] < row["event_time"]]
        mine = before[before["user_id"] == row["user_id"]]
        sold = before[(before["item_id"] == row["item_id"]) & (before["event_type"] == "purchase")]
        assert row["user_events"] == len(mine)
        assert row["user_recency"] == pytest.approx((row["event_time"] - mine["event_time"].max()) / pd.Timedelta("1D"))
        assert row["item_sold"] == (sold["event_time"] >= row["event_time"] - WEEK).sum()
        assert row["pair_events"] == (mine["item_id"] == row["item_id"]).sum()


def test_what_the_baselines_sort_by_is_no_feature() -> None:
    assert built().features == ("user_events", "user_recency", "item_sold", "pair_events")
    assert {RECENT, ALL_TIME, LAST_SEEN} <= set(built().test.frame.columns)


def test_users_drawn_by_hash_are_noted() -> None:
    assert built().notes == ()
    candidates = {"n_recent": 6, "n_all_time": 4, "n_history": 5, "max_queries": 10}
    data = build(config_of(candidates=candidates))
    most = max(len({user for user, _ in labels(END - i * WEEK)}) for i in range(1, 6))
    (note,) = data.notes
    assert note.startswith("ranker: 10 users a cutoff, drawn by a hash of their id")
    assert f"of up to {most} with something relevant" in note
    assert parts_of(data).groupby("event_time")["query"].nunique().tolist() == [10] * 5
    full = parts_of(built())
    kept = full[full["query"].isin(parts_of(data)["query"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(parts_of(data), kept)
    assert data.test.n_silent == built().test.n_silent
    exactly = build(config_of(candidates={**candidates, "max_queries": most}))
    assert exactly.notes == ()


def test_a_ranker_without_features_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no features; configure features\.user, \.item or \.user_item"):
        build(config_of().model_copy(update={"features": parse_config({"name": "x"}).features}))


def test_a_log_that_is_too_short_says_what_to_change() -> None:
    with pytest.raises(EmptyTableError, match=r"the log goes from .* fewer ranker\.train_cutoffs"):
        build(config_of(train_cutoffs=9))


# --- scores -----------------------------------------------------------------------------------------------------


def scorer_of(column: str) -> Any:
    """A "model" that sorts by one column."""
    return SimpleNamespace(predict=lambda frame: pd.DataFrame({"score": frame[column].to_numpy(float)}))


def ndcg(queries: Queries, score: pd.Series, k: int = 5) -> pd.Series:
    """By a loop: gains over log2(rank + 1), the ideal order of all that was relevant, ties by item."""
    frame, found = queries.frame.assign(score=score), {}
    for query, rows in frame.groupby("query"):
        best = sorted(
            [*rows["relevance"], *queries.missed.loc[queries.missed["query"] == query, "grade"]], reverse=True
        )
        shown = rows.sort_values(["score", "item_id"], ascending=[False, True])["relevance"]
        gain, ideal = (sum(g / np.log2(rank + 2) for rank, g in enumerate(list(order)[:k])) for order in (shown, best))
        found[query] = gain / ideal
    return pd.Series(found)


def count_before(rows: pd.DataFrame, window: pd.Timedelta | None) -> pd.Series:
    """How often an item was used before the cutoff, by a loop over the items."""
    cutoff = rows["event_time"].iloc[0]
    events = graded()
    events = events[
        (events["event_time"] < cutoff) & (events["event_time"] >= (cutoff - window if window else pd.Timestamp(0)))
    ]
    counts = events["item_id"].value_counts()
    return rows["item_id"].map(counts).fillna(0.0)


def last_seen(rows: pd.DataFrame) -> pd.Series:
    events = graded()
    last = events[events["event_time"] < rows["event_time"].iloc[0]].groupby(["user_id", "item_id"])["event_time"].max()
    times = pd.Series([last.get(pair, pd.Timestamp(0)) for pair in zip(rows["user_id"], rows["item_id"], strict=True)])
    return times.astype("datetime64[us]").astype("int64").set_axis(rows.index)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_baselines_are_those_of_pandas(part: str) -> None:
    queries: Queries = getattr(built(), part)
    rows = queries.frame
    scores = {
        "": rows["pair_events"], "_recent_top_sellers": count_before(rows, pd.Timedelta("14D")),
        "_all_time_top_sellers": count_before(rows, None), "_last_seen_items": last_seen(rows),
    }  # fmt: skip
    found = score_ranking(queries, scorer_of("pair_events"), "item_id", config_of())
    for name, score in scores.items():
        expected = ndcg(queries, score)
        result = found[f"ndcg_at_5{name}"]
        assert isinstance(result, RankingResult)
        assert result.estimate == pytest.approx(expected.mean(), rel=1e-12)
        assert result.std_error == pytest.approx(expected.std() / np.sqrt(len(expected)), rel=1e-9)
        assert (result.n_obs, result.n_without_positives) == (len(expected), queries.n_silent)
        if name:
            gain = ndcg(queries, scores[""]) - expected
            paired = found[f"ndcg_at_5_over{name}"]
            assert isinstance(paired, EffectResult)
            assert paired.estimate == pytest.approx(gain.mean(), rel=1e-9, abs=1e-12)
            assert paired.std_error == pytest.approx(gain.std() / np.sqrt(len(gain)), rel=1e-9)


def test_recall_and_precision_are_those_of_a_loop() -> None:
    queries, recalls, precisions = built().test, [], []
    for query, rows in queries.frame.groupby("query"):
        n_relevant = (rows["relevance"] > 0).sum() + (queries.missed["query"] == query).sum()
        order = rows.sort_values(["pair_events", "item_id"], ascending=[False, True])
        hits = (order["relevance"] > 0).to_numpy()[:5]
        recalls.append(hits.sum() / n_relevant)
        precisions.append(sum(hits[: r + 1].mean() for r in range(5) if hits[r]) / min(n_relevant, 5))
    found: Any = score_ranking(queries, scorer_of("pair_events"), "item_id", config_of())
    assert found["recall_at_5"].estimate == pytest.approx(np.mean(recalls), rel=1e-12)
    assert found["map_at_5"].estimate == pytest.approx(np.mean(precisions), rel=1e-12)


def test_popularity_counts_what_is_relevant_and_no_more() -> None:
    rows = build(config_of(target="purchase")).test.frame
    cutoff = rows["event_time"].iloc[0]
    sold = log()[(log()["event_type"] == "purchase") & (log()["event_time"] < cutoff)]
    recent = sold[sold["event_time"] >= cutoff - pd.Timedelta("14D")]
    assert rows[ALL_TIME].tolist() == rows["item_id"].map(sold["item_id"].value_counts()).fillna(0).tolist()
    assert rows[RECENT].tolist() == rows["item_id"].map(recent["item_id"].value_counts()).fillna(0).tolist()


def test_queries_without_positives_join_the_silent_users() -> None:
    queries = built().test
    emptied = set(queries.frame["query"].unique()[:3])
    frame = queries.frame.assign(relevance=queries.frame["relevance"].where(~queries.frame["query"].isin(emptied), 0))
    missed = queries.missed[~queries.missed["query"].isin(emptied)]
    found: Any = score_ranking(
        replace(queries, frame=frame, missed=missed), scorer_of("pair_events"), "item_id", config_of()
    )
    full: Any = score_ranking(queries, scorer_of("pair_events"), "item_id", config_of())
    assert found["ndcg_at_5"].n_without_positives == queries.n_silent + 3
    assert found["ndcg_at_5"].n_obs == full["ndcg_at_5"].n_obs - 3


def test_the_random_order_depends_on_the_pair_and_the_seed_alone() -> None:
    queries, config = built().test, config_of()
    shuffled = replace(queries, frame=queries.frame.sample(frac=1, random_state=0).reset_index(drop=True))

    def judge(which: Queries, settings: RunConfig) -> float:
        found: Any = score_ranking(which, scorer_of("pair_events"), "item_id", settings)["ndcg_at_5_random"]
        return float(found.estimate)

    assert judge(shuffled, config) == judge(queries, config)
    others = [judge(queries, config.model_copy(update={"seed": seed})) for seed in range(40)]
    assert len(set(others)) == 40
    # Of all orders, by the mean gain of a random one: every rank holds the mean grade of its query.
    expected = []
    for query, rows in queries.frame.groupby("query"):
        lost = queries.missed.loc[queries.missed["query"] == query, "grade"]
        best = sorted([*rows["relevance"], *lost], reverse=True)[:5]
        discount = 1 / np.log2(np.arange(2, min(5, len(rows)) + 2))
        expected.append(rows["relevance"].mean() * discount.sum() / sum(g / np.log2(r + 2) for r, g in enumerate(best)))
    assert np.mean(others) == pytest.approx(np.mean(expected), abs=4 * np.std(others) / np.sqrt(40))


def test_the_ranker_learns_from_the_training_cutoffs_alone() -> None:
    """Made-up labels of the validation and test weeks change no score; those of the training weeks do."""
    data, config = built(), config_of()
    first = train_ranker(data, config)

    def spoiled(part: str) -> RankingData:
        queries: Queries = getattr(data, part)
        labels_ = np.random.default_rng(0).permutation(queries.frame["relevance"].to_numpy())
        return replace(data, **{part: replace(queries, frame=queries.frame.assign(relevance=labels_))})

    expected = first.scorer.predict(data.test.frame)["score"]
    for part, same in (("validation", True), ("test", True), ("train", False)):
        score = train_ranker(spoiled(part), config).scorer.predict(data.test.frame)["score"]
        assert score.equals(expected) == same, part
    assert set(first.importances["feature"]) == set(data.features)
    assert first.importances["gain"].is_monotonic_decreasing
    again = score_ranking(data.validation, first.scorer, "item_id", config)
    assert dump_results(again) == dump_results(first.results)
