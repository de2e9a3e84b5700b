"""An experiment's YAML: the keys of the Python classes, each mistake named before any data is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from causalrec.abtest import (
    Equivalence,
    Experiment,
    Mean,
    NonInferiority,
    Proportion,
    Quantile,
    Ratio,
    Retention,
    SampleRatio,
    Superiority,
)
from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.inference import FixedHorizon
from causalrec.abtest.sequential.always_valid import AlwaysValid
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.spending import HwangShihDeCani
from causalrec.config import load_config
from causalrec.exceptions import ConfigError
from causalrec.experiment_config import (
    HYPOTHESES,
    METRICS,
    ExperimentConfig,
    inferred,
    load_experiment,
    parse_experiment,
)

MINIMAL: dict[str, Any] = {
    "name": "test", "variant": "arm", "control": "old", "metrics": {"spend": {"kind": "mean", "column": "spend"}},
}  # fmt: skip


def config(**changes: Any) -> ExperimentConfig:
    return parse_experiment(MINIMAL | changes)


def message(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        config(**changes)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("config: ")
    return text


def metric(**options: Any) -> Any:
    return config(metrics={"m": options}).experiment().metrics["m"]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"kind": "mean", "column": "x"}, Mean("x")),
        (
            {"kind": "mean", "column": "x", "covariates": ["a", "b"], "winsorize": [0.01, 0.99], "method": "z",
             "missing": "zero", "where": "x > 0"},
            Mean("x", covariates=("a", "b"), winsorize=(0.01, 0.99), method="z", missing="zero", where="x > 0"),
        ),
        ({"kind": "mean", "column": "x", "winsorize": 0.99}, Mean("x", winsorize=0.99)),
        ({"kind": "proportion", "column": "x", "method": "boschloo"}, Proportion("x", method="boschloo")),
        ({"kind": "proportion", "column": "x", "correction": True}, Proportion("x", correction=True)),
        (
            {"kind": "ratio", "numerator": "a", "denominator": "b", "covariates": ["c"]},
            Ratio("a", "b", covariates=("c",)),
        ),
        ({"kind": "quantile", "column": "x", "q": 0.9}, Quantile("x", 0.9)),
        (
            {"kind": "retention", "last_seen": "seen", "days": 14, "exposed": "from", "as_of": 30},
            Retention("seen", 14, exposed="from", as_of=30.0),
        ),
        (
            {"kind": "mean", "column": "x", "hypothesis": {"kind": "superiority", "alternative": "less"}},
            Mean("x", hypothesis=Superiority("less")),
        ),
        (
            {"kind": "mean", "column": "x",
             "hypothesis": {"kind": "non_inferiority", "margin": 0.1, "relative": True, "higher_is_better": False}},
            Mean("x", hypothesis=NonInferiority(0.1, relative=True, higher_is_better=False)),
        ),
        (
            {"kind": "mean", "column": "x", "hypothesis": {"kind": "equivalence", "margin": 2}},
            Mean("x", hypothesis=Equivalence(2.0)),
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_metric_is_what_python_would_make(options: dict[str, Any], expected: Any) -> None:
    assert metric(**options) == expected


def test_every_kind_has_a_class_and_every_key_of_it_is_known() -> None:
    assert set(METRICS) == {"mean", "proportion", "ratio", "quantile", "retention"}
    assert set(HYPOTHESES) == {"superiority", "non_inferiority", "equivalence"}
    own = {field.name for field in dataclasses.fields(Experiment)} - {"metrics"}
    assert own <= set(ExperimentConfig.model_fields)


def test_the_experiment_is_what_python_would_make() -> None:
    found = config(
        weights={"old": 0.9, "new": 0.1}, srm_threshold=0.01, unit="user", strata=["country"], segments=["device"],
        day="day", exposed_at="seen", trigger="hit", pool={"new": ["a", "b"]}, where="spend >= 0", on_conflict="drop",
        on_duplicate="drop", confidence_level=0.9, hypothesis={"kind": "superiority", "alternative": "greater"},
        relative="delta",
    ).experiment()  # fmt: skip
    assert found == Experiment(
        {"spend": Mean("spend"), "sample_ratio": SampleRatio({"old": 0.9, "new": 0.1}, 0.01)},
        variant="arm", control="old", unit="user", strata=("country",), segments=("device",), day="day",
        exposed_at="seen", trigger="hit", pool={"new": ("a", "b")}, where="spend >= 0", on_conflict="drop",
        on_duplicate="drop", confidence_level=0.9, hypothesis=Superiority("greater"), relative="delta",
    )  # fmt: skip


def test_arms_may_be_numbers() -> None:
    found = config(control=0, weights={0: 1, 1: 1}, pool={2: [3, 4]})
    assert found.experiment().control == 0
    assert found.experiment().metrics["sample_ratio"] == SampleRatio({0: 1.0, 1: 1.0})
    assert parse_experiment(yaml.safe_load(found.to_yaml())) == found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "weights": {"old": 2, "new": 1},
            "segments": ["a", "b"],
            "data": "x/y.csv",
            "hypothesis": {"kind": "superiority"},
        },
        {"metrics": {"r": {"kind": "ratio", "numerator": "a", "denominator": "b", "winsorize": [0.01, 0.99]}}},
        {"checks": {"aa_simulations": 10, "outlier_quantile": None, "distributions": False}},
    ],
)
def test_what_is_written_is_read_back(changes: dict[str, Any], tmp_path: Path) -> None:
    found = config(**changes)
    path = tmp_path / "test.yaml"
    path.write_text(found.to_yaml(), encoding="utf-8")
    assert load_experiment(path) == found
    assert load_experiment(path).experiment() == found.experiment()


@pytest.mark.parametrize(
    "section, expected",
    [
        ({"kind": "fixed"}, FixedHorizon()),
        ({"kind": "always_valid", "n_tuning": 5_000}, AlwaysValid(5_000)),
        (
            {"kind": "group_sequential", "fractions": [0.2, 1], "spending": "pocock"},
            GroupSequential((0.2, 1.0), "pocock"),
        ),
        (
            {"kind": "group_sequential", "fractions": [1], "spending": {"kind": "hwang-shih-decani", "gamma": -4}},
            GroupSequential((1.0,), HwangShihDeCani(-4.0)),
        ),
    ],
)
def test_an_inference_is_what_python_would_make(section: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    found = config(inference=section)
    assert found.experiment().inference == expected
    path = tmp_path / "test.yaml"
    path.write_text(found.to_yaml(), encoding="utf-8")
    assert load_experiment(path) == found


def test_a_decision_gives_roles() -> None:
    found = config(decision={"primary": "spend", "mde": {"spend": {"relative": 0.02}}, "units_per_day": 500})
    assert found.rule() == DecisionRule("spend", mde={"spend": {"relative": 0.02}}, units_per_day=500)
    assert found.roles() == {"spend": "primary"}
    assert parse_experiment(yaml.safe_load(found.to_yaml())) == found
    assert config().rule() is None
    assert config().roles() == {}


def test_another_inference_is_asked_for_by_name() -> None:
    fixed, bounds = config(), config(inference={"kind": "group_sequential", "fractions": [0.5]})
    assert inferred(fixed, None) is fixed
    assert inferred(fixed, None, sequential=True).experiment().inference == AlwaysValid()
    assert inferred(bounds, None, sequential=True) is bounds
    assert inferred(bounds, "group_sequential") is bounds
    assert inferred(bounds, "fixed").experiment().inference == FixedHorizon()
    with pytest.raises(ConfigError, match=r"--inference: 'inference': has the kind 'alwys_valid'.*'always_valid'"):
        inferred(fixed, "alwys_valid")
    with pytest.raises(ConfigError, match=r"'fractions' is missing"):
        inferred(fixed, "group_sequential")


def test_the_shipped_one_loads_and_comes_back(tmp_path: Path) -> None:
    found = load_experiment("abtest")
    assert (found.name, found.control) == ("service", "control")
    assert set(found.experiment().metrics) == {
        "minutes", "minutes_p90", "sessions", "skip_rate", "converted", "retained_7d", "sample_ratio",
    }  # fmt: skip
    path = tmp_path / "again.yaml"
    path.write_text(found.to_yaml(), encoding="utf-8")
    assert load_experiment(path) == found


def test_single_keys_are_replaced() -> None:
    found = load_experiment(
        "abtest", ["metrics.minutes.winsorize=0.99", "checks.aa_simulations=5", "control=treatment"]
    )
    assert found.experiment().metrics["minutes"] == Mean("minutes", covariates=("minutes_pre",), winsorize=0.99)
    assert (found.checks.aa_simulations, found.control) == (5, "treatment")
    with pytest.raises(ConfigError, match=r"minutes.*there is no key 'winsorise'.*Did you mean 'winsorize'"):
        load_experiment("abtest", ["metrics.minutes.winsorise=0.9"])


@pytest.mark.parametrize(
    "changes, texts",
    [
        ({"variannt": "x"}, ["unknown key 'variannt'", "Did you mean 'variant'?"]),
        ({"metrics": {}}, ["'metrics'", "at least 1"]),
        ({"metrics": {"m": {"column": "x"}}}, ["metrics.m", "no `kind`", "'mean'"]),
        ({"metrics": {"m": {"kind": "meen"}}}, ["'metrics.m'", "the kind 'meen'", "Did you mean 'mean'?"]),
        ({"metrics": {"m": {"kind": "mean"}}}, ["'metrics.m'", "'column' is missing"]),
        ({"metrics": {"m": {"kind": "mean", "colum": "x"}}}, ["there is no key 'colum'", "Did you mean 'column'?"]),
        ({"metrics": {"m": {"kind": "quantile", "column": "x", "q": 2}}}, ["'metrics.m'", "q is 2"]),
        ({"metrics": {"m": {"kind": "mean", "column": 3}}}, ["'column'", "found 3"]),
        ({"metrics": {"m": {"kind": "proportion", "column": "x", "method": "exact"}}}, ["'method'", "'exact'"]),
        ({"metrics": {"m": "mean"}}, ["'metrics.m'", "expected a mapping"]),
        (
            {"metrics": {"m": {"kind": "mean", "column": "x", "hypothesis": {"kind": "noninferiority", "margin": 1}}}},
            ["'metrics.m'", "hypothesis", "Did you mean 'non_inferiority'?"],
        ),
        ({"hypothesis": {"kind": "equivalence"}}, ["'hypothesis'", "'margin' is missing"]),
        ({"hypothesis": {"kind": "equivalence", "margin": -1}}, ["'hypothesis'", "margin is -1"]),
        ({"hypothesis": {"kind": "superiority", "alternative": "more"}}, ["'hypothesis'", "'more'"]),
        ({"weights": {"old": -1}}, ["'weights.old'", "greater than or equal to 0"]),
        ({"inference": {"kind": "alwaysvalid"}}, ["'inference'", "Did you mean 'always_valid'?"]),
        ({"inference": {"kind": "always_valid", "tuning": 5}}, ["'inference'", "'tuning'", "Did you mean 'n_tuning'?"]),
        ({"inference": {"kind": "group_sequential"}}, ["'inference'", "'fractions' is missing"]),
        ({"inference": {"kind": "group_sequential", "fractions": [0.5, 0.2]}}, ["'inference'", "above the one before"]),
        (
            {"inference": {"kind": "group_sequential", "fractions": [1], "spending": {"kind": "pococ"}}},
            ["'inference'", "spending", "Did you mean 'pocock'?"],
        ),
        ({"design": {"mde": {"spend": {"relativ": 0.1}}}}, ["'design.mde.spend.relativ'", "Did you mean 'relative'?"]),
        ({"design": {"mde": {"spnd": {"relative": 0.1}}}}, ["design.mde names 'spnd'", "Did you mean 'spend'?"]),
        ({"design": {"mde": {"spend": {"relative": 0, "absolute": 0}}}}, ["'design.mde.spend'", "not 0"]),
        ({"design": {"baselines": {"spend": {"mean": 3}}}}, ["'design.baselines.spend'", "`std`", "`proportion`"]),
        ({"design": {"looks": 0}}, ["'design.looks'", "greater than or equal to 1"]),
        ({"design": {"units_per_day": -5}}, ["'design.units_per_day", "found -5"]),
        ({"decision": {"primary": "spnd"}}, ["decision: ", "'spnd'", "Did you mean 'spend'?"]),
        ({"decision": {"primary": "spend", "guardrail": ["x"]}}, ["'decision'", "Did you mean 'guardrails'?"]),
        ({"decision": {"guardrails": ["spend"]}}, ["'decision'", "'primary' is missing"]),
        ({"decision": {"primary": "spend", "correction": "holms"}}, ["'decision'", "'holms'", "'holm'"]),
        (
            {
                "metrics": MINIMAL["metrics"] | {"slow": {"kind": "mean", "column": "slow"}},
                "decision": {"primary": "spend", "guardrails": ["slow"]},
            },
            ["decision: ", "the guardrail 'slow'", "needs a margin"],
        ),
        ({"control": True}, ["'control'", "in quotes"]),
        ({"relative": "log10"}, ["'relative'", "'fieller', 'delta' or 'log'", "found 'log10'"]),
        ({"on_conflict": "keep"}, ["'on_conflict'", "'raise' or 'drop'"]),
        ({"checks": {"aa": 3}}, ["unknown key 'checks.aa'", "'aa_simulations'"]),
        ({"checks": {"outlier_quantile": 1.0}}, ["'checks.outlier_quantile'", "less than 1"]),
        ({"strata": ["arm"]}, ["'arm' has several roles"]),
        ({"confidence_level": 95}, ["'confidence_level'", "less than 1"]),
        (
            {"weights": {"old": 1, "new": 1}, "metrics": {"sample_ratio": {"kind": "mean", "column": "x"}}},
            ["'sample_ratio'", "rename it"],
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_to_do(changes: dict[str, Any], texts: list[str]) -> None:
    text = message(**changes)
    assert [part for part in texts if part not in text] == [], text


def test_a_run_is_no_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("marketplace", "hillstrom"):
        with pytest.raises(ConfigError, match=rf"describes a run .*; run it with: causalrec train --config {name}"):
            load_experiment(name)
    assert load_config("hillstrom").name == "hillstrom"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"config file nope does not exist.* Those at hand: abtest\.$"):
        load_experiment("nope")


def test_a_file_that_is_neither_says_what_an_experiment_needs(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text("name: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'metrics' is missing\. 'variant' is missing\. 'control' is missing\."):
        load_experiment(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="is empty; expected a mapping of sections such as `metrics:` and `variant:`"):
        load_experiment(path)
