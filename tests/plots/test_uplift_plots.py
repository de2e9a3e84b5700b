"""Figures of ranking by uplift: the numbers of their results, in the right places, and in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalrec.plots import plot_curve, plot_scorer_differences, plot_scorers, plot_uplift_calibration

from .test_figures import LONG, curve, drawn, lines, segments, ticks
from .uplift_results import NAN, calibration, scorers
from .uplift_results import curve as average


@pytest.mark.parametrize(
    ("kind", "title", "scale"),
    [
        ("qini", "Qini curve", "gain per person of the population"),
        ("cumulative_gain", "Cumulative gain", "gain per person of the population"),
        ("uplift", "Uplift curve", "average effect among those targeted"),
        ("toc", "TOC curve", "effect above that of all"),
    ],
)
def test_every_kind_of_curve_has_its_words(kind: str, title: str, scale: str) -> None:
    ax = plot_curve(curve(kind=kind))
    assert ax.get_title(loc="left").startswith(title)
    assert ax.get_ylabel() == f"{scale},\nin the outcome's unit"
    assert "95% intervals, point by point" in ax.get_xlabel()


def test_another_packages_curve_says_so() -> None:
    ax = plot_curve(curve(kind="qini_sklift_no_negative"))
    assert ax.get_ylabel() == "Qini curve\nas sklift_no_negative defines it"


def test_a_band_for_the_whole_curve_says_so() -> None:
    assert "90% band for the whole" in plot_curve(average("uplift", band="simultaneous")).get_xlabel()
    assert "shaded" not in plot_curve(curve(half=NAN)).get_xlabel()


@pytest.mark.parametrize("kind", ["uplift", "toc"])
def test_averages_over_few_do_not_set_the_scale(kind: str) -> None:
    result = average(kind)
    ax = plot_curve(result)
    assert ax.get_ylim()[1] < 1
    assert lines(ax)[0] == (result.fraction.tolist(), result.value.tolist())
    assert "0.145" in ax.get_label()  # at 5%, not the 50 of the first person
    assert "5% targeted" in ax.get_label()


def test_many_scorers_differ_in_colour_or_dashes() -> None:
    ax = plot_curve(*(curve(f"scorer {i}") for i in range(7)))
    drawn(ax)
    styles = {(line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
    assert len(styles) == 8
    assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == "random order"


def test_calibration_over_the_diagonal() -> None:
    result = calibration()
    ax = plot_uplift_calibration(result)
    found = lines(ax)
    diagonal = found[1]
    assert diagonal[0] == diagonal[1] == pytest.approx(list(ax.get_xlim()))
    assert (result.predicted.tolist(), result.effect.tolist()) in found
    wanted = [[[p, a], [p, b]] for p, a, b in zip(result.predicted, result.effect_ci_low, result.effect_ci_high,
                                                  strict=True)]  # fmt: skip
    assert segments(ax) == np.array(wanted).round(12).tolist()
    assert ax.texts[0].get_text() == "calibration error 0.06 [0.01, 0.11]\nall gaps zero: p = 0.02"
    assert ax.get_ylabel() == "effect of e-mail against none"
    assert ax.get_label().startswith("Are the predicted effects right? Calibration error 0.06 [0.01, 0.11]; all gaps")
    assert "0.3: 0.17 [0.09, 0.25]" in ax.get_label()


def test_calibration_without_a_test_or_interval() -> None:
    result = dataclasses.replace(calibration(pvalue=NAN), ci_low=NAN, ci_high=NAN)
    ax = plot_uplift_calibration(result)
    assert drawn(ax)
    assert ax.texts[0].get_text() == "calibration error 0.06 –"
    assert drawn(plot_uplift_calibration(calibration(2)))


@pytest.mark.parametrize(
    ("metric", "higher", "order", "words"),
    [
        ("qini", True, ["new", "old", "random"], "Qini, higher is better"),
        ("r_loss", False, ["random", "old", "new"], "R-loss, lower is better"),
        ("uplift_at_30pct", True, ["new", "old", "random"], "uplift@30%, higher"),
        ("lift_share_of_20pct", True, ["new", "old", "random"], "share of the lift in the best 20%"),
        ("qini_sklift", True, ["new", "old", "random"], "qini sklift, higher"),
    ],
)
def test_scorers_best_first(metric: str, higher: bool, order: list[str], words: str) -> None:
    ax = plot_scorers(scorers(metric, higher))
    assert ticks(ax, "y") == order
    assert words in ax.get_xlabel().replace("\n", " ")
    assert f"{order[0]} {'0.03 [0.022, 0.038]' if higher else '0.01 [0.002, 0.018]'}" in ax.get_label()


def test_differences_of_pairs() -> None:
    result = scorers()
    ax = plot_scorer_differences(result)
    assert ticks(ax, "y") == ["old − new", "old − random", "new − random"]
    assert (result.difference.tolist(), [2, 1, 0]) in lines(ax)
    assert [t.get_text() for t in ax.texts] == ["-0.01", "+0.01", "+0.02"]
    assert "to the right the first is better" in ax.get_xlabel().replace("\n", " ")
    assert "to the left" in plot_scorer_differences(scorers("dr_loss", False)).get_xlabel().replace("\n", " ")
    assert "new − random: 0.02 [0.008, 0.032], better" in ax.get_label()
    assert "old − new: -0.01 [-0.022, 0.002], cannot tell" in ax.get_label()


def test_long_names_leave_room() -> None:
    for ax in (plot_scorers(scorers(name=LONG)), plot_scorer_differences(scorers(name=LONG)),
               plot_curve(curve(LONG), curve("b"))):  # fmt: skip
        drawn(ax)
        assert ax.get_window_extent().width > 0.3 * ax.figure.get_size_inches()[0] * ax.figure.dpi
