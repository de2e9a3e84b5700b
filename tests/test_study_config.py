"""A study's YAML: what is shipped is valid, what is wrong is named with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalrec.exceptions import ConfigError
from causalrec.study_config import load_study, parse_study

SHIPPED = Path(__file__).resolve().parents[1] / "configs" / "ate.yaml"
LEAST = {"name": "mail", "treatment": "emailed", "outcome": "spend"}


def refused(**more: object) -> str:
    with pytest.raises(ConfigError) as error:
        parse_study({**LEAST, **more})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_shipped_loads_and_comes_back_unchanged(tmp_path: Path) -> None:
    config = load_study(SHIPPED)
    assert config.description
    (tmp_path / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_study(tmp_path / "again.yaml") == config
    assert load_study("ate") == config


def test_overrides_replace_keys() -> None:
    config = load_study(SHIPPED, ["graph=null", "covariates=[loyalty]", "refutation.n_simulations=50"])
    assert (config.covariates, config.refutation.n_simulations) == (("loyalty",), 50)


def test_columns_are_named_once() -> None:
    config = parse_study({
        **LEAST, "covariates": ["age", "shop"], "clusters": "shop", "propensity": "score",
        "refutation": {"negative_outcomes": ["past"]},
    })  # fmt: skip
    assert config.columns() == ["emailed", "spend", "age", "shop", "past", "score"]
    assert parse_study({**LEAST, "propensity": 0.5}).columns() == ["emailed", "spend"]


@pytest.mark.parametrize(
    "more, words",
    [
        ({"graph": "digraph {a -> b}", "covariates": ["x"]}, ("not both",)),
        ({"options": {"caliper": 0.1}}, ("`method`",)),
        ({"covariats": ["x"]}, ("'covariats'", "Did you mean 'covariates'?")),
        ({"estimand": "att?"}, ("estimand", "'att'")),
        ({"refutation": {"n_simulation": 10}}, ("refutation.n_simulation", "n_simulations")),
        ({"refutation": {"n_simulations": 3}}, ("greater than or equal to 20",)),
        ({"propensity": 1.5}, ("propensity",)),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, object], words: tuple[str, ...]) -> None:
    text = refused(**more)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("other, command", [("abtest", "abtest"), ("marketplace", "train")])
def test_files_of_other_commands_are_sent_there(other: str, command: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected a study.* with: causalrec {command} --config {other}"):
        load_study(other)


def test_a_graph_is_looked_for_beside_its_config(tmp_path: Path) -> None:
    (tmp_path / "g.dot").write_text("digraph {x -> emailed; x -> spend; emailed -> spend}", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("name: a\ntreatment: emailed\noutcome: spend\ngraph: g.dot\n", encoding="utf-8")
    assert load_study(tmp_path / "c.yaml").graph == str(tmp_path / "g.dot")
