"""Stage "data": the tables of a run, where they came from, and, apart from them, the truth of a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._validation import check_columns, check_not_empty, list_some, nearest
from causalrec.config import DataConfig, RunConfig
from causalrec.datasets import (
    file_digest,
    frame_digest,
    load_dataset,
    online_retail_purchases,
    retailrocket_events,
    simulate_marketplace,
)
from causalrec.engines import Engine
from causalrec.exceptions import ConfigError, DatasetError
from causalrec.pipelines.data import CAMPAIGN_FILE, SERVICE_FILE


@dataclass(frozen=True)
class Lineage:
    """Where a table came from, by content."""

    table: str
    source: str
    digest: str
    rows: int | None
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """Tables by name (frames, or paths that the engine reads in place) and their lineage."""

    tables: Mapping[str, pd.DataFrame | Path] = field(repr=False)
    lineage: tuple[Lineage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """The known effect of every unit; only for judging results, never an input of a stage."""

    units: pd.DataFrame = field(repr=False)
    unit: str = "user_id"

    def mean(self, column: str | None, units: Any) -> float:
        """The average true effect over the given units; NaN where it is not known."""
        if column is None or column not in self.units.columns:
            return float("nan")
        return float(self.units.set_index(self.unit)[column].reindex(pd.Index(units)).mean())


def load_inputs(config: RunConfig) -> tuple[Inputs, Truth | None]:
    """Load what ``config.data`` names.

    Raises
    ------
    DatasetError
        For a missing file, or one whose columns or hash differ.
    """
    data = config.data
    if data.source == "marketplace":
        return _simulated(data, config.seed)
    if data.source == "files":
        return _files(data), None
    return _public(data), None


def existing_table(path: Path | None) -> Path:
    """The table of a command that takes one.

    Raises
    ------
    ConfigError
        When none is named.
    DatasetError
        When it does not exist; with the command that simulates it, where there is one.
    """
    if path is None:
        raise ConfigError("no table is named; give --data file.parquet, or a `data:` key in the config.")
    if not path.exists():
        simulated = {SERVICE_FILE: "service", CAMPAIGN_FILE: "campaign"}.get(path)
        remedy = "" if simulated is None else f" To simulate it: causalrec data {simulated} --output {path}"
        raise DatasetError(f"data: {path} does not exist; expected a Parquet or CSV file or directory.{remedy}")
    return path


def register_tables(inputs: Inputs, engine: Engine) -> None:
    """Make the tables known to the engine."""
    for name, table in inputs.tables.items():
        engine.register(name, table)


def check_tables(config: RunConfig, inputs: Inputs, engine: Engine) -> list[str]:
    """Raise where the config names a table or an event column that is not there; note the events of nobody."""
    named = [("events.table", config.events.table)] if config.events is not None else []
    for key, design in (("experiment", config.experiment), ("campaign", config.campaign)):
        if design is not None:
            named += [(f"{key}.table", design.table), *([(f"{key}.join", design.join)] if design.join else [])]
    for key, table in named:
        if table not in inputs.tables:
            known = list_some(inputs.tables, 20)
            raise ConfigError(f"{key} is {table!r}; the tables are {known}.{nearest(table, inputs.tables)}")
    if config.events is None:
        return []
    events = config.events
    asked = [events.user, events.time, *([events.item, events.event_type] if config.ranker.enabled else [])]
    check_columns(engine.columns(events.table), asked, where=f"events: table {events.table!r}")
    q = engine.dialect.quote
    sums = ", ".join(f"SUM(CASE WHEN {q(c)} IS NULL THEN 1 ELSE 0 END) AS n{i}" for i, c in enumerate(asked))
    counts = engine.collect(f"SELECT COUNT(*) AS n, {sums} FROM {q(events.table)}").iloc[0]
    check_not_empty(int(counts["n"]), where=f"events: table {events.table!r}")
    return [
        f"events: {int(counts[f'n{i}']):,} of {int(counts['n']):,} rows have no {column!r}; nothing is counted for them"
        for i, column in enumerate(asked)
        if counts[f"n{i}"]
    ]


def _simulated(data: DataConfig, seed: int) -> tuple[Inputs, Truth]:
    market, truth = simulate_marketplace(**{"random_state": seed, **data.options})
    tables = market.tables()
    lineage = tuple(_lineage(name, "simulate_marketplace", frame) for name, frame in tables.items())
    return Inputs(tables, lineage), Truth(truth.users)


def _public(data: DataConfig) -> Inputs:
    dataset = load_dataset(data.source, data.path, **data.options)
    lineage = [
        Lineage(data.source, dataset.source, dataset.digest, len(dataset.frame), tuple(map(str, dataset.frame.columns)))
    ]
    tables: dict[str, pd.DataFrame | Path] = {data.source: dataset.frame}
    notes: list[str] = []
    cleaners = {"online_retail": online_retail_purchases, "retailrocket": retailrocket_events}
    if data.source in cleaners:
        events, dropped = cleaners[data.source](dataset)
        tables["events"] = events
        notes += [f"{data.source}: dropped {count:,} rows: {rule}" for rule, count in dropped.items() if count]
        lineage.append(_lineage("events", f"{data.source}, cleaned", events))
    return Inputs(tables, tuple(lineage), tuple(notes))


def _files(data: DataConfig) -> Inputs:
    lineage = []
    for name, path in data.tables.items():
        if not path.exists():
            raise DatasetError(
                f"data.tables.{name}: {path} does not exist; expected a Parquet or CSV file or directory."
            )
        lineage.append(Lineage(name, str(path), file_digest(path), None, ()))
    return Inputs(dict(data.tables), tuple(lineage))


def _lineage(name: str, source: str, frame: pd.DataFrame) -> Lineage:
    return Lineage(name, source, frame_digest(frame), len(frame), tuple(map(str, frame.columns)))
