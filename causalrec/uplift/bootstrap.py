"""Pointwise intervals of any learner by a seeded, parallel bootstrap whose memory does not grow with its replicates."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from scipy import stats
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance.fitting import SharedCovariates
from causalrec.results import UpliftIntervalsResult
from causalrec.uplift.base import ScoreLearner, Training, UpliftLearner, View
from causalrec.uplift.comparison import check_learners
from causalrec.uplift.stacking import StackedLearner

_MODELS = ("base_learner", "outcome_model", "effect_model", "propensity_model")
_UNSHRUNK = ("LinearRegression", "LogisticRegression", "StatsModelsLinearRegression")
_LEAST_SQUARES = ("LinearRegression", "StatsModelsLinearRegression")


def bootstrap_intervals(
    learner: UpliftLearner,
    X: Any,
    y: Any,
    *,
    treatment: Any,
    X_new: Any = None,
    propensity: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    n_bootstrap: int = 200,
    confidence_level: float = 0.95,
    target: Literal["effect", "prediction"] = "effect",
    random_state: int = 0,
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UpliftIntervalsResult:
    """Intervals at single points: the estimate ± z times its deviation over refits on reweighted rows.

    Every unit draws a weight from Exp(1), and the whole learner is fitted anew with it, its nuisances included: the
    Bayesian bootstrap (Rubin 1981, Annals of Statistics 9; Newton and Raftery 1994, JRSS B 56). No row is copied, so
    none can lie on both sides of a fold, and boosted base learners keep the bins of X. Where a model takes no weights,
    units are drawn with replacement instead, and copies of a unit share a fold. Only running means and variances are
    kept: memory is that of a few effects for each thread, however many replicates there are.

    Parameters
    ----------
    learner : uplift learner
        Cloned. ``EconMLLearner`` too.
    X, y, treatment, propensity, sample_weight : as in ``learner.fit``
    X_new : frame or array of shape (m, p), optional
        The points; the rows of ``X`` by default.
    groups : array of shape (n,), optional
        Units, such as users, with one weight for all their rows.
    n_bootstrap : int
        Replicates; the intervals' width is known to about 1 / sqrt(2 n_bootstrap).
    confidence_level : float
    target : {"effect", "prediction"}
        What the intervals are to cover. The effect: only for learners whose effects come from least squares or
        logistic regression (or a pipeline that ends in one), as far as such a model can express it. The prediction:
        what the learner predicts on average over data sets, for any learner.
    random_state : int
        Each replicate has a seed of its own, spawned from it: the result is the same to the bit at any ``n_jobs``,
        provided that the models are.
    n_jobs : int, optional
        Threads, each with covariates (and bins) of its own; -1 for all, None for one. Models with threads of their
        own use these besides.
    progress : callable, optional
        Called with the replicates done and their number. Interrupting drops those that have not begun.

    Raises
    ------
    CausalRecError
        For something else than an uplift learner; for ``target="effect"`` and a learner whose bias no bootstrap sees.
    TreatmentError
        When units are drawn with replacement and an arm is too small for it.
    ColumnError, OutcomeError, OverlapError
        As ``learner.fit`` and ``predict``.

    Notes
    -----
    Coverage of 95% intervals, measured at 20 points over 43–150 data sets with 50–60 replicates each (n = 400, a
    confounded treatment, noise of deviation 1, linear effects and ``LinearRegression``): T 0.94, X 0.94, R 0.94,
    DR 0.94; S with a constant effect 0.95. DR with boosted outcome models and a linear effect model, n = 1000, 0.89 (9
    data sets, 12 replicates). Where effects are linear and the S-learner's model cannot say so, 0.08: a model that
    cannot express the effect has intervals about something else.

    Regularised models shrink effects, and each refit shrinks them alike. Boosted trees by default, n = 1000, effects
    1 + tanh(2 x), 9–20 data sets: T 0.91 (at single points down to 0.78), DR 0.70, S 0.37. Of the learner's own
    expectation the same intervals hold 0.93, 0.87 and 0.94, with 10–15 replicates only, which cost two points or
    three. So they are refused for the effect; :class:`EconMLLearner` has causal forests.

    Examples
    --------
    >>> from causalrec.uplift import TLearner
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> y = X[:, 0] + treatment * (1 + X[:, 1]) + rng.normal(size=400)
    >>> found = bootstrap_intervals(
    ...     TLearner(LinearRegression()), X, y, treatment=treatment, X_new=[[0.0, -3.0], [0.0, 0.0]], n_bootstrap=50
    ... )
    >>> ((found.ci_low < [-2, 1]) & (found.ci_high > [-2, 1])).tolist()
    [True, True]
    """
    level = check_confidence_level(confidence_level)
    n_draws, n_workers = _check_counts(n_bootstrap, n_jobs)
    whole = _check_learner(learner)
    _check_target(whole, target)
    training, nuisance = whole._prepared(X, y, treatment, propensity, sample_weight, None, groups)
    whole._fit_all(training, nuisance)
    new = None if X_new is None else whole._view(X_new)
    estimate = whole._effects(whole.models_, training.view() if new is None else new, training.n_arms)
    weighted = takes_weights(whole)
    draw = _weighted if weighted else _resampled
    spread = _Spread()
    seeds = np.random.SeedSequence(random_state).spawn(n_draws)
    for effects in _in_order(_replicates(whole, training, new, draw, n_workers), seeds, n_workers):
        spread.add(effects)
        if progress is not None:
            progress(spread.n, n_draws)
    return _result(whole, training, estimate, spread, level, weighted, target)


def takes_weights(learner: UpliftLearner) -> bool:
    """Whether every model of a learner can weight its rows."""
    own = getattr(learner, "_takes_weights", None)
    if own is not None:
        return bool(own())
    if isinstance(learner, StackedLearner):
        return all(takes_weights(member) for _, member in check_learners(learner.learners))
    models = [getattr(learner, name, None) for name in _MODELS]
    return all(model is None or has_fit_parameter(model, "sample_weight") for model in models)


class _Spread:
    """Mean and variance of arrays seen one by one (Welford 1962, Technometrics 4)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, values: FloatArray) -> None:
        """Take in one more array."""
        self.n += 1
        gap = values - self.mean
        self.mean = self.mean + gap / self.n
        self._squares = self._squares + gap * (values - self.mean)

    @property
    def deviation(self) -> FloatArray:
        """Standard deviations."""
        return np.asarray(np.sqrt(self._squares / (self.n - 1)))


def _replicates(
    learner: UpliftLearner,
    training: Training,
    new: View | None,
    draw: Callable[[Training, np.random.Generator], Training],
    n_workers: int,
) -> Callable[[np.random.SeedSequence], FloatArray]:
    """The effects of one replicate by its seed; every worker has covariates (and bins) of its own."""
    free: SimpleQueue[tuple[UpliftLearner, Training]] = SimpleQueue()
    free.put((clone(learner), training))
    for _ in range(n_workers - 1):
        free.put((clone(learner), replace(training, shared=SharedCovariates(training.shared.X))))

    def run(seed: np.random.SeedSequence) -> FloatArray:
        own, rows = free.get()
        try:
            drawn = draw(rows, np.random.default_rng(seed))
            nuisance = own._fit_labelled(drawn) if own._needs_nuisance(drawn) else None
            points = rows.view() if new is None else new
            return own._effects(own._fit_all(drawn, nuisance).models_, points, training.n_arms)
        finally:
            free.put((own, rows))

    return run


def _weighted(training: Training, rng: np.random.Generator) -> Training:
    """The same rows with weights from Exp(1) of mean 1, one for each unit."""
    units = training.groups
    n = len(training.y) if units is None else int(units.max()) + 1
    weight = rng.standard_exponential(n)
    weight *= n / weight.sum()
    weight = weight if units is None else weight[units]
    weight = weight if training.weight is None else weight * training.weight
    return replace(training, weight=weight, all_weight=weight)


def _resampled(training: Training, rng: np.random.Generator) -> Training:
    """Units drawn with replacement; all copies of a unit are one group, and so lie in one fold.

    Raises
    ------
    TreatmentError
        When an arm is so small that a draw leaves it fewer than two units.
    """
    units: IntArray = np.arange(len(training.y)) if training.groups is None else training.groups
    n = int(units.max()) + 1
    counts = np.bincount(rng.integers(0, n, n), minlength=n)
    rows = np.repeat(np.arange(len(units)), counts[units])
    for code, label in enumerate(training.labels):
        if len(np.unique(units[rows[training.codes[rows] == code]])) < 2:
            raise TreatmentError(
                f"arm {label!r} is so small that a draw with replacement leaves it fewer than two units. Use a base "
                "learner whose fit takes sample_weight: then no draw loses a row."
            )
    drawn = replace(training, groups=units).take(rows)
    shared = SharedCovariates(training.shared.take(rows))
    return replace(drawn, shared=shared, index=None, all_codes=drawn.codes, all_weight=drawn.weight)


def _in_order(
    run: Callable[[np.random.SeedSequence], FloatArray], seeds: list[np.random.SeedSequence], n_workers: int
) -> Iterator[FloatArray]:
    """Results in the order of the seeds, at most two for each worker waiting: sums do not depend on who was first."""
    if n_workers == 1:
        yield from map(run, seeds)
        return
    pool, waiting = ThreadPoolExecutor(n_workers), deque[Future[FloatArray]]()
    try:
        for seed in seeds:
            if len(waiting) == 2 * n_workers:
                yield waiting.popleft().result()
            waiting.append(pool.submit(run, seed))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _result(
    learner: UpliftLearner,
    training: Training,
    estimate: FloatArray,
    spread: _Spread,
    level: float,
    weighted: bool,
    target: str,
) -> UpliftIntervalsResult:
    error = spread.deviation
    half = float(stats.norm.isf((1 - level) / 2)) * error
    unit = "rows" if training.groups is None else "groups"
    how = f"Bayesian bootstrap of {unit}" if weighted else f"bootstrap of {unit} with replacement"
    flat = (0,) if training.n_arms == 2 else (0, 1)
    shape = estimate.shape[: len(flat)]
    return UpliftIntervalsResult(
        control=str(training.labels[0]), arms=tuple(map(str, training.labels[1:])), confidence_level=level,
        n_obs=len(training.y), method=f"{type(learner).__name__}, {how}, {spread.n} replicates",
        covers=_COVERS[target], estimate=estimate.reshape(shape), std_error=error.reshape(shape),
        ci_low=(estimate - half).reshape(shape), ci_high=(estimate + half).reshape(shape),
    )  # fmt: skip


_COVERS = {
    "effect": "the effect, as far as the learner's model can express it",
    "prediction": "what the learner predicts on average, its bias left out",
}


def _check_target(learner: UpliftLearner, target: str) -> None:
    if target not in _COVERS:
        raise CausalRecError(f"target is {target!r}; expected 'effect' or 'prediction'.")
    odd = None if target == "prediction" else _biased_model(learner)
    if odd is not None:
        raise CausalRecError(
            f"the effects of {type(learner).__name__} come from {odd}, which shrinks or smooths them, and so does "
            "every refit: intervals from refits miss that bias and would cover the effect too seldom. Use "
            "EconMLLearner(CausalForestDML()).predict_interval, LinearRegression() or a pipeline that ends in it as "
            "base learner, or target='prediction' for the spread of what the learner predicts."
        )


def _biased_model(learner: UpliftLearner) -> str | None:
    """The name of a model that decides on effects and is not least squares or logistic regression."""
    own = getattr(learner, "_effect_models", None)
    if own is not None:
        models = own()
    elif isinstance(learner, StackedLearner):
        return "a stack of learners"
    else:
        base = getattr(learner, "base_learner", None)
        given = [getattr(learner, name, None) for name in ("effect_model", "outcome_model")]
        both = given[:1] if isinstance(learner, ScoreLearner) else given  # doubly robust in the outcomes
        models = [base if model is None else model for model in both]
    return next((name for model in models if (name := _last_step(model)) not in _UNSHRUNK), None)


def _last_step(model: Any) -> str:
    if model is None:
        return "boosted trees"
    steps = getattr(model, "steps", None)
    return type(steps[-1][1] if steps else model).__name__


def _check_learner(learner: Any) -> UpliftLearner:
    if not isinstance(learner, UpliftLearner):
        raise CausalRecError(
            f"learner is {learner!r}; expected an uplift learner, such as TLearner(LinearRegression()). Effects of a "
            "plain regressor have no interval here."
        )
    copy: UpliftLearner = clone(learner)
    return copy


def _check_counts(n_bootstrap: Any, n_jobs: int | None) -> tuple[int, int]:
    whole = isinstance(n_bootstrap, int | np.integer) and not isinstance(n_bootstrap, bool)
    if not whole or n_bootstrap < 2:
        raise CausalRecError(f"n_bootstrap is {n_bootstrap!r}; expected a whole number of 2 or more, such as 200.")
    if n_jobs is not None and n_jobs < 1 and n_jobs != -1:
        raise CausalRecError(f"n_jobs is {n_jobs}; expected 1 or more threads, -1 for all, or None for one.")
    n_workers = 1 if n_jobs is None else (os.cpu_count() or 1) if n_jobs == -1 else n_jobs
    return int(n_bootstrap), min(n_workers, int(n_bootstrap))
