"""The smokers of NHEFS with the columns that the book's models take, and the weights for those who were lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalrec.datasets import load_dataset
from causalrec.observational import fit_propensity

TREATMENT, OUTCOME, ID = "qsmk", "wt82_71", "seqn"
CATEGORIES = ("education", "exercise", "active")
SQUARED = ("age", "smokeintensity", "smokeyrs", "wt71")
CONFOUNDERS = ("sex", "race", *CATEGORIES, *SQUARED)
COVARIATES = (*CONFOUNDERS, *(f"{c}²" for c in SQUARED))
INSTRUMENT, PRICE = "price82", 1.5  # a pack of cigarettes in 1982 in the state of residence, $ of 2008

BEFORE = {
    "ht": "height, cm",
    "cholesterol": "cholesterol, mg/100 ml",
    "income": "income, class 11 to 22",
    "drank": "drank within the year, share",
}  # of 1971, not among the book's confounders; unknown of some
AFTER = "sbp"  # blood pressure of 1982


@dataclass(frozen=True)
class Smokers:
    """All 1,629, the 1,566 whose weight in 1982 is known, and how likely each was to be weighed and to quit."""

    everybody: pd.DataFrame = field(repr=False)
    weighed: pd.DataFrame = field(repr=False)
    censoring: NDArray[np.float64] = field(repr=False)  # 1 / P(weighed | quitting, covariates) of the weighed
    score_of_all: NDArray[np.float64] = field(repr=False)  # P(quits | covariates) fitted on everybody, of the weighed
    tenth: NDArray[np.object_] = field(repr=False)  # of this score among everybody, of the weighed

    @property
    def n_lost(self) -> int:
        """Smokers whose weight in 1982 is not known."""
        return len(self.everybody) - len(self.weighed)


def read_smokers(data_dir: Path | None = None) -> Smokers:
    """Read the data; weights for censoring as in program 12.7 of the book, without their stabilising numerator."""
    frame = load_dataset("nhefs", data_dir).frame
    squares = {f"{c}²": frame[c] ** 2 for c in SQUARED}
    texts = {c: frame[c].astype(str) for c in CATEGORIES}
    drank = (frame["alcoholpy"] == 1).where(frame["alcoholpy"] != 2).astype(float)  # 2: not known
    frame = frame.assign(**texts, **squares, drank=drank)
    frame = frame[[ID, TREATMENT, OUTCOME, INSTRUMENT, *COVARIATES, *BEFORE, AFTER]]
    known = frame[OUTCOME].notna()
    lost = fit_propensity(frame[[TREATMENT, *COVARIATES]], treatment=(~known).astype(int).to_numpy()).score
    quits = fit_propensity(frame[list(COVARIATES)], treatment=frame[TREATMENT].to_numpy()).score
    keep = known.to_numpy()
    tenth = pd.qcut(quits, 10, labels=False).astype(str).astype(object)
    return Smokers(frame, frame[known].reset_index(drop=True), 1 / (1 - lost[keep]), quits[keep], tenth[keep])
