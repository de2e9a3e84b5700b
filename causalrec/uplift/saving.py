"""Learners as plain files, for other processes, machines and MLflow."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError

from causalrec._files import new_directory
from causalrec._objects import read_object, write_object
from causalrec.exceptions import StoreError
from causalrec.uplift.base import UpliftLearner


def save_learner(
    learner: UpliftLearner, directory: str | Path, *, replace: bool = False, allow_pickle: bool = False
) -> Path:
    """Write a fitted learner into a directory of plain files, which is complete or absent.

    ``object.json`` holds the settings, the arms and the form of the covariates, ``.ubj`` files XGBoost's trees and
    ``.npy`` files arrays. Base models of scikit-learn and others are kept by skops (``pip install skops``) in
    ``.skops`` files. The training rows are left out: ``nuisance_``, which holds them, is None after reading; save it
    with :meth:`causalrec.nuisance.Nuisances.save` if you need it.

    Parameters
    ----------
    learner : any learner of this package, fitted
    directory : path
        New, unless ``replace``.
    replace : bool
        Whether a directory that is there gives way, once the new one is complete.
    allow_pickle : bool
        Whether a part that plain files cannot hold, such as an EconML estimator, becomes a pickle in them.

    Returns
    -------
    The directory.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    StoreError
        When the place is taken or cannot be written, or a base model cannot be kept in plain files.
    MissingExtraError
        For base models of other packages, without skops.

    Examples
    --------
    >>> import tempfile
    >>> from causalrec.uplift import TLearner
    >>> rng = np.random.default_rng(0)
    >>> X, treatment = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    >>> learner = TLearner().fit(X, X[:, 0] * treatment, treatment=treatment)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     again = load_learner(save_learner(learner, Path(place) / "model"))
    >>> bool((again.predict(X) == learner.predict(X)).all())
    True
    """
    if not hasattr(learner, "labels_"):
        raise NotFittedError(f"this {type(learner).__name__} is not fitted yet; call fit before saving it.")
    names = getattr(learner, "feature_names_in_", None)
    about = {
        "learner": type(learner).__name__,
        "arms": [str(label) for label in learner.labels_],
        "covariates": learner.n_features_in_ if names is None else [str(name) for name in names],
    }
    target = Path(directory).expanduser().absolute()
    with new_directory(target, replace=replace) as partial:
        write_object(without_rows(learner), partial, about=about, allow_pickle=allow_pickle)
    return target


def without_rows(learner: Any) -> Any:
    """The learner without its nuisances, which hold the training rows and which predicting does not need."""
    kept = copy.copy(learner)
    if getattr(kept, "nuisance_", None) is not None:
        kept.nuisance_ = None
    return kept


def load_learner(directory: str | Path, *, trusted: Collection[str] = (), allow_pickle: bool = False) -> Any:
    """Read a learner that :func:`save_learner` wrote; it predicts the same, to the bit.

    Reading runs no code from the files. Types of other packages that are not known to be harmless are refused by name.

    Parameters
    ----------
    directory : path
    trusted : names of types, optional
        Types of other packages to build, such as ``"my_package.MyRegressor"``, if you trust who saved the learner.
    allow_pickle : bool
        Whether to load pickles, which can run any code: only for files of people whom you trust.

    Raises
    ------
    StoreError
        When there is no learner, a newer version wrote it, a file is damaged, or a part is not trusted.
    """
    place = Path(directory).expanduser().absolute()
    found = read_object(place, trusted=trusted, allow_pickle=allow_pickle)
    if not hasattr(found, "labels_") or not hasattr(found, "predict"):
        raise StoreError(f"{place} holds a {type(found).__name__}, expected an uplift learner.")
    return found


def _load_pyfunc(path: str) -> Any:
    """What ``mlflow.pyfunc`` calls to load a learner: something with ``predict(frame)``.

    Pickles in it are loaded: MLflow runs the code that comes with a model in any case.
    """
    return _Pyfunc(load_learner(path, allow_pickle=True))


def effect_frame(learner: Any, X: Any) -> pd.DataFrame:
    """Predicted effects as columns: ``uplift`` for two arms, ``uplift_<arm>`` for each arm but control of more.

    Examples
    --------
    >>> from causalrec.uplift import TLearner
    >>> X, treatment = np.arange(8.0).reshape(8, 1), np.array(["a", "b", "c", "c"] * 2)
    >>> from sklearn.linear_model import LinearRegression
    >>> learner = TLearner(LinearRegression(), control="c").fit(X, treatment == "a", treatment=treatment)
    >>> effect_frame(learner, X).round(6).head(1)
       uplift_a  uplift_b
    0       1.0       0.0
    """
    effects = np.asarray(learner.predict(X), dtype=np.float64)
    if effects.ndim == 1:
        return pd.DataFrame({"uplift": effects})
    return pd.DataFrame(effects, columns=[f"uplift_{label}" for label in learner.labels_[1:]])


class _Pyfunc:
    """A learner for MLflow: a frame in, a frame with a column of effects for each arm out."""

    def __init__(self, learner: Any) -> None:
        self.learner = learner

    def predict(self, X: Any, params: Any = None) -> Any:  # noqa: ARG002 - MLflow's signature
        return effect_frame(self.learner, X)
