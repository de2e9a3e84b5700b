"""Do marketing e-mails sell, or do they go to those who buy anyhow? From raw tables to the answer on Spark, twice.

Complete Journey: real campaigns mailed to households, a sample of their receipts. Online Retail: real purchases with
simulated e-mails on top, so that the truth is known. A grid of customers and days, what drives purchases by Spark
MLlib, and what an e-mail brings by five ways, each beside its placebo: the same e-mail's effect on the days before it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec.datasets import load_dataset
from causalrec.engines import Engine, SparkEngine
from causalrec.report import SummaryRow
from causalrec.results import AdjustedEffect
from causalrec.tracking import Tracker
from experiments._effects import between, number
from experiments._study import Study, how_made, in_points, study_arguments
from experiments.email_attribution.drivers import GROUPS, Drivers, study_days
from experiments.email_attribution.effects import NAIVE, REGRESSION, ROBUST, Effects, study_mailings
from experiments.email_attribution.figures import plot_deciles, plot_drivers, plot_ways
from experiments.email_attribution.grid import daily_rows, mailing_rows
from experiments.email_attribution.tables import Part, read_journey, read_retail

SEED, QUICK = 1, 0.2
# Few rows and many small queries: Java's second compiler and its concurrent collector cost more than they save here.
SPARK = {
    "spark.driver.memory": "3g", "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": "2", "spark.default.parallelism": "2",
}  # fmt: skip
CAVEATS = [
    "Campaigns of Complete Journey were targeted, by a rule that nobody published. Every way on this page compares "
    "households that look alike on the list's day; the placebo shows that they are not alike, so that the adjusted "
    "numbers are not effects.",
    "Its receipts are a sample of one line in twenty. A household's habit is known only roughly, which is one reason "
    "why adjustment leaves a difference; a purchase here is one that the sample caught.",
    "A campaign runs for four to eight weeks, is by mail, and carries coupons. An 'e-mail' is its first day; that it "
    "arrived in the evening before, and that its list was closed two weeks earlier, is assumed.",
    "The simulated e-mails are as good-natured as e-mails get: the list is drawn from what the analysis sees, there "
    "are no unsubscribers, and nothing is brought forward.",
    "A window that ends with the day asked about holds what earlier e-mails brought. The daily model describes; the "
    "effect is estimated from the day on which the list was closed.",
    "Errors are by customer. Households that got a campaign on one day share that day's weather and offers; they are "
    "compared with others on the same day, but chance that hits all recipients alike is not in the intervals.",
]


@dataclass(frozen=True)
class Found:
    """What one part found."""

    part: Part
    drivers: Drivers
    effects: Effects
    mailed: pd.DataFrame = field(repr=False)
    redeemed: pd.DataFrame | None = field(default=None, repr=False)

    def truth(self, outcome: str) -> float:
        """Of those e-mailed; NaN where nobody knows."""
        return float("nan") if self.part.simulated is None else self.part.simulated.truth(outcome)


def study_part(engine: Engine, part: Part) -> Found:
    """Mailings, then days, from the tables of a part."""
    mailing_rows(engine, part)
    mailed = engine.collect(
        "SELECT mailing, SUM(emailed) AS emailed, COUNT(*) AS customers, "
        "100 * SUM(purchase * emailed) / SUM(emailed) AS bought_emailed, "
        "100 * SUM(purchase * (1 - emailed)) / SUM(1 - emailed) AS bought_others FROM mailings "
        "GROUP BY mailing ORDER BY mailing"
    )
    effects = study_mailings(engine, part)
    drivers = study_days(daily_rows(engine, part), part)
    redeemed = _redemptions(engine) if part.redemptions else None
    return Found(part, drivers, effects, mailed, redeemed)


def _redemptions(engine: Engine) -> pd.DataFrame:
    """Campaigns by kind: households mailed, and how many of them used a coupon of the campaign."""
    return engine.collect(
        "SELECT e.kind, COUNT(DISTINCT e.campaign) AS campaigns, COUNT(*) AS mailed, "
        "SUM(CASE WHEN r.customer IS NULL THEN 0 ELSE 1 END) AS used_a_coupon, "
        "100 * AVG(CASE WHEN r.customer IS NULL THEN 0e0 ELSE 1e0 END) AS percent FROM emails e "
        "LEFT JOIN (SELECT DISTINCT customer, campaign FROM redemptions) r "
        "ON r.customer = e.customer AND r.campaign = e.campaign GROUP BY e.kind ORDER BY e.kind"
    )


def points(e: AdjustedEffect, digits: int = 1) -> str:
    """A share's effect in percentage points with its interval."""
    p = in_points(e)
    return f"{number(p.estimate, digits)} {between(p.ci_low, p.ci_high, digits)}"


def effects_table(found: Found) -> pd.DataFrame:
    """A row per way: effect on a purchase, its placebo, and the truth where it is known."""
    rows = []
    truth = found.truth("purchase")
    for way, effect in found.effects.purchase.items():
        row = {"way": way, "points": points(effect, 2), "placebo, points": points(found.effects.before[way], 2)}
        if np.isfinite(truth):
            row |= {"truth": number(100 * truth), "holds it": _yes(effect, truth)}
        rows.append(row)
    return pd.DataFrame(rows)


def spend_table(found: Found) -> pd.DataFrame:
    """The same for spend."""
    rows = []
    truth = found.truth("spend")
    for way, e in found.effects.spend.items():
        before = found.effects.spend_before[way]
        row = {"way": way, f"{found.part.unit} per e-mail": f"{number(e.estimate)} {between(e.ci_low, e.ci_high)}",
               "placebo": f"{number(before.estimate)} {between(before.ci_low, before.ci_high)}"}  # fmt: skip
        if np.isfinite(truth):
            row |= {"truth": number(truth), "holds it": _yes(e, truth)}
        rows.append(row)
    return pd.DataFrame(rows)


def _yes(e: AdjustedEffect, truth: float) -> str:
    return "yes" if e.ci_low <= truth <= e.ci_high else "no"


def group_table(found: Mapping[str, Drivers]) -> pd.DataFrame:
    """How far each group of columns moves the log odds of a purchase, and how that compares with the e-mail."""
    rows = []
    for name, drivers in found.items():
        spread, ratio = drivers.likelihood.group_spread(), drivers.ratios()
        rows += [{"part": name, "group": g, "moves the log odds by (sd)": round(size, 3), "error": round(error, 3),
                  "times the e-mail": round(ratio[g], 1)} for g, (size, error) in spread.items()]  # fmt: skip
    return pd.DataFrame(rows)


def _tell_part(study: Study, found: Found, name: str) -> None:
    part, drivers = found.part, found.drivers
    tables = {"Raw tables and what became of them": part.steps}
    if found.redeemed is not None:
        tables["Campaigns by kind, and who used a coupon"] = found.redeemed
    study.add(
        f"{part.name}: raw tables",
        f"Grid: {drivers.likelihood.n_customers:,} customers on the days from {part.grid_start} to {part.end}, "
        f"{drivers.likelihood.n_obs:,} customer-days with features strictly before each. Mailings: {len(found.mailed)} "
        f"from {part.start} on, {int(found.mailed['customers'].sum()):,} rows of a customer and a mailing, "
        f"{int(found.mailed['emailed'].sum()):,} of them e-mailed.",
        tables=tables,
    )
    truth = found.truth("purchase")
    change = found.effects.change
    study.add(
        f"{part.name}: what an e-mail brings",
        f"On a purchase within {part.window} days, of those who got the e-mail, against customers of the same mailing "
        f"day who did not. Covariates as of {part.lead} days before, when the list was closed. The placebo is the same "
        f"comparison on the {part.window} days before the e-mail, which it cannot have changed.",
        f"Doubly robust, after less before: {points(change, 2)} points.",
        tables={"On a purchase, percentage points": effects_table(found), "On spend": spend_table(found)},
        figures={f"effects_{name}": plot_ways(
            found.effects.purchase, found.effects.before, f"{part.name}: effect of an e-mail on a purchase",
            truth if np.isfinite(truth) else None)},
    )  # fmt: skip


def _tell_drivers(study: Study, parts: Mapping[str, Found]) -> None:
    drivers = {f.part.name: f.drivers for f in parts.values()}
    amounts = {f"{n}: log of the amount of a purchase, per standard deviation": d.amount.table().drop(columns="group")
               for n, d in drivers.items()}  # fmt: skip
    study.add(
        "What drives a purchase",
        "Spark MLlib's logistic regression of a purchase on a day. Columns are standardised; intervals are by customer "
        "(information matrix and scores from sums on Spark). A group's part is the standard deviation, over "
        "customer-days, of what its columns add to the log odds.",
        *(f"{n}: after an e-mail in the last three days the odds of a purchase are {_odds(d)} times as high, all else "
          "equal. That describes; it is no effect." for n, d in drivers.items()),
        tables={"By group": group_table(drivers),
                **{f"{n}: log odds, per standard deviation and per unit": d.likelihood.table().drop(columns="group")
                   for n, d in drivers.items()}, **amounts},
        figures={"drivers": plot_drivers(drivers)},
    )  # fmt: skip
    study.add(
        "Do the models hold on later days?",
        *(f"{f.part.name}: trained on {f.drivers.n_train:,} customer-days before {f.part.split}; later days have "
          f"{f.drivers.calibration:.2f} times the purchases predicted, area under the ROC curve {f.drivers.auc:.3f}. "
          f"{_left_out(f.drivers)}" for f in parts.values()),
        tables={**{f"{n}: purchases by tenth of the prediction": d.likelihood_test for n, d in drivers.items()},
                **{f"{n}: log amounts by tenth of the prediction": d.amount_test.drop(columns="lift")
                   for n, d in drivers.items()}},
        figures={"deciles": plot_deciles(drivers)},
    )  # fmt: skip


def _odds(drivers: Drivers) -> str:
    """The e-mail's odds ratio with its interval."""
    low, value, high = np.exp(drivers.email[["per_unit_low", "per_unit", "per_unit_high"]].to_numpy(float))
    return f"{number(value)} {between(low, high)}"


def _left_out(drivers: Drivers) -> str:
    if not drivers.left_out:
        return ""
    return f"The early days cannot teach {', '.join(drivers.left_out)}, which the judged model leaves out."


def conclusions(parts: Mapping[str, Found]) -> list[str]:
    """What a manager can act on."""
    retail, journey = parts["retail"], parts["journey"]
    known, real = retail.effects, journey.effects
    truth = 100 * retail.truth("purchase")
    naive, robust = known.purchase[NAIVE], known.purchase[ROBUST]
    ratio = {name: f.drivers.ratios() for name, f in parts.items()}
    surely = journey.drivers.ratios(at_most=True)[GROUPS[1]]
    return [
        f"Who gets an e-mail buys more, mostly because of who gets it. Where the truth is known, an e-mail brings "
        f"{truth:.1f} purchases per 100 sent; the plain comparison says {100 * naive.estimate:.1f}, doubly robust "
        f"{points(robust)}. Budget by the plain comparison and you pay for {100 * naive.estimate / truth:.1f} times "
        "the purchases you get.",
        f"Real campaigns: recipients buy {points(real.purchase[NAIVE])} points more in the two weeks after a "
        f"campaign starts, and {points(real.before[NAIVE])} more in the two weeks before. Adjusted, "
        f"{points(real.purchase[ROBUST])} after and {points(real.before[ROBUST])} before. "
        f"{_verdict(real.before[ROBUST], real.change)}",
        f"Recency and habit, not e-mails, say who buys: they move the log odds of a purchase "
        f"{ratio['journey'][GROUPS[1]]:.0f} times as far as the e-mail in the real campaigns (surely {surely:.0f}), "
        f"{ratio['retail'][GROUPS[1]]:.0f} times where e-mails work by construction; the calendar "
        f"{ratio['journey'][GROUPS[2]]:.1f} and {ratio['retail'][GROUPS[2]]:.1f} times. That is no argument against "
        "e-mails: a coefficient per standard deviation is small for what is rare.",
        "Always ask for the placebo: regress yesterday's purchases on tomorrow's e-mail. It costs nothing, and a way "
        f"that finds an effect there is wrong: on the simulated e-mails {REGRESSION} finds "
        f"{points(known.before[REGRESSION])} points, the doubly robust estimate {points(known.before[ROBUST])}.",
        "Hold out a tenth of every list by lot. Then the plain comparison is right, and this page is not needed.",
    ]


def _verdict(before: AdjustedEffect, change: AdjustedEffect) -> str:
    """What may be said of the real campaigns, from the placebo and from after less before."""
    if before.ci_low <= 0 <= before.ci_high:
        start = "The placebo is within chance."
    else:
        start = "A campaign cannot sell before it is mailed, so that adjustment has not made recipients comparable."
    if change.ci_low <= 0 <= change.ci_high:
        end = f"Less the placebo, {points(change)} are left: no effect is shown, and one of that size is not excluded."
    else:
        end = f"Less the placebo, {points(change)} are left, an effect if what sets recipients apart stays the same."
    return f"{start} {end}"


def main(arguments: Sequence[str] | None = None) -> dict[str, Found]:
    """Run the study, write its page, and log the run."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--quick", action="store_true", help="a fifth of the customers")
    parser.add_argument("--tracking", default="sqlite:///mlflow.db", help="MLflow store, or 'off'")
    own, others = parser.parse_known_args(arguments)
    asked = study_arguments("email_attribution", __doc__, others)
    share = QUICK if own.quick else 1.0
    study = Study(
        "Do marketing e-mails sell?",
        "Customers who get e-mails buy more. How much of that is the e-mail, what drives purchases instead, and what "
        "can be said where nobody drew lots?",
    )
    with Tracker.open(
        uri=own.tracking, experiment="email_attribution", run_name="quick" if own.quick else "full",
        params={"share": share, "seed": SEED, **SPARK}, tags={"study": "email_attribution"},
        enabled=own.tracking != "off", say=print,
    ) as tracker:  # fmt: skip
        parts = _run_parts(tracker, asked.data_dir, share)
        for name, found in parts.items():
            _tell_part(study, found, name)
        _tell_drivers(study, parts)
        study.finish(
            asked.output, conclusions=conclusions(parts), caveats=CAVEATS, summary=_summary(parts),
            made=how_made("email_attribution", data=["completejourney", "online_retail"], data_dir=asked.data_dir,
                          seeds=f"{SEED} for the simulated e-mails"),
        )  # fmt: skip
        tracker.top.log_artifact(asked.output)
    return parts


def _run_parts(tracker: Tracker, data_dir: Path | None, share: float) -> dict[str, Found]:
    """Both parts on one Spark, each with an engine and a stage of its own."""
    journey_file = load_dataset("completejourney", data_dir)
    parts: dict[str, Found] = {}
    with SparkEngine(master="local[2]", options=SPARK):
        for name in ("retail", "journey"):
            started = time.perf_counter()
            with tracker.stage(name) as stage, SparkEngine() as engine:
                if name == "journey":
                    part = read_journey(engine, journey_file.path.parent, share=share)
                else:
                    part = read_retail(engine, data_dir, np.random.default_rng(SEED), share=share)
                parts[name] = study_part(engine, part)
                _log(stage, parts[name])
            print(f"{part.name}: {time.perf_counter() - started:.0f} seconds")
    return parts


def _log(stage: Any, found: Found) -> None:
    part = found.part
    stage.log_params({"start": part.start, "end": part.end, "split": part.split, "lead": part.lead,
                      "window": part.window})  # fmt: skip
    stage.log_results(found.effects.named())
    truths = {f"truth_{o}": found.truth(o) for o in ("purchase", "spend")}
    ratios = {f"spread_{g}_by_email": v for g, v in found.drivers.ratios().items()}
    stage.log_metrics({**truths, **ratios, "auc": found.drivers.auc, "calibration": found.drivers.calibration})
    stage.log_frame(found.drivers.likelihood.table(), "likelihood.json")
    stage.log_frame(found.drivers.amount.table(), "amount.json")
    stage.log_frame(part.steps, "steps.json")


def _summary(parts: Mapping[str, Found]) -> list[SummaryRow]:
    rows = []
    for found in parts.values():
        truth = 100 * found.truth("purchase")
        name = found.part.name
        rows += [SummaryRow.of(name, f"purchase, points: {way}", in_points(e), truth=truth)
                 for way, e in found.effects.purchase.items()]  # fmt: skip
        rows.append(SummaryRow.of(name, "placebo, points: doubly robust", in_points(found.effects.before[ROBUST])))
        rows.append(SummaryRow.of(
            name, f"spend, {found.part.unit}: doubly robust", found.effects.spend[ROBUST], truth=found.truth("spend")
        ))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
