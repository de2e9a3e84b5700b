"""Fill a version on disk: find the days whose input has changed, compute them in batches, commit each batch."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from causalrec._validation import list_some
from causalrec.engines import Engine
from causalrec.exceptions import ColumnError, EngineError, StoreError
from causalrec.features import frames
from causalrec.features.asked import Asked, asked_rows
from causalrec.features.attributes import AttributeFeatures, check_attributes
from causalrec.features.days import day_name
from causalrec.features.registry import PARTITION, Record, Version
from causalrec.features.spec import Declaration, FeatureSet
from causalrec.features.sql import check_events
from causalrec.features.stamps import input_stamps

# What a batch holds, a day at least: memory is bounded, and an interrupt loses one batch.
BATCH_ROWS = 1_000_000
BATCH_DAYS = 100  # as many files as DuckDB keeps open while it writes
# A call that is not short has ten batches or more, so that progress is seen.
_SHARE = 10
_SHORT_ROWS = 200_000
# Engines tell of a full disk in words only, which are those of the system or its numbers.
_NO_SPACE = re.compile(r"no space left|disk quota exceeded|\"errno\":\s*\"?(28|122)\b", re.IGNORECASE)

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
        stamps = input_stamps(engine, features, asked)
        job = _Job(engine, version, features, asked, _header(engine, features, asked), stamps)
        _check_layout(version, job.header, asked)
        computed = job.fill(progress)
    with contextlib.suppress(StoreError):  # where all is there already, a root that may only be read will do
        version.clean()
        if not computed:
            version.make_newest()
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
                with self._telling_of_space(done):
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

    @contextlib.contextmanager
    def _telling_of_space(self, done: int) -> Iterator[None]:
        """Say where a disk is full, and what is kept nevertheless."""
        try:
            yield
        except (EngineError, StoreError) as error:
            if not _NO_SPACE.search(str(error)):
                raise
            root, total = self.version.path.parents[1], len(self.stamps)
            raise StoreError(
                f"no space left in {root}, or where the engine keeps its temporary files; {done} of {total} days are "
                "kept. Make room, and call materialize again: it goes on from there."
            ) from error

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
