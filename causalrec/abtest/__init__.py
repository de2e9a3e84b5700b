"""A/B tests from aggregates: any estimate, any interval, any question, from one scan of any table.

:class:`Experiment` declares metrics and design, collects moments and answers. Each test also stands alone as a function
on numbers.
"""

from causalrec.abtest.aggregates import Aggregates, Cell, QuantileSummary
from causalrec.abtest.checks import assignment_counts, heterogeneity_test, outlier_report
from causalrec.abtest.collection.collect import collect
from causalrec.abtest.cupac import cupac_predictions
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

__all__ = [
    "Aggregates",
    "Cell",
    "Design",
    "Equivalence",
    "Estimate",
    "Experiment",
    "FixedHorizon",
    "Inference",
    "Mean",
    "NonInferiority",
    "Proportion",
    "Quantile",
    "QuantileSummary",
    "Ratio",
    "Retention",
    "SampleRatio",
    "Superiority",
    "adjust_pvalues",
    "assignment_counts",
    "bootstrap_diff",
    "collect",
    "cupac_predictions",
    "design_effect",
    "fieller_ratio",
    "heterogeneity_test",
    "infer",
    "intraclass_correlation",
    "outlier_report",
    "permutation_test",
    "power_curve",
    "runtime_days",
    "sample_ratio_by",
    "sample_ratio_test",
    "simulate_aa",
    "solve_power",
    "two_proportion_test",
    "welch_test",
]
