"""What there is of Criteo's test: a sample with everything, a larger one with treatment and conversion alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalrec.datasets import data_directory, load_dataset
from causalrec.nuisance import Nuisances, fit_nuisances
from causalrec.uplift import DRLearner, SLearner, TLearner, XLearner

SHARE_TREATED = 0.85  # by design
ALL_ROWS = 13_979_592
COUNTS = "criteo_uplift/criteo_uplift_v2.1_treatment_conversion_15pct.parquet"
COVARIATES = [f"f{i}" for i in range(12)]
S, T, X, DR, VISITS = "S-learner", "T-learner", "X-learner", "DR-learner", "expected visits"


@dataclass(frozen=True)
class Sample:
    """The rows with covariates: what happened, models that did not see them, and scores of every learner."""

    visit: NDArray[np.float64]
    conversion: NDArray[np.float64]
    treatment: NDArray[Any]
    nuisance: Nuisances = field(repr=False)
    scores: dict[str, NDArray[np.float64]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.visit)


def read_counts(data_dir: Path | None) -> pd.DataFrame:
    """Users and conversions of the 15% sample by treatment, 0 first."""
    frame = pd.read_parquet((data_dir or data_directory()) / COUNTS)
    return frame.groupby("treatment")["conversion"].agg(users="size", conversions="sum").sort_index()


def read_sample(data_dir: Path | None, *, rows: int | None = None) -> Sample:
    """Score every row out of fold by each learner, for the effect on visits; ``rows`` takes the first of them."""
    frame = load_dataset("criteo_uplift", data_dir).frame[:rows]
    x, y = frame[COVARIATES], frame["visit"].to_numpy(np.float64)
    told: dict[str, Any] = {"treatment": frame["treatment"].to_numpy()}
    nuisance = fit_nuisances(x, y, propensity=SHARE_TREATED, **told)
    learners = {S: SLearner(), T: TLearner(), X: XLearner(), DR: DRLearner()}
    scores = {}
    for name, learner in learners.items():
        shared: dict[str, Any] = {"nuisance": nuisance} if name in (X, DR) else {"propensity": SHARE_TREATED}
        scores[name] = learner.fit_predict(x, y, **told, **shared)
    scores[VISITS] = nuisance.outcomes[:, 0]
    return Sample(y, frame["conversion"].to_numpy(np.float64), told["treatment"], nuisance, scores)
