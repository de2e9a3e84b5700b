"""Reports on an event log: daily active users, conversion funnel, retention of cohorts, revenue by segment.

Each is a function on the boundary that runs a readable file of the directory ``sql`` on either engine. Days are UTC.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError, ColumnError, TimeError
from causalrec.journeys._sql import EVERYBODY, fill_sql, open_log
from causalrec.journeys._steps import chosen_steps, label_sql, later_steps, number_sql, step_sql
from causalrec.journeys._tables import Duration, open_tables, parse_duration
from causalrec.results.base import NAN
from causalrec.results.reports import (
    CohortRetentionResult,
    ConversionFunnelResult,
    DailyUsersResult,
    RevenueResult,
)

_NUMBERS = ("integer", "float", "boolean")
_LARGEST = "1e15"  # amounts to the millionth are exact below it
_EPOCH = datetime.date(1970, 1, 1)


def daily_active_users(
    events: Any,
    *,
    user: str = "user_id",
    event_time: str = "event_time",
    event_type: str | None = None,
    active: Sequence[str] | None = None,
    variant: str | None = None,
    attributes: Any = None,
    engine: Engine | None = None,
) -> DailyUsersResult:
    """Count the users who had an event on each UTC day, by variant.

    Parameters
    ----------
    events : table
        pandas, Polars or Arrow, a Spark DataFrame, the path of Parquet or CSV files, or a name known to ``engine``.
    user, event_time : str
        Its columns.
    event_type : str, optional
        The column of ``active``.
    active : sequence of str, optional
        The types of events that make a user active; all by default.
    variant : str, optional
        A column of the events, or else of ``attributes``. A user in two variants on a day counts in both.
    attributes : table, optional
        A row per user, such as who was assigned what.
    engine : Engine, optional

    Raises
    ------
    ColumnError, TimeError, EngineError
        For columns that are missing, times that are none, tables that cannot be read.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": [1, 2, 1], "event_time": pd.to_datetime(["2025-01-01", "2025-01-01",
    ...                                                                         "2025-01-03"])})
    >>> print(daily_active_users(log))
    1 user a day over 3 days (2025-01-01 to 2025-01-03), at most 2 on 2025-01-01.
    """
    kinds = _check_active(event_type, active)
    with _opened(events, attributes, engine) as tables:
        log = open_log(tables, user=user, event_time=event_time, columns=[event_type], of_users=[variant])
        counted = log.one_of(event_type, kinds)
        sql = fill_sql("daily_active_users", {**log.basics(), "variant": log.text(variant), "counted": counted})
        found = tables.collect(sql)
    left_out = int(found["left_out"].sum())
    found = found[found["day"].notna() & (found["events"] > 0)]
    first, last = (int(found["day"].min()), int(found["day"].max())) if len(found) else (0, -1)
    variants = sorted(found["variant"].unique()) if len(found) else [EVERYBODY]
    shape = (last - first + 1, len(variants))
    users, seen = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    rows = found["day"].to_numpy(dtype=np.int64) - first
    columns = np.searchsorted(np.array(variants, dtype=object), found["variant"].to_numpy(dtype=object))
    users[rows, columns], seen[rows, columns] = found["users"], found["events"]
    by_day = users.sum(axis=1)
    peak = int(by_day.argmax()) if len(by_day) else 0
    return DailyUsersResult(
        n_days=shape[0], n_obs=int(seen.sum()), n_left_out=left_out,
        mean_users=float(by_day.mean()) if len(by_day) else NAN, peak_users=int(by_day.max(initial=0)),
        peak_day=_date(first + peak) if len(by_day) else "", day=tuple(map(_date, range(first, last + 1))),
        variant=tuple(map(str, variants)), users=users, events=seen,
    )  # fmt: skip


def conversion_funnel(
    events: Any,
    steps: Sequence[str] | None = None,
    *,
    unit: Literal["user", "user_item"] = "user",
    window: Duration = "7d",
    user: str = "user_id",
    item: str = "item_id",
    event_time: str = "event_time",
    event_type: str = "event_type",
    variant: str | None = None,
    control: str | None = None,
    attributes: Any = None,
    confidence_level: float = 0.95,
    engine: Engine | None = None,
) -> ConversionFunnelResult:
    """Count the units that took the steps one after the other, all of them within a window.

    Parameters
    ----------
    events : table
        As of :func:`daily_active_users`.
    steps : sequence of str, optional
        Values of ``event_type``, first to last, two or more. By default those that the log has of impression, view,
        click, cart (addtocart), checkout and purchase (transaction, order), in this order.
    unit : "user" or "user_item"
        Whether the steps may be about different items.
    window : str or timedelta
        From the first step to each other, such as ``"7d"``; exactly that long is within it.
    user, item, event_time, event_type : str
        Columns of the events; ``item`` is read for ``unit="user_item"`` alone.
    variant : str, optional
        A column of the events, or else of ``attributes``; a unit in two variants counts in both.
    control : str, optional
        The variant that comes first.
    attributes : table, optional
        A row per user.
    confidence_level : float
    engine : Engine, optional

    Returns
    -------
    ConversionFunnelResult
        Counts and shares with Wilson's (1927) intervals, for users; none for users and items, which are not independent
        of each other. Nothing is said of differences between variants: those who begin are not all who were assigned.
        :func:`causalrec.abtest.funnel` compares arms.

    Raises
    ------
    ColumnError, TimeError, EngineError
        As of :func:`daily_active_users`; for a step that no event has.
    CausalRecError
        For fewer than two steps, or an unknown unit or control.

    Notes
    -----
    Events at the same time are in order, and a step may be taken again: a unit reached step k if some event of step 1
    is followed by one of step 2, …, and one of step k within the window.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": [1, 1, 2, 2], "event_type": ["view", "purchase", "purchase", "view"],
    ...                     "event_time": pd.date_range("2025-01-01", periods=4, freq="h")})
    >>> conversion_funnel(log).count.tolist()
    [[2, 1]]
    """
    level = check_confidence_level(confidence_level)
    limit = parse_duration(window, name="window")
    if unit not in ("user", "user_item"):
        raise CausalRecError(f"unit is {unit!r}; expected 'user' or 'user_item'.")
    by_item = unit == "user_item"
    with _opened(events, attributes, engine) as tables:
        columns = [event_type, item if by_item else None]
        log = open_log(tables, user=user, event_time=event_time, columns=columns, of_users=[variant])
        labels = tables.collect(label_sql(log, event_type, variant))
        wanted = chosen_steps(sorted(map(str, labels["kind"].dropna().unique())), event_type, steps)
        variants = sorted(map(str, labels["variant"].unique())) or [EVERYBODY]
        values = {
            **log.basics(), "variant_number": number_sql(log, log.text(variant), variants),
            "item": log.key(item) if by_item else "0", "step": step_sql(log, event_type, wanted), "window": str(limit),
        }  # fmt: skip
        found = tables.collect(fill_sql("funnel", values, each=later_steps(len(wanted))))
    deepest = np.zeros((len(variants), len(wanted)), dtype=np.int64)
    deepest[found["variant"].to_numpy(dtype=int) - 1, found["deepest"].to_numpy(dtype=int) - 1] = found["units"]
    reached = deepest[:, ::-1].cumsum(axis=1)[:, ::-1]
    counts = dict(zip(variants, reached, strict=True))
    if control is not None and control not in counts:
        raise CausalRecError(f"control is {control!r}; the variants are {list_some(counts)}.{nearest(control, counts)}")
    order = sorted(counts, key=lambda v: (v != control, v))
    count = np.array([counts[v] for v in order])
    who = "users and items" if by_item else "users"
    method = f"{who} in the order of the steps within {window} of the first"
    return _funnel_result(tuple(order), wanted, count, level, method, intervals=not by_item)


def cohort_retention(
    events: Any,
    *,
    days: Sequence[int] = (1, 7, 14, 30, 60),
    period: Literal["day", "week", "month"] = "week",
    end: object = None,
    user: str = "user_id",
    event_time: str = "event_time",
    event_type: str | None = None,
    active: Sequence[str] | None = None,
    confidence_level: float = 0.95,
    engine: Engine | None = None,
) -> CohortRetentionResult:
    """Share of the users first seen in a period who had an event exactly some days after their first day.

    Parameters
    ----------
    events : table
        As of :func:`daily_active_users`.
    days : sequence of int
        After the UTC day of a user's first event, >= 1.
    period : "day", "week" or "month"
        Users form a cohort by the period of their first day; weeks begin on Monday.
    end : date, optional
        The UTC midnight at which the log ends, such as ``"2025-03-01"``; events from then on are an error. By default
        the one after the last event: give it where the last day is not whole, or where the log goes on without events.
    user, event_time, event_type, active, engine
        As of :func:`daily_active_users`. Events of other types do not count, and a user's first is the first that does.
    confidence_level : float

    Returns
    -------
    CohortRetentionResult
        A cohort's cell is NaN, not 0, where the log ends before that day of any of its users. ``overall`` is of all
        users whose day the log reaches, which is what the cells of different cohorts are to be compared with.

    Raises
    ------
    ColumnError, TimeError, EngineError
        As of :func:`daily_active_users`; for an ``end`` that is no midnight or before the last event.
    CausalRecError
        For days below 1, none, or an unknown period.

    Notes
    -----
    Users who came before the log begins look new in its first periods.

    Examples
    --------
    >>> times = pd.to_datetime(["2025-01-06", "2025-01-07", "2025-01-13", "2025-01-14"])
    >>> log = pd.DataFrame({"user_id": [1, 1, 1, 2], "event_time": times})
    >>> cohort_retention(log, days=[1, 7]).retention.tolist()
    [[1.0, 1.0], [nan, nan]]
    """
    level, asked = check_confidence_level(confidence_level), _check_days(days)
    kinds = _check_active(event_type, active)
    if period not in ("day", "week", "month"):
        raise CausalRecError(f"period is {period!r}; expected 'day', 'week' or 'month'.")
    with _opened(events, None, engine) as tables:
        log = open_log(tables, user=user, event_time=event_time, columns=[event_type])
        listed = ", ".join(str(day) for day in [0, *asked])
        values = {**log.basics(), "counted": log.one_of(event_type, kinds), "days": listed}
        found = tables.collect(fill_sql("retention", values))
        left_out = tables.collect(
            f"SELECT COUNT(*) AS n FROM {log.source} WHERE {values['counted']} AND "
            f"({values['user']} IS NULL OR {values['at']} IS NULL)"
        )
    last = _last_day(found, end)
    return _cohorts(found, asked, period, last, level, int(left_out["n"].iloc[0]))


def revenue_by_segment(
    events: Any,
    *,
    segment: str,
    revenue: str = "revenue",
    user: str = "user_id",
    event_time: str | None = None,
    attributes: Any = None,
    engine: Engine | None = None,
) -> RevenueResult:
    """Revenue, buyers and purchases by segment.

    Parameters
    ----------
    events : table
        As of :func:`daily_active_users`.
    segment : str
        A column of the events, or else of ``attributes``.
    revenue : str
        The column of amounts; returns are below zero, and events without an amount count as none. Infinite
        ones and those of 1e15 and more in size are left out and counted (``n_beyond``).
    user : str
    event_time : str, optional
        Not needed; events count whether or not they have a time.
    attributes : table, optional
        A row per user.
    engine : Engine, optional

    Raises
    ------
    ColumnError, EngineError
        As of :func:`daily_active_users`; for amounts that are no numbers.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": [1, 1, 2], "country": ["FR", "FR", "DE"], "revenue": [10.0, -2.0, 4.0]})
    >>> print(revenue_by_segment(log, segment="country"))
    Revenue 12 by country: FR 8 (66.7%), DE 4 (33.3%).
    """
    with _opened(events, attributes, engine) as tables:
        log = open_log(tables, user=user, event_time=event_time, columns=[revenue], of_users=[segment])
        kind = log.kind(revenue)
        if kind not in _NUMBERS:
            raise ColumnError(f"events: {revenue!r} is {kind}; revenue is a sum of numbers. Convert it first.")
        column = f"CAST({log.key(revenue)} AS DOUBLE)"
        values = {
            "events": log.source, "user": log.key(user), "segment": log.text(segment),
            "amount": f"CASE WHEN ABS({column}) < {_LARGEST} THEN {column} END",
            "known": f"({column} IS NOT NULL)",
        }  # fmt: skip
        found = tables.collect(fill_sql("revenue", values)).fillna({"revenue": 0.0, "revenue_of_users": 0.0})
    found = found.sort_values(["revenue", "segment"], ascending=[False, True])
    amounts, total = found["revenue"].to_numpy(dtype=np.float64), float(found["revenue"].sum())
    counts = {name: found[name].to_numpy(dtype=np.int64) for name in ("users", "buyers", "purchases")}
    known = found["revenue_of_users"].to_numpy(dtype=np.float64)
    return RevenueResult(
        column=segment, n_obs=int(found["events"].sum()), n_no_user=int(found["no_user"].sum()),
        n_no_revenue=int(found["no_revenue"].sum()), total=total, segment=tuple(map(str, found["segment"])), **counts,
        revenue=amounts, share=amounts / total if total > 0 else np.full(len(amounts), NAN),
        per_user=_per(known, counts["users"]), per_buyer=_per(known, counts["buyers"]),
        n_beyond=int(found["beyond"].sum()),
    )  # fmt: skip


def _opened(events: Any, attributes: Any, engine: Engine | None) -> Any:
    sources = {"events": events} if attributes is None else {"events": events, "attributes": attributes}
    return open_tables(sources, engine=engine)


def _check_active(event_type: str | None, active: Sequence[str] | None) -> list[str] | None:
    if active is None:
        return None
    if isinstance(active, str) or not active:
        raise CausalRecError(f"active is {active!r}; expected a list of types of events, or None for all.")
    if event_type is None:
        raise ColumnError(f"active is {list_some(active)}, and event_type is None; name the column of these types.")
    return [str(kind) for kind in active]


def _funnel_result(
    variants: tuple[str, ...], steps: Sequence[str], count: IntArray, level: float, method: str, *, intervals: bool
) -> ConversionFunnelResult:
    """Shares of the first and of the previous step; Wilson's intervals where units are independent."""
    shape = count.shape
    of_all, of_previous = np.full((3, *shape), NAN), np.full((3, *shape), NAN)
    for i, k in np.ndindex(shape):
        of_all[:, i, k] = _share(int(count[i, k]), int(count[i, 0]), level)
        if k:
            of_previous[:, i, k] = _share(int(count[i, k]), int(count[i, k - 1]), level)
    if not intervals:
        of_all[1:], of_previous[1:] = NAN, NAN
    of_all[1:, :, 0] = NAN if not intervals else 1.0
    said = f"{method}; {'Wilson intervals' if intervals else 'no intervals: items of a user are not independent'}"
    nothing = [np.full(shape, NAN) for _ in range(9)]
    return ConversionFunnelResult(
        variants, tuple(steps), level, int(count[:, 0].sum()), said, count, *of_all, *of_previous, *nothing
    )


def _share(count: int, n: int, level: float) -> tuple[float, float, float]:
    """A share with Wilson's (1927) score interval; NaN of nobody."""
    if n == 0:
        return NAN, NAN, NAN
    interval = stats.binomtest(count, n).proportion_ci(level, method="wilson")
    return count / n, float(interval.low), float(interval.high)


def _check_days(days: Any) -> list[int]:
    asked = list(days) if isinstance(days, Iterable) else [days]
    if not asked or any(isinstance(d, bool) or not isinstance(d, int | np.integer) or d < 1 for d in asked):
        raise CausalRecError(f"days are {list_some(asked)}; expected whole numbers of 1 or more after the first day.")
    return sorted({int(d) for d in asked})


def _last_day(found: pd.DataFrame, end: object) -> int:
    """The number of the last day that the log has whole."""
    seen = int(found["last_day"].max()) if len(found) else -1
    if end is None:
        return seen
    try:
        midnight = pd.Timestamp(end)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise TimeError(f"end is {end!r}; expected a UTC midnight such as '2025-03-01'.") from error
    midnight = midnight if midnight.tz is None else midnight.tz_convert("UTC").tz_localize(None)
    if pd.isna(midnight) or midnight != midnight.normalize():
        raise TimeError(f"end is {end!r}; expected a UTC midnight such as '2025-03-01'.")
    last = (midnight.date() - _EPOCH).days - 1
    if len(found) and last < seen:
        raise TimeError(
            f"end is {end!r}, but the log has an event on {_date(seen)}. Give the midnight after it or a later one, or "
            "take the later events away."
        )
    return last


def _cohorts(
    found: pd.DataFrame, days: list[int], period: str, last: int, level: float, left_out: int
) -> CohortRetentionResult:
    """From users by first day and days after it to cohorts."""
    counts = found[found["days_after"] >= 0].pivot_table(
        index="first_day", columns="days_after", values="users", aggfunc="sum", fill_value=0
    )
    counts = counts.reindex(columns=[0, *days], fill_value=0).sort_index()
    first = counts.index.to_numpy(dtype=np.int64)
    size, active = counts[0].to_numpy(dtype=np.int64), counts[days].to_numpy(dtype=np.int64)
    dates = first.astype("datetime64[D]")
    starts = {
        "day": dates,
        "week": dates - (first + 3) % 7 * np.timedelta64(1, "D"),  # 1970 began on a Thursday
        "month": dates.astype("datetime64[M]").astype("datetime64[D]"),
    }[period]
    cohort, group = np.unique(starts, return_inverse=True)
    sizes = np.bincount(group, size, len(cohort)).astype(np.int64)
    newest = np.full(len(cohort), -1)
    np.maximum.at(newest, group, first)
    by_cohort = np.zeros((len(cohort), len(days)))
    np.add.at(by_cohort, group, active)
    after = np.array(days, dtype=np.int64)
    by_cohort[newest[:, None] + after > last] = NAN
    reached = first[:, None] + after <= last
    seen, seen_active = (size[:, None] * reached).sum(axis=0), (active * reached).sum(axis=0)
    shares = np.array([_share(int(a), int(n), level) for a, n in zip(seen_active, seen, strict=True)])
    return CohortRetentionResult(
        period=period, n_obs=int(size.sum()), n_left_out=left_out, last_day=_date(last) if len(first) else "",
        confidence_level=level, method="active on the day itself; Wilson intervals over users",
        cohort=tuple(map(str, cohort)), size=sizes, day=after, active=by_cohort, retention=by_cohort / sizes[:, None],
        seen=seen.astype(np.int64), seen_active=seen_active.astype(np.int64), overall=shares[:, 0],
        ci_low=shares[:, 1], ci_high=shares[:, 2],
    )  # fmt: skip


def _per(amount: FloatArray, n: IntArray) -> FloatArray:
    """An amount per head; NaN of nobody."""
    return np.where(n > 0, amount / np.maximum(n, 1), NAN)


def _date(day: int) -> str:
    """The date of a day since 1970."""
    return (_EPOCH + datetime.timedelta(days=int(day))).isoformat()
