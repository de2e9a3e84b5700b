"""One query that groups by everything at once, and the groups that are put together from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, IntArray
from causalrec.abtest.aggregates import ALL, TREND, UNTRIGGERED, Key
from causalrec.abtest.collection.plan import Plan
from causalrec.abtest.collection.sql import BY_DAY, TIMES, Rows
from causalrec.engines.exact import literal_sql
from causalrec.engines.groups import Groups, Term
from causalrec.engines.moments import collect_groups, order_free_sums
from causalrec.exceptions import ColumnError, OutcomeError

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment

NO_ARM, NO_CLUSTER, CONFLICT, SPREAD = 1, 2, 3, 4  # what may be wrong with a cluster


@dataclass(frozen=True)
class Finest:
    """Groups by arm, trigger, stratum and what the rows are split by.

    Attributes
    ----------
    groups : Groups
    arm, stratum : list of length G
    triggered : array of shape (G,)
    whole : array of shape (G,)
        Groups that together hold each unit once; the others hold parts of clusters.
    splits : mapping of column to (array of shape (G,), list of length G)
        Which groups are split by the column, and its value.
    """

    groups: Groups
    arm: list[Hashable]
    stratum: list[Hashable]
    triggered: BoolArray
    whole: BoolArray
    splits: Mapping[str, tuple[BoolArray, list[Hashable]]]

    def dimension(self, name: str, arms: Mapping[Hashable, Hashable]) -> Groups:
        """The groups of a dimension of :class:`Aggregates`; ``arms`` says what each arm counts as, in their order."""
        nothing: list[Hashable] = [None] * len(self.arm)
        chosen, value = {
            ALL: (self.whole & self.triggered, self.stratum),
            UNTRIGGERED: (self.whole & ~self.triggered, nothing),
            TREND: (self.whole & self.triggered, nothing),
        }.get(name) or self.splits[name]
        if name in self.splits:
            chosen = chosen & self.triggered
        keys = [(arms[a], v) for a, v in zip(self.arm, value, strict=True)]
        order = {arm: k for k, arm in enumerate(dict.fromkeys(arms.values()))}
        found = sorted({k for k, used in zip(keys, chosen, strict=True) if used}, key=lambda k: _order(order, k))
        place = {key: k for k, key in enumerate(found)}
        codes = [place[k] if used else -1 for k, used in zip(keys, chosen, strict=True)]
        return self.groups.merged(np.array(codes, dtype=np.int64), list(found))

    def everyone(self) -> Groups:
        """All units, as one group."""
        return self.groups.merged(np.where(self.whole, 0, -1), [()])

    def nested(self, segments: Sequence[str]) -> dict[str, bool]:
        """Per segment, whether no unit is in two of its groups: then there are as many units with it as without."""
        n = int(self.groups.rows[self.whole].sum())
        return {s: int(self.groups.rows[self.splits[s][0]].sum()) == n for s in segments}


def _order(arms: Mapping[Hashable, int], key: Key) -> tuple[int, bool, Any]:
    arm, value = key
    parts = value if isinstance(value, tuple) else (value,)
    return arms[arm], value is None, tuple((p is not None, type(p).__name__, 0 if p is None else p) for p in parts)


def _label(value: Any, kind: str) -> Hashable:
    """A value of a key as it was in the table: nulls among integers have made floats of them."""
    if pd.isna(value):
        return None
    if kind == "integer":
        return int(value)
    return bool(value) if kind == "boolean" else value


class KeyLabels:
    """Keys of a query by arm and columns, and what they are in aggregates; arms that count as one are one here."""

    def __init__(self, rows: Rows, variant: str, arms: Mapping[Hashable, Hashable], columns: Sequence[str]) -> None:
        self._arms = list(dict.fromkeys(arms.values()))
        self._kinds = [rows.kinds[c] for c in columns]
        cases = [f"WHEN {_is_arm(rows, variant, arm)} THEN {self._arms.index(new)}" for arm, new in arms.items()]
        self.sql = [f"CASE {' '.join(cases)} END", *map(rows.quote, columns)]

    def of(self, key: tuple[Any, ...]) -> Key:
        """The key of a cell."""
        labels = tuple(_label(v, kind) for v, kind in zip(key[1:], self._kinds, strict=True))
        group = None if not labels else labels[0] if len(labels) == 1 else labels
        return self._arms[int(key[0])], group


def _is_arm(rows: Rows, variant: str, arm: Any) -> str:
    """Whether a row is of an arm, whose label is as a query gives it."""
    kind = rows.kinds[variant]
    if kind in TIMES:
        return f"{rows.micros(variant)} = {pd.Timestamp(arm).value // 1000}"
    if kind == "string":
        return f"{rows.quote(variant)} = {rows.engine.dialect.literal(arm)}"
    return f"{rows.quote(variant)} = {literal_sql(arm) if kind == 'float' else str(arm).upper()}"


def _missing_day(rows: Rows, day: str, n: int) -> ColumnError:
    return ColumnError(
        f"day {day!r} is missing in {n:,} rows, whose day since exposure cannot be known. Leave them out with "
        f"{rows.where_known(day)}, or the analysis by day with day=None."
    )


def _refusal(
    noun: str, rows: Rows, count_without_day: Callable[[], tuple[int, str]]
) -> Callable[[Term, tuple[Any, ...], int, int], Exception]:
    def refuse(term: Term, key: tuple[Any, ...], n_bad: int, n: int) -> Exception:
        if term.label.endswith(BY_DAY):  # the value alone would have been refused before
            n_without, day = count_without_day()
            if n_without:
                return _missing_day(rows, day, n_without)
        where = f" in arm {key[0]!r}" if key else ""
        remedy = "use missing='drop' or missing='zero' if a missing value means that, or restrict the rows with where="
        if term.label.startswith("covariate"):
            remedy = (
                "fill them in a way that does not look at the arm, such as 0 together with a column that says whether "
                "the value was missing"
            )
        elif ", exposure " in term.label:
            remedy = "use missing='drop' to leave them out, or restrict the rows with where="
        return OutcomeError(
            f"{term.label}: {n_bad:,} of {n:,} {noun}{where} have values that are missing, infinite or beyond 1e150; "
            f"{remedy}."
        )

    return refuse


def _flaw_sql(n_attributes: int) -> str:
    """What is wrong with a cluster, of whose columns ``__a0`` is the arm and the others are to have one value."""
    spread = " OR ".join(
        f"MIN(__a{k}) <> MAX(__a{k}) OR COUNT(__a{k}) NOT IN (0, COUNT(*))" for k in range(1, n_attributes)
    )
    return (
        f"CASE WHEN COUNT(__a0) < COUNT(*) THEN {NO_ARM} WHEN __unit IS NULL THEN {NO_CLUSTER} "
        f"WHEN MIN(__a0) <> MAX(__a0) THEN {CONFLICT} WHEN {spread or 'FALSE'} THEN {SPREAD} ELSE 0 END"
    )


class Scan:
    """The query of an experiment over its rows; for clusters, over the sums of each.

    Parameters
    ----------
    experiment : Experiment
    rows : Rows
    plan : Plan
    """

    def __init__(self, experiment: Experiment, rows: Rows, plan: Plan) -> None:
        self._experiment, self._rows, self._plan = experiment, rows, plan
        self._attributes = [*([experiment.trigger] if experiment.trigger else []), *experiment.strata]
        self._split = [*experiment.segments, *([experiment.day] if experiment.day else [])]
        self._kinds = [rows.kinds[c] for c in [experiment.variant, *self._attributes, *self._split]]
        self._terms = plan.terms
        self._table = rows.sql
        keys = [rows.quote(c) for c in [experiment.variant, *self._attributes, *self._split]]
        self._keys = keys
        if experiment.cluster is not None:
            self._terms, self._table = self._sums_of_clusters(experiment.cluster)
            n = len(self._attributes)
            self._keys = ["a0", *(f"a{k + 1}" for k in range(n)), *(f"d{k}" for k in range(len(self._split)))]
            self._keys += ["split", "flaw"]

    def _sums_of_clusters(self, cluster: str) -> tuple[tuple[Term, ...], str]:
        """Terms that are columns of a table with a row per cluster (and per cluster and group of each split)."""
        rows, quote = self._rows, self._rows.quote
        n_attributes = len(self._attributes) + 1
        columns = [cluster, self._experiment.variant, *self._attributes, *self._split]
        inside = ["__unit", *(f"__a{k}" for k in range(n_attributes)), *(f"__d{k}" for k in range(len(self._split)))]
        renamed = [f"{quote(c)} AS {name}" for c, name in zip(columns, inside, strict=True)]
        source = f"(SELECT *, {', '.join(renamed)} FROM {rows.sql} named)"
        sums = order_free_sums(rows.engine, source, self._plan.terms)
        splits = inside[n_attributes + 1 :]
        which = "".join(f" WHEN GROUPING({d}) = 0 THEN {k}" for k, d in enumerate(splits))
        listed = [
            f"CASE{which} ELSE -1 END AS split" if splits else "-1 AS split",
            f"{_flaw_sql(n_attributes)} AS flaw",
        ]
        listed += [f"MIN(__a{k}) AS a{k}" for k in range(n_attributes)]
        listed += [f"{d} AS d{k}" for k, d in enumerate(splits)]
        listed += [f"{s} AS s{k}" for k, s in enumerate(sums)]
        sets = ", ".join(["(__unit)", *(f"(__unit, {d})" for d in splits)])
        grouped = f"GROUPING SETS ({sets})" if splits else "__unit"
        table = rows.keep(f"SELECT {', '.join(listed)} FROM {source} x GROUP BY {grouped}")
        counted = {t.within: f"s{k} > 0" for k, t in enumerate(self._plan.terms) if t.sql == "1"}
        terms = tuple(
            Term(f"s{k}", t.label, None if t.within is None else counted.get(t.within), whole=t.whole, rounded=True)
            for k, t in enumerate(self._plan.terms)
        )
        return terms, table

    def _rows_without_day(self) -> tuple[int, str]:
        day, rows = str(self._experiment.day), self._rows
        sql = f"SELECT COUNT(*) AS n FROM {rows.sql} x WHERE {rows.quote(day)} IS NULL"
        return int(rows.engine.collect(sql)["n"].iloc[0]), day

    def _refuse_missing_days(self, groups: Groups, days: Sequence[Hashable]) -> None:
        """Quantiles have no sum by day that would be missing."""
        if self._experiment.day is None:
            return
        split = len(self._split) - 1
        if any(
            day is None and (self._experiment.cluster is None or key[-2] == split)
            for day, key in zip(days, groups.keys, strict=True)
        ):
            n_without, day = self._rows_without_day()
            raise _missing_day(self._rows, day, n_without)

    def collect(self, *, centre_each: bool = False) -> tuple[Finest, IntArray]:
        """The finest groups, and what is wrong with the clusters of each: 0 where nothing is."""
        experiment, noun = self._experiment, "rows" if self._experiment.cluster is None else "clusters"
        groups = collect_groups(
            self._rows.engine, self._table, self._terms, self._plan.pairs, self._keys,
            centre_each=centre_each, refuse=_refusal(noun, self._rows, self._rows_without_day),
        )  # fmt: skip
        columns = [[_label(key[k], kind) for key in groups.keys] for k, kind in enumerate(self._kinds)]
        self._refuse_missing_days(groups, columns[-1])
        n_attributes = len(self._attributes) + 1
        triggered = np.ones(len(groups.keys), dtype=bool)
        strata = columns[1:n_attributes]
        if experiment.trigger is not None:
            triggered = np.array([bool(t) for t in strata[0]], dtype=bool)
            strata = strata[1:]
        stratum: list[Hashable] = [None] * len(groups.keys)
        if strata:
            stratum = strata[0] if len(strata) == 1 else list(zip(*strata, strict=True))
        values = columns[n_attributes:]
        if experiment.cluster is None:
            everywhere = np.ones(len(groups.keys), dtype=bool)
            splits = {c: (everywhere, v) for c, v in zip(self._split, values, strict=True)}
            flaws = np.zeros(len(groups.keys), dtype=np.int64)
            return Finest(groups, columns[0], stratum, triggered, everywhere, splits), flaws
        which = np.array([key[-2] for key in groups.keys], dtype=np.int64)
        flaws = np.array([key[-1] for key in groups.keys], dtype=np.int64)
        splits = {c: (which == k, v) for k, (c, v) in enumerate(zip(self._split, values, strict=True))}
        return Finest(groups, columns[0], stratum, triggered, which == -1, splits), flaws
