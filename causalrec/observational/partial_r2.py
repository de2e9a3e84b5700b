"""Hidden confounders of a regression: how much of treatment and outcome they must explain, beside those observed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, stats

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import check_columns, check_confidence_level, check_covariates, check_length, check_vector
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational.design import as_design, design_matrix
from causalrec.results import PartialR2Result

_POINTS = 81
_NOTHING_LEFT, _COLLINEAR = 1e-10, 1e-8


def partial_r2(tstat: float, dof: int) -> float:
    """The share of residual variance that a regressor explains: t² / (t² + dof).

    Cinelli and Hazlett 2020, JRSS B 82, "Making sense of sensitivity", section 4.2.

    Examples
    --------
    >>> round(partial_r2(4.18445, 783), 6)
    0.021873
    """
    _check_test(tstat, dof)
    return tstat**2 / (tstat**2 + dof)


def robustness_value(tstat: float, dof: int, *, q: float = 1.0, alpha: float | None = None) -> float:
    r"""The share of residual variance, of treatment and outcome alike, that takes ``q`` of an estimate away.

    :math:`\frac12(\sqrt{f^4 + 4 f^2} - f^2)` with :math:`f = q|t| / \sqrt{dof}`; for the interval at level ``alpha``
    less :math:`f^* = t^*_{\alpha, dof - 1} / \sqrt{dof - 1}`, 0 where that leaves nothing (Cinelli and Hazlett 2020,
    equations 18 and 20). Where :math:`f > 1 / f^*` a confounder does most harm when it explains less of the outcome
    than of the treatment, and the value is :math:`(f^2 - f^{*2}) / (1 + f^2)`.

    Parameters
    ----------
    tstat : float
    dof : int
        Residual degrees of freedom of the regression.
    q : float
        1: all of the estimate.
    alpha : float, optional
        Two-sided level; None: of the estimate itself.

    Examples
    --------
    >>> round(robustness_value(4.18445, 783), 6), round(robustness_value(4.18445, 783, alpha=0.05), 6)
    (0.138776, 0.076258)
    """
    _check_test(tstat, dof)
    if not q > 0:
        raise CausalRecError(f"q is {q}; expected a share of the estimate above 0, 1 for all of it.")
    f = q * abs(tstat) / math.sqrt(dof)
    critical = 0.0
    if alpha is not None:
        critical = float(stats.t.isf(check_confidence_level(alpha) / 2, dof - 1)) / math.sqrt(dof - 1)
    left = f - critical
    if left <= 0:
        return 0.0
    if critical > 0 and f > 1 / critical:
        return (f**2 - critical**2) / (1 + f**2)
    return (math.sqrt(left**4 + 4 * left**2) - left**2) / 2


def confounded(
    estimate: float, std_error: float, dof: int, r2_treatment: Any, r2_outcome: Any
) -> tuple[FloatArray, FloatArray]:
    r"""A coefficient and its classical error if a confounder were in the regression that brings it nearer to zero.

    The bias is :math:`se \sqrt{dof\, R^2_Y R^2_D / (1 - R^2_D)}`, the error
    :math:`se \sqrt{(1 - R^2_Y) / (1 - R^2_D) \cdot dof / (dof - 1)}` (Cinelli and Hazlett 2020, equations 9 and 12).
    Bias beyond the estimate turns its sign.

    Parameters
    ----------
    r2_treatment, r2_outcome : arrays in [0, 1)
        Of the confounder with the treatment given the covariates, and with the outcome given these and the treatment.

    Returns
    -------
    adjusted estimates and errors
    """
    by_treatment, by_outcome = (np.asarray(r2, dtype=np.float64) for r2 in (r2_treatment, r2_outcome))
    bias = std_error * np.sqrt(dof * by_outcome * by_treatment / (1 - by_treatment))
    error = std_error * np.sqrt((1 - by_outcome) / (1 - by_treatment) * dof / (dof - 1))
    return np.asarray(estimate - math.copysign(1.0, estimate) * bias), np.asarray(error)


def as_strong_as(r2_treatment: float, r2_outcome: float, kd: float, ky: float, *, name: str) -> tuple[float, float]:
    r"""The most that a confounder explains which is ``kd`` and ``ky`` times as strong as an observed covariate.

    Cinelli and Hazlett 2020, equations 22 to 24 and appendix: with :math:`R^2_D` of the covariate given the others,
    :math:`R^2_{D \sim Z} = k_D R^2_D / (1 - R^2_D)`, and :math:`R^2_{Y \sim Z} = \eta^2 R^2_Y / (1 - R^2_Y)` with
    :math:`\eta = (\sqrt{k_Y} + \sqrt{r}) / \sqrt{1 - r}`, r being :math:`R^2` of the covariate with Z given treatment.

    Raises
    ------
    CausalRecError
        When a confounder so strong would explain all of the treatment.
    """
    odds = r2_treatment / (1 - r2_treatment)
    by_treatment = kd * odds
    shared = kd * r2_treatment * odds / (1 - kd * r2_treatment) if kd * r2_treatment < 1 else math.inf
    if by_treatment >= 1 or shared >= 1:
        most = (1 - r2_treatment) / r2_treatment
        raise CausalRecError(
            f"benchmark {name!r} explains {r2_treatment:.1%} of what is left of the treatment; a confounder {kd:g} "
            f"times as strong would explain all of it. Take kd below {most:.3g}, or another benchmark."
        )
    eta = (math.sqrt(ky) + math.sqrt(shared)) / math.sqrt(1 - shared)
    return by_treatment, min(1.0, eta**2 * r2_outcome / (1 - r2_outcome))


def sensitivity_ols(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    benchmarks: Sequence[Any] | Mapping[str, Sequence[Any]] = (),
    kd: Sequence[float] | float = (1.0, 2.0, 3.0),
    ky: Sequence[float] | float | None = None,
    q: float = 1.0,
    confidence_level: float = 0.95,
    name: str = "treatment",
) -> PartialR2Result:
    """How strong a hidden confounder must be to change the coefficient of a regression, beside observed covariates.

    Cinelli and Hazlett 2020, JRSS B 82, "Making sense of sensitivity: extending omitted variable bias". The error is
    the classical one of least squares, on which the theory rests.

    Parameters
    ----------
    X : frame or array of shape (n, p)
        Covariates; categories become 0/1 columns. Of collinear columns the later ones are left out.
    y : array of shape (n,)
    treatment : array of shape (n,)
        Numbers; it need not be 0/1.
    benchmarks : names of columns of ``X``, or a mapping of names to several columns
        Of arrays the columns are x0, x1, …. The columns of a category count together.
    kd, ky : numbers above 0
        How many times as strong as the benchmark with the treatment, and with the outcome. ``ky`` defaults to ``kd``.
    q : float
        Share of the estimate to be explained away.
    confidence_level : float
    name : str
        Of the treatment, for texts.

    Returns
    -------
    PartialR2Result

    Raises
    ------
    OverlapError
        When the covariates determine the treatment.
    ColumnError
        When a benchmark is not among the covariates.
    CausalRecError
        When a benchmark, as strong as asked for, would explain all of the treatment; when the regression leaves no
        degrees of freedom.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(500, 2))
    >>> dose = x[:, 0] + rng.normal(size=500)
    >>> found = sensitivity_ols(x, dose + x @ [1, 1] + rng.normal(size=500), treatment=dose, benchmarks=["x1"], kd=1)
    >>> bool(found.robustness_value_alpha < found.robustness_value), len(found.benchmark)
    (True, 1)
    """
    columns = _columns(X)
    outcome = check_vector(y, name="y", n_rows=len(columns.matrix))
    dose = check_vector(treatment, name="treatment", n_rows=len(outcome))
    alpha = 1 - check_confidence_level(confidence_level)
    fit = _fit(columns, outcome, dose)
    groups, times = _benchmarks(benchmarks, columns), _times(kd, ky)
    strengths = [(g, d, o) for g in groups for d, o in times]
    turned = _Turned.of(columns, outcome, dose)
    explained = {g: _explained(turned, members, g) for g, members in groups.items()}
    r2 = [as_strong_as(*explained[g], d, o, name=g) for g, d, o in strengths]
    by_treatment, by_outcome = (np.array([pair[k] for pair in r2]) for k in (0, 1))
    estimates, errors = confounded(fit.estimate, fit.std_error, fit.dof, by_treatment, by_outcome)
    null = (1 - q) * fit.estimate
    half = float(stats.t.isf(alpha / 2, fit.dof - 1)) * errors
    grid = _grid(fit, by_treatment, by_outcome, q)
    grid_estimate, grid_error = confounded(fit.estimate, fit.std_error, fit.dof, grid[None, :], grid[:, None])
    return PartialR2Result(
        treatment=name, estimate=fit.estimate, std_error=fit.std_error, tstat=fit.tstat, dof=fit.dof,
        n_obs=len(outcome), q=q, confidence_level=confidence_level, partial_r2=partial_r2(fit.tstat, fit.dof),
        robustness_value=robustness_value(fit.tstat, fit.dof, q=q),
        robustness_value_alpha=robustness_value(fit.tstat, fit.dof, q=q, alpha=alpha),
        critical_t=float(stats.t.isf(alpha / 2, fit.dof - 1)),
        benchmark=np.array([g for g, _, _ in strengths], dtype=object), kd=np.array([d for _, d, _ in strengths]),
        ky=np.array([o for _, _, o in strengths]), r2_treatment=by_treatment, r2_outcome=by_outcome,
        adjusted_estimate=estimates, adjusted_error=errors, adjusted_t=_ratio(estimates - null, errors),
        adjusted_low=estimates - half, adjusted_high=estimates + half, grid=grid, grid_estimate=grid_estimate,
        grid_t=_ratio(grid_estimate - null, grid_error),
    )  # fmt: skip


class _Columns(NamedTuple):
    matrix: FloatArray
    names: AnyArray
    covariate: AnyArray  # of each column


class _Turned(NamedTuple):
    """Covariates, treatment and outcome less their means in as many rows as columns: inner products are the same."""

    matrix: FloatArray
    dose: FloatArray
    y: FloatArray

    @classmethod
    def of(cls, columns: _Columns, y: FloatArray, dose: FloatArray) -> _Turned:
        whole = np.column_stack([columns.matrix, dose, y])
        constant = whole.std(axis=0) <= 1e-12 * np.abs(whole).max(axis=0)
        whole -= whole.mean(axis=0)
        whole[:, constant] = 0.0
        R: FloatArray = np.asarray(np.linalg.qr(whole, mode="r"))
        return cls(R[:, :-2], R[:, -2], R[:, -1])


class _Fit(NamedTuple):
    estimate: float
    std_error: float
    dof: int

    @property
    def tstat(self) -> float:
        return self.estimate / self.std_error


def _check_test(tstat: float, dof: int) -> None:
    if not math.isfinite(tstat):
        raise CausalRecError(f"tstat is {tstat}; expected a finite number.")
    if not dof > 1:
        raise CausalRecError(f"dof is {dof}; expected at least 2 residual degrees of freedom. Use fewer covariates.")


def _ratio(values: FloatArray, errors: FloatArray) -> FloatArray:
    return np.asarray(values / np.where(errors > 0, errors, np.nan))


def _columns(X: Any) -> _Columns:
    X = check_covariates(X)
    if not isinstance(X, pd.DataFrame):
        matrix, names = as_design(X)
        return _Columns(matrix, names, names)
    parts = [design_matrix(X[[c]]) for c in X.columns]
    covariate = np.concatenate([[str(c)] * len(names) for c, (_, names) in zip(X.columns, parts, strict=True)])
    return _Columns(
        np.column_stack([matrix for matrix, _ in parts]), np.concatenate([names for _, names in parts]),
        covariate.astype(object),
    )  # fmt: skip


def _basis(matrix: FloatArray, against: FloatArray | None = None) -> FloatArray:
    """Orthonormal columns that span the given ones, or what a basis leaves of them."""
    if not matrix.shape[1]:
        return matrix
    size = np.sqrt((matrix**2).sum(axis=0))
    scaled = matrix / np.where(size > 0, size, 1.0)
    if against is not None:
        scaled = _left(_left(scaled, against), against)  # twice is enough: once loses digits
    Q, R, _ = linalg.qr(scaled, mode="economic", pivoting=True)
    return np.asarray(Q[:, np.abs(np.diag(R)) > _COLLINEAR])


def _covariate_basis(columns: FloatArray) -> FloatArray:
    """Orthonormal columns that span an intercept and the covariates."""
    ones = np.full((len(columns), 1), 1 / math.sqrt(len(columns)))
    spread = columns.std(axis=0)
    centred = (columns - columns.mean(axis=0))[:, spread > 1e-12 * np.abs(columns).max(axis=0, initial=0.0)]
    return np.column_stack([ones, _basis(centred)]) if centred.shape[1] else ones


def _left(values: FloatArray, basis: FloatArray) -> FloatArray:
    return np.asarray(values - basis @ (basis.T @ values))


def _fit(columns: _Columns, y: FloatArray, dose: FloatArray) -> _Fit:
    basis = _covariate_basis(columns.matrix)
    dof = len(y) - basis.shape[1] - 1
    if dof < 2:
        raise CausalRecError(
            f"{len(y)} units and {basis.shape[1] + 1} coefficients leave {dof} degrees of freedom; at least 2 are "
            "needed. Use fewer covariates, or fewer levels."
        )
    rest = _left(dose, basis)
    if float(rest @ rest) <= _NOTHING_LEFT * float((dose - dose.mean()) @ (dose - dose.mean())):
        raise OverlapError(
            "the covariates determine the treatment: nothing of it is left to compare. Drop the covariates that do."
        )
    outcome = _left(y, basis)
    estimate = float(rest @ outcome / (rest @ rest))
    gap = outcome - estimate * rest
    if float(gap @ gap) <= _NOTHING_LEFT**2 * float(y @ y):
        raise CausalRecError("the regression fits the outcome without error; no confounder can be hidden in it.")
    return _Fit(estimate, math.sqrt(float(gap @ gap) / dof / float(rest @ rest)), dof)


def _explained(turned: _Turned, members: AnyArray, name: str) -> tuple[float, float]:
    """What a group of columns explains of the treatment given the others, and of the outcome given these and it."""
    others = _basis(turned.matrix[:, ~members])
    group = _basis(turned.matrix[:, members], against=others)
    rest = _left(turned.dose, others)
    shares = [_share(rest, group)]
    with_dose = np.column_stack([others, rest / math.sqrt(float(rest @ rest))])
    shares.append(_share(_left(turned.y, with_dose), _basis(turned.matrix[:, members], against=with_dose)))
    if shares[0] > 1 - _NOTHING_LEFT or shares[1] > 1 - _NOTHING_LEFT:
        what = "treatment" if shares[0] > 1 - _NOTHING_LEFT else "outcome"
        raise CausalRecError(
            f"benchmark {name!r} explains all that the other covariates leave of the {what}; nothing can be as strong. "
            "Take another benchmark."
        )
    return max(shares[0], 0.0), max(shares[1], 0.0)


def _share(values: FloatArray, basis: FloatArray) -> float:
    """The share of a sum of squares in the span of orthonormal columns."""
    inside = basis.T @ values
    return float(inside @ inside) / float(values @ values)


def _benchmarks(benchmarks: Sequence[Any] | Mapping[str, Sequence[Any]], columns: _Columns) -> dict[str, AnyArray]:
    if isinstance(benchmarks, str):
        benchmarks = [benchmarks]
    named = benchmarks if isinstance(benchmarks, Mapping) else {str(b): [b] for b in benchmarks}
    known = list(dict.fromkeys([*columns.covariate.tolist(), *columns.names.tolist()]))
    found: dict[str, AnyArray] = {}
    for name, members in named.items():
        wanted = [str(m) for m in ([members] if isinstance(members, str) else members)]
        check_columns(known, wanted, where="benchmarks, among the covariates of X")
        found[str(name)] = np.isin(columns.covariate, wanted) | np.isin(columns.names.astype(str), wanted)
    return found


def _times(kd: Sequence[float] | float, ky: Sequence[float] | float | None) -> list[tuple[float, float]]:
    by_treatment = np.atleast_1d(np.asarray(kd, dtype=np.float64))
    by_outcome = by_treatment if ky is None else np.atleast_1d(np.asarray(ky, dtype=np.float64))
    if len(by_outcome) == 1:
        by_outcome = np.repeat(by_outcome, len(by_treatment))
    check_length(len(by_outcome), len(by_treatment), name="ky")
    for name, values in (("kd", by_treatment), ("ky", by_outcome)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise CausalRecError(f"{name} is {values.tolist()}; expected finite numbers above 0.")
    return list(zip(by_treatment.tolist(), by_outcome.tolist(), strict=True))


def _grid(fit: _Fit, by_treatment: FloatArray, by_outcome: FloatArray, q: float) -> FloatArray:
    """Shares from 0 to a little beyond the benchmarks and the robustness value."""
    reach = [robustness_value(fit.tstat, fit.dof, q=q), *by_treatment, *by_outcome]
    return np.linspace(0, min(0.98, max(0.05, 1.25 * max(reach))), _POINTS)
