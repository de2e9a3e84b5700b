"""The average effect of a design: covariates without gaps, the method that the design allows, whose effect it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.config import OutcomeConfig, RunConfig, parse_config
from causalrec.exceptions import CausalRecError, ConfigError
from causalrec.observational import METHODS, ObservationalStudy
from causalrec.pipelines.designs import Design
from causalrec.pipelines.effect import estimate_effect
from causalrec.pipelines.inputs import Truth


def design_of(frame: pd.DataFrame, covariates: tuple[str, ...], *, randomised: bool = True) -> Design:
    return Design(
        name="campaign", frame=frame, unit="user_id", treatment="t", control="no", treated="yes",
        outcomes={"y": OutcomeConfig(kind="mean"), "z": OutcomeConfig(kind="mean")}, covariates=covariates,
        randomised=randomised, expected_share=None,
    )  # fmt: skip


def config_of(**average_effect: Any) -> RunConfig:
    return parse_config({"name": "test", "average_effect": {"n_placebo": 20, **average_effect}})


def confounded(n: int = 400, seed: int = 1) -> pd.DataFrame:
    """The effect is 1 + x; who is treated depends on x, and so does the outcome."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, n) / 2
    t = (rng.random(n) < 1 / (1 + np.exp(1.0 - x))).astype(np.int64)
    y = 2 * x + (1 + x) * t + rng.normal(0, 0.5, n)
    return pd.DataFrame({"user_id": np.arange(n), "t": t, "y": y, "z": -y, "x": x})


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


# --- covariates with gaps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("randomised", [True, False])
def test_gaps_are_marked_and_said(randomised: bool) -> None:
    frame = confounded().assign(
        a=lambda f: np.where(f["user_id"] % 5 == 0, np.nan, f["user_id"] % 7.0),
        b=lambda f: pd.Categorical(np.where(f["user_id"] % 9 == 0, None, "u"), categories=["u", "v"]),
    )
    before = frame.copy()
    found = estimate_effect(
        design_of(frame, ("a", "b", "x"), randomised=randomised), config_of(cross_check=False), silent
    )
    assert found.notes == (
        "a: 80 missing values set to 0, with the indicator a_missing",
        "b: 45 missing values as a level of their own",
    )
    assert set(found.balance.to_frame()["covariate"]) == {"a", "a_missing", "b_u", "b_(missing)", "x"}
    pd.testing.assert_frame_equal(frame, before)


# --- the method -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence_level", [0.95, 0.8])
def test_a_randomised_design_is_estimated_by_the_difference_in_means(confidence_level: float) -> None:
    frame = confounded()
    config = config_of(cross_check=False).model_copy(update={"confidence_level": confidence_level})
    seen: list[tuple[int, int]] = []
    found = estimate_effect(design_of(frame, ("x",)), config, lambda done, total: seen.append((done, total)))
    arms = [frame.loc[frame["t"] == a, "y"] for a in (0, 1)]
    effect = found.effect
    assert effect.estimate == pytest.approx(arms[1].mean() - arms[0].mean(), rel=1e-12)
    error = np.sqrt(sum(a.var(ddof=1) / len(a) for a in arms))
    half = stats.norm.ppf(0.5 + confidence_level / 2) * error
    assert (effect.ci_low, effect.ci_high) == pytest.approx((effect.estimate - half, effect.estimate + half), rel=1e-9)
    assert found.identification.backdoor_variables == ()
    assert found.cross_check is None
    assert seen[-1] == (60, 60)  # a placebo, subsets and dummy outcomes


def test_a_campaign_is_matched_and_the_difference_in_means_refused() -> None:
    design = design_of(confounded(), ("x",), randomised=False)
    found = estimate_effect(design, config_of(), silent)
    assert "matching" in found.effect.method
    assert found.identification.backdoor_variables == ("x",)
    assert found.cross_check is not None
    assert "AIPW" in found.cross_check.method
    with pytest.raises(CausalRecError, match=r"campaign is not randomised.*Use matching or aipw"):
        estimate_effect(design, config_of(method="difference_in_means"), silent)


def test_the_confounded_difference_is_corrected() -> None:
    """x has four values, so matching on the score is exact stratification: the mean over strata of the differences."""
    frame = confounded(800)
    found = estimate_effect(design_of(frame, ("x",), randomised=False), config_of(cross_check=False), silent)
    cells = frame.groupby(["x", "t"])["y"].mean().unstack()
    expected = ((cells[1] - cells[0]) * frame["x"].value_counts(normalize=True)).sum()
    assert found.effect.estimate == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "covariates", "expected"),
    [
        ({}, ("x",), True),
        ({"cross_check": False}, ("x",), False),
        ({"method": "aipw"}, ("x",), False),  # it would be the same estimate twice
        ({"estimand": "att", "method": "ipw"}, ("x",), True),
        ({"estimand": "ato", "method": "overlap_weights"}, ("x",), False),  # another population
        ({"method": "difference_in_means"}, (), False),
    ],
)
def test_the_cross_check_is_there_where_it_says_something(
    settings: dict[str, Any], covariates: tuple[str, ...], expected: bool
) -> None:
    found = estimate_effect(design_of(confounded(), covariates), config_of(**settings), silent)
    assert (found.cross_check is not None) == expected


@pytest.mark.parametrize(("outcome", "sign"), [(None, 1), ("y", 1), ("z", -1)])
def test_the_outcome_is_the_first_unless_one_is_named(outcome: str | None, sign: int) -> None:
    frame = confounded()
    found = estimate_effect(design_of(frame, ()), config_of(outcome=outcome), silent)
    means = frame.groupby("t")["y"].mean()
    assert found.effect.estimate == pytest.approx(sign * (means[1] - means[0]), rel=1e-12)


# --- whose effect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("estimand", "arms"), [("ate", (0, 1)), ("att", (1,)), ("atc", (0,))])
def test_the_truth_is_that_of_the_units_that_the_estimand_is_about(estimand: str, arms: tuple[int, ...]) -> None:
    frame = confounded(800)
    config = config_of(estimand=estimand, method="matching", cross_check=False)
    found = estimate_effect(design_of(frame, ("x",), randomised=False), config, silent)
    expected = frame.loc[frame["t"].isin(arms), "user_id"]
    assert found.units.tolist() == expected.tolist()
    truth = Truth(pd.DataFrame({"user_id": frame["user_id"], "tau": 1 + frame["x"]}).sample(frac=1, random_state=0))
    mean = truth.mean("tau", found.units)
    assert mean == pytest.approx((1 + frame["x"])[frame["t"].isin(arms)].mean(), rel=1e-12)
    effect = found.effect
    assert abs(effect.estimate - mean) < 4 * effect.std_error
    cells = frame.groupby(["x", "t"])["y"].mean().unstack()
    weights = frame.loc[frame["t"].isin(arms), "x"].value_counts(normalize=True)
    assert effect.estimate == pytest.approx(((cells[1] - cells[0]) * weights).sum(), rel=1e-9)


def test_an_unknown_truth_is_no_number() -> None:
    truth = Truth(pd.DataFrame({"user_id": [1, 2], "tau": [1.0, 3.0]}))
    assert truth.mean("tau", pd.Series([2])) == 3.0
    assert np.isnan(truth.mean(None, [1]))
    assert np.isnan(truth.mean("other", [1]))


def test_the_overlap_has_no_truth_of_its_own() -> None:
    config = config_of(estimand="ato", method="overlap_weights")
    found = estimate_effect(design_of(confounded(), ("x",), randomised=False), config, silent)
    assert found.units is None
    assert "weighted by how much the arms overlap" in found.identification.expression


# --- the config -------------------------------------------------------------------------------------------------


def test_the_config_knows_the_methods_of_the_package_and_their_former_names() -> None:
    for name in set(METHODS) - {"instrumental_variable", "front_door"}:  # which need a graph
        assert config_of(method=name).average_effect.method == name
    assert config_of(method="propensity_matching").average_effect.method == "matching"
    assert config_of(method="doubly_robust").average_effect.method == "aipw"
    with pytest.raises(ConfigError, match=r"average_effect\.method"):
        config_of(method="matchin")


def test_options_reach_the_method_and_its_placebo() -> None:
    options = {"caliper": 0.1, "replace": False}
    config = config_of(method="matching", estimand="att", options=options)
    design = design_of(confounded(), ("x",), randomised=False)
    found = estimate_effect(design, config, silent)
    study = ObservationalStudy(design.frame, treatment="t", outcome="y", covariates=["x"], random_state=config.seed)
    assert found.effect.to_dict() == study.estimate("matching", estimand="att", **options).to_dict()
    assert found.refutations.estimate == found.effect.estimate
    with pytest.raises(CausalRecError, match=r"matching has no option 'calliper'.*Did you mean 'caliper'"):
        estimate_effect(design, config_of(method="matching", options={"calliper": 1}), silent)


@pytest.mark.parametrize("method, by", [("aipw", "aipw_parametric"), ("full_matching", "matching")])
def test_a_slow_method_is_refuted_by_a_quick_one(method: str, by: str) -> None:
    design = design_of(confounded(), ("x",), randomised=False)
    config = config_of(method=method, estimand="att", refuters=["placebo_treatment"], compare=False)
    found = estimate_effect(design, config, silent)
    study = ObservationalStudy(design.frame, treatment="t", outcome="y", covariates=["x"], random_state=config.seed)
    assert found.refutations.estimate == study.estimate(by, estimand="att").estimate
    assert (found.refutations.estimand, found.refutations.names) == ("att", ("placebo_treatment",))


def test_hidden_bias_is_measured_for_the_estimate_itself() -> None:
    found = estimate_effect(design_of(confounded(), ("x",), randomised=False), config_of(compare=False), silent)
    assert found.sensitivity.estimate == found.effect.estimate
    assert found.sensitivity.gamma > 1
    assert 0 < found.sensitivity.robustness_value_alpha < found.sensitivity.robustness_value < 1


def test_a_campaign_is_compared_by_every_method() -> None:
    design = design_of(confounded(), ("x",), randomised=False)
    found = estimate_effect(design, config_of(method="matching", options={"ratio": 2}), silent)
    assert set(found.comparison.names) == {name for name, method in METHODS.items() if method.unasked}
    assert found.comparison["matching"].estimate == found.effect.estimate
    assert found.comparison["aipw"].estimate == found.cross_check.estimate
    assert all(e.weights is None and e.propensity is None for e in (found.effect, *found.comparison.effects))
    for change in ({"compare": False}, {"n_placebo": 20}):
        other = design_of(confounded(), ("x",), randomised="compare" not in change)
        assert estimate_effect(other, config_of(cross_check=False, **change), silent).comparison is None
