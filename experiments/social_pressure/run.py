"""Which letter makes people vote? 344,084 voters of Michigan in 180,002 households (Gerber, Green and Larimer 2008).

Letters went to households, so voters of one household are not independent: errors of voters are compared with errors of
households, before and after adjustment by earlier votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from causalrec.abtest import Experiment, Proportion, SampleRatio, adjust_pvalues, two_proportion_test
from causalrec.datasets import load_dataset
from causalrec.plots import plot_aa, plot_rates
from causalrec.report import SummaryRow
from causalrec.results import AAResult, ABResult, ExperimentResult, format_pvalue
from experiments._study import Study, forest_in_points, how_made, in_points, study_arguments

CONTROL, LETTERS = "Control", ("Civic Duty", "Hawthorne", "Self", "Neighbors")
PAST_VOTES = ("g2000", "g2002", "p2000", "p2002", "p2004")  # all voted in g2004: they were chosen so
SHARES = {CONTROL: 5.0, **dict.fromkeys(LETTERS, 1.0)}
PUBLISHED = {"Civic Duty": 0.018, "Hawthorne": 0.026, "Self": 0.049, "Neighbors": 0.081}  # turnouts of 31.5%, … - 29.7%
HOUSEHOLD, SIZE = "hh_id", "voters in household"
N_SIMULATIONS = 1_000


@dataclass(frozen=True)
class SocialPressure:
    """What the study found: four analyses of the same effects, and what was asked besides."""

    naive: ExperimentResult
    clustered: ExperimentResult
    naive_adjusted: ExperimentResult
    adjusted: ExperimentResult
    steps: dict[str, ABResult]
    false_alarms_naive: float
    aa: AAResult


def load_voters(data_dir: Path | None = None) -> pd.DataFrame:
    """A row per voter, and the size of the household in three bands."""
    frame = load_dataset("social_pressure", data_dir).frame
    bands = np.select([frame["hh_size"] == 1, frame["hh_size"] == 2], ["one", "two"], "three or more")
    return frame.assign(**{SIZE: bands})


def turnout(*, clustered: bool, adjusted: bool = False, control: str = CONTROL, **options: object) -> Experiment:
    """The experiment: who voted, by letter."""
    metrics = {"voted": Proportion("voted", covariates=PAST_VOTES if adjusted else ())}
    return Experiment(
        metrics, variant="treatment", control=control, cluster=HOUSEHOLD if clustered else None, **options  # type: ignore[arg-type]
    )  # fmt: skip


def each_step(voters: pd.DataFrame) -> dict[str, ABResult]:
    """Each letter against the one that presses a little less, adjusted and by household."""
    found = {}
    for less, more in pairwise(LETTERS):
        part = voters[voters["treatment"].isin([less, more])]
        found[f"{more} − {less}"] = turnout(clustered=True, adjusted=True, control=less).analyze(part)["voted"]
    return found


def naive_false_alarms(voters: pd.DataFrame, n_simulations: int, rng: int = 1) -> float:
    """How often the test of voters finds an effect (p < .05) where households are split by lot, 5 to 1."""
    generator = np.random.default_rng(rng)
    households = voters.groupby(HOUSEHOLD)["voted"].agg(["sum", "size"]).to_numpy()
    n_treated = round(len(households) / 6)
    total, alarms = households.sum(axis=0), 0
    for _ in range(n_simulations):
        treated = households[generator.choice(len(households), n_treated, replace=False)].sum(axis=0)
        others = total - treated
        alarms += two_proportion_test(*others.tolist(), *treated.tolist()).significant
    return alarms / n_simulations


def study_voters(voters: pd.DataFrame, n_simulations: int = N_SIMULATIONS) -> SocialPressure:
    """Everything that the page tells."""
    own = turnout(clustered=True, segments=SIZE)
    with_split = replace(own, metrics={**own.metrics, "split": SampleRatio(SHARES)})
    return SocialPressure(
        naive=turnout(clustered=False).analyze(voters),
        clustered=with_split.analyze(voters),
        naive_adjusted=turnout(clustered=False, adjusted=True).analyze(voters),
        adjusted=turnout(clustered=True, adjusted=True).analyze(voters),
        steps=each_step(voters),
        false_alarms_naive=naive_false_alarms(voters, n_simulations),
        aa=turnout(clustered=True).simulate_aa(voters, n_simulations=n_simulations, rng=1)[0],
    )


def effect(result: ExperimentResult, letter: str) -> ABResult:
    """The effect of a letter."""
    return result["voted", letter]


def error_ratio(over: ExperimentResult, under: ExperimentResult, letter: str) -> float:
    """One analysis's standard error over another's."""
    return effect(over, letter).std_error / effect(under, letter).std_error


def _points(e: ABResult) -> str:
    return f"{100 * e.estimate:+.2f} points [{100 * e.ci_low:.2f}, {100 * e.ci_high:.2f}]"


def _tell_effects(study: Study, found: SocialPressure) -> None:
    after = adjust_pvalues({letter: effect(found.clustered, letter).pvalue for letter in LETTERS}, "holm")
    [split] = found.clustered.sample_ratio
    rows = [effect(found.clustered, letter) for letter in LETTERS]
    table = pd.DataFrame({
        "letter": LETTERS, "turnout %": [round(100 * e.treatment_mean, 1) for e in rows],
        "effect, points": [round(100 * e.estimate, 2) for e in rows],
        "low": [round(100 * e.ci_low, 2) for e in rows], "high": [round(100 * e.ci_high, 2) for e in rows],
        "published": [round(100 * PUBLISHED[letter], 1) for letter in LETTERS],
        "p": [format_pvalue(e.pvalue) for e in rows], "p, Holm": [format_pvalue(after[letter]) for letter in LETTERS],
    })  # fmt: skip
    study.add(
        "The four letters against none",
        f"Without a letter {100 * rows[0].control_mean:.1f}% voted. Errors are of households; p is corrected for four "
        f"letters by Holm's method. Households are split as designed, 5 : 1 : 1 : 1 : 1 (p = {split.pvalue:.2f}).",
        "Published are the differences of the turnouts in the paper (29.7, 31.5, 32.2, 34.5 and 37.8%).",
        tables={"Effect on turnout, percentage points": table},
        figures={"turnout": plot_rates(rows, as_percent=True)},
    )


def _tell_errors(study: Study, found: SocialPressure) -> None:
    analyses = {
        "voters": found.naive, "households": found.clustered,
        "voters, adj.": found.naive_adjusted, "households, adj.": found.adjusted,
    }  # fmt: skip
    errors = pd.DataFrame({"letter": LETTERS}).assign(
        **{name: [round(100 * effect(r, x).std_error, 4) for x in LETTERS] for name, r in analyses.items()},
        **{"clustering": [round(error_ratio(found.clustered, found.naive, x), 3) for x in LETTERS],
           "adjusting": [round(error_ratio(found.adjusted, found.clustered, x), 3) for x in LETTERS]},
    )  # fmt: skip
    effects = pd.DataFrame({"letter": LETTERS}).assign(
        **{name: [round(100 * effect(r, x).estimate, 2) for x in LETTERS] for name, r in analyses.items()}
    )
    ratio = error_ratio(found.clustered, found.naive, "Neighbors")
    kept = error_ratio(found.adjusted, found.clustered, "Neighbors") ** 2
    worst = min(found.adjusted.pre_period, key=lambda e: e.pvalue)
    study.add(
        "Voters or households?",
        f"People who live together vote together: the honest error is {ratio:.2f} times that of voters, as if "
        f"{1 - 1 / ratio**2:.0%} of them had not been there. Where households are split by lot and nothing was sent, "
        f"the test of voters finds an effect in {found.false_alarms_naive:.1%} of {found.aa.n_simulations:,} splits, "
        f"the test of households in {found.aa.false_positive_rate:.1%} "
        f"[{found.aa.ci_low:.1%}, {found.aa.ci_high:.1%}].",
        f"Five earlier votes take away {1 - kept:.0%} of the variance, as {1 / kept - 1:.0%} more households would; "
        f"effects move by little. Of the {len(found.adjusted.pre_period)} comparisons of earlier votes the smallest "
        f"p is {worst.pvalue:.3f}: the arms were alike before.",
        tables={
            "Standard errors, percentage points, with voters or households as units, adjusted by five earlier votes or "
            "not; factors of clustering (households / voters) and adjusting (adjusted / not)": errors,
            "Effects, percentage points": effects,
        },
        figures={"effects": forest_in_points(
            [replace(effect(r, x), segment=name) for x in LETTERS for name, r in analyses.items()],
            "Effect on turnout by four analyses"),
            "aa": plot_aa(found.aa)},
    )  # fmt: skip


def _tell_steps(study: Study, found: SocialPressure) -> None:
    after = adjust_pvalues({name: e.pvalue for name, e in found.steps.items()}, "holm")
    table = pd.DataFrame({
        "step": [*found.steps], "effect, points": [round(100 * e.estimate, 2) for e in found.steps.values()],
        "low": [round(100 * e.ci_low, 2) for e in found.steps.values()],
        "high": [round(100 * e.ci_high, 2) for e in found.steps.values()],
        "p, Holm": [format_pvalue(p) for p in after.values()],
    })  # fmt: skip
    study.add(
        "Does more pressure do more?",
        "Each letter against the one that presses less: a duty; that turnout is studied; the household's own record; "
        "the neighbours' records too.",
        tables={"Adjusted, by household, percentage points": table},
    )


def _tell_sizes(study: Study, found: SocialPressure) -> None:
    tests = {t.treatment: t for t in found.clustered.interactions}
    after = adjust_pvalues({letter: tests[letter].pvalue for letter in LETTERS}, "holm")
    bands = ("one", "two", "three or more")
    by = {(e.treatment, e.segment.removeprefix(f"{SIZE} = ")): e for e in found.clustered.segments}
    table = pd.DataFrame({"letter": LETTERS}).assign(
        **{band: [round(100 * by[letter, band].estimate, 2) for letter in LETTERS] for band in bands},
        **{"p, Holm": [format_pvalue(after[letter]) for letter in LETTERS]},
    )
    differ = [letter for letter in LETTERS if after[letter] < 0.05]
    study.add(
        "Where do letters do most?",
        f"Effects differ by the size of the household for {', '.join(differ)}." if differ
        else "Effects do not differ by the size of the household by more than chance.",
        tables={"Effect by voters in the household, points; p of Cochran's Q": table},
    )  # fmt: skip


def _conclusions(found: SocialPressure, voters: pd.DataFrame) -> list[str]:
    best, step = effect(found.adjusted, "Neighbors"), found.steps["Neighbors − Self"]
    per_household = len(voters) / voters[HOUSEHOLD].nunique()
    votes = {letter: 1_000 * per_household * effect(found.adjusted, letter).estimate for letter in LETTERS}
    ratio = error_ratio(found.clustered, found.naive, "Neighbors")
    return [
        f"All four letters raise turnout. Showing the neighbours' records does most: {_points(best)}, from "
        f"{100 * best.control_mean:.1f}%.",
        "A thousand letters, one a household, bring about "
        + ", ".join(f"{n:.0f} ({letter})" for letter, n in votes.items()) + " more votes.",
        f"If naming neighbours is out of the question, show the household its own record: it keeps "
        f"{effect(found.adjusted, 'Self').estimate / best.estimate:.0%} of the effect. Naming them adds "
        f"{_points(step)}.",
        f"Always analyse by the unit that was assigned. Counting voters makes errors {1 - 1 / ratio:.0%} too small and "
        f"false alarms {found.false_alarms_naive / 0.05:.1f} times as frequent as said.",
        "Adjust by earlier votes: it costs nothing and saves "
        f"{1 - error_ratio(found.adjusted, found.clustered, 'Neighbors') ** 2:.0%} of the households.",
    ]  # fmt: skip


_CAVEATS = [
    "Everybody here voted in November 2004: the effects are of such voters in Michigan, on one primary.",
    "Households were assigned within 10,000 blocks of neighbours, which the analyses leave out. Taken as strata they "
    "change the errors by less than half a percent.",
    "Neighbours talk: a letter that names them may also act on those who got none, and then its effect is larger than "
    "measured.",
    "Complaints and loss of trust are not in the data.",
]


def main(arguments: Sequence[str] | None = None, *, n_simulations: int = N_SIMULATIONS) -> SocialPressure:
    """Run the study and write its page."""
    asked = study_arguments("social_pressure", __doc__, arguments)
    study = Study(
        "Social pressure: which letter makes people vote?",
        "Four letters press more and more. By how much does each raise turnout, and how sure can we be?",
    )
    voters = load_voters(asked.data_dir)
    found = study_voters(voters, n_simulations)
    _tell_effects(study, found)
    _tell_errors(study, found)
    _tell_steps(study, found)
    _tell_sizes(study, found)
    study.finish(
        asked.output, conclusions=_conclusions(found, voters), caveats=_CAVEATS,
        summary=[SummaryRow.of(what, letter, in_points(effect(result, letter)))
                 for what, result in (("by household, points", found.clustered),
                                      ("and adjusted, points", found.adjusted))
                 for letter in LETTERS],
        made=how_made("social_pressure", data=["social_pressure"], data_dir=asked.data_dir,
                      seeds="1 for A/A splits and bootstrap"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
