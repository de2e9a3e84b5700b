"""The report: one page that needs nothing else, and that holds every number it was given."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.exceptions import MissingExtraError, StoreError
from causalrec.plots import plot_effects
from causalrec.report import Picture, Section, SummaryRow, render_report, summary_header, write_report
from causalrec.results import EffectResult

NAN = float("nan")
EFFECT = EffectResult(0.5, 0.1, 0.3, 0.7, 1e-9, 0.95, 1234, "Welch", "ate")
EVIL = "<script>alert('x')</script> & \"co\" <img src=http://example.com/x.png>"


class Page(HTMLParser):
    """Tags with their attributes, tables as rows of text, and the text by tag."""

    VOID = frozenset({"meta", "img", "br", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(summary: Any = (), sections: Any = (), **rest: Any) -> Page:
    return Page(render_report("shop", "What did it cause?", summary, sections, **rest))


def test_the_page_needs_nothing_else() -> None:
    figure = plot_effects({"main": EFFECT})
    found = page([SummaryRow.of("A/B test", "visit", EFFECT)], [Section("Effect", ("Text.",), (figure,))])
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "action", "style"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, name)
    css = "".join(found.texts["style"])
    assert "url(" not in css
    assert "@import" not in css
    (policy,) = [m["content"] for m in found.attributes("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_links_in_the_page_lead_somewhere() -> None:
    found = page(sections=[Section("One"), Section("Two")])
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {a["href"] for a in found.attributes("a")} == {f"#{i}" for i in ids}


def test_figures_are_pictures_inside_with_words() -> None:
    from matplotlib.figure import Figure

    axes = plot_effects({"main": EFFECT}, title='Lift "in" <b>')
    plain = Figure(figsize=(2, 1))
    plain.add_subplot().set_title("a title")
    bare = Figure(figsize=(2, 1))
    images = page(sections=[Section("Effect", (), (axes, plain, bare))]).attributes("img")
    assert [i["alt"] for i in images] == [axes.get_label(), "a title", "A figure of the section Effect."]
    for image in images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_html_is_escaped_everywhere() -> None:
    row = SummaryRow(EVIL, EVIL, 0.5)
    frame = pd.DataFrame({EVIL: [EVIL]})
    html = render_report(
        EVIL, EVIL, [row], [Section(EVIL, (EVIL,), (), {EVIL: frame})], findings=[EVIL], notes=[EVIL], appendix=EVIL
    )
    found = Page(html)
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.attributes("img") == []
    assert html.count("&lt;script&gt;") == 14  # twice in the summary, title and navigation too
    assert found.texts["h1"] == [EVIL]
    assert found.tables[1] == [[EVIL], [EVIL]]


def test_the_summary_holds_every_number_and_names_a_stage_once() -> None:
    rows = [
        SummaryRow.of("uplift", "Qini", EFFECT, truth=0.45),
        SummaryRow("uplift", "AUUC", 0.1),
        SummaryRow("placebo", "permuted", 0.0, -0.1, 0.1, 0.9, 0.0, 100),
    ]
    assert page(rows).tables[0] == [
        ["stage", "what", "estimate", "95% interval", "p-value", "truth", "n"],
        ["uplift", "Qini", "0.5", "[0.3, 0.7]", "1.00e-09", "0.45", "1,234"],
        ["", "AUUC", "0.1", "–", "–", "–", "–"],
        ["placebo", "permuted", "0", "[-0.1, 0.1]", "0.9", "0", "100"],
    ]


def test_the_truth_has_a_column_only_where_some_is_known() -> None:
    table = page([SummaryRow.of("uplift", "Qini", EFFECT)], confidence_level=0.9).tables[0]
    assert table[0] == ["stage", "what", "estimate", "90% interval", "p-value", "n"]
    assert table[1] == ["uplift", "Qini", "0.5", "[0.3, 0.7]", "1.00e-09", "1,234"]


@pytest.mark.parametrize(
    "level, name", [(0.95, "95% interval"), (0.995, "99.5% interval"), (0.9999, "99.99% interval")]
)
def test_the_level_of_the_interval_is_never_rounded(level: float, name: str) -> None:
    assert name in summary_header(level)


def test_tables_are_complete_and_what_is_missing_is_a_dash() -> None:
    frame = pd.DataFrame(
        {
            "estimand": ["ndcg_at_10", "recall_at_10", "ate"],
            "model": ["ranker", None, pd.NA],
            "n_obs": [1234567, 2, 3],
            "estimate": [0.123456, np.nan, 1e-12],
            "ci_low": [-0.5, float("-inf"), 0.0],
            "relative_effect": [0.256, np.nan, np.inf],
            "pvalue": [1e-300, 0.5, 1.0],
            "balanced": [True, False, True],
            "at": pd.to_datetime(["2025-01-06", None, "2025-01-07"]),
        }
    )
    found = page(sections=[Section("Ranker", (), (), {"Metrics": frame})])
    header, *rows = found.tables[1]
    assert header == ["estimand", "model", "n", "estimate", "low", "relative effect", "p-value", "balanced", "at"]
    assert rows == [
        ["NDCG@10", "ranker", "1,234,567", "0.1235", "-0.5", "+25.60%", "1.00e-300", "yes", "2025-01-06 00:00:00"],
        ["recall@10", "–", "2", "–", "-inf", "–", "0.5", "no", "–"],
        ["ate", "–", "3", "1.00e-12", "0", "inf", "1", "yes", "2025-01-07 00:00:00"],
    ]
    assert found.texts["caption"] == ["Metrics"]


def test_an_empty_table_keeps_its_header() -> None:
    assert page(sections=[Section("A", (), (), {"T": pd.DataFrame({"a": []})})]).tables[1] == [["a"]]


def test_findings_notes_sections_and_the_appendix_are_there_in_order() -> None:
    html = render_report(
        "shop", "Why?", [], [Section("First", ("one", "two")), Section("Second")], findings=["found"], notes=["noted"],
        appendix="seed: 7\n  indented",
    )  # fmt: skip
    places = [html.index(t) for t in ("Why?", "found", "noted", "First</h2>", ">one", ">two", "Second</h2>", "seed")]
    assert places == sorted(places)
    assert "seed: 7\n  indented" in html


def test_a_page_without_anything_is_a_page() -> None:
    found = page()
    assert found.attributes("a") == []
    assert found.tables == [[["stage", "what", "estimate", "95% interval", "p-value", "n"]]]


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"causalrec\[plots\]"):
        render_report("a", "b", [], [])


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert write_report(path, "<p>½</p>") == path
    assert path.read_text(encoding="utf-8") == "<p>½</p>"
    write_report(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_or_is_interrupted_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    write_report(path, "old")
    for error, expected in (
        (OSError(28, "No space left on device"), StoreError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        def fail(self: Path, target: Path, error: BaseException = error) -> Path:
            raise error

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(expected, match="No space left" if expected is StoreError else None):
            write_report(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*report\.html: .*Choose a place"):
        write_report(tmp_path / "file" / "report.html", "<p>page</p>")


def test_the_stylesheet_serves_paper_and_the_dark(tmp_path: Path) -> None:
    css = "".join(page().texts["style"])
    assert re.search(r"@media print \{", css)
    assert "color-scheme: light dark" in css


def test_a_picture_is_drawn_once_and_shown_as_it_is() -> None:
    picture = Picture.of(plot_effects({"main": EFFECT}))
    (image,) = page(sections=[Section("Effect", (), (picture,))]).attributes("img")
    assert image["alt"] == picture.text
    assert str(image["src"]).endswith(base64.b64encode(picture.png).decode())


def test_long_tables_are_folded_and_short_cells_are_not_broken() -> None:
    frame = pd.DataFrame({"name": ["a b"] * 31, "text": ["many words " * 9] * 31, "n": range(31)})
    found = page(sections=[Section("One", (), (), {"Rows": frame, "Few": frame.head(30)})])
    assert len(found.attributes("details")) == 1
    assert [text for text in found.texts["summary"] if text.strip()] == ["Rows: 31 rows"]
    kinds = [cell.get("class") for cell in found.attributes("td")]
    assert kinds[-3:] == ["text short", "text", None]


def test_alarms_answers_and_checks_stand_in_that_order_above_a_table_of_the_whole() -> None:
    frame = pd.DataFrame({"metric": [EVIL], "difference": [0.1234]})
    html = render_report(
        "t", "q?", frame, [], caption=EVIL, alarms=[f"first {EVIL}"], findings=["second"], checks=["x 3"]
    )
    page = Page(html)
    assert [text for text in page.texts["li"] if text.strip()] == [f"first {EVIL}", "second", "x 3"]
    assert page.tables == [[["metric", "difference"], [EVIL, "0.1234"]]]
    assert html.index("x 3") < html.index("<table")
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert "alarms" not in re.sub(r"<style>.*?</style>", "", render_report("t", "q?", frame, []), flags=re.DOTALL)
