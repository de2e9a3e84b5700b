"""Effects that were adjusted for covariates, and what they were adjusted by: scores, matches, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.results.base import Result, format_interval, format_level, format_number
from causalrec.results.effects import EffectResult

_MOST_PAIRS = 50_000_000


@dataclass(frozen=True, eq=False)
class PropensityResult(Result):
    """P(treated given X) of every unit, and what estimating it does to the error of whatever uses it.

    Attributes
    ----------
    n_obs : int
    method : str
        How the score came about: which model, in or out of fold, calibrated, clipped, or known by design.
    known, cross_fitted : bool
    share_clipped : float
        Share of units whose score was moved to a bound.
    score : array of shape (n,)
    design : array of shape (n, q), or None
        Regressors of a parametric model, intercept first. None where the score is known, or no such model made it:
        its error then cannot be counted.
    slope : array of shape (n,), or None
        Derivative of the score by the linear predictor.
    information : array of shape (q, q), or None
        Observed information of the coefficients.
    sample_weight : array of shape (n,), or None
        Weights in the fit.
    """

    n_obs: int
    method: str
    known: bool
    cross_fitted: bool
    share_clipped: float
    score: FloatArray = field(repr=False)
    design: FloatArray | None = field(repr=False, default=None)
    slope: FloatArray | None = field(repr=False, default=None)
    information: FloatArray | None = field(repr=False, default=None)
    sample_weight: FloatArray | None = field(repr=False, default=None)

    @property
    def parametric(self) -> bool:
        """Whether :meth:`influence` can say what the estimation of the score adds to an error."""
        return self.design is not None

    def influence(self, treatment: IntArray, gradient: FloatArray) -> FloatArray:
        r"""What the estimation of the score adds to the influence of each unit on an estimate.

        The score's coefficients θ solve Σ s_i(θ) = 0. For an estimate f(e_1, …, e_n) with gradient g_i = ∂f/∂e_i the
        term is :math:`s_i^\top I^{-1} \sum_j g_j\, \partial e_j/\partial\theta` (stacked estimating equations:
        Newey and McFadden 1994, Handbook of Econometrics 4, section 6).

        Parameters
        ----------
        treatment : 0/1 array of shape (n,)
        gradient : array of shape (n,)
            Derivative of the estimate itself (not of n times it) by each unit's score.

        Returns
        -------
        array of shape (n,)
            On the scale of a sum: estimate - truth ≈ Σ_i influence_i. Zeros for a score that is known or not
            parametric.
        """
        if self.design is None or self.slope is None or self.information is None:
            return np.zeros(self.n_obs)
        direction = np.linalg.solve(self.information, self.design.T @ (gradient * self.slope))
        residual = (treatment - self.score) * self.slope / (self.score * (1 - self.score))
        if self.sample_weight is not None:
            residual = residual * self.sample_weight
        return np.asarray(residual * (self.design @ direction))

    def to_frame(self) -> pd.DataFrame:
        """A row per unit: its score."""
        return pd.DataFrame({"propensity": self.score})


@dataclass(frozen=True, eq=False)
class WeightsResult(Result):
    """Weights that make the arms alike, and what estimating them does to an error; no outcome was looked at.

    Attributes
    ----------
    n_obs, n_treated, n_control : int
        Units given, and those of each arm with a weight above zero.
    n_dropped : int
        Units set aside (trimmed): weight 0.
    estimand, method : str
    ess_treated, ess_control : float
        Effective sample sizes (Σw)²/Σw² (Kish 1965).
    largest_share : float
        The largest share of an arm's weight that one unit has.
    weights : array of shape (n,)
        Of each unit within its arm: an arm's mean is Σwy/Σw.
    share_clipped : float
        Share of units whose propensity was moved to a bound.
    trim_low, trim_high : float
        Least and greatest propensity kept.
    target : array of shape (n,), or None
        Horvitz–Thompson: the weight of each unit in the population asked for; an arm's mean is then Σwy/Σtarget.
    propensity : array of shape (n,), or None
    design, residual, slope, bread : arrays of shape (n, q), (n, k), (n, k), (k, q, q), or None
        Of k sets of estimating equations: unit i adds ``residual[i, b] * design[i]`` to the b-th, ``bread[b]`` is the
        inverse of its derivative, and the weight of unit i moves with the parameters by ``slope[i, b] * design[i]``.
        None where the weights are known, or their estimation cannot be counted.
    treated : bool array of shape (n,), or None
        Whose weights they are: an effect of another treatment, or of rows in another order, is refused.
    """

    n_obs: int
    n_treated: int
    n_control: int
    n_dropped: int
    estimand: str
    method: str
    ess_treated: float
    ess_control: float
    largest_share: float
    weights: FloatArray = field(repr=False)
    share_clipped: float = 0.0
    trim_low: float = 0.0
    trim_high: float = 1.0
    target: FloatArray | None = field(repr=False, default=None)
    propensity: FloatArray | None = field(repr=False, default=None)
    design: FloatArray | None = field(repr=False, default=None)
    residual: FloatArray | None = field(repr=False, default=None)
    slope: FloatArray | None = field(repr=False, default=None)
    bread: FloatArray | None = field(repr=False, default=None)
    treated: BoolArray | None = field(repr=False, default=None)

    @property
    def counted(self) -> bool:
        """Whether :meth:`influence` can say what the estimation of the weights adds to an error."""
        return self.design is not None

    def influence(self, gradient: FloatArray) -> FloatArray:
        """What the estimation of the weights adds to the influence of each unit on an estimate.

        Stacked estimating equations: Newey and McFadden 1994, Handbook of Econometrics 4, section 6.

        Parameters
        ----------
        gradient : array of shape (n,)
            Derivative of the estimate by each unit's weight.

        Returns
        -------
        array of shape (n,)
            On the scale of a sum: estimate - truth ≈ Σ_i influence_i. Zeros unless ``counted``.
        """
        added = np.zeros(self.n_obs)
        if self.design is None or self.residual is None or self.slope is None or self.bread is None:
            return added
        for residual, slope, bread in zip(self.residual.T, self.slope.T, self.bread, strict=True):
            added += residual * (self.design @ (bread @ (self.design.T @ (gradient * slope))))
        return added

    def to_frame(self) -> pd.DataFrame:
        """A row per unit: its weight."""
        return pd.DataFrame({"weight": self.weights})


@dataclass(frozen=True, eq=False)
class MatchResult(Result):
    """Who was compared with whom; no outcome was looked at.

    The matched set of ``unit[i]`` is ``pool[start[i]:stop[i]]``, each of it with the same share. Sets may overlap, so
    that a tie of any size costs nothing; :meth:`pairs` writes them out.

    Attributes
    ----------
    n_obs, n_treated, n_control : int
        Units given, and those of each arm with a weight above zero.
    n_matched, n_unmatched : int
        Units whose effect is asked for (the treated for the att) that found a match, and that did not.
    estimand, method : str
    distance : str
        What the distance is: ``"propensity"``, ``"logit"``, ``"mahalanobis"``, …
    ratio : int
    replace : bool
    caliper : float
        Largest distance allowed, in the units of ``distance``; infinite without one.
    ess_treated, ess_control : float
        Effective sample sizes (Σw)²/Σw².
    weights : array of shape (n,)
        Of each unit within its arm: 1 for every unit matched, plus its shares in the sets of others.
    unit, start, stop : int arrays of shape (n_matched,)
    pool : int array
    distances : array of shape (n_matched,)
        Distance to the farthest of the set.
    place : array of shape (n,) or (n, p), or None
        Where each unit lies: distances are Euclidean in it. Errors look there for units alike.
    strata : int array of shape (n,), or None
        Which units were matched exactly.
    propensity : PropensityResult or None
        The score that was matched on, for the error of an effect.
    tie : int array of shape (n,), or None
        Without replacement: classes of units so alike that either might have been taken. The weights are means over
        them, while the sets hold the first of them.
    """

    n_obs: int
    n_treated: int
    n_control: int
    n_matched: int
    n_unmatched: int
    estimand: str
    method: str
    distance: str
    ratio: int
    replace: bool
    caliper: float
    ess_treated: float
    ess_control: float
    weights: FloatArray = field(repr=False)
    unit: IntArray = field(repr=False)
    start: IntArray = field(repr=False)
    stop: IntArray = field(repr=False)
    pool: IntArray = field(repr=False)
    distances: FloatArray = field(repr=False)
    place: FloatArray | None = field(repr=False, default=None)
    strata: IntArray | None = field(repr=False, default=None)
    propensity: PropensityResult | None = field(repr=False, default=None)
    tie: IntArray | None = field(repr=False, default=None)

    @property
    def sizes(self) -> IntArray:
        """Members of each matched set, shape (n_matched,)."""
        return self.stop - self.start

    def pairs(self) -> pd.DataFrame:
        """A row per unit and match: ``unit`` and ``match`` as row numbers, and the ``share`` of the match in its set.

        Raises
        ------
        CausalRecError
            When ties would make more than fifty million rows.
        """
        sizes = self.sizes
        total = int(sizes.sum())
        if total > _MOST_PAIRS:
            raise CausalRecError(
                f"there are {total:,} pairs, since many units are equally near; at most {_MOST_PAIRS:,} are written "
                "out. The weights hold what estimates need; use a finer distance to have fewer ties."
            )
        before = np.cumsum(sizes) - sizes
        place = np.arange(total) - np.repeat(before - self.start, sizes)
        return pd.DataFrame(
            {
                "unit": np.repeat(self.unit, sizes),
                "match": self.pool[place],
                "share": np.repeat(1 / sizes, sizes),
            }
        )

    def to_frame(self) -> pd.DataFrame:
        """The table of :meth:`pairs`."""
        return self.pairs()


@dataclass(frozen=True)
class Recipe:
    """How a study made an estimate, so that it can make it again of other data.

    Attributes
    ----------
    name, estimand : str
        Of the method.
    options : mapping
    digest : int
        Of the study's outcome and treatment; 0 where it is not known.
    """

    name: str
    estimand: str
    options: Mapping[str, Any] = field(default_factory=dict)
    digest: int = 0


@dataclass(frozen=True, eq=False)
class AdjustedEffect(EffectResult):
    """An average effect after adjustment for covariates, with what it rests on.

    Attributes
    ----------
    n_treated, n_control : int
        Units of each arm that the estimate uses.
    n_dropped : int
        Units whose effect was asked for but that are not in the estimate: without a match, or trimmed. The estimand
        is then that of the rest.
    ess_treated, ess_control : float
        Effective sample sizes of the weights; NaN for estimators that are no weighted means.
    share_clipped : float
        Share of units whose propensity was moved to a bound.
    weights : array of shape (n,), or None
        Of each unit within its arm, for the balance that the estimate leaves.
    propensity : array of shape (n,), or None
    recipe : Recipe or None
        How a study made it. It lives in memory alone: a saved result has none.
    """

    n_treated: int
    n_control: int
    n_dropped: int = 0
    ess_treated: float = float("nan")
    ess_control: float = float("nan")
    share_clipped: float = 0.0
    weights: FloatArray | None = field(repr=False, default=None)
    propensity: FloatArray | None = field(repr=False, default=None)
    recipe: Recipe | None = field(repr=False, default=None)

    def __str__(self) -> str:
        rest = f"; {self.n_dropped:,} unit{'s' * (self.n_dropped > 1)} not in it" if self.n_dropped else ""
        return super().__str__() + rest


@dataclass(frozen=True, eq=False)
class InstrumentEffect(AdjustedEffect):
    """An effect by way of instruments, with what tells whether they are strong enough.

    Attributes
    ----------
    n_instruments : int
    first_stage_f : float
        F statistic of the instruments in the regression of the treatment; below 10 they are weak.
    anderson_rubin_low, anderson_rubin_high : float
        An interval that holds with weak instruments too, infinite where they say nothing; NaN for several instruments.
    """

    n_instruments: int = 1
    first_stage_f: float = float("nan")
    anderson_rubin_low: float = float("nan")
    anderson_rubin_high: float = float("nan")

    def __str__(self) -> str:
        return f"{super().__str__()}; first-stage F = {format_number(self.first_stage_f)}"


@dataclass(frozen=True, eq=False)
class EffectComparisonResult(Result):
    """Estimates of one effect by several methods, side by side.

    Attributes
    ----------
    treatment, outcome, estimand : str
    n_obs : int
    names : tuple of str
    effects : tuple of AdjustedEffect
        One per name.
    max_abs_smd : array
        Largest standardised difference that each leaves; NaN where a method has no weights.
    failures : tuple of str
        ``"name: why"`` of methods that gave no estimate.
    """

    treatment: str
    outcome: str
    estimand: str
    n_obs: int
    names: tuple[str, ...]
    effects: tuple[AdjustedEffect, ...]
    max_abs_smd: FloatArray = field(repr=False)
    failures: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> AdjustedEffect:
        if name not in self.names:
            raise CausalRecError(f"there is no estimate {name!r}; expected one of {', '.join(self.names)}.")
        return self.effects[self.names.index(name)]

    def to_frame(self) -> pd.DataFrame:
        """A row per method."""
        rows = [{"name": n, **e.to_dict()} for n, e in zip(self.names, self.effects, strict=True)]
        return pd.DataFrame(rows).assign(max_abs_smd=self.max_abs_smd)

    def __str__(self) -> str:
        level = format_level(self.effects[0].confidence_level) if self.effects else ""
        table: list[Sequence[str]] = [("method", "estimate", "std error", f"{level} CI", "n", "worst |SMD|")]
        for name, effect, smd in zip(self.names, self.effects, self.max_abs_smd, strict=True):
            interval = format_interval(effect.ci_low, effect.ci_high)
            estimand = "" if effect.estimand == self.estimand else f" ({effect.estimand})"
            numbers = (effect.estimate, effect.std_error)
            table.append(
                (
                    name + estimand,
                    *map(format_number, numbers),
                    interval,
                    f"{effect.n_obs:,}",
                    format_number(float(smd)),
                )
            )
        widths = [max(len(row[i]) for row in table) for i in range(6)]
        lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
                 for row in table]  # fmt: skip
        head = f"Effect of {self.treatment} on {self.outcome} ({self.estimand}), {self.n_obs:,} units"
        return "\n".join([head, *lines, *(f"  no estimate by {text}" for text in self.failures)])
