"""The recommendation study: its truth against drawing, its pages' speed by another way, and what it decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.recommendation_ab.run import (
    BUILT,
    COLD,
    EFFECTS,
    GUARDRAILS,
    Recommendation,
    decision_rule,
    experiment,
    first_day,
    main,
    study_ranking,
    true_verdict,
)
from experiments.recommendation_ab.shop import (
    CONTROL,
    RANKINGS,
    TREATMENT,
    Cohorts,
    Ranking,
    page_loads,
    rows_of,
    simulate_cohorts,
    true_values,
)


@pytest.fixture(scope="module")
def cohorts() -> Cohorts:
    return simulate_cohorts(3, 2_000)


@pytest.fixture(scope="module")
def truth(cohorts: Cohorts) -> pd.DataFrame:
    return true_values(cohorts.truth, cohorts.sessions, RANKINGS[BUILT])


def test_latency_law_by_drawing() -> None:
    slow = Ranking(median=28, sigma=0.35, slow=0.08, wait=900)
    drawn = slow.draw(np.random.default_rng(0), 400_000)
    assert drawn.mean() == pytest.approx(slow.mean, abs=4 * drawn.std() / np.sqrt(len(drawn)))
    for q in (0.5, 0.9, 0.95, 0.99):
        share = np.mean(drawn <= slow.quantile(q))
        assert abs(share - q) < 4 * np.sqrt(q * (1 - q) / len(drawn))
    plain = Ranking(median=18, sigma=0.35)
    assert plain.quantile(0.95) == pytest.approx(stats.lognorm(0.35, scale=18).ppf(0.95), rel=1e-9)


def test_a_customer_is_in_one_row_and_counts_are_of_their_sessions(cohorts: Cohorts) -> None:
    users, sessions = cohorts.users, cohorts.sessions
    assert users["user_id"].is_unique
    assert users.groupby("day").size().tolist() == [2_000] * 3
    sums = sessions.groupby("user_id")[["impressions", "clicks", "carts"]].sum().reindex(users["user_id"], fill_value=0)
    for column in sums:
        np.testing.assert_array_equal(sums[column], users[column])
    bought = sessions.groupby("user_id")["bought"].any().reindex(users["user_id"], fill_value=False)
    np.testing.assert_array_equal(bought.astype(int), users["bought"])
    rows = rows_of(users, page_loads(sessions, RANKINGS[BUILT]))
    assert rows["kind"].value_counts().to_dict() == {"customer": 6_000, "page": len(sessions)}


def test_exact_truth_is_that_of_the_simulator(cohorts: Cohorts, truth: pd.DataFrame) -> None:
    """Differences are the marketplace's own, which come without the expected purchases."""
    assert truth.loc["conversion", "difference"] == pytest.approx(cohorts.truth["tau_conversion"].mean(), rel=1e-9)
    assert truth.loc["revenue", "difference"] == pytest.approx(cohorts.truth["tau_revenue"].mean(), rel=1e-9)
    for name, column in (("revenue", "revenue"), ("conversion", "bought")):
        for arm, side in ((CONTROL, "control"), (TREATMENT, "treatment")):
            seen = cohorts.users.loc[cohorts.users["variant"] == arm, column]
            assert abs(seen.mean() - truth.loc[name, side]) < 4 * seen.std() / np.sqrt(len(seen))


def test_sessions_are_as_many_as_expected(cohorts: Cohorts) -> None:
    for arm, column in ((CONTROL, "expected_purchases"), (TREATMENT, "expected_purchases_personalised")):
        of_arm = (cohorts.users["variant"] == arm).to_numpy()
        seen = cohorts.sessions[cohorts.sessions["variant"] == arm]
        for bought, name in ((True, column), (False, "expected_idle_sessions")):
            expected = cohorts.truth.loc[of_arm, name].sum()
            assert abs((seen["bought"] == bought).sum() - expected) < 4 * np.sqrt(expected)


def test_true_page_load_by_drawing(cohorts: Cohorts) -> None:
    """Sessions of a large shop where everyone has another customer's network: mean and 95% within their error."""
    truth = true_values(cohorts.truth, cohorts.sessions, RANKINGS[COLD])
    for arm, side in ((CONTROL, "control"), (TREATMENT, "treatment")):
        purchases = "expected_purchases" + ("_personalised" if arm == TREATMENT else "")
        weight = (cohorts.truth[purchases] + cohorts.truth["expected_idle_sessions"]).groupby(cohorts.truth["device"])
        counts = (150_000 * weight.sum() / weight.sum().sum()).round().astype(int)
        sessions = pd.DataFrame({"device": np.repeat(counts.index, counts), "variant": arm})
        loads = page_loads(sessions.assign(user_id=np.arange(len(sessions))), RANKINGS[COLD])["load_ms"]
        assert abs(loads.mean() - truth.loc["load_mean", side]) < 4 * loads.std() / np.sqrt(len(loads))
        below = np.mean(loads <= truth.loc["load_p95", side])
        assert abs(below - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(loads))


def test_ratios_of_sessions_are_the_truth_of_click_through(cohorts: Cohorts) -> None:
    """With as many sessions as there were, means of sessions give the ratio of the table again."""
    sessions = cohorts.sessions
    truth = true_values(cohorts.truth, sessions, RANKINGS[BUILT])
    for name, over, under in (("ctr", "clicks", "impressions"), ("add_to_cart", "carts", "clicks")):
        seen = sessions[over].sum() / sessions[under].sum()
        assert truth.loc[name, "control"] - 0.02 < seen < truth.loc[name, "treatment"] + 0.02
        assert truth.loc[name, "difference"] > 0


def test_every_metric_has_a_truth_and_guardrails_a_margin(truth: pd.DataFrame) -> None:
    assert set(truth.index) == {*EFFECTS, *GUARDRAILS}
    assert truth.notna().all(axis=None)
    rule = decision_rule(6_000, 2_000)
    assert experiment(rule).decision is rule


def test_a_slow_ranking_is_refused_on_the_first_day_it_can_be(cohorts: Cohorts) -> None:
    rows = rows_of(cohorts.users, page_loads(cohorts.sessions, RANKINGS[COLD]))
    found = study_ranking(cohorts, rows, cohorts.sessions, COLD)
    assert (found.verdict.verdict, true_verdict(found)) == ("don't ship", "don't ship")
    assert first_day(found.looks, "Don't ship") in (1, 3)
    assert {r.status for r in found.verdict.rows if r.metric == "latency_p95"} == {"harm"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommendation, Path]:
    output = tmp_path_factory.mktemp("recommendation_ab")
    return main(["--output", str(output)]), output


@pytest.mark.slow
def test_the_study_as_the_readme_tells_it(found: tuple[Recommendation, Path]) -> None:
    results, output = found
    assert {p.name for p in output.iterdir()} == {"index.html", "effects.png", "cold_cache.png", "over_time.png"}
    assert [s.verdict.verdict for s in results.scenarios.values()] == ["ship", "don't ship"]
    assert [true_verdict(s) for s in results.scenarios.values()] == ["ship", "don't ship"]
    revenue = results.built.result["revenue"]
    assert [round(v, 2) for v in (revenue.estimate, revenue.ci_low, revenue.ci_high)] == [0.34, 0.21, 0.47]
    assert first_day(results.built.looks, "Ship") == 17
    for scenario in results.scenarios.values():
        for effect in scenario.result.effects:
            assert effect.ci_low <= scenario.truth.loc[effect.metric, "difference"] <= effect.ci_high
    assert results.impact.ci_low < results.true_impact < results.impact.ci_high
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "Ship personalised" in page
    assert "the rule ships at the look of day 17" in page
