"""Least squares on IHDP: published figures to the digit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from causalrec.uplift import SLearner, TLearner
from experiments.uplift_benchmark.data import Task
from experiments.uplift_benchmark.tables import IHDP_OLS


def ols_errors(tasks: Sequence[Task]) -> dict[str, list[float]]:
    """Root mean squared errors of the effect in the rows learned from: S- and T-learner with least squares."""
    found = {}
    for name, learner in {"S": SLearner, "T": TLearner}.items():
        fitted = [learner(LinearRegression()).fit(t.X, t.y, treatment=t.treatment) for t in tasks]
        found[name] = [
            float(np.sqrt(np.mean((f.predict(t.X) - t.tau) ** 2))) for f, t in zip(fitted, tasks, strict=True)
        ]  # fmt: skip
    return found


def ols_table(tasks: Sequence[Task]) -> pd.DataFrame:
    """Mean and median beside the published ones."""
    return pd.DataFrame([
        {
            "learner": name, "mean": round(float(np.mean(values)), 4), "median": round(float(np.median(values)), 4),
            "published mean": IHDP_OLS[name][0], "published median": IHDP_OLS[name][1],
        }
        for name, values in ols_errors(tasks).items()
    ])  # fmt: skip
