"""The figure of a causal graph: causes to the left of effects, and what each column is good for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from causalrec._validation import list_some, optional_import
from causalrec.exceptions import CausalRecError
from causalrec.plots._drawing import BLUE, GREEN, GREY, ORANGE, finish, new_axes, short
from causalrec.plots._layers import Edge, Layout, layered, neighbours, reached
from causalrec.results import IdentificationResult

_ENDS, _HELD, _INSTRUMENT, _CARRIES, _BAD, _HIDDEN, _REST = (
    "treatment and outcome", "adjusted for", "instrument", "front door", "not to be adjusted for", "unobserved",
    "other",
)  # fmt: skip
_STYLE: dict[str, tuple[str, str, str, str]] = {  # face, edge, text, line
    _ENDS: (BLUE, BLUE, "white", "-"),
    _HELD: ("#D9F0E7", GREEN, "black", "-"),
    _INSTRUMENT: ("#F6E3EE", "#CC79A7", "black", "-"),
    _CARRIES: ("#DDEFFA", "#56B4E9", "black", "-"),
    _BAD: ("#FBE6D8", ORANGE, "black", "-"),
    _HIDDEN: ("white", GREY, "#555555", "--"),
    _REST: ("white", GREY, "black", "-"),
}
_LETTER, _PAD, _BETWEEN, _ROW, _TALL = 0.08, 0.24, 0.62, 0.46, 0.29  # inches
_LONGEST, _ALIKE = 20, 6


def plot_graph(identification: IdentificationResult, *, ax: Any = None) -> Any:
    """The causal graph of an effect: what is adjusted for, what must not be, and what is unobserved.

    Columns that cause and are caused by the same, more than six of them, share a box.

    Raises
    ------
    CausalRecError
        For a result without a graph.
    """
    if not identification.edges:
        raise CausalRecError("there is nothing to draw: the identification has no edges. Use study.identify().")
    roles = _roles(identification)
    roles, edges, labels = _merged(roles, identification.edges)
    layout = layered(list(roles), edges)
    width = {node: _LETTER * len(labels[node]) + _PAD for node in roles}
    middle, total = _places(layout, width)
    used = [*layout.height.values(), *(h for passing in layout.passes.values() for h in passing)]
    centre, half = (min(used) + max(used)) / 2, max(1.1, (max(used) - min(used)) / 2 + 0.6)
    low, high = _ROW * (centre - half), _ROW * (centre + half)
    own = ax is None
    ax = new_axes(ax)
    if own:
        ax.figure.set_size_inches(max(ax.figure.get_figwidth(), total + 0.3), high - low + 1.0)
    room = ax.figure.get_figwidth() if own else ax.get_window_extent().width / ax.figure.dpi
    beside = max(0.0, (room - 0.3 - total) / 2)  # an inch is an inch, as far as there is room
    ax.set(xlim=(-beside, total + beside), ylim=(low, high), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    size = min(9.0, 9.0 * room / total)
    _draw_edges(ax, identification, layout, edges, middle, width)
    _draw_nodes(ax, layout, roles, labels, middle, width, size)
    return finish(
        ax, f"The graph: {short(identification.treatment)} → {short(identification.outcome)}", _words(identification)
    )  # fmt: skip


def _roles(found: IdentificationResult) -> dict[str, str]:
    """What each node is good for, in the order of the edges."""
    way: tuple[str, ...] = ()
    held = found.backdoor_variables
    if found.strategy == "instrument":
        way, held = found.instruments, found.instrument_covariates
    elif found.strategy == "front_door":
        way, held = found.mediators, found.mediator_covariates
    bad = {node: _INSTRUMENT if why.startswith("instrument") else _BAD for node, why in found.bad_controls}
    known = {
        **dict.fromkeys(found.unobserved, _HIDDEN),
        **bad,
        **dict.fromkeys(held, _HELD),
        **dict.fromkeys(way, _INSTRUMENT if found.strategy == "instrument" else _CARRIES),
        found.treatment: _ENDS,
        found.outcome: _ENDS,
    }
    nodes = dict.fromkeys([node for edge in found.edges for node in edge])
    return {node: known.get(node, _REST) for node in nodes}


def _merged(roles: Mapping[str, str], edges: Sequence[Edge]) -> tuple[dict[str, str], list[Edge], dict[str, str]]:
    """Nodes that are alike in all as one; the roles, edges and labels of what is left."""
    above, below = neighbours(list(roles), edges)
    alike: dict[Any, list[str]] = {}
    for node, role in roles.items():
        alike.setdefault((role, frozenset(above[node]), frozenset(below[node])), []).append(node)
    labels = {node: "hidden cause" if " ↔ " in node else short(node, _LONGEST) for node in roles}
    for group in alike.values():
        if len(group) > _ALIKE:
            first, *others = sorted(group)
            labels[first] = f"{len(group)} columns: {short(first, 16)}, …"
            for node in others:
                del labels[node]
    kept = {node: role for node, role in roles.items() if node in labels}
    return kept, [(a, b) for a, b in edges if a in labels and b in labels], labels


def _places(layout: Layout, width: Mapping[str, float]) -> tuple[list[float], float]:
    """The middle of each layer, and the width of all."""
    widest = [0.0] * (1 + max(layout.layer.values()))
    for node, k in layout.layer.items():
        widest[k] = max(widest[k], width[node])
    middle, x = [], 0.1
    for wide in widest:
        middle.append(x + wide / 2)
        x += wide + _BETWEEN
    return middle, x - _BETWEEN + 0.1


def _draw_edges(
    ax: Any,
    found: IdentificationResult,
    layout: Layout,
    edges: Sequence[Edge],
    middle: Sequence[float],
    width: Mapping[str, float],
) -> None:
    """Curves from the right of a cause to the left of an effect; those that carry the effect stand out."""
    patches = optional_import("matplotlib.patches", extra="plots")
    paths = optional_import("matplotlib.path", extra="plots")
    above, below = neighbours(list(width), edges)
    carries = reached(found.treatment, below) & reached(found.outcome, above)
    for a, b in edges:
        effect = a in carries and b in carries
        stops = [(middle[layout.layer[a]] + width[a] / 2, _ROW * layout.height[a])]
        stops += [(middle[k], _ROW * height) for k, height in enumerate(layout.passes[a, b], layout.layer[a] + 1)]
        stops.append((middle[layout.layer[b]] - width[b] / 2, _ROW * layout.height[b]))
        points, codes = [stops[0]], [paths.Path.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(stops):
            points += [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)]
            codes += [paths.Path.CURVE4] * 3
        ax.add_patch(
            patches.FancyArrowPatch(
                path=paths.Path(points, codes), arrowstyle="-|>", mutation_scale=10, shrinkA=0, shrinkB=0,
                color=BLUE if effect else GREY, linewidth=1.8 if effect else 0.9, zorder=2 if effect else 1,
                linestyle="--" if a in found.unobserved else "-",
            )
        )  # fmt: skip


def _draw_nodes(
    ax: Any,
    layout: Layout,
    roles: Mapping[str, str],
    labels: Mapping[str, str],
    middle: Sequence[float],
    width: Mapping[str, float],
    size: float,
) -> None:
    patches = optional_import("matplotlib.patches", extra="plots")
    for node, role in roles.items():
        face, edge, text, line = _STYLE[role]
        x, y = middle[layout.layer[node]], _ROW * layout.height[node]
        ax.add_patch(
            patches.FancyBboxPatch(
                (x - width[node] / 2 + 0.05, y - _TALL / 2), width[node] - 0.1, _TALL,
                boxstyle="round,pad=0,rounding_size=0.06", facecolor=face, edgecolor=edge, linestyle=line,
                linewidth=1.2, zorder=3,
            )
        )  # fmt: skip
        ax.text(x, y, labels[node], ha="center", va="center", color=text, fontsize=size, zorder=4)
    for role, (face, edge, _, _) in _STYLE.items():
        if role in roles.values():
            ax.plot([], [], "s", color=face, markeredgecolor=edge, markersize=8, label=role)


def _words(found: IdentificationResult) -> str:
    held = list_some(found.backdoor_variables, 20) or "nothing"
    said = {
        "instrument": f"Nothing suffices to adjust for; {list_some(found.instruments, 20)} serves as instrument.",
        "front_door": f"Nothing suffices to adjust for; {list_some(found.mediators, 20)} is a front door.",
    }.get(found.strategy, f"Adjusted for: {held}.")
    bad = list_some([node for node, _ in found.bad_controls], 20)
    hidden = list_some(found.unobserved, 20)
    arrows = f"{len(found.edges)} arrow{'s' * (len(found.edges) > 1)}"
    return (
        f"{arrows}. {said}{f' Not to be adjusted for: {bad}.' if bad else ''}"
        f"{f' Unobserved: {hidden}.' if hidden else ''}"
    )
