"""What all uplift learners share: checks, the fit on shared covariates, out-of-fold effects, scikit-learn's manners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import CovariateForm, check_treatment, check_vector, check_weights
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import Nuisances, fit_nuisances, known_propensity, make_folds, r_loss
from causalrec.nuisance.crossfit import check_arm_weights
from causalrec.nuisance.fitting import SharedCovariates, effect_base, mean_importances
from causalrec.nuisance.folds import check_arm_rows, check_groups


@dataclass(frozen=True, eq=False)
class View:
    """Some rows of covariates, for prediction."""

    shared: SharedCovariates
    index: IntArray | None = None

    @property
    def covariates(self) -> Any:
        """The covariates of these rows."""
        return self.shared.take(self.index)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.shared.n_rows if self.index is None else len(self.index)

    def predict(self, model: Any) -> FloatArray:
        """Expected outcomes by a model of these covariates, shape (m,)."""
        return self.shared.predict(model, self.index)


@dataclass(frozen=True, eq=False)
class Training:
    """Checked rows to train on: all arrays have a value for each of ``index``."""

    shared: SharedCovariates
    index: IntArray | None
    y: FloatArray
    codes: IntArray
    labels: tuple[Any, ...]
    weight: FloatArray | None
    propensity: FloatArray | None
    groups: IntArray | None
    all_codes: IntArray  # of all rows of the shared covariates
    all_weight: FloatArray | None
    _rows: dict[int, IntArray] = field(default_factory=dict)

    @property
    def n_arms(self) -> int:
        """Arms, control among them."""
        return len(self.labels)

    def arm(self, code: int) -> IntArray:
        """Positions, within these arrays, of an arm's rows."""
        if code not in self._rows:
            self._rows[code] = np.flatnonzero(self.codes == code)
        return self._rows[code]

    def take(self, inside: IntArray) -> Training:
        """Some of these rows, by position."""

        def pick(values: Any) -> Any:
            return None if values is None else values[inside]

        return replace(
            self, index=inside if self.index is None else self.index[inside], y=self.y[inside],
            codes=self.codes[inside], weight=pick(self.weight), propensity=pick(self.propensity),
            groups=pick(self.groups), _rows={},
        )  # fmt: skip

    def fit(
        self,
        base: Any,
        target: FloatArray,
        *,
        inside: IntArray | None = None,
        weight: FloatArray | None = None,
        common_bins: bool = True,
    ) -> Any:
        """A fitted clone of ``base``; ``inside`` are positions, with a target and weight for each; all by default."""
        rows = self.index if inside is None else inside if self.index is None else self.index[inside]
        return self.shared.fit(base, target, rows=rows, weight=weight, common_bins=common_bins)

    def forget(self, inside: IntArray) -> None:
        """Let go of what fits on some of these rows share: no further one comes."""
        self.shared.forget_rows(inside if self.index is None else self.index[inside])

    def view(self, inside: IntArray | None = None) -> View:
        """Some of these rows, for prediction; all by default."""
        return View(self.shared, self.index if inside is None else inside if self.index is None else self.index[inside])


class UpliftLearner(BaseEstimator):
    """Base of all learners. A subclass says how models are fitted on checked rows and what effects they predict."""

    control: Any
    n_folds: int
    random_state: int
    n_jobs: int | None
    _uses_nuisance: ClassVar[bool] = True  # where it is given

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        treatment: Any,
        propensity: Any = None,
        sample_weight: Any = None,
        nuisance: Nuisances | None = None,
        groups: Any = None,
    ) -> Self:
        """Fit on all rows.

        Parameters
        ----------
        X : frame or array of shape (n, p)
            A frame (pandas, or Polars) may hold categories and missing values if the base learner takes them; the
            default one does.
        y : array of shape (n,)
        treatment : array of shape (n,)
            0/1, or labels with ``control``.
        propensity : float, array of shape (n,) or (n, k), or mapping of arms to shares, optional
            Known by design: of two arms P(treated). No model of it is fitted then.
        sample_weight : array of shape (n,), optional
        nuisance : Nuisances, optional
            Of the same rows, from :func:`causalrec.nuisance.fit_nuisances`: its models are used and none is fitted
            anew. It brings its own propensity, weights and groups.
        groups : array of shape (n,), optional
            Rows that belong together, such as those of one user, lie in one fold.

        Raises
        ------
        TreatmentError
            For one arm, missing values, or an arm with too few rows or no weight.
        OutcomeError
            For missing outcomes, or a classifier and outcomes other than 0 and 1.
        OverlapError
            For a propensity of 0 or 1.
        ColumnError
            For text columns and the default base learner, or names used twice.
        CausalRecError
            For weights and a base learner that takes none, or a nuisance of other rows.
        """
        training, nuisance = self._prepared(X, y, treatment, propensity, sample_weight, nuisance, groups)
        return self._fit_all(training, nuisance)

    def fit_predict(
        self,
        X: Any,
        y: Any,
        *,
        treatment: Any,
        propensity: Any = None,
        sample_weight: Any = None,
        nuisance: Nuisances | None = None,
        groups: Any = None,
    ) -> FloatArray:
        """Fit, and predict the effect of every row out of fold: no row is scored by a model that saw it.

        The folds are those of ``nuisance`` if it is given. Models of the second stage, and the nuisances that they
        are fitted on, leave the fold out altogether (:meth:`Nuisances.leaving_out`). The learner is fitted on all
        rows besides, for ``predict``.

        Parameters are those of :meth:`fit`.

        Returns
        -------
        array of shape (n,) for two arms, (n, k - 1) for k
        """
        training, nuisance = self._prepared(X, y, treatment, propensity, sample_weight, nuisance, groups)
        effects = self._out_of_fold(training, nuisance)
        self._fit_all(training, nuisance)
        return _flat(effects)

    def predict(self, X: Any) -> FloatArray:
        """Predicted effects: shape (n,) for two arms, (n, k - 1) for k, in the order of ``labels_[1:]``.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ColumnError
            When the columns or categories are not those of ``fit`` (a frame's columns may come in any order).
        """
        view = self._view(X)
        return _flat(self._effects(self.models_, view, len(self.labels_)))

    def predict_interval(self, X: Any, *, confidence_level: float = 0.95) -> Any:  # noqa: ARG002
        """Pointwise intervals: a learner on arbitrary base models has none of its own, and says so.

        Raises
        ------
        CausalRecError
            Always; the message names the ways that are honest.
        """
        raise CausalRecError(
            f"{type(self).__name__} has no pointwise intervals of its own: they depend on the base learner. Use "
            "bootstrap_intervals with a smooth base learner, EconMLLearner(CausalForestDML()), or intervals of groups "
            "and projections: group_average_effects and best_linear_projection."
        )

    def score(self, X: Any, y: Any, *, treatment: Any, propensity: Any = None, sample_weight: Any = None) -> float:
        """Minus the R-loss of the predicted effects on these rows: larger is better.

        The nuisances are fitted on these rows by default models, the same for every learner and setting, so that
        ``GridSearchCV`` compares like with like. :func:`causalrec.uplift.compare_learners` fits them once.
        """
        uplift = self.predict(X)
        nuisance = fit_nuisances(
            X, y, treatment=treatment, control=self.labels_[0], propensity=propensity, sample_weight=sample_weight
        )
        return -float(r_loss(uplift, nuisance))

    @property
    def feature_importances_(self) -> FloatArray:
        """Mean importances of the models that say what the effect depends on, shape (p,); only where they have some."""
        return mean_importances(self._importance_models(self.models_))[: self.n_features_in_]

    @abstractmethod
    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> Any:
        """Fit on checked rows; what comes back is ``models_``."""

    @abstractmethod
    def _effects(self, models: Any, view: View, n_arms: int) -> FloatArray:
        """Effects of shape (m, k - 1)."""

    def _importance_models(self, models: Any) -> Sequence[Any]:
        found: Sequence[Any] = models
        return found

    def _needs_nuisance(self, training: Training) -> bool:  # noqa: ARG002
        """Whether nuisances are fitted where none are given."""
        return False

    def _check_given(self) -> None:
        """Raise where a parameter asks for models that a given nuisance brings along."""
        given = [n for n in ("outcome_model", "propensity_model") if getattr(self, n, None) is not None]
        if given:
            raise CausalRecError(
                f"{type(self).__name__} was given {' and '.join(given)}, and a nuisance that brings these models "
                "fitted. Pass them to fit_nuisances, or leave the nuisance out."
            )

    def _fit_nuisance(self, training: Training) -> Nuisances:
        return fit_nuisances(
            training.shared if training.index is None else training.view().covariates, training.y,
            treatment=training.codes, control=0, propensity=training.propensity, sample_weight=training.weight,
            groups=training.groups, outcome_model=self._outcome_model(), propensity_model=self.propensity_model,
            joint_outcome=getattr(self, "joint_outcome", False), n_folds=self.n_folds, calibration=self.calibration,
            clip=self.clip, random_state=self.random_state,
            n_jobs=self.n_jobs,
        )  # fmt: skip

    def _outcome_model(self) -> Any:
        own = getattr(self, "outcome_model", None)
        return self.base_learner if own is None else own

    def _fit_all(self, training: Training, nuisance: Nuisances | None) -> Self:
        self.models_ = self._fit_models(training, nuisance)
        self.labels_, self.nuisance_ = training.labels, nuisance
        self._form = CovariateForm.of(training.shared.X)
        self.n_features_in_ = self._form.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if self._form.names is not None:
            self.feature_names_in_ = self._form.names
        return self

    def _out_of_fold(self, training: Training, nuisance: Nuisances | None) -> FloatArray:
        fold = self._folds(training) if nuisance is None else nuisance.fold
        found = np.empty((len(training.y), training.n_arms - 1))
        for k in range(int(fold.max()) + 1):
            held, rest = np.flatnonzero(fold == k), training.take(np.flatnonzero(fold != k))
            part = None if nuisance is None or not self._uses_nuisance else nuisance.leaving_out(k, training.shared)
            models = self._fit_models(rest, part)
            found[held] = self._effects(models, training.view(held), training.n_arms)
        return found

    def _folds(self, training: Training) -> IntArray:
        return make_folds(
            training.codes, self.n_folds, labels=training.labels, groups=training.groups,
            random_state=self.random_state,
        )  # fmt: skip

    def _prepared(
        self,
        X: Any,
        y: Any,
        treatment: Any,
        propensity: Any,
        sample_weight: Any,
        nuisance: Nuisances | None,
        groups: Any,
    ) -> tuple[Training, Nuisances | None]:
        """Checked rows, with the nuisances that the learner needs."""
        control = self.control
        if nuisance is not None:
            self._check_given()
            control = nuisance.labels[0] if control is None else control
        shared = SharedCovariates(X) if nuisance is None else nuisance.covariates(X)
        n = shared.n_rows
        outcome = check_vector(y, name="y", n_rows=n)
        codes, labels = check_treatment(treatment, n_rows=n, control=control)
        weight = None if sample_weight is None else check_weights(sample_weight, n_rows=n)
        known = None if propensity is None else known_propensity(propensity, labels, n_rows=n)
        training = Training(
            shared, None, outcome, codes, labels, weight, known, check_groups(groups, n_rows=n), codes, weight
        )  # fmt: skip
        check_arm_rows(dict(zip(labels, np.bincount(codes, minlength=len(labels)).tolist(), strict=True)))
        if nuisance is not None:
            return _with_nuisance(training, nuisance), nuisance
        check_arm_weights(codes, labels, weight)
        if not self._needs_nuisance(training):
            return training, None
        nuisance = self._fit_labelled(training)
        return _same_arrays(training, nuisance), nuisance

    def _fit_labelled(self, training: Training) -> Nuisances:
        return replace(self._fit_nuisance(training), labels=training.labels)

    def _view(self, X: Any) -> View:
        if not hasattr(self, "models_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first.")
        return View(SharedCovariates(self._form.apply(X)))


class EffectLearner(UpliftLearner):
    """Base of the learners that fit models of the effect itself."""

    base_learner: Any
    effect_model: Any

    def _effect_base(self) -> Any:
        own = self.base_learner if self.effect_model is None else self.effect_model
        return effect_base(own, random_state=self.random_state, n_jobs=self.n_jobs)


class ScoreLearner(EffectLearner):
    """Base of the learners that regress what cross-fitted nuisances make of each row; a model for each arm."""

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> list[Any]:
        return self._fit_effects(training, self._fit_nuisance(training) if nuisance is None else nuisance)

    @abstractmethod
    def _fit_effects(self, training: Training, nuisance: Nuisances) -> list[Any]:
        """Effect models, one for each arm but control."""

    def _effects(self, models: Any, view: View, n_arms: int) -> FloatArray:  # noqa: ARG002
        return np.column_stack([view.predict(model) for model in models])

    def _needs_nuisance(self, training: Training) -> bool:  # noqa: ARG002
        return True


def _flat(effects: FloatArray) -> FloatArray:
    return effects[:, 0] if effects.shape[1] == 1 else effects


def _with_nuisance(training: Training, nuisance: Nuisances) -> Training:
    """The rows with the weights, groups and known propensity of their nuisances, after checking that they are the same.

    Raises
    ------
    CausalRecError
        When outcome, treatment, weights or propensity differ.
    """
    given = {"weight": "sample_weight", "propensity": "propensity", "groups": "groups"}
    differing = [
        name for name, same in (
            ("labels", training.labels == nuisance.labels),
            ("y", np.array_equal(training.y, nuisance.y)),
            ("treatment", np.array_equal(training.codes, nuisance.codes)),
            ("sample_weight", _same(training.weight, nuisance.sample_weight)),
            ("propensity", _same(training.propensity, nuisance.propensity)),
            ("groups", _same(training.groups, nuisance.groups)),
        ) if not same
    ]  # fmt: skip
    if differing:
        raise CausalRecError(
            f"the nuisance is of other data: {', '.join(differing)} differ. Pass the same rows in the same order to "
            f"fit_nuisances, and {', '.join(given.values())} there only."
        )
    return replace(
        _same_arrays(training, nuisance), weight=nuisance.sample_weight, all_weight=nuisance.sample_weight,
        groups=nuisance.groups, propensity=nuisance.propensity if nuisance.propensity_known else None,
    )  # fmt: skip


def _same_arrays(training: Training, nuisance: Nuisances) -> Training:
    """The rows, whose arrays are those of the nuisances rather than equal ones."""
    return replace(training, y=nuisance.y, codes=nuisance.codes, all_codes=nuisance.codes)


def _same(given: FloatArray | IntArray | None, known: FloatArray | IntArray | None) -> bool:
    return given is None or (known is not None and np.array_equal(given, known))
