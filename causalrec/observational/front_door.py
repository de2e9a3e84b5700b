"""The front door: the effect by way of the mediators that carry all of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_length
from causalrec.exceptions import OverlapError
from causalrec.observational._inputs import Sample, read_sample
from causalrec.observational._outcomes import (
    check_outcome_model,
    check_outcomes,
    fit_outcome,
    make_design,
)
from causalrec.observational.design import as_design, check_estimand
from causalrec.observational.propensity import fit_propensity
from causalrec.results import AdjustedEffect


def front_door(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    mediators: Any,
    control: Any = None,
    estimand: str = "ate",
    outcome_model: str = "linear",
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    r"""The effect of a treatment by way of mediators, in spite of unobserved causes of treatment and outcome.

    Pearl's front-door formula (1995, Biometrika 82, theorem 2), with covariates,

    .. math:: E[Y(a)] = E_X \sum_m P(m | a, X) \sum_t P(t | X)\, E[Y | t, m, X],

    by its efficient influence function (Fulcher, Shpitser, Marealle and Tchetgen Tchetgen 2020, JRSS B 82, theorem 1).
    The density of the mediators is written by Bayes' rule as scores P(treated | m, X) and P(treated | X), so that
    mediators may be numbers or categories, one or several, and no density is modelled.

    Parameters
    ----------
    X : frame or array of shape (n, p), or None
        Covariates given which treatment and mediators, and mediators and outcome, have no other unobserved common
        causes.
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    mediators : frame, or array of shape (n,) or (n, k)
        What carries the whole effect; text becomes categories.
    control : label, optional
    estimand : {"ate", "att", "atc"}
    outcome_model : {"linear", "logistic", "poisson"}
        Of the outcome by mediators and covariates, in each arm.
    sample_weight, clusters : arrays of shape (n,), optional
    confidence_level : float

    Returns
    -------
    AdjustedEffect
        The error is that of the influence function: right where all models are.

    Raises
    ------
    OverlapError
        When mediators, or covariates, tell the arms apart: then some value of a mediator is never seen in one arm.
    TreatmentError, OutcomeError, ColumnError, CausalRecError
        For missing values and settings that are not allowed.

    Notes
    -----
    Consistent where the score of the treatment is right and besides either the outcome model, or the score given the
    mediators and the regressions of the outcome model on covariates. Without covariates and with one categorical
    mediator all of them are saturated, and the estimate is Pearl's formula with the shares and means of the cells.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> hidden = rng.normal(size=20_000)
    >>> smokes = (hidden + rng.normal(size=20_000) > 0).astype(int)
    >>> tar = 2.0 * smokes + rng.normal(size=20_000)
    >>> damage = tar + 3 * hidden + rng.normal(size=20_000)
    >>> effect = front_door(None, damage, treatment=smokes, mediators=tar)
    >>> abs(effect.estimate - 2.0) < 2 * effect.std_error
    True
    """
    check_estimand(estimand)
    check_outcome_model(outcome_model)
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="a front door",
    )  # fmt: skip
    check_outcomes(sample.y, outcome_model)
    covariates, both = _columns(X, mediators, sample.n_obs)
    score = _score(sample, covariates, "the covariates tell the arms apart")
    seen = _score(sample, both, "the mediators tell the arms apart: some of their values occur in one arm alone")
    outcomes = _outcomes(sample, both, outcome_model)
    values = [
        front_door_values(sample.y, sample.treatment, code, score=score, seen=seen, outcomes=outcomes, later=later)
        for code, later in ((0, _later(sample, covariates, outcomes, 0)), (1, _later(sample, covariates, outcomes, 1)))
    ]
    estimate, influence = _contrast(sample, values[0], values[1], estimand)
    n_mediators = both.shape[1] - (0 if covariates is None else covariates.shape[1])
    given = "" if covariates is None else ", given covariates"
    return sample.effect(
        estimate, sample.error(influence),
        method=f"front door by {n_mediators} column{'s' * (n_mediators > 1)} of mediators{given}, efficient influence "
        f"function, {outcome_model} outcome model",
        estimand=estimand, propensity=score,
    )  # fmt: skip


def front_door_values(
    y: FloatArray,
    t: IntArray,
    arm: int,
    *,
    score: FloatArray,
    seen: FloatArray,
    outcomes: FloatArray,
    later: FloatArray,
) -> FloatArray:
    r"""Values of each unit whose mean is E[Y(a)] by the front door, shape (n,).

    .. math::
        \frac{f(M|a,X)}{f(M|T,X)} (Y - \mu_T) + \frac{1[T=a]}{P(a|X)} \Big(\sum_t \mu_t P(t|X)
        - \sum_t \kappa_t P(t|X)\Big) + \kappa_T

    with μ_t = E[Y | t, M, X] and κ_t = E[μ_t | a, X] (Fulcher et al. 2020, theorem 1; the ratio of densities by Bayes'
    rule).

    Parameters
    ----------
    y, t : arrays of shape (n,)
    arm : 0 or 1
        The arm a.
    score, seen : arrays of shape (n,)
        P(treated | X) and P(treated | M, X).
    outcomes, later : arrays of shape (n, 2)
        μ_t and κ_t, untreated first.
    """
    shares = np.column_stack([1 - score, score])
    given = np.column_stack([1 - seen, seen])
    own = np.arange(len(t)), t
    ratio = given[:, arm] / given[own] * shares[own] / shares[:, arm]
    mixed = ((outcomes - later) * shares).sum(axis=1)
    return np.asarray(ratio * (y - outcomes[own]) + (t == arm) / shares[:, arm] * mixed + later[own])


class _Contrast(NamedTuple):
    estimate: float
    influence: FloatArray


def _contrast(sample: Sample, untreated: FloatArray, treated: FloatArray, estimand: str) -> _Contrast:
    """The effect from values of E[Y(0)] and E[Y(1)], and its influence on the scale of a sum.

    Among the treated E[Y(0)] follows from that of all, whose outcomes are those seen in the others: E[Y] - E[Y(0)] is
    the effect on the treated times their share.
    """
    w, t, y = sample.weight, sample.treatment, sample.y
    if estimand == "ate":
        gain, members = treated - untreated, np.ones(len(y))
    elif estimand == "att":
        gain, members = y - untreated, t.astype(np.float64)
    else:
        gain, members = treated - y, (1 - t).astype(np.float64)
    total = float(w @ members)
    estimate = float(w @ gain) / total
    return _Contrast(estimate, w * (gain - members * estimate) / total)


def _columns(X: Any, mediators: Any, n: int) -> tuple[FloatArray | None, FloatArray]:
    """Covariates, and mediators beside them."""
    if not isinstance(mediators, pd.DataFrame) and not hasattr(mediators, "to_pandas"):
        values = np.asarray(mediators)
        mediators = pd.DataFrame(values[:, None] if values.ndim == 1 else values)
    moved, _ = as_design(mediators)
    check_length(len(moved), n, name="mediators")
    if X is None:
        return None, moved
    covariates, _ = as_design(X)
    check_length(len(covariates), n, name="X")
    return covariates, np.column_stack([covariates, moved])


def _score(sample: Sample, columns: FloatArray | None, apart: str) -> FloatArray:
    """P(treated) by a logistic regression; one share without columns."""
    w, t = sample.weight, sample.treatment
    if columns is None:
        return np.full(len(t), float(w @ t) / float(w.sum()))
    try:
        return fit_propensity(columns, treatment=t, sample_weight=w if sample.weighted else None).score
    except OverlapError as error:
        raise OverlapError(
            f"{apart}, so that the front door cannot be seen. Leave such values out, or merge them. ({error})"
        ) from error


def _outcomes(sample: Sample, columns: FloatArray, family: str) -> FloatArray:
    """Expected outcomes untreated and treated of every unit by a regression in each arm, shape (n, 2)."""
    found = []
    for code in (0, 1):
        weight = np.where(sample.treatment == code, sample.weight, 0.0)
        Z = make_design(columns, [f"c{i}" for i in range(columns.shape[1])], weight > 0).Z
        found.append(fit_outcome(Z, sample.y, weight, family, who=sample.arm(code)).predict(Z))
    return np.column_stack(found)


def _later(sample: Sample, covariates: FloatArray | None, outcomes: FloatArray, code: int) -> FloatArray:
    """What is expected of these outcomes in an arm, given the covariates, for every unit; shape (n, 2)."""
    weight = np.where(sample.treatment == code, sample.weight, 0.0)
    if covariates is None:
        return np.broadcast_to(weight @ outcomes / weight.sum(), outcomes.shape)
    Z = make_design(covariates, [f"c{i}" for i in range(covariates.shape[1])], weight > 0).Z
    return np.column_stack([fit_outcome(Z, m, weight, who=sample.arm(code)).predict(Z) for m in outcomes.T])
