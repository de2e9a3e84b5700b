"""``causalrec design``: sizes are those of the library, and the document of one page says all that was planned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from typer.testing import CliRunner

from causalrec.abtest import NonInferiority, Superiority, solve_power
from causalrec.abtest.sequential.always_valid import AlwaysValid
from causalrec.abtest.sequential.group_design import design_group_sequential
from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.cli import app
from causalrec.datasets import simulate_service
from causalrec.exceptions import CausalRecError, ConfigError, DatasetError, OutcomeError
from causalrec.experiment_config import ExperimentConfig, parse_experiment
from causalrec.pipelines.abtest_design import plan_experiment
from causalrec.pipelines.abtest_looks import plan_looks
from causalrec.pipelines.design_page import design_html, write_design

BASELINES = {
    "spend": {"mean": 10.0, "std": 20.0, "variance_reduction": 0.3},
    "bought": {"proportion": 0.2},
    "latency": {"mean": 200.0, "std": 50.0},
}
RAW: dict[str, Any] = {
    "name": "checkout", "description": "Does <one page> sell more?", "variant": "arm", "control": "old",
    "weights": {"old": 0.5, "new": 0.5}, "unit": "user_id", "segments": ["device"],
    "metrics": {
        "spend": {"kind": "mean", "column": "spend", "covariates": ["before"]},
        "bought": {"kind": "proportion", "column": "bought"},
        "latency": {
            "kind": "mean", "column": "latency",
            "hypothesis": {"kind": "non_inferiority", "margin": 0.02, "relative": True, "higher_is_better": False},
        },
    },
    "design": {"baselines": BASELINES, "mde": {"spend": {"relative": 0.05}}, "units_per_day": 1_000},
}  # fmt: skip


def config(**changes: Any) -> ExperimentConfig:
    return parse_experiment(RAW | changes)


def designed(**changes: Any) -> ExperimentConfig:
    return config(design=RAW["design"] | changes)


@pytest.fixture(scope="module")
def page() -> str:
    chosen = config()
    return design_html(chosen, plan_experiment(chosen))


def test_sizes_are_those_of_the_library() -> None:
    plan = plan_experiment(config())
    spend, bought, latency = plan.metrics
    expected = solve_power(mean=10, std=20, variance_reduction=0.3, effect=0.5, power=0.8)
    assert (spend.role, bought.role, latency.role) == ("primary", "secondary", "guardrail")
    assert spend.needed is not None
    assert spend.needed.n_obs == expected.n_obs == plan.n_obs == plan.most_units
    assert plan.days == -(-expected.n_obs // 1_000)
    margin = NonInferiority(0.02, relative=True, higher_is_better=False)
    assert latency.needed is not None
    assert latency.needed.n_obs == solve_power(mean=200, std=50, hypothesis=margin, effect=0, power=0.8).n_obs
    assert bought.needed is None
    assert bought.seen is not None
    assert bought.seen.effect == solve_power(proportion=0.2, n_obs=plan.n_obs, power=0.8).effect
    assert plan.largest.name == "spend"


def test_several_primary_comparisons_share_the_false_alarms() -> None:
    mde = {"spend": {"relative": 0.05}, "bought": {"absolute": 0.01}}
    plan = plan_experiment(
        config(weights={"old": 2, "a": 1, "b": 1}, design=RAW["design"] | {"mde": mde}),
    )
    assert plan.n_comparisons == 4
    found = {m.name: m.needed.n_obs for m in plan.of("primary") if m.needed}
    options: dict[str, Any] = {"alpha": 0.05 / 4, "weights": (0.5, 0.25, 0.25), "power": 0.8}
    assert found["bought"] == solve_power(proportion=0.2, effect=0.01, **options).n_obs
    assert found["spend"] == solve_power(mean=10, std=20, variance_reduction=0.3, effect=0.5, **options).n_obs
    assert plan.n_obs == max(found.values())


@pytest.mark.parametrize("spending", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("side", ["two-sided", "greater"])
def test_looks_agree_with_the_group_sequential_design(spending: str, side: str) -> None:
    fixed = solve_power(mean=10, std=20, effect=0.5, power=0.8, alternative=side, method="normal")
    found = plan_looks(
        GroupSequential((1.0,), spending), fixed, Superiority(side), (0.5, 0.5), alpha=0.05, power=0.8, n_looks=4  # type: ignore[arg-type]
    )  # fmt: skip
    assert found is not None
    expected = design_group_sequential(power=0.8, alpha=0.05, n_looks=4, spending=spending, alternative=side)
    assert found.n_obs[-1] / fixed.n_obs == pytest.approx(expected.inflation_factor, abs=2e-4)
    assert found.stopped[-1] == pytest.approx(0.8, abs=1e-4)
    assert found.stopped_null[-1] == pytest.approx(0.05, abs=1e-5)
    assert found.expected < found.n_obs[-1]


def test_always_valid_looks_are_those_of_a_simulation() -> None:
    fixed = solve_power(mean=10, std=20, effect=0.5, power=0.8, method="normal")
    found = plan_looks(AlwaysValid(50_000), fixed, Superiority(), (0.5, 0.5), alpha=0.05, power=0.8, n_looks=5)
    assert found is not None
    rng = np.random.default_rng(5)
    n = np.array(found.n_obs)
    steps = rng.standard_normal((100_000, 5)) * np.sqrt(np.diff(n, prepend=0))
    drift = 0.5 / np.sqrt(4 * 20.0**2 / n)  # the mean of z at each look
    z = np.cumsum(steps, axis=1) / np.sqrt(n) + drift
    crossed = np.maximum.accumulate(np.abs(z) > np.array(found.bound), axis=1).mean(axis=0)
    low, high = (stats.binom.ppf(q, len(z), found.stopped) / len(z) for q in (1e-4, 1 - 1e-4))
    assert ((low <= crossed) & (crossed <= high)).all()
    assert found.stopped_null[-1] < 0.05


def test_one_look_needs_no_plan_of_looks() -> None:
    assert plan_experiment(config()).looks is None
    sequential = config(inference={"kind": "always_valid", "n_tuning": 20_000})
    plan = plan_experiment(sequential)
    assert plan.looks is not None
    assert plan.most_units > plan.n_obs
    html = design_html(sequential, plan)
    assert "Looks (always valid)" in html
    assert f"{plan.most_units:,}" in html
    assert "Nothing else." not in html


def test_the_page_says_what_is_planned(page: str) -> None:
    plan = plan_experiment(config())
    text = re.sub(r"<[^>]+>", " ", page)
    for part in (
        "Does &lt;one page&gt; sell more?", f"{plan.n_obs:,}", "Primary: what is decided on",
        "is it less than 2% higher?",
        "old : new", "50% : 50%", "Ship, if spend improves and latency is shown within the margin.",
        "Don&#39;t ship, if latency is beyond the margin", "p &lt; 0.001", "For 80% power",
        "What would stop it", "the numbers in the config", "Arms do not differ before the start: before",
    ):  # fmt: skip
        assert part in text, part
    assert page.count("<img") == 1
    assert "://" not in page
    for role in ("Primary", "Guardrails", "Secondary"):
        assert role in page


@pytest.mark.parametrize("arms", [True, False])
def test_a_past_period_gives_the_same_as_its_control(arms: bool, tmp_path: Path) -> None:
    frame, _ = simulate_service(3_000, random_state=4)
    path = tmp_path / "past.parquet"
    past = frame if arms else frame.drop(columns="variant")
    past.to_parquet(path, index=False)
    raw = RAW | {
        "variant": "variant", "control": "control", "weights": {"control": 1, "treatment": 1}, "segments": [],
        "metrics": {
            "minutes": {"kind": "mean", "column": "minutes", "covariates": ["minutes_pre"]},
            "converted": {"kind": "proportion", "column": "converted"},
        },
        "design": {"mde": {"minutes": {"relative": 0.03}, "converted": {"relative": 0.1}}},
    }  # fmt: skip
    chosen = parse_experiment(raw)
    plan = plan_experiment(chosen, path)
    if arms:
        expected = chosen.experiment().solve_power(frame, relative_effect=0.03, power=0.8, alpha=0.025)
        assert plan.metrics[0].needed is not None
        assert plan.metrics[0].needed.n_obs == expected[0].n_obs
    else:
        assert plan.metrics[1].design is not None
        rest = past[past["user_id"] != past["user_id"].min()]  # one unit is set apart
        assert plan.metrics[1].design.baseline == pytest.approx(rest["converted"].mean(), rel=1e-12)
        r2 = np.corrcoef(rest["minutes"], rest["minutes_pre"])[0, 1] ** 2
        assert plan.metrics[0].design is not None
        assert plan.metrics[0].design.variance_reduction == pytest.approx(r2, rel=1e-8)
    assert str(path) in plan.source


def test_rows_without_a_unit_can_be_a_past_period(tmp_path: Path) -> None:
    path = tmp_path / "past.csv"
    pd.DataFrame({"spend": np.arange(50.0)}).to_csv(path, index=False)
    metrics = {"spend": {"kind": "mean", "column": "spend"}}
    chosen = config(unit=None, segments=[], metrics=metrics, control=0, weights={0: 1, 1: 1},
                    design={"mde": {"spend": {"absolute": 3}}})  # fmt: skip
    design = plan_experiment(chosen, path).metrics[0].design
    assert design is not None
    assert design.std == pytest.approx(np.arange(50.0).std(ddof=1), rel=0.05)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing is known of 'spend' in control.*design\.baselines\.spend.*--data"):
        plan_experiment(designed(baselines={}))
    with pytest.raises(ConfigError, match=r"smallest effect on 'spend' that matters is not given.*design\.mde\.spend"):
        plan_experiment(designed(mde={}))
    with pytest.raises(DatasetError, match=r"nope\.parquet does not exist"):
        plan_experiment(designed(baselines={}), tmp_path / "nope.parquet")
    up = RAW["metrics"]["spend"] | {"hypothesis": {"kind": "superiority", "alternative": "greater"}}
    down = {"baselines": {"spend": BASELINES["spend"]}, "mde": {"spend": {"relative": -0.1}}}
    with pytest.raises(CausalRecError, match=r"spend: .*greater"):
        plan_experiment(config(metrics={"spend": up}, design=down))
    with pytest.raises(ConfigError, match=r"weights give control 'old' or the other arms no share"):
        plan_experiment(config(weights={"old": 1.0, "new": 0.0}))
    constant = tmp_path / "constant.parquet"
    pd.DataFrame({"user_id": range(20), "spend": 1.0, "before": np.arange(20.0)}).to_parquet(constant)
    with pytest.raises(OutcomeError, match="spend: every value of control is the same"):
        plan_experiment(config(segments=[], metrics={"spend": RAW["metrics"]["spend"]},
                               design={"mde": {"spend": {"relative": 0.1}}}), constant)  # fmt: skip


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    file = tmp_path / "checkout.yaml"
    file.write_text(yaml.safe_dump(RAW | {"output_dir": str(tmp_path)}), encoding="utf-8")
    found = CliRunner().invoke(app, ["design", "--config", str(file)])
    assert found.exit_code == 0, found.output
    assert "units in all arms" in found.output
    assert "primary spend" in found.output
    assert (tmp_path / "checkout_design.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    document = write_design(config(output_dir=str(tmp_path)), output=tmp_path / "deep" / "page.html")
    assert document.path.is_file()
    assert document.lines[0].startswith(f"{document.plan.most_units:,} units")
