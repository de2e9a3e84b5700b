"""DoWhy's estimators and refuters through a study: the same numbers as DoWhy's own, and nothing left behind."""

from __future__ import annotations

import logging
import random
import sys
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils import resample

from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational import ObservationalStudy
from causalrec.observational.dowhy_refuters import REFUTERS, StudyEstimator, make_estimand, make_frame
from causalrec.observational.peers import PEERS

COVARIATES = ["x", "plan", "visits"]
FEW = {"confidence_level": 0.5}  # at which two simulations are enough
DOWHY = [name for name in PEERS if name.startswith("dowhy.") and not name.endswith("instrumental_variable")]


def make_data(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Confounded by x, with effect 2 + x; a category and a count beside it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    t = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(np.int64)
    plan = rng.choice(["free", "plus", "pro"], n)
    y = x + t * (2 + x) + (plan == "pro") + rng.normal(size=n)
    visits = rng.poisson(3, n)
    return pd.DataFrame({"x": x, "plan": plan, "visits": visits, "t": t, "y": y, "bought": (y > 1).astype(np.int64)})


def study_of(frame: pd.DataFrame, **change: Any) -> ObservationalStudy:
    return ObservationalStudy(frame, **{"treatment": "t", "outcome": "y", "covariates": COVARIATES, **change})


def options_of(name: str) -> dict[str, Any]:
    return {"num_strata": 5} if name.endswith("stratification") else {}


def outcome_of(name: str) -> str:
    return "bought" if name == "dowhy.generalized_linear_model" else "y"


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, str], float]:
    """What DoWhy itself finds, by name and estimand, each on a frame of its own."""
    import warnings

    from dowhy import CausalModel

    found = {}
    logging.getLogger("dowhy").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in DOWHY:
            own = {**options_of(name)}
            if name == "dowhy.generalized_linear_model":
                own = {"glm_family": sm.families.Binomial()}
            for estimand in PEERS[name].estimands:
                model = CausalModel(
                    make_data(), treatment="t", outcome=outcome_of(name), common_causes=sorted(COVARIATES)
                )
                found[name, estimand] = model.estimate_effect(
                    model.identify_effect(method_name="maximal-adjustment"), name.replace("dowhy.", "backdoor."),
                    target_units="ate" if estimand == "ato" else estimand,
                    method_params={"init_params": own, "fit_params": {}},
                ).value  # fmt: skip
    logging.getLogger("dowhy").setLevel(logging.NOTSET)
    return found


# --- estimators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOWHY)
def test_numbers_are_dowhys(name: str, alone: dict[tuple[str, str], float]) -> None:
    study = study_of(make_data(), outcome=outcome_of(name))
    for estimand in PEERS[name].estimands:
        effect = study.estimate(name, estimand=estimand, **options_of(name))
        if name != "dowhy.generalized_linear_model" or estimand == "ate":  # there DoWhy ignores target_units
            assert effect.estimate == pytest.approx(alone[name, estimand], rel=1e-9)
        assert effect.estimand == estimand
        assert effect.recipe is not None
        assert effect.recipe.name == name
        assert np.isnan(effect.std_error) == (name != "dowhy.linear_regression")
        assert ("no error, as DoWhy has none" in effect.method) == np.isnan(effect.std_error)


def test_the_att_of_a_logistic_regression_is_of_the_treated(alone: dict[tuple[str, str], float]) -> None:
    """By hand: the mean, over the treated, of predicted outcomes with and without treatment."""
    frame = make_data()
    design = pd.get_dummies(frame[COVARIATES], drop_first=True, dtype=float)
    fit = sm.GLM(frame["bought"], sm.add_constant(design.assign(t=frame["t"])), family=sm.families.Binomial()).fit()
    with_, without = (fit.predict(sm.add_constant(design.assign(t=float(t)), has_constant="add")) for t in (1, 0))
    study = study_of(frame, outcome="bought")
    for estimand, units in (("att", frame["t"] == 1), ("atc", frame["t"] == 0)):
        effect = study.estimate("dowhy.generalized_linear_model", estimand=estimand)
        assert effect.estimate == pytest.approx(float((with_ - without)[units].mean()), rel=1e-6)
        assert alone["dowhy.generalized_linear_model", estimand] == alone["dowhy.generalized_linear_model", "ate"]


def test_the_error_of_the_regression_is_robust_and_by_cluster() -> None:
    frame = make_data().assign(shop=np.arange(400) // 4)
    design = pd.get_dummies(frame[COVARIATES], drop_first=True, dtype=float).assign(t=frame["t"])
    fit = sm.OLS(frame["y"], sm.add_constant(design))
    robust = study_of(frame).estimate("dowhy.linear_regression")
    assert robust.std_error == pytest.approx(float(fit.fit(cov_type="HC1").bse["t"]), rel=1e-9)
    by_shop = study_of(frame, clusters="shop").estimate("dowhy.linear_regression")
    expected = fit.fit(cov_type="cluster", cov_kwds={"groups": frame["shop"].to_numpy()}).bse["t"]
    assert by_shop.std_error == pytest.approx(float(expected), rel=1e-9)
    assert by_shop.method.endswith("clustered by 100 groups")


@pytest.mark.parametrize("name", ["propensity_score_weighting", "propensity_score_stratification", "distance_matching"])
@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_weights_make_the_estimate(name: str, estimand: str) -> None:
    frame = make_data()
    study = study_of(frame)
    effect = study.estimate(f"dowhy.{name}", estimand=estimand, **options_of(name))
    arms = [frame["t"] == 1, frame["t"] == 0]
    means = [np.average(frame["y"][arm], weights=effect.weights[arm]) for arm in arms]
    assert means[0] - means[1] == pytest.approx(effect.estimate, rel=1e-9)
    assert study.balance(effect).max_abs_smd_after < study.balance().max_abs_smd_after


def test_units_that_strata_leave_out_are_counted() -> None:
    frame = make_data()
    study = study_of(frame)
    effect = study.estimate("dowhy.propensity_score_stratification", num_strata=20, clipping_threshold=3)
    used = effect.weights > 0
    assert 0 < effect.n_dropped == int((~used).sum())
    assert (effect.n_obs, effect.n_treated) == (int(used.sum()), int((used & (frame["t"] == 1)).sum()))
    with pytest.raises(CausalRecError, match=r"DoWhy could not estimate the ate: .*clipping_threshold"):
        study.estimate("dowhy.propensity_score_stratification", clipping_threshold=300)


def test_a_score_that_is_given_is_used() -> None:
    frame = make_data()
    known = 1 / (1 + np.exp(-frame["x"].to_numpy()))
    study = study_of(frame, propensity=known)
    effect = study.estimate("dowhy.propensity_score_weighting", min_ps_score=0.0, max_ps_score=1.0)
    t, y = frame["t"], frame["y"]
    by_hand = np.average(y[t == 1], weights=1 / known[t == 1]) - np.average(y[t == 0], weights=1 / (1 - known[t == 0]))
    assert effect.estimate == pytest.approx(by_hand, rel=1e-9)
    assert effect.share_clipped == 0
    with pytest.raises(CausalRecError, match="propensity is given together with propensity_model"):
        study.estimate("dowhy.propensity_score_matching", propensity_model=LogisticRegression())
    with pytest.raises(CausalRecError, match="takes no propensity that is given; use aipw"):
        study.estimate("dowhy.doubly_robust")


def test_a_model_of_the_score_is_copied_and_its_failure_said() -> None:
    frame = make_data()
    model = LogisticRegression(C=1e6, max_iter=3)
    effect = study_of(frame).estimate("dowhy.propensity_score_weighting", propensity_model=model)
    assert "score by LogisticRegression" in effect.method
    assert "did not converge: scale the covariates" in effect.method
    assert not hasattr(model, "coef_")


def test_an_instrument_of_any_two_levels_is_walds_ratio() -> None:
    rng = np.random.default_rng(0)
    hidden, offered = rng.normal(size=2000), rng.integers(0, 2, 2000)
    t = (offered + hidden + rng.normal(size=2000) > 0.5).astype(np.int64)
    frame = pd.DataFrame({"offered": 3 - 2 * offered, "t": t, "y": 2.0 * t + hidden})
    study = ObservationalStudy(frame, treatment="t", outcome="y", instruments=["offered"])
    effect = study.estimate("dowhy.instrumental_variable")
    means = frame.groupby("offered")[["y", "t"]].mean().diff().iloc[1]
    assert effect.estimate == pytest.approx(means["y"] / means["t"], rel=1e-9)
    assert effect.estimate == pytest.approx(study.estimate("instrumental_variable").estimate, rel=1e-6)
    assert effect.estimand == "late"
    other = ObservationalStudy(
        frame.assign(more=rng.normal(size=2000)), treatment="t", outcome="y", instruments=["offered", "more"]
    )
    with pytest.raises(CausalRecError, match="takes one instrument and no covariates; the study has 2 and 0"):
        other.estimate("dowhy.instrumental_variable")
    with pytest.raises(CausalRecError, match=r"of which dowhy.instrumental_variable is not made; use study.refute"):
        study.refute_with_dowhy(effect, "data_subset_refuter")


@pytest.mark.parametrize("name", DOWHY)
def test_rows_and_units_do_not_matter(name: str) -> None:
    frame = make_data()
    outcome = outcome_of(name)
    plain = study_of(frame, outcome=outcome).estimate(name, **options_of(name))
    mixed = study_of(frame.sample(frac=1, random_state=1), outcome=outcome).estimate(name, **options_of(name))
    assert mixed.estimate == pytest.approx(plain.estimate, rel=1e-6)
    if outcome == "y":
        moved = study_of(frame.assign(y=100 * frame["y"] + 7)).estimate(name, **options_of(name))
        assert moved.estimate == pytest.approx(100 * plain.estimate, rel=1e-6)


def test_errors_name_what_is_wrong() -> None:
    study = study_of(make_data().assign(w=1.0), sample_weight="w")
    with pytest.raises(CausalRecError, match=r"dowhy.linear_regression takes no sample weights; "):
        study.estimate("dowhy.linear_regression")
    study = study_of(make_data())
    for name, near in (("dowhy.propensity_matching", "dowhy.propensity_score_matching"), ("dml2", "dml")):
        with pytest.raises(CausalRecError, match=f"or dowhy.* or econml.* as in .* Did you mean '{near}'"):
            study.estimate(name)
    with pytest.raises(CausalRecError, match=r"or econml.* Did you mean 'econml.LinearDRLearner'"):
        study.estimate("econml.LinearDRLearners")
    with pytest.raises(CausalRecError, match=r"has no option 'caliper'; it has 'propensity_model'"):
        study.estimate("dowhy.propensity_score_matching", caliper=0.1)
    with pytest.raises(CausalRecError, match=r"family is 'binomial'.*Did you mean 'Binomial'"):
        study.estimate("dowhy.generalized_linear_model", family="binomial")
    with pytest.raises(CausalRecError, match=r"the outcome runs from .* Use 'dowhy.linear_regression'"):
        study.estimate("dowhy.generalized_linear_model")
    with pytest.raises(CausalRecError, match=r"weighting_scheme is 'ips_weights'.*Did you mean 'ips_weight'"):
        study.estimate("dowhy.propensity_score_weighting", weighting_scheme="ips_weights")
    with pytest.raises(CausalRecError, match="has no error by clusters; use dml"):
        study_of(make_data().assign(shop=np.arange(400) // 4), clusters="shop").estimate("econml.TLearner")
    with pytest.raises(CausalRecError, match=r"econml.TLearner estimates the ate or att or atc, not the ato"):
        study.estimate("econml.TLearner", estimand="ato")


def test_compare_runs_them_where_they_are_named() -> None:
    study = study_of(make_data())
    assert not [name for name in study.compare(["ols", "lin"]).names if "." in name]
    assert study.compare(["lin", "dowhy.doubly_robust"]).names == ("lin", "dowhy.doubly_robust")


# --- refuters ---------------------------------------------------------------------------------------------------------


def streams(seed: int, n: int) -> list[np.random.RandomState]:
    """The random state of each simulation, as the shield makes them."""
    return [
        np.random.RandomState(np.random.MT19937(s.spawn(3)[0])) for s in np.random.SeedSequence(seed).spawn(n)
    ]  # fmt: skip


@pytest.mark.parametrize("method,estimand", [("ols", "ato"), ("matching", "att"), ("ipw", "att")])
def test_placebos_are_estimates_of_permutations(method: str, estimand: str) -> None:
    frame = make_data()
    study = study_of(frame, **FEW)
    effect = study.estimate(method, estimand=estimand)
    found = study.refute_with_dowhy(effect, "placebo_treatment_refuter", n_simulations=3, random_state=3)
    for i in (0, 2):
        order = streams(3, 3)[i].choice(400, size=400, replace=False)
        permuted = study_of(frame.assign(t=frame["t"].to_numpy()[order]))
        assert found.draws[i] == pytest.approx(permuted.estimate(method, estimand=estimand).estimate, rel=1e-9)
    assert found.kind == "placebo_treatment"
    assert found.expected == 0
    assert found.pvalue == pytest.approx(stats.ttest_1samp(found.draws, 0).pvalue, rel=1e-9)
    assert found.method.startswith("DoWhy's placebo_treatment_refuter (permuted treatment) on ")


def test_subsets_take_weights_and_scores_along() -> None:
    frame = make_data().assign(w=np.random.default_rng(1).random(400), e=0.5)
    study = study_of(frame, sample_weight="w", propensity="e", **FEW)
    effect = study.estimate("ipw")
    found = study.refute_with_dowhy(effect, "data_subset_refuter", n_simulations=3, subset_fraction=0.5)
    for i in (0, 2):
        part = frame.sample(frac=0.5, random_state=streams(0, 3)[i])
        assert found.draws[i] == pytest.approx(
            study_of(part, sample_weight="w", propensity="e").estimate("ipw").estimate, rel=1e-9
        )
    assert found.expected == effect.estimate


def test_a_random_cause_is_one_more_covariate() -> None:
    frame = make_data().rename(columns={"visits": "w_random", "x": "placebo"})
    study = study_of(frame, covariates=["placebo", "w_random", "plan"], **FEW)
    found = study.refute_with_dowhy(study.estimate("lin"), "random_common_cause", n_simulations=3)
    noise = streams(0, 3)[2].normal(size=400)
    more = study_of(frame.assign(noise=noise), covariates=["placebo", "w_random", "plan", "noise"])
    assert found.draws[2] == pytest.approx(more.estimate("lin").estimate, rel=1e-9)


@pytest.mark.parametrize("refuter", REFUTERS)
def test_draws_hang_on_the_seed_alone(refuter: str) -> None:
    study = study_of(make_data(200).astype({"t": bool}), **FEW)
    effect = study.estimate("aipw_parametric", estimand="att")
    np.random.seed(1)  # noqa: NPY002
    one = study.refute_with_dowhy(effect, refuter, n_simulations=3)
    np.random.seed(2)  # noqa: NPY002
    same, other = (study.refute_with_dowhy(effect, refuter, n_simulations=3, random_state=s) for s in (0, 1))
    np.testing.assert_array_equal(one.draws, same.draws)
    assert len(np.unique(np.concatenate([one.draws, other.draws]))) == 6
    assert (one.estimate, one.std_error) == (effect.estimate, effect.std_error)
    assert np.isnan(one.pvalue) == (refuter == "add_unobserved_common_cause")
    assert ", the att" in one.method


def open_figures() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return [] if pyplot is None else pyplot.get_fignums()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "refuters",
    [
        ("placebo_treatment_refuter", "add_unobserved_common_cause"),
        pytest.param(tuple(REFUTERS), marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left_behind(refuters: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    frame = make_data(200).astype({"plan": "category", "t": np.float64})
    before = joblib.hash(frame)
    study = study_of(frame, **FEW)
    logger = logging.getLogger("dowhy")
    logger.setLevel(logging.INFO)
    try:
        state, python, figures = np.random.get_state()[1].copy(), random.getstate(), open_figures()  # noqa: NPY002
        effect = study.estimate("dowhy.propensity_score_weighting")
        for refuter in refuters:
            study.refute_with_dowhy(effect, refuter, n_simulations=19)
        with pytest.raises(CausalRecError):
            study.estimate("dowhy.propensity_score_stratification", clipping_threshold=300)
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
        assert random.getstate() == python
        assert open_figures() == figures
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)
    assert capsys.readouterr() == ("", "")
    assert joblib.hash(frame) == before


def test_threads_take_turns_with_the_global_state() -> None:
    study = study_of(make_data(200), **FEW)
    effect = study.estimate("dowhy.propensity_score_matching")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = (study.refute(effect, ["data_subset"], n_simulations=6, n_jobs=k)["data_subset"] for k in (1, 2))
    np.testing.assert_array_equal(one.draws, two.draws)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_bootstrap_without_noise_resamples_units() -> None:
    """Its spread is the error of the regression; with noise, counts and yes/no are changed too."""
    frame = make_data().assign(member=lambda f: f["x"] > 0)
    study = study_of(frame, covariates=["member", "visits", "plan"])
    effect = study.estimate("ols")
    found = study.refute_with_dowhy(effect, "bootstrap_refuter", n_simulations=60, noise=0.0)
    assert found.new_std == pytest.approx(effect.std_error, rel=0.3)
    assert found.passed
    noisy = study.refute_with_dowhy(effect, "bootstrap_refuter", n_simulations=20, noise=0.9)
    assert noisy.new_effect > found.new_effect + 0.1  # member is flipped, and adjusts for less


def test_copies_of_a_unit_share_a_fold() -> None:
    study = study_of(make_data(120), covariates=["x"], **FEW)
    effect = study.estimate("aipw", outcome_model=LinearRegression(), propensity_model=LogisticRegression())
    found = study.refute_with_dowhy(effect, "bootstrap_refuter", n_simulations=2, noise=0.0)
    for i in range(2):
        rows = resample(np.arange(120), random_state=streams(0, 2)[i])
        drawn = study_of(make_data(120).iloc[rows].assign(unit=rows), covariates=["x"], clusters="unit")
        expected = drawn.estimate("aipw", outcome_model=LinearRegression(), propensity_model=LogisticRegression())
        assert found.draws[i] == pytest.approx(expected.estimate, rel=1e-9)


def test_a_simulated_confounder_moves_the_estimate_as_far_as_it_should() -> None:
    """A share p of treatments flipped at the top of u, and -κu in y: by hand with a random treatment.

    With treatments at random, independent of the rest, flipping a share p leaves 1 - 2p of the effect; the flipped have
    high u and as many of them are treated as not, so that u itself is alike in both arms.
    """
    rng = np.random.default_rng(0)
    t = rng.integers(0, 2, 4000)
    frame = pd.DataFrame({"x": rng.normal(size=4000), "t": t, "y": 2.0 * t + rng.normal(size=4000)})
    study = study_of(frame, covariates=["x"])
    found = study.refute_with_dowhy(
        study.estimate("ols"), "add_unobserved_common_cause", n_simulations=20, effect_strength_on_treatment=0.2,
        effect_strength_on_outcome=0.5,
    )  # fmt: skip
    assert found.new_effect == pytest.approx(2 * (1 - 2 * 0.2), abs=0.1)
    assert "No test" in found.meaning


def test_our_estimator_is_one_of_dowhys() -> None:
    study = study_of(make_data())
    effect = study.estimate("matching", estimand="att")
    frame, names = make_frame(study._data)
    estimator = StudyEstimator(make_estimand(names), data=study._data, recipe=effect.recipe)
    found = estimator.fit(frame).estimate_effect(frame, target_units="att")
    assert found.value == pytest.approx(effect.estimate, rel=1e-12)
    assert found.std_error == effect.std_error
    with pytest.raises(CausalRecError, match="target_units is 'ate', but the estimator is of the att"):
        estimator.estimate_effect(frame, target_units="ate")


def test_what_dowhy_cannot_refute_is_said() -> None:
    frame = make_data().assign(shop=np.arange(400) // 4, e=lambda f: 1 / (1 + np.exp(-f["x"])))
    study = study_of(frame)
    effect = study.estimate("lin")
    for refuter, options, message in (
        ("placebo", {}, r"refuter is 'placebo'; expected one of DoWhy's"),
        ("data_subset_refuter", {"noise": 1}, "has no option 'noise'; it has 'subset_fraction'"),
        ("data_subset_refuter", {"subset_fraction": 1.0}, "subset_fraction is 1; expected a number between 0 and 1"),
        ("bootstrap_refuter", {"noise": -1.0}, "noise is -1; expected a number"),
        ("dummy_outcome_refuter", {"n_simulations": 5}, "n_simulations is 5; at the level 0.95 expected 19 or more"),
        ("dummy_outcome_refuter", {"n_jobs": 0}, "n_jobs is 0"),
    ):
        with pytest.raises(CausalRecError, match=message):
            study.refute_with_dowhy(effect, refuter, **options)
    clustered = study_of(frame, clusters="shop")
    effect = clustered.estimate("ols")
    with pytest.raises(CausalRecError, match=r"draw units, which here come in clusters; use study.refute"):
        clustered.refute_with_dowhy(effect, "data_subset_refuter")
    assert clustered.refute_with_dowhy(effect, "random_common_cause", n_simulations=19).passed
    designed = study_of(frame, propensity="e")
    with pytest.raises(CausalRecError, match=r"its chances are known and differ between units; use study.refute"):
        designed.refute_with_dowhy(designed.estimate("ipw"), "placebo_treatment_refuter")


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    study = study_of(make_data(200), **FEW)
    study.refute_with_dowhy(
        study.estimate("ols"), "random_common_cause", n_simulations=3, progress=lambda *done: told.append(done)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- slow -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pvalues_of_placebos_are_uniform() -> None:
    """By Kolmogorov and Smirnov, over samples whose treatment has no effect."""
    pvalues = []
    for seed in range(60):
        frame = make_data(100, seed)
        frame["y"] -= frame["t"] * (2 + frame["x"])
        study = study_of(frame, covariates=["x"], random_state=seed)
        placebo = study.refute_with_dowhy(study.estimate("ols"), "placebo_treatment_refuter", n_simulations=19)
        pvalues.append(placebo.pvalue)
    assert stats.kstest(pvalues, "uniform").pvalue > 0.001


@pytest.mark.slow
def test_econmls_numbers() -> None:
    """Against EconML itself; the att is the mean over the treated."""
    from causalrec.observational._inputs import read_sample
    from causalrec.observational.econml_adapter import _quiet, _settings

    frame = make_data()
    frame["plan"] = (frame["plan"] == "pro").astype(np.int64)
    given = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression(C=1e6)}
    study = study_of(frame)
    X, t, y = frame[COVARIATES].to_numpy(dtype=np.float64), frame["t"].to_numpy(), frame["y"].to_numpy()
    with _quiet():
        from econml.dml import LinearDML
        from econml.dr import LinearDRLearner
        from econml.metalearners import TLearner

        settings = _settings(read_sample(y, treatment=t, what="a test"), *given.values(), 5, 0)
        dml = LinearDML(**settings).fit(y, t, X=X)
        robust = LinearDRLearner(
            model_regression=given["outcome_model"], model_propensity=given["propensity_model"], cv=settings["cv"],
            random_state=0,
        ).fit(y, t, X=X)  # fmt: skip
        two = TLearner(models=LinearRegression()).fit(y, t, X=X)
    for name, peer in (("LinearDML", dml), ("LinearDRLearner", robust)):
        for estimand, units in (("ate", t >= 0), ("att", t == 1), ("atc", t == 0)):
            effect = study.estimate(f"econml.{name}", estimand=estimand, **given)
            with _quiet():
                expected = peer.ate_inference(X[units])
            assert effect.estimate == pytest.approx(float(np.ravel(expected.mean_point)[0]), rel=1e-8)
            assert effect.std_error == pytest.approx(float(np.ravel(expected.stderr_mean)[0]), rel=1e-8)
            assert "EconML's error, given the covariates" in effect.method
    effect = study.estimate("econml.TLearner", estimand="att", outcome_model=LinearRegression())
    assert effect.estimate == pytest.approx(float(two.effect(X[t == 1]).mean()), rel=1e-8)
    assert np.isnan(effect.std_error)
    forest = study.estimate("econml.CausalForestDML", estimand="att", n_trees=100, **given)
    plain = study.estimate("causal_forest", estimand="att", n_trees=100, **given)
    assert (forest.estimate, forest.std_error) == (plain.estimate, plain.std_error)
    truth = 2 + float(frame.loc[frame["t"] == 1, "x"].mean())
    for name in ("SparseLinearDML", "ForestDRLearner", "SLearner", "XLearner", "DomainAdaptationLearner"):
        options = {"outcome_model": given["outcome_model"]} if name == "SLearner" else given
        effect = study.estimate(f"econml.{name}", estimand="att", **options)
        assert abs(effect.estimate - truth) < 0.6, name
    with pytest.raises((CausalRecError, OverlapError)):
        study.estimate("econml.LinearDML", n_folds=1)
