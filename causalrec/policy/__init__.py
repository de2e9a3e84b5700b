"""What to do about it: whom to treat under a budget, what that gains, costs and earns."""

from causalrec.policy.allocation import allocate
from causalrec.policy.costs import compare_cost_curves, cost_curve
from causalrec.policy.profit import incremental_roi, profit_curve

__all__ = ["allocate", "compare_cost_curves", "cost_curve", "incremental_roi", "profit_curve"]
