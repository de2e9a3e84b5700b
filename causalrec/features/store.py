"""The feature store: features as of a time, and their materialised form on disk."""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._files import new_file
from causalrec._validation import check_columns, list_some
from causalrec.engines import Engine
from causalrec.engines.arrow import arrow_table
from causalrec.exceptions import ColumnError, StoreError, TimeError
from causalrec.features.spec import FeatureSet, parse_window
from causalrec.features.sql import ROW, check_features, check_keys, check_time_kind, feature_sql

_REGISTRY = "registry.json"
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Materialized:
    """What a call of :meth:`FeatureStore.materialize` did."""

    path: Path
    spec_hash: str
    rows: int
    days_computed: int
    days_reused: int


class FeatureStore:
    """Features by declaration, computed by an engine, kept as Parquet by day.

    A feature with window w asked at time t uses events in ``[t - w, t)``. Without events count, sum and n_unique are
    0 and the others null. Events without a key or a time belong to nobody. Integer features that may be null (min,
    max, first, last) come as floats where some are.

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
        self.root = None if root is None else Path(root)

    def training_frame(
        self, spine: pd.DataFrame, features: FeatureSet | Sequence[FeatureSet], *, event_time: str = "event_time"
    ) -> pd.DataFrame:
        """The spine with the value of each feature as of its row's time; rows and order stay as they are.

        Raises
        ------
        ColumnError
            For a key or column that is missing, a type that an operation cannot use, or a name that is taken.
        TimeError
            For times that are no timestamps, or missing.
        ConfigError
            For a condition that is no SQL.
        """
        return self._joined(spine, features, event_time, ahead=False)

    def outcome_frame(
        self, spine: pd.DataFrame, outcomes: FeatureSet, *, event_time: str = "event_time"
    ) -> pd.DataFrame:
        """The mirror for labels: aggregates of the events in ``[t, t + w)``; every outcome needs a window."""
        return self._joined(spine, outcomes, event_time, ahead=True)

    def materialize(self, features: FeatureSet, spine: pd.DataFrame, *, event_time: str = "event_time") -> Materialized:
        """Write features of the spine's rows as Parquet by (UTC) day; days that are there and unchanged are left alone.

        A day counts as unchanged while the declaration, that day's spine rows and the events that its windows can reach
        hash as before, so events of later days leave it alone. A day's file is replaced in one step, and so is the
        registry, which never names a day that is not whole; a run that was cut off is completed by the next.

        Raises
        ------
        StoreError
            Without a root, or if the registry or a day cannot be read or written.
        ColumnError, TimeError, ConfigError
            As :meth:`training_frame`.
        """
        base = self._base(features)
        days = _utc_days(spine, event_time)
        entries = dict(self._registry(base).get("days", {}))
        history = self._history(features)
        stamps, stale = {}, {}
        for day, rows in spine.groupby(days, sort=True):
            name = str(day)[:10]
            stamps[name] = _stamp(features, rows, history, pd.Timestamp(day))
            if entries.get(name, {}).get("input_hash") != stamps[name] or not _day_file(base, name).is_file():
                stale[name] = rows
        if stale:
            wide = self.training_frame(pd.concat(stale.values()), features, event_time=event_time)
            self._write(base, features, {k: v for k, v in entries.items() if k not in stale})
            names = np.repeat(list(stale), [len(rows) for rows in stale.values()])
            schema = {str(c): str(t) for c, t in wide.dtypes.items()}
            for name in stale:
                frame = wide[names == name]
                _write_day(_day_file(base, name), frame)
                entries[name] = {"input_hash": stamps[name], "rows": len(frame), "schema": schema}
            self._write(base, features, entries)
        total = sum(entries[name]["rows"] for name in stamps)
        return Materialized(base, features.spec_hash, total, len(stale), len(stamps) - len(stale))

    def load(self, features: FeatureSet) -> pd.DataFrame:
        """Read all materialised days of a feature set. Raises :class:`StoreError` when there are none."""
        base = self._base(features)
        days = sorted(self._registry(base).get("days", {}))
        if not days:
            raise StoreError(f"feature set {features.name!r} is not materialised in {base}; call materialize first.")
        try:
            return pd.concat([pd.read_parquet(_day_file(base, d)) for d in days], ignore_index=True)
        except (OSError, ValueError) as error:
            raise StoreError(f"a day of {base} cannot be read: {error}. Call materialize again.") from error

    def _joined(
        self, spine: pd.DataFrame, features: FeatureSet | Sequence[FeatureSet], event_time: str, *, ahead: bool
    ) -> pd.DataFrame:
        sets = [features] if isinstance(features, FeatureSet) else list(features)
        check_columns(spine.columns, [event_time, *(k for s in sets for k in s.keys)], where="spine")
        names = [n for s in sets for n in s.feature_names]
        clash = [n for n in names if n in spine.columns or names.count(n) > 1]
        if clash:
            raise ColumnError(
                f"feature names {list_some(sorted(set(clash)))} are taken already; give them another name=."
            )
        if spine[event_time].isna().any():
            raise TimeError(f"spine: {int(spine[event_time].isna().sum())} rows have no {event_time!r}.")
        found = [self._computed(spine, each, event_time, ahead=ahead) for each in sets]
        return pd.concat([spine, *(frame.set_axis(spine.index) for frame in found)], axis=1)

    def _computed(self, spine: pd.DataFrame, features: FeatureSet, event_time: str, *, ahead: bool) -> pd.DataFrame:
        """The features of one set, a row per spine row. What is asked for more than once is computed once."""
        columns = list(dict.fromkeys([*features.keys, event_time]))
        asked = spine[columns].drop_duplicates()
        place = spine.groupby(columns, sort=False, dropna=False, observed=True).ngroup().to_numpy()
        table = f"spine_{uuid.uuid4().hex[:8]}"
        self.engine.register(table, asked.assign(**{ROW: np.arange(len(asked))}))
        try:
            kinds = self.engine.columns(table)
            check_time_kind(kinds[event_time], event_time, where="spine")
            check_features(features, self.engine)
            check_keys(features, kinds, self.engine.columns(features.source))
            found = self.engine.collect(feature_sql(features, table, event_time, self.engine, ahead=ahead))
        finally:
            self.engine.drop(table)
        return found.set_index(ROW).reindex(place)[list(features.feature_names)]

    def _base(self, features: FeatureSet) -> Path:
        if self.root is None:
            raise StoreError("this FeatureStore has no root directory; give one: FeatureStore(engine, root).")
        return self.root / features.name / features.spec_hash[:8]

    def _registry(self, base: Path) -> dict[str, Any]:
        path = base / _REGISTRY
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} cannot be read: {error}. Remove it; materialize makes it anew.") from error

    def _write(self, base: Path, features: FeatureSet, entries: dict[str, Any]) -> None:
        days = dict(sorted(entries.items()))
        record = {"features": features.to_dict(), "spec_hash": features.spec_hash, "days": days}
        with new_file(base / _REGISTRY) as scratch:
            scratch.write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _history(self, features: FeatureSet) -> list[tuple[int, int, int]]:
        """Day since 1970, count and sum of hashes of the events, by day."""
        check_features(features, self.engine)
        d = self.engine.dialect
        hashed = d.row_hash([d.quote(c) for c in self.engine.columns(features.source)])
        time = d.quote(features.time_column)
        found = self.engine.collect(
            f"SELECT d, COUNT(*) AS n, CAST(SUM(h) AS VARCHAR(64)) AS h FROM (SELECT CAST(FLOOR({d.epoch_us(time)} / "
            f"{_DAY_US}e0) AS BIGINT) AS d, {hashed} AS h FROM {d.quote(features.source)} WHERE {time} IS NOT NULL) x "
            "GROUP BY d ORDER BY d"
        )
        return [(int(d), int(n), int(h)) for d, n, h in found.itertuples(index=False)]


def _utc_days(spine: pd.DataFrame, event_time: str) -> pd.DatetimeIndex:
    """The day of each row, as naive UTC midnight."""
    check_columns(spine.columns, [event_time], where="spine")
    times = spine[event_time]
    if times.isna().any():
        raise TimeError(f"spine: {int(times.isna().sum())} rows have no {event_time!r}.")
    if not pd.api.types.is_datetime64_any_dtype(times):
        if not times.map(lambda t: isinstance(t, datetime.date)).all():
            check_time_kind(str(times.dtype), event_time, where="spine")
        times = pd.to_datetime(times, utc=True)
    days = pd.DatetimeIndex(times)
    return (days if days.tz is None else days.tz_convert("UTC").tz_localize(None)).floor("D")


def _stamp(features: FeatureSet, rows: pd.DataFrame, history: Sequence[tuple[int, int, int]], day: pd.Timestamp) -> str:
    """A hash of all that the features of a day depend on."""
    last = day.value // (_DAY_US * 1000)  # .value is in nanoseconds whatever the unit
    windows = [a.window for a in features.aggregations]
    reach = -(-max(parse_window(w) for w in windows if w) // _DAY_US) if all(windows) else None
    seen = [(n, h) for d, n, h in history if d <= last and (reach is None or d >= last - reach)]
    content = int(pd.util.hash_pandas_object(rows, index=False).to_numpy(np.uint64).sum())
    parts = (
        features.spec_hash, sum(n for n, _ in seen), sum(h for _, h in seen), content, len(rows),
        [(str(c), str(t)) for c, t in rows.dtypes.items()],
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _day_file(base: Path, day: str) -> Path:
    return base / f"day={day}" / "part.parquet"


def _write_day(path: Path, frame: pd.DataFrame) -> None:
    import pyarrow.parquet as pq

    with new_file(path) as scratch:
        pq.write_table(arrow_table("features", frame), scratch)
