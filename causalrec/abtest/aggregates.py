"""All that an analysis needs of a table: mergeable moments by arm and group, small enough to keep."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from causalrec.exceptions import CausalRecError
from causalrec.moments import Moments

Key: TypeAlias = tuple[Hashable, Hashable]  # (arm, group)

# Dimensions that are not columns of the table.
ALL = ""  # groups are the strata, or None
UNTRIGGERED = "__untriggered"  # units that no arm could affect; group None
TREND = "__trend"  # moments for the slope over days; group None


_RESERVED = ("value", "den", "rows")


def covariate_name(column: str) -> str:
    """What a covariate's column is called among the moments of a metric: other than the metric's own columns.

    Examples
    --------
    >>> covariate_name("revenue_pre"), covariate_name("value")
    ('revenue_pre', 'covariate value')
    """
    return f"covariate {column}" if column in _RESERVED or column.startswith("covariate ") else column


@dataclass(frozen=True)
class QuantileSummary:
    """A quantile of a cell, the variance of its estimate, and the units behind it.

    ``tied`` says that so many units share a value there that the quantile moves in steps: the variance, which is of a
    smooth distribution, means nothing then.
    """

    n: int
    value: float
    variance: float
    tied: bool = False


@dataclass(frozen=True)
class Cell:
    """What is known of one arm in one group.

    Attributes
    ----------
    n : int
        Units: clusters where rows are clustered, else rows.
    moments : mapping of metric to Moments
        Columns are ``value``, ``den`` (of a ratio), ``rows`` (the size of a cluster; clustered data only), then the
        covariates by ``covariate_name``; of the dimension ``TREND`` they are ``w``, ``dw``, ``ddw``, ``v``, ``dv``:
        sums over a unit's rows of the weight (1, or the denominator), of day x weight, of day^2 x weight, of the value,
        and of day x value.
    quantiles : mapping of metric to QuantileSummary
    """

    n: int
    moments: Mapping[str, Moments] = field(default_factory=dict)
    quantiles: Mapping[str, QuantileSummary] = field(default_factory=dict)

    def merge(self, other: Cell) -> Cell:
        """Both sets of units together; quantiles cannot be merged."""
        if self.quantiles or other.quantiles:
            raise CausalRecError("quantiles cannot be merged from aggregates; collect them from the whole table.")
        if set(self.moments) != set(other.moments):
            raise CausalRecError(
                f"cannot merge the metrics {sorted(self.moments)} with {sorted(other.moments)}; collect the same ones."
            )
        moments = {name: each.merge(other.moments[name]) for name, each in self.moments.items()}
        return Cell(self.n + other.n, moments)


@dataclass(frozen=True)
class Aggregates:
    """Cells by dimension, arm and group.

    ``cells[ALL]`` has a cell per arm and stratum; ``cells["device"]`` one per arm and device. ``clustered`` says
    whether a unit is a cluster of rows. ``n_immature`` counts, per retention metric, users exposed too late.
    """

    cells: Mapping[str, Mapping[Key, Cell]]
    clustered: bool = False
    n_rows: int = 0
    n_conflicting: int = 0  # units in several arms, which were dropped
    n_duplicates: int = 0  # repeated rows, which were dropped
    n_missing: Mapping[str, int] = field(default_factory=dict)  # rows that a metric leaves out
    n_immature: Mapping[str, int] = field(default_factory=dict)
    nested: Mapping[str, bool] = field(default_factory=dict)  # per segment: whether no cluster is in two groups
    thresholds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # metric -> winsorising limits
    as_of: Mapping[str, float] = field(default_factory=dict)  # retention metric -> end of observation

    @property
    def arms(self) -> tuple[Hashable, ...]:
        """The arms, in the order of the cells."""
        return tuple(dict.fromkeys(arm for arm, _ in self.cells[ALL]))

    def merge(self, other: Aggregates) -> Aggregates:
        """Aggregates of disjoint units together, in any order: a day's after the days before."""
        if self.clustered != other.clustered or set(self.cells) != set(other.cells):
            raise CausalRecError("cannot merge: the two were collected by different experiments.")
        if self.thresholds != other.thresholds:
            raise CausalRecError(
                f"cannot merge: one was clipped to {dict(self.thresholds)}, the other to {dict(other.thresholds)}, as "
                "winsorising quantiles are of the rows at hand. Collect all rows at once, or clip the columns before."
            )
        if self.as_of != other.as_of:
            raise CausalRecError(
                f"cannot merge: retention was observed until {dict(self.as_of)} in one and {dict(other.as_of)} in the "
                "other. Give both the same end by as_of=, or collect all rows at once."
            )
        cells = {}
        for dimension in self.cells:
            mine, theirs = dict(self.cells[dimension]), dict(other.cells[dimension])
            cells[dimension] = {
                key: mine[key].merge(theirs[key]) if key in mine and key in theirs else (mine | theirs)[key]
                for key in dict.fromkeys([*mine, *theirs])
            }

        def added(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
            return {k: one.get(k, 0) + two.get(k, 0) for k in dict.fromkeys([*one, *two])}

        return replace(
            self,
            cells=cells,
            n_rows=self.n_rows + other.n_rows,
            n_conflicting=self.n_conflicting + other.n_conflicting,
            n_duplicates=self.n_duplicates + other.n_duplicates,
            n_missing=added(self.n_missing, other.n_missing),
            n_immature=added(self.n_immature, other.n_immature),
            nested={k: v and other.nested.get(k, True) for k, v in self.nested.items()},
        )
