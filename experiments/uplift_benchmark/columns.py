"""Fills the columns of the tables: causalrec in this process, the peers in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec.exceptions import CausalRecError
from causalrec.nuisance import fit_nuisances
from causalrec.uplift import DRLearner, RLearner, SLearner, TLearner, XLearner
from experiments.uplift_benchmark import peers
from experiments.uplift_benchmark.data import Task

OURS = "causalrec"
LEARNERS: dict[str, Callable[..., Any]] = {"S": SLearner, "T": TLearner, "X": XLearner, "R": RLearner, "DR": DRLearner}
Base = Callable[[], Any]
OUR_COLUMNS: dict[str, tuple[Base | None, Base | None]] = {  # outcome and effect model, propensity model
    OURS: (None, None),
    f"{OURS}, XGBoost": (peers.xgboost_defaults, None),
    f"{OURS}, linear": (peers.linear, peers.logistic),
}
Plan = dict[str, list[str]]  # column to the beginnings of the names of its tasks
_ALONE = ("S", "T", "X")  # the others share the cross-fitted nuisances
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def fit_ours(column: str, task: Task) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Effects by learner, in the rows learned from and then in those to predict, and seconds.

    The nuisances of R and DR are fitted once; their time is counted in both.
    """
    base, propensity = OUR_COLUMNS[column]
    both = np.concatenate([task.X, task.X_test])
    start = time.perf_counter()
    nuisance = fit_nuisances(
        task.X, task.y, treatment=task.treatment, n_jobs=1, random_state=peers.SEED,
        outcome_model=None if base is None else base(), propensity_model=None if propensity is None else propensity(),
    )  # fmt: skip
    seconds = [time.perf_counter() - start]
    found = {}
    for name, learner in LEARNERS.items():
        start = time.perf_counter()
        fitted = learner(None if base is None else base(), n_jobs=1, random_state=peers.SEED)
        shared = {} if name in _ALONE else {"nuisance": nuisance}
        fitted.fit(task.X, task.y, treatment=task.treatment, **shared)
        found[name] = fitted.predict(both)
        seconds.append(time.perf_counter() - start + (0.0 if name in _ALONE else seconds[0]))
    return found, np.array(seconds[1:])


def _write_ours(column: str, task: Task, target: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, seconds = fit_ours(column, task)
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, seconds=seconds, **found)  # type: ignore[arg-type]


def fill_ours(tasks: Sequence[Task], plan: Plan, predictions: Path, *, n_jobs: int = 2) -> None:
    """Columns of causalrec; a task per process, a thread each."""
    from joblib import Parallel, delayed

    jobs = []
    for column in (c for c in plan if c in OUR_COLUMNS):
        for task in (t for t in tasks if t.name.startswith(tuple(plan[column]))):
            target = predictions / column / f"{task.name}.npz"
            if not target.exists():
                jobs.append(delayed(_write_ours)(column, task, target))
    os.environ |= {name: os.environ.get(name, one) for name, one in _ONE_THREAD.items()}
    Parallel(n_jobs=n_jobs)(jobs)


def find_columns(pythons: Sequence[str]) -> dict[str, str]:
    """Columns that interpreters can fill, each with the first interpreter that can."""
    found: dict[str, str] = {}
    for python in pythons:
        done = subprocess.run([python, peers.__file__, "--list"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CausalRecError(f"{python} does not run the peers: {done.stderr.strip()[-500:]}")
        for column in json.loads(done.stdout.splitlines()[-1]):
            found.setdefault(column, python)
    return found


def fill_peers(
    tasks: Sequence[Task], plan: Plan, predictions: Path, pythons: Sequence[str], *, n_jobs: int = 2
) -> list[str]:
    """The peers' columns; returns those that no interpreter has the package for."""
    places = find_columns(pythons)
    inputs = predictions.parent / "tasks"
    inputs.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        np.savez(inputs / f"{task.name}.npz", X=task.X, y=task.y, treatment=task.treatment, X_test=task.X_test)
    for python in dict.fromkeys(places.values()):
        columns = [f"{c}={p}" for c in plan if places.get(c) == python for p in plan[c]]
        command = [python, peers.__file__, str(inputs), str(predictions), *columns, "--jobs", str(n_jobs)]
        root = str(Path(__file__).parents[2])  # for columns with causalrec's base
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": root, "PYTHONWARNINGS": "ignore"}
        if columns:
            subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    return [c for c in plan if c not in OUR_COLUMNS and c not in places]


def read_errors(tasks: Sequence[Task], plan: Plan, predictions: Path) -> pd.DataFrame:
    """A row per task, column and learner: mean squared error of the effect in both places, and seconds."""
    rows = []
    for task in tasks:
        for column in (c for c in plan if task.name.startswith(tuple(plan[c]))):
            file = predictions / column / f"{task.name}.npz"
            if not file.exists():
                continue
            found = np.load(file)
            learners = [name for name in found.files if name != "seconds"]
            for name, seconds in zip(learners, found["seconds"], strict=False):
                wrong = found[name] - np.concatenate([task.tau, task.tau_test])
                n = len(task.tau)
                rows.append({
                    "set": task.name.split("-")[0], "task": task.name, "column": column, "learner": name,
                    "mse": float(np.mean(wrong[n:] ** 2)), "mse_train": float(np.mean(wrong[:n] ** 2)),
                    "seconds": float(seconds),
                })  # fmt: skip
    return pd.DataFrame(rows)
