"""What to do about it: whom to treat under a budget, what that gains, costs and earns, and who the people are."""

from causalrec.policy.allocation import allocate
from causalrec.policy.costs import compare_cost_curves, cost_curve
from causalrec.policy.profit import incremental_roi, profit_curve
from causalrec.policy.segments import SegmentRule, describe_segments, learn_segments, segment_units
from causalrec.policy.tree import PolicyTree

__all__ = [
    "PolicyTree",
    "SegmentRule",
    "allocate",
    "compare_cost_curves",
    "cost_curve",
    "describe_segments",
    "incremental_roi",
    "learn_segments",
    "profit_curve",
    "segment_units",
]
