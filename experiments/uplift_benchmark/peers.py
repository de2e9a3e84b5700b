"""What other packages make of the tasks: EconML, causalml and scikit-uplift, whichever this interpreter has.

A script of its own, since causalml does not share an environment with causalrec; it needs only numpy, scikit-learn,
XGBoost and the peers. ``python peers.py TASKS PREDICTIONS COLUMN...`` reads ``TASKS/NAME.npz`` (X, y, treatment,
X_test) and writes ``PREDICTIONS/COLUMN/NAME.npz``: an array per learner, the effects predicted in the rows learned from
followed by those in the rows to predict; ``seconds``, one per learner. ``--list`` prints the columns that it can fill.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Fitted = Callable[[Any], Any]  # covariates to effects
Learner = Callable[[Any, Any, Any], Fitted]  # X, treatment, y
SEED = 0


def xgboost_defaults() -> Any:
    """100 trees of depth 6 at rate 0.3: what the peers' own examples use."""
    from xgboost import XGBRegressor

    return XGBRegressor(n_jobs=1, random_state=SEED)


def linear() -> Any:
    """Least squares: the base of metalearners' benchmarks."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def causalrec_base() -> Any:
    """The default base learner of causalrec."""
    from causalrec.nuisance import BoostedRegressor

    return BoostedRegressor(n_jobs=1, random_state=SEED)


def logistic() -> Any:
    """The propensity model of metalearners' benchmarks."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500, random_state=SEED)


def econml(base: Callable[[], Any], propensity: Callable[[], Any] | None = None) -> dict[str, Learner]:
    """EconML's metalearners, ``NonParamDML`` as the R-learner; propensities by their default model if none is given."""
    from econml.dml import NonParamDML
    from econml.dr import DRLearner
    from econml.metalearners import SLearner, TLearner, XLearner

    of_x = {} if propensity is None else {"propensity_model": propensity()}
    of_dr = {} if propensity is None else {"model_propensity": propensity()}
    of_r = "auto" if propensity is None else propensity()
    makers: dict[str, Callable[[], Any]] = {
        "S": lambda: SLearner(overall_model=base()),
        "T": lambda: TLearner(models=base()),
        "X": lambda: XLearner(models=base(), **of_x),
        "R": lambda: NonParamDML(
            model_y=base(), model_t=of_r, model_final=base(), discrete_treatment=True, random_state=SEED
        ),
        "DR": lambda: DRLearner(model_regression=base(), model_final=base(), random_state=SEED, **of_dr),
    }
    return {name: _econml_learner(maker) for name, maker in makers.items()}


def econml_defaults() -> dict[str, Learner]:
    """The estimators of EconML that need no base learner: its DR-learner and its causal forest (an R-learner)."""
    from econml.dml import CausalForestDML
    from econml.dr import DRLearner

    return {
        "R": _econml_learner(lambda: CausalForestDML(discrete_treatment=True, random_state=SEED, n_jobs=1)),
        "DR": _econml_learner(lambda: DRLearner(random_state=SEED)),
    }


def _econml_learner(make: Callable[[], Any]) -> Learner:
    def fit(X: Any, treatment: Any, y: Any) -> Fitted:
        estimator = make().fit(y, treatment, X=X)
        return lambda rows: estimator.effect(rows)

    return fit


def causalml(base: Callable[[], Any], propensity: Callable[[], Any] | None = None) -> dict[str, Learner]:
    """Metalearners of causalml; propensities by its default model if none is given (its DR-learner takes no other)."""
    from causalml.inference.meta import (
        BaseDRRegressor,
        BaseRRegressor,
        BaseSRegressor,
        BaseTRegressor,
        BaseXRegressor,
    )

    def fit_x(X: Any, treatment: Any, y: Any) -> Fitted:
        learner = BaseXRegressor(base())
        if propensity is not None:
            learner.model_p = propensity()
        learner.fit(X, treatment, y)
        return lambda rows: learner.predict(rows)

    def fit_dr(X: Any, treatment: Any, y: Any) -> Fitted:
        learner = BaseDRRegressor(base())
        learner.fit(X, treatment, y, seed=SEED)
        return lambda rows: learner.predict(rows)

    def fit_r(X: Any, treatment: Any, y: Any) -> Fitted:
        learner = BaseRRegressor(base(), random_state=SEED)
        if propensity is not None:
            learner.propensity_learner = propensity()
        learner.cv_n_jobs = 1  # tasks run side by side already
        learner.fit(X, treatment, y)
        return lambda rows: learner.predict(rows)

    return {
        "S": _causalml_learner(lambda: BaseSRegressor(base())),
        "T": _causalml_learner(lambda: BaseTRegressor(base())),
        "X": fit_x,
        "R": fit_r,
        "DR": fit_dr,
    }


def _causalml_learner(make: Callable[[], Any]) -> Learner:
    def fit(X: Any, treatment: Any, y: Any) -> Fitted:
        learner = make()
        learner.fit(X, treatment, y)
        return lambda rows: learner.predict(rows)

    return fit


def scikit_uplift(base: Callable[[], Any]) -> dict[str, Learner]:
    """scikit-uplift's one model and two models; its class transformation is for outcomes of 0 and 1 only."""
    from sklift.models import SoloModel, TwoModels

    def fit_s(X: Any, treatment: Any, y: Any) -> Fitted:
        return SoloModel(base()).fit(X, y, treatment).predict  # type: ignore[no-any-return]

    def fit_t(X: Any, treatment: Any, y: Any) -> Fitted:
        return TwoModels(base(), base(), method="vanilla").fit(X, y, treatment).predict  # type: ignore[no-any-return]

    return {"S": fit_s, "T": fit_t}


COLUMNS: dict[str, tuple[str, Callable[[], dict[str, Learner]]]] = {
    "EconML, XGBoost": ("econml", lambda: econml(xgboost_defaults)),
    "EconML, own defaults": ("econml", econml_defaults),
    "EconML, causalrec's base": ("econml", lambda: econml(causalrec_base)),
    "EconML, linear": ("econml", lambda: econml(linear, logistic)),
    "causalml, XGBoost": ("causalml", lambda: causalml(xgboost_defaults)),
    "causalml, linear": ("causalml", lambda: causalml(linear, logistic)),
    "scikit-uplift, XGBoost": ("sklift", lambda: scikit_uplift(xgboost_defaults)),
    "scikit-uplift, linear": ("sklift", lambda: scikit_uplift(linear)),
}


def available() -> list[str]:
    """The columns that this interpreter can fill."""
    return [column for column, (module, _) in COLUMNS.items() if importlib.util.find_spec(module) is not None]


def predict_task(column: str, task: Path, target: Path) -> None:
    """Fit every learner of a column on a task and write what it predicts."""
    data = np.load(task)
    both = np.concatenate([data["X"], data["X_test"]])
    found, seconds = {}, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, learner in COLUMNS[column][1]().items():
            start = time.perf_counter()
            found[name] = np.ravel(learner(data["X"], data["treatment"], data["y"])(both)).astype(np.float64)
            seconds.append(time.perf_counter() - start)
    target.parent.mkdir(parents=True, exist_ok=True)
    half_done = target.with_suffix(".part")
    with half_done.open("wb") as file:
        np.savez(file, seconds=np.array(seconds), **found)
    half_done.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, nargs="?")
    parser.add_argument("predictions", type=Path, nargs="?")
    parser.add_argument("columns", nargs="*", help="COLUMN or COLUMN=PREFIX, for tasks whose names begin so")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    if asked.list:
        print(json.dumps(available()))
        return
    from joblib import Parallel, delayed

    jobs = []
    for column, prefix in ((*given.split("="), "")[:2] for given in asked.columns):
        for task in sorted(asked.tasks.glob(f"{prefix}*.npz")):
            target = asked.predictions / column / task.name
            if not target.exists():
                jobs.append(delayed(predict_task)(column, task, target))
    Parallel(n_jobs=asked.jobs)(jobs)


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # a process per task, a thread per process
    sys.exit(main())
