"""What identification asks to be believed, in words and as an expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError
from causalrec.results import IdentificationResult

_POPULATION = {
    "ate": "all units",
    "att": "the treated",
    "atc": "the controls",
    "ato": "all units, weighted by how much the arms overlap,",
}
_OVERLAP = {
    "ato": "some units could have been treated or not",
    "ate": "every unit could have been treated or not",
    "att": "every treated unit could have been left untreated",
    "atc": "every control unit could have been treated",
}
_INTERFERENCE = "no interference: one unit's treatment does not change another's outcome"


def identify_plain(treatment: str, outcome: str, covariates: Sequence[str], estimand: str) -> IdentificationResult:
    """What :func:`causalrec.observational.dowhy_adapter.identify` says without a graph, without asking DoWhy."""
    adjust = tuple(sorted(covariates))
    strategy = "backdoor" if adjust else "randomised"
    arrows = [(c, node) for c in adjust for node in (treatment, outcome)]
    return IdentificationResult(
        estimand=estimand, treatment=treatment, outcome=outcome, backdoor_variables=adjust,
        assumptions=assumptions_of(strategy, estimand, treatment, outcome, adjust, ()),
        expression=expression_of(strategy, estimand, treatment, outcome, adjust, ()),
        strategy=strategy, minimal_sets=(adjust,), edges=tuple(sorted([(treatment, outcome), *arrows])),
    )  # fmt: skip


def assumptions_of(
    strategy: str, estimand: str, treatment: str, outcome: str, by: tuple[str, ...], given: tuple[str, ...]
) -> tuple[str, ...]:
    """A sentence for each; ``by`` is what is adjusted for, the instruments or the mediators, given covariates.

    Raises
    ------
    CausalRecError
        For an unknown estimand, or one that a way does not have.
    """
    _check(strategy, estimand)
    names, also = ", ".join(by), f" given {', '.join(given)}" if given else ""
    if strategy == "instrument":
        return (
            f"relevance: {treatment} moves with {names}{also}; the first stage shows how much",
            f"exclusion: {outcome} depends on {names} through {treatment} alone",
            f"independence: nothing unobserved is tied to both {names} and {outcome}{also}",
            f"monotonicity: no unit's {treatment} is moved by {names} the other way; the effect is then the average "
            "among those who are moved (LATE), and that of all only where effects are alike",
            _INTERFERENCE,
        )
    if strategy == "front_door":
        return (
            f"the whole effect of {treatment} on {outcome} passes through {names}",
            f"no unobserved common cause of {treatment} and {names}{also}",
            f"no unobserved common cause of {names} and {outcome} given {', '.join([treatment, *given])}",
            f"overlap: every value of {names} occurs in either arm{also}",
            _INTERFERENCE,
        )
    if strategy == "randomised":
        return ("treatment was assigned at random", _INTERFERENCE)
    if not by:
        return (f"no path but the effect is open between {treatment} and {outcome}, as the graph has it", _INTERFERENCE)
    return (
        "no unobserved common cause of treatment and outcome, given the variables adjusted for",
        f"overlap: {_OVERLAP[estimand]}",
        _INTERFERENCE,
    )


def expression_of(
    strategy: str, estimand: str, treatment: str, outcome: str, by: tuple[str, ...], given: tuple[str, ...]
) -> str:
    """What is estimated, in terms of what is observed."""
    t, y = treatment, outcome
    where = f" with X = ({', '.join(given)})" if given else ""
    names, x = ", ".join(by), ", X" if given else ""
    if strategy == "instrument":
        bar, z = " | X" if given else "", names if len(by) == 1 else "Z"
        several = f"; Z = ({names}), by two-stage least squares" if len(by) > 1 else ""
        return f"cov({y}, {z}{bar}) / cov({t}, {z}{bar}){where}{several}"
    if strategy == "front_door":
        mean = f"mean over {_POPULATION[estimand]}{' of X' if given else ''} of "
        return (
            f"{mean}Σ_m [P(M=m | {t}=1{x}) − P(M=m | {t}=0{x})] · Σ_t P({t}=t{' | X' if given else ''}) · "
            f"E[{y} | {t}=t, M=m{x}] with M = ({names}){where.replace(' with', ' and')}"
        )
    if not by:
        return f"E[{y} | {t}=1] − E[{y} | {t}=0]"
    return f"mean over {_POPULATION[estimand]} of E[{y} | {t}=1, X] − E[{y} | {t}=0, X] with X = ({names})"


def _check(strategy: str, estimand: str) -> None:
    known: Mapping[str, str] = _POPULATION
    if strategy == "instrument":
        return
    if estimand not in known:
        raise CausalRecError(
            f"estimand is {estimand!r}; expected one of {list_some(known)}.{nearest(str(estimand), known)}"
        )
    if strategy == "front_door" and estimand == "ato":
        raise CausalRecError("a front door has no ato; ask for the ate, att or atc.")
