"""Boosted trees whose size the data choose: the default base models of nuisances and learners.

Fixed settings overfit hundreds of rows or underfit millions. These estimators start from a ridge regression, add
XGBoost's trees on what it misses, and take as many as a loss on rows left out asks for: none, where there is nothing
to learn. A second stage that regresses a noisy score of an effect on covariates needs just that.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from causalrec.nuisance.rounds import Curve, Task, assign_folds, cross_validate, train, train_until
from causalrec.nuisance.tables import head

__all__ = ["Bins", "BoostedClassifier", "BoostedRegressor", "Curve", "Task", "assign_folds", "is_boosted"]

_SLOPE_ROWS = 50_000  # of many rows, for the slopes
_SLOPE_CELLS = 10_000_000
_PRODUCT_ROWS = 200_000  # more of them teach trees what products would
_HELD_OUT = (10_000, 50_000)  # rows held out of many: about, and at most
_REFIT_ROWS = 100_000  # up to here, a share of the rows is too much to leave out of the model
_CV_ROWS = 20_000  # folds are tried until about so many rows have been trained on
_TREE_ROWS = 50  # fewer cannot tell whether trees help
_STEP = 3  # trees between two looks at the loss, on few rows
_ONE_THREAD_CELLS = 2_000_000
_DEPTHS = ((1_000, 2), (20_000, 3), (50_000, 4), (200_000, 5))  # up to so many rows; 6 beyond


def is_boosted(base: Any) -> bool:
    """Whether :class:`Bins` fits this base: ours, or an XGBoost estimator with histograms.

    Examples
    --------
    >>> import xgboost
    >>> is_boosted(BoostedRegressor()), is_boosted(xgboost.XGBRegressor(tree_method="exact"))
    (True, False)
    """
    return isinstance(base, _Boosted) or takes_bins(base)


class _Boosted(BaseEstimator):
    """What the regressor and the classifier share."""

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
        patience: int = 15,
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
            Weights in training and in the loss that chooses.

        Raises
        ------
        OutcomeError
            For missing or infinite targets, or a classifier and more than two classes.
        ColumnError
            For columns that are neither numbers, booleans nor categories.
        CausalRecError
            For infinite covariates, weights that are negative or of another length, or settings out of range.
        """
        if y is None:
            raise OutcomeError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        bins = Bins(X)
        target = np.asarray(y)
        if target.ndim == 2 and target.shape[1] == 1:
            target = target[:, 0]
        check_length(len(target), bins.n_rows, name="y")
        return self._fit_bins(bins, target, rows=None, weight=sample_weight)

    def _fit_bins(self, bins: Bins, target: AnyArray, *, rows: AnyArray | None, weight: Any) -> Self:
        """Fit on some rows of shared bins."""
        self._check_settings()
        task = self._task(target, None if weight is None else check_weights(weight, n_rows=len(target)))
        self._form = CovariateForm.of(head(bins.X))
        self.n_features_in_ = self._form.n_columns
        self.__dict__.pop("feature_names_in_", None)
        if self._form.names is not None:
            self.feature_names_in_ = self._form.names
        self._fit_task(task, bins, rows)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check_settings(self) -> None:
        for name in ("n_estimators", "max_depth", "learning_rate", "min_child_weight", "max_bin"):
            value = getattr(self, name)
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not (number and value >= 0) and not (isinstance(value, str) and value == "auto"):
                raise CausalRecError(f"{name} is {value!r}; expected a number of at least 0, or 'auto'.")
        if self.n_folds < 2:
            raise CausalRecError(f"n_folds is {self.n_folds}; expected 2 or more.")
        if not 0 < self.validation_fraction < 1:
            raise CausalRecError(f"validation_fraction is {self.validation_fraction}; expected a share in (0, 1).")

    def _task(self, target: AnyArray, weight: FloatArray | None) -> Task:
        y = check_vector(target, name="y")
        weight = np.ones(len(y)) if weight is None else weight / weight.mean()
        centre = float(weight @ y / weight.sum())
        scale = float(np.sqrt(weight @ (y - centre) ** 2 / weight.sum()))
        if scale <= 1e-12 * max(1e-300, float(np.abs(y).max())):
            centre, scale = float(y[np.argmax(weight)]), 0.0
        return Task((y - centre) / (scale or 1.0), weight, False, centre, scale)

    def _fit_task(self, task: Task, bins: Bins, rows: AnyArray | None) -> None:
        n, rng = len(task.y), np.random.default_rng(self.random_state)
        self._centre, self._scale = task.centre, task.scale
        self._booster: Any = None
        self._slopes = Slopes.constant(float(logit(np.clip(task.mean, 1e-12, 1 - 1e-12))) if task.binary else 0.0)
        self._keep(Curve(), 0, 0, task)
        constant = task.mean in (0.0, 1.0) if task.binary else task.scale == 0.0
        if constant or n < 2 * self.n_folds:
            return
        if n <= self.small:
            self._fit_small(task, bins, rows, rng)
        else:
            self._fit_large(task, bins, rows, rng)

    def _fit_small(self, task: Task, bins: Bins, rows: AnyArray | None, rng: np.random.Generator) -> None:
        """Choose by cross-validation, then train on all rows."""
        n = len(task.y)
        fold = assign_folds(task, self.n_folds, rng)
        n_margins = 0 if n < _TREE_ROWS or not self.early_stopping else max(2, _CV_ROWS // n)
        margins = self._start(task, bins, rows, fold, n_margins)
        depth, rounds = self._depth(n), self._rounds(True)
        params = self._params(task, depth, n, small=True)
        with self._matrix(bins, rows, n, small=True) as matrix:
            curve = Curve()
            if n < _TREE_ROWS:
                rounds = 0
            elif self.early_stopping:
                curve = cross_validate(
                    matrix, task, margins, fold, params, rounds=rounds, patience=self._wait(), step=_STEP
                )
                rounds = curve.best
            if rounds:
                start = np.concatenate([self._slopes.predict(X) for X in bins.chunks(rows)])
                self._booster = train(matrix, task, start, params, rounds)
        self._keep(curve, rounds, depth, task)

    def _fit_large(self, task: Task, bins: Bins, rows: AnyArray | None, rng: np.random.Generator) -> None:
        """Grow trees once; rows held out say when to stop."""
        n = len(task.y)
        some = sample_rows(n, min(_SLOPE_ROWS, _SLOPE_CELLS // bins.X.shape[1]), rng)
        part = Task(task.y[some], task.weight[some], task.binary)
        if 0.0 < part.mean < 1.0 if task.binary else part.weight.any():
            chosen, fold = some if rows is None else rows[some], assign_folds(part, self.n_folds, rng)
            self._start(part, bins, chosen, fold, products=n <= _PRODUCT_ROWS)
        start = np.concatenate([self._slopes.predict(X) for X in bins.chunks(rows)])
        held = np.zeros(n, dtype=bool)
        if self.early_stopping:
            held[rng.choice(n, size=self._held_out(n), replace=False)] = True
        depth, rounds = self._depth(n), self._rounds(False)
        params = self._params(task, depth, n, small=False)
        with self._matrix(bins, rows, n, small=False) as matrix:
            booster, curve = train_until(matrix, task, held, start, params, rounds=rounds, patience=self._wait())
            if self.early_stopping:
                rounds = curve.best
            if rounds:
                refit = self.early_stopping and n <= _REFIT_ROWS
                self._booster = train(matrix, task, start, params, rounds) if refit else booster[:rounds]
        self._keep(curve, rounds, depth, task)

    def _start(
        self,
        task: Task,
        bins: Bins,
        rows: AnyArray | None,
        fold: IntArray,
        n_margins: int = 0,
        *,
        products: bool = True,
    ) -> FloatArray:
        """Set the slopes; return each row's linear predictor with a fold left out, shape (n_margins, n)."""
        if self.linear_start:
            found = fit_slopes(
                bins.take(rows), task.y, task.weight, fold, binary=task.binary, n_margins=n_margins, products=products
            )
            self._slopes = found.slopes
            return found.margins
        margins = np.empty((min(n_margins, int(fold.max()) + 1), len(fold)))
        for k in range(len(margins)):
            held_in = task.weight * (fold != k)
            mean = held_in @ task.y / max(held_in.sum(), 1e-300)
            margins[k] = logit(np.clip(mean, 1e-6, 1 - 1e-6)) if task.binary else mean
        return margins

    def _matrix(self, bins: Bins, rows: AnyArray | None, n: int, *, small: bool) -> Any:
        settings = BinSettings(self._max_bin(small), names=False)
        return bins.matrix(settings, rows, n_jobs=self._threads(n))

    def _max_bin(self, small: bool) -> int:
        return (64 if small else 128) if self.max_bin == "auto" else int(self.max_bin)

    def _rounds(self, small: bool) -> int:
        return (300 if small else 120) if self.n_estimators == "auto" else int(self.n_estimators)

    def _depth(self, n: int) -> int:
        if self.max_depth != "auto":
            return int(self.max_depth)
        return next((depth for rows, depth in _DEPTHS if n <= rows), 6)

    def _wait(self) -> int:
        return int(self.patience)

    def _held_out(self, n: int) -> int:
        about, most = _HELD_OUT
        return min(max(int(self.validation_fraction * n), min(about, n // 4)), most)

    def _threads(self, n: int) -> int | None:
        # Threads that wait for one another cost more than they save on few rows.
        return 1 if n * self.n_features_in_ < _ONE_THREAD_CELLS else self.n_jobs

    def _params(self, task: Task, depth: int, n: int, *, small: bool) -> dict[str, Any]:
        # In XGBoost's Newton step a row of a 0/1 outcome weighs p (1 - p), not 1; a leaf should expect a rare event.
        curvature = task.mean * (1 - task.mean) if task.binary else 1.0
        rows = 5.0 if small else 20.0
        leaf = rows if self.min_child_weight == "auto" else float(self.min_child_weight)
        if self.min_child_weight == "auto" and task.binary:
            leaf = max(leaf, 1.0 / max(curvature, 1e-9))
        return {
            "max_depth": depth, "eta": self._rate(), "min_child_weight": leaf * curvature,
            "reg_lambda": self.reg_lambda, "tree_method": "hist", "max_bin": self._max_bin(small),
            "device": self.device, "verbosity": 0, "nthread": self._threads(n), "seed": int(self.random_state),
            "objective": "binary:logistic" if task.binary else "reg:squarederror",
            "base_score": 0.5 if task.binary else 0.0,  # a margin of 0: the slopes hold the intercept
        }  # fmt: skip

    def _rate(self) -> float:
        return 0.1 if self.learning_rate == "auto" else float(self.learning_rate)

    def _keep(self, curve: Curve, rounds: int, depth: int, task: Task) -> None:
        """The public record of what the data chose."""
        name, unit = ("logloss", 1.0) if task.binary else ("mse", task.scale**2)
        parts = {"train": curve.train, "validation": curve.validation}
        self.evals_result_ = {k: {name: [unit * v for v in values]} for k, values in parts.items() if values}
        self.evals_rounds_ = curve.rounds
        self.best_n_estimators_, self.best_max_depth_ = rounds, depth if rounds else 0
        self.best_degree_, self.best_penalty_ = self._slopes.degree, self._slopes.penalty
        self._tree_unit = (2 * self._rate() - self._rate() ** 2) / len(task.y)
        self._slope_unit = task.mean * (1 - task.mean) if task.binary else 1.0

    def _margin(self, X: Any) -> FloatArray:
        """Slopes and trees, of covariates in the form of ``fit``."""
        margin = self._slopes.predict(X)
        if self._booster is not None:
            margin += self._booster.inplace_predict(X, predict_type="margin", validate_features=False)
        return margin

    def _margin_of(self, X: Any) -> FloatArray:
        if not hasattr(self, "_slopes"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first.")
        return self._margin(self._form.apply(X))

    @property
    def feature_importances_(self) -> FloatArray:
        """The share of each covariate in the fall of the training loss, shape (p,); zeros where nothing was learned.

        Slopes count with the variance that they explain, trees with their gain.
        """
        if not hasattr(self, "_slopes"):
            raise AttributeError(f"this {type(self).__name__} has no importances before fit.")
        shares = self._slopes.importances(self.n_features_in_) * self._slope_unit
        for column, gain in self._gains():
            shares[column] += gain * self._tree_unit
        total = float(shares.sum())
        return shares / total if total > 0 else shares

    def _gains(self) -> Iterator[tuple[int, float]]:
        if self._booster is None:
            return
        names = self._booster.feature_names or [f"f{j}" for j in range(self.n_features_in_)]
        place = {name: j for j, name in enumerate(names)}
        for name, gain in self._booster.get_score(importance_type="total_gain").items():
            yield place[name], float(gain)


class BoostedRegressor(RegressorMixin, _Boosted):
    """Boosted trees on top of a ridge regression, both as large as the data ask for.

    Parameters
    ----------
    n_estimators : int or "auto"
        The most trees; 300 for few rows, 120 for many.
    max_depth : int or "auto"
        Between 2 below a thousand rows and 6 beyond 200,000.
    learning_rate : float or "auto"
        0.1.
    min_child_weight : float or "auto"
        The least rows of a leaf: 5, or 20 of many; of rare 0/1 outcomes, as many as should show one. Weights count as
        rows, scaled to a mean of 1.
    reg_lambda : float
        XGBoost's penalty on leaves.
    max_bin : int or "auto"
        Bins of a covariate: 64, or 128 of many rows.
    linear_start : bool
        Whether trees start from a ridge regression, with squares and products of the covariates where these help,
        rather than from the mean. Its penalty is chosen by cross-validation and may leave no slope at all.
    early_stopping : bool
        Otherwise all ``n_estimators`` trees are taken.
    patience : int
        Trees without progress after which to stop.
    n_folds : int
        Of the cross-validation.
    small : int
        Up to so many rows the number of trees is cross-validated and the model trained on all of them; beyond, it is
        grown once, until the loss on ``validation_fraction`` of the rows (50,000 at most) stops falling, and grown
        anew on all rows up to 100,000.
    validation_fraction : float
    device : str
        XGBoost's: ``"cpu"``, ``"cuda"``.
    random_state : int
    n_jobs : int, optional
        Threads; one is taken where rows are few.

    Attributes
    ----------
    best_n_estimators_, best_max_depth_ : int
        As chosen; zeros where no tree was worth having.
    best_degree_ : int
        0 without slopes, 1 with, 2 with squares and products too.
    best_penalty_ : float
        Of the ridge regression, per unit of weight on standardised covariates; infinite without slopes.
    evals_result_ : dict
        ``{"train": {loss: values}, "validation": {loss: values}}``, the boosting curves; the loss is ``"mse"`` or
        ``"logloss"``. Empty where there was nothing to try.
    evals_rounds_ : list of int
        The number of trees at every point of the curves.
    feature_importances_ : array of shape (p,)
    n_features_in_ : int
    feature_names_in_ : array of str, only after ``fit`` on a frame whose column names are strings.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> signal = X[:, 0] + np.abs(X[:, 1])
    >>> model = BoostedRegressor().fit(X, signal + rng.normal(size=500))
    >>> bool(np.mean((model.predict(X) - signal) ** 2) < 0.1)
    True
    >>> noise = BoostedRegressor().fit(X, rng.normal(size=500))
    >>> noise.best_n_estimators_
    0
    """

    def predict(self, X: Any) -> FloatArray:
        """Expected outcomes, shape (n,)."""
        margin = self._margin_of(X)
        return self._centre + self._scale * margin

    def _expect(self, X: Any) -> FloatArray:
        return self._centre + self._scale * self._margin(X)


class BoostedClassifier(ClassifierMixin, _Boosted):
    """Boosted trees on top of a logistic ridge regression, both as large as the data ask for.

    For two classes; of 0/1 outcomes one alone may be seen, which is then certain. Parameters and attributes are those
    of :class:`BoostedRegressor`, and

    Attributes
    ----------
    classes_ : array of shape (2,)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> y = rng.random(500) < 1 / (1 + np.exp(-X[:, 0]))
    >>> BoostedClassifier().fit(X, y).predict_proba(X).shape
    (500, 2)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _task(self, target: AnyArray, weight: FloatArray | None) -> Task:
        if target.dtype.kind == "f":
            check_vector(target, name="y")
        classes = np.unique(target)
        if len(classes) > 2:
            raise OutcomeError(
                f"Only binary classification is supported. Unknown label type: y holds {len(classes)} values; use "
                "BoostedRegressor for counts and continuous outcomes."
            )
        self.classes_ = np.array([0, 1]) if set(classes.tolist()) <= {0, 1} else classes
        y = (target == self.classes_[-1]).astype(np.float64)
        return Task(y, np.ones(len(y)) if weight is None else weight / weight.mean(), True)

    def predict_proba(self, X: Any) -> FloatArray:
        """P(class), shape (n, 2)."""
        p = expit(self._margin_of(X))
        return np.column_stack([1 - p, p]) if len(self.classes_) == 2 else np.ones((len(p), 1))

    def predict(self, X: Any) -> AnyArray:
        """The likelier class, shape (n,)."""
        place = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[place])

    def _expect(self, X: Any) -> FloatArray:
        return np.asarray(expit(self._margin(X)))
