"""Figures of segments, policy trees and importances draw the numbers of their results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from causalrec.exceptions import CausalRecError
from causalrec.plots import (
    plot_permutation_importance,
    plot_policy_tree,
    plot_segment_map,
    plot_segments,
    plot_shap_importance,
)
from causalrec.plots.segments import COLOURS

from . import segment_results as found

LONG = "a covariate with a name that is much longer than any axis has room for, and then some"


def test_segments_with_their_effects_and_what_pays():
    result = found.segments()
    ax = plot_segments(result)
    points = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in points] == result.effect.tolist()
    assert [line.get_color() for line in points] == [COLOURS[name] for name in result.segment]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["everybody, 0.06", "pays, 0.02"]
    assert ax.texts[0].get_text() == "0.3, 120% of the lift"
    assert ax.get_yticklabels()[0].get_text() == "persuadables\n25.0% of people"
    assert "sleeping dogs: 25.0% of the people, effect -0.2 [-0.3, -0.1]" in ax.get_label()


def test_shares_that_are_not_known_and_lone_segments():
    result = found.segments(1, threshold=0.0)
    unknown = dataclasses.replace(result, lift_share_ci_low=np.array([-np.inf]))
    ax = plot_segments(unknown)
    assert ax.texts[0].get_text() == "0.3"
    assert len(ax.get_legend().get_texts()) == 1


def test_map_of_people():
    result = found.segments()
    ax = plot_segment_map(result)
    drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in ax.collections])
    np.testing.assert_allclose(drawn, np.column_stack([result.map_uplift, result.map_baseline]))
    assert [to_hex(dots.get_facecolor()[0]).upper() for dots in ax.collections] == [
        COLOURS[name] for name in result.segment
    ]
    straight = [line.get_xdata()[0] for line in ax.get_lines() if line.get_xdata()[0] == line.get_xdata()[1]]
    assert straight == [0, 0.1, -0.1]
    assert ax.get_legend().get_texts()[0].get_text() == "persuadables, 100"
    with pytest.raises(CausalRecError, match="baseline="):
        plot_segment_map(found.segments(mapped=False))


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_every_node_of_a_tree_is_there(depth):
    result = found.tree(depth)
    ax = plot_policy_tree(result)
    texts = [t.get_text() for t in ax.texts]
    assert sum(t == "x ≤ 1.5?" for t in texts) == 2**depth - 1
    assert sum("of people" in t for t in texts) == 2**depth
    assert texts.count("yes") == texts.count("no") == 2**depth - 1
    assert "value 0.2500 [0.2300, 0.2700]" in ax.get_label()
    if depth == 1:
        assert "e-mail\n50.0% of people\nbrings 0.046 [0.036, 0.056]" in texts
        assert "none\n50.0% of people\ntreating: -0.012 [-0.022, -0.002]" in texts


def test_a_tree_of_several_arms_names_the_one_that_it_compares():
    ax = plot_policy_tree(found.tree(2, arms=("none", "call", "letter")))
    assert any("\ncall: -0.012" in t.get_text() for t in ax.texts)
    colours = {t.get_bbox_patch().get_facecolor() for t in ax.texts if "of people" in t.get_text()}
    assert len(colours) == 3


def test_importances_have_bars_and_intervals():
    result = found.permutation()
    ax = plot_permutation_importance(result)
    assert [bar.get_width() for bar in ax.patches] == result.importance.tolist()
    assert [to_hex(bar.get_facecolor()).upper() for bar in ax.patches[1:]] == ["#0072B2", "#B8B8B8", "#B8B8B8"]
    ends = np.concatenate([np.asarray(c.get_segments()) for c in ax.collections])
    np.testing.assert_allclose(ends[:, 0, 0], result.ci_low)
    assert "covariate 0 0.4 [0.25, 0.55]" in ax.get_label()
    ax = plot_shap_importance(found.shap())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["rises with it", "falls with it", "neither"]
    assert sorted(bar.get_width() for bar in ax.patches)[::-1] == found.shap().importance.tolist()


@pytest.mark.parametrize(
    ("draw", "make"), [(plot_permutation_importance, found.permutation), (plot_shap_importance, found.shap)]
)
def test_many_long_names_and_none(draw, make):
    ax = draw(make(40, LONG))
    assert len(ax.patches) == 15
    assert max(len(t.get_text()) for t in ax.get_yticklabels()) <= 28
    empty = make(1)
    arrays = {
        f.name: getattr(empty, f.name)[:0] for f in dataclasses.fields(empty) if f.type in ("AnyArray", "FloatArray")
    }
    with pytest.raises(CausalRecError, match="nothing to draw"):
        draw(dataclasses.replace(empty, n_covariates=0, **arrays))
