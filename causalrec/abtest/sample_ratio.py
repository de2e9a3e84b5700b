"""Is the split as designed, in all and in every segment?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import chdtrc

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import NAN, SampleRatioResult, SegmentRatioResult

RatioMethod: TypeAlias = Literal["auto", "exact", "chi-square"]

_EXACT_BELOW = 1_000


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
    share = designed_shares(arms, weights)
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


def designed_shares(arms: Sequence[Any], weights: Mapping[Any, float] | None) -> FloatArray:
    """The shares of the arms, which sum to one; equal ones without weights.

    Raises
    ------
    TreatmentError
        For an arm without a weight, or weights that are negative or all zero.
    """
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
    segments = ["missing" if pd.isna(segment) else str(segment) for segment in tests]
    found = list(tests.values())
    return SegmentRatioResult(
        most_suspicious=segments[order[0]], pvalue=float(adjusted[order[0]]), threshold=threshold,
        mismatch=bool(adjusted[order[0]] < threshold), n_segments=len(tests),
        method="sample ratio test in each segment, Holm", segment=np.array([segments[i] for i in order]),
        n=np.array([found[i].n_obs for i in order]), statistic=np.array([found[i].statistic for i in order]),
        raw_pvalue=raw[order], adjusted_pvalue=adjusted[order],
    )  # fmt: skip
