"""The campaign's table: counted by hand from the log, and a truth that an adjusted estimate finds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalrec.datasets import campaign_table, simulate_campaign, simulate_marketplace
from causalrec.observational import ObservationalStudy

COVARIATES = ["age", "tenure_days", "loyalty", "device", "region", "price_sensitivity", "engagement"]


def test_a_users_row_is_what_the_log_says() -> None:
    market, _ = simulate_marketplace(300, 20, days_history=30, days_campaign=14, days_experiment=5, random_state=3)
    table = campaign_table(market).set_index("user_id")
    sent = market.campaign["sent_at"].iloc[0]
    bought = market.events[market.events["event_type"] == "purchase"]
    for user in (int(bought["user_id"].mode()[0]), 0, 1, 2):
        mine = bought[bought["user_id"] == user]
        before = mine[mine["event_time"] < sent]
        after = mine[(mine["event_time"] >= sent) & (mine["event_time"] < sent + pd.Timedelta(days=14))]
        assert table.loc[user, "purchases_before"] == min(len(before), 3)
        visits = market.events[(market.events["user_id"] == user) & (market.events["event_time"] < sent)]
        assert table.loc[user, "sessions_before"] == visits["session_id"].nunique()
        np.testing.assert_allclose(table.loc[user, "spend_before"], before["revenue"].sum())
        np.testing.assert_allclose(table.loc[user, "spend"], after["revenue"].sum())
        assert table.loc[user, "bought"] == int(len(after) > 0)


def test_adjusting_finds_the_truth_and_leaving_a_cause_out_does_not() -> None:
    frame, truth = simulate_campaign(20_000, random_state=1)
    true = truth["tau_spend"].mean()

    def effect(covariates: list[str], outcome: str = "spend") -> float:
        study = ObservationalStudy(frame, treatment="emailed", outcome=outcome, covariates=covariates)
        found = study.estimate("aipw_parametric")
        return (found.estimate - (true if outcome == "spend" else 0)) / found.std_error

    assert abs(effect([*COVARIATES, "purchases_before"])) < 3
    assert abs(effect([*COVARIATES, "purchases_before"], "spend_before")) < 3  # the e-mail came after it
    assert effect(COVARIATES[:-1]) > 3
    assert abs(effect([*COVARIATES, "purchases_before"], "sessions_before")) < 3
    assert effect([*COVARIATES[:-1], "purchases_before"], "sessions_before") > 5
