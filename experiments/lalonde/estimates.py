"""The estimates of the study: every method on every comparison, on a placebo, by specification, and after trimming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec.observational import ObservationalStudy, fit_propensity, overlap
from causalrec.results import AdjustedEffect, EffectComparisonResult, OverlapResult
from experiments._effects import LABELS, OWN
from experiments.lalonde.data import (
    BEFORE_PLACEBO,
    COVARIATES,
    DEHEJIA_WAHBA,
    LALONDE,
    OUTCOME,
    PEOPLE,
    PLACEBO,
    SQUARES,
    TREATMENT,
    WITHOUT_1974,
    read_against,
    read_experiment,
)

NAIVE, CHOSEN = "difference_in_means", "entropy_balancing"
LEAST_CONTROLS = 50.0  # effective, below which a handful of people carries the estimate
SPECIFICATIONS: Mapping[str, tuple[str, ...]] = {
    "people only": PEOPLE,
    "and earnings of 1975": WITHOUT_1974,
    "and of 1974, but not who had none": (*PEOPLE, "re74", "re75"),
    "all ten": COVARIATES,
    "all ten and squares": (*COVARIATES, *SQUARES),
}
BY_SPECIFICATION = ("ols", "matching", "ipw", "entropy_balancing", "aipw_parametric")


@dataclass(frozen=True)
class Report:
    """What may be said without the experiment: nothing, an estimate, or one that allows for an error as seen before.

    By entropy balancing, which leaves no difference in means, gives nobody a negative weight, and answers for the
    trainees. No earnings of 1978 decide anything here. Nothing is said where fewer than fifty controls, effectively,
    stand for the others; where the method finds an effect on earnings before the training, its interval is widened by
    as much on either side.
    """

    survey: str
    effect: AdjustedEffect = field(repr=False)
    placebo: AdjustedEffect = field(repr=False)

    @property
    def comparable(self) -> bool:
        """Whether enough controls stand for the others."""
        return self.effect.ess_control >= LEAST_CONTROLS

    @property
    def allowance(self) -> float:
        """By how much the interval is widened on either side."""
        clean = self.placebo.ci_low <= 0 <= self.placebo.ci_high
        return 0.0 if clean else abs(self.placebo.estimate)

    @property
    def interval(self) -> tuple[float, float]:
        """What is reported; NaN where nothing is."""
        if not self.comparable:
            return np.nan, np.nan
        return self.effect.ci_low - self.allowance, self.effect.ci_high + self.allowance


@dataclass(frozen=True)
class Comparison:
    """Trainees against one survey: by every method, and the same for earnings before the training."""

    survey: str
    study: ObservationalStudy = field(repr=False)
    effects: EffectComparisonResult = field(repr=False)
    placebo: EffectComparisonResult = field(repr=False)
    without_1974: EffectComparisonResult = field(repr=False)
    overlap: OverlapResult = field(repr=False)

    @property
    def report(self) -> Report:
        """What an analyst would report who has not seen the experiment."""
        return Report(self.survey, self.effects[CHOSEN], self.placebo[CHOSEN])

    @cached_property
    def negative(self) -> dict[str, float]:
        """The share of weight that is negative by method: outcomes are extrapolated from there."""
        found = zip(self.effects.names, self.effects.effects, strict=True)
        return {n: abs(self.study.balance(e).negative_share) for n, e in found if e.weights is not None}

    def adjusted_range(self, found: EffectComparisonResult) -> tuple[float, float]:
        """Least and greatest of the adjusted estimates."""
        values = [e.estimate for n, e in zip(found.names, found.effects, strict=True) if n != NAIVE]
        return min(values), max(values)


def study_of(frame: pd.DataFrame, covariates: Sequence[str] = COVARIATES, outcome: str = OUTCOME) -> ObservationalStudy:
    """The trainees' study with these covariates."""
    return ObservationalStudy(frame, treatment=TREATMENT, outcome=outcome, covariates=list(covariates))


def experimental_effects(data_dir: Path | None = None) -> dict[str, AdjustedEffect]:
    """What lots say, by sample."""
    return {
        sample: study_of(read_experiment(sample, data_dir), ()).estimate(NAIVE, estimand="att")
        for sample in (DEHEJIA_WAHBA, LALONDE)
    }


def compare_with(survey: str, data_dir: Path | None = None) -> Comparison:
    """Every method against a survey: on earnings of 1978, of 1975, and on all trainees, of 1974 nothing being known."""
    frame = read_against(survey, DEHEJIA_WAHBA, data_dir)
    studies = (
        study_of(frame),
        study_of(frame, BEFORE_PLACEBO, PLACEBO),
        study_of(read_against(survey, LALONDE, data_dir), WITHOUT_1974),
    )
    methods = (tuple(LABELS), tuple(OWN), tuple(OWN))  # forests and double learning where it matters: they take long
    effects, placebo, without_1974 = (s.compare(m, estimand="att") for s, m in zip(studies, methods, strict=True))
    return Comparison(survey, studies[0], effects, placebo, without_1974, overlap_of(frame))


def overlap_of(frame: pd.DataFrame) -> OverlapResult:
    """How the scores lie over each other, before weighting controls to the trainees and after."""
    score = fit_propensity(frame[list(COVARIATES)], treatment=frame[TREATMENT])
    return overlap(score.score, frame[TREATMENT].to_numpy(), estimand="att", method=score.method)


def by_specification(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per specification, a column per method: the effect on the treated (on the overlap for regression)."""
    rows: list[dict[str, Any]] = []
    for name, covariates in SPECIFICATIONS.items():
        found = study_of(frame, covariates).compare(BY_SPECIFICATION, estimand="att")
        values = {m: round(found[m].estimate) if m in found.names else np.nan for m in BY_SPECIFICATION}
        rows.append({"adjusted for": name, **values})
    return pd.DataFrame(rows)


def after_trimming(frame: pd.DataFrame) -> pd.DataFrame:
    """Estimates on all, on the scores that both arms have, and on those with enough of both (Crump et al. 2009).

    Who is left out is decided by the score of all; the score is fitted anew on the rest, whose effect is another one.
    """
    score = fit_propensity(frame[list(COVARIATES)], treatment=frame[TREATMENT]).score
    bounds = overlap_of(frame)
    ranges = {
        "all": (0.0, 1.0),
        "common support": (bounds.support_low, bounds.support_high),
        "best trimming": (bounds.crump_low, bounds.crump_high),
    }
    rows: list[dict[str, Any]] = []
    for name, (low, high) in ranges.items():
        kept = frame[(low <= score) & (score <= high)]
        found = study_of(kept).compare(BY_SPECIFICATION, estimand="att")
        weighted = found[CHOSEN] if CHOSEN in found.names else None
        rows.append({
            "kept": name, "trainees": int(kept[TREATMENT].sum()), "controls": int((kept[TREATMENT] == 0).sum()),
            "effective controls": round(weighted.ess_control) if weighted is not None else np.nan,
            **{m: round(found[m].estimate) if m in found.names else np.nan for m in BY_SPECIFICATION},
        })  # fmt: skip
    return pd.DataFrame(rows)
