"""Which of two e-mails for whom, by profit: a share of spend less the e-mail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec.evaluation import policy_regret
from causalrec.nuisance import fit_nuisances
from causalrec.plots import plot_cost_curve, plot_policy_tree, plot_regret
from causalrec.policy import PolicyTree, allocate, compare_cost_curves, cost_curve
from causalrec.results import (
    AllocationResult,
    CostCurveComparisonResult,
    CostCurveResult,
    PolicyRegretResult,
    PolicyTreeResult,
)
from causalrec.uplift import DRLearner
from experiments._study import Study
from experiments.uplift_hillstrom.data import ALL_ARMS, MAIL, MARGIN, MENS, NONE, WOMENS, Customers

BOTH, SINGLE = "both e-mails", "men's only"


@dataclass(frozen=True)
class TwoMails:
    """What the three arms say."""

    free: AllocationResult
    regret: PolicyRegretResult
    tree: PolicyTreeResult
    curves: tuple[CostCurveResult, CostCurveResult]
    difference: CostCurveComparisonResult

    @property
    def may_be_best(self) -> bool:
        """Whether the men's e-mail for everybody may be the best policy."""
        return f"all {MENS}" in self.regret.close


def two_mails(customers: Customers) -> TwoMails:
    """Policies and budgets by out-of-fold predictions of spend, judged by what was spent."""
    y, treatment, cost = customers.spend, customers.treatment, {MENS: MAIL, WOMENS: MAIL}
    known: dict[str, Any] = {"treatment": treatment, "control": NONE, "propensity": ALL_ARMS}
    nuisance = fit_nuisances(customers.X, y, **known)
    predicted = DRLearner(control=NONE).fit_predict(customers.X, y, treatment=treatment, nuisance=nuisance)
    uplift = pd.DataFrame(predicted, columns=[MENS, WOMENS])
    free = allocate(uplift, cost=cost, value=MARGIN, control=NONE)
    half = allocate(uplift, cost=cost, value=MARGIN, control=NONE, budget=MAIL / 2)
    only_womens = (customers.X["womens"] == 1) & (customers.X["mens"] == 0)
    policies = {
        "highest predicted profit": free.arms,
        "the same for half the money": half.probabilities(),
        "women's if only women's bought": np.where(only_womens, WOMENS, MENS),
    }
    rules = {BOTH: uplift, SINGLE: uplift[[MENS]]}
    told: dict[str, Any] = {"cost": cost, "nuisance": nuisance}
    both, single = (cost_curve(y, arms, treatment, label=label, **told) for label, arms in rules.items())
    return TwoMails(
        free,
        policy_regret(MARGIN * y - MAIL * (treatment != NONE), policies, **known),
        PolicyTree(depth=2, value=MARGIN, cost=cost).cross_evaluate(customers.X, nuisance),
        (both, single),
        compare_cost_curves(y, rules, treatment, **told),
    )


def tell_two_mails(study: Study, customers: Customers) -> TwoMails:
    found = two_mails(customers)
    free, tree, gap = found.free, found.tree, found.difference
    low, mean, high = (v / gap.up_to for v in (gap.area_ci_low, gap.area, gap.area_ci_high))
    study.add(
        "Which of two e-mails, by spend",
        f"All {len(customers):,} customers and three arms; profit is {MARGIN:.0%} of spend less ${MAIL:.2f} an e-mail. "
        "One customer in a hundred buys, so spend is noisy, and the question is harder than that of visits.",
        f"Predictions would send the men's e-mail to {free.share[1]:.0%} and the women's to {free.share[2]:.0%}; they "
        f"expect ${free.profit:.3f} a customer from it. What happened is in the table of policies.",
        f"A tree of two questions, learned and judged in folds, earns ${tree.value:.3f} [{tree.ci_low:.3f}, "
        f"{tree.ci_high:.3f}] a customer.",
        f"Choosing between two e-mails under a budget gains ${mean:.3f} [{low:.3f}, {high:.3f}] of spend a customer on "
        "the men's only, averaged over all budgets.",
        tables={
            "Policies by profit per customer, $": found.regret.to_frame().drop(columns="std_error"),
            "The tree of folds less one e-mail for everybody, $": tree.comparisons(),
            "The tree of all customers": leaves(tree),
        },
        figures={
            "policies": plot_regret(found.regret),
            "tree": plot_policy_tree(tree),
            "budget": plot_cost_curve(*found.curves),
        },
    )
    return found


def leaves(tree: PolicyTreeResult) -> pd.DataFrame:
    """A row per leaf: the questions that lead to it, and what is sent there."""
    nodes, rows = tree.to_frame(), []
    for leaf in np.flatnonzero(nodes["rule"] == ""):
        node, rules = int(leaf), []
        while (above := int(nodes["parent"].iloc[node])) >= 0:
            no = "" if nodes["side"].iloc[node] == "yes" else "not "
            rules.insert(0, no + str(nodes["rule"].iloc[above]))
            node = above
        rows.append({"customers": " and ".join(rules), "gets": nodes["arm"].iloc[leaf], "n": nodes["n"].iloc[leaf]})
    return pd.DataFrame(rows)
