"""Difference-in-differences on arrays: effects by group and period, their influences, and aggregates of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational.design import regressors
from causalrec.observational.propensity import fit_likelihood
from causalrec.results import PropensityResult

NEVER = 2**31


@dataclass(frozen=True)
class Panel:
    """Outcomes of shape (units, periods), the first treated period of each unit (NEVER: none), unit covariates."""

    y: FloatArray
    group: IntArray
    X: FloatArray | None = None


@dataclass(frozen=True)
class Design:
    """What is compared with what."""

    not_yet_treated: bool
    universal: bool
    anticipation: int
    regression_only: bool


@dataclass(frozen=True)
class Cells:
    """Effects by group and period and the influence of each unit on each, (units, cells); the units of each group."""

    group: IntArray
    time: IntArray
    latest: IntArray  # controls are untreated until then
    estimate: FloatArray
    influence: FloatArray
    reference: AnyArray  # the period that others are compared with: zero by construction
    n_without_control: int


def group_time_effects(panel: Panel, design: Design) -> Cells:
    """ATT(g, t) of Callaway and Sant'Anna (2021, Journal of Econometrics 225, section 2), one cell after the other."""
    n_periods = panel.y.shape[1]
    found: list[tuple[int, int, int, float, FloatArray, bool]] = []
    missed, fits = 0, _Fits(panel, design)
    for g in np.unique(panel.group[panel.group < NEVER]):
        last = int(g) - 1 - design.anticipation
        for t in range(n_periods):
            base = last if design.universal or t > last else t - 1
            if base < 0:
                continue
            if t == base:
                found.append((int(g), t, t, 0.0, np.zeros(len(panel.group)), True))
                continue
            control = controls(panel.group, int(g), max(t, base), design)
            if not control.any():
                missed += 1
                continue
            found.append((int(g), t, max(t, base), *fits.effect(int(g), control, t, base), False))
    if not any(not row[5] for row in found):
        raise CausalRecError(
            "no group has both a period before treatment and units to compare with. Give more periods before "
            "treatment, a smaller anticipation, or control_group='not_yet_treated'."
        )
    columns = list(zip(*found, strict=True))
    return Cells(
        np.array(columns[0]), np.array(columns[1]), np.array(columns[2]), np.array(columns[3]),
        np.column_stack(columns[4]), np.array(columns[5]), missed,
    )  # fmt: skip


def controls(group: IntArray, g: int, latest: int, design: Design) -> AnyArray:
    """Units that no treatment has reached by ``latest``, nor will within the anticipation."""
    if design.not_yet_treated:
        return np.asarray((group > latest + design.anticipation) & (group != g))
    return np.asarray(group == NEVER)


@dataclass
class _Fits:
    """Effects of one cell; the score of a group against its controls is fitted once."""

    panel: Panel
    design: Design
    scores: dict[tuple[int, int], tuple[FloatArray, PropensityResult | None]] = field(default_factory=dict)

    def effect(self, g: int, control: AnyArray, t: int, base: int) -> tuple[float, FloatArray]:
        rows = np.flatnonzero(control | (self.panel.group == g))
        treated = (self.panel.group[rows] == g).astype(np.int64)
        change = self.panel.y[rows, t] - self.panel.y[rows, base]
        if self.panel.X is None:
            estimate, influence = difference_of_changes(change, treated)
        else:
            Z, score = self._fit(g, int(control.sum()), self.panel.X[rows], treated)
            estimate, influence = doubly_robust_change(change, treated, Z, score)
        whole = np.zeros(len(self.panel.group))
        whole[rows] = influence
        return estimate, whole

    def _fit(
        self, g: int, n_control: int, X: FloatArray, treated: IntArray
    ) -> tuple[FloatArray, PropensityResult | None]:
        key = (g, n_control)  # later controls are subsets of earlier ones, so that their number names them
        if key not in self.scores:
            Z = regressors(X)
            if n_control <= Z.shape[1] or np.linalg.matrix_rank(Z[treated == 0]) < Z.shape[1]:
                raise CausalRecError(
                    f"a group is compared with {n_control} units, too few or too alike for the {Z.shape[1]} "
                    "coefficients of the outcome's regression. Use fewer covariates or more controls."
                )
            try:
                score = None if self.design.regression_only else fit_likelihood(Z, treated)
            except OverlapError as error:
                raise OverlapError(
                    f"the covariates separate a group from its controls ({error}) Or use method='regression', which "
                    "needs no score."
                ) from error
            self.scores[key] = (Z, score)
        return self.scores[key]


def difference_of_changes(change: FloatArray, treated: IntArray) -> tuple[float, FloatArray]:
    """Mean change of the treated minus that of the controls, and the influence of each unit.

    Examples
    --------
    >>> difference_of_changes(np.array([3.0, 5.0, 1.0, 1.0]), np.array([1, 1, 0, 0]))[0]
    3.0
    """
    arm, other = treated == 1, treated == 0
    means = change[arm].mean(), change[other].mean()
    influence = np.where(arm, (change - means[0]) / arm.sum(), -(change - means[1]) / other.sum())
    return float(means[0] - means[1]), influence


def doubly_robust_change(
    change: FloatArray, treated: IntArray, Z: FloatArray, score: PropensityResult | None
) -> tuple[float, FloatArray]:
    r"""The treated's mean change beyond that predicted from their covariates, corrected by weighted controls.

    Sant'Anna and Zhao 2020 (Journal of Econometrics 219), equation 3.1: with :math:`\mu` the regression of the
    controls' change, :math:`w_1 = D`, :math:`w_0 = e(1-D)/(1-e)`: the weighted means of :math:`\Delta Y - \mu` under
    :math:`w_1` minus under :math:`w_0`. Influences count the estimation of :math:`\mu` and of the score. Without a
    score the regression alone.

    Parameters
    ----------
    change : array of shape (n,), treated : 0/1 array of shape (n,)
    Z : array of shape (n, q), intercept first
    score : PropensityResult of the n units, or None
    """
    controls = Z[treated == 0]
    gram = controls.T @ controls
    beta = np.linalg.solve(gram, controls.T @ change[treated == 0])
    rest = change - Z @ beta
    w1 = treated / treated.sum()
    own = float(w1 @ rest)
    influence = w1 * (rest - own)
    gradient = -(w1 @ Z)
    estimate = own
    if score is not None:
        odds = np.where(treated == 0, score.score / (1 - score.score), 0.0)
        w0 = odds / odds.sum()
        other = float(w0 @ rest)
        estimate = own - other
        influence -= w0 * (rest - other)
        gradient += w0 @ Z
        slope = np.where(treated == 0, (rest - other) / (1 - score.score) ** 2, 0.0) / odds.sum()
        influence += score.influence(treated, -slope)
    influence += (1 - treated) * rest * (Z @ np.linalg.solve(gram, gradient))
    return estimate, influence


def weighted_effect(cells: Cells, chosen: AnyArray, group: IntArray) -> tuple[float, FloatArray]:
    """Mean of some cells, weighted by the units of their groups; these shares are estimated, and count in the error.

    Callaway and Sant'Anna 2021, section 3 (weights) and corollary 2 (their influence).

    Parameters
    ----------
    cells : Cells
    chosen : bool array of shape (cells,)
    group : int array of shape (units,)
    """
    sizes = np.array([(group == g).sum() for g in cells.group[chosen]], dtype=np.float64)
    share = sizes / sizes.sum()
    values = cells.estimate[chosen]
    estimate = float(share @ values)
    influence = cells.influence[:, chosen] @ share
    for g in np.unique(cells.group[chosen]):
        apart = (values[cells.group[chosen] == g] - estimate).sum()
        influence += (group == g) * (apart / sizes.sum())
    return estimate, influence


def mean_effect(parts: list[tuple[float, FloatArray]]) -> tuple[float, FloatArray]:
    """The plain mean of effects and of their influences."""
    return float(np.mean([p[0] for p in parts])), np.mean([p[1] for p in parts], axis=0)


def two_way_fixed_effects(y: FloatArray, group: IntArray) -> tuple[float, FloatArray, float]:
    """The coefficient of treatment in a regression with unit and period effects, influences, sum of negative weights.

    On a balanced panel the treatment minus its unit mean, its period mean, plus the whole mean (Frisch and Waugh).
    Treated cells are weighted by that residual: de Chaisemartin and D'Haultfœuille 2020, American Economic Review
    110, theorem 1.
    """
    treated = (np.arange(y.shape[1]) >= group[:, None]).astype(np.float64)
    residual = _within(treated)
    squares = float((residual**2).sum())
    estimate = float((residual * y).sum()) / squares
    errors = _within(y) - estimate * residual
    weights = residual[treated == 1] / squares
    return estimate, (residual * errors).sum(axis=1) / squares, float(weights[weights < -1e-12].sum())


def _within(values: FloatArray) -> FloatArray:
    """Without unit and period means."""
    return np.asarray(values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean())
