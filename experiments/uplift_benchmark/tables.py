"""Errors to tables: a row per learner, a column per package, published figures beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from causalrec.results import format_number
from experiments.uplift_benchmark.columns import LEARNERS, OURS

TUNED = {  # Nie and Wager's tables *_boost.tex: n = 1000, d = 6, sigma = 1, mean of 200 runs, XGBoost tuned by CV
    "A": {"S": 0.09, "T": 0.15, "X": 0.05, "R": 0.05},
    "B": {"S": 0.21, "T": 0.33, "X": 0.17, "R": 0.22},
    "C": {"S": 0.31, "T": 0.67, "X": 0.14, "R": 0.11},
    "D": {"S": 0.39, "T": 0.36, "X": 0.40, "R": 0.46},
}
UNTUNED = {  # causalml 0.14, benchmark_simulation_studies.ipynb: median over 32 sizes and noises, XGBoost's defaults
    "A": {"S": 0.364, "T": 1.40, "X": 0.713, "R": 5.18},
    "B": {"S": 0.803, "T": 1.83, "X": 0.818, "R": 3.97},
    "C": {"S": 0.508, "T": 2.27, "X": 0.864, "R": 6.77},
    "D": {"S": 1.031, "T": 1.62, "X": 1.20, "R": 5.58},
}
LINEAR_PUBLISHED = {  # metalearners' benchmarks/readme.md, out of sample: causalml, EconML, metalearners
    "S": (14.6248, 14.6248, 14.6248),
    "T": (0.0456347, 0.0456347, 0.0456347),
    "X": (0.0456347, 0.0456347, 0.0456347),
    "R": (0.0460119, np.nan, 0.0477203),
    "DR": (0.0454393, 0.254672, 0.045259),
}
IHDP_OLS = {"S": (4.6734, 1.2362), "T": (2.0238, 0.7300)}  # replications 1-10, 747 rows: mean and median root PEHE
Statistic = Callable[[pd.Series], str]


def mean_and_error(values: pd.Series) -> str:
    """Mean and its standard error over the runs."""
    if len(values) < 2:
        return short(values.mean())
    return f"{short(values.mean())} ± {short(values.std(ddof=1) / np.sqrt(len(values)))}"


def roots(values: pd.Series) -> str:
    """Mean and median of the roots of mean squared errors."""
    root = np.sqrt(values)
    return f"{short(root.mean())} / {short(root.median())}"


def root(values: pd.Series) -> str:
    """Root mean squared error of one run."""
    return short(float(np.sqrt(values.mean())))


def short(value: float) -> str:
    """Three digits that count."""
    return "–" if np.isnan(value) else format_number(float(f"{value:.3g}"))


def learner_table(
    errors: pd.DataFrame, columns: Sequence[str], statistic: Statistic, value: str = "mse"
) -> pd.DataFrame:
    """A row per learner, a column per package."""
    rows = []
    for learner in LEARNERS:
        row = {"learner": learner}
        for column in columns:
            chosen = errors.loc[(errors["column"] == column) & (errors["learner"] == learner), value]
            row[column] = statistic(chosen) if len(chosen) else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def shown(errors: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Those of the columns that have anything to show."""
    return [c for c in columns if (errors["column"] == c).any()]


def nie_wager_table(errors: pd.DataFrame, columns: Sequence[str], setting: str) -> pd.DataFrame:
    """A setting's errors, and what has been published about it."""
    table = learner_table(errors[errors["set"] == setting], columns, mean_and_error)
    table["published, tuned XGBoost"] = [short(TUNED[setting].get(k, np.nan)) for k in LEARNERS]
    return table


def linear_table(errors: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Root mean squared errors of the large linear set."""
    table = learner_table(errors[errors["set"] == "linear"], columns, root)
    for k, package in enumerate(("causalml", "EconML", "metalearners")):
        table[f"published, {package}"] = [short(LINEAR_PUBLISHED[name][k]) for name in LEARNERS]
    return table


def seconds_table(errors: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Mean seconds of a fit and its predictions, one thread."""
    return learner_table(errors, columns, lambda s: short(s.mean()), "seconds")


def paired(errors: pd.DataFrame, one: str, other: str, learner: str) -> tuple[float, float]:
    """Mean of the log of one column's error over another's in the tasks that both have, and its standard error."""
    chosen = errors[errors["learner"] == learner].pivot(index="task", columns="column", values="mse")
    if one not in chosen or other not in chosen:
        return np.nan, np.nan
    logs = np.log(chosen[one] / chosen[other]).dropna()
    if logs.empty:
        return np.nan, np.nan
    error = logs.std(ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else 0.0
    return float(logs.mean()), float(error)


def lost(errors: pd.DataFrame, columns: Sequence[str], ours: str = OURS) -> pd.DataFrame:
    """Where a peer has less error with the same kind of learner, by more than two standard errors and 2%."""
    rows = []
    for name, part in errors.groupby("set"):
        for learner in LEARNERS:
            for column in (c for c in columns if not c.startswith(OURS)):
                log, error = paired(part, ours, column, learner)
                if log > max(2 * error, np.log(1.02)):
                    rows.append({"set": name, "learner": learner, "to": column, "log": log, "standard error": error})
    return pd.DataFrame(rows, columns=["set", "learner", "to", "log", "standard error"])
