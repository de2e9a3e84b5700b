"""The base models and learners that a config names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

from causalrec._validation import optional_import
from causalrec.nuisance import BoostedClassifier, BoostedRegressor
from causalrec.pipelines.encoding import EncodedClassifier, EncodedRegressor
from causalrec.uplift import (
    ClassTransformation,
    DRLearner,
    RLearner,
    SLearner,
    StackedLearner,
    TLearner,
    XLearner,
)
from causalrec.uplift.base import UpliftLearner
from causalrec.uplift.econml_adapter import EconMLLearner
from causalrec.uplift_config import UpliftConfig

_PENALTIES = np.logspace(-2, 5, 22)
_NAMES = {"s": "S-learner", "t": "T-learner", "x": "X-learner", "r": "R-learner", "dr": "DR-learner",
          "class_transformation": "class transformation", "stacked": "stacked learners",
          "causal_forest": "causal forest"}  # fmt: skip
# Learners that are what they are without nuisances: two models of the outcome, one, none, or EconML's own.
_WITHOUT_NUISANCE = ("s", "t", "causal_forest")


def with_learner(settings: UpliftConfig, *, randomised: bool) -> UpliftConfig:
    """The settings with the learner that is meant where none is named."""
    default = "x" if randomised else "dr"
    return settings if settings.learner else settings.model_copy(update={"learner": default})


def base_models(settings: UpliftConfig, *, seed: int) -> tuple[Any, Any]:
    """A regressor and a classifier of the kind that the config names."""
    params: dict[str, Any] = dict(settings.params)
    if settings.learner == "causal_forest":
        params = {}
    if settings.base == "boosted":
        return BoostedRegressor(random_state=seed, **params), BoostedClassifier(random_state=seed, **params)
    if settings.base == "linear":
        alpha = params.get("alpha")
        ridge = RidgeCV(alphas=_PENALTIES) if alpha is None else Ridge(alpha)
        return EncodedRegressor(ridge), EncodedClassifier(LogisticRegression(C=1 / (alpha or 1.0), max_iter=1000))
    shared = {"n_estimators": 200, "min_samples_leaf": 20, "n_jobs": 2, "random_state": seed} | params
    return EncodedRegressor(RandomForestRegressor(**shared)), EncodedClassifier(RandomForestClassifier(**shared))


def make_learner(settings: UpliftConfig, *, binary: bool, seed: int, nuisance: bool = True) -> UpliftLearner:
    """The learner that the config names, unfitted.

    With ``nuisance`` it will be fitted on shared nuisances, which bring the outcome models along.
    """
    regressor, classifier = base_models(settings, seed=seed)
    outcome = classifier if binary else regressor
    common: dict[str, Any] = {"random_state": seed}
    folds = {"n_folds": settings.n_folds, **common}
    own: dict[str, Any] = {} if nuisance else {"outcome_model": outcome, "propensity_model": classifier}
    makers: dict[str, Callable[[], UpliftLearner]] = {
        "s": lambda: SLearner(outcome, **common),
        "t": lambda: TLearner(None if nuisance else outcome, **common),
        "x": lambda: XLearner(effect_model=regressor, **own, **folds),
        "r": lambda: RLearner(effect_model=regressor, **own, **folds),
        "dr": lambda: DRLearner(effect_model=regressor, **own, **folds),
        "class_transformation": lambda: ClassTransformation(classifier, **folds),
    }
    if settings.learner == "causal_forest":
        return _causal_forest(settings, seed=seed)
    if settings.learner == "stacked":
        return StackedLearner({_NAMES[name]: makers[name]() for name in settings.members}, **common)
    return makers[str(settings.learner)]()


def steady(learner: UpliftLearner) -> None:
    """Let a fitted causal forest predict in one thread: several add up its trees in whatever order they end."""
    fitted = getattr(getattr(learner, "estimator_", None), "model_cate", None)
    for forest in getattr(fitted, "estimators_", ()):
        forest.n_jobs = 1


def needs_nuisance(settings: UpliftConfig, *, known_propensity: bool) -> bool:
    """Whether the learner takes shared nuisances; some need nothing but a propensity, and none where it is known."""
    if settings.learner == "class_transformation":
        return not known_propensity
    return settings.learner not in _WITHOUT_NUISANCE


def learner_name(settings: UpliftConfig) -> str:
    """How figures and tables call the learner."""
    return _NAMES[str(settings.learner)]


def _causal_forest(settings: UpliftConfig, *, seed: int) -> UpliftLearner:
    dml = optional_import("econml.dml", extra="ate")
    params = {"n_estimators": 400, "min_samples_leaf": 20, "n_jobs": 2} | dict(settings.params)
    return EconMLLearner(dml.CausalForestDML(discrete_treatment=True, random_state=seed, **params), random_state=seed)
