"""Metrics of scorers under resampled units, all scorers in the same resamples."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from causalrec._resampling import share_of_hits
from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError
from causalrec.results.base import NAN, Result, format_interval, format_level, format_number, pvalue_text
from causalrec.results.effects import EffectResult


@dataclass(frozen=True, eq=False)
class MetricBootstrapResult(Result):
    """A metric of one scorer or several, with intervals from its distribution under resampled units.

    Attributes
    ----------
    metric : str
        With its settings, as in the results of single scores.
    null : float
        Value for a random order, or zero where that has none: what ``pvalue`` tests.
    scorer : array of str, shape (m,)
    estimate, std_error, ci_low, ci_high, pvalue : arrays of shape (m,)
        Of the sample; standard deviation and percentiles of the draws; twice the share of draws beyond ``null``.
    draws : array of shape (n_resamples, m)
        A row is one resample, in which all scorers saw the same units.
    """

    metric: str
    null: float
    n_scorers: int
    n_resamples: int
    n_obs: int
    confidence_level: float
    method: str
    scorer: AnyArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    draws: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per scorer."""
        names = ("scorer", "estimate", "std_error", "ci_low", "ci_high", "pvalue")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def effect(self, scorer: str | None = None) -> EffectResult:
        """The metric of a scorer; the only one by default."""
        i = self._place(scorer)
        return self._effect(float(self.estimate[i]), self.draws[:, i], self.null, self.metric)

    def difference(self, first: str, second: str) -> EffectResult:
        """The metric of one scorer less that of another, from the differences within resamples."""
        i, j = self._place(first), self._place(second)
        name = f"{self.metric}: {first} − {second}"
        return self._effect(float(self.estimate[i] - self.estimate[j]), self.draws[:, i] - self.draws[:, j], 0.0, name)

    def differences(self) -> pd.DataFrame:
        """A row per pair of scorers."""
        pairs = list(combinations(self.scorer.tolist(), 2))
        found = [self.difference(*pair) for pair in pairs]
        numbers = {
            "difference": "estimate", "std_error": "std_error", "ci_low": "ci_low", "ci_high": "ci_high",
            "pvalue": "pvalue",
        }  # fmt: skip
        names = {"first": [a for a, _ in pairs], "second": [b for _, b in pairs]}
        return pd.DataFrame(names | {name: [getattr(f, kind) for f in found] for name, kind in numbers.items()})

    def _place(self, scorer: str | None) -> int:
        names = self.scorer.tolist()
        if scorer is None and len(names) == 1:
            return 0
        if scorer not in names:
            raise CausalRecError(f"scorer is {scorer!r}; expected one of {list_some(names)}.")
        return int(names.index(scorer))

    def _effect(self, estimate: float, draws: FloatArray, null: float, estimand: str) -> EffectResult:
        error, low, high, pvalue = percentile_interval(draws, self.confidence_level, null)
        return EffectResult(
            estimate, error, low, high, pvalue, self.confidence_level, self.n_obs, self.method, estimand
        )  # fmt: skip

    def __str__(self) -> str:
        level = format_level(self.confidence_level)
        lines = [f"{self.metric}, {level} intervals of {self.n_resamples:,} resamples, n = {self.n_obs:,}"]
        lines += [
            f"  {name}: {format_number(e)} {format_interval(low, high)}, {pvalue_text(p)}"
            for name, e, low, high, p in zip(
                self.scorer, self.estimate, self.ci_low, self.ci_high, self.pvalue, strict=True
            )
        ]
        if 1 < self.n_scorers <= 5:
            lines += [
                f"  {a} − {b}: {format_number(d)} {format_interval(low, high)}, {pvalue_text(p)}"
                for a, b, d, _, low, high, p in self.differences().itertuples(index=False)
            ]
        return "\n".join([*lines, f"  ({self.method})"])


def percentile_interval(draws: FloatArray, confidence_level: float, null: float) -> tuple[float, float, float, float]:
    """Standard error, ends of the percentile interval, and the p-value of ``null`` that inverts it.

    NaN where draws are; no p-value where all draws are equal.

    Examples
    --------
    >>> error, low, high, pvalue = percentile_interval(np.linspace(-2, 18, 999), 0.9, 0.0)
    >>> round(low, 3), round(high, 3), round(pvalue, 3)
    (-1.0, 17.0, 0.202)
    """
    if np.isnan(draws).any():
        return NAN, NAN, NAN, NAN
    if np.ptp(draws) == 0:
        same = float(draws[0])
        return 0.0, same, same, NAN
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    pvalue = min(1.0, 2 * min(share_of_hits(draws <= null), share_of_hits(draws >= null)))
    return float(draws.std(ddof=1)) if len(draws) > 1 else NAN, float(low), float(high), pvalue
