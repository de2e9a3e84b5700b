"""Learners and nuisances as plain files: the same predictions to the bit, and nothing that runs by itself."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causalrec._objects import FORMAT
from causalrec.exceptions import MissingExtraError, StoreError
from causalrec.nuisance import BoostedClassifier, BoostedRegressor, fit_nuisances
from causalrec.nuisance.saving import load_nuisances, save_nuisances
from causalrec.uplift import (
    ClassTransformation,
    DRLearner,
    RLearner,
    SLearner,
    StackedLearner,
    TLearner,
    XLearner,
)
from causalrec.uplift.saving import load_learner, save_learner

SMALL = BoostedRegressor(n_estimators=3, n_folds=2, n_jobs=1)


def rows(n: int = 150, arms: int = 2) -> tuple[Any, Any, Any]:
    """Numbers with a gap, a category; labels as arms; an effect."""
    rng = np.random.default_rng(3)
    X = pd.DataFrame({
        "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        "kind": pd.Categorical(rng.choice(["a", "ü", "c d"], n), categories=["ü", "c d", "a"], ordered=True),
        "vip": rng.random(n) < 0.5,
    })  # fmt: skip
    treatment = rng.choice(["none", "mail", "app"][:arms], n)
    return X, X["vip"] * (treatment == "mail") + rng.normal(size=n), treatment


def numbers(n: int = 200) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(4)
    X, treatment = rng.normal(size=(n, 3)), rng.choice([0, 1], n)
    return X, X[:, 0] * treatment + rng.normal(size=n), treatment


LEARNERS: dict[str, Callable[[], Any]] = {
    "s": lambda: SLearner(SMALL, control="none"),
    "t": lambda: TLearner(SMALL, control="none"),
    "x": lambda: XLearner(SMALL, control="none", n_folds=2),
    "r": lambda: RLearner(SMALL, control="none", n_folds=2),
    "dr": lambda: DRLearner(SMALL, control="none", n_folds=2),
    "stacked": lambda: StackedLearner(
        {"t": TLearner(SMALL), "r": RLearner(effect_model=SMALL)},
        control="none",
        outcome_model=SMALL,
        n_folds=3,
        propensity_model=BoostedClassifier(n_estimators=3, n_folds=2, n_jobs=1),
    ),
}


@pytest.mark.parametrize("arms", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("kind", LEARNERS)
def test_every_learner_predicts_the_same_to_the_bit(kind: str, arms: int, tmp_path: Path) -> None:
    X, y, treatment = rows(arms=arms)
    learner = LEARNERS[kind]().fit(X, y, treatment=treatment)
    again = load_learner(save_learner(learner, tmp_path / "model"))
    assert type(again) is type(learner)
    assert again.labels_ == learner.labels_
    np.testing.assert_array_equal(again.predict(X), learner.predict(X))
    shuffled = X.sample(frac=1, random_state=0)[["vip", "kind", "age"]].assign(kind=lambda f: f["kind"].astype(object))
    np.testing.assert_array_equal(again.predict(shuffled), learner.predict(shuffled))
    assert again.feature_names_in_.tolist() == ["age", "kind", "vip"]
    np.testing.assert_array_equal(again.feature_importances_, learner.feature_importances_)
    if hasattr(learner, "predict_outcomes"):
        np.testing.assert_array_equal(again.predict_outcomes(X), learner.predict_outcomes(X))
    assert repr(again) == repr(learner)
    assert not list((tmp_path / "model").glob("*.pkl"))


BASES = {
    "xgboost": xgboost.XGBRegressor(n_estimators=4, n_jobs=1),
    "forest": RandomForestRegressor(4, random_state=0, max_depth=3),
    "histograms": HistGradientBoostingRegressor(max_iter=4),
    "pipeline": make_pipeline(StandardScaler(), LinearRegression()),
    "xgboost in a pipeline": make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=4, n_jobs=1)),
}


@pytest.mark.parametrize("base", BASES)
def test_every_base_predicts_the_same_to_the_bit(base: str, tmp_path: Path) -> None:
    X, y, treatment = numbers()
    learner = TLearner(BASES[base]).fit(X, y, treatment=treatment)
    again = load_learner(save_learner(learner, tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(X), learner.predict(X))
    again.fit(X, y, treatment=treatment)  # the settings have come along too
    np.testing.assert_array_equal(again.predict(X), learner.predict(X))


def test_trees_with_a_vector_in_each_leaf(tmp_path: Path) -> None:
    X, y, treatment = numbers(300)
    arms = np.where(treatment == 0, 0, 1 + np.arange(300) % 2)
    learner = DRLearner(SMALL, effect_model=BASES["xgboost"], control=0, n_folds=2, multi_output=True)
    learner.fit(X, y, treatment=arms, propensity={0: 0.5, 1: 0.25, 2: 0.25})
    again = load_learner(save_learner(learner, tmp_path / "model"))
    assert learner.predict(X).shape == (300, 2)
    np.testing.assert_array_equal(again.predict(X), learner.predict(X))


def test_classifiers_constants_and_shared_nuisances(tmp_path: Path) -> None:
    X, _, treatment = numbers()
    y = np.where(treatment == 0, 0, (X[:, 0] > 0).astype(int))  # nothing ever happens under control
    for name, learner in (
        ("constant", TLearner(BoostedClassifier(n_estimators=4, n_jobs=1))),
        ("transformed", ClassTransformation(BoostedClassifier(n_estimators=4, n_jobs=1))),
    ):
        learner.fit(X, y, treatment=treatment, propensity=0.5)
        again = load_learner(save_learner(learner, tmp_path / name))
        np.testing.assert_array_equal(again.predict(X), learner.predict(X))
    nuisance = fit_nuisances(X, y.astype(float) + X[:, 1], treatment=treatment, outcome_model=SMALL, n_folds=3)
    shared = TLearner().fit(X, nuisance.y, treatment=treatment, nuisance=nuisance)
    again = load_learner(save_learner(shared, tmp_path / "shared"))
    np.testing.assert_array_equal(again.predict(X), shared.predict(X))


def test_training_rows_stay_at_home(tmp_path: Path) -> None:
    X, y, treatment = numbers()
    learner = DRLearner(SMALL, n_folds=2).fit(X, y, treatment=treatment, propensity=0.5)
    again = load_learner(save_learner(learner, tmp_path / "model"))
    assert again.nuisance_ is None
    assert learner.nuisance_ is not None
    assert all(np.load(file).size < len(y) for file in (tmp_path / "model").glob("*.npy"))


def test_the_file_says_what_it_holds(tmp_path: Path) -> None:
    X, y, treatment = rows()
    save_learner(LEARNERS["t"]().fit(X, y, treatment=treatment), tmp_path / "model")
    text = json.loads((tmp_path / "model" / "object.json").read_text(encoding="utf-8"))
    assert text["format"] == FORMAT
    assert (text["learner"], text["arms"], text["covariates"]) == ("TLearner", ["none", "mail"], ["age", "kind", "vip"])


@pytest.mark.parametrize("known", [True, False])
def test_nuisances_come_back_with_scores_models_and_folds(known: bool, tmp_path: Path) -> None:
    X, y, treatment = rows(arms=3)
    options: dict[str, Any] = {"propensity": {"none": 0.4, "mail": 0.3, "app": 0.3}}
    if not known:
        base = BoostedClassifier(n_estimators=3, n_folds=2, n_jobs=1)
        options = {"calibration": "sigmoid", "clip": 0.01, "propensity_model": base}
    nuisance = fit_nuisances(
        X, y, treatment=treatment, control="none", outcome_model=SMALL, n_folds=3, groups=np.arange(len(y)) // 2,
        sample_weight=np.linspace(0.5, 1.5, len(y)), **options,
    )  # fmt: skip
    again = load_nuisances(save_nuisances(nuisance, tmp_path / "nuisances"))
    for name in ("y", "codes", "fold", "groups", "sample_weight", "outcomes", "propensity", "scores"):
        np.testing.assert_array_equal(getattr(again, name), getattr(nuisance, name))
    np.testing.assert_array_equal(again.predict_outcomes(X), nuisance.predict_outcomes(X))
    np.testing.assert_array_equal(again.predict_propensity(X), nuisance.predict_propensity(X))
    assert again.labels == nuisance.labels
    first, second = (n.average_effect(arm="mail").to_dict() for n in (nuisance, again))
    assert first == second
    # A learner takes them as it takes those that were fitted here, second folds that are left out included.
    one, other = (XLearner(SMALL).fit_predict(X, y, treatment=treatment, nuisance=n) for n in (nuisance, again))
    np.testing.assert_array_equal(one, other)


# --- what is refused ------------------------------------------------------------------------------------------------


class Mean(RegressorMixin, BaseEstimator):
    """A base learner of the user's own."""

    def fit(self, X: Any, y: Any) -> Mean:
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean_)


def test_types_that_nobody_trusts_are_refused_by_name(tmp_path: Path) -> None:
    X, y, treatment = numbers()
    learner = TLearner(Mean()).fit(X, y, treatment=treatment)
    place = save_learner(learner, tmp_path / "model")
    with pytest.raises(StoreError, match=r"types that reading would run code of: '.*Mean'.*trusted="):
        load_learner(place)
    again = load_learner(place, trusted=[f"{Mean.__module__}.Mean"])
    np.testing.assert_array_equal(again.predict(X), learner.predict(X))


def test_a_pickle_needs_a_yes_in_writing_and_in_reading(tmp_path: Path) -> None:
    X, y, treatment = numbers()
    learner = TLearner(SMALL).fit(X, y, treatment=treatment)
    learner.random_state = np.random.default_rng(0)
    with pytest.raises(StoreError, match=r"TLearner\['random_state'\] is a .*Generator, which plain files cannot hold"):
        save_learner(learner, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.iterdir())
    place = save_learner(learner, tmp_path / "model", allow_pickle=True)
    with pytest.raises(StoreError, match=r"loading one can run any code.*allow_pickle=True"):
        load_learner(place)
    np.testing.assert_array_equal(load_learner(place, allow_pickle=True).predict(X), learner.predict(X))


def test_no_class_but_ours_is_built(tmp_path: Path) -> None:
    X, y, treatment = numbers()
    place = save_learner(TLearner(SMALL).fit(X, y, treatment=treatment), tmp_path / "model")
    file = place / "object.json"
    good = file.read_text(encoding="utf-8")
    for bad in (
        "subprocess.Popen",
        "causalrec.exceptions.warnings",
        "causalrec.uplift.tlearner.ULearner",
        "xgboost.sklearn.os",
    ):
        file.write_text(
            good.replace('"object": "causalrec.uplift.tlearner.TLearner"', f'"object": "{bad}"'), encoding="utf-8"
        )
        with pytest.raises(StoreError, match=f"found a saved {bad}, which this version of causalrec does not know"):
            load_learner(place)


def test_a_pickle_in_place_of_an_array_is_not_loaded(tmp_path: Path) -> None:
    X, y, treatment = numbers()
    place = save_learner(TLearner(SMALL).fit(X, y, treatment=treatment), tmp_path / "model")
    file = next(place.glob("*.npy"))
    file.write_bytes(pickle.dumps(np.zeros(3)))
    with pytest.raises(StoreError, match="a file is damaged"):
        load_learner(place)


@pytest.mark.parametrize("what", ["cut", "gone", "no json", "booster"])
def test_damage_is_named(what: str, tmp_path: Path) -> None:
    X, y, treatment = numbers()
    place = save_learner(TLearner(BASES["xgboost"]).fit(X, y, treatment=treatment), tmp_path / "model")
    if what in ("cut", "no json"):
        text = (place / "object.json").read_text(encoding="utf-8")
        (place / "object.json").write_text(text[: len(text) // 2] if what == "cut" else "[]", encoding="utf-8")
    else:
        file = next(place.glob("*.ubj"))
        file.unlink() if what == "gone" else file.write_bytes(b"{}")
    with pytest.raises(StoreError, match=f"{place}.*damaged.*Save the model again"):
        load_learner(place)


def test_places_formats_and_states_are_checked(tmp_path: Path) -> None:
    X, y, treatment = numbers()
    learner = TLearner(SMALL)
    with pytest.raises(NotFittedError, match="TLearner is not fitted yet"):
        save_learner(learner, tmp_path / "model")
    learner.fit(X, y, treatment=treatment)
    place = save_learner(learner, tmp_path / "a" / "model")
    with pytest.raises(StoreError, match="exists already"):
        save_learner(learner, place)
    assert save_learner(learner, place, replace=True) == place
    with pytest.raises(StoreError, match=r"holds no saved model: it has no object\.json"):
        load_learner(tmp_path)
    nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=SMALL, n_folds=2)
    other = save_nuisances(nuisance, tmp_path / "nuisances")
    with pytest.raises(StoreError, match="holds a Nuisances, expected an uplift learner"):
        load_learner(other)
    with pytest.raises(StoreError, match="holds a TLearner, expected nuisances"):
        load_nuisances(place)
    text = json.loads((place / "object.json").read_text(encoding="utf-8"))
    (place / "object.json").write_text(json.dumps({**text, "format": FORMAT + 1}), encoding="utf-8")
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}; this version of causalrec reads up to {FORMAT}"):
        load_learner(place)


def test_without_skops_other_bases_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    X, y, treatment = numbers()
    forest = TLearner(BASES["forest"]).fit(X, y, treatment=treatment)
    boosted = TLearner(SMALL).fit(X, y, treatment=treatment)
    real = importlib.import_module

    def refuse(name: str, package: str | None = None) -> Any:
        if name.startswith("skops"):
            raise ModuleNotFoundError("No module named 'skops'", name="skops")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"RandomForestRegressor, which is saved by skops.*pip install skops"):
        save_learner(forest, tmp_path / "forest")
    again = load_learner(save_learner(boosted, tmp_path / "boosted"))
    np.testing.assert_array_equal(again.predict(X), boosted.predict(X))


@pytest.mark.slow
def test_a_causal_forest_is_a_pickle_inside(tmp_path: Path) -> None:
    econml = pytest.importorskip("econml.dml")
    from causalrec.uplift.econml_adapter import EconMLLearner

    X, y, treatment = numbers(300)
    forest = econml.CausalForestDML(
        model_y=LinearRegression(), model_t=LogisticRegression(), n_estimators=40, n_jobs=1, random_state=0,
        discrete_treatment=True,
    )  # fmt: skip
    learner = EconMLLearner(forest).fit(X, y, treatment=treatment)
    with pytest.raises(StoreError, match=r"econml.*which plain files cannot hold"):
        save_learner(learner, tmp_path / "model")
    place = save_learner(learner, tmp_path / "model", allow_pickle=True)
    with pytest.raises(StoreError, match="allow_pickle"):
        load_learner(place)
    np.testing.assert_array_equal(load_learner(place, allow_pickle=True).predict(X), learner.predict(X))
