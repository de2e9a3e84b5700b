"""The music service's truth, which is a closed form, against the data that it is the truth of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalrec.datasets import simulate_service
from causalrec.datasets.service import DAYS, LAST_EXPOSURE, START, TRAITS, ServiceTruth, simulate_service_days
from causalrec.exceptions import CausalRecError

N = 400_000
Z = stats.norm.ppf(1 - 1e-4 / 2)  # each look errs once in 10,000 seeds
DIMENSIONS = ["", *TRAITS]


@pytest.fixture(scope="module")
def big() -> tuple[pd.DataFrame, ServiceTruth]:
    """Equal arms and a large effect, so that a wrong truth shows."""
    return simulate_service(N, effect=0.2, treated_share=0.5, random_state=11)


def value(frame: pd.DataFrame, metric: str) -> tuple[float, float]:
    """A metric's value with its standard error, without the package."""
    if metric == "skip_rate":
        skips, streams = frame["skips"].to_numpy(float), frame["streams"].to_numpy(float)
        ratio = skips.sum() / streams.sum()
        return ratio, float(np.std(skips - ratio * streams) / streams.mean() / np.sqrt(len(frame)))
    if metric == "retained_7d":
        mature = frame["exposed_at"] <= pd.Timestamp(START) + pd.Timedelta(days=DAYS - 7)
        y = (frame["last_seen"] - frame["exposed_at"] >= pd.Timedelta(days=7))[mature].to_numpy(float)
    else:
        y = frame[metric].to_numpy(float)
    return float(y.mean()), float(y.std() / np.sqrt(len(y)))


@pytest.mark.parametrize("metric", ["minutes", "sessions", "skip_rate", "converted", "retained_7d"])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_truth_is_what_the_data_show(big: tuple[pd.DataFrame, ServiceTruth], metric: str, dimension: str) -> None:
    frame, truth = big
    rows = truth.effects.set_index(["metric", "dimension", "group"])
    for group in TRAITS[dimension].levels if dimension else [""]:
        part = frame[frame[dimension] == group] if dimension else frame
        (control, error0), (treated, error1) = (
            value(part[part["variant"] == arm], metric) for arm in ("control", "treatment")
        )
        known = rows.loc[(metric, dimension, group)]
        assert abs(control - known["control"]) < Z * error0, (group, control, known["control"])
        effect = truth.effect(metric, dimension, group)
        assert abs(treated - control - effect) < Z * np.hypot(error0, error1), (group, treated - control, effect)
        assert known["relative_effect"] == pytest.approx(effect / known["control"])


def test_the_effects_are_not_all_alike_and_some_are_none(big: tuple[pd.DataFrame, ServiceTruth]) -> None:
    _, truth = big
    lifts = truth.effects.query("metric == 'minutes'").set_index("group")["relative_effect"]
    assert lifts["IN"] == 0
    assert lifts["speaker"] > 2 * lifts["phone"] > 4 * lifts["desktop"] > 0
    assert set(truth.effects.query("metric == 'sessions'")["effect"]) == {0.0}


def test_the_effect_is_as_many_standard_deviations_as_asked() -> None:
    for effect in (0.0, 0.05, 0.3):
        _, truth = simulate_service(10, effect=effect)
        assert truth.effect("minutes") / truth.minutes_std == pytest.approx(effect, abs=1e-15)


def test_the_standard_deviation_of_minutes() -> None:
    """By the moments of the factors, within the error that the squares have in the sample."""
    frame, truth = simulate_service(N, effect=0.0, random_state=2)
    minutes = frame["minutes"].to_numpy()
    spread = np.std((minutes - minutes.mean()) ** 2) / np.sqrt(N) / (2 * truth.minutes_std)
    assert abs(minutes.std() - truth.minutes_std) < Z * spread


def test_the_split_the_traits_and_the_times(big: tuple[pd.DataFrame, ServiceTruth]) -> None:
    frame, _ = big
    assert stats.binomtest(int((frame["variant"] == "treatment").sum()), N, 0.5).pvalue > 1e-4
    for name, trait in TRAITS.items():
        counts = frame[name].value_counts()[list(trait.levels)]
        assert stats.chisquare(counts, N * np.array(trait.share)).pvalue > 1e-4
        assert stats.chi2_contingency(pd.crosstab(frame[name], frame["variant"])).pvalue > 1e-4
    start = pd.Timestamp(START)
    assert frame["exposed_at"].between(start, start + pd.Timedelta(days=LAST_EXPOSURE)).all()
    assert (frame["last_seen"] >= frame["exposed_at"]).all()
    assert frame["last_seen"].max() == start + pd.Timedelta(days=DAYS)
    assert (frame["skips"] <= frame["streams"]).all()
    assert frame["user_id"].is_unique
    assert not frame.isna().any().any()


def test_what_was_before_is_alike_in_both_arms_and_foretells_what_comes(big: tuple[pd.DataFrame, ServiceTruth]) -> None:
    frame, _ = big
    treated = frame["variant"] == "treatment"
    for column in ("minutes_pre", "sessions_pre"):
        assert stats.ttest_ind(frame.loc[treated, column], frame.loc[~treated, column], equal_var=False).pvalue > 1e-4
    usual = frame[frame["minutes"] < frame["minutes"].quantile(0.99)]
    assert usual["minutes"].corr(usual["minutes_pre"]) > 0.4


def test_the_same_seed_is_the_same_data() -> None:
    first, second, other = (simulate_service(500, random_state=seed)[0] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first["minutes"].equals(other["minutes"])
    days = [simulate_service_days(50, random_state=seed)[0]["minutes"] for seed in (1, 1, 2)]
    assert days[0].equals(days[1])
    assert not days[0].equals(days[2])


def test_the_effect_of_a_day_wears_off_as_said() -> None:
    frame, truth = simulate_service_days(30_000, n_days=8, lasting=1.0, novelty=6.0, half_life=1.0, random_state=5)
    assert truth["effect"].tolist() == [1 + 6 / 2**day for day in range(8)]
    for day, effect in truth.itertuples(index=False):
        today = frame[frame["day"] == day]
        treated = today["variant"] == "treatment"
        groups = [today.loc[treated, "minutes"], today.loc[~treated, "minutes"]]
        error = np.sqrt(sum(g.var() / len(g) for g in groups))
        assert abs(groups[0].mean() - groups[1].mean() - effect) < Z * error


@pytest.mark.parametrize(
    "options, text",
    [
        ({"n_users": 0}, "n_users is 0"),
        ({"treated_share": 1.0}, r"treated_share is 1\.0; expected a number in \(0, 1\)"),
        ({"effect": -0.1}, r"effect is -0\.1"),
        ({"effect": float("nan")}, "effect is nan"),
    ],
)
def test_impossible_services(options: dict[str, float], text: str) -> None:
    with pytest.raises(CausalRecError, match=text):
        simulate_service(**options)  # type: ignore[arg-type]


def test_impossible_days_and_unknown_effects() -> None:
    for options in ({"n_days": 0}, {"half_life": 0.0}, {"half_life": float("nan")}):
        with pytest.raises(CausalRecError, match="expected both > 0"):
            simulate_service_days(10, **options)  # type: ignore[arg-type]
    _, truth = simulate_service(10)
    with pytest.raises(CausalRecError, match=r"no effect is known of 'minuts' in all = all.* Did you mean 'minutes'"):
        truth.effect("minuts")
    with pytest.raises(CausalRecError, match="in country = XX"):
        truth.effect("minutes", "country", "XX")
