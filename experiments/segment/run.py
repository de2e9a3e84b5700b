"""A simulated offer to 200 real customers of a mall: does it work, for which segment, and were 200 enough?

The customers are real and so are the segments found among them; who gets the offer is drawn by lot, and its effect is
planted, so that the answers can be checked, once and over many assignments.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec.abtest import (
    Aggregates,
    Cell,
    Experiment,
    Mean,
    SampleRatio,
    adjust_pvalues,
    bootstrap_diff,
    heterogeneity_test,
    power_curve,
    solve_power,
    welch_test,
)
from causalrec.exceptions import BalanceWarning
from causalrec.moments import Moments
from causalrec.plots import plot_forest, plot_power_curve, plot_resampling
from causalrec.report import SummaryRow
from causalrec.results import ABResult, ExperimentResult, ResamplingResult, format_number
from experiments._study import Study, how_made, study_arguments
from experiments.segment.customers import NOISE, Population, assign, find_segments, read_customers

SEED = 20250303
METRICS = {"plain": Mean("next_score"), "adjusted": Mean("next_score", covariates=["score"])}
EXPERIMENT = Experiment(
    {**METRICS, "split": SampleRatio()}, variant="variant", control="control", unit="customer", strata=("segment",),
    segments=("segment",),
)  # fmt: skip
ALL = "all customers"
COVERED, SEEN = "covered: the interval holds the planted effect", "seen: p < .05"


def tell_segments(study: Study, population: Population) -> None:
    by_k = population.silhouettes
    best, later = by_k.loc[by_k["silhouette"].idxmax()], by_k.loc[by_k["k"] >= 4, "silhouette"]
    study.add(
        "Who are the customers?",
        f"k-means on standardised age, income and spending score; of k = 2 to 10, k = {best['k']:.0f} has the largest "
        f"silhouette, {best['silhouette']:.3f}. From 4 segments on none is below {later.min():.3f}, so they are a "
        "convenient cut and not natural kinds. A segment's name has its level of income and of spending score, and its "
        "mean age.",
        f"The next period's score is the present one with normal noise (sd {NOISE:g}: an assumption, as the data has "
        "one period). The offer adds 10 to it where the segment's score is low, 5 where it is in the middle, nothing "
        f"where it is high; over all customers {format_number(population.effect)}.",
        tables={"Silhouette by k": population.silhouettes, "Segments and the planted effect": population.segments},
    )  # fmt: skip


def name_of(effect: ABResult) -> str:
    """The segment of an effect, without its column."""
    return effect.segment.removeprefix("segment = ")


def welch_of(frame: pd.DataFrame, metric: str, **options: Any) -> ABResult:
    """Welch's test of the next score, whatever the segment."""
    control, treatment = (frame.loc[frame["variant"] == arm, "next_score"] for arm in ("control", "treatment"))
    return welch_test(
        control.mean(), control.var(), len(control), treatment.mean(), treatment.var(), len(treatment), metric=metric,
        **options,
    )  # fmt: skip


def bootstrap_of(frame: pd.DataFrame, method: str, n_resamples: int, rng: Any) -> ResamplingResult:
    treated, score = (frame["variant"] == "treatment").to_numpy(), frame["next_score"].to_numpy()
    return bootstrap_diff(score[~treated], score[treated], method=method, n_resamples=n_resamples, rng=rng)  # type: ignore[arg-type]


def one_experiment(
    study: Study, population: Population, n_resamples: int
) -> tuple[pd.DataFrame, ExperimentResult, pd.DataFrame]:
    """A single assignment, analysed in every way; the table has a row per way and segment."""
    frame = assign(population, np.random.default_rng(SEED))
    result = EXPERIMENT.analyze(frame)
    rows = [
        _row(ALL, "Welch, segments ignored", welch_of(frame, "next_score"), population.effect),
        _row(ALL, "post-stratified by segment", result["plain"], population.effect),
        _row(ALL, "post-stratified, adjusted for the score", result["adjusted"], population.effect),
    ]
    rng = np.random.default_rng([SEED, 1])
    whole = bootstrap_of(frame, "percentile", n_resamples, rng)
    rows.append(_row(ALL, "bootstrap, segments ignored", whole, population.effect))
    planted = population.segments.set_index("segment")["planted"]
    drawn = {}
    for segment, planted_here in planted.items():
        here = frame[frame["segment"] == segment]
        drawn[segment] = {m: bootstrap_of(here, m, n_resamples, rng) for m in ("percentile", "studentized")}
        found = {e.metric: e for e in result.segments if e.segment == f"segment = {segment}"}
        rows += [
            _row(segment, "Welch", found["plain"], planted_here),
            _row(segment, "Welch, adjusted for the score", found["adjusted"], planted_here),
            *(_row(segment, f"bootstrap, {m}", b, planted_here) for m, b in drawn[segment].items()),
        ]
    table = pd.DataFrame(rows)
    tests = pd.DataFrame([{"analysis": t.metric, "Q": t.statistic, "df": t.df, "p": t.pvalue}
                          for t in result.interactions])  # fmt: skip
    missed = table[~table["covered"]]
    by_segment = {name_of(e): e for e in result.segments if e.metric == "adjusted"}
    adjusted = [replace(by_segment[s], segment=s) for s in planted.index]
    study.add(
        "One experiment",
        f"{result.n_obs} customers, half of each segment treated. {len(missed)} of {len(table)} intervals miss what "
        "was planted.",
        "The bootstrap's percentile interval is shorter than Welch's where arms have some ten customers: it knows no "
        "t law. The studentised one does better.",
        *result.notes,
        tables={f"Overall; {COVERED}": table[table["segment"] == ALL].drop(columns="segment"),
                f"By segment; {COVERED}": table[table["segment"] != ALL], "Do effects differ between segments?": tests},
        figures={
            "segments": plot_forest(adjusted, relative=False, title="Effect on the next score"),
            "bootstrap": plot_resampling(whole),
        },
    )  # fmt: skip
    return table, result, frame


def _row(segment: str, analysis: str, effect: Any, planted: float) -> dict[str, Any]:
    return {
        "segment": segment, "analysis": analysis, "planted": planted, "effect": effect.estimate, "low": effect.ci_low,
        "high": effect.ci_high, "covered": effect.ci_low <= planted <= effect.ci_high, "p": effect.pvalue,
    }  # fmt: skip


def sufficient(population: Population) -> pd.DataFrame:
    """Per segment: the power of its own customers, and how many would have had 80%, without and with the past score.

    Where nothing was planted, the size is for an effect of 5, and there is no power.
    """
    rows = []
    scores = population.customers["score"]
    groups = [*population.segments[["segment", "customers", "score_sd", "planted"]].itertuples(index=False, name=None),
              (ALL, len(scores), float(scores.std()), population.effect)]  # fmt: skip
    for segment, size, score_sd, planted in groups:
        std = math.hypot(score_sd, NOISE)
        known = {"std": std, "effect": planted or 5.0}
        past = {"variance_reduction": (score_sd / std) ** 2}
        sizes = [solve_power(**known, power=0.8, **extra).n_obs for extra in ({}, past)]
        powers = [solve_power(**known, n_obs=size, **extra).power if planted else math.nan for extra in ({}, past)]
        rows.append({
            "segment": segment, "customers": size, "sd": std, "effect": known["effect"], "power": powers[0],
            "adjusted": powers[1], "needed": sizes[0], "needed, adjusted": sizes[1],
        })  # fmt: skip
    return pd.DataFrame(rows)


def tell_sizes(study: Study, population: Population) -> pd.DataFrame:
    table = sufficient(population)
    parts = table[table["segment"] != ALL]
    shown = table.rename(columns={
        "effect": "for an effect of", "power": "power, Welch", "adjusted": "power, adjusted", "needed": "needed, Welch",
    })  # fmt: skip
    enough = parts[parts["customers"] >= parts["needed"]]
    curve = power_curve(
        std=float(parts["sd"].median()), effect=[5.0, 10.0], n_obs=range(8, 401, 2), metric="median segment"
    )
    study.add(
        "What would have sufficed?",
        f"By Welch's test {len(enough)} of {len(parts)} segments had enough customers for 80% power. Tested one by "
        f"one, all of them together would have needed {parts['needed'].sum():,} customers without the past score and "
        f"{parts['needed, adjusted'].sum():,} with it, of the {table['customers'].iloc[-1]} there are.",
        tables={
            "Two-sided 5%. Power is that of the customers there are, to see what was planted. Needed are customers "
            "of both arms for 80% power, to see the effect in the table: the planted one, or 5 where none was. "
            "Adjusted: for the past score": shown
        },
        figures={"power_curve": plot_power_curve(curve)},
    )
    return table


def repeated(population: Population, repeats: int, *, seed: int = SEED + 1) -> pd.DataFrame:
    """Assign and analyse again and again: a row per assignment, segment and analysis."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame([row for i in range(repeats) for row in _once(population, rng, i)])


def _once(population: Population, rng: np.random.Generator, number: int) -> Iterator[dict[str, Any]]:
    frame = assign(population, rng)
    with warnings.catch_warnings():  # of a thousand balanced lotteries one looks unbalanced at p < .001
        warnings.simplefilter("ignore", BalanceWarning)
        result = replace(EXPERIMENT, metrics=METRICS).analyze(aggregate(frame))
    planted = population.segments.set_index("segment")["planted"]
    effects: list[tuple[str, str, Any, float]] = [
        (ALL, "Welch, segments ignored", welch_of(frame, "next_score"), population.effect),
        *((ALL, f"post-stratified, {e.metric}", e, population.effect) for e in result.effects),
    ]
    for e in result.segments:
        segment = name_of(e)
        effects.append((segment, e.metric, e, float(planted[segment])))
    for segment, analysis, effect, truth in effects:
        yield {**_row(segment, analysis, effect, truth), "number": number}
    for test in result.interactions:
        parts = [e for e in result.segments if e.metric == test.metric]
        alike = [replace(e, estimate=e.estimate - float(planted[name_of(e)])) for e in parts]
        for name, found in (("planted", test), ("no difference", heterogeneity_test(alike))):
            yield {"segment": f"interaction, {name}", "analysis": test.metric, "p": found.pvalue, "covered": math.nan,
                   "number": number}  # fmt: skip


def aggregate(frame: pd.DataFrame) -> Aggregates:
    """What :meth:`Experiment.collect` finds in the frame, faster for 200 rows: moments by arm and segment."""
    values = frame[["next_score", "score"]].to_numpy(np.float64)
    cells = {}
    for group, rows in frame.groupby(["variant", "segment"]).indices.items():
        both = Moments.from_array(values[rows], ["value", "score"])
        cells[group] = Cell(both.n, {"plain": both.select(["value"]), "adjusted": both})
    return Aggregates({"": cells, "segment": cells}, n_rows=len(frame))


def bootstraps(population: Population, repeats: int, *, n_resamples: int = 1_000, seed: int = SEED + 2) -> pd.DataFrame:
    """The bootstrap's coverage in segments: a row per assignment, segment and method."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(repeats):
        frame = assign(population, rng)
        for segment, planted in population.segments[["segment", "planted"]].itertuples(index=False, name=None):
            here = frame[frame["segment"] == segment]
            for method in ("percentile", "studentized"):
                found = bootstrap_of(here, method, n_resamples, rng)
                rows.append(_row(segment, f"bootstrap, {method}", found, planted))
    return pd.DataFrame(rows)


def tell_repeats(
    study: Study, population: Population, sizes: pd.DataFrame, repeats: int, few: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    print(f"\n{repeats:,} other assignments, and {few:,} with the bootstrap: a minute or two ...", flush=True)
    analytic, drawn = repeated(population, repeats), bootstraps(population, few)
    of_all = analytic["segment"].str.startswith("interaction")
    both = pd.concat([analytic[~of_all], drawn], ignore_index=True)
    both["seen"] = both["p"] < 0.05
    table = both.groupby(["segment", "analysis"], sort=False).agg(
        planted=("planted", "first"), mean_effect=("effect", "mean"), covered=("covered", "mean"), seen=("seen", "mean")
    ).reset_index()  # fmt: skip
    power = sizes.melt("segment", ["power", "adjusted"], "analysis", "power by formula")
    power["analysis"] = power["analysis"].replace({"power": "plain"})
    table = table.merge(power, on=["segment", "analysis"], how="left")
    tests = analytic[of_all].groupby(["segment", "analysis"])["p"]
    seen = tests.agg(lambda p: (p < 0.05).mean())
    by_kind = both[both["segment"] != ALL].groupby("analysis", sort=False)["covered"].mean()
    study.add(
        f"The same with {repeats:,} other assignments ({few:,} for the bootstrap)",
        "Intervals by segment, all together, cover the planted effect in "
        + ", ".join(f"{share:.1%} ({name})" for name, share in by_kind.items()) + ".",
        f"The interaction test sees that segments differ in {seen['interaction, planted', 'plain']:.0%} of the "
        f"assignments, with the past score in {seen['interaction, planted', 'adjusted']:.0%}. With one effect for all "
        f"(the planted one taken off) p < 0.05 in {seen['interaction, no difference', 'plain']:.1%} and "
        f"{seen['interaction, no difference', 'adjusted']:.1%}: it takes standard errors as known, which those of some "
        "ten customers an arm are not.",
        "The assignment was balanced within segments; an analysis that ignores them has intervals that are too wide. "
        "What was randomised within should be analysed within.",
        tables={f"Overall, shares of assignments. {COVERED}; {SEEN}":
                table[table["segment"] == ALL].drop(columns=["segment", "power by formula"]),
                f"By segment, shares of assignments. {COVERED}; {SEEN}; power by formula: how often it should be":
                table[table["segment"] != ALL]},
    )  # fmt: skip
    return analytic, drawn


def conclusions(
    result: ExperimentResult, strict: ExperimentResult, sizes: pd.DataFrame, false_alarms: float
) -> list[str]:
    """What to do, from the one experiment; nothing here looks at what was planted.

    ``strict`` has the intervals of all segments at once, and ``false_alarms`` is how often the interaction test says
    p < .05 where segments do not differ.
    """
    effect = result["adjusted"]
    interval = f"{format_number(effect.estimate)} [{format_number(effect.ci_low)}, {format_number(effect.ci_high)}]"
    plain, test = (next(t for t in result.interactions if t.metric == m) for m in ("plain", "adjusted"))
    parts = [e for e in result.segments if e.metric == "adjusted"]
    alone = [name_of(e) for e in parts if e.ci_low > 0]
    together = [name_of(e) for e in strict.segments if e.metric == "adjusted" and e.ci_low > 0]
    held = adjust_pvalues([e.pvalue for e in parts], "holm")
    lines = [
        "Simulated offer on real customers (assignment, next score and effect are ours): it "
        f"{'raises' if effect.ci_low > 0 else 'is not shown to raise'} the next score, by {interval} points of 100, "
        "adjusted for the present score and the segment.",
        f"That it works differently by segment: {'some sign' if test.pvalue < 0.05 else 'no sign'} (p = "
        f"{test.pvalue:.3f} with the past score, {plain.pvalue:.2f} without). With so few "
        f"customers the test says p < .05 in {false_alarms:.1%} of assignments where segments do not differ.",
        f"The interval of a segment by itself lies above zero in {_of(alone, len(parts))}; corrected for looking at "
        f"{len(parts)} (Bonferroni) in {_of(together, len(parts))}; Holm's p-values below .05: "
        f"{sum(p < 0.05 for p in held)}.",
    ]
    if together and test.pvalue < 0.05:
        lines.append(
            f"If the offer cannot go to all, begin with {' and '.join(together)}: the evidence is firmest there. That "
            "others gain less is not shown; test them with enough customers."
        )
    else:
        lines.append("Treat all alike until a larger test shows a difference.")
    needed = sizes.loc[sizes["segment"] != ALL, ["needed", "needed, adjusted"]]
    (low, low_adjusted), (high, high_adjusted) = needed.min(), needed.max()
    lines.append(
        f"A test of a single segment needs the size in the table: {low_adjusted} to {high_adjusted} customers with the "
        f"past score at hand, {low} to {high} without."
    )
    lines.append("Keep each customer's score of the period before: it is worth more than any number of analyses.")
    return lines


def _of(names: list[str], n: int) -> str:
    return f"{len(names)} of {n}" + (f" ({'; '.join(names)})" if names else "")


def of_all_segments(result: ExperimentResult, frame: pd.DataFrame) -> ExperimentResult:
    """The same, with intervals that hold for all segments at once (Bonferroni)."""
    n = len({e.segment for e in result.segments})
    return replace(EXPERIMENT, metrics=METRICS, confidence_level=1 - 0.05 / n).analyze(frame)


CAVEATS = (
    "The customers are a course's example data of unknown origin; the assignment, the noise and the effects are ours.",
    f"How much the past score is worth rests on the assumed noise (sd {NOISE:g} about it); with real customers it must "
    "be measured.",
    "Segments were found with the score that also adjusts the outcome. That is allowed, since both are of before the "
    "assignment; segments found with the outcome would not be.",
    "Six segments at 5% each: one in four such experiments without any effect would show one somewhere. The "
    "interaction test comes first.",
)


def main(
    arguments: Sequence[str] | None = None, *, repeats: int = 1_000, few: int = 300, n_resamples: int = 10_000
) -> dict[str, Any]:
    """Run the study; the results by name."""
    options = study_arguments("segment", __doc__, arguments)
    study = Study(
        "A simulated offer to real customers, by segment",
        "200 customers of a mall and their spending scores are real; who gets an offer, what it does and the next "
        "period's score are simulated. Does it work, for whom, and were 200 customers enough?",
    )
    population = find_segments(read_customers(options.data_dir))
    tell_segments(study, population)
    table, result, frame = one_experiment(study, population, n_resamples)
    sizes = tell_sizes(study, population)
    analytic, drawn = tell_repeats(study, population, sizes, repeats, few)
    planted = population.segments.set_index("segment")["planted"]
    adjusted = [e for e in result.segments if e.metric == "adjusted"]
    strict = of_all_segments(result, frame)
    alike = analytic[(analytic["segment"] == "interaction, no difference") & (analytic["analysis"] == "adjusted")]
    study.finish(
        options.output, caveats=CAVEATS,
        summary=[SummaryRow.of(ALL, "next score, adjusted", result["adjusted"], population.effect),
                 *(SummaryRow.of(s, "next score, adjusted", e, float(planted[s]))
                   for e in adjusted for s in [name_of(e)])],
        conclusions=conclusions(result, strict, sizes, float((alike["p"] < 0.05).mean())),
        made=how_made("segment", data=["mall_customers"], data_dir=options.data_dir,
                      seeds=f"{SEED} for the assignment and its bootstrap; {SEED + 1} for the other assignments; "
                            f"{SEED + 2} for those with the bootstrap; 0 for k-means"),
    )  # fmt: skip
    return {"population": population, "table": table, "result": result, "strict": strict, "frame": frame,
            "sizes": sizes, "repeated": analytic, "bootstraps": drawn}  # fmt: skip


if __name__ == "__main__":
    main()
