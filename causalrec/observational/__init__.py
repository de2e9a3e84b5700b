"""Average effects from logs and experiments."""

from causalrec.nuisance import overlap
from causalrec.observational.balance import balance_table, weight_spread
from causalrec.observational.design import design_matrix
from causalrec.observational.effects import (
    EffectStudy,
    average_effect,
    difference_in_means,
    placebo_treatment,
    study_effect,
)
from causalrec.observational.entropy import entropy_balancing
from causalrec.observational.matching import match_nearest
from causalrec.observational.panel import difference_in_differences
from causalrec.observational.propensity import fit_propensity
from causalrec.observational.subclasses import subclassification
from causalrec.observational.weighting import weighting_effect, weights

__all__ = [
    "EffectStudy",
    "average_effect",
    "balance_table",
    "design_matrix",
    "difference_in_differences",
    "difference_in_means",
    "entropy_balancing",
    "fit_propensity",
    "match_nearest",
    "overlap",
    "placebo_treatment",
    "study_effect",
    "subclassification",
    "weight_spread",
    "weighting_effect",
    "weights",
]
