"""From a few numbers about the events and the rows that ask to the shape of the query.

Joining a key's events to its asked rows costs their product, range windows cost their sum, and some more per row; so
keys with few of either are joined and the others go through windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from causalrec.engines import Engine
from causalrec.engines.moments import LARGEST, rounded_sql
from causalrec.exceptions import TimeError
from causalrec.features.days import DAY_US
from causalrec.features.spec import FeatureSet
from causalrec.features.sql import Values, days_of, is_daily, is_wild, reach_of

WINDOW_COST = 16  # a row in a window costs as much as so many pairs in a join
_DENSE = 4  # a table of all keys and days may have so many rows for each asked one
_MOST_PARTS = 4
_DIGITS = 54  # a double has 53; what is cut to so many below the smallest value loses nothing


@dataclass(frozen=True)
class Asked:
    """What is known of the rows that ask, by one set of keys.

    Attributes
    ----------
    keys, rows, most : int
        How many keys and rows there are, and rows of one key.
    first, last : int
        The range of their times in microseconds.
    midnights : bool
        Whether all times are midnights in UTC.
    """

    keys: int
    rows: int
    most: int
    first: int
    last: int
    midnights: bool


@dataclass(frozen=True)
class Split:
    """How a column of floats is cut into parts whose sums are exact, so that the order of rows cannot show.

    A part is the rest, rounded by adding its grid and taking it away again. Four parts hold all digits where the
    largest value is at most 1e23 times the smallest and a key has at most a million events; what is ``left`` beyond is
    added as it is, and so are ``wild`` values (infinite, NaN, beyond 1e150).
    """

    grids: tuple[float, ...] = ()
    left: bool = False
    wild: bool = False


@dataclass(frozen=True)
class Plan:
    """The shapes of a query and what they need to know.

    Attributes
    ----------
    asked : Asked
    since : int or None
    until : int
        Only events in ``[since, until)`` can matter.
    joined, windowed : bool
        Whether there are keys with few events or asked rows, and keys with many of both.
    daily : bool
        Whether what has whole days as windows goes by the table of all keys and days.
    tied : bool
        Whether some key has two events at one time.
    splits : mapping of str to Split
        By the name of the value.
    """

    asked: Asked
    since: int | None
    until: int
    joined: bool = True
    windowed: bool = False
    daily: bool = False
    tied: bool = False
    splits: Mapping[str, Split] = field(default_factory=dict)


def asked_statistics(engine: Engine, asked: str, n_keys: int, *, event_time: str) -> Asked:
    """Count a query's rows by key; it has the columns ``__k0``, … and ``__t``. Rows asked twice may count twice.

    Raises
    ------
    TimeError
        Where times are missing.
    """
    by = "".join(f"__k{i}, " for i in range(n_keys))
    group = f" GROUP BY {by[:-2]}" if n_keys else ""
    row = engine.collect(
        f"SELECT COUNT(*) AS n_keys, SUM(n) AS n_rows, MAX(n) AS most, MIN(lo) AS lo, MAX(hi) AS hi, SUM(odd) AS odd, "
        f"SUM(missing) AS missing FROM (SELECT {by}COUNT(*) AS n, MIN(__t) AS lo, MAX(__t) AS hi, "
        f"SUM(CASE WHEN __t % {DAY_US} <> 0 THEN 1 ELSE 0 END) AS odd, COUNT(*) - COUNT(__t) AS missing "
        f"FROM ({asked}) x{group}) y"
    ).fillna(0).to_dict("records")[0]  # fmt: skip
    if row["missing"]:
        raise TimeError(f"spine: {int(row['missing'])} rows have no {event_time!r}.")
    n_keys, n_rows, most, lo, hi, odd = (int(row[c]) for c in ("n_keys", "n_rows", "most", "lo", "hi", "odd"))
    return Asked(n_keys, n_rows, most, lo, hi, midnights=not odd)


def make_plan(values: Values, table: str, asked: Asked, engine: Engine, *, ahead: bool) -> Plan:
    """Choose the shapes for a set and the rows of ``table`` that ask for it."""
    features = values.features
    since, until = _range(features, asked, ahead=ahead)
    plan = Plan(asked, since, until)
    inside = time_condition(values, plan)
    if any(a.op in ("first", "last") for a in features.aggregations):
        plan = replace(plan, tied=_has_ties(values, inside, engine))
    floats, often = values.floats(), asked.most > WINDOW_COST
    if not floats and not often:
        return plan
    row = engine.collect(_statistics_sql(values, table, inside, weigh=often)).fillna(0).to_dict("records")[0]
    splits = {v: _split(row[f"hi{v}"], row[f"lo{v}"], row[f"wild{v}"], row["most"]) for v in floats}
    windowed = often and row["pairs"] > WINDOW_COST * row["n_rows"]
    return replace(
        plan,
        splits=splits,
        windowed=windowed,
        joined=not windowed or bool(row["light"]),
        daily=windowed and asked.midnights and _is_dense(features, asked),
    )


def _range(features: FeatureSet, asked: Asked, *, ahead: bool) -> tuple[int | None, int]:
    reach = reach_of(features.aggregations)
    if ahead:
        return asked.first, asked.last + (reach or 0)
    return (None if reach is None else asked.first - reach), asked.last


def time_condition(values: Values, plan: Plan) -> str:
    """More conditions for :meth:`Values.select`: events in the range that can matter."""
    after = "" if plan.since is None else f" AND {values.time} >= {plan.since}"
    return f"{after} AND {values.time} < {plan.until}"


def _statistics_sql(values: Values, table: str, inside: str, *, weigh: bool) -> str:
    """How many events may be added, ranges of the float columns and, to ``weigh`` joins, what they would cost."""
    floats = values.floats()
    if not weigh:
        return f"SELECT COUNT(*) AS most{_ranges(floats)} FROM ({values.select(inside)}) e"
    by = ", ".join(values.keys)
    events = f"SELECT {by}, COUNT(*) AS ne{_ranges(floats)} FROM ({values.select(inside)}) e GROUP BY {by}"
    wanted = ["MAX(ne) AS most"]
    wanted += [f"MAX(hi{v}) AS hi{v}, MIN(lo{v}) AS lo{v}, MAX(wild{v}) AS wild{v}" for v in floats]
    wanted += ["SUM(CAST(ne AS DOUBLE) * ns) AS pairs", "SUM(ne + ns) AS n_rows"]
    wanted += [f"SUM(CASE WHEN {heavy_sql()} THEN 0 ELSE 1 END) AS light"]
    asking = f"SELECT {by}, COUNT(*) AS ns FROM {table} GROUP BY {by}"
    same = " AND ".join(f"a.{k} = e.{k}" for k in values.keys)
    return f"SELECT {', '.join(wanted)} FROM ({events}) e JOIN ({asking}) a ON {same}"


def _ranges(floats: Sequence[str]) -> str:
    """Largest and smallest size but 0 of each column, and whether there are values that cannot be split."""
    return "".join(
        f", MAX(CASE WHEN ABS({v}) <= {LARGEST} THEN ABS({v}) END) AS hi{v}"
        f", MIN(CASE WHEN {v} <> 0 AND ABS({v}) <= {LARGEST} THEN ABS({v}) END) AS lo{v}"
        f", MAX(CASE WHEN {is_wild(v)} THEN 1 ELSE 0 END) AS wild{v}"
        for v in floats
    )


def heavy_sql() -> str:
    """Whether a key with ``ne`` events and ``ns`` asked rows should go through windows."""
    return f"CAST(ne AS DOUBLE) * ns > {WINDOW_COST} * (ne + ns)"


def _split(largest: float, smallest: float, wild: float, events: float) -> Split:
    """Grids for values of which at most ``events`` are added.

    A multiple of the unit u is added without rounding while the sum stays below ``2^53 u``. Values below ``2^q``, of
    which ``2^p`` are added, are so rounded to ``u = 2^(p + q - 52)``; the rest is at most ``u / 2`` and is cut again.
    """
    if not largest:
        return Split(wild=bool(wild))
    p = max(1, math.ceil(math.log2(events + 1)))
    q, low = math.frexp(largest)[1], math.frexp(smallest)[1] - _DIGITS
    grids: list[float] = []
    while not grids or (q > low and len(grids) < _MOST_PARTS and p + q > -1000):
        grids.append(math.ldexp(1.5, p + q))
        q += p - 53
    return Split(tuple(grids), left=q > low, wild=bool(wild))


def split_sql(events: str, splits: Mapping[str, Split]) -> str:
    """The events with the parts of each value beside it, named by :func:`part_names`."""
    for name, split in splits.items():
        tame = f"CASE WHEN ABS({name}) <= {LARGEST} THEN {name} END" if split.wild else name
        wild = f", CASE WHEN {is_wild(name)} THEN {name} END AS {name}_wild" if split.wild else ""
        events = f"SELECT *, {tame} AS {name}_tame{wild} FROM ({events}) e"
        rest = f"{name}_tame"
        for i, grid in enumerate(split.grids):
            events = f"SELECT *, {rounded_sql(rest, _literal(grid))} AS {name}_{i} FROM ({events}) e"
            rest = f"({rest} - {name}_{i})"
        if split.left:
            events = f"SELECT *, {rest} AS {name}_left FROM ({events}) e"
    return events


def part_names(name: str, split: Split) -> list[str]:
    """Columns whose sums add up to the sum of a value, from the smallest to the largest."""
    parts = [f"{name}_{i}" for i in range(len(split.grids))] or [f"{name}_tame"]
    ends = (["left"] if split.left else []), (["wild"] if split.wild else [])
    return [*(f"{name}_{end}" for end in ends[0]), *reversed(parts), *(f"{name}_{end}" for end in ends[1])]


def _literal(number: float) -> str:
    text = repr(number)
    return text if "e" in text else f"{text}e0"


def _is_dense(features: FeatureSet, asked: Asked) -> bool:
    """Whether the table of all asked keys and days, and of the days that windows reach, is not much larger."""
    reaches = [days_of(a) for a in features.aggregations if is_daily(a)]
    days = (asked.last - asked.first) // DAY_US + 2 + max(reaches, default=0)
    return bool(reaches) and asked.keys * days <= _DENSE * asked.rows


def _has_ties(values: Values, inside: str, engine: Engine) -> bool:
    by = ", ".join([*values.keys, "__e"])
    found = engine.collect(
        f"SELECT COUNT(*) AS n FROM (SELECT {by} FROM ({values.select(inside)}) e GROUP BY {by} "
        "HAVING COUNT(*) > 1 LIMIT 1) x"
    )
    return bool(found["n"].iloc[0])
