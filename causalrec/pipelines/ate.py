"""``causalrec ate``: a study from YAML and one table; a run directory with its page, one MLflow run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec._files import new_directory
from causalrec._validation import check_columns
from causalrec.datasets import file_digest
from causalrec.engines import Engine
from causalrec.observational import ObservationalStudy
from causalrec.pipelines.ate_page import draw_study, study_banner, study_sections
from causalrec.pipelines.effect_tracking import study_results, study_tags, study_texts
from causalrec.pipelines.inputs import Lineage, existing_table
from causalrec.pipelines.progress import Advance, Reporter, SilentReporter
from causalrec.pipelines.rundir import FIGURES, RunDirectory, new_run_path
from causalrec.pipelines.session import Command, how_made, opened_engine, tracked
from causalrec.report import Picture, SummaryRow, render_report, write_report
from causalrec.results import StudyReport
from causalrec.study_config import StudyConfig
from causalrec.tracking import Stage, legal_name

REPORT = "report.html"
_TABLE = "study"


@dataclass(frozen=True)
class StudySummary:
    """What the command found, and where its files are."""

    report: StudyReport
    notes: tuple[str, ...]
    path: Path
    page: Path
    tracking: str


def run_ate(config: StudyConfig, data: Path | None = None, *, reporter: Reporter | None = None) -> StudySummary:
    """Study the effect of a treatment in a table; the run directory, with its page and results, is whole or absent.

    Parameters
    ----------
    config : StudyConfig
    data : Path, optional
        A Parquet or CSV file, or a directory of them; the config's ``data`` by default.
    reporter : Reporter, optional
        Is told of stages and notes.

    Raises
    ------
    CausalRecError
        One of its children, naming what is wrong with the config, the table or the places to write to.
    """
    reporter = reporter or SilentReporter()
    path = existing_table(data or config.data)
    target = new_run_path(config.output_dir, config.name)
    with (
        tracked(config, reporter, "ate", {"run": target.name}) as tracker,
        new_directory(target) as partial,
    ):
        command = Command(config, reporter, tracker, RunDirectory(partial))
        with opened_engine(config) as engine:
            frame, lineage = _read(command, engine, path, config)
        with command.stage("study") as (advance, stage):
            found = study_report(frame, config, advance)
            _log(command, stage, found)
        with command.stage("report") as (_, stage):
            _save(command, stage, found, lineage, config)
    return StudySummary(found, tuple(command.notes), target, target / REPORT, command.tracking_line())


def study_report(frame: pd.DataFrame, config: StudyConfig, progress: Advance | None = None) -> StudyReport:
    """The report on a frame that a config asks for."""
    study = ObservationalStudy(
        frame, treatment=config.treatment, outcome=config.outcome, covariates=config.covariates, graph=config.graph,
        control=config.control, clusters=config.clusters, sample_weight=config.sample_weight,
        propensity=config.propensity, propensity_model=config.propensity_model, missing=config.missing,
        confidence_level=config.confidence_level, random_state=config.seed,
    )  # fmt: skip
    effect = study.estimate(config.method, estimand=config.estimand, **config.options)
    asked = config.refutation
    return study.report(
        effect, methods=config.methods, refuters=asked.refuters, n_simulations=asked.n_simulations,
        negative_outcomes=asked.negative_outcomes, negative_treatments=asked.negative_treatments,
        n_jobs=asked.n_jobs if asked.n_jobs > 0 else os.cpu_count() or 1, progress=progress,
    )  # fmt: skip


def write_study_report(report: StudyReport, path: str | Path, *, title: str = "", description: str = "") -> Path:
    """Write a study's report as one self-contained HTML page.

    Parameters
    ----------
    report : StudyReport
        Of :meth:`causalrec.observational.ObservationalStudy.report`.
    path : path
        Ending in ``.html``; written whole or not at all.
    title, description : str, optional

    Raises
    ------
    StoreError
        When the place cannot be written.
    """
    figures = {name: Picture.of(axes) for name, axes in draw_study(report).items()}
    target = Path(path)
    write_report(target, _page(report, figures, title or f"{report.treatment} → {report.outcome}", description))
    return target


def _page(report: StudyReport, figures: Mapping[str, Any], title: str, description: str, appendix: str = "") -> str:
    what = f"{report.treatment} on {report.outcome} ({report.estimand})"
    level = report.effect.confidence_level
    return render_report(
        title,
        description or f"What did {report.treatment} do to {report.outcome}?",
        [SummaryRow.of("effect", what, report.effect)],
        study_sections(report, figures),
        confidence_level=level,
        banner=study_banner(report),
        notes=report.notes,
        appendix=appendix,
    )


def _read(command: Command, engine: Engine, path: Path, config: StudyConfig) -> tuple[pd.DataFrame, Lineage]:
    """The rows and columns of the study, and where they came from."""
    with command.stage("data") as (_, stage):
        engine.register(_TABLE, path)
        names = list(engine.columns(_TABLE))
        check_columns(names, config.columns(), where=str(path))
        wanted = names if config.graph is not None else config.columns()
        quoted = ", ".join(engine.dialect.quote(name) for name in wanted)
        condition = "" if config.where is None else f" WHERE {config.where}"
        frame = engine.collect(f"SELECT {quoted} FROM {_TABLE}{condition}")
        line = Lineage(_TABLE, str(path), file_digest(path), len(frame), tuple(wanted))
        for each in (stage, command.tracker.top):
            each.log_dataset(line.table, line.source, line.digest, line.columns, line.rows, context="study")
    return frame, line


def _log(command: Command, stage: Stage, found: StudyReport) -> None:
    for each in (stage, command.tracker.top):
        each.log_results(study_results(found))
    top = command.tracker.top
    top.set_tags(study_tags(found.refutations))
    for name, text in study_texts(found).items():
        top.log_text(text, f"{name}.txt")
    stage.log_frame(found.refutations.to_frame(), "tables/refutations.json")
    if found.comparison is not None:
        stage.log_frame(found.comparison.to_frame(), "tables/effects.json")
    if found.balance is not None:
        stage.log_frame(found.balance.to_frame(), "tables/balance.json")
    for text in found.notes:
        command.note(text)


def _save(command: Command, stage: Stage, found: StudyReport, lineage: Lineage, config: StudyConfig) -> None:
    """Figures, the page, the results and what the run was made with."""
    info = command.info("ate", data=[vars(lineage)])
    figures = {name: Picture.of(axes) for name, axes in draw_study(found).items()}
    run = command.run
    run.write_figures({legal_name(name): picture.png for name, picture in figures.items()})
    stage.log_artifact(run.path / FIGURES, FIGURES)
    write_report(run.path / REPORT, _page(found, figures, config.name, config.description, how_made(config, info)))
    run.write_config(config)
    run.write_results({"study": found})
    run.write_info(info)
    command.tracker.top.log_artifact(run.path / REPORT)
