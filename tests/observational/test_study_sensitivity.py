"""Hidden bias of a study's estimates: every scale is that of its own function, and what does not apply is said."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.observational import (
    ObservationalStudy,
    evalue,
    match,
    matched_set_bounds,
    mcnemar_bounds,
    sensitivity_ols,
)
from causalrec.observational._benchmarks import times_as_strong
from causalrec.observational.omitted_bias import confounder_strength, omitted_bias
from causalrec.results import Recipe, SensitivityResult

COVARIATES = ["loyal", "age", "plan"]
LINEAR = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}


def make_frame(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Confounded by ``loyal``; ``plan`` is a category; the effect is 1."""
    rng = np.random.default_rng(seed)
    loyal, age = rng.normal(size=n), rng.normal(40, 10, n)
    plan = np.array(["free", "basic", "pro"])[rng.integers(0, 3, n)]
    sent = (rng.random(n) < 1 / (1 + np.exp(0.7 - 0.8 * loyal))).astype(int)
    spend = loyal + 0.5 * (plan == "pro") + sent + rng.normal(size=n)
    return pd.DataFrame(
        {"loyal": loyal, "age": age, "plan": plan, "sent": sent, "spend": spend, "bought": (spend > 0.8).astype(int),
         "user": np.arange(n) // 4, "w": rng.integers(1, 4, n) * 1.0}
    )  # fmt: skip


def study_of(frame: pd.DataFrame, outcome: str = "spend", **change: Any) -> ObservationalStudy:
    return ObservationalStudy(frame, **{"treatment": "sent", "outcome": outcome, "covariates": COVARIATES} | change)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_frame()


@pytest.fixture(scope="module")
def study(frame: pd.DataFrame) -> ObservationalStudy:
    return study_of(frame)


@pytest.fixture(scope="module")
def found(study: ObservationalStudy) -> SensitivityResult:
    return study.sensitivity(study.estimate("ols"))


def test_every_scale_is_that_of_its_own_function(
    frame: pd.DataFrame, study: ObservationalStudy, found: SensitivityResult
) -> None:
    effect = study.estimate("ols")
    X = sm.add_constant(pd.get_dummies(frame[COVARIATES], drop_first=True).astype(float).assign(sent=frame["sent"]))
    fit = sm.OLS(frame["spend"], X).fit()
    expected = evalue(effect, measure="ols", sd=math.sqrt(fit.mse_resid))
    assert found.evalue == pytest.approx(expected.evalue, rel=1e-10)
    assert found.evalue_ci == pytest.approx(expected.evalue_ci, rel=1e-10)
    assert found.partial_r2 is not None
    assert found.partial_r2.tstat == pytest.approx(fit.tvalues["sent"], rel=1e-9)
    assert found.robustness_value == found.partial_r2.robustness_value
    assert found.partial_r2.benchmark.tolist()[0] == found.strongest == "loyal"
    assert sorted(found.partial_r2.benchmark) == sorted(COVARIATES)
    assert found.tipping is not None
    assert (found.estimate, found.ci_low, found.ci_high) == (effect.estimate, effect.ci_low, effect.ci_high)


def test_a_cause_so_many_times_as_strong_brings_the_estimate_and_the_interval_to_zero(frame: pd.DataFrame) -> None:
    noisy = frame.assign(spend=frame["spend"] + np.random.default_rng(3).normal(0, 2, len(frame)))
    study = study_of(noisy)
    found = study.sensitivity(study.estimate("ols"))
    k = [found.strongest_times_ci, found.strongest_times]
    assert 0 < k[0] < k[1]
    beside = sensitivity_ols(
        noisy[COVARIATES], noisy["spend"], treatment=noisy["sent"], benchmarks=[found.strongest], kd=k
    )
    assert beside.adjusted_low[0] == pytest.approx(0, abs=1e-8)
    assert beside.adjusted_estimate[1] == pytest.approx(0, abs=1e-8)
    assert times_as_strong(0.1, 1.0, 100, 0.2, 0.2, critical_t=1.98) == 0
    assert times_as_strong(5.0, 1.0, 100, 0.2, 0.0) == math.inf


def test_benchmarks_of_the_triangle_are_those_of_regressions(frame: pd.DataFrame, found: SensitivityResult) -> None:
    """Shares that ``plan`` explains by two regressions of statsmodels each, as Cinelli and Hazlett define them."""
    dummies = pd.get_dummies(frame["plan"], drop_first=True).astype(float)
    others = sm.add_constant(frame[["loyal", "age"]])

    def share(y: pd.Series, without: pd.DataFrame) -> float:
        fits = [sm.OLS(y, Z).fit().ssr for Z in (without, pd.concat([without, dummies], axis=1))]
        return 1 - fits[1] / fits[0]

    by_treatment, by_outcome = share(frame["sent"], others), share(frame["spend"], others.assign(t=frame["sent"]))
    odds = by_treatment / (1 - by_treatment)
    shared = by_treatment * odds / (1 - by_treatment)
    eta2 = (1 + math.sqrt(shared)) ** 2 / (1 - shared)
    assert found.partial_r2 is not None
    row = found.partial_r2.to_frame().set_index("benchmark").loc["plan"]
    assert row["r2_treatment"] == pytest.approx(odds, rel=1e-9)
    assert row["r2_outcome"] == pytest.approx(eta2 * by_outcome / (1 - by_outcome), rel=1e-9)


def test_the_sets_of_a_matching_without_replacement_are_its_own(study: ObservationalStudy, frame: pd.DataFrame) -> None:
    effect = study.estimate("matching", estimand="att", replace=False, caliper=0.3)
    found = study.sensitivity(effect, gammas=[1, 1.5])
    sets = match(frame[COVARIATES], treatment=frame["sent"], estimand="att", replace=False, caliper=0.3)
    expected = matched_set_bounds(frame["spend"], sets, treatment=frame["sent"], gamma=[1, 1.5])
    assert found.rosenbaum is not None
    assert found.gamma == pytest.approx(expected.turning_gamma, rel=1e-9)
    assert found.rosenbaum.n_sets == expected.n_sets == effect.n_treated
    assert not any("gamma" in note for note in found.notes)


def test_pairs_are_made_where_sets_share_units_and_the_notes_say_so(
    study: ObservationalStudy, frame: pd.DataFrame
) -> None:
    found = study.sensitivity(study.estimate("matching", estimand="att"))
    sets = match(
        frame[COVARIATES], treatment=frame["sent"], distance="logit", estimand="att", replace=False, caliper=0.2
    )
    assert found.rosenbaum is not None
    assert found.rosenbaum.n_sets == sets.n_matched
    assert found.gamma == pytest.approx(
        matched_set_bounds(frame["spend"], sets, treatment=frame["sent"]).turning_gamma, rel=1e-9
    )
    assert any("share units" in note and f"{sets.n_matched:,} pairs" in note for note in found.notes)


@pytest.mark.parametrize("method", ["ols", "full_matching"])
def test_a_binary_outcome_has_risks(method: str, frame: pd.DataFrame) -> None:
    study = study_of(frame, "bought")
    effect = study.estimate(method)
    found = study.sensitivity(effect)
    assert found.evalues is not None
    assert found.evalues.measure == "rd"
    assert found.rosenbaum is not None
    assert "events" in found.rosenbaum.method
    assert math.isnan(found.rosenbaum.estimate)
    if method == "ols":
        sets = match(
            frame[COVARIATES], treatment=frame["sent"], distance="logit", estimand="att", replace=False, caliper=0.2
        ).pairs()
        y = frame["bought"].to_numpy()
        only = [int(((y[sets["unit"]] == k) & (y[sets["match"]] != k)).sum()) for k in (1, 0)]
        assert found.gamma == pytest.approx(mcnemar_bounds(*only).turning_gamma, rel=1e-9)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc", "ato"])
def test_the_baseline_risk_is_that_of_the_estimand(estimand: str, frame: pd.DataFrame) -> None:
    study = study_of(frame, "bought")
    method = "overlap_weights" if estimand == "ato" else "ipw"
    effect = study.estimate(method, estimand=estimand)
    e, control = effect.propensity, (frame["sent"] == 0).to_numpy()
    assert e is not None
    weight = {"ate": 1 / (1 - e), "att": e / (1 - e), "atc": np.ones(len(e)), "ato": e}[estimand][control]
    baseline = np.average(frame["bought"][control], weights=weight)
    for of in (effect, replace(effect, weights=None)):
        found = study.sensitivity(of).evalues
        assert found is not None
        assert found.risk_ratio == pytest.approx((baseline + effect.estimate) / baseline, rel=1e-9)


def test_aipw_has_bounds_from_the_nuisances_of_the_study(frame: pd.DataFrame) -> None:
    study = study_of(frame, covariates=["loyal", "age"])
    effect = study.estimate("aipw", **LINEAR)
    found = study.sensitivity(effect)
    nuisance = study._data.nuisance(**LINEAR)
    without = study_of(frame, covariates=["age"])._data.nuisance(**LINEAR)
    strength = confounder_strength(nuisance, without, name="loyal")
    expected = omitted_bias(nuisance, cf_outcome=strength.cf_outcome, cf_treatment=strength.cf_treatment)
    assert found.omitted_bias is not None
    assert found.omitted_bias.estimate == pytest.approx(effect.estimate, rel=1e-12)
    assert found.robustness_value == expected.robustness_value
    assert (found.omitted_bias.ci_low, found.omitted_bias.ci_high) == (expected.ci_low, expected.ci_high)
    assert [s.name for s in found.strengths] == ["loyal"]
    assert "AIPW beside a hidden cause like loyal" in str(found)
    asked = study.sensitivity(effect, benchmarks=["age", "loyal"])
    assert [s.name for s in asked.strengths] == ["age", "loyal"]


def test_what_does_not_apply_is_said(frame: pd.DataFrame) -> None:
    clustered = study_of(frame, clusters="user")
    found = clustered.sensitivity(clustered.estimate("ols"))
    assert found.rosenbaum is None
    assert math.isnan(found.gamma)
    assert found.robustness_value > 0
    assert math.isnan(found.robustness_value_alpha)
    assert math.isnan(found.strongest_times_ci)
    assert sum("cluster" in note for note in found.notes) == 2
    weighted = study_of(frame, sample_weight="w")
    found = weighted.sensitivity(weighted.estimate("ipw"))
    assert found.partial_r2 is found.rosenbaum is None
    assert found.evalue > 1
    assert sum("sample weights" in note for note in found.notes) == 2
    alone = study_of(frame, covariates=[])
    found = alone.sensitivity(alone.estimate("difference_in_means"))
    assert found.strongest == ""
    assert found.evalue > 1
    assert sum("no covariates" in note for note in found.notes) == 2
    known = study_of(frame, propensity=0.5)
    assert any("the same for all" in note for note in known.sensitivity(known.estimate("ipw")).notes)
    for text in (str(r) for r in (found, known.sensitivity(known.estimate("ols")))):
        assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", ["instrumental_variable", "front_door"])
def test_other_ways_of_identification_have_other_doubts(name: str, study: ObservationalStudy) -> None:
    effect = replace(study.estimate("ols"), recipe=Recipe(name, "ate"))
    found = study.sensitivity(effect)
    assert found.partial_r2 is found.evalues is found.rosenbaum is found.tipping is None
    assert "no scale here applies" in found.notes[0]
    assert "note: by" in str(found)


def test_the_order_of_rows_and_the_units_do_not_matter(frame: pd.DataFrame, found: SensitivityResult) -> None:
    coarse = frame.assign(loyal=frame["loyal"].round(), age=(frame["age"] / 10).round())  # many scores alike
    study = study_of(coarse, covariates=["loyal", "age"])
    first = study.sensitivity(study.estimate("matching", estimand="att", replace=False))
    pairs = study.sensitivity(study.estimate("ols"))
    for seed in range(3):
        mixed = study_of(coarse.sample(frac=1, random_state=seed), covariates=["loyal", "age"])
        again = mixed.sensitivity(mixed.estimate("matching", estimand="att", replace=False))
        assert again.gamma == pytest.approx(first.gamma, rel=1e-9)
        assert mixed.sensitivity(mixed.estimate("ols")).gamma == pytest.approx(pairs.gamma, rel=1e-9)
    other = study_of(frame.assign(spend=1000 * frame["spend"] + 7, age=365.25 * frame["age"]))
    moved = other.sensitivity(other.estimate("ols"))
    names = ("gamma", "evalue", "evalue_ci", "robustness_value", "robustness_value_alpha", "strongest_times",
             "strongest_times_ci")  # fmt: skip
    for name in names:
        assert getattr(moved, name) == pytest.approx(getattr(found, name), rel=1e-7), name


def test_nothing_given_is_changed_and_another_level_is_taken(frame: pd.DataFrame, found: SensitivityResult) -> None:
    before = frame.copy(deep=True)
    study = study_of(frame)
    effect = study.estimate("ols")
    wide = study.sensitivity(effect, confidence_level=0.99)
    pd.testing.assert_frame_equal(frame, before)
    assert wide.ci_low < found.ci_low
    assert wide.gamma < found.gamma
    assert wide.robustness_value_alpha < found.robustness_value_alpha
    assert effect.confidence_level == 0.95


def test_no_effect_is_said_to_be_none(frame: pd.DataFrame) -> None:
    study = study_of(frame.assign(spend=np.random.default_rng(8).normal(size=len(frame))))
    found = study.sensitivity(study.estimate("ols"))
    assert found.includes_zero
    assert "includes zero already" in str(found)
    assert found.strongest_times_ci == 0
    assert "nothing" in str(found)


def test_a_covariate_that_nothing_can_be_as_strong_as_is_no_benchmark(frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    near = frame["sent"] + rng.normal(0, 0.3, len(frame))
    study = study_of(frame.assign(near=near), covariates=["loyal", "near"])
    found = study.sensitivity(study.estimate("ols"))
    assert found.strongest == "loyal"
    assert any("'near'" in note for note in found.notes)


def test_bad_input_is_named(study: ObservationalStudy) -> None:
    effect = study.estimate("ols")
    with pytest.raises(CausalRecError, match=r"gamma: found 0\.5"):
        study.sensitivity(effect, gammas=[0.5])
    with pytest.raises(ColumnError, match="benchmarks"):
        study.sensitivity(effect, benchmarks=["height"])
    with pytest.raises(CausalRecError, match="estimate is nan"):
        study.sensitivity(replace(effect, estimate=math.nan))


def test_the_farmers_of_darfur(data_dir: Path) -> None:
    """Cinelli and Hazlett 2020, table 1; a cause like ``female`` needs to be more than three times as strong."""
    frame = pd.read_csv(data_dir / "darfur" / "darfur.csv")
    columns = ["age", "farmer_dar", "herder_dar", "pastvoted", "hhsize_darfur", "female", "village"]
    study = ObservationalStudy(frame, treatment="directlyharmed", outcome="peacefactor", covariates=columns)
    found = study.sensitivity(study.estimate("ols"), benchmarks=["female"])
    assert found.robustness_value == pytest.approx(0.138776, abs=1e-6)
    assert found.robustness_value_alpha == pytest.approx(0.076258, abs=1e-6)
    assert found.partial_r2 is not None
    assert found.partial_r2.adjusted_estimate[0] == pytest.approx(0.0752, abs=1e-4)
    assert 3 < found.strongest_times < 5
    assert found.strongest_times_ci < 3
