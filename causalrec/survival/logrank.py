"""Log-rank tests: two arms or more, weighted, within strata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import FloatArray
from causalrec._validation import check_length, nearest
from causalrec.exceptions import CausalRecError
from causalrec.results.survival import LogrankResult
from causalrec.survival.lifetimes import Lifetimes, check_lifetimes
from causalrec.survival.tables import RiskTable

Weighting: TypeAlias = Literal["logrank", "wilcoxon", "tarone-ware", "peto", "fleming-harrington"]


def logrank_test(
    durations: Any,
    event_observed: Any,
    *,
    treatment: Any,
    control: object = None,
    strata: Any = None,
    weighting: Weighting = "logrank",
    rho: float = 0.0,
    gamma: float = 0.0,
    entry: Any = None,
    weights: Any = None,
) -> LogrankResult:
    """Test whether all arms leave at the same rate at all times.

    Parameters
    ----------
    durations, event_observed : array-like of shape (n,)
        As of :func:`kaplan_meier`.
    treatment : array-like of shape (n,)
        0/1, or labels with ``control``; two arms or more.
    control : label, optional
        The arm that comes first.
    strata : array-like of shape (n,), optional
        Arms are compared within each, and the comparisons added.
    weighting : str
        Which times count more: ``"logrank"`` all alike (the best where hazards are proportional); ``"wilcoxon"`` (by
        the number at risk), ``"tarone-ware"`` (by its root) and ``"peto"`` (by survival) early ones;
        ``"fleming-harrington"`` by S^rho (1 - S)^gamma of all arms together.
    rho, gamma : float
        Of Fleming and Harrington, >= 0: (1, 0) for early, (0, 1) for late differences. Choose before looking.
    entry, weights : array-like of shape (n,), optional
        As of :func:`kaplan_meier`.

    Raises
    ------
    OutcomeError, TreatmentError, CausalRecError
        As of :func:`kaplan_meier`; for an unknown weighting, or where arms are never at risk together.

    Notes
    -----
    Fleming and Harrington (1991), Counting Processes and Survival Analysis, chapter 7. R's ``survdiff(rho = 1)`` is
    ``"fleming-harrington"`` with rho = 1; lifelines' names otherwise.

    Examples
    --------
    >>> print(logrank_test([2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1],
    ...                    treatment=["new"] * 5 + ["old"] * 5, control="old"))
    do the arms leave at one rate? p = 0.576 (chi-square 0.3125, 1 df, log-rank). old: 4 left, 3.3 expected;
    new: 3 left, 3.7 expected
    """
    lifetimes = check_lifetimes(
        durations, event_observed, treatment=treatment, control=control, entry=entry, weights=weights
    )
    weigh = _weighting(weighting, rho, gamma)
    groups = _strata(strata, len(lifetimes.durations))
    counts = [_counts(lifetimes.where(groups == stratum)) for stratum in np.unique(groups)]
    score, variance = (np.sum(parts, axis=0) for parts in zip(*[_score(*c, weigh) for c in counts], strict=True))
    statistic, df = _chi_square(score, variance, lifetimes.arms)
    observed = np.sum([d.sum(axis=0) for _, d in counts], axis=0)
    expected = np.sum([(n * (d.sum(1) / n.sum(1))[:, None]).sum(axis=0) for n, d in counts], axis=0)
    return LogrankResult(
        statistic=statistic, df=df, pvalue=float(stats.chi2.sf(statistic, df)), n_obs=lifetimes.n,
        n_events=lifetimes.n_events, n_strata=len(counts), method=_method(weighting, rho, gamma, len(counts)),
        arm=np.array(lifetimes.arms),
        n=np.bincount(lifetimes.codes, lifetimes.weights, len(lifetimes.arms)).astype(np.float64),
        observed=observed, expected=expected,
    )  # fmt: skip


def _method(weighting: str, rho: float, gamma: float, n_strata: int) -> str:
    name = {"logrank": "log-rank", "fleming-harrington": f"Fleming-Harrington({rho:g}, {gamma:g})"}
    return name.get(weighting, f"{weighting.title()}-weighted log-rank") + (
        f", {n_strata} strata" if n_strata > 1 else ""
    )


def _strata(strata: Any, n_rows: int) -> FloatArray:
    if strata is None:
        return np.zeros(n_rows)
    column = pd.Series(strata).reset_index(drop=True)
    check_length(len(column), n_rows, name="strata")
    codes = pd.factorize(column)[0]
    if (codes < 0).any():
        raise CausalRecError(
            f"strata: {int((codes < 0).sum())} of {n_rows} values are missing. Name them or drop them."
        )
    return codes.astype(np.float64)


def _counts(lifetimes: Lifetimes) -> tuple[FloatArray, FloatArray]:
    """At risk and events, each of shape (event times, arms)."""
    times = np.unique(lifetimes.durations[lifetimes.observed & (lifetimes.weights > 0)])
    at_risk, events = (np.zeros((len(times), len(lifetimes.arms))) for _ in range(2))
    for code in range(len(lifetimes.arms)):
        arm = lifetimes.arm(code)
        if not len(arm.durations):
            continue
        table = RiskTable.of(arm)
        row = table.rows_before(times, strictly=True)
        there = row < len(table.time)
        inside = np.minimum(row, len(table.time) - 1)
        at_risk[:, code] = np.where(there, table.at_risk[inside], 0)
        events[:, code] = np.where(there & (table.time[inside] == times), table.events[inside], 0)
    return at_risk, events


def _score(at_risk: FloatArray, events: FloatArray, weigh: _Weigh) -> tuple[FloatArray, FloatArray]:
    """Weighted observed less expected events per arm, and their (hypergeometric) covariance."""
    n, d = at_risk.sum(axis=1), events.sum(axis=1)
    w = weigh(n, d)
    share = at_risk / n[:, None]
    score = (w[:, None] * (events - d[:, None] * share)).sum(axis=0)
    ties = np.divide(n - d, n - 1, out=np.zeros(len(n)), where=n > 1)
    scale = w**2 * d * ties
    return score, np.diag(scale @ share) - (share * scale[:, None]).T @ share


_Weigh: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]


def _weighting(weighting: str, rho: float, gamma: float) -> _Weigh:
    if weighting not in get_args(Weighting):
        raise CausalRecError(
            f"weighting is {weighting!r}; expected one of {', '.join(get_args(Weighting))}."
            f"{nearest(str(weighting), get_args(Weighting))}"
        )
    if rho < 0 or gamma < 0:
        raise CausalRecError(f"rho and gamma are {rho} and {gamma}; expected numbers >= 0.")
    if weighting != "fleming-harrington" and (rho or gamma):
        raise CausalRecError(f"rho and gamma are of weighting='fleming-harrington', not of {weighting!r}. Leave them.")

    rules: dict[str, _Weigh] = {
        "logrank": lambda n, _: np.ones(len(n)),
        "wilcoxon": lambda n, _: n,
        "tarone-ware": lambda n, _: np.sqrt(n),
        "peto": lambda n, d: _product(d / (n + 1)),
        "fleming-harrington": lambda n, d: _fleming(np.append(1.0, _product(d / n)[:-1]), rho, gamma),
    }
    return rules[weighting]


def _product(hazard: FloatArray) -> FloatArray:
    return np.asarray(np.cumprod(1 - hazard), dtype=np.float64)


def _fleming(survival: FloatArray, rho: float, gamma: float) -> FloatArray:
    weights: FloatArray = survival**rho * (1 - survival) ** gamma
    return weights


def _chi_square(score: FloatArray, variance: FloatArray, arms: tuple[str, ...]) -> tuple[float, int]:
    known = np.diag(variance) > 1e-12 * max(float(np.diag(variance).max()), 1e-300)
    if known.sum() < 2:
        raise CausalRecError(
            f"no two of the arms {', '.join(arms)} are at risk together at an event, so they cannot be compared. "
            "Check durations, entry and strata."
        )
    # The scores add up to zero: over all arms, or over each set of arms that meet only among themselves, as in strata.
    values, vectors = np.linalg.eigh(variance[np.ix_(known, known)])
    free = values > 1e-10 * values[-1]
    part = score[known] @ vectors[:, free]
    return float((part**2 / values[free]).sum()), int(free.sum())
