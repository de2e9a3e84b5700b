"""DoWhy and EconML behind our results: identification, and estimators that run through DoWhy's own steps.

The only module that imports them; it is imported inside functions, since dowhy alone takes seconds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import list_some, optional_import
from causalrec.exceptions import OverlapError
from causalrec.observational.design import design_matrix, one_thread
from causalrec.observational.matching import Match, match_nearest
from causalrec.observational.propensity import fit_propensity
from causalrec.results import IdentificationResult

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party deprecations at import; restored on leaving the block
    optional_import("dowhy", extra="ate")
    from dowhy import CausalModel
    from dowhy.causal_estimator import CausalEstimate, CausalEstimator

MIN_PROPENSITY = 0.01
_FOLDS = 3
_SMALL = 5 * 10**6  # covariate values


@contextmanager
def _quiet() -> Iterator[None]:
    """DoWhy logs a line per model and warns on pandas 3 per call; both say nothing about the user's data."""
    logger = logging.getLogger("dowhy")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(level)


class PropensityMatching(CausalEstimator):
    """Our matching as a DoWhy estimator: no column is added to any frame, ties are averaged, the error is kept."""

    def __init__(self, identified_estimand: Any, **kwargs: Any) -> None:
        super().__init__(identified_estimand, **{k: v for k, v in kwargs.items() if k in ("test_significance",)})

    def fit(self, data: pd.DataFrame, effect_modifier_names: Any = None, **_: Any) -> PropensityMatching:
        """Fit the propensity on the adjustment set that DoWhy identified."""
        self._set_effect_modifiers(data, effect_modifier_names)
        adjust = set(self._target_estimand.get_adjustment_set())
        self.covariates_ = [c for c in data.columns if c in adjust]
        self.X_, self.names_ = design_matrix(data[self.covariates_])
        self.treatment_ = data[self._target_estimand.treatment_variable[0]].to_numpy(np.int64)
        try:
            self.propensity_ = fit_propensity(self.X_, treatment=self.treatment_).score
        except OverlapError as error:
            alone = [str(n) for n, x in zip(self.names_, self.X_.T, strict=True) if _one_arm_only(x, self.treatment_)]
            if not alone:
                raise
            raise OverlapError(f"{error} Values that only one arm has: {list_some(alone)}.") from error
        return self

    def estimate_effect(
        self, data: pd.DataFrame, treatment_value: Any = 1, control_value: Any = 0, target_units: Any = "ate", **_: Any
    ) -> Any:
        """Match and estimate for the asked target units."""
        self._target_units, self._treatment_value, self._control_value = target_units, treatment_value, control_value
        y = data[self._target_estimand.outcome_variable[0]].to_numpy(np.float64)
        self.match_: Match = match_nearest(self.propensity_, self.treatment_, y, estimand=str(target_units))
        estimate = CausalEstimate(
            data=data, treatment_name=self._target_estimand.treatment_variable,
            outcome_name=self._target_estimand.outcome_variable, estimate=self.match_.estimate,
            target_estimand=self._target_estimand, realized_estimand_expr="nearest neighbour on the propensity score",
            control_value=control_value, treatment_value=treatment_value,
        )  # fmt: skip
        estimate.add_estimator(self)
        return estimate

    def construct_symbolic_estimator(self, estimand: Any) -> str:  # noqa: ARG002 - DoWhy's signature
        """What DoWhy prints for the estimator."""
        return "nearest neighbour on the propensity score"


def _one_arm_only(x: Any, treatment: Any) -> bool:
    """Whether an indicator is 1 in units of one arm alone."""
    return bool(np.isin(x, (0.0, 1.0)).all()) and len(np.unique(treatment[x == 1.0])) == 1


def causal_model(frame: pd.DataFrame, treatment: str, outcome: str, covariates: Sequence[str]) -> tuple[Any, Any]:
    """A DoWhy model on a copy of the needed columns, and its estimand by maximal adjustment.

    Maximal adjustment because DoWhy's default tries subsets of the covariates: seconds at 20 of them, hours at 50.
    """
    columns = frame[[treatment, outcome, *covariates]].copy()
    with _quiet():
        model = CausalModel(columns, treatment=treatment, outcome=outcome, common_causes=list(covariates))
        return model, model.identify_effect(method_name="maximal-adjustment", proceed_when_unidentifiable=True)


def identify(
    frame: pd.DataFrame, treatment: str, outcome: str, covariates: Sequence[str], estimand: str
) -> IdentificationResult:
    """What to adjust for, by DoWhy, and what must be believed. Without covariates: a randomised treatment."""
    return describe(causal_model(frame, treatment, outcome, covariates)[1], treatment, outcome, estimand)


def describe(found: Any, treatment: str, outcome: str, estimand: str) -> IdentificationResult:
    """Write a DoWhy estimand in words.

    DoWhy's own text lists the variables in the order of a set, which differs from one run to the next.
    """
    adjust = tuple(sorted(found.get_backdoor_variables() or ()))
    population = {"ate": "all units", "att": "the treated", "atc": "the controls"}[estimand]
    interference = "no interference: one unit's treatment does not change another's outcome"
    if not adjust:
        text = f"E[{outcome} | {treatment}=1] − E[{outcome} | {treatment}=0]"
        return IdentificationResult(
            estimand, treatment, outcome, (), ("treatment was assigned at random", interference), text
        )
    assumptions = (
        "no unobserved common cause of treatment and outcome, given the variables adjusted for",
        f"overlap: {_OVERLAP[estimand]}",
        interference,
    )
    text = (
        f"mean over {population} of E[{outcome} | {treatment}=1, X] − E[{outcome} | {treatment}=0, X] "
        f"with X = ({', '.join(adjust)})"
    )
    return IdentificationResult(estimand, treatment, outcome, adjust, assumptions, text)


_OVERLAP = {
    "ate": "every unit could have been treated or not",
    "att": "every treated unit could have been left untreated",
    "atc": "every control unit could have been treated",
}


def matching_estimate(
    frame: pd.DataFrame, treatment: str, outcome: str, covariates: Sequence[str], estimand: str
) -> PropensityMatching:
    """Run :class:`PropensityMatching` by DoWhy; the fitted estimator holds match, scores and design."""
    model, found = causal_model(frame, treatment, outcome, covariates)
    name = f"backdoor.{PropensityMatching.__module__}.{PropensityMatching.__qualname__}"
    with _quiet():
        fitted: PropensityMatching = model.estimate_effect(
            found, method_name=name, target_units=estimand, method_params={"init_params": {}, "fit_params": {}}
        ).estimator
    return fitted


def doubly_robust_ate(
    frame: pd.DataFrame, treatment: str, outcome: str, covariates: Sequence[str], seed: int
) -> tuple[float, float]:
    """The average effect and its standard error by EconML's cross-fitted doubly robust learner (AIPW).

    ``LinearDRLearner`` without effect modifiers is the mean of the doubly robust scores with a robust error.

    Raises
    ------
    OverlapError
        When an arm has too few units to be split into folds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optional_import("econml", extra="ate")
        from econml.dr import LinearDRLearner
    from causalrec.observational.nuisances import OutcomeModel, PropensityModel

    W, _ = design_matrix(frame[list(covariates)])
    codes = frame[treatment].to_numpy(np.int64)
    smallest = int(np.bincount(codes, minlength=2).min())
    if smallest < 10 * _FOLDS:
        raise OverlapError(
            f"doubly_robust fits its models on {_FOLDS} folds and needs {10 * _FOLDS} units of each arm; the smaller "
            f"arm has {smallest}. Use propensity_matching, or more data."
        )
    with _quiet(), one_thread(W.size < _SMALL):
        learner = LinearDRLearner(
            model_propensity=PropensityModel(seed), model_regression=OutcomeModel(seed),
            min_propensity=MIN_PROPENSITY, cv=_FOLDS, random_state=seed,
        )  # fmt: skip
        learner.fit(frame[outcome].to_numpy(np.float64), codes, X=None, W=W)
        found = learner.intercept__inference(T=1)
        return float(found.point_estimate), float(found.stderr)
