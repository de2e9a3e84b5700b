"""Verdicts on groups of predicted uplift by the intervals of their effects."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from causalrec._typing import AnyArray, FloatArray
from causalrec.nuisance import ArmScores
from causalrec.policy._groups import GroupMeans, cautious_means, quantile_groups, simultaneous_critical
from causalrec.policy._segment_inputs import check_group_rows, group_edges, group_mean, share_above
from causalrec.results.segments import NO_EFFECT, PERSUADABLES, SLEEPING_DOGS, UNDECIDED

_VERDICTS_SHARE = 0.8  # of the allowed error; intervals of segments have the rest


def verdicts(low: FloatArray, high: FloatArray, threshold: float, margin: float) -> AnyArray:
    """What intervals show: persuadables, sleeping dogs, no effect, or undecided where they reach beyond the margin.

    Intervals that are not known, NaN, are undecided.
    """
    small = (low >= -margin) & (high <= threshold + margin)
    found = np.where(small, NO_EFFECT, UNDECIDED)
    found = np.where(low > threshold, PERSUADABLES, found)
    return np.where(high < 0, SLEEPING_DOGS, found)


class Judged(NamedTuple):
    """Groups of predicted uplift: their ranges, means, intervals and verdicts, and what intervals of unions need."""

    edges: FloatArray
    means: GroupMeans
    predicted: FloatArray
    low: FloatArray
    high: FloatArray
    verdict: AnyArray
    critical: float

    def fields(self) -> dict[str, Any]:
        """As fields of a result."""
        means = self.means
        return {
            "group_low": self.edges[1:], "group_high": self.edges[:-1], "group_n": means.n,
            "group_predicted": self.predicted, "group_effect": means.effect, "group_std_error": means.std_error,
            "group_ci_low": self.low, "group_ci_high": self.high, "group_verdict": self.verdict,
        }  # fmt: skip

    def whole(self, name: str) -> tuple[float, float]:
        """The interval of a segment of whole groups that follows from those of its groups; infinite for others."""
        inside = self.verdict == name
        if not inside.any() or (name == UNDECIDED and (self.verdict == NO_EFFECT).any()):
            return -np.inf, np.inf
        share = self.means.share[inside] / self.means.share[inside].sum()
        return float(share @ self.low[inside]), float(share @ self.high[inside])


def no_groups() -> dict[str, Any]:
    """The fields of a result whose segments were given."""
    names = ("low", "high", "predicted", "effect", "std_error", "ci_low", "ci_high")
    empty: dict[str, Any] = {f"group_{name}": np.empty(0) for name in names}
    return empty | {"group_n": np.empty(0, dtype=np.int64), "group_verdict": np.empty(0, dtype=str)}


def judge_groups(
    scores: ArmScores,
    code: int,
    uplift: FloatArray,
    baseline: FloatArray | None,
    cut: float,
    *,
    n_groups: int,
    threshold: float,
    margin: float,
    level: float,
) -> Judged:
    """Verdicts on groups of predicted uplift; most of the allowed error is theirs, the rest that of their unions."""
    counts, error = scores.weight > 0, 1 - level
    group = quantile_groups(uplift[counts], scores.weight[counts], n_groups)
    k = int(group.max()) + 1
    edges = group_edges(uplift[counts], group, k)
    group = np.searchsorted(-edges[1:-1], -uplift, side="left")  # rows without weight too
    check_group_rows(scores, group, k, code)
    means = cautious_means(scores, group, k, code)
    half = float(stats.norm.isf(_VERDICTS_SHARE * error / 2 / k)) * means.std_error
    low, high = means.effect - half, means.effect + half
    above = share_above(baseline, cut, group, k, scores.weight)
    return Judged(
        edges, means, group_mean(uplift, group, k, scores.weight), low, high, verdicts(low, high, threshold, margin),
        simultaneous_critical(means.share, above, 1 - (1 - _VERDICTS_SHARE) * error),
    )  # fmt: skip
