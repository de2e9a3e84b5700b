"""Days on disk as tables of an engine, also while other processes replace them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from causalrec.engines import Engine
from causalrec.exceptions import DatasetError, EngineError, StoreError
from causalrec.features.registry import Record, Version

T = TypeVar("T")
_TRIES = 5


@dataclass(frozen=True)
class Days:
    """Those days of a version that lie in ``[start, end)``, by name; all without bounds."""

    version: Version
    start: str | None = None
    end: str | None = None

    def record(self) -> Record:
        """The registry as it is now. Raises :class:`StoreError` if nothing is materialised."""
        record = self.version.read()
        if record is None:
            raise StoreError(f"feature set {self.version.label} is not materialised; call materialize first.")
        return record

    def files(self, record: Record) -> list[str]:
        """Paths of the days' files."""
        chosen = (
            day for name, day in record.days.items()
            if (self.start is None or name >= self.start) and (self.end is None or name < self.end)
        )  # fmt: skip
        return [str(self.version.path / name) for day in chosen for name in day.files]


def read_days(engine: Engine, parts: Sequence[Days], query: Callable[[Sequence[str], Sequence[Record]], T]) -> T:
    """Run a query on tables of some days, one table a part, given their names and registries.

    A file that vanishes meanwhile was replaced if the registry has changed: then the query runs again.

    Raises
    ------
    StoreError
        If nothing is materialised, the days have no rows, or a file is lost or damaged.
    """
    for _ in range(_TRIES):
        records = [part.record() for part in parts]
        files = [part.files(record) for part, record in zip(parts, records, strict=True)]
        for part, record, found in zip(parts, records, files, strict=True):
            if not found:
                raise StoreError(_nothing(part, record))
        try:
            return _query(engine, files, records, query)
        except (DatasetError, EngineError) as error:
            again = [part.files(part.record()) for part in parts]
            if again == files:
                names = ", ".join(part.version.label for part in parts)
                reason = str(error).split("\n")[0].rstrip(".")
                raise StoreError(
                    f"a day of {names} cannot be read: {reason}. Remove what is left of its file and call materialize "
                    "again."
                ) from error
    raise StoreError(f"{parts[0].version.path} is being changed all the time; try again when the writers are done.")


def _query(
    engine: Engine,
    files: Sequence[list[str]],
    records: Sequence[Record],
    query: Callable[[Sequence[str], Sequence[Record]], T],
) -> T:
    with ExitStack() as stack:
        tables = []
        for paths in files:
            tables.append(f"days_{uuid.uuid4().hex[:12]}")
            engine.register(tables[-1], paths)
            stack.callback(engine.drop, tables[-1])
        return query(tables, records)


def _nothing(part: Days, record: Record) -> str:
    days = record.days
    held = f"it holds {min(days)} to {max(days)}" if days else "it holds no day"
    bounds = [f"{word} {day}" for word, day in (("from", part.start), ("before", part.end)) if day]
    return f"feature set {part.version.label} has no rows {' '.join(bounds)}; {held}. Call materialize for more."
