"""``causalrec infer``: score a batch with a trained run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._files import new_file
from causalrec._validation import check_not_empty, list_some
from causalrec.exceptions import ColumnError, DatasetError, StoreError
from causalrec.pipelines.progress import Reporter, SilentReporter
from causalrec.pipelines.rundir import RunDirectory
from causalrec.pipelines.scoring import RankingScorer, UpliftScorer


@dataclass(frozen=True)
class Inference:
    """The scores by kind: where they were written, and the frame."""

    outputs: dict[str, tuple[Path, pd.DataFrame]] = field(repr=False)


def infer(
    run: RunDirectory, *, batch: Path | None = None, output: Path | None = None, reporter: Reporter | None = None
) -> Inference:
    """Score a batch of units (uplift) or of candidates (ranking); without one, what the run held out.

    A batch holds the columns that the model was trained on; which model applies is seen by the columns. Units come back
    in their order, with the columns that are no covariates. Ranked candidates need ``query`` besides, and come back as
    the first k of each query.

    Parameters
    ----------
    batch : path, optional
        A Parquet or CSV file.
    output : path, optional
        Parquet file to write; ``scores/<kind>.parquet`` in the run's directory by default.

    Raises
    ------
    ColumnError
        When the batch has the columns of neither model; the missing ones are named.
    DatasetError
        When the file cannot be read.
    StoreError
        When the output cannot be written, or the run has no model.
    """
    reporter = reporter or SilentReporter()
    with reporter.stage("scoring"):
        scorers = {kind: model for kind in ("uplift", "ranker") if (model := run.model(kind)) is not None}
        if not scorers:
            raise StoreError(f"run {run.path} has no model: its config enables neither uplift nor the ranker.")
        if batch is None:
            held_out = {"uplift": "holdout/uplift", "ranker": "holdout/ranking"}
            frames = {k: f for k in scorers if (f := run.frame(held_out[k])) is not None}
        else:
            frame = _read(batch)
            frames = dict.fromkeys(_applicable(frame, scorers, batch), frame)
        if output is not None and len(frames) > 1:
            raise StoreError(
                "both models apply, but --output names one file; leave it out to get one file for each in the run."
            )
        found = {}
        for kind, rows in frames.items():
            scored = _score_units(rows, scorers[kind]) if kind == "uplift" else _rank(rows, scorers[kind], run)
            path = output or run.path / "scores" / f"{kind}.parquet"
            for column, n in scorers[kind].spec.unseen(rows).items():
                reporter.note(f"{kind}: {n:,} of {len(rows):,} values of {column!r} are new since training: as missing")
            with new_file(path) as scratch:
                scored.to_parquet(scratch, index=False)
            found[kind] = (path, scored)
    return Inference(found)


def _applicable(frame: pd.DataFrame, scorers: dict[str, Any], batch: Path) -> list[str]:
    check_not_empty(len(frame), where=str(batch))
    lacking = {}
    for kind, scorer in scorers.items():
        needed = [*scorer.spec.columns, *(["query"] if kind == "ranker" else [])]
        lacking[kind] = [c for c in needed if c not in frame.columns]
    fitting = [kind for kind, missing in lacking.items() if not missing]
    if not fitting:
        texts = "; ".join(f"for {kind}: {list_some(missing)}" for kind, missing in lacking.items())
        raise ColumnError(
            f"{batch}: missing columns {texts}. A batch needs the covariates and features of training; "
            "compute features with causalrec.features.FeatureStore."
        )
    return fitting


def _score_units(frame: pd.DataFrame, scorer: UpliftScorer) -> pd.DataFrame:
    scores = scorer.predict(frame)
    kept = [c for c in frame.columns if c not in scorer.spec.columns and c not in scores.columns]
    return pd.concat([frame[kept].reset_index(drop=True), scores], axis=1)


def _rank(frame: pd.DataFrame, scorer: RankingScorer, run: RunDirectory) -> pd.DataFrame:
    events = run.config().events
    item = events.item if events is not None and events.item in frame.columns else None
    user = events.user if events is not None and events.user in frame.columns else None
    kept = [c for c in ("query", user, item, "event_time") if c is not None and c in frame.columns]
    scored = frame[kept].reset_index(drop=True).assign(score=scorer.predict(frame)["score"])
    scored = scored.sort_values(
        ["query", "score", *([item] if item else [])], ascending=[True, False, *([True] if item else [])], kind="stable"
    )
    scored["rank"] = scored.groupby("query", sort=False).cumcount().to_numpy(np.int64) + 1
    return scored[scored["rank"] <= run.config().ranker.k].reset_index(drop=True)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DatasetError(f"batch {path} does not exist; expected a Parquet or CSV file.")
    try:
        return pd.read_parquet(path) if path.suffix in (".parquet", ".pq") else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"batch {path} cannot be read as Parquet or CSV: {error}") from error
