"""Results of attribution, to draw."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec.results import AttributionResult, CreditResult

RULES = ("first_touch", "last_touch", "linear")


def credited(**changes: Any) -> CreditResult:
    values: dict[str, Any] = {
        "n_conversions": 100, "n_touched": 80, "n_touches": 300, "n_touches_left_out": 0,
        "n_conversions_without_user": 0, "window": "30d", "half_life": "7d", "total_value": float("nan"),
        "channels": ("e-mail", "search", "(none)"), "rules": RULES,
        "credit": np.array([[30.0, 20.0, 25.0], [50.0, 60.0, 55.0], [20.0] * 3]),
    }  # fmt: skip
    return CreditResult(**(values | changes))


def attributed(**changes: Any) -> AttributionResult:
    values: dict[str, Any] = {
        "outcome": "conversions", "period_start": "2025-03-01 00:00:00", "period_end": "2025-03-08 00:00:00",
        "outcome_end": "2025-03-22 00:00:00", "n_users": 1000, "total": 1234.0, "method": "AIPW",
        "confidence_level": 0.95, "without_touch": 20.0, "channels": ("e-mail", "search"), "rules": RULES,
        "touched": np.array([400, 300]), "incremental": np.array([5.0, 40.0]), "std_error": np.array([4.0, 5.0]),
        "ci_low": np.array([-3.0, 30.0]), "ci_high": np.array([13.0, 50.0]), "naive": np.array([60.0, 45.0]),
        "credit": np.array([[70.0, 20.0, 45.0], [10.0, 60.0, 35.0]]), "effects": (), "failures": (),
        "covariates": ("age",), "truth": np.array([6.0, 35.0]),
    }  # fmt: skip
    return AttributionResult(**(values | changes))
