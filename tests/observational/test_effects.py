"""Average effects: published values, statsmodels, DoWhy's own matching, and what the placebo claims."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.exceptions import (
    CausalRecError,
    ColumnError,
    EmptyTableError,
    MissingExtraError,
    OutcomeError,
    OverlapError,
    TreatmentError,
)
from causalrec.observational import (
    average_effect,
    design_matrix,
    difference_in_means,
    fit_propensity,
    match_nearest,
    placebo_treatment,
    study_effect,
)

COVARIATES = ["x0", "x1", "x2"]
NHEFS = ["sex", "race", "age", "education", "smokeintensity", "smokeyrs", "exercise", "active", "wt71"]


def make_frame(n: int = 400, seed: int = 0, *, n_covariates: int = 3, randomised: bool = False) -> pd.DataFrame:
    """Confounded by x0, with effect 1 + x0: larger for the treated than for all."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_covariates))
    chance = np.full(n, 0.4) if randomised else 1 / (1 + np.exp(-X[:, 0]))
    t = (rng.random(n) < chance).astype(np.int64)
    y = X[:, 0] + t * (1 + X[:, 0]) + rng.normal(size=n)
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(n_covariates)]).assign(t=t, y=y)


def given(**change: Any) -> dict[str, Any]:
    return {"treatment": "t", "outcome": "y", "covariates": COVARIATES, **change}


# --- difference in means --------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("name,effect,error", [("nsw_dw", 1794.343, 670.997), ("nsw", 886.30, 488.20)])
def test_difference_on_the_nsw_experiment(data_dir: Path, name: str, effect: float, error: float) -> None:
    """Dehejia and Wahba (1999) print 1,794; LaLonde (1986) prints 886."""
    frame = pd.read_csv(data_dir / "lalonde" / f"{name}.csv")
    found = average_effect(frame, treatment="treat", outcome="re78", method="difference_in_means")
    assert found.estimate == pytest.approx(effect, abs=5e-3)
    assert found.std_error == pytest.approx(error, abs=5e-3)
    assert (found.n_obs, found.estimand) == (len(frame), "ate")


@pytest.mark.data
def test_difference_on_hillstrom(data_dir: Path) -> None:
    """Visits 15.14% and 10.62%, as published many times: +4.52 points."""
    frame = pd.read_parquet(data_dir / "hillstrom" / "hillstrom.parquet")
    frame = frame[frame["segment"] != "Mens E-Mail"]
    found = average_effect(
        frame, treatment="segment", outcome="visit", control="No E-Mail", method="difference_in_means"
    )
    assert found.estimate == pytest.approx(0.0452331, abs=5e-8)


def test_neyman_error_is_statsmodels_hc2_and_the_interval_normal() -> None:
    import statsmodels.api as sm

    frame = make_frame(200)
    peer = sm.OLS(frame["y"], sm.add_constant(frame["t"])).fit(cov_type="HC2")
    found = average_effect(frame, **given(covariates=(), method="difference_in_means", confidence_level=0.9))
    low, high = peer.conf_int(alpha=0.1).loc["t"]
    assert (found.estimate, found.std_error, found.pvalue, found.ci_low, found.ci_high) == pytest.approx(
        (peer.params["t"], peer.bse["t"], peer.pvalues["t"], low, high), rel=1e-9
    )


def test_constant_outcome_has_effect_zero_and_no_pvalue() -> None:
    study = study_effect(make_frame().assign(y=0.0), **given(method="difference_in_means", n_placebo=20))
    assert (study.effect.estimate, study.effect.std_error) == (0, 0)
    assert np.isnan(study.effect.pvalue)
    assert (study.placebo.pvalue, study.placebo.estimate_pvalue) == (1.0, 1.0)


# --- propensity matching through DoWhy ------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_matching_agrees_with_dowhys_own_on_the_same_score(estimand: str) -> None:
    from causalrec.observational.dowhy_adapter import _quiet, causal_model

    frame = make_frame()
    score = fit_propensity(frame[COVARIATES].to_numpy(), treatment=frame["t"].to_numpy()).score
    assert len(np.unique(score)) == len(score)
    model, found = causal_model(frame, "t", "y", COVARIATES)
    model._data["score"] = score
    with _quiet():
        peer = model.estimate_effect(
            found,
            method_name="backdoor.propensity_score_matching",
            target_units=estimand,
            method_params={"init_params": {"propensity_score_column": "score"}, "fit_params": {}},
        )
    assert average_effect(frame, **given(estimand=estimand)).estimate == pytest.approx(peer.value, rel=1e-12)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_the_estimand_is_the_one_asked_for(estimand: str) -> None:
    """DoWhy ignores ``target_units`` in some estimators. Here the truth differs by group: 1 + mean of x0 in it."""
    frame = make_frame(4000, seed=1)
    group = {"ate": slice(None), "att": frame["t"] == 1, "atc": frame["t"] == 0}[estimand]
    truth = 1 + frame.loc[group, "x0"].mean()
    found = average_effect(frame, **given(estimand=estimand))
    direct = match_nearest(
        fit_propensity(frame[COVARIATES].to_numpy(), treatment=frame["t"].to_numpy()).score, frame["t"].to_numpy(),
        frame["y"].to_numpy(), estimand=estimand,
    )  # fmt: skip
    assert (found.estimate, found.std_error) == pytest.approx((direct.estimate, direct.std_error), rel=1e-9)
    assert abs(found.estimate - truth) < 4 * found.std_error
    assert found.estimand == estimand
    assert ("conservative" if estimand == "ate" else "too large or too small") in found.method


@pytest.mark.parametrize("method", ["propensity_matching", "doubly_robust", "difference_in_means"])
def test_the_callers_frame_stays_as_it_was(method: str) -> None:
    frame = make_frame()
    before = frame.copy(deep=True)
    average_effect(frame, **given(method=method))
    study_effect(frame, **given(method=method, n_placebo=2))
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    "as_type",
    [float, bool, str, lambda t: t.map({0: "no", 1: "yes"}).astype("category")],
    ids=["float", "bool", "str", "category"],
)
def test_treatment_of_any_type_gives_the_same_study(as_type) -> None:
    """DoWhy turns a float treatment into zeros in its placebo, and then finds p = 0."""
    frame = make_frame(120)
    other = frame.assign(t=frame["t"].astype(as_type) if isinstance(as_type, type) else as_type(frame["t"]))
    control = None if other["t"].dtype.kind in "fb" else other["t"][frame["t"] == 0].iloc[0]
    plain = study_effect(frame, **given(n_placebo=20))
    again = study_effect(other, **given(n_placebo=20, control=control))
    assert again.effect.to_dict() == plain.effect.to_dict()
    np.testing.assert_array_equal(again.placebo.draws, plain.placebo.draws)


def test_row_order_and_index_do_not_matter() -> None:
    frame = make_frame(300).round({"x0": 0, "x1": 0, "x2": 0})
    shuffled = frame.sample(frac=1, random_state=0).set_index(np.zeros(300, dtype=int))
    one, other = average_effect(frame, **given()), average_effect(shuffled, **given())
    assert (one.estimate, one.std_error) == pytest.approx((other.estimate, other.std_error), rel=1e-9)


@pytest.mark.parametrize("name", ["test group", "a-b", 'a"b', "a,b", "U", "1x", "a;b", "C(x)", "größe"])
def test_column_names_of_any_kind(name: str) -> None:
    frame = make_frame(120).rename(columns={"x0": name})
    expected = average_effect(make_frame(120), **given()).estimate
    assert average_effect(frame, **given(covariates=[name, "x1", "x2"])).estimate == pytest.approx(expected)
    study = study_effect(frame, treatment="t", outcome=name, covariates=["x1"], n_placebo=2)
    assert study.identification.backdoor_variables == ("x1",)


def test_many_covariates_are_all_adjusted_for() -> None:
    """DoWhy's default search would take minutes here, since it tries subsets."""
    frame = make_frame(300, n_covariates=60)
    names = [f"x{i}" for i in range(60)]
    found = study_effect(frame, **given(covariates=names, n_placebo=2)).identification
    assert found.backdoor_variables == tuple(sorted(names))
    assert "overlap" in " ".join(found.assumptions)


def test_identification_says_who_is_averaged_over_and_is_the_same_text_on_any_day() -> None:
    found = study_effect(make_frame(), **given(estimand="att", n_placebo=2)).identification
    assert found.expression == "mean over the treated of E[y | t=1, X] − E[y | t=0, X] with X = (x0, x1, x2)"


# --- doubly robust --------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_doubly_robust_on_nhefs(data_dir: Path) -> None:
    """In "What If": 3.4 kg by weighting, 3.5 by standardisation, 3.4 by g-estimation; the crude 2.5 is outside."""
    frame = pd.read_csv(data_dir / "nhefs" / "NHEFS.csv").dropna(subset=["wt82_71"])
    found = average_effect(frame, treatment="qsmk", outcome="wt82_71", covariates=NHEFS, method="doubly_robust")
    assert found.estimate == pytest.approx(3.45, abs=0.15)
    assert found.std_error == pytest.approx(0.49, abs=0.08)
    assert "EconML" in found.method
    assert "[0.01, 0.99]" in found.method


def test_doubly_robust_is_repeatable() -> None:
    frame = make_frame()
    one, other = (average_effect(frame, **given(method="doubly_robust", random_state=3)) for _ in range(2))
    assert one.to_dict() == other.to_dict()


def many_slopes(seed: int, n: int = 600) -> pd.DataFrame:
    """Twenty covariates, all of them linear in treatment and outcome: what trees alone learn too slowly."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 20))
    logit = X @ np.linspace(0.5, -0.5, 20)
    t = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(20)]).assign(t=t, y=logit + t + rng.normal(size=n))


def curved(seed: int, n: int = 1000) -> pd.DataFrame:
    """Effect 1 + x0 / 2, and a parabola in the outcome: what a linear model misses."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    t = (rng.random(n) < 1 / (1 + np.exp(-X[:, 0] - 0.5 * X[:, 1]))).astype(np.int64)
    y = X[:, 0] + 0.5 * X[:, 1] ** 2 + t * (1 + 0.5 * X[:, 0]) + rng.normal(size=n)
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(5)]).assign(t=t, y=y)


@pytest.mark.slow
@pytest.mark.parametrize("design", [many_slopes, curved])
def test_doubly_robust_interval_covers(design) -> None:
    n_runs, hits = 60, 0
    for seed in range(n_runs):
        frame = design(seed)
        names = [c for c in frame if c.startswith("x")]
        found = average_effect(frame, **given(covariates=names, method="doubly_robust"))
        hits += found.ci_low <= 1 <= found.ci_high
    assert hits >= stats.binom.ppf(0.001, n_runs, 0.95)


def test_doubly_robust_finds_a_linear_effect_in_many_covariates() -> None:
    frame = many_slopes(1, 4000)
    found = average_effect(frame, **given(covariates=[f"x{i}" for i in range(20)], method="doubly_robust"))
    assert abs(found.estimate - 1) < 3 * found.std_error
    assert found.std_error < 0.05


# --- placebo --------------------------------------------------------------------------------------------------------


def difference_of(frame: pd.DataFrame):
    y = frame["y"].to_numpy()
    return lambda permuted: difference_in_means(y, permuted)[0]


def matching_of(frame: pd.DataFrame):
    X, y = frame[["x0"]].to_numpy(), frame["y"].to_numpy()
    return lambda permuted: match_nearest(fit_propensity(X, treatment=permuted).score, permuted, y).estimate


@pytest.mark.parametrize("estimator", [difference_of, pytest.param(matching_of, marks=pytest.mark.slow)])
def test_placebo_pvalues_are_uniform_where_there_is_no_effect(estimator) -> None:
    """With 39 permutations P(estimate_pvalue <= 0.1) is exactly 4/40 for a randomised treatment without effect."""
    n_runs = 200
    of_estimate, of_mean = np.empty(n_runs), np.empty(n_runs)
    for seed in range(n_runs):
        frame = make_frame(60, seed, n_covariates=1, randomised=True)
        frame["y"] = frame["y"] - frame["t"] * (1 + frame["x0"])
        estimate_fn, t = estimator(frame), frame["t"].to_numpy()
        placebo = placebo_treatment(estimate_fn, t, estimate_fn(t), n_simulations=39, random_state=seed)
        of_estimate[seed], of_mean[seed] = placebo.estimate_pvalue, placebo.pvalue
    for pvalues in (of_estimate, of_mean):
        low, high = stats.binom.interval(0.998, n_runs, 0.1)
        assert low <= (pvalues <= 0.1).sum() <= high
        low, high = stats.binom.interval(0.998, n_runs, 0.5)
        assert low <= (pvalues <= 0.5).sum() <= high


def test_placebo_draws_are_distinct_and_fixed_by_the_seed() -> None:
    frame = make_frame()
    one, same, other = (study_effect(frame, **given(n_placebo=30, random_state=s)).placebo for s in (1, 1, 2))
    np.testing.assert_array_equal(one.draws, same.draws)
    assert one.to_dict() == same.to_dict()
    assert len(np.unique(np.concatenate([one.draws, other.draws]))) == 60
    assert one.estimate_pvalue == 1 / 31  # the true effect is far beyond any permutation's


def test_placebo_statistics_from_its_draws() -> None:
    placebo = study_effect(make_frame(), **given(n_placebo=50, confidence_level=0.8)).placebo
    assert placebo.pvalue == pytest.approx(stats.ttest_1samp(placebo.draws, 0).pvalue, rel=1e-9)
    assert (placebo.ci_low, placebo.ci_high) == pytest.approx(tuple(np.quantile(placebo.draws, [0.1, 0.9])))
    assert (placebo.placebo_effect, placebo.placebo_std) == pytest.approx(
        (placebo.draws.mean(), placebo.draws.std(ddof=1))
    )


def test_placebo_refits_the_propensity_of_each_permutation() -> None:
    frame = make_frame(200)
    study = study_effect(frame, **given(n_placebo=3, random_state=5))
    X, t, y = frame[COVARIATES].to_numpy(), frame["t"].to_numpy(), frame["y"].to_numpy()
    permuted = [np.random.default_rng(s).permutation(t) for s in np.random.SeedSequence(5).spawn(3)]
    expected = [match_nearest(fit_propensity(X, treatment=p).score, p, y).estimate for p in permuted]
    np.testing.assert_allclose(study.placebo.draws, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "method,addition",
    [
        ("propensity_matching", ""),
        ("doubly_robust", "; by propensity matching, beside its estimate, and not by the doubly robust estimator"),
    ],
)
def test_placebo_says_which_estimator_it_tried(method: str, addition: str) -> None:
    study = study_effect(make_frame(), **given(method=method, n_placebo=3))
    assert study.placebo.method == f"permuted treatment, everything estimated anew{addition}"
    assert study.placebo.estimate == average_effect(make_frame(), **given()).estimate


def test_ties_between_estimate_and_placebo_count_in_spite_of_rounding() -> None:
    placebo = placebo_treatment(lambda _: 0.1 + 0.2, np.array([0, 1]), 0.3, n_simulations=4)
    assert placebo.estimate_pvalue == 1.0
    placebo = placebo_treatment(lambda _: 0.3, np.array([0, 1]), 0.1 + 0.2, n_simulations=4)
    assert placebo.estimate_pvalue == 1.0
    assert placebo.pvalue == 0.0  # the same effect each time, and not zero


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    study_effect(make_frame(), **given(n_placebo=4, progress=lambda done, n: told.append((done, n))))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_one_simulation_is_too_few() -> None:
    with pytest.raises(CausalRecError, match="n_simulations is 1; expected at least 2"):
        study_effect(make_frame(), **given(n_placebo=1))


# --- balance and overlap of a study ---------------------------------------------------------------------------------


def test_matching_improves_balance_and_weights_the_groups_by_the_estimand() -> None:
    frame = make_frame(2000).assign(plan=lambda f: pd.cut(f["x0"], [-9, -0.5, 0.5, 9], labels=["a", "b", "c"]))
    study = study_effect(frame, **given(covariates=["x1", "plan"], estimand="att", n_placebo=2))
    table = study.balance.to_frame().set_index("covariate")
    assert table.index.tolist() == ["x1", "plan_a", "plan_b", "plan_c"]
    t = frame["t"].to_numpy()
    match = match_nearest(
        fit_propensity(design_matrix(frame[["x1", "plan"]])[0], treatment=t).score,
        t,
        frame["y"].to_numpy(),
        estimand="att",
    )
    share = (frame["plan"] == "a").to_numpy(float)
    p = share[t == 1].mean()
    after = (p - np.average(share[t == 0], weights=match.weight[t == 0])) / np.sqrt(p * (1 - p))
    assert table.loc["plan_a", "smd_after"] == pytest.approx(after, abs=1e-9)
    assert study.balance.max_abs_smd_before > 0.5
    assert study.balance.balanced


def test_an_experiment_shows_the_balance_of_its_groups_and_nothing_is_adjusted() -> None:
    frame = make_frame(500, randomised=True)
    plain = study_effect(frame, **given(covariates=(), method="difference_in_means", n_placebo=20))
    shown = study_effect(frame, **given(method="difference_in_means", n_placebo=20))
    assert plain.balance is None
    assert plain.overlap is None
    assert shown.effect.to_dict() == plain.effect.to_dict()
    np.testing.assert_array_equal(shown.placebo.draws, plain.placebo.draws)
    assert shown.identification.backdoor_variables == ()
    np.testing.assert_array_equal(shown.balance.smd_before, shown.balance.smd_after)
    arms = [frame.loc[frame["t"] == a, "x0"] for a in (0, 1)]
    smd = (arms[1].mean() - arms[0].mean()) / np.sqrt((arms[0].var() + arms[1].var()) / 2)
    assert shown.balance.smd_before[0] == pytest.approx(smd)
    assert shown.balance.method == "no adjustment"
    assert 0.2 < shown.overlap.min_propensity < 0.4 < shown.overlap.max_propensity < 0.65


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,arguments,error,message",
    [
        ({"t": 1}, {}, TreatmentError, "only 1 in 400 rows"),
        ({}, {"outcome": "yy"}, ColumnError, "missing column 'yy'.*Did you mean 'y'"),
        ({}, {"covariates": ["x0", "x9"]}, ColumnError, "missing column 'x9'"),
        ({"y": np.nan}, {}, OutcomeError, "y: 400 of 400 values are missing"),
        ({"y": "many"}, {}, OutcomeError, "not (a number|numbers)"),
        ({"x1": np.nan}, {}, ColumnError, "'x1' have missing values"),
        ({}, {"covariates": []}, CausalRecError, "needs covariates to adjust for"),
        ({}, {"covariates": "x0"}, ColumnError, "covariates is the text 'x0'; expected a list"),
        ({}, {"covariates": ["x0", "x0"]}, ColumnError, "'x0' are named twice"),
        ({}, {"covariates": ["x0", "t"]}, ColumnError, "'t' are named twice"),
        ({}, {"outcome": "t"}, ColumnError, "'t' are named twice"),
        ({}, {"method": "propensity_match"}, CausalRecError, "Did you mean 'propensity_matching'"),
        ({}, {"estimand": "atte"}, CausalRecError, "estimand is 'atte'.*Did you mean 'att'"),
        ({}, {"estimand": "atte", "method": "difference_in_means"}, CausalRecError, "estimand is 'atte'"),
        ({}, {"estimand": "att", "method": "doubly_robust"}, CausalRecError, "doubly_robust estimates the ate"),
        ({}, {"confidence_level": 95}, CausalRecError, "confidence_level is 95"),
        ({}, {"control": "psa"}, TreatmentError, "control='psa' is not among"),
    ],
)
def test_errors_name_what_is_wrong(change, arguments, error, message) -> None:
    frame = make_frame().assign(**change)
    for call in (average_effect, study_effect):
        with pytest.raises(error, match=message):
            call(frame, **given(**arguments))


def test_labels_need_a_control_and_two_arms() -> None:
    frame = make_frame().assign(t=lambda f: f["t"].map({0: "none", 1: "mail"}))
    with pytest.raises(TreatmentError, match="Pass control="):
        average_effect(frame, **given())
    frame.loc[0, "t"] = "phone"
    with pytest.raises(TreatmentError, match="compares two arms; found 3"):
        average_effect(frame, **given(control="none"))


def test_tiny_frames() -> None:
    frame = make_frame()
    with pytest.raises(EmptyTableError, match="0 rows"):
        average_effect(frame.iloc[:0], **given())
    with pytest.raises(TreatmentError, match=r"only . in 1 rows"):
        average_effect(frame.iloc[:1], **given())
    with pytest.raises(TreatmentError, match="each needs at least two"):
        average_effect(
            frame.sort_values("t").iloc[-200:].assign(t=[0] + [1] * 199), **given(method="difference_in_means")
        )
    with pytest.raises(OverlapError, match="needs 30 units of each arm"):
        average_effect(frame.iloc[:40], **given(method="doubly_robust"))


def test_a_constant_covariate_changes_nothing() -> None:
    frame = make_frame().assign(same=3.0)
    plain, more = (average_effect(frame, **given(covariates=c)) for c in (COVARIATES, [*COVARIATES, "same"]))
    assert more.estimate == pytest.approx(plain.estimate, rel=1e-12)


def test_separation_is_said() -> None:
    frame = make_frame().assign(x1=lambda f: f["t"] * 2.0)
    with pytest.raises(OverlapError, match="separate treated from control"):
        study_effect(frame, **given())


def test_without_dowhy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dowhy", None)
    monkeypatch.delitem(sys.modules, "causalrec.observational.dowhy_adapter", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'causalrec\[ate\]'"):
        average_effect(make_frame(), **given())
