"""Should the shop recommend what a customer likes, in place of top sellers? A simulated shop, so the truth is known.

Click-through, add-to-cart, conversion and revenue per customer, guardrails of speed, a verdict by a rule that was
fixed before, and the truth beside every number; then the same with a ranking whose cache is cold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec.abtest import (
    AlwaysValid,
    Bayesian,
    DecisionRule,
    Experiment,
    Mean,
    Monitor,
    NonInferiority,
    NormalPrior,
    Proportion,
    Quantile,
    Ratio,
    SampleRatio,
    Superiority,
    project_impact,
    shrink_winners,
)
from causalrec.exceptions import CausalRecError
from causalrec.plots import plot_forest, plot_intervals_over_time
from causalrec.report import SummaryRow
from causalrec.results import (
    ExperimentResult,
    ImpactResult,
    MonitorResult,
    ShrinkageResult,
    VerdictResult,
    format_number,
    format_pvalue,
)
from experiments._study import Study, how_made, study_arguments
from experiments.recommendation_ab.shop import (
    CONTROL,
    DAYS_BEFORE,
    DAYS_FOLLOWED,
    RANKINGS,
    SEED,
    Cohorts,
    page_loads,
    rows_of,
    simulate_cohorts,
    true_values,
)

N_DAYS, PER_DAY = 28, 2_500
OTHERS = 14  # days of other customers, from whose sessions the truth of click-through is
CUSTOMERS_PER_YEAR = 2_000_000
FORTNIGHTS = 365 / DAYS_FOLLOWED
PRIOR = NormalPrior(0.0, 0.05, scale="relative")
BUILT, COLD = RANKINGS
LOOKS = (1, 3, 7, 10, 14, 17, 21)  # days
_CUSTOMER, _PAGE = "kind = 'customer'", "kind = 'page'"


def _no_slower(margin: float, *, relative: bool = False) -> NonInferiority:
    return NonInferiority(margin, relative=relative, higher_is_better=False)


EFFECTS = {
    "revenue": Mean("revenue", covariates="revenue_before", where=_CUSTOMER),
    "conversion": Proportion("bought", where=_CUSTOMER),
    "ctr": Ratio("clicks", "impressions", where=_CUSTOMER),
    "add_to_cart": Ratio("carts", "clicks", where=_CUSTOMER),
}
MEAN_SPEED = {
    "load_mean": Mean("load_ms", where=_PAGE, hypothesis=_no_slower(0.05, relative=True)),
    "latency_mean": Mean("latency_ms", where=_PAGE, hypothesis=_no_slower(15)),
}
TAIL_SPEED = {
    "load_p95": Quantile("load_ms", 0.95, where=_PAGE, hypothesis=_no_slower(0.05, relative=True)),
    "latency_p95": Quantile("latency_ms", 0.95, where=_PAGE, hypothesis=_no_slower(30)),
}
GUARDRAILS = (*MEAN_SPEED, *TAIL_SPEED)
NAMES = {
    "revenue": "revenue per customer", "conversion": "conversion", "ctr": "click-through",
    "add_to_cart": "add-to-cart", "load_mean": "page load, mean ms",
    "latency_mean": "latency, mean ms", "load_p95": "page load, 95% ms", "latency_p95": "latency, 95% ms",
}  # fmt: skip


def decision_rule(n_planned: int, per_day: int) -> DecisionRule:
    """What ships, fixed before the first day."""
    return DecisionRule(
        "revenue", guardrails=GUARDRAILS, mde={"revenue": {"relative": 0.05}}, n_planned=n_planned,
        units_per_day=per_day,
    )  # fmt: skip


def experiment(rule: DecisionRule | None, *, tails: bool = True) -> Experiment:
    """Rows are customers and their pages, errors are of customers; without tails, days can be merged."""
    speed = MEAN_SPEED | TAIL_SPEED if tails else MEAN_SPEED
    return Experiment(
        EFFECTS | speed | {"split": SampleRatio()}, variant="variant", control=CONTROL, cluster="user_id", decision=rule
    )


@dataclass(frozen=True)
class Scenario:
    """One ranking's outcome: at the planned end, the truth, and the rule's verdict on some days before."""

    result: ExperimentResult
    truth: pd.DataFrame
    looks: pd.DataFrame
    both_sides: ExperimentResult  # of page load, 90%: its ends are the bounds of the two one-sided questions at 95%

    @property
    def verdict(self) -> VerdictResult:
        """At the planned end."""
        return verdict_of(self.result)


@dataclass(frozen=True)
class Recommendation:
    """What the study found."""

    scenarios: dict[str, Scenario]
    monitor: MonitorResult
    believed: ExperimentResult
    impact: ImpactResult
    true_impact: float
    shrunk: ShrinkageResult
    groups: pd.DataFrame

    @property
    def built(self) -> Scenario:
        """The ranking as built."""
        return self.scenarios[BUILT]


def verdict_of(result: ExperimentResult) -> VerdictResult:
    """The verdict of an experiment with a rule."""
    if result.verdict is None:
        raise CausalRecError("the experiment has no verdict; expected one with decision=DecisionRule(...).")
    return result.verdict


def watch(rows: pd.DataFrame, n_planned: int) -> MonitorResult:
    """One look a day, when a cohort's fortnight is over; revenue decides."""
    monitor = Monitor(experiment(None, tails=False), AlwaysValid(n_tuning=n_planned // 2), primary="revenue")
    days = [monitor.update(cohort, label=str(day)) for day, cohort in rows.groupby("day")]
    return days[-1]


def verdicts_by_day(planned: Experiment, rows: pd.DataFrame, n_planned: int) -> pd.DataFrame:
    """What the rule says under always valid inference of all metrics, quantiles among them, on some days."""
    found = []
    last = int(rows["day"].max())
    for day in sorted({d for d in LOOKS if d < last} | {last}):
        result = planned.analyze(rows[rows["day"] <= day], inference=AlwaysValid(n_tuning=n_planned // 2))
        verdict = verdict_of(result)
        row = {"day": day, "customers": verdict.n_obs, "verdict": verdict.headline}
        found.append(row | {r.metric: r.status.removesuffix(" shown") for r in verdict.rows if r.role != "secondary"})
    return pd.DataFrame(found)


def first_day(looks: pd.DataFrame, word: str) -> int:
    """The first look whose verdict begins with a word, 0 for none."""
    days = looks.loc[looks["verdict"].str.startswith(word), "day"]
    return int(days.iloc[0]) if len(days) else 0


def study_ranking(cohorts: Cohorts, rows: pd.DataFrame, others: pd.DataFrame, name: str) -> Scenario:
    """Analysis at the planned end, and on some days before."""
    n = len(cohorts.users)
    planned = experiment(decision_rule(n, n // int(cohorts.users["day"].max())))
    truth = true_values(cohorts.truth, others, RANKINGS[name])
    load = {
        name: replace(m, hypothesis=Superiority()) for name, m in (MEAN_SPEED | TAIL_SPEED).items() if "load" in name
    }
    both = Experiment(load, variant="variant", control=CONTROL, cluster="user_id", confidence_level=0.9)
    return Scenario(planned.analyze(rows), truth, verdicts_by_day(planned, rows, n), both.analyze(rows))


def answered(monitor: MonitorResult, metric: str) -> int:
    """The day at whose look a comparison was answered, 0 for none."""
    since = int(monitor.since[list(monitor.metric).index(metric)])
    return int(monitor.labels[since - 1]) if since else 0


def by_group(cohorts: Cohorts) -> tuple[ShrinkageResult, pd.DataFrame]:
    """Effects on revenue in nine groups of customers, as measured, shrunk, and true."""
    asked = Experiment({"revenue": Mean("revenue", covariates="revenue_before")}, variant="variant", control=CONTROL,
                       unit="user_id", segments="group")  # fmt: skip
    effects = asked.analyze(cohorts.users).segments
    names = [e.segment.partition(" = ")[2] for e in effects]
    shrunk = shrink_winners(effects, labels=names)
    truth = cohorts.truth.groupby("group")["tau_revenue"].mean()
    table = pd.DataFrame({
        "group": names, "customers": [e.n_obs for e in effects], "measured": shrunk.estimate,
        "shrunk": shrunk.shrunk, "low": shrunk.ci_low, "high": shrunk.ci_high, "truth": truth[names].to_numpy(),
    })  # fmt: skip
    return shrunk, table.sort_values("measured", ascending=False, ignore_index=True)


def study_shop(n_days: int = N_DAYS, per_day: int = PER_DAY) -> Recommendation:
    """Everything that the page tells."""
    cohorts = simulate_cohorts(n_days, per_day)
    others = simulate_cohorts(min(OTHERS, n_days), per_day, SEED + 1).sessions
    rows = {name: rows_of(cohorts.users, page_loads(cohorts.sessions, r)) for name, r in RANKINGS.items()}
    found = {name: study_ranking(cohorts, rows[name], others, name) for name in RANKINGS}
    effect = found[BUILT].result["revenue"]
    uses = CUSTOMERS_PER_YEAR * FORTNIGHTS
    return Recommendation(
        found,
        watch(rows[BUILT], len(cohorts.users)),
        experiment(None, tails=False).analyze(rows[BUILT], inference=Bayesian(PRIOR)),
        project_impact(effect, units_per_year=uses, unit="EUR"),
        float(found[BUILT].truth.loc["revenue", "difference"]) * uses,
        *by_group(cohorts),
    )


def beside_truth(scenario: Scenario) -> pd.DataFrame:
    """Estimates with their intervals and the truth; whether the interval holds it."""
    rows = []
    for effect in scenario.result.effects:
        truth = scenario.truth.loc[effect.metric]
        rows.append({
            "metric": NAMES[effect.metric], "top sellers": format_number(effect.control_mean),
            "personalised": format_number(effect.treatment_mean), "difference": format_number(effect.estimate),
            "interval": f"[{format_number(effect.ci_low)}, {format_number(effect.ci_high)}]",
            "p": format_pvalue(effect.pvalue), "truth": format_number(truth["difference"]),
            "holds it": "yes" if effect.ci_low <= truth["difference"] <= effect.ci_high else "no",
        })  # fmt: skip
    return pd.DataFrame(rows)


def true_verdict(scenario: Scenario) -> str:
    """What the rule says of the true effects: ship if revenue rises and no margin is passed."""
    passed = [_within(name, scenario.truth.loc[name]) for name in GUARDRAILS]
    return "ship" if all(passed) and scenario.truth.loc["revenue", "difference"] > 0 else "don't ship"


def _within(name: str, truth: pd.Series) -> bool:
    asked = (MEAN_SPEED | TAIL_SPEED)[name].hypothesis
    if not isinstance(asked, NonInferiority):
        raise CausalRecError(f"{name} has the hypothesis {asked!r}; expected NonInferiority.")
    return bool(truth["difference"] < asked.margin * (truth["control"] if asked.relative else 1.0))


def _forest(scenario: Scenario, result: ExperimentResult, names: Sequence[str], title: str) -> Any:
    """Relative effects, and the truth as a diamond in each row."""
    axes = plot_forest([replace(result[name], metric=NAMES[name]) for name in names], title=title)
    truth = scenario.truth.loc[list(names)]
    axes.plot(truth["difference"] / truth["control"], np.arange(len(names))[::-1], "D", color="black", markersize=4.5,
              label="truth", zorder=5)  # fmt: skip
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize="small")
    return axes


def _forest_of_load(scenario: Scenario) -> Any:
    axes = _forest(scenario, scenario.both_sides, ("load_mean", "load_p95"), "With a cold cache, 90% intervals")
    axes.axvline(0.05, color="#D55E00", linewidth=1.8, label="margin")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize="small")
    return axes


def _over_time(found: Recommendation) -> Any:
    axes = plot_intervals_over_time(found.monitor, "revenue", by="label", xlabel="day",
                                    title="Revenue per customer, read every day")  # fmt: skip
    truth = float(found.built.truth.loc["revenue", "difference"])
    axes.axhline(truth, color="black", linestyle=":", linewidth=1)
    axes.annotate("truth", (0.99, truth), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                  ha="right", fontsize="small")  # fmt: skip
    axes.set_xlabel("days of customers whose fortnight is over")
    axes.set_ylabel("personalised − top sellers, EUR in 14 days, 95%")
    return axes


def _tell(study: Study, found: Recommendation) -> None:
    built, cold = found.built, found.scenarios[COLD]
    rule = decision_rule(built.verdict.n_obs, PER_DAY)
    study.add(
        "The rule, fixed before the first day", *rule.in_words(),
        "Margins: page load 5% of top sellers' (mean and 95%), latency of the ranking 15 ms (mean) and 30 ms (95%).",
    )  # fmt: skip
    study.add(
        "The ranking as built", *built.verdict.reasons,
        tables={f"{built.verdict.headline}. Estimates and the truth": beside_truth(built)},
        figures={"effects": _forest(built, built.result, (*EFFECTS, "load_mean", "load_p95"),
                                    "Personalised against top sellers")},
    )  # fmt: skip
    study.add(
        "The same ranking with a cold cache: 8% of calls wait 900 ms more", *cold.verdict.reasons,
        "Customers, purchases and clicks are those of before, so that only speed differs: what slowness costs in "
        "purchases is not in this simulation, and would make the case against it stronger.",
        tables={f"{cold.verdict.headline}. Estimates and the truth": beside_truth(cold)},
        figures={"cold_cache": _forest_of_load(cold)},
    )  # fmt: skip


def _tell_time(study: Study, found: Recommendation) -> None:
    study.add(
        "On which day could one have stopped?", _stop_sentence(found),
        "Each day a cohort completes its fortnight and is added to the moments. Verdicts by day are of all metrics, "
        "so guardrails must be shown as well as revenue.",
        tables={f"Verdict under always valid inference, ranking {n}": s.looks for n, s in found.scenarios.items()},
        figures={"over_time": _over_time(found)},
    )  # fmt: skip
    study.add(
        "What is believed", f"Prior: {PRIOR}.",
        *(p.answer for p in found.believed.posteriors if p.metric in EFFECTS),
        "Beliefs under the prior, and no error rates: under daily looks they are not protected as the intervals are.",
    )  # fmt: skip
    impact = str(found.impact).splitlines()
    study.add(
        "What it is worth",
        f"{impact[0]}. At {CUSTOMERS_PER_YEAR:,} customers, {FORTNIGHTS:.1f} fortnights a year; the truth is "
        f"{found.true_impact:+,.0f}.",
        *(line.strip(" -") for line in impact[1:-1]),
    )
    raw, kept = _errors(found.groups)
    top, bottom = found.groups.iloc[0], found.groups.iloc[-1]
    study.add(
        "Nine groups, and the winner's curse",
        f"The largest measured gain, {top.group}, is {top.measured:+.2f} EUR; shrunk {top.shrunk:+.2f}; the truth is "
        f"{top.truth:+.2f}. The largest loss, {bottom.group}, is {bottom.measured:+.2f}, shrunk {bottom.shrunk:+.2f}, "
        f"the truth {bottom.truth:+.2f}.",
        f"Over the nine groups the root mean square error is {raw:.2f} EUR as measured and {kept:.2f} shrunk. "
        + (_HELPED if kept < raw else _HARMED),
        tables={"Effect on revenue per customer in 14 days, EUR": found.groups.round(3)},
    )


def _errors(groups: pd.DataFrame) -> tuple[float, float]:
    return tuple(float(np.sqrt(np.mean((groups[c] - groups["truth"]) ** 2))) for c in ("measured", "shrunk"))  # type: ignore[return-value]


def _stop_sentence(found: Recommendation) -> str:
    revenue, last = answered(found.monitor, "revenue"), int(found.monitor.labels[-1])
    ship, stop = first_day(found.built.looks, "Ship"), first_day(found.scenarios[COLD].looks, "Don't")
    said = (f"Revenue alone has its answer with {revenue} of {last} days of customers" if revenue
            else f"Revenue has no answer within {last} days")  # fmt: skip
    said += f"; the rule ships at the look of day {ship}" if ship else "; the rule ships at none of the looks"
    return f"{said}. With a cold cache it refuses at that of day {stop}." if stop else f"{said}."


def _conclusions(found: Recommendation) -> list[str]:
    lines = []
    for name, scenario in found.scenarios.items():
        verdict, truth = scenario.verdict, true_verdict(scenario)
        agrees = "and so it does" if truth == verdict.verdict else "but it does not"
        lines.append(f"Ranking {name}: {verdict.headline}. By the true effects the rule should say {truth}, {agrees}. "
                     f"{verdict.reasons[0]}")  # fmt: skip
    revenue = found.built.result["revenue"]
    true = found.built.truth.loc["revenue"]
    held = sum(beside_truth(found.built)["holds it"] == "yes")
    believed = next(p for p in found.believed.posteriors if p.metric == "revenue")
    return [
        *lines,
        f"Revenue per customer: {revenue.relative_effect:+.1%} [{revenue.relative_ci_low:+.1%}, "
        f"{revenue.relative_ci_high:+.1%}], truth {true['difference'] / true['control']:+.1%}. {held} of "
        f"{len(found.built.result.effects)} intervals hold the truth.",
        _stop_sentence(found),
        believed.answer,
        f"A year is worth {found.impact.estimate / 1e6:+.1f} million EUR [{found.impact.ci_low / 1e6:+.1f}, "
        f"{found.impact.ci_high / 1e6:+.1f}]; the truth is {found.true_impact / 1e6:+.1f}.",
    ]


_HELPED = "Shrinkage takes off what is luck."
_HARMED = (
    "Here shrinkage costs more than it gains: the smallest groups, which it draws most, happen to be those whose true "
    "effects are the largest, against its assumption that size and effect are unrelated."
)
_CAVEATS = [
    "Slowness costs no purchases in this simulation, and the shop's fashions run by each cohort's own clock.",
    "Looks count customers whose fortnight is over. So day 10 of the page is day 24 of the calendar.",
    "The truth of click-through and add-to-cart has exact numbers of sessions, and means of a session from a sample of "
    "other customers; that of the 95% page load is by numerical integration; the other truths are exact.",
    "Secondary metrics do not change the verdict; their intervals are not corrected for their number.",
    "Page speed is of pages: an arm that brings customers with fast phones more often has faster pages. The truth "
    "has this effect too.",
]


def main(arguments: Sequence[str] | None = None, *, n_days: int = N_DAYS, per_day: int = PER_DAY) -> Recommendation:
    """Run the study and write its page."""
    asked = study_arguments("recommendation_ab", __doc__, arguments)
    study = Study(
        "Recommendations: personalised or top sellers",
        f"Does a personalised ranking sell more than top sellers, and is it fast enough? {n_days * per_day:,} "
        f"customers of a simulated shop, each followed for {DAYS_FOLLOWED} days; {DAYS_BEFORE} days before are known.",
    )
    found = study_shop(n_days, per_day)
    _tell(study, found)
    _tell_time(study, found)
    truth = found.built.truth["difference"]
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=_CAVEATS,
        summary=[SummaryRow.of(BUILT, NAMES[e.metric], e, float(truth[e.metric])) for e in found.built.result.effects],
        made=how_made("recommendation_ab", seeds=f"{SEED} and {SEED + 1}"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
