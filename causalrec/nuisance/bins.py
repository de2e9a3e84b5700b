"""XGBoost's bins of one set of covariates, computed once and shared by every fit on them.

XGBoost's histograms need each covariate only as the number of its bin. Its scikit-learn classes cut and number the
covariates anew in every ``fit``; folds, arms and second stages of an uplift learner fit dozens of models on the same
ones. Here the cuts are made once, from all rows; a subset of rows takes them over, and a new target on the same rows
only swaps labels and weights.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from causalrec._typing import AnyArray, FloatArray
from causalrec._validation import check_length, check_model_columns
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.tables import (
    Joined,
    check_table,
    chunk_rows,
    give_back,
    head,
    row_chunks,
    take_rows,
)

# Bins of subsets that are kept hold at most so many times the rows of X: five folds of two arms fit.
_KEPT_ROWS = 4


@dataclass(frozen=True)
class BinSettings:
    """What decides the bins of given covariates."""

    max_bin: int = 256
    enable_categorical: bool = True
    missing: float = np.nan
    feature_types: tuple[str, ...] | None = None
    names: bool = True  # a frame's own, some of which XGBoost refuses, or numbers

    @property
    def key(self) -> tuple[Any, ...]:
        """What equal bins share; NaN does not equal itself."""
        return (self.max_bin, self.enable_categorical, str(float(self.missing)), self.feature_types, self.names)


class Bins:
    """The bins of ``X``, computed when a fit first needs them and kept for the next ones.

    The cuts come from all rows of ``X`` and no weights, whatever rows and weights a model is fitted with: a model on
    all rows without weights is the one that XGBoost fits itself, to the bit; others differ by where the cuts fall.
    They never see an outcome. Fits may come from several threads; those on the same rows wait for one another.

    Parameters
    ----------
    X : frame or array of shape (n, p), or Joined
        Kept by reference, never changed. A frame may hold categories and missing values.
    common : bool
        Whether subsets take the cuts of all rows. Not so, each set of rows is cut on its own, as XGBoost does, and is
        the cheaper way where the sets are disjoint, such as the arms of a T-learner.

    Raises
    ------
    ColumnError
        For columns that are neither numbers, booleans nor categories.
    CausalRecError
        For sparse covariates.

    Examples
    --------
    >>> import xgboost
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2))
    >>> bins, base = Bins(X), xgboost.XGBRegressor(n_estimators=5)
    >>> first = bins.fit(base, X[:, 0])
    >>> bool((first.predict(X) == base.fit(X, X[:, 0]).predict(X)).all())
    True
    >>> half = bins.fit(base, X[:150, 1], rows=np.arange(150))
    >>> bins.predict(half, rows=np.arange(2)).shape
    (2,)
    """

    def __init__(self, X: Any, *, common: bool = True) -> None:
        if hasattr(X, "tocsr"):
            raise CausalRecError("X is sparse; sparse covariates are not supported. Pass X.toarray().")
        self.X = check_table(X)
        check_model_columns(head(self.X), model="XGBoost")
        self.n_rows = int(self.X.shape[0])
        self.common = common
        self._reset()

    def _reset(self) -> None:
        self._full: dict[Any, Any] = {}
        self._subsets: OrderedDict[Any, tuple[int, Any]] = OrderedDict()
        self._locks: dict[int, threading.RLock] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {"X": self.X, "n_rows": self.n_rows, "common": self.common}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def fit(self, base: Any, target: Any, *, rows: Any = None, weight: Any = None) -> Any:
        """Fit a clone of ``base`` on some rows.

        Parameters
        ----------
        base : BoostedRegressor, BoostedClassifier, or an XGBoost estimator that :func:`is_boosted` accepts
        target : array of shape (m,)
            One value per row of ``rows``.
        rows : int array of shape (m,), optional
            Rows of ``X``; all by default.
        weight : array of shape (m,), optional

        Returns
        -------
        The fitted clone: an estimator like any other, which keeps nothing of these bins.
        """
        index = None if rows is None else np.asarray(rows, dtype=np.int64)
        target = np.asarray(target)
        check_length(len(target), self.n_rows if index is None else len(index), name="target")
        if weight is not None:
            weight = np.asarray(weight, dtype=np.float64)
            check_length(len(weight), len(target), name="weight")
        model = clone(base)
        if hasattr(model, "_fit_bins"):
            return model._fit_bins(self, target, rows=index, weight=weight)
        return self._fit_xgboost(model, target, index, weight)

    def predict(self, model: Any, rows: Any = None) -> FloatArray:
        """Expected outcome of the rows, shape (m,): ``predict``, or ``predict_proba[:, 1]`` of a classifier."""
        return np.concatenate([_expected(model, X) for X in self.chunks(rows)])

    def chunks(self, rows: AnyArray | None = None) -> Iterator[Any]:
        """The covariates of some rows in parts of bounded size, so that no copy of all is made."""
        if rows is None and isinstance(self.X, np.ndarray):
            yield self.X
        else:
            yield from row_chunks(self.X, rows)

    def take(self, rows: Any = None) -> Any:
        """The covariates of some rows: a copy, or ``X`` itself for ``None``."""
        return take_rows(self.X, rows)

    @contextmanager
    def matrix(
        self, settings: BinSettings, rows: AnyArray | None = None, *, n_jobs: int | None = None
    ) -> Iterator[Any]:
        """XGBoost's matrix of some rows, for one fit at a time: its labels, weights and margins are the holder's."""
        with self._lock:
            matrix = self._find(settings, rows, n_jobs)
            lock = self._locks.setdefault(id(matrix), threading.RLock())
        with lock:
            yield matrix

    def _find(self, settings: BinSettings, rows: AnyArray | None, n_jobs: int | None) -> Any:
        key = settings.key
        if key not in self._full and (rows is None or self.common):
            self._full[key] = self._build(settings, None, None, n_jobs)
        if rows is None:
            return self._full[key]
        place = (key, *_place(rows))
        if place in self._subsets:
            self._subsets.move_to_end(place)
            return self._subsets[place][1]
        matrix = self._build(settings, rows, self._full[key] if self.common else None, n_jobs)
        self._subsets[place] = (len(rows), matrix)
        while len(self._subsets) > 1 and sum(n for n, _ in self._subsets.values()) > _KEPT_ROWS * self.n_rows:
            _, (_, dropped) = self._subsets.popitem(last=False)
            self._locks.pop(id(dropped), None)
        return matrix

    def forget(self, rows: AnyArray) -> None:
        """Let go of the bins of a subset of rows."""
        place = _place(rows)
        with self._lock:
            for key in [key for key in self._subsets if key[1:] == place]:
                self._locks.pop(id(self._subsets.pop(key)[1]), None)

    def _build(self, settings: BinSettings, rows: AnyArray | None, ref: Any, n_jobs: int | None) -> Any:
        import xgboost

        X = self.X
        info = {
            "feature_names": None if settings.names else [f"f{j}" for j in range(X.shape[1])],
            "feature_types": None if settings.feature_types is None else list(settings.feature_types),
        }
        if isinstance(X, Joined) or rows is not None:
            n = X.shape[0] if rows is None else len(rows)
            if n > chunk_rows(X):
                X, info = _in_parts(X, rows, info), {}
            else:
                X = take_rows(X, rows)
        try:
            matrix = xgboost.QuantileDMatrix(
                X, ref=ref, max_bin=settings.max_bin, missing=settings.missing, nthread=n_jobs,
                enable_categorical=settings.enable_categorical, **info,
            )  # fmt: skip
        except xgboost.core.XGBoostError as error:
            if "inf" not in str(error):
                raise
            raise CausalRecError(
                "X holds infinite values; XGBoost takes finite numbers and missing ones. Replace them by a large "
                "number or by NaN, whichever they mean."
            ) from error
        give_back(self.X)
        return matrix

    def _fit_xgboost(self, model: Any, target: AnyArray, rows: AnyArray | None, weight: FloatArray | None) -> Any:
        """Let the estimator's own ``fit`` run, with the matrix that it would build replaced by ours."""
        settings = BinSettings(
            256 if model.max_bin is None else model.max_bin, bool(model.enable_categorical), model.missing,
            None if model.feature_types is None else tuple(model.feature_types),
        )  # fmt: skip
        if is_classifier(model):
            target = target.astype(np.int64)
        with self.matrix(settings, rows, n_jobs=model.n_jobs) as matrix:

            def ours(*, label: Any, weight: Any, **_: Any) -> Any:
                matrix.set_label(label)
                matrix.set_weight(np.empty(0, dtype=np.float32) if weight is None else weight)
                return matrix

            model._create_dmatrix = ours
            try:
                # It looks at the covariates' types alone.
                model.fit(head(self.X) if isinstance(self.X, Joined) else self.X, target, sample_weight=weight)
            finally:
                del model._create_dmatrix
        return model


def _place(rows: AnyArray) -> tuple[int, bytes]:
    """What tells a set of rows from others."""
    return len(rows), hashlib.blake2b(np.ascontiguousarray(rows, dtype=np.int64).data, digest_size=16).digest()


def _in_parts(X: Any, rows: AnyArray | None, info: dict[str, Any]) -> Any:
    """An iterator from which XGBoost makes the same bins, to the bit, as from a copy of the rows."""
    import xgboost

    class Parts(xgboost.DataIter):
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def __len__(self) -> int:
            return int(X.shape[0]) if rows is None else len(rows)

        def reset(self) -> None:
            self.left = row_chunks(X, rows)

        def next(self, input_data: Any) -> bool:
            part = next(self.left, None)
            if part is None:
                return False
            input_data(data=part, **info)
            return True

    return Parts()


def _expected(model: Any, X: Any) -> FloatArray:
    if hasattr(model, "_expect"):
        return np.asarray(model._expect(X))
    if is_classifier(model):
        return np.asarray(model.predict_proba(X)[:, 1], dtype=np.float64)
    return np.asarray(model.predict(X), dtype=np.float64)


def takes_bins(base: Any) -> bool:
    """Whether an XGBoost estimator's ``fit`` on these bins is its ``fit`` on the covariates, but for the cuts.

    So it is for XGBoost's own regressor and classifier and their forests, with histograms. Not with exact or
    approximate splits, a linear booster or weights of features; subclasses of a user's may do anything in ``fit``.
    """
    kind = type(base)
    if kind.__module__ != "xgboost.sklearn" or kind.__name__ not in _KINDS:
        return False
    plain = base.booster in (None, "gbtree", "dart") and base.tree_method in (None, "auto", "hist")
    further = getattr(base, "kwargs", None) or {}
    return bool(plain and base.feature_weights is None and not {"updater", "process_type"} & set(further))


_KINDS = ("XGBRegressor", "XGBClassifier", "XGBRFRegressor", "XGBRFClassifier")
