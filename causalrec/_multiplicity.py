"""p-values adjusted for their number, for whatever tests several things at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causalrec._typing import FloatArray


def holm(pvalues: Sequence[float] | FloatArray) -> FloatArray:
    """Adjusted against any false rejection (Holm 1979, Scandinavian Journal of Statistics 6); NaN is no test.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(pvalues, dtype=np.float64)
    adjusted, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
