"""How many trees: boosting that watches the loss of rows left out. A row left out is one that weighs nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalrec._typing import AnyArray, BoolArray, FloatArray, IntArray
from causalrec.nuisance.linear_start import clearly_less

_WATCHED_ROWS = 50_000  # of training, for its curve


@dataclass(frozen=True)
class Task:
    """One fit: targets, standardised where they are not 0/1, weights of mean 1, and the loss."""

    y: FloatArray
    weight: FloatArray
    binary: bool
    centre: float = 0.0
    scale: float = 1.0

    @property
    def mean(self) -> float:
        """Weighted mean of the targets; the share of ones."""
        return float(self.weight @ self.y / self.weight.sum())

    def losses(self, margin: FloatArray, rows: AnyArray) -> FloatArray:
        """Squared error or log-loss of some rows, whose margins are given."""
        y = self.y[rows]
        return np.logaddexp(0.0, margin) - y * margin if self.binary else (y - margin) ** 2

    def mean_loss(self, margin: FloatArray, rows: AnyArray) -> float:
        """Weighted mean loss of some rows, whose margins are given."""
        weight = self.weight[rows]
        return float(weight @ self.losses(margin, rows) / max(float(weight.sum()), 1e-300))


@dataclass
class Curve:
    """Mean loss of rows of training and of rows left out, before the first tree and after every ``step`` trees.

    ``worth`` says whether the trees help by more than chance; if not, the best number is none.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    step: int = 1
    worth: bool = True

    @property
    def lowest(self) -> int:
        """The number of trees with the least loss on rows left out."""
        return int(np.argmin(self.validation)) * self.step

    @property
    def best(self) -> int:
        """The number of trees to take."""
        return self.lowest if self.worth else 0

    @property
    def rounds(self) -> list[int]:
        """Number of trees at every point."""
        return [i * self.step for i in range(len(self.train))]

    def waited(self, patience: int) -> bool:
        """Whether the last trees brought nothing."""
        return (len(self.validation) - 1) * self.step - self.lowest >= patience


def assign_folds(task: Task, n_folds: int, rng: np.random.Generator) -> IntArray:
    """A fold for every row, equal in size, and in the share of ones of a 0/1 target."""
    n = len(task.y)
    order = rng.permutation(n)
    if task.binary:
        order = order[np.argsort(task.y[order], kind="stable")]
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % min(n_folds, n)
    return fold


def cross_validate(
    matrix: Any,
    task: Task,
    margins: FloatArray,
    fold: IntArray,
    params: dict[str, Any],
    *,
    rounds: int,
    patience: int,
    step: int = 1,
) -> Curve:
    """Grow a booster per fold side by side on one matrix, until their common loss out of fold stops falling.

    Parameters
    ----------
    margins : array of shape (k, n)
        What the booster of each of the first k folds starts from.
    fold : int array of shape (n,)
        The fold in which a row is left out.
    rounds, patience : int
        The most trees, and those without progress after which to stop.
    step : int
        Trees between two looks at the loss.
    """
    import xgboost

    out = [np.flatnonzero(fold == k) for k in range(len(margins))]
    inside = [np.flatnonzero(fold != k) for k in range(len(margins))]
    held_in = [(task.weight * (fold != k)).astype(np.float32) for k in range(len(margins))]
    weight_out = task.weight[np.concatenate(out)]
    boosters = [xgboost.Booster(params, [matrix]) for _ in margins]
    curve, now = Curve(step=step), list(margins)
    first = least = np.empty(0)
    matrix.set_label(task.y)
    for i in range(0, rounds + step, step):
        losses = np.concatenate([task.losses(m[rows], rows) for m, rows in zip(now, out, strict=True)])
        curve.validation.append(float(losses @ weight_out / max(float(weight_out.sum()), 1e-300)))
        train_losses = [task.mean_loss(m[rows], rows) for m, rows in zip(now, inside, strict=True)]
        curve.train.append(float(np.mean(train_losses)))
        if i == 0:
            first = losses
        if curve.lowest == i:
            least = losses
        if i >= rounds or curve.waited(patience):
            break
        now = []
        for booster, weight, margin in zip(boosters, held_in, margins, strict=True):
            matrix.set_weight(weight)
            if i == 0:  # later rounds go on from the booster's own predictions
                matrix.set_base_margin(margin)
            for j in range(i, min(i + step, rounds)):
                booster.update(matrix, j)
            now.append(booster.predict(matrix, output_margin=True, validate_features=False))
    curve.worth = clearly_less(least, first, weight_out)
    release(matrix)
    return curve


def train(matrix: Any, task: Task, margin: FloatArray, params: dict[str, Any], rounds: int) -> Any:
    """A booster of so many trees on top of a margin."""
    import xgboost

    matrix.set_label(task.y)
    matrix.set_weight(task.weight)
    matrix.set_base_margin(margin)
    booster = xgboost.train(params, matrix, rounds)
    release(matrix)
    return booster


def train_until(
    matrix: Any, task: Task, held: BoolArray, margin: FloatArray, params: dict[str, Any], *, rounds: int, patience: int
) -> tuple[Any, Curve]:
    """A booster on the rows that are not held out, grown until the loss of those that are stops falling."""
    import xgboost

    out, inside = np.flatnonzero(held), np.flatnonzero(~held)
    inside = inside[:: max(1, len(inside) // _WATCHED_ROWS)]
    matrix.set_label(task.y)
    matrix.set_weight(task.weight * ~held)
    matrix.set_base_margin(margin)
    booster = xgboost.Booster(params, [matrix])
    curve, now = Curve(), margin
    first = least = np.empty(0)
    for i in range(rounds + 1):
        curve.train.append(task.mean_loss(now[inside], inside))
        if len(out):
            curve.validation.append(task.mean_loss(now[out], out))
            if i == 0:
                first = task.losses(now[out], out)
            if curve.lowest == i:
                least = task.losses(now[out], out)
        if i == rounds or (len(out) and curve.waited(patience)):
            break
        booster.update(matrix, i)
        now = booster.predict(matrix, output_margin=True, validate_features=False)
    if len(out):
        curve.worth = clearly_less(least, first, task.weight[out])
    release(matrix)
    return booster, curve


def release(matrix: Any) -> None:
    """Take margins and weights off a matrix that others will use."""
    none = np.empty(0, dtype=np.float32)
    matrix.set_base_margin(none)
    matrix.set_weight(none)
