"""Boosted trees whose size the data choose: the default base models of nuisances and learners.

Fixed settings overfit hundreds of rows or underfit millions. These estimators start from a ridge regression, add
XGBoost's trees on what it misses, and take as many as a loss on rows left out asks for: none, where there is nothing
to learn. A second stage that regresses a noisy score of an effect on covariates needs just that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import CovariateForm, check_length, check_vector, check_weights
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.nuisance.bins import Bins, BinSettings, takes_bins
from causalrec.nuisance.linear_start import Slopes, fit_slopes, sample_rows

__all__ = ["Bins", "BoostedClassifier", "BoostedRegressor", "is_boosted"]

_SLOPE_ROWS = 200_000
_HELD_OUT_ROWS = 50_000
_ONE_THREAD_CELLS = 200_000


def is_boosted(base: Any) -> bool:
    """Whether :class:`Bins` fits this base: ours, or an XGBoost estimator with histograms.

    Examples
    --------
    >>> import xgboost
    >>> is_boosted(BoostedRegressor()), is_boosted(xgboost.XGBRegressor(tree_method="exact"))
    (True, False)
    """
    return isinstance(base, _Boosted) or takes_bins(base)


@dataclass(frozen=True)
class Task:
    """One fit: standardised targets, weights of mean 1, and the loss."""

    y: FloatArray
    weight: FloatArray
    binary: bool
    centre: float = 0.0
    scale: float = 1.0

    def loss(self, margin: FloatArray, rows: AnyArray) -> float:
        """Weighted sum of squared errors, or of log-losses, of some rows."""
        m, y = margin[rows], self.y[rows]
        each = np.logaddexp(0.0, m) - y * m if self.binary else (y - m) ** 2
        return float(self.weight[rows] @ each)


@dataclass(frozen=True)
class Curve:
    """Mean loss after every round, from none, on the rows of training and on rows left out."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The number of rounds with the least loss on rows left out."""
        return int(np.argmin(self.validation))

    def waited(self, patience: int) -> bool:
        """Whether the last rounds brought nothing."""
        return len(self.validation) - 1 - self.best >= patience


class _Boosted(BaseEstimator):
    """What the regressor and the classifier share."""

    _binary = False

    def __init__(
        self,
        *,
        n_estimators: Any = "auto",
        max_depth: Any = "auto",
        learning_rate: Any = "auto",
        min_child_weight: Any = "auto",
        reg_lambda: float = 1.0,
        max_bin: Any = "auto",
        linear_start: bool = True,
        early_stopping: bool = True,
        patience: int = 10,
        n_folds: int = 5,
        small: int = 20_000,
        validation_fraction: float = 0.1,
        device: str = "cpu",
        random_state: int = 0,
        n_jobs: int | None = 2,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.max_bin = max_bin
        self.linear_start = linear_start
        self.early_stopping = early_stopping
        self.patience = patience
        self.n_folds = n_folds
        self.small = small
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on covariates of shape (n, p).

        Parameters
        ----------
        X : frame or array of shape (n, p)
            May hold missing values and, in a frame, categories.
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional
            Weights of training and of the loss that chooses.

        Raises
        ------
        OutcomeError
            For missing or infinite targets, or a classifier and more than two classes.
        ColumnError
            For text columns.
        """
        bins = Bins(X)
        target = np.asarray(y)
        if target.ndim == 2 and target.shape[1] == 1:
            target = target[:, 0]
        check_length(len(target), bins.n_rows, name="y")
        return self._fit_bins(bins, target, rows=None, weight=sample_weight)

    def _fit_bins(self, bins: Bins, target: AnyArray, *, rows: AnyArray | None, weight: Any) -> Self:
        """Fit on some rows of shared bins."""
        task = self._task(target, None if weight is None else check_weights(weight, n_rows=len(target)))
        self._form = CovariateForm.of(bins.X)
        self.n_features_in_ = self._form.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if self._form.names is not None:
            self.feature_names_in_ = self._form.names
        self._fit_task(task, bins, rows)
        return self

    def _task(self, target: AnyArray, weight: FloatArray | None) -> Task:
        y = check_vector(target, name="y")
        weight = np.ones(len(y)) if weight is None else weight / weight.mean()
        centre = float(weight @ y / weight.sum())
        scale = float(np.sqrt(weight @ (y - centre) ** 2 / weight.sum()))
        if scale <= 1e-12 * max(1.0, abs(centre)):
            scale = 0.0
        return Task((y - centre) / (scale or 1.0), weight, False, centre, scale)

    def _fit_task(self, task: Task, bins: Bins, rows: AnyArray | None) -> None:
        n = len(task.y)
        rng = np.random.default_rng(self.random_state)
        self._centre, self._scale = task.centre, task.scale
        self._booster, self.best_n_estimators_, self.best_max_depth_ = None, 0, 0
        self.evals_result_: dict[str, dict[str, list[float]]] = {}
        share = float(task.weight @ task.y / task.weight.sum())
        constant = logit(np.clip(share, 1e-12, 1 - 1e-12)) if task.binary else 0.0
        self._slopes = Slopes.constant(float(constant))
        if n < 2 * self.n_folds or (task.scale == 0.0 and not task.binary) or (task.binary and share in (0.0, 1.0)):
            return
        if n <= self.small:
            self._fit_small(task, bins, rows, rng)
        else:
            self._fit_large(task, bins, rows, rng)

    def _fit_small(self, task: Task, bins: Bins, rows: AnyArray | None, rng: np.random.Generator) -> None:
        """Choose by cross-validation, then train on all rows."""
        fold = assign_folds(task, self.n_folds, rng)
        margins = self._start(task, bins, rows, fold)
        with self._matrix(bins, rows, len(task.y), small=True) as matrix:
            best: tuple[float, int, int, Curve] | None = None
            for depth in (2, 4) if self.max_depth == "auto" else (int(self.max_depth),):
                params = self._params(task, depth, len(task.y), small=True)
                curve = cross_validate(matrix, task, margins, fold, params, self._rounds(True), self._wait())
                rounds = curve.best if self.early_stopping else len(curve.validation) - 1
                if best is None or curve.validation[rounds] < best[0]:
                    best = (curve.validation[rounds], rounds, depth, curve)
                if not self.early_stopping:
                    break
            assert best is not None
            _, rounds, depth, curve = best
            self._keep(curve, rounds, depth, task)
            if rounds:
                params = self._params(task, depth, len(task.y), small=True)
                start = self._slopes.predict(bins.take(rows))
                self._booster = train(matrix, task, task.weight, start, params, rounds)

    def _fit_large(self, task: Task, bins: Bins, rows: AnyArray | None, rng: np.random.Generator) -> None:
        """Train once; rows held out say when to stop."""
        n = len(task.y)
        some = sample_rows(n, _SLOPE_ROWS, rng)
        part = Task(task.y[some], task.weight[some], task.binary)
        if part.weight.any():
            self._start(part, bins, some if rows is None else rows[some], assign_folds(part, self.n_folds, rng))
        start = self._slopes.predict(bins.take(rows))
        held = np.zeros(n, dtype=bool)
        if self.early_stopping:
            n_held = min(int(self.validation_fraction * n), _HELD_OUT_ROWS)
            held[rng.choice(n, size=n_held, replace=False)] = True
        depth = 6 if self.max_depth == "auto" else int(self.max_depth)
        with self._matrix(bins, rows, n, small=False) as matrix:
            params = self._params(task, depth, n, small=False)
            booster, curve = train_until(matrix, task, held, start, params, self._rounds(False), self._wait())
        rounds = curve.best if self.early_stopping else len(curve.train) - 1
        self._keep(curve, rounds, depth, task)
        if rounds:
            self._booster = booster[:rounds]

    def _start(self, task: Task, bins: Bins, rows: AnyArray | None, fold: IntArray) -> FloatArray:
        """Slopes, and each row's linear predictor with every fold left out."""
        if not self.linear_start:
            margins = np.empty((int(fold.max()) + 1, len(fold)))
            for k in range(len(margins)):
                held_in = task.weight * (fold != k)
                mean = held_in @ task.y / max(held_in.sum(), 1e-300)
                margins[k] = logit(np.clip(mean, 1e-6, 1 - 1e-6)) if task.binary else mean
            return margins
        found = fit_slopes(bins.take(rows), task.y, task.weight, fold, binary=task.binary)
        self._slopes = found.slopes
        return found.margins

    def _matrix(self, bins: Bins, rows: AnyArray | None, n: int, *, small: bool) -> Any:
        return bins.matrix(BinSettings(self._max_bin(small)), rows, n_jobs=self._threads(n))

    def _max_bin(self, small: bool) -> int:
        return (64 if small else 256) if self.max_bin == "auto" else int(self.max_bin)

    def _rounds(self, small: bool) -> int:
        return (300 if small else 150) if self.n_estimators == "auto" else int(self.n_estimators)

    def _wait(self) -> int:
        return self.patience if self.early_stopping else 10**9

    def _threads(self, n: int) -> int | None:
        # Threads that wait for one another cost more than they save on few rows.
        return 1 if n * self.n_features_in_ < _ONE_THREAD_CELLS else self.n_jobs

    def _params(self, task: Task, depth: int, n: int, *, small: bool) -> dict[str, Any]:
        share = float(task.weight @ task.y / task.weight.sum())
        curvature = share * (1 - share) if task.binary else 1.0  # the weight of a row in XGBoost's Newton step
        leaf = (5.0 if small else 20.0) if self.min_child_weight == "auto" else float(self.min_child_weight)
        return {
            "max_depth": depth, "eta": 0.1 if self.learning_rate == "auto" else float(self.learning_rate),
            "min_child_weight": leaf * curvature, "reg_lambda": self.reg_lambda * curvature,
            "tree_method": "hist", "max_bin": self._max_bin(small), "device": self.device, "verbosity": 0,
            "nthread": self._threads(n), "seed": int(self.random_state),
            "objective": "binary:logistic" if task.binary else "reg:squarederror",
            "base_score": 0.5 if task.binary else 0.0,  # a margin of 0: the slopes hold the intercept
        }  # fmt: skip

    def _keep(self, curve: Curve, rounds: int, depth: int, task: Task) -> None:
        name, unit = ("logloss", 1.0) if task.binary else ("mse", task.scale**2)
        parts = {"train": curve.train, "validation": curve.validation}
        self.evals_result_ = {k: {name: [unit * v for v in values]} for k, values in parts.items() if values}
        self.best_n_estimators_, self.best_max_depth_ = rounds, depth if rounds else 0
        self.best_penalty_ = self._slopes.penalty

    def _margin(self, X: Any) -> FloatArray:
        if not hasattr(self, "_slopes"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first.")
        X = self._form.apply(X)
        margin = self._slopes.predict(X)
        if self._booster is not None:
            margin = margin + self._booster.inplace_predict(X, predict_type="margin", validate_features=False)
        return margin

    @property
    def feature_importances_(self) -> FloatArray:
        """What each covariate brought: the fall of the loss, shares that sum to 1; zeros where nothing was learned."""
        shares = self._slopes.importances(self.n_features_in_)
        total = shares.sum()
        return shares / total if total > 0 else shares


class BoostedRegressor(RegressorMixin, _Boosted):
    """Boosted trees on a ridge regression, sized by the data."""

    def predict(self, X: Any) -> FloatArray:
        """Expected outcomes, shape (n,)."""
        return self._centre + self._scale * self._margin(X)


class BoostedClassifier(ClassifierMixin, _Boosted):
    """The same for two classes."""

    def _task(self, target: AnyArray, weight: FloatArray | None) -> Task:
        classes = np.unique(target)
        if len(classes) > 2:
            raise OutcomeError(f"BoostedClassifier knows two classes; y holds {len(classes)}. Use BoostedRegressor.")
        self.classes_ = np.array([0, 1]) if np.isin(classes, (0, 1)).all() else classes
        y = (target == self.classes_[-1]).astype(np.float64)
        return Task(y, np.ones(len(y)) if weight is None else weight / weight.mean(), True)

    def predict_proba(self, X: Any) -> FloatArray:
        """P(class), shape (n, 2)."""
        p = expit(self._margin(X))
        return np.column_stack([1 - p, p])

    def predict(self, X: Any) -> AnyArray:
        """The likelier class, shape (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


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
    matrix: Any, task: Task, margins: FloatArray, fold: IntArray, params: dict[str, Any], rounds: int, patience: int
) -> Curve:
    """Grow one booster per fold side by side on one matrix, until their common loss out of fold stops falling.

    A row left out weighs nothing. Every booster starts from its own margin.
    """
    import xgboost

    boosters = [xgboost.Booster(params, [matrix]) for _ in margins]
    held_in = [task.weight * (fold != k) for k in range(len(margins))]
    out = [np.flatnonzero(fold == k) for k in range(len(margins))]
    inside = [np.flatnonzero(fold != k) for k in range(len(margins))]
    total = task.weight.sum()
    curve = Curve()
    now = margins
    matrix.set_label(task.y)
    for i in range(rounds + 1):
        curve.validation.append(sum(task.loss(m, rows) for m, rows in zip(now, out, strict=True)) / total)
        curve.train.append(
            sum(task.loss(m, rows) for m, rows in zip(now, inside, strict=True)) / (total * (len(margins) - 1))
        )
        if i == rounds or curve.waited(patience):
            break
        now = []
        for booster, weight, margin in zip(boosters, held_in, margins, strict=True):
            matrix.set_weight(weight)
            matrix.set_base_margin(margin)
            booster.update(matrix, i)
            now.append(booster.predict(matrix, output_margin=True))
    _release(matrix)
    return curve


def train(matrix: Any, task: Task, weight: FloatArray, margin: FloatArray, params: dict[str, Any], rounds: int) -> Any:
    """A booster of a given number of rounds on top of a margin."""
    import xgboost

    matrix.set_label(task.y)
    matrix.set_weight(weight)
    matrix.set_base_margin(margin)
    booster = xgboost.train(params, matrix, rounds)
    _release(matrix)
    return booster


def train_until(
    matrix: Any, task: Task, held: AnyArray, margin: FloatArray, params: dict[str, Any], rounds: int, patience: int
) -> tuple[Any, Curve]:
    """A booster that stops when the loss of the rows held out stops falling."""
    import xgboost

    matrix.set_label(task.y)
    matrix.set_weight(task.weight * ~held)
    matrix.set_base_margin(margin)
    booster = xgboost.Booster(params, [matrix])
    curve, now = Curve(), margin
    out = np.flatnonzero(held)
    inside = np.flatnonzero(~held)
    inside = inside[:: max(1, len(inside) // _HELD_OUT_ROWS)]
    for i in range(rounds + 1):
        curve.train.append(task.loss(now, inside) / max(task.weight[inside].sum(), 1e-300))
        if len(out):
            curve.validation.append(task.loss(now, out) / max(task.weight[out].sum(), 1e-300))
            if curve.waited(patience):
                break
        if i == rounds:
            break
        booster.update(matrix, i)
        now = booster.predict(matrix, output_margin=True)
    _release(matrix)
    return booster, curve


def _release(matrix: Any) -> None:
    none = np.empty(0, dtype=np.float32)
    matrix.set_base_margin(none)
    matrix.set_weight(none)
