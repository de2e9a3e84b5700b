"""Pointwise intervals of any learner by a seeded, parallel bootstrap whose memory does not grow with its replicates."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance.fitting import SharedCovariates
from causalrec.results import UpliftIntervalsResult
from causalrec.uplift.base import Training, UpliftLearner, View
from causalrec.uplift.comparison import check_learners
from causalrec.uplift.stacking import StackedLearner

_MODELS = ("base_learner", "outcome_model", "effect_model", "propensity_model")
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
    random_state: int = 0,
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UpliftIntervalsResult:
    """Fit a learner on all rows and again on each of ``n_bootstrap`` reweighted copies: estimate ± z · deviation.

    Every unit draws a weight from Exp(1) (the Bayesian bootstrap: Rubin 1981, Annals of Statistics 9; for estimators
    of moments Newton and Raftery 1994, JRSS B 56), and the whole learner is fitted anew with it, nuisances and folds
    included. No row is copied, so none can lie on both sides of a fold, and boosted base learners keep the bins of X.
    Where a base learner takes no weights units are drawn with replacement instead, and copies share a fold.
    """
    level = check_confidence_level(confidence_level)
    n_draws, n_workers = _check_counts(n_bootstrap, n_jobs)
    whole = _check_learner(learner)
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
    return _result(whole, training, estimate, spread, level, weighted)


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
        covers=_covers(learner), estimate=estimate.reshape(shape), std_error=error.reshape(shape),
        ci_low=(estimate - half).reshape(shape), ci_high=(estimate + half).reshape(shape),
    )  # fmt: skip


def _covers(learner: UpliftLearner) -> str:
    models = [model for name in _MODELS if (model := getattr(learner, name, None)) is not None]
    if models and all(type(model).__name__ in _LEAST_SQUARES for model in models):
        return "the effect, as far as a linear model can express it"
    return "what the learner would predict on average, without its bias"


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
