"""Moments of a table by group: one query serves all metrics.

On the local engine sums are exact (see :mod:`causalrec.engines.exact`), of terms that are centred on the point of their
range that is nearest to zero: nothing is lost to a large mean, nor to a long tail. The range takes a look at the table
before the query, unless it is known. Where each look costs a scan of a cluster's data, the engine's own one-pass
recursions serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_columns
from causalrec.engines.base import Engine
from causalrec.engines.exact import LARGEST, SECOND_GRID, WHOLE_BELOW, WIDEST, literal_sql, literal_sums, split_sums
from causalrec.engines.groups import Groups, Pair, Term, indices
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.moments import Moments

_FAR_ABOVE = 1e5  # a spread so many times the rounding is known to ten digits
Refusal: TypeAlias = Callable[[Term, tuple[Any, ...], int, int], Exception]


def collect_moments(
    engine: Engine, table: str, columns: Sequence[str], by: Sequence[str]
) -> dict[tuple[Any, ...], Moments]:
    """Count, means and covariances of numeric columns for every group.

    On the local engine the same rows give the same bits, in any order; on Spark, which scans once, rounding (about
    1e-15 of a standard deviation) depends on it. Booleans count as 0 and 1.

    Raises
    ------
    ColumnError
        For a column that is missing or not numeric.
    OutcomeError
        For values that are missing, infinite or beyond 1e150, with their count and group.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalrec.engines import LocalEngine
    >>> with LocalEngine() as engine:
    ...     engine.register("t", pd.DataFrame({"arm": ["a", "a", "b"], "spend": [1.0, 3.0, 5.0]}))
    ...     found = collect_moments(engine, "t", ["spend"], by=["arm"])
    >>> found["a",].n, found["a",].mean_of("spend"), found["a",].var_of("spend")
    (2, 2.0, 2.0)
    """
    if not columns:
        raise ColumnError(f"table {table!r}: no metric is named; at least one is needed.")
    check_columns(engine.columns(table), [*columns, *by], where=f"table {table!r}")
    terms = [column_term(engine, table, c, label=f"metric {c!r}") for c in columns]
    pairs = list(combinations_with_replacement(range(len(columns)), 2))
    q = engine.dialect.quote
    keys = [q(b) for b in by]
    found = collect_groups(engine, q(table), terms, pairs, keys, centre_each=not engine.dialect.one_scan)
    if not found.exact:
        found = collect_groups(engine, q(table), terms, pairs, keys, centre_each=True)
    each = range(len(columns))
    return {key: found.moments(k, each, columns) for k, key in enumerate(found.keys)}


def column_term(engine: Engine, table: str, column: str, *, label: str, within: str | None = None) -> Term:
    """A numeric column as a term, with all that is known of its range.

    Raises :class:`ColumnError` for a column that is not numeric.
    """
    kind = engine.columns(table)[column]
    if kind not in ("integer", "float", "boolean"):
        raise ColumnError(f"table {table!r}: {label} is {kind}; expected numbers. Convert it first.")
    known = engine.ranges(table).get(column)
    bounds = (0.0, 1.0) if kind == "boolean" else known[:2] if known else None
    return Term(
        engine.dialect.quote(column),
        label,
        within,
        bounds,
        whole=kind != "float",
        complete=known is not None and not known[2],
    )


def collect_groups(
    engine: Engine,
    table: str,
    terms: Sequence[Term],
    pairs: Sequence[Pair],
    by: Sequence[str],
    *,
    centre_each: bool = False,
    refuse: Refusal | None = None,
) -> Groups:
    """Moments of terms, and of pairs of terms that are within the same rows, by group.

    Parameters
    ----------
    table : str
        A quoted name, or a query in parentheses.
    by : sequence of str
        SQL expressions.
    centre_each : bool
        Centre each group on its own range: for groups that are too far apart for one (see :attr:`Groups.exact`).
    refuse : callable (term, key, number of bad rows, number of rows) -> exception
        The error for values that are missing, infinite or beyond 1e150.
    """
    query = _Query(engine, table, tuple(terms), tuple((min(p), max(p)) for p in pairs), tuple(by))
    refuse = refuse or _refusal
    if engine.dialect.one_scan:
        return query.by_recursion(refuse, centre_each=centre_each)
    return query.by_group_centres(refuse) if centre_each else query.by_one_centre(refuse)


def order_free_sums(engine: Engine, table: str, terms: Sequence[Term]) -> list[str]:
    """SQL of the sum of each term over a group, that does not depend on the order of rows where sums are exact.

    It is null where a value is missing, infinite or beyond 1e150.
    """
    query = _Query(engine, table, tuple(terms), (), ())
    sums = [f"SUM({t.value_sql})" for t in terms]
    if not engine.dialect.one_scan:
        low, high, n, _ = query.ranges(tame=True)
        reach = np.maximum(np.abs(low), np.abs(high))
        sums = [
            " + ".join(literal_sums(t.tame_sql(engine.dialect), r, n, whole=t.whole)) or "0e0"
            for t, r in zip(terms, reach, strict=True)
        ]
    return [
        f"CASE WHEN COUNT({t.tame_sql(engine.dialect)}) = {_count_within(t)} THEN COALESCE({s}, 0e0) END"
        for t, s in zip(terms, sums, strict=True)
    ]


def _refusal(term: Term, key: tuple[Any, ...], n_bad: int, n: int) -> Exception:
    return OutcomeError(
        f"{term.label}, group {key}: {n_bad} of {n} values are missing, infinite or beyond {LARGEST}. Drop those rows "
        "or fill them in a way that you can defend."
    )


def _count_within(term: Term) -> str:
    return "COUNT(*)" if term.within is None else f"COUNT(CASE WHEN {term.within} THEN 1 END)"


@dataclass(frozen=True)
class _Query:
    engine: Engine
    table: str
    terms: tuple[Term, ...]
    pairs: tuple[Pair, ...]
    by: tuple[str, ...]

    @property
    def _keys(self) -> list[str]:
        return [f"g{k}" for k in range(len(self.by))]

    @property
    def _tame(self) -> list[str]:
        return [t.tame_sql(self.engine.dialect) for t in self.terms]

    def _grouped(self, selected: Sequence[str], source: str) -> str:
        keys = ", ".join(self._keys)
        group = f" GROUP BY {keys}" if keys else ""
        return f"SELECT {', '.join([*self._keys, 'COUNT(*) AS n', *selected])} FROM {source}{group}"

    def _rows(self, values: Sequence[str]) -> str:
        """The table with group keys, values x0, x1, … and a flag for each condition."""
        keys = [f"{b} AS {k}" for b, k in zip(self.by, self._keys, strict=True)]
        listed = [f"{v} AS x{i}" for i, v in enumerate(values)]
        flags = [f"CASE WHEN {c} THEN 1 END AS w{k}" for k, c in enumerate(self._conditions)]
        return f"(SELECT {', '.join([*keys, *listed, *flags])} FROM {self.table} source) x"

    @property
    def _conditions(self) -> list[str]:
        return list(dict.fromkeys(t.within for t in self.terms if t.within is not None))

    def _expected(self, found: pd.DataFrame) -> IntArray:
        """The rows within each term, by group: shape (G, T)."""
        names = ["n" if t.within is None else f"cw{self._conditions.index(t.within)}" for t in self.terms]
        return found[names].to_numpy(np.int64)

    def _counts(self, incomplete: Sequence[int]) -> list[str]:
        flags = [f"COUNT(w{k}) AS cw{k}" for k in range(len(self._conditions))]
        return [*flags, *(f"COUNT(x{i}) AS n{i}" for i in incomplete)]

    def _collect(self, sql: str) -> pd.DataFrame:
        found = self.engine.collect(sql)
        found = found[found["n"] > 0]  # no groups and no rows give a row
        # Sorted here: an order in the query would be a job of its own on Spark.
        return found.sort_values(self._keys, ignore_index=True) if self.by else found

    def _group_keys(self, found: pd.DataFrame) -> list[tuple[Any, ...]]:
        columns = [found[k].tolist() for k in self._keys]
        return list(zip(*columns, strict=True)) if columns else [()] * len(found)

    def _check(self, found: pd.DataFrame, counts: IntArray, refuse: Refusal) -> None:
        bad = self._expected(found) - counts
        for k, i in np.argwhere(bad):
            key = self._group_keys(found)[k]
            raise refuse(self.terms[i], key, int(bad[k, i]), int(self._expected(found)[k, i]))

    def _diagnose(self, refuse: Refusal) -> None:
        """Count the bad values by group, and raise."""
        each = range(len(self.terms))
        rows = self._rows(self._tame)
        found = self._collect(self._grouped(self._counts(each), rows))
        self._check(found, found[[f"n{i}" for i in each]].to_numpy(np.int64), refuse)

    def ranges(self, *, tame: bool = False) -> tuple[FloatArray, FloatArray, int, list[int]]:
        """Low and high ends, rows, and the terms that may have nulls; NaN and infinities are left out if ``tame``."""
        asked = [i for i, t in enumerate(self.terms) if t.bounds is None]
        values = {i: self._tame[i] if tame else self.terms[i].range_sql for i in asked}
        selected = [
            f"CAST(MIN({v}) AS DOUBLE) AS lo{i}, CAST(MAX({v}) AS DOUBLE) AS hi{i}, COUNT({v}) AS n{i}"
            for i, v in values.items()
        ]
        row: Any = self.engine.collect(f"SELECT {', '.join(['COUNT(*) AS n', *selected])} FROM {self.table} x").iloc[0]
        ends = [t.bounds or (row[f"lo{i}"], row[f"hi{i}"]) for i, t in enumerate(self.terms)]
        low, high = np.array([[0.0 if e is None else e for e in pair] for pair in ends], dtype=np.float64).T
        n = int(row["n"])
        incomplete = [i for i, t in enumerate(self.terms) if not t.complete and not (i in asked and row[f"n{i}"] == n)]
        empty = [i for i in asked if not row[f"n{i}"]]
        low[empty] = high[empty] = 0.0
        return low, high, n, incomplete

    def by_one_centre(self, refuse: Refusal) -> Groups:
        """Exact sums around one centre for all groups, which the text of the query holds."""
        low, high, n, incomplete = self.ranges()
        if not (np.maximum(np.abs(low), np.abs(high)) <= float(LARGEST)).all():
            self._diagnose(refuse)
        centre = np.where(low > 0, low, np.where(high < 0, high, 0.0))
        largest = np.maximum(np.abs(low), np.abs(high))
        wide = np.array([t.whole and WHOLE_BELOW <= m < WIDEST for t, m in zip(self.terms, largest, strict=True)])
        # The ends themselves were rounded.
        reach = np.maximum(high - centre, centre - low) + np.where(wide, np.spacing(largest), 0.0)
        # What a file calls constant may have NaN too, which only a sum would show.
        reach[[i for i, t in enumerate(self.terms) if not reach[i] and t.bounds and not t.whole]] = 1.0
        whole = [t.whole and m < WHOLE_BELOW for t, m in zip(self.terms, np.where(wide, reach, largest), strict=True)]
        values = [t.centred_sql(c, exact=w) for t, c, w in zip(self.terms, centre, wide, strict=True)]
        sums = [literal_sums(f"x{i}", reach[i], n, whole=whole[i]) for i in range(len(values))]
        sums += [
            literal_sums(f"(x{i} * x{j})", reach[i] * reach[j], n, whole=whole[i] and whole[j]) for i, j in self.pairs
        ]
        listed = [f"{part} AS s{k}_{p}" for k, parts in enumerate(sums) for p, part in enumerate(parts)]
        found = self._collect(self._grouped([*self._counts(incomplete), *listed], self._rows(values)))
        counts = self._expected(found).copy()
        counts[:, incomplete] = found[[f"n{i}" for i in incomplete]].to_numpy(np.int64)
        totals = self._totals(found, counts, [len(parts) for parts in sums])
        if not np.isfinite(totals).all() or (counts < self._expected(found)).any():
            self._diagnose(refuse)
        # The second grid's last digit is n^2 2^-103 of the range of a square.
        resolution = np.where(whole, 0.0, (n * reach) ** 2 * 2.0**-50)
        groups = self._groups(found, counts, np.broadcast_to(centre, counts.shape), totals, resolution)
        self._refuse_rounding(groups, [t.whole and t.rounded for t in self.terms])
        return groups

    def by_group_centres(self, refuse: Refusal) -> Groups:
        """Exact sums around a centre for each group, which a query within the query finds."""
        each = range(len(self.terms))
        # Written out twice: DuckDB would keep a shared one in memory.
        rows = self._rows(self._tame)
        ranges = [f"MIN(x{i}) AS lo{i}, MAX(x{i}) AS hi{i}" for i in each]
        counts = self._counts(each)
        counted = [c.split(" AS ")[1] for c in counts]
        centre = [f"CASE WHEN lo{i} > 0 THEN lo{i} WHEN hi{i} < 0 THEN hi{i} ELSE 0e0 END AS c{i}" for i in each]
        reach = [f"GREATEST(hi{i} - c{i}, c{i} - lo{i}) AS r{i}" for i in each]
        same = " AND ".join(f"x.{k} IS NOT DISTINCT FROM s.{k}" for k in self._keys) or "TRUE"
        sums = [split_sums(f"d{i}", f"(coarse * r{i})", f"(coarse * r{i} * fine)") for i in each]
        sums += [
            split_sums(f"(d{i} * d{j})", f"(coarse * r{i} * r{j})", f"(coarse * r{i} * r{j} * fine)")
            for i, j in self.pairs
        ]
        listed = [f"{part} AS s{k}_{p}" for k, parts in enumerate(sums) for p, part in enumerate(parts)]
        # The same for all rows of a group.
        listed += [f"MAX({c}) AS {c}" for c in [*counted, *(f"c{i}" for i in each)]]
        coarse = f"4e0 * n AS coarse, {literal_sql(SECOND_GRID)} * n AS fine"
        columns = ", ".join([*(f"s.{k}" for k in self._keys), "coarse", "fine", *counted])
        centred = ", ".join(f"x.x{i} - s.c{i} AS d{i}, s.c{i}, r{i}" for i in each)
        found = self._collect(
            f"WITH a AS ({self._grouped([*counts, *ranges], rows)}), "
            f"c AS (SELECT *, {coarse}, {', '.join(centre)} FROM a), s AS (SELECT *, {', '.join(reach)} FROM c), "
            f"d AS (SELECT {columns}, {centred} FROM {rows} JOIN s ON {same}) {self._grouped(listed, 'd')}"
        )
        n = found[[f"n{i}" for i in each]].to_numpy(np.int64)
        totals = self._totals(found, n, [2] * len(sums))
        if not np.isfinite(totals).all() or (n < self._expected(found)).any():
            self._diagnose(refuse)
        centres = found[[f"c{i}" for i in each]].to_numpy(np.float64)
        groups = self._groups(found, n, np.nan_to_num(centres), totals)
        self._refuse_rounding(groups, [t.whole for t in self.terms])
        return groups

    def by_recursion(self, refuse: Refusal, *, centre_each: bool) -> Groups:
        """The engine's recursions for variances and covariances (Welford's), in one scan, or two to centre each group.

        They lose as many digits as the mean has over the deviation. A mean is that of the values as single-precision
        numbers, whose sum has no rounding as a rule, and of what they leave.
        """
        each = range(len(self.terms))
        rows = self._rows(self._tame)
        centre = [f"MIN(c{i}) AS c{i}" for i in each] if centre_each else []
        if centre_each:
            rows = self._centred(rows)
        single = [
            f"CASE WHEN ABS(x{i}) < 1e38 THEN CAST(CAST(x{i} AS FLOAT) AS DOUBLE) WHEN x{i} IS NOT NULL THEN 0e0 END"
            for i in each
        ]
        sums = [f"SUM({s}) AS h{i}, SUM(x{i} - ({s})) AS l{i}" for i, s in enumerate(single)]
        products = [
            f"VAR_POP(x{i}) AS p{k}" if i == j else f"COVAR_POP(x{i}, x{j}) AS p{k}"
            for k, (i, j) in enumerate(self.pairs)
        ]
        found = self._collect(self._grouped([*self._counts(each), *sums, *products, *centre], rows))
        counts = found[[f"n{i}" for i in each]].to_numpy(np.int64)
        self._check(found, counts, refuse)
        n = np.maximum(counts, 1)
        sums_of_single, rest = (np.nan_to_num(found[[f"{p}{i}" for i in each]].to_numpy(np.float64)) for p in "hl")
        if centre_each:
            origin = np.nan_to_num(found[[f"c{i}" for i in each]].to_numpy(np.float64))
            away = (sums_of_single + rest) / n
        else:  # seen from a number so short that n times it has no rounding
            origin = (sums_of_single / n).astype(np.float32).astype(np.float64)
            away = ((sums_of_single - n * origin) + rest) / n
        covariance = found[[f"p{k}" for k in range(len(self.pairs))]].to_numpy(np.float64)
        scaled = np.nan_to_num(covariance) * counts[:, indices(self.pairs)[0]]
        noise = np.zeros(counts.shape)
        if not centre_each:
            own = [k for k, (i, j) in enumerate(self.pairs) if i == j]
            terms = [self.pairs[k][0] for k in own]
            noise[:, terms] = np.abs(origin[:, terms]) * np.sqrt(counts[:, terms] * scaled[:, own])
        groups = self._found(found, counts, origin, away, scaled, noise, np.zeros(len(self.terms)))
        self._refuse_rounding(groups, [t.whole for t in self.terms])
        return groups

    def _refuse_rounding(self, groups: Groups, rounded: Sequence[bool]) -> None:
        """Raise for whole numbers that a double cannot hold, where their spread is not far above what it leaves out."""
        for k, (i, j) in enumerate(self.pairs):
            if i != j or not rounded[i]:
                continue
            mean, n = np.abs(groups.mean[:, i]), groups.counts[:, i]
            lost = (mean >= WHOLE_BELOW) & (n > 1) & (groups.products[:, k] < n * (_FAR_ABOVE * np.spacing(mean)) ** 2)
            if lost.any():
                raise OutcomeError(
                    f"{self.terms[i].label}: found whole numbers about {groups.mean[np.argmax(lost), i]:.3g}; beyond "
                    "2^53 (9.0e15) they are rounded, by more than their spread allows. Subtract a constant from the "
                    "column first."
                )

    def _centred(self, rows: str) -> str:
        """Rows as seen from the mean of their group."""
        each = range(len(self.terms))
        same = " AND ".join(f"x.{k} IS NOT DISTINCT FROM s.{k}" for k in self._keys) or "TRUE"
        means = self._grouped([f"AVG(x{i}) AS c{i}" for i in each], rows)
        kept = [*(f"x.{k}" for k in self._keys), *(f"w{k}" for k in range(len(self._conditions)))]
        shifted = [f"x.x{i} - s.c{i} AS x{i}, s.c{i}" for i in each]
        return f"(SELECT {', '.join([*kept, *shifted])} FROM {rows} JOIN ({means}) s ON {same}) x"

    def _totals(self, found: pd.DataFrame, counts: IntArray, n_parts: Sequence[int]) -> FloatArray:
        """Sums of the terms, then of the pairs; 0 where a group has no row within a term."""
        totals = np.zeros((len(found), len(n_parts)))
        for k, n in enumerate(n_parts):
            for p in range(n):
                totals[:, k] += found[f"s{k}_{p}"].to_numpy(np.float64)
        return np.where(counts[:, [*range(len(self.terms)), *indices(self.pairs)[0]]] > 0, totals, 0.0)

    def _groups(
        self,
        found: pd.DataFrame,
        counts: IntArray,
        centre: FloatArray,
        totals: FloatArray,
        resolution: FloatArray | None = None,
    ) -> Groups:
        shift, second = totals[:, : len(self.terms)], totals[:, len(self.terms) :]
        away = shift / np.maximum(counts, 1)
        first_of, second_of = indices(self.pairs)
        products = second - shift[:, first_of] * away[:, second_of]
        own = np.array(first_of) == np.array(second_of)
        products[:, own] = np.maximum(products[:, own], 0)  # a square that rounding took below zero
        if resolution is None:
            noise, resolution = np.zeros(counts.shape), np.zeros(len(self.terms))
        else:
            noise = shift * away
        return self._found(found, counts, np.where(counts > 0, centre, 0.0), away, products, noise, resolution)

    def _found(self, found: pd.DataFrame, counts: IntArray, *arrays: FloatArray) -> Groups:
        return Groups(self._group_keys(found), self.pairs, found["n"].to_numpy(np.int64), counts, *arrays)
