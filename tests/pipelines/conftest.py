"""One small marketplace run, trained and evaluated once, that the tests of this folder look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from causalrec.config import RunConfig, parse_config
from causalrec.pipelines.evaluate import evaluate
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.summary import RunSummary
from causalrec.pipelines.train import train

from ..conftest import REPO


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


def small_marketplace(place: Path, **changes: Any) -> RunConfig:
    raw = yaml.safe_load((REPO / "configs" / "marketplace.yaml").read_text(encoding="utf-8"))
    raw |= {
        "output_dir": str(place / "runs"),
        "data": {"source": "marketplace", "options": {"n_users": 1500, "n_items": 120}},
        "tracking": {"uri": f"sqlite:///{place / 'mlflow.db'}"},
        "average_effect": {"outcome": "spend", "n_placebo": 20},
        "ranker": {"k": 10, "horizon": "7d", "train_cutoffs": 2, "params": {"n_estimators": 20, "n_jobs": 1}},
        "uplift": {
            "outcome": "converted",
            "n_folds": 2,
            "params": {"n_jobs": 1, "n_estimators": 40},
            "targeting": {"value": 25, "cost": 0.5},
        },
    }
    return parse_config(raw | changes)


@pytest.fixture(scope="session")
def config(place: Path) -> RunConfig:
    return small_marketplace(place)


@pytest.fixture(scope="session")
def trained(config: RunConfig) -> RunSummary:
    return train(config)


@pytest.fixture(scope="session")
def evaluated(trained: RunSummary) -> RunSummary:
    return evaluate(RunDirectory(trained.path))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, for tests of runs whose figures others look at: they take most of the time of a small run."""
    for module in ("session", "evaluate"):
        monkeypatch.setattr(f"causalrec.pipelines.{module}.draw", lambda *_: {})


@pytest.fixture
def experiment_config(tmp_path: Path) -> Callable[..., RunConfig]:
    """A config of one table, ``assignments``, written from a frame; nothing is tracked."""

    def make(frame: pd.DataFrame, **changes: Any) -> RunConfig:
        path = tmp_path / "assignments.parquet"
        frame.to_parquet(path)
        experiment = {
            "table": "assignments", "unit": "user_id", "treatment": "variant", "control": "old", "randomised": True,
            "outcomes": {"spend": {"kind": "mean"}}, "covariates": ["age"],
        } | changes.pop("experiment", {})  # fmt: skip
        raw = {
            "name": "test", "output_dir": str(tmp_path / "runs"), "tracking": {"enabled": False},
            "data": {"source": "files", "tables": {"assignments": str(path)}}, "experiment": experiment,
            "average_effect": {"n_placebo": 20, "cross_check": False},
        }  # fmt: skip
        return parse_config(raw | changes)

    return make
