"""A cause of e-mails and of spend that is not in the logs: which checks notice it, in one campaign and in many.

The e-mail cannot have changed what users did in the month before it. A study that finds that it did compares users who
were different all along. The checks are those of ``study.refute`` and ``study.sensitivity``; the designs differ only in
the columns that are adjusted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from scipy import stats

from causalrec.observational import ObservationalStudy
from causalrec.results import AdjustedEffect, RefutationsResult, StudyReport
from experiments.email_logs.campaigns import study_of
from experiments.email_logs.logs import (
    COVARIATES,
    ENGAGEMENT,
    PROFILE,
    SESSIONS,
    SPENT,
    WITHOUT_ENGAGEMENT,
    Logs,
    simulate_logs,
)

VALID, HIDDEN, BARE = "all causes", f"without {ENGAGEMENT}", f"without {ENGAGEMENT} and purchases"
DESIGNS: Mapping[str, tuple[str, ...]] = {VALID: COVARIATES, HIDDEN: WITHOUT_ENGAGEMENT, BARE: PROFILE}
REPORTED = (VALID, HIDDEN)
METHOD, OTHERS = "aipw_parametric", ("ols", "ipw", "entropy_balancing")
CONTROLS, EITHER = (SESSIONS, SPENT), "either of the two (Holm)"
_LEVEL = 0.95


@dataclass(frozen=True)
class Checks:
    """What the checks say of each design: pages of one campaign, verdicts and strengths over many."""

    reports: Mapping[str, StudyReport] = field(repr=False)
    verdicts: pd.DataFrame = field(repr=False)  # a row per campaign, design and check
    strengths: pd.DataFrame = field(repr=False)  # a row per campaign and design

    @cached_property
    def rates(self) -> pd.DataFrame:
        """How often each check flags each design."""
        return flag_rates(self.verdicts)

    def rate(self, check: str, design: str) -> pd.Series:
        """One row of the rates."""
        table = self.rates
        return table[(table["check"] == check) & (table["design"] == design)].iloc[0]


def report_designs(logs: Logs, n_simulations: int) -> dict[str, StudyReport]:
    """The page on each design, as ``study.report`` writes it."""
    studies = {name: study_of(logs.users, DESIGNS[name]) for name in REPORTED}
    return {
        name: study.report(
            study.estimate(METHOD), methods=[*OTHERS, METHOD], negative_outcomes=CONTROLS, n_simulations=n_simulations
        )
        for name, study in studies.items()
    }


def check_campaigns(
    n_campaigns: int, n_users: int, *, n_full: int, n_simulations: int = 20, first_seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Verdicts and strengths over campaigns: negative controls in all, the rest in the first ``n_full`` of two designs.

    Verdicts are those of each check alone at 5%; of both controls together by Holm.
    """
    verdicts: list[dict[str, Any]] = []
    strengths: list[dict[str, Any]] = []
    for seed in range(first_seed, first_seed + n_campaigns):
        logs = simulate_logs(n_users, seed)
        for design, covariates in DESIGNS.items():
            study = study_of(logs.users, covariates)
            effect = study.estimate(METHOD)
            known = {"design": design, "seed": seed}
            controls = study.refute(effect, ["negative_control_outcome"], negative_outcomes=CONTROLS)
            found = [*_verdicts(controls), (EITHER, float(min(controls.adjusted_pvalue)), not controls.passed)]
            if seed < first_seed + n_full and design in REPORTED:
                found += _verdicts(study.refute(effect, n_simulations=n_simulations, random_state=seed))
                strengths.append(known | _strength(study, effect, logs.truth()))
            verdicts += [known | {"check": c, "pvalue": p, "flagged": f} for c, p, f in found]
    return pd.DataFrame(verdicts), pd.DataFrame(strengths)


def _verdicts(found: RefutationsResult) -> Iterator[tuple[str, float, bool]]:
    for name, result in zip(found.names, found.results, strict=True):
        check = name.removeprefix("negative_control_outcome: ").replace("_", " ")
        yield check, result.pvalue, not result.passed


def _strength(study: ObservationalStudy, effect: AdjustedEffect, truth: float) -> dict[str, Any]:
    """How strong a hidden cause must be, as the study says, and how far off it is."""
    found = study.sensitivity(effect)
    return {
        "off": effect.estimate - truth, "gamma": found.gamma, "evalue": found.evalue_ci,
        "robustness": found.robustness_value, "robustness_ci": found.robustness_value_alpha,
        "strongest": found.strongest, "times": found.strongest_times, "times_ci": found.strongest_times_ci,
    }  # fmt: skip


def flag_rates(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Shares of campaigns flagged by check and design, with exact binomial intervals (Clopper and Pearson 1934)."""
    rows = []
    for (check, design), group in verdicts.groupby(["check", "design"], sort=False):
        flagged = int(group["flagged"].sum())
        low, high = stats.binomtest(flagged, len(group)).proportion_ci(_LEVEL, method="exact")
        rows.append({"check": check, "design": design, "flagged, %": round(100 * flagged / len(group), 1),
                     "from": round(100 * low, 1), "to": round(100 * high, 1), "campaigns": len(group)})  # fmt: skip
    return pd.DataFrame(rows)


def strength_table(strengths: pd.DataFrame) -> pd.DataFrame:
    """By design the mean error and the medians of what a hidden cause would need to be."""
    groups = strengths.groupby("design", sort=False)
    middle = groups[["gamma", "evalue", "robustness", "times_ci"]].median()
    return pd.DataFrame({
        "design": list(middle.index),
        "off by, $": groups["off"].mean().round(2).to_numpy(),
        "gamma": middle["gamma"].round(2).to_numpy(),
        "E-value": middle["evalue"].round(2).to_numpy(),
        "robustness value": [f"{v:.1%}" for v in middle["robustness"]],
        "times the strongest": middle["times_ci"].round(1).to_numpy(),
        "which is, mostly": [g["strongest"].mode()[0] for _, g in groups],
    })  # fmt: skip


def report_table(reports: Mapping[str, StudyReport], truth: float) -> pd.DataFrame:
    """A row per design: what the page says, and the truth that it does not know."""
    return pd.DataFrame([
        {"design": name, "verdict": r.verdict, "effect, $": round(r.effect.estimate, 2), "truth, $": round(truth, 2),
         **{f"p, {c}": _p(r.refutations[f"negative_control_outcome: {c}"].pvalue) for c in CONTROLS},
         "others": "passed" if _others_passed(r) else "failed", "gamma": round(r.sensitivity.gamma, 2),
         "robustness": f"{r.sensitivity.robustness_value:.1%}"}
        for name, r in reports.items()
    ])  # fmt: skip


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else "< 0.01"


def _others_passed(report: StudyReport) -> bool:
    found = report.refutations
    pairs = zip(found.names, found.verdicts, strict=True)
    return all(passed for name, passed in pairs if not name.startswith("negative_control"))
