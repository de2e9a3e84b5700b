"""The average effect of a design: covariates without gaps, the method that the design allows, whose effect it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from causalrec.config import OutcomeConfig, RunConfig, parse_config
from causalrec.exceptions import CausalRecError
from causalrec.pipelines.designs import Design
from causalrec.pipelines.effect import complete_covariates, estimate_effect
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


# --- covariates without gaps ------------------------------------------------------------------------------------


def test_gaps_are_filled_marked_and_said() -> None:
    frame = confounded(6).assign(
        a=[1.5, np.nan, 3.0, np.nan, 0.0, 2.0],
        b=pd.Categorical(["u", None, "v", "u", "v", "u"], categories=["u", "v"]),
    )
    before = frame.copy()
    filled, covariates, notes = complete_covariates(design_of(frame, ("a", "b", "x")))
    assert covariates == ("a", "b", "x", "a_missing")
    assert filled["a"].tolist() == [1.5, 0.0, 3.0, 0.0, 0.0, 2.0]
    assert filled["a_missing"].tolist() == [0, 1, 0, 1, 0, 0]
    assert filled["b"].tolist() == ["u", "(missing)", "v", "u", "v", "u"]
    assert not filled.isna().any(axis=None)
    assert notes == (
        "a: 2 missing values set to 0, with the indicator a_missing",
        "b: 1 missing values as a level of their own",
    )
    pd.testing.assert_frame_equal(frame, before)


def test_without_gaps_nothing_is_added() -> None:
    frame = confounded(6)
    filled, covariates, notes = complete_covariates(design_of(frame, ("x",)))
    pd.testing.assert_frame_equal(filled, frame)
    assert (covariates, notes) == (("x",), ())


@pytest.mark.parametrize("number", [0.0, 17.0])
def test_with_the_indicator_the_filled_value_carries_nothing(number: float) -> None:
    """Least squares with covariate and indicator gives the same effect whatever stands for the missing values."""
    rng = np.random.default_rng(0)
    frame = confounded().assign(x=lambda f: f["x"].where(rng.random(len(f)) < 0.7))
    filled, covariates, _ = complete_covariates(design_of(frame, ("x",)))
    other = filled.assign(x=filled["x"].where(filled["x_missing"] == 0, number))
    effects = [sm.OLS(f["y"], sm.add_constant(f[["t", *covariates]])).fit().params["t"] for f in (filled, other)]
    assert effects[0] == pytest.approx(effects[1], rel=1e-9)


def test_an_indicator_never_replaces_a_column() -> None:
    frame = confounded(6).assign(a=[1.0, np.nan, 3.0, 4.0, 5.0, 6.0], a_missing=[7.0, 8.0, 9.0, 7.0, 8.0, 9.0])
    filled, covariates, _ = complete_covariates(design_of(frame, ("a", "a_missing")))
    assert len(covariates) == len(set(covariates)) == 3
    assert filled["a_missing"].tolist() == frame["a_missing"].tolist()


def test_a_level_that_is_named_missing_already() -> None:
    frame = confounded(4).assign(a=pd.Categorical(["(missing)", None, "u", "u"]))
    filled, _, _ = complete_covariates(design_of(frame, ("a",)))
    assert filled["a"].nunique() == 3


# --- the method -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence_level", [0.95, 0.8])
def test_a_randomised_design_is_estimated_by_the_difference_in_means(confidence_level: float) -> None:
    frame = confounded()
    config = config_of(cross_check=False).model_copy(update={"confidence_level": confidence_level})
    seen: list[tuple[int, int]] = []
    found = estimate_effect(design_of(frame, ("x",)), config, lambda done, total: seen.append((done, total)))
    arms = [frame.loc[frame["t"] == a, "y"] for a in (0, 1)]
    effect = found.study.effect
    assert effect.estimate == pytest.approx(arms[1].mean() - arms[0].mean(), rel=1e-12)
    error = np.sqrt(sum(a.var(ddof=1) / len(a) for a in arms))
    half = stats.norm.ppf(0.5 + confidence_level / 2) * error
    assert (effect.ci_low, effect.ci_high) == pytest.approx((effect.estimate - half, effect.estimate + half), rel=1e-9)
    assert found.study.identification.backdoor_variables == ()
    assert found.cross_check is None
    assert seen[-1] == (20, 20)


def test_a_campaign_is_matched_and_the_difference_in_means_refused() -> None:
    design = design_of(confounded(), ("x",), randomised=False)
    found = estimate_effect(design, config_of(), silent)
    assert "match" in found.study.effect.method
    assert found.study.identification.backdoor_variables == ("x",)
    assert found.cross_check is not None
    assert "doubly robust" in found.cross_check.method
    with pytest.raises(CausalRecError, match=r"campaign is not randomised.*propensity_matching or doubly_robust"):
        estimate_effect(design, config_of(method="difference_in_means"), silent)


def test_the_confounded_difference_is_corrected() -> None:
    """x has four values, so matching on the score is exact stratification: the mean over strata of the differences."""
    frame = confounded(800)
    found = estimate_effect(design_of(frame, ("x",), randomised=False), config_of(cross_check=False), silent)
    cells = frame.groupby(["x", "t"])["y"].mean().unstack()
    expected = ((cells[1] - cells[0]) * frame["x"].value_counts(normalize=True)).sum()
    assert found.study.effect.estimate == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "covariates", "expected"),
    [
        ({}, ("x",), True),
        ({"cross_check": False}, ("x",), False),
        ({"method": "doubly_robust"}, ("x",), False),  # it would be the same estimate twice
        ({"estimand": "att", "method": "propensity_matching"}, ("x",), False),  # another population
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
    assert found.study.effect.estimate == pytest.approx(sign * (means[1] - means[0]), rel=1e-12)


# --- whose effect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("estimand", "arms"), [("ate", (0, 1)), ("att", (1,)), ("atc", (0,))])
def test_the_truth_is_that_of_the_units_that_the_estimand_is_about(estimand: str, arms: tuple[int, ...]) -> None:
    frame = confounded(800)
    config = config_of(estimand=estimand, method="propensity_matching", cross_check=False)
    found = estimate_effect(design_of(frame, ("x",), randomised=False), config, silent)
    expected = frame.loc[frame["t"].isin(arms), "user_id"]
    assert found.units.tolist() == expected.tolist()
    truth = Truth(pd.DataFrame({"user_id": frame["user_id"], "tau": 1 + frame["x"]}).sample(frac=1, random_state=0))
    mean = truth.mean("tau", found.units)
    assert mean == pytest.approx((1 + frame["x"])[frame["t"].isin(arms)].mean(), rel=1e-12)
    effect = found.study.effect
    assert abs(effect.estimate - mean) < 4 * effect.std_error
    cells = frame.groupby(["x", "t"])["y"].mean().unstack()
    weights = frame.loc[frame["t"].isin(arms), "x"].value_counts(normalize=True)
    assert effect.estimate == pytest.approx(((cells[1] - cells[0]) * weights).sum(), rel=1e-9)


def test_an_unknown_truth_is_no_number() -> None:
    truth = Truth(pd.DataFrame({"user_id": [1, 2], "tau": [1.0, 3.0]}))
    assert truth.mean("tau", pd.Series([2])) == 3.0
    assert np.isnan(truth.mean(None, [1]))
    assert np.isnan(truth.mean("other", [1]))
