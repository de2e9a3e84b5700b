"""What fitted learners are made of: boosting curves and chosen sizes, importances of covariates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray
from causalrec.results.base import Result


@dataclass(frozen=True, eq=False)
class BoostingCurveResult(Result):
    """Boosted models of a learner and its nuisances: the size that the data chose, and the loss after every round.

    Attributes
    ----------
    learner : str
    n_models : int
    median_trees, most_trees : float, int
        Of the models.
    model : array of shape (n_models,)
        What it models, such as ``"outcome, control"``; models of several folds share it.
    part : array of shape (n_models,)
        Such as ``"fold 1"``; empty where there is one of the kind.
    loss : array of shape (n_models,)
        Name of the loss: ``"mse"`` or ``"logloss"``.
    trees, depth : int arrays of shape (n_models,)
        As chosen; zeros where no tree was worth having.
    train, validation : arrays of shape (n_models,)
        Mean loss at the chosen size, on rows of training and on rows left out; NaN where it was not watched.
    gain : array of shape (n_models,)
        Share of the validation loss before the first tree that the trees take away.
    curve_model, curve_round : int arrays of shape (m,)
        Index into ``model``, and number of trees, of every point of the curves.
    curve_train, curve_validation : arrays of shape (m,)
    """

    learner: str
    n_models: int
    median_trees: float
    most_trees: int
    model: AnyArray = field(repr=False)
    part: AnyArray = field(repr=False)
    loss: AnyArray = field(repr=False)
    trees: IntArray = field(repr=False)
    depth: IntArray = field(repr=False)
    train: FloatArray = field(repr=False)
    validation: FloatArray = field(repr=False)
    gain: FloatArray = field(repr=False)
    curve_model: IntArray = field(repr=False)
    curve_round: IntArray = field(repr=False)
    curve_train: FloatArray = field(repr=False)
    curve_validation: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per model."""
        names = ("model", "part", "trees", "depth", "loss", "train", "validation", "gain")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def curves(self) -> pd.DataFrame:
        """A row per model and number of trees."""
        return pd.DataFrame(
            {
                "model": self.model[self.curve_model],
                "part": self.part[self.curve_model],
                "trees": self.curve_round,
                "train": self.curve_train,
                "validation": self.curve_validation,
            }
        )

    def of_model(self, index: int) -> BoolArray:
        """Which points of the curves are those of a model."""
        return np.asarray(self.curve_model == index)

    def sizes(self) -> list[str]:
        """What was chosen for every kind of model, a phrase each."""
        found = []
        for name in dict.fromkeys(self.model.tolist()):
            rows = self.model == name
            trees, gain = self.trees[rows], self.gain[rows]
            known = gain[np.isfinite(gain) & (trees > 0)]
            grown = self.depth[rows][trees > 0]
            none = "no trees on top of its ridge regression"
            size = f"{_span(trees)} trees of depth {_span(grown)}" if len(grown) else none
            times = f" in {rows.sum()} folds" if rows.sum() > 1 else ""
            took = f", which take {known.mean():.1%} off the loss" if len(known) else ""
            found.append(f"{name}: {size}{times}{took}")
        return found

    def __str__(self) -> str:
        return "\n  ".join([f"{self.learner}: {self.n_models} boosted models", *self.sizes()])


@dataclass(frozen=True, eq=False)
class ImportanceResult(Result):
    """How much each covariate contributes to a model's predictions, the most important first; shares sum to 1.

    Attributes
    ----------
    model : str
    what : str
        What the model predicts: ``"effect"``, or ``"outcome"`` where it has models of nothing else.
    method : str
    n_covariates, n_used : int
        Covariates, and those of an importance above zero.
    covariate, importance : arrays of shape (n_covariates,)
    """

    model: str
    what: str
    method: str
    n_covariates: int
    n_used: int
    covariate: AnyArray = field(repr=False)
    importance: FloatArray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """A row per covariate."""
        return pd.DataFrame({"covariate": self.covariate, "importance": self.importance})

    def top(self, n: int = 5) -> str:
        """The most important covariates and their shares."""
        shown = ", ".join(f"{c} {v:.1%}" for c, v in zip(self.covariate[:n], self.importance[:n], strict=True) if v > 0)
        more = f" and {self.n_used - n} more" if self.n_used > n else ""
        return f"{shown or 'no covariate is used'}{more}"

    def __str__(self) -> str:
        return f"{self.model}, {self.what}: {self.top()} ({self.method})"


def _span(values: IntArray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"
