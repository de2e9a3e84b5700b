"""Whether predicted effects have the right mean and spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalrec._validation import check_confidence_level
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.scores import check_effects
from causalrec.results import NAN, CalibrationResult
from causalrec.uplift._robust import least_squares, student
from causalrec.uplift.heterogeneity import Sample, sample_of


def calibration_test(
    nuisance: Nuisances,
    uplift: Any,
    *,
    arm: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> CalibrationResult:
    """Whether predicted effects are right on average, and whether they see differences that are there.

    The outcome's residual is regressed on the treatment's residual times the mean prediction, and times the deviation
    from it. Both coefficients are 1 for perfect predictions; the second is 0 for predictions that know nothing.

    Parameters
    ----------
    nuisance : Nuisances
    uplift : array of shape (n,) or (n, k - 1)
        Effects predicted for these rows by models that did not see them: out of fold, in sequence, or of a model fitted
        elsewhere. With several arms all of them enter at once.
    arm : label, optional
        The arm to report; needed where there are more than two.
    clusters : array of shape (n,), optional
        Rows that are not independent; the groups of ``nuisance`` by default.
    confidence_level : float

    Raises
    ------
    CausalRecError
        For an uplift of another shape, or when one row or cluster decides a coefficient.

    Notes
    -----
    Chernozhukov, Demirer, Duflo and Fernández-Val (2025), Econometrica 93, the best linear predictor, in the form of
    R's ``grf::test_calibration``, with HC3 or CR3 errors and p-values of one side. If nothing differs, the second
    coefficient leans below zero, since a fold's predictions come from the other folds: the test is careful.

    Examples
    --------
    >>> from causalrec.nuisance import fit_nuisances
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(2000, 1)), rng.integers(0, 2, 2000)
    >>> y = (1 + X[:, 0]) * treatment + 0.1 * rng.normal(size=2000)
    >>> nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> found = calibration_test(nuisance, 1 + 2 * X[:, 0])  # twice the spread
    >>> round(found.mean, 1), round(found.differential, 1)
    (1.0, 0.5)
    """
    level = check_confidence_level(confidence_level)
    code = nuisance.arm_code(arm)
    sample = sample_of(nuisance, clusters)
    effects = check_effects(uplift, nuisance.n_obs, len(nuisance.labels))[sample.keep]
    codes, e = nuisance.codes[sample.keep], nuisance.propensity[sample.keep]
    residual = (nuisance.y - nuisance.mean_outcome)[sample.keep]
    columns, names = [], []
    for other, label in enumerate(nuisance.labels[1:], start=1):
        moved = (codes == other) - e[:, other]
        mean = float(np.average(effects[:, other - 1], weights=sample.weight))
        apart = effects[:, other - 1] - mean
        if mean != 0:
            columns.append(moved * mean)
            names.append((label, "mean"))
        if np.abs(apart).max() > 1e-12 * max(abs(mean), np.abs(apart).max()):
            columns.append(moved * apart)
            names.append((label, "differential"))
    answers: dict[str, tuple[float, ...]] = dict.fromkeys(("mean", "differential"), (NAN,) * 5)
    if columns:
        found = least_squares(
            np.column_stack(columns), residual, sample.weight, sample.clusters,
            names=tuple(f"{kind} prediction of {label}" for label, kind in names),
        )  # fmt: skip
        answer = student(found, level, alternative="greater")
        for j, (label, kind) in enumerate(names):
            if label == nuisance.labels[code]:
                answers[kind] = tuple(
                    float(values[j])
                    for values in (found.value, answer.std_error, answer.ci_low, answer.ci_high, answer.pvalue)
                )
    return _calibration_result(nuisance, answers, sample, code, level)


def _calibration_result(
    nuisance: Nuisances, answers: dict[str, tuple[float, ...]], sample: Sample, code: int, level: float
) -> CalibrationResult:
    method = f"residuals on predictions, {'HC3' if sample.clusters is None else 'CR3'}{sample.errors}"
    missing = [kind for kind, values in answers.items() if np.isnan(values[0])]
    if missing:
        why = {"mean": "the mean prediction is 0", "differential": "the predictions do not vary"}
        method += f"; {' and '.join(why[kind] for kind in missing)}"
    fields = ("", "_std_error", "_ci_low", "_ci_high", "_pvalue")
    values = {f"{kind}{name}": value for kind, found in answers.items()
              for name, value in zip(fields, found, strict=True)}  # fmt: skip
    return CalibrationResult(
        control=str(nuisance.labels[0]), treatment=str(nuisance.labels[code]), **values, confidence_level=level,
        n_obs=int(sample.keep.sum()), method=method,
    )  # fmt: skip
