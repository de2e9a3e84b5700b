"""Metrics and curves under resampled units: intervals that need no normal approximation, and bands for whole curves.

Units, or whole clusters, get weights from an exponential distribution of mean one: the Bayesian bootstrap (Rubin 1981,
Annals of Statistics 9), by cluster where there are any. To first order its intervals are those of drawing units with
replacement, but every unit keeps some weight, so no resample lacks an arm or a conversion that the sample has. Units
are sorted once, and a resample is one pass over them; the arms' means, and their shares where these are estimated, are
those of the resample. Several scorers are given the same weights, so that their differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from causalrec._resampling import Progress, draw_in_blocks
from causalrec._typing import BoolArray, FloatArray, IntArray, RandomState
from causalrec._validation import check_confidence_level, list_some
from causalrec.evaluation import _metrics as metrics
from causalrec.evaluation._metrics import RANKING_METRICS, Choice
from causalrec.evaluation._ranked import Ranked, rank_units
from causalrec.evaluation._reweighting import Sorted, reweighted_curve, reweighted_values, sorted_units
from causalrec.evaluation.conventions import DEFAULT
from causalrec.evaluation.curves import curve_of, curve_points
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.results import NAN, CurveResult, MetricBootstrapResult
from causalrec.results.bootstrap import percentile_interval

_ROUNDING = 1e-13
_EFFECTIVE = 10
_CURVES = ("qini", "toc", "uplift", "cumulative_gain")


def bootstrap_metric(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    metric: str = "qini",
    k: float = 0.1,
    strategy: Literal["overall", "by_group"] = "overall",
    n_resamples: int = 1000,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float = 0.95,
    rng: RandomState = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> MetricBootstrapResult:
    """A metric of one scorer or several, with percentile intervals, under reweighted units.

    The influence-function intervals of :func:`causalrec.evaluation.qini_score` and its like cost a hundredth. This is
    a check of them that shares none of their approximations, and better where outcomes are rare or skewed, for ratios,
    and for what a normal interval does not fit, such as a definition that divides by a maximum.

    Parameters
    ----------
    y, treatment, propensity, nuisance, sample_weight, clusters, control, arm, convention
        As for :func:`causalrec.evaluation.qini_score`; with ``clusters`` whole clusters are reweighted. Nuisances stay
        as they are.
    uplift : array of shape (n,) or (n, k - 1); or a mapping of names to such arrays, or a frame with a column each
        One scorer, or several in the same resamples.
    metric : {"qini", "auuc", "autoc", "uplift_at_k", "lift_share"}
    k, strategy
        As for :func:`causalrec.evaluation.compare_scorers`.
    n_resamples : int
    confidence_level : float
    rng : int or Generator, optional
        The draws depend on it alone, not on ``n_jobs``.
    n_jobs : int, optional
        Threads; by default one per core, at most four. Each holds about 32 MB, or the weights of one resample where
        these are more.
    progress : callable, optional
        Called with the resamples done and those asked for.

    Returns
    -------
    MetricBootstrapResult
        With all draws, and differences of scorers.

    Raises
    ------
    CausalRecError
        For an unknown metric, fewer than two resamples, a single cluster, and as for
        :func:`causalrec.evaluation.qini_score`.

    Notes
    -----
    Other packages' definitions are computed anew for every resample, which takes several times as long.

    Examples
    --------
    >>> data = np.random.default_rng(0)
    >>> x, treatment = data.normal(size=(2, 1000)), data.integers(0, 2, 1000)
    >>> y = x[0] * treatment + data.normal(size=1000)
    >>> found = bootstrap_metric(y, {"right": x[0], "useless": x[1]}, treatment, rng=1)
    >>> gap = found.difference("right", "useless")
    >>> bool(gap.ci_low > 0)
    True
    """
    level = check_confidence_level(confidence_level)
    if metric not in RANKING_METRICS:
        raise CausalRecError(f"metric is {metric!r}; expected one of {list_some(RANKING_METRICS)}.")
    choice = Choice(metric, k=k, strategy=strategy, convention=convention)
    _check_resamples(n_resamples, n_jobs)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    names, ranks = _ranked_scorers(uplift, scores, arm)
    estimates = np.array([metrics.estimate(choice, ranked)[0] for ranked in ranks])
    draws = _draws(choice, scores, ranks, n_resamples, rng, n_jobs, progress)
    null = choice.k if metric == "lift_share" and not choice.of_peer else 0.0
    found = [_interval(choice, ranked, draws[:, i], level, null) for i, ranked in enumerate(ranks)]
    error, low, high, pvalue = np.array(found).T
    return MetricBootstrapResult(
        metric=choice.estimand, null=null, n_scorers=len(names), n_resamples=n_resamples, n_obs=scores.n_obs,
        confidence_level=level, method=_method(scores, draws), scorer=np.array(names), estimate=estimates,
        std_error=error, ci_low=low, ci_high=high, pvalue=pvalue, draws=draws,
    )  # fmt: skip


def bootstrap_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    kind: Literal["qini", "toc", "uplift", "cumulative_gain"] = "qini",
    n_resamples: int = 1000,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
    label: str = "model",
    rng: RandomState = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> CurveResult:
    """A curve with a band that holds the whole of it with probability ``confidence_level``.

    Pointwise intervals, as those of :func:`causalrec.evaluation.qini_curve`, each miss their point one time in twenty,
    so that somewhere along a curve one of them misses far more often. Here the band is as many standard errors wide
    as the largest deviation anywhere on the curve needs (sup-t band; Montiel Olea and Plagborg-Møller 2019, Journal of
    Applied Econometrics 34).

    There is no band where the top is so small that its error cannot be known: it starts where the variance of the
    scores of each arm there has at least ten effective units, (sum of squares)² / (sum of fourth powers), which is ten
    conversions where these are rare. With the first few units the band would hold the curve in 80% of samples only.

    Parameters
    ----------
    kind : {"qini", "toc", "uplift", "cumulative_gain"}
    label : str
        Name of the scorer in plots.
    y, uplift, treatment, others
        As for :func:`bootstrap_metric`, of one scorer.

    Raises
    ------
    CausalRecError
        For an unknown kind, and as for :func:`bootstrap_metric`.

    Examples
    --------
    >>> from causalrec.evaluation import qini_curve
    >>> data = np.random.default_rng(0)
    >>> x, treatment = data.normal(size=1000), data.integers(0, 2, 1000)
    >>> y = x * treatment + data.normal(size=1000)
    >>> band, points = bootstrap_curve(y, x, treatment, rng=1), qini_curve(y, x, treatment)
    >>> bool(band.ci_high[100] - band.ci_low[100] > 1.2 * (points.ci_high[100] - points.ci_low[100]))
    True
    """
    level = check_confidence_level(confidence_level)
    if kind not in _CURVES:
        raise CausalRecError(f"kind is {kind!r}; expected one of {list_some(_CURVES)}.")
    _check_resamples(n_resamples, n_jobs)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    ranked = rank_units(scores, uplift, arm=arm)
    curve = curve_of(kind, ranked, DEFAULT, level, label)
    positive = curve.fraction > 0
    units, n_units = _units_of(scores, [ranked])
    ends, shares = curve_points(kind, ranked), curve.fraction[positive]

    def draw(size: int, generator: np.random.Generator) -> FloatArray:
        return reweighted_curve(kind, units[0], generator.standard_exponential((n_units, size)), ends, shares).T

    draws = draw_in_blocks(
        draw, n_resamples, width=n_units, rng=rng, progress=progress, threads=True if n_jobs is None else n_jobs
    )
    steady = steady_tops(units[0], ends)
    half = np.zeros(len(curve.value))
    half[positive] = NAN
    half[np.flatnonzero(positive)[steady]] = band_half_width(draws[:, steady], curve.value[positive][steady], level)
    return replace(curve, ci_low=curve.value - half, ci_high=curve.value + half, band="simultaneous")


def steady_tops(units: Sorted, ends: IntArray) -> BoolArray:
    """Whether the variance of each arm's scores in the top down to ``ends`` has enough effective units, as all below.

    Examples
    --------
    With rare events it is as many events:

    >>> from causalrec.evaluation._ranked import rank_units
    >>> y = np.tile(np.repeat([1.0, 0.0], [1, 99]), 40)
    >>> ranked = rank_units(arm_scores(y, np.repeat(np.arange(40) % 2, 100)), -np.arange(4000))
    >>> steady_tops(sorted_units(ranked, None, 4000), np.array([1499, 1899, 2499])).tolist()
    [False, False, True]
    """
    columns = units.columns[:, [1]] - units.columns[:, 1].mean() if units.columns.shape[1] == 2 else (
        units.columns[:, [2, 4]])  # fmt: skip
    steady = np.ones(len(ends), dtype=bool)
    for column in columns.T:
        squares = column**2 if units.weight is None else (column * units.weight) ** 2
        steady &= np.cumsum(squares)[ends] ** 2 >= _EFFECTIVE * np.cumsum(squares**2)[ends]
    return np.asarray(np.minimum.accumulate(steady[::-1])[::-1])


def band_half_width(draws: FloatArray, value: FloatArray, confidence_level: float) -> FloatArray:
    """Half the width of a sup-t band around ``value`` (m,) from ``draws`` (R, m); zero where the draws do not vary."""
    if not len(value):
        return np.zeros(0)
    error = draws.std(axis=0, ddof=1)
    varies = error > _ROUNDING * max(float(np.abs(value).max()), 1e-300)
    if not varies.any():
        return np.zeros(len(value))  # such as the whole TOC of a constant score
    largest = np.abs((draws[:, varies] - value[varies]) / error[varies]).max(axis=1)
    return np.where(varies, float(np.quantile(largest, confidence_level)) * error, 0.0)


def _check_resamples(n_resamples: Any, n_jobs: Any) -> None:
    if not isinstance(n_resamples, int | np.integer) or n_resamples < 2:
        raise CausalRecError(f"n_resamples is {n_resamples!r}; expected a whole number of 2 or more, such as 1000.")
    if n_jobs is not None and (not isinstance(n_jobs, int) or n_jobs < 1):
        raise CausalRecError(f"n_jobs is {n_jobs!r}; expected a whole number of threads, or None for one per core.")


def _ranked_scorers(uplift: Any, scores: ArmScores, arm: Any) -> tuple[list[str], list[Ranked]]:
    named = [("model", uplift)]
    if isinstance(uplift, Mapping | pd.DataFrame):
        named = [(str(name), uplift[name]) for name in uplift]
    if not named or len({name for name, _ in named}) < len(named):
        raise CausalRecError(
            f"found the scorers {list_some(name for name, _ in named) or 'none'}; expected at least one, with names of "
            "their own."
        )
    return [name for name, _ in named], [rank_units(scores, values, arm=arm) for _, values in named]


def _units_of(scores: ArmScores, ranks: list[Ranked]) -> tuple[list[Sorted], int]:
    """The scorers' units, and how many weights are drawn: one per cluster, or per unit in the order of the first."""
    rows = _rows_of_weights(scores, ranks[0])
    n_units = int(rows.max()) + 1
    alone = scores.clusters is None
    return [
        sorted_units(ranked, None if alone and i == 0 else rows[ranked.order], n_units)
        for i, ranked in enumerate(ranks)
    ], n_units


def _rows_of_weights(scores: ArmScores, first: Ranked) -> IntArray:
    """For each of the caller's rows the number of its weight."""
    if scores.clusters is not None:
        kept = scores.clusters[scores.weight > 0]
        if kept.min() == kept.max():
            raise CausalRecError("clusters holds one value in the rows that count; resampling needs two or more.")
        return scores.clusters
    rows = np.zeros(len(scores.y), dtype=np.int64)
    rows[first.order] = np.arange(first.n)
    return rows


def _draws(
    choice: Choice,
    scores: ArmScores,
    ranks: list[Ranked],
    n_resamples: int,
    rng: RandomState,
    n_jobs: int | None,
    progress: Progress | None,
) -> FloatArray:
    anew = choice.of_peer or choice.strategy == "by_group"
    rows = _rows_of_weights(scores, ranks[0])
    units, n_units = ([], int(rows.max()) + 1) if anew else _units_of(scores, ranks)

    def draw(size: int, generator: np.random.Generator) -> FloatArray:
        drawn = generator.standard_exponential((n_units, size))
        if anew:
            weights = [scores.weight * column[rows] for column in drawn.T]
            return np.array([[metrics.value(choice, reweighted(ranked, w)) for ranked in ranks] for w in weights])
        return np.column_stack([reweighted_values(choice, each, drawn) for each in units])

    return draw_in_blocks(
        draw, n_resamples, width=n_units, rng=rng, progress=progress, threads=True if n_jobs is None else n_jobs
    )


def reweighted(ranked: Ranked, weight: FloatArray) -> Ranked:
    """The same units in the same order with other weights, of shape (n,) in the caller's rows, zero where they were."""
    scores = ranked.scores
    weight = weight * (scores.n_obs / weight.sum())
    propensity, k = scores.propensity, len(scores.labels)
    if scores.shares_estimated:
        shares = np.bincount(scores.codes, weights=weight, minlength=k) / weight.sum()
        propensity = np.broadcast_to(shares, propensity.shape)
    inverse = weight / propensity[np.arange(len(weight)), scores.codes]
    totals = np.bincount(scores.codes, weights=inverse, minlength=k)
    means = np.bincount(scores.codes, weights=inverse * scores.y, minlength=k) / totals
    return replace(ranked, scores=replace(scores, weight=weight, propensity=propensity, means=means))


def _interval(
    choice: Choice, ranked: Ranked, draws: FloatArray, level: float, null: float
) -> tuple[float, float, float, float]:
    if np.isnan(draws).any():
        return NAN, NAN, NAN, NAN
    if not metrics.without_information(choice, ranked) and np.ptp(draws) <= _ROUNDING * np.abs(draws).max():
        return NAN, NAN, NAN, NAN  # nothing varies, which is no certainty
    return percentile_interval(draws, level, null)


def _method(scores: ArmScores, draws: FloatArray) -> str:
    lacking = int(np.isnan(draws).any(axis=1).sum())
    note = f"; no interval: in {lacking:,} resamples the top lacks an arm; take a larger k" if lacking else ""
    what = "units" if scores.clusters is None else f"{len(np.unique(scores.clusters)):,} clusters"
    return f"percentile intervals, exponential weights of {what} (Bayesian bootstrap); {scores.method}{note}"
