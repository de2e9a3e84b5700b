"""``causalrec data``: write the simulated marketplace, A/B test and campaign, and look after the public data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from causalrec._files import new_directory, new_file
from causalrec.datasets import (
    Marketplace,
    MarketplaceTruth,
    list_datasets,
    load_dataset,
    simulate_campaign,
    simulate_marketplace,
    simulate_service,
)
from causalrec.exceptions import CausalRecError, ConfigError
from causalrec.pipelines.progress import Reporter

SERVICE_FILE = Path("data/service.parquet")
CAMPAIGN_FILE = Path("data/campaign.parquet")
_CHUNK = 200_000


@dataclass(frozen=True)
class DatasetStatus:
    """A public data set: its rows when it is at hand, and where it is or why it is not."""

    name: str
    rows: int | None
    state: str


def write_synthetic(output: Path, *, n_users: int, seed: int, reporter: Reporter) -> list[Path]:
    """Write the marketplace's tables below ``output`` and its truth below ``<output>_truth``, each whole or not at all.

    Users are simulated in chunks, so memory does not grow with their number. Raises :class:`StoreError` when the
    place cannot be written.
    """
    truth_dir = output.with_name(f"{output.name}_truth")
    with (
        reporter.stage("simulation") as advance,
        new_directory(output, replace=True) as tables,
        new_directory(truth_dir, replace=True) as truths,
    ):
        writers: dict[Path, Any] = {}
        done = 0
        try:
            for market, truth in _chunks(n_users, seed):
                frames = {tables / f"{name}.parquet": frame for name, frame in market.tables().items()}
                if done:
                    del frames[tables / "items.parquet"]  # the shop is the same for every chunk
                frames[truths / "truth.parquet"] = truth.users
                for path, frame in frames.items():
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                    if path not in writers:
                        writers[path] = pq.ParquetWriter(path, table.schema, compression="zstd")
                    writers[path].write_table(table)
                done += len(market.users)
                advance(done, n_users)
        finally:
            for writer in writers.values():
                writer.close()
    return sorted(p for d in (output, truth_dir) for p in d.glob("*.parquet"))


def _chunks(n_users: int, seed: int) -> Iterator[tuple[Marketplace, MarketplaceTruth]]:
    """One chunk is exactly ``simulate_marketplace(n_users, random_state=seed)``; more share one shop."""
    if n_users <= _CHUNK:
        yield simulate_marketplace(n_users, random_state=seed)
        return
    starts = range(0, n_users, _CHUNK)
    for start, child in zip(starts, np.random.SeedSequence(seed).spawn(len(starts)), strict=True):
        size = min(_CHUNK, n_users - start)
        yield simulate_marketplace(size, random_state=child, first_user=start, item_seed=seed)


def write_service(output: Path, *, n_users: int, seed: int, reporter: Reporter) -> list[Path]:
    """Write the simulated A/B test of a music service, and its true effects to ``<output>_truth.parquet``.

    Raises
    ------
    ConfigError
        For a name that does not end in ``.parquet``.
    StoreError
        When the place cannot be written.
    """

    def simulate() -> tuple[pd.DataFrame, pd.DataFrame]:
        frame, truth = simulate_service(n_users, random_state=seed)
        return frame, truth.effects

    return _write_with_truth(output, simulate, reporter)


def write_campaign(output: Path, *, n_users: int, seed: int, reporter: Reporter) -> list[Path]:
    """Write the simulated e-mail campaign, a row per user, and the truth of each to ``<output>_truth.parquet``.

    Raises as :func:`write_service` does.
    """
    return _write_with_truth(output, lambda: simulate_campaign(n_users, random_state=seed), reporter)


def _write_with_truth(
    output: Path, simulate: Callable[[], tuple[pd.DataFrame, pd.DataFrame]], reporter: Reporter
) -> list[Path]:
    """A simulated table and, beside it, its truth."""
    if output.suffix != ".parquet":
        raise ConfigError(f"output is {str(output)!r}; expected a name that ends in .parquet.")
    paths = [output, output.with_name(f"{output.stem}_truth.parquet")]
    with reporter.stage("simulation"):
        for path, table in zip(paths, simulate(), strict=True):
            with new_file(path) as scratch:
                pq.write_table(pa.Table.from_pandas(table, preserve_index=False), scratch, compression="zstd")
    return paths


def check_real(*, reporter: Reporter) -> list[DatasetStatus]:
    """Load every public data set that is at hand against its known hash; download those with a stable address."""
    found = []
    with reporter.stage("public data") as advance:
        names = list(list_datasets())
        for done, name in enumerate(names, start=1):
            try:
                dataset = load_dataset(name)
                found.append(DatasetStatus(name, len(dataset.frame), f"{dataset.path} ({dataset.licence})"))
            except CausalRecError as error:
                found.append(DatasetStatus(name, None, str(error)))
            advance(done, len(names))
    return found
