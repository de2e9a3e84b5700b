"""The uplift stage: who is seen by which model, the true scores by brute force, and no false alarms."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalrec.config import OutcomeConfig, RunConfig, parse_config
from causalrec.datasets import MarketplaceTruth, simulate_marketplace
from causalrec.evaluation import auuc_score, lift_share, qini_score, rate, toc_curve, uplift_at_k, uplift_calibration
from causalrec.pipelines import inputs
from causalrec.pipelines.designs import Design
from causalrec.pipelines.inputs import Truth
from causalrec.pipelines.scoring import load_scorer, save_scorer
from causalrec.pipelines.summary import RunSummary
from causalrec.pipelines.train import train
from causalrec.pipelines.uplift import UpliftOutput, train_uplift
from causalrec.pipelines.uplift_metrics import true_scores
from causalrec.results import EffectResult, dump_results


def config_of(seed: int = 7, **uplift: Any) -> RunConfig:
    params = {"n_estimators": 15, "n_jobs": 1}
    return parse_config({"name": "test", "seed": seed, "uplift": {"params": params, "n_folds": 2, **uplift}})


def design_of(n: int = 800, seed: int = 0, effect: float = 1.0) -> Design:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user_id": np.arange(n) + 1000 * seed, "t": rng.integers(0, 2, n)})
    frame["age"] = rng.normal(size=n)
    frame["city"] = pd.Categorical(rng.choice(["a", "b", "c"], n))
    frame["y"] = frame["age"] + effect * frame["age"] * frame["t"] + rng.normal(size=n)
    frame["z"] = (frame["y"] > 0).astype(float)
    return Design(
        name="experiment", frame=frame, unit="user_id", treatment="t", control="old", treated="new",
        outcomes={"y": OutcomeConfig(kind="mean"), "z": OutcomeConfig(kind="proportion")},
        covariates=("age", "city"), randomised=True, expected_share=0.5,
    )  # fmt: skip


@cache
def trained_on_all() -> UpliftOutput:
    return train_uplift(design_of(), config_of())


def spoiled(design: Design, rows: np.ndarray[Any, Any]) -> Design:
    """Outcomes and arms of the given rows as anyone would have them: made up."""
    frame, rng = design.frame.copy(), np.random.default_rng(99)
    frame.loc[rows, "y"] = rng.normal(50, 10, rows.sum())
    frame.loc[rows, "t"] = rng.permutation(frame.loc[rows, "t"].to_numpy())
    return Design(**{**vars(design), "frame": frame})


# --- who is seen ------------------------------------------------------------------------------------------------


def test_units_are_parted_into_held_out_validation_and_the_rest() -> None:
    found, units = trained_on_all(), set(design_of().frame["user_id"])
    held_out, scored = set(found.holdout["user_id"]), set(found.scored["user_id"])
    assert not held_out & scored
    assert held_out | scored < units
    assert len(held_out) / len(units) == pytest.approx(0.3, abs=0.06)
    assert len(scored) / (len(units) - len(held_out)) == pytest.approx(0.3, abs=0.07)
    assert found.scored["user_id"].is_unique
    assert list(found.scored.columns) == ["user_id", "t", "y", "uplift"]


@pytest.mark.parametrize("part", ["scored", "holdout"])
def test_the_scores_of_validation_units_do_not_depend_on_what_came_of_them(part: str) -> None:
    design, first = design_of(), trained_on_all()
    rows = design.frame["user_id"].isin(getattr(first, part)["user_id"]).to_numpy()
    second = train_uplift(spoiled(design, rows), config_of())
    np.testing.assert_array_equal(second.scored["uplift"], first.scored["uplift"])
    kept = [f.scorer.predict(design.frame)["uplift"] for f in (first, second)]
    assert kept[0].equals(kept[1]) == (part == "holdout")  # the model that is kept has seen the validation units


def test_what_the_model_learns_from_does_change_the_scores() -> None:
    design, first = design_of(), trained_on_all()
    seen = ~design.frame["user_id"].isin([*first.scored["user_id"], *first.holdout["user_id"]]).to_numpy()
    second = train_uplift(spoiled(design, seen), config_of())
    assert (second.scored["uplift"] != first.scored["uplift"]).mean() > 0.9


def test_the_results_are_those_of_the_scored_units() -> None:
    found = trained_on_all()
    y, uplift, t = found.scored["y"], found.scored["uplift"], found.scored["t"]
    expected = {
        "qini": qini_score(y, uplift, t),
        "auuc": auuc_score(y, uplift, t),
        "autoc": rate(y, uplift, t),
        "uplift_at_10pct": uplift_at_k(y, uplift, t),
        "lift_share_at_10pct": lift_share(y, uplift, t),
    }
    for name, result in expected.items():
        np.testing.assert_equal(found.results[name].to_dict(), result.to_dict())
    toc, calibration = found.results["toc_curve"], found.results["uplift_calibration"]
    pd.testing.assert_frame_equal(toc.to_frame(), toc_curve(y, uplift, t).to_frame())
    pd.testing.assert_frame_equal(calibration.to_frame(), uplift_calibration(y, uplift, t).to_frame())
    assert (calibration.to_dict()["control"], calibration.to_dict()["treatment"]) == ("old", "new")


def test_the_order_of_rows_changes_nothing() -> None:
    design = design_of()
    shuffled = Design(**{**vars(design), "frame": design.frame.sample(frac=1, random_state=1)})
    first, second = trained_on_all(), train_uplift(shuffled, config_of())
    assert set(first.scored["user_id"]) == set(second.scored["user_id"])
    assert set(first.holdout["user_id"]) == set(second.holdout["user_id"])


@pytest.mark.parametrize(("wanted", "expected"), [(None, "y"), ("z", "z")])
def test_outcome_and_top_share_are_those_of_the_config(wanted: str | None, expected: str) -> None:
    found = train_uplift(design_of(), config_of(outcome=wanted, top_share=0.25))
    y, uplift, t = found.scored[expected], found.scored["uplift"], found.scored["t"]
    assert found.results["uplift_at_25pct"].to_dict() == uplift_at_k(y, uplift, t, k=0.25).to_dict()


# --- the truth of a score ---------------------------------------------------------------------------------------


def by_brute_force(uplift: list[float], tau: list[float], share: float) -> dict[str, float]:
    """Areas under the gain curve, which is straight between units and across ties, and the mean effect in the top."""
    n, levels = len(tau), sorted(set(uplift), reverse=True)
    q, gain = [0.0], [0.0]
    for level in levels:
        group = [t for u, t in zip(uplift, tau, strict=True) if u == level]
        q.append(q[-1] + len(group) / n)
        gain.append(gain[-1] + sum(group) / n)
    auuc = sum((q[i + 1] - q[i]) * (gain[i + 1] + gain[i]) / 2 for i in range(len(levels)))
    middle = {level: (q[i] + q[i + 1]) / 2 for i, level in enumerate(levels)}
    top = [t for u, t in zip(uplift, tau, strict=True) if middle[u] <= max(share, middle[levels[0]])]
    mean_of = {level: sum(t for u, t in zip(uplift, tau, strict=True) if u == level) for level in levels}
    mean_of = {level: total / uplift.count(level) for level, total in mean_of.items()}
    best = [mean_of[u] for u in sorted(uplift, reverse=True)]
    toc = [sum(best[:k]) / k - gain[-1] for k in range(1, n + 1)]
    found = {"qini": auuc - gain[-1] / 2, "auuc": auuc, f"uplift_at_{share * 100:g}pct": sum(top) / len(top)}
    found["autoc"] = sum(toc) / n
    inside = next(i for i in range(len(levels)) if q[i + 1] >= share)
    at = gain[inside] + (gain[inside + 1] - gain[inside]) * (share - q[inside]) / (q[inside + 1] - q[inside])
    return found | {f"lift_share_at_{share * 100:g}pct": at / gain[-1] if gain[-1] else float("nan")}


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(-2, 2)), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.1, 0.5]),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=80)
def test_true_scores_are_those_of_brute_force(pairs: list[tuple[int, float]], share: float, random: Any) -> None:
    uplift, tau = [float(u) for u, _ in pairs], [t for _, t in pairs]
    order = random.sample(range(len(pairs)), len(pairs))
    units = pd.DataFrame({"user_id": order, "tau": [tau[i] for i in order]})
    scored = pd.DataFrame({"user_id": range(len(pairs)), "uplift": uplift})
    found = true_scores(scored, "user_id", "tau", Truth(units), config_of(top_share=share))
    expected = by_brute_force(uplift, tau, share)
    lift = f"lift_share_at_{share * 100:g}pct"
    if abs(np.mean(tau)) > 1e-6:  # else a share of nothing
        assert found[lift] == pytest.approx(expected[lift], rel=1e-6, abs=1e-9)
    found.pop(lift, None)
    expected.pop(lift)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_true_scores_by_hand() -> None:
    """Effects 4, 3, 2, 1 in that order: the gain curve is 0, 1, 1.75, 2.25, 2.5, each over four units."""
    scored = pd.DataFrame({"user_id": [1, 2, 3, 4], "uplift": [9.0, 7.0, 5.0, 3.0]})
    truth = Truth(pd.DataFrame({"user_id": [4, 3, 2, 1], "tau": [1.0, 2.0, 3.0, 4.0]}))
    found = true_scores(scored, "user_id", "tau", truth, config_of(top_share=0.5))
    auuc = (0 + 1) / 8 + (1 + 1.75) / 8 + (1.75 + 2.25) / 8 + (2.25 + 2.5) / 8
    toc = (4.0 + 3.5 + 3.0 + 2.5) / 4 - 2.5
    assert found == pytest.approx(
        {"qini": auuc - 1.25, "auuc": auuc, "autoc": toc, "uplift_at_50pct": 3.5, "lift_share_at_50pct": 0.7}
    )
    tied = true_scores(scored.assign(uplift=1.0), "user_id", "tau", truth, config_of(top_share=0.5))
    assert tied == pytest.approx(
        {"qini": 0.0, "auuc": 1.25, "autoc": 0.0, "uplift_at_50pct": 2.5, "lift_share_at_50pct": 0.5}
    )


def test_estimates_are_the_truth_where_the_scores_are() -> None:
    """With outcomes that are the effect in one arm and zero in the other, on average over assignments."""
    rng = np.random.default_rng(0)
    tau = rng.normal(size=60)
    scored = pd.DataFrame({"user_id": range(60), "uplift": rng.integers(0, 9, 60).astype(float)})
    truth = Truth(pd.DataFrame({"user_id": range(60), "tau": tau}))
    expected = true_scores(scored, "user_id", "tau", truth, config_of())
    draws = []
    for _ in range(800):
        t = rng.permutation(np.arange(60) % 2)
        draws.append(float(qini_score(tau * t, scored["uplift"], t, propensity=0.5, confidence_level=None)))
    assert np.mean(draws) == pytest.approx(expected["qini"], abs=4 * np.std(draws) / np.sqrt(800))


@pytest.mark.parametrize(
    ("truth", "column"), [(None, "tau"), (Truth(pd.DataFrame({"user_id": [1], "tau": [0.1]})), None)]
)
def test_without_a_known_effect_there_is_no_true_score(truth: Truth | None, column: str | None) -> None:
    scored = pd.DataFrame({"user_id": [1], "uplift": [0.5]})
    assert true_scores(scored, "user_id", column, truth, config_of()) == {}


# --- no false alarms --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["none at all", "the same for all"])
def test_the_qini_test_has_its_size_where_nobody_differs(effect: str) -> None:
    """The model finds an order in noise; on units that it has not seen, the order is shown to be worth nothing."""
    n_experiments, rejected = 300, 0
    config = config_of(top_share=0.3, learner="t", params={"n_estimators": 5, "n_jobs": 1, "early_stopping": False})
    for seed in range(n_experiments):
        design = design_of(700, seed=seed + 1, effect=0.0)
        frame = design.frame.assign(y=design.frame["y"] + (effect != "none at all") * design.frame["t"])
        qini = train_uplift(Design(**{**vars(design), "frame": frame}), config).results["qini"]
        assert isinstance(qini, EffectResult)
        rejected += qini.pvalue < 0.05
    low, high = stats.binom.interval(0.999, n_experiments, 0.05)
    assert low <= rejected <= high


@pytest.mark.slow
def test_the_qini_test_sees_a_difference_that_is_there() -> None:
    found = [train_uplift(design_of(2000, seed=s, effect=1.0), config_of()).results["qini"] for s in range(5)]
    assert all(isinstance(qini, EffectResult) and qini.ci_low > 0 for qini in found)


# --- the truth is for judging only ------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_truth_changes_the_truth_and_nothing_else(
    trained: RunSummary, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[str] = []

    def altered(*args: Any, **kwargs: Any) -> Any:
        market, truth = simulate_marketplace(*args, **kwargs)
        rng = np.random.default_rng(0)
        users = truth.users.copy()
        changed[:] = [c for c in users if c != "user_id"]
        for column in changed:
            shuffled = rng.permutation(users[column].to_numpy())
            users[column] = shuffled if column == "response_group" else shuffled * 3 + 1
        return market, MarketplaceTruth(users)

    monkeypatch.setattr(inputs, "simulate_marketplace", altered)
    other = train(config.model_copy(update={"tracking": config.tracking.model_copy(update={"enabled": False})}))
    assert {"propensity", "response_group"} < set(changed)
    assert sum(c.startswith("tau_") for c in changed) == 4
    assert dump_results(other.results) == dump_results(trained.results)
    assert other.findings == trained.findings
    differ = 0
    for mine, theirs in zip(other.rows, trained.rows, strict=True):
        cells = [list(row.cells()) for row in (mine, theirs)]
        known = np.isfinite(theirs.truth) and theirs.stage != "placebo"
        differ += known
        assert (mine.truth != theirs.truth) == known or (np.isnan(mine.truth) and np.isnan(theirs.truth))
        assert cells[0][:5] + cells[0][6:] == cells[1][:5] + cells[1][6:]
    assert differ == 9  # Qini, AUUC, AUTOC, the top, its share, the effect twice, and two metrics of the A/B test


# --- the propensity, and the learners ---------------------------------------------------------------------------


def chosen(design: Design) -> Design:
    """The same units, treated more often the older they are."""
    rng = np.random.default_rng(5)
    frame = design.frame.copy()
    before = frame["y"] - frame["age"] * frame["t"]
    frame["t"] = (rng.random(len(frame)) < 1 / (1 + np.exp(-1.5 * frame["age"]))).astype(int)
    frame["y"] = before + frame["age"] * frame["t"]
    return Design(**{**vars(design), "frame": frame, "randomised": False, "expected_share": None})


def test_a_designed_share_is_used_as_given_and_no_propensity_is_fitted() -> None:
    found = train_uplift(design_of(), config_of(learner="dr"))
    assert found.propensity == 0.5
    assert found.notes == ()
    assert "known propensity" in str(found.results["uplift_average_effect"])
    assert "uplift_overlap" not in found.results


def test_without_a_designed_share_that_of_the_training_units_is_used() -> None:
    design = Design(**{**vars(design_of()), "expected_share": None})
    found = train_uplift(design, config_of(learner="dr"))
    training = design.frame[~design.frame["user_id"].isin(found.holdout["user_id"])]
    assert found.propensity == training["t"].mean()
    assert "names no expected_share; the propensity is the share treated" in found.notes[0]


def test_where_treatment_was_chosen_the_propensity_is_cross_fitted_and_weighs_the_metrics() -> None:
    design = chosen(design_of(1500))
    found = train_uplift(design, config_of(base="linear", params={}, clip=0.01, n_folds=3))
    assert found.propensity is None
    assert "is not randomised; the propensity is cross-fitted" in found.notes[0]
    assert type(found.scorer.model).__name__ == "DRLearner"
    assert "cross-fitted" in str(found.results["uplift_average_effect"])
    assert {"uplift_overlap", "uplift_losses", "uplift_groups"} <= set(found.results)
    effect = found.results["uplift_average_effect"]
    assert isinstance(effect, EffectResult)
    assert effect.ci_low < design.frame["age"].mean() < effect.ci_high  # the effect is the age itself
    naive = qini_score(found.scored["y"], found.scored["uplift"], found.scored["t"])
    assert found.results["qini"].to_dict()["estimate"] != naive.estimate
    for name in ("qini", "auuc", "autoc", "uplift_at_10pct", "lift_share_at_10pct"):
        assert "doubly robust scores, cross-fitted propensity" in str(found.results[name].to_dict()["method"])


@pytest.mark.parametrize(
    ("settings", "learner"),
    [
        ({}, "XLearner"),
        ({"learner": "s"}, "SLearner"),
        ({"learner": "t", "base": "forest", "params": {"n_estimators": 5, "n_jobs": 1}}, "TLearner"),
        ({"learner": "r", "base": "linear", "params": {"alpha": 1.0}}, "RLearner"),
        ({"learner": "class_transformation", "outcome": "z"}, "ClassTransformation"),
        ({"learner": "stacked", "members": ["t", "r"], "n_folds": 3, "base": "linear", "params": {}}, "StackedLearner"),
        pytest.param(
            {"learner": "causal_forest", "params": {"n_estimators": 40}}, "EconMLLearner", marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_learner_of_a_config_sees_that_the_effect_grows_with_age(
    settings: dict[str, Any], learner: str, tmp_path: Path
) -> None:
    design = design_of(1200)
    found = train_uplift(design, config_of(**settings))
    assert type(found.scorer.model).__name__ == learner
    uplift = found.scorer.predict(found.holdout)["uplift"]
    assert stats.spearmanr(uplift, found.holdout["age"]).statistic > 0.6
    save_scorer(found.scorer, tmp_path / "model")
    again = load_scorer(tmp_path / "model").predict(found.holdout)
    pd.testing.assert_frame_equal(again, found.scorer.predict(found.holdout), check_exact=True)
    assert not list((tmp_path / "model").glob("*.pkl")) or learner == "EconMLLearner"


def test_a_design_with_too_few_units_for_folds_says_so_and_keeps_the_rest() -> None:
    found = train_uplift(design_of(24), config_of(learner="t", n_folds=5, base="linear", params={}))
    assert "qini" in found.results
    assert "uplift_losses" not in found.results
    assert "no losses and no groups of effects: arm" in found.notes[-1]
