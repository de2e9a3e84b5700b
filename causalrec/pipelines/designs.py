"""Stage "features": experiments and campaigns as one row per unit, with features before and outcomes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray
from causalrec._validation import check_columns, check_not_empty, check_treatment, list_some
from causalrec.abtest import assignment_counts
from causalrec.config import AggregationConfig, DesignConfig, EventsConfig, OutcomeConfig, RunConfig
from causalrec.engines import Engine
from causalrec.exceptions import ColumnError, OutcomeError, TreatmentError
from causalrec.features import Aggregation, FeatureSet, FeatureStore, parse_window

_MOST_LEVELS = 50
_SLACK = 0.1  # of a window: a log rarely ends with an event at the very end of it


@dataclass(frozen=True)
class Design:
    """Units with an arm, covariates known before and outcomes seen after.

    ``frame`` has one row per unit: the unit's id, the treatment as 0/1, the outcomes and the covariates.
    """

    name: str
    frame: pd.DataFrame = field(repr=False)
    unit: str
    treatment: str
    control: str
    treated: str
    outcomes: dict[str, OutcomeConfig]
    covariates: tuple[str, ...]
    randomised: bool
    expected_share: float | None
    notes: tuple[str, ...] = ()

    def outcome(self, wanted: str | None) -> str:
        """The wanted outcome, or the first of the design."""
        return wanted or next(iter(self.outcomes))

    def held_out(self, share: float, seed: int) -> BoolArray:
        """Which units are held out: by a hash of their id, so it does not depend on row order or other units."""
        return hash_shares(self.frame[self.unit], seed) < share

    def validation(self, rows: pd.DataFrame, share: float, seed: int) -> BoolArray:
        """Which of the rows judge the model while it is trained, by another hash of the unit's id."""
        return hash_shares(rows[self.unit], seed + 1) < share


def hash_shares(ids: pd.Series, seed: int) -> FloatArray:
    """Map ids to numbers that are uniform in [0, 1), the same in every run with the same seed."""
    key = f"{seed % 10**16:016d}"
    hashes = pd.util.hash_pandas_object(ids.astype(str), index=False, hash_key=key)
    return np.asarray(hashes.to_numpy(np.uint64) / np.float64(2**64), dtype=np.float64)


def feature_set(
    name: str, keys: Sequence[str], aggregations: Sequence[AggregationConfig], config: RunConfig
) -> FeatureSet:
    """The feature set of an entity, from the config's aggregations over the event log."""
    events = config.events
    if events is None:
        raise ColumnError(f"features.{name} are configured but there are no events: add an `events:` section.")
    return FeatureSet(
        name=f"{config.name}_{name}",
        keys=tuple(keys),
        source=events.table,
        time_column=events.time,
        aggregations=tuple(Aggregation(**a.model_dump()) for a in aggregations),
    )


def build_design(name: str, design: DesignConfig, config: RunConfig, engine: Engine, store: FeatureStore) -> Design:
    """Join units, covariates, features as of the design's time and outcomes after it.

    Raises
    ------
    ColumnError, EmptyTableError, TreatmentError, OutcomeError
        Naming the table, the column and the rows that are in the way.
    """
    frame, labels, notes = _units(name, design, engine)
    covariates = list(design.covariates)
    if design.join is not None:
        joined = engine.collect(f"SELECT * FROM {engine.dialect.quote(design.join)}")
        frame, new = _join(frame, joined, design, where=f"{name}: table {design.join!r}")
        covariates += [c for c in new if c not in covariates]
        check_columns(frame.columns, covariates, where=f"{name}: tables {design.table!r} and {design.join!r}")
    if design.use_features and design.time is not None and config.features.user:
        frame, new = _add_features(frame, design, config, store)
        covariates += new
    frame = _add_outcomes(frame, name, design, config, store)
    if config.events is not None and design.time is not None:
        notes += _beyond_the_log(frame, name, design, config.events, engine)
    return Design(
        name=name,
        frame=_typed(frame, covariates, where=name),
        unit=design.unit,
        treatment=design.treatment,
        control=str(labels[0]),
        treated=str(labels[1]),
        outcomes=dict(design.outcomes),
        covariates=tuple(covariates),
        randomised=design.randomised,
        expected_share=design.expected_share,
        notes=tuple(notes),
    )


def _units(name: str, design: DesignConfig, engine: Engine) -> tuple[pd.DataFrame, tuple[Any, ...], list[str]]:
    """One row per unit in the order of the ids, its arm as 0/1; what was dropped is noted."""
    where = f"{name}: table {design.table!r}"
    found = engine.columns(design.table)
    columns = [design.unit, design.treatment, *([design.time] if design.time else [])]
    columns += [c for c in design.covariates if design.join is None or c in found]
    columns += [o.column or key for key, o in design.outcomes.items() if o.op is None]
    check_columns(found, columns, where=where)
    picked = ", ".join(engine.dialect.quote(c) for c in dict.fromkeys(columns))
    frame = engine.collect(f"SELECT {picked} FROM {engine.dialect.quote(design.table)}")
    check_not_empty(len(frame), where=where)
    for column, error in ((design.unit, ColumnError), (design.treatment, TreatmentError)):
        n_missing = int(frame[column].isna().sum())
        if n_missing:
            raise error(f"{where}: {n_missing} of {len(frame)} rows have no {column!r}. Drop them first.")
    frame, n_conflicts = assignment_counts(
        frame, unit=design.unit, variant=design.treatment, on_conflict=design.on_conflict
    )
    notes = [f"{name}: dropped {n_conflicts:,} units seen in more than one arm"] if n_conflicts else []
    frame = _one_row_per_unit(frame, design.unit, where=where).sort_values(design.unit, ignore_index=True)
    if design.treated is not None:
        kept = frame[design.treatment].isin([design.control, design.treated])
        others = frame.loc[~kept, design.treatment].value_counts()
        notes += [f"{name}: left out {n:,} units of arm {arm!r}" for arm, n in others.items()]
        frame = frame[kept].reset_index(drop=True)
    codes, labels = check_treatment(frame[design.treatment], control=design.control)
    if len(labels) != 2:
        raise TreatmentError(
            f"{where}: {len(labels)} arms: {list_some(labels)}. Name the one to compare with "
            f"{design.control!r} as {name}.treated."
        )
    return frame.assign(**{design.treatment: codes}), labels, notes


def _one_row_per_unit(frame: pd.DataFrame, unit: str, *, where: str) -> pd.DataFrame:
    doubled = int(frame[unit].duplicated().sum())
    if doubled:
        raise ColumnError(
            f"{where}: {doubled} rows repeat a {unit!r} with other values; expected one row per unit. "
            "Aggregate the table to its units first."
        )
    return frame


def _join(
    frame: pd.DataFrame, other: pd.DataFrame, design: DesignConfig, *, where: str
) -> tuple[pd.DataFrame, list[str]]:
    """Covariates of another table: those that the design names, or all of its columns where it names none."""
    wanted = [c for c in design.covariates if c not in frame.columns]
    check_columns(other.columns, [design.unit, *wanted], where=where)
    if not design.covariates:
        wanted = [c for c in other.columns if c not in frame.columns]
    other = _one_row_per_unit(other[[design.unit, *wanted]], design.unit, where=where)
    absent = int((~frame[design.unit].isin(other[design.unit])).sum())
    if absent:
        raise ColumnError(f"{where}: {absent} of {len(frame)} units have no row there. Add them or drop those units.")
    return frame.merge(other, on=design.unit, how="left", validate="one_to_one"), wanted


def _add_features(
    frame: pd.DataFrame, design: DesignConfig, config: RunConfig, store: FeatureStore
) -> tuple[pd.DataFrame, list[str]]:
    events = config.events
    user = events.user if events else design.unit
    features = feature_set("user", [user], config.features.user, config)
    spine = frame[[design.unit, design.time]].rename(columns={design.unit: user})
    wide = store.training_frame(spine, features, event_time=str(design.time))
    new = [c for c in wide.columns if c not in spine.columns]
    return _attach(frame, wide, design.unit, user, new), new


def _add_outcomes(
    frame: pd.DataFrame, name: str, design: DesignConfig, config: RunConfig, store: FeatureStore
) -> pd.DataFrame:
    frame = frame.rename(columns={o.column: key for key, o in design.outcomes.items() if o.op is None and o.column})
    later = {key: o for key, o in design.outcomes.items() if o.op is not None}
    if later:
        if design.time is None or config.events is None:
            raise ColumnError(f"{name}: outcomes from events need {name}.time and an `events:` section.")
        user = config.events.user
        wanted = [
            AggregationConfig(op=o.op, column=o.column, window=o.window, where=o.where, name=key)
            for key, o in later.items()
            if o.op is not None
        ]
        spine = frame[[design.unit, design.time]].rename(columns={design.unit: user})
        outcomes = feature_set(f"{name}_outcomes", [user], wanted, config)
        wide = store.outcome_frame(spine, outcomes, event_time=design.time)
        frame = _attach(frame, wide, design.unit, user, list(later))
    for key, outcome in design.outcomes.items():
        frame[key] = _outcome_values(frame[key], outcome, where=f"{name}: outcome {key!r}")
    return frame


def _outcome_values(values: pd.Series, outcome: OutcomeConfig, *, where: str) -> pd.Series:
    try:
        numbers = values.astype("float64")
    except (TypeError, ValueError) as error:
        raise OutcomeError(f"{where} is not a number: {error}. Convert it first.") from error
    n_bad = int((~np.isfinite(numbers)).sum())
    if n_bad:
        raise OutcomeError(
            f"{where}: {n_bad} of {len(numbers)} values are missing or infinite. Drop those units or say what a "
            "missing value means; causalrec does not guess."
        )
    if outcome.kind == "mean":
        return numbers
    if outcome.op is not None:
        return (numbers > 0).astype("float64")
    if not numbers.isin([0.0, 1.0]).all():
        raise OutcomeError(f"{where} is a proportion but holds {list_some(sorted(set(numbers))[:9])}; expected 0 or 1.")
    return numbers


def _attach(frame: pd.DataFrame, wide: pd.DataFrame, unit: str, user: str, new: list[str]) -> pd.DataFrame:
    clash = [c for c in new if c in frame.columns]
    if clash:
        raise ColumnError(f"features {list_some(clash)} have the names of columns that are there already; rename them.")
    return frame.merge(wide[[user, *new]].rename(columns={user: unit}), on=unit, how="left", validate="one_to_one")


def _typed(frame: pd.DataFrame, covariates: Sequence[str], *, where: str) -> pd.DataFrame:
    """Text covariates as categories with sorted levels, so that any batch can be coded alike."""
    coded = {}
    for column in covariates:
        values = frame[column]
        if pd.api.types.is_numeric_dtype(values):
            continue
        if pd.api.types.is_datetime64_any_dtype(values):
            raise ColumnError(
                f"{where}: covariate {column!r} holds times. Make a number of it, such as the days before assignment, "
                "or leave it out."
            )
        text = values.astype("string").astype(object).where(values.notna(), None)
        levels = sorted({x for x in text if x is not None})
        if len(levels) > max(_MOST_LEVELS, len(frame) // 10):
            raise ColumnError(
                f"{where}: covariate {column!r} has {len(levels):,} different texts in {len(frame):,} rows, as an id "
                "or a name has. Group them into fewer levels, or leave it out."
            )
        coded[column] = pd.Categorical(text, categories=levels)
    return frame.assign(**coded)


def _beyond_the_log(
    frame: pd.DataFrame, name: str, design: DesignConfig, events: EventsConfig, engine: Engine
) -> list[str]:
    """Say where an outcome's window ends clearly after the last event: its units cannot have been seen in full."""
    q = engine.dialect.quote
    last = engine.collect(f"SELECT MAX({q(events.time)}) AS t FROM {q(events.table)}")["t"].iloc[0]
    notes = []
    for key, outcome in design.outcomes.items():
        if outcome.window is None or pd.isna(last):
            continue
        window = pd.Timedelta(parse_window(outcome.window), unit="us")
        short = _utc(frame[str(design.time)]) + window - last
        n_short = int((short > _SLACK * window).sum())
        if n_short:
            notes.append(
                f"{name}: outcome {key!r} looks {outcome.window} ahead, but the last event is {last:%Y-%m-%d %H:%M}: "
                f"the windows of {n_short:,} of {len(frame):,} units are not over, and what happens in their rest is "
                "missing. Take a shorter window, or wait."
            )
    return notes


def _utc(times: pd.Series) -> pd.Series:
    return pd.to_datetime(times, utc=True).dt.tz_localize(None)
