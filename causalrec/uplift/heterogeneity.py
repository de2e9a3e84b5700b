"""For whom it works, with intervals that theory gives: groups, a line through the effects, calibration.

All of it averages or regresses cross-fitted doubly robust scores, whose errors do not feel those of the nuisances to
first order. So intervals hold for the average effect of a group, and for the best linear approximation of the effect,
though not for the effect of a single person.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_length
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.folds import check_groups
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.scores import check_effects
from causalrec.results import NAN, CalibrationResult, GroupEffectsResult, ProjectionResult
from causalrec.uplift._robust import Estimates, group_means, least_squares, student, wald
from causalrec.uplift._terms import design


class Sample(NamedTuple):
    """What errors are made of: the rows with weight, their weights, and clusters 0..g-1 or None."""

    keep: BoolArray
    weight: FloatArray
    clusters: IntArray | None

    @property
    def errors(self) -> str:
        """What a result says of dependence between rows; empty where there is none."""
        return "" if self.clusters is None else f", clustered by {int(self.clusters.max()) + 1:,} groups"


def sample_of(nuisance: Nuisances, clusters: Any) -> Sample:
    """The rows of nuisances that count; clusters are by default the groups of the folds."""
    n = nuisance.n_obs
    weight = np.ones(n) if nuisance.sample_weight is None else nuisance.sample_weight
    keep = weight > 0
    units = nuisance.groups if clusters is None else check_groups(clusters, n_rows=n)
    if units is not None:
        known, units = np.unique(units[keep], return_inverse=True)
        if len(known) < 2:
            raise CausalRecError(
                "every row with weight is in one cluster, so that there is no error to give. Pass clusters that are "
                "smaller, such as users."
            )
    return Sample(keep, weight[keep], units)


def quantile_groups(uplift: FloatArray, weight: FloatArray, fold: IntArray | None, n_groups: int) -> IntArray:
    """Groups 0..n_groups-1 of equal weight by predicted effect, highest first, within every fold.

    Equal predictions of a fold stay together, in the group in which the middle of their ranks lies, so that row
    order plays no part; groups may be empty.

    Examples
    --------
    >>> quantile_groups(np.array([0.1, 0.4, 0.3, 0.2]), np.ones(4), None, 2).tolist()
    [1, 0, 0, 1]
    """
    group = np.zeros(len(uplift), dtype=np.int64)
    folds = np.zeros(len(uplift), dtype=np.int64) if fold is None else fold
    for number in np.unique(folds):
        rows = folds == number
        _, place = np.unique(-uplift[rows], return_inverse=True)
        mass = np.bincount(place, weights=weight[rows])
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        group[rows] = np.minimum((middle * n_groups).astype(np.int64), n_groups - 1)[place]
    return group


def group_average_effects(
    nuisance: Nuisances,
    uplift: Any = None,
    *,
    groups: Any = None,
    n_groups: int = 5,
    within_folds: bool = True,
    arm: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> GroupEffectsResult:
    """Average effect within groups of predicted uplift, or of any labels (GATES).

    Parameters
    ----------
    nuisance : Nuisances
        Of the rows that are grouped.
    uplift : array of shape (n,) or (n, k - 1), optional
        Effects predicted for these rows **by models that did not see them**: a learner's ``fit_predict`` with this
        ``nuisance``, or ``predict`` of a model fitted on other rows. A model's effects on its own training rows sort
        noise to the top, and no interval shows it.
    groups : array of shape (n,), optional
        Labels known before treatment to group by instead; ordered categories keep their order, others are sorted.
    n_groups : int
        Groups of equal weight by ``uplift``; ties stay together, so there may be fewer.
    within_folds : bool
        Rank within each fold, since the folds' models differ. False for predictions of one model.
    arm : label, optional
        Needed where there are more than two arms.
    clusters : array of shape (n,), optional
        Rows that are not independent, such as those of one user; the groups of ``nuisance`` by default.
    confidence_level : float
        Of each interval; they are not corrected for their number.

    Raises
    ------
    CausalRecError
        For neither uplift nor groups, fewer than two groups asked for, or arrays of other lengths.
    TreatmentError
        For an unknown arm, or none where there are several.

    Notes
    -----
    Chernozhukov, Demirer, Duflo and Fernández-Val (2025), Econometrica 93, "Fisher–Schultz lecture: Generic machine
    learning inference on heterogeneous treatment effects in randomized experiments", with doubly robust scores of all
    folds instead of Horvitz–Thompson ones of one split. Each group's mean of the scores has the error that
    :meth:`Nuisances.average_effect` has within the group, with Student's t; a single group gives the average effect.
    The target is the average effect of such people as are in the group.

    Examples
    --------
    >>> from causalrec.nuisance import fit_nuisances
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(500, 1)), rng.integers(0, 2, 500)
    >>> y = X[:, 0] * treatment + 0.1 * rng.normal(size=500)
    >>> nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> found = group_average_effects(nuisance, X[:, 0], n_groups=2, within_folds=False)
    >>> found.effect.round(2).tolist(), bool(found.equal_pvalue < 0.001)
    ([0.76, -0.84], True)
    """
    level = check_confidence_level(confidence_level)
    code = nuisance.arm_code(arm)
    sample = sample_of(nuisance, clusters)
    predicted = None
    if uplift is not None:
        predicted = check_effects(uplift, nuisance.n_obs, len(nuisance.labels))[sample.keep, code - 1]
    if groups is not None:
        group, labels, how = _labelled(groups, sample.keep)
    elif predicted is not None:
        fold = nuisance.fold[sample.keep] if within_folds else None
        group, labels, how = _by_quantile(predicted, sample.weight, fold, n_groups)
    else:
        raise CausalRecError("found neither uplift nor groups; pass the predicted effects of every row, or labels.")
    found, units = group_means(
        nuisance.effect_scores()[sample.keep, code - 1], group, len(labels), sample.weight, sample.clusters
    )
    return _group_result(
        nuisance, found, units, group, labels, predicted, sample,
        average=nuisance.average_effect(arm=arm, clusters=clusters, confidence_level=level), code=code, level=level,
        method=f"mean AIPW scores {how}, robust error{sample.errors}",
    )  # fmt: skip


def _labelled(groups: Any, keep: BoolArray) -> tuple[IntArray, AnyArray, str]:
    values = groups if isinstance(groups, pd.Series) else pd.Series(np.asarray(groups))
    check_length(len(values), len(keep), name="groups")
    if values.isna().any():
        raise CausalRecError(
            f"groups: {int(values.isna().sum())} of {len(values)} values are missing. Give rows without a group a "
            "label of their own."
        )
    kinds = pd.Categorical(values[keep]).remove_unused_categories()
    name = f" by {values.name}" if values.name is not None else " by label"
    return np.asarray(kinds.codes, dtype=np.int64), np.asarray(kinds.categories), name.strip()


def _by_quantile(
    predicted: FloatArray, weight: FloatArray, fold: IntArray | None, n_groups: int
) -> tuple[IntArray, AnyArray, str]:
    if not isinstance(n_groups, int | np.integer) or n_groups < 1:
        raise CausalRecError(f"n_groups is {n_groups!r}; expected a whole number of 1 or more, such as 5.")
    known, group = np.unique(quantile_groups(predicted, weight, fold, int(n_groups)), return_inverse=True)
    how = "by predicted uplift" + ("" if fold is None else " within folds")
    if len(known) < n_groups:
        how += f" ({n_groups} groups asked for; ties leave {len(known)})"
    return group, np.arange(1, len(known) + 1), how


def _group_result(
    nuisance: Nuisances,
    found: Estimates,
    units: FloatArray,
    group: IntArray,
    labels: AnyArray,
    predicted: FloatArray | None,
    sample: Sample,
    *,
    average: Any,
    code: int,
    level: float,
    method: str,
) -> GroupEffectsResult:
    k = len(labels)
    each = student(found, level, df=units - 1)
    total = np.bincount(group, weights=sample.weight, minlength=k)
    means = np.full(k, NAN)
    if predicted is not None:
        means = np.bincount(group, weights=sample.weight * predicted, minlength=k) / total
    gap, low, high, pvalue, error = _first_less_last(found, units, level) if k > 1 else (NAN,) * 5
    steps = np.eye(k)[:-1] - np.eye(k)[1:]
    equal = wald(found.contrast(steps)) if np.isfinite(found.covariance).all() else (NAN, NAN)
    return GroupEffectsResult(
        control=str(nuisance.labels[0]), treatment=str(nuisance.labels[code]), difference=gap,
        difference_std_error=error, difference_ci_low=low, difference_ci_high=high, difference_pvalue=pvalue,
        equal_statistic=equal[0], equal_pvalue=equal[1], falling=bool((np.diff(found.value) <= 0).all()),
        rise_pvalue=_rise_pvalue(found), average=average.estimate, average_std_error=average.std_error,
        average_ci_low=average.ci_low, average_ci_high=average.ci_high, confidence_level=level,
        n_obs=int(sample.keep.sum()), n_groups=k, method=method, group=labels, n=np.bincount(group, minlength=k),
        share=total / total.sum(), predicted=means, effect=found.value, std_error=each.std_error, ci_low=each.ci_low,
        ci_high=each.ci_high, pvalue=each.pvalue,
    )  # fmt: skip


def _first_less_last(found: Estimates, units: FloatArray, level: float) -> tuple[float, float, float, float, float]:
    """The difference, its interval, p-value and error, with Welch's degrees of freedom."""
    ends = [0, -1]
    covariance = found.covariance[np.ix_(ends, ends)]
    variances = np.diag(covariance)
    free = units[ends] - 1
    df = NAN
    if (variances > 0).any() and (free > 0).all():
        df = float(variances.sum() ** 2 / (variances**2 / free).sum())
    gap = Estimates(found.value[ends], covariance, df).contrast(np.array([[1.0, -1.0]]))
    answer = student(gap, level)
    return (
        float(gap.value[0]), float(answer.ci_low[0]), float(answer.ci_high[0]), float(answer.pvalue[0]),
        float(answer.std_error[0]),
    )  # fmt: skip


def _rise_pvalue(found: Estimates) -> float:
    """Of the null that no group's effect is above that of the one before it; NaN for one group."""
    V = found.covariance
    variances = np.diag(V)[1:] + np.diag(V)[:-1] - 2 * np.diag(V, 1)
    known = variances > 0
    if not known.any() or found.df < 1:
        return NAN
    t = np.diff(found.value)[known] / np.sqrt(variances[known])
    return min(1.0, float(known.sum() * stats.t.sf(t.max(), found.df)))


def best_linear_projection(
    nuisance: Nuisances,
    A: Any = None,
    *,
    arm: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> ProjectionResult:
    """Regress doubly robust scores of the effect on covariates: the linear function nearest to the effect.

    It answers how the effect differs by a few covariates that were chosen beforehand, whether the effect is linear in
    them or not: each coefficient holds the others fixed.

    Parameters
    ----------
    nuisance : Nuisances
    A : frame or array of shape (n, p), optional
        Covariates known before treatment, for all rows of ``nuisance``; they need not be among those it was fitted
        on. Categories and text become indicators, with the first level as reference. By default none: the average
        effect alone.
    arm : label, optional
        Needed where there are more than two arms.
    clusters : array of shape (n,), optional
        Rows that are not independent; the groups of ``nuisance`` by default.
    confidence_level : float

    Raises
    ------
    ColumnError
        For missing values, columns that are no numbers or categories, or that are combinations of others.
    CausalRecError
        When one row, or cluster, alone decides a coefficient.

    Notes
    -----
    Semenova and Chernozhukov (2021), Econometrics Journal 24, "Debiased machine learning of conditional average
    treatment effects and other causal functions". Errors are HC3, as in R's grf, or its counterpart of
    clusters, CR3: the jackknife in both cases, with Student's t of n - p, or g - 1, degrees of freedom.

    Examples
    --------
    >>> from causalrec.nuisance import fit_nuisances
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = pd.DataFrame({"age": rng.normal(size=500)}), rng.integers(0, 2, 500)
    >>> y = (1 + 2 * X["age"]) * treatment
    >>> nuisance = fit_nuisances(X, y, treatment=treatment, propensity=0.5, outcome_model=LinearRegression())
    >>> found = best_linear_projection(nuisance, X)
    >>> dict(zip(found.term.tolist(), found.coefficient.round(6).tolist()))
    {'intercept': 1.0, 'age': 2.0}
    """
    level = check_confidence_level(confidence_level)
    code = nuisance.arm_code(arm)
    sample = sample_of(nuisance, clusters)
    X, names = design(A, sample.keep)
    scores = nuisance.effect_scores()[sample.keep, code - 1]
    found = least_squares(X, scores, sample.weight, sample.clusters, names=names)
    answer = student(found, level)
    joint = wald(Estimates(found.value[1:], found.covariance[1:, 1:], found.df))
    kind = "HC3" if sample.clusters is None else "CR3"
    return ProjectionResult(
        control=str(nuisance.labels[0]), treatment=str(nuisance.labels[code]), joint_statistic=joint[0],
        joint_pvalue=joint[1], df=found.df, confidence_level=level, n_obs=int(sample.keep.sum()),
        method=f"best linear projection of AIPW scores, {kind}{sample.errors}", term=np.array(names),
        coefficient=found.value, std_error=answer.std_error, statistic=answer.statistic, pvalue=answer.pvalue,
        ci_low=answer.ci_low, ci_high=answer.ci_high,
    )  # fmt: skip


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
        Effects predicted for these rows by models that did not see them, as for :func:`group_average_effects`. With
        several arms all of them enter at once.
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
