"""Outcomes of a design's units: columns of its table, or aggregates of the events after the design's time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalrec._validation import check_vector, list_some
from causalrec.config import AggregationConfig, DesignConfig, OutcomeConfig, RunConfig
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.features import FeatureStore, parse_window
from causalrec.pipelines.feature_sets import feature_set

_SLACK = 0.1  # of a window: a log rarely ends with an event at the very end of it


def add_outcomes(
    frame: pd.DataFrame, name: str, design: DesignConfig, config: RunConfig, store: FeatureStore
) -> tuple[pd.DataFrame, list[str]]:
    """The frame with a column per outcome, and what is to be said of them.

    Raises
    ------
    ColumnError
        When an outcome has the name of another column, or needs events that are not there.
    OutcomeError
        For values that are missing, infinite, or no numbers.
    """
    now = {key: o.column or key for key, o in design.outcomes.items() if o.op is None}
    later = {key: o for key, o in design.outcomes.items() if o.op is not None}
    taken = [key for key in design.outcomes if key in frame.columns and now.get(key) != key]
    if taken:
        raise ColumnError(
            f"{name}: outcome {taken[0]!r} has the name of a column that is there already. Give it another one."
        )
    raw = {key: frame[column] for key, column in now.items()}
    notes: list[str] = []
    if later:
        found = _from_events(frame, name, design, later, config, store)
        raw |= {key: found[key] for key in later}
        notes = _beyond_the_log(frame, name, design, config, store)
    values = {
        key: _values(raw[key], outcome, where=f"{name}: outcome {key!r}") for key, outcome in design.outcomes.items()
    }
    left = [column for column in now.values() if column not in (*design.outcomes, *design.covariates)]
    return frame.drop(columns=left).assign(**values), notes


def _from_events(
    frame: pd.DataFrame,
    name: str,
    design: DesignConfig,
    later: dict[str, OutcomeConfig],
    config: RunConfig,
    store: FeatureStore,
) -> pd.DataFrame:
    if design.time is None or config.events is None:
        raise ColumnError(f"{name}: outcomes from events need {name}.time and an `events:` section.")
    wanted = [
        AggregationConfig(op=o.op, column=o.column, window=o.window, where=o.where, name=key)
        for key, o in later.items()
        if o.op is not None
    ]
    user = config.events.user
    spine = frame[[design.unit, design.time]].rename(columns={design.unit: user})
    outcomes = feature_set(f"{name}_outcomes", [user], wanted, config)
    found: pd.DataFrame = store.outcome_frame(spine, outcomes, event_time=design.time)
    return found


def _values(values: pd.Series, outcome: OutcomeConfig, *, where: str) -> pd.Series:
    numbers = pd.Series(check_vector(values, name=where), index=values.index)
    if outcome.kind == "mean":
        return numbers
    if outcome.op is not None:
        return (numbers > 0).astype("float64")
    if not numbers.isin([0.0, 1.0]).all():
        raise OutcomeError(f"{where} is a proportion but holds {list_some(np.unique(numbers)[:9])}; expected 0 or 1.")
    return numbers


def _beyond_the_log(
    frame: pd.DataFrame, name: str, design: DesignConfig, config: RunConfig, store: FeatureStore
) -> list[str]:
    """Say where an outcome's window ends clearly after the last event: its units cannot have been seen in full."""
    if config.events is None:
        return []
    q = store.engine.dialect.quote
    last = store.engine.collect(f"SELECT MAX({q(config.events.time)}) AS t FROM {q(config.events.table)}")["t"].iloc[0]
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
