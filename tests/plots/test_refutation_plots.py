"""The figure of refutations: a panel for each, with its draws, what is expected, and the estimate."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.plots import plot_refutations, plot_simulated_confounder

from .refutation_results import KINDS, made_up, refuted
from .test_figures import drawn


def test_panels_hold_the_draws_and_the_marks() -> None:
    result = refuted()
    ax = plot_refutations(result)
    panels = ax.child_axes
    assert len(panels) == len(KINDS)
    for panel, found in zip(panels[:4], result.results, strict=False):
        assert sum(patch.get_height() for patch in panel.patches) == 100
        assert [line.get_xdata()[0] for line in panel.get_lines()] == [found.expected, 1.0]
    control = panels[-1]
    marks = [np.ravel(line.get_xdata()).tolist() for line in control.get_lines()]
    assert marks == [[30.0], [0.0, 0.0]]  # on its own scale: the estimate is not there
    assert control.collections[0].get_segments()[0].tolist() == [[12.0, 0.5], [48.0, 0.5]]
    assert [p.get_title(loc="right") for p in panels] == ["passed, p = 0.5"] * 4 + ["FAILED, p = 0.001"]
    assert panels[-1].get_title(loc="left") == "no effect on before"
    assert "no effect on before: 30 where 0 is expected, FAILED, p = 0.001" in ax.get_label()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_panels_lie_apart(n: int) -> None:
    ax = plot_refutations(refuted(KINDS[:n]))
    assert drawn(ax)
    boxes = [panel.get_tightbbox() for panel in ax.child_axes]
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


def test_without_a_pvalue_there_is_no_test() -> None:
    ax = plot_refutations(refuted(("data_subset",), float("nan")))
    assert ax.child_axes[0].get_title(loc="right") == "no test"


def test_made_up_causes() -> None:
    ax = plot_simulated_confounder(made_up())
    points = [line for line in ax.get_lines() if line.get_marker() == "D"]
    assert [(p.get_xdata()[0], p.get_ydata()[0]) for p in points] == [(0.1, 0.1)]
    assert "takes it away" in ax.get_label()
    assert "1 benchmark beyond the picture" in ax.get_label()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["estimate 0"]
