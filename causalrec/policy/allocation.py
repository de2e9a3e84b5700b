"""Which arm for whom under a budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_weights
from causalrec.exceptions import CausalRecError
from causalrec.policy._inputs import check_amount, check_worth, cost_table, effect_table
from causalrec.policy._path import Path, hull_steps, make_path
from causalrec.results import NAN, AllocationResult

_ROUNDING = 1e-12


def allocate(
    uplift: Any,
    *,
    cost: Any,
    budget: float | None = None,
    total_budget: float | None = None,
    value: float | None = None,
    control: Any = 0,
    sample_weight: Any = None,
) -> AllocationResult:
    r"""Give each unit the arm that makes the most of a budget, by predicted effects.

    Solves :math:`\max_\pi \sum_{i,a} \pi_{ia} \tau_{ia}` with :math:`\sum_{i,a} \pi_{ia} c_{ia} \le B` and at most one
    arm each: the linear program of the multiple-choice knapsack, exactly, by walking down the units' convex hulls
    (:func:`causalrec.policy._path.hull_steps`; Sverdrup, Wu, Athey and Wager 2023, arXiv 2306.11979). At most one unit
    is split between two arms. Among equal slopes earlier rows come first.

    Parameters
    ----------
    uplift : array of shape (n,) or (n, m), data frame, or mapping of arms to arrays
        Predicted effects against control. Arms are named by columns or keys, else 1..m.
    cost : float, mapping of arms to floats or arrays, array of shape (m,), (n,) or (n, m)
        What an arm costs more than control; above zero.
    budget : float, optional
        Per unit of the population; or ``total_budget`` for all together. None: no limit.
    value : float, optional
        Of a unit of outcome, in the costs' unit: then nothing is spent that does not bring in more than it costs.
        Without it money is spent as long as the predicted outcome rises.
    control : label
    sample_weight : array of shape (n,), optional
        How many units a row stands for. The budget per unit is then per unit of weight.

    Raises
    ------
    CausalRecError
        For costs or values that are not above zero, a negative budget, two budgets, missing values, other shapes.

    Examples
    --------
    >>> plan = allocate({"mail": [2.0, 1.0, -1.0], "call": [5.0, 1.5, 3.0]}, cost={"mail": 1, "call": 2},
    ...                 total_budget=4, control="none")
    >>> plan.arms.tolist(), round(plan.spend * 3), round(plan.gain * 3, 2), plan.shadow_price
    (['call', 'none', 'call'], 4, 8.0, 1.0)
    """
    table, names = effect_table(uplift, None)
    n = len(table)
    if control in names:
        raise CausalRecError(f"control is {control!r}, which uplift has a column for; its effect is 0. Leave it out.")
    costs = cost_table(cost, names, n_rows=n)
    raw = check_weights(sample_weight, n_rows=n)
    weight = raw * (np.count_nonzero(raw) / raw.sum())
    limit = _budget(budget, total_budget, float(raw.sum()))
    worth = NAN if value is None else check_worth(value)
    path = make_path(*hull_steps(table, costs, 0.0 if value is None else 1 / worth), weight)
    labels = np.empty(len(names) + 1, dtype=object)
    labels[:] = [control, *names]
    return _spent(path, limit, worth, table, costs, weight, labels)


def _budget(budget: float | None, total: float | None, units: float) -> float:
    if budget is not None and total is not None:
        raise CausalRecError("both budget (per unit) and total_budget are given; pass one of them.")
    if total is not None:
        return check_amount(total, name="total_budget") / units
    return np.inf if budget is None else check_amount(budget, name="budget")


def _spent(
    path: Path,
    limit: float,
    worth: float,
    table: FloatArray,
    costs: FloatArray,
    weight: FloatArray,
    labels: AnyArray,
) -> AllocationResult:
    n, units = len(table), np.count_nonzero(weight)
    money = weight[path.unit] * path.run / units
    spent = np.cumsum(money)
    taken = int(np.searchsorted(spent, limit * (1 + _ROUNDING), side="right"))
    assigned = np.zeros(n, dtype=np.int64)
    assigned[path.unit[:taken]] = path.after[:taken]  # of a row's steps the last one stays
    row, part, arm = -1, 0.0, 0
    if taken < len(spent):
        left = limit - (spent[taken - 1] if taken else 0.0)
        if left > _ROUNDING * limit:
            row, arm, part = int(path.unit[taken]), int(path.after[taken]), float(left / money[taken])
    share, arm_spend, arm_gain = _by_arm(assigned, row, arm, part, table, costs, weight / units, len(labels))
    spend, gain = float(arm_spend.sum()), float(arm_gain.sum())
    return AllocationResult(
        n_obs=n, budget=NAN if np.isinf(limit) else limit, value=worth, spend=spend, gain=gain,
        profit=worth * gain - spend, shadow_price=float(path.slope[taken]) if taken < len(spent) else 0.0,
        share_treated=float(1 - share[0]), split_row=row, split_arm="" if row < 0 else str(labels[arm]),
        split_share=part, method="multiple-choice knapsack over the convex hulls of cost and predicted effect",
        arm=labels, share=share, arm_spend=arm_spend, arm_gain=arm_gain, assigned=assigned,
    )  # fmt: skip


def _by_arm(
    assigned: IntArray,
    row: int,
    arm: int,
    part: float,
    table: FloatArray,
    costs: FloatArray,
    weight: FloatArray,
    k: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share, spend and gain of every arm, with one row split between two."""
    share = np.bincount(assigned, weights=weight, minlength=k)
    found: list[FloatArray] = [share.astype(np.float64)]
    for values in (costs, table):
        by_arm = [float(weight[rows] @ values[rows, a]) for a, rows in enumerate(_rows(assigned, k))]
        found.append(np.array([0.0, *by_arm]))
    if row >= 0:
        held = int(assigned[row])
        for code, sign in ((held, -1), (arm, 1)):
            found[0][code] += sign * part * weight[row]
            for sums, values in zip(found[1:], (costs, table), strict=True):
                sums[code] += sign * part * weight[row] * (values[row, code - 1] if code else 0.0)
    return found[0], found[1], found[2]


def _rows(assigned: IntArray, k: int) -> list[IntArray]:
    return [np.flatnonzero(assigned == code) for code in range(1, k)]
