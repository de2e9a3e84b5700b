"""Features from the command line: what it writes, what it says, and what bad input gets."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

from causalrec import cli
from causalrec.features import read_features

DECLARATION = """
sources:
  events: {path: events.csv, time_column: at}
  items: {path: items.csv}
features:
  customer:
    keys: user
    source: events
    aggregations:
      - {op: count, window: [2d, all], name: seen}
      - {op: sum, column: price, window: 2d, name: spend_2d}
  item: {keys: item, source: items, attributes: [category]}
  when: {calendar: {parts: [hour, weekday]}}
"""
EVENTS = pd.DataFrame(
    {
        "user": [1, 2, 1, 1],
        "item": ["a", "b", "b", "a"],
        "at": ["2025-01-01 10:00:00", "2025-01-02 10:00:00", "2025-01-02 12:00:00", "2025-01-04 09:00:00"],
        "price": [1.5, 2.0, 3.0, 4.0],
    }
)
SPINE = pd.DataFrame(
    {
        "user": [2, 1, 3, 1],
        "item": ["b", "c", "a", "a"],
        "event_time": ["2025-01-03 00:00:00", "2025-01-02 12:00:01", "2025-01-03 23:00:00", "2025-01-01 00:00:00"],
    }
)
SPAN = ("--start", "2025-01-01", "--end", "2025-01-06")


class Shop:
    """A directory with a declaration and its tables, and the command line at work in it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def run(self, *arguments: str) -> tuple[object, str]:
        """The exit code and all that was said."""
        self.monkeypatch.setattr(sys, "argv", ["causalrec", "features", *arguments])
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def done(self, *arguments: str) -> str:
        code, said = self.run(*arguments)
        assert code == 0, said
        return said

    def refused(self, *arguments: str) -> str:
        code, said = self.run(*arguments)
        assert code == 2, said
        assert "Traceback" not in said
        assert "error: " in said
        return said


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "signal", lambda *_: before)
    Path("features.yaml").write_text(DECLARATION, encoding="utf-8")
    EVENTS.to_csv("events.csv", index=False)
    SPINE.to_csv("spine.csv", index=False)
    pd.DataFrame({"item": ["a", "b"], "category": ["x", "y"]}).to_csv("items.csv", index=False)
    return Shop(capsys, monkeypatch)


def test_from_a_declaration_to_days_to_a_table(shop: Shop) -> None:
    said = shop.done("materialize", *SPAN, "customer")
    assert re.search(r"customer\W+[0-9a-f]{8}\W+7\W+5\W+0\b", said)  # known on days 2, 3, 4 and 5: 1, 2, 2 and 2 keys
    again = shop.done("materialize", *SPAN, "customer")
    assert re.search(r"customer\W+[0-9a-f]{8}\W+7\W+0\W+5\b", again)
    said = shop.done("load", "customer", "-o", "out/customer.parquet", "--start", "2025-01-03")
    assert "the first of 6 rows" in said
    found = pd.read_parquet("out/customer.parquet")
    assert found["event_time"].astype(str).tolist() == [
        day for day in ("2025-01-03", "2025-01-04", "2025-01-05") for _ in range(2)
    ]
    assert found["user"].tolist() == [1, 2] * 3
    assert found["seen_2d"].tolist() == [2, 1, 1, 1, 1, 0]
    assert found["seen_all"].tolist() == [2, 1, 2, 1, 3, 1]
    assert found["spend_2d"].tolist() == [4.5, 2.0, 3.0, 2.0, 4.0, 0.0]


def test_all_that_has_keys_is_kept(shop: Shop) -> None:
    said = shop.done("materialize", *SPAN)
    assert re.search(r"item\W+[0-9a-f]{8}\W+10\W+5\W+0\b", said)
    assert "not kept, as they have no keys: 'when'" in said
    assert "causalrec features frame" in said


def test_given_keys_are_kept_on_all_days(shop: Shop) -> None:
    pd.DataFrame({"user": [1, 9]}).to_csv("keys.csv", index=False)
    shop.done("materialize", "customer", *SPAN, "--entities", "keys.csv", "--root", "other")
    shop.done("load", "customer", "-o", "kept.csv", "--root", "other")
    kept = pd.read_csv("kept.csv")
    assert kept["user"].tolist() == [1, 9] * 5
    assert kept.loc[kept["user"] == 9, "seen_all"].tolist() == [0] * 5


def test_the_list_and_a_version(shop: Shop) -> None:
    assert "nothing is kept in feature_store yet" in shop.done("list")
    shop.done("materialize", *SPAN)
    said = shop.done("list")
    assert re.search(r"customer\W+[0-9a-f]{8}\W+events\W+3\W+5\W+2025-01-01\W+2025-01-05\W+7\b", said)
    assert re.search(r"item\W+[0-9a-f]{8}\W+attributes\W+1\W+5\b", said)
    said = shop.done("show", "customer")
    assert re.search(r"spend_2d\W+double\W+sum\(price\) over 2d", said)
    assert "5 days, 2025-01-01 to 2025-01-05; 7 rows" in said
    assert "the first rows of 2025-01-05" in said


def test_two_versions_side_by_side(shop: Shop) -> None:
    shop.done("materialize", "customer", *SPAN)
    Path("features.yaml").write_text(DECLARATION.replace("window: 2d, name: spend_2d", "window: 1d, name: spend_2d"))
    shop.done("materialize", "customer", *SPAN)
    old, new = sorted(Path("feature_store/customer").glob("[!_.]*"), key=lambda p: p.stat().st_ctime)
    said = shop.done("diff", "customer", old.name, new.name[:6])
    assert "~ spend_2d: sum(price) over 2d → sum(price) over 1d; 3 of 7 rows differ, by 3 at most" in said
    assert "= seen_all; 0 of 7 rows differ" in said


def test_what_stands_for_a_name_is_said_and_may_be_the_declared_one(shop: Shop) -> None:
    shop.done("materialize", "customer", *SPAN)
    declared = read_features("features.yaml")["customer"].spec_hash[:8]
    Path("other.yaml").write_text(DECLARATION.replace("2d, name: spend_2d", "1d, name: spend_1d"))
    shop.done("materialize", "customer", *SPAN, "-d", "other.yaml")
    newest = read_features("other.yaml")["customer"].spec_hash[:8]
    assert f"customer {newest}: the first of 7 rows" in shop.done("load", "customer", "-o", "x.csv")
    assert f"customer {declared}: the first of 7 rows" in shop.done(
        "load", "customer", "-o", "y.csv", "-d", "features.yaml"
    )
    assert "spend_1d" in Path("x.csv").read_text()
    assert "spend_2d" in Path("y.csv").read_text()
    assert f"customer {newest}, computed by local" in shop.done("show", "customer")
    assert f"customer {declared}, computed by local" in shop.done("show", "customer", "-d", "features.yaml")
    said = shop.refused("show", "customer", "-d", "features.yaml", "--version", declared)
    assert "drop one of them" in said
    Path("other.yaml").write_text(DECLARATION.replace("2d, name: spend_2d", "9d, name: spend_9d"))
    assert "is unknown; there are" in shop.refused("show", "customer", "-d", "other.yaml")


def test_nothing_is_computed_where_a_name_has_no_keys(shop: Shop) -> None:
    said = " ".join(shop.refused("materialize", "customer", "when", *SPAN).split())
    assert "'when': features without keys are not kept; `causalrec features frame` computes them." in said
    assert not Path("feature_store").exists()


@pytest.mark.parametrize("output", ["spine.csv", "./spine.csv", "events.csv", "parts/out.csv"])
def test_what_is_read_is_not_written_over(shop: Shop, output: str) -> None:
    Path("parts").mkdir()
    Path("items.csv").rename("parts/items.csv")
    Path("features.yaml").write_text(DECLARATION.replace("items.csv", "parts"))
    before = {path: path.read_text() for path in Path().rglob("*.csv")}
    said = " ".join(shop.refused("frame", "-s", "spine.csv", "-o", output).split())
    assert f"output '{Path(output)}' would change what is read" in said
    assert {path: path.read_text() for path in Path().rglob("*.csv")} == before


def test_ids_of_another_type_come_with_a_remedy_that_works(shop: Shop) -> None:
    SPINE.assign(user=["u" + str(user) for user in SPINE["user"]]).to_csv("spine.csv", index=False)
    said = " ".join(shop.refused("frame", "customer", "-s", "spine.csv", "-o", "x.csv").split())
    assert "key 'user' is string in the spine and integer in table 'events'" in said
    assert "user_id: CAST(user AS BIGINT)" in said
    SPINE.rename(columns={"user": "user_id"}).assign(user_id=["u" + str(u) for u in SPINE["user"]]).to_csv(
        "spine.csv", index=False
    )
    derived = "keys: user_id\n    derived: {user_id: \"'u' || CAST(user AS VARCHAR(20))\"}"
    Path("features.yaml").write_text(DECLARATION.replace("keys: user", derived))
    shop.done("frame", "customer", "-s", "spine.csv", "-o", "x.csv")
    assert pd.read_csv("x.csv")["seen_all"].tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("op: sum", "op: avg", "Did you mean 'mean'?"),
        ("window: 2d, name: spend_2d", "where: prise > 1", "the condition 'prise > 1' is not understood: Binder Error"),
    ],
)
def test_a_slip_in_a_declaration_is_answered_in_words(shop: Shop, old: str, new: str, text: str) -> None:
    Path("features.yaml").write_text(DECLARATION.replace(old, new))
    said = " ".join(shop.refused("materialize", "customer", *SPAN).split())
    assert text in said
    assert not re.search(r"check_|VIEW|np\.|LINE 1", said)


def test_doubled_keys_are_named_as_they_are(shop: Shop) -> None:
    pd.DataFrame({"item": [2, 2], "category": ["x", "y"]}).to_csv("items.csv", index=False)
    said = " ".join(shop.refused("materialize", "item", *SPAN).split())
    assert "1 keys have several rows, such as item = 2 with 2" in said


@pytest.mark.parametrize("output", ["wide.parquet", "wide.csv"])
def test_a_training_frame_keeps_rows_and_order(shop: Shop, output: str) -> None:
    said = shop.done("frame", "-s", "spine.csv", "-o", output)
    assert "the first of 4 rows" in said
    assert f"written to {output}" in said
    found = pd.read_parquet(output) if output.endswith("parquet") else pd.read_csv(output)
    assert found["user"].tolist() == [2, 1, 3, 1]
    assert found["seen_all"].tolist() == [1, 2, 0, 0]
    assert [None if pd.isna(v) else v for v in found["category"]] == ["y", None, "x", "x"]
    assert found["hour"].tolist() == [0, 12, 23, 0]


def test_a_source_may_have_any_name(shop: Shop) -> None:
    Path("features.yaml").write_text(DECLARATION.replace("events", "spine").replace("spine.csv", "events.csv"))
    shop.done("frame", "customer", "-s", "spine.csv", "-o", "wide.csv")
    assert pd.read_csv("wide.csv")["seen_all"].tolist() == [1, 2, 0, 0]


def test_only_the_features_that_are_named(shop: Shop) -> None:
    shop.done("frame", "when", "-s", "spine.csv", "-o", "wide.csv")
    assert list(pd.read_csv("wide.csv").columns) == [*SPINE.columns, "hour", "weekday"]


@pytest.mark.spark
@pytest.mark.slow
def test_the_same_on_spark(shop: Shop, spark_session: object) -> None:
    shop.done("materialize", *SPAN)
    shop.done("materialize", *SPAN, "--engine", "spark", "--root", "sparks")
    for root, output in (("feature_store", "local.parquet"), ("sparks", "other.parquet")):
        shop.done("load", "customer", "--root", root, "-o", output)
    local, other = pd.read_parquet("local.parquet"), pd.read_parquet("other.parquet")
    pd.testing.assert_frame_equal(other, local, check_dtype=False)  # Spark reads the numbers of a CSV as 32 bits
    said = shop.done("frame", "-s", "spine.csv", "-o", "wide.parquet", "--engine", "spark")
    assert "the first of 4 rows" in said
    wide = pd.read_parquet("wide.parquet").sort_values(["user", "event_time"])
    assert wide["seen_all"].tolist() == [0, 2, 1, 0]
    assert "ends in .parquet." in shop.refused("frame", "-s", "spine.csv", "-o", "wide.csv", "--engine", "spark")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["materialize", *SPAN, "-d", "nope.yaml"], "nope.yaml does not exist"),
        (["materialize", *SPAN, "custmer"], "Did you mean 'customer'?"),
        (["materialize", "--start", "2025-01-06", "--end", "2025-01-06"], "start must be before end"),
        (["materialize", "--start", "6.1.", "--end", "2025-01-06"], "expected a UTC midnight"),
        (["materialize", *SPAN, "when"], "when"),
        (["materialize", *SPAN, "--engine", "sparc"], "Did you mean 'spark'?"),
        (["materialize", *SPAN, "--master", "local[1]"], "engine 'local' does not take these options"),
        (["materialize", *SPAN, "--entities", "nope.csv"], "no such file or directory: nope.csv"),
        (["show", "customer"], "'customer' is not materialised in feature_store"),
        (["load", "customer", "-o", "x.parquet"], "'customer' is not materialised"),
        (["load", "customer", "-o", "x.xlsx"], "'x.xlsx'; expected a name that ends in .parquet or .csv"),
        (["diff", "customer", "a", "b"], "'customer' is not materialised"),
        (["frame", "-s", "nope.csv", "-o", "x.csv"], "nope.csv"),
        (["frame", "-s", "spine.csv", "-o", "x"], "'x'; expected a name"),
        (["frame", "-s", "spine.csv", "-o", "x.csv", "--event-time", "at"], "missing column 'at'"),
        (["frame", "-s", "spine.csv", "-o", "spine.csv/x.csv"], "cannot write"),
        (["frame", "-s", "spine.csv", "-o", "spine.csv"], "output 'spine.csv' would change what is read"),
    ],
)
def test_what_is_refused(shop: Shop, arguments: list[str], text: str) -> None:
    assert text in " ".join(shop.refused(*arguments).split())
    assert {p.name for p in Path.cwd().iterdir() if p.is_file()} == {
        "features.yaml", "events.csv", "items.csv", "spine.csv",
    }  # fmt: skip


def test_an_interrupt_leaves_nothing_half_written(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("causalrec.engines.local.LocalEngine.write_parquet", interrupted)
    code, said = shop.run("materialize", "customer", *SPAN)
    assert code == 130
    assert "nothing half-written was left behind" in said
    monkeypatch.undo()
    assert not list(Path("feature_store").rglob("*.parquet"))
    assert not list(Path("feature_store").rglob("*.tmp"))


def test_the_list_starts_no_engine(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("an engine was started")

    shop.done("materialize", "customer", *SPAN)
    monkeypatch.setattr("causalrec.engines.open_engine", started)
    assert "customer" in shop.done("list")
