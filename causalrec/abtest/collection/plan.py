"""Which numbers the metrics of an experiment need of each row: each once, however many metrics share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

from causalrec.abtest.collection.sql import (
    Measure,
    Rows,
    find_as_of,
    find_limits,
    measure,
    ones,
    trend_terms,
)
from causalrec.abtest.metrics import Mean, Metric, Quantile, Ratio, Retention
from causalrec.engines.groups import Groups, Pair, Term

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment


@dataclass(frozen=True)
class Entry:
    """Where a metric's terms are among all terms.

    Attributes
    ----------
    found : Measure
    names : tuple of str
        Of the columns of a cell's moments.
    terms, trend : tuple of int
        Those of the moments, and of the slope over days.
    rows : int
        Counts the rows within; ``before`` and ``exposed`` those before some were left out.
    """

    found: Measure
    names: tuple[str, ...]
    terms: tuple[int, ...]
    trend: tuple[int, ...]
    rows: int
    before: int | None
    exposed: int | None
    has_moments: bool  # a quantile has none


@dataclass(frozen=True)
class Plan:
    """All terms of all metrics, and the pairs of them whose products are needed; the first term counts the rows."""

    terms: tuple[Term, ...]
    pairs: tuple[Pair, ...]
    entries: Mapping[str, Entry]
    thresholds: Mapping[str, tuple[float, float]]
    as_of: Mapping[str, float]

    def counts(self, everyone: Groups) -> tuple[int, dict[str, int], dict[str, int]]:
        """Rows; per metric that may leave rows out, those without a value; per retention metric, immature users."""

        def total(term: int) -> int:
            return round(float((everyone.counts[:, term] * everyone.mean[:, term]).sum()))

        missing = {
            name: total(e.before) - total(e.rows if e.exposed is None else e.exposed)
            for name, e in self.entries.items()
            if e.before is not None
        }
        immature = {name: total(e.exposed) - total(e.rows) for name, e in self.entries.items() if e.exposed is not None}
        return total(0), missing, immature


def make_plan(experiment: Experiment, rows: Rows) -> Plan:
    """The terms of all metrics; finds winsorising limits and ends of observation on the way."""
    builder = _Builder(experiment, rows)
    entries = {name: builder.entry(name, m) for name, m in experiment.metrics.items() if isinstance(m, Metric)}
    return Plan(tuple(builder.terms.values()), tuple(builder.pairs), entries, builder.thresholds, builder.as_of)


class _Builder:
    def __init__(self, experiment: Experiment, rows: Rows) -> None:
        self._experiment, self._rows = experiment, rows
        self.terms: dict[tuple[str, str | None], Term] = {}
        self.pairs: dict[Pair, None] = {}
        self._limits: dict[str, dict[str, tuple[float, float]]] = {}
        self.thresholds: dict[str, tuple[float, float]] = {}
        self.as_of: dict[str, float] = {}
        self._place(ones(None))
        for name, metric in experiment.metrics.items():
            if isinstance(metric, Mean | Ratio) and metric.winsorize is not None:
                self._limits[name] = find_limits(name, metric, rows)
                for k, limits in enumerate(self._limits[name].values()):
                    self.thresholds[f"{name} (denominator)" if k else name] = limits

    def _place(self, term: Term) -> int:
        """The index of a term; equal ones of several metrics are one."""
        self.terms.setdefault((term.sql, term.within), term)
        return list(self.terms).index((term.sql, term.within))

    def _paired(self, indices: Sequence[int]) -> None:
        for i, j in combinations_with_replacement(indices, 2):
            self.pairs[min(i, j), max(i, j)] = None

    def entry(self, name: str, metric: Metric) -> Entry:
        """Place the terms of a metric."""
        experiment, rows = self._experiment, self._rows
        matures = isinstance(metric, Retention) and (metric.exposed or experiment.exposed_at) is not None
        as_of = find_as_of(name, metric, rows, experiment.exposed_at) if isinstance(metric, Retention) else None
        if as_of is not None:
            self.as_of[name] = as_of
        limits = self._limits.get(name, {})
        found = measure(name, metric, rows, limits=limits, exposed_at=experiment.exposed_at, as_of=as_of)
        named = dict(found.terms)
        if experiment.cluster is not None:
            head = {k: t for k, t in named.items() if k in ("value", "den")}
            named = {**head, "rows": ones(found.within), **{k: t for k, t in named.items() if k not in head}}
        terms = tuple(self._place(t) for t in named.values())
        trend: tuple[int, ...] = ()
        if not isinstance(metric, Quantile):
            self._paired(terms)
            if experiment.day is not None:
                trend = tuple(self._place(t) for t in trend_terms(found, rows.quote(experiment.day)).values())
                self._paired(trend)
        return Entry(
            found,
            tuple(named),
            terms,
            trend,
            rows=self._place(ones(found.within)),
            before=self._place(ones(found.all_within)) if metric.missing == "drop" else None,
            exposed=self._place(ones(found.exposed_within)) if matures else None,
            has_moments=not isinstance(metric, Quantile),
        )
