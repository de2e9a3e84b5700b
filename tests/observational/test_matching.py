"""Matching with replacement against R's printed output, a brute-force oracle and simulated truth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError, OverlapError, TreatmentError
from causalrec.observational import fit_propensity, match, matching_effect
from causalrec.results import MatchResult

ESTIMANDS = ("ate", "att", "atc")
MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]


@pytest.fixture
def lalonde(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")


@pytest.fixture
def nsw_dw(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "nsw_dw.csv")


# --- published ------------------------------------------------------------------------------------------------------

_FOUR = ["age", "education", "re74", "re75"]
_SAMPLE = {"errors": "homoskedastic", "variance": "sample"}


@pytest.mark.data
@pytest.mark.parametrize(
    "columns,design,effect,estimate,error,pairs",
    [
        (["age"], {}, _SAMPLE, 1.785191, 0.6867167, 5251),
        (_FOUR, {}, _SAMPLE, 1.714407, 0.7401292, 733),
        (_FOUR, {"ratio": 3}, _SAMPLE, 1.536303, 0.6619304, 1670),
        (_FOUR, {"estimand": "att"}, _SAMPLE, 1.726913, 0.8366296, 327),
        (_FOUR, {"estimand": "atc"}, _SAMPLE, 1.705509, 0.8200959, 406),
        (_FOUR, {"distance": "mahalanobis", "covariance": "overall"}, _SAMPLE, 1.592617, 0.6847298, 729),
        (_FOUR, {}, {**_SAMPLE, "X": _FOUR}, 1.630915, 0.7452336, 733),
        (_FOUR, {}, {**_SAMPLE, "X": ["married", "age"]}, 1.719687, 0.7436085, 733),
        (_FOUR, {}, {**_SAMPLE, "variance": "population"}, 1.714407, 0.7433846, 733),
        (_FOUR, {}, {"variance": "sample", "neighbours": 3}, 1.714407, 0.6962724, 733),
    ],
)
def test_matching_reproduces_the_r_package_matching(
    nsw_dw: pd.DataFrame, columns, design, effect, estimate, error, pairs
) -> None:
    """R package Matching, tests/AbadieImbens.Rout.save, the table of results at its end (a replication of Imbens').

    Rows 1-10, 13 and 14 but those with weights; the last column here is its "matched number, unweighted". Its copy of
    the data has earnings rounded to six digits, hence the tolerance.
    """
    t, y = nsw_dw["treat"].to_numpy(), nsw_dw["re78"].to_numpy() / 1000
    found = match(nsw_dw[columns], treatment=t, **{"distance": "scaled_euclidean", "estimand": "ate", **design})
    assert int(found.sizes.sum()) == pairs
    covariates = nsw_dw[effect["X"]] if "X" in effect else None
    result = matching_effect(y, found, treatment=t, **{**effect, "X": covariates})
    assert result.estimate == pytest.approx(estimate, abs=3.5e-6)
    assert result.std_error == pytest.approx(error, abs=5e-7)


@pytest.mark.data
def test_exact_matching_reproduces_the_r_package_matching(nsw_dw: pd.DataFrame) -> None:
    """Row 11 of the same table: exact on all four, 169 units matched in 378 pairs.

    Its error is not ours: it keeps the 276 units that exact matching dropped in the sums.
    """
    t, y = nsw_dw["treat"].to_numpy(), nsw_dw["re78"].to_numpy() / 1000
    found = match(nsw_dw[_FOUR], treatment=t, distance="scaled_euclidean", estimand="ate", exact=_FOUR)
    assert (found.n_matched, int(found.sizes.sum()), found.n_unmatched) == (169, 378, 276)
    result = matching_effect(y, found, treatment=t)
    assert (result.estimate, result.n_dropped) == (pytest.approx(1.369289, abs=3.5e-6), 276)


# --- brute force ----------------------------------------------------------------------------------------------------


class Oracle(NamedTuple):
    sets: dict[int, list[int]]
    estimate: float
    homoskedastic: tuple[float, float]  # sample, population
    heteroskedastic: tuple[float, float]


def brute_force(distance, allowed, t, y, strata, estimand, k, caliper, neighbours) -> Oracle:
    """By the definitions, a pair at a time: Abadie and Imbens 2006, with |J| in place of M."""
    n = len(t)
    units = [i for i in range(n) if {"ate": True, "att": t[i] == 1, "atc": t[i] == 0}[estimand]]
    sets: dict[int, list[int]] = {}
    for i in units:
        others = sorted(distance[i, j] for j in range(n) if t[j] != t[i] and allowed[i, j])
        if others:
            reach = min(others[min(k, len(others)) - 1], caliper) + 1e-9
            members = [j for j in range(n) if t[j] != t[i] and allowed[i, j] and distance[i, j] <= reach]
            if members:
                sets[i] = members
    if not sets:
        return Oracle(sets, *[np.nan] * 3)
    K, K2 = np.zeros(n), np.zeros(n)
    contrast, pairs = {}, []
    for i, members in sets.items():
        sign = 1 if t[i] else -1
        contrast[i] = sign * (y[i] - np.mean(y[members]))
        for j in members:
            K[j] += 1 / len(members)
            K2[j] += 1 / len(members) ** 2
            pairs.append((1 / len(members), sign * (y[i] - y[j])))
    N = len(sets)
    tau = sum(contrast.values()) / N
    m = np.array([float(i in sets) for i in range(n)])
    spread = sum((c - tau) ** 2 for c in contrast.values())
    sigma2 = np.full(n, sum(share * (c - tau) ** 2 for share, c in pairs) / N / 2)
    local = np.zeros(n)
    for i in range(n):
        own = [j for j in range(n) if j != i and t[j] == t[i]]
        near = [j for j in own if strata[j] == strata[i]] or own
        if near:
            reach = sorted(distance[i, j] for j in near)[min(neighbours, len(near)) - 1] + 1e-9
            local[i] = np.var([y[i], *(y[j] for j in near if distance[i, j] <= reach)], ddof=1)
        elif m[i] or K[i]:
            local[i] = np.nan

    def errors(v):
        sample = np.sqrt(np.sum((m + K) ** 2 * np.where(m + K > 0, v, 0))) / N
        rest = (2 * m * K + K**2 - K2) * v
        return sample, np.sqrt(max(spread + np.sum(np.where(K > 0, rest, 0)), 0)) / N

    return Oracle(sets, tau, errors(sigma2), errors(local))


@st.composite
def designs(draw):
    n = draw(st.integers(4, 22))
    levels = draw(st.integers(1, 8))
    columns = draw(st.integers(1, 2))
    X = draw(st.lists(st.lists(st.integers(0, levels), min_size=columns, max_size=columns), min_size=n, max_size=n))
    y = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    t = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda t: 0 < sum(t) < len(t)))
    strata = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)) if draw(st.booleans()) else [0] * n
    options = {
        "estimand": draw(st.sampled_from(ESTIMANDS)),
        "ratio": draw(st.integers(1, min(4, sum(t), n - sum(t)))),
        "caliper": draw(st.sampled_from([None, 0.7, 1.5])),
    }
    return np.array(X, float), np.array(t), np.array(y, float), np.array(strata), options


def check_against(oracle: Oracle, found: MatchResult, t, y, neighbours: int) -> None:
    sets = {int(u): sorted(found.pool[a:b]) for u, a, b in zip(found.unit, found.start, found.stop, strict=True)}
    assert sets == oracle.sets
    for errors in ("homoskedastic", "heteroskedastic"):
        for place, variance in enumerate(("sample", "population")):
            effect = matching_effect(
                y, found, treatment=t, errors=errors, variance=variance, neighbours=neighbours, score_known=True
            )
            assert effect.estimate == pytest.approx(oracle.estimate, abs=1e-10)
            variances = effect.std_error**2, getattr(oracle, errors)[place] ** 2
            assert variances[0] == pytest.approx(variances[1], abs=1e-12, nan_ok=True)
    w = np.zeros(len(t))
    for i, members in oracle.sets.items():
        w[i] += 1
        w[members] += 1 / len(members)
    np.testing.assert_allclose(found.weights, w, atol=1e-12)
    assert ((found.weights > 0) == (w > 0)).all()


@settings(deadline=None, max_examples=35)
@given(design=designs(), neighbours=st.integers(1, 3))
def test_matching_on_a_score_equals_brute_force(design, neighbours) -> None:
    X, t, y, strata, options = design
    score = (X[:, 0] + 1) / 10
    caliper = options["caliper"] and options["caliper"] / 10
    distance = np.abs(score[:, None] - score)
    same = strata[:, None] == strata
    oracle = brute_force(
        distance, same, t, y, strata, options["estimand"], options["ratio"], caliper or np.inf, neighbours
    )
    arguments = {**options, "caliper": caliper, "caliper_scale": "raw", "exact": strata if strata.any() else None}
    if not oracle.sets:
        with pytest.raises(OverlapError, match="has a match"):
            match(propensity=score, treatment=t, **arguments)
        return
    check_against(oracle, match(propensity=score, treatment=t, **arguments), t, y, neighbours)


@settings(deadline=None, max_examples=25)
@given(design=designs(), neighbours=st.integers(1, 3), gated=st.booleans(), rng=st.integers(0, 5))
def test_matching_on_covariates_equals_brute_force(design, neighbours, gated, rng) -> None:
    """Mahalanobis from the inverse of the pooled covariance, and within a caliper on the logit of a score."""
    X, t, y, strata, options = design
    n_arms = np.bincount(t, minlength=2)
    X = np.column_stack([X, np.random.default_rng(rng).integers(0, 3, len(t))])
    if n_arms.min() < 2:
        return
    S = sum(np.cov(X[t == arm].T, ddof=0) * n_arms[arm] for arm in (0, 1)) / (len(t) - 2)
    if np.linalg.matrix_rank(S) < S.shape[0]:
        return
    gap = X[:, None] - X
    distance = np.sqrt(np.maximum(np.einsum("ijk,kl,ijl->ij", gap, np.linalg.inv(S), gap), 0))
    logit = np.random.default_rng(rng).normal(size=len(t)).round(1)
    allowed = strata[:, None] == strata
    width = options["caliper"]
    if gated and width:
        allowed = allowed & (np.abs(logit[:, None] - logit) <= width + 1e-9)
    oracle = brute_force(
        distance, allowed, t, y, strata, options["estimand"], options["ratio"],
        np.inf if gated or not width else width, neighbours,
    )  # fmt: skip
    arguments = {**options, "caliper_scale": "raw", "exact": strata if strata.any() else None}
    if gated and width:
        arguments["propensity"] = 1 / (1 + np.exp(-logit))
    elif gated:
        arguments["caliper"] = None
    if not oracle.sets:
        with pytest.raises(OverlapError):
            match(X, treatment=t, distance="mahalanobis", **arguments)
        return
    check_against(oracle, match(X, treatment=t, distance="mahalanobis", **arguments), t, y, neighbours)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_many_units_in_space_equal_brute_force(gated: bool, exact: bool) -> None:
    """Enough units that the search widens, and that narrow gates are gone through one by one."""
    rng = np.random.default_rng(8)
    n = 500
    X = np.column_stack([rng.normal(size=n), rng.integers(0, 4, n), rng.normal(size=n).round(1)])
    t, logit, strata = (rng.random(n) < 0.4).astype(int), rng.normal(size=n), rng.integers(0, 40, n)
    found = match(
        X, treatment=t, distance="mahalanobis", estimand="ate", ratio=2, exact=strata if exact else None,
        **({"propensity": 1 / (1 + np.exp(-logit)), "caliper": 0.05, "caliper_scale": "raw"} if gated else {}),
    )  # fmt: skip
    S = sum(np.cov(X[t == arm].T, ddof=0) * (t == arm).sum() for arm in (0, 1)) / (n - 2)
    gap = X[:, None] - X
    distance = np.sqrt(np.maximum(np.einsum("ijk,kl,ijl->ij", gap, np.linalg.inv(S), gap), 0))
    allowed = t[:, None] != t
    if gated:
        allowed &= np.abs(logit[:, None] - logit) <= 0.05 + 1e-12
    if exact:
        allowed &= strata[:, None] == strata
    distance[~allowed] = np.inf
    reach = np.sort(distance, axis=1)[:, 1]
    last = np.where(np.isfinite(distance), distance, -np.inf).max(axis=1)
    expected = allowed & (distance <= np.where(np.isfinite(reach), reach, last)[:, None] + 1e-9)
    ours = np.zeros((n, n), dtype=bool)
    pairs = found.pairs()
    ours[pairs["unit"], pairs["match"]] = True
    np.testing.assert_array_equal(ours, expected)
    assert found.n_unmatched == int((~expected.any(axis=1)).sum())


# --- what must not matter -------------------------------------------------------------------------------------------


def simple(seed: int = 0, n: int = 120):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.normal(size=n), rng.integers(0, 3, n), rng.normal(size=n)])
    t = (rng.random(n) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    return X, t, X.sum(axis=1) + t + rng.normal(size=n), rng.integers(0, 30, n)


WAYS = [
    ({"distance": "propensity", "ratio": 2}, {}),
    ({"distance": "logit", "caliper": 0.2}, {}),
    ({"distance": "logit"}, {"clusters": True, "X": True}),
    ({"distance": "mahalanobis", "caliper": 0.5, "propensity": True}, {}),
    ({"distance": "mahalanobis"}, {"X": True, "clusters": True}),
    ({"distance": "scaled_euclidean", "exact": True}, {"X": True, "variance": "sample"}),
]


def estimated(X, t, y, users, design, effect, estimand="ate"):
    design = dict(design)
    if "propensity" in design:
        design["propensity"] = fit_propensity(X, treatment=t)
    if "exact" in design:
        design["exact"] = X[:, 1]
    found = match(X, treatment=t, estimand=estimand, **design)
    given_ = {"X": X} if "X" in effect else {}
    if "clusters" in effect:
        given_["clusters"] = users
    rest = {k: v for k, v in effect.items() if k not in ("X", "clusters")}
    result = matching_effect(y, found, treatment=t, **given_, **rest)
    return np.array([result.estimate, result.std_error, found.n_matched, result.ess_control])


@pytest.mark.parametrize("design,effect", WAYS)
def test_order_of_rows_units_and_outcome_scale_do_not_matter(design, effect) -> None:
    X, t, y, users = simple()
    plain = estimated(X, t, y, users, design, effect)
    order = np.random.default_rng(1).permutation(len(t))
    np.testing.assert_allclose(estimated(X[order], t[order], y[order], users[order], design, effect), plain, rtol=1e-8)
    other_units = X * [1000.0, 1.0, -0.01] + [5.0, 0.0, 3.0]
    np.testing.assert_allclose(estimated(other_units, t, y, users, design, effect), plain, rtol=1e-7)
    moved = estimated(X, t, 7 - 3 * y, users, design, effect)
    np.testing.assert_allclose(moved, plain * [-3, 3, 1, 1], rtol=1e-8)


@pytest.mark.parametrize("design,effect", WAYS)
def test_exchanging_the_arms_changes_the_sign(design, effect) -> None:
    X, t, y, users = simple(3)
    for estimand, other in (("ate", "ate"), ("att", "atc"), ("atc", "att")):
        one = estimated(X, t, y, users, design, effect, estimand)
        two = estimated(X, 1 - t, y, users, design, effect, other)
        np.testing.assert_allclose(two[:3], one[:3] * [-1, 1, 1], rtol=1e-8)


@pytest.mark.data
def test_row_order_does_not_matter_with_an_estimated_score(lalonde: pd.DataFrame) -> None:
    """Discrete covariates: many units share a score, and refitting on shuffled rows must leave them tied."""
    estimates = []
    for seed in range(5):
        rows = lalonde.sample(frac=1, random_state=seed)
        t = rows["treat"].to_numpy()
        found = match(rows[["educ", "race", "married"]], treatment=t, estimand="ate")
        estimates.append(matching_effect(rows["re78"], found, treatment=t).estimate)
    assert estimates == pytest.approx([estimates[0]] * 5, rel=1e-12)


def test_equally_near_values_in_decimals_are_tied() -> None:
    """0.2 - 0.1 and 0.3 - 0.2 differ in the last digit only; a change of units must not untie them."""
    for x in ([0.1, 0.3, 0.2], [1.0, 3.0, 2.0], [1000.1, 1000.3, 1000.2]):
        found = match(np.array(x)[:, None], treatment=[0, 0, 1], distance="scaled_euclidean")
        assert found.sizes.tolist() == [2]


def test_collinear_covariates_and_redundant_levels_change_nothing() -> None:
    X, t, y, _ = simple()
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(
        plan=pd.Categorical(np.array(["x", "y", "z"])[X[:, 1].astype(int)])
    )
    one = match(frame[["a", "c", "plan"]], treatment=t, distance="mahalanobis")
    two = match(
        frame.assign(d=frame["a"] - 2 * frame["c"])[["a", "c", "d", "plan"]], treatment=t, distance="mahalanobis"
    )
    three = match(pd.get_dummies(frame[["a", "c", "plan"]], dtype=float), treatment=t, distance="mahalanobis")
    for other in (two, three):
        pd.testing.assert_frame_equal(one.pairs(), other.pairs())
    assert len(y) == len(one.weights)


def test_labels_and_frames_are_taken_and_left_alone() -> None:
    X, t, y, _ = simple()
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=np.arange(len(t)) + 50)
    before = frame.copy(deep=True)
    named = np.where(t == 1, "mail", "none")
    found = match(frame, treatment=named, control="none", exact="b")
    effect = matching_effect(pd.Series(y, index=frame.index), found, treatment=named, control="none", X=frame)
    plain = match(X, treatment=t, exact=X[:, 1])
    np.testing.assert_array_equal(found.weights, plain.weights)
    assert effect.estimate == pytest.approx(matching_effect(y, plain, treatment=t, X=X).estimate)
    assert "bias-adjusted" in effect.method
    assert "score's estimation counted" in effect.method
    pd.testing.assert_frame_equal(frame, before)


def test_a_mahalanobis_caliper_is_kept() -> None:
    """MatchIt issue 236: within a caliper on the score, no pair may be wider, and some units go without."""
    X, t, _, _ = simple(5, 300)
    score = fit_propensity(X, treatment=t)
    found = match(X, treatment=t, distance="mahalanobis", propensity=score, caliper=0.05)
    logit = np.log(score.score / (1 - score.score))
    pairs = found.pairs()
    widest = np.abs(logit[pairs["unit"]] - logit[pairs["match"]]).max()
    assert widest <= 0.05 * logit.std(ddof=1) * (1 + 1e-12) == pytest.approx(found.caliper)
    assert 0 < found.n_unmatched < (t == 1).sum()
    effect = matching_effect(np.arange(300.0), found, treatment=t)
    assert "caliper 0.0" in effect.method
    assert "on the logit of the score" in effect.method
    assert "score's" not in effect.method


def test_bias_adjustment_is_exact_where_outcomes_are_linear() -> None:
    """No noise, linear outcomes: the adjusted estimate is the effect itself, whatever the matches are."""
    X, t, _, _ = simple()
    y = X @ [1.0, -2.0, 0.5] + 3.0 * t
    for design in ({"distance": "mahalanobis"}, {"distance": "propensity", "ratio": 3}):
        for estimand in ESTIMANDS:
            found = match(X, treatment=t, estimand=estimand, **design)
            assert abs(matching_effect(y, found, treatment=t).estimate - 3) > 1e-3
            assert matching_effect(y, found, treatment=t, X=X).estimate == pytest.approx(3, abs=1e-10)


def test_ties_of_many_units_cost_nothing() -> None:
    """A score of two values for 200,000 rows: sets of 100,000, no pair is written out."""
    n = 200_000
    score, t = np.tile([0.3, 0.3, 0.6, 0.6], n // 4), np.tile([0, 1], n // 2)
    y = np.where(score > 0.5, 2.0, 1.0) + t
    found = match(propensity=score, treatment=t, estimand="ate")
    assert int(found.sizes.sum()) == n * n // 4
    assert matching_effect(y, found, treatment=t).estimate == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(CausalRecError, match="pairs, since many units are equally near"):
        found.pairs()
    space = match(np.column_stack([score, score**2, t * 0 + (score > 0.5)]), treatment=t, distance="mahalanobis")
    assert int(space.sizes.max()) == n // 4


# --- intervals ------------------------------------------------------------------------------------------------------


def confounded(rng: np.random.Generator, n: int, spread: float):
    """Two covariates, true propensity, treatment, outcome and effects 1 + spread · (x₀ + x₁ / 2).

    The outcome is confounded through the propensity; a part of it runs across the propensity: what a score that is
    estimated balances by chance. Its noise grows with x₀ where effects vary.
    """
    X = rng.normal(size=(n, 2))
    logit = 0.8 * X[:, 0] - 0.5 * X[:, 1] - 0.3
    propensity = 1 / (1 + np.exp(-logit))
    t = (rng.random(n) < propensity).astype(np.int64)
    effects = 1 + spread * (X[:, 0] + 0.5 * X[:, 1])
    noise = rng.normal(size=n) * (1 + 0.5 * spread * np.abs(X[:, 0]))
    return X, propensity, t, logit + effects * t + X @ [1.0, 1.6] + noise, effects


def truth(estimand: str, spread: float) -> float:
    """By Gauss–Hermite quadrature over both covariates."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    a, b = np.meshgrid(nodes, nodes)
    w = np.outer(weights, weights)
    e = 1 / (1 + np.exp(-(0.8 * a - 0.5 * b - 0.3)))
    w = w * {"ate": np.ones_like(e), "att": e, "atc": 1 - e}[estimand]
    return float((w * (1 + spread * (a + 0.5 * b))).sum() / w.sum())


def covered(n_runs: int, one, target: float) -> tuple[int, float]:
    """How many 95% intervals hold the target, and the mean error over the deviation of the estimates."""
    found = np.array([[e.estimate, e.std_error] for e in map(one, range(n_runs))])
    hits = np.abs(found[:, 0] - target) <= 1.959964 * found[:, 1]
    return int(hits.sum()), float(found[:, 1].mean() / found[:, 0].std(ddof=1))


def within(hits: int, n_runs: int, level: float = 0.95) -> bool:
    low, high = stats.binom.interval(0.999, n_runs, level)
    return bool(low <= hits <= high)


SCORES = [
    ("known", {}, {}),
    ("estimated", {}, {}),
    ("estimated", {"ratio": 3, "distance": "logit"}, {}),
    ("estimated", {}, {"X": True}),
    ("none", {"distance": "mahalanobis"}, {"X": True}),
]


def matched_effect(seed: int, n: int, estimand: str, spread: float, way):
    kind, design, effect = way
    X, e, t, y, _ = confounded(np.random.default_rng([seed, n]), n, spread)
    score = {"known": e, "estimated": None, "none": None}[kind]
    found = match(X, treatment=t, propensity=score, estimand=estimand, **design)
    return matching_effect(y, found, treatment=t, X=X if "X" in effect else None)


@pytest.mark.parametrize("way", SCORES[:2])
def test_intervals_cover_in_a_small_simulation(way) -> None:
    n_runs = 100
    hits, _ = covered(n_runs, lambda seed: matched_effect(seed, 400, "att", 1.0, way), truth("att", 1.0))
    assert within(hits, n_runs)


@pytest.mark.slow
@pytest.mark.parametrize("way", SCORES)
@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_intervals_cover(estimand: str, spread: float, way) -> None:
    """1,500 units a run; an error that takes the estimated score as known would cover 98 to 99%."""
    n_runs = 600
    hits, ratio = covered(
        n_runs, lambda seed: matched_effect(seed, 1500, estimand, spread, way), truth(estimand, spread)
    )
    assert within(hits, n_runs)
    assert 0.9 < ratio < 1.1


@pytest.mark.slow
def test_an_estimated_score_that_is_taken_as_known_gives_errors_that_are_too_large() -> None:
    """As Abadie and Imbens 2016 prove for the ate: what the adjustment is for."""

    def one(seed: int):
        X, _, t, y, _ = confounded(np.random.default_rng(seed), 800, 0.0)
        return matching_effect(y, match(X, treatment=t, estimand="ate"), treatment=t, score_known=True)

    hits, ratio = covered(300, one, 1.0)
    assert ratio > 1.2
    assert hits / 300 > 0.97


def user_rows(rng: np.random.Generator, n_users: int, *, by_user: bool):
    """Users with one to five rows, an outcome with a part of the user's own; treated by row or as a whole."""
    rows = rng.integers(1, 6, n_users)
    user = np.repeat(np.arange(n_users), rows)
    X = rng.normal(size=(n_users, 2))[user]
    if not by_user:
        X = (X + rng.normal(size=X.shape)) / np.sqrt(2)
    logit = 0.8 * X[:, 0] - 0.5 * X[:, 1] - 0.3
    draw = rng.random(n_users)[user] if by_user else rng.random(len(user))
    t = (draw < 1 / (1 + np.exp(-logit))).astype(np.int64)
    y = logit + t + X @ [0.5, 0.8] + 1.2 * rng.normal(size=n_users)[user] + rng.normal(size=len(user))
    return X, 1 / (1 + np.exp(-logit)), t, y, user


@pytest.mark.slow
@pytest.mark.parametrize("estimand", ["ate", "att"])
@pytest.mark.parametrize("by_user", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_clustered_intervals_cover(estimand: str, by_user: bool, known: bool) -> None:
    """With all rows of a user in one arm, errors by row cover some 80%."""

    def one(seed: int, clustered: bool = True):
        X, e, t, y, user = user_rows(np.random.default_rng(seed), 400, by_user=by_user)
        found = match(X, treatment=t, propensity=e if known else None, estimand=estimand)
        return matching_effect(y, found, treatment=t, clusters=user if clustered else None)

    n_runs = 500
    hits, ratio = covered(n_runs, one, 1.0)
    assert within(hits, n_runs)
    assert 0.92 < ratio < 1.12
    if by_user:
        assert covered(100, lambda seed: one(seed, False), 1.0)[1] < 0.8


def test_many_units_equal_a_plain_search() -> None:
    """Enough rows for several threads: nearest by searchsorted, the error from differences of neighbours in order."""
    rng = np.random.default_rng(4)
    n = 500_000
    score, t = rng.random(n), rng.integers(0, 2, n)
    y = score + t + rng.normal(size=n)
    order = [np.flatnonzero(t == arm)[np.argsort(score[t == arm])] for arm in (0, 1)]
    controls, treated = (score[rows] for rows in order)
    right = np.clip(np.searchsorted(controls, treated), 1, len(controls) - 1)
    best = right - (treated - controls[right - 1] <= controls[right] - treated)
    found = match(propensity=score, treatment=t, caliper=1e-6, caliper_scale="raw")
    kept = np.abs(treated - controls[best]) <= 1e-6
    assert found.n_matched == kept.sum() < len(treated)
    contrast = (y[order[1]] - y[order[0][best]])[kept]
    effect = matching_effect(y, found, treatment=t, variance="sample", neighbours=1)
    assert effect.estimate == pytest.approx(contrast.mean(), abs=1e-12)
    total = 0.0
    for rows, w in zip(order, (np.bincount(best[kept], minlength=len(controls)), kept), strict=True):
        gap = np.concatenate([[np.inf], np.diff(score[rows]), [np.inf]])
        other = np.arange(len(rows)) + np.where(gap[:-1] < gap[1:], -1, 1)
        total += float(((y[rows] - y[rows[other]]) ** 2 / 2 * w**2).sum())
    assert effect.std_error == pytest.approx(np.sqrt(total) / kept.sum(), rel=1e-9)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,error,message",
    [
        ({"estimand": "atx"}, CausalRecError, "estimand is 'atx'.*Did you mean"),
        ({"distance": "mahalanobi"}, CausalRecError, "distance is 'mahalanobi'.*Did you mean 'mahalanobis'"),
        ({"method": "best"}, CausalRecError, "method is 'best'; expected one of 'nearest'"),
        ({"covariance": "none"}, CausalRecError, "covariance is 'none'"),
        ({"caliper_scale": "iqr"}, CausalRecError, "caliper_scale is 'iqr'"),
        ({"ratio": 0}, CausalRecError, "ratio is 0; expected a whole number"),
        ({"ratio": 1.5}, CausalRecError, "ratio is 1.5"),
        ({"ratio": 3}, CausalRecError, "ratio is 3 but the control arm has 2 units"),
        ({"replace": "no"}, CausalRecError, "replace is 'no'; expected True or False"),
        ({"order": "x"}, CausalRecError, "order is 'x'"),
        ({"ties": "x"}, CausalRecError, "ties is 'x'"),
        ({"caliper": -1}, CausalRecError, "caliper is -1"),
        ({"caliper": "wide"}, CausalRecError, "caliper is 'wide'"),
        ({"treatment": np.ones(4, dtype=int)}, TreatmentError, "found only 1 in 4 rows"),
        ({"treatment": np.zeros(4, dtype=int)}, TreatmentError, "found only 0 in 4 rows"),
        ({"treatment": [1, 2, 1, 2]}, TreatmentError, "expected 0/1, or labels together with control="),
        ({"treatment": [0, 1, 2, 1], "control": 0}, TreatmentError, "arms"),
        ({"treatment": [0, 1, np.nan, 1]}, TreatmentError, "missing"),
        ({"propensity": [0.1, 0.2, 0.3, 1.5]}, OverlapError, "not strictly between 0 and 1"),
        ({"propensity": [0.1, np.nan, 0.3, 0.5]}, CausalRecError, "1 of 4"),
        ({"propensity": [0.1, 0.3, 0.5]}, CausalRecError, "3 values but there are 4 rows"),
        ({"propensity": None}, CausalRecError, "there are no covariates; pass X, or propensity="),
        ({"distance": "mahalanobis"}, CausalRecError, "there are no covariates; pass X."),
        ({"distance": "mahalanobis", "X": np.ones((4, 2))}, ColumnError, "no covariate of X varies"),
        ({"distance": "mahalanobis", "X": np.full((4, 2), np.nan)}, ColumnError, "missing or infinite"),
        ({"distance": "mahalanobis", "X": np.eye(3)}, CausalRecError, "X has 3 values"),
        (
            {"distance": "mahalanobis", "X": np.eye(4), "propensity": None, "caliper": 0.2},
            CausalRecError,
            "Pass propensity= to bound",
        ),
        ({"exact": ["plan"]}, CausalRecError, "exact names the columns 'plan' but X is no frame"),
        ({"exact": ["plan"], "X": pd.DataFrame({"plans": [1, 2, 3, 4]})}, ColumnError, "missing column 'plan'"),
        ({"exact": [1.0, np.nan, 1.0, 1.0]}, ColumnError, "exact: 1 of 4 rows have missing values"),
        ({"exact": [1, 1, 1]}, CausalRecError, "exact has 3 values"),
        ({"exact": [1, 2, 3, 4]}, OverlapError, "none of the 2 units has a match.*agree exactly"),
        ({"caliper": 1e-6, "caliper_scale": "raw"}, OverlapError, "none of the 2 units has a match within 1e-06"),
    ],
)
def test_match_refuses(change, error, message) -> None:
    given_ = {"propensity": [0.2, 0.3, 0.4, 0.6], "treatment": [0, 1, 0, 1], **change}
    with pytest.raises(error, match=message):
        match(**given_)


@pytest.mark.parametrize(
    "change,error,message",
    [
        ({"y": [1.0, np.nan, 2.0, 3.0]}, OutcomeError, "y: 1 of 4 values are missing"),
        ({"y": [1.0, 2.0, 3.0]}, CausalRecError, "y has 3 values but there are 4 rows"),
        ({"y": list("abcd")}, OutcomeError, "not a number"),
        ({"treatment": [1, 0, 1, 0]}, CausalRecError, "treatment is not the one that was matched"),
        ({"errors": "robust"}, CausalRecError, "errors is 'robust'"),
        ({"variance": "all"}, CausalRecError, "variance is 'all'"),
        ({"neighbours": 0}, CausalRecError, "neighbours is 0"),
        ({"clusters": [1, 1, 2, 2], "errors": "homoskedastic"}, CausalRecError, "independent, and clusters are given"),
        ({"clusters": [1, 1, 1, 1]}, CausalRecError, "clusters holds the one value"),
        ({"sample_weight": np.ones(4)}, CausalRecError, "takes no sample_weight.*weighting_effect"),
        ({"confidence_level": 95}, CausalRecError, "confidence_level is 95"),
        ({"X": np.eye(4)}, OverlapError, "2 units serve as matches and the bias adjustment has"),
        ({"X": np.eye(3)}, CausalRecError, "X has 3 values"),
    ],
)
def test_matching_effect_refuses(change, error, message) -> None:
    found = match(propensity=[0.2, 0.3, 0.4, 0.6], treatment=[0, 1, 0, 1])
    with pytest.raises(error, match=message):
        matching_effect(**{"y": [1.0, 2.0, 3.0, 5.0], "match": found, "treatment": [0, 1, 0, 1], **change})


def test_errors_of_matching_with_replacement_are_refused_without_it() -> None:
    X, t, y, _ = simple()
    found = match(X, treatment=t, replace=False, caliper=0.5)
    assert matching_effect(y, found, treatment=t).std_error > 0
    with pytest.raises(CausalRecError, match="are of matching with replacement"):
        matching_effect(y, found, treatment=t, errors="homoskedastic")


def test_an_arm_of_one_unit_has_no_error() -> None:
    """Nothing shows the variance of its outcome."""
    found = match(propensity=[0.2, 0.3, 0.4, 0.6], treatment=[0, 1, 1, 1])
    effect = matching_effect([1.0, 2.0, 3.0, 5.0], found, treatment=[0, 1, 1, 1])
    assert effect.estimate == pytest.approx(7 / 3)
    assert np.isnan(effect.std_error)
