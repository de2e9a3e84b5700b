"""Query ids as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import IntArray
from causalrec._validation import check_length
from causalrec.exceptions import CausalRecError


def query_codes(query: Any, n_rows: int, *, name: str = "query") -> tuple[IntArray, pd.Index]:
    """Code ids of shape (n,) as 0..q-1 in ascending order of the ids, and give the ids.

    Raises
    ------
    CausalRecError
        For another length, or missing ids.
    """
    values = pd.Series(np.asarray(query))
    check_length(len(values), n_rows, name=name)
    n_missing = int(values.isna().sum())
    if n_missing:
        raise CausalRecError(f"{name}: {n_missing} of {n_rows} ids are missing. Drop those rows, or give each an id.")
    codes, ids = pd.factorize(values, sort=True)
    return np.asarray(codes, dtype=np.int64), pd.Index(ids)
