"""Linearised scores of units: what turns a mean, a ratio or a mean of clusters into a plain mean.

A unit's score is L = (value - R den) / mean(den), with R the arm's value and den = 1 for a mean of units, the rows of a
cluster for a mean of rows, or the denominator of a ratio (delta method: Deng, Knoblich and Lu 2018). Its covariance
with the covariates is a linear map of the columns' moments, so no data are needed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from causalrec._typing import FloatArray
from causalrec.exceptions import OutcomeError
from causalrec.moments import Moments

_ROUNDING = 64 * float(
    np.finfo(np.float64).eps
)  # share of what a variance is the difference of, below which it is zero
VALUE, DENOMINATOR, ROWS = "value", "den", "rows"


class Names(NamedTuple):
    """Who is compared on what, for messages and results."""

    metric: str
    control: str
    treatment: str


class Stratum(NamedTuple):
    """The moments of one group of units in both arms: columns as of ``Cell.moments``.

    ``shared`` says that these are the same units twice: no arm could affect them.
    """

    name: Hashable
    control: Moments
    treatment: Moments
    shared: bool = False

    @property
    def n(self) -> int:
        """Units."""
        return self.control.n if self.shared else self.control.n + self.treatment.n


class ArmValue(NamedTuple):
    """An arm's value over all strata, and the mean of its denominator."""

    value: float
    denominator: float


class Scores(NamedTuple):
    """Of one cell: units, mean score (0 over all strata), the k covariates' means, the covariance of all 1 + k."""

    n: int
    level: float
    covariates: FloatArray
    covariance: FloatArray


class ScoredStratum(NamedTuple):
    """Both arms' scores in a stratum.

    ``cross`` is the covariance of the two mean scores where units are shared; ``gap`` the covariates' means, treatment
    - control.
    """

    weight: float
    shared: bool
    control: Scores
    treatment: Scores
    cross: float
    treated_share: float
    gap: FloatArray


def score_strata(
    strata: Sequence[Stratum], names: Names, n_covariates: int
) -> tuple[ArmValue, ArmValue, list[ScoredStratum]]:
    """Value of both arms (strata weighted by their share of units), and the scores around it.

    Columns of the moments are the value, ``den`` of a ratio, ``rows`` of clusters, then ``n_covariates`` covariates.

    Raises
    ------
    OutcomeError
        For a cell with fewer than two units, or a denominator whose mean is zero.
    """
    for stratum in strata:
        _check_cell(stratum, names)
    total = sum(s.n for s in strata)
    weights = [s.n / total for s in strata]
    control = _arm_value([s.control for s in strata], weights, n_covariates, names.metric, names.control)
    treatment = _arm_value([s.treatment for s in strata], weights, n_covariates, names.metric, names.treatment)
    cells = [_scored(s, w, control, treatment, n_covariates) for s, w in zip(strata, weights, strict=True)]
    return control, treatment, cells


def _check_cell(stratum: Stratum, names: Names) -> None:
    for arm, moments in ((names.control, stratum.control), (names.treatment, stratum.treatment)):
        if moments.n < 2:
            alone = stratum.name is None
            raise OutcomeError(
                f"{names.metric}: arm {arm!r} has {moments.n} units{'' if alone else f' in stratum {stratum.name!r}'}; "
                "a variance needs at least two. Collect more, or "
                f"{'drop the arm' if alone else 'join the stratum to another, or drop it (where=)'}."
            )


@lru_cache(maxsize=256)
def _layout(columns: tuple[str, ...], n_covariates: int) -> tuple[int | None, int | None]:
    """Where the denominator of the value and the sizes of clusters stand, if there are any; covariates come last."""
    own = columns[: len(columns) - n_covariates]
    rows = own.index(ROWS) if ROWS in own else None
    return (own.index(DENOMINATOR) if DENOMINATOR in own else rows), rows


def is_clustered(moments: Moments, n_covariates: int) -> bool:
    """Whether the units are clusters of rows."""
    return _layout(moments.names, n_covariates)[1] is not None


def is_ratio(moments: Moments, n_covariates: int) -> bool:
    """Whether the value is divided by something that varies."""
    return _layout(moments.names, n_covariates)[0] is not None


def _arm_value(
    moments: Sequence[Moments], weights: Sequence[float], n_covariates: int, metric: str, arm: str
) -> ArmValue:
    numerator = sum(w * float(m.mean[0]) for w, m in zip(weights, moments, strict=True))
    den, _ = _layout(moments[0].names, n_covariates)
    if den is None:
        return ArmValue(numerator, 1.0)
    denominator = sum(w * float(m.mean[den]) for w, m in zip(weights, moments, strict=True))
    spread = [math.sqrt(m.products[den, den] / m.n) for m in moments]
    size = sum(w * math.hypot(m.mean[den], s) for w, m, s in zip(weights, moments, spread, strict=True))
    if abs(denominator) <= _ROUNDING * size:
        raise OutcomeError(
            f"{metric}: the mean of the denominator is 0 in arm {arm!r}, so there is no ratio. Check the column, or "
            "count only rows that have a denominator (where=)."
        )
    return ArmValue(numerator / denominator, denominator)


def _scored(
    stratum: Stratum, weight: float, control: ArmValue, treatment: ArmValue, n_covariates: int
) -> ScoredStratum:
    c, t = _scores(stratum.control, control, n_covariates), _scores(stratum.treatment, treatment, n_covariates)
    cross = 0.0
    if stratum.shared:
        of_control, of_treatment = (_score_map(stratum.control, arm, n_covariates)[0] for arm in (control, treatment))
        cross = float(of_control @ stratum.control.products @ of_treatment) / ((c.n - 1) * c.n)
    return ScoredStratum(weight, stratum.shared, c, t, cross, t.n / (t.n + c.n), t.covariates - c.covariates)


def _score_map(moments: Moments, arm: ArmValue, n_covariates: int) -> FloatArray:
    """The linear map from columns to scores, shape (1 + k, p); covariates of clusters are means of rows."""
    den, rows = _layout(moments.names, n_covariates)
    p = len(moments.names)
    into = np.zeros((1 + n_covariates, p))
    into[0, 0] = 1 / arm.denominator
    if den is not None:
        into[0, den] = -arm.value / arm.denominator
    for j in range(n_covariates):
        column = p - n_covariates + j
        if rows is None:
            into[1 + j, column] = 1.0
        else:
            size = float(moments.mean[rows])
            into[1 + j, column], into[1 + j, rows] = 1 / size, -float(moments.mean[column]) / size**2
    return into


def _scores(moments: Moments, arm: ArmValue, n_covariates: int) -> Scores:
    n = moments.n
    den, rows = _layout(moments.names, n_covariates)
    covariates = moments.mean[len(moments.names) - n_covariates :]
    if den is None:  # the columns are the scores
        return Scores(n, float(moments.mean[0]) - arm.value, covariates, moments.products / ((n - 1) * n))
    if rows is None or not n_covariates:
        return _ratio_scores(moments, arm, den, n_covariates)
    into = _score_map(moments, arm, n_covariates)
    covariance = into @ moments.products @ into.T / ((n - 1) * n)
    terms = into[0] ** 2 @ (moments.products.diagonal() + n * (_ROUNDING * moments.mean) ** 2)
    if not without_rounding(float(covariance[0, 0]), float(terms) / ((n - 1) * n)):
        covariance[0, :] = covariance[:, 0] = 0.0
    return Scores(n, float(into[0] @ moments.mean), covariates / moments.mean[rows], covariance)


def _ratio_scores(moments: Moments, arm: ArmValue, den: int, n_covariates: int) -> Scores:
    """The same where the covariates are columns: only the value and its denominator are mixed."""
    n, products, first = moments.n, moments.products, len(moments.names) - n_covariates
    of_value, of_den = 1 / arm.denominator, -arm.value / arm.denominator
    value, denominator = float(moments.mean[0]), float(moments.mean[den])
    own, other = float(products[0, 0]) * of_value**2, float(products[den, den]) * of_den**2
    rounding = n * _ROUNDING**2 * ((of_value * value) ** 2 + (of_den * denominator) ** 2)
    variance = own + other + 2 * of_value * of_den * float(products[0, den])
    covariance = np.zeros((1 + n_covariates, 1 + n_covariates))
    if n_covariates:
        covariance[1:, 1:] = products[first:, first:]
    if without_rounding(variance, own + other + rounding):
        covariance[0, 0] = variance
        if n_covariates:
            covariance[0, 1:] = covariance[1:, 0] = of_value * products[0, first:] + of_den * products[den, first:]
    return Scores(n, of_value * value + of_den * denominator, moments.mean[first:], covariance / ((n - 1) * n))


def without_rounding(variance: float, terms: float) -> float:
    """A variance that is a difference of terms of that size: zero where it is no more than their rounding.

    Examples
    --------
    >>> without_rounding(1e-17, 2.0), without_rounding(1e-3, 2.0)
    (0.0, 0.001)
    """
    return variance if variance > _ROUNDING * terms else 0.0
