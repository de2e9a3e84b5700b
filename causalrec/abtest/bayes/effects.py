"""Posteriors of two or more normal arms under a prior on their effects, which ties each to control."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
from scipy import interpolate, special

from causalrec._typing import FloatArray
from causalrec.abtest.bayes.priors import NormalPrior
from causalrec.abtest.bayes.quadrature import first_reaching, panels, solve_quantile

_FAR = 9.0  # standard deviations
_NEGLIGIBLE = 45.0  # of a logarithm, below the peak
_COARSE = 2001
_MOST_PANELS = 3000
_MOST_INNER = 100
_UNIT, _UNIT_WEIGHT = panels(np.array([0.0, 1.0]))


class Observed(NamedTuple):
    """A treatment mean as it was estimated, with its variance and its covariance with the control mean."""

    mean: float
    variance: float
    covariance: float = 0.0


class Pair(Protocol):
    """The joint posterior of a control and a treatment mean."""

    @property
    def effect(self) -> tuple[float, float]:
        """Mean and standard deviation of treatment - control."""
        ...

    @property
    def control(self) -> tuple[float, float]:
        """The same of control."""
        ...

    @property
    def treatment(self) -> tuple[float, float]:
        """The same of treatment."""
        ...

    def below(self, theta: float, x: float) -> float:
        """P(treatment - theta control <= x)."""
        ...

    def ratio_below(self, r: float) -> float:
        """P(treatment / control <= r)."""
        ...


def effect_quantile(pair: Pair, q: float) -> float:
    """Of treatment - control."""
    return solve_quantile(lambda x: pair.below(1.0, x), q, *pair.effect)


def ratio_quantile(pair: Pair, q: float) -> float:
    """Of treatment / control; of a control mean near zero it is far out, but finite."""
    (c, sd_c), (t, sd_t) = pair.control, pair.treatment
    if abs(c) < sd_c:  # as a Cauchy law
        return solve_quantile(pair.ratio_below, q, 0.0, math.hypot(t, sd_t) / sd_c)
    spread = pair.effect[1] / abs(c) + sd_c * abs(t - c) / c**2
    return solve_quantile(pair.ratio_below, q, t / c, spread)


@dataclass(frozen=True)
class NormalPair:
    """Both means normal: with no prior, or one on the absolute effect, that is exact.

    With the control mean flat and independent of the effect, the effect's posterior needs its estimate alone; control
    follows it by regression.

    Examples
    --------
    >>> pair = NormalPair.of(10.0, 0.25, Observed(12.0, 0.25), NormalPrior(0.0, 1.0))
    >>> print(f"{pair.effect[0]:.4f} {pair.effect[1]:.4f} {pair.below(1.0, 0.0):.4f}")
    1.3333 0.5774 0.0105
    """

    mean_control: float
    var_control: float
    mean_effect: float
    var_effect: float
    covariance: float

    @classmethod
    def of(cls, control: float, var_control: float, treated: Observed, prior: NormalPrior | None = None) -> Self:
        """From the estimates and a prior on the absolute effect, if any."""
        effect, variance = treated.mean - control, treated.variance + var_control - 2 * treated.covariance
        slope = (treated.covariance - var_control) / variance
        if prior is None:
            return cls(control, var_control, effect, variance, slope * variance)
        kept = prior.std**2 / (prior.std**2 + variance)
        mean, left = kept * effect + (1 - kept) * prior.mean, kept * variance
        return cls(
            control + slope * (mean - effect), var_control - slope**2 * (variance - left), mean, left, slope * left
        )

    @property
    def effect(self) -> tuple[float, float]:
        """See :class:`Pair`."""
        return self.mean_effect, math.sqrt(self.var_effect)

    @property
    def control(self) -> tuple[float, float]:
        """See :class:`Pair`."""
        return self.mean_control, math.sqrt(self.var_control)

    @property
    def treatment(self) -> tuple[float, float]:
        """See :class:`Pair`."""
        return self.mean_control + self.mean_effect, math.sqrt(max(self._contrast(0.0)[1], 0.0))

    def _contrast(self, theta: float) -> tuple[float, float]:
        """Mean and variance of treatment - theta control = effect + (1 - theta) control."""
        rest = 1 - theta
        variance = self.var_effect + 2 * rest * self.covariance + rest**2 * self.var_control
        return self.mean_effect + rest * self.mean_control, variance

    def below(self, theta: float, x: float) -> float:
        """See :class:`Pair`."""
        mean, variance = self._contrast(theta)
        return float(special.ndtr((x - mean) / math.sqrt(variance)))

    def ratio_below(self, r: float) -> float:
        """See :class:`Pair`; by Hinkley (1969): P(W <= 0) + P(C <= 0) - 2 P(both), where W = treatment - r control."""
        mean, variance = self._contrast(r)
        sd_c, sd_w = math.sqrt(self.var_control), math.sqrt(variance)
        h, k = -mean / sd_w, -self.mean_control / sd_c
        if abs(k) > _FAR:
            return float(special.ndtr(h if k < 0 else -h))
        rho = (self.covariance + (1 - r) * self.var_control) / (sd_c * sd_w)
        if h == 0 and k == 0:
            return 0.5 - math.asin(max(min(rho, 1.0), -1.0)) / math.pi
        root = math.sqrt(max(1 - rho**2, 1e-16))
        # Phi(h) + Phi(k) - 2 Phi2(h, k; rho), by Owen's (1956) T.
        opposite = 0.0 if h * k > 0 or (h * k == 0 and h + k >= 0) else 1.0
        return opposite + 2 * (_owen(h, (k - rho * h) / root) + _owen(k, (h - rho * k) / root))


def _owen(h: float, numerator: float) -> float:
    """T(h, numerator / h)."""
    if h == 0:
        return math.copysign(0.25, numerator) if numerator else 0.0
    return float(special.owens_t(h, numerator / h))


@dataclass(frozen=True, eq=False)
class EffectArms:
    """Arms whose effects have a prior: given the control mean c, the others are independent normals.

    The control mean itself is flat before the data; its posterior is held at nodes.

    Attributes
    ----------
    c, weight : arrays of shape (m,)
        Nodes of the control mean and their probabilities, which add up to one.
    mean, std : arrays of shape (k, m)
        Of the k treatments, given the control mean.
    density : array of shape (m,)
        Of the control mean.

    Examples
    --------
    >>> arms = EffectArms.of(10.0, 0.25, [Observed(12.0, 0.25)], NormalPrior(0.0, 0.1, scale="relative"))
    >>> print(f"{arms.effect[0]:.3f} {arms.below(1.0, 0.0):.4f}")
    1.334 0.0096
    """

    c: FloatArray
    weight: FloatArray
    mean: FloatArray
    std: FloatArray
    density: FloatArray

    @classmethod
    def of(cls, control: float, var_control: float, treated: Sequence[Observed], prior: NormalPrior) -> Self:
        """Given c, a treatment's estimate is one of it with what the estimate of control tells taken out."""
        given = _Given(control, var_control, treated, prior)
        c, weight, density = given.nodes()
        mean, std = given.treatments(c)
        return cls(c, weight, mean, std, density)

    def of_arm(self, j: int) -> EffectArms:
        """Control and one treatment."""
        return EffectArms(self.c, self.weight, self.mean[j : j + 1], self.std[j : j + 1], self.density)

    def mirrored(self) -> EffectArms:
        """The arms with their signs changed, so that low is high."""
        return EffectArms(-self.c, self.weight, -self.mean, self.std, self.density)

    def _moments(self, mean: FloatArray, variance: FloatArray) -> tuple[float, float]:
        average = float(self.weight @ mean)
        return average, math.sqrt(float(self.weight @ (variance + (mean - average) ** 2)))

    @property
    def effect(self) -> tuple[float, float]:
        """See :class:`Pair`; of the first treatment."""
        return self._moments(self.mean[0] - self.c, self.std[0] ** 2)

    @property
    def control(self) -> tuple[float, float]:
        """See :class:`Pair`."""
        return self._moments(self.c, np.zeros_like(self.c))

    @property
    def treatment(self) -> tuple[float, float]:
        """See :class:`Pair`."""
        return self._moments(self.mean[0], self.std[0] ** 2)

    def below(self, theta: float, x: float) -> float:
        """See :class:`Pair`."""
        return float(self.weight @ special.ndtr((x + theta * self.c - self.mean[0]) / self.std[0]))

    def ratio_below(self, r: float) -> float:
        """See :class:`Pair`."""
        return float(self.weight @ special.ndtr(np.sign(self.c) * (r * self.c - self.mean[0]) / self.std[0]))

    def control_law(self) -> tuple[Callable[[float], float], Callable[[FloatArray], FloatArray]]:
        """Distribution function and density of control, by a cubic spline of the density at its nodes."""
        curve = interpolate.CubicSpline(self.c, self.density, extrapolate=False)
        area, low, high = curve.antiderivative(), self.c[0], self.c[-1]
        return (
            lambda x: float(area(np.clip(x, low, high)) / area(high)),
            lambda x: np.nan_to_num(np.maximum(curve(x), 0.0)),
        )

    def prob_best(self) -> FloatArray:
        """P(highest) of control and each treatment, of shape (k + 1,)."""
        z = (self.c - self.mean) / self.std
        control = float(self.weight @ special.ndtr(z).prod(axis=0))
        x, dx = self._above(self.c)
        low, density = self._laws(x)
        best = [float(self.weight @ (density[j] * _without(low, j) * dx).sum(axis=1)) for j in range(len(self.mean))]
        return np.array([control, *best]) / (control + sum(best))

    def expected_loss(self) -> FloatArray:
        """E[max - arm] of control and each treatment, of shape (k + 1,); nothing cancels."""
        x, dx = self._above(self.c)
        low, _ = self._laws(x)
        logs = _logs(low)
        total = logs.sum(axis=0)
        z = (self.c - self.mean) / self.std
        # The integral of F_j up to c, where control alone is above.
        under = self.std * (z * special.ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))
        losses = [self.weight @ (-np.expm1(total) * dx).sum(axis=1)]
        for j in range(len(self.mean)):
            rest = (low[j] * -np.expm1(total - logs[j]) * dx).sum(axis=1)
            losses.append(self.weight @ (np.maximum(under[j], 0.0) + rest))
        return np.array(losses, dtype=np.float64)

    def value_remaining(self, leader: int, q: float = 0.95, *, highest: bool = True) -> float:
        """See :func:`~causalrec.abtest.bayes.quadrature.value_remaining`; arms are mirrored if not ``highest``."""

        def reached(v: float) -> float:
            factor = 1 + v if highest else 1 - v
            if leader == 0:
                return float(self.weight @ special.ndtr((factor * self.c - self.mean) / self.std).prod(axis=0))
            x, dx = self._above(self.c / factor)
            _, density = self._laws(x)
            low, _ = self._laws(factor * x)
            return float(self.weight @ (density[leader - 1] * _without(low, leader - 1) * dx).sum(axis=1))

        mean, std = self.control if leader == 0 else self.of_arm(leader - 1).treatment
        return first_reaching(reached, q, highest) if (mean if highest else -mean) > 6 * std else math.nan

    def _above(self, start: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Nodes from ``start`` up past every treatment, and their weights, of shape (m, n)."""
        end = np.maximum((self.mean + _FAR * self.std).max(axis=0), start)
        n = max(math.ceil(float(((end - start) / (2 * self.std.min(axis=0))).max())), 1)
        breaks = start[:, None] + (end - start)[:, None] * (np.arange(min(n, _MOST_INNER) + 1) / n)
        if n > _MOST_INNER:  # so far apart: small steps where an arm is, one across where none is
            near = self.mean[:, :, None] + self.std[:, :, None] * np.arange(-_FAR, _FAR + 1, 2.0)
            breaks = np.column_stack([start, *near, end]).clip(start[:, None], end[:, None])
            breaks.sort(axis=1)
        width = np.diff(breaks, axis=1)[:, :, None]
        shape = (len(start), -1)
        return (breaks[:, :-1, None] + width * _UNIT).reshape(shape), (width * _UNIT_WEIGHT).reshape(shape)

    def _laws(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Distribution function and density of every treatment, of shape (k, m, n)."""
        z = (x - self.mean[:, :, None]) / self.std[:, :, None]
        density = np.exp(-0.5 * z**2) / (math.sqrt(2 * math.pi) * self.std[:, :, None])
        return np.asarray(special.ndtr(z)), density


def _without(values: FloatArray, j: int) -> FloatArray:
    """The product of all but one."""
    product: FloatArray = np.delete(values, j, axis=0).prod(axis=0)
    return product


def _logs(low: FloatArray) -> FloatArray:
    return np.log(np.maximum(low, 1e-300))


class _Given(NamedTuple):
    """What the treatments are, and how likely the data, given the control mean."""

    control: float
    var_control: float
    treated: Sequence[Observed]
    prior: NormalPrior

    def _seen(self, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Each treatment's estimate and variance given c, of shapes (k, m) and (k, 1)."""
        mean, variance, covariance = np.array(self.treated).T[:, :, None]
        slope = covariance / self.var_control
        return mean - slope * (self.control - c), np.maximum(variance - slope * covariance, 0.0)

    def _believed(self, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the prior of a treatment given c."""
        p = self.prior
        return (
            (c * (1 + p.mean), (c * p.std) ** 2) if p.scale == "relative" else (c + p.mean, np.full_like(c, p.std**2))
        )

    def treatments(self, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of each given c, of shape (k, m)."""
        (y, w), (m, v) = self._seen(c), self._believed(c)
        kept = v / (v + w)
        return kept * y + (1 - kept) * m, np.sqrt(kept * w)

    def log_density(self, c: FloatArray) -> FloatArray:
        """Of c given the data, but for a constant."""
        (y, w), (m, v) = self._seen(c), self._believed(c)
        others = -0.5 * (np.log(v + w) + (y - m) ** 2 / (v + w))
        density: FloatArray = others.sum(axis=0) - 0.5 * (c - self.control) ** 2 / self.var_control
        return density

    def nodes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Nodes of c, probabilities and densities, so close that no treatment's law is missed between them."""
        means = np.array([t.mean for t in self.treated])
        relative = self.prior.scale == "relative" and self.prior.mean != -1
        implied = means / (1 + self.prior.mean) if relative else means - self.prior.mean
        far = _FAR * math.sqrt(self.var_control)
        c = np.linspace(min(self.control, *implied) - far, max(self.control, *implied) + far, _COARSE)
        for _ in range(2):  # once from afar, once near
            logs = self.log_density(c)
            likely = np.flatnonzero(logs > logs.max() - _NEGLIGIBLE)
            c = np.linspace(c[max(likely[0] - 1, 0)], c[min(likely[-1] + 1, len(c) - 1)], _COARSE)
        density = np.exp(self.log_density(c) - self.log_density(c).max())
        mean, std = self.treatments(c)
        centre = float(density @ c / density.sum())
        own = math.sqrt(float(density @ (c - centre) ** 2 / density.sum()))
        slope = np.abs(1 - np.gradient(mean, c, axis=1))
        step = min(2 * own, float((2 * std / np.maximum(slope, 1e-12))[:, density > 1e-6].min()))
        n = int(np.clip(math.ceil((c[-1] - c[0]) / step), 8, _MOST_PANELS))
        breaks = np.linspace(c[0], c[-1], n + 1)
        if breaks[0] < 0 < breaks[-1]:  # where ratios turn their sign
            breaks = np.unique([*breaks, 0.0])
        found, weight = panels(breaks)
        logs = self.log_density(found)
        density = np.exp(logs - logs.max())
        total = float(density @ weight)
        return found, density * weight / total, density / total
