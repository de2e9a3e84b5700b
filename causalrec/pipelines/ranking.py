"""Stage "ranker": queries on a frozen time split, features as of each cutoff, the model beside its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from causalrec.config import EventsConfig, RunConfig
from causalrec.engines import Engine
from causalrec.exceptions import ConfigError
from causalrec.features import Aggregation, CandidateSpec, FeatureSet, FeatureStore, build_candidates, parse_window
from causalrec.pipelines.designs import hash_shares
from causalrec.pipelines.feature_sets import feature_sets
from causalrec.pipelines.scoring import FrameSpec, RankingScorer
from causalrec.ranking import Ranker, map_at_k, ndcg_at_k, ndcg_difference_at_k, recall_at_k
from causalrec.results import Result

MODEL = "ranker"
RECENT, ALL_TIME, LAST_SEEN = "top_sellers_recent", "top_sellers_all_time", "days_since_last_seen"


@dataclass(frozen=True)
class Queries:
    """Candidates with features and relevance, what the candidates missed, and how many users cannot be judged."""

    frame: pd.DataFrame = field(repr=False)
    missed: pd.DataFrame = field(repr=False)
    n_silent: int


@dataclass(frozen=True)
class RankingData:
    """Queries for training and, each a horizon later, for early stopping, validation and test."""

    train: Queries
    stopping: Queries
    validation: Queries
    test: Queries
    features: tuple[str, ...]
    item: str
    cutoffs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def queries(self) -> tuple[Queries, ...]:
        """All parts, the earliest first."""
        return self.train, self.stopping, self.validation, self.test


@dataclass(frozen=True)
class RankerOutput:
    """The fitted ranker and its results on the validation queries."""

    scorer: RankingScorer
    results: dict[str, Result]
    history: list[float]
    importances: pd.DataFrame = field(repr=False)


def build_ranking(config: RunConfig, events: EventsConfig, engine: Engine, store: FeatureStore) -> RankingData:
    """Cut the log at fixed times, one horizon apart, and compute every feature as of its cutoff."""
    settings = config.ranker
    spec = _candidate_spec(config)
    d = engine.dialect
    last = engine.collect(f"SELECT MAX({d.quote(events.time)}) AS t FROM {d.quote(events.table)}")["t"].iloc[0]
    end = pd.Timestamp(last).floor("D") + pd.Timedelta(days=1)  # the last day is seen in full, also at midnight
    step = pd.Timedelta(parse_window(settings.horizon), unit="us")
    cutoffs = [end - step * i for i in range(settings.train_cutoffs + 3, 0, -1)]
    found = build_candidates(
        engine, events.table, cutoffs, spec, user=events.user, item=events.item, time=events.time,
        event_type=events.event_type,
    )  # fmt: skip
    sets = feature_sets(config, events)
    wide = store.training_frame(found.rows, [*sets, *_baselines(config, events, spec, engine)])
    names = tuple(n for s in sets for n in s.feature_names)
    if not names:
        raise ConfigError(
            "the ranker has no features; configure features.user, .item or .user_item, or ranker.enabled: false."
        )

    def part(chosen: Sequence[pd.Timestamp]) -> Queries:
        inside = wide[wide["event_time"].isin(chosen)].reset_index(drop=True)
        lost = found.missed[found.missed["query"].isin(inside["query"].unique())].reset_index(drop=True)
        silent = found.users.loc[found.users["event_time"].isin(chosen), "n_silent"]
        return Queries(inside, lost, int(silent.sum()))

    texts = tuple(f"{c:%Y-%m-%d}" for c in cutoffs)
    train, (stopping, validation, test) = part(cutoffs[:-3]), (part([cutoff]) for cutoff in cutoffs[-3:])
    most = int(found.users["n_active"].max())
    notes = () if most <= spec.max_queries else (
        f"ranker: {spec.max_queries:,} users a cutoff, drawn by a hash of their id, of up to {most:,} with something "
        "relevant after it (ranker.candidates.max_queries)",
    )  # fmt: skip
    return RankingData(train, stopping, validation, test, names, events.item, texts, notes)


def train_ranker(data: RankingData, config: RunConfig) -> RankerOutput:
    """Fit on the training cutoffs, stop early on the next, report on the one after that."""
    spec = FrameSpec.of(data.train.frame[list(data.features)])
    model = Ranker(k=config.ranker.k, random_state=config.seed, **config.ranker.params)
    train, later = data.train.frame, data.stopping.frame
    model.fit(
        spec.apply(train), train["relevance"], query=train["query"],
        eval_set=(spec.apply(later), later["relevance"], later["query"]),
    )  # fmt: skip
    scorer = RankingScorer(model, spec)
    importances = pd.DataFrame({"feature": spec.columns, "gain": model.feature_importances_})
    results = score_ranking(data.validation, scorer, data.item, config)
    return RankerOutput(scorer, results, model.history_, importances.sort_values("gain", ascending=False))


def score_ranking(queries: Queries, scorer: RankingScorer, item: str, config: RunConfig) -> dict[str, Result]:
    """NDCG, MAP and recall of the ranker, recent and all-time top sellers, the user's last items, a random order.

    Named ``ndcg_at_10`` for the ranker, ``ndcg_at_10_random`` and so on for its baselines, and
    ``ndcg_at_10_over_random`` for the paired difference.
    """
    frame, k = queries.frame, config.ranker.k
    pair = frame["query"].astype(str) + " " + frame[item].astype(str)
    scores = {
        MODEL: scorer.predict(frame)["score"].to_numpy(),
        "recent top sellers": frame[RECENT].to_numpy(np.float64),
        "all-time top sellers": frame[ALL_TIME].to_numpy(np.float64),
        "last seen items": -frame[LAST_SEEN].fillna(np.finfo(np.float64).max).to_numpy(np.float64),
        "random": hash_shares(pair, config.seed),
    }
    y, ids = frame["relevance"], frame["query"]
    shared: dict[str, Any] = {"k": k, "item": frame[item], "missed": queries.missed}
    shared["confidence_level"] = config.confidence_level
    results: dict[str, Result] = {}
    for metric in (ndcg_at_k, map_at_k, recall_at_k):
        for model, score in scores.items():
            found = metric(y, score, ids, model=model, **shared)
            name = found.estimand if model == MODEL else f"{found.estimand}_{_slug(model)}"
            n_silent = found.n_without_positives + queries.n_silent
            results[name] = replace(found, n_without_positives=n_silent)
    for model, score in scores.items():
        if model != MODEL:
            name = f"ndcg_at_{k}_over_{_slug(model)}"
            results[name] = ndcg_difference_at_k(y, scores[MODEL], score, ids, **shared)
    return results


def _slug(model: str) -> str:
    return model.replace(" ", "_").replace("-", "_")


def _baselines(config: RunConfig, events: EventsConfig, spec: CandidateSpec, engine: Engine) -> list[FeatureSet]:
    """What the baselines sort by: how often an item was used, and when the user last did."""
    kinds = ", ".join(engine.dialect.literal(kind) for kind in spec.grades)
    used = f"CAST({engine.dialect.quote(events.event_type)} AS VARCHAR(64)) IN ({kinds})"
    popularity = (
        Aggregation("count", window=config.ranker.popularity_window, where=used, name=RECENT),
        Aggregation("count", where=used, name=ALL_TIME),
    )
    seen = (Aggregation("recency", where=used, name=LAST_SEEN),)
    return [
        FeatureSet(f"{config.name}_popularity", (events.item,), events.table, events.time, popularity),
        FeatureSet(f"{config.name}_last_seen", (events.user, events.item), events.table, events.time, seen),
    ]


def _candidate_spec(config: RunConfig) -> CandidateSpec:
    """Labels reach as far as the next cutoff, never beyond it: the horizon is that of the cutoffs."""
    options: dict[str, Any] = dict(config.ranker.candidates)
    if config.ranker.target == "purchase":
        options.setdefault("grades", {"purchase": 1})
    return CandidateSpec(**options, horizon=config.ranker.horizon)
