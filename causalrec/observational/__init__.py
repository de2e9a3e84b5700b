"""Average effects from logs and experiments."""

from causalrec.nuisance import overlap
from causalrec.observational.balance import balance_table, weight_spread
from causalrec.observational.design import design_matrix
from causalrec.observational.doubly_robust import aipw, aipw_parametric
from causalrec.observational.econml_adapter import causal_forest, dml
from causalrec.observational.entropy import entropy_balancing
from causalrec.observational.g_estimation import g_estimation
from causalrec.observational.instruments import instrumental_variable
from causalrec.observational.matching import match, matching_effect
from causalrec.observational.methods import METHODS
from causalrec.observational.panel import difference_in_differences
from causalrec.observational.placebo import placebo_treatment
from causalrec.observational.propensity import fit_propensity
from causalrec.observational.regression import difference_in_means, lin_effect, ols_effect
from causalrec.observational.standardisation import standardisation
from causalrec.observational.study import ObservationalStudy, estimate_ate
from causalrec.observational.subclasses import subclassification
from causalrec.observational.weighting import weighting_effect, weights

__all__ = [
    "METHODS",
    "ObservationalStudy",
    "aipw",
    "aipw_parametric",
    "balance_table",
    "causal_forest",
    "design_matrix",
    "difference_in_differences",
    "difference_in_means",
    "dml",
    "entropy_balancing",
    "estimate_ate",
    "fit_propensity",
    "g_estimation",
    "instrumental_variable",
    "lin_effect",
    "match",
    "matching_effect",
    "ols_effect",
    "overlap",
    "placebo_treatment",
    "standardisation",
    "subclassification",
    "weight_spread",
    "weighting_effect",
    "weights",
]
