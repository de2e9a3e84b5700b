"""Covariates as the named columns of a linear model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray
from causalrec._validation import check_covariates, check_length
from causalrec.exceptions import ColumnError

INTERCEPT = "intercept"


def design(A: Any, keep: BoolArray) -> tuple[FloatArray, tuple[str, ...]]:
    """An intercept and the covariates of the rows in ``keep``, with their names.

    Categories and text become an indicator of each level but the first that is there; columns of an array are named
    x0, x1, …

    Raises
    ------
    ColumnError
        For missing or infinite values, or columns that are neither numbers nor categories.
    """
    columns, names = [np.ones(int(keep.sum()))], [INTERCEPT]
    if A is not None:
        table = check_covariates(A.to_frame() if isinstance(A, pd.Series) else A)
        check_length(table.shape[0], len(keep), name="A")
        frame = table if isinstance(table, pd.DataFrame) else _named(table)
        for name in frame.columns:
            for term, values in _terms(str(name), frame[name][keep]):
                names.append(term)
                columns.append(values)
    return np.column_stack(columns), tuple(names)


def _named(table: Any) -> pd.DataFrame:
    return pd.DataFrame(table, columns=[f"x{j}" for j in range(table.shape[1])])


def _terms(name: str, values: pd.Series) -> list[tuple[str, FloatArray]]:
    absent = int(values.isna().sum())
    if absent:
        raise ColumnError(
            f"A: column {name!r} is missing in {absent} of {len(values)} rows; a projection needs every value. Fill it "
            "in a way that you can defend, or leave the column out."
        )
    api = pd.api.types
    if api.is_numeric_dtype(values.dtype) or api.is_bool_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise ColumnError(f"A: column {name!r} holds infinite values; expected finite numbers.")
        return [(name, numbers)]
    if isinstance(values.dtype, pd.CategoricalDtype) or api.is_string_dtype(values.dtype):
        kinds = pd.Categorical(values).remove_unused_categories()
        return [
            (f"{name}={level}", (kinds.codes == code).astype(np.float64))
            for code, level in enumerate(kinds.categories)
            if code
        ]
    raise ColumnError(
        f"A: column {name!r} is of type {values.dtype}; expected numbers, booleans or categories. Convert it first."
    )
