"""Pairs of scorers: differences by brute force, antisymmetry, order of rows, and what the result says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from statsmodels.stats.multitest import multipletests

from causalrec._multiplicity import holm
from causalrec.evaluation import auuc_score, compare_scorers, lift_share, qini_score, rate, uplift_at_k
from causalrec.evaluation._areas import area_score
from causalrec.evaluation._ranked import rank_units
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import arm_scores, dr_loss, fit_nuisances, r_loss

SINGLE = {
    "qini": qini_score,
    "auuc": auuc_score,
    "autoc": rate,
    "uplift_at_k": lambda *a, **o: uplift_at_k(*a, k=0.3, **o),
    "lift_share": lambda *a, **o: lift_share(*a, share=0.3, **o),
}
every_metric = pytest.mark.parametrize("metric", list(SINGLE))


def example(seed=0, n=240):
    rng = np.random.default_rng(seed)
    x, t = rng.normal(size=n), rng.permutation(np.arange(n) % 2)
    uplift = {"new": x, "old": x + 2 * rng.normal(size=n), "noise": rng.normal(size=n), "flat": np.zeros(n)}
    options = {"sample_weight": rng.uniform(0.2, 2, n) * (rng.random(n) < 0.9), "clusters": rng.integers(0, 90, n)}
    return 1 + x * t + 2 * t + rng.normal(size=n), uplift, t, options


def compare(y, uplift, t, metric, **options):
    return compare_scorers(y, uplift, t, metric=metric, k=0.3, **options)


@every_metric
class TestEveryMetric:
    def test_each_scorer_has_its_own_result(self, metric):
        y, uplift, t, options = example(1)
        uplift["flat"] = uplift["new"].round()  # a top of a constant score is everyone
        found = compare(y, uplift, t, metric, **options)
        for i, (name, values) in enumerate(uplift.items()):
            one = SINGLE[metric](y, values, t, **options)
            row = [getattr(found, k)[i] for k in ("estimate", "std_error", "ci_low", "ci_high", "pvalue")]
            np.testing.assert_allclose(row, [one.estimate, one.std_error, one.ci_low, one.ci_high, one.pvalue])
            assert found.scorer[i] == name
        assert found.metric == one.estimand

    def test_antisymmetric(self, metric):
        y, uplift, t, options = example(2)
        names = ["new", "old", "noise"]
        one = compare(y, {n: uplift[n] for n in names}, t, metric, **options)
        other = compare(y, {n: uplift[n] for n in names[::-1]}, t, metric, **options)
        for a, b in zip(one.first, one.second, strict=True):
            up, down = one.pair(a, b), other.pair(b, a)
            assert (up.estimate, up.ci_low, up.pvalue) == (-down.estimate, -down.ci_high, down.pvalue)
            again = one.pair(b, a)
            assert (again.estimate, again.ci_low, again.ci_high) == (-up.estimate, -up.ci_high, -up.ci_low)
        opposite = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}
        assert [opposite[v] for v in one.verdict] == list(other.verdict[::-1])

    def test_row_order_changes_nothing(self, metric):
        y, uplift, t, options = example(3)
        order = np.random.default_rng(3).permutation(len(y))
        one = compare(y, uplift, t, metric, **options)
        other = compare(
            y[order], {n: u[order] for n, u in uplift.items()}, t[order], metric,
            **{n: v[order] for n, v in options.items()},
        )  # fmt: skip
        columns = ["difference", "std_error", "ci_low", "ci_high", "pvalue", "adjusted_pvalue"]
        np.testing.assert_allclose(other.to_frame()[columns], one.to_frame()[columns], rtol=1e-8, atol=1e-12)

    def test_the_same_order_differs_by_nothing(self, metric):
        y, uplift, t, options = example(4)
        found = compare(y, {"a": uplift["new"], "b": np.exp(uplift["new"])}, t, metric, **options)
        assert (found.difference[0], found.difference_std_error[0], found.verdict) == (0.0, 0.0, ("cannot tell",))
        assert math.isnan(found.difference_pvalue[0])


def test_differences_by_brute_force():
    y, uplift, t, options = example(5)
    scores = arm_scores(y, t, **options)
    influence = []
    for name in ("new", "old"):
        ranked = rank_units(scores, uplift[name])
        influence.append(ranked.by_row(area_score(ranked, 0.5)[1]))
    by_cluster = pd.Series(influence[0] - influence[1]).groupby(options["clusters"]).sum()
    rows = options["sample_weight"] > 0
    g, n = len(np.unique(options["clusters"][rows])), rows.sum()
    error = math.sqrt((by_cluster**2).sum() * g / (g - 1)) / n
    gap = float(qini_score(y, uplift["new"], t, **options)) - float(qini_score(y, uplift["old"], t, **options))
    found = compare_scorers(y, {"new": uplift["new"], "old": uplift["old"]}, t, **options)
    np.testing.assert_allclose(found.difference_std_error, [error])
    np.testing.assert_allclose(found.difference, [gap])
    np.testing.assert_allclose(found.difference_pvalue, [2 * stats.norm.sf(abs(gap) / error)])
    half = stats.norm.isf(0.025) * error
    np.testing.assert_allclose([found.difference_ci_low[0], found.difference_ci_high[0]], [gap - half, gap + half])


def test_pairs_see_what_single_intervals_do_not():
    # The scorers share their noise: intervals overlap, the difference is clear.
    rng = np.random.default_rng(6)
    x, t = rng.normal(size=4000), rng.integers(0, 2, 4000)
    y = 0.2 * x * t + rng.normal(size=4000)
    found = compare_scorers(y, {"new": x, "old": x + 0.9 * rng.normal(size=4000)}, t)
    assert found.ci_low[0] < found.ci_high[1]
    assert found.difference_std_error[0] < 0.8 * math.hypot(*found.std_error)


def test_with_a_baseline_and_without():
    y, uplift, t, _ = example(7)
    every, against = compare_scorers(y, uplift, t), compare_scorers(y, uplift, t, baseline="old")
    assert (every.n_pairs, against.n_pairs, every.baseline, against.baseline) == (6, 3, "", "old")
    assert set(against.second) == {"old"}
    assert against.first.tolist() == ["new", "noise", "flat"]
    assert against.pair("new", "old").to_dict() == every.pair("new", "old").to_dict()
    with pytest.raises(CausalRecError, match="'new' and 'noise' were not compared"):
        against.pair("new", "noise")


def test_words():
    y, uplift, t, _ = example(8, n=900)
    found = compare_scorers(pd.Series(y), pd.DataFrame(uplift), t, metric="autoc")
    assert found.best == "new"
    assert compare_scorers(y, pl.DataFrame(uplift), t, metric="autoc").to_dict() == found.to_dict()
    assert found.scores()["scorer"].iloc[0] == "new"
    assert found.score("old").estimate == found.estimate[1]
    with pytest.raises(CausalRecError, match="there is no scorer 'older'; expected one of 'new', 'old'"):
        found.score("older")
    frame = found.to_frame().set_index(["first", "second"])
    assert frame.loc[("new", "noise"), "verdict"] == "better"
    text = str(found)
    assert all(word in text for word in ("autoc of 4 scorers", "new – noise", "better", "cannot tell", "Holm", "all 6"))
    assert max(map(len, text.splitlines()[:-1])) <= 100  # the last says how


class TestLosses:
    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls):
        rng = np.random.default_rng(9)
        X, t = rng.normal(size=(400, 2)), rng.permutation(np.arange(400) % 2)
        y = X[:, 0] + X[:, 1] * t + rng.normal(size=400)
        nuisance = fit_nuisances(X, y, treatment=t, propensity=0.5, outcome_model=LinearRegression())
        return X, y, t, nuisance

    @pytest.mark.parametrize(("metric", "single"), [("r_loss", r_loss), ("dr_loss", dr_loss)])
    def test_less_is_better(self, fitted, metric, single):
        X, y, t, nuisance = fitted
        found = compare_scorers(y, {"wrong": -X[:, 1], "right": X[:, 1]}, t, metric=metric, nuisance=nuisance)
        assert (found.best, found.verdict, found.higher_is_better) == ("right", ("worse",), False)
        assert found.scores()["scorer"].tolist() == ["right", "wrong"]
        for i, uplift in enumerate((-X[:, 1], X[:, 1])):
            loss = single(uplift, nuisance)
            np.testing.assert_allclose([found.estimate[i], found.std_error[i]], [loss.estimate, loss.std_error])
        assert np.isnan(found.pvalue).all()

    def test_ranking_by_doubly_robust_scores(self, fitted):
        X, y, t, nuisance = fitted
        found = compare_scorers(y, {"right": X[:, 1], "wrong": X[:, 0]}, t, nuisance=nuisance)
        assert "doubly robust" in found.method
        assert found.estimate[0] == float(qini_score(y, X[:, 1], t, nuisance=nuisance))

    def test_needs_nuisances(self, fitted):
        X, y, t, _ = fitted
        with pytest.raises(CausalRecError, match="metric='r_loss' needs nuisance"):
            compare_scorers(y, {"a": X[:, 0], "b": X[:, 1]}, t, metric="r_loss")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uplift": [1, 2]}, "expected a mapping of names"),
        ({"uplift": {"a": np.arange(240.0)}}, "two or more"),
        ({"uplift": {}}, "two or more"),
        ({"metric": "qinni"}, "Did you mean 'qini'"),
        ({"metric": "rate_qini"}, "metric is 'rate_qini'"),
        ({"baseline": "older"}, "baseline='older' is no scorer"),
        ({"metric": "uplift_at_k", "k": 0}, "k is 0"),
        ({"convention": "R"}, "convention is 'R'"),
        ({"confidence_level": 1.0}, "confidence_level"),
    ],
    ids=str,
)
def test_misuse(change, words):
    y, uplift, t, _ = example(10)
    arguments = {"y": y, "uplift": uplift, "treatment": t, **change}
    with pytest.raises(CausalRecError, match=words):
        compare_scorers(**arguments)


def test_other_conventions_come_in_pairs_too():
    y, uplift, t, _ = example(11)
    found = compare_scorers((y > 2).astype(float), uplift, t, convention="sklift")
    assert found.metric == "qini_sklift"
    assert np.isfinite(found.difference_pvalue[:3]).all()


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(12).random(20) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    assert np.isnan(holm(np.array([math.nan, 0.2]))).tolist() == [True, False]
