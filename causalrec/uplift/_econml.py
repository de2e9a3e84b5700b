"""An EconML estimator of the user made ready for our rows: checks, settings that follow from the data, seeds.

Nothing here imports econml: its families are told by the names of their classes.
"""

from __future__ import annotations

import copy
import inspect
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError, ColumnError, OutcomeError
from causalrec.uplift.base import Training

_PROPENSITY_MODELS = ("model_t", "model_propensity", "propensity_model")  # EconML's names, by family
_OUTCOME_MODELS = ("model_y", "model_regression")
_META_MODELS = ("models", "overall_model", "cate_models", "final_models")
_FOREST = "CausalForest"


class FixedPropensity(ClassifierMixin, BaseEstimator):
    """A classifier that knows P(arm given X) and learns nothing: the same for all rows, or from the last columns of X.

    Parameters
    ----------
    shares : tuple of k floats, optional
        Of each arm, for all rows. Without it the last ``n_arms - 1`` columns of X hold the probabilities of the arms
        but control.
    n_arms : int
    """

    def __init__(self, shares: tuple[float, ...] | None = None, n_arms: int = 2) -> None:
        self.shares = shares
        self.n_arms = n_arms

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FixedPropensity:  # noqa: ARG002
        """Note which arms there are."""
        self.classes_ = np.unique(np.asarray(y).astype(np.int64))
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """The probabilities of the arms that were seen, shape (n, len(classes_)); they sum to 1."""
        if self.shares is not None:
            known = np.broadcast_to(np.array(self.shares), (len(X), self.n_arms))
        else:
            rest = np.asarray(X, dtype=np.float64)[:, -(self.n_arms - 1) :]
            known = np.column_stack([1.0 - rest.sum(axis=1), rest])
        if len(self.classes_) == self.n_arms:
            return np.array(known)
        some = known[:, self.classes_]
        return np.asarray(some / some.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> AnyArray:
        """The likeliest arm."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def configured(estimator: Any, training: Training, random_state: int) -> Any:
    """A copy of the estimator with the settings that follow from the data; raises where they contradict its own."""
    _check_estimator(estimator)
    own = copy.deepcopy(estimator)
    if hasattr(own, "discrete_treatment"):
        own.discrete_treatment = True
    _set_outcome(own, training.y)
    if training.weight is not None and "sample_weight" not in inspect.signature(own.fit).parameters:
        raise CausalRecError(
            f"sample_weight is given, but EconML's {name_of(own)} takes none. Use our learner of that kind, "
            "which does, or leave the weights out and say so."
        )
    if training.propensity is not None:
        _set_propensity(own, training.propensity)
    _check_treatment_model(own)
    _seed(own, random_state)
    return own


def families(estimator: Any) -> set[str]:
    """Names of EconML's classes that an estimator is of."""
    return {c.__name__ for c in type(estimator).__mro__ if c.__module__.partition(".")[0] == "econml"}


def name_of(estimator: Any) -> str:
    return type(estimator).__name__


def is_forest(estimator: Any) -> bool:
    return _FOREST in families(estimator)


def _check_estimator(estimator: Any) -> None:
    kinds = set() if isinstance(estimator, type) else families(estimator)
    if not kinds & {"BaseCateEstimator", _FOREST}:
        found = f"the class {estimator.__name__}" if isinstance(estimator, type) else repr(estimator)
        raise CausalRecError(
            f"estimator is {found}; expected an instance of an EconML estimator, such as CausalForestDML(). A plain "
            "regressor or classifier is the base learner of TLearner, XLearner or DRLearner."
        )
    name = name_of(estimator)
    package = ".".join(type(estimator).__module__.split(".")[:2])
    what = {"econml.iv": "an instrument", "econml.panel": "the order of periods"}.get(package)
    if what is not None:
        raise CausalRecError(f"EconML's {name} needs {what}, for which there is no argument here. Use EconML itself.")
    if getattr(estimator, "categories", "auto") != "auto":
        raise CausalRecError(f"{name} has categories={estimator.categories!r}; leave them out: control= names the arm.")
    if getattr(estimator, "treatment_featurizer", None) is not None:
        raise CausalRecError(f"{name} has a treatment_featurizer, which is for doses; here treatments are arms.")
    for attribute in _META_MODELS:
        if any(map(_classifies, _as_list(getattr(estimator, attribute, None)))):
            raise CausalRecError(
                f"{name} has a classifier as {attribute}: EconML would subtract predicted classes, not probabilities. "
                "Use a regressor, or our TLearner, SLearner or XLearner, which take classifiers."
            )


def _check_treatment_model(estimator: Any) -> None:
    for attribute in _PROPENSITY_MODELS:
        models = [m for m in _as_list(getattr(estimator, attribute, None)) if _is_model(m)]
        wrong = [m for m in models if not hasattr(m, "predict_proba")]
        if wrong:
            raise CausalRecError(
                f"{name_of(estimator)} has {wrong[0]!r} as {attribute}; arms are predicted by a classifier with "
                "predict_proba, such as LogisticRegression()."
            )


def _set_outcome(estimator: Any, y: FloatArray) -> None:
    """``discrete_outcome`` for 0/1 outcomes, unless a regressor is to predict them."""
    if not hasattr(estimator, "discrete_outcome"):
        return
    models = [m for a in _OUTCOME_MODELS for m in _as_list(getattr(estimator, a, None)) if _is_model(m)]
    binary = set(np.unique(y)) == {0.0, 1.0}
    if not binary:
        odd = next((m for m in models if _classifies(m)), None)
        if odd is not None or estimator.discrete_outcome:
            why = "discrete_outcome=True" if odd is None else f"the classifier {name_of(odd)} for the outcome"
            raise OutcomeError(
                f"{name_of(estimator)} has {why}, but y does not hold 0 and 1 alone, and both. Use a regressor, "
                "or code the outcome as 0/1."
            )
    elif all(map(_classifies, models)):
        estimator.discrete_outcome = True


def _set_propensity(estimator: Any, propensity: FloatArray) -> None:
    attribute = next((a for a in _PROPENSITY_MODELS if hasattr(estimator, a)), None)
    name, constant = name_of(estimator), bool((propensity == propensity[:1]).all())
    if attribute is None or "BaseOrthoForest" in families(estimator):
        raise CausalRecError(
            f"propensity is given, but EconML's {name} has no place for a known one. Leave it out, or use an estimator "
            "that takes it, such as CausalForestDML, LinearDRLearner or XLearner."
        )
    if not constant and "_OrthoLearner" not in families(estimator):
        raise CausalRecError(
            f"propensity differs between rows, and EconML's {name} takes only one that is the same for all. Use our "
            "XLearner, or EconML's CausalForestDML or DRLearner."
        )
    k = propensity.shape[1]
    setattr(estimator, attribute, FixedPropensity(tuple(map(float, propensity[0])) if constant else None, k))


def _seed(estimator: Any, random_state: int) -> None:
    """Give the estimator our seed, and the models in it seeds drawn from it, wherever they have none of their own."""
    if getattr(estimator, "random_state", 0) is None:
        estimator.random_state = random_state
    rng = np.random.default_rng(random_state)
    for attribute in (*_PROPENSITY_MODELS, *_OUTCOME_MODELS, *_META_MODELS, "model_final"):
        for model in _as_list(getattr(estimator, attribute, None)):
            if hasattr(model, "get_params"):
                settings = sorted(k for k, v in model.get_params().items() if v is None and k.endswith("random_state"))
                model.set_params(**{k: int(rng.integers(2**31)) for k in settings})


def effect_models(estimator: Any) -> list[Any]:
    """The models that decide on effects; for an estimator with a final stage of its own, the estimator itself."""
    if families(estimator) & {"StatsModelsCateEstimatorMixin", "StatsModelsCateEstimatorDiscreteMixin"}:
        return []
    own = ("model_final",) if name_of(estimator) in ("DML", "DRLearner", "NonParamDML") else _META_MODELS
    found = [m for a in own for m in _as_list(getattr(estimator, a, None)) if m is not None]
    return found or [estimator]


def _as_list(models: Any) -> Sequence[Any]:
    return models if isinstance(models, list | tuple) else [models]


def _is_model(model: Any) -> bool:
    return hasattr(model, "fit")


def _classifies(model: Any) -> bool:
    return hasattr(model, "predict_proba") or (hasattr(model, "__sklearn_tags__") and is_classifier(model))


def fit_estimator(estimator: Any, X: FloatArray, training: Training) -> None:
    accepted = inspect.signature(estimator.fit).parameters
    options = {"sample_weight": training.weight, "groups": training.groups}
    options = {name: value for name, value in options.items() if value is not None and name in accepted}
    if is_forest(estimator):
        arms = (training.codes[:, None] == np.arange(1, training.n_arms)).astype(np.float64)
        estimator.fit(X, arms, training.y, **options)
        return
    known = next((m for a in _PROPENSITY_MODELS if isinstance(m := getattr(estimator, a, None), FixedPropensity)), None)
    if known is not None and known.shares is None and training.propensity is not None:
        options["W"] = training.propensity[:, 1:]
    estimator.fit(training.y, training.codes, X=X, **options)


def matrix(X: Any, estimator: Any) -> FloatArray:
    """Covariates as numbers; EconML knows no categories, and few of its estimators missing values."""
    if isinstance(X, pd.DataFrame):
        strange = [
            c for c, t in X.dtypes.items() if not (pd.api.types.is_numeric_dtype(t) or pd.api.types.is_bool_dtype(t))
        ]
        if strange:
            raise ColumnError(
                f"X: column{'s' * (len(strange) > 1)} {list_some(strange)} of type {X[strange[0]].dtype}; EconML takes "
                "numbers only. Encode them, say with pandas.get_dummies, or use our learners, which take categories."
            )
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.asarray(X, dtype=np.float64)
    allowed = "X" in estimator._gen_allowed_missing_vars() if hasattr(estimator, "_gen_allowed_missing_vars") else False
    n_missing = 0 if allowed else int(np.isnan(values).any(axis=1).sum())
    if n_missing:
        raise CausalRecError(
            f"X has missing values in {n_missing} of {len(values)} rows, and EconML's {name_of(estimator)} takes none "
            "there. Fill them, use NonParamDML(..., allow_missing=True) with models that take them, or our learners."
        )
    return values


class _Quiet:
    """Leave out warnings about EconML's use of other packages, which say nothing of the user's data.

    Filters are global, so that threads share one change of them: the first to enter makes it, the last undoes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._held: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._held = warnings.catch_warnings()
                self._held.__enter__()
                for category in (FutureWarning, DeprecationWarning):
                    warnings.simplefilter("ignore", category)
                warnings.filterwarnings("ignore", message=".*prediction_stderr.*", category=UserWarning)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._held is not None:
                self._held.__exit__(None, None, None)


quiet = _Quiet()
