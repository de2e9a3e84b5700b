"""Moments equal numpy's on the whole, however the rows are cut and merged."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.moments import Moments

NAMES = ("a", "b")


def merged(parts):
    return functools.reduce(Moments.merge, [Moments.from_array(part, NAMES) for part in parts])


@settings(max_examples=60, deadline=None)
@given(
    rows=hnp.arrays(np.float64, st.tuples(st.integers(2, 40), st.just(2)), elements=st.floats(-1e3, 1e3)),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_any_cut_and_order_gives_numpys_mean_and_covariance(rows, cuts, order):
    parts = np.split(rows, sorted(min(c, len(rows)) for c in cuts))
    order.shuffle(parts)
    found = merged(parts)
    cov = np.cov(rows.T)
    assert found.n == len(rows)
    np.testing.assert_allclose([found.mean_of(n) for n in NAMES], rows.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        [[found.cov_of(i, j) for j in NAMES] for i in NAMES], cov, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(cov).max())
    )


def test_a_large_mean_does_not_drown_the_variance():
    # Raw sums of squares give 1.64 where the variance is 0.996: the case that centring is for.
    values = np.random.default_rng(0).normal(1e8, 1.0, size=(10_000, 2))
    found = merged(np.array_split(values, 37))
    np.testing.assert_allclose(found.var_of("a"), values[:, 0].var(ddof=1), rtol=1e-6)
    np.testing.assert_allclose(found.mean_of("a"), values[:, 0].mean(), rtol=1e-15)


def test_moments_from_a_covariance_merge_with_those_of_rows():
    rows = np.random.default_rng(1).normal(size=(30, 2))
    first = Moments.from_covariance(20, NAMES, rows[:20].mean(axis=0), np.cov(rows[:20].T))
    both = first.merge(Moments.from_array(rows[20:], NAMES))
    np.testing.assert_allclose(both.products / 29, np.cov(rows.T))


def test_no_rows_and_one_row():
    empty, one = Moments.from_array(np.empty((0, 2)), NAMES), Moments.from_array(np.array([[3.0, 4.0]]), NAMES)
    assert empty.n == 0
    for both in (empty.merge(one), one.merge(empty)):
        assert (both.n, both.mean_of("a"), both.mean_of("b")) == (1, 3.0, 4.0)
        assert np.isnan(both.var_of("a"))
    assert empty.merge(empty).n == 0
    nothing = Moments.from_covariance(1, NAMES, np.array([3.0, 4.0]), np.full((2, 2), np.nan))
    assert nothing.merge(one).var_of("a") == 0.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Moments.from_array(np.zeros((2, 3)), NAMES), CausalRecError, ["(2, 3)", "(n, 2)"]),
        (lambda: Moments.from_array(np.array([[0, np.nan]]), NAMES), OutcomeError, ["'b'", "1 of 1", "Drop"]),
        (lambda: Moments.from_covariance(3, NAMES, np.zeros(2), np.zeros(2)), CausalRecError, ["(2,)", "(2, 2)"]),
        (
            lambda: Moments.from_array(np.zeros((1, 2)), NAMES).merge(Moments.from_array(np.zeros((1, 2)), ("b", "a"))),
            CausalRecError,
            ["('a', 'b')", "same order"],
        ),
        (lambda: Moments.from_array(np.zeros((1, 2)), NAMES).mean_of("c"), ColumnError, ["'c'", "'a', 'b'"]),
    ],
)
def test_misuse_says_what_to_do(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)
