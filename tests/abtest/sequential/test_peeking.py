"""Simulated peeking: rates, the estimates at each look, refusals; and its picture."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.abtest import AlwaysValid, FixedHorizon, GroupSequential, simulate_peeking
from causalrec.abtest.estimation.estimates import difference
from causalrec.abtest.estimation.scores import Names, Stratum
from causalrec.abtest.sequential.peeking import _Arrivals
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.moments import Moments
from causalrec.plots import plot_peeking

LOOKS = (100, 200, 300, 400, 600, 800, 1_000)


def compare(control, treatment):
    return difference([Stratum("", control, treatment)], Names("spend", "A", "B"))


@pytest.fixture(scope="module")
def values():
    return 1e6 + np.random.default_rng(0).exponential(10, size=(1_100, 1))


@pytest.fixture(scope="module")
def result(values):
    methods = {
        "fixed horizon": FixedHorizon(),
        "always valid": AlwaysValid(1_000),
        "group sequential": [GroupSequential([n / 1_000 for n in LOOKS[: k + 1]]) for k in range(len(LOOKS))],
    }
    return simulate_peeking(values, ["value"], compare, methods, looks=LOOKS, n_simulations=300, metric="spend", rng=1)


def test_rates(result):
    fixed, always, group = result.false_alarm_rate
    assert 0.02 < fixed[0] < 0.1
    assert fixed[-1] > 0.12
    assert result.ci_low[1, -1] < 0.05
    assert result.ci_low[2, -1] < 0.05 < result.ci_high[2, -1]
    assert (np.diff(result.false_alarm_rate, axis=1) >= 0).all()
    assert (result.ci_low <= result.false_alarm_rate).all()
    assert result.to_frame().shape == (21, 5)
    assert "fixed horizon" in str(result)
    assert always[-1] <= group[-1] + 0.05


def test_moments_at_a_look_are_those_of_the_rows(values):
    arrivals = _Arrivals.of(values, ["value"], LOOKS, (0.3, 0.7))
    rng = np.random.default_rng(3)
    sums = arrivals.treated_sums(2, rng)
    treated = np.random.default_rng(3).random((2, 1_000), dtype=np.float32) < np.float32(0.7)
    rows = values[:300][treated[1, :300]]
    want, found = Moments.from_array(rows, ["value"]), arrivals.moments(sums[1, 2])
    assert found.n == want.n
    assert found.mean == pytest.approx(want.mean, rel=1e-14)
    assert found.products == pytest.approx(want.products, rel=1e-9)


def test_one_look_is_an_ordinary_test(values):
    found = simulate_peeking(values, ["value"], compare, [FixedHorizon()], looks=[1_000], n_simulations=250, rng=2,
                             alternative="less", weights=(9, 1))  # fmt: skip
    assert found.ci_low[0, 0] < 0.05 < found.ci_high[0, 0]
    assert "one look" in str(found)
    plot_peeking(found)


def test_refused(values):
    good = {"methods": [FixedHorizon()], "looks": [10, 20], "n_simulations": 1}
    for wrong, message in (
        ({"looks": [20, 10]}, "rising"),
        ({"looks": []}, "rising"),
        ({"looks": [2_000]}, "rising"),
        ({"methods": []}, "at least one"),
        ({"methods": [AlwaysValid(), AlwaysValid(5)]}, "a name of its own"),
        ({"methods": {"g": [FixedHorizon()]}}, "1 inferences for 2 looks"),
        ({"alpha": 0}, "alpha"),
        ({"alternative": "up"}, "alternative"),
    ):
        with pytest.raises(CausalRecError, match=message):
            simulate_peeking(values, ["value"], compare, **{**good, **wrong})
    with pytest.raises(TreatmentError, match="weights"):
        simulate_peeking(values, ["value"], compare, **good, weights=(1, 0))


def test_picture(result):
    ax = plot_peeking(result)
    texts = [t.get_text() for t in ax.texts]
    assert len(ax.lines) == 4
    assert f"fixed horizon {result.false_alarm_rate[0, -1]:.1%}" in texts
    heights = sorted(t.xy[1] for t in ax.texts)
    assert min(np.diff(heights)) > 0.05 * ax.get_ylim()[1]
