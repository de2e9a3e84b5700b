"""The figures of running experiments draw the numbers of their results."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causalrec.abtest import AlwaysValid, Experiment, GroupPlan, Mean, Monitor, NonInferiority, Superiority
from causalrec.exceptions import CausalRecError
from causalrec.moments import Moments
from causalrec.plots import plot_intervals_over_time, plot_stops, plot_time_saved
from causalrec.results import TimeSavedResult

VALID, TWO_SIDED = AlwaysValid(2_000), Superiority()


def watched(way=VALID, hypothesis=TWO_SIDED, label=float, effects=(0.05, 0.1, 0.15, 0.3, 0.3)):
    monitor = Monitor(Experiment({"x": Mean("x", method="z")}, variant="arm", control="A", hypothesis=hypothesis), way)
    for k, effect in enumerate(effects):
        arms = {"A": 10.0, "B": 10.0 + effect}
        monitor.update(
            {a: Moments.from_covariance(300 + k, ["x"], np.array([m]), np.eye(1)) for a, m in arms.items()},
            label=label(k + 1),
        )
    return monitor.status


def drawn(ax):
    return [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines if len(line.get_xdata()) > 2]


def test_intervals_of_two_ways_and_of_a_fixed_test():
    valid, group = watched(), watched(GroupPlan(3_040))
    ax = plot_intervals_over_time([valid, group], by="label", xlabel="day")
    history, other = valid.history(), group.history()
    found = drawn(ax)
    assert [x for x, _ in found] == [[1.0, 2.0, 3.0, 4.0, 5.0]] * 7
    expected = [history["ci_low"], history["ci_high"], other["ci_low"], other["ci_high"], history["fixed_low"],
                history["fixed_high"], history["estimate"]]  # fmt: skip
    for (_, y), column in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, column.where(np.isfinite(column)))
    fixed = history["label"][history["fixed_low"] > 0].iloc[0]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"fixed test: answer at day {float(fixed):g}" in legend
    assert len(legend) == 3
    assert ax.get_xlabel() == "day"
    assert "Effect at the end" in ax.get_label()


def test_where_each_first_answers_is_a_dot_on_the_end_near_the_null():
    result = watched()
    history = result.history()
    k = int(np.flatnonzero(history["fixed_low"] > 0)[0])
    dots = [
        line.get_xydata()[0].tolist() for line in plot_intervals_over_time(result).lines if line.get_marker() == "o"
    ]
    assert [history["n_obs"][k], history["fixed_low"][k]] in dots


def test_margins_and_open_ends():
    ax = plot_intervals_over_time(watched(hypothesis=NonInferiority(0.1)), by="look", fixed=False)
    assert [text.get_text() for text in ax.texts] == ["effect", "margin"]
    low = watched(hypothesis=NonInferiority(0.1)).history()["ci_low"]
    assert drawn(ax)[0][1] == low.tolist()
    assert len(drawn(ax)) == 2
    assert all(map(math.isfinite, ax.get_ylim()))


def test_one_look():
    assert plot_intervals_over_time(watched(effects=(0.1,))).get_title(loc="left").startswith("x: B against A")


def test_refused():
    result = watched(label=lambda k: f"monday {k}")
    with pytest.raises(CausalRecError, match="such as 'monday 1', are not numbers"):
        plot_intervals_over_time(result, by="label")
    with pytest.raises(CausalRecError, match="by is 'time'"):
        plot_intervals_over_time(result, by="time")
    with pytest.raises(CausalRecError, match="'y' is not compared"):
        plot_intervals_over_time(result, "y")
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_intervals_over_time([])
    none = TimeSavedResult(("a",), "days", 2, np.array([1.0, 2.0]), np.full((1, 2), np.nan))
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_time_saved(none)


def test_stops_and_time_saved():
    result = TimeSavedResult(
        ("fixed", "valid"), "days", 4, np.array([10.0, 20.0, 20.0, 40.0]),
        np.array([[1.0, 20.0, 5.0, np.nan], [np.nan, 20.0, 10.0, np.nan]]),
    )  # fmt: skip
    frame = result.to_frame().set_index("method")
    assert frame.loc["fixed"].tolist() == [3, 2, 12.0, 24.0, 24 / 90]
    assert frame.loc["valid"].tolist() == [2, 1, 10.0, 10.0, 10 / 90]
    assert str(result).splitlines()[1] == "valid: 2 of 4 with an answer, 1 before the end, by 10 days (median)"
    fixed, valid = (line.get_ydata() for line in plot_stops(result).lines)
    assert [fixed[0], fixed[20], fixed[50], fixed[-1]] == [0, 0.25, 0.5, 0.75]
    assert [valid[99], valid[100], valid[-1]] == [0, 0.25, 0.5]
    assert [line.get_ydata().tolist() for line in plot_time_saved(result).lines] == [[15.0, 9.0], [10.0]]
