"""Whether an experiment can be believed at all: its split, its past, its A/A tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scipy.stats import binomtest

from causalrec.abtest.decisions.rule import DecisionRule
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.results import AAResult, ExperimentResult
from causalrec.results.base import format_level, pvalue_text


def faults(result: ExperimentResult, rule: DecisionRule, aa: Sequence[AAResult], n_conflicting: int) -> Iterator[str]:
    """What is broken, a sentence each; nothing if nothing is."""
    for ratio in result.sample_ratio:
        if ratio.mismatch:
            counts = ", ".join(f"{arm} {n:,}" for arm, n in zip(ratio.arms, ratio.counts, strict=True))
            yield (
                f"The arms do not have the sizes they were designed to have ({counts}; {pvalue_text(ratio.pvalue)}): "
                "units are lost or wrongly assigned. Find the cause before anything else."
            )
    for within in result.segment_ratios:
        if within.mismatch:
            yield (
                f"The arms do not have their sizes where {within.dimension} = {within.most_suspicious} "
                f"({pvalue_text(within.pvalue)}, corrected for {within.n_segments} groups): units are lost or wrongly "
                "assigned there."
            )
    yield from _differences_before(result, rule)
    yield from _failed_aa(aa, rule)
    if n_conflicting > rule.max_conflicting * (result.n_obs + n_conflicting):
        yield (
            f"{n_conflicting:,} units were in more than one arm, above {format_level(rule.max_conflicting)} of all: "
            "assignment is not kept. Those that are left may be others than those that were drawn."
        )


def _differences_before(result: ExperimentResult, rule: DecisionRule) -> Iterator[str]:
    adjusted = adjust_pvalues([e.pvalue for e in result.pre_period], "holm")
    for effect, p in zip(result.pre_period, adjusted, strict=True):
        if p < rule.threshold:
            yield (
                f"{effect.metric} differed between {effect.control} and {effect.treatment} before the experiment "
                f"({pvalue_text(float(p))}): assignment was not random, or it was not measured before."
            )


def _failed_aa(aa: Sequence[AAResult], rule: DecisionRule) -> Iterator[str]:
    for each in aa:
        found = round(each.false_positive_rate * each.n_simulations)
        p = binomtest(found, each.n_simulations, each.alpha, alternative="greater").pvalue
        if p * len(aa) < rule.threshold:
            yield (
                f"{each.metric}: {each.false_positive_rate:.1%} of {each.n_simulations:,} splits by lot find an effect "
                f"where {each.alpha:.1%} should: its errors are too small. Is the unit the one that was assigned?"
            )
