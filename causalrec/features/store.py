"""The feature store: features as of a time, and their materialised form on disk."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_columns, list_some
from causalrec.engines import Engine
from causalrec.engines.base import new_directory
from causalrec.exceptions import ColumnError, StoreError, TimeError
from causalrec.features.spec import FeatureSet
from causalrec.features.sql import ROW, check_features, check_time_kind, feature_sql


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
    0 and the others null. Events with a null key belong to nobody.

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
    ...     print(int(FeatureStore(engine).training_frame(asked, seen)["n"].iloc[0]))  # the event at t itself is not used
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
        """
        return self._joined(spine, features, event_time, ahead=False)

    def outcome_frame(
        self, spine: pd.DataFrame, outcomes: FeatureSet, *, event_time: str = "event_time"
    ) -> pd.DataFrame:
        """The mirror for labels: aggregates of the events in ``[t, t + w)``; every outcome needs a window."""
        return self._joined(spine, outcomes, event_time, ahead=True)

    def materialize(self, features: FeatureSet, spine: pd.DataFrame, *, event_time: str = "event_time") -> Materialized:
        """Write features of the spine's rows as Parquet by day; days that are there and unchanged are left alone.

        A day counts as unchanged while the declaration, the events and that day's spine rows hash as before. Each day
        appears whole or not at all; the registry is replaced in one step.
        """
        base = self._base(features)
        registry = self._registry(base)
        days = pd.to_datetime(spine[event_time]).dt.strftime("%Y-%m-%d")
        source = self._source_hash(features)
        entries = dict(registry.get("days", {}))
        stale = {}
        for day, rows in spine.groupby(days, sort=True):
            content = pd.util.hash_pandas_object(rows, index=False).to_numpy(np.uint64).sum()
            stamp = hashlib.sha256(f"{source}{content}".encode()).hexdigest()
            if entries.get(day, {}).get("input_hash") != stamp or not (base / f"day={day}").is_dir():
                stale[str(day)] = (rows, stamp)
        for day, (rows, stamp) in stale.items():
            frame = self.training_frame(rows.reset_index(drop=True), features, event_time=event_time)
            _replace_day(base, day, frame)
            schema = {c: str(t) for c, t in frame.dtypes.items()}
            entries[day] = {"input_hash": stamp, "rows": len(frame), "schema": schema}
            record = {"features": features.to_dict(), "spec_hash": features.spec_hash, "days": entries}
            _write_atomically(base / "registry.json", json.dumps(record, indent=1))
        total = int(sum(entries[d]["rows"] for d in set(days)))
        return Materialized(base, features.spec_hash, total, len(stale), days.nunique() - len(stale))

    def load(self, features: FeatureSet) -> pd.DataFrame:
        """Read all materialised days of a feature set. Raises :class:`StoreError` when there are none."""
        base = self._base(features)
        days = sorted(self._registry(base).get("days", {}))
        if not days:
            raise StoreError(f"feature set {features.name!r} is not materialised in {base}; call materialize first.")
        return pd.concat([pd.read_parquet(base / f"day={d}" / "part.parquet") for d in days], ignore_index=True)

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
        wide = spine.reset_index(drop=True)
        table = f"spine_{uuid.uuid4().hex[:8]}"
        columns = list(dict.fromkeys([event_time, *(k for s in sets for k in s.keys)]))
        self.engine.register(table, wide[columns].assign(**{ROW: np.arange(len(wide))}))
        try:
            check_time_kind(self.engine.columns(table)[event_time], event_time, where="spine")
            for each in sets:
                check_features(each, self.engine.columns(each.source))
                sql = feature_sql(each, table, event_time, self.engine, ahead=ahead)
                found = self.engine.collect(sql).set_index(ROW).reindex(np.arange(len(wide)))
                wide = wide.assign(**{c: found[c].to_numpy() for c in each.feature_names})
        finally:
            self.engine.drop(table)
        return wide

    def _base(self, features: FeatureSet) -> Path:
        if self.root is None:
            raise StoreError("this FeatureStore has no root directory; give one: FeatureStore(engine, root).")
        return self.root / features.name / features.spec_hash[:8]

    def _registry(self, base: Path) -> dict[str, Any]:
        path = base / "registry.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def _source_hash(self, features: FeatureSet) -> str:
        d = self.engine.dialect
        columns = [d.quote(c) for c in self.engine.columns(features.source)]
        sql = f"SELECT COUNT(*) AS n, SUM({d.row_hash(columns)}) AS h FROM {d.quote(features.source)}"
        found = self.engine.collect(sql).iloc[0]
        return f"{features.spec_hash}:{found['n']}:{found['h']}"


def _replace_day(base: Path, day: str, frame: pd.DataFrame) -> None:
    target, old = base / f"day={day}", base / f".old-{uuid.uuid4().hex[:8]}"
    if target.exists():
        target.replace(old)
    try:
        with new_directory(target) as scratch:
            frame.to_parquet(scratch / "part.parquet", index=False)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        raise
    if old.exists():
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def _write_atomically(path: Path, text: str) -> None:
    scratch = path.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
