"""A shelf of podcasts: more is played, revenue is flat. Who stays, what does music lose, and what is decided?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec.abtest import (
    DecisionRule,
    Equivalence,
    Experiment,
    Mean,
    NonInferiority,
    Retention,
    SampleRatio,
    Superiority,
    cannibalisation,
    decide_experiment,
    funnel,
    funnel_counts,
    proxy_analysis,
)
from causalrec.moments import Moments
from causalrec.plots import plot_ab, plot_funnel_sankey, plot_retention, plot_survival
from causalrec.report import SummaryRow
from causalrec.results import (
    ABResult,
    CannibalisationResult,
    CoxResult,
    FunnelResult,
    ProxyResult,
    RestrictedMeanResult,
    RetentionResult,
    format_number,
    format_pvalue,
)
from causalrec.survival import cox_effect, durations_of, kaplan_meier, logrank_test, retention, rmst_difference
from experiments._study import Study, how_made, study_arguments
from experiments.music_service.simulation import (
    AS_OF,
    HAZARD_RATIO,
    MONTH,
    START,
    STEPS,
    ShelfTruth,
    mean_stay,
    simulate_shelf,
    stay,
)

SEED = 20250505  # the day on which this experiment begins, chosen before any result was seen
N_USERS = 60_000
MARGIN = 0.03  # of revenue: what may be lost, and within which it is flat
MUSIC_MARGIN = 0.05
SILENCE = 7.0  # days without activity after which a user counts as gone
RETENTION_DAYS = (7, 30, 60)

EXPERIMENT = Experiment(
    {
        "minutes": Mean("minutes", covariates=["minutes_pre"]),
        "revenue": Mean("revenue", covariates=["minutes_pre"], hypothesis=NonInferiority(MARGIN, relative=True)),
        "music": Mean("music", covariates=["minutes_pre"], hypothesis=NonInferiority(MUSIC_MARGIN, relative=True)),
        "podcasts": Mean("podcasts", covariates=["minutes_pre"]),
        "retained_30d": Retention("last_seen", days=30),
        "split": SampleRatio(),
    },
    variant="variant", control="control", unit="user_id", exposed_at="exposed_at",
)  # fmt: skip
RULE = DecisionRule("minutes", guardrails=["revenue", "music"], n_planned=N_USERS)
FOR_REVENUE = DecisionRule("revenue", secondary=["minutes"], mde={"revenue": {"relative": MARGIN}}, n_planned=N_USERS)


def asking(revenue: Superiority | Equivalence) -> Experiment:
    """The experiment with another question about revenue, and what music loses in both directions."""
    others = {"revenue": Mean("revenue", covariates=["minutes_pre"], hypothesis=revenue),
              "music": Mean("music", covariates=["minutes_pre"])}  # fmt: skip
    return replace(EXPERIMENT, metrics={**EXPERIMENT.metrics, **others})


def moments_of(frame: pd.DataFrame) -> tuple[Moments, Moments]:
    """Of minutes by period and kind, and of revenue, by arm."""
    columns = ["minutes_week1", "minutes_later", "revenue", "music", "podcasts"]
    control = frame["variant"] == "control"
    found = [Moments.from_array(frame.loc[arm, columns].to_numpy(dtype=np.float64), columns)
             for arm in (control, ~control)]  # fmt: skip
    return found[0], found[1]


def tell_funnel(study: Study, frame: pd.DataFrame, truth: ShelfTruth) -> FunnelResult:
    counts = funnel_counts(frame, STEPS, variant="variant", control="control", unit="user_id")
    found = funnel(counts, ["assigned", *STEPS], control="control")
    planted = np.subtract(truth.funnel["treatment"], truth.funnel["control"])
    table = pd.DataFrame({
        "step": found.step, "control": found.of_all[0], "treatment": found.of_all[1], "planted": planted,
        "difference": found.effect[1], "low": found.effect_low[1], "high": found.effect_high[1],
        "p, Holm": found.adjusted[1],
    })  # fmt: skip
    study.add(
        "Where do users get to?",
        "Shares are of all who were assigned, so each step compares randomised users; p-values are corrected by Holm. "
        f"Steps that more users reach: {_steps(found, 1)}; fewer: {_steps(found, -1)}; no difference shown: "
        f"{_steps(found, 0)}.",
        tables={"Shares of all users who got to a step": table}, figures={"funnel": plot_funnel_sankey(found)},
    )  # fmt: skip
    return found


def _steps(found: FunnelResult, sign: int) -> str:
    """The steps whose share rises (1), falls (-1) or is not shown to do either (0)."""
    effects = zip(found.step[1:], found.effect[1, 1:], found.adjusted[1, 1:], strict=True)
    named = [step for step, effect, p in effects if sign == (np.sign(effect) if p < 0.05 else 0)]
    return ", ".join(named) or "none"


def tell_stay(study: Study, frame: pd.DataFrame) -> tuple[RetentionResult, RestrictedMeanResult, CoxResult]:
    days, left, arms = _lives(frame)
    curves = kaplan_meier(days, left, **arms)
    test = logrank_test(days, left, **arms)
    kept = retention(days, left, days=RETENTION_DAYS, **arms)
    month = rmst_difference(days, left, horizon=MONTH, **arms)
    cox = cox_effect(days, left, **arms)
    table = pd.DataFrame([
        *({"what": f"still there after {day} days", **_interval(effect),
           "planted": float(stay(day, "treatment") - stay(day, "control"))}
          for day, effect in zip(RETENTION_DAYS, kept.effects, strict=True)),
        {"what": "days in the first 28", **_interval(month.effects[0]), "planted": planted_days()},
        {"what": "hazard ratio", "estimate": cox["treatment"].hazard_ratio, "low": cox["treatment"].hazard_ratio_low,
         "high": cox["treatment"].hazard_ratio_high, "p": cox["treatment"].pvalue, "planted": HAZARD_RATIO},
    ])  # fmt: skip
    study.add(
        "Do they stay?",
        f"A user is gone after {SILENCE:g} days of silence. {1 - left.mean():.0%} of users are not, and count for as "
        "long as they were seen: for those who came late day 60 has not come, and they are neither dropped nor taken "
        "for lost.",
        f"Log-rank: p = {format_pvalue(test.pvalue)}. One hazard ratio for all times (Cox) is what was planted; the "
        f"check of that says p = {format_pvalue(cox['treatment'].proportional_pvalue)}.",
        tables={"Treatment against control": table},
        figures={"survival": plot_survival(curves), "retention": plot_retention(kept)},
    )  # fmt: skip
    return kept, month, cox


def _lives(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series, dict[str, Any]]:
    """Days until leaving, whether it was seen, and the arms."""
    as_of = START + np.timedelta64(int(AS_OF), "D")
    lives = durations_of(frame["exposed_at"], frame["last_seen"], as_of=as_of, inactive_for=SILENCE)
    return lives["durations"], lives["event_observed"], {"treatment": frame["variant"], "control": "control"}


def planted_days() -> float:
    return mean_stay(MONTH, "treatment") - mean_stay(MONTH, "control")


def _interval(effect: ABResult) -> dict[str, float]:
    return {"estimate": effect.estimate, "low": effect.ci_low, "high": effect.ci_high, "p": effect.pvalue}


def tell_proxy(study: Study, frame: pd.DataFrame, truth: ShelfTruth) -> dict[str, ProxyResult]:
    found = _proxies(frame)
    rows = []
    for outcome, each in found.items():
        rows += [
            {"outcome": outcome, "what": "promised by week 1", "estimate": each.predicted_effect,
             "low": each.predicted_ci_low, "high": each.predicted_ci_high, "planted": truth.predicted(outcome)},
            {"outcome": outcome, "what": "effect", "estimate": each.outcome_effect, "low": each.outcome_ci_low,
             "high": each.outcome_ci_high, "planted": truth.effect(outcome)},
            {"outcome": outcome, "what": "effect less promise", "estimate": each.remainder,
             "low": each.remainder_ci_low, "high": each.remainder_ci_high,
             "planted": truth.effect(outcome) - truth.predicted(outcome)},
        ]  # fmt: skip
    study.add(
        "Would the first week have told?",
        "Within each arm, users with more minutes in week 1 have more minutes after and bring more revenue. The effect "
        "on week 1 times that slope is what week 1 promises.",
        *(f"{outcome}: promised {format_number(each.predicted_effect)}, found {format_number(each.outcome_effect)}; "
          f"for the difference p = {format_pvalue(each.remainder_pvalue)}." for outcome, each in found.items()),
        "The slope says which users listen and bring revenue, not what more listening brings.",
        tables={"Minutes of week 1 as a proxy": pd.DataFrame(rows)},
    )  # fmt: skip
    return found


def _proxies(frame: pd.DataFrame) -> dict[str, ProxyResult]:
    control, treatment = moments_of(frame)
    outcomes = ("minutes_later", "revenue")
    return {o: proxy_analysis(control, treatment, proxy="minutes_week1", outcome=o) for o in outcomes}


def _taken(frame: pd.DataFrame) -> CannibalisationResult:
    return cannibalisation(*moments_of(frame), target="podcasts", rest="music")


def tell_cannibalisation(study: Study, frame: pd.DataFrame, truth: ShelfTruth) -> CannibalisationResult:
    found = _taken(frame)
    names = {"podcasts": "target", "music": "rest", "minutes": "total"}
    rows = [
        {"what": name, "estimate": getattr(found, f"{key}_effect"), "low": getattr(found, f"{key}_ci_low"),
         "high": getattr(found, f"{key}_ci_high"), "planted": truth.effect(name)}
        for name, key in names.items()
    ]  # fmt: skip
    share = {"what": "share taken from music", "estimate": found.share_taken, "low": found.share_taken_ci_low,
             "high": found.share_taken_ci_high, "planted": truth.share_taken()}  # fmt: skip
    study.add(
        "What does music lose?",
        f"In words: {found.verdict}. Of a minute of podcasts gained, {found.share_taken:.0%} "
        f"[{found.share_taken_ci_low:.0%}, {found.share_taken_ci_high:.0%}] comes from music. Users who stay longer "
        "also play more music, which is in this share.",
        tables={"Minutes a user in 28 days": pd.DataFrame([*rows, share])},
    )  # fmt: skip
    return found


def tell_decision(study: Study, frame: pd.DataFrame, truth: ShelfTruth) -> dict[str, Any]:
    """The verdict of the rule that was fixed, and what other questions about revenue would have said."""
    aggregates = EXPERIMENT.collect(frame)
    result = EXPERIMENT.analyze(aggregates)
    verdict = decide_experiment(result, replace(RULE, n_planned=len(frame)))
    within = asking(Equivalence(MARGIN, relative=True)).analyze(aggregates)
    flat = within["revenue"]
    drawn = tuple(e for e in within.effects if e.metric != "podcasts")  # ten times the others: they would be dots
    plain = asking(Superiority()).analyze(aggregates)
    other = decide_experiment(plain, replace(FOR_REVENUE, n_planned=len(frame)))
    table = pd.DataFrame([
        {"metric": e.metric, "question": e.hypothesis, "estimate": e.estimate, "low": e.ci_low, "high": e.ci_high,
         "relative": e.relative_effect, "p": e.pvalue, "planted": _planted(e.metric, truth)}
        for e in (*result.effects, flat, plain["revenue"])
    ])  # fmt: skip
    study.add(
        "What was found?",
        f"Revenue is asked in three ways: not worse by {MARGIN:.0%} (p = {format_pvalue(result['revenue'].pvalue)}), "
        f"within ±{MARGIN:.0%} (p = {format_pvalue(flat.pvalue)}), different "
        f"(p = {format_pvalue(plain['revenue'].pvalue)}). Only the second can show that it is flat: a large p of the "
        "third says that nothing was seen, as a small test would say of almost anything.",
        tables={"Treatment against control": table}, figures={"effects": plot_ab(replace(within, effects=drawn))},
    )  # fmt: skip
    for title, rule, found in (("The rule that was fixed", RULE, verdict),
                               ("The same data, had the shelf been meant to earn", FOR_REVENUE, other)):  # fmt: skip
        study.add(title, *rule.in_words(), f"Verdict: {found.headline}.", *found.reasons)
    return {"result": result, "verdict": verdict, "flat": flat, "plain": plain, "other": other}


def _planted(metric: str, truth: ShelfTruth) -> float:
    if metric == "retained_30d":
        return float(stay(30.0, "treatment") - stay(30.0, "control"))
    return truth.effect(metric) if metric in truth.means else math.nan


def written_decision(
    told: dict[str, Any], steps: FunnelResult, proxies: dict[str, ProxyResult], taken: CannibalisationResult
) -> list[str]:
    """What to do, from what was found; nothing here looks at what was planted."""
    result, verdict = told["result"], told["verdict"]
    flat: ABResult = told["flat"]
    revenue: ABResult = told["plain"]["revenue"]
    paid, proxy = steps.step.index("paid"), proxies["revenue"]
    lesson = " Do not take minutes for revenue in the next test." if proxy.remainder_pvalue < 0.05 else ""
    return [
        f"{verdict.headline}. {' '.join(verdict.reasons[:2])}",
        _of_revenue(revenue, flat),
        f"Had the shelf been meant to earn, the same data would say: {told['other'].headline.lower()}. What a change "
        "is for has to be said before.",
        f"There after 30 days: {_points(result['retained_30d'])}. Payers: {100 * steps.effect[1, paid]:+.2f} points "
        f"[{100 * steps.effect_low[1, paid]:+.2f}, {100 * steps.effect_high[1, paid]:+.2f}] of all users.",
        f"Week 1 promised {_of_control(proxy.predicted_effect, revenue)} of revenue; "
        f"{_of_control(proxy.outcome_effect, revenue)} came (p = {format_pvalue(proxy.remainder_pvalue)} for the "
        f"difference).{lesson}",
        f"Of the podcasts' gain {taken.share_taken:.0%} [{taken.share_taken_ci_low:.0%}, "
        f"{taken.share_taken_ci_high:.0%}] is music's loss ({taken.verdict}). If a minute of music is worth more than "
        "one of podcasts, do that sum before the shelf grows.",
    ]  # fmt: skip


def _of_revenue(revenue: ABResult, flat: ABResult) -> str:
    """Flat, moved or not known: of the two-sided question and of that for equivalence."""
    size = 1 - flat.confidence_level
    if flat.pvalue < size:
        return (
            f"Revenue is shown to lie within ±{MARGIN:.0%} (p = {format_pvalue(flat.pvalue)}): {_percent(revenue)}. "
            "Flat is an answer here and not a lack of data; book no revenue for the shelf."
        )
    if revenue.pvalue < size:
        moved = "higher" if revenue.estimate > 0 else "lower"
        return f"Revenue is not flat, but {moved} (p = {format_pvalue(revenue.pvalue)}): {_percent(revenue)}."
    return (
        f"Revenue is not shown to differ (p = {format_pvalue(revenue.pvalue)}), nor to lie within ±{MARGIN:.0%} "
        f"(p = {format_pvalue(flat.pvalue)}): {_percent(revenue)}. That is a lack of data: do not call it flat, and "
        "book no revenue for the shelf."
    )


def _points(effect: ABResult) -> str:
    return f"{100 * effect.estimate:+.1f} points [{100 * effect.ci_low:+.1f}, {100 * effect.ci_high:+.1f}]"


def _percent(effect: ABResult) -> str:
    return f"{effect.relative_effect:+.1%} [{effect.relative_ci_low:+.1%}, {effect.relative_ci_high:+.1%}]"


def _of_control(value: float, effect: ABResult) -> str:
    return f"{value / effect.control_mean:+.1%}"


CAVEATS = (
    "The users are simulated. They play every day until they leave, so that seven days of silence are churn for sure; "
    "real users pause.",
    "Advertising is sold in advance here, so that revenue has no effect at all by construction. Where it is paid by "
    "the play, more minutes are more revenue.",
    "Revenue of 28 days says nothing of the year: users who stay longer may subscribe later.",
    "The proxy analysis is no mediation analysis: what moves both week 1 and revenue (how much a user likes to listen) "
    "is in its slope.",
    "Steps, days and proxies explain; only the metrics of the rule decide, and only they were corrected for.",
)


def answers(
    effects: Sequence[ABResult],
    steps: FunnelResult,
    kept: RetentionResult,
    month: RestrictedMeanResult,
    proxies: dict[str, ProxyResult],
    taken: CannibalisationResult,
    truth: ShelfTruth,
) -> list[SummaryRow]:
    """Every answer beside the truth."""
    n = taken.n_obs
    paid = steps.step.index("paid")
    planted_paid = truth.funnel["treatment"][paid] - truth.funnel["control"][paid]
    return [
        *(SummaryRow.of("effects", e.metric, e, _planted(e.metric, truth)) for e in effects),
        SummaryRow("funnel", "paid, of all", steps.effect[1, paid], steps.effect_low[1, paid],
                   steps.effect_high[1, paid], steps.pvalue[1, paid], planted_paid, n),
        *(SummaryRow.of("staying", f"there after {day} days", e, float(stay(day, "treatment") - stay(day, "control")))
          for day, e in zip(RETENTION_DAYS, kept.effects, strict=True)),
        SummaryRow.of("staying", "days in the first 28", month.effects[0], planted_days()),
        *(SummaryRow("proxy", f"{o} promised by week 1", p.predicted_effect, p.predicted_ci_low, p.predicted_ci_high,
                     truth=truth.predicted(o), n=n) for o, p in proxies.items()),
        SummaryRow("cannibalisation", "share taken from music", taken.share_taken, taken.share_taken_ci_low,
                   taken.share_taken_ci_high, truth=truth.share_taken(), n=n),
    ]  # fmt: skip


def repeat(seeds: Sequence[int], n_users: int) -> pd.DataFrame:
    """How often the interval of each answer covers the truth, on other users."""
    experiment = asking(Superiority())
    rows: list[dict[str, object]] = []
    for seed in seeds:
        frame, truth = simulate_shelf(n_users, random_state=seed)
        effects = experiment.analyze(frame).effects
        counts = funnel_counts(frame, STEPS, variant="variant", control="control", unit="user_id")
        days, left, arms = _lives(frame)
        found = answers(
            effects, funnel(counts, ["assigned", *STEPS], control="control"),
            retention(days, left, days=RETENTION_DAYS, **arms), rmst_difference(days, left, horizon=MONTH, **arms),
            _proxies(frame), _taken(frame), truth,
        )  # fmt: skip
        rows += [{"of": r.stage, "what": r.what, "truth": r.truth, "estimate": r.estimate,
                  "covered": r.ci_low <= r.truth <= r.ci_high} for r in found]  # fmt: skip
    return pd.DataFrame(rows)


def tell_repeats(study: Study, n_users: int, repeats: int) -> pd.DataFrame:
    found = repeat(range(SEED + 1, SEED + 1 + repeats), n_users)
    grouped = found.groupby(["of", "what"], sort=False)
    table = grouped.agg(truth=("truth", "first"), mean=("estimate", "mean"), covered=("covered", "sum")).reset_index()
    study.add(
        f"The same on {repeats} other services",
        f"All intervals cover what was planted in {found['covered'].mean():.1%} of {len(found)} cases. Answers of one "
        "service depend on each other: where treated users happen to stay longer, all their minutes are up.",
        tables={f"Mean answer, and how many of {repeats} intervals cover": table},
    )
    return found


def main(arguments: Sequence[str] | None = None, *, n_users: int = N_USERS, repeats: int = 40) -> dict[str, Any]:
    """Run the study; the results by name."""
    options = study_arguments("music_service", __doc__, arguments, module="continued")
    study = Study("A shelf of podcasts: engagement is up, revenue is flat",
                  f"{n_users:,} users, half of them with a shelf of podcasts on the home page. Ship it?")  # fmt: skip
    frame, truth = simulate_shelf(n_users, random_state=SEED)
    told = tell_decision(study, frame, truth)
    steps = tell_funnel(study, frame, truth)
    kept, month, cox = tell_stay(study, frame)
    proxies = tell_proxy(study, frame, truth)
    taken = tell_cannibalisation(study, frame, truth)
    repeated = tell_repeats(study, n_users, repeats)
    decision = written_decision(told, steps, proxies, taken)
    rows = answers(told["plain"].effects, steps, kept, month, proxies, taken, truth)
    study.finish(
        options.output, conclusions=decision, caveats=CAVEATS, summary=rows,
        made=how_made("music_service", module="continued",
                      seeds=f"{SEED}; {SEED + 1} to {SEED + repeats} for the other services"),
    )  # fmt: skip
    return {
        **told, "truth": truth, "funnel": steps, "retention": kept, "month": month, "cox": cox, "proxies": proxies,
        "cannibalisation": taken, "repeated": repeated, "decision": decision, "answers": rows,
    }  # fmt: skip


if __name__ == "__main__":
    main()
