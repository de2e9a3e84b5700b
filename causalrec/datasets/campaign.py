"""One table of a simulated e-mail campaign, a row per user: what an analyst would query from a shop's logs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalrec.datasets.marketplace import Marketplace, simulate_marketplace

_DAYS, _HISTORY, _ITEMS = 14, 30, 60
_MOST = 3  # the marketing team looked no further than three purchases


def campaign_table(market: Marketplace, *, days: int = _DAYS) -> pd.DataFrame:
    """Users as of the day of sending, and what they did after it.

    Parameters
    ----------
    market : Marketplace
    days : int
        How long outcomes are counted from the sending, not counting its end.

    Returns
    -------
    frame
        The columns of ``market.users``; ``purchases_before`` (at most 3, which is as far as the campaign's targeting
        looks), ``spend_before`` and ``sessions_before``, strictly before the sending; ``emailed`` (0/1); ``spend``
        and ``bought`` (0/1) in the ``days`` after it.

    Examples
    --------
    >>> market, _ = simulate_marketplace(100, 20, days_history=30, days_campaign=14, days_experiment=1, random_state=0)
    >>> campaign_table(market)[["purchases_before", "emailed", "bought"]].max().tolist()
    [3, 1, 1]
    """
    ids, events = market.users["user_id"], market.events
    sent = market.campaign["sent_at"].iloc[0]
    came = (
        events.loc[events["event_time"] < sent, ["user_id", "session_id"]].drop_duplicates().groupby("user_id").size()
    )
    bought = events[events["event_type"] == "purchase"]
    before = bought["event_time"] < sent
    within = ~before & (bought["event_time"] < sent + pd.Timedelta(days=days))
    past, after = (bought[rows].groupby("user_id")["revenue"] for rows in (before, within))
    spend = after.sum().reindex(ids, fill_value=0.0).to_numpy()
    return market.users.assign(
        purchases_before=np.minimum(past.size().reindex(ids, fill_value=0).to_numpy(), _MOST),
        spend_before=past.sum().reindex(ids, fill_value=0.0).to_numpy(),
        sessions_before=came.reindex(ids, fill_value=0).to_numpy(),
        emailed=market.campaign["emailed"],
        spend=spend,
        bought=(spend > 0).astype(np.int64),
    )


def simulate_campaign(n_users: int = 20_000, *, random_state: Any = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A campaign that went to the best customers, and the truth about every user.

    Who is e-mailed depends on ``loyalty``, ``engagement`` and ``purchases_before``, which go with purchases as well:
    adjusting for these identifies the effect, leaving ``engagement`` out does not. ``sessions_before`` and
    ``spend_before`` are negative-control outcomes: the e-mail came after them.

    Parameters
    ----------
    n_users : int
    random_state : int, SeedSequence or Generator

    Returns
    -------
    frame
        As of :func:`campaign_table`.
    truth
        ``user_id``, ``propensity`` (P(emailed)), ``tau_spend`` and ``tau_bought``: the effect on each user's expected
        spend, and on the probability of buying, within 14 days.

    Examples
    --------
    >>> frame, truth = simulate_campaign(500, random_state=1)
    >>> len(frame) == len(truth) == 500, bool(truth["tau_spend"].mean() > 0)
    (True, True)
    """
    market, truth = simulate_marketplace(
        n_users, _ITEMS, days_history=_HISTORY, days_campaign=_DAYS, days_experiment=1, impressions_per_session=1,
        random_state=random_state,
    )  # fmt: skip
    named = {"tau_email_spend": "tau_spend", "tau_email_conversion": "tau_bought"}
    return campaign_table(market), truth.users[["user_id", "propensity", *named]].rename(columns=named)
