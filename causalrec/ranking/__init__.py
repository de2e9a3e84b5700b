"""Ranking: the model, the metrics, and the baselines it must beat."""

from causalrec.ranking.metrics import map_at_k, ndcg_at_k, ndcg_difference_at_k, recall_at_k
from causalrec.ranking.ranker import Ranker

__all__ = ["Ranker", "map_at_k", "ndcg_at_k", "ndcg_difference_at_k", "recall_at_k"]
