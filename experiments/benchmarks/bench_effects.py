"""A whole comparison of methods beside peers that estimate one effect at a time, and the logistic score by itself.

1. ``ObservationalStudy.compare()``, every method of ours with its error and the balance that it leaves, against
   DoWhy's propensity matching, stratification and weighting and its linear regression, run one after another on the
   same frame, and AIPW by EconML's ``LinearDRLearner`` with the same boosted trees: fewer methods, and DoWhy's without
   errors. The point estimates of what both have are shown side by side.
2. ``fit_propensity``, unpenalised and with the information that errors need, against the solvers of scikit-learn's
   ``LogisticRegression(C=inf)`` on the same standardised columns. A solver counts as converging when its scores come
   within 1e-6 of the maximum likelihood.

Run: ``python experiments/benchmarks/bench_effects.py``; ``--rows 100000 --covariates 20 --score-rows 1000000``.
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

from causalrec.observational import ObservationalStudy, fit_propensity

_DOWHY = {
    "matching": "backdoor.propensity_score_matching",
    "subclassification": "backdoor.propensity_score_stratification",
    "ipw": "backdoor.propensity_score_weighting",
    "ols": "backdoor.linear_regression",
}
_SOLVERS = ("lbfgs", "newton-cholesky", "newton-cg")


def make_frame(n: int, n_covariates: int) -> pd.DataFrame:
    """Confounded by all covariates, linearly; the effect is 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_covariates))
    logit = X @ np.linspace(0.3, -0.3, n_covariates)
    treatment = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    y = logit + treatment + rng.normal(size=n)
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(n_covariates)]).assign(t=treatment, y=y)


def seconds(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and processor seconds of one run, and what it returned."""
    wall, processor = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - wall, time.process_time() - processor, found


def dowhy_estimate(frame: pd.DataFrame, method: str) -> float:
    from dowhy import CausalModel

    causes = [c for c in frame if c.startswith("x")]
    model = CausalModel(frame.copy(), treatment="t", outcome="y", common_causes=causes)
    found = model.identify_effect(method_name="maximal-adjustment", proceed_when_unidentifiable=True)
    estimate = model.estimate_effect(
        found, method, target_units="ate", method_params={"init_params": {}, "fit_params": {}}
    )
    return float(estimate.value)


def econml_aipw(frame: pd.DataFrame) -> float:
    from econml.dr import LinearDRLearner

    from causalrec.nuisance import BoostedClassifier, BoostedRegressor

    learner = LinearDRLearner(
        model_propensity=BoostedClassifier(), model_regression=BoostedRegressor(), cv=5, random_state=0
    )
    W = frame[[c for c in frame if c.startswith("x")]].to_numpy()
    learner.fit(frame["y"].to_numpy(), frame["t"].to_numpy(), X=None, W=W)
    return float(learner.intercept__inference(T=1).point_estimate)


def compare(n: int, n_covariates: int, console: Console) -> None:
    import dowhy  # noqa: F401 - no import is timed
    import econml.dr  # noqa: F401

    frame = make_frame(n, n_covariates)
    names = [c for c in frame if c.startswith("x")]
    own_wall, own_cpu, found = seconds(
        lambda: ObservationalStudy(frame, treatment="t", outcome="y", covariates=names).compare()
    )
    console.print(str(found), highlight=False, soft_wrap=True)
    table = Table("", "wall, s", "processor, s", "estimate", "ours", title=f"{n:,} rows, {n_covariates} covariates")
    table.add_row(f"compare(), {len(found.names)} methods", f"{own_wall:.2f}", f"{own_cpu:.2f}", "", "")
    runs = {f"DoWhy {name}": (name, lambda m=method: dowhy_estimate(frame, m)) for name, method in _DOWHY.items()}
    runs["EconML LinearDRLearner"] = ("aipw", lambda: econml_aipw(frame))
    sums = np.zeros(2)
    for label, (name, call) in runs.items():
        wall, cpu, estimate = seconds(call)
        sums += wall, cpu
        ours = f"{found[name].estimate:.4f}" if name in found.names else "-"
        table.add_row(label, f"{wall:.2f}", f"{cpu:.2f}", f"{estimate:.4f}", ours)
    table.add_row("peers, one after another", f"{sums[0]:.2f}", f"{sums[1]:.2f}", "", "")
    console.print(table)
    console.print(
        f"compare() takes {own_wall / sums[0]:.2f} of the peers' time, {own_cpu / sums[1]:.2f} on processors."
    )


def score(n: int, n_covariates: int, repeats: int, console: Console) -> None:
    from sklearn.linear_model import LogisticRegression

    frame = make_frame(n, n_covariates)
    X, t = frame[[c for c in frame if c.startswith("x")]].to_numpy(), frame["t"].to_numpy()
    truth = fit_propensity(X, treatment=t).score  # also a warm-up
    runs: dict[str, Callable[[], np.ndarray]] = {"causalrec": lambda: fit_propensity(X, treatment=t).score}
    for solver in _SOLVERS:
        runs[f"scikit-learn {solver}"] = lambda s=solver: (
            LogisticRegression(C=np.inf, solver=s, tol=1e-8 if s == "lbfgs" else 1e-6, max_iter=1000)
            .fit(X, t)
            .predict_proba(X)[:, 1]
        )
    best = {name: np.full(2, np.inf) for name in runs}
    gap = {}
    for _ in range(repeats):
        for name, call in runs.items():
            wall, cpu, found = seconds(call)
            best[name] = np.minimum(best[name], (wall, cpu))
            gap[name] = float(np.abs(found - truth).max())
    table = Table(
        "", "wall, s", "processor, s", "largest gap in score", title=f"Logistic score, {n:,} x {n_covariates}"
    )
    for name, (wall, cpu) in best.items():
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", f"{gap[name]:.1e}")
    console.print(table)
    converged = [name for name in runs if name != "causalrec" and gap[name] < 1e-6]
    fastest = min(converged, key=lambda name: best[name][0])
    ratio = best["causalrec"] / best[fastest]
    console.print(f"causalrec takes {ratio[0]:.2f} of the time of {fastest}, {ratio[1]:.2f} on processors.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--covariates", type=int, default=20)
    parser.add_argument("--score-rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="of the score; the fastest counts")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # DoWhy's own, one a call
    console = Console()
    if arguments.rows:
        compare(arguments.rows, arguments.covariates, console)
    if arguments.score_rows:
        score(arguments.score_rows, arguments.covariates, arguments.repeats, console)


if __name__ == "__main__":
    main()
