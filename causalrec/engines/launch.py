"""What Spark is started with: a Java, a home of its own, settings that fit the master, quiet logs."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causalrec.engines.java import find_java_home

_LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")
# What makes a query fail is in the error that it raises; Java's traces beside it help nobody.
_LOGGING = """rootLogger.level = error
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
rootLogger.appenderRef.stderr.ref = stderr
logger.executor.name = org.apache.spark.executor.Executor
logger.executor.level = off
logger.tasks.name = org.apache.spark.scheduler.TaskSetManager
logger.tasks.level = off
logger.writer.name = org.apache.spark.sql.execution.datasources.FileFormatWriter
logger.writer.level = off
# Executors that report to a session which has just been closed.
logger.transport.name = org.apache.spark.network.server.TransportRequestHandler
logger.transport.level = off
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


def start_options(master: str) -> dict[str, str]:
    """Settings that Spark reads once, when it starts; all that it writes of its own goes where it is removed."""
    directory = _directory()
    logging = directory / "log4j2.properties"
    logging.write_text(_LOGGING, encoding="utf-8")
    options = {
        "spark.app.name": "causalrec",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.driver.memory": f"{_heap_gigabytes()}g",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging.as_uri()}",
    }
    if master.startswith("local"):
        options |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(directory / "local"),
            "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),  # 200 is meant for a cluster
        }
    if sizes := _LOCAL_CLUSTER.fullmatch(master.strip()):
        workers, cores, megabytes = map(int, sizes.groups())
        options |= {
            "spark.executor.memory": f"{megabytes}m",  # Spark would ask for 1 GB and wait forever if a worker has less
            "spark.sql.shuffle.partitions": str(2 * max(workers * cores, 1)),
        }
    return options


@contextmanager
def launching(spark_home: Path) -> Iterator[None]:
    """Point ``JAVA_HOME`` at a Java that works, and ``SPARK_HOME`` at a copy, while Spark's Java process is started.

    Executors of a local cluster are started by that process and take both from it, also for a later session, so both
    stay until Python ends.
    """
    scratch = Path(tempfile.mkdtemp(dir=_directory()))
    homes = {"JAVA_HOME": str(find_java_home(scratch)), "SPARK_HOME": str(_writable_home(spark_home, scratch))}
    before = {name: os.environ.get(name) for name in homes}
    os.environ.update(homes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _writable_home(spark_home: Path, scratch: Path) -> Path:
    """Links to what Spark's home holds: workers of a local cluster write into its ``work``; no option changes that."""
    if os.name == "nt":  # links need a privilege there
        return spark_home
    home = scratch / "spark"
    (home / "work").mkdir(parents=True)
    for part in spark_home.iterdir():
        if part.name != "work":
            (home / part.name).symlink_to(part.absolute())
    return home


@functools.cache
def _directory() -> Path:
    """One directory a process: Spark's Java process outlives an engine and ends with Python."""
    path = Path(tempfile.mkdtemp(prefix="causalrec-java-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _heap_gigabytes() -> int:
    """A quarter of the memory, as Java itself would take, but no more than 4 GB; Spark would take 1."""
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0
    return max(1, min(4, total // 2**32))
