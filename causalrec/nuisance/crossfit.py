"""Models that do not see some rows, and what they predict for these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import TreatmentError
from causalrec.nuisance.fitting import SharedCovariates
from causalrec.nuisance.joined import ArmModel, predict_joined
from causalrec.nuisance.propensity import (
    Calibration,
    Calibrator,
    arm_probabilities,
    calibrate_across,
    clip_propensity,
    fit_propensity_models,
)
from causalrec.nuisance.tables import Joined, give_back


@dataclass(frozen=True, eq=False)
class Recipe:
    """How nuisances are fitted: the models, and what is done to the propensity."""

    outcome_model: Any
    propensity_model: Any  # None where the propensity is known
    calibration: Calibration
    clip: float | None
    joint_outcome: bool = False  # one outcome model of all arms


@dataclass(frozen=True, eq=False)
class FoldModels:
    """The models that never saw one fold: one of the outcome per arm; of the propensity none where it is known."""

    outcome: tuple[Any, ...]
    propensity: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Held:
    """Models and what they predict for the rows that they did not see; a propensity of no columns where known."""

    rows: IntArray
    models: FoldModels
    outcomes: FloatArray
    propensity: FloatArray


def fit_outside(
    shared: SharedCovariates,
    recipe: Recipe,
    y: FloatArray,
    codes: IntArray,
    n_arms: int,
    weight: FloatArray | None,
    away: BoolArray,
) -> Held:
    """Models fitted without the rows that are ``away``, and their predictions for these."""
    held = np.flatnonzero(away)
    if recipe.joint_outcome:
        outcome_models, outcomes = _fit_joint(shared, recipe.outcome_model, y, codes, n_arms, weight, away)
    else:
        outcome_models, outcomes = _fit_each(shared, recipe.outcome_model, y, codes, n_arms, weight, away)
    give_back(shared.X)
    propensity_models: list[Any] = []
    propensity: FloatArray = np.empty((len(held), 0))
    if recipe.propensity_model is not None:
        rows = np.flatnonzero(~away)
        propensity_models = fit_propensity_models(shared, recipe.propensity_model, codes, n_arms, rows, weight)
        shared.forget_rows(rows)
        propensity = arm_probabilities([shared.predict(model, held) for model in propensity_models])
    return Held(held, FoldModels(tuple(outcome_models), tuple(propensity_models)), outcomes, propensity)


def _fit_each(
    shared: SharedCovariates,
    base: Any,
    y: FloatArray,
    codes: IntArray,
    n_arms: int,
    weight: FloatArray | None,
    away: BoolArray,
) -> tuple[list[Any], FloatArray]:
    """An outcome model per arm."""
    held = np.flatnonzero(away)
    models, outcomes = [], np.empty((len(held), n_arms))
    for arm in range(n_arms):
        rows = np.flatnonzero(~away & (codes == arm))
        chosen = None if weight is None else weight[rows]
        models.append(shared.fit(base, y[rows], rows=rows, weight=chosen))
        shared.forget_rows(rows)
        outcomes[:, arm] = shared.predict(models[-1], held)
    return models, outcomes


def _fit_joint(
    shared: SharedCovariates,
    base: Any,
    y: FloatArray,
    codes: IntArray,
    n_arms: int,
    weight: FloatArray | None,
    away: BoolArray,
) -> tuple[list[Any], FloatArray]:
    """One outcome model with the arm among its covariates, seen as a model per arm."""
    rows = np.flatnonzero(~away)
    joined = SharedCovariates(Joined(shared.X, codes, n_arms))
    chosen = None if weight is None else weight[rows]
    model = joined.fit(base, y[rows], rows=rows, weight=chosen, common_bins=False)
    outcomes = predict_joined(model, shared.X, n_arms, range(n_arms), rows=np.flatnonzero(away))
    return [ArmModel(model, code, n_arms) for code in range(n_arms)], outcomes


def finish_propensity(
    raw: FloatArray, codes: IntArray, fold: IntArray, weight: FloatArray | None, recipe: Recipe
) -> tuple[FloatArray, float, Calibrator | None]:
    """The propensity after calibration and clipping, the share clipped, and the calibration of new predictions."""
    calibrator = None
    if recipe.calibration is not None:
        calibrator = Calibrator(recipe.calibration, raw, codes, weight)
        raw = calibrate_across(recipe.calibration, raw, codes, fold, weight)
    return *clip_propensity(raw, recipe.clip), calibrator


def check_arm_weights(
    codes: IntArray, labels: Sequence[object], weight: FloatArray | None, fold: IntArray | None = None
) -> None:
    """Raise where all rows of an arm that some model is trained on have weight zero."""
    if weight is None:
        return
    parts = [np.ones(len(codes), dtype=bool)] if fold is None else [fold != j for j in range(int(fold.max()) + 1)]
    for part in parts:
        for code, label in enumerate(labels):
            rows = part & (codes == code)
            if not weight[rows].any():
                where = "" if fold is None else " outside one of the folds"
                raise TreatmentError(
                    f"arm {label!r} has no weight in any of its {int(rows.sum())} rows{where}; check sample_weight."
                )
