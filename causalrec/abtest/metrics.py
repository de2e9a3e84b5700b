"""What is measured: small frozen objects that declare the columns they need."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from causalrec._validation import list_some
from causalrec.abtest.hypotheses import Hypothesis
from causalrec.exceptions import CausalRecError, ColumnError

Missing: TypeAlias = Literal["raise", "drop", "zero"]
ProportionMethod: TypeAlias = Literal[
    "wald", "agresti-caffo", "newcombe", "miettinen-nurminen", "g", "fisher", "barnard", "boschloo"
]
PROPORTION_METHODS = get_args(ProportionMethod)


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """What all metrics share.

    Parameters
    ----------
    hypothesis : Superiority, NonInferiority or Equivalence, optional
        What is asked of this metric; the experiment's by default.
    where : str, optional
        An SQL condition on the row's columns: others do not count for this metric. It must not depend on what the
        treatment changed, or the arms stop being comparable.
    missing : {"raise", "drop", "zero"}
        What a missing value of the metric means: an error, a row that does not count, or zero.
    """

    hypothesis: Hypothesis | None = None
    where: str | None = None
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        if self.missing not in ("raise", "drop", "zero"):
            raise CausalRecError(f"missing is {self.missing!r}; expected 'raise', 'drop' or 'zero'.")

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""


def _covariates(columns: Sequence[str], outcome: str) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    twice = [name for name in names if names.count(name) > 1 or name == outcome]
    if twice:
        flaw = "is the outcome" if twice[0] == outcome else "is there twice"
        raise ColumnError(
            f"covariates are {list_some(names)}: {twice[0]!r} {flaw}; expected other columns, each "
            "once, measured before assignment."
        )
    return names


def _shares(winsorize: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if winsorize is None:
        return None
    try:
        low, high = winsorize if isinstance(winsorize, Sequence) else (0.0, float(winsorize))
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 <= low < high <= 1 or (low, high) == (0, 1):
        raise CausalRecError(
            f"winsorize is {winsorize!r}; expected the upper quantile, such as 0.99, or a lower and an upper one."
        )
    return float(low), float(high)


@dataclass(frozen=True)
class Mean(Metric):
    """The mean of a column.

    Parameters
    ----------
    column : str
    covariates : str or sequence of str
        Columns measured before assignment, by which the mean is adjusted (CUPED: Deng et al. 2013).
    winsorize : float or pair of floats, optional
        Clip the column at these quantiles of all arms together: one threshold for all. A float is the upper one.
    method : {"t", "z"}
        Welch's t, or the normal law.

    Examples
    --------
    >>> Mean("revenue", covariates=["revenue_pre"], winsorize=0.99).columns
    ('revenue', 'revenue_pre')
    """

    column: str
    covariates: Sequence[str] = field(default=(), kw_only=True)
    winsorize: float | tuple[float, float] | None = field(default=None, kw_only=True)
    method: Literal["t", "z"] = field(default="t", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "covariates", _covariates(self.covariates, self.column))
        object.__setattr__(self, "winsorize", _shares(self.winsorize))
        if self.method not in ("t", "z"):
            raise CausalRecError(f"method is {self.method!r}; expected 't' or 'z'.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self.column, *self.covariates


@dataclass(frozen=True)
class Proportion(Metric):
    """The share of units for which a 0/1 or boolean column is true.

    Parameters
    ----------
    column : str
    covariates : str or sequence of str
        As of :class:`Mean`.
    method : str
        ``"wald"`` (z), ``"agresti-caffo"``, ``"newcombe"``, ``"miettinen-nurminen"``, ``"g"``, ``"fisher"``,
        ``"barnard"`` or ``"boschloo"``; those other than ``"wald"`` are for independent units without covariates or
        strata.
    pooled : bool
        Whether the p-value of ``"wald"`` takes the variance under the null.
    correction : bool
        Continuity correction of ``"wald"``.

    Examples
    --------
    >>> Proportion("bought", covariates="bought_before").columns
    ('bought', 'bought_before')
    """

    column: str
    covariates: Sequence[str] = field(default=(), kw_only=True)
    method: ProportionMethod = field(default="wald", kw_only=True)
    pooled: bool = field(default=True, kw_only=True)
    correction: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "covariates", _covariates(self.covariates, self.column))
        if self.method not in PROPORTION_METHODS:
            raise CausalRecError(f"method is {self.method!r}; expected one of {list_some(PROPORTION_METHODS)}.")
        if self.covariates and self.method != "wald":
            raise CausalRecError(f"method {self.method!r} takes no covariates; drop them, or take method='wald'.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self.column, *self.covariates


@dataclass(frozen=True)
class Ratio(Metric):
    """The sum of one column over the sum of another: clicks per view (delta method: Deng et al. 2018).

    Parameters
    ----------
    numerator, denominator : str
    covariates : str or sequence of str
        Columns measured before assignment, any number.
    winsorize : float or pair of floats, optional
        Clip both columns, each at these quantiles of its own over the same rows of all arms.
    method : {"t", "z"}

    Examples
    --------
    >>> Ratio("clicks", "views").columns
    ('clicks', 'views')
    """

    numerator: str
    denominator: str
    covariates: Sequence[str] = field(default=(), kw_only=True)
    winsorize: float | tuple[float, float] | None = field(default=None, kw_only=True)
    method: Literal["t", "z"] = field(default="t", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "covariates", _covariates(self.covariates, self.numerator))
        object.__setattr__(self, "winsorize", _shares(self.winsorize))
        if self.method not in ("t", "z"):
            raise CausalRecError(f"method is {self.method!r}; expected 't' or 'z'.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self.numerator, self.denominator, *self.covariates


@dataclass(frozen=True)
class Quantile(Metric):
    """A quantile of a column, ``q`` in (0, 1), by linear interpolation (numpy's default, R's type 7).

    ``where="revenue > 0"`` takes it among those only; say so where the treatment may change who they are.

    Its error is by the density at the quantile, and too large where an arm has few units beyond it: by some 15 to 20
    percent for the 0.9 quantile of 100 exponential values. Intervals are then wide, and a test of segments that small
    finds little; take :func:`bootstrap_diff` there.

    Examples
    --------
    >>> Quantile("load_seconds", 0.9).columns
    ('load_seconds',)
    """

    column: str
    q: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.q < 1:
            raise CausalRecError(f"q is {self.q}; expected a number in (0, 1), such as 0.9.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)


def _is_known(as_of: object) -> bool:
    """Whether it is a point in time, or a finite number."""
    try:
        if isinstance(as_of, date | str | np.datetime64):
            return not pd.isna(pd.Timestamp(as_of))
        return math.isfinite(as_of)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True)
class Retention(Metric):
    """The share of users seen again ``days`` days or more after exposure, among those exposed for that long.

    A user counts as retained if ``last_seen - exposed >= days``; users who were exposed less than ``days`` days
    before the end of observation cannot have been, and are left out of both arms (and counted).

    Parameters
    ----------
    last_seen : str
        Time of the last activity; or, if a number, days from exposure to it. Missing: never seen again.
    days : float
        The horizon, > 0.
    exposed : str, optional
        Time of exposure (of the kind of ``last_seen``); the experiment's ``exposed_at`` by default.
    as_of : date, datetime, str or float, optional
        End of observation; the latest ``last_seen`` in the table by default.

    Examples
    --------
    >>> Retention("last_seen", days=7, exposed="signed_up", as_of="2025-01-31").columns
    ('last_seen', 'signed_up')
    """

    last_seen: str
    days: float = 7
    exposed: str | None = field(default=None, kw_only=True)
    as_of: date | str | float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.days < math.inf:
            raise CausalRecError(f"days is {self.days}; expected a finite number > 0, such as 7.")
        if self.as_of is not None and not _is_known(self.as_of):
            raise CausalRecError(f"as_of is {self.as_of!r}; expected a time, such as '2025-01-31', or a number.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.last_seen,) if self.exposed is None else (self.last_seen, self.exposed)


@dataclass(frozen=True)
class SampleRatio:
    """The sizes of the arms against their designed shares.

    Parameters
    ----------
    weights : mapping of arm to share, optional
        In any scale; equal by default.
    threshold : float
        A p-value below it is a mismatch.

    Examples
    --------
    >>> SampleRatio({"control": 0.9, "treatment": 0.1}).threshold
    0.001
    """

    weights: Mapping[Any, float] | None = None
    threshold: float = 0.001

    @property
    def columns(self) -> tuple[str, ...]:
        """None beside the arm."""
        return ()
