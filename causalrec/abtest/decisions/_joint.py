"""Effects on several columns at once, with their covariance: all that combinations of effects need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from causalrec._typing import FloatArray
from causalrec._validation import list_some
from causalrec.abtest.estimation.estimates import welch_df
from causalrec.abtest.estimation.scores import without_rounding
from causalrec.abtest.inference import upper_quantile, upper_tail
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.moments import Moments


@dataclass(frozen=True)
class Combination:
    """A linear combination of effects: its value, standard error and degrees of freedom (Welch 1947)."""

    effect: float
    std_error: float
    df: float

    def interval(self, confidence_level: float) -> tuple[float, float]:
        """Two-sided."""
        half = upper_quantile((1 - confidence_level) / 2, self.df) * self.std_error
        return self.effect - half, self.effect + half

    def pvalue(self, side: int = 0) -> float:
        """Of no effect: two-sided, or of none above (``side=1``) or below (``side=-1``) zero."""
        distance = self.effect / self.std_error
        return upper_tail(side * distance, self.df) if side else 2 * upper_tail(abs(distance), self.df)


@dataclass(frozen=True, eq=False)
class JointEffects:
    """Effects on q columns.

    Attributes
    ----------
    effect : array of shape (q,)
        Treatment - control.
    arms : array of shape (2, q, q)
        Covariance of a unit's scores in control and treatment, denominator n - 1.
    n : tuple of int
        Units of control and treatment.
    """

    effect: FloatArray
    arms: FloatArray
    n: tuple[int, int]

    @property
    def covariance(self) -> FloatArray:
        """Of ``effect``, shape (q, q)."""
        return np.asarray(self.arms[0] / self.n[0] + self.arms[1] / self.n[1])

    def combine(self, weights: ArrayLike) -> Combination:
        """The effect on a weighted sum of the columns."""
        w = np.asarray(weights, dtype=np.float64)
        variances = [float(w @ arm @ w) / n for arm, n in zip(self.arms, self.n, strict=True)]
        df = welch_df([(v, n - 1) for v, n in zip(variances, self.n, strict=True)])
        return Combination(float(w @ self.effect), math.sqrt(sum(variances)), df)

    def ratio_quantile(self, top: ArrayLike, bottom: ArrayLike, size: float) -> float:
        """The quantile of Fieller's interval for the ratio of two combinations, at the df of its own test."""
        above, below = self.combine(top), self.combine(bottom)
        ratio = above.effect / below.effect if below.effect else 0.0
        df = self.combine(np.asarray(top) - ratio * np.asarray(bottom)).df
        return upper_quantile(size / 2, math.inf if math.isnan(df) else df)


def joint_effects(
    control: Moments, treatment: Moments, columns: Sequence[str], *, size: str | None, names: tuple[str, str]
) -> JointEffects:
    """Effects on the means of columns, or with ``size`` on their means per row of clusters (delta method).

    Raises
    ------
    ColumnError
        For a column that is not there, or is named twice.
    OutcomeError
        For fewer than three units in an arm, values that are not finite, a column without variance in either arm, or
        clusters of mean size 0.
    """
    if len({*columns, size}) < len(columns) + 1:
        raise ColumnError(f"found the columns {list_some([*columns, size])}; expected each once.")
    if control.names != treatment.names:
        raise CausalRecError(
            f"control has the columns {list_some(control.names)}, treatment {list_some(treatment.names)}; expected the "
            "same in both, in the same order."
        )
    pairs = [_scores(m, columns, size, name) for m, name in zip((control, treatment), names, strict=True)]
    arms = np.array([covariance for _, covariance in pairs])
    for k, column in enumerate(columns):
        if not arms[:, k, k].max() > 0:
            raise OutcomeError(
                f"{column}: every value is the same within each arm, so there is no variance to test with. Check that "
                "the column is the one you mean."
            )
    return JointEffects(pairs[1][0] - pairs[0][0], arms, (control.n, treatment.n))


def _scores(moments: Moments, columns: Sequence[str], size: str | None, arm: str) -> tuple[FloatArray, FloatArray]:
    """The values of an arm, and the covariance of its units' linearised scores."""
    if moments.n < 3:
        raise OutcomeError(f"arm {arm!r} has {moments.n} units; expected at least three. Collect more, or drop it.")
    found = moments.select([*columns] if size is None else [*columns, size])
    if not (np.isfinite(found.mean).all() and np.isfinite(found.products).all()):
        raise OutcomeError(f"arm {arm!r} has moments that are not finite. Look for missing or infinite values.")
    covariance = found.products / (found.n - 1)
    if size is None:
        return found.mean, covariance
    rows = float(found.mean[-1])
    if rows == 0:
        raise OutcomeError(f"arm {arm!r}: the mean of {size!r} is 0, so there is no mean per row. Check the column.")
    value = found.mean[:-1] / rows
    into = np.hstack([np.eye(len(columns)), -value[:, None]]) / rows
    scores = into @ covariance @ into.T
    terms = into**2 @ covariance.diagonal()
    for k in range(len(columns)):
        if not without_rounding(float(scores[k, k]), float(terms[k])):
            scores[k, :] = scores[:, k] = 0.0
    return value, np.asarray(scores)
