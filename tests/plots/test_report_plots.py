"""The figures of reports on a log show its numbers."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.journeys import cohort_retention, daily_active_users, revenue_by_segment
from causalrec.plots import plot_cohorts, plot_daily_users, plot_revenue

from . import report_results as logged


def test_daily_users_and_their_mean_of_seven_days():
    result = logged.daily()
    ax = plot_daily_users(result)
    raw, mean = ax.get_lines()[:2]
    np.testing.assert_array_equal(raw.get_ydata(), result.users[:, 0])
    assert mean.get_ydata()[0] == pytest.approx(result.users[:7, 0].mean())
    assert len(mean.get_ydata()) == result.n_days - 6
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["A, mean of 7 days", "B, mean of 7 days"]
    short = plot_daily_users(daily_active_users(logged.log().query("day < 5")))
    assert len(short.get_lines()) == 1


def test_cohorts_are_hatched_where_the_log_ends():
    result = logged.cohorts()
    ax = plot_cohorts(result)
    hatched = [p for p in ax.patches if p.get_hatch()]
    assert len(hatched) == np.isnan(result.retention).sum() == 4  # day 38 of those who came on days 2 to 5
    texts = [t.get_text() for t in ax.texts]
    assert texts[:4] == ["100.0%"] * 4  # user 0 is always there
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "all  (6)"


def test_revenue_beyond_the_15th_segment_is_one_bar():
    ax = plot_revenue(logged.revenue(20))
    assert len(ax.patches) == 15
    assert ax.get_yticklabels()[-1].get_text() == "6 others"
    result = logged.revenue(20)
    assert sum(p.get_width() for p in ax.patches) == pytest.approx(result.total)


def test_nothing_can_be_drawn():
    empty = logged.log().iloc[:0]
    for ax in (
        plot_daily_users(daily_active_users(empty)),
        plot_cohorts(cohort_retention(empty)),
        plot_revenue(revenue_by_segment(empty, segment="land")),
    ):
        ax.figure.canvas.draw()
