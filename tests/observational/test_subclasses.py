"""Subclassification against its definition, a blocked experiment, and the regression of What If."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import special, stats

from causalrec.exceptions import CausalRecError, OutcomeError, OverlapError, TreatmentError
from causalrec.observational import fit_propensity, subclassification
from causalrec.observational.subclasses import merge_small, score_strata

ESTIMANDS = ("ate", "att", "atc")


def blocked(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strata that decide the score, the level of the outcome and the effect."""
    rng = np.random.default_rng(seed)
    stratum = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    t = (rng.random(n) < np.array([0.2, 0.4, 0.5, 0.7])[stratum]).astype(np.int64)
    return stratum, t, 3.0 * stratum + t * (1 + stratum) + rng.normal(size=n)


def by_hand(stratum, t, y, estimand) -> tuple[float, float, float]:
    """The estimate, Neyman's variance, and the variance of the strata's effects over the population's size."""
    frame = pd.DataFrame({"s": stratum, "t": t, "y": y})
    cells = frame.groupby(["s", "t"])["y"].agg(["mean", "var", "size"]).unstack()
    effect = cells["mean"][1] - cells["mean"][0]
    size = {"ate": cells["size"].sum(axis=1), "att": cells["size"][1], "atc": cells["size"][0]}[estimand]
    share = size / size.sum()
    estimate = (share * effect).sum()
    neyman = (share**2 * (cells["var"] / cells["size"]).sum(axis=1)).sum()
    return estimate, neyman, (share * (effect - estimate) ** 2).sum() / size.sum()


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_estimate_and_neymans_error(estimand) -> None:
    stratum, t, y = blocked(0)
    estimate, neyman, between = by_hand(stratum, t, y, estimand)
    effect = subclassification(y, treatment=t, strata=stratum, estimand=estimand)
    assert (effect.estimate, effect.std_error) == pytest.approx((estimate, np.sqrt(neyman + between)), rel=1e-12)
    sample = subclassification(y, treatment=t, strata=stratum, estimand=estimand, population=False)
    assert (sample.estimate, sample.std_error) == pytest.approx((estimate, np.sqrt(neyman)), rel=1e-12)
    # The weights give the same difference, and make the arms alike in their strata.
    one, other = (np.average(y[t == a], weights=effect.weights[t == a]) for a in (1, 0))
    assert one - other == pytest.approx(estimate)
    shares = [np.bincount(stratum[t == a], weights=effect.weights[t == a]) for a in (0, 1)]
    np.testing.assert_allclose(shares[0], shares[1])


@pytest.mark.data
def test_deciles_of_what_if(data_dir: Path) -> None:
    """Hernán and Robins, "Causal Inference: What If", program 15.3: 3.5 (2.6, 4.4), by regression on decile indicators.

    The score is fitted, and the deciles are cut, on all 1,629; the regression's error is the classical one, and it
    weighs the deciles by precision. By their sizes the effect is 3.4154.
    """
    frame = pd.read_csv(data_dir / "nhefs" / "NHEFS.csv")
    squares = ["age", "smokeintensity", "smokeyrs", "wt71"]
    X = (
        frame[["sex", "race", *squares]]
        .assign(**{f"{c}2": frame[c] ** 2 for c in squares})
        .assign(**{c: frame[c].astype("category") for c in ("education", "exercise", "active")})
    )
    score = fit_propensity(X, treatment=frame["qsmk"]).score
    decile = score_strata(score, frame["qsmk"].to_numpy(), 10)
    np.testing.assert_array_equal(decile, pd.qcut(score, 10, labels=False))
    known = frame["wt82_71"].notna().to_numpy()
    t, y = frame["qsmk"].to_numpy()[known], frame["wt82_71"].to_numpy()[known]
    fit = sm.OLS(y, np.column_stack([t, pd.get_dummies(decile[known]).to_numpy(float)])).fit()
    assert (fit.params[0], *fit.conf_int()[0]) == pytest.approx((3.5005, 2.604, 4.397), abs=5e-4)
    effect = subclassification(y, treatment=t, strata=decile[known])
    assert effect.estimate == pytest.approx(by_hand(decile[known], t, y, "ate")[0])
    assert effect.estimate == pytest.approx(3.4154, abs=5e-5)


def test_strata_lie_between_quantiles_of_those_asked_for() -> None:
    rng = np.random.default_rng(1)
    score, t = rng.random(500), rng.integers(0, 2, 500)
    for estimand, asked in (("ate", t >= 0), ("att", t == 1), ("atc", t == 0)):
        cuts = np.quantile(score[asked], [0.25, 0.5, 0.75])
        np.testing.assert_array_equal(score_strata(score, t, 4, estimand=estimand), (score[:, None] > cuts).sum(axis=1))
    tied = np.repeat([0.1, 0.2, 0.9], [80, 10, 10])
    assert np.bincount(score_strata(tied, np.arange(100) % 2, 10)).tolist() == [80, 10, 10]
    copies = rng.integers(1, 5, 60)
    weighted = score_strata(score[:60], t[:60], 3, sample_weight=copies.astype(float))
    whole = np.repeat(score[:60], copies)
    cuts = np.quantile(whole, [1 / 3, 2 / 3], method="inverted_cdf")
    np.testing.assert_array_equal(weighted, (score[:60, None] > cuts).sum(axis=1))


def test_from_covariates_or_from_their_score() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(800, 2))
    t = (rng.random(800) < special.expit(X[:, 0])).astype(int)
    y = X @ [2.0, 1.0] + t
    fitted = fit_propensity(X, treatment=t)
    one, other = subclassification(y, X, treatment=t), subclassification(y, treatment=t, propensity=fitted)
    assert (one.estimate, one.std_error) == (other.estimate, other.std_error)
    assert "5 strata of the propensity (logistic regression" in one.method
    # Ever more strata leave ever less of the bias of 1.8 or so.
    bias = [abs(subclassification(y, X, treatment=t, n_strata=k).estimate - 1) for k in (1, 2, 5, 10)]
    assert bias[0] > 2 * bias[1] > 4 * bias[2] > 4 * bias[3]


def test_small_strata_are_named_or_merged() -> None:
    score = np.repeat([0.1, 0.2, 0.3, 0.4], 4)
    t = np.array([0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1])
    y = np.arange(16.0)
    with pytest.raises(OverlapError, match=r"stratum 1 of 4 \(scores 0.1 to 0.1\) has 1 unit of arm 1 against 3"):
        subclassification(y, treatment=t, propensity=score, n_strata=4)
    merged = subclassification(y, treatment=t, propensity=score, n_strata=4, small="merge")
    assert merged.estimate == pytest.approx(by_hand(np.repeat([0, 1], 8), t, y, "ate")[0])
    assert "2 strata" in merged.method
    np.testing.assert_array_equal(
        merge_small(np.repeat([0, 1, 2, 3], 4), t, np.ones(16, dtype=bool)), np.repeat([0, 0, 1, 1], [4, 4, 4, 4])
    )
    with pytest.raises(OverlapError, match=r"1 of 1 .* has 1 unit of arm 1"):
        subclassification(y[:4], treatment=t[:4], propensity=score[:4], small="merge")


def test_copies_are_sample_weights_and_clusters() -> None:
    stratum, t, y = blocked(3, 120)
    copies = np.random.default_rng(3).integers(1, 4, 120)
    rows = np.repeat(np.arange(120), copies)
    weighted = subclassification(y, treatment=t, strata=stratum, sample_weight=copies, clusters=np.arange(120))
    repeated = subclassification(y[rows], treatment=t[rows], strata=stratum[rows], clusters=rows)
    assert (weighted.estimate, weighted.std_error) == pytest.approx((repeated.estimate, repeated.std_error), rel=1e-12)


def test_order_units_and_names_change_nothing() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(300, 2)).round(1)
    t = (rng.random(300) < special.expit(X[:, 0])).astype(int)
    y = X[:, 0] + t + rng.normal(size=300)
    order = rng.permutation(300)
    plain = subclassification(y, X, treatment=t)
    shuffled = subclassification(y[order], X[order], treatment=t[order])
    moved = subclassification(5 - 2 * y, 3 * X + 1, treatment=np.where(t == 1, "b", "a"), control="a")
    assert (shuffled.estimate, shuffled.std_error) == pytest.approx((plain.estimate, plain.std_error), rel=1e-10)
    assert (moved.estimate, moved.std_error) == pytest.approx((-2 * plain.estimate, 2 * plain.std_error), rel=1e-8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimand": "ato"}, CausalRecError, "estimand is 'ato'"),
        ({"n_strata": 0}, CausalRecError, "n_strata is 0"),
        ({"small": "drop"}, CausalRecError, "small is 'drop'"),
        ({"X": np.ones((8, 1))}, CausalRecError, "found both"),
        ({"propensity": None}, CausalRecError, "found neither"),
        ({"strata": np.zeros(8)}, CausalRecError, "so is what they could be made of"),
        ({"propensity": None, "strata": np.zeros(8), "small": "merge"}, CausalRecError, "have neighbours"),
        ({"propensity": None, "strata": [None, *range(7)]}, CausalRecError, "1 of 8 values are missing"),
        ({"propensity": None, "strata": list("aaaaabbb")}, OverlapError, "stratum 'b' has 1 unit of arm 0 against 2"),
        ({"y": [np.nan] * 8}, OutcomeError, "8 of 8"),
        ({"treatment": [1] * 8}, TreatmentError, "needs two arms"),
    ],
)
def test_it_refuses(options, error, message) -> None:
    given = {"y": np.arange(8.0), "treatment": [0, 1] * 4, "propensity": np.full(8, 0.5), "n_strata": 1, **options}
    with pytest.raises(error, match=message):
        subclassification(**given)


def covered(estimand: str, n_runs: int, n: int, **options) -> int:
    """Strata that are the whole score: effects 1 + s with shares .4, .3, .2, .1 and scores .2, .4, .5, .7."""
    share, score = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.2, 0.4, 0.5, 0.7])
    h = share * {"ate": 1.0, "att": score, "atc": 1 - score}[estimand]
    goal = float(h @ np.arange(1, 5) / h.sum())
    hits = 0
    for seed in range(n_runs):
        stratum, t, y = blocked(3000 + seed, n)
        if options:
            rng = np.random.default_rng(seed)
            rows = np.repeat(np.arange(n), rng.integers(1, 4, n))
            stratum, t, y, options = stratum[rows], t[rows], (y + rng.normal(size=n))[rows], {"clusters": rows}
        effect = subclassification(y, treatment=t, strata=stratum, estimand=estimand, **options)
        hits += abs(effect.estimate - goal) <= effect.ci_high - effect.estimate
    return hits


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("options", [{}, {"clusters": True}])
def test_intervals_cover_where_the_strata_are_the_score(estimand, options) -> None:
    n_runs = 100
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    assert low <= covered(estimand, n_runs, 300, **options) <= high
