"""``causalrec report``: tables, pages and errors; what a run says of its log."""

from __future__ import annotations

import html
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from causalrec.config import parse_config
from causalrec.datasets import simulate_channels, simulate_marketplace
from causalrec.engines import LocalEngine
from causalrec.exceptions import CausalRecError, ColumnError, ConfigError, DatasetError
from causalrec.journeys import daily_active_users
from causalrec.pipelines.display_reports import print_log_report
from causalrec.pipelines.log_quality import examine_log, quality_section
from causalrec.pipelines.progress import SilentReporter
from causalrec.pipelines.reports import REPORTS, write_log_report
from causalrec.results.attribution import ASSUMED

NEEDED = {
    "revenue": {"segment": "event_type"},
    "funnel": {"variant": "variant", "control": "top_sellers"},
    "dau": {"variant": "variant"},
    "quality": {"event_type": "event_type"},
}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    place, (shop, _) = tmp_path_factory.mktemp("market"), simulate_marketplace(200, 30, random_state=1)
    for name, frame in shop.tables().items():
        frame.to_parquet(place / f"{name}.parquet")
    shop.events.to_csv(place / "events.csv", index=False)
    return SimpleNamespace(place=place, shop=shop)


def made(market: SimpleNamespace, name: str, data: str = "events.parquet", **options: object):
    if name in ("dau", "funnel"):
        options = {"attributes": market.place / "experiment.parquet", **options}
    return write_log_report(name, market.place / data, reporter=SilentReporter(), **{**NEEDED.get(name, {}), **options})


@pytest.mark.parametrize("name", ["dau", "funnel", "retention", "revenue", "quality"])
def test_every_report_is_shown_as_a_table_and_a_page(market, tmp_path, name):
    found = made(market, name, output=tmp_path / "new" / "page.html")
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert REPORTS[name].question in page
    assert ("data:image/png" in page) == (REPORTS[name].figure is not None)
    console = Console(width=90, record=True)
    print_log_report(found, console)
    text = console.export_text()
    assert "written to" in text
    assert all(len(line) <= 90 for line in text.splitlines() if line.startswith(("│", "┃")))
    made(market, name, output=tmp_path / "all.csv")
    made(market, name, output=tmp_path / "all.parquet")
    whole = pd.read_parquet(tmp_path / "all.parquet")
    assert list(pd.read_csv(tmp_path / "all.csv").columns) == list(whole.columns)
    assert len(whole) == len(found.result.to_frame())


def test_csv_and_parquet_agree_with_the_function(market):
    ours = daily_active_users(market.shop.events, variant="variant", attributes=market.shop.experiment)
    for data in ("events.parquet", "events.csv"):
        pd.testing.assert_frame_equal(made(market, "dau", data).result.to_frame(), ours.to_frame())


def test_credit_and_attribution_are_at_hand(market, tmp_path):
    touches = market.shop.events.rename(columns={"event_type": "kind"})
    touches["channel"] = np.where(touches["user_id"] % 2 == 0, "e-mail", "search")
    touches.to_parquet(tmp_path / "log.parquet")
    found = write_log_report(
        "credit", tmp_path / "log.parquet", event_type="kind", output=tmp_path / "page.html", reporter=SilentReporter()
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "does not say what a channel caused" in page
    assert "How it was made" not in page
    assert "channel  first touch" not in page  # the table of the text is a table of the page
    console = Console(width=80, record=True)
    print_log_report(found, console)
    assert "does not say what a channel caused" in console.export_text()


def test_attribution_says_what_it_rests_on_and_fits_a_terminal(tmp_path):
    logs, _ = simulate_channels(1_000, random_state=0)
    paths = {name: tmp_path / f"{name}.parquet" for name in logs.tables()}
    for name, table in logs.tables().items():
        table.to_parquet(paths[name])
    found = write_log_report(
        "attribution", paths["touches"], conversions=paths["conversions"], attributes=paths["users"],
        covariates=["loyalty", "visits"], start=str(logs.period_start), end=str(logs.period_end),
        method="aipw_parametric", output=tmp_path / "page.html", reporter=SilentReporter(),
    )  # fmt: skip
    console = Console(width=80, record=True)
    print_log_report(found, console)
    lines = console.export_text().splitlines()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for assumption in ASSUMED:
        assert f"- {assumption}" in lines
        assert html.escape(assumption, quote=False).replace("'", "&#39;") in page
    table = [line for line in lines if line.startswith(("│", "┃"))]
    assert {len(line) for line in table} <= set(range(81))
    assert all(channel in "".join(table) for channel in found.result.channels)
    assert "caused" in table[0]
    assert "last touch" in table[0]
    assert any(line.startswith("not shown: ") for line in lines)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("dau", {"output": Path("page.pdf")}, ConfigError, ".html, .csv, .parquet"),
        ("dau", {"user": "usr_id"}, ColumnError, "user_id"),
        ("funnel", {"steps": ["view", "buy"]}, ColumnError, "no event is a 'view'"),
        ("retention", {"days": [0]}, CausalRecError, "1 or more"),
        ("revenue", {"data": "nothing.parquet"}, DatasetError, "no such file"),
        ("quality", {"now": "soon"}, CausalRecError, "now is 'soon'"),
    ],
)
def test_errors_leave_nothing(market, tmp_path, name, options, error, words):
    with pytest.raises(error, match=words):
        made(market, name, **{"output": tmp_path / "page.html", **options})
    assert list(tmp_path.iterdir()) == []


def log_config(**quality: object):
    return parse_config({
        "name": "q", "data": {"source": "files", "tables": {"events": "x"}}, "events": {"table": "events"},
        "quality": quality,
    })  # fmt: skip


def test_a_run_counts_and_by_default_changes_nothing(market):
    events = pd.concat([market.shop.events, market.shop.events.head(3)])
    with LocalEngine() as engine:
        engine.register("events", events)
        results, notes = examine_log(log_config(), engine)
        assert list(results) == ["quality"]
        assert results["quality"].n_duplicate == 3
        assert any(note.startswith("events: copies of another event: 3 events") for note in notes)
        assert len(engine.collect("SELECT * FROM events")) == len(events)
        assert "copies of another event" in " ".join(quality_section(results).text)

        results, notes = examine_log(log_config(duplicates="drop"), engine)
        assert results["cleaning"].n_kept == len(market.shop.events)
        assert notes[-1].endswith("dropped 3 by duplicates")
        assert len(engine.collect("SELECT * FROM events")) == len(market.shop.events)

        with pytest.raises(CausalRecError, match="bot-like"):
            examine_log(log_config(bots="error", per_day=1), engine)
        assert examine_log(log_config(enabled=False), engine) == ({}, [])
    assert quality_section({}) is None
