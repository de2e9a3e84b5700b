"""Matching without replacement against brute force, MatchIt's printed results, statsmodels and simulation."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.exceptions import CausalRecError
from causalrec.observational import fit_propensity
from causalrec.observational._errors import sandwich_error
from causalrec.observational._greedy import greedy_match, tie_classes
from causalrec.observational._greedy_space import greedy_space
from causalrec.observational._optimal import optimal_line, optimal_space
from causalrec.observational._sets import MatchedSets
from causalrec.observational.balance import balance_table
from causalrec.observational.matching import match, matching_effect

MATCHIT = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]
ORDERS = ("descending", "ascending", "data", "closest")


@pytest.fixture
def lalonde(data_dir: Path) -> pd.DataFrame:
    return pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")


@st.composite
def designs(draw: st.DrawFn, most: int = 30) -> dict:
    """Few distinct scores, so that there are ties in either arm and at either side; strata that one arm may lack."""
    seed, n = draw(st.integers(0, 2**32 - 1)), draw(st.integers(2, most))
    rng = np.random.default_rng(seed)
    treatment = (rng.random(n) < draw(st.sampled_from([0.2, 0.5, 0.8]))).astype(np.int64)
    treatment[:2] = 0, 1
    return {
        "score": rng.integers(0, draw(st.sampled_from([3, 12, 80])), n) / 8, "treatment": treatment,
        "strata": rng.integers(0, 3, n) if draw(st.booleans()) else None, "arm": draw(st.integers(0, 1)),
        "ratio": draw(st.integers(1, 3)), "caliper": draw(st.sampled_from([np.inf, 0.5, 0.0])),
    }  # fmt: skip


def allowed(distance: np.ndarray, design: dict) -> np.ndarray:
    """Which pairs of units may be matched."""
    t, strata = design["treatment"], design["strata"]
    ok = (distance <= design["caliper"]) & (t[:, None] == design["arm"]) & (t != design["arm"])
    return ok if strata is None else ok & (strata[:, None] == strata)


def brute_force(design: dict, order: str, distance: np.ndarray, rank: np.ndarray) -> dict[int, list[int]]:
    """Everyone in turn looks at everybody; of equally near ones the least ``rank``, then the first row."""
    ok = allowed(distance, design)
    own, n = np.flatnonzero(design["treatment"] == design["arm"]), len(rank)
    turn = {
        "descending": sorted(own, key=lambda i: -rank[i]), "ascending": sorted(own, key=lambda i: rank[i]),
        "data": list(own), "closest": sorted(own, key=lambda i: -rank[i]),
    }[order]  # fmt: skip
    free, found = np.ones(n, dtype=bool), {}

    def best(i: int) -> tuple:
        return min(((distance[i, j], rank[j], j) for j in np.flatnonzero(ok[i] & free)), default=(np.inf, 0, -1))

    for _ in range(design["ratio"]):
        waiting, turn = list(turn), []
        while waiting:
            i = min(waiting, key=lambda i: best(i)[0]) if order == "closest" else waiting[0]
            waiting.remove(i)
            j = best(i)[2]
            if j >= 0:
                free[j] = False
                found.setdefault(int(i), []).append(int(j))
                turn.append(i)
        if order == "closest":
            turn.sort(key=lambda i: -rank[i])
    return {i: sorted(partners) for i, partners in found.items()}


def as_dict(sets: MatchedSets) -> dict[int, list[int]]:
    rows = zip(sets.unit.tolist(), sets.start, sets.stop, strict=True)
    return {i: sorted(sets.pool[a:b].tolist()) for i, a, b in rows}


def flows(found: dict[int, list[int]], code: np.ndarray) -> list[tuple[int, int]]:
    """How many of each kind were matched with which, whoever they were."""
    return sorted((int(code[i]), int(code[j])) for i, partners in found.items() for j in partners)


def check_sets(sets: MatchedSets, distance: np.ndarray, design: dict) -> None:
    """Nobody serves twice, all pairs are allowed, distances are those of the farthest."""
    assert len(np.unique(sets.pool)) == len(sets.pool)
    found = as_dict(sets)
    ok = allowed(distance, design)
    assert all(ok[i, j] for i, partners in found.items() for j in partners)
    assert all(len(partners) <= design["ratio"] for partners in found.values())
    farthest = [distance[i, found[i]].max() for i in sets.unit.tolist()]
    np.testing.assert_allclose(sets.distances, farthest, atol=1e-12)


# --- greedy ----------------------------------------------------------------------------------------------------------


def two_way_error(influence: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Cameron, Gelbach and Miller 2011, equation 2.10: V(first) + V(second) - V(both at once)."""
    both = np.unique(np.column_stack([first, second]), axis=0, return_inverse=True)[1].ravel()
    one, two, cross = (sandwich_error(influence, groups) for groups in (first, second, both))
    return float(np.sqrt(one**2 + two**2 - cross**2))


@settings(deadline=None, max_examples=80)
@given(design=designs(), order=st.sampled_from(ORDERS))
def test_greedy_on_a_score_equals_brute_force(design, order) -> None:
    score = design["score"]
    distance = np.abs(score[:, None] - score)
    sets = greedy_match(**design, order=order)
    check_sets(sets, distance, design)
    expected = brute_force(design, order, distance, score)
    if order == "closest":  # among identical units the one whose turn it is may be another
        code = np.unique(score, return_inverse=True)[1]
        if design["strata"] is not None:
            code = 3 * code + design["strata"]
        assert flows(as_dict(sets), code) == flows(expected, code)
    else:
        assert as_dict(sets) == expected


@settings(deadline=None, max_examples=40)
@given(design=designs(), order=st.sampled_from(ORDERS), width=st.sampled_from([None, 2.0]))
def test_greedy_on_covariates_equals_brute_force(design, order, width) -> None:
    rng = np.random.default_rng(int(1000 * design["score"].sum()))
    score = design.pop("score")
    n = len(score)
    place, strata = rng.integers(0, 4, (n, 2)).astype(float), design["strata"]
    gate = None if width is None else (score, width)
    if gate is None and order in ("ascending", "descending"):
        order = "data"
    distance = np.sqrt(((place[:, None] - place) ** 2).sum(axis=2)).round(9)
    kinds = np.column_stack([place, np.zeros(n) if strata is None else strata, np.zeros(n) if gate is None else score])
    code = np.unique(kinds, axis=0, return_inverse=True)[1].ravel()
    near = distance if gate is None else np.where(np.abs(score[:, None] - score) <= width, distance, np.inf)
    near = np.where(np.isfinite(near), near, 1e9)
    limit = min(design["caliper"], 1e8)
    sets = greedy_space(place, gate=gate, order=order, **design)
    check_sets(sets, np.sqrt(((place[:, None] - place) ** 2).sum(axis=2)), {**design, "caliper": limit + 1e-9})
    expected = turns_by_score({**design, "caliper": limit}, order, near, code, None if gate is None else score)
    assert flows(as_dict(sets), code) == flows(expected, code)


def turns_by_score(design: dict, order: str, distance: np.ndarray, code: np.ndarray, score: np.ndarray | None) -> dict:
    """Brute force where turns go by the score of the gate, but ties in distance by the covariates."""
    if score is None or order == "data":
        return brute_force(design, order, distance, code)
    tied = np.unique(score, return_inverse=True)[1]
    # One number for both arms: turns look at those who ask, ties at those who serve.
    asks = design["treatment"] == design["arm"]
    return brute_force(design, order, distance, np.where(asks, tied, code))


@pytest.mark.parametrize("method", ["nearest", "optimal", "full", "fine"])
@pytest.mark.parametrize("options", [{}, {"caliper": 0.3}, {"exact": True}, {"estimand": "atc"}])
def test_row_order_does_not_matter(method, options) -> None:
    rng = np.random.default_rng(3)
    n = 400
    X = np.column_stack([rng.integers(0, 4, n), rng.integers(0, 3, n)]).astype(float)
    t = (rng.random(n) < 0.2 + 0.08 * X[:, 0]).astype(int)
    y, group, users = X.sum(axis=1) + rng.normal(size=n), rng.integers(0, 3, n), rng.integers(0, 150, n)
    score = 0.1 + 0.1 * X[:, 0] + 0.05 * X[:, 1]

    def effect(rows: np.ndarray, clusters: bool) -> tuple[float, float, int]:
        kept = {**options, **({"exact": group[rows]} if "exact" in options else {})}
        found = match(propensity=score[rows], treatment=t[rows], method=method, replace=False, **kept)
        e = matching_effect(y[rows], found, treatment=t[rows], clusters=users[rows] if clusters else None)
        return e.estimate, e.std_error, e.n_dropped

    for clusters in (False, True):
        first = effect(np.arange(n), clusters)
        for seed in range(3):
            assert effect(np.random.default_rng(seed).permutation(n), clusters) == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("options", [{"order": "closest"}, {"method": "optimal"}, {"order": "random"}])
def test_row_order_does_not_matter_on_covariates(options) -> None:
    rng = np.random.default_rng(4)
    X = np.column_stack([rng.integers(0, 5, 300), rng.normal(size=300)])
    t, y = (rng.random(300) < 0.3).astype(int), X.sum(axis=1) + rng.normal(size=300)
    found = []
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(300)
        pairs = match(X[rows], treatment=t[rows], distance="mahalanobis", replace=False, random_state=1, **options)
        e = matching_effect(y[rows], pairs, treatment=t[rows])
        found.append((e.estimate, e.std_error))
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=1e-9)


def test_tied_weights_are_the_mean_over_who_is_taken() -> None:
    """Permuting rows with ties="first" draws who is taken: estimates and squared errors average to the default's."""
    rng = np.random.default_rng(0)
    n, n_draws = 60, 250
    score = rng.integers(1, 6, n) / 8
    t = (rng.random(n) < score / 2).astype(int)
    y = rng.normal(size=n)
    ours = matching_effect(y, plain := match(propensity=score, treatment=t, replace=False), treatment=t)
    weights, drawn = np.zeros(n), []
    for _ in range(n_draws):
        rows = rng.permutation(n)
        found = match(propensity=score[rows], treatment=t[rows], replace=False, ties="first")
        weights[rows] += found.weights / n_draws
        effect = matching_effect(y[rows], found, treatment=t[rows])
        drawn.append((effect.estimate, effect.std_error**2))
    np.testing.assert_allclose(weights, plain.weights, atol=4 * 0.5 / np.sqrt(n_draws))
    estimates, squares = np.array(drawn).T
    error = estimates.std() / np.sqrt(n_draws)
    assert error > 0
    assert ours.estimate == pytest.approx(estimates.mean(), abs=4 * error)
    # Each draw measures deviations from its own estimate, and so misses the spread of the estimates.
    expected = squares.mean() + estimates.var() / (plain.n_matched - 1)
    assert ours.std_error**2 == pytest.approx(expected, abs=4 * squares.std() / np.sqrt(n_draws))


def test_random_turns_are_drawn_and_can_be_repeated() -> None:
    rng = np.random.default_rng(1)
    score, t = rng.random(200), rng.integers(0, 2, 200)
    pairs = [match(propensity=score, treatment=t, replace=False, order="random", random_state=s) for s in (1, 1, 2)]
    assert pairs[0].pairs().equals(pairs[1].pairs())
    assert not pairs[0].pairs().equals(pairs[2].pairs())


def test_progress_is_told_until_all_turns_are_over() -> None:
    rng = np.random.default_rng(1)
    score, t = rng.random(500), rng.integers(0, 2, 500)
    for options in ({}, {"order": "closest"}, {"ratio": 2}):
        calls: list[tuple[int, int]] = []
        match(propensity=score, treatment=t, replace=False, progress=lambda *c, to=calls: to.append(c), **options)
        assert [done for done, _ in calls] == sorted(done for done, _ in calls)
        assert 0 < calls[-1][0] <= calls[-1][1]


# --- optimal ---------------------------------------------------------------------------------------------------------


def least_total(distance: np.ndarray, ok: np.ndarray, ratio: int) -> tuple[int, int, float]:
    """Most matches, then most units with one, then the least total, by trying everything; the first two negative."""
    n = len(distance)

    @lru_cache(None)
    def best(i: int, used: int) -> tuple[int, int, float]:
        if i == n * ratio:
            return 0, 0, 0.0
        found = best(i + 1, used)
        for j in np.flatnonzero(ok[i // ratio]):
            if not used >> int(j) & 1:
                count, units, total = best(i + 1, used | 1 << int(j))
                found = min(found, (count - 1, units - (i % ratio == 0), total + distance[i // ratio, j]))
        return found

    return best(0, 0)


@settings(deadline=None, max_examples=40)
@given(design=designs(most=9))
def test_optimal_pairs_have_the_least_total_distance(design) -> None:
    design["ratio"] = min(design["ratio"], 2)
    score, t, arm = design["score"], design["treatment"], design["arm"]
    place = np.column_stack([score, np.cos(40 * np.arange(len(score)))])
    gate = (score[::-1], 1.0)
    for kind in ("line", "space"):
        distance = np.abs(score[:, None] - score) if kind == "line" else np.linalg.norm(place[:, None] - place, axis=2)
        ok = allowed(distance, design)
        if kind == "space":
            ok &= np.abs(gate[0][:, None] - gate[0]) <= gate[1]
        rest = {k: v for k, v in design.items() if k != "score"}
        sets = optimal_line(**design) if kind == "line" else optimal_space(place, gate=gate, **rest)
        check_sets(sets, distance, design)
        least = least_total(distance[t == arm][:, t != arm], ok[t == arm][:, t != arm], design["ratio"])
        unit = np.repeat(sets.unit, sets.stop - sets.start)
        found = -len(sets.pool), -len(sets.unit), distance[unit, sets.pool].sum()
        assert found == pytest.approx(least, abs=1e-9)


def test_optimal_pairs_on_a_line_equal_the_assignment_problem() -> None:
    rng = np.random.default_rng(5)
    score = rng.normal(size=300)
    t = (rng.random(300) < 1 / (1 + np.exp(-score))).astype(int)
    for caliper in (np.inf, 0.05):
        line = optimal_line(score, t, arm=0, caliper=caliper)
        space = optimal_space(score[:, None], t, arm=0, caliper=caliper)
        assert len(line.unit) == len(space.unit)
        assert line.distances.sum() == pytest.approx(space.distances.sum(), rel=1e-12)
        assert line.distances.sum() <= greedy_match(score, t, arm=0, caliper=np.inf).distances.sum()


# --- published -------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_greedy_pairs_of_matchit(lalonde: pd.DataFrame) -> None:
    """matchit(treat ~ ..., method = "nearest"): 185 pairs, att 894.367, and the balance that its vignette prints.

    With the first of equal controls, as MatchIt takes them; shared among equal controls the att is 903.591.
    """
    X, t, y = lalonde[MATCHIT], lalonde["treat"].to_numpy(), lalonde["re78"].to_numpy()
    score = fit_propensity(X, treatment=t)
    pairs = match(propensity=score, treatment=t, replace=False, ties="first")
    assert (pairs.n_matched, pairs.n_control, len(pairs.pairs())) == (185, 185, 185)
    assert matching_effect(y, pairs, treatment=t).estimate == pytest.approx(894.367, abs=5e-4)
    means = [np.average(score.score[t == arm], weights=pairs.weights[t == arm]) for arm in (1, 0)]
    assert means == pytest.approx([0.5774, 0.3629], abs=5e-5)
    table = balance_table(X, treatment=t, weights=pairs.weights, estimand="att").to_frame().set_index("covariate")
    for covariate, smd in (("age", 0.0718), ("educ", -0.1290), ("re74", -0.0505)):
        assert table.loc[covariate, "smd_after"] == pytest.approx(smd, abs=5e-5)
    shared = match(propensity=score, treatment=t, replace=False)
    assert matching_effect(y, shared, treatment=t).estimate == pytest.approx(903.591, abs=5e-4)
    order = np.random.default_rng(2).permutation(len(t))
    again = match(X.iloc[order], treatment=t[order], replace=False)
    assert matching_effect(y[order], again, treatment=t[order]).estimate == pytest.approx(903.591, abs=5e-4)


@pytest.mark.data
@pytest.mark.parametrize("adjust", [False, True])
@pytest.mark.parametrize("ratio", [1, 2])
def test_error_is_that_of_statsmodels_clustered_by_pair(lalonde: pd.DataFrame, adjust: bool, ratio: int) -> None:
    import statsmodels.api as sm

    t, y = lalonde["treat"].to_numpy(), lalonde["re78"].to_numpy()
    pairs = match(lalonde[MATCHIT], treatment=t, replace=False, ties="first", ratio=ratio)
    X = pd.get_dummies(lalonde[MATCHIT], drop_first=True, dtype=float)
    effect = matching_effect(y, pairs, treatment=t, X=X if adjust else None)
    table = pairs.pairs()
    group = np.full(len(t), -1)
    group[table["unit"]] = table["unit"]
    group[table["match"]] = table["unit"]
    used = group >= 0
    Z = sm.add_constant(np.column_stack([t, X]) if adjust else t.astype(float))[used]
    peer = sm.WLS(y[used], Z, weights=pairs.weights[used]).fit(cov_type="cluster", cov_kwds={"groups": group[used]})
    n, q = Z.shape  # statsmodels' factor (n - 1) / (n - q) besides G / (G - 1)
    assert effect.estimate == pytest.approx(peer.params[1], rel=1e-9)
    assert effect.std_error == pytest.approx(peer.bse[1] * np.sqrt((n - q) / (n - 1)), rel=1e-9)


def test_error_is_clustered_by_user_as_well() -> None:
    """V(pairs) + V(users) - V(both), each summed by hand."""
    rng = np.random.default_rng(8)
    n = 400
    score, users = rng.random(n), rng.integers(0, 60, n)
    t = (rng.random(n) < 0.3).astype(int)
    y = score + rng.normal(size=60)[users] + rng.normal(size=n)
    pairs = match(propensity=score, treatment=t, replace=False)
    effect = matching_effect(y, pairs, treatment=t, clusters=users)
    table = pairs.pairs()
    group = np.full(n, -1)
    group[table["unit"]] = group[table["match"]] = table["unit"]
    used = group >= 0
    arm_means = np.array([y[used & (t == arm)].mean() for arm in (0, 1)])
    influence = np.where(t == 1, 1, -1) * (y - arm_means[t]) / len(table)
    assert effect.std_error == pytest.approx(two_way_error(influence[used], group[used], users[used]), rel=1e-9)


# --- intervals -------------------------------------------------------------------------------------------------------


def covered(seed: int, n: int, *, estimated: bool, adjust: bool, **options: object) -> bool:
    """Whether a 95% interval holds the true effect 1 of units confounded by two covariates."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    score = 1 / (1 + np.exp(2 - 0.6 * X[:, 0] + 0.4 * X[:, 1]))
    t = (rng.random(n) < score).astype(int)
    y = X @ [1.0, 1.6] + t + rng.normal(size=n) * (1 + 0.3 * np.abs(X[:, 1]))
    found = match(propensity=fit_propensity(X, treatment=t) if estimated else score, treatment=t, replace=False,
                  distance="logit", **options)  # type: ignore[arg-type]  # fmt: skip
    effect = matching_effect(y, found, treatment=t, X=X if adjust else None)
    return effect.ci_low <= 1 <= effect.ci_high


METHODS = [
    {}, {"caliper": 0.2, "ratio": 2}, {"order": "closest"}, {"method": "optimal"}, {"method": "full"},
    {"method": "full", "estimand": "ate"}, {"method": "fine"}, {"method": "fine", "estimand": "ate"},
]  # fmt: skip


@pytest.mark.parametrize("options", METHODS[:1] + METHODS[4:5])
def test_interval_covers(options) -> None:
    n_runs = 120
    hits = sum(covered(seed, 400, estimated=False, adjust=False, **options) for seed in range(n_runs))
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    assert low <= hits <= high


@pytest.mark.slow
@pytest.mark.parametrize("options", METHODS)
def test_interval_covers_with_a_known_score(options) -> None:
    n_runs = 400
    hits = sum(covered(seed, 1000, estimated=False, adjust=False, **options) for seed in range(n_runs))
    low = stats.binom.ppf(0.0005, n_runs, 0.95)
    assert low <= hits <= stats.binom.ppf(0.9995, n_runs, 0.97)  # a little wide where sets are of several


@pytest.mark.slow
@pytest.mark.parametrize("options", METHODS)
def test_interval_is_too_wide_with_an_estimated_score_unless_adjusted(options) -> None:
    n_runs = 300
    plain = sum(covered(seed, 1000, estimated=True, adjust=False, **options) for seed in range(n_runs))
    adjusted = sum(covered(seed, 1000, estimated=True, adjust=True, **options) for seed in range(n_runs))
    assert plain >= stats.binom.ppf(0.5, n_runs, 0.97)
    low, high = stats.binom.interval(0.999, n_runs, 0.95)
    assert low <= adjusted <= high


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options,message",
    [
        ({"estimand": "ate"}, "estimand='ate' with nearest matching without replacement.*method='full'"),
        ({"estimand": "ate", "method": "optimal"}, "estimand='ate' with optimal matching"),
        ({"order": "descendng"}, "order is 'descendng'.*Did you mean 'descending'"),
        ({"ties": "last"}, "ties is 'last'; expected one of 'average', 'first'"),
        ({"method": "full", "ratio": 2}, "ratio=2 with method='full'"),
        ({"method": "full", "distance": "mahalanobis"}, "method='full' is on a score"),
        ({"distance": "mahalanobis", "order": "descending"}, "order='descending' goes by a score"),
    ],
)
def test_named_refusals(options, message) -> None:
    rng = np.random.default_rng(0)
    X, t = rng.normal(size=(40, 2)), np.arange(40) % 2
    with pytest.raises(CausalRecError, match=message):
        match(X, treatment=t, **{"replace": False, **options})


def test_optimal_pairs_of_too_many_are_refused() -> None:
    t = np.repeat([0, 1], 21_000)
    with pytest.raises(CausalRecError, match=r"441,000,000 steps.*method='nearest'"):
        optimal_line(np.zeros(42_000) + 1e-9 * np.arange(42_000), t)
    with pytest.raises(CausalRecError, match=r"possible pairs.*caliper"):
        optimal_space(np.zeros((42_000, 2)), t)


def test_random_turns_need_a_generator() -> None:
    with pytest.raises(CausalRecError, match="random_state"):
        greedy_match(np.array([0.1, 0.2]), np.array([0, 1]), order="random")


def test_ties_are_named_only_where_there_are_some() -> None:
    assert tie_classes([np.array([0.1, 0.1])], np.array([0, 1])) is None
    assert tie_classes([np.array([0.1, 0.1])], np.array([1, 1]), np.array([0, 1])) is None
    assert tie_classes([np.array([0.1, 0.1])], np.array([1, 1]), np.array([1, 1])).tolist() == [0, 0]
