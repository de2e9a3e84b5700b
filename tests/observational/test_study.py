"""The study: every method through one door, on the same units, the same score and the same nuisances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)
from causalrec.nuisance import fit_nuisances
from causalrec.observational import (
    METHODS,
    ObservationalStudy,
    _study_data,
    aipw,
    aipw_parametric,
    balance_table,
    entropy_balancing,
    estimate_ate,
    fit_propensity,
    lin_effect,
    match,
    matching_effect,
    subclassification,
    weighting_effect,
    weights,
)

COVARIATES = ["x0", "x1", "plan"]
OWN = [m.name for m in METHODS.values() if m.unasked]
LINEAR = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
FAST = {"aipw": LINEAR}  # instead of boosted trees


def make_frame(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Confounded by x0, with effect 1 + x0; a category, clusters of three rows and weights beside it."""
    rng = np.random.default_rng(seed)
    x0, x1 = rng.normal(size=n), rng.normal(size=n)
    t = (rng.random(n) < 1 / (1 + np.exp(-x0))).astype(np.int64)
    plan = np.array(["free", "basic", "pro"])[rng.integers(0, 3, n)]
    y = x0 + (plan == "pro") + t * (1 + x0) + rng.normal(size=n)
    return pd.DataFrame(
        {"x0": x0, "x1": x1, "plan": plan, "t": t, "y": y, "user": np.arange(n) // 3, "w": rng.integers(1, 4, n) * 1.0}
    )


def study_of(frame: Any, **change: Any) -> ObservationalStudy:
    return ObservationalStudy(frame, **{"treatment": "t", "outcome": "y", "covariates": COVARIATES, **change})


def numbers(effect: Any) -> tuple[float, float]:
    return effect.estimate, effect.std_error


# --- the same as the functions --------------------------------------------------------------------------------------


def test_each_method_is_its_function() -> None:
    frame = make_frame()
    X, y, t = frame[COVARIATES], frame["y"], frame["t"]
    score = fit_propensity(X, treatment=t)
    pairs = match(propensity=score, treatment=t, estimand="att", ratio=2, caliper=0.5)
    expected = {
        "lin": (lin_effect(X, y, treatment=t, estimand="att"), {}),
        "matching": (matching_effect(y, pairs, treatment=t), {"ratio": 2, "caliper": 0.5}),
        "ipw": (weighting_effect(y, weights(treatment=t, propensity=score, estimand="att"), treatment=t), {}),
        "entropy_balancing": (weighting_effect(y, entropy_balancing(X, treatment=t), treatment=t), {}),
        "subclassification": (
            subclassification(y, treatment=t, propensity=score, n_strata=4, estimand="att"), {"n_strata": 4},
        ),
    }  # fmt: skip
    study = study_of(frame)
    for name, (direct, options) in expected.items():
        found = study.estimate(name, estimand="att", **options)
        again = estimate_ate(X, y, treatment=t, method=name, estimand="att", **options)
        assert numbers(found) == numbers(again) == pytest.approx(numbers(direct), rel=1e-12), name
        assert (found.estimand, found.n_obs) == (direct.estimand, direct.n_obs)


def test_aipw_shares_the_nuisances_of_the_study() -> None:
    frame = make_frame()[["x0", "x1", "t", "y"]]
    X = frame[["x0", "x1"]].to_numpy()
    nuisance = fit_nuisances(X, frame["y"], treatment=frame["t"], **LINEAR)
    direct = aipw(X, frame["y"], treatment=frame["t"], nuisance=nuisance)
    found = study_of(frame, covariates=["x0", "x1"]).estimate("aipw", **LINEAR)
    ready = estimate_ate(X, frame["y"], treatment=frame["t"], nuisance=nuisance)
    assert numbers(found) == pytest.approx(numbers(direct), rel=1e-9)
    assert numbers(ready) == numbers(direct)
    with pytest.raises(CausalRecError, match="nuisance is given together with 'clip'"):
        estimate_ate(X, frame["y"], treatment=frame["t"], nuisance=nuisance, clip=0.01)


def test_matching_bias_adjustment_pairing_and_exact_strata() -> None:
    frame = make_frame()
    X, y, t = frame[COVARIATES], frame["y"], frame["t"]
    study = study_of(frame)
    pairs = match(X, treatment=t, distance="mahalanobis", exact=["plan"])
    found = study.estimate("matching", estimand="att", distance="mahalanobis", exact=["plan"], bias_adjustment=True)
    assert numbers(found) == pytest.approx(numbers(matching_effect(y, pairs, treatment=t, X=X)), rel=1e-12)
    optimal = match(propensity=fit_propensity(X, treatment=t), treatment=t, method="optimal", estimand="atc")
    found = study.estimate("matching", estimand="atc", pairing="optimal")
    assert numbers(found) == pytest.approx(numbers(matching_effect(y, optimal, treatment=t)), rel=1e-12)


def test_clusters_weights_level_and_known_propensity_reach_the_methods() -> None:
    frame = make_frame().assign(e=lambda f: 1 / (1 + np.exp(-f["x0"])))
    study = study_of(frame, clusters="user", sample_weight="w", propensity="e", confidence_level=0.8)
    design = weights(treatment=frame["t"], propensity=frame["e"], sample_weight=frame["w"])
    direct = weighting_effect(frame["y"], design, treatment=frame["t"], clusters=frame["user"], confidence_level=0.8)
    found = study.estimate("ipw")
    assert found.to_dict() == direct.to_dict()
    assert "known by design" in found.method
    arrays = {
        name: frame[column] for name, column in [("clusters", "user"), ("sample_weight", "w"), ("propensity", "e")]
    }
    again = estimate_ate(
        frame[COVARIATES], frame["y"], treatment=frame["t"], method="ipw", confidence_level=0.8, **arrays
    )
    assert again.to_dict() == direct.to_dict()


def test_a_score_fitted_on_other_covariates() -> None:
    frame = make_frame()
    score = fit_propensity(frame[["x0"]], treatment=frame["t"], model="probit")
    study = study_of(frame, covariates=["x0", "x1"], propensity=score)
    direct = aipw_parametric(frame[["x0", "x1"]], frame["y"], treatment=frame["t"], propensity=score)
    assert numbers(study.estimate("aipw_parametric")) == pytest.approx(numbers(direct), rel=1e-12)
    assert "probit" in study.overlap().method
    own = study_of(frame, covariates=["x0", "x1"]).estimate("aipw", **LINEAR)
    assert numbers(study.estimate("aipw", **LINEAR)) == numbers(own)  # not by a score that has seen its units
    with pytest.raises(CausalRecError, match=r"given as fitted \(probit.*pass propensity_model instead"):
        study.placebo("ipw", n_simulations=2)
    with pytest.raises(CausalRecError, match=r"fitted on 300 rows, of which missing='drop' leaves 200"):
        study_of(frame.assign(y=lambda f: f["y"].where(f.index >= 100)), propensity=score, missing="drop")


def test_score_and_nuisances_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[str] = []

    def counted(name: str) -> None:
        real = getattr(_study_data, name)
        monkeypatch.setattr(_study_data, name, lambda *a, **k: (fitted.append(name), real(*a, **k))[1])

    counted("fit_propensity")
    counted("fit_nuisances")
    study = study_of(make_frame()[["x0", "x1", "t", "y"]], covariates=["x0", "x1"])
    study.compare(options=FAST)
    study.overlap()
    study.estimate("aipw", estimand="att", outcome_model=LinearRegression(), propensity_model=LogisticRegression())
    assert sorted(fitted) == ["fit_nuisances", "fit_propensity"]
    study.estimate("ipw", propensity_model="probit")
    study.estimate("matching", propensity_model="probit")
    assert sorted(fitted) == ["fit_nuisances", "fit_propensity", "fit_propensity"]
    study.estimate("aipw", outcome_model=LinearRegression(fit_intercept=False), propensity_model=LogisticRegression())
    assert fitted.count("fit_nuisances") == 2


# --- what may come in -----------------------------------------------------------------------------------------------


def test_the_callers_frame_is_the_same_to_the_byte() -> None:
    frame = make_frame(120).astype({"plan": "category"})
    frame.index = np.arange(120)[::-1]
    before, bits = frame.copy(deep=True), pa.Table.from_pandas(frame).to_batches()[0].serialize().to_pybytes()
    study = study_of(frame, clusters="user")
    study.compare([name for name in OWN if name != "aipw"])
    study_of(frame, covariates=["x0", "x1"]).estimate("aipw", **LINEAR)
    study.balance(study.estimate("matching", estimand="att"))
    study.placebo("lin", n_simulations=2)
    estimate_ate(frame[COVARIATES], frame["y"], treatment=frame["t"], method="ipw")
    pd.testing.assert_frame_equal(frame, before)
    assert pa.Table.from_pandas(frame).to_batches()[0].serialize().to_pybytes() == bits


@pytest.mark.parametrize("kind", [pl.DataFrame, pa.Table.from_pandas])
def test_polars_and_arrow_frames(kind) -> None:
    frame = make_frame()
    one, other = study_of(frame), study_of(kind(frame), clusters=None)
    for name in ("lin", "matching", "ipw"):
        assert one.estimate(name).to_dict() == other.estimate(name).to_dict()
    given = kind(frame[COVARIATES])
    assert (
        estimate_ate(given, frame["y"], treatment=frame["t"], method="ipw").to_dict() == one.estimate("ipw").to_dict()
    )


def test_types_of_columns_change_nothing() -> None:
    frame = make_frame().assign(k=lambda f: f["user"] % 5)
    names = [*COVARIATES, "k"]
    expected = study_of(frame, covariates=names).estimate("ipw").to_dict()
    for other in (
        frame.convert_dtypes(),
        frame.convert_dtypes(dtype_backend="pyarrow"),
        frame.assign(k=frame["k"].astype(object)),
        frame.assign(plan=pd.Categorical(frame["plan"], categories=["none", "basic", "free", "pro"])),
        pl.from_pandas(frame).with_columns(pl.col("plan").cast(pl.Categorical)),
        pa.Table.from_pandas(frame.astype({"plan": "category"})),
    ):
        assert study_of(other, covariates=names).estimate("ipw").to_dict() == expected


@pytest.mark.parametrize(
    "code,control",
    [
        (lambda t: t.astype(float), None),
        (lambda t: t.astype(bool), None),
        (lambda t: t.astype("boolean"), None),
        (lambda t: t.map({0: "none", 1: "mail"}), "none"),
        (lambda t: t.map({0: "none", 1: "mail"}).astype("category"), "none"),
        (lambda t: t + 1, 1),
        (lambda t: 1 - t, 1),
    ],
)
def test_treatment_of_any_coding_gives_the_same(code, control) -> None:
    frame = make_frame()
    expected = study_of(frame).estimate("ipw").to_dict()
    assert study_of(frame.assign(t=code(frame["t"])), control=control).estimate("ipw").to_dict() == expected


@pytest.mark.parametrize("name", [n for n in OWN if n != "aipw"])
@pytest.mark.parametrize("estimand", ["ate", "att"])
def test_row_order_and_index_do_not_matter(name: str, estimand: str) -> None:
    """Tied scores too: x0 has few values. (Folds of AIPW follow the rows.)"""
    frame = make_frame(150).assign(x0=lambda f: f["x0"].round(), x1=lambda f: f["x1"].round())
    shuffled = frame.sample(frac=1, random_state=3).set_index(np.zeros(150, dtype=int))
    own = estimand if estimand in METHODS[name].estimands and METHODS[name].estimands[0] != "ato" else "ato"
    options = {"small": "merge"} if name == "subclassification" else {}
    one, other = (study_of(f).estimate(name, estimand=own, **options) for f in (frame, shuffled))
    assert numbers(one) == pytest.approx(numbers(other), rel=1e-7)


@pytest.mark.parametrize("name", ["test group", 'a"b', "größe", "C(x)"])
def test_column_names_of_any_kind(name: str) -> None:
    frame = make_frame()
    renamed = study_of(frame.rename(columns={"x0": name}), covariates=[name, "x1", "plan"])
    assert renamed.estimate("ipw").to_dict() == study_of(frame).estimate("ipw").to_dict()


def test_a_graph_says_what_to_adjust_for() -> None:
    frame = make_frame().assign(later=lambda f: f["y"] + 1, z=0.0)
    graph = "digraph {x0 -> t; x0 -> y; plan -> y; t -> y; y -> later; x1 -> t; U -> x1}"
    study = study_of(frame, covariates=(), graph=graph)
    assert study.covariates == ("plan", "x0")
    assert study.estimate("lin").to_dict() == study_of(frame, covariates=["plan", "x0"]).estimate("lin").to_dict()
    with pytest.raises(CausalRecError, match="covariates or a graph, not both"):
        study_of(frame, graph=graph)
    with pytest.raises(CausalRecError, match="has a cycle"):
        study_of(frame, covariates=(), graph="digraph {t -> y; y -> t}")


# --- missing values -------------------------------------------------------------------------------------------------


def with_gaps() -> pd.DataFrame:
    frame = make_frame()
    frame.loc[::10, "x0"] = np.nan
    frame.loc[::25, "plan"] = None
    return frame


def test_missing_values_are_refused_unless_said() -> None:
    with pytest.raises(ColumnError, match=r"'x0' \(30\), 'plan' \(12\) have missing values.*missing='indicator'"):
        study_of(with_gaps())
    with pytest.raises(OutcomeError, match=r"missing values in 300 rows: 300 of y.*missing='drop'"):
        study_of(make_frame().assign(y=np.nan))
    with pytest.raises(TreatmentError, match=r"missing values in 300 rows: 3 of treatment.*missing='drop'"):
        study_of(make_frame().assign(t=lambda f: f["t"].where(f.index > 2)), missing="indicator")
    with pytest.raises(EmptyTableError, match="leaves none of 300 rows"):
        study_of(make_frame().assign(y=np.nan), missing="drop")


def test_complete_cases_are_those_without_gaps_anywhere() -> None:
    frame = with_gaps().assign(y=lambda f: f["y"].where(f.index != 7))
    kept = frame.dropna()
    study = study_of(frame, missing="drop", clusters="user")
    assert study.n_obs == len(kept) == 263
    found, direct = study.estimate("ipw"), study_of(kept, clusters="user").estimate("ipw")
    assert numbers(found) == numbers(direct)
    assert study.notes == ("37 of 300 rows with missing values left out",)
    assert found.method == f"{direct.method}; 37 of 300 rows with missing values left out"
    X = frame[["x0", "x1"]].to_numpy()
    arrays = estimate_ate(X, frame["y"], treatment=frame["t"], missing="drop", method="lin", clusters=frame["user"])
    assert arrays.n_obs == int(frame[["x0", "x1", "y"]].notna().all(axis=1).sum())


@pytest.mark.parametrize("missing,level", [("indicator", "(missing)"), ("impute", None)])
def test_filled_values_are_marked_and_said(missing: str, level: str | None) -> None:
    study = study_of(with_gaps(), missing=missing)
    by_hand = with_gaps().assign(
        x0=lambda f: f["x0"].fillna(0.0 if level else f["x0"].mean()),
        plan=lambda f: f["plan"].fillna(level or f["plan"].mode()[0]),
    )
    names = COVARIATES
    if level:
        by_hand, names = by_hand.assign(m=with_gaps()["x0"].isna() * 1.0), [*COVARIATES, "m"]
    found = study.estimate("lin")
    assert numbers(found) == pytest.approx(numbers(study_of(by_hand, covariates=names).estimate("lin")), rel=1e-9)
    assert found.method.endswith(f"missing values of 2 covariates {'marked' if level else 'imputed'}")
    assert len(study.notes) == 2
    X = pd.DataFrame({"a": [1.0, np.nan] * 150})
    assert estimate_ate(X, by_hand["y"], treatment=by_hand["t"], method="lin", missing=missing).n_obs == 300


# --- side by side ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_comparison_holds_each_estimate_and_the_balance_that_it_leaves(estimand: str) -> None:
    study = study_of(make_frame(200)[["x0", "x1", "t", "y"]], covariates=["x0", "x1"])
    found = study.compare(estimand=estimand, options=FAST)
    assert found.names == tuple(OWN)
    assert found.failures == ()
    assert {e.estimand for e in found.effects} == {estimand, "ato"}
    for name in ("matching", "ipw", "ols"):
        own = found[name].estimand
        assert found[name].to_dict() == study.estimate(name, estimand=own).to_dict()
    at = found.names.index("ipw")
    assert found.max_abs_smd[at] == pytest.approx(study.balance(found["ipw"]).max_abs_smd_after, rel=1e-9)
    assert found.max_abs_smd[found.names.index("difference_in_means")] > 0.5
    assert found.max_abs_smd[found.names.index("entropy_balancing")] < 1e-6
    text = str(found)
    assert f"Effect of t on y ({estimand}), 200 units" in text
    assert "ols (ato)" in text


def test_a_method_that_fails_is_a_line_and_no_crash() -> None:
    """Level "pro" in the treated alone: the score and the regressions name it, the difference in means stands."""
    frame = make_frame().assign(plan=lambda f: np.where(f["t"] == 1, f["plan"], "free"))
    study = study_of(frame)
    for name in ("ipw", "matching", "aipw_parametric"):
        with pytest.raises(OverlapError, match=r"separate treated from control.*plan_"):
            study.estimate(name)
    found = study.compare(["difference_in_means", "ols", "ipw", "subclassification", "lin"])
    assert found.names == ("difference_in_means", "ols")
    assert [text.split(":")[0] for text in found.failures] == ["ipw", "subclassification", "lin"]
    assert "no estimate by ipw: " in str(found)
    assert "plan_" in found.failures[0]
    with pytest.raises(CausalRecError, match="no method gave an estimate"):
        study.compare(["ipw"])


def test_comparison_takes_methods_and_their_options() -> None:
    study = study_of(make_frame())
    found = study.compare(["matching", "ipw"], estimand="att", options={"matching": {"ratio": 3}})
    assert found.names == ("matching", "ipw")
    assert found["matching"].to_dict() == study.estimate("matching", estimand="att", ratio=3).to_dict()
    with pytest.raises(CausalRecError, match="options name 'lin', not compared here: 'matching'"):
        study.compare(["matching"], options={"lin": {}})
    with pytest.raises(CausalRecError, match="Did you mean 'matching'"):
        study.compare(["matchin"])
    with pytest.raises(CausalRecError, match="estimand is 'atte'"):
        study.compare(estimand="atte")
    modified = study.compare(["g_estimation"], options={"g_estimation": {"modifiers": ["x0"]}})
    assert modified["g_estimation"].estimand == "ate"


# --- balance and overlap --------------------------------------------------------------------------------------------


def test_balance_is_that_of_the_estimates_weights() -> None:
    frame = make_frame()
    study = study_of(frame)
    effect = study.estimate("matching", estimand="att")
    direct = balance_table(frame[COVARIATES], treatment=frame["t"], weights=effect.weights, estimand="att")
    found = study.balance(effect)
    np.testing.assert_allclose(found.smd_after, direct.smd_after)
    assert found.covariate.tolist() == ["x0", "x1", "plan_basic", "plan_free", "plan_pro"]
    assert found.max_abs_smd_after < found.max_abs_smd_before
    before = study.balance()
    np.testing.assert_array_equal(before.smd_before, before.smd_after)
    assert study.balance(threshold=0.5).threshold == 0.5


def test_balance_needs_weights_of_this_study() -> None:
    study = study_of(make_frame())
    logistic = study_of(make_frame().assign(y=lambda f: (f["y"] > 0) * 1)).estimate(
        "standardisation", outcome_model="logistic"
    )
    with pytest.raises(CausalRecError, match="no weighted mean of outcomes"):
        study.balance(logistic)
    with pytest.raises(CausalRecError, match=r"weights 200 units, the study has 300"):
        study.balance(study_of(make_frame(200)).estimate("ipw"))
    with pytest.raises(ColumnError, match="no covariates whose balance"):
        study_of(make_frame(), covariates=()).balance()


def test_overlap_is_that_of_the_score() -> None:
    frame = make_frame()
    score = fit_propensity(frame[COVARIATES], treatment=frame["t"]).score
    found = study_of(frame).overlap()
    assert (found.min_propensity, found.max_propensity) == (score.min(), score.max())
    assert "logistic" in found.method
    assert "probit" in study_of(frame).overlap(model="probit").method


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,arguments,error,message",
    [
        ({"t": 1}, {}, TreatmentError, "only 1 in 300 rows"),
        ({"t": [1, 2, 2] * 100}, {}, TreatmentError, r"found the values 1, 2; expected 0/1.*Pass control=1"),
        ({"t": [1, 2, 3] * 100}, {"control": 1}, TreatmentError, "compares two arms; found 3"),
        ({"t": ["a", "b", "b"] * 100}, {}, TreatmentError, "Pass control='a'"),
        ({}, {"control": "psa"}, TreatmentError, "control='psa' is not among"),
        ({}, {"outcome": "yy"}, ColumnError, "missing column 'yy'.*Did you mean 'y'"),
        ({}, {"covariates": ["x0", "x9"]}, ColumnError, "missing column 'x9'"),
        ({"y": "many"}, {}, OutcomeError, "'many'.*not a number"),
        ({"y": np.inf}, {}, OutcomeError, "y: 300 of 300 values are missing or infinite"),
        ({"x1": np.inf}, {}, ColumnError, "'x1' have infinite values"),
        ({"x1": pd.Timestamp("2025-01-01")}, {}, ColumnError, "'x1' are times"),
        ({}, {"covariates": []}, CausalRecError, "needs covariates to adjust for; .*difference_in_means"),
        ({}, {"covariates": "x0"}, ColumnError, "covariates is the text 'x0'; expected a list"),
        ({}, {"covariates": ["x0", "x0"]}, ColumnError, "'x0' are named twice"),
        ({}, {"covariates": ["x0", "t"]}, ColumnError, "'t' are named twice"),
        ({}, {"outcome": "t"}, ColumnError, "'t' are named twice"),
        ({}, {"confidence_level": 95}, CausalRecError, "confidence_level is 95"),
        ({}, {"missing": "guess"}, CausalRecError, "missing is 'guess'; expected one of"),
        ({}, {"propensity": 1.0}, OverlapError, "not strictly between 0 and 1"),
        ({}, {"propensity_model": "logit"}, CausalRecError, "logistic"),
        ({"x1": lambda f: f["t"] * 2.0}, {}, OverlapError, "separate treated from control"),
        ({"w": 0.0}, {"sample_weight": "w"}, CausalRecError, "sample_weight is zero in every row"),
        ({"w": lambda f: f["t"]}, {"sample_weight": "w"}, CausalRecError, "weight"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(change, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        study_of(make_frame().assign(**change), **arguments).estimate("ipw")


@pytest.mark.parametrize(
    "method,options,message",
    [
        ("matchng", {}, "method is 'matchng'; expected one of .*Did you mean 'matching'"),
        ("matching", {"calliper": 0.2}, "matching has no option 'calliper'.*Did you mean 'caliper'"),
        (
            "ols",
            {"estimand": "att"},
            "ols estimates the ato, not the att. Use .*'lin'.* for it, or ask for estimand='ato'",
        ),
        ("ipw", {"estimand": "ato"}, "ipw estimates the ate or att or atc, not the ato. Use .*'overlap_weights'"),
        ("ipw", {"estimand": "cate"}, "not the cate. No method has that one; ask for estimand='ate'"),
        ("dml", {"estimand": "ate"}, "dml estimates the ato, not the ate"),
        ("g_estimation", {"estimand": "ate"}, "modifiers"),
    ],
)
def test_a_method_says_what_it_cannot_do(method, options, message) -> None:
    with pytest.raises(CausalRecError, match=message):
        study_of(make_frame()).estimate(method, **options)


def test_methods_without_weights_say_so() -> None:
    with pytest.raises(CausalRecError, match=r"matching takes no sample weights; 'difference_in_means'.*'ipw'"):
        study_of(make_frame(), sample_weight="w").estimate("matching")


def test_estimate_ate_is_strict_about_the_estimand() -> None:
    frame = make_frame()
    with pytest.raises(CausalRecError, match="ols estimates the ato, not the ate"):
        estimate_ate(frame[COVARIATES], frame["y"], treatment=frame["t"], method="ols")
    assert study_of(frame).estimate("ols").estimand == "ato"


def test_other_frames_are_named() -> None:
    with pytest.raises(ColumnError, match="frame is of type dict; expected a pandas, Polars or Arrow frame"):
        study_of({"t": [0, 1]})
    with pytest.raises(ColumnError, match=r"type LazyFrame; expected .*Collect it first"):
        study_of(pl.from_pandas(make_frame()).lazy())
    with pytest.raises(EmptyTableError, match="0 rows"):
        study_of(make_frame().iloc[:0])
    with pytest.raises(CausalRecError, match="treatment has 2 values but there are 3 rows"):
        estimate_ate(None, [1.0, 2.0, 3.0], treatment=[0, 1], method="difference_in_means")


def test_without_covariates_the_difference_in_means_is_left() -> None:
    study = study_of(make_frame(), covariates=())
    assert study.compare().names == ("difference_in_means",)
    assert repr(study) == "ObservationalStudy(t → y, 300 units, adjusting for nothing)"
    assert estimate_ate(None, [1.0, 3.0, 2.0, 6.0], treatment=[0, 0, 1, 1], method="difference_in_means").estimate == 2


@pytest.mark.slow
def test_econml_when_asked() -> None:
    study = study_of(make_frame(600)[["x0", "x1", "t", "y"]], covariates=["x0", "x1"])
    models = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
    found = study.compare(["dml", "causal_forest"], options={"dml": models, "causal_forest": {"n_trees": 100}})
    assert found.names == ("dml", "causal_forest")
    assert [e.estimand for e in found.effects] == ["ato", "ate"]
    assert all(abs(e.estimate - 1) < 4 * e.std_error for e in found.effects)


def test_a_known_score_needs_no_covariates() -> None:
    rng = np.random.default_rng(20)
    score = rng.uniform(0.2, 0.8, 400)
    t = (rng.random(400) < score).astype(int)
    y = score + t + rng.normal(size=400)
    frame = pd.DataFrame({"t": t, "y": y, "e": score})
    study = ObservationalStudy(frame, treatment="t", outcome="y", propensity="e")
    for method in ("ipw", "matching", "subclassification", "full_matching"):
        alone = estimate_ate(None, y, treatment=t, propensity=score, method=method)
        beside = estimate_ate(rng.normal(size=(400, 1)), y, treatment=t, propensity=score, method=method)
        assert alone.estimate == beside.estimate == study.estimate(method).estimate
    with pytest.raises(CausalRecError, match="needs covariates"):
        study.estimate("lin")
    with pytest.raises(CausalRecError, match="bias_adjustment is a regression on covariates"):
        study.estimate("matching", bias_adjustment=True)


def test_a_known_score_beside_a_model_of_it_is_an_error() -> None:
    rng = np.random.default_rng(21)
    X, t = rng.normal(size=(60, 1)), np.arange(60) % 2
    with pytest.raises(CausalRecError, match="given together with propensity_model='probit'"):
        estimate_ate(X, X[:, 0], treatment=t, propensity=0.5, propensity_model="probit", method="ipw")
    study = ObservationalStudy(
        pd.DataFrame({"t": t, "y": X[:, 0], "x": X[:, 0]}),
        treatment="t",
        outcome="y",
        covariates=["x"],
        propensity=0.5,
    )
    with pytest.raises(CausalRecError, match="given together with 'n_folds'"):
        study.estimate("ipw", n_folds=3)


def test_columns_may_have_numbers_as_names_beside_text() -> None:
    rng = np.random.default_rng(22)
    frame = pd.DataFrame({0: rng.normal(size=80), 1: rng.choice(["a", "b"], 80), "t": np.arange(80) % 2})
    frame["y"] = frame[0] + frame["t"]
    found = ObservationalStudy(frame, treatment="t", outcome="y", covariates=[0, 1]).estimate("ipw")
    named = frame.rename(columns={0: "a", 1: "b"})
    same = ObservationalStudy(named, treatment="t", outcome="y", covariates=["a", "b"]).estimate("ipw")
    assert found.estimate == same.estimate


def test_overlap_of_an_effect_and_of_an_estimand() -> None:
    rng = np.random.default_rng(23)
    x = rng.normal(size=500)
    t = (rng.random(500) < 1 / (1 + np.exp(-x))).astype(int)
    frame = pd.DataFrame({"t": t, "y": x + t, "x": x})
    study = ObservationalStudy(frame, treatment="t", outcome="y", covariates=["x"])
    effect = study.estimate("ipw", estimand="att")
    found = study.overlap(effect)
    assert found.estimand == "att"
    assert found.ess_control == pytest.approx(effect.ess_control)
    assert found.treated_after is not None
    assert study.overlap(estimand="att").ess_control == pytest.approx(effect.ess_control)
    with pytest.raises(CausalRecError, match="no weights to show"):
        study.overlap(replace(effect, weights=None))


def test_complex_covariates_and_one_cluster_are_named() -> None:
    t = np.arange(40) % 2
    with pytest.raises(ColumnError, match="complex numbers"):
        estimate_ate(np.ones((40, 1)) * 1j, t * 1.0, treatment=t, method="ipw")
    X = np.random.default_rng(0).normal(size=(40, 1))
    with pytest.raises(CausalRecError, match="clusters holds the one value"):
        estimate_ate(X, t * 1.0, treatment=t, clusters=np.zeros(40), method="ipw")
