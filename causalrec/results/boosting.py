"""What fitted learners are made of: boosting curves and chosen sizes, importances of covariates, losses of effects."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray
from causalrec.results.base import Result, format_number


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

    def __str__(self) -> str:
        lines = [f"{self.learner}: {self.n_models} boosted models"]
        for name in dict.fromkeys(self.model.tolist()):
            rows = self.model == name
            trees, depth, gain = self.trees[rows], self.depth[rows], self.gain[rows]
            known = gain[np.isfinite(gain)]
            took = f", which take away {known.mean():.1%} of the loss left out" if len(known) else ""
            times = f" (of {rows.sum()} folds)" if rows.sum() > 1 else ""
            lines.append(f"  {name}: {_span(trees)} trees of depth {_span(depth)}{times}{took}")
        return "\n".join(lines)


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

    def __str__(self) -> str:
        top = ", ".join(f"{c} {v:.1%}" for c, v in zip(self.covariate[:5], self.importance[:5], strict=True) if v > 0)
        more = f" and {self.n_used - 5} more" if self.n_used > 5 else ""
        return f"{self.model}, {self.what}: {top or 'no covariate is used'}{more} ({self.method})"


@dataclass(frozen=True, eq=False)
class UpliftLossResult(Result):
    """Losses of predicted effects that need no truth, on rows that the learner has not seen, beside one effect for all.

    Attributes
    ----------
    learner : str
    r_loss, r_loss_constant : float
        Of Nie and Wager (2021), for the predictions and for the average effect in their place.
    dr_loss, dr_loss_constant : float
        Mean squared distance to the doubly robust scores, likewise.
    r_gain, dr_gain : float
        Constant less learner: above zero where the learner's differences between units are worth having.
    n_obs : int
    method : str
    """

    learner: str
    r_loss: float
    r_loss_constant: float
    r_gain: float
    dr_loss: float
    dr_loss_constant: float
    dr_gain: float
    n_obs: int
    method: str

    def __str__(self) -> str:
        return (
            f"{self.learner}: R-loss {format_number(self.r_loss)} ({self.r_gain:+.3g} on the average effect for all), "
            f"DR-loss {format_number(self.dr_loss)} ({self.dr_gain:+.3g}), n = {self.n_obs:,} ({self.method})"
        )


def _span(values: IntArray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"
