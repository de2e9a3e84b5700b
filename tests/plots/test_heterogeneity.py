"""The figures of groups, projections and compared learners draw the numbers of their results."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.ticker import FixedFormatter

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_group_effects, plot_learners, plot_projection

from .heterogeneity_results import groups, learners, projection
from .test_figures import LONG, drawn, lines, segments, ticks

NAN = float("nan")


def test_groups_from_the_highest_predictions_with_the_average() -> None:
    result = groups()
    ax = plot_group_effects(result)
    found = lines(ax)
    assert ([0, 1, 2, 3, 4], result.effect.tolist()) in found
    assert any(y == result.predicted.tolist() for _, y in found)
    assert (0.37, 0.37) in [tuple(y) for _, y in found]
    ends = [[[k, result.ci_low[k]], [k, result.ci_high[k]]] for k in range(5)]
    np.testing.assert_allclose(segments(ax), ends)
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((0.31, 0.43))
    assert ticks(ax, "x") == ["1", "2", "3", "4", "5"]
    assert ax.get_xlabel() == "group, 1 with the highest predicted effects"
    assert ax.get_ylabel() == "effect of e-mail against none"
    assert "1 0.72 [0.6, 0.84]; 2" in ax.get_label()
    assert "Average 0.37. All equal: p = 2.00e-15." in ax.get_label()


def test_groups_of_labels_without_predictions() -> None:
    ax = plot_group_effects(groups((0.3, 0.1), ("France", "Spain"), predicted=False))
    assert ticks(ax, "x") == ["France", "Spain"]
    assert ax.get_xlabel() == "group"
    assert "predicted" not in [t.get_text() for t in ax.get_legend().get_texts()]


def test_a_group_without_an_error_is_a_point() -> None:
    result = groups()
    result.ci_low[2], result.ci_high[2] = NAN, NAN
    ax = plot_group_effects(result)
    assert len(segments(ax)) == 4
    assert ([0, 1, 2, 3, 4], result.effect.tolist()) in lines(ax)
    nothing = dataclasses.replace(groups((0.2,), half=NAN), average_ci_low=NAN, average_ci_high=NAN, equal_pvalue=NAN)
    alone = plot_group_effects(nothing)
    assert drawn(alone)
    assert not alone.patches
    assert "equal" not in alone.get_label()


def test_projection_without_the_intercept() -> None:
    result = projection()
    ax = plot_projection(result)
    assert ticks(ax, "y") == ["age", "visits", "country=Germany"]
    np.testing.assert_allclose(
        segments(ax), [[[result.ci_low[k], 3 - k], [result.ci_high[k], 3 - k]] for k in (1, 2, 3)]
    )
    assert "e-mail against none per unit" in ax.get_xlabel().replace("\n", " ")
    assert "All zero: p = 6.00e-17" in ax.get_label()
    assert ticks(plot_projection(result, intercept=True), "y")[0] == "intercept"
    assert ticks(plot_projection(projection(("intercept",))), "y") == ["intercept"]


def test_learners_by_each_loss_from_its_best() -> None:
    result = learners()
    ax = plot_learners(result)
    assert ticks(ax, "y") == ["X", "T", "S", "constant effect"]
    assert (result.r_difference.tolist(), [3, 2, 1, 0]) in lines(ax)
    assert len(segments(ax)) == 3
    assert ax.get_xlabel().replace("\n", " ") == "R-loss above that of X (1.016), 95% intervals"
    assert [t.get_text() for t in ax.texts] == ["lowest", "+0.004", "+0.008", "+0.012"]
    other = plot_learners(result, loss="dr")
    assert ticks(other, "y")[0] == "T"
    assert other.get_title(loc="left").startswith("Which learner? DR-loss")
    with pytest.raises(CausalRecError, match=r"'mse'.*'dr'"):
        plot_learners(result, loss="mse")


HARD = {
    "30 groups": lambda: plot_group_effects(groups(tuple(np.linspace(1, 0, 30)))),
    "12 long labels": lambda: plot_group_effects(groups((0.3, 0.1) * 6, tuple(f"{i} {LONG}" for i in range(12)))),
    "3 long labels": lambda: plot_group_effects(groups((0.2, 0.1, -0.4), (LONG, LONG[::-1], "b"))),
    "30 terms": lambda: plot_projection(projection(("intercept", *(f"{i} {LONG}" for i in range(30))))),
    "learners": lambda: plot_learners(learners((LONG, LONG[::-1], "S"))),
}  # fmt: skip


@pytest.mark.parametrize("draw", HARD.values(), ids=list(HARD))
def test_long_names_and_many_rows_stay_in_the_picture(draw: Any) -> None:
    ax = draw()
    drawn(ax)
    width, height = ax.figure.get_size_inches() * ax.figure.dpi
    words = [ax.xaxis.label, ax.yaxis.label, ax._left_title]
    for axis in (ax.xaxis, ax.yaxis):
        if isinstance(axis.get_major_formatter(), FixedFormatter):  # names; numbers beyond the ends are not drawn
            words += axis.get_ticklabels()
    for text in words:
        box = text.get_window_extent()
        if text.get_text():
            assert box.x0 >= -2, text.get_text()
            assert box.x1 <= width + 2, text.get_text()
            assert box.y0 >= -2, text.get_text()
            assert box.y1 <= height + 2, text.get_text()
    rows = sorted((t.get_window_extent() for t in ax.get_yticklabels() if t.get_text()), key=lambda box: box.y0)
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(rows))
    assert ax.get_window_extent().height > 0.25 * height
