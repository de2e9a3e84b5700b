"""Does a score find the units whom treatment helps most? Metrics with standard errors."""

from causalrec.evaluation.bootstrap import bootstrap_curve, bootstrap_metric
from causalrec.evaluation.calibration import uplift_by_bin, uplift_calibration
from causalrec.evaluation.comparison import compare_scorers
from causalrec.evaluation.curves import cumulative_gain_curve, qini_curve, toc_curve, uplift_curve
from causalrec.evaluation.losses import dr_loss, r_loss
from causalrec.evaluation.policy_value import policy_regret, policy_value
from causalrec.evaluation.uplift import auuc_score, lift_share, qini_score, rate, uplift_at_k

__all__ = [
    "auuc_score",
    "bootstrap_curve",
    "bootstrap_metric",
    "compare_scorers",
    "cumulative_gain_curve",
    "dr_loss",
    "lift_share",
    "policy_regret",
    "policy_value",
    "qini_curve",
    "qini_score",
    "r_loss",
    "rate",
    "toc_curve",
    "uplift_at_k",
    "uplift_by_bin",
    "uplift_calibration",
    "uplift_curve",
]
