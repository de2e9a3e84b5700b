"""The design of an experiment: what is measured, how it is split, how it will be tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np

from causalrec._typing import FloatArray
from causalrec._validation import check_alternative, list_some
from causalrec.abtest.hypotheses import (
    Equivalence,
    Hypothesis,
    NonInferiority,
    OneSidedTest,
    Superiority,
    one_sided_tests,
)
from causalrec.abtest.power._numbers import as_finite, as_number
from causalrec.abtest.power.functions import (
    Sampling,
    sampling_of_arcsines,
    sampling_of_means,
    sampling_of_proportions,
    sampling_of_relative_effect,
)
from causalrec.exceptions import CausalRecError
from causalrec.results import NAN

PowerMethod: TypeAlias = Literal["t", "student", "normal", "pooled", "unpooled", "arcsine"]
_MEAN_METHODS = ("t", "student", "normal")
_PROPORTION_METHODS = ("pooled", "unpooled", "arcsine")
_METHOD_NAMES = {
    "t": "Welch t, noncentral t",
    "student": "Student t, noncentral t",
    "normal": "z, normal",
    "pooled": "two-proportion z, pooled",
    "unpooled": "two-proportion z, unpooled",
    "arcsine": "arcsine (Cohen's h)",
}
FEWEST_UNITS = 2.0  # of an arm, where they are independent


@dataclass(frozen=True, kw_only=True)
class Design:
    """An experiment to be: what is measured, how it is split, how it will be tested.

    Parameters
    ----------
    mean, std : float
        Of a unit's metric in control; the mean is needed for relative effects only. Of a ratio metric they are the
        ratio and the standard deviation of its linearised score.
    proportion : float
        Of control, in (0, 1), in place of ``mean`` and ``std``.
    alpha : float
    alternative : {"two-sided", "greater", "less"}
    hypothesis : NonInferiority or Equivalence, optional
        In place of ``alternative``; both are tested at ``alpha`` on each side.
    ratio : float
        Units of each treatment arm per unit of control.
    n_arms : int
        Control included.
    weights : sequence of float
        Shares of the arms in any scale, control first, in place of ``ratio`` and ``n_arms``. Where treatment arms
        differ, power is that of the smallest.
    adjustment : {"none", "bonferroni"}
        Whether each arm's comparison with control is tested at ``alpha`` or at ``alpha / (n_arms - 1)``.
    test : {"absolute", "relative"}
        What is tested against zero: the difference, or the relative effect r with its delta-method variance
        (v1 + (1 + r)^2 v0) / mean^2, as growthbook does. Relative intervals of Fieller exclude zero just when the
        absolute one does, and go with ``"absolute"``.
    method : str, optional
        For means ``"t"`` (Welch's test, noncentral t; the default), ``"student"`` (the t test with one variance for
        both arms: statsmodels' ``TTestIndPower``, R's ``power.t.test``, G*Power) or ``"normal"`` (z). For proportions
        ``"pooled"`` (z test with the variance of no effect, where there is no margin; the default; R's
        ``power.prop.test``), ``"unpooled"`` or ``"arcsine"`` (Cohen's h: statsmodels' ``proportion_effectsize`` with
        ``NormalIndPower``, R's ``pwr``).
    variance_reduction : float
        Share of the variance that covariates take away, in [0, 1): of CUPED the squared correlation with the past.
    design_effect : float
        Factor on the variance where rows come in clusters, see :func:`design_effect`. Sizes are then of rows, and the
        degrees of freedom those of n_obs / design_effect units.
    daily_units : float or sequence of float, optional
        New units a day, in all arms; of a sequence the last one holds from then on.
    metric : str

    Raises
    ------
    CausalRecError
        For numbers out of range, both a mean and a proportion, or choices that do not go together.

    Examples
    --------
    >>> Design(mean=10, std=20).power([0.0, 1.0], 12_560).round(3)
    array([0.05, 0.8 ])
    """

    mean: float = NAN
    std: float = NAN
    proportion: float = NAN
    alpha: float = 0.05
    alternative: str = "two-sided"
    hypothesis: Hypothesis | None = None
    ratio: float = 1.0
    n_arms: int = 2
    weights: Sequence[float] = ()
    adjustment: Literal["none", "bonferroni"] = "none"
    test: Literal["absolute", "relative"] = "absolute"
    method: PowerMethod | None = None
    variance_reduction: float = 0.0
    design_effect: float = 1.0
    daily_units: float | Sequence[float] | None = None
    metric: str = ""

    def __post_init__(self) -> None:
        for name in ("mean", "std", "proportion", "alpha", "ratio", "n_arms", "variance_reduction", "design_effect"):
            object.__setattr__(self, name, as_number(getattr(self, name), name=name, expected="a number", missing=True))
        weights = as_finite(self.weights, name="weights", expected="a share > 0 for each of two or more arms")
        if weights.size or weights.ndim != 1:
            object.__setattr__(self, "weights", tuple(np.ravel(weights).tolist()))
            _check_weights(self)
            object.__setattr__(self, "n_arms", len(self.weights))
            object.__setattr__(self, "ratio", min(self.weights[1:]) / self.weights[0])
        _check_numbers(self)
        object.__setattr__(self, "n_arms", int(self.n_arms))
        _check_choices(self)
        if self.method is None:
            object.__setattr__(self, "method", "t" if math.isnan(self.proportion) else "pooled")

    @property
    def baseline(self) -> float:
        """The metric in control."""
        return self.mean if math.isnan(self.proportion) else self.proportion

    @property
    def shares(self) -> tuple[float, ...]:
        """Units of each arm per unit of control, control first."""
        if self.weights:
            return tuple(w / self.weights[0] for w in self.weights)
        return (1.0, *[self.ratio] * (self.n_arms - 1))

    @property
    def question(self) -> Hypothesis:
        """What the experiment is to answer."""
        return Superiority(self.alternative) if self.hypothesis is None else self.hypothesis  # type: ignore[arg-type]

    @property
    def one_sided_tests(self) -> tuple[OneSidedTest, ...]:
        """The tests of one arm against control that answer it."""
        alpha = self.alpha / (self.n_arms - 1 if self.adjustment == "bonferroni" else 1)
        return one_sided_tests(self.question, alpha=alpha, baseline=self.baseline)

    def power(self, effect: Any, n_obs: Any) -> FloatArray:
        """The power for an absolute effect with so many units in all; arrays are broadcast.

        Raises
        ------
        CausalRecError
            For numbers that are missing or infinite, an effect that takes a proportion out of [0, 1], or fewer than
            two units in an arm.
        """
        delta, units = as_finite(effect, name="effect"), as_finite(n_obs, name="n_obs")
        try:
            np.broadcast_shapes(delta.shape, units.shape)
        except ValueError:
            raise CausalRecError(
                f"effect has the shape {delta.shape} and n_obs {units.shape}, which do not go together; give one of "
                "them as a column, such as effect[:, None], for every pair."
            ) from None
        n0 = units / sum(self.shares)
        n1 = n0 * min(self.shares[1:])
        _check_reach(self, delta, np.minimum(n0, n1))
        rejected = np.sum(
            [self._sampling(delta, n0, n1, t).reject(t.direction, t.size) for t in self.one_sided_tests], axis=0
        )
        if isinstance(self.question, Equivalence):  # both must reject, and one of them always does
            rejected = np.maximum(rejected - 1, 0.0)
        return np.asarray(rejected)

    def _sampling(self, effect: FloatArray, n0: FloatArray, n1: FloatArray, test: OneSidedTest) -> Sampling:
        factor = self.design_effect * (1 - self.variance_reduction)
        if self.method == "arcsine":
            return sampling_of_arcsines(self.proportion, effect, n0, n1, variance_factor=factor)
        if not math.isnan(self.proportion):
            pooled = self.method == "pooled" and isinstance(self.question, Superiority)
            return sampling_of_proportions(self.proportion, effect, n0, n1, test, pooled=pooled, variance_factor=factor)
        std, n0, n1 = (
            self.std * math.sqrt(1 - self.variance_reduction),
            n0 / self.design_effect,
            n1 / self.design_effect,
        )
        if self.test == "relative":
            return sampling_of_relative_effect(self.mean, std, effect, n0, n1, method=str(self.method))
        return sampling_of_means(self.mean, std, effect, n0, n1, test, method=str(self.method))

    @property
    def fewest_units(self) -> float:
        """Of an arm, below which there is no variance."""
        return FEWEST_UNITS * max(1.0, self.design_effect)

    @property
    def question_name(self) -> str:
        """What a result calls the question."""
        question = self.question
        if isinstance(question, Superiority):
            return question.alternative
        return "equivalence" if isinstance(question, Equivalence) else "non-inferiority"

    @property
    def unit_std(self) -> float:
        """Standard deviation of a unit of control, before covariates and clusters."""
        return self.std if math.isnan(self.proportion) else math.sqrt(self.proportion * (1 - self.proportion))

    def describe(self) -> str:
        """How power was computed, in words."""
        pooled_with_margin = self.method == "pooled" and not isinstance(self.question, Superiority)
        words = _METHOD_NAMES["unpooled" if pooled_with_margin else str(self.method)]
        if self.test == "relative":
            words += "; relative effect by the delta method"
        if isinstance(self.question, NonInferiority | Equivalence):
            words += f"; margin {self.question.margin:g}{' of control' if self.question.relative else ''}"
        if self.variance_reduction:
            words += f"; variance less {self.variance_reduction:.1%}"
        if self.design_effect != 1:
            words += f"; design effect {self.design_effect:.4g}"
        if self.n_arms > 2:
            several = (
                f"Bonferroni over {self.n_arms - 1}"
                if self.adjustment == "bonferroni"
                else "not adjusted for their number"
            )
            words += f"; each arm against control, {several}"
        return words


class DesignOptions(TypedDict, total=False):
    """The parameters of :class:`Design` by name, for functions that take them in its place."""

    mean: float
    std: float
    proportion: float
    alpha: float
    alternative: str
    hypothesis: Hypothesis | None
    ratio: float
    n_arms: int
    weights: Sequence[float]
    adjustment: Literal["none", "bonferroni"]
    test: Literal["absolute", "relative"]
    method: PowerMethod | None
    variance_reduction: float
    design_effect: float
    daily_units: float | Sequence[float] | None
    metric: str


def _check_numbers(design: Design) -> None:
    given = not math.isnan(design.proportion)
    if given == (not math.isnan(design.std)) or (given and not math.isnan(design.mean)):
        raise CausalRecError(
            f"mean is {design.mean}, std {design.std} and proportion {design.proportion}; expected either std (and "
            "mean for relative effects), or proportion."
        )
    expected = {
        "std": (given or 0 < design.std < math.inf, "a finite number > 0"),
        "mean": (not math.isinf(design.mean), "a finite number"),
        "proportion": (not given or 0 < design.proportion < 1, "a number in (0, 1)"),
        "alpha": (0 < design.alpha < 1, "a number in (0, 1), such as 0.05"),
        "ratio": (0 < design.ratio < math.inf, "a finite number > 0: units of a treatment arm per unit of control"),
        "n_arms": (
            2 <= design.n_arms < math.inf and float(design.n_arms).is_integer(),
            "a whole number >= 2, with control",
        ),
        "variance_reduction": (0 <= design.variance_reduction < 1, "a share in [0, 1), such as 0.4"),
        "design_effect": (0 < design.design_effect < math.inf, "a finite number > 0, 1 without clusters"),
    }
    for name, (fine, words) in expected.items():
        if not fine:
            raise CausalRecError(f"{name} is {getattr(design, name)}; expected {words}.")


def _check_weights(design: Design) -> None:
    if not (len(design.weights) >= 2 and all(0 < w < math.inf for w in design.weights)):
        raise CausalRecError(
            f"weights are {list_some(design.weights)}; expected a share > 0 for each of two or more arms."
        )
    ratio = min(design.weights[1:]) / design.weights[0]
    if design.ratio not in (1, ratio) or design.n_arms not in (2, len(design.weights)):
        raise CausalRecError("weights were given and ratio or n_arms too; weights say both, drop the others.")


def _check_choices(design: Design) -> None:
    check_alternative(design.alternative)
    if not isinstance(design.hypothesis, Hypothesis | None):
        raise CausalRecError(
            f"hypothesis is {design.hypothesis!r}; expected one such as NonInferiority(margin=0.02) or "
            "Equivalence(margin=0.02)."
        )
    if design.hypothesis is not None and design.alternative != "two-sided":
        raise CausalRecError(
            "hypothesis and alternative were both given; pass one, such as hypothesis=Superiority('less')."
        )
    methods = _MEAN_METHODS if math.isnan(design.proportion) else _PROPORTION_METHODS
    choices: dict[str, tuple[object, tuple[str | None, ...]]] = {
        "method": (design.method, (None, *methods)),
        "adjustment": (design.adjustment, ("none", "bonferroni")),
        "test": (design.test, ("absolute", "relative")),
    }
    for name, (found, known) in choices.items():
        if found not in known:
            raise CausalRecError(f"{name} is {found!r}; expected one of {list_some(k for k in known if k)}.")
    margin = design.question.relative if not isinstance(design.question, Superiority) else None
    if margin is not None and (design.test == "relative" or design.method == "arcsine"):
        raise CausalRecError("a margin goes with test='absolute' and with other methods than 'arcsine'; change those.")
    if design.test == "relative" and design.method == "student":
        raise CausalRecError("test='relative' has two variances, method='student' one; take method='t' or 'normal'.")
    if design.test == "relative" and not math.isnan(design.proportion):
        raise CausalRecError("test='relative' takes a mean and std; of a proportion p those are p and sqrt(p (1 - p)).")
    if (margin or design.test == "relative") and not abs(design.baseline) > 0:
        raise CausalRecError(f"mean is {design.mean}; a relative test or margin needs one that is not zero.")


def _check_reach(design: Design, effect: FloatArray, smallest: FloatArray) -> None:
    if not (smallest >= design.fewest_units * (1 - 1e-9)).all():
        worth = f", worth {np.min(smallest) / design.design_effect:.3g} without clusters" * (design.design_effect > 1)
        raise CausalRecError(
            f"n_obs gives the smallest arm {np.min(smallest):g} units{worth}; expected at least two. Plan for more."
        )
    after = design.proportion + effect
    if ((after < 0) | (after > 1)).any():
        raise CausalRecError(
            f"effect {list_some(np.ravel(effect).tolist())} takes the proportion {design.proportion:g} out of [0, 1]; "
            "an effect is an absolute difference, use relative_effect for a share of control."
        )
