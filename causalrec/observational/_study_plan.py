"""What a study goes by: the columns to adjust for, or the instrument or front door that a graph leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.observational._study_data import Route
from causalrec.observational._words import identify_plain
from causalrec.results import IdentificationResult

_BY_INSTRUMENT, _BY_FRONT_DOOR = "instrumental_variable", "front_door"
_ONLY = {"instrument": _BY_INSTRUMENT, "front_door": _BY_FRONT_DOOR}


@dataclass(frozen=True, eq=False)
class StudyPlan:
    """The columns of a study, and what may be estimated.

    Attributes
    ----------
    covariates : tuple of column names
        What the study's way needs held fixed: an adjustment set, or what goes with an instrument or mediators.
    only, why_only : str
        As for :class:`StudyData`.
    """

    treatment: str
    outcome: str
    covariates: tuple[Any, ...]
    graph: Any = None
    instruments: tuple[Any, ...] = ()
    observed: tuple[Any, ...] = ()
    only: str = ""
    why_only: str = ""
    ways: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = field(default_factory=dict)

    @property
    def columns(self) -> list[Any]:
        """All that the frame must give."""
        return [*self.covariates, *(c for through, given in self.ways.values() for c in (*through, *given))]

    def routes(self, table: pd.DataFrame) -> dict[str, Route]:
        """The ways beside adjustment, with their columns."""
        return {
            name: Route(table[list(through)], table[list(given)] if given else None)
            for name, (through, given) in self.ways.items()
        }

    def identify(self, covariates: Sequence[str] | None, estimand: str) -> IdentificationResult:
        """What the effect is identified by; see :meth:`ObservationalStudy.identify`."""
        if self.graph is None and not self.instruments and covariates is None:
            return identify_plain(self.treatment, self.outcome, [str(c) for c in self.covariates], estimand)
        from causalrec.observational.dowhy_adapter import identify

        known = [str(c) for c in (self.covariates if self.graph is None else self.observed)]
        return identify(
            self.treatment, self.outcome, covariates=known, graph=self.graph, estimand=estimand,
            given=covariates if isinstance(covariates, str) or covariates is None else [str(c) for c in covariates],
            instruments=[str(z) for z in self.instruments],
        )  # fmt: skip


def plan_study(
    treatment: str,
    outcome: str,
    columns: Sequence[Any],
    *,
    covariates: Sequence[Any] = (),
    graph: Any = None,
    instruments: Sequence[Any] = (),
) -> StudyPlan:
    """What to take of a frame. DoWhy is asked only where there is a graph.

    Raises
    ------
    CausalRecError
        Of a graph, as :func:`causalrec.observational.dowhy_adapter.identify` has it.
    """
    for name, given in (("covariates", covariates), ("instruments", instruments)):
        if isinstance(given, str):
            raise ColumnError(f"{name} is the text {given!r}; expected a list of columns: [{given!r}].")
    if graph is not None and (len(covariates) or len(instruments)):
        named = "covariates" if len(covariates) else "instruments"
        raise CausalRecError(f"pass {named} or a graph, not both: the graph says what to adjust for, and by what.")
    covariates, instruments = tuple(covariates), tuple(instruments)
    if graph is not None:
        return _by_graph(treatment, outcome, columns, graph)
    plan = StudyPlan(treatment, outcome, covariates, instruments=instruments)
    if not instruments:
        return plan
    why = (
        f"instruments are given ({list_some(instruments)}), so that something unobserved is taken to cause both "
        "treatment and outcome. Use instrumental_variable, or a study without instruments."
    )
    return StudyPlan(
        treatment, outcome, covariates, instruments=instruments, only=_BY_INSTRUMENT, why_only=why,
        ways={_BY_INSTRUMENT: (instruments, covariates)},
    )  # fmt: skip


def _by_graph(treatment: str, outcome: str, columns: Sequence[Any], graph: Any) -> StudyPlan:
    from causalrec.observational.dowhy_adapter import identify, read_graph

    graph, names = read_graph(graph), {str(c): c for c in columns}
    found = identify(treatment, outcome, covariates=list(names), graph=graph)

    def of(nodes: Sequence[str]) -> tuple[Any, ...]:
        return tuple(names[node] for node in nodes)

    ways = {
        _BY_INSTRUMENT: (of(found.instruments), of(found.instrument_covariates)),
        _BY_FRONT_DOOR: (of(found.mediators), of(found.mediator_covariates)),
    }
    ways = {name: way for name, way in ways.items() if way[0]}
    only = _ONLY.get(found.strategy, "")
    why = (
        ""
        if not only
        else (
            f"by the graph no set of columns suffices: {list_some(found.unobserved)} are unobserved. What is left is "
            f"{' or '.join(f'{name} (by {list_some(way[0])})' for name, way in ways.items())}."
        )
    )
    return StudyPlan(
        treatment, outcome, ways[only][1] if only else of(found.backdoor_variables), graph=graph,
        observed=tuple(columns), only=only, why_only=why, ways=ways,
    )  # fmt: skip
