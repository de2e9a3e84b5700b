"""Figures of group-sequential tests show the numbers of their results."""

import numpy as np
import pytest

from causalrec.abtest import design_group_sequential, group_sequential_bounds
from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_bounds, plot_spending

LOOKS = [0.2, 0.4, 0.6, 0.8, 1.0]


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_bounds_and_what_was_seen():
    bounds = group_sequential_bounds(LOOKS, spending="pocock")
    ax = plot_bounds(bounds, observed=[0.5, 2.6])
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["reject"], np.column_stack([100 * bounds.fraction, bounds.upper]))
    np.testing.assert_allclose(drawn["seen"], [[20, 0.5], [40, 2.6]])
    assert any(np.allclose(xy[:, -1], -bounds.upper) for xy in drawn.values() if len(xy) == 5)
    assert {"2.44", "2.60"} <= {text.get_text() for text in ax.texts}
    assert "seen 0.50, 2.60" in ax.get_label()
    ax.figure.canvas.draw()


def test_futility_and_far_bounds():
    design = design_group_sequential(n_looks=4, alternative="greater", futility="obrien-fleming")
    ax = plot_bounds(design)
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["give up"][:, 1], design.lower)
    assert "give up below" in ax.get_label()
    far = plot_bounds(group_sequential_bounds([1e-4, 0.5, 1.0]))  # the first is infinite
    assert far.get_ylim()[1] < 7
    far.figure.canvas.draw()


def test_two_sided_futility_has_a_mirror():
    design = design_group_sequential(n_looks=3, spending="pocock", futility="pocock")
    mirrored = [xy for xy in lines(plot_bounds(design)).values() if np.allclose(xy[-1, 1], -design.lower[-1])]
    assert mirrored


def test_spending():
    design = design_group_sequential(n_looks=3, futility="pocock")
    ax = plot_spending(design)
    alpha, beta = (line.get_ydata() for line in ax.get_lines())
    np.testing.assert_allclose(alpha, [0, *(100 * design.alpha_spent)])
    np.testing.assert_allclose(beta, [0, *(100 * design.beta_spent)])
    assert [text.get_text() for text in ax.texts] == ["alpha\n5%", "beta\n20%"]
    assert len(plot_spending(group_sequential_bounds(LOOKS)).get_lines()) == 1


def test_more_statistics_than_looks():
    with pytest.raises(CausalRecError, match="3 statistics and 2 looks"):
        plot_bounds(group_sequential_bounds([0.5, 1.0]), observed=[1.0, 2.0, 3.0])
