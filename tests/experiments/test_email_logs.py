"""The e-mail campaign: the log and its truths by hand, a few campaigns, and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.datasets import simulate_marketplace
from causalrec.observational import ObservationalStudy
from experiments.email_logs.campaigns import by_session, over_campaigns, study_of, with_parts_wrong
from experiments.email_logs.hidden import BARE, EITHER, HIDDEN, VALID, check_campaigns, flag_rates
from experiments.email_logs.logs import (
    COVARIATES,
    OUTCOME,
    PURCHASES,
    SESSIONS,
    SPENT,
    TREATMENT,
    WITHOUT_ENGAGEMENT,
    Logs,
    simulate_logs,
)
from experiments.email_logs.run import EmailLogs, main


@pytest.fixture(scope="module")
def logs() -> Logs:
    return simulate_logs(4_000, 1)


def test_spend_and_purchases_by_hand(logs: Logs) -> None:
    market, truth = simulate_marketplace(
        4_000, 60, days_history=30, days_campaign=14, days_experiment=1, impressions_per_session=1, random_state=1
    )
    user = int(market.events.loc[market.events["event_type"] == "purchase", "user_id"].mode()[0])
    bought = market.events[(market.events["user_id"] == user) & (market.events["event_type"] == "purchase")]
    sent = market.campaign["sent_at"].iloc[0]
    within = bought["event_time"].between(sent, sent + pd.Timedelta(days=14), inclusive="left")
    row = logs.users.set_index("user_id").loc[user]
    assert row[OUTCOME] == pytest.approx(bought.loc[within, "revenue"].sum())
    assert row[PURCHASES] == min(3, int((bought["event_time"] < sent).sum()))
    assert logs.truth() == pytest.approx(truth.mean("tau_email_spend"), rel=1e-12)


def test_truths_of_the_estimands(logs: Logs) -> None:
    emailed = logs.users[TREATMENT].to_numpy() == 1
    effect, score = logs.effect.to_numpy(), logs.propensity.to_numpy()
    assert logs.truth("att") == pytest.approx(effect[emailed].mean(), rel=1e-12)
    assert logs.truth("ato") == pytest.approx(np.average(effect, weights=score * (1 - score)), rel=1e-12)
    sessions = logs.sessions["user_id"].value_counts()
    rows = np.average(logs.effect.loc[sessions.index], weights=sessions)
    assert logs.truth(by_session=True) == pytest.approx(rows, rel=1e-12)


def test_the_plain_comparison_is_too_large(logs: Logs) -> None:
    """Confounded on purpose; adjusted, the error is one of chance."""
    study = study_of(logs.users)
    assert study.estimate("difference_in_means").estimate > logs.truth() + 0.5
    adjusted = study.estimate("aipw_parametric")
    assert abs(adjusted.estimate - logs.truth()) < 3 * adjusted.std_error
    assert set(COVARIATES) <= set(logs.users.columns)


def test_a_cause_left_out_of_both_models_is_not_made_good(logs: Logs) -> None:
    found = {name: e.estimate for name, e in with_parts_wrong(logs).items()}
    right = found["both right: doubly robust"]
    assert abs(found["score wrong: doubly robust"] - right) < 0.15
    assert abs(found["outcome wrong: doubly robust"] - right) < 0.15
    assert found["both wrong: doubly robust"] > right + 0.3


def test_users_not_rows_are_independent(logs: Logs) -> None:
    found = by_session(logs)
    rows, users = found["regression, rows"], found["regression, users"]
    assert rows.estimate == users.estimate
    assert users.std_error > 1.25 * rows.std_error


def test_over_campaigns_by_hand() -> None:
    found = pd.DataFrame({
        "part": "method", "name": "ols", "seed": [0, 1], "estimate": [1.0, 3.0], "said": [0.4, 0.6],
        "low": [0.0, 2.5], "high": [2.0, 3.5], "truth": [1.5, 2.0],
    })  # fmt: skip
    [row] = over_campaigns(found, "method").to_dict("records")
    assert (row["estimate"], row["off by"], row["error said"], row["held, %"]) == ("regression", 0.25, 0.5, 50.0)
    assert row["root mean square"] == pytest.approx(np.sqrt((0.25 + 1.0) / 2), abs=5e-4)


def test_sessions_before_by_hand(logs: Logs) -> None:
    users = logs.users.set_index("user_id")
    came = logs.sessions.groupby("user_id")["session_id"].nunique().reindex(users.index, fill_value=0)
    assert (users[SESSIONS] == came).all()
    assert (users.loc[users[PURCHASES] == 0, SPENT] == 0).all()
    assert not {SESSIONS, SPENT} & set(COVARIATES)


def test_the_control_is_the_effect_on_sessions_before(logs: Logs) -> None:
    """One campaign by hand: without engagement the e-mail seems to change sessions that were over."""
    verdicts, strengths = check_campaigns(1, 4_000, n_full=0, first_seed=1)
    found = verdicts.set_index(["check", "design"])
    for design, covariates in ((VALID, COVARIATES), (HIDDEN, WITHOUT_ENGAGEMENT)):
        of_sessions = ObservationalStudy(
            logs.users, treatment=TREATMENT, outcome=SESSIONS, covariates=list(covariates)
        ).estimate("aipw_parametric")
        assert found.loc[(SESSIONS, design), "pvalue"] == pytest.approx(of_sessions.pvalue, rel=1e-9)
        assert found.loc[(EITHER, design), "pvalue"] == pytest.approx(
            min(1, 2 * min(found.loc[(c, design), "pvalue"] for c in (SESSIONS, SPENT))), rel=1e-9
        )
    assert found.loc[(SESSIONS, HIDDEN), "flagged"]
    assert not found.loc[(SESSIONS, VALID), "flagged"]
    assert found.loc[[(SESSIONS, BARE), (SPENT, BARE)], "flagged"].all()
    assert strengths.empty


def test_rates_by_hand() -> None:
    """3 of 20: Clopper and Pearson's interval by the beta distribution."""
    verdicts = pd.DataFrame({"check": "a", "design": "b", "flagged": [True] * 3 + [False] * 17})
    [row] = flag_rates(verdicts).to_dict("records")
    low, high = stats.beta.ppf([0.025, 0.975], [3, 4], [18, 17])
    assert (row["flagged, %"], row["campaigns"]) == (15.0, 20)
    assert (row["from"], row["to"]) == pytest.approx((100 * low, 100 * high), abs=0.051)


@pytest.mark.slow
def test_intervals_keep_their_promise(tmp_path: Path) -> None:
    """The whole run: bias and coverage of every method, wrong parts, rows and users."""
    found = main(["--output", str(tmp_path)])
    methods, parts, sessions = (t.set_index("estimate") for t in (found.methods, found.parts, found.sessions))
    naive, coarse = "no adjustment", "subclasses of the score"
    assert methods.loc[naive, "held, %"] < 30
    adjusted = methods.drop(index=[naive, coarse])
    assert (adjusted["to"] >= 95).all()
    assert (adjusted["off by"].abs() < 0.2).all()
    assert (adjusted["error said"] / adjusted["spread seen"]).between(0.8, 1.25).all()
    assert 0.05 < methods.loc[coarse, "off by"] / methods.loc[naive, "off by"] < 0.25
    assert parts.loc["both wrong: doubly robust", "held, %"] < 85
    assert parts.loc[["score wrong: doubly robust", "outcome wrong: doubly robust"], "to"].min() >= 95
    assert sessions.loc["weighting by the score, rows", "held, %"] < 88
    assert sessions.loc["weighting by the score, users", "to"] >= 95
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for words in ("Count users, not rows", "One forgotten cause undoes every method", "by lot"):
        assert words in page
    assert len(list(tmp_path.glob("*.png"))) == 8
    hidden_cause_is_told(found, page)


def hidden_cause_is_told(found: EmailLogs, page: str) -> None:
    """A right study is flagged no more than it should be, one without engagement nearly always; the report says so."""
    checks = found.checks
    assert checks.rate(SESSIONS, VALID)["from"] <= 5
    assert checks.rate(EITHER, VALID)["from"] <= 5
    assert checks.rate(SESSIONS, HIDDEN)["from"] > 90
    assert checks.rate(SPENT, HIDDEN)["to"] < 30
    assert checks.rate(SPENT, BARE)["from"] > 90
    simulated = checks.rates[checks.rates["check"].isin(["placebo treatment", "data subset", "dummy outcome"])]
    assert (simulated["from"] <= 5).all()
    assert {name: r.verdict for name, r in checks.reports.items()} == {VALID: "plausible", HIDDEN: "doubtful"}
    assert any("sessions, 30 days" in doubt for doubt in checks.reports[HIDDEN].doubts)
    gamma = checks.strengths.groupby("design")["gamma"].median()
    assert gamma[HIDDEN] > gamma[VALID] > 1.1
    assert "Failed refutation: negative control outcome: sessions, 30 days" in page
