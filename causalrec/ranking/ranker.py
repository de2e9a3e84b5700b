"""The ranker: XGBoost's LambdaMART on query groups."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from causalrec._typing import FloatArray
from causalrec._validation import CovariateForm, check_covariates, check_model_columns, check_vector
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.ranking._queries import query_codes


class Ranker(BaseEstimator):
    """Order items within queries by XGBoost ``rank:ndcg`` (Burges 2010, "From RankNet to LambdaRank to LambdaMART").

    Pairs are formed with the items now on top (``topk``), slightly deeper than the ``k`` that is judged, and gains are
    the grades themselves. Before training the rows of a query are put into an order that depends on their content
    alone (at the start all scores are equal, and then the order decides which pairs are formed): the order in which
    rows come never changes the model.

    Parameters
    ----------
    k : int
        The cut-off of the metric that matters; early stopping watches NDCG@k.
    n_estimators, learning_rate, max_depth, min_child_weight, early_stopping_rounds : XGBoost's settings.
    random_state, n_jobs : int

    Attributes
    ----------
    model_ : xgboost.XGBRanker
    n_features_in_ : int
    feature_names_in_ : array of str, only after ``fit`` on a frame whose column names are strings.

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
        """Fit on rows of any order.

        Parameters
        ----------
        X : frame or array of shape (n, p)
            Numbers, booleans and categories; missing values are allowed.
        y : array of shape (n,)
            Grades >= 0.
        query : array of shape (n,)
            Query ids.
        eval_set : (X, y, query), optional
            Rows of a later time, for early stopping.

        Raises
        ------
        OutcomeError
            For negative, missing or all-zero grades.
        ColumnError
            For text columns, or an ``eval_set`` with other columns.
        CausalRecError
            For missing query ids, or lengths that differ.
        """
        import xgboost

        if self.k < 1:
            raise CausalRecError(f"k is {self.k}; expected at least 1.")
        X = check_covariates(X)
        check_model_columns(X, model="the ranker")
        form = CovariateForm.of(X)
        X, y, query = _grouped(X, y, query, where="y")
        settings: dict[str, Any] = {}
        if eval_set is not None:
            later = _grouped(form.apply(eval_set[0]), eval_set[1], eval_set[2], where="y of eval_set")
            settings = {"eval_set": [later[:2]], "eval_qid": [later[2]]}
        self.model_ = xgboost.XGBRanker(
            objective="rank:ndcg", eval_metric=f"ndcg@{self.k}", lambdarank_pair_method="topk",
            lambdarank_num_pair_per_sample=self.k + 2, ndcg_exp_gain=False, tree_method="hist",
            enable_categorical=True, n_estimators=self.n_estimators, learning_rate=self.learning_rate,
            max_depth=self.max_depth, min_child_weight=self.min_child_weight, random_state=self.random_state,
            n_jobs=self.n_jobs, early_stopping_rounds=self.early_stopping_rounds if eval_set is not None else None,
        )  # fmt: skip
        self.model_.fit(X, y, qid=query, verbose=False, **settings)
        self._form = form
        self.n_features_in_ = form.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if form.names is not None:
            self.feature_names_in_ = form.names
        return self

    def predict(self, X: Any) -> FloatArray:
        """Scores of shape (n,), comparable within a query only.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ColumnError
            When the columns or categories are not those of ``fit`` (a frame's columns may come in any order).
        """
        if not hasattr(self, "model_"):
            raise NotFittedError("this Ranker is not fitted yet; call fit first.")
        return np.asarray(self.model_.predict(self._form.apply(X)), dtype=np.float64)

    @property
    def history_(self) -> list[float]:
        """NDCG@k on the evaluation set after every boosting round; empty without one."""
        evals = getattr(self.model_, "evals_result_", None) or {}
        return [float(v) for series in evals.values() for values in series.values() for v in values]

    @property
    def feature_importances_(self) -> FloatArray:
        """Share of the gain per column, shape (p,)."""
        return np.asarray(self.model_.feature_importances_, dtype=np.float64)


def _grouped(X: Any, y: Any, query: Any, *, where: str) -> tuple[Any, Any, Any]:
    """Rows sorted by query, as XGBoost demands, and by their content within it."""
    grade = check_vector(y, name=where, n_rows=X.shape[0])
    if (grade < 0).any() or not grade.any():
        raise OutcomeError(
            f"{where} holds {int((grade < 0).sum())} negative and {int((grade > 0).sum())} positive grades in "
            f"{len(grade)} rows; expected grades >= 0 with at least one positive, else there is nothing to learn from."
        )
    codes, _ = query_codes(query, len(grade))
    # Floats as XGBoost sees them: engines may differ in the last bit of a double.
    frame = pd.DataFrame(X)
    single = frame.astype(dict.fromkeys(frame.select_dtypes("float64"), np.float32))
    content = pd.util.hash_pandas_object(single, index=False).to_numpy()
    order = np.lexsort((grade, content, codes))
    return (X.iloc[order] if isinstance(X, pd.DataFrame) else X[order]), grade[order], codes[order]
