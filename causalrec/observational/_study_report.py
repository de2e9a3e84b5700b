"""All of a study on one page: every part by the study's own methods, then what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from causalrec.exceptions import CausalRecError
from causalrec.observational._study_data import StudyData
from causalrec.observational._study_doubts import (
    Evidence,
    find_changes,
    find_doubts,
    unsupported_share,
    verdict_of,
    write_conclusion,
)
from causalrec.observational._study_sensitivity import OTHER_WAYS, check_outcome_varies
from causalrec.observational.methods import find_method
from causalrec.results import (
    AdjustedEffect,
    BalanceResult,
    EffectComparisonResult,
    IdentificationResult,
    OverlapResult,
    RefutationsResult,
    StudyReport,
)
from causalrec.results.study import short_method

if TYPE_CHECKING:
    from causalrec.observational.study import ObservationalStudy

Progress: TypeAlias = Callable[[int, int], None] | bool | None
_SLOW = ("aipw", "dml", "causal_forest")
_FULL = 5_000  # units, up to which full matching is quick
_ADJUSTS_NOTHING = "needs covariates to adjust for"


def study_report(
    study: ObservationalStudy,
    data: StudyData,
    effect: AdjustedEffect | None,
    *,
    methods: Sequence[str] | None = None,
    **refutation: Any,
) -> StudyReport:
    """The parts one by one; see :meth:`ObservationalStudy.report`. ``refutation`` are the arguments of ``refute``."""
    check_outcome_varies(data, study.outcome)
    effect = study.estimate() if effect is None else effect
    notes = list(study.notes)
    comparison = _compare(study, data, effect, methods, notes)
    balance, balance_of = _balance(study, data, effect, notes)
    overlap = _overlap(study, data, effect, notes)
    refuted, refutations = _refute(study, effect, refutation, notes)
    sensitivity = study.sensitivity(effect)
    identification = _identification(study, data, effect)
    score = None if overlap is None else data.score().score
    evidence = Evidence(
        study.treatment, study.outcome, identification, effect, comparison, balance, overlap, refutations, sensitivity,
        balance_of=balance_of,
        unsupported=0.0 if score is None else unsupported_share(
            score, data.treatment, effect.estimand, data.sample_weight
        ),
        n_asked=_asked(data, effect),
        n_clusters=None if data.clusters is None else len(np.unique(data.clusters)),
        randomised=_randomised(data, effect),
    )  # fmt: skip
    doubts = find_doubts(evidence)
    return StudyReport(
        treatment=study.treatment, outcome=study.outcome, estimand=effect.estimand, n_obs=study.n_obs,
        identification=identification, effect=_light(effect),
        comparison=None if comparison is None else replace(
            comparison, effects=tuple(_light(e) for e in comparison.effects)
        ),
        balance=balance, overlap=overlap, refutations=refutations, sensitivity=sensitivity,
        doubts=tuple(doubt.text for doubt in doubts), conclusion=write_conclusion(evidence, doubts),
        notes=(*notes, *sensitivity.notes), changes=tuple(find_changes(evidence)), verdict=verdict_of(evidence, doubts),
        refuted=None if refuted is effect else _light(refuted), headline=_name(effect),
    )  # fmt: skip


def _light(effect: AdjustedEffect) -> AdjustedEffect:
    """Without what single units have."""
    return replace(effect, weights=None, propensity=None)


def _name(effect: AdjustedEffect) -> str:
    return "" if effect.recipe is None else effect.recipe.name


def _asked(data: StudyData, effect: AdjustedEffect) -> int:
    """The units whose effect is asked for; trimming leaves units of both arms out."""
    if "matching" not in _name(effect):
        return data.n_obs
    n_treated = int(data.treatment.sum())
    return {"att": n_treated, "atc": data.n_obs - n_treated}.get(effect.estimand, data.n_obs)


def _randomised(data: StudyData, effect: AdjustedEffect) -> bool:
    """Whether the treatment was by chance: no covariates and no graph against it, or a propensity known by design."""
    if _name(effect) in OTHER_WAYS:
        return False
    return data.X is None if data.propensity is None else data.propensity.known


def _identification(study: ObservationalStudy, data: StudyData, effect: AdjustedEffect) -> IdentificationResult:
    """By the study; with a propensity that is known, what covariates cannot hide need not be believed."""
    estimand = effect.estimand if effect.estimand in ("ate", "att", "atc", "ato") else "ate"
    found = replace(study.identify(estimand=estimand), estimand=effect.estimand)
    if data.propensity is None or not data.propensity.known or found.strategy != "backdoor":
        return found
    kept = tuple(text for text in found.assumptions if "unobserved" not in text)
    by_chance = "the treatment was assigned by chance, with the propensities that are given"
    return replace(found, strategy="randomised", assumptions=(by_chance, *kept))


def _compare(
    study: ObservationalStudy,
    data: StudyData,
    effect: AdjustedEffect,
    methods: Sequence[str] | None,
    notes: list[str],
) -> EffectComparisonResult | None:
    """Every method for the estimand, the headline's with its own options; of the overlap beside the ate."""
    if methods is None and data.X is None and data.propensity is None:
        return None
    estimand = effect.estimand if effect.estimand in ("ate", "att", "atc") else "ate"
    recipe = effect.recipe
    options = {} if recipe is None or not recipe.options else {recipe.name: recipe.options}
    if methods is not None and recipe is not None and recipe.name not in methods:
        options = {}
    try:
        found = study.compare(methods, estimand=estimand, options=options)
    except CausalRecError as error:
        if methods is not None:
            raise
        notes.append(f"methods are not compared: {error}")
        return None
    if estimand != effect.estimand:
        notes.append(
            f"the headline is the {effect.estimand}, which few methods have; those beside it are of the {estimand} "
            "where it does not say otherwise"
        )
    return replace(found, failures=tuple(text for text in found.failures if _ADJUSTS_NOTHING not in text))


def _balance(
    study: ObservationalStudy, data: StudyData, effect: AdjustedEffect, notes: list[str]
) -> tuple[BalanceResult | None, str]:
    """The balance that the effect's weights leave, else those of its score, else none: the arms as they are."""
    if data.X is None or _name(effect) in OTHER_WAYS:
        return None, ""
    if effect.weights is not None:
        return study.balance(effect), "effect"
    by_score = {"ate": "ipw", "att": "ipw", "atc": "ipw", "ato": "overlap_weights"}.get(effect.estimand)
    if by_score is not None:
        try:
            beside = study.estimate(by_score, estimand=effect.estimand)
            notes.append(
                f"{short_method(effect.method)} leaves no weights; the balance is that of weights from the score"
            )
            return study.balance(beside), "score"
        except CausalRecError as error:
            notes.append(f"no weights from the score: {error}")
    return study.balance(), ""


def _overlap(
    study: ObservationalStudy, data: StudyData, effect: AdjustedEffect, notes: list[str]
) -> OverlapResult | None:
    if (data.X is None and data.propensity is None) or _name(effect) in OTHER_WAYS:
        return None
    estimand = effect.estimand if effect.estimand in ("ate", "att", "atc", "ato") else "ate"
    try:
        return study.overlap(estimand=estimand)
    except CausalRecError as error:
        notes.append(f"no overlap: {error}")
        return None


def _refute(
    study: ObservationalStudy, effect: AdjustedEffect, refutation: dict[str, Any], notes: list[str]
) -> tuple[AdjustedEffect, RefutationsResult]:
    """Refutations of the estimate, or of a quick one of its kind where its own method takes long."""
    refuted = effect
    quick = _quick(effect, study.n_obs)
    if quick:
        try:
            refuted = study.estimate(quick, estimand=effect.estimand)
        except CausalRecError as error:
            notes.append(f"refuted by the method itself, since {quick} cannot be: {error}")
        else:
            notes.append(
                f"the refutations are of {quick.replace('_', ' ')} for the same {effect.estimand}, since it is long to "
                f"fit {_name(effect).replace('_', ' ')} again and again; study.refute(effect) does"
            )
    try:
        return refuted, study.refute(refuted, **refutation)
    except CausalRecError as error:
        if refutation.get("refuters") is not None:
            raise
        return refuted, RefutationsResult(
            treatment=study.treatment, outcome=study.outcome, estimand=refuted.estimand, method=refuted.method,
            estimate=refuted.estimate, std_error=refuted.std_error, names=(), results=(),
            adjusted_pvalue=np.array([]), failures=(str(error),),
        )  # fmt: skip


def _quick(effect: AdjustedEffect, n_obs: int) -> str:
    """A method like the effect's that is fitted in a moment; empty where its own is."""
    name = _name(effect)
    if name == "full_matching" and n_obs > _FULL:
        kinds: tuple[str, ...] = ("ipw",)
    elif name in _SLOW or "." in name:  # econml.*, dowhy.*
        kinds = ("aipw_parametric", "ols")
    else:
        return ""
    return next((k for k in kinds if effect.estimand in find_method(k).estimands), "")
