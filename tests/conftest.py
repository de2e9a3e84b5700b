"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Waiting threads would steal the cores from the other test processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of the public data sets, or a skip that says how to get them."""
    path = Path(os.environ.get("CAUSALREC_DATA_DIR", REPO.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"public data sets are not at {path}; set CAUSALREC_DATA_DIR")
    return path


@pytest.fixture(scope="session")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Spark for all tests of a process, or a skip that says what is missing."""
    pytest.importorskip("pyspark", reason="pyspark is not installed; pip install 'causalrec[spark]'")
    from causalrec.engines import SparkEngine
    from causalrec.engines.java import find_java_home
    from causalrec.exceptions import EngineError

    try:
        find_java_home(tmp_path_factory.mktemp("java"))
    except EngineError as error:
        pytest.skip(str(error))
    with SparkEngine(master="local[2]", options={"spark.driver.memory": "1g"}) as engine:
        yield engine.frame("SELECT 1 AS one").sparkSession


@pytest.fixture(params=["local", pytest.param("spark", marks=pytest.mark.spark)])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty engine of each kind: one test body runs on all."""
    from causalrec.engines import open_engine

    options = {"session": request.getfixturevalue("spark_session")} if request.param == "spark" else {"threads": 2}
    with open_engine(request.param, **options) as opened:
        yield opened
