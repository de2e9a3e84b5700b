"""What a causal graph says of an effect: adjustment sets, bad controls, instruments, front doors.

Imported only by the adapter of DoWhy, whose d-separation judges every set.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import networkx as nx

from causalrec._validation import list_some
from causalrec.observational._separation import colliders, minimal_separators, open_path, write_path

Separated: TypeAlias = Callable[[Any, Set[str], Set[str], Set[str]], bool]
_MOST_SETS = 10


@dataclass(frozen=True, eq=False)
class CausalGraph:
    """A graph, the effect asked for, and which nodes are columns.

    Attributes
    ----------
    graph : networkx.DiGraph
    treatment, outcome : str
    columns : set of str
        Observed nodes, treatment and outcome among them or not.
    separated : callable
        Whether two sets are d-separated by a third in a graph.
    """

    graph: Any
    treatment: str
    outcome: str
    columns: Set[str]
    separated: Separated

    @cached_property
    def observed(self) -> set[str]:
        """Columns of the graph, but for treatment and outcome."""
        return (set(self.graph) & set(self.columns)) - {self.treatment, self.outcome}

    @cached_property
    def caused(self) -> set[str]:
        """What the treatment causes."""
        return set(nx.descendants(self.graph, self.treatment))

    @cached_property
    def carriers(self) -> set[str]:
        """Mediators, observed or not."""
        return self.caused & set(nx.ancestors(self.graph, self.outcome))

    @cached_property
    def forbidden(self) -> set[str]:
        """Mediators and the outcome, and what these cause: given it, part of the effect is."""
        of = self.carriers | {self.outcome}
        return of.union(*(nx.descendants(self.graph, node) for node in of))

    @cached_property
    def causes(self) -> set[str]:
        """Observed causes of treatment or outcome that the treatment does not cause."""
        return (self._either & self.observed) - self.caused

    @cached_property
    def _either(self) -> set[str]:
        return set(nx.ancestors(self.graph, self.treatment) | nx.ancestors(self.graph, self.outcome))

    @cached_property
    def without_effect(self) -> Any:
        """The graph without the arrows by which the effect starts."""
        return self.without([(self.treatment, v) for v in self.carriers | {self.outcome}])

    @cached_property
    def without_arrows_out(self) -> Any:
        """The graph without all arrows out of the treatment."""
        return self.without_causes_of({self.treatment})

    def without(self, edges: Any) -> Any:
        """The graph without some arrows."""
        found = self.graph.copy()
        found.remove_edges_from(list(edges))
        return found

    def without_causes_of(self, nodes: Set[str]) -> Any:
        """The graph without the arrows out of some nodes."""
        return self.without(self.graph.out_edges(nodes))

    def valid(self, given: Set[str]) -> bool:
        """Whether a set meets the adjustment criterion (Shpitser, VanderWeele and Robins 2010, UAI, definition 4).

        It holds no forbidden node, and closes all paths but those of the effect. Sound and complete.
        """
        ends = {self.treatment}, {self.outcome}
        return not set(given) & self.forbidden and self.separated(self.without_effect, *ends, given)

    # --- adjustment --------------------------------------------------------------------------------------------------

    @cached_property
    def adjustment(self) -> tuple[str, ...] | None:
        """The largest set to adjust for, without instruments; None where no set suffices.

        The observed causes of treatment or outcome that the treatment does not cause: where any set suffices, this one
        does (van der Zander, Liśkiewicz and Textor 2019, Artificial Intelligence 270, theorem 4).
        """
        if not self.valid(self.causes):
            return None
        return tuple(sorted(self.causes - set(self.only_of_treatment)))

    @cached_property
    def only_of_treatment(self) -> tuple[str, ...]:
        """Causes that are tied to the outcome by the treatment alone, given the others: instruments.

        Left out one after the other, so that a cause of an instrument is one in its turn.
        """
        cut, left, found = self.without_arrows_out, set(self.causes), []
        again = True
        while again:
            again = False
            for node in sorted(left):
                rest = left - {node}
                if self.separated(cut, {node}, {self.outcome}, rest) and not self.separated(
                    cut, {node}, {self.treatment}, rest
                ):
                    found.append(node)
                    left, again = rest, True
        return tuple(found)

    @cached_property
    def minimal_sets(self) -> tuple[tuple[str, ...], ...]:
        """Sets that suffice and can spare none of theirs: the smallest first, ten at most."""
        found = minimal_separators(self.without_arrows_out, self.treatment, self.outcome, self.causes)
        return tuple(sorted((tuple(sorted(s)) for s in found), key=lambda s: (len(s), s))[:_MOST_SETS])

    # --- bad controls ------------------------------------------------------------------------------------------------

    def bad_controls(self) -> tuple[tuple[str, str], ...]:
        """Columns beside the adjustment set that must not be held fixed, or had better not, and why."""
        best = None if self.adjustment is None else set(self.adjustment)
        found = []
        for node in sorted(self.observed - (best or set())):
            why = self._part_of_effect(node)
            if not why and best is not None and not self.valid(best | {node}):
                why = f"collider: holding {node} fixed opens the path {self._written(self._open(best | {node}))}"
            if why or (why := self._costs(node)):
                found.append((node, why))
        return tuple(found)

    def judge(self, given: Set[str]) -> tuple[bool, tuple[tuple[str, str], ...], str]:
        """Whether a set suffices, which of it are bad and why, and a path that stays open without these."""
        bad = {node: self._part_of_effect(node) for node in sorted(given)}
        left = set(given) - self.forbidden
        closed: set[str] = set()  # by hand, to see what is behind a path that no bad control has opened
        while path := self._open(left | closed):
            met = colliders(self.without_effect, path)
            culprits = left.intersection(met).union(*(left & nx.descendants(self.graph, m) for m in met))
            between = set(path[1:-1]) - set(met) - closed
            if not culprits and (met or not between):
                break
            bad.update(
                {node: f"collider: holding {node} fixed opens the path {self._written(path)}" for node in culprits}
            )
            left -= culprits
            closed |= set() if culprits else between
        path = self._open(left)
        named = tuple((node, why or self._costs(node)) for node, why in bad.items() if why or self._costs(node))
        return self.valid(given), named, self._written(path)

    def _open(self, given: Set[str]) -> list[str]:
        return open_path(self.without_effect, self.treatment, self.outcome, given)

    def _part_of_effect(self, node: str) -> str:
        """Why a node is forbidden, if it is."""
        t, y = self.treatment, self.outcome
        if node not in self.forbidden:
            return ""
        if node in self.carriers:
            return f"mediator: {t} works on {y} through it, and holding it fixed takes that part of the effect away"
        if not nx.has_path(self.graph, y, node):
            by = sorted(m for m in self.carriers if nx.has_path(self.graph, m, node))
            return f"descendant of the mediator {by[0]}: holding it fixed takes part of the effect away"
        if nx.has_path(self.graph.subgraph(set(self.graph) - {y}), t, node):
            return f"collider: both {t} and {y} cause it, and holding it fixed ties them to each other"
        return f"descendant of the outcome: holding it fixed selects on {y}"

    def _written(self, path: list[str]) -> str:
        return write_path(self.without_effect, path)

    def _costs(self, node: str) -> str:
        """Why a node that does not bias had better be left out, if it had."""
        if node in self.caused:
            return f"descendant of the treatment: {self.treatment} causes it, and it can only cost precision"
        if node in self.only_of_treatment:
            return (
                f"instrument: tied to {self.outcome} by {self.treatment} alone, it inflates the error and amplifies "
                "the bias of whatever is unobserved"
            )
        return ""

    # --- other ways --------------------------------------------------------------------------------------------------

    @cached_property
    def instruments(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Instruments, and the covariates given which they are valid; nothing where there is none.

        A node that is tied to the treatment, but to the outcome only by it, given nodes that the treatment does not
        cause (Brito and Pearl 2002, UAI, "Generalized instrumental variables"; van der Zander, Textor and Liśkiewicz
        2015, IJCAI). Of the sets that serve, the smallest; of these, that of most instruments.
        """
        able = self.observed - self.caused
        sets = {self._given_for(node, able) for node in sorted(able)} - {None}
        if not sets:
            return (), ()
        found = [
            (tuple(z for z in sorted(able - s) if self._serves(z, s)), tuple(sorted(s))) for s in sets if s is not None
        ]
        return min(found, key=lambda pair: (len(pair[1]), -len(pair[0]), pair[1]))

    def _serves(self, node: str, given: Set[str]) -> bool:
        cut = self.without_arrows_out
        return self.separated(cut, {node}, {self.outcome}, given) and not self.separated(
            cut, {node}, {self.treatment}, given
        )

    def _given_for(self, node: str, able: Set[str]) -> frozenset[str] | None:
        """A smallest set given which a node is an instrument, of those that separate it from the outcome."""
        found = minimal_separators(self.without_arrows_out, self.outcome, node, able - {node})
        for given in sorted(found, key=lambda s: (len(s), sorted(s))):
            if self._serves(node, given):
                return given
        return None

    @cached_property
    def front_door(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Mediators that carry the whole effect, and the covariates given which that shows it; nothing without.

        Pearl 1995, Biometrika 82, section 3.3, and with covariates Fulcher et al. 2020, JRSS B 82. Without covariates a
        set is found where there is one; with them, all causes are tried, and those of treatment and mediators alone.
        """
        for given in self._front_door_covariates():
            found = self._mediators(given)
            if found:
                return tuple(sorted(self._fewest(found, given))), tuple(sorted(self._needed(found, given)))
        return (), ()

    def _front_door_covariates(self) -> list[Set[str]]:
        mediators = self.carriers & self.observed
        early = nx.ancestors(self.graph, self.treatment).union(*(nx.ancestors(self.graph, m) for m in mediators))
        return [set(), self.causes & early, self.causes]

    def _mediators(self, given: Set[str]) -> Set[str]:
        """The largest set that meets the criterion given covariates, or nothing.

        What is tied to the treatment by another path is left out, then, until nothing changes, what is tied to the
        outcome by another: fewer nodes never close such a path (as in Jeong, Tian and Bareinboim 2022, NeurIPS).
        """
        t, y = {self.treatment}, {self.outcome}
        cut = self.without_arrows_out
        found = {v for v in (self.observed & self.caused) - set(given) if self.separated(cut, t, {v}, given)}
        bad = found
        while found and bad:
            below = self.without_causes_of(found)
            bad = {v for v in found if not self.separated(below, {v}, y, set(given) | t)}
            found = found - bad
        return found if self._intercepts(found) else set()

    def _intercepts(self, nodes: Set[str]) -> bool:
        return not nx.has_path(self.graph.subgraph(set(self.graph) - set(nodes)), self.treatment, self.outcome)

    def is_front_door(self, nodes: Set[str], given: Set[str]) -> bool:
        """Whether mediators meet the front-door criterion given covariates."""
        t, y = {self.treatment}, {self.outcome}
        return (
            bool(nodes)
            and not set(given) & self.caused
            and self._intercepts(nodes)
            and self.separated(self.without_arrows_out, t, nodes, given)
            and self.separated(self.without_causes_of(nodes), nodes, y, set(given) | t)
        )

    def _fewest(self, nodes: Set[str], given: Set[str]) -> Set[str]:
        left = set(nodes)
        for node in [*sorted(left - self.carriers), *sorted(left & self.carriers)]:
            if self.is_front_door(left - {node}, given):
                left -= {node}
        return left

    def _needed(self, nodes: Set[str], given: Set[str]) -> Set[str]:
        """Covariates that the criterion cannot spare."""
        left, fewest = set(given), self._fewest(nodes, given)
        for node in sorted(left):
            if self.is_front_door(fewest, left - {node}):
                left -= {node}
        return left

    def why_not(self) -> tuple[str, str]:
        """What keeps every set from sufficing: the unobserved causes, and a path that they hold open."""
        hidden = sorted(self._either - set(self.columns) - {self.treatment, self.outcome})
        path = self._written(self._open(self.causes))
        return (
            f"no set of columns suffices to adjust for, by the graph: {list_some(hidden)} cause "
            f"{self.treatment!r} or {self.outcome!r} and are no columns.",
            f"The path {path} stays open.",
        )
