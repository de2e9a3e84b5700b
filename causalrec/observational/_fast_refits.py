"""Estimates of changed data without full fits: linear methods by products, scores by a few steps, matches by sorting.

Every fast estimate equals that of the method itself but for the last digits; where the algebra cannot tell (columns
next to collinear, scores that do not settle, options that it does not know) it says NaN, and the method is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import special

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.support import balancing_weights
from causalrec.observational._changes import Change, with_change
from causalrec.observational._fast_moments import (
    Table,
    arm_regressions,
    by_arms,
    changed_moments,
    main_effect,
    make_table,
    split,
)
from causalrec.observational._fast_score import Start, changed_score, true_score
from causalrec.observational._nearest import match_line, sort_line
from causalrec.observational._refuted import DUMMY, PLACEBO
from causalrec.observational._sets import set_means
from causalrec.observational._study_data import StudyData
from causalrec.observational.methods import run_method
from causalrec.results import AdjustedEffect, Recipe

NAN = float("nan")
Fast: TypeAlias = Callable[[list[Change]], list[float]]

_OPTIONS: Mapping[str, frozenset[str]] = {
    "difference_in_means": frozenset({"error"}),
    "ols": frozenset({"error"}),
    "lin": frozenset({"error", "population"}),
    "standardisation": frozenset(),
    "aipw_parametric": frozenset(),
    "ipw": frozenset(),
    "overlap_weights": frozenset(),
    "matching": frozenset({"ratio", "caliper", "caliper_scale", "distance", "replace", "pairing", "bias_adjustment"})
    | {"errors", "variance", "neighbours", "score_known"},
}
_BY_SCORE = ("aipw_parametric", "ipw", "overlap_weights", "matching")
_CLOSE = 1e-9


def fast_refits(data: StudyData, effect: AdjustedEffect, recipe: Recipe, kind: str) -> Fast | None:
    """How a method's estimate of changed data is made fast; None where there is no way."""
    if kind == DUMMY:
        return _linear_in_outcome(data, effect, recipe)
    if recipe.name not in _OPTIONS or not set(recipe.options) <= _OPTIONS[recipe.name]:
        return None
    if recipe.name in _BY_SCORE:
        return _by_score(data, recipe, permuted=kind == PLACEBO)
    table = make_table(data, adjusts=recipe.name != "difference_in_means")
    if recipe.name == "ols":
        return lambda changes: _main_effects(table, changes)
    adjusts = recipe.name != "difference_in_means"

    def arms(changes: list[Change]) -> list[float]:
        used = changes if adjusts else [_without_covariate(c) for c in changes]
        return [by_arms(changed_moments(table, c), table.A.shape[1] - 1, recipe.estimand) for c in used]

    return arms


def _without_covariate(change: Change) -> Change:
    return Change(treatment=change.treatment, rows=change.rows, repeated=change.repeated)


# --- an outcome -------------------------------------------------------------------------------------------------------


def _linear_in_outcome(data: StudyData, effect: AdjustedEffect, recipe: Recipe) -> Fast | None:
    """Where the weights of the estimate do not hang on outcomes, another outcome needs nothing but its means.

    Whether they do is seen from the estimate itself and from one other outcome.
    """
    if effect.weights is None:
        return None
    signed = np.zeros(data.n_obs)
    for arm, sign in ((1, 1.0), (0, -1.0)):
        own = np.where(data.treatment == arm, effect.weights, 0.0)
        if not abs(total := float(own.sum())) > 0:
            return None
        signed += sign * own / total
    other = np.random.default_rng(0).permutation(data.y)
    scale = _CLOSE * float(np.abs(data.y).max(initial=0.0))
    if not abs(float(signed @ data.y) - effect.estimate) <= scale:
        return None
    try:
        found = run_method(with_change(data, Change(outcome=other)), recipe.name, recipe.estimand, recipe.options)
    except CausalRecError:
        return None
    if not abs(float(signed @ other) - found.estimate) <= scale:
        return None
    return lambda changes: [NAN if c.outcome is None else float(signed @ c.outcome) for c in changes]


# --- regressions on main effects --------------------------------------------------------------------------------------


def _main_effects(table: Table, changes: list[Change]) -> list[float]:
    """The coefficient of the treatment; of permuted ones all at once, by two products."""
    q = table.A.shape[1] - 1
    if all(c.treatment is not None for c in changes):
        total = split(table.total, q)
        across = table.A.T @ _weighted(table, changes)
        return list(main_effect(total.ZZ, total.Zy, across[:q], across[q]))
    found = []
    for change in changes:
        moments = changed_moments(table, change)
        total, treated = split(moments[0] + moments[1], q), split(moments[1], q)
        # The treatment times the design is a column of the treated's products: that of the intercept.
        found.append(float(main_effect(total.ZZ, total.Zy, treated.ZZ[:, [0]], treated.Zy[:1])[0]))
    return found


def _weighted(table: Table, changes: list[Change]) -> FloatArray:
    T = np.empty((len(table.A), len(changes)))
    for column, change in zip(T.T, changes, strict=True):
        column[:] = change.treatment
    return T if table.weight is None else T * table.weight[:, None]


# --- by a score -------------------------------------------------------------------------------------------------------


class _Scores(NamedTuple):
    """The score of changed data, by steps or as known; a permuted treatment's steps start from none."""

    table: Table
    start: Start | None
    known: FloatArray | None

    def of(self, change: Change, *, ties: bool = False) -> FloatArray | None:
        if self.known is not None:
            return self.known
        return changed_score(self.table, change, self.start, ties=ties)


def _by_score(data: StudyData, recipe: Recipe, *, permuted: bool) -> Fast | None:
    known = data.propensity
    logistic = isinstance(data.propensity_model, str) and data.propensity_model == "logistic"
    if (known is not None and not known.known) or (known is None and not logistic):
        return None
    table = make_table(data)
    start = None if permuted or known is not None else true_score(table)
    scores = _Scores(table, start, None if known is None else known.score)
    if recipe.name == "matching":
        return _matching(scores, recipe)
    one = _augmented if recipe.name == "aipw_parametric" else _weighted_means

    def found(changes: list[Change]) -> list[float]:
        return [_of_score(scores, c, recipe.estimand, one) for c in changes]

    return found


def _of_score(
    scores: _Scores,
    change: Change,
    estimand: str,
    estimate: Callable[[Table, Change, FloatArray, str], float],
) -> float:
    e = scores.of(change)
    if e is None or not (e.min() > 0 and e.max() < 1):
        return NAN
    t = scores.table.treatment if change.treatment is None else change.treatment
    weight = scores.table.weights_of(change)
    odds = balancing_weights(e, t, estimand)[0]
    parts = np.column_stack([np.where(t == 1, 0.0, weight * odds), np.where(t == 1, weight * odds, 0.0)])
    return estimate(scores.table, change, parts, estimand)


def _weighted_means(table: Table, change: Change, parts: FloatArray, estimand: str) -> float:
    """The difference of weighted means (Hájek)."""
    del change, estimand  # they are in the weights
    control, one = (table.y @ parts) / parts.sum(axis=0)
    return float(one - control)


def _augmented(table: Table, change: Change, parts: FloatArray, estimand: str) -> float:
    """Regressions by arm, and the weighted mean of their residuals (:func:`aipw_parametric`)."""
    q = table.A.shape[1] - 1
    moments = changed_moments(table, change)
    arms = arm_regressions(moments, q, estimand)
    if arms is None:
        return NAN
    sums = table.A.T @ parts
    if change.covariate is not None:
        sums = np.vstack([sums, change.covariate @ parts])
    n = {"ate": moments[0] + moments[1], "att": moments[1], "atc": moments[0]}[estimand][0, 0]
    found = 0.0
    for arm, sign in ((0, -1.0), (1, 1.0)):
        mean, coef = arms[arm]
        own = (estimand, arm) in (("att", 1), ("atc", 0))
        residual = 0.0 if own else float(sums[q, arm] - np.delete(sums[:, arm], q) @ coef)
        found += sign * (mean + residual / n)
    return found


# --- matching ---------------------------------------------------------------------------------------------------------


def _matching(scores: _Scores, recipe: Recipe) -> Fast | None:
    options: dict[str, Any] = {
        "pairing": "nearest", "replace": True, "bias_adjustment": False, "distance": "propensity", "ratio": 1,
        "caliper": None, "caliper_scale": "sd", **recipe.options,
    }  # fmt: skip
    by_line = options["pairing"] == "nearest" and options["replace"] and not options["bias_adjustment"]
    if not by_line or options["distance"] not in ("propensity", "logit"):
        return None

    def found(changes: list[Change]) -> list[float]:
        return [_matched(scores, c, recipe.estimand, options) for c in changes]

    return found


def _matched(scores: _Scores, change: Change, estimand: str, options: dict[str, Any]) -> float:
    e = scores.of(change, ties=True)
    if e is None or not (e.min() > 0 and e.max() < 1) or change.repeated:
        return NAN
    t = scores.table.treatment if change.treatment is None else change.treatment
    y = scores.table.y
    if change.rows is not None:
        e, t, y = e[change.rows], t[change.rows], y[change.rows]
    place = e if options["distance"] == "propensity" else special.logit(e)
    caliper = np.inf if options["caliper"] is None else float(options["caliper"])
    if options["caliper_scale"] == "sd" and np.isfinite(caliper):
        caliper *= float(np.std(place, ddof=1))
    return nearest_difference(place, t, y, estimand, int(options["ratio"]), caliper)


def nearest_difference(
    place: FloatArray, treatment: IntArray, y: FloatArray, estimand: str, ratio: int, caliper: float
) -> float:
    """The mean difference between units and their matches on a line; NaN where there are none, or too few."""
    arms = np.bincount(treatment, minlength=2)
    if ratio > arms.min():
        return NAN
    sets = match_line(sort_line(place, treatment, None), estimand=estimand, ratio=ratio, caliper=caliper)
    if not len(sets.unit):
        return NAN
    sign = np.where(treatment[sets.unit] == 1, 1.0, -1.0)
    return float(np.mean(sign * (y[sets.unit] - set_means(y, sets))))
