"""Terms of a query for moments, and what comes back: centred moments by group that can be put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.engines.base import Dialect
from causalrec.engines.exact import literal_sql
from causalrec.moments import Moments

Pair: TypeAlias = tuple[int, int]
_WORST_NOISE = 1e4  # over the sum of squares: four of sixteen digits


@dataclass(frozen=True)
class Term:
    """A number in each row for which ``within`` holds.

    Attributes
    ----------
    sql : str
        An expression of the table's columns.
    label : str
        For messages: ``"metric 'revenue'"``.
    within : str, optional
        An SQL condition; all rows by default.
    bounds : pair of floats, optional
        What ``sql`` cannot leave, where that is known.
    whole : bool
        Whether it is a whole number.
    complete : bool
        Whether it is known that no value is null.
    rounded : bool
        Whether a whole number was made a double on the way, which beyond 2^53 leaves digits out.
    """

    sql: str
    label: str
    within: str | None = None
    bounds: tuple[float, float] | None = None
    whole: bool = False
    complete: bool = False
    rounded: bool = False

    @property
    def value_sql(self) -> str:
        """The number, and null where ``within`` does not hold."""
        return self._within(f"CAST({self.sql} AS DOUBLE)")

    def centred_sql(self, centre: float, *, exact: bool) -> str:
        """The number less ``centre``; ``exact`` subtracts whole numbers that a double does not hold as such."""
        if exact:
            return self._within(f"CAST(CAST({self.sql} AS DECIMAL(38, 0)) - {int(centre)} AS DOUBLE)")
        return f"{self.value_sql} - {literal_sql(centre)}" if centre else self.value_sql

    @property
    def range_sql(self) -> str:
        """The same in the type that it has: smaller ones are faster to compare."""
        return self._within(self.sql)

    def tame_sql(self, dialect: Dialect) -> str:
        """The number, and null as well where it is NaN, infinite or beyond 1e150."""
        return dialect.tame(self.value_sql, whole=self.whole)

    def _within(self, value: str) -> str:
        return value if self.within is None else f"CASE WHEN {self.within} THEN {value} END"


@dataclass(frozen=True)
class Groups:
    """Moments of G groups for T terms and P pairs of them.

    Attributes
    ----------
    keys : list of tuple
    rows : int array of shape (G,)
    counts : int array of shape (G, T)
        Rows within each term.
    centre, away : array of shape (G, T)
        The mean is their sum: two numbers, because one is too coarse for the products of groups that are put together
        where the mean is large.
    products : array of shape (G, P)
        Centred on the group's own means.
    noise : array of shape (G, T)
        The relative rounding of a double, times this, is about what a sum of squares may be wrong by.
    resolution : array of shape (T,)
        The same, for each row on its own, where values are far smaller than the range.
    """

    keys: list[tuple[Any, ...]]
    pairs: tuple[Pair, ...]
    rows: IntArray
    counts: IntArray
    centre: FloatArray
    away: FloatArray
    products: FloatArray
    noise: FloatArray
    resolution: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Means, of shape (G, T)."""
        return self.centre + self.away

    def merged(self, codes: IntArray, keys: list[tuple[Any, ...]]) -> Groups:
        """Groups with the same code put together; code k gets ``keys[k]``, negative codes are left out.

        The sums are taken in the order of the groups. Chan, Golub and LeVeque (1979).
        """
        kept = codes >= 0
        code = codes[kept]

        def added(values: Any) -> Any:
            total = np.zeros((len(keys), *values.shape[1:]), dtype=values.dtype)
            np.add.at(total, code, values[kept])
            return total

        counts = added(self.counts)
        origin = np.zeros((len(keys), self.centre.shape[1]))
        origin[code[::-1]] = self.centre[kept][::-1]  # the first group of each code
        away = np.zeros_like(self.away)
        away[kept] = (self.centre[kept] - origin[code]) + self.away[kept]
        mean = added(self.counts * away) / np.maximum(counts, 1)
        gap = np.zeros_like(away)
        gap[kept] = away[kept] - mean[code]
        first, second = indices(self.pairs)
        between = self.counts[:, first] * gap[:, first] * gap[:, second]
        products = added(self.products) + added(between)
        noise = added(self.noise)
        return Groups(keys, self.pairs, added(self.rows), counts, origin, mean, products, noise, self.resolution)

    @property
    def exact(self) -> bool:
        """Whether all sums of squares keep twelve digits, however far apart the groups are."""
        own = [k for k, (i, j) in enumerate(self.pairs) if i == j]
        terms = [self.pairs[k][0] for k in own]
        squares, counts, noise = self.products[:, own], self.counts[:, terms], self.noise[:, terms]
        constant = (squares == 0) & (noise == 0)
        noise = noise + np.sqrt(counts) * self.resolution[terms]
        return not bool(((noise > _WORST_NOISE * squares) & (counts > 1) & ~constant).any())

    def moments(self, group: int, terms: Sequence[int], names: Sequence[str]) -> Moments:
        """A group's moments of some terms that share their rows, under new names."""
        place = {pair: k for k, pair in enumerate(self.pairs)}
        products = [[self.products[group, place[min(i, j), max(i, j)]] for j in terms] for i in terms]
        return Moments(
            int(self.counts[group, terms[0]]), tuple(names), self.mean[group, list(terms)], np.array(products)
        )


def indices(pairs: Sequence[Pair]) -> tuple[list[int], list[int]]:
    """The first and the second of each pair."""
    return [i for i, _ in pairs], [j for _, j in pairs]
