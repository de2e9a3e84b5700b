"""Scorers compared on the same rows: who ranks better, who worse, and where that cannot be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError
from causalrec.results.base import Result, format_level, short_pvalue, written_interval
from causalrec.results.effects import EffectResult

PairVerdict: TypeAlias = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True, eq=False)
class ScorerComparisonResult(Result):
    """A metric of several scorers, and of every pair the difference on the same rows.

    Attributes
    ----------
    metric : str
        ``"qini"``, ``"uplift_at_10pct"``, ``"r_loss"``, …
    higher_is_better : bool
        False for losses.
    best : str
        The scorer with the best estimate (empty where none has one); whether it is better than the others is what the
        pairs say.
    baseline : str
        The scorer that the others are compared with; empty where every pair is compared.
    n_obs, n_scorers, n_pairs : int
    scorer : array of shape (m,)
        Names, as given.
    estimate, std_error, ci_low, ci_high, pvalue : arrays of shape (m,)
    first, second : arrays of shape (n_pairs,)
        Names.
    difference, difference_std_error, difference_ci_low, difference_ci_high, difference_pvalue : arrays of (n_pairs,)
        The metric of the first less that of the second. Intervals and p-values are of one pair each.
    adjusted_pvalue : array of shape (n_pairs,)
        Corrected by Holm's method for the number of pairs.
    """

    metric: str
    higher_is_better: bool
    best: str
    baseline: str
    confidence_level: float
    n_obs: int
    n_scorers: int
    n_pairs: int
    method: str
    scorer: AnyArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    first: AnyArray = field(repr=False)
    second: AnyArray = field(repr=False)
    difference: FloatArray = field(repr=False)
    difference_std_error: FloatArray = field(repr=False)
    difference_ci_low: FloatArray = field(repr=False)
    difference_ci_high: FloatArray = field(repr=False)
    difference_pvalue: FloatArray = field(repr=False)
    adjusted_pvalue: FloatArray = field(repr=False)

    @property
    def verdict(self) -> tuple[PairVerdict, ...]:
        """For each pair whether the first is better or worse: its own interval leaves zero out, or it cannot tell."""
        above, below = self.difference_ci_low > 0, self.difference_ci_high < 0
        better, worse = (above, below) if self.higher_is_better else (below, above)
        return tuple("better" if a else "worse" if b else "cannot tell" for a, b in zip(better, worse, strict=True))

    def score(self, name: str) -> EffectResult:
        """The metric of a scorer.

        Raises
        ------
        CausalRecError
            For an unknown name.
        """
        at = np.flatnonzero(self.scorer == name)
        if len(at) == 0:
            raise CausalRecError(f"there is no scorer {name!r}; expected one of {list_some(map(str, self.scorer))}.")
        i = int(at[0])
        return EffectResult(
            float(self.estimate[i]), float(self.std_error[i]), float(self.ci_low[i]), float(self.ci_high[i]),
            float(self.pvalue[i]), self.confidence_level, self.n_obs, self.method, f"{self.metric} of {name}",
        )  # fmt: skip

    def pair(self, first: str, second: str) -> EffectResult:
        """The metric of a scorer less that of another, in either order.

        Raises
        ------
        CausalRecError
            For a pair that was not compared.
        """
        for a, b, sign in ((first, second, 1.0), (second, first, -1.0)):
            at = np.flatnonzero((self.first == a) & (self.second == b))
            if len(at):
                i = int(at[0])
                low, high = sorted((sign * self.difference_ci_low[i], sign * self.difference_ci_high[i]))
                return EffectResult(
                    float(sign * self.difference[i]), float(self.difference_std_error[i]), float(low), float(high),
                    float(self.difference_pvalue[i]), self.confidence_level, self.n_obs, self.method,
                    f"{self.metric} of {first} less that of {second}",
                )  # fmt: skip
        pairs = [f"{a} – {b}" for a, b in zip(self.first, self.second, strict=True)]
        raise CausalRecError(f"{first!r} and {second!r} were not compared; there is {list_some(pairs)}.")

    def scores(self) -> pd.DataFrame:
        """A row per scorer, best first."""
        names = ("scorer", "estimate", "std_error", "ci_low", "ci_high", "pvalue")
        frame = pd.DataFrame({name: getattr(self, name) for name in names})
        return frame.sort_values("estimate", ascending=not self.higher_is_better, kind="stable", ignore_index=True)

    def to_frame(self) -> pd.DataFrame:
        """A row per pair."""
        kinds = ("std_error", "ci_low", "ci_high", "pvalue")
        return pd.DataFrame(
            {"first": self.first, "second": self.second, "difference": self.difference}
            | {kind: getattr(self, f"difference_{kind}") for kind in kinds}
            | {"adjusted_pvalue": self.adjusted_pvalue, "verdict": list(self.verdict)}
        )

    def __str__(self) -> str:
        better = "" if self.higher_is_better else " (less is better)"
        level = format_level(self.confidence_level)
        head = (
            f"{self.metric}{better} of {self.n_scorers} scorers on the same n = {self.n_obs:,} rows, {level} intervals"
        )
        results = {name: self.score(name) for name in self.scores()["scorer"]}
        scores = [
            (name, written_interval(r.estimate, r.ci_low, r.ci_high), *_pvalues(r.pvalue))
            for name, r in results.items()
        ]
        pairs = [
            (f"{a} – {b}", written_interval(d, low, high), *_pvalues(p, adjusted), verdict)
            for a, b, d, low, high, p, adjusted, verdict in zip(
                self.first, self.second, self.difference, self.difference_ci_low, self.difference_ci_high,
                self.difference_pvalue, self.adjusted_pvalue, self.verdict, strict=True,
            )
        ]  # fmt: skip
        between = f"differences from {self.baseline}" if self.baseline else "differences of every pair"
        if self.n_pairs > 1:
            between += f" (each with its own interval; Holm's p-value counts all {self.n_pairs})"
        return "\n".join([head, *_columns(scores), between, *_columns(pairs), self.method])


def _pvalues(pvalue: float, adjusted: float | None = None) -> tuple[str, ...]:
    words = [f"p {'–' if np.isnan(pvalue) else short_pvalue(pvalue)}"]
    if adjusted is not None:
        words.append(f"Holm {'–' if np.isnan(adjusted) else short_pvalue(adjusted)}")
    return tuple(words)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
