"""Retention by day, churn by period, durations from a log: closed forms, lifelines, and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from causalrec.datasets.service import simulate_service
from causalrec.exceptions import CausalRecError, TimeError
from causalrec.survival import churn_hazards, durations_of, kaplan_meier, retention, rmst_difference

BASE = {"treatment": ["new"] * 5 + ["old"] * 5, "control": "old"}
TIME, EVENT = [2, 5, 9, 9, 12, 3, 3, 7, 8, 10], [1, 1, 1, 0, 0, 1, 1, 1, 0, 1]


@pytest.fixture(scope="module")
def censored():
    rng = np.random.default_rng(7)
    arm = np.repeat(["old", "new"], 400)
    life, end = rng.exponential(np.where(arm == "old", 12.0, 18.0)), rng.uniform(5, 30, 800)
    return pd.DataFrame({"time": np.minimum(life, end), "event": life < end, "arm": arm})


def test_without_censoring_it_is_the_share():
    rng = np.random.default_rng(1)
    life, arm = np.ceil(rng.exponential(15, 200)), np.repeat([0, 1], 100)
    result = retention(life, np.ones(200), treatment=arm, days=[7, 20])
    share = [[(life[arm == a] > day).mean() for day in (7, 20)] for a in (0, 1)]
    np.testing.assert_allclose(result.retention, np.ravel(share), rtol=1e-12)
    errors = [math.sqrt(p * (1 - p) / 100) for p in np.ravel(share)]
    np.testing.assert_allclose(result.std_error, errors, rtol=1e-10)
    effect = result.effect(7)
    assert effect.estimate == pytest.approx(share[1][0] - share[0][0], rel=1e-12)
    assert effect.std_error == pytest.approx(math.hypot(errors[0], errors[2]), rel=1e-10)
    assert effect.ci_high == pytest.approx(effect.estimate + 1.959963984540054 * effect.std_error, rel=1e-12)
    assert (effect.control, effect.treatment, effect.n_control, effect.n_treatment) == ("0", "1", 100, 100)


def test_equal_to_the_curve_and_to_lifelines(censored):
    lifelines = pytest.importorskip("lifelines")
    result = retention(censored.time, censored.event, treatment=censored.arm, control="old", days=[7, 14, 28])
    curves = kaplan_meier(censored.time, censored.event, treatment=censored.arm, control="old").at([7, 14, 28])
    columns = {"survival": "retention", "std_error": "std_error", "ci_low": "ci_low", "ci_high": "ci_high"}
    for theirs, ours in columns.items():
        np.testing.assert_allclose(getattr(result, ours), curves[theirs], rtol=1e-12)
    np.testing.assert_array_equal(result.at_risk, curves["at_risk"])
    for arm in ("old", "new"):
        rows = censored[censored.arm == arm]
        with np.errstate():
            other = lifelines.KaplanMeierFitter().fit(rows.time, rows.event)
        np.testing.assert_allclose(result.retention[result.arm == arm], other.predict([7, 14, 28]), rtol=1e-12)


def test_days_without_an_answer_say_why():
    result = retention(TIME, EVENT, **BASE, days=[1, 7, 11, 30])
    table = result.to_frame().set_index(["arm", "day"])
    assert table.loc[("old", 1), "retention"] == 1
    assert table.loc[("old", 1), "ci_low"] == pytest.approx(0.025**0.2)  # five, none of whom left: Clopper-Pearson
    assert table.loc[("old", 1), "note"] == "nobody of old left until day 1, so there is no standard error"
    assert table.loc[("old", 11), "retention"] == 0
    assert math.isnan(table.loc[("new", 30), "retention"])
    assert table.loc[("new", 30), "note"] == "day 30 is beyond the follow-up of new, 12 days"
    assert math.isnan(result.effect(30).estimate)
    assert math.isnan(result.effect(1).pvalue)
    assert result.effect(1).estimate == 0
    assert "after 1 day, 100.0% of new and 100.0% of old are still there" in str(result)
    with pytest.raises(KeyError, match="unknown"):
        result.effect(8)
    with pytest.raises(CausalRecError, match="days is"):
        retention(TIME, EVENT, **BASE, days=[0, 7])


def test_several_arms():
    result = retention(TIME, EVENT, treatment=["a"] * 3 + ["b"] * 3 + ["c"] * 4, control="b", days=[4])
    assert [e.treatment for e in result.effects] == ["a", "c"]
    assert result.effect(4, "c").estimate == pytest.approx(3 / 4 - 2 / 3)
    with pytest.raises(KeyError, match="ambiguous"):
        result.effect(4)


def test_churn_by_period_without_censoring_is_the_life_table():
    rng = np.random.default_rng(3)
    life = rng.integers(0, 20, 300).astype(float)
    arm = np.repeat([0, 1], 150)
    result = churn_hazards(life, np.ones(300), treatment=arm, period=5, n_periods=4)
    for k, (a, start) in enumerate((a, s) for a in (0, 1) for s in (0, 5, 10, 15)):
        there = life[(arm == a) & (life >= start)]
        left = int((there < start + 5).sum())
        assert [result.at_risk[k], result.events[k]] == [len(there), left]
        assert result.hazard[k] == pytest.approx(left / len(there))
        if start < 15:
            p, n = left / len(there), len(there)
            ratio = p / result.hazard[k - 4] if a else math.nan
            assert result.ratio[k] == pytest.approx(ratio, nan_ok=True)
            if a:
                q, m = result.hazard[k - 4], result.at_risk[k - 4]
                spread = math.sqrt((1 - p) / (p * n) + (1 - q) / (q * m))
                assert result.ratio_high[k] == pytest.approx(ratio * math.exp(1.959963984540054 * spread))


def test_churn_by_period_follows_the_curve(censored):
    result = churn_hazards(censored.time, censored.event, treatment=censored.arm, control="old", period=7)
    assert result.n_periods == 4  # 29.9 days
    for arm in ("old", "new"):
        curve = kaplan_meier(censored.time[censored.arm == arm], censored.event[censored.arm == arm])
        share = curve.at([0, 7, 14, 21, 28])["survival"].to_numpy()
        np.testing.assert_allclose(result.hazard[result.arm == arm], 1 - share[1:] / share[:-1], rtol=1e-10)
    beyond = churn_hazards(censored.time, censored.event, treatment=censored.arm, control="old", period=7, n_periods=6)
    assert np.isnan(beyond.hazard[[4, 5, 10, 11]]).all()
    assert np.isfinite(beyond.hazard[[0, 3, 6, 9]]).all()
    with pytest.raises(CausalRecError, match="Choose a shorter period"):
        churn_hazards(censored.time, censored.event, treatment=censored.arm, control="old", period=60)


def test_durations_of_times_and_of_days():
    first = pd.Series(
        pd.to_datetime(["2025-03-01", "2025-03-02 06:00", "2025-03-28"], format="ISO8601"), index=[7, 8, 9]
    )
    last = pd.Series(pd.to_datetime(["2025-03-11", "2025-03-30", None]), index=[7, 8, 9])
    found = durations_of(first, last, as_of="2025-03-31", inactive_for=7)
    assert found.index.tolist() == [7, 8, 9]
    assert found["durations"].tolist() == [10.0, 21.75, 0.0]
    assert found["event_observed"].tolist() == [True, False, False]
    paris = durations_of(first.dt.tz_localize("UTC").dt.tz_convert("Europe/Paris"), last, as_of="2025-03-31",
                         inactive_for=7)  # fmt: skip
    pd.testing.assert_frame_equal(paris, found)
    numbers = durations_of([0, 1.25, 27], [10, 29, np.nan], as_of=30, inactive_for=7)
    assert numbers.to_numpy().tolist() == found.to_numpy().tolist()


@pytest.mark.parametrize(
    ("first", "last", "as_of", "words"),
    [
        (["2025-03-05"], ["2025-03-04"], "2025-03-31", "last lie before first"),
        (["2025-03-05"], ["2025-04-04"], "2025-03-31", "last lie after as_of"),
        (["2025-04-05"], [None], "2025-03-31", "first lie after as_of"),
        (["2025-03-05", None], ["2025-03-06", None], "2025-03-31", "1 of 2 times are missing"),
        (["2025-03-05"], [3], "2025-03-31", "mix times with numbers"),
        (["yesterday"], ["2025-03-06"], "2025-03-31", "first cannot be read as times"),
    ],
)
def test_durations_of_errors(first, last, as_of, words):
    with pytest.raises(TimeError, match=words):
        durations_of(first, last, as_of=as_of, inactive_for=7)
    with pytest.raises(CausalRecError, match="inactive_for is -1"):
        durations_of(first, last, as_of=as_of, inactive_for=-1)


def test_the_rule_of_inactivity_is_not_biased_and_the_usual_ones_are():
    # Users act once a day on average until they leave for good; the log ends before many have.
    rng = np.random.default_rng(20)
    n, end, gap, day = 20_000, 60.0, 10.0, 20.0
    came, life = rng.uniform(0, 55, n), rng.exponential(25, n)
    latest = came + np.maximum(life - rng.exponential(1, n), 0)  # the last activity, were the log endless
    truth = (latest - came > day).mean()
    # In the log: what lies after its end is not seen; the activity before it is a day back on average.
    seen = np.where(latest <= end, latest, np.maximum(end - rng.exponential(1, n), came))
    rows = {"treatment": np.repeat([0, 1], n // 2), "days": [day]}
    ours = durations_of(came, seen, as_of=end, inactive_for=gap)
    error = math.sqrt(truth * (1 - truth) / n)

    def share(durations, event):
        return retention(durations, event, **rows).retention.mean()

    assert abs(share(ours.durations, ours.event_observed) - truth) < 4 * error
    silent = seen < end - gap
    assert share(seen - came, silent) > truth + 10 * error  # who has just left is censored at that very moment
    assert share(np.where(silent, seen, end) - came, silent) > truth + 10 * error  # who has just left is at risk
    assert share(seen - came, np.ones(n)) < truth - 10 * error


def test_the_music_service():
    # Lifetimes are exponential with means of 20 and 23 days: retention exp(-t / mean), restricted mean in closed form.
    frame, _ = simulate_service(12_000, treated_share=0.5, random_state=4)
    log = durations_of(frame.exposed_at, frame.last_seen, as_of="2025-03-31")
    ask = {"treatment": frame.variant, "control": "control"}
    kept = retention(log.durations, log.event_observed, **ask, days=[7, 14, 30])
    for day in (7, 14):
        truth = math.exp(-day / 23) - math.exp(-day / 20)
        assert abs(kept.effect(day).estimate - truth) < 3.5 * kept.effect(day).std_error
        assert kept.effect(day).std_error < 0.012
    assert "beyond the follow-up" in kept.note[2]
    stay = rmst_difference(log.durations, log.event_observed, **ask, horizon=21)["treatment"]
    truth = 23 * -math.expm1(-21 / 23) - 20 * -math.expm1(-21 / 20)
    assert abs(stay.estimate - truth) < 3.5 * stay.std_error


def _coverage(n_simulations, seed):
    """How often the intervals of the differences of retention (day 10) and of restricted means (15) hold the truth."""
    rng = np.random.default_rng(seed)
    hit = np.zeros(2)
    truths = math.exp(-10 / 16) - math.exp(-1), 16 * -math.expm1(-15 / 16) - 10 * -math.expm1(-15 / 10)
    arm = np.repeat([0, 1], 100)
    for _ in range(n_simulations):
        life, end = rng.exponential(np.where(arm == 0, 10.0, 16.0)), rng.uniform(5, 40, 200)
        rows = {"durations": np.minimum(life, end), "event_observed": life < end, "treatment": arm}
        found = retention(**rows, days=[10]).effects[0], rmst_difference(**rows, horizon=15).effects[0]
        hit += [e.ci_low <= truth <= e.ci_high for e, truth in zip(found, truths, strict=True)]
    return hit / n_simulations


def test_intervals_cover_in_a_few_simulations():
    assert (np.abs(_coverage(300, 1) - 0.95) < 0.04).all()  # more than 3 standard errors


@pytest.mark.slow
def test_intervals_cover_at_their_level():
    assert (np.abs(_coverage(4000, 2) - 0.95) < 0.012).all()  # 3 standard errors are 0.0103
