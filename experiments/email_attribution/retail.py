"""Online Retail, with simulated e-mails on top of its real purchases, so that what an e-mail brings is known.

Every Wednesday from 9 March to 30 November 2011 is the first day of a mailing. Its list is closed a week before, on day
d, and each customer who has bought before d is on it with probability

    logit e = −0.2 − 0.5 ln(recency) + 0.12 ln(1 + spend of 30 days) + 0.5 ln(1 + purchases of 90 days),

all of it as the shop sees it at d, purchases that earlier e-mails brought included. The mail arrives at 18:00 on the
evening before. It brings one further order on one of the three days that follow, each as likely, with probability q:
1.2% where the last purchase is at most 60 days before d, 0.4% beyond. The order is worth what the customer's real
purchase days were worth on average before d. It brings nothing forward and has no effect on anything else.

With R for a real purchase within the three days and S for what was really spent, the effect of an e-mail on the
probability of a purchase is q (1 − R), and that on spend, counted up to £1,000, is q (min(S + a, 1000) − min(S, 1000)).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray

LEAD, WINDOW, CAP = 7, 3, 1_000.0  # days from list to mailing, days of effect, £ of spend that count
FIRST, LAST = "2011-03-09", "2011-11-30"
RECENT, Q_RECENT, Q_LAPSED = 60, 0.012, 0.004


@dataclass(frozen=True)
class Simulated:
    """E-mails, the orders they brought, and what each would bring.

    Attributes
    ----------
    emails : frame
        Columns customer, sent_at, starts_at: who got which mailing.
    orders : frame
        Columns customer, bought_at, amount: what the e-mails brought.
    rows : frame
        A row per customer and mailing: emailed, propensity, tau_purchase, tau_spend.
    """

    emails: pd.DataFrame
    orders: pd.DataFrame
    rows: pd.DataFrame = field(repr=False)

    def truth(self, outcome: str, estimand: str = "att") -> float:
        """The mean effect on ``"purchase"`` or ``"spend"`` of those e-mailed (att), of all (ate), by overlap (ato)."""
        e = self.rows["propensity"].to_numpy()
        weight = {"att": self.rows["emailed"].to_numpy(float), "ate": np.ones_like(e), "ato": e * (1 - e)}[estimand]
        return float(np.average(self.rows[f"tau_{outcome}"], weights=weight))


def history(spend: FloatArray, day: int) -> tuple[FloatArray, FloatArray, IntArray]:
    """Recency in days (inf before the first), spend of 30 days, purchases of 90, of purchases strictly before a day.

    Parameters
    ----------
    spend : float array of shape (customers, days)
    """
    bought = spend[:, :day] > 0
    last = np.where(bought.any(axis=1), day - 1 - np.argmax(bought[:, ::-1], axis=1), -np.inf)
    return day - last, spend[:, max(day - 30, 0) : day].sum(axis=1), bought[:, max(day - 90, 0) :].sum(axis=1)


def list_probability(recency: FloatArray, spend_30d: FloatArray, purchases_90d: IntArray) -> FloatArray:
    """P(on the list), the formula of the module's head."""
    logit = -0.2 - 0.5 * np.log(recency) + 0.12 * np.log1p(spend_30d) + 0.5 * np.log1p(purchases_90d)
    return 1 / (1 + np.exp(-logit))


def simulate_emails(purchases: pd.DataFrame, rng: np.random.Generator, *, effect: float = 1.0) -> Simulated:
    """Mailings on top of real purchases.

    Parameters
    ----------
    purchases : frame
        Columns customer, bought_at (midnights), amount: a row per customer and day with a purchase.
    rng : numpy Generator
    effect : float
        Factor on q; 0 for e-mails that bring nothing.
    """
    days = pd.date_range(purchases["bought_at"].min(), purchases["bought_at"].max())
    real = purchases.pivot_table(index="customer", columns="bought_at", values="amount", aggfunc="sum", fill_value=0.0)
    customers, real_spend = real.index.to_numpy(), real.reindex(columns=days, fill_value=0.0).to_numpy()
    seen = real_spend.copy()
    rows, orders = [], []
    for start in pd.date_range(FIRST, LAST, freq="7D"):
        at = int(days.get_loc(start))
        recency, spend_30d, purchases_90d = history(seen, at - LEAD)
        known = np.flatnonzero(np.isfinite(recency))
        score = list_probability(recency[known], spend_30d[known], purchases_90d[known])
        emailed = rng.random(len(known)) < score
        q = effect * np.where(recency[known] <= RECENT, Q_RECENT, Q_LAPSED)
        bring = emailed & (rng.random(len(known)) < q)
        day = at + rng.integers(0, WINDOW, len(known))
        amount = _usual(real_spend, at - LEAD)[known]
        seen[known[bring], day[bring]] += amount[bring]
        within = real_spend[known, at : at + WINDOW].sum(axis=1)
        rows.append(pd.DataFrame({
            "customer": customers[known], "starts_at": start, "emailed": emailed.astype(int), "propensity": score,
            "tau_purchase": q * (within == 0),
            "tau_spend": q * (np.minimum(within + amount, CAP) - np.minimum(within, CAP)),
        }))  # fmt: skip
        orders.append(pd.DataFrame({
            "customer": customers[known[bring]], "bought_at": days[day[bring]], "amount": amount[bring],
        }))  # fmt: skip
    table = pd.concat(rows, ignore_index=True)
    emails = table.loc[table["emailed"] == 1, ["customer", "starts_at"]].reset_index(drop=True)
    emails.insert(1, "sent_at", emails["starts_at"] - pd.Timedelta(hours=6))
    return Simulated(emails, pd.concat(orders, ignore_index=True), table)


def _usual(spend: FloatArray, day: int) -> FloatArray:
    """What a customer's purchase days were worth on average before a day; 0 without any."""
    count = (spend[:, :day] > 0).sum(axis=1)
    return spend[:, :day].sum(axis=1) / np.maximum(count, 1)
