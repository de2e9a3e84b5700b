"""Uplift learners: for whom does it work?"""

from causalrec.uplift.bootstrap import bootstrap_intervals
from causalrec.uplift.calibration import calibration_test
from causalrec.uplift.class_transformation import ClassTransformation
from causalrec.uplift.comparison import compare_effects, compare_learners, sequential_effects
from causalrec.uplift.drlearner import DRLearner
from causalrec.uplift.econml_adapter import EconMLLearner
from causalrec.uplift.heterogeneity import best_linear_projection, group_average_effects
from causalrec.uplift.importance import gain_importance, permutation_importance
from causalrec.uplift.rlearner import RLearner
from causalrec.uplift.saving import load_learner, save_learner
from causalrec.uplift.shap import effect_contributions, shap_importance
from causalrec.uplift.slearner import SLearner
from causalrec.uplift.stacking import StackedLearner
from causalrec.uplift.tlearner import TLearner
from causalrec.uplift.xlearner import XLearner

__all__ = [
    "ClassTransformation",
    "DRLearner",
    "EconMLLearner",
    "RLearner",
    "SLearner",
    "StackedLearner",
    "TLearner",
    "XLearner",
    "best_linear_projection",
    "bootstrap_intervals",
    "calibration_test",
    "compare_effects",
    "compare_learners",
    "effect_contributions",
    "gain_importance",
    "group_average_effects",
    "load_learner",
    "permutation_importance",
    "save_learner",
    "sequential_effects",
    "shap_importance",
]
