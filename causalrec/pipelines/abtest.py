"""``causalrec abtest``: an experiment from YAML and one table; a run directory with its report, one MLflow run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from causalrec._files import new_directory
from causalrec.abtest import decide_experiment
from causalrec.datasets import file_digest
from causalrec.engines import Engine
from causalrec.exceptions import BalanceWarning
from causalrec.experiment_config import ExperimentConfig
from causalrec.pipelines.abtest_page import (
    ABTestResults,
    alarms,
    answers,
    checks,
    draw_figures,
    lead_frame,
    metrics_of,
    rows_of,
    sections,
    strongest_interaction,
)
from causalrec.pipelines.abtest_verdict import (
    banner_of,
    decided,
    posterior_metrics,
    verdict_text,
)
from causalrec.pipelines.inputs import Lineage, existing_table
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.pipelines.rundir import FIGURES, RunDirectory, new_run_path
from causalrec.pipelines.session import Command, how_made, opened_engine, tracked
from causalrec.report import Picture, Section, render_report, write_report
from causalrec.results import ExperimentResult, Result
from causalrec.tracking import Stage, legal_name

REPORT = "report.html"
_TABLE = "experiment"


@dataclass(frozen=True)
class ABTestSummary:
    """What the command found, what stands out among segments, what makes it doubtful, and where its files are."""

    title: str
    results: ABTestResults
    findings: tuple[str, ...]
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    path: Path
    report: Path
    tracking: str


def run_abtest(
    config: ExperimentConfig, data: Path | None = None, *, reporter: Reporter | None = None
) -> ABTestSummary:
    """Analyse an experiment's table; the run directory, with its report, figures and results, is whole or absent.

    Parameters
    ----------
    config : ExperimentConfig
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
        tracked(config, reporter, "abtest", {"run": target.name}) as tracker,
        new_directory(target) as partial,
    ):
        command = Command(config, reporter, tracker, RunDirectory(partial))
        with opened_engine(config) as engine:
            lineage = _register(command, engine, path)
            results = _Analysis(command, config, engine).results()
        with command.stage("report") as (_, stage):
            _save(command, stage, results, lineage, config)
    return ABTestSummary(
        title=_title(results.experiment, config),
        results=results,
        findings=tuple(strongest_interaction(results.experiment.interactions)),
        alarms=tuple(alarms(results)),
        notes=tuple(command.notes),
        path=target,
        report=target / REPORT,
        tracking=command.tracking_line(),
    )


def _register(command: Command, engine: Engine, path: Path) -> Lineage:
    with command.stage("data") as (_, stage):
        engine.register(_TABLE, path)
        line = Lineage(_TABLE, str(path), file_digest(path), None, tuple(engine.columns(_TABLE)))
        for each in (stage, command.tracker.top):
            each.log_dataset(line.table, line.source, line.digest, line.columns, line.rows, context="experiment")
    return line


class _Analysis:
    """The stages that look at the table, each a child run of its own."""

    def __init__(self, command: Command, config: ExperimentConfig, engine: Engine) -> None:
        self._command, self._config = command, config
        self._experiment, self._table = config.experiment(), (engine, _TABLE)
        self._n_conflicting = 0

    def results(self) -> ABTestResults:
        """Everything that the config asks for."""
        found = ABTestResults(self._effects(), self._outliers(), self._distributions(), self._aa())
        rule = self._experiment.decision
        if rule is None or not found.aa:
            return found
        verdict = decide_experiment(found.experiment, rule, aa=found.aa, n_conflicting=self._n_conflicting)
        return replace(found, experiment=replace(found.experiment, verdict=verdict))

    def _effects(self) -> ExperimentResult:
        with self._command.stage("A/B test") as (_, stage), warnings.catch_warnings():
            warnings.simplefilter("ignore", BalanceWarning)  # a note says the same
            aggregates = self._experiment.collect(self._table)
            self._n_conflicting = aggregates.n_conflicting
            found = self._experiment.analyze(aggregates)
            self._log(stage, metrics_of(found))
            for name, rows in (("effects", found.effects), ("diluted", found.diluted), ("segments", found.segments),
                               ("interactions", found.interactions), ("pre_period", found.pre_period)):  # fmt: skip
                if rows:
                    stage.log_frame(rows_of(rows), f"tables/{name}.json")
        for text in found.notes:
            self._command.note(text)
        return found

    def _outliers(self) -> tuple[Any, ...]:
        q = self._config.checks.outlier_quantile
        if q is None:
            return ()
        with self._command.stage("outliers") as (_, stage):
            found = self._experiment.outliers(self._table, q)
            self._log(stage, {f"{each.metric}_outliers": each for each in found})
        return found

    def _distributions(self) -> tuple[Any, ...]:
        if not self._config.checks.distributions:
            return ()
        with self._command.stage("distributions") as (_, stage):
            found = self._experiment.distributions(self._table)
            for each in found:
                stage.log_frame(each.to_frame(), f"tables/{legal_name(f'distribution_{each.metric}')}.json")
        return found

    def _aa(self) -> tuple[Any, ...]:
        n = self._config.checks.aa_simulations
        if not n:
            return ()
        with self._command.stage("A/A simulation") as (advance, stage):
            found = self._experiment.simulate_aa(self._table, n, rng=self._config.seed, progress=advance)
            self._log(stage, {f"{each.metric}_aa": each for each in found})
        return found

    def _log(self, stage: Stage, results: Mapping[str, Result]) -> None:
        for each in (stage, self._command.tracker.top):
            each.log_results(results)


def _save(command: Command, stage: Stage, results: ABTestResults, lineage: Lineage, config: ExperimentConfig) -> None:
    """Figures, the report, the results and what the run was made with."""
    info = command.info("abtest", data=[vars(lineage)])
    figures = {name: Picture.of(axes) for name, axes in draw_figures(results, shares=_shares(config)).items()}
    command.run.write_figures({legal_name(name): picture.png for name, picture in figures.items()})
    stage.log_artifact(command.run.path / FIGURES, FIGURES)
    html = render_report(
        config.name,
        config.description or f"What does {config.variant} change?",
        lead_frame(results.experiment.effects, config.roles()),
        sections(results, figures, decided=_decided(results, config)),
        confidence_level=config.confidence_level,
        caption="Every metric and arm against control",
        banner=banner_of(results.experiment.verdict),
        alarms=tuple(alarms(results)),
        findings=answers(results.experiment),
        checks=checks(results.experiment),
        notes=command.notes,
        appendix=how_made(config, info),
    )
    run = command.run
    write_report(run.path / REPORT, html)
    run.write_config(config)
    run.write_results(results.named())
    run.write_info(info)
    command.tracker.top.log_artifact(run.path / REPORT)
    command.tracker.top.log_text("\n".join(command.notes) or "none", "notes.txt")
    if (verdict := results.experiment.verdict) is not None:
        command.tracker.top.set_tags({"verdict": verdict.verdict} | ({"arm": verdict.arm} if verdict.arm else {}))
        command.tracker.top.log_text(verdict_text(verdict), "verdict.txt")
    command.tracker.top.log_metrics(posterior_metrics(results.experiment.posteriors))


def _decided(results: ABTestResults, config: ExperimentConfig) -> Section:
    rule, verdict = config.rule(), results.experiment.verdict
    words = () if rule is None else rule.in_words()
    return decided(results.experiment, (*words, *(() if verdict is None else (verdict.method,))))


def _shares(config: ExperimentConfig) -> set[str]:
    """The metrics whose values are shares of units, which figures show in percent."""
    return {name for name, metric in config.metrics.items() if metric["kind"] in ("proportion", "retention")}


def _title(result: ExperimentResult, config: ExperimentConfig) -> str:
    arms = ", ".join(dict.fromkeys(e.treatment for e in result.effects))
    return f"{config.name}: {arms} against {config.control}, {result.n_obs:,} units"
