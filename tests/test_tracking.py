"""Runs in a real MLflow store: what is logged, how runs end, and that a broken store stops nothing."""

from __future__ import annotations

import builtins
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.exceptions import MissingExtraError, StoreError
from causalrec.results import EffectResult
from causalrec.tracking import (
    Tracker,
    _runs,
    _store,
    flatten,
    git_commit,
    legal_name,
    log_learner,
    package_versions,
    resolve_uri,
    result_metrics,
)
from causalrec.uplift import DRLearner, TLearner
from causalrec.uplift.saving import save_learner

Opened = AbstractContextManager[Tracker]
EFFECT = EffectResult(0.5, 0.1, 0.3, float("inf"), float("nan"), 0.95, 100, "Welch", "ate")


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store made once, since MLflow's migrations take seconds."""
    pytest.importorskip("mlflow")
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    said: list[str] = []
    with Tracker.open(
        uri=f"sqlite:///{file}", experiment="first", run_name="r", params={}, tags={}, say=said.append
    ) as tracker:
        assert tracker.active
    assert said == []
    return file


@pytest.fixture
def store(fresh_store: Path, tmp_path: Path) -> Path:
    """A store of the test's own."""
    file = tmp_path / "my store" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(fresh_store, file)
    return file


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(store: Path, said: list[str]) -> Callable[..., Opened]:
    """Open a run in the store."""

    def call(**changes: Any) -> Opened:
        settings: dict[str, Any] = {
            "uri": f"sqlite:///{store}", "experiment": "shop", "run_name": "train r1", "params": {"a": {"b": 1}},
            "tags": {"command": "train"}, "say": said.append,
        }  # fmt: skip
        return Tracker.open(**(settings | changes))

    return call


@pytest.fixture
def client(store: Path) -> Any:
    return pytest.importorskip("mlflow").MlflowClient(
        tracking_uri=f"sqlite:///{store}", registry_uri=f"sqlite:///{store}"
    )


@pytest.fixture(autouse=True)
def _quiet_mlflow() -> Iterator[None]:
    """What MLflow's own client, used here to look, warns of is not under test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def runs_of(client: Any, experiment: str = "shop") -> dict[str, Any]:
    found = client.get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def artifact(client: Any, run_id: str, path: str) -> Path:
    return Path(client.download_artifacts(run_id, path))


EXAMPLE = pd.DataFrame({"x": [1.0, 2.5], "n": [1, 2], "kind": pd.Categorical(["a", "b"])})
LOADER = "causalrec.uplift.saving"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A learner in plain files, and itself."""
    rng = np.random.default_rng(0)
    X = EXAMPLE.iloc[rng.integers(0, 2, 300)].reset_index(drop=True).assign(x=rng.normal(size=300))
    treatment = rng.choice(["none", "mail"], 300)
    learner = TLearner(control="none").fit(X, X["x"] * (treatment == "mail"), treatment=treatment)
    return save_learner(learner, tmp_path_factory.mktemp("learner") / "t"), learner


# --- the runs -------------------------------------------------------------------------------------------------------


def test_a_parent_run_and_a_child_run_per_stage(opened: Callable[..., Opened], client: Any, said: list[str]) -> None:
    with opened() as tracker:
        with tracker.stage("ranker") as stage:
            assert stage.run_id != tracker.run_id
        with tracker.stage("uplift"):
            pass
    runs = runs_of(client)
    assert set(runs) == {"train r1", "ranker", "uplift"}
    parent = runs["train r1"]
    assert parent.info.run_id == tracker.run_id
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    assert all(r.info.end_time >= r.info.start_time for r in runs.values())
    for name in ("ranker", "uplift"):
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    assert parent.data.tags["command"] == "train"
    assert parent.data.tags["python"] == sys.version.split()[0]
    assert parent.data.tags["version.numpy"] == np.__version__
    assert parent.data.params == {"a.b": "1"}
    assert float(parent.data.tags["duration_seconds"]) >= 0
    assert said == []


@pytest.mark.parametrize(
    "error, status",
    [(ValueError("no such column"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(), "KILLED")],
)
def test_a_run_that_ends_early_says_how(
    opened: Callable[..., Opened], client: Any, error: BaseException, status: str
) -> None:
    def work() -> None:
        with opened() as tracker:
            with tracker.stage("data"):
                pass
            with tracker.stage("uplift"):
                raise error

    with pytest.raises(type(error)):
        work()
    runs = runs_of(client)
    assert {n: r.info.status for n, r in runs.items()} == {"train r1": status, "data": "FINISHED", "uplift": status}
    for name in ("train r1", "uplift"):
        found = runs[name].data.tags.get("error")
        assert found == ("ValueError: no such column" if status == "FAILED" else None)


@pytest.mark.parametrize("which", ["train r1", "ranker"])
def test_a_run_whose_creation_is_interrupted_does_not_stay_open(
    opened: Callable[..., Opened], client: Any, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    from mlflow import MlflowClient

    create = MlflowClient.create_run

    def interrupted(self: Any, *args: Any, run_name: str, **rest: Any) -> Any:
        run = create(self, *args, run_name=run_name, **rest)
        if run_name == which:
            raise KeyboardInterrupt
        return run

    monkeypatch.setattr(MlflowClient, "create_run", interrupted)

    def work() -> None:
        with opened() as tracker, tracker.stage("ranker"):
            pass

    with pytest.raises(KeyboardInterrupt):
        work()
    statuses = {n: r.info.status for n, r in runs_of(client).items()}
    assert statuses[which] == "KILLED"
    assert set(statuses.values()) == {"KILLED"}


def test_an_error_longer_than_a_tag_is_cut(opened: Callable[..., Opened], client: Any, said: list[str]) -> None:
    def work() -> None:
        with opened():
            raise ValueError("x" * 20_000)

    with pytest.raises(ValueError, match="xxx"):
        work()
    (run,) = runs_of(client).values()
    assert run.info.status == "FAILED"
    assert len(run.data.tags["error"]) == 6000
    assert run.data.tags["error"].endswith("…")
    assert said == []


def test_two_trackers_in_one_process(opened: Callable[..., Opened], client: Any, said: list[str]) -> None:
    with opened(run_name="one") as first:
        pass
    with opened(run_name="two", experiment="other") as second:
        pass
    assert first.run_id != second.run_id
    assert set(runs_of(client)) == {"one"}
    assert set(runs_of(client, "other")) == {"two"}
    assert said == []


def test_the_store_stays_when_the_working_directory_moves_or_goes(
    fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    import mlflow

    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    shutil.copy(fresh_store, home / "mlflow.db")
    monkeypatch.chdir(home)
    with Tracker.open(
        uri="sqlite:///mlflow.db", experiment="shop", run_name="r", params={}, tags={}, say=said.append
    ) as tracker:
        monkeypatch.chdir(elsewhere)
        elsewhere.rmdir()
        tracker.top.log_text("hello", "notes.txt")
        monkeypatch.chdir(tmp_path)
    assert said == []
    found = mlflow.MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    assert artifact(found, str(tracker.run_id), "notes.txt").read_text() == "hello"
    assert (home / "mlartifacts").is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]


def test_mlflows_own_settings_are_the_callers(opened: Callable[..., Opened], store: Path, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mine = f"sqlite:///{tmp_path}/mine.db"
    level = logging.getLogger("mlflow").level
    try:
        for uri in (None, mine):
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(None)
            with opened() as tracker, tracker._as_default():
                assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == f"sqlite:///{store}"
            assert (mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None) == uri
            if uri is not None:
                assert mlflow.get_registry_uri() == uri
            assert mlflow.active_run() is None
    finally:
        mlflow.set_tracking_uri(before)
    assert logging.getLogger("mlflow").level == level


# --- what is logged -------------------------------------------------------------------------------------------------


def test_parameters_are_flattened_batched_and_cut(opened: Callable[..., Opened], client: Any, said: list[str]) -> None:
    many = {f"p{i}": i for i in range(250)}
    with opened(params={"many": many, "long": "y" * 9000, "a b/c@(%)": None, "empty": {}, "list": [1, 2]}):
        pass
    params = runs_of(client)["train r1"].data.params
    assert len(params) == 254
    assert params["many.p249"] == "249"
    assert len(params["long"]) == 6000
    assert params["long"].endswith("…")
    assert (params["a b_c_at____"], params["empty"], params["list"]) == ("None", "{}", "[1, 2]")
    assert said == []


def test_metrics_are_batched_and_what_is_not_finite_left_out(
    opened: Callable[..., Opened], client: Any, said: list[str]
) -> None:
    many = {f"m{i}": float(i) for i in range(2300)}
    odd = {"ndcg@10": 0.25, "nan": float("nan"), "inf": float("inf"), "ab_revenue (€)": 1, "a//b": 2, "flag": True}
    with opened() as tracker:
        tracker.top.log_metrics(many | odd)
        tracker.top.log_results({"effect": EFFECT})
        tracker.top.log_history("validation_ndcg@10", [0.1, float("nan"), 0.3])
        tracker.top.log_curves({"loss": [(0, 1.0), (3, 0.5), (6, float("nan"))]})
    metrics = runs_of(client)["train r1"].data.metrics
    assert {k: v for k, v in metrics.items() if k not in many} == {
        "ndcg_at_10": 0.25, "ab_revenue ___": 1.0, "a__b": 2.0, "flag": 1.0,
        "effect": 0.5, "effect_std_error": 0.1, "effect_ci_low": 0.3, "effect_n": 100.0, "validation_ndcg_at_10": 0.3,
        "loss": 0.5,
    }  # fmt: skip
    assert {k: metrics[k] for k in many} == many
    history = client.get_metric_history(tracker.run_id, "validation_ndcg_at_10")
    assert [(m.step, m.value) for m in history] == [(0, 0.1), (2, 0.3)]
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "loss")] == [(0, 1.0), (3, 0.5)]
    assert said == []


def test_figures_tables_texts_and_files(
    opened: Callable[..., Opened], client: Any, tmp_path: Path, said: list[str]
) -> None:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(2, 1)).add_subplot()
    report = tmp_path / "pages" / "report.html"
    report.parent.mkdir()
    report.write_text("<p>½</p>", encoding="utf-8")
    frame = pd.DataFrame(
        {
            "name": ["a", None], "value": [0.5, np.nan], "n": [1, 2], "ok": [True, False],
            "kind": pd.Categorical(["x", None]), "at": pd.to_datetime(["2025-01-06", None]),
        }
    )  # fmt: skip
    with opened() as tracker, tracker.stage("uplift") as stage:
        stage.log_figure(axes, "figures/curve.png")
        stage.log_picture(b"bytes", "figures/drawn.png")
        stage.log_frame(frame, "tables/bins.json")
        stage.log_text("E[Y|do(W)] — ½", "identification.txt")
        stage.log_artifact(report)
        stage.log_artifact(report, "pages")
        stage.log_artifact(report.parent, "all")
        stage.set_tags({"features.user": "abc", "odd@key (%)": "z" * 9000})
    run_id = str(stage.run_id)
    assert artifact(client, run_id, "figures/curve.png").read_bytes().startswith(b"\x89PNG")
    assert artifact(client, run_id, "figures/drawn.png").read_bytes() == b"bytes"
    table = json.loads(artifact(client, run_id, "tables/bins.json").read_text())
    assert table["columns"] == list(frame.columns)
    assert table["data"] == [
        ["a", 0.5, 1, True, "x", "2025-01-06 00:00:00"],
        [None, None, 2, False, None, None],
    ]
    assert artifact(client, run_id, "identification.txt").read_text(encoding="utf-8") == "E[Y|do(W)] — ½"
    for path in ("report.html", "pages/report.html", "all/report.html"):
        assert artifact(client, run_id, path).read_text(encoding="utf-8") == "<p>½</p>"
    tags = runs_of(client)["uplift"].data.tags
    assert tags["features.user"] == "abc"
    assert len(tags["odd_at_key ___"]) == 6000
    assert list(frame["kind"].cat.categories) == ["x"]  # the caller's frame is not changed
    assert said == []


def test_lineage_holds_our_digest(opened: Callable[..., Opened], client: Any, said: list[str]) -> None:
    digest = "0123456789abcdef" * 4
    with opened() as tracker:
        tracker.top.log_dataset("events", "events.parquet", digest, ["user_id", "item_id"], 5, context="training")
        tracker.top.log_dataset("users", "a place", "abc", [], None, context="training")
    inputs = {i.dataset.name: i for i in runs_of(client)["train r1"].inputs.dataset_inputs}
    assert set(inputs) == {"events", "users"}
    events = inputs["events"].dataset
    assert events.digest == digest[:36]
    assert json.loads(events.profile) == {"num_rows": 5, "num_columns": 2}
    assert json.loads(events.source) == {"uri": "events.parquet"}
    assert [c["name"] for c in json.loads(events.schema)["mlflow_colspec"]] == ["user_id", "item_id"]
    assert {t.key: t.value for t in inputs["events"].tags} == {"mlflow.data.context": "training"}
    assert said == []


def test_many_curves_are_one_batch(opened: Callable[..., Opened], client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    curves = {f"loss {k}": [(step, float(step)) for step in range(301)] for k in range(20)}
    with opened() as tracker:
        log = tracker._client.log_batch
        monkeypatch.setattr(
            tracker._client, "log_batch", lambda run, **kinds: (sent.append(len(kinds["metrics"])), log(run, **kinds))
        )
        tracker.top.log_curves(curves)
    assert len(sent) == 1
    assert 800 < sent[0] <= 1000
    steps = [m.step for m in client.get_metric_history(tracker.run_id, "loss 7")]
    assert (steps[0], steps[-1]) == (0, 300)


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_model(opened: Callable[..., Opened], saved: tuple[Path, Any]) -> str:
    with opened() as tracker, tracker.stage("uplift") as stage:
        version = stage.log_model(saved[0], "uplift", EXAMPLE, loader=LOADER, registered_name="shop_uplift")
    assert tracker.active, tracker.failure
    return str(version)


def test_a_model_is_logged_with_its_signature_and_the_run_ends_once(
    opened: Callable[..., Opened], client: Any, with_model: str, saved: tuple[Path, Any], said: list[str]
) -> None:
    assert with_model == "1"
    version = client.get_model_version("shop_uplift", "1")
    run = runs_of(client)["uplift"]
    assert (version.run_id, run.info.status) == (run.info.run_id, "FINISHED")
    assert "error" not in run.data.tags
    with opened() as tracker, tracker.stage("again") as stage:
        second = stage.log_model(saved[0], "uplift", EXAMPLE, loader=LOADER, registered_name="shop_uplift")
        assert client.get_run(stage.run_id).info.status == "RUNNING"
    assert second == "2"
    assert said == []


@pytest.fixture
def in_store(store: Path) -> Iterator[Any]:
    """MLflow's own functions pointed at the test's store, and back."""
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    yield mlflow
    mlflow.set_tracking_uri(None)


def test_a_logged_model_is_plain_files(client: Any, with_model: str, in_store: Any, tmp_path: Path) -> None:
    source = client.get_model_version("shop_uplift", "1").source
    folder = Path(in_store.artifacts.download_artifacts(artifact_uri=source, dst_path=str(tmp_path)))
    files = {path.name for path in folder.rglob("*") if path.is_file() and "causalrec" not in path.parts}
    assert "object.json" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    pinned = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in pinned)
    assert {"xgboost", "numpy"} <= {line.partition("==")[0] for line in pinned}


@pytest.mark.parametrize("kind", ["frame", "array", "arms"])
def test_any_learner_is_logged_and_predicts_the_same_to_the_bit(
    kind: str, client: Any, in_store: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    X: Any = rng.normal(size=(200, 2))
    X = X if kind == "array" else pd.DataFrame(X, columns=["a", "b"])
    treatment = rng.choice(["old", "new", "newer"] if kind == "arms" else ["old", "new"], 200)
    y = np.asarray(X)[:, 0] * (treatment == "new") + rng.normal(size=200)
    propensity = None if kind == "arms" else 0.5
    learner = DRLearner(control="old", n_folds=2).fit(X, y, treatment=treatment, propensity=propensity)
    folder = save_learner(learner, tmp_path / "model")
    with in_store.start_run(experiment_id=client.create_experiment("mine", (tmp_path / "artifacts").as_uri())):
        info = log_learner(folder, X)
    found = in_store.pyfunc.load_model(info.model_uri).predict(X)
    assert list(found.columns) == (["uplift_new", "uplift_newer"] if kind == "arms" else ["uplift"])
    np.testing.assert_array_equal(found.to_numpy().squeeze(), learner.predict(X))
    assert info.signature is not None


def test_a_directory_without_a_learner_is_not_logged(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no directory"):
        log_learner(tmp_path / "none", EXAMPLE)
    with pytest.raises(StoreError, match="no saved model"):
        log_learner(tmp_path, EXAMPLE)


@pytest.mark.slow
def test_a_registered_model_scores_a_frame_in_another_process(
    store: Path, with_model: str, saved: tuple[Path, Any]
) -> None:
    code = (
        "import sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/shop_uplift/1')\n"
        "columns = sorted(model.metadata.metadata['columns'].items())\n"
        "print(sorted(model.metadata.signature.inputs.input_names()), columns)\n"
        "for x in ([1.0, 2.5], [2, 4]):\n"
        "    for kind in (pd.Categorical(['a', 'b']), ['a', None]):\n"
        "        frame = pd.DataFrame({'x': x, 'n': [1.0, None], 'kind': kind, 'extra': 0})\n"
        "        print(model.predict(frame)['uplift'].tolist())\n"
        "try:\n    model.predict(pd.DataFrame({'x': [1.0]}))\n"
        "except Exception as error:\n    print('n' in str(error) and 'kind' in str(error))\n"
    )
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{store}"], capture_output=True, text=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr[-2000:]
    expected = [
        str(saved[1].predict(pd.DataFrame({"x": x, "n": [1.0, None], "kind": kind})).tolist())
        for x in ([1.0, 2.5], [2, 4])
        for kind in (pd.Categorical(["a", "b"]), ["a", None])
    ]
    assert out.stdout.splitlines() == [
        "['kind', 'n', 'x'] [('kind', 'text'), ('n', 'number'), ('x', 'number')]", *expected, "True",
    ]  # fmt: skip


def test_the_champion_is_set_read_and_loaded(
    opened: Callable[..., Opened], with_model: str, saved: tuple[Path, Any], said: list[str]
) -> None:
    with opened() as tracker:
        assert tracker.champion("shop_uplift") is None
        assert tracker.champion("no such model") is None
        tracker.set_champion("shop_uplift", with_model, {"metric": "qini", "value": "0.25"})
        assert tracker.champion("shop_uplift") == ("1", {"metric": "qini", "value": "0.25"})
        tracker.tag_version("shop_uplift", with_model, {"verdict": "better"})
        assert tracker.champion("shop_uplift")[1]["verdict"] == "better"
        scores = tracker.load_champion("shop_uplift").predict(EXAMPLE)
        assert scores["uplift"].tolist() == saved[1].predict(EXAMPLE).tolist()
    assert said == []


def test_a_champion_whose_files_are_gone_does_not_end_tracking(
    opened: Callable[..., Opened], store: Path, with_model: str, said: list[str]
) -> None:
    with opened() as tracker:
        tracker.set_champion("shop_uplift", with_model, {})
        shutil.rmtree(store.parent / "mlartifacts")
        model = tracker.load_champion("shop_uplift")
        with pytest.raises(StoreError, match="the champion of shop_uplift cannot be loaded"):
            model.predict(EXAMPLE)
        assert tracker.active
    assert said == []


# --- a store that fails ---------------------------------------------------------------------------------------------


def exercise(tracker: Tracker) -> None:
    """Every call there is; none may raise."""
    with tracker.stage("ranker") as stage:
        stage.log_params({"a": 1})
        stage.log_metrics({"m": 1.0})
        stage.log_results({"effect": EFFECT})
        stage.log_history("h", [1.0])
        stage.log_figure(None, "f.png")
        stage.log_picture(b"png", "figures/f.png")
        stage.log_frame(pd.DataFrame({"a": [1]}), "t.json")
        stage.log_text("t", "t.txt")
        stage.set_tags({"a": "b"})
        stage.log_artifact(Path("nowhere"), "figures")
        stage.log_dataset("d", "s", "x", [], 1, context="training")
        assert stage.log_model(None, "m", EXAMPLE, requirements=[], registered_name="r") is None
    assert tracker.champion("r") is None
    assert tracker.load_champion("r") is None
    tracker.set_champion("r", "1", {})
    tracker.tag_version("r", "1", {})


def unwritable(kind: str, place: Path) -> str:
    if kind == "a directory as the file":
        (place / "mlflow.db").mkdir()
    if kind == "no database":
        (place / "mlflow.db").write_text("this is not a database, whatever its name says" * 50)
    if kind == "below a file":
        (place / "file").write_text("")
        return f"sqlite:///{place}/file/mlflow.db"
    if kind == "file store":
        return str(place / "mlruns")
    return f"sqlite:///{place}/mlflow.db"


@pytest.mark.parametrize("kind", ["a directory as the file", "below a file", "no database", "file store"])
def test_a_store_that_cannot_be_written_is_said_once_and_stops_nothing(
    opened: Callable[..., Opened], tmp_path: Path, said: list[str], kind: str
) -> None:
    before = sorted(p for p in tmp_path.rglob("*"))
    uri = unwritable(kind, tmp_path)
    with opened(uri=uri) as tracker:
        assert not tracker.active
        assert tracker.run_id is None
        exercise(tracker)
    assert said == [tracker.failure]
    assert said[0].startswith("tracking failed (")
    assert "the run goes on and its files are kept" in said[0]
    assert kind == "file store" or "cannot be written as an SQLite store" in said[0]
    left = {p.name for p in tmp_path.rglob("*") if p not in before}
    assert left <= {"mlflow.db", "file"}


def test_an_error_of_the_run_passes_a_dead_tracker(opened: Callable[..., Opened], tmp_path: Path) -> None:
    def work() -> None:
        with opened(uri=unwritable("below a file", tmp_path)) as tracker, tracker.stage("data"):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()


def test_mlflow_that_is_not_installed_is_said_with_the_remedy(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def refuse(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with opened() as tracker:
        exercise(tracker)
    assert said == [tracker.failure]
    assert "pip install 'causalrec[tracking]'" in said[0]


def test_tracking_that_is_off_does_not_import_mlflow(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        assert not name.startswith("mlflow")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(_runs, "optional_import", lambda *_, **__: pytest.fail("imported"))
    with opened(enabled=False) as tracker:
        exercise(tracker)
        assert not tracker.active
    assert (said, tracker.failure) == ([], None)


def test_a_store_that_breaks_in_mid_run(opened: Callable[..., Opened], store: Path, said: list[str]) -> None:
    with opened() as tracker:
        with tracker.stage("ranker") as stage:
            stage.log_metrics({"m": 1.0})
            shutil.copy(store, store.with_name("kept.db"))
            store.write_bytes(b"")
            stage.log_metrics({"m": 2.0})
            assert not tracker.active
        exercise(tracker)
    assert said == [tracker.failure]


def test_a_store_that_fails_for_a_moment_leaves_no_run_open(
    opened: Callable[..., Opened], client: Any, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    from mlflow import MlflowClient

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk is full\nand more")

    with opened() as tracker, tracker.stage("ranker") as stage:
        monkeypatch.setattr(MlflowClient, "log_batch", fail)
        stage.log_metrics({"m": 1.0})
        assert not tracker.active
    assert {r.info.status for r in runs_of(client).values()} == {"FINISHED"}
    assert said == ["tracking failed (disk is full); the run goes on and its files are kept. Check tracking.uri."]


def test_a_deleted_experiment_is_said_and_left_deleted(
    opened: Callable[..., Opened], client: Any, said: list[str]
) -> None:
    with opened():
        pass
    client.delete_experiment(client.get_experiment_by_name("shop").experiment_id)
    with opened() as tracker:
        assert not tracker.active
    assert len(said) == 1
    assert "the experiment 'shop' is deleted; restore it with `mlflow experiments restore" in said[0]
    assert client.get_experiment_by_name("shop").lifecycle_stage == "deleted"


def test_an_experiment_that_another_process_makes_at_this_moment_is_used(
    opened: Callable[..., Opened], client: Any, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    from mlflow import MlflowClient

    look, asked = MlflowClient.get_experiment_by_name, []

    def late(self: Any, name: str) -> Any:
        asked.append(name)
        return None if len(asked) == 1 else look(self, name)

    client.create_experiment("shop")
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    with opened() as tracker:
        assert tracker.active
    assert said == []


# --- the first start ------------------------------------------------------------------------------------------------

OPEN = """
import sys, time, mlflow
from causalrec.tracking import Tracker
while time.time() < float(sys.argv[2]):
    pass
said = []
with Tracker.open(uri=sys.argv[1], experiment="e", run_name=sys.argv[3], params={}, tags={}, say=said.append) as run:
    run.top.log_metrics({"m": 1.0})
print(said)
"""


@pytest.mark.slow
def test_two_processes_may_make_the_store_at_once(tmp_path: Path) -> None:
    import mlflow

    uri, start = f"sqlite:///{tmp_path}/deep/er/mlflow.db", str(time.time() + 12)
    command = [sys.executable, "-W", "ignore", "-c", OPEN, uri, start]
    found = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True, cwd=tmp_path) for name in "ab"]
    assert [process.communicate(timeout=240)[0] for process in found] == ["[]\n", "[]\n"]
    runs = runs_of(mlflow.MlflowClient(tracking_uri=uri), "e")
    assert {(name, run.info.status, run.data.metrics["m"]) for name, run in runs.items()} == {
        ("a", "FINISHED", 1.0),
        ("b", "FINISHED", 1.0),
    }
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["mlflow.db"]


def test_a_first_start_that_is_interrupted_leaves_nothing(
    opened: Callable[..., Opened], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "search_experiments", interrupt)
    place = tmp_path / "new"

    def work() -> None:
        with opened(uri=f"sqlite:///{place}/mlflow.db"):
            pass

    with pytest.raises(KeyboardInterrupt):
        work()
    assert list(place.iterdir()) == []


def test_the_store_is_made_where_there_are_no_hard_links(
    fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def copy(self: Any, **_: Any) -> None:
        shutil.copy(fresh_store, next(tmp_path.glob(".mlflow.db.*")))

    def no_links(*_: Any) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(MlflowClient, "__init__", lambda self, **_: None)
    monkeypatch.setattr(MlflowClient, "search_experiments", copy)
    monkeypatch.setattr(os, "link", no_links)
    _store._create_sqlite(tmp_path / "mlflow.db")
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == fresh_store.read_bytes()


# --- the user interface, and facts ----------------------------------------------------------------------------------


def test_the_ui_is_started_on_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {"code": 0}

    class Started:
        def __init__(self, command: list[str], **options: Any) -> None:
            seen.update(command=command, **options)

        def wait(self) -> Any:
            return seen["code"]

    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.chdir(store.parent)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=f"cannot listen on 127.0.0.1, port {port}: .*--port"):
            _store.serve_ui("sqlite:///mlflow.db", host="127.0.0.1", port=port)
    assert "command" not in seen
    _store.serve_ui("sqlite:///mlflow.db", host="127.0.0.1", port=port)
    line = " ".join(seen["command"])
    assert f"--backend-store-uri sqlite:///{store} --host 127.0.0.1 --port {port}" in line
    assert Path(seen["cwd"]) != store.parent
    seen["code"] = 1
    with pytest.raises(StoreError, match="ended by itself with code 1"):
        _store.serve_ui("sqlite:///mlflow.db", host="127.0.0.1", port=port)
    with pytest.raises(StoreError, match="there is no store at"):
        _store.serve_ui("sqlite:///other.db", host="127.0.0.1", port=port)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="tracking"):
        _store.serve_ui("sqlite:///mlflow.db", host="127.0.0.1", port=port)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
def test_an_interrupted_ui_takes_the_processes_that_it_started_along(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('pid.part').write_text(str(child.pid)); pathlib.Path('pid.part').rename('pid')\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    _store._stop(process)
    assert process.returncode == -signal.SIGTERM
    child = int((tmp_path / "pid").read_text())
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    if state.parent.parent.joinpath("self").exists():  # a zombie that nobody waits for is as good as gone
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_uris_are_made_absolute_only_where_they_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_uri("sqlite:////data/m.db") == "sqlite:////data/m.db"
    assert resolve_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "name, legal",
    [
        ("ndcg@10", "ndcg_at_10"),
        ("a b-c.d_e", "a b-c.d_e"),
        ("../up", ".._up"),
        ("é (%)", "é ___"),
        ("x" * 400, "x" * 250),
    ],
)
def test_names_are_legal(name: str, legal: str) -> None:
    assert legal_name(name) == legal


def test_metrics_of_a_result() -> None:
    found = result_metrics("qini", EFFECT)
    assert found["qini"] == 0.5
    assert found["qini_n"] == 100
    assert np.isnan(found["qini_pvalue"])
    assert "qini_confidence_level" not in found


def test_flat_parameters() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1]}) == {"a.b.c": 1, "a.d": {}, "e": [1]}


def test_the_commit_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "f").write_text("1")
    subprocess.run([*git, "add", "f"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "m"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert git_commit() == head
    (tmp_path / "f").write_text("2")
    assert git_commit() == f"{head}+"


def test_versions_are_those_installed() -> None:
    assert package_versions()["numpy"] == np.__version__
