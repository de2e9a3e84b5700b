"""Five learners of causalrec beside those of EconML, causalml and scikit-uplift, where the true effects are known.

The simulations of Nie and Wager, a large linear set, and 50 replications of IHDP; each package with its defaults, and
all with the same base learner. EconML is a dependency; the others live in an environment of their own:

    python3 -m venv peers
    peers/bin/pip install "causalml==0.18.*" scikit-uplift
    python -m experiments.uplift_benchmark.run --peers peers/bin/python

Without ``--peers`` their columns are left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from causalrec.report import SummaryRow
from experiments._study import Study, how_made
from experiments.uplift_benchmark import columns as fill
from experiments.uplift_benchmark.columns import LEARNERS, OURS, Plan
from experiments.uplift_benchmark.data import SETTINGS, Task, ihdp_tasks, linear_task, nie_wager_tasks
from experiments.uplift_benchmark.figures import plot_errors
from experiments.uplift_benchmark.ols import ols_table
from experiments.uplift_benchmark.tables import (
    LINEAR_PUBLISHED,
    TUNED,
    learner_table,
    linear_table,
    lost,
    mean_and_error,
    nie_wager_table,
    paired,
    roots,
    seconds_table,
    short,
    shown,
)
from experiments.uplift_benchmark.why import explain

DEFAULTS = [
    OURS, "EconML, own defaults", "EconML, XGBoost", "causalml, XGBoost", "scikit-uplift, XGBoost",
]  # fmt: skip
SAME_BASE = [f"{OURS}, XGBoost", "EconML, XGBoost", "causalml, XGBoost", "scikit-uplift, XGBoost"]
LINEAR = [f"{OURS}, linear", "EconML, linear", "causalml, linear", "scikit-uplift, linear"]
OUR_BASE = [OURS, "EconML, causalrec's base"]
SMALL, LARGE = [f"{s}-" for s in SETTINGS], "linear"


def plan_columns() -> Plan:
    """Which column is filled on which tasks."""
    simulations = {c: [*SMALL, "ihdp-"] for c in dict.fromkeys([*DEFAULTS, *SAME_BASE])}
    plan = {**simulations, **{c: [*simulations.get(c, []), LARGE] for c in [OURS, *LINEAR, *SAME_BASE]}}
    plan["EconML, causalrec's base"] = SMALL
    return plan


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.uplift_benchmark.run", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    output = Path("runs") / "experiments" / "uplift_benchmark"
    parser.add_argument("--output", type=Path, default=output, help="directory of figures, page and predictions")
    parser.add_argument("--data-dir", type=Path, help="directory of the public data sets; CAUSALREC_DATA_DIR if absent")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with causalml and scikit-uplift")
    parser.add_argument("--runs", type=int, default=20, help="draws of every setting of Nie and Wager")
    parser.add_argument("--replications", type=int, default=50, help="of IHDP, at most 50")
    parser.add_argument("--rows", type=int, default=100_000, help="of the linear set; fewer are not as published")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--reuse", action="store_true", help="take predictions that an earlier run left in the output")
    return parser.parse_args(given)


def measure(asked: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """Errors of every column, and the columns that are left out."""
    tasks: list[Task] = [
        *nie_wager_tasks(asked.runs), linear_task(asked.rows), *ihdp_tasks(asked.replications, asked.data_dir),
    ]  # fmt: skip
    plan, predictions = plan_columns(), asked.output / "predictions"
    if not asked.reuse:
        shutil.rmtree(predictions, ignore_errors=True)
    pythons = [sys.executable, *([asked.peers] if asked.peers else [])]
    missing = fill.fill_peers(tasks, plan, predictions, pythons, n_jobs=asked.jobs)
    fill.fill_ours(tasks, plan, predictions, n_jobs=asked.jobs)
    return fill.read_errors(tasks, plan, predictions), missing


def tell_simulations(study: Study, errors: pd.DataFrame, runs: int) -> None:
    """Nie and Wager's settings: defaults, the same base, and where the time goes."""
    small = errors[errors["set"].isin(list(SETTINGS))]
    defaults, same = shown(small, DEFAULTS), shown(small, SAME_BASE)
    tables = {f"{s}: {words}": nie_wager_table(small, defaults, s) for s, words in SETTINGS.items()}
    study.add(
        "Nie and Wager's simulations, each package with its defaults",
        f"Mean squared error of the effect in 1,000 fresh rows, mean ± standard error of {runs} draws; 1,000 rows to "
        "learn from, six covariates, noise of standard deviation 1. Nobody is told the propensity. EconML's own "
        "defaults are its causal forest (R) and its DR-learner with linear final stage; where a package has no default "
        "base learner it has XGBoost's defaults, as in its own examples.",
        "Published: Nie and Wager's tables, XGBoost tuned by cross-validation, 200 draws. Their R-learner's gain is "
        "that tuning: with XGBoost's defaults causalml's own study has median errors of 4.0 to 6.8 for the R-learner.",
        tables=tables,
        figures={
            "simulations": plot_errors(
                small, defaults, {s: f"{s}: {words}" for s, words in SETTINGS.items()}, published=TUNED,
                title="Error of the effect with defaults", xlabel="mean squared error",
            )
        },
    )  # fmt: skip
    study.add(
        "The same, with the same base learner",
        "XGBoost's defaults (100 trees of depth 6 at rate 0.3) in every package, propensities by each package's "
        "default: what is left are the learners. S and T are the same algorithm everywhere. And the other way round: "
        "EconML's learners with causalrec's base.",
        tables={
            f"XGBoost's defaults, {s}": learner_table(small[small["set"] == s], same, mean_and_error)
            for s in SETTINGS
        } | {
            f"causalrec's base, {s}": learner_table(small[small["set"] == s], shown(small, OUR_BASE), mean_and_error)
            for s in SETTINGS
        },
    )  # fmt: skip


def tell_linear(study: Study, errors: pd.DataFrame, rows: int) -> None:
    """The large linear set."""
    large = errors[errors["set"] == LARGE]
    columns = shown(large, [*LINEAR, OURS, *SAME_BASE])
    study.add(
        "A large linear set",
        f"Root mean squared error of the effect in the held-out fifth of {rows:,} rows, 25 correlated covariates, "
        "linear outcome and effect, 30% treated at random; the effects' standard deviation is about 14.6. The "
        "published protocol is least squares with a logistic propensity. An S-learner with least squares knows one "
        "effect only.",
        tables={"Root mean squared error": linear_table(large, columns)},
    )


def tell_ihdp(study: Study, errors: pd.DataFrame, asked: argparse.Namespace) -> None:
    """The replications of IHDP."""
    first_ten = list(ihdp_tasks(min(10, asked.replications), asked.data_dir, held_out=0.0))
    part = errors[errors["set"] == "ihdp"]
    columns = shown(part, DEFAULTS)
    study.add(
        "IHDP",
        f"{asked.replications} replications of 747 children, 139 of them treated; root mean squared error of the "
        "effect, mean / median over the replications. Look at medians: the scale of the effects differs so much that "
        "a few replications are most of a mean.",
        tables={
            "Least squares, the rows learned from, replications 1 to 10": ols_table(first_ten),
            "Defaults, the fifth of the rows held out": learner_table(part, columns, roots),
            "Defaults, the rows learned from": learner_table(part, columns, roots, "mse_train"),
        },
    )


def tell_losses(study: Study, errors: pd.DataFrame) -> pd.DataFrame:
    """Where a peer does better, and what of that is the base learner."""
    found = lost(errors, [c for c in DEFAULTS if c != OURS])
    study.add(
        "Where a learner of causalrec loses",
        "Against the same kind of learner of a peer, both with defaults, by more than two standard errors and 2%; "
        "mean squared errors as ratios, geometric means over the draws, with 95% intervals."
        if len(found)
        else "Nowhere, against the same kind of learner of a peer with defaults.",
        tables={"Losses, and why": explain(errors, found)} if len(found) else {},
    )  # fmt: skip
    return found


def conclude(errors: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What the page opens with."""
    lines = []
    small = errors[(errors["column"] == OURS) & errors["set"].isin(list(SETTINGS))]
    means = small.groupby(["set", "learner"])["mse"].mean()
    ratios = {(s, k): means[s, k] / TUNED[s][k] for s in SETTINGS for k in TUNED[s] if (s, k) in means}
    if ratios:
        geometric = float(np.exp(np.mean(np.log(list(ratios.values())))))
        better = sum(r <= 1.05 for r in ratios.values())
        worst = max(ratios, key=lambda key: ratios[key])
        lines.append(
            f"With defaults, errors are {geometric:.2f} times those published for tuned XGBoost (geometric mean over "
            f"{len(ratios)} settings and learners), no more than 5% above in {better} of {len(ratios)}; the worst is "
            f"{ratios[worst]:.2f} times, the {worst[1]}-learner in setting {worst[0]}."
        )
    return [*lines, *_against_peers(errors, found), *_on_others(errors)]


def _against_peers(errors: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    lines = []
    small = errors[errors["set"].isin(list(SETTINGS))]
    for column in (c for c in shown(small, DEFAULTS) if c != OURS):
        ratios = [
            ratio for s in SETTINGS for learner in LEARNERS
            if np.isfinite(ratio := np.exp(paired(small[small["set"] == s], OURS, column, learner)[0]))
        ]  # fmt: skip
        if ratios:
            geometric = float(np.exp(np.mean(np.log(ratios))))
            losses = int((found["to"] == column).sum())
            lines.append(
                f"Against {column}: {geometric:.2f} times its error in the simulations (geometric mean of "
                f"{len(ratios)}); " + (f"it wins {losses} of all comparisons." if losses else "it wins none.")
            )
    return lines


def _on_others(errors: pd.DataFrame) -> list[str]:
    lines = []
    linear = errors[(errors["set"] == LARGE) & (errors["column"] == f"{OURS}, linear")].set_index("learner")["mse"]
    if len(linear):
        told = ", ".join(
            f"{name} {np.sqrt(linear[name]):.4f} (published for 100,000 rows: {np.nanmin(LINEAR_PUBLISHED[name]):.4f})"
            for name in ("T", "X", "R", "DR")
        )
        lines.append(f"Large linear set with least squares: {told}.")
    part = errors[(errors["set"] == "ihdp") & (errors["column"] == OURS)]
    if len(part):
        medians = part.assign(root=np.sqrt(part["mse"])).groupby("learner")["root"].median()
        told = ", ".join(f"{name} {short(medians[name])}" for name in LEARNERS)
        lines.append(f"IHDP, held out, median root mean squared error: {told}.")
    return lines


def summarise(errors: pd.DataFrame) -> list[SummaryRow]:
    """Errors of causalrec with defaults, with intervals over the draws."""
    rows = []
    for setting in SETTINGS:
        for learner in LEARNERS:
            chosen = errors[
                (errors["column"] == OURS) & (errors["set"] == setting) & (errors["learner"] == learner)
            ]["mse"]  # fmt: skip
            half = 1.96 * chosen.std(ddof=1) / np.sqrt(len(chosen))
            rows.append(SummaryRow(
                f"setting {setting}", f"error, {learner}-learner", chosen.mean(), chosen.mean() - half,
                chosen.mean() + half, n=len(chosen),
            ))  # fmt: skip
    return rows


_CAVEATS = [
    "The base learner's defaults were chosen with settings A to D in sight, on other draws.",
    "Simulations are simple next to real data: six or 25 covariates, no missing values, every confounder seen.",
    "Nie and Wager's published figures are of other draws, XGBoost of 2018 and a random search; ours of few draws.",
    "In an observational study nobody can compute these errors. Choose among learners by R-loss or DR-loss.",
    "The held-out fifth of IHDP is 150 children, and its surfaces are of one kind: exponential and linear.",
    "Peers with XGBoost's defaults are what their examples show, not the best that a careful user would get from them.",
    "Seconds are of one thread on a machine that may have done other work too; for speed see the benchmarks.",
]


def main(given: Sequence[str] | None = None) -> pd.DataFrame:
    """Run the study and write its page."""
    asked = arguments(given)
    study = Study(
        "Uplift learners beside their peers",
        "How far from the true effects are the learners of causalrec, EconML, causalml and scikit-uplift?",
    )
    errors, missing = measure(asked)
    if missing:
        study.add("Left out", f"Columns without a package: {', '.join(missing)}. See --peers in the README.")
    tell_simulations(study, errors, asked.runs)
    tell_linear(study, errors, asked.rows)
    tell_ihdp(study, errors, asked)
    found = tell_losses(study, errors)
    small = errors[errors["set"].isin(list(SETTINGS))]
    study.add(
        "Time",
        "Seconds of a fit on 1,000 rows and the prediction of 2,000. causalrec's R and DR share one set of nuisances, "
        "whose time is counted in both.",
        tables={"Seconds, one thread, mean": seconds_table(small, shown(small, DEFAULTS))},
    )
    study.finish(
        asked.output, conclusions=conclude(errors, found), caveats=_CAVEATS, summary=summarise(errors),
        made=how_made("uplift_benchmark", data_dir=asked.data_dir, seeds=f"0 (draws 0 to {asked.runs - 1}), 1337"),
    )  # fmt: skip
    errors.to_csv(asked.output / "errors.csv", index=False)
    return errors


if __name__ == "__main__":
    main()
