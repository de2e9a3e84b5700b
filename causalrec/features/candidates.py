"""From an event log to ranking queries: what could be shown to whom at a time, and what they then did.

Candidates come from events strictly before the cutoff: items that sold or were used most recently and ever, and the
user's own last items. Relevance is the best grade among the user's events with the item in ``[cutoff, cutoff + h)``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from causalrec.engines import Engine
from causalrec.exceptions import EmptyTableError
from causalrec.features.spec import parse_window

GRADES: Mapping[str, int] = {"view": 1, "click": 1, "cart": 2, "purchase": 3}


@dataclass(frozen=True)
class CandidateSpec:
    """How candidates are drawn; windows as ``"28d"``, ``max_queries`` users per cutoff by a hash of their id."""

    horizon: str = "7d"
    recent_window: str = "28d"
    n_recent: int = 60
    n_all_time: int = 20
    n_history: int = 20
    max_queries: int = 3000
    grades: Mapping[str, int] = field(default_factory=lambda: dict(GRADES))


@dataclass(frozen=True)
class Candidates:
    """What could be shown, and what cannot be judged.

    Attributes
    ----------
    rows : frame
        query (cutoff and user as text), the user and item columns, ``event_time`` (the cutoff), relevance.
    missed : frame
        query, grade: relevant items that were not among the candidates.
    users : frame
        event_time, n_active, n_silent: users with events before the cutoff, and something or nothing relevant after
        it. The silent ones make no query.
    """

    rows: pd.DataFrame = field(repr=False)
    missed: pd.DataFrame = field(repr=False)
    users: pd.DataFrame = field(repr=False)


def build_candidates(
    engine: Engine,
    events: str,
    cutoffs: Sequence[pd.Timestamp],
    spec: CandidateSpec,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str = "event_time",
    event_type: str = "event_type",
) -> Candidates:
    """Ranking queries at each cutoff, one per user with an event before it and a relevant one after.

    Raises
    ------
    EmptyTableError
        When a cutoff has no such user.
    """
    found = [_at_cutoff(engine, events, pd.Timestamp(c), spec, user, item, time, event_type) for c in cutoffs]
    rows, missed, counts = zip(*found, strict=True)
    users = pd.DataFrame(counts, columns=["event_time", "n_active", "n_silent"])
    return Candidates(pd.concat(rows, ignore_index=True), pd.concat(missed, ignore_index=True), users)


def _at_cutoff(
    engine: Engine, events: str, cutoff: pd.Timestamp, spec: CandidateSpec, user: str, item: str, time: str, kind: str
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[pd.Timestamp, int, int]]:
    q = engine.dialect.quote
    now = int(cutoff.value // 1000)  # .value is in nanoseconds whatever the unit
    grade = " ".join(f"WHEN {engine.dialect.literal(k)} THEN {g}" for k, g in spec.grades.items())
    log = (
        f"SELECT {q(user)} AS u, {q(item)} AS i, {engine.dialect.epoch_us(q(time))} AS t, "
        f"CASE CAST({q(kind)} AS VARCHAR(64)) {grade} ELSE 0 END AS g FROM {q(events)} "
        f"WHERE {q(user)} IS NOT NULL AND {q(item)} IS NOT NULL"
    )
    before = f"{log} AND {engine.dialect.epoch_us(q(time))} < {now}"
    recent = now - parse_window(spec.recent_window)
    later = now + parse_window(spec.horizon)
    view = f"before_{uuid.uuid4().hex[:8]}"
    engine.create_view(view, before)
    try:
        after = engine.collect(
            f"SELECT a.u, a.i, MAX(a.g) AS relevance FROM ({log}) a "
            f"JOIN (SELECT DISTINCT u FROM {view}) s ON a.u = s.u "
            f"WHERE a.t >= {now} AND a.t < {later} AND a.g > 0 GROUP BY a.u, a.i"
        )
        active = after["u"].drop_duplicates()
        known = int(engine.collect(f"SELECT COUNT(DISTINCT u) AS n FROM {view}")["n"].iloc[0])
        users = _sample(active, spec.max_queries)
        if users.empty:
            raise EmptyTableError(
                f"no user with events before {cutoff:%Y-%m-%d} has a relevant event in the {spec.horizon} after it; "
                f"{_span(engine, events, time)}. Cutoffs go back from its end, a ranker.horizon each: take a shorter "
                "one or fewer ranker.train_cutoffs if the log is short, a longer horizon if events are rare, and look "
                "for dates that are wrong."
            )
        top = [
            engine.collect(
                f"SELECT i FROM {view} WHERE g > 0 AND t >= {since} GROUP BY i ORDER BY SUM(g) DESC, i LIMIT {n}"
            )
            for since, n in ((recent, spec.n_recent), (-(2**62), spec.n_all_time))
        ]
        own = engine.collect(
            f"SELECT u, i FROM (SELECT u, i, row_number() OVER (PARTITION BY u ORDER BY MAX(t) DESC, i) AS r "
            f"FROM {view} WHERE g > 0 GROUP BY u, i) ranked WHERE r <= {spec.n_history}"
        )
    finally:
        engine.drop(view)
    after = after[after["u"].isin(users)]
    shared = pd.concat(top)[["i"]].drop_duplicates()
    pairs = pd.concat([users.to_frame("u").merge(shared, how="cross"), own[own["u"].isin(users)]]).drop_duplicates()
    found = pairs.merge(after, on=["u", "i"], how="outer", indicator=True)
    found["query"] = f"{cutoff:%Y-%m-%dT%H:%M} " + found["u"].astype(str)
    inside = found["_merge"] != "right_only"
    rows = found[inside].sort_values(["u", "i"]).reset_index(drop=True)
    candidates = pd.DataFrame({
        "query": rows["query"], user: rows["u"], item: rows["i"], "event_time": cutoff.as_unit("us"),
        "relevance": rows["relevance"].fillna(0).astype("int64"),
    })  # fmt: skip
    lost = found.loc[~inside, ["query", "relevance"]].rename(columns={"relevance": "grade"})
    return candidates, lost, (cutoff.as_unit("us"), len(active), known - len(active))


def _span(engine: Engine, events: str, time: str) -> str:
    q = engine.dialect.quote
    found = engine.collect(f"SELECT MIN({q(time)}) AS first, MAX({q(time)}) AS last FROM {q(events)}").iloc[0]
    return f"the log goes from {found['first']:%Y-%m-%d} to {found['last']:%Y-%m-%d}"


def _sample(users: pd.Series, limit: int) -> pd.Series:
    """At most ``limit`` users, chosen by a hash of the id, in the order of the ids."""
    order = pd.util.hash_pandas_object(users.astype(str), index=False).to_numpy().argsort(kind="stable")
    return users.iloc[order[:limit]].sort_values().reset_index(drop=True)
