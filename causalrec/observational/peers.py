"""The estimators of DoWhy and EconML by name; neither is imported before one is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalrec.observational._study_data import StudyData
from causalrec.observational.econml_adapter import causal_forest, econml_effect
from causalrec.observational.methods import Method, Run
from causalrec.results import AdjustedEffect

_ALL = ("ate", "att", "atc")
_MODELS = ("outcome_model", "propensity_model")
_LIMITS = ("min_ps_score", "max_ps_score")


def _by_dowhy(name: str) -> Run:
    def run(data: StudyData, estimand: str, options: dict[str, Any]) -> AdjustedEffect:
        from causalrec.observational.dowhy_methods import dowhy_effect

        return dowhy_effect(data, name, estimand, options)

    return run


def _by_econml(name: str) -> Run:
    def run(data: StudyData, estimand: str, options: dict[str, Any]) -> AdjustedEffect:
        return econml_effect(
            data.X, data.y, treatment=data.treatment, learner=name.removeprefix("econml."), estimand=estimand,
            clusters=data.clusters, confidence_level=data.confidence_level,
            **{"random_state": data.random_state, **options},
        )  # fmt: skip

    return run


def _forest(data: StudyData, estimand: str, options: dict[str, Any]) -> AdjustedEffect:
    return causal_forest(
        data.X, data.y, treatment=data.treatment, estimand=estimand, sample_weight=data.sample_weight,
        clusters=data.clusters, confidence_level=data.confidence_level,
        **{"random_state": data.random_state, **options},
    )  # fmt: skip


def _dowhy(name: str, estimands: tuple[str, ...], *options: str, adjusts: bool = True) -> Method:
    name = f"dowhy.{name}"
    return Method(name, _by_dowhy(name), (), estimands, more=options, adjusts=adjusts, weighted=False, unasked=False)


def _econml(name: str, *options: str) -> Method:
    name = f"econml.{name}"
    return Method(name, _by_econml(name), (), _ALL, more=options, weighted=False, unasked=False)


PEERS: Mapping[str, Method] = {
    method.name: method
    for method in (
        _dowhy("linear_regression", ("ato",)),
        _dowhy("generalized_linear_model", _ALL, "family"),
        _dowhy("propensity_score_matching", _ALL, "propensity_model"),
        _dowhy("propensity_score_weighting", _ALL, "propensity_model", "weighting_scheme", *_LIMITS),
        _dowhy("propensity_score_stratification", _ALL, "propensity_model", "num_strata", "clipping_threshold"),
        _dowhy("distance_matching", _ALL, "num_matches_per_unit", "distance_metric"),
        _dowhy("doubly_robust", ("ate",), "propensity_model", *_LIMITS),
        _dowhy("instrumental_variable", ("late",), adjusts=False),
        _econml("LinearDML", *_MODELS, "n_folds"),
        _econml("SparseLinearDML", *_MODELS, "n_folds"),
        Method("econml.CausalForestDML", _forest, (causal_forest,), _ALL, unasked=False),
        _econml("LinearDRLearner", *_MODELS, "n_folds"),
        _econml("ForestDRLearner", *_MODELS, "n_folds"),
        _econml("SLearner", "outcome_model"),
        _econml("TLearner", "outcome_model"),
        _econml("XLearner", *_MODELS),
        _econml("DomainAdaptationLearner", *_MODELS),
    )
}
"""Beside :data:`causalrec.observational.METHODS`; :meth:`ObservationalStudy.compare` runs them where they are named.

What they estimate, and whether they come with an error:

========================================= ============= ==============================================
name                                      estimands     standard error
========================================= ============= ==============================================
``dowhy.linear_regression``               ato           robust (HC1), or by cluster
``dowhy.generalized_linear_model``        ate, att, atc none
``dowhy.propensity_score_matching``       ate, att, atc none: no bootstrap of nearest neighbours holds
``dowhy.propensity_score_weighting``      ate, att, atc none
``dowhy.propensity_score_stratification`` ate, att, atc none
``dowhy.distance_matching``               ate, att, atc none: no bootstrap of nearest neighbours holds
``dowhy.doubly_robust``                   ate           none
``dowhy.instrumental_variable``           late          none; one instrument, no covariates
``econml.LinearDML``                      ate, att, atc EconML's, given the covariates of these units
``econml.SparseLinearDML``                ate, att, atc EconML's, given the covariates of these units
``econml.CausalForestDML``                ate, att, atc of doubly robust scores, by cluster too
``econml.LinearDRLearner``                ate, att, atc EconML's, given the covariates of these units
``econml.ForestDRLearner``                ate, att, atc EconML's upper bound
``econml.SLearner``                       ate, att, atc none
``econml.TLearner``                       ate, att, atc none
``econml.XLearner``                       ate, att, atc none
``econml.DomainAdaptationLearner``        ate, att, atc none
========================================= ============= ==============================================
"""
