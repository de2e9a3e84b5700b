"""What an effect is identified by, and what must be believed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from causalrec.results.base import Result


@dataclass(frozen=True, eq=False)
class IdentificationResult(Result):
    """What must be held fixed for the effect to be causal, and what must be believed, in words.

    Attributes
    ----------
    estimand, treatment, outcome : str
    backdoor_variables : tuple of str
        What is adjusted for: the largest valid set of the columns at hand, without instruments.
    assumptions : tuple of str
    expression : str
    strategy : str
        ``"backdoor"``, ``"instrument"``, ``"front_door"``, or ``"randomised"``: the way that is taken.
    minimal_sets : tuple of tuples of str
        Smallest sets that would do as well; some of them where there are many.
    instruments : tuple of str
        Valid given ``instrument_covariates``.
    instrument_covariates : tuple of str
    mediators : tuple of str
        Columns that carry the whole effect: a front door.
    bad_controls : tuple of (str, str)
        Columns of the graph that must not be adjusted for, or had better not, and why.
    unobserved : tuple of str
        Nodes of the graph that are no columns.
    edges : tuple of (str, str)
        Of the graph, for its drawing; without a graph those that covariates stand for.
    """

    estimand: str
    treatment: str
    outcome: str
    backdoor_variables: tuple[str, ...]
    assumptions: tuple[str, ...]
    expression: str
    strategy: str = "backdoor"
    minimal_sets: tuple[tuple[str, ...], ...] = field(repr=False, default=())
    instruments: tuple[str, ...] = ()
    instrument_covariates: tuple[str, ...] = ()
    mediators: tuple[str, ...] = ()
    bad_controls: tuple[tuple[str, str], ...] = ()
    unobserved: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = field(repr=False, default=())

    def to_frame(self) -> pd.DataFrame:
        """A row per assumption."""
        return pd.DataFrame({"assumption": list(self.assumptions)})

    def __str__(self) -> str:
        adjust = ", ".join(self.backdoor_variables) or "nothing (randomised)"
        lines = [f"Effect of {self.treatment} on {self.outcome} ({self.estimand}); adjust for: {adjust}."]
        lines += [f"  not to be adjusted for: {column} ({why})" for column, why in self.bad_controls]
        return "\n".join([*lines, *(f"  assumes {text}" for text in self.assumptions)])
