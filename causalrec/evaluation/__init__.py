"""Does a score find the units whom treatment helps most? Metrics with standard errors."""

from causalrec.evaluation.calibration import uplift_by_bin, uplift_calibration
from causalrec.evaluation.losses import dr_loss, r_loss
from causalrec.evaluation.uplift import auuc_score, qini_curve, qini_score, uplift_at_k

__all__ = [
    "auuc_score",
    "dr_loss",
    "qini_curve",
    "qini_score",
    "r_loss",
    "uplift_at_k",
    "uplift_by_bin",
    "uplift_calibration",
]
