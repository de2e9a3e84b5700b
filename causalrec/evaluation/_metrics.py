"""Every metric by its name: value, influence function and name of the result, from units in the order of a score.

What single results, comparisons of scorers and searches share. A metric here is a function of the ranked units and of
a :class:`Choice`; it gives the estimate and its influence function in the order of the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.evaluation._areas import area_score, area_value, toc_mean, toc_mean_value
from causalrec.evaluation._ranked import Ranked, rank_units
from causalrec.evaluation._tops import check_top, lift_shares, top_by_arm, top_effect, top_units
from causalrec.evaluation.conventions import DEFAULT, check_convention, conventional
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances, arm_scores

RANKING_METRICS = ("qini", "auuc", "autoc", "uplift_at_k", "lift_share")
_NAMES = (*RANKING_METRICS, "rate_qini")  # other packages have two Qinis; here the rate is the same as the Qini
_STRATEGIES = ("overall", "by_group")


@dataclass(frozen=True)
class Choice:
    """A metric and its settings.

    Attributes
    ----------
    metric : str
        One of ``RANKING_METRICS``.
    k : float
        Share of the best units, of the metrics that look at a top.
    strategy : str
        Of ``uplift_at_k``.
    convention : str
        Whose definition; see :mod:`causalrec.evaluation.conventions`.
    """

    metric: str
    k: float = 0.1
    strategy: str = "overall"
    convention: str = DEFAULT

    def __post_init__(self) -> None:
        if self.metric not in _NAMES:
            raise CausalRecError(
                f"metric is {self.metric!r}; expected one of {list_some(RANKING_METRICS)}."
                f"{nearest(str(self.metric), RANKING_METRICS)}"
            )
        if self.strategy not in _STRATEGIES:
            raise CausalRecError(f"strategy is {self.strategy!r}; expected one of {list_some(_STRATEGIES)}.")
        if self.looks_at_top:
            check_share(self.k, name="k")
        check_convention(self.metric, self.convention)

    @property
    def looks_at_top(self) -> bool:
        """Whether ``k`` matters."""
        return self.metric in ("uplift_at_k", "lift_share")

    @property
    def of_peer(self) -> bool:
        """Whether the number is another package's, and not one of the formulas here."""
        return check_convention(self.metric, self.convention)

    @property
    def estimand(self) -> str:
        """Name of the result."""
        name = self.metric if not self.looks_at_top else f"{self.metric.removesuffix('_k')}_{100 * self.k:g}pct"
        name = name.replace("lift_share_", "lift_share_of_")
        if self.of_peer:
            return f"{name}_{self.convention}"
        return "qini" if name == "rate_qini" else name


def check_share(value: Any, *, name: str) -> float:
    """Return a share in (0, 1]."""
    if not isinstance(value, int | float | np.number) or not 0 < value <= 1:
        raise CausalRecError(f"{name} is {value!r}; expected a share in (0, 1], such as 0.1 for the top tenth.")
    return float(value)


def rank_rows(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any,
    nuisance: Nuisances | None,
    sample_weight: Any,
    clusters: Any,
    control: Any,
    arm: Any,
) -> Ranked:
    """Check what a metric was called with, and sort the rows."""
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    return rank_units(scores, uplift, arm=arm)


def estimate(choice: Choice, ranked: Ranked) -> tuple[float, FloatArray]:
    """The metric and its influence function in the order of the score."""
    if choice.of_peer:
        return conventional(choice.metric, choice.convention, ranked, k=choice.k, strategy=choice.strategy)
    if choice.metric in ("qini", "rate_qini"):
        return area_score(ranked, 0.5)
    if choice.metric == "auuc":
        return area_score(ranked, 0.0)
    if choice.metric == "autoc":
        return toc_mean(ranked)
    if choice.metric == "lift_share":
        return lift_shares(ranked, choice.k).estimate_and_influence()
    if choice.strategy == "by_group":
        return top_by_arm(ranked, choice.k)
    top = top_units(ranked, choice.k)
    check_top(ranked, top, choice.k)
    return top_effect(ranked, top)


def value(choice: Choice, ranked: Ranked) -> float:
    """The metric alone, where that costs less."""
    if not choice.of_peer:
        if choice.metric in ("qini", "rate_qini", "auuc"):
            return area_value(ranked, 0.0 if choice.metric == "auuc" else 0.5)
        if choice.metric == "autoc":
            return toc_mean_value(ranked)
    return estimate(choice, ranked)[0]


def without_information(choice: Choice, ranked: Ranked) -> bool:
    """Whether the metric is zero by its definition, as that of a constant score is; then it has no error either."""
    return ranked.constant and not choice.of_peer and choice.metric in ("qini", "rate_qini", "autoc")


def units_used(choice: Choice, ranked: Ranked) -> int:
    """Rows that the metric is an average over."""
    if choice.metric != "uplift_at_k" or choice.strategy == "by_group":
        return ranked.n
    return int(np.count_nonzero(top_units(ranked, choice.k)))
