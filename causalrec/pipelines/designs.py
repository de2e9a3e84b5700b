"""Stage "features": experiments and campaigns as one row per unit, with features before and outcomes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray
from causalrec._validation import check_columns, check_not_empty, check_treatment, list_some, nearest
from causalrec.abtest import assignment_counts
from causalrec.config import DesignConfig, OutcomeConfig, RunConfig
from causalrec.engines import Engine
from causalrec.exceptions import ColumnError, TreatmentError
from causalrec.features import FeatureStore
from causalrec.pipelines.feature_sets import feature_set
from causalrec.pipelines.outcomes import add_outcomes
from causalrec.pipelines.scoring import as_text

_MOST_LEVELS = 50


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
    frame, more = add_outcomes(frame, name, design, config, store)
    notes += more
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
    n_rows = len(frame)
    frame, n_conflicts = assignment_counts(
        frame, unit=design.unit, variant=design.treatment, on_conflict=design.on_conflict
    )
    notes = [f"{name}: dropped {n_conflicts:,} units seen in more than one arm"] if n_conflicts else []
    if len(frame) < n_rows and not n_conflicts:
        notes.append(f"{name}: dropped {n_rows - len(frame):,} rows that repeat another in every column")
    frame = _one_row_per_unit(frame, design.unit, where=where).sort_values(design.unit, ignore_index=True)
    if pd.api.types.is_bool_dtype(frame[design.treatment]):
        # Words that YAML and CSV readers turn into truth values on their own.
        frame[design.treatment] = frame[design.treatment].map({True: "true", False: "false"})
        design = design.model_copy(update={"control": _word(design.control), "treated": _word(design.treated)})
    arms = frame[design.treatment].unique().tolist()
    for arm in (design.control, design.treated):
        if arm is not None and arm not in arms:
            hint = nearest(str(arm), [str(a) for a in arms])
            raise TreatmentError(
                f"{where}: {arm!r} is not among the arms {list_some(arms)} of {design.treatment!r}.{hint}"
            )
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


def _word(arm: str | int | None) -> str | None:
    """How a boolean arm is written in a config: false, no, 0 or the text of one of them."""
    if arm is None:
        return None
    return {"0": "false", "no": "false", "1": "true", "yes": "true"}.get(str(arm).lower(), str(arm).lower())


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
        name = f"{where}: covariate {column!r}"
        if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
            raise ColumnError(
                f"{name} holds times. Make a number of it, such as the days before assignment, or leave it out."
            )
        if pd.api.types.is_numeric_dtype(values):
            n_infinite = int(np.isinf(values.to_numpy(np.float64, na_value=np.nan)).sum())
            if n_infinite:
                raise ColumnError(f"{name} has {n_infinite} infinite values. Correct them, or make them missing.")
            continue
        text = as_text(values)
        levels = sorted({x for x in text if x is not None})
        if not levels:
            raise ColumnError(f"{name} has no value in any of {len(frame):,} rows. Leave it out.")
        if len(levels) > max(_MOST_LEVELS, len(frame) // 10):
            raise ColumnError(
                f"{name} has {len(levels):,} different texts in {len(frame):,} rows, as an id or a name has. Group "
                "them into fewer levels, or leave it out."
            )
        coded[column] = pd.Categorical(text, categories=levels)
    return frame.assign(**coded)
