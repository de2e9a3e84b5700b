"""Features as of a time: causalrec against hand-written SQL, Polars and pandas, in one run.

An event log of 40 events a user over 90 days, and a tenth as many rows that ask: for the count of the last 3 days and
the sum of the last 30, then for eight features. A window ends just before t: ``[t - w, t)``. All get frames of pandas
and give one back in the order of the asking rows; connections are open before. The answers are first shown to be the
same; events at the very moment of asking, and doubled events, are among them.

Then one user with as many events as all others together, a grid of 10,000 users by 365 days, and larger logs from
Parquet, each in a process of its own, whose peak memory is that of the system's count.

Run: ``python experiments/benchmarks/bench_features.py [--events 1000000] [--large]``
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from causalrec.engines import LocalEngine
from causalrec.features import Aggregation, FeatureSet, FeatureStore, daily_grid

PER_USER, DAYS = 40, 90
DAY_US = 86_400_000_000
TWO = (Aggregation("count", window="3d", name="n_3d"), Aggregation("sum", "amount", "30d", name="sum_30d"))
SIX = (
    Aggregation("count", window="30d", name="n_30d"),
    Aggregation("sum", "amount", "3d", name="sum_3d"),
    Aggregation("mean", "amount", "30d", name="mean_30d"),
    Aggregation("min", "amount", "30d", name="min_30d"),
    Aggregation("max", "amount", "30d", name="max_30d"),
    Aggregation("recency", window="30d", name="days_since"),
)
Frames = tuple[pd.DataFrame, pd.DataFrame]
Contender = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]


def feature_set(aggregations: tuple[Aggregation, ...]) -> FeatureSet:
    return FeatureSet("activity", ("user",), "events", "at", aggregations)


def make_tables(n_events: int, seed: int = 0) -> Frames:
    """Events, and the rows that ask: a tenth as many, half of them at the time of one of the user's events."""
    rng = np.random.default_rng(seed)
    n_users = max(1, n_events // PER_USER)
    start, seconds = pd.Timestamp("2025-01-01"), DAYS * 86_400

    def times(n: int) -> pd.Series:
        return pd.Series(start + pd.to_timedelta(rng.integers(0, seconds, n), unit="s")).dt.as_unit("us")

    events = pd.DataFrame(
        {"user": rng.integers(0, n_users, n_events), "at": times(n_events), "amount": rng.gamma(2.0, 10.0, n_events)}
    )
    n_asked = max(2, n_events // 10)
    free = pd.DataFrame({"user": rng.integers(0, n_users, n_asked // 2), "event_time": times(n_asked // 2)})
    tied = events[["user", "at"]].sample(n_asked - len(free), random_state=0).rename(columns={"at": "event_time"})
    return events, pd.concat([free, tied], ignore_index=True)


def ours(
    engine: LocalEngine, events: pd.DataFrame, asked: pd.DataFrame, aggregations: tuple[Aggregation, ...] = TWO
) -> pd.DataFrame:
    """One declaration, one query."""
    features = feature_set(aggregations)
    engine.register("events", events)
    return FeatureStore(engine).training_frame(asked, features)[list(features.feature_names)]


def by_joining(connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """DuckDB: asked rows joined to the events before them, and grouped."""
    return _by_duckdb(
        connection,
        events,
        asked,
        f"SELECT count(CASE WHEN e.t >= s.t - {3 * DAY_US} THEN 1 END) AS n_3d, coalesce(sum(e.v), 0) AS sum_30d "
        f"FROM s LEFT JOIN e ON e.k = s.k AND e.t < s.t AND e.t >= s.t - {30 * DAY_US} GROUP BY s.r ORDER BY s.r",
    )


def by_windows(connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """DuckDB: events and asked rows in one table, features as RANGE windows."""
    over = "OVER (PARTITION BY k ORDER BY t RANGE BETWEEN {} PRECEDING AND 1 PRECEDING)"
    return _by_duckdb(
        connection,
        events,
        asked,
        f"SELECT n_3d, coalesce(sum_30d, 0) AS sum_30d FROM (SELECT r, count(one) {over.format(3 * DAY_US)} AS n_3d, "
        f"sum(v) {over.format(30 * DAY_US)} AS sum_30d FROM (SELECT k, t, v, 1 AS one, NULL AS r FROM e UNION ALL "
        "SELECT k, t, NULL, NULL, r FROM s) u) w WHERE r IS NOT NULL ORDER BY r",
    )


def _by_duckdb(
    connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, asked: pd.DataFrame, query: str
) -> pd.DataFrame:
    connection.register("events", pa.Table.from_pandas(events))
    connection.register("asked", pa.Table.from_pandas(asked.assign(r=np.arange(len(asked)))))
    tables = (
        'WITH e AS (SELECT "user" AS k, epoch_us("at") AS t, amount AS v FROM events), '
        's AS (SELECT "user" AS k, epoch_us(event_time) AS t, r FROM asked) '
    )
    found: pd.DataFrame = connection.sql(tables + query).to_arrow_table().to_pandas()
    return found


def by_pandas(events: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """``groupby().rolling()`` over events and asking rows together, ``closed="left"``."""
    rows = asked.rename(columns={"event_time": "at"}).assign(row=np.arange(len(asked)))
    both = pd.concat([events, rows], ignore_index=True).sort_values(["user", "at"], ignore_index=True)
    grouped = both.groupby("user", sort=True)
    both["n_3d"] = grouped.rolling("3D", on="at", closed="left")["amount"].count().to_numpy()
    both["sum_30d"] = grouped.rolling("30D", on="at", closed="left", min_periods=0)["amount"].sum().to_numpy()
    return both[both["row"].notna()].sort_values("row", ignore_index=True)[["n_3d", "sum_30d"]].fillna(0)


def by_polars(events: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """``rolling(group_by=)`` over events and asking rows together, ``closed="left"``."""
    rows = pl.from_pandas(asked).rename({"event_time": "at"}).with_row_index("row")
    both = pl.concat([pl.from_pandas(events), rows], how="diagonal").sort("user", "at")

    def window(period: str, value: pl.Expr) -> pl.Series:
        return both.rolling("at", period=period, closed="left", group_by="user").agg(value).to_series(2)

    values = both.with_columns(
        window("3d", pl.col("amount").count().alias("n_3d")), window("30d", pl.col("amount").sum().alias("sum_30d"))
    )
    return values.filter(pl.col("row").is_not_null()).sort("row").select("n_3d", "sum_30d").to_pandas()


def contenders(engine: LocalEngine, connection: duckdb.DuckDBPyConnection) -> dict[str, Contender]:
    """Everybody's way to the same two features."""
    return {
        "causalrec": partial(ours, engine),
        "DuckDB by hand: join and group": partial(by_joining, connection),
        "DuckDB by hand: range windows": partial(by_windows, connection),
        "Polars rolling": by_polars,
        "pandas groupby.rolling": by_pandas,
    }


def check_equal(rivals: dict[str, Contender], events: pd.DataFrame, asked: pd.DataFrame) -> None:
    """All must give the same answer: counts exactly, sums to rounding."""
    expected = rivals["causalrec"](events, asked)
    for name, call in rivals.items():
        found = call(events, asked)
        same_counts = (found["n_3d"].to_numpy() == expected["n_3d"].to_numpy()).all()
        if not same_counts or not np.allclose(found["sum_30d"], expected["sum_30d"], rtol=1e-9, atol=1e-6):
            raise SystemExit(f"{name} gives another answer; a comparison of times would be void.")


def fastest(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The fastest of a few runs of each, taken in turns, so that a busy moment of the machine hits all alike."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def contest(n_events: int) -> Table:
    """All in one contest; pandas, which is slow, runs once."""
    events, asked = make_tables(n_events)
    with LocalEngine() as engine, duckdb.connect() as connection:
        rivals = contenders(engine, connection)
        check_equal(rivals, events, asked)
        calls: dict[str, Callable[[], object]] = {name: partial(call, events, asked) for name, call in rivals.items()}
        slow = {"pandas groupby.rolling": calls.pop("pandas groupby.rolling")}
        calls["causalrec: eight features"] = partial(ours, engine, events, asked, TWO + SIX)
        took = fastest(calls, repeats=9) | fastest(slow, repeats=1)
    table = Table(title=f"count 3 d + sum 30 d as of t: {len(events):,} events, {len(asked):,} rows")
    for column in ("", "seconds", "ratio to causalrec"):
        table.add_column(column, justify="right" if column else "left")
    for name, value in took.items():
        table.add_row(name, f"{value:.3f}", f"{value / took['causalrec']:.2f}")
    return table


def skewed(n_events: int) -> tuple[Frames, FeatureSet]:
    """One user has as many events, and asks as often, as all others together."""
    events, asked = make_tables(n_events)
    mine, my_asking = events.assign(user=-1), asked.assign(user=-1)
    return (pd.concat([events, mine]), pd.concat([asked, my_asking])), feature_set(TWO)


def gridded(per_user: int) -> tuple[Frames, FeatureSet]:
    """10,000 users by 365 days, eight features."""
    rng = np.random.default_rng(0)
    n = 10_000 * per_user
    at = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365 * 86_400, n), unit="s")
    events = pd.DataFrame(
        {"user": rng.integers(0, 10_000, n), "at": at.as_unit("us"), "amount": rng.gamma(2.0, 10.0, n)}
    )
    grid = daily_grid(np.arange(10_000), "2025-01-01", "2026-01-01", key="user")
    return (events, grid), feature_set(TWO + SIX)


def special_cases(n_events: int) -> Table:
    """Seconds of what would blow up a join of events to asked rows."""
    table = Table(title="cases that a plain join does not survive")
    for column in ("", "events", "rows", "features", "seconds"):
        table.add_column(column, justify="right" if column else "left")
    cases = {
        "one user has half of the events": skewed(n_events),
        "10,000 users x 365 days": gridded(PER_USER),
        "the same, an event a day": gridded(365),
    }
    for name, ((events, asked), features) in cases.items():
        with LocalEngine() as engine:
            engine.register("events", events)
            start = time.perf_counter()
            FeatureStore(engine).training_frame(asked, features)
            took = time.perf_counter() - start
        table.add_row(name, f"{len(events):,}", f"{len(asked):,}", str(len(features.feature_names)), f"{took:.1f}")
    return table


def write_tables(n_events: int, directory: Path) -> None:
    """Parquet in parts of ten million events, each with users of its own."""
    for i in range(-(-n_events // 10_000_000)):
        n = min(10_000_000, n_events - i * 10_000_000)
        for name, frame in zip(("events", "asked"), make_tables(n, seed=i), strict=True):
            (directory / name).mkdir(exist_ok=True)
            moved = frame.assign(user=frame["user"] + i * 10_000_000 // PER_USER)
            pq.write_table(pa.Table.from_pandas(moved, preserve_index=False), directory / name / f"part-{i}.parquet")


def measure_files(directory: Path, n_features: int) -> None:
    """Print seconds and peak memory of a run from Parquet to Parquet as JSON."""
    from causalrec.features.frames import wide

    features = feature_set((TWO + SIX)[:n_features])
    start = time.perf_counter()
    with LocalEngine() as engine:
        engine.register("events", directory / "events")
        engine.register("asked", directory / "asked")
        with wide(engine, "asked", features) as sql:
            engine.write_parquet(sql, directory / f"wide-{n_features}")
    print(json.dumps({"seconds": time.perf_counter() - start, "gigabytes": peak_memory()}))


def peak_memory() -> float:
    """The most that this process held, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere a child may be taken to have held what its parent did
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def sizes(numbers: list[int]) -> Table:
    """Time and memory as the log grows, each in a process of its own."""
    table = Table(title="from Parquet to Parquet, a tenth as many rows as events")
    for column in ("events", "features", "seconds", "seconds per million", "peak memory, GiB"):
        table.add_column(column, justify="right")
    for n_events in numbers:
        with tempfile.TemporaryDirectory() as scratch:
            write_tables(n_events, Path(scratch))
            for n_features in (2, 8):
                command = [sys.executable, __file__, "--measure", scratch, "--features", str(n_features)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                per_million = found["seconds"] / n_events * 1e6
                cells = (f"{found['seconds']:.1f}", f"{per_million:.2f}", f"{found['gigabytes']:.1f}")
                table.add_row(f"{n_events:,}", str(n_features), *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--large", action="store_true", help="100 million events too (some minutes, 5 GB of disk)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=int, default=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_files(options.measure, options.features)
        return
    console = Console()
    console.print(contest(options.events))
    console.print("Same answers from all, events at t itself left out. The fastest of 9 runs each, pandas of 1.\n")
    console.print(special_cases(options.events))
    console.print(sizes([options.events, 10 * options.events, *([100 * options.events] if options.large else [])]))


if __name__ == "__main__":
    main()
