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
        Sets that would do as well and can spare no variable: the smallest first, ten at most.
    instruments : tuple of str
        Valid given ``instrument_covariates``.
    instrument_covariates : tuple of str
    mediators : tuple of str
        Columns that carry the whole effect: a front door, given ``mediator_covariates``.
    bad_controls : tuple of (str, str)
        Columns of the graph that must not be adjusted for, or had better not, and why; where a set was asked about,
        those of it.
    unobserved : tuple of str
        Nodes of the graph that are no columns.
    edges : tuple of (str, str)
        Of the graph, for its drawing; without a graph those that covariates stand for.
    mediator_covariates : tuple of str
    given : tuple of str or None
        The set that was asked about.
    given_valid : bool or None
        Whether it suffices.
    open_path : str
        A path that biases the comparison in spite of that set, its bad controls left out.
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
    mediator_covariates: tuple[str, ...] = ()
    given: tuple[str, ...] | None = None
    given_valid: bool | None = None
    open_path: str = ""

    def to_frame(self) -> pd.DataFrame:
        """A row per assumption."""
        return pd.DataFrame({"assumption": list(self.assumptions)})

    def __str__(self) -> str:
        lines = [f"Effect of {self.treatment} on {self.outcome} ({self.estimand}); {self._way()}.", *self._asked()]
        own = {"instrument": self.instruments, "front_door": self.mediators}.get(self.strategy, ())
        shown = self.bad_controls if self.given is not None else [bad for bad in self.bad_controls if bad[0] not in own]
        lines += [f"  not to be adjusted for: {column} ({why})" for column, why in shown]
        smaller = [s for s in self.minimal_sets if s != self.backdoor_variables]
        if self.strategy == "backdoor" and smaller:
            lines.append(f"  would suffice as well: {' | '.join(_named(s) for s in smaller[:3])}")
        lines += [f"  also possible: {way}" for way in self._others()]
        return "\n".join([*lines, *(f"  assumes {text}" for text in self.assumptions)])

    def _way(self) -> str:
        if self.strategy == "instrument":
            return _by(
                f"by the instrument{'s' * (len(self.instruments) > 1)}", self.instruments, self.instrument_covariates
            )
        if self.strategy == "front_door":
            return _by("by the front door", self.mediators, self.mediator_covariates)
        nothing = "nothing (randomised)" if self.strategy == "randomised" else "nothing (no path is open)"
        return f"adjust for: {', '.join(self.backdoor_variables) or nothing}"

    def _asked(self) -> list[str]:
        if self.given is None:
            return []
        verdict = "suffices" if self.given_valid else "does not suffice"
        path = f"; open without its bad controls: {self.open_path}" if self.open_path else ""
        return [f"  to adjust for {_named(self.given)} {verdict}{path}"]

    def _others(self) -> list[str]:
        ways = {
            "instrument": _by(
                f"the instrument{'s' * (len(self.instruments) > 1)}", self.instruments, self.instrument_covariates
            ),
            "front_door": _by("the front door", self.mediators, self.mediator_covariates),
        }
        there = {"instrument": self.instruments, "front_door": self.mediators}
        return [text for name, text in ways.items() if there[name] and name != self.strategy]


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"


def _by(way: str, names: tuple[str, ...], given: tuple[str, ...]) -> str:
    return f"{way} {_named(names)}{f', given {_named(given)}' if given else ''}"
