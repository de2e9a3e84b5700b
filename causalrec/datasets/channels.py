"""Simulated logs of several marketing channels, whose touches cause a known number of conversions.

Conversions are the sum of independent Poisson processes: a user's own, and one that each channel starts with its first
touch. So every conversion has one cause, the causes add up to the conversions exactly, and what a channel causes has
an expectation in closed form, although channels are aimed at users who would convert anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError, TimeError

ORGANIC = "organic"
LOYALTY = ("bronze", "silver", "gold")
DEVICES = ("app", "desktop", "mobile web")
_DAY_S = 86_400
_VISITS = 6  # more are not told apart
_STEEPEST = 2.5  # of a propensity's logit
_EARLIER = 0.2  # how busy the channels are before the period, beside it


@dataclass(frozen=True)
class _Channel:
    """How a channel is aimed, when in the period it comes, how often, and what it causes.

    ``effect`` is the conversions per touched user and 14 days, of a user of average response. The other numbers but
    ``early``, ``late`` (of a beta distribution over the period) and ``more`` (touches after the first, on average) are
    of the logit of being touched.
    """

    effect: float
    level: float
    loyalty: float = 0.0
    past: float = 0.0
    visits: float = 0.0
    app: float = 0.0
    early: float = 2.0
    late: float = 2.0
    more: float = 1.0


CHANNELS: Mapping[str, _Channel] = MappingProxyType({
    "display": _Channel(0.004, -0.9, visits=0.45, early=2.5, late=1.2, more=3.0),
    "email": _Channel(0.012, -0.6, loyalty=0.7, past=0.9, more=0.5),
    "push": _Channel(0.035, -0.8, past=0.7, app=1.4),
    "search": _Channel(0.008, -1.1, past=0.5, visits=0.5, early=3.0, late=1.0, more=0.7),
    "social": _Channel(0.050, -0.5, past=-0.6, loyalty=-0.2, early=1.2, late=3.0, more=1.5),
})  # fmt: skip


@dataclass(frozen=True)
class ChannelLogs:
    """What a platform would see. Times are naive UTC, to the second.

    ``users``: user_id, loyalty, device, visits (in the 30 days before the period, 6 for six or more), all known before
    the period.
    ``touches``: user_id, channel, event_time. ``conversions``: conversion_id, user_id, event_time, value. Both are in
    the order of time. The period in which the channels work is ``[period_start, period_end)``; what it causes is
    counted in ``[period_end, outcome_end)``, where the logs end.
    """

    users: pd.DataFrame = field(repr=False)
    touches: pd.DataFrame = field(repr=False)
    conversions: pd.DataFrame = field(repr=False)
    period_start: pd.Timestamp
    period_end: pd.Timestamp
    outcome_end: pd.Timestamp

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {"users": self.users, "touches": self.touches, "conversions": self.conversions}


@dataclass(frozen=True)
class ChannelsTruth:
    """What each channel causes.

    ``channels`` has a row per channel: ``channel``; ``touched_users`` of the period; ``incremental``, the conversions
    that these touches are expected to cause in the outcome window; ``caused``, those that they did cause there;
    ``att``, the expected ones per touched user. ``causes`` has ``conversion_id`` and ``cause``, a channel or
    ``"organic"``.
    ``users`` has ``user_id``, ``expected_organic`` (conversions in the outcome window without any channel), and
    ``propensity_*`` and ``lift_*`` of each channel: P(touched in the period), and the conversions that a touch is
    expected to cause in the outcome window.
    """

    channels: pd.DataFrame = field(repr=False)
    causes: pd.DataFrame = field(repr=False)
    users: pd.DataFrame = field(repr=False)

    def incremental(self) -> dict[str, float]:
        """By channel, the conversions that its touches are expected to cause."""
        return dict(zip(self.channels["channel"], self.channels["incremental"].astype(float), strict=True))


def simulate_channels(
    n_users: int = 20_000,
    *,
    days_history: int = 60,
    days_period: int = 7,
    days_outcome: int = 14,
    start: str = "2025-01-06",
    confounding: float = 1.0,
    hidden: float = 0.0,
    effect_scale: float = 1.0,
    random_state: int | np.random.SeedSequence = 0,
) -> tuple[ChannelLogs, ChannelsTruth]:
    """Simulate touches of five channels and conversions; returns the logs and, apart from them, the truth.

    The channels are aimed: ``email`` at the loyal and past buyers, ``display`` (retargeting) at recent visitors,
    ``push`` at users of the app, ``social`` at those who have not bought. ``search`` is a click of the user's own,
    which follows visits. Display and search come late in the period and cause little, social comes early and causes
    most. Given what the logs and ``users`` say, a user's channels are independent of one another and of conversions.

    From the first touch of a channel in the period to the end of the logs the user has more conversions, at a steady
    rate that depends on the user's device. Touches of the history are a fifth as frequent, aimed alike and cause
    nothing, so that the truth is of one period.

    Parameters
    ----------
    n_users : int
    days_history, days_period, days_outcome : int
        Lengths of the three periods, each after the other.
    start : str
        First day of the history, UTC.
    confounding : float
        Multiplies how much targeting follows what drives conversions; at 0 touches are random.
    hidden : float
        How much targeting follows the user's rate of conversions beyond all that can be seen; at 0 not at all.
    effect_scale : float
        Multiplies what the channels cause, at least 0.
    random_state : int or SeedSequence
        The same one, the same data. It is not changed.

    Raises
    ------
    CausalRecError
        When a size is not positive, or a scale not a number, or negative where it cannot be.
    TimeError
        When ``start`` is no date.

    Examples
    --------
    >>> logs, truth = simulate_channels(200, random_state=1)
    >>> sorted(logs.touches["channel"].unique())
    ['display', 'email', 'push', 'search', 'social']
    >>> in_outcome = logs.conversions["event_time"] >= logs.period_end
    >>> organic = (truth.causes["cause"] == "organic")[in_outcome].sum()
    >>> bool(organic + truth.channels["caused"].sum() == in_outcome.sum())
    True
    """
    _check({"n_users": n_users, "days_history": days_history, "days_period": days_period,
            "days_outcome": days_outcome}, {"confounding": confounding, "hidden": hidden}, effect_scale)  # fmt: skip
    clock = _Clock.make(start, days_history, days_period, days_outcome)
    rng = np.random.default_rng(random_state)
    people = _People.make(n_users, rng)
    own = _own_conversions(rng, people.rate, clock)
    past = np.bincount(own.user[own.second < clock.period], minlength=n_users)
    touches, bought, truth = [], [own], {}
    for name, channel in CHANNELS.items():
        lift = effect_scale * channel.effect * people.response * days_outcome / 14
        logit = _aim(channel, people, past, confounding, hidden)
        propensity = 1 / (1 + np.exp(-logit))
        touched = rng.random(n_users) < propensity
        found = _touches(rng, channel, touched, clock)
        before = _earlier_touches(rng, channel, _aim(channel, people, np.zeros_like(past), confounding, hidden), clock)
        touches += [(name, found), (name, before)]
        caused = _caused(rng, touched, _first_touch(found, n_users), lift / days_outcome, clock)
        bought.append(caused)
        truth[name] = _Effect(propensity, lift, touched, int((caused.second >= clock.outcome).sum()))
    conversions, causes = _conversions(rng, bought, clock)
    logs = ChannelLogs(
        users=people.frame(), touches=_touch_table(touches, clock), conversions=conversions,
        period_start=clock.stamp(clock.period), period_end=clock.stamp(clock.outcome),
        outcome_end=clock.stamp(clock.end),
    )  # fmt: skip
    return logs, _truth(truth, causes, people.rate * days_outcome)


def _check(sizes: Mapping[str, int], scales: Mapping[str, float], effect_scale: float) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise CausalRecError(f"{name} is {size}; expected at least 1.")
    for name, scale in scales.items():
        if not np.isfinite(scale):
            raise CausalRecError(f"{name} is {scale}; expected a finite number, such as 1.0.")
    if not (np.isfinite(effect_scale) and effect_scale >= 0):
        raise CausalRecError(
            f"effect_scale is {effect_scale}; expected a number of at least 0: a channel adds conversions, it takes "
            "none away."
        )


@dataclass(frozen=True)
class _Clock:
    """Seconds since the start at which the period, the outcome window and the end of the logs come."""

    origin: np.datetime64
    period: int
    outcome: int
    end: int

    @classmethod
    def make(cls, start: str, history: int, period: int, outcome: int) -> _Clock:
        try:
            origin = np.datetime64(start, "us")
        except ValueError as error:
            raise TimeError(f"start is {start!r}; expected a date, such as '2025-01-06'.") from error
        days = np.cumsum([history, period, outcome]) * _DAY_S
        return cls(origin, *map(int, days))

    def times(self, seconds: IntArray) -> pd.Series:
        return pd.Series(self.origin + seconds.astype("timedelta64[s]"), dtype="datetime64[us]")

    def stamp(self, second: int) -> pd.Timestamp:
        return pd.Timestamp(self.origin + np.timedelta64(second, "s"))


@dataclass(frozen=True)
class _People:
    loyalty: IntArray
    device: IntArray
    visits: IntArray
    surprise: FloatArray  # what a user's rate has beyond all that can be seen
    rate: FloatArray  # conversions a day without any channel
    response: FloatArray

    @classmethod
    def make(cls, n: int, rng: np.random.Generator) -> _People:
        loyalty = rng.choice(3, n, p=[0.5, 0.3, 0.2])
        device = rng.choice(3, n, p=[0.4, 0.35, 0.25])
        intent = rng.normal(0, 0.7, n)
        visits = np.minimum(rng.poisson(1.6 * np.exp(intent)), _VISITS)
        surprise = rng.gamma(4, 1 / 4, n)
        rate = 0.011 * np.exp(0.8 * intent + 0.4 * (loyalty - 0.7)) * surprise
        response = np.array([1.3, 0.8, 0.8])[device]
        return cls(loyalty, device, visits, surprise, rate, response)

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({
            "user_id": np.arange(len(self.rate), dtype=np.int64),
            "loyalty": pd.Categorical.from_codes(self.loyalty, pd.Index(list(LOYALTY))),
            "device": pd.Categorical.from_codes(self.device, pd.Index(list(DEVICES))),
            "visits": self.visits.astype(np.int64),
        })  # fmt: skip


@dataclass(frozen=True)
class _Events:
    user: IntArray
    second: IntArray


@dataclass(frozen=True)
class _Effect:
    propensity: FloatArray
    lift: FloatArray
    touched: BoolArray
    caused: int


def _aim(channel: _Channel, people: _People, past: IntArray, confounding: float, hidden: float) -> FloatArray:
    """The logit of being touched: a level, and what is known of a user."""
    follows = (
        channel.loyalty * (people.loyalty - 0.7)
        + channel.past * (np.log1p(past) - 0.45)
        + channel.visits * (people.visits - 1.8)
        + channel.app * ((people.device == 0) - 0.4)
    )
    unseen = hidden * np.log(people.surprise)
    return np.asarray(np.clip(channel.level + confounding * follows + unseen, -_STEEPEST, _STEEPEST))


def _own_conversions(rng: np.random.Generator, rate: FloatArray, clock: _Clock) -> _Events:
    user = np.repeat(np.arange(len(rate)), rng.poisson(rate * clock.end / _DAY_S))
    return _Events(user, rng.integers(0, clock.end, len(user)))


def _touches(rng: np.random.Generator, channel: _Channel, touched: BoolArray, clock: _Clock) -> _Events:
    """Those of the period: at least one of each touched user."""
    users = np.flatnonzero(touched)
    user = np.repeat(users, 1 + rng.poisson(channel.more, len(users)))
    place = rng.beta(channel.early, channel.late, len(user))
    length = clock.outcome - clock.period
    return _Events(user, clock.period + np.minimum((place * length).astype(np.int64), length - 1))


def _earlier_touches(rng: np.random.Generator, channel: _Channel, logit: FloatArray, clock: _Clock) -> _Events:
    periods = clock.period / (clock.outcome - clock.period)
    mean = _EARLIER * (1 + channel.more) / (1 + np.exp(-logit)) * periods
    user = np.repeat(np.arange(len(logit)), rng.poisson(mean))
    return _Events(user, rng.integers(0, clock.period, len(user)))


def _first_touch(touches: _Events, n_users: int) -> IntArray:
    first = np.full(n_users, np.iinfo(np.int64).max)
    np.minimum.at(first, touches.user, touches.second)
    return first


def _caused(rng: np.random.Generator, touched: BoolArray, first: IntArray, daily: FloatArray, clock: _Clock) -> _Events:
    """Conversions at a steady rate, strictly after the first touch."""
    users = np.flatnonzero(touched)
    length = clock.end - first[users] - 1
    user = np.repeat(np.arange(len(users)), rng.poisson(daily[users] * length / _DAY_S))
    second = first[users][user] + 1 + (rng.random(len(user)) * length[user]).astype(np.int64)
    return _Events(users[user], second)


def _touch_table(parts: list[tuple[str, _Events]], clock: _Clock) -> pd.DataFrame:
    frame = pd.DataFrame({
        "user_id": np.concatenate([e.user for _, e in parts]).astype(np.int64),
        "channel": np.repeat([name for name, _ in parts], [len(e.user) for _, e in parts]),
        "second": np.concatenate([e.second for _, e in parts]),
    }).sort_values(["second", "user_id", "channel"], ignore_index=True)  # fmt: skip
    return frame.assign(event_time=clock.times(frame.pop("second").to_numpy()))


def _conversions(rng: np.random.Generator, parts: list[_Events], clock: _Clock) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All conversions in the order of time, and beside them what caused each."""
    user, second = (np.concatenate([getattr(e, name) for e in parts]) for name in ("user", "second"))
    cause = np.repeat([ORGANIC, *CHANNELS], [len(e.user) for e in parts])
    order = np.lexsort((cause, user, second))
    ids = np.arange(len(order), dtype=np.int64)
    value = np.exp(rng.normal(3.2, 0.5, len(order))).round(2)
    conversions = pd.DataFrame({
        "conversion_id": ids, "user_id": user[order].astype(np.int64), "event_time": clock.times(second[order]),
        "value": value,
    })  # fmt: skip
    return conversions, pd.DataFrame({"conversion_id": ids, "cause": cause[order]})


def _truth(effects: Mapping[str, _Effect], causes: pd.DataFrame, organic: FloatArray) -> ChannelsTruth:
    rows = [(name, int(e.touched.sum()), float(e.lift[e.touched].sum()), e.caused) for name, e in effects.items()]
    channels = pd.DataFrame(rows, columns=["channel", "touched_users", "incremental", "caused"])
    channels["att"] = channels["incremental"] / channels["touched_users"].where(channels["touched_users"] > 0)
    users = pd.DataFrame({"user_id": np.arange(len(organic), dtype=np.int64), "expected_organic": organic})
    for name, effect in effects.items():
        users[f"propensity_{name}"], users[f"lift_{name}"] = effect.propensity, effect.lift
    return ChannelsTruth(channels, causes, users)
