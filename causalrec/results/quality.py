"""The quality of an event log: what is wrong with it, and what was dropped for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.results.base import Result, count_text

_ONE = {"events": "event", "users": "user", "users and items": "user and item"}


@dataclass(frozen=True, eq=False)
class QualityResult(Result):
    """What is wrong with an event log, counted.

    Attributes
    ----------
    n_obs, n_users : int
        Events, and users with at least one.
    first_time, last_time : str
        Of all events, UTC; empty if none has a time.
    n_null, n_duplicate, n_skewed : int
        Events that lack a key; copies of others; events at an impossible time. Each event counts once.
    n_several_variants, n_bots : int
        Users.
    n_bot_events : int
    n_out_of_order : int
        Events that came after later ones of their user, and units that took a step without the one before.
    per_day_limit, per_minute_limit : int
        Different events of a user beyond which it is taken for a bot, in a UTC day and in a minute.
    rules : str
        What the checks compare with.
    check : tuple of str, length n_checks
        What was looked for, found or not.
    option : tuple of str
        The option of :func:`causalrec.journeys.clean` that handles it; empty where none does.
    counted : tuple of str
        Whether ``n`` counts events or units, which are users, or users with an item.
    n, users : arrays of int, shape (n_checks,)
        How many, and of how many users.
    share : array, shape (n_checks,)
        Of the events, or of the units that took the step.
    example : tuple of str
        A user it was found with; empty where nothing was found.
    """

    n_obs: int
    n_users: int
    first_time: str
    last_time: str
    n_null: int
    n_duplicate: int
    n_skewed: int
    n_several_variants: int
    n_bots: int
    n_bot_events: int
    n_out_of_order: int
    per_day_limit: int
    per_minute_limit: int
    rules: str
    check: tuple[str, ...] = field(repr=False)
    option: tuple[str, ...] = field(repr=False)
    counted: tuple[str, ...] = field(repr=False)
    n: IntArray = field(repr=False)
    users: IntArray = field(repr=False)
    share: FloatArray = field(repr=False)
    example: tuple[str, ...] = field(repr=False)

    @property
    def found(self) -> tuple[str, ...]:
        """The checks that found something."""
        return tuple(c for c, n in zip(self.check, self.n, strict=True) if n)

    def to_frame(self) -> pd.DataFrame:
        """A row per check."""
        texts = {
            name: np.array(getattr(self, name), dtype=object) for name in ("check", "counted", "example", "option")
        }
        numbers = {"n": self.n, "users": self.users, "share": self.share}
        frame = pd.DataFrame({"check": texts["check"], **numbers, **texts})
        return frame[["check", "n", "counted", "share", "users", "example", "option"]]

    def warnings(self) -> tuple[str, ...]:
        """A sentence for each check that found something."""
        said = []
        for k, check in enumerate(self.check):
            n, users = int(self.n[k]), int(self.users[k])
            if not n:
                continue
            of = f" of {users:,} user{'s' * (users != 1)}" if users else ""
            like = f", such as {self.example[k]!r}" if self.example[k] else ""
            how = f"; option {self.option[k]}" if self.option[k] else ""
            what = self.counted[k] if n > 1 else _ONE[self.counted[k]]
            said.append(f"{check}: {n:,} {what} ({_share(float(self.share[k]))}){of}{like}{how}")
        return tuple(said)

    def __str__(self) -> str:
        head = f"{count_text(self.n_obs, 'event')} of {count_text(self.n_users, 'user')}"
        if self.first_time:
            head += f", {self.first_time} to {self.last_time}"
        found = self.warnings()
        if not found:
            return f"{head}: nothing found in {len(self.check)} checks."
        clean = len(self.check) - len(found)
        return "\n".join(
            [f"{head}; {clean} of {len(self.check)} checks found nothing, these did:", *(f"  {t}" for t in found)]
        )


@dataclass(frozen=True, eq=False)
class CleaningResult(Result):
    """How many events each rule dropped.

    Attributes
    ----------
    n_obs, n_kept : int
        Events before and after.
    rule : tuple of str
        The options that were set to drop, in the order in which they do.
    dropped : array of int, shape (n_rules,)
        An event that breaks several rules counts for the first.
    """

    n_obs: int
    n_kept: int
    rule: tuple[str, ...]
    dropped: IntArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per rule."""
        return pd.DataFrame({"rule": np.array(self.rule, dtype=object), "dropped": self.dropped})

    def __str__(self) -> str:
        parts = ", ".join(f"{n:,} by {rule}" for rule, n in zip(self.rule, self.dropped.tolist(), strict=True) if n)
        return f"kept {self.n_kept:,} of {count_text(self.n_obs, 'event')}" + (f"; dropped {parts}" if parts else "")


def _share(value: float) -> str:
    return f"{value:.2%}" if value >= 5e-5 else f"{value:.1e}"
