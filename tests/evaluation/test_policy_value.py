"""Values of policies: causaltune's cases, closed forms, pairs, clusters, coverage; regret on the best of several."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from causalrec.evaluation import policy_regret, policy_value
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.nuisance import fit_nuisances
from causalrec.policy import allocate
from causalrec.results import EffectResult


def two_arms(n: int = 100):
    """causaltune tests/causaltune/test_erupt.py, ``binary_erupt_df``."""
    treatment, x = np.repeat([1, 0], n // 2), np.tile([1, -1], n // 2)
    return treatment * x, treatment, x


def three_arms(n: int = 100):
    """causaltune tests/causaltune/test_erupt.py, ``n_ary_erupt_df``."""
    treatment = np.repeat([0, 1, 2], 3 * n)
    x = np.arange(9 * n) % 3
    return np.where(x == treatment, 1.0, -1.0), treatment, x


def test_causaltune_two_arms():
    y, treatment, x = two_arms()
    assert policy_value(y, x > 0, treatment).estimate == pytest.approx(0.5)
    assert policy_value(y, x < 0, treatment).estimate == pytest.approx(-0.5)
    half = np.zeros(100, dtype=int)
    half[:26] = half[75:] = 1  # pandas' .loc[:25] holds the end
    assert policy_value(y, half, treatment).estimate == pytest.approx(0.0, abs=1e-12)


def test_causaltune_three_arms():
    y, treatment, x = three_arms()
    for policy, expected in ((1, -1 / 3), (x, 1.0), ((x + 1) % 3, -1.0)):
        found = policy_value(y, policy, treatment, control=0)
        assert found.estimate == pytest.approx(expected)
        assert found.baseline_value == pytest.approx(-1 / 3)
        assert found.difference == pytest.approx(expected + 1 / 3)


def test_everybody_one_arm_is_a_mean_and_a_difference_of_means():
    rng = np.random.default_rng(0)
    treatment = rng.integers(0, 2, 400)
    y = rng.normal(size=400) + treatment
    found = policy_value(y, 1, treatment)
    arms = [y[treatment == a] for a in (0, 1)]
    assert found.estimate == pytest.approx(arms[1].mean())
    assert found.std_error == pytest.approx(arms[1].std() / np.sqrt(len(arms[1])), rel=0.005)
    assert found.difference == pytest.approx(arms[1].mean() - arms[0].mean())
    welch = stats.ttest_ind(arms[1], arms[0], equal_var=False)
    assert found.difference_pvalue == pytest.approx(2 * stats.norm.sf(abs(welch.statistic)), rel=0.05)
    assert found.baseline == "all 0"
    assert [found.share_changed, *found.share] == pytest.approx([1.0, 0.0, 1.0])
    assert isinstance(found, EffectResult)


def test_known_propensity_is_the_plain_mean_of_scores():
    y, treatment = np.array([3.0, 1.0, 2.0, 0.0]), np.array([1, 0, 1, 0])
    # Scores of arm 1: 2.5 + .5/.5, 2.5, 2.5 - .5/.5, 2.5; of arm 0: .5, .5 + .5/.5, .5, .5 - .5/.5.
    found = policy_value(y, [1, 0, 0, 1], treatment, propensity=0.5)
    scores = np.array([3.5, 1.5, 0.5, 2.5])
    assert found.estimate == pytest.approx(scores.mean())
    assert found.std_error == pytest.approx(scores.std(ddof=1) / 2)
    gaps = scores - np.array([0.5, 1.5, 0.5, -0.5])
    assert found.difference_std_error == pytest.approx(gaps.std(ddof=1) / 2)


def test_probabilities_mix_and_baselines_pair():
    rng = np.random.default_rng(1)
    treatment, x = rng.choice(["none", "mail", "call"], 300), rng.normal(size=300)
    y = x + rng.normal(size=300)
    arms = ("none", "call", "mail")
    values = {arm: policy_value(y, arm, treatment, control="none").estimate for arm in arms}
    mixed = policy_value(y, np.tile([0.2, 0.3, 0.5], (300, 1)), treatment, control="none", baseline="mail")
    assert mixed.estimate == pytest.approx(0.2 * values["none"] + 0.3 * values["call"] + 0.5 * values["mail"])
    assert mixed.baseline_value == pytest.approx(values["mail"])
    assert mixed.share_changed == pytest.approx(0.5)
    assert dict(zip(mixed.arm, mixed.share, strict=True)) == pytest.approx(
        dict(zip(arms, (0.2, 0.3, 0.5), strict=True))
    )
    same = policy_value(y, "mail", treatment, control="none", baseline="mail")
    assert (same.difference, same.share_changed) == (0.0, 0.0)
    assert np.isnan(same.difference_std_error)
    back = policy_value(y, "mail", treatment, control="none", baseline=np.tile([0.2, 0.3, 0.5], (300, 1)))
    assert back.difference == pytest.approx(-mixed.difference)
    assert back.difference_std_error == pytest.approx(mixed.difference_std_error)


def test_weights_are_copies_and_clusters_of_copies_keep_the_error():
    rng = np.random.default_rng(2)
    treatment, policy = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    y, times = rng.normal(size=200), rng.integers(0, 3, 200)
    times[:4] = 1
    weighted = policy_value(y, policy, treatment, sample_weight=times)
    copied = policy_value(*(np.repeat(v, times) for v in (y, policy, treatment)))
    assert weighted.estimate == pytest.approx(copied.estimate)
    assert weighted.difference == pytest.approx(copied.difference)
    once = policy_value(y, policy, treatment)
    three = policy_value(*(np.tile(v, 3) for v in (y, policy, treatment)), clusters=np.tile(np.arange(200), 3))
    assert three.std_error == pytest.approx(once.std_error)
    assert three.difference_std_error == pytest.approx(once.difference_std_error)
    assert "clustered" in three.method


def test_doubly_robust_scores_are_those_of_the_nuisances():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 2))
    treatment = (rng.uniform(size=400) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    y = 2 * X[:, 0] + treatment * X[:, 1] + rng.normal(size=400)
    nuisance = fit_nuisances(X, y, treatment=treatment, outcome_model=LinearRegression(), n_folds=3)
    found = policy_value(y, X[:, 1] > 0, treatment, nuisance=nuisance)
    scores = nuisance.scores[np.arange(400), (X[:, 1] > 0).astype(int)]
    assert found.estimate == pytest.approx(scores.mean())
    assert found.std_error == pytest.approx(scores.std(ddof=1) / 20)
    assert found.estimate == pytest.approx(0.4, abs=4 * found.std_error)  # E max(0, N(0, 1))
    assert "doubly robust" in str(found)


def test_regret_on_the_best_of_those_given():
    y, treatment, x = three_arms()
    found = policy_regret(y, {"best": x, "worst": (x + 1) % 3}, treatment, control=0)
    frame = found.to_frame().set_index("policy")
    assert frame["regret"].to_dict() == pytest.approx(
        {"best": 0.0, "all 0": 4 / 3, "all 1": 4 / 3, "all 2": 4 / 3, "worst": 2.0}
    )
    assert (found.best, found.close) == ("best", ("best",))
    assert (frame["regret_ci_low"] <= frame["regret"] + 1e-12).all()
    pair = policy_value(y, (x + 1) % 3, treatment, control=0, baseline=x)
    assert frame.loc["worst", "regret"] == pytest.approx(-pair.difference)


def test_regret_of_noise_names_no_winner():
    rng = np.random.default_rng(4)
    treatment, y = rng.integers(0, 2, 500), rng.normal(size=500)
    found = policy_regret(y, {"coin": rng.integers(0, 2, 500)}, treatment)
    assert set(found.close) == {"coin", "all 0", "all 1"}
    assert (found.regret_ci_low == 0).all()
    assert "may be the best" in str(found)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"policy": [0, 1, 2, 0]}, TreatmentError, ["2", "0, 1"]),
        ({"policy": [0, 1]}, CausalRecError, ["policy", "2 values", "4 rows"]),
        ({"baseline": "mail"}, TreatmentError, ["baseline", "'mail'"]),
        ({"y": [1.0, np.nan, 0, 1]}, OutcomeError, ["y", "missing"]),
        ({"treatment": [1, 1, 1, 1]}, TreatmentError, ["only 1"]),
        ({"confidence_level": 1.0}, CausalRecError, ["confidence_level"]),
    ],
)
def test_bad_input_is_named(change, kind, words):
    given = {"y": [3.0, 1.0, 2.0, 0.0], "policy": [1, 0, 1, 0], "treatment": [1, 0, 1, 0]} | change
    with pytest.raises(kind) as caught:
        policy_value(**given)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_regret_refuses_taken_names_and_one_cluster():
    args = ([3.0, 1.0, 2.0, 0.0], {"all 0": [0, 1, 0, 1]}, [1, 0, 1, 0])
    with pytest.raises(CausalRecError, match="'all 0'"):
        policy_regret(*args)
    with pytest.raises(CausalRecError, match="one cluster"):
        policy_regret(args[0], {"rule": [0, 1, 0, 1]}, args[2], clusters=[3, 3, 3, 3])
    alone = policy_value(args[0], [0, 1, 0, 1], args[2], clusters=[3, 3, 3, 3])
    assert np.isnan([alone.std_error, alone.difference_std_error, alone.pvalue]).all()


@pytest.mark.parametrize("policies", [{}, [0, 1, 0, 1]])
def test_regret_needs_named_policies(policies):
    with pytest.raises(CausalRecError, match="mapping"):
        policy_regret([3.0, 1.0, 2.0, 0.0], policies, [1, 0, 1, 0])


def test_nothing_that_varies_has_no_error():
    found = policy_value([1.0, 1.0, 1.0, 1.0], [1, 0, 1, 0], [1, 0, 1, 0])
    assert found.estimate == pytest.approx(1.0)
    assert np.isnan(found.std_error)
    assert np.isnan(found.pvalue)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["estimated", "known", "clustered"])
def test_intervals_of_values_differences_and_regret_cover(design):
    repeats, n = 600, 600
    hits = np.zeros((repeats, 4))
    for r in range(repeats):
        rng = np.random.default_rng(r)
        size = n // 4 if design == "clustered" else n
        x, noise = rng.uniform(size=size), rng.normal(size=size)
        treatment = rng.choice([0, 1, 2], size, p=[0.5, 0.3, 0.2])
        x, noise, treatment = (np.repeat(v, n // size) for v in (x, noise, treatment))
        y = 3 + noise + (treatment == 1) * (x - 0.4) + (treatment == 2) * 0.1 + 0.5 * rng.normal(size=n)
        options = {
            "control": 0,
            "propensity": {0: 0.5, 1: 0.3, 2: 0.2} if design == "known" else None,
            "clusters": np.repeat(np.arange(size), n // size) if design == "clustered" else None,
        }
        policy = np.where(x > 0.5, 1, 2)
        found = policy_value(y, policy, treatment, baseline=2, **options)
        # E[(x - .4) 1{x > .5}] = .175 and half of .1; against .1 for everybody.
        value, gap = 3 + 0.175 + 0.05, 0.175 + 0.05 - 0.1
        regret = policy_regret(y, {"rule": policy}, treatment, rng=r, **options).to_frame().set_index("policy")
        hits[r] = [
            found.ci_low <= value <= found.ci_high,
            found.difference_ci_low <= gap <= found.difference_ci_high,
            regret.loc["all 1", "regret_ci_low"] <= value - 3.1 <= regret.loc["all 1", "regret_ci_high"],
            regret.loc["rule", "may_be_best"],
        ]
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, 0.95) / repeats
    assert ((low <= hits[:, :2].mean(axis=0)) & (hits[:, :2].mean(axis=0) <= high)).all(), hits.mean(axis=0)
    assert (hits[:, 2:].mean(axis=0) >= low).all(), hits.mean(axis=0)


def test_frames_as_policies():
    y, treatment, x = two_arms()
    table = pd.DataFrame({1: (x > 0).astype(float), 0: (x <= 0).astype(float)})
    assert policy_value(y, table, treatment).estimate == pytest.approx(0.5)
    named = np.where(treatment, "mail", "none")
    shares = pl.DataFrame({"none": (x <= 0) * 1.0, "mail": (x > 0) * 1.0})
    for frame in (shares, shares.select("mail", "none"), shares.to_pandas()):
        assert policy_value(y, frame, named, control="none").estimate == pytest.approx(0.5)
    with pytest.raises(TreatmentError, match="by name"):
        policy_value(y, shares.rename({"mail": "post"}), named, control="none")


def test_an_allocation_is_a_policy():
    rng = np.random.default_rng(5)
    treatment = rng.choice(["none", "mail", "call"], 200)
    y, uplift = rng.normal(size=200), {"mail": rng.normal(size=200), "call": rng.normal(size=200)}
    plan = allocate(uplift, cost={"mail": 1.0, "call": 2.0}, budget=0.33, control="none")
    assert plan.split_row >= 0
    table = pd.DataFrame(plan.probabilities(), columns=["none", "mail", "call"])
    found, expected = (policy_value(y, p, treatment, control="none") for p in (plan, table))
    assert found.estimate == expected.estimate
    only = allocate({"mail": uplift["mail"]}, cost=1.0, budget=0.2, control="none")
    assert policy_value(y, only, treatment, control="none").share[1] == 0.0
    with pytest.raises(TreatmentError, match="allocate"):
        policy_value(y, allocate(uplift["mail"], cost=1.0), treatment, control="none")
