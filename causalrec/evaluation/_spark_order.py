"""Points of the order of a score on a Spark DataFrame: which scores lie at given shares, and the gain up to there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.evaluation._ranked import cut_window, slope_at
from causalrec.evaluation._spark_ranks import (
    Buckets,
    Running,
    better,
    by_bucket,
    check_same_rows,
    in_order,
    make_buckets,
    placed,
    select,
)
from causalrec.evaluation._spark_rows import Rows, number

_NEAR = 1e-11  # share of all weight within which a running sum is at a point: sums depend on their order


@dataclass(frozen=True)
class Ties:
    """Groups of equal scores, best first; arrays of shape (m,).

    Attributes
    ----------
    score : array
    share, gain : arrays
        Of the weight and of the summed scores of the effect, over all rows down to the group's last, per row.
    share_before, gain_before : arrays
        Over the rows above the group.
    """

    score: FloatArray
    share_before: FloatArray
    share: FloatArray
    gain_before: FloatArray
    gain: FloatArray

    @property
    def middle(self) -> FloatArray:
        """Mid-rank."""
        return (self.share_before + self.share) / 2

    def after(self, inside: Any) -> float:
        """The lowest score for which ``inside`` holds, or one above all where it holds for none."""
        return float(self.score[inside].min() if np.any(inside) else np.nextafter(self.score[0], np.inf))


@dataclass(frozen=True)
class Order:
    """The order of one scorer; ``frame`` has the column ``bucket``, ``sums`` rows, weight, gain (and ties) of each."""

    rows: Rows
    buckets: Buckets
    frame: Any
    bucket: str
    sums: FloatArray

    @property
    def score(self) -> str:
        """The column of the scorer."""
        return f"s{self.buckets.scorer}"

    @property
    def total(self) -> float:
        """Gain of treating all, per row."""
        return float(self.sums[:, 2].sum()) / self.rows.n

    @property
    def n_ties(self) -> int:
        """How many scores are distinct."""
        return int(self.sums[:, 3].sum())

    def at_shares(self, shares: FloatArray) -> Ties:
        """The groups of equal scores in which given shares of the weight lie (at a boundary both)."""
        weight, n = self.sums[:, 1], self.rows.n
        points, near = np.unique(shares) * n, _NEAR * n
        start = better(weight)
        inside = np.searchsorted(points, start + weight + near, "right") > np.searchsorted(points, start - near)
        frame = self._running(inside)
        if frame is not None:
            frame = placed(frame, f"w_through + {number(near)}", points, "_reached")
            frame = placed(frame, f"w_through - w_own - {number(near)}", points, "_passed").where("_reached > _passed")
        return self._ties(frame, inside)

    def at_numbers(self, numbers: IntArray) -> Ties:
        """The groups of equal scores with given numbers, 0 the best; needs the count of ties by bucket."""
        start = better(self.sums[:, 3])
        first, last = np.searchsorted(numbers, start), np.searchsorted(numbers, start + self.sums[:, 3])
        inside = last > first
        frame = self._running(inside, ["DENSE_RANK() OVER ({window}) AS _number"])
        if frame is not None:
            number = f"CAST(:start[{self.bucket}] AS BIGINT) + _number - 1 AS _number"
            kept = [column for column in frame.columns if column != "_number"]
            frame = select(frame, [*kept, number], {"start": start})
            frame = frame.where(f"_number IN ({', '.join(map(str, numbers))})")
        return self._ties(frame, inside)

    def slopes(self, shares: FloatArray) -> FloatArray:
        """Slope of the gain curve around each share; see :func:`causalrec.evaluation._ranked.slope_at`."""
        wanted = np.concatenate(cut_window(shares, self.rows.n))
        found = self.at_shares(wanted[(wanted > 0) & (wanted < 1)])
        path = np.column_stack([np.r_[0, found.share_before, found.share, 1],
                                np.r_[0, found.gain_before, found.gain, self.total]])  # fmt: skip
        path = path[np.argsort(path[:, 0], kind="stable")]
        return slope_at(path[:, 0], path[:, 1], shares, self.rows.n)

    def _running(self, inside: Any, more: Sequence[str] = ()) -> Any:
        mixed = np.flatnonzero(inside & ~self.buckets.flat & (self.sums[:, 0] > 0))
        if len(mixed) == 0:
            return None
        frame = self.frame.where(f"{self.bucket} IN ({', '.join(map(str, mixed))})")
        running = [Running("w", "w", self.sums[:, 1]), Running("g", "w * g", self.sums[:, 2])]
        return in_order(frame, self.buckets, self.bucket, running, more)

    def _ties(self, frame: Any, inside: Any) -> Ties:
        parts = []
        for b in np.flatnonzero(inside & self.buckets.flat & (self.sums[:, 0] > 0)):
            above, own = self.sums[b + 1 :, 1:3].sum(axis=0), self.sums[b, 1:3]
            parts.append([self.buckets.cuts[b - 1], above[0], above[0] + own[0], above[1], above[1] + own[1]])
        if frame is not None:
            columns = ["w_through - w_own", "w_through", "g_through - g_own", "g_through"]
            names = ", ".join(f"MIN({c}) AS v{i}" for i, c in enumerate(columns))
            query = f"SELECT {self.score} AS s, {names} FROM {{rows}} GROUP BY 1"
            found = frame.sparkSession.sql(query, rows=frame).toArrow()
            parts += np.column_stack([column.to_numpy() for column in found.columns]).tolist()
        table = np.array(parts, dtype=np.float64).reshape(-1, 5)
        table = table[np.argsort(-table[:, 0], kind="stable")]
        table[:, 1:] /= self.rows.n
        return Ties(*table.T)


def open_order(rows: Rows, scorer: int, *, count_ties: bool = False) -> Order:
    """The order of a scorer, after one pass for the sums by bucket."""
    buckets, bucket = make_buckets(rows, scorer), f"b{scorer}"
    frame = placed(rows.frame, f"s{scorer}", buckets.cuts, bucket)
    sums = by_bucket(frame, bucket, len(buckets.flat), ["w", "w * g"], f"s{scorer}" if count_ties else "")
    check_same_rows(sums[:, 0].sum(), rows.n)
    return Order(rows, buckets, frame, bucket, sums)


def top_score(order: Order, k: float) -> tuple[float, float]:
    """The lowest score of the best share k, and the share that it makes; as ``_tops.top_units`` takes it."""
    if k >= 1:
        return order.rows.low[order.buckets.scorer], 1.0
    found = order.at_shares(np.array([k]))
    inside = found.middle <= k
    if not inside.any() and found.share_before[0] <= _NEAR:
        inside[0] = True
    share = found.share[inside].max() if inside.any() else found.share_before[0]
    return found.after(inside), float(share)
