"""Matching in which no unit serves twice: which algorithm, in which turns, and what the units weigh."""

from __future__ import annotations

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._full import fine_strata, full_match
from causalrec.observational._greedy import Progress, check_order, class_means, greedy_match, tie_classes
from causalrec.observational._greedy_space import greedy_space
from causalrec.observational._optimal import optimal_line, optimal_space
from causalrec.observational._sets import MatchedSets, set_shares

TIES = ("average", "first")


def match_unreplaced(
    place: FloatArray,
    treatment: IntArray,
    *,
    estimand: str,
    method: str = "nearest",
    ratio: int = 1,
    caliper: float = np.inf,
    strata: IntArray | None = None,
    gate: tuple[FloatArray, float] | None = None,
    order: str | None = None,
    ties: str = "average",
    n_strata: int = 20,
    random_state: int | np.random.Generator | None = None,
    progress: Progress | None = None,
) -> tuple[MatchedSets, FloatArray, IntArray | None]:
    """Sets that share no unit, weights of shape (n,), and classes of tied units where these share their weight.

    Parameters
    ----------
    place : array of shape (n,) or (n, p)
        A score, or covariates in which the distance is Euclidean.
    gate : (score, width), optional
        With covariates: no match where scores differ by more.

    Raises
    ------
    CausalRecError
        For the ate by pairs, unknown names, distances on covariates where the method is on a score.
    """
    if place.ndim == 2 and place.shape[1] == 1 and gate is None:
        place = place[:, 0]
    line = place.ndim == 1
    if method in ("full", "fine"):
        _check_subclasses(method, line, ratio)
        if method == "full":
            sets, weights = full_match(place, treatment, estimand=estimand, caliper=caliper, strata=strata)
        else:
            sets, weights = fine_strata(place, treatment, estimand=estimand, n_strata=n_strata, strata=strata)
    else:
        sets = _pairs(place, treatment, _arm(estimand, method), method, ratio, caliper, strata, gate, order,
                      np.random.default_rng(random_state), progress)  # fmt: skip
        weights = set_shares(sets, len(treatment))
        weights[sets.unit] = 1.0
    if ties == "first" or method == "fine":
        return sets, weights, None
    parts = [*(place.T if not line else [place]), *([] if gate is None else [gate[0]])]
    tie = tie_classes(parts, treatment, strata)
    return sets, weights if tie is None else class_means(weights, tie), tie


def _pairs(
    place: FloatArray,
    treatment: IntArray,
    arm: int,
    method: str,
    ratio: int,
    caliper: float,
    strata: IntArray | None,
    gate: tuple[FloatArray, float] | None,
    order: str | None,
    rng: np.random.Generator,
    progress: Progress | None,
) -> MatchedSets:
    line = place.ndim == 1
    if method == "optimal":
        if line:
            return optimal_line(place, treatment, arm=arm, ratio=ratio, caliper=caliper, strata=strata)
        return optimal_space(place, treatment, arm=arm, ratio=ratio, caliper=caliper, strata=strata, gate=gate)
    if order is None:
        order = ("descending" if arm else "ascending") if line else "closest"
    check_order(order)
    if line:
        return greedy_match(place, treatment, arm=arm, ratio=ratio, caliper=caliper, strata=strata, order=order,
                            rng=rng, progress=progress)  # fmt: skip
    return greedy_space(place, treatment, arm=arm, ratio=ratio, caliper=caliper, strata=strata, gate=gate, order=order,
                        rng=rng, progress=progress)  # fmt: skip


def _arm(estimand: str, method: str) -> int:
    if estimand == "ate":
        raise CausalRecError(
            f"estimand='ate' with {method} matching without replacement: pairs leave most of the larger arm out, and "
            "with it the population asked for. Ask for the att or atc, match with replace=True, or use method='full' "
            "or 'fine', where everybody has a place."
        )
    return int(estimand == "att")


def _check_subclasses(method: str, line: bool, ratio: int) -> None:
    if not line:
        raise CausalRecError(
            f"method={method!r} is on a score; found a distance on covariates. Pass distance='propensity' or 'logit'."
        )
    if ratio != 1:
        raise CausalRecError(
            f"ratio={ratio} with method={method!r}: its sets are as large as the arms make them. Leave ratio at 1."
        )
