"""Hillstrom's customers as the study uses them, and the learners it compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from xgboost import XGBClassifier

from causalrec.datasets import load_dataset
from causalrec.uplift import ClassTransformation, DRLearner, SLearner, TLearner, XLearner

NONE, MENS, WOMENS = "No E-Mail", "Mens E-Mail", "Womens E-Mail"
COVARIATES = ["recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel"]
CATEGORIES = ["history_segment", "zip_code", "channel"]
MAIL, VISIT, MARGIN = 0.10, 2.0, 0.3  # assumptions: $ an e-mail, $ a visit is worth, profit of a $ of spend
ALL_ARMS = dict.fromkeys((NONE, MENS, WOMENS), 1 / 3)


@dataclass(frozen=True)
class Customers:
    """Covariates, arm, and what happened within two weeks."""

    X: pd.DataFrame
    treatment: NDArray[Any]
    visit: NDArray[np.float64]
    spend: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.visit)


def read_customers(path: Path | None, *, rows: int | None = None, mens: bool = False) -> Customers:
    """The women's e-mail against none, or all three arms with ``mens``; ``rows`` draws some of them for a short run."""
    options = {} if mens else {"treatment": WOMENS, "control": NONE}
    frame = load_dataset("hillstrom", path, **options).frame
    if rows is not None:
        frame = frame.sample(rows, random_state=0).reset_index(drop=True)
    X = frame[COVARIATES].astype(dict.fromkeys(CATEGORIES, "category"))
    return Customers(
        X, frame["segment"].to_numpy(), frame["visit"].to_numpy(np.float64), frame["spend"].to_numpy(np.float64)
    )


def learners() -> dict[str, Any]:
    """Learners with their defaults. An R-learner is left out: at a propensity of one half it is the DR-learner."""
    return {
        "S-learner": SLearner(control=NONE),
        "T-learner": TLearner(control=NONE),
        "X-learner": XLearner(control=NONE),
        "DR-learner": DRLearner(control=NONE),
        "class transformation": ClassTransformation(control=NONE),
    }


def published_learner() -> ClassTransformation:
    """Class transformation on XGBoost of depth 2, as in scikit-uplift's notebook (which encodes categories itself)."""
    base = XGBClassifier(max_depth=2, random_state=42, enable_categorical=True, n_jobs=1)
    return ClassTransformation(base, control=NONE)


def simple_scores(X: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Scores that need no model."""
    return {
        "bought women's": X["womens"].to_numpy(np.float64),
        "bought lately": -X["recency"].to_numpy(np.float64),
    }
