"""How alike the arms are, before and after an adjustment, and how its weights are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.base import Result, format_number

_SHOWN = 15


@dataclass(frozen=True, eq=False)
class BalanceResult(Result):
    """Covariate balance between treated and control units, before and after adjustment.

    Standardised mean differences divide by the standard deviation that ``denominator`` names, computed before
    adjustment in both columns, so that the two can be compared.

    Attributes
    ----------
    n_obs, n_treated, n_control : int
        Units given.
    ess_treated, ess_control : float
        Effective sample sizes (Σw)²/Σw² (Kish 1965) after the adjustment.
    estimand, denominator, method : str
    negative_share : float
        Share of the sum of absolute weights that is negative: regressions extrapolate so. Variance ratios and
        distances after the adjustment are then NaN.
    adjusted : bool
        False where there are no weights: after then equals before.
    threshold : float
        Largest absolute difference that counts as balanced.
    balanced : bool
        Whether no covariate lies beyond it after the adjustment.
    n_covariates, n_beyond : int
        Rows of the table, and those beyond the threshold after.
    n_variance_beyond : int
        Covariates whose variance ratio after lies outside [1/2, 2] (Rubin 2001).
    worst : str
        The covariate of ``max_abs_smd_after``.
    max_abs_smd_before, max_abs_smd_after, max_ks_before, max_ks_after : float
    covariate : array of shape (p,)
        A row per covariate, a row per level of a categorical one. So are the rest:
    mean_treated_before, mean_control_before, mean_treated_after, mean_control_after : arrays
    smd_before, smd_after : arrays
    variance_ratio_before, variance_ratio_after : arrays
        Treated over control; NaN for 0/1 covariates, whose variance follows from the mean.
    ks_before, ks_after : arrays
        Largest distance between the arms' distribution functions; of 0/1 covariates the difference of shares. NaN
        where they were not asked for.
    """

    n_obs: int
    n_treated: int
    n_control: int
    ess_treated: float
    ess_control: float
    estimand: str
    denominator: str
    method: str
    negative_share: float
    adjusted: bool
    threshold: float
    balanced: bool
    n_covariates: int
    n_beyond: int
    n_variance_beyond: int
    worst: str
    max_abs_smd_before: float
    max_abs_smd_after: float
    max_ks_before: float
    max_ks_after: float
    covariate: AnyArray = field(repr=False)
    mean_treated_before: FloatArray = field(repr=False)
    mean_control_before: FloatArray = field(repr=False)
    mean_treated_after: FloatArray = field(repr=False)
    mean_control_after: FloatArray = field(repr=False)
    smd_before: FloatArray = field(repr=False)
    smd_after: FloatArray = field(repr=False)
    variance_ratio_before: FloatArray = field(repr=False)
    variance_ratio_after: FloatArray = field(repr=False)
    ks_before: FloatArray = field(repr=False)
    ks_after: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per covariate (a row per level of a categorical one), in the order given."""
        names = [f"{what}_{when}" for what in ("smd", "variance_ratio", "ks", "mean_treated", "mean_control")
                 for when in ("before", "after")]  # fmt: skip
        return pd.DataFrame({name: getattr(self, name) for name in ("covariate", *names)})

    def __str__(self) -> str:
        """The worst covariates first."""
        verdict = "balanced" if self.balanced else f"{self.n_beyond} of {self.n_covariates} beyond"
        sizes = (self.n_treated, self.ess_treated, self.n_control, self.ess_control)
        numbers = [f"{size:,}" if isinstance(size, int) else f"{size:,.1f}" for size in sizes]
        shown = np.argsort(-np.abs(self.smd_after), kind="stable")[:_SHOWN]
        if self.adjusted:
            worst = f"{format_number(self.max_abs_smd_before)} before, {format_number(self.max_abs_smd_after)} after"
            units = f"effective units: treated {numbers[0]} -> {numbers[1]}, control {numbers[2]} -> {numbers[3]}"
            differences: tuple[str, ...] = ("SMD before", "SMD after")
        else:
            worst, units = format_number(self.max_abs_smd_after), f"treated {numbers[0]}, control {numbers[2]}"
            differences = ("SMD",)
        head = ("covariate", "treated", "control", *differences, "variance ratio", "KS")
        columns = [self.mean_treated_after, self.mean_control_after, *([self.smd_before] * self.adjusted),
                   self.smd_after, self.variance_ratio_after, self.ks_after]  # fmt: skip
        rows = [(str(self.covariate[k]), *(_written(float(column[k])) for column in columns)) for k in shown]
        rest = self.n_covariates - len(shown)
        return "\n".join(
            [
                f"Balance of {self.n_obs:,} units ({self.estimand}{', ' * bool(self.method)}{self.method}); {units}",
                f"largest |SMD| {worst}; threshold {format_number(self.threshold)}: {verdict}; "
                f"divided by the {self.denominator}",
                *([f"{self.negative_share:.1%} of the weights' size is negative"] if self.negative_share else []),
                *aligned([head, *rows]),
                *([f"  and {rest} more"] if rest else []),
            ]
        )


@dataclass(frozen=True, eq=False)
class WeightSpreadResult(Result):
    """How the weights of each arm are spread: whether few units carry an estimate.

    Weights are divided by their arm's mean, zeros included, so that 1 is a unit's share without adjustment.

    Attributes
    ----------
    n_obs, n_treated, n_control : int
    n_zero_treated, n_zero_control : int
        Units without weight.
    ess_treated, ess_control : float
        Effective sample sizes (Σw)²/Σw².
    max_treated, max_control : float
        The largest weight of each arm, in multiples of its mean.
    top_share_treated, top_share_control : float
        Share of the arm's weight in the 1% of its units (at least one) that weigh most.
    method : str
    edges : array of shape (b + 1,)
        Limits of bins of the weight, growing by the same factor.
    treated, control : arrays of shape (b,)
        Share of each arm's units per bin; units without weight are in none.
    """

    n_obs: int
    n_treated: int
    n_control: int
    n_zero_treated: int
    n_zero_control: int
    ess_treated: float
    ess_control: float
    max_treated: float
    max_control: float
    top_share_treated: float
    top_share_control: float
    method: str
    edges: FloatArray = field(repr=False)
    treated: FloatArray = field(repr=False)
    control: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per bin: its limits and the share of each arm in it."""
        return pd.DataFrame(
            {"low": self.edges[:-1], "high": self.edges[1:], "treated": self.treated, "control": self.control}
        )


def _written(value: float) -> str:
    """Two decimals more than a table needs would hide the pattern."""
    return format_number(value) if not np.isfinite(value) or abs(value) >= 10 else f"{value:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(["", row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:],
                  strict=True))]) for row in rows
    ]  # fmt: skip
