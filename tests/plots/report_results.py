"""Small reports on a log, made by the functions that make them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalrec.journeys import cohort_retention, daily_active_users, revenue_by_segment
from causalrec.results import CohortRetentionResult, DailyUsersResult, RevenueResult


def log(n_segments: int = 3) -> pd.DataFrame:
    """User u is there every (1 + u)th day of 40, from day u on."""
    rows = [(u, d) for u in range(6) for d in range(u, 40, 1 + u)]
    frame = pd.DataFrame(rows, columns=["user_id", "day"])
    frame["event_time"] = pd.Timestamp("2025-01-01") + pd.to_timedelta(frame["day"], unit="D")
    frame["variant"] = np.where(frame["user_id"] % 2 == 0, "A", "B")
    frame["land"] = [f"land {k % n_segments}" for k in range(len(frame))]
    frame["revenue"] = frame["day"] - 1.0
    return frame


def daily() -> DailyUsersResult:
    return daily_active_users(log(), variant="variant")


def cohorts() -> CohortRetentionResult:
    return cohort_retention(log(), days=[1, 2, 30, 38], period="day")


def revenue(n_segments: int = 3) -> RevenueResult:
    return revenue_by_segment(log(n_segments), segment="land")
