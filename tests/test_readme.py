"""The README's commands exist and its Python runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")


def test_python_snippets_run_and_print_what_they_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    promised: list[str] = []
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, namespace)  # one namespace: a later snippet goes on with an earlier one's market
        promised += [line[2:] for line in block.splitlines() if line.startswith("# ")]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) >= len(promised) >= 2
    for text in promised:
        start = text.removesuffix("…").rstrip(", ")
        assert any(line.startswith(start) for line in printed), f"README promises {text!r}; printed: {printed[:4]}"


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", README))
    assert named <= targets
    assert {"train", "test", "evaluate", "ui"} <= named


def test_help_lists_every_target_with_a_text() -> None:
    shown = subprocess.run(["make", "-s", "help"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    for target in (
        "setup",
        "lint",
        "test-slow",
        "abtest",
        "data-synth",
        "data-service",
        "data-real",
        "pipeline",
        "infer",
        "all-synth",
        "bench",
    ):
        assert re.search(rf"{target}\S*\s+\S+", shown), target


def test_the_yaml_examples_are_valid(tmp_path: Path) -> None:
    import yaml

    from causalrec.config import parse_config
    from causalrec.experiment_config import parse_experiment
    from causalrec.features import read_features

    test, config, declaration = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert set(parse_experiment(yaml.safe_load(test)).experiment().metrics) == {
        "ctr", "revenue", "complaints", "sample_ratio",
    }  # fmt: skip
    assert parse_config(yaml.safe_load(config)).experiment is not None
    (tmp_path / "features.yaml").write_text(declaration, encoding="utf-8")
    assert [each.name for each in read_features(tmp_path / "features.yaml")] == ["customer", "item", "when"]


def test_every_command_of_the_feature_store_exists() -> None:
    from causalrec.cli import features_app

    named = set(re.findall(r"causalrec features ([a-z]+)", README))
    assert len(named) >= 3
    assert named <= {command.name for command in features_app.registered_commands}


def test_every_name_of_the_library_that_is_listed_exists() -> None:
    from causalrec import abtest, plots

    (line,) = [line for line in README.splitlines() if line.startswith("`welch_test`")]
    functions, figures = line.split("are in `causalrec.abtest`;")
    assert set(re.findall(r"`(\w+)`", functions)) <= set(abtest.__all__)
    assert set(re.findall(r"`(plot_\w+)`", figures)) <= set(plots.__all__)
