"""Spending functions: how much of the error may be used up by a fraction of the information (Lan & DeMets 1983).

Each takes the fraction t and the error of one side. A two-sided test at alpha is two one-sided tests at alpha / 2, so
each side spends ``spending(t, alpha / 2)``; that is also what gsDesign and ldbounds mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError

Spending: TypeAlias = Callable[[float, float], float]


@dataclass(frozen=True)
class ObrienFleming:
    """Next to nothing early, nearly all at the end: alpha(t) = 2 (1 - Phi(z / sqrt(t))), 1 - Phi(z) = alpha / 2.

    The bounds resemble those of O'Brien and Fleming (1979); Lan & DeMets (1983), equation 5.

    Examples
    --------
    >>> print(f"{ObrienFleming()(0.5, 0.025):.6f}")
    0.001525
    """

    def __call__(self, fraction: float, alpha: float) -> float:
        """Error spent up to a fraction."""
        return 2 * float(ndtr(ndtri(alpha / 2) / math.sqrt(fraction))) if fraction > 0 else 0.0

    def __str__(self) -> str:
        return "O'Brien–Fleming"


@dataclass(frozen=True)
class Pocock:
    """Much early: alpha(t) = alpha log(1 + (e - 1) t), for bounds near Pocock's (1977); Lan & DeMets (1983).

    Examples
    --------
    >>> print(f"{Pocock()(0.5, 0.025):.6f}")
    0.015503
    """

    def __call__(self, fraction: float, alpha: float) -> float:
        """Error spent up to a fraction."""
        return alpha * math.log1p((math.e - 1) * fraction)

    def __str__(self) -> str:
        return "Pocock"


@dataclass(frozen=True)
class HwangShihDeCani:
    """alpha(t) = alpha (1 - exp(-gamma t)) / (1 - exp(-gamma)) (Hwang, Shih & De Cani 1990).

    ``gamma`` of -4 is near O'Brien and Fleming, 1 near Pocock, 0 spends evenly.

    Examples
    --------
    >>> print(f"{HwangShihDeCani(-4)(0.5, 0.025):.6f}")
    0.002980
    """

    gamma: float

    def __post_init__(self) -> None:
        if not abs(self.gamma) <= 40:
            raise CausalRecError(f"gamma is {self.gamma}; expected a number from -40 to 40, such as -4.")

    def __call__(self, fraction: float, alpha: float) -> float:
        """Error spent up to a fraction."""
        if abs(self.gamma) < 1e-12:
            return alpha * fraction
        return alpha * math.expm1(-self.gamma * fraction) / math.expm1(-self.gamma)

    def __str__(self) -> str:
        return f"Hwang–Shih–DeCani (gamma {self.gamma:g})"


@dataclass(frozen=True)
class PowerFamily:
    """alpha(t) = alpha t^rho (Kim & DeMets 1987); rho 3 is near O'Brien and Fleming, 1 spends evenly.

    Examples
    --------
    >>> print(f"{PowerFamily(2)(0.5, 0.025):.6f}")
    0.006250
    """

    rho: float

    def __post_init__(self) -> None:
        if not 0 < self.rho < math.inf:
            raise CausalRecError(f"rho is {self.rho}; expected a positive number, such as 2.")

    def __call__(self, fraction: float, alpha: float) -> float:
        """Error spent up to a fraction."""
        return alpha * math.pow(fraction, self.rho)

    def __str__(self) -> str:
        return f"power family (rho {self.rho:g})"


@dataclass(frozen=True)
class CustomSpending:
    """Shares of the error spent by given fractions, on straight lines between them, from nothing at 0 to all at 1.

    Parameters
    ----------
    fractions : sequence of float
        Increasing, in (0, 1].
    spent : sequence of float
        Share of the error spent by each, not decreasing, in [0, 1]; the last is 1 if the last fraction is.

    Examples
    --------
    >>> plan = CustomSpending([0.5, 1.0], [0.1, 1.0])
    >>> print(f"{plan(0.25, 0.05):.4f} {plan(0.75, 0.05):.4f}")
    0.0025 0.0275
    """

    fractions: tuple[float, ...]
    spent: tuple[float, ...]

    def __post_init__(self) -> None:
        fractions, spent = (tuple(float(x) for x in values) for values in (self.fractions, self.spent))
        known = list(zip(fractions, spent, strict=False))
        points = [*([] if known[:1] == [(0.0, 0.0)] else [(0.0, 0.0)]), *known]
        points += [(1.0, 1.0)] if points[-1][0] < 1 else []
        ends, shares = (list(values) for values in zip(*points, strict=True))
        if not (
            len(fractions) == len(spent) > 0
            and ends[-1] == 1
            and shares[-1] == 1
            and all(a < b for a, b in pairwise(ends))
            and all(a <= b for a, b in pairwise(shares))
        ):
            raise CausalRecError(
                f"found the fractions {list_some(fractions)} with the shares {list_some(spent)}; expected as many of "
                "each, fractions that rise within (0, 1], and shares of the error that do not fall within [0, 1], 1 at "
                "fraction 1. For example CustomSpending([0.5, 1.0], [0.1, 1.0])."
            )
        object.__setattr__(self, "fractions", tuple(ends))
        object.__setattr__(self, "spent", tuple(shares))

    def __call__(self, fraction: float, alpha: float) -> float:
        """Error spent up to a fraction."""
        return alpha * float(np.interp(fraction, self.fractions, self.spent))

    def __str__(self) -> str:
        return "custom spending"


_BY_NAME: dict[str, Spending] = {"obrien-fleming": ObrienFleming(), "pocock": Pocock()}
_WITH_NUMBER = {"hwang-shih-decani": "HwangShihDeCani(gamma=-4)", "power": "PowerFamily(rho=2)"}


def as_spending(spending: str | Spending) -> Spending:
    """The spending function of a name, or the function itself.

    Raises
    ------
    CausalRecError
        For an unknown name, or a family that needs a number.

    Examples
    --------
    >>> as_spending("pocock")
    Pocock()
    """
    if callable(spending):
        return spending
    if spending in _WITH_NUMBER:
        raise CausalRecError(f"spending {spending!r} is a family; give one of it, such as {_WITH_NUMBER[spending]}.")
    if spending not in _BY_NAME:
        raise CausalRecError(
            f"spending is {spending!r}; expected one of {list_some(_BY_NAME)}, or a function of the fraction and the "
            f"error, such as {' or '.join(_WITH_NUMBER.values())}.{nearest(str(spending), [*_BY_NAME, *_WITH_NUMBER])}"
        )
    return _BY_NAME[spending]


def spending_name(spending: Spending) -> str:
    """For results: the name of a family, or that of the user's function."""
    return getattr(spending, "__name__", "") or str(spending)
