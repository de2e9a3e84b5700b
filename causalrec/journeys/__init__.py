"""From raw logs to journeys: sessions, stitched events, credit, data quality, reports."""

from __future__ import annotations

from causalrec.journeys.cleaning import clean
from causalrec.journeys.credit import RULES, credit, credit_by_conversion
from causalrec.journeys.exposures import Exposures, exposures
from causalrec.journeys.quality import check_quality
from causalrec.journeys.reports import cohort_retention, conversion_funnel, daily_active_users, revenue_by_segment
from causalrec.journeys.sessions import session_features, sessionize, sessions
from causalrec.journeys.stitching import as_of, count_stitched, stitch, stitch_events

__all__ = [
    "RULES",
    "Exposures",
    "as_of",
    "check_quality",
    "clean",
    "cohort_retention",
    "conversion_funnel",
    "count_stitched",
    "credit",
    "credit_by_conversion",
    "daily_active_users",
    "exposures",
    "revenue_by_segment",
    "session_features",
    "sessionize",
    "sessions",
    "stitch",
    "stitch_events",
]
