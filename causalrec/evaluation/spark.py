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

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.evaluation._metrics import RANKING_METRICS, Choice, check_share
from causalrec.evaluation._results import interval_result
from causalrec.evaluation._spark_areas import area_columns, area_estimates, toc_columns
from causalrec.evaluation._spark_curves import CURVES, group_effects
from causalrec.evaluation._spark_rows import Asked, Propensity, Rows, read_rows
from causalrec.evaluation._spark_tops import lift_sums, top_estimates
from causalrec.evaluation._tops import fieller_interval
from causalrec.evaluation.calibration import check_bins
from causalrec.evaluation.comparison import compare_results
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, CurveResult, EffectResult, ScorerComparisonResult, UpliftBinsResult

__all__ = [
    "auuc_score", "compare_scorers", "cumulative_gain_curve", "lift_share", "qini_curve", "qini_score", "rate",
    "toc_curve", "uplift_at_k", "uplift_by_bin", "uplift_curve",
]  # fmt: skip

_ROUNDING = 1e-13  # relative to the largest outcome
_SAME = 1e-6  # of a standard error: a difference with less than that of its own is none


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
    error = np.where(error > _ROUNDING * rows.largest, error, NAN)
    half = float(stats.norm.isf((1 - level) / 2)) * error
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
    results, variance = _results(rows, choice, len(named), level)

    def error(i: int, j: int) -> float:
        found = _root(variance[i, i] + variance[j, j] - 2 * variance[i, j])
        return 0.0 if found <= _SAME * _root(max(variance[i, i], variance[j, j])) else found

    named_results = list(zip(named, results, strict=True))
    return compare_results(named_results, error, baseline, level, rows.n, _how(choice, rows))


def _sequence(uplift: Any) -> Sequence[str]:
    if isinstance(uplift, str) or not isinstance(uplift, Sequence):
        raise CausalRecError(
            f"uplift is {uplift!r}; expected two or more columns, such as ['new', 'old'], or names of scorers and "
            "their columns."
        )
    return uplift


def _single(frame: Any, asked: Asked, choice: Choice, confidence_level: float) -> EffectResult:
    level = check_confidence_level(confidence_level)
    return _results(read_rows(frame, asked), choice, 1, level)[0][0]


def _results(rows: Rows, choice: Choice, n_scorers: int, level: float) -> tuple[list[EffectResult], FloatArray]:
    """The result of every scorer, and the covariance of the estimates."""
    if choice.metric == "lift_share":
        return _lift_results(rows, choice, n_scorers, level)
    used = np.full(n_scorers, rows.n)
    if choice.metric == "uplift_at_k":
        estimates, variance, used = top_estimates(rows, choice.k, n_scorers)
    else:
        columns = toc_columns if choice.metric == "autoc" else area_columns(0.5 if choice.metric == "qini" else 0.0)
        estimates, variance = area_estimates(rows, n_scorers, columns, centred=choice.metric != "auuc")
    results = []
    for s in range(n_scorers):
        how, name, n = _how(choice, rows), choice.estimand, int(used[s])
        if rows.constant(s) and choice.metric in ("qini", "autoc"):
            how += "; all predictions are equal, so the score is zero by definition"
            results.append(EffectResult(0.0, 0.0, 0.0, 0.0, NAN, level, n, how, name))
            continue
        error = _honest(variance[s, s], rows)
        if np.isnan(error):
            how += "; none here: the outcome does not vary within the arms, or there is one cluster"
        results.append(interval_result(float(estimates[s]), error, level, n, how, name))
    return results, variance


def _lift_results(rows: Rows, choice: Choice, n_scorers: int, level: float) -> tuple[list[EffectResult], FloatArray]:
    """Ratios with Fieller's intervals, and the test of a random order; see ``evaluation._results``."""
    share, name = choice.k, choice.estimand
    found = lift_sums(rows, share, n_scorers)
    ratio = found.gain / found.total if found.total else np.full(n_scorers, NAN)
    slopes = np.column_stack([np.eye(n_scorers), -ratio]) / (found.total or NAN)
    results = []
    for s in range(n_scorers):
        how = f"{_how(choice, rows)}, Fieller's interval; p-value of a share of {share:g}, that of a random order"
        if rows.constant(s) or share == 1:
            how += "; here the share is that by definition"
            results.append(EffectResult(share, 0.0, share, share, NAN, level, rows.n, how, name))
            slopes[s] = 0.0
            continue
        var_gain, var_total, both = found.covariance[s, s], found.covariance[-1, -1], found.covariance[s, -1]
        low, high = fieller_interval(found.gain[s], found.total, var_gain, var_total, both, level)
        if np.isinf(low):
            how += "; the whole effect cannot be told from zero, so the share has no bounds"
        error = _honest(var_gain + share**2 * var_total - 2 * share * both, rows)
        test = interval_result(found.gain[s] - share * found.total, error, level, rows.n, how, name)
        std_error = _root(float(slopes[s] @ found.covariance @ slopes[s]))
        results.append(EffectResult(ratio[s], std_error, low, high, test.pvalue, level, rows.n, how, name))
    return results, slopes @ found.covariance @ slopes.T


def _how(choice: Choice, rows: Rows) -> str:
    how = rows.method
    if choice.metric == "uplift_at_k":
        how = "difference of the arms' means" + (", known propensity" if rows.n_terms == 0 else "")
    return f"{how}; influence-function standard error" + (", clustered" if rows.clustered else "")


def _root(variance: float) -> float:
    return float(np.sqrt(max(variance, 0.0))) if not np.isnan(variance) else NAN


def _honest(variance: float, rows: Rows) -> float:
    """The standard error, or NaN where nothing varies: a zero would look like certainty."""
    error = _root(variance)
    return error if error > _ROUNDING * rows.largest else NAN


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
