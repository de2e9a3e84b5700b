"""Difference-in-differences against the R package did, regressions with clustered errors, and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, OverlapError, TreatmentError
from causalrec.observational import difference_in_differences
from causalrec.observational._panel_cells import doubly_robust_change
from causalrec.observational.design import regressors
from causalrec.observational.propensity import fit_likelihood
from causalrec.results import PanelEffectResult

# Counties, means and the lower triangle of the covariance (divisor n) of log teen employment in 2003 to 2007 by the
# year of the first rise of the minimum wage: the sample "mpdta" of the R package did (Callaway and Sant'Anna 2021).
# Effects without covariates and their errors depend on these alone.
MPDTA: dict[float, tuple[int, list[float], list[float]]] = {
    np.nan: (309, [5.65463, 5.592, 5.6048084, 5.6388963, 5.6611325],
        [2.16346947, 2.19627098, 2.25865379, 2.20554429, 2.25847497, 2.28100767, 2.17921222, 2.23416491,
         2.25094841, 2.26094299, 2.18889616, 2.24448481, 2.25996806, 2.25769181, 2.28096723]),
    2004: (20, [6.1796968, 6.1065636, 6.0594521, 6.0267044, 6.085388],
        [2.08716794, 2.11657709, 2.1548838, 2.1734884, 2.20940838, 2.2768489, 2.2039557, 2.2410632, 2.30695236,
         2.34302354, 2.14049257, 2.17208448, 2.23957918, 2.27115796, 2.21311478]),
    2006: (40, [6.5739936, 6.5178837, 6.5279413, 6.5574346, 6.543041],
        [1.57157052, 1.55440929, 1.55518435, 1.58020634, 1.58331789, 1.62381292, 1.5993138, 1.60226867, 1.64007975,
         1.66377149, 1.61014094, 1.61230907, 1.65201013, 1.67251121, 1.69113421]),
    2007: (131, [5.8429065, 5.8107831, 5.8208657, 5.8238664, 5.8200482],
        [2.2755813, 2.27912579, 2.29973639, 2.27384365, 2.291069, 2.30798895, 2.27191705, 2.29079422, 2.30085141,
         2.31860142, 2.24780561, 2.26782469, 2.27780748, 2.28840912, 2.28331077]),
}  # fmt: skip


def long(y: np.ndarray, first: np.ndarray, start: int = 2003, **columns: np.ndarray) -> pd.DataFrame:
    """A row per unit and period."""
    n, periods = y.shape
    unit, time = np.repeat(np.arange(n), periods), np.tile(np.arange(start, start + periods), n)
    whole = {name: np.repeat(values, periods) for name, values in columns.items()}
    return pd.DataFrame({"unit": unit, "time": time, "y": y.ravel(), "first": np.repeat(first, periods), **whole})


def counties() -> pd.DataFrame:
    """Made-up counties with exactly the moments of MPDTA."""
    rng, rows, first = np.random.default_rng(0), [], []
    for year, (n, mean, triangle) in MPDTA.items():
        lower = np.zeros((5, 5))
        lower[np.tril_indices(5)] = triangle
        covariance = lower + lower.T - np.diag(np.diag(lower))
        z = rng.normal(size=(n, 5))
        z -= z.mean(axis=0)
        z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T
        rows.append(mean + z @ np.linalg.cholesky(covariance).T)
        first.append(np.full(n, year))
    return long(np.vstack(rows), np.concatenate(first))


def staggered(n: int, seed: int, *, noise: float = 1.0, periods: int = 5, effect: float = 1.0) -> pd.DataFrame:
    """Groups that are chosen by their level (not their trend), effects that grow with time: 1, 2, 3, …"""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=n)
    first = np.array([2.0, 3.0, np.nan])[np.clip(np.digitize(level + rng.normal(size=n), [-0.5, 0.5]), 0, 2)]
    walk = np.cumsum(rng.normal(size=(n, periods)), axis=1) * noise
    since = np.arange(periods) - np.where(np.isnan(first), np.inf, first)[:, None]
    y = 3 * level[:, None] + 0.5 * np.arange(periods) + walk + effect * np.maximum(since + 1, 0)
    return long(y, first, start=0)


def estimate(frame: pd.DataFrame, **options: Any) -> PanelEffectResult:
    return difference_in_differences(
        frame, **{"unit": "unit", "time": "time", "outcome": "y", "first_treated": "first", **options}
    )


# --- published ------------------------------------------------------------------------------------------------------


def test_minimum_wage_effects_are_those_of_did() -> None:
    """att_gt(lemp, ~1) of did, as printed by summary() and, with analytical errors, in the README of moderndid."""
    result = estimate(counties(), base_period="varying")
    printed = {
        (2004, 2004): (-0.0105, 0.0233), (2004, 2005): (-0.0704, 0.0310), (2004, 2006): (-0.1373, 0.0364),
        (2004, 2007): (-0.1008, 0.0344), (2006, 2004): (0.0065, 0.0233), (2006, 2005): (-0.0028, 0.0196),
        (2006, 2006): (-0.0046, 0.0178), (2006, 2007): (-0.0412, 0.0202), (2007, 2004): (0.0305, 0.0150),
        (2007, 2005): (-0.0027, 0.0164), (2007, 2006): (-0.0311, 0.0179), (2007, 2007): (-0.0261, 0.0167),
    }  # fmt: skip
    assert [(int(g), int(t)) for g, t in zip(result.cell_group, result.cell_time, strict=True)] == list(printed)
    found = np.column_stack([result.cell_estimate, result.cell_error])
    np.testing.assert_allclose(found, list(printed.values()), rtol=0, atol=6e-5)
    assert result.pretrend_pvalue == pytest.approx(0.16812, abs=6e-6)
    assert result.pretrend_df == 5
    events = {-3: (0.0305, 0.0150), -2: (-0.0006, 0.0133), -1: (-0.0245, 0.0142), 0: (-0.0199, 0.0118),
              1: (-0.0510, 0.0169), 2: (-0.1373, 0.0364), 3: (-0.1008, 0.0344)}  # fmt: skip
    assert result.event.tolist() == list(events)
    found = np.column_stack([result.event_estimate, result.event_error])
    np.testing.assert_allclose(found, list(events.values()), rtol=0, atol=6e-5)
    assert (result.by_event, result.by_event_error) == pytest.approx((-0.0772, 0.0200), abs=6e-5)


def test_the_base_period_changes_neither_effects_nor_the_test_of_trends() -> None:
    varying, universal = (estimate(counties(), base_period=b) for b in ("varying", "universal"))
    for name in ("estimate", "std_error", "by_event", "pretrend_pvalue", "pretrend_df"):
        assert getattr(varying, name) == pytest.approx(getattr(universal, name), rel=1e-8), name
    assert universal.event.tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert universal.event_estimate[3] == universal.event_error[3] == 0


# --- against regressions --------------------------------------------------------------------------------------------


def test_two_periods_equal_the_regression_with_unit_and_period_effects_and_its_clustered_error() -> None:
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(1)
    treated = np.arange(40) < 15
    frame = long(rng.normal(size=(40, 2)) + np.outer(treated, [2, 3]), np.where(treated, 2004.0, np.nan))
    frame["on"] = ((frame["first"] == 2004) & (frame["time"] == 2004)).astype(int)
    result = difference_in_differences(frame, unit="unit", time="time", outcome="y", treatment="on")
    fit = smf.ols("y ~ on + C(unit) + C(time)", frame).fit(
        cov_type="cluster", cov_kwds={"groups": frame["unit"], "use_correction": False}
    )
    assert result.estimate == pytest.approx(fit.params["on"], rel=1e-10)
    assert result.std_error == pytest.approx(fit.bse["on"], rel=1e-8)
    assert result.twfe_estimate == pytest.approx(result.estimate)
    assert result.twfe_error == pytest.approx(result.std_error)
    assert result.twfe_negative == 0
    assert np.isnan(result.pretrend_pvalue)
    # Coarser clusters, with G / (G - 1).
    frame["region"] = frame["unit"] % 10
    fit = smf.ols("y ~ on + C(unit) + C(time)", frame).fit(
        cov_type="cluster", cov_kwds={"groups": frame["region"], "use_correction": False}
    )
    by_region = difference_in_differences(
        frame, unit="unit", time="time", outcome="y", treatment="on", clusters="region"
    )
    assert by_region.std_error == pytest.approx(fit.bse["on"] * np.sqrt(10 / 9), rel=1e-8)
    assert by_region.n_clusters == 10


def test_a_regression_with_staggered_treatment_is_shown_to_be_wrong() -> None:
    """Effects of 1, 2, 3, … without noise: the regression misses every average of them."""
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(2)
    first = np.repeat([1.0, 4.0, np.nan], [30, 30, 5])
    since = np.arange(6) - np.where(np.isnan(first), np.inf, first)[:, None]
    frame = long(rng.normal(size=65)[:, None] + np.maximum(since + 1, 0), first, start=0)
    frame["on"] = (frame["time"] >= frame["first"]).astype(int)
    result = estimate(frame)
    fit = smf.ols("y ~ on + C(unit) + C(time)", frame).fit(
        cov_type="cluster", cov_kwds={"groups": frame["unit"], "use_correction": False}
    )
    assert result.twfe_estimate == pytest.approx(fit.params["on"], rel=1e-9)
    assert result.twfe_error == pytest.approx(fit.bse["on"], rel=1e-6)
    assert result.estimate == pytest.approx((3 + 1.5) / 2)  # means of 1 to 5 and of 1 to 2
    assert result.simple == pytest.approx((15 + 3) / 7)
    assert result.twfe_estimate < 1.9
    assert result.twfe_negative < -0.05
    assert "weights below zero" in str(result)


def test_effects_and_averages_equal_brute_force() -> None:
    frame = staggered(60, 3)
    wide = frame.pivot(index="unit", columns="time", values="y")
    first = frame.groupby("unit")["first"].first()
    result = estimate(frame, control_group="not_yet_treated", aggregation="simple")
    cells = result.cells().set_index(["group", "time"])["estimate"]
    for (g, t), found in cells.items():
        base = g - 1
        own, others = first == g, (first.isna() | (first > max(t, base))) & (first != g)
        change = wide[t] - wide[base]
        assert found == pytest.approx(change[own].mean() - change[others].mean(), abs=1e-12)
    n = first.value_counts()
    post = [(g, t) for g, t in cells.index if t >= g]
    weights = np.array([n[g] for g, _ in post])
    assert result.estimate == pytest.approx(np.average([cells[c] for c in post], weights=weights))
    by_time = [np.average([cells[c] for c in post if c[1] == t], weights=[n[c[0]] for c in post if c[1] == t])
               for t in (2, 3, 4)]  # fmt: skip
    assert result.by_calendar == pytest.approx(np.mean(by_time))


def test_influences_of_the_doubly_robust_change_are_those_of_leaving_a_unit_out() -> None:
    rng = np.random.default_rng(4)
    n = 300
    X = rng.normal(size=(n, 2))
    treated = (rng.random(n) < stats.norm.cdf(X @ [0.5, -0.3])).astype(np.int64)
    change = X @ [1.0, 0.5] + X[:, 0] ** 2 + treated + rng.normal(size=n)

    def fit(rows: np.ndarray) -> tuple[float, np.ndarray]:
        Z = regressors(X[rows])
        return doubly_robust_change(change[rows], treated[rows], Z, fit_likelihood(Z, treated[rows]))

    whole, influence = fit(np.arange(n))
    left_out = np.array([whole - fit(np.delete(np.arange(n), i))[0] for i in range(n)])
    assert np.corrcoef(left_out, influence)[0, 1] > 0.995
    assert np.sqrt((left_out**2).sum()) == pytest.approx(np.sqrt((influence**2).sum()), rel=0.05)
    assert influence.sum() == pytest.approx(0, abs=1e-9)


# --- claims ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_intervals_and_the_band_cover_under_selection_on_levels(runs: int) -> None:
    """The truth: 2 = mean of 1, 2, 3 for those first treated at 2, 1.5 for those at 3."""
    covered, band, trend = 0, 0, 0
    for seed in range(runs):
        frame = staggered(150, seed)
        n = frame.drop_duplicates("unit")["first"].value_counts()
        result = estimate(frame)
        truth = (2 * n[2.0] + 1.5 * n[3.0]) / (n[2.0] + n[3.0])
        covered += result.ci_low <= truth <= result.ci_high
        expected = np.maximum(result.event + 1, 0)
        band += bool(((result.event_band_low <= expected) & (expected <= result.event_band_high)).all())
        trend += result.pretrend_pvalue < 0.05
    low, high = stats.binom.ppf([0.001, 0.999], runs, 0.95)
    assert low <= covered <= high
    assert low <= band
    assert runs - high <= trend <= runs - low


@pytest.mark.slow
def test_intervals_cover_with_shocks_and_treatment_by_region() -> None:
    runs, covered, naive = 300, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        region = np.repeat(np.arange(60), 4)
        first = np.where(region < 30, 3.0, np.nan)
        shocks = rng.normal(size=(60, 5)).cumsum(axis=1)[region]
        y = shocks + rng.normal(size=(240, 5)) + (np.arange(5) >= np.nan_to_num(first, nan=9)[:, None])
        frame = long(y, first, start=0, region=region)
        right, wrong = estimate(frame, clusters="region"), estimate(frame)
        covered += right.ci_low <= 1 <= right.ci_high
        naive += wrong.ci_low <= 1 <= wrong.ci_high
    assert stats.binom.ppf(0.001, runs, 0.95) <= covered
    assert naive < 0.85 * runs


@pytest.mark.slow
@pytest.mark.parametrize("method", ["doubly_robust", "regression"])
def test_intervals_cover_with_trends_that_depend_on_covariates(method: str) -> None:
    runs, covered, naive = 400, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=300)
        first = np.where(rng.random(300) < 1 / (1 + np.exp(-x)), 2.0, np.nan)
        y = np.outer(x, np.arange(4)) + rng.normal(size=(300, 4)) + 1.0 * (np.arange(4) >= 2) * (first == 2)[:, None]
        frame = long(y, first, start=0, x=x)
        result = estimate(frame, covariates=["x"], method=method)
        covered += result.ci_low <= 1 <= result.ci_high
        plain = estimate(frame)
        naive += plain.ci_low <= 1 <= plain.ci_high
    assert stats.binom.ppf(0.001, runs, 0.95) <= covered
    assert naive < 0.1 * runs


def test_trends_that_differ_are_found() -> None:
    frame = staggered(300, 5, noise=0.2)
    frame["y"] += np.where(frame["first"].isna(), 0, 0.5 * frame["time"])
    assert estimate(frame).pretrend_pvalue < 1e-6


def test_anticipation_moves_the_reference_and_leaves_the_anticipated_period_out() -> None:
    frame = staggered(200, 6, noise=0.01, periods=6)
    frame["first"] += 1  # units react a period before: 1 at event -1, then 2, 3, …
    result = estimate(frame, anticipation=1)
    table = result.to_frame().set_index("event")["estimate"]
    np.testing.assert_allclose(table[[-1, 0, 1]], [1, 2, 3], atol=0.02)
    assert table[-2] == 0
    assert result.pretrend_df == 3
    assert result.estimate == pytest.approx(estimate(frame, anticipation=1, base_period="varying").estimate)
    without = estimate(frame).to_frame().set_index("event")["estimate"]
    np.testing.assert_allclose(without[[0, 1]], [1, 2], atol=0.02)  # compared with a period that has an effect


# --- invariance -----------------------------------------------------------------------------------------------------


def test_order_units_labels_and_scales_change_nothing() -> None:
    frame = staggered(80, 7)
    frame["x"] = frame.groupby("unit")["y"].transform("first")
    frame["region"] = frame["unit"] % 20
    copy = frame.copy(deep=True)
    options = {"covariates": ["x"], "clusters": "region"}
    plain = estimate(frame, **options)
    pd.testing.assert_frame_equal(frame, copy)
    shuffled = estimate(frame.sample(frac=1, random_state=0), **options)
    named = estimate(frame.assign(unit="u" + frame["unit"].astype(str), region=frame["region"].map("r{}".format)),
                     **options)  # fmt: skip
    scaled = estimate(frame.assign(y=1000 - 5 * frame["y"], x=3e5 + 1e-3 * frame["x"]), **options)
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * frame["time"], unit="D")
    begun = pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * frame["first"], unit="D")
    dated = estimate(frame.assign(time=dates, first=begun), **options)
    on = (frame["time"] >= frame["first"]).map({True: "mail", False: "none"})
    labelled = estimate(frame.assign(on=on), first_treated=None, treatment="on", control="none", **options)
    for other, factor in ((shuffled, 1), (named, 1), (scaled, -5), (dated, 1), (labelled, 1)):
        assert other.estimate == pytest.approx(factor * plain.estimate, rel=1e-6)
        assert other.std_error == pytest.approx(abs(factor) * plain.std_error, rel=1e-6)
        assert other.pretrend_pvalue == pytest.approx(plain.pretrend_pvalue, rel=1e-5)
        np.testing.assert_allclose(other.event_estimate, factor * plain.event_estimate, rtol=1e-6, atol=1e-7)
    assert dated.group.tolist() == ["2024-01-15", "2024-01-22"]


# --- what has no answer ---------------------------------------------------------------------------------------------


def test_a_single_treated_unit_has_no_error() -> None:
    frame = staggered(60, 8)
    groups = frame.drop_duplicates("unit").groupby("first")["unit"]
    frame = frame[frame["first"].isna() | (frame["first"] == 2.0) | (frame["unit"] == groups.first()[3.0])]
    result = estimate(frame)
    assert np.isnan(result.std_error)
    assert np.isfinite(result.group_error[0])
    assert np.isnan(result.group_error[1])


def test_the_last_group_has_no_controls_where_all_are_treated() -> None:
    frame = staggered(90, 9).dropna(subset="first")
    result = estimate(frame, control_group="not_yet_treated")
    assert result.group.tolist() == [2]
    assert result.n_without_control == 6  # 2 in periods 3 and 4; 3 in all
    assert "6 cells without controls" in str(result)


def test_units_without_all_periods() -> None:
    frame = staggered(60, 10)
    gaps = frame.drop(index=frame.index[[3, 11, 12]])
    with pytest.raises(ColumnError, match=r"2 of 60 units lack.*unbalanced='drop'"):
        estimate(gaps)
    result = estimate(gaps, unbalanced="drop")
    kept = estimate(frame[~frame["unit"].isin(frame["unit"].iloc[[3, 11, 12]])])
    assert result.n_dropped == 2
    assert result.estimate == kept.estimate
    alone = estimate(gaps.assign(region=gaps["unit"]), unbalanced="drop", clusters="region")  # two regions are gone
    assert alone.n_clusters == 58
    assert alone.std_error == pytest.approx(kept.std_error * np.sqrt(58 / 57))


def change(**columns: Any) -> Any:
    return lambda frame: frame.assign(**columns)


@pytest.mark.parametrize(
    "edit, options, kind, words",
    [
        (lambda f: pd.concat([f, f.iloc[[7]]]), {}, ColumnError, ["several rows of a unit", "unit 1 at time 2"]),
        (change(on=lambda f: (f["time"] == f["first"]).astype(int)), {"treatment": "on", "first_treated": None},
         TreatmentError, ["turns off", "stays on"]),
        (change(first=lambda f: f["first"].fillna(0)), {}, TreatmentError, ["from the first period", "missing"]),
        (change(first=np.nan), {}, TreatmentError, ["no unit is treated"]),
        (change(first=3.0), {}, TreatmentError, ["never treated", "not_yet_treated"]),
        (change(first=lambda f: f["first"].where(f["time"] > 1)), {}, ColumnError, ["first", "changes"]),
        (change(x=lambda f: f["y"]), {"covariates": ["x"]}, ColumnError, ["x", "changes over time"]),
        (change(region=lambda f: f["time"]), {"clusters": "region"}, ColumnError, ["region", "changes over time"]),
        (change(y=np.nan), {}, OutcomeError, ["y", "missing"]),
        (change(time=lambda f: f["time"].astype(str)), {}, ColumnError, ["no order", "dates"]),
        (change(time=1), {}, ColumnError, ["single value"]),
        (change(x=lambda f: f["first"].notna()), {"covariates": ["x"]}, CausalRecError, ["too alike"]),
        (change(), {"treatment": "first"}, CausalRecError, ["either treatment= ", "first_treated="]),
        (change(), {"covariates": "x"}, ColumnError, ["['x']"]),
        (change(), {"outcome": "z"}, ColumnError, ["'z'"]),
        (change(), {"control_group": "never"}, CausalRecError, ["'never'", "'never_treated'"]),
        (change(), {"anticipation": -1}, CausalRecError, ["-1", "periods"]),
        (change(), {"anticipation": 9}, CausalRecError, ["before treatment", "anticipation"]),
    ],
)  # fmt: skip
def test_bad_input_is_named(edit: Any, options: dict[str, Any], kind: type[Exception], words: list[str]) -> None:
    frame = edit(staggered(40, 11))
    with pytest.raises(kind) as caught:
        estimate(frame, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_covariate_that_separates_the_groups_is_named() -> None:
    frame = staggered(60, 12)
    frame["x"] = np.where(frame["first"].isna(), 0, 100) + frame["unit"] / 60
    with pytest.raises(OverlapError, match="method='regression'"):
        estimate(frame, covariates=["x"])
    assert np.isfinite(estimate(frame, covariates=["x"], method="regression").estimate)
