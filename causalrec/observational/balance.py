"""Balance of covariates between the arms, before and after an adjustment, and the spread of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import (
    check_covariates,
    check_length,
    check_treatment,
    check_two_arms,
    check_vector,
    check_weights,
    list_some,
    nearest,
)
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.support import check_target
from causalrec.observational._errors import effective_size
from causalrec.observational.design import as_design, design_matrix
from causalrec.results import BalanceResult, WeightSpreadResult

BALANCE_THRESHOLD = 0.1
DENOMINATORS = {"treated": "the treated", "control": "the controls", "pooled": "both arms"}
BY_ESTIMAND = {"att": "treated", "atc": "control"}
_BINS, _TOP = 40, 0.01


def balance_table(
    X: Any,
    *,
    treatment: Any,
    weights: Any = None,
    estimand: str = "ate",
    denominator: str | None = None,
    threshold: float = BALANCE_THRESHOLD,
    names: Sequence[str] | AnyArray | None = None,
    method: str = "",
    control: object = None,
    sample_weight: Any = None,
    distances: bool = True,
) -> BalanceResult:
    r"""Means, standardised differences, variance ratios and distribution distances, before and after an adjustment.

    Parameters
    ----------
    X : DataFrame or array of shape (n, p)
        Covariates. Of a frame every level of a category becomes a row.
    treatment : array-like of shape (n,)
        0/1, or two labels with ``control``.
    weights : array-like of shape (n,), optional
        The weight of each unit within its arm (``weights`` of matches, weights and effects). None: no adjustment, so
        that after equals before. Those that a regression implies may be negative for some units; differences are then
        as always, variance ratios and distances NaN.
    estimand : {"ate", "att", "atc", "ato", "atm"}
    denominator : {"treated", "control", "pooled"}, optional
        Whose standard deviation differences are divided by: that of the treated, of the controls, or
        :math:`\sqrt{(s_1^2 + s_0^2)/2}`. By default the treated for the att, the controls for the atc, else
        pooled. It is computed before adjustment for both columns.
    threshold : float
        Largest absolute difference that counts as balanced.
    names : sequence of str, optional
        Of an array's columns.
    method : str
        What the weights come from, for the result.
    control : label, optional
    sample_weight : array-like of shape (n,), optional
        Weights before the adjustment; ``weights`` are to hold them already.
    distances : bool
        Whether to compare distribution functions, which needs each covariate sorted: most of the time.

    Raises
    ------
    ColumnError, TreatmentError, CausalRecError
        For missing values, arms without units or weight, unknown names.

    Notes
    -----
    The variance has divisor n - 1, weighted Σw - Σw²/Σw; that of a 0/1 covariate is p(1 - p). Where the denominator
    is zero (an arm that does not vary), the standard deviation over all units takes its place; a covariate that never
    varies has difference 0. Definitions as in Stuart 2010 (Statistical Science 25) and Austin 2009 (Statistics in
    Medicine 28). Dividing by :math:`\sqrt{s_1^2 + s_0^2}`, as some software does, makes differences smaller by √2.

    Examples
    --------
    >>> X = pd.DataFrame({"age": [20.0, 30.0, 40.0, 30.0, 40.0, 50.0]})
    >>> result = balance_table(X, treatment=[0, 0, 0, 1, 1, 1], weights=[0, 1, 1, 1, 1, 0])
    >>> result.smd_before.tolist(), result.smd_after.tolist(), result.balanced
    ([1.0], [0.0], True)
    """
    check_target(estimand)
    matrix, labels = _covariates(X, names)
    n = len(matrix)
    if not threshold >= 0:
        raise CausalRecError(f"threshold is {threshold!r}; expected a standardised difference, 0 or more, such as 0.1.")
    t, arms = check_treatment(treatment, n_rows=n, control=control)
    check_two_arms(arms, what="balance")
    basis = check_denominator(denominator or BY_ESTIMAND.get(estimand, "pooled"))
    before = check_weights(sample_weight, n_rows=n)
    after = before if weights is None else check_vector(weights, name="weights", n_rows=n)
    found = _compare(matrix, _Arms.of(t, before), None if weights is None else _Arms.of(t, after), basis, distances)
    size = np.abs(found["smd_after"])
    ratio = found["variance_ratio_after"]
    worst = int(np.argmax(size))
    negative = float(np.maximum(-after, 0).sum() / np.abs(after).sum())
    return BalanceResult(
        n_obs=n, n_treated=int(t.sum()), n_control=int(n - t.sum()), ess_treated=effective_size(after[t == 1]),
        ess_control=effective_size(after[t == 0]), estimand=estimand,
        denominator=f"standard deviation of {DENOMINATORS[basis]}",
        method=method or ("no adjustment" if weights is None else ""), negative_share=negative,
        adjusted=weights is not None,
        threshold=float(threshold), balanced=bool((size <= threshold).all()), n_covariates=len(labels),
        n_beyond=int((size > threshold).sum()), n_variance_beyond=int(((ratio < 0.5) | (ratio > 2)).sum()),
        worst=str(labels[worst]), max_abs_smd_before=float(np.abs(found["smd_before"]).max()),
        max_abs_smd_after=float(size[worst]), max_ks_before=float(found["ks_before"].max()),
        max_ks_after=float(found["ks_after"].max()), covariate=labels, **found,
    )  # fmt: skip


def weight_spread(weights: Any, *, treatment: Any, control: object = None, method: str = "") -> WeightSpreadResult:
    """How the weights of each arm are spread, for a picture and for the question whether few units carry it all.

    Parameters
    ----------
    weights : array-like of shape (n,)
        Of each unit within its arm.
    treatment : array-like of shape (n,)
        0/1, or two labels with ``control``.
    method : str
        For the result.

    Raises
    ------
    TreatmentError, CausalRecError
        For arms without units or weight, and negative weights.

    Examples
    --------
    >>> spread = weight_spread([1.0, 1.0, 3.0, 1.0], treatment=[1, 1, 0, 0])
    >>> spread.ess_control, spread.max_control
    (1.6, 1.5)
    """
    t, labels = check_treatment(treatment, control=control)
    check_two_arms(labels, what="the spread of weights")
    w = _positive(weights, len(t))
    arms = [w[t == arm] for arm in (0, 1)]
    _Arms.of(t, w)  # both arms have weight
    relative = [arm / arm.mean() for arm in arms]
    positive = np.concatenate([arm[arm > 0] for arm in relative])
    low, high = np.log10(positive.min()), np.log10(positive.max())
    margin = 0.01 if high - low < 0.02 else 1e-9  # equal weights get a bin of their own width
    edges = np.logspace(low - margin, high + margin, _BINS + 1)
    shares = [np.histogram(arm[arm > 0], edges)[0] / len(arm) for arm in relative]
    top = [np.sort(arm)[-max(1, int(_TOP * len(arm))) :].sum() / len(arm) for arm in relative]
    return WeightSpreadResult(
        n_obs=len(t), n_treated=len(arms[1]), n_control=len(arms[0]), n_zero_treated=int((arms[1] == 0).sum()),
        n_zero_control=int((arms[0] == 0).sum()), ess_treated=effective_size(arms[1]),
        ess_control=effective_size(arms[0]), max_treated=float(relative[1].max()),
        max_control=float(relative[0].max()), top_share_treated=float(top[1]), top_share_control=float(top[0]),
        method=method, edges=edges, treated=shares[1], control=shares[0],
    )  # fmt: skip


@dataclass(frozen=True)
class _Arms:
    """Rows and weights of both arms, control first, and what undoes the variance's bias."""

    rows: tuple[IntArray, IntArray]
    weights: tuple[FloatArray, FloatArray]
    total: tuple[float, float]
    signed: FloatArray  # + the share of a treated unit, - that of a control
    unbias: tuple[float, float]
    negative: bool

    @classmethod
    def of(cls, t: IntArray, weights: FloatArray) -> _Arms:
        rows = (np.flatnonzero(t == 0), np.flatnonzero(t == 1))
        signed, of_arms, totals, unbias = np.empty(len(t)), [], [], []
        for name, sign, at in (("control", -1.0, rows[0]), ("treated", 1.0, rows[1])):
            total = float(weights[at].sum())
            if not total > 0:
                raise CausalRecError(
                    f"weights: those of the {len(at)} {name} units add up to {total:g}, so there is nothing to "
                    "compare. Where the adjustment left none, widen the caliper or trim less."
                )
            w = weights[at]
            one = 1 / effective_size(w)  # 1 / n without weights
            of_arms.append(w)
            totals.append(total)
            unbias.append(1 / (1 - one) if one < 1 - 1e-12 else 0.0)
            signed[at] = sign * w / total
        return cls(
            rows,
            (of_arms[0], of_arms[1]),
            (totals[0], totals[1]),
            signed,
            (unbias[0], unbias[1]),
            bool((weights < 0).any()),
        )

    def moments(self, x: FloatArray, binary: bool) -> tuple[FloatArray, FloatArray]:
        """Means and variances of one covariate, control first."""
        mean, var = np.empty(2), np.empty(2)
        for arm in (0, 1):
            values, w, total = x[self.rows[arm]], self.weights[arm], self.total[arm]
            mean[arm] = w @ values / total
            values -= mean[arm]
            np.square(values, out=values)
            var[arm] = mean[arm] * (1 - mean[arm]) if binary else self.unbias[arm] * (w @ values) / total
        return mean, var


def _compare(X: FloatArray, before: _Arms, after: _Arms | None, basis: str, distances: bool) -> dict[str, FloatArray]:
    """All columns of the table; a column of the matrix at a time, each sorted once."""
    names = ("mean_control", "mean_treated", "smd", "variance_ratio", "ks")
    found = {f"{what}_{when}": np.empty(X.shape[1]) for when in ("before", "after") for what in names}
    for j in range(X.shape[1]):
        x = np.ascontiguousarray(X[:, j], dtype=np.float64)
        binary = bool(((x == 0) | (x == 1)).all())
        order = np.argsort(x) if distances and not binary else None
        mean, var = before.moments(x, binary)
        scale = _scale(x, var, basis, binary)
        for when, arms in (("before", before), ("after", after)):
            if arms is None:
                for what in names:
                    found[f"{what}_after"][j] = found[f"{what}_before"][j]
                continue
            if when == "after":
                mean, var = arms.moments(x, binary)
            gap = mean[1] - mean[0]
            ratio, distance = _ratio_and_distance(x, order, binary, var, gap, arms)
            for what, value in zip(names, (mean[0], mean[1], gap / scale, ratio, distance), strict=True):
                found[f"{what}_{when}"][j] = value
    return found


def _ratio_and_distance(
    x: FloatArray, order: IntArray | None, binary: bool, var: FloatArray, gap: float, arms: _Arms
) -> tuple[float, float]:
    """Variance ratio and KS distance, this without ``order`` only of a 0/1 covariate. Negative weights have neither."""
    nan = float("nan")
    if arms.negative:
        return nan, nan
    if binary:
        return nan, abs(gap)
    distance = nan if order is None else ks_distance(x[order], arms.signed[order])
    return var[1] / var[0] if var[0] > 0 else nan, distance


def _scale(x: FloatArray, var: FloatArray, basis: str, binary: bool) -> float:
    """The standard deviation to divide by; that over all units where it is zero, 1 where nothing varies."""
    chosen = {"pooled": var.mean(), "treated": var[1], "control": var[0]}[basis]
    tiny = (1e-13 * np.abs(x).max(initial=0.0)) ** 2  # a constant of 0.1, say, varies by its last bit
    if chosen > tiny:
        return float(np.sqrt(chosen))
    whole = float(x.mean() * (1 - x.mean())) if binary else float(x.var(ddof=1))
    return float(np.sqrt(whole)) if whole > tiny else 1.0


def ks_distance(ordered: FloatArray, signed: FloatArray) -> float:
    """Kolmogorov–Smirnov distance between two weighted samples: max_x |F_1(x) - F_0(x)|.

    Parameters
    ----------
    ordered : array of shape (n,)
        Values of both samples, ascending.
    signed : array of shape (n,)
        Weight of each value: positive in sample 1, negative in sample 0, summing to 1 and -1.

    Examples
    --------
    >>> ks_distance(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, -0.5, 0.5, -0.5]))
    0.5
    """
    steps = np.cumsum(signed)
    last = np.append(ordered[1:] != ordered[:-1], True)  # equal values enter both functions at once
    return float(np.abs(steps[last]).max(initial=0.0))


def _covariates(X: Any, names: Any) -> tuple[FloatArray, AnyArray]:
    X = check_covariates(X)
    matrix, found = design_matrix(X, all_levels=True) if isinstance(X, pd.DataFrame) else as_design(X)
    if names is None:
        return matrix, found
    labels = np.array([str(name) for name in names], dtype=object)
    check_length(len(labels), matrix.shape[1], name="names")
    return matrix, labels


def check_denominator(denominator: str) -> str:
    """Return the name of a denominator that is known."""
    if denominator not in DENOMINATORS:
        raise CausalRecError(
            f"denominator is {denominator!r}; expected one of {list_some(DENOMINATORS)}."
            f"{nearest(str(denominator), DENOMINATORS)}"
        )
    return denominator


def _positive(weights: Any, n: int) -> FloatArray:
    w = check_vector(weights, name="weights", n_rows=n)
    if (w < 0).any():
        raise CausalRecError(
            f"weights: {int((w < 0).sum())} of {n} are negative, as a regression's may be; the spread is of weights "
            "that are zero or above."
        )
    return w
