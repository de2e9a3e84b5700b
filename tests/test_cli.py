"""The command line: what a person who mistypes, interrupts or asks for help gets."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import causalrec
from causalrec import cli

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
COMMANDS = ("train", "evaluate", "infer", "ate", "abtest", "pipeline", "ui", "data", "design", "features", "report")
DATA = ("synth", "service", "campaign", "real")
REPORTS = ("dau", "funnel", "retention", "revenue", "quality", "credit", "attribution")
FEATURES = ("materialize", "list", "show", "load", "diff", "frame")


@dataclass(frozen=True)
class Outcome:
    code: object
    out: str
    err: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., Outcome]]:
    """The entry point with these arguments, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAUSALREC_DEBUG", raising=False)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["causalrec", *arguments])
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return Outcome(code or 0, captured.out, captured.err)

    yield call
    signal.signal(signal.SIGTERM, before)


def assert_user_error(outcome: Outcome, *texts: str) -> None:
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert all(text in outcome.err for text in texts), outcome.err


def test_help_lists_every_command(run: Callable[..., Outcome]) -> None:
    found = run("--help")
    assert found.code == 0
    assert all(re.search(rf"^\W*{command}\b", found.out, flags=re.MULTILINE) for command in COMMANDS)
    names = {c.name or getattr(c.callback, "__name__", "") for c in cli.app.registered_commands}
    assert names | {g.name for g in cli.app.registered_groups} == set(COMMANDS)


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, *(f"data {c}" for c in DATA), *(f"features {c}" for c in FEATURES), *(f"report {c}" for c in REPORTS)],
)
def test_every_command_has_help(run: Callable[..., Outcome], command: str) -> None:
    found = run(*command.split(), "--help")
    assert found.code == 0
    assert "Usage: causalrec" in found.out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json; sys.argv = ['causalrec', '--help']\nfrom causalrec.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(); print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(out.splitlines()[-1]))
    assert "typer" in loaded
    assert not loaded & {
        "numpy", "pandas", "scipy", "sklearn", "pyarrow", "duckdb", "xgboost", "pydantic", "yaml", "matplotlib",
        "mlflow", "dowhy", "econml", "pyspark", "jinja2", "streamlit", "plotly",
    }  # fmt: skip


def test_version(run: Callable[..., Outcome]) -> None:
    found = run("--version")
    assert (found.code, found.out.strip()) == (0, f"causalrec {causalrec.__version__}")


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--confg", "x"], "No such option"),
        (["train", "--set"], "requires an argument"),
        (["data", "synth", "--users", "0"], "--users"),
        (["data", "synth", "--users", "many"], "--users"),
        (["ui", "--port", "high"], "--port"),
        (["features", "lst"], "Did you mean 'list'?"),
        (["features", "materialize", "--start", "2025-01-01"], "--end"),
        (["features", "diff", "customer"], "OLD"),
        (["train", "stray"], "unexpected extra argument"),
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_line_that_cannot_be_parsed_is_answered_without_a_traceback(
    run: Callable[..., Outcome], arguments: list[str], text: str, debug: list[str]
) -> None:
    found = run(*arguments, *debug)
    assert found.code == 2
    assert text in " ".join(found.err.split())
    assert "Traceback" not in found.err


def test_a_missing_config(run: Callable[..., Outcome]) -> None:
    assert_user_error(
        run("train", "--config", "configs/marketplace.yaml"),
        "configs/marketplace.yaml does not exist; expected a YAML file",
    )
    assert_user_error(run("pipeline", "-c", "nope.yaml"), "nope.yaml")
    assert_user_error(run("evaluate", "--config", "nope.yaml"), "nope.yaml")


def test_a_typo_in_a_config_or_a_set(run: Callable[..., Outcome]) -> None:
    config = str(CONFIGS / "marketplace.yaml")
    assert_user_error(run("train", "--config", config, "--set", "sede=1"), "Did you mean 'seed'?")
    assert_user_error(run("train", "--config", config, "--set", "seed"), "--set 'seed' is not of the form key=value")


def test_no_run_to_evaluate_or_to_infer_with(run: Callable[..., Outcome], tmp_path: Path) -> None:
    for command in ("evaluate", "infer"):
        assert_user_error(run(command), "no trained run in runs/", "causalrec train")
        assert_user_error(run(command, "--run", "x"), "x is not a complete run")
    config = str(CONFIGS / "hillstrom.yaml")
    assert_user_error(run("evaluate", "--config", config), "no trained run of config 'hillstrom'")


def test_no_store_for_the_ui(run: Callable[..., Outcome]) -> None:
    assert_user_error(run("ui"), "mlflow.db", "causalrec train")


@pytest.mark.parametrize("place", range(4))
def test_debug_shows_the_traceback_wherever_it_stands(run: Callable[..., Outcome], place: int) -> None:
    line = ["train", "--config", "nope.yaml"]
    found = run(*line[:place], "--debug", *line[place:])
    assert found.code == 2
    assert "Traceback (most recent call last)" in found.err
    assert "load_config" in found.err
    assert found.err.splitlines()[-1].startswith("error: config file nope.yaml")


def test_debug_does_not_outlive_its_line(run: Callable[..., Outcome]) -> None:
    line = ("train", "--config", "nope.yaml")
    assert "Traceback" in run(*line, "--debug").err
    assert_user_error(run(*line), "does not exist")


def test_an_error_of_several_lines_is_shown_on_one(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise causalrec.CausalRecError("one\n  [red]two[/red]\nthree")

    monkeypatch.setattr("causalrec.config.load_config", fail)
    assert_user_error(run("train"), "error: one [red]two[/red] three")


def test_an_error_that_is_not_ours_keeps_its_traceback(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("causalrec.config.load_config", fail)
    with pytest.raises(ZeroDivisionError):
        run("train")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_exits_130(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr("causalrec.config.load_config", lambda *_: signal.raise_signal(number))
    found = run("train")
    assert found.code == 130
    assert "interrupted; nothing half-written was left behind." in found.err
    assert "Traceback" not in found.err


def test_options_reach_the_pipelines(run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("causalrec.pipelines.train.train", lambda config, reporter: seen.update(config=config))
    monkeypatch.setattr("causalrec.pipelines.display.print_summary", lambda *_: None)
    found = run("train", "-c", str(CONFIGS / "hillstrom.yaml"), "--set", "seed=3", "--set", "abtest.metrics=[visit]")
    assert found.code == 0
    assert (seen["config"].name, seen["config"].seed, seen["config"].abtest.metrics) == ("hillstrom", 3, ("visit",))


def test_options_of_evaluate_and_infer_reach_the_pipelines(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("causalrec.pipelines.rundir.open_run", lambda path: path)
    monkeypatch.setattr("causalrec.pipelines.evaluate.evaluate", lambda run, **given: seen.update(given, run=run))
    monkeypatch.setattr("causalrec.pipelines.infer.infer", lambda run, **given: seen.update(given, run=run))
    monkeypatch.setattr("causalrec.pipelines.display.print_summary", lambda *_: None)
    monkeypatch.setattr("causalrec.pipelines.display.print_inference", lambda *_: None)
    assert run("evaluate", "--run", "x").code == 0
    assert (seen["run"], seen["promote"]) == (Path("x"), False)
    assert run("evaluate", "--run", "x", "--promote").code == 0
    assert seen["promote"] is True
    assert run("infer", "--run", "x").code == 0
    assert (seen["batch"], seen["targeting"]) == (None, {})
    assert run("infer", "--run", "x", "-i", "b.csv", "--value", "2", "--cost", "0.5", "--budget", "100").code == 0
    assert (seen["batch"], seen["targeting"]) == (Path("b.csv"), {"value": 2.0, "cost": 0.5, "budget": 100.0})
    assert run("infer", "--run", "x", "--budget", "much").code == 2


def test_options_of_an_experiment_reach_its_pipeline(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        "causalrec.pipelines.abtest.run_abtest", lambda config, data, reporter: seen.update(config=config, data=data)
    )
    monkeypatch.setattr("causalrec.pipelines.display.print_abtest", lambda *_: None)
    found = run("abtest", "--data", "x.csv", "--engine", "spark", "--aa", "50", "--set", "seed=3")
    assert found.code == 0
    config = seen["config"]
    assert (config.name, config.seed, config.engine.name, config.checks.aa_simulations) == ("service", 3, "spark", 50)
    assert seen["data"] == Path("x.csv")
    assert run("abtest").code == 0
    assert (seen["config"].engine.name, seen["config"].checks.aa_simulations, seen["data"]) == ("local", 0, None)


def test_an_experiment_that_cannot_be_analysed(run: Callable[..., Outcome], tmp_path: Path) -> None:
    assert_user_error(run("abtest"), "service.parquet does not exist", "causalrec data service")
    assert_user_error(run("abtest", "--data", "nope.csv"), "nope.csv does not exist")
    assert_user_error(run("abtest", "--config", "marketplace"), "causalrec train --config marketplace")
    assert_user_error(run("train", "--config", "abtest"), "causalrec abtest --config abtest")
    assert_user_error(run("abtest", "--engine", "sparkk"), "'engine.name'", "sparkk")
    assert_user_error(run("data", "service", "--output", "x.csv"), "ends in .parquet")
    assert list(tmp_path.iterdir()) == []


def test_the_service_is_written(run: Callable[..., Outcome], tmp_path: Path) -> None:
    found = run("data", "service", "--output", "a/s.parquet", "--users", "20", "--seed", "1")
    assert found.code == 0
    assert "a/s.parquet" in found.out
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"s.parquet", "s_truth.parquet"}


def test_the_chosen_run_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("causalrec.pipelines.rundir.open_run", lambda path: SimpleNamespace(path=path))
    monkeypatch.setattr("causalrec.pipelines.rundir.newest_run", lambda place, name=None: (place, name))
    assert cli._chosen_run(tmp_path, None, None, Path("runs")).path == tmp_path
    assert cli._chosen_run(None, None, None, Path("here")) == (Path("here"), None)
    hillstrom = CONFIGS / "hillstrom.yaml"
    assert cli._chosen_run(None, hillstrom, None, Path("x")) == (Path("runs"), "hillstrom")
    assert cli._chosen_run(None, hillstrom, ["name=a", "output_dir=b"], Path("x")) == (Path("b"), "a")
    assert cli._chosen_run(None, None, ["output_dir=b"], Path("x")) == (Path("b"), None)


def test_the_app_is_a_typer_app() -> None:
    assert isinstance(cli.app, typer.Typer)
