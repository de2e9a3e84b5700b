"""Refutations: the same estimate of data changed so that the answer is known, and of negative controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec._multiplicity import holm
from causalrec._resampling import Progress
from causalrec._typing import FloatArray
from causalrec._validation import check_columns, check_treatment, check_two_arms, check_vector, list_some, nearest
from causalrec.exceptions import CausalRecError
from causalrec.observational._changes import (
    Draw,
    dummy_outcome,
    permuted_treatment,
    random_cause,
    resamples,
    score_strata,
    subsets,
    with_column,
)
from causalrec.observational._fast_refits import fast_refits
from causalrec.observational._refits import Counter, check_n_jobs, check_seed, refit
from causalrec.observational._refuted import (
    BOOTSTRAP,
    CONTROL_OUTCOME,
    CONTROL_TREATMENT,
    DUMMY,
    PLACEBO,
    RANDOM_CAUSE,
    SUBSET,
    check_recipe,
    check_simulations,
    refuted_by_draws,
    refuted_by_effect,
)
from causalrec.observational._study_data import StudyData
from causalrec.observational.methods import find_method, run_method
from causalrec.results import AdjustedEffect, Recipe, RefutationResult, RefutationsResult

SIMULATED = (PLACEBO, RANDOM_CAUSE, SUBSET, DUMMY, BOOTSTRAP)
REFUTERS = (*SIMULATED, CONTROL_OUTCOME, CONTROL_TREATMENT)
_BY_INSTRUMENT = ("instrumental_variable", "dowhy.instrumental_variable")


@dataclass(frozen=True)
class Settings:
    """What simulations share: see :meth:`ObservationalStudy.refute`."""

    n_simulations: int = 100
    n_jobs: int = 1
    strata: int | None = None
    subset: float = 0.8
    dummy: str = "permuted"
    random_state: int = 0


def refute_effect(
    data: StudyData,
    effect: AdjustedEffect,
    refuters: Sequence[str] | None,
    settings: Settings,
    *,
    names: tuple[str, str] = ("treatment", "y"),
    negative_outcomes: Sequence[str] = (),
    negative_treatments: Sequence[str] = (),
    column: Callable[[str], pd.Series] | None = None,
    progress: Progress | bool | None = None,
) -> RefutationsResult:
    """Refute an effect that a study made; see :meth:`ObservationalStudy.refute`.

    Parameters
    ----------
    names : (str, str)
        Of treatment and outcome, for the result.
    column : callable
        Gives a column of the study's frame by its name, of its units.
    """
    recipe = check_recipe(effect, data)
    chosen = _chosen(refuters, data, recipe, negative_outcomes, negative_treatments)
    if any(kind in SIMULATED for kind in chosen):
        check_simulations(settings.n_simulations, data.confidence_level)
    check_n_jobs(settings.n_jobs)
    check_seed(settings.random_state)
    _check_settings(settings, data, chosen)
    told = _Told(progress, sum(kind in SIMULATED for kind in chosen) * settings.n_simulations)
    tasks: list[tuple[str, Callable[[], RefutationResult]]] = []
    for kind in chosen:
        if kind in SIMULATED:
            tasks.append((kind, lambda k=kind: _simulated(data, effect, recipe, k, settings, told)))  # type: ignore[misc]
            continue
        columns = negative_outcomes if kind == CONTROL_OUTCOME else negative_treatments
        for name in columns:
            tasks.append((f"{kind}: {name}", lambda k=kind, c=name: _control(data, effect, recipe, k, c, column)))  # type: ignore[misc]
    found: dict[str, RefutationResult] = {}
    failures = []
    for name, run in tasks:
        try:
            found[name] = run()
        except CausalRecError as error:
            failures.append(f"{name}: {error}")
        told.finished(settings.n_simulations * (name in SIMULATED))
    if not found:
        raise CausalRecError("no refutation could be run. " + " ".join(failures))
    return RefutationsResult(
        treatment=names[0], outcome=names[1], estimand=effect.estimand, method=effect.method, estimate=effect.estimate,
        std_error=effect.std_error, names=tuple(found), results=tuple(found.values()),
        adjusted_pvalue=holm([r.pvalue for r in found.values()]), failures=tuple(failures),
    )  # fmt: skip


def placebo_of_effect(
    data: StudyData, effect: AdjustedEffect, n_simulations: int, progress: Progress | None = None
) -> RefutationResult:
    """The placebo alone, with as few as two simulations.

    Raises
    ------
    CausalRecError
        For fewer, and where there is no placebo.
    """
    if n_simulations < 2:
        raise CausalRecError(f"n_simulations is {n_simulations}; expected at least 2, better 100, to see a spread.")
    settings = Settings(n_simulations, random_state=data.random_state)
    return _simulated(data, effect, check_recipe(effect, data), PLACEBO, settings, progress)


def check_controls(
    outcomes: Sequence[str],
    treatments: Sequence[str],
    *,
    columns: Sequence[Any],
    used: Mapping[Any, str],
) -> None:
    """Raise before anything is fitted where negative controls are no columns, or are in the study already.

    ``used`` says what a column is in the study: ``{"spend": "the outcome"}``.
    """
    for name, given in (("negative_outcomes", outcomes), ("negative_treatments", treatments)):
        if isinstance(given, str):
            raise CausalRecError(f"{name} is the text {given!r}; expected a list of columns: [{given!r}].")
        check_columns(columns, list(given), where=f"{name}, among the columns of the frame")
        for column in given:
            if column in used:
                raise CausalRecError(
                    f"{name} has {column!r}, which is {used[column]} of this study: its own effect is none to refute "
                    "by, and of what is adjusted for nothing is left to find. Name a column that the study does not "
                    "use, or make one without it."
                )


def _check_settings(settings: Settings, data: StudyData, chosen: Sequence[str]) -> None:
    """Raise for a wrong setting before anything runs: a mistake is no refutation that was passed."""
    if SUBSET in chosen:
        subsets(data, settings.subset)
    if DUMMY in chosen and settings.dummy not in ("permuted", "simulated"):
        raise CausalRecError(f"dummy is {settings.dummy!r}; expected 'permuted' or 'simulated'.")
    scored = data.X is not None or data.propensity is not None
    if PLACEBO in chosen and settings.strata is not None and scored:
        score_strata(data, settings.strata)


def _chosen(
    refuters: Sequence[str] | None,
    data: StudyData,
    recipe: Recipe,
    outcomes: Sequence[str],
    treatments: Sequence[str],
) -> list[str]:
    """Which kinds are run: by default the four that say most, with the negative controls that are named."""
    if isinstance(refuters, str):
        raise CausalRecError(f"refuters is the text {refuters!r}; expected a list of names: [{refuters!r}].")
    named = {CONTROL_OUTCOME: bool(len(outcomes)), CONTROL_TREATMENT: bool(len(treatments))}
    controls = [kind for kind, given in named.items() if given]
    if refuters is None:
        adjusts = data.X is not None and find_method(recipe.name).adjusts
        unfit = [RANDOM_CAUSE] * (not adjusts) + [PLACEBO] * (recipe.name in _BY_INSTRUMENT)
        return [*(kind for kind in SIMULATED[:-1] if kind not in unfit), *controls]
    unknown = [r for r in refuters if r not in REFUTERS]
    if unknown or not len(refuters):
        what = f"names {unknown[0]!r}" if unknown else "is empty"
        raise CausalRecError(
            f"refuters {what}; expected some of {list_some(REFUTERS, 20)}."
            f"{nearest(str(unknown[0]), REFUTERS) if unknown else ''}"
        )
    for kind, argument in ((CONTROL_OUTCOME, "negative_outcomes"), (CONTROL_TREATMENT, "negative_treatments")):
        if kind in refuters and not named[kind]:
            raise CausalRecError(f"refuters name {kind!r} but no column; pass {argument}=[...].")
    return [*dict.fromkeys([*refuters, *controls])]


# --- simulations ------------------------------------------------------------------------------------------------------


def _simulated(
    data: StudyData, effect: AdjustedEffect, recipe: Recipe, kind: str, settings: Settings, progress: Progress | None
) -> RefutationResult:
    draw, what = draw_of(kind, data, recipe, settings)
    found = refit(
        data, recipe, draw, kind, n_simulations=settings.n_simulations, random_state=settings.random_state,
        n_jobs=settings.n_jobs, fast=fast_refits(data, effect, recipe, kind), progress=progress,
    )  # fmt: skip
    method = f"{what}, everything estimated anew by {recipe.name}{found.note}"
    return refuted_by_draws(kind, found.effects, effect, confidence_level=data.confidence_level, method=method)


def draw_of(kind: str, data: StudyData, recipe: Recipe, settings: Settings) -> tuple[Draw, str]:
    """How a kind of refutation changes the data, and that in words.

    Raises
    ------
    CausalRecError
        Where the kind does not apply to the study or the method.
    """
    if kind == PLACEBO:
        if recipe.name in _BY_INSTRUMENT:
            raise CausalRecError(
                "instruments do not move a permuted treatment, so that there is no first stage to divide by; use "
                "'dummy_outcome'."
            )
        strata = None if settings.strata is None else score_strata(data, settings.strata)
        return permuted_treatment(data, strata)
    if kind == RANDOM_CAUSE:
        return random_cause(data)
    if kind == SUBSET:
        return subsets(data, settings.subset)
    if kind == DUMMY:
        return dummy_outcome(data, settings.dummy)
    if "matching" in recipe.name:
        raise CausalRecError(
            "a bootstrap is not valid for matching, whose weights do not settle (Abadie and Imbens 2008, "
            "Econometrica 76); its standard error needs none. Use 'data_subset', or another method."
        )
    return resamples(data)


class _Told:
    """Progress over several refutations as one count."""

    def __init__(self, progress: Progress | bool | None, total: int) -> None:
        self._tell: Progress | None = Counter() if progress is True else (progress or None)
        self._total, self._before = total, 0

    def __call__(self, done: int, _: int) -> None:
        if self._tell is not None:
            self._tell(self._before + done, self._total)

    def finished(self, n_simulations: int) -> None:
        """The next refutation begins."""
        self._before += n_simulations


# --- negative controls ------------------------------------------------------------------------------------------------


def _control(
    data: StudyData,
    effect: AdjustedEffect,
    recipe: Recipe,
    kind: str,
    name: str,
    column: Callable[[str], pd.Series] | None,
) -> RefutationResult:
    """The effect on an outcome, or of a treatment, that by what is known is zero."""
    if column is None:
        raise CausalRecError("there is no frame that holds negative controls; use ObservationalStudy.")
    values = column(name)
    if kind == CONTROL_OUTCOME:
        found = _on_outcome(data, recipe, check_vector(values, name=name))
        return refuted_by_effect(kind, found, effect, method=f"effect on {name} by {recipe.name}")
    found = _of_treatment(data, recipe, values)
    method = f"effect of {name} by {recipe.name}, the treatment adjusted for"
    return refuted_by_effect(kind, found, effect, method=method)


def _on_outcome(data: StudyData, recipe: Recipe, outcome: FloatArray) -> AdjustedEffect:
    return run_method(replace(data, y=outcome, _fits={}), recipe.name, recipe.estimand, recipe.options)


def _of_treatment(data: StudyData, recipe: Recipe, values: Any) -> AdjustedEffect:
    """The effect of another treatment, with the true one among the covariates: it does have an effect."""
    codes, labels = check_treatment(values)
    check_two_arms(labels, what="a negative control")
    true = data.treatment.astype(np.float64)
    X = true[:, None] if data.X is None else with_column(data.X, true, "treatment")
    changed = replace(data, X=X, treatment=codes, propensity=None, _fits={})
    return run_method(changed, recipe.name, recipe.estimand, recipe.options)
