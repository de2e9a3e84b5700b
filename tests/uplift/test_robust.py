"""Errors of weighted means and regressions against statsmodels, brute-force jackknives and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.regression.linear_model import WLS

from causalrec.exceptions import CausalRecError
from causalrec.uplift import _robust
from causalrec.uplift._robust import Estimates, group_means, least_squares, student, wald, weighted_means

RNG = np.random.default_rng(7)
N = 240
X = np.column_stack([np.ones(N), RNG.normal(size=N), RNG.integers(0, 2, N)])
Y = X @ [1.0, 0.5, -0.3] + RNG.normal(size=N) * (1 + np.abs(X[:, 1]))
WEIGHT = RNG.uniform(0.2, 3.0, N)
member = RNG.integers(0, 3, N)
users = RNG.integers(0, 40, N)
NAMES = ("intercept", "a", "b")


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weight", [np.ones(N), WEIGHT], ids=["equal", "weighted"])
def test_hc3_is_that_of_statsmodels(weight):
    found = least_squares(X, Y, weight, names=NAMES)
    fit = WLS(Y, X, weights=weight).fit(cov_type="HC3", use_t=True)
    close(found.value, fit.params)
    close(found.covariance, fit.cov_params())
    answer = student(found, 0.9)
    close(answer.pvalue, fit.pvalues)
    close(np.column_stack([answer.ci_low, answer.ci_high]), fit.conf_int(0.1))
    slopes = Estimates(found.value[1:], found.covariance[1:, 1:], found.df)
    expected = fit.f_test(np.eye(3)[1:])
    close(wald(slopes), (float(expected.fvalue), float(expected.pvalue)))


def test_rows_as_clusters_give_hc3():
    close(least_squares(X, Y, WEIGHT, np.arange(N), names=NAMES).covariance,
          least_squares(X, Y, WEIGHT, names=NAMES).covariance)  # fmt: skip


@pytest.mark.parametrize("block", [1, 2**22])
def test_cr3_is_the_jackknife_of_clusters(block, monkeypatch):
    monkeypatch.setattr(_robust, "_BLOCK", block)
    found = least_squares(X, Y, WEIGHT, users, names=NAMES)
    shifts = [
        WLS(Y[users != c], X[users != c], weights=WEIGHT[users != c]).fit().params - found.value for c in range(40)
    ]
    close(found.covariance, np.array(shifts).T @ np.array(shifts))
    assert found.df == 39


@pytest.mark.parametrize("weight", [np.ones(N), WEIGHT], ids=["equal", "weighted"])
def test_group_means_are_a_regression_on_indicators(weight):
    D = (member[:, None] == np.arange(3)).astype(float)
    fit = WLS(Y, D, weights=weight)
    found, units = group_means(Y, member, 3, weight)
    n = np.bincount(member)
    close(found.value, fit.fit().params)
    close(units, n)
    close(found.std_error, fit.fit(cov_type="HC0").bse * np.sqrt(n / (n - 1)))
    if (weight == 1).all():
        close(found.covariance, fit.fit(cov_type="HC2").cov_params())
        close(found.std_error, [Y[member == g].std(ddof=1) / np.sqrt(n[g]) for g in range(3)])
    clustered, units = group_means(Y, member, 3, weight, users)
    raw = fit.fit(cov_type="cluster", cov_kwds={"groups": users, "use_correction": False}).cov_params()
    g = np.array([len(np.unique(users[member == k])) for k in range(3)])
    close(units, g)
    close(clustered.covariance, raw * np.sqrt(np.outer(g / (g - 1), g / (g - 1))))


def test_one_group_is_a_weighted_mean_by_cluster():
    everyone = np.zeros(N, dtype=np.int64)
    fit = WLS(Y, np.ones(N), weights=WEIGHT)
    for clusters in (None, users):
        one, _ = group_means(Y, everyone, 1, WEIGHT, clusters)
        mean = weighted_means(Y[:, None], WEIGHT, clusters)
        close(one.value, mean.value)
        close(one.covariance, mean.covariance)
    # For a mean the small-sample correction of statsmodels is g / (g - 1).
    close(one.std_error, fit.fit(cov_type="cluster", cov_kwds={"groups": users}).bse)


def test_means_of_columns_covary_as_the_columns_do():
    found = weighted_means(np.column_stack([Y, X[:, 1]]), np.ones(N))
    close(found.covariance, np.cov(Y, X[:, 1]) / N)


def test_two_copies_of_rows_are_weights_of_two():
    twice = np.r_[np.arange(N), np.arange(N)]
    close(least_squares(X[twice], Y[twice], np.ones(2 * N), names=NAMES).value,
          least_squares(X, Y, np.full(N, 2.0), names=NAMES).value)  # fmt: skip
    close(group_means(Y[twice], member[twice], 3, np.ones(2 * N))[0].value,
          group_means(Y, member, 3, np.full(N, 2.0))[0].value)  # fmt: skip
    # and copies that share a cluster are no further evidence
    close(group_means(Y[twice], member[twice], 3, np.ones(2 * N), twice)[0].covariance,
          group_means(Y, member, 3, np.ones(N))[0].covariance)  # fmt: skip


def test_a_group_of_one_unit_has_no_error():
    found, _ = group_means(Y[:5], np.array([0, 0, 0, 0, 1]), 2, np.ones(5))
    assert np.isfinite(found.std_error).tolist() == [True, False]
    found, units = group_means(Y[:5], np.array([0, 0, 0, 1, 1]), 2, np.ones(5), np.array([0, 1, 2, 2, 2]))
    assert units.tolist() == [3, 1]
    assert np.isfinite(found.std_error).tolist() == [True, False]
    assert np.isnan(wald(found)).all()
    answer = student(found, 0.95, df=units - 1)
    assert np.isnan(answer.pvalue).tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (np.column_stack([X, X[:, 1] * 2 - 1]), ["'c'", "Leave them out"]),
        (np.column_stack([X, np.full(N, 5.0)]), ["'c'", "constant"]),
        (np.column_stack([X, np.zeros(N)]), ["'c'"]),
        (np.column_stack([X, np.arange(N) == 3]), ["'c'", "one row alone"]),
        (np.column_stack([X[:3, :2], [1, 0, 0]]), ["one row alone"]),
        (X[:2], ["2 rows for 3 coefficients"]),
    ],
)
def test_coefficients_that_cannot_be_told_apart(columns, words):
    n = len(columns)
    with pytest.raises(CausalRecError) as caught:
        least_squares(columns.astype(float), Y[:n], np.ones(n), names=(*NAMES, "c")[: columns.shape[1]])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_term_that_varies_in_one_cluster_only():
    columns = np.column_stack([X, (users == 5) * X[:, 1]])
    with pytest.raises(CausalRecError, match=r"one cluster alone.*'c'"):
        least_squares(columns, Y, np.ones(N), users, names=(*NAMES, "c"))


def test_scales_of_columns_play_no_part():
    far = X * [1.0, 1e9, 1e-9]
    close(least_squares(far, Y, WEIGHT, names=NAMES).value * [1.0, 1e9, 1e-9],
          least_squares(X, Y, WEIGHT, names=NAMES).value)  # fmt: skip


def test_pvalues_far_out_are_not_zero():
    found = student(Estimates(np.array([30.0]), np.eye(1), np.inf), 0.95)
    assert 0 < found.pvalue[0] < 1e-190
    assert student(Estimates(np.array([-1.0]), np.eye(1), 9.0), 0.95, alternative="greater").pvalue[0] > 0.5
