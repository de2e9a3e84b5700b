"""Ranking metrics over queries, with a stated rule for ties and a count of queries that cannot be judged.

Rows are sorted within each query by score, highest first; equal scores are ordered by ``item`` (ascending) where it is
given, and then by grade, worst first, so row order never matters. Gains are the grades themselves, the discount is
``1 / log2(rank + 1)`` (Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques"). Queries
without any positive have no defined value; they are left out and counted. The interval takes queries as independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_columns, check_confidence_level, check_not_empty, check_vector
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.ranking._queries import query_codes
from causalrec.results import NAN, EffectResult, RankingResult


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Rows sorted by query, then best first; ``rank`` counts from 1 within the query.

    ``owner`` and ``lost`` are query and grade of the relevant items that were never candidates.
    """

    grade: FloatArray
    query: IntArray
    rank: IntArray
    n_queries: int
    owner: IntArray
    lost: FloatArray
    ties: str


def ndcg_at_k(
    y: Any,
    score: Any,
    query: Any,
    *,
    k: int = 10,
    item: Any = None,
    missed: Any = None,
    model: str = "ranker",
    confidence_level: float = 0.95,
) -> RankingResult:
    """Normalised discounted cumulative gain of the first ``k``, averaged over queries.

    Parameters
    ----------
    y : array of shape (n,)
        Grades >= 0.
    score, query : arrays of shape (n,)
    item : array of shape (n,), optional
        Breaks ties, ascending; without it, and between equal items, ties are taken in the worst order.
    missed : frame with columns ``query`` and ``grade``, optional
        Relevant items that were never candidates: they count in the ideal order, so that a candidate generator
        cannot look good by leaving hard items out. A query that has only such items counts as zero.

    Returns
    -------
    RankingResult
        ``n_obs`` counts the queries that were judged, ``n_without_positives`` those that could not be.

    Raises
    ------
    OutcomeError
        For negative or missing grades, or when no query has a positive.
    ColumnError
        When ``missed`` lacks a column, or its query ids are of another type.
    CausalRecError
        For missing query ids, lengths that differ, or k < 1.

    Examples
    --------
    >>> result = ndcg_at_k([0, 1, 0, 1], [0.9, 0.8, 0.1, 0.5], [1, 1, 1, 2], k=2)
    >>> round(result.estimate, 4), result.n_obs
    (0.8155, 2)
    """
    rows = _sort(y, score, query, item, missed, k)
    found = _per_query(rows, _discounted(rows.grade, rows.rank, k))
    return _average(rows, found, _ideal(rows, k), f"ndcg_at_{k}", k, model, confidence_level)


def map_at_k(
    y: Any,
    score: Any,
    query: Any,
    *,
    k: int = 10,
    item: Any = None,
    missed: Any = None,
    model: str = "ranker",
    confidence_level: float = 0.95,
) -> RankingResult:
    """Mean average precision of the first ``k``; the divisor is ``min(k, relevant items)``.

    Parameters as for :func:`ndcg_at_k`; any positive grade is relevant.

    Examples
    --------
    >>> map_at_k([1, 0, 1], [0.9, 0.8, 0.1], [1, 1, 1], k=2).estimate
    0.5
    """
    rows = _sort(y, score, query, item, missed, k)
    hit = (rows.grade > 0) & (rows.rank <= k)
    hits_so_far = _cumulative_within(rows, hit.astype(np.float64))
    found = _per_query(rows, np.where(hit, hits_so_far / rows.rank, 0.0))
    return _average(rows, found, np.minimum(_n_relevant(rows), k), f"map_at_{k}", k, model, confidence_level)


def recall_at_k(
    y: Any,
    score: Any,
    query: Any,
    *,
    k: int = 10,
    item: Any = None,
    missed: Any = None,
    model: str = "ranker",
    confidence_level: float = 0.95,
) -> RankingResult:
    """Share of all the relevant items (which may be more than k) among the first ``k``; parameters as for `ndcg_at_k`.

    Examples
    --------
    >>> recall_at_k([1, 0, 1], [0.9, 0.8, 0.1], [1, 1, 1], k=2).estimate
    0.5
    """
    rows = _sort(y, score, query, item, missed, k)
    found = _per_query(rows, ((rows.grade > 0) & (rows.rank <= k)).astype(np.float64))
    return _average(rows, found, _n_relevant(rows), f"recall_at_{k}", k, model, confidence_level)


def ndcg_difference_at_k(
    y: Any,
    score: Any,
    baseline: Any,
    query: Any,
    *,
    k: int = 10,
    item: Any = None,
    missed: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """NDCG@k of ``score`` minus that of ``baseline``, paired by query; parameters as for :func:`ndcg_at_k`.

    Queries differ far more from each other than two orders of one query do, so the pairs say much more than two
    separate intervals. The p-value is that of no difference, by the normal law.

    Examples
    --------
    >>> y, query = [0, 1, 0, 1, 0, 1], [1, 1, 2, 2, 3, 3]
    >>> found = ndcg_difference_at_k(y, [0, 1, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0], query, k=1)
    >>> round(found.estimate, 4), found.n_obs
    (0.6667, 3)
    """
    level = check_confidence_level(confidence_level)
    rows, other = (_sort(y, s, query, item, missed, k) for s in (score, baseline))
    ideal = _ideal(rows, k)
    judged = ideal > 0
    first, second = (_per_query(each, _discounted(each.grade, each.rank, k)) for each in (rows, other))
    found = (first[judged] - second[judged]) / ideal[judged]
    if len(found) == 0:
        raise OutcomeError(f"ndcg_at_{k}: no query has a positive, so there is nothing to compare by.")
    mean, error = float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else NAN
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(mean) / error)) if error > 0 else NAN
    return EffectResult(
        estimate=mean, std_error=error, ci_low=mean - half, ci_high=mean + half, pvalue=pvalue, confidence_level=level,
        n_obs=len(found), method=f"mean over queries of the paired difference; ties {rows.ties}",
        estimand=f"ndcg_at_{k}_difference",
    )  # fmt: skip


def _sort(y: Any, score: Any, query: Any, item: Any, missed: Any, k: int) -> _Sorted:
    if k < 1:
        raise CausalRecError(f"k is {k}; expected at least 1.")
    grade = check_vector(y, name="y")
    n = len(grade)
    check_not_empty(n, where="the rows to judge")
    points = check_vector(score, name="score", n_rows=n)
    ids = pd.Series(np.asarray(query))
    query_codes(ids, n)
    lost_ids, lost = _missed(ids, missed)
    # One coding for both, so that a query of which nothing was retrieved is a query too.
    codes, known = query_codes(ids if lost_ids.empty else pd.concat([ids, lost_ids]), n + len(lost))
    if (grade < 0).any() or (lost < 0).any():
        raise OutcomeError(
            f"found {int((grade < 0).sum() + (lost < 0).sum())} negative grades; expected 0 for irrelevant, more for "
            "better. Shift the grades."
        )
    ties = np.zeros(n, dtype=np.int64) if item is None else query_codes(item, n, name="item")[0]
    order = np.lexsort((grade, ties, -points, codes[:n]))
    rank = _rank_within(codes[:n][order], len(known))
    how = "worst case" if item is None else "by item id"
    return _Sorted(grade[order], codes[:n][order], rank, len(known), codes[n:], lost, how)


def _rank_within(owner: IntArray, n_queries: int) -> IntArray:
    """1, 2, ... within each query, for rows that are sorted by query."""
    starts = np.searchsorted(owner, np.arange(n_queries))
    return np.asarray(np.arange(len(owner)) - starts[owner] + 1, dtype=np.int64)


def _missed(ids: pd.Series, missed: Any) -> tuple[pd.Series, FloatArray]:
    if missed is None or len(missed) == 0:
        return ids.iloc[:0], np.zeros(0)
    check_columns(missed.columns, ["query", "grade"], where="missed")
    found = pd.Series(np.asarray(missed["query"]))
    if pd.api.types.is_numeric_dtype(found) != pd.api.types.is_numeric_dtype(ids):
        raise ColumnError(
            f"missed: the query ids are {found.dtype}, but those of the rows are {ids.dtype}, so none can match. "
            "Give both the same type."
        )
    return found, check_vector(missed["grade"], name="missed grade")


def _discounted(grade: FloatArray, rank: IntArray, k: int) -> FloatArray:
    return np.asarray(np.where(rank <= k, grade / np.log2(rank + 1), 0.0))


def _per_query(rows: _Sorted, values: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(rows.query, weights=values, minlength=rows.n_queries), dtype=np.float64)


def _cumulative_within(rows: _Sorted, values: FloatArray) -> FloatArray:
    total = np.cumsum(values)
    return np.asarray(total - (total - values)[np.arange(len(values)) - rows.rank + 1])


def _ideal(rows: _Sorted, k: int) -> FloatArray:
    grade, owner = np.r_[rows.grade, rows.lost], np.r_[rows.query, rows.owner]
    order = np.lexsort((-grade, owner))
    rank = _rank_within(owner[order], rows.n_queries)
    best = _discounted(grade[order], rank, k)
    return np.asarray(np.bincount(owner[order], weights=best, minlength=rows.n_queries), dtype=np.float64)


def _n_relevant(rows: _Sorted) -> FloatArray:
    lost = np.bincount(rows.owner, weights=rows.lost > 0, minlength=rows.n_queries)
    return np.asarray(_per_query(rows, (rows.grade > 0).astype(np.float64)) + lost)


def _average(
    rows: _Sorted, found: FloatArray, divisor: FloatArray, name: str, k: int, model: str, confidence_level: float
) -> RankingResult:
    level = check_confidence_level(confidence_level)
    judged = divisor > 0
    n = int(judged.sum())
    if n == 0:
        raise OutcomeError(
            f"{name}: none of {len(found)} queries has a positive, so there is nothing to judge by. Take a longer "
            "horizon or more queries."
        )
    values = found[judged] / divisor[judged]
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else NAN
    mean, half = float(values.mean()), float(stats.norm.isf((1 - level) / 2)) * error
    return RankingResult(
        estimate=mean, std_error=error, ci_low=mean - half, ci_high=mean + half, pvalue=NAN, confidence_level=level,
        n_obs=n, method=f"mean over queries with a positive; ties {rows.ties}", estimand=name, model=model, k=k,
        n_without_positives=len(found) - n,
    )  # fmt: skip
