"""Checks around the effects: do they differ between segments, do removed outliers between arms; who is in two arms?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import chdtrc

from causalrec._typing import FloatArray
from causalrec._validation import check_columns, list_some
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.results import NAN, ABResult, HeterogeneityResult, OutlierResult

_FEW = 30  # units in an arm of a group, below which errors are not to be taken as known
_EXPECTED_LOW = 5  # below, chi-square is a poor approximation (Cochran 1954)


def heterogeneity_test(effects: Sequence[ABResult], *, dimension: str = "") -> HeterogeneityResult:
    """Test whether an effect differs between groups of units (Cochran 1954, "The combination of estimates").

    Q is the sum of (effect - weighted mean)^2 / variance, weights 1 / variance, and chi-square with groups - 1 degrees
    of freedom if the effect is one. The groups' errors must be independent and near normal: no unit, and no cluster, in
    two groups, and more than a few dozen units in each: the errors are taken as known, so that with ten units an arm 5%
    tests reject some 6 to 8% of the time where effects do not differ. ``method`` says so of fewer than 30.

    Parameters
    ----------
    effects : sequence of ABResult
        One metric, one treatment against one control, a result per group. Groups whose error is zero or NaN do not
        count; ``method`` says how many.
    dimension : str
        What the groups are of, for the result.

    Returns
    -------
    HeterogeneityResult
        With fewer than two groups that count, statistic and p-value are NaN.

    Raises
    ------
    CausalRecError
        For no effects, or for several metrics or arms.

    Examples
    --------
    >>> from causalrec.abtest import welch_test
    >>> phone, web = welch_test(10.0, 4.0, 400, 10.9, 4.0, 400), welch_test(10.0, 4.0, 400, 10.1, 4.0, 400)
    >>> print(f"{heterogeneity_test([phone, web], dimension='device').pvalue:.6f}")
    0.000063
    """
    compared = {(e.metric, e.control, e.treatment) for e in effects}
    if len(compared) != 1:
        raise CausalRecError(
            f"found effects of {len(compared)} (metric, control, treatment): {list_some(sorted(compared))}; expected "
            "the groups of exactly one. Test each apart."
        )
    [(metric, control, treatment)] = compared
    estimate = np.array([e.estimate for e in effects])
    error = np.array([e.std_error for e in effects])
    used = np.isfinite(estimate) & np.isfinite(error) & (error > 0)
    estimate, weight = estimate[used], 1 / error[used] ** 2
    df = int(used.sum()) - 1
    q = pvalue = NAN
    if df >= 1:
        q = float((weight * (estimate - (weight @ estimate) / weight.sum()) ** 2).sum())
        pvalue = float(chdtrc(df, q))
    left_out = len(effects) - int(used.sum())
    notes = [f"; {left_out} groups without a standard error left out"] * (left_out > 0)
    notes += ["; no test: it needs two groups"] * (df < 1)
    n_small = sum(min(e.n_control, e.n_treatment) < _FEW for e, counts in zip(effects, used, strict=True) if counts)
    if n_small and df >= 1:
        notes.append(f"; {n_small} groups have fewer than {_FEW} units in an arm, where it rejects too often")
    return HeterogeneityResult(
        metric=metric, control=control, treatment=treatment, dimension=dimension, statistic=q, df=max(df, 0),
        pvalue=pvalue, n_groups=int(used.sum()), method=f"Cochran's Q{''.join(notes)}",
    )  # fmt: skip


def outlier_report(
    metric: str,
    *,
    low: float,
    high: float,
    n: Mapping[Any, int],
    n_outside: Mapping[Any, int],
    mean: Mapping[Any, float],
    mean_inside: Mapping[Any, float],
) -> OutlierResult:
    """Say who is beyond the thresholds ``low`` and ``high`` in each arm, and whether their share differs between arms.

    Pearson's chi-square for the table of arms by inside and outside (for two arms the pooled z test of two
    proportions); Fisher's exact test for two arms where fewer than five are expected in a cell. If the shares differ,
    removing outliers removes a part of the effect.

    Parameters
    ----------
    metric : str
    low, high : float
        The thresholds; one of them may be infinite.
    n, n_outside : mapping of arm to number of units
        All of them, and those below ``low`` or above ``high``.
    mean, mean_inside : mapping of arm to float
        Of all units, and of those inside.

    Returns
    -------
    OutlierResult
        Where no unit is outside, or all are, ``pvalue`` is NaN and ``method`` says so.

    Raises
    ------
    TreatmentError
        For fewer than two arms, or mappings of other arms.
    OutcomeError
        For counts that are not whole numbers with 0 <= n_outside <= n, n > 0.

    Examples
    --------
    >>> report = outlier_report(
    ...     "rounds", low=float("-inf"), high=500.0, n={"A": 10_000, "B": 10_000}, n_outside={"A": 95, "B": 140},
    ...     mean={"A": 52.0, "B": 53.5}, mean_inside={"A": 45.1, "B": 44.9},
    ... )
    >>> print(f"{report.pvalue:.4f}")
    0.0031
    """
    arms = list(n)
    if len(arms) < 2 or any(set(each) != set(arms) for each in (n_outside, mean, mean_inside)):
        raise TreatmentError(
            f"{metric}: n is of the arms {list_some(arms)}, n_outside of {list_some(n_outside)}; expected the same two "
            "arms or more in all mappings."
        )
    total = np.array([n[arm] for arm in arms], dtype=np.float64)
    outside = np.array([n_outside[arm] for arm in arms], dtype=np.float64)
    whole = (total == np.floor(total)) & (outside == np.floor(outside))
    if not (whole & (outside >= 0) & (outside <= total) & (total > 0)).all():
        raise OutcomeError(
            f"{metric}: {list_some(outside.tolist())} of {list_some(total.tolist())} units are outside; expected whole "
            "numbers with 0 <= outside <= n and n > 0."
        )
    pvalue, method = _share_differs(total, outside)
    return OutlierResult(
        metric=metric, low=float(low), high=float(high), pvalue=pvalue, method=method, arms=tuple(map(str, arms)),
        n=tuple(int(v) for v in total), n_outside=tuple(int(v) for v in outside),
        mean=tuple(float(mean[arm]) for arm in arms), mean_inside=tuple(float(mean_inside[arm]) for arm in arms),
    )  # fmt: skip


def _share_differs(total: FloatArray, outside: FloatArray) -> tuple[float, str]:
    """P-value and name of the test that all arms have the same share outside."""
    table = np.array([outside, total - outside])
    margins = table.sum(axis=1, keepdims=True)
    if not margins.all():
        return NAN, f"no test: {'no' if margins[0] == 0 else 'every'} unit is outside"
    expected = margins * total / total.sum()
    if len(total) == 2 and expected.min() < _EXPECTED_LOW:
        return float(stats.fisher_exact(table.astype(np.int64)).pvalue), "Fisher's exact test"
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chdtrc(len(total) - 1, statistic)), "Pearson chi-square test"


def assignment_counts(
    frame: pd.DataFrame, *, unit: str, variant: str, on_conflict: Literal["raise", "drop"] = "raise"
) -> tuple[pd.DataFrame, int]:
    """Find units that were seen in more than one arm; refuse them, or drop and count them.

    Returns the frame (a new one if anything was dropped) without conflicting units and without
    exact duplicates of whole rows, and the number of conflicting units. A unit that is seen with an arm
    and without one (missing) conflicts too. Rows of one unit that agree on the arm but differ elsewhere stay.

    Raises
    ------
    ColumnError
        When a column is missing.
    TreatmentError
        With the count and some ids, when there are conflicts and ``on_conflict="raise"``; for rows without a unit.
    CausalRecError
        For another ``on_conflict``.

    Examples
    --------
    >>> frame = pd.DataFrame({"user": [1, 1, 2], "arm": ["A", "B", "A"]})
    >>> clean, n_conflicts = assignment_counts(frame, unit="user", variant="arm", on_conflict="drop")
    >>> clean["user"].tolist(), n_conflicts
    ([2], 1)
    """
    if on_conflict not in ("raise", "drop"):
        raise CausalRecError(f"on_conflict is {on_conflict!r}; expected 'raise' or 'drop'.")
    check_columns(frame.columns, [unit, variant], where="assignments")
    n_without = int(frame[unit].isna().sum())
    if n_without:
        raise TreatmentError(
            f"{n_without} of {len(frame)} rows have no {unit!r}, so their unit cannot be known. Drop them."
        )
    repeated = frame[unit].duplicated(keep=False)
    if not repeated.any():
        return frame, 0
    arms = frame[repeated].groupby(unit, observed=True)[variant].nunique(dropna=False)
    conflicting = arms.index[arms > 1]
    if len(conflicting) and on_conflict == "raise":
        raise TreatmentError(
            f"{len(conflicting)} of {frame[unit].nunique()} units are in more than one arm, such as {unit} "
            f"{list_some(conflicting, 5)}. Find out why; or drop them with on_conflict='drop' and say so."
        )
    kept = frame[~frame[unit].isin(conflicting)].drop_duplicates()
    return kept.reset_index(drop=True), len(conflicting)
