"""Profit curves, the best share, return on spend: closed forms, brute force, coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.evaluation import policy_value, qini_curve
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.nuisance import arm_scores, fit_nuisances
from causalrec.policy import incremental_roi, profit_curve


def rows(rng: np.random.Generator, n: int = 2000, per: int = 1, tau=lambda u: u):
    """Predictions u ~ U(0, 1) that rank perfectly, 40% treated."""
    u, noise = rng.uniform(size=n // per), rng.normal(size=n // per)
    treatment = (rng.uniform(size=n // per) < 0.4).astype(int)
    u, noise, treatment = (np.repeat(v, per) for v in (u, noise, treatment))
    return 1 + treatment * tau(u) + 0.5 * noise + 0.6 * rng.normal(size=n), u, treatment


def test_profit_is_value_times_gain_less_cost():
    y, uplift, treatment = rows(np.random.default_rng(0), 200)  # as many as qini_curve has points
    for options in ({}, {"propensity": 0.4}, {"clusters": np.arange(200) // 4}):
        curve = profit_curve(y, uplift, treatment, value=3.0, cost=0.7, fixed_cost=0.02, **options)
        gain = qini_curve(y, uplift, treatment, **options)
        at = curve.share[1:]
        expected = 3 * np.interp(at, gain.fraction, gain.value) - 0.7 * at - 0.02
        np.testing.assert_allclose(curve.profit[1:], expected, atol=1e-12)
        width = 3 * np.interp(at, gain.fraction, gain.ci_high - gain.ci_low)
        np.testing.assert_allclose(curve.ci_high[1:] - curve.ci_low[1:], width, rtol=0.05)
        assert curve.profit[0] == 0.0
        everybody = policy_value(y, 1, treatment, **options)
        assert curve.all_profit == pytest.approx(3 * everybody.difference - 0.72)
        assert curve.all_profit == pytest.approx(curve.profit[-1])
        half = (curve.all_profit_ci_high - curve.all_profit_ci_low) / 2
        assert half == pytest.approx(3 * 1.959964 * everybody.difference_std_error, rel=1e-6)
        assert curve.std_error[-1] == pytest.approx(3 * everybody.difference_std_error)
        rule = policy_value(y, 3 * uplift > 0.7, treatment, **options)
        assert curve.rule_share == pytest.approx(np.mean(3 * uplift > 0.7))
        assert curve.rule_profit == pytest.approx(3 * rule.difference - 0.7 * curve.rule_share - 0.02)


def test_the_rules_error_counts_that_the_share_of_people_varies():
    rng = np.random.default_rng(1)
    y, uplift, treatment = rows(rng, 300)
    value, cost = rng.uniform(1, 3, 300), rng.uniform(0.2, 1, 300)
    curve = profit_curve(y, uplift, treatment, value=value, cost=cost, propensity=0.4)
    treated = value * uplift > cost
    net = treated * (value * arm_scores(y, treatment, propensity=0.4).effect(1) - cost)
    assert curve.rule_profit == pytest.approx(net.mean())
    half = (curve.rule_profit_ci_high - curve.rule_profit_ci_low) / 2
    assert half == pytest.approx(1.959964 * net.std(ddof=1) / np.sqrt(300), rel=1e-6)
    order = np.argsort(-(value * uplift - cost))
    every = (value * arm_scores(y, treatment, propensity=0.4).effect(1) - cost)[order]
    assert curve.profit == pytest.approx(np.r_[0, np.cumsum(every) / 300][np.round(curve.share * 300).astype(int)])


def test_several_arms_each_their_best_or_one_alone():
    rng = np.random.default_rng(2)
    n = 600
    arms = np.array(["none", "call", "mail"])
    treatment, uplift = arms[rng.integers(0, 3, n)], rng.uniform(0, 1, (n, 2))
    y = rng.normal(size=n)
    frame, cost = pd.DataFrame(uplift, columns=["mail", "call"]), {"mail": 0.1, "call": 0.5}
    curve = profit_curve(y, frame, treatment, value=2.0, cost=cost, control="none")
    mail = 2 * uplift[:, 0] - 0.1 > 2 * uplift[:, 1] - 0.5
    best = np.where(mail, "mail", "call")
    value = policy_value(y, best, treatment, control="none")
    assert curve.all_profit == pytest.approx(2 * value.difference - np.where(mail, 0.1, 0.5).mean())
    alone = profit_curve(y, frame, treatment, value=2.0, cost=cost, control="none", arm="mail")
    every = pl.DataFrame({"mail": uplift[:, 0], "call": uplift[:, 1]})
    for given in (
        {"uplift": uplift[:, 0], "cost": 0.1}, {"uplift": uplift[:, ::-1], "cost": [0.5, 0.1]},
        {"uplift": every, "cost": cost},
    ):  # fmt: skip
        same = profit_curve(y, given["uplift"], treatment, value=2.0, cost=given["cost"], control="none", arm="mail")
        np.testing.assert_allclose(same.profit, alone.profit, atol=1e-12)
    everybody = policy_value(y, "mail", treatment, control="none")
    assert alone.all_profit == pytest.approx(2 * everybody.difference - 0.1)


def test_the_best_share_and_its_set():
    y, uplift, treatment = rows(np.random.default_rng(3), 20_000)
    curve = profit_curve(y, uplift, treatment, value=2.0, cost=0.8)
    assert curve.best_share_low <= 0.6 <= curve.best_share_high  # those with 2 u > .8
    assert 0.3 < curve.best_share_low < curve.best_share_high < 0.9
    assert curve.best_profit == curve.profit.max()
    assert curve.may_be_best[curve.share == curve.best_share] == 1
    assert (curve.share[curve.may_be_best == 1][[0, -1]] == [curve.best_share_low, curve.best_share_high]).all()
    assert (curve.band_low <= curve.ci_low).all()
    inside = (curve.band_low <= 0.36 - (curve.share - 0.6) ** 2) & (0.36 - (curve.share - 0.6) ** 2 <= curve.band_high)
    assert inside.all()  # value 2 (q - q^2 / 2) - .8 q = .36 - (q - .6)^2


def test_what_is_worth_nothing_is_best_left():
    y, uplift, treatment = rows(np.random.default_rng(4), 2000, tau=lambda u: -0.3 + 0 * u)
    curve = profit_curve(y, uplift, treatment, value=1.0, cost=0.5, fixed_cost=0.1)
    assert (curve.best_share, curve.best_share_low, curve.best_profit) == (0.0, 0.0, 0.0)
    assert curve.best_share_high < 0.1
    assert curve.all_profit < 0
    again = profit_curve(y, uplift, treatment, value=1.0, cost=0.5, fixed_cost=0.1)
    assert again.to_frame().equals(curve.to_frame())
    free = profit_curve(y, uplift, treatment, value=1.0, cost=0.0)
    assert free.all_profit == pytest.approx(y[treatment == 1].mean() - y[treatment == 0].mean())


def test_constant_predictions_treat_all_or_none():
    y, _, treatment = rows(np.random.default_rng(5), 500)
    curve = profit_curve(y, np.full(500, 0.4), treatment, value=1.0, cost=0.3)
    assert curve.share.tolist() == pytest.approx([0.0, 1.0])
    assert curve.rule_share == pytest.approx(1.0)
    assert "nobody 0" in str(curve)


def test_return_on_spend():
    rng = np.random.default_rng(6)
    y, uplift, treatment = rows(rng, 500)
    policy = (uplift > 0.4).astype(int)
    roi = incremental_roi(y, policy, treatment, value=2.0, cost=0.5)
    value = policy_value(y, policy, treatment)
    assert roi.estimate == pytest.approx(2 * value.difference / (0.5 * policy.mean()))
    fixed = incremental_roi(y, 1, treatment, value=2.0, cost=0.5)  # a cost that is known: the interval of the gain
    everybody = policy_value(y, 1, treatment)
    assert [fixed.estimate, fixed.std_error, fixed.ci_low, fixed.ci_high] == pytest.approx(
        [4 * v for v in (everybody.difference, everybody.difference_std_error, everybody.difference_ci_low,
                         everybody.difference_ci_high)])  # fmt: skip
    z = (2 * everybody.difference - 0.5) / (2 * everybody.difference_std_error)
    assert fixed.pvalue == pytest.approx(2 * stats.norm.sf(abs(z)))
    more = incremental_roi(y, 1, treatment, value=2.0, cost=0.5, baseline=policy)
    assert more.estimate == pytest.approx(
        (2 * everybody.difference - 2 * value.difference) / (0.5 * (1 - policy.mean()))
    )
    nobody = incremental_roi(y, 0, treatment, cost=0.5)
    assert np.isnan(nobody.estimate)
    assert (nobody.ci_low, nobody.ci_high) == (-np.inf, np.inf)


def test_return_on_what_was_spent():
    rng = np.random.default_rng(7)
    y, uplift, treatment = rows(rng, 800)
    spent = np.where(treatment, rng.integers(0, 2, 800) * 1.0, 0.1 * rng.uniform(size=800))
    means = [[v[treatment == a].mean() for a in (0, 1)] for v in (y, spent)]
    for options in ({}, {"propensity": 0.4}, {"clusters": np.arange(800) // 2}):
        roi = incremental_roi(y, 1, treatment, value=2.0, spent=spent, **options)
        ratio = 2 * (means[0][1] - means[0][0]) / (means[1][1] - means[1][0])
        assert roi.estimate == pytest.approx(ratio, rel=0.05 if "propensity" in options else 1e-9)
        assert roi.ci_low < roi.estimate < roi.ci_high
        # The delta method: the error of the difference of means of y - ratio spent.
        left = policy_value(2 * y - roi.estimate * spent, 1, treatment, **options)
        assert roi.std_error == pytest.approx(left.difference_std_error / (means[1][1] - means[1][0]), rel=0.02)
        broken = policy_value(2 * y - spent, 1, treatment, **options)
        assert roi.pvalue == pytest.approx(broken.difference_pvalue, rel=0.02)
    known = incremental_roi(y, uplift > 0.5, treatment, value=2.0, cost=0.5)
    same = incremental_roi(y, uplift > 0.5, treatment, value=2.0, spent=0.5 * treatment)
    assert same.estimate == pytest.approx(known.estimate)
    for wrong in ({}, {"cost": 1.0, "spent": spent}, {"spent": spent[:5]}):
        with pytest.raises(CausalRecError):
            incremental_roi(y, 1, treatment, **wrong)


def test_spent_needs_a_known_propensity():
    rng = np.random.default_rng(8)
    y, uplift, treatment = rows(rng, 300)
    X = uplift[:, None]
    models = {"outcome_model": LinearRegression(), "n_folds": 2}
    fitted = fit_nuisances(X, y, treatment=treatment, propensity_model=LogisticRegression(), **models)
    with pytest.raises(CausalRecError, match="known propensity"):
        incremental_roi(y, 1, treatment, spent=treatment, nuisance=fitted)
    known = fit_nuisances(X, y, treatment=treatment, propensity=0.4, **models)
    roi = incremental_roi(y, 1, treatment, spent=1.0 * treatment, nuisance=known)
    assert roi.estimate == pytest.approx(known.average_effect().estimate, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"value": 0.0}, CausalRecError, ["value", "above zero"]),
        ({"value": [1.0, 2.0]}, CausalRecError, ["value", "2 values", "4 rows"]),
        ({"cost": -1.0}, CausalRecError, ["cost", "below zero"]),
        ({"fixed_cost": -1.0}, CausalRecError, ["fixed_cost is -1.0"]),
        ({"uplift": [1.0, np.nan, 1.0, 1.0]}, CausalRecError, ["uplift", "1 of 4"]),
        ({"arm": "mail"}, TreatmentError, ["'mail'"]),
        ({"y": [1.0, np.inf, 0.0, 1.0]}, OutcomeError, ["y"]),
        ({"clusters": [1, 1, 1, 1]}, CausalRecError, ["one cluster"]),
        ({"treatment": [1, 1, 1, 1]}, TreatmentError, ["only 1"]),
    ],
)
def test_bad_input_is_named(change, kind, words):
    given = {"y": [3.0, 1.0, 2.0, 0.0], "uplift": [1.0, 2.0, 3.0, 4.0], "treatment": [1, 0, 1, 0],
             "value": 1.0, "cost": 1.0} | change  # fmt: skip
    with pytest.raises(kind) as caught:
        profit_curve(given.pop("y"), given.pop("uplift"), given.pop("treatment"), **given)
    assert all(word in str(caught.value) for word in words), str(caught.value)


SHAPES = {
    "rising": lambda u: u,
    "flat": lambda u: np.where(u > 0.7, 0.6, 0.25),  # worth exactly its cost below: any share from 30% is best
    "nothing": lambda u: 0.1 + 0.1 * u,
    "step": lambda u: np.where(u > 0.6, 0.9, -0.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("per", [1, 4])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_intervals_bands_and_the_set_of_best_shares_cover(shape, per):
    value, cost, fixed, repeats = 2.0, 0.5, 0.02, 300
    u = (np.arange(200_000) + 0.5) / 200_000
    profit = np.r_[0.0, np.cumsum(value * SHAPES[shape](u[::-1]) - cost)] / len(u)
    shares = np.linspace(0, 1, len(profit))
    hits = np.zeros((repeats, 8))
    for r in range(repeats):
        y, uplift, treatment = rows(np.random.default_rng(r), 2000, per, SHAPES[shape])
        clusters = np.arange(2000) // per if per > 1 else None
        found = profit_curve(y, uplift, treatment, value=value, cost=cost, fixed_cost=fixed, clusters=clusters)
        true = np.interp(found.share, shares, profit) - np.where(found.share > 0, fixed, 0.0)
        best = true >= true.max() - 1e-6
        middle, top = len(true) // 2, int(np.argmax(found.profit))
        roi = incremental_roi(y, uplift > 0.5, treatment, value=value, cost=cost, clusters=clusters)
        return_ = (np.interp(0.5, shares, profit) + 0.5 * cost) / (0.5 * cost)
        rule, everybody = np.interp(0.75, shares, profit) - fixed, profit[-1] - fixed
        hits[r] = [
            found.ci_low[middle] <= true[middle] <= found.ci_high[middle],
            found.rule_profit_ci_low <= rule <= found.rule_profit_ci_high,
            found.all_profit_ci_low <= everybody <= found.all_profit_ci_high,
            roi.ci_low <= return_ <= roi.ci_high,
            ((found.band_low <= true + 1e-9) & (true <= found.band_high + 1e-9)).all(),
            found.best_profit_ci_low <= true[top] <= found.best_profit_ci_high,
            found.may_be_best[best].any(),
            found.best_share_low <= found.share[best].max() and found.share[best].min() <= found.best_share_high,
        ]
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, 0.95) / repeats
    mean = hits.mean(axis=0)
    assert ((low <= mean[:4]) & (mean[:4] <= high)).all(), mean
    assert (mean[4:] >= low).all(), mean
