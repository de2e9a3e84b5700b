"""A whole run: what it finds, what it leaves, and what bad input gets."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from causalrec.config import RunConfig, load_config
from causalrec.datasets import simulate_marketplace
from causalrec.exceptions import CausalRecError, ColumnError, EmptyTableError, OutcomeError, StoreError, TreatmentError
from causalrec.pipelines import train as train_module
from causalrec.pipelines.rundir import RunDirectory, new_run_path, newest_run
from causalrec.pipelines.summary import RunSummary
from causalrec.pipelines.train import train
from causalrec.results import ABResult, EffectResult, load_results

from ..conftest import REPO
from .conftest import small_marketplace


def runs_of(config: RunConfig, run_name: str) -> pd.DataFrame:
    client = mlflow.MlflowClient(config.tracking.uri)
    found = client.get_experiment_by_name(config.name)
    assert found is not None
    rows = client.search_runs([found.experiment_id], max_results=1000)
    parents = [r for r in rows if run_name in r.data.tags["mlflow.runName"]]
    ids = {r.info.run_id for r in parents}
    children = [r for r in rows if r.data.tags.get("mlflow.parentRunId") in ids]
    return pd.DataFrame(
        [
            {"name": r.data.tags["mlflow.runName"], "status": r.info.status, "metrics": r.data.metrics,
             "inputs": [i.dataset for i in r.inputs.dataset_inputs], "id": r.info.run_id}
            for r in [*parents, *children]
        ]
    ).set_index("name")  # fmt: skip


def test_the_table_answers_every_question_beside_the_truth(trained: RunSummary) -> None:
    rows = {(r.stage, r.what): r for r in trained.rows}
    stages = [r.stage for r in trained.rows]
    assert list(dict.fromkeys(stages)) == ["ranker", "uplift", "average effect", "placebo", "hidden bias", "A/B test"]
    assert stages.count("ranker") == 6  # the model, four baselines, and the difference to the best of them
    effect = rows["average effect", "emailed on spend (ate)"]
    _, truth = simulate_marketplace(n_users=1500, n_items=120, random_state=7)
    assert effect.truth == pytest.approx(truth.mean("tau_email_spend"), rel=1e-12)
    converted = next(r for r in trained.rows if r.what.startswith("converted"))
    assert converted.truth == pytest.approx(truth.mean("tau_conversion"), rel=1e-12)
    assert rows["placebo", "treatment permuted: mean effect"].truth == 0.0


def test_the_ab_numbers_are_those_of_the_raw_tables(trained: RunSummary) -> None:
    market, _ = simulate_marketplace(n_users=1500, n_items=120, random_state=7)
    start = market.experiment["assigned_at"].iloc[0]
    inside = market.events.query("event_type == 'purchase' and event_time >= @start")
    inside = inside[inside["event_time"] < start + pd.Timedelta("28D")]
    revenue = market.experiment["user_id"].map(inside.groupby("user_id")["revenue"].sum()).fillna(0.0)
    arms = market.experiment["variant"]
    expected = revenue[arms == "personalised"].mean() - revenue[arms == "top_sellers"].mean()
    found = trained.results["ab_revenue"]
    assert isinstance(found, ABResult)
    assert found.estimate == pytest.approx(expected, rel=1e-9)


def test_run_directory_holds_everything_and_reads_back(trained: RunSummary, config: RunConfig) -> None:
    run = RunDirectory(trained.path)
    assert run.config() == config
    again = load_results((run.path / "results.json").read_text(encoding="utf-8"))
    effect = again["average_effect"]
    assert isinstance(effect, EffectResult)
    assert effect.to_dict() == trained.results["average_effect"].to_dict()
    info = run.info()
    assert {d["table"] for d in info["data"]} == {"users", "items", "events", "experiment", "campaign"}
    assert all(len(d["digest"]) == 64 for d in info["data"])
    assert not list(trained.path.parent.glob(".*"))


def test_no_stage_sees_the_truth(trained: RunSummary) -> None:
    run = RunDirectory(trained.path)
    for kind in ("uplift", "ranker"):
        assert not [c for c in run.model(kind).spec.columns if "tau" in c or "propensity" in c or "response" in c]
    holdout = run.frame("holdout/uplift")
    assert holdout is not None
    assert not [c for c in holdout.columns if c.startswith("tau")]


def test_tracking_has_a_child_a_stage_with_intervals_data_and_figures(trained: RunSummary, config: RunConfig) -> None:
    runs = runs_of(config, f"train {trained.path.name}")
    assert set(runs["status"]) == {"FINISHED"}
    assert {"data", "features", "ranker", "uplift", "average effect", "A/B test"} <= set(runs.index)
    top = runs.loc[f"train {trained.path.name}"]
    row = next(r for r in trained.rows if r.stage == "average effect")
    for name in ("ndcg_at_10", "qini", "average_effect", "ab_revenue"):
        assert {name, f"{name}_ci_low", f"{name}_ci_high", f"{name}_n"} <= set(top["metrics"]), name
    assert top["metrics"]["average_effect_truth"] == pytest.approx(row.truth)
    digests = {d["table"]: d["digest"] for d in RunDirectory(trained.path).info()["data"]}
    assert {d.name: d.digest for d in top["inputs"]} == {name: digest[:36] for name, digest in digests.items()}
    client = mlflow.MlflowClient(config.tracking.uri)
    names = {
        Path(f.path).name
        for child in ("uplift", "average effect")
        for f in client.list_artifacts(runs.loc[child, "id"], "figures")
    }
    assert {"qini_curve.png", "uplift_bins.png", "balance.png", "refutations.png", "overlap.png"} <= names
    assert {"uplift_boosting.png", "uplift_importances.png", "uplift_groups.png"} <= names
    tables = {Path(f.path).name for f in client.list_artifacts(runs.loc["uplift", "id"], "tables")}
    assert {"uplift_boosting.json", "uplift_importances.json", "uplift_losses.json", "uplift_groups.json"} <= tables
    uplift = runs.loc["uplift", "metrics"]
    loss = next(name for name in uplift if name.startswith("loss effect") and name.endswith("validation"))
    steps = [m.step for m in client.get_metric_history(runs.loc["uplift", "id"], loss)]
    assert steps == sorted(set(steps))
    assert {"uplift_average_effect", "uplift_boosting_median_trees", "uplift_groups_difference"} <= set(uplift)


def test_the_registered_model_scores_a_frame(trained: RunSummary, config: RunConfig) -> None:
    info = RunDirectory(trained.path).info()
    holdout = RunDirectory(trained.path).frame("holdout/uplift")
    assert holdout is not None
    mlflow.set_tracking_uri(config.tracking.uri)
    model = mlflow.pyfunc.load_model(f"models:/{config.name}_uplift/{info['models']['uplift']['version']}")
    scorer = RunDirectory(trained.path).model("uplift")
    columns = list(scorer.spec.columns)
    expected = scorer.predict(holdout)["uplift"]
    np.testing.assert_array_equal(model.predict(holdout[columns])["uplift"], expected)


@pytest.mark.usefixtures("undrawn")
def test_same_config_and_seed_give_identical_metrics(trained: RunSummary, place: Path, config: RunConfig) -> None:
    again = train(config)
    first, second = (runs_of(config, f"train {s.path.name}").iloc[0]["metrics"] for s in (trained, again))
    assert first == second
    assert len(first) > 100
    curves = [runs_of(config, f"train {s.path.name}").loc["uplift", "metrics"] for s in (trained, again)]
    assert curves[0] == curves[1]
    assert sum(name.startswith("loss ") for name in curves[0]) >= 4


def test_another_seed_gives_other_data(trained: RunSummary, tmp_path: Path) -> None:
    off = {"enabled": False}
    other = train(small_marketplace(tmp_path, seed=8, tracking=off, ranker=off, uplift=off, abtest=off))
    assert other.results["average_effect"].to_dict() != trained.results["average_effect"].to_dict()


def frame_of(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    variant = np.where(rng.random(n) < 0.5, "new", "old")
    return pd.DataFrame({
        "user_id": np.arange(n), "variant": variant, "age": rng.integers(18, 80, n),
        "spend": rng.exponential(10, n) + 2.0 * (variant == "new"),
    })  # fmt: skip


def test_own_files_run_and_skip_what_they_lack(experiment_config: Callable[..., RunConfig]) -> None:
    summary = train(experiment_config(frame_of()))
    assert {r.stage for r in summary.rows} == {"uplift", "average effect", "placebo", "A/B test"}
    assert any(note.startswith("ranker skipped: the data has no event log") for note in summary.notes)


def test_few_units_lose_the_cross_check_and_nothing_else(experiment_config: Callable[..., RunConfig]) -> None:
    """Cross-fitting needs 30 units of each arm; the difference in means and the A/B test do not."""
    config = experiment_config(frame_of(50), average_effect={"n_placebo": 20}, uplift={"enabled": False})
    summary = train(config)
    assert any("no doubly robust cross-check: its models need 30 units" in note for note in summary.notes)
    assert {r.stage for r in summary.rows} == {"average effect", "placebo", "A/B test"}


def test_without_treatment_no_effect_is_made_up(tmp_path: Path) -> None:
    config = small_marketplace(tmp_path, tracking={"enabled": False}, experiment=None, campaign=None)
    config = config.model_copy(update={"uplift": config.uplift.model_copy(update={"outcome": None})})
    summary = train(config)
    assert {r.stage for r in summary.rows} == {"ranker"}
    assert sum("skipped" in note and "made up" in note for note in summary.notes) == 3


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], type[CausalRecError], str]] = {
    "missing column": (lambda f: f.rename(columns={"spend": "spent"}), ColumnError, "'spend'.*Did you mean 'spent'"),
    "empty table": (lambda f: f.iloc[:0], EmptyTableError, "0 rows"),
    "one arm only": (lambda f: f[f["variant"] == "old"], TreatmentError, "only 'old' in"),
    "neither 0/1 nor two arms": (lambda f: f.assign(variant=f["age"]), TreatmentError, "'old' is not among the arms"),
    "three arms": (
        lambda f: f.assign(variant=f["variant"].where(f["age"] < 60, "third")),
        TreatmentError,
        "3 arms.*experiment.treated",
    ),
    "NaN outcomes": (lambda f: f.assign(spend=f["spend"].where(f["age"] < 70)), OutcomeError, "missing or infinite"),
    "users in both arms": (
        lambda f: pd.concat([f, f.head(3).assign(variant="new"), f.head(3).assign(variant="old")]),
        TreatmentError,
        "3 of 400 units are in more than one arm.*on_conflict",
    ),
    "missing treatment": (lambda f: f.assign(variant=f["variant"].where(f["age"] < 70)), TreatmentError, "no 'var"),
    "text outcome": (lambda f: f.assign(spend="much"), CausalRecError, "not a number"),
    "missing ids": (lambda f: f.assign(user_id=f["user_id"].where(f["age"] < 70)), ColumnError, "have no 'user_id'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_left(case: str, experiment_config: Callable[..., RunConfig]) -> None:
    spoil, error, message = BAD[case]
    config = experiment_config(spoil(frame_of()))
    with pytest.raises(error, match=message):
        train(config)
    assert not list(config.output_dir.iterdir())


def test_conflicting_users_can_be_dropped_and_are_counted(experiment_config: Callable[..., RunConfig]) -> None:
    frame = frame_of()
    doubled = pd.concat([frame, frame.head(3).assign(variant="new"), frame.head(3).assign(variant="old")])
    summary = train(experiment_config(doubled, experiment={"on_conflict": "drop"}))
    assert any("dropped 3 units seen in more than one arm" in note for note in summary.notes)
    assert next(r for r in summary.rows if r.stage == "A/B test").n == 397


def test_a_broken_split_is_said_aloud(experiment_config: Callable[..., RunConfig]) -> None:
    config = experiment_config(frame_of(), experiment={"expected_share": 0.8})
    assert any("sample ratio mismatch" in note for note in train(config).notes)


@pytest.mark.parametrize(
    ("key", "path", "message"),
    [("output_dir", "{file}/runs", "cannot write"), ("data", "{missing}", "does not exist")],
)
def test_places_that_cannot_be_used(
    key: str, path: str, message: str, tmp_path: Path, experiment_config: Callable[..., RunConfig]
) -> None:
    (tmp_path / "file").write_text("")
    where = path.format(file=tmp_path / "file", missing=tmp_path / "no.parquet")
    changes: dict[str, Any] = (
        {"output_dir": where}
        if key == "output_dir"
        else {"data": {"source": "files", "tables": {"assignments": where}}}
    )
    with pytest.raises(CausalRecError, match=message):
        train(experiment_config(frame_of(), **changes))


def test_a_store_that_cannot_be_written_does_not_lose_the_results(
    tmp_path: Path, experiment_config: Callable[..., RunConfig]
) -> None:
    (tmp_path / "file").write_text("")
    config = experiment_config(frame_of(), tracking={"uri": f"sqlite:///{tmp_path}/file/mlflow.db"})
    summary = train(config)
    assert "tracking failed" in summary.tracking
    assert (summary.path / "results.json").is_file()


STAGES = {
    "data": "load_inputs", "features": "build_design", "ranker": "train_ranker", "uplift": "train_uplift",
    "average effect": "estimate_effect", "A/B test": "analyse_experiment",
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")])
def test_interrupted_or_failed_at_any_stage_nothing_half_written_is_left(
    stage: str,
    raised: type[BaseException],
    status: str,
    trained: RunSummary,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise raised

    before = sorted(p.name for p in config.output_dir.iterdir())
    monkeypatch.setattr(train_module, STAGES[stage], stop)
    fast = config.model_copy(update={
        "ranker": config.ranker.model_copy(update={"enabled": stage == "ranker"}),
        "uplift": config.uplift.model_copy(update={"enabled": stage == "uplift"}),
        "average_effect": config.average_effect.model_copy(update={"enabled": stage == "average effect"}),
    })  # fmt: skip
    with pytest.raises(raised):
        train(fast)
    assert sorted(p.name for p in config.output_dir.iterdir()) == before
    client = mlflow.MlflowClient(config.tracking.uri)
    found = client.get_experiment_by_name(config.name)
    assert found is not None
    newest = client.search_runs([found.experiment_id], "tags.command = 'train'", max_results=1)[0]
    assert newest.info.status == status
    (child,) = client.search_runs(
        [found.experiment_id], f"tags.`mlflow.parentRunId` = '{newest.info.run_id}'", max_results=1
    )
    assert (child.data.tags["mlflow.runName"], child.info.status) == (stage, status)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, 4, 6, 8, 10, 12])
def test_sigint_at_any_moment(seconds: float, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "causalrec", "train", "--config", str(REPO / "configs" / "marketplace.yaml")]
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=60)
    assert started.returncode == 130, stderr
    assert "Traceback" not in stderr
    left = list((tmp_path / "runs").glob("*")) + list((tmp_path / "runs").glob(".*"))
    assert not left
    if (tmp_path / "mlflow.db").exists():
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
            found = {status for (status,) in store.execute("SELECT status FROM runs")}
        assert found <= {"KILLED", "FINISHED"}


@pytest.mark.data
def test_hillstrom_gives_the_published_effect(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Women's e-mail against none on visit: 3238/21387 − 2262/21306 = .0452331 (file of the MineThatData challenge)."""
    monkeypatch.setenv("CAUSALREC_DATA_DIR", str(data_dir))
    config = load_config(
        REPO / "configs" / "hillstrom.yaml",
        ["tracking.enabled=false", f"output_dir={json.dumps(str(tmp_path / 'runs'))}", "average_effect.n_placebo=20",
         "average_effect.cross_check=false", "uplift.params={n_estimators: 20}"],
    )  # fmt: skip
    summary = train(config)
    for name in ("average_effect", "ab_visit"):
        found = summary.results[name]
        assert isinstance(found, EffectResult)
        assert found.estimate == pytest.approx(3238 / 21387 - 2262 / 21306, abs=1e-12)
        assert found.n_obs == 42_693


def test_a_run_name_that_exists_is_never_overwritten(trained: RunSummary) -> None:
    assert new_run_path(trained.path.parent, "marketplace") != trained.path
    with pytest.raises(StoreError, match="no trained run"):
        newest_run(trained.path.parent, "another")
