"""The page of a study: the verdict first, a figure and a table for what there is, and nothing for what there is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalrec.observational import ObservationalStudy
from causalrec.pipelines.ate_page import draw_study, study_banner, study_sections
from causalrec.report import Picture, render_report
from causalrec.results import StudyReport


def report_of(covariates: list[str], method: str, seed: int = 0, **change: Any) -> StudyReport:
    rng = np.random.default_rng(seed)
    loyal, age = rng.normal(size=400), rng.normal(40, 10, 400)
    sent = (rng.random(400) < 1 / (1 + np.exp(-0.8 * loyal))).astype(int)
    frame = pd.DataFrame({"loyal": loyal, "age": age, "sent": sent, "spend": loyal + sent + rng.normal(size=400)})
    study = ObservationalStudy(frame, treatment="sent", outcome="spend", covariates=covariates, **change)
    return study.report(
        study.estimate(method), methods=["difference_in_means", "ols", "ipw"] if covariates else None,
        refuters=["placebo_treatment", "data_subset"], n_simulations=20,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report() -> StudyReport:
    return report_of(["loyal", "age"], "ipw")


@pytest.fixture(scope="module")
def pictures(report: StudyReport) -> dict[str, Picture]:
    return {name: Picture.of(axes) for name, axes in draw_study(report).items()}


def test_every_figure_says_what_it_shows(pictures: dict[str, Picture]) -> None:
    assert set(pictures) == {"graph", "effects", "balance", "overlap", "refutations", "confounding", "gamma"}
    assert all(picture.text for picture in pictures.values())
    assert "loyal" in pictures["confounding"].text


def test_sections_have_the_numbers_of_the_report(report: StudyReport, pictures: dict[str, Picture]) -> None:
    sections = {s.title: s for s in study_sections(report, pictures)}
    assert list(sections) == [
        "What is asked, and what must be believed", "The effect by every method",
        "Can the arms be compared? Balance and overlap", "Refutations", "Hidden bias",
        "What would change the conclusion",
    ]  # fmt: skip
    estimates = sections["The effect by every method"].tables["Estimates"].set_index("method")
    assert report.comparison is not None
    assert estimates.loc["ipw", "estimate"] == report.comparison["ipw"].estimate == report.effect.estimate
    refuted = sections["Refutations"].tables["Refutations"]
    assert refuted["found"].tolist() == [r.new_effect for r in report.refutations.results]
    assert refuted["passed"].all()
    scales = sections["Hidden bias"].tables["How much hidden bias it takes"]
    assert scales.shape == (4, 3)
    beside = sections["Hidden bias"].tables["The regression beside a hidden cause like each covariate"]
    assert beside["a hidden cause like"].tolist()[0] == report.sensitivity.strongest == "loyal"
    assert sections["What would change the conclusion"].text == report.changes
    said = [text for s in sections.values() for text in s.text]
    assert len(said) == len(set(said))


def test_the_banner_opens_with_the_verdict(report: StudyReport) -> None:
    banner = study_banner(report)
    assert (banner.kind, banner.text) == ("wait", "Plausible, if nothing hidden matters")
    assert banner.reasons == (report.conclusion, *report.doubts)
    doubtful = study_banner(report_of(["loyal", "age"], "difference_in_means"))
    assert doubtful.kind == "stop"
    assert any("Imbalance" in reason for reason in doubtful.reasons)


def test_a_lottery_has_no_figures_of_covariates() -> None:
    report = report_of([], "difference_in_means")
    assert set(draw_study(report)) == {"graph", "refutations"}
    assert study_banner(report).kind == "go"
    titles = [s.title for s in study_sections(report)]
    assert "The effect by every method" not in titles
    assert "Refutations" in titles


def test_the_page_is_escaped_and_needs_no_network(report: StudyReport, pictures: dict[str, Picture]) -> None:
    html = render_report(
        "<b>mail</b>", "Does it sell?", pd.DataFrame(), study_sections(report, pictures), banner=study_banner(report)
    )
    assert "<b>mail</b>" not in html
    assert html.count("<img") == 7
    assert "://" not in html
