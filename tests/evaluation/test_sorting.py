"""The fast order of scores is that of a stable sort."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.evaluation._sorting import falling_order

N = 20_000
RNG = np.random.default_rng(0)
SCORES = {
    "any": RNG.normal(size=N),
    "float32": RNG.normal(size=N).astype(np.float32).astype(float),
    "of all sizes": RNG.normal(size=N) * 10.0 ** RNG.integers(-300, 300, N),
    "tied": RNG.integers(-5, 5, N).astype(float),
    "few ties": np.where(RNG.random(N) < 0.001, 0.5, RNG.normal(size=N)),
    "equal": np.full(N, 0.3),
    "zeros of both signs": np.where(RNG.random(N) < 0.5, 0.0, -0.0),
    "close together": 1 + RNG.random(N) * 1e-9,
    "some close together": np.where(RNG.random(N) < 0.005, 1 + RNG.random(N) * 1e-13, RNG.normal(size=N)),
    "with denormals": RNG.normal(size=N) * 5e-324,
}


@pytest.mark.parametrize("name", list(SCORES))
@pytest.mark.parametrize("n", [1, 10, 5000, N])
def test_as_a_stable_sort(name, n):
    score = SCORES[name][:n]
    order, tied = falling_order(score)
    assert np.array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(score[order], -np.sort(-score))
    assert tied == (len(np.unique(score)) < n)


def test_scores_are_left_alone():
    score = SCORES["any"].copy()
    score.flags.writeable = False
    falling_order(score)
