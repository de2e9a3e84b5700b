"""Effects of the best of an order, from a Spark DataFrame: :mod:`causalrec.evaluation._tops` in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.evaluation._curve_errors import top_coefficients
from causalrec.evaluation._spark_order import Order, open_order, top_score
from causalrec.evaluation._spark_ranks import check_same_rows
from causalrec.evaluation._spark_rows import Rows, number
from causalrec.evaluation._spark_sums import covariance, sums_of_products
from causalrec.exceptions import TreatmentError

_PARTS = 5  # features of a scorer's top: residual and weight of each arm, weight


def arm_columns(rows: Rows) -> list[str]:
    """SQL of the residual and the weight, both over the propensity, of the arm and of control."""
    columns = []
    for arm in (1, 0):
        weight = f"IF(arm = {arm}, w / e{arm}, 0D)"
        columns += [f"{weight} * (y - {number(rows.means[arm])})", weight]
    return columns


def top_estimates(rows: Rows, k: float, n_scorers: int) -> tuple[FloatArray, FloatArray, IntArray, BoolArray]:
    """Effects in the best share k of every scorer, shape (s,), their covariance, and the units in each top.

    Last, whether the top is one where the outcomes of an arm do not vary, though elsewhere they do: it has a variance
    of NaN.

    Raises
    ------
    TreatmentError
        When a top holds fewer than two units of an arm.
    """
    orders = [open_order(rows, scorer) for scorer in range(n_scorers)]
    tops = [top_score(order, k) for order in orders]
    inside = [f"IF({order.score} >= {number(cut)}, 1D, 0D)" for order, (cut, _) in zip(orders, tops, strict=True)]
    features = [f"{top} * {column}" for top in inside for column in [*arm_columns(rows), "w"]]
    counts = [f"{top} * IF(arm = {arm}, 1D, 0D)" for top in inside for arm in (1, 0)] + inside
    sums = sums_of_products(rows, rows.frame, [*features, "w"], counts)
    check_same_rows(sums.n, rows.n)
    effects, coefficients = np.empty(n_scorers), np.zeros((n_scorers, len(features) + 1))
    silent = np.zeros(n_scorers, dtype=bool)
    for s, (order, (_, share)) in enumerate(zip(orders, tops, strict=True)):
        own = slice(_PARTS * s, _PARTS * (s + 1))
        sizes = sums.others[2 * s : 2 * s + 2]
        if sizes.min() < 2:
            raise TreatmentError(
                f"the top {100 * k:g}% holds {sizes[0]:.0f} treated and {sizes[1]:.0f} control units; at least two of "
                "each are needed. Take a larger k."
            )
        residual, size = sums.features[own][[0, 2]], sums.features[own][[1, 3]]
        effect, found = top_coefficients(
            sums.features[own][4:] / rows.n, order.slopes(np.array([share])), rows.means[1] - rows.means[0],
            residual[:, None], size[:, None], sizes[:, None], rows.n, clustered=rows.clustered,
        )  # fmt: skip
        effects[s], coefficients[s, own], coefficients[s, -1] = effect[0], found[0, :-1], found[0, -1]
        silent[s] = silent_groups(rows.frame, f"IF({order.score} >= {number(tops[s][0])}, 0, 1)", 2)[0]
    coefficients[silent] = np.nan
    together = covariance(coefficients, sums.products, rows.n, sums.units)
    return effects, together, sums.others[2 * n_scorers :].astype(np.int64), silent


def silent_groups(frame: Any, place: str, m: int) -> BoolArray:
    """Groups in which the outcomes of an arm do not vary, though in others they do, shape (m,)."""
    ends = [f"{end}(CASE WHEN arm = {arm} THEN y END)" for arm in (0, 1) for end in ("MIN", "MAX")]
    columns = ", ".join(f"{end} AS y{i}" for i, end in enumerate(ends))
    query = f"SELECT {place} AS j, {columns} FROM {{rows}} GROUP BY 1"
    low, high = np.full((m, 2), np.inf), np.full((m, 2), -np.inf)
    for row in frame.sparkSession.sql(query, rows=frame).toArrow().to_pylist():
        for arm in (0, 1):
            if row[f"y{2 * arm}"] is not None:
                low[row["j"], arm], high[row["j"], arm] = row[f"y{2 * arm}"], row[f"y{2 * arm + 1}"]
    elsewhere = low.min(axis=0) < high.max(axis=0)
    return np.asarray(((low >= high) & elsewhere).any(axis=1))


@dataclass(frozen=True)
class LiftShares:
    """Gains of a share of the units, (s,), that of treating all, and their covariance, (s + 1, s + 1)."""

    gain: FloatArray
    total: float
    covariance: FloatArray


def lift_sums(rows: Rows, share: float, n_scorers: int) -> LiftShares:
    """The gain of the best ``share`` by every scorer, straight across equal predictions, and that of all."""
    orders = [open_order(rows, scorer) for scorer in range(n_scorers)]
    gain, taken = np.empty(n_scorers), []
    for s, order in enumerate(orders):
        gain[s], part = _taken(order, share)
        taken.append(part)
    moves = [f"move{i}" for i in range(rows.n_terms)]
    features = [f"{part} * w{value}" for part in taken for value in (" * g", "")]
    slopes = [f"{part} * w * slope{i}" for part in [*taken, "1D"] for i in range(rows.n_terms)]
    sums = sums_of_products(rows, rows.frame, [*features, "w * g", "w", *moves], slopes)
    check_same_rows(sums.n, rows.n)
    total = float(sums.features[2 * n_scorers]) / rows.n
    slope = sums.others.reshape(n_scorers + 1, rows.n_terms) / rows.n
    coefficients = np.zeros((n_scorers + 1, len(sums.features)))
    for s, order in enumerate(orders):
        tau = float(order.slopes(np.array([share]))[0])
        coefficients[s, 2 * s : 2 * s + 2] = 1.0, -tau
        coefficients[s, 2 * n_scorers + 1] = share * tau - gain[s]
    coefficients[-1, 2 * n_scorers : 2 * n_scorers + 2] = 1.0, -total
    coefficients[:, 2 * n_scorers + 2 :] = -slope
    return LiftShares(gain, total, covariance(coefficients, sums.products, rows.n, sums.units))


def _taken(order: Order, share: float) -> tuple[float, str]:
    """The gain of the best share, and SQL of how much of a row is in it: part of the group at the cut."""
    if share >= 1:
        return order.total, "1D"
    found = order.at_shares(np.array([share]))
    at = int(np.argmax(found.share >= share)) if found.share[-1] >= share else len(found.share) - 1
    before, size = found.share_before[at], found.share[at] - found.share_before[at]
    part = min(max((share - before) / size, 0.0), 1.0)
    gain = found.gain_before[at] + part * (found.gain[at] - found.gain_before[at])
    cut = number(found.score[at])
    score = order.score
    return float(gain), f"CASE WHEN {score} > {cut} THEN 1D WHEN {score} = {cut} THEN {number(part)} ELSE 0D END"
