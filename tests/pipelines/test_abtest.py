"""``causalrec abtest``: one table in; the numbers of the library, a report, a run directory and an MLflow run out."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from causalrec.abtest import adjust_pvalues
from causalrec.datasets import file_digest, simulate_service, simulate_service_days
from causalrec.engines import Engine, SparkEngine
from causalrec.exceptions import ColumnError, ConfigError, DatasetError, EngineError, TreatmentError
from causalrec.experiment_config import ExperimentConfig, load_experiment, parse_experiment
from causalrec.pipelines import abtest as abtest_module
from causalrec.pipelines.abtest import ABTestSummary, run_abtest
from causalrec.pipelines.abtest_page import alarms
from causalrec.pipelines.abtest_page import sections as page_sections
from causalrec.pipelines.data import write_service
from causalrec.pipelines.display import ConsoleReporter, print_abtest
from causalrec.pipelines.progress import SilentReporter
from causalrec.pipelines.rundir import RunDirectory, newest_run
from causalrec.results import AAResult, ABResult, ExperimentResult, OutlierResult
from causalrec.results.answers import answer_words
from causalrec.results.scorecard import scorecard_rows, short_pvalue

from ..conftest import REPO

N = 6_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("abtest")


@pytest.fixture(scope="module")
def table(place: Path) -> Path:
    return write_service(place / "service.parquet", n_users=N, seed=3, reporter=SilentReporter())[0]


def config_of(place: Path, *, tracked: bool = False, **changes: Any) -> ExperimentConfig:
    """The shipped experiment, written to and tracked below ``place``; some keys replaced."""
    raw = yaml.safe_load((REPO / "configs" / "abtest.yaml").read_text(encoding="utf-8"))
    tracking = {"uri": f"sqlite:///{place / 'mlflow.db'}", "enabled": tracked}
    return parse_experiment(raw | {"output_dir": str(place / "runs"), "tracking": tracking} | changes)


def small(place: Path, **changes: Any) -> ExperimentConfig:
    """Two quick metrics and nothing else."""
    metrics = {
        "minutes": {"kind": "mean", "column": "minutes", "covariates": ["minutes_pre"]},
        "converted": {"kind": "proportion", "column": "converted"},
    }
    checks = {"outlier_quantile": None, "distributions": False}
    return config_of(place, **({"metrics": metrics, "segments": [], "checks": checks, "decision": None} | changes))


@pytest.fixture(scope="module")
def config(place: Path) -> ExperimentConfig:
    return config_of(place, tracked=True, checks={"aa_simulations": 40})


@pytest.fixture(scope="module")
def summary(config: ExperimentConfig, table: Path) -> ABTestSummary:
    return run_abtest(config, table)


@pytest.fixture(scope="module")
def page(summary: ABTestSummary) -> str:
    return summary.report.read_text(encoding="utf-8")


def numbers(effects: tuple[ABResult, ...]) -> pd.DataFrame:
    names = ["estimate", "std_error", "ci_low", "ci_high", "relative_effect", "relative_ci_low", "pvalue", "n_obs"]
    return pd.DataFrame([e.to_dict() for e in effects]).set_index(["metric", "segment"])[names]


def assert_same(found: ExperimentResult, expected: ExperimentResult, rel: float = 1e-10) -> None:
    for name in ("effects", "segments", "pre_period", "diluted"):
        first, second = getattr(found, name), getattr(expected, name)
        assert len(first) == len(second)
        if first:
            pd.testing.assert_frame_equal(numbers(first), numbers(second), rtol=rel, atol=1e-12)
    assert [(r.arms, r.counts) for r in found.sample_ratio] == [(r.arms, r.counts) for r in expected.sample_ratio]


def test_the_numbers_are_those_of_the_library(summary: ABTestSummary, config: ExperimentConfig) -> None:
    frame, _ = simulate_service(N, random_state=3)
    assert_same(summary.results.experiment, config.experiment().analyze(frame))
    assert [o.metric for o in summary.results.outliers] == ["minutes", "sessions", "skip_rate"]
    assert [a.metric for a in summary.results.aa] == ["minutes", "sessions", "skip_rate", "converted", "retained_7d"]
    assert {a.n_simulations for a in summary.results.aa} == {40}


def test_the_run_directory_is_whole(summary: ABTestSummary, config: ExperimentConfig, table: Path) -> None:
    run = RunDirectory(summary.path)
    assert {p.name for p in summary.path.iterdir()} == {
        "config.yaml", "figures", "report.html", "results.json", "run.json",
    }  # fmt: skip
    assert load_experiment(summary.path / "config.yaml") == config
    read = run.results()
    assert_same(read["experiment"], summary.results.experiment, rel=0)
    assert [r.metric for r in read["aa"]] == [r.metric for r in summary.results.aa]
    info = run.info()
    assert info["command"] == "abtest"
    assert [d["digest"] for d in info["data"]] == [file_digest(table)]
    assert [p.name for p in summary.path.parent.iterdir()] == [summary.path.name]


def test_a_run_of_an_experiment_is_no_trained_run(summary: ABTestSummary) -> None:
    with pytest.raises(Exception, match="no trained run"):
        newest_run(summary.path.parent)


def test_the_page_has_every_part_and_needs_nothing_else(page: str, summary: ABTestSummary) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Effects", "Segments", "How it was decided", "Assignment", "Outliers and distributions", "A/A simulation",
        "How it was made",
    ]  # fmt: skip
    captions = re.findall(r"<caption>(.*?)</caption>", page)
    for caption in (
        "Every metric and arm against control", "How each is estimated", "Does the effect differ between groups?",
        "Effects within segments", "Split within segments: the most suspicious", "Outliers", "False positives",
        "Before the experiment, where nothing should differ",
    ):  # fmt: skip
        assert caption in captions
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    kept = [p.read_bytes() for p in sorted((summary.path / "figures").iterdir())]
    assert sorted(pictures) == sorted(kept)
    # Effects; 6 rates, 6 forests by segment; 3 distributions (one of minutes and their quantile); 5 A/A.
    assert len(kept) == 1 + 6 + 6 + 3 + 5
    assert captions.count("Every metric and arm against control") == 1
    assert "://" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    found = summary.results.experiment
    assert f"{found['minutes'].control_mean:.4g}" in page
    assert found.notes
    assert all(note.split("[")[0] in page for note in found.notes)


def test_the_page_answers_first_and_looks_at_the_right_column(page: str, summary: ABTestSummary) -> None:
    first = re.search(r'<ul class="findings findings">(.*?)</ul>', page, re.DOTALL)
    assert first is not None
    lines = re.findall(r"<li>(.*?)</li>", first.group(1))
    found = summary.results.experiment
    assert [line.partition(":")[0] for line in lines[:-1]] == [e.metric for e in found.effects]
    assert all(line.rstrip(".").partition(" (p")[0].endswith(answer_words(e))
               for line, e in zip(lines, found.effects, strict=False))  # fmt: skip
    assert "6 comparisons, each tested at 5%: p-values and intervals are not corrected" in lines[-1]
    skips = next(o for o in summary.results.outliers if o.metric == "skip_rate")
    assert (skips.column, skips.label) == ("skips", "skips")
    assert f"skip_rate, values of skips: above {skips.high:.4g}" in page
    assert "Distribution of skips" in page
    assert "Distribution of skip_rate" not in page
    assert "Distribution of minutes_p90" not in page


def outlier(pvalue: float) -> OutlierResult:
    return OutlierResult(
        "skip_rate", -math.inf, 203.0, pvalue, "chi-square", ("A", "B"), (1_000, 1_000), (5, 20), (1.0, 1.0),
        (1.0, 1.0), "skips",
    )  # fmt: skip


def test_alarms_are_of_what_makes_effects_doubtful(summary: ABTestSummary, table: Path, tmp_path: Path) -> None:
    sound = replace(summary.results, aa=(), outliers=(outlier(0.2),))
    assert not list(alarms(sound))
    (line,) = alarms(replace(sound, outliers=(outlier(0.0049),)))
    assert "skip_rate, of skips: above 203 are 5 of 1,000 (0.50%) in A, 20 of 1,000 (2.00%) in B; p = 0.0049" in line
    assert "the share differs" in "".join(page_sections(replace(sound, outliers=(outlier(0.0049),)), {})[-1].text)
    assert "no clear sign that the share differs" in "".join(page_sections(sound, {})[-1].text)
    noted = replace(sound.experiment, notes=("dropped 3 units that were in more than one arm",))
    assert list(alarms(replace(sound, experiment=noted))) == ["Dropped 3 units that were in more than one arm."]
    wrong = AAResult("minutes", 0.05, 0.2, 0.1, 0.3, 0.0, False, 100, 1_000, "z", np.r_[[0.01] * 20, [0.5] * 80])
    assert "A/A simulation: the test does not keep its level" in "".join(alarms(replace(sound, aa=(wrong,))))

    broken = run_abtest(small(tmp_path, weights={"control": 0.5, "treatment": 0.5}), table)
    assert broken.alarms[0].startswith("SAMPLE RATIO MISMATCH (p")
    html = broken.report.read_text(encoding="utf-8")
    assert html.index("SAMPLE RATIO MISMATCH") < html.index("minutes:")
    text = shown(broken, 110)
    assert text.index("SAMPLE RATIO MISMATCH") < text.index("minutes")


def test_a_pipe_has_the_width_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert ConsoleReporter().console.width == 72
    monkeypatch.delenv("COLUMNS")
    assert ConsoleReporter().console.width == 140


def test_the_interactions_are_corrected_for_their_number(summary: ABTestSummary) -> None:
    tests = summary.results.experiment.interactions
    assert len(tests) == 6 * 3
    pvalues = [test.pvalue for test in tests]
    first = min(range(len(tests)), key=pvalues.__getitem__)
    (sentence,) = summary.findings
    assert f"the effect on {tests[first].metric} differs most by {tests[first].dimension}" in sentence
    assert f"{short_pvalue(adjust_pvalues(pvalues, 'holm')[first])} corrected for their number" in sentence


def test_the_run_is_tracked(summary: ABTestSummary, config: ExperimentConfig, table: Path) -> None:
    client = mlflow.MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name("service")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (top,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert top.info.status == "FINISHED"
    stages = {run.data.tags["mlflow.runName"]: run for run in runs if run is not top}
    assert set(stages) == {"data", "A/B test", "outliers", "distributions", "A/A simulation", "report"}

    logged = top.data.metrics
    for effect in summary.results.experiment.effects:
        name = effect.metric
        assert logged[name] == effect.estimate
        assert logged[f"{name}_pvalue"] == effect.pvalue
        assert logged[f"{name}_n"] == effect.n_obs
        assert logged[f"{name}_ci_high"] == effect.ci_high
        assert logged[f"{name}_relative_effect"] == effect.relative_effect
        assert (f"{name}_ci_low" in logged) == (effect.ci_low > -float("inf"))
    assert logged["sample_ratio_pvalue"] == summary.results.experiment.sample_ratio[0].pvalue
    assert logged["minutes_aa_false_positive_rate"] == summary.results.aa[0].false_positive_rate
    assert top.data.params["metrics.minutes.winsorize"] == "0.999"
    assert top.data.params["variant"] == "variant"
    (data,) = top.inputs.dataset_inputs
    assert data.dataset.digest == file_digest(table)[: len(data.dataset.digest)]

    def files(run: Any, folder: str) -> set[str]:
        return {Path(f.path).name for f in client.list_artifacts(run.info.run_id, folder)}

    assert files(stages["report"], "figures") == {p.name for p in (summary.path / "figures").iterdir()}
    assert {"effects.json", "segments.json", "interactions.json"} <= files(stages["A/B test"], "tables")
    assert "report.html" in files(top, "")


@pytest.mark.parametrize("kind", ["csv", "directory", "config"])
def test_any_file_gives_the_same(kind: str, tmp_path: Path) -> None:
    frame, _ = simulate_service(N, random_state=3)
    path = tmp_path / "table.parquet"
    if kind == "directory":
        path = tmp_path / "table"
        path.mkdir()
        for i in range(3):
            frame.iloc[i::3].to_parquet(path / f"part{i}.parquet", index=False)
    elif kind == "csv":
        path = tmp_path / "table.csv"
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    retained = {"kind": "retention", "last_seen": "last_seen"}  # times, which a CSV file has as text
    config = small(tmp_path, metrics={"spend": {"kind": "mean", "column": "minutes"}, "retained": retained}, data=path)
    found = run_abtest(config, None if kind == "config" else path)
    assert_same(found.results.experiment, config.experiment().analyze(frame))


def test_the_same_run_twice_logs_the_same(table: Path, tmp_path: Path) -> None:
    changes = {"checks": {"aa_simulations": 20, "outlier_quantile": None, "distributions": False}}
    first, second = (run_abtest(small(tmp_path, **changes), table) for _ in range(2))
    texts = [(summary.path / "results.json").read_text(encoding="utf-8") for summary in (first, second)]
    assert texts[0] == texts[1]


def test_days_triggers_and_several_arms(tmp_path: Path) -> None:
    days, truth = simulate_service_days(1_500, n_days=6, random_state=1)
    days["variant"] = days["variant"].where(days["user_id"] % 3 > 0, "other")
    days["hit"] = days["user_id"] % 2 == 0
    path = tmp_path / "days.parquet"
    days.to_parquet(path, index=False)
    raw = {
        "name": "days", "variant": "variant", "control": "control", "cluster": "user_id", "day": "day",
        "metrics": {"minutes": {"kind": "mean", "column": "minutes"}}, "output_dir": str(tmp_path / "runs"),
        "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }  # fmt: skip
    found = run_abtest(parse_experiment(raw), path)
    result = found.results.experiment
    assert {t.treatment for t in result.trends} == {"other", "treatment"}
    trend = next(t for t in result.trends if t.treatment == "treatment")
    assert trend.ci_low < (truth["effect"].iloc[-1] - truth["effect"].iloc[0]) / 5 < trend.ci_high + 0.5
    html = found.report.read_text(encoding="utf-8")
    assert "<h2>Over time</h2>" in html
    assert "Change of the effect per day" in html
    client = mlflow.MlflowClient(raw["tracking"]["uri"])
    experiment = client.get_experiment_by_name("days")
    assert experiment is not None
    (top,) = client.search_runs([experiment.experiment_id], "tags.command = 'abtest'")
    assert {"minutes_other", "minutes_treatment", "minutes_treatment_trend"} <= set(top.data.metrics)

    triggered = parse_experiment({**raw, "day": None, "trigger": "hit", "tracking": {"enabled": False}})
    found = run_abtest(triggered, path)
    assert len(found.results.experiment.diluted) == 2
    html = found.report.read_text(encoding="utf-8")
    assert "On all units, triggered or not" in html
    assert "on all units, triggered or not" in shown(found, 110)


def shown(summary: ABTestSummary, width: int, *, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=terminal, highlight=False)
    print_abtest(summary, console)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 110, 140])
def test_the_terminal_shows_the_scorecard_within_its_width(summary: ABTestSummary, width: int) -> None:
    text = shown(summary, width, terminal=True)
    lines = text.splitlines()
    places = [line for line in lines if line.startswith(("run ", "report ", "tracking "))]
    assert len(places) == 3
    assert all(len(line) <= width for line in lines if line not in places)
    rows = [[cell.strip() for cell in re.split("[│|]", line)[1:-1]] for line in lines if "│" in line]
    scores = {row[0]: row for row in reversed(rows[:6])}
    for metric, *_, lift, _, p in scorecard_rows(summary.results.experiment.effects)[1:]:
        assert lift in scores[metric]
        assert p == [cell for cell in scores[metric] if cell][-1]
    words = " ".join(text.split())
    assert "sample ratio: control" in words
    assert "does the effect differ between groups?" in words
    assert "of 40 splits find an effect on minutes at alpha = 0.05" in words


@pytest.mark.parametrize(
    "changes, error, text",
    [
        ({"variant": "varaint"}, ColumnError, "Did you mean 'variant'?"),
        ({"metrics": {"m": {"kind": "mean", "column": "minuts"}}}, ColumnError, "Did you mean 'minutes'?"),
        ({"segments": ["devise"]}, ColumnError, "Did you mean 'device'?"),
        ({"control": "contrl"}, TreatmentError, "'contrl'.*'control'"),
        ({"weights": {"control": 0.9, "treated": 0.1}}, TreatmentError, "treat"),
        ({"where": "variant = 'control'"}, TreatmentError, "two arms"),
        ({"where": "minutes >"}, EngineError, "minutes >"),
    ],
)
def test_a_mistake_leaves_no_run(
    changes: dict[str, Any], error: type[Exception], text: str, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        run_abtest(small(tmp_path, **changes), table)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no table is named; give --data"):
        run_abtest(small(tmp_path, data=None))
    with pytest.raises(DatasetError, match=r"nope\.parquet does not exist; expected a Parquet or CSV file"):
        run_abtest(small(tmp_path), tmp_path / "nope.parquet")
    (tmp_path / "text.parquet").write_text("this is no parquet")
    with pytest.raises(DatasetError, match=r"text\.parquet"):
        run_abtest(small(tmp_path), tmp_path / "text.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"simulate it: causalrec data service --output data/service\.parquet"):
        run_abtest(small(tmp_path))


def test_a_store_that_fails_is_said_and_the_run_is_kept(table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = run_abtest(small(tmp_path, tracking={"uri": f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"}), table)
    assert found.report.is_file()
    assert "could not" in found.tracking or "cannot" in found.tracking, found.tracking


def test_written_service_data(tmp_path: Path) -> None:
    paths = write_service(tmp_path / "a.parquet", n_users=50, seed=9, reporter=SilentReporter())
    frame, truth = simulate_service(50, random_state=9)
    pd.testing.assert_frame_equal(pd.read_parquet(paths[0]), frame)
    pd.testing.assert_frame_equal(pd.read_parquet(paths[1]), truth.effects)
    assert [p.name for p in paths] == ["a.parquet", "a_truth.parquet"]
    with pytest.raises(ConfigError, match=r"ends in \.parquet"):
        write_service(tmp_path / "a.csv", n_users=50, seed=9, reporter=SilentReporter())


@pytest.mark.spark
@pytest.mark.slow
def test_spark_gives_the_same(
    spark_session: Any, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: ABTestSummary
) -> None:
    @contextmanager
    def beside(config: ExperimentConfig) -> Iterator[Engine]:
        assert config.engine.name == "spark"
        with SparkEngine(session=spark_session) as engine:
            yield engine

    monkeypatch.setattr(abtest_module, "opened_engine", beside)
    found = run_abtest(config_of(tmp_path, engine={"name": "spark"}), table)
    assert_same(found.results.experiment, summary.results.experiment, rel=1e-9)
    first, second = (
        json.loads((s.path / "results.json").read_text(encoding="utf-8"))["outliers"] for s in (found, summary)
    )
    assert [(o["n"], o["n_outside"]) for o in first] == [(o["n"], o["n_outside"]) for o in second]


def test_the_run_says_its_verdict_everywhere(summary: ABTestSummary, page: str, place: Path) -> None:
    verdict = summary.results.experiment.verdict
    assert verdict is not None
    word = verdict.verdict.upper().replace("'", "&#39;")
    assert page.index(word) < page.index("<table")
    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    parents = mlflow.search_runs(search_all_experiments=True, filter_string="tags.verdict != ''")
    assert parents["tags.verdict"].unique().tolist() == [verdict.verdict]


def test_beliefs_are_in_the_page_and_the_terminal(place: Path, table: Path) -> None:
    found = run_abtest(small(place, inference={"kind": "bayesian"}), table)
    html = found.report.read_text(encoding="utf-8")
    posterior = found.results.experiment.posteriors[0]
    assert posterior.answer.split(";")[0] in html
    assert "Beliefs" in html
    out = io.StringIO()
    print_abtest(found, Console(file=out, width=110))
    header = next(line for line in out.getvalue().splitlines() if "metric" in line)
    assert "difference" in header
    assert " p " not in header
