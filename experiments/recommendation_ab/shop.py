"""The experiment's data: cohorts of customers, what each did in a fortnight, and how fast their pages were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from causalrec.datasets import simulate_marketplace

SEED = 26
CONTROL, TREATMENT = "top_sellers", "personalised"
DAYS_BEFORE, DAYS_FOLLOWED = 42, 14
_HISTORY = 28  # days, after which a campaign runs for the other 14 of those before
_EFFECT_SCALE = 0.7  # of the marketplace's usual effects, which would be seen too easily

_REST_MS = {"app": 400.0, "desktop": 500.0, "mobile web": 850.0}  # median of a page without its ranking
_USER_SIGMA, _VIEW_SIGMA = 0.3, 0.4  # of the log: a customer's network, and a view


@dataclass(frozen=True)
class Ranking:
    """How long a ranking takes, in milliseconds: log-normal, and a share of slow calls that takes longer.

    ``median`` and ``sigma`` (of the log) are of all calls; ``slow`` is the share that waits ``wait`` more.
    """

    median: float
    sigma: float
    slow: float = 0.0
    wait: float = 0.0

    @property
    def mean(self) -> float:
        """Exact."""
        return self.median * float(np.exp(self.sigma**2 / 2)) + self.slow * self.wait

    def below(self, x: float) -> float:
        """P(latency <= x), exact."""
        parts = [(1 - self.slow, x), (self.slow, x - self.wait)]
        return sum(w * float(ndtr(np.log(v / self.median) / self.sigma)) for w, v in parts if v > 0)

    def quantile(self, q: float) -> float:
        """Where :meth:`below` is q."""
        return float(brentq(lambda x: self.below(x) - q, 1e-6, 1e6))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """N latencies."""
        return self.median * np.exp(self.sigma * rng.normal(size=n)) + self.wait * (rng.random(n) < self.slow)


TOP_SELLERS = Ranking(median=18, sigma=0.35)
RANKINGS: Mapping[str, Mapping[str, Ranking]] = {
    "as built": {CONTROL: TOP_SELLERS, TREATMENT: Ranking(median=28, sigma=0.35)},
    "cold cache": {CONTROL: TOP_SELLERS, TREATMENT: Ranking(median=28, sigma=0.35, slow=0.08, wait=900)},
}


@dataclass(frozen=True)
class Cohorts:
    """Customers let in day after day, each followed for a fortnight.

    ``users``: user_id, variant, day (of entry, from 1), device, loyalty, group (both), revenue_before, and what was
    counted in the fortnight: impressions, clicks, carts, revenue, bought. ``sessions``: user_id, variant, day, device,
    bought and the counts, a row per session, each of which loads one page. ``truth``: that of every user.
    """

    users: pd.DataFrame
    sessions: pd.DataFrame
    truth: pd.DataFrame


def simulate_cohorts(n_days: int, per_day: int, seed: int = SEED) -> Cohorts:
    """A cohort a day, all from one shop. Fashions of the shop run by a cohort's own clock."""
    parts = [_cohort(day, per_day, seed) for day in range(1, n_days + 1)]
    users, sessions, truth = (pd.concat(p, ignore_index=True) for p in zip(*parts, strict=True))
    return Cohorts(users, sessions, truth)


def _cohort(day: int, n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    market, truth = simulate_marketplace(
        n, days_history=_HISTORY, days_campaign=DAYS_BEFORE - _HISTORY, days_experiment=DAYS_FOLLOWED,
        start=str(np.datetime64("2025-01-06") + day), random_state=np.random.SeedSequence((seed, day)),
        first_user=(day - 1) * n, item_seed=SEED, effect_scale=_EFFECT_SCALE,
    )  # fmt: skip
    entered = market.experiment["assigned_at"].iloc[0]
    since = market.events["event_time"] >= entered
    events, before = market.events[since], market.events[~since]
    users = market.users[["user_id", "device", "loyalty"]].astype({"device": str, "loyalty": str})
    users = users.assign(variant=market.experiment["variant"].to_numpy(), day=day)
    users["group"] = users["device"] + ", " + users["loyalty"]
    index = pd.Index(users["user_id"])
    counts = pd.crosstab(events["user_id"], events["event_type"]).reindex(index, fill_value=0)
    for column, step in (("impressions", "impression"), ("clicks", "click"), ("carts", "cart")):
        users[column] = counts[step].to_numpy() if step in counts else 0
    for column, rows in (("revenue", events), ("revenue_before", before)):
        users[column] = rows.groupby("user_id")["revenue"].sum().reindex(index, fill_value=0.0).to_numpy()
    users["bought"] = (counts["purchase"].to_numpy() > 0).astype(int)
    by_session = events.groupby("session_id")
    sessions = by_session.agg(user_id=("user_id", "first"), bought=("revenue", "max"))
    sessions["bought"] = sessions["bought"] > 0
    for column, step in (("impressions", "impression"), ("clicks", "click"), ("carts", "cart")):
        sessions[column] = (events["event_type"] == step).groupby(events["session_id"]).sum()
    sessions = sessions.reset_index(drop=True).merge(users[["user_id", "variant", "day", "device"]], on="user_id")
    return users, sessions, truth.users.assign(device=users["device"], group=users["group"])


def page_loads(sessions: pd.DataFrame, rankings: Mapping[str, Ranking], seed: int = SEED) -> pd.DataFrame:
    """Sessions with latency_ms, of the ranking, and load_ms, of the whole page; both in milliseconds.

    The rest of the page is log-normal around a median of the device, with a factor of the customer's (their network),
    so that views of a customer are alike.
    """
    rng = np.random.default_rng((seed, 1))
    rest = _rest(rng, sessions["device"].to_numpy(), sessions["user_id"].to_numpy())
    latency = np.empty(len(sessions))
    for arm, ranking in rankings.items():
        rows = (sessions["variant"] == arm).to_numpy()
        latency[rows] = ranking.draw(rng, int(rows.sum()))
    return sessions.assign(latency_ms=latency, load_ms=latency + rest)


def _rest(rng: np.random.Generator, device: np.ndarray, user: np.ndarray) -> np.ndarray:
    _, number = np.unique(user, return_inverse=True)
    own = rng.normal(0, _USER_SIGMA, number.max() + 1)[number]
    return np.asarray(pd.Series(device).map(_REST_MS)) * np.exp(own + _VIEW_SIGMA * rng.normal(size=len(user)))


def rows_of(users: pd.DataFrame, loads: pd.DataFrame) -> pd.DataFrame:
    """One table for one scan: a row of totals per customer, and a row per page that they loaded."""
    pages = loads[["user_id", "variant", "day", "device", "latency_ms", "load_ms"]].assign(kind="page")
    return pd.concat([users.assign(kind="customer"), pages], ignore_index=True)


def true_values(truth: pd.DataFrame, sessions: pd.DataFrame, rankings: Mapping[str, Ranking]) -> pd.DataFrame:
    """The truth by metric: its value in either arm and their difference, had all customers been in it, and how known.

    Exact: purchases are Poisson with known means. Means of a session with and without purchase (impressions, clicks,
    carts; the treatment changes neither, only how many there are) are from ``sessions``, a sample of its own.
    """
    per = sessions.groupby("bought")[["impressions", "clicks", "carts"]].mean()
    rows = {
        "revenue": (*_revenue(truth), "exact"),
        "conversion": (*_conversion(truth), "exact"),
    }
    shown = {arm: _expected_sessions(truth, arm).sum() for arm in (CONTROL, TREATMENT)}
    totals = {arm: n[0] * per.loc[True] + n[1] * per.loc[False] for arm, n in shown.items()}
    how = f"sample of {len(sessions):,}"
    for name, over, under in (("ctr", "clicks", "impressions"), ("add_to_cart", "carts", "clicks")):
        rows[name] = (*(totals[arm][over] / totals[arm][under] for arm in totals), how)
    rows |= _true_speed(truth, rankings)
    table = pd.DataFrame(
        [(name, *values) for name, values in rows.items()], columns=["metric", "control", "treatment", "known"]
    ).set_index("metric")
    table["difference"] = table["treatment"] - table["control"]
    return table


def _revenue(truth: pd.DataFrame) -> tuple[float, float]:
    """Purchases times what one of the customer's is expected to cost, which is the effects' quotient."""
    control, treatment = truth["expected_purchases"], truth["expected_purchases_personalised"]
    price = truth["tau_revenue"] / (treatment - control)
    return float((control * price).mean()), float((treatment * price).mean())


def _conversion(truth: pd.DataFrame) -> tuple[float, float]:
    bought = [-np.expm1(-truth[c]) for c in ("expected_purchases", "expected_purchases_personalised")]
    return float(bought[0].mean()), float(bought[1].mean())


def _expected_sessions(truth: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Of every customer: with a purchase, and without."""
    suffix = "_personalised" if arm == TREATMENT else ""
    return truth[[f"expected_purchases{suffix}", "expected_idle_sessions"]].set_axis([0, 1], axis=1)


def _true_speed(truth: pd.DataFrame, rankings: Mapping[str, Ranking]) -> dict[str, tuple[float, float, str]]:
    """Of a page: devices have the share of sessions that their owners are expected to have."""
    found: dict[str, list[float]] = {name: [] for name in ("load_mean", "load_p95", "latency_mean", "latency_p95")}
    factor = np.exp((_USER_SIGMA**2 + _VIEW_SIGMA**2) / 2)
    for arm in (CONTROL, TREATMENT):
        by_device = _expected_sessions(truth, arm).sum(axis=1).groupby(truth["device"]).sum()
        share = by_device / by_device.sum()
        ranking = rankings[arm]
        found["latency_mean"].append(ranking.mean)
        found["latency_p95"].append(ranking.quantile(0.95))
        found["load_mean"].append(ranking.mean + float(share @ share.index.map(_REST_MS)) * float(factor))
        found["load_p95"].append(_load_quantile(share, ranking, 0.95))
    return {name: (low, high, "exact" if name != "load_p95" else "numerical integration")
            for name, (low, high) in found.items()}  # fmt: skip


def _load_quantile(share: pd.Series, ranking: Ranking, q: float) -> float:
    """The quantile of rest + latency, by the midpoints of 4,000 equal shares of the latency's law."""
    grid = (np.arange(4_000) + 0.5) / 4_000
    calls = ranking.median * np.exp(ranking.sigma * ndtri(grid))
    waits = ((1 - ranking.slow, 0.0), (ranking.slow, ranking.wait))
    sigma = float(np.hypot(_USER_SIGMA, _VIEW_SIGMA))

    def below(x: float) -> float:
        total = 0.0
        for device, weight in share.items():
            for part, wait in waits:
                left = np.maximum(x - calls - wait, 1e-12)
                total += weight * part * float(ndtr(np.log(left / _REST_MS[str(device)]) / sigma).mean())
        return total - q

    return float(brentq(below, 1.0, 1e5))
