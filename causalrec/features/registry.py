"""What is on disk: for each version of a declaration its days, the files of each, and how they came about.

A version lives in ``root/<name>/<version>``: files by day as hive partitions, and ``registry.json``, which says which
of them count. New files are written where nobody looks, and moved under a lock that is held for the moves only; then
the registry is replaced in one step, and the files that it no longer names are removed. A file is never overwritten,
so whoever read the former registry a moment ago finds its files, or finds that the registry has changed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._files import new_file, writing
from causalrec._validation import list_some, nearest
from causalrec.exceptions import StoreError

PARTITION = "day"
_REGISTRY = "registry.json"
_LOCK = ".lock"
_OWNER = ".owner"
_PATIENCE = 300  # seconds that a commit waits for another, which holds the lock for as long as moving files takes
_COLUMNS = ("name", "version", "kind", "features", "first_day", "last_day", "days", "rows", "bytes", "updated_at")


@dataclass(frozen=True)
class Day:
    """A day's files, below the version's directory, and a hash of all that they were computed from."""

    files: tuple[str, ...]
    rows: int
    bytes: int
    input_hash: str


@dataclass(frozen=True)
class Record:
    """The registry of a version.

    Attributes
    ----------
    declaration : mapping
        As ``to_dict`` gave it.
    spec_hash, engine : str
    keys, event_time : the columns that tell rows apart
    features : tuple of str
        Names of the feature columns.
    schema : mapping
        Arrow type by column.
    created_at, updated_at : str
        UTC, ISO 8601.
    days : mapping of str to Day
    """

    declaration: Mapping[str, Any]
    spec_hash: str
    engine: str
    keys: tuple[str, ...]
    event_time: str
    features: tuple[str, ...]
    schema: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    updated_at: str = ""
    days: Mapping[str, Day] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Build from the content of ``registry.json``."""
        days = {name: Day(**{**day, "files": tuple(day["files"])}) for name, day in values["days"].items()}
        listed = {part: tuple(values[part]) for part in ("keys", "features")}
        return cls(**{**values, **listed, "days": days})


class Version:
    """One version's directory.

    Raises
    ------
    StoreError
        From any method, where something cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.path.parent.name} {self.path.name}"

    def read(self) -> Record | None:
        """The registry as it is now; None if there is none."""
        path = self.path / _REGISTRY
        try:
            record = Record.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"{path} cannot be read: {type(error).__name__}: {error}. Remove it; materialize makes it anew."
            ) from error
        if not record.spec_hash.startswith(self.path.name):
            raise StoreError(
                f"{path} belongs to version {record.spec_hash[:8]}. Remove {self.path}; materialize makes it anew."
            )
        return record

    def fresh_days(self, stamps: Mapping[str, str]) -> set[str]:
        """Those of the days whose files are there, in full size, and were computed from what the hashes stand for."""
        record = self.read()
        return {day for day, stamp in stamps.items() if record and self._is_fresh(record, day, stamp)}

    def _is_fresh(self, record: Record, day: str, stamp: str) -> bool:
        known = record.days.get(day)
        if known is None or known.input_hash != stamp:
            return False
        try:
            return sum((self.path / file).stat().st_size for file in known.files) == known.bytes
        except FileNotFoundError:
            return False

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A hidden directory to write in. It is this process's as long as it lives, and gone at the end."""
        path = self.path / f".{uuid.uuid4().hex[:12]}.tmp"
        owner = _lock(path / _OWNER)
        with self._locked():  # nobody cleans between the making of the directory and the lock on it
            path.mkdir()
            owner.acquire()
        try:
            yield path
        finally:
            owner.release()
            shutil.rmtree(path, ignore_errors=True)

    def commit(self, written: Path, header: Record, stamps: Mapping[str, str]) -> None:
        """Take over what was written for some days: all of it, or what another process has not yet made.

        Parameters
        ----------
        written : path
            A directory ``day=…`` for each day that has rows, below a :meth:`scratch`.
        header : Record
            What to say of the version; its days are not read.
        stamps : mapping of str to str
            The hash of the input of each day.
        """
        token = uuid.uuid4().hex[:12]
        found = {day: _files_of(written / f"{PARTITION}={day}") for day in stamps}
        schema = next((_schema(file) for files in found.values() for file in files), None)
        with self._locked():
            now = datetime.datetime.now(datetime.UTC).isoformat()
            before = self.read() or replace(header, created_at=now, days={})
            days = dict(before.days)
            for day, stamp in stamps.items():
                if not self._is_fresh(before, day, stamp):
                    days[day] = self._moved(day, found[day], token, stamp)
            self._write(replace(
                header, created_at=before.created_at, updated_at=now, days=dict(sorted(days.items())),
                schema=schema or before.schema,
            ))  # fmt: skip
            self._remove(set(_names(before.days)) - set(_names(days)))

    def _moved(self, day: str, files: list[Path], token: str, stamp: str) -> Day:
        """Move a day's new files to where they stay. Their names are new, so nothing is overwritten."""
        target = self.path / f"{PARTITION}={day}"
        names, rows, size = [], 0, 0
        for i, file in enumerate(files):
            target.mkdir(exist_ok=True)
            rows, size = rows + _n_rows(file), size + file.stat().st_size
            file.rename(target / f"{token}-{i}.parquet")
            names.append(f"{target.name}/{token}-{i}.parquet")
        return Day(tuple(names), rows, size, stamp)

    def _write(self, record: Record) -> None:
        with new_file(self.path / _REGISTRY) as scratch:
            scratch.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False), encoding="utf-8")

    def _remove(self, names: set[str]) -> None:
        for path in (self.path / name for name in names):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other files are there still
                path.parent.rmdir()

    def clean(self) -> None:
        """Remove what runs that were cut off have left, and nothing that a living one is at."""
        if not self.path.is_dir():
            return
        with self._locked():
            for left in self.path.glob(".*.tmp"):
                if not left.is_dir():
                    left.unlink()
                elif _is_abandoned(left):
                    shutil.rmtree(left, ignore_errors=True)
            record = self.read()
            files = self.path.glob(f"{PARTITION}=*/*")
            here = {f"{file.parent.name}/{file.name}" for file in files}
            self._remove(here - set(_names(record.days if record else {})))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import Timeout

        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                with _lock(self.path / _LOCK, _PATIENCE):
                    yield
            except Timeout as error:
                raise StoreError(
                    f"{self.path} has been locked by another process for {_PATIENCE} s. See whether one hangs."
                ) from error


def find_version(root: Path, name: str, version: str | None = None) -> Version:
    """A version by the beginning of its id, or the one that was updated last.

    Raises
    ------
    StoreError
        For a name or version that is not there, and a beginning that more than one has.
    """
    found = {path.parent.name: path.parent for path in sorted(root.glob(f"*/*/{_REGISTRY}")) if path.parts[-3] == name}
    if not found:
        known = {path.parts[-3] for path in root.glob(f"*/*/{_REGISTRY}")}
        raise StoreError(
            f"feature set {name!r} is not materialised in {root}; there are {list_some(sorted(known)) or 'none'}."
            f"{nearest(name, known)} Call materialize first."
        )
    if version is None:
        return max((Version(path) for path in found.values()), key=_updated_at)
    matching = [path for key, path in found.items() if version and key.startswith(version[:8])]
    if len(matching) != 1:
        raise StoreError(
            f"feature set {name!r}: version {version!r} is {'ambiguous' if matching else 'unknown'}; there are "
            f"{list_some(found)}."
        )
    return Version(matching[0])


def _updated_at(version: Version) -> str:
    try:
        record = version.read()
    except StoreError:
        return ""  # a damaged one is taken only where there is no other; reading it then says what is wrong
    return record.updated_at if record else ""


def list_versions(root: Path) -> pd.DataFrame:
    """A row per version on disk, by name and the time of the last change; a damaged one has the kind ``damaged``."""
    rows = [_summary(Version(path.parent)) for path in sorted(root.glob(f"*/*/{_REGISTRY}"))]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    counts = dict.fromkeys(("features", "days", "rows", "bytes"), "Int64")
    times = dict.fromkeys(("first_day", "last_day", "updated_at"), "datetime64[us]")
    return frame.astype({**counts, **times}).sort_values(["name", "updated_at"], ignore_index=True)


def _summary(version: Version) -> dict[str, object]:
    named = {"name": version.path.parent.name, "version": version.path.name}
    try:
        record = version.read()
        if record is None:
            raise StoreError(f"{version.label} was removed.")
    except StoreError:
        return {**named, "kind": "damaged"}
    days = record.days.values()
    updated = datetime.datetime.fromisoformat(record.updated_at).replace(tzinfo=None)
    return {
        **named, "kind": record.declaration.get("kind"), "features": len(record.features),
        "first_day": min(record.days, default=None), "last_day": max(record.days, default=None), "days": len(days),
        "rows": sum(d.rows for d in days), "bytes": sum(d.bytes for d in days), "updated_at": updated,
    }  # fmt: skip


def _lock(path: Path, timeout: float = -1) -> Any:
    from filelock import FileLock

    return FileLock(path, timeout=timeout)


def _is_abandoned(scratch: Path) -> bool:
    """Whether the process that wrote there has ended: its lock went with it."""
    from filelock import Timeout

    try:
        with _lock(scratch / _OWNER, 0):
            return True
    except Timeout:
        return False


def _names(days: Mapping[str, Day]) -> Iterator[str]:
    return (name for day in days.values() for name in day.files)


def _files_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.parquet"))


def _n_rows(file: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def _schema(file: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    return {f.name: str(f.type) for f in pq.read_schema(file)}
