"""Average effects from a frame: identify, estimate, check balance, and try a placebo."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import (
    check_columns,
    check_confidence_level,
    check_not_empty,
    check_treatment,
    check_two_arms,
    check_vector,
)
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.observational.matching import balance_table, design_matrix, fit_propensity, match_nearest, overlap
from causalrec.results import BalanceResult, EffectResult, IdentificationResult, OverlapResult, RefutationResult

METHODS = ("propensity_matching", "doubly_robust", "difference_in_means")


@dataclass(frozen=True)
class EffectStudy:
    """All that :func:`study_effect` found."""

    identification: IdentificationResult
    effect: EffectResult
    balance: BalanceResult | None
    overlap: OverlapResult | None
    placebo: RefutationResult = field(repr=False)


def difference_in_means(y: FloatArray, treatment: IntArray) -> tuple[float, float]:
    """Difference of the arms' means and its Neyman standard error (right for any randomised design).

    Examples
    --------
    >>> difference_in_means(np.array([1.0, 3.0, 2.0, 6.0]), np.array([0, 0, 1, 1]))[0]
    2.0
    """
    arms = [y[treatment == a] for a in (0, 1)]
    if min(map(len, arms)) < 2:
        raise TreatmentError(f"the arms have {len(arms[0])} and {len(arms[1])} units; each needs at least two.")
    return float(arms[1].mean() - arms[0].mean()), math.sqrt(sum(a.var(ddof=1) / len(a) for a in arms))


def average_effect(
    frame: pd.DataFrame,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str] = (),
    estimand: str = "ate",
    method: str = "propensity_matching",
    control: object = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> EffectResult:
    """Estimate an average effect; the frame is not changed.

    ``method`` is ``"propensity_matching"`` (through DoWhy, Abadie–Imbens error), ``"doubly_robust"`` (EconML, ate
    only) or ``"difference_in_means"`` (randomised designs).

    Raises
    ------
    ColumnError, TreatmentError, OutcomeError, OverlapError
        With what was found and the remedy.

    Examples
    --------
    >>> frame = pd.DataFrame({"t": [0, 0, 1, 1], "y": [1.0, 3.0, 2.0, 6.0]})
    >>> float(average_effect(frame, treatment="t", outcome="y", method="difference_in_means"))
    2.0
    """
    data = _checked(frame, treatment, outcome, covariates, control, method, estimand)
    if method == "difference_in_means":
        found = difference_in_means(data[outcome].to_numpy(), data[treatment].to_numpy())
        how = "difference in means, Neyman standard error"
    elif method == "doubly_robust":
        from causalrec.observational.dowhy_adapter import doubly_robust_ate

        found = doubly_robust_ate(data, treatment, outcome, covariates, random_state)
        how = "doubly robust (AIPW), cross-fitted gradient boosting, EconML"
    else:
        from causalrec.observational.dowhy_adapter import matching_estimate

        match = matching_estimate(data, treatment, outcome, covariates, estimand).match_
        found = match.estimate, match.std_error
        how = (
            "1-nearest-neighbour matching on the propensity score via DoWhy; Abadie–Imbens error, score taken as known"
        )
    return _effect(found, how, len(data), estimand, confidence_level)


def study_effect(
    frame: pd.DataFrame,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str] = (),
    estimand: str = "ate",
    method: str = "propensity_matching",
    control: object = None,
    n_placebo: int = 100,
    confidence_level: float = 0.95,
    random_state: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> EffectStudy:
    """Identify, estimate, and judge an average effect; parameters as for :func:`average_effect`.

    The placebo permutes the treatment and estimates everything anew, propensity included. Doubly robust estimates are
    refuted by matching's placebo, since both rest on the same adjustment set.
    """
    from causalrec.observational.dowhy_adapter import identify

    data = _checked(frame, treatment, outcome, covariates, control, method, estimand)
    common = {"treatment": treatment, "outcome": outcome, "covariates": covariates, "estimand": estimand}
    effect = average_effect(
        data,
        **common,
        method=method,
        confidence_level=confidence_level,
        random_state=random_state,  # type: ignore[arg-type]
    )
    t, y = data[treatment].to_numpy(), data[outcome].to_numpy()
    balance, common_support = None, None
    if covariates:
        X, names = design_matrix(data[list(covariates)])
        score = fit_propensity(X, t)
        match = match_nearest(score, t, y, estimand=estimand)
        own = {"ate": np.ones(len(t)), "att": t, "atc": 1 - t}[estimand]
        balance = balance_table(X, names, t, own + match.weight, estimand=estimand, method="propensity matching")
        common_support = overlap(score, t)

        def estimate(permuted: IntArray) -> float:
            return match_nearest(fit_propensity(X, permuted), permuted, y, estimand=estimand).estimate
    else:

        def estimate(permuted: IntArray) -> float:
            return difference_in_means(y, permuted)[0]

    placebo = placebo_treatment(
        estimate, t, effect.estimate, n_simulations=n_placebo, random_state=random_state,
        confidence_level=confidence_level, progress=progress,
    )  # fmt: skip
    return EffectStudy(
        identify(data, treatment, outcome, covariates, estimand), effect, balance, common_support, placebo
    )


def placebo_treatment(
    estimate_fn: Callable[[IntArray], float],
    treatment: IntArray,
    estimate: float,
    *,
    n_simulations: int = 100,
    random_state: int = 0,
    confidence_level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> RefutationResult:
    """Estimate the effect of permuted treatments, which have none.

    Every simulation has a random stream of its own. Passing means that the estimator finds nothing where there is
    nothing; it does not show that the covariates suffice.
    """
    draws = np.empty(n_simulations)
    for i, seed in enumerate(np.random.SeedSequence(random_state).spawn(n_simulations)):
        draws[i] = estimate_fn(np.random.default_rng(seed).permutation(treatment))
        if progress is not None:
            progress(i + 1, n_simulations)
    low, high = np.quantile(draws, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    t = draws.mean() / (draws.std(ddof=1) / math.sqrt(n_simulations))
    return RefutationResult(
        kind="placebo_treatment", estimate=estimate, placebo_effect=float(draws.mean()),
        placebo_std=float(draws.std(ddof=1)), ci_low=float(low), ci_high=float(high),
        pvalue=float(2 * stats.t.sf(abs(t), n_simulations - 1)),
        estimate_pvalue=float((1 + (np.abs(draws) >= abs(estimate)).sum()) / (1 + n_simulations)),
        confidence_level=confidence_level, n_simulations=n_simulations,
        method="permuted treatment, everything estimated anew", draws=draws,
    )  # fmt: skip


def _checked(
    frame: pd.DataFrame,
    treatment: str,
    outcome: str,
    covariates: Sequence[str],
    control: object,
    method: str,
    estimand: str,
) -> pd.DataFrame:
    if method not in METHODS:
        raise CausalRecError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    if method != "propensity_matching" and estimand != "ate":
        raise CausalRecError(f"{method} estimates the ate, not the {estimand}. Use propensity_matching for it.")
    if method != "difference_in_means" and not covariates:
        raise CausalRecError(
            f"{method} needs covariates to adjust for; for a randomised design use difference_in_means."
        )
    check_columns(frame.columns, [treatment, outcome, *covariates], where="frame")
    check_not_empty(len(frame), where="frame")
    codes, labels = check_treatment(frame[treatment], control=control)
    check_two_arms(labels, what="an average effect")
    values = check_vector(frame[outcome], name=outcome)
    return frame[[treatment, outcome, *covariates]].assign(**{treatment: codes, outcome: values})


def _effect(
    found: tuple[float, float], method: str, n_obs: int, estimand: str, confidence_level: float
) -> EffectResult:
    level = check_confidence_level(confidence_level)
    estimate, error = found
    half = float(stats.norm.isf((1 - level) / 2)) * error
    pvalue = float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else float("nan")
    return EffectResult(estimate, error, estimate - half, estimate + half, pvalue, level, n_obs, method, estimand)
