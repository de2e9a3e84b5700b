"""Sequential and Bayesian analysis: what a look costs once the moments are known.

Every measurement is the fastest of its repeats, on one core.

Run: ``python experiments/benchmarks/bench_sequential.py [--metrics 1000] [--repeats 5] [--only look]``
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import special

from causalrec.abtest import (
    AlwaysValid,
    Estimate,
    FixedHorizon,
    GroupSequential,
    Inference,
    PowerFamily,
    group_sequential_bounds,
    infer,
)
from causalrec.abtest.bayes.laws import Betas
from causalrec.abtest.bayes.quadrature import expected_loss, prob_best
from causalrec.abtest.estimation.estimates import difference
from causalrec.abtest.estimation.scores import Names, Stratum
from causalrec.abtest.sequential.bounds import solve_bounds
from causalrec.moments import Moments


def seconds(task: Callable[[], Any], repeats: int) -> float:
    """The fastest of the repeats, after one that warms up."""
    task()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return min(taken)


def per_call(task: Callable[[], Any], repeats: int, calls: int = 1_000) -> float:
    """Seconds of one of many calls."""
    return seconds(lambda: [task() for _ in range(calls)], repeats) / calls


def moments_of_metrics(n_metrics: int, n_units: int = 1_000) -> list[tuple[Moments, Moments]]:
    """Both arms' moments of metrics with values of many scales."""
    rng = np.random.default_rng(0)
    scales = rng.lognormal(0, 2, n_metrics)
    return [tuple(Moments.from_array(rng.exponential(s, (n_units, 1)), ["value"]) for _ in range(2)) for s in scales]  # type: ignore[misc]


def bench_look(console: Console, n_metrics: int, repeats: int) -> None:
    """A look over many metrics: from moments to estimates, p-values and intervals."""
    arms = moments_of_metrics(n_metrics)
    names = Names("spend", "A", "B")
    estimates = [difference([Stratum("", *pair)], names) for pair in arms]

    def look(inference: Inference, found: list[Estimate] | None = None) -> None:
        for estimate in found or (difference([Stratum("", *pair)], names) for pair in arms):
            infer(estimate, metric="spend", control="A", treatment="B", inference=inference)

    table = Table(title=f"A look over {n_metrics:,} metrics: milliseconds in all")
    for column in ("inference", "from moments", "from estimates"):
        table.add_column(column, justify="left" if column == "inference" else "right")
    for inference in (FixedHorizon(), AlwaysValid()):
        taken = [seconds(lambda i=inference, e=e: look(i, e), repeats) for e in (None, estimates)]
        table.add_row(inference.name, *(f"{1e3 * s:.0f}" for s in taken))
    console.print(table)


def bench_calls(console: Console, n_metrics: int, repeats: int) -> None:  # noqa: ARG001 - one signature for all
    """What the parts of an always valid look cost."""
    estimate = Estimate(10.0, 10.4, 0.02, 0.02, 0.0, float("inf"), 500, 500, "z")
    table = Table(title="Always valid: microseconds a call")
    for column in ("call", "two-sided", "one-sided"):
        table.add_column(column, justify="left" if column == "call" else "right")
    ways = AlwaysValid()
    for name, call in (("critical", ways.critical), ("pvalue", ways.pvalue)):
        taken = [per_call(lambda c=call, t=two: c(estimate, 0.05, two_sided=t), repeats) for two in (True, False)]
        table.add_row(name, *(f"{1e6 * s:.2f}" for s in taken))
    console.print(table)


_PEER_CODE = """
import sys, time, numpy as np
from spotify_confidence.analysis.frequentist.sequential_bound_solver import bounds
t, best = np.arange(1, 51) / 50, 1e9
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    found = bounds(t, 0.05, 2, 8, 2)
    best = min(best, time.perf_counter() - start)
print(best, found.bounds[-1])
"""


def bench_bounds(console: Console, n_metrics: int, repeats: int) -> None:
    """Fifty looks' bounds, alpha t^2, against spotify-confidence's solver; and a look over many metrics.

    For the peer name the Python of an environment that has it in CAUSALREC_PEER_PYTHON.
    """
    looks = np.arange(1, 51) / 50

    def solve() -> float:
        solve_bounds.cache_clear()
        return float(group_sequential_bounds(looks, spending=PowerFamily(2)).upper[-1])

    ours = seconds(solve, repeats)
    table = Table(title="Bounds of 50 looks: milliseconds")
    for column in ("solver", "milliseconds", "last bound"):
        table.add_column(column, justify="left" if column == "solver" else "right")
    table.add_row("causalrec", f"{1e3 * ours:.1f}", f"{solve():.6f}")
    peer = os.environ.get("CAUSALREC_PEER_PYTHON")
    if peer:
        done = subprocess.run([peer, "-c", _PEER_CODE, str(repeats)], check=True, capture_output=True, text=True)
        taken, last = map(float, done.stdout.split())
        table.add_row("spotify-confidence", f"{1e3 * taken:.1f}", f"{last:.6f}")
        console.print(f"causalrec is {taken / ours:.1f} times as quick")
    console.print(table)
    estimates = [Estimate(10.0, 10.0 + d, 0.02, 0.02, 0.0, 998.0, 500, 500, "t") for d in np.linspace(0, 1, n_metrics)]
    table = Table(title=f"A group-sequential look over {n_metrics:,} metrics: milliseconds")
    for column in ("looks", "first time", "again"):
        table.add_column(column, justify="right")
    for n in (5, 10, 20, 50):
        plan = GroupSequential(tuple(looks[:n]))

        def look(plan: GroupSequential = plan) -> None:
            for estimate in estimates:
                infer(estimate, metric="spend", control="A", treatment="B", inference=plan)

        start = time.perf_counter()
        look()
        first = time.perf_counter() - start
        table.add_row(str(n), f"{1e3 * first:.0f}", f"{1e3 * seconds(look, repeats):.0f}")
    console.print(table)


def bench_best(console: Console, n_metrics: int, repeats: int) -> None:  # noqa: ARG001 - one signature for all
    """P(best) of ten arms by quadrature, and by as many draws as its error of 1e-4 and of ours takes."""
    arms = Betas.of(np.array([950, 975, 980, 990, 1000, 1003, 1010, 1015, 1020, 1021]) + 0.5, 9_000.5)
    exact = prob_best(arms)
    ours = seconds(lambda: prob_best(arms), repeats)
    loss = seconds(lambda: expected_loss(arms), repeats)
    # The same integrals over the probability of each arm, in whose place ours has the logit of the value.
    x, w = np.polynomial.legendre.leggauss(2_000)
    u, du = (x + 1) / 2, w / 2
    values = [special.betaincinv(a, b, u) for a, b in zip(arms.first, arms.second, strict=True)]
    check = [np.delete(arms.cdf(v), i, axis=0).prod(axis=0) @ du for i, v in enumerate(values)]
    rng, n = np.random.default_rng(0), 1_000_000

    def by_draws() -> np.ndarray:
        draws = rng.beta(arms.first, arms.second, (n, len(arms)))
        return np.bincount(draws.argmax(axis=1), minlength=len(arms)) / n

    start = time.perf_counter()
    found = by_draws()
    drawn = time.perf_counter() - start
    error = float(np.sqrt(exact * (1 - exact) / n).max())
    table = Table(title="P(best) of ten arms of 10,000 units")
    for column in ("way", "milliseconds", "error"):
        table.add_column(column, justify="left" if column == "way" else "right")
    table.add_row("causalrec", f"{1e3 * ours:.1f}", f"{abs(exact - check).max():.0e}")
    table.add_row("causalrec, expected loss of each", f"{1e3 * loss:.1f}", "")
    table.add_row("numpy, a million draws", f"{1e3 * drawn:.0f}", f"{error:.0e} (found {abs(found - exact).max():.0e})")
    enough = drawn * (error / 1e-4) ** 2
    table.add_row("numpy, as many draws as 1e-4 takes", f"{1e3 * enough:.0f} (reckoned)", "1e-04")
    console.print(table)
    console.print(f"causalrec is {enough / ours:.0f} times as quick as draws with a standard error of 1e-4")


BENCHES: dict[str, Callable[[Console, int, int], None]] = {
    "look": bench_look,
    "calls": bench_calls,
    "bounds": bench_bounds,
    "best": bench_best,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=sorted(BENCHES), nargs="+", default=list(BENCHES))
    options = parser.parse_args()
    console = Console(width=120)
    for name in options.only:
        BENCHES[name](console, options.metrics, options.repeats)


if __name__ == "__main__":
    main()
