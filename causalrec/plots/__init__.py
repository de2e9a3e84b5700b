"""Results as pictures: every function takes results and gives matplotlib Axes."""

from causalrec.plots.figures import (
    plot_ab,
    plot_balance,
    plot_curve,
    plot_effects,
    plot_overlap,
    plot_placebo,
    plot_ranking,
    plot_uplift_bins,
)

__all__ = [
    "plot_ab",
    "plot_balance",
    "plot_curve",
    "plot_effects",
    "plot_overlap",
    "plot_placebo",
    "plot_ranking",
    "plot_uplift_bins",
]
