"""Partial R² and omitted bias: printed numbers, regressions with the confounder in them, other packages' output."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, ColumnError, OverlapError
from causalrec.nuisance import fit_nuisances
from causalrec.observational import confounder_strength, omitted_bias, robustness_value, sensitivity_ols
from causalrec.observational.omitted_bias import BiasParts, _Bounds, bias_parts, strength_of
from causalrec.observational.partial_r2 import as_strong_as, confounded, partial_r2

COVARIATES = ["age", "farmer_dar", "herder_dar", "pastvoted", "hhsize_darfur", "female", "village"]


@pytest.mark.data
def test_violence_and_peace_in_darfur(data_dir: Path) -> None:
    """Cinelli and Hazlett 2020, section 5 and table 2, in more digits by the R package sensemakr."""
    frame = pd.read_csv(data_dir / "darfur" / "darfur.csv")
    before = frame.copy()
    found = sensitivity_ols(
        frame[COVARIATES], frame["peacefactor"], treatment=frame["directlyharmed"], benchmarks=["female"]
    )
    pd.testing.assert_frame_equal(frame, before)
    assert (found.n_obs, found.dof) == (1276, 783)
    assert round(found.estimate, 7) == 0.0973158
    assert round(found.std_error, 7) == 0.0232565
    assert round(found.tstat, 5) == 4.18445
    assert round(found.partial_r2, 6) == 0.021873
    assert round(found.robustness_value, 6) == 0.138776
    assert round(found.robustness_value_alpha, 6) == 0.076258
    assert found.r2_treatment.round(4).tolist() == [0.0092, 0.0183, 0.0275]
    assert found.r2_outcome.round(4).tolist() == [0.1246, 0.2493, 0.3741]
    assert found.adjusted_estimate.round(4).tolist() == [0.0752, 0.0529, 0.0304]
    assert found.adjusted_t.round(2).tolist() == [3.44, 2.60, 1.63]


@pytest.fixture(scope="module")
def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 3))
    hidden = rng.normal(size=300)
    dose = x @ [0.5, 0.3, 0.0] + 0.6 * hidden + rng.normal(size=300)
    return {
        "x": x,
        "dose": dose,
        "hidden": hidden,
        "y": dose + x @ [1.0, 0.5, 0.2] + 0.9 * hidden + rng.normal(size=300),
    }


def ols(y, *columns):
    return sm.OLS(y, sm.add_constant(np.column_stack(columns))).fit()


def test_the_regression_with_the_confounder_in_it(sample) -> None:
    """The formulas are identities: with the confounder's own R² they give the long regression to the last digit."""
    x, dose, hidden, y = (sample[k] for k in ("x", "dose", "hidden", "y"))
    short, long = ols(y, dose, x), ols(y, dose, x, hidden)
    by_treatment = partial_r2(ols(dose, hidden, x).tvalues[1], int(ols(dose, hidden, x).df_resid))
    by_outcome = partial_r2(long.tvalues[5], int(long.df_resid))
    estimate, error = confounded(short.params[1], short.bse[1], int(short.df_resid), by_treatment, by_outcome)
    assert float(estimate) == pytest.approx(long.params[1], rel=1e-10)
    assert float(error) == pytest.approx(long.bse[1], rel=1e-10)
    found = sensitivity_ols(x, y, treatment=dose)
    assert (found.estimate, found.std_error, found.dof) == pytest.approx(
        (short.params[1], short.bse[1], short.df_resid)
    )


def test_benchmarks_from_t_statistics(sample) -> None:
    x, dose, y = (sample[k] for k in ("x", "dose", "y"))
    found = sensitivity_ols(x, y, treatment=dose, benchmarks=["x1"], kd=2)
    first, second = ols(dose, x), ols(y, dose, x)
    r2d, r2y = partial_r2(first.tvalues[2], int(first.df_resid)), partial_r2(second.tvalues[3], int(second.df_resid))
    expected = as_strong_as(r2d, r2y, 2.0, 2.0, name="x1")
    assert (found.r2_treatment[0], found.r2_outcome[0]) == pytest.approx(expected)
    long = sensitivity_ols(x, y, treatment=dose, benchmarks={"both": ["x0", "x1"], "one": ["x1"]}, kd=1, ky=2)
    assert long.benchmark.tolist() == ["both", "one"]
    assert long.r2_treatment[0] > long.r2_treatment[1]


@pytest.mark.parametrize("t", [0.5, 2.5, 4.2, 60.0])
@pytest.mark.parametrize("dof", [5, 783])
@pytest.mark.parametrize("q", [1.0, 0.5])
def test_the_robustness_value_is_where_the_worst_confounder_succeeds(t: float, dof: int, q: float) -> None:
    """Of all confounders that explain at most r of either, the one that leaves the least t statistic."""
    for alpha in (None, 0.05):
        value = robustness_value(t, dof, q=q, alpha=alpha)
        limit = 0.0 if alpha is None else stats.t.isf(alpha / 2, dof - 1)
        if value == 0:
            start, error = confounded(1.0, 1 / t, dof, 0.0, 0.0)
            assert (start - (1 - q)) / error <= limit * (1 + 1e-9)
            continue
        for r, reached in ((value * (1 - 1e-6), False), (min(value * (1 + 1e-6), 1 - 1e-12), True)):
            estimate, error = confounded(1.0, 1 / t, dof, r, np.linspace(0, r, 20001))
            least = ((estimate - (1 - q)) / np.maximum(error, 1e-300)).min()
            assert (least < limit + 1e-7 * max(limit, 1e-3)) == reached or abs(least - limit) < 1e-4


def test_signs_units_and_order(sample) -> None:
    x, dose, y = (sample[k] for k in ("x", "dose", "y"))
    found = sensitivity_ols(x, y, treatment=dose, benchmarks=["x0"])
    order = np.random.default_rng(2).permutation(300)
    other = sensitivity_ols(7 * x[order] + 3, -2 * y[order] + 5, treatment=10 * dose[order], benchmarks=["x0"])
    assert other.robustness_value == pytest.approx(found.robustness_value)
    np.testing.assert_allclose(other.adjusted_estimate, -0.2 * found.adjusted_estimate)
    np.testing.assert_allclose(other.adjusted_t, -found.adjusted_t)
    np.testing.assert_allclose(other.grid_t, -found.grid_t)


def test_contours_are_the_formula(sample) -> None:
    found = sensitivity_ols(sample["x"], sample["y"], treatment=sample["dose"], q=0.5)
    r = found.grid[7], found.grid[11]
    estimate, error = confounded(found.estimate, found.std_error, found.dof, r[1], r[0])
    assert found.grid_estimate[7, 11] == pytest.approx(float(estimate))
    assert found.grid_t[7, 11] == pytest.approx(float((estimate - 0.5 * found.estimate) / error))
    assert found.grid_t[0, 0] > found.critical_t


def test_categories_count_together_and_collinear_columns_not_at_all(sample) -> None:
    town = np.random.default_rng(3).choice(["a", "b", "c"], 300)
    frame = pd.DataFrame(sample["x"], columns=["u", "v", "w"]).assign(town=town, twice=2 * sample["x"][:, 0])
    found = sensitivity_ols(frame, sample["y"], treatment=sample["dose"], benchmarks=["town", "v"], kd=1)
    plain = sensitivity_ols(frame.drop(columns="twice"), sample["y"], treatment=sample["dose"], benchmarks=["v"], kd=1)
    assert found.dof == 300 - 7
    assert found.robustness_value == pytest.approx(plain.robustness_value)
    assert found.adjusted_estimate[1] == pytest.approx(plain.adjusted_estimate[0])
    long = ols(sample["dose"], sample["x"], town == "b", town == "c")
    short = ols(sample["dose"], sample["x"])
    r2 = (short.ssr - long.ssr) / short.ssr
    assert found.r2_treatment[0] == pytest.approx(r2 / (1 - r2))


def test_bad_input(sample) -> None:
    x, dose, y = (sample[k] for k in ("x", "dose", "y"))
    with pytest.raises(ColumnError, match="x7"):
        sensitivity_ols(x, y, treatment=dose, benchmarks=["x7"])
    with pytest.raises(CausalRecError, match="Take kd below"):
        sensitivity_ols(x, y, treatment=dose, benchmarks=["x0"], kd=1000)
    with pytest.raises(OverlapError, match="determine the treatment"):
        sensitivity_ols(x, y, treatment=x @ [1, 2, 3])
    with pytest.raises(CausalRecError, match="degrees of freedom"):
        sensitivity_ols(x[:5], y[:5], treatment=dose[:5])
    with pytest.raises(CausalRecError, match="without error"):
        sensitivity_ols(x, dose + x @ [1, 2, 3], treatment=dose)
    with pytest.raises(CausalRecError, match="above 0"):
        sensitivity_ols(x, y, treatment=dose, kd=-1)
    with pytest.raises(CausalRecError, match="nothing can be as strong"):
        sensitivity_ols(np.column_stack([x, y + 1e-6 * x[:, 0] ** 2]), y, treatment=dose, benchmarks=["x3"])
    with pytest.raises(CausalRecError, match="q is"):
        robustness_value(2.0, 100, q=0)
    with pytest.raises(CausalRecError, match="dof"):
        robustness_value(2.0, 1)


# ---- doubly robust effects


def drawn() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(12)
    x = rng.normal(size=500)
    treatment = (rng.random(500) < 1 / (1 + np.exp(-0.7 * x))).astype(int)
    y = x + 0.6 * treatment + 0.3 * treatment * x + rng.normal(size=500)
    score = 1 / (1 + np.exp(-0.65 * x))
    outcomes = np.column_stack([0.9 * x + 0.05, 1.25 * x + 0.65])
    return y, treatment, outcomes, np.column_stack([1 - score, score])


@pytest.mark.parametrize(
    ("estimand", "estimate", "std_error", "low", "high", "errors", "value", "weight"),
    [
        ("ate", 0.5768006060500943, 0.09500946302884189, 0.4966158936511511, 0.6569853184490375,
         (0.0948477080016065, 0.09526754892026074), 0.27882694, 4.60125774),
        ("att", 0.6707021591571785, 0.10008078596121223, 0.5848134941963327, 0.7565908241180243,
         (0.1006765865368288, 0.09981112880530593), 0.29852429, 5.27916352),
    ],
)  # fmt: skip
def test_as_doubleml_prints(estimand, estimate, std_error, low, high, errors, value, weight) -> None:
    """DoubleML 0.11.4, IRM with these nuisances as predictions, cf_y 0.05, cf_d 0.04, rho 0.8.

    Its errors of the bounds are ours exchanged: it adds influences of opposite sign. Ours are the derivatives, below.
    """
    parts = bias_parts(*drawn(), estimand=estimand)
    bounds = _Bounds(parts, None, 1.645)
    strength = 0.8 * math.sqrt(0.05 * 0.04 / 0.96)
    factor = math.sqrt(499 / 500)  # it divides by n, not by n - 1
    assert (parts.estimate, factor * bounds.end(0.0)[1]) == pytest.approx((estimate, std_error), rel=1e-9)
    assert parts.residual_variance == pytest.approx(1.04801586, abs=5e-9)
    assert parts.weight_variance == pytest.approx(weight, abs=5e-9)
    assert (bounds.end(-strength)[0], bounds.end(strength)[0]) == pytest.approx((low, high), rel=1e-9)
    found = factor * bounds.end(strength)[1], factor * bounds.end(-strength)[1]
    # It takes the share treated in ν² as known, which the ate has none of.
    assert found == pytest.approx(errors, rel=1e-9 if estimand == "ate" else 0.02)
    assert bounds.robustness(0.0, 0.8, interval=False) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize("estimand", ["ate", "att", "atc"])
def test_influences_are_derivatives_by_the_weight_of_a_unit(estimand: str) -> None:
    y, treatment, outcomes, propensity = (a[:60] for a in drawn())

    def bound(weight: np.ndarray) -> float:
        parts = bias_parts(y, treatment, outcomes, propensity, estimand=estimand, weight=weight)
        return parts.estimate - 0.3 * parts.scale

    parts = bias_parts(y, treatment, outcomes, propensity, estimand=estimand)
    lean = -0.3 / (2 * parts.scale)
    psi = parts.psi_estimate + lean * (
        parts.residual_variance * parts.psi_weight + parts.weight_variance * parts.psi_residual
    )
    step = 1e-5
    for unit in (0, 7, 31):
        moved = [np.ones(60), np.ones(60)]
        moved[0][unit] += step
        moved[1][unit] -= step
        slope = (bound(moved[0]) - bound(moved[1])) / (2 * step)
        assert slope == pytest.approx(psi[unit], rel=1e-5, abs=1e-9)


@pytest.fixture(scope="module")
def nuisances():
    rng = np.random.default_rng(20)
    x = rng.normal(size=(600, 2))
    treatment = (rng.random(600) < 1 / (1 + np.exp(-x @ [0.8, 0.3]))).astype(int)
    y = x @ [1.0, 0.3] + treatment + rng.normal(size=600)
    models = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
    both = fit_nuisances(x, y, treatment=treatment, **models)
    return both, fit_nuisances(x[:, 1:], y, treatment=treatment, **models)


def test_bounds_of_nuisances(nuisances) -> None:
    both, without = nuisances
    effect = both.average_effect()
    found = omitted_bias(both, cf_outcome=0.0, cf_treatment=0.0)
    assert found.estimate_low == found.estimate == found.estimate_high
    assert found.error_low == found.std_error
    assert (found.estimate, found.std_error) == pytest.approx((effect.estimate, effect.std_error))
    assert (found.ci_low, found.ci_high) == pytest.approx((effect.ci_low, effect.ci_high))
    at = omitted_bias(both, cf_outcome=found.robustness_value, cf_treatment=found.robustness_value)
    assert at.estimate_low == pytest.approx(0.0, abs=1e-9)
    at = omitted_bias(both, cf_outcome=found.robustness_value_alpha, cf_treatment=found.robustness_value_alpha)
    assert at.ci_low == pytest.approx(0.0, abs=1e-9)
    strength = confounder_strength(both, without, name="x0")
    assert strength.cf_outcome > 0.3
    assert strength.cf_treatment > 0.05
    short = omitted_bias(without, cf_outcome=strength.cf_outcome, cf_treatment=strength.cf_treatment, rho=1.0)
    assert short.estimate_low < found.estimate < short.estimate_high
    assert "robustness value" in str(found)


def test_a_benchmark_is_the_bias_it_made() -> None:
    """With exact parts, ρ C_Y C_D σ ν of the short fit is the change of the estimate."""
    empty = np.zeros(1)
    full, short = BiasParts(1.0, 1.0, 5.0, *[empty] * 3), BiasParts(1.5, 1.5, 4.0, *[empty] * 3)
    found = strength_of(full, short, name="x")
    assert (found.cf_outcome, found.cf_treatment) == (0.5, 0.25)
    assert found.rho == pytest.approx(0.5 / math.sqrt(0.5))


def test_bad_strengths(nuisances) -> None:
    both, without = nuisances
    for options, words in (({"cf_outcome": 1.1}, "cf_outcome"), ({"cf_treatment": -0.1}, "cf_treatment"),
                           ({"rho": 2.0}, "rho")):  # fmt: skip
        with pytest.raises(CausalRecError, match=words):
            omitted_bias(both, **options)
    other = fit_nuisances(
        np.arange(20.0)[:, None] % 7, np.arange(20.0), treatment=np.arange(20) % 2,
        outcome_model=LinearRegression(), propensity_model=LogisticRegression(),
    )  # fmt: skip
    with pytest.raises(CausalRecError, match="same rows"):
        confounder_strength(other, without)


@pytest.mark.slow
def test_bounds_cover_with_a_hidden_confounder() -> None:
    """A confounder of known strength left out: the interval at that strength covers the effect, at none it does not."""
    rng = np.random.default_rng(21)
    covered = {"none": 0, "known": 0}
    for _ in range(150):
        hidden, x = rng.normal(size=(2, 800))
        treatment = (rng.random(800) < 1 / (1 + np.exp(-0.5 * x - 0.7 * hidden))).astype(int)
        y = x + 0.7 * hidden + treatment + rng.normal(size=800)
        models = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}
        short = fit_nuisances(x[:, None], y, treatment=treatment, **models)
        score, score_x = (1 / (1 + np.exp(-s)) for s in (0.5 * x + 0.7 * hidden, 0.46 * x))
        full = 1 - np.mean(1 / (score_x * (1 - score_x))) / np.mean(1 / (score * (1 - score)))
        none = omitted_bias(short, cf_outcome=0.0, cf_treatment=0.0)
        known = omitted_bias(short, cf_outcome=0.49 / 1.49, cf_treatment=float(full))
        covered["none"] += int(none.ci_low <= 1.0 <= none.ci_high)
        covered["known"] += int(known.ci_low <= 1.0 <= known.ci_high)
    assert covered["known"] >= stats.binom.ppf(0.001, 150, 0.95)
    assert covered["none"] < 75
