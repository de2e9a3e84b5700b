"""A simulated experiment of a music service: 90/10, heavy tails, and effects that are known exactly.

A user's traits are drawn independently of each other, and every outcome has a mean in closed form given them, so the
effects in all users, on one device or in one country are sums over a small table and not estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError

CONTROL, TREATMENT = "control", "treatment"
START = np.datetime64("2025-03-03", "us")
DAYS, LAST_EXPOSURE = 28, 24  # of the experiment; users come in its first 24 days
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class _Trait:
    """A trait's levels with their shares, how much more its users listen, and how much stronger the effect is."""

    levels: tuple[str, ...]
    share: tuple[float, ...]
    listening: tuple[float, ...]
    response: tuple[float, ...]

    def mean(self, *factors: tuple[float, ...]) -> float:
        """The mean of a product of factors over the users."""
        return float(np.prod([self.share, *factors], axis=0).sum())

    def only(self, level: str) -> _Trait:
        """The same with all users at one level."""
        return _Trait(self.levels, tuple(float(each == level) for each in self.levels), self.listening, self.response)


TRAITS: Mapping[str, _Trait] = MappingProxyType({
    "device": _Trait(("phone", "desktop", "speaker"), (0.6, 0.3, 0.1), (1.0, 0.8, 1.5), (1.0, 0.4, 2.5)),
    "country": _Trait(
        ("BR", "DE", "FR", "IN", "US"), (0.2, 0.15, 0.1, 0.25, 0.3),
        (0.9, 1.0, 1.0, 0.8, 1.2), (1.0, 1.2, 1.1, 0.0, 1.3),
    ),
    "age_band": _Trait(
        ("16-24", "25-34", "35-44", "45-54", "55+"), (0.25, 0.3, 0.2, 0.15, 0.1), (1.4, 1.1, 0.9, 0.8, 0.6), (1.0,) * 5
    ),
})  # fmt: skip

MINUTES, SESSIONS, MINUTES_A_STREAM = 400.0, 12.0, 3.5  # of a level-1 user in two weeks
_LASTING, _PASSING = 0.8, 0.5  # sd of the log of listening: between users, and within a user over time
_OUTLIER_SHARE, _OUTLIER_FACTOR = 0.002, 15.0  # who leaves the music on
_SKIP_ALPHA, _SKIP_BETA, _SKIP_CHANGE = 8.0, 24.0, -0.02
_CONVERTED, _CONVERTED_MORE = 0.06, 0.012
_LIFETIME, _LIFETIME_TREATED = 20.0, 23.0  # mean days to the last activity


@dataclass(frozen=True)
class ServiceTruth:
    """The exact effects: ``effects`` has the columns metric, dimension, group, control, effect, relative_effect.

    ``dimension`` and ``group`` are empty for all users; ``control`` is the metric's expectation under control. The
    metrics are ``minutes``, ``sessions`` (no effect), ``skip_rate`` (skips per stream), ``converted`` and
    ``retained_7d``. ``minutes_std`` is the standard deviation of minutes under control.
    """

    effects: pd.DataFrame = field(repr=False)
    minutes_std: float

    def effect(self, metric: str, dimension: str = "", group: str = "") -> float:
        """The effect on a metric, of all users or of a group.

        Raises
        ------
        CausalRecError
            For a metric or a group without known effect.
        """
        rows = self.effects.set_index(["metric", "dimension", "group"])["effect"]
        if (metric, dimension, group) not in rows.index:
            known = list(dict.fromkeys(self.effects["metric"]))
            raise CausalRecError(
                f"no effect is known of {metric!r} in {dimension or 'all'} = {group or 'all'}; the metrics are "
                f"{list_some(known)}, the dimensions {list_some(TRAITS)}.{nearest(metric, known)}"
            )
        return float(rows[metric, dimension, group])


def simulate_service(
    n_users: int = 40_000, *, effect: float = 0.05, treated_share: float = 0.1, random_state: int = 0
) -> tuple[pd.DataFrame, ServiceTruth]:
    """Simulate the experiment; returns a row per user and, apart from it, the truth.

    The columns are user_id, variant (control, treatment), device, country, age_band, exposed_at and last_seen (UTC),
    sessions_pre and minutes_pre (of the two weeks before), sessions, minutes, streams and skips (of the two weeks
    after exposure), and converted (0/1, to premium).

    - minutes are log-normal with a lasting part that minutes_pre share; 0.2% of the users leave the music on and have
      15 times as many. The treatment multiplies them by 1 + lift; the lift is largest on speakers, zero in IN.
    - sessions follow the same lasting part and are not changed.
    - Each user skips a share of streams, 25% in the mean; the treatment lowers it by 2%.
    - 6% convert, under treatment 1.2 points more.
    - The time from exposure to the last activity is exponential with a mean of 20 days, under treatment 23, and cut at
      the end of the experiment, 28 days after its start.

    Parameters
    ----------
    n_users : int
    effect : float
        On minutes, over all users, in their standard deviations under control (Cohen's d).
    treated_share : float
        P(treatment), in (0, 1).
    random_state : int
        The same one, the same data.

    Raises
    ------
    CausalRecError
        When ``n_users`` is not positive, ``treated_share`` not in (0, 1), or ``effect`` not a number >= 0.

    Examples
    --------
    >>> frame, truth = simulate_service(2_000, random_state=1)
    >>> len(frame), round(truth.effect("minutes") / truth.minutes_std, 6), truth.effect("minutes", "country", "IN")
    (2000, 0.05, 0.0)
    """
    _check(n_users, treated_share, effect)
    rng = np.random.default_rng(random_state)
    traits = {name: rng.choice(len(t.levels), n_users, p=t.share) for name, t in TRAITS.items()}
    treated = rng.random(n_users) < treated_share
    lasting = _log_normal(rng, _LASTING, n_users)
    level = np.prod([np.array(TRAITS[name].listening)[codes] for name, codes in traits.items()], axis=0) * lasting
    response = np.prod([np.array(TRAITS[name].response)[codes] for name, codes in traits.items()], axis=0)

    lift = np.where(treated, _lift_scale(effect) * response, 0.0)
    loud = np.where(rng.random(n_users) < _OUTLIER_SHARE, _OUTLIER_FACTOR, 1.0)
    minutes = MINUTES * level * loud * _log_normal(rng, _PASSING, n_users) * (1 + lift)
    streams = rng.poisson(minutes / MINUTES_A_STREAM)
    skipping = rng.beta(_SKIP_ALPHA, _SKIP_BETA, n_users) * np.where(treated, 1 + _SKIP_CHANGE, 1.0)
    exposed = rng.random(n_users) * LAST_EXPOSURE
    seen = np.minimum(exposed + rng.exponential(np.where(treated, _LIFETIME_TREATED, _LIFETIME)), DAYS)
    frame = pd.DataFrame(
        {
            "user_id": np.arange(1, n_users + 1),
            "variant": np.where(treated, TREATMENT, CONTROL),
            **{name: np.array(TRAITS[name].levels, dtype=object)[codes] for name, codes in traits.items()},
            "exposed_at": _times(exposed),
            "last_seen": _times(seen),
            "sessions_pre": rng.poisson(SESSIONS * level),
            "minutes_pre": np.round(MINUTES * level * _log_normal(rng, _PASSING, n_users), 3),
            "sessions": rng.poisson(SESSIONS * level),
            "minutes": np.round(minutes, 3),
            "streams": streams,
            "skips": rng.binomial(streams, skipping),
            "converted": (rng.random(n_users) < _CONVERTED + _CONVERTED_MORE * treated).astype(np.int64),
        }
    )
    return frame, ServiceTruth(_effects(effect), _minutes_std())


def simulate_service_days(
    n_users: int = 20_000,
    *,
    n_days: int = 14,
    lasting: float = 2.0,
    novelty: float = 4.0,
    half_life: float = 2.0,
    treated_share: float = 0.5,
    random_state: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate minutes by day since exposure, with an effect that wears off: novelty.

    Returns a row per user and day (user_id, variant, day from 0, minutes), and the truth, a row per day (day, effect):
    ``lasting + novelty x 2^(-day / half_life)`` minutes.

    Parameters
    ----------
    n_users, n_days : int
    lasting, novelty : float
        Minutes a day: the part of the effect that stays, and what the first day has on top.
    half_life : float
        Days in which the latter halves.
    treated_share : float
        P(treatment), in (0, 1).
    random_state : int

    Raises
    ------
    CausalRecError
        When a size or ``half_life`` is not positive, or ``treated_share`` not in (0, 1).

    Examples
    --------
    >>> days, truth = simulate_service_days(100, n_days=3, random_state=1)
    >>> len(days), truth["effect"].round(2).tolist()
    (300, [6.0, 4.83, 4.0])
    """
    _check(n_users, treated_share, 0.0)
    if n_days < 1 or not half_life > 0:
        raise CausalRecError(f"found n_days={n_days}, half_life={half_life}; expected both > 0.")
    rng = np.random.default_rng(random_state)
    day = np.arange(n_days)
    effect = lasting + novelty * 2.0 ** (-day / half_life)
    treated = rng.random(n_users) < treated_share
    usual = MINUTES / 14 * _log_normal(rng, _LASTING, n_users)
    minutes = usual[:, None] * _log_normal(rng, _PASSING, (n_users, n_days)) + treated[:, None] * effect
    frame = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(1, n_users + 1), n_days),
            "variant": np.repeat(np.where(treated, TREATMENT, CONTROL), n_days),
            "day": np.tile(day, n_users),
            "minutes": np.round(minutes.ravel(), 3),
        }
    )
    return frame, pd.DataFrame({"day": day, "effect": effect})


def _check(n_users: int, treated_share: float, effect: float) -> None:
    if n_users < 1:
        raise CausalRecError(f"n_users is {n_users}; expected a positive number.")
    if not 0 < treated_share < 1:
        raise CausalRecError(f"treated_share is {treated_share}; expected a number in (0, 1), such as 0.1.")
    if not (math.isfinite(effect) and effect >= 0):
        raise CausalRecError(f"effect is {effect}; expected a number >= 0, such as 0.05 standard deviations.")


def _log_normal(rng: np.random.Generator, sigma: float, size: int | tuple[int, int]) -> FloatArray:
    """Log-normal with mean 1."""
    return np.asarray(rng.lognormal(-(sigma**2) / 2, sigma, size))


def _times(days: FloatArray) -> FloatArray:
    return np.asarray(START + (days * _DAY_US).astype("timedelta64[us]"))


def _mean_minutes(traits: Mapping[str, _Trait]) -> float:
    loud = 1 + _OUTLIER_SHARE * (_OUTLIER_FACTOR - 1)
    return MINUTES * loud * math.prod(t.mean(t.listening) for t in traits.values())


def _minutes_std() -> float:
    """By the second moments of the factors, which are independent."""
    loud = 1 + _OUTLIER_SHARE * (_OUTLIER_FACTOR**2 - 1)
    traits = math.prod(t.mean(t.listening, t.listening) for t in TRAITS.values())
    square = MINUTES**2 * loud * traits * math.exp(_LASTING**2 + _PASSING**2)
    return math.sqrt(square - _mean_minutes(TRAITS) ** 2)


def _relative_response(traits: Mapping[str, _Trait]) -> float:
    """The mean response of a minute that was listened to."""
    return math.prod(t.mean(t.listening, t.response) / t.mean(t.listening) for t in traits.values())


def _lift_scale(effect: float) -> float:
    """The lift of a user whose response is 1, so that the effect over all users is as asked."""
    return effect * _minutes_std() / (_mean_minutes(TRAITS) * _relative_response(TRAITS))


def _effects(effect: float) -> pd.DataFrame:
    skip_rate = _SKIP_ALPHA / (_SKIP_ALPHA + _SKIP_BETA)
    stays = [math.exp(-7 / mean) for mean in (_LIFETIME, _LIFETIME_TREATED)]
    groups = [("", ""), *((name, level) for name, trait in TRAITS.items() for level in trait.levels)]
    rows = []
    for dimension, group in groups:
        traits = {name: t.only(group) if name == dimension else t for name, t in TRAITS.items()}
        minutes, listening = _mean_minutes(traits), math.prod(t.mean(t.listening) for t in traits.values())
        found = {
            "minutes": (minutes, minutes * _lift_scale(effect) * _relative_response(traits)),
            "sessions": (SESSIONS * listening, 0.0),
            "skip_rate": (skip_rate, skip_rate * _SKIP_CHANGE),
            "converted": (_CONVERTED, _CONVERTED_MORE),
            "retained_7d": (stays[0], stays[1] - stays[0]),
        }
        rows += [(metric, dimension, group, base, change, change / base) for metric, (base, change) in found.items()]
    return pd.DataFrame(rows, columns=["metric", "dimension", "group", "control", "effect", "relative_effect"])
