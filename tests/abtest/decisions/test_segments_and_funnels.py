"""Segment scans and funnels, beside exact laws, simulated truth, and other implementations."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from causalrec.abtest import Experiment, Mean, Proportion, funnel, funnel_counts, scan_segments, shrink_effects
from causalrec.abtest.decisions.segment_scan import expected_largest, step_down_largest
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.plots import plot_funnel_sankey, plot_segment_scan
from causalrec.results import ExperimentResult, HeterogeneityResult


def result_of(effect, error, metric="spend", dimension="country", treatment="B"):
    """An experiment whose segments have these effects and errors."""
    from causalrec.abtest import Estimate, infer

    parts = [
        infer(Estimate(10.0, 10.0 + e, s * s / 2, s * s / 2, 0.0, np.inf, 500, 500, "z"), metric=metric, control="A",
              treatment=treatment, segment=f"{dimension} = {chr(97 + k)}")
        for k, (e, s) in enumerate(zip(effect, error, strict=True))
    ]  # fmt: skip
    w = 1 / np.square(error)
    mean, v = (w @ effect) / w.sum(), 1 / w.sum()
    overall = infer(Estimate(10.0, 10.0 + mean, v / 2, v / 2, 0.0, np.inf, 5000, 5000, "z"), metric=metric,
                    control="A", treatment=treatment)  # fmt: skip
    test = HeterogeneityResult(metric, "A", treatment, dimension, 1.0, len(parts) - 1, 0.5, len(parts), "Q")
    return ExperimentResult(10_000, 0.95, (overall,), segments=tuple(parts), interactions=(test,))


class TestShrinkage:
    def test_is_the_posterior_by_numerical_integration(self):
        y, sd = np.array([28.0, 8.0, -3.0, 7.0]), np.array([15.0, 10.0, 16.0, 11.0])
        typical = 1 / np.mean(1 / sd**2)

        def density(mu, share):
            tau2 = typical * (1 - share) / share
            return stats.norm.pdf(y, mu, np.sqrt(sd**2 + tau2)).prod()

        def moment(k, power):
            def f(mu, share):
                tau2 = typical * (1 - share) / share
                pull = sd[k] ** 2 / (sd[k] ** 2 + tau2)
                m, v = (1 - pull) * y[k] + pull * mu, (1 - pull) * sd[k] ** 2
                return density(mu, share) * (m if power == 1 else m * m + v)

            return integrate.dblquad(f, 1e-6, 1, -120, 140, epsrel=1e-4)[0]

        total = integrate.dblquad(density, 1e-6, 1, -120, 140, epsrel=1e-4)[0]
        found = shrink_effects(y, sd)
        mean = moment(0, 1) / total
        half = 1.959964 * np.sqrt(moment(0, 2) / total - mean**2)
        assert found.value[0] == pytest.approx(mean, rel=1e-4)
        assert found.high[0] - found.value[0] == pytest.approx(half, rel=1e-4)

    def test_intervals_cover_effects_drawn_from_the_prior(self):
        rng = np.random.default_rng(0)
        sd = rng.uniform(0.5, 2, 6)
        typical, covered, n = 1 / np.mean(1 / sd**2), 0, 1000
        for _ in range(n):
            share = rng.uniform()
            true = rng.normal(3, np.sqrt(typical * (1 - share) / share), 6)
            found = shrink_effects(rng.normal(true, sd), sd)
            covered += ((found.low <= true) & (true <= found.high)).mean()
        assert covered / n == pytest.approx(0.95, abs=0.015)

    def test_scale_and_place_do_not_matter(self):
        one, two = shrink_effects([1, 4, 2], [1, 1, 2]), shrink_effects([1007, 1037, 1017], [10, 10, 20])
        np.testing.assert_allclose(two.value, 997 + 10 * one.value, rtol=1e-12)

    def test_refusals(self):
        for effects, errors in (([1.0], [1.0]), ([1.0, 2.0], [1.0, 0.0]), ([1.0, np.nan], [1.0, 1.0])):
            with pytest.raises(CausalRecError, match="two or more"):
                shrink_effects(effects, errors)


def test_expected_largest_of_noise():
    # Means of the largest of n standard normal variables: Tippett (1925), Harter (1961).
    for n, known in ((2, 0.56419), (5, 1.16296), (10, 1.53875), (50, 2.24907), (100, 2.50759)):
        assert expected_largest(np.ones(n)) == pytest.approx(known, abs=1e-5)
    sd = np.array([0.5, 1.0, 3.0])
    draws = np.random.default_rng(0).normal(size=(400_000, 3)) * sd
    assert expected_largest(sd) == pytest.approx(draws.max(axis=1).mean(), abs=0.01)
    assert expected_largest([1.0, 1.0, np.nan, 0.0]) == expected_largest([1.0, 1.0])


class TestScan:
    def test_everything_tried_counts(self):
        parts = [result_of([0.1, 0.2, 0.9], [0.2] * 3, metric=m, treatment=t) for m in "xy" for t in "BC"]
        both = ExperimentResult(
            1, 0.95, tuple(p.effects[0] for p in parts), segments=tuple(e for p in parts for e in p.segments),
            interactions=tuple(p.interactions[0] for p in parts),
        )  # fmt: skip
        found, alone = scan_segments(both, "x", "B"), scan_segments(both, "x", "B", family="metric")
        assert (found.n_effects, found.n_metrics, found.n_arms, alone.n_effects) == (12, 2, 2, 3)
        assert "3 segments of 1 dimension × 2 metrics × 2 arms tried, 12 effects" in str(found)
        assert found.adjusted[2] == pytest.approx(12 * found.pvalue[2])
        assert alone.adjusted[2] == pytest.approx(3 * found.pvalue[2])
        assert len(found.segment) == 3

    def test_difference_from_the_others(self):
        y, s = np.array([0.3, 1.1, -0.2]), np.array([0.2, 0.4, 0.3])
        found = scan_segments(result_of(y, s))
        w = 1 / s[1:] ** 2
        assert found.difference[0] == pytest.approx(y[0] - w @ y[1:] / w.sum())
        z = found.difference[0] / np.sqrt(s[0] ** 2 + 1 / w.sum())
        assert found.difference_pvalue[0] == pytest.approx(2 * stats.norm.sf(abs(z)))

    def test_two_groups_are_one_test(self):
        found = scan_segments(result_of([0.1, 0.8], [0.2, 0.2]))
        assert found.n_differences == 1
        np.testing.assert_allclose(found.difference_adjusted, found.difference_pvalue)
        largest = scan_segments(result_of([0.1, 0.8], [0.2, 0.2]), correction="max")
        np.testing.assert_allclose(largest.difference_adjusted, found.difference_pvalue, atol=0.004)

    def test_groups_that_share_clusters_are_not_tested_against_each_other(self):
        shared = result_of([0.1, 0.8, 0.2], [0.2] * 3)
        found = scan_segments(ExperimentResult(1, 0.95, shared.effects, segments=shared.segments))
        assert np.isnan(found.difference).all()
        assert found.different == ()

    @pytest.mark.parametrize("correction", ["holm", "max"])
    def test_without_heterogeneity_false_finds_stay_below_alpha(self, correction):
        rng = np.random.default_rng(1)
        n, k = (300, 8) if correction == "holm" else (100, 8)
        error = rng.uniform(0.1, 0.5, k)
        false = sum(
            bool(scan_segments(result_of(rng.normal(0.5, error), error), correction=correction).different)
            for _ in range(n)
        )
        assert false <= stats.binom.ppf(0.999, n, 0.05)
        if correction == "max":
            assert false >= stats.binom.ppf(0.001, n, 0.05)

    def test_a_segment_that_differs_is_found(self):
        rng = np.random.default_rng(2)
        true = np.full(12, 0.5)
        true[3] += 2.0
        found = [scan_segments(result_of(rng.normal(true, 0.3), np.full(12, 0.3))).different for _ in range(100)]
        power = stats.norm.sf(stats.norm.isf(0.025 / 12) - 2.0 / (0.3 * np.sqrt(12 / 11)))  # at Holm's first step
        assert sum("country = d" in f for f in found) >= stats.binom.ppf(0.001, 100, power)

    def test_winners_are_shrunken_to_what_they_are(self):
        rng = np.random.default_rng(2)
        raw, shrunken = [], []
        for _ in range(120):
            true = rng.normal(0.5, 0.3, 12)
            scan = scan_segments(result_of(rng.normal(true, 0.3), np.full(12, 0.3)))
            best = int(np.argmax(scan.estimate))
            raw.append((scan.estimate - true)[best])
            shrunken.append((scan.shrunken - true)[best])
        assert np.mean(raw) > 0.25
        assert abs(np.mean(shrunken)) < 0.2 * np.mean(raw)

    def test_the_step_down_is_brute_force(self):
        rng = np.random.default_rng(3)
        draws = np.abs(rng.normal(size=(500, 4)))
        p = np.array([0.2, 0.001, 0.04, 0.03])
        z = stats.norm.isf(p / 2)
        order, expected, worst = np.argsort(-z), np.empty(4), 0.0
        for rank, k in enumerate(order):
            left = order[rank:]
            share = (1 + sum(row[left].max() >= z[k] for row in draws)) / 501
            worst = max(worst, share, p[k])
            expected[k] = worst
        np.testing.assert_allclose(step_down_largest(p, draws), expected)

    def test_of_a_table(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({"arm": rng.choice(["A", "B"], 6000), "country": rng.choice(list("abcdef"), 6000),
                              "device": rng.choice(["phone", "web"], 6000)})  # fmt: skip
        frame["spend"] = rng.normal(10, 2, 6000) + 1.5 * ((frame.arm == "B") & (frame.country == "d"))
        asked = Experiment({"spend": Mean("spend")}, variant="arm", control="A", segments=["country", "device"])
        result = asked.analyze(frame)
        found = scan_segments(result)
        assert "country = d" in found.different
        assert (found.n_dimensions, found.n_effects, found.n_differences) == (2, 8, 7)
        expected = found.overall + expected_largest(found.std_error)
        assert found.expected_best == pytest.approx(expected)
        with pytest.raises(CausalRecError, match="correlations do not follow"):
            scan_segments(result, correction="max")

    def test_refusals(self):
        result = result_of([0.1, 0.8], [0.2, 0.2])
        with pytest.raises(CausalRecError, match="Did you mean 'spend'"):
            scan_segments(result, "spent")
        with pytest.raises(CausalRecError, match="no segments"):
            scan_segments(ExperimentResult(1, 0.95, result.effects))
        with pytest.raises(CausalRecError, match="family"):
            scan_segments(result, family="both")


COUNTS = {"A": [9800, 3100, 410], "B": [9750, 3320, 505], "C": [5000, 1600, 200]}
STEPS = ["visit", "basket", "order"]


class TestFunnel:
    def test_shares_and_differences_are_those_of_statsmodels(self):
        found = funnel(COUNTS, STEPS, control="A")
        for (i, arm), k in itertools.product(enumerate("ABC"), (1, 2)):
            for base, name in ((COUNTS[arm][0], "of_all"), (COUNTS[arm][k - 1], "of_previous")):
                low, high = proportion_confint(COUNTS[arm][k], base, method="wilson")
                assert getattr(found, name)[i, k] == COUNTS[arm][k] / base
                limits = getattr(found, f"{name}_low")[i, k], getattr(found, f"{name}_high")[i, k]
                assert limits == pytest.approx((low, high))
            if i:
                for name, bases in (("effect", (0, 0)), ("step_effect", (k - 1, k - 1))):
                    limits = confint_proportions_2indep(
                        COUNTS[arm][k], COUNTS[arm][bases[0]], COUNTS["A"][k], COUNTS["A"][bases[1]], method="newcomb"
                    )
                    assert getattr(found, f"{name}_low")[i, k] == pytest.approx(limits[0])
                    assert getattr(found, f"{name}_high")[i, k] == pytest.approx(limits[1])
        tests = found.pvalue[1:, 1:].ravel()
        np.testing.assert_allclose(found.adjusted[1:, 1:].ravel(), multipletests(tests, method="holm")[1])
        assert found.arm == ("A", "B", "C")
        assert np.isnan(found.effect[0]).all()
        assert "B − A at order: +1.00 pp" in str(found)
        assert len(found.to_frame()) == 9

    def test_units_that_skipped_a_step_do_not_count_later(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({"arm": rng.choice(["x", "y"], 500), "saw": rng.random(500) < 0.7,
                              "clicked": rng.integers(0, 2, 500), "bought": rng.integers(0, 2, 500)})  # fmt: skip
        found = funnel_counts(frame, ["saw", "clicked", "bought"], variant="arm", control="x")
        for arm, part in frame.groupby("arm"):
            kept = part[["saw", "clicked", "bought"]].astype(int).cumprod(axis=1)
            assert found[arm] == [len(part), *kept.sum().tolist()]
        frame["bought"] = 0
        assert funnel(funnel_counts(frame, ["saw", "bought"], variant="arm", control="x"), ["all", "saw", "bought"],
                      control="x").pvalue.shape == (2, 3)  # fmt: skip

    def test_effects_are_those_of_the_metric(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({"arm": rng.choice(["x", "y"], 5000), "saw": rng.random(5000) < 0.7})
        found = funnel(funnel_counts(frame, ["saw"], variant="arm", control="x"), ["all", "saw"], control="x")
        metric = Proportion("saw", method="newcombe")
        peer = Experiment({"saw": metric}, variant="arm", control="x").analyze(frame)["saw"]
        assert (found.effect[1, 1], found.pvalue[1, 1]) == (peer.estimate, peer.pvalue)

    def test_refusals(self):
        for counts, error, words in [
            ({"A": [10, 5]}, TreatmentError, "one or more other"),
            ({"A": [10, 5], "B": [10, 11]}, OutcomeError, "no more than before"),
            ({"A": [10, 5], "B": [10, 5, 2]}, OutcomeError, "count for each"),
            ({"A": [10, 5], "B": [10, 1.5]}, OutcomeError, "whole numbers"),
        ]:
            with pytest.raises(error, match=words):
                funnel(counts, ["a", "b"], control="A")


def test_sankey_draws_streams_as_wide_as_shares():
    found = funnel(COUNTS, STEPS, control="A")
    ax = plot_funnel_sankey(found)
    bars = [p.get_height() for p in ax.patches if hasattr(p, "get_height") and p.get_width() < 0.2]
    assert bars == pytest.approx(found.of_all.ravel().tolist())
    flows = [p.get_height() for p in ax.patches if hasattr(p, "get_height") and p.get_width() > 0.2]
    assert flows == pytest.approx(found.of_all[:, 1:].ravel().tolist())
    texts = [t.get_text() for t in ax.texts]
    assert "3,320 · 34.1%" in texts
    assert "−84.8%\n2,815 leave" in texts
    assert "+1.00 pp" in texts
    assert "order 505 (5.18%)" in ax.get_label()
    ax.figure.canvas.draw()


def test_segment_scan_draws_found_and_expected():
    scan = scan_segments(result_of([0.1, 2.8, 0.3, 0.2], [0.2] * 4))
    ax = plot_segment_scan(scan)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["country = a", "country = d", "country = c", "country = b"]
    assert [t.get_fontweight() for t in ax.get_yticklabels()][-1] == "bold"
    lines = {line.get_label(): np.asarray(line.get_xdata()) for line in ax.lines}
    np.testing.assert_array_equal(lines["found"], np.sort(scan.estimate))
    assert scan.shrunken[1] in lines["differs from others"]
    assert f"best of 4 by chance, {scan.expected_best:.4g}" in lines
    with pytest.raises(CausalRecError, match="nothing to draw"):
        plot_segment_scan(SimpleNamespace(segment=np.array([])))
