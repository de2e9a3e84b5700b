"""The book's estimates beside ours, and what other methods say of the same smokers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causalrec.observational import ObservationalStudy, estimate_ate, fit_propensity, instrumental_variable
from causalrec.results import EffectComparisonResult, EffectResult
from experiments.nhefs.data import COVARIATES, INSTRUMENT, OUTCOME, PRICE, TREATMENT, Smokers

WEIGHT = "1 / P(weighed)"


@dataclass(frozen=True)
class Published:
    """An estimate that is printed somewhere, and ours."""

    what: str
    where: str  # chapter or program of Hernán and Robins, "Causal Inference: What If"
    value: float
    low: float
    high: float
    ours: EffectResult = field(repr=False)


def study_of(
    smokers: Smokers, *, censoring: bool = False, covariates: Sequence[str] = COVARIATES
) -> ObservationalStudy:
    """The study of those who were weighed; with ``censoring`` they stand for those who were lost, too."""
    frame = smokers.weighed.assign(**{WEIGHT: smokers.censoring})
    return ObservationalStudy(
        frame, treatment=TREATMENT, outcome=OUTCOME, covariates=list(covariates),
        sample_weight=WEIGHT if censoring else None,
    )  # fmt: skip


def published(smokers: Smokers) -> list[Published]:
    """Every estimate of the book's chapters 12 to 16 that is one number for the average effect."""
    study, weighted = study_of(smokers), study_of(smokers, censoring=True)
    told: dict[str, Any] = {"treatment": smokers.weighed[TREATMENT]}
    y, score = smokers.weighed[OUTCOME], smokers.score_of_all[:, None]
    deciles = pd.DataFrame({"tenth": smokers.tenth})
    own = study.estimate("ipw", weights_known=True)
    book_ipw = estimate_ate(
        smokers.weighed[list(COVARIATES)],
        y,
        method="ipw",
        propensity=smokers.score_of_all,
        sample_weight=smokers.censoring,
        **told,
    )
    return [
        Published("no adjustment", "12.1", 2.5406, 1.7, 3.4, study.estimate("difference_in_means", error="classical")),
        Published("weighting by the score", "12.2", 3.44054, 2.411, 4.470, own),
        Published("stabilised weights", "12.3", 3.44054, 2.411, 4.470,
                  study.estimate("ipw", form="stabilised", weights_known=True)),
        Published("and censoring", "12.7", 3.496, 2.47, 4.53, book_ipw),
        Published("standardisation", "13.3", 3.5174, 2.6, 4.5,
                  study.estimate("standardisation", interactions=["smokeintensity"])),
        Published("g-estimation with censoring", "14.2", 3.446, 2.5, 4.5, weighted.estimate("g_estimation", estimand="ato")),
        Published("regression", "15.1", 3.46262, 2.6, 4.3, study.estimate("ols", estimand="ato", error="classical")),
        Published("regression on deciles of the score", "15.3", 3.5005, 2.604, 4.397,
                  estimate_ate(deciles, y, method="ols", estimand="ato", error="classical", **told)),
        Published("regression on the score", "15.3", 3.5506, 2.65, 4.45,
                  estimate_ate(score, y, method="ols", estimand="ato", error="classical", **told)),
        Published("standardised over the score", "15.4", 3.5118, 2.48, 4.54,
                  estimate_ate(_own_score(smokers), y, method="standardisation", **told)),
        Published("instrument: price of cigarettes", "16.2", 2.396, -36.5, 41.3, by_price(smokers)),
    ]  # fmt: skip


def _own_score(smokers: Smokers) -> Any:
    """The score fitted on those who were weighed, as the only covariate."""
    weighed = smokers.weighed
    return fit_propensity(weighed[list(COVARIATES)], treatment=weighed[TREATMENT]).score[:, None]


def with_censoring(smokers: Smokers) -> EffectComparisonResult:
    """Every method that takes weights, the weighed standing for the lost, too."""
    return study_of(smokers, censoring=True).compare()


def by_price(smokers: Smokers) -> EffectResult:
    """The effect by two-stage least squares, a high price of cigarettes being the instrument."""
    frame = smokers.weighed.dropna(subset=[INSTRUMENT])
    high = (frame[INSTRUMENT] >= PRICE).astype(int)
    return instrumental_variable(None, frame[OUTCOME], treatment=frame[TREATMENT], instruments=high, error="classical")
