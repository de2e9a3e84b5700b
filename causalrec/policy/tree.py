"""Policy trees: whom to give what, as a few questions that anybody can read, learned on doubly robust scores."""

from __future__ import annotations

import zlib
from math import comb
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import (
    CovariateForm,
    check_confidence_level,
    check_covariates,
    check_length,
    check_model_columns,
)
from causalrec.exceptions import CausalRecError
from causalrec.nuisance import ArmScores
from causalrec.nuisance.folds import check_n_folds, make_folds
from causalrec.policy._inputs import cost_table
from causalrec.policy._tree_grid import columns_of, level_names
from causalrec.policy._tree_nodes import Nodes
from causalrec.policy._tree_search import Search, grow
from causalrec.policy._tree_value import as_arm_scores, tree_result
from causalrec.results import PolicyTreeResult

_DEEPEST = 3
_USUAL_CUTS = (255, 63, 15)  # with one, two and three levels searched together
_ALL_CUTS_ROWS = 20_000  # up to so many rows more cuts are tried,
_CELLS = 2e7  # as far as the tables of all covariates stay below so many numbers
_THREE_LEVELS = 4e9  # rows times triples of covariates, beyond which two levels are searched together


class PolicyTree(BaseEstimator):
    """The tree of a few yes-or-no questions that gives each unit the arm of the highest expected net value.

    The mean of the scores of the arms that it gives is the estimated value of a policy; the tree of the highest value
    is found by exact search over a grid of cuts, not by one greedy split after another.

    Parameters
    ----------
    depth : {1, 2, 3}
        Questions that are asked of a unit at most.
    value : float
        What a unit of the outcome is worth.
    cost : float, mapping of arms to floats, or array of shape (k - 1,), optional
        What each arm costs more than control, for every unit that gets it, in the same money; nothing by default.
    min_leaf : int or float
        Least rows of a leaf, or their least share of all (a float).
    n_cuts : "auto", int or None
        The most cuts of a covariate that are tried, between quantiles; None: all. By default 255 for a last question,
        63 where two levels are searched together and 15 for three, and more up to 20,000 rows, as time allows.
    search_depth : int, optional
        Levels that are searched together: the first question is that of the best tree of so many levels, and so on
        below. By default all, so that the tree is the best one on the grid; where three levels would take too long
        (rows times triples of covariates above 4e9) two.

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    tree_ : Node
    search_depth_ : int
        Levels that were searched together.
    n_features_in_, feature_names_in_ : as scikit-learn has them

    Notes
    -----
    Athey and Wager (2021), Econometrica 89, "Policy learning with observational data": trees on cross-fitted doubly
    robust scores have regret of order one over root n. Search as in the R package policytree, whose ``policy_tree`` is
    this with all cuts, and whose ``hybrid_policy_tree`` is ``search_depth=2``; below the first question the grid is
    laid anew for the rows there, so that no tree on the first grid is better.

    A category's levels are put in the order of what treatment brings there, once, and cut as numbers are. Missing
    values go to the side where they bring more. Ties go to control and to fewer questions.

    Examples
    --------
    >>> from causalrec.nuisance import arm_scores
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"age": rng.uniform(20, 70, 4000), "visits": rng.integers(0, 9, 4000)})
    >>> treatment = rng.integers(0, 2, 4000)
    >>> y = np.where((X["age"] > 50) & (X["visits"] < 4), 1.0, -0.5) * treatment + rng.normal(size=4000)
    >>> scores = arm_scores(y, treatment, propensity=0.5)
    >>> train, test = np.arange(2000), np.arange(2000, 4000)
    >>> tree = PolicyTree(depth=2).fit(X.iloc[train], scores.table()[train])
    >>> print(tree.export_text())
    age ≤ 49.69:
      0 (59.9% of the training rows)
    else:
      visits ≤ 3.5:
        1 (17.7% of the training rows)
      else:
        0 (22.4% of the training rows)
    >>> tree.evaluate(X.iloc[test], scores.table()[test]).gain.round(2).tolist()
    [0.21, 0.42]
    """

    def __init__(
        self,
        depth: int = 2,
        *,
        value: float = 1.0,
        cost: Any = None,
        min_leaf: int | float = 0.05,
        n_cuts: int | str | None = "auto",
        search_depth: int | None = None,
    ) -> None:
        self.depth = depth
        self.value = value
        self.cost = cost
        self.min_leaf = min_leaf
        self.n_cuts = n_cuts
        self.search_depth = search_depth

    def fit(self, X: Any, scores: Any, *, sample_weight: Any = None) -> Self:
        """Find the best tree.

        Parameters
        ----------
        X : frame or array of shape (n, p)
            Numbers, booleans and categories, with or without missing values; best few, and known before treatment.
        scores : Nuisances, ArmScores, or array of shape (n, k)
            Of these rows; a table of each arm's scores, control first, such as ``nuisance.scores``. The columns of a
            frame name the arms.
        sample_weight : array of shape (n,), optional
            With a table; the others bring theirs.

        Raises
        ------
        ColumnError
            For text columns, or names used twice.
        CausalRecError
            For scores of other rows, or settings out of range.
        """
        of_arms = as_arm_scores(scores, sample_weight, None)
        return self._fit(check_covariates(X), of_arms)

    def predict(self, X: Any) -> AnyArray:
        """The arm of each unit, shape (n,), as the labels of the scores (0..k-1 of a table).

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ColumnError
            When the columns or categories are not those of ``fit``.
        """
        place = self._places(X)
        return np.array(self.labels_)[self._nodes.arms[place]]

    def evaluate(
        self, X: Any, scores: Any, *, sample_weight: Any = None, clusters: Any = None, confidence_level: float = 0.95
    ) -> PolicyTreeResult:
        """What the tree is worth on these rows, which it must not have learned from, beside one arm for everybody.

        Parameters
        ----------
        X : frame or array of shape (n, p)
        scores : Nuisances, ArmScores, or array of shape (n, k)
            Of these rows.
        sample_weight, clusters : arrays of shape (n,), optional
            With a table; the others bring theirs.
        confidence_level : float

        Raises
        ------
        NotFittedError
            Before ``fit``.
        CausalRecError
            For scores of other rows or arms.

        Notes
        -----
        On the rows of ``fit`` the result says so, and has no intervals: a tree is chosen for its value there.
        """
        level = check_confidence_level(confidence_level)
        of_arms = as_arm_scores(scores, sample_weight, clusters)
        place = self._places(X)
        check_length(len(place), len(of_arms.y), name="X")
        if of_arms.labels != self.labels_:
            raise CausalRecError(f"scores are of the arms {of_arms.labels}; the tree was learned on {self.labels_}.")
        own = zlib.crc32(self._net(of_arms).tobytes()) == self._seen
        return self._result(
            of_arms, self._nodes.arms[place], place, level, "training rows" if own else "held-out rows"
        )  # fmt: skip

    def cross_evaluate(
        self,
        X: Any,
        scores: Any,
        *,
        sample_weight: Any = None,
        clusters: Any = None,
        n_folds: int = 5,
        random_state: int = 0,
        confidence_level: float = 0.95,
    ) -> PolicyTreeResult:
        """What trees learned this way are worth, from all rows: each fold gets the arms of a tree of the other folds.

        The tree that is shown is the one of all rows (this estimator is fitted on them), without intervals in its
        leaves. Parameters are those of :meth:`evaluate`, and

        Parameters
        ----------
        n_folds : int
        random_state : int
            Of the folds, which hold clusters whole.

        Notes
        -----
        The value is that of trees of a little fewer rows. Folds teach one another's trees, so that their values vary
        together. Variances are therefore raised by 1 + K / (K - 1) for K folds (Nadeau and Bengio 2003, Machine
        Learning 52, "Inference for the generalization error"), as for learners that are compared: without it 95%
        intervals of the gain cover 87 to 91%, with it 98 to 100% (simulated, 5 folds, 500 rows, depths 1 and 2).
        Rows held out from the start need nothing of that, and give narrower intervals where they are many.
        """
        level, n_folds = check_confidence_level(confidence_level), check_n_folds(n_folds)
        of_arms, X = as_arm_scores(scores, sample_weight, clusters), check_covariates(X)
        check_length(X.shape[0], len(of_arms.y), name="X")
        folds = make_folds(
            np.maximum(of_arms.codes, 0), n_folds, labels=of_arms.labels, groups=of_arms.clusters,
            random_state=random_state,
        )  # fmt: skip
        codes = np.empty(len(folds), dtype=np.int64)
        for k in range(n_folds):
            rest, held = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
            net, weight = self._net(of_arms)[rest], of_arms.weight[rest]
            part = PolicyTree(**self.get_params())._fit_net(_take(X, rest), net, weight, of_arms.labels)
            codes[held] = part._nodes.arms[part._places(_take(X, held))]
        self._fit(X, of_arms)
        raised = float(np.sqrt(1 + n_folds / (n_folds - 1)))
        return self._result(of_arms, codes, self._places(X), level, "cross-validated", raised)

    def export_text(self) -> str:
        """The questions and what follows from them, a line each."""
        self._check_fitted()
        return "\n".join(self._lines(0, 0))

    def _fit(self, X: Any, scores: ArmScores) -> Self:
        check_length(X.shape[0], len(scores.y), name="X")
        net = self._net(scores)
        self._fit_net(X, net, scores.weight, scores.labels)
        self._seen = zlib.crc32(net.tobytes())
        return self

    def _fit_net(self, X: Any, net: FloatArray, weight: FloatArray, labels: tuple[Any, ...]) -> Self:
        """Fit on net rewards of every arm, shape (n, k)."""
        check_model_columns(X, model="a policy tree")
        self._form = CovariateForm.of(X)
        rows = np.flatnonzero(weight > 0)
        if len(rows) < len(X):
            X, net, weight = _take(X, rows), net[rows], weight[rows]
        search = self._search(len(rows), X.shape[1], net.shape[1])
        advantage = (net[:, 1:] - net[:, :1]) * weight[:, None]
        most = None if len(rows) <= _ALL_CUTS_ROWS or None in search.grid else max(g for g in search.grid if g)
        columns = columns_of(X, advantage, most)
        self.tree_ = grow(columns, advantage, int(self.depth), search)
        self.labels_, self.search_depth_ = labels, search.levels
        self.n_features_in_ = self._form.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if self._form.names is not None:
            self.feature_names_in_ = self._form.names
        names = self._form.columns or [f"x{j}" for j in range(self._form.n_columns)]
        self._nodes = Nodes.of(self.tree_, tuple(map(str, names)), level_names(X))
        held = np.bincount(self._nodes.assign(X), weights=weight, minlength=len(self._nodes))
        self._training_share = self._nodes.add_up(np.asarray(held, dtype=np.float64)) / weight.sum()
        self._seen = -1
        return self

    def _search(self, n: int, p: int, k: int) -> Search:
        if isinstance(self.depth, bool) or self.depth not in range(1, _DEEPEST + 1):
            raise CausalRecError(f"depth is {self.depth!r}; expected 1, 2 or 3: deeper trees are hard to read.")
        share = isinstance(self.min_leaf, float | np.floating)
        if not (
            0 <= self.min_leaf < 1 if share else isinstance(self.min_leaf, int | np.integer) and self.min_leaf >= 1
        ):
            raise CausalRecError(f"min_leaf is {self.min_leaf!r}; expected a number of rows, or a share below 1.")
        least = max(1, int(np.ceil(self.min_leaf * n)) if share else int(self.min_leaf))
        levels = self.depth if self.search_depth is None else self.search_depth
        if levels not in range(1, _DEEPEST + 1):
            raise CausalRecError(f"search_depth is {self.search_depth!r}; expected 1, 2 or 3, or None for all levels.")
        if self.search_depth is None and levels == _DEEPEST and n * comb(p + 2, 3) > _THREE_LEVELS:
            levels = 2
        return Search(self._grid(n, p, k), min(levels, self.depth), least)

    def _grid(self, n: int, p: int, k: int) -> tuple[int | None, int | None, int | None]:
        if self.n_cuts is None:
            return None, None, None
        if self.n_cuts == "auto":
            if n > _ALL_CUTS_ROWS:
                return _USUAL_CUTS
            two, three = (int((_CELLS / (p**d * k)) ** (1 / d) / d) for d in (2, 3))
            return n, max(_USUAL_CUTS[1], two), max(_USUAL_CUTS[2], three)
        if isinstance(self.n_cuts, int | np.integer) and self.n_cuts >= 1 and not isinstance(self.n_cuts, bool):
            most = int(self.n_cuts)
            return most, most, most
        raise CausalRecError(
            f"n_cuts is {self.n_cuts!r}; expected a whole number of 1 or more, 'auto', or None for all."
        )

    def _net(self, scores: ArmScores) -> FloatArray:
        """Net value of every arm in every row, shape (n, k)."""
        return np.asarray(scores.table() * self._worth() - self._costs(scores.labels))

    def _worth(self) -> float:
        if not 0 < float(self.value) < np.inf:
            raise CausalRecError(f"value is {self.value!r}; expected what a unit of the outcome is worth, above zero.")
        return float(self.value)

    def _costs(self, labels: tuple[Any, ...]) -> FloatArray:
        """What each arm costs more than control, shape (k,)."""
        if self.cost is None:
            return np.zeros(len(labels))
        return np.asarray(np.r_[0.0, cost_table(self.cost, labels[1:], n_rows=1, free=True)[0]])

    def _check_fitted(self) -> None:
        if not hasattr(self, "tree_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first.")

    def _places(self, X: Any) -> IntArray:
        """The place of each row's leaf in the list of nodes."""
        self._check_fitted()
        return self._nodes.assign(self._form.apply(X))

    def _lines(self, place: int, depth: int) -> list[str]:
        node, indent = self._nodes.placed[place].node, "  " * depth
        if node.leaf:
            return [f"{indent}{self.labels_[node.arm]} ({self._training_share[place]:.1%} of the training rows)"]
        heads = (f"{indent}{self._nodes.rule(place)}:", f"{indent}else:")
        below = zip(heads, self._nodes.children(place), strict=True)
        return [line for head, k in below for line in (head, *self._lines(k, depth + 1))]

    def _result(
        self, scores: ArmScores, codes: IntArray, place: IntArray, level: float, evaluated: str, raised: float = 1.0
    ) -> PolicyTreeResult:
        how = "exact search" if self.search_depth_ >= self.depth else f"{self.search_depth_} levels searched together"
        units = scores.clusters
        grouped = "" if units is None else f", clustered by {len(np.unique(units[scores.weight > 0])):,} groups"
        return tree_result(
            self._nodes, scores, codes, place, worth=self._worth(), costs=self._costs(scores.labels), level=level,
            evaluated=evaluated, raised=raised, method=f"depth {self.depth}, {how}, {scores.method}{grouped}",
        )  # fmt: skip


def _take(X: Any, rows: IntArray) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]
