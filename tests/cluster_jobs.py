"""Jobs for executors in processes of their own. Each runs in a Python of its own: a process has one Spark master.

``python cluster_jobs.py JOB`` prints what the job found, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec.engines import SparkEngine
from causalrec.features import Aggregation, FeatureSet, FeatureStore

MASTER = "local-cluster[2,1,1024]"
START = pd.Timestamp("2025-01-01")
ACTIVITY = FeatureSet(
    "activity", ("user",), "events", "at",
    (
        Aggregation("count", window="3d", name="n_3d"),
        Aggregation("sum", "amount", "30d", name="sum_30d"),
        Aggregation("last", "amount", name="last"),
        Aggregation("n_unique", "item", "30d", name="items_30d"),
    ),
)  # fmt: skip


def processes(marks: list[str]) -> list[int]:
    """Processes of this machine whose command line has all of these texts."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:  # it has ended
            continue
        if all(mark in command for mark in marks):
            found.append(int(entry.name))
    return found


def executors() -> list[int]:
    """The executors that this process has, by way of Spark's Java process."""
    return processes(["CoarseGrainedExecutorBackend", os.environ["TMPDIR"]])


def log(n: int, n_users: int) -> pd.DataFrame:
    """Events of many users over 60 days."""
    rng = np.random.default_rng(0)
    seconds = rng.integers(0, 60 * 86_400, n)
    return pd.DataFrame(
        {
            "user": rng.integers(0, n_users, n),
            "at": (START + pd.to_timedelta(seconds, unit="s")).as_unit("us"),
            "item": rng.integers(0, 50, n),
            "amount": rng.normal(0, 100, n),
        }
    )


def asked(n: int, n_users: int) -> pd.DataFrame:
    """Who asks, and when: once a user and second at most."""
    spine = log(n, n_users)[["user", "at"]].rename(columns={"at": "event_time"})
    return spine.drop_duplicates(ignore_index=True)


@contextmanager
def killing_one_executor(engine: SparkEngine) -> Iterator[list[int]]:
    """Kill an executor as soon as a second stage of a job runs, so that what the first has made is lost with it."""
    tracker = engine.frame("SELECT 1").sparkSession.sparkContext.statusTracker()
    before = set(tracker.getActiveStageIds())
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        seen: set[int] = set()
        while not stop.is_set():
            running = set(tracker.getActiveStageIds()) - before
            if running - seen and seen:
                killed.append(executors()[0])
                os.kill(killed[0], signal.SIGKILL)
                return
            seen |= running
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def smoke() -> dict[str, Any]:
    """Tables in and out of executors: handed over, by a file, and from Parquet that they wrote."""
    with SparkEngine("local-cluster[2,1,512]") as engine:
        engine.register("small", pd.DataFrame({"i": range(1_000)}))
        engine.register("large", pd.DataFrame({"i": np.arange(3_000_000)}))
        engine.write_parquet("SELECT i, i % 3 AS part FROM large", "out", partition_by=["part"])
        engine.register("out", "out")
        both = "SELECT SUM(i) AS s FROM out UNION ALL SELECT COUNT(*) FROM small ORDER BY s"
        found = {"executors": len(executors()), "sums": engine.collect(both)["s"].tolist()}
    return {**found, "files": len(list(Path("out").rglob("*.parquet"))), "left": len(executors())}


def twice() -> dict[str, Any]:
    """A second session takes the Java process of the first, which was started for threads only."""
    with SparkEngine("local[1]") as engine:
        first = engine.collect("SELECT SUM(id) AS s FROM range(5)")["s"].tolist()
    with SparkEngine(MASTER) as engine:
        second = engine.collect("SELECT SUM(id) AS s FROM range(5)")["s"].tolist()
        return {"sums": [first, second], "executors": len(executors())}


def killed() -> dict[str, Any]:
    """A wide frame and a materialisation, undisturbed and with an executor killed in the middle."""
    options = {"spark.driver.memory": "1g"}
    with SparkEngine(MASTER, options=options) as engine:
        engine.register("events", log(600_000, 20_000))
        engine.register("spine", asked(100_000, 20_000))

        def frame(name: str) -> pd.DataFrame:
            wide = FeatureStore(engine).training_frame(engine.frame("SELECT * FROM spine"), ACTIVITY)
            wide.write.parquet(Path(f"{name}.parquet").absolute().as_uri())
            return pd.read_parquet(f"{name}.parquet").sort_values(["user", "event_time"], ignore_index=True)

        def kept(name: str) -> pd.DataFrame:
            store = FeatureStore(engine, name)
            store.materialize(ACTIVITY, "2025-02-01", "2025-02-06")
            found = store.load(ACTIVITY).toArrow().to_pandas()
            return found.sort_values(["user", "event_time"], ignore_index=True)

        return {job.__name__: _both(engine, job) for job in (frame, kept)}


def uplift() -> dict[str, Any]:
    """A T-learner of few rows, by one task, and of many, by two workers, beside the local one."""
    from causalrec.nuisance import BoostedRegressor
    from causalrec.uplift import TLearner
    from causalrec.uplift.spark import TLearner as OnSpark

    def rows(seed: int) -> tuple[pd.DataFrame, Any, Any]:
        rng = np.random.default_rng(seed)
        X = pd.DataFrame({"a": rng.normal(size=4_000), "b": rng.choice(["x", "y", "z"], 4_000)})
        t = rng.integers(0, 2, 4_000)
        return X, X["a"] + t * effect(X) + rng.normal(size=4_000), t

    def effect(X: pd.DataFrame) -> Any:
        return X["a"] + (X["b"] == "x")

    (X, y, t), (more, more_y, more_t) = rows(0), rows(1)
    in_memory, more = (Z.assign(b=Z["b"].astype("category")) for Z in (X, more))
    with SparkEngine(MASTER) as engine:
        engine.register("rows", X.assign(t=t, y=y, i=range(4_000)))
        frame = engine.frame("SELECT * FROM rows")
        found: dict[str, Any] = {"executors": len(executors())}
        for name, small in (("small", 20_000), ("large", 1_000)):
            base = BoostedRegressor(small=small)
            learner = OnSpark(base, n_workers=2).fit(frame, outcome="y", treatment="t", covariates=["a", "b"])
            scored = learner.predict(frame).toArrow().to_pandas().sort_values("i")["uplift"].to_numpy()
            mine = TLearner(base).fit(in_memory, y, treatment=t).predict(in_memory)
            other = TLearner(base).fit(more, more_y, treatment=more_t).predict(in_memory)
            found[name] = {
                "rows": len(scored),
                "same": bool(np.array_equal(scored, learner.to_local().predict(X))),
                "corr": float(np.corrcoef(scored, mine)[0, 1]),
                "distance": float(np.sqrt(np.mean((scored - mine) ** 2))),
                "noise": float(np.sqrt(np.mean((other - mine) ** 2))),
                "errors": [float(np.sqrt(np.mean((found - effect(X)) ** 2))) for found in (scored, mine)],
            }
    return found


def _both(engine: SparkEngine, job: Callable[[str], pd.DataFrame]) -> dict[str, Any]:
    expected = job(f"{job.__name__}_undisturbed")
    with killing_one_executor(engine) as lost:
        found = job(f"{job.__name__}_disturbed")
    return {"rows": len(found), "lost": len(lost), "same": found.equals(expected)}


if __name__ == "__main__":
    print(json.dumps({"smoke": smoke, "twice": twice, "killed": killed, "uplift": uplift}[sys.argv[1]]()))
