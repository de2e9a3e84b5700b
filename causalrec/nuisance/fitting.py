"""Base models on subsets of the rows of one table of covariates, which is prepared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.utils.validation import has_fit_parameter

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_model_columns
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.nuisance.boosting import Bins, BoostedClassifier, BoostedRegressor, is_boosted
from causalrec.nuisance.tables import check_table, give_back, has_many, head, take_rows


class Constant(BaseEstimator):
    """Predicts one value: what is left of a classifier where training showed a single class."""

    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, X: Any) -> FloatArray:
        """The constant for every row."""
        return np.full(len(X), self.value)


class SharedCovariates:
    """The covariates of one data set: base models are fitted on any of their rows, boosted ones on bins made once.

    Parameters
    ----------
    X : frame or array of shape (n, p), or Joined
        Kept as it is; a Polars frame becomes a pandas frame.
    """

    def __init__(self, X: Any) -> None:
        self.source = X
        self.X = check_table(X)
        self.n_rows = int(self.X.shape[0])
        self._bins: dict[bool, Bins] = {}
        self._derived: dict[object, SharedCovariates] = {}

    def derived(self, key: object, make: Callable[[Any], Any]) -> SharedCovariates:
        """Covariates made from these, prepared once for each key."""
        if key not in self._derived:
            self._derived[key] = SharedCovariates(make(self.X))
        return self._derived[key]

    def forget(self, key: object) -> None:
        """Let go of what :meth:`derived` holds for a key."""
        self._derived.pop(key, None)

    def forget_rows(self, rows: IntArray) -> None:
        """Let go of bins of these rows, which no further model needs; few rows may keep them."""
        if has_many(self.X):
            for bins in self._bins.values():
                bins.forget(rows)
            give_back(self.X)

    def take(self, rows: IntArray | None) -> Any:
        """The covariates of some rows; of all for None, without a copy."""
        return take_rows(self.X, rows)

    def fit(
        self,
        base: Any,
        target: FloatArray,
        *,
        rows: IntArray | None = None,
        weight: FloatArray | None = None,
        common_bins: bool = True,
    ) -> Any:
        """A fitted clone of ``base``.

        Parameters
        ----------
        base : scikit-learn classifier or regressor
            A classifier takes whole numbers as classes; where one class alone has weight, a constant comes back.
        target, weight : arrays of shape (m,)
            A value for each of ``rows``.
        rows : int array of shape (m,), optional
            Rows to train on; all by default.
        common_bins : bool
            Whether a boosted base takes the bins of all rows; its rows alone are cheaper where sets are disjoint.
        """
        model = self._fit(base, target, rows, weight, common_bins)
        give_back(self.X)
        return model

    def _fit(
        self, base: Any, target: FloatArray, rows: IntArray | None, weight: FloatArray | None, common_bins: bool
    ) -> Any:
        if is_classifier(base):
            seen = np.unique(target if weight is None else target[weight > 0])
            if len(seen) == 1:
                return Constant(float(seen[0]))
            target = target.astype(np.int64)
        if is_boosted(base):
            if common_bins not in self._bins:
                check_model_columns(head(self.X), model=f"the base learner {type(base).__name__}")
                self._bins[common_bins] = Bins(self.X, common=common_bins)
            return self._bins[common_bins].fit(base, target, rows=rows, weight=weight)
        if weight is None:
            return clone(base).fit(self.take(rows), target)
        check_takes_weights(base)
        return clone(base).fit(self.take(rows), target, sample_weight=weight)

    def predict(self, model: Any, rows: IntArray | None = None) -> FloatArray:
        """Expected outcomes of some rows, shape (m,): ``predict``, or the probability of class 1 of a classifier."""
        if is_boosted(model) and self._bins:
            found = next(iter(self._bins.values())).predict(model, rows)
        else:
            found = predict_mean(model, self.take(rows))
        give_back(self.X)
        return found


def predict_mean(model: Any, X: Any) -> FloatArray:
    """Expected outcomes, shape (n,): ``predict``, or the probability of class 1 of a classifier."""
    if is_classifier(model):
        return np.asarray(model.predict_proba(X)[:, 1], dtype=np.float64)
    return np.asarray(model.predict(X), dtype=np.float64).reshape(len(X))


def check_takes_weights(base: Any, *, why: str = "sample_weight is given") -> None:
    """Raise where a base model cannot weight its rows."""
    if not has_fit_parameter(base, "sample_weight"):
        raise CausalRecError(
            f"{why}, but {type(base).__name__}.fit takes no sample_weight. Use a base learner that does, or leave the "
            "weights out and say so."
        )


def outcome_base(base: Any, y: FloatArray, *, random_state: int, n_jobs: int | None, holds_out: bool = False) -> Any:
    """The model of an outcome: the one given, else boosted trees, a classifier for 0/1 outcomes.

    With ``holds_out`` whoever fits it holds rows out for early stopping.

    Raises
    ------
    OutcomeError
        For a classifier and outcomes other than 0 and 1.
    """
    binary = bool(np.isin(y, (0.0, 1.0)).all())
    if base is None:
        kind = BoostedClassifier if binary else BoostedRegressor
        return kind(random_state=random_state, n_jobs=n_jobs)
    _check_model(base, holds_out=holds_out)
    if is_classifier(base) and not binary:
        odd = y[~np.isin(y, (0.0, 1.0))]
        raise OutcomeError(
            f"{type(base).__name__} is a classifier, but y holds {odd[0]:g} and {len(odd) - 1} more values other than "
            "0 and 1. Use a regressor, or code the outcome as 0/1."
        )
    return base


def effect_base(base: Any, *, random_state: int, n_jobs: int | None, holds_out: bool = False) -> Any:
    """The model of an effect, which is a number even for 0/1 outcomes: the one given, else boosted trees.

    Raises
    ------
    CausalRecError
        For a classifier.
    """
    if base is None:
        return BoostedRegressor(random_state=random_state, n_jobs=n_jobs)
    _check_model(base, holds_out=holds_out)
    if is_classifier(base):
        raise CausalRecError(
            f"{type(base).__name__} is a classifier, but effects lie on a scale of numbers. Pass a regressor as "
            f"effect_model, and {type(base).__name__} as outcome_model."
        )
    return base


def _check_model(base: Any, *, holds_out: bool) -> None:
    if not holds_out and getattr(base, "early_stopping_rounds", None) is not None:
        raise CausalRecError(
            f"{type(base).__name__} has early_stopping_rounds={base.early_stopping_rounds}, which needs rows held out "
            "that nobody gives it here. Use BoostedRegressor or BoostedClassifier, which hold rows out themselves, or "
            "set n_estimators."
        )
    if isinstance(base, type) or not all(callable(getattr(base, name, None)) for name in ("fit", "predict")):
        what = f"the class {base.__name__}; pass an instance of it" if isinstance(base, type) else repr(base)
        raise CausalRecError(f"expected a scikit-learn regressor or classifier as base learner, found {what}.")


class MeanModel(BaseEstimator):
    """The mean of several fitted models, such as those of the folds."""

    def __init__(self, models: Sequence[Any]) -> None:
        self.models = models

    def predict(self, X: Any) -> FloatArray:
        """Expected outcomes, shape (n,)."""
        return np.asarray(sum(predict_mean(model, X) for model in self.models) / len(self.models))

    @property
    def feature_importances_(self) -> FloatArray:
        """Mean importances of the models that have some, constants counting as zeros, shape (p,)."""
        return mean_importances(self.models)


def mean_importances(models: Sequence[Any]) -> FloatArray:
    """The mean of the models' ``feature_importances_``, constants counting as zeros, shape (p,).

    Raises
    ------
    AttributeError
        When a model has no importances, or all are constants.
    """
    found = [np.asarray(m.feature_importances_) for m in models if not isinstance(m, Constant)]
    if not found:
        raise AttributeError("feature_importances_: all models are constants")
    return np.asarray(sum(found) / len(models), dtype=np.float64)
