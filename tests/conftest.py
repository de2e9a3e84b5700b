"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Waiting threads would steal the cores from the other test processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Processes of pytest-xdist inherit a width that nobody chose.
os.environ.pop("COLUMNS", None)

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of the public data sets, or a skip that says how to get them."""
    path = Path(os.environ.get("CAUSALREC_DATA_DIR", REPO.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"public data sets are not at {path}; set CAUSALREC_DATA_DIR")
    return path


@pytest.fixture(scope="session")
def spark_java(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A skip that says what is missing, if Spark cannot run."""
    pytest.importorskip("pyspark", reason="pyspark is not installed; pip install 'causalrec[spark]'")
    from causalrec.engines.java import find_java_home
    from causalrec.exceptions import EngineError

    try:
        find_java_home(tmp_path_factory.mktemp("java"))
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def spark_session(spark_java: None) -> Iterator[Any]:
    """One Spark for all tests of a process."""
    from causalrec.engines import SparkEngine

    with SparkEngine(master="local[2]", options={"spark.driver.memory": "1g"}) as engine:
        yield engine.frame("SELECT 1 AS one").sparkSession


@pytest.fixture
def cluster_job(spark_java: None, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Run a job of ``cluster_jobs.py``, see that it leaves nothing behind, and give what it found."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("executors are found by /proc, which this system does not have")

    def run(name: str) -> dict[str, Any]:
        work, scratch = tmp_path / "work", tmp_path / "scratch"
        work.mkdir()
        scratch.mkdir()
        done = subprocess.run(
            [sys.executable, str(REPO / "tests" / "cluster_jobs.py"), name],
            cwd=work, env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert list(scratch.iterdir()) == []
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return {**found, "made": sorted(p.name for p in work.iterdir()), "said": done.stderr.splitlines()}

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked ``slow_on_spark`` is slow there alone."""
    for item in items:
        if item.get_closest_marker("slow_on_spark") and item.get_closest_marker("spark"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["local", pytest.param("spark", marks=pytest.mark.spark)])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty engine of each kind: one test body runs on all."""
    from causalrec.engines import open_engine

    options = {"session": request.getfixturevalue("spark_session")} if request.param == "spark" else {"threads": 2}
    with open_engine(request.param, **options) as opened:
        yield opened
