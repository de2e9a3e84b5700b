"""What an estimate becomes when a hidden cause of known strength is made up, and adjusted for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec.results.base import Result, format_number


@dataclass(frozen=True, eq=False)
class SimulatedConfounderResult(Result):
    """An estimate beside hidden causes that were made up to explain so much of treatment and outcome.

    Attributes
    ----------
    treatment, outcome, estimand, method : str
    estimate, std_error : float
        Without the hidden cause.
    tipping : float
        Least strength, of those tried, the same for treatment and outcome, at which the estimate is zero or of the
        other sign, interpolated; NaN where none does it.
    n_simulations : int
        Hidden causes of each strength.
    strengths : array of shape (k,)
        Shares of what is left of treatment, and of outcome, that the cause explains (partial R²).
    effect, spread : arrays of shape (k, k)
        Mean and standard deviation of the estimates with it; a row for each share of the outcome.
    benchmark : array
        Covariates; a cause as strong as one of them explains ``r2_treatment`` and ``r2_outcome``, and would leave
        ``benchmark_effect``.
    r2_treatment, r2_outcome, benchmark_effect : arrays
    """

    treatment: str
    outcome: str
    estimand: str
    method: str
    estimate: float
    std_error: float
    tipping: float
    n_simulations: int
    strengths: FloatArray = field(repr=False)
    effect: FloatArray = field(repr=False)
    spread: FloatArray = field(repr=False)
    benchmark: AnyArray = field(repr=False)
    r2_treatment: FloatArray = field(repr=False)
    r2_outcome: FloatArray = field(repr=False)
    benchmark_effect: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row for each pair of strengths, then one for each benchmark."""
        rows, columns = np.meshgrid(self.strengths, self.strengths, indexing="ij")
        grid = pd.DataFrame(
            {
                "hidden cause": "",
                "r2_treatment": columns.ravel(),
                "r2_outcome": rows.ravel(),
                "effect": self.effect.ravel(),
            }
        )
        as_strong = pd.DataFrame(
            {
                "hidden cause": [f"as strong as {name}" for name in self.benchmark],
                "r2_treatment": self.r2_treatment,
                "r2_outcome": self.r2_outcome,
                "effect": self.benchmark_effect,
            }
        )
        return pd.concat([grid, as_strong], ignore_index=True) if len(as_strong) else grid

    def __str__(self) -> str:
        turn = (
            f"none up to {self.strengths[-1]:.1%} of both takes it away"
            if np.isnan(self.tipping)
            else f"one that explains {self.tipping:.1%} of what is left of both takes it away"
        )
        lines = [
            f"Effect of {self.treatment} on {self.outcome} ({self.estimand}) beside a hidden cause: "
            f"{format_number(self.estimate)} without; {turn}"
        ]
        lines += [
            f"  as strong as {name} ({d:.1%} of the treatment, {y:.1%} of the outcome): {format_number(float(value))}"
            for name, d, y, value in zip(
                self.benchmark, self.r2_treatment, self.r2_outcome, self.benchmark_effect, strict=True
            )
        ]
        return "\n".join(lines)
