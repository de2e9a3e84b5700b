"""DoWhy's refuters on the estimators of this package: on copies, seeded, every draw kept.

Imported inside functions alone, since dowhy takes seconds. DoWhy 0.14 is called as it is, one simulation at a time, and
what it does wrong by itself cannot happen:

========================================================================= ==============================================
DoWhy                                                                     here
========================================================================= ==============================================
takes scores that an estimate left in the frame for those of changed data a fresh frame, everything fitted anew
repeats a simulation where ``random_state`` is a number, or ``n_jobs`` 2  a random stream of its own for each
has no seed for dummy outcomes and simulated confounders                  one for all
draws placebo treatments at 50/50, or all 0 where they are floats         permutes the treatment
forgets ``target_units``                                                  the estimand of the effect, or an error
has a one-sided p-value below 100 simulations                             a two-sided one, and the draws
adds noise to columns of floats alone, and fails at categories            noise for numbers, none for categories
bootstraps nearest neighbours                                             refuses (Abadie and Imbens 2008)
takes noise of variance 1 for a dummy outcome of any scale                permutes the outcome
adds up the flips over a grid of simulated confounders                    each strength on its own
fails, or does nothing, where ``identifier_method`` is not set            set
names columns (``placebo``, ``w_random``) whatever there is               columns are renamed
========================================================================= ==============================================
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd

from causalrec._resampling import Progress
from causalrec._validation import list_some, nearest, optional_import
from causalrec.exceptions import CausalRecError
from causalrec.observational._changes import Change, with_change, with_column, with_options
from causalrec.observational._refits import CROSS_FITTED, Counter, check_n_jobs
from causalrec.observational._refuted import (
    BOOTSTRAP,
    DUMMY,
    PLACEBO,
    RANDOM_CAUSE,
    SUBSET,
    check_recipe,
    check_simulations,
    refuted_by_draws,
)
from causalrec.observational._shield import shielded
from causalrec.observational._study_data import StudyData
from causalrec.observational.dowhy_methods import OUTCOME, ROW, TREATMENT, make_estimand, make_frame
from causalrec.observational.methods import run_method
from causalrec.results import AdjustedEffect, Recipe, RefutationResult

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import; restored on leaving the block
    optional_import("dowhy", extra="ate")
    from dowhy import causal_refuters
    from dowhy.causal_estimator import CausalEstimate, CausalEstimator
    from dowhy.causal_refuters.add_unobserved_common_cause import sensitivity_simulation
    from dowhy.causal_refuters.placebo_treatment_refuter import PlaceboType

CONFOUNDER = "unobserved_common_cause"
_OTHER_ROUTES = ("instrumental_variable", "front_door", "dowhy.instrumental_variable")
_PERMUTED = [("permute", {"permute_fraction": 1}), ("noise", {"std_dev": 0.0})]  # noise copies what pandas protects


# --- DoWhy's side -----------------------------------------------------------------------------------------------------


class StudyEstimator(CausalEstimator):
    """An estimator of a study where DoWhy expects one of its own.

    Parameters
    ----------
    identified_estimand : IdentifiedEstimand
        Of the frame by :func:`make_frame`, or as a refuter changed it.
    data : StudyData
        The units as they are.
    recipe : Recipe
    found : list, optional
        Takes every estimate.
    """

    def __init__(
        self, identified_estimand: Any, *, data: StudyData, recipe: Recipe, found: list[float] | None = None, **_: Any
    ) -> None:
        super().__init__(identified_estimand)
        self.data, self.recipe, self.found = data, recipe, [] if found is None else found
        self._effect_modifier_names: list[str] = []
        self.update_input(1, 0, recipe.estimand)

    def get_new_estimator_object(self, identified_estimand: Any, **_: Any) -> StudyEstimator:
        """Another for another estimand; the data are shared and not changed."""
        return StudyEstimator(identified_estimand, data=self.data, recipe=self.recipe, found=self.found)

    def fit(self, data: pd.DataFrame, effect_modifier_names: list[str] | None = None, **_: Any) -> StudyEstimator:
        """Nothing: the estimate fits anew whatever it needs."""
        self._set_effect_modifiers(data, effect_modifier_names)
        return self

    def estimate_effect(
        self, data: pd.DataFrame, treatment_value: Any = 1, control_value: Any = 0, target_units: Any = None, **_: Any
    ) -> Any:
        """The effect in a frame; ``target_units`` other than the recipe's estimand are an error."""
        if target_units not in (None, self.recipe.estimand):
            raise CausalRecError(
                f"target_units is {target_units!r}, but the estimator is of the {self.recipe.estimand}."
            )
        self.update_input(treatment_value, control_value, self.recipe.estimand)
        changed, recipe = _changed_data(self.data, self.recipe, data, self._target_estimand)
        effect = run_method(changed, recipe.name, recipe.estimand, recipe.options)
        self.found.append(effect.estimate)
        return self.as_estimate(effect, data)

    def as_estimate(self, effect: AdjustedEffect, data: pd.DataFrame) -> Any:
        """An effect as DoWhy's, which carries the error too."""
        estimate = CausalEstimate(
            data, [TREATMENT], [OUTCOME], effect.estimate, self._target_estimand, effect.method, 0, 1,
            std_error=effect.std_error,
        )  # fmt: skip
        estimate.add_estimator(self)
        return estimate


def _changed_data(data: StudyData, recipe: Recipe, frame: pd.DataFrame, estimand: Any) -> tuple[StudyData, Recipe]:
    """The units that a refuter made of a study's, other rows, treatments, outcomes or covariates; options follow."""
    rows = frame[ROW].to_numpy()
    change = Change(rows=rows)
    found = with_change(data, change)
    clusters = found.clusters
    if clusters is None and recipe.name in CROSS_FITTED and len(np.unique(rows)) < len(rows):
        clusters = rows  # copies of a unit lie in one fold
    found = replace(
        found,
        X=_changed_covariates(found.X, frame, estimand.get_adjustment_set()),
        y=frame[estimand.outcome_variable[0]].to_numpy(dtype=np.float64, copy=True),
        treatment=frame[estimand.treatment_variable[0]].to_numpy().astype(np.int64),
        clusters=clusters, _fits={},
    )  # fmt: skip
    return found, replace(recipe, options=with_options(recipe.options, data, change))


def _changed_covariates(X: Any, frame: pd.DataFrame, names: list[str]) -> Any:
    """Covariates as they are in the frame, and those that were added."""
    n_own = 0 if X is None else X.shape[1]
    found = X
    for i in range(n_own):
        found = _with_numbers(found, i, frame[f"x{i}"])
    for added in names[n_own:]:
        noise = frame[added].to_numpy(dtype=np.float64)
        found = noise[:, None] if found is None else with_column(found, noise, added)
    return found


def _with_numbers(X: Any, i: int, now: pd.Series) -> Any:
    """One column as it is now, where a number or a yes changed; categories stay as they are."""
    before = X.iloc[:, i] if isinstance(X, pd.DataFrame) else X[:, i]
    if before.dtype.kind not in "biuf" or np.array_equal(np.asarray(before), np.asarray(now)):
        return X
    found = X.copy()
    if isinstance(X, pd.DataFrame):
        found.isetitem(i, now.to_numpy())
    else:
        found[:, i] = now
    return found


# --- the refuters -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Simulation:
    """What a refuter is given: a frame of its own, DoWhy's estimand and estimate, and a random state."""

    frame: pd.DataFrame
    estimand: Any
    estimate: Any
    random_state: np.random.RandomState

    @property
    def common(self) -> dict[str, Any]:
        return {"data": self.frame, "target_estimand": self.estimand, "estimate": self.estimate}

    @property
    def seeded(self) -> dict[str, Any]:
        return {**self.common, "num_simulations": 1, "random_state": self.random_state}


@dataclass(frozen=True)
class _Refuter:
    """A refuter of DoWhy's: the kind of refutation it is, its call, its options with their defaults, and words."""

    kind: str
    run: Callable[..., object]
    done: str
    options: Mapping[str, float] = field(default_factory=dict)
    meaning: str | None = None


def _common_cause(given: _Simulation) -> None:
    causal_refuters.refute_random_common_cause(**given.seeded)


def _placebo(given: _Simulation) -> None:
    causal_refuters.refute_placebo_treatment(
        **given.seeded, treatment_names=[TREATMENT], placebo_type=PlaceboType.PERMUTE
    )


def _subset(given: _Simulation, *, subset_fraction: float) -> None:
    causal_refuters.refute_data_subset(**given.seeded, subset_fraction=subset_fraction)


def _bootstrap(given: _Simulation, *, noise: float) -> None:
    names = given.estimand.get_adjustment_set()
    able = [name for name in names if given.frame.dtypes[name].kind in "bf"]
    causal_refuters.refute_bootstrap(
        **given.seeded, noise=noise, probability_of_change=min(noise, 1.0), required_variables=able or False
    )


def _dummy(given: _Simulation) -> None:
    causal_refuters.refute_dummy_outcome(
        **given.common, treatment_name=[TREATMENT], outcome_name=OUTCOME, num_simulations=1, required_variables=True,
        transformation_list=_PERMUTED,
    )  # fmt: skip


def _confounder(given: _Simulation, *, effect_strength_on_treatment: float, effect_strength_on_outcome: float) -> None:
    sensitivity_simulation(
        **given.common, treatment_name=[TREATMENT], outcome_name=[OUTCOME], kappa_t=effect_strength_on_treatment,
        kappa_y=effect_strength_on_outcome, plotmethod=None,
    )  # fmt: skip


REFUTERS: Mapping[str, _Refuter] = {
    "random_common_cause": _Refuter(RANDOM_CAUSE, _common_cause, "a standard normal covariate added"),
    "placebo_treatment_refuter": _Refuter(PLACEBO, _placebo, "permuted treatment"),
    "data_subset_refuter": _Refuter(SUBSET, _subset, "random subsets", {"subset_fraction": 0.8}),
    "bootstrap_refuter": _Refuter(
        BOOTSTRAP, _bootstrap, "resampled units, errors of measurement in covariates", {"noise": 0.1},
        "Passing shows that the estimate is typical of samples like this one, with covariates measured a little worse.",
    ),
    "dummy_outcome_refuter": _Refuter(DUMMY, _dummy, "permuted outcome"),
    "add_unobserved_common_cause": _Refuter(
        CONFOUNDER, _confounder, "a simulated cause of treatment and outcome that is not adjusted for",
        {"effect_strength_on_treatment": 0.05, "effect_strength_on_outcome": math.nan},
        "No test: it shows how far a hidden cause of this strength would move the estimate.",
    ),
}  # fmt: skip


def refute_with_dowhy(
    data: StudyData,
    effect: AdjustedEffect,
    refuter: str,
    *,
    n_simulations: int = 100,
    n_jobs: int = 1,
    random_state: int | None = None,
    progress: Progress | bool | None = None,
    **options: float,
) -> RefutationResult:
    """Refute an effect by a refuter of DoWhy's; see :meth:`ObservationalStudy.refute_with_dowhy`."""
    spec, settings = _find(refuter, options, data)
    recipe = _recipe_of(effect, data, spec)
    check_simulations(n_simulations, data.confidence_level)
    seeds = np.random.SeedSequence(data.random_state if random_state is None else random_state).spawn(n_simulations)
    tell = Counter() if progress is True else (progress or None)
    draws = np.empty(n_simulations)
    for i, draw in enumerate(_simulations(spec.run, data, effect, recipe, settings, seeds, check_n_jobs(n_jobs))):
        draws[i] = draw
        if tell is not None:
            tell(i + 1, n_simulations)
    said = ", ".join([spec.done, *(f"{name} {value:.4g}" for name, value in settings.items())])
    found = refuted_by_draws(
        spec.kind, draws, effect, confidence_level=data.confidence_level, meaning=spec.meaning,
        method=f"DoWhy's {refuter} ({said}) on {recipe.name}, the {recipe.estimand}",
    )  # fmt: skip
    return replace(found, pvalue=math.nan) if spec.kind == CONFOUNDER else found


def _simulations(
    run: Callable[..., object], data: StudyData, effect: AdjustedEffect, recipe: Recipe, settings: Mapping[str, float],
    seeds: list[np.random.SeedSequence], n_jobs: int,
) -> Iterator[float]:  # fmt: skip
    """Estimates, one for each seed; in processes, since DoWhy draws from a random state that threads would share."""
    bare = replace(effect, weights=None, propensity=None)
    data = replace(data, _fits={})
    if n_jobs == 1:
        return (_simulate(run, data, bare, recipe, settings, seed) for seed in seeds)
    found: Iterator[float] = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(_simulate)(run, data, bare, recipe, settings, seed) for seed in seeds
    )
    return found


def _simulate(
    run: Callable[..., object], data: StudyData, effect: AdjustedEffect, recipe: Recipe, settings: Mapping[str, float],
    seed: np.random.SeedSequence,
) -> float:  # fmt: skip
    frame, names = make_frame(data)
    estimand = make_estimand(names)
    estimator = StudyEstimator(estimand, data=data, recipe=recipe)
    with shielded(seed) as random_state:
        run(_Simulation(frame, estimand, estimator.as_estimate(effect, frame), random_state), **settings)
    return estimator.found[-1]


def _find(refuter: str, options: Mapping[str, float], data: StudyData) -> tuple[_Refuter, dict[str, float]]:
    """A refuter and its settings, checked."""
    if refuter not in REFUTERS:
        raise CausalRecError(
            f"refuter is {refuter!r}; expected one of DoWhy's {list_some(REFUTERS)}.{nearest(str(refuter), REFUTERS)}"
        )
    spec = REFUTERS[refuter]
    if "placebo_type" in options:
        raise CausalRecError(
            "placebo_type is no option: the treatment is always permuted. DoWhy's random data ignore how many are "
            "treated, and are all 0 for a treatment of floats."
        )
    unknown = [name for name in options if name not in spec.options]
    if unknown:
        raise CausalRecError(
            f"{refuter} has no option {unknown[0]!r}; it has {list_some(spec.options) or 'none'}."
            f"{nearest(unknown[0], spec.options)}"
        )
    settings = {**spec.options, **{name: float(value) for name, value in options.items()}}
    if math.isnan(settings.get("effect_strength_on_outcome", 0.0)):
        settings["effect_strength_on_outcome"] = 0.1 * float(np.std(data.y))
    for name, value in settings.items():
        low, high = _BOUNDS.get(name, (-math.inf, math.inf))
        if not low < value < high:
            raise CausalRecError(f"{name} is {value:g}; expected a number between {low:g} and {high:g}.")
    return spec, settings


_BOUNDS = {"subset_fraction": (0.0, 1.0), "noise": (-1e-300, math.inf), "effect_strength_on_treatment": (0.0, 0.5)}


def _recipe_of(effect: AdjustedEffect, data: StudyData, spec: _Refuter) -> Recipe:
    """How the effect was made, where it can be made again of what the refuter changes."""
    recipe = check_recipe(effect, data)
    if spec.kind == BOOTSTRAP and "matching" in recipe.name:
        raise CausalRecError(
            f"the bootstrap is not valid for {recipe.name}: nearest neighbours do not settle (Abadie and Imbens 2008, "
            "Econometrica 76). Use 'data_subset_refuter', or another method."
        )
    if data.clusters is not None and spec.kind in (PLACEBO, SUBSET, BOOTSTRAP, DUMMY):
        raise CausalRecError("DoWhy's refuters draw units, which here come in clusters; use study.refute.")
    known = data.propensity
    if spec.kind == PLACEBO and known is not None and np.ptp(known.score) > 0:
        raise CausalRecError(
            "DoWhy's placebo permutes the treatment, but its chances are known and differ between units; use "
            "study.refute, which draws by them."
        )
    if recipe.name in _OTHER_ROUTES:
        raise CausalRecError(
            f"DoWhy's refuters change what is adjusted for, of which {recipe.name} is not made; use study.refute."
        )
    return recipe
