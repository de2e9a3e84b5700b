"""Scores of every arm: closed forms, weights, clusters, estimated shares, and the errors of what is averaged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.exceptions import CausalRecError, OverlapError, TreatmentError
from causalrec.nuisance import aipw_scores, arm_scores, fit_nuisances
from causalrec.nuisance.arm_scores import influence_error

ARMS = ("none", "mail", "app")


def three_arms(rng: np.random.Generator, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = rng.normal(size=n)
    codes = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    return x, np.array(ARMS)[codes], x + 0.3 * (codes == 1) - 0.2 * (codes == 2) + rng.normal(size=n)


class TestScores:
    def test_a_random_test_of_equal_arms_by_hand(self):
        scores = arm_scores([3.0, 1.0, 2.0, 0.0], [1, 0, 1, 0])
        # Means 2.5 and 0.5; a treated row of 3 is 0.5 above its arm's mean, and stands for two rows.
        assert scores.table().tolist() == [[0.5, 3.5], [1.5, 2.5], [0.5, 1.5], [-0.5, 2.5]]
        assert scores.effect(1).tolist() == [3.0, 1.0, 1.0, 3.0]

    def test_the_mean_of_every_arm_is_its_weighted_mean(self):
        _, arms, y = three_arms(np.random.default_rng(0))
        weight = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
        scores = arm_scores(y, arms, control="none", sample_weight=weight)
        assert scores.labels == ("none", "app", "mail")
        for code, arm in enumerate(scores.labels):
            expected = np.average(y[arms == arm], weights=weight[arms == arm])
            assert np.average(scores.of(code), weights=weight) == pytest.approx(expected, rel=1e-12)

    def test_doubly_robust_scores_are_those_of_the_nuisances(self):
        x, arms, y = three_arms(np.random.default_rng(2))
        nuisance = fit_nuisances(
            x[:, None], y, treatment=arms, control="none", outcome_model=LinearRegression(),
            propensity_model=LogisticRegression(), groups=np.arange(300) // 2,
        )  # fmt: skip
        scores = arm_scores(y, arms, nuisance=nuisance)
        expected = aipw_scores(y, nuisance.codes, nuisance.outcomes, nuisance.propensity)
        assert np.allclose(scores.table(), expected, rtol=1e-12)
        estimate, influence = scores.average(np.tile([-1.0, 1.0, 0.0], (300, 1)))
        effect = nuisance.average_effect(arm="app")
        assert estimate == pytest.approx(effect.estimate, rel=1e-12)
        assert scores.error(influence) == pytest.approx(effect.std_error, rel=1e-12)


class TestErrors:
    def test_the_effect_of_a_random_test_has_the_error_of_two_means(self):
        rng = np.random.default_rng(3)
        t = (rng.uniform(size=400) < 0.3).astype(int)
        y = 10 + t + rng.normal(size=400) * (1 + t)
        scores = arm_scores(y, t)
        estimate, influence = scores.average(np.tile([-1.0, 1.0], (400, 1)))
        variance = sum(y[t == a].var() / (t == a).sum() for a in (0, 1))
        assert estimate == pytest.approx(y[t == 1].mean() - y[t == 0].mean(), rel=1e-12)
        assert scores.error(influence) == pytest.approx(np.sqrt(variance * 400 / 399), rel=1e-12)

    def test_influence_is_the_derivative_with_respect_to_weights(self):
        _, arms, y = three_arms(np.random.default_rng(4), 60)
        shares = np.random.default_rng(5).dirichlet(np.ones(3), 60)
        weight = np.random.default_rng(6).uniform(0.5, 2, 60)

        def value(w: np.ndarray) -> float:
            """The share and the means are estimated, but only the first moves the value at first order."""
            found = arm_scores(y, arms, control="none", sample_weight=w)
            rows, codes = np.arange(60), found.codes
            taken = shares[rows, codes] * (y - means[codes]) / found.propensity[rows, codes]
            return float(np.average(shares @ means + taken, weights=w))

        scores = arm_scores(y, arms, control="none", sample_weight=weight)
        means = scores.means
        estimate, influence = scores.average(shares)
        assert value(weight) == pytest.approx(estimate, rel=1e-12)
        step = 1e-6
        for i in (0, 7, 33):
            up, down = weight.copy(), weight.copy()
            up[i], down[i] = up[i] + step, down[i] - step
            slope = (value(up) - value(down)) / (2 * step)
            assert influence[i] == pytest.approx(slope * weight.sum() * weight[i] / weight.mean(), rel=1e-5)

    def test_rows_of_weight_zero_are_absent(self):
        rng = np.random.default_rng(7)
        t, y, ids = rng.integers(0, 2, 80), rng.normal(size=80), rng.integers(0, 20, 80)
        weight = np.r_[np.ones(50), np.zeros(30)]
        some = arm_scores(y, t, sample_weight=weight, clusters=ids)
        rest = arm_scores(y[:50], t[:50], clusters=ids[:50])
        found = [s.average(np.tile([-1.0, 1.0], (len(s.y), 1))) for s in (some, rest)]
        assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
        assert some.error(found[0][1]) == pytest.approx(rest.error(found[1][1]), rel=1e-12)

    def test_clusters_of_copies_say_no_more(self):
        rng = np.random.default_rng(8)
        influence = rng.normal(size=50)
        plain = influence_error(influence)
        assert influence_error(np.repeat(influence, 3), np.repeat(np.arange(50), 3)) == pytest.approx(plain, rel=1e-12)
        assert np.isnan(influence_error(influence, np.zeros(50, dtype=int)))

    def test_intervals_of_a_policy_s_value_cover(self):
        rng, n, hits = np.random.default_rng(9), 200, 0
        for _ in range(400):
            x, t = rng.normal(size=n), (rng.uniform(size=n) < 0.3).astype(int)
            y = 5 + x * t + rng.normal(size=n)
            treat = (x > 0).astype(float)
            scores = arm_scores(y, t)
            estimate, influence = scores.average(np.column_stack([1 - treat, treat]))
            truth = 5 + stats.norm.pdf(0)
            hits += abs(estimate - truth) < 1.96 * scores.error(influence)
        assert stats.binom.ppf(0.0005, 400, 0.945) <= hits <= stats.binom.ppf(0.9995, 400, 0.955)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"sample_weight": [1, 0, 1, 0]}, TreatmentError, "has no weight"),
            ({"propensity": 1.0}, OverlapError, "strictly between"),
            ({"clusters": [1, None, 2, 2]}, CausalRecError, "clusters: 1 of 4"),
            ({"clusters": [1, 2]}, CausalRecError, "clusters has 2"),
            ({"sample_weight": [1, -1, 1, 1]}, CausalRecError, "negative"),
            ({"control": "mail"}, TreatmentError, "not among the arms"),
        ],
    )
    def test_a_named_error(self, change, error, words):
        with pytest.raises(error, match=words):
            arm_scores([3.0, 1.0, 2.0, 0.0], [1, 0, 1, 0], **change)

    def test_nuisances_of_other_rows(self):
        rng = np.random.default_rng(10)
        X, t = rng.normal(size=(60, 1)), np.arange(60) % 2
        y = X[:, 0] + t
        nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        with pytest.raises(TreatmentError, match="not the one"):
            arm_scores(y, 1 - t, nuisance=nuisance)
        with pytest.raises(CausalRecError, match="not the outcome"):
            arm_scores(y + 1, t, nuisance=nuisance)
        with pytest.raises(CausalRecError, match="Leave propensity out"):
            arm_scores(y, t, nuisance=nuisance, propensity=0.5)
        with pytest.raises(CausalRecError, match="fit_nuisances returns"):
            arm_scores(y, t, nuisance=0.5)
        with pytest.raises(TreatmentError, match="no arm other than control"):
            arm_scores(y, t, nuisance=nuisance).arm_code("three")
