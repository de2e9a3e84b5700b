"""Python on Spark's executors: run by the right interpreter, with short errors, and sums over batches of rows."""

from __future__ import annotations

import logging
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from causalrec._typing import AnyArray
from causalrec.exceptions import EngineError

Sums: TypeAlias = dict[str, AnyArray]


@contextmanager
def running(session: Any, what: str) -> Iterator[None]:
    """Run Python on executors: by this Python where they are on this machine, quietly, with short errors."""
    try:
        with _local_python(session.sparkContext), _quiet():
            yield
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark.", "py4j.")):
            raise
        raise EngineError(f"{what}: {short(error)}") from error


@contextmanager
def _local_python(context: Any) -> Iterator[None]:
    """Executors on this machine run the Python that has our packages, which need not be the first on PATH."""
    before = context.pythonExec
    if context.master.startswith("local"):
        context.pythonExec = sys.executable
    try:
        yield
    finally:
        context.pythonExec = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ``xgboost.spark`` from writing its settings, and PySpark from warning of a pandas that it can use."""
    loggers = [logging.getLogger(name) for name in ("XGBoost-PySpark", "SparkXGBRegressor")]
    before = [(log.level, list(log.handlers)) for log in loggers]
    for log in loggers:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="PySpark does not yet fully support pandas", category=FutureWarning
            )
            yield
    finally:
        for log, (level, handlers) in zip(loggers, before, strict=True):
            log.setLevel(level)
            log.handlers[:] = handlers


def short(error: Exception) -> str:
    """What went wrong, without the traces of Java and Python."""
    text = str(error)
    lines = [line.strip() for line in text.split("\tat ")[0].splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0] and ": " in line and not line.startswith("File")]
    return (named[-1] if named else lines[0] if lines else text)[:2000]


def summed(frame: Any, function: Callable[[Any], Mapping[str, Any]]) -> Sums:
    """The sums over all batches of rows of what ``function`` makes of an Arrow batch: arrays by name.

    What a name that starts with ``max_`` stands for is the largest instead. A row for each task comes to the driver,
    in the order of the partitions, so that the sums are the same every time.

    Raises
    ------
    EngineError
        When there are no rows: the frame had some before, and changes when it is computed again.
    """
    threads = int(frame.sparkSession.conf.get("spark.task.cpus", "1"))

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        found: Sums = {}
        with threadpool_limits(limits=threads):
            for batch in batches:
                if batch.num_rows:
                    add_sums(found, function(batch))
        if found:
            yield pa.RecordBatch.from_pydict({"found": pa.array([pickle.dumps(found)], pa.binary())})

    total: Sums = {}
    for part in frame.mapInArrow(run, "found binary").toArrow().column(0).to_pylist():
        add_sums(total, pickle.loads(part))
    if not total:
        raise EngineError(
            "the frame has no rows any more: it changes when it is computed again. Call persist() on it, or write it "
            "to a table first."
        )
    return total


def add_sums(total: Sums, part: Mapping[str, Any]) -> None:
    """Add to sums by name, or take the larger of what starts with ``max_``.

    Examples
    --------
    >>> total = {"n": np.asarray(1), "max_y": np.asarray(5.0)}
    >>> add_sums(total, {"n": 2, "max_y": 3.0})
    >>> int(total["n"]), float(total["max_y"])
    (3, 5.0)
    """
    for name, value in part.items():
        if name not in total:
            total[name] = np.array(value)
        elif name.startswith("max_"):
            total[name] = np.maximum(total[name], value)
        else:
            total[name] = total[name] + value
