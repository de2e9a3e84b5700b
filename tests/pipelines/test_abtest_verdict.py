"""The top of the report: the verdict with its reasons before anything else, metrics by role, beliefs in a table."""

from __future__ import annotations

import re
from typing import Any

import pytest

from causalrec.abtest import welch_test
from causalrec.pipelines.abtest_page import lead_frame
from causalrec.pipelines.abtest_verdict import banner_of, by_role, decided, verdict_text, verdict_title, with_roles
from causalrec.report import render_report
from causalrec.results import NAN, ABResult, ExperimentResult, VerdictResult


def verdict(word: str, **more: Any) -> VerdictResult:
    known = {"arm": "B" if word == "ship" else "", "n_obs": 100, "confidence_level": 0.95, "inference": "fixed horizon",
             "correction": "holm", "more_units": NAN, "more_days": NAN, "assumed": "", "method": "Holm over 2",
             "reasons": ("minutes rose by <3%>", "skips are safe.")}  # fmt: skip
    return VerdictResult(word, **(known | more))


def effect(metric: str) -> ABResult:
    return welch_test(10.0, 4.0, 900, 10.4, 4.0, 900, metric=metric)


@pytest.mark.parametrize(
    "word, title, kind",
    [
        ("ship", "SHIP B", "go"),
        ("don't ship", "DON'T SHIP", "stop"),
        ("keep running", "KEEP RUNNING: about 9 more days", "wait"),
        ("broken", "BROKEN: do not trust the effects", "broken"),
    ],
)
def test_the_banner_says_the_verdict_in_capitals(word: str, title: str, kind: str) -> None:
    found = verdict(word, more_days=9.0)
    banner = banner_of(found)
    assert banner is not None
    assert verdict_title(found) == title
    assert (banner.text, banner.kind) == (title, kind)
    assert banner.reasons == ("minutes rose by <3%>.", "skips are safe.")
    assert verdict_text(found).splitlines() == [title, "minutes rose by <3%>.", "skips are safe.", "Holm over 2"]


def test_the_verdict_is_the_first_thing_on_the_page() -> None:
    effects = [effect("other"), effect("skips"), effect("minutes")]
    roles = {"minutes": "primary", "skips": "guardrail", "other": "secondary"}
    assert [e.metric for e in by_role(effects, roles)] == ["minutes", "skips", "other"]
    result = ExperimentResult(1_800, 0.95, tuple(effects))
    page = render_report(
        "test", "More?", lead_frame(effects, roles), [decided(result, ["It ships if it is better"])],
        banner=banner_of(verdict("ship")), alarms=("an alarm",), findings=("a finding",),
    )  # fmt: skip
    body = page[page.index("<body>") :]
    places = [
        body.index(text) for text in ("SHIP B", "minutes rose by &lt;3%&gt;.", "an alarm", "a finding", "<table>")
    ]
    assert places == sorted(places)
    table = body[body.index("<table>") : body.index("</table>")]
    assert re.findall(r">(minutes|skips|other)<", table) == ["minutes", "skips", "other"]
    assert "It ships if it is better." in body
    assert "looked at once, at the planned end" in body.lower()


def test_without_a_decision_the_page_is_as_it_was() -> None:
    effects = [effect("a"), effect("b")]
    frame = lead_frame(effects, {})
    assert "role" not in frame.columns
    assert list(with_roles(frame, {"b": "primary"})["role"]) == ["secondary", "primary"]
    assert banner_of(None) is None
    assert 'class="banner' not in render_report("t", "q", frame, [])
