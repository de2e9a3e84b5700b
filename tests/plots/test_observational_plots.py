"""Figures of average effects from logs draw the numbers that they were given."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_balance, plot_effects, plot_event_study, plot_overlap, plot_weights

from . import observational_results as made
from .test_figures import drawn, effect, lines, segments, ticks

NAN = float("nan")


def names(ax) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]


# --- balance --------------------------------------------------------------------------------------------------------


def test_balance_is_sorted_by_the_difference_before() -> None:
    ax = plot_balance(made.balance())
    assert ticks(ax, "y") == ["x2", "x3", "x0", "x1"]  # from the bottom
    before, after = lines(ax)[-2:]
    assert before == ([0.05, 0.2, 0.4, -0.5], [0, 1, 2, 3])
    assert after == ([0.01, 0.0, 0.02, -0.03], [0, 1, 2, 3])
    assert {line[0][0] for line in lines(ax)[:3]} == {-0.1, 0.0, 0.1}
    assert "0.5 before, 0.03 after" in ax.get_label()
    assert names(ax) == ["usual limit, ±0.1", "before", "after"]


def test_balance_with_a_difference_that_is_not_known() -> None:
    result = dataclasses.replace(made.balance(2), smd_before=np.array([NAN, 0.3]), smd_after=np.array([NAN, 0.1]))
    ax = plot_balance(result)
    assert drawn(ax)
    assert np.isfinite(ax.get_xlim()).all()


def test_balance_without_an_adjustment_has_one_difference() -> None:
    ax = plot_balance(made.balance(adjusted=False))
    assert names(ax) == ["usual limit, ±0.1", "the difference"]
    assert ax.get_title(loc="left") == "Are the groups alike?"
    assert " after" not in ax.get_label()


def test_balance_of_several_methods() -> None:
    """The second gives the covariates in another order, and lacks one."""
    first, second = made.balance(), made.balance(3, smd_after=np.array([0.3, 0.2, 0.1]))
    second = dataclasses.replace(second, covariate=second.covariate[::-1].copy())
    same = made.balance(smd_after=first.smd_before)  # weights that change nothing
    ax = plot_balance({"naive": made.balance(adjusted=False), "same": same, "matching": first, "ipw": second})
    assert names(ax) == ["usual limit, ±0.1", "before", "matching", "ipw"]
    before, one, other = lines(ax)[-3:]
    assert before[0] == [0.05, 0.2, 0.4, -0.5]
    assert one[0] == [0.01, 0.0, 0.02, -0.03]
    np.testing.assert_array_equal(other[0], [0.3, NAN, 0.1, 0.2])
    assert one[1] != other[1]  # one above the other
    assert "0.03 (matching)" in ax.get_label()


def test_far_differences_leave_room_within_the_limit() -> None:
    far = made.balance(smd_before=np.array([2.0, -1.5, 0.3, 0.1]))
    ax = plot_balance({"matching": far, "ipw": far})
    assert drawn(ax)
    assert {"−0.1", "0", "0.05", "1"} <= set(ticks(ax, "x"))
    assert "steps grow" in ax.get_xlabel()
    inside = np.diff(ax.transData.transform([[-0.1, 0], [0.1, 0]])[:, 0])[0]
    assert inside > 0.3 * ax.get_window_extent().width
    assert "steps" not in plot_balance(far).get_xlabel()


def test_many_covariates_show_the_worst() -> None:
    result = made.balance(60)
    ax = plot_balance(result)
    assert len(ticks(ax, "y")) == 40
    assert "the 40 largest of 60 covariates" in ax.get_xlabel()
    worst = result.covariate[np.argmax(np.abs(result.smd_before))]
    assert ticks(ax, "y")[-1] == worst
    assert len(ticks(plot_balance(result, most=None), "y")) == 60


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_balance({})


@pytest.mark.parametrize(
    "draw, result",
    [
        (plot_balance, made.balance()), (plot_overlap, made.trimmed()), (plot_weights, made.weight_spread()),
        (plot_event_study, made.panel()),
    ],
)  # fmt: skip
def test_a_title_of_its_own(draw, result) -> None:
    ax = draw(result, title="Survey A")
    assert ax.get_title(loc="left") == "Survey A"
    assert ax.get_label().startswith("Survey A. ")


# --- overlap and weights --------------------------------------------------------------------------------------------


def test_overlap_is_mirrored() -> None:
    result = made.overlap()
    ax = plot_overlap(result)
    heights = [patch.get_height() for patch in ax.patches]
    assert heights[:10] == result.treated.tolist()
    assert heights[10:] == (-result.control).tolist()
    assert [patch.get_x() for patch in ax.patches[:10]] == result.edges[:-1].tolist()
    assert all(t.endswith("%") and not t.startswith(("-", "−")) for t in ticks(ax, "y"))
    assert ax.get_xlim() == (0, 1)
    assert "precise" not in ax.get_label()


def test_overlap_shows_weighting_support_and_trimming() -> None:
    result = made.trimmed()
    ax = plot_overlap(result)
    assert set(names(ax)) == {
        "treated (up)", "control (down)", "after weighting (ate)", "one arm alone", "best trimmed to 0.08–0.92",
    }  # fmt: skip
    stairs = [p.get_data().values.tolist() for p in ax.patches if hasattr(p, "get_data")]
    assert stairs == [[0.1] * 10, [-0.1] * 10]
    assert {x[0] for x, _ in lines(ax) if len(set(x)) == 1} >= {0.08, 0.92}
    assert "[0.08, 0.92], without 3.0% of units" in ax.get_label()
    plain = plot_overlap(result, weighted=False)
    assert "after weighting (ate)" not in names(plain)
    one = dataclasses.replace(result, crump_low=0.0)
    assert "best trimmed above 0.92" in names(plot_overlap(one))


def test_weights_by_arm_with_effective_sizes() -> None:
    result = made.weight_spread()
    ax = plot_weights(result)
    heights = [patch.get_height() for patch in ax.patches]
    assert heights[:4] == result.treated.tolist()
    assert heights[4:8] == (-result.control).tolist()
    assert names(ax) == ["treated (up): 400 units count like 350", "control (down): 600 units count like 123"]
    assert ax.get_xscale() == "log"
    assert {"0.1", "1"} <= set(ticks(ax, "x"))
    assert "weight zero: 60 of 600 control units" in ax.get_xlabel()
    assert "8% of the weight" in ax.get_label()


def test_an_arm_of_equal_weights_leaves_the_room_to_the_other() -> None:
    ax = plot_weights(made.weight_spread(ess_treated=400.0))
    assert names(ax)[0] == "treated: all 400 weigh alike"
    assert ax.get_ylim()[1] < 0.1


# --- effects --------------------------------------------------------------------------------------------------------


def test_effects_of_a_comparison_with_what_each_leaves() -> None:
    ax = plot_effects(made.comparison(), benchmark=effect(0.55, 0.35, 0.75))
    assert ticks(ax, "y") == ["naive", "ipw", "overlap weights (ato)"]
    assert ([-0.2, 0.5, 0.6], [2, 1, 0]) in lines(ax)
    shown = [t.get_text() for t in ax.texts]
    assert shown == ["-0.2", "0.5", "0.6", "0.510", "0.020", "–", "worst\n|SMD|"]
    assert ax.get_xlabel() == "effect on spend (att)"
    assert names(ax) == ["the benchmark, 0.55"]
    band = ax.patches[-1].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.35, 0.75))
    assert "benchmark 0.55 [0.35, 0.75]" in ax.get_label()
    figure = ax.figure
    drawn(ax)
    width = figure.get_size_inches()[0] * figure.dpi
    assert max(t.get_window_extent().x1 for t in ax.texts) <= width + 1


def test_a_benchmark_far_off_is_in_the_picture() -> None:
    ax = plot_effects({"a": effect()}, truth=0.4, benchmark=effect(5.0, 4.0, 6.0))
    assert ax.get_xlim()[1] > 5
    assert names(ax) == ["the truth, 0.4", "the benchmark, 5"]


# --- event study ----------------------------------------------------------------------------------------------------


def test_event_study() -> None:
    result = made.panel()
    ax = plot_event_study(result)
    assert ([-3, -2, -1], [0.1, -0.1, 0.0]) in lines(ax)
    assert ([0, 1], [0.5, 0.7]) in lines(ax)
    intervals = segments(ax)
    assert [[0, 0.5 - 0.196], [0, 0.5 + 0.196]] in intervals
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.7 + 2.5 * 0.2)
    assert names(ax) == ["95% for all at once", "before treatment, 95% each", "since treatment, 95% each"]
    assert "Overall 0.6 [0.4, 0.8]. Effects before treatment: p = 0.497" in ax.get_label()
    assert all(float(t.replace("−", "-")).is_integer() for t in ticks(ax, "x"))


def test_event_study_without_errors_or_periods_before() -> None:
    nothing = np.full(5, NAN)
    result = made.panel(event_low=nothing, event_high=nothing, event_band_low=nothing, event_band_high=nothing)
    assert drawn(plot_event_study(result))
    assert "no period to test" in plot_event_study(made.panel(pretrend_df=0)).get_label()


def test_anticipated_periods_are_not_before_treatment() -> None:
    ax = plot_event_study(made.panel(anticipation=1))
    assert ([-3, -2], [0.1, -0.1]) in lines(ax)
    assert [-1.5, -1.5] in [x for x, _ in lines(ax)]
