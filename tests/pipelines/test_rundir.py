"""Run directories are complete or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from causalrec._files import new_directory
from causalrec.config import parse_config
from causalrec.exceptions import StoreError
from causalrec.pipelines.rundir import RunDirectory, new_run_path, newest_run, open_run
from causalrec.pipelines.scoring import FrameSpec, UpliftScorer
from causalrec.uplift import TLearner


def make_run(output_dir: Path, name: str) -> RunDirectory:
    target = new_run_path(output_dir, name)
    with new_directory(target, replace=True) as partial:
        run = RunDirectory(partial)
        run.write_config(parse_config({"name": name}))
        run.write_info({"command": "train"})
    return RunDirectory(target)


def test_newest_run_by_name(tmp_path: Path) -> None:
    first, second, other = (make_run(tmp_path, name) for name in ("a", "a", "b"))
    assert newest_run(tmp_path).path == other.path
    assert newest_run(tmp_path, "a").path == second.path != first.path
    (tmp_path / ".20990101T000000.000_a_x.tmp").mkdir()
    (tmp_path / "20990101T000000.000_a_x").mkdir()  # without run.json: not a run
    assert newest_run(tmp_path, "a").path == second.path
    with pytest.raises(StoreError, match=r"no trained run of config 'c'.*causalrec train --config c"):
        newest_run(tmp_path, "c")
    with pytest.raises(StoreError, match="not a complete run"):
        open_run(tmp_path / "20990101T000000.000_a_x")


def test_frames_and_models_read_back(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    frame = pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["x", None])})
    run.write_frame("holdout/uplift", frame)
    found = run.frame("holdout/uplift")
    assert found is not None
    pd.testing.assert_frame_equal(found, frame)
    learner = TLearner(LinearRegression()).fit(np.eye(4), [1, 2, 3, 5], treatment=[0, 1, 0, 1])
    scorer = UpliftScorer(learner, FrameSpec(("a",), {"a": ("x", "ü")}), "user_id")
    run.write_model("uplift", scorer)
    again = run.model("uplift")
    assert again.spec == scorer.spec
    assert again.unit == "user_id"
    np.testing.assert_array_equal(again.model.predict(np.eye(4)), learner.predict(np.eye(4)))
    assert {p.suffix for p in (tmp_path / "models" / "uplift").iterdir()} == {".json", ".skops"}
    assert run.frame("holdout/none") is None
    assert run.model("none") is None
