"""Effects in segments, honestly: all that were looked at count, and the largest is expected to be smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from causalrec._typing import FloatArray, RandomState
from causalrec._validation import list_some, nearest
from causalrec.abtest.inference import upper_tail
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, ABResult, ExperimentResult, SegmentScanResult

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
_SHARES, _SHARE_WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2  # on (0, 1)
_DRAWS = 20_000
_Group = tuple[str, str, str]  # metric, treatment, dimension


class Shrunken(NamedTuple):
    """Posterior means and intervals, shape (k,)."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def scan_segments(
    result: ExperimentResult,
    metric: str | None = None,
    treatment: str | None = None,
    *,
    correction: str = "holm",
    family: str = "all",
    rng: RandomState = 0,
) -> SegmentScanResult:
    """Say in which segments a metric's effect differs, corrected for all that were tried.

    In each segment: the effect and its p-value; its difference from the other groups of the same dimension (their
    mean weighted by 1 / variance), tested by Student's t with the segment's degrees of freedom; and the effect shrunken
    towards that of the dimension (:func:`shrink_effects`). Two groups differ by one difference, which is one test.
    Where one group differs much, the others do differ a little from a mean that holds it. P-values of effects and those
    of differences are corrected apart, each over its family.

    Parameters
    ----------
    result : ExperimentResult
        Of an experiment with ``segments``.
    metric, treatment : str, optional
        What to show; needed where the result is of several.
    correction : str
        As of :func:`adjust_pvalues`; or ``"max"``: step-down by the largest of correlated normals (Westfall and Young
        1993), simulated, where the correlations follow from the design: one metric, arm and dimension.
    family : {"all", "metric"}
        What to correct for: every segment x metric x arm of the result; or only those of this metric and arm, if that
        one was chosen before the data were seen.
    rng : int or Generator, optional
        Of ``correction="max"``.

    Raises
    ------
    CausalRecError
        For a result without segments, an unknown or ambiguous metric or arm, or ``"max"`` where correlations are not
        known.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalrec.abtest import Experiment, Mean
    >>> gen = np.random.default_rng(2)
    >>> frame = pd.DataFrame({"arm": gen.choice(["A", "B"], 8000), "country": gen.choice(list("abcdefgh"), 8000)})
    >>> frame["spend"] = gen.normal(10, 2, 8000) + 0.8 * ((frame.arm == "B") & (frame.country == "d"))
    >>> result = Experiment({"spend": Mean("spend")}, variant="arm", control="A", segments="country").analyze(frame)
    >>> scan_segments(result).different
    ('country = d',)
    """
    if family not in ("all", "metric"):
        raise CausalRecError(f"family is {family!r}; expected 'all' or 'metric'.")
    if not result.segments:
        raise CausalRecError("the result has no segments; name their columns by Experiment(segments=...).")
    metric, treatment = _chosen(result, metric, treatment)
    tried = [e for e in result.segments if family == "all" or (e.metric, e.treatment) == (metric, treatment)]
    shown = np.array([(e.metric, e.treatment) == (metric, treatment) for e in tried])
    groups = _grouped(tried)
    difference, pvalue = _differences(tried, groups, _apart(result))
    own = np.array([e.pvalue for e in tried])
    once = _counted_once(len(tried), groups)
    if correction == "max":
        adjusted, of_difference = _by_largest(tried, groups, own, pvalue, rng)
    else:
        adjusted = np.asarray(adjust_pvalues(own, correction))
        of_difference = np.asarray(adjust_pvalues(np.where(once, pvalue, NAN), correction))
    of_difference = _spread_to_twins(of_difference, groups)
    chosen = [e for e, s in zip(tried, shown, strict=True) if s]
    overall = result[metric, treatment]
    shrunken = _shrunken(chosen, overall)
    error = np.array([e.std_error for e in chosen])
    n_arms, n_metrics = len({e.treatment for e in tried}), len({e.metric for e in tried})
    looks = (
        "" if overall.inference == "fixed horizon" else f"; differences are for one look, effects {overall.inference}"
    )
    return SegmentScanResult(
        metric=metric, control=overall.control, treatment=treatment, overall=overall.estimate,
        overall_ci_low=overall.ci_low, overall_ci_high=overall.ci_high, n_effects=int(np.isfinite(own).sum()),
        n_differences=int(np.isfinite(np.where(once, pvalue, NAN)).sum()), n_metrics=n_metrics, n_arms=n_arms,
        n_dimensions=len({_dimension(e) for e in chosen}), expected_best=overall.estimate + expected_largest(error),
        correction=correction, confidence_level=result.confidence_level,
        method=f"corrected by {correction}; shrunken by a normal hierarchy with uniform shrinkage{looks}",
        segment=np.array([e.segment for e in chosen]), n_obs=np.array([e.n_obs for e in chosen], dtype=np.int64),
        estimate=np.array([e.estimate for e in chosen]), std_error=error, pvalue=own[shown], adjusted=adjusted[shown],
        difference=difference[shown], difference_pvalue=pvalue[shown], difference_adjusted=of_difference[shown],
        shrunken=shrunken.value, shrunken_low=shrunken.low, shrunken_high=shrunken.high,
    )  # fmt: skip


def expected_largest(std_error: Sequence[float] | FloatArray) -> float:
    """The expected largest of independent normal variables with mean zero and these standard deviations.

    E max = integral of 1 - F over x > 0 - integral of F over x < 0, F the product of the normal laws. Of positively
    correlated variables it is smaller (Slepian 1962). NaN and zero errors are left out.

    Examples
    --------
    >>> print(f"{expected_largest([1.0, 1.0]):.6f}")  # 1 / sqrt(pi)
    0.564190
    """
    sd = np.asarray(std_error, dtype=np.float64)
    sd = sd[np.isfinite(sd) & (sd > 0)]
    if not sd.size:
        return NAN
    top = (4 + math.sqrt(2 * math.log(sd.size + 1))) * float(sd.max())
    x = top * _SHARES
    above = 1 - np.prod(ndtr(x[:, None] / sd), axis=1)
    below = np.prod(ndtr(-x[:, None] / sd), axis=1)
    return float(_SHARE_WEIGHTS @ (above - below) * top)


def shrink_effects(
    effects: Sequence[float] | FloatArray, std_errors: Sequence[float] | FloatArray, *, confidence_level: float = 0.95
) -> Shrunken:
    """Shrink k >= 2 independent effects towards their common mean: posterior means and intervals.

    True effects are normal around a mean of which nothing is known, with variance tau^2; the uniform-shrinkage prior
    (Daniels 1999), v / (v + tau^2) uniform on (0, 1) with v the harmonic mean of the sampling variances, is proper from
    two effects on and has their scale. tau is integrated out, not estimated, so that intervals do not collapse where
    the effects happen to be alike. Intervals are normal with the posterior's mean and variance.

    Raises
    ------
    CausalRecError
        For fewer than two effects, or errors that are not positive and finite.

    Examples
    --------
    >>> found = shrink_effects([3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0])
    >>> print(f"{found.value[0]:.2f} [{found.low[0]:.2f}, {found.high[0]:.2f}]")
    1.81 [-0.05, 3.66]
    """
    y, sd = np.asarray(effects, dtype=np.float64), np.asarray(std_errors, dtype=np.float64)
    if len(y) < 2 or len(y) != len(sd) or not (np.isfinite(y).all() and (sd > 0).all() and np.isfinite(sd).all()):
        raise CausalRecError(
            f"found {len(y)} effects and {len(sd)} errors; expected two or more finite effects, each with an error > 0."
        )
    v = sd**2
    typical = 1 / float(np.mean(1 / v))
    tau2 = typical * (1 - _SHARES) / _SHARES
    weight = 1 / (v + tau2[:, None])  # (nodes, k)
    total = weight.sum(axis=1)
    mean = weight @ y / total
    logs = 0.5 * (np.log(weight).sum(axis=1) - np.log(total) - (weight * (y - mean[:, None]) ** 2).sum(axis=1))
    posterior = _SHARE_WEIGHTS * np.exp(logs - logs.max())
    posterior /= posterior.sum()
    pull = v * weight  # how far towards the mean
    centre = (1 - pull) * y + pull * mean[:, None]
    within = (1 - pull) * v + pull**2 / total[:, None]
    value = posterior @ centre
    variance = posterior @ (within + (centre - value) ** 2)
    half = float(ndtri((1 + confidence_level) / 2)) * np.sqrt(variance)
    return Shrunken(value, value - half, value + half)


def _chosen(result: ExperimentResult, metric: str | None, treatment: str | None) -> tuple[str, str]:
    known = list(dict.fromkeys((e.metric, e.treatment) for e in result.segments))
    found = [(m, t) for m, t in known if metric in (None, m) and treatment in (None, t)]
    if len(found) != 1:
        hint = nearest(str(metric), {m for m, _ in known}) if metric is not None else ""
        raise CausalRecError(
            f"metric {metric!r} and treatment {treatment!r} fit {len(found)} of the (metric, treatment) "
            f"{list_some(known)}; expected to fit one: name both.{hint}"
        )
    return found[0]


def _dimension(effect: ABResult) -> str:
    return effect.segment.partition(" = ")[0]


def _apart(result: ExperimentResult) -> set[_Group]:
    """Where groups are of different units, so that they can be tested against each other."""
    return {(i.metric, i.treatment, i.dimension) for i in result.interactions}


def _grouped(effects: Sequence[ABResult]) -> dict[_Group, list[int]]:
    """Places of the effects with an error, by metric, arm and dimension."""
    groups: dict[_Group, list[int]] = {}
    for k, e in enumerate(effects):
        if math.isfinite(e.estimate) and e.std_error > 0:
            groups.setdefault((e.metric, e.treatment, _dimension(e)), []).append(k)
    return groups


def _differences(
    effects: Sequence[ABResult], groups: dict[_Group, list[int]], apart: set[_Group]
) -> tuple[FloatArray, FloatArray]:
    """Difference of each from the others of its group, and its p-value; NaN where there is none."""
    difference, pvalue = np.full(len(effects), NAN), np.full(len(effects), NAN)
    for key, places in groups.items():
        if len(places) < 2 or key not in apart:
            continue
        y = np.array([effects[k].estimate for k in places])
        v = np.array([effects[k].std_error for k in places]) ** 2
        rest = (1 / v).sum() - 1 / v
        others = ((y / v).sum() - y / v) / rest
        for k, d, error in zip(places, y - others, np.sqrt(v + 1 / rest), strict=True):
            df = effects[k].df
            difference[k] = d
            pvalue[k] = 2 * upper_tail(abs(d) / error, math.inf if math.isnan(df) else df)
    return difference, pvalue


def _twins(groups: dict[_Group, list[int]]) -> list[tuple[int, int]]:
    """Pairs of groups, whose two differences are one."""
    return [(places[0], places[1]) for places in groups.values() if len(places) == 2]


def _counted_once(k: int, groups: dict[_Group, list[int]]) -> np.ndarray:
    once = np.ones(k, dtype=bool)
    once[[second for _, second in _twins(groups)]] = False
    return once


def _spread_to_twins(pvalue: FloatArray, groups: dict[_Group, list[int]]) -> FloatArray:
    for first, second in _twins(groups):
        pvalue[second] = pvalue[first]
    return pvalue


def _by_largest(
    effects: Sequence[ABResult], groups: dict[_Group, list[int]], own: FloatArray, pvalue: FloatArray, rng: RandomState
) -> tuple[FloatArray, FloatArray]:
    """Both families by the step-down largest; effects of one dimension are independent, differences are not."""
    if len(groups) != 1:
        raise CausalRecError(
            f"correction is 'max' for {len(groups)} (metric, arm, dimension): {list_some(groups, 3)}; their "
            "correlations do not follow from the result. Take correction='holm', or an "
            "experiment with one of segments, with family='metric'."
        )
    [places] = groups.values()
    v = np.array([effects[k].std_error for k in places]) ** 2
    least = 1 / (1 / v).sum()
    covariance = np.diag(v) - least
    sd = np.sqrt(covariance.diagonal())
    generator = np.random.default_rng(rng)
    draws = generator.standard_normal((_DRAWS, len(v))) * np.sqrt(v)
    apart = np.abs(draws - (draws @ (1 / v) * least)[:, None]) / sd
    adjusted, of_difference = np.full(len(effects), NAN), np.full(len(effects), NAN)
    adjusted[places] = step_down_largest(own[places], np.abs(draws) / np.sqrt(v))
    if np.isfinite(pvalue[places]).all():
        of_difference[places] = step_down_largest(pvalue[places], apart)
    return adjusted, of_difference


def step_down_largest(pvalue: FloatArray, draws: FloatArray) -> FloatArray:
    """Adjusted two-sided p-values by draws (n, k) of the absolute normal statistics under the null.

    Westfall and Young (1993), algorithm 4.1: each ordered statistic beside the largest of those not more extreme.
    """
    statistic = np.abs(ndtri(pvalue / 2))
    order = np.argsort(-statistic, kind="stable")
    largest = np.maximum.accumulate(draws[:, order][:, ::-1], axis=1)[:, ::-1]
    share = (1 + (largest >= statistic[order]).sum(axis=0)) / (1 + len(draws))
    found = np.empty(len(pvalue))
    found[order] = np.maximum.accumulate(np.maximum(share, pvalue[order]))
    return found


def _shrunken(effects: Sequence[ABResult], overall: ABResult) -> Shrunken:
    """Each dimension towards its own mean; NaN where there is only one group, or no error."""
    k = len(effects)
    found = Shrunken(np.full(k, NAN), np.full(k, NAN), np.full(k, NAN))
    for places in _grouped(effects).values():
        if len(places) < 2:
            continue
        part = shrink_effects(
            [effects[i].estimate for i in places], [effects[i].std_error for i in places],
            confidence_level=overall.confidence_level,
        )  # fmt: skip
        for into, values in zip(found, part, strict=True):
            into[places] = values
    return found
