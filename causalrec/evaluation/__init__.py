"""Does a score find the units whom treatment helps most? Metrics with standard errors."""

from causalrec.evaluation.uplift import auuc_score, qini_curve, qini_score, uplift_at_k, uplift_by_bin

__all__ = ["auuc_score", "qini_curve", "qini_score", "uplift_at_k", "uplift_by_bin"]
