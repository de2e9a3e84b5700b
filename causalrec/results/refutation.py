"""What is left of an estimate where there is nothing to find, or where nothing should change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.results.base import Result, format_number, short_pvalue

NEGLIGIBLE = 0.1
"""A bias of a tenth of the error leaves a 95% interval its coverage (Cochran 1977, Sampling Techniques, 1.7)."""


@dataclass(frozen=True, eq=False)
class RefutationResult(Result):
    """What an estimator finds in data changed so that the answer is known.

    Attributes
    ----------
    kind : str
        ``"placebo_treatment"``, ``"random_common_cause"``, ``"data_subset"``, ``"dummy_outcome"``, ``"bootstrap"``,
        ``"negative_control_outcome"``, ``"negative_control_treatment"``.
    estimate, std_error : float
        The effect that was to be refuted, and its error; NaN where it has none.
    expected : float
        What a sound estimator finds: 0 where there is no effect, else ``estimate``.
    new_effect, new_std : float
        Mean and standard deviation of the effects found; of one effect alone its error.
    ci_low, ci_high : float
        Central quantiles of the effects found; of one effect alone its interval.
    pvalue : float
        Two-sided. Where no effect is expected: of the null that the effects found centre on zero (t test of the draws'
        mean, uniform for a sound estimator; the test of the effect itself for a negative control). Elsewhere: whether
        the estimate may be one more of the draws (t test with their spread), since the draws of an estimator that has
        a chance part of its own, as matching has, do not centre on it. A small one means a bias.
    estimate_pvalue : float
        Of a placebo: the share of draws at least as far from zero as the estimate, ``(1 + #) / (1 + n)``, the
        randomisation test of no effect at all. NaN elsewhere.
    confidence_level : float
    n_simulations : int
    method : str
        What was done, in words.
    meaning : str
        What passing does and does not show, in a sentence.
    draws : array of shape (n_simulations,)
    """

    kind: str
    estimate: float
    std_error: float
    expected: float
    new_effect: float
    new_std: float
    ci_low: float
    ci_high: float
    pvalue: float
    estimate_pvalue: float
    confidence_level: float
    n_simulations: int
    method: str
    meaning: str
    draws: FloatArray = field(repr=False)

    @property
    def shift(self) -> float:
        """How far the effects found lie from what was expected, on average."""
        return self.new_effect - self.expected

    @property
    def negligible(self) -> bool:
        """Whether the shift is less than a tenth of the estimate's error, which does no harm even if it is real.

        The effect of a negative control is on a scale of its own, and never negligible.
        """
        return not self.kind.startswith("negative_control") and bool(abs(self.shift) <= NEGLIGIBLE * self.std_error)

    @property
    def passed(self) -> bool:
        """Whether chance explains the shift, or it is negligible."""
        return self.survives(self.pvalue)

    def survives(self, pvalue: float) -> bool:
        """Whether it passes with another p-value, such as one adjusted for several refutations."""
        if math.isnan(pvalue):
            return self.negligible
        return bool(pvalue >= 1 - self.confidence_level) or self.negligible

    def __str__(self) -> str:
        verdict = _verdict(self.pvalue, self.passed)
        return (
            f"{self.kind.replace('_', ' ')}: {format_number(self.new_effect)} where "
            f"{format_number(self.expected)} is expected, p = {short_pvalue(self.pvalue)}, {verdict} "
            f"({self.method}). {self.meaning}"
        )


def _verdict(pvalue: float, passed: bool) -> str:
    return "passed" if passed else "no test" if math.isnan(pvalue) else "FAILED"


@dataclass(frozen=True, eq=False)
class RefutationsResult(Result):
    """Several refutations of one estimate, their p-values adjusted for their number (Holm 1979).

    Attributes
    ----------
    treatment, outcome, estimand, method : str
        Of the estimate.
    estimate, std_error : float
    names : tuple of str
        Of each refutation; a kind, with the column of a negative control.
    results : tuple of RefutationResult
        One per name.
    adjusted_pvalue : array
    failures : tuple of str
        ``"name: why"`` of refutations that could not be run.
    """

    treatment: str
    outcome: str
    estimand: str
    method: str
    estimate: float
    std_error: float
    names: tuple[str, ...]
    results: tuple[RefutationResult, ...]
    adjusted_pvalue: FloatArray = field(repr=False)
    failures: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> RefutationResult:
        if name not in self.names:
            raise CausalRecError(f"there is no refutation {name!r}; expected one of {', '.join(self.names)}.")
        return self.results[self.names.index(name)]

    @property
    def verdicts(self) -> tuple[bool, ...]:
        """Which refutations the estimate survived; without a p-value there was no test, and only no shift survives."""
        return tuple(r.survives(float(p)) for r, p in zip(self.results, self.adjusted_pvalue, strict=True))

    @property
    def passed(self) -> bool:
        """Whether the estimate survived all that tested it."""
        return all(v or math.isnan(p) for v, p in zip(self.verdicts, self.adjusted_pvalue, strict=True))

    def to_frame(self) -> pd.DataFrame:
        """A row per refutation."""
        rows = [{"name": n, **r.to_dict()} for n, r in zip(self.names, self.results, strict=True)]
        return pd.DataFrame(rows).assign(adjusted_pvalue=self.adjusted_pvalue, passed=np.array(self.verdicts))

    def __str__(self) -> str:
        table: list[Sequence[str]] = [("refutation", "found", "expected", "spread", "p (Holm)", "verdict")]
        for name, r, p, passed in zip(self.names, self.results, self.adjusted_pvalue, self.verdicts, strict=True):
            numbers = (format_number(x) for x in (r.new_effect, r.expected, r.new_std))
            table.append((name, *numbers, short_pvalue(float(p)), _verdict(float(p), passed)))
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        rows = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table)
        head = (
            f"Refutations of {format_number(self.estimate)}, the {self.estimand} of {self.treatment} on {self.outcome}"
        )
        return "\n".join([head, *(f"  {row}" for row in rows), *(f"  not run: {text}" for text in self.failures)])
