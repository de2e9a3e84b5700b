"""What the queries of a feature set have in common: checks against its source, and the events as SQL."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causalrec._validation import check_columns
from causalrec.engines import Dialect, Engine, Kind
from causalrec.engines.exact import LARGEST
from causalrec.exceptions import ColumnError, ConfigError, EngineError, TimeError
from causalrec.features.attributes import AttributeFeatures
from causalrec.features.days import DAY_US
from causalrec.features.spec import OUTCOME_OPERATIONS, Aggregation, FeatureSet, parse_window

_LINE = "\n"
_QUOTED = re.compile(r"""'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_OTHER_ROWS = re.compile(r"\(\s*(select|with|from|values|table)\b|\bover\b", re.IGNORECASE)
NUMERIC = ("integer", "float", "boolean")
_NEED_NUMBERS = ("sum", "mean", "std")
_NEED_ORDER = ("min", "max")
_NOT_BY_DAY = ("n_unique", "std")  # a day's part does not say what the whole is


def check_events(features: FeatureSet, engine: Engine) -> dict[str, Kind]:
    """The columns of a set's events, derived ones among them, with the kind of each.

    Raises
    ------
    ColumnError
        For a column that is missing or has a type that the operation cannot use.
    TimeError
        For times that are no timestamps.
    ConfigError
        For SQL that the engine cannot plan, with its message, or a derived column whose name is taken.
    """
    where = f"feature set {features.name!r}, table {features.source!r}"
    kinds = _with_derived(features, engine, where=where)
    needed = [*features.keys, features.time_column, *features.order_by]
    check_columns(kinds, [*needed, *(a.column for a in features.aggregations if a.column)], where=where)
    check_time_kind(kinds[features.time_column], features.time_column, where=where)
    for aggregation in features.aggregations:
        _check_kind(aggregation, kinds, where=where)
    _check_conditions(features, engine, where=where)
    _check_computed(features, engine, where=where)
    return kinds


def _with_derived(features: FeatureSet, engine: Engine, *, where: str) -> dict[str, Kind]:
    kinds = engine.columns(features.source)
    taken = {c.lower() for c in kinds} & {name.lower() for name in features.derived}
    if taken:
        raise ConfigError(f"{where}: derived column {min(taken)!r} is in the table already; give it another name.")
    source = engine.dialect.quote(features.source)
    return {**kinds, **_check_sql(features.derived, source, engine, where=where, what="derived column")}


def _check_conditions(features: FeatureSet, engine: Engine, *, where: str) -> None:
    conditions = {a.where: a.where for a in features.aggregations if a.where is not None}
    source = source_sql(features, engine.dialect)
    kinds = _check_sql(conditions, source, engine, where=where, what="condition")
    for condition, kind in kinds.items():
        if kind != "boolean":
            raise ConfigError(f"{where}: the condition {condition!r} is {kind}; expected something true or false.")


def _check_computed(features: FeatureSet, engine: Engine, *, where: str) -> None:
    """Plan what is computed over features of the right types, as plain aggregates of the whole table give them."""
    if not features.computed:
        return
    d = engine.dialect
    made = ", ".join(f"{_plain_aggregate(a, d)} AS {d.quote(a.label)}" for a in features.aggregations)
    plain = f"(SELECT {made} FROM {source_sql(features, d)} src)"
    _check_sql(features.computed, plain, engine, where=where, what="computed feature")


def _plain_aggregate(aggregation: Aggregation, d: Dialect) -> str:
    if aggregation.op in ("count", "n_unique"):
        return "COUNT(*)"
    if aggregation.op in ("recency", "mean", "std"):
        return "MAX(0e0)"
    return f"MAX({d.quote(str(aggregation.column))})"


def _check_sql(texts: Mapping[str, str], table: str, engine: Engine, *, where: str, what: str) -> dict[str, Kind]:
    """Kinds of SQL texts over a table, by name; :class:`ConfigError` for the first that cannot be planned.

    Each must make sense both in brackets and without: ``a) OR (b`` has a meaning in brackets that nobody wrote.
    """
    if not texts:
        return {}
    for name, text in texts.items():
        if _OTHER_ROWS.search(_QUOTED.sub("''", text)):
            raise ConfigError(
                f"{where}: the {what} {name!r} has a subquery or a window and so sees other rows, perhaps later ones; "
                "expected SQL on the columns of one row."
            )
    view = f"check_{uuid.uuid4().hex[:12]}"
    try:
        engine.create_view(view, f"SELECT {', '.join(f'{text}{_LINE}' for text in texts.values())} FROM {table} src")
        # Beside the table's own columns, so that an aggregate, which makes one row of many, is refused.
        named = ", ".join(f"{bracketed(text)} AS __c{i}" for i, text in enumerate(texts.values()))
        engine.create_view(view, f"SELECT *, {named} FROM {table} src")
        kinds = engine.columns(view)
    except EngineError as error:
        if len(texts) > 1:
            for name, text in texts.items():
                _check_sql({name: text}, table, engine, where=where, what=what)
        name = next(iter(texts))
        raise ConfigError(f"{where}: the {what} {name!r} is not understood: {_own_words(error)}") from error
    finally:
        engine.drop(view)
    return {name: kinds[f"__c{i}"] for i, name in enumerate(texts)}


def _own_words(error: EngineError) -> str:
    """What the database says of a text, without the view that was to be made of it and the query around it."""
    return str(error).partition(": ")[2].partition("\nLINE ")[0].strip()


def bracketed(sql: str) -> str:
    """A user's SQL as one operand; a comment in it ends with its line."""
    return f"({sql}{_LINE})"


def _check_kind(aggregation: Aggregation, kinds: Mapping[str, Kind], *, where: str) -> None:
    op, column = aggregation.op, aggregation.column
    if column is None:
        return
    if op in _NEED_NUMBERS and kinds[column] not in NUMERIC:
        raise ColumnError(f"{where}: {op} needs numbers, but {column!r} is {kinds[column]}.")
    if op in _NEED_ORDER and kinds[column] == "other":
        raise ColumnError(f"{where}: {op} needs numbers, text or times, but {column!r} is of none of these types.")


def check_outcomes(features: FeatureSet) -> None:
    """Raise :class:`ColumnError` where an aggregation cannot look ahead."""
    for a in features.aggregations:
        if a.window is None or a.op not in OUTCOME_OPERATIONS:
            raise ColumnError(
                f"outcome {a.label!r}: op {a.op!r}, window {a.window!r}; an outcome needs a window and one of "
                f"{', '.join(OUTCOME_OPERATIONS)}."
            )


def check_keys(features: FeatureSet | AttributeFeatures, spine: Mapping[str, Kind], table: Mapping[str, Kind]) -> None:
    """Raise :class:`ColumnError` where a key has another type in the spine than in the declaration's table."""
    for key in features.keys:
        if spine[key] != table[key]:
            raise ColumnError(
                f"feature set {features.name!r}: key {key!r} is {spine[key]} in the spine and {table[key]} in table "
                f"{features.source!r}, so that equal keys could be missed. Convert one of them first: in the "
                f"spine's file or frame, or in the table by a derived column, such as {key}_id: CAST({key} AS BIGINT), "
                "which is the key then, under that name in the spine too."
            )


def check_time_kind(kind: str, column: str, *, where: str) -> None:
    """Raise :class:`TimeError` unless a column holds timestamps or dates."""
    if kind not in ("timestamp", "timestamptz", "date"):
        raise TimeError(
            f"{where}: {column!r} is {kind}; expected timestamps (naive ones are UTC). Convert it first, e.g. "
            "pd.to_datetime(…, utc=True)."
        )


def source_sql(features: FeatureSet, d: Dialect) -> str:
    """The event table with its derived columns."""
    table = d.quote(features.source)
    if not features.derived:
        return table
    derived = ", ".join(f"{bracketed(sql)} AS {d.quote(name)}" for name, sql in features.derived.items())
    return f"(SELECT *, {derived} FROM {table})"


def reach_of(aggregations: Sequence[Aggregation]) -> int | None:
    """The longest window in microseconds; None for all time."""
    windows = [a.window for a in aggregations]
    return max(parse_window(w) for w in windows if w) if all(windows) else None


def days_of(aggregation: Aggregation) -> int:
    """The days of a window, the last one perhaps in part; 0 for all time."""
    return -(-parse_window(aggregation.window) // DAY_US) if aggregation.window else 0


def is_daily(aggregation: Aggregation) -> bool:
    """Whether its value at a midnight follows from those of whole days."""
    whole = aggregation.window is None or parse_window(aggregation.window) % DAY_US == 0
    return whole and aggregation.op not in _NOT_BY_DAY


@dataclass(frozen=True)
class Values:
    """The columns of a set's events under names of our own: their own could be anything.

    Attributes
    ----------
    features : FeatureSet
    kinds : mapping of str to Kind
        Of the events' columns.
    dialect : Dialect
    """

    features: FeatureSet
    kinds: Mapping[str, Kind]
    dialect: Dialect

    @property
    def keys(self) -> list[str]:
        """Names of the key columns."""
        return [f"__k{i}" for i in range(len(self.features.keys))]

    @property
    def identity(self) -> list[str]:
        """Columns that tell the asked rows apart: a number where the engine keeps them, else keys and time."""
        return ["__r"] if self.dialect.keeps_rows else [*self.keys, "__t"]

    @property
    def asked(self) -> list[str]:
        """The columns of a table of asked rows."""
        return list(dict.fromkeys([*self.identity, *self.keys, "__t"]))

    @property
    def names(self) -> list[str]:
        """Names of the values."""
        return [f"__v{i}" for i in range(len(self._expressions()))]

    @property
    def time(self) -> str:
        """The time of an event in microseconds, as SQL over the table itself."""
        return self.dialect.epoch_us(self._own(self.features.time_column))

    def name(self, aggregation: Aggregation) -> str:
        """The column that an aggregation is taken of; its time where it has none."""
        expression = self._expression(aggregation)
        return "__e" if expression is None else f"__v{self._expressions().index(expression)}"

    def floats(self) -> list[str]:
        """Columns whose sums or deviations are taken in floating point."""
        wanted = [a for a in self.features.aggregations if a.op in _NEED_NUMBERS and self.is_float(a)]
        return list(dict.fromkeys(self.name(a) for a in wanted))

    def is_float(self, aggregation: Aggregation) -> bool:
        """Whether the aggregation adds floats; sums of integers and booleans are exact anyway."""
        return aggregation.op == "std" or self.kinds[str(aggregation.column)] == "float"

    def all_values(self) -> str:
        """The values of all events, also of those without a key or a time."""
        values = ", ".join(f"{text} AS __v{i}" for i, text in enumerate(self._expressions()))
        return f"SELECT {values} FROM {source_sql(self.features, self.dialect)} src"

    def select(self, conditions: str = "", *, asked: str | None = None, ordered: bool = False) -> str:
        """The events that have a key and a time (``__e``) and meet more conditions.

        With ``asked``, only those whose keys that table has; ``ordered`` numbers each key's events as ``__o``.
        """
        features = self.features
        named = zip(features.keys, self.keys, strict=True)
        columns = [f"{self._own(key)} AS {name}" for key, name in named]
        columns += [f"{self.time} AS __e", *(f"{text} AS __v{i}" for i, text in enumerate(self._expressions()))]
        if ordered:
            columns.append(f"row_number() OVER ({self._total_order()}) AS __o")
        known = " AND ".join(f"{self._own(c)} IS NOT NULL" for c in (*features.keys, features.time_column))
        if asked is not None:
            same = " AND ".join(f"a.{name} = {self._own(k)}" for k, name in zip(features.keys, self.keys, strict=True))
            known += f" AND EXISTS (SELECT 1 FROM {asked} a WHERE {same})"
        source = source_sql(features, self.dialect)
        return f"SELECT {', '.join(columns)} FROM {source} src WHERE {known}{conditions}"

    def _own(self, column: str) -> str:
        return f"src.{self.dialect.quote(column)}"

    def _total_order(self) -> str:
        """Events of a key in time, ties broken until only equal rows are left. Engines put nulls apart: say where."""
        features = self.features
        known = (*features.keys, features.time_column, *features.order_by)
        rest = [c for c in self.kinds if c not in known]
        ties = "".join(f", {self._own(c)} ASC NULLS FIRST" for c in (*features.order_by, *rest))
        return f"PARTITION BY {', '.join(map(self._own, features.keys))} ORDER BY {self.time}{ties}"

    def _expressions(self) -> list[str]:
        found = [self._expression(a) for a in self.features.aggregations]
        return list(dict.fromkeys(e for e in found if e is not None))

    def _expression(self, aggregation: Aggregation) -> str | None:
        """What an event adds to an aggregate; null if it does not count."""
        value = self._number(aggregation) if aggregation.op in _NEED_NUMBERS else None
        if value is None and aggregation.column:
            value = self._own(aggregation.column)
        if aggregation.where is None:
            return value
        return f"CASE WHEN {bracketed(aggregation.where)} THEN {value or self.time} END"

    def _number(self, aggregation: Aggregation) -> str:
        value = self._own(str(aggregation.column))
        if self.is_float(aggregation):
            return f"CAST({value} AS DOUBLE)"
        return f"CAST({value} AS BIGINT)" if self.kinds[str(aggregation.column)] == "boolean" else value


def is_wild(value: str, dialect: Dialect) -> str:
    """Whether a number is infinite, NaN or too large to be split."""
    return f"({dialect.is_nan(value)} OR ABS({value}) > {LARGEST})"
