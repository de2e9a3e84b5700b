"""Raw files to the three tables that both parts share, on Spark: purchases by day, e-mails, customers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec.datasets import load_dataset
from causalrec.engines import Engine
from experiments.email_attribution import retail

KEY, SENT, STARTS, BOUGHT, AMOUNT = "customer", "sent_at", "starts_at", "bought_at", "amount"


@dataclass(frozen=True)
class Part:
    """Tables ``purchases``, ``emails`` and ``customers`` of an engine, and what the analysis of them needs to know.

    Attributes
    ----------
    name : str
    start, end : str
        Mailings from ``start`` on; no event from ``end`` on counts.
    grid_start, split : str
        The daily grid begins at the one and ends before ``end``; the test of its models begins at the other.
    lead, window : int
        Days from the list of a mailing to its first day; days after it (and, for the placebo, before it) that count.
    cap : float
        Spend of a window beyond which is not counted.
    unit : str
        Of money.
    household : tuple of str
        0/1 columns of ``customers``.
    redemptions : bool
        Whether there is a table ``redemptions``.
    steps : frame
        Rows of each raw table and of what it became.
    simulated : Simulated, optional
        The truth.
    """

    name: str
    start: str
    end: str
    grid_start: str
    split: str
    lead: int
    window: int
    cap: float
    unit: str
    household: tuple[str, ...]
    redemptions: bool
    steps: pd.DataFrame = field(repr=False)
    simulated: retail.Simulated | None = field(default=None, repr=False)


def keep(engine: Engine, name: str, sql: str) -> Any:
    """The result of a query as a table that Spark computes now, and whose plan is no more than its rows; the DataFrame.

    A table that is only persisted carries the plans of all that it came from into each later query, which Spark
    compares with every other table that it keeps.
    """
    frame = engine.frame(sql).localCheckpoint()
    engine.register(name, frame)
    return frame


def share_of(column: str, share: float) -> str:
    """SQL that holds for a share of the customers, whatever the order of rows."""
    return "TRUE" if share >= 1 else f"pmod(xxhash64(CAST({column} AS STRING)), 1000) < {round(1000 * share)}"


def read_journey(engine: Engine, directory: Path, *, share: float = 1.0) -> Part:
    """Complete Journey: households, a sample of their receipts' lines, and the campaigns that were mailed to them.

    An e-mail is a campaign that a household was part of; it is taken to have arrived in the evening before its first
    day. Demographics are known for a third of the households.
    """
    files = {"lines": "transactions_sample", "members": "campaigns", "campaigns": "campaign_descriptions",
             "coupons_used": "coupon_redemptions", "profiles": "demographics"}  # fmt: skip
    for name, file in files.items():
        engine.register(name, directory / f"{file}.parquet")
    chosen = share_of("household_id", share)
    keep(
        engine, "purchases",
        f"SELECT household_id AS {KEY}, CAST(date_trunc('DAY', transaction_timestamp) AS TIMESTAMP_NTZ) AS {BOUGHT}, "
        f"SUM(sales_value) AS {AMOUNT} FROM lines WHERE {chosen} GROUP BY 1, 2 HAVING SUM(sales_value) > 0",
    )  # fmt: skip
    starts = "CAST(CAST(c.start_date AS DATE) AS TIMESTAMP_NTZ)"
    keep(
        engine, "emails",
        f"SELECT m.household_id AS {KEY}, {starts} - INTERVAL '6' HOUR AS {SENT}, {starts} AS {STARTS}, "
        f"c.campaign_id AS campaign, c.campaign_type AS kind FROM members m "
        f"JOIN campaigns c ON c.campaign_id = m.campaign_id WHERE {chosen}",
    )  # fmt: skip
    keep(
        engine, "customers",
        f"SELECT k.{KEY}, CAST(p.household_id IS NOT NULL AS INT) AS has_profile, "
        "CAST(COALESCE(p.age IN ('55-64', '65+'), FALSE) AS INT) AS aged_55_up, "
        "CAST(COALESCE(p.income IN ('75-99K', '100-124K', '125-149K', '150-174K', '175-199K', '200-249K', '250K+'), "
        "FALSE) AS INT) AS income_75k_up, "
        "CAST(COALESCE(p.household_size IN ('3', '4', '5+'), FALSE) AS INT) AS three_or_more "
        f"FROM (SELECT DISTINCT {KEY} FROM purchases) k LEFT JOIN profiles p ON p.household_id = k.{KEY}",
    )  # fmt: skip
    keep(
        engine, "redemptions",
        f"SELECT household_id AS {KEY}, CAST(CAST(redemption_date AS DATE) AS TIMESTAMP_NTZ) AS redeemed_at, "
        f"campaign_id AS campaign FROM coupons_used WHERE {chosen}",
    )  # fmt: skip
    raw = ("lines", "purchases", "members", "emails", "profiles", "customers", "coupons_used", "redemptions")
    return Part(
        "Complete Journey", "2017-04-01", "2017-12-31", "2017-06-01", "2017-10-15", 14, 14, np.inf, "$",
        ("has_profile", "aged_55_up", "income_75k_up", "three_or_more"), True, _rows(engine, raw),
    )  # fmt: skip


def read_retail(engine: Engine, data_dir: Path | None, rng: np.random.Generator, *, share: float = 1.0) -> Part:
    """Online Retail: real purchases of a wholesaler's customers, and e-mails that are simulated on top of them.

    Cancelled, free and nameless lines are left out. Only the sums by customer and day come to the driver, for the
    simulation; what it makes goes back to Spark as two raw tables.
    """
    engine.register("lines", load_dataset("online_retail", data_dir).path)
    day = "CAST(date_trunc('DAY', InvoiceDate) AS TIMESTAMP_NTZ)"
    keep(
        engine, "real_purchases",
        f"SELECT CAST(CustomerID AS BIGINT) AS {KEY}, {day} AS {BOUGHT}, SUM(Quantity * UnitPrice) AS {AMOUNT} "
        "FROM lines WHERE CustomerID IS NOT NULL AND Quantity > 0 AND UnitPrice > 0 AND NOT InvoiceNo LIKE 'C%' "
        f"AND {share_of('CAST(CustomerID AS BIGINT)', share)} GROUP BY 1, 2",
    )  # fmt: skip
    real = engine.collect(f"SELECT * FROM real_purchases ORDER BY {KEY}, {BOUGHT}")
    simulated = retail.simulate_emails(real, rng)
    engine.register("emails", simulated.emails)
    engine.register("brought", simulated.orders)
    keep(
        engine, "purchases",
        f"SELECT {KEY}, {BOUGHT}, SUM({AMOUNT}) AS {AMOUNT} FROM (SELECT {KEY}, {BOUGHT}, {AMOUNT} FROM real_purchases "
        f"UNION ALL SELECT {KEY}, {BOUGHT}, {AMOUNT} FROM brought) GROUP BY 1, 2",
    )  # fmt: skip
    keep(engine, "customers", f"SELECT DISTINCT {KEY} FROM purchases")
    raw = ("lines", "real_purchases", "emails", "brought", "purchases", "customers")
    return Part(
        "Online Retail, simulated e-mails", retail.FIRST, "2011-12-09", "2011-06-01", "2011-10-01", retail.LEAD,
        retail.WINDOW, retail.CAP, "£", (), False, _rows(engine, raw), simulated,
    )  # fmt: skip


def _rows(engine: Engine, names: tuple[str, ...]) -> pd.DataFrame:
    counts = engine.collect(" UNION ALL ".join(f"SELECT '{n}' AS t, COUNT(*) AS n FROM {n}" for n in names))
    return pd.DataFrame({"table": list(names), "rows": counts.set_index("t")["n"].loc[list(names)].to_numpy()})
