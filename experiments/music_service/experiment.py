"""The experiment: how it is split, what is measured, how many users it needs."""

from __future__ import annotations

from typing import Any

from causalrec.abtest import Experiment, Mean, Proportion, Ratio, Retention, SampleRatio, solve_power
from causalrec.results import PowerResult

SEED = 20250303  # the day on which the simulated experiment begins, chosen before any result was seen
SPLIT = {"control": 0.9, "treatment": 0.1}
EFFECT = 0.05  # Cohen's d
PUBLISHED = (31_397, 3_488)  # control and treatment of the 90/10 design
SEGMENTS = ("device", "country", "age_band")
METRICS = {
    "minutes": Mean("minutes", covariates=["minutes_pre"]),
    "sessions": Mean("sessions", covariates=["sessions_pre"]),
    "skip_rate": Ratio("skips", "streams"),
    "converted": Proportion("converted"),
    "retained_7d": Retention("last_seen", days=7),
}
LOWER_IS_BETTER = ("skip_rate",)
OTHER_MINUTES = {
    "minutes, no covariate": Mean("minutes"),
    "minutes, clipped at 99%": Mean("minutes", covariates=["minutes_pre"], winsorize=0.99),
}
EXPERIMENT = Experiment(
    {**METRICS, "split": SampleRatio(SPLIT)}, variant="variant", control="control", unit="user_id",
    exposed_at="exposed_at", segments=SEGMENTS,
)  # fmt: skip
DAILY = Experiment(
    {"minutes": Mean("minutes"), "split": SampleRatio()}, variant="variant", control="control", cluster="user_id",
    day="day",
)  # fmt: skip
WORN_OFF = 7  # days after which three half lives and a half of the novelty have passed


def designs() -> dict[str, PowerResult]:
    """The 90/10 test of d = 0.05, two-sided 5%, by each convention; and what an even split would need."""
    planned: dict[str, Any] = {"std": 1.0, "effect": EFFECT}
    uneven = planned | {"weights": tuple(SPLIT.values())}
    return {
        "published: Student's t, fractions dropped": solve_power(
            **planned, n_obs=sum(PUBLISHED), weights=PUBLISHED, method="student"
        ),
        "Student's t, one variance, 80%": solve_power(**uneven, power=0.8, method="student"),
        "Welch's t (the default), 80%": solve_power(**uneven, power=0.8),
        "normal law, 80%": solve_power(**uneven, power=0.8, method="normal"),
        "Welch's t, 90%": solve_power(**uneven, power=0.9),
        "Welch's t, 80%, an even split": solve_power(**planned, power=0.8),
    }
