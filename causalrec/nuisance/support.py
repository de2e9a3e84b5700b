"""Where treated and control units can be compared: weights from a score, common support, trimming, overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError, OverlapError, TreatmentError
from causalrec.results import OverlapResult

TARGETS = ("ate", "att", "atc", "ato", "atm")
_RULES = ("crump", "common_support")
_BINS = 40


def check_target(estimand: Any) -> str:
    """Return one of ``ate``, ``att``, ``atc``, ``ato`` (overlap), ``atm`` (the population that pairs would have)."""
    if estimand not in TARGETS:
        raise CausalRecError(
            f"estimand is {estimand!r}; expected one of {list_some(TARGETS)}.{nearest(str(estimand), TARGETS)}"
        )
    return str(estimand)


def balancing_weights(score: FloatArray, treatment: IntArray, estimand: str = "ate") -> tuple[FloatArray, FloatArray]:
    """The weight of each unit within its arm, and its derivative by the score, both of shape (n,).

    The weight is h(e) over the probability of the unit's own arm. h is 1 for the ate, e for the att, 1 - e for the
    atc, e (1 - e) for the ato and min(e, 1 - e) for the atm (Li, Morgan and Zaslavsky 2018, JASA 113, "Balancing
    covariates via propensity score weighting", table 1; the last is Li and Greene 2013).

    Examples
    --------
    >>> balancing_weights(np.array([0.2, 0.2]), np.array([1, 0]), "att")[0].tolist()
    [1.0, 0.25]
    """
    treated = treatment == 1
    own, other = np.where(treated, score, 1 - score), np.where(treated, 1 - score, score)
    if estimand in ("att", "atc"):
        target = treated if estimand == "att" else ~treated
        weight = np.where(target, 1.0, other / own)
        change = np.where(target, 0.0, -1 / own**2)
    elif estimand == "ato":
        weight, change = other, np.full(len(own), -1.0)
    elif estimand == "atm":
        weight = np.minimum(1.0, other / own)
        change = np.where(own > 0.5, -1 / own**2, 0.0)
    else:
        weight, change = 1 / own, -1 / own**2
    return weight, np.where(treated, change, -change)


def common_support(score: FloatArray, treatment: IntArray) -> tuple[float, float]:
    """The range that both arms share: the larger of their least scores, the smaller of their greatest.

    Examples
    --------
    >>> common_support(np.array([0.1, 0.4, 0.3, 0.9]), np.array([0, 0, 1, 1]))
    (0.3, 0.4)
    """
    arms: list[AnyArray] = [score[treatment == arm] for arm in (0, 1)]
    return float(max(a.min() for a in arms)), float(min(a.max() for a in arms))


def crump_bounds(
    score: FloatArray, estimand: str = "ate", sample_weight: FloatArray | None = None
) -> tuple[float, float]:
    """The range of scores that gives the most precise estimate: trim what lies outside.

    The set of units minimises the efficiency bound Σ c / (Σ m)² under a constant outcome variance. For the ate c is
    1 / (e (1 - e)) and m is 1, so that the range is [α, 1 - α] with
    1 / (α (1 - α)) = 2 E[1 / (e (1 - e)) | e in the range]; for the att c is e / (1 - e) and m is e, so that only
    scores near one are cut off, and for the atc the other way round (Crump, Hotz, Imbens and Mitnik 2009, Biometrika
    96, "Dealing with limited overlap in estimation of average treatment effects", corollary 1 and section 4).
    (0, 1) where trimming gains nothing.

    Examples
    --------
    >>> low, high = crump_bounds(np.array([0.001, 0.3, 0.5, 0.5, 0.7]))
    >>> round(low, 4), round(high, 4)
    (0.1314, 0.8686)
    """
    treated, control = (score, 1 - score)
    with np.errstate(divide="ignore"):
        cost, mass = {
            "att": (treated / control, treated),
            "atc": (control / treated, control),
        }.get(estimand, (1 / (treated * control), np.ones(len(score))))
        ratio = cost / np.where(mass > 0, mass, np.nan)
    ratio = np.where(np.isnan(ratio), 1.0, ratio)  # 1 is the least there is: no mass, no cost
    order = np.argsort(ratio)
    weight = 1.0 if sample_weight is None else sample_weight[order]
    costs, masses = np.cumsum(cost[order] * weight), np.cumsum(mass[order] * weight)
    last = np.append(ratio[order][1:] > ratio[order][:-1], True)  # equal scores stay together
    bound = np.full(len(score), np.inf)
    np.divide(costs, masses**2, out=bound, where=last & (masses > 0) & np.isfinite(costs))
    best = int(np.argmin(bound))
    if best == len(score) - 1 or not np.isfinite(bound[best]):
        return 0.0, 1.0
    limit = 2 * float(costs[best] / masses[best])
    if estimand in ("att", "atc"):
        return (0.0, 1 - 1 / limit) if estimand == "att" else (1 / limit, 1.0)
    alpha = 0.5 - np.sqrt(max(0.25 - 1 / limit, 0.0))
    return float(alpha), float(1 - alpha)


def trim_bounds(
    trim: Any,
    score: FloatArray,
    treatment: IntArray,
    *,
    estimand: str = "ate",
    sample_weight: FloatArray | None = None,
) -> tuple[float, float]:
    """Least and greatest score to keep, both included.

    Parameters
    ----------
    trim : None, float, pair of floats, ``"crump"`` or ``"common_support"``
        None keeps all; 0.1 is the range [0.1, 0.9].

    Raises
    ------
    CausalRecError
        For anything else.
    OverlapError
        When nothing of an arm is left.

    Examples
    --------
    >>> trim_bounds(0.1, np.array([0.05, 0.5, 0.5]), np.array([0, 0, 1]))
    (0.1, 0.9)
    """
    if trim is None:
        return 0.0, 1.0
    if isinstance(trim, str) and trim in _RULES:
        low, high = (
            common_support(score, treatment)
            if trim == "common_support"
            else crump_bounds(score, estimand, sample_weight)
        )
    else:
        low, high = _fixed_bounds(trim)
    inside = (score >= low) & (score <= high)
    for arm, name in ((1, "treated"), (0, "control")):
        found = score[treatment == arm]
        if not inside[treatment == arm].any():
            raise OverlapError(
                f"no {name} unit has a propensity in [{low:.4g}, {high:.4g}], which trim={trim!r} keeps; theirs run "
                f"from {found.min():.4g} to {found.max():.4g}. Use a wider range, or ask why the arms are so unlike."
            )
    return low, high


def _fixed_bounds(trim: Any) -> tuple[float, float]:
    try:
        pair = np.asarray(trim, dtype=np.float64)
    except (TypeError, ValueError):
        pair = np.array([])
    low, high = (float(pair), 1 - float(pair)) if pair.ndim == 0 else (*pair.tolist(), 0.0, 0.0)[:2]
    if pair.ndim > 1 or pair.size not in (1, 2) or not 0 <= low < high <= 1:
        raise CausalRecError(
            f"trim is {trim!r}; expected a score below 0.5 such as 0.1, a pair (low, high) of scores, "
            f"{' or '.join(map(repr, _RULES))}."
        )
    return low, high


def overlap(
    propensity: FloatArray,
    treatment: IntArray,
    *,
    method: str = "propensity as given",
    estimand: str = "ate",
    weights: FloatArray | None = None,
    share_clipped: float = 0.0,
) -> OverlapResult:
    """How comparable the arms are by their propensities: histograms, common support, effective sizes, trimming.

    Parameters
    ----------
    propensity : array of shape (n,)
        P(treated given X).
    treatment : 0/1 array of shape (n,) with both values
    method : str
        Where the propensity comes from, for the result.
    estimand : {"ate", "att", "atc", "ato", "atm"}
        Whose weights the effective sizes and trimming are of.
    weights : array of shape (n,), optional
        Weights within the arms of some adjustment, in place of those that the propensity gives.
    share_clipped : float
        Share of units whose propensity was moved to a bound, for the result.

    Raises
    ------
    TreatmentError
        When an arm is empty.

    Examples
    --------
    >>> print(overlap(np.array([0.1, 0.4, 0.3, 0.9]), np.array([0, 0, 1, 1])))
    Overlap of propensities (propensity as given): 2 treated and 2 control units
      range           0.1 to 0.9
      common support  [0.3, 0.4]; outside: 50.0% of units
      Crump trimming  none
      effective size  treated 1.6 of 2, control 1.9 of 2 (weights for the ate)
    """
    check_target(estimand)
    arms = [treatment == arm for arm in (0, 1)]
    counts = [int(arm.sum()) for arm in arms]
    if not all(counts):
        raise TreatmentError(f"treatment: {counts[1]} treated units of {len(treatment)}; overlap is of two arms.")
    low, high = common_support(propensity, treatment)
    crump_low, crump_high = crump_bounds(propensity, estimand)
    used = _finite_weights(propensity, treatment, estimand) if weights is None else weights
    edges = np.linspace(0, 1, _BINS + 1)
    before, after = (
        [np.histogram(propensity[arm], edges, weights=None if w is None else w[arm])[0] for arm in arms]
        for w in (None, used)
    )
    sizes = [float(used[arm].sum()) ** 2 / float(used[arm] @ used[arm]) for arm in arms]
    return OverlapResult(
        n_obs=len(propensity), min_propensity=float(propensity.min()), max_propensity=float(propensity.max()),
        share_outside_common_support=_share_outside(propensity, low, high),
        method=method, edges=edges, treated=before[1] / counts[1], control=before[0] / counts[0],
        n_treated=counts[1], n_control=counts[0], support_low=low, support_high=high,
        crump_low=crump_low, crump_high=crump_high,
        share_trimmed=_share_outside(propensity, crump_low, crump_high),
        ess_treated=sizes[1], ess_control=sizes[0], share_clipped=share_clipped, estimand=estimand,
        treated_after=after[1] / used[arms[1]].sum(), control_after=after[0] / used[arms[0]].sum(),
    )  # fmt: skip


def _share_outside(score: FloatArray, low: float, high: float) -> float:
    return float(((score < low) | (score > high)).mean())


def _finite_weights(score: FloatArray, treatment: IntArray, estimand: str) -> FloatArray:
    """:func:`balancing_weights`; a unit that was certain to be in the other arm outweighs all others."""
    with np.errstate(divide="ignore", invalid="ignore"):
        weight, _ = balancing_weights(score, treatment, estimand)
    for arm in (0, 1):
        endless = (treatment == arm) & np.isinf(weight)
        if endless.any():
            weight[treatment == arm] = endless[treatment == arm]
    return weight
