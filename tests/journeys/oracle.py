"""What sessions and stitched events must be, as loops over all pairs of rows: times are whole microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

Row = dict[str, Any]


def session_numbers(events: Sequence[Row], gap: int) -> list[int | None]:
    """For each event how many events of its user, at its time or before, come after a pause longer than the gap."""
    found: list[int | None] = []
    for event in events:
        if event["user_id"] is None or event["event_time"] is None:
            found.append(None)
            continue
        times = sorted({e["event_time"] for e in events if e["user_id"] == event["user_id"]
                        and e["event_time"] is not None and e["event_time"] <= event["event_time"]})  # fmt: skip
        found.append(1 + sum(b - a > gap for a, b in pairwise(times)))
    return found


def latest_before(
    later: Row, moment: int | None, earlier: Sequence[Row], by: Sequence[str], tolerance: int | None, strict: bool
) -> Row | None:
    """The latest of the earlier events of the same keys; of several at one time the last by all columns."""
    best: tuple[Any, Row] | None = None
    for event in earlier:
        then = event["event_time"]
        if moment is None or then is None or any(later[k] is None or event[k] != later[k] for k in by):
            continue
        if then > moment or (strict and then == moment) or (tolerance is not None and moment - then > tolerance):
            continue
        rank = (then, [(v is not None, v) for c, v in event.items() if c not in by and c != "event_time"])
        if best is None or rank > best[0]:
            best = (rank, event)
    return None if best is None else best[1]


def journeys(
    base: Sequence[Row], stages: Sequence[Sequence[Row]], by: Sequence[str], tolerance: int | None, strict: bool
) -> list[list[Row | None]]:
    """For each event of the base what each of the stages, the nearest first, gives it."""
    found = []
    for row in base:
        moment, chain = row["event_time"], []
        for stage in stages:
            event = latest_before(row, moment, stage, by, tolerance, strict)
            moment = moment if event is None else event["event_time"]
            chain.append(event)
        found.append(chain)
    return found
