"""Checks before any effect is read: is the split the one that was designed, is each unit in one arm?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray
from causalrec._validation import check_columns, list_some, nearest
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import SampleRatioResult

_EXACT_BELOW = 1_000


def sample_ratio_test(
    counts: Mapping[Any, int], weights: Mapping[Any, float] | None = None, *, threshold: float = 0.001
) -> SampleRatioResult:
    """Test whether the arms have the sizes that the design asked for.

    Pearson's chi-square against the designed shares; for two arms and fewer than 1,000 units the exact
    binomial test (two-sided by the likelihood of the counts). A p-value below ``threshold`` is a sample ratio
    mismatch (Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments"). An arm of
    weight zero must be empty: a unit in it gives p = 0. An arm that has a weight but no count has no units: that an
    arm never showed is the plainest mismatch of all.

    Parameters
    ----------
    counts : mapping of arm to number of units
    weights : mapping of arm to designed share, in any scale; equal by default
    threshold : float

    Raises
    ------
    TreatmentError
        For fewer than two arms, no units, counts that are not whole numbers >= 0, or arms that have no weight.
    CausalRecError
        For a threshold outside (0, 1).

    Examples
    --------
    >>> result = sample_ratio_test({"control": 44_700, "treatment": 45_489})
    >>> print(f"{result.statistic:.2f} {result.pvalue:.4f} {result.mismatch}")
    6.90 0.0086 False
    """
    if not 0 < threshold < 1:
        raise CausalRecError(f"threshold is {threshold}; expected a p-value in (0, 1), such as 0.001.")
    arms = list(dict.fromkeys([*counts, *(weights or ())]))
    observed = np.array([counts.get(arm, 0) for arm in arms], dtype=np.float64)
    share = _designed_shares(arms, weights)
    if len(arms) < 2:
        raise TreatmentError(
            f"found {len(arms)} arms: {list_some(arms)}; a sample ratio needs at least two. Give the count of every "
            "designed arm, 0 where no unit was seen."
        )
    if not (np.isfinite(observed) & (observed >= 0) & (observed == np.floor(observed))).all() or not observed.any():
        raise TreatmentError(
            f"counts are {list_some(observed.tolist())}; expected whole numbers >= 0 with at least one unit."
        )
    n = int(observed.sum())
    expected = n * share
    used = share > 0
    df = int(used.sum()) - 1
    if observed[~used].any():
        statistic, pvalue, method = float("inf"), 0.0, "units in an arm of weight zero"
    elif len(arms) == 2 and used.all() and n < _EXACT_BELOW:
        statistic = float(((observed - expected) ** 2 / expected).sum())
        pvalue = float(stats.binomtest(int(observed[0]), n, float(share[0])).pvalue)
        method = "exact binomial test"
    else:
        statistic = float(((observed - expected)[used] ** 2 / expected[used]).sum())
        pvalue = float(stats.chi2.sf(statistic, df)) if df else 1.0
        method = "Pearson chi-square test"
    return SampleRatioResult(
        pvalue=pvalue,
        statistic=statistic,
        df=df,
        n_obs=n,
        threshold=threshold,
        mismatch=pvalue < threshold,
        method=method,
        arms=tuple(map(str, arms)),
        counts=tuple(int(c) for c in observed),
        expected=tuple(float(e) for e in expected),
    )


def _designed_shares(arms: list[Hashable], weights: Mapping[Any, float] | None) -> FloatArray:
    if weights is None:
        return np.full(len(arms), 1 / max(len(arms), 1))
    unknown = [arm for arm in arms if arm not in weights]
    if unknown:
        raise TreatmentError(
            f"arm {unknown[0]!r} has no weight; weights are given for {list_some(weights)}."
            f"{nearest(str(unknown[0]), map(str, weights))}"
        )
    values = np.array([weights[arm] for arm in arms], dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0)).all() or not values.any():
        raise TreatmentError(f"weights are {list_some(values.tolist())}; expected weights >= 0 with a positive sum.")
    return np.asarray(values / values.sum())


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
