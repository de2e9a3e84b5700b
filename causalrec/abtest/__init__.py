"""A/B tests from aggregates: any estimate, any interval, any question, from one scan of any table.

:class:`Experiment` declares metrics and design, collects moments and answers. Each test also stands alone as a function
on numbers.
"""

from causalrec.abtest.aggregates import Aggregates, Cell, QuantileSummary
from causalrec.abtest.aggregates_json import dump_aggregates, load_aggregates
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.bayes.posterior import ArmSummary, posterior_of
from causalrec.abtest.bayes.priors import BetaPrior, GammaPrior, NormalPrior, fit_beta_prior, fit_prior
from causalrec.abtest.bayes.stopping import simulate_bayes
from causalrec.abtest.checks import assignment_counts, heterogeneity_test, outlier_report
from causalrec.abtest.collection.collect import collect
from causalrec.abtest.cupac import cupac_predictions
from causalrec.abtest.decisions.cannibalisation import cannibalisation
from causalrec.abtest.decisions.families import adjust_experiment
from causalrec.abtest.decisions.funnel import funnel, funnel_counts
from causalrec.abtest.decisions.gatekeeping import gatekeeping, graphical_test
from causalrec.abtest.decisions.impact import project_impact
from causalrec.abtest.decisions.proxy import proxy_analysis
from causalrec.abtest.decisions.proxy_across import proxy_across
from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.decisions.segment_scan import scan_segments, shrink_effects
from causalrec.abtest.decisions.shrinkage import conditional_estimate, shrink_winners
from causalrec.abtest.decisions.verdict import decide_experiment
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.experiment import Experiment
from causalrec.abtest.hypotheses import Equivalence, NonInferiority, Superiority
from causalrec.abtest.inference import FixedHorizon, Inference, infer, welch_test
from causalrec.abtest.metrics import Mean, Proportion, Quantile, Ratio, Retention, SampleRatio
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.abtest.power.clusters import design_effect, intraclass_correlation
from causalrec.abtest.power.design import Design
from causalrec.abtest.power.power import power_curve, runtime_days, solve_power
from causalrec.abtest.proportions import two_proportion_test
from causalrec.abtest.relative import fieller_ratio
from causalrec.abtest.resampling.bootstrap import bootstrap_diff
from causalrec.abtest.resampling.permutation import permutation_test
from causalrec.abtest.resampling.simulation import simulate_aa
from causalrec.abtest.sample_ratio import sample_ratio_by, sample_ratio_test
from causalrec.abtest.sequential.always_valid import AlwaysValid, confidence_sequence, mixture_sprt
from causalrec.abtest.sequential.bernoulli import bernoulli_difference, bernoulli_interval
from causalrec.abtest.sequential.bounds import crossing_probabilities, group_sequential_bounds, wang_tsiatis_bounds
from causalrec.abtest.sequential.group_design import design_group_sequential
from causalrec.abtest.sequential.group_plan import GroupPlan
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.monitor import Monitor
from causalrec.abtest.sequential.peeking import simulate_peeking
from causalrec.abtest.sequential.sample_ratio import sequential_sample_ratio
from causalrec.abtest.sequential.spending import (
    CustomSpending,
    HwangShihDeCani,
    ObrienFleming,
    Pocock,
    PowerFamily,
)
from causalrec.abtest.sequential.stagewise import stagewise_analysis

__all__ = [
    "Aggregates",
    "AlwaysValid",
    "ArmSummary",
    "Bayesian",
    "BetaPrior",
    "Cell",
    "CustomSpending",
    "DecisionRule",
    "Design",
    "Equivalence",
    "Estimate",
    "Experiment",
    "FixedHorizon",
    "GammaPrior",
    "GroupPlan",
    "GroupSequential",
    "HwangShihDeCani",
    "Inference",
    "Mean",
    "Monitor",
    "NonInferiority",
    "NormalPrior",
    "ObrienFleming",
    "Pocock",
    "PowerFamily",
    "Proportion",
    "Quantile",
    "QuantileSummary",
    "Ratio",
    "Retention",
    "SampleRatio",
    "Superiority",
    "adjust_experiment",
    "adjust_pvalues",
    "assignment_counts",
    "bernoulli_difference",
    "bernoulli_interval",
    "bootstrap_diff",
    "cannibalisation",
    "collect",
    "conditional_estimate",
    "confidence_sequence",
    "crossing_probabilities",
    "cupac_predictions",
    "decide_experiment",
    "design_effect",
    "design_group_sequential",
    "dump_aggregates",
    "fieller_ratio",
    "fit_beta_prior",
    "fit_prior",
    "funnel",
    "funnel_counts",
    "gatekeeping",
    "graphical_test",
    "group_sequential_bounds",
    "heterogeneity_test",
    "infer",
    "intraclass_correlation",
    "load_aggregates",
    "mixture_sprt",
    "outlier_report",
    "permutation_test",
    "posterior_of",
    "power_curve",
    "project_impact",
    "proxy_across",
    "proxy_analysis",
    "runtime_days",
    "sample_ratio_by",
    "sample_ratio_test",
    "scan_segments",
    "sequential_sample_ratio",
    "shrink_effects",
    "shrink_winners",
    "simulate_aa",
    "simulate_bayes",
    "simulate_peeking",
    "solve_power",
    "stagewise_analysis",
    "two_proportion_test",
    "wang_tsiatis_bounds",
    "welch_test",
]
