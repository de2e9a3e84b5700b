"""What a reader must know before believing the effects, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from causalrec._validation import list_some
from causalrec.abtest.aggregates import Aggregates
from causalrec.abtest.estimation.scores import Names
from causalrec.abtest.metrics import Metric, Retention
from causalrec.results import ABResult, SampleRatioResult, SegmentRatioResult, format_number, format_pvalue


def collection_notes(aggregates: Aggregates, metrics: dict[str, Metric]) -> Iterator[str]:
    """What was left out or changed before anything was estimated."""
    if aggregates.n_conflicting:
        yield f"dropped {aggregates.n_conflicting:,} units that were in more than one arm"
    if aggregates.n_duplicates:
        yield f"dropped {aggregates.n_duplicates:,} rows that repeat another"
    for name, count in aggregates.n_missing.items():
        if count:
            yield f"{name}: {count:,} rows without a value do not count"
    for name, count in aggregates.n_immature.items():
        metric = metrics[name]
        if count and isinstance(metric, Retention):
            yield f"{name}: {count:,} units exposed for less than {metric.days:g} days do not count"
    for name, (low, high) in aggregates.thresholds.items():
        yield f"{name}: clipped to [{format_number(low)}, {format_number(high)}], quantiles of all arms together"


def _p(pvalue: float) -> str:
    return "p < 1e-300" if pvalue == 0 else f"p = {format_pvalue(pvalue)}"


ROWS_ARE_UNITS = (
    "no unit= or cluster= is named: each row is taken as an independent unit, so errors are too small where a unit "
    "has several"
)


def sample_ratio_note(ratio: SampleRatioResult) -> str:
    """Of a mismatch."""
    counts = ", ".join(f"{arm} {count:,}" for arm, count in zip(ratio.arms, ratio.counts, strict=True))
    return (
        f"sample ratio mismatch: {counts} ({_p(ratio.pvalue)}). Assignment or logging is broken; do not trust the "
        "effects until the cause is found."
    )


def segment_ratio_note(ratio: SegmentRatioResult) -> str:
    """Of a mismatch within a segment."""
    return (
        f"sample ratio mismatch where {ratio.dimension} = {ratio.most_suspicious} ({_p(ratio.pvalue)}, "
        f"corrected for {ratio.n_segments} groups): units are lost or wrongly assigned there."
    )


def balance_note(balance: ABResult) -> str:
    """Of a covariate that differs before the experiment."""
    where = f" in the {balance.segment}" if balance.segment else ""
    return (
        f"{balance.metric} differs between {balance.control} and {balance.treatment} before the experiment{where} ("
        f"{_p(balance.pvalue)}): assignment was not random, or the column was not measured before it"
    )


def untested_note(effect: ABResult) -> str:
    """Of an effect without a p-value."""
    return f"{effect.metric} of {effect.treatment}: {effect.method}"


def trigger_note(shares: ABResult) -> str:
    """Of arms that triggered for different shares of their units."""
    return (
        f"{shares.control} triggered for {shares.control_mean:.2%} of its units, {shares.treatment} for "
        f"{shares.treatment_mean:.2%} ({_p(shares.pvalue)}): the triggered units cannot be compared "
        "unless the cause is found"
    )


def skipped_note(dimension: str, skipped: Sequence[str]) -> str:
    """Of groups without a comparison."""
    return f"{dimension}: not compared for want of units or variance: {list_some(skipped, 4)}"


def no_slope_note(names: Names, reason: str) -> str:
    """Of effects by day whose change per day cannot be had."""
    return f"the effect of {names.treatment} by day has no slope: {reason}"
