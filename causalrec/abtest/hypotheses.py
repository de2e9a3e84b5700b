"""What is asked of an effect, apart from how it was estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, cast

from causalrec._validation import check_alternative
from causalrec.exceptions import CausalRecError

Alternative: TypeAlias = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Superiority:
    """Is there an effect? ``alternative`` is scipy's: ``"two-sided"``, ``"greater"`` or ``"less"``.

    Raises
    ------
    CausalRecError
        For another alternative.

    Examples
    --------
    >>> Superiority("greater")
    Superiority(alternative='greater')
    """

    alternative: Alternative = "two-sided"

    def __post_init__(self) -> None:
        check_alternative(self.alternative)


@dataclass(frozen=True)
class NonInferiority:
    """Is the treatment worse than control by less than a margin?

    Parameters
    ----------
    margin : float
        Largest loss that can be borne, > 0: in the metric's unit, or as a share of the control mean if ``relative``.
    relative : bool
    higher_is_better : bool
        False for what should be small, such as latency: then a loss is an increase.

    Raises
    ------
    CausalRecError
        For a margin that is not a finite number > 0.

    Examples
    --------
    >>> from causalrec.abtest import welch_test
    >>> no_slower = NonInferiority(5.0, higher_is_better=False)
    >>> found = welch_test(200.0, 900.0, 1_000, 202.0, 900.0, 1_000, hypothesis=no_slower)
    >>> print(f"{found.estimate:.1f} p = {found.pvalue:.4f}")
    2.0 p = 0.0127
    """

    margin: float
    relative: bool = False
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        _check_margin(self.margin)


@dataclass(frozen=True)
class Equivalence:
    """Is the effect within ``(-margin, margin)``? Two one-sided tests (Schuirmann 1987).

    Parameters
    ----------
    margin : float
        Largest difference that does not matter, > 0: in the metric's unit, or as a share of the control mean if
        ``relative``.
    relative : bool

    Raises
    ------
    CausalRecError
        For a margin that is not a finite number > 0.

    Examples
    --------
    >>> from causalrec.abtest import welch_test
    >>> found = welch_test(10.0, 4.0, 1_000, 10.05, 4.0, 1_000, hypothesis=Equivalence(0.03, relative=True))
    >>> found.pvalue < 0.05
    True
    """

    margin: float
    relative: bool = False

    def __post_init__(self) -> None:
        _check_margin(self.margin)


Hypothesis: TypeAlias = Superiority | NonInferiority | Equivalence


def hypothesis_name(hypothesis: Hypothesis) -> str:
    """As in results: ``"two-sided"``, ``"greater"``, ``"less"``, ``"non-inferiority"`` or ``"equivalence"``."""
    if isinstance(hypothesis, Superiority):
        return hypothesis.alternative
    return "non-inferiority" if isinstance(hypothesis, NonInferiority) else "equivalence"


class OneSidedTest(NamedTuple):
    """A test of "treatment <= theta x control + offset" (``direction`` 1) or ">=" (-1) at level ``size``.

    The confidence limit that goes with it, also at ``size``, is a lower one for ``direction`` 1, an upper one for -1.
    """

    direction: int
    theta: float
    offset: float
    size: float


def one_sided_tests(hypothesis: Hypothesis, *, alpha: float, baseline: float) -> tuple[OneSidedTest, ...]:
    """The one-sided tests that a hypothesis is made of.

    Two-sided superiority rejects where either does, at ``alpha / 2``; equivalence where both do, at ``alpha`` each.
    ``baseline`` is the control mean: its sign says where a relative margin lies.

    Examples
    --------
    >>> one_sided_tests(NonInferiority(0.02, relative=True), alpha=0.05, baseline=10.0)
    (OneSidedTest(direction=1, theta=0.98, offset=0.0, size=0.05),)
    """
    if isinstance(hypothesis, Superiority):
        signs = {"two-sided": (1, -1), "greater": (1,), "less": (-1,)}[hypothesis.alternative]
        return tuple(OneSidedTest(sign, 1.0, 0.0, alpha / len(signs)) for sign in signs)
    higher = isinstance(hypothesis, NonInferiority) and hypothesis.higher_is_better
    signs = (1, -1) if isinstance(hypothesis, Equivalence) else (1 if higher else -1,)
    if hypothesis.relative:
        away = math.copysign(hypothesis.margin, baseline)
        return tuple(OneSidedTest(sign, 1 - sign * away, 0.0, alpha) for sign in signs)
    return tuple(OneSidedTest(sign, 1.0, -sign * hypothesis.margin, alpha) for sign in signs)


def as_hypothesis(alternative: str, hypothesis: Hypothesis | None) -> Hypothesis:
    """The hypothesis of a test that takes an alternative, or a hypothesis in its place.

    Raises
    ------
    CausalRecError
        For an unknown alternative, or both.
    """
    if hypothesis is None:
        return Superiority(cast(Alternative, alternative))
    if alternative != "two-sided":
        raise CausalRecError(
            f"found alternative={alternative!r} and hypothesis={hypothesis}; give one: a hypothesis has its own side."
        )
    return hypothesis


def _check_margin(margin: float) -> None:
    if not (math.isfinite(margin) and margin > 0):
        raise CausalRecError(f"margin is {margin}; expected a finite number > 0, such as 0.02.")
