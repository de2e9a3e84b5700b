r"""What a policy is worth: the mean outcome if it decided, its gain on another policy, its regret.

With scores :math:`\Gamma_{ia}` whose mean is the mean outcome under arm a (inverse probability around the arm means, or
doubly robust; :func:`causalrec.nuisance.arm_scores`) the value of giving row i arm a with probability
:math:`\pi_a(x_i)` is the mean of :math:`\sum_a \pi_a(x_i) \Gamma_{ia}` (Dudík, Langford and Li 2011, ICML, "Doubly
robust policy evaluation and learning", equation 1; Athey and Wager 2021, Econometrica 89, "Policy learning with
observational data", section 2). The policy has to come from other rows, or from a model that did not see these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, RandomState
from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.nuisance.assignment import policy_shares
from causalrec.nuisance.simultaneous import may_be_best, shortfall
from causalrec.results import NAN, PolicyRegretResult, PolicyValueResult


def policy_value(
    y: Any,
    policy: Any,
    treatment: Any,
    *,
    baseline: Any = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> PolicyValueResult:
    """The mean outcome if ``policy`` decided who gets which arm, and what that gains on ``baseline``.

    Errors are NaN where nothing varies, and where all rows are of one cluster.

    Parameters
    ----------
    y : array of shape (n,)
    policy : label, array of shape (n,) or (n, k), data frame, or AllocationResult
        Each row's arm (labels, codes, or 0/1), or the probabilities of all arms; one label gives everybody that arm.
    treatment : array of shape (n,)
        What each row had: 0/1, or labels with ``control``.
    baseline : as ``policy``, optional
        Control for everybody by default.
    propensity, nuisance, sample_weight, clusters
        As for :func:`causalrec.nuisance.arm_scores`.

    Raises
    ------
    TreatmentError
        For arms that are not in ``treatment``.
    CausalRecError
        For missing values, other shapes, or probabilities that do not sum to one.

    Examples
    --------
    >>> import numpy as np
    >>> treatment, x = np.repeat([1, 0], 50), np.tile([1, -1], 50)
    >>> value = policy_value(treatment * x, x > 0, treatment)
    >>> round(value.estimate, 4), round(value.difference, 4)
    (0.5, 0.5)
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    n, labels = len(scores.y), scores.labels
    shares = policy_shares(policy, labels, n_rows=n)
    other = policy_shares(labels[0] if baseline is None else baseline, labels, n_rows=n, name="baseline")
    value, influence = scores.average(shares)
    reference, other_influence = scores.average(other)
    weight = scores.weight / scores.n_obs
    error, gap_error = _error(scores, influence), _error(scores, influence - other_influence)
    return PolicyValueResult(
        **_interval(value, error, level), confidence_level=level, n_obs=scores.n_obs,
        method=f"{scores.method}; {_how(scores)}", estimand="policy_value", baseline=_written(other, labels),
        baseline_value=reference,
        **{f"difference{_suffix(key)}": v for key, v in _interval(value - reference, gap_error, level).items()},
        share_changed=float(weight @ np.abs(shares - other).sum(axis=1)) / 2,
        arm=np.array(labels, dtype=object), share=weight @ shares,
    )  # fmt: skip


def policy_regret(
    y: Any,
    policies: Mapping[str, Any],
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
    rng: RandomState = 0,
) -> PolicyRegretResult:
    """What each policy loses on the best of those given, and of those that give everybody one arm.

    The best policy of all is not known, and cannot be had from scores row by row (the mean of each row's highest score
    is far too high), so the regret is against the best of a list: the policies that you name, and "all <arm>" for every
    arm. In a simulation name the truth among them, such as ``"oracle": tau > 0``. Bounds hold for the truly best one,
    whichever that is (:func:`causalrec.nuisance.simultaneous.shortfall`).

    Parameters
    ----------
    policies : mapping of names to policies
        Each as for :func:`policy_value`.
    rng : int or Generator
        Of the draws behind the critical values.

    Raises
    ------
    CausalRecError
        As :func:`policy_value`; without a policy, for a name like ``"all <arm>"``, and for a single cluster.

    Examples
    --------
    >>> import numpy as np
    >>> treatment, x = np.repeat([1, 0], 50), np.tile([1, -1], 50)
    >>> result = policy_regret(treatment * x, {"x > 0": x > 0, "x < 0": x < 0}, treatment)
    >>> result.to_frame()[["policy", "regret"]].round(4).to_numpy().tolist()
    [['x > 0', 0.0], ['all 0', 0.5], ['all 1', 0.5], ['x < 0', 1.0]]
    """
    if not isinstance(policies, Mapping) or not policies:
        raise CausalRecError("policies is empty or no mapping; expected at least one, as {name: policy}.")
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    if np.isnan(scores.error(scores.weight)):
        raise CausalRecError("all rows are of one cluster, so nothing can be told of errors. Check clusters.")
    everybody = [name for name in policies if name in {f"all {label}" for label in scores.labels}]
    if everybody:
        raise CausalRecError(f"policies has the name {everybody[0]!r}, which is that of giving everybody one arm.")
    named = {f"all {label}": label for label in scores.labels} | {str(k): p for k, p in policies.items()}
    pairs = [
        scores.average(policy_shares(p, scores.labels, n_rows=len(scores.y), name=name)) for name, p in named.items()
    ]
    value = np.array([v for v, _ in pairs])
    covariance = _covariance(scores, [influence for _, influence in pairs])
    seed = np.random.default_rng(rng)
    low, high = shortfall(value, covariance, level, rng=seed)
    near = may_be_best(value, covariance, level, rng=seed)
    order = np.argsort(-value, kind="stable")
    error = np.sqrt(np.diag(covariance))[order]
    half = float(stats.norm.isf((1 - level) / 2)) * error
    names = np.array(list(named), dtype=object)[order]
    value = value[order]
    return PolicyRegretResult(
        best=str(names[0]), n_policies=len(names), confidence_level=level, n_obs=scores.n_obs,
        method=f"{scores.method}; comparisons with the best{_by_cluster(scores)}",
        policy=names, value=value, std_error=error, ci_low=value - half, ci_high=value + half, regret=value[0] - value,
        regret_ci_low=low[order], regret_ci_high=high[order], may_be_best=near[order].astype(np.int64),
    )  # fmt: skip


def _covariance(scores: ArmScores, influences: list[FloatArray]) -> FloatArray:
    """Covariance of estimates from their influence functions, by cluster where there are any."""
    found = np.empty((len(influences), len(influences)))
    for i, one in enumerate(influences):
        found[i, i] = scores.error(one) ** 2
        for j in range(i):
            found[i, j] = found[j, i] = (scores.error(one + influences[j]) ** 2 - found[i, i] - found[j, j]) / 2
    return found


def _error(scores: ArmScores, influence: FloatArray) -> float:
    """The standard error, or NaN where nothing varies: a zero would look like certainty."""
    error = scores.error(influence)
    return error if error > 1e-13 * float(np.abs(scores.y).max(initial=0.0)) else NAN


def _interval(estimate: float, error: float, level: float) -> dict[str, float]:
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else NAN
    return {"estimate": estimate, "std_error": error, "ci_low": estimate - half, "ci_high": estimate + half,
            "pvalue": pvalue}  # fmt: skip


def _suffix(key: str) -> str:
    return "" if key == "estimate" else f"_{key}"


def _written(shares: FloatArray, labels: tuple[Any, ...]) -> str:
    everybody = [str(label) for label, column in zip(labels, shares.T, strict=True) if (column == 1).all()]
    return f"all {everybody[0]}" if everybody else "baseline"


def _how(scores: ArmScores) -> str:
    return f"influence-function standard error{_by_cluster(scores)}"


def _by_cluster(scores: ArmScores) -> str:
    return "" if scores.clusters is None else ", clustered"
