"""The scores of other packages, each with its derivative with respect to the weight of every row."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.evaluation import _peer_curves as curves
from causalrec.evaluation._peer_curves import N_C, N_T, Curve, Maker, Rows, X
from causalrec.exceptions import OutcomeError

# A score and its derivative by the rows' weights, through the units so far and through each arm: shape (3, n).
Derived: TypeAlias = tuple[float, FloatArray]

# Share of the units on either side of a cut over which the mean outcome at the cut is taken.
_WINDOW = 0.05


def area(steps: FloatArray, curve: Curve) -> tuple[float, FloatArray]:
    """The area under a curve from the origin, by trapezoids over the units so far; its derivative by the steps."""
    width, value = steps[X], curve.value
    middle = (value + np.r_[0.0, value[:-1]]) / 2
    by_steps = _by_steps(curve.pull((width + np.r_[width[1:], 0.0]) / 2))
    by_steps[X] += middle
    return float(width @ middle), by_steps


def sklift_qini(rows: Rows) -> Derived:
    """scikit-uplift's qini_auc_score; the best order is treated who respond, all who do not, control who respond."""
    return _over_best(rows, curves.qini, _best(rows, np.array([0.0, -1.0, 0.0, 1.0])))


def sklift_uplift(rows: Rows) -> Derived:
    """scikit-uplift's uplift_auc_score.

    The best order begins with treated who respond and control who do not, and ends with the others; which half of each
    comes first depends on whether control units that respond outnumber treated ones that do not.
    """
    control_responds = float(rows.weight @ ((1 - rows.treated) * rows.y))
    treated_not = float(rows.weight @ (rows.treated * (1 - rows.y)))
    tie = np.array([0.0, 1.0, 0.0, 1.0]) if control_responds > treated_not else np.array([0.0, 0.0, 1.0, 1.0])
    return _over_best(rows, curves.gain, _best(rows, np.array([2.0, 0.0, 0.0, 2.0]) + tie))


def _best(rows: Rows, score: FloatArray) -> tuple[Rows, IntArray]:
    """A pseudo-unit per arm and outcome in the best order, given the scores of the cells; and each row's place."""
    order = np.argsort(-score)
    cell = np.argsort(order)[(2 * rows.treated + rows.y).astype(np.int64)]
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    weight = np.bincount(cell, weights=rows.weight, minlength=4).astype(np.float64)
    return Rows((order % 2).astype(float), (order // 2).astype(float), weight, 1.0, 1.0, ends), cell


def _over_best(rows: Rows, maker: Maker, best: tuple[Rows, IntArray]) -> Derived:
    """Area above the diagonal over that of the order that is best for these very outcomes."""
    ideal, cell = best
    steps, ideal_steps = rows.steps(), ideal.steps()
    perfect = maker(np.cumsum(ideal_steps, axis=1))
    diagonal, by_diagonal = _diagonal(ideal_steps, perfect)
    found, by_found = area(steps, maker(np.cumsum(steps, axis=1)))
    most, by_most = area(ideal_steps, perfect)
    room = most - diagonal
    if _nothing(room, most, diagonal):
        raise _no_room("the best possible order has no area above the diagonal")
    score = (found - diagonal) / room
    by_cell = ideal.by_weight(-(by_diagonal + score * (by_most - by_diagonal)) / room)
    return score, rows.by_weight(by_found / room) + by_cell[:, cell]


def sklift_kinked_score(rows: Rows) -> Derived:
    """Qini area over that of an order without negative effects: up at slope one to the whole gain, then flat."""
    steps = rows.steps()
    curve = curves.qini(np.cumsum(steps, axis=1))
    n, gain = float(steps[X].sum()), float(curve.value[-1])
    if gain <= 0 or _nothing(gain, n):
        raise _no_room(f"the whole gain is {gain:g}, and a best curve without negative effects needs one above zero")
    found, by_steps = area(steps, curve)
    room = (n * gain - gain**2) / 2
    score = (found - n * gain / 2) / room
    by_gain = (-n / 2 - score * (n / 2 - gain)) / room
    by_n = (-gain / 2 - score * gain / 2) / room
    by_steps = by_steps / room + by_gain * _by_steps(curve.pull(_last(curve)))
    by_steps[X] += by_n
    return score, rows.by_weight(by_steps)


def causalml_score(rows: Rows, maker: Maker, *, above_diagonal: bool, normalized: bool) -> Derived:
    """The mean value at the rows and the origin, over the size of the last, less half of it if ``above_diagonal``."""
    steps = rows.steps()
    curve = maker(np.cumsum(steps, axis=1))
    n, last = steps.shape[1], float(curve.value[-1])
    mean = float(steps[X] @ curve.value) / (n + 1)
    unit = abs(last) if normalized else 1.0
    if normalized and _nothing(last, float(np.abs(curve.value).max())):
        raise _no_room("the effect of treating everyone is zero")
    half = last / 2 if above_diagonal else 0.0
    by_last = (-0.5 if above_diagonal else 0.0) - ((mean - half) / last if normalized else 0.0)
    by_steps = _by_steps(curve.pull((steps[X] / (n + 1) + by_last * _last(curve)) / unit))
    by_steps[X] += curve.value / (n + 1) / unit
    return (mean - half) / unit, rows.by_weight(by_steps)


def causalml_rate(rows: Rows, target: str) -> Derived:
    """TOC at the middle between two rows, averaged with weights 1/q ("autoc") or q ("qini") that sum to one."""
    steps = rows.steps()
    curve = curves.toc(np.cumsum(steps, axis=1))
    width, n = steps[X], float(steps[X].sum())
    q = (np.cumsum(width) - width / 2) / n
    middle = (curve.value + np.r_[0.0, curve.value[:-1]]) / 2
    density = 1 / q if target == "autoc" else q
    rise = -1 / q**2 if target == "autoc" else np.ones_like(q)
    mass = float(width @ density)
    score = float((width * density) @ middle) / mass
    share = width * density / mass
    by_steps = _by_steps(curve.pull((share + np.r_[share[1:], 0.0]) / 2))
    by_q = width * rise * (middle - score) / mass / n
    below = np.cumsum(by_q[::-1])[::-1]
    by_steps[X] += density * (middle - score) / mass + below - by_q / 2 - float(by_q @ q)
    return score, rows.by_weight(by_steps)


def pylift_score(rows: Rows, maker: Maker, maximum: str | None) -> Derived:
    """Area above the diagonal, of its own or over the "theoretical" or "practical" maximum."""
    steps = rows.steps()
    sums = np.cumsum(steps, axis=1)
    curve = maker(sums)
    size = float(sums[N_T, -1] + sums[N_C, -1])
    total, by_steps = area(steps, curve)
    (_, n_t, n_c, y_t, y_c) = sums[:, -1]
    a, b = y_t / n_t, y_c / n_c
    by_rates = np.array([0.0, -a / n_t, b / n_c, 1 / n_t, -1 / n_c])
    by_steps = by_steps / size - 0.5 * by_rates[:, None]
    by_steps[[N_T, N_C]] -= total / size**2
    found = total / size - (a - b) / 2
    if maximum is None:
        return found, rows.by_weight(by_steps)
    most, by_totals = _maximum(sums[:, -1], maximum)
    if _nothing(most, 1.0):
        raise _no_room(f"pylift's {maximum} maximum is zero")
    return found / most, rows.by_weight((by_steps - found / most * by_totals[:, None]) / most)


def _maximum(totals: FloatArray, kind: str) -> tuple[float, FloatArray]:
    r"""The Q_max ("theoretical") or Q_practical_max of pylift, and its derivative by the sums of all units.

    A straight line of slope 2 or 1 from the origin to :math:`x_1`, level to :math:`x_2`, straight to the whole lift at
    1, less the diagonal. The first counts the treated who respond and the control who do, as shares of all units; the
    other as many of them in both arms. Where :math:`x_1 > x_2` both are put halfway.
    """
    _, n_t, n_c, y_t, y_c = totals
    a, b, n = y_t / n_t, y_c / n_c, n_t + n_c
    by_a, by_b = np.array([0.0, -a / n_t, 0.0, 1 / n_t, 0.0]), np.array([0.0, 0.0, -b / n_c, 0.0, 1 / n_c])
    slope, x_1, x_2, by_1, by_2 = 1.0, a, 1 - b, by_a, -by_b
    if kind == "theoretical":
        slope, x_1, x_2 = 2.0, y_t / n, 1 - y_c / n
        by_1, by_2 = np.array([0.0, -x_1, -x_1, 1.0, 0.0]) / n, np.array([0.0, 1 - x_2, 1 - x_2, 0.0, -1.0]) / n
    if x_1 > x_2:
        x_1 = x_2 = (x_1 + x_2) / 2
        by_1 = by_2 = (by_1 + by_2) / 2
    height, lift = slope * x_1, a - b
    most = (x_2 - x_1 / 2) * height + (1 - x_2) * (height + lift) / 2 - lift / 2
    by_height = (1 + x_2 - x_1) / 2
    by_totals = (slope * by_height - height / 2) * by_1 + (height - lift) / 2 * by_2 - x_2 / 2 * (by_a - by_b)
    return float(most), by_totals


def best_share(weight: FloatArray, pool: BoolArray, k: float) -> BoolArray:
    """The first int(k n) of the n rows of a pool; with weights, the rows up to that share of its weight."""
    inside = weight[pool]
    size = len(inside)
    top = np.zeros(len(weight), dtype=bool)
    top[pool] = np.cumsum(inside * (size / inside.sum())) <= size * k
    return top


def top_mean(rows: Rows, arm: BoolArray, pool: BoolArray, top: BoolArray) -> tuple[float, FloatArray]:
    r"""Mean outcome M of an arm in the top of a pool, and its derivative by the rows' weights, the cut counted.

    A row in the top adds (y - M) over the arm's weight there, and, as the top is a fixed share q of the pool, pushes
    the cut up: with mean outcome m of the arm at the cut, :math:`(M - m)(1\{top\} - q) / (q W)` for every row of the
    pool of weight W.
    """
    weight, there = rows.weight * pool, arm & top
    mean = float(np.average(rows.y[there], weights=rows.weight[there]))
    total, taken = float(weight.sum()), float(rows.weight[top].sum())
    q = taken / total
    near = arm & (np.abs((np.cumsum(weight) - weight / 2) / total - q) <= _WINDOW)
    push = 0.0
    if q < 1 and near.any():
        push = (mean - float(np.average(rows.y[near], weights=rows.weight[near]))) / taken
    return mean, there * (rows.y - mean) / rows.weight[there].sum() + push * pool * (top - q)


def _diagonal(steps: FloatArray, curve: Curve) -> tuple[float, FloatArray]:
    """The area under the straight line from the origin to the last point."""
    n, last = float(steps[X].sum()), float(curve.value[-1])
    by_steps = n / 2 * _by_steps(curve.pull(_last(curve)))
    by_steps[X] += last / 2
    return n * last / 2, by_steps


def _by_steps(by_sums: FloatArray) -> FloatArray:
    """A derivative by cumulative sums as one by what is summed."""
    return np.cumsum(by_sums[:, ::-1], axis=1)[:, ::-1]


def _last(curve: Curve) -> FloatArray:
    one = np.zeros_like(curve.value)
    one[-1] = 1.0
    return one


def _nothing(value: float, *sizes: float) -> bool:
    """Whether a value is zero but for the rounding of numbers of these sizes."""
    return abs(value) <= 1e-12 * max(map(abs, sizes))


def _no_room(found: str) -> OutcomeError:
    return OutcomeError(
        f'{found}, so this score is not defined. Take convention="causalrec", which divides by nothing.'
    )
