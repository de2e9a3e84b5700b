"""How the models of a run meet the champions: the paired difference on the rows held out, by user or by query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from causalrec._typing import FloatArray
from causalrec.config import RunConfig
from causalrec.datasets import frame_digest
from causalrec.evaluation import compare_scorers
from causalrec.pipelines.champion import Contest, plain_columns
from causalrec.pipelines.ranking import Queries
from causalrec.pipelines.scoring import RankingScorer
from causalrec.pipelines.uplift import Judged, Task
from causalrec.pipelines.uplift_metrics import top_name
from causalrec.ranking import ndcg_at_k, ndcg_difference_at_k
from causalrec.results import EffectResult, Result

_OWN, _CHAMPION = "this model", "the champion"


def uplift_contest(
    frame: pd.DataFrame, uplift: FloatArray, task: Task, config: RunConfig, judged: Judged
) -> Contest | None:
    """By ``uplift.champion_metric`` on the units held out, from the scores that the metrics themselves rest on.

    None where the model's own metric could not be computed.
    """
    settings = config.uplift
    y, treatment = frame[task.outcome].to_numpy(), frame[task.treatment].to_numpy()
    metric = settings.champion_metric
    name = top_name(config) if metric == "uplift_at_k" else metric
    if name not in judged.results:
        return None

    def compare(theirs: FloatArray) -> tuple[EffectResult, float]:
        found = compare_scorers(
            y, {_OWN: uplift, _CHAMPION: theirs}, treatment, metric=metric, k=settings.top_share,
            confidence_level=config.confidence_level, nuisance=judged.scored_by,
        )  # fmt: skip
        theirs_at = list(found.scorer).index(_CHAMPION)
        return found.pair(_OWN, _CHAMPION), float(found.estimate[theirs_at])

    rows = frame_digest(frame[[task.unit, task.treatment, task.outcome]])[:36]
    plain = plain_columns(frame[list(task.covariates)])
    return Contest(
        "uplift", name, effect(judged.results, name), rows, lambda model: model.predict(plain)["uplift"], compare
    )


def effect(results: Mapping[str, Result], name: str) -> EffectResult:
    """A result that is an estimate."""
    found = results[name]
    if not isinstance(found, EffectResult):
        raise TypeError(f"{name} is no estimate")
    return found


def ranking_contest(
    queries: Queries, scorer: RankingScorer, item: str, config: RunConfig, results: dict[str, Result]
) -> Contest:
    """By NDCG on the queries held out."""
    frame, k = queries.frame, config.ranker.k
    y, ids = frame["relevance"], frame["query"]
    shared: dict[str, Any] = {"k": k, "item": frame[item], "missed": queries.missed}
    shared["confidence_level"] = config.confidence_level

    def compare(theirs: FloatArray) -> tuple[EffectResult, float]:
        difference = ndcg_difference_at_k(y, scorer.predict(frame)["score"], theirs, ids, **shared)
        return difference, float(ndcg_at_k(y, theirs, ids, **shared))

    name = f"ndcg_at_{k}"
    rows = frame_digest(frame[["query", item, "relevance"]])[:36]
    plain = plain_columns(frame[list(scorer.spec.columns)])
    return Contest("ranker", name, effect(results, name), rows, lambda model: model.predict(plain)["score"], compare)
