"""What an e-mail brings, from a row per customer and mailing: five ways, on the days after it and on those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from causalrec.engines import Engine
from causalrec.observational import match, matching_effect
from causalrec.observational import spark as on_spark
from causalrec.results import AdjustedEffect
from experiments.email_attribution.grid import covariates
from experiments.email_attribution.tables import KEY, Part

NAIVE, REGRESSION, MATCHING, WEIGHTING, ROBUST = (
    "no adjustment", "regression by arm", "matching 1:1", "weighting by the score", "doubly robust"
)  # fmt: skip
WAYS = (NAIVE, REGRESSION, MATCHING, WEIGHTING, ROBUST)
BRIEF = (NAIVE, ROBUST)


@dataclass(frozen=True)
class Effects:
    """Effects on those who got the e-mail, by way.

    Attributes
    ----------
    purchase, before : mapping
        On a purchase in the window after the mailing; and, the placebo, in the one before it.
    change : AdjustedEffect
        Doubly robust, on purchase after less purchase before: what is left when the placebo is taken off.
    spend, spend_before : mapping
        On spend, by the plain difference and doubly robust.
    """

    purchase: Mapping[str, AdjustedEffect]
    before: Mapping[str, AdjustedEffect]
    change: AdjustedEffect
    spend: Mapping[str, AdjustedEffect]
    spend_before: Mapping[str, AdjustedEffect]

    def named(self) -> dict[str, AdjustedEffect]:
        """All effects by a name for a run."""
        tables = {"purchase": self.purchase, "placebo": self.before, "spend": self.spend,
                  "spend_placebo": self.spend_before}  # fmt: skip
        short = {way: way.split()[0] if way != NAIVE else "naive" for way in WAYS}
        found = {f"{name}_{short[way]}": e for name, table in tables.items() for way, e in table.items()}
        return {**found, "purchase_less_placebo": self.change}


def study_mailings(engine: Engine, part: Part) -> Effects:
    """All effects of a part's mailings."""
    adjust = covariates(part)
    frame = engine.frame("SELECT * FROM mailings")
    engine.register("scored", on_spark.add_propensity(frame, treatment="emailed", covariates=adjust, name="score"))
    kept = f"{KEY}, mailing, emailed, score, purchase, before_purchase"
    local = engine.collect(f"SELECT {kept} FROM scored ORDER BY {KEY}, mailing")

    def by_way(outcome: str, ways: Sequence[str]) -> dict[str, AdjustedEffect]:
        return {way: estimate(way, frame, local, outcome, adjust) for way in ways}

    return Effects(
        by_way("purchase", WAYS), by_way("before_purchase", WAYS), by_way("change", [ROBUST])[ROBUST],
        by_way("spend", BRIEF), by_way("before_spend", BRIEF),
    )  # fmt: skip


def estimate(way: str, frame: Any, local: pd.DataFrame, outcome: str, adjust: Sequence[str]) -> AdjustedEffect:
    """The effect on those e-mailed by one of :data:`WAYS`, errors clustered by customer.

    All ways but matching are estimated on the Spark DataFrame. Matching is within a mailing, on the score that Spark
    fitted, which ``local`` has beside the outcome: errors by customer of matches are computed on the driver alone.
    """
    if way == MATCHING:
        return _matched(local, outcome)
    asked: dict[str, Any] = {"treatment": "emailed", "outcome": outcome, "estimand": "att", "clusters": KEY}
    if way == NAIVE:
        return on_spark.difference_in_means(frame, **asked)
    by = {REGRESSION: on_spark.lin_effect, WEIGHTING: on_spark.weighting_effect, ROBUST: on_spark.aipw_parametric}
    return by[way](frame, covariates=adjust, **asked)  # type: ignore[operator,no-any-return]


def _matched(local: pd.DataFrame, outcome: str) -> AdjustedEffect:
    treated, score = local["emailed"].to_numpy(), local["score"].to_numpy()
    pairs = match(treatment=treated, propensity=score, exact=local["mailing"].to_numpy())
    customers = local[KEY].astype("category").cat.codes.to_numpy()
    return matching_effect(local[outcome].to_numpy(float), pairs, treatment=treated, clusters=customers)
