"""A weighted sum of learners, with the weights that predict best: stacking on the R-loss."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone

from causalrec._typing import FloatArray
from causalrec.nuisance import Nuisances
from causalrec.uplift.base import Training, UpliftLearner, View
from causalrec.uplift.comparison import check_learners, out_of_fold_effects, settings, treatment_residuals

_NO_ROOM = 1e-9


def stack_effects(
    effects: FloatArray, residual: FloatArray, moved: FloatArray, weight: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Constants c, shape (k - 1,), and weights w >= 0, shape (m, k - 1), of the sum of effects with the lowest R-loss.

    The least squares of y - m(x) on b + Σ_a (1{t = a} - e_a) (c_a + Σ_j w_ja τ_ja), where b and c are free: Nie and
    Wager 2021, Biometrika 108, on stacking in the R-loss. Weights need not sum to one, so that learners that exaggerate
    are shrunk towards a constant effect. With more than two arms each has weights of its own.

    Parameters
    ----------
    effects : array of shape (n, k - 1, m)
        Out-of-fold effects of m learners.
    residual : array of shape (n,)
        Outcome less its expectation given the covariates.
    moved : array of shape (n, k - 1)
        1{t = a} - e_a.
    weight : array of shape (n,), optional

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tau, noise, moved = rng.normal(size=1000), rng.normal(size=1000), rng.choice([-0.5, 0.5], size=(1000, 1))
    >>> c, w = stack_effects(np.stack([tau, noise], axis=1)[:, None], moved[:, 0] * (1 + tau / 2), moved)
    >>> c.round(6).tolist(), w[:, 0].round(6).tolist()
    ([1.0], [0.5, 0.0])
    """
    n, arms, m = effects.shape
    root = np.ones((n, 1)) if weight is None else np.sqrt(weight)[:, None]
    free = np.column_stack([np.ones(n), moved]) * root
    columns = (moved[:, :, None] * effects).reshape(n, arms * m) * root
    target = residual * root[:, 0]
    Q = np.linalg.qr(free)[0]
    apart = columns - Q @ (Q.T @ columns)
    size, room = np.linalg.norm(columns, axis=0), np.linalg.norm(apart, axis=0)
    usable = room > _NO_ROOM * size  # a learner with the same effect for all is the constant's
    weights = np.zeros(arms * m)
    if usable.any():
        # The triangle of a QR decomposition has the same sums of squares in few rows.
        both = np.column_stack([apart[:, usable] / room[usable], target - Q @ (Q.T @ target)])
        R = np.asarray(np.linalg.qr(both, mode="r"))
        weights[usable] = nnls(R[:, :-1], R[:, -1])[0] / room[usable]
    constants = np.linalg.lstsq(free, target - columns @ weights)[0][1:]
    return constants, weights.reshape(arms, m).T


def combine_effects(effects: FloatArray, constants: FloatArray, weights: FloatArray) -> FloatArray:
    """c_a + Σ_j w_ja τ_ja, shape (n, k - 1), of effects of shape (n, k - 1, m)."""
    return np.asarray(constants + np.einsum("nam,ma->na", effects, weights))


class StackedLearner(UpliftLearner):
    """A constant effect plus a non-negatively weighted sum of learners, by the R-loss of their out-of-fold effects.

    The nuisances are fitted once for all learners; those with a positive weight are then fitted on all rows. If no
    learner helps, what is left is a constant effect.

    Parameters
    ----------
    learners : mapping of name to learner, or sequence of (name, learner)
        Cloned. ``set_params(name__setting=…)`` reaches into them.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    outcome_model, propensity_model, n_folds, calibration, clip
        For the nuisances: see :func:`causalrec.nuisance.fit_nuisances`. Used where none are given to ``fit``.
    random_state : int
    n_jobs : int, optional
        Threads of the default models of the nuisances.

    Attributes
    ----------
    constant_ : array of shape (k - 1,)
    weights_ : array of shape (n_learners, k - 1)
        In the order of ``learners``; they need not sum to one.
    models_ : dict of name to fitted learner
        Those with a positive weight in some arm.
    nuisance_ : Nuisances
    labels_, n_features_in_, feature_names_in_ : as in :class:`TLearner`
    feature_importances_ : array of shape (p,)
        Mean of the models' importances, each scaled to sum to one, weighted by its weights; only where all have some.

    Notes
    -----
    ``fit_predict`` takes, for each fold, weights that the other folds' rows give: short-stacking, as Ahrens,
    Hansen, Schaffer and Wiemann (2025), Journal of Applied Econometrics 40, call it. No model has seen the rows that it
    scores. Each row tells on its own weights only through the models of other rows' effects.

    Examples
    --------
    >>> from causalrec.uplift import SLearner, XLearner
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(600, 1)), rng.integers(0, 2, 600)
    >>> y = 2 * X[:, 0] * treatment + 0.1 * rng.normal(size=600)
    >>> learners = {"S": SLearner(LinearRegression()), "X": XLearner(LinearRegression())}
    >>> stack = StackedLearner(learners, outcome_model=LinearRegression())
    >>> stack.fit(X, y, treatment=treatment, propensity=0.5).weights_[:, 0].round(1).tolist()
    [0.0, 1.0]
    """

    def __init__(
        self,
        learners: Any,
        *,
        control: object = None,
        outcome_model: Any = None,
        propensity_model: Any = None,
        n_folds: int = 5,
        calibration: Any = None,
        clip: float | None = None,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.learners = learners
        self.control = control
        self.outcome_model = outcome_model
        self.propensity_model = propensity_model
        self.n_folds = n_folds
        self.calibration = calibration
        self.clip = clip
        self.random_state = random_state
        self.n_jobs = n_jobs

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
        """Fit, and give the effect of every row by models that did not see it, with weights of the other folds.

        Parameters are those of ``fit``; the shape is (n,) for two arms, (n, k - 1) for k.
        """
        training, found = self._prepared(X, y, treatment, propensity, sample_weight, nuisance, groups)
        shared = self._required(training, found)
        table = self._table(training, shared)
        effects = _stacked_across(table, shared)
        self._fit_all(training, shared, table)
        return effects[:, 0] if effects.shape[1] == 1 else effects

    @property
    def feature_importances_(self) -> FloatArray:
        """Importances of the models with a weight, scaled to sum to one, and averaged by their weights, shape (p,)."""
        if not self.models_:
            raise AttributeError("feature_importances_: no learner has a weight; the effect is constant")
        total, weights = np.zeros(self.n_features_in_), 0.0
        for (name, _), row in zip(self._named(), self.weights_, strict=True):
            if name in self.models_:
                own = np.asarray(self.models_[name].feature_importances_, dtype=np.float64)
                total += row.sum() * own / (own.sum() or 1.0)
                weights += row.sum()
        return total / weights

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Settings; with ``deep`` those of the learners too, as ``name__setting``."""
        found: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for name, learner in self._named():
                found[name] = learner
                found |= {f"{name}__{key}": value for key, value in learner.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Self:
        """Change settings; ``name=`` puts another learner in its place, ``name__setting=`` changes one of its own."""
        named = dict(check_learners(params.pop("learners", self.learners), taken=self._get_param_names()))
        self.learners = {name: params.pop(name, learner) for name, learner in named.items()}
        super().set_params(**params)
        return self

    def _named(self) -> list[tuple[str, Any]]:
        return check_learners(self.learners, taken=self._get_param_names())

    def _needs_nuisance(self, training: Training) -> bool:  # noqa: ARG002
        self._named()  # what cannot be stacked is refused before anything is fitted
        return True

    def _outcome_model(self) -> Any:
        return self.outcome_model

    def _required(self, training: Training, nuisance: Nuisances | None) -> Nuisances:
        return self._fit_labelled(training) if nuisance is None else nuisance

    def _table(self, training: Training, nuisance: Nuisances) -> FloatArray:
        """Out-of-fold effects of every learner, shape (n, k - 1, m)."""
        X, treatment = training.shared.source, _labelled(training)
        found = [out_of_fold_effects(learner, X, training.y, treatment, nuisance) for _, learner in self._named()]
        return np.stack(found, axis=2)

    def _fit_all(self, training: Training, nuisance: Nuisances | None, table: FloatArray | None = None) -> Self:
        shared = self._required(training, nuisance)
        table = self._table(training, shared) if table is None else table
        residual = shared.y - shared.mean_outcome
        moved = treatment_residuals(shared.codes, shared.propensity)
        self.constant_, self.weights_ = stack_effects(table, residual, moved, shared.sample_weight)
        return super()._fit_all(training, shared)

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> dict[str, Any]:
        shared = self._required(training, nuisance)
        models = {}
        for (name, learner), weights in zip(self._named(), self.weights_, strict=True):
            if weights.any():
                own = clone(learner)
                kept = settings(own, shared)
                models[name] = own.fit(training.shared.source, training.y, treatment=_labelled(training), **kept)
                if hasattr(own, "nuisance_"):
                    own.nuisance_ = None  # this learner keeps them, once
        return models

    def _effects(self, models: dict[str, Any], view: View, n_arms: int) -> FloatArray:
        found = np.broadcast_to(self.constant_, (view.n_rows, n_arms - 1)).copy()
        for (name, _), weights in zip(self._named(), self.weights_, strict=True):
            if name in models:
                found += weights * np.asarray(models[name].predict(view.covariates)).reshape(view.n_rows, n_arms - 1)
        return found

    def _out_of_fold(self, training: Training, nuisance: Nuisances | None) -> FloatArray:
        shared = self._required(training, nuisance)
        return _stacked_across(self._table(training, shared), shared)


def _labelled(training: Training) -> Any:
    labels = np.empty(len(training.labels), dtype=object)
    labels[:] = training.labels
    return labels[training.codes]


def _stacked_across(table: FloatArray, nuisance: Nuisances) -> FloatArray:
    """Effects of each fold's rows with the weights that the other folds give, shape (n, k - 1)."""
    residual = nuisance.y - nuisance.mean_outcome
    moved = treatment_residuals(nuisance.codes, nuisance.propensity)
    found = np.empty_like(moved)
    for number in np.unique(nuisance.fold):
        held, rest = nuisance.fold == number, nuisance.fold != number
        weight = None if nuisance.sample_weight is None else nuisance.sample_weight[rest]
        constants, weights = stack_effects(table[rest], residual[rest], moved[rest], weight)
        found[held] = combine_effects(table[held], constants, weights)
    return found
