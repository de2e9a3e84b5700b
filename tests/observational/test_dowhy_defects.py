"""What DoWhy 0.14 does wrong by itself, each pinned, and the same data right here.

A test that fails with ``FIXED`` is good news: a newer DoWhy does it right, and the shield against it can go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

dowhy = pytest.importorskip("dowhy")

from dowhy import causal_refuters as alone  # noqa: E402
from dowhy.causal_estimators.linear_regression_estimator import LinearRegressionEstimator  # noqa: E402
from dowhy.causal_refuter import test_significance as significance_alone  # noqa: E402
from dowhy.causal_refuters import data_subset_refuter as subset_alone  # noqa: E402
from dowhy.causal_refuters.placebo_treatment_refuter import PlaceboType  # noqa: E402

from causalrec.exceptions import CausalRecError  # noqa: E402
from causalrec.observational import ObservationalStudy, sensitivity_ols  # noqa: E402
from causalrec.observational._refuted import centre_pvalue, member_pvalue  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of DoWhy alone
FIXED = "DoWhy does this right now: the shield against it, and this test, can go"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("dowhy")
    level, state = logger.level, np.random.get_state()  # noqa: NPY002
    logger.setLevel(logging.CRITICAL)
    np.random.seed(0)  # noqa: NPY002
    yield
    logger.setLevel(level)
    np.random.set_state(state)  # noqa: NPY002


def make_frame(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Confounded by x, with effect 2 + x: 2 for all, more for the treated."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, n))
    t = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(np.int64)
    return pd.DataFrame({"x": x, "z": z, "t": t, "y": x + t * (2 + x) + rng.normal(size=n)})


def study_of(frame: pd.DataFrame, *covariates: str, **more: Any) -> ObservationalStudy:
    return ObservationalStudy(frame, treatment="t", outcome="y", covariates=covariates or ("x", "z"), **more)


def model_of(frame: pd.DataFrame, *covariates: str, **more: Any) -> tuple[Any, Any]:
    model = dowhy.CausalModel(frame, treatment="t", outcome="y", common_causes=list(covariates or ("x", "z")), **more)
    return model, model.identify_effect(method_name="maximal-adjustment")


class Recorder(LinearRegressionEstimator):
    """DoWhy's linear regression, which notes what data it is given."""

    seen: list[pd.DataFrame] = []  # noqa: RUF012

    def fit(self, data: pd.DataFrame, **rest: Any) -> Any:
        self.seen.append(data.rename(columns={self._target_estimand.treatment_variable[0]: "given"}))
        return super().fit(data, **rest)


def recorded(frame: pd.DataFrame, *covariates: str) -> tuple[Any, Any]:
    _, estimand = model_of(frame, *covariates)
    estimand.set_identifier_method("backdoor")
    estimate = Recorder(estimand).fit(frame, effect_modifier_names=[]).estimate_effect(frame, target_units="ate")
    Recorder.seen.clear()
    return estimand, estimate


# --- the eleven -------------------------------------------------------------------------------------------------------


def test_1_scores_left_in_the_frame_are_taken_for_those_of_changed_data() -> None:
    frame = make_frame()
    model, estimand = model_of(frame)
    found = model.estimate_effect(estimand, "backdoor.propensity_score_matching", target_units="ate")
    assert "propensity_score" in frame, FIXED
    refuted = model.refute_estimate(estimand, found, "random_common_cause", num_simulations=2)
    assert refuted.new_effect == pytest.approx(found.value, abs=1e-12), FIXED  # nothing was tested
    with pytest.raises(AttributeError, match="predict_proba"):
        model.estimate_effect(estimand, "backdoor.doubly_robust", target_units="ate")
    model.estimate_effect(estimand, "backdoor.propensity_score_weighting", target_units="ate")
    assert len(frame.columns) == 16, FIXED  # clipped scores, weights

    frame = make_frame()
    before = frame.copy()
    study = study_of(frame)
    effect = study.estimate("dowhy.propensity_score_matching")
    assert effect.estimate == pytest.approx(found.value, rel=1e-12)
    for own in (
        study.refute_with_dowhy(effect, "random_common_cause", n_simulations=20),
        study.refute(effect, ["random_common_cause"], n_simulations=20)["random_common_cause"],
    ):
        assert len(np.unique(own.draws)) > 15
        assert own.passed
    pd.testing.assert_frame_equal(frame, before)


def test_2_a_number_as_seed_repeats_one_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, draws, once = make_frame(), [], subset_alone._refute_once
    estimand, found = recorded(frame)
    monkeypatch.setattr(subset_alone, "_refute_once", lambda *args: draws.append(once(*args)) or draws[-1])
    refuted = alone.refute_data_subset(frame, estimand, found, num_simulations=20, random_state=0)
    assert len(draws) == 20
    assert np.ptp(draws) == 0, FIXED
    assert refuted.refutation_result["p_value"] == 0, FIXED

    study = study_of(frame)
    effect = study.estimate("ols")
    for own in (
        study.refute_with_dowhy(effect, "data_subset_refuter", n_simulations=20, random_state=0),
        study.refute(effect, ["data_subset"], n_simulations=20, random_state=0)["data_subset"],
    ):
        assert len(np.unique(own.draws)) == 20
        assert own.pvalue > 0.05


@pytest.mark.slow
def test_3_two_processes_repeat_each_others_simulations() -> None:
    frame = make_frame()
    _, estimand = model_of(frame)
    estimand.set_identifier_method("backdoor")
    given = {"num_simulations": 20, "random_state": 1, "placebo_type": PlaceboType.PERMUTE}
    plain = LinearRegressionEstimator(estimand).fit(frame, effect_modifier_names=[])
    estimate = plain.estimate_effect(frame, target_units="ate")
    two = alone.refute_placebo_treatment(frame, estimand, estimate, ["t"], n_jobs=2, **given)
    one = alone.refute_placebo_treatment(frame, estimand, estimate, ["t"], n_jobs=1, **given)
    assert two.new_effect != pytest.approx(one.new_effect), FIXED
    assert one.refutation_result["p_value"] > 0.05 > two.refutation_result["p_value"], FIXED

    study = study_of(frame)
    effect = study.estimate("ols")
    one, two = (
        study.refute_with_dowhy(effect, "placebo_treatment_refuter", n_simulations=20, random_state=1, n_jobs=k)
        for k in (1, 2)
    )
    np.testing.assert_array_equal(one.draws, two.draws)
    assert len(np.unique(two.draws)) == 20
    assert two.pvalue > 0.05
    one, two = (study.refute(effect, ["placebo_treatment"], n_simulations=20, n_jobs=k) for k in (1, 2))
    np.testing.assert_array_equal(one["placebo_treatment"].draws, two["placebo_treatment"].draws)


def test_4_placebos_of_floats_are_all_zero_and_those_of_integers_even() -> None:
    frame = make_frame()
    frame["t"] = (frame["x"] > 1.0).astype(np.int64)  # a sixth is treated
    estimand, found = recorded(frame)
    alone.refute_placebo_treatment(frame, estimand, found, ["t"], num_simulations=5)
    assert 0.45 < np.mean([seen["given"].mean() for seen in Recorder.seen]) < 0.55, FIXED
    floats = make_frame().astype({"t": np.float64})
    estimand, found = recorded(floats)
    alone.refute_placebo_treatment(floats, estimand, found, ["t"], num_simulations=5)
    assert all((seen["given"] == 0).all() for seen in Recorder.seen), FIXED
    model, estimand = model_of(floats)
    matched = model.estimate_effect(estimand, "backdoor.propensity_score_matching", target_units="ate")
    with pytest.raises(ValueError, match="0 sample"):
        model.refute_estimate(estimand, matched, "placebo_treatment_refuter", num_simulations=2)

    for kind in (np.float64, np.bool_):
        study = study_of(make_frame().astype({"t": kind}), confidence_level=0.5)  # at which 4 simulations are enough
        effect = study.estimate("dowhy.propensity_score_matching")
        for own in (
            study.refute_with_dowhy(effect, "placebo_treatment_refuter", n_simulations=4),
            study.refute(effect, ["placebo_treatment"], n_simulations=4)["placebo_treatment"],
        ):
            assert own.pvalue > 0.001
            assert own.new_std > 0.01
            assert own.estimate_pvalue == 1 / 5
    with pytest.raises(CausalRecError, match="placebo_type is no option: the treatment is always permuted"):
        study.refute_with_dowhy(effect, "placebo_treatment_refuter", placebo_type=1)


def test_5_pvalues_are_one_sided_below_100_simulations_and_nan_without_spread() -> None:
    class Estimate:
        value = 0.0

    draws = np.random.default_rng(0).normal(1.0, 1.0, size=99)
    p = significance_alone(Estimate, draws)["p_value"]
    assert p == pytest.approx(0.5 * _two_sided(draws), rel=1e-9), FIXED
    assert np.isnan(significance_alone(Estimate, np.zeros(50))["p_value"]), FIXED
    assert significance_alone(Estimate, np.ones(50))["p_value"] == 0, FIXED

    assert member_pvalue(draws, 0.0) == pytest.approx(_two_sided(draws), rel=0.1)  # t instead of normal
    assert (centre_pvalue(np.zeros(50), 0.0), member_pvalue(np.zeros(50), 0.0)) == (1.0, 1.0)
    assert (centre_pvalue(np.ones(50), 0.0), member_pvalue(np.ones(50), 0.0)) == (0.0, 0.0)


def _two_sided(draws: np.ndarray) -> float:
    from scipy import stats

    return float(2 * stats.norm.sf(abs(draws.mean()) / draws.std()))


def test_6_the_att_is_answered_with_the_ate() -> None:
    frame = make_frame(1000)
    model, estimand = model_of(frame, effect_modifiers=["x"])
    ate, att = (
        model.estimate_effect(estimand, "backdoor.linear_regression", target_units=units).value
        for units in ("ate", "att")
    )
    assert att == ate, FIXED

    truth = 2 + float(frame.loc[frame["t"] == 1, "x"].mean())
    study = study_of(frame)
    effect = study.estimate("lin", estimand="att")
    assert abs(effect.estimate - truth) < 3 * effect.std_error < abs(ate - truth)
    with pytest.raises(CausalRecError, match=r"dowhy.linear_regression estimates the ato, not the att. Use"):
        study.estimate("dowhy.linear_regression", estimand="att")
    with pytest.raises(CausalRecError, match=r"dowhy.doubly_robust estimates the ate, not the att. Use"):
        study.estimate("dowhy.doubly_robust", estimand="att")


@pytest.mark.slow
def test_6_the_att_of_econml_is_answered_with_the_ate() -> None:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    frame = make_frame(1000)
    models = {"model_y": LinearRegression(), "model_t": LogisticRegression(), "discrete_treatment": True}
    model, estimand = model_of(frame, effect_modifiers=["x"])
    ate, att = (
        model.estimate_effect(
            estimand, "backdoor.econml.dml.LinearDML", target_units=units,
            method_params={"init_params": {**models, "random_state": 0}, "fit_params": {}},
        ).value
        for units in ("ate", "att")
    )  # fmt: skip
    assert float(att) == pytest.approx(float(ate), rel=1e-9), FIXED

    truth = 2 + float(frame.loc[frame["t"] == 1, "x"].mean())
    given = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
    effect = study_of(frame).estimate("econml.LinearDML", estimand="att", **given)
    assert abs(effect.estimate - truth) < 3 * effect.std_error < abs(float(ate) - truth)


@pytest.mark.slow
def test_7_the_bootstrap_of_nearest_neighbours_has_another_variance() -> None:
    """Abadie and Imbens 2008, Econometrica 76, lemma 3.1 and theorem 3.2.

    Controls are standard normal, treated are 0, x does not matter. With α = n₁/n₀ the variance of the att is
    (1 + 3α/2) / n₁, and the bootstrap's mean is 1 + 3α/2 · (5/e - 2/e²) / (3 (1 - 1/e)) + 2/e of the same unit.
    """
    rng = np.random.default_rng(0)
    treated, control = 100, 1000
    x = rng.random(treated + control)
    t = np.repeat([1, 0], [treated, control])
    frame = pd.DataFrame({"x": x, "t": t, "y": np.where(t == 1, 0.0, rng.normal(size=len(t)))})
    model, estimand = model_of(frame.copy(), "x")
    found = model.estimate_effect(estimand, "backdoor.propensity_score_matching", target_units="att")
    variance = float(found.get_standard_error(method="bootstrap", num_simulations=200)) ** 2
    alpha, e = treated / control, np.e
    truth = (1 + 1.5 * alpha) / treated
    theirs = (1 + 1.5 * alpha * (5 / e - 2 / e**2) / (3 * (1 - 1 / e)) + 2 / e) / treated
    assert theirs / truth > 1.6
    assert variance / truth > 1.25, FIXED
    assert variance == pytest.approx(theirs, rel=0.35)

    study = study_of(frame, "x")
    effect = study.estimate("matching", estimand="att")
    assert effect.std_error**2 == pytest.approx(truth, rel=0.2)
    for name in ("matching", "dowhy.propensity_score_matching"):
        effect = study.estimate(name, estimand="att")
        with pytest.raises(CausalRecError, match=r"bootstrap is not valid for .*Abadie and Imbens 2008"):
            study.refute_with_dowhy(effect, "bootstrap_refuter")


def test_8_one_benchmark_and_one_fraction_are_a_type_error() -> None:
    frame = make_frame()
    model, estimand = model_of(frame)
    found = model.estimate_effect(estimand, "backdoor.linear_regression")
    asked = {"simulation_method": "linear-partial-R2", "benchmark_common_causes": ["x"], "plot_estimate": False}
    with pytest.raises(TypeError, match="not iterable"):
        model.refute_estimate(estimand, found, "add_unobserved_common_cause", effect_fraction_on_treatment=1, **asked)

    right = model.refute_estimate(
        estimand, found, "add_unobserved_common_cause", effect_fraction_on_treatment=[1], **asked
    )
    own = sensitivity_ols(frame[["x", "z"]], frame["y"], treatment=frame["t"], benchmarks=["x"], kd=1.0)
    assert own.robustness_value == pytest.approx(right.stats["robustness_value"], rel=1e-6)


def test_9_the_bootstrap_crashes_at_categories_and_adds_noise_to_floats_alone() -> None:
    frame = make_frame()
    frame["plan"] = pd.Categorical(np.where(frame["z"] > 0, "a", "b"))
    frame["visits"] = (10 * frame["x"]).round().astype(np.int64)
    estimand, found = recorded(frame, "visits", "plan")
    with pytest.raises(UnboundLocalError):
        alone.refute_bootstrap(frame, estimand, found, num_simulations=1)
    estimand, found = recorded(frame, "visits")
    alone.refute_bootstrap(frame, estimand, found, num_simulations=1)
    assert Recorder.seen[-1]["visits"].isin(frame["visits"]).all(), FIXED

    study = study_of(frame, "visits", "plan")
    effect = study.estimate("ols")
    little, much = (
        study.refute_with_dowhy(effect, "bootstrap_refuter", n_simulations=20, noise=noise) for noise in (0.0, 2.0)
    )
    assert little.passed
    # Covariates that are mostly noise leave the confounding: the visits were perturbed.
    assert much.new_effect - little.new_effect > 3 * effect.std_error
    assert study.refute(effect, ["bootstrap"], n_simulations=20).passed


def test_10_exact_columns_of_distance_matching_are_out_of_bounds() -> None:
    frame = make_frame()
    frame["plan"] = (frame["z"] > 0).astype(np.int64)
    model, estimand = model_of(frame, "x", "plan")
    with pytest.raises(IndexError):
        model.estimate_effect(
            estimand, "backdoor.distance_matching", target_units="att",
            method_params={"fit_params": {"exact_match_cols": ["plan"]}},
        )  # fmt: skip

    study = study_of(frame, "x", "plan")
    found = study.estimate("matching", estimand="att", distance="mahalanobis", exact=frame["plan"])
    # By hand: within each plan the nearest control by x.
    gaps = []
    for _, part in frame.groupby("plan"):
        treated, control = part[part["t"] == 1], part[part["t"] == 0]
        near = np.abs(treated["x"].to_numpy()[:, None] - control["x"].to_numpy()).argmin(axis=1)
        gaps.append(treated["y"].to_numpy() - control["y"].to_numpy()[near])
    assert found.estimate == pytest.approx(np.concatenate(gaps).mean(), rel=1e-9)
    with pytest.raises(CausalRecError, match=r"dowhy.distance_matching has no option 'exact_match_cols'"):
        study.estimate("dowhy.distance_matching", estimand="att", exact_match_cols=["plan"])


def test_11_the_dummy_outcome_has_variance_1_at_any_scale() -> None:
    """So that a bias of a hundred thousand, here of a plain difference in means, passes."""
    frame = make_frame()
    frame["y"] *= 1e5
    model, estimand = model_of(frame)
    found = model.estimate_effect(estimand, "backdoor.linear_regression")
    (refuted,) = model.refute_estimate(estimand, found, "dummy_outcome_refuter", num_simulations=20)
    assert abs(refuted.new_effect) < 1, FIXED

    study = study_of(frame)
    effect = study.estimate("ols")
    own = study.refute_with_dowhy(effect, "dummy_outcome_refuter", n_simulations=20)
    assert own.new_std == pytest.approx(2 * frame["y"].std() / np.sqrt(len(frame)), rel=0.5)
    assert own.pvalue > 0.001
    naive = study.estimate("difference_in_means")
    sound, biased = (
        study.refute(one, ["dummy_outcome"], dummy="simulated", n_simulations=20)["dummy_outcome"].pvalue
        for one in (effect, naive)
    )
    assert sound > 0.001 > 1e-6 > biased


# --- and others -------------------------------------------------------------------------------------------------------


def test_strengths_of_a_simulated_confounder_add_up_over_a_grid() -> None:
    """Every entry of the grid should be one flip of a fifth of the treatments; the treatment flipped before is kept."""
    frame = make_frame(1000)
    estimand, found = recorded(frame)
    grid = alone.add_unobserved_common_cause.sensitivity_simulation(
        frame, estimand, found, ["t"], ["y"], kappa_t=[0.2] * 5, kappa_y=0.0, plotmethod=None
    ).new_effect_array
    assert abs(grid[-1]) < 0.5 * abs(grid[0]), FIXED

    study = study_of(frame)
    own = study.refute_with_dowhy(
        study.estimate("ols"), "add_unobserved_common_cause", n_simulations=20, effect_strength_on_treatment=0.2,
        effect_strength_on_outcome=0.0,
    )  # fmt: skip
    assert np.abs(own.draws / own.draws[0] - 1).max() < 0.4
    assert np.isnan(own.pvalue)


def test_the_functional_interface_fails_or_does_nothing_where_details_are_left_out() -> None:
    frame = make_frame()
    _, estimand = model_of(frame)
    assert estimand.identifier_method is None
    fitted = LinearRegressionEstimator(estimand).fit(frame, effect_modifier_names=[])
    found = fitted.estimate_effect(frame, target_units="ate")
    refuted = alone.refute_random_common_cause(frame, estimand, found, num_simulations=3, random_state=0)
    assert refuted.new_effect == pytest.approx(found.value, rel=1e-12), FIXED  # the cause is not adjusted for
    with pytest.raises(AttributeError):
        alone.refute_placebo_treatment(frame, estimand, found, ["t"], num_simulations=1)
    with pytest.raises(TypeError):
        dowhy.causal_estimator.estimate_effect(frame, "t", "y", "backdoor", LinearRegressionEstimator(estimand))
    estimand.set_identifier_method("backdoor")
    with pytest.raises(TypeError, match="treatment_names"):
        alone.refute_estimate(frame, estimand, found, refuters=[alone.refute_placebo_treatment])

    study = study_of(frame)
    own = study.refute_with_dowhy(study.estimate("dowhy.linear_regression"), "random_common_cause", n_simulations=20)
    assert own.new_std > 0
