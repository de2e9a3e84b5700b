"""Figures of survival show the numbers of their results."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_hazards, plot_retention, plot_survival
from causalrec.results import SurvivalResult
from causalrec.survival import churn_hazards, kaplan_meier, retention


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(7)
    arm = np.repeat(["old", "new"], 400)
    life, end = rng.exponential(np.where(arm == "old", 12.0, 18.0)), rng.uniform(5, 30, 800)
    return {
        "durations": np.minimum(life, end), "event_observed": life < end, "treatment": arm, "control": "old",
    }  # fmt: skip


def words(ax):
    ax.figure.draw_without_rendering()
    return [t.get_text() for t in ax.texts]


def test_curves_with_numbers_at_risk_below_the_ticks(rows):
    result = kaplan_meier(**rows)
    ax = plot_survival(result, unit="days")
    for line, curve in zip(ax.lines, result.curves, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), curve.survival)
        assert line.get_drawstyle() == "steps-post"
    numbers = [t for t in ax.texts if t.get_text().replace(",", "").isdigit()]
    ticks = ax.get_xticks()
    assert [t.xy[0] for t in numbers] == [*ticks, *ticks]
    at_risk = [f"{n:,.0f}" for c in result.curves for n in c.at(ticks)["at_risk"]]
    assert [t.get_text() for t in numbers] == at_risk
    assert f"old {result['old'].survival[-1]:.0%}" in words(ax)
    assert ax.get_xlabel() == "days since the start"
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_survival(SurvivalResult(0, 0, 0.95, "", ()))


@pytest.mark.parametrize("scale", [0.01, 1, 40, 3000])
def test_ticks_at_any_scale(rows, scale):
    ax = plot_survival(kaplan_meier(**rows | {"durations": rows["durations"] * scale}))
    assert 3 <= len(ax.get_xticks()) <= 9
    assert ax.get_xticks()[-1] <= ax.get_xlim()[1]


def test_curves_high_up_say_where_the_axis_begins(rows):
    early = np.minimum(rows["durations"], 2.0)
    seen = rows["event_observed"] & (rows["durations"] <= 2)
    ax = plot_survival(kaplan_meier(early, seen, treatment=rows["treatment"], control="old"))
    assert ax.get_ylim()[0] > 0
    assert any(t.startswith("from ") and t.endswith("%, not 0") for t in words(ax))


def test_churn_by_period(rows):
    result = churn_hazards(**rows, period=7)
    ax = plot_hazards(result)
    for line, arm in zip(ax.lines, ["old", "new"], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), result.hazard[result.arm == arm])
    assert {"old", "new"} <= set(words(ax))
    assert ax.get_xlabel() == "period of 7 days"


def test_retention_by_day_and_beyond_follow_up(rows):
    result = retention(**rows, days=[7, 14, 60])
    ax = plot_retention(result)
    known = [f"{v:.1%}" for v in result.retention if np.isfinite(v)]
    assert [t for t in words(ax) if t.endswith("%")] == known
    assert "beyond\nfollow-up" in words(ax)
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert labels[0].startswith(f"7 days\n{100 * result.effect(7).estimate:+.1f}\n[")
    assert labels[2].startswith("60 days")
    assert "new − old in percentage points, 95% interval" in ax.get_xlabel()
    three = retention(rows["durations"], rows["event_observed"], treatment=np.arange(800) % 3, control=0, days=[7])
    assert [t.get_text() for t in plot_retention(three).get_xticklabels()] == ["7 days"]
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_retention(retention(**rows, days=[60]))
