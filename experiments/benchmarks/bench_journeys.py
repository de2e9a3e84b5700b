"""Logs to journeys: stitching and sessions by causalrec, pandas and Polars, in one run.

A log of views in visits, 40 a user over 90 days, and a quarter as many purchases of what was viewed, up to ten days
later. Each purchase is linked to the latest view within 7 days, of the same user and item and then of the same user
alone, and views are put into sessions by pauses of 30 minutes. pandas and Polars sort first, because their as-of joins
want that, and put the rows back into the caller's order, as causalrec does. Every contender has a process of its own,
whose peak memory is that of the system's count; answers must agree. On a machine with other work the seconds of the
processors are the ones to compare.

Seconds of processors on two shared cores, ratios to causalrec of pandas frames within one run (more than 1: slower):

====================  ======  =========  ==========  ========  =========
task                  events  causalrec  of Polars   pandas    Polars
====================  ======  =========  ==========  ========  =========
stitch by user, item  10M     2.6 s      1.2         3.3       3.7
stitch by user        10M     2.0 s      1.1         2.6       not run
stitch by user        4M      0.9 s      1.1         1.8-2.1   2.0
sessions              4M      1.1 s      1.1         4.5       3.3
sessions              10M     2.4 s      1.3         6.7       not run
====================  ======  =========  ==========  ========  =========

The goal of 3 times pandas is reached by user and item and for sessions, not by user alone (2.6).
SQL on Spark with 300 thousand events, beside other work: 13.5 s by user and item, 5.8 s by user, 4.9 s for sessions.

Run: ``python experiments/benchmarks/bench_journeys.py [--events 10000000] [--spark-events 1000000] [--task sessions]``
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401  loaded before the clock starts, as pandas and Polars are
import numpy as np
import pandas as pd
import polars as pl

from causalrec.engines import SparkEngine
from causalrec.journeys.sessions import sessionize
from causalrec.journeys.stitching import as_of

MINUTE_US, DAY_US, START_US = 60_000_000, 86_400_000_000, 1_700_000_000_000_000
PER_USER, PER_VISIT, DAYS = 40, 5, 90
GAP, TOLERANCE = "30m", "7d"
BOTH, USER = ["user_id", "item_id"], ["user_id"]
Answer = tuple[int, int]


def make_log(n_events: int, folder: Path, seed: int = 0) -> None:
    """Four fifths views and one fifth purchases, as Parquet."""
    rng = np.random.default_rng(seed)
    n = n_events * 4 // 5
    n_visits = n // PER_VISIT
    visit = rng.integers(0, n_visits, n)
    user = rng.integers(0, max(n // PER_USER, 1), n_visits)[visit]
    at = rng.integers(0, DAYS * DAY_US, n_visits)[visit] + rng.integers(0, 40 * MINUTE_US, n)
    item = (user * 7 + rng.integers(0, 30, n)) % 50_000
    bought = rng.integers(0, n, n_events - n)
    later = at[bought] + rng.integers(1, 10 * DAY_US, len(bought))
    for name, u, i, t in (("views", user, item, at), ("purchases", user[bought], item[bought], later)):
        times = (t + START_US).astype("datetime64[us]")
        table = pd.DataFrame({"user_id": u, "item_id": i, "event_time": times, "row": np.arange(len(u))})
        table.to_parquet(folder / f"{name}.parquet", index=False)


def ours(task: str, views: Any, purchases: Any) -> Any:
    """By causalrec, frames of pandas in and out."""
    if task == "sessions":
        return sessionize(views, GAP)["session_number"]
    return as_of(purchases, views, TOLERANCE, by=BOTH if task == "stitch user, item" else USER, prefix="view")[
        "view_row"
    ]


def by_pandas(task: str, views: pd.DataFrame, purchases: pd.DataFrame) -> pd.Series:
    """``merge_asof``; sort, ``diff`` and ``cumsum`` by group."""
    if task == "sessions":
        s = views.sort_values(["user_id", "event_time"])
        new = s["event_time"].diff() > pd.Timedelta(minutes=30)
        new = new.where(s["user_id"] == s["user_id"].shift(), other=True)
        number = new.groupby(s["user_id"]).cumsum()
        ids = s["user_id"].astype(str) + "-" + number.astype(str)
        return views.assign(session_number=number, session_id=ids)["session_number"]
    by = BOTH if task == "stitch user, item" else USER
    renamed = views.rename(columns={"row": "view_row"}).assign(view_event_time=views["event_time"])
    renamed = renamed if by == BOTH else renamed.rename(columns={"item_id": "view_item_id"})
    found = pd.merge_asof(
        purchases.sort_values("event_time"), renamed.sort_values("event_time"), on="event_time", by=by,
        tolerance=pd.Timedelta(days=7),
    )  # fmt: skip
    return found.sort_values("row", ignore_index=True)["view_row"]


def by_polars(task: str, views: pl.DataFrame, purchases: pl.DataFrame) -> pl.Series:
    """``join_asof``; sort, ``diff`` and ``cum_sum`` over users."""
    if task == "sessions":
        new = (pl.col("event_time").diff() > pl.duration(minutes=30)).fill_null(value=True)
        first = pl.col("user_id") != pl.col("user_id").shift().fill_null(-1)
        s = views.sort("user_id", "event_time").with_columns(session_number=(new | first).cum_sum().over("user_id"))
        return s.with_columns(session_id=pl.format("{}-{}", "user_id", "session_number")).sort("row")["session_number"]
    by = BOTH if task == "stitch user, item" else USER
    renamed = views.rename({"row": "view_row"})
    renamed = renamed if by == BOTH else renamed.rename({"item_id": "view_item_id"})
    found = purchases.sort("event_time").join_asof(
        renamed.sort("event_time"), on="event_time", by=by, tolerance="7d", strategy="backward", coalesce=False
    )
    return found.sort("row")["view_row"]


CONTENDERS: dict[str, tuple[Callable[..., Any], Callable[[Path], Any]]] = {
    "causalrec": (ours, pd.read_parquet),
    "causalrec of Polars": (ours, pl.read_parquet),
    "pandas": (by_pandas, pd.read_parquet),
    "Polars": (by_polars, pl.read_parquet),
}
TASKS = ("stitch user, item", "stitch user", "sessions")


def measure(contender: str, task: str, folder: Path) -> dict[str, float]:
    """Seconds, seconds of processors, the growth of peak memory, and what the answer adds up to."""
    warnings.simplefilter("ignore")
    run, read = CONTENDERS[contender]
    views, purchases = read(folder / "views.parquet"), read(folder / "purchases.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    found = run(task, views, purchases)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    known = found.drop_nulls() if isinstance(found, pl.Series) else found.dropna()
    return {"wall": wall, "cpu": cpu, "peak_mb": peak, "n": len(known), "total": int(known.sum())}


def in_a_process(contender: str, task: str, folder: Path) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--measure", contender, task, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def on_spark(folder: Path) -> None:
    """The same text on Spark on this machine, results counted."""
    with SparkEngine(options={"spark.driver.memory": "3g"}) as engine:
        for name in ("views", "purchases"):
            engine.register(name, folder / f"{name}.parquet")
        for task in TASKS:
            start = time.perf_counter()
            if task == "sessions":
                n = sessionize("views", GAP, engine=engine).filter("session_number > 0").count()
            else:
                by = BOTH if task == "stitch user, item" else USER
                n = as_of("purchases", "views", TOLERANCE, by=by, prefix="view", engine=engine).filter(
                    "view_row IS NOT NULL"
                ).count()  # fmt: skip
            print(f"Spark      {task:<20} {time.perf_counter() - start:6.1f} s   {n:,} rows", flush=True)


def main() -> None:
    """Measure all and print seconds and ratios to causalrec's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--spark-events", type=int, default=1_000_000)
    parser.add_argument("--task", action="append", choices=TASKS, help="these alone")
    parser.add_argument("--measure", nargs=3, metavar=("CONTENDER", "TASK", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.measure:
        contender, task, folder = arguments.measure
        print(json.dumps(measure(contender, task, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        make_log(arguments.events, Path(scratch))
        for task in arguments.task or TASKS:
            base: dict[str, float] = {}
            for contender in CONTENDERS:
                m = in_a_process(contender, task, Path(scratch))
                base = base or m
                if m["n"] != base["n"] or (task == "sessions" and m["total"] != base["total"]):
                    raise SystemExit(f"{contender} found {m}, causalrec {base}")
                print(
                    f"{contender:<20} {task:<18} {m['wall']:6.2f} s ({m['wall'] / base['wall']:4.1f}x)   processors "
                    f"{m['cpu']:6.2f} s ({m['cpu'] / base['cpu']:4.1f}x)   {m['peak_mb']:6.0f} MB   {m['n']:,} rows",
                    flush=True,
                )
    if arguments.spark_events:
        with tempfile.TemporaryDirectory() as scratch:
            make_log(arguments.spark_events, Path(scratch))
            on_spark(Path(scratch))


if __name__ == "__main__":
    main()
