"""``causalrec ate``: the numbers of the library, a run directory that is whole or absent, a mark on what fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalrec.datasets import file_digest, simulate_campaign
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError, DatasetError, EngineError
from causalrec.observational import ObservationalStudy
from causalrec.pipelines.ate import StudySummary, run_ate, write_study_report
from causalrec.pipelines.data import write_campaign
from causalrec.pipelines.progress import SilentReporter
from causalrec.pipelines.rundir import RunDirectory
from causalrec.study_config import StudyConfig, load_study, parse_study

N = 3_000
ENOUGH = ("loyalty", "engagement", "purchases_before")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ate")


@pytest.fixture(scope="module")
def table(place: Path) -> Path:
    return write_campaign(place / "campaign.parquet", n_users=N, seed=3, reporter=SilentReporter())[0]


def config_of(place: Path, *, tracked: bool = False, **changes: Any) -> StudyConfig:
    return parse_study({
        "name": "campaign", "treatment": "emailed", "outcome": "spend", "covariates": ENOUGH, "estimand": "att",
        "method": "ipw", "methods": ["ipw", "lin"], "output_dir": str(place / "runs"),
        "tracking": {"uri": f"sqlite:///{place / 'mlflow.db'}", "enabled": tracked},
        "refutation": {"n_simulations": 20, "negative_outcomes": ["sessions_before"]}, **changes,
    })  # fmt: skip


@pytest.fixture(scope="module")
def summary(place: Path, table: Path) -> StudySummary:
    return run_ate(config_of(place, tracked=True), table)


def test_the_numbers_are_those_of_the_library(summary: StudySummary) -> None:
    frame, _ = simulate_campaign(N, random_state=3)
    study = ObservationalStudy(frame, treatment="emailed", outcome="spend", covariates=list(ENOUGH), random_state=7)
    effect = study.estimate("ipw", estimand="att")
    found = summary.report
    pd.testing.assert_frame_equal(found.effect.to_frame(), effect.to_frame(), rtol=1e-10)
    assert set(found.comparison.names) == {"ipw", "lin"}
    again = study.refute(effect, n_simulations=20, negative_outcomes=["sessions_before"])
    pd.testing.assert_frame_equal(found.refutations.to_frame(), again.to_frame(), rtol=1e-8, atol=1e-10)
    pd.testing.assert_frame_equal(found.sensitivity.to_frame(), study.sensitivity(effect).to_frame(), rtol=1e-8)


def test_the_run_directory_is_whole(summary: StudySummary, place: Path, table: Path) -> None:
    run = RunDirectory(summary.path)
    assert {p.name for p in summary.path.iterdir()} == {
        "config.yaml", "figures", "report.html", "results.json", "run.json",
    }  # fmt: skip
    assert load_study(summary.path / "config.yaml") == config_of(place, tracked=True)
    assert str(run.results()["study"]) == str(summary.report)
    info = run.info()
    assert info["command"] == "ate"
    assert [d["digest"] for d in info["data"]] == [file_digest(table)]
    page = summary.page.read_text(encoding="utf-8")
    assert page.index(summary.report.conclusion[:20]) < page.index("Refutations</h2>")
    assert page.count("<img") == len(list((summary.path / "figures").glob("*.png")))


def test_everything_is_tracked(summary: StudySummary, place: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("campaign")
    (run,) = client.search_runs([experiment.experiment_id], "tags.command = 'ate'")
    metrics, found = run.data.metrics, summary.report
    assert metrics["average_effect"] == found.effect.estimate
    assert metrics["placebo_pvalue"] == found.refutations["placebo_treatment"].pvalue
    assert metrics["placebo_passed"] == 1
    assert metrics["sensitivity_gamma"] == found.sensitivity.gamma
    assert metrics["sensitivity_evalue"] == found.sensitivity.evalue
    assert metrics["sensitivity_robustness_value"] == found.sensitivity.robustness_value
    tags = run.data.tags
    assert (tags["estimand"], tags["placebo"], tags["refutations"]) == ("att", "passed", "passed")
    texts = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert {"identification.txt", "refutations.txt", "sensitivity.txt", "conclusion.txt", "report.html"} <= texts


def test_a_study_that_leaves_a_cause_out_is_marked(place: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from causalrec.tracking import Stage

    tags: dict[str, str] = {}
    monkeypatch.setattr(Stage, "set_tags", lambda _, found: tags.update(found))
    summary = run_ate(config_of(place, covariates=["loyalty", "purchases_before"], methods=["lin"]), table)
    assert not summary.report.refutations.passed
    assert summary.report.verdict == "doubtful"
    assert tags["refutations"] == "FAILED: negative_control_outcome: sessions_before"
    assert tags["placebo"] == "passed"  # a placebo cannot see it


def test_rows_by_a_condition(place: Path, table: Path) -> None:
    frame, _ = simulate_campaign(N, random_state=3)
    few = {"methods": ["lin"], "refutation": {"n_simulations": 20, "refuters": ["data_subset"]}}
    summary = run_ate(config_of(place, where="device = 'app'", covariates=["engagement"], **few), table)
    assert summary.report.n_obs == int((frame["device"] == "app").sum())


@pytest.mark.parametrize(
    "changes, error, words",
    [
        ({"outcome": "spent"}, ColumnError, ("'spent'", "spend")),
        ({"refutation": {"negative_outcomes": ["visits"]}}, ColumnError, ("'visits'",)),
        ({"method": "matchin"}, CausalRecError, ("'matchin'", "Did you mean 'matching'?")),
        ({"where": "device ="}, EngineError, ()),
        ({"treatment": "device"}, CausalRecError, ("treatment", "'app'")),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(
    tmp_path: Path, table: Path, changes: dict[str, Any], error: type[Exception], words: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        run_ate(config_of(tmp_path, **changes), table)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not list((tmp_path / "runs").glob("*"))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no table is named"):
        run_ate(config_of(tmp_path))
    with pytest.raises(DatasetError, match="causalrec data campaign --output"):
        run_ate(config_of(tmp_path), Path("data/campaign.parquet"))


def test_a_report_is_a_page_by_itself(summary: StudySummary, tmp_path: Path) -> None:
    page = write_study_report(summary.report, tmp_path / "effect.html", title="E-mail <b>")
    text = page.read_text(encoding="utf-8")
    assert "E-mail &lt;b&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
