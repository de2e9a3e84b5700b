"""Always valid inference: intervals and p-values that hold however often one looks, and whenever one stops.

An estimate with standard error s, at a distance d from the null (in standard errors) after n units, is put against
a normal mixture of effects around that null. The likelihood ratio of mixture and null is a martingale if the null is
true,

    M = (1 + x)^(-1/2) exp(d^2 x / (2 (1 + x))),  x = n rho^2,

so by Ville's inequality it ever exceeds 1 / alpha with probability alpha at most (Robbins 1970; Howard, Ramdas,
McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49).
With a variance that is estimated this holds in the limit, for any metric with a finite variance: an asymptotic
confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Theorem 2.2). The mixture sequential probability ratio test of Johari, Koomen, Pekelis
& Walsh (2022, "Always valid inference", Operations Research 70) is the same with x = tau^2 / s^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative, check_confidence_level
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.exceptions import CausalRecError, OutcomeError

_PER_SKEWNESS = 20.0


@dataclass(frozen=True)
class AlwaysValid:
    """As many looks as one likes: a normal mixture, for any estimate and any hypothesis.

    The price is width: at 95% that of the fixed test times 1.55 at ``n_tuning`` units, 1.72 at a fifth of them and 1.65
    at ten times as many. For one side the boundary is 2 log(1 + sqrt(1 + x) / (2 alpha)), in closed form (Howard et al.
    2021, equation 21); that of a mixture over effects of one sign alone, which it bounds, is less than 2% narrower at
    sizes up to .05.

    Parameters
    ----------
    n_tuning : int
        Units of both arms at which intervals at ``tuning_size`` are about as narrow as they can be: the number at which
        a decision is most likely. False alarms do not depend on it.
    tuning_size : float
        The size, one minus the level, for which it is tuned, in (0, .5). P-values are of one mixture whatever
        the level of the intervals, so that each is one over a martingale; at other sizes (.001 to .2) intervals are
        less than 1% wider than if they had been tuned for those.
    min_units : int
        No answer (p = 1, no bounds) as long as an arm has fewer units, since the theory is for large samples.
    skewness : float
        The largest that the metric may have. It makes early standard errors of the smaller arm too small, and cancels
        where the arms are equal: there is no answer as long as the smaller arm, r times the larger, has fewer than
        20 skewness^2 (1 - r)^2 / (1 + r) units. 7 is that of a share of 2%; an exponential law has 2, a symmetric
        metric 0. See the notes.

    Raises
    ------
    CausalRecError
        For ``n_tuning`` below 1, ``tuning_size`` outside (0, .5), ``min_units`` below 2 or a negative ``skewness``.

    Notes
    -----
    ``n`` is the units of both arms, so the arms' shares are taken as constant over time.

    The two thresholds are from simulations of a look after every unit, at alpha = .05 with ``n_tuning`` 100 to 10,000:
    normal, exponential, log-normal (sigma 1.5) and spending of which 95% is zero, shares of 2%, 10% and 50%. With equal
    arms false alarms were at most 5% from 20 units in each arm on. With one unit in ten in treatment and no threshold
    a share of 2% gave up to 40%; from the threshold on, with one to three and a half in ten, at most 5.1%.

    Examples
    --------
    >>> estimate = Estimate(10.0, 10.4, 0.02, 0.02, 0.0, math.inf, 5_000, 5_000, "z")
    >>> ways = AlwaysValid(n_tuning=10_000)
    >>> print(f"{ways.critical(estimate, 0.05, two_sided=True):.3f} {ways.pvalue(estimate, 3.0, two_sided=True):.3f}")
    3.035 0.055
    """

    name: ClassVar[str] = "always valid"
    n_tuning: int = 10_000
    tuning_size: float = 0.05
    min_units: int = 20
    skewness: float = 7.0

    def __post_init__(self) -> None:
        check_tuning(self.n_tuning)
        if not 0 < self.tuning_size < 0.5:
            raise CausalRecError(f"tuning_size is {self.tuning_size}; expected a number in (0, 0.5), such as 0.05.")
        if not (self.min_units >= 2 and 0 <= self.skewness < math.inf):
            raise CausalRecError(
                f"min_units is {self.min_units} and skewness {self.skewness}; expected at least two units in an arm, "
                "for a standard error, and a skewness of 0 or more."
            )

    def critical(self, estimate: Estimate, size: float, *, two_sided: bool) -> float:
        """See :class:`causalrec.abtest.Inference`; infinite for too few units."""
        if self._too_few(estimate):
            return math.inf
        x = self._x(estimate, two_sided)
        evidence = math.log1p(x) / 2 - math.log(size) if two_sided else math.log1p(math.sqrt(1 + x) / (2 * size))
        return math.sqrt(2 * max(evidence, 0.0) * (1 + 1 / x))

    def pvalue(self, estimate: Estimate, distance: float, *, two_sided: bool) -> float:
        """See :class:`causalrec.abtest.Inference`: the smallest size at which ``distance`` is beyond :meth:`critical`.

        Of this look; over looks the smallest so far is valid too.
        """
        if math.isnan(distance):
            return math.nan
        if self._too_few(estimate) or (distance <= 0 and not two_sided):
            return 1.0
        x = self._x(estimate, two_sided)
        evidence = distance * distance * x / (2 * (1 + x))
        log_p = math.log1p(x) / 2 - evidence
        if not two_sided:
            spread = -math.expm1(-evidence)
            log_p = log_p - math.log(2 * spread) if spread > 0 else math.inf
        return math.exp(min(log_p, 0.0))

    def note(self, estimate: Estimate, size: float, *, two_sided: bool) -> str:  # noqa: ARG002 - the same for all
        """See :class:`causalrec.abtest.Inference`."""
        said = f"always valid, tuned for {self.n_tuning:,} units"
        if not self._too_few(estimate):
            return said
        found, needed = min(estimate.n_control, estimate.n_treatment), math.ceil(self._needed(estimate))
        return f"{said} (no answer yet: {found:,} units in the smaller arm, {needed:,} needed)"

    def _too_few(self, estimate: Estimate) -> bool:
        return min(estimate.n_control, estimate.n_treatment) < self._needed(estimate)

    def _needed(self, estimate: Estimate) -> float:
        r = min(estimate.n_control, estimate.n_treatment) / max(estimate.n_control, estimate.n_treatment, 1)
        return max(self.min_units, _PER_SKEWNESS * self.skewness**2 * (1 - r) ** 2 / (1 + r))

    def _x(self, estimate: Estimate, two_sided: bool) -> float:
        n = estimate.n_control + estimate.n_treatment
        return n * mixture_rho2(self.n_tuning, self.tuning_size if two_sided else 2 * self.tuning_size)


def check_tuning(n_tuning: float) -> None:
    """Raise :class:`CausalRecError` unless it can be a number of units."""
    if not 1 <= n_tuning < math.inf:
        raise CausalRecError(
            f"n_tuning is {n_tuning}; expected a number of units of at least 1: about as many as you expect to have "
            "when you decide, such as 10_000."
        )


@lru_cache(maxsize=256)
def mixture_rho2(n_tuning: float, size: float) -> float:
    """The mixture's variance per unit for which the two-sided boundary at ``size`` is about lowest at ``n_tuning``.

    (2 log(1 / size) + log(1 + 2 log(1 / size))) / n_tuning: Waudby-Smith et al., equation 24 of version 7, after Howard
    et al. 2021, section 3.5; exact but for a term of the order of log log. For one side it is that of twice the size.

    Examples
    --------
    >>> print(f"{mixture_rho2(1_000, 0.05):.6f}")
    0.007936
    """
    log = -2 * math.log(size)
    return (log + math.log1p(log)) / n_tuning


def confidence_sequence(
    mean: Any,
    std: Any,
    n: Any,
    *,
    n_tuning: float = 10_000,
    confidence_level: float = 0.95,
    alternative: str = "two-sided",
) -> tuple[FloatArray, FloatArray]:
    """Intervals that hold at all n at once, from running means and standard deviations.

    Of a difference of two arms give std = standard error x sqrt(n), with n the units of both. Tuned at the level asked;
    at 95% these are the intervals of :class:`AlwaysValid`. For shares of few events see :func:`bernoulli_interval`.

    Parameters
    ----------
    mean, std : array-like
        Of the observations so far; any shapes that go together with ``n``.
    n : array-like
        Observations so far, above 0. The intervals are asymptotic: do not look at fewer than some tens.
    n_tuning : float
        Where they are about as narrow as they can be.
    confidence_level : float
        Above .5 for one side.
    alternative : {"two-sided", "greater", "less"}
        One-sided intervals are open on the side of the alternative.

    Returns
    -------
    low, high : arrays

    Raises
    ------
    OutcomeError
        For numbers that are not finite, a negative ``std``, or n not above 0.
    CausalRecError
        For a level outside (0, 1), or outside (.5, 1) for one side, an unknown ``alternative``, or an ``n_tuning``
        below 1.

    Examples
    --------
    >>> low, high = confidence_sequence([0.30, 0.28], 1.0, [1_000, 10_000])
    >>> print([f"{a:.3f} {b:.3f}" for a, b in zip(low, high)])
    ['0.178 0.422', '0.250 0.310']
    """
    size = 1 - check_confidence_level(confidence_level)
    two_sided = check_alternative(alternative) == "two-sided"
    if not two_sided and not size < 0.5:
        raise CausalRecError(f"confidence_level is {confidence_level}; for one side it must be above 0.5.")
    check_tuning(n_tuning)
    middle, spread, count = (np.asarray(v, dtype=np.float64) for v in (mean, std, n))
    finite = all(np.isfinite(v).all() for v in (middle, spread, count))
    if not (finite and (spread >= 0).all() and (count > 0).all()):
        raise OutcomeError(
            "confidence_sequence: expected finite means, finite standard deviations >= 0 and counts above 0. Leave out "
            "the looks before there are data."
        )
    x = count * mixture_rho2(n_tuning, size if two_sided else 2 * size)
    evidence = np.log1p(x) / 2 - math.log(size) if two_sided else np.log1p(np.sqrt(1 + x) / (2 * size))
    half = spread / np.sqrt(count) * np.sqrt(2 * evidence * (1 + 1 / x))
    low, high = middle - half, middle + half
    if alternative == "greater":
        high = np.full_like(low, np.inf)
    if alternative == "less":
        low = np.full_like(high, -np.inf)
    return low, high


def mixture_sprt(effect: Any, std_error: Any, *, tau: float, null: float = 0.0) -> FloatArray:
    """Always valid p-values of the mixture sequential probability ratio test, two-sided.

    The effects that are reckoned with are normal around the null with standard deviation ``tau``, in the metric's unit:
    p = sqrt((s^2 + tau^2) / s^2) exp(-tau^2 d^2 / (2 s^2 (s^2 + tau^2))), at most 1, with d = effect - null (Johari et
    al. 2022, equation 4). Exact for normal data of known variance. The same as :class:`AlwaysValid` with
    tau^2 = n rho^2 s^2.

    Parameters
    ----------
    effect, std_error : array-like
        At each look.
    tau : float
        Above 0.
    null : float

    Raises
    ------
    CausalRecError
        For a ``tau`` or a standard error that is not above 0.

    Examples
    --------
    >>> [f"{p:.4f}" for p in mixture_sprt([0.3, 0.2, 0.2], [0.2, 0.1, 0.05], tau=0.1)]
    ['0.8928', '0.5203', '0.0037']
    """
    deviation, error = np.asarray(effect, dtype=np.float64) - null, np.asarray(std_error, dtype=np.float64)
    if not (tau > 0 and math.isfinite(tau) and (error > 0).all()):
        raise CausalRecError(
            f"tau is {tau} and the smallest standard error {error.min() if error.size else 'of nothing'}; expected "
            "both above 0. tau is the size of effect that you reckon with, in the metric's unit."
        )
    x = (tau / error) ** 2
    log_p = np.log1p(x) / 2 - (deviation / error) ** 2 * x / (2 * (1 + x))
    return np.asarray(np.exp(np.minimum(log_p, 0.0)))
