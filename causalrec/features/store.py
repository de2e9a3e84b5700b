"""The feature store: features as of a time, and their materialised form on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec.engines import Engine
from causalrec.exceptions import ConfigError, StoreError
from causalrec.features.days import day_name, day_range, parse_day
from causalrec.features.diff import FeatureDiff, diff_versions
from causalrec.features.frames import as_declarations, join_features
from causalrec.features.materialize import Materialized, Progress, materialize
from causalrec.features.reading import Days, read_days
from causalrec.features.registry import Record, Version, find_version, list_versions
from causalrec.features.spec import Declaration, FeatureSet


class FeatureStore:
    """Features by declaration, computed by an engine, kept as Parquet by day.

    A feature with window w asked at time t uses events in ``[t - w, t)``. Without events count, sum and n_unique are
    0 and the others null. Events without a key or a time belong to nobody. Integer features that may be null (min,
    max, first, last) come as floats where some are, or as ``Int64`` where floats would lose digits.

    No other event, no order of rows and no layout of files changes any bit of a feature, with two exceptions, in
    the last digits: std, and sums and means of floats of which the largest is more than 1e23 times the smallest.

    Parameters
    ----------
    engine : Engine
        Knows the event tables by name.
    root : path, optional
        Where materialised features are kept.

    Examples
    --------
    >>> from causalrec.engines import open_engine
    >>> from causalrec.features import Aggregation, FeatureSet, FeatureStore
    >>> events = pd.DataFrame({"user": [1, 1], "at": pd.to_datetime(["2025-01-01", "2025-01-03"])})
    >>> asked = pd.DataFrame({"user": [1], "event_time": pd.to_datetime(["2025-01-03"])})
    >>> seen = FeatureSet("seen", ("user",), "events", "at", (Aggregation("count", window="7d", name="n"),))
    >>> with open_engine("local") as engine:
    ...     engine.register("events", events)
    ...     wide = FeatureStore(engine).training_frame(asked, seen)
    >>> int(wide["n"].iloc[0])  # the event at t itself is not used
    1
    """

    def __init__(self, engine: Engine, root: str | Path | None = None) -> None:
        self.engine = engine
        self.root = None if root is None else Path(root).expanduser()

    def training_frame(
        self, spine: Any, features: Declaration | Sequence[Declaration], *, event_time: str = "event_time"
    ) -> Any:
        """The spine with the value of each feature as of its row's time; rows and order stay as they are.

        The spine is a pandas, Polars or Arrow table, or a Spark DataFrame on Spark, and the result is of the same
        kind; the name of a table that the engine knows gives the engine's own frame. A Spark DataFrame is never
        collected.

        Raises
        ------
        ColumnError
            For a key or column that is missing, a type that an operation cannot use, or a name that is taken.
        TimeError
            For times that are no timestamps, or missing.
        ConfigError
            For a condition that is no SQL.
        """
        return join_features(self.engine, spine, features, event_time)

    def outcome_frame(
        self, spine: Any, outcomes: FeatureSet | Sequence[FeatureSet], *, event_time: str = "event_time"
    ) -> Any:
        """The mirror for labels: aggregates of the events in ``[t, t + w)``; every outcome needs a window."""
        return join_features(self.engine, spine, outcomes, event_time, ahead=True)

    def materialize(
        self,
        features: Declaration,
        start: object = None,
        end: object = None,
        *,
        entities: Any = None,
        spine: Any = None,
        event_time: str = "event_time",
        progress: Progress | None = None,
    ) -> Materialized:
        """Keep daily features as Parquet: as of each UTC midnight in ``[start, end)``, or the rows of a spine.

        Each declaration has a directory ``root/<name>/<version>``, where the version is the beginning of its
        ``spec_hash``, so that a changed declaration leaves the former one's files alone. A day is left alone too,
        while the declaration, its rows and the events that its windows can reach hash as before on this engine: an
        event that comes late changes the days whose windows reach it, and one of a new key the days where the key is
        now known. Of the events only columns count that a feature uses or whose name is in its SQL; all do for first
        and last, where they break ties. Another engine hashes in its own way, and computes all days once more.

        Days are computed in batches, and each is committed whole: who reads meanwhile sees the former values of all
        its days or the new ones of all. A run that is cut off loses one batch, and the next completes it. Several
        processes may materialise at once.

        Parameters
        ----------
        features : declaration
        start, end : str, date or timestamp
            UTC midnights; ``end`` is not included.
        entities : list, array, Series or frame of keys; name of a table; Spark DataFrame on Spark; optional
            The keys to keep at each midnight. By default all keys with an event before it, or all keys of an
            attribute table.
        spine : table, optional
            Rows to keep instead, by the UTC day of their time.
        event_time : str
            The column of the time.
        progress : callable, optional
            Called with the number of days that are done and that were asked for.

        Raises
        ------
        StoreError
            Without a root, if something there cannot be read or written, the disk is full, or other columns are kept
            there. A root that may only be read will do where no day is to be computed.
        TimeError
            For days that are no midnights, missing or in the wrong order, or a spine without times.
        ColumnError, ConfigError
            As :meth:`training_frame`; for both ways to ask at once, or features of the time alone without a spine.

        Notes
        -----
        A day holds what was asked for last: after other entities or another spine, those of the days that were asked.
        The directory holds Parquet files only, so that anything can read it as it stands. :meth:`load` reads those that
        the registry beside it names. Whoever reads the directory itself may see a day's former and new files together:
        for the moment of a commit, or, where it was killed, until the next run. Ctrl-C waits for the end of a commit.
        """
        return materialize(
            self.engine, self._version(features), features, start, end,
            entities=entities, spine=spine, event_time=event_time, progress=progress,
        )  # fmt: skip

    def load(
        self,
        features: Declaration | str,
        *,
        start: object = None,
        end: object = None,
        version: str | None = None,
    ) -> Any:
        """Read materialised days in ``[start, end)``, by default all, as the engine's own frame.

        A pandas frame is sorted by time and keys. A Spark DataFrame reads the files when it is used: take it before
        its days are materialised anew. A name stands for the version that was materialised last, also if all its days
        were there already, or for the one whose id begins with ``version``.

        Raises
        ------
        StoreError
            For a name or version that is not there, days without rows, or files that cannot be read.
        TimeError
            For bounds that are no midnights.
        """
        if start is not None and end is not None:
            day_range(start, end)
        first, last = (
            None if bound is None else day_name(parse_day(bound, name=name))
            for bound, name in ((start, "start"), (end, "end"))
        )
        chosen = self._version(features) if version is None else self._found(features, version)
        return read_days(self.engine, [Days(chosen, first, last)], lambda tables, of: self._frame(tables[0], of[0]))

    def _frame(self, table: str, record: Record) -> Any:
        q = self.engine.dialect.quote
        order = ", ".join(map(q, [record.event_time, *record.keys]))
        ordered = "" if self.engine.name == "spark" else f" ORDER BY {order}"
        return self.engine.frame(f"SELECT * FROM {q(table)}{ordered}")

    def list(self) -> pd.DataFrame:
        """What is materialised: a row per version, with its days, rows and size; one that is damaged says so."""
        return list_versions(self._directory())

    def diff(self, name: Declaration | str, old: str, new: str) -> FeatureDiff:
        """Compare two versions, given by their ids or the beginnings of them.

        Raises
        ------
        StoreError
            For a name or version that is not there, or files that cannot be read.
        """
        return diff_versions(self.engine, self._found(name, old), self._found(name, new))

    def _directory(self) -> Path:
        if self.root is None:
            raise StoreError("this FeatureStore has no root directory; give one: FeatureStore(engine, root).")
        return self.root

    def _version(self, features: Declaration | str) -> Version:
        if isinstance(features, str):
            return self._found(features, None)
        if isinstance(features, list | tuple):
            raise ConfigError("found several declarations; each is kept in a directory of its own. Give one at a time.")
        (declaration,) = as_declarations(features)
        return Version(self._directory() / declaration.name / declaration.spec_hash[:8])

    def _found(self, features: Declaration | str, version: str | None) -> Version:
        return find_version(self._directory(), features if isinstance(features, str) else features.name, version)
