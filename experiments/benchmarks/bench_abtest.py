"""An A/B test of four metrics: causalrec against tea-tasting, in one run.

Ten million users of two arms; a mean, a ratio of means, and two means with CUPED. The users are a Polars frame, a lazy
Polars scan of a Parquet file, or the path of that file (tea-tasting: an Ibis table on DuckDB). Every measurement is a
process of its own, taken in turns: seconds are those of the fastest of its analyses, by the clock and of all cores
together (which say more on a busy machine); memory is the most that the process ever held, with the data where that is
a frame. The two must agree on every effect and standard error.

Then causalrec alone: the same users with segments, strata, days and a quantile; ten million rows of a million users,
who are clusters; and what remains once the moments are known, per metric and pair of arms.

tea-tasting is no dependency of causalrec. Where this interpreter has none, make one that has, and name it:

    python3 -m venv peers
    peers/bin/pip install tea-tasting polars pyarrow "ibis-framework[duckdb]"
    python experiments/benchmarks/bench_abtest.py --peer peers/bin/python

or set CAUSALREC_PEER_PYTHON. Without either causalrec is measured alone.

Run: ``python experiments/benchmarks/bench_abtest.py [--users 10000000] [--rounds 5]``
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEER, OURS = "tea-tasting", "causalrec"
SOURCES = {"polars": "Polars frame", "lazy": "lazy Polars scan of Parquet", "parquet": "Parquet path"}
LARGE = {
    "split": "3 segments, 14 days and a quantile",
    "clusters": "rows of a tenth as many users: clusters",
    "everything": "clusters with a segment, a stratum and days",
}
N_ANALYSES = 4
Numbers = dict[str, list[float]]  # by metric: effect and standard error


def write_users(n: int, path: Path, seed: int = 0) -> None:
    """A row per user: whole numbers and money, with what each did before the experiment."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    taste = rng.gamma(2.0, 0.5, n)
    variant = rng.integers(0, 2, n)
    sessions = 1 + rng.poisson(taste + 0.02 * variant)
    orders = rng.binomial(sessions, 0.25)
    users = pl.DataFrame({
        "user": rng.integers(0, n // 10, n),
        "variant": variant,
        "sessions": sessions,
        "orders": orders,
        "revenue": np.where(orders > 0, orders * rng.lognormal(2.0, 0.7, n), 0.0),
        "orders_before": rng.binomial(1 + rng.poisson(taste), 0.25),
        "revenue_before": rng.poisson(taste) * rng.lognormal(2.0, 0.7, n),
        "device": rng.choice(["phone", "web", "tablet"], n),
        "region": rng.choice(["north", "east", "south", "west"], n),
        "day": rng.integers(0, 14, n),
    })  # fmt: skip
    users = users.with_columns(
        arm=pl.col("user") % 2, home=pl.format("region {}", pl.col("user") // 2 % 4),
    )  # fmt: skip
    users.write_parquet(path, row_group_size=122_880)


COLUMNS = ["variant", "sessions", "orders", "revenue", "orders_before", "revenue_before"]


def our_table(source: str, path: Path) -> Any:
    """The users as causalrec is given them."""
    if source == "parquet":
        return path
    import polars as pl

    return pl.read_parquet(path, columns=COLUMNS) if source == "polars" else pl.scan_parquet(path)


def ours(source: str, path: Path) -> Callable[[], Numbers]:
    """An analysis by causalrec."""
    from causalrec.abtest import Experiment, Mean, Quantile, Ratio

    metrics: dict[str, Any] = {
        "sessions": Mean("sessions"),
        "orders_per_session": Ratio("orders", "sessions"),
        "orders": Mean("orders", covariates=("orders_before",)),
        "revenue": Mean("revenue", covariates=("revenue_before",)),
    }
    split: dict[str, Any] = {"segments": "device", "day": "day"}
    designs: dict[str, dict[str, Any]] = {
        "split": {**split, "metrics": {**metrics, "p90": Quantile("revenue", 0.9)}},
        "clusters": {"variant": "arm", "cluster": "user"},
        "everything": {**split, "variant": "arm", "cluster": "user", "strata": "home"},
    }
    experiment = Experiment(**{"metrics": metrics, "variant": "variant", "control": 0, **designs.get(source, {})})
    table = our_table("parquet" if source in LARGE else source, path)

    def analysis() -> Numbers:
        result = experiment.analyze(table)
        return {name: [result[name].estimate, result[name].std_error] for name in metrics}

    return analysis


def theirs(source: str, path: Path) -> Callable[[], Numbers]:
    """The same analysis by tea-tasting."""
    import tea_tasting as tt  # type: ignore[import-not-found]

    experiment = tt.Experiment(
        sessions=tt.Mean("sessions"),
        orders_per_session=tt.RatioOfMeans("orders", "sessions"),
        orders=tt.Mean("orders", covariate="orders_before"),
        revenue=tt.Mean("revenue", covariate="revenue_before"),
    )
    if source == "parquet":
        import ibis  # type: ignore[import-not-found]

        table: Any = ibis.duckdb.connect().read_parquet(str(path))
    else:
        table = our_table(source, path)

    def analysis() -> Numbers:
        found = experiment.analyze(table, control=0)
        numbers = {}
        for name in ("sessions", "orders_per_session", "orders", "revenue"):
            one = found[name]
            half_width = (one.effect_size_ci_upper - one.effect_size_ci_lower) / 2
            numbers[name] = [one.treatment - one.control, half_width / 1.959963984540054]
        return numbers

    return analysis


def measure(system: str, source: str, path: Path) -> None:
    """Print seconds, peak memory and the numbers, as JSON."""
    analysis = (ours if system == OURS else theirs)(source, path)
    took, used, numbers = [], [], {}
    for _ in range(1 if source in LARGE else N_ANALYSES):
        start, before = time.perf_counter(), time.process_time()
        numbers = analysis()
        took.append(time.perf_counter() - start)
        used.append(time.process_time() - before)
    found = {"seconds": min(took), "cpu": min(used), "first": took[0], "gigabytes": peak_memory(), "numbers": numbers}
    print(json.dumps(found))


def peak_memory() -> float:
    """The most that this process held, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def in_process(python: str, system: str, source: str, path: Path) -> dict[str, Any]:
    """A measurement in a process of its own."""
    command = [python, __file__, "--measure", system, source, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system} from {source} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def find_peer(given: str | None) -> str | None:
    """The interpreter that has tea-tasting."""
    if importlib.util.find_spec("tea_tasting") is not None:
        return sys.executable
    return given or os.environ.get("CAUSALREC_PEER_PYTHON")


def check_equal(one: Numbers, two: Numbers) -> None:
    """Effects and standard errors must be the same, or the comparison of times would be void."""
    for name, numbers in one.items():
        for mine, other in zip(numbers, two[name], strict=True):
            if abs(mine - other) > 1e-5 * abs(numbers[1]):
                raise SystemExit(f"{name}: {OURS} gives {mine}, {PEER} {other}; a comparison of times would be void.")


def contest(path: Path, peer: str | None, rounds: int) -> Any:
    """All measurements in turns; the least of each."""
    from rich.table import Table

    systems = {OURS: sys.executable, **({PEER: peer} if peer else {})}
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(rounds):
        for source in SOURCES:
            for system, python in systems.items():
                found = in_process(python, system, source, path)
                if (system, source) in best:
                    for key in ("seconds", "cpu", "first", "gigabytes"):
                        found[key] = min(found[key], best[system, source][key])
                best[system, source] = found
    table = Table(title="four metrics, two of them with CUPED")
    for column in ("from", "", "seconds", "of all cores", "the first", "memory, GiB", "ratio: s", "of cores", "memory"):
        table.add_column(column, justify="left" if column in ("from", "") else "right")
    for source, label in SOURCES.items():
        mine = best[OURS, source]
        for system in systems:
            found = best[system, source]
            check_equal(mine["numbers"], found["numbers"])
            ratios = (found[key] / mine[key] for key in ("seconds", "cpu", "gigabytes"))
            table.add_row(
                label, system, f"{found['seconds']:.3f}", f"{found['cpu']:.3f}", f"{found['first']:.3f}",
                f"{found['gigabytes']:.2f}",
                *(f"{r:.2f}" for r in ratios),
            )  # fmt: skip
    return table


def large(path: Path) -> Any:
    """What else the same rows are asked, from the file."""
    from rich.table import Table

    table = Table(title="causalrec from the Parquet path, one analysis")
    for column in ("", "seconds", "peak memory, GiB"):
        table.add_column(column, justify="right" if column else "left")
    for source, label in LARGE.items():
        found = in_process(sys.executable, OURS, source, path)
        table.add_row(label, f"{found['seconds']:.1f}", f"{found['gigabytes']:.2f}")
    return table


def from_moments() -> Any:
    """Seconds from moments to effect, interval and test, of one metric in one pair of arms; the least of many."""
    import numpy as np
    from rich.table import Table

    from causalrec.abtest import Mean, Proportion, Ratio
    from causalrec.abtest.aggregates import Cell
    from causalrec.abtest.comparisons import Question, compare
    from causalrec.abtest.estimation.scores import Names
    from causalrec.abtest.metrics import Metric
    from causalrec.moments import Moments

    rng = np.random.default_rng(0)
    five = [f"before_{j}" for j in range(5)]
    metrics: dict[str, tuple[Metric, list[str]]] = {
        "mean": (Mean("y"), ["value"]),
        "mean of clusters": (Mean("y"), ["value", "rows"]),
        "ratio": (Ratio("y", "z"), ["value", "den"]),
        "proportion": (Proportion("y"), ["value"]),
        "mean, 1 covariate": (Mean("y", covariates=five[:1]), ["value", *five[:1]]),
        "mean, 5 covariates": (Mean("y", covariates=five), ["value", *five]),
        "ratio, 2 covariates": (Ratio("y", "z", covariates=five[:2]), ["value", "den", *five[:2]]),
    }
    names, question = Names("y", "control", "treatment"), Question()
    table = Table(title="causalrec from moments, one metric and pair")
    table.add_column("")
    table.add_column("microseconds", justify="right")
    for label, (metric, columns) in metrics.items():
        arms = rng.normal(5, 1, (2, 1_000, len(columns)))
        if label == "proportion":
            arms = (arms > 5).astype(float)
        control, treatment = (Cell(1_000, {"y": Moments.from_array(arm, columns)}) for arm in arms)
        least = math.inf
        for _ in range(5_000):
            start = time.perf_counter()
            compare(metric, names, [(None, control, treatment)], question)
            least = min(least, time.perf_counter() - start)
        table.add_row(label, f"{least * 1e6:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="a Python with tea-tasting, Polars and Ibis with DuckDB")
    parser.add_argument("--data", type=Path, help="a file of an earlier run, or where to keep it")
    parser.add_argument("--measure", nargs=3, metavar=("SYSTEM", "SOURCE", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        system, source, path = options.measure
        measure(system, source, Path(path))
        return
    from rich.console import Console

    console = Console(width=120)
    peer = find_peer(options.peer)
    with tempfile.TemporaryDirectory() as scratch:
        path = options.data or Path(scratch) / "users.parquet"
        if not path.exists():
            write_users(options.users, path)
        console.print(contest(path, peer, options.rounds))
        console.print(
            f"The least of {options.rounds} processes each; load of the machine {os.getloadavg()[0]:.1f} at the end. "
            + ("Same numbers from both.\n" if peer else f"{PEER} was not found: see --help.\n")
        )
        console.print(large(path))
        console.print(from_moments())


if __name__ == "__main__":
    main()
