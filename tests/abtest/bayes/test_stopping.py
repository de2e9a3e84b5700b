"""Stopping by beliefs: known error rates of repeated looks, calibration on average, the same by a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causalrec.abtest import NormalPrior, simulate_bayes
from causalrec.exceptions import CausalRecError

LAW = NormalPrior(0.0, 0.05)


def within(count, n, p):
    return stats.binom.ppf(5e-5, n, p) <= count <= stats.binom.ppf(1 - 5e-5, n, p)


def test_repeated_looks_err_as_often_as_armitage_mcpherson_and_rowe_say():
    """P(best) > 97.5% is |z| > 1.96: with 5 looks 14.2% reject, with 10 it is 19.3% (1969, table 2)."""
    n = 20_000
    for looks, known in ((1, 0.05), (5, 0.142), (10, 0.193)):
        found = simulate_bayes([0.0], std=1.0, n_per_day=50, days=looks, prob=0.975, n_simulations=n, rng=looks)
        assert within(n * found.declared_null[1], n, known)
        assert within(n * found.declared_null[0], n, 0.05)
        assert found.wrong[1] == 0  # with no effect neither arm is the worse one


def test_the_errors_under_peeking_that_the_documents_state():
    """A fortnight of daily looks at P(best) > 95% names a winner in about a third of the experiments without one."""
    n = 10_000
    found = simulate_bayes(LAW, std=1.0, n_per_day=500, days=14, loss_threshold=0.002, n_simulations=n, rng=1)
    z = np.random.default_rng(2).normal(size=(n, 14)).cumsum(axis=1) / np.sqrt(np.arange(1, 15))
    other = (abs(z) > stats.norm.ppf(0.95)).any(axis=1).mean()
    assert found.declared_null[1] == pytest.approx(other, abs=4.5 * math.sqrt(2 * 0.25 / n))
    assert 0.33 < found.declared_null[1] < 0.40
    assert found.declared_null[2] > 0.7
    # And what it buys: shorter, with less left on the table here than the test at the end leaves.
    assert found.mean_days[0] == 14
    assert found.mean_days[1] < 0.6 * 14
    assert (found.mean_loss[1:] < found.mean_loss[0]).all()
    assert np.allclose(found.mean_gain + found.mean_loss, found.mean_gain[0] + found.mean_loss[0])


def test_with_the_prior_that_effects_come_from_beliefs_are_right_on_average():
    """Of winners named at P(best) > 95% at most one in twenty is the worse arm, however often one looked."""
    n = 20_000
    found = simulate_bayes(LAW, std=1.0, n_per_day=200, days=30, prior=LAW, n_simulations=n, rng=3)
    flat = simulate_bayes(LAW, std=1.0, n_per_day=200, days=30, n_simulations=n, rng=3)
    named = n * found.declared[1]
    assert n * found.wrong[1] <= stats.binom.ppf(1 - 5e-5, int(named), 0.05)
    assert flat.wrong[1] / flat.declared[1] > 0.06  # a flat prior promises too much
    assert found.declared_null[1] < flat.declared_null[1]


def test_the_rules_by_a_plain_loop():
    days, n, threshold = 6, 60, 0.01
    options = {"std": 2.0, "n_per_day": 40, "days": days, "loss_threshold": threshold, "min_days": 2}
    found = simulate_bayes([-0.2, 0.3], prob=0.9, prior=NormalPrior(0.1, 0.4), n_simulations=n, rng=4, **options)
    rng = np.random.default_rng(4)
    truth = rng.choice([-0.2, 0.3], n)
    steps = rng.normal(0.0, 2.0 * math.sqrt(2 / 40), (2, n, days))[1]
    stops, winners = {"p": [], "loss": []}, {"p": [], "loss": []}
    for i in range(n):
        for rule in ("p", "loss"):
            end, winner = days, 0
            for day in range(2, days + 1):
                v = 4.0 * 2 / (40 * day)
                precision = 1 / v + 1 / 0.16
                mean = ((truth[i] + steps[i, :day].mean()) / v + 0.1 / 0.16) / precision
                law = stats.norm(mean, precision**-0.5)
                up = law.sf(0)
                side = 1 if mean > 0 else -1
                z = mean * math.sqrt(precision)
                lost = (stats.norm.pdf(z) - abs(z) * stats.norm.sf(abs(z))) / math.sqrt(precision)
                if max(up, 1 - up) > 0.9 if rule == "p" else lost < threshold:
                    end, winner = day, side
                    break
            stops[rule].append(end)
            winners[rule].append(winner)
    for k, rule in ((1, "p"), (2, "loss")):
        w = np.array(winners[rule])
        assert found.mean_days[k] == pytest.approx(np.mean(stops[rule]))
        assert found.median_days[k] == np.median(stops[rule])
        assert found.declared[k] == pytest.approx((w != 0).mean())
        assert found.wrong[k] == pytest.approx((w * truth < 0).mean())
        assert found.mean_gain[k] == pytest.approx(np.where(w > 0, truth, 0).mean())
        np.testing.assert_allclose(found.stopped_by_day[k], [np.mean(np.array(stops[rule]) <= d) for d in range(1, 7)])
    assert found.rules == ("fixed test", "P(best) > 90%", "expected loss < 0.01")


def test_text_table_and_seed():
    one, two = (simulate_bayes(LAW, std=1.0, n_per_day=50, days=7, n_simulations=300, rng=5) for _ in range(2))
    np.testing.assert_array_equal(one.declared_null_by_day, two.declared_null_by_day)
    assert "P(best) > 95% is" in str(one)
    assert "names a winner in" in str(one)
    assert one.to_frame()["rule"].tolist() == list(one.rules)
    assert math.isnan(one.loss_threshold)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prob": 0.5}, "prob is 0.5"), ({"std": 0.0}, "std is 0.0"), ({"days": 0}, "days is 0"),
        ({"min_days": 20}, "min_days is 20"), ({"loss_threshold": 0.0}, "loss_threshold is 0.0"),
        ({"alpha": 1.0}, "alpha is 1.0"), ({"n_per_day": 0}, "n_per_day is 0"),
        ({"prior": NormalPrior(0, 0.1, scale="relative")}, "no control mean"),
    ],
)  # fmt: skip
def test_refusals(options, words):
    with pytest.raises(CausalRecError, match=words):
        simulate_bayes(**{"effects": [0.1], "std": 1.0, "n_per_day": 10} | options)
