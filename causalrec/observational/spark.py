"""Average effects from a Spark DataFrame: the numbers of :mod:`causalrec.observational`, from sums that Spark computes.

The functions have the names of that module and take a frame and the names of its columns. Results are the same objects
with the same numbers, up to the rounding of sums; they hold no arrays of the size of the frame. No row comes to the
driver: executors, which need causalrec and its dependencies, sum products of regressors batch by batch (numpy on Arrow
batches), and a row for each task comes back. The prepared columns, 8 bytes a number, are kept by the executors while a
function runs, and read about ten times for a propensity score.

Text covariates become 0/1 columns for each value but the first, as categories do in memory. Columns that are linear in
those before them are left out; here products tell, which hold half the digits, so that columns that are collinear up
to a millionth are left out too.

A score by other means, such as MLlib's, comes as a column: ``propensity=`` takes it as known. Call ``persist()`` on a
frame that changes when it is computed again (a sample without a seed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from causalrec._validation import check_confidence_level, list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.nuisance.support import check_target
from causalrec.observational._match_design import check_known
from causalrec.observational._matching_errors import ERRORS, VARIANCES
from causalrec.observational._spark_balance import balance
from causalrec.observational._spark_effects import (
    Weighting,
    contrast_of_lines,
    doubly_robust_effect,
    error_kind,
    lin_lines,
    main_effect,
    mean_lines,
    weighted_effect,
)
from causalrec.observational._spark_fit import fit_score, make_design
from causalrec.observational._spark_matching import Asked as Matching
from causalrec.observational._spark_matching import make_strata, match_result, match_strata, matched_effect
from causalrec.observational._spark_rows import Asked, number, read_rows
from causalrec.observational.balance import BALANCE_THRESHOLD, BY_ESTIMAND, check_denominator
from causalrec.observational.design import check_estimand
from causalrec.observational.regression import ERROR_TEXT
from causalrec.observational.weighting import NAMES as WEIGHT_NAMES
from causalrec.results import AdjustedEffect, BalanceResult

__all__ = [
    "add_propensity", "aipw_parametric", "balance_table", "difference_in_means", "estimate_ate", "lin_effect",
    "matching_effect", "ols_effect", "standardisation", "weighting_effect",
]  # fmt: skip


def difference_in_means(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    estimand: str = "ate",
    error: str | None = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Difference of the arms' means; see :func:`causalrec.observational.difference_in_means`.

    Parameters
    ----------
    frame : Spark DataFrame
    treatment : str
        A column of 0/1 or booleans, or of two labels with ``control``.
    outcome : str
        A column of numbers or booleans.
    estimand : {"ate", "att", "atc"}
    error : {"HC2", "HC0", "HC1", "HC3", "classical", "CR1"}, optional
    sample_weight, clusters : str, optional
        A column of weights; and one of the units within which rows depend on each other.
    control : label, optional
    confidence_level : float

    Raises
    ------
    ColumnError
        For columns that are missing, or covariates with missing values.
    TreatmentError
        For one arm, more than two, missing values, or an arm with fewer than two rows.
    OutcomeError
        For outcomes that are missing, infinite or no numbers.
    OverlapError
        When the covariates determine the treatment, or an arm cannot say what a covariate does.
    EngineError
        When Spark fails, or the frame holds other rows when it is read again.

    Examples
    --------
    >>> difference_in_means(frame, treatment="emailed", outcome="spend", clusters="user")  # doctest: +SKIP
    """
    check_estimand(estimand)
    asked = Asked(treatment, (), outcome, clusters, sample_weight, None, control, "a difference in means", 2)
    level = check_confidence_level(confidence_level)
    with read_rows(frame, asked) as rows:
        kind = error_kind(error, rows)
        method = f"difference in means, {ERROR_TEXT[kind]}"
        return main_effect(make_design(rows), kind=kind, method=method, estimand=estimand, level=level)


def ols_effect(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str],
    estimand: str = "ato",
    error: str | None = None,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """The coefficient of the treatment in a regression on covariates; see :func:`causalrec.observational.ols_effect`.

    Parameters as for :func:`difference_in_means`, and

    Parameters
    ----------
    covariates : sequence of str
        Columns of numbers, booleans or text, measured before the treatment.
    estimand : {"ato"}
    """
    if estimand != "ato":
        raise CausalRecError(
            f"estimand is {estimand!r}, but a regression on main effects averages effects by the overlap of the arms: "
            "'ato'. Use lin_effect, or aipw_parametric, for ate, att or atc."
        )
    asked = Asked(treatment, tuple_of(covariates), outcome, clusters, sample_weight, None, control, "a regression")
    level = check_confidence_level(confidence_level)
    with read_rows(frame, asked) as rows:
        kind, design = error_kind(error, rows), make_design(rows)
        text = f"least squares on treatment and {len(design.names) - 1} covariates, {ERROR_TEXT[kind]}"
        return main_effect(design, kind=kind, method=text + design.suffix(), estimand=estimand, level=level)


def lin_effect(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str],
    estimand: str = "ate",
    error: str | None = None,
    population: bool = True,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Least squares with all interactions; see :func:`causalrec.observational.lin_effect`.

    Parameters as for :func:`ols_effect`, with any estimand of ate, att and atc.
    """
    check_estimand(estimand)
    level = check_confidence_level(confidence_level)
    what = "a regression with interactions"
    asked = Asked(treatment, tuple_of(covariates), outcome, clusters, sample_weight, None, control, what)
    with read_rows(frame, asked) as rows:
        kind = error_kind(error, rows)
        if kind == "classical":
            raise CausalRecError("error is 'classical', which takes one variance for all units; use 'HC2' or 'HC1'.")
        design = make_design(rows)
        of = "" if population else ", of these very units"
        return contrast_of_lines(
            design, lin_lines(design, estimand), kind=kind, estimand=estimand, centred=population, level=level,
            method=f"least squares with all interactions (Lin), {ERROR_TEXT[kind]}{of}{design.suffix()}",
        )  # fmt: skip


def standardisation(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str],
    estimand: str = "ate",
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Outcomes predicted by a linear regression in each arm; see :func:`causalrec.observational.standardisation`.

    Parameters as for :func:`lin_effect`.
    """
    check_estimand(estimand)
    level = check_confidence_level(confidence_level)
    asked = Asked(treatment, tuple_of(covariates), outcome, clusters, sample_weight, None, control, "standardisation")
    with read_rows(frame, asked) as rows:
        design = make_design(rows)
        method = f"standardisation, linear regression in each arm, stacked estimating equations{design.suffix()}"
        return contrast_of_lines(
            design, mean_lines(design, estimand), kind="stacked", estimand=estimand, centred=True, method=method,
            level=level,
        )  # fmt: skip


def weighting_effect(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str] = (),
    propensity: str | float | None = None,
    estimand: str = "ate",
    trim: float | tuple[float, float] | None = None,
    clip: float | None = None,
    weights_known: bool = False,
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Weighting by a logistic propensity (Hájek's means), with an error that counts the estimation of the weights.

    See :func:`causalrec.observational.weights` and :func:`causalrec.observational.weighting_effect`. Other parameters
    as for :func:`ols_effect`.

    Parameters
    ----------
    covariates : sequence of str
        Of the logistic regression; not with ``propensity``.
    propensity : str or float, optional
        P(treated) that is known by design: a column or a number.
    estimand : {"ate", "att", "atc", "ato", "atm"}
    trim : float or pair of floats, optional
        Scores to keep: 0.1 for [0.1, 0.9]. The effect is that of the rest.
    clip : float, optional
        Scores outside [clip, 1 - clip] are moved to these limits.
    weights_known : bool
        Take the weights as known.
    """
    check_target(estimand)
    (low, high), limit = _bounds(trim), _clip(clip)
    level = check_confidence_level(confidence_level)
    if (propensity is None) == (not covariates):
        found = "neither" if propensity is None else "both"
        raise CausalRecError(f"weights are made from covariates or from propensity; found {found}. Pass one of them.")
    names = tuple_of(covariates) if propensity is None else ()
    asked = Asked(treatment, names, outcome, clusters, sample_weight, propensity, control, "weighting")
    with read_rows(frame, asked) as rows:
        design = make_design(rows)
        weighting = Weighting(fit_score(design.rows), estimand, low, high, limit)
        text = f"{WEIGHT_NAMES[estimand]} weights, propensity: {weighting.score.text}"
        text += f", trimmed to [{low:.4g}, {high:.4g}]" if trim is not None else ""
        text += f", clipped to [{clip:g}, {1 - clip:g}]" if clip is not None else ""
        return weighted_effect(design.rows, weighting, known=weights_known, method=text, level=level)


def aipw_parametric(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str],
    propensity: str | float | None = None,
    estimand: str = "ate",
    sample_weight: str | None = None,
    clusters: str | None = None,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """A doubly robust effect: a logistic propensity, a linear regression in each arm, and an error that counts both.

    See :func:`causalrec.observational.aipw_parametric`, of which this is the form "augmented". Parameters as for
    :func:`ols_effect`; ``propensity`` as for :func:`weighting_effect`, and it may come with covariates.
    """
    check_estimand(estimand)
    level = check_confidence_level(confidence_level)
    asked = Asked(
        treatment, tuple_of(covariates), outcome, clusters, sample_weight, propensity, control, "a doubly robust effect"
    )
    with read_rows(frame, asked) as rows:
        design = make_design(rows)
        score = fit_score(design.rows)
        counted = score.text if score.beta is None else f"{score.text}, counted in the error"
        method = f"AIPW, a regression in each arm, linear; {counted}{design.suffix()}"
        return doubly_robust_effect(design, score, estimand=estimand, method=method, level=level)


def add_propensity(
    frame: Any,
    *,
    treatment: str,
    covariates: Sequence[str],
    sample_weight: str | None = None,
    control: Any = None,
    name: str = "propensity",
) -> Any:
    """The frame with P(treated given X) as a column, by logistic regression without penalty.

    The column is an expression of Spark's: no Python runs where it is used. Rows with equal covariates get equal
    scores, to the last bit. Parameters and errors as for :func:`ols_effect`.

    Returns
    -------
    Spark DataFrame
        All columns of ``frame``, and the score.
    """
    if name in frame.columns:
        raise ColumnError(f"frame has a column {name!r} already; drop it, or pass another name=.")
    what = "a propensity score"
    asked = Asked(treatment, tuple_of(covariates), None, None, sample_weight, None, control, what)
    with read_rows(frame, asked) as rows:
        design = make_design(rows)
        score = fit_score(design.rows)
    expression = design.rows.coding.predictor(np.zeros(1) if score.beta is None else score.beta)
    return frame.selectExpr("*", f"{number(1.0)} / ({number(1.0)} + exp(-({expression}))) AS `{name}`")


def balance_table(
    frame: Any,
    *,
    treatment: str,
    covariates: Sequence[str],
    weights: str | None = None,
    estimand: str = "ate",
    denominator: str | None = None,
    threshold: float = BALANCE_THRESHOLD,
    method: str = "",
    sample_weight: str | None = None,
    control: Any = None,
) -> BalanceResult:
    """Balance of covariates between the arms; see :func:`causalrec.observational.balance_table`.

    Distribution functions are compared at about a thousand values of each covariate, so that their distances are
    too small by up to a thousandth where a covariate has more values. Other parameters and errors as for
    :func:`ols_effect`.

    Parameters
    ----------
    weights : str, optional
        A column: the weight of each row within its arm, ``sample_weight`` included, such as 1 / propensity of the
        treated.
    estimand : {"ate", "att", "atc", "ato", "atm"}
    denominator : {"treated", "control", "pooled"}, optional
    threshold : float
        Largest absolute difference that counts as balanced.
    method : str
        What the weights come from, for the result.
    """
    check_target(estimand)
    basis = check_denominator(denominator or BY_ESTIMAND.get(estimand, "pooled"))
    asked = Asked(treatment, tuple_of(covariates), None, None, sample_weight, None, control, "balance")
    with read_rows(frame, asked, weights=weights) as rows:
        return balance(
            rows, adjusted=weights is not None, estimand=estimand, basis=basis, threshold=threshold, method=method
        )


def matching_effect(
    frame: Any,
    *,
    treatment: str,
    outcome: str,
    covariates: Sequence[str] = (),
    propensity: str | None = None,
    estimand: str = "att",
    distance: str = "propensity",
    ratio: int = 1,
    caliper: float | None = None,
    caliper_scale: str = "sd",
    errors: str = "heteroskedastic",
    variance: str = "population",
    neighbours: int = 3,
    control: Any = None,
    confidence_level: float = 0.95,
) -> AdjustedEffect:
    """Nearest-neighbour matching on a propensity, with replacement, ties averaged, and Abadie and Imbens' error.

    The numbers of :func:`causalrec.observational.match` and :func:`causalrec.observational.matching_effect` with
    ``score_known=True``: exactly those matches, however the score is cut into strata. The error takes the score as
    known, which is too large, if anything, for the ate of a score that was estimated, and may be too large or too small
    for the att and atc (Abadie and Imbens 2016, Econometrica 84). For users with several rows use
    :func:`weighting_effect` or :func:`aipw_parametric` with ``clusters``.

    Parameters
    ----------
    covariates : sequence of str
        Of a logistic propensity that is fitted here (:func:`add_propensity`); not with ``propensity``.
    propensity : str, optional
        A column of scores, fitted or known.
    estimand : {"att", "atc", "ate"}
    distance : {"propensity", "logit"}
    ratio : int
        Matches for each unit.
    caliper : float, optional
        Largest distance: in standard deviations of the distance, or with ``caliper_scale="raw"`` as it is.
    errors : {"heteroskedastic", "homoskedastic"}
    variance : {"population", "sample"}
    neighbours : int
        Units of the same arm that show the outcome's variance at each unit.

    Raises
    ------
    OverlapError
        When no unit has a match, and as for :func:`ols_effect`, where the other parameters and errors are.
    """
    check_estimand(estimand)
    for name, value, known in (
        ("distance", distance, ("propensity", "logit")), ("errors", errors, ERRORS), ("variance", variance, VARIANCES),
        ("caliper_scale", caliper_scale, ("sd", "raw")),
    ):  # fmt: skip
        check_known(name, value, known)
    for name, count in (("ratio", ratio), ("neighbours", neighbours)):
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise CausalRecError(f"{name} is {count!r}; expected a whole number, 1 or more.")
    if caliper is not None and not float(caliper) >= 0:
        raise CausalRecError(f"caliper is {caliper!r}; expected the largest distance allowed, a number of 0 or more.")
    level = check_confidence_level(confidence_level)
    if (propensity is None) == (not covariates):
        found = "neither" if propensity is None else "both"
        raise CausalRecError(
            f"matching is on covariates' propensity or on propensity; found {found}. Pass one of them."
        )
    fitted = propensity is None
    if propensity is None:
        propensity = "_causalrec_propensity"
        frame = add_propensity(frame, treatment=treatment, covariates=covariates, control=control, name=propensity)
    asked = Asked(treatment, (), outcome, None, None, propensity, control, "matching")
    with read_rows(frame, asked) as rows:
        strata = make_strata(rows, distance)
        width = math.inf if caliper is None else float(caliper) * (strata.deviation if caliper_scale == "sd" else 1.0)
        sets = match_strata(strata, Matching(estimand, int(ratio), width, strata.slack, int(neighbours)))
    estimate, error = matched_effect(sets, errors=errors, variance=variance, caliper=width)
    words = "the propensity score" if distance == "propensity" else "the logit of the propensity score"
    how = f"{ratio}:1 nearest-neighbour matching on {words}"
    how += "" if caliper is None else f", caliper {width:.4g}"
    how += f" with replacement; Abadie–Imbens error, {errors}, {variance}"
    how += ", the score taken as known" if fitted else ""
    return match_result(rows, estimate, error, sets, method=how, estimand=estimand, level=level)


_METHODS: dict[str, Callable[..., AdjustedEffect]] = {
    "difference_in_means": difference_in_means, "ols": ols_effect, "lin": lin_effect,
    "standardisation": standardisation, "matching": matching_effect, "ipw": weighting_effect,
    "overlap_weights": weighting_effect, "aipw_parametric": aipw_parametric,
}  # fmt: skip


def estimate_ate(frame: Any, *, method: str = "aipw_parametric", **options: Any) -> AdjustedEffect:
    """An average effect by the name of its method; other parameters as for that method's function.

    Parameters
    ----------
    frame : Spark DataFrame
    method : str
        ``"aipw_parametric"``, ``"ipw"``, ``"overlap_weights"``, ``"matching"``, ``"ols"``, ``"lin"``,
        ``"standardisation"`` or ``"difference_in_means"``.

    Examples
    --------
    >>> estimate_ate(
    ...     frame, treatment="emailed", outcome="spend", covariates=["visits", "plan"], estimand="att"
    ... )  # doctest: +SKIP
    """
    if method not in _METHODS:
        raise CausalRecError(
            f"method is {method!r}; on Spark expected one of {list_some(_METHODS, 20)}.{nearest(str(method), _METHODS)}"
        )
    if method == "overlap_weights":
        options = {"estimand": "ato", **options}
        if options["estimand"] != "ato":
            raise CausalRecError(f"overlap weights are for the estimand 'ato', not {options['estimand']!r}; use 'ipw'.")
    return _METHODS[method](frame, **options)


def tuple_of(covariates: Any) -> tuple[str, ...]:
    """The covariates; raises for none, or a text."""
    if isinstance(covariates, str):
        raise ColumnError(
            f"covariates is the text {covariates!r}; expected a list of columns, such as [{covariates!r}]."
        )
    if not covariates:
        raise ColumnError("covariates is empty; name at least one column.")
    return tuple(covariates)


def _bounds(trim: Any) -> tuple[float, float]:
    if trim is None:
        return 0.0, 1.0
    try:
        low, high = (float(trim), 1 - float(trim)) if np.ndim(trim) == 0 else (float(v) for v in trim)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 1:
        raise CausalRecError(
            f"trim is {trim!r}; on Spark expected a score such as 0.1, or a range (low, high). The rules 'crump' and "
            "'common_support' need all scores at once."
        )
    return low, high


def _clip(clip: Any) -> float | None:
    if clip is not None and not 0 < float(clip) < 0.5:
        raise CausalRecError(f"clip is {clip!r}; expected a score above 0 and below 0.5, such as 0.01.")
    return None if clip is None else float(clip)
