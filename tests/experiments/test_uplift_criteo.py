"""Criteo's samples: parts by hand, and the numbers of the study's README."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from causalrec.results import EffectResult
from experiments.uplift_criteo.data import DR, VISITS, S, T, X, read_counts
from experiments.uplift_criteo.run import effect_of_test, main, rows_needed, smallest_told

pytestmark = pytest.mark.data


def test_the_effect_of_the_large_sample_by_hand(data_dir):
    counts = read_counts(data_dir)
    assert counts.to_numpy().tolist() == [[314_541, 610], [1_782_399, 5_507]]
    p0, p1 = 610 / 314_541, 5_507 / 1_782_399
    error = sqrt(p0 * (1 - p0) / 314_541 + p1 * (1 - p1) / 1_782_399)
    found = effect_of_test(counts)
    assert found.estimate == pytest.approx(p1 - p0, abs=1e-15)
    assert (found.ci_low, found.ci_high) == pytest.approx((p1 - p0 - 1.959964 * error, p1 - p0 + 1.959964 * error))
    # The whole file: 0.1152 points.
    assert found.ci_low < 0.001152 < found.ci_high


def test_rows_needed_is_the_sample_size_of_a_z_test():
    difference = EffectResult(0.02, 0.05, -0.08, 0.12, 0.7, 0.95, 400, "", "")
    sd = 0.05 * sqrt(400)
    # One-sample z test of a mean, from statsmodels (ratio=0 is one sample).
    expected = NormalIndPower().solve_power(effect_size=0.02 / sd, alpha=0.05, power=0.8, ratio=0)
    assert rows_needed(difference) == pytest.approx(expected, rel=1e-5)
    told = smallest_told(difference, 400)
    assert rows_needed(replace(difference, estimate=told)) == pytest.approx(400)
    assert rows_needed(replace(difference, estimate=0.0)) == np.inf


@pytest.fixture(scope="module")
def told(tmp_path_factory, data_dir):
    directory = tmp_path_factory.mktemp("criteo")
    return main(["--output", str(directory), "--data-dir", str(data_dir)]), directory


@pytest.mark.slow
def test_the_study_writes_its_page(told):
    page = (told[1] / "index.html").read_text(encoding="utf-8")
    for words in ("Criteo: what a sample can say", "cannot rank learners", "which is no answer", "seeds:"):
        assert words in page
    assert {p.name for p in told[1].iterdir()} == {"index.html", "qini.png", "learners.png", "profit.png"}


@pytest.mark.slow
def test_numbers_of_the_readme(told):
    found = told[0]
    assert (round(100 * found.effect.estimate, 3), round(100 * found.effect.ci_low, 3)) == (0.115, 0.098)
    assert set(found.doubly_robust.verdict) == {"cannot tell"}
    scores = found.doubly_robust.scores().set_index("scorer")["estimate"]
    # Boosted trees may differ a little between versions of XGBoost.
    for name, qini in ((S, 0.0040), (DR, 0.0037), (T, 0.0036), (X, 0.0031), (VISITS, -0.0001)):
        assert scores[name] == pytest.approx(qini, abs=0.0015)
    assert smallest_told(found.doubly_robust.pair(S, T), 13_979_592) == pytest.approx(0.00022, rel=0.15)
    assert found.profit.best_share_high - found.profit.best_share_low > 0.5
