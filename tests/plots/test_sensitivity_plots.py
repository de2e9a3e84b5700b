"""Hidden bias as pictures: the numbers of the result, the line that must not be crossed, and the turning point."""

from __future__ import annotations

import numpy as np
import pytest

from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_confounding, plot_gamma

from .sensitivity_results import confounding, rosenbaum


def texts(ax) -> str:
    return "\n".join(t.get_text() for t in ax.texts)


def names(ax) -> list[str]:
    return ax.get_legend_handles_labels()[1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_benchmarks_and_the_line_of_no_effect(sign: float) -> None:
    ax = plot_confounding(confounding(sign=sign))
    (line,) = (line for line in ax.get_lines() if line.get_marker() == "D")
    assert [tuple(map(float, point)) for point in zip(*line.get_data(), strict=True)] == [(0.02, 0.08), (0.04, 0.16)]
    value = "0.08" if sign > 0 else "-0.08"
    assert f"1× age: {value}" in texts(ax)
    assert names(ax) == ["estimate 0"]
    assert "18.1%" in ax.get_label()
    assert "2 times as strong as age" in ax.get_label()
    statistic = plot_confounding(confounding(sign=sign), show="t")
    assert names(statistic) == [f"t statistic {'' if sign > 0 else '-'}1.966"]
    statistic.figure.canvas.draw()


def test_without_benchmarks() -> None:
    ax = plot_confounding(confounding(0), title="My study")
    assert ax.get_title("left") == "My study"
    assert ax.get_label().endswith("interval.")


def test_pvalues_by_gamma() -> None:
    ax = plot_gamma(rosenbaum())
    line = next(line for line in ax.get_lines() if line.get_label() == "largest p-value")
    assert line.get_ydata().tolist() == [1e-4, 0.003, 0.02, 0.12]
    assert names(ax)[-1] == "turns at 2.4"
    assert ax.get_yscale() == "log"
    ax.figure.canvas.draw()


def test_effects_by_gamma() -> None:
    ax = plot_gamma(rosenbaum(ci_low=np.array([0.6, 0.4, 0.2, -np.inf])), show="effect")
    assert names(ax) == ["95% interval", "estimates", "turns at 2.4"]
    assert "within" in ax.get_label()
    ax.figure.canvas.draw()


def test_a_turning_point_outside_is_in_words_alone() -> None:
    assert "from gamma 7" in plot_gamma(rosenbaum(turning_gamma=7.0)).get_label()
    assert len(names(plot_gamma(rosenbaum(turning_gamma=7.0)))) == 2
    assert "even without hidden bias" in plot_gamma(rosenbaum(turning_gamma=1.0)).get_label()


def test_one_gamma_alone_is_a_figure() -> None:
    one = {name: getattr(rosenbaum(), name)[:1] for name in (
        "gamma", "pvalue_low", "pvalue_high", "estimate_low", "estimate_high", "ci_low", "ci_high")}  # fmt: skip
    for show in ("pvalue", "effect"):
        plot_gamma(rosenbaum(**one), show=show).figure.canvas.draw()


def test_what_cannot_be_shown() -> None:
    with pytest.raises(CausalRecError, match="binary"):
        plot_gamma(rosenbaum(estimate=float("nan")), show="effect")
    with pytest.raises(CausalRecError, match="expected"):
        plot_gamma(rosenbaum(), show="p")
    with pytest.raises(CausalRecError, match="expected"):
        plot_confounding(confounding(), show="p")
