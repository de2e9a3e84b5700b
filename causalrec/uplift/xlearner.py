"""The X-learner: effects imputed in each arm by the other arm's outcome model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from causalrec._typing import FloatArray
from causalrec.nuisance import Nuisances
from causalrec.nuisance.fitting import MeanModel, outcome_base
from causalrec.nuisance.propensity import arm_probabilities, fit_propensity_models, propensity_base
from causalrec.uplift.base import EffectLearner, Training, View
from causalrec.uplift.tlearner import fit_arms, fit_on_arm

_Others: TypeAlias = dict[tuple[int, int], FloatArray]  # by the arm of the rows and that of the model


@dataclass(frozen=True, eq=False)
class XModels:
    """What an X-learner has fitted: models of the effect on each arm's own rows, and the weights between them.

    ``of_treated`` and ``of_control`` hold a model for each arm but control; ``shares`` are the arms' probabilities
    where they are the same for all, else None and ``propensity`` the models of P(arm given X).
    """

    of_treated: tuple[Any, ...]
    of_control: tuple[Any, ...]
    shares: tuple[float, ...] | None
    propensity: tuple[Any, ...]


class XLearner(EffectLearner):
    """Impute each row's effect by the other arm's outcome model, and regress it (Künzel et al. 2019, PNAS 116).

    Treated rows show y - μ_0(x), control rows μ_1(x) - y; the effect is e(x) τ_control(x) + (1 - e(x)) τ_treated(x).
    Strong where one arm is much larger than the other. The outcome models never saw the rows they impute: they are
    the other arm's.

    Parameters
    ----------
    base_learner : scikit-learn regressor, optional
        Used for outcomes and effects. By default boosted trees.
    outcome_model : scikit-learn classifier or regressor, optional
        Of the outcome of each arm; ``base_learner`` by default.
    effect_model : scikit-learn regressor, optional
        Of the effect; ``base_learner`` by default.
    propensity_model : scikit-learn classifier, optional
        Of the treatment; boosted trees by default.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_folds : int
        Folds of ``fit_predict``.
    random_state : int
    n_jobs : int, optional
        Threads of the default base learners.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    models_ : XModels
    n_features_in_, feature_names_in_, feature_importances_ : as in :class:`TLearner`

    Notes
    -----
    The propensity only weighs two estimates of the same effect. One that is known row by row, which no model can carry
    to new rows, weighs by its mean.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> from sklearn.linear_model import LinearRegression
    >>> learner = XLearner(LinearRegression()).fit(X, X[:, 0] * (1 + treatment), treatment=treatment, propensity=0.5)
    >>> np.abs(learner.predict(X) - X[:, 0]).max() < 1e-9
    np.True_
    """

    def __init__(
        self,
        base_learner: Any = None,
        *,
        outcome_model: Any = None,
        effect_model: Any = None,
        propensity_model: Any = None,
        control: object = None,
        n_folds: int = 5,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.base_learner = base_learner
        self.outcome_model = outcome_model
        self.effect_model = effect_model
        self.propensity_model = propensity_model
        self.control = control
        self.n_folds = n_folds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit_models(self, training: Training, nuisance: Nuisances | None) -> XModels:
        base = self._effect_base()
        others = self._other_outcomes(training) if nuisance is None else _known_outcomes(training, nuisance)
        treated, control, common = [], [], nuisance is not None  # whose models have the bins of all rows
        for code in range(1, training.n_arms):
            treated.append(_fit_imputed(training, base, others.pop((code, 0)), code, 1.0, common))
            training.forget(training.arm(code))
            control.append(_fit_imputed(training, base, others.pop((0, code)), 0, -1.0, common))
        training.forget(training.arm(0))
        shares, models = self._shares(training, nuisance)
        return XModels(tuple(treated), tuple(control), shares, models)

    def _other_outcomes(self, training: Training) -> _Others:
        """Expected outcomes by arms that the row is not in."""
        base = outcome_base(self._outcome_model(), training.y, random_state=self.random_state, n_jobs=self.n_jobs)
        models = fit_arms(training, base)
        return {(arm, code): training.view(training.arm(arm)).predict(models[code]) for arm, code in _pairs(training)}

    def _shares(
        self, training: Training, nuisance: Nuisances | None
    ) -> tuple[tuple[float, ...] | None, tuple[Any, ...]]:
        if training.propensity is not None:
            mean = np.average(training.propensity, axis=0, weights=training.weight)
            return tuple(map(float, mean)), ()
        if nuisance is not None:
            columns = zip(*(fold.propensity for fold in nuisance.models), strict=True)
            return None, tuple(MeanModel(column) for column in columns)
        base = propensity_base(self.propensity_model, random_state=self.random_state, n_jobs=self.n_jobs)
        codes, weight = training.all_codes, training.all_weight
        return None, tuple(fit_propensity_models(training.shared, base, codes, training.n_arms, training.index, weight))

    def _effects(self, models: XModels, view: View, n_arms: int) -> FloatArray:
        if models.shares is not None:
            shares = np.array(models.shares)[None, :]
        else:
            shares = arm_probabilities([view.predict(model) for model in models.propensity])
        found = np.empty((view.n_rows, n_arms - 1))
        for j, (treated, control) in enumerate(zip(models.of_treated, models.of_control, strict=True)):
            share = shares[:, j + 1] / (shares[:, 0] + shares[:, j + 1])
            found[:, j] = share * view.predict(control) + (1 - share) * view.predict(treated)
        return found

    def _importance_models(self, models: XModels) -> Sequence[Any]:
        return [*models.of_treated, *models.of_control]


def _pairs(training: Training) -> list[tuple[int, int]]:
    """Every arm with control and control with every arm: whose rows, and whose model."""
    return [pair for code in range(1, training.n_arms) for pair in ((code, 0), (0, code))]


def _known_outcomes(training: Training, nuisance: Nuisances) -> _Others:
    return {(arm, code): nuisance.outcomes[training.arm(arm), code] for arm, code in _pairs(training)}


def _fit_imputed(training: Training, base: Any, other: FloatArray, code: int, sign: float, common_bins: bool) -> Any:
    """A model of the effect on the rows of an arm: the outcome less what the other arm's model expects, or reversed."""
    rows = training.arm(code)
    imputed = sign * (training.y[rows] - other)
    return fit_on_arm(training, base, imputed, code, common_bins=common_bins)
