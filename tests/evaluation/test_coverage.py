"""Intervals cover the truth: simulated tests whose every metric has a closed form.

The effect is a + b x and x is uniform. One scorer is x. The other is x for every second unit and noise for the rest,
uniform too, so that the effect at its rank r from the bottom is a + b / 4 + b r / 2: a line again. With an effect
c + d r at rank r, C(q) = c q + d (q - q^2 / 2), and so qini = d / 12, auuc = c / 2 + d / 3, AUTOC = d / 4, the effect
of the top k is c + d (1 - k / 2), and the best share s holds C(s) / C(1) of the gain.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from causalrec.evaluation import qini_curve, qini_score, rate, toc_curve, uplift_curve
from causalrec.evaluation._metrics import Choice
from causalrec.evaluation._ranked import rank_units
from causalrec.evaluation._results import result_and_influence
from causalrec.nuisance import arm_scores, fit_nuisances

K = 0.4
CHOICES = {
    "qini": Choice("qini"),
    "auuc": Choice("auuc"),
    "autoc": Choice("autoc"),
    "top": Choice("uplift_at_k", k=K),
    "top by group": Choice("uplift_at_k", k=K, strategy="by_group"),
    "lift share": Choice("lift_share", k=K),
}
Z = float(stats.norm.isf(0.025))


def truths(c, d):
    top = c + d * (1 - K / 2)
    lift = (c * K + d * (K - K**2 / 2)) / (c + d / 2)
    return {"qini": d / 12, "auuc": c / 2 + d / 3, "autoc": d / 4, "top": top, "top by group": top, "lift share": lift}


class Design:
    """A randomised test; a cluster's rows share x, noise, arm and what the second scorer sees."""

    def __init__(self, outcome, *, share=0.5, size=1, n=1000):
        self.outcome, self.share, self.size, self.n = outcome, share, size, n
        self.a, self.b = {"binary": (0.15, 0.2), "continuous": (0.8, 1.0), "strong": (4.0, 6.0)}[outcome]

    @property
    def truth(self):
        """Of the first scorer, the second, and their difference."""
        one, other = truths(self.a, self.b), truths(self.a + self.b / 4, self.b / 2)
        return {name: (one[name], other[name], one[name] - other[name]) for name in one}

    def draw(self, rng):
        g, rows = self.n // self.size, lambda values: np.repeat(values, self.size)
        x, noise, t = rows(rng.random(g)), rows(rng.random(g)), rows((rng.random(g) < self.share).astype(int))
        other = np.where(rows(rng.random(g) < 0.5), x, noise)
        tau, shared = self.a + self.b * x, rows(rng.normal(size=g)) if self.size > 1 else 0.0
        if self.outcome == "binary":
            y = (rng.random(self.n) < 0.1 + 0.3 * x + t * tau).astype(float)
        else:
            level, sd = {"continuous": (5 + 2 * x, 1.0), "strong": (x, 0.2)}[self.outcome]
            y = level + t * tau + sd * rng.normal(size=self.n) + shared
        return y, x, other, t, (rows(np.arange(g)) if self.size > 1 else None)


def simulate(design, seed, reps, choices, make_scores):
    """Estimate, error and whether the truth is covered, of each metric for both scorers and the difference."""
    rng = np.random.default_rng(seed)
    found = {name: [] for name in choices}
    truth = design.truth
    for _ in range(reps):
        y, x, other, t, ids = design.draw(rng)
        scores = make_scores(y, x, t, ids)
        ranked = [rank_units(scores, uplift) for uplift in (x, other)]
        for name in choices:
            (one, psi), (two, phi) = (result_and_influence(CHOICES[name], r, 0.95) for r in ranked)
            error = scores.error(ranked[0].by_row(psi) - ranked[1].by_row(phi))
            gap = one.estimate - two.estimate
            found[name].append([
                (r.estimate, r.std_error, r.ci_low <= true <= r.ci_high)
                for r, true in zip((one, two), truth[name], strict=False)
            ] + [(gap, error, abs(gap - truth[name][2]) <= Z * error)])  # fmt: skip
    return {name: np.array(values, dtype=float) for name, values in found.items()}


def check(found, design, *, slack=0.0):
    for name, values in found.items():
        reps = len(values)
        for which, true in enumerate(design.truth[name]):
            estimate, error, covered = values[:, which].T
            where = (name, ("first", "second", "difference")[which])
            spread = estimate.std(ddof=1)
            assert abs(estimate.mean() - true) < 5 * spread / math.sqrt(reps) + 2 * spread * slack, where
            # The sd of R draws has a relative error of about 1 / sqrt(2 R).
            assert error.mean() / spread == pytest.approx(1, abs=4 / math.sqrt(2 * reps) + slack), where
            assert covered.mean() == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / reps) + slack), where


def by_share(known, share):
    return lambda y, x, t, ids: arm_scores(y, t, propensity=share if known else None, clusters=ids)


@pytest.mark.parametrize(
    ("outcome", "share", "size", "known"), [("binary", 0.5, 1, False), ("continuous", 0.4, 3, True)]
)
def test_single_paired_and_clustered(outcome, share, size, known):
    design = Design(outcome, share=share, size=size, n=600)
    check(simulate(design, 91, 100, CHOICES, by_share(known, share)), design, slack=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outcome", "size"), [("binary", 1), ("continuous", 1), ("continuous", 4), ("strong", 1), ("strong", 4)]
)
@pytest.mark.parametrize("share", [0.5, 0.2])
@pytest.mark.parametrize("known", [False, True])
def test_every_design(outcome, size, share, known):
    design = Design(outcome, share=share, size=size)
    # 50 treated clusters: the normal law is a little too narrow there.
    slack = 0.03 if size > 1 and share < 0.5 else 0.01
    check(simulate(design, 92, 400, CHOICES, by_share(known, share)), design, slack=slack)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("known", [False, True])
def test_doubly_robust(known, size):
    design = Design("continuous", share=0.4, size=size, n=900)

    def scores(y, x, t, ids):
        nuisance = fit_nuisances(
            x[:, None], y, treatment=t, propensity=0.4 if known else None, outcome_model=LinearRegression(),
            propensity_model=None if known else LogisticRegression(), groups=ids, n_folds=3,
        )  # fmt: skip
        return arm_scores(y, t, nuisance=nuisance)

    choices = {name: choice for name, choice in CHOICES.items() if name != "top by group"}
    check(simulate(design, 93, 300, choices, scores), design, slack=0.02)


@pytest.mark.parametrize("metric", [qini_score, rate])
def test_a_useless_score_is_found_useful_at_the_nominal_rate(metric):
    design, rng, reps = Design("binary", share=0.2, n=600), np.random.default_rng(94), 400
    hits = [metric(y, rng.random(600), t).pvalue < 0.05 for y, _, _, t, _ in (design.draw(rng) for _ in range(reps))]
    assert np.mean(hits) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / reps))


def curve_truth(kind, c, d, q):
    gain = c * q + d * (q - q**2 / 2)
    return {"qini": gain, "uplift": gain / q, "toc": gain / q - c - d / 2}[kind]


@pytest.mark.slow
@pytest.mark.parametrize(("outcome", "share", "size"), [("binary", 0.5, 1), ("strong", 0.2, 1), ("continuous", 0.5, 4)])
@pytest.mark.parametrize("call", [qini_curve, uplift_curve, toc_curve])
def test_pointwise_intervals_of_curves(call, outcome, share, size):
    # With 20 treated units in the top and an outcome that varies little there, the effect at the cut is hard to know,
    # and the interval of uplift_curve too wide by a fifth; not looked at here.
    points = (0.1 if share == 0.5 or call is not uplift_curve else 0.3, 0.5, 0.8)
    design, rng, reps = Design(outcome, share=share, size=size), np.random.default_rng(95), 400
    found = []
    for _ in range(reps):
        y, x, _, t, ids = design.draw(rng)
        curve = call(y, x, t, clusters=ids)
        at = [int(np.argmin(np.abs(curve.fraction - q))) for q in points]
        truth = curve_truth(curve.kind, design.a, design.b, curve.fraction[at])
        found.append((curve.value[at], curve.ci_low[at], curve.ci_high[at], truth))
    value, low, high, truth = np.array(found).transpose(1, 0, 2)
    error = (high - low) / 2 / Z
    np.testing.assert_allclose(error.mean(axis=0) / (value - truth).std(axis=0), 1, atol=4 / math.sqrt(2 * reps) + 0.02)
    covered = ((low <= truth) & (truth <= high)).mean(axis=0)
    np.testing.assert_allclose(covered, 0.95, atol=4 * math.sqrt(0.95 * 0.05 / reps) + 0.01)
