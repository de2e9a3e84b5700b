"""Uplift learners on a million rows: causalrec against plain XGBoost, EconML and causalml, in one run.

1M rows, 20 covariates; the same base learner everywhere: XGBoost with 100 trees of depth 6 and two threads;
propensities by logistic regression wherever one is fitted. Every measurement is a process of its own that loads the
rows, fits, and predicts the effect of every row; seconds are by the clock and of all cores together (which say more on
a busy machine), memory is the most that the process ever held, with the rows. Root mean squared errors of the effect
stand beside, since a fast answer that is wrong would be no answer.

- T-learner: two XGBoost fits by hand, EconML, causalml.
- X-learner: EconML, causalml.
- DR-learner, two folds: EconML.
- All five learners and the average effect from nuisances fitted once, against EconML's five separate fits.
- 14M rows of 12 covariates and a rare 0/1 outcome, the shape of Criteo's set: a T-learner of classifiers, and scores.

EconML comes with causalrec's dependencies. causalml does not share an environment with it; make one, and name it:

    python3 -m venv peers
    peers/bin/pip install "causalml==0.18.*"
    python experiments/benchmarks/bench_uplift.py --peer peers/bin/python

or set CAUSALREC_UPLIFT_PEER_PYTHON. Without either causalml is left out.

Run: ``python experiments/benchmarks/bench_uplift.py [--rows 1000000] [--rounds 2] [--large 14000000]``
"""

from __future__ import annotations

import argparse
import importlib.util
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

OURS, BY_HAND, ECONML, CAUSALML = "causalrec", "XGBoost by hand", "EconML", "causalml"
TASKS = {
    "T": (OURS, BY_HAND, ECONML, CAUSALML),
    "X": (OURS, ECONML, CAUSALML),
    "DR": (OURS, ECONML),
    "five": (OURS, ECONML),
}
LABELS = {
    "T": "T-learner", "X": "X-learner", "DR": "DR-learner, 2 folds", "five": "S, T, X, R, DR and the average effect",
}  # fmt: skip
THREADS = int(os.environ.get("CAUSALREC_BENCH_THREADS", "2"))
Rows = dict[str, Any]


def write_rows(n: int, path: Path, seed: int = 0) -> None:
    """Confounded rows with effects that vary, as one file per array."""
    import numpy as np

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 20))
    treatment = (rng.uniform(size=n) < 1 / (1 + np.exp(0.5 * X[:, 1] - 0.5 * X[:, 0]))).astype(np.int64)
    tau = 0.5 * X[:, 0] + np.tanh(X[:, 2]) + np.maximum(X[:, 3], 0)
    y = X[:, 0] + np.abs(X[:, 1]) + X[:, 4] * X[:, 5] + treatment * tau + rng.normal(size=n)
    path.mkdir(parents=True, exist_ok=True)
    for name, values in {"X": X, "treatment": treatment, "tau": tau, "y": y}.items():
        np.save(path / f"{name}.npy", values)


def write_criteo_shape(n: int, path: Path, seed: int = 0) -> None:
    """12 covariates, 85% treated, about 5% visit: the shape of Criteo's uplift set."""
    import numpy as np

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 12))
    treatment = (rng.uniform(size=n) < 0.85).astype(np.int64)
    tau = 0.02 * (X[:, 0] > 0.5)
    share = np.clip(0.03 + 0.03 * (X[:, 1] > 0) + treatment * tau, 0, 1)
    path.mkdir(parents=True, exist_ok=True)
    y = (rng.uniform(size=n) < share).astype(np.float64)
    for name, values in {"X": X, "treatment": treatment, "tau": tau, "y": y}.items():
        np.save(path / f"{name}.npy", values)


def load(path: Path) -> Rows:
    """The arrays of a directory."""
    import numpy as np

    return {file.stem: np.load(file) for file in sorted(path.glob("*.npy"))}


def base(**options: Any) -> Any:
    """The base learner of all."""
    from xgboost import XGBRegressor

    return XGBRegressor(n_estimators=100, max_depth=6, tree_method="hist", n_jobs=THREADS, random_state=0, **options)


def logistic() -> Any:
    """The propensity model of all."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def ours(what: str, rows: Rows) -> dict[str, Any]:
    """Effects by learner, by causalrec."""
    from causalrec.nuisance import fit_nuisances
    from causalrec.uplift import DRLearner, RLearner, SLearner, TLearner, XLearner

    X, y, treatment = rows["X"], rows["y"], rows["treatment"]
    if what == "T":
        return {"T": TLearner(base()).fit(X, y, treatment=treatment).predict(X)}
    if what == "X":
        return {"X": XLearner(base(), propensity_model=logistic()).fit(X, y, treatment=treatment).predict(X)}
    if what == "DR":
        # One outcome model of both arms per fold, as in EconML's.
        learner = DRLearner(base(), propensity_model=logistic(), joint_outcome=True, n_folds=2)
        return {"DR": learner.fit(X, y, treatment=treatment).predict(X)}
    nuisance = fit_nuisances(
        X, y, treatment=treatment, outcome_model=base(), propensity_model=logistic(), n_folds=2, n_jobs=THREADS
    )
    learners = {"S": SLearner(base()), "T": TLearner(), "X": XLearner(), "R": RLearner(), "DR": DRLearner()}
    for name in ("X", "R", "DR"):
        learners[name].set_params(effect_model=base())
    found = {
        name: learner.fit(X, y, treatment=treatment, nuisance=nuisance).predict(X) for name, learner in learners.items()
    }
    found["average"] = nuisance.average_effect().estimate
    return found


def by_hand(what: str, rows: Rows) -> dict[str, Any]:
    """A T-learner as one writes it."""
    assert what == "T"
    X, y, treatment = rows["X"], rows["y"], rows["treatment"]
    treated, control = (base().fit(X[treatment == arm], y[treatment == arm]) for arm in (1, 0))
    return {"T": treated.predict(X) - control.predict(X)}


def econml(what: str, rows: Rows) -> dict[str, Any]:
    """Effects by learner, by EconML."""
    from econml.dml import NonParamDML
    from econml.dr import DRLearner
    from econml.metalearners import SLearner, TLearner, XLearner

    makers: dict[str, Callable[[], Any]] = {
        "S": lambda: SLearner(overall_model=base()),
        "T": lambda: TLearner(models=base()),
        "X": lambda: XLearner(models=base(), propensity_model=logistic()),
        "R": lambda: NonParamDML(
            model_y=base(), model_t=logistic(), model_final=base(), discrete_treatment=True, cv=2, random_state=0
        ),
        "DR": lambda: DRLearner(
            model_regression=base(), model_propensity=logistic(), model_final=base(), cv=2, random_state=0
        ),
    }
    chosen = makers if what == "five" else {what: makers[what]}
    return {
        name: make().fit(rows["y"], rows["treatment"], X=rows["X"]).effect(rows["X"]) for name, make in chosen.items()
    }


def causalml(what: str, rows: Rows) -> dict[str, Any]:
    """Effects by causalml."""
    from causalml.inference.meta import BaseTRegressor, BaseXRegressor

    learner = BaseTRegressor(base()) if what == "T" else BaseXRegressor(base())
    learner.model_p = logistic()  # its default is a search of 64 fits
    learner.fit(rows["X"], rows["treatment"], rows["y"])
    return {what: learner.predict(rows["X"]).ravel()}


SYSTEMS = {OURS: ours, BY_HAND: by_hand, ECONML: econml, CAUSALML: causalml}


def large(rows: Rows) -> dict[str, Any]:
    """A T-learner of classifiers on many rows, and their scores."""
    from xgboost import XGBClassifier

    from causalrec.uplift import TLearner

    model = XGBClassifier(n_estimators=100, max_depth=6, tree_method="hist", n_jobs=THREADS, random_state=0)
    learner = TLearner(model).fit(rows["X"], rows["y"], treatment=rows["treatment"])
    return {"T": learner.predict(rows["X"])}


def measure(system: str, what: str, path: Path) -> None:
    """Print seconds, peak memory and errors, as JSON."""
    import numpy as np
    import sklearn  # noqa: F401
    import xgboost  # noqa: F401

    warnings.simplefilter("ignore")
    rows = load(path)
    held = memory("VmRSS")
    start, before = time.perf_counter(), time.process_time()
    found = large(rows) if what == "large" else SYSTEMS[system](what, rows)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    errors = {
        name: float(np.sqrt(np.mean((np.ravel(values) - rows["tau"]) ** 2)))
        for name, values in found.items()
        if np.size(values) > 1
    }
    print(json.dumps({
        "seconds": seconds, "cpu": cpu, "gigabytes": memory("VmHWM"), "held": held, "errors": errors,
        "average": found.get("average"),
    }))  # fmt: skip


def memory(kind: str) -> float:
    """What this process holds (VmRSS), or ever held (VmHWM), in GiB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split(f"{kind}:")[1].split()[0]) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def in_process(python: str, system: str, what: str, path: Path) -> dict[str, Any]:
    """A measurement in a process of its own."""
    command = [python, __file__, "--measure", system, what, str(path)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # a thread that waits burns no core
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{LABELS.get(what, what)} by {system} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def find_pythons(peer: str | None) -> dict[str, str]:
    """The interpreter of every system that can be run."""
    found = {OURS: sys.executable, BY_HAND: sys.executable}
    if importlib.util.find_spec("econml") is not None:
        found[ECONML] = sys.executable
    given = peer or os.environ.get("CAUSALREC_UPLIFT_PEER_PYTHON")
    if importlib.util.find_spec("causalml") is not None:
        given = sys.executable
    return {**found, CAUSALML: given} if given else found


def contest(path: Path, pythons: dict[str, str], tasks: list[str], rounds: int) -> Any:
    """All measurements in turns; the least of each."""
    from rich.table import Table

    best: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(rounds):
        for what in tasks:
            for system in (s for s in TASKS[what] if s in pythons):
                found = in_process(pythons[system], system, what, path)
                print(f"  {what} {system}: {found}", file=sys.stderr)
                for key in ("seconds", "cpu", "gigabytes"):
                    found[key] = min(found[key], best.get((what, system), found)[key])
                best[what, system] = found
    table = Table(title="fit, and effects of all rows")
    for column in ("", "", "seconds", "of all cores", "memory, GiB", "ratio: s", "of cores", "memory", "error"):
        table.add_column(column, justify="left" if not column else "right")
    for (what, system), found in best.items():
        mine = best[what, OURS]
        ratios = (found[key] / mine[key] for key in ("seconds", "cpu", "gigabytes"))
        errors = ", ".join(f"{name} {e:.4f}" for name, e in found["errors"].items())
        table.add_row(
            LABELS[what] if system == OURS else "", system, f"{found['seconds']:.1f}", f"{found['cpu']:.1f}",
            f"{found['gigabytes']:.2f}", *(f"{r:.2f}" for r in ratios), errors,
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=14_000_000, help="rows of the last measurement; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--peer", help="a Python with causalml")
    parser.add_argument("--data", type=Path, help="a directory of an earlier run, or where to keep the rows")
    parser.add_argument("--measure", nargs=3, metavar=("SYSTEM", "WHAT", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        system, what, path = options.measure
        measure(system, what, Path(path))
        return
    from rich.console import Console

    console = Console(width=140)
    pythons = find_pythons(options.peer)
    with tempfile.TemporaryDirectory() as scratch:
        place = options.data or Path(scratch)
        if options.tasks and not (place / "rows" / "y.npy").exists():
            write_rows(options.rows, place / "rows")
        if options.tasks:
            console.print(contest(place / "rows", pythons, options.tasks, options.rounds))
        absent = [s for s in SYSTEMS if s not in pythons]
        console.print(
            f"{options.rows:,} rows, {THREADS} threads; the least of {options.rounds} processes each; load of the "
            f"machine at the end {os.getloadavg()[0]:.1f}. "
            + (f"Not found: {', '.join(absent)}, see --help." if absent else "")
        )
        if options.large:
            if not (place / "large" / "y.npy").exists():
                write_criteo_shape(options.large, place / "large")
            found = in_process(sys.executable, OURS, "large", place / "large")
            console.print(
                f"{options.large:,} rows of 12 covariates, T-learner and scores: {found['seconds']:.0f} s, of all "
                f"cores {found['cpu']:.0f} s, at most {found['gigabytes']:.2f} GiB, {found['held']:.2f} of it before."
            )


if __name__ == "__main__":
    main()
