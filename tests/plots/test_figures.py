"""Every figure draws the numbers of the result that it was given, and says them in words."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from causalrec import plots
from causalrec.exceptions import CausalRecError, MissingExtraError
from causalrec.plots import (
    plot_aa,
    plot_ab,
    plot_balance,
    plot_curve,
    plot_distribution,
    plot_effects,
    plot_forest,
    plot_overlap,
    plot_placebo,
    plot_power_curve,
    plot_ranking,
    plot_rates,
    plot_resampling,
    plot_trend,
    plot_uplift_bins,
)
from causalrec.results import (
    ABResult,
    CurveResult,
    EffectResult,
    RankingResult,
    RefutationResult,
    UpliftBinsResult,
)

from . import abtest_results as found
from . import attribution_results as shared
from . import boosting_results as boosted
from . import graph_results as drawable
from . import heterogeneity_results as hetero
from . import observational_results as logs
from . import policy_results as policies
from . import report_results as logged
from . import segment_results as segmented
from . import sensitivity_results as hidden
from . import sequel_results as later
from . import uplift_results as ranking
from .refutation_results import made_up, refuted

NAN, INF = float("nan"), float("inf")
LONG = "a covariate with a name that is much longer than any axis has room for, and then some"


def effect(estimate: float = 0.5, low: float = 0.3, high: float = 0.7) -> EffectResult:
    return EffectResult(estimate, 0.1, low, high, 0.01, 0.95, 100, "Welch", "ate")


def ab(metric: str = "visit", relative: float = 0.25, low: float = 0.1, high: float = 0.4) -> ABResult:
    return ABResult(
        0.05, 0.01, 0.02, 0.08, 0.001, 0.95, 1000, "Welch", "ate", metric=metric, control="none", treatment="e-mail",
        control_mean=0.2, treatment_mean=0.25, n_control=500, n_treatment=500, statistic=5.0, df=998.0,
        relative_effect=relative, relative_ci_low=low, relative_ci_high=high,
    )  # fmt: skip


def score(model: str = "ranker", estimate: float = 0.25, low: float = 0.2, high: float = 0.3) -> RankingResult:
    return RankingResult(estimate, 0.02, low, high, NAN, 0.95, 500, "mean", "ndcg_at_10", model, 10, 3)


def curve(label: str = "T-learner", kind: str = "qini", half: float = 0.02) -> CurveResult:
    fraction = np.linspace(0, 1, 11)
    value = fraction * (1.6 - fraction) * 0.1
    return CurveResult(kind, label, 0.95, 1000, fraction, value, value - half, value + half, 0.06 * fraction)


def bins(n: int = 5) -> UpliftBinsResult:
    observed = np.linspace(0.3, -0.1, n) if n > 1 else np.array([0.1])
    return UpliftBinsResult(
        0.95, 100 * n, np.arange(1, n + 1), np.full(n, 100), observed + 0.01, observed, observed - 0.1, observed + 0.2
    )


def placebo(draws: np.ndarray | None = None) -> RefutationResult:
    draws = np.random.default_rng(0).normal(size=100) if draws is None else draws
    return RefutationResult(
        "placebo_treatment",
        2.5,
        1.0,
        0.0,
        float(np.nanmean(draws)),
        1.0,
        -2.0,
        2.0,
        0.5,
        0.01,
        0.95,
        len(draws),
        "permuted",
        "Passing shows little.",
        draws,
    )


def lines(ax: Any) -> list[tuple[list[float], list[float]]]:
    """The data of every line and marker of an Axes."""
    return [([float(v) for v in line.get_xdata()], [float(v) for v in line.get_ydata()]) for line in ax.get_lines()]


def segments(ax: Any) -> list[list[list[float]]]:
    """The segments of every collection of lines."""
    found = [c.get_segments() for c in ax.collections if hasattr(c, "get_segments")]
    return [np.asarray(s).round(12).tolist() for group in found for s in group]


def drawn(ax: Any) -> bytes:
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="png")
    return buffer.getvalue()


def ticks(ax: Any, axis: str) -> list[str]:
    ax.figure.canvas.draw()
    return [t.get_text() for t in getattr(ax, f"get_{axis}ticklabels")()]


EVERY: list[tuple[str, Callable[..., Any]]] = [
    ("plot_curve", lambda ax=None: plot_curve(curve(), ax=ax)),
    ("plot_uplift_bins", lambda ax=None: plot_uplift_bins(bins(), ax=ax)),
    ("plot_uplift_calibration", lambda ax=None: plots.plot_uplift_calibration(ranking.calibration(), ax=ax)),
    ("plot_scorers", lambda ax=None: plots.plot_scorers(ranking.scorers(), ax=ax)),
    ("plot_scorer_differences", lambda ax=None: plots.plot_scorer_differences(ranking.scorers(), ax=ax)),
    ("plot_balance", lambda ax=None: plot_balance(logs.balance(), ax=ax)),
    ("plot_overlap", lambda ax=None: plot_overlap(logs.trimmed(), ax=ax)),
    ("plot_weights", lambda ax=None: plots.plot_weights(logs.weight_spread(), ax=ax)),
    ("plot_event_study", lambda ax=None: plots.plot_event_study(logs.panel(), ax=ax)),
    ("plot_confounding", lambda ax=None: plots.plot_confounding(hidden.confounding(), ax=ax)),
    ("plot_gamma", lambda ax=None: plots.plot_gamma(hidden.rosenbaum(), ax=ax)),
    ("plot_graph", lambda ax=None: plots.plot_graph(drawable.identified(), ax=ax)),
    ("plot_credit", lambda ax=None: plots.plot_credit(shared.credited(), ax=ax)),
    ("plot_attribution", lambda ax=None: plots.plot_attribution(shared.attributed(), ax=ax)),
    ("plot_placebo", lambda ax=None: plot_placebo(placebo(), ax=ax)),
    ("plot_cohorts", lambda ax=None: plots.plot_cohorts(logged.cohorts(), ax=ax)),
    ("plot_daily_users", lambda ax=None: plots.plot_daily_users(logged.daily(), ax=ax)),
    ("plot_revenue", lambda ax=None: plots.plot_revenue(logged.revenue(), ax=ax)),
    ("plot_refutations", lambda ax=None: plots.plot_refutations(refuted(), ax=ax)),
    ("plot_simulated_confounder", lambda ax=None: plots.plot_simulated_confounder(made_up(), ax=ax)),
    ("plot_effects", lambda ax=None: plot_effects({"main": effect()}, truth=0.4, ax=ax)),
    ("plot_ab", lambda ax=None: plot_ab([ab()], ax=ax)),
    ("plot_ranking", lambda ax=None: plot_ranking([score(), score("random", 0.05, 0.04, 0.06)], ax=ax)),
    ("plot_forest", lambda ax=None: plot_forest([found.effect(), found.effect(segment="device = phone")], ax=ax)),
    ("plot_rates", lambda ax=None: plot_rates([found.effect()], ax=ax)),
    ("plot_power_curve", lambda ax=None: plot_power_curve(found.power_curve(), ax=ax)),
    ("plot_resampling", lambda ax=None: plot_resampling(found.bootstrap(), ax=ax)),
    ("plot_aa", lambda ax=None: plot_aa(found.aa(), ax=ax)),
    ("plot_distribution", lambda ax=None: plot_distribution(found.distribution(), ax=ax)),
    ("plot_trend", lambda ax=None: plot_trend(found.trend(), ax=ax)),
    ("plot_boosting", lambda ax=None: plots.plot_boosting(boosted.boosting(), ax=ax)),
    ("plot_importances", lambda ax=None: plots.plot_importances(boosted.importances(), ax=ax)),
    ("plot_bounds", lambda ax=None: plots.plot_bounds(later.design(), observed=[1.0, 2.0], ax=ax)),
    ("plot_spending", lambda ax=None: plots.plot_spending(later.design(), ax=ax)),
    ("plot_peeking", lambda ax=None: plots.plot_peeking(later.peeking(), ax=ax)),
    ("plot_intervals_over_time", lambda ax=None: plots.plot_intervals_over_time(later.status(), ax=ax)),
    ("plot_stops", lambda ax=None: plots.plot_stops(later.saved(), ax=ax)),
    ("plot_time_saved", lambda ax=None: plots.plot_time_saved(later.saved(), ax=ax)),
    ("plot_posterior", lambda ax=None: plots.plot_posterior(later.posterior(), ax=ax)),
    ("plot_prob_best", lambda ax=None: plots.plot_prob_best([(1, later.posterior()), (2, later.posterior())], ax=ax)),
    ("plot_segment_scan", lambda ax=None: plots.plot_segment_scan(later.scan(), ax=ax)),
    ("plot_segments", lambda ax=None: plots.plot_segments(segmented.segments(), ax=ax)),
    ("plot_segment_map", lambda ax=None: plots.plot_segment_map(segmented.segments(), ax=ax)),
    ("plot_policy_tree", lambda ax=None: plots.plot_policy_tree(segmented.tree(), ax=ax)),
    (
        "plot_permutation_importance",
        lambda ax=None: plots.plot_permutation_importance(segmented.permutation(), ax=ax),
    ),
    ("plot_shap_importance", lambda ax=None: plots.plot_shap_importance(segmented.shap(), ax=ax)),
    ("plot_cost_curve", lambda ax=None: plots.plot_cost_curve(policies.cost(), ax=ax)),
    ("plot_cost_difference", lambda ax=None: plots.plot_cost_difference(policies.difference(), ax=ax)),
    ("plot_profit", lambda ax=None: plots.plot_profit(policies.profit(), ax=ax)),
    ("plot_regret", lambda ax=None: plots.plot_regret(policies.regret(), ax=ax)),
    ("plot_impact", lambda ax=None: plots.plot_impact(later.impact(), ax=ax)),
    ("plot_shrinkage", lambda ax=None: plots.plot_shrinkage(later.shrinkage(), ax=ax)),
    ("plot_funnel_sankey", lambda ax=None: plots.plot_funnel_sankey(later.funnel(), ax=ax)),
    ("plot_survival", lambda ax=None: plots.plot_survival(later.curves(), ax=ax)),
    ("plot_hazards", lambda ax=None: plots.plot_hazards(later.churn(), ax=ax)),
    ("plot_retention", lambda ax=None: plots.plot_retention(later.kept(), ax=ax)),
    ("plot_group_effects", lambda ax=None: plots.plot_group_effects(hetero.groups(), ax=ax)),
    ("plot_projection", lambda ax=None: plots.plot_projection(hetero.projection(), ax=ax)),
    ("plot_learners", lambda ax=None: plots.plot_learners(hetero.learners(), ax=ax)),
]
OF_TWO_AXES = {"plot_bayes_stopping"}


def assert_the_legend_covers_neither_data_nor_title(ax: Any) -> None:
    """Of a figure that was drawn, as places are known only then."""
    if (legend := ax.get_legend()) is not None:
        box = legend.get_window_extent()
        assert box.y0 >= ax.get_window_extent().y1 - 1
        assert ax._left_title.get_window_extent().y0 >= box.y1 - 3


@pytest.mark.parametrize("draw", [d for _, d in EVERY], ids=[n for n, _ in EVERY])
def test_every_figure_has_a_title_axes_and_words_and_draws_into_a_given_axes(draw: Callable[..., Any]) -> None:
    from matplotlib.figure import Figure

    ax = draw()
    assert drawn(ax).startswith(b"\x89PNG")
    assert_the_legend_covers_neither_data_nor_title(ax)
    assert ax.get_title(loc="left")
    assert ax.get_xlabel() or not len(ax.get_xticks())  # flows have no scale
    assert ax.get_label().startswith(ax.get_title(loc="left").replace("\n", " "))
    assert any(character.isdigit() for character in ax.get_label())

    given = Figure(figsize=(5, 3)).add_subplot()
    assert draw(ax=given) is given
    assert lines(given) == lines(ax)
    assert given.get_label() == ax.get_label()
    assert given.figure.get_size_inches().tolist() == [5, 3]


def test_all_public_functions_are_tested() -> None:
    assert {name for name, _ in EVERY} | OF_TWO_AXES == set(plots.__all__)


def test_curve() -> None:
    first, second = curve(), curve("another", half=NAN)
    ax = plot_curve(first, second)
    found = lines(ax)
    assert found[0] == (first.fraction.tolist(), first.value.tolist())
    assert found[1] == (second.fraction.tolist(), second.value.tolist())
    assert found[2] == (first.fraction.tolist(), first.random.tolist())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["T-learner", "another", "random order"]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(first.ci_low.min())
    assert band[:, 1].max() == pytest.approx(first.ci_high.max())
    assert ax.get_xlim() == (0, 1)
    assert {"0%", "100%"} <= set(ticks(ax, "x"))
    # f (1.6 - f) / 10 is highest at f = 0.8: 0.064.
    assert "highest, 0.064, with 80% targeted" in ax.get_label()
    assert plot_curve(curve(kind="uplift")).get_title(loc="left").startswith("Uplift curve")


@pytest.mark.parametrize("half", [NAN, INF])
def test_a_curve_without_bounds_has_no_band(half: float) -> None:
    ax = plot_curve(curve(half=half))
    assert drawn(ax)
    assert all(len(c.get_paths()) == 0 for c in ax.collections)
    assert ax.get_ylim()[1] < 1


@pytest.mark.parametrize("n", [1, 5])
def test_uplift_bins(n: int) -> None:
    result = bins(n)
    ax = plot_uplift_bins(result)
    found = lines(ax)
    assert (result.bin.tolist(), result.effect.tolist()) in found
    assert (result.bin.tolist(), result.predicted.tolist()) in found
    expected = np.array(
        [[[b, lo], [b, hi]] for b, lo, hi in zip(result.bin, result.ci_low, result.ci_high, strict=True)]
    )
    assert segments(ax) == expected.round(12).tolist()
    assert ticks(ax, "x") == [str(b) for b in result.bin]
    low, high = ax.get_ylim()
    assert low < min(0, result.ci_low.min())
    assert high > result.ci_high.max()


def test_placebo() -> None:
    result = placebo()
    ax = plot_placebo(result)
    assert sum(patch.get_height() for patch in ax.patches) == 100
    assert lines(ax)[-1][0] == [2.5, 2.5]
    assert all(float(t) == int(float(t)) for t in ticks(ax, "y"))
    assert "100 placebo" in ax.get_label()


@pytest.mark.parametrize("draws", [np.zeros(20), np.array([0.1]), np.array([0.1, NAN, INF, -0.2])])
def test_placebo_of_odd_draws(draws: np.ndarray) -> None:
    ax = plot_placebo(placebo(draws))
    assert drawn(ax)
    assert sum(patch.get_height() for patch in ax.patches) == np.isfinite(draws).sum()


def test_effects_from_the_top_with_the_truth() -> None:
    ax = plot_effects({"main": effect(), "other": effect(0.2, -0.1, 0.5)}, truth=0.9)
    assert segments(ax) == [[[0.3, 1], [0.7, 1]], [[-0.1, 0], [0.5, 0]]]
    assert ([0.5, 0.2], [1, 0]) in lines(ax)
    assert ticks(ax, "y") == ["main", "other"]
    assert [0.9, 0.9] in [x for x, _ in lines(ax)]
    assert ax.get_xlim()[1] > 0.9
    assert ax.get_legend().get_texts()[0].get_text() == "the truth, 0.9"
    assert [t.get_text() for t in ax.texts] == ["0.5", "0.2"]
    assert ax.get_label() == "Average effect. main: 0.5 [0.3, 0.7]; other: 0.2 [-0.1, 0.5]; truth 0.9."


@pytest.mark.parametrize("truth", [None, NAN])
def test_effects_without_a_truth_have_no_legend(truth: float | None) -> None:
    ax = plot_effects({"main": effect()}, truth=truth, title="Lift")
    assert ax.get_legend() is None
    assert ax.get_title(loc="left") == "Lift"


def test_an_effect_without_an_interval_is_a_point() -> None:
    ax = plot_effects({"main": effect(0.5, NAN, NAN)})
    assert segments(ax) == []
    assert ([0.5], [0]) in lines(ax)
    assert drawn(ax)


@pytest.mark.parametrize("low, high, marker", [(-INF, 0.7, "<"), (0.3, INF, ">")])
def test_an_interval_without_an_end_runs_to_the_edge_as_an_arrow(low: float, high: float, marker: str) -> None:
    ax = plot_effects({"main": effect(0.5, low, high)})
    edge = ax.get_xlim()
    ((start, stop),) = segments(ax)
    assert (start[0], stop[0]) == pytest.approx((max(low, edge[0]), min(high, edge[1])))
    arrow = next(line for line in ax.get_lines() if line.get_marker() == marker and len(line.get_xdata()))
    assert arrow.get_xdata()[0] == pytest.approx(edge[0 if marker == "<" else 1])
    assert drawn(ax)


def test_nothing_known_is_still_a_figure() -> None:
    assert drawn(plot_effects({"main": effect(NAN, NAN, NAN)}))
    empty = dataclasses.replace(bins(1), effect=np.array([NAN]), ci_low=np.array([NAN]), ci_high=np.array([NAN]))
    assert drawn(plot_uplift_bins(empty))


def test_ab_in_percent() -> None:
    ax = plot_ab([ab(), ab("spend", -0.1, -0.3, 0.1)])
    assert segments(ax) == [[[0.1, 1], [0.4, 1]], [[-0.3, 0], [0.1, 0]]]
    assert ([0.25, -0.1], [1, 0]) in lines(ax)
    assert [t.get_text() for t in ax.texts] == ["+25.0%", "-10.0%"]
    assert ticks(ax, "y") == ["visit", "spend"]
    assert set(ticks(ax, "x")) >= {"-20%", "0%", "+20%"}
    assert ax.get_xlabel() == "relative effect of e-mail against none"
    assert "visit +25.0% [+10.0%, +40.0%]; spend -10.0% [-30.0%, +10.0%]." in ax.get_label()


def test_ab_axis_tells_small_steps_apart() -> None:
    labels = ticks(plot_ab([ab("visit", 0.0025, 0.001, 0.004)]), "x")
    assert len(set(labels)) == len(labels)


def test_ab_without_a_relative_effect_says_so() -> None:
    ax = plot_ab([ab(), ab("spend", NAN, NAN, NAN)])
    assert [t.get_text() for t in ax.texts] == ["+25.0%", "no relative effect"]
    assert len(segments(ax)) == 1
    assert "spend – [–, –]" in ax.get_label()
    assert drawn(ax)


def test_ranking_from_the_top() -> None:
    ax = plot_ranking([score(), score("top sellers", 0.2, 0.15, 0.25), score("random", 0.05, NAN, NAN)])
    assert [patch.get_width() for patch in ax.patches] == [0.25, 0.2, 0.05]
    assert [patch.get_y() + patch.get_height() / 2 for patch in ax.patches] == pytest.approx([2, 1, 0])
    assert segments(ax) == [[[0.2, 2], [0.3, 2]], [[0.15, 1], [0.25, 1]]]
    assert ticks(ax, "y") == ["ranker", "top sellers", "random"]
    assert ax.get_xlabel() == "NDCG@10, from 0 to 1, higher is better"
    assert ax.get_xlim()[0] == 0
    assert ax.get_xlim()[1] > 0.3


@pytest.mark.parametrize(
    "ax, axis",
    [
        (lambda: plot_balance(logs.balance(name=LONG)), "y"),
        (lambda: plot_effects({LONG: effect()}), "y"),
        (lambda: plot_ab([dataclasses.replace(ab(LONG), treatment=LONG, control=LONG)]), "y"),
        (lambda: plot_ranking([score(LONG)]), "y"),
    ],
)
def test_long_names_are_cut_and_leave_room(ax: Callable[[], Any], axis: str) -> None:
    made = ax()
    drawn(made)
    labels = ticks(made, axis)
    assert all(len(label) <= 38 and "…" in label for label in labels)
    assert len(set(labels)) == len(labels)
    width, height = made.figure.get_size_inches() * made.figure.dpi
    for text in [*made.get_yticklabels(), made.xaxis.label, made._left_title]:
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    assert made.get_window_extent().width > 0.3 * width


@pytest.mark.parametrize(
    "draw", [lambda: plot_curve(), lambda: plot_effects({}), lambda: plot_ab([]), lambda: plot_ranking([])]
)
def test_nothing_to_draw_is_an_error(draw: Callable[[], Any]) -> None:
    with pytest.raises(CausalRecError, match="nothing to draw"):
        draw()


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"causalrec\[plots\]"):
        plot_curve(curve())
