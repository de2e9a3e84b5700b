"""Full matching against linear programming, fine stratification against sums by stratum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from causalrec.exceptions import OverlapError
from causalrec.observational import fit_propensity
from causalrec.observational._full import fine_strata, full_match
from causalrec.observational._sets import MatchedSets
from causalrec.observational.matching import match, matching_effect

ESTIMANDS = ("att", "atc", "ate")


@st.composite
def designs(draw: st.DrawFn) -> dict:
    """With ties, strata that one arm may lack, and calipers that leave some out."""
    seed, n = draw(st.integers(0, 2**32 - 1)), draw(st.integers(2, 24))
    rng = np.random.default_rng(seed)
    treatment = (rng.random(n) < draw(st.sampled_from([0.2, 0.5, 0.8]))).astype(np.int64)
    treatment[:2] = 0, 1
    kinds = draw(st.sampled_from([4, 15, 10**6]))
    return {
        "score": rng.integers(0, kinds, n) * (4 / kinds), "treatment": treatment,
        "strata": rng.integers(0, 3, n) if draw(st.booleans()) else None,
        "caliper": draw(st.sampled_from([np.inf, 0.3, 1.0])),
    }  # fmt: skip


def least_cover(design: dict) -> tuple[float, set[int]]:
    """The least total distance of pairs that leave nobody out who has one of the other arm within the caliper.

    The constraints of a bipartite graph are totally unimodular, so that the linear program has a whole solution.
    """
    score, t, strata = design["score"], design["treatment"], design["strata"]
    group = np.zeros(len(t)) if strata is None else strata
    near = (np.abs(score[:, None] - score) <= design["caliper"]) & (group[:, None] == group)
    edges = np.argwhere(near & (t[:, None] == 1) & (t == 0))
    if not len(edges):
        return 0.0, set()
    units, place = np.unique(edges, return_inverse=True)
    cover = np.zeros((len(units), len(edges)))
    cover[place.reshape(edges.shape), np.arange(len(edges))[:, None]] = -1
    found = linprog(np.abs(score[edges[:, 0]] - score[edges[:, 1]]), A_ub=cover, b_ub=-np.ones(len(units)))
    return float(found.fun), set(units.tolist())


def rows_of(sets: MatchedSets) -> dict[int, list[int]]:
    return {int(i): sets.pool[a:b].tolist() for i, a, b in zip(sets.unit, sets.start, sets.stop, strict=True)}


@settings(deadline=None, max_examples=40)
@given(design=designs())
def test_full_matching_has_the_least_total_distance(design) -> None:
    sets, weights = full_match(**design, estimand="ate")
    found, score = rows_of(sets), design["score"]
    total, units = least_cover(design)
    assert set(found) == units
    assert sum(np.abs(score[i] - score[members]).sum() for i, members in found.items()) / 2 == pytest.approx(total)
    for i, members in found.items():
        assert (design["treatment"][members] != design["treatment"][i]).all()
        assert np.abs(score[i] - score[members]).max() <= design["caliper"]
        assert min(len(members), *(len(found[j]) for j in members)) == 1  # one to some, or some to one
        assert all(i in found[j] for j in members)
    assert (weights > 0).sum() == len(units)


@settings(deadline=None, max_examples=40)
@given(design=designs(), estimand=st.sampled_from(ESTIMANDS))
def test_weights_are_those_of_the_sets(design, estimand) -> None:
    """1 for each whose effect is asked for, and its shares in the sets of others."""
    sets, weights = full_match(**design, estimand=estimand)
    expected = np.zeros(len(weights))
    for i, members in rows_of(sets).items():
        expected[i] += 1
        expected[members] += 1 / len(members)
    np.testing.assert_allclose(weights, expected)
    asked = {"att": [1], "atc": [0], "ate": [0, 1]}[estimand]
    assert np.isin(design["treatment"][sets.unit], asked).all()
    distance = [np.abs(design["score"][i] - design["score"][m]).max() for i, m in rows_of(sets).items()]
    np.testing.assert_allclose(sets.distances, distance)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_fine_strata_weigh_by_their_composition(estimand: str) -> None:
    rng = np.random.default_rng(2)
    score, kind = rng.random(600), rng.integers(0, 2, 600)
    t = (rng.random(600) < 0.2 + 0.5 * score).astype(int)
    y = score + kind + rng.normal(size=600)
    found = match(propensity=score, treatment=t, method="fine", n_strata=8, estimand=estimand, exact=kind)
    asked = {"att": t == 1, "atc": t == 0, "ate": t >= 0}[estimand]
    cut = pd.qcut(score[asked], 8, retbins=True)[1]
    frame = pd.DataFrame({"s": 2 * np.searchsorted(cut[1:-1], score) + kind, "t": t, "y": y, "asked": asked})
    table = frame.groupby(["s", "t"])["y"].agg(["mean", "var", "size"]).unstack()
    share = frame.groupby("s")["asked"].sum() / asked.sum()
    effects = table["mean"][1] - table["mean"][0]
    estimate = float(share @ effects)
    within = share**2 @ (table["var"][1] / table["size"][1] + table["var"][0] / table["size"][0])
    between = share @ (effects - estimate) ** 2 / asked.sum()
    effect = matching_effect(y, found, treatment=t)
    assert effect.estimate == pytest.approx(estimate, rel=1e-9)
    assert effect.std_error**2 == pytest.approx(
        within + between, rel=0.02
    )  # without n / (n - 1) where means are of few


def test_strata_without_one_of_the_arms_are_left_out() -> None:
    score = np.array([0.1, 0.11, 0.5, 0.52, 0.9, 0.91])
    t = np.array([0, 0, 1, 0, 1, 0])
    sets, weights = fine_strata(score, t, estimand="ate", n_strata=3)
    assert weights.tolist() == [0, 0, 2, 2, 2, 2]
    assert rows_of(sets) == {2: [3], 3: [2], 4: [5], 5: [4]}
    effect = matching_effect(score, match(propensity=score, treatment=t, method="fine", estimand="ate", n_strata=3),
                             treatment=t)  # fmt: skip
    assert effect.n_dropped == 2


def test_nobody_within_the_caliper_is_an_error() -> None:
    with pytest.raises(OverlapError, match="none of the 1 units has a match within"):
        match(propensity=[0.1, 0.9], treatment=[0, 1], method="full", caliper=0.1, caliper_scale="raw")


@pytest.mark.data
def test_full_matching_of_lalonde_balances(data_dir: Path) -> None:
    """All 614 have a place, as optmatch has it; its total distance is that of the linear program."""
    frame = pd.read_csv(data_dir / "lalonde" / "matchit_lalonde.csv")
    t = frame["treat"].to_numpy()
    score = fit_propensity(frame[["age", "educ", "race", "married", "nodegree", "re74", "re75"]], treatment=t)
    found = match(propensity=score, treatment=t, method="full")
    assert (found.n_matched, found.n_control, found.n_unmatched) == (185, 429, 0)
    sets, _ = full_match(score.score, t, estimand="ate")
    total = sum(np.abs(score.score[i] - score.score[m]).sum() for i, m in rows_of(sets).items()) / 2
    everybody = {"score": score.score, "treatment": t, "strata": None, "caliper": 0.1}
    least, units = least_cover(everybody)
    assert len(units) == 614
    assert total == pytest.approx(least, rel=1e-9)  # a caliper that does not bind keeps the program small
