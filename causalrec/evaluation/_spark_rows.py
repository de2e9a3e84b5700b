"""Rows of a Spark DataFrame for uplift metrics: checked in one scan, with the scores of every row's effect.

The columns of :attr:`Rows.frame`, which holds the rows of positive weight: ``y``, ``w`` (mean one), ``arm`` (1 the arm,
0 control, -1 another), ``e1`` and ``e0`` (propensity of each), ``g`` (score of the effect), ``s0``, ``s1``, … (one for
each scorer), ``cluster`` where there are clusters, and for each estimated share ``slope0``, … and ``move0``, …: what
:attr:`causalrec.evaluation._ranked.Ranked.share_terms` holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_columns
from causalrec.exceptions import CausalRecError, EngineError, OutcomeError
from causalrec.nuisance.scores import arm_code
from causalrec.nuisance.spark_rows import (
    Propensity,
    by_treatment,
    check_numbers,
    check_scan,
    check_spark_frame,
    column_types,
    infinite,
    plain_columns,
    propensity_values,
    quoted,
    scan_columns,
)

_QUANTILES = 512  # of each arm's predictions, from which the cuts between buckets are chosen
_ACCURACY = 5_000


@dataclass(frozen=True)
class Asked:
    """The columns that the caller named; ``uplift`` holds a column for each scorer."""

    outcome: str
    uplift: tuple[str, ...]
    treatment: str
    propensity: Propensity = None
    sample_weight: str | None = None
    clusters: str | None = None
    control: Any = None
    arm: Any = None


@dataclass(frozen=True)
class Rows:
    """Rows ready to be ranked.

    Attributes
    ----------
    frame : Spark DataFrame
    n : int
        Rows of positive weight: the population.
    n_terms : int
        Estimated shares that the scores depend on.
    clustered : bool
    means : tuple of float
        Mean outcome of control and of the arm, by inverse-probability weighting.
    method : str
        How the scores are made, in words.
    largest : float
        Absolute outcome.
    low, high : tuple of float
        Least and greatest prediction of each scorer.
    quantiles : tuple of arrays
        Of each scorer's predictions, rising.
    """

    frame: Any
    n: int
    n_terms: int
    clustered: bool
    means: tuple[float, float]
    method: str
    largest: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    quantiles: tuple[FloatArray, ...]

    @property
    def kept(self) -> list[str]:
        """The columns that every query carries along."""
        terms = [f"{name}{i}" for i in range(self.n_terms) for name in ("slope", "move")]
        return ["y", "w", "arm", "e1", "e0", "g", *terms, *(["cluster"] if self.clustered else [])]

    def constant(self, scorer: int) -> bool:
        """Whether all predictions of a scorer are equal."""
        return self.low[scorer] == self.high[scorer]


def number(value: float) -> str:
    """A number in Spark's SQL, to the last bit."""
    return f"{float(value)!r}D" if np.isfinite(value) else f"double('{value}')"


def read_rows(frame: Any, asked: Asked) -> Rows:
    """Check the rows and compute their scores; the errors are those of the metrics on arrays."""
    check_spark_frame(frame, local="causalrec.evaluation")
    _check_columns(frame, asked)
    plain = frame.selectExpr(*_plain(asked))
    n_shares = len(propensity_values(asked.propensity))
    counts = scan_columns(
        weighted=asked.sample_weight is not None, grouped=asked.clusters is not None, n_shares=n_shares
    )
    try:
        found = by_treatment(plain, [*counts, *_sums(asked, n_shares)])
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark.", "py4j.")):
            raise
        raise EngineError(f"the frame cannot be read: {str(error).splitlines()[0]}") from error
    labels = check_scan(
        found, outcome=asked.outcome, treatment=asked.treatment, sample_weight=asked.sample_weight,
        propensity=asked.propensity, control=asked.control, groups="clusters",
    )  # fmt: skip
    code = arm_code(asked.arm, labels)
    _check_values(found, asked)
    return _prepared(plain, asked, found, labels, code)


def _check_columns(frame: Any, asked: Asked) -> None:
    shares = [name for name in propensity_values(asked.propensity) if isinstance(name, str)]
    others = [asked.outcome, asked.treatment, *filter(None, [asked.sample_weight, asked.clusters])]
    if not asked.uplift:
        raise CausalRecError("uplift names no column; name the predictions of at least one scorer.")
    check_columns(frame.columns, [*others, *shares, *asked.uplift], where="frame")
    check_numbers(column_types(frame), [asked.outcome, asked.sample_weight, *shares, *asked.uplift])


def _plain(asked: Asked) -> list[str]:
    columns = plain_columns(
        outcome=asked.outcome, treatment=asked.treatment, sample_weight=asked.sample_weight, groups=asked.clusters,
        propensity=asked.propensity,
    )  # fmt: skip
    # Adding zero makes of a negative zero, which some comparisons would hold apart, a zero.
    return columns + [f"CAST({quoted(name)} AS DOUBLE) + 0D AS s{i}" for i, name in enumerate(asked.uplift)]


def _sums(asked: Asked, n_shares: int) -> list[str]:
    """What the scores need, by arm: sums of weights and outcomes over the propensity, ranges, quantiles."""
    w = "weight" if asked.sample_weight is not None else "1D"
    weighty = "weight > 0" if asked.sample_weight is not None else "true"
    shares = [f"p{i}" for i in range(n_shares)] + (["(1 - p0)"] if n_shares == 1 else [])
    columns = [f"SUM({w}) AS w", f"SUM({w} * outcome) AS wy", "MIN(outcome) AS low", "MAX(outcome) AS high"]
    for i, p in enumerate(shares):
        columns += [f"SUM(try_divide({w}, {p})) AS v{i}", f"SUM(try_divide({w} * outcome, {p})) AS vy{i}"]
    levels = f"array({', '.join(number(q) for q in np.linspace(0, 1, _QUANTILES + 1))})"
    for i in range(len(asked.uplift)):
        own = f"CASE WHEN {weighty} THEN s{i} END"
        columns += [
            f"COUNT_IF({infinite(f's{i}')}) AS bad_s{i}", f"MIN({own}) AS low{i}", f"MAX({own}) AS high{i}",
            f"percentile_approx({own}, {levels}, {_ACCURACY}) AS q{i}",
        ]  # fmt: skip
    return columns


def _check_values(found: Sequence[Mapping[str, Any]], asked: Asked) -> None:
    n = sum(row["n"] for row in found)
    for i, name in enumerate(asked.uplift):
        if bad := sum(row[f"bad_s{i}"] for row in found):
            raise OutcomeError(
                f"uplift {name!r}: {bad} of {n} values are missing or infinite. Drop those rows, or find out why the "
                "scorer has no prediction for them."
            )
    low, high = min(row["low"] for row in found), max(row["high"] for row in found)
    if low == high:
        raise OutcomeError(
            f"y is {low:g} in all {n} rows, so no unit can gain more than another. Check that it is the outcome you "
            "mean."
        )


def _prepared(plain: Any, asked: Asked, found: Sequence[Mapping[str, Any]], labels: tuple[Any, ...], code: int) -> Rows:
    by_code = sorted(found, key=lambda row: labels.index(row["treatment"]))
    known = asked.propensity is not None
    n = sum(row["weighty"] for row in found)
    total = sum(row["w"] for row in found)
    shares = {c: _share(asked, by_code, total, labels, c) for c in (0, code)}
    means = {c: _mean(asked, by_code[c], labels, c) for c in (0, code)}
    terms = [] if known else _share_terms(len(labels))
    columns = [
        f"outcome AS y, {f'weight * {number(n / total)}' if asked.sample_weight is not None else '1D'} AS w",
        "CASE treatment WHEN :arm THEN 1 WHEN :control THEN 0 ELSE -1 END AS arm",
        f"{shares[code]} AS e1, {shares[0]} AS e0",
        *(["groups AS cluster"] if asked.clusters is not None else []),
        *(f"s{i}" for i in range(len(asked.uplift))),
    ]
    query = f"SELECT {', '.join(columns)} FROM {{rows}}"
    if asked.sample_weight is not None:
        query += " WHERE weight > 0"
    args = {"arm": by_code[code]["treatment"], "control": by_code[0]["treatment"]}
    base = plain.sparkSession.sql(query, args=args, rows=plain)
    m1, m0 = number(means[code]), number(means[0])
    gap = number(means[code] - means[0])
    score = f"{gap} + CASE arm WHEN 1 THEN (y - {m1}) / e1 WHEN 0 THEN -(y - {m0}) / e0 ELSE 0D END AS g"
    terms = [term.format(m1=m1, m0=m0) for term in terms]
    how = "inverse-probability scores around the arm means, "
    how += "known propensity" if known else "estimated share treated"
    scorers = range(len(asked.uplift))
    return Rows(
        frame=base.selectExpr("*", score, *terms), n=n, n_terms=len(terms) // 2, clustered=asked.clusters is not None,
        means=(means[0], means[code]), method=how, largest=max(max(abs(row["low"]), abs(row["high"])) for row in found),
        low=tuple(min(row[f"low{i}"] for row in found) for i in scorers),
        high=tuple(max(row[f"high{i}"] for row in found) for i in scorers),
        quantiles=tuple(_pooled([row[f"q{i}"] for row in found], [row["weighty"] for row in found]) for i in scorers),
    )  # fmt: skip


def _share(asked: Asked, by_code: Sequence[Mapping[str, Any]], total: float, labels: Sequence[Any], code: int) -> str:
    """SQL of P(arm) of an arm: known, or its share of the weight."""
    if asked.propensity is None:
        return number(by_code[code]["w"] / total)
    place, complement = _place(asked, labels, code)
    return f"(1 - p{place})" if complement else f"p{place}"


def _mean(asked: Asked, row: Mapping[str, Any], labels: Sequence[Any], code: int) -> float:
    """Mean outcome of an arm with weights 1 / propensity."""
    if asked.propensity is None:
        return float(row["wy"] / row["w"])
    place, complement = _place(asked, labels, code)
    i = 1 if complement else place
    return float(row[f"vy{i}"] / row[f"v{i}"])


def _place(asked: Asked, labels: Sequence[Any], code: int) -> tuple[int, bool]:
    """Which given propensity is that of an arm, and whether it is one minus it."""
    if isinstance(asked.propensity, Mapping):
        return list(asked.propensity).index(labels[code]), False
    return 0, code == 0


def _share_terms(n_arms: int) -> list[str]:
    """SQL of the slope and the move of each estimated share; two arms have one share between them."""
    treated, control = "(y - {m1}) / (e1 * e1)", "(y - {m0}) / (e0 * e0)"
    if n_arms == 2:
        return [f"IF(arm = 1, {treated}, {control}) AS slope0", "w * (arm - e1) AS move0"]
    return [
        f"IF(arm = 1, {treated}, 0D) AS slope0", "w * (IF(arm = 1, 1D, 0D) - e1) AS move0",
        f"IF(arm = 0, -{control}, 0D) AS slope1", "w * (IF(arm = 0, 1D, 0D) - e0) AS move1",
    ]  # fmt: skip


def _pooled(quantiles: Sequence[Any], sizes: Sequence[int]) -> FloatArray:
    """About :data:`_QUANTILES` quantiles of all rows from those of each arm; repeated where a value is frequent."""
    values = np.concatenate([np.asarray(q, dtype=np.float64) for q in quantiles])
    mass = np.repeat(np.asarray(sizes, dtype=np.float64) / (_QUANTILES + 1), _QUANTILES + 1)
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(mass[order])
    levels = np.linspace(0, cumulative[-1], _QUANTILES + 1)[1:-1]
    return np.asarray(values[order][np.searchsorted(cumulative, levels)])
