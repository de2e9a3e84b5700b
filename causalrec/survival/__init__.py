"""How long users stay: survival curves, tests and effects of arms, churn by period, retention by day.

Counting is done here, in one table per arm; Cox's model is by lifelines, loaded when called (extra ``survival``).
Effects are treatment - control, as everywhere. All need that censoring says nothing of who would leave soon.
"""

from causalrec.survival.cox import cox_effect
from causalrec.survival.durations import durations_of
from causalrec.survival.hazards import churn_hazards
from causalrec.survival.kaplan_meier import kaplan_meier
from causalrec.survival.logrank import logrank_test
from causalrec.survival.restricted_mean import rmst_difference
from causalrec.survival.retention import retention

__all__ = [
    "churn_hazards",
    "cox_effect",
    "durations_of",
    "kaplan_meier",
    "logrank_test",
    "retention",
    "rmst_difference",
]
