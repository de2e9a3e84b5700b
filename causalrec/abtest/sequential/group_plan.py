"""A group-sequential test of an experiment that runs: how many units it may take, and how its error is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from causalrec.abtest.sequential.group_sequential import GroupSequential
from causalrec.abtest.sequential.spending import Spending


@dataclass(frozen=True)
class GroupPlan:
    """A plan for :class:`Monitor`, which looks when it likes and need not know when beforehand.

    Parameters
    ----------
    n_max : float
        Units of all arms at which the experiment ends, such as those of :func:`design_group_sequential`. The
        information at a look is taken as its units over ``n_max``.
    spending, futility, binding, power, drift
        See :class:`GroupSequential`.

    Raises
    ------
    CausalRecError
        As :class:`GroupSequential` does.

    Examples
    --------
    >>> GroupPlan(10_000).at(5_000, [2_000]).fractions
    (0.2, 0.5)
    """

    n_max: float
    spending: str | Spending = "obrien-fleming"
    _: KW_ONLY
    futility: str | Spending | None = None
    binding: bool = False
    power: float = 0.8
    drift: float | None = None

    name: ClassVar[str] = GroupSequential.name

    def __post_init__(self) -> None:
        self.at(1)  # for its checks

    def at(self, n: float, previous: Sequence[float] = (), *, final: bool = False) -> GroupSequential:
        """The look with ``n`` units, after looks with ``previous`` units; ``final`` if the experiment ends there."""
        return GroupSequential.at(
            n, n_max=self.n_max, previous=previous, spending=self.spending, futility=self.futility,
            binding=self.binding, power=self.power, drift=self.drift, final=final,
        )  # fmt: skip
