"""Is a log fit to be analysed? What is wrong with it, counted before anything else, and taken away by named options."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError
from causalrec.journeys._quality_plan import OUT_OF_ORDER, Asked, asked_of, written_time
from causalrec.journeys._sql import Log, fill_sql
from causalrec.journeys._steps import event_types, known_steps, later_steps, step_sql
from causalrec.journeys._tables import Duration, Tables, open_tables
from causalrec.results.quality import QualityResult

_FEW_A_DAY, _FEW_A_MINUTE = 500, 120  # no user is taken for a bot below these
_SPREADS, _LEAST_SPREAD = 5.0, float(np.log(2.0))
_MAD_TO_SD = 1.4826  # of a normal distribution


def check_quality(
    events: Any,
    *,
    user: str = "user_id",
    event_time: str = "event_time",
    item: str | None = None,
    event_type: str | None = None,
    variant: str | None = None,
    arrival: str | None = None,
    registered: str | None = None,
    order_by: str | None = None,
    steps: Sequence[str] | None = None,
    now: object = None,
    start: object = "1971-01-01",
    late_after: Duration = "1d",
    per_day: int | None = None,
    per_minute: int | None = None,
    engine: Engine | None = None,
) -> QualityResult:
    """Count what is wrong with a log of events; nothing is changed.

    Looked for, as far as columns are named: keys that are null; events that are equal to another in every column; users
    in several variants; times in the future, before any clock was set, before the user registered, or after the event
    arrived; events that arrived late; users with more events in a day or a minute than a person has; events that came
    in after later ones of their user; and steps of the funnel without the step before.

    Parameters
    ----------
    events : table
        pandas, Polars or Arrow, a Spark DataFrame, the path of Parquet or CSV files, or a name known to ``engine``.
    user, event_time : str
        Its columns.
    item, event_type, variant : str, optional
        Other keys: counted where null. ``variant`` is the arm of an experiment.
    arrival : str, optional
        When the event came in. An event dated later than that has a wrong clock.
    registered : str, optional
        When its user registered, or was first seen.
    order_by : str, optional
        A whole number or time in whose order events came in; ``arrival`` by default.
    steps : sequence of str, optional
        Types of events that come one after the other, for the same item where ``item`` is named. By default those known
        by their names, as of :func:`conversion_funnel`; fewer than two are not looked at.
    now, start : time, optional
        UTC; later events are in the future, earlier ones from a clock that was never set. Now by default.
    late_after : str or timedelta
        How long an event may take to arrive.
    per_day, per_minute : int, optional
        A user with more different events in a UTC day, or in a minute of the clock, is taken for a bot. By default what
        is far from usual: 5 spreads above the median of users' busiest day (minute), in logs, where a spread is the
        scaled median absolute deviation and at least a factor of 2; and never below 500 a day and 120 a minute.
    engine : Engine, optional

    Raises
    ------
    ColumnError, TimeError, EngineError
        For columns that are missing or of a type that cannot be used, times that are none, unreadable tables.

    Notes
    -----
    Three queries of one scan each: events by themselves, users, and steps. Copies are found by a 64-bit hash of the row
    among the events of the same user and minute: two different ones are taken for copies with a probability of 5e-20.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": ["a", "a", "b", None], "event_time": pd.to_datetime(["2025-01-01"] * 4)})
    >>> print(check_quality(log))
    4 events of 2 users, 2025-01-01 00:00:00 to 2025-01-01 00:00:00; 4 of 6 checks found nothing, these did:
      no user_id: 1 event (25.00%); option nulls
      copies of another event: 1 event (25.00%) of 1 user, such as 'a'; option duplicates
    """
    with open_tables({"events": events}, engine=engine) as tables:
        asked = asked_of(
            tables, user=user, event_time=event_time, item=item, event_type=event_type, variant=variant,
            arrival=arrival, registered=registered, order_by=order_by, now=now, start=start, late_after=late_after,
        )  # fmt: skip
        limits = _check_limit(per_day, "per_day"), _check_limit(per_minute, "per_minute")
        values = asked.values()
        marks = tables.collect(fill_sql("quality_marks", values))
        found = tables.collect(fill_sql("quality", {"of_users": fill_sql("quality_users", values)}))
        ordered = _steps(tables, asked.log, event_type, item, steps) if event_type is not None else []
        return _quality_result(asked, marks, found, limits, ordered)


def usual_limit(counts: IntArray, weights: IntArray, floor: int) -> int:
    """A count that is far from usual: 5 spreads above the median in logs, at least ``floor``.

    Parameters
    ----------
    counts, weights : arrays of int, shape (n,)
        Counts of 1 or more, and how many users have each.
    floor : int

    Notes
    -----
    The spread is the median absolute deviation times 1.4826, at least a factor of 2; up to half of the users can be
    bots before it breaks down (Leys, Ley, Klein, Bernard and Licata 2013, Journal of Experimental Social Psychology 49,
    on detecting outliers by it).

    Examples
    --------
    >>> usual_limit(np.array([1, 20, 9000]), np.array([30, 50, 2]), 100)
    640
    """
    if not weights.sum():
        return floor
    logs = np.log(counts)
    middle = _weighted_median(logs, weights)
    spread = max(_MAD_TO_SD * _weighted_median(np.abs(logs - middle), weights), _LEAST_SPREAD)
    return max(floor, round(float(np.exp(middle + _SPREADS * spread))))


def _weighted_median(values: FloatArray, weights: IntArray) -> float:
    """The lower median."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _limits(found: pd.DataFrame, given: tuple[int | None, int | None]) -> tuple[int, int]:
    limits = []
    for column, limit, floor in (("busiest_day", given[0], _FEW_A_DAY), ("busiest_minute", given[1], _FEW_A_MINUTE)):
        users = found[found[column] > 0].groupby(column)["users"].sum()
        counts, weights = users.index.to_numpy(dtype=np.int64), users.to_numpy(dtype=np.int64)
        limits.append(usual_limit(counts, weights, floor) if limit is None else limit)
    return limits[0], limits[1]


def _quality_result(
    asked: Asked,
    marks: pd.DataFrame,
    found: pd.DataFrame,
    given: tuple[int | None, int | None],
    ordered: list[dict[str, Any]],
) -> QualityResult:
    n_obs, last_null = int(marks["events"].sum()), asked.bits("nulls").bit_length()
    limits = _limits(found, given)
    bots = found[(found["busiest_day"] > limits[0]) | (found["busiest_minute"] > limits[1])]
    rows = [_marked(marks, check.name, check.option, 1 << k) for k, check in enumerate(asked.checks)]
    of_users = [_row("copies of another event", "duplicates", *_summed(found, "copies"))]
    if asked.variant is not None:
        of_users.append(_row("of users in several variants", "several_variants", *_summed(found, "several")))
    n_bots = int(bots["users"].sum())
    of_users.append(_row("of bot-like users", "bots", int(bots["n_rows"].sum()), n_bots, bots["example"]))
    rows = [*rows[:last_null], *of_users, *rows[last_null:]]
    for row in rows:
        row["share"] = _ratio(row["n"], n_obs)
    rows += ordered
    disorder = sum(row["n"] for row in rows if row["check"] == OUT_OF_ORDER or row in ordered)
    nothing = marks.empty
    return QualityResult(
        n_obs=n_obs, n_users=int(found["users"].sum()),
        first_time="" if nothing else written_time(marks["first_us"].min()),
        last_time="" if nothing else written_time(marks["last_us"].max()),
        n_null=_marked(marks, "", "", asked.bits("nulls"))["n"], n_duplicate=_summed(found, "copies")[0],
        n_skewed=_marked(marks, "", "", asked.bits("skew"))["n"], n_several_variants=_summed(found, "several")[1],
        n_bots=n_bots, n_bot_events=int(bots["n_rows"].sum()), n_out_of_order=disorder, per_day_limit=limits[0],
        per_minute_limit=limits[1],
        rules=f"{asked.rules}; a bot has more than {limits[0]:,} events a day or {limits[1]:,} a minute",
        check=tuple(r["check"] for r in rows), option=tuple(r["option"] for r in rows),
        counted=tuple(r["counted"] for r in rows), n=np.array([r["n"] for r in rows], dtype=np.int64),
        users=np.array([r["users"] for r in rows], dtype=np.int64),
        share=np.array([r["share"] for r in rows], dtype=np.float64), example=tuple(r["example"] for r in rows),
    )  # fmt: skip


def _marked(marks: pd.DataFrame, name: str, option: str, bits: int) -> dict[str, Any]:
    """Events that have one of some bits, and users who have such an event."""
    events = marks[marks["mark"].to_numpy(dtype=np.int64) & bits != 0]
    users = marks[marks["pattern"].to_numpy(dtype=np.int64) & bits != 0]
    return _row(name, option, int(events["events"].sum()), int(users["users"].sum()), users["example"])


def _summed(found: pd.DataFrame, kind: str) -> tuple[int, int, pd.Series]:
    return int(found[f"events_{kind}"].sum()), int(found[f"users_{kind}"].sum()), found[f"example_{kind}"]


def _row(name: str, option: str, n: int, users: int, examples: pd.Series) -> dict[str, Any]:
    known = examples.dropna()
    example = str(known.min()) if len(known) else ""
    return {"check": name, "option": option, "counted": "events", "n": n, "users": users, "example": example}


def _steps(
    tables: Tables, log: Log, event_type: str, item: str | None, steps: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Units that took a step without the one before, of the steps that the log has."""
    types = event_types(tables, log, event_type)
    wanted = known_steps(types) if steps is None else [step for step in map(str, steps) if step in types]
    if len(wanted) < 2:
        return []
    values = {
        **log.basics(), "item": "0" if item is None else log.key(item), "step": step_sql(log, event_type, wanted)
    }  # fmt: skip
    found = tables.collect(fill_sql("quality_steps", values, each=later_steps(len(wanted)))).iloc[0]
    rows = []
    for k, (before, step) in enumerate(pairwise(wanted), start=2):
        units, early = (0 if pd.isna(found[c]) else int(found[c]) for c in (f"units_{k}", f"early_{k}"))
        users = int(found[f"users_{k}"])
        example = found[f"example_{k}"]
        rows.append({
            "check": f"{step} without an earlier {before}", "option": "", "n": early, "users": users,
            "counted": "users" if item is None else "users and items", "share": _ratio(early, units),
            "example": "" if pd.isna(example) else str(example),
        })  # fmt: skip
    return rows


def _check_limit(limit: int | None, name: str) -> int | None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise CausalRecError(f"{name} is {limit!r}; expected a whole number of 1 or more, or None.")
    return None if limit is None else int(limit)


def _ratio(n: int, total: int) -> float:
    return n / total if total else 0.0
