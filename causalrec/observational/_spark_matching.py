"""Nearest-neighbour matching on a score, with replacement, of a Spark DataFrame: by strata of the score, and exactly.

Units of one arm and score are alike in all that matters here, so that each score stands for its units by their number
and the sums of their outcomes. The range of the score is cut into strata, each of which is one task's. A stratum sees
the scores that lie next to it on either side, as many as a match may need; what its units hand to scores of other
strata (how often these serve) goes there in between. No row and no stratum comes to the driver.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import OverlapError
from causalrec.nuisance.scores import effect_result
from causalrec.nuisance.spark_tasks import Sums, add_sums, running
from causalrec.observational._nearest import ASKING, k_nearest
from causalrec.observational._spark_rows import Rows, number
from causalrec.results import AdjustedEffect

SCORES_PER_STRATUM = 200_000
_MOST_STRATA = 512
_ACCURACY = 10_000
_MORE = 128  # scores beyond those that must be seen, for ties that differ by rounding
_LOGIT = "ln(e / (1D - e))"

Halo: TypeAlias = dict[int, tuple["Scores", "Scores"]]  # by arm: what lies below a stratum, and above


class Scores(NamedTuple):
    """Distinct scores of an arm, rising, and of their units: the number, and sums of outcomes and their squares."""

    place: FloatArray
    n: FloatArray
    s: FloatArray
    q: FloatArray

    def part(self, rows: slice) -> Scores:
        """Some of them."""
        return Scores(*(column[rows] for column in self))


def _joined(parts: Sequence[Scores]) -> Scores:
    return Scores(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


_NONE = Scores(*(np.zeros(0) for _ in range(4)))


@dataclass(frozen=True)
class Asked:
    """What matching is asked for; ``caliper`` and ``slack`` (the rounding of distances) in units of the place."""

    estimand: str
    ratio: int
    caliper: float
    slack: float
    neighbours: int

    @property
    def seen(self) -> int:
        """Scores of an arm that a stratum must see on either side."""
        return max(self.ratio, self.neighbours + 1) + _MORE


@dataclass(frozen=True)
class Strata:
    """A frame of distinct scores with their stratum, kept by the executors, and facts of the place."""

    frame: Any
    deviation: float
    largest: float

    @property
    def slack(self) -> float:
        """As :func:`causalrec.observational._nearest.rounding`."""
        return 8 * float(np.finfo(np.float64).eps) * self.largest


def make_strata(rows: Rows, distance: str) -> Strata:
    """Distinct scores, their units and outcomes by arm, in strata of about equally many rows."""
    placed = rows.frame.selectExpr("t", "y", f"{'e' if distance == 'propensity' else _LOGIT} + 0D AS place")
    n_strata = int(np.clip(rows.n // SCORES_PER_STRATUM, 1, _MOST_STRATA))
    levels = ", ".join(number(level) for level in np.linspace(0, 1, n_strata + 1)[1:-1])
    cuts = f"percentile_approx(place, array({levels}), {_ACCURACY})" if levels else "CAST(array() AS ARRAY<DOUBLE>)"
    facts = placed.selectExpr("stddev_samp(place) AS sd", "MAX(abs(place)) AS largest", f"{cuts} AS cuts")
    row = facts.toArrow().to_pylist()[0]
    inner = ", ".join(number(cut) for cut in sorted(set(row["cuts"])))
    stratum = f"size(filter(array({inner}), c -> c <= place))" if inner else "0"
    y = f"(y - {number(rows.shift)})"
    sums = [
        f"SUM(IF(t = {code}, {value}, 0D)) AS {name}{code}"
        for code in (0, 1) for name, value in (("n", "1D"), ("s", y), ("q", f"{y} * {y}"))
    ]  # fmt: skip
    query = f"SELECT {stratum} AS stratum, place, {', '.join(sums)} FROM {{rows}} GROUP BY place"
    frame = placed.sparkSession.sql(query, rows=placed).repartition(n_strata, "stratum")
    return Strata(rows.keep(frame), float(row["sd"]), float(row["largest"]))


def _by_stratum(frame: Any, function: Callable[[int, Mapping[int, Scores]], Any]) -> dict[int, Any]:
    """What ``function(stratum, scores by arm)`` makes of every stratum."""

    def run(table: Any) -> Any:
        import pyarrow as pa

        place = table.column("place").to_numpy()
        order = np.argsort(place)
        arms = {}
        for code in (0, 1):
            columns = [table.column(f"{name}{code}").to_numpy()[order] for name in ("n", "s", "q")]
            there = columns[0] > 0
            arms[code] = Scores(place[order][there], *(column[there] for column in columns))
        stratum = int(table.column("stratum")[0].as_py())
        with threadpool_limits(limits=1):
            found = pickle.dumps(function(stratum, arms))
        return pa.table({"stratum": pa.array([stratum], pa.int32()), "found": pa.array([found], pa.binary())})

    with running(frame.sparkSession, "the matching failed"):
        found = frame.groupBy("stratum").applyInArrow(run, "stratum int, found binary").toArrow().to_pylist()
    return {row["stratum"]: pickle.loads(row["found"]) for row in sorted(found, key=lambda row: row["stratum"])}


def match_strata(strata: Strata, asked: Asked) -> Sums:
    """The sums that the effect and its error are made of, after three passes over the strata."""
    edges = _by_stratum(strata.frame, partial(_edges, asked.seen))
    halos = _halos(edges, asked.seen)
    handed = _by_stratum(strata.frame, partial(_outward, asked, halos))
    inbound = {arm: _merged([part[arm] for part in handed.values()]) for arm in (0, 1)}
    total: Sums = {}
    for part in _by_stratum(strata.frame, partial(_sums, asked, halos, inbound)).values():
        add_sums(total, part)
    return total


def _edges(seen: int, stratum: int, arms: Mapping[int, Scores]) -> dict[int, tuple[Scores, Scores]]:  # noqa: ARG001
    """The least and the greatest scores of each arm."""
    return {arm: (s.part(slice(0, seen)), s.part(slice(max(len(s.n) - seen, 0), None))) for arm, s in arms.items()}


def _halos(edges: Mapping[int, Mapping[int, tuple[Scores, Scores]]], seen: int) -> dict[int, Halo]:
    """For every stratum the nearest scores of each arm below and above it; from several strata where one has few."""
    names = sorted(edges)
    found: dict[int, Halo] = {name: {} for name in names}
    for arm in (0, 1):
        below = _NONE
        for name in names:
            found[name][arm] = (below, _NONE)
            both = _joined([below, edges[name][arm][1]])
            below = both.part(slice(max(len(both.n) - seen, 0), None))
        above = _NONE
        for name in reversed(names):
            found[name][arm] = (found[name][arm][0], above)
            above = _joined([edges[name][arm][0], above]).part(slice(0, seen))
    return found


class Sets(NamedTuple):
    """Matched sets of asking scores as slices of the serving scores: means of outcomes and of squares, and sizes."""

    start: IntArray
    stop: IntArray
    size: FloatArray
    mean: FloatArray
    square: FloatArray


def nearest_sets(asking: FloatArray, serving: Scores, k: int, caliper: float, slack: float, own: bool) -> Sets:
    """Every unit no farther than the k-th nearest, for each asking score; as :func:`line_sets` has it.

    For the k-th it is enough to have each score k times. ``own``: scores of the arm itself, of which a unit is one.
    """
    copies = np.minimum(serving.n, k).astype(np.int64)
    values = np.repeat(serving.place, copies)
    if not len(values) or not len(asking):
        nothing = np.zeros(len(asking))
        return Sets(nothing.astype(np.int64), nothing.astype(np.int64), nothing, nothing, nothing)
    middle = np.searchsorted(values, asking, side="left")
    middle = np.minimum(middle, len(values) - 1) if own else middle
    _, _, farthest = k_nearest(asking, values, middle, 0, len(values), k)
    reach = np.minimum(farthest, caliper) + slack
    start = np.searchsorted(serving.place, asking - reach, side="left")
    stop = np.maximum(np.searchsorted(serving.place, asking + reach, side="right"), start)
    n, s, q = (np.append(0.0, np.cumsum(column)) for column in (serving.n, serving.s, serving.q))
    size = n[stop] - n[start]
    safe = np.where(size > 0, size, 1.0)
    return Sets(start, stop, size, (s[stop] - s[start]) / safe, (q[stop] - q[start]) / safe)


def _around(arms: Mapping[int, Scores], halo: Halo, arm: int) -> tuple[Scores, slice]:
    """The scores of an arm in a stratum and next to it, and which are its own."""
    below, above = halo[arm]
    own = slice(len(below.n), len(below.n) + len(arms[arm].n))
    return _joined([below, arms[arm], above]), own


def _served(
    asked: Asked, halo: Halo, arms: Mapping[int, Scores], asking: int
) -> tuple[Sets, Scores, slice, FloatArray]:
    """The sets of a stratum's units of an arm, the scores they are slices of, and how often each of these serves.

    The last has shape (2, m): Σ 1/|J| and Σ 1/|J|², of each unit of a serving score.
    """
    serving, own = _around(arms, halo, 1 - asking)
    sets = nearest_sets(arms[asking].place, serving, asked.ratio, asked.caliper, asked.slack, own=False)
    times = np.zeros((2, len(serving.n) + 1))
    kept = sets.size > 0
    for power in (1, 2):
        amounts = arms[asking].n[kept] / sets.size[kept] ** power
        np.add.at(times[power - 1], sets.start[kept], amounts)
        np.add.at(times[power - 1], sets.stop[kept], -amounts)
    covering = np.zeros(len(serving.n) + 1)
    np.add.at(covering, sets.start[kept], 1.0)
    np.add.at(covering, sets.stop[kept], -1.0)
    # Rounding in the running sums must not make a user of a score that is in no set.
    return sets, serving, own, np.where(np.cumsum(covering) > 0.5, np.cumsum(times, axis=1), 0.0)[:, :-1]


def _outward(
    asked: Asked, halos: Mapping[int, Halo], stratum: int, arms: Mapping[int, Scores]
) -> dict[int, FloatArray]:
    """How often scores of other strata serve this one, by arm: rows of place, Σ 1/|J| and Σ 1/|J|²."""
    found = {0: np.zeros((0, 3)), 1: np.zeros((0, 3))}
    for asking in ASKING[asked.estimand]:
        _, serving, own, times = _served(asked, halos[stratum], arms, asking)
        out = times[0] > 0
        out[own] = False
        found[1 - asking] = np.column_stack([serving.place[out], times[:, out].T])
    return found


def _merged(parts: Sequence[FloatArray]) -> FloatArray:
    """Rows of one place added up, in order of place."""
    table = np.concatenate(parts)
    place, code = np.unique(table[:, 0], return_inverse=True)
    return np.column_stack([place, *(np.bincount(code, table[:, j], len(place)) for j in (1, 2))])


def _sums(
    asked: Asked, halos: Mapping[int, Halo], inbound: Mapping[int, FloatArray], stratum: int,
    arms: Mapping[int, Scores],
) -> dict[str, Any]:  # fmt: skip
    """Contrasts of a stratum's units, and what they add to the errors as matches; see ``_matching_errors``."""
    halo, total = halos[stratum], _nothing()
    times = {arm: np.zeros((2, len(arms[arm].n))) for arm in (0, 1)}
    matched = {arm: np.zeros(len(arms[arm].n)) for arm in (0, 1)}
    for asking in ASKING[asked.estimand]:
        sets, _, own, all_times = _served(asked, halo, arms, asking)
        times[1 - asking] += all_times[:, own]
        matched[asking] = (sets.size > 0).astype(np.float64)
        _add_contrasts(total, arms[asking], sets, 1.0 if asking else -1.0)
    for arm in (0, 1):
        scores, extra = arms[arm], inbound[arm]
        if len(extra) and len(scores.n):
            at = np.searchsorted(extra[:, 0], scores.place)
            same = extra[np.minimum(at, len(extra) - 1), 0] == scores.place
            times[arm][:, same] += extra[at[same], 1:].T
        _add_served(total, arm, scores, matched[arm], times[arm], _variance(asked, halo, arms, arm))
    return total


def _nothing() -> dict[str, Any]:
    scalars = ("matched", "unmatched", "contrast", "contrast2", "spread", "homo", "homo_sample", "hetero", "sample")
    return {**dict.fromkeys(scalars, 0.0), "weight": np.zeros(2), "weight2": np.zeros(2), "used": np.zeros(2)}


def _add_contrasts(total: dict[str, Any], scores: Scores, sets: Sets, sign: float) -> None:
    kept = sets.size > 0
    n, s, q, mean = scores.n[kept], scores.s[kept], scores.q[kept], sets.mean[kept]
    total["matched"] += n.sum()
    total["unmatched"] += scores.n[~kept].sum()
    total["contrast"] += sign * (s - n * mean).sum()
    total["contrast2"] += (q - 2 * mean * s + n * mean**2).sum()
    total["spread"] += (n * np.maximum(sets.square[kept] - mean**2, 0.0)).sum()


def _variance(asked: Asked, halo: Halo, arms: Mapping[int, Scores], arm: int) -> FloatArray:
    """The outcome's variance at each score of an arm: of a unit and its nearest of the same arm."""
    around, _ = _around(arms, halo, arm)
    alike = nearest_sets(arms[arm].place, around, asked.neighbours + 1, np.inf, asked.slack, own=True)
    size = alike.size
    variance = np.maximum(alike.square - alike.mean**2, 0.0) * size / np.maximum(size - 1, 1)
    return np.where(size > 1, variance, np.nan)


def _add_served(
    total: dict[str, Any], arm: int, scores: Scores, matched: FloatArray, times: FloatArray, variance: FloatArray
) -> None:
    n, (k, squares) = scores.n, times
    weight = matched + k
    total["weight"][arm] += n @ weight
    total["weight2"][arm] += n @ weight**2
    total["used"][arm] += n[weight > 0].sum()
    both = 2 * matched * k + k**2
    total["homo"] += n @ (both - squares)
    total["homo_sample"] += n @ (both + matched)
    serves, used = k > 0, weight > 0
    total["hetero"] += (n * (both - squares) * variance)[serves].sum()
    total["sample"] += (n * weight**2 * variance)[used].sum()


def matched_effect(found: Sums, *, errors: str, variance: str, caliper: float) -> tuple[float, float]:
    """The mean contrast and its error (Abadie and Imbens 2006), from the sums.

    Raises
    ------
    OverlapError
        When no unit has a match.
    """
    n = float(found["matched"])
    if not n:
        raise OverlapError(
            f"none of the {float(found['unmatched']):,.0f} units has a match within {caliper:.4g}. Widen the caliper, "
            "or compare units that are alike."
        )
    estimate = float(found["contrast"]) / n
    deviations = max(float(found["contrast2"]) - n * estimate**2, 0.0)
    whole = variance == "population"
    if errors == "homoskedastic":
        sigma2 = (deviations + float(found["spread"])) / n / 2
        total = sigma2 * float(found["homo" if whole else "homo_sample"])
    else:
        total = float(found["hetero" if whole else "sample"])
    return estimate, math.sqrt(total + deviations if whole else total) / n


def match_result(
    rows: Rows, estimate: float, std_error: float, found: Sums, *, method: str, estimand: str, level: float
) -> AdjustedEffect:
    """The result, with the units of a weight above zero and their effective numbers."""
    base = effect_result(estimate, std_error, confidence_level=level, n_obs=rows.n, method=method, estimand=estimand)
    used, effective = found["used"], found["weight"] ** 2 / np.where(found["weight2"] > 0, found["weight2"], np.nan)
    sizes = {
        "n_obs": round(float(used.sum())), "n_treated": round(float(used[1])), "n_control": round(float(used[0])),
        "n_dropped": round(float(found["unmatched"])), "ess_treated": float(effective[1]),
        "ess_control": float(effective[0]),
    }  # fmt: skip
    return AdjustedEffect(**{**vars(base), **sizes})
