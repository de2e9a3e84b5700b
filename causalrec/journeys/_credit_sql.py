"""SQL of credit: which touches precede a conversion, and what share of it each has by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from causalrec.engines.exact import literal_sql, literal_sums

ALL = "ORDER BY __k ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
WHOLE = ("first_touch", "last_touch")  # a touch has all of a conversion or nothing of it


@dataclass(frozen=True)
class Settings:
    """What rules need to know: lengths in microseconds, the window None for all time; first, middle and last share."""

    window: int | None
    half_life: int
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Weight:
    """A column of the conversions by which shares are multiplied: its largest size, and whether it is an integer."""

    column: str
    reach: float
    whole: bool


def pairs_sql(conversions: str, touches: str, n_order: int, settings: Settings) -> str:
    """A row per conversion and touch that precedes it within the window, numbered from the first to the last.

    ``conversions`` has __u, __t and whatever else, one row per user and time; ``touches`` has __u, __at, __channel and
    the columns __o0, __o1, … that break ties. Touches that tie in these too are of one channel.
    """
    within = "" if settings.window is None else f" AND t.__at >= c.__t - {settings.window}"
    ties = "".join(f", t.__o{i} ASC NULLS FIRST" for i in range(n_order))
    key = "PARTITION BY c.__u, c.__t"
    return (
        f"SELECT c.*, t.__channel, t.__at, row_number() OVER ({key} ORDER BY t.__at{ties}, t.__channel) AS __k, "
        f"COUNT(*) OVER ({key}) AS __m, MAX(t.__at) OVER ({key}) AS __latest "
        f"FROM {conversions} c JOIN {touches} t ON t.__u = c.__u AND t.__at < c.__t{within}"
    )


def shares_sql(pairs: str, rules: Sequence[str], settings: Settings) -> str:
    """The pairs with the share of each touch in its conversion, by rule, as columns __r0, __r1, …

    With m touches, k the place of one and a its age before the conversion:

    - first touch, last touch: 1 for k = 1, for k = m;
    - linear: 1/m;
    - position based (f, b, l): f for k = 1, l for k = m, b/(m - 2) for each between; of two touches the first has
      f/(f + l) (half where both are 0), and one alone has all;
    - time decay with half-life h: 2^(-a/h), divided by the sum of these over the touches. Ages are counted from the
      latest touch, which changes nothing and keeps the sum above 1 whatever the half-life.
    """
    by_age = f"POWER(2e0, CAST(__at - __latest AS DOUBLE) / {literal_sql(settings.half_life)})"
    columns = ", ".join(f"{share} AS __r{i}" for i, share in enumerate(_share(r, settings) for r in rules))
    return f"SELECT p.*, {columns} FROM (SELECT q.*, {by_age} AS __w FROM ({pairs}) q) p"


def _share(rule: str, settings: Settings) -> str:
    first, between, last = settings.position
    ends = first + last
    pair = 0.5 if ends == 0 else first / ends
    return {
        "first_touch": "CASE WHEN __k = 1 THEN 1e0 ELSE 0e0 END",
        "last_touch": "CASE WHEN __k = __m THEN 1e0 ELSE 0e0 END",
        "linear": "1e0 / __m",
        "position_based": (
            f"CASE WHEN __m = 1 THEN 1e0 "
            f"WHEN __m = 2 THEN CASE WHEN __k = 1 THEN {literal_sql(pair)} ELSE {literal_sql(1 - pair)} END "
            f"WHEN __k = 1 THEN {literal_sql(first)} "
            f"WHEN __k = __m THEN {literal_sql(last)} "
            f"ELSE {literal_sql(between)} / (__m - 2) END"
        ),
        "time_decay": f"__w / SUM(__w) OVER (PARTITION BY __u, __t {ALL})",
    }[rule]


def sums_sql(shares: str, by: str, weights: Sequence[Weight], rows: int, wholes: Sequence[bool]) -> str:
    """Sums of shares times weights by groups: columns ``<weight>_0``, ``<weight>_1``, … for each rule.

    No term is rounded to more than its last digits and no sum at all, so that no order of rows changes a bit. There are
    at most ``rows`` of them. ``wholes`` says of which rules the shares are 0 or 1.
    """
    columns = []
    for weight in weights:
        for i, whole in enumerate(wholes):
            parts = literal_sums(f"(__r{i} * {weight.column})", weight.reach, rows, whole=whole and weight.whole)
            columns.append(f"{' + '.join(parts) or 'SUM(0e0)'} AS {weight.column}_{i}")
    return f"SELECT {by}, {', '.join(columns)} FROM ({shares}) s GROUP BY {by}"
