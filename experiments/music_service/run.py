"""A music service tries a new player on a tenth of its users: what did it do, for whom, and can the answer be trusted?

The service is simulated, so that every effect is known: the study designs the test, checks it where there is nothing
to find, runs it on 40,000 users, and sets what it found beside what was planted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec.abtest import Mean, adjust_pvalues
from causalrec.datasets import ServiceTruth, simulate_service, simulate_service_days
from causalrec.plots import plot_forest, plot_rates, plot_trend
from causalrec.report import SummaryRow
from causalrec.results import ABResult, ExperimentResult, TrendResult, format_number, format_pvalue
from experiments._study import Study, how_made, study_arguments
from experiments.music_service.checks import tell_calibration, tell_design, tell_outliers, tell_split
from experiments.music_service.experiment import (
    DAILY,
    EFFECT,
    EXPERIMENT,
    LOWER_IS_BETTER,
    METRICS,
    SEED,
    SPLIT,
    WORN_OFF,
)
from experiments.music_service.recovery import (
    ALL,
    interaction_table,
    over_repeats,
    recovery,
    repeat,
    sensitivity,
    tallies,
)


def ways_of(frame: pd.DataFrame, threshold: float) -> dict[str, ABResult]:
    """The effect on minutes by several analyses of the same users."""
    metrics = {
        "Welch t": Mean("minutes"), "z": Mean("minutes", method="z"),
        "Welch t, covariate": METRICS["minutes"],
        "Welch t, covariate, clipped at 99%": Mean("minutes", covariates=["minutes_pre"], winsorize=0.99),
    }  # fmt: skip
    result = replace(EXPERIMENT, metrics=metrics, segments=()).analyze(frame)
    removed = replace(
        EXPERIMENT, metrics={"removed": Mean("minutes")}, segments=(), where=f"minutes <= {threshold!r}"
    ).analyze(frame)
    return {**{e.metric: e for e in result.effects}, "Welch t, above 99% removed": removed["removed"]}


def tell_effects(
    study: Study, frame: pd.DataFrame, result: ExperimentResult, truth: ServiceTruth, threshold: float
) -> dict[str, ABResult]:
    ways = ways_of(frame, threshold)
    planted = truth.effect("minutes")
    table = pd.DataFrame([
        {"analysis": name, "effect": e.estimate, "low": e.ci_low, "high": e.ci_high, "std_error": e.std_error,
         "p": e.pvalue}
        for name, e in ways.items()
    ])  # fmt: skip
    holm = adjust_pvalues({e.metric: e.pvalue for e in result.effects}, "holm")
    metrics = pd.DataFrame([
        {"metric": e.metric, "control": e.control_mean, "treatment": e.treatment_mean, "effect": e.estimate,
         "low": e.ci_low, "high": e.ci_high, "p": e.pvalue, "p_holm": holm[e.metric],
         "planted": truth.effect(e.metric)}
        for e in result.effects
    ])  # fmt: skip
    saved = 1 - (ways["Welch t, covariate"].std_error / ways["Welch t"].std_error) ** 2
    removed = ways["Welch t, above 99% removed"]
    study.add(
        "What did the player do?",
        f"Planted on minutes: {format_number(planted)} (d = {EFFECT}). Minutes before the experiment take away "
        f"{saved:.0%} of the variance. Without the users above 99% the effect seems to be "
        f"{format_number(removed.estimate)} [{format_number(removed.ci_low)}, {format_number(removed.ci_high)}]: that "
        "interval is narrow, and of another question.",
        *result.notes,
        tables={"Minutes, five analyses of the same users": table, "All metrics; Holm over the five": metrics},
        figures={"effects": plot_forest(result.effects),
                 "converted": plot_rates([result["converted"]], as_percent=True)},
    )  # fmt: skip
    return ways


def tell_segments(study: Study, result: ExperimentResult, found: pd.DataFrame) -> pd.DataFrame:
    parts = found[found["segment"] != ALL]
    bh = adjust_pvalues(parts["p"], "bh")
    nothing = parts["truth"] == 0
    seen = pd.DataFrame([
        {"rule": name, "seen": int((p < 0.05).sum()), "of which nothing planted": int((nothing & (p < 0.05)).sum())}
        for name, p in (("p < 0.05", parts["p"]), ("Benjamini-Hochberg", bh), ("Holm", parts["p_holm"]))
    ])  # fmt: skip
    interactions = interaction_table(result.interactions)
    minutes = [e for e in result.segments if e.metric == "minutes"]
    study.add(
        "For whom?",
        f"{len(parts)} effects: {len(METRICS)} metrics in {len(minutes)} segments. In {int(nothing.sum())} of them "
        f"nothing was planted, so about {0.05 * nothing.sum():.1f} false alarms are to be expected of p < 0.05.",
        "That an effect is significant in one segment and not in another does not say that they differ; that is what "
        "the interaction tests ask. Differences were planted in minutes only, by all three traits.",
        tables={"Effects in segments, with and without multiplicity": seen,
                "Do effects differ between the groups?": interactions},
        figures={"segments_minutes": plot_forest(minutes, relative=False)},
    )  # fmt: skip
    return interactions


def tell_recovery(
    study: Study,
    frame: pd.DataFrame,
    effects: Sequence[ABResult],
    truth: ServiceTruth,
    found: pd.DataFrame,
    output: Path,
) -> pd.DataFrame:
    power = sensitivity(EXPERIMENT, frame, effects, truth)
    whole = found.merge(power.drop(columns="truth"), on=["metric", "segment"])
    output.mkdir(parents=True, exist_ok=True)
    whole.to_csv(output / "recovery.csv", index=False)
    weak = power[(power["segment"] != ALL) & (power["power"] < 0.8)]
    strong = power[(power["segment"] != ALL) & (power["power"] >= 0.8)]
    study.add(
        "Was each planted effect recovered?",
        f"In segments {len(weak)} of {len(weak) + len(strong)} planted effects have less than 80% power with these "
        f"users, the median {weak['power'].median():.0%}: that they were not seen says nothing about them.",
        tables={
            "Planted and found, all 70 effects": found.drop(columns="p_holm"),
            "Counted": tallies(found),
            "What these users can show: power for what was planted, and the smallest effect with 80% power": power,
        },
    )  # fmt: skip
    return whole


def tell_repeats(study: Study, whole: pd.DataFrame, repeats: int) -> pd.DataFrame:
    """Other users, the same service: coverage and power as they are, beside one run's luck."""
    effects, interactions = repeat(EXPERIMENT, range(SEED + 1, SEED + 1 + repeats))
    shares = over_repeats(effects).merge(whole[["metric", "segment", "power"]], on=["metric", "segment"])
    overall, parts = shares[shares["segment"] == ALL], shares[shares["segment"] != ALL]
    by_metric = parts.groupby("metric", sort=False)[["covered", "seen", "seen_holm", "power"]].mean().reset_index()
    tests = interactions.assign(seen=interactions["p"] < 0.05, seen_holm=interactions["p_holm"] < 0.05)
    by_test = tests.groupby(["metric", "by"], sort=False)[["seen", "seen_holm"]].mean().reset_index()
    study.add(
        f"The same on {repeats} other services of 40,000 users",
        f"All intervals together cover what was planted in {effects['covered'].mean():.1%} of {len(effects):,} cases. "
        f"Where nothing was planted, p < 0.05 in {effects[effects['truth'] == 0]['detected'].mean():.1%}; at least one "
        f"such alarm in {_any_alarm(effects, 'detected'):.0%} of the services, with Holm in "
        f"{_any_alarm(effects, 'after_holm'):.0%}.",
        tables={
            "All users: share covered, share seen; power by formula": overall,
            "Segments, the mean over the 13 of a metric": by_metric,
            "Interaction tests: share seen (only minutes differ)": by_test,
        },
    )  # fmt: skip
    return effects


def _any_alarm(effects: pd.DataFrame, column: str) -> float:
    nothing = effects[effects["truth"] == 0]
    return float(nothing.groupby("seed")[column].any().mean())


def tell_trend(study: Study) -> tuple[TrendResult, ABResult, float, float]:
    """The effect by day since exposure in another experiment of the service, whose novelty wears off."""
    frame, truth = simulate_service_days(random_state=SEED)
    result = DAILY.analyze(frame)
    [trend] = result.trends
    slope = float(np.polyfit(truth["day"], truth["effect"], 1)[0])
    late = replace(DAILY, day=None, where=f"day >= {WORN_OFF}").analyze(frame)["minutes"]
    lasting = float(truth.loc[truth["day"] >= WORN_OFF, "effect"].mean())
    days = trend.to_frame().assign(planted=truth["effect"])
    days["covered"] = (days["effect_low"] <= days["planted"]) & (days["planted"] <= days["effect_high"])
    study.add(
        "Does it last?",
        f"Another experiment of the service: 20,000 users in two even arms, followed for 14 days. The effect falls by "
        f"{format_number(-trend.estimate)} minutes a day [{format_number(-trend.ci_high)}, "
        f"{format_number(-trend.ci_low)}], p = {format_pvalue(trend.pvalue)}; planted is a fall of "
        f"{format_number(-slope)} (the least-squares line through the true effects).",
        f"Over all days the effect is {format_number(result['minutes'].estimate)} minutes a day (planted "
        f"{format_number(float(truth['effect'].mean()))}), from day {WORN_OFF} on {format_number(late.estimate)} "
        f"[{format_number(late.ci_low)}, {format_number(late.ci_high)}] (planted {format_number(lasting)}). Errors of "
        "one day and the next are of the same users, so days that miss do so together.",
        tables={"Effect by day since exposure, minutes a day": days}, figures={"trend": plot_trend(trend)},
    )  # fmt: skip
    return trend, late, slope, lasting


def conclusions(
    result: ExperimentResult, found: pd.DataFrame, power: pd.DataFrame, interactions: pd.DataFrame, late: ABResult
) -> list[str]:
    """What to do, from what was found; nothing here looks at what was planted."""
    overall = {row["metric"]: row for row in found[found["segment"] == ALL].to_dict("records")}
    gain = {m: overall[m]["estimate"] * (-1 if m in LOWER_IS_BETTER else 1) for m in METRICS}
    won = [m for m in METRICS if overall[m]["after_holm"] and gain[m] > 0]
    lost = [m for m in METRICS if overall[m]["after_holm"] and gain[m] < 0]
    advice = "Roll the player out" if won and not lost else "Do not roll the player out yet"
    lines = [
        f"{advice}: after Holm's correction it improves {_lifts(result, won) or 'nothing'}"
        + (f"; it harms {_lifts(result, lost)}." if lost else "; no metric is worse after the correction."),
        *(_undecided(result[m], overall[m], power) for m in METRICS if m not in won and m not in lost),
        f"The lasting gain is about {format_number(late.estimate)} minutes a day, as the other experiment says: plan "
        "with that, and not with the first week.",
    ]
    differ = interactions[interactions["p_holm"] < 0.05]
    if len(differ):
        what = ", ".join(f"{m} by {by}" for m, by in zip(differ["metric"], differ["by"], strict=True))
        lines.append(f"The effect differs between groups ({what}); decide there by group.")
    else:
        lines.append(
            "No difference between groups stands after Holm's correction over 15 tests, so do not tailor the rollout: "
            "the picture by segment is not evidence yet."
        )
    segments = found[(found["segment"] != ALL) & found["after_holm"]]
    names = ", ".join(f"{m} where {s}" for m, s in zip(segments["metric"], segments["segment"], strict=True))
    lines.append(
        f"Of {len(found) - len(METRICS)} effects in segments {len(segments)} stand after the correction"
        f"{f' ({names})' if names else ''}. If a segment matters by itself, design for it: see the column "
        "smallest_seen."
    )
    lines.append("Next time split more evenly, or adjust for the past, or both: either saves more users than any test.")
    return lines


def _undecided(effect: ABResult, row: Mapping[Any, Any], power: pd.DataFrame) -> str:
    """What to say of a metric that does not stand after the correction."""
    smallest = power.set_index(["metric", "segment"]).loc[(effect.metric, ALL), "relative"]
    hint = f"a hint at most (p = {format_pvalue(row['p'])}, after Holm {format_pvalue(row['p_holm'])})"
    return (
        f"{effect.metric}: {hint if row['detected'] else 'no effect shown'}, {_lift(effect)}. The test sees "
        f"{smallest:.1%} of control four times in five; less may well be there."
    )


def _lift(effect: ABResult) -> str:
    return f"{effect.relative_effect:+.1%} [{effect.relative_ci_low:+.1%}, {effect.relative_ci_high:+.1%}]"


def _lifts(result: ExperimentResult, metrics: Sequence[str]) -> str:
    return ", ".join(f"{m} {_lift(result[m])}" for m in metrics)


CAVEATS = (
    "The users are simulated and their traits independent; a real service has bots, households and devices that users "
    "share, which this one has not.",
    "Retention counts users who were exposed for seven days or more; those of the last days are left out of both arms.",
    "Each metric was analysed once, as fixed before: no peeking. Several looks need sequential intervals.",
    "p-values of shares are of the pooled z test, their intervals unpooled: at the border they may disagree.",
    "Clipped and trimmed minutes answer other questions than minutes, so nothing is planted to compare them with.",
)


def main(arguments: Sequence[str] | None = None, *, n_simulations: int = 4_000, repeats: int = 40) -> dict[str, Any]:
    """Run the study; the results by name."""
    options = study_arguments("music_service", __doc__, arguments)
    study = Study("A new player for a music service", "What does it do, for whom, does it last, and what can 40,000 "
                  "users not show?")  # fmt: skip
    frame, truth = simulate_service(40_000, effect=EFFECT, treated_share=SPLIT["treatment"], random_state=SEED)
    design = tell_design(study, frame, truth)
    calibration = tell_calibration(study, frame, n_simulations)
    result = EXPERIMENT.analyze(frame)
    tell_split(study, frame, result)
    outliers = tell_outliers(study, frame)
    ways = tell_effects(study, frame, result, truth, outliers[0].high)
    effects = [*result.effects, *result.segments]
    found = recovery(effects, truth)
    interactions = tell_segments(study, result, found)
    whole = tell_recovery(study, frame, effects, truth, found, options.output)
    repeated = tell_repeats(study, whole, repeats)
    trend, late, slope, lasting = tell_trend(study)
    study.finish(
        options.output, conclusions=conclusions(result, found, whole, interactions, late), caveats=CAVEATS,
        summary=[*(SummaryRow.of("all users", e.metric, e, truth.effect(e.metric)) for e in result.effects),
                 SummaryRow.of("all users", "minutes a day, change per day", trend, slope),
                 SummaryRow.of("all users", f"minutes a day from day {WORN_OFF}", late, lasting)],
        made=how_made("music_service", seeds=f"{SEED} for the service, its days, the lost users and A/A; {SEED + 1} to "
                      f"{SEED + repeats} for the other services"),
    )  # fmt: skip
    return {
        "designs": design, "calibration": calibration, "result": result, "outliers": outliers, "ways": ways,
        "recovery": whole, "interactions": interactions, "repeated": repeated, "trend": trend, "late": late,
        "slope": slope, "lasting": lasting, "truth": truth,
    }  # fmt: skip


if __name__ == "__main__":
    main()
