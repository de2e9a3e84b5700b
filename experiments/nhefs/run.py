"""Does quitting smoking make people gain weight? 1,629 smokers, 1971 to 1982 (NHEFS), by every method of a textbook.

The printed estimates of Hernán and Robins, "Causal Inference: What If", beside ours; then what they do not print:
matching, entropy balancing and doubly robust estimates, balance, what the loss of 63 people changes, what must be
believed, and how strong a hidden cause would have to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec.observational import ObservationalStudy
from causalrec.pipelines.ate_page import hidden_bias_figures
from causalrec.plots import plot_balance, plot_effects, plot_graph, plot_overlap, plot_refutations
from causalrec.report import SummaryRow
from causalrec.results import AdjustedEffect, EffectComparisonResult
from experiments._effects import LABELS, OWN, between, labelled, number
from experiments._study import Study, how_made, study_arguments
from experiments.nhefs.data import AFTER, BEFORE, Smokers, read_smokers
from experiments.nhefs.doubts import Doubts, controls_table, doubts_about, refuted_table
from experiments.nhefs.estimates import Published, by_price, published, study_of, with_censoring

CAVEATS = [
    "Nobody drew lots. All of it rests on nine covariates of 1971 being enough to make those who quit and those who "
    "went on comparable; no number on this page can show that they are.",
    "Quitting is what people said in 1982. Who quit for good, and when in these eleven years, is not in the data.",
    "Beside printed estimates stand intervals of the book's own kind where it has a formula: errors of one variance, "
    "weights and scores taken as known. All others are robust, and count that the score is estimated.",
    "The weights for the lost count as known in the errors.",
]
ADJUSTED = tuple(name for name in OWN if name != "difference_in_means")


@dataclass(frozen=True)
class Quitting:
    """What the study found."""

    smokers: Smokers
    published: list[Published]
    study: ObservationalStudy = field(repr=False)
    effects: EffectComparisonResult = field(repr=False)
    with_lost: EffectComparisonResult = field(repr=False)
    on_quitters: EffectComparisonResult = field(repr=False)
    doubts: Doubts = field(repr=False)

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest of the adjusted estimates."""
        values = [self.effects[n].estimate for n in self.effects.names if n in ADJUSTED]
        return min(values), max(values)


def study_quitting(smokers: Smokers) -> Quitting:
    """Everything that the page tells."""
    study = study_of(smokers)
    on_all, on_quitters = (study.compare(estimand=estimand) for estimand in ("ate", "att"))
    return Quitting(
        smokers, published(smokers), study, on_all, with_censoring(smokers), on_quitters, doubts_about(smokers)
    )  # fmt: skip


def published_table(found: Sequence[Published]) -> pd.DataFrame:
    """Printed and own estimates, and their difference."""
    return pd.DataFrame({
        "method": [p.what for p in found], "program": [p.where for p in found],
        "printed": [p.value for p in found], "printed interval": [p.interval for p in found],
        "ours": [number(p.ours.estimate, len(p.value.partition(".")[2])) for p in found],
        "our interval": [between(p.ours.ci_low, p.ours.ci_high) for p in found],
        "difference": [number(p.difference, 5) for p in found],
    })  # fmt: skip


def methods_table(found: EffectComparisonResult) -> pd.DataFrame:
    """A row per method: estimate, interval, balance, effective sizes."""
    return pd.DataFrame({
        "method": list(labelled(found)),
        "effect, kg": [round(e.estimate, 2) for e in found.effects],
        "95% interval": [between(e.ci_low, e.ci_high) for e in found.effects],
        "std error": [round(e.std_error, 3) for e in found.effects],
        "worst |SMD|": [round(float(v), 3) for v in found.max_abs_smd],
        "effective quitters": [_count(e.ess_treated) for e in found.effects],
        "effective others": [_count(e.ess_control) for e in found.effects],
    })  # fmt: skip


def _count(size: float) -> str:
    return f"{size:,.0f}" if np.isfinite(size) else "–"


def _tell_published(study: Study, found: Quitting) -> None:
    worst = max(found.published, key=lambda p: abs(p.difference))
    study.add(
        "What the book prints, and what we get",
        "Difference in weight change 1971 to 1982, kg, between quitting and smoking on. Programs are those of Hernán "
        "and Robins 2020; where the book rounds, the digits are those that its programs print.",
        f"The largest difference is {abs(worst.difference):.4f} kg ({worst.what}), which is rounding.",
        tables={"Effect of quitting, kg, with 95% intervals": published_table(found.published)},
    )


def _tell_methods(study: Study, found: Quitting) -> None:
    least, most = found.range
    shown = labelled(found.effects)
    study.add(
        "Every method on the same smokers",
        f"All adjusted estimates lie between {least:.2f} and {most:.2f} kg, every interval above zero. The methods "
        "share the covariates, so their agreement speaks for the arithmetic and the models, not for the covariates "
        "being enough.",
        *(f"No estimate: {text}" for text in found.effects.failures),
        tables={"Average effect over all (of the overlap for regression and overlap weights)":
                methods_table(found.effects),
                "Effect on those who quit": methods_table(found.on_quitters)},
        figures={"effects": plot_effects(shown, title="Effect of quitting on weight, kg")},
    )  # fmt: skip


def _tell_balance(study: Study, found: Quitting) -> None:
    balance = found.study.balance(found.effects["ipw"])
    before = found.study.balance().to_frame()
    worst = before.iloc[before["smd_before"].abs().argmax()]
    study.add(
        "Who quits?",
        f"Quitters differ before they quit: most in {worst['covariate']} ({worst['smd_before']:+.2f} standard "
        "deviations). They are older, more often men and white, and smoked fewer cigarettes; people of this kind gain "
        "less weight anyhow, which is why the plain difference is too small.",
        f"After weighting by the score the largest difference is {balance.max_abs_smd_after:.3f}; the scores of the "
        "two groups lie over each other, and no method had to set anybody aside.",
        figures={"balance": plot_balance(balance), "overlap": plot_overlap(found.study.overlap())},
    )


def _tell_lost(study: Study, found: Quitting) -> None:
    names = [n for n in found.with_lost.names if n in found.effects.names]
    table = pd.DataFrame({
        "method": [LABELS.get(n, n) for n in names],
        "the weighed": [round(found.effects[n].estimate, 3) for n in names],
        "standing for the lost, too": [round(found.with_lost[n].estimate, 3) for n in names],
        "interval": [between(found.with_lost[n].ci_low, found.with_lost[n].ci_high) for n in names],
    })  # fmt: skip
    shift = max(abs(found.with_lost[n].estimate - found.effects[n].estimate) for n in names if n in ADJUSTED)
    everybody = found.smokers.everybody
    lost = everybody["wt82_71"].isna().groupby(everybody["qsmk"]).mean()
    study.add(
        f"{found.smokers.n_lost} people were not weighed in 1982",
        f"{lost[1]:.1%} of the quitters and {lost[0]:.1%} of the others are missing. Weights 1 / P(weighed | quitting, "
        f"covariates), from {found.smokers.censoring.min():.2f} to {found.smokers.censoring.max():.2f}, let the "
        f"weighed stand for them (matching takes no weights). No adjusted estimate moves by more than {shift:.2f} kg.",
        tables={"Average effect, kg": table},
    )


def _tell_graph(study: Study, found: Quitting) -> None:
    graph, with_after = found.doubts.graph, found.doubts.with_after
    study.add(
        "What must be believed",
        "The book's nine confounders as a graph, with the price of cigarettes, which moves who quits and nothing else, "
        f"and blood pressure of 1982 ({AFTER}), which came afterwards. The nine are what the graph says to adjust for "
        "(the models take four of them squared as well).",
        f"Not to be adjusted for: {'; '.join(f'{column} ({why})' for column, why in graph.bad_controls)}.",
        f"With {AFTER} held fixed the nine {'suffice' if with_after.given_valid else 'do not suffice any more'}.",
        f"What no data show: {'; '.join(graph.assumptions)}.",
        figures={"graph": plot_graph(graph)},
    )


def _tell_refutations(study: Study, found: Quitting) -> None:
    doubts, shift = found.doubts, found.doubts.more.estimate - found.doubts.same.estimate
    study.add(
        "Where there is nothing to find",
        "The doubly robust estimate made again of data in which there is no effect, or in which nothing should "
        f"change, a hundred times each: {'it passes all' if doubts.report.refutations.passed else 'it fails some'}. "
        "That speaks for the method, not for the covariates.",
        f"Harder: what was known of people in 1971 and is not among the nine. Quitting afterwards cannot have changed "
        f"it; if the nine make quitters and others comparable, it does not differ. Of {len(BEFORE)} controls "
        f"{_passes(doubts)} at 5% (Holm), on the {doubts.same.n_obs:,} people of whom all are known. Adjusted for "
        f"these, too, the estimate moves by {number(shift)} kg, from {doubts.same.estimate:.2f} to "
        f"{doubts.more.estimate:.2f}.",
        "None of the controls stands for what one would fear most: being ill, or having decided to live otherwise.",
        tables={"Refutations": refuted_table(doubts.report.refutations),
                "Effects on what was known before": controls_table(doubts.controls, BEFORE)},
        figures={"refutations": plot_refutations(doubts.report.refutations)},
    )  # fmt: skip


def _passes(found: Doubts) -> str:
    passed = sum(found.controls.verdicts)
    return "all pass" if passed == len(BEFORE) else f"{passed} pass"


def _tell_hidden(study: Study, found: Quitting) -> None:
    report, bias = found.doubts.report, found.doubts.report.sensitivity
    study.add(
        "What a hidden cause would have to be",
        f"A cause would have to explain {bias.robustness_value:.1%} of what is left both of who quits and of weight to "
        f"bring the estimate to zero, {bias.robustness_value_alpha:.1%} for its interval. Beside {bias.strongest}, the "
        f"strongest covariate, it would have to be {bias.strongest_times:.0f} times as strong, and "
        f"{bias.strongest_times_ci:.0f} times for the interval. But covariates explain little of either here, so that "
        "many times as much as one of them is not much.",
        f"Matched pairs turn at a gamma of {bias.gamma:.2f}: a cause that makes quitting {bias.gamma - 1:.0%} more "
        "likely (in odds) within a pair, and decides who of the pair gains more, is enough. As a risk ratio with both "
        f"it needs {bias.evalue:.2f}, {bias.evalue_ci:.2f} for the interval (E-values).",
        f'The verdict of the report is "{report.verdict}". {report.conclusion} '
        f"{' '.join(report.doubts) or 'It has no doubts.'}",
        figures=hidden_bias_figures(bias),
    )


def _conclusions(found: Quitting) -> list[str]:
    least, most = found.range
    robust, naive = found.effects["aipw_parametric"], found.effects["difference_in_means"]
    price, bias = by_price(found.smokers), found.doubts.report.sensitivity
    return [
        f"Quitting smoking made people gain about {robust.estimate:.1f} kg more over eleven years than smoking on "
        f"{_interval(robust)}. Tell those who quit to expect it; it is no reason not to quit.",
        f"Without adjustment the answer is {naive.estimate:.1f} kg, too small by "
        f"{robust.estimate - naive.estimate:.1f}: those who quit are of the kind that gains less.",
        f"The choice of the method matters little here: {len(ADJUSTED)} ways of adjusting give {least:.2f} to "
        f"{most:.2f} kg. What would matter is a cause of quitting and of weight that is not among the nine covariates.",
        f"All {len(found.published)} estimates of the book come out to the digits that it prints.",
        f"The price of cigarettes, an instrument, says nothing: {price.estimate:.1f} kg "
        f"{between(price.ci_low, price.ci_high, 0)}. It hardly moves who quits (F = {price.first_stage_f:.1f}).",
        f"A hidden cause would have to explain {bias.robustness_value:.1%} of what is left both of quitting and of "
        f"weight to explain the effect away, {bias.strongest_times:.0f} times as much as {bias.strongest}, the "
        f"strongest covariate; in matched pairs a gamma of {bias.gamma:.2f} is enough. Refutations find nothing"
        + (f", nor do {len(BEFORE)} things known of people before they quit." if found.doubts.controls.passed else "."),
        f"The {found.smokers.n_lost} who were never weighed do not change the answer, if what is known of them in 1971 "
        "explains who they are.",
    ]


def _interval(e: AdjustedEffect) -> str:
    return between(e.ci_low, e.ci_high, 1)


def main(arguments: Sequence[str] | None = None) -> Quitting:
    """Run the study and write its page."""
    asked = study_arguments("nhefs", __doc__, arguments)
    study = Study(
        "Quitting smoking and weight, by every method of a textbook",
        "By how much does quitting change weight over eleven years, and how much does the method matter?",
    )
    found = study_quitting(read_smokers(asked.data_dir))
    _tell_published(study, found)
    _tell_methods(study, found)
    _tell_balance(study, found)
    _tell_lost(study, found)
    _tell_graph(study, found)
    _tell_refutations(study, found)
    _tell_hidden(study, found)
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=CAVEATS,
        summary=[SummaryRow.of("the average smoker", LABELS.get(n, n), e)
                 for n, e in zip(found.effects.names, found.effects.effects, strict=True)],
        made=how_made("nhefs", data=["nhefs"], data_dir=asked.data_dir, seeds="0 for folds and trees"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
