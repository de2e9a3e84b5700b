"""The service's next experiment, a shelf of podcasts, with what is true of it in closed form or by a 1-d integral."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import integrate

from causalrec._typing import FloatArray

ARMS = ("control", "treatment")
STEPS = ("visited", "played", "saved", "trial", "paid")
START = np.datetime64("2025-05-05", "us")
AS_OF = 88.0  # days from the start to the end of the log
EXPOSURE_DAYS, WEEK, MONTH = 28.0, 7.0, 28.0
HAZARDS, HAZARD_RATIO = (0.03, 0.012), 0.93  # a day, in the first week and after; treatment against control
_LEVEL, _PASSING, _TASTE = 0.5, 0.3, 0.8  # sd of logs: lasting listening, one period's, the taste for podcasts
_MUSIC, _PODCASTS = (150.0, 450.0), (25.0, 75.0)  # minutes of an average user in week 1 and in the 3 weeks after
_MUSIC_LIFT, _PODCASTS_LIFT = (-0.08, -0.04), (1.0, 0.3)  # the novelty wears off
_PRICE, _ADS, _ADS_SHAPE = 9.99, 1.2, 4.0  # a subscription; advertising per user, sold in advance
_STEP_SHARES = (0.85, 0.70, 0.40, 0.12, 0.50)  # of those at the step before
_PLAYED_TREATED = 0.74  # more play and save, and none of those in addition starts a trial


@dataclass(frozen=True)
class ShelfTruth:
    """What is true of :func:`simulate_shelf`; effects are per user who was assigned.

    ``means`` has an expectation per arm of music, podcasts, minutes, minutes_week1, minutes_later and revenue;
    ``funnel`` the shares of all per arm; ``slopes`` the slope on minutes_week1 within arms, by outcome.
    """

    means: dict[str, tuple[float, float]]
    funnel: dict[str, tuple[float, ...]]
    slopes: dict[str, float]

    def effect(self, metric: str) -> float:
        """Treatment - control."""
        control, treatment = self.means[metric]
        return treatment - control

    def predicted(self, outcome: str) -> float:
        """The effect on an outcome that minutes of the first week promise."""
        return self.slopes[outcome] * self.effect("minutes_week1")

    def share_taken(self) -> float:
        """The part of the podcasts' gain that music loses."""
        return -self.effect("music") / self.effect("podcasts")


def stay(days: float | FloatArray, arm: str) -> FloatArray:
    """The share of an arm that is still there after some days."""
    return np.asarray(np.exp(-_cumulative_hazard(np.asarray(days, dtype=np.float64), arm)))


def mean_stay(horizon: float, arm: str) -> float:
    """The mean days of an arm until a horizon."""
    return _integral(lambda t: float(stay(t, arm)), 0.0, horizon)


def shelf_truth() -> ShelfTruth:
    """The truth of :func:`simulate_shelf`."""
    arms = [_ArmMoments.of(arm) for arm in ARMS]
    names = {"music": "music", "podcasts": "podcasts", "minutes_week1": "first", "minutes_later": "later"}
    means = {name: (getattr(arms[0], key), getattr(arms[1], key)) for name, key in names.items()}
    means["minutes"] = (arms[0].first + arms[0].later, arms[1].first + arms[1].later)
    revenue = _PRICE * math.prod(_STEP_SHARES) + _ADS
    variance = arms[0].var_first + arms[1].var_first
    return ShelfTruth(
        means={**means, "revenue": (revenue, revenue)},
        funnel={arm: _funnel_shares(arm) for arm in ARMS},
        slopes={
            "minutes_later": (arms[0].cov_later + arms[1].cov_later) / variance,
            "revenue": (arms[0].cov_revenue + arms[1].cov_revenue) / variance,
        },
    )


def simulate_shelf(n_users: int, *, random_state: int) -> tuple[pd.DataFrame, ShelfTruth]:
    """Simulate the experiment of an even split; a row per user, and the truth.

    Users come in the first 28 days, and the log ends after 88. Each plays every day until leaving: the hazard is higher
    in the first week and 7% lower under treatment. Minutes are of the 28 days since exposure, of those before leaving.
    The shelf adds podcasts and takes a part from music, more in the first week than after. More users play and save;
    those in addition do not subscribe. Revenue is subscriptions and advertising, which is sold in advance at a price
    that follows how much a user usually listens: the treatment changes neither.
    """
    rng = np.random.default_rng(random_state)
    treated = rng.random(n_users) < 0.5
    level = _log_normal(rng, _LEVEL, n_users)
    taste = _log_normal(rng, _TASTE, n_users)
    exposed = rng.random(n_users) * EXPOSURE_DAYS
    life = _lifetimes(rng.exponential(size=n_users), treated)
    periods = []
    for k, (start, end) in enumerate(((0.0, WEEK), (WEEK, MONTH))):
        there = level * _log_normal(rng, _PASSING, n_users) * (np.clip(life, start, end) - start) / (end - start)
        music = there * _MUSIC[k] * np.where(treated, 1 + _MUSIC_LIFT[k], 1.0)
        podcasts = there * _PODCASTS[k] * taste * np.where(treated, 1 + _PODCASTS_LIFT[k], 1.0)
        periods.append((music, podcasts))
    (music_1, podcasts_1), (music_2, podcasts_2) = periods
    reached = _reached(rng, treated)
    ads = _ADS * level * rng.gamma(_ADS_SHAPE, 1 / _ADS_SHAPE, n_users)
    frame = pd.DataFrame({
        "user_id": np.arange(1, n_users + 1),
        "variant": np.where(treated, ARMS[1], ARMS[0]),
        "exposed_at": _times(exposed),
        "last_seen": _times(np.minimum(exposed + life, AS_OF)),
        "minutes_pre": MONTH / WEEK * _MUSIC[0] * level * _log_normal(rng, _PASSING, n_users),
        "music": music_1 + music_2,
        "podcasts": podcasts_1 + podcasts_2,
        "minutes_week1": music_1 + podcasts_1,
        "minutes_later": music_2 + podcasts_2,
        **dict(zip(STEPS, reached, strict=True)),
        "revenue": _PRICE * reached[-1] + ads,
    })  # fmt: skip
    return frame.assign(minutes=frame["minutes_week1"] + frame["minutes_later"]), shelf_truth()


def _lifetimes(exponential: FloatArray, treated: np.ndarray) -> FloatArray:
    """Days to leaving: a unit exponential is the cumulative hazard at which a user leaves."""
    hazard = exponential / np.where(treated, HAZARD_RATIO, 1.0)
    early, late = HAZARDS
    return np.where(hazard < early * WEEK, hazard / early, WEEK + (hazard - early * WEEK) / late)


def _cumulative_hazard(days: FloatArray, arm: str) -> FloatArray:
    early, late = HAZARDS
    ratio = HAZARD_RATIO if arm == ARMS[1] else 1.0
    return np.asarray(ratio * (early * np.minimum(days, WEEK) + late * np.maximum(days - WEEK, 0)))


def _reached(rng: np.random.Generator, treated: np.ndarray) -> list[np.ndarray]:
    reached, here = [], np.ones(len(treated), dtype=bool)
    for control, treatment in zip(_step_shares(ARMS[0]), _step_shares(ARMS[1]), strict=True):
        here = here & (rng.random(len(treated)) < np.where(treated, treatment, control))
        reached.append(here.astype(np.int64))
    return reached


def _step_shares(arm: str) -> tuple[float, ...]:
    """Of those at the step before; from the trial on the two arms agree in shares of all."""
    visited, played, saved, trial, paid = _STEP_SHARES
    if arm == ARMS[0]:
        return _STEP_SHARES
    return visited, _PLAYED_TREATED, saved, trial * played / _PLAYED_TREATED, paid


def _funnel_shares(arm: str) -> tuple[float, ...]:
    return (1.0, *(float(share) for share in np.cumprod(_step_shares(arm))))


@dataclass(frozen=True)
class _ArmMoments:
    """Means of an arm, the variance of minutes in week 1, and their covariances with what follows."""

    music: float
    podcasts: float
    first: float
    later: float
    var_first: float
    cov_later: float
    cov_revenue: float

    @classmethod
    def of(cls, arm: str) -> _ArmMoments:
        """By the moments of the factors, which are independent; the shares of a period that a user is there are not."""
        on = float(arm == ARMS[1])
        music = [m * (1 + on * lift) for m, lift in zip(_MUSIC, _MUSIC_LIFT, strict=True)]
        podcasts = [m * (1 + on * lift) for m, lift in zip(_PODCASTS, _PODCASTS_LIFT, strict=True)]
        there = [_integral(lambda t: float(stay(t, arm)), 0, WEEK) / WEEK,
                 _integral(lambda t: float(stay(t, arm)), WEEK, MONTH) / (MONTH - WEEK)]  # fmt: skip
        square = 2 * _integral(lambda t: t * float(stay(t, arm)), 0, WEEK) / WEEK**2
        level, passing, taste = (math.exp(s**2) for s in (_LEVEL, _PASSING, _TASTE))
        first, later = (there[k] * (music[k] + podcasts[k]) for k in (0, 1))

        def product(j: int, k: int) -> float:
            crossed = music[j] * podcasts[k] + podcasts[j] * music[k]
            return level * (music[j] * music[k] + crossed + podcasts[j] * podcasts[k] * taste)

        return cls(
            music=there[0] * music[0] + there[1] * music[1],
            podcasts=there[0] * podcasts[0] + there[1] * podcasts[1],
            first=first,
            later=later,
            var_first=square * passing * product(0, 0) - first**2,
            cov_later=there[1] * product(0, 1) - first * later,  # whoever is there later was there all of week 1
            cov_revenue=first * _ADS * (level - 1),
        )


def _integral(function: Callable[[float], float], low: float, high: float) -> float:
    points = [WEEK] if low < WEEK < high else None
    return float(integrate.quad(function, low, high, points=points, epsabs=1e-12)[0])


def _log_normal(rng: np.random.Generator, sigma: float, size: int) -> FloatArray:
    """Log-normal with mean 1."""
    return np.asarray(rng.lognormal(-(sigma**2) / 2, sigma, size))


def _times(days: FloatArray) -> FloatArray:
    return np.asarray(START + (days * 86_400_000_000).astype("timedelta64[us]"))
