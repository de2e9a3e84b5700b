"""The ranker: XGBoost's LambdaMART on query groups."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from causalrec._typing import FloatArray
from causalrec._validation import check_columns, check_covariates, check_length, check_vector
from causalrec.exceptions import OutcomeError


class Ranker(BaseEstimator):  # type: ignore[misc]
    """Order items within queries by XGBoost ``rank:ndcg`` (Burges 2010, "From RankNet to LambdaRank to LambdaMART").

    Pairs are formed with the items now on top (``topk``), slightly deeper than the ``k`` that is judged, and gains are
    the grades themselves.

    Parameters
    ----------
    k : int
        The cut-off of the metric that matters; early stopping watches NDCG@k.
    n_estimators, learning_rate, max_depth, min_child_weight, early_stopping_rounds : XGBoost's settings.
    random_state, n_jobs : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, query = rng.normal(size=(200, 2)), np.repeat(np.arange(20), 10)
    >>> y = (X[:, 0] > 1).astype(int)
    >>> Ranker(n_estimators=5).fit(X, y, query=query).predict(X).shape
    (200,)
    """

    def __init__(
        self,
        *,
        k: int = 10,
        n_estimators: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 5,
        min_child_weight: float = 5.0,
        early_stopping_rounds: int = 25,
        random_state: int = 0,
        n_jobs: int = 2,
    ) -> None:
        self.k = k
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.min_child_weight = min_child_weight
        self.early_stopping_rounds = early_stopping_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, *, query: Any, eval_set: tuple[Any, Any, Any] | None = None) -> Self:
        """Fit on rows (n, p) with grades ``y`` and query ids; ``eval_set`` is (X, y, query) of a later time.

        Rows may come in any order. Raises :class:`OutcomeError` for negative, missing or all-zero grades.
        """
        import xgboost

        X, y, query = _grouped(X, y, query)
        settings: dict[str, Any] = {}
        if eval_set is not None:
            later = _grouped(*eval_set)
            settings = {"eval_set": [later[:2]], "eval_qid": [later[2]]}
        self.model_ = xgboost.XGBRanker(
            objective="rank:ndcg", eval_metric=f"ndcg@{self.k}", lambdarank_pair_method="topk",
            lambdarank_num_pair_per_sample=self.k + 2, ndcg_exp_gain=False, tree_method="hist",
            enable_categorical=True, n_estimators=self.n_estimators, learning_rate=self.learning_rate,
            max_depth=self.max_depth, min_child_weight=self.min_child_weight, random_state=self.random_state,
            n_jobs=self.n_jobs, early_stopping_rounds=self.early_stopping_rounds if eval_set is not None else None,
        )  # fmt: skip
        self.model_.fit(X, y, qid=query, verbose=False, **settings)
        self.columns_ = list(X.columns) if hasattr(X, "columns") else None
        return self

    def predict(self, X: Any) -> FloatArray:
        """Scores of shape (n,), comparable within a query only. Raises ColumnError for other columns than in fit."""
        if not hasattr(self, "model_"):
            raise NotFittedError("this Ranker is not fitted yet; call fit first.")
        X = check_covariates(X)
        if self.columns_ is not None and hasattr(X, "columns"):
            check_columns(X.columns, self.columns_, where="X at predict")
            X = X[self.columns_]
        return np.asarray(self.model_.predict(X), dtype=np.float64)

    @property
    def history_(self) -> list[float]:
        """NDCG@k on the evaluation set after every boosting round; empty without one."""
        evals = getattr(self.model_, "evals_result_", None) or {}
        return [float(v) for series in evals.values() for values in series.values() for v in values]

    @property
    def feature_importances_(self) -> FloatArray:
        """Share of the gain per column, shape (p,)."""
        return np.asarray(self.model_.feature_importances_, dtype=np.float64)


def _grouped(X: Any, y: Any, query: Any) -> tuple[Any, Any, Any]:
    """Rows sorted by query, as XGBoost demands."""
    X = check_covariates(X)
    grade = check_vector(y, name="y", n_rows=X.shape[0])
    check_length(len(query), X.shape[0], name="query")
    if (grade < 0).any() or not grade.any():
        raise OutcomeError(
            "y must hold grades >= 0 with at least one positive; there is nothing to learn from otherwise."
        )
    _, codes = np.unique(np.asarray(query), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    return (X.iloc[order] if hasattr(X, "iloc") else X[order]), grade[order], codes[order]
