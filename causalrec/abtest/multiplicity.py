"""p-values corrected for having looked at several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError

_Key = TypeVar("_Key")
_Values: TypeAlias = Sequence[float] | FloatArray


@overload
def adjust_pvalues(pvalues: pd.Series, method: str = "holm") -> pd.Series: ...
@overload
def adjust_pvalues(pvalues: Mapping[_Key, float], method: str = "holm") -> dict[_Key, float]: ...
@overload
def adjust_pvalues(pvalues: _Values, method: str = "holm") -> FloatArray: ...


def adjust_pvalues(pvalues: Any, method: str = "holm") -> Any:
    """Correct p-values for their number: reject where the adjusted one is below the level.

    Parameters
    ----------
    pvalues : array of any shape, Series or mapping
        A NaN stays NaN and does not count as a test.
    method : str
        Against any false rejection (family-wise): ``"bonferroni"``; ``"sidak"`` (independent tests); ``"holm"``
        (Holm 1979; as safe as Bonferroni and never weaker); ``"holm-sidak"``; ``"hochberg"`` (1988; independent or
        positively dependent tests). Against a large share of false rejections: ``"bh"`` (Benjamini and Hochberg 1995;
        independent or positively dependent tests), ``"by"`` (Benjamini and Yekutieli 2001; any dependence).
        statsmodels' names of these are known too: ``"fdr_bh"``, ``"fdr_by"``, ``"simes-hochberg"``.

    Returns
    -------
    The same kind as given: a Series with its index, a dict with its keys, or an array of the same shape.

    Raises
    ------
    CausalRecError
        For an unknown method, or values outside [0, 1].

    Examples
    --------
    >>> adjust_pvalues({"ctr": 0.01, "revenue": 0.04, "retained": 0.03}, "holm")
    {'ctr': 0.03, 'revenue': 0.06, 'retained': 0.06}
    >>> adjust_pvalues([0.01, float("nan"), 0.04], "bh")
    array([0.02,  nan, 0.04])
    """
    method = {"fdr_bh": "bh", "fdr_by": "by", "simes-hochberg": "hochberg"}.get(method, method)
    if method not in _METHODS:
        raise CausalRecError(
            f"method is {method!r}; expected one of {list_some(_METHODS, 10)}.{nearest(str(method), _METHODS)}"
        )
    if isinstance(pvalues, Mapping):
        adjusted = adjust_pvalues(np.array(list(pvalues.values()), dtype=np.float64), method)
        return dict(zip(pvalues, adjusted.tolist(), strict=True))
    values = np.asarray(pvalues, dtype=np.float64)
    present = ~np.isnan(values)
    found = values[present]
    if ((found < 0) | (found > 1)).any():
        outside = found[(found < 0) | (found > 1)]
        raise CausalRecError(f"pvalues hold {list_some(outside.tolist())}; expected numbers in [0, 1], or NaN.")
    order = np.argsort(found)
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(_METHODS[method](found[order]), 1.0)
    result = np.full(values.shape, np.nan)
    result[present] = adjusted
    return pd.Series(result, index=pvalues.index, name=pvalues.name) if isinstance(pvalues, pd.Series) else result


# Each takes the p-values in rising order.


def _bonferroni(p: FloatArray) -> FloatArray:
    return p * len(p)


def _sidak(p: FloatArray) -> FloatArray:
    return _any_of(p, np.full(len(p), len(p)))


def _holm(p: FloatArray) -> FloatArray:
    return np.maximum.accumulate(p * _left(p))


def _holm_sidak(p: FloatArray) -> FloatArray:
    return np.maximum.accumulate(_any_of(p, _left(p)))


def _hochberg(p: FloatArray) -> FloatArray:
    return _running_minimum(p * _left(p))


def _benjamini_hochberg(p: FloatArray) -> FloatArray:
    return _running_minimum(p * len(p) / np.arange(1, len(p) + 1))


def _benjamini_yekutieli(p: FloatArray) -> FloatArray:
    return np.asarray(_benjamini_hochberg(p) * (1 / np.arange(1, len(p) + 1)).sum())


def _left(p: FloatArray) -> FloatArray:
    """How many hypotheses are left at each step: m, m - 1, …, 1."""
    return np.arange(len(p), 0, -1, dtype=np.float64)


def _any_of(p: FloatArray, m: FloatArray) -> FloatArray:
    """1 - (1 - p)^m, without losing a small p."""
    with np.errstate(divide="ignore"):  # p = 1
        return np.asarray(-np.expm1(m * np.log1p(-p)))


def _running_minimum(values: FloatArray) -> FloatArray:
    """The least of each value and those after it."""
    return np.asarray(np.minimum.accumulate(values[::-1])[::-1])


_METHODS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "bonferroni": _bonferroni,
    "sidak": _sidak,
    "holm": _holm,
    "holm-sidak": _holm_sidak,
    "hochberg": _hochberg,
    "bh": _benjamini_hochberg,
    "by": _benjamini_yekutieli,
}
