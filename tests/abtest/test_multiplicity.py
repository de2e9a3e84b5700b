"""Adjusted p-values against published ones, statsmodels and brute force."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from statsmodels.stats.multitest import multipletests

from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError

STATSMODELS = {
    "bonferroni": "bonferroni",
    "sidak": "sidak",
    "holm": "holm",
    "holm-sidak": "holm-sidak",
    "hochberg": "simes-hochberg",
    "bh": "fdr_bh",
    "by": "fdr_by",
}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("bh", [0.02, 0.06, 0.02, 0.048, 0.02, 0.045]),
        ("by", [0.049, 0.147, 0.049, 0.1176, 0.049, 0.11025]),
        ("holm-sidak", [0.0296274906, 0.087327, 0.0345134180, 0.087327, 0.03940399, 0.087327]),
    ],
)
def test_tea_tasting(method, expected):
    # tea-tasting tests/test_multiplicity.py.
    found = adjust_pvalues([0.005, 0.06, 0.007, 0.04, 0.01, 0.03], method)
    np.testing.assert_allclose(found, expected, rtol=0, atol=6e-11)  # as many digits as are published


def test_growthbook():
    # growthbook packages/shared/test/experiments.test.ts (Holm).
    found = adjust_pvalues([0.01, 0.04, 0.03, 0.005, 0.55, 0.6], "holm")
    np.testing.assert_allclose(found, [0.05, 0.12, 0.12, 0.03, 1, 1], rtol=1e-14)


@pytest.mark.parametrize("method", STATSMODELS)
@settings(max_examples=40, deadline=None)
@given(pvalues=st.lists(st.floats(0, 0.999) | st.sampled_from([0.0, 0.01, 0.5]), min_size=1, max_size=30))
def test_statsmodels(method, pvalues):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)  # statsmodels' Holm calls it, for .2 s each time
        expected = multipletests(pvalues, method=STATSMODELS[method])[1]
    np.testing.assert_allclose(adjust_pvalues(pvalues, method), expected, rtol=1e-9, atol=1e-15)


def test_holm_is_bonferroni_closed():
    # The closure principle: a hypothesis is rejected if every intersection that holds it is.
    p = np.array([0.004, 0.03, 0.2, 0.013, 0.9])
    sets = [s for k in range(1, 6) for s in itertools.combinations(range(5), k)]
    closed = [max(min(1, min(p[list(s)]) * len(s)) for s in sets if i in s) for i in range(5)]
    np.testing.assert_allclose(adjust_pvalues(p, "holm"), closed, rtol=1e-14)


@pytest.mark.parametrize("method", STATSMODELS)
def test_tiny_ones_stay(method):
    found = adjust_pvalues([1e-300, 1.0], method)
    assert 2e-300 <= found[0] * (1 + 1e-12) <= 3.1e-300
    assert found[1] == 1


def test_the_kind_is_kept():
    series = pd.Series([0.01, np.nan, 0.02], index=["a", "b", "c"], name="p")
    pd.testing.assert_series_equal(
        adjust_pvalues(series, "bonferroni"), pd.Series([0.02, np.nan, 0.04], index=["a", "b", "c"], name="p")
    )
    found = adjust_pvalues(series.to_dict(), "bonferroni")
    assert list(found) == ["a", "b", "c"]
    assert (found["a"], found["c"]) == (0.02, 0.04)
    assert isinstance(found["a"], float)
    assert np.isnan(found["b"])
    table = adjust_pvalues(np.array([[0.01, 0.02], [0.03, 0.04]]), "bonferroni")
    np.testing.assert_allclose(table, [[0.04, 0.08], [0.12, 0.16]])
    assert adjust_pvalues([], "bh").shape == (0,)
    assert adjust_pvalues({}, "holm") == {}


@pytest.mark.parametrize("pvalues", [[0.1, 1.2], [-0.1, 0.2], {"a": 3.0}], ids=str)
def test_what_is_no_p_value(pvalues):
    with pytest.raises(CausalRecError, match=r"expected numbers in \[0, 1\]"):
        adjust_pvalues(pvalues)


def test_an_unknown_method():
    with pytest.raises(CausalRecError, match=r"'holms'; expected one of 'bonferroni'.* Did you mean 'holm'\?"):
        adjust_pvalues([0.1], "holms")


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_error_rates(correlation):
    # 4 true nulls and 4 false ones, equicorrelated normal statistics: the family-wise and the false-discovery rate.
    rng = np.random.default_rng(5)
    reps, m = 4000, 8
    shared = rng.standard_normal((reps, 1))
    z = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal((reps, m))
    p = ndtr(-(z + np.where(np.arange(m) < 4, 0.0, 3.0)))
    four = 4 * np.sqrt(0.05 * 0.95 / reps)
    for method in STATSMODELS:
        rejected = np.array([adjust_pvalues(row, method) for row in p]) < 0.05
        false = rejected[:, :4].sum(1)
        if method in ("bh", "by"):
            share = false / np.maximum(rejected.sum(1), 1)  # at most .05 of the half that is true
            assert share.mean() < 0.025 + 4 * share.std() / np.sqrt(reps)
        else:
            assert (false > 0).mean() < 0.05 + four


@pytest.mark.parametrize(("ours", "theirs"), [("bh", "fdr_bh"), ("by", "fdr_by"), ("hochberg", "simes-hochberg")])
def test_names_of_statsmodels(ours, theirs):
    p = [0.01, 0.04, 0.03]
    np.testing.assert_array_equal(adjust_pvalues(p, theirs), adjust_pvalues(p, ours))
