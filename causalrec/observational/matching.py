"""Matching: who is compared with whom (no outcome is seen), and the effect that the matches show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level, check_length, check_treatment, check_two_arms, check_vector
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance.folds import check_groups
from causalrec.observational._errors import adjusted_effect
from causalrec.observational._greedy import check_order
from causalrec.observational._mahalanobis import make_space, match_space
from causalrec.observational._match_design import DISTANCES, MatchDesign, check_known, read_design
from causalrec.observational._matching_errors import ERRORS, VARIANCES, nearest_effect
from causalrec.observational._nearest import ASKING, match_line, sort_line
from causalrec.observational._paired_errors import paired_effect
from causalrec.observational._sets import MatchedSets, set_shares
from causalrec.observational._unreplaced import TIES, match_unreplaced
from causalrec.observational.design import as_design, check_estimand
from causalrec.results import AdjustedEffect, MatchResult

METHODS = ("nearest", "optimal", "full", "fine")
_CHECKED = 10_000  # units, of many
_WORDS = {
    "propensity": "the propensity score", "logit": "the logit of the propensity score",
    "mahalanobis": "the Mahalanobis distance", "scaled_euclidean": "the distance in standard deviations",
}  # fmt: skip


def match(
    X: Any = None,
    *,
    treatment: Any,
    propensity: Any = None,
    distance: str = "propensity",
    estimand: str = "att",
    method: str = "nearest",
    ratio: int = 1,
    replace: bool = True,
    caliper: float | None = None,
    caliper_scale: str = "sd",
    exact: Any = None,
    order: str | None = None,
    ties: str = "average",
    n_strata: int = 20,
    covariance: str = "within_arms",
    control: Any = None,
    random_state: int | np.random.Generator | None = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MatchResult:
    """Match units of one arm with units of the other that are like them; no outcome is looked at.

    With replacement every unit gets its ``ratio`` nearest of the other arm and all others that are as near, each with
    the same share (Abadie and Imbens 2006, Econometrica 74, section 2.2), so that row order does not matter.

    Parameters
    ----------
    X : frame or array of shape (n, p), optional
        Covariates: of the score, where no ``propensity`` is given, and of the other distances. Categories become
        0/1 columns.
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    propensity : array of shape (n,) or PropensityResult, optional
        P(treated given X). Default: logistic regression on ``X``. With the other distances it is for the caliper.
    distance : {"propensity", "logit", "mahalanobis", "scaled_euclidean"}
        ``"mahalanobis"`` and ``"scaled_euclidean"`` are on ``X``; the latter divides each covariate by its standard
        deviation (the default of the R package Matching). Use it for a single covariate too.
    estimand : {"att", "atc", "ate"}
        Whose effect is asked for: the treated, the controls, or all, and so who is given matches.
    method : {"nearest", "optimal", "full", "fine"}
        Nearest neighbour; pairs of the least total distance; full matching; or fine stratification on the score. All
        but the first are without replacement.
    ratio : int
        Matches for each unit.
    replace : bool
        Whether a unit may be the match of several.
    caliper : float, optional
        Largest distance allowed; units without a match nearer than that are left out. With ``propensity`` and a
        distance on ``X`` it bounds the difference of the logits of the scores (Rosenbaum and Rubin 1985, The American
        Statistician 39), otherwise the distance itself.
    caliper_scale : {"sd", "raw"}
        ``"sd"``: in standard deviations of the score, or of its logit, over all units (divisor n - 1). Distances on
        ``X`` are in standard deviations already, so that they take ``"raw"`` alone.
    exact : array of shape (n,) or (n, m), frame, or names of columns of the frame ``X``, optional
        What a unit and its match must agree on.
    order : {"descending", "ascending", "closest", "random", "data"}, optional
        Without replacement: who chooses first, by score. Default: ``"descending"`` for the att, ``"ascending"`` for
        the atc, as MatchIt; ``"closest"`` for distances on ``X``.
    ties : {"average", "first"}
        Without replacement: among units of one score, the weight is shared by all (row order does not matter), or the
        first row is taken (as MatchIt).
    n_strata : int
        Strata of ``"fine"``.
    covariance : {"within_arms", "overall"}
        Of the Mahalanobis distance: pooled within arms (MatchIt's), or of all units (R Matching's).
    control : label, optional
    random_state : int or Generator
        For ``order="random"``.
    progress : callable, optional
        Called with the units done and their number, where matching takes long.

    Returns
    -------
    MatchResult

    Raises
    ------
    TreatmentError, ColumnError, OverlapError, CausalRecError
        For an empty arm, missing values, no match at all, unknown options.

    Notes
    -----
    On a score O(n log n); on covariates by a k-d tree, fast for up to some ten covariates. A singular covariance is
    inverted in the Moore–Penrose sense.

    Examples
    --------
    >>> found = match(propensity=[0.1, 0.2, 0.1, 0.2], treatment=[0, 0, 1, 1], estimand="ate")
    >>> found.pairs()["match"].tolist()
    [2, 3, 0, 1]
    """
    check_estimand(estimand)
    check_known("method", method, METHODS)
    if not isinstance(ratio, int | np.integer) or isinstance(ratio, bool) or ratio < 1:
        raise CausalRecError(f"ratio is {ratio!r}; expected a whole number of matches, 1 or more.")
    if not isinstance(replace, bool | np.bool_):
        raise CausalRecError(f"replace is {replace!r}; expected True or False.")
    check_known("ties", ties, TIES)
    if order is not None:
        check_order(order)
    design = read_design(
        X, treatment, control=control, propensity=propensity, distance=distance, covariance=covariance,
        caliper=caliper, caliper_scale=caliper_scale, exact=exact,
    )  # fmt: skip
    if method in ("nearest", "optimal"):
        _check_ratio(int(ratio), design.treatment, estimand)
    replaced = method == "nearest" and bool(replace)
    tie: IntArray | None = None
    if replaced:
        sets = _with_replacement(design, estimand, int(ratio))
        weights = set_shares(sets, len(design.treatment))
        weights[sets.unit] += 1.0
    else:
        sets, weights, tie = match_unreplaced(
            design.place, design.treatment, estimand=estimand, method=method, ratio=int(ratio), caliper=design.caliper,
            strata=design.strata, gate=design.gate, order=order, ties=ties, n_strata=n_strata,
            random_state=random_state, progress=progress,
        )  # fmt: skip
    return _result(sets, weights, design, estimand, distance, method, int(ratio), replaced, tie)


def _check_ratio(ratio: int, treatment: IntArray, estimand: str) -> None:
    """With as many matches as there are units to be had, every set is the whole arm: nothing is adjusted."""
    for arm in ASKING[estimand]:
        pool = int((treatment != arm).sum())
        if ratio > pool:
            raise CausalRecError(
                f"ratio is {ratio} but the {'control' if arm else 'treated'} arm has {pool} unit{'s' * (pool != 1)} to "
                "match with; ask for fewer, 1 to 5 as a rule."
            )


def _with_replacement(design: MatchDesign, estimand: str, ratio: int) -> MatchedSets:
    if design.place.ndim == 1:
        line = sort_line(design.place, design.treatment, design.strata)
        return match_line(line, estimand=estimand, ratio=ratio, caliper=design.caliper)
    space = make_space(design.place, design.strata, design.gate)
    return match_space(space, design.treatment, estimand=estimand, ratio=ratio, caliper=design.caliper)


def _result(
    sets: MatchedSets,
    weights: FloatArray,
    design: MatchDesign,
    estimand: str,
    distance: str,
    method: str,
    ratio: int,
    replace: bool,
    tie: IntArray | None,
) -> MatchResult:
    arms = np.bincount(design.treatment, minlength=2)
    n_asked = {"ate": len(weights), "att": int(arms[1]), "atc": int(arms[0])}[estimand]
    caliper = design.caliper if design.gate is None else design.gate[1]
    if not len(sets.unit):
        exactly = " among those that agree exactly" if design.strata is not None else ""
        within = f" within {caliper:.4g}" if np.isfinite(caliper) else ""
        remedy = "Use fewer strata" if method == "fine" else "Widen the caliper"
        raise OverlapError(
            f"none of the {n_asked:,} units has a match{within}{exactly}. {remedy}, ask for less to agree "
            "exactly, or compare units that are alike."
        )
    treated = design.treatment.astype(np.float64)
    n_used, n_used_treated = int(np.count_nonzero(weights)), int(np.count_nonzero(weights * treated))
    ess = [float(weights @ arm) ** 2 / float(weights**2 @ arm) for arm in (treated, 1 - treated)]
    return MatchResult(
        n_obs=len(weights), n_treated=n_used_treated, n_control=n_used - n_used_treated, n_matched=len(sets.unit),
        n_unmatched=n_asked - len(sets.unit), estimand=estimand, method=method, distance=distance, ratio=ratio,
        replace=replace, caliper=caliper, ess_treated=ess[0], ess_control=ess[1], weights=weights, **sets._asdict(),
        place=design.place, strata=design.strata, propensity=design.propensity, tie=tie,
    )  # fmt: skip


def matching_effect(
    y: Any,
    match: MatchResult,
    *,
    treatment: Any,
    X: Any = None,
    errors: str = "heteroskedastic",
    variance: str = "population",
    neighbours: int = 3,
    score_known: bool = False,
    clusters: Any = None,
    control: Any = None,
    confidence_level: float = 0.95,
    sample_weight: Any = None,
) -> AdjustedEffect:
    """The mean difference between units and their matches, with an error that belongs to matching.

    Parameters
    ----------
    y : array of shape (n,)
    match : MatchResult
        From :func:`match`, of the same units.
    treatment : array of shape (n,)
        As it was given to :func:`match`.
    X : frame or array of shape (n, p), optional
        Covariates for bias adjustment: outcomes of matches are moved to the covariates of the unit that they serve,
        by a regression among the matches, weighted by how often each serves (Abadie and Imbens 2011, Journal of
        Business and Economic Statistics 29). Needed with several covariates, where matches stay apart.
    errors : {"heteroskedastic", "homoskedastic"}
        See the notes. Without replacement, errors are clustered by matched set: ``errors`` and ``variance`` are then
        refused, ``neighbours`` and ``score_known`` without meaning.
    variance : {"population", "sample"}
        ``"population"``: units are a sample, and their effects vary; ``"sample"``: the effect on these units, given
        covariates and treatment.
    neighbours : int
        Units of the same arm that show the outcome's variance at each unit, besides itself.
    score_known : bool
        Take the score as known even where it was estimated on these units.
    clusters : array of shape (n,), optional
        Such as users with several rows.
    control : label, optional
    confidence_level : float
    sample_weight : None
        Not supported.

    Returns
    -------
    AdjustedEffect
        ``weights`` are those of the match, ``n_dropped`` counts units without one: the effect is that of the others.

    Raises
    ------
    OutcomeError, TreatmentError, OverlapError, CausalRecError
        With what was found and the remedy.

    Notes
    -----
    With replacement the error is Abadie and Imbens' (2006, theorems 6 and 7): K_i, how often unit i serves, enters as
    (1 + K_i)². ``"homoskedastic"`` has one residual variance for all, half the mean squared deviation of the matched
    contrasts from the effect. The bootstrap is not valid here (Abadie and Imbens 2008, Econometrica 76).

    Where the match was on a score that was estimated by maximum likelihood on these units, the population error counts
    that (Abadie and Imbens 2016, Econometrica 84): it lowers the error of the ate, and may lower or raise others.
    Scores by other learners, and out of fold, are taken as known, which is right for none of them in general; so they
    are with ``variance="sample"``.

    In simulations 95% intervals of all three estimands cover 95% on scores that are known or estimated by logistic or
    probit regression, with equal and with unlike effects, calipers, exact strata and several matches, and on the
    Mahalanobis distance with bias adjustment. Without that adjustment matches on two or more continuous covariates
    leave a bias that the interval does not hold (Abadie and Imbens 2006, theorem 1), and so does a caliper that drops
    units with other effects.

    With clusters the error is the sandwich of the matching estimator's linear form, with outcome means over units of
    near scores, summed within clusters.

    Examples
    --------
    >>> found = match(propensity=[0.1, 0.2, 0.1, 0.2], treatment=[0, 0, 1, 1], estimand="ate")
    >>> matching_effect([1.0, 2.0, 2.0, 3.0], found, treatment=[0, 0, 1, 1]).estimate
    1.0
    """
    if sample_weight is not None:
        raise CausalRecError(
            "matching takes no sample_weight: a match stands for one unit. Use weighting_effect, or a regression with "
            "weights."
        )
    check_known("errors", errors, ERRORS)
    check_known("variance", variance, VARIANCES)
    outcome = check_vector(y, name="y", n_rows=match.n_obs)
    codes, labels = check_treatment(treatment, n_rows=match.n_obs, control=control)
    check_two_arms(labels, what="matching")
    _check_same_arms(match, codes)
    level = check_confidence_level(confidence_level)
    groups = check_groups(clusters, n_rows=match.n_obs, name="clusters")
    covariates = None
    if X is not None:
        covariates = as_design(X)[0]
        check_length(len(covariates), match.n_obs, name="X")
    if match.replace:
        estimate, error, note = nearest_effect(
            outcome, match, codes, X=covariates, errors=errors, variance=variance, neighbours=neighbours,
            score_known=score_known, clusters=groups,
        )  # fmt: skip
    else:
        if (errors, variance) != (ERRORS[0], VARIANCES[0]):
            raise CausalRecError(
                f"errors={errors!r} and variance={variance!r} are of matching with replacement; without it the error "
                "is clustered by matched set. Leave them out."
            )
        estimate, error, note = paired_effect(outcome, match, codes, X=covariates, clusters=groups)
    effect = adjusted_effect(
        estimate, error, treatment=codes, confidence_level=level, method=f"{_described(match, X is not None)}; {note}",
        estimand=match.estimand, n_treated=match.n_treated, n_control=match.n_control,
        n_obs=match.n_treated + match.n_control, ess_treated=match.ess_treated, ess_control=match.ess_control,
        n_dropped=match.n_unmatched, propensity=None if match.propensity is None else match.propensity.score,
    )  # fmt: skip
    return dataclasses.replace(effect, weights=match.weights)


def _check_same_arms(match: MatchResult, treatment: IntArray) -> None:
    asked = {"att": (1,), "atc": (0,), "ate": (0, 1)}[match.estimand]
    some = slice(None, None, max(1, len(match.unit) // _CHECKED))
    units, partners = treatment[match.unit[some]], treatment[match.pool[match.start[some]]]
    if not np.isin(units, asked).all() or (partners == units).any():
        raise CausalRecError(
            "treatment is not the one that was matched: some matched units are of the same arm. Pass the same "
            "treatment (and control) to match and to matching_effect, in the same order of rows."
        )


def _described(match: MatchResult, adjusted: bool) -> str:
    words = {"nearest": f"{match.ratio}:1 nearest-neighbour", "optimal": f"{match.ratio}:1 optimal", "full": "full",
             "fine": "fine stratification:"}  # fmt: skip
    how = f"{words[match.method]} matching on {_WORDS[match.distance]}"
    how += " with replacement" if match.replace else ""
    if np.isfinite(match.caliper):
        how += f", caliper {match.caliper:.4g}{_caliper_words(match)}"
    short = int((match.sizes < match.ratio).sum())
    if short:
        how += f", {short:,} unit{'s' * (short != 1)} with fewer than {match.ratio} matches"
    return how + (", bias-adjusted" if adjusted else "")


def _caliper_words(match: MatchResult) -> str:
    """What the caliper is on, where that is not the distance, or how many standard deviations it is."""
    if match.distance in DISTANCES[2:]:
        return " on the logit of the score" if match.propensity is not None else ""
    spread = 0.0 if match.place is None else float(np.std(match.place, ddof=1))
    return f" ({match.caliper / spread:.3g} standard deviations)" if spread > 0 else ""
