"""The marketplace's truth against its own events, and that the events are what the docstring says."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from causalrec.datasets import Marketplace, MarketplaceTruth, simulate_marketplace
from causalrec.exceptions import CausalRecError, TimeError

N_BIG = 60_000
DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def big() -> tuple[Marketplace, MarketplaceTruth]:
    return simulate_marketplace(N_BIG, random_state=7)


@pytest.fixture(scope="module")
def small() -> Marketplace:
    return simulate_marketplace(800, n_items=60, random_state=3)[0]


def outcomes(market: Marketplace, start: pd.Timestamp, days: int) -> pd.DataFrame:
    """Per user: whether they bought, and what they spent, in [start, start + days)."""
    events = market.events
    window = events[(events["event_time"] >= start) & (events["event_time"] < start + days * DAY)]
    window = window[window["event_type"] == "purchase"]
    spend = window.groupby("user_id")["revenue"].sum().reindex(market.users["user_id"], fill_value=0.0)
    return pd.DataFrame({"bought": (spend > 0).to_numpy(float), "spend": spend.to_numpy()})


def weighted_difference(y: np.ndarray, t: np.ndarray, propensity: np.ndarray) -> tuple[float, float]:
    """Hájek's inverse-probability estimate with its influence-function error."""
    w = np.where(t == 1, 1 / propensity, 1 / (1 - propensity))
    means = [np.average(y[t == a], weights=w[t == a]) for a in (0, 1)]
    influence = w * (y - np.where(t == 1, means[1], means[0])) * np.where(t == 1, 1, -1)
    return means[1] - means[0], float(np.sqrt((influence**2).sum()) / len(y))


# --- truth ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome,tau", [("bought", "tau_conversion"), ("spend", "tau_revenue")])
def test_experiment_finds_the_truth(big, outcome: str, tau: str) -> None:
    market, truth = big
    y = outcomes(market, market.experiment["assigned_at"].iloc[0], 28)[outcome].to_numpy()
    t = (market.experiment["variant"] == "personalised").to_numpy(int)
    found, error = weighted_difference(y, t, np.full(N_BIG, 0.5))
    assert abs(found - truth.mean(tau)) < 4 * error
    assert truth.mean(tau) > 4 * error  # enough data to tell it from nothing


@pytest.mark.parametrize("outcome,tau", [("bought", "tau_email_conversion"), ("spend", "tau_email_spend")])
def test_campaign_is_biased_and_the_true_propensity_mends_it(big, outcome: str, tau: str) -> None:
    market, truth = big
    y = outcomes(market, market.campaign["sent_at"].iloc[0], 14)[outcome].to_numpy()
    t, propensity = market.campaign["emailed"].to_numpy(), truth.users["propensity"].to_numpy()
    naive, naive_error = weighted_difference(y, t, np.full(N_BIG, 0.5))
    assert naive - truth.mean(tau) > 8 * naive_error
    found, error = weighted_difference(y, t, propensity)
    assert abs(found - truth.mean(tau)) < 4 * error


def test_truth_holds_user_by_user_in_groups(big) -> None:
    """Effects within the response groups, not only on average."""
    market, truth = big
    y = outcomes(market, market.experiment["assigned_at"].iloc[0], 28)["bought"].to_numpy()
    t = (market.experiment["variant"] == "personalised").to_numpy(int)
    for group, users in truth.users.groupby("response_group"):
        rows = users.index.to_numpy()
        found, error = weighted_difference(y[rows], t[rows], np.full(len(rows), 0.5))
        assert abs(found - users["tau_conversion"].mean()) < 4 * error, group


def test_past_purchases_confound_the_campaign_and_not_the_experiment(big) -> None:
    market, truth = big
    sent = market.campaign["sent_at"].iloc[0]
    past = outcomes(market, sent - 30 * DAY, 30)["spend"].to_numpy()
    emailed, propensity = market.campaign["emailed"].to_numpy(), truth.users["propensity"].to_numpy()
    plain, error = weighted_difference(past, emailed, np.full(N_BIG, 0.5))
    assert plain > 20 * error
    weighted, error = weighted_difference(past, emailed, propensity)
    assert abs(weighted) < 4 * error
    treated = (market.experiment["variant"] == "personalised").to_numpy(int)
    randomised, error = weighted_difference(past, treated, np.full(N_BIG, 0.5))
    assert abs(randomised) < 4 * error


def test_response_groups_follow_their_definition_and_all_appear(big) -> None:
    users = big[1].users
    assert set(users["response_group"]) == {"persuadable", "sure thing", "lost cause", "sleeping dog"}
    assert users["response_group"].value_counts(normalize=True).min() > 0.01
    np.testing.assert_array_equal(users["response_group"] == "persuadable", users["tau_conversion"] > 0.03)
    np.testing.assert_array_equal(users["response_group"] == "sleeping dog", users["tau_conversion"] < -0.01)


def test_propensities_are_those_of_the_campaign(big) -> None:
    market, truth = big
    propensity = truth.users["propensity"]
    assert propensity.between(1 / (1 + np.exp(2.5)) - 1e-9, 1 / (1 + np.exp(-2.5)) + 1e-9).all()
    for _, rows in propensity.groupby(pd.qcut(propensity, 10, duplicates="drop"), observed=True):
        share = market.campaign.loc[rows.index, "emailed"].mean()
        assert abs(share - rows.mean()) < 4 * np.sqrt(rows.mean() * (1 - rows.mean()) / len(rows))


def test_no_effect_and_no_confounding_on_request() -> None:
    _market, truth = simulate_marketplace(200, n_items=20, effect_scale=0, confounding=0)
    taus = [c for c in truth.users if c.startswith("tau_")]
    assert (truth.users[taus] == 0).all().all()
    assert (truth.users["propensity"] == 0.5).all()
    assert truth.mean("propensity") == 0.5


# --- events ---------------------------------------------------------------------------------------------------------


def test_events_are_in_the_order_of_time_within_the_three_periods(small: Marketplace) -> None:
    events, start = small.events, pd.Timestamp("2025-01-06")
    assert events["event_time"].is_monotonic_increasing
    assert events["event_time"].min() >= start
    assert events["event_time"].max() < start + 102 * DAY
    assert (small.campaign["sent_at"] == start + 60 * DAY).all()
    assert (small.experiment["assigned_at"] == start + 74 * DAY).all()
    last = (events["event_time"] - events.groupby("session_id")["event_time"].transform("min")).max()
    assert last <= pd.Timedelta(seconds=300)
    assert (events.groupby("session_id")["event_time"].agg(lambda t: t.dt.normalize().nunique()) == 1).all()


def test_slates_hold_an_item_and_a_position_once(small: Marketplace) -> None:
    shown = small.events[small.events["event_type"] == "impression"]
    assert not shown.duplicated(["session_id", "item_id"]).any()
    assert not shown.duplicated(["session_id", "position"]).any()
    assert shown["position"].between(1, 6).all()
    assert (small.events.groupby("session_id")["user_id"].nunique() == 1).all()
    assert small.events["item_id"].isin(small.items["item_id"]).all()
    assert small.events["user_id"].isin(small.users["user_id"]).all()


def test_every_step_follows_the_one_before(small: Marketplace) -> None:
    keys = ["session_id", "item_id", "position", "user_id"]
    steps = ["impression", "click", "cart", "purchase"]
    for earlier, later in itertools.pairwise(steps):
        before = small.events[small.events["event_type"] == earlier]
        after = small.events[small.events["event_type"] == later]
        joined = after.merge(before, on=keys, how="left", suffixes=("", "_before"))
        assert len(after) > 0
        assert len(joined) == len(after)
        assert (joined["event_time"] > joined["event_time_before"]).all()


def test_revenue_is_the_price_of_what_is_bought(small: Marketplace) -> None:
    events = small.events.merge(small.items, on="item_id")
    bought = events["event_type"] == "purchase"
    np.testing.assert_array_equal(events.loc[bought, "revenue"], events.loc[bought, "price"])
    assert (events.loc[~bought, "revenue"] == 0).all()


def test_clicks_fall_with_the_position(big) -> None:
    events = big[0].events
    counts = events.groupby(["event_type", "position"], observed=True).size()
    rate = counts["click"] / counts["impression"]
    assert rate[1] > 1.5 * rate[6]


# --- seeds, chunks, sizes -------------------------------------------------------------------------------------------


def same(one: Marketplace, other: Marketplace) -> bool:
    return all(getattr(one, f.name).equals(getattr(other, f.name)) for f in fields(Marketplace))


def test_the_same_seed_gives_the_same_data_and_another_another() -> None:
    seed = np.random.SeedSequence(5)
    runs = [simulate_marketplace(60, n_items=20, random_state=s)[0] for s in (5, 5, seed, seed, 6)]
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert same(runs[2], runs[3])  # the caller's seed is not used up
    assert not same(runs[0], runs[4])


def test_chunks_share_the_shop_and_nothing_else() -> None:
    one, other = (
        simulate_marketplace(60, n_items=20, random_state=seed, first_user=first, item_seed=9)[0]
        for seed, first in ((1, 0), (2, 60))
    )
    pd.testing.assert_frame_equal(one.items, other.items)
    pd.testing.assert_frame_equal(one.items, simulate_marketplace(5, n_items=20, random_state=9)[0].items)
    assert other.users["user_id"].tolist() == list(range(60, 120))
    assert not set(one.events["user_id"]) & set(other.events["user_id"])
    assert not set(one.events["session_id"]) & set(other.events["session_id"])
    assert not one.users["age"].equals(other.users["age"])


@pytest.mark.parametrize("split", [0.02, 0.5, 0.9])
def test_split_is_the_share_of_the_personalised(split: float) -> None:
    market, _ = simulate_marketplace(4000, n_items=20, days_history=1, split=split)
    share = (market.experiment["variant"] == "personalised").mean()
    assert abs(share - split) < 4 * np.sqrt(split * (1 - split) / 4000)


def test_one_of_everything() -> None:
    market, truth = simulate_marketplace(
        1, 1, days_history=1, days_campaign=1, days_experiment=1, impressions_per_session=1
    )
    assert [len(t) for t in (market.users, market.items, market.experiment, market.campaign, truth.users)] == [1] * 5
    assert market.tables().keys() == {"users", "items", "events", "experiment", "campaign"}


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"n_users": 0}, CausalRecError, "n_users is 0"),
        ({"days_history": -1}, CausalRecError, "days_history is -1"),
        ({"impressions_per_session": 91}, CausalRecError, "at most 90"),
        ({"split": 1.0}, CausalRecError, "split is 1.0"),
        ({"confounding": float("nan")}, CausalRecError, "confounding is nan"),
        ({"start": "yesterday"}, TimeError, "start is 'yesterday'; expected a date"),
    ],
)
def test_options_that_make_no_sense(options, error, message) -> None:
    with pytest.raises(error, match=message):
        simulate_marketplace(**{"n_users": 10, **options})
