"""Folds: even within arms, whole groups, and an error where an arm is too small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance import make_folds
from causalrec.nuisance.folds import check_groups


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(10, 40), min_size=1, max_size=4), st.integers(2, 5), st.integers(0, 99))
def test_arms_and_the_whole_are_spread_evenly(sizes, n_folds, seed):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    folds = make_folds(codes, n_folds, random_state=seed)
    for code in range(len(sizes)):
        counts = np.bincount(folds[codes == code], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(folds, minlength=n_folds)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(folds, make_folds(codes, n_folds, random_state=seed))


def test_groups_stay_together_and_are_spread_evenly():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 400)
    codes = rng.integers(0, 2, 60)[groups]  # an arm for each group
    folds = make_folds(codes, 4, groups=groups)
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()
    for arm in (0, 1):
        counts = np.bincount([folds[groups == g][0] for g in np.unique(groups[codes == arm])], minlength=4)
        assert counts.max() - counts.min() <= 1


def test_another_seed_gives_other_folds():
    codes = np.zeros(50, dtype=np.int64)
    assert not np.array_equal(make_folds(codes, 5), make_folds(codes, 5, random_state=1))


def test_an_arm_of_three_rows_and_five_folds():
    codes = np.array([0] * 30 + [1] * 3)
    assert set(make_folds(codes, 5)) == set(range(5))  # two rows are left outside every fold
    with pytest.raises(TreatmentError, match="arm 'mail' has 2 rows, of which 1 lie outside one of 5 folds"):
        make_folds(codes[:-1], 5, labels=("none", "mail"))


@pytest.mark.parametrize("n_folds", [1, 0, 2.5, True, "two"])
def test_numbers_of_folds_that_make_no_sense(n_folds):
    with pytest.raises(CausalRecError, match="n_folds"):
        make_folds(np.zeros(10, dtype=np.int64), n_folds)


def test_groups_of_any_kind_become_codes():
    np.testing.assert_array_equal(check_groups(["b", "a", "b"], n_rows=3), [0, 1, 0])
    assert check_groups(None, n_rows=3) is None
    with pytest.raises(CausalRecError, match="1 of 3 values are missing"):
        check_groups(["a", None, "b"], n_rows=3)
    with pytest.raises(CausalRecError, match="one value 'a'"):
        check_groups(["a", "a", "a"], n_rows=3)
    with pytest.raises(CausalRecError, match="groups has 2 values"):
        check_groups(["a", "b"], n_rows=3)
