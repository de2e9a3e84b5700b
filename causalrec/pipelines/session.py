"""What the stages of a command share: where they report, what they have found, and how it is tracked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from causalrec.config import RunConfig, RunSettings, TrackingConfig
from causalrec.engines import Engine, open_engine
from causalrec.pipelines.page import draw
from causalrec.pipelines.progress import Advance, Reporter
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.uplift_summary import uplift_verdict
from causalrec.report import Picture
from causalrec.results import (
    BalanceResult,
    BoostingCurveResult,
    CleaningResult,
    CurveResult,
    EffectComparisonResult,
    GroupEffectsResult,
    ImportanceResult,
    LearnerComparisonResult,
    OverlapResult,
    PolicyTreeResult,
    ProfitCurveResult,
    QualityResult,
    RefutationsResult,
    Result,
    SegmentsResult,
    UpliftBinsResult,
    UpliftCalibrationResult,
)
from causalrec.tracking import Stage, Tracker, git_commit, package_versions

_TABLES = (
    BalanceResult,
    BoostingCurveResult,
    CleaningResult,
    CurveResult,
    EffectComparisonResult,
    GroupEffectsResult,
    ImportanceResult,
    LearnerComparisonResult,
    OverlapResult,
    PolicyTreeResult,
    ProfitCurveResult,
    QualityResult,
    RefutationsResult,
    SegmentsResult,
    UpliftBinsResult,
    UpliftCalibrationResult,
)


@dataclass
class Command:
    """A command at work: where it reports and is tracked, what it writes, and what it noted."""

    config: RunSettings
    reporter: Reporter
    tracker: Tracker
    run: RunDirectory
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, title: str) -> Iterator[tuple[Advance, Stage]]:
        """Enter a stage: shown while it works, a child run in MLflow."""
        with self.reporter.stage(title) as advance, self.tracker.stage(title) as stage:
            yield advance, stage

    def note(self, text: str) -> None:
        """Say a line now, and keep it for the report."""
        self.notes.append(text)
        self.reporter.note(text)

    def info(self, command: str, **more: Any) -> dict[str, Any]:
        """What ``run.json`` says of this command."""
        return {
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_commit": git_commit(),
            "versions": package_versions(),
            "notes": self.notes,
            "tracking": {"uri": self.config.tracking.uri, "run_id": self.tracker.run_id},
            **more,
        }

    def tracking_line(self) -> str:
        """Where the run is tracked, or why it is not."""
        if self.tracker.failure:
            return self.tracker.failure
        if not self.config.tracking.enabled:
            return "off (tracking.enabled: false)"
        uri = self.config.tracking.uri
        other = "" if uri == TrackingConfig().uri else f" --uri {uri}"
        return f"{uri}, experiment {experiment_name(self.config)!r}; open it with: causalrec ui{other}"


@dataclass
class Session(Command):
    """A run of the pipeline at work; results, truths, models and what describes them gather here, stage by stage."""

    config: RunConfig
    results: dict[str, Result] = field(default_factory=dict)
    truths: dict[str, float] = field(default_factory=dict)
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)

    def record(self, stage: Stage, results: Mapping[str, Result], truths: Mapping[str, float] | None = None) -> None:
        """Keep results; log numbers to the stage and to the whole run, figures and tables to the stage.

        A figure is drawn once, for the store and for the page.
        """
        known = {name: value for name, value in (truths or {}).items() if value == value}
        self.results |= results
        self.truths |= known
        for each in (stage, self.tracker.top):
            each.log_results(results)
            each.log_metrics({f"{name}_truth": value for name, value in known.items()})
        if not self.tracker.active:
            return
        for name, axes in draw(results, known).items():
            self.pictures[name] = Picture.of(axes)
            stage.log_picture(self.pictures[name].png, f"figures/{name}.png")
        for name, result in results.items():
            if isinstance(result, _TABLES):
                stage.log_frame(result.to_frame(), f"tables/{name}.json")

    def info(self, command: str, **more: Any) -> dict[str, Any]:
        """What ``run.json`` says of this command; true effects too, and whether the uplift model is any good."""
        return super().info(command, truths=self.truths, uplift_verdict=uplift_verdict(self.results), **more)


def how_made(config: RunSettings, info: Mapping[str, Any]) -> str:
    """Code, packages, data and configuration, for the end of a report; ``info`` is that of :meth:`Command.info`."""
    data = "\n".join(f"{d['table']:<16} {d['digest'][:16]}  {d['source']}" for d in info["data"])
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    commit = info["git_commit"] or "unknown"
    return f"commit {commit}\n{versions}\n\nData by content digest:\n{data}\n\nConfiguration:\n{config.to_yaml()}"


def experiment_name(config: RunSettings) -> str:
    """The MLflow experiment of a config."""
    return config.tracking.experiment or config.name


@contextmanager
def tracked(config: RunSettings, reporter: Reporter, command: str, tags: Mapping[str, str]) -> Iterator[Tracker]:
    """An MLflow run for a command; opening it counts as a stage, since MLflow alone takes seconds to import."""
    with ExitStack() as stack:
        with reporter.stage("tracking"):
            tracker = stack.enter_context(
                Tracker.open(
                    uri=config.tracking.uri,
                    experiment=experiment_name(config),
                    run_name=f"{command} {tags['run']}",
                    params=config.model_dump(mode="json"),
                    tags={"command": command, **tags},
                    enabled=config.tracking.enabled,
                    say=reporter.note,
                )
            )
        yield tracker


@contextmanager
def opened_engine(config: RunSettings) -> Iterator[Engine]:
    """The engine that the config names."""
    with open_engine(config.engine.name, **config.engine.options) as engine:
        yield engine
