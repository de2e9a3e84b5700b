"""E-mails and purchases on Spark: sums and errors against statsmodels, rows by hand, the simulated truth, and a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.email_attribution import retail
from experiments.email_attribution.drivers import Model, Scale, by_decile, prepare, with_errors
from experiments.email_attribution.grid import covariates, daily_rows, mailing_rows
from experiments.email_attribution.run import main
from experiments.email_attribution.sums import clustered_covariance, gram
from experiments.email_attribution.tables import Part


def _purchases(n_customers: int = 60, seed: int = 3) -> pd.DataFrame:
    """A purchase on a day of 2010-12-01 to 2011-12-08 with probability 3%, more for the first customers."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2010-12-01", "2011-12-08")
    rate = np.linspace(0.08, 0.005, n_customers)[:, None]
    customer, day = np.nonzero(rng.random((n_customers, len(days))) < rate)
    amount = np.round(rng.gamma(2, 150, len(day)), 2) + 1
    return pd.DataFrame({"customer": customer, "bought_at": days[day].astype("datetime64[us]"), "amount": amount})


@pytest.fixture(scope="module")
def simulated() -> tuple[pd.DataFrame, retail.Simulated]:
    purchases = _purchases()
    return purchases, retail.simulate_emails(purchases, np.random.default_rng(1), effect=20.0)


@pytest.fixture(scope="module")
def tables(spark_session: Any) -> Iterator[tuple[Any, Part, pd.DataFrame, pd.DataFrame]]:
    """An engine with three customers whose rows are known by hand."""
    from causalrec.engines import SparkEngine

    def at(texts: list[str]) -> pd.Series:
        return pd.Series(pd.to_datetime(texts)).astype("datetime64[us]")

    purchases = pd.DataFrame({
        "customer": [1, 1, 1, 1, 2, 2],
        "bought_at": at(["2011-03-01", "2011-03-05", "2011-03-09", "2011-03-12", "2011-01-15", "2011-03-08"]),
        "amount": [10.0, 20.0, 30.0, 40.0, 7.0, 9.0],
    })  # fmt: skip
    emails = pd.DataFrame({
        "customer": [1, 2], "sent_at": at(["2011-03-08 18:00", "2011-03-15 18:00"]),
        "starts_at": at(["2011-03-09", "2011-03-16"]),
    })  # fmt: skip
    part = Part(
        "by hand", "2011-03-09", "2011-03-20", "2011-03-08", "2011-03-10", 7, 3, 25.0, "£", (), False, pd.DataFrame()
    )
    with SparkEngine(session=spark_session) as engine:
        engine.register("purchases", purchases)
        engine.register("emails", emails)
        engine.register("customers", pd.DataFrame({"customer": [1, 2, 3]}))
        yield engine, part, purchases, emails


@pytest.mark.slow
@pytest.mark.spark
def test_days_by_hand(tables: Any) -> None:
    """Strictly before; e-mails of the last three days; days without any sale and unknown customers left out."""
    engine, part, *_ = tables
    daily_rows(engine, part)
    found = engine.collect("SELECT * FROM daily ORDER BY customer, event_time")
    assert sorted({str(t.date()) for t in found["event_time"]}) == ["2011-03-08", "2011-03-09", "2011-03-12"]
    assert set(found["customer"]) == {1, 2}
    first = found[found["customer"] == 1].set_index("event_time")
    assert first["emailed_3d"].tolist() == [0, 1, 0]  # sent 8 March 18:00: days 9, 10 and 11
    assert np.exp(first["log_recency"]).round(9).tolist() == [3, 4, 3]
    assert np.expm1(first["log_spend_30d"]).round(9).tolist() == [30, 30, 60]
    assert np.expm1(first["log_purchases_90d"]).round(9).tolist() == [2, 2, 3]
    assert first["bought"].tolist() == [0, 1, 1]
    assert first["spend"].tolist() == [0, 30, 40]
    assert first[["Tuesday", "Wednesday", "Saturday"]].to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.slow
@pytest.mark.spark
def test_mailings_by_hand(tables: Any) -> None:
    """What was known when the list was closed, a week before; three days after and three before; spend up to £25."""
    engine, part, *_ = tables
    mailing_rows(engine, part)
    found = engine.collect("SELECT * FROM mailings ORDER BY mailing, customer")
    columns = ["mailing", "customer", "emailed", "purchase", "before_purchase", "change", "spend", "before_spend"]
    assert found[columns].to_numpy().tolist() == [
        ["2011-03-09", 1, 1, 1, 0, 1, 25.0, 0.0],  # 30 on the 9th itself counts, up to 25; the 5th is too early
        ["2011-03-09", 2, 0, 0, 1, -1, 0.0, 9.0],
        ["2011-03-16", 1, 0, 0, 0, 0, 0.0, 0.0],
        ["2011-03-16", 2, 1, 0, 0, 0, 0.0, 0.0],
    ]
    assert np.exp(found["log_recency"]).round(9).tolist() == [1, 46, 4, 1]
    assert covariates(part) == ("log_recency", "log_spend_30d", "log_purchases_90d", "mailing")


def test_history_by_hand() -> None:
    spend = np.zeros((2, 100))
    spend[0, [5, 69, 70, 99]] = 1.0, 2.0, 4.0, 8.0
    recency, spend_30d, purchases_90d = retail.history(spend, 99)
    assert recency.tolist() == [29, np.inf]
    assert spend_30d.tolist() == [6, 0]
    assert purchases_90d.tolist() == [2, 0]


def test_truth_by_what_happens(simulated: tuple[pd.DataFrame, retail.Simulated]) -> None:
    """The planted effect against purchases of many draws of the orders, with and without e-mails' orders."""
    purchases, one = simulated
    rows = one.rows
    real = set(map(tuple, purchases[["customer", "bought_at"]].itertuples(index=False, name=None)))
    got = rows[rows["emailed"] == 1]
    within = [any((c, s + pd.Timedelta(days=d)) in real for d in range(3)) for c, s in
              got[["customer", "starts_at"]].itertuples(index=False, name=None)]  # fmt: skip
    assert (got["tau_purchase"].to_numpy() == 0).tolist() == within
    assert set(np.round(got["tau_purchase"], 12)) <= {0.0, 20 * retail.Q_RECENT, 20 * retail.Q_LAPSED}
    assert one.truth("purchase") == pytest.approx(got["tau_purchase"].mean())
    assert one.truth("purchase", "ate") == pytest.approx(rows["tau_purchase"].mean())
    brought = len(one.orders) / len(got)  # 20 times 0.4 to 1.2% of the e-mails
    assert abs(brought - 20 * (retail.Q_RECENT + retail.Q_LAPSED) / 2) < 0.12


def test_emails_that_bring_nothing_change_nothing() -> None:
    found = retail.simulate_emails(_purchases(), np.random.default_rng(1), effect=0.0)
    assert len(found.orders) == 0
    assert found.truth("purchase") == found.truth("spend") == 0.0
    assert (found.emails["starts_at"] - found.emails["sent_at"] == pd.Timedelta(hours=6)).all()


def test_the_order_of_purchases_does_not_matter() -> None:
    purchases = _purchases()
    once, again = (
        retail.simulate_emails(frame, np.random.default_rng(1))
        for frame in (purchases, purchases.sample(frac=1, random_state=0))
    )
    pd.testing.assert_frame_equal(once.rows, again.rows)
    pd.testing.assert_frame_equal(once.orders, again.orders)


@pytest.fixture(scope="module")
def days() -> pd.DataFrame:
    """Customers' days with a purchase that depends on columns of very different scale, and on the customer."""
    rng = np.random.default_rng(5)
    n, customers = 4_000, 150
    customer = rng.integers(0, customers, n)
    a, b = rng.normal(1_000, 200, n), (rng.random(n) < 0.2).astype(int)
    logit = -1 + 0.003 * (a - 1_000) + 0.5 * b + 0.6 * rng.normal(size=customers)[customer]
    bought = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    spend = np.exp(3 + 0.001 * a - 0.3 * b + rng.normal(size=n)) * bought
    time = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 50, n), unit="D")
    return pd.DataFrame({
        "customer": customer, "event_time": time.astype("datetime64[us]"), "a": a, "b": b, "still": 1, "bought": bought,
        "spend": spend, "late": (time >= "2025-02-01").astype(int),
    })  # fmt: skip


@pytest.mark.slow
@pytest.mark.spark
def test_models_and_errors_equal_statsmodels(days: pd.DataFrame, spark_session: Any) -> None:
    sm = pytest.importorskip("statsmodels.api")
    from causalrec.engines import SparkEngine

    with SparkEngine(session=spark_session) as engine:
        engine.register("days", days)
        ready = prepare(engine.frame("SELECT * FROM days"), ["a", "b", "still", "late"], "2025-02-01")
        assert ready.scale.names == ("a", "b", "late")
        assert ready.left_out == ("late",)
        z = days[["a", "b", "late"]]
        x = sm.add_constant((z - z.mean()) / z.std(ddof=0))
        likelihood = with_errors(ready.rows, "bought", kind="logistic", scale=ready.scale)
        for model, expected in (
            (likelihood, sm.Logit(days["bought"], x).fit(
                disp=0, tol=1e-12, cov_type="cluster", cov_kwds={"groups": days["customer"]})),
            (with_errors(ready.rows.where("amount IS NOT NULL"), "amount", kind="linear", scale=ready.scale),
             sm.OLS(np.log(days["spend"][days["bought"] == 1]), x[days["bought"] == 1]).fit(
                 cov_type="cluster", cov_kwds={"groups": days["customer"][days["bought"] == 1]})),
        ):  # fmt: skip
            error = np.asarray(expected.bse)
            np.testing.assert_allclose([model.intercept, *model.coefficients], expected.params, atol=1e-4 * error.max())
            np.testing.assert_allclose(np.sqrt(np.diag(model.covariance)), error, rtol=1e-4)
            assert model.n_customers == days["customer"][days["bought"] == 1].nunique() or model.kind == "logistic"
        np.testing.assert_allclose(likelihood.spread, np.corrcoef(z.T), atol=1e-9)
        judged = ready.judge(ready.rows, "bought", kind="logistic")
        late = days["late"] == 1
        early = sm.Logit(days["bought"][~late], x.loc[~late, ["const", "a", "b"]]).fit(disp=0, tol=1e-12)
        p = early.predict(x.loc[late, ["const", "a", "b"]])
        table = by_decile(judged, bins=4)
        quarter = pd.qcut(-p, 4, labels=False)
        np.testing.assert_allclose(table["observed"], days["bought"][late].groupby(quarter).mean(), atol=0.02)
        np.testing.assert_allclose(table["predicted"], p.groupby(quarter).mean(), atol=1e-3)
        assert int(table["n"].sum()) == int(late.sum())
        sales = days["bought"] == 1
        of_early = sm.OLS(np.log(days["spend"][sales & ~late]), x.loc[sales & ~late, ["const", "a", "b"]]).fit()
        expected_log = of_early.predict(x.loc[sales & late, ["const", "a", "b"]])
        table = by_decile(ready.judge(ready.rows.where("amount IS NOT NULL"), "amount", kind="linear"), bins=2)
        np.testing.assert_allclose(np.average(table["predicted"], weights=table["n"]), expected_log.mean(), rtol=1e-9)
        ready.rows.unpersist()


@pytest.mark.spark
def test_sums_equal_numpy(days: pd.DataFrame, spark_session: Any) -> None:
    from causalrec.engines import SparkEngine

    x, u = days[["a", "b"]].to_numpy(float), days["bought"].to_numpy(float) - 0.3
    with SparkEngine(session=spark_session) as engine:
        engine.register("days", days)
        frame = engine.frame("SELECT * FROM days")
        np.testing.assert_allclose(gram(frame, ["a", "b"], "2e0"), 2 * x.T @ x, rtol=1e-12)
        found, groups = clustered_covariance(
            frame, ["a", "b"], residual="bought - 0.3D", weight="1e0", cluster="customer"
        )
    scores = pd.DataFrame(x * u[:, None]).groupby(days["customer"].to_numpy()).sum().to_numpy()
    bread = np.linalg.inv(x.T @ x)
    n = len(days)
    expected = groups / (groups - 1) * (n - 1) / (n - 2) * bread @ scores.T @ scores @ bread
    assert groups == days["customer"].nunique()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_part_of_a_group_is_a_standard_deviation() -> None:
    """√(bᵀRb) is that of what the group's columns add, and its error that of its coefficients on the direction."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5_000, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]])
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    b = np.array([0.1, 0.4, -0.2])
    names = ("emailed_3d", "log_recency", "log_spend_30d")
    covariance = np.diag([0.0, 0.01, 0.04, 0.04])
    model = Model("logistic", Scale(names, np.zeros(3), np.ones(3)), 0.0, b, covariance, np.corrcoef(z.T), 1, 1)
    spread = model.group_spread()
    assert spread["e-mail"] == pytest.approx((0.1, 0.1))
    size, error = spread["recency and habit"]
    assert size == pytest.approx((z[:, 1:] @ b[1:]).std(), rel=1e-9)
    nudged = [np.sqrt((b[1:] + d) @ np.corrcoef(z[:, 1:].T) @ (b[1:] + d)) for d in 1e-6 * np.eye(2)]
    assert error == pytest.approx(0.2 * np.hypot(*(np.array(nudged) - size)) / 1e-6, rel=1e-4)


@pytest.mark.slow
@pytest.mark.spark
def test_a_quick_run_of_the_study(
    data_dir: Path, spark_java: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = main(["--quick", "--output", str(tmp_path), "--tracking", "off"])
    retail_part = found["retail"]
    truth = retail_part.truth("purchase")
    robust = retail_part.effects.purchase["doubly robust"]
    assert abs(robust.estimate - truth) < 3 * robust.std_error
    assert retail_part.effects.purchase["no adjustment"].estimate > 3 * truth
    placebo = retail_part.effects.before["doubly robust"]
    assert abs(placebo.estimate) < 3 * placebo.std_error
    assert retail_part.part.simulated is not None
    assert retail_part.mailed["customers"].sum() == len(retail_part.part.simulated.rows)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Conclusions" in capsys.readouterr().out
    assert "Hold out a tenth of every list by lot" in page
