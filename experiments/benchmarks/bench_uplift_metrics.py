"""Uplift metrics on a million rows: causalrec against scikit-uplift and causalml, in one run.

1M rows, a 0/1 outcome of about 11%, half treated, a continuous score. Each measurement is a process of its own that
loads the rows, imports, and computes the number several times; seconds and CPU seconds are the least. The numbers are
the same where they have the same definition: causalrec's ``convention="sklift"`` is compared with scikit-uplift's.

- The point value: causalrec, scikit-uplift (``qini_auc_score``), causalml (``qini_score``).
- With a 95% interval, by row and by cluster (five rows a user); AUTOC and uplift@10% likewise. The others have none.
- Two scorers in a pair, with an interval for the difference.
- 1,000 bootstrap replicates of whole users.
- 14M rows of Criteo's shape: Qini with interval, and the memory of the whole process.

causalml and scikit-uplift do not share an environment with causalrec; make one, and name it:

    python3 -m venv peers
    peers/bin/pip install "causalml==0.18.*" "scikit-uplift==0.5.*"
    python experiments/benchmarks/bench_uplift_metrics.py --peer peers/bin/python

or set CAUSALREC_UPLIFT_PEER_PYTHON. Without either they are left out.

Run: ``python experiments/benchmarks/bench_uplift_metrics.py [--rows 1000000] [--large 14000000] [--rounds 2]``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_uplift import load, memory

Rows = dict[str, Any]
OURS, SKLIFT, CAUSALML = "causalrec", "scikit-uplift", "causalml"


def write_rows(n: int, path: Path, seed: int = 0) -> None:
    """A randomised test with a score that is right about half of what it says; five rows a user."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    treatment = rng.integers(0, 2, n)
    y = (rng.random(n) < 0.1 + 0.02 * treatment * (x > 0)).astype(np.int64)
    arrays = {
        "y": y, "treatment": treatment, "uplift": x + rng.normal(size=n), "other": x + 2 * rng.normal(size=n),
        "users": rng.integers(0, n // 5, n),
    }  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)


def write_criteo_shape(n: int, path: Path, seed: int = 0) -> None:
    """85% treated, about 5% visit, a score and nothing else: the shape of Criteo's uplift set."""
    import numpy as np

    rng = np.random.default_rng(seed)
    uplift = rng.normal(size=n)
    treatment = (rng.random(n) < 0.85).astype(np.int64)
    y = (rng.random(n) < 0.045 + 0.01 * treatment * (uplift > 1)).astype(np.float64)
    path.mkdir(parents=True, exist_ok=True)
    for name, values in {"y": y, "treatment": treatment, "uplift": uplift}.items():
        np.save(path / f"{name}.npy", values)


def ours(rows: Rows) -> dict[str, Callable[[], Any]]:
    """What causalrec computes, by name."""
    from causalrec.evaluation import bootstrap_metric, compare_scorers, qini_score, rate, uplift_at_k

    three = rows["y"], rows["uplift"], rows["treatment"]
    return {
        "Qini, value": lambda: qini_score(*three, confidence_level=None),
        "Qini, interval": lambda: qini_score(*three),
        "Qini, clustered interval": lambda: qini_score(*three, clusters=rows["users"]),
        "AUTOC, interval": lambda: rate(*three),
        "uplift@10%, interval": lambda: uplift_at_k(*three),
        "scikit-uplift's Qini, value": lambda: qini_score(*three, convention="sklift", confidence_level=None),
        "two scorers and their difference": lambda: compare_scorers(
            rows["y"], {"one": rows["uplift"], "other": rows["other"]}, rows["treatment"]
        ),
        "1,000 replicates of users": lambda: bootstrap_metric(*three, clusters=rows["users"], rng=0),
    }


def scikit_uplift(rows: Rows) -> dict[str, Callable[[], Any]]:
    """What scikit-uplift computes."""
    from sklift.metrics import qini_auc_score, uplift_at_k

    three = rows["y"], rows["uplift"], rows["treatment"]
    return {
        "Qini, value": lambda: qini_auc_score(*three),
        "uplift@10%, value": lambda: uplift_at_k(*three, strategy="overall", k=0.1),
    }


def causalml(rows: Rows) -> dict[str, Callable[[], Any]]:
    """What causalml computes."""
    import pandas as pd
    from causalml.metrics import qini_score

    frame = pd.DataFrame({"y": rows["y"], "w": rows["treatment"], "model": rows["uplift"]})
    return {"Qini, value": lambda: float(qini_score(frame, outcome_col="y", treatment_col="w")["model"])}


SYSTEMS = {OURS: ours, SKLIFT: scikit_uplift, CAUSALML: causalml}


def measure(system: str, what: str, path: Path, repeats: int) -> None:
    """Print seconds, peak memory and the number, as JSON."""
    import numpy as np

    warnings.simplefilter("ignore")
    rows = load(path)
    call = SYSTEMS[system](rows)[what]
    held = memory("VmRSS")
    clocks = []
    for _ in range(1 if what.startswith("1,000") else repeats):
        start, cpu = time.perf_counter(), time.process_time()
        found = call()
        clocks.append((time.perf_counter() - start, time.process_time() - cpu))
    number = float(np.ravel(getattr(found, "estimate", found))[0])
    print(json.dumps({
        "seconds": min(c[0] for c in clocks), "cpu": min(c[1] for c in clocks), "first": clocks[0][1],
        "gigabytes": memory("VmHWM"), "held": held, "number": number,
    }))  # fmt: skip


def in_process(python: str, system: str, what: str, path: Path, repeats: int) -> dict[str, Any]:
    """A measurement in a process of its own."""
    command = [python, __file__, "--measure", system, what, str(path), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} by {system} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def contest(path: Path, peer: str | None, rounds: int, repeats: int, only: str) -> Any:
    """All measurements in turns; the least of each."""
    from rich.table import Table

    peers = [(SKLIFT, "Qini, value"), (CAUSALML, "Qini, value"), (SKLIFT, "uplift@10%, value")] if peer else []
    tasks = [*((OURS, what) for what in ours(dict.fromkeys(("y", "uplift", "treatment")))), *peers]
    tasks = [(system, what) for system, what in tasks if only in what]
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(rounds):
        for system, what in tasks:
            found = in_process(sys.executable if system == OURS else str(peer), system, what, path, repeats)
            print(f"  {system}, {what}: {found}", file=sys.stderr)
            for key in ("seconds", "cpu", "first", "gigabytes"):
                found[key] = min(found[key], best.get((system, what), found)[key])
            best[system, what] = found
    first = next((task for task in peers if task in best), tasks[0])
    base = best[first]
    table = Table(title=f"ratio: to {first[1]} of {first[0]}, above 1 is faster")
    for column in ("", "", "seconds", "CPU s", "first call", "GiB above the rows", "ratio, CPU", "number"):
        table.add_column(column, justify="left" if not column else "right")
    for (system, what), found in best.items():
        table.add_row(
            what, system, f"{found['seconds']:.3f}", f"{found['cpu']:.3f}", f"{found['first']:.3f}",
            f"{found['gigabytes'] - found['held']:.2f}", f"{base['cpu'] / found['cpu']:.2f}", f"{found['number']:.8f}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=14_000_000, help="rows of the last measurement; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="calls in a process")
    parser.add_argument("--peer", default=os.environ.get("CAUSALREC_UPLIFT_PEER_PYTHON"), help="a Python with both")
    parser.add_argument("--only", default="", help="measurements with this in their name")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        system, what, path, repeats = options.measure
        measure(system, what, Path(path), int(repeats))
        return
    from rich.console import Console

    console = Console(width=150)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write_rows(options.rows, place / "rows")
        console.print(contest(place / "rows", options.peer, options.rounds, options.repeats, options.only))
        console.print(f"{options.rows:,} rows; load of the machine at the end {os.getloadavg()[0]:.1f}.")
        if options.large:
            write_criteo_shape(options.large, place / "large")
            found = in_process(sys.executable, OURS, "Qini, interval", place / "large", 1)
            console.print(
                f"{options.large:,} rows, Qini with interval: {found['seconds']:.1f} s, CPU {found['cpu']:.1f} s, "
                f"at most {found['gigabytes']:.2f} GiB, {found['held']:.2f} of it rows and imports."
            )


if __name__ == "__main__":
    main()
