"""The book's estimates beside ours, and what other methods say of the same smokers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causalrec.observational import ObservationalStudy, estimate_ate, fit_propensity, instrumental_variable
from causalrec.results import EffectComparisonResult, EffectResult, InstrumentEffect
from experiments.nhefs.data import COVARIATES, INSTRUMENT, OUTCOME, PRICE, TREATMENT, Smokers

WEIGHT = "1 / P(weighed)"


@dataclass(frozen=True)
class Published:
    """An estimate that is printed, with the digits and the interval that are, and ours."""

    what: str
    where: str  # program of Hernán and Robins, "Causal Inference: What If"
    value: str
    interval: str
    ours: EffectResult = field(repr=False)

    @property
    def difference(self) -> float:
        """Ours - printed."""
        return self.ours.estimate - float(self.value)


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
    tenth = pd.DataFrame({"tenth": smokers.tenth})
    own = study.estimate("ipw", weights_known=True)
    book_ipw = estimate_ate(
        smokers.weighed[list(COVARIATES)],
        y,
        method="ipw",
        propensity=smokers.score_of_all,
        sample_weight=smokers.censoring,
        **told,
    )
    classical: dict[str, Any] = {"estimand": "ato", "error": "classical"}
    product = study.estimate("standardisation", interactions=["smokeintensity"])
    stabilised = study.estimate("ipw", form="stabilised", weights_known=True)
    over_score = estimate_ate(_own_score(smokers), y, method="standardisation", **told)
    by_tenth = estimate_ate(tenth, y, method="ols", **classical, **told)
    by_score = estimate_ate(score, y, method="ols", **classical, **told)
    return [
        Published("no adjustment", "12.1", "2.5406", "1.7 to 3.4",
                  study.estimate("difference_in_means", error="classical")),
        Published("weighting by the score", "12.2", "3.44054", "2.411 to 4.470", own),
        Published("stabilised weights", "12.3", "3.44054", "2.411 to 4.470", stabilised),
        Published("weights for quitting and being weighed", "12.7", "3.496", "2.47 to 4.53", book_ipw),
        Published("standardisation", "13.3", "3.517", "2.6 to 4.5", product),
        Published("g-estimation, the weighed standing for the lost", "14.2", "3.446", "2.5 to 4.5",
                  weighted.estimate("g_estimation", estimand="ato")),
        Published("regression", "15.1", "3.46262", "2.6 to 4.3", study.estimate("ols", **classical)),
        Published("regression on tenths of the score", "15.3", "3.5005", "2.604 to 4.397", by_tenth),
        Published("regression on the score", "15.3", "3.5506", "2.65 to 4.45", by_score),
        Published("standardised over the score", "15.4", "3.511778", "2.48 to 4.54", over_score),
        Published("instrument: price of cigarettes", "16.2", "2.396", "−36.5 to 41.3", by_price(smokers)),
    ]  # fmt: skip


def _own_score(smokers: Smokers) -> Any:
    """The score fitted on those who were weighed, as the only covariate."""
    weighed = smokers.weighed
    return fit_propensity(weighed[list(COVARIATES)], treatment=weighed[TREATMENT]).score[:, None]


def with_censoring(smokers: Smokers) -> EffectComparisonResult:
    """Every method that takes weights, the weighed standing for the lost, too."""
    return study_of(smokers, censoring=True).compare()


def by_price(smokers: Smokers) -> InstrumentEffect:
    """The effect by two-stage least squares, a high price of cigarettes being the instrument."""
    frame = smokers.weighed.dropna(subset=[INSTRUMENT])
    high = (frame[INSTRUMENT] >= PRICE).astype(int)
    return instrumental_variable(None, frame[OUTCOME], treatment=frame[TREATMENT], instruments=high, error="classical")
