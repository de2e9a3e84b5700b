"""``causalrec features``: declared features on disk, by day, and beside the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._files import new_file
from causalrec._validation import list_some
from causalrec.engines import Engine
from causalrec.engines.arrow import arrow_table
from causalrec.exceptions import ConfigError
from causalrec.features import FeatureDeclarations, FeatureStore, Materialized
from causalrec.features.diff import definitions
from causalrec.features.reading import Days
from causalrec.features.registry import Record, find_version
from causalrec.pipelines.progress import Reporter

_HEAD = 5
_FORMATS = (".parquet", ".csv")
# Names that no declared source has.
_SPINE, _ENTITIES, _RESULT = "__spine", "__entities", "__result"


@dataclass(frozen=True)
class Written:
    """A table that was written: where, how many rows, the first of them, and of which version they are, if of one."""

    path: Path
    rows: int
    head: pd.DataFrame = field(repr=False)
    version: str | None = None


@dataclass(frozen=True)
class VersionView:
    """A version on disk, for a person: its registry, what each feature is, and some rows."""

    version: str
    record: Record
    definitions: Mapping[str, str]
    head: pd.DataFrame = field(repr=False)


def materialize_features(
    declared: FeatureDeclarations,
    names: Sequence[str],
    store: FeatureStore,
    start: str,
    end: str,
    *,
    entities: Path | None = None,
    reporter: Reporter,
) -> list[Materialized]:
    """Keep declared features as of each UTC midnight in ``[start, end)``; see :meth:`FeatureStore.materialize`.

    Without names all are kept that have keys: features of the time alone are the same for everybody and cheap.

    Raises
    ------
    CausalRecError
        One of its children, for declarations that do not fit their tables, and days that are none.
    """
    chosen = declared.chosen(names)
    sets = [each for each in chosen if each.keys]
    keyless = list_some(each.name for each in chosen if not each.keys)
    if keyless and names:
        raise ConfigError(f"{keyless}: features without keys are not kept; `causalrec features frame` computes them.")
    declared.register(store.engine, [each.name for each in sets])
    if entities is not None:
        store.engine.register(_ENTITIES, entities)
    found = []
    for each in sets:
        with reporter.stage(each.name) as advance:
            found.append(
                store.materialize(each, start, end, entities=None if entities is None else _ENTITIES, progress=advance)
            )
    if keyless:
        reporter.note(f"not kept, as they have no keys: {keyless}; `causalrec features frame` computes them")
    return found


def write_training_frame(
    declared: FeatureDeclarations,
    names: Sequence[str],
    store: FeatureStore,
    spine: Path,
    output: Path,
    *,
    event_time: str = "event_time",
    reporter: Reporter,
) -> Written:
    """Write the rows of a file with the value of each feature as of their times; Spark writes rows in any order.

    Raises
    ------
    CausalRecError
        One of its children, for files that cannot be read or written, and as :meth:`FeatureStore.training_frame`.
    """
    engine = store.engine
    chosen = declared.chosen(names)
    _check_output(engine, output, [spine, *declared.paths(names)])
    with reporter.stage("tables"):
        declared.register(engine, names)
        engine.register(_SPINE, spine)
        rows = engine.frame(f"SELECT * FROM {engine.dialect.quote(_SPINE)}")
    with reporter.stage("features"):
        return _write(engine, store.training_frame(rows, chosen, event_time=event_time), output)


def write_materialized(
    store: FeatureStore,
    root: Path,
    name: str,
    output: Path,
    *,
    start: str | None = None,
    end: str | None = None,
    version: str | None = None,
    reporter: Reporter,
) -> Written:
    """Write days that are kept to one table; see :meth:`FeatureStore.load`."""
    _check_output(store.engine, output)
    chosen = find_version(root, name, version)
    with reporter.stage(chosen.label):
        loaded = store.load(name, start=start, end=end, version=chosen.path.name)
        return replace(_write(store.engine, loaded, output), version=chosen.label)


def declared_version(declared: FeatureDeclarations, name: str) -> str:
    """The version that stands for a declaration as it is now, whichever was updated last."""
    return declared[name].spec_hash[:8]


def view_version(store: FeatureStore, root: Path, name: str, version: str | None = None) -> VersionView:
    """What is kept of a declaration, with the first rows of its last day.

    Raises
    ------
    StoreError
        For a name or version that is not there, or files that cannot be read.
    """
    found = find_version(root, name, version)
    record = Days(found).record()
    filled = [day for day, held in record.days.items() if held.rows]
    head = store.load(name, start=filled[-1], version=found.path.name).head(_HEAD) if filled else pd.DataFrame()
    return VersionView(found.path.name, record, definitions(record), head)


def _check_output(engine: Engine, output: Path, inputs: Sequence[Path] = ()) -> None:
    """Raise before anything is computed that could not be written, or would be written over what is read."""
    known = _FORMATS if engine.name == "local" else _FORMATS[:1]
    if output.suffix.lower() not in known:
        raise ConfigError(f"output is {str(output)!r}; expected a name that ends in {' or '.join(known)}.")
    written = output.expanduser().resolve()
    for path in inputs:
        read = path.expanduser().resolve()
        if read == written or written.match(str(read)) or (read.is_dir() and read in written.parents):
            raise ConfigError(f"output {str(output)!r} would change what is read, {str(path)!r}; give another name.")


def _write(engine: Engine, frame: Any, output: Path) -> Written:
    """A pandas frame as one file; a frame of another engine as a directory of files, which that engine writes."""
    if isinstance(frame, pd.DataFrame):
        _write_file(frame, output)
        return Written(output, len(frame), frame.head(_HEAD))
    engine.register(_RESULT, frame)
    result = engine.dialect.quote(_RESULT)
    engine.write_parquet(f"SELECT * FROM {result}", output)
    engine.register(_RESULT, output)
    n_rows = int(engine.collect(f"SELECT COUNT(*) AS n FROM {result}")["n"].iloc[0])
    return Written(output, n_rows, engine.collect(f"SELECT * FROM {result} LIMIT {_HEAD}"))


def _write_file(frame: pd.DataFrame, output: Path) -> None:
    import pyarrow.parquet as pq

    with new_file(output) as scratch:
        if output.suffix.lower() == ".csv":
            frame.to_csv(scratch, index=False)
        else:
            pq.write_table(arrow_table("result", frame), scratch, compression="zstd")
