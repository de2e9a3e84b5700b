"""Can an experiment be replaced by a survey? Job training of 1976, its experiment, and controls of the CPS and PSID.

LaLonde (1986) took the trainees of an experiment, threw its control group away, and asked whether econometrics can
bring the effect back from surveys. Every method of the package on the same data, with what can be checked without the
experiment: balance, overlap, a placebo, specifications, trimming, refutations and hidden bias; what may be reported
from that; and then the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec.pipelines.ate_page import hidden_bias_figures
from causalrec.plots import plot_balance, plot_effects, plot_overlap, plot_refutations
from causalrec.report import SummaryRow
from causalrec.results import AdjustedEffect
from experiments._effects import LABELS, between, labelled, number
from experiments._study import Study, how_made, study_arguments
from experiments.lalonde.data import DEHEJIA_WAHBA, LALONDE, SURVEYS, read_against
from experiments.lalonde.doubts import Doubts, doubts_about, doubts_table
from experiments.lalonde.estimates import (
    BY_SPECIFICATION,
    CHOSEN,
    LEAST_CONTROLS,
    NAIVE,
    Comparison,
    after_trimming,
    by_specification,
    compare_with,
    experimental_effects,
)

SHORT = dict(zip(BY_SPECIFICATION, ("regression", "matching", "weighting", "entropy", "doubly robust"), strict=True))
CAVEATS = [
    "The trainees of Dehejia and Wahba are those whose earnings of 1974 are known, chosen partly by when they joined "
    "and by having been out of work; Smith and Todd (2005) show how much the results lean on that choice. The larger "
    "sample of LaLonde has another effect of its own, and may be another population.",
    "The experiment has an error too: its interval is wide, and an estimate that lies in it is not shown to be right.",
    "Earnings were not asked for in the same way in the surveys and in the experiment, and local labour markets are "
    "not in the data at all.",
    f"The rule of the report (entropy balancing, {LEAST_CONTROLS:.0f} effective controls, an allowance for the "
    "placebo) looks at no earnings of 1978, but we knew how this story ends when we wrote it down, as everybody does. "
    "The allowance is a rule of thumb: an error of 1975 need not come back in 1978, and it is no bound.",
    "Fifteen methods and three surveys: some intervals, and some placebos, miss by chance.",
    "Regression on main effects, overlap weights and g-estimation answer for people of whom it was least certain that "
    "they would be trained, not for the trainees.",
]


@dataclass(frozen=True)
class Training:
    """What the study found."""

    experiments: dict[str, AdjustedEffect]
    comparisons: dict[str, Comparison] = field(repr=False)
    specifications: dict[str, pd.DataFrame] = field(repr=False)
    trimmed: dict[str, pd.DataFrame] = field(repr=False)
    doubts: dict[str, Doubts] = field(repr=False)

    @property
    def truth(self) -> AdjustedEffect:
        """The experiment of Dehejia and Wahba."""
        return self.experiments[DEHEJIA_WAHBA]


def study_training(data_dir: Path | None = None) -> Training:
    """Everything that the page tells."""
    frames = {survey: read_against(survey, data_dir=data_dir) for survey in SURVEYS}
    comparisons = {survey: compare_with(survey, data_dir) for survey in SURVEYS}
    return Training(
        experimental_effects(data_dir), comparisons,
        {survey: by_specification(frame) for survey, frame in frames.items()},
        {survey: after_trimming(frame) for survey, frame in frames.items()},
        {survey: doubts_about(survey, data_dir) for survey in SURVEYS},
    )  # fmt: skip


def methods_table(found: Comparison, truth: AdjustedEffect) -> pd.DataFrame:
    """A row per method: estimate, interval, what it rests on, and the distance from the experiment."""
    effects = found.effects
    return pd.DataFrame({
        "method": list(labelled(effects)),
        "effect, $": [round(e.estimate) for e in effects.effects],
        "95% interval": [_range(e.ci_low, e.ci_high) for e in effects.effects],
        "off by": [round(e.estimate - truth.estimate) for e in effects.effects],
        "worst |SMD|": [_or_dash(float(v), 2) for v in effects.max_abs_smd],
        "effective controls": [_or_dash(e.ess_control, 0) for e in effects.effects],
        "negative weight": [f"{found.negative[n]:.0%}" if n in found.negative else "–" for n in effects.names],
    })  # fmt: skip


def _or_dash(value: float, digits: int) -> str:
    return number(value, digits) if math.isfinite(value) else "–"


def placebo_table(found: Comparison) -> pd.DataFrame:
    """What each method finds on earnings before the training."""
    return pd.DataFrame([
        {"method": name, "effect on 1975, $": round(e.estimate), "interval": _range(e.ci_low, e.ci_high),
         "finds nothing": "yes" if e.ci_low <= 0 <= e.ci_high else "no"}
        for name, e in labelled(found.placebo).items()
    ])  # fmt: skip


def _money(value: float) -> str:
    return f"{'−' if value < 0 else ''}${abs(value):,.0f}"


def _range(low: float, high: float) -> str:
    return between(low, high, 0)


def _tell_experiment(study: Study, found: Training) -> None:
    rows = [
        {"sample": name, "trainees": e.n_treated, "controls by lot": e.n_control, "effect, $": round(e.estimate),
         "95% interval": _range(e.ci_low, e.ci_high)}
        for name, e in (("Dehejia and Wahba", found.experiments[DEHEJIA_WAHBA]),
                        ("LaLonde", found.experiments[LALONDE]))
    ]  # fmt: skip
    study.add(
        "The experiment",
        "Who was trained was drawn by lot, so that the difference of means is the effect on earnings in 1978. The "
        "smaller sample has earnings of 1974 as well as of 1975.",
        tables={"Effect of the training, $ of 1978": pd.DataFrame(rows)},
    )


def _tell_people(study: Study, found: Training) -> None:
    figures, text = {}, []
    for survey, comparison in found.comparisons.items():
        overlap = comparison.overlap
        balance = comparison.study.balance(comparison.effects[CHOSEN])
        shown = {LABELS[n]: comparison.study.balance(comparison.effects[n]) for n in ("matching", "ipw", CHOSEN)}
        figures[f"overlap_{_key(survey)}"] = plot_overlap(overlap, title=f"Overlap of the scores: {survey}")
        figures[f"balance_{_key(survey)}"] = plot_balance(shown, title=f"Alike after adjustment? {survey}")
        text.append(
            f"{survey}: the largest difference is {balance.max_abs_smd_before:.1f} standard deviations of the "
            f"trainees. {overlap.share_outside_common_support:.0%} of the people have scores that only one arm has."
        )
    study.add(
        "Who are the controls?",
        "The surveys are of the working population; most trainees had no earnings in 1974, were black and without a "
        "degree. The score of nearly everybody in the CPS is next to zero: the few who look like trainees are lost in "
        "sixteen thousand. CPS-3 was cut from the CPS by hand, to the poor without work in 1976.",
        *text,
        "Entropy balancing makes all ten means equal by construction; what it costs is in the next section, as "
        "effective controls.",
        figures=figures,
    )


def _tell_methods(study: Study, found: Training) -> None:
    for survey, comparison in found.comparisons.items():
        shown = {k: v for k, v in labelled(comparison.effects).items() if k != LABELS[NAIVE]}
        least, most = comparison.adjusted_range(comparison.effects)
        study.add(
            f"Every method against the {survey}",
            f"Without adjustment: {_money(comparison.effects[NAIVE].estimate)}. Adjusted, the estimates run from "
            f"{_money(least)} to {_money(most)}; the experiment says {_money(found.truth.estimate)}. Negative weight "
            "means that outcomes are extrapolated from people who count against their own arm.",
            *(f"No estimate: {text}" for text in comparison.effects.failures),
            tables={
                f"Effect on the trainees' earnings of 1978, {comparison.study.n_obs:,} people": methods_table(
                    comparison, found.truth
                )
            },
            figures={
                f"effects_{_key(survey)}": plot_effects(
                    shown, benchmark=found.truth, title=f"Trainees against the {survey}: effect on earnings, $"
                )
            },
        )


def _key(survey: str) -> str:
    return survey.lower().replace("-", "")


def _tell_placebo(study: Study, found: Training) -> None:
    cps = found.comparisons["CPS"]
    lalonde = cps.without_1974[CHOSEN].estimate - found.experiments[LALONDE].estimate
    study.add(
        "A placebo: earnings of 1975",
        "Nobody was trained before 1976. Adjusted for everything but the earnings of 1975, the effect on those must be "
        "zero; where a method finds one, it compares the trainees with people on another path.",
        *(f"{survey}: {_clean(c)} of {len(c.placebo.names)} methods find nothing, as all should."
          for survey, c in found.comparisons.items()),
        "Against the CPS every method fails, by a thousand dollars and more: people come to a training in a bad year, "
        "and one earlier year does not tell who is having one. That is a warning about analyses with one year of "
        f"earnings. LaLonde's own sample is such an analysis: there entropy balancing misses its experiment by "
        f"{_money(lalonde)}, about what the placebo missed by ({_money(cps.placebo[CHOSEN].estimate)}).",
        "Where few controls carry the comparison a placebo finds nothing because it can find nothing: against the PSID "
        "the methods that pass have intervals of thousands of dollars.",
        tables={f"{s}: effect on earnings before the training": placebo_table(c) for s, c in found.comparisons.items()},
    )  # fmt: skip


def _clean(found: Comparison) -> int:
    return sum(e.ci_low <= 0 <= e.ci_high for e in found.placebo.effects)


def _tell_without_1974(study: Study, found: Training) -> None:
    truth = found.experiments[LALONDE]
    rows: dict[str, dict[str, Any]] = {}
    for survey, comparison in found.comparisons.items():
        for name, e in labelled(comparison.without_1974).items():
            rows.setdefault(name, {"method": name})[survey] = f"{number(e.estimate, 0)} {_range(e.ci_low, e.ci_high)}"
    study.add(
        "All trainees, one year of earnings",
        f"LaLonde's {truth.n_treated} trainees, whose earnings of 1974 are not known. The experiment says "
        f"{_money(truth.estimate)} {_range(truth.ci_low, truth.ci_high)}. Adjusted for 1975 alone every estimate is "
        "too small, and most have the wrong sign.",
        tables={"Effect on earnings of 1978, $": pd.DataFrame(list(rows.values())).fillna("–")},
    )


def _tell_specifications(study: Study, found: Training) -> None:
    moves = {s: _moves(t.set_index("adjusted for").iloc[1:]) for s, t in found.specifications.items()}
    study.add(
        "How much does the specification matter?",
        "Rows add covariates. Who the people are is not enough. Once earnings of an earlier year are in, estimates "
        "move: "
        + "; ".join(f"{s} {text}" for s, text in moves.items()) + ".",
        "Where an estimate moves by thousands with a square or an indicator, it stands on few people or on "
        "extrapolation. Matching one to one moves by more than a thousand dollars everywhere.",
        tables={f"{s}: effect, $": t.rename(columns=SHORT) for s, t in found.specifications.items()},
    )  # fmt: skip


def _moves(table: pd.DataFrame) -> str:
    """By how much the best and the worst method move over specifications."""
    spread = (table.max() - table.min()).sort_values()
    return (f"by {_money(spread.iloc[0])} ({LABELS[str(spread.index[0])]}) to {_money(spread.iloc[-1])} "
            f"({LABELS[str(spread.index[-1])]})")  # fmt: skip


def _tell_trimming(study: Study, found: Training) -> None:
    out = 185 - int(found.trimmed["PSID"].set_index("kept")["trainees"]["best trimming"])
    study.add(
        "Setting people aside",
        "Common support leaves out controls whose scores no trainee has. Against the CPS that is most of them, and the "
        "estimates hardly change; against the PSID regression and the parametric doubly robust estimate change by "
        "more than a thousand dollars: they had extrapolated.",
        "Best trimming for the treated (Crump et al. 2009) sets trainees aside for whom there is hardly a control: "
        f"{out} of 185 against the PSID, none against the CPS. What is left answers for the other trainees only, and "
        "against the PSID it is far from what all methods say of all.",
        tables={f"{s}: effect on the trainees kept, $": t.rename(columns=SHORT) for s, t in found.trimmed.items()},
    )


def _tell_doubts(study: Study, found: Training) -> None:
    cps, psid, near = (found.doubts[s] for s in ("CPS", "PSID", "CPS-3"))
    bias, psid_bias = cps.report.sensitivity, psid.report.sensitivity
    study.add(
        "Refutations and hidden bias, without the experiment",
        "The reported estimate (entropy balancing) as study.report judges it, which does not know the experiment; "
        "a hundred draws of each refutation, each estimated anew. The last row is the truth, for us alone.",
        "Refutations by simulation are passed against every survey, by estimates that are off in both directions: a "
        "treatment that is drawn by lot is confounded with nothing, whatever the study. They find faults of a method, "
        "and entropy balancing has none. Do not take them for evidence that trainees and controls are comparable.",
        f"A negative control is evidence: earnings of 1975, left out of the adjustment, fail against the CPS "
        f"({_money(cps.before.new_effect)}) and the PSID "
        f"({_money(psid.before.new_effect)}). Put into the adjustment they change the "
        f"estimate from {_money(cps.shorter.estimate)} to {_money(cps.report.effect.estimate)} against the CPS, "
        "towards the experiment, and can be a control no longer: what else of 1976 is missing, nothing here can tell. "
        f"CPS-3 passes by a hair (p = {near.before.pvalue:.3f}).",
        f"Hidden bias: against the CPS a gamma of {bias.gamma:.2f} undoes it, and the regression's interval holds zero "
        f"already; a cause that explained {bias.robustness_value:.1%} of what is left of both would bring its estimate "
        f"to zero, and one {bias.strongest_times:.1f} times as strong as {bias.strongest} does. Against the PSID "
        "matched pairs show no effect even without any bias. An honest analyst reads: the sign is not established, by "
        "any of the three surveys. That is what the wide intervals of the next section say, too.",
        "E-values mislead here. The PSID's estimate, which every other question counts out, has the best "
        f"({psid_bias.evalue:.2f}, {psid_bias.evalue_ci:.2f} for the interval): they know the size of an estimate and "
        "its error, not what it was made of.",
        *(f"{survey}, the report's verdict is \"{d.report.verdict}\": {' '.join(d.report.doubts) or 'no doubts.'}"
          for survey, d in found.doubts.items()),
        tables={"What an analyst would know": doubts_table(found.doubts, found.truth)},
        figures={
            "refutations_cps": plot_refutations(cps.report.refutations, title="Refutations against the CPS"),
            **{f"{name}_cps": axes for name, axes in hidden_bias_figures(bias).items()},
        },
    )  # fmt: skip


def report_lines(found: Training) -> list[str]:
    """The report on each survey, as it would be written without the experiment."""
    lines = []
    for survey, comparison in found.comparisons.items():
        report, effect = comparison.report, comparison.report.effect
        estimate = f"{_money(effect.estimate)} {_range(effect.ci_low, effect.ci_high)}"
        least, most = comparison.adjusted_range(comparison.effects)
        if not report.comparable:
            lines.append(
                f"{survey}: no estimate. The survey has the people, but not people like the trainees: once the arms "
                f"are alike, {effect.ess_control:.0f} of its {effect.n_control:,} controls carry the comparison, and "
                f"methods answer from {_money(least)} to {_money(most)}."
            )
        elif report.allowance:
            lines.append(
                f"{survey}: {estimate}, but the same method finds {_money(report.placebo.estimate)} on earnings "
                "before the training, where there is nothing to find. Allowing for an error of that size, the effect "
                f"lies in {_range(*report.interval)}: its sign is open."
            )
        else:
            before = f"{_money(report.placebo.estimate)} {_interval(report.placebo)}"
            lines.append(
                f"{survey}: {estimate}, on {effect.ess_control:.0f} effective controls. The placebo is not told from "
                f"nothing ({before}), but the interval is too wide to tell a useless training from a very good one."
            )
    return lines


def _tell_report(study: Study, found: Training) -> None:
    truth = found.truth.estimate
    rows = []
    for survey, comparison in found.comparisons.items():
        low, high = comparison.report.interval
        rows.append({"survey": survey, "reported": _range(low, high) if comparison.report.comparable else "nothing",
                     "holds the experiment's": ("yes" if low <= truth <= high else "no")
                     if comparison.report.comparable else "–"})  # fmt: skip
    study.add(
        "What may be reported without the experiment",
        "The rule: entropy balancing, because it leaves no difference in means, extrapolates from nobody and answers "
        f"for the trainees. Nothing is reported on fewer than {LEAST_CONTROLS:.0f} effective controls. Where the "
        "placebo finds an effect, the interval is widened by as much on either side.",
        *report_lines(found),
        f"Only now the comparison: the experiment says {_money(truth)}.",
        tables={"The report and the experiment": pd.DataFrame(rows)},
    )


def _conclusions(found: Training) -> list[str]:
    cps, psid = found.comparisons["CPS"], found.comparisons["PSID"]
    far = [n for n in psid.effects.names if n != NAIVE and abs(psid.effects[n].estimate - found.truth.estimate) > 1500]
    held = [c.report for c in found.comparisons.values() if c.report.comparable]
    good = [r for r in held if r.interval[0] <= found.truth.estimate <= r.interval[1]]
    balanced = [e.estimate for n, e in zip(cps.effects.names, cps.effects.effects, strict=True)
                if n != "subclassification" and n != NAIVE]  # fmt: skip
    return [
        f"The training raised earnings by {_money(found.truth.estimate)} a year {_interval(found.truth)}, says the "
        f"experiment. A plain comparison with people of a survey says {_money(cps.effects[NAIVE].estimate)} (CPS) or "
        f"{_money(psid.effects[NAIVE].estimate)} (PSID): the wrong sign, at five to eight times the size.",
        "Adjusting for two years of earlier earnings brings most of it back against the CPS: all methods but coarse "
        f"subclasses give {_money(min(balanced))} to {_money(max(balanced))}. Do not trust their intervals: the error "
        f"of {_money(cps.report.effect.std_error)} is no larger than the experiment's "
        f"({_money(found.truth.std_error)}), but it counts chance alone, not the bias that the placebo shows.",
        f"Where no comparable people exist, no method helps: against the PSID {len(far)} of "
        f"{len(psid.effects.names) - 1} adjusted estimates are off by more than $1,500, in both directions. It could "
        f"be known beforehand: effectively {psid.report.effect.ess_control:.0f} controls carry the comparison.",
        "Ask for a placebo. On earnings before the training, where the effect is zero, every method fails against the "
        "CPS with one year of earlier earnings to go by; and in LaLonde's larger sample, which has only one, the real "
        "estimates miss by as much.",
        "Refutations by simulation (a permuted treatment, noise as a covariate, subsets) pass everywhere and say "
        "nothing about who was chosen. Earnings before the training, gamma and robustness values do: no survey "
        "establishes the sign of the effect, whatever its interval says.",
        f"Reported by a rule that never looks at the outcome, {len(held)} of {len(found.comparisons)} surveys give an "
        f"interval, and {_of(len(good), len(held))} the experiment's answer. They are wide, and that is the honest "
        "finding: if a decision hangs on the number, draw lots.",
    ]


def _of(good: int, held: int) -> str:
    return "each holds" if good == held else f"{good} of them hold"


def _interval(e: AdjustedEffect) -> str:
    return _range(e.ci_low, e.ci_high)


def main(arguments: Sequence[str] | None = None) -> Training:
    """Run the study and write its page."""
    asked = study_arguments("lalonde", __doc__, arguments)
    study = Study(
        "Can a survey replace the experiment?",
        "A job training with an experiment behind it, judged by survey respondents instead: which methods find the "
        "effect, which do not, and could we have told without the experiment?",
    )
    found = study_training(asked.data_dir)
    _tell_experiment(study, found)
    _tell_people(study, found)
    _tell_methods(study, found)
    _tell_placebo(study, found)
    _tell_without_1974(study, found)
    _tell_specifications(study, found)
    _tell_trimming(study, found)
    _tell_doubts(study, found)
    _tell_report(study, found)
    samples = [f"lalonde_{name}" for name in (DEHEJIA_WAHBA, LALONDE, *SURVEYS.values())]
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=CAVEATS,
        summary=[SummaryRow.of(f"against the {s}", LABELS.get(n, n), c.effects[n], truth=found.truth.estimate)
                 for s, c in found.comparisons.items() for n in (NAIVE, "ols", "matching", "ipw", CHOSEN, "aipw")],
        made=how_made("lalonde", data=samples, data_dir=asked.data_dir, seeds="0 for folds and trees"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
