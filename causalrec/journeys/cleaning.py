"""Take away the events of a log that named options say, and count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from causalrec._typing import IntArray
from causalrec._validation import nearest
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError, ColumnError, TimeError, TreatmentError
from causalrec.journeys._quality_plan import Asked, asked_of
from causalrec.journeys._sql import fill_sql
from causalrec.journeys._tables import ROW, open_tables
from causalrec.journeys.quality import check_quality
from causalrec.results.quality import CleaningResult, QualityResult

Handling = Literal["keep", "drop", "error"]
OPTIONS = ("nulls", "skew", "duplicates", "several_variants", "bots")  # in the order in which they drop

_NEVER = 2**62


def clean(
    events: Any,
    *,
    nulls: Handling = "keep",
    skew: Handling = "keep",
    duplicates: Handling = "keep",
    several_variants: Handling = "keep",
    bots: Handling = "keep",
    engine: Engine | None = None,
    **columns: Any,
) -> tuple[Any, CleaningResult]:
    """The events without those that the options drop, and how many each dropped.

    Parameters
    ----------
    events : table
        As of :func:`check_quality`.
    nulls, skew, duplicates, several_variants, bots : "keep", "drop" or "error"
        What to do with events without a key; at an impossible time (not late ones, nor those out of order); equal to
        another, of which one stays; of users in several variants, all of which go; and of users that seem to be bots.
    engine : Engine, optional
    **columns
        As of :func:`check_quality`.

    Returns
    -------
    events : table
        pandas or Polars as given, with the rows in their order; a Spark DataFrame on Spark; else pandas.
    CleaningResult
        An event that breaks several rules counts for the first, in the order of :data:`OPTIONS`.

    Raises
    ------
    ColumnError, TimeError, TreatmentError, CausalRecError
        As of :func:`check_quality`; and where something was found whose option is ``"error"``.

    Examples
    --------
    >>> log = pd.DataFrame({"user_id": ["a", "a", "b", None], "event_time": pd.to_datetime(["2025-01-01"] * 4)})
    >>> events, dropped = clean(log, nulls="drop", duplicates="drop")
    >>> print(dropped)
    kept 2 of 4 events; dropped 1 by nulls, 1 by duplicates
    """
    handling = _check_handling(
        nulls=nulls, skew=skew, duplicates=duplicates, several_variants=several_variants, bots=bots
    )
    _check_columns_given(columns)
    quality = check_quality(events, engine=engine, **{**columns, "steps": ()})
    _refuse(quality, handling)
    with open_tables({"events": events}, engine=engine, numbered=True) as tables:
        asked = asked_of(tables, **{k: v for k, v in columns.items() if k not in ("steps", "per_day", "per_minute")})
        sql = _clean_sql(asked, quality, handling)
        table = tables["events"]
        rules = tuple(option for option in OPTIONS if handling[option] == "drop")
        if table.numbered:
            gone = tables.collect(f"SELECT {ROW} AS place, __dropped_by FROM ({sql}) x WHERE __dropped_by <> ''")
            counts = gone["__dropped_by"].value_counts()
            kept = _without(table.held, gone["place"].to_numpy(dtype=np.int64))
        else:
            counted = tables.collect(f"SELECT __dropped_by, COUNT(*) AS n FROM ({sql}) x GROUP BY __dropped_by")
            counts = counted.set_index("__dropped_by")["n"]
            names = ", ".join(map(table.column, table.kinds))
            kept = tables.frame(f"SELECT {names} FROM ({sql}) x WHERE __dropped_by = ''")
    dropped = np.array([int(counts.get(rule, 0)) for rule in rules], dtype=np.int64)
    return kept, CleaningResult(quality.n_obs, quality.n_obs - int(dropped.sum()), rules, dropped)


def _clean_sql(asked: Asked, quality: QualityResult, handling: Mapping[str, str]) -> str:
    values = asked.values()
    drops = {option: handling[option] == "drop" for option in OPTIONS}
    place = ROW if asked.log.events.numbered else values["row_hash"]
    same = f"{values['user']}, {values['at']}, {values['row_hash']}"
    nobody = (
        f"SELECT {values['user']} AS user_id, 0 AS several, 0 AS busiest_day, 0 AS busiest_minute "
        f"FROM {values['events']} WHERE 1 = 0"
    )
    of_users = fill_sql("quality_users", values)
    return fill_sql("clean", {
        **values, "of_users": of_users if drops["several_variants"] or drops["bots"] else nobody,
        "copy": f"ROW_NUMBER() OVER (PARTITION BY {same} ORDER BY {place})" if drops["duplicates"] else "1",
        "nulls": str(asked.bits("nulls") if drops["nulls"] else 0),
        "skew": str(asked.bits("skew") if drops["skew"] else 0),
        "copies": "1", "several": "1" if drops["several_variants"] else "-1",
        "per_day": str(quality.per_day_limit if drops["bots"] else _NEVER),
        "per_minute": str(quality.per_minute_limit if drops["bots"] else _NEVER),
    })  # fmt: skip


def _without(held: Any, places: IntArray) -> Any:
    """A frame in memory without some of its rows."""
    if isinstance(held, pd.DataFrame):
        keep = np.ones(len(held), dtype=bool)
        keep[places] = False
        return held[keep]
    keep = np.ones(held.num_rows if hasattr(held, "num_rows") else len(held), dtype=bool)
    keep[places] = False
    return held.filter(keep)


def _check_handling(**handling: str) -> dict[str, str]:
    for option, how in handling.items():
        if how not in ("keep", "drop", "error"):
            raise CausalRecError(f"{option} is {how!r}; expected 'keep', 'drop' or 'error'.")
    return handling


def _check_columns_given(columns: Mapping[str, Any]) -> None:
    known = list(check_quality.__kwdefaults__ or {})
    for name in columns:
        if name not in known:
            raise CausalRecError(f"clean has no option {name!r}.{nearest(name, [*OPTIONS, *known])}")


def _refuse(quality: QualityResult, handling: Mapping[str, str]) -> None:
    """Raise where something was found that must not be there."""
    kinds: dict[str, type[CausalRecError]] = {
        "nulls": ColumnError, "skew": TimeError, "several_variants": TreatmentError
    }  # fmt: skip
    for option in OPTIONS:
        said = [text for text in quality.warnings() if text.endswith(f"option {option}")]
        if handling[option] == "error" and said:
            told = "; ".join(text.rpartition("; option")[0] for text in said)
            raise kinds.get(option, CausalRecError)(
                f"events: found {told}. Drop these events by {option}='drop', or keep them by {option}='keep'."
            )
