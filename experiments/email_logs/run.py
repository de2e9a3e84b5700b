"""What did the e-mail bring? A simulated shop whose marketing team e-mailed its best customers, with the truth beside.

Nothing was drawn by lot: engaged and loyal customers, and those who bought lately, got the e-mail, and they would have
bought anyhow. One campaign of 20,000 users by every method; many campaigns, to see which interval keeps its promise;
what happens when a cause is left out of the score, of the outcome, or of both; which checks notice it without the
truth; and a log with a row per session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from causalrec.observational import ObservationalStudy
from causalrec.plots import plot_balance, plot_effects, plot_overlap, plot_refutations
from causalrec.report import SummaryRow
from causalrec.results import EffectComparisonResult, EffectResult
from experiments._effects import LABELS, between, labelled
from experiments._study import Study, how_made, study_arguments
from experiments.email_logs.campaigns import TREES, over_campaigns, repeat, study_of
from experiments.email_logs.figures import plot_errors, plot_rates
from experiments.email_logs.hidden import (
    BARE,
    HIDDEN,
    VALID,
    Checks,
    check_campaigns,
    report_designs,
    report_table,
    strength_table,
)
from experiments.email_logs.logs import ENGAGEMENT, PURCHASES, SESSIONS, SPENT, Logs, simulate_logs

N_USERS, SEED = 20_000, 2025
N_CAMPAIGNS, N_SMALL, N_TREES = 100, 4_000, 20
N_REFUTED, N_DRAWS = 12, 100  # campaigns with every refuter, and draws of each in the one campaign
MARGIN = 0.3  # of spend that is profit
CAVEATS = [
    "The shop is simulated, so that the truth is known. Here the causes of getting an e-mail are in the logs; in a "
    "real shop someone has to know, and to say, why a customer got one.",
    "The share of intervals that hold the truth is itself an estimate: its range is given, and covers 95% by luck "
    "alone for a method that is right.",
    "Spend within fourteen days. Purchases that the e-mail only brought forward would count in full.",
    f"{MARGIN:.0%} of spend as profit is assumed.",
]


@dataclass(frozen=True)
class EmailLogs:
    """What the study found."""

    logs: Logs
    study: ObservationalStudy = field(repr=False)
    effects: EffectComparisonResult = field(repr=False)
    on_emailed: EffectComparisonResult = field(repr=False)
    campaigns: pd.DataFrame = field(repr=False)
    checks: Checks = field(repr=False)

    @property
    def n_trees(self) -> int:
        """Campaigns with fitted trees."""
        return int((self.campaigns["name"] == TREES).sum())

    @property
    def methods(self) -> pd.DataFrame:
        """Every method over the campaigns."""
        return over_campaigns(self.campaigns, "method")

    @property
    def parts(self) -> pd.DataFrame:
        """Weighting, regression and doubly robust estimates with wrong parts."""
        return over_campaigns(self.campaigns, "parts").drop(columns="campaigns")

    @property
    def sessions(self) -> pd.DataFrame:
        """Rows and users as the units of a log of sessions."""
        return over_campaigns(self.campaigns, "sessions").drop(columns="campaigns")


def study_emails(
    n_users: int = N_USERS,
    n_campaigns: int = N_CAMPAIGNS,
    n_small: int = N_SMALL,
    n_trees: int = N_TREES,
    n_refuted: int = N_REFUTED,
    n_draws: int = N_DRAWS,
    seed: int = SEED,
) -> EmailLogs:
    """Everything that the page tells."""
    logs = simulate_logs(n_users, seed)
    study = study_of(logs.users)
    return EmailLogs(
        logs,
        study,
        study.compare(estimand="ate"),
        study.compare(estimand="att"),
        repeat(n_campaigns, n_small, n_trees=n_trees),
        Checks(report_designs(logs, n_draws), *check_campaigns(n_campaigns, n_small, n_full=n_refuted)),
    )


def beside_truth(found: EffectComparisonResult, logs: Logs) -> pd.DataFrame:
    """A row per method: estimate, interval, the truth of its own estimand, balance."""
    truths = [logs.truth(e.estimand) for e in found.effects]
    return pd.DataFrame({
        "method": list(labelled(found)), "of": [e.estimand for e in found.effects],
        "effect, $": [round(e.estimate, 2) for e in found.effects],
        "95% interval": [between(e.ci_low, e.ci_high) for e in found.effects],
        "truth, $": [round(t, 2) for t in truths],
        "holds it": ["yes" if e.ci_low <= t <= e.ci_high else "no" for e, t in zip(found.effects, truths, strict=True)],
        "worst |SMD|": [round(float(v), 3) for v in found.max_abs_smd],
    })  # fmt: skip


def _tell_campaign(study: Study, found: EmailLogs) -> None:
    study.add(
        "One campaign, every method",
        f"{found.logs.users['emailed'].mean():.0%} of {found.study.n_obs:,} users got the e-mail. The truth is the "
        "mean over users of what the simulation planted; regression on main effects and overlap weights answer for the "
        "users of whom the team was least sure (ato), which has another truth.",
        *(f"No estimate: {text}" for text in found.effects.failures),
        tables={"Average effect on spend within fourteen days, $ per user": beside_truth(found.effects, found.logs),
                "On those who were e-mailed (att)": beside_truth(found.on_emailed, found.logs)},
        figures={"effects": plot_effects(labelled(found.effects), truth=found.logs.truth(),
                                         title="What an e-mail brings, $ per user")},
    )  # fmt: skip


def _tell_choice(study: Study, found: EmailLogs) -> None:
    balance = found.study.balance(found.effects["ipw"])
    before = found.study.balance().to_frame().set_index("covariate")["smd_before"]
    study.add(
        "Whom did the team choose?",
        f"The e-mailed are more engaged ({before[ENGAGEMENT]:+.2f} standard deviations) and bought more in the month "
        f"before ({before[PURCHASES]:+.2f}). After weighting by the score the largest difference is "
        f"{balance.max_abs_smd_after:.3f}, and both groups are found at nearly every score.",
        figures={"balance": plot_balance(balance), "overlap": plot_overlap(found.study.overlap())},
    )


def _tell_campaigns(study: Study, found: EmailLogs, n_small: int) -> None:
    n = found.campaigns["seed"].nunique()
    study.add(
        f"{n} campaigns of {n_small:,} users",
        "Which methods are right on average, and which intervals keep their promise of 95%? A right method is off by "
        "nothing on average, and the error that it says is the spread that is seen. Trees are fitted in the first "
        f"{found.n_trees} campaigns alone, since they take thirty times as long.",
        f"Five subclasses leave {_left(found):.0%} of the bias, as Cochran (1968) said they would, and their intervals "
        f"know nothing of it. {_others(found)}",
        tables={f"Errors against the truth, $ per user, {n} campaigns": found.methods},
        figures={"campaigns": plot_errors(found.methods, "Every method over many campaigns")},
    )


def _left(found: EmailLogs) -> float:
    """The share of the bias that five subclasses leave."""
    off = found.methods.set_index("estimate")["off by"]
    return float(off[LABELS["subclassification"]] / off[LABELS["difference_in_means"]])


def _others(found: EmailLogs) -> str:
    """Which other adjusted methods are off by more than the luck of the campaigns."""
    table = found.methods.set_index("estimate").drop(index=[LABELS["difference_in_means"], LABELS["subclassification"]])
    far = table.index[table["off by"].abs() > 2 * table["spread seen"] / table["campaigns"] ** 0.5]
    if len(far):
        return f"More than two standard errors of their mean off are {', '.join(far)}."
    return "No other adjusted method is off by more than two standard errors of its mean."


def _tell_parts(study: Study, found: EmailLogs) -> None:
    study.add(
        "When a cause is left out",
        f"The same campaigns with {ENGAGEMENT}, which drives both e-mails and spend, left out of the model of the "
        "score, of the model of the outcome, or of both. A doubly robust estimate needs one of the two to be right; it "
        "cannot save an analysis in which nobody measured the cause.",
        tables={"Errors against the truth, $ per user": found.parts},
        figures={"parts": plot_errors(found.parts, "One model wrong, or both")},
    )


def _tell_reports(study: Study, found: EmailLogs) -> None:
    reports = found.checks.reports
    valid, hidden = reports[VALID], reports[HIDDEN]
    by = {name: r.sensitivity for name, r in reports.items()}
    study.add(
        "Would the report have told?",
        f"The same campaign with {ENGAGEMENT} at hand and without, as study.report writes it, which does not know "
        "the truth. The e-mail cannot have changed the sessions and the spend of the month before it: these are the "
        "negative controls.",
        f"With all causes the verdict is \"{valid.verdict}\": {valid.conclusion}",
        f"Without {ENGAGEMENT} it is \"{hidden.verdict}\": {hidden.conclusion} {' '.join(hidden.doubts)}",
        f"Spend before the e-mail does not tell, although {ENGAGEMENT} drives it: past purchases are adjusted for, and "
        "given how often somebody bought nothing of the trace is left. Choose a control that no covariate stands for.",
        "A placebo treatment, a random cause, subsets and a dummy outcome are passed by both: they find faults of a "
        "method, not of a design.",
        f"Nor do gamma and the robustness value tell. They are higher without {ENGAGEMENT} "
        f"({by[HIDDEN].gamma:.2f} and {by[HIDDEN].robustness_value:.1%}) than with it ({by[VALID].gamma:.2f} and "
        f"{by[VALID].robustness_value:.1%}): a bias makes the estimate larger, and a larger estimate is harder to "
        f"explain away. They are right about what they are about, whether there is any effect. How strong {ENGAGEMENT} "
        f"is beside the others only those see who have it: without it the strongest covariate is "
        f"{by[HIDDEN].strongest}, and a cause {by[HIDDEN].strongest_times_ci:.0f} times as strong as that seems to be "
        f"needed; with it {by[VALID].strongest} is the strongest, and {by[VALID].strongest_times_ci:.1f} times do.",
        tables={f"What is known without the truth, {found.study.n_obs:,} users":
                report_table(reports, found.logs.truth())},
        figures={"refutations": plot_refutations(hidden.refutations, title=f"{HIDDEN[:1].upper()}{HIDDEN[1:]}")},
    )  # fmt: skip


def _tell_checks(study: Study, found: EmailLogs) -> None:
    rates = found.checks.rates
    n, n_full = found.checks.verdicts["seed"].nunique(), found.checks.strengths["seed"].nunique()
    users = found.checks.rate(SESSIONS, HIDDEN)
    study.add(
        "How often does a check flag a study?",
        f"{n} campaigns, each check at 5%; refutations by simulation and strengths in the first {n_full}. A right "
        f"study should be flagged in 5%. Sessions before the e-mail flag {_rate(found, SESSIONS, VALID)} of the "
        f"studies with all causes, {_rate(found, SESSIONS, HIDDEN)} of those without {ENGAGEMENT}.",
        f"Spend before the e-mail flags {_rate(found, SPENT, HIDDEN)} without {ENGAGEMENT}, which is hardly more than "
        f"with it ({_rate(found, SPENT, VALID)}), and {_rate(found, SPENT, BARE)} once past purchases are left out, "
        "too.",
        tables={f"Share of campaigns flagged ({users['campaigns']} campaigns, or {n_full})": rates,
                "What a hidden cause would need to be (medians), beside the error": strength_table(
                    found.checks.strengths)},
        figures={"flags": plot_rates(rates, "How often does a check flag the study?")},
    )  # fmt: skip


def _rate(found: EmailLogs, check: str, design: str) -> str:
    row = found.checks.rate(check, design)
    return f"{row['flagged, %']:.0f}% [{row['from']:.0f}, {row['to']:.0f}]"


def _tell_sessions(study: Study, found: EmailLogs) -> None:
    table = found.sessions
    log = found.logs.by_session
    study.add(
        "A log with a row per session",
        f"Joined to the sessions of the month before, {log['user_id'].nunique():,} users become {len(log):,} rows, "
        "each with its user's e-mail and spend. Rows of one user are no new information: taken as independent, they "
        "make errors too small. Clustered by user they are about right. Note that the effect is another one, too: "
        "users count as often as they came.",
        tables={"Errors against the truth by session, $": table},
        figures={"sessions": plot_errors(table, "Rows or users as units")},
    )


def _conclusions(found: EmailLogs) -> list[str]:
    naive, robust = found.effects["difference_in_means"], found.effects["aipw_parametric"]
    truth = found.logs.truth()
    methods = found.methods.set_index("estimate").drop(index=LABELS["difference_in_means"])
    good = int((methods["to"] >= 95).sum())
    sessions, parts = found.sessions.set_index("estimate"), found.parts.set_index("estimate")
    rows, users = (sessions.loc[f"{LABELS['ipw']}, {by}"] for by in ("rows", "users"))
    one_wrong = [parts.loc[f"{which} wrong: doubly robust", "off by"] for which in ("score", "outcome")]
    return [
        f"An e-mail brings ${robust.estimate:.2f} per user {_interval(robust)}, not the ${naive.estimate:.2f} by which "
        f"the e-mailed outspend the others (the truth is ${truth:.2f}): {1 - truth / naive.estimate:.0%} of that "
        f"difference is who was chosen. At a margin of {MARGIN:.0%} an e-mail is worth "
        f"${MARGIN * robust.estimate:.2f}; by the plain comparison one would pay up to ${MARGIN * naive.estimate:.2f} "
        "for it, discounts and annoyance included, and lose money.",
        f"Ask how recipients were chosen, and adjust for all of it; then the method matters little: the intervals of "
        f"{good} of {len(methods)} ways of adjusting keep their promise over {found.campaigns['seed'].nunique()} "
        f"campaigns, as far as so many can tell, and the estimates agree. Only five subclasses are too coarse: they "
        f"leave {_left(found):.0%} of the bias.",
        f"One forgotten cause undoes every method: without {ENGAGEMENT} weighting is off by "
        f"${parts.loc['score wrong: weighting', 'off by']:.2f}, doubly robust by "
        f"${parts.loc['both wrong: doubly robust', 'off by']:.2f}. If only one of its two models lacks it, the doubly "
        f"robust estimate is off by ${max(map(abs, one_wrong)):.2f} at most.",
        f"A report can tell that a cause is missing, if it is asked the right question: the effect on sessions before "
        f"the e-mail, where there is none, flags {_rate(found, SESSIONS, HIDDEN)} of the studies without {ENGAGEMENT} "
        f"and {_rate(found, SESSIONS, VALID)} of those with it. Placebos, subsets and random causes pass both, and "
        "gamma and robustness values are higher for the wrong one, whose estimate is larger.",
        f"Count users, not rows: in a log with a row per session, intervals of rows hold the truth in "
        f"{rows['held, %']:.0f}% of the campaigns instead of 95%, intervals clustered by user in "
        f"{users['held, %']:.0f}% (95% is within what {found.campaigns['seed'].nunique()} campaigns allow: "
        f"{users['from']:.0f} to {users['to']:.0f}%).",
        "Better still, leave a tenth of the users without the e-mail by lot: then the plain comparison is right, and "
        "nobody has to believe any of this.",
    ]


def _interval(e: EffectResult) -> str:
    return between(e.ci_low, e.ci_high)


def main(
    arguments: Sequence[str] | None = None,
    *,
    n_users: int = N_USERS,
    n_campaigns: int = N_CAMPAIGNS,
    n_small: int = N_SMALL,
    n_trees: int = N_TREES,
    n_refuted: int = N_REFUTED,
    n_draws: int = N_DRAWS,
) -> EmailLogs:
    """Run the study and write its page."""
    asked = study_arguments("email_logs", __doc__, arguments)
    study = Study(
        "What did the e-mail bring?",
        "Marketing e-mailed the customers it liked best. How much of what they spend is the e-mail's doing, and which "
        "methods can tell?",
    )
    found = study_emails(n_users, n_campaigns, n_small, n_trees, n_refuted, n_draws)
    _tell_campaign(study, found)
    _tell_choice(study, found)
    _tell_campaigns(study, found, n_small)
    _tell_parts(study, found)
    _tell_reports(study, found)
    _tell_checks(study, found)
    _tell_sessions(study, found)
    study.finish(
        asked.output, conclusions=_conclusions(found), caveats=CAVEATS,
        summary=[SummaryRow.of("spend, $ per user", LABELS.get(n, n), e, truth=found.logs.truth(e.estimand))
                 for n, e in zip(found.effects.names, found.effects.effects, strict=True)],
        made=how_made("email_logs", seeds=f"{SEED} for the campaign, 0 to {n_campaigns - 1} for the many, 0 for folds "
                      "and refutations"),
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
