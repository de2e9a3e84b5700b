"""The steps of a shop's funnel: which events they are."""

from __future__ import annotations

from collections.abc import Sequence

from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.journeys._sql import Log
from causalrec.journeys._tables import Tables

KNOWN_STEPS = (
    ("impression",), ("view", "page_view", "pageview"), ("click",), ("cart", "addtocart", "add_to_cart"),
    ("checkout", "begin_checkout"), ("purchase", "transaction", "order"),
)  # fmt: skip


def event_types(tables: Tables, log: Log, column: str) -> list[str]:
    """The types of events that a log has, sorted."""
    text = f"CAST({log.column(column)} AS STRING)"
    found = tables.collect(f"SELECT DISTINCT {text} AS kind FROM {log.events.sql} e WHERE {text} IS NOT NULL")
    return sorted(map(str, found["kind"]))


def known_steps(types: Sequence[str]) -> list[str]:
    """Those of a log's types of events that are steps of a shop's funnel by their names, in order.

    Examples
    --------
    >>> known_steps(["transaction", "view", "search", "addtocart"])
    ['view', 'addtocart', 'transaction']
    """
    return [kind for names in KNOWN_STEPS for kind in sorted(types) if kind.casefold() in names]


def label_sql(log: Log, event_type: str, variant: str | None) -> str:
    """A query of the types of events that a log has, by variant."""
    kind = f"CAST({log.column(event_type)} AS STRING)"
    return f"SELECT DISTINCT {kind} AS kind, {log.text(variant)} AS variant FROM {log.source}"


def number_sql(log: Log, label: str, labels: Sequence[str]) -> str:
    """The place of a label among others, from 1; null for none of them."""
    if len(labels) == 1:
        return "1"
    literal = log.events.dialect.literal
    cases = " ".join(f"WHEN {literal(each)} THEN {k}" for k, each in enumerate(labels, start=1))
    return f"CASE {label} {cases} END"


def step_sql(log: Log, column: str, steps: Sequence[str]) -> str:
    """The number of the step, from 1, that an event is; null for none."""
    return number_sql(log, f"CAST({log.column(column)} AS STRING)", steps)


def later_steps(n_steps: int) -> list[dict[str, object]]:
    """The parameters of a SQL file's repetitions: each step ``k`` after the first, and the one before it, ``j``."""
    return [{"k": k, "j": k - 1} for k in range(2, n_steps + 1)]


def chosen_steps(types: Sequence[str], column: str, steps: Sequence[str] | None) -> list[str]:
    """The steps that are named, or those that a log has by their names; see :func:`conversion_funnel` for errors."""
    if steps is None:
        found = known_steps(types)
        if len(found) < 2 and types:
            raise CausalRecError(
                f"events: {column!r} has the types {list_some(types)}; fewer than two are steps by their names. "
                "Name them: steps=[…], first to last."
            )
        return found if types else ["view", "purchase"]
    wanted = [steps] if isinstance(steps, str) else [str(step) for step in steps]
    if len(wanted) < 2 or len(set(wanted)) < len(wanted):
        raise CausalRecError(f"steps are {list_some(wanted)}; expected two or more, each once, first to last.")
    for step in wanted:
        if types and step not in types:
            raise ColumnError(
                f"events: no event is a {step!r}; {column!r} has the types {list_some(types)}.{nearest(step, types)}"
            )
    return wanted
