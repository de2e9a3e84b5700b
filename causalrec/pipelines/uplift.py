"""Stage "uplift": fit on training units, judge on units that the model has not seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec.config import RunConfig
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.nuisance import Nuisances, fit_nuisances, r_loss
from causalrec.nuisance.fitting import MeanModel
from causalrec.pipelines.bases import base_models, learner_name, make_learner, needs_nuisance, steady, with_learner
from causalrec.pipelines.designs import Design
from causalrec.pipelines.fitted import Part, boosting_curves, importances, parts_of
from causalrec.pipelines.scoring import UpliftScorer
from causalrec.pipelines.uplift_metrics import score_uplift
from causalrec.results import Result
from causalrec.uplift import compare_effects, group_average_effects

AIPW, BOOSTING, IMPORTANCES, LOSSES, R_LOSS, GROUPS, OVERLAP = (
    "uplift_average_effect",
    "uplift_boosting",
    "uplift_importances",
    "uplift_losses",
    "uplift_r_loss",
    "uplift_groups",
    "uplift_overlap",
)


@dataclass(frozen=True)
class UpliftOutput:
    """The fitted model, the results on the validation units with their scores, and the units held out."""

    scorer: UpliftScorer
    results: dict[str, Result]
    scored: pd.DataFrame = field(repr=False)
    holdout: pd.DataFrame = field(repr=False)
    propensity: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What is learned from the rows of a design."""

    covariates: tuple[str, ...]
    treatment: str
    outcome: str
    unit: str
    propensity: float | None  # of a randomised design; None where it must be estimated
    arms: tuple[str, str] = ("control", "treated")


def train_uplift(design: Design, config: RunConfig) -> UpliftOutput:
    """Fit the configured learner on the training units.

    The results are those of a model that was fitted without the validation units and is scored on them: pooled
    out-of-fold predictions of several models would have no honest standard error. The model that is kept is fitted on
    all training units; the units held out are seen by neither.
    """
    config = named(config, randomised=design.randomised)
    held_out = design.held_out(config.split.test_share, config.seed)
    training = design.frame[~held_out].reset_index(drop=True)
    outcome = design.outcome(config.uplift.outcome)
    if design.frame[outcome].nunique() == 1:
        raise OutcomeError(
            f"outcome {outcome!r} of {design.name} is {design.frame[outcome].iloc[0]:g} for all {len(design.frame):,} "
            "units, so there is no effect to learn. Check its `where` and window and the dates of the log, or set "
            "uplift.enabled: false."
        )
    share, notes = known_share(design, training)
    task = Task(design.covariates, design.treatment, outcome, design.unit, share, (design.control, design.treated))
    judged = design.validation(training, config.split.validation_share, config.seed)
    columns = [design.unit, design.treatment, outcome]
    validation = training[judged].reset_index(drop=True)
    scorer = fit_learner(training[~judged].reset_index(drop=True), task, config)
    scored = validation[columns].assign(uplift=scorer.predict(validation)["uplift"])
    judged_by = judge(validation, scored["uplift"].to_numpy(), scorer, task, config)
    kept = fit_learner(training, task, config)
    return UpliftOutput(
        scorer=kept.without_rows(),
        results=judged_by.results | describe(kept, config),
        scored=scored,
        holdout=design.frame.loc[held_out, [*columns, *design.covariates]].reset_index(drop=True),
        propensity=share,
        notes=(*notes, *judged_by.notes),
    )


def named(config: RunConfig, *, randomised: bool) -> RunConfig:
    """The config with the learner that is meant where none is named."""
    return config.model_copy(update={"uplift": with_learner(config.uplift, randomised=randomised)})


def known_share(design: Design, training: pd.DataFrame) -> tuple[float | None, tuple[str, ...]]:
    """The propensity where it is known by design, and what is to be said of it."""
    if not design.randomised:
        return None, (f"uplift: {design.name} is not randomised; the propensity is cross-fitted",)
    if design.expected_share is not None:
        return design.expected_share, ()
    share = float(training[design.treatment].mean())
    text = f"uplift: {design.name} names no expected_share; the propensity is the share treated, {share:.4g}"
    return share, (text,)


def fit_learner(rows: pd.DataFrame, task: Task, config: RunConfig) -> UpliftScorer:
    """The configured learner on these rows, with the nuisances that it needs."""
    settings = config.uplift
    y, treatment = rows[task.outcome].to_numpy(), rows[task.treatment].to_numpy()
    binary = bool(np.isin(y, (0.0, 1.0)).all())
    shared = needs_nuisance(settings, known_propensity=task.propensity is not None)
    learner = make_learner(settings, binary=binary, seed=config.seed, nuisance=shared)
    X = rows[list(task.covariates)]
    scorer = UpliftScorer.of(learner, X, unit=task.unit, encode=settings.learner == "causal_forest")
    covariates = scorer.covariates(X)
    if shared:
        nuisance = fit_task_nuisances(covariates, y, treatment, task, config)
        learner.fit(covariates, y, treatment=treatment, nuisance=nuisance)
        if not hasattr(learner, "predict_outcomes"):
            scorer = replace(scorer, baseline=MeanModel([fold.outcome[0] for fold in nuisance.models]))
    else:
        learner.fit(covariates, y, treatment=treatment, propensity=task.propensity)
        steady(learner)
    return scorer


def fit_task_nuisances(
    X: pd.DataFrame, y: FloatArray, treatment: FloatArray, task: Task, config: RunConfig
) -> Nuisances:
    """Nuisances with the configured base; the propensity is known, or cross-fitted, calibrated and clipped as said."""
    settings = config.uplift
    regressor, classifier = base_models(settings, seed=config.seed)
    binary = bool(np.isin(y, (0.0, 1.0)).all())
    estimated = task.propensity is None
    return fit_nuisances(
        X, y, treatment=treatment, propensity=task.propensity, outcome_model=classifier if binary else regressor,
        propensity_model=classifier if estimated else None, n_folds=settings.n_folds,
        calibration=settings.calibration if estimated else None, clip=settings.clip if estimated else None,
        random_state=config.seed,
    )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """How good predictions are, what is to be said of it, and the nuisances of the rows where they could be fitted."""

    results: dict[str, Result]
    notes: tuple[str, ...] = ()
    nuisance: Nuisances | None = None
    doubly_robust: bool = False

    @property
    def scored_by(self) -> Nuisances | None:
        """What the metrics of these rows take as ``nuisance``, so that others rest on the same scores."""
        return self.nuisance if self.doubly_robust else None


def judge(frame: pd.DataFrame, uplift: FloatArray, scorer: UpliftScorer, task: Task, config: RunConfig) -> Judged:
    """How good predictions are on rows that their model has not seen.

    Losses, and effects by group of predicted uplift, take nuisances that are cross-fitted within these rows; so do all
    metrics where the treatment was not randomised.
    """
    name, level = learner_name(config.uplift), config.confidence_level
    y, treatment = frame[task.outcome].to_numpy(), frame[task.treatment].to_numpy()
    told: dict[str, Any] = {"label": name, "arms": task.arms}
    try:
        nuisance = fit_task_nuisances(scorer.covariates(frame), y, treatment, task, config)
    except CausalRecError as error:  # too few rows for folds, say: what needs no nuisance is still known
        if task.propensity is None:
            raise
        found = score_uplift(y, uplift, treatment, config, **told)
        return Judged(found, (f"uplift: no losses and no groups of effects: {error}",))
    robust = task.propensity is None
    found = score_uplift(y, uplift, treatment, config, nuisance=nuisance if robust else None, **told)
    found[R_LOSS] = r_loss(uplift, nuisance, confidence_level=level)
    found[LOSSES] = compare_effects({name: uplift}, nuisance, predictions="of one model", confidence_level=level)
    groups = group_average_effects(nuisance, uplift, predictions="of one model", confidence_level=level)
    found[GROUPS] = replace(groups, control=task.arms[0], treatment=task.arms[1])
    return Judged(found, (), nuisance, robust)


def describe(scorer: UpliftScorer, config: RunConfig) -> dict[str, Result]:
    """What the learner is made of, and what its nuisances say of the average effect and of overlap."""
    name, learner = learner_name(config.uplift), scorer.model
    parts: list[Part] = parts_of(learner)
    found = {BOOSTING: boosting_curves(parts, name), IMPORTANCES: importances(scorer, name)}
    nuisance = getattr(learner, "nuisance_", None)
    if nuisance is not None:
        found[AIPW] = nuisance.average_effect(confidence_level=config.confidence_level)
        if not nuisance.propensity_known:
            found[OVERLAP] = nuisance.overlap()
    return {key: result for key, result in found.items() if result is not None}
