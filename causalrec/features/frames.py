"""Declarations beside a spine: one SQL text that has the spine's columns and every feature as of its times."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from causalrec._validation import check_columns, list_some
from causalrec.engines import Dialect, Engine, Kind
from causalrec.engines.arrow import arrow_table
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError
from causalrec.features.attributes import AttributeFeatures, attributes_relation, check_attributes
from causalrec.features.calendar import CalendarFeatures, calendar_relation, check_calendar
from causalrec.features.plan import Asked, asked_statistics, make_plan
from causalrec.features.shapes import events_relation
from causalrec.features.spec import Declaration, FeatureSet
from causalrec.features.sql import Values, check_events, check_keys, check_outcomes, check_time_kind

_ROW = "__causalrec_row"
_REPEATED = 1.5  # rows for each that asks for something new, from where on it pays to find those

AnyDeclaration: TypeAlias = FeatureSet | CalendarFeatures | AttributeFeatures


def join_features(
    engine: Engine,
    spine: Any,
    declarations: Declaration | Sequence[Declaration],
    event_time: str,
    *,
    ahead: bool = False,
) -> Any:
    """The spine with its features, as the kind of table that it is; see :meth:`FeatureStore.training_frame`."""
    wanted = as_declarations(declarations)
    if isinstance(spine, str):
        with wide(engine, spine, wanted, event_time, ahead=ahead) as sql:
            return engine.frame(sql)
    table = f"spine_{uuid.uuid4().hex[:12]}"
    try:
        if hasattr(spine, "createOrReplaceGlobalTempView"):  # a Spark DataFrame
            engine.register(table, spine)
            with wide(engine, table, wanted, event_time, ahead=ahead) as sql:
                return engine.frame(sql)
        held = spine.collect() if hasattr(spine, "collect_schema") and hasattr(spine, "collect") else spine
        engine.register(table, _asking_columns(held, wanted, event_time))
        with wide(engine, table, wanted, event_time, columns=[_ROW], ahead=ahead) as sql:
            found = engine.collect(sql)
    finally:
        engine.drop(table)
    return _beside(spine, held, _in_order(found))


def _in_order(found: pd.DataFrame) -> pd.DataFrame:
    """Features by the numbers of their rows."""
    rows, found = found[_ROW].to_numpy(), found.drop(columns=_ROW)
    if (rows[1:] > rows[:-1]).all():
        return found
    places = np.empty(len(rows), dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return found.take(places)


def _asking_columns(spine: Any, declarations: Sequence[Declaration], event_time: str) -> Any:
    """Keys and times as an Arrow table, with the number of each row."""
    import pyarrow as pa

    if not isinstance(spine, pd.DataFrame) and not hasattr(spine, "select"):
        raise ColumnError(
            f"spine: found {type(spine).__name__}; expected a pandas, Polars or Arrow table, a Spark DataFrame on "
            "Spark, or the name of a registered table."
        )
    names = list(getattr(spine, "column_names", None) or spine.columns)
    needed = list(dict.fromkeys([event_time, *(k for each in declarations for k in each.keys)]))
    check_columns(names, needed, where="spine")
    check_names(names, declarations)
    table = arrow_table("spine", spine[needed] if isinstance(spine, pd.DataFrame) else spine.select(needed))
    return table.append_column(_ROW, pa.array(np.arange(len(table))))


def _beside(spine: Any, held: Any, found: pd.DataFrame) -> Any:
    """Put the features beside the columns of a pandas, Polars or Arrow table."""
    if isinstance(held, pd.DataFrame):
        return pd.concat([held, found.set_axis(held.index)], axis=1)
    table = arrow_table("features", found)
    if hasattr(held, "hstack"):
        joined = held.hstack(type(held)(table))
        return joined if held is spine else joined.lazy()
    for name, column in zip(table.column_names, table.columns, strict=True):
        held = held.append_column(name, column)
    return held


@contextmanager
def wide(
    engine: Engine,
    spine: str,
    declarations: Declaration | Sequence[Declaration],
    event_time: str = "event_time",
    *,
    columns: Sequence[str] | None = None,
    ahead: bool = False,
) -> Iterator[str]:
    """SQL of a registered table with the features as of each row's time, one row per row of it, in no order.

    ``columns`` of the spine are selected, all by default. The SQL can be used until the context ends.

    Raises
    ------
    ColumnError
        For a key or column that is missing, a type that an operation cannot use, or a name that is taken.
    TimeError
        For times that are no timestamps, or missing.
    ConfigError
        For SQL of a declaration that the engine cannot plan.
    """
    wanted = as_declarations(declarations)
    kinds = engine.columns(spine)
    check_columns(kinds, [event_time, *(k for each in wanted for k in each.keys)], where="spine")
    check_names(list(kinds), wanted)
    check_time_kind(kinds[event_time], event_time, where="spine")
    asking = _Asking(engine, spine, event_time, kinds)
    try:
        relations = [asking.relation(each, ahead=ahead) for each in wanted]
        yield _joined_sql(
            engine.dialect, spine, event_time, list(kinds if columns is None else columns), wanted, relations
        )
    finally:
        asking.forget()


@dataclass(frozen=True)
class _Relation:
    """SQL of features, one row per row of the spine, with its number as ``__r``, or per distinct keys and time."""

    sql: str
    by_row: bool = False


class _Asking:
    """The keys and times of a spine, as tables that the relations of declarations go over."""

    def __init__(self, engine: Engine, spine: str, event_time: str, kinds: Mapping[str, Kind]) -> None:
        self._engine, self._spine, self._event_time, self._kinds = engine, spine, event_time, kinds
        self._tables: dict[tuple[tuple[str, ...], bool], tuple[str, Asked]] = {}

    def relation(self, declaration: AnyDeclaration, *, ahead: bool) -> _Relation:
        """SQL of the features for every row that asks."""
        engine = self._engine
        if isinstance(declaration, CalendarFeatures):
            check_calendar(declaration, engine)
            return _Relation(calendar_relation(declaration, self._distinct(())[0], engine))
        if isinstance(declaration, AttributeFeatures):
            check_attributes(declaration, engine)
            check_keys(declaration, self._kinds, engine.columns(declaration.source))
            return _Relation(attributes_relation(declaration, self._distinct(declaration.keys)[0], engine))
        kinds = check_events(declaration, engine)
        check_keys(declaration, self._kinds, kinds)
        if ahead:
            check_outcomes(declaration)
        by_row = self._can_go_by_row(declaration.keys)
        table, asked = self._rows(declaration.keys) if by_row else self._distinct(declaration.keys)
        values = Values(declaration, kinds, engine.dialect)
        plan = make_plan(values, table, asked, engine, ahead=ahead)
        return _Relation(events_relation(values, table, plan, ahead=ahead), by_row)

    def forget(self) -> None:
        """Drop the tables."""
        for table, _ in self._tables.values():
            self._engine.drop(table)

    def _can_go_by_row(self, keys: tuple[str, ...]) -> bool:
        """Whether rows have numbers that can be kept, and few ask for what others ask for too."""
        if not self._engine.dialect.keeps_rows or _ROW not in self._kinds:
            return False
        known = self._rows(keys)[1]
        return known.rows <= _REPEATED * known.distinct

    def _rows(self, keys: tuple[str, ...]) -> tuple[str, Asked]:
        """The asked rows with their numbers."""
        if (keys, True) not in self._tables:
            self._tables[keys, True] = self._keep(f"SELECT {_ROW} AS __r, {self._columns(keys)}", len(keys))
        return self._tables[keys, True]

    def _distinct(self, keys: tuple[str, ...]) -> tuple[str, Asked]:
        """What is asked for, once each, with numbers where they can be kept."""
        if (keys, False) not in self._tables:
            rows = f"SELECT DISTINCT {self._columns(keys)}"
            if self._engine.dialect.keeps_rows:
                rows = f"SELECT row_number() OVER () AS __r, x.* FROM ({rows}) x"
            self._tables[keys, False] = self._keep(rows, len(keys))
        return self._tables[keys, False]

    def _columns(self, keys: tuple[str, ...]) -> str:
        q = self._engine.dialect.quote
        named = "".join(f"{q(k)} AS __k{i}, " for i, k in enumerate(keys))
        return f"{named}{self._engine.dialect.epoch_us(q(self._event_time))} AS __t FROM {q(self._spine)}"

    def _keep(self, rows: str, n_keys: int) -> tuple[str, Asked]:
        name = f"asked_{uuid.uuid4().hex[:12]}"
        self._engine.keep(name, rows)
        try:
            return name, asked_statistics(self._engine, name, n_keys, event_time=self._event_time)
        except CausalRecError:
            self._engine.drop(name)
            raise


def _joined_sql(
    d: Dialect,
    spine: str,
    event_time: str,
    columns: Sequence[str],
    declarations: Sequence[Declaration],
    relations: Sequence[_Relation],
) -> str:
    """The spine's columns and those of each relation by number, or by keys (null is a key like others) and time."""
    q, joins = d.quote, ""
    features = [f"r{i}.{q(name)} AS {q(name)}" for i, each in enumerate(declarations) for name in each.feature_names]
    if len(relations) == 1 and relations[0].by_row and list(columns) == [_ROW]:
        return f"SELECT {', '.join([f'r0.__r AS {_ROW}', *features])} FROM ({relations[0].sql}) r0"
    for i, (each, relation) in enumerate(zip(declarations, relations, strict=True)):
        same = "".join(f"s.{q(k)} IS NOT DISTINCT FROM r{i}.__k{j} AND " for j, k in enumerate(each.keys))
        same += f"{d.epoch_us(f's.{q(event_time)}')} = r{i}.__t"
        joins += f" LEFT JOIN ({relation.sql}) r{i} ON {f's.{_ROW} = r{i}.__r' if relation.by_row else same}"
    selected = [*(f"s.{q(c)} AS {q(c)}" for c in columns), *features]
    return f"SELECT {', '.join(selected)} FROM {q(spine)} s{joins}"


def as_declarations(declarations: Declaration | Sequence[Declaration]) -> list[AnyDeclaration]:
    """One or several declarations as a list; :class:`ConfigError` for anything else."""
    listed: list[Any] = list(declarations) if isinstance(declarations, list | tuple) else [declarations]
    odd = [each for each in listed if not isinstance(each, FeatureSet | CalendarFeatures | AttributeFeatures)]
    if odd:
        raise ConfigError(
            f"found {odd[0]!r} as features; expected FeatureSet, CalendarFeatures or AttributeFeatures, or a list of "
            "them."
        )
    return listed


def check_names(taken: Sequence[object], declarations: Sequence[Declaration]) -> None:
    """Raise :class:`ColumnError` where a feature has the name of a column or of another feature."""
    seen, clash = {str(name).lower() for name in taken}, []
    for name in (name for each in declarations for name in each.feature_names):
        if name.lower() in seen:
            clash.append(name)
        seen.add(name.lower())
    if clash:
        raise ColumnError(f"feature names {list_some(sorted(set(clash)))} are taken already; give them another name=.")
