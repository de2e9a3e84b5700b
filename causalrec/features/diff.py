"""What changed between two versions of a declaration: what it says, and what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from causalrec.engines import Engine, Kind
from causalrec.features.reading import Days, read_days
from causalrec.features.registry import Record, Version
from causalrec.features.spec import Aggregation
from causalrec.results import NAN, format_number

_NUMBERS = ("integer", "float")
_PER_FEATURE = ("kind", "name", "aggregations", "computed")


@dataclass(frozen=True)
class FeatureChange:
    """A feature in two versions.

    Attributes
    ----------
    name : str
    status : "added", "removed", "changed" or "same"
        By its definition.
    old, new : str or None
        Its definitions.
    n_compared, n_different : int
        Rows that both versions have, and those where the values differ; a null differs from any value.
    max_abs_difference : float
        Over rows where both have numbers; NaN where there are none.
    """

    name: str
    status: str
    old: str | None
    new: str | None
    n_compared: int = 0
    n_different: int = 0
    max_abs_difference: float = NAN


@dataclass(frozen=True)
class FeatureDiff:
    """How two versions of a declaration differ.

    Attributes
    ----------
    name, old, new : str
        The declaration and the two versions.
    settings : tuple of (setting, old, new)
        What was changed beside the features themselves, such as the source or the keys.
    features : tuple of FeatureChange
        In the order of the new version, then what it dropped.
    days_old, days_new : tuple of str
        Days that only one of them has.
    rows_old, rows_new : int
    """

    name: str
    old: str
    new: str
    settings: tuple[tuple[str, object, object], ...]
    features: tuple[FeatureChange, ...]
    days_old: tuple[str, ...]
    days_new: tuple[str, ...]
    rows_old: int
    rows_new: int

    def with_status(self, status: str) -> tuple[str, ...]:
        """Names of the features that are added, removed, changed or the same."""
        return tuple(f.name for f in self.features if f.status == status)

    def to_frame(self) -> pd.DataFrame:
        """A row per feature."""
        columns = [f.name for f in dataclasses.fields(FeatureChange)]
        return pd.DataFrame([dataclasses.astuple(f) for f in self.features], columns=columns)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.old} → {self.new}"]
        lines += [f"  {setting}: {old} → {new}" for setting, old, new in self.settings]
        lines += [f"  {_line(feature)}" for feature in self.features]
        lines.append(f"  rows: {self.rows_old:,} → {self.rows_new:,}")
        for days, where in ((self.days_old, self.old), (self.days_new, self.new)):
            if days:
                many = f"{len(days)} days, {days[0]} to {days[-1]}"
                lines.append(f"  only in {where}: {days[0] if len(days) == 1 else many}")
        return "\n".join(lines)


def _line(feature: FeatureChange) -> str:
    if feature.status == "added":
        return f"+ {feature.name}: {feature.new}"
    if feature.status == "removed":
        return f"- {feature.name}: {feature.old}"
    text = f"{'~' if feature.status == 'changed' else '='} {feature.name}"
    if feature.status == "changed":
        text += f": {feature.old} → {feature.new}"
    text += f"; {feature.n_different:,} of {feature.n_compared:,} rows differ"
    if feature.max_abs_difference > 0:
        text += f", by {format_number(feature.max_abs_difference)} at most"
    return text


def diff_versions(engine: Engine, old: Version, new: Version) -> FeatureDiff:
    """Compare two versions; rows are matched by their keys and time.

    Raises
    ------
    StoreError
        If one is not there, or cannot be read.
    """
    before, after = Days(old).record(), Days(new).record()
    changes = _definition_changes(before, after)
    if _can_be_matched(before, after):
        common = [c.name for c in changes if c.status in ("same", "changed")]
        values = read_days(engine, [Days(old), Days(new)], lambda tables, _: _compare(engine, tables, after, common))
        changes = [dataclasses.replace(c, **values.get(c.name, {})) for c in changes]
    return FeatureDiff(
        name=new.path.parent.name,
        old=old.path.name,
        new=new.path.name,
        settings=_setting_changes(before.declaration, after.declaration),
        features=tuple(changes),
        days_old=tuple(sorted(set(before.days) - set(after.days))),
        days_new=tuple(sorted(set(after.days) - set(before.days))),
        rows_old=sum(day.rows for day in before.days.values()),
        rows_new=sum(day.rows for day in after.days.values()),
    )


def _can_be_matched(old: Record, new: Record) -> bool:
    """Both have rows, told apart by the same columns of the same types."""
    names = [*new.keys, new.event_time]
    return (
        (old.keys, old.event_time) == (new.keys, new.event_time)
        and bool(old.schema and new.schema)
        and all(old.schema[name] == new.schema[name] for name in names)
    )


def _definition_changes(old: Record, new: Record) -> list[FeatureChange]:
    before, after = definitions(old), definitions(new)
    changes = []
    for name in [*after, *(n for n in before if n not in after)]:
        a, b = before.get(name), after.get(name)
        status = "added" if a is None else "removed" if b is None else "same" if a == b else "changed"
        changes.append(FeatureChange(name, status, a, b))
    return changes


def definitions(record: Record) -> dict[str, str]:
    """What each feature is, in words; where the declaration is not by feature, just its name."""
    found = {name: name for name in record.features}
    for values in record.declaration.get("aggregations", ()):
        aggregation = Aggregation(**values)
        text = aggregation.op + (f"({aggregation.column})" if aggregation.column else "")
        text += f" over {aggregation.window}" if aggregation.window else " over all time"
        found[aggregation.label] = text + (f" where {aggregation.where}" if aggregation.where else "")
    return found | dict(record.declaration.get("computed", {}))


def _setting_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[tuple[str, object, object], ...]:
    settings = [key for key in {**old, **new} if key not in _PER_FEATURE]
    return tuple((key, old.get(key), new.get(key)) for key in settings if old.get(key) != new.get(key))


def _compare(engine: Engine, tables: Sequence[str], record: Record, common: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each feature how many rows there are in both tables, how many differ, and by how much."""
    if not common:
        return {}
    q = engine.dialect.quote
    a, b = (engine.columns(table) for table in tables)
    measures = ["COUNT(*) AS n"]
    for i, name in enumerate(common):
        both = f"a.{q(name)} IS NOT NULL AND b.{q(name)} IS NOT NULL"
        different, distance, zero = _difference(f"a.{q(name)}", f"b.{q(name)}", a[name], b[name])
        measures.append(f"COALESCE(SUM(CASE WHEN {different} THEN 1 ELSE 0 END), 0) AS n{i}")
        measures.append(f"MAX(CASE WHEN {both} AND {different} THEN {distance} WHEN {both} THEN {zero} END) AS m{i}")
    # Rows that stand twice, as a spine may have them, have the same values.
    rows = [f"SELECT DISTINCT {', '.join(map(q, [*record.keys, record.event_time, *common]))} FROM {t}" for t in tables]
    same = " AND ".join(f"a.{q(c)} IS NOT DISTINCT FROM b.{q(c)}" for c in (*record.keys, record.event_time))
    found = engine.collect(f"SELECT {', '.join(measures)} FROM ({rows[0]}) a JOIN ({rows[1]}) b ON {same}").iloc[0]
    return {
        name: {
            "n_compared": int(found["n"]),
            "n_different": int(found[f"n{i}"]),
            "max_abs_difference": float(found[f"m{i}"]) if pd.notna(found[f"m{i}"]) else NAN,
        }
        for i, name in enumerate(common)
    }


def _difference(a: str, b: str, kind_a: Kind, kind_b: Kind) -> tuple[str, str, str]:
    """SQL of whether two values differ, of how far they are apart, and of that distance where they are equal."""
    differ = f"{a} IS DISTINCT FROM {b}"
    if (kind_a in _NUMBERS and kind_b in _NUMBERS) or kind_a == kind_b == "boolean":
        return differ, f"ABS(CAST({a} AS DOUBLE) - CAST({b} AS DOUBLE))", "0e0"
    nothing = "CAST(NULL AS DOUBLE)"
    return differ if kind_a == kind_b else f"({a} IS NOT NULL OR {b} IS NOT NULL)", nothing, nothing
