"""Profit over the share treated, the share that is best with its honest interval, and the return on what is spent."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from causalrec._ratios import fieller_interval
from causalrec._typing import FloatArray, IntArray, RandomState
from causalrec._validation import check_confidence_level, check_vector
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.nuisance.assignment import policy_shares
from causalrec.nuisance.scores import arm_code
from causalrec.nuisance.simultaneous import largest_quantile, may_be_best, normal_draws
from causalrec.policy._inputs import as_pandas, check_amount, cost_table, effect_table, value_column
from causalrec.policy._path import make_path
from causalrec.policy._process import ScoredPath, gains_at, grid, score_steps
from causalrec.results import NAN, EffectResult, ProfitCurveResult

_POINTS = 100
_FEWEST = 50  # rows between two points: fewer have no normal mean


def profit_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    value: Any,
    cost: Any,
    fixed_cost: float = 0.0,
    arm: Any = None,
    label: str = "model",
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
    rng: RandomState = 0,
) -> ProfitCurveResult:
    r"""Profit per unit of the population by share treated, highest predicted profit first, and the best share.

    A unit's predicted profit is value times predicted uplift less cost, with the best of its arms. With q treated the
    profit is the mean of :math:`v_i (\Gamma_{ia} - \Gamma_{i0}) - c_{ia}` over the units above the cut, less the fixed
    cost: the gain curve of net effects. Intervals take the predictions as given, and count that the cut is estimated.

    The best share is where a noisy curve is highest, and has no normal error (it converges with the cube root of n).
    Its set is found by turning a test around: a share is left out when some other share's profit is higher by more
    than the largest of such differences would be by chance, by the joint normal distribution of all points
    (:func:`causalrec.nuisance.simultaneous.may_be_best`). A flat top gives a wide set, as it should. In simulations of
    2,000 rows the set held the best share in 97% and more, and the band over all shares held the curve in 93 to 95%.

    A cost that depends on what people do, such as a coupon redeemed, belongs into the outcome: subtract it from y.

    Parameters
    ----------
    y, treatment, propensity, nuisance, sample_weight, clusters, control
        As for :func:`causalrec.nuisance.arm_scores`.
    uplift : array of shape (n,) or (n, k - 1), data frame, or mapping of arms to arrays
        Predicted effects from a model that has not seen these rows.
    value : float or array of shape (n,)
        Of a unit of outcome; above zero.
    cost : float, mapping of arms to floats or arrays, array of shape (k - 1,), (n,) or (n, k - 1)
        Of treating, in the unit of value; zero or more.
    fixed_cost : float
        Per unit of the population, spent as soon as anybody is treated.
    arm : label, optional
        Give this arm only. By default each unit gets the arm with its highest predicted profit.
    label : str
        Name of the model in texts and plots.
    rng : int or Generator
        Of the draws behind the critical values.

    Raises
    ------
    TreatmentError
        For unknown arms.
    CausalRecError
        For values that are not above zero, negative costs, missing values, other shapes, and a single cluster.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> tau, treatment = rng.uniform(0, 1, 4000), rng.integers(0, 2, 4000)
    >>> y = treatment * tau + 0.1 * rng.normal(size=4000)
    >>> result = profit_curve(y, tau, treatment, value=1.0, cost=0.5, propensity=0.5)
    >>> result.best_share_low <= 0.5 <= result.best_share_high  # those whose effect is above the cost
    True
    >>> abs(result.rule_profit - 0.125) < 0.02
    True
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    if np.isnan(scores.error(scores.weight)):
        raise CausalRecError("all rows are of one cluster, so nothing can be told of errors. Check clusters.")
    fixed = check_amount(fixed_cost, name="fixed_cost")
    worth = value_column(value, n_rows=len(scores.y))
    code, net, spent = _best_arm(uplift, cost, worth, scores, arm)
    walk = _net_walk(scores, code, net, spent, worth)
    at = grid(walk.path, max(2, min(_POINTS, scores.n_obs // _FEWEST)))
    found = gains_at(scores, [walk], at)
    profit = found.gain[0] - np.where(at > 0, fixed, 0.0)
    return _curve(at, profit, found.covariance, _fixed_rules(scores, code, net, spent, worth, fixed), fixed, label,
                  level, scores, rng)  # fmt: skip


def _best_arm(
    uplift: Any, cost: Any, worth: FloatArray, scores: ArmScores, arm: Any
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Code of each row's best arm, its predicted profit, and its cost."""
    n, others = len(scores.y), scores.labels[1:]
    rows = np.arange(n)
    if arm is not None:
        others = (scores.labels[arm_code(arm, scores.labels)],)
        uplift, cost = as_pandas(uplift), as_pandas(cost)
        if np.ndim(uplift) == 2 and not hasattr(uplift, "columns"):
            uplift = effect_table(uplift, scores.labels[1:], n_rows=n)[0][:, scores.labels.index(arm) - 1]
        elif hasattr(uplift, "keys") and arm in uplift:
            uplift = {arm: uplift[arm]}
        if np.shape(cost) in ((len(scores.labels) - 1,), (n, len(scores.labels) - 1)) and not hasattr(cost, "keys"):
            cost = cost_table(cost, scores.labels[1:], n_rows=n, free=True)[:, scores.labels.index(arm) - 1]
    effects, arms = effect_table(uplift, others, n_rows=n)
    costs = cost_table(cost, arms, n_rows=n, free=True)
    net = worth[:, None] * effects - costs
    best = net.argmax(axis=1)
    codes = np.array([scores.labels.index(a) for a in arms])
    return codes[best], net[rows, best], costs[rows, best]


def _net_walk(scores: ArmScores, code: IntArray, net: FloatArray, spent: FloatArray, worth: FloatArray) -> ScoredPath:
    """One step per row, to its best arm, that costs one unit of the share treated."""
    n = len(code)
    nobody, one = np.broadcast_to(np.int64(0), n), np.broadcast_to(1.0, n)
    path = make_path(np.arange(n), nobody, code, one, net, scores.weight)
    delta = worth[path.unit] * score_steps(path, scores.table()) - spent[path.unit]
    return ScoredPath(path, delta, worth)


def _fixed_rules(
    scores: ArmScores, code: IntArray, net: FloatArray, spent: FloatArray, worth: FloatArray, fixed: float
) -> dict[str, tuple[float, float, float]]:
    """Share, profit and standard error where the predicted profit is above zero, and of everybody."""
    found = {}
    for name, treated in (("rule", net > 0), ("all", np.ones(len(code), dtype=bool))):
        shares = np.zeros((len(code), len(scores.labels)))
        shares[np.flatnonzero(treated), code[treated]] = worth[treated]
        shares[:, 0] -= np.where(treated, worth, 0.0)
        gain, influence = scores.average(shares)
        money = np.where(treated, spent, 0.0)
        outlay = float(scores.weight @ money) / scores.n_obs
        error = scores.error(influence - scores.weight * (money - outlay))
        share = float(scores.weight @ treated) / scores.n_obs
        found[name] = (share, gain - outlay - (fixed if share else 0.0), error)
    return found


def _curve(
    at: FloatArray,
    profit: FloatArray,
    covariance: FloatArray,
    rules: dict[str, tuple[float, float, float]],
    fixed: float,
    label: str,
    level: float,
    scores: ArmScores,
    rng: RandomState,
) -> ProfitCurveResult:
    seed = np.random.default_rng(rng)
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    half = float(stats.norm.isf((1 - level) / 2)) * error
    band = largest_quantile(np.abs(normal_draws(covariance, rng=seed)), error, level) * error
    near = may_be_best(profit, covariance, level, rng=seed)
    top = int(np.argmax(profit))
    by = "" if scores.clusters is None else ", clustered"
    return ProfitCurveResult(
        label=label, best_share=float(at[top]), best_share_low=float(at[near].min()),
        best_share_high=float(at[near].max()), best_profit=float(profit[top]),
        best_profit_ci_low=float(profit[top] - band[top]), best_profit_ci_high=float(profit[top] + band[top]),
        rule_share=rules["rule"][0], **_tested("rule_profit", *rules["rule"][1:], level),
        **_tested("all_profit", *rules["all"][1:], level), fixed_cost=fixed, confidence_level=level,
        n_obs=scores.n_obs,
        method=f"{scores.method}; influence-function standard errors{by}; best share by comparisons with the best",
        share=at, profit=profit, std_error=error, ci_low=profit - half, ci_high=profit + half, band_low=profit - band,
        band_high=profit + band, random=at * (profit[-1] + fixed) - np.where(at > 0, fixed, 0.0),
        may_be_best=near.astype(np.int64),
    )  # fmt: skip


def _tested(name: str, estimate: float, error: float, level: float) -> dict[str, float]:
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else NAN
    return {name: estimate, f"{name}_ci_low": estimate - half, f"{name}_ci_high": estimate + half,
            f"{name}_pvalue": pvalue}  # fmt: skip


def incremental_roi(
    y: Any,
    policy: Any,
    treatment: Any,
    *,
    cost: Any = None,
    spent: Any = None,
    value: Any = 1.0,
    baseline: Any = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Incremental value per incremental cost of a policy against another: above 1 it earns more than it costs.

    The p-value is of breaking even, a ratio of 1. The interval is Fieller's (1954, Journal of the Royal Statistical
    Society B 16): it has no end where the cost cannot be told from zero.

    Parameters
    ----------
    policy, baseline
        As for :func:`causalrec.evaluation.policy_value`; the baseline is control for everybody by default.
    cost : float, mapping of arms to floats or arrays, array of shape (k - 1,), (n,) or (n, k - 1)
        What an arm costs more than control, known when it is given; zero or more.
    spent : array of shape (n,), in place of ``cost``
        What each row did cost, where that depends on what people do (a coupon redeemed): the incremental cost is then
        estimated from the test, as the value is, by inverse probability.
    value : float or array of shape (n,)
        Of a unit of outcome.
    y, treatment, propensity, nuisance, sample_weight, clusters, control
        As for :func:`causalrec.nuisance.arm_scores`.

    Raises
    ------
    TreatmentError
        For unknown arms.
    CausalRecError
        For values that are not above zero, negative costs, missing values, other shapes; both or neither of ``cost``
        and ``spent``; and ``spent`` with nuisances whose propensity is fitted.

    Examples
    --------
    >>> roi = incremental_roi([3.0, 1.0, 2.0, 0.0], 1, [1, 0, 1, 0], cost=0.5, propensity=0.5)
    >>> roi.estimate
    4.0
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    n, labels = len(scores.y), scores.labels
    reference = policy_shares(labels[0] if baseline is None else baseline, labels, n_rows=n, name="baseline")
    more = policy_shares(policy, labels, n_rows=n) - reference
    gain, influence = scores.average(value_column(value, n_rows=n)[:, None] * more)
    mean, spend = _outlay(cost, spent, more, scores, nuisance)
    critical = float(stats.norm.isf((1 - level) / 2))
    low, high = fieller_interval(gain, mean, *_variances(scores, influence, spend), critical)
    ratio = gain / mean if mean else NAN
    error = scores.error(influence - ratio * spend) / abs(mean) if mean else NAN
    even = scores.error(influence - spend)
    by = "" if scores.clusters is None else ", clustered"
    return EffectResult(
        ratio, error, low, high, float(2 * stats.norm.sf(abs(gain - mean) / even)) if even > 0 else NAN, level,
        scores.n_obs, f"{scores.method}; Fieller's interval{by}; p-value of breaking even", "incremental_roi",
    )  # fmt: skip


def _outlay(
    cost: Any, spent: Any, more: FloatArray, scores: ArmScores, nuisance: Nuisances | None
) -> tuple[float, FloatArray]:
    """Incremental cost per unit of the population, and its influence function."""
    n = len(scores.y)
    if (cost is None) == (spent is None):
        raise CausalRecError("pass one of cost (known when an arm is given) and spent (what each row did cost).")
    if spent is None:
        outlay = (more[:, 1:] * cost_table(cost, scores.labels[1:], n_rows=n, free=True)).sum(axis=1)
        mean = float(scores.weight @ outlay) / scores.n_obs
        return mean, scores.weight * (outlay - mean)
    if nuisance is not None and not nuisance.propensity_known:
        raise CausalRecError(
            "spent needs the propensity of a test, but that of nuisance is fitted. Fit nuisances with a known "
            "propensity, or pass cost."
        )
    treatment = np.array(scores.labels, dtype=object)[scores.codes]
    known = None if scores.shares_estimated else scores.propensity
    of_cost = arm_scores(
        check_vector(spent, name="spent", n_rows=n), treatment, control=scores.labels[0],
        propensity=known if known is None or known.shape[1] > 2 else known[:, 1], sample_weight=scores.weight,
    )  # fmt: skip
    return of_cost.average(more)


def _variances(scores: ArmScores, one: FloatArray, other: FloatArray) -> tuple[float, float, float]:
    """Variances of two estimates and their covariance, from their influence functions."""
    first, second, both = (scores.error(v) ** 2 for v in (one, other, one + other))
    return first, second, (both - first - second) / 2
