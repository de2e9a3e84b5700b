"""Features that a table holds ready, one row per key: an item's category, its price tier."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from causalrec._validation import check_columns
from causalrec.engines import Dialect, Engine, Kind
from causalrec.exceptions import ColumnError, ConfigError
from causalrec.features.spec import PlainDeclaration, as_tuple, check_feature_names, check_name

Tiers: TypeAlias = "int | tuple[float, ...]"


@dataclass(frozen=True)
class AttributeFeatures(PlainDeclaration):
    """Columns of a table with one row per key, and tiers of its numbers; null where the table has no such key.

    An attribute has no time: it is taken as true at all times. What changes belongs into a log of changes, where
    ``Aggregation("last", "price")`` is the value as of the time asked. How popular an item was by then is
    ``Aggregation("count", window="28d")`` over the events, by the item's key.

    Parameters
    ----------
    name : str
    keys : tuple of str
        Of the table and of the rows that ask.
    source : str
        The engine's name of the table.
    columns : tuple of str, optional
        Taken as they are.
    tiers : mapping, optional
        By column, as feature ``<column>_tier``. ``{"price": 3}`` makes three tiers by rank: of N numbers in the table,
        one that exceeds b of them is in tier ``1 + floor(3 b / N)``, so that equal numbers share a tier.
        ``{"price": (10, 50)}`` cuts: below 10 is tier 1, [10, 50) tier 2, from 50 on tier 3. Null and NaN are in none.
    prefix : str, optional
        Stands before the name of each feature.

    Raises
    ------
    ConfigError
        For no keys, neither columns nor tiers, a key among the columns, names that appear twice, or tiers that are
        neither a number from 2 on nor cut points that rise.

    Examples
    --------
    >>> AttributeFeatures("item", ("item_id",), "items", ("category",), {"price": 3}).feature_names
    ('category', 'price_tier')
    """

    kind: ClassVar[str] = "attributes"

    name: str
    keys: tuple[str, ...]
    source: str
    columns: tuple[str, ...] = ()
    tiers: Mapping[str, Tiers] = field(default_factory=dict, hash=False)
    prefix: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        where = f"attribute features {self.name!r}"
        for part in ("keys", "columns"):
            object.__setattr__(self, part, as_tuple(getattr(self, part), where=f"{where}: {part}"))
        tiers = {
            column: _checked_tiers(each, where=f"{where}: tiers[{column!r}]") for column, each in self.tiers.items()
        }
        object.__setattr__(self, "tiers", tiers)
        if not self.keys or not (self.columns or self.tiers):
            raise ConfigError(f"{where} need at least one key, and columns or tiers.")
        own = [column for column in self.columns if column in self.keys]
        if own:
            raise ConfigError(f"{where}: {own[0]!r} is a key, which the rows that ask have already; drop it.")
        check_feature_names(self.feature_names, where=where)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(f"{self.prefix}{name}" for name in (*self.columns, *(f"{column}_tier" for column in self.tiers)))


def check_attributes(features: AttributeFeatures, engine: Engine) -> None:
    """Raise where a declaration does not fit its table.

    Raises
    ------
    ColumnError
        For a column that is missing, tiers of what is no number, or a key that has several rows.
    """
    where = f"attribute features {features.name!r}, table {features.source!r}"
    kinds = engine.columns(features.source)
    check_columns(kinds, [*features.keys, *features.columns, *features.tiers], where=where)
    for column in features.tiers:
        if kinds[column] not in ("integer", "float"):
            raise ColumnError(f"{where}: tiers need numbers, but {column!r} is {kinds[column]}.")
    keys = ", ".join(map(engine.dialect.quote, features.keys))
    doubled = engine.collect(
        f"SELECT {keys}, COUNT(*) AS __n, COUNT(*) OVER () AS __doubled FROM {engine.dialect.quote(features.source)} "
        f"WHERE {_known(features, engine.dialect)} GROUP BY {keys} HAVING COUNT(*) > 1 ORDER BY {keys} LIMIT 1"
    )
    if len(doubled):
        example = doubled.to_dict("records")[0]
        shown = ", ".join(f"{key} = {example[key]!r}" for key in features.keys)
        raise ColumnError(
            f"{where}: {int(example['__doubled']):,} keys have several rows, such as {shown} with "
            f"{int(example['__n']):,}; expected one row per key. If the table is a log of changes, use "
            "Aggregation('last', …) over it."
        )


def attributes_relation(features: AttributeFeatures, asked: str, engine: Engine) -> str:
    """SQL with one row per row of the table ``asked`` (columns ``__k0``, …, ``__t``), and the features of its key."""
    d = engine.dialect
    kinds = engine.columns(features.source)
    keys = [f"__k{i}" for i in range(len(features.keys))]
    values = [f"{d.quote(column)} AS __v{i}" for i, column in enumerate(features.columns)]
    numbers = {column: f"__n{i}" for i, column in enumerate(features.tiers)}
    values += [f"{_number(column, kinds, d)} AS {name}" for column, name in numbers.items()]
    named = [f"{d.quote(column)} AS {key}" for column, key in zip(features.keys, keys, strict=True)]
    items = f"SELECT {', '.join([*named, *values])} FROM {d.quote(features.source)} WHERE {_known(features, d)}"
    found = [f"i.__v{i}" for i in range(len(features.columns))]
    ranks, joins = [], []
    for column, name in numbers.items():
        tiers = features.tiers[column]
        if isinstance(tiers, int):
            ranks.append(f"{name}_tiers AS ({_ranked(name, tiers)})")
            joins.append(f" LEFT JOIN {name}_tiers ON {name}_tiers.v = i.{name}")
            found.append(f"{name}_tiers.tier")
        else:
            found.append(_cut(f"i.{name}", tiers))
    shown = ", ".join(f"{sql} AS {d.quote(label)}" for sql, label in zip(found, features.feature_names, strict=True))
    same = " AND ".join(f"i.{key} = s.{key}" for key in keys)
    return (
        f"WITH {', '.join([f'__items AS ({items})', *ranks])} "
        f"SELECT {', '.join(f's.{c}' for c in (*keys, '__t'))}, {shown} "
        f"FROM {d.quote(asked)} s LEFT JOIN __items i ON {same}{''.join(joins)}"
    )


def _known(features: AttributeFeatures, d: Dialect) -> str:
    return " AND ".join(f"{d.quote(key)} IS NOT NULL" for key in features.keys)


def _number(column: str, kinds: Mapping[str, Kind], d: Dialect) -> str:
    """The column's numbers, null for NaN."""
    if kinds[column] == "integer":
        return d.quote(column)
    value = f"CAST({d.quote(column)} AS DOUBLE)"
    return f"CASE WHEN NOT {d.is_nan(value)} THEN {value} END"


def _ranked(name: str, tiers: int) -> str:
    """The tier of each distinct number; only these, not the whole table, are sorted in one place."""
    below = "SUM(n) OVER (ORDER BY v ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - n"
    return (
        f"SELECT v, 1 + CAST(FLOOR(CAST({tiers} * ({below}) AS DOUBLE) / SUM(n) OVER ()) AS BIGINT) AS tier "
        f"FROM (SELECT {name} AS v, COUNT(*) AS n FROM __items WHERE {name} IS NOT NULL GROUP BY {name}) counted"
    )


def _cut(value: str, points: tuple[float, ...]) -> str:
    # An exponent makes it a double; without, Spark reads 0.1 as a decimal.
    cases = " ".join(f"WHEN {value} < {_literal(point)} THEN {tier}" for tier, point in enumerate(points, start=1))
    return f"CAST(CASE WHEN {value} IS NULL THEN NULL {cases} ELSE {len(points) + 1} END AS BIGINT)"


def _literal(number: float) -> str:
    text = repr(number)
    return text if isinstance(number, int) or "e" in text else f"{text}e0"


def _checked_tiers(tiers: object, *, where: str) -> Tiers:
    if isinstance(tiers, int) and not isinstance(tiers, bool) and tiers >= 2:
        return tiers
    if isinstance(tiers, list | tuple) and tiers:
        numbers = [t for t in tiers if isinstance(t, int | float) and not isinstance(t, bool) and math.isfinite(t)]
        rising = all(a < b for a, b in itertools.pairwise(numbers))
        if len(numbers) == len(tiers) and rising:
            return tuple(numbers)
    raise ConfigError(
        f"{where} is {tiers!r}; expected how many tiers, from 2 on, or cut points that rise, as (10, 50)."
    )
