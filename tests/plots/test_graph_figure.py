"""The figure of a graph: causes left of effects, no label over another, every arrow and what a node is good for."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_graph
from causalrec.plots._layers import layered

from .graph_results import identified


def boxes(ax: Any) -> dict[str, Any]:
    """The box and text of each label; the figure is laid out."""
    ax.figure.savefig(io.BytesIO(), format="png")
    shapes = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    return {t.get_text(): (p, t) for p, t in zip(shapes, ax.texts, strict=True)}


def arrows(ax: Any) -> list[Any]:
    return [p for p in ax.patches if isinstance(p, FancyArrowPatch)]


def test_nodes_show_what_they_are_good_for_and_arrows_what_carries_the_effect() -> None:
    ax = plot_graph(identified())
    found = boxes(ax)
    assert set(found) == {"age", "mail", "clicks", "spend", "lottery", "taste"}
    colour = {name: box.get_edgecolor() for name, (box, _) in found.items()}
    assert colour["mail"] == colour["spend"]
    assert len(set(colour.values())) == 5
    assert [name for name, (box, _) in found.items() if box.get_linestyle() == "--"] == ["taste"]
    assert len(arrows(ax)) == 7
    assert sum(a.get_linewidth() > 1 for a in arrows(ax)) == 2  # mail → clicks → spend
    assert sum(a.get_linestyle() == "--" for a in arrows(ax)) == 2
    named = {t.get_text() for t in ax.get_legend().get_texts()}
    assert named == {"treatment and outcome", "adjusted for", "instrument", "not to be adjusted for", "unobserved"}
    assert "Adjusted for: 'age'. Not to be adjusted for: 'clicks', 'lottery'. Unobserved: 'taste'" in ax.get_label()


def test_an_instrument_and_a_front_door_are_marked_as_the_way_taken() -> None:
    ax = plot_graph(identified(strategy="instrument", instrument_covariates=("age",)))
    assert "'lottery' serves as instrument" in ax.get_label()
    ax = plot_graph(identified(strategy="front_door", mediators=("clicks",)))
    assert "front door" in {t.get_text() for t in ax.get_legend().get_texts()}


def random_edges(n: int, seed: int) -> tuple[tuple[str, str], ...]:
    rng = np.random.default_rng(seed)
    names = [f"variable number {i}" for i in range(n - 2)]
    names.insert(n // 2, "mail")
    names.append("spend")
    found = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if rng.random() < 2.5 / n]
    return (*found, ("mail", "spend"))


@pytest.mark.parametrize("n,seed", [(5, 0), (25, 1), (25, 2)])
def test_no_label_lies_over_another_and_causes_are_to_the_left(n: int, seed: int) -> None:
    edges = random_edges(n, seed)
    ax = plot_graph(identified(edges=edges, backdoor_variables=(), bad_controls=(), unobserved=(), instruments=()))
    found = boxes(ax)
    for a, b in edges:
        assert found[a][0].get_window_extent().x1 < found[b][0].get_window_extent().x0
    for box, text in found.values():
        inside, around = text.get_window_extent(), box.get_window_extent()
        picture = ax.get_window_extent()
        assert picture.x0 <= around.x0 <= inside.x0 < inside.x1 <= around.x1 <= picture.x1
    for (one, _), (other, _) in combinations(found.values(), 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent())


def test_many_columns_that_are_alike_share_a_box() -> None:
    names = tuple(f"x{i:02}" for i in range(50))
    edges = (*((x, y) for x in names for y in ("mail", "spend")), ("mail", "spend"))
    ax = plot_graph(identified(edges=edges, backdoor_variables=names, bad_controls=(), unobserved=(), instruments=()))
    assert set(boxes(ax)) == {"50 columns: x00, …", "mail", "spend"}
    assert len(arrows(ax)) == 3
    assert ax.get_label().startswith("The graph: mail → spend. 101 arrows.")


def test_the_layout_has_no_crossing_where_there_need_be_none() -> None:
    found = layered(["a", "b", "c", "d"], [("a", "d"), ("b", "c")])
    assert (found.height["a"] - found.height["b"]) * (found.height["d"] - found.height["c"]) > 0
    assert found.height["a"] == pytest.approx(found.height["d"])


def test_without_a_graph_there_is_nothing_to_draw() -> None:
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_graph(identified(edges=()))
