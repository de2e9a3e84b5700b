"""From a few numbers about the events and the rows that ask to the shape of the query.

Joining a key's events to its asked rows costs their product, range windows cost their sum, and some more per row; so
keys with few of either are joined and the others go through windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from causalrec.engines import Dialect, Engine
from causalrec.engines.exact import rounded_sql
from causalrec.exceptions import TimeError
from causalrec.features.days import DAY_US
from causalrec.features.spec import FeatureSet
from causalrec.features.sql import Values, days_of, is_daily, is_wild, reach_of

WINDOW_COST = 64  # a row in a window costs as much as so many pairs in a join; 60 to 120 on DuckDB
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
    distinct : int
        About how many rows there are but for those that ask again.
    first, last : int
        The range of their times in microseconds.
    midnights : bool
        Whether all times are midnights in UTC.
    """

    keys: int
    rows: int
    most: int
    distinct: int
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
    """Count rows by key; ``asked`` is a table, or a query in brackets, with the columns ``__k0``, … and ``__t``.

    Raises
    ------
    TimeError
        Where times are missing.
    """
    keys = [f"__k{i}" for i in range(n_keys)]
    row = engine.collect(_asked_sql(asked, keys, engine.dialect)).fillna(0).to_dict("records")[0]
    if row["missing"]:
        raise TimeError(f"spine: {int(row['missing'])} rows have no {event_time!r}.")
    n_keys, n_rows, most, n_distinct, lo, hi = (
        int(row[c]) for c in ("n_keys", "n_rows", "most", "n_distinct", "lo", "hi")
    )
    return Asked(n_keys, n_rows, most, n_distinct, lo, hi, midnights=not row["odd"])


def _asked_sql(asked: str, keys: Sequence[str], d: Dialect) -> str:
    counts = "COUNT(*) AS n_keys, SUM(n) AS n_rows, MAX(n) AS most"
    times = f"MIN(__t) AS lo, MAX(__t) AS hi, MAX(ABS(__t % {DAY_US})) AS odd, COUNT(*) - COUNT(__t) AS missing"
    by = f" GROUP BY {', '.join(keys)}" if keys else ""
    if not d.keeps_rows:  # distinct rows, which a second look at them would find anew
        return (
            f"SELECT {counts}, SUM(n) AS n_distinct, MIN(lo) AS lo, MAX(hi) AS hi, MAX(odd) AS odd, "
            f"SUM(missing) AS missing FROM (SELECT COUNT(*) AS n, {times} FROM {asked} x{by}) n"
        )
    distinct = f"approx_count_distinct({d.row_hash([*keys, '__t'])}) AS n_distinct"
    return (
        f"SELECT * FROM (SELECT {counts} FROM (SELECT COUNT(*) AS n FROM {asked} x{by}) n) k "
        f"CROSS JOIN (SELECT {times}, {distinct} FROM {asked} x) t"
    )


def make_plan(values: Values, table: str, asked: Asked, engine: Engine, *, ahead: bool) -> Plan:
    """Choose the shapes for a set and the rows of ``table`` that ask for it."""
    features = values.features
    since, until = _range(features, asked, ahead=ahead)
    plan = Plan(asked, since, until)
    inside = time_condition(values, plan)
    if any(a.op in ("first", "last") for a in features.aggregations):
        plan = replace(plan, tied=_has_ties(values, inside, engine))
    plan = replace(plan, splits=_splits(values, engine))
    if asked.most <= WINDOW_COST:
        return plan
    row = engine.collect(_weights_sql(values, table, inside)).fillna(0).to_dict("records")[0]
    windowed = row["pairs"] > WINDOW_COST * row["n_rows"]
    return replace(
        plan,
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


def _splits(values: Values, engine: Engine) -> dict[str, Split]:
    """How the float columns are cut; by all events, whoever asks, so that the same cuts are made for all."""
    floats = values.floats()
    if not floats:
        return {}
    row = _ranges(values, floats, engine, tame=False)
    if any(row[f"wild{v}"] for v in floats):
        row = _ranges(values, floats, engine, tame=True)
    return {v: _split(row[f"hi{v}"], row[f"lo{v}"], row[f"wild{v}"], row["n"]) for v in floats}


def _ranges(values: Values, floats: Sequence[str], engine: Engine, *, tame: bool) -> dict[Any, Any]:
    """Largest and smallest size but 0 of each column, of ``tame`` values or of all, and whether some are not."""
    wanted = ["COUNT(*) AS n"]
    for v in floats:
        size = engine.dialect.tame(f"ABS({v})") if tame else f"ABS({v})"
        wanted += [f"MAX({size}) AS hi{v}", f"MIN(NULLIF({size}, 0)) AS lo{v}"]
        wanted.append(f"CASE WHEN {is_wild(f'MAX(ABS({v}))', engine.dialect)} THEN 1 ELSE 0 END AS wild{v}")
    found = engine.collect(f"SELECT {', '.join(wanted)} FROM ({values.all_values()}) e")
    return found.fillna(0).to_dict("records")[0]


def _weights_sql(values: Values, table: str, inside: str) -> str:
    """How many pairs of events and asked rows there are, how many of both, and keys with few."""
    by = ", ".join(values.keys)
    events = f"SELECT {by}, COUNT(*) AS ne FROM ({values.select(inside)}) e GROUP BY {by}"
    asking = f"SELECT {by}, COUNT(*) AS ns FROM {table} GROUP BY {by}"
    same = " AND ".join(f"a.{k} = e.{k}" for k in values.keys)
    return (
        "SELECT SUM(CAST(ne AS DOUBLE) * ns) AS pairs, SUM(ne + ns) AS n_rows, "
        f"SUM(CASE WHEN {heavy_sql()} THEN 0 ELSE 1 END) AS light FROM ({events}) e JOIN ({asking}) a ON {same}"
    )


def heavy_sql() -> str:
    """Whether a key with ``ne`` events and ``ns`` asked rows should go through windows."""
    return f"CAST(ne AS DOUBLE) * ns > {WINDOW_COST} * (ne + ns)"


def _split(largest: float, smallest: float, wild: float, events: float) -> Split:
    """Grids for values of which at most ``events`` are added.

    Multiples of the unit u are added without rounding while the sum is at most ``2^53 u``. Values up to ``2^q``, of
    which ``2^p`` are added, are so rounded to ``u = 2^(p + q - 53)``; the rest is at most ``u / 2`` and is cut again.
    """
    if not largest:
        return Split(wild=bool(wild))
    p = max(2, math.ceil(math.log2(events)))
    q, low = math.frexp(largest)[1], math.frexp(smallest)[1] - _DIGITS
    grids: list[float] = []
    while not grids or (q > low and len(grids) < _MOST_PARTS and p + q > -1000):
        grids.append(math.ldexp(1.5, p + q - 1))
        q += p - 54
    return Split(tuple(grids), left=q > low, wild=bool(wild))


def split_sql(events: str, splits: Mapping[str, Split], dialect: Dialect) -> str:
    """The events with the parts of each value beside it, named by :func:`part_names`.

    A subquery makes one part of all values: planners take very long over one that is nested for each of them.
    """
    layers: list[list[str]] = []
    for name, split in splits.items():
        for depth, columns in enumerate(_layers(name, split, dialect)):
            if depth == len(layers):
                layers.append([])
            layers[depth] += columns
    for columns in layers:
        events = f"SELECT *, {', '.join(columns)} FROM ({events}) e"
    return events


def _layers(name: str, split: Split, dialect: Dialect) -> Iterator[list[str]]:
    """What is selected to split a value, in the order in which one part needs another."""
    tame = dialect.tame(name) if split.wild else name
    wild = [f"CASE WHEN {is_wild(name, dialect)} THEN {name} END AS {name}_wild"] if split.wild else []
    yield [f"{tame} AS {name}_tame", *wild]
    rest = f"{name}_tame"
    for i, grid in enumerate(split.grids):
        yield [f"{rounded_sql(rest, _literal(grid))} AS {name}_{i}"]
        rest = f"({rest} - {name}_{i})"
    if split.left:
        yield [f"{rest} AS {name}_left"]


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
