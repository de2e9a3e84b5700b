"""A config is checked before anything runs, and a typo is answered with the nearest known key."""

from __future__ import annotations

import contextlib
import inspect
import string
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from causalrec.config import (
    RankerParams,
    RunConfig,
    load_config,
    parse_config,
)
from causalrec.exceptions import ConfigError
from causalrec.nuisance import BoostedClassifier, BoostedRegressor
from causalrec.ranking import Ranker
from causalrec.uplift_config import BoostedParams, CausalForestParams, ForestParams

FOLDER = Path(__file__).resolve().parents[1] / "configs"
OTHERS = ("abtest", "ate")  # of an experiment and of a study
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem not in OTHERS)
MARKETPLACE = next(p for p in CONFIGS if p.stem == "marketplace")


def message(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(raw)
    return str(error.value)


def override_message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(MARKETPLACE, overrides)
    text = str(error.value)
    assert "\n" not in text
    return text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_loads_and_comes_back_unchanged(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.description
    assert load_config(written(tmp_path, config.to_yaml())) == config


@settings(deadline=None, max_examples=40)
@given(
    text=st.text(max_size=20).filter(lambda t: t.isprintable()),
    arm=st.one_of(st.integers(-5, 5), st.sampled_from(["no", "1e3", "on", "null", "0x10", "1_0", "2024-01-01", "~"])),
    rate=st.floats(1e-6, 1.0),
)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, text: str, arm: Any, rate: float):
    design = {"table": "t", "unit": "u", "treatment": "w", "control": arm, "randomised": True}
    raw = {
        "name": "x",
        "description": text,
        "experiment": {**design, "outcomes": {"y": {"kind": "mean"}}},
        "uplift": {"params": {"learning_rate": rate}},
    }
    config = parse_config(raw)
    assert load_config(written(tmp_path_factory.mktemp("c"), config.to_yaml())) == config


def test_a_config_is_frozen() -> None:
    config = load_config(MARKETPLACE)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.experiment.table = "other"  # type: ignore[misc,union-attr]


@pytest.mark.parametrize(
    "override, key, near",
    [
        ("sede=1", "sede", "seed"),
        ("tracking.url=x", "tracking.url", "uri"),
        ("experiment.contrl=0", "experiment.contrl", "control"),
        ("experiment.outcomes.clicks.windw=7d", "experiment.outcomes.clicks.windw", "window"),
        ("experiment.outcomes.kind.whre=x", "experiment.outcomes.kind.whre", "where"),
        ("features.user.0.windw=7d", "features.user.0.windw", "window"),
        ("features.user_item.3.colum=x", "features.user_item.3.colum", "column"),
        ("ranker.params.max_dept=3", "ranker.params.max_dept", "max_depth"),
        ("ranker.candidates.n_recnt=3", "ranker.candidates.n_recnt", "n_recent"),
        ("uplift.params.n_estimatorss=3", "uplift.params.n_estimatorss", "n_estimators"),
        ("uplift.lerner=t", "uplift.lerner", "learner"),
        ("data.options.n_user=3", "data.options.n_user", "n_users"),
        ("engine.options.thread=2", "engine.options.thread", "threads"),
    ],
)
def test_an_unknown_key_is_refused_at_every_depth_and_the_nearest_named(override: str, key: str, near: str) -> None:
    found = override_message("experiment.outcomes.kind.kind=mean", override)
    assert f"unknown key '{key}'. Did you mean '{near}'?" in found


def test_a_key_like_no_other_is_answered_with_those_that_are_known() -> None:
    assert "Expected one of 'test_share', 'validation_share'." in override_message("split.zzz=1")
    assert "It takes none." in message(
        {"name": "x", "data": {"source": "files", "tables": {"t": "t.csv"}, "options": {"a": 1}}}
    )


def test_the_seed_of_a_learner_is_the_seed_of_the_run() -> None:
    for section in ("uplift", "ranker"):
        assert f"unknown key '{section}.params.random_state'" in override_message(f"{section}.params.random_state=3")


def test_settings_of_learners_are_those_that_the_learners_take() -> None:
    elsewhere = {"self", "random_state"}  # `seed`
    for base in (BoostedRegressor, BoostedClassifier):
        assert set(get_type_hints(BoostedParams)) == set(inspect.signature(base.__init__).parameters) - elsewhere
    for forest in (RandomForestRegressor, RandomForestClassifier):
        assert set(get_type_hints(ForestParams)) <= set(inspect.signature(forest.__init__).parameters) - elsewhere
    forest = pytest.importorskip("econml.dml").CausalForestDML
    assert set(get_type_hints(CausalForestParams)) <= set(inspect.signature(forest.__init__).parameters) - elsewhere
    assert set(get_type_hints(RankerParams)) == set(inspect.signature(Ranker.__init__).parameters) - elsewhere - {"k"}


@pytest.mark.parametrize(
    "override, expected",
    [
        ("seed=-1", "'seed': expected greater than or equal to 0 (found -1)."),
        ("seed=1.5", "'seed': expected a valid integer (found 1.5)."),
        ("seed=true", "'seed': expected a valid integer (found True)."),
        ("seed=", "'seed': expected a valid integer (found None)."),
        ("confidence_level=95", "'confidence_level': expected less than 1 (found 95)."),
        ("confidence_level=.nan", "'confidence_level'"),
        ("name=a b", "'name'"),
        ("engine.name=sparc", "'engine.name': expected 'local' or 'spark' (found 'sparc')."),
        ("data.source=hilstrom", "there is no source 'hilstrom'. Did you mean 'hillstrom'?"),
        ("split.test_share=1", "'split.test_share': expected less than 1 (found 1)."),
        ("split=3", "'split': expected a mapping of keys (found 3)."),
        ("features.user={op: count}", "'features.user': expected a list (found a dict)."),
        ("features.user.0.window=0d", "expected a positive whole number and a unit"),
        ("ranker.horizon=7 days", "'ranker.horizon': window is '7 days'"),
        ("ranker.horizon=99999999999999w", "longer than 64 bits"),
        ("features.user.3.column=null", "op 'sum' needs a column"),
        ("features.user.0.op=median", "'features.user.0.op'"),
        ("uplift.params.n_estimators=many", "'uplift.params.n_estimators': expected a valid integer (found 'many')."),
        ("uplift.params.max_depth=0", "'uplift.params.max_depth': expected greater than or equal to 1 (found 0)."),
        ("uplift.params=3", "'uplift.params': expected a mapping of keys (found 3)."),
        ("uplift.learner=dml", "'uplift.learner': expected 's', 't', 'x', 'r', 'dr'"),
        ("uplift.base=tree", "'uplift.base': expected 'boosted', 'linear' or 'forest' (found 'tree')."),
        ("uplift.n_folds=1", "'uplift.n_folds': expected greater than or equal to 2 (found 1)."),
        ("uplift.calibration=platt", "'uplift.calibration': expected 'sigmoid' or 'isotonic' (found 'platt')."),
        ("uplift.clip=0.5", "'uplift.clip': expected less than 0.5 (found 0.5)."),
        ("uplift.champion_metric=qinni", "'uplift.champion_metric': expected 'qini', 'auuc', 'autoc' or 'uplift_at_k'"),
        ("uplift.targeting={value: 3}", "'uplift.targeting.cost' is missing."),
        ("uplift.targeting={value: 3, cost: 0}", "'uplift.targeting.cost': expected greater than 0 (found 0)."),
        ("uplift.targeting={value: .inf, cost: 1}", "'uplift.targeting.value': expected a finite number (found inf)."),
        ("uplift.targeting={value: 3, cost: 1, budjet: 9}", "'uplift.targeting.budjet'. Did you mean 'budget'?"),
        ("uplift.design=trial", "'uplift.design': expected 'experiment' or 'campaign' (found 'trial')."),
        ("average_effect.n_placebo=5", "'average_effect.n_placebo': expected greater than or equal to 20"),
        ("experiment.control=no", "put words such as no and on"),
        ("experiment.treated=top_sellers", "treated and control are both 'top_sellers'"),
        ("experiment.outcomes={}", "'experiment.outcomes'"),
        ("experiment.outcomes.clicks.window=null", "needs both op and window"),
        ("experiment.outcomes.clicks={kind: mean, where: a > 1}", "where applies to an outcome from events"),
        ("experiment.covariates=[age, variant]", "covariates hold 'variant', which is the treatment"),
        ("experiment.covariates=[user_id]", "which is the unit"),
        ("data.tables={t: t.csv}", "give data.tables"),
    ],
)
def test_a_value_that_is_not_allowed_is_answered_with_what_is(override: str, expected: str) -> None:
    assert expected in override_message(override)


def test_an_outcome_is_no_covariate() -> None:
    found = message(
        {
            "name": "x",
            "experiment": {
                "table": "t", "unit": "u", "treatment": "w", "control": 0, "randomised": True,
                "outcomes": {"y": {"kind": "mean", "column": "spend"}}, "covariates": ["age", "spend"],
            },
        }
    )  # fmt: skip
    assert "covariates hold 'spend', which is the outcome" in found


@pytest.mark.parametrize(
    "override, key",
    [
        ("uplift.outcome=convertd", "uplift.outcome"),
        ("abtest.metrics=[clicks, convertd]", "abtest.metrics"),
    ],
)
def test_an_outcome_that_does_not_exist_is_refused(override: str, key: str) -> None:
    assert f"{key} names 'convertd', not an outcome of its table. Did you mean 'converted'?" in override_message(
        override
    )


def test_the_average_effect_is_about_the_campaign_where_there_is_one() -> None:
    assert "Expected one of 'bought', 'spend'." in override_message("average_effect.outcome=converted")
    config = load_config(MARKETPLACE, ["campaign=null", "average_effect.outcome=converted"])
    assert config.average_effect.outcome == "converted"


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = override_message("seed=-1", "split.test_share=1", "nam=x")
    assert all(text in found for text in ("'seed'", "'split.test_share'", "unknown key 'nam'"))


@pytest.mark.parametrize(
    "settings, expected",
    [
        (
            {"base": "linear", "params": {"n_estimators": 3}},
            "unknown key 'uplift.params.n_estimators'. Expected",
        ),
        ({"base": "forest", "params": {"learning_rate": 0.1}}, "unknown key 'uplift.params.learning_rate'"),
        ({"base": "forest", "params": {"max_feature": 0.1}}, "Did you mean 'max_features'?"),
        ({"learner": "causal_forest", "params": {"learning_rate": 0.1}}, "unknown key 'uplift.params.learning_rate'"),
        ({"learner": "causal_forest", "params": {"n_estimators": 10}}, "expected a multiple of 4 (found 10)."),
        ({"learner": "causal_forest", "base": "linear"}, "causal_forest, which has no base, but base is 'linear'"),
        ({"learner": "stacked", "members": ["t"]}, "stacking weighs at least two different learners"),
    ],
)
def test_settings_of_the_uplift_model_fit_together(settings: dict[str, Any], expected: str) -> None:
    assert expected in message({"name": "x", "uplift": settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"params": {"n_estimators": "auto", "max_depth": 3, "device": "cpu"}},
        {"learner": "r", "base": "linear", "params": {"alpha": 10.0}, "n_folds": 3, "clip": 0.01},
        {"learner": "causal_forest", "params": {"n_estimators": 40, "max_samples": 0.5}},
        {"learner": "stacked", "members": ["t", "x"], "base": "forest", "calibration": "isotonic"},
    ],
)
def test_settings_of_the_uplift_model_are_written_and_read_back(settings: dict[str, Any], tmp_path: Path) -> None:
    config = parse_config({"name": "x", "uplift": settings})
    assert {key: getattr(config.uplift, key) for key in settings} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    assert load_config(written(tmp_path, config.to_yaml())) == config


def test_the_design_of_the_uplift_model_must_be_there() -> None:
    assert "uplift.design is campaign, but there is no `campaign:` section" in override_message(
        "campaign=null", "uplift.design=campaign"
    )
    assert "uplift.outcome names 'converted', not an outcome of its table" in override_message(
        "uplift.design=campaign", "uplift.outcome=converted"
    )
    both = load_config(MARKETPLACE)
    assert both.uplift_design is both.experiment
    alone = load_config(MARKETPLACE, ["experiment=null"])
    assert alone.uplift_design is alone.campaign


@pytest.mark.parametrize("missing", ["table", "unit", "treatment", "control", "outcomes", "randomised"])
def test_a_missing_key_is_named(missing: str) -> None:
    design: dict[str, Any] = {
        "table": "t", "unit": "u", "treatment": "w", "control": 0, "randomised": True,
        "outcomes": {"y": {"kind": "mean"}},
    }  # fmt: skip
    del design[missing]
    assert message({"name": "x", "experiment": design}) == f"config: 'experiment.{missing}' is missing."


@pytest.mark.parametrize(
    "override, path, value",
    [
        ("data.options.n_users=50", ("data", "options", "n_users"), 50),
        ("data.options.start='2025-02-03'", ("data", "options", "start"), "2025-02-03"),
        ("abtest.metrics=[clicks, revenue]", ("abtest", "metrics"), ("clicks", "revenue")),
        ("abtest.metrics=null", ("abtest", "metrics"), None),
        ("campaign=", ("campaign",), None),
        ('experiment.control="no"', ("experiment", "control"), "no"),
        ("experiment.control=0", ("experiment", "control"), 0),
        ("description=a=b", ("description",), "a=b"),
        ('description="a: b"', ("description",), "a: b"),
        ("description=größer", ("description",), "größer"),
        (" output_dir = /tmp/x y", ("output_dir",), Path("/tmp/x y")),
        ("uplift.params.learning_rate=1e-3", ("uplift", "params", "learning_rate"), 0.001),
        ("features.user.0.window=3d", ("features", "user", 0, "window"), "3d"),
        ("features.item=[]", ("features", "item"), ()),
        ("ranker.candidates.grades.purchase=2", ("ranker", "candidates", "grades"), {"purchase": 2}),
    ],
)
def test_set_replaces_one_key(override: str, path: tuple[str | int, ...], value: Any) -> None:
    found: Any = load_config(MARKETPLACE, [override])
    for part in path:
        found = found[part] if isinstance(found, dict | tuple) else getattr(found, str(part))
    assert found == value
    assert type(found) is type(value) or isinstance(value, Path)


def test_the_last_set_wins_and_leaves_the_rest_as_it_was() -> None:
    before, after = load_config(MARKETPLACE), load_config(MARKETPLACE, ["seed=1", "seed=2", "split.test_share=0.4"])
    assert after.seed == 2
    assert after.model_copy(update={"seed": before.seed, "split": before.split}) == before


def test_set_makes_a_section_that_the_file_leaves_out(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\ntracking:\n")
    config = load_config(path, ["tracking.enabled=false", "ranker.params.max_depth=2"])
    assert config.tracking.enabled is False
    assert config.ranker.params == {"max_depth": 2}


def test_set_does_not_reach_what_an_anchor_shares(tmp_path: Path) -> None:
    text = (
        "name: x\n"
        "experiment: &e {table: a, unit: u, treatment: w, control: 0, randomised: true, outcomes: {y: {kind: mean}}}\n"
        "campaign: *e\n"
    )
    config = load_config(written(tmp_path, text), ["experiment.table=b"])
    assert config.experiment is not None
    assert config.campaign is not None
    assert (config.experiment.table, config.campaign.table) == ("b", "a")


@pytest.mark.parametrize(
    "override, expected",
    [
        ("seed", "is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ("a..b=3", "is not of the form key=value"),
        ("description=a: b: c", "cannot be read as YAML: mapping values are not allowed here"),
        ("features.user.x=3", "'x' picks no entry of a list of 7"),
        ("features.user.7.op=sum", "expected a number from 0 to 6"),
        ("name.x=3", "no keys such as 'x' below the single value 'marketplace'"),
        ("split={test_share: 3, test_share: 4}", "the key 'test_share' is given twice"),
    ],
)
def test_a_set_that_cannot_be_applied_is_refused(override: str, expected: str) -> None:
    assert expected in override_message(override)


@given(st.text(string.printable, max_size=15))
@settings(deadline=None, max_examples=60)
def test_any_set_gives_a_config_or_an_error_of_our_own(text: str) -> None:
    for override in (text, f"data.options={text}", f"seed={text}"):
        with contextlib.suppress(ConfigError):
            assert isinstance(load_config(MARKETPLACE, [override]), RunConfig)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "is empty; expected a mapping of sections"),
        ("# nothing\n", "is empty; expected a mapping of sections"),
        ("- a\n- b\n", "holds a list; expected a mapping"),
        ("name: x\n\tseed: 1\n", "cannot be read as YAML"),
        ("name: [x\n", "cannot be read as YAML"),
        ("name: x\nseed: 1\nseed: 2\n", "the key 'seed' is given twice (line 3, column 1)"),
        (
            "name: x\nsplit:\n  test_share: 3\n  test_share: 4\n",
            "the key 'test_share' is given twice (line 4, column 3)",
        ),
        ("name: x\nevents: {on: x}\n", "put numbers, and words such as no and on, in quotes"),
        ("name: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_config_is_answered_on_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, text))
    assert expected in str(error.value)
    assert "run.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_merge_keys_still_work(tmp_path: Path) -> None:
    text = "name: x\nevents: &e {table: a, user: u}\nsplit: {}\n"
    assert load_config(written(tmp_path, text)).events is not None
    design = "&d {unit: u, treatment: w, control: 0, randomised: true, table: t, outcomes: {y: {kind: mean}}}"
    config = load_config(
        written(tmp_path, f"name: x\nexperiment: {design}\ncampaign:\n  <<: *d\n  table: other\n  randomised: false\n")
    )
    assert config.campaign is not None
    assert (config.campaign.table, config.campaign.unit, config.campaign.randomised) == ("other", "u", False)


def test_a_file_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes("name: x\ndescription: größer\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path)


def test_a_missing_file_names_those_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("configs/shop.yaml", "other.yaml"):
        (tmp_path / name).write_text("name: x\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"nope\.yaml does not exist.*configs/shop\.yaml, other\.yaml"):
        load_config("nope.yaml")
    with pytest.raises(ConfigError, match=r"configs is a directory; expected a YAML file.*configs/shop\.yaml"):
        load_config("configs")


def test_a_missing_file_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"does not exist; expected a YAML file\. Those at hand: hillstrom, marketplace, "
    ):
        load_config("nope.yaml")


def test_yaml_1_1_is_left_as_it_is_elsewhere() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"  # the resolver belongs to our loader alone


def test_a_bare_name_is_a_shipped_config_unless_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("hillstrom", ["seed=3"]).seed == 3
    assert load_config("hillstrom").name == "hillstrom"
    with pytest.raises(ConfigError, match="hilstrom does not exist"):
        load_config("hilstrom")
    (tmp_path / "hillstrom").write_text("name: mine", encoding="utf-8")
    assert load_config("hillstrom").name == "mine"


def test_an_experiment_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"describes an A/B test .* with: causalrec abtest --config abtest"):
        load_config("abtest")
    (tmp_path / "configs").mkdir()
    for path, text in (("configs/shop.yaml", "name: x"), ("configs/test.yaml", "metrics: {}\nvariant: arm\n")):
        (tmp_path / path).write_text(text)
    (tmp_path / "configs" / "broken.yaml").write_text("a: [")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"Those at hand: configs/broken\.yaml, configs/shop\.yaml, hillstrom, "):
        load_config("nope.yaml")
