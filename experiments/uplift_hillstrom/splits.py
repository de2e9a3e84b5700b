"""The published protocol: half to learn from, half to judge, uplift among the best 30%; over many splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from causalrec.evaluation import uplift_at_k
from causalrec.nuisance import fit_nuisances
from causalrec.results import EffectResult
from experiments.uplift_hillstrom.data import NONE, Customers, learners, published_learner, simple_scores

PUBLISHED = 0.0661  # scikit-uplift, notebooks/pipeline_usage_EN.ipynb: one split, seed 42
FIRST_SEED = 42
AS_PUBLISHED = "class transformation, as published"


def judged_splits(customers: Customers, n_splits: int) -> pd.DataFrame:
    """A row per split and scorer with its uplift at 30% and the standard error of that split."""
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + n_splits):
        for scorer, found in judged_split(customers, seed).items():
            rows.append({"seed": seed, "scorer": scorer, "uplift": found.estimate, "std_error": found.std_error})
    return pd.DataFrame(rows)


def judged_split(customers: Customers, seed: int) -> dict[str, EffectResult]:
    """scikit-uplift's uplift@30% of every scorer in the half that no model has seen."""
    learn, judge = train_test_split(np.arange(len(customers)), test_size=0.5, random_state=seed)
    X, y, treatment = customers.X.iloc[learn], customers.visit[learn], customers.treatment[learn]
    nuisance = fit_nuisances(X, y, treatment=treatment, control=NONE, propensity=0.5, random_state=seed)
    unseen = customers.X.iloc[judge]
    scores = {}
    for name, learner in {AS_PUBLISHED: published_learner(), **learners()}.items():
        shared: dict[str, Any] = {"nuisance": nuisance} if name in ("X-learner", "DR-learner") else {"propensity": 0.5}
        scores[name] = learner.fit(X, y, treatment=treatment, **shared).predict(unseen)
    return {
        name: uplift_at_k(
            customers.visit[judge], score, customers.treatment[judge], k=0.3, control=NONE, convention="sklift"
        )
        for name, score in {**scores, **simple_scores(unseen)}.items()
    }


def over_splits(found: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over splits of every scorer; the error is that of one split, which judges half the customers."""
    groups = found.groupby("scorer", sort=False)
    table = groups["uplift"].agg(mean="mean", sd="std", least="min", most="max")
    table["error of a split"] = groups["std_error"].mean()
    table[f"seed {FIRST_SEED}"] = found[found["seed"] == FIRST_SEED].set_index("scorer")["uplift"]
    return table.sort_values("mean", ascending=False).reset_index()
