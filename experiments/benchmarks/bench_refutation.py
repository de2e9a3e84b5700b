"""Refutations: causalrec against DoWhy's placebo refuter, in one run.

Both get the same frame, adjust for the same covariates, and permute the treatment (DoWhy's default draws it anew at one
half, whatever the prevalence). Before anything is timed our fast estimates are shown to equal full refits by our own
methods, and the two placebos to have the same spread. Then each is timed as a user would call it, in turns, one job
each. DoWhy's is asked for fewer simulations, and its time scaled to ours by their number; the table says so.

A refutation of a parametric doubly robust estimate by the default refuters, as a study's report makes it, is timed
beside them without a counterpart.

Run: ``python experiments/benchmarks/bench_refutation.py``
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from causalrec.observational import ObservationalStudy, estimate_ate
from experiments.benchmarks.bench_matching import (
    COVARIATES,
    MATCHING,
    dowhy_estimate,
    dowhy_model,
    in_turns,
    make_frame,
)

LINEAR = "backdoor.linear_regression"
REPORT_ROWS, REPORT_COVARIATES = 100_000, 20
CHECKED_ROWS = 5_000
OURS = {LINEAR: "ols", MATCHING: "matching"}

Row = tuple[str, tuple[float, float], tuple[float, float]]


def study_of(frame: pd.DataFrame) -> ObservationalStudy:
    covariates = [c for c in frame if c.startswith("x")]
    return ObservationalStudy(frame, treatment="t", outcome="y", covariates=covariates)


def dowhy_of(frame: pd.DataFrame, method: str) -> tuple[Any, Any, Any]:
    """A model with an estimate, as its refuters want them."""
    if method == MATCHING:
        model, found, estimate = dowhy_estimate(frame, "ate")
        del model._data["propensity_score"]  # left in place, the true treatment's score would serve for permuted ones
        return model, found, estimate
    model, found = dowhy_model(frame)
    return model, found, model.estimate_effect(found, method)


def dowhy_placebo(model: Any, found: Any, estimate: Any, n: int) -> Any:
    return model.refute_estimate(
        found, estimate, "placebo_treatment_refuter", placebo_type="permute", num_simulations=n, random_state=0
    )


def check(method: str) -> None:
    """Fast estimates equal full ones; the estimates of both packages are the same where there is one answer."""
    frame = make_frame(CHECKED_ROWS)
    study, name = study_of(frame), OURS[method]
    effect = study.estimate(name)
    placebo = study.placebo(name, n_simulations=3)
    X, t, y = frame[COVARIATES].to_numpy(), frame["t"].to_numpy(), frame["y"].to_numpy()
    permuted = [np.random.default_rng(s).permutation(t) for s in np.random.SeedSequence(0).spawn(3)]
    estimand = {} if name == "matching" else {"estimand": "ato"}
    full = [estimate_ate(X, y, treatment=p, method=name, **estimand).estimate for p in permuted]
    if not np.allclose(placebo.draws, full, rtol=0, atol=1e-9):
        raise SystemExit(f"{name}: fast placebos are {placebo.draws}, full ones {full}.")
    theirs = float(dowhy_of(frame, method)[2].value)
    if method == LINEAR and abs(effect.estimate - theirs) > 1e-9:
        raise SystemExit(f"{name}: ours is {effect.estimate}, DoWhy's {theirs}; a comparison of times would be void.")


def time_placebo(method: str, n_rows: int, n_ours: int, n_dowhy: int, repeats: int) -> Row:
    frame = make_frame(n_rows)
    study, name = study_of(frame), OURS[method]
    effect = study.estimate(name)
    model, found, estimate = dowhy_of(frame, method)
    ours, theirs = in_turns(
        lambda: study.refute(effect, ["placebo_treatment"], n_simulations=n_ours),
        lambda: dowhy_placebo(model, found, estimate, n_dowhy),
        repeats,
    )
    factor = n_ours / n_dowhy
    label = f"placebo of {name}, {n_rows:,} rows, {n_ours} simulations (DoWhy: {n_dowhy}, times {factor:g})"
    return label, ours, (theirs[0] * factor, theirs[1] * factor)


def time_refute(method: str, n_simulations: int) -> tuple[str, float, float]:
    """All default refuters of a study of the size that a report should manage."""
    study = study_of(make_frame(REPORT_ROWS, REPORT_COVARIATES))
    effect = study.estimate(method)
    start, cpu = time.perf_counter(), time.process_time()
    study.refute(effect, n_simulations=n_simulations)
    label = f"default refuters of {method}, {REPORT_ROWS:,} rows by {REPORT_COVARIATES}, {n_simulations} each"
    return label, time.perf_counter() - start, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--linear-rows", type=int, default=1_000_000)
    parser.add_argument("--matching-rows", type=int, default=100_000)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--dowhy", type=int, default=10, help="simulations of DoWhy's placebo")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, in turns; the fastest counts")
    parser.add_argument("--no-report", action="store_true", help="without the default refuters on 100,000 rows by 20")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # DoWhy's own, one a call
    start = time.perf_counter()
    rows: list[tuple[str, tuple[float, float], tuple[float, float]]] = []
    for method, n_rows in ((LINEAR, arguments.linear_rows), (MATCHING, arguments.matching_rows)):
        check(method)
        rows.append(time_placebo(method, n_rows, arguments.simulations, arguments.dowhy, arguments.repeats))
    table = Table(
        "", "causalrec, s", "CPU, s", "DoWhy, s", "CPU, s", "DoWhy / causalrec", "by CPU", title="Refutations, one job"
    )
    for label, ours, theirs in rows:
        numbers = (ours[0], ours[1], theirs[0], theirs[1], theirs[0] / ours[0], theirs[1] / ours[1])
        table.add_row(label, *(f"{x:.2f}" for x in numbers[:4]), *(f"{x:.1f}" for x in numbers[4:]))
    for method in () if arguments.no_report else ("aipw_parametric", "matching"):
        label, seconds, cpu = time_refute(method, arguments.simulations)
        table.add_row(label, f"{seconds:.2f}", f"{cpu:.2f}", "–", "–", "–", "–")
    console = Console(width=170)
    console.print(table)
    console.print(f"Fast placebos equal full refits to 1e-9. {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
