"""Average effects from logs and experiments."""

from causalrec.nuisance import overlap
from causalrec.observational.balance import balance_table, weight_spread
from causalrec.observational.design import design_matrix
from causalrec.observational.doubly_robust import aipw, aipw_parametric
from causalrec.observational.econml_adapter import causal_forest, dml
from causalrec.observational.entropy import entropy_balancing
from causalrec.observational.estimate import estimate_ate
from causalrec.observational.evalue import bias_factor, evalue, evalue_of_table
from causalrec.observational.front_door import front_door
from causalrec.observational.g_estimation import g_estimation
from causalrec.observational.instruments import instrumental_variable
from causalrec.observational.matched_sets import matched_set_bounds
from causalrec.observational.matching import match, matching_effect
from causalrec.observational.methods import METHODS
from causalrec.observational.omitted_bias import confounder_strength, omitted_bias
from causalrec.observational.panel import difference_in_differences
from causalrec.observational.partial_r2 import robustness_value, sensitivity_ols
from causalrec.observational.placebo import placebo_treatment
from causalrec.observational.propensity import fit_propensity
from causalrec.observational.regression import difference_in_means, lin_effect, ols_effect
from causalrec.observational.rosenbaum import amplify_gamma, mcnemar_bounds, rosenbaum_bounds
from causalrec.observational.standardisation import standardisation
from causalrec.observational.study import ObservationalStudy
from causalrec.observational.subclasses import subclassification
from causalrec.observational.tipping import tipping_points, without_confounder
from causalrec.observational.weighting import weighting_effect, weights

__all__ = [
    "METHODS",
    "ObservationalStudy",
    "aipw",
    "aipw_parametric",
    "amplify_gamma",
    "balance_table",
    "bias_factor",
    "causal_forest",
    "confounder_strength",
    "design_matrix",
    "difference_in_differences",
    "difference_in_means",
    "dml",
    "entropy_balancing",
    "estimate_ate",
    "evalue",
    "evalue_of_table",
    "fit_propensity",
    "front_door",
    "g_estimation",
    "instrumental_variable",
    "lin_effect",
    "match",
    "matched_set_bounds",
    "matching_effect",
    "mcnemar_bounds",
    "ols_effect",
    "omitted_bias",
    "overlap",
    "placebo_treatment",
    "robustness_value",
    "rosenbaum_bounds",
    "sensitivity_ols",
    "standardisation",
    "subclassification",
    "tipping_points",
    "weight_spread",
    "weighting_effect",
    "weights",
    "without_confounder",
]
