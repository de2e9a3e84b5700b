"""What a shop's logs say about an e-mail campaign that was not drawn by lot, and the truth that they do not say."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from causalrec.datasets import campaign_table, simulate_marketplace

TREATMENT, OUTCOME, BOUGHT = "emailed", "spend", "bought"
PURCHASES, ENGAGEMENT = "purchases, 30 days", "engagement"
SESSIONS, SPENT = "sessions, 30 days", "spend, 30 days"  # before the e-mail, which cannot have changed them
PROFILE = ("age", "tenure_days", "loyalty", "device", "region", "price_sensitivity")
COVARIATES = (*PROFILE, ENGAGEMENT, PURCHASES)
WITHOUT_ENGAGEMENT = (*PROFILE, PURCHASES)
_DAYS = 14  # of the campaign
_ITEMS = 60


@dataclass(frozen=True)
class Logs:
    """One row per user as of the day of sending, their sessions before it, and apart from both the truth."""

    users: pd.DataFrame = field(repr=False)
    sessions: pd.DataFrame = field(repr=False)
    effect: pd.Series = field(repr=False)  # of the e-mail on each user's expected spend, by user_id
    effect_bought: pd.Series = field(repr=False)  # and on the probability of buying
    propensity: pd.Series = field(repr=False)

    @cached_property
    def by_session(self) -> pd.DataFrame:
        """The users' rows repeated, one for each session of the thirty days before: a join that fans out."""
        return self.sessions.merge(self.users, on="user_id", how="inner", validate="many_to_one")

    def truth(self, estimand: str = "ate", *, by_session: bool = False) -> float:
        """The average effect on spend over all, over the e-mailed (att), or over the overlap (ato).

        The overlap weights users by e(1 - e), e being the true probability of an e-mail. By session, users count as
        often as they came in the thirty days before.
        """
        ids = (self.by_session if by_session else self.users)["user_id"].to_numpy()
        score = self.propensity.loc[ids].to_numpy()
        emailed = self.users.set_index("user_id")[TREATMENT].loc[ids].to_numpy()
        weight = {"ate": np.ones(len(ids)), "att": emailed, "ato": score * (1 - score)}[estimand]
        return float(np.average(self.effect.loc[ids].to_numpy(), weights=weight))


def simulate_logs(n_users: int, seed: int) -> Logs:
    """Simulate the marketplace, and keep what an analyst of its campaign would query."""
    market, truth = simulate_marketplace(
        n_users, _ITEMS, days_history=30, days_campaign=_DAYS, days_experiment=1, impressions_per_session=1,
        random_state=seed,
    )  # fmt: skip
    events, sent = market.events, market.campaign["sent_at"].iloc[0]
    names = {"purchases_before": PURCHASES, "sessions_before": SESSIONS, "spend_before": SPENT}
    users = campaign_table(market).rename(columns=names)
    sessions = events.loc[events["event_time"] < sent, ["user_id", "session_id"]].drop_duplicates(ignore_index=True)
    known = truth.users.set_index("user_id")
    return Logs(users, sessions, known["tau_email_spend"], known["tau_email_conversion"], known["propensity"])
