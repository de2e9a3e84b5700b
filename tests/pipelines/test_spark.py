"""The whole pipeline on Spark gives the numbers of the local engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalrec.config import RunConfig
from causalrec.engines import Engine, SparkEngine
from causalrec.pipelines import train as train_module
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.summary import RunSummary
from causalrec.pipelines.train import train
from causalrec.results import Result

from .conftest import small_marketplace

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def small(place: Path, **changes: Any) -> RunConfig:
    raw = {
        "data": {"source": "marketplace", "options": {"n_users": 400, "n_items": 40}},
        "tracking": {"enabled": False},
    }
    return small_marketplace(place, **(raw | changes))


@pytest.fixture(scope="module")
def on_both(spark_session: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSummary, RunSummary]:
    """A run on each engine; that on Spark beside the session of the tests."""

    @contextmanager
    def beside(config: RunConfig) -> Iterator[Engine]:
        assert config.engine.name == "spark"
        with SparkEngine(session=spark_session) as engine:
            yield engine

    place = tmp_path_factory.mktemp("spark")
    local = train(small(place / "local"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train_module, "opened_engine", beside)
        return local, train(small(place / "spark", engine={"name": "spark"}))


def parts_of(result: Result) -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers of a result, which may differ in their last digits, and the rest of it."""
    values = result.to_dict()
    numbers = {k: v for k, v in values.items() if isinstance(v, float)}
    return numbers, {k: v for k, v in values.items() if k not in numbers}


def test_every_number_is_the_same(on_both: tuple[RunSummary, RunSummary]) -> None:
    local, spark = on_both
    assert list(spark.results) == list(local.results)
    for name, result in local.results.items():
        (mine, words), (theirs, expected) = parts_of(spark.results[name]), parts_of(result)
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-12, nan_ok=True), name
        assert words == expected, name


def test_table_findings_and_notes_are_the_same(on_both: tuple[RunSummary, RunSummary]) -> None:
    local, spark = on_both
    assert [row.cells() for row in spark.rows] == [row.cells() for row in local.rows]
    assert (spark.findings, spark.notes) == (local.findings, local.notes)


@pytest.mark.parametrize("name", ["holdout/uplift", "holdout/ranking", "holdout/ranking_missed"])
def test_the_held_out_rows_are_the_same(on_both: tuple[RunSummary, RunSummary], name: str) -> None:
    local, spark = (RunDirectory(summary.path).frame(name) for summary in on_both)
    assert local is not None
    assert spark is not None
    pd.testing.assert_frame_equal(spark, local, rtol=1e-9)
