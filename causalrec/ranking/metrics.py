"""Ranking metrics over queries, with a stated rule for ties and a count of queries that cannot be judged.

Rows are sorted within each query by score, highest first; equal scores are ordered by ``item`` (ascending), so row
order never matters. Gains are the grades themselves, the discount is ``1 / log2(rank + 1)`` (Järvelin and Kekäläinen
2002, "Cumulated gain-based evaluation of IR techniques"). Queries without any positive have no defined value; they are
left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_length, check_vector
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, RankingResult


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Rows sorted by query, then best first; ``rank`` counts from 1 within the query."""

    grade: FloatArray
    query: IntArray
    rank: IntArray
    n_queries: int


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
        Breaks ties; without it ties keep the order of ``y`` ascending, the worst case.
    missed : frame with columns ``query`` and ``grade``, optional
        Relevant items that were never candidates: they count in the ideal order, so that a candidate generator
        cannot look good by leaving hard items out.

    Raises
    ------
    OutcomeError
        For negative or missing grades, or when no query has a positive.

    Examples
    --------
    >>> result = ndcg_at_k([0, 1, 0, 1], [0.9, 0.8, 0.1, 0.5], [1, 1, 1, 2], k=2)
    >>> round(result.estimate, 4), result.n_obs
    (0.8155, 2)
    """
    rows = _sort(y, score, query, item, k)
    found = _per_query(rows, _discounted(rows.grade, rows.rank, k))
    ideal = _ideal(rows, query, missed, k)
    return _average(found, ideal, ideal > 0, f"ndcg_at_{k}", k, model, confidence_level)


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
    """
    rows = _sort(y, score, query, item, k)
    hit = (rows.grade > 0) & (rows.rank <= k)
    hits_so_far = _cumulative_within(rows, hit.astype(np.float64))
    found = _per_query(rows, np.where(hit, hits_so_far / rows.rank, 0.0))
    relevant = _n_relevant(rows, query, missed)
    return _average(found, np.minimum(relevant, k), relevant > 0, f"map_at_{k}", k, model, confidence_level)


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
    """Share of the relevant items that are among the first ``k``; parameters as for :func:`ndcg_at_k`."""
    rows = _sort(y, score, query, item, k)
    found = _per_query(rows, ((rows.grade > 0) & (rows.rank <= k)).astype(np.float64))
    relevant = _n_relevant(rows, query, missed)
    return _average(found, relevant, relevant > 0, f"recall_at_{k}", k, model, confidence_level)


def _sort(y: Any, score: Any, query: Any, item: Any, k: int) -> _Sorted:
    if k < 1:
        raise CausalRecError(f"k is {k}; expected at least 1.")
    grade = check_vector(y, name="y")
    n = len(grade)
    points = check_vector(score, name="score", n_rows=n)
    check_length(len(query), n, name="query")
    if (grade < 0).any():
        raise OutcomeError(
            f"y has {int((grade < 0).sum())} negative grades; expected 0 for irrelevant, more for better."
        )
    _, codes = np.unique(np.asarray(query), return_inverse=True)
    if item is None:
        ties = grade
    else:
        check_length(len(item), n, name="item")
        ties = np.unique(np.asarray(item), return_inverse=True)[1]
    order = np.lexsort((ties, -points, codes))
    sorted_codes = codes[order]
    starts = np.searchsorted(sorted_codes, np.arange(codes.max() + 1 if n else 0))
    rank = np.arange(n) - starts[sorted_codes] + 1
    return _Sorted(grade[order], sorted_codes, rank, len(starts))


def _discounted(grade: FloatArray, rank: IntArray, k: int) -> FloatArray:
    return np.asarray(np.where(rank <= k, grade / np.log2(rank + 1), 0.0))


def _per_query(rows: _Sorted, values: FloatArray) -> FloatArray:
    return np.bincount(rows.query, weights=values, minlength=rows.n_queries)


def _cumulative_within(rows: _Sorted, values: FloatArray) -> FloatArray:
    total = np.cumsum(values)
    starts = np.flatnonzero(rows.rank == 1)
    before = (total - values)[starts]
    return np.asarray(total - before[rows.query])


def _ideal(rows: _Sorted, query: Any, missed: Any, k: int) -> FloatArray:
    codes, grades = _missed(query, missed)
    grade, owner = np.r_[rows.grade, grades], np.r_[rows.query, codes]
    order = np.lexsort((-grade, owner))
    owner = owner[order]
    starts = np.searchsorted(owner, np.arange(rows.n_queries))
    rank = np.arange(len(owner)) - starts[owner] + 1
    return np.bincount(owner, weights=_discounted(grade[order], rank, k), minlength=rows.n_queries)


def _n_relevant(rows: _Sorted, query: Any, missed: Any) -> FloatArray:
    codes, grades = _missed(query, missed)
    return _per_query(rows, (rows.grade > 0).astype(float)) + np.bincount(
        codes, weights=grades > 0, minlength=rows.n_queries
    )


def _missed(query: Any, missed: Any) -> tuple[IntArray, FloatArray]:
    if missed is None or len(missed) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    known = np.unique(np.asarray(query))
    found = np.asarray(missed["query"])
    inside = np.isin(found, known)
    return np.searchsorted(known, found[inside]), check_vector(missed["grade"], name="missed grade")[inside]


def _average(
    found: FloatArray, divisor: FloatArray, judged: Any, name: str, k: int, model: str, confidence_level: float
) -> RankingResult:
    level = check_confidence_level(confidence_level)
    n = int(judged.sum())
    if n == 0:
        raise OutcomeError(f"{name}: none of {len(found)} queries has a positive, so there is nothing to judge by.")
    values = found[judged] / divisor[judged]
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else NAN
    mean, half = float(values.mean()), float(stats.norm.isf((1 - level) / 2)) * error
    return RankingResult(
        estimate=mean, std_error=error, ci_low=mean - half, ci_high=mean + half, pvalue=NAN, confidence_level=level,
        n_obs=n, method="mean over queries with a positive; ties by item id", estimand=name, model=model, k=k,
        n_without_positives=len(found) - n,
    )  # fmt: skip
