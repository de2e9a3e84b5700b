"""The figures of fitted learners show the numbers of their results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_boosting, plot_importances

from . import boosting_results as found


def test_curves_start_at_one_and_end_in_a_dot_at_the_chosen_size() -> None:
    result = found.boosting()
    ax = plot_boosting(result)
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 2 and line.get_linestyle() == "-"]
    assert len(lines) == 4  # of two points is the effect's
    assert all(line.get_ydata()[0] == 1.0 for line in lines)
    np.testing.assert_allclose(lines[0].get_ydata(), result.curve_validation[result.of_model(0)])
    dots = [(float(d.get_xdata()[0]), float(d.get_ydata()[0])) for d in ax.get_lines() if d.get_marker() == "o"]
    assert dots == [(t, pytest.approx(v)) for t, v in zip(result.trees, result.validation, strict=True)]
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["outcome, control", "outcome, treated", "effect"]
    assert "outcome, control: 9 to 12; outcome, treated: 15 to 20; effect: 0" in ax.get_label()


def test_a_scale_of_the_loss_changes_nothing() -> None:
    result = found.boosting()
    scaled = dataclasses.replace(
        result, curve_train=7 * result.curve_train, curve_validation=7 * result.curve_validation
    )
    for one, other in zip(plot_boosting(result).get_lines(), plot_boosting(scaled).get_lines(), strict=True):
        np.testing.assert_allclose(one.get_ydata(), other.get_ydata())


def test_without_curves_there_is_nothing_to_draw() -> None:
    result = found.boosting()
    none = {
        name: getattr(result, name)[:0] for name in ("curve_model", "curve_round", "curve_train", "curve_validation")
    }
    with pytest.raises(CausalRecError, match="none of the models has a boosting curve"):
        plot_boosting(dataclasses.replace(result, **none))


def test_importances_are_bars_the_largest_on_top() -> None:
    result = found.importances()
    ax = plot_importances(result)
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, result.importance[:3])  # the fourth is not used
    assert [bar.get_y() for bar in ax.patches] == sorted((bar.get_y() for bar in ax.patches), reverse=True)
    assert "covariate 0 62.5%" in ax.get_label()
    many = plot_importances(found.importances(40))
    assert len(many.patches) == 15
    assert "25 more covariates" in many.get_xlabel()


def test_importances_of_nothing_are_drawn() -> None:
    result = dataclasses.replace(found.importances(), n_used=0, importance=np.zeros(4))
    assert len(plot_importances(result).patches) == 4
    assert "no covariate is used" in str(result)


def test_texts_say_what_was_chosen() -> None:
    text = str(found.boosting())
    assert "outcome, control: 9 to 12 trees of depth 2 in 2 folds, which take 10.5% off the loss" in text
    assert "effect: no trees on top of its ridge regression" in text
    frame, curves = found.boosting().to_frame(), found.boosting().curves()
    assert frame["trees"].tolist() == found.TREES.tolist()
    assert curves.groupby(["model", "part"], sort=False).size().tolist() == [31, 31, 31, 31, 2]
