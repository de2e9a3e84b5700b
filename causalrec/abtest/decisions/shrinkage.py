"""Winner's curse: effects that were chosen since they are large are too large, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special, stats

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative, check_confidence_level, check_length, check_vector
from causalrec.abtest.bayes.priors import NormalPrior, fit_prior
from causalrec.abtest.decisions.impact import effect_on_scale
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.results import ABResult, ConditionalResult, PriorResult, ShrinkageResult

_WIDEST, _NODES = 8.0, 600  # of the spread, in standard deviations; and where it is evaluated
_FAR = 1e3  # standard errors, beyond which no limit is looked for


def shrink_winners(
    effects: Sequence[ABResult] | Sequence[float] | FloatArray,
    std_errors: Sequence[float] | FloatArray | None = None,
    *,
    prior: NormalPrior | PriorResult | None = None,
    labels: Sequence[str] | None = None,
    relative: bool = False,
    confidence_level: float = 0.95,
) -> ShrinkageResult:
    """Draw effects towards the mean of all that are like them: the posterior under a normal prior.

    Of an effect y with error s under a prior N(m, t^2) the mean is m + k (y - m) with k = t^2 / (t^2 + s^2), the
    variance k s^2. Without a prior it is learned from the effects themselves (:func:`fit_prior`: empirical Bayes, by
    the marginal likelihood). Both numbers of such a prior are uncertain, without which intervals of the largest of
    40 effects cover 84% instead of 95%. So their errors are the root of the expected square of truth - estimate when
    the mean and the spread t are integrated out under flat priors, as Gelman (2006) has them; that covers 90% and more.
    However many of the effects one then picks, the posterior needs no further correction:
    selection on the data does not change it, if the prior is right (Dawid 1994).

    Give all experiments, not only the winners: the losers are what shows how large true effects are.

    Parameters
    ----------
    effects : sequence of ABResult, or of float
    std_errors : sequence of float, optional
        Of effects given as numbers.
    prior : NormalPrior or PriorResult, optional
        In the unit of the effects.
    labels : sequence of str, optional
    relative : bool
        Of results, their relative effects (errors by the delta method), which experiments on other metrics share.
    confidence_level : float

    Raises
    ------
    OutcomeError
        For missing values, errors that are not positive, or fewer than three effects without a prior.
    CausalRecError
        For numbers without errors, or results with them.

    See Also
    --------
    shrink_effects : The same with the spread integrated out, for as few as two groups.

    Examples
    --------
    >>> found = shrink_winners([0.08, 0.01, -0.02, 0.00, 0.02, -0.01], [0.03] * 6, labels=list("abcdef"))
    >>> print(f"{found.estimate[0]:.3f} -> {found.shrunk[0]:.3f}")
    0.080 -> 0.023
    """
    level = check_confidence_level(confidence_level)
    y, s, names = _taken(effects, std_errors, labels, relative)
    mean, spread, how = _prior(y, s, prior)
    kept = spread**2 / (spread**2 + s**2)
    centre = mean + kept * (y - mean)
    error = np.sqrt(kept) * s if prior is not None else _error_with_spread(y, s, centre)
    half = float(special.ndtri((1 + level) / 2)) * error
    return ShrinkageResult(
        prior_mean=mean, prior_std=spread, n_effects=len(y), n_sign_changes=int((np.sign(centre) != np.sign(y)).sum()),
        mean_kept=float(kept.mean()), confidence_level=level, method=how, label=np.array(names), estimate=y,
        std_error=s, shrunk=centre, shrunk_error=error, ci_low=centre - half, ci_high=centre + half,
    )  # fmt: skip


def _taken(
    effects: Sequence[ABResult] | Sequence[float] | FloatArray,
    std_errors: Sequence[float] | FloatArray | None,
    labels: Sequence[str] | None,
    relative: bool,
) -> tuple[FloatArray, FloatArray, list[str]]:
    given = [e for e in effects if isinstance(e, ABResult)]
    if bool(given) == (std_errors is not None) or (given and len(given) < len(effects)):
        raise CausalRecError(
            f"found {len(given)} results among {len(effects)} effects and std_errors="
            f"{'given' if std_errors is not None else None}; expected results alone, or numbers with their std_errors."
        )
    if given:
        pairs = [_relative(e) if relative else (e.estimate, e.std_error) for e in given]
        y, s = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
        names = [f"{e.metric}, {e.treatment}" + (f", {e.segment}" if e.segment else "") for e in given]
    else:
        y, s = check_vector(effects, name="effects"), check_vector(std_errors, name="std_errors")
        names = [str(k + 1) for k in range(len(y))]
    check_length(len(s), len(y), name="std_errors")
    if labels is not None:
        check_length(len(labels), len(y), name="labels")
        names = [str(label) for label in labels]
    if not (np.isfinite(y).all() and np.isfinite(s).all() and (s > 0).all()):
        bad = int((~(np.isfinite(y) & np.isfinite(s) & (s > 0))).sum())
        raise OutcomeError(
            f"{bad} of {len(y)} effects are missing or have no error > 0. Drop those; an effect without an error "
            "cannot be shrunk."
        )
    return y, s, names


def _relative(effect: ABResult) -> tuple[float, float]:
    value, error, _, _ = effect_on_scale(effect, relative=True)
    return value, error


def _prior(y: FloatArray, s: FloatArray, prior: NormalPrior | PriorResult | None) -> tuple[float, float, str]:
    """Mean, spread, and where they are from."""
    if isinstance(prior, NormalPrior):
        return prior.mean, prior.std, f"given prior: {prior}"
    fitted = prior if isinstance(prior, PriorResult) else fit_prior(y, s)
    if fitted.family != "normal":
        raise CausalRecError(f"found a prior of the family {fitted.family!r}; expected a normal one, as of fit_prior.")
    if prior is not None:
        return fitted.mean, fitted.std, f"prior from {fitted.n_experiments} past experiments"
    how = "empirical Bayes: normal prior by marginal maximum likelihood; errors with that of the prior"
    return fitted.mean, fitted.std, how


def _error_with_spread(y: FloatArray, s: FloatArray, centre: FloatArray) -> FloatArray:
    """The root mean square of truth - centre, given the data, with the prior's mean and spread integrated out."""
    spread = np.linspace(0.0, _WIDEST * max(float(y.std()), float(s.max())), _NODES)[1:, None]
    weight = 1 / (s**2 + spread**2)
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight @ y)[:, None] / total
    log = 0.5 * (np.log(weight).sum(axis=1) - np.log(total[:, 0]) - (weight * (y - mean) ** 2).sum(axis=1))
    chance = np.exp(log - log.max())
    kept = spread**2 * weight
    square = kept * s**2 + (1 - kept) ** 2 / total + (mean + kept * (y - mean) - centre) ** 2
    return np.asarray(np.sqrt(chance @ square / chance.sum()))


def conditional_estimate(
    estimate: float,
    std_error: float,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    confidence_level: float = 0.95,
    metric: str = "effect",
    n_obs: int = 0,
) -> ConditionalResult:
    """The effect given that it was significant, which is why it is looked at (Zhong and Prentice 2008).

    The law of a normal estimate that is seen only beyond its critical value is truncated there. The estimate maximises
    that conditional likelihood; the interval holds the effects at which the estimate seen lies between the two outer
    quantiles of it, so it covers the truth in exactly ``confidence_level`` of the experiments that are significant.

    Parameters
    ----------
    estimate, std_error : float
    alpha : float
        The size of the test that it passed.
    alternative : {"two-sided", "greater", "less"}
        The side of that test.
    confidence_level : float
    metric : str
    n_obs : int
        For the result.

    Raises
    ------
    OutcomeError
        For an estimate that is not significant: nothing was selected, and there is nothing to correct.
    CausalRecError
        For numbers outside their range.

    Notes
    -----
    Just beyond the critical value of a one-sided test the likeliest effect is far on the other side; the interval says
    how little is known then. An effect far beyond it is hardly changed.

    Examples
    --------
    >>> found = conditional_estimate(0.022, 0.01)
    >>> print(f"{found.estimate:.4f} [{found.ci_low:.4f}, {found.ci_high:.4f}]")
    0.0064 [-0.0062, 0.0374]
    """
    level = check_confidence_level(confidence_level)
    check_alternative(alternative)
    if not (math.isfinite(estimate) and 0 < std_error < math.inf and 0 < alpha < 1):
        raise CausalRecError(
            f"found estimate {estimate}, std_error {std_error} and alpha {alpha}; expected a finite number, one > 0, "
            "and one in (0, 1)."
        )
    two_sided = alternative == "two-sided"
    side = -1.0 if alternative == "less" or (two_sided and estimate < 0) else 1.0
    x = side * estimate / std_error
    limit = float(stats.norm.isf(alpha / 2 if two_sided else alpha))
    if not x > limit:
        raise OutcomeError(
            f"the estimate lies {x:.3f} standard errors from 0, not beyond {limit:.3f}: it is not significant at "
            f"{alpha:g}, so it was not selected for that. Use it as it is."
        )
    middle = _likeliest(x, limit, two_sided)
    tail = (1 - level) / 2
    low, high = (_limit(x, limit, two_sided, p) for p in (tail, 1 - tail))
    ends = sorted((side * low * std_error, side * high * std_error))
    return ConditionalResult(
        estimate=side * middle * std_error, std_error=std_error, ci_low=ends[0], ci_high=ends[1],
        pvalue=math.exp(_log_tail(0.0, x, limit, two_sided) + (math.log(2) if two_sided else 0.0)),
        confidence_level=level, n_obs=n_obs,
        method=f"conditional on significance at {alpha:g}, {alternative}; truncated normal, maximum likelihood",
        estimand=metric, reported=float(estimate), alpha=float(alpha), alternative=alternative,
    )  # fmt: skip


def _log_chance(mu: float, limit: float, two_sided: bool) -> float:
    """Of the logarithm of the probability to be significant."""
    up = special.log_ndtr(mu - limit)
    return float(np.logaddexp(up, special.log_ndtr(-mu - limit)) if two_sided else up)


def _log_tail(mu: float, x: float, limit: float, two_sided: bool) -> float:
    """Log P(X >= x given that it is significant), x above the limit: rising in mu."""
    return float(special.log_ndtr(mu - x)) - _log_chance(mu, limit, two_sided)


def _likeliest(x: float, limit: float, two_sided: bool) -> float:
    """Where x is the mean of the truncated law, which is the maximum of its likelihood (an exponential family)."""

    def excess(mu: float) -> float:
        chance = _log_chance(mu, limit, two_sided)
        up = math.exp(stats.norm.logpdf(mu - limit) - chance)
        down = math.exp(stats.norm.logpdf(mu + limit) - chance) if two_sided else 0.0
        return mu + up - down - x

    low = -_FAR
    if two_sided:
        low = 0.0  # there the mean is 0, below x
    elif excess(low) > 0:
        return -math.inf
    return float(optimize.brentq(excess, low, x, xtol=1e-12))


def _limit(x: float, limit: float, two_sided: bool, p: float) -> float:
    """The effect at which the tail beyond x is p."""

    def gap(mu: float) -> float:
        return _log_tail(mu, x, limit, two_sided) - math.log(p)

    low, high = x - 1.0, x + 1.0
    while gap(low) > 0:
        low = x - 2 * (x - low)
        if low < -_FAR:
            return -math.inf
    while gap(high) < 0:
        high = x + 2 * (high - x)
    return float(optimize.brentq(gap, low, high, xtol=1e-12))
