"""Fill a version on disk: find the days whose input has changed, compute them in batches, commit each batch."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from causalrec._validation import list_some
from causalrec.engines import Engine, Kind
from causalrec.exceptions import ColumnError, StoreError
from causalrec.features import frames
from causalrec.features.asked import ALWAYS, Asked, Tally, asked_rows, tally
from causalrec.features.attributes import AttributeFeatures, check_attributes
from causalrec.features.days import DAY_US, day_name
from causalrec.features.registry import PARTITION, Record, Version
from causalrec.features.spec import Declaration, FeatureSet
from causalrec.features.sql import check_events, reach_of, source_sql

# What a batch holds, a day at least: memory is bounded, and an interrupt loses one batch.
BATCH_ROWS = 1_000_000
BATCH_DAYS = 100  # as many files as DuckDB keeps open while it writes
# A call that is not short has ten batches or more, so that progress is seen.
_SHARE = 10
_SHORT_ROWS = 200_000

Progress: TypeAlias = "Callable[[int, int], object]"


@dataclass(frozen=True)
class Materialized:
    """What a call of :meth:`FeatureStore.materialize` did: rows of all days asked for, and how they came about."""

    path: Path
    spec_hash: str
    rows: int
    days_computed: int
    days_reused: int


def materialize(
    engine: Engine,
    version: Version,
    features: Declaration,
    start: object,
    end: object,
    *,
    entities: Any,
    spine: Any,
    event_time: str,
    progress: Progress | None,
) -> Materialized:
    """Compute what is missing or has changed of the days asked for; see :meth:`FeatureStore.materialize`."""
    if isinstance(features, FeatureSet):
        check_events(features, engine)
    if isinstance(features, AttributeFeatures):
        check_attributes(features, engine)
    with asked_rows(engine, features, start, end, entities=entities, spine=spine, event_time=event_time) as asked:
        job = _Job(engine, version, features, asked, _header(engine, features, asked), _stamps(engine, features, asked))
        _check_layout(version, job.header, asked)
        computed = job.fill(progress)
    version.clean()
    record = version.read()
    rows = sum(record.days[name].rows for name in job.stamps if name in record.days) if record else 0
    return Materialized(version.path, features.spec_hash, rows, computed, len(job.stamps) - computed)


@dataclass(frozen=True)
class _Job:
    """Days to fill: what to compute, from which rows, and what to say of it. ``stamps`` are the input hashes by day."""

    engine: Engine
    version: Version
    features: Declaration
    asked: Asked
    header: Record
    stamps: Mapping[str, str]

    def fill(self, progress: Progress | None) -> int:
        """Compute the days that are not fresh, batch by batch; how many they were."""
        total = len(self.stamps)
        stale = self._stale(self.asked.days)
        done, computed = total - len(stale), 0
        if progress:
            progress(done, total)
        for batch in _batches(stale, self.asked):
            rest = self._stale(batch)  # another process may have made some meanwhile
            if rest:
                self._compute(rest)
            done, computed = done + len(batch), computed + len(rest)
            if progress:
                progress(done, total)
        return computed

    def _stale(self, days: Sequence[int]) -> list[int]:
        fresh = self.version.fresh_days({day_name(day): self.stamps[day_name(day)] for day in days})
        return [day for day in days if day_name(day) not in fresh]

    def _compute(self, days: Sequence[int]) -> None:
        """Compute some days and commit them together."""
        spine = f"spine_{uuid.uuid4().hex[:12]}"
        self.engine.create_view(spine, self.asked.sql(days))
        try:
            wide = frames.wide(self.engine, spine, self.features, self.asked.event_time)
            with wide as sql, self.version.scratch() as scratch:
                written = scratch / "days"
                self.engine.write_parquet(self._kept(sql), written, partition_by=[PARTITION])
                self.version.commit(written, self.header, {day_name(day): self.stamps[day_name(day)] for day in days})
        finally:
            self.engine.drop(spine)

    def _kept(self, sql: str) -> str:
        """The rows of a query as they are kept: times naive, so that days fit together, and the day beside them."""
        d, event_time = self.engine.dialect, self.asked.event_time
        time = d.from_epoch_us(d.epoch_us(f"w.{d.quote(event_time)}"))
        columns = ", ".join(
            f"{time if c == event_time else f'w.{d.quote(c)}'} AS {d.quote(c)}"
            for c in (*self.asked.columns, *self.header.features)
        )
        return f"SELECT {columns}, CAST(CAST({time} AS DATE) AS VARCHAR(64)) AS {PARTITION} FROM ({sql}) w"


def _batches(stale: Sequence[int], asked: Asked) -> Iterator[list[int]]:
    counts = {day: asked.content(day)[0] for day in stale}
    most = min(BATCH_ROWS, max(_SHORT_ROWS, sum(counts.values()) // _SHARE))
    batch: list[int] = []
    rows = 0
    for day, n in counts.items():
        if batch and (rows + n > most or len(batch) == BATCH_DAYS):
            yield batch
            batch, rows = [], 0
        batch.append(day)
        rows += n
    if batch:
        yield batch


def _header(engine: Engine, features: Declaration, asked: Asked) -> Record:
    return Record(
        declaration=features.to_dict(),
        spec_hash=features.spec_hash,
        engine=engine.name,
        keys=features.keys,
        event_time=asked.event_time,
        features=features.feature_names,
    )


def _check_layout(version: Version, header: Record, asked: Asked) -> None:
    """Raise where rows cannot be kept beside those that are there."""
    names = [*asked.columns, *header.features]
    reserved = [name for name in names if name.lower() == PARTITION]
    if reserved:
        raise ColumnError(f"column {reserved[0]!r} would be taken for the day that names each directory; rename it.")
    before = version.read()
    if before and before.schema and set(before.schema) != set(names):
        raise StoreError(
            f"{version.path} holds the columns {list_some(before.schema, 20)}, not {list_some(names, 20)}. Give the "
            "same columns, or keep these rows in another root."
        )


def _stamps(engine: Engine, features: Declaration, asked: Asked) -> dict[str, str]:
    """By day, a hash of all that its features depend on."""
    source, reach = _source_tally(engine, features), _reach(features)
    # Equal values of another type may hash alike, and give features of another type.
    kinds = [sorted(columns.items()) for columns in (asked.columns, _source_columns(engine, features))]
    stamps = {}
    for day in asked.days:
        last = asked.last_event_day(day)
        events = source.between(None if reach is None else day - reach, last)
        parts = (features.spec_hash, engine.name, kinds, events, asked.content(day))
        stamps[day_name(day)] = hashlib.sha256(repr(parts).encode()).hexdigest()
    return stamps


def _source_columns(engine: Engine, features: Declaration) -> Mapping[str, Kind]:
    return engine.columns(features.source) if isinstance(features, FeatureSet | AttributeFeatures) else {}


def _source_tally(engine: Engine, features: Declaration) -> Tally:
    """What the features are computed from, by day; a table without times as of a day before all."""
    d = engine.dialect
    columns = list(map(d.quote, _source_columns(engine, features)))
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
