"""From effects found in changed data to what they say of the estimate: tests, their meaning in words, errors."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._study_data import StudyData
from causalrec.results import AdjustedEffect, Recipe, RefutationResult

PLACEBO, RANDOM_CAUSE, SUBSET, DUMMY, BOOTSTRAP = (
    "placebo_treatment", "random_common_cause", "data_subset", "dummy_outcome", "bootstrap",
)  # fmt: skip
CONTROL_OUTCOME, CONTROL_TREATMENT = "negative_control_outcome", "negative_control_treatment"
NULL = (PLACEBO, DUMMY, CONTROL_OUTCOME, CONTROL_TREATMENT)  # where there is no effect; elsewhere nothing changes
MEANINGS = {
    PLACEBO: "Passing shows that the estimator finds nothing where nothing is, not that the covariates suffice.",
    RANDOM_CAUSE: "Passing shows that a covariate of pure noise does not move the estimate; a hidden cause still may.",
    SUBSET: "Passing shows that the estimate does not hang on a few units; a bias that all units share stays unseen.",
    DUMMY: "Passing shows that the estimator finds nothing in an outcome that the treatment cannot have changed, not "
    "that the covariates suffice.",
    BOOTSTRAP: "Passing shows that the estimate is typical of samples like this one; a bias that all share stays "
    "unseen.",
    CONTROL_OUTCOME: "Passing shows no bias that this outcome shares; failing means that hidden causes of it, and "
    "likely of the true outcome, are not adjusted for. Few units pass easily.",
    CONTROL_TREATMENT: "Passing shows no bias that this treatment shares; failing means that hidden causes of it, and "
    "likely of the true treatment, are not adjusted for. Few units pass easily.",
}
_SAME = 1e-12


def refuted_by_draws(
    kind: str,
    draws: FloatArray,
    effect: AdjustedEffect,
    *,
    confidence_level: float,
    method: str,
    meaning: str | None = None,
) -> RefutationResult:
    """What many effects, found in data that were changed at random, say of an estimate.

    Parameters
    ----------
    kind : str
        Of :data:`MEANINGS`: it tells what is expected, and the test (:func:`centre_pvalue` or :func:`member_pvalue`).
    draws : array of shape (n_simulations,)
    effect : AdjustedEffect
    method, meaning : str
        What was done, in words, and what passing means; of the kind where it is None.
    """
    return draws_result(
        kind, draws, effect.estimate, effect.std_error, confidence_level=confidence_level, method=method,
        meaning=meaning,
    )  # fmt: skip


def draws_result(
    kind: str,
    draws: FloatArray,
    estimate: float,
    std_error: float,
    *,
    confidence_level: float,
    method: str,
    meaning: str | None = None,
) -> RefutationResult:
    """As :func:`refuted_by_draws`, of an estimate and its error."""
    null = kind in NULL
    expected = 0.0 if null else estimate
    low, high = np.quantile(draws, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return RefutationResult(
        kind=kind, estimate=estimate, std_error=std_error, expected=expected, new_effect=float(draws.mean()),
        new_std=float(draws.std(ddof=1)), ci_low=float(low), ci_high=float(high),
        pvalue=centre_pvalue(draws, 0.0) if null else member_pvalue(draws, estimate),
        estimate_pvalue=randomisation_pvalue(draws, estimate) if kind == PLACEBO else float("nan"),
        confidence_level=confidence_level, n_simulations=len(draws), method=method,
        meaning=MEANINGS[kind] if meaning is None else meaning, draws=draws,
    )  # fmt: skip


def refuted_by_effect(kind: str, found: AdjustedEffect, effect: AdjustedEffect, *, method: str) -> RefutationResult:
    """What one effect that should be zero says of an estimate: a negative control, with its own interval and p-value.

    Lipsitch, Tchetgen Tchetgen and Cohen 2010, Epidemiology 21, "Negative controls".

    Raises
    ------
    CausalRecError
        For an effect without a standard error, of which nothing can be tested.
    """
    if np.isnan(found.pvalue):
        raise CausalRecError(
            f"the effect found is {found.estimate:.4g}, without a standard error ({found.method}), so that chance "
            "cannot be told from bias. Use a method that has one."
        )
    return RefutationResult(
        kind=kind, estimate=effect.estimate, std_error=effect.std_error, expected=0.0, new_effect=found.estimate,
        new_std=found.std_error, ci_low=found.ci_low, ci_high=found.ci_high, pvalue=found.pvalue,
        estimate_pvalue=float("nan"), confidence_level=found.confidence_level, n_simulations=1, method=method,
        meaning=MEANINGS[kind], draws=np.array([found.estimate]),
    )  # fmt: skip


def centre_pvalue(draws: FloatArray, expected: float) -> float:
    """Two-sided t test of the mean of the draws: 1 or 0 where they have no spread.

    Examples
    --------
    >>> centre_pvalue(np.array([-1.0, 1.0]), 0.0), centre_pvalue(np.array([2.0, 2.0]), 0.0)
    (1.0, 0.0)
    """
    gap, n = abs(float(draws.mean()) - expected), len(draws)
    return _t_pvalue(gap, float(draws.std(ddof=1)) / math.sqrt(n), n - 1, _scale(draws, expected))


def member_pvalue(draws: FloatArray, estimate: float) -> float:
    """Two-sided, whether the estimate may be one more of the draws: a t test with their spread, not that of a mean.

    Where an estimator has a chance part of its own (which of two near neighbours is taken, how folds fall), the draws
    centre on a smoother estimate than the one at hand, so that only this question is fair.

    Examples
    --------
    >>> round(member_pvalue(np.array([-1.0, 0.0, 1.0]), 2.0), 4)
    0.2254
    """
    gap, n = abs(float(draws.mean()) - estimate), len(draws)
    return _t_pvalue(gap, float(draws.std(ddof=1)) * math.sqrt(1 + 1 / n), n - 1, _scale(draws, estimate))


def _scale(draws: FloatArray, expected: float) -> float:
    return max(float(np.abs(draws).max()), abs(expected))


def _t_pvalue(gap: float, error: float, freedom: int, scale: float) -> float:
    if error > _SAME * scale:
        return float(2 * stats.t.sf(gap / error, freedom))
    return float(gap <= _SAME * scale)  # without spread there is no t: what is expected is hit, or it is missed


def randomisation_pvalue(draws: FloatArray, estimate: float) -> float:
    """Share of placebo effects at least as far from zero as the estimate, itself counted as one.

    Counts of equal effects must not hang on the last bit of a sum.
    """
    as_far = int((np.abs(draws) >= abs(estimate) * (1 - _SAME)).sum())
    return (1 + as_far) / (1 + len(draws))


def check_recipe(effect: AdjustedEffect, data: StudyData) -> Recipe:
    """How the effect was made, where it can be made again of the study's units.

    Raises
    ------
    CausalRecError
        For an effect that no study made, or another one, and for nuisances that were fitted before.
    """
    if not isinstance(effect, AdjustedEffect):
        raise CausalRecError(
            f"effect is of type {type(effect).__name__}; expected an estimate of this study, as study.estimate(method) "
            "gives."
        )
    if effect.recipe is None:
        raise CausalRecError(
            f"this estimate does not know how it was made ({effect.method}): it is not of a study, or was saved and "
            "loaded. Refute one by study.estimate(method, ...), which can be made again of changed data."
        )
    if effect.weights is not None and len(effect.weights) != data.n_obs:
        raise CausalRecError(
            f"the estimate is of {len(effect.weights):,} units, the study has {data.n_obs:,}; pass an estimate of this "
            "study."
        )
    if effect.recipe.digest not in (0, data.digest):
        raise CausalRecError(
            f"the estimate ({effect.method}) is of another outcome, treatment or other units than this study has; pass "
            "an estimate of this study."
        )
    if effect.recipe.options.get("nuisance") is not None:
        raise CausalRecError(
            "the estimate was made with nuisance=, fitted before, which cannot be fitted anew for changed data; leave "
            "it out of study.estimate, and pass the models instead."
        )
    return effect.recipe


def check_simulations(n_simulations: int, confidence_level: float) -> None:
    """Raise where so few simulations cannot reach the level: n of them have no p-value below 1 / (n + 1)."""
    least = max(2, math.ceil(round(1 / (1 - confidence_level), 6)) - 1)
    whole = isinstance(n_simulations, int | np.integer) and not isinstance(n_simulations, bool)
    if not whole or n_simulations < least:
        raise CausalRecError(
            f"n_simulations is {n_simulations!r}; at the level {confidence_level:g} expected {least} or more, better "
            f"100: with n of them no p-value is below 1 / (n + 1). Ask for more, or for a lower confidence_level."
        )
