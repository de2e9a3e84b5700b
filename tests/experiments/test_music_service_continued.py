"""The shelf of podcasts: the truth by other means, the verdicts of the README, and intervals that cover."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from causalrec.plots import plot_funnel_sankey
from experiments.music_service import continued, simulation
from experiments.music_service.continued import N_USERS, SEED, main, repeat, written_decision
from experiments.music_service.simulation import ARMS, STEPS, mean_stay, shelf_truth, simulate_shelf, stay

README = Path(continued.__file__).with_name("README.md")


@pytest.fixture(scope="module")
def large():
    return simulate_shelf(400_000, random_state=7)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return main(["--output", str(tmp_path_factory.mktemp("shelf"))], n_users=6_000, repeats=1)


def test_means_and_shares_are_those_of_a_large_sample(large):
    frame, truth = large
    arms = frame.groupby("variant")
    for metric, expected in truth.means.items():
        z = (arms[metric].mean() - list(expected)) / arms[metric].sem()
        assert (z.abs() < 4).all(), metric
    for arm in ARMS:
        here = frame[frame["variant"] == arm]
        shares = np.array(truth.funnel[arm][1:])
        z = (here[list(STEPS)].mean().to_numpy() - shares) / np.sqrt(shares * (1 - shares) / len(here))
        assert (np.abs(z) < 4).all()
    assert truth.effect("revenue") == 0
    assert truth.funnel["control"][4:] == pytest.approx(truth.funnel["treatment"][4:])


def test_slopes_are_those_of_a_large_sample(large):
    frame, truth = large
    arms = frame.groupby("variant")
    first = frame["minutes_week1"] - arms["minutes_week1"].transform("mean")
    for outcome, slope in truth.slopes.items():
        rest = frame[outcome] - arms[outcome].transform("mean") - slope * first
        error = np.sqrt((first**2 * rest**2).sum()) / (first**2).sum()  # robust
        assert abs((first * rest).sum() / (first**2).sum()) < 4 * error


def test_staying_is_that_of_a_large_sample_and_of_the_exponential_law(large):
    frame, _ = large
    lives = (frame["last_seen"] - frame["exposed_at"]).dt.total_seconds() / 86_400
    for arm in ARMS:
        here = lives[frame["variant"] == arm]
        for day in (3, 7, 30, 59):  # all were followed for 60 days
            expected = float(stay(day, arm))
            assert stats.binomtest(int((here > day).sum()), len(here), expected).pvalue > 1e-4
    assert float(stay(30, "control")) == pytest.approx(np.exp(-7 * 0.03 - 23 * 0.012))
    by_hand = (1 - np.exp(-0.21)) / 0.03 + np.exp(-0.21) * (1 - np.exp(-21 * 0.012)) / 0.012
    assert mean_stay(28, "control") == pytest.approx(by_hand, rel=1e-10)


def test_minutes_end_with_the_last_activity(large):
    frame, _ = large
    left_early = (frame["last_seen"] - frame["exposed_at"]).dt.total_seconds() < 7 * 86_400
    assert (frame.loc[left_early, "minutes_later"] == 0).all()
    assert (frame.loc[~left_early, "minutes_later"] > 0).all()
    assert np.allclose(frame["music"] + frame["podcasts"], frame["minutes_week1"] + frame["minutes_later"])


def test_the_decision_of_the_readme():
    frame, truth = simulate_shelf(N_USERS, random_state=SEED)
    found = continued.tell_decision(_Silent(), frame, truth)
    assert found["verdict"].headline == "Ship treatment"
    assert found["other"].verdict == "don't ship"
    assert found["flat"].pvalue < 0.05 < found["plain"]["revenue"].pvalue
    text = README.read_text(encoding="utf-8")
    minutes = found["result"]["minutes"]
    assert f"{minutes.estimate:.1f} | [{minutes.ci_low:.1f}, {minutes.ci_high:.1f}]" in text
    assert f"p = {found['flat'].pvalue:.4f}".replace("0.", ".") in text


@pytest.mark.parametrize(("seed", "words"), [(SEED, "not flat, but higher"), (3, "a lack of data")])
def test_small_tests_are_not_flat(told, seed, words):
    frame, truth = simulate_shelf(6_000, random_state=seed)
    found = continued.tell_decision(_Silent(), frame, truth)
    decision = written_decision(found, told["funnel"], told["proxies"], told["cannibalisation"])
    assert found["flat"].pvalue > 0.05
    assert words in decision[1]


def test_the_page_has_every_answer_beside_the_truth(told):
    assert all(np.isfinite(row.truth) for row in told["answers"])
    assert len(told["repeated"]) == len(told["answers"]) == 13
    assert told["funnel"].n_obs == 6_000
    axes = plot_funnel_sankey(told["funnel"])
    assert [t for t in axes.texts if "paid" in t.get_text()]


def test_the_truth_is_of_the_names_that_are_simulated():
    frame, truth = simulate_shelf(50, random_state=0)
    assert set(truth.means) <= set(frame.columns)
    assert truth == shelf_truth()
    assert truth.share_taken() == pytest.approx(-truth.effect("music") / truth.effect("podcasts"))
    assert simulation.AS_OF - simulation.EXPOSURE_DAYS == 60


@pytest.mark.slow
def test_intervals_cover_what_was_planted():
    repeats = 40
    found = repeat(range(SEED + 1, SEED + 1 + repeats), N_USERS)
    for what, part in found.groupby("what"):
        assert stats.binom.cdf(int(part["covered"].sum()), repeats, 0.95) > 1e-4, what
    told = re.search(r"(\d+\.\d)% of 520", README.read_text(encoding="utf-8"))
    assert told is not None
    assert f"{100 * found['covered'].mean():.1f}" == told.group(1)


class _Silent:
    """A study that keeps nothing."""

    def add(self, *_: object, **__: object) -> None:
        """Keep nothing."""
