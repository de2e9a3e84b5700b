"""Results as pictures: every function takes results and gives matplotlib Axes."""

from causalrec.plots.abtest import (
    plot_aa,
    plot_ab,
    plot_distribution,
    plot_forest,
    plot_power_curve,
    plot_rates,
    plot_resampling,
    plot_trend,
)
from causalrec.plots.attribution import plot_attribution, plot_credit
from causalrec.plots.bayes import plot_bayes_stopping, plot_posterior, plot_prob_best
from causalrec.plots.boosting import plot_boosting, plot_importances
from causalrec.plots.decisions import plot_impact, plot_shrinkage
from causalrec.plots.figures import plot_placebo, plot_ranking
from causalrec.plots.funnel import plot_funnel_sankey
from causalrec.plots.graph import plot_graph
from causalrec.plots.group_sequential import plot_bounds, plot_spending
from causalrec.plots.heterogeneity import plot_group_effects, plot_learners, plot_projection
from causalrec.plots.importance import plot_permutation_importance, plot_shap_importance
from causalrec.plots.observational import (
    plot_balance,
    plot_effects,
    plot_event_study,
    plot_overlap,
    plot_weights,
)
from causalrec.plots.peeking import plot_peeking
from causalrec.plots.policy import plot_cost_curve, plot_cost_difference, plot_profit, plot_regret
from causalrec.plots.refutation import plot_refutations, plot_simulated_confounder
from causalrec.plots.reports import plot_cohorts, plot_daily_users, plot_revenue
from causalrec.plots.segment_scan import plot_segment_scan
from causalrec.plots.segments import plot_policy_tree, plot_segment_map, plot_segments
from causalrec.plots.sensitivity import plot_confounding, plot_gamma
from causalrec.plots.sequential import plot_intervals_over_time, plot_stops, plot_time_saved
from causalrec.plots.survival import plot_hazards, plot_retention, plot_survival
from causalrec.plots.uplift import (
    plot_curve,
    plot_scorer_differences,
    plot_scorers,
    plot_uplift_bins,
    plot_uplift_calibration,
)

__all__ = [
    "plot_aa",
    "plot_ab",
    "plot_attribution",
    "plot_balance",
    "plot_bayes_stopping",
    "plot_boosting",
    "plot_bounds",
    "plot_cohorts",
    "plot_confounding",
    "plot_cost_curve",
    "plot_cost_difference",
    "plot_credit",
    "plot_curve",
    "plot_daily_users",
    "plot_distribution",
    "plot_effects",
    "plot_event_study",
    "plot_forest",
    "plot_funnel_sankey",
    "plot_gamma",
    "plot_graph",
    "plot_group_effects",
    "plot_hazards",
    "plot_impact",
    "plot_importances",
    "plot_intervals_over_time",
    "plot_learners",
    "plot_overlap",
    "plot_peeking",
    "plot_permutation_importance",
    "plot_placebo",
    "plot_policy_tree",
    "plot_posterior",
    "plot_power_curve",
    "plot_prob_best",
    "plot_profit",
    "plot_projection",
    "plot_ranking",
    "plot_rates",
    "plot_refutations",
    "plot_regret",
    "plot_resampling",
    "plot_retention",
    "plot_revenue",
    "plot_scorer_differences",
    "plot_scorers",
    "plot_segment_map",
    "plot_segment_scan",
    "plot_segments",
    "plot_shap_importance",
    "plot_shrinkage",
    "plot_simulated_confounder",
    "plot_spending",
    "plot_stops",
    "plot_survival",
    "plot_time_saved",
    "plot_trend",
    "plot_uplift_bins",
    "plot_uplift_calibration",
    "plot_weights",
]
