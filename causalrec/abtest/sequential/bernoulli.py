"""Shares of few events: confidence sequences that hold exactly, without a law of large numbers.

For a null p the successes s and failures f so far are put against a beta mixture with mean p and weight k,

    M(p) = B(p k + s, (1 - p) k + f) / B(p k, (1 - p) k) / (p^s (1 - p)^f),

which is a martingale if p is true, so that {p: M(p) < 1 / alpha} always holds p with probability 1 - alpha or more
(Robbins 1970; Howard, Ramdas, McAuliffe & Sekhon 2021, proposition 7). One-sided, the beta law is cut off at p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincc, betaln, xlog1py, xlogy

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative, check_confidence_level
from causalrec.abtest.sequential.always_valid import check_tuning, mixture_rho2
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import NAN, ABResult

_HALVINGS = 56
_POINTS, _ZOOMS = 33, 5
_LEAST_WEIGHT = 1e-3
_TINY, _NEARLY_ONE = 1e-300, 1 - 1e-15


def bernoulli_interval(
    successes: Any,
    n: Any,
    *,
    n_tuning: float = 10_000,
    confidence_level: float = 0.95,
    alternative: str = "two-sided",
) -> tuple[FloatArray, FloatArray]:
    """Intervals of a share that hold at all n at once, exactly.

    Parameters
    ----------
    successes : array-like
        So far: counts, or sums of values between 0 and 1, for whose mean it holds too.
    n : array-like
        Trials so far; none gives (0, 1).
    n_tuning : float
        Where the intervals are about as narrow as they can be.
    confidence_level : float
        Above .5 for one side.
    alternative : {"two-sided", "greater", "less"}
        One-sided intervals end at 1 or 0 on the side of the alternative.

    Returns
    -------
    low, high : arrays

    Raises
    ------
    OutcomeError
        For counts without 0 <= successes <= n.
    CausalRecError
        For a level outside (0, 1), or outside (.5, 1) for one side, an unknown ``alternative``, or an ``n_tuning``
        below 1.

    Examples
    --------
    >>> low, high = bernoulli_interval([15, 700], [50, 1_000], n_tuning=100)
    >>> print([f"{a:.3f} {b:.3f}" for a, b in zip(low, high)])
    ['0.130 0.515', '0.652 0.746']
    """
    tuned = _tuned(n_tuning, confidence_level, alternative)
    good, trials = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if not ((good >= 0) & (good <= trials) & np.isfinite(trials)).all():
        raise OutcomeError(
            "bernoulli_interval: expected 0 <= successes <= n and finite numbers. Check that successes come first, and "
            "are sums so far."
        )
    enough = np.full(good.shape, tuned.evidence)
    low = tuned.lowest(good, trials - good, enough) if alternative != "less" else np.zeros(good.shape)
    high = 1 - tuned.lowest(trials - good, good, enough) if alternative != "greater" else np.ones(good.shape)
    return low, high


def bernoulli_difference(
    successes_control: int,
    n_control: int,
    successes_treatment: int,
    n_treatment: int,
    *,
    n_tuning: float = 10_000,
    confidence_level: float = 0.95,
    alternative: str = "two-sided",
    metric: str = "conversion",
    control: str = "control",
    treatment: str = "treatment",
) -> ABResult:
    """Compare the shares of two arms, however few the events and often the looks.

    The product of the two arms' martingales is one too, so that {(p0, p1): M(p0) M(p1) < 1 / alpha} always holds the
    true pair. The intervals of difference and ratio are what these pairs span, and p is one over the least product
    among equal shares. With shares near .2 and 1,000 to 100,000 units in each arm that is 20% to 29% narrower than to
    combine an interval of each arm at half of alpha, and 7% to 21% wider than :class:`AlwaysValid`, which is not valid
    with few events. One side is bounded as with two at the same level, which is safe, and wider than it need be.

    Parameters
    ----------
    successes_control, n_control, successes_treatment, n_treatment : int
        So far.
    n_tuning : float
        Units of both arms where the intervals are about as narrow as they can be.
    confidence_level, alternative
        As of :func:`bernoulli_interval`.
    metric, control, treatment : str
        Names for the result.

    Raises
    ------
    OutcomeError
        For counts that are not whole numbers with 0 <= successes <= n, or an arm without units.
    CausalRecError
        As of :func:`bernoulli_interval`.

    Examples
    --------
    >>> found = bernoulli_difference(4, 2_000, 22, 2_000, n_tuning=4_000)
    >>> print(f"{found.estimate:.4f} [{found.ci_low:.4f}, {found.ci_high:.4f}] p = {found.pvalue:.3f}")
    0.0090 [0.0008, 0.0197] p = 0.019
    """
    check_tuning(n_tuning)
    check_alternative(alternative)
    tuned = _tuned(max(n_tuning / 2, 1), confidence_level)
    arms = [_Arm(successes_control, n_control), _Arm(successes_treatment, n_treatment)]
    for name, arm in zip((control, treatment), arms, strict=True):
        arm.check(metric, name)
    c, t = arms
    difference, ratio = [-1.0, 1.0], [0.0, math.inf]
    if alternative != "less":
        difference[0], ratio[0] = _smallest(tuned, c, t)
    if alternative != "greater":
        least, least_ratio = _smallest(tuned, t, c)
        difference[1], ratio[1] = -least, (1 / least_ratio if least_ratio > 0 else math.inf)
    p0, p1 = c.share, t.share
    v0, v1 = p0 * (1 - p0) / c.n, p1 * (1 - p1) / t.n
    return ABResult(
        estimate=p1 - p0, std_error=math.sqrt(v0 + v1) or NAN, ci_low=difference[0], ci_high=difference[1],
        pvalue=_pvalue(tuned, c, t, alternative), confidence_level=float(confidence_level), n_obs=c.n + t.n,
        method=f"beta-binomial mixtures of two arms, always valid, tuned for {n_tuning:,.0f} units",
        estimand="difference", metric=metric, control=control, treatment=treatment, control_mean=p0, treatment_mean=p1,
        n_control=c.n, n_treatment=t.n, statistic=NAN, df=NAN, relative_effect=p1 / p0 - 1 if p0 else NAN,
        relative_ci_low=ratio[0] - 1, relative_ci_high=ratio[1] - 1, hypothesis=alternative,
        control_std_error=math.sqrt(v0), treatment_std_error=math.sqrt(v1), inference="always valid",
    )  # fmt: skip


@dataclass(frozen=True)
class _Arm:
    good: int
    n: int

    @property
    def bad(self) -> int:
        return self.n - self.good

    @property
    def share(self) -> float:
        return self.good / self.n

    def check(self, metric: str, name: str) -> None:
        whole = math.isfinite(self.good) and math.isfinite(self.n) and self.good % 1 == 0 and self.n % 1 == 0
        if not (whole and 0 <= self.good <= self.n and self.n >= 1):
            raise OutcomeError(
                f"{metric}: arm {name!r} has {self.good} successes among {self.n} units; expected whole numbers with "
                "0 <= successes <= n, and a unit at least."
            )


@dataclass(frozen=True)
class _Tuned:
    """The mixture's weight, the logarithm of 1 / alpha, and whether the mixture is cut off at the null."""

    weight: float
    evidence: float
    one_sided: bool

    def log_ratio(self, p: Any, good: Any, bad: Any) -> FloatArray:
        """The logarithm of M(p); one-sided against larger shares."""
        a, b = p * self.weight, (1 - p) * self.weight
        with np.errstate(divide="ignore", invalid="ignore"):
            found = betaln(a + good, b + bad) - betaln(a, b) - xlogy(good, p) - xlog1py(bad, -p)
            if self.one_sided:
                found = found + np.log(betaincc(a + good, b + bad, p)) - np.log(betaincc(a, b, p))
        return np.asarray(found)

    def lowest(self, good: Any, bad: Any, evidence: Any) -> FloatArray:
        """The smallest p with log M(p) <= evidence: by bisection between 0, where M is largest, and the share."""
        n = np.asarray(good + bad, dtype=np.float64)
        high = np.asarray(good / np.maximum(n, 1), dtype=np.float64) * _NEARLY_ONE
        low = np.full(high.shape, _TINY)
        high = np.maximum(high, _TINY)
        nothing = ~(self.log_ratio(low, good, bad) > evidence)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            beyond = self.log_ratio(middle, good, bad) > evidence
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return np.where(nothing, 0.0, low)


def _tuned(n_tuning: float, confidence_level: float, alternative: str = "two-sided") -> _Tuned:
    size = 1 - check_confidence_level(confidence_level)
    one_sided = check_alternative(alternative) != "two-sided"
    if one_sided and not size < 0.5:
        raise CausalRecError(f"confidence_level is {confidence_level}; for one side it must be above 0.5.")
    check_tuning(n_tuning)
    # A beta law of weight k has variance p (1 - p) / (k + 1); the normal mixture's is rho^2 p (1 - p).
    weight = max(1 / mixture_rho2(n_tuning, 2 * size if one_sided else size) - 1, _LEAST_WEIGHT)
    return _Tuned(weight, -math.log(size), one_sided)


def _smallest(tuned: _Tuned, first: _Arm, second: _Arm) -> tuple[float, float]:
    """The least p2 - p1 and p2 / p1 among the pairs that are not rejected."""

    def lowest_second(p: FloatArray) -> FloatArray:
        left = tuned.evidence - tuned.log_ratio(p, first.good, first.bad)
        return np.where(left >= least, tuned.lowest(second.good, second.bad, left), np.inf)

    bottom, at = _inside(first.share), _inside(second.share)
    # With a single success M is not least at the share but at 0.
    least = min(float(tuned.log_ratio(p, second.good, second.bad)) for p in (at, _TINY))
    top = _inside(1 - float(tuned.lowest(first.bad, first.good, tuned.evidence - least)))
    difference = _minimum(lambda p: lowest_second(p) - p, bottom, max(top, bottom))
    ratio = _minimum(lambda p: lowest_second(p) / p, bottom, max(top, bottom))
    return max(difference, -1.0), max(ratio, 0.0)


def _pvalue(tuned: _Tuned, control: _Arm, treatment: _Arm, alternative: str) -> float:
    """One over the least evidence against equal shares; 1 where the data point the other way."""
    towards = control.share - treatment.share if alternative == "less" else treatment.share - control.share
    if alternative != "two-sided" and towards <= 0:
        return 1.0

    def evidence(p: FloatArray) -> FloatArray:
        arms = [tuned.log_ratio(p, arm.good, arm.bad) for arm in (control, treatment)]
        return arms[0] + arms[1]

    low, high = sorted((_inside(control.share), _inside(treatment.share)))
    at_ends = float(evidence(np.array([_TINY, _NEARLY_ONE])).min())
    return math.exp(-max(min(_minimum(evidence, low, high), at_ends), 0.0))


def _inside(share: float) -> float:
    return min(max(share, _TINY), _NEARLY_ONE)


def _minimum(function: Callable[[FloatArray], FloatArray], low: float, high: float) -> float:
    """Of a function with one valley, on a grid that closes in upon it."""
    best = math.inf
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _POINTS)
        values = function(grid)
        at = int(np.argmin(values))
        best = min(best, float(values[at]))
        low, high = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, _POINTS - 1)])
    return best
