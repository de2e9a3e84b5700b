"""Aliases for arrays and frames, so that signatures read like their docstrings."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]

Scalar: TypeAlias = str | int | float | bool
RandomState: TypeAlias = int | np.random.Generator | None

__all__ = ["AnyArray", "ArrayLike", "BoolArray", "FloatArray", "IntArray", "RandomState", "Scalar"]
