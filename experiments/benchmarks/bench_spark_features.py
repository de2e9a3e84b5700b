"""Features as of a time on Spark, beside DuckDB on the same Parquet, in one run.

An event log of 40 events a user over 90 days and a tenth as many rows that ask, both as Parquet. Two features are the
count of the last 3 days and the sum of the last 30; eight features take four aggregates over each. causalrec's own
choice of a query is compared with range windows written by hand, which Spark runs with and without its segment tree.
All give the rows back as a table on this side; the answers are first shown to be the same. The start of Spark is not
counted.

Run: ``python experiments/benchmarks/bench_spark_features.py [--events 1000000 10000000]``
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from causalrec.engines import Engine, LocalEngine, SparkEngine
from causalrec.features import Aggregation, FeatureSet, FeatureStore

PER_USER, DAYS = 40, 90
DAY_US = 86_400_000_000
SEGMENT_TREE = "spark.sql.window.segmentTree.enabled"


def feature_set(wanted: dict[str, tuple[str, ...]]) -> FeatureSet:
    """Aggregates by window."""
    aggregations = [
        Aggregation(op, None if op == "count" else "amount", window, name=f"{op}_{window}")
        for window, ops in wanted.items()
        for op in ops
    ]
    return FeatureSet("activity", ("user",), "events", "at", tuple(aggregations))


TWO = feature_set({"3d": ("count",), "30d": ("sum",)})
EIGHT = feature_set(dict.fromkeys(("3d", "30d"), ("count", "sum", "min", "max")))


def write_tables(n_events: int, folder: Path) -> None:
    """Events in 8 files, and the rows that ask: a tenth as many, half of them at the time of an event."""
    rng = np.random.default_rng(0)
    n_users, start = max(1, n_events // PER_USER), pd.Timestamp("2025-01-01")

    def times(n: int) -> pd.Series:
        return pd.Series(start + pd.to_timedelta(rng.integers(0, DAYS * 86_400, n), unit="s")).dt.as_unit("us")

    events = pd.DataFrame(
        {"user": rng.integers(0, n_users, n_events), "at": times(n_events), "amount": rng.gamma(2.0, 10.0, n_events)}
    )
    n_asked = max(2, n_events // 10)
    free = pd.DataFrame({"user": rng.integers(0, n_users, n_asked // 2), "event_time": times(n_asked // 2)})
    tied = events[["user", "at"]].sample(n_asked - len(free), random_state=0).rename(columns={"at": "event_time"})
    asked = pd.concat([free, tied], ignore_index=True).drop_duplicates()
    for name, table in (("events", events), ("spine", asked)):
        (folder / name).mkdir()
        for i, rows in enumerate(np.array_split(np.arange(len(table)), 8)):
            table.iloc[rows].to_parquet(folder / name / f"part-{i}.parquet", index=False)


def chosen(engine: Engine, features: FeatureSet) -> pd.DataFrame:
    """One declaration; causalrec chooses the query."""
    found = FeatureStore(engine).training_frame("spine", features)
    return found.toArrow().to_pandas() if engine.name == "spark" else found


def windows(engine: Engine, features: FeatureSet) -> pd.DataFrame:
    """Events and asking rows in one table, a range window for each feature."""
    epoch, at = engine.dialect.epoch_us, engine.dialect.quote("at")
    both = (
        f"SELECT user, {epoch(at)} AS t, amount, NULL AS event_time FROM events UNION ALL "
        f"SELECT user, {epoch('event_time')}, NULL, event_time FROM spine"
    )
    columns = []
    for a in features.aggregations:
        width = int((a.window or "").removesuffix("d")) * DAY_US
        over = f"OVER (PARTITION BY user ORDER BY t RANGE BETWEEN {width} PRECEDING AND 1 PRECEDING)"
        value = f"{a.op}(amount) {over}"
        columns.append(f"{f'COALESCE({value}, 0)' if a.op in ('count', 'sum') else value} AS {a.label}")
    sql = f"SELECT user, event_time, {', '.join(columns)} FROM ({both}) b"
    names = ", ".join(["user", "event_time", *features.feature_names])
    return engine.collect(f"SELECT {names} FROM ({sql}) w WHERE event_time IS NOT NULL")


def in_order(found: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order that does not depend on the engine."""
    return found.sort_values(["user", "event_time"], ignore_index=True)


def seconds(call: Callable[[], pd.DataFrame], repeats: int) -> tuple[float, pd.DataFrame]:
    """The fastest of a few runs, and the answer."""
    best, found = float("inf"), pd.DataFrame()
    for _ in range(repeats):
        start = time.perf_counter()
        found = call()
        best = min(best, time.perf_counter() - start)
    return best, in_order(found)


def compare(engines: dict[str, Engine], n_events: int, repeats: int) -> Table:
    """Time every contender on tables of one size."""
    contenders = {
        "Spark, causalrec": (chosen, "Spark"),
        "Spark, range windows, tree": (windows, "Spark"),
        "Spark, range windows": (windows, "Spark without tree"),
        "DuckDB, causalrec": (chosen, "DuckDB"),
        "DuckDB, range windows": (windows, "DuckDB"),
    }
    table = Table(title=f"{n_events:,} events from Parquet, {n_events // 10:,} rows that ask; 2 and 8 features")
    for column in ("", "2: s", "8: s", "2: s/million", "2: ratio", "8: ratio"):
        table.add_column(column, justify="right" if column else "left")
    with tempfile.TemporaryDirectory() as folder:
        write_tables(n_events, Path(folder))
        for engine in engines.values():
            for name in ("events", "spine"):
                engine.register(name, Path(folder) / name)
        took: dict[str, list[float]] = {name: [] for name in contenders}
        for features in (TWO, EIGHT):
            expected = in_order(chosen(engines["DuckDB"], features))
            for name, (ask, engine) in contenders.items():
                best, found = seconds(lambda ask=ask, engine=engine: ask(engines[engine], features), repeats)  # noqa: B023
                pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-9, atol=1e-6)
                took[name].append(best)
    base = took["Spark, causalrec"]
    for name, (two, eight) in took.items():
        per_million = two / n_events * 1e6
        ratios = (two / base[0], eight / base[1])
        table.add_row(name, f"{two:.2f}", f"{eight:.2f}", f"{per_million:.2f}", *(f"{r:.2f}" for r in ratios))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[500_000])
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    console = Console()
    with SparkEngine() as spark, LocalEngine() as local:
        session = spark.frame("SELECT 1").sparkSession
        with SparkEngine(session=session, options={SEGMENT_TREE: False}) as without:
            engines: dict[str, Engine] = {"Spark": spark, "Spark without tree": without, "DuckDB": local}
            compare(engines, 20_000, 1)  # Java compiles what it runs often
            for n_events in given.events:
                console.print(compare(engines, n_events, given.repeats))
    console.print(
        "Same answers from all; Spark's windows with and without its segment tree. "
        f"The fastest of {given.repeats} runs each; ratios to causalrec on Spark."
    )


if __name__ == "__main__":
    main()
