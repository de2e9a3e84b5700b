"""Propensities of two or more arms: known ones, fitted ones, calibration, clipping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import optimize, special
from sklearn.base import is_classifier
from sklearn.isotonic import IsotonicRegression

from causalrec._typing import AnyArray, FloatArray, IntArray
from causalrec._validation import check_length, check_propensity, list_some
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance.boosting import BoostedClassifier
from causalrec.nuisance.fitting import SharedCovariates, predict_mean

Calibration: TypeAlias = Literal["sigmoid", "isotonic"] | None
_TINY = 1e-12


def known_propensity(propensity: Any, labels: Sequence[object], *, n_rows: int) -> FloatArray:
    """The probabilities of every arm, shape (n, k), from what a user knows about the design.

    Parameters
    ----------
    propensity : float, array of shape (n,) or (n, k), or mapping of arms to shares
        Of two arms the probability of the second; of more a column for each in the order of ``labels``, or
        ``{arm: share}``.
    labels : arms, control first
    n_rows : int

    Raises
    ------
    OverlapError
        For probabilities that are not strictly between 0 and 1.
    CausalRecError
        For another shape, other arms, or probabilities of a row that do not sum to 1.

    Examples
    --------
    >>> known_propensity({"none": 0.5, "mail": 0.3, "app": 0.2}, ("none", "app", "mail"), n_rows=1).tolist()
    [[0.5, 0.2, 0.3]]
    """
    k = len(labels)
    if isinstance(propensity, Mapping):
        if set(propensity) != set(labels):
            raise CausalRecError(
                f"propensity names the arms {list_some(propensity)}; expected a share for each of {list_some(labels)}."
            )
        values: Any = np.array([float(propensity[arm]) for arm in labels])[None, :]
    elif k == 2 and np.ndim(propensity) < 2:
        treated = check_propensity(propensity, n_rows=1 if np.ndim(propensity) == 0 else n_rows)
        values = np.column_stack([1.0 - treated, treated])
    else:
        values = _table(propensity, labels, n_rows)
    _check_rows(values)
    return np.broadcast_to(values, (n_rows, k))


def _table(propensity: Any, labels: Sequence[object], n_rows: int) -> FloatArray:
    if isinstance(propensity, pd.DataFrame) and set(labels) <= set(propensity.columns):
        propensity = propensity[list(labels)]
    values = np.asarray(propensity, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(labels):
        raise CausalRecError(
            f"propensity has shape {values.shape}, but there are {len(labels)} arms: {list_some(labels)}. Pass "
            f"{{arm: share}}, or an array of shape (n, {len(labels)}) with a column for each arm, in this order."
        )
    check_length(len(values), n_rows, name="propensity")
    check_propensity(values.ravel(), n_rows=values.size)
    return values


def _check_rows(values: FloatArray) -> None:
    check_propensity(values.ravel(), n_rows=values.size)
    off = np.abs(values.sum(axis=1) - 1.0) > 1e-6
    if off.any():
        raise CausalRecError(
            f"propensity: the probabilities of {int(off.sum())} of {len(off)} rows do not sum to 1 over the arms (the "
            f"first sums to {values[off][0].sum():.6g}). Pass P(arm given X) of every arm."
        )


def propensity_base(base: Any, *, random_state: int, n_jobs: int | None) -> Any:
    """The model of the treatment: the classifier given, else boosted trees.

    Raises
    ------
    CausalRecError
        For a model that is no classifier.
    """
    if base is None:
        return BoostedClassifier(random_state=random_state, n_jobs=n_jobs)
    if isinstance(base, type) or not is_classifier(base):
        raise CausalRecError(f"propensity_model is {base!r}; expected an instance of a scikit-learn classifier.")
    return base


def fit_propensity_models(
    shared: SharedCovariates,
    base: Any,
    codes: IntArray,
    n_arms: int,
    rows: IntArray | None,
    weight: FloatArray | None,
) -> list[Any]:
    """A model of P(arm given X) on some rows, or all: of the second arm where there are two, else of each arm."""
    arms = [1] if n_arms == 2 else range(n_arms)
    if rows is not None:
        codes, weight = codes[rows], None if weight is None else weight[rows]
    return [shared.fit(base, (codes == a).astype(np.float64), rows=rows, weight=weight) for a in arms]


def arm_probabilities(predictions: Sequence[FloatArray]) -> FloatArray:
    """Probabilities of all arms, shape (n, k), from what :func:`fit_propensity_models` predict: they sum to 1."""
    if len(predictions) == 1:
        return np.column_stack([1.0 - predictions[0], predictions[0]])
    table = np.column_stack(predictions)
    total = table.sum(axis=1, keepdims=True)
    even = np.full_like(table, 1.0 / table.shape[1])
    return np.asarray(np.divide(table, total, out=even, where=total > 0))


def predict_arms(models: Sequence[Any], X: Any) -> FloatArray:
    """P(arm given X) at new covariates, shape (n, k)."""
    return arm_probabilities([predict_mean(model, X) for model in models])


class Calibrator:
    """Brings predicted probabilities of every arm to the frequencies that were observed.

    ``"sigmoid"`` is Platt's: a logistic regression on the log odds. ``"isotonic"`` is the best increasing function,
    which may reach 0 and 1. Each arm is calibrated against the rest, and the arms are brought to sum to 1.
    """

    def __init__(self, kind: Calibration, propensity: FloatArray, codes: IntArray, weight: FloatArray | None) -> None:
        k = propensity.shape[1]
        self._maps = [
            _calibration_map(kind, propensity[:, a], (codes == a).astype(np.float64), weight)
            for a in ([1] if k == 2 else range(k))
        ]

    def apply(self, propensity: FloatArray) -> FloatArray:
        """Calibrated probabilities, shape (n, k)."""
        arms = [1] if propensity.shape[1] == 2 else range(propensity.shape[1])
        return arm_probabilities([f(propensity[:, a]) for f, a in zip(self._maps, arms, strict=True)])


class _Sigmoid:
    def __init__(self, p: FloatArray, hit: FloatArray, weight: FloatArray | None) -> None:
        odds, w = _log_odds(p), np.ones(len(p)) if weight is None else weight

        def loss(b: FloatArray) -> tuple[float, FloatArray]:
            eta = b[0] + b[1] * odds
            gap = w * (special.expit(eta) - hit)
            return float(w @ (np.logaddexp(0, eta) - hit * eta)), np.array([gap.sum(), gap @ odds])

        self.intercept, self.slope = optimize.minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x

    def __call__(self, p: FloatArray) -> FloatArray:
        return np.asarray(special.expit(self.intercept + self.slope * _log_odds(p)))


class _Isotonic:
    def __init__(self, p: FloatArray, hit: FloatArray, weight: FloatArray | None) -> None:
        self.model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(p, hit, sample_weight=weight)

    def __call__(self, p: FloatArray) -> FloatArray:
        return np.asarray(self.model.predict(p), dtype=np.float64)


def _calibration_map(kind: Calibration, p: FloatArray, hit: FloatArray, weight: FloatArray | None) -> Any:
    return (_Sigmoid if kind == "sigmoid" else _Isotonic)(p, hit, weight)


def _log_odds(p: FloatArray) -> FloatArray:
    return np.asarray(special.logit(np.clip(p, _TINY, 1 - _TINY)))


def calibrate_across(
    kind: Calibration, propensity: FloatArray, codes: IntArray, fold: IntArray, weight: FloatArray | None
) -> FloatArray:
    """Calibrate the out-of-fold probabilities of each fold by those of the others, shape (n, k)."""
    found = np.empty_like(propensity)
    for k in np.unique(fold):
        inside = fold == k
        rest = None if weight is None else weight[~inside]
        found[inside] = Calibrator(kind, propensity[~inside], codes[~inside], rest).apply(propensity[inside])
    return found


def check_calibration(calibration: Any) -> Calibration:
    """Return ``"sigmoid"``, ``"isotonic"`` or None."""
    if calibration not in (None, "sigmoid", "isotonic"):
        raise CausalRecError(f"calibration is {calibration!r}; expected 'sigmoid', 'isotonic' or None.")
    kind: Calibration = calibration
    return kind


def check_clip(clip: Any, n_arms: int) -> float | None:
    """Return the least probability that an arm is given, in (0, 1/k), or None."""
    if clip is not None and not 0 < float(clip) < 1 / n_arms:
        raise CausalRecError(f"clip is {clip!r}; expected a probability in (0, {1 / n_arms:.4g}), such as 0.01.")
    return None if clip is None else float(clip)


def clip_propensity(propensity: FloatArray, clip: float | None) -> tuple[FloatArray, float]:
    """Probabilities of at least ``clip``, and the share of rows that this changed; for None only a check.

    With more than two arms the others of a clipped row shrink in proportion, so that the row still sums to 1.

    Raises
    ------
    OverlapError
        When some probability is 0 or 1 and nothing is clipped.
    """
    if clip is None:
        certain = int(((propensity <= 0) | (propensity >= 1)).any(axis=1).sum())
        if certain:
            raise OverlapError(
                f"the fitted propensity is exactly 0 or 1 for {certain} of {len(propensity)} rows: these have no "
                "comparison. Drop them, pass clip=0.01 to bound their weight, or use calibration='sigmoid'."
            )
        return propensity, 0.0
    low: AnyArray = np.asarray(propensity < clip)
    room = 1.0 - clip * low.sum(axis=1, keepdims=True)
    rest = np.where(low, 0.0, propensity)
    clipped = np.where(low, clip, rest * room / np.maximum(rest.sum(axis=1, keepdims=True), _TINY))
    changed: AnyArray = np.asarray(low.any(axis=1))
    return np.where(changed[:, None], clipped, propensity), float(changed.mean())
