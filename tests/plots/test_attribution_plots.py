"""Attribution as pictures and in words: the numbers of the result, in its order."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.plots import plot_attribution, plot_credit

from .attribution_results import attributed, credited

NAN = float("nan")


def marks(ax) -> dict[str, list[float]]:
    return {line.get_label(): line.get_xdata().tolist() for line in ax.get_lines() if line.get_marker() != "None"}


def rows(ax) -> list[str]:
    return [t.get_text() for t in ax.get_yticklabels()]


def test_credit_by_rule_with_the_most_at_the_top_and_none_last() -> None:
    ax = plot_credit(credited())
    assert rows(ax) == ["search", "e-mail", "(none)"]
    assert marks(ax)["last touch"] == [60, 20, 20]
    assert ax.get_xlabel() == "conversions credited, of 100"
    assert "search: first touch 50, last touch 60, linear 55" in ax.get_label()
    without = plot_credit(credited(credit=np.array([[30.0] * 3, [70.0] * 3, [0.0] * 3])))
    assert rows(without) == ["search", "e-mail"]


def test_what_was_caused_with_its_interval_the_truth_and_the_rules() -> None:
    ax = plot_attribution(attributed())
    assert rows(ax) == ["search", "e-mail"]
    found = marks(ax)
    assert found["caused, 95% interval"] == [40, 5]
    assert found["plain difference"] == [45, 60]
    assert found["first touch"] == [10, 70]
    ends = [s[:, 0].tolist() for c in ax.collections for s in c.get_segments()]
    assert [30.0, 50.0] in ends
    assert [-3.0, 13.0] in ends
    assert [35.0, 35.0] in ends  # the truth
    assert "search: caused 40 [30, 50], truth 35, first touch 10, last touch 60, linear 35" in ax.get_label()


def test_an_effect_that_is_not_known_leaves_its_row_to_the_rules() -> None:
    gone = {name: np.array([NAN, 40.0]) for name in ("incremental", "std_error", "ci_low", "ci_high")}
    ax = plot_attribution(attributed(**gone, truth=None, failures=("e-mail: one arm",)))
    assert rows(ax) == ["search", "e-mail"]
    assert "truth" not in ax.get_label()
    ax.figure.canvas.draw()


def test_how_far_rules_are_from_what_was_caused() -> None:
    found = attributed()
    assert found.gap.tolist() == [[65.0, 15.0, 40.0], [-30.0, 20.0, -5.0]]
    assert found.distance.tolist() == [95.0, 35.0, 45.0]
    assert found.outside.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    # of 45 caused search has 8/9; by the rules it has 1/8, 6/8 and 35/80
    assert found.misplaced == pytest.approx([8 / 9 - 1 / 8, 8 / 9 - 6 / 8, 8 / 9 - 35 / 80])
    text = str(found)
    assert "Rules give these channels 80.0; they caused 45.0." in text
    assert "last touch 14% (2 of 2), linear 45% (1 of 2), first touch 76% (2 of 2)" in text
    assert "by touches from 2025-03-01 to 2025-03-08" in text
    assert "no unmeasured targeting" in text


def test_a_channel_that_harms_caused_nothing_where_shares_are_asked() -> None:
    found = attributed(incremental=np.array([-20.0, 40.0]))
    assert found.misplaced == pytest.approx([1 - 1 / 8, 1 - 6 / 8, 1 - 35 / 80])
    assert np.isnan(attributed(incremental=np.array([-2.0, -1.0])).misplaced).all()
