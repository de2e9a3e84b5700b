"""Ranking metrics against scikit-learn and brute force."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import ndcg_score

from causalrec.exceptions import CausalRecError, ColumnError, EmptyTableError, OutcomeError
from causalrec.ranking import map_at_k, ndcg_at_k, ndcg_difference_at_k, recall_at_k

METRICS = {"ndcg": ndcg_at_k, "map": map_at_k, "recall": recall_at_k}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def log(seed=0, n_queries=12, per_query=8, levels=None):
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(n_queries), per_query)
    y = rng.choice([0, 0, 0, 1, 2], len(query))
    score = rng.normal(size=len(query)) if levels is None else rng.integers(0, levels, len(query)).astype(float)
    return y, score, query, np.tile(np.arange(per_query), n_queries)


def brute_force(name, y, score, query, item, k, lost=()):
    """The definition, query by query, in plain loops."""
    values = []
    for q in sorted(set(query) | {q for q, _ in lost}):
        ranked = sorted((-s, i, g) for s, i, g, o in zip(score, item, y, query, strict=True) if o == q)
        grades = [g for *_, g in ranked]
        ideal = sorted([*grades, *(g for o, g in lost if o == q)], reverse=True)
        if not any(g > 0 for g in ideal):
            continue
        n_relevant = sum(g > 0 for g in ideal)
        if name == "ndcg":
            gain = [sum(g / math.log2(r + 2) for r, g in enumerate(order[:k])) for order in (grades, ideal)]
            values.append(gain[0] / gain[1])
        elif name == "recall":
            values.append(sum(g > 0 for g in grades[:k]) / n_relevant)
        else:
            precision = [
                sum(g > 0 for g in grades[: r + 1]) / (r + 1) for r in range(min(k, len(grades))) if grades[r] > 0
            ]
            values.append(sum(precision) / min(k, n_relevant))
    return np.array(values)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 10), levels=st.sampled_from([None, 1, 3]), missing=st.booleans())
@pytest.mark.parametrize("name", list(METRICS))
def test_brute_force(name, seed, k, levels, missing):
    y, score, query, item = log(seed, levels=levels)
    y[0] = 1
    lost = [(0, 1), (0, 2), (3, 1), (99, 1)] if missing else []
    values = brute_force(name, y, score, query, item, k, lost)
    table = pd.DataFrame(lost, columns=["query", "grade"])
    order = np.random.default_rng(seed).permutation(len(y))
    for rows in (slice(None), order):
        found = METRICS[name](y[rows], score[rows], query[rows], k=k, item=item[rows], missed=table)
        np.testing.assert_allclose(found.estimate, values.mean(), rtol=1e-12)
        np.testing.assert_allclose(found.std_error, values.std(ddof=1) / math.sqrt(len(values)), rtol=1e-10)
        assert found.n_obs == len(values)
        assert found.n_without_positives == len(set(query) | {q for q, _ in lost}) - len(values)


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_ndcg_of_scikit_learn(k):
    y, score, query, _ = log(3)
    by_query = [ndcg_score([y[query == q]], [score[query == q]], k=k) for q in range(12) if y[query == q].any()]
    np.testing.assert_allclose(ndcg_at_k(y, score, query, k=k).estimate, np.mean(by_query))


@every_metric
@pytest.mark.parametrize("tie", ["item", "none", "equal items"])
def test_row_order_never_matters(metric, tie):
    y, score, query, item = log(4, levels=2)
    item = {"item": item, "none": None, "equal items": item // 4}[tie]
    base = metric(y, score, query, k=3, item=item).to_dict()
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(len(y))
        assert (
            metric(y[rows], score[rows], query[rows], k=3, item=None if item is None else item[rows]).to_dict() == base
        )


@every_metric
def test_ties_without_items_are_the_worst_case(metric):
    y, score, query, _ = log(5, levels=2)
    worst = metric(y, score - 1e-6 * y, query, k=3)
    found = metric(y, score, query, k=3)
    assert found.estimate == pytest.approx(worst.estimate)
    assert found.estimate < metric(y, score + 1e-6 * y, query, k=3).estimate
    assert found.method.endswith("ties worst case")
    assert metric(y, score, query, k=3, item=y).method.endswith("ties by item id")


def test_known_values():
    y, score, query = [0, 1, 0, 1], [0.9, 0.8, 0.1, 0.5], ["q1", "q1", "q1", "q2"]
    assert ndcg_at_k(y, score, query, k=2).estimate == pytest.approx((1 / math.log2(3) + 1) / 2)
    assert map_at_k(y, score, query, k=2).estimate == pytest.approx((1 / 2 + 1) / 2)
    assert recall_at_k(y, score, query, k=1).estimate == pytest.approx((0 + 1) / 2)
    half = ndcg_at_k(y, score, query, k=2, confidence_level=0.5)
    width = 0.6744897501960817 * half.std_error
    np.testing.assert_allclose([half.ci_low, half.ci_high], [half.estimate - width, half.estimate + width])
    assert math.isnan(half.pvalue)
    assert (half.k, half.model, half.estimand) == (2, "ranker", "ndcg_at_2")


def test_queries_that_cannot_be_judged_are_counted():
    result = ndcg_at_k([0, 0, 1], [1, 2, 3], [1, 1, 2])
    assert (result.estimate, result.n_obs, result.n_without_positives) == (1.0, 1, 1)
    assert math.isnan(result.std_error)


@every_metric
def test_items_that_were_never_candidates_count(metric):
    y, score, query = [1, 0], [2.0, 1.0], ["a", "a"]
    assert metric(y, score, query, k=2).estimate == 1.0
    lost = pd.DataFrame({"query": ["a", "b"], "grade": [1, 1]})
    one = {ndcg_at_k: 1 / (1 + 1 / math.log2(3)), map_at_k: 0.5, recall_at_k: 0.5}[metric]
    found = metric(y, score, query, k=2, missed=lost)
    # Query b: nothing was retrieved that the user wanted, so it counts as zero.
    assert found.estimate == pytest.approx((one + 0) / 2)
    assert found.n_obs == 2


@every_metric
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": [0, -1, 1]}, OutcomeError, ["1 negative grades"]),
        ({"y": [0, np.nan, 1]}, OutcomeError, ["y: 1 of 3"]),
        ({"y": [0, 0, 0]}, OutcomeError, ["none of 2 queries has a positive", "longer horizon"]),
        ({"score": [0, 1]}, CausalRecError, ["score has 2", "3 rows"]),
        ({"score": [0, 1, np.nan]}, OutcomeError, ["score: 1 of 3"]),
        ({"query": [1, 2]}, CausalRecError, ["query has 2", "3 rows"]),
        ({"query": [1, 2, None]}, CausalRecError, ["query: 1 of 3 ids are missing"]),
        ({"item": [1, 2]}, CausalRecError, ["item has 2"]),
        ({"k": 0}, CausalRecError, ["k is 0", "at least 1"]),
        ({"y": [], "score": [], "query": []}, EmptyTableError, ["0 rows"]),
        ({"missed": pd.DataFrame({"query": [1], "y": [1]})}, ColumnError, ["missed", "'grade'"]),
        ({"missed": pd.DataFrame({"query": ["1"], "grade": [1]})}, ColumnError, ["none can match", "same type"]),
        ({"missed": pd.DataFrame({"query": [1], "grade": [-1]})}, OutcomeError, ["1 negative"]),
        ({"confidence_level": 2}, CausalRecError, ["confidence_level"]),
    ],
    ids=lambda c: str(list(c)) if isinstance(c, dict) else "",
)
def test_misuse_says_what_to_do(metric, change, error, words):
    with pytest.raises(error) as caught:
        metric(**{"y": [0, 1, 0], "score": [1, 2, 3], "query": [1, 1, 2], **change})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_interval_covers_the_mean_of_many_queries():
    # Ten items, one relevant, its rank uniform: NDCG@10 of a query has mean sum(1 / log2(r + 1)) / 10.
    rng = np.random.default_rng(6)
    truth = np.mean(1 / np.log2(np.arange(1, 11) + 1))
    query, y, reps = np.repeat(np.arange(80), 10), np.tile([1] + [0] * 9, 80), 500
    found = [ndcg_at_k(y, rng.random(800), query) for _ in range(reps)]
    covered = np.mean([r.ci_low <= truth <= r.ci_high for r in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / reps))


def test_a_paired_difference_is_that_of_the_queries() -> None:
    """Against the difference of the single metrics, and scipy's paired test of the values query by query."""
    rng = np.random.default_rng(3)
    n_queries, size = 300, 8
    query = np.repeat(np.arange(n_queries), size)
    y = rng.integers(0, 3, len(query)) * (rng.random(len(query)) < 0.4)
    score = y + rng.normal(0, 1.5, len(y))
    baseline = y + rng.normal(0, 3.0, len(y))
    found = ndcg_difference_at_k(y, score, baseline, query, k=3, item=np.tile(np.arange(size), n_queries))
    singles = [ndcg_at_k(y, s, query, k=3).estimate for s in (score, baseline)]
    assert found.estimate == pytest.approx(singles[0] - singles[1], abs=1e-12)
    judged = [q for q in range(n_queries) if y[query == q].any()]
    values = [
        [ndcg_at_k(y[query == q], s[query == q], query[query == q], k=3).estimate for q in judged]
        for s in (score, baseline)
    ]
    expected = stats.ttest_rel(*values)
    assert found.n_obs == len(judged)
    assert found.estimate / found.std_error == pytest.approx(expected.statistic, rel=1e-9)
    assert found.pvalue == pytest.approx(2 * stats.norm.sf(abs(expected.statistic)), rel=1e-9)
    swapped = ndcg_difference_at_k(y, baseline, score, query, k=3)
    assert swapped.estimate == pytest.approx(-found.estimate, abs=1e-12)


def test_a_difference_without_positives_or_between_equals() -> None:
    with pytest.raises(OutcomeError, match="no query has a positive"):
        ndcg_difference_at_k([0, 0], [1, 2], [2, 1], [1, 1])
    same = ndcg_difference_at_k([0, 1, 1, 0], [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 2, 2])
    assert (same.estimate, same.std_error) == (0.0, 0.0)
    assert np.isnan(same.pvalue)
