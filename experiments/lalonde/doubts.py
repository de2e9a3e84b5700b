"""What refutations and sensitivity say of the reported estimates, to somebody who has not seen the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from causalrec.results import AdjustedEffect, RefutationResult, StudyReport
from experiments._effects import between, number
from experiments.lalonde.data import BEFORE_PLACEBO, DEHEJIA_WAHBA, PLACEBO, read_against
from experiments.lalonde.estimates import BY_SPECIFICATION, CHOSEN, study_of

REFUTERS: Mapping[str, str] = {
    "placebo_treatment": "treatment permuted",
    "random_common_cause": "a covariate of noise added",
    "data_subset": "four fifths of the people",
    "dummy_outcome": "outcome permuted",
}
_CONTROL = "negative_control_outcome"


@dataclass(frozen=True)
class Doubts:
    """What an analyst knows of one survey without the experiment.

    ``report`` is on the estimate with all ten covariates. For the negative control the earnings of 1975 are left out
    of the adjustment (``shorter``, by the same method), since a covariate cannot be a control of itself.
    """

    survey: str
    report: StudyReport = field(repr=False)
    shorter: AdjustedEffect = field(repr=False)
    before: RefutationResult = field(repr=False)


def doubts_about(survey: str, data_dir: Path | None = None, *, n_simulations: int = 100) -> Doubts:
    """Refute the estimate by entropy balancing, and ask what hidden bias it bears."""
    frame = read_against(survey, DEHEJIA_WAHBA, data_dir)
    study, before = study_of(frame), study_of(frame, BEFORE_PLACEBO)
    effect, shorter = (s.estimate(CHOSEN, estimand="att") for s in (study, before))
    report = study.report(effect, methods=BY_SPECIFICATION, n_simulations=n_simulations)
    control = before.refute(shorter, [_CONTROL], negative_outcomes=[PLACEBO])
    return Doubts(survey, report, shorter, control[f"{_CONTROL}: {PLACEBO}"])


def doubts_table(found: Mapping[str, Doubts], truth: AdjustedEffect) -> pd.DataFrame:
    """A row per question, a column per survey; the experiment last."""
    columns = {survey: _answers(d, truth) for survey, d in found.items()}
    questions = list(next(iter(columns.values())))
    return pd.DataFrame({"": questions, **{s: [a[q] for q in questions] for s, a in columns.items()}})


def _answers(found: Doubts, truth: AdjustedEffect) -> dict[str, str]:
    report, bias = found.report, found.report.sensitivity
    effect, refuted = report.effect, report.refutations
    return {
        "effect, $": f"{number(effect.estimate, 0)} {between(effect.ci_low, effect.ci_high, 0)}",
        **{f"{text}, $": _found(refuted[kind]) for kind, text in REFUTERS.items()},
        "on earnings of 1975, these left out, $": f"{number(found.before.new_effect, 0)} "
        f"{between(found.before.ci_low, found.before.ci_high, 0)}, {_p(found.before.pvalue)}",
        "gamma that turns it": _turns(bias.gamma),
        "E-value (of its interval)": f"{bias.evalue:.2f} ({_turns(bias.evalue_ci)})",
        "robustness value (of its interval)": f"{bias.robustness_value:.1%} ({bias.robustness_value_alpha:.1%})",
        "a cause like the strongest covariate, times": f"{bias.strongest_times:.2g} of {bias.strongest}",
        "verdict of the report": report.verdict,
        "off the experiment's, $": number(effect.estimate - truth.estimate, 0),
    }  # fmt: skip


def _found(result: RefutationResult) -> str:
    return f"{number(result.new_effect, 0)}; right: {number(result.expected, 0)}; {_p(result.pvalue)}"


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _turns(value: float) -> str:
    return f"{value:.2f}" if value > 1 else "1: any"
