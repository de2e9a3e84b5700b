"""``causalrec evaluate``: a trained run on its held-out data, the report, and the champion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from causalrec._files import new_directory
from causalrec.datasets import frame_digest
from causalrec.evaluation import qini_score
from causalrec.exceptions import StoreError
from causalrec.pipelines.inputs import Truth
from causalrec.pipelines.page import draw, sections
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.pipelines.ranking import Queries, score_ranking
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.session import Session, how_made, tracked
from causalrec.pipelines.summary import RunSummary, findings, summarise
from causalrec.pipelines.uplift import GROUPS, LOSSES, Task, judge, named, true_scores
from causalrec.ranking import ndcg_at_k
from causalrec.report import SummaryRow, render_report, write_report
from causalrec.tracking import Stage

REPORT = "report.html"


def evaluate(run: RunDirectory, *, reporter: Reporter | None = None) -> RunSummary:
    """Score the held-out units and queries of a run, write ``evaluation/report.html``, and choose the champion.

    The average effect and the A/B test, which use every unit, are those of the training command. A former evaluation
    of the run is replaced as a whole.

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
        _score_ranker(session, run, info)
        _score_uplift(session, run, info)
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


def _score_ranker(session: Session, run: RunDirectory, info: dict[str, Any]) -> None:
    if "ranker" not in info:
        return
    config, scorer, item = session.config, _required(run, "ranker"), info["ranker"]["item"]
    frame, missed = _held_out(run, "ranking"), _held_out(run, "ranking_missed")
    queries = Queries(frame, missed, info["ranker"]["n_silent"])
    with session.stage("ranker") as (_, stage):
        session.record(stage, score_ranking(queries, scorer, item, config))
        metric = f"ndcg_at_{config.ranker.k}"

        def score(model: Any) -> float:
            points = model.predict(_plain(frame[list(scorer.spec.columns)]))["score"]
            found = ndcg_at_k(
                frame["relevance"], points, frame["query"], k=config.ranker.k, item=frame[item], missed=missed
            )
            return found.estimate

        _promote(session, "ranker", metric, frame, score, info)


def _score_uplift(session: Session, run: RunDirectory, info: dict[str, Any]) -> None:
    if "uplift" not in info:
        return
    scorer, described = _required(run, "uplift"), info["uplift"]
    config = named(session.config, randomised=described["propensity"] is not None)
    frame = _held_out(run, "uplift")
    treatment, outcome = described["treatment"], described["outcome"]
    arms = tuple(described["arms"])
    task = Task(scorer.spec.columns, treatment, outcome, described["unit"], described["propensity"], arms)
    with session.stage("uplift") as (_, stage):
        uplift = scorer.predict(frame)["uplift"].to_numpy()
        units = run.frame("truth/units")
        truth = None if units is None else Truth(units)
        known = true_scores(frame.assign(uplift=uplift), described["unit"], described["truth"], truth, config)
        judged = judge(frame, uplift, scorer, task, config)
        session.record(stage, judged.results, known)
        for text in judged.notes:
            session.note(text)
        session.run.write_frame("uplift_scores", frame[[described["unit"], treatment, outcome]].assign(uplift=uplift))

        def score(model: Any) -> float:
            found = model.predict(_plain(frame[list(scorer.spec.columns)]))["uplift"]
            return qini_score(frame[outcome], found, frame[treatment], propensity=judged.propensity).estimate

        _promote(session, "uplift", "qini", frame, score, info)


def _carry_over(session: Session, stage: Stage, run: RunDirectory, info: dict[str, Any]) -> None:
    """The results that have no held-out part: they used every unit when the run was trained."""
    mine = session.results
    judged = ("ndcg_at_", "map_at_", "recall_at_", "uplift_at_", "qini", "auuc", "uplift_bins", LOSSES, GROUPS)
    rest = {name: result for name, result in run.results().items() if name not in mine and not name.startswith(judged)}
    session.record(stage, rest, {name: value for name, value in info["truths"].items() if name in rest})


def _page(session: Session, rows: tuple[SummaryRow, ...], info: dict[str, Any]) -> str:
    config = session.config
    return render_report(
        config.name,
        config.description,
        rows,
        sections(session.results, draw(session.results, session.truths)),
        confidence_level=config.confidence_level,
        findings=findings(session.results),
        notes=session.notes,
        appendix=how_made(config, info),
    )


def _promote(
    session: Session,
    kind: str,
    metric: str,
    held_out: pd.DataFrame,
    score: Callable[[Any], float],
    info: dict[str, Any],
) -> None:
    """Make this run's model the champion when it beats the last one on this run's held-out data.

    Better is a higher score, however little. A champion that was judged on the same rows keeps the number it has;
    another one is scored on these rows, some of which it may have been trained on, which favours it.
    """
    registered = info["models"].get(kind)
    if registered is None or not session.tracker.active:
        return
    name, version = registered["name"], registered["version"]
    mine = float(session.results[metric].to_dict()["estimate"])
    digest = frame_digest(held_out)[:36]
    champion = session.tracker.champion(name)
    if champion is not None and champion[0] == version:
        return
    theirs = -np.inf
    if champion is not None:
        same_rows = champion[1].get("held_out") == digest and champion[1].get("metric") == metric
        theirs = float(champion[1]["value"]) if same_rows else _score_champion(session, name, score)
    if mine > theirs:
        session.tracker.set_champion(name, version, {"metric": metric, "value": repr(mine), "held_out": digest})
    verdict = "is the champion" if mine > theirs else "does not beat the champion"
    against = "" if champion is None else f", against {theirs:.4g} of version {champion[0]}"
    session.note(f"model {name}, version {version}, {verdict} ({metric} {mine:.4g}{against})")


def _score_champion(session: Session, name: str, score: Callable[[Any], float]) -> float:
    model = session.tracker.load_champion(name)
    if model is None:
        return np.inf
    try:
        return score(model)
    except Exception as error:  # the champion is foreign code: any failure of it only means that it cannot compete
        session.note(f"the champion of {name} cannot score this data and gives way: {str(error).splitlines()[0][:200]}")
        return -np.inf


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns in the types of a registered model's signature: numbers as doubles, categories as text."""
    return frame.astype(
        {c: "float64" if pd.api.types.is_numeric_dtype(t) else "object" for c, t in frame.dtypes.items()}
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
