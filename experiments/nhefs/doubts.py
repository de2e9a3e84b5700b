"""What must be believed, by a graph, and what refutations, controls and hidden bias say of the estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from causalrec.observational import ObservationalStudy
from causalrec.results import AdjustedEffect, IdentificationResult, RefutationsResult, StudyReport
from experiments._effects import between, number
from experiments.nhefs.data import AFTER, BEFORE, CONFOUNDERS, COVARIATES, INSTRUMENT, OUTCOME, TREATMENT, Smokers
from experiments.nhefs.estimates import study_of

CHOSEN, METHODS = "aipw_parametric", ("ols", "matching", "ipw", "entropy_balancing", "aipw_parametric")
_CONTROL = "negative_control_outcome"
GRAPH = f"""digraph {{
  {{{" ".join(CONFOUNDERS)}}} -> {{{TREATMENT} {OUTCOME}}}
  {TREATMENT} -> {OUTCOME}
  {INSTRUMENT} -> {TREATMENT}
  {{{TREATMENT} {OUTCOME} age sex}} -> {AFTER}
}}"""


@dataclass(frozen=True)
class Doubts:
    """What the graph asks to believe, and what was found where there is nothing to find.

    The controls were known in 1971, before anybody quit, and are not adjusted for; ``more`` is the estimate on the
    people of whom all of them are known, adjusted for them as well, ``same`` without.
    """

    graph: IdentificationResult = field(repr=False)
    with_after: IdentificationResult = field(repr=False)
    report: StudyReport = field(repr=False)
    controls: RefutationsResult = field(repr=False)
    same: AdjustedEffect = field(repr=False)
    more: AdjustedEffect = field(repr=False)


def identified(smokers: Smokers) -> tuple[IdentificationResult, IdentificationResult]:
    """By the graph; and with blood pressure of 1982 held fixed, which is a consequence of both."""
    study = ObservationalStudy(smokers.weighed, treatment=TREATMENT, outcome=OUTCOME, graph=GRAPH)
    return study.identify(), study.identify([*CONFOUNDERS, AFTER])


def doubts_about(smokers: Smokers, *, n_simulations: int = 100) -> Doubts:
    """Refute the doubly robust estimate, by simulations and by what was known before, and ask what bias it bears."""
    study = study_of(smokers)
    report = study.report(study.estimate(CHOSEN), methods=METHODS, n_simulations=n_simulations)
    known = smokers.weighed.dropna(subset=list(BEFORE))
    same, more = (
        ObservationalStudy(known, treatment=TREATMENT, outcome=OUTCOME, covariates=[*COVARIATES, *others])
        for others in ((), BEFORE)
    )
    effect = same.estimate(CHOSEN)
    controls = same.refute(effect, [_CONTROL], negative_outcomes=list(BEFORE))
    return Doubts(*identified(smokers), report, controls, effect, more.estimate(CHOSEN))


def refuted_table(found: RefutationsResult) -> pd.DataFrame:
    """A row per refutation: what was found where what was expected."""
    return pd.DataFrame([
        {"refutation": name.replace("_", " "), "found, kg": number(r.new_effect), "expected": number(r.expected),
         "spread": number(r.new_std), "p": f"{r.pvalue:.2g}"}
        for name, r in zip(found.names, found.results, strict=True)
    ])  # fmt: skip


def controls_table(found: RefutationsResult, names: Mapping[str, str]) -> pd.DataFrame:
    """A row per control: the "effect" of quitting on what was known before."""
    return pd.DataFrame([
        {"known in 1971": text, "effect of quitting later": number(r.new_effect),
         "95% interval": between(r.ci_low, r.ci_high), "p": f"{r.pvalue:.2g}"}
        for column, text in names.items() for r in (found[f"{_CONTROL}: {column}"],)
    ])  # fmt: skip
