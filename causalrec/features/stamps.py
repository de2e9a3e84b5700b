"""When a day is stale: a hash of all that its features depend on, and of nothing else."""

from __future__ import annotations

import hashlib
import re

from causalrec.engines import Engine
from causalrec.features.asked import ALWAYS, Asked, Tally, tally
from causalrec.features.attributes import AttributeFeatures
from causalrec.features.days import DAY_US, day_name
from causalrec.features.spec import Declaration, FeatureSet
from causalrec.features.sql import reach_of, source_sql

_BY_ALL = ("first", "last")  # ties between their events are broken by all columns
# SQL may mean columns that it does not name: COLUMNS('a.*'), *, #2, or the row itself, which queries call src.
_UNNAMED = re.compile(r"\bcolumns\b|(^|[(,.])\s*\*|#\s*\d|\bsrc\b", re.IGNORECASE)


def input_stamps(engine: Engine, features: Declaration, asked: Asked) -> dict[str, str]:
    """By the name of each day, a hash of the declaration, its rows and the events that they can see."""
    table = engine.columns(features.source) if isinstance(features, FeatureSet | AttributeFeatures) else {}
    used = columns_used(features, list(table))
    source, reach = _source_tally(engine, features, used), _reach(features)
    # Equal values of another type may hash alike, and give features of another type.
    kinds = [sorted(asked.columns.items()), sorted((name, table[name]) for name in used)]
    stamps = {}
    for day in asked.days:
        last = asked.last_event_day(day)
        events = source.between(None if reach is None else day - reach, last)
        parts = (features.spec_hash, engine.name, kinds, events, asked.content(day))
        stamps[day_name(day)] = hashlib.sha256(repr(parts).encode()).hexdigest()
    return stamps


def columns_used(features: Declaration, columns: list[str]) -> list[str]:
    """Those of the columns of a declaration's table that can matter to its features.

    Examples
    --------
    >>> from causalrec.features import Aggregation
    >>> spent = FeatureSet("spent", ("user",), "log", "at", (Aggregation("sum", "price", where="shop = 'x'"),))
    >>> columns_used(spent, ["user", "at", "price", "shop", "note"])
    ['user', 'at', 'price', 'shop']
    """
    if isinstance(features, AttributeFeatures):
        needed = {*features.keys, *features.columns, *features.tiers}
        return [name for name in columns if name in needed]
    if not isinstance(features, FeatureSet):
        return []
    texts = [*features.derived.values(), *(a.where for a in features.aggregations if a.where)]
    if any(a.op in _BY_ALL for a in features.aggregations) or any(map(_UNNAMED.search, texts)):
        return columns
    aggregated = (a.column for a in features.aggregations if a.column)
    needed = {*features.keys, features.time_column, *features.order_by, *aggregated}
    said = "\n".join(texts).casefold()
    return [name for name in columns if name in needed or _may_be_named(name, said)]


def _may_be_named(column: str, said: str) -> bool:
    """Whether SQL names a column, perhaps as a part of another word; quotes within a name are written in many ways."""
    return any(mark in column for mark in "'\"`") or column.casefold() in said


def _source_tally(engine: Engine, features: Declaration, used: list[str]) -> Tally:
    """What the features are computed from, by day; a table without times as of a day before all."""
    d = engine.dialect
    columns = list(map(d.quote, used))
    if isinstance(features, FeatureSet):
        events = f"{source_sql(features, d)} src"
        return tally(engine, events, d.epoch_us(d.quote(features.time_column)), columns)
    if isinstance(features, AttributeFeatures):
        return tally(engine, d.quote(features.source), f"CAST({ALWAYS} AS BIGINT)", columns)
    return Tally(())


def _reach(features: Declaration) -> int | None:
    """How many days before its own a day's windows reach; None for all time."""
    reach = reach_of(features.aggregations) if isinstance(features, FeatureSet) else None
    return None if reach is None else -(-reach // DAY_US)
