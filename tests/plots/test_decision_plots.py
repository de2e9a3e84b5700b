"""Figures of decisions: what they draw is what the results say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from causalrec.abtest import NonInferiority, NormalPrior, project_impact, shrink_winners, welch_test
from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_impact, plot_shrinkage

REVENUE = welch_test(2.0, 25.0, 40_000, 2.1, 25.0, 40_000, metric="revenue", control="A", treatment="B")


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_impact_says_value_interval_and_chance_of_a_loss():
    found = project_impact(REVENUE, units_per_year=5e6, cost=2e5, unit="EUR")
    ax = plot_impact(found)
    ax.figure.canvas.draw()
    assert any("+300,000 EUR" in t for t in texts(ax))
    assert any(f"loss {found.prob_loss:.1%}" in t for t in texts(ax))
    assert any("95% interval -46,481 to +646,481" in t for t in texts(ax))
    loss = ax.collections[1].get_paths()[0].vertices
    assert loss[:, 0].max() <= 1e-9
    assert "300" not in ax.get_xlabel()
    assert "EUR" in ax.get_xlabel()
    assert "95% interval" in ax.get_label()
    assert any("k" in t.get_text() for t in ax.get_xticklabels())


def test_an_open_interval_and_none():
    worse = welch_test(2.0, 25.0, 40_000, 1.97, 25.0, 40_000, hypothesis=NonInferiority(0.02, relative=True))
    ax = plot_impact(project_impact(worse, baseline_per_year=800.0))
    ax.figure.canvas.draw()
    assert any("at least" in t for t in texts(ax))
    assert "at most" in plot_impact(project_impact(worse, units_per_year=8, value_per_unit=-1)).get_label()
    with pytest.raises(CausalRecError, match="no standard error"):
        plot_impact(replace(project_impact(REVENUE, units_per_year=1.0), std_error=np.nan))


@pytest.mark.parametrize("n", [5, 60])
def test_shrinkage_draws_before_and_after(n):
    rng = np.random.default_rng(1)
    found = shrink_winners(rng.normal(0, 0.02, n), np.full(n, 0.01), prior=NormalPrior(0.0, 0.01))
    ax = plot_shrinkage(found, as_percent=True)
    ax.figure.canvas.draw()
    raw, after = (line.get_xdata() for line in ax.lines if line.get_linestyle() == "None")
    order = np.argsort(-found.estimate)
    order = order if n <= 40 else np.r_[order[:20], order[-20:]]
    np.testing.assert_allclose(raw, found.estimate[order])
    np.testing.assert_allclose(after, found.shrunk[order])
    assert ("20 in the middle are not drawn" in ax.get_xlabel()) == (n > 40)
