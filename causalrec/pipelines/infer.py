"""``causalrec infer``: score a batch with a trained run, and say what to do with each unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from causalrec.pipelines.targeting import Recommendations, chosen_targeting, recommend
from causalrec.uplift_config import TargetingConfig

EVALUATION = "evaluation"


@dataclass(frozen=True)
class Inference:
    """The scores by kind: where they were written, and the frame; what to do with the units, where they have uplift."""

    outputs: dict[str, tuple[Path, pd.DataFrame]] = field(repr=False)
    recommendations: Recommendations | None = None


def infer(
    run: RunDirectory,
    *,
    batch: Path | None = None,
    output: Path | None = None,
    targeting: Mapping[str, float] | None = None,
    reporter: Reporter | None = None,
) -> Inference:
    """Score a batch of units (uplift) or of candidates (ranking); without one, what the run held out.

    A batch holds the columns that the model was trained on; which model applies is seen by the columns. Units come back
    in their order, with the columns that are no covariates and these:

    - ``uplift``: the predicted effect of treatment, in the outcome's unit;
    - ``outcome_if_control``, ``outcome_if_treated``: the expected outcome under each arm, of learners that model it
      (those that model the effect alone bring the first, from their nuisances);
    - ``uplift_segment``: persuadables, sure things, lost causes, sleeping dogs or undecided, by the rule that
      ``causalrec evaluate`` learned on units held out; absent before that;
    - ``action``: the name of the arm that is recommended;
    - ``cost`` and ``expected_gain``, where costs are known: of the action.

    Ranked candidates need ``query`` besides, and come back as the first k of each query.

    Parameters
    ----------
    batch : path, optional
        A Parquet or CSV file.
    output : path, optional
        Parquet file to write; ``scores/<kind>.parquet`` in the run's directory by default.
    targeting : mapping, optional
        ``value``, ``cost`` and ``budget`` in place of those of ``uplift.targeting`` in the run's config.

    Raises
    ------
    ColumnError
        When the batch has the columns of neither model; the missing ones are named.
    ConfigError
        When an amount is not above zero, or one is missing.
    DatasetError
        When the file cannot be read.
    StoreError
        When the output cannot be written, or the run has no model.
    """
    reporter = reporter or SilentReporter()
    money = chosen_targeting(run.config().uplift.targeting, targeting or {})
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
        found, advice = {}, None
        for kind, rows in frames.items():
            for column, n in scorers[kind].spec.unseen(rows).items():
                reporter.note(f"{kind}: {n:,} of {len(rows):,} values of {column!r} are new since training: as missing")
            if kind == "uplift":
                scored, advice = _score_units(rows, scorers[kind], run, money, reporter)
            else:
                scored = _rank(rows, scorers[kind], run)
            path = output or run.path / "scores" / f"{kind}.parquet"
            with new_file(path) as scratch:
                scored.to_parquet(scratch, index=False)
            found[kind] = (path, scored)
    return Inference(found, advice)


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


def _score_units(
    frame: pd.DataFrame, scorer: UpliftScorer, run: RunDirectory, targeting: TargetingConfig | None, reporter: Reporter
) -> tuple[pd.DataFrame, Recommendations]:
    scores = scorer.predict(frame)
    evaluation = RunDirectory(run.path / EVALUATION)
    advice = recommend(scores, run.info()["uplift"]["arms"], evaluation.segments(), targeting)
    shown = (evaluation if evaluation.exists() else run).info().get("uplift_verdict")
    advice = replace(advice, basis=(*advice.basis, *([shown] if shown else [])))
    new = pd.concat([scores, advice.frame], axis=1)
    others = [c for c in frame.columns if c not in scorer.spec.columns]
    lost = [c for c in others if c in new.columns]
    if lost:
        reporter.note(f"uplift: the batch's own columns {list_some(lost)} give way to the scores of that name")
    kept = frame[[c for c in others if c not in lost]].reset_index(drop=True)
    return pd.concat([kept, new], axis=1), advice


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
