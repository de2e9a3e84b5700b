"""The figures of beliefs draw the numbers of their results, with names that do not meet."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from causalrec.abtest import ArmSummary, Bayesian, NormalPrior, posterior_of, simulate_bayes
from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_bayes_stopping, plot_posterior, plot_prob_best
from causalrec.results.bayes import format_probability

from .test_figures import drawn, ticks

NAMES = ["control", "bigger button", "a name that is much longer than there is room beside it", "both"]


def posterior(n, kind="proportion", **options):
    shares = (0.100, 0.103, 0.109, 0.111)
    arms = [ArmSummary(name, p, (p * (1 - p) / n) ** 0.5, round(p * n), n)
            for name, p in zip(NAMES, shares, strict=True)]  # fmt: skip
    return posterior_of("conversion", kind, arms, Bayesian(**options))


def test_a_posterior_has_a_row_per_arm_with_its_interval_and_probability():
    result = posterior(8_000)
    ax = plot_posterior(result, as_percent=True)
    drawn(ax)
    assert ticks(ax, "y")[:2] == ["control", "bigger button"]
    lines = [c.get_segments()[0] for c in ax.collections if hasattr(c, "get_segments") and len(c.get_segments()) == 1]
    ends = [[seg[0][0], seg[1][0]] for seg in lines]
    np.testing.assert_allclose(ends, np.column_stack([result.ci_low, result.ci_high]))
    written = [f"P(best) {format_probability(float(p))}" for p in result.prob_best_arm]
    assert [t.get_text() for t in ax.texts] == written
    assert result.answer in ax.get_label()
    tied = plot_posterior(posterior(8_000, prior=NormalPrior(0.0, 0.02, scale="relative")))
    drawn(tied)
    with pytest.raises(CausalRecError, match="expected one PosteriorResult"):
        plot_posterior([result])


def test_probabilities_over_time_in_order_and_named_apart():
    pairs = [(day, posterior(1_000 * day, loss_threshold=0.02)) for day in (3, 1, 2, 9)]
    ax = plot_prob_best(pairs, threshold=0.95)
    drawn(ax)
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 4]
    assert lines[0].get_xdata().tolist() == [1, 2, 3, 9]
    ordered = [r for _, r in sorted(pairs, key=lambda pair: pair[0])]
    np.testing.assert_allclose([line.get_ydata() for line in lines], np.transpose([r.prob_best_arm for r in ordered]))
    names = [t for t in ax.texts if t.get_position()[0] == 5]
    heights = sorted(t.xy[1] for t in names)
    assert len(names) == 4
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.06
    stop = next(day for day, r in sorted(pairs, key=lambda pair: pair[0]) if r.can_stop)
    assert any(t.get_text() == f"expected loss small enough from day {stop}" for t in ax.texts)
    assert f"small enough from day {stop}." in ax.get_label()


def test_one_time_can_be_drawn_and_others_are_refused():
    drawn(plot_prob_best([(1, posterior(500))]))
    other = dataclasses.replace(posterior(500), metric="spend")
    with pytest.raises(CausalRecError, match="expected one metric"):
        plot_prob_best([(1, posterior(500)), (2, other)])
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_prob_best([])


def test_stopping_shows_false_winners_and_how_soon_it_ends():
    result = simulate_bayes(NormalPrior(0.0, 0.05), std=1.0, n_per_day=200, days=10, loss_threshold=0.003,
                            n_simulations=300, rng=1)  # fmt: skip
    left, right = plot_bayes_stopping(result)
    drawn(left)
    assert [t.get_text() for t in left.texts] == [f"{p:.0%}" for p in result.declared_null]
    assert right.texts[1].get_text() == f"P(best) > 95%: {result.mean_days[1]:.1f} days"
    steps = [line.get_ydata()[:-1] for line in left.get_lines() if len(line.get_xdata()) == 11]
    np.testing.assert_allclose(steps, result.declared_null_by_day)
    steps = [line.get_ydata()[:-1] for line in right.get_lines() if len(line.get_xdata()) == 11]
    np.testing.assert_allclose(steps, result.stopped_by_day)
    with pytest.raises(CausalRecError, match="found 1 Axes"):
        plot_bayes_stopping(result, axes=[left])
