"""The customer-day grid, and the rows of mailings: features strictly before, outcomes after, both on Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from causalrec.engines import Engine
from causalrec.features import Aggregation, AttributeFeatures, CalendarFeatures, FeatureSet, FeatureStore, daily_grid
from experiments.email_attribution.tables import AMOUNT, BOUGHT, KEY, SENT, STARTS, Part, keep

HISTORY = ("log_recency", "log_spend_30d", "log_purchases_90d")
WEEKDAYS = ("Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CALENDAR = (*WEEKDAYS, "month_end", "December")
EMAIL = "emailed_3d"
_LOGS = {
    "log_recency": "ln(recency)", "log_spend_30d": "ln(1 + spend_30d)", "log_purchases_90d": "ln(1 + purchases_90d)",
}  # fmt: skip


def feature_sets(part: Part) -> list[Any]:
    """What is known of a customer at a time, from events strictly before it."""
    sets: list[Any] = [
        FeatureSet("purchases", (KEY,), "purchases", BOUGHT, (
            Aggregation("recency", name="recency"), Aggregation("sum", AMOUNT, "30d", name="spend_30d"),
            Aggregation("count", window="90d", name="purchases_90d"),
        )),
        FeatureSet("emails", (KEY,), "emails", SENT, (
            Aggregation("count", window="3d", name="emails_3d"), Aggregation("count", window="90d", name="emails_90d"),
        )),
    ]  # fmt: skip
    if part.redemptions:
        redeemed = Aggregation("count", window="90d", name="redeemed_90d")
        sets.append(FeatureSet("redemptions", (KEY,), "redemptions", "redeemed_at", (redeemed,)))
    if part.household:
        sets.append(AttributeFeatures("household", (KEY,), "customers", part.household))
    return sets


def outcomes(days: int, prefix: str = "") -> FeatureSet:
    """Purchases and spend of the days that begin at the time asked about."""
    window = f"{days}d"
    return FeatureSet(f"{prefix}outcome", (KEY,), "purchases", BOUGHT, (
        Aggregation("count", window=window, name=f"{prefix}purchases"),
        Aggregation("sum", AMOUNT, window, name=f"{prefix}spend"),
    ))  # fmt: skip


def extra_columns(part: Part) -> tuple[str, ...]:
    """0/1 columns of the household and of its coupons, where a part has them."""
    return (*(("redeemed",) if part.redemptions else ()), *part.household)


def daily_rows(engine: Engine, part: Part) -> Any:
    """Every customer on every day: who has bought before, on days on which the shop sold anything.

    Columns: customer, event_time, the models' columns (:data:`EMAIL`, :data:`HISTORY`, :data:`CALENDAR`,
    :func:`extra_columns`), bought (0/1) and spend of the day.
    """
    store = FeatureStore(engine)
    grid = daily_grid("customers", part.grid_start, part.end, key=KEY, engine=engine)
    calendar = CalendarFeatures("calendar", parts=("weekday", "day_of_month", "month"))
    wide = store.training_frame(grid, [*feature_sets(part), calendar])
    engine.register("wide", store.outcome_frame(wide, outcomes(1)))
    columns = [
        KEY, "event_time", f"CAST(emails_3d > 0 AS INT) AS {EMAIL}", *_history(),
        *(f"CAST(weekday = {n} AS INT) AS {name}" for n, name in enumerate(WEEKDAYS, start=2)),
        "CAST(day(last_day(CAST(event_time AS DATE))) - day_of_month < 3 AS INT) AS month_end",
        "CAST(month = 12 AS INT) AS December", *_extra(part), "CAST(purchases > 0 AS INT) AS bought", "spend",
    ]  # fmt: skip
    return keep(
        engine, "daily",
        f"SELECT {', '.join(columns)} FROM wide WHERE recency IS NOT NULL "
        f"AND event_time IN (SELECT DISTINCT {BOUGHT} FROM purchases)",
    )  # fmt: skip


def mailing_rows(engine: Engine, part: Part) -> Any:
    """A row per customer and mailing: what was known when its list was closed, who got it, what came after and before.

    Columns: customer, starts_at, mailing (its date, a text), emailed (0/1), covariates as of ``lead`` days before;
    purchase (0/1) and spend within ``window`` days from the first day on; before_purchase, before_spend within as many
    days before it; change, purchase less before_purchase.
    """
    first = f"CAST('{part.start}' AS TIMESTAMP_NTZ)"
    last = f"CAST('{part.end}' AS TIMESTAMP_NTZ)"
    spine = engine.frame(
        f"SELECT k.{KEY}, d.{STARTS}, d.{STARTS} - INTERVAL '{part.lead}' DAY AS listed_at, "
        f"d.{STARTS} - INTERVAL '{part.window}' DAY AS before_at FROM customers k CROSS JOIN "
        f"(SELECT DISTINCT {STARTS} FROM emails WHERE {STARTS} >= {first} AND "
        f"{STARTS} + INTERVAL '{part.window}' DAY <= {last}) d"
    )
    store = FeatureStore(engine)
    wide = store.training_frame(spine, feature_sets(part), event_time="listed_at")
    wide = store.outcome_frame(wide, outcomes(part.window), event_time=STARTS)
    wide = store.outcome_frame(wide, outcomes(part.window, "before_"), event_time="before_at")
    engine.register("mailed", wide)
    cap = "" if part.cap == float("inf") else f", {part.cap}e0"
    amounts = ("LEAST({c}{cap})" if cap else "{c}").format
    columns = [
        f"w.{KEY}", f"w.{STARTS}", f"date_format(w.{STARTS}, 'yyyy-MM-dd') AS mailing",
        f"CAST(e.{KEY} IS NOT NULL AS INT) AS emailed", *_history(), "CAST(emails_90d AS DOUBLE) AS emails_90d",
        *_extra(part), "CAST(purchases > 0 AS INT) AS purchase", f"{amounts(c='spend', cap=cap)} AS spend",
        "CAST(before_purchases > 0 AS INT) AS before_purchase",
        f"{amounts(c='before_spend', cap=cap)} AS before_spend",
        "CAST(purchases > 0 AS INT) - CAST(before_purchases > 0 AS INT) AS change",
    ]  # fmt: skip
    return keep(
        engine, "mailings",
        f"SELECT {', '.join(columns)} FROM mailed w LEFT JOIN (SELECT DISTINCT {KEY}, {STARTS} FROM emails) e "
        f"ON e.{KEY} = w.{KEY} AND e.{STARTS} = w.{STARTS} WHERE recency IS NOT NULL",
    )  # fmt: skip


def covariates(part: Part) -> Sequence[str]:
    """What the estimates of an e-mail's effect adjust for."""
    return (*HISTORY, *(("emails_90d",) if part.redemptions else ()), *extra_columns(part), "mailing")


def _history() -> list[str]:
    return [f"{sql} AS {name}" for name, sql in _LOGS.items()]


def _extra(part: Part) -> list[str]:
    redeemed = ["CAST(redeemed_90d > 0 AS INT) AS redeemed"] if part.redemptions else []
    return [*redeemed, *part.household]
