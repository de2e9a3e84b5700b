"""Average effects by EconML's double machine learning and causal forests; econml is imported inside functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from causalrec._threads import one_thread
from causalrec._typing import FloatArray
from causalrec._validation import list_some, nearest, optional_import
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance import BoostedClassifier, BoostedRegressor
from causalrec.nuisance.folds import make_folds
from causalrec.nuisance.scores import average_of_scores, effect_influence
from causalrec.observational._inputs import Sample, asked, read_sample
from causalrec.observational._shield import shielded
from causalrec.observational._support import check_levels, check_separation
from causalrec.observational.design import as_design, check_estimand
from causalrec.observational.doubly_robust import inverse_weights
from causalrec.results import AdjustedEffect

_SMALL = 5_000_000  # covariate values
_TREES_APART = 4  # EconML grows trees in small forests of as many


def dml(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    estimand: str = "ato",
    outcome_model: Any = None,
    propensity_model: Any = None,
    n_folds: int = 5,
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> AdjustedEffect:
    r"""The coefficient of a partially linear model by double machine learning, through EconML's ``LinearDML``.

    Chernozhukov et al. 2018, Econometrics Journal 21, "Double/debiased machine learning", section 4.1: of the outcome
    and the treatment what covariates say is taken away, out of fold, and what remains of the one is regressed on what
    remains of the other. Where effects differ between units, that averages them with weights e(1 - e): those of the
    overlap, ``"ato"``, and no other estimand. :func:`aipw` and :func:`causal_forest` give ate, att and atc.

    Parameters
    ----------
    X : frame or array of shape (n, p)
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    control : label, optional
    estimand : {"ato"}
    outcome_model : scikit-learn regressor, optional
        Of E[y given X], both arms together; boosted trees by default.
    propensity_model : scikit-learn classifier, optional
        Boosted trees by default.
    n_folds : int
    sample_weight, clusters : arrays of shape (n,), optional
        Units of one cluster share a fold and are one in the error.
    confidence_level : float
    random_state : int
        Seeds the folds and the default models.

    Returns
    -------
    AdjustedEffect
        With the propensity out of fold and overlap weights.

    Raises
    ------
    MissingExtraError
        Without econml.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values and settings that are not allowed.

    Examples
    --------
    The examples of this module run in the slow tests, as importing econml takes seconds.

    >>> from sklearn.linear_model import LinearRegression, LogisticRegression  # doctest: +SKIP
    >>> models = {"outcome_model": LinearRegression(), "propensity_model": LogisticRegression()}  # doctest: +SKIP
    >>> dml(x, y, treatment=treatment, **models).estimate  # doctest: +SKIP
    """
    sample, matrix = _read(X, y, treatment, control, sample_weight, clusters, confidence_level, what="dml")
    if estimand != "ato":
        raise CausalRecError(
            f"estimand is {estimand!r}, but dml averages effects by the overlap of the arms: 'ato'. Use aipw or "
            "causal_forest for ate, att or atc."
        )
    with _quiet(), one_thread(matrix.size < _SMALL):
        optional_import("econml", extra="ate")
        from econml.dml import LinearDML

        learner = LinearDML(**_settings(sample, outcome_model, propensity_model, n_folds, random_state))
        learner.fit(sample.y, sample.treatment, X=None, W=matrix, cache_values=True, **_weights(sample))
        score, rest, gap = _residuals(learner, sample)
    check_separation(score, sample.treatment)
    weight = sample.weight * gap
    estimate = float(weight @ rest) / float(weight @ gap)
    influence = weight * (rest - estimate * gap) / float(weight @ gap)
    implied = sample.weight * np.where(sample.treatment == 1, 1 - score, score)
    return sample.effect(
        estimate, sample.error(influence), estimand=estimand, weights=implied, propensity=score,
        method=f"double machine learning (EconML LinearDML), {n_folds} folds, robust error",
    )  # fmt: skip


def causal_forest(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    estimand: str = "ate",
    outcome_model: Any = None,
    propensity_model: Any = None,
    n_folds: int = 5,
    n_trees: int = 500,
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> AdjustedEffect:
    """The doubly robust average of a causal forest's effects, through EconML's ``CausalForestDML``.

    Athey and Wager 2019, Observational Studies 5, "Estimating treatment effects with causal forests", section 2. With
    m, e and τ of models and trees that did not see the unit, the outcomes expected are m - e τ and m + (1 - e) τ;
    their AIPW scores are averaged as in :func:`aipw`. For the ate that is EconML's own ``ate_``. Its ``att_`` is
    not used: that averages over the treated the score of the ate, which corrects only half of what τ gets wrong.

    Parameters
    ----------
    X, y, treatment, control, outcome_model, propensity_model, n_folds, sample_weight, clusters, random_state
        As in :func:`dml`.
    estimand : {"ate", "att", "atc"}
    n_trees : int
        A multiple of 4.
    confidence_level : float

    Returns
    -------
    AdjustedEffect
        With the propensity out of fold and the inverse propensity weights.

    Raises
    ------
    MissingExtraError
        Without econml.
    OverlapError
        When some propensity is 0 or 1.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values and settings that are not allowed.
    """
    sample, matrix = _read(X, y, treatment, control, sample_weight, clusters, confidence_level, what="causal_forest")
    check_estimand(estimand)
    check_levels(X, sample.treatment, estimand)
    if n_trees < _TREES_APART or n_trees % _TREES_APART:
        raise CausalRecError(f"n_trees is {n_trees!r}; expected a multiple of {_TREES_APART}, such as 500.")
    with _quiet(), one_thread(matrix.size < _SMALL):
        optional_import("econml", extra="ate")
        from econml.dml import CausalForestDML

        learner = CausalForestDML(
            **_settings(sample, outcome_model, propensity_model, n_folds, random_state),
            n_estimators=n_trees, n_jobs=1, inference=False,
        )  # fmt: skip
        learner.fit(sample.y, sample.treatment, X=matrix, cache_values=True, **_weights(sample))
        score, rest, _ = _residuals(learner, sample)
        effects = np.asarray(learner.model_cate.oob_predict(matrix)).ravel()
    check_separation(score, sample.treatment)
    return _forest_effect(sample, score, sample.y - rest, effects, estimand, n_folds, n_trees)


def _forest_effect(
    sample: Sample, score: FloatArray, mean: FloatArray, effects: FloatArray, estimand: str, n_folds: int, n_trees: int
) -> AdjustedEffect:
    """The average by doubly robust scores, from P(treated), E[y given X] and effects of each unit, out of sample."""
    certain = int(((score <= 0) | (score >= 1)).sum())
    if certain:
        raise OverlapError(
            f"the fitted propensity is exactly 0 or 1 for {certain} of {len(score)} units: these have no comparison. "
            "Drop them, or use another propensity_model."
        )
    if np.isnan(effects).any():
        raise CausalRecError(
            f"{int(np.isnan(effects).sum())} units are in the sample of every tree and have no effect out of it; use "
            "more trees."
        )
    outcomes = np.column_stack([mean - score * effects, mean + (1 - score) * effects])
    arms = np.column_stack([1 - score, score])
    top, bottom = effect_influence(sample.y, sample.treatment, outcomes, arms, estimand=estimand)  # type: ignore[arg-type]
    estimate, std_error = average_of_scores(top, bottom, weight=sample.weight, clusters=sample.clusters)
    return sample.effect(
        estimate, std_error, estimand=estimand, propensity=score,
        weights=sample.weight * inverse_weights(sample.treatment, score, estimand)[0],
        method=f"causal forest (EconML), {n_trees} trees, {n_folds} folds, doubly robust average",
    )  # fmt: skip


def econml_effect(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    learner: str,
    control: Any = None,
    estimand: str = "ate",
    outcome_model: Any = None,
    propensity_model: Any = None,
    n_folds: int = 5,
    clusters: Any = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> AdjustedEffect:
    """The mean of the effects that a learner of EconML predicts for the units that the estimand is of.

    DoWhy's adapter of EconML averages over all units whatever ``target_units`` says; here the att is the mean over the
    treated. The error is EconML's ``ate_inference`` of these units: it takes their covariates as given. Of a forest,
    EconML has an upper bound; of meta-learners nothing, and the error is NaN. :func:`dml` and :func:`causal_forest`
    have errors of their own, which count the sampling of units and clusters.

    Parameters
    ----------
    X, y, treatment, control, outcome_model, propensity_model, n_folds, random_state
        As in :func:`dml`. Meta-learners have no folds.
    learner : str
        One of ``LEARNERS``: ``"LinearDML"``, ``"LinearDRLearner"``, ``"TLearner"``, …
    estimand : {"ate", "att", "atc"}
    clusters : optional
        An error: none of these learners' errors knows them.

    Raises
    ------
    MissingExtraError
        Without econml.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values, clusters, an unknown learner, and settings that are not allowed.
    """
    if learner not in LEARNERS:
        raise CausalRecError(
            f"learner is {learner!r}; expected one of {list_some(LEARNERS, 20)}.{nearest(str(learner), LEARNERS)}"
        )
    if clusters is not None:
        raise CausalRecError(f"EconML's {learner} has no error by clusters; use dml, causal_forest or aipw.")
    sample, matrix = _read(X, y, treatment, control, None, None, confidence_level, what=learner)
    check_estimand(estimand)
    check_levels(X, sample.treatment, estimand)
    units = matrix[asked(sample.treatment, estimand) == 1]
    with shielded(np.random.SeedSequence(random_state)), one_thread(matrix.size < _SMALL):
        fitted = _fit_learner(learner, sample, matrix, outcome_model, propensity_model, n_folds, random_state)
        estimate = float(np.mean(fitted.effect(units)))
        inferred = LEARNERS[learner].inferred
        error = float(np.ravel(fitted.ate_inference(units).stderr_mean)[0]) if inferred else float("nan")
    return sample.effect(
        estimate, error, estimand=estimand, method=f"EconML {learner}, mean predicted effect; {LEARNERS[learner].text}"
    )


class _Learner(NamedTuple):
    module: str
    inferred: bool
    text: str


_GIVEN = "EconML's error, given the covariates of these units"
_META = "no error, as EconML has none but a bootstrap"
LEARNERS: Mapping[str, _Learner] = {
    "LinearDML": _Learner("dml", True, _GIVEN),
    "SparseLinearDML": _Learner("dml", True, _GIVEN),
    "LinearDRLearner": _Learner("dr", True, _GIVEN),
    "ForestDRLearner": _Learner("dr", True, "EconML's upper bound of the error"),
    "SLearner": _Learner("metalearners", False, _META),
    "TLearner": _Learner("metalearners", False, _META),
    "XLearner": _Learner("metalearners", False, _META),
    "DomainAdaptationLearner": _Learner("metalearners", False, _META),
}
"""Learners by name: where EconML has them, whether it infers an average effect, and what to say of the error."""


def _fit_learner(
    name: str, sample: Sample, matrix: FloatArray, outcome: Any, propensity: Any, n_folds: int, random_state: int
) -> Any:
    """A learner fitted; its models are copies of those given, or boosted trees."""
    optional_import("econml", extra="ate")
    kind = getattr(import_module(f"econml.{LEARNERS[name].module}"), name)
    settings = _settings(sample, outcome, propensity, n_folds, random_state)
    model, score = clone(settings["model_y"]), clone(settings["model_t"])
    given: dict[str, Any] = {
        "SLearner": {"overall_model": model},
        "TLearner": {"models": model},
        "XLearner": {"models": model, "propensity_model": score},
        "DomainAdaptationLearner": {"models": model, "final_models": model, "propensity_model": score},
    }.get(name, {})
    if LEARNERS[name].module == "dml":
        given = settings
    elif LEARNERS[name].module == "dr":
        given = {
            "model_regression": model, "model_propensity": score, "cv": settings["cv"], "random_state": random_state,
        }  # fmt: skip
    return kind(**given).fit(sample.y, sample.treatment, X=matrix)


def _read(
    X: Any, y: Any, treatment: Any, control: Any, sample_weight: Any, clusters: Any, confidence_level: float, what: str
) -> tuple[Sample, FloatArray]:
    matrix, _ = as_design(X)
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what=what, n_rows=len(matrix),
    )  # fmt: skip
    return sample, matrix


def _settings(sample: Sample, outcome: Any, propensity: Any, n_folds: int, random_state: int) -> dict[str, Any]:
    """What both estimators are given: models, and folds that keep arms even and clusters together."""
    fold = make_folds(
        sample.treatment, n_folds, labels=sample.labels, groups=sample.clusters, random_state=random_state
    )
    return {
        "model_y": BoostedRegressor(random_state=random_state, n_jobs=1) if outcome is None else outcome,
        "model_t": BoostedClassifier(random_state=random_state, n_jobs=1) if propensity is None else propensity,
        "discrete_treatment": True,
        "cv": [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)],
        "random_state": random_state,
    }


def _weights(sample: Sample) -> dict[str, FloatArray]:
    return {"sample_weight": sample.weight} if sample.weighted else {}


def _residuals(learner: Any, sample: Sample) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The propensity out of fold, and what remains of outcome and treatment, in the order of the units."""
    rest, gap = (np.asarray(values, dtype=np.float64).ravel() for values in learner.residuals_[:2])
    return sample.treatment - gap, rest, gap


@contextmanager
def _quiet() -> Iterator[None]:
    """EconML and what it imports warn of each other's versions: nothing about the user's data."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield
