"""What the predicted effect depends on: losses that rise when a covariate is shuffled, contributions of covariates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.base import Result, format_level, format_number, pvalue_text, written_interval

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class PermutationImportanceResult(Result):
    """How much worse predicted effects get, by the R-loss, when the values of a covariate are shuffled.

    Attributes
    ----------
    model : str
    loss : float
        R-loss of the predictions as they are; it holds the outcome's noise, so only rises count.
    constant_loss : float
        That of the best constant effect. Where the model's loss is not below it, there is little to explain.
    covariate : array of shape (m,)
        Names of covariates, or of sets that were shuffled together, the most important first.
    importance, std_error, ci_low, ci_high, pvalue : arrays of shape (m,)
        Rise of the loss, in the square of the outcome's unit, row by row against the loss as it is. Near zero where the
        model does not use the covariate; below zero where its use does harm. Intervals are not corrected for their
        number.
    n_repeats : int
    """

    model: str
    loss: float
    constant_loss: float
    n_covariates: int
    n_repeats: int
    n_obs: int
    confidence_level: float
    method: str
    covariate: AnyArray = field(repr=False)
    importance: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per covariate."""
        names = ("covariate", "importance", "std_error", "ci_low", "ci_high", "pvalue")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        lines = [
            f"{self.model}: rise of the R-loss when a covariate is shuffled, {format_level(self.confidence_level)} CI, "
            f"n = {self.n_obs:,} ({self.method}); loss {format_number(self.loss)}, of a constant effect "
            f"{format_number(self.constant_loss)}"
        ]
        for k in range(min(self.n_covariates, _SHOWN)):
            rise = written_interval(self.importance[k], self.ci_low[k], self.ci_high[k])
            lines.append(f"  {self.covariate[k]}: {rise}, {pvalue_text(self.pvalue[k])}")
        more = self.n_covariates - _SHOWN
        return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)


@dataclass(frozen=True, eq=False)
class ShapImportanceResult(Result):
    """How much each covariate moves predicted effects from their average (SHAP), the most first.

    Attributes
    ----------
    model : str
    base : float
        Mean of what predictions start from before any covariate is known.
    covariate : array of shape (m,)
    importance : array of shape (m,)
        Mean size of the contribution, in the outcome's unit; zero for a covariate that is not used.
    share : array of shape (m,)
        Of the sum of all.
    direction : array of shape (m,)
        Correlation of the contribution with the covariate: near 1 where larger values go with larger effects. NaN for
        categories and where nothing varies.
    """

    model: str
    base: float
    n_covariates: int
    n_obs: int
    method: str
    covariate: AnyArray = field(repr=False)
    importance: FloatArray = field(repr=False)
    share: FloatArray = field(repr=False)
    direction: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per covariate."""
        return pd.DataFrame({n: getattr(self, n) for n in ("covariate", "importance", "share", "direction")})

    def __str__(self) -> str:
        lines = [
            f"{self.model}: mean size of contributions to the predicted effect, n = {self.n_obs:,} ({self.method}); "
            f"predictions start from {format_number(self.base)}"
        ]
        for k in range(min(self.n_covariates, _SHOWN)):
            if self.importance[k] > 0:
                lines.append(
                    f"  {self.covariate[k]}: {format_number(self.importance[k])} ({self.share[k]:.1%})"
                    f"{_way(float(self.direction[k]))}"
                )
        return "\n".join(lines)


def _way(direction: float) -> str:
    if np.isnan(direction) or abs(direction) < 0.5:
        return ""
    return f", {'rises' if direction > 0 else 'falls'} with it"
