"""Uplift learners: for whom does it work?"""

from causalrec.uplift.tlearner import TLearner

__all__ = ["TLearner"]
