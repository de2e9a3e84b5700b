r"""The curves of other packages over cumulative sums, each with its derivative.

At a point of the ranking let :math:`n_t, n_c` be the treated and control units so far, :math:`Y_t, Y_c` their outcomes
and :math:`x` the units so far; with weights each is a sum of weights. Every curve is a smooth function of these five
sums (rows of a (5, m) array), so the derivative of an area with respect to a row's weight is found in three steps
backwards: from the area to the values, from the values to the sums, from the sums to the rows by a reversed cumulative
sum. That is the infinitesimal jackknife (Efron, 1982, "The Jackknife, the Bootstrap and Other Resampling Plans",
chapter 6; van der Vaart, 1998, "Asymptotic Statistics", chapter 20) in O(n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalrec._typing import FloatArray, IntArray

X, N_T, N_C, Y_T, Y_C = range(5)


@dataclass(frozen=True, eq=False)
class Rows:
    """Units of two arms, best score first.

    Attributes
    ----------
    y : array of shape (n,)
    treated : array of shape (n,)
        0.0 or 1.0.
    weight : array of shape (n,)
        With a mean of one.
    treated_factor, control_factor : arrays of shape (n,), or floats
        What a unit counts for in the sums of its arm, apart from its weight: 1, or pylift's halves of inverse
        propensities.
    group_end : int array of shape (m,)
        Last unit of every group that the package takes as one step.
    """

    y: FloatArray
    treated: FloatArray
    weight: FloatArray
    treated_factor: FloatArray | float
    control_factor: FloatArray | float
    group_end: IntArray

    def steps(self) -> FloatArray:
        """What each group adds to the five sums, shape (5, m)."""
        w_t = self.weight * self.treated * self.treated_factor
        w_c = self.weight * (1 - self.treated) * self.control_factor
        parts = np.stack([self.weight, w_t, w_c, w_t * self.y, w_c * self.y])
        if len(self.group_end) == len(self.y):
            return parts
        return np.asarray(np.add.reduceat(parts, np.r_[0, self.group_end[:-1] + 1], axis=1))

    def by_weight(self, by_steps: FloatArray) -> FloatArray:
        """A derivative by the groups' steps (5, m) as one by the rows' weights: through x and each arm, (3, n)."""
        if len(self.group_end) < len(self.y):
            by_steps = np.repeat(by_steps, np.diff(np.r_[-1, self.group_end]), axis=1)
        by_treated = self.treated * self.treated_factor * (by_steps[N_T] + self.y * by_steps[Y_T])
        by_control = (1 - self.treated) * self.control_factor * (by_steps[N_C] + self.y * by_steps[Y_C])
        return np.stack([by_steps[X], by_treated, by_control])


@dataclass(frozen=True, eq=False)
class Curve:
    """Values of a curve at the points where the sums stand, and their derivatives.

    Attributes
    ----------
    value : array of shape (m,)
    slope : array of shape (5, m)
        Derivative of each value with respect to the sums at its own point.
    x : array of shape (m,)
        Units so far.
    total_slope : array of shape (5, m), or None
        The same with respect to the sums of all units.
    first, power : int
        The value at a point j before ``first`` = k is :math:`v_k (x_j / x_k)^{power}`.
    """

    value: FloatArray
    slope: FloatArray
    x: FloatArray
    total_slope: FloatArray | None = None
    first: int = 0
    power: int = 1

    def pull(self, by_value: FloatArray) -> FloatArray:
        """The derivative by the sums (5, m) of something whose derivative by the values (m,) is given."""
        k = self.first
        before, by_value = by_value[:k].copy(), by_value.copy()
        if k:
            ratio, level = self.x[:k] / self.x[k], self.value[k] / self.x[k]
            moved = float(before @ ratio**self.power)
            by_value[:k], by_value[k] = 0.0, by_value[k] + moved
        slopes = np.asarray(self.slope * by_value)
        if k:
            slopes[X, :k] = before * self.power * ratio ** (self.power - 1) * level
            slopes[X, k] -= self.power * moved * level
        if self.total_slope is not None:
            slopes[:, -1] += self.total_slope @ by_value
        return slopes


Maker = Callable[[FloatArray], Curve]


def difference(sums: FloatArray) -> Curve:
    """The difference of the arms' means so far; the mean of an empty arm is zero."""
    x, n_t, n_c, y_t, y_c = sums
    per_t, per_c = _inverse(n_t), _inverse(n_c)
    mean_t, mean_c = y_t * per_t, y_c * per_c
    slope = np.stack([np.zeros_like(x), -mean_t * per_t, mean_c * per_c, per_t, -per_c])
    return Curve(mean_t - mean_c, slope, x)


def gain(sums: FloatArray) -> Curve:
    """The difference of the means so far times the units so far: scikit-uplift's uplift curve."""
    lift, x = difference(sums), sums[X]
    slope = lift.slope * x
    slope[X] = lift.value
    return Curve(lift.value * x, slope, x)


def qini(sums: FloatArray) -> Curve:
    """Treated outcomes less the control's at the treated's size: scikit-uplift's Qini curve."""
    x, n_t, n_c, y_t, y_c = sums
    per_c = _inverse(n_c)
    ratio, mean_c = n_t * per_c, y_c * per_c
    slope = np.stack([np.zeros_like(x), -mean_c, mean_c * ratio, np.ones_like(x), -ratio])
    return Curve(y_t - y_c * ratio, slope, x)


def interpolated_lift(sums: FloatArray) -> Curve:
    """The difference of the means so far, straight from the origin to the first point with both arms: causalml's."""
    return _interpolated(difference(sums), _first(sums[N_T] * sums[N_C]))


def interpolated_gain(sums: FloatArray) -> Curve:
    """The interpolated difference of the means times the units so far: causalml's cumulative gain.

    It is the lift that is interpolated, so before both arms have been seen the gain is a parabola.
    """
    return _interpolated(gain(sums), _first(sums[N_T] * sums[N_C]), power=2)


def interpolated_qini(sums: FloatArray) -> Curve:
    """scikit-uplift's Qini curve, from the origin straight to the first point with a control unit: causalml's."""
    return _interpolated(qini(sums), _first(sums[N_C]))


def toc(sums: FloatArray) -> Curve:
    """The difference of the means so far less that of all; zero before both arms have been seen: causalml's TOC."""
    lift = difference(sums)
    seen = np.arange(len(lift.value)) >= _first(sums[N_T] * sums[N_C])
    total_slope = np.where(seen, -lift.slope[:, -1:], 0.0)
    return Curve(np.where(seen, lift.value - lift.value[-1], 0.0), lift.slope * seen, sums[X], total_slope)


def pylift_qini(sums: FloatArray) -> Curve:
    """Outcomes so far over the arms' whole sizes: pylift's qini."""
    x, _, _, y_t, y_c = sums
    _, all_t, all_c, _, _ = sums[:, -1]
    slope, total = np.zeros_like(sums), np.zeros_like(sums)
    slope[Y_T], slope[Y_C] = 1 / all_t, -1 / all_c
    total[N_T], total[N_C] = -y_t / all_t**2, y_c / all_c**2
    return Curve(y_t / all_t - y_c / all_c, slope, x, total)


def pylift_aqini(sums: FloatArray) -> Curve:
    """scikit-uplift's Qini curve over the treated's whole size: pylift's adjusted qini."""
    return _over_total(qini(sums), sums[N_T, -1], (N_T,))


def pylift_cgains(sums: FloatArray) -> Curve:
    """The difference of the means so far times the share of all units so far, both weighted: pylift's cgains."""
    lift, size = difference(sums), sums[N_T] + sums[N_C]
    slope = lift.slope * size
    slope[N_T] += lift.value
    slope[N_C] += lift.value
    return _over_total(Curve(lift.value * size, slope, sums[X]), size[-1], (N_T, N_C))


def _inverse(size: FloatArray) -> FloatArray:
    return np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)


def _first(size: FloatArray) -> int:
    return int(np.argmax(size > 0))


def _interpolated(curve: Curve, first: int, power: int = 1) -> Curve:
    value = curve.value.copy()
    value[:first] = value[first] * (curve.x[:first] / curve.x[first]) ** power
    return Curve(value, curve.slope, curve.x, first=first, power=power)


def _over_total(curve: Curve, total: float, of: tuple[int, ...]) -> Curve:
    """A curve divided by a sum over all units, which consists of the rows ``of`` of the sums."""
    total_slope = np.zeros_like(curve.slope)
    total_slope[list(of)] = -curve.value / total**2
    return Curve(curve.value / total, curve.slope / total, curve.x, total_slope)
