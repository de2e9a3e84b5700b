"""What stopping by beliefs does: how often it errs where there is nothing, and how much time it saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from causalrec._typing import AnyArray, FloatArray, RandomState
from causalrec._validation import check_vector
from causalrec.abtest.bayes.priors import NormalPrior
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, BayesStoppingResult


class _Rule(NamedTuple):
    """When a rule stops, of shape (n_simulations, days), and which arm it then names: 1, -1, or 0 for none."""

    name: str
    stops: AnyArray
    winner: AnyArray


class _Settings(NamedTuple):
    prob: float
    loss_threshold: float | None
    alpha: float
    min_days: int
    prior: NormalPrior | None


def simulate_bayes(
    effects: ArrayLike | NormalPrior,
    *,
    std: float,
    n_per_day: int,
    days: int = 14,
    prob: float = 0.95,
    loss_threshold: float | None = None,
    prior: NormalPrior | None = None,
    min_days: int = 1,
    alpha: float = 0.05,
    n_simulations: int = 2_000,
    rng: RandomState = None,
) -> BayesStoppingResult:
    """Look every day at simulated experiments, and stop by P(best) or by expected loss; beside it the fixed test.

    Each experiment compares two arms of ``n_per_day`` new units a day each, with a normal mean; the data of all rules
    are the same. The test at the end looks once, two-sided, at ``alpha``. One rule stops when either arm is the
    best with probability ``prob``; the other when the loss of choosing the better-looking arm,
    E[max(0, -effect)] or E[max(0, effect)], falls below ``loss_threshold``. A rule that has not stopped by the last day
    names no winner, and control stays. Every one is run on experiments without an effect and on as many with
    effects drawn from ``effects``.

    Parameters
    ----------
    effects : array-like of shape (m,) or NormalPrior
        True absolute effects, drawn with replacement, or the law that they are drawn from.
    std : float
        Standard deviation of the metric in an arm, of one unit.
    n_per_day, days : int
    prob : float
        In (.5, 1).
    loss_threshold : float, optional
        In the metric's unit; without it that rule is left out.
    prior : NormalPrior, optional
        Of the rules, on the absolute effect; flat by default. With the law that effects come from, P(best) means what
        it says on average over all experiments, however often one looks, but not of those without an effect.
    min_days : int
        Rules do not stop earlier.
    alpha : float
    n_simulations : int
    rng : int or Generator, optional

    Raises
    ------
    CausalRecError
        For numbers out of range, or a relative prior, as there is no control mean here.

    Examples
    --------
    >>> result = simulate_bayes([-0.1, 0.0, 0.1], std=1.0, n_per_day=100, n_simulations=500, rng=0)
    >>> print(result.rules, result.declared_null.round(2).tolist())
    ('fixed test', 'P(best) > 95%') [0.06, 0.42]
    """
    settings = _Settings(prob, loss_threshold, alpha, min_days, prior)
    _check(settings, effects, std, n_per_day, days, n_simulations)
    generator = np.random.default_rng(rng)
    if isinstance(effects, NormalPrior):
        truth = generator.normal(effects.mean, effects.std, n_simulations)
    else:
        truth = generator.choice(check_vector(effects, name="effects"), n_simulations)
    errors = std * np.sqrt(2 / (n_per_day * np.arange(1, days + 1)))
    steps = generator.normal(0.0, std * math.sqrt(2 / n_per_day), (2, n_simulations, days))
    noise = steps.cumsum(axis=2) / np.arange(1, days + 1)
    null = [_play(rule) for rule in _rules(noise[0], errors, settings)]
    real = [_play(rule) for rule in _rules(truth[:, None] + noise[1], errors, settings)]
    names = tuple(rule.name for rule in _rules(noise[0, :1], errors, settings))
    chosen = [np.where(winner > 0, truth, 0.0) for winner, _ in real]
    when = np.arange(1, days + 1)
    return BayesStoppingResult(
        n_simulations=n_simulations, days=days, n_per_day=n_per_day, prob=prob,
        loss_threshold=NAN if loss_threshold is None else loss_threshold, alpha=alpha,
        effect_std=float(np.sqrt(np.mean(truth**2))), rules=names,
        method=f"normal means, {'flat prior' if prior is None else f'prior: {prior}'}",
        declared_null=np.array([(winner != 0).mean() for winner, _ in null]),
        declared=np.array([(winner != 0).mean() for winner, _ in real]),
        wrong=np.array([(winner * truth < 0).mean() for winner, _ in real]),
        mean_days=np.array([stop.mean() for _, stop in real]),
        median_days=np.array([np.median(stop) for _, stop in real]),
        mean_loss=np.array([(np.maximum(truth, 0.0) - gain).mean() for gain in chosen]),
        mean_gain=np.array([gain.mean() for gain in chosen]), day=when.astype(np.float64),
        declared_null_by_day=np.array([_by_day(stop[winner != 0], when, n_simulations) for winner, stop in null]),
        stopped_by_day=np.array([_by_day(stop, when, n_simulations) for _, stop in real]),
    )  # fmt: skip


def _by_day(stop: AnyArray, when: AnyArray, n: int) -> FloatArray:
    found: FloatArray = (stop[:, None] <= when).sum(axis=0) / n
    return found


def _rules(seen: FloatArray, errors: FloatArray, settings: _Settings) -> Sequence[_Rule]:
    """All rules on estimates of shape (n_simulations, days) with their standard errors."""
    last = np.arange(len(errors)) == len(errors) - 1
    limit = -float(special.ndtri(settings.alpha / 2))
    fixed = np.where(np.abs(seen / errors) > limit, np.sign(seen), 0.0)
    rules = [_Rule("fixed test", np.broadcast_to(last, seen.shape), fixed)]
    mean, spread = seen, errors
    if settings.prior is not None:
        kept = settings.prior.std**2 / (settings.prior.std**2 + errors**2)
        mean, spread = kept * seen + (1 - kept) * settings.prior.mean, np.sqrt(kept) * errors
    z, late = np.abs(mean) / spread, np.arange(1, len(errors) + 1) >= settings.min_days
    sure = (special.ndtr(z) > settings.prob) & late
    rules.append(_Rule(f"P(best) > {100 * settings.prob:.10g}%", sure, np.sign(mean)))
    if settings.loss_threshold is not None:
        loss = spread * (np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) - z * special.ndtr(-z))
        small = (loss < settings.loss_threshold) & late
        rules.append(_Rule(f"expected loss < {settings.loss_threshold:.3g}", small, np.sign(mean)))
    return rules


def _play(rule: _Rule) -> tuple[AnyArray, AnyArray]:
    """The winner that each experiment names, and the day it ends."""
    stopped = rule.stops.any(axis=1)
    first = np.where(stopped, rule.stops.argmax(axis=1), rule.stops.shape[1] - 1)
    winner = np.where(stopped, rule.winner[np.arange(len(first)), first], 0.0)
    return winner, first + 1


def _check(
    settings: _Settings, effects: ArrayLike | NormalPrior, std: float, n_per_day: int, days: int, n_simulations: int
) -> None:
    in_range = {
        "prob": (settings.prob, 0.5 < settings.prob < 1, "a number in (0.5, 1)"),
        "alpha": (settings.alpha, 0 < settings.alpha < 1, "a number in (0, 1)"),
        "std": (std, 0 < std < math.inf, "a finite number > 0"),
        "n_per_day": (n_per_day, n_per_day >= 1, "at least 1"),
        "days": (days, days >= 1 and days % 1 == 0, "a whole number, at least 1"),
        "n_simulations": (n_simulations, n_simulations >= 1 and n_simulations % 1 == 0, "a whole number, at least 1"),
        "min_days": (settings.min_days, 1 <= settings.min_days <= days, "between 1 and days"),
        "loss_threshold": (
            settings.loss_threshold, settings.loss_threshold is None or 0 < settings.loss_threshold < math.inf,
            "a finite number > 0, or None",
        ),
    }  # fmt: skip
    for name, (value, good, expected) in in_range.items():
        if not good:
            raise CausalRecError(f"{name} is {value}; expected {expected}.")
    if not isinstance(effects, NormalPrior) and not np.size(np.asarray(effects)):
        raise CausalRecError("effects is empty; expected true effects to draw from, or the law of them (NormalPrior).")
    for prior in (settings.prior, effects):
        if isinstance(prior, NormalPrior) and prior.scale == "relative":
            raise CausalRecError(
                f"found a relative prior ({prior}); here there is no control mean. Multiply it by yours, and give "
                'scale="absolute".'
            )
