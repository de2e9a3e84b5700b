"""Who is in a segment: means and shares of the covariates beside those of everybody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_covariates, check_length
from causalrec.exceptions import ColumnError

_MOST_LEVELS = 20


class Profile(NamedTuple):
    """A row per segment and covariate: place of the segment, means inside and outside, standardised difference."""

    segment: IntArray
    covariate: AnyArray
    mean: FloatArray
    rest: FloatArray
    difference: FloatArray


def segment_profile(X: Any, group: IntArray, n_groups: int, weight: FloatArray) -> Profile:
    """Means of numbers and shares of levels, missing values left out, by segment and among the others.

    The difference is divided by the standard deviation among everybody; a covariate that does not vary has none and is
    left out. Of a category with very many levels the 20 most frequent are taken.

    Raises
    ------
    ColumnError
        For columns that are neither numbers, booleans, categories nor text.
    CausalRecError
        For another number of rows.
    """
    table = check_covariates(X)
    check_length(table.shape[0], len(group), name="X")
    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(table, columns=[f"x{j}" for j in range(table.shape[1])])
    names, rows = [], []
    for name in table.columns:
        for term, values in _columns(str(name), table[name]):
            found = _compared(values, group, n_groups, weight)
            if found is not None:
                names.append(term)
                rows.append(found)
    if not rows or n_groups < 2:
        none = np.empty(0)
        return Profile(np.empty(0, dtype=np.int64), np.empty(0, dtype=str), none, none, none)
    mean, rest, difference = np.array(rows).transpose(1, 2, 0)  # (g, m) each
    order = np.argsort(-np.nan_to_num(np.abs(difference), nan=-1.0), axis=1, kind="stable")
    across = np.arange(n_groups)[:, None]
    return Profile(
        np.repeat(np.arange(n_groups), len(names)), np.array(names)[order].ravel(), mean[across, order].ravel(),
        rest[across, order].ravel(), difference[across, order].ravel(),
    )  # fmt: skip


def _compared(values: FloatArray, group: IntArray, n_groups: int, weight: FloatArray) -> FloatArray | None:
    """Mean by group, mean of the others, standardised difference, shape (3, g); None where nothing varies."""
    seen = ~np.isnan(values)
    w, v, g = weight[seen], values[seen], group[seen]
    total = np.bincount(g, weights=w, minlength=n_groups)
    if not total.sum():
        return None
    centre = float(w @ v / w.sum())
    spread = float(np.sqrt(w @ (v - centre) ** 2 / w.sum()))
    if not spread > 1e-12 * max(abs(centre), 1e-300):
        return None
    others = 1.0 - np.eye(n_groups)
    sums = np.bincount(g, weights=w * v, minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, rest = sums / total, (others @ sums) / (others @ total)
    return np.array([mean, rest, (mean - rest) / spread])


def _columns(name: str, values: pd.Series) -> Iterator[tuple[str, FloatArray]]:
    api = pd.api.types
    if api.is_bool_dtype(values.dtype) or api.is_numeric_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        yield name, np.where(np.isfinite(numbers), numbers, np.nan)
    elif isinstance(values.dtype, pd.CategoricalDtype) or api.is_string_dtype(values.dtype) or values.dtype == object:
        codes, levels = pd.factorize(values)
        if not isinstance(values.dtype, pd.CategoricalDtype) and not all(isinstance(v, str) for v in levels):
            raise ColumnError(
                f"X: column {name!r} holds {levels[0]!r}; expected numbers, booleans, categories or text."
            )
        counts = np.bincount(codes[codes >= 0], minlength=len(levels))
        for code in np.sort(np.argsort(-counts, kind="stable")[:_MOST_LEVELS]):
            yield f"{name}={levels[code]}", np.where(codes < 0, np.nan, (codes == code).astype(np.float64))
    else:
        raise ColumnError(
            f"X: column {name!r} is of type {values.dtype}; expected numbers, booleans, categories or text. Convert "
            "it, or leave it out."
        )
