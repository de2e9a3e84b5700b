"""Stage "A/B test": sample ratio, then every metric against control, from one scan of moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrec.abtest import Experiment, Mean, Proportion, SampleRatio
from causalrec.config import RunConfig
from causalrec.engines import Engine
from causalrec.pipelines.designs import Design
from causalrec.results import ABResult, SampleRatioResult

_TABLE = "causalrec_experiment"
_SPLIT = "__sample_ratio"  # among the metrics, beside outcomes of any name
_UNIT = "__unit"
_KINDS = {"proportion": Proportion, "mean": Mean}


@dataclass(frozen=True)
class ABOutput:
    """The check of the split (None where no split was designed) and one result per metric."""

    ratio: SampleRatioResult | None
    metrics: list[ABResult]
    notes: tuple[str, ...]


def analyse_experiment(design: Design, config: RunConfig, engine: Engine) -> ABOutput:
    """Compare the arms on every metric; a broken split is said aloud, and the numbers are shown all the same."""
    metrics: dict[str, Proportion | Mean | SampleRatio] = {
        name: _KINDS[design.outcomes[name].kind](name) for name in config.abtest.metrics or design.outcomes
    }
    share = design.expected_share
    if share is not None:
        metrics[_SPLIT] = SampleRatio(
            {design.control: 1 - share, design.treated: share}, threshold=config.abtest.srm_threshold
        )
    labels = np.where(design.frame[design.treatment] == 1, design.treated, design.control)
    rows = design.frame.assign(**{design.treatment: labels, _UNIT: np.arange(len(labels))})  # a row per unit
    engine.register(_TABLE, rows[[_UNIT, design.treatment, *design.outcomes]])
    experiment = Experiment(
        metrics,
        variant=design.treatment,
        control=design.control,
        unit=_UNIT,
        confidence_level=config.confidence_level,
    )
    found = experiment.analyze((engine, _TABLE))
    if share is None:
        note = "A/B test: the split is not checked; give experiment.expected_share"
        return ABOutput(None, list(found.effects), (note,))
    [ratio] = found.sample_ratio
    return ABOutput(ratio, list(found.effects), found.notes)
