"""Whom to send an e-mail? Hillstrom's test of two e-mails, 64,000 customers.

How far a published uplift depends on the split; which learner ranks better, in pairs; who is persuadable; what share
of the customers is worth an e-mail; and which of two e-mails to send to whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalrec.evaluation import auuc_score, compare_scorers, qini_curve, qini_score
from causalrec.nuisance import Nuisances, fit_nuisances
from causalrec.plots import plot_curve, plot_profit, plot_scorers, plot_segment_map, plot_segments
from causalrec.policy import incremental_roi, learn_segments, profit_curve
from causalrec.report import SummaryRow
from causalrec.results import ProfitCurveResult, ScorerComparisonResult, SegmentsResult, format_interval
from experiments._study import Study, how_made, study_arguments
from experiments.uplift_hillstrom.data import MAIL, NONE, VISIT, Customers, learners, read_customers, simple_scores
from experiments.uplift_hillstrom.figures import plot_splits
from experiments.uplift_hillstrom.mails import TwoMails, tell_two_mails
from experiments.uplift_hillstrom.splits import AS_PUBLISHED, FIRST_SEED, PUBLISHED, judged_splits, over_splits

MODEL, RULE, LATELY = "DR-learner", "bought women's", "bought lately"
CONVENTIONS = ["causalrec", "sklift", "causalml", "pylift_q1", "pylift_q2"]
CAVEATS = [
    "Assumed, not measured: an e-mail costs $0.10 with all that it wears out, a visit is worth $2, 30% of spend is "
    "profit. Change them in run.py; the shares worth an e-mail move with their ratio.",
    "Predictions are out of fold: nobody is scored by a model that saw them. Intervals take the predictions as given; "
    "what other customers to learn from would have changed is not counted, but the splits show it.",
    "6,562 of the 64,000 rows are exact copies of another row. There is no customer id, so copies are taken as "
    "different people, as everybody does who publishes on this data; some then lie in both halves of a split.",
    "Two weeks of one season in 2008: who answers to an e-mail about women's clothes will not stay the same.",
]


@dataclass(frozen=True)
class Ranking:
    """The women's e-mail and visits: out-of-fold scores of everybody, and what they were judged with."""

    customers: Customers
    nuisance: Nuisances = field(repr=False)
    scores: dict[str, NDArray[np.float64]] = field(repr=False)

    @property
    def data(self) -> tuple[Any, Any, Any]:
        """Outcome, score of the model, treatment."""
        return self.customers.visit, self.scores[MODEL], self.customers.treatment


def rank_customers(customers: Customers) -> Ranking:
    """Score everybody out of fold with every learner."""
    told: dict[str, Any] = {"treatment": customers.treatment}
    nuisance = fit_nuisances(customers.X, customers.visit, control=NONE, propensity=0.5, **told)
    scores = {}
    for name, learner in learners().items():
        shared: dict[str, Any] = {"nuisance": nuisance} if name in ("X-learner", "DR-learner") else {"propensity": 0.5}
        scores[name] = learner.fit_predict(customers.X, customers.visit, **told, **shared)
    return Ranking(customers, nuisance, {**scores, **simple_scores(customers.X)})


def tell_splits(study: Study, customers: Customers, n_splits: int) -> pd.DataFrame:
    found = judged_splits(customers, n_splits)
    table = over_splits(found)
    published = table.set_index("scorer").loc[AS_PUBLISHED]
    study.add(
        "A published number and its luck",
        f"scikit-uplift's notebook reports an uplift@30% of {PUBLISHED:.4f}: of the half that was not learned from, "
        "the difference in visits between arms among the 30% with the highest scores. The same learner (class "
        "transformation, XGBoost of depth 2; categories as XGBoost splits them) on the same split gives "
        f"{published[f'seed {FIRST_SEED}']:.4f}, and over {n_splits} splits {published['mean']:.4f}, from "
        f"{published['least']:.4f} to {published['most']:.4f}. The standard error of a split is "
        f"{published['error of a split']:.4f}: one split cannot tell these scorers apart.",
        "Splits share customers, so the spread over splits is not the error of their mean.",
        tables={f"uplift@30%, scikit-uplift's definition, {n_splits} splits in halves": table},
        figures={"splits": plot_splits(found, PUBLISHED, FIRST_SEED)},
    )
    return found


def tell_comparison(study: Study, ranking: Ranking) -> tuple[ScorerComparisonResult, ScorerComparisonResult]:
    y, _, treatment = ranking.data
    found, top = (
        compare_scorers(y, ranking.scores, treatment, metric=metric, k=0.3, nuisance=ranking.nuisance)
        for metric in ("qini", "uplift_at_k")
    )
    curves = [
        qini_curve(y, ranking.scores[name], treatment, nuisance=ranking.nuisance, label=name)
        for name in (MODEL, RULE, LATELY)
    ]
    rule = [found.pair(name, RULE) for name in learners()]
    better = [e for e in rule if e.ci_low > 0]
    study.add(
        "Which learner, on the same customers",
        f"All {len(y):,} customers, each scored by models that did not see them; doubly robust scores; pairs compared "
        "customer by customer.",
        f"{len(better)} of {len(rule)} learners are better than one column of the data, whether the customer bought "
        "women's merchandise in the past year. " + _of_lately(found),
        tables={
            "Qini, visits per customer": found.scores(),
            "uplift@30%": top.scores(),
            "Differences in Qini; Holm's p-value counts all pairs": found.to_frame().drop(columns="std_error"),
        },
        figures={"qini": plot_curve(*curves), "learners": plot_scorers(found)},
    )
    return found, top


def tell_conventions(study: Study, ranking: Ranking) -> pd.DataFrame:
    y, _, treatment = ranking.data
    rows = []
    for name in (MODEL, RULE):
        for convention in CONVENTIONS:
            row: dict[str, Any] = {"scorer": name, "convention": convention}
            for metric, of in (("Qini", qini_score), ("AUUC", auuc_score)):
                e = of(y, ranking.scores[name], treatment, control=NONE, convention=convention)
                row |= {metric: e.estimate, f"{metric} interval": format_interval(e.ci_low, e.ci_high)}
            rows.append(row)
    table = pd.DataFrame(rows)
    study.add(
        "One ranking, many Qinis",
        "The same scores by the definitions of other packages. Ours are visits per customer; the others divide by a "
        "best or a last value. They are not comparable with each other; each agrees with its package to the last "
        "digit, and has an interval. causalml and pylift break ties by the order of rows, so that "
        "their numbers for a score of two values are partly luck.",
        tables={"Qini and AUUC": table},
    )
    return table


def tell_segments(study: Study, ranking: Ranking) -> SegmentsResult:
    y, score, treatment = ranking.data
    found = learn_segments(y, score, treatment, nuisance=ranking.nuisance, X=ranking.customers.X)
    persuaded = found.to_frame().set_index("segment")
    text = []
    if "persuadables" in persuaded.index:
        row = persuaded.loc["persuadables"]
        text.append(
            f"{row['share']:.0%} of the customers are persuadable: the e-mail brings {100 * row['effect']:.1f} more of "
            f"a hundred to the shop [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}], "
            f"{row['lift_share']:.0%} of all that it brings. {_put_off(found)}"
        )
    profile = found.profile()
    wide = profile[profile["difference"].abs() >= 0.2]
    study.add(
        "Who is persuadable?",
        "Five groups by predicted uplift, each judged by what happened; all intervals hold at once. Where no effect is "
        "shown, the expected visits without an e-mail tell sure things from lost causes.",
        *text,
        tables={
            "Groups": found.groups(),
            "Segments": _segments(found),
            "Who they are: differences of a fifth of a standard deviation and more": wide,
        },
        figures={"segments": plot_segments(found), "segment_map": plot_segment_map(found)},
    )
    return found


def tell_profit(study: Study, ranking: Ranking) -> tuple[ProfitCurveResult, pd.DataFrame]:
    y, score, treatment = ranking.data
    known: dict[str, Any] = {"nuisance": ranking.nuisance}
    curve = profit_curve(y, score, treatment, value=VISIT, cost=MAIL, label=MODEL, **known)
    rows = []
    for cost in (0.02, 0.05, MAIL, 0.15, 0.2):
        at = profit_curve(y, score, treatment, value=VISIT, cost=cost, label=MODEL, **known)
        shares = {"best share": at.best_share, "from": at.best_share_low, "to": at.best_share_high}
        rows.append({"cost of an e-mail": cost, **{name: round(share, 3) for name, share in shares.items()},
                     "profit by rule": at.rule_profit, "low": at.rule_profit_ci_low, "high": at.rule_profit_ci_high,
                     "profit of all": at.all_profit})  # fmt: skip
    roi = incremental_roi(y, VISIT * score > MAIL, treatment, value=VISIT, cost=MAIL, **known)
    study.add(
        "What share is worth an e-mail?",
        f"If a visit is worth ${VISIT:g} and an e-mail costs ${MAIL:.2f}, profit is highest with "
        f"{curve.best_share:.0%} of the customers; shares from {curve.best_share_low:.0%} to "
        f"{curve.best_share_high:.0%} may be the best. Sending where the prediction says that it pays, to "
        f"{curve.rule_share:.0%}, earns {_with_interval(curve, 'rule')} dollars per customer; sending to "
        f"everybody {_with_interval(curve, 'all')}.",
        f"A dollar spent where the prediction says that it pays brings ${roi.estimate:.2f} "
        f"[{roi.ci_low:.2f}, {roi.ci_high:.2f}].",
        tables={"By the cost of an e-mail, $ per customer": pd.DataFrame(rows)},
        figures={"profit": plot_profit(curve)},
    )
    return curve, pd.DataFrame(rows)


def conclusions(
    splits: pd.DataFrame, found: ScorerComparisonResult, segments: SegmentsResult, profit: ProfitCurveResult,
    mails: TwoMails,
) -> list[str]:  # fmt: skip
    """What the numbers say; sentences depend on them."""
    table = over_splits(splits).set_index("scorer").loc[AS_PUBLISHED]
    ties = [name for name in learners() if not found.pair(name, RULE).ci_low > 0]
    lines = [
        f"The published uplift@30% of {PUBLISHED:.4f} is one draw: splits of the same learner give "
        f"{table['least']:.3f} to {table['most']:.3f}, {table['mean']:.4f} on average.",
        f"{len(ties)} of {len(learners())} learners cannot be told better than a single column, whether the customer "
        "bought women's merchandise before.",
    ]
    by_segment = segments.to_frame().set_index("segment")
    if "persuadables" in by_segment.index:
        row = by_segment.loc["persuadables"]
        lines.append(
            f"The women's e-mail persuades {row['share']:.0%} of the customers, who hold {row['lift_share']:.0%} of "
            f"what it brings. {_put_off(segments)}"
        )
    lines += [
        f"At ${MAIL:.2f} an e-mail and ${VISIT:g} a visit, {profit.best_share:.0%} of the customers are worth it (by "
        f"the data between {profit.best_share_low:.0%} and {profit.best_share_high:.0%}); sending it to everybody "
        f"earns {_with_interval(profit, 'all')} dollars per customer.",
        f"For spend, no rule is shown to beat the men's e-mail for everybody; {len(mails.regret.close)} of "
        f"{mails.regret.n_policies} policies may be the best."
        if mails.may_be_best
        else f"For spend, {mails.regret.best} is shown to beat the men's e-mail for everybody.",
    ]
    return lines


def _segments(found: SegmentsResult) -> pd.DataFrame:
    frame = found.to_frame()
    lift = [format_interval(*row) for row in frame[["lift_share_ci_low", "lift_share_ci_high"]].itertuples(index=False)]
    return frame[["segment", "n", "share", "effect", "ci_low", "ci_high", "lift_share"]].assign(lift_interval=lift)


def _of_lately(found: ScorerComparisonResult) -> str:
    """What the rule of thumb of direct mail is worth."""
    of = found.scores().set_index("scorer").loc[LATELY]
    verdict = "is not shown to be better than drawing lots" if of["ci_low"] <= 0 else "is better than drawing lots"
    return f"Sending to whoever bought lately, a rule of thumb of direct mail, {verdict}."


def _put_off(segments: SegmentsResult) -> str:
    return (
        "Some are put off by it." if "sleeping dogs" in segments.segment else "No group is shown to be put off by it."
    )


def _with_interval(curve: ProfitCurveResult, which: str) -> str:
    """A profit of the curve and its interval."""
    value, low, high = (getattr(curve, f"{which}_profit{end}") for end in ("", "_ci_low", "_ci_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]".replace("-", "−")


def main(arguments: Sequence[str] | None = None, *, n_splits: int = 20, rows: int | None = None) -> dict[str, Any]:
    """Run the study; the results by name."""
    options = study_arguments("uplift_hillstrom", __doc__, arguments)
    study = Study(
        "Whom to send an e-mail?",
        "A shop sent an e-mail about men's or women's clothes to two thirds of 64,000 customers, by lot. Who came "
        "because of it, who is worth the next one, and which?",
    )
    customers = read_customers(options.data_dir, rows=rows)
    splits = tell_splits(study, customers, n_splits)
    ranking = rank_customers(customers)
    found, top = tell_comparison(study, ranking)
    conventions = tell_conventions(study, ranking)
    segments = tell_segments(study, ranking)
    profit, costs = tell_profit(study, ranking)
    mails = tell_two_mails(study, read_customers(options.data_dir, rows=rows, mens=True))
    average = ranking.nuisance.average_effect()
    study.finish(
        options.output, caveats=CAVEATS, conclusions=conclusions(splits, found, segments, profit, mails),
        summary=[SummaryRow.of("women's e-mail", "visits per customer", average), *_summary(found, ranking)],
        made=how_made("uplift_hillstrom", data=["hillstrom"], data_dir=options.data_dir,
                      seeds=f"{FIRST_SEED} to {FIRST_SEED + n_splits - 1} for the splits, 0 for folds and learners"),
    )  # fmt: skip
    return {"splits": splits, "ranking": ranking, "found": found, "top": top, "conventions": conventions,
            "segments": segments, "profit": profit, "costs": costs, "mails": mails}  # fmt: skip


def _summary(found: ScorerComparisonResult, ranking: Ranking) -> list[SummaryRow]:
    y, _, treatment = ranking.data
    return [
        SummaryRow.of(name, "Qini", qini_score(y, ranking.scores[name], treatment, nuisance=ranking.nuisance))
        for name in found.scorer
    ]


if __name__ == "__main__":
    main()
