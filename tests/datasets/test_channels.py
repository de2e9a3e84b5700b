"""The channels' truth against their own logs, and that the logs are what the docstring says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalrec.datasets import ChannelLogs, ChannelsTruth, simulate_channels
from causalrec.exceptions import CausalRecError, TimeError

CHANNELS = ["display", "email", "push", "search", "social"]


@pytest.fixture(scope="module")
def big() -> tuple[ChannelLogs, ChannelsTruth]:
    return simulate_channels(30_000, random_state=3)


def of_period(logs: ChannelLogs) -> pd.DataFrame:
    at = logs.touches["event_time"]
    return logs.touches[(at >= logs.period_start) & (at < logs.period_end)]


def outcomes(logs: ChannelLogs) -> np.ndarray:
    after = logs.conversions[logs.conversions["event_time"] >= logs.period_end]
    return after.groupby("user_id").size().reindex(logs.users["user_id"], fill_value=0).to_numpy()


def test_causes_add_up_to_the_conversions(big) -> None:
    logs, truth = big
    cause = truth.causes.set_index("conversion_id")["cause"].reindex(logs.conversions["conversion_id"]).to_numpy()
    after = (logs.conversions["event_time"] >= logs.period_end).to_numpy()
    counted = pd.Series(cause[after]).value_counts()
    assert counted[CHANNELS].tolist() == truth.channels["caused"].tolist()
    assert counted["organic"] + truth.channels["caused"].sum() == after.sum()


def test_what_a_channel_causes_is_poisson_about_its_expectation(big) -> None:
    _, truth = big
    channels, users = truth.channels, truth.users
    z = (channels["caused"] - channels["incremental"]) / np.sqrt(channels["incremental"])
    assert (z.abs() < 4).all()
    organic = (truth.causes["cause"] == "organic").sum() * 14 / 81
    assert abs(organic - users["expected_organic"].sum()) < 4 * np.sqrt(organic)
    np.testing.assert_allclose(channels["att"] * channels["touched_users"], channels["incremental"])
    assert truth.incremental() == dict(zip(CHANNELS, channels["incremental"], strict=True))


def test_only_the_touched_have_what_a_channel_causes_and_only_afterwards(big) -> None:
    logs, truth = big
    first = of_period(logs).groupby(["user_id", "channel"])["event_time"].min()
    caused = logs.conversions.merge(truth.causes, on="conversion_id").query("cause != 'organic'")
    touched = first.reindex(pd.MultiIndex.from_frame(caused[["user_id", "cause"]])).to_numpy()
    assert not pd.isna(touched).any()
    assert (caused["event_time"].to_numpy() > touched).all()


@pytest.mark.parametrize("channel", CHANNELS)
def test_touches_are_confounded_and_the_true_propensity_mends_it(big, channel: str) -> None:
    logs, truth = big
    y = outcomes(logs)
    treated = logs.users["user_id"].isin(of_period(logs).query("channel == @channel")["user_id"]).to_numpy()
    propensity = truth.users[f"propensity_{channel}"].to_numpy()
    odds = np.where(treated, 1.0, propensity / (1 - propensity))
    means = [np.average(y[treated == a], weights=odds[treated == a]) for a in (False, True)]
    influence = np.where(treated, y - means[1], -odds * (y - means[0]))
    error = np.sqrt((influence**2).sum()) / treated.sum()
    att = truth.channels.set_index("channel")["att"][channel]
    assert abs(means[1] - means[0] - att) < 4 * error
    naive = y[treated].mean() - y[~treated].mean()
    assert (naive - att < -4 * error) if channel == "social" else (naive - att > 4 * error)


def test_propensities_are_those_of_the_period(big) -> None:
    logs, truth = big
    for channel in CHANNELS:
        treated = logs.users["user_id"].isin(of_period(logs).query("channel == @channel")["user_id"])
        propensity = truth.users[f"propensity_{channel}"]
        for _, rows in propensity.groupby(pd.qcut(propensity, 8, duplicates="drop"), observed=True):
            spread = np.sqrt(rows.mean() * (1 - rows.mean()) / len(rows))
            assert abs(treated[rows.index].mean() - rows.mean()) < 4 * spread


def test_random_targeting_and_no_effect_on_request() -> None:
    _, truth = simulate_channels(300, confounding=0, effect_scale=0)
    assert (truth.users.filter(like="propensity_").nunique() == 1).all()
    assert (truth.channels[["incremental", "caused"]] == 0).all().all()
    assert set(truth.causes["cause"]) == {"organic"}


@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_targeting_follows_what_can_be_seen_alone_unless_asked(hidden: float) -> None:
    logs, truth = simulate_channels(3_000, hidden=hidden, random_state=2)
    before = logs.conversions[logs.conversions["event_time"] < logs.period_start]
    past = before.groupby("user_id").size().reindex(logs.users["user_id"], fill_value=0)
    alike = [logs.users["visits"], logs.users["loyalty"], logs.users["device"] == "app", past.to_numpy()]
    for channel in CHANNELS:
        propensity = truth.users[f"propensity_{channel}"]
        spread = propensity.groupby(alike, observed=True).agg(np.ptp).max()
        assert (spread > 0.2) if hidden else (spread < 1e-12)


def test_logs_are_in_the_order_of_time_within_their_bounds(big) -> None:
    logs, _ = big
    start = pd.Timestamp("2025-01-06")
    assert logs.period_start == start + pd.Timedelta(days=60)
    assert logs.outcome_end == start + pd.Timedelta(days=81)
    for table in (logs.touches, logs.conversions):
        at = table["event_time"]
        assert at.is_monotonic_increasing
        assert at.min() >= start
        assert (at == at.dt.floor("s")).all()
    assert logs.touches["event_time"].max() < logs.period_end
    assert logs.conversions["event_time"].max() < logs.outcome_end
    assert (logs.conversions["value"] > 0).all()
    assert logs.tables().keys() == {"users", "touches", "conversions"}


def test_the_same_seed_gives_the_same_data_and_another_another() -> None:
    seed = np.random.SeedSequence(5)
    runs = [simulate_channels(60, random_state=s)[0] for s in (5, 5, seed, seed, 6)]
    same = [all(t.equals(runs[0].tables()[n]) for n, t in run.tables().items()) for run in runs]
    assert same == [True, True, True, True, False]


def test_one_of_everything() -> None:
    logs, truth = simulate_channels(1, days_history=1, days_period=1, days_outcome=1)
    assert len(logs.users) == len(truth.users) == 1
    assert len(truth.channels) == 5


@pytest.mark.parametrize(
    "options,error,message",
    [
        ({"n_users": 0}, CausalRecError, "n_users is 0"),
        ({"days_period": -1}, CausalRecError, "days_period is -1"),
        ({"confounding": float("nan")}, CausalRecError, "confounding is nan"),
        ({"effect_scale": -1.0}, CausalRecError, "effect_scale is -1.0"),
        ({"start": "yesterday"}, TimeError, "start is 'yesterday'; expected a date"),
    ],
)
def test_options_that_make_no_sense(options, error, message) -> None:
    with pytest.raises(error, match=message):
        simulate_channels(**{"n_users": 10, **options})
