"""Average effects by least squares: difference in means, main effects, and Lin's regression with interactions."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational._inputs import Sample, read_sample
from causalrec.observational._outcomes import Design, OutcomeFit, fit_outcome, independent, make_design
from causalrec.observational.design import as_design, check_estimand
from causalrec.results import AdjustedEffect

ErrorKind: TypeAlias = Literal["HC0", "HC1", "HC2", "HC3", "CR1", "classical"]
ERRORS = ("HC0", "HC1", "HC2", "HC3", "CR1", "classical")
_CERTAIN = 1e-9  # 1 - leverage of a unit that its own column fits


def difference_in_means(
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    estimand: str = "ate",
    error: ErrorKind | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Difference of the arms' means, treated - control: for treatments given at random.

    Parameters
    ----------
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    control : label, optional
    estimand : {"ate", "att", "atc"}
        Recorded; where chance decides the treatment they are the same.
    error : {"HC2", "HC0", "HC1", "HC3", "classical", "CR1"}, optional
        ``"HC2"``, the default, is Neyman's √(s₁²/n₁ + s₀²/n₀); ``"classical"`` is that of one common variance, as in
        Student's t-test. With ``clusters`` it is ``"CR1"``. See :func:`ols_effect`.
    sample_weight : array of shape (n,), optional
    clusters : array of shape (n,), optional
        Units that are not independent, such as rows of one user.
    confidence_level : float

    Raises
    ------
    TreatmentError
        When an arm has fewer than two units.
    OutcomeError, CausalRecError
        For missing outcomes and settings that are not allowed.

    Examples
    --------
    >>> found = difference_in_means([1.0, 3.0, 2.0, 6.0], treatment=[0, 0, 1, 1])
    >>> found.estimate, round(found.std_error, 6)
    (2.0, 2.236068)
    """
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="a difference in means",
    )  # fmt: skip
    check_estimand(estimand)
    design = Design(np.ones((sample.n_obs, 1)), np.array(["intercept"], dtype=object), ())
    kind = _error_kind(error, sample)
    return _main_effect(sample, design, kind, method=f"difference in means, {ERROR_TEXT[kind]}", estimand=estimand)


def ols_effect(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    estimand: str = "ato",
    error: ErrorKind | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    r"""The coefficient of the treatment in a least-squares regression on it and on the covariates.

    Where effects differ between units this is none of ate, att and atc but an average with weights e(x)(1 - e(x)),
    provided that P(treated given x) is linear in the covariates (Angrist 1998, Econometrica 66, section 3): that of
    the overlap, ``"ato"``. Where the effect is constant, and the outcome linear, it is all of them.

    Parameters
    ----------
    X : frame or array of shape (n, p)
        Of collinear columns the later ones are left out, and ``method`` says which.
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or two labels with ``control``.
    control : label, optional
    estimand : {"ato"}
    error : {"HC2", "HC0", "HC1", "HC3", "classical", "CR1"}, optional
        With :math:`\psi_i = c_i r_i` of residuals r and leverages h: HC0 is √Σψ², HC1 that times √(n / (n - k)) with k
        coefficients, HC2 has r / √(1 - h) and HC3 r / (1 - h) in place of r (MacKinnon and White 1985, Journal of
        Econometrics 29). ``"classical"`` takes residuals of one variance. ``"CR1"``, the default with ``clusters``,
        sums ψ within clusters and multiplies by √(G / (G - 1) · (n - 1) / (n - k)); with few clusters (under forty or
        so, or few of one arm) it is too small, as all such errors are.
    sample_weight : array of shape (n,), optional
        Weights of the regression.
    clusters : array of shape (n,), optional
    confidence_level : float

    Returns
    -------
    AdjustedEffect
        Its ``weights`` are those with which the estimate averages outcomes within each arm; some may be negative, which
        is extrapolation (Chattopadhyay and Zubizarreta 2023, Biometrika 110, "On the implied weights of linear
        regression for causal inference", section 3).

    Raises
    ------
    OverlapError
        When the covariates determine the treatment.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values and settings that are not allowed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.normal(size=(200, 1)), np.arange(200) % 2
    >>> ols_effect(x, 3.0 * x[:, 0] + 2.0 * treatment, treatment=treatment).estimate.__round__(9)
    2.0
    """
    matrix, names = as_design(X)
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="a regression", n_rows=len(matrix),
    )  # fmt: skip
    if estimand != "ato":
        raise CausalRecError(
            f"estimand is {estimand!r}, but a regression on main effects averages effects by the overlap of the arms: "
            "'ato'. Use lin_effect, or aipw, for ate, att or atc."
        )
    design = make_design(matrix, names, sample.weight > 0)
    kind = _error_kind(error, sample)
    n = len(design.names) - 1
    covariates = f"{n} covariate{'s' * (n != 1)}"
    method = f"least squares on treatment and {covariates}, {ERROR_TEXT[kind]}{design.suffix()}"
    return _main_effect(sample, design, kind, method=method, estimand=estimand)


def lin_effect(
    X: Any,
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    estimand: str = "ate",
    error: ErrorKind | None = None,
    population: bool = True,
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Least squares with all interactions of treatment and covariates, centred at the mean of the estimand's units.

    Lin 2013, Annals of Applied Statistics 7, "Agnostic notes on regression adjustments to experimental data",
    section 4. The same estimate comes from a regression in each arm (:func:`standardisation`).

    Parameters
    ----------
    X, y, treatment, control, sample_weight, clusters, confidence_level : as in :func:`ols_effect`
    estimand : {"ate", "att", "atc"}
    error : {"HC2", "HC0", "HC1", "HC3", "CR1"}, optional
        As in :func:`ols_effect`; ``"classical"`` is not for effects that differ between units.
    population : bool
        Whether the units are a sample, so that the mean at which covariates are centred adds to the error. Without it
        the error is that of the effect in these very units, which other programs print.

    Returns
    -------
    AdjustedEffect
        With the weights that each arm's outcomes have in it, as in :func:`ols_effect`.

    Raises
    ------
    OverlapError
        When an arm cannot say what a covariate does: a category that it lacks, say.
    ColumnError, TreatmentError, OutcomeError, CausalRecError
        For missing values and settings that are not allowed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, treatment = rng.normal(1.0, 1.0, 400), np.arange(400) % 2
    >>> y = x + treatment * (1.0 + 2.0 * x)
    >>> found = lin_effect(x[:, None], y, treatment=treatment)
    >>> bool(np.isclose(found.estimate, 1.0 + 2.0 * x.mean())), bool(np.isclose(found.std_error, 2.0 * x.std() / 20))
    (True, True)
    """
    matrix, names = as_design(X)
    sample = read_sample(
        y, treatment=treatment, control=control, sample_weight=sample_weight, clusters=clusters,
        confidence_level=confidence_level, what="a regression with interactions", n_rows=len(matrix),
    )  # fmt: skip
    check_estimand(estimand)
    kind = _error_kind(error, sample)
    if kind == "classical":
        raise CausalRecError("error is 'classical', which takes one variance for all units; use 'HC2' or 'HC1'.")
    design = make_design(matrix, names, sample.weight > 0)
    found = lin_parts(sample, design, estimand)
    influence = adjusted_residuals(found.fits, found.influence, kind)
    if population:
        influence = influence + found.centring
    std_error = _finish(influence, kind, sample, n_coefficients=sum(fit.Z.shape[1] for fit in found.fits))
    of = "" if population else ", of these very units"
    method = f"least squares with all interactions (Lin), {ERROR_TEXT[kind]}{of}{design.suffix()}"
    return sample.effect(found.estimate, std_error, method=method, estimand=estimand, weights=found.weights)


class ArmParts(NamedTuple):
    """An effect from a linear regression in each arm that needs one, taken apart."""

    estimate: float
    influence: FloatArray  # by way of the residuals
    centring: FloatArray  # by way of the units whose mean is taken
    fits: tuple[OutcomeFit, ...]
    weights: FloatArray


def lin_parts(sample: Sample, design: Design, estimand: str) -> ArmParts:
    """The effect over the estimand's units from a regression in each arm.

    An arm whose own units are asked for needs no model: the mean of its outcomes is that of its predictions. There,
    columns that it cannot tell apart are left out.
    """
    share, gaps = sample.units(estimand), np.zeros(sample.n_obs)
    influence, weights, fits = np.zeros(sample.n_obs), np.zeros(sample.n_obs), []
    for code, sign in ((1, 1.0), (0, -1.0)):
        own = (estimand, code) in (("att", 1), ("atc", 0))
        chosen = _told_apart(sample, design, code) if own else design
        fit = fit_arm(sample, chosen, code)
        pull = chosen.Z.T @ share
        influence += sign * fit.influence(pull)
        weights += fit.weight * fit.reach(pull)
        gaps += sign * fit.predict(chosen.Z)
        fits.append(fit)
    estimate = float(share @ gaps)
    return ArmParts(estimate, influence, share * (gaps - estimate), tuple(fits), weights * sample.n_obs)


def _told_apart(sample: Sample, design: Design, code: int) -> Design:
    """The columns that an arm can tell apart; the intercept alone where it has no more units than these."""
    rows = design.Z[(sample.treatment == code) & (sample.weight > 0)]
    keep = independent(rows)
    if len(rows) <= keep.sum():
        keep[1:] = False
    return Design(design.Z[:, keep], design.names[keep], design.dropped)


def fit_arm(
    sample: Sample, design: Design, code: int, family: str = "linear", weight: FloatArray | None = None
) -> OutcomeFit:
    """A regression among the units of an arm.

    Raises
    ------
    OverlapError
        When columns of the design are linear in others there, though not among all units.
    """
    chosen = (sample.weight if weight is None else weight) * (sample.treatment == code)
    check_identified(design.Z, chosen, design.names, who=sample.arm(code))
    return fit_outcome(design.Z, sample.y, chosen, family, who=sample.arm(code))


def check_identified(Z: FloatArray, weight: FloatArray, names: AnyArray, *, who: str) -> None:
    """Raise :class:`OverlapError` for columns that the units of weight above zero cannot tell from others."""
    rows = Z[weight > 0]
    alone = names[~independent(rows)]
    if not len(alone) and len(rows) <= Z.shape[1]:
        raise OverlapError(
            f"{len(rows)} {who} units leave nothing over after {Z.shape[1]} columns: the regression fits them exactly, "
            "and says nothing about its error. Use fewer covariates."
        )
    if len(alone):
        units = f"all {len(rows)} units" if who == "all" else f"the {len(rows)} {who} units"
        raise OverlapError(
            f"{units} cannot tell what {list_some([str(n) for n in alone])} does: it does not vary "
            "among them, or only with other columns (a category of one arm only, or fewer units than columns). Drop "
            "the column, merge its category, restrict the units to where both arms occur, or use ols_effect."
        )


def _main_effect(sample: Sample, design: Design, kind: ErrorKind, *, method: str, estimand: str) -> AdjustedEffect:
    """The coefficient of the treatment beside a design."""
    Z = np.column_stack([design.Z, sample.treatment])
    used = sample.weight > 0
    keep = independent(Z[used])
    if not keep[-1]:
        raise OverlapError(
            "the covariates determine the treatment: it is linear in them, so that no two units differ in it alone. "
            "Remove the covariate that decides the treatment, or restrict the data to where both arms occur."
        )
    Z = Z[:, keep]
    fit = fit_outcome(Z, sample.y, sample.weight, who="all")
    pull = np.zeros(Z.shape[1])
    pull[-1] = 1.0
    influence = adjusted_residuals((fit,), fit.influence(pull), kind)
    if kind == "classical":
        std_error = _classical(fit, pull, int(used.sum()))
    else:
        std_error = _finish(influence, kind, sample, n_coefficients=Z.shape[1])
    weights = fit.weight * fit.reach(pull) * np.where(sample.treatment == 1, 1.0, -1.0) * sample.n_obs
    return sample.effect(float(fit.coef[-1]), std_error, method=method, estimand=estimand, weights=weights)


def adjusted_residuals(fits: tuple[OutcomeFit, ...], influence: FloatArray, kind: ErrorKind) -> FloatArray:
    """Influences with residuals divided by √(1 - h) (HC2) or 1 - h (HC3).

    A unit that some column fits alone has a residual of zero and leverage 1: it stays at zero.
    """
    if kind not in ("HC2", "HC3"):
        return influence
    rest = 1 - sum((fit.leverage() for fit in fits), np.zeros(len(influence)))
    return influence / np.where(rest > _CERTAIN, rest if kind == "HC3" else np.sqrt(np.maximum(rest, _CERTAIN)), 1.0)


def _finish(influence: FloatArray, kind: ErrorKind, sample: Sample, *, n_coefficients: int) -> float:
    """The standard error with its small-sample factor; NaN where no unit is left over."""
    error, n = sample.error(influence), int((sample.weight > 0).sum())
    if kind not in ("HC1", "CR1"):
        return error if n > n_coefficients else float("nan")
    factor = (n if kind == "HC1" else n - 1) / (n - n_coefficients) if n > n_coefficients else float("nan")
    return error * math.sqrt(factor)


def _classical(fit: OutcomeFit, pull: FloatArray, n: int) -> float:
    """Under residuals of one variance s²: √(s² c'(Z'WZ)^-1 c)."""
    free = n - fit.Z.shape[1]
    if free < 1:
        return float("nan")
    s2 = float(fit.weight @ fit.residual**2) / free
    reach = fit.reach(pull)
    return math.sqrt(s2 * float(fit.weight @ reach**2))


def _error_kind(error: Any, sample: Sample) -> ErrorKind:
    if error is None:
        return "HC2" if sample.clusters is None else "CR1"
    if error not in ERRORS:
        raise CausalRecError(
            f"error is {error!r}; expected one of {list_some(ERRORS)}.{nearest(str(error).upper(), ERRORS)}"
        )
    if (error == "CR1") != (sample.clusters is not None):
        found = "without clusters" if sample.clusters is None else "with clusters"
        raise CausalRecError(
            f"error is {error!r} {found}; errors by cluster are 'CR1', and need clusters. Leave error out to get the "
            "right one."
        )
    kind: ErrorKind = error
    return kind


ERROR_TEXT = {
    "HC0": "robust error HC0", "HC1": "robust error HC1", "HC2": "robust error HC2", "HC3": "robust error HC3",
    "CR1": "cluster-robust error CR1", "classical": "error of one common variance",
}  # fmt: skip
