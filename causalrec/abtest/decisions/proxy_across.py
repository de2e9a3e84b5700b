"""Over many experiments: do true effects on a proxy go with true effects on the outcome?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import chdtrc, chdtri

from causalrec._typing import ArrayLike, FloatArray
from causalrec._validation import check_confidence_level, check_vector
from causalrec.exceptions import OutcomeError
from causalrec.results import NAN, ProxyAcrossResult

_FEWEST = 5  # experiments: two means and three parameters of spread
_NOTHING = 1e-4  # share of the estimates' spread that counts as no true spread
_PERFECT = 1 - 1e-6  # correlation
_LOGS = -12.0, 6.0  # of spreads, in those of the estimates
_FAR = 1e4  # slopes, in spreads of the outcome per spread of the proxy


class _Spread(NamedTuple):
    """Covariance matrix of the true effects."""

    proxy: float
    both: float
    outcome: float


_Shape: TypeAlias = Callable[[FloatArray], tuple[_Spread, FloatArray]]  # of free numbers, with its Jacobian (3, m)


class _Centre(NamedTuple):
    proxy: float
    outcome: float


@dataclass(frozen=True, eq=False)
class _Model:
    """Effects (k,) on proxy and outcome and their sampling covariances, in units of the effects' spread."""

    x: FloatArray
    y: FloatArray
    vx: FloatArray
    vy: FloatArray
    vxy: FloatArray

    def fit(self, spread: _Spread) -> tuple[float, FloatArray, _Centre]:
        """-2 x restricted log likelihood up to a constant, its gradient by the spread, the means of the true effects.

        By T = spread and W = V^-1 that gradient is sum(W - W r r' W) - sum(W (sum W)^-1 W): the means, which are the
        likeliest, add nothing.
        """
        a, b, c = self.vx + spread.proxy, self.vxy + spread.both, self.vy + spread.outcome
        det = np.maximum(a * c - b * b, 1e-12)
        p, q, r = c / det, -b / det, a / det
        total = p.sum(), q.sum(), r.sum()
        size = total[0] * total[2] - total[1] ** 2
        first, second = (p * self.x + q * self.y).sum(), (q * self.x + r * self.y).sum()
        mx = (total[2] * first - total[1] * second) / size
        my = (total[0] * second - total[1] * first) / size
        u, v = p * (self.x - mx) + q * (self.y - my), q * (self.x - mx) + r * (self.y - my)
        value = np.log(det).sum() + math.log(size) + (u * (self.x - mx) + v * (self.y - my)).sum()
        s11, s12, s22 = total[2] / size, -total[1] / size, total[0] / size
        gradient = np.array([
            (p - u * u - (p * p * s11 + 2 * p * q * s12 + q * q * s22)).sum(),
            2 * (q - u * v - (p * q * s11 + (p * r + q * q) * s12 + q * r * s22)).sum(),
            (r - v * v - (q * q * s11 + 2 * q * r * s12 + r * r * s22)).sum(),
        ])  # fmt: skip
        return float(value), gradient, _Centre(float(mx), float(my))

    def least(self, shape: _Shape, starts: Sequence[Sequence[float]]) -> tuple[FloatArray, float]:
        """Where -2 log likelihood is least, from the best of several starts, and its value."""

        def objective(v: FloatArray) -> tuple[float, FloatArray]:
            spread, slopes = shape(v)
            value, gradient, _ = self.fit(spread)
            return value, gradient @ slopes

        found = [minimize(objective, np.asarray(start), jac=True, method="BFGS") for start in starts]
        best = min(found, key=lambda each: float(each.fun))
        return np.asarray(best.x), float(best.fun)


def proxy_across(
    proxy_effects: ArrayLike,
    outcome_effects: ArrayLike,
    proxy_std_errors: ArrayLike,
    outcome_std_errors: ArrayLike,
    correlation: ArrayLike = 0.0,
    *,
    proxy: str = "proxy",
    outcome: str = "outcome",
    confidence_level: float = 0.95,
) -> ProxyAcrossResult:
    """Relate the true effects on a proxy and an outcome over k experiments, free of the noise that estimates share.

    Both effects of an experiment are estimated on the same units, so their errors are correlated; where effects are
    small beside their errors, the correlation of the estimates is mostly that of the errors, and the slope of one on
    the other is drawn towards it. Here the true effects are bivariate normal around a common mean and the errors normal
    with known covariance (van Houwelingen, Arends and Stijnen 2002), fitted by restricted maximum likelihood; intervals
    are of the profile likelihood. Units of the result are those of the effects.

    Parameters
    ----------
    proxy_effects, outcome_effects, proxy_std_errors, outcome_std_errors : arrays of shape (k,)
        Each experiment once: effects of arms that share a control are not independent.
    correlation : float or array of shape (k,)
        Of the two estimates' errors within an experiment: near the correlation of proxy and outcome over units within
        arms. It must be known; where it is not, see how much it changes the answer.
    proxy, outcome : str
        Names for the result.
    confidence_level : float

    Raises
    ------
    OutcomeError
        For fewer than five experiments, values that are not finite, errors that are not positive, or correlations
        outside [-1, 1].

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> true = rng.normal(0, [[1.0], [1.0]], size=(2, 80))  # no relation
    >>> noise = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=80).T
    >>> found = proxy_across(*(true + noise), np.ones(80), np.ones(80), 0.8)
    >>> print(f"naive {found.naive_correlation:.2f}, true {found.correlation:.2f}, p = {found.pvalue:.2f}")
    naive 0.45, true 0.11, p = 0.63
    """
    check_confidence_level(confidence_level)
    x, y, sx, sy, rho = _checked(proxy_effects, outcome_effects, proxy_std_errors, outcome_std_errors, correlation)
    unit_x, unit_y = float(x.std(ddof=1)), float(y.std(ddof=1))
    vx, vy = (sx / unit_x) ** 2, (sy / unit_y) ** 2
    model = _Model(x / unit_x, y / unit_y, vx, vy, rho * np.sqrt(vx * vy))
    start = [math.sqrt(max(1 - float(v.mean()), 0.04)) for v in (vx, vy)]
    best, least = model.least(_by_cholesky, [(start[0], s * start[1], 0.5 * start[1]) for s in (-0.7, 0.0, 0.7)])
    spread = _by_cholesky(best)[0]
    centre = model.fit(spread)[2]
    tau = math.sqrt(spread.proxy), math.sqrt(spread.outcome)
    r, b = NAN, NAN
    if tau[0] > _NOTHING:
        b = spread.both / spread.proxy
        r = b * tau[0] / tau[1] if tau[1] > _NOTHING else NAN
    allowed = least + float(chdtri(1, 1 - confidence_level))
    apart = [tuple(math.log(max(t, 0.1)) for t in tau), (-1.0, -1.0)]
    left = [(max(tau[0], 0.1), max(abs(float(best[2])), 0.1)), (0.02, 1.0)]

    def at_correlation(value: float) -> float:
        return model.least(_of_correlation(value), apart)[1] - allowed

    def at_slope(value: float) -> float:
        return model.least(_of_slope(value), left)[1] - allowed

    low, high = (_limit(at_correlation, 0.0 if math.isnan(r) else r, side * _PERFECT, side) for side in (-1, 1))
    slopes = [_limit(at_slope, 0.0 if math.isnan(b) else b, side * _FAR, side * math.inf) for side in (-1, 1)]
    scale = unit_y / unit_x
    return ProxyAcrossResult(
        proxy=proxy, outcome=outcome, n_experiments=len(x), correlation=r, correlation_ci_low=low,
        correlation_ci_high=high, slope=b * scale, slope_ci_low=slopes[0] * scale, slope_ci_high=slopes[1] * scale,
        intercept=unit_y * (centre.outcome - b * centre.proxy),
        pvalue=float(chdtrc(1, max(at_correlation(0.0) + allowed - least, 0.0))),
        naive_correlation=float(np.corrcoef(x, y)[0, 1]), naive_slope=float(np.cov(x, y)[0, 1] / unit_x**2),
        proxy_mean=centre.proxy * unit_x, outcome_mean=centre.outcome * unit_y, proxy_spread=tau[0] * unit_x,
        outcome_spread=tau[1] * unit_y, confidence_level=float(confidence_level),
        method="bivariate normal true effects, restricted maximum likelihood, profile intervals", proxy_effect=x,
        outcome_effect=y, proxy_std_error=sx, outcome_std_error=sy, sampling_correlation=rho,
    )  # fmt: skip


def _by_cholesky(v: FloatArray) -> tuple[_Spread, FloatArray]:
    """Any three numbers give a covariance matrix, and none of them stands at a border where a spread is zero."""
    slopes = np.array([[2 * v[0], 0.0, 0.0], [v[1], v[0], 0.0], [0.0, 2 * v[1], 2 * v[2]]])
    return _Spread(float(v[0] ** 2), float(v[0] * v[1]), float(v[1] ** 2 + v[2] ** 2)), slopes


def _of_correlation(r: float) -> _Shape:
    """By the logarithms of the two standard deviations, as a change of sign would be one of the correlation."""

    def shape(v: FloatArray) -> tuple[_Spread, FloatArray]:
        t, w = np.exp(np.clip(v, *_LOGS)).tolist()
        slopes = np.array([[2 * t * t, 0.0], [r * t * w, r * t * w], [0.0, 2 * w * w]])
        return _Spread(t * t, r * t * w, w * w), slopes

    return shape


def _of_slope(b: float) -> _Shape:
    """By the proxy's standard deviation and that of the outcome around the line."""
    return lambda v: (
        _Spread(float(v[0] ** 2), float(b * v[0] ** 2), float((b * v[0]) ** 2 + v[1] ** 2)),
        np.array([[2 * v[0], 0.0], [2 * b * v[0], 0.0], [2 * b * b * v[0], 2 * v[1]]]),
    )


def _limit(excess: Callable[[float], float], inside: float, last: float, beyond: float) -> float:
    """Where ``excess`` turns positive between ``inside`` and ``last``; ``beyond`` if it does not."""
    side = math.copysign(1.0, last)
    inside = side * min(side * inside, side * last)
    step, near = 0.25, inside
    while True:
        far = side * min(side * near + step, side * last)
        if excess(far) > 0:
            return float(brentq(excess, near, far, xtol=1e-6)) if excess(near) < 0 else near
        if far == last:
            return beyond
        near, step = far, 2 * step


def _checked(
    proxy: ArrayLike, outcome: ArrayLike, proxy_error: ArrayLike, outcome_error: ArrayLike, correlation: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    x = check_vector(proxy, name="proxy_effects")
    k = len(x)
    y = check_vector(outcome, name="outcome_effects", n_rows=k)
    sx = check_vector(proxy_error, name="proxy_std_errors", n_rows=k)
    sy = check_vector(outcome_error, name="outcome_std_errors", n_rows=k)
    given = np.full(k, float(correlation)) if np.ndim(correlation) == 0 else correlation  # type: ignore[arg-type]
    rho = check_vector(given, name="correlation", n_rows=k)
    if k < _FEWEST:
        raise OutcomeError(f"found {k} experiments; expected at least {_FEWEST}. Collect the effects of more.")
    if not ((sx > 0).all() and (sy > 0).all()):
        n_bad = int(((sx <= 0) | (sy <= 0)).sum())
        raise OutcomeError(f"{n_bad} of {k} experiments have a standard error <= 0; expected errors > 0. Drop those.")
    if (np.abs(rho) > 1).any():
        raise OutcomeError(
            f"correlation has {int((np.abs(rho) > 1).sum())} values outside [-1, 1]; expected the correlation of "
            "the two estimates' errors."
        )
    for name, values in (("proxy_effects", x), ("outcome_effects", y)):
        if np.ptp(values) == 0:
            raise OutcomeError(f"{name} are all {values[0]:g}; expected effects that differ. Check the columns.")
    return x, y, sx, sy, rho
