"""Stage "A/B test": sample ratio, then every metric against control, from one scan of moments."""

from __future__ import annotations

from dataclasses import dataclass

from causalrec.abtest import compare_arms, sample_ratio_test
from causalrec.config import RunConfig
from causalrec.engines import Engine, collect_moments
from causalrec.pipelines.designs import Design
from causalrec.results import ABResult, SampleRatioResult

_TABLE = "causalrec_experiment"


@dataclass(frozen=True)
class ABOutput:
    """The check of the split (None where no split was designed) and one result per metric."""

    ratio: SampleRatioResult | None
    metrics: list[ABResult]
    notes: tuple[str, ...]


def analyse_experiment(design: Design, config: RunConfig, engine: Engine) -> ABOutput:
    """Compare the arms on every metric; a broken split is said aloud, and the numbers are shown all the same."""
    metrics = config.abtest.metrics or tuple(design.outcomes)
    labels = {0: design.control, 1: design.treated}
    engine.register(_TABLE, design.frame[[design.treatment, *metrics]])
    found = collect_moments(engine, _TABLE, list(metrics), by=[design.treatment])
    moments = {labels[int(key[0])]: value for key, value in found.items()}
    results = compare_arms(
        moments,
        {name: design.outcomes[name].kind for name in metrics},
        control=design.control,
        confidence_level=config.confidence_level,
    )
    share = design.expected_share
    if share is None:
        return ABOutput(None, results, ("A/B test: the split is not checked; give experiment.expected_share",))
    ratio = sample_ratio_test(
        {arm: m.n for arm, m in moments.items()},
        {design.control: 1 - share, design.treated: share},
        threshold=config.abtest.srm_threshold,
    )
    if not ratio.mismatch:
        return ABOutput(ratio, results, ())
    counts = ", ".join(f"{arm} {count:,}" for arm, count in zip(ratio.arms, ratio.counts, strict=True))
    warning = (
        f"sample ratio mismatch: {counts} (p = {ratio.pvalue:.2g}). Assignment or logging is broken; do not trust the "
        "effects below until the cause is found."
    )
    return ABOutput(ratio, results, (warning,))
