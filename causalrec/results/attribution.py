"""Who gets the credit for conversions by a rule, and what a channel causes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.results.base import NAN, Result, count_text, format_interval, format_level, format_number
from causalrec.results.observational import AdjustedEffect

NO_CHANNEL = "(none)"
"""Who has the credit for conversions that no touch precedes."""
ASSUMED = (
    "no unmeasured targeting: whoever a channel touches differs from others only in what the covariates say",
    "what earlier touches still cause (carry-over) is the same for touched and untouched users with equal covariates",
    "a user's touches do not move other users' conversions",
    "one period: conversions within it, and whatever comes after the outcome window, are not counted",
    "effects add up over channels only where channels do not work on one another",
)
"""What an incremental effect from logs rests on."""
_REACHED = 0.01  # of the outcome window: how long before its end the last conversion may be without a word


@dataclass(frozen=True, eq=False)
class CreditResult(Result):
    """Conversions by channel, as rules share them out.

    Attributes
    ----------
    n_conversions, n_touched : int
        All conversions, and those that some touch precedes within the window.
    n_touches : int
        Touches that could be used: with a user and a time.
    n_touches_left_out, n_conversions_without_user : int
        Touches without a user or a time; conversions without, which are nobody's.
    window, half_life : str
        How long before a conversion a touch counts; after what time it counts half (by time decay).
    total_value : float
        Of all conversions; NaN where no value was asked for.
    channels : tuple of str
        In the order of their names; ``"(none)"`` is the last.
    rules : tuple of str
    credit : array of shape (channels, rules)
        Each column adds up to ``n_conversions``.
    value : array of shape (channels, rules), or None
        The same of the conversions' values; adds up to ``total_value``.
    """

    n_conversions: int
    n_touched: int
    n_touches: int
    n_touches_left_out: int
    n_conversions_without_user: int
    window: str
    half_life: str
    total_value: float
    channels: tuple[str, ...]
    rules: tuple[str, ...]
    credit: FloatArray = field(repr=False)
    value: FloatArray | None = field(repr=False, default=None)

    @property
    def share(self) -> FloatArray:
        """The credit as shares of the conversions that have a channel, shape (channels - 1, rules); NaN without any."""
        known = self.credit[:-1]
        return np.asarray(known / self.n_touched if self.n_touched else np.full(known.shape, NAN))

    @property
    def counted(self) -> str:
        """Which touches count, in words."""
        if self.window == "all time":
            return "touches at any time before each"
        return f"touches {'from' if ' to ' in self.window else 'of the'} {self.window} before each"

    def of(self, rule: str) -> dict[str, float]:
        """By channel, the credit of a rule. Raises :class:`CausalRecError` for one that was not asked for."""
        column = self._column(rule)
        return {c: float(x) for c, x in zip(self.channels, self.credit[:, column], strict=True)}

    def _column(self, rule: str) -> int:
        if rule not in self.rules:
            raise CausalRecError(f"there is no credit by {rule!r}; expected one of {', '.join(self.rules)}.")
        return self.rules.index(rule)

    def to_frame(self) -> pd.DataFrame:
        """A row per channel, a column per rule; ``value_*`` beside them where values were asked for."""
        frame = pd.DataFrame(self.credit, columns=list(self.rules))
        frame.insert(0, "channel", list(self.channels))
        if self.value is None:
            return frame
        return pd.concat([frame, pd.DataFrame(self.value, columns=[f"value_{r}" for r in self.rules])], axis=1)

    def __str__(self) -> str:
        table = [("channel", *(r.replace("_", " ") for r in self.rules))]
        table += [(c, *map(_written, row)) for c, row in zip(self.channels, self.credit, strict=True)]
        table.append(("all", *[f"{self.n_conversions:,}"] * len(self.rules)))
        head, *said = self.said
        return "\n".join([head, *aligned(table), *(f"  {line}" for line in said)])

    @property
    def said(self) -> tuple[str, ...]:
        """The sentences of the text, without its table."""
        none = self.n_conversions - self.n_touched
        said = (
            f"Credit for {count_text(self.n_conversions, 'conversion')} by rule, {self.counted}; "
            f"{none:,} without any touch",
            "A rule shares out conversions; it does not say what a channel caused.",
        )
        if not (self.n_touches_left_out or self.n_conversions_without_user):
            return said
        return (
            *said,
            f"Without a user or a time: {count_text(self.n_touches_left_out, 'touch', 'es')}, left out; "
            f"{count_text(self.n_conversions_without_user, 'conversion')}, credited to {NO_CHANNEL}.",
        )


@dataclass(frozen=True, eq=False)
class AttributionResult(Result):
    """What each channel caused, with its interval, and how far the rules are from it.

    All numbers are of the same touches, those of the period, and the same outcomes, those of the window after it. They
    are conversions, or the sum of their values where that was asked for (``outcome``).

    Attributes
    ----------
    outcome : str
    period_start, period_end, outcome_end : str
        Touches of ``[period_start, period_end)``, outcomes of ``[period_end, outcome_end)``, UTC.
    n_users : int
    total : float
        The outcome of all users.
    method : str
    confidence_level : float
        Of each channel's interval by itself.
    channels, rules : tuple of str
    touched : int array of shape (channels,)
        Users with a touch in the period.
    incremental, std_error, ci_low, ci_high : arrays of shape (channels,)
        The effect on a touched user (att) times ``touched``; NaN where it could not be estimated.
    naive : array of shape (channels,)
        The same by the plain difference of touched and other users.
    credit : array of shape (channels, rules)
    without_touch : float
        The outcome of users without any touch in the period, which no rule credits to a channel.
    effects : tuple of AdjustedEffect
        Those that could be estimated, in the order of the channels.
    failures : tuple of str
        ``"channel: why"`` of the others.
    covariates : tuple of str
        What was adjusted for, all from before the period.
    truth : array of shape (channels,), or None
        Where it is known.
    last_conversion : str
        The last in the log, UTC; empty where that is not known.
    """

    outcome: str
    period_start: str
    period_end: str
    outcome_end: str
    n_users: int
    total: float
    method: str
    confidence_level: float
    without_touch: float
    channels: tuple[str, ...]
    rules: tuple[str, ...]
    touched: IntArray = field(repr=False)
    incremental: FloatArray = field(repr=False)
    std_error: FloatArray = field(repr=False)
    ci_low: FloatArray = field(repr=False)
    ci_high: FloatArray = field(repr=False)
    naive: FloatArray = field(repr=False)
    credit: FloatArray = field(repr=False)
    effects: tuple[AdjustedEffect, ...] = field(repr=False)
    failures: tuple[str, ...]
    covariates: tuple[str, ...]
    truth: FloatArray | None = field(repr=False, default=None)
    last_conversion: str = ""

    @property
    def gap(self) -> FloatArray:
        """Credit less what was caused, shape (channels, rules)."""
        return np.asarray(self.credit - self.incremental[:, None])

    @property
    def outside(self) -> FloatArray:
        """1 where a rule's credit lies outside the channel's interval, else 0; NaN without one. (channels, rules)"""
        low, high = self.ci_low[:, None], self.ci_high[:, None]
        outside = ((self.credit < low) | (self.credit > high)).astype(np.float64)
        return np.where(np.isnan(low + high), NAN, outside)

    @property
    def distance(self) -> FloatArray:
        """Of each rule: the sum of its gaps without their signs, over channels that have an effect."""
        return np.asarray(np.nansum(np.abs(self.gap), axis=0))

    @property
    def misplaced(self) -> FloatArray:
        """Of each rule: the share of its credit that is with the wrong channel, from 0 to 1.

        That is half the sum of differences between the shares of credit and those of what was caused, over channels
        that have an effect; one below zero caused nothing. NaN where nothing was caused, or credited.
        """
        known = np.isfinite(self.incremental)
        caused, credit = np.maximum(self.incremental[known], 0.0), self.credit[known]
        if not caused.sum() > 0:
            return np.full(len(self.rules), NAN)
        sums = credit.sum(axis=0)
        shares = np.divide(credit, sums, out=np.full(credit.shape, NAN), where=sums > 0)
        return np.asarray(np.abs(shares - (caused / caused.sum())[:, None]).sum(axis=0) / 2)

    def to_frame(self) -> pd.DataFrame:
        """A row per channel."""
        frame = pd.DataFrame({
            "channel": self.channels, "touched": self.touched, "incremental": self.incremental,
            "std_error": self.std_error, "ci_low": self.ci_low, "ci_high": self.ci_high, "naive": self.naive,
        })  # fmt: skip
        for k, rule in enumerate(self.rules):
            frame[rule] = self.credit[:, k]
        return frame if self.truth is None else frame.assign(truth=self.truth)

    def __str__(self) -> str:
        level = format_level(self.confidence_level)
        truth = [] if self.truth is None else ["truth"]
        table = [
            ("channel", "touched", "caused", f"{level} CI", *truth, "naive", *(r.replace("_", " ") for r in self.rules))
        ]
        for k, channel in enumerate(self.channels):
            known = [] if self.truth is None else [_written(self.truth[k])]
            table.append((
                channel, f"{self.touched[k]:,}", _written(self.incremental[k]),
                _interval(self.ci_low[k], self.ci_high[k]), *known, _written(self.naive[k]),
                *map(_written, self.credit[k]),
            ))  # fmt: skip
        caused = f"sum {_written(float(np.nansum(self.incremental)))}"
        blanks = [""] * (2 + len(truth))
        table.append(("all", "", caused, *blanks, *map(_written, self.credit.sum(axis=0))))
        head, *said = self.said
        return "\n".join([head, *aligned(table), *(f"  {line}" for line in said)])

    @property
    def said(self) -> tuple[str, ...]:
        """The sentences of the text, without its table: what was found, how far rules are from it, what it rests on."""
        return (
            f"What channels caused: {self.outcome} of {self.n_users:,} users from {_day(self.period_end)} to "
            f"{_day(self.outcome_end)}, by touches from {_day(self.period_start)} to {_day(self.period_end)}; "
            f"{_written(self.total)} in all",
            *self._reach(),
            *self._distances(),
            *(f"no effect of {text}" for text in self.failures),
            f"By {self.method}. Believe it as far as you believe:",
            *(f"- {text}" for text in ASSUMED),
        )

    def _reach(self) -> list[str]:
        """A sentence where the log has nothing of the outcome window's end, more than a hundredth of it."""
        if not self.last_conversion:
            return []
        first, end, last = map(pd.Timestamp, (self.period_end, self.outcome_end, self.last_conversion))
        if last >= end - _REACHED * (end - first):
            return []
        return [
            f"The last conversion is of {last:%Y-%m-%d %H:%M}, {(end - last) / (end - first):.0%} of the window before "
            "its end: if the log ends there, later conversions are missing, not none, and the effects are of less time."
        ]

    def _distances(self) -> list[str]:
        known = np.isfinite(self.incremental)
        if not known.any():
            return []
        given, caused = self.credit[known].sum(axis=0), float(self.incremental[known].sum())
        spread = _written(float(given.min()))
        if given.max() - given.min() > 0.05:
            spread += f" to {_written(float(given.max()))}"
        lines = [f"Rules give these channels {spread}; they caused {_written(caused)}."]
        rows = sorted(
            zip(np.nan_to_num(self.misplaced, nan=9.0), np.nansum(self.outside, axis=0), self.rules, strict=True)
        )
        said = (
            f"{rule.replace('_', ' ')} {'–' if share > 1 else f'{share:.0%}'} ({int(n)} of {int(known.sum())})"
            for share, n, rule in rows
        )
        lines.append("Credit with the wrong channel (and channels whose interval it misses): " + ", ".join(said))
        return lines


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text in columns, the first one to the left and the others to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]


def _written(value: float) -> str:
    """Conversions for a person: one decimal below a hundred."""
    if math.isnan(value):
        return format_number(value)
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _day(time: str) -> str:
    """A time without what says midnight."""
    return time.removesuffix(" 00:00:00")


def _interval(low: float, high: float) -> str:
    return format_interval(NAN, NAN) if math.isnan(low) else f"[{_written(low)}, {_written(high)}]"
