"""Curves over the share of units that is treated, best predictions first, with pointwise intervals.

============================ ===================================================================
``qini_curve``               C(q): gain per unit of the population of treating the best share q
``uplift_curve``             the average effect among the best share q: ``uplift_at_k`` at every k
``cumulative_gain_curve``    q times that
``toc_curve``                TOC(q) = C(q) / q - C(1): how much larger the effect among the best is
============================ ===================================================================

C(q) sums scores (see :mod:`causalrec.evaluation.uplift`), so it is straight across ties and its end is the average
effect; the effect among the best share is the difference of the arms' means there, which is what most other packages
call uplift, or, with doubly robust scores, their mean. Intervals are for the best share q of the *population*: they
count that the cut-off is estimated. Each holds for its own q, not for all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level
from causalrec.evaluation._curve_errors import gain_curve, toc_points, top_effects
from causalrec.evaluation._metrics import rank_rows
from causalrec.evaluation._ranked import Ranked
from causalrec.evaluation.conventions import DEFAULT, check_curve_convention, conventional_curve
from causalrec.exceptions import TreatmentError
from causalrec.nuisance import Nuisances
from causalrec.results import CurveResult

_POINTS = 200
_Four: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


def qini_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float = 0.95,
    label: str = "model",
) -> CurveResult:
    """The gain C(q) over the share treated: the origin and at most 200 points, with pointwise intervals.

    The interval at q is for the gain of treating the best share q of the population; it counts that the cut-off
    is estimated.

    Parameters
    ----------
    y, uplift, treatment, propensity, nuisance, sample_weight, clusters, control, arm
        As for :func:`causalrec.evaluation.qini_score`.
    convention : str
        Whose curve: see :mod:`causalrec.evaluation.conventions`. In its own unit.
    confidence_level : float
    label : str
        Name of the scorer in plots.

    Raises
    ------
    CausalRecError
        As :func:`causalrec.evaluation.qini_score`.

    Examples
    --------
    >>> curve = qini_curve([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], [1, 0, 1, 0])
    >>> curve.fraction.tolist(), curve.value.tolist()
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.25, 0.5, 0.25, 0.0])
    """
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return curve_of("qini", ranked, convention, confidence_level, label)


def uplift_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float = 0.95,
    label: str = "model",
) -> CurveResult:
    """The average effect among the best share q: ``uplift_at_k`` at up to 200 shares, with pointwise intervals.

    It starts where the top holds two units of each arm. Parameters as for :func:`qini_curve`.

    Raises
    ------
    TreatmentError
        When there are fewer than two units of an arm.

    Examples
    --------
    >>> y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> curve = uplift_curve(y, uplift, treatment)
    >>> [float(x) for x in (curve.fraction[0], curve.value[0], curve.value[-1])]
    [0.5, 2.0, 0.75]
    """
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return curve_of("uplift", ranked, convention, confidence_level, label)


def cumulative_gain_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float = 0.95,
    label: str = "model",
) -> CurveResult:
    """The share treated times the average effect among them: :func:`uplift_curve` times q, from the origin.

    What the difference of the arms' means says that treating the best share q gains per unit of the population.
    :func:`qini_curve` says it by scores, with less noise at small q. Parameters as for :func:`qini_curve`.

    Examples
    --------
    >>> y, uplift, treatment = [3, 1, 2, 0, 1, 1, 0, 1], [9, 8, 7, 6, 4, 3, 2, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> curve = cumulative_gain_curve(y, uplift, treatment)
    >>> curve.value[:2].tolist(), float(curve.value[-1])
    ([0.0, 1.0], 0.75)
    """
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return curve_of("cumulative_gain", ranked, convention, confidence_level, label)


def toc_curve(
    y: Any,
    uplift: Any,
    treatment: Any,
    *,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float = 0.95,
    label: str = "model",
) -> CurveResult:
    """How much larger the effect of the best share q is than that of all: TOC(q) = C(q) / q - C(1).

    At most 200 points with pointwise intervals; zero at q = 1. Its mean over all units is the AUTOC
    (:func:`causalrec.evaluation.rate`). Parameters as for :func:`qini_curve`.

    Examples
    --------
    >>> y, uplift, treatment = [4, 0, 3, 0, 2, 0, 1, 0], [4, 4, 3, 3, 2, 2, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0]
    >>> toc_curve(y, uplift, treatment).value.round(12).tolist()
    [1.5, 1.0, 0.5, 0.0]
    """
    ranked = rank_rows(
        y, uplift, treatment, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters, control=control, arm=arm,
    )  # fmt: skip
    return curve_of("toc", ranked, convention, confidence_level, label)


def curve_of(kind: str, ranked: Ranked, convention: str, confidence_level: float, label: str) -> CurveResult:
    """A curve of ranked units with pointwise intervals."""
    level = check_confidence_level(confidence_level)
    if check_curve_convention(kind, convention):
        found = conventional_curve(kind, convention, ranked, max_points=_POINTS)
        name = f"{kind}_{convention}"
        fraction, value, error, random = found.fraction, found.value, found.std_error, found.random
    else:
        name = kind
        fraction, value, error, random = _KINDS[kind](ranked)
    half = stats.norm.isf((1 - level) / 2) * error
    return CurveResult(name, label, level, ranked.n, fraction, value, value - half, value + half, random)


def _qini(ranked: Ranked) -> _Four:
    fraction, value, error = (np.append(0.0, part) for part in gain_curve(ranked, curve_points("qini", ranked)))
    return fraction, value, error, fraction * value[-1]


def _uplift(ranked: Ranked) -> _Four:
    fraction, value, error = top_effects(ranked, curve_points("uplift", ranked))
    return fraction, value, error, np.full(len(value), value[-1])


def _cumulative_gain(ranked: Ranked) -> _Four:
    fraction, value, error, random = _uplift(ranked)
    found = (fraction, fraction * value, fraction * error, fraction * random)
    fraction, value, error, random = (np.append(0.0, part) for part in found)
    return fraction, value, error, random


def _toc(ranked: Ranked) -> _Four:
    fraction, value, error = toc_points(ranked, curve_points("toc", ranked))
    return fraction, value, error, np.zeros(len(value))


_KINDS: dict[str, Callable[[Ranked], _Four]] = {
    "qini": _qini, "uplift": _uplift, "cumulative_gain": _cumulative_gain, "toc": _toc,
}  # fmt: skip


def curve_points(kind: str, ranked: Ranked) -> IntArray:
    """The last units of the tops that a curve has a point for, but the origin."""
    return _thinned(ranked.group_end if kind in ("qini", "toc") else _wide_enough(ranked))


def _thinned(ends: IntArray) -> IntArray:
    if len(ends) > _POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))]
    return ends


def _wide_enough(ranked: Ranked) -> IntArray:
    """Ends of groups down to which there are two units of each arm."""
    ends: IntArray = ranked.group_end
    for arm in (0, 1):
        second = np.flatnonzero(ranked.arm == arm)[1:2]
        if len(second) == 0:
            raise TreatmentError("an arm has a single unit; its mean has no error. Collect more of it.")
        ends = ends[ends >= second[0]]
    return ends
