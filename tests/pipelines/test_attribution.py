"""What channels caused beside what rules credit: the known truth, the study by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.datasets import ChannelLogs, ChannelsTruth, simulate_channels
from causalrec.engines import LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.journeys.credit import RULES, credit
from causalrec.observational import ObservationalStudy
from causalrec.pipelines.attribution import (
    compare_attribution,
    run_attribution,
    run_credit,
    shown_attribution,
    shown_credit,
)
from causalrec.results import AttributionResult

Simulated = tuple[ChannelLogs, ChannelsTruth]
FAST = {"method": "aipw_parametric", "covariates": ["loyalty", "device", "visits"]}


@pytest.fixture(scope="module")
def market() -> Simulated:
    return simulate_channels(5_000, random_state=11)


@pytest.fixture(scope="module")
def found(market: Simulated) -> AttributionResult:
    return attributed(market)


def attributed(market: Simulated, **options: Any) -> AttributionResult:
    logs, truth = market
    given: dict[str, Any] = {
        "period": (logs.period_start, logs.period_end), "users": logs.users, "truth": truth.incremental(), **FAST
    }  # fmt: skip
    tables = options.pop("touches", logs.touches), options.pop("conversions", logs.conversions)
    return compare_attribution(*tables, **{**given, **options})


def test_intervals_cover_the_truth_and_neither_rules_nor_the_plain_difference_do(found: AttributionResult) -> None:
    assert ((found.ci_low < found.truth) & (found.truth < found.ci_high)).all()
    assert np.mean(found.outside) > 0.8
    assert ((found.naive < found.ci_low) | (found.naive > found.ci_high)).sum() >= 3
    assert found.credit.sum() > 3 * len(found.rules) * found.truth.sum()


def test_all_parts_are_those_of_the_logs(market: Simulated, found: AttributionResult) -> None:
    logs, truth = market
    after = logs.conversions[logs.conversions["event_time"] >= logs.period_end]
    assert found.total == len(after)
    assert found.touched.tolist() == truth.channels["touched_users"].tolist()
    np.testing.assert_allclose(found.credit.sum(axis=0) + found.without_touch, found.total)
    touched_users = logs.touches[logs.touches["event_time"] >= logs.period_start]["user_id"].unique()
    assert found.without_touch == (~after["user_id"].isin(touched_users)).sum()
    during = logs.touches[logs.touches["event_time"] >= logs.period_start]
    rules = credit(during, after, rules=RULES, window=None)
    np.testing.assert_allclose(found.credit, rules.credit[:-1], atol=1e-9)


def test_the_effect_is_that_of_a_study_made_by_hand(market: Simulated, found: AttributionResult) -> None:
    logs, _ = market
    users = logs.users.set_index("user_id")
    early_t = logs.touches[logs.touches["event_time"] < logs.period_start]
    early_c = logs.conversions[logs.conversions["event_time"] < logs.period_start]
    late = logs.conversions[logs.conversions["event_time"] >= logs.period_end]
    frame = users.copy()
    for channel in found.channels:
        count = early_t[early_t["channel"] == channel].groupby("user_id").size()
        frame[f"n_{channel}"] = np.log1p(count.reindex(users.index, fill_value=0))
    frame["bought"] = np.log1p(early_c.groupby("user_id").size().reindex(users.index, fill_value=0))
    for name, table in (("touch", early_t), ("order", early_c)):
        since = (logs.period_start - table.groupby("user_id")["event_time"].max()) / pd.Timedelta(days=1)
        frame[name] = since.reindex(users.index).fillna(since.max())
    frame["y"] = late.groupby("user_id").size().reindex(users.index, fill_value=0)
    pushed = logs.touches.query("channel == 'push' and event_time >= @logs.period_start")["user_id"]
    frame["t"] = users.index.isin(pushed).astype(int)
    study = ObservationalStudy(
        frame, treatment="t", outcome="y", covariates=[c for c in frame if c not in ("y", "t")]
    )  # fmt: skip
    effect = study.estimate("aipw_parametric", estimand="att")
    k = found.channels.index("push")
    n = frame["t"].sum()
    assert found.incremental[k] == pytest.approx(effect.estimate * n, rel=1e-8)
    assert found.ci_high[k] == pytest.approx(effect.ci_high * n, rel=1e-8)
    plain = frame.groupby("t")["y"].mean()
    assert found.naive[k] == pytest.approx((plain[1] - plain[0]) * n)


def test_rows_in_any_order_give_the_same(market: Simulated, found: AttributionResult) -> None:
    logs, _ = market
    tables = {n: t.sample(frac=1, random_state=3) for n, t in logs.tables().items()}
    kept = {n: t.copy(deep=True) for n, t in tables.items()}
    again = attributed(market, **tables)
    np.testing.assert_array_equal(again.incremental, found.incremental)
    np.testing.assert_array_equal(again.ci_low, found.ci_low)
    np.testing.assert_array_equal(again.credit, found.credit)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, kept[name])


def test_values_in_another_currency_are_other_numbers_and_nothing_else(market: Simulated) -> None:
    logs, _ = market
    dear = logs.conversions.assign(value=8.0 * logs.conversions["value"])
    one, other = (
        attributed(market, conversions=c, value="value", truth=None, channels=["push", "social"])
        for c in (logs.conversions, dear)
    )
    np.testing.assert_allclose(other.incremental, 8 * one.incremental, rtol=1e-7)
    np.testing.assert_allclose(other.ci_high, 8 * one.ci_high, rtol=1e-7)
    np.testing.assert_allclose(other.credit, 8 * one.credit, rtol=1e-12)
    assert one.outcome == "value of conversions"
    assert "value_before" in one.covariates
    after = logs.conversions["event_time"] >= logs.period_end
    assert one.total == pytest.approx(logs.conversions["value"][after].sum())


def test_the_other_channels_of_the_period_on_request(market: Simulated, found: AttributionResult) -> None:
    more = attributed(market, adjust_for_others=True)
    assert set(more.covariates) - set(found.covariates) == {f"touched_{c}" for c in found.channels}
    assert ((more.ci_low < more.truth) & (more.truth < more.ci_high)).all()  # independent given the others


def test_targeting_that_nothing_shows_is_not_mended() -> None:
    """What the printed assumptions are for."""
    found = attributed(simulate_channels(15_000, hidden=1.5, random_state=2), channels=["display", "social"])
    assert (found.ci_low > found.truth).all()


def test_a_channel_that_touches_everybody_has_no_effect_and_says_why(market: Simulated) -> None:
    logs, _ = market
    everybody = pd.DataFrame({"user_id": logs.users["user_id"], "channel": "tv", "event_time": logs.period_start})
    touches = pd.concat([logs.touches, everybody])
    found = attributed(market, touches=touches, channels=["social", "tv"], truth=None)
    assert np.isnan(found.incremental).tolist() == [False, True]
    assert found.failures[0].startswith("tv: ")
    assert "no effect of tv" in str(found)
    assert len(found.effects) == 1
    with pytest.raises(CausalRecError, match=r"no channel gave an estimate\. tv: "):
        attributed(market, touches=touches, channels=["tv"], truth=None)


def test_progress_is_told(market: Simulated) -> None:
    seen: list[tuple[int, int]] = []
    attributed(market, channels=["push", "social"], progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "aipw_parametrik"}, "expected one that adjusts and has the att.* Did you mean 'aipw_parametric'"),
        ({"method": "difference_in_means"}, "expected one that adjusts"),
        ({"method": "overlap_weights"}, "has the att"),
        ({"truth": {"push": 1.0}}, "truth has no number for 'display', 'email'"),
        ({"options": {"folds": 3}}, "no channel gave an estimate.*has no option 'folds'"),
    ],
)
def test_what_cannot_be_done_is_refused(market: Simulated, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CausalRecError, match=message):
        attributed(market, **options)


# --- from files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def local() -> Iterator[LocalEngine]:
    with LocalEngine(threads=1) as engine:
        yield engine


def test_one_log_of_events_or_two_files(market: Simulated, local: LocalEngine, tmp_path: Path) -> None:
    logs, _ = market
    paths = {name: tmp_path / f"{name}.parquet" for name in ("touches", "conversions", "users", "log")}
    for name, table in logs.tables().items():
        table.to_parquet(paths[name])
    log = pd.concat([logs.touches.assign(event_type="touch"), logs.conversions.assign(event_type="purchase")])
    log.to_parquet(paths["log"])
    shared = {"start": logs.period_start, "end": logs.period_end, "users": paths["users"], **FAST, "engine": local}
    two = run_attribution(paths["touches"], conversions=paths["conversions"], **shared)
    one = run_attribution(paths["log"], **shared)
    np.testing.assert_array_equal(one.incremental, two.incremental)
    np.testing.assert_array_equal(one.credit, two.credit)
    by_rule = run_credit(paths["log"], engine=local)
    np.testing.assert_array_equal(by_rule.credit, credit(logs.touches, logs.conversions, rules=RULES).credit)
    names = local.collect("SELECT view_name FROM duckdb_views() WHERE NOT internal")
    assert names.empty
    caption, table = shown_credit(by_rule)
    assert caption == f"conversions credited, of {len(logs.conversions):,}; touches of the 30d before each"
    assert table.columns.tolist() == ["channel", *(r.replace("_", " ") for r in RULES)]
    _, table = shown_attribution(two)
    assert table["caused"].str.contains(r"^-?[\d,.]+ \[").all()
    with pytest.raises(ColumnError, match="the log: missing column 'event_type'"):
        run_credit(paths["touches"], engine=local)


# --- claims ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say() -> None:
    """200 intervals of 95%: the count of those that cover is binomial."""
    covered, outside = [], []
    for seed in range(40):
        found = attributed(simulate_channels(4_000, random_state=1_000 + seed))
        covered.append((found.ci_low < found.truth) & (found.truth < found.ci_high))
        outside.append(found.outside)
    assert 0.90 <= np.mean(covered) <= 0.985
    assert np.mean(outside) > 0.75


def test_a_log_that_ends_within_the_outcome_window_is_said(market: Simulated, found: AttributionResult) -> None:
    logs, _ = market
    assert found.last_conversion == str(logs.conversions["event_time"].max())
    assert "The last conversion is" not in str(found)
    cut = logs.period_end + pd.Timedelta(days=7)
    short = attributed(market, conversions=logs.conversions[logs.conversions["event_time"] < cut])
    assert "50% of the window before its end: if the log ends there" in str(short)
