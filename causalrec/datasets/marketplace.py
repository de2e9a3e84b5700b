"""A simulated marketplace with known effects: event logs, a randomised experiment, a confounded e-mail campaign.

Purchases come first: those of user i in a window are Poisson with mean mu_i, so that P(buys) = 1 - exp(-mu_i) and
E[revenue] = mu_i E[price of what i buys] hold exactly, and with them the truth. Sessions, slates, clicks and carts are
then laid around the purchases, beside sessions in which nothing is bought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError, TimeError

N_CATEGORIES = 8
LOYALTY = ("bronze", "silver", "gold")
DEVICES = ("app", "desktop", "mobile web")
REGIONS = ("east", "north", "south", "west")
CONTROL, TREATED = "top_sellers", "personalised"
_SESSION_US = 300_000_000
_MAX_SLOTS = 90  # so that a purchase, at most 200 seconds and a slot's number into a session, is within the session
_SESSIONS_PER_USER = 100_000
_IDLE_PER_DAY = 0.05  # sessions without a purchase, of a user with engagement 1
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Marketplace:
    """What a platform would see. Times are naive UTC.

    ``users``: user_id and what is known of them beforehand. ``items``: item_id, category, price. ``events``: user_id,
    item_id, session_id, event_time, event_type (impression, click, cart, purchase), position from 1, revenue (the
    price, for purchases, else 0), in the order of time. ``experiment``: user_id, variant, assigned_at. ``campaign``:
    user_id, emailed, sent_at (for those who got none, when they would have).
    """

    users: pd.DataFrame = field(repr=False)
    items: pd.DataFrame = field(repr=False)
    events: pd.DataFrame = field(repr=False)
    experiment: pd.DataFrame = field(repr=False)
    campaign: pd.DataFrame = field(repr=False)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class MarketplaceTruth:
    """The known effect of every user: columns user_id, propensity, tau_*, response_group, expected_*.

    ``propensity`` is P(emailed). The effects are differences of expectations given all that determines a user's
    rate of purchases: ``tau_email_conversion`` and ``tau_email_spend`` of the e-mail on P(buys) and on revenue within
    ``days_campaign`` from sent_at; ``tau_conversion`` and ``tau_revenue`` of personalisation on the same within
    ``days_experiment`` from assigned_at.

    ``response_group`` is by the experiment's effect tau on P(buys): persuadable above +3 points, sleeping dog below
    -1 point; of the others sure thing when the mean of both probabilities is at least 0.3, else lost cause.

    ``expected_purchases`` and ``expected_purchases_personalised`` are of the experiment's window, each a session with
    one purchase; ``expected_idle_sessions`` are those in it without one, the same in both arms.
    """

    users: pd.DataFrame = field(repr=False)

    def mean(self, column: str) -> float:
        """The average over all users, such as ``mean("tau_conversion")``, the average treatment effect."""
        return float(self.users[column].mean())


def simulate_marketplace(
    n_users: int = 20_000,
    n_items: int = 400,
    *,
    days_history: int = 60,
    days_campaign: int = 14,
    days_experiment: int = 28,
    split: float = 0.5,
    start: str = "2025-01-06",
    confounding: float = 1.0,
    effect_scale: float = 1.0,
    impressions_per_session: int = 6,
    random_state: int | np.random.SeedSequence = 0,
    first_user: int = 0,
    item_seed: int | None = None,
) -> tuple[Marketplace, MarketplaceTruth]:
    """Simulate the marketplace; returns the data and, apart from it, the truth.

    History, then the campaign's window, then the experiment's. E-mails go out at the end of the history with a
    probability that is logistic in engagement, loyalty and the purchases of the last 30 days (up to 3), kept within
    [0.076, 0.924]; ``confounding`` multiplies its logit, and at 0 e-mails are random. The experiment is randomised.

    Parameters
    ----------
    n_users, n_items : int
    days_history, days_campaign, days_experiment : int
        Lengths of the three periods, each after the other.
    split : float
        P(personalised) in the experiment.
    start : str
        First day of the history, UTC.
    confounding : float
        How much the choice of whom to e-mail follows what drives purchases.
    effect_scale : float
        Multiplies all effects on the log of the purchase rate.
    impressions_per_session : int
        Items shown in a session, at most 90; an item that is drawn twice is shown once.
    random_state : int or SeedSequence
        The same one, the same data. It is not changed.
    first_user : int
        The first user_id.
    item_seed : int, optional
        Seed of the shop, ``random_state`` by default. Chunks of users with one ``item_seed``, each with a
        ``random_state`` and a ``first_user`` of its own, share the shop and have distinct users and sessions.

    Raises
    ------
    CausalRecError
        When a size is not positive, ``split`` not in (0, 1), or a scale not a number.
    TimeError
        When ``start`` is no date.

    Examples
    --------
    >>> market, truth = simulate_marketplace(n_users=50, n_items=40, random_state=1)
    >>> len(market.users), sorted(market.experiment["variant"].unique())
    (50, ['personalised', 'top_sellers'])
    """
    sizes = {"n_users": n_users, "n_items": n_items, "days_history": days_history, "days_campaign": days_campaign,
             "days_experiment": days_experiment, "impressions_per_session": impressions_per_session}  # fmt: skip
    _check(sizes, split, {"confounding": confounding, "effect_scale": effect_scale})
    origin = _origin(start)
    seed = random_state if isinstance(random_state, np.random.SeedSequence) else np.random.SeedSequence(random_state)
    rng = np.random.default_rng(_child(seed, 0))
    days = np.cumsum([0, days_history, days_campaign, days_experiment])
    shop_seed = _child(seed if item_seed is None else np.random.SeedSequence(item_seed), 1)
    shop = _Shop.make(n_items, int(days[-1]) // 7 + 1, np.random.default_rng(shop_seed))
    people = _People.make(n_users, rng, effect_scale)
    ids = np.arange(first_user, first_user + n_users, dtype=np.int64)

    buys = [_purchases(rng, shop, people.favourite, people.rate * days_history, (days[0], days[1]))]
    past = np.bincount(buys[0].user[buys[0].time >= (days[1] - 30) * _DAY_US], minlength=n_users)
    logit = confounding * (2.0 * (people.engagement - 0.5) + 0.5 * people.loyalty + 0.55 * np.minimum(past, 3) - 0.65)
    propensity = 1 / (1 + np.exp(-np.clip(logit, -2.5, 2.5)))
    emailed = (rng.random(n_users) < propensity).astype(np.int64)
    treated = rng.random(n_users) < split
    mu_mail = people.rate * days_campaign
    mu_test = people.rate * days_experiment
    with_mail, with_test = mu_mail * np.exp(people.mail_effect), mu_test * np.exp(people.test_effect)
    buys.append(_purchases(rng, shop, people.favourite, np.where(emailed == 1, with_mail, mu_mail), (days[1], days[2])))
    buys.append(_purchases(rng, shop, people.favourite, np.where(treated, with_test, mu_test), (days[2], days[3])))

    events = _events(rng, shop, people, buys, int(days[-1]), impressions_per_session)
    events["event_time"] = (events["event_time"].to_numpy() + origin).astype("datetime64[us]")
    events["user_id"] += first_user
    events["session_id"] += first_user * _SESSIONS_PER_USER
    market = Marketplace(
        users=people.frame(ids),
        items=shop.frame(),
        events=events,
        experiment=pd.DataFrame({
            "user_id": ids, "variant": np.where(treated, TREATED, CONTROL),
            "assigned_at": np.full(n_users, origin + days[2] * _DAY_US).astype("datetime64[us]"),
        }),
        campaign=pd.DataFrame({
            "user_id": ids, "emailed": emailed,
            "sent_at": np.full(n_users, origin + days[1] * _DAY_US).astype("datetime64[us]"),
        }),
    )  # fmt: skip
    price_mail = shop.mean_price(days[1], days[2])[people.favourite]
    price_test = shop.mean_price(days[2], days[3])[people.favourite]
    p0, p1 = -np.expm1(-mu_test), -np.expm1(-with_test)
    truth = pd.DataFrame({
        "user_id": ids,
        "propensity": propensity,
        "tau_email_conversion": np.exp(-mu_mail) - np.exp(-with_mail),
        "tau_email_spend": (with_mail - mu_mail) * price_mail,
        "tau_conversion": p1 - p0,
        "tau_revenue": (with_test - mu_test) * price_test,
        "response_group": _response_group(p0, p1),
        "expected_purchases": mu_test,
        "expected_purchases_personalised": with_test,
        "expected_idle_sessions": _IDLE_PER_DAY * people.engagement * days_experiment,
    })  # fmt: skip
    return market, MarketplaceTruth(truth)


def _check(sizes: dict[str, int], split: float, scales: dict[str, float]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise CausalRecError(f"{name} is {size}; expected at least 1.")
    if sizes["impressions_per_session"] > _MAX_SLOTS:
        raise CausalRecError(
            f"impressions_per_session is {sizes['impressions_per_session']}; expected at most {_MAX_SLOTS}."
        )
    if not 0 < split < 1:
        raise CausalRecError(f"split is {split}; expected P(personalised) strictly between 0 and 1.")
    for name, scale in scales.items():
        if not np.isfinite(scale):
            raise CausalRecError(f"{name} is {scale}; expected a finite number, such as 1.0.")


def _origin(start: str) -> int:
    try:
        return int(np.datetime64(start, "us").astype(np.int64))
    except ValueError as error:
        raise TimeError(f"start is {start!r}; expected a date, such as '2025-01-06'.") from error


def _child(seed: np.random.SeedSequence, key: int) -> np.random.SeedSequence:
    """A seed of its own for people (0) and shop (1); unlike ``spawn``, it leaves the caller's seed as it was."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, key), pool_size=seed.pool_size)


@dataclass(frozen=True)
class _People:
    age: IntArray
    tenure_days: IntArray
    loyalty: IntArray
    device: IntArray
    region: IntArray
    engagement: FloatArray
    price_sensitivity: FloatArray
    favourite: IntArray
    rate: FloatArray
    test_effect: FloatArray
    mail_effect: FloatArray

    @classmethod
    def make(cls, n: int, rng: np.random.Generator, scale: float) -> _People:
        age = np.clip(rng.normal(42, 13, n), 18, 85).astype(np.int64)
        tenure = np.minimum(rng.exponential(500, n), 3000).astype(np.int64)
        loyalty = (rng.random(n) < 0.25 + 0.25 * (tenure > 400)).astype(np.int64) + (rng.random(n) < 0.15)
        device = rng.choice(3, n, p=[0.45, 0.3, 0.25])
        engagement = rng.beta(2, 2.5, n)
        sensitivity = rng.beta(2, 2, n)
        noise = rng.gamma(6, 1 / 6, n)
        rate = 0.0095 * np.exp(1.6 * (engagement - 0.45) + 0.45 * (loyalty - 0.5)) * noise
        # Personalisation helps young app users who are not engaged yet, and annoys engaged desktop users.
        test = 0.10 + 0.45 * (device == 0) - 0.55 * (device == 1) - 0.8 * (engagement - 0.45) - 0.012 * (age - 42)
        mail = 0.45 + 0.5 * (sensitivity - 0.5) - 0.2 * (loyalty == 2)
        return cls(
            age, tenure, loyalty, device, rng.choice(4, n), engagement, sensitivity, rng.choice(N_CATEGORIES, n),
            rate, scale * np.clip(test, -1.0, 1.2), scale * mail,
        )  # fmt: skip

    def frame(self, ids: IntArray) -> pd.DataFrame:
        return pd.DataFrame({
            "user_id": ids, "age": self.age, "tenure_days": self.tenure_days,
            "loyalty": _categorical(self.loyalty, LOYALTY),
            "device": _categorical(self.device, DEVICES),
            "region": _categorical(self.region, REGIONS),
            "engagement": self.engagement.round(4), "price_sensitivity": self.price_sensitivity.round(4),
        })  # fmt: skip


@dataclass(frozen=True)
class _Shop:
    category: IntArray
    price: FloatArray
    choice: FloatArray  # P(item | favourite category, week), shape (categories, weeks, items)
    cumulative: FloatArray

    @classmethod
    def make(cls, n: int, weeks: int, rng: np.random.Generator) -> _Shop:
        category = rng.choice(N_CATEGORIES, n)
        price = np.exp(rng.normal(3.0, 0.5, n)).round(2)
        popularity = 1 / np.arange(1, n + 1) ** 0.7
        rng.shuffle(popularity)
        # Fashions: an item's popularity wanders from week to week, so recent sales say more than old ones.
        drift = np.exp(np.cumsum(rng.normal(0, 0.35, (weeks, n)), axis=0))
        weight = popularity * drift
        match = 1 + 7.0 * (category[None, :] == np.arange(N_CATEGORIES)[:, None])
        choice = match[:, None, :] * weight[None, :, :]
        choice /= choice.sum(axis=2, keepdims=True)
        return cls(category, price, choice, np.cumsum(choice, axis=2))

    def draw(self, rng: np.random.Generator, favourite: IntArray, week: IntArray) -> IntArray:
        weeks, n = self.cumulative.shape[1:]
        row = favourite * weeks + week
        flat = (np.minimum(self.cumulative, 1.0).reshape(-1, n) + np.arange(N_CATEGORIES * weeks)[:, None]).ravel()
        found = np.searchsorted(flat, row + rng.random(len(row)), side="right")
        return np.asarray(np.minimum(found - row * n, n - 1))

    def mean_price(self, first_day: int, last_day: int) -> FloatArray:
        """Expected price of a purchase on a uniformly drawn day, by favourite category."""
        week = np.arange(first_day, last_day) // 7
        return np.asarray((self.choice @ self.price)[:, week].mean(axis=1))

    def frame(self) -> pd.DataFrame:
        labels = [f"category {c + 1}" for c in range(N_CATEGORIES)]
        return pd.DataFrame({
            "item_id": np.arange(len(self.price), dtype=np.int64),
            "category": _categorical(self.category, labels), "price": self.price,
        })  # fmt: skip


@dataclass(frozen=True)
class _Purchases:
    user: IntArray
    item: IntArray
    time: IntArray  # start of the session, microseconds since the simulation's start


def _purchases(
    rng: np.random.Generator, shop: _Shop, favourite: IntArray, mean: FloatArray, days: tuple[Any, Any]
) -> _Purchases:
    user = np.repeat(np.arange(len(mean)), rng.poisson(mean))
    day = rng.integers(days[0], days[1], len(user))
    time = day * _DAY_US + rng.integers(0, _DAY_US - _SESSION_US, len(user))
    return _Purchases(user, shop.draw(rng, favourite[user], day // 7), time)


def _events(
    rng: np.random.Generator, shop: _Shop, people: _People, buys: list[_Purchases], n_days: int, slots: int
) -> pd.DataFrame:
    """Slates around the purchases and in sessions without one, with clicks by position and taste."""
    bought = _Purchases(*(np.concatenate([getattr(b, f) for b in buys]) for f in ("user", "item", "time")))
    idle = np.repeat(np.arange(len(people.rate)), rng.poisson(_IDLE_PER_DAY * people.engagement * n_days))
    idle_day = rng.integers(0, n_days, len(idle))
    idle_time = idle_day * _DAY_US + rng.integers(0, _DAY_US - _SESSION_US, len(idle))
    user, time = np.r_[bought.user, idle], np.r_[bought.time, idle_time]
    n, n_bought = len(user), len(bought.user)
    slate = shop.draw(rng, np.repeat(people.favourite[user], slots), np.repeat(time // _DAY_US // 7, slots)).reshape(
        n, slots
    )
    spot = rng.integers(0, slots, n_bought)
    slate[np.arange(n_bought), spot] = bought.item
    purchased = np.zeros((n, slots), dtype=bool)
    purchased[np.arange(n_bought), spot] = True
    # An item is shown once in a slate: later copies go, but never the one that is bought.
    copies = np.zeros((n, slots), dtype=bool)
    for a in range(slots):
        for b in range(a + 1, slots):
            same = slate[:, a] == slate[:, b]
            copies[:, b] |= same & ~purchased[:, b]
            copies[:, a] |= same & purchased[:, b]
    taste = np.where(shop.category[slate] == people.favourite[user][:, None], 1.0, 0.35)
    clicked = purchased | (rng.random((n, slots)) < 0.3 * taste / (1 + np.arange(slots)) ** 0.6)
    carted = purchased | (clicked & (rng.random((n, slots)) < 0.12))
    session, position = _session_ids(user, time), np.arange(slots)
    parts = []
    steps = (
        ("impression", ~copies, 0),
        ("click", clicked & ~copies, 20),
        ("cart", carted & ~copies, 90),
        ("purchase", purchased, 200),
    )
    for code, (_, happened, seconds) in enumerate(steps):
        rows, cols = np.nonzero(happened)
        revenue = shop.price[slate[rows, cols]] if code == 3 else np.zeros(len(rows))
        parts.append((user[rows], slate[rows, cols], session[rows], time[rows] + (seconds + position[cols]) * 1_000_000,
                      np.full(len(rows), code), cols + 1, revenue))  # fmt: skip
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)]
    order = np.lexsort((columns[4], columns[2], columns[3]))
    names = ("user_id", "item_id", "session_id", "event_time", "event_type", "position", "revenue")
    frame = pd.DataFrame({name: column[order] for name, column in zip(names, columns, strict=True)})
    frame["event_type"] = _categorical(frame["event_type"], [s[0] for s in steps])
    return frame


def _session_ids(user: IntArray, time: IntArray) -> IntArray:
    """Ids that hold the user and count their sessions in the order of time, so that chunks of users share none."""
    order = np.lexsort((time, user))
    first = np.searchsorted(user[order], user[order], side="left")
    ids = np.empty(len(user), dtype=np.int64)
    ids[order] = user[order] * _SESSIONS_PER_USER + np.arange(len(user)) - first
    return ids


def _categorical(codes: Any, labels: Sequence[str]) -> Any:
    return pd.Categorical.from_codes(codes, pd.Index(list(labels)))


def _response_group(p0: FloatArray, p1: FloatArray) -> Any:
    tau = p1 - p0
    return np.select(
        [tau > 0.03, tau < -0.01, (p0 + p1) / 2 >= 0.3], ["persuadable", "sleeping dog", "sure thing"], "lost cause"
    )
