"""What a running experiment says at a look: stop or go on, and how it came to that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.results.abtest import ABResult
from causalrec.results.base import Result, format_level, format_number, pvalue_text, written_interval
from causalrec.results.group_sequential import StagewiseResult

_COMPARISONS = ("metric", "treatment", "decides", "alpha", "spent", "pvalue", "state", "answer", "since")
_VALUES = ("estimate", "std_error", "statistic", "ci_low", "ci_high", "look_pvalue", "fixed_low", "fixed_high", "bound")


@dataclass(frozen=True, eq=False)
class MonitorResult(Result):
    """A look at a running experiment, and all looks before it.

    Attributes
    ----------
    decision : str
        ``"stop"`` or ``"continue"``.
    reason : str
    look : int
        From 1.
    label : str
        Of the data that were added, such as their day.
    n_obs : int
        Units of all arms so far.
    n_max, fraction : float
        Units planned, and ``n_obs`` as a share of them; NaN where none are.
    inference, stop_when : str
    confidence_level : float
        Of the experiment.
    split_pvalue : float
        Of the arms' sizes, valid at every look: the smallest so far; NaN where no split was designed.
    split_mismatch : bool
    control : str
    effects : tuple of ABResult
        At this look, at each comparison's own level; those that could be computed.
    stopped : tuple of StagewiseResult
        Of a group-sequential plan: what is known of the comparisons that have stopped, allowing for the looks.
    notes, labels : tuple of str
        Labels of all looks.
    units : array of shape (n_looks,)
    metric, treatment, state, answer : arrays of shape (n_comparisons,)
        ``state`` is ``"open"``, ``"rejected"`` (the null), ``"futile"`` (given up), ``"not shown"`` (at the planned
        end), or ``"unknown"`` where it cannot be computed yet.
    decides : array of bool
        Whether the comparison counts for the decision.
    alpha, spent, pvalue : arrays
        The comparison's own error, what is spent of it (NaN: nothing is, as looks are free), and the smallest p-value
        so far.
    since : array of int
        The look of the answer; 0 while there is none.
    row_comparison, row_look : arrays of int, shape (n_rows,)
        Of the history: which comparison (from 0) and look (from 1).
    estimate, std_error, statistic, ci_low, ci_high, look_pvalue, fixed_low, fixed_high, bound : arrays, shape (n_rows,)
        At each look: the effect, its interval and p-value, the interval that a fixed test would give then, and the
        bound of the statistic in standard errors.
    """

    decision: str
    reason: str
    look: int
    label: str
    n_obs: int
    n_max: float
    fraction: float
    inference: str
    stop_when: str
    confidence_level: float
    split_pvalue: float
    split_mismatch: bool
    control: str
    effects: tuple[ABResult, ...] = field(repr=False)
    stopped: tuple[StagewiseResult, ...] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    units: IntArray = field(repr=False)
    metric: AnyArray = field(repr=False)
    treatment: AnyArray = field(repr=False)
    decides: AnyArray = field(repr=False)
    alpha: FloatArray = field(repr=False)
    spent: FloatArray = field(repr=False)
    pvalue: FloatArray = field(repr=False)
    state: AnyArray = field(repr=False)
    answer: AnyArray = field(repr=False)
    since: IntArray = field(repr=False)
    row_comparison: IntArray = field(repr=False)
    row_look: IntArray = field(repr=False)
    estimate: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    statistic: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    look_pvalue: FloatArray = field(repr=False)
    fixed_low: FloatArray = field(repr=False)
    fixed_high: FloatArray = field(repr=False)
    bound: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per comparison, as it stands."""
        return pd.DataFrame({name: getattr(self, name) for name in _COMPARISONS})

    def history(self, metric: str | None = None, treatment: str | None = None) -> pd.DataFrame:
        """A row per look and comparison: of all, or of one metric or arm.

        Raises
        ------
        CausalRecError
            For a metric or an arm that is not compared.
        """
        frame = pd.DataFrame(
            {
                "look": self.row_look,
                "label": np.array(self.labels, dtype=object)[self.row_look - 1],
                "n_obs": self.units[self.row_look - 1],
                "metric": self.metric[self.row_comparison],
                "treatment": self.treatment[self.row_comparison],
                **{name: getattr(self, name) for name in _VALUES},
            }
        )
        for column, wanted in (("metric", metric), ("treatment", treatment)):
            known = list(dict.fromkeys(getattr(self, column).tolist()))
            if wanted is not None and wanted not in known:
                raise CausalRecError(f"{column} {wanted!r} is not compared; expected one of {', '.join(known)}.")
            frame = frame if wanted is None else frame[frame[column] == wanted]
        return frame.reset_index(drop=True)

    def __str__(self) -> str:
        planned = "" if math.isnan(self.n_max) else f", {self.fraction:.1%} of the {self.n_max:,.0f} planned"
        label = "" if self.label == f"look {self.look}" else f" ({self.label})"
        lines = [f"{self.decision.upper()} at look {self.look}{label}, {self.n_obs:,} units{planned}: {self.reason}"]
        lines += [f"  {line}" for line in self._comparison_lines()]
        if not math.isnan(self.split_pvalue):
            found = "NOT as designed" if self.split_mismatch else "as designed"
            lines.append(f"  split: {found} ({pvalue_text(self.split_pvalue)}, valid at every look)")
        lines += [f"  {each}" for each in self.stopped]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _comparison_lines(self) -> list[str]:
        shown = {(e.metric, e.treatment): e for e in self.effects}
        several = len(set(self.treatment.tolist())) > 1
        lines = []
        for k, (metric, treatment) in enumerate(zip(self.metric.tolist(), self.treatment.tolist(), strict=True)):
            name = f"{metric}, {treatment}" if several else metric
            role = "" if self.decides[k] else " (does not decide)"
            effect = shown.get((metric, treatment))
            size = "" if effect is None else f": {written_interval(effect.estimate, effect.ci_low, effect.ci_high)}"
            since = f" since look {self.since[k]}" if self.since[k] else ""
            lines.append(f"{name}{role}{size}, {self.answer[k]}{since}{self._cost(k)}")
        return lines

    def _cost(self, k: int) -> str:
        """P-value and what is spent, in words."""
        if math.isnan(self.pvalue[k]):
            return ""
        alpha = format_level(float(self.alpha[k]))
        p = pvalue_text(float(self.pvalue[k]))
        if math.isnan(self.spent[k]):
            return f" ({p}, the smallest so far, at {alpha})"
        return f" ({p}; {format_number(float(self.spent[k]))} spent of {format_number(float(self.alpha[k]))})"


@dataclass(frozen=True, eq=False)
class TimeSavedResult(Result):
    """When several ways of looking would have stopped each of many experiments that have ended.

    Attributes
    ----------
    methods : tuple of str
    unit : str
        Of time, such as ``"days"``.
    n_experiments : int
    duration : array of shape (n_experiments,)
        How long each ran.
    stopped_at : array of shape (n_methods, n_experiments)
        When it would have stopped with an answer; NaN where it would not have.
    """

    methods: tuple[str, ...]
    unit: str
    n_experiments: int
    duration: FloatArray = field(repr=False)
    stopped_at: FloatArray = field(repr=False)

    @property
    def saved(self) -> FloatArray:
        """Time between stop and end, of shape (n_methods, n_experiments); NaN without a stop."""
        return np.asarray(self.duration - self.stopped_at)

    def to_frame(self) -> pd.DataFrame:
        """A row per method: how many stop with an answer, how many of them before the end, and the time saved by those.

        ``share_of_time_saved`` is of the time of all experiments.
        """
        rows = []
        for method, saved in zip(self.methods, self.saved, strict=True):
            early = saved[saved > 0]
            rows.append(
                {
                    "method": method, "answers": int(np.isfinite(saved).sum()), "early": len(early),
                    "median_saved": float(np.median(early)) if len(early) else math.nan,
                    "total_saved": float(early.sum()), "share_of_time_saved": float(early.sum() / self.duration.sum()),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        lines = [
            f"{row.method}: {row.answers:,} of {self.n_experiments:,} with an answer, {row.early:,} before the end, by "
            f"{format_number(row.median_saved)} {self.unit} (median)"
            for row in self.to_frame().itertuples()
        ]
        return "\n".join(lines)
