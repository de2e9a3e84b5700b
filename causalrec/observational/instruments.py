"""Instrumental variables: two-stage least squares, with what tells weak instruments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, stats

from causalrec._ratios import fieller_interval
from causalrec._typing import FloatArray
from causalrec._validation import check_length, list_some, nearest
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational._inputs import Sample, read_sample
from causalrec.observational._outcomes import fit_outcome, independent, make_design
from causalrec.observational.design import as_design
from causalrec.results import InstrumentEffect

_KINDS = ("robust", "classical")
_WEAK = 10.0


def instrumental_variable(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    instruments: Any,
    control: Any = None,
    estimand: str = "late",
    error: str = "robust",
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> InstrumentEffect:
    r"""The effect of a treatment by way of instruments: what moves it, and the outcome only through it.

    Two-stage least squares. With one instrument of two values, no covariates, and nobody whom the instrument moves the
    other way, it is the average effect among those whom it moves (Imbens and Angrist 1994, Econometrica 62, theorem 1);
    with covariates or several instruments an average of such effects.

    Parameters
    ----------
    X : frame or array of shape (n, p), or None
        Covariates given which the instruments are as good as random.
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    instruments : array of shape (n,) or (n, k), or frame
        Those without variation, or linear in covariates and other instruments, are left out.
    control : label, optional
    estimand : {"late"}
    error : {"robust", "classical"}
        White's error, or that of residuals of one variance (s² with n - k); with ``clusters`` always by cluster.
    sample_weight, clusters : arrays of shape (n,), optional
    confidence_level : float

    Returns
    -------
    InstrumentEffect
        With the F statistic of the first stage (as robust as the error), and with one instrument the interval of
        Anderson and Rubin, which holds however weak that is; it may be infinite.

    Raises
    ------
    OverlapError
        When no instrument is left, or none moves the treatment at all.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values and settings that are not allowed.

    Notes
    -----
    With a first-stage F below 10 the normal interval may miss far more often than it says, and ``method`` says so
    (Staiger and Stock 1997, Econometrica 65).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> hidden, offered = rng.normal(size=5000), rng.integers(0, 2, 5000)
    >>> treatment = (offered + hidden + rng.normal(size=5000) > 0.5).astype(int)
    >>> y = 2.0 * treatment + hidden
    >>> found = instrumental_variable(None, y, treatment=treatment, instruments=offered)
    >>> abs(found.estimate - 2.0) < 2 * found.std_error, found.first_stage_f > 100
    (True, True)
    """
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="an instrumental variable",
    )  # fmt: skip
    if estimand != "late":
        raise CausalRecError(
            f"estimand is {estimand!r}, but instruments show the effect among those whom they move: 'late'."
        )
    if error not in _KINDS:
        raise CausalRecError(f"error is {error!r}; expected one of {list_some(_KINDS)}.{nearest(str(error), _KINDS)}")
    covariates, moved = _columns(X, instruments, sample)
    stages = two_stages(sample, covariates, moved)
    classical = error == "classical" and sample.clusters is None
    strength = _first_stage_f(sample, stages, classical)
    weak = (
        f"; weak instruments (first-stage F = {strength:.3g}), the interval does not hold" if strength < _WEAK else ""
    )
    how = "error of one common variance" if classical else "robust error"
    found = sample.effect(
        stages.estimate, _classical(sample, stages) if classical else sample.error(stages.influence),
        method=f"two-stage least squares, {moved.shape[1]} instrument{'s' * (moved.shape[1] > 1)}, {how}{weak}",
        estimand=estimand,
    )  # fmt: skip
    low, high = _anderson_rubin(sample, stages) if moved.shape[1] == 1 else (math.nan, math.nan)
    return InstrumentEffect(
        **vars(found), n_instruments=moved.shape[1], first_stage_f=strength, anderson_rubin_low=low,
        anderson_rubin_high=high,
    )  # fmt: skip


class Stages(NamedTuple):
    """Two-stage least squares, covariates being partialled out of all of it."""

    estimate: float
    influence: FloatArray
    y: FloatArray
    treatment: FloatArray
    instruments: FloatArray  # (n, k)
    fitted: FloatArray  # of the treatment, by the instruments
    residual: FloatArray
    free: int  # units less coefficients of the second stage


def two_stages(sample: Sample, covariates: FloatArray, moved: FloatArray) -> Stages:
    """The estimate Σ w t̂ y / Σ w t̂ t with y and t less what covariates say, and its influence w t̂ u / Σ w t̂ t.

    Raises
    ------
    OverlapError
        When the instruments do not move the treatment.
    """
    w = sample.weight
    t, y = sample.treatment.astype(np.float64), sample.y
    outcome, taken = (fit_outcome(covariates, v, w, who="all").residual for v in (y, t))
    Z = np.column_stack([fit_outcome(covariates, z, w, who="all").residual for z in moved.T])
    first = fit_outcome(Z, taken, w, who="all")
    fitted = Z @ first.coef
    bottom = float(w @ (fitted * taken))
    if not bottom > 1e-20 * float(w @ taken**2):
        raise OverlapError("the instruments do not move the treatment at all, given the covariates; use others.")
    estimate = float(w @ (fitted * outcome)) / bottom
    residual = outcome - estimate * taken
    free = int((w > 0).sum()) - covariates.shape[1] - 1
    return Stages(estimate, w * fitted * residual / bottom, outcome, taken, Z, fitted, residual, free)


def _classical(sample: Sample, stages: Stages) -> float:
    if stages.free < 1:
        return float("nan")
    s2 = float(sample.weight @ stages.residual**2) / stages.free
    return math.sqrt(s2 / float(sample.weight @ stages.fitted**2))


def _slopes(sample: Sample, stages: Stages, target: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coefficients of the instruments for a target, their influences (n, k), and the residual."""
    Z, w = stages.instruments, sample.weight
    gram = (Z * w[:, None]).T @ Z
    coef = np.linalg.solve(gram, Z.T @ (w * target))
    residual = target - Z @ coef
    influence = np.linalg.solve(gram, (Z * (w * residual)[:, None]).T).T
    return np.asarray(coef), np.asarray(influence), residual


def _first_stage_f(sample: Sample, stages: Stages, classical: bool) -> float:
    """Wald's statistic of the instruments in the first stage over their number."""
    coef, influence, residual = _slopes(sample, stages, stages.treatment)
    k = len(coef)
    if classical:
        free = stages.free + 1 - k
        s2 = float(sample.weight @ residual**2) / free if free > 0 else math.nan
        gram = (stages.instruments * sample.weight[:, None]).T @ stages.instruments
        top = float(coef @ gram @ coef) / k
        return top / s2 if s2 > 0 else math.inf
    covariance = _covariance(sample, influence)
    try:
        return float(coef @ linalg.solve(covariance, coef, assume_a="pos")) / k
    except linalg.LinAlgError:
        return math.inf if not covariance.any() else math.nan


def _covariance(sample: Sample, influence: FloatArray) -> FloatArray:
    """The covariance of several estimates, as :func:`sandwich_error` of each sum and difference has it."""
    if sample.clusters is None:
        return np.asarray(influence.T @ influence)
    used = sample.weight > 0
    groups = np.unique(sample.clusters[used], return_inverse=True)[1]
    sums = np.column_stack([np.bincount(groups, weights=column) for column in influence[used].T])
    return np.asarray(sums.T @ sums) * len(sums) / max(len(sums) - 1, 1)


def _anderson_rubin(sample: Sample, stages: Stages) -> tuple[float, float]:
    """All effects b for which the instrument is unrelated to y - b t: a ratio's Fieller interval.

    Anderson and Rubin 1949, Annals of Mathematical Statistics 20, with robust variances in place of theirs.
    """
    reduced, top, _ = _slopes(sample, stages, stages.y)
    first, bottom, _ = _slopes(sample, stages, stages.treatment)
    covariance = _covariance(sample, np.column_stack([top, bottom]))
    critical = float(stats.norm.isf((1 - sample.level) / 2))
    return fieller_interval(
        float(reduced[0]), float(first[0]), covariance[0, 0], covariance[1, 1], covariance[0, 1], critical
    )


def _columns(X: Any, instruments: Any, sample: Sample) -> tuple[FloatArray, FloatArray]:
    """Intercept and covariates, and the instruments that say something beside them."""
    covariates = np.ones((sample.n_obs, 1))
    if X is not None:
        matrix, names = as_design(X)
        check_length(len(matrix), sample.n_obs, name="X")
        covariates = make_design(matrix, names, sample.weight > 0).Z
    if not isinstance(instruments, pd.DataFrame):
        instruments = np.asarray(instruments)
        instruments = instruments[:, None] if instruments.ndim == 1 else instruments
    raw, names = as_design(instruments)
    check_length(len(raw), sample.n_obs, name="instruments")
    found = make_design(raw, names, sample.weight > 0).Z[:, 1:]
    keep = independent(np.column_stack([covariates, found])[sample.weight > 0])[covariates.shape[1] :]
    if not keep.any():
        raise OverlapError(
            "no instrument is left: all are constant, or linear in the covariates. An instrument must move the "
            "treatment among units of the same covariates."
        )
    return covariates, found[:, keep]
