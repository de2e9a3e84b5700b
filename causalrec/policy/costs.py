"""What a rule gains over what it spends: cost curves of several arms, with honest errors and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level, check_vector
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.policy._inputs import check_worth, cost_table, effect_table
from causalrec.policy._path import Path, hull_steps, make_path
from causalrec.policy._process import ScoredPath, gains_at, grid, score_steps
from causalrec.results import NAN, CostCurveComparisonResult, CostCurveResult

_POINTS = 100


def cost_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    cost: Any,
    value: float | None = None,
    budgets: Any = None,
    label: str = "model",
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> CostCurveResult:
    r"""Gain over spend of the rule that makes the most of each budget by predicted effects, judged by what happened.

    At a budget B the rule is :func:`allocate`'s; its gain is the mean of the scores of the arms that it gives less
    those of control. The interval at B is for the gain of spending B on average *in the population*: it counts that the
    threshold behind B is estimated, and takes the predictions as given (:mod:`causalrec.policy._process`). Equal slopes
    are taken together, and the curve is straight across them, so the order of rows never matters.

    With one arm at one cost it is the gain curve of :func:`causalrec.evaluation.qini_curve` over spend. It is not less
    the average effect, and it ends where predictions say that nothing more is gained (or worth it), as in the R
    package maq.

    Parameters
    ----------
    y, treatment, propensity, nuisance, sample_weight, clusters, control
        As for :func:`causalrec.nuisance.arm_scores`.
    uplift : array of shape (n,) or (n, k - 1), data frame, or mapping of arms to arrays
        Predicted effects from a model that has not seen these rows, in the order of the arms after control. A frame or
        mapping may hold some arms only: a rule that never gives the others.
    cost : float, mapping of arms to floats or arrays, array of shape (k - 1,), (n,) or (n, k - 1)
        What an arm costs more than control; above zero.
    value : float, optional
        Of a unit of outcome: the rule then stops where nothing is worth its cost. Gains stay in the outcome's unit.
    budgets : array, optional
        Spends per unit of the population at which to have points; by default 100 that are even over the curve.
    label : str
        Name of the rule in texts and plots.

    Raises
    ------
    TreatmentError
        For arms that are not in ``treatment``.
    CausalRecError
        For costs that are not above zero, negative budgets, missing values, other shapes.

    Errors are NaN where nothing varies, and where all rows are of one cluster.

    Examples
    --------
    >>> curve = cost_curve([3, 0, 2, 1], {"mail": [2.0, 2.0, 1.0, -1.0]}, ["mail", "none", "mail", "none"],
    ...                    cost=0.5, control="none", propensity=0.5)
    >>> curve.spend.tolist(), curve.gain.tolist()
    ([0.0, 0.25, 0.375], [0.0, 1.5, 1.75])
    """
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    floor = 0.0 if value is None else 1 / check_worth(value)
    rule = _Rule.of(uplift, cost, scores, floor)
    at = grid(rule.path, _POINTS) if budgets is None else _budgets(budgets)
    table = scores.table()
    found = gains_at(scores, [ScoredPath(rule.path, score_steps(rule.path, table))], at)
    gain, error = found.gain[0], found.error[0]
    nothing = error <= 1e-13 * float(np.abs(scores.y).max())
    error = np.where(nothing & (at > 0) & (rule.path.total > 0), NAN, error)  # a zero would look like certainty
    half = float(stats.norm.isf((1 - level) / 2)) * error
    return CostCurveResult(
        label=label, control=str(scores.labels[0]), arms=tuple(scores.labels[a] for a in rule.codes),
        total_spend=rule.path.total, confidence_level=level, n_obs=scores.n_obs, method=_method(scores), spend=at,
        gain=gain, std_error=error, ci_low=gain - half, ci_high=gain + half,
        untargeted=rule.untargeted(table, scores.weight, floor, at),
    )  # fmt: skip


def compare_cost_curves(
    y: Any,
    rules: Mapping[str, Any],
    treatment: Any,
    *,
    cost: Any,
    value: float | None = None,
    budgets: Any = None,
    up_to: float | None = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> CostCurveComparisonResult:
    """Gain of one rule less that of another at the same spend, and over all spends, on the same rows (paired).

    Does the second arm pay? Compare ``{"both": uplift, "mail only": uplift[["mail"]]}``. Against the best of several
    single arms, compare with each at a level of ``1 - 0.05 / n_arms``.

    Parameters
    ----------
    rules : mapping of two names to predicted effects
        Each as ``uplift`` of :func:`cost_curve`; the difference is the first less the second.
    up_to : float, optional
        Spend up to which the difference is integrated; by default the larger total spend of the two.
    y, treatment, cost, value, budgets, propensity, nuisance, sample_weight, clusters, control
        As for :func:`cost_curve`.

    Raises
    ------
    CausalRecError
        As :func:`cost_curve`; and for another number of rules, or ``up_to`` that is not above zero.

    Examples
    --------
    >>> result = compare_cost_curves([3, 0, 2, 1], {"a": [1.0, 4.0, 2.0, 3.0], "b": [2.0, 1.0, 3.0, 4.0]}, [1, 0, 1, 0],
    ...                              cost=1.0, propensity=0.5)
    >>> result.spend.tolist(), result.difference.tolist(), result.area
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.5, 0.5, 0.0, 0.0], 0.25)
    """
    if not isinstance(rules, Mapping) or len(rules) != 2:
        raise CausalRecError("rules has to hold two, as {name: uplift, other name: uplift}.")
    level = check_confidence_level(confidence_level)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    floor = 0.0 if value is None else 1 / check_worth(value)
    paths = [_Rule.of(uplift, cost, scores, floor).path for uplift in rules.values()]
    top = _top(up_to, paths)
    at = np.unique(np.concatenate([grid(path, _POINTS) for path in paths])) if budgets is None else _budgets(budgets)
    at = np.union1d(np.r_[0.0, at[at < top]], [top])
    if budgets is None:
        at = at[np.r_[True, np.diff(at) > 1e-9 * top]]
    table = scores.table()
    found = gains_at(scores, [ScoredPath(path, score_steps(path, table)) for path in paths], at)
    return _compared(found, at, list(rules), top, level, scores)


def _compared(
    found: Any, at: FloatArray, names: list[str], top: float, level: float, scores: ArmScores
) -> CostCurveComparisonResult:
    m = len(at)
    gap = found.gain[0] - found.gain[1]
    v = found.covariance
    variance = np.diag(v)[:m] + np.diag(v)[m:] - 2 * np.diag(v[:m, m:])
    noise = 1e-13 * float(np.diag(v).max(initial=0.0))
    error = np.sqrt(np.where(variance <= noise, 0.0, variance))
    steps = np.diff(at)
    trapezoid = (np.r_[steps, 0.0] + np.r_[0.0, steps]) / 2
    area, area_error = found.contrast(np.vstack([trapezoid, -trapezoid]))
    quantile = float(stats.norm.isf((1 - level) / 2))
    return CostCurveComparisonResult(
        first=str(names[0]), second=str(names[1]), up_to=top, area=area, area_std_error=area_error,
        area_ci_low=area - quantile * area_error, area_ci_high=area + quantile * area_error,
        area_pvalue=float(2 * stats.norm.sf(abs(area) / area_error)) if area_error > 0 else NAN,
        confidence_level=level, n_obs=scores.n_obs, method=f"paired; {_method(scores)}", spend=at, difference=gap,
        std_error=error, ci_low=gap - quantile * error, ci_high=gap + quantile * error,
    )  # fmt: skip


class _Rule:
    """Predicted effects and costs of the arms that may be given, and the path through them."""

    def __init__(self, effects: FloatArray, costs: FloatArray, codes: list[int], path: Path) -> None:
        self.effects, self.costs, self.codes, self.path = effects, costs, codes, path

    @classmethod
    def of(cls, uplift: Any, cost: Any, scores: ArmScores, floor: float) -> _Rule:
        n = len(scores.y)
        effects, arms = effect_table(uplift, scores.labels[1:], n_rows=n)
        codes = [scores.labels.index(arm) for arm in arms]
        if isinstance(cost, Mapping) or np.ndim(cost) == 0 or len(arms) == len(scores.labels) - 1:
            costs = cost_table(cost, arms, n_rows=n)
        else:  # of all arms, by position
            costs = cost_table(cost, scores.labels[1:], n_rows=n)[:, [code - 1 for code in codes]]
        unit, before, after, run, slope = hull_steps(effects, costs, floor)
        place = np.array([0, *codes])
        return cls(effects, costs, codes, make_path(unit, place[before], place[after], run, slope, scores.weight))

    def untargeted(self, table: FloatArray, weight: FloatArray, floor: float, at: FloatArray) -> FloatArray:
        """The gain where rows are taken in a random order, on the hull of the arms' mean predicted effects."""
        share = weight / weight.sum()
        _, before, after, run, _ = hull_steps((share @ self.effects)[None], (share @ self.costs)[None], floor)
        means = np.array([share @ table[:, code] for code in (0, *self.codes)])
        spend, gain = np.cumsum(run), np.cumsum(means[after] - means[before])
        return np.asarray(np.interp(at, np.r_[0.0, spend], np.r_[0.0, gain]))


def _budgets(budgets: Any) -> FloatArray:
    at = np.unique(check_vector(np.atleast_1d(budgets), name="budgets"))
    if at[0] < 0:
        raise CausalRecError(f"budgets holds {at[0]:g}; expected spends of 0 or more per unit of the population.")
    return np.asarray(np.union1d([0.0], at))


def _top(up_to: float | None, paths: list[Path]) -> float:
    top = max(path.total for path in paths) if up_to is None else float(up_to)
    if not 0 < top < np.inf:
        raise CausalRecError(
            f"up_to is {top:g}; expected a spend above 0. If it was not given, neither rule predicts any gain."
        )
    return top


def _method(scores: ArmScores) -> str:
    by = "" if scores.clusters is None else ", clustered"
    return f"{scores.method}; influence-function standard errors{by}, the threshold behind a spend estimated"
