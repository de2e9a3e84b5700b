"""Outcome and propensity models, cross-fitted once and shared by learners, effects, losses and policies."""

from causalrec.nuisance.arm_scores import ArmScores, arm_scores
from causalrec.nuisance.boosting import BoostedClassifier, BoostedRegressor
from causalrec.nuisance.fit import fit_nuisances
from causalrec.nuisance.folds import make_folds
from causalrec.nuisance.losses import dr_loss, r_loss
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.propensity import known_propensity
from causalrec.nuisance.saving import load_nuisances
from causalrec.nuisance.scores import aipw_scores
from causalrec.nuisance.support import overlap

__all__ = [
    "ArmScores",
    "BoostedClassifier",
    "BoostedRegressor",
    "Nuisances",
    "aipw_scores",
    "arm_scores",
    "dr_loss",
    "fit_nuisances",
    "known_propensity",
    "load_nuisances",
    "make_folds",
    "overlap",
    "r_loss",
]
