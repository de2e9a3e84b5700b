"""``causalrec pipeline``: the features that a run asks for, on disk by day."""

from __future__ import annotations

import pandas as pd

from causalrec.config import EventsConfig, RunConfig
from causalrec.engines import Engine
from causalrec.exceptions import ConfigError
from causalrec.features import FeatureStore, Materialized
from causalrec.pipelines.feature_sets import feature_sets
from causalrec.pipelines.inputs import check_tables, load_inputs, register_tables
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.pipelines.ranking import build_ranking
from causalrec.pipelines.session import opened_engine


def build_features(config: RunConfig, *, reporter: Reporter | None = None) -> list[Materialized]:
    """Data and features only: every configured feature set as of the times that the run asks for, as Parquet by day.

    Days that are there and unchanged are left alone.
    """
    reporter = reporter or SilentReporter()
    events = config.events
    sets = [] if events is None else feature_sets(config, events)
    if events is None or not sets:
        raise ConfigError(f"{config.name}: no features are configured; add an `events:` and a `features:` section.")
    with opened_engine(config) as engine:
        with reporter.stage("data"):
            inputs, _ = load_inputs(config)
            register_tables(inputs, engine)
            check_tables(config, inputs, engine)
        store = FeatureStore(engine, config.features.directory)
        with reporter.stage("rows that ask"):
            asking = _asking(config, events, engine, store)
        found = []
        for features in sets:
            columns = [*features.keys, "event_time"]
            parts = [part[columns] for part in asking if set(columns) <= set(part.columns)]
            asked = pd.concat(parts).drop_duplicates().sort_values(columns[::-1]).reset_index(drop=True)
            with reporter.stage(features.name) as advance:
                found.append(store.materialize(features, spine=asked, progress=advance))
    return found


def _asking(config: RunConfig, events: EventsConfig, engine: Engine, store: FeatureStore) -> list[pd.DataFrame]:
    """Who is asked about and when: ranking candidates at their cutoffs, units of the designs at theirs."""
    parts = []
    if config.ranker.enabled:
        ranking = build_ranking(config, events, engine, store)
        parts += [q.frame[[events.user, events.item, "event_time"]] for q in ranking.queries()]
    for design in (config.experiment, config.campaign):
        if design is not None and design.time is not None:
            q = engine.dialect.quote
            units = engine.collect(f"SELECT {q(design.unit)}, {q(design.time)} FROM {q(design.table)}")
            parts.append(units.set_axis([events.user, "event_time"], axis=1))
    if not parts:
        raise ConfigError(f"{config.name}: nothing asks for features; enable the ranker, or name a design's time.")
    return parts
