"""Which scorer ranks better: paired differences on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from causalrec._multiplicity import holm
from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.evaluation._metrics import RANKING_METRICS, Choice
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation._results import error_words, interval_result, method_words, result_and_influence
from causalrec.evaluation.conventions import DEFAULT
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores, Nuisances, arm_scores
from causalrec.nuisance.scores import check_effects, dr_losses, r_losses
from causalrec.results import NAN, EffectResult, ScorerComparisonResult

LOSSES = ("r_loss", "dr_loss")
_ROUNDING = 1e-12


def compare_scorers(
    y: Any,
    uplift: Mapping[str, Any],
    treatment: Any,
    *,
    metric: str = "qini",
    k: float = 0.1,
    strategy: Literal["overall", "by_group"] = "overall",
    baseline: str | None = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    control: Any = None,
    arm: Any = None,
    convention: str = DEFAULT,
    confidence_level: float = 0.95,
) -> ScorerComparisonResult:
    """A metric of several scorers, and the difference of every pair on the same rows.

    The scorers see the same units, so most of their noise is shared: the difference has far less of it than each score,
    and its standard error comes from the difference of the two influence functions, unit by unit (or cluster by
    cluster). Two intervals that overlap therefore say nothing about the difference.

    Parameters
    ----------
    y, treatment, propensity, nuisance, sample_weight, clusters, control, arm, convention
        As for :func:`causalrec.evaluation.qini_score`.
    uplift : mapping of names to arrays, or a frame with a column per scorer
        Predicted effects of the same rows, each of shape (n,), or (n, k - 1) for more arms.
    metric : str
        ``"qini"``, ``"auuc"``, ``"autoc"``, ``"uplift_at_k"``, ``"lift_share"``; or, with ``nuisance``, ``"r_loss"`` or
        ``"dr_loss"``, of which less is better.
    k, strategy
        Share of the top, of ``"uplift_at_k"`` and ``"lift_share"``; and as for
        :func:`causalrec.evaluation.uplift_at_k`.
    baseline : str, optional
        A scorer to compare the others with, such as the one in use; by default every pair is compared.
    confidence_level : float

    Returns
    -------
    ScorerComparisonResult
        Intervals and p-values are of one pair each; a column has Holm's p-values for all of them. The scorers are taken
        as they are: what another training sample would have changed is not counted.

    Raises
    ------
    CausalRecError
        For fewer than two scorers, an unknown metric or baseline, a loss without ``nuisance``, and as for
        :func:`causalrec.evaluation.qini_score`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.normal(size=(2, 1000)), rng.integers(0, 2, 1000)
    >>> y = x[0] * treatment + rng.normal(size=1000)
    >>> found = compare_scorers(y, {"right": x[0], "useless": x[1]}, treatment)
    >>> found.best, found.verdict
    ('right', ('better',))
    """
    level = check_confidence_level(confidence_level)
    named = _named(uplift, baseline)
    scores = arm_scores(
        y, treatment, control=control, propensity=propensity, nuisance=nuisance, sample_weight=sample_weight,
        clusters=clusters,
    )  # fmt: skip
    if metric in LOSSES:
        how = f"mean over rows; {error_words(scores)}"
        found = _losses(metric, named, scores, nuisance, convention, level)
    else:
        choice = Choice(_known(metric), k=k, strategy=strategy, convention=convention)
        how = method_words(choice, scores)
        found = _rankings(choice, named, scores, arm, level)
    return _compared(found, scores, baseline, level, how)


@dataclass(frozen=True, eq=False)
class _Scored:
    """A scorer's result and its influence function in the order of the caller's rows."""

    name: str
    result: EffectResult
    influence: FloatArray = field(repr=False)


def _named(uplift: Any, baseline: str | None) -> list[tuple[str, Any]]:
    frame = getattr(uplift, "columns", None)  # of pandas or Polars
    if frame is None and not isinstance(uplift, Mapping):
        raise CausalRecError(
            f"uplift is of type {type(uplift).__name__}; expected a mapping of names to predictions, such as "
            '{"new": ..., "old": ...}.'
        )
    named = [(str(name), uplift[name]) for name in (uplift if frame is None else frame)]
    if len(named) < 2 or len({name for name, _ in named}) < len(named):
        raise CausalRecError(
            f"found the scorers {list_some(name for name, _ in named) or 'none'}; expected two or more with names of "
            "their own. A single one has its metric, such as qini_score."
        )
    if baseline is not None and baseline not in dict(named):
        raise CausalRecError(f"baseline={baseline!r} is no scorer; expected one of {list_some(dict(named))}.")
    return named


def _known(metric: str) -> str:
    known = (*RANKING_METRICS, *LOSSES)
    if metric not in known:
        raise CausalRecError(f"metric is {metric!r}; expected one of {list_some(known)}.{nearest(str(metric), known)}")
    return metric


def _rankings(choice: Choice, named: list[tuple[str, Any]], scores: ArmScores, arm: Any, level: float) -> list[_Scored]:
    found = []
    for name, values in named:
        ranked = rank_units(scores, values, arm=arm)
        result, influence = result_and_influence(choice, ranked, level)
        found.append(_Scored(name, result, ranked.by_row(influence)))
    return found


def _losses(
    metric: str,
    named: list[tuple[str, Any]],
    scores: ArmScores,
    nuisance: Nuisances | None,
    convention: str,
    level: float,
) -> list[_Scored]:
    if nuisance is None:
        raise CausalRecError(
            f"metric={metric!r} needs nuisance: models of the outcome and the treatment that did not see the rows. See "
            "causalrec.nuisance.fit_nuisances."
        )
    if convention != DEFAULT:
        raise CausalRecError(f"convention is {convention!r}, which has no {metric}; leave it out.")
    found = []
    for name, values in named:
        table = check_effects(values, nuisance.n_obs, len(nuisance.labels))
        rows = (
            r_losses(table, nuisance.y, nuisance.codes, nuisance.mean_outcome, nuisance.propensity)
            if metric == "r_loss"
            else dr_losses(table, nuisance.effect_scores())
        )
        mean = float(scores.weight @ rows) / scores.n_obs
        influence = scores.weight * (rows - mean)
        result = interval_result(mean, scores.error(influence), level, scores.n_obs, "", metric)
        found.append(_Scored(name, result, influence))
    return found


def _compared(
    found: list[_Scored], scores: ArmScores, baseline: str | None, level: float, how: str
) -> ScorerComparisonResult:
    def error(i: int, j: int) -> float:
        return scores.error(found[i].influence - found[j].influence)

    return compare_results([(one.name, one.result) for one in found], error, baseline, level, scores.n_obs, how)


def compare_results(
    named: Sequence[tuple[str, EffectResult]],
    error: Callable[[int, int], float],
    baseline: str | None,
    level: float,
    n_obs: int,
    how: str,
) -> ScorerComparisonResult:
    """Compare results of scorers; ``error(i, j)`` is the standard error of the difference of two of them."""
    names, results = [name for name, _ in named], [result for _, result in named]
    pairs = list(combinations(range(len(named)), 2))
    if baseline is not None:
        base = names.index(baseline)
        pairs = [(i, base) for i in range(len(named)) if i != base]
    differences = [_difference(results[i], results[j], error(i, j), level, n_obs) for i, j in pairs]
    metric = results[0].estimand
    less = metric in LOSSES
    estimates = [result.estimate for result in results]
    kinds = ("std_error", "ci_low", "ci_high")
    pvalues = np.array([NAN if less else result.pvalue for result in results])
    return ScorerComparisonResult(
        metric=metric, higher_is_better=not less,
        best=_best(names, -np.array(estimates) if less else np.array(estimates)),
        baseline=baseline or "", confidence_level=level, n_obs=n_obs, n_scorers=len(named), n_pairs=len(pairs),
        method=f"{how}; differences paired by row",
        scorer=np.array(names), estimate=np.array(estimates), pvalue=pvalues,
        first=np.array([names[i] for i, _ in pairs]), second=np.array([names[j] for _, j in pairs]),
        difference=np.array([d.estimate for d in differences]),
        difference_pvalue=np.array([d.pvalue for d in differences]),
        adjusted_pvalue=holm(np.array([d.pvalue for d in differences])),
        **{kind: np.array([getattr(result, kind) for result in results]) for kind in kinds},
        **{f"difference_{kind}": np.array([getattr(d, kind) for d in differences]) for kind in kinds},
    )  # fmt: skip


def _best(names: Sequence[str], goodness: FloatArray) -> str:
    known = np.flatnonzero(~np.isnan(goodness))
    return names[int(known[np.argmax(goodness[known])])] if len(known) else ""


def _difference(a: EffectResult, b: EffectResult, error: float, level: float, n_obs: int) -> EffectResult:
    """Of two metrics on the same rows, by the error of their difference; zero for the same order."""
    gap = a.estimate - b.estimate
    size = max(a.std_error, b.std_error)
    if error <= _ROUNDING * size:
        gap, error = 0.0, 0.0  # the same order
    elif error == 0:
        error = NAN  # nothing varies, which is no certainty
    return interval_result(gap, error, level, n_obs, a.method, a.estimand)
