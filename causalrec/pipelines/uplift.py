"""Stage "uplift": fit on training units, judge on units that the model has not seen."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.base import clone

from causalrec._typing import FloatArray
from causalrec.config import RunConfig
from causalrec.evaluation import auuc_score, qini_curve, qini_score, uplift_at_k, uplift_by_bin
from causalrec.exceptions import OutcomeError, TreatmentError
from causalrec.pipelines.designs import Design
from causalrec.pipelines.inputs import Truth
from causalrec.pipelines.scoring import UpliftScorer
from causalrec.results import Result
from causalrec.uplift import TLearner


@dataclass(frozen=True)
class UpliftOutput:
    """The fitted model, the results on the validation units with their scores, and the units held out."""

    scorer: UpliftScorer
    results: dict[str, Result]
    scored: pd.DataFrame = field(repr=False)
    holdout: pd.DataFrame = field(repr=False)


def train_uplift(design: Design, config: RunConfig) -> UpliftOutput:
    """Fit a T-learner on the training units.

    The results are those of a model that was fitted without the validation units and is scored on them: pooled
    out-of-fold predictions of several models would have no honest standard error. The model that is kept is fitted on
    all training units; the units held out are seen by neither.
    """
    held_out = design.held_out(config.split.test_share, config.seed)
    training = design.frame[~held_out].reset_index(drop=True)
    outcome = design.outcome(config.uplift.outcome)
    if design.frame[outcome].nunique() == 1:
        raise OutcomeError(
            f"outcome {outcome!r} of {design.name} is {design.frame[outcome].iloc[0]:g} for all {len(design.frame):,} "
            "units, so there is no effect to learn. Check its `where` and window and the dates of the log, or set "
            "uplift.enabled: false."
        )
    learner = TLearner(random_state=config.seed, **config.uplift.params)
    judged = design.validation(training, config.split.validation_share, config.seed)

    def fit(rows: pd.DataFrame) -> UpliftScorer:
        X = rows[list(design.covariates)]
        return UpliftScorer.fit(clone(learner), X, rows[outcome], rows[design.treatment], unit=design.unit)

    columns = [design.unit, design.treatment, outcome]
    validation = training[judged].reset_index(drop=True)
    scored = validation[columns].assign(uplift=fit(training[~judged]).predict(validation)["uplift"])
    return UpliftOutput(
        scorer=fit(training),
        results=score_uplift(scored, scored["uplift"].to_numpy(), design.treatment, outcome, config),
        scored=scored,
        holdout=design.frame.loc[held_out, [*columns, *design.covariates]].reset_index(drop=True),
    )


def score_uplift(
    frame: pd.DataFrame, uplift: FloatArray, treatment: str, outcome: str, config: RunConfig, label: str = "T-learner"
) -> dict[str, Result]:
    """Qini, AUUC, the effect in the top share, the Qini curve and the effect by group of predicted uplift."""
    y, arm = frame[outcome].to_numpy(), frame[treatment].to_numpy()
    level = config.confidence_level
    results: dict[str, Result] = {
        "qini": qini_score(y, uplift, arm, confidence_level=level),
        "auuc": auuc_score(y, uplift, arm, confidence_level=level),
        "qini_curve": qini_curve(y, uplift, arm, confidence_level=level, label=label),
        "uplift_bins": uplift_by_bin(y, uplift, arm, confidence_level=level),
    }
    # Few units, or many of equal score, may leave one arm out of the top: then there is no effect in it to report.
    with contextlib.suppress(TreatmentError):
        results[top_name(config)] = uplift_at_k(y, uplift, arm, k=config.uplift.top_share, confidence_level=level)
    return results


def true_scores(
    scored: pd.DataFrame, unit: str, column: str | None, truth: Truth | None, config: RunConfig
) -> dict[str, float]:
    """What the metrics of these predictions would be if every unit's true effect were known; empty where it is not.

    The integrals of :mod:`causalrec.evaluation` with the true effect in place of the score of each unit.
    """
    if truth is None or column is None:
        return {}
    tau = truth.units.set_index(truth.unit)[column].reindex(pd.Index(scored[unit])).to_numpy(np.float64)
    # Shares of the population, best first; equal predictions share the middle of their ranks.
    rank = (rankdata(-scored["uplift"].to_numpy()) - 0.5) / len(scored)
    return {
        "qini": float(np.mean((0.5 - rank) * tau)),
        "auuc": float(np.mean((1.0 - rank) * tau)),
        top_name(config): float(tau[rank <= max(config.uplift.top_share, rank.min())].mean()),
    }


def top_name(config: RunConfig) -> str:
    """``uplift_at_10pct`` for a top share of 0.1."""
    return f"uplift_at_{config.uplift.top_share * 100:g}pct"
