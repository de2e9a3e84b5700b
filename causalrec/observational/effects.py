"""Average effects from a frame: identify, estimate, check balance, and try a placebo."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    list_some,
    nearest,
)
from causalrec.exceptions import CausalRecError, ColumnError, OverlapError, TreatmentError
from causalrec.nuisance import overlap
from causalrec.nuisance.scores import effect_result
from causalrec.observational.balance import balance_table
from causalrec.observational.design import check_estimand, design_matrix, one_thread, regressors
from causalrec.observational.matching import match_nearest
from causalrec.observational.propensity import fit_likelihood, fit_propensity
from causalrec.results import BalanceResult, EffectResult, IdentificationResult, OverlapResult, RefutationResult

if TYPE_CHECKING:
    from causalrec.observational.dowhy_adapter import PropensityMatching

METHODS = ("propensity_matching", "doubly_robust", "difference_in_means")
_SMALL = 10**9  # multiplications a Newton step: some tenths of a second
_ERROR = {
    "ate": "conservative since the score is estimated",
    "att": "the score taken as known, which may make it too large or too small",
    "atc": "the score taken as known, which may make it too large or too small",
}


@dataclass(frozen=True)
class EffectStudy:
    """All that :func:`study_effect` found.

    ``balance`` and ``overlap`` are None without covariates, ``overlap`` also where chance separates the arms of a
    randomised design. With ``method="difference_in_means"`` nothing is
    adjusted, so that the balance is that of the groups as they are.
    """

    identification: IdentificationResult
    effect: EffectResult
    balance: BalanceResult | None
    overlap: OverlapResult | None
    placebo: RefutationResult = field(repr=False)


def difference_in_means(y: FloatArray, treatment: IntArray) -> tuple[float, float]:
    """Difference of the arms' means, treated - control, and its Neyman standard error.

    The error is right for units that were randomised one by one: not for clusters, nor for blocks of unlike shares.

    Parameters
    ----------
    y : array of shape (n,), treatment : 0/1 array of shape (n,)

    Raises
    ------
    TreatmentError
        When an arm has fewer than two units.

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

    Parameters
    ----------
    frame : DataFrame
        A row per unit.
    treatment, outcome : str
        Columns: 0/1 (or two labels with ``control``), and a number without gaps.
    covariates : sequence of str
        Columns measured before treatment, to adjust for.
    estimand : {"ate", "att", "atc"}
        Over all units, the treated, or the controls; the last two by propensity matching only.
    method : str
        ``"propensity_matching"`` (through DoWhy, Abadie–Imbens error), ``"doubly_robust"`` (EconML) or
        ``"difference_in_means"`` (randomised designs; covariates are not used).
    control : label, optional
        The arm to compare with, where the treatment is not 0/1.
    confidence_level : float
        Of the interval, by normal quantiles.
    random_state : int
        For the folds and models of ``"doubly_robust"``.

    Raises
    ------
    ColumnError, TreatmentError, OutcomeError, OverlapError, EmptyTableError, MissingExtraError, CausalRecError
        With what was found and the remedy.

    Notes
    -----
    Matching takes the estimated score as known: see :func:`match_nearest`. ``"doubly_robust"`` raises propensities
    below 0.01 to it (and lowers those above 0.99); its interval is too narrow where outcome and treatment follow
    strong interactions of covariates that both models miss, as any with fitted models is.

    Examples
    --------
    >>> frame = pd.DataFrame({"t": [0, 0, 1, 1], "y": [1.0, 3.0, 2.0, 6.0]})
    >>> float(average_effect(frame, treatment="t", outcome="y", method="difference_in_means"))
    2.0
    """
    level = check_confidence_level(confidence_level)
    data = _checked(frame, treatment, outcome, covariates, control, method, estimand)
    if method == "propensity_matching":
        return _matching_effect(_matched(data, treatment, outcome, covariates, estimand), estimand, level)
    return _unmatched_effect(data, treatment, outcome, covariates, method, level, random_state)


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
    """Identify, estimate, and judge an average effect; parameters and errors as for :func:`average_effect`.

    The placebo permutes the treatment ``n_placebo`` times and estimates everything anew, propensity included. That of
    a doubly robust estimate is by matching on the same covariates, which is far cheaper; its ``method`` says so.
    Where covariates are given with ``method="difference_in_means"``, they show the balance of the groups and change
    nothing else. ``progress`` is called with the simulations done and their number.

    Examples
    --------
    >>> frame = pd.DataFrame({"t": [0, 0, 1, 1] * 5, "x": [0, 1] * 10, "y": [1.0, 3.0, 2.0, 6.0] * 5})
    >>> study = study_effect(frame, treatment="t", outcome="y", covariates=["x"], method="difference_in_means")
    >>> study.effect.estimate, study.balance.balanced
    (2.0, True)
    """
    from causalrec.observational.dowhy_adapter import describe, identify

    level = check_confidence_level(confidence_level)
    data = _checked(frame, treatment, outcome, covariates, control, method, estimand)
    t, y = data[treatment].to_numpy(), data[outcome].to_numpy()
    placebo_method, work = "permuted treatment, everything estimated anew", 0
    if method == "difference_in_means":
        effect = _unmatched_effect(data, treatment, outcome, covariates, method, level, random_state)
        refuted = effect.estimate
        identification = identify(data, treatment, outcome, (), estimand)
        balance, support = _as_they_are(data, t, covariates) if covariates else (None, None)

        def estimate(permuted: IntArray) -> float:
            return difference_in_means(y, permuted)[0]
    else:
        matched = _matched(data, treatment, outcome, covariates, estimand)
        identification = describe(matched._target_estimand, treatment, outcome, estimand)
        if method == "doubly_robust":
            effect = _unmatched_effect(data, treatment, outcome, covariates, method, level, random_state)
            placebo_method += "; by propensity matching, beside its estimate, and not by the doubly robust estimator"
            refuted = matched.match_.estimate
        else:
            effect = _matching_effect(matched, estimand, level)
            refuted = effect.estimate
        balance, support = (
            _after_matching(data, matched, estimand),
            overlap(matched.propensity_, t, method="logistic propensity"),
        )
        Z = regressors(matched.X_)
        work = Z.size * Z.shape[1]

        def estimate(permuted: IntArray) -> float:
            return match_nearest(fit_likelihood(Z, permuted).score, permuted, y, estimand=estimand).estimate

    with one_thread(work < _SMALL):
        placebo = placebo_treatment(
            estimate, t, refuted, n_simulations=n_placebo, random_state=random_state, confidence_level=level,
            progress=progress, method=placebo_method,
        )  # fmt: skip
    return EffectStudy(identification, effect, balance, support, placebo)


def _matched(
    data: pd.DataFrame, treatment: str, outcome: str, covariates: Sequence[str], estimand: str
) -> PropensityMatching:
    from causalrec.observational.dowhy_adapter import matching_estimate

    return matching_estimate(data, treatment, outcome, covariates, estimand)


def _matching_effect(matched: PropensityMatching, estimand: str, level: float) -> EffectResult:
    found = matched.match_
    how = f"1-nearest-neighbour matching on the propensity score via DoWhy; Abadie–Imbens error, {_ERROR[estimand]}"
    return _effect((found.estimate, found.std_error), how, len(found.weight), estimand, level)


def _unmatched_effect(
    data: pd.DataFrame, treatment: str, outcome: str, covariates: Sequence[str], method: str, level: float, seed: int
) -> EffectResult:
    if method == "difference_in_means":
        found = difference_in_means(data[outcome].to_numpy(), data[treatment].to_numpy())
        return _effect(found, "difference in means, Neyman standard error", len(data), "ate", level)
    from causalrec.observational.dowhy_adapter import MIN_PROPENSITY, doubly_robust_ate

    found = doubly_robust_ate(data, treatment, outcome, covariates, seed)
    how = (
        "doubly robust (AIPW), cross-fitted linear models with boosted trees on top, EconML; "
        f"propensities kept within [{MIN_PROPENSITY}, {1 - MIN_PROPENSITY}]"
    )
    return _effect(found, how, len(data), "ate", level)


def _as_they_are(
    data: pd.DataFrame, t: IntArray, covariates: Sequence[str]
) -> tuple[BalanceResult, OverlapResult | None]:
    """Balance and overlap of the groups of a randomised design, which nothing adjusts.

    A rare level that chance put into one arm leaves no propensity to show, and does the estimate no harm.
    """
    X = data[list(covariates)]
    balance = balance_table(X, treatment=t)
    try:
        score = fit_propensity(design_matrix(X, all_levels=True)[0], treatment=t).score
        return balance, overlap(score, t, method="logistic propensity")
    except OverlapError:
        return balance, None


def _after_matching(data: pd.DataFrame, matched: PropensityMatching, estimand: str) -> BalanceResult:
    t = matched.treatment_
    own = {"ate": np.ones(len(t)), "att": t, "atc": 1 - t}[estimand]
    weight = own + matched.match_.weight
    return balance_table(
        data[matched.covariates_], treatment=t, weights=weight, estimand=estimand, method="propensity matching"
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
    method: str = "permuted treatment",
) -> RefutationResult:
    """Estimate the effect of permuted treatments, which have none.

    Every simulation has a random stream of its own, fixed by ``random_state``. Passing means that the estimator finds
    nothing where there is nothing; it does not show that the covariates suffice.

    Parameters
    ----------
    estimate_fn : callable
        Takes a 0/1 array of shape (n,), returns an estimate.
    treatment : 0/1 array of shape (n,)
    estimate : float
        The estimate to refute, from the true treatment.
    n_simulations : int
        At least 2; with n of them ``estimate_pvalue`` cannot fall below 1 / (n + 1).
    progress : callable, optional
        Called with the simulations done and their number.
    method : str
        For the result.

    Raises
    ------
    CausalRecError
        When there are fewer than two simulations.

    Examples
    --------
    >>> y, t = np.arange(20.0), np.arange(20) % 2
    >>> placebo = placebo_treatment(lambda permuted: difference_in_means(y, permuted)[0], t, 1.0)
    >>> placebo.estimate_pvalue > 0.5
    True
    """
    if n_simulations < 2:
        raise CausalRecError(f"n_simulations is {n_simulations}; expected at least 2, better 100, to see a spread.")
    draws = np.empty(n_simulations)
    for i, seed in enumerate(np.random.SeedSequence(random_state).spawn(n_simulations)):
        draws[i] = estimate_fn(np.random.default_rng(seed).permutation(treatment))
        if progress is not None:
            progress(i + 1, n_simulations)
    low, high = np.quantile(draws, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    mean, error = float(draws.mean()), float(draws.std(ddof=1)) / math.sqrt(n_simulations)
    # Without spread (an outcome that never varies, say) there is no t: zero is hit, or it is missed.
    pvalue = float(2 * stats.t.sf(abs(mean) / error, n_simulations - 1)) if error > 0 else float(mean == 0)
    # Counts of equal effects must not hang on the last bit of a sum.
    as_far = int((np.abs(draws) >= abs(estimate) * (1 - 1e-12)).sum())
    return RefutationResult(
        kind="placebo_treatment", estimate=estimate, placebo_effect=mean, placebo_std=float(draws.std(ddof=1)),
        ci_low=float(low), ci_high=float(high), pvalue=pvalue, estimate_pvalue=(1 + as_far) / (1 + n_simulations),
        confidence_level=confidence_level, n_simulations=n_simulations, method=method, draws=draws,
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
        raise CausalRecError(f"method is {method!r}; expected one of {list_some(METHODS)}.{nearest(method, METHODS)}")
    check_estimand(estimand)
    if method != "propensity_matching" and estimand != "ate":
        raise CausalRecError(f"{method} estimates the ate, not the {estimand}. Use propensity_matching for it.")
    if isinstance(covariates, str):
        raise ColumnError(
            f"covariates is the text {covariates!r}; expected a list of columns, such as [{covariates!r}]."
        )
    if method != "difference_in_means" and not covariates:
        raise CausalRecError(
            f"{method} needs covariates to adjust for; for a randomised design use difference_in_means."
        )
    roles = [treatment, outcome, *covariates]
    doubled = sorted({c for c in roles if roles.count(c) > 1})
    if doubled:
        raise ColumnError(f"columns {list_some(doubled)} are named twice among treatment, outcome and covariates.")
    check_columns(frame.columns, roles, where="frame")
    check_not_empty(len(frame), where="frame")
    codes, labels = check_treatment(frame[treatment], control=control)
    check_two_arms(labels, what="an average effect")
    values = check_vector(frame[outcome], name=outcome)
    return frame[roles].assign(**{treatment: codes, outcome: values})


def _effect(found: tuple[float, float], method: str, n_obs: int, estimand: str, level: float) -> EffectResult:
    return effect_result(*found, confidence_level=level, n_obs=n_obs, method=method, estimand=estimand)
