"""EconML's estimators of heterogeneous effects behind the face of our learners.

The estimators come from the user, so that nothing here imports econml.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from causalrec._typing import FloatArray
from causalrec._validation import check_confidence_level, list_some
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance import Nuisances
from causalrec.nuisance.scores import effect_result
from causalrec.results import EffectResult, UpliftIntervalsResult
from causalrec.uplift._econml import (
    configured,
    effect_models,
    families,
    fit_estimator,
    is_forest,
    matrix,
    name_of,
    quiet,
)
from causalrec.uplift.base import Training, UpliftLearner, View

_AIPW = "fit_nuisances(X, y, treatment=...).average_effect() gives the AIPW effect with an honest error"


class EconMLLearner(UpliftLearner):
    """An EconML estimator with the manners of our learners: arms by label, effects of shape (n,) or (n, k - 1).

    Parameters
    ----------
    estimator : EconML estimator
        ``CausalForestDML``, ``LinearDML``, ``SparseLinearDML``, ``NonParamDML``, ``KernelDML``, ``DRLearner``,
        ``LinearDRLearner``, ``SparseLinearDRLearner``, ``ForestDRLearner``, EconML's ``TLearner``, ``SLearner``,
        ``XLearner`` and ``DomainAdaptationLearner``, or ``econml.grf.CausalForest``. It is copied, never changed. Of
        the copy some settings follow from the data: arms are choices, not doses, so a DML gets
        ``discrete_treatment=True``; a 0/1 outcome gives ``discrete_outcome=True`` unless its model is a regressor;
        models without a seed get one drawn from ``random_state``.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_folds : int
        Folds of ``fit_predict``; those of the nuisances are the estimator's own ``cv``.
    random_state : int
        Used where the estimator has none of its own.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    estimator_ : the fitted copy
        Its treatment is coded 0..k-1 in the order of ``labels_``.
    n_features_in_, feature_names_in_, feature_importances_ : as in :class:`TLearner`, where the estimator has them

    Notes
    -----
    A known propensity takes the place of the propensity model. One that differs between rows enters as a control
    (EconML's ``W``) besides, which the outcome models see too; X-learners take only a constant one.

    Coverage of the truth by 95% intervals of ``CausalForestDML``, measured at 30 points over 30 data sets with a
    confounded treatment: a constant effect, n = 1000 and 100 trees 0.96; 1 + tanh(2 x), n = 1000 and 100 trees 0.93,
    n = 4000 and 200 trees 0.95, at the worst point 0.80, where the effect bends most. Linear effects, n = 500, over 150
    data sets: ``LinearDML`` 0.94, ``LinearDRLearner`` 0.95.

    A forest adds up its trees in the order in which its threads finish: the last bits vary unless its ``n_jobs`` is 1.

    Examples
    --------
    The examples of this class run in the slow tests, as importing econml takes seconds.

    >>> from econml.dml import LinearDML  # doctest: +SKIP
    >>> from sklearn.linear_model import LinearRegression  # doctest: +SKIP
    >>> rng = np.random.default_rng(0)  # doctest: +SKIP
    >>> X, treatment = rng.normal(size=(400, 2)), rng.choice(["none", "mail"], 400)  # doctest: +SKIP
    >>> y = X[:, 0] + (treatment == "mail") * (1 + X[:, 1]) + rng.normal(size=400)  # doctest: +SKIP
    >>> learner = EconMLLearner(LinearDML(model_y=LinearRegression()), control="none")  # doctest: +SKIP
    >>> learner.fit(X, y, treatment=treatment, propensity=0.5).predict(X).shape  # doctest: +SKIP
    (400,)
    >>> found = learner.predict_interval([[0.0, 0.0]])  # doctest: +SKIP
    >>> bool(found.ci_low[0] < 1 < found.ci_high[0])  # doctest: +SKIP
    True
    """

    n_jobs = None

    def __init__(self, estimator: Any, *, control: object = None, n_folds: int = 5, random_state: int = 0) -> None:
        self.estimator = estimator
        self.control = control
        self.n_folds = n_folds
        self.random_state = random_state

    @property
    def estimator_(self) -> Any:
        """The fitted copy of the estimator."""
        if not hasattr(self, "models_"):
            raise AttributeError("estimator_: this EconMLLearner is not fitted yet; call fit first")
        return self.models_.estimator

    @property
    def feature_importances_(self) -> FloatArray:
        """Importances of a forest's covariates, shape (p,); only where the estimator has them."""
        return np.asarray(self.estimator_.feature_importances_, dtype=np.float64).ravel()

    def predict_interval(self, X: Any, *, confidence_level: float = 0.95) -> UpliftIntervalsResult:
        """Pointwise intervals from the estimator's own inference.

        Forests: the bootstrap of little bags (Athey, Tibshirani and Wager 2019, Annals of Statistics 47, section 4).
        Linear final stages: HC1 errors, or those of the debiased lasso.

        Returns
        -------
        UpliftIntervalsResult, arrays of the shape of ``predict``

        Raises
        ------
        CausalRecError
            For an estimator without inference, or one fitted with groups: EconML's errors take rows as independent.
        NotFittedError, ColumnError
            As ``predict``.
        """
        level = check_confidence_level(confidence_level)
        view = self._view(X)
        fitted: _Fitted = self.models_
        parts = _intervals(fitted.estimator, matrix(view.covariates, fitted.estimator), level)
        if parts is None:
            raise CausalRecError(
                f"{fitted.name} gives effects without errors. Use EconMLLearner(CausalForestDML()) or "
                "EconMLLearner(LinearDML()), which have intervals, or bootstrap_intervals with a linear base learner."
            )
        if fitted.grouped:
            raise CausalRecError(
                f"{fitted.name} was fitted with groups, but its errors take every row as independent, so intervals "
                "would be too narrow. Use bootstrap_intervals(..., groups=groups), which draws whole groups, or one "
                "row for each group."
            )
        shape = (view.n_rows,) if len(self.labels_) == 2 else (view.n_rows, len(self.labels_) - 1)
        estimate, error, low, high = (np.asarray(part, dtype=np.float64).reshape(shape) for part in parts)
        method, covers = _inference_of(fitted.estimator)
        return UpliftIntervalsResult(
            control=str(self.labels_[0]), arms=tuple(map(str, self.labels_[1:])), confidence_level=level,
            n_obs=fitted.n_obs, method=f"{fitted.name}, {method}", covers=covers, estimate=estimate, std_error=error,
            ci_low=low, ci_high=high,
        )  # fmt: skip

    def average_effect(self, *, arm: Any = None, confidence_level: float = 0.95) -> EffectResult:
        """The average effect of an arm over the rows of training, as drawn from a population.

        ``CausalForestDML`` with two arms: the mean of its doubly robust scores and their deviation over the root of
        n. Linear final stages: the mean of the effects; the variance is that of the coefficients at the mean
        covariates (EconML's ``ate_inference``), which holds for these very rows, plus the variance of the effects over
        n, for the rows are a sample. The mean of a linear effect is the average effect only where effects are linear.

        Raises
        ------
        TreatmentError
            For an unknown arm, or none where there are several.
        CausalRecError
            For estimators that know the errors of single effects but not how these go together (EconML's
            ``ate_inference`` then gives an upper bound only), and after a fit with weights or groups.
        """
        level = check_confidence_level(confidence_level)
        if not hasattr(self, "models_"):
            raise NotFittedError("this EconMLLearner is not fitted yet; call fit first.")
        if arm is None and len(self.labels_) > 2:
            raise TreatmentError(f"there are {len(self.labels_)} arms; say which: {list_some(self.labels_[1:])}.")
        if arm is not None and arm not in self.labels_[1:]:
            raise TreatmentError(f"arm={arm!r} is no arm other than control; expected {list_some(self.labels_[1:])}.")
        average = self._average
        if isinstance(average, str):
            raise CausalRecError(f"{self.models_.name}: {average}; {_AIPW}.")
        at = 0 if arm is None else self.labels_.index(arm) - 1
        return effect_result(
            float(average.estimate[at]), float(average.std_error[at]), confidence_level=level,
            n_obs=self.models_.n_obs, method=f"{self.models_.name}, {average.method}", estimand="ate",
        )  # fmt: skip

    def _fit_all(self, training: Training, nuisance: Nuisances | None) -> EconMLLearner:
        super()._fit_all(training, nuisance)
        self._average = _average(self.models_, training)
        return self

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> _Fitted:  # noqa: ARG002
        estimator = configured(self.estimator, training, self.random_state)
        X = matrix(training.view().covariates, estimator)
        with quiet:
            try:
                fit_estimator(estimator, X, training)
            except CausalRecError:
                raise
            except (AssertionError, AttributeError, TypeError, ValueError) as error:
                raise CausalRecError(
                    f"EconML's {name_of(estimator)} cannot be fitted on these data: {error}"
                ) from error
        return _Fitted(estimator, name_of(estimator), len(training.y), training.groups is not None)

    def _effects(self, models: _Fitted, view: View, n_arms: int) -> FloatArray:
        X = matrix(view.covariates, models.estimator)
        with quiet:
            found = (
                models.estimator.predict(X)
                if is_forest(models.estimator)
                else models.estimator.const_marginal_effect(X)
            )
        return np.asarray(found, dtype=np.float64).reshape(view.n_rows, n_arms - 1)

    def _check_given(self) -> None:
        raise CausalRecError(
            "EconML fits nuisances of its own and takes none from outside. Leave the nuisance out (a known propensity "
            "is taken), or use RLearner or DRLearner, which accept it."
        )

    def _effect_models(self) -> list[Any]:
        return effect_models(self.estimator)

    def _takes_weights(self) -> bool:
        return "sample_weight" in inspect.signature(self.estimator.fit).parameters


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A fitted copy of the estimator, and what must be known to say which errors are honest."""

    estimator: Any
    name: str
    n_obs: int
    grouped: bool


@dataclass(frozen=True, eq=False)
class _Average:
    """Average effects of each arm but control, shape (k - 1,)."""

    estimate: FloatArray
    std_error: FloatArray
    method: str


def _intervals(estimator: Any, X: FloatArray, level: float) -> tuple[Any, Any, Any, Any] | None:
    """Estimates, errors and ends of the intervals; None where the estimator has no errors."""
    with quiet:
        if is_forest(estimator):
            if not estimator.inference:
                return None
            point, low, high = estimator.predict(X, interval=True, alpha=1 - level)
            return point, estimator.prediction_stderr(X), low, high
        if getattr(estimator, "_inference", None) is None:
            return None
        found = estimator.const_marginal_effect_inference(X)
        if found.stderr is None:
            return None
        low, high = found.conf_int(alpha=1 - level)
        return found.point_estimate, found.stderr, low, high


def _inference_of(estimator: Any) -> tuple[str, str]:
    """Where the errors come from, and what the intervals cover."""
    kinds = families(estimator)
    if kinds & {"StatsModelsCateEstimatorMixin", "StatsModelsCateEstimatorDiscreteMixin"}:
        return "HC1 errors of its final stage", "the effect, as far as a linear model can express it"
    if kinds & {"DebiasedLassoCateEstimatorMixin", "DebiasedLassoCateEstimatorDiscreteMixin"}:
        return "errors of the debiased lasso", "the effect, as far as a sparse linear model can express it"
    if kinds & {"CausalForestDML", "ForestDRLearner", "CausalForest", "BaseOrthoForest"}:
        return "bootstrap of little bags", "the effect, where the forest has rows enough to follow it"
    return "errors of its final model", "the effect, as far as the final model can express it"


def _average(fitted: _Fitted, training: Training) -> _Average | str:
    """Average effects with their errors, or why there are none."""
    estimator = fitted.estimator
    if training.groups is not None or training.weight is not None:
        return f"its average effect knows no {'groups' if training.groups is not None else 'weights'}"
    if "CausalForestDML" in families(estimator):
        if training.n_arms > 2:
            return (
                "the error of its average effects holds for two arms only (it divides by the rows of all arms at once)"
            )
        if not estimator.drate:
            return "it was made with drate=False, without an average effect"
        return _Average(
            np.ravel(estimator.ate_), np.ravel(estimator.ate_stderr_), "mean of doubly robust scores of the rows"
        )
    inference = getattr(estimator, "_inference", None)
    if inference is None or (
        "LinearModelFinalCateEstimatorMixin" not in families(estimator)
        and ("LinearModelFinalCateEstimatorDiscreteMixin" not in families(estimator))
    ):
        return "it has no error of an average effect, or an upper bound of it only"
    X = matrix(training.view().covariates, estimator)
    with quiet:
        found = estimator.const_marginal_effect_inference(X)
    if found.mean_pred_stderr is None or found.stderr is None:
        return "it has no error of an average effect"
    effects = np.asarray(found.point_estimate).reshape(len(X), -1)
    spread = effects.var(axis=0, ddof=1) / len(effects)
    return _Average(
        effects.mean(axis=0), np.sqrt(np.ravel(found.mean_pred_stderr) ** 2 + spread),
        "mean of linear effects, error of coefficients and of the sample of rows",
    )  # fmt: skip
