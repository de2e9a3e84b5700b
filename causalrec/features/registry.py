"""What is on disk: for each version of a declaration its days, the files of each, and how they came about.

A version lives in ``root/<name>/<version>``: files by day as hive partitions, and nothing else, so that any reader of
Parquet reads the directory as it stands. Beside it ``_<version>.json``, the registry, says which of the files count.
New files are written beside it too, and moved under a lock that is held for the moves only; then the registry is
replaced in one step, and the files that it no longer names are removed. A file is never overwritten, so whoever read
the former registry a moment ago finds its files, or finds that the registry has changed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._files import new_file, uninterrupted, writing
from causalrec._validation import list_some, nearest
from causalrec.exceptions import StoreError

PARTITION = "day"
_REGISTRIES = "_*.json"
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
        UTC, ISO 8601; when it was made, and when days were last made, or all found fresh after another version's were.
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
        """Build from the content of a registry."""
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
        self.registry = path.with_name(f"_{path.name}.json")

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.path.parent.name} {self.path.name}"

    def read(self) -> Record | None:
        """The registry as it is now; None if there is none."""
        path = self.registry
        try:
            record = Record.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"{path} cannot be read: {type(error).__name__}: {error}. Remove it; materialize makes it anew."
            ) from error
        if not record.spec_hash.startswith(self.path.name):
            raise StoreError(f"{path} belongs to version {record.spec_hash[:8]}. Remove it; materialize makes it anew.")
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
        path = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}.tmp")
        owner = _lock(path / _OWNER)
        try:
            with self._locked():  # nobody cleans between the making of the directory and the lock on it
                path.mkdir()
                owner.acquire()
            yield path
        finally:
            with uninterrupted():
                owner.release()
                shutil.rmtree(path, ignore_errors=True)

    def commit(self, written: Path, header: Record, stamps: Mapping[str, str]) -> None:
        """Take over what was written for some days: all of it, or what another process has not yet made.

        Once begun it is done to the end, or undone where that fails.

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
        with self._locked(), uninterrupted():
            now = _now()
            before = self.read() or replace(header, created_at=now, days={})
            days = dict(before.days)
            try:
                for day, stamp in stamps.items():
                    if not self._is_fresh(before, day, stamp):
                        days[day] = self._moved(day, found[day], token, stamp)
                self._write(replace(
                    header, created_at=before.created_at, updated_at=now, days=dict(sorted(days.items())),
                    schema=schema or before.schema,
                ))  # fmt: skip
            except BaseException:
                self._remove(self._held() - set(_names(before.days)))
                raise
            self._remove(set(_names(before.days)) - set(_names(days)))

    def _moved(self, day: str, files: list[Path], token: str, stamp: str) -> Day:
        """Move a day's new files to where they stay. Their names are new, so nothing is overwritten."""
        target = self.path / f"{PARTITION}={day}"
        names, rows, size = [], 0, 0
        for i, file in enumerate(files):
            target.mkdir(parents=True, exist_ok=True)
            rows, size = rows + _n_rows(file), size + file.stat().st_size
            file.rename(target / f"{token}-{i}.parquet")
            names.append(f"{target.name}/{token}-{i}.parquet")
        return Day(tuple(names), rows, size, stamp)

    def _write(self, record: Record) -> None:
        with new_file(self.registry) as scratch:
            scratch.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False), encoding="utf-8")

    def _remove(self, names: set[str]) -> None:
        for path in (self.path / name for name in names):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other files are there still
                path.parent.rmdir()

    def clean(self) -> None:
        """Remove what runs that were cut off have left, and nothing that a living one is at."""
        if not (self._scratches() or self._strays()):
            return
        with self._locked():  # what is here now is no part of a commit
            for left in self._scratches():
                if not left.is_dir():
                    left.unlink()
                elif _is_abandoned(left):
                    shutil.rmtree(left, ignore_errors=True)
            self._remove(self._strays())

    def _scratches(self) -> list[Path]:
        """What is being written, of days or of the registry."""
        return list(self.path.parent.glob(f".*{self.path.name}.*.tmp"))

    def _strays(self) -> set[str]:
        """Files that the registry does not name."""
        record = self.read()
        return self._held() - set(_names(record.days if record else {}))

    def _held(self) -> set[str]:
        return {f"{file.parent.name}/{file.name}" for file in self.path.glob(f"{PARTITION}=*/*")}

    def make_newest(self) -> None:
        """Have the name stand for this version from now on, as if its days had been made again."""
        if self.read() is None or _newest(_versions(self.path.parents[1], self.path.parent.name)).path == self.path:
            return
        with self._locked(), uninterrupted():
            record = self.read()
            if record:
                self._write(replace(record, updated_at=_now()))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import Timeout

        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with _lock(self.path.with_name(f".{self.path.name}.lock"), _PATIENCE):
                    yield
            except Timeout as error:
                raise StoreError(
                    f"{self.path} has been locked by another process for {_PATIENCE} s. See whether one hangs."
                ) from error


def find_version(root: Path, name: str, version: str | None = None) -> Version:
    """A version by the beginning of its id, or the one that was materialised last.

    Raises
    ------
    StoreError
        For a name or version that is not there, and a beginning that more than one has.
    """
    found = _versions(root, name)
    if not found:
        known = {each.path.parent.name for each in _versions(root)}
        raise StoreError(
            f"feature set {name!r} is not materialised in {root}; there are {list_some(sorted(known)) or 'none'}."
            f"{nearest(name, known)} Call materialize first."
        )
    if version is None:
        return _newest(found)
    matching = [each for each in found if version and each.path.name.startswith(version[:8])]
    if len(matching) != 1:
        raise StoreError(
            f"feature set {name!r}: version {version!r} is {'ambiguous' if matching else 'unknown'}; there are "
            f"{list_some([each.path.name for each in found])}."
        )
    return matching[0]


def _versions(root: Path, name: str | None = None) -> list[Version]:
    """Those below a root, of one name or all."""
    found = (file.with_name(file.stem.removeprefix("_")) for file in sorted(root.glob(f"*/{_REGISTRIES}")))
    return [Version(path) for path in found if name in (None, path.parent.name)]


def _newest(versions: Sequence[Version]) -> Version:
    return max(versions, key=_updated_at)


def _updated_at(version: Version) -> str:
    try:
        record = version.read()
    except StoreError:
        return ""  # a damaged one is taken only where there is no other; reading it then says what is wrong
    return record.updated_at if record else ""


def list_versions(root: Path) -> pd.DataFrame:
    """A row per version on disk, by name and the time of the last change; a damaged one has the kind ``damaged``."""
    rows = [_summary(version) for version in _versions(root)]
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


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


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
