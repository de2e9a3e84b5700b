"""The quality of a run's event log: counted before anything is learned from it, cleaned where the config says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalrec.config import RunConfig
from causalrec.engines import Engine
from causalrec.journeys.cleaning import OPTIONS, clean
from causalrec.journeys.quality import check_quality
from causalrec.report import Section
from causalrec.results import CleaningResult, QualityResult, Result

QUALITY, CLEANING = "quality", "cleaning"


def examine_log(config: RunConfig, engine: Engine) -> tuple[dict[str, Result], list[str]]:
    """What is wrong with the event log, and what to say of it; the engine's table is replaced where rows are dropped.

    Empty without a log, and where ``quality.enabled`` is false.

    Raises
    ------
    CausalRecError
        One of its children, for what the config does not accept.
    """
    events, settings = config.events, config.quality
    if events is None or not settings.enabled:
        return {}, []
    known = engine.columns(events.table)
    columns: dict[str, Any] = {
        "user": events.user, "event_time": events.time,
        "item": events.item if events.item in known else None,
        "event_type": events.event_type if events.event_type in known else None,
        "arrival": settings.arrival, "registered": settings.registered, "variant": settings.variant,
        "steps": settings.steps, "now": settings.now, "per_day": settings.per_day, "per_minute": settings.per_minute,
    }  # fmt: skip
    found = check_quality(events.table, engine=engine, **columns)
    results: dict[str, Result] = {QUALITY: found}
    notes = [f"events: {text}" for text in found.warnings() if not text.endswith("option nulls")]
    handling = {option: getattr(settings, option) for option in OPTIONS}
    if any(how != "keep" for how in handling.values()):
        kept, dropped = clean(events.table, engine=engine, **handling, **columns)
        results[CLEANING] = dropped
        notes.append(f"events: {dropped}")
        if dropped.n_kept < dropped.n_obs:
            engine.register(events.table, kept)
    return results, notes


def quality_section(results: Mapping[str, Result]) -> Section | None:
    """What the page says of the log."""
    found = results.get(QUALITY)
    if not isinstance(found, QualityResult):
        return None
    first, *others = str(found).splitlines()
    text = [first, *(line.strip() for line in others), f"Compared with: {found.rules}."]
    dropped = results.get(CLEANING)
    if isinstance(dropped, CleaningResult):
        text.append(f"Cleaned before anything else: {dropped}.")
    return Section("Event log", tuple(text), (), {"Checks": found.to_frame()}, folded=("Checks",))
