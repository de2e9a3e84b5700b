"""Numbers as users give them, or an error that names them."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError


def as_number(value: Any, *, name: str, expected: str = "a finite number", missing: bool = False) -> float:
    """``value`` as a float; NaN and infinity only where ``missing``."""
    array = _as_floats(value, name=name, expected=expected)
    if array.ndim or not (missing or np.isfinite(array)):
        raise CausalRecError(f"{name} is {value!r}; expected {expected}.")
    return float(array)


def as_finite(value: Any, *, name: str, expected: str = "finite numbers") -> FloatArray:
    """``value`` as an array of floats of any shape."""
    array = _as_floats(value, name=name, expected=expected)
    if not np.isfinite(array).all():
        raise CausalRecError(f"{name} is {value!r}; expected {expected}.")
    return array


def as_list(value: Any, *, name: str, expected: str) -> FloatArray:
    """``value`` as floats in a row, one at least."""
    array = np.atleast_1d(as_finite(value, name=name, expected=expected))
    if array.ndim != 1 or not array.size:
        raise CausalRecError(f"{name} is {value!r}; expected {expected}.")
    return array


def _as_floats(value: Any, *, name: str, expected: str) -> FloatArray:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" and not _holds_reals(array):
        raise CausalRecError(f"{name} is {value!r}; expected {expected}.")
    return array.astype(np.float64)


def _holds_reals(array: Any) -> bool:
    """Whether an array of objects has only numbers, such as fractions and decimals."""
    return array.dtype.kind == "O" and all(
        hasattr(v, "__float__") and not isinstance(v, str | bool) for v in array.ravel()
    )
