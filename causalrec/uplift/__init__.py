"""Uplift learners: for whom does it work?"""

from causalrec.uplift.class_transformation import ClassTransformation
from causalrec.uplift.drlearner import DRLearner
from causalrec.uplift.rlearner import RLearner
from causalrec.uplift.slearner import SLearner
from causalrec.uplift.tlearner import TLearner
from causalrec.uplift.xlearner import XLearner

__all__ = ["ClassTransformation", "DRLearner", "RLearner", "SLearner", "TLearner", "XLearner"]
