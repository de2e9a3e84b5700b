"""``causalrec evaluate``: a trained run on its held-out data, the report, and the champion."""

from __future__ import annotations

from typing import Any

import pandas as pd

from causalrec._files import new_directory
from causalrec.config import RunConfig
from causalrec.exceptions import StoreError
from causalrec.pipelines.champion import crown
from causalrec.pipelines.contests import ranking_contest, uplift_contest
from causalrec.pipelines.inputs import Truth
from causalrec.pipelines.page import draw, sections
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.pipelines.ranking import Queries, score_ranking
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.session import Session, how_made, tracked
from causalrec.pipelines.summary import RunSummary, findings, summarise
from causalrec.pipelines.targeting import find_segments, policy_tree, profit
from causalrec.pipelines.uplift import GROUPS, LOSSES, R_LOSS, Judged, Task, judge, named
from causalrec.pipelines.uplift_metrics import JUDGED, true_scores
from causalrec.pipelines.uplift_summary import PROFIT, SEGMENTS, TREE
from causalrec.report import SummaryRow, render_report, write_report
from causalrec.tracking import Stage

REPORT = "report.html"


def evaluate(run: RunDirectory, *, promote: bool = False, reporter: Reporter | None = None) -> RunSummary:
    """Score the held-out units and queries of a run, write ``evaluation/report.html``, and choose the champion.

    The average effect and the A/B test, which use every unit, are those of the training command. A former evaluation
    of the run is replaced as a whole.

    Parameters
    ----------
    promote : bool
        Make the run's models the champions of their names whatever the comparison says. Else a model becomes champion
        as the first of its name, or where the interval of the paired difference says that it is better.

    Raises
    ------
    StoreError
        When the run lacks a file, or its directory cannot be written.
    """
    reporter = reporter or SilentReporter()
    config, info = run.config(), run.info()
    target = run.path / "evaluation"
    tags = {"run": run.id, "trained_run_id": str(info["tracking"]["run_id"] or "")}
    with tracked(config, reporter, "evaluate", tags) as tracker, new_directory(target, replace=True) as partial:
        session = Session(config, reporter, tracker, RunDirectory(partial))
        session.notes.extend(info["notes"])
        _log_lineage(session, info)
        _score_ranker(session, run, info, promote=promote)
        _score_uplift(session, run, info, promote=promote)
        with session.stage("report") as (_, stage):
            _carry_over(session, stage, run, info)
            rows = summarise(session.results, session.truths)
            html = _page(session, rows, info)
            write_report(partial / REPORT, html)
            session.run.write_results(session.results)
            session.run.write_info(session.info("evaluate", models=info["models"]))
            tracker.top.log_artifact(partial / REPORT)
    return RunSummary(
        title=f"{config.name}: ranker and uplift on held-out data, effects on all units",
        confidence_level=config.confidence_level,
        rows=rows,
        findings=findings(session.results),
        notes=tuple(session.notes),
        path=run.path,
        report=target / REPORT,
        tracking=session.tracking_line(),
        results=session.results,
    )


def _log_lineage(session: Session, info: dict[str, Any]) -> None:
    for line in info["data"]:
        session.tracker.top.log_dataset(
            line["table"], line["source"], line["digest"], line["columns"], line["rows"], context="evaluation"
        )


def _score_ranker(session: Session, run: RunDirectory, info: dict[str, Any], *, promote: bool) -> None:
    if "ranker" not in info:
        return
    config, scorer, item = session.config, _required(run, "ranker"), info["ranker"]["item"]
    frame, missed = _held_out(run, "ranking"), _held_out(run, "ranking_missed")
    queries = Queries(frame, missed, info["ranker"]["n_silent"])
    with session.stage("ranker") as (_, stage):
        found = score_ranking(queries, scorer, item, config)
        session.record(stage, found)
        contest = ranking_contest(queries, scorer, item, config, found)
        crown(session, stage, contest, info["models"].get("ranker"), promote=promote)


def _score_uplift(session: Session, run: RunDirectory, info: dict[str, Any], *, promote: bool) -> None:
    if "uplift" not in info:
        return
    scorer, described = _required(run, "uplift"), info["uplift"]
    config = named(session.config, randomised=described["propensity"] is not None)
    frame = _held_out(run, "uplift")
    treatment, outcome = described["treatment"], described["outcome"]
    arms = tuple(described["arms"])
    task = Task(scorer.spec.columns, treatment, outcome, described["unit"], described["propensity"], arms)
    with session.stage("uplift") as (_, stage):
        predicted = scorer.predict(frame)
        uplift = predicted["uplift"].to_numpy()
        units = run.frame("truth/units")
        truth = None if units is None else Truth(units)
        known = true_scores(frame.assign(uplift=uplift), described["unit"], described["truth"], truth, config)
        judged = judge(frame, uplift, scorer, task, config)
        session.record(stage, judged.results, known)
        for text in judged.notes:
            session.note(text)
        session.run.write_frame("uplift_scores", frame[[described["unit"], treatment, outcome]].assign(uplift=uplift))
        _target(session, stage, frame, predicted, task, judged, config)
        contest = uplift_contest(frame, uplift, task, config, judged)
        if contest is None:
            session.note(f"uplift: no comparison with the champion: no {config.uplift.champion_metric} of these units")
        else:
            crown(session, stage, contest, info["models"].get("uplift"), promote=promote)


def _target(
    session: Session,
    stage: Stage,
    frame: pd.DataFrame,
    predicted: pd.DataFrame,
    task: Task,
    judged: Judged,
    config: RunConfig,
) -> None:
    """Segments, with the rule that finds them among new units; profit by share treated where costs are known."""
    segments, rule, why = find_segments(frame, predicted, task, judged, config.confidence_level)
    if segments is not None and rule is not None:
        session.record(stage, {SEGMENTS: segments})
        session.run.write_segments(rule)
        stage.log_text(str(rule), "segments.txt")
    if why:
        session.note(why)
    tree = policy_tree(frame, task, judged, config)
    if tree is not None:
        session.record(stage, {TREE: tree})
    if config.uplift.targeting is not None:
        session.record(stage, {PROFIT: profit(frame, predicted, task, judged, config)})


def _carry_over(session: Session, stage: Stage, run: RunDirectory, info: dict[str, Any]) -> None:
    """The results that have no held-out part: they used every unit when the run was trained."""
    mine = session.results
    judged = ("ndcg_at_", "map_at_", "recall_at_", *JUDGED, LOSSES, R_LOSS, GROUPS)
    rest = {name: result for name, result in run.results().items() if name not in mine and not name.startswith(judged)}
    session.record(stage, rest, {name: value for name, value in info["truths"].items() if name in rest})


def _page(session: Session, rows: tuple[SummaryRow, ...], info: dict[str, Any]) -> str:
    config = session.config
    # Drawn already where all of them went to the store.
    figures = session.pictures if session.tracker.active else draw(session.results, session.truths)
    return render_report(
        config.name,
        config.description,
        rows,
        sections(session.results, figures),
        confidence_level=config.confidence_level,
        findings=findings(session.results),
        notes=session.notes,
        appendix=how_made(config, info),
    )


def _required(run: RunDirectory, kind: str) -> Any:
    model = run.model(kind)
    if model is None:
        raise StoreError(f"run {run.path} has no {kind} model; it was damaged after training. Train it again.")
    return model


def _held_out(run: RunDirectory, name: str) -> pd.DataFrame:
    frame = run.frame(f"holdout/{name}")
    if frame is None:
        raise StoreError(f"run {run.path} has no held-out {name} data; it was damaged after training. Train it again.")
    return frame
