"""A study's report, stage by stage: where the time of ``study.report()`` goes.

The stages are those of the report, in its order and on one study, so that what one has fitted serves the next; then a
whole report of a fresh study. Seconds of the clock and of the processor.

Run: ``python experiments/benchmarks/bench_report.py``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from causalrec.observational import ObservationalStudy


def make_study(n: int, n_covariates: int) -> ObservationalStudy:
    """Confounded by all covariates, effect 0.3."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_covariates))
    lean = X @ rng.normal(0, 0.2, n_covariates)
    sent = (rng.random(n) < 1 / (1 + np.exp(-lean))).astype(np.int64)
    names = [f"x{i}" for i in range(n_covariates)]
    frame = pd.DataFrame(X, columns=names).assign(sent=sent, spend=lean + 0.3 * sent + rng.normal(size=n))
    return ObservationalStudy(frame, treatment="sent", outcome="spend", covariates=names)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What work gives, and its seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--covariates", type=int, default=20)
    parser.add_argument("--n-simulations", type=int, default=100)
    given = parser.parse_args()
    study = make_study(given.rows, given.covariates)
    table = Table(title=f"study.report() on {given.rows:,} × {given.covariates}", title_justify="left")
    for name in ("stage", "seconds", "CPU seconds"):
        table.add_column(name, justify="left" if name == "stage" else "right")

    def stage(name: str, work: Callable[[], Any]) -> Any:
        found, clock, processor = timed(work)
        table.add_row(name, f"{clock:.1f}", f"{processor:.1f}")
        return found

    effect = stage("estimate (cross-fitted AIPW)", study.estimate)
    stage("compare", study.compare)
    stage("balance and overlap", lambda: (study.balance(effect), study.overlap()))
    quick = study.estimate("aipw_parametric")
    stage(f"refute ({given.n_simulations} simulations)", lambda: study.refute(quick, n_simulations=given.n_simulations))
    stage("sensitivity", lambda: study.sensitivity(effect))
    fresh = make_study(given.rows, given.covariates)
    report = stage("the whole report, anew", lambda: fresh.report(n_simulations=given.n_simulations))
    console = Console()
    console.print(table)
    console.print(report.conclusion)


if __name__ == "__main__":
    main()
