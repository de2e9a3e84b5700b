"""What stands in the terminal: whole numbers in narrow windows, names as they are, notes between bars."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from causalrec.features import FeatureDiff, Materialized
from causalrec.features.diff import FeatureChange
from causalrec.features.registry import Day, Record
from causalrec.pipelines.data import DatasetStatus
from causalrec.pipelines.display import (
    ConsoleReporter,
    print_datasets,
    print_diff,
    print_files,
    print_inference,
    print_materialized,
    print_summary,
    print_version,
    print_versions,
    print_written,
)
from causalrec.pipelines.features import VersionView, Written
from causalrec.pipelines.infer import Inference
from causalrec.pipelines.summary import RunSummary
from causalrec.pipelines.targeting import Recommendations
from causalrec.report import SummaryRow
from causalrec.results import NAN

ROWS = (
    SummaryRow("ranker", "NDCG@10, recent top sellers", 0.31234, 0.30123, 0.32345, NAN, NAN, 14_321),
    SummaryRow("uplift", "effect in the top 10% by predicted uplift", 1.2e-5, -1.2e-5, 3.7e-5, 0.0345, 1.3e-5, 640),
    SummaryRow("average effect", "[red]mailed[/red] on [spend] (ate)", -0.0012, -0.0023, -0.0001, 1e-17, -0.00124, 999),
    SummaryRow("A/B test", "revenue, -12.3% [-14.5%, -10.1%]", -1_234_567.8, -2e6, -123_456.7, 0.0, NAN, 1_000_000),
)
WINDOWS = [(width, terminal) for width in (80, 120) for terminal in (True, False)]


def console_of(width: int = 80, *, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), record=True, width=width, force_terminal=terminal, highlight=False)


def text_of(console: Console) -> str:
    return console.export_text(clear=False)


def words_of(text: str) -> str:
    """A text, wherever its lines are broken between words."""
    return " ".join(text.split())


def cells_of(text: str, column: int) -> str:
    """What stands in a column of a table, its lines put together again."""
    lines = [re.split("[│┃|]", line)[1:-1] for line in text.splitlines() if re.search("[│┃]", line)]
    return "".join(line[column].strip() for line in lines if len(line) > column)


def summary_of(path: str = "runs/x", report: Path | None = None) -> RunSummary:
    return RunSummary(
        "test: trained on 3 units", 0.95, ROWS, ("A finding of [bold] [0.1, 0.2].",), (), Path(path), report,
        "sqlite:///[x].db, experiment 'm'", {},
    )  # fmt: skip


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_every_number_of_a_summary_is_whole(width: int, terminal: bool) -> None:
    console = console_of(width, terminal=terminal)
    print_summary(summary_of(), console)
    for line in text_of(console).splitlines():
        assert len(line.rstrip()) <= width or "│" not in line
    for row in ROWS:
        cells = row.cells()[2:] if width == 120 else (*row.cells()[2:4], row.cells()[5])  # p-value and n give way
        # All numbers of a row on one line, in their order.
        assert re.search(
            r"\D+?".join(rf"(?<![\d.]){re.escape(c)}" for c in cells).replace("–", ".*"), text_of(console)
        ), cells


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_every_word_of_a_summary_is_there(width: int, terminal: bool) -> None:
    console = console_of(width, terminal=terminal)
    print_summary(summary_of(), console)
    letters = cells_of(text_of(console), 0 if width == 80 else 1).replace(" ", "")
    for row in ROWS:
        assert row.what.replace(" ", "") in letters


def test_at_80_columns_the_words_are_readable() -> None:
    console = console_of(80)
    print_summary(summary_of(), console)
    text = text_of(console)
    for word in ("ranker", "uplift", "NDCG@10", "revenue"):
        assert word in text


def test_markup_in_names_is_shown_as_it_is() -> None:
    console = console_of(140, terminal=True)
    print_summary(summary_of("runs/[red]x", Path("runs/[blue]/report.html")), console)
    text = text_of(console)
    for literal in ("[red]mailed[/red] on [spend] (ate)", "[bold] [0.1, 0.2]", "runs/[red]x", "runs/[blue]/report.html",
                    "sqlite:///[x].db"):  # fmt: skip
        assert literal in text


def test_paths_are_never_broken() -> None:
    console, path = console_of(80), "/a/very" + "/deep" * 30 + "/run"
    print_summary(summary_of(path, Path(path) / "report.html"), console)
    lines = text_of(console).splitlines()
    assert f"run      {path}" in lines
    assert f"report   {path}/report.html" in lines


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_materialised_features_are_listed_whole(width: int, terminal: bool) -> None:
    console = console_of(width, terminal=terminal)
    print_materialized([Materialized(Path("feature_store/[x]_user/1234abcd"), "1234abcd", 1_234_567, 28, 14)], console)
    assert re.search(r"1,234,567\D+28\D+14\b", text_of(console))


def test_the_directory_of_features_is_whole() -> None:
    console = console_of(80)
    path = Path("/home/someone/projects/recommender/feature_store/marketplace_user_item/1234abcd")
    print_materialized([Materialized(path, "1234abcd", 1_234_567, 28, 14)], console)
    assert str(path) in text_of(console).splitlines()


VERSIONS = pd.DataFrame(
    {
        "name": ["[x]_user", "item"], "version": ["1234abcd", "99ff0011"], "kind": ["events", "damaged"],
        "features": [7, None], "first_day": pd.to_datetime(["2025-01-01", None]),
        "last_day": pd.to_datetime(["2025-12-31", None]), "days": [365, None], "rows": [3_650_000, None],
        "bytes": [52 * 2**20, None], "updated_at": pd.to_datetime(["2026-01-02 03:04:05", None]),
    }
).astype(dict.fromkeys(("features", "days", "rows", "bytes"), "Int64"))  # fmt: skip


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_versions_are_listed_whole(width: int, terminal: bool) -> None:
    console = console_of(width, terminal=terminal)
    print_versions(VERSIONS, Path("feature_store"), console)
    text = text_of(console)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert re.search(r"1234abcd\D+(7\D+)?365\D+2025-01-01\D+2025-12-31\D+3,650,000", text)
    assert ("52.0 MiB" in text) == ("2026-01-02 03:04" in text) == (width == 120)
    assert re.search("99ff0011.+damaged", text)


@pytest.mark.parametrize("width", range(80, 160, 3))
def test_the_list_of_versions_fits_with_whole_names(width: int) -> None:
    console = console_of(width, terminal=True)
    found = VERSIONS.assign(name=["household_with_a_name", "item"], first_day=pd.Timestamp("2020-01-01"))
    print_versions(found, Path("feature_store"), console)
    text = text_of(console)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert re.search(r"household_with_a_name\W+1234abcd\b.*\b365 of 2,192\b.*2020-01-01\W+2025-12-31", text)


def test_an_empty_store_says_how_to_fill_it() -> None:
    console = console_of(80)
    print_versions(VERSIONS.iloc[:0], Path("feature_store"), console)
    assert "nothing is kept in feature_store yet; causalrec features materialize fills it." in text_of(console)


def view_of(days: dict[str, Day], head: pd.DataFrame) -> VersionView:
    record = Record(
        declaration={"name": "[x]_user", "kind": "events"}, spec_hash="1234abcd", engine="local", keys=("user_id",),
        event_time="event_time", features=("spend", "n"), updated_at="2026-01-02T03:04:05.678+00:00", days=days,
        schema={"user_id": "int64", "event_time": "timestamp[us]", "spend": "double", "n": "int64"},
    )  # fmt: skip
    return VersionView("1234abcd", record, {"spend": "sum([revenue]) over 30d", "n": "count over all time"}, head)


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_a_version_is_shown_with_its_columns_days_and_rows(width: int, terminal: bool) -> None:
    console = console_of(width, terminal=terminal)
    days = {"2025-01-01": Day(("a",), 1_000, 2_048, "h"), "2025-01-02": Day(("b",), 2_000, 2_048, "h")}
    print_version(view_of(days, pd.DataFrame({"user_id": [17], "spend": [1234.5]})), console)
    text = text_of(console)
    assert "[x]_user 1234abcd, computed by local" in text
    assert re.search(r"user_id\W+int64\W+key", text)
    assert re.search(r"event_time\W+timestamp\[us\]\W+the time that is asked about", text)
    assert re.search(r"spend\W+double\W+sum\(\[revenue\]\) over 30d", text)
    assert "2 days, 2025-01-01 to 2025-01-02; 3,000 rows, 4.0 KiB; updated 2026-01-02 03:04 UTC" in words_of(text)
    assert "the first rows of 2025-01-02" in text
    assert re.search(r"17\W+1234\b", text)


def test_days_that_are_not_there_are_told_of() -> None:
    console = console_of(80)
    days = {day: Day(("a",), 1, 2_048, "h") for day in ("2011-01-01", "2017-01-14")}
    print_version(view_of(days, pd.DataFrame()), console)
    assert "2 of 2,206 days, 2011-01-01 to 2017-01-14; 2 rows" in text_of(console)


def test_a_version_without_days_is_shown() -> None:
    console = console_of(80)
    print_version(view_of({}, pd.DataFrame()), console)
    assert "0 days; 0 rows" in text_of(console)


def written_of(columns: dict[str, list[object]]) -> Written:
    return Written(Path("frame.parquet"), 2, pd.DataFrame(columns), "customer 1234abcd")


def test_columns_that_do_not_fit_are_named() -> None:
    console = console_of(80, terminal=True)
    print_written(written_of({f"spend_over_{i}d": [1.5, 2.5] for i in range(8)}), console)
    text = text_of(console)
    assert "customer 1234abcd: the first of 2 rows; 4 of 8 columns" in text
    assert re.search(r"\W+".join(f"spend_over_{i}d" for i in (0, 1, 2, 7)), text)
    assert "not shown: 'spend_over_3d', 'spend_over_4d', 'spend_over_5d', 'spend_over_6d'" in text


def test_a_table_that_fits_is_shown_whole() -> None:
    console = console_of(80)
    print_written(written_of({f"c{i}": [1.5, 2.5] for i in range(8)}), console)
    text = text_of(console)
    assert all(f"c{i}" in text for i in range(8))
    assert "shown" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12_346.0, "12346"), (12_346, "12346"), (2188.27, "2188.27"), (1_234_567.89, "1234567.9"), (NAN, "–"),
     (1.2345e-7, "1.2345e-07"), (float("inf"), "inf"), (1e300, "1e+300"), (None, "–"), (pd.NA, "–"), ("x", "x"),
     (pd.Timestamp("2025-01-01"), "2025-01-01 "), (pd.Timestamp("2025-01-01 10:30"), "2025-01-01 10:30:00")],
)  # fmt: skip
def test_values_are_shown_as_they_are_written_elsewhere(value: object, shown: str) -> None:
    console = console_of(80)
    print_written(written_of({"column": [value]}), console)
    assert f"│ {shown.ljust(6)} │" in text_of(console).replace("2025-01-01 │", "2025-01-01  │")


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_breaks_lines_between_words_only(width: int) -> None:
    console = console_of(width, terminal=True)
    change = FeatureChange("spend", "changed", "sum(a) over 30d", "sum(b) over 30d", 64_797_000, 64_797, 64_797.25)
    diff = FeatureDiff("x", "1234abcd", "99ff0011", (), (change,), (), (), 10, 12)
    print_diff(diff, console)
    assert max(map(len, text_of(console).splitlines())) <= width
    assert words_of(text_of(console)) == words_of(str(diff))


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_a_written_table_is_shown_with_its_place(width: int, terminal: bool) -> None:
    console, path = console_of(width, terminal=terminal), Path("/a/very" + "/deep" * 30 + "/frame.parquet")
    print_written(Written(path, 1_234_567, pd.DataFrame({"[x]": ["[red]y[/red]"]})), console)
    text = text_of(console)
    assert "the first of 1,234,567 rows" in text
    assert "[red]y[/red]" in text
    assert f"written to {path}" in text


def test_a_difference_is_shown_as_it_is() -> None:
    console = console_of(80)
    change = FeatureChange("spend", "changed", "sum([a])", "sum([b]) " + "or " * 40, 10, 3, 0.5)
    diff = FeatureDiff("[x]", "1234abcd", "99ff0011", (), (change,), (), (), 10, 12)
    print_diff(diff, console)
    assert str(diff) in text_of(console)


def inference_of(n_columns: int) -> Inference:
    frame = pd.DataFrame({f"column_{i}": [1234.5678 * (i + 1), 1e-7, NAN] for i in range(n_columns)})
    return Inference({"uplift": (Path("scores/[x].parquet"), frame.assign(name="[red]y[/red]"))})


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_scores_are_shown_whole(width: int, terminal: bool) -> None:
    console, found = console_of(width, terminal=terminal), inference_of(4)
    print_inference(found, console)
    text = text_of(console)
    for i in range(4):
        assert f"{1234.5678 * (i + 1):.6g}" in text
    assert "[red]y[/red]" in text
    assert "scores/[x].parquet" in text
    assert "–" in text


def test_scores_beside_many_columns_are_shown_whole() -> None:
    console = console_of(80)
    print_inference(inference_of(10), console)
    assert "…" not in text_of(console)


@pytest.mark.parametrize(("width", "terminal"), WINDOWS)
def test_what_to_do_is_shown_with_what_it_rests_on(width: int, terminal: bool) -> None:
    counts = pd.DataFrame({"segment": ["lost causes", "persuadables"], "none": [1200, 3], "[mail]": [0, 456]})
    advice = Recommendations(pd.DataFrame(), counts, 91.2, 1234.5, ("treated: the [persuadables]",))
    console = console_of(width, terminal=terminal)
    print_inference(Inference({"uplift": (Path("s.parquet"), pd.DataFrame({"uplift": [1.0]}))}, advice), console)
    text = text_of(console)
    for word in ("1,200", "456", "[mail]", "persuadables", "spend 91.2", "expected gain 1234"):
        assert word in text
    assert "Treated: the [persuadables]." in text
    free = Recommendations(pd.DataFrame(), counts)
    print_inference(Inference({"uplift": (Path("s.parquet"), pd.DataFrame({"uplift": [1.0]}))}, free), console)
    assert text_of(console).count("spend") == 1


def test_the_names_of_columns_are_shown_as_they_are() -> None:
    console = console_of(120)
    frame = pd.DataFrame({"[red]uplift[/red]": [1.0]})
    print_inference(Inference({"uplift": (Path("scores.parquet"), frame)}), console)
    assert "[red]uplift[/red]" in text_of(console)


def test_files_and_data_sets(tmp_path: Path) -> None:
    path = tmp_path / "[x].bin"
    path.write_bytes(b"0" * 3 * 2**20)
    console = console_of(120)
    print_files([path], console)
    print_datasets([DatasetStatus("one", 64_000, "at [hand]"), DatasetStatus("two", None, "missing")], console)
    text = text_of(console)
    assert f"{path}  3.0 MiB" in text
    assert re.search(r"✓ one\W+64,000\W+at \[hand\]", text)
    assert re.search(r"– two\W+–\W+missing", text)


# --- progress ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stage_is_ticked_off_and_notes_stand_between(terminal: bool) -> None:
    console = console_of(80, terminal=terminal)
    reporter = ConsoleReporter(console)
    long_note = "a note on [red]units[/red] " + "that is long " * 10
    with reporter.stage("uplift") as advance:
        advance(1, 3)
        reporter.note(long_note)
        advance(3, 3)
    reporter.note("after it")
    text = text_of(console)
    assert f"• {long_note.strip()}" in words_of(text)
    assert ("  • " + long_note.strip() in text) == (not terminal)
    assert re.search(r"✓ uplift +\d+\.\d s", text)
    assert "✗" not in text
    order = [text.index("• a note"), text.index("✓ uplift"), text.index("• after it")]
    assert order == sorted(order)
    assert ("… uplift" in text) == (not terminal)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_stage_that_fails_is_crossed_out(terminal: bool, error: type[BaseException]) -> None:
    console = console_of(80, terminal=terminal)
    reporter = ConsoleReporter(console)
    with pytest.raises(error), reporter.stage("uplift"):
        raise error
    text = text_of(console)
    assert re.search(r"✗ uplift +\d+\.\d s", text)
    assert "✓" not in text
    with reporter.stage("report"):  # and the next one is drawn as ever
        pass
    assert "✓ report" in text_of(console)


def test_how_much_is_done_stands_beside_the_bar() -> None:
    console = console_of(80, terminal=True)
    with ConsoleReporter(console).stage("features") as advance:
        advance(1_234, 3_650)
        time.sleep(0.3)  # the bar is drawn ten times a second
    assert isinstance(console.file, io.StringIO)
    assert "1,234 of 3,650" in console.file.getvalue()


def test_without_a_terminal_there_are_no_control_characters() -> None:
    console = console_of(80)
    reporter = ConsoleReporter(console)
    with reporter.stage("uplift") as advance:
        advance(1, 2)
        reporter.note("said")
    print_summary(summary_of(), console)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b" not in console.file.getvalue()
    assert "\r" not in console.file.getvalue()
