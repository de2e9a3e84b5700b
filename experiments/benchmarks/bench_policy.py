"""Targeting under a budget: ``allocate`` against a linear program, and curves at sizes that no solver takes.

The multiple-choice knapsack's linear program, three arms with costs that differ by row, half of the money that the rule
could use: causalrec's walk down the convex hulls against scipy's HiGHS with sparse constraints; both gains are printed,
as they have to agree. Then causalrec alone: cost curves with errors at 101 points, two rules compared in pairs, and
profit curves with the set of best shares, up to 14 million rows (Criteo's shape). Seconds of processor time, the least
of several rounds; memory is the most that the process ever held.

Run: ``python experiments/benchmarks/bench_policy.py [--rows 1000000] [--large 14000000] [--rounds 3]``
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, sparse

from causalrec.policy import allocate, compare_cost_curves, cost_curve, profit_curve

ARMS = 3


def timed(call: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """What the call gives, and its least processor time."""
    best, found = np.inf, None
    for _ in range(rounds):
        start = time.process_time()
        found = call()
        best = min(best, time.process_time() - start)
    return found, best


def arms(n: int, m: int = ARMS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted effects and costs."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1.0, (n, m)), rng.uniform(0.2, 2.0, (n, m))


def experiment(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, predicted effects, arms and costs of a test with m arms beside control."""
    uplift, cost = arms(n, m, seed)
    rng = np.random.default_rng(seed + 1)
    treatment = rng.integers(0, m + 1, n)
    y = rng.normal(size=n)
    rows = np.flatnonzero(treatment)
    y[rows] += 0.5 * uplift[rows, treatment[rows] - 1]
    return y, uplift, treatment, cost


def by_highs(uplift: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """The linear program's gain per unit."""
    n, m = uplift.shape
    one_arm = sparse.kron(sparse.eye(n), np.ones((1, m)))
    money = sparse.csr_array(cost.reshape(1, -1) / n)
    found = optimize.linprog(
        -uplift.ravel() / n, A_ub=sparse.vstack([one_arm, money]), b_ub=np.r_[np.ones(n), budget], bounds=(0, 1),
        method="highs",
    )  # fmt: skip
    return -float(found.fun)


def against_highs(rounds: int) -> None:
    """The same program by both."""
    print(f"{'rows':>10}  {'HiGHS':>9}  {'causalrec':>9}  {'ratio':>7}  gains")
    for n in (1_000, 10_000, 50_000):
        uplift, cost = arms(n)
        budget = allocate(uplift, cost=cost).spend / 2
        theirs, slow = timed(lambda u=uplift, c=cost, b=budget: by_highs(u, c, b), 1)
        ours, fast = timed(lambda u=uplift, c=cost, b=budget: allocate(u, cost=c, budget=b), rounds)
        print(f"{n:>10,}  {slow:>9.3f}  {fast:>9.4f}  {slow / fast:>7.0f}  {theirs:.9f} {ours.gain:.9f}")


def alone(n: int, large: int, rounds: int) -> None:
    """Sizes for causalrec only."""
    y, uplift, treatment, cost = experiment(n, ARMS)
    frame = pd.DataFrame(uplift, columns=range(1, ARMS + 1))
    given = {"cost": cost, "control": 0}
    report(f"allocate, {n:,} x {ARMS}", lambda: allocate(uplift, cost=cost, budget=0.3), rounds)
    report(f"cost_curve, {n:,} x {ARMS}", lambda: cost_curve(y, uplift, treatment, **given), rounds)
    users = np.random.default_rng(3).integers(0, n // 4, n)
    report(f"cost_curve by cluster, {n:,} x {ARMS}",
           lambda: cost_curve(y, uplift, treatment, clusters=users, **given), rounds)  # fmt: skip
    rules = {"all arms": frame, "first arm": frame[[1]]}
    report(f"compare_cost_curves, {n:,} x {ARMS}", lambda: compare_cost_curves(y, rules, treatment, **given), rounds)
    report(f"profit_curve, {n:,} x {ARMS}",
           lambda: profit_curve(y, uplift, treatment, value=1.0, **given), rounds)  # fmt: skip
    if large:
        del y, uplift, treatment, cost, frame, rules, given
        y, uplift, treatment, _ = experiment(large, 1)
        report(f"cost_curve, {large:,} x 1", lambda: cost_curve(y, uplift, treatment, cost=0.5), 1)
        report(f"profit_curve, {large:,} x 1", lambda: profit_curve(y, uplift, treatment, value=1.0, cost=0.5), 1)


def report(name: str, call: Callable[[], Any], rounds: int) -> None:
    """A line of seconds and memory."""
    _, seconds = timed(call, rounds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:<42} {seconds:>7.2f} s, at most {memory:.2f} GiB so far")


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=0, help="rows of one arm, such as 14000000; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    against_highs(options.rounds)
    alone(options.rows, options.large, options.rounds)


if __name__ == "__main__":
    main()
