"""Reports on an event log: daily active users, retention of cohorts, revenue by segment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result, count_text, format_level, format_number
from causalrec.results.mechanisms import FunnelResult


def left_out_text(n_left_out: int, why: str = "no user or no time") -> str:
    """What to add to a report about the events that it leaves out; empty for none."""
    return f" Left out: {n_left_out:,} event{'s' * (n_left_out != 1)} with {why}." if n_left_out else ""


def _part(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.3g}%"


@dataclass(frozen=True, eq=False)
class DailyUsersResult(Result):
    """How many users had an event on each UTC day, by variant.

    Attributes
    ----------
    n_days : int
        From the first day with an event to the last; days without are there too, as 0.
    n_obs : int
        Events of a user with a time.
    n_left_out : int
        Events without.
    mean_users, peak_users : float, int
        Over days, of all variants; a user in two variants counts in both.
    peak_day : str
    day : tuple of str, length n_days
        Dates such as ``2025-01-31``.
    variant : tuple of str
        ``("all",)`` where none was asked for; ``(none)`` are users without one.
    users, events : arrays of int, shape (n_days, n_variants)
    """

    n_days: int
    n_obs: int
    n_left_out: int
    mean_users: float
    peak_users: int
    peak_day: str
    day: tuple[str, ...] = field(repr=False)
    variant: tuple[str, ...]
    users: IntArray = field(repr=False)
    events: IntArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per day and variant."""
        n = len(self.variant)
        return pd.DataFrame({
            "day": pd.to_datetime(np.repeat(np.array(self.day, dtype="datetime64[D]"), n)),
            "variant": np.tile(np.array(self.variant, dtype=object), self.n_days),
            "users": self.users.ravel(),
            "events": self.events.ravel(),
        })  # fmt: skip

    def __str__(self) -> str:
        if not self.n_days:
            return f"No day has an event of a user.{left_out_text(self.n_left_out)}"
        means = np.asarray(self.users, dtype=np.float64).mean(axis=0)
        by = "; ".join(f"{v} {format_number(m)}" for v, m in zip(self.variant, means, strict=True))
        span = f"{self.n_days:,} day{'s' * (self.n_days != 1)} ({self.day[0]} to {self.day[-1]})"
        return (
            f"{count_text(self.mean_users, 'user')} a day over {span}, at most {self.peak_users:,} on {self.peak_day}"
            + (f"; a day and variant: {by}" if len(self.variant) > 1 else "")
            + f".{left_out_text(self.n_left_out)}"
        )


@dataclass(frozen=True, eq=False)
class ConversionFunnelResult(FunnelResult):
    """How many units took the steps of a funnel in order, by variant; differences between variants are not tested.

    The arrays of effects and their p-values are NaN.
    """

    def to_frame(self) -> pd.DataFrame:
        """A row per variant and step."""
        columns = ["count", "of_all", "of_all_low", "of_all_high", "of_previous", "of_previous_low", "of_previous_high"]
        return super().to_frame().rename(columns={"arm": "variant"})[["variant", "step", *columns]]

    def __str__(self) -> str:
        lines = [
            f"{arm}: " + " → ".join(f"{s} {c:,} ({_part(p)})" for s, c, p in zip(self.step, row, of_all, strict=True))
            for arm, row, of_all in zip(self.arm, self.count.tolist(), self.of_all, strict=True)
        ]
        return f"{'; '.join(lines)}. {self.method[:1].upper()}{self.method[1:]}."


@dataclass(frozen=True, eq=False)
class CohortRetentionResult(Result):
    """Of the users first seen in a period, how many had an event exactly some days after their first day.

    A cell is NaN, not 0, where the log ends too early for some user of the cohort to be seen on that day.

    Attributes
    ----------
    period : "day", "week" or "month"
        What a cohort is: users by the period of their first day.
    n_obs : int
        Users.
    n_left_out : int
        Events without a user or a time.
    last_day : str
        The last whole day of the log.
    confidence_level : float
    cohort : tuple of str, length n_cohorts
        First date of the period; weeks begin on Monday.
    size : array of int, shape (n_cohorts,)
    day : array of int, shape (n_days,)
        Days after a user's first.
    active, retention : arrays of shape (n_cohorts, n_days)
        Users seen on that day, and their share of the cohort.
    seen, seen_active : arrays of int, shape (n_days,)
        Over all cohorts: users whose day the log reaches, and those of them who had an event on it.
    overall, ci_low, ci_high : arrays of shape (n_days,)
        Their share with Wilson's (1927) interval; NaN where the log reaches nobody's day.
    """

    period: str
    n_obs: int
    n_left_out: int
    last_day: str
    confidence_level: float
    method: str
    cohort: tuple[str, ...] = field(repr=False)
    size: IntArray = field(repr=False)
    day: IntArray = field(repr=False)
    active: FloatArray = field(repr=False)
    retention: FloatArray = field(repr=False)
    seen: IntArray = field(repr=False)
    seen_active: IntArray = field(repr=False)
    overall: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per cohort and day."""
        n = len(self.day)
        return pd.DataFrame({
            "cohort": pd.to_datetime(np.repeat(np.array(self.cohort, dtype="datetime64[D]"), n)),
            "size": np.repeat(self.size, n),
            "day": np.tile(self.day, len(self.cohort)),
            "active": np.ravel(self.active),
            "retention": np.ravel(self.retention),
        })  # fmt: skip

    def __str__(self) -> str:
        if not self.n_obs:
            return f"No user was seen.{left_out_text(self.n_left_out)}"
        said = []
        for k, day in enumerate(self.day.tolist()):
            share, n = float(self.overall[k]), int(self.seen[k])
            if math.isnan(share):
                said.append(f"day {day}: not reached")
                continue
            low, high = f"{self.ci_low[k]:.1%}", f"{self.ci_high[k]:.1%}"
            said.append(f"day {day}: {share:.1%} [{low}, {high}] of {n:,}")
        return (
            f"{count_text(self.n_obs, 'user')} in {count_text(len(self.cohort), 'cohort')} by {self.period}, "
            f"seen until {self.last_day}. "
            f"Active on the day, {format_level(self.confidence_level)} interval: {'; '.join(said)}."
            f"{left_out_text(self.n_left_out)}"
        )


@dataclass(frozen=True, eq=False)
class RevenueResult(Result):
    """Revenue by segment.

    Attributes
    ----------
    column : str
        What the segments are of.
    n_obs : int
        Events.
    n_no_user, n_no_revenue : int
        Events of nobody, and events whose amount is missing, which count as none.
    total : float
        Of all segments.
    segment : tuple of str, length n_segments
        Largest revenue first; ``(none)`` are events without a segment.
    users, buyers, purchases : arrays of int, shape (n_segments,)
        Users with an event in the segment, those with an event of revenue above zero, and such events.
    revenue, share, per_user, per_buyer : arrays of shape (n_segments,)
        ``revenue`` is of all events, of nobody's too; ``per_user`` and ``per_buyer`` only of events with a user. Shares
        are NaN where the total is not positive.
    n_beyond : int
        Events whose amount is infinite, or 1e15 or more in size: they are left out of the revenue.
    """

    column: str
    n_obs: int
    n_no_user: int
    n_no_revenue: int
    total: float
    segment: tuple[str, ...]
    users: IntArray = field(repr=False)
    buyers: IntArray = field(repr=False)
    purchases: IntArray = field(repr=False)
    revenue: FloatArray = field(repr=False)
    share: FloatArray = field(repr=False)
    per_user: FloatArray = field(repr=False)
    per_buyer: FloatArray = field(repr=False)
    n_beyond: int = 0

    def to_frame(self) -> pd.DataFrame:
        """A row per segment."""
        names = ("users", "buyers", "purchases", "revenue", "share", "per_user", "per_buyer")
        segments = np.array(self.segment, dtype=object)
        return pd.DataFrame({"segment": segments} | {name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        first = [
            f"{s} {format_number(r)}" + ("" if math.isnan(p) else f" ({p:.1%})")
            for s, r, p in zip(self.segment[:5], self.revenue, self.share, strict=False)
        ]
        more = len(self.segment) - len(first)
        notes = [
            f"{n:,} {what}"
            for n, what in (
                (self.n_no_user, f"event{'s' * (self.n_no_user != 1)} without a user"),
                (self.n_no_revenue, f"event{'s' * (self.n_no_revenue != 1)} without an amount"),
                (self.n_beyond, f"amount{'s' * (self.n_beyond != 1)} left out, infinite or of 1e15 and more"),
            )
            if n
        ]
        return (
            f"Revenue {format_number(self.total)} by {self.column}: {', '.join(first) or 'no event'}"
            + (f" and {more:,} more" if more else "")
            + f".{' ' + '; '.join(notes) + '.' if notes else ''}"
        )
