"""Uplift metrics of a Spark DataFrame: the numbers of :mod:`causalrec.evaluation`, from sums that Spark computes.

The functions have the names of that module and take a frame and the names of its columns. Results are the same objects
with the same numbers, up to the rounding of sums. No row comes to the driver and no Python runs on the executors: the
range of the score is cut into buckets of about 20,000 rows, running sums are taken within each, and what reaches the
driver are sums by bucket, by point of a curve, or over all rows. Influence functions are not written down but are
combinations of a few columns, so the sums of the products of those columns give every standard error, by cluster too.

A frame is read two to five times for a metric: call ``persist()`` on one that is costly to compute, or that changes
when it is computed again (a sample without a seed). What is left out here: ``nuisance`` and ``convention``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.evaluation._metrics import RANKING_METRICS, Choice, check_share
from causalrec.evaluation._spark_curves import CURVES, group_effects
from causalrec.evaluation._spark_results import error_of_difference, not_rounding, ranking_results, words
from causalrec.evaluation._spark_rows import Asked, read_rows
from causalrec.evaluation.calibration import check_bins
from causalrec.evaluation.comparison import compare_results
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.spark_rows import Propensity
from causalrec.results import CurveResult, EffectResult, ScorerComparisonResult, UpliftBinsResult

__all__ = [
    "auuc_score", "compare_scorers", "cumulative_gain_curve", "lift_share", "qini_curve", "qini_score", "rate",
    "toc_curve", "uplift_at_k", "uplift_by_bin", "uplift_curve",
]  # fmt: skip


def qini_score(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Area between the gain curve and that of a random order; see :func:`causalrec.evaluation.qini_score`.

    Parameters
    ----------
    frame : Spark DataFrame
    outcome : str
        A column of numbers or booleans.
    uplift : str
        A column of predicted effects, such as :func:`causalrec.uplift.spark.score_spark` adds.
    treatment : str
        A column of 0/1 or booleans, or of labels with ``control``.
    propensity : float, str, or mapping, optional
        Known by design: of two arms P(treated), a number or a column; of more ``{arm: number or column}``.
    sample_weight, clusters : str, optional
        A column of weights; and one of the units within which rows depend on each other.
    control, arm : labels, optional
        The arm to compare with, and the one that is compared, where there are more than two.
    confidence_level : float

    Raises
    ------
    ColumnError
        For columns that are missing.
    TreatmentError
        For one arm, missing values, an arm without weight, or no ``arm`` where there are several.
    OutcomeError
        For outcomes or predictions that are missing, infinite or no numbers, or an outcome that never varies.
    OverlapError
        For a propensity that is not strictly between 0 and 1.
    EngineError
        When the frame cannot be read, or holds other rows when it is read again.

    Examples
    --------
    >>> qini_score(frame, outcome="bought", uplift="uplift", treatment="arm", control="none")  # doctest: +SKIP
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _single(frame, asked, Choice("qini"), confidence_level)


def auuc_score(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Area under the gain curve; parameters as for :func:`qini_score`."""
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _single(frame, asked, Choice("auuc"), confidence_level)


def rate(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    target: Literal["autoc", "qini"] = "autoc",
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """AUTOC or Qini, see :func:`causalrec.evaluation.rate`; other parameters as for :func:`qini_score`."""
    names = {"autoc": "autoc", "qini": "qini"}
    if target not in names:
        raise CausalRecError(f"target is {target!r}; expected one of {list_some(names)}.")
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _single(frame, asked, Choice(target), confidence_level)


def uplift_at_k(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    k: float = 0.1,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """Average effect among the best share ``k``: the difference of the arms' means there.

    See :func:`causalrec.evaluation.uplift_at_k`, of which this is the strategy "overall". Other parameters as for
    :func:`qini_score`.
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _single(frame, asked, Choice("uplift_at_k", k=k), confidence_level)


def lift_share(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    share: float = 0.1,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> EffectResult:
    """What share of the gain of treating all comes from the best ``share`` of units.

    See :func:`causalrec.evaluation.lift_share`. Other parameters as for :func:`qini_score`.
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _single(frame, asked, Choice("lift_share", k=check_share(share, name="share")), confidence_level)


def qini_curve(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
    label: str | None = None,
) -> CurveResult:
    """The gain C(q) over the share treated, with pointwise intervals; see :func:`causalrec.evaluation.qini_curve`.

    Parameters as for :func:`qini_score`; ``label`` names the scorer in plots, by default by its column.
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _curve("qini", frame, asked, confidence_level, label)


def uplift_curve(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
    label: str | None = None,
) -> CurveResult:
    """The average effect among the best share q; see :func:`causalrec.evaluation.uplift_curve`.

    Parameters as for :func:`qini_score`; ``label`` names the scorer in plots, by default by its column.
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _curve("uplift", frame, asked, confidence_level, label)


def cumulative_gain_curve(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
    label: str | None = None,
) -> CurveResult:
    """The share treated times the average effect among them; see :func:`causalrec.evaluation.cumulative_gain_curve`.

    Parameters as for :func:`qini_score`; ``label`` names the scorer in plots, by default by its column.
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _curve("cumulative_gain", frame, asked, confidence_level, label)


def toc_curve(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
    label: str | None = None,
) -> CurveResult:
    """How much larger the effect of the best share q is than that of all; see :func:`causalrec.evaluation.toc_curve`.

    Parameters as for :func:`qini_score`; ``label`` names the scorer in plots, by default by its column.
    """
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    return _curve("toc", frame, asked, confidence_level, label)


def uplift_by_bin(
    frame: Any,
    *,
    outcome: str,
    uplift: str,
    treatment: str,
    bins: int | Sequence[float] = 10,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> UpliftBinsResult:
    """Predicted and observed effect in equal groups; see :func:`causalrec.evaluation.uplift_by_bin`.

    ``bins`` is their number, or the predictions that part one from the next. Other parameters as for
    :func:`qini_score`.
    """
    level, wanted = check_confidence_level(confidence_level), check_bins(bins)
    asked = Asked(outcome, (uplift,), treatment, propensity, sample_weight, clusters, control, arm)
    rows = read_rows(frame, asked)
    n, predicted, effect, error = group_effects(rows, wanted)
    half = float(stats.norm.isf((1 - level) / 2)) * not_rounding(error, rows)
    return UpliftBinsResult(level, rows.n, np.arange(1, len(n) + 1), n, predicted, effect, effect - half, effect + half)


def compare_scorers(
    frame: Any,
    *,
    outcome: str,
    uplift: Sequence[str] | Mapping[str, str],
    treatment: str,
    metric: str = "qini",
    k: float = 0.1,
    baseline: str | None = None,
    propensity: Propensity = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    arm: Any = None,
    confidence_level: float = 0.95,
) -> ScorerComparisonResult:
    """A metric of several scorers, and the difference of every pair on the same rows.

    See :func:`causalrec.evaluation.compare_scorers`. All scorers are computed in the same passes over the frame.

    Parameters
    ----------
    uplift : sequence of columns, or mapping of names to columns
        Two scorers or more.
    metric : str
        ``"qini"``, ``"auuc"``, ``"autoc"``, ``"uplift_at_k"`` or ``"lift_share"``.
    k : float
        Share of the top, of the last two.
    baseline : str, optional
        A scorer to compare the others with.

    Raises
    ------
    CausalRecError
        For fewer than two scorers, an unknown metric or baseline, and as for :func:`qini_score`, where the other
        parameters are.

    Examples
    --------
    >>> compare_scorers(
    ...     frame, outcome="bought", uplift=["new", "old"], treatment="t", clusters="user"
    ... )  # doctest: +SKIP
    """
    level = check_confidence_level(confidence_level)
    named = dict(uplift) if isinstance(uplift, Mapping) else {str(name): name for name in _sequence(uplift)}
    if len(named) < 2:
        raise CausalRecError(
            f"found the scorers {list_some(named) or 'none'}; expected two or more with names of their own. A single "
            "one has its metric, such as qini_score."
        )
    if baseline is not None and baseline not in named:
        raise CausalRecError(f"baseline={baseline!r} is no scorer; expected one of {list_some(named)}.")
    if metric not in RANKING_METRICS:
        raise CausalRecError(
            f"metric is {metric!r}; expected one of {list_some(RANKING_METRICS)}."
            f"{nearest(str(metric), RANKING_METRICS)}"
        )
    choice = Choice(metric, k=k)
    asked = Asked(outcome, tuple(named.values()), treatment, propensity, sample_weight, clusters, control, arm)
    rows = read_rows(frame, asked)
    results, variance = ranking_results(rows, choice, len(named), level)

    def error(i: int, j: int) -> float:
        return error_of_difference(variance, i, j)

    named_results = list(zip(named, results, strict=True))
    return compare_results(named_results, error, baseline, level, rows.n, words(choice, rows))


def _sequence(uplift: Any) -> Sequence[str]:
    if isinstance(uplift, str) or not isinstance(uplift, Sequence):
        raise CausalRecError(
            f"uplift is {uplift!r}; expected two or more columns, such as ['new', 'old'], or names of scorers and "
            "their columns."
        )
    return uplift


def _single(frame: Any, asked: Asked, choice: Choice, confidence_level: float) -> EffectResult:
    level = check_confidence_level(confidence_level)
    return ranking_results(read_rows(frame, asked), choice, 1, level)[0][0]


def _curve(kind: str, frame: Any, asked: Asked, confidence_level: float, label: str | None) -> CurveResult:
    level = check_confidence_level(confidence_level)
    rows = read_rows(frame, asked)
    fraction, value, error = CURVES[kind](rows)
    if kind == "cumulative_gain":
        value, error = fraction * value, fraction * error
    if kind in ("qini", "cumulative_gain"):
        fraction, value, error = (np.append(0.0, part) for part in (fraction, value, error))
        random = fraction * value[-1]
    else:
        random = np.full(len(value), value[-1])
    half = float(stats.norm.isf((1 - level) / 2)) * error
    name = asked.uplift[0] if label is None else label
    return CurveResult(kind, name, level, rows.n, fraction, value, value - half, value + half, random)
