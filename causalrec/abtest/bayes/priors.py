"""What is believed before the data: of shares, of rates, of effects; and how to learn it from past experiments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level, check_length, check_vector, list_some
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, PriorResult, format_number

Scale: TypeAlias = Literal["absolute", "relative"]

_FEWEST = 3  # experiments to learn from
_MOST_ALIKE = 1e8  # prior units, beyond which shares do not differ at all


def check_scale(scale: str) -> None:
    """Raise for a scale other than ``"absolute"`` and ``"relative"``."""
    if scale not in get_args(Scale):
        raise CausalRecError(f"scale is {scale!r}; expected one of {list_some(get_args(Scale))}.")


@dataclass(frozen=True)
class NormalPrior:
    """Effects are N(mean, std^2), in the metric's unit, or relative to the control mean.

    A relative prior says treatment / control - 1 ~ N(mean, std^2), so given the control mean c that the treatment mean
    is N(c (1 + mean), (c std)^2); an absolute one that it is N(c + mean, std^2). Either holds for every interval,
    absolute and relative.

    Raises
    ------
    CausalRecError
        For numbers that are not finite, a standard deviation that is not positive, or an unknown scale.

    Examples
    --------
    >>> print(NormalPrior(0.0, 0.02, scale="relative"))
    effects of +0.0%, give or take 2.0%
    """

    mean: float
    std: float
    scale: Scale = "absolute"

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise CausalRecError(
                f"found a prior of mean {self.mean} and standard deviation {self.std}; expected finite numbers, and a "
                "standard deviation > 0. For no prior leave it out."
            )

    def __str__(self) -> str:
        if self.scale == "relative":
            return f"effects of {self.mean:+.1%}, give or take {self.std:.1%}"
        return f"effects of {format_number(self.mean)}, give or take {format_number(self.std)}"

    @classmethod
    def of(cls, fitted: PriorResult) -> NormalPrior:
        """The prior that :func:`fit_prior` found.

        Raises
        ------
        OutcomeError
            Where effects vary no more than by chance, or of a prior of shares.
        """
        if fitted.family != "normal":
            raise OutcomeError(f"found a prior of the family {fitted.family!r}; expected one of fit_prior (normal).")
        if not fitted.std > 0:
            raise OutcomeError(
                f"the {fitted.n_experiments} past effects vary no more than by chance, so their standard deviation is "
                f"estimated as 0 (at most {format_number(fitted.std_high)}); a prior needs a positive one. Give "
                "NormalPrior(mean, std) one that you can defend, such as that upper limit."
            )
        return cls(fitted.mean, fitted.std, cast(Scale, fitted.scale))


@dataclass(frozen=True)
class BetaPrior:
    """A share is Beta(a, b); Jeffreys' Beta(1/2, 1/2) is worth one unit.

    Raises
    ------
    CausalRecError
        Unless both are positive numbers.

    Examples
    --------
    >>> print(BetaPrior(20, 180))
    Beta(20, 180)
    """

    a: float = 0.5
    b: float = 0.5

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) and v > 0 for v in (self.a, self.b)):
            raise CausalRecError(f"found the prior Beta({self.a}, {self.b}); expected two finite numbers > 0.")

    def __str__(self) -> str:
        jeffreys = "Jeffreys' " if (self.a, self.b) == (0.5, 0.5) else ""
        return f"{jeffreys}Beta({format_number(self.a)}, {format_number(self.b)})"

    @classmethod
    def of(cls, fitted: PriorResult) -> BetaPrior:
        """The prior that :func:`fit_beta_prior` found.

        Raises
        ------
        OutcomeError
            For a prior of effects.
        """
        if fitted.family != "beta":
            raise OutcomeError(f"found a prior of the family {fitted.family!r}; expected one of fit_beta_prior.")
        return cls(fitted.a, fitted.b)


@dataclass(frozen=True)
class GammaPrior:
    """A rate is Gamma(shape, rate); Jeffreys' is (1/2, 0), which is no law but gives one with any exposure.

    Raises
    ------
    CausalRecError
        Unless the shape is a positive number and the rate not negative.

    Examples
    --------
    >>> print(GammaPrior())
    Jeffreys' Gamma(0.5, 0)
    """

    shape: float = 0.5
    rate: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.shape < math.inf and 0 <= self.rate < math.inf):
            raise CausalRecError(
                f"found the prior Gamma({self.shape}, {self.rate}); expected a shape > 0 and a rate >= 0, both finite."
            )

    def __str__(self) -> str:
        jeffreys = "Jeffreys' " if (self.shape, self.rate) == (0.5, 0.0) else ""
        return f"{jeffreys}Gamma({format_number(self.shape)}, {format_number(self.rate)})"


def fit_prior(
    effects: ArrayLike, std_errors: ArrayLike, *, scale: Scale = "absolute", confidence_level: float = 0.95
) -> PriorResult:
    """Learn how effects vary from past experiments, each with its own error: empirical Bayes.

    Effects are N(mean, std^2), seen as N(effect, std_error^2). Both numbers maximise the marginal likelihood, the
    product of N(mean, std^2 + std_error_i^2) (Efron and Morris 1975; the maximum-likelihood random effects of
    meta-analysis). Their intervals are those of the profile likelihood.

    Parameters
    ----------
    effects, std_errors : array-like of shape (n,)
        Of at least three experiments, all in one unit: relative effects for ``scale="relative"``. Take all that were
        run, not only those that won.
    scale : {"absolute", "relative"}
    confidence_level : float

    Raises
    ------
    OutcomeError
        For fewer than three experiments, missing values, or errors that are not positive.

    Examples
    --------
    >>> fitted = fit_prior([0.02, -0.01, 0.05, 0.00, -0.04, 0.03], [0.01] * 6, scale="relative")
    >>> print(f"{fitted.mean:.4f} {fitted.std:.4f}")
    0.0083 0.0273
    """
    check_scale(scale)
    level = check_confidence_level(confidence_level)
    y, s = check_vector(effects, name="effects"), check_vector(std_errors, name="std_errors")
    check_length(len(s), len(y), name="std_errors")
    _check_past(len(y), int((s <= 0).sum()), "standard errors that are not positive")
    unit = float(s.mean())  # the likelihood is flat on other scales
    y, s = y / unit, s / unit
    tau = _best_spread(y, s)
    mean, peak = _profile(tau, y, s)
    drop = 0.5 * float(stats.chi2.isf(1 - level, 1))
    tau_low, tau_high = _spread_limits(y, s, tau, peak - drop)
    mean_low, mean_high = (_mean_limit(y, s, tau, peak - drop, side) for side in (-1, 1))
    return PriorResult(
        family="normal", scale=scale, mean=mean * unit, mean_low=mean_low * unit, mean_high=mean_high * unit,
        std=tau * unit, std_low=tau_low * unit, std_high=tau_high * unit, confidence_level=level, a=NAN, b=NAN,
        n_experiments=len(y), log_likelihood=peak - len(y) * math.log(unit),
        method="normal-normal, marginal maximum likelihood, intervals of the profile likelihood",
    )  # fmt: skip


def _check_past(n: int, n_bad: int, what: str) -> None:
    if n < _FEWEST or n_bad:
        found = f"{n_bad} {what}" if n_bad else f"{n} past experiments"
        raise OutcomeError(
            f"found {found}; to learn a prior takes at least {_FEWEST} experiments, each with its error. Drop what has "
            "none, or give a prior."
        )


def _log_likelihood(mean: float, tau: float, y: FloatArray, s: FloatArray) -> float:
    return float(stats.norm.logpdf(y, mean, np.hypot(s, tau)).sum())


def _profile(tau: float, y: FloatArray, s: FloatArray) -> tuple[float, float]:
    """The likeliest mean given the spread, and the log-likelihood there."""
    mean = float(np.average(y, weights=1 / (s**2 + tau**2)))
    return mean, _log_likelihood(mean, tau, y, s)


def _best_spread(y: FloatArray, s: FloatArray) -> float:
    """The likeliest spread: the best of a grid, refined; the likelihood may have several peaks."""
    widest = max(float(np.ptp(y)), float(s.max()))
    tried = np.r_[0.0, np.geomspace(1e-4 * float(s.min()), 2 * widest, 200)]
    k = int(np.argmax([_profile(t, y, s)[1] for t in tried]))
    low, high = tried[max(k - 1, 0)], tried[min(k + 1, len(tried) - 1)]
    found = optimize.minimize_scalar(
        lambda t: -_profile(t, y, s)[1], bounds=(low, high), method="bounded", options={"xatol": 1e-10 * high}
    )
    better = -found.fun > _profile(0.0, y, s)[1]
    return float(found.x) if better else 0.0


def _spread_limits(y: FloatArray, s: FloatArray, tau: float, level: float) -> tuple[float, float]:
    def above(t: float) -> float:
        return _profile(t, y, s)[1] - level

    low = 0.0 if tau == 0 or above(0.0) >= 0 else float(optimize.brentq(above, 0.0, tau))
    high = max(tau, float(s.min()))
    while above(high) > 0:
        high *= 2
    return low, float(optimize.brentq(above, tau, high))


def _mean_limit(y: FloatArray, s: FloatArray, tau: float, level: float, side: int) -> float:
    """Where the likelihood, at the likeliest spread for each mean, has fallen to the level."""

    def above(mean: float) -> float:
        spread = optimize.minimize_scalar(
            lambda t: -_log_likelihood(mean, t, y, s), bounds=(0.0, 2 * (np.ptp(y) + s.max() + abs(mean - middle))),
            method="bounded", options={"xatol": 1e-9},
        )  # fmt: skip
        return max(-float(spread.fun), _log_likelihood(mean, 0.0, y, s)) - level

    middle = _profile(tau, y, s)[0]
    step = math.sqrt(1 / float((1 / (s**2 + tau**2)).sum()))
    far = middle + side * step
    while above(far) > 0:
        step *= 2
        far = middle + side * step
    return float(optimize.brentq(above, middle, far, xtol=1e-9))


def fit_beta_prior(successes: ArrayLike, n: ArrayLike, *, confidence_level: float = 0.95) -> PriorResult:
    """Learn how shares vary from past experiments' counts: the Beta that makes them likeliest.

    The counts are Beta-binomial; the two parameters maximise the product of their probabilities. The intervals of the
    mean and of the standard deviation among experiments are normal ones of their logit and logarithm, by the curvature
    of the likelihood at its peak.

    Parameters
    ----------
    successes, n : array-like of shape (m,)
        Of at least three experiments or arms.
    confidence_level : float

    Raises
    ------
    OutcomeError
        For fewer than three, counts that are not whole or not within 0..n, or shares that vary no more than by chance.

    Examples
    --------
    >>> prior = BetaPrior.of(fit_beta_prior([10, 22, 35, 14, 41], [200, 200, 400, 200, 400]))
    >>> print(f"{prior.a:.1f} {prior.b:.1f}")
    105.2 1110.4
    """
    level = check_confidence_level(confidence_level)
    x, m = check_vector(successes, name="successes"), check_vector(n, name="n")
    check_length(len(m), len(x), name="n")
    bad = (x < 0) | (x > m) | (m < 1) | (x != np.round(x)) | (m != np.round(m))
    _check_past(len(x), int(bad.sum()), "counts that are not whole numbers within 0..n")

    def loss(theta: FloatArray) -> float:
        a, b = _shape(theta)
        return -float((special.betaln(x + a, m - x + b) - special.betaln(a, b)).sum())

    start = np.array([special.logit(np.clip(x.sum() / m.sum(), 1e-6, 1 - 1e-6)), math.log(10.0)])
    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
    if found.x[1] > math.log(_MOST_ALIKE) or not 0 < x.sum() < m.sum() or m.max() == 1:
        raise OutcomeError(
            f"the shares of the {len(x)} past experiments vary no more than by chance, so no prior of finite weight is "
            "likeliest. Give BetaPrior(a, b) one that you can defend."
        )
    a, b = _shape(found.x)
    covariance = np.linalg.inv(_curvature(loss, found.x))
    z = float(special.ndtri((1 + level) / 2))
    mean, std = a / (a + b), math.sqrt(a * b / (a + b + 1)) / (a + b)
    mean_half = z * math.sqrt(covariance[0, 0])
    # log std = (log p + log(1 - p) - log(1 + concentration)) / 2
    slope = np.array([(1 - 2 * mean) / 2, -(a + b) / (2 * (a + b + 1))])
    half = z * math.sqrt(float(slope @ covariance @ slope))
    return PriorResult(
        family="beta", scale="absolute", mean=mean, mean_low=float(special.expit(found.x[0] - mean_half)),
        mean_high=float(special.expit(found.x[0] + mean_half)), std=std, std_low=std * math.exp(-half),
        std_high=std * math.exp(half), confidence_level=level, a=a, b=b, n_experiments=len(x),
        log_likelihood=float(stats.betabinom.logpmf(x, m.astype(np.int64), a, b).sum()),
        method="Beta-binomial, marginal maximum likelihood, intervals by its curvature",
    )  # fmt: skip


def _shape(theta: FloatArray) -> tuple[float, float]:
    """From the logit of the mean and the logarithm of a + b."""
    mean, weight = float(special.expit(theta[0])), math.exp(min(float(theta[1]), 50.0))
    return mean * weight, float(special.expit(-theta[0])) * weight


def _curvature(loss: Callable[[FloatArray], float], at: FloatArray, step: float = 1e-3) -> FloatArray:
    """Second derivatives by central differences."""
    e = step * np.eye(len(at))
    return np.array([
        [(loss(at + r + c) - loss(at + r - c) - loss(at - r + c) + loss(at - r - c)) / (4 * step**2) for c in e]
        for r in e
    ])  # fmt: skip
