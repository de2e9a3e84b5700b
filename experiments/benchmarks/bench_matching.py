"""Propensity matching and its placebo: causalrec against DoWhy's own estimator and refuter, in one run.

Both get the same frame, adjust for the same covariates and match one to one with replacement. The estimates are first
shown to be equal on one and the same score (continuous covariates, so no ties); then each is timed as a user would
call it. DoWhy's estimate comes without a standard error; ours includes it, and our placebo is timed with the whole
study around it: identification, estimate, balance and overlap. If DoWhy's placebo is asked for fewer simulations, its
time is scaled to ours by their number, and the table says so.

Run: ``python experiments/benchmarks/bench_matching.py``
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from causalrec.observational import average_effect, fit_propensity, match_nearest, study_effect
from causalrec.observational.dowhy_adapter import identify

COVARIATES = [f"x{i}" for i in range(10)]
PLACEBO_ROWS, N_PLACEBO = 20_000, 100
MATCHING = "backdoor.propensity_score_matching"


def make_frame(n: int, n_covariates: int = len(COVARIATES)) -> pd.DataFrame:
    """Confounded by all covariates, effect 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_covariates))
    logit = X @ np.linspace(0.5, -0.5, n_covariates)
    treatment = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    y = logit + treatment + rng.normal(size=n)
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(n_covariates)]).assign(t=treatment, y=y)


def seconds(call: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """The fastest of a few runs, and what the last returned."""
    best, found = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        found = call()
        best = min(best, time.perf_counter() - start)
    return best, found


def dowhy_model(frame: pd.DataFrame) -> tuple[Any, Any]:
    from dowhy import CausalModel

    model = CausalModel(frame.copy(), treatment="t", outcome="y", common_causes=[c for c in frame if c.startswith("x")])
    return model, model.identify_effect(proceed_when_unidentifiable=True)


def dowhy_estimate(frame: pd.DataFrame, estimand: str, score: np.ndarray | None = None) -> tuple[Any, Any, Any]:
    model, found = dowhy_model(frame)
    params = {}
    if score is not None:
        model._data["score"] = score
        params = {"propensity_score_column": "score"}
    estimate = model.estimate_effect(
        found, MATCHING, target_units=estimand, method_params={"init_params": params, "fit_params": {}}
    )
    return model, found, estimate


def check_equal(frame: pd.DataFrame) -> None:
    """On one and the same score both must give the same estimate."""
    X, t, y = frame[COVARIATES].to_numpy(), frame["t"].to_numpy(), frame["y"].to_numpy()
    score = fit_propensity(X, treatment=t).score
    for estimand in ("ate", "att", "atc"):
        ours = match_nearest(score, t, y, estimand=estimand).estimate
        theirs = float(dowhy_estimate(frame, estimand, score)[2].value)
        if abs(ours - theirs) > 1e-9:
            raise SystemExit(f"{estimand}: ours is {ours}, DoWhy's {theirs}; a comparison of times would be void.")


def time_estimates(sizes: list[int]) -> list[tuple[str, float, float]]:
    rows = []
    for n in sizes:
        frame = make_frame(n)
        check_equal(frame)
        ours, _ = seconds(lambda f=frame: average_effect(f, treatment="t", outcome="y", covariates=COVARIATES))
        theirs, _ = seconds(lambda f=frame: dowhy_estimate(f, "ate"))
        rows.append((f"estimate, {n:,} rows (ours with its error)", ours, theirs))
    return rows


def time_placebo(n_dowhy: int) -> tuple[str, float, float]:
    frame = make_frame(PLACEBO_ROWS)
    ours, _ = seconds(
        lambda: study_effect(frame, treatment="t", outcome="y", covariates=COVARIATES, n_placebo=N_PLACEBO), repeats=1
    )
    model, found, estimate = dowhy_estimate(frame, "ate")
    # Left in place, the score of the true treatment would be reused for every permuted one: quicker, and wrong.
    del model._data["propensity_score"]
    theirs, _ = seconds(
        lambda: model.refute_estimate(
            found, estimate, "placebo_treatment_refuter", placebo_type="permute", num_simulations=n_dowhy, random_seed=0
        ),
        repeats=1,
    )
    scaled = "" if n_dowhy == N_PLACEBO else f" (DoWhy: {n_dowhy}, times {N_PLACEBO / n_dowhy:g})"
    return f"placebo, {PLACEBO_ROWS:,} rows, {N_PLACEBO} simulations{scaled}", ours, theirs * N_PLACEBO / n_dowhy


def time_identification(n_covariates: int) -> tuple[str, float, float]:
    frame = make_frame(1000, n_covariates)
    names = [f"x{i}" for i in range(n_covariates)]
    ours, _ = seconds(lambda: identify(frame, "t", "y", names, "ate"))
    theirs, _ = seconds(lambda: dowhy_model(frame), repeats=1)
    return f"identification, {n_covariates} covariates (DoWhy: its default search)", ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--dowhy-placebo", type=int, default=N_PLACEBO, help="simulations of DoWhy's placebo")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # DoWhy's own, one a call
    start = time.perf_counter()
    rows = [*time_estimates(arguments.sizes), time_placebo(arguments.dowhy_placebo), time_identification(20)]
    table = Table("", "causalrec, s", "DoWhy, s", "DoWhy / causalrec", title="Propensity matching")
    for label, ours, theirs in rows:
        table.add_row(label, f"{ours:.3f}", f"{theirs:.3f}", f"{theirs / ours:.1f}")
    console = Console()
    console.print(table)
    console.print(f"Estimates on one score agree to 1e-9 (ate, att, atc). {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
