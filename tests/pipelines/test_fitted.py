"""What a fitted learner is made of is read off its models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from causalrec.nuisance import BoostedClassifier, BoostedRegressor
from causalrec.pipelines.fitted import boosting_curves, curve_series, importances, parts_of
from causalrec.pipelines.scoring import UpliftScorer
from causalrec.uplift import DRLearner, RLearner, SLearner, StackedLearner, TLearner, XLearner

BASE = BoostedRegressor(n_estimators=30, n_jobs=1)
WHO = BoostedClassifier(n_estimators=30, n_jobs=1)


def rows(n: int = 400) -> tuple[pd.DataFrame, Any, Any]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "c": pd.Categorical(rng.choice(["x", "y"], n))})
    t = rng.integers(0, 2, n)
    return X, np.abs(X["a"]) * (1 + 2 * t) + 0.1 * rng.normal(size=n), t


def fitted(learner: Any, propensity: float | None = 0.5) -> UpliftScorer:
    X, y, t = rows()
    scorer = UpliftScorer.of(learner, X, unit="u")
    learner.fit(scorer.covariates(X), y, treatment=t, propensity=propensity)
    return scorer


NAMES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "s": (lambda: SLearner(BASE), ["outcome"]),
    "t": (lambda: TLearner(BASE), ["outcome, control", "outcome, treated"]),
    "x": (lambda: XLearner(BASE), ["effect, from the treated", "effect, from control"]),
    "r": (lambda: RLearner(BASE, n_folds=2), ["effect", *["outcome, control", "outcome, treated"] * 2]),
    "dr": (
        lambda: DRLearner(BASE, n_folds=2, propensity_model=WHO),
        ["effect", *["outcome, control", "outcome, treated", "propensity"] * 2],
    ),
}


@pytest.mark.parametrize("kind", NAMES)
def test_every_model_is_found_with_its_name_size_and_losses(kind: str) -> None:
    make, names = NAMES[kind]
    scorer = fitted(make(), None if kind == "dr" else 0.5)
    parts = parts_of(scorer.model)
    assert [part.name for part in parts] == names
    assert [part.part for part in parts if part.name == "outcome, control"] in ([""], [], ["fold 1", "fold 2"])
    result = boosting_curves(parts, "learner")
    assert result is not None
    assert result.n_models == len(parts)
    for k, part in enumerate(parts):
        model, at = part.model, result.of_model(k)
        assert result.trees[k] == model.best_n_estimators_
        assert result.depth[k] == model.best_max_depth_
        ((loss, values),) = model.evals_result_["validation"].items()
        assert result.loss[k] == loss
        np.testing.assert_array_equal(result.curve_validation[at], values)
        np.testing.assert_array_equal(result.curve_round[at], model.evals_rounds_)
        here = model.evals_rounds_.index(model.best_n_estimators_)
        assert result.validation[k] == values[here]
        assert result.gain[k] == pytest.approx(1 - values[here] / values[0])
    assert result.most_trees == max(result.trees) > 0
    series = curve_series(result)
    assert len(series) == 2 * len(parts)
    assert all(np.isfinite([v for _, v in points]).all() for points in series.values())


def test_the_members_of_a_stack_are_found() -> None:
    few = BoostedRegressor(n_estimators=6, n_folds=2, n_jobs=1)
    stack = StackedLearner({"t": TLearner(few), "x": XLearner(few)}, outcome_model=few, n_folds=3)
    names = {part.name for part in parts_of(fitted(stack).model)}
    assert {"outcome, control", "outcome, treated"} < names
    assert any(name.startswith(("t: ", "x: ")) for name in names)


def test_models_without_boosting_have_no_curves() -> None:
    X, y, t = rows()
    learner = TLearner(LinearRegression()).fit(X[["a", "b"]], y, treatment=t)
    assert boosting_curves(parts_of(learner), "T") is None


@pytest.mark.parametrize(("kind", "what"), [("t", "outcome"), ("x", "effect")])
def test_importances_are_those_of_the_learner_sorted(kind: str, what: str) -> None:
    scorer = fitted(NAMES[kind][0]())
    found = importances(scorer, "learner")
    assert found is not None
    raw = dict(zip(["a", "b", "c"], scorer.model.feature_importances_, strict=True))
    assert found.what == what
    assert found.covariate[0] == "a"
    assert sorted(found.importance, reverse=True) == found.importance.tolist()
    assert found.importance.sum() == pytest.approx(1)
    for name, share in zip(found.covariate, found.importance, strict=True):
        assert share == pytest.approx(raw[name] / sum(raw.values()))


def test_importances_of_an_encoded_frame_are_by_column_of_the_frame() -> None:
    X, y, t = rows()
    learner = TLearner(BASE)
    scorer = UpliftScorer.of(learner, X, unit="u", encode=True)
    learner.fit(scorer.covariates(X), y, treatment=t)
    found = importances(scorer, "learner")
    assert found is not None
    assert set(found.covariate) == {"a", "b", "c"}
    assert found.importance.sum() == pytest.approx(1)


def test_without_importances_there_is_no_result() -> None:
    X, y, t = rows()
    learner = TLearner(LinearRegression())
    scorer = UpliftScorer.of(learner, X[["a", "b"]], unit="u")
    learner.fit(X[["a", "b"]], y, treatment=t)
    assert importances(scorer, "T") is None
