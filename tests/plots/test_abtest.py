"""The figures of experiments draw the numbers of their results, however many and however long their names."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.ticker import FixedFormatter
from scipy import stats

from causalrec.exceptions import CausalRecError
from causalrec.plots import (
    plot_aa,
    plot_ab,
    plot_distribution,
    plot_forest,
    plot_power_curve,
    plot_rates,
    plot_resampling,
    plot_trend,
)
from causalrec.results import ExperimentResult

from .abtest_results import aa, bootstrap, distribution, effect, permutation, power_curve, trend
from .test_figures import INF, LONG, NAN, drawn, lines, segments, ticks


def test_forest_names_what_differs() -> None:
    assert ticks(plot_forest([effect()]), "y") == ["visit"]
    assert ticks(plot_forest([effect(), effect("spend")]), "y") == ["visit", "spend"]
    by_segment = [effect(), effect(segment="device = phone"), effect(segment="device = desktop")]
    assert ticks(plot_forest(by_segment), "y") == ["all", "device = phone", "device = desktop"]
    arms = [effect(), effect(treatment="letter"), effect("spend"), effect("spend", treatment="letter")]
    assert ticks(plot_forest(arms), "y") == ["visit, e-mail", "visit, letter", "spend, e-mail", "spend, letter"]


def test_forest_in_the_unit_of_the_metric() -> None:
    ax = plot_forest([effect(), effect(segment="b")], relative=False)
    assert segments(ax) == [[[0.02, 1], [0.08, 1]], [[0.02, 0], [0.08, 0]]]
    assert [text.get_text() for text in ax.texts] == ["0.05", "0.05"]
    assert ax.get_xlabel().replace("\n", " ") == "effect, in the metric's unit, of e-mail against none"
    assert ax.get_title(loc="left") == "Effect on visit"
    assert "all 0.05 [0.02, 0.08]; b 0.05 [0.02, 0.08]." in ax.get_label()


def test_forest_without_an_effect_says_so() -> None:
    missing = dataclasses.replace(effect("spend"), estimate=NAN, ci_low=NAN)
    assert [t.get_text() for t in plot_forest([effect(), missing], relative=False).texts] == ["0.05", "no effect known"]


def test_forest_marks_margins_in_their_rows_and_open_ends_as_arrows() -> None:
    inferior = effect("skips", -0.01, -INF, 0.011, hypothesis="non-inferiority", margin_high=0.02,
                      method="Welch t; relative margin")  # fmt: skip
    same = effect("share", 0.001, -0.02, 0.02, hypothesis="equivalence", margin_low=-0.01, margin_high=0.01)
    ax = plot_forest([effect("visit", 0.01, 0.005, 0.02), inferior, same])
    margin = next(c for c in ax.collections if c.get_label() == "margin")
    found = sorted((x, y0, y1) for (x, y0), (_, y1) in margin.get_segments())
    # One part in fifty of the control mean; .01 of a control mean of .2 is a twentieth.
    assert found == [pytest.approx(mark) for mark in ((-0.05, -0.32, 0.32), (0.02, 0.68, 1.32), (0.05, -0.32, 0.32))]
    assert ax.get_xlim()[0] < -0.05
    assert ax.get_xlim()[1] > 0.05
    arrows = [line for line in ax.get_lines() if line.get_marker() == "<" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in arrows] == [[1]]
    assert "skips -1.0% [no bound, +1.1%], margin +2.0%" in ax.get_label()
    assert "margin -5.0% and +5.0%" in ax.get_label()
    absolute = plot_forest([same], relative=False)
    margin = next(c for c in absolute.collections if c.get_label() == "margin")
    assert [x for (x, _), _ in margin.get_segments()] == [-0.01, 0.01]
    assert not any(c.get_label() == "margin" for c in plot_forest([effect()]).collections)


def test_an_experiment_or_one_effect_can_be_drawn() -> None:
    result = ExperimentResult(900, 0.95, (effect(), effect("spend", control_mean=0.3)))
    assert ticks(plot_forest(result), "y") == ["visit", "spend"]
    assert ticks(plot_ab(result["spend"]), "y") == ["spend"]
    assert [patch.get_height() for patch in plot_rates(result, metric="spend").patches] == [0.3, 0.25]
    assert [patch.get_height() for patch in plot_rates(result["visit"]).patches] == [0.2, 0.25]
    with pytest.raises(CausalRecError, match="draw each apart, with metric='name'"):
        plot_rates(result)
    with pytest.raises(CausalRecError, match=r"metric is 'vist'; found results of .*Did you mean 'visit'"):
        plot_rates(result, metric="vist")
    for plot in (plot_forest, plot_rates):
        with pytest.raises(CausalRecError, match=r"found .AAResult. among the results; expected an ExperimentResult"):
            plot([aa()])
        with pytest.raises(CausalRecError, match="nothing to draw"):
            plot(ExperimentResult(0, 0.95, ()))


def test_one_simulation_may_stand_in_a_sequence() -> None:
    assert plot_aa((aa(),)).get_label() == plot_aa(aa()).get_label()
    with pytest.raises(CausalRecError, match="found the simulations of 'visit', 'spend'; expected one"):
        plot_aa([aa(), aa("spend")])
    with pytest.raises(CausalRecError, match=r"found .ABResult.; expected the AAResult"):
        plot_aa([effect()])  # type: ignore[list-item]
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_aa([])


def test_a_distribution_is_named_by_its_values() -> None:
    ax = plot_distribution(dataclasses.replace(distribution("skip_rate"), column="skips"))
    assert ax.get_title(loc="left") == "Distribution of skips"
    assert ax.get_xlabel() == "skips, of skip_rate"


def test_rates_say_which_of_several_adjusted_controls_is_drawn() -> None:
    apart = [effect(), effect(treatment="letter", control_mean=0.21)]
    assert plot_rates(apart).get_xlabel() == "arm; none as adjusted beside letter"
    assert plot_rates(apart).patches[0].get_height() == 0.21
    assert plot_rates([effect(), effect(treatment="letter")]).get_xlabel() == "arm"


def test_one_very_wide_interval_does_not_hide_the_others() -> None:
    ax = plot_forest([*(effect(f"m{i}") for i in range(4)), effect("odd", 0.2, -50.0, 50.0)])
    low, high = ax.get_xlim()
    assert -1 < low < 0
    assert 0.4 < high < 1
    assert [line.get_marker() for line in ax.get_lines() if line.get_marker() in "<>" and len(line.get_xdata())] == [
        "<", ">",
    ]  # fmt: skip


def test_rates_with_the_normal_interval_of_each_arm() -> None:
    ax = plot_rates([effect()], as_percent=True)
    assert [patch.get_height() for patch in ax.patches] == [0.2, 0.25]
    z = stats.norm.ppf(0.975)
    found = np.asarray(segments(ax)).reshape(2, 2, 2)
    assert found[:, :, 1] == pytest.approx(
        np.array([[0.2 - 0.01 * z, 0.2 + 0.01 * z], [0.25 - 0.02 * z, 0.25 + 0.02 * z]])
    )
    assert ticks(ax, "x") == ["none\nn = 500", "e-mail\nn = 400"]
    assert [text.get_text() for text in ax.texts] == ["20%", "25%"]
    assert "0%" in ticks(ax, "y")
    assert ax.get_ylim()[0] == 0
    assert "none 0.2 [0.1804, 0.2196]; e-mail 0.25 [0.2108, 0.2892]." in ax.get_label()


def test_rates_of_several_arms_have_control_once() -> None:
    ax = plot_rates([effect(), effect(treatment="letter", treatment_mean=0.4)])
    assert [patch.get_height() for patch in ax.patches] == [0.2, 0.25, 0.4]
    many = plot_rates([effect(treatment=f"arm {i}") for i in range(8)])
    assert ticks(many, "x") == ["none", *(f"arm {i}" for i in range(8))]


def test_rates_by_segment_stand_beside_each_other() -> None:
    ax = plot_rates([effect(segment="b"), effect(segment="a", control_mean=0.3)])
    assert [patch.get_height() for patch in ax.patches] == [0.2, 0.3, 0.25, 0.25]
    assert ticks(ax, "x") == ["b", "a"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["none", "e-mail"]


def test_rates_below_zero_and_without_an_interval() -> None:
    ax = plot_rates([effect(control_mean=-0.4, control_std_error=NAN, treatment_std_error=NAN)])
    assert ax.get_ylim()[0] < -0.4
    assert segments(ax) == []
    assert "interval" not in ax.get_ylabel()
    assert drawn(ax)


def test_rates_of_one_metric_against_one_control() -> None:
    for other in (effect("spend"), effect(control="old")):
        with pytest.raises(CausalRecError, match="expected one metric against one control"):
            plot_rates([effect(), other])


def test_power_curves_and_where_they_reach_80_percent() -> None:
    result = power_curve()
    ax = plot_power_curve(result)
    found = lines(ax)
    assert all((result.n_obs.tolist(), line.tolist()) in found for line in result.power)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["effect 0.01", "effect 0.02"]
    assert "effect 0.01 has 60% power at most; effect 0.02 has 80% power from 300 units." in ax.get_label()
    assert ax.get_xscale() == "linear"
    assert {"0%", "80%", "100%"} <= set(ticks(ax, "y"))
    assert plot_power_curve(power_curve(sizes=(10, 100, 100_000))).get_xscale() == "log"


def test_bootstrap_with_its_interval() -> None:
    ax = plot_resampling(bootstrap())
    *bars, band = ax.patches
    assert sum(bar.get_height() for bar in bars) == 500
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-1.0, 1.5))
    assert [0.25, 0.25] in [x for x, _ in lines(ax)]
    assert "500 resamples; the estimate is 0.25, 95% interval [-1, 1.5]." in ax.get_label()


@pytest.mark.parametrize("low, high", [(NAN, NAN), (-INF, 1.0)])
def test_bootstrap_without_an_end_or_with_odd_draws(low: float, high: float) -> None:
    ax = plot_resampling(bootstrap([0.1, NAN, INF, 0.2, 0.2], low, high))
    assert drawn(ax)
    assert ax.get_ylabel() == "number of the 3 resamples"
    assert np.isfinite(ax.get_xlim()).all()


def test_permutation_shows_the_estimate_and_p() -> None:
    ax = plot_resampling(permutation())
    assert ax.get_xlim()[1] > 2.5
    assert "the estimate is 2.5, p = 0.002." in ax.get_label()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["the estimate, 2.5"]


def test_aa_beside_what_uniform_pvalues_would_be() -> None:
    ax = plot_aa(aa())
    bars = [patch.get_height() for patch in ax.patches][:20]
    assert bars == [10] * 20
    band = ax.patches[20]
    low, high = stats.binom.ppf([0.025, 0.975], 200, 0.05)
    assert (band.get_y(), band.get_y() + band.get_height()) == (low, high)
    assert [0.05, 0.05] in [x for x, _ in lines(ax)]
    assert "5.0% [2.0%, 9.0%] of 200 p-values are below 0.05" in ax.get_label()


def test_distribution_is_a_box_per_arm() -> None:
    ax = plot_distribution(distribution())
    assert [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches] == [(10, 50), (11, 51)]
    assert segments(ax) == [[[1, 1], [90, 1]], [[2, 0], [91, 0]], [[30, 0.75], [30, 1.25]], [[31, -0.25], [31, 0.25]]]
    assert ([40.0, 41.0], [1.0, 0.0]) in lines(ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["5–95%", "median", "mean", "25–75%"]
    assert "none mean 40, median 30; e-mail mean 41, median 31." in ax.get_label()


def test_distribution_of_few_quantiles() -> None:
    only = dataclasses.replace(distribution(), quantile=np.array([0.5]), value=np.array([[3.0], [4.0]]))
    ax = plot_distribution(only)
    assert drawn(ax)
    assert not ax.patches


def test_trend_draws_days_and_the_fitted_line() -> None:
    ax = plot_trend(trend())
    assert segments(ax) == [[[0, 3], [0, 7]], [[1, 2], [1, 6]], [[2, 1], [2, 5]]]
    assert ([0, 1, 2], [5, 4, 3]) in lines(ax)
    fitted = ax.get_lines()[-1]
    assert fitted.get_label() == "trend, -1 a day"
    assert fitted.get_ydata() == pytest.approx([5, 4, 3])  # the days lie on a line
    assert {"0", "1", "2"} <= set(ticks(ax, "x"))
    assert not any("." in text for text in ticks(ax, "x"))
    assert "e-mail against none: the effect changes by -1 [-1.4, -0.6] a day, p = 0.001." in ax.get_label()


def test_trend_with_days_that_are_not_known() -> None:
    gaps = trend(n_days=5)
    gaps.effect[2], gaps.effect_low[2], gaps.effect_high[2] = NAN, NAN, NAN
    assert len(segments(plot_trend(gaps))) == 4
    assert plot_trend(gaps).get_lines()[-1].get_ydata() == pytest.approx([5, 4, 3, 2, 1])
    assert len(plot_trend(trend(slope=NAN)).get_legend().get_texts()) == 1


HARD: dict[str, Callable[[], Any]] = {
    "forest of 30": lambda: plot_forest([effect(f"{i} {LONG}") for i in range(30)]),
    "one row": lambda: plot_forest([effect(LONG)], relative=False),
    "rates": lambda: plot_rates([effect(LONG, control=LONG, treatment=LONG[::-1])]),
    "rates of 30 arms": lambda: plot_rates([effect(treatment=f"{i} {LONG}") for i in range(30)]),
    "rates of 30 segments": lambda: plot_rates([effect(segment=f"country = {i:02d}") for i in range(30)]),
    "power": lambda: plot_power_curve(power_curve(LONG)),
    "aa": lambda: plot_aa(aa(LONG)),
    "distribution": lambda: plot_distribution(distribution(LONG, tuple(f"{i} {LONG}" for i in range(8)))),
    "trend": lambda: plot_trend(trend(LONG, n_days=60)),
}


@pytest.mark.parametrize("draw", HARD.values(), ids=list(HARD))
def test_long_names_and_many_rows_stay_in_the_picture_and_apart(draw: Callable[[], Any]) -> None:
    ax = draw()
    drawn(ax)
    width, height = ax.figure.get_size_inches() * ax.figure.dpi
    words = [ax.xaxis.label, ax.yaxis.label, ax._left_title]
    for axis in (ax.xaxis, ax.yaxis):
        if isinstance(axis.get_major_formatter(), FixedFormatter):  # names; numbers beyond the ends are not drawn
            words += axis.get_ticklabels()
    for text in words:
        box = text.get_window_extent()
        if text.get_text():
            assert box.x0 >= -2, text.get_text()
            assert box.x1 <= width + 2, text.get_text()
            assert box.y0 >= -2, text.get_text()
            assert box.y1 <= height + 2, text.get_text()
    rows = sorted((t.get_window_extent() for t in ax.get_yticklabels() if t.get_text()), key=lambda box: box.y0)
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(rows))
    assert ax.get_window_extent().width > 0.3 * width
    assert ax.get_window_extent().height > 0.25 * height
