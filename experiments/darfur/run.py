"""Violence and attitudes to peace in Darfur: what a hidden cause would have to be to change the answer.

1,276 people who fled from Darfur were asked whether they had been harmed, and whether peace is possible. Hazlett (2020)
argues that within a village, and among women and among men, chance decided who was harmed. Cinelli and Hazlett (2020)
take the survey as the example of their method. Their numbers to the digits printed; then the same question put to
matched pairs (Rosenbaum's gamma), on the scale of risk ratios (E-values), and to a binary confounder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from causalrec.datasets.loaders import data_directory
from causalrec.observational import (
    amplify_gamma,
    evalue,
    match,
    matched_set_bounds,
    ols_effect,
    sensitivity_ols,
    tipping_points,
)
from causalrec.plots import plot_confounding, plot_gamma
from causalrec.report import SummaryRow
from causalrec.results import AdjustedEffect, EValueResult, PartialR2Result, RosenbaumResult, TippingResult
from experiments._study import Study, how_made, study_arguments

OUTCOME, TREATMENT, GROUP = "peacefactor", "directlyharmed", ("village", "female")
PERSONAL = ("age", "farmer_dar", "herder_dar", "pastvoted", "hhsize_darfur")
COVARIATES = [*PERSONAL, "female", "village"]
GAMMAS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0)
PRINTED = {
    "estimate": "0.097", "standard error": "0.023", "t": "4.18", "degrees of freedom": "783", "partial R²": "2.2%",
    "robustness value": "13.9%", "robustness value, 95% interval": "7.6%",
}  # fmt: skip
CAVEATS = [
    "That chance decided who was harmed within a village is an argument about how the attacks were made, not something "
    "that the survey can show. People were asked after they had fled; those who were killed were not.",
    "The robustness value says what a confounder must be like, not whether there is one. Sex is the strongest observed "
    "predictor; that nothing hidden is stronger is a judgement of who knows the place.",
    "The methods ask different questions: gamma bounds what bias in the treatment alone can do at worst; partial R² "
    "bounds treatment and outcome together. Small gammas and small shares of variance are not on one scale.",
    "Errors of the regression are the classical ones, on which the method of Cinelli and Hazlett rests.",
]


@dataclass(frozen=True)
class Darfur:
    """What the study found."""

    n_obs: int
    n_villages: int
    regression: PartialR2Result
    observed: PartialR2Result
    robust: AdjustedEffect
    pairs: RosenbaumResult
    n_pairs: int
    evalue: EValueResult
    tipping: TippingResult = field(repr=False)


def read_survey(data_dir: Path | None = None) -> pd.DataFrame:
    """The survey, a row per person."""
    return pd.read_csv((data_dir or data_directory()) / "darfur" / "darfur.csv")


def study_survey(frame: pd.DataFrame) -> Darfur:
    """Everything that the page tells."""
    X, y, harmed = frame[COVARIATES], frame[OUTCOME], frame[TREATMENT]
    regression = sensitivity_ols(X, y, treatment=harmed, benchmarks=["female"], name="being harmed")
    observed = sensitivity_ols(X, y, treatment=harmed, benchmarks=[*PERSONAL, "female"], kd=1)
    pairs = match(
        frame[list(PERSONAL)], treatment=harmed, distance="mahalanobis", replace=False,
        exact=frame[list(GROUP)].astype(str),
    )  # fmt: skip
    bounds = matched_set_bounds(y, pairs, treatment=harmed, gamma=GAMMAS)
    sd = float(y.std())
    half = regression.std_error * 1.96
    tipping = tipping_points(
        regression.estimate, regression.estimate - half, regression.estimate + half,
        treated=[0.3, 0.4, 0.5, 0.6, 0.75], control=[0.2, 0.2, 0.2, 0.2, 0.25],
    )  # fmt: skip
    return Darfur(
        len(frame), frame["village"].nunique(), regression, observed, ols_effect(X, y, treatment=harmed), bounds,
        pairs.n_matched,
        evalue(regression.estimate, measure="ols", std_error=regression.std_error, sd=sd), tipping,
    )  # fmt: skip


def printed_table(found: Darfur) -> pd.DataFrame:
    """The numbers of the paper beside ours, in more digits."""
    r = found.regression
    ours = [
        f"{r.estimate:.7f}", f"{r.std_error:.7f}", f"{r.tstat:.5f}", str(r.dof), f"{r.partial_r2:.4%}",
        f"{r.robustness_value:.4%}", f"{r.robustness_value_alpha:.4%}",
    ]  # fmt: skip
    return pd.DataFrame({"": list(PRINTED), "printed": list(PRINTED.values()), "ours": ours})


def benchmark_table(found: Darfur) -> pd.DataFrame:
    """A row per confounder compared with sex."""
    r = found.regression
    return pd.DataFrame({
        "confounder": [f"{k:g} times as strong as sex" for k in r.kd],
        "of the treatment": [f"{v:.2%}" for v in r.r2_treatment],
        "of the outcome": [f"{v:.2%}" for v in r.r2_outcome],
        "estimate with it": [f"{v:.4f}" for v in r.adjusted_estimate],
        "95% interval": [f"{a:.3f} to {b:.3f}" for a, b in zip(r.adjusted_low, r.adjusted_high, strict=True)],
        "t": [f"{v:.2f}" for v in r.adjusted_t],
    })  # fmt: skip


def observed_table(found: Darfur) -> pd.DataFrame:
    """A row per observed covariate other than the village: what a confounder like it would do."""
    o = found.observed
    return pd.DataFrame({
        "covariate": o.benchmark,
        "of the treatment": [f"{v:.2%}" for v in o.r2_treatment],
        "of the outcome": [f"{v:.2%}" for v in o.r2_outcome],
        "estimate with it": [f"{v:.4f}" for v in o.adjusted_estimate],
    })  # fmt: skip


def gamma_table(found: Darfur) -> pd.DataFrame:
    """A row per gamma of the matched pairs."""
    table = found.pairs.to_frame()
    ranges = {
        what: [f"{a:.3f} to {b:.3f}" for a, b in zip(table[f"{what}_low"], table[f"{what}_high"], strict=True)]
        for what in ("estimate", "ci")
    }
    return pd.DataFrame({
        "gamma": [f"{v:g}" for v in table["gamma"]],
        "p-value at most": [f"{v:.3g}" for v in table["pvalue_high"]],
        "estimates": ranges["estimate"],
        "95% interval": ranges["ci"],
    })  # fmt: skip


def tipping_table(found: Darfur) -> pd.DataFrame:
    """What a hidden trait must do to the outcome, by how common it is among the harmed and the others."""
    t = found.tipping
    return pd.DataFrame({
        "share among the harmed": [f"{v:.0%}" for v in t.treated],
        "share among the others": [f"{v:.0%}" for v in t.control],
        "effect that explains the estimate": [f"{v:.2f}" for v in t.effect_for_estimate],
        "that brings 0 into the interval": [f"{v:.2f}" for v in t.effect_for_interval],
    })  # fmt: skip


def _tell(study: Study, found: Darfur) -> None:
    r, pairs = found.regression, found.pairs
    study.add(
        "The printed numbers",
        f"Regression of the index of attitudes to peace (0 to 1) on being harmed, with {found.n_villages} villages, "
        "sex and five more covariates. Errors robust to unequal variances change little: "
        f"{found.robust.ci_low:.3f} to {found.robust.ci_high:.3f} (HC2).",
        tables={"Cinelli and Hazlett 2020": printed_table(found)},
    )
    study.add(
        "Compared with sex",
        "Within villages sex explains more of the attitudes than any other answer. A hidden confounder even twice as "
        "strong leaves the conclusion, one three times as strong does not.",
        tables={
            "a hidden confounder as strong as each covariate": observed_table(found),
            "as sex, or stronger": benchmark_table(found),
        },
        figures={"estimate": plot_confounding(r), "t": plot_confounding(r, show="t")},
    )
    turn = pairs.turning_gamma
    odds = [turn * 1.5, turn * 2, turn * 4]
    twins = ", ".join(f"{a:.2f} and {b:.2f}" for a, b in zip(odds, amplify_gamma(turn, odds), strict=True))
    study.add(
        "Pairs from one village and of one sex",
        f"{found.n_pairs} of the harmed have a partner of their own village and sex who was not, the nearest in the "
        f"other covariates; {found.n_pairs - pairs.n_used} of these pairs answer alike, and say nothing of a "
        f"difference. From a gamma of {turn:.2f} on, chance and bias could make what was seen. That is a confounder "
        f"that multiplies the odds of being harmed, and of the higher answer in a pair, by {twins}.",
        tables={"by hidden bias": gamma_table(found)},
        figures={"gamma": plot_gamma(pairs), "gamma_effect": plot_gamma(pairs, show="effect")},
    )
    study.add(
        "Risk ratios, and a trait that some have",
        f"E-value {found.evalue.evalue:.2f}, {found.evalue.evalue_ci:.2f} for the interval (the difference in standard "
        "deviations, converted).",
        tables={"a hidden trait, by its shares": tipping_table(found)},
    )


def _conclusions(found: Darfur) -> list[str]:
    r, pairs = found.regression, found.pairs
    return [
        f"Being harmed raises the index of attitudes to peace by {r.estimate:.3f} (t = {r.tstat:.2f}), if within "
        "villages and sexes nothing hidden decided who was harmed.",
        f"A hidden cause must explain {r.robustness_value:.1%} of what is left both of who was harmed and of the "
        f"attitudes to explain that away, {r.robustness_value_alpha:.1%} to bring zero into the interval.",
        f"One three times as strong as sex would leave {r.adjusted_estimate[-1]:.3f}, no longer distinct from zero "
        f"(t = {r.adjusted_t[-1]:.2f}); one twice as strong leaves t = {r.adjusted_t[-2]:.2f}.",
        f"Matched pairs turn at a gamma of {pairs.turning_gamma:.2f}: they use {2 * found.n_pairs} of "
        f"{found.n_obs:,} people, {found.n_pairs - pairs.n_used} of {found.n_pairs} pairs answer alike, and gamma "
        "allows a confounder all of the outcome: little bias is enough.",
        "All printed numbers come out to their digits.",
    ]


def main(arguments: Sequence[str] | None = None) -> Darfur:
    """Run the study and write its page."""
    asked = study_arguments("darfur", __doc__, arguments)
    study = Study(
        "Violence and attitudes to peace in Darfur: how strong must a hidden cause be?",
        "Does having been harmed make people want peace more, and what would a hidden cause have to be like to say "
        "otherwise?",
    )
    found = study_survey(read_survey(asked.data_dir))
    _tell(study, found)
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=CAVEATS,
        summary=[SummaryRow.of("people who fled", "regression", found.robust)], made=how_made("darfur"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
