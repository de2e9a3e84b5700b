"""Effects and errors of nearest-neighbour matching with replacement, after Abadie and Imbens."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.observational._errors import clustered_by, sandwich_error
from causalrec.observational._mahalanobis import Space, make_space, space_sets
from causalrec.observational._nearest import Line, line_sets, sort_line, sorted_line, windows
from causalrec.observational._sets import (
    MatchedSets,
    SortedSets,
    by_row,
    by_unit,
    set_covariances,
    set_means,
    set_shares,
    spread_over,
)
from causalrec.observational.design import regressors
from causalrec.results import MatchResult, PropensityResult

ERRORS = ("heteroskedastic", "homoskedastic")
VARIANCES = ("population", "sample")
_MOST_IN_SPACE = 30


class Contrasts(NamedTuple):
    """Units against their matches.

    ``asked`` and ``serving`` are the outcomes that count where a unit is given matches, and where it is one: they
    differ by the bias adjustment. ``contrast`` has shape (m,), all others (n,): ``matched`` is 1 for units with
    matches, ``times`` K_i = Σ 1/|J| over the sets J that hold unit i, ``squares`` Σ 1/|J|².
    """

    sets: MatchedSets
    sign: FloatArray
    asked: FloatArray
    serving: FloatArray
    contrast: FloatArray
    matched: FloatArray
    times: FloatArray
    squares: FloatArray

    @property
    def estimate(self) -> float:
        """Mean contrast."""
        return float(self.contrast.mean())


def nearest_effect(
    y: FloatArray,
    match: MatchResult,
    treatment: IntArray,
    *,
    X: FloatArray | None,
    errors: str,
    variance: str,
    neighbours: int,
    score_known: bool,
    clusters: IntArray | None,
) -> tuple[float, float, str]:
    """Estimate, standard error, and what the error is."""
    if not isinstance(neighbours, int | np.integer) or neighbours < 1:
        raise CausalRecError(f"neighbours is {neighbours!r}; expected a whole number, 1 or more.")
    if clusters is not None and errors == "homoskedastic":
        raise CausalRecError(
            'errors="homoskedastic" takes outcomes as independent, and clusters are given; leave errors as it is.'
        )
    units = arrange(match, treatment)
    found = contrasts(units.of(y), units, None if X is None else units.of(regressors(X)))
    whole = variance == "population"
    if errors == "homoskedastic":
        return found.estimate, homoskedastic_error(found, whole), f"Abadie–Imbens error, homoskedastic, {variance}"
    around = _Around(units)
    on_score = match.distance in ("propensity", "logit")
    score = match.propensity if on_score and whole and not score_known else None
    counted = score is not None and score.parametric and not score.cross_fitted
    total = 0.0 if clusters is not None else heteroskedastic_variance(found, around.alike(int(neighbours)), whole)
    if clusters is not None or counted:
        groups = None if clusters is None else units.of(clusters)
        near = local_means(found, *around.wide(groups))
        influence = linear_form(found, near, whole)
        added = np.zeros(len(y)) if score is None else _score_influence(found, near, units, score, treatment)
        if groups is not None:
            total = sandwich_error(influence + added, groups) ** 2
        else:
            corrected = total + float((2 * influence + added) @ added)
            total = corrected if corrected > 0 else float((influence + added) @ (influence + added))
    kind = f"sandwich error of the linear form{clustered_by(clusters)}" if clusters is not None else (
        f"Abadie–Imbens error, heteroskedastic, {variance}"
    )  # fmt: skip
    return found.estimate, math.sqrt(total), kind + _about_score(match, counted)


def _about_score(match: MatchResult, estimated: bool) -> str:
    if estimated:
        return ", the score's estimation counted"
    known = match.propensity is None or match.propensity.known or match.distance not in ("propensity", "logit")
    return "" if known else ", the score taken as known"


class Units(NamedTuple):
    """What errors need of the units, in the order in which they lie on the line where there is one.

    Sums over slices then read memory in order, which is several times as fast. ``order`` has the row of each.
    """

    order: IntArray | None
    treatment: IntArray
    place: FloatArray
    strata: IntArray | None
    sets: MatchedSets

    def of(self, values: AnyArray) -> AnyArray:
        """Values by row in the order of the units."""
        return values if self.order is None else values[self.order]

    def to_rows(self, values: FloatArray) -> FloatArray:
        """The reverse of :meth:`of`."""
        if self.order is None:
            return values
        rows = np.empty_like(values)
        rows[self.order] = values
        return rows


def arrange(match: MatchResult, treatment: IntArray) -> Units:
    """Units and sets in the order of the pool, where they lie on a line: it then has each row once."""
    sets = MatchedSets(match.unit, match.start, match.stop, match.pool, match.distances)
    if match.place is None:
        raise CausalRecError("the match does not hold where its units lie; make it by match().")
    n, pool = match.n_obs, match.pool
    if match.place.ndim > 1:
        return Units(None, treatment, match.place, match.strata, sets)
    new = np.arange(n)
    if np.array_equal(match.unit, pool):
        unit = new
    else:
        unit = np.empty(n, dtype=np.int64)
        unit[pool] = new
        unit = unit[match.unit]
    strata = None if match.strata is None else match.strata[pool]
    return Units(
        pool, treatment[pool], match.place[pool], strata, SortedSets(unit, sets.start, sets.stop, new, sets.distances)
    )


def contrasts(y: FloatArray, units: Units, Z: FloatArray | None) -> Contrasts:
    """Contrasts of matched units, bias-adjusted by the regressors ``Z`` if they are given."""
    n, sets = len(y), units.sets
    sizes = sets.stop - sets.start
    times = set_shares(sets, n)
    squares = times if (sizes == 1).all() else set_shares(sets, n, 1.0 / sizes.astype(np.float64) ** 2)
    matched = np.ones(n)
    if len(sets.unit) < n:
        matched[:] = 0.0
        matched[sets.unit] = 1.0
    sign = np.where(units.treatment == 1, 1.0, -1.0)
    asked, serving = (y, y) if Z is None else bias_adjusted(y, Z, units.treatment, times)
    contrast = by_unit(sign, sets) * (by_unit(asked, sets) - set_means(serving, sets))
    return Contrasts(sets, sign, asked, serving, contrast, matched, times, squares)


def bias_adjusted(
    y: FloatArray, Z: FloatArray, treatment: IntArray, times: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Outcomes less their regression on covariates, for units that are asked and for those that serve.

    The regression is among the units of an arm that serve, weighted by how often (Abadie and Imbens 2011, section 3);
    a unit that is asked is adjusted by that of the other arm. ``Z`` has its intercept first.
    """
    asked, serving = y.copy(), y.copy()
    for arm in (0, 1):
        rows = np.flatnonzero((treatment == arm) & (times > 0))
        if not len(rows):
            continue
        if len(rows) < Z.shape[1]:
            raise OverlapError(
                f"{len(rows)} units serve as matches and the bias adjustment has {Z.shape[1]} coefficients; give X "
                "fewer covariates, or leave it out."
            )
        root = np.sqrt(times[rows])
        slopes = np.linalg.lstsq(Z[rows] * root[:, None], y[rows] * root, rcond=None)[0][1:]
        fitted = Z[:, 1:] @ slopes
        serving -= np.where(treatment == arm, fitted, 0.0)
        asked -= np.where(treatment == arm, 0.0, fitted)
    return asked, serving


def homoskedastic_error(found: Contrasts, population: bool) -> float:
    """One variance for all: σ² is half the mean squared deviation of pair contrasts from the effect.

    Abadie and Imbens 2006, section 4.1, as the R package Matching computes it: over pairs, not over units, since among
    tied matches the contrasts vary by the spread of the matches' outcomes.
    """
    mean = float(found.serving.mean())
    served = found.serving - mean
    spread = set_means(served**2, found.sets) - set_means(served, found.sets) ** 2
    deviations = (found.contrast - found.estimate) ** 2
    sigma2 = float((deviations + np.maximum(spread, 0.0)).mean()) / 2
    factor = 2 * found.matched * found.times + found.times**2
    factor = factor - found.squares if population else factor + found.matched
    total = sigma2 * float(factor.sum()) + (float(deviations.sum()) if population else 0.0)
    return math.sqrt(max(total, 0.0)) / len(found.contrast)


def heteroskedastic_variance(found: Contrasts, alike: MatchedSets, population: bool) -> float:
    """A variance at every unit, from units of its arm that are alike (Abadie and Imbens 2006, theorems 6 and 7).

    For the sample, Σ Var(m_i a_i + K_i s_i) / N², where a_i and s_i are the outcomes as asked and as serving, m_i
    whether it is matched; equal outcomes give (1 + K_i)² σ_i². For the population the contrasts' squared deviations
    stand for m_i σ_i² + Σ_j∈J σ_j² / |J|² and for the variance of the effects.

    Parameters
    ----------
    alike : MatchedSets
        For every unit, itself and its nearest of the same arm.
    """
    same = found.asked is found.serving
    serving = by_row(np.maximum(set_covariances(found.serving, found.serving, alike), 0.0), alike, len(found.times))
    both = serving if same else by_row(
        set_covariances(found.asked, found.serving, alike), alike, len(found.times)
    )  # fmt: skip
    if population:
        rest = 2 * found.matched * found.times * both + (found.times**2 - found.squares) * serving
        total = float(((found.contrast - found.estimate) ** 2).sum()) + float(rest[found.times > 0].sum())
    else:
        asked = serving if same else by_row(
            np.maximum(set_covariances(found.asked, found.asked, alike), 0.0), alike, len(found.times)
        )  # fmt: skip
        rest = found.matched * asked + 2 * found.matched * found.times * both + found.times**2 * serving
        total = float(rest[found.matched + found.times > 0].sum())
    return max(total, 0.0) / len(found.contrast) ** 2


class LocalMeans(NamedTuple):
    """Mean outcomes around each unit, shape (n,): of its own arm as asked and as serving, of the other as serving.

    ``factor`` makes up for a unit's being in the mean of its own arm; ``other`` are the units around it of the other
    arm, with ``served`` their means by set. Means that there are not are NaN.
    """

    asked: FloatArray
    serving: FloatArray
    across: FloatArray
    factor: FloatArray
    other: MatchedSets
    served: FloatArray


def local_means(found: Contrasts, own: MatchedSets, other: MatchedSets) -> LocalMeans:
    """Means over units around each that are of its arm, itself among them, and of the other."""
    n, size = len(found.times), own.stop - own.start
    factor = by_row(np.sqrt(size / np.maximum(size - 1, 1)), own, n)
    asked = serving = by_row(set_means(found.serving, own), own, n)
    if found.asked is not found.serving:
        asked = by_row(set_means(found.asked, own), own, n)
    served = set_means(found.serving, other)
    return LocalMeans(asked, serving, by_row(served, other, n), factor, other, served)


def linear_form(found: Contrasts, near: LocalMeans, population: bool) -> FloatArray:
    """Each unit's influence, shape (n,): (μ₁ - μ₀ - τ)(e_i) where matched, plus ±(m_i + K_i)(Y_i - μ(e_i)), over N.

    The matching estimator is this sum for any function μ, up to differences of μ between units and their matches;
    here μ are local means in both arms.
    """
    if found.asked is found.serving:
        rest = (found.matched + found.times) * (found.serving - near.serving)
    else:
        rest = found.matched * (found.asked - near.asked) + found.times * (found.serving - near.serving)
    influence = found.sign * near.factor * rest
    if population:
        across = found.sign * (near.asked - near.across) - found.estimate
        influence += across if len(found.contrast) == len(across) else np.where(found.matched > 0, across, 0.0)
    return np.asarray(influence / len(found.contrast))


def _score_influence(
    found: Contrasts, near: LocalMeans, units: Units, score: PropensityResult, treatment: IntArray
) -> FloatArray:
    """What the estimation of the score adds to each unit's influence; zeros where it cannot be counted."""
    if score.slope is None or score.cross_fitted:
        return np.zeros(len(treatment))
    steepness = units.of(score.slope / np.maximum(score.score * (1 - score.score), 1e-300))
    moved = units.to_rows(score_gradient(found, near, steepness))
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient = np.where(score.slope > 0, moved / score.slope, 0.0)
    return np.asarray(units.of(score.influence(treatment, gradient)))


def score_gradient(found: Contrasts, near: LocalMeans, steepness: FloatArray) -> FloatArray:
    """Derivative of the estimate by the linear predictor of the score, through each unit's outcome; shape (n,).

    A score that moves changes who is matched with whom. By Abadie and Imbens 2016 (theorems 1 and 2) the estimate
    moves by -Σ_i cov(X, Y | e_i, other arm) f_i / (e_i (1 - e_i)) over N, summed over the matched: for the treated
    -E[f cov(X, Y₀ | e) / (1 - e)] / E[e], and for all the paper's -c. The covariance around unit i is that of the
    units around it, so that each of these gets (Y_j - mean_i) f_i / (e_i (1 - e_i)) / (size - 1).

    Parameters
    ----------
    steepness : array of shape (n,)
        f / (e (1 - e)): the derivative of the score by its linear predictor over the variance; 1 for a logistic one.
    """
    other = near.other
    n, size = len(found.times), other.stop - other.start
    amounts = np.where(size > 1, by_unit(steepness * found.matched, other) / np.maximum(size - 1, 1), 0.0)
    centre = float(found.serving.mean())
    moved = (found.serving - centre) * spread_over(other, n, amounts)
    moved -= spread_over(other, n, amounts * (near.served - centre))
    return np.asarray(-moved / len(found.contrast))


def _before(place: FloatArray, sets: MatchedSets, n_control: int) -> IntArray | None:
    """How many of the other arm lie before each unit, where every unit has one match: those before it or it too."""
    if len(sets.unit) < len(place) or (sets.stop - sets.start > 1).any():
        return None
    before = sets.start + (place[sets.start] < place)
    before[:n_control] -= n_control
    return before


class _Around:
    """Units of either arm around each unit, on the line or in space."""

    def __init__(self, units: Units) -> None:
        self.treatment, self.strata, self.place, self.sets = units.treatment, units.strata, units.place, units.sets
        self.on_line = self.place.ndim == 1
        self.sorted = units.order is not None and self.strata is None
        self.line = self._line(self.strata) if self.on_line else None

    def _line(self, strata: IntArray | None) -> Line:
        if self.sorted:
            n_control = int((self.treatment == 0).sum())
            return sorted_line(self.place, n_control, _before(self.place, self.sets, n_control))
        return sort_line(self.place, self.treatment, strata)

    def _space(self, strata: IntArray | None) -> Space:
        return make_space(self.place, strata, None)

    def alike(self, neighbours: int) -> MatchedSets:
        """Each unit and its nearest of the same arm: within its stratum, or anywhere for one that is alone there."""
        found = self._nearest_own(neighbours + 1, self.strata)
        alone = found.stop - found.start < 2
        if self.strata is None or not alone.any():
            return found
        anywhere = self._nearest_own(neighbours + 1, None)
        at = np.argsort(anywhere.unit)[found.unit[alone]]
        start, stop = found.start.copy(), found.stop.copy()
        start[alone] = anywhere.start[at] + len(found.pool)
        stop[alone] = anywhere.stop[at] + len(found.pool)
        return MatchedSets(found.unit, start, stop, np.concatenate([found.pool, anywhere.pool]), found.distances)

    def _nearest_own(self, k: int, strata: IntArray | None) -> MatchedSets:
        if self.on_line:
            line = self.line if self.line is not None and strata is self.strata else self._line(strata)
            return line_sets(line, (0, 1), k, own=True)
        space = self._space(strata)
        return join([space_sets(space, self.treatment == arm, self.treatment == arm, k) for arm in (0, 1)])

    def wide(self, clusters: IntArray | None) -> tuple[MatchedSets, MatchedSets]:
        """For local means: about the root of an arm's number of units (of clusters, times their size), whole ties."""
        n = np.bincount(self.treatment, minlength=2)
        groups = n if clusters is None else np.array(
            [len(np.unique(clusters[self.treatment == arm])) for arm in (0, 1)]
        )  # fmt: skip
        size = [max(round(math.sqrt(g) * m / g), 2) for g, m in zip(groups, n, strict=True)]
        if self.line is not None:
            line = self.line
            return windows(line, (size[0], size[1]), own=True), windows(line, (size[0], size[1]), own=False)
        space, arms = self._space(self.strata), [self.treatment == arm for arm in (0, 1)]
        size = [min(s, _MOST_IN_SPACE) for s in size]
        own = join([space_sets(space, arms[arm], arms[arm], size[arm]) for arm in (0, 1)])
        return own, join([space_sets(space, arms[arm], arms[1 - arm], size[1 - arm]) for arm in (0, 1)])


def join(parts: list[MatchedSets]) -> MatchedSets:
    """Sets of both arms as one."""
    before = [0, len(parts[0].pool)]
    moved = [p._replace(start=p.start + b, stop=p.stop + b) for p, b in zip(parts, before, strict=True)]
    return MatchedSets(*(np.concatenate(arrays) for arrays in zip(*moved, strict=True)))
