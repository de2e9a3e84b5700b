"""Stage "average effect": identification, estimate, another opinion, balance, overlap, refutations, hidden bias."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from causalrec.config import AverageEffectConfig, RunConfig
from causalrec.exceptions import CausalRecError, OverlapError, TreatmentError
from causalrec.observational import METHODS, ObservationalStudy
from causalrec.pipelines.designs import Design
from causalrec.pipelines.progress import Advance
from causalrec.results import (
    AdjustedEffect,
    BalanceResult,
    EffectComparisonResult,
    IdentificationResult,
    OverlapResult,
    RefutationsResult,
    SensitivityResult,
)

_UNADJUSTED, _DEFAULT, _SECOND, _QUICK = "difference_in_means", "matching", "aipw", "aipw_parametric"
_FEW = 30  # of an arm: models fitted on folds of fewer are no second opinion
_SLOW = ("aipw", "full_matching", "dml", "causal_forest")  # too slow to be fitted for each refutation


@dataclass(frozen=True)
class EffectOutput:
    """The effect, a second estimate by another route, what supports them, and what was done to the covariates.

    The effects come without the weights of single units. ``comparison`` is there where the design is not randomised.
    ``balance`` and ``overlap`` are None without covariates, ``overlap`` also where chance separates the arms of a
    randomised design. ``units`` are those whose effect it is; None where they are weighted by the overlap.
    """

    identification: IdentificationResult
    effect: AdjustedEffect
    cross_check: AdjustedEffect | None
    comparison: EffectComparisonResult | None
    balance: BalanceResult | None
    overlap: OverlapResult | None
    refutations: RefutationsResult = field(repr=False)
    sensitivity: SensitivityResult = field(repr=False)
    units: pd.Series | None = field(repr=False)
    notes: tuple[str, ...]


def estimate_effect(design: Design, config: RunConfig, advance: Advance) -> EffectOutput:
    """Estimate the average effect of a design's treatment.

    A randomised design is estimated by the difference in means unless the config asks otherwise; a campaign by
    propensity matching. Covariates show the balance in either case; where some are missing, an indicator or a level
    of their own says so.
    """
    from causalrec.observational.dowhy_adapter import identify

    settings = config.average_effect
    method = settings.method or (_UNADJUSTED if design.randomised else _DEFAULT)
    if method == _UNADJUSTED and not design.randomised:
        raise CausalRecError(
            f"average_effect.method is difference_in_means, but {design.name} is not randomised: the difference mixes "
            "the effect with who was chosen. Use matching or aipw, say."
        )
    study = ObservationalStudy(
        design.frame, treatment=design.treatment, outcome=design.outcome(settings.outcome),
        covariates=design.covariates, missing="indicator", confidence_level=config.confidence_level,
        random_state=config.seed,
    )  # fmt: skip
    effect = study.estimate(method, estimand=settings.estimand, **settings.options)
    wanted = settings.cross_check and method != _SECOND and settings.estimand in METHODS[_SECOND].estimands
    check, notes = _cross_check(study, design, settings.estimand) if wanted and design.covariates else (None, ())
    adjusted = () if method == _UNADJUSTED else design.covariates
    compared = settings.compare and not design.randomised and bool(design.covariates)
    return EffectOutput(
        identification=identify(study.treatment, study.outcome, covariates=adjusted, estimand=settings.estimand),
        effect=_slim(effect),
        cross_check=None if check is None else _slim(check),
        comparison=_comparison(study, settings) if compared else None,
        balance=_balance(study, effect),
        overlap=_overlap(study, method),
        refutations=study.refute(
            _refuted(study, effect, method), settings.refuters, n_simulations=settings.n_placebo, progress=advance
        ),
        sensitivity=study.sensitivity(effect),
        units=_units(design, settings.estimand),
        notes=(*study.notes, *notes),
    )  # fmt: skip


def _refuted(study: ObservationalStudy, effect: AdjustedEffect, method: str) -> AdjustedEffect:
    """The estimate that refutations repeat: a quick one of the same effect where the method itself is slow."""
    if method not in _SLOW:
        return effect
    return study.estimate(_QUICK if method == _SECOND else _DEFAULT, estimand=effect.estimand)


def _units(design: Design, estimand: str) -> pd.Series | None:
    if estimand == "ato":
        return None
    units = design.frame[design.unit]
    return units if estimand == "ate" else units[design.frame[design.treatment] == (estimand == "att")]


def _cross_check(
    study: ObservationalStudy, design: Design, estimand: str
) -> tuple[AdjustedEffect | None, tuple[str, ...]]:
    """The same effect doubly robust; a second opinion that cannot be had is no reason to withhold the first."""
    smallest = int(design.frame[design.treatment].value_counts().min())
    if smallest < _FEW:
        why = f"its models need {_FEW} units of each arm, and the smaller one has {smallest}"
        return None, (f"no doubly robust cross-check: {why}",)
    try:
        return study.estimate(_SECOND, estimand=estimand), ()
    except (OverlapError, TreatmentError) as error:
        return None, (f"no doubly robust cross-check: {error}",)


def _comparison(study: ObservationalStudy, settings: AverageEffectConfig) -> EffectComparisonResult:
    """Every method side by side; the one that was asked for with its options."""
    estimand = "ate" if settings.estimand == "ato" else settings.estimand
    quick = METHODS[settings.method or _DEFAULT].unasked
    given = {settings.method or _DEFAULT: settings.options} if quick and settings.options else {}
    found = study.compare(estimand=estimand, options=given)
    return replace(found, effects=tuple(map(_slim, found.effects)))


def _slim(effect: AdjustedEffect) -> AdjustedEffect:
    """Without what it holds of each unit, which is no result of a run."""
    return replace(effect, weights=None, propensity=None, recipe=None)


def _balance(study: ObservationalStudy, effect: AdjustedEffect) -> BalanceResult | None:
    """Before and after the weights of the estimate; of the arms as they are where it has none."""
    if not study.covariates:
        return None
    return study.balance(None if effect.weights is None else effect)


def _overlap(study: ObservationalStudy, method: str) -> OverlapResult | None:
    """The propensities by arm.

    A rare level that chance put into one arm of a randomised design leaves none to show, and does no harm there.
    """
    if not study.covariates:
        return None
    try:
        return study.overlap()
    except OverlapError:
        if method != _UNADJUSTED:
            raise
        return None
