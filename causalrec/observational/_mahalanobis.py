"""Nearest neighbours in several covariates, with replacement: a k-d tree on whitened covariates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._nearest import ASKING, rounding
from causalrec.observational._sets import MatchedSets

COVARIANCES = ("within_arms", "overall")
_SINGULAR = 1e-10
_SLACK = 1e-11
_BLOCK = 4_000_000
_MOST = 300_000_000


class Space(NamedTuple):
    """The distinct combinations of place, stratum and gate, and which one each row has.

    ``code`` has a number per row; ``place``, ``stratum`` and ``gate`` a row per number. ``width`` is the largest
    difference allowed between gates, ``slack`` the rounding of distances and ``gate_slack`` that of gates.
    """

    code: IntArray
    place: FloatArray
    stratum: IntArray
    gate: FloatArray
    width: float
    slack: float
    gate_slack: float


def whiten(X: FloatArray, treatment: IntArray, *, covariance: str, scale_only: bool = False) -> FloatArray:
    """Covariates in which the Euclidean distance is Mahalanobis', shape (n, rank).

    Parameters
    ----------
    X : array of shape (n, p), treatment : 0/1 array of shape (n,)
    covariance : {"within_arms", "overall"}
        Pooled within arms, each arm around its own mean (divisor n - 2; Rubin 1980, Biometrics 36, and MatchIt's), or
        of all units together.
    scale_only : bool
        Divide by standard deviations and leave correlations aside.

    Notes
    -----
    A singular covariance (collinear covariates, all levels of a factor) is inverted in the Moore–Penrose sense:
    directions without variance do not count.

    Examples
    --------
    >>> X, t = np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 5.0], [3.0, 5.0]]), np.array([0, 0, 1, 1])
    >>> whiten(X, t, covariance="within_arms").shape
    (4, 1)
    """
    centred = X - X.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0) / (len(X) - 1))
    varies = spread > 1e-12 * np.abs(X).max(axis=0, initial=0.0)
    if scale_only:  # not centred, so that the rounding of large values stays in sight
        return np.asarray(X[:, varies] / spread[varies])
    Z = centred[:, varies] / spread[varies]
    residual = Z
    if covariance == "within_arms":
        means = np.stack([Z[treatment == arm].mean(axis=0) for arm in (0, 1)])
        residual = Z - means[treatment]
    sizes, vectors = np.linalg.eigh(residual.T @ residual / (len(X) - 1 - (covariance == "within_arms")))
    kept = sizes > _SINGULAR * sizes.max(initial=0.0)
    directions = vectors[:, kept] / np.sqrt(sizes[kept])
    place = np.zeros((len(X), int(kept.sum())))
    for column, weights in zip(Z.T, directions, strict=True):  # row by row: a matrix product may untie equal rows
        place += column[:, None] * weights
    return place


def make_space(place: FloatArray, strata: IntArray | None, gate: tuple[FloatArray, float] | None) -> Space:
    """Collapse rows that are alike, so that ties of many units cost nothing."""
    n, slack = len(place), _SLACK * float(np.abs(place).max(initial=0.0))
    stratum = np.zeros(n, dtype=np.int64) if strata is None else strata
    score, width = (np.zeros(n), np.inf) if gate is None else gate
    columns = [*place.T, stratum, score]
    order = np.lexsort(columns[::-1])
    new = np.zeros(n, dtype=bool)
    new[0] = True
    for column in columns:
        inside = column[order]
        new[1:] |= inside[1:] != inside[:-1]
    code = np.empty(n, dtype=np.int64)
    code[order] = np.cumsum(new) - 1
    first = order[new]
    return Space(code, place[first], stratum[first], score[first], float(width), slack, rounding(score))


def match_space(space: Space, treatment: IntArray, *, estimand: str, ratio: int, caliper: float) -> MatchedSets:
    """As :func:`match_line`, in several dimensions, and within the gate: units whose scores differ by more than its
    width are no match however near they are (Rosenbaum and Rubin 1985, The American Statistician 39).
    """
    found, before = [], 0
    for arm in ASKING[estimand]:
        sets = space_sets(space, treatment == arm, treatment != arm, ratio, caliper)
        found.append(sets._replace(start=sets.start + before, stop=sets.stop + before))
        before += len(sets.pool)
    return MatchedSets(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def space_sets(
    space: Space, asking: BoolArray, serving: BoolArray, k: int, caliper: float = np.inf, *, gated: bool = True
) -> MatchedSets:
    """The k nearest serving rows, ties included, of every asking row; a row that also serves is its own nearest."""
    asked, served = np.unique(space.code[asking]), np.unique(space.code[serving])
    rows = np.flatnonzero(serving)
    rows = rows[np.argsort(space.code[rows], kind="stable")]
    counts = np.bincount(np.searchsorted(served, space.code[rows]), minlength=len(served))
    search = _Search(space, asked, served, counts, k, caliper, gated)
    asker, answer, distance = search.run()
    members = np.cumsum(counts) - counts
    sizes = counts[answer]
    if int(sizes.sum()) > _MOST:
        raise CausalRecError(
            f"the matched sets have {int(sizes.sum()):,} members, since many units are equally near; at most {_MOST:,} "
            "are held. Match on a score, exactly on the discrete covariates, or on finer ones."
        )
    ends = np.cumsum(sizes)
    pool = rows[np.arange(int(sizes.sum())) - np.repeat(ends - sizes - members[answer], sizes)]
    total = np.bincount(asker, weights=sizes, minlength=len(asked)).astype(np.int64)
    stop = np.cumsum(total)
    farthest = np.zeros(len(asked))
    np.maximum.at(farthest, asker, distance)
    unit = np.flatnonzero(asking)
    which = np.searchsorted(asked, space.code[unit])
    kept = total[which] > 0
    unit, which = unit[kept], which[kept]
    return MatchedSets(unit, (stop - total)[which], stop[which], pool, farthest[which])


class _Search:
    """Ask for more and more neighbours until the k-th and its ties are certain."""

    def __init__(
        self, space: Space, asked: IntArray, served: IntArray, counts: IntArray, k: int, caliper: float, gated: bool
    ) -> None:
        self.space, self.asked, self.served, self.counts, self.k = space, asked, served, counts, k
        self.reach = caliper + space.slack
        self.width = space.width + space.gate_slack if gated else np.inf
        # Strata lie farther from each other than any two units of one: one tree serves all.
        place = space.place
        extent = float(np.sqrt(((place.max(axis=0) - place.min(axis=0)) ** 2).sum())) + 1.0
        self.reach = min(self.reach, 1.5 * extent)
        self.points = np.column_stack([place, 4 * extent * space.stratum])
        self.tree = cKDTree(self.points[served])

    def run(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Pairs of asked and serving numbers with their distances, ordered by the asked."""
        found = []
        pending, width = np.arange(len(self.asked)), min(self.k + 1, len(self.served))
        while len(pending):
            left = []
            step = max(_BLOCK // width, 1)
            for begin in range(0, len(pending), step):
                block = pending[begin : begin + step]
                pairs, unsure = self._ask(block, width)
                found.append(pairs)
                left.append(unsure)
            pending, width = np.concatenate(left), min(4 * width, len(self.served))
            few = self._few_in_gate(pending, 4 * width)
            if few.any():
                found.append(self._enumerate(pending[few]))
                pending = pending[~few]
        asker, answer, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.lexsort((answer, asker))
        return asker[order], answer[order], distance[order]

    def _ask(self, block: IntArray, width: int) -> tuple[tuple[IntArray, IntArray, FloatArray], IntArray]:
        distance, answer = self.tree.query(self.points[self.asked[block]], k=np.arange(1, width + 1))
        asker = np.repeat(block, width)
        allowed = self._allowed(asker, answer.ravel(), distance.ravel()).reshape(distance.shape)
        enough = np.cumsum(allowed * self.counts[answer], axis=1) >= self.k
        reached = enough[:, -1]
        kth = np.where(reached, distance[np.arange(len(block)), np.argmax(enough, axis=1)], self.reach)
        whole = width == len(self.served)
        sure = np.full(len(block), whole) | (distance[:, -1] > kth + self.space.slack)
        taken = (allowed & sure[:, None] & (distance <= (kth + self.space.slack)[:, None])).ravel()
        return (asker[taken], answer.ravel()[taken], distance.ravel()[taken]), block[~sure]

    def _allowed(self, asker: IntArray, answer: IntArray, distance: FloatArray) -> BoolArray:
        mine, theirs = self.asked[asker], self.served[answer]
        near = np.abs(self.space.gate[mine] - self.space.gate[theirs]) <= self.width
        return np.asarray(near & (distance <= self.reach) & (self.space.stratum[mine] == self.space.stratum[theirs]))

    def _gate(self) -> tuple[FloatArray, IntArray]:
        order = np.argsort(self.space.gate[self.served], kind="stable")
        return self.space.gate[self.served[order]], order

    def _few_in_gate(self, pending: IntArray, limit: int) -> BoolArray:
        if not len(pending) or not np.isfinite(self.width):
            return np.zeros(len(pending), dtype=bool)
        scores, _ = self._gate()
        mine = self.space.gate[self.asked[pending]]
        few = np.searchsorted(scores, mine + self.width, "right") - np.searchsorted(scores, mine - self.width, "left")
        return np.asarray(few <= limit)

    def _enumerate(self, pending: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """All within the gate, one after the other, where they are few."""
        scores, order = self._gate()
        mine = self.space.gate[self.asked[pending]]
        low = np.searchsorted(scores, mine - self.width, "left")
        size = np.searchsorted(scores, mine + self.width, "right") - low
        ends = np.cumsum(size)
        pieces, begin = [], 0
        while begin < len(pending):
            before = ends[begin] - size[begin]
            end = max(int(np.searchsorted(ends, before + _BLOCK, "right")), begin + 1)
            part = slice(begin, end)
            pieces.append(self._nearest_of(pending[part], low[part], size[part], order))
            begin = end
        return tuple(np.concatenate(p) for p in zip(*pieces, strict=True))  # type: ignore[return-value]

    def _nearest_of(
        self, pending: IntArray, low: IntArray, size: IntArray, order: IntArray
    ) -> tuple[IntArray, IntArray, FloatArray]:
        which = np.repeat(np.arange(len(pending)), size)
        ends = np.cumsum(size)
        answer = order[np.arange(int(size.sum())) - np.repeat(ends - size - low, size)]
        asker = pending[which]
        gap = self.points[self.asked[asker]] - self.points[self.served[answer]]
        distance = np.sqrt((gap**2).sum(axis=1))
        ok = self._allowed(asker, answer, distance)
        which, asker, answer, distance = which[ok], asker[ok], answer[ok], distance[ok]
        rank = np.lexsort((distance, which))
        which, asker, answer, distance = which[rank], asker[rank], answer[rank], distance[rank]
        running = np.cumsum(self.counts[answer])
        starts = np.searchsorted(which, np.arange(len(pending)), "left")
        base = np.concatenate([[0], running])[starts]
        enough = running - base[which] >= self.k
        kth = np.full(len(pending), np.inf)
        np.minimum.at(kth, which[enough], distance[enough])
        taken = distance <= kth[which] + self.space.slack
        return asker[taken], answer[taken], distance[taken]
