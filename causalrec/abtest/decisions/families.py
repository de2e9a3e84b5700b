"""The tests of an experiment corrected for their number, over metrics, variants and segments, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from causalrec._validation import list_some, nearest
from causalrec.abtest.decisions.rule import correction_name
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.hypotheses import Equivalence, Hypothesis, NonInferiority, Superiority
from causalrec.abtest.inference import FixedHorizon, Inference, infer
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN, ABResult, ExperimentResult, MultiplicityResult
from causalrec.results.answers import relative_margins

Dimension = Literal["metrics", "variants", "segments"]
_CLOSE = 1e-6


def adjust_experiment(
    result: ExperimentResult,
    method: str = "holm",
    *,
    over: Sequence[Dimension] = ("metrics", "variants"),
    metrics: Sequence[str] | None = None,
    inference: Inference = FixedHorizon(),  # noqa: B008 - frozen
) -> MultiplicityResult:
    """Correct the tests of an experiment for their number.

    Tests that differ in a dimension of ``over`` are one family; those that differ in another are corrected apart.
    With ``"segments"`` the effects within segments join those on all units, without it they are left out.

    Parameters
    ----------
    result : ExperimentResult
    method : str
        See :func:`adjust_pvalues`. ``"bonferroni"`` and ``"sidak"`` give simultaneous intervals too, each at the level
        that its share of the error leaves: 1 - alpha / m, or (1 - alpha)^(1 / m).
    over : sequence of {"metrics", "variants", "segments"}
    metrics : sequence of str, optional
        Some of them.
    inference : Inference
        That the result is of, for the intervals.

    Raises
    ------
    CausalRecError
        For an unknown method, dimension or metric, a result of another inference, or nothing to correct.

    Examples
    --------
    >>> from causalrec.abtest import welch_test
    >>> from causalrec.results import ExperimentResult
    >>> effects = [welch_test(10.0, 4.0, 900, m, 4.0, 900, metric=n) for n, m in (("visits", 10.2), ("orders", 10.25))]
    >>> found = adjust_experiment(ExperimentResult(1_800, 0.95, tuple(effects)), "bonferroni")
    >>> [f"{p:.4f}" for p in found.adjusted_pvalue]
    ['0.0681', '0.0162']
    """
    dimensions = (over,) if isinstance(over, str) else tuple(over)
    _check_over(dimensions)
    effects = _chosen(result, dimensions, metrics, inference)
    keys = [_family(e, dimensions) for e in effects]
    adjusted = np.full(len(effects), np.nan)
    low, high = adjusted.copy(), adjusted.copy()
    for key in dict.fromkeys(keys):
        at = [k for k, each in enumerate(keys) if each == key]
        adjusted[at] = adjust_pvalues([effects[k].pvalue for k in at], method)
        tests = sum(not math.isnan(effects[k].pvalue) for k in at)
        for k in at:
            low[k], high[k] = _simultaneous(effects[k], method, tests, inference)
    pvalues = np.array([e.pvalue for e in effects])
    alpha = 1 - result.confidence_level
    families = len(set(keys))
    said = f"{correction_name(method)} over {', '.join(dimensions)}" if dimensions else "not corrected"
    return MultiplicityResult(
        correction=method, n_tests=int(np.isfinite(pvalues).sum()), n_families=families,
        n_before=int((pvalues < alpha).sum()), n_after=int((adjusted < alpha).sum()),
        confidence_level=result.confidence_level, method=said + _about_intervals(method, np.isnan(low)),
        metric=_names(e.metric for e in effects), treatment=_names(e.treatment for e in effects),
        segment=_names(e.segment for e in effects), family=_names(", ".join(filter(None, key)) for key in keys),
        estimate=np.array([e.estimate for e in effects]), pvalue=pvalues, adjusted_pvalue=adjusted, ci_low=low,
        ci_high=high,
    )  # fmt: skip


def _names(values: Any) -> Any:
    return np.array([str(v) for v in values])


def _check_over(over: Sequence[str]) -> None:
    strange = [each for each in over if each not in get_args(Dimension)]
    if strange:
        raise CausalRecError(
            f"over holds {strange[0]!r}; expected {list_some(get_args(Dimension))}."
            f"{nearest(str(strange[0]), get_args(Dimension))}"
        )


def _chosen(
    result: ExperimentResult, over: Sequence[str], metrics: Sequence[str] | None, inference: Inference
) -> list[ABResult]:
    effects = [*result.effects, *(result.segments if "segments" in over else ())]
    known = dict.fromkeys(e.metric for e in effects)
    for name in metrics or ():
        if name not in known:
            raise CausalRecError(f"metrics holds {name!r}; found {list_some(known)}.{nearest(name, known)}")
    effects = [e for e in effects if metrics is None or e.metric in metrics]
    if not effects:
        raise CausalRecError("the result has no effects, so there is nothing to correct.")
    others = [name for name in dict.fromkeys(e.inference for e in effects) if name != inference.name]
    if others:
        raise CausalRecError(
            f"the effects are by {list_some(others)} inference, but inference is {inference.name!r}; pass the "
            "inference that they were analysed with."
        )
    return effects


def _family(effect: ABResult, over: Sequence[str]) -> tuple[str, str]:
    return "" if "metrics" in over else effect.metric, "" if "variants" in over else effect.treatment


def _simultaneous(effect: ABResult, method: str, tests: int, inference: Inference) -> tuple[float, float]:
    """At the level that the family's share leaves; none where this effect's own interval cannot be had again."""
    alpha = 1 - effect.confidence_level
    level = {"bonferroni": 1 - alpha / max(tests, 1), "sidak": (1 - alpha) ** (1 / max(tests, 1))}.get(method)
    if level is None or not effect.std_error > 0:
        return NAN, NAN
    again = _again(effect, effect.confidence_level, inference)
    if any(
        not (a == b or abs(a - b) <= _CLOSE * effect.std_error)
        for a, b in ((again.ci_low, effect.ci_low), (again.ci_high, effect.ci_high))
    ):
        return NAN, NAN
    wider = _again(effect, level, inference)
    return wider.ci_low, wider.ci_high


def _again(effect: ABResult, level: float, inference: Inference) -> ABResult:
    """The same effect at another level, from its numbers."""
    return infer(
        estimate_of(effect), metric=effect.metric, control=effect.control, treatment=effect.treatment,
        hypothesis=_hypothesis(effect), confidence_level=level, relative="delta", segment=effect.segment,
        inference=inference,
    )  # fmt: skip


def estimate_of(effect: ABResult) -> Estimate:
    """The estimate that an effect was inferred from; errors of arms that are not known are shared evenly."""
    v0, v1 = effect.control_std_error**2, effect.treatment_std_error**2
    whole = effect.std_error**2
    if math.isnan(v0 + v1):
        v0 = v1 = whole / 2
    return Estimate(
        effect.control_mean, effect.treatment_mean, v0, v1, (v0 + v1 - whole) / 2, effect.df, effect.n_control,
        effect.n_treatment, effect.method,
    )  # fmt: skip


def _hypothesis(effect: ABResult) -> Hypothesis:
    if effect.hypothesis not in ("non-inferiority", "equivalence"):
        return Superiority(effect.hypothesis)  # type: ignore[arg-type]
    relative = relative_margins(effect)
    if effect.hypothesis == "equivalence":
        return Equivalence(effect.margin_high, relative=relative)
    higher = not math.isnan(effect.margin_low)
    return NonInferiority(
        abs(effect.margin_low if higher else effect.margin_high), relative=relative, higher_is_better=higher
    )


def _about_intervals(method: str, absent: Any) -> str:
    if method not in ("bonferroni", "sidak"):
        return "; it has no simultaneous intervals"
    if absent.any():
        return f"; {int(absent.sum())} of {len(absent)} without a simultaneous interval, as theirs is of another kind"
    return ""
