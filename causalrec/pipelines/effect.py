"""Stage "average effect": identification, estimate, balance and placebo through DoWhy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from causalrec.config import RunConfig
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational import EffectStudy, average_effect, study_effect
from causalrec.pipelines.designs import Design
from causalrec.pipelines.progress import Advance
from causalrec.results import EffectResult

_SECOND_METHOD = "doubly_robust"


@dataclass(frozen=True)
class EffectOutput:
    """The study, a second estimate by another route, and what was done to the covariates."""

    study: EffectStudy
    cross_check: EffectResult | None
    units: pd.Series = field(repr=False)
    notes: tuple[str, ...]


def estimate_effect(design: Design, config: RunConfig, advance: Advance) -> EffectOutput:
    """Estimate the average effect of a design's treatment.

    A randomised design is estimated by the difference in means unless the config asks otherwise;
    a campaign by propensity matching. Covariates show the balance in either case.
    """
    settings = config.average_effect
    outcome = design.outcome(settings.outcome)
    method = settings.method or ("difference_in_means" if design.randomised else "propensity_matching")
    if method == "difference_in_means" and not design.randomised:
        raise CausalRecError(
            f"average_effect.method is difference_in_means, but {design.name} is not randomised: the difference mixes "
            "the effect with who was chosen. Use propensity_matching or doubly_robust."
        )
    frame, covariates, notes = complete_covariates(design)
    study = study_effect(
        frame,
        treatment=design.treatment,
        outcome=outcome,
        covariates=covariates,
        estimand=settings.estimand,
        method=method,
        n_placebo=settings.n_placebo,
        confidence_level=config.confidence_level,
        random_state=config.seed,
        progress=advance,
    )
    check = None
    if settings.cross_check and method != _SECOND_METHOD and settings.estimand == "ate" and covariates:
        try:
            check = average_effect(
                frame,
                treatment=design.treatment,
                outcome=outcome,
                covariates=covariates,
                estimand=settings.estimand,
                method=_SECOND_METHOD,
                confidence_level=config.confidence_level,
                random_state=config.seed,
            )
        except OverlapError as error:  # a second opinion that cannot be had is no reason to withhold the first
            notes = (*notes, f"no doubly robust cross-check: {error}")
    units = frame[design.unit]
    if settings.estimand != "ate":
        units = units[frame[design.treatment] == (settings.estimand == "att")]
    return EffectOutput(study, check, units, notes)


def complete_covariates(design: Design) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Fill missing covariates and say so: numbers by 0 with an indicator, categories by a level of their own.

    With the indicator beside it, the filled value carries no information of its own
    (Rosenbaum and Rubin 1984, section 3: balance on the pattern of missing values too).
    """
    frame, covariates, notes = design.frame.copy(), list(design.covariates), []
    for column in design.covariates:
        missing = frame[column].isna()
        if not missing.any():
            continue
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            level = _free("(missing)", frame[column].cat.categories)
            frame[column] = frame[column].cat.add_categories(level).fillna(level)
            notes.append(f"{column}: {int(missing.sum()):,} missing values as a level of their own")
        else:
            frame[column] = frame[column].fillna(0.0)
            indicator = _free(f"{column}_missing", frame.columns)
            frame[indicator] = missing.astype("int64")
            covariates.append(indicator)
            notes.append(f"{column}: {int(missing.sum()):,} missing values set to 0, with the indicator {indicator}")
    return frame, tuple(covariates), tuple(notes)


def _free(name: str, taken: Iterable[object]) -> str:
    """The name, with as many underscores behind it as keep it apart from those taken."""
    while name in set(taken):
        name += "_"
    return name
