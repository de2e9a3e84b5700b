"""Matching without replacement within a caliper: causalrec against causalml in one run, and ten million rows.

Both get the same propensity scores, treated units in the order of their rows and the same caliper (0.2 standard
deviations of the score). The pairs are first shown to be the same, one by one; then each is timed. causalml's effect
has no error; ours is timed with and without the effect, whose error is clustered by pair.

causalml does not share an environment with causalrec; make one, and name it:

    python -m venv peers
    peers/bin/pip install "causalml==0.18.*"
    python experiments/benchmarks/bench_pairs.py --peer-python peers/bin/python

or set CAUSALREC_UPLIFT_PEER_PYTHON. Without either causalml is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

PEER = "CAUSALREC_UPLIFT_PEER_PYTHON"
CAUSALML = """
import json, sys, time
import numpy as np, pandas as pd
from causalml.match import NearestNeighborMatch
stored = np.load(sys.argv[1])
frame = pd.DataFrame({"t": stored["t"], "score": stored["score"]})
matcher = NearestNeighborMatch(caliper=0.2, replace=False, ratio=1, shuffle=False)
start, cpu = time.perf_counter(), time.process_time()
matcher.match(frame, "t", ["score"])
seconds = time.perf_counter() - start, time.process_time() - cpu
np.save(sys.argv[2], matcher.matched_indexes_.to_numpy())
print(json.dumps(seconds))
"""


def make_rows(n: int) -> dict[str, np.ndarray]:
    """A fifth of the rows is treated; the effect is 1, confounded through the score."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    score = 1 / (1 + np.exp(1.7 - x))
    t = (rng.random(n) < score).astype(np.int64)
    return {"score": score, "t": t, "y": x + t + rng.normal(size=n)}


def ours(rows: dict[str, np.ndarray], **options: Any) -> Any:
    from causalrec.observational import match

    # causalml's standard deviation divides by n.
    caliper = 0.2 * float(rows["score"].std())
    return match(propensity=rows["score"], treatment=rows["t"], replace=False, caliper=caliper, caliper_scale="raw",
                 **options)  # fmt: skip


def seconds(call: Any, repeats: int) -> tuple[float, float]:
    """The fastest of a few runs: seconds, and seconds of CPU."""
    found = []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - start, time.process_time() - cpu))
    return min(s for s, _ in found), min(c for _, c in found)


def causalml(rows: dict[str, np.ndarray], python: str) -> tuple[tuple[float, float], np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        stored, pairs = Path(folder) / "rows.npz", Path(folder) / "pairs.npy"
        np.savez(stored, t=rows["t"], score=rows["score"])
        done = subprocess.run(
            [python, "-c", CAUSALML, str(stored), str(pairs)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"causalml failed:\n{done.stderr[-2000:]}")
        return tuple(json.loads(done.stdout.splitlines()[-1])), np.load(pairs)


def check_equal(rows: dict[str, np.ndarray], theirs: np.ndarray) -> int:
    """Pair by pair; continuous scores have no ties."""
    pairs = ours(rows, order="data", ties="first").pairs()
    expected = theirs[np.argsort(theirs[:, 0])]
    if not np.array_equal(pairs[["unit", "match"]].to_numpy(), expected):
        raise SystemExit("the pairs differ from causalml's; a comparison of times would be void.")
    return len(pairs)


def effect(rows: dict[str, np.ndarray], **options: Any) -> Any:
    from causalrec.observational import matching_effect

    return matching_effect(rows["y"], ours(rows, **options), treatment=rows["t"])


def large(n: int) -> None:
    """Many rows in a process of their own, to see its memory; printed as JSON."""
    rows = make_rows(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start, cpu = time.perf_counter(), time.process_time()
    found = effect(rows, order="descending")
    spent = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps([*spent, before, peak, int(found.n_treated), found.estimate, found.std_error]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=10_000_000, help="rows of the large run; 0 for none")
    parser.add_argument("--peer-python", default=os.environ.get(PEER), help="a Python that has causalml")
    parser.add_argument("--only-large", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_large:
        large(arguments.only_large)
        return
    rows = make_rows(arguments.rows)
    table = Table("", "s", "CPU, s", "causalml / causalrec", "by CPU", title=f"{arguments.rows:,} rows, 1:1, caliper")
    timed = [("causalrec, turns by rows", seconds(lambda: ours(rows, order="data", ties="first"), 5)),
             ("causalrec, descending, ties shared", seconds(lambda: ours(rows), 5)),
             ("the same with the effect and its error", seconds(lambda: effect(rows), 5)),
             ("causalrec, optimal pairs", seconds(lambda: ours(rows, method="optimal"), 3)),
             ("causalrec, full matching", seconds(lambda: ours(rows, method="full"), 3))]  # fmt: skip
    console = Console(width=120)
    peer = None
    if arguments.peer_python:
        peer, pairs = causalml(rows, arguments.peer_python)
        console.print(f"{check_equal(rows, pairs):,} pairs, the same as causalml's.")
        table.add_row("causalml, turns by rows", f"{peer[0]:.2f}", f"{peer[1]:.2f}", "", "")
    for label, spent in timed:
        ratios = [f"{p / s:.0f}" for p, s in zip(peer, spent, strict=True)] if peer else ["", ""]
        table.add_row(label, f"{spent[0]:.3f}", f"{spent[1]:.3f}", *ratios)
    console.print(table)
    if arguments.large:
        done = subprocess.run([sys.executable, __file__, "--only-large", str(arguments.large)],
                              capture_output=True, text=True, check=True)  # fmt: skip
        wall, cpu, before, peak, n_pairs, estimate, error = json.loads(done.stdout)
        console.print(
            f"{arguments.large:,} rows: {n_pairs:,} pairs, effect {estimate:.4f} (error {error:.4f}) in {wall:.1f} s, "
            f"{cpu:.1f} s of CPU; peak {peak:.1f} GiB, of which {before:.1f} before."
        )


if __name__ == "__main__":
    main()
