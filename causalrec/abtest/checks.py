"""Checks around the effects: is the split as designed, in every segment; do removed outliers or effects differ?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import chdtrc

from causalrec._typing import FloatArray
from causalrec._validation import check_columns, list_some, nearest
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.results import NAN, ABResult, HeterogeneityResult, OutlierResult, SampleRatioResult, SegmentRatioResult

RatioMethod: TypeAlias = Literal["auto", "exact", "chi-square"]

_EXACT_BELOW = 1_000
_EXPECTED_LOW = 5  # below, chi-square is a poor approximation (Cochran 1954)


def sample_ratio_test(
    counts: Mapping[Any, int],
    weights: Mapping[Any, float] | None = None,
    *,
    method: RatioMethod = "auto",
    correction: bool = False,
    threshold: float = 0.001,
) -> SampleRatioResult:
    """Test whether the arms have the sizes that the design asked for.

    Pearson's chi-square against the designed shares; for two arms and fewer than 1,000 units the exact
    binomial test (two-sided by the likelihood of the counts). A p-value below ``threshold`` is a sample ratio
    mismatch (Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments"). An arm of
    weight zero must be empty: a unit in it gives p = 0. An arm that has a weight but no count has no units: that an
    arm never showed is the plainest mismatch of all.

    Parameters
    ----------
    counts : mapping or Series of arm to number of units
        ``frame["variant"].value_counts()`` is one.
    weights : mapping or Series of arm to designed share, in any scale; equal by default
    method : {"auto", "exact", "chi-square"}
        ``"exact"`` (two arms of positive weight) and ``"chi-square"`` whatever the number of units.
    correction : bool
        Yates's continuity correction of chi-square, for two arms.
    threshold : float

    Raises
    ------
    TreatmentError
        For fewer than two arms, no units, counts that are not whole numbers >= 0, or arms that have no weight.
    CausalRecError
        For a threshold outside (0, 1), another method, an exact test or a correction with other than two arms.

    Examples
    --------
    >>> result = sample_ratio_test({"control": 44_700, "treatment": 45_489})
    >>> print(f"{result.statistic:.2f} {result.pvalue:.4f} {result.mismatch}")
    6.90 0.0086 False
    """
    if not 0 < threshold < 1:
        raise CausalRecError(f"threshold is {threshold}; expected a p-value in (0, 1), such as 0.001.")
    if method not in ("auto", "exact", "chi-square"):
        raise CausalRecError(f"method is {method!r}; expected 'auto', 'exact' or 'chi-square'.")
    counts, weights = _by_arm(counts, "counts"), None if weights is None else _by_arm(weights, "weights")
    arms = list(dict.fromkeys([*counts, *(weights or ())]))
    observed = np.array([counts.get(arm, 0) for arm in arms], dtype=np.float64)
    share = _designed_shares(arms, weights)
    _check_counts(arms, observed)
    used = share > 0
    if used.sum() != 2 and (method == "exact" or correction):
        raise CausalRecError(
            f"{int(used.sum())} arms have a weight; the exact test and the correction are for two. Take "
            "method='chi-square', correction=False."
        )
    n = int(observed.sum())
    exact = method == "exact" or (method == "auto" and not correction and n < _EXACT_BELOW)
    statistic, pvalue, name = _ratio_pvalue(observed, share, exact=exact, correction=correction)
    return SampleRatioResult(
        pvalue=pvalue,
        statistic=statistic,
        df=int(used.sum()) - 1,
        n_obs=n,
        threshold=threshold,
        mismatch=pvalue < threshold,
        method=name,
        arms=tuple(map(str, arms)),
        counts=tuple(int(c) for c in observed),
        expected=tuple(float(e) for e in n * share),
    )


def _by_arm(values: Any, name: str) -> dict[Any, Any]:
    """A mapping of arm to number: a Series is one."""
    if not hasattr(values, "keys"):
        raise CausalRecError(
            f"{name} is {values!r}; expected a mapping of arm to number, such as {{'A': 500, 'B': 510}}, or a Series."
        )
    return dict(values)


def _check_counts(arms: Sequence[Hashable], observed: FloatArray) -> None:
    if len(arms) < 2:
        raise TreatmentError(
            f"found {len(arms)} arms: {list_some(arms)}; a sample ratio needs at least two. Give the count of every "
            "designed arm, 0 where no unit was seen."
        )
    if not (np.isfinite(observed) & (observed >= 0) & (observed == np.floor(observed))).all() or not observed.any():
        raise TreatmentError(
            f"counts are {list_some(observed.tolist())}; expected whole numbers >= 0 with at least one unit."
        )


def _ratio_pvalue(
    observed: FloatArray, share: FloatArray, *, exact: bool, correction: bool
) -> tuple[float, float, str]:
    """Statistic, p-value and the test's name."""
    used = share > 0
    if observed[~used].any():
        return float("inf"), 0.0, "units in an arm of weight zero"
    observed, share = observed[used], share[used]
    n, df = observed.sum(), len(share) - 1
    distance = np.abs(observed - n * share)
    if correction:
        distance = np.maximum(distance - 0.5, 0.0)
    statistic = float((distance**2 / (n * share)).sum())
    if exact and df == 1:
        return (
            statistic,
            float(stats.binomtest(int(observed[0]), int(n), float(share[0])).pvalue),
            "exact binomial test",
        )
    if df == 0:
        return NAN, NAN, "no test: only one arm has a weight"
    name = f"Pearson chi-square test{' with continuity correction' if correction else ''}"
    return statistic, float(chdtrc(df, statistic)), name


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


def sample_ratio_by(
    counts: Mapping[tuple[Any, Any], int],
    weights: Mapping[Any, float] | None = None,
    *,
    threshold: float = 0.001,
) -> SegmentRatioResult:
    """Test the sample ratio within every segment or day, and name the most suspicious.

    A bug that loses users of one browser hides in the whole and shows there. Each segment has the test of
    :func:`sample_ratio_test` (exact for two arms and fewer than 1,000 units); p-values are adjusted by Holm's method.
    With three arms or more and fewer than five units expected in one, chi-square is an approximation at best.

    Parameters
    ----------
    counts : mapping of (arm, segment) to number of units
        An arm without units in a segment may be left out: it counts as 0 there if it occurs in any.
    weights : mapping of arm to designed share, optional
        The same in every segment; equal by default.
    threshold : float
        For the smallest adjusted p-value.

    Raises
    ------
    TreatmentError
        As :func:`sample_ratio_test`, and for no segments.
    CausalRecError
        For a threshold outside (0, 1).

    Examples
    --------
    >>> counts = {("A", "phone"): 5_000, ("B", "phone"): 5_050, ("A", "web"): 2_000, ("B", "web"): 1_700}
    >>> result = sample_ratio_by(counts)
    >>> result.most_suspicious, result.mismatch
    ('web', True)
    """
    arms = list(dict.fromkeys([*(arm for arm, _ in counts), *(weights or ())]))
    table: dict[Any, dict[Any, int]] = {}
    for (arm, segment), n in counts.items():
        table.setdefault(segment, dict.fromkeys(arms, 0))[arm] = n
    tests = {
        segment: sample_ratio_test(row, weights, threshold=threshold)
        for segment, row in table.items()
        if any(row.values())
    }
    if not tests:
        raise TreatmentError("found no segment with units; a sample ratio needs at least one. Check the filters.")
    raw = np.array([test.pvalue for test in tests.values()])
    adjusted = adjust_pvalues(raw, "holm")
    # Among equal p-values, such as zeros, the larger distance is worse.
    order = np.lexsort((np.array([-test.statistic for test in tests.values()]), raw))
    segments, found = list(tests), list(tests.values())
    return SegmentRatioResult(
        most_suspicious=str(segments[order[0]]), pvalue=float(adjusted[order[0]]), threshold=threshold,
        mismatch=bool(adjusted[order[0]] < threshold), n_segments=len(tests),
        method="sample ratio test in each segment, Holm", segment=np.array([str(segments[i]) for i in order]),
        n=np.array([found[i].n_obs for i in order]), statistic=np.array([found[i].statistic for i in order]),
        raw_pvalue=raw[order], adjusted_pvalue=adjusted[order],
    )  # fmt: skip


def heterogeneity_test(effects: Sequence[ABResult], *, dimension: str = "") -> HeterogeneityResult:
    """Test whether an effect differs between groups of units (Cochran 1954, "The combination of estimates").

    Q is the sum of (effect - weighted mean)^2 / variance, weights 1 / variance, and chi-square with groups - 1 degrees
    of freedom if the effect is one. The groups' errors must be independent and near normal: no unit, and no cluster, in
    two groups, and more than a few dozen units in each.

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
