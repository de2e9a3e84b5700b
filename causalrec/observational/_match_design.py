"""What a matching needs, read from the caller's arguments: places, strata, calipers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_columns, check_length, check_treatment, check_two_arms, list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.observational._mahalanobis import COVARIANCES, whiten
from causalrec.observational.design import as_design, design_matrix
from causalrec.observational.propensity import as_propensity, fit_propensity
from causalrec.results import PropensityResult

DISTANCES = ("propensity", "logit", "mahalanobis", "scaled_euclidean")
_SCALES = ("sd", "raw")
_FAR = 800.0  # beyond the logit of any number but 0 and 1


@dataclass(frozen=True, eq=False)
class MatchDesign:
    """Where units lie, and who may be matched with whom.

    ``place`` has shape (n,) on a score, (n, p) on covariates; ``caliper`` is in its units, infinite without one.
    ``gate`` is the logit of the score, and the largest difference in it, for a caliper beside another distance.
    """

    place: FloatArray
    treatment: IntArray
    strata: IntArray | None
    caliper: float
    gate: tuple[FloatArray, float] | None
    propensity: PropensityResult | None


def read_design(
    X: Any,
    treatment: Any,
    *,
    control: Any,
    propensity: Any,
    distance: str,
    covariance: str,
    caliper: float | None,
    caliper_scale: str,
    exact: Any,
) -> MatchDesign:
    """Check everything that :func:`~causalrec.observational.match` is given of units."""
    check_known("distance", distance, DISTANCES)
    check_known("covariance", covariance, COVARIANCES)
    check_known("caliper_scale", caliper_scale, _SCALES)
    codes, labels = check_treatment(treatment, control=control)
    check_two_arms(labels, what="matching")
    n = len(codes)
    if X is not None:
        check_length(len(X), n, name="X")
    width = _width(caliper)
    score = None if propensity is None else as_propensity(propensity, n_rows=n, treatment=codes)
    strata = None if exact is None else _strata(exact, X, n)
    if distance in ("propensity", "logit"):
        score = fit_propensity(_given(X, distance), treatment=codes) if score is None else score
        place = score.score if distance == "propensity" else _logit(score.score)
        return MatchDesign(place, codes, strata, _scaled(width, place, caliper_scale), None, score)
    place = _covariate_places(_given(X, distance), codes, distance, covariance)
    if score is not None and np.isfinite(width):
        logit = _logit(score.score)
        place = place[:, None] if place.ndim == 1 else place
        return MatchDesign(place, codes, strata, np.inf, (logit, _scaled(width, logit, caliper_scale)), score)
    if np.isfinite(width) and caliper_scale == "sd":
        raise CausalRecError(
            f'caliper={width} in standard deviations is for a score, and distance is "{distance}". Pass propensity= to '
            'bound the difference of scores, or caliper_scale="raw" to bound the distance itself.'
        )
    return MatchDesign(place, codes, strata, width, None, None)


def _logit(score: FloatArray) -> FloatArray:
    """Finite for scores that are 0 or 1 to the last digit."""
    return np.asarray(np.clip(special.logit(score), -_FAR, _FAR))


def check_known(name: str, value: Any, known: Sequence[str]) -> None:
    """Raise unless ``value`` is one of the known words."""
    if value not in known:
        raise CausalRecError(f"{name} is {value!r}; expected one of {list_some(known)}.{nearest(str(value), known)}")


def _given(X: Any, distance: str) -> Any:
    if X is None:
        raise CausalRecError(
            f'distance is "{distance}" and there are no covariates; pass X'
            + (", or propensity= with the scores." if distance in ("propensity", "logit") else ".")
        )
    return X


def _width(caliper: float | None) -> float:
    if caliper is None:
        return np.inf
    if isinstance(caliper, bool) or not isinstance(caliper, int | float | np.number) or not caliper >= 0:
        raise CausalRecError(f"caliper is {caliper!r}; expected the largest distance allowed, a number of 0 or more.")
    return float(caliper)


def _scaled(width: float, place: FloatArray, scale: str) -> float:
    if scale == "raw" or not np.isfinite(width):
        return width
    spread = float(np.std(place, ddof=1))
    return width * spread


def _covariate_places(X: Any, treatment: IntArray, distance: str, covariance: str) -> FloatArray:
    scale_only = distance == "scaled_euclidean"
    matrix = as_design(X)[0]
    if scale_only and isinstance(X, pd.DataFrame):  # all levels, so that any two differ as much
        matrix = design_matrix(X, all_levels=True)[0]
    place = whiten(matrix, treatment, covariance=covariance, scale_only=scale_only)
    if place.shape[1] == 0:
        raise ColumnError(f"no covariate of X varies over its {len(matrix)} rows; there is nothing to match on.")
    return place[:, 0] if place.shape[1] == 1 else place


def _strata(exact: Any, X: Any, n: int) -> IntArray:
    """Codes of what must agree, from columns of X by name, a frame, or arrays."""
    names = [exact] if isinstance(exact, str) else exact
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) and len(names) != n:
        if not isinstance(X, pd.DataFrame):
            raise CausalRecError(f"exact names the columns {list_some(names)} but X is no frame; pass their values.")
        check_columns(X.columns, names, where="X")
        table = X[list(names)]
    elif isinstance(exact, pd.DataFrame):
        table = exact
    else:
        values = np.asarray(exact)
        table = pd.DataFrame(values if values.ndim == 2 else values.reshape(-1, 1))
    check_length(len(table), n, name="exact")
    missing = int(table.isna().any(axis=1).sum())
    if missing:
        raise ColumnError(
            f"exact: {missing} of {n} rows have missing values; drop them, or give the missing a value of their own."
        )
    codes = np.zeros(n, dtype=np.int64)
    for column in table.columns:
        found, known = pd.factorize(table[column])
        codes = pd.factorize(codes * len(known) + found)[0].astype(np.int64)
    return codes
