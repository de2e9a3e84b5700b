"""Contributions of covariates to the predictions of base models: SHAP values of trees and of linear models.

Every model is a margin, of trees and of slopes, behind a link. XGBoost gives the SHAP values of its trees (Lundberg et
al. 2020, Nature Machine Intelligence 2, "From local explanations to global understanding with explainable AI for
trees"; absent covariates are averaged over by the rows that each branch had in training). A slope's is its coefficient
times the distance of the covariate from its mean, and a product of two covariates is shared equally between them: both
are exact for independent covariates (Lundberg and Lee 2017, NeurIPS, corollary 1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import is_classifier

from causalrec._typing import FloatArray
from causalrec.exceptions import CausalRecError
from causalrec.nuisance.boosting import BoostedClassifier, BoostedRegressor
from causalrec.nuisance.fitting import Constant, MeanModel
from causalrec.nuisance.joined import ArmModel
from causalrec.nuisance.linear_start import Slopes
from causalrec.nuisance.tables import join_arms

_OTHER_SIDE = 1e-12  # weight of a branch that no row takes, which must not be zero
_IDENTITY = (
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:squaredlogerror",
)
_LOGISTIC = ("binary:logistic", "reg:logistic")


class Parts(NamedTuple):
    """Contributions of covariates, shape (n, p), and what predictions start from, shape (n,); rows add up to them."""

    values: FloatArray
    base: FloatArray

    def times(self, factor: FloatArray | float) -> Parts:
        """All times a number, or one per row."""
        by_row = np.broadcast_to(np.asarray(factor, dtype=np.float64), self.base.shape)
        return Parts(self.values * by_row[:, None], self.base * by_row)

    def plus(self, other: Parts, sign: float = 1.0) -> Parts:
        """The sum."""
        return Parts(self.values + sign * other.values, self.base + sign * other.base)


def contributions(model: Any, X: Any) -> Parts:
    """Contributions to the expected outcome by a fitted base model.

    A probability's are those of its log-odds, carried over in proportion to how far the probability is from that of the
    base, so that they add up to it.

    Raises
    ------
    CausalRecError
        For a base model that is neither trees of XGBoost nor linear.
    """
    if isinstance(model, MeanModel):
        return _mean([contributions(each, X) for each in model.models])
    if isinstance(model, Constant):
        return Parts(np.zeros(X.shape), np.full(len(X), float(model.value)))
    if isinstance(model, ArmModel):
        return of_arm(model.model, X, model.code, model.n_arms)
    return _behind_link(model, _margin(model, X, {}))


def of_arm(model: Any, X: Any, code: int, n_arms: int) -> Parts:
    """Contributions of the covariates where the arm, which is among the columns of the model, is known."""
    if isinstance(model, Constant):
        return contributions(model, X)
    p = X.shape[1]
    joined = join_arms(X, np.full(len(X), code), n_arms)
    known = {p + a - 1: float(a == code) for a in range(1, n_arms)}
    found = _behind_link(model, _margin(model, joined, known))
    return Parts(found.values[:, :p], found.base)


def _mean(parts: list[Parts]) -> Parts:
    return Parts(
        np.asarray(sum(part.values for part in parts) / len(parts)),
        np.asarray(sum(part.base for part in parts) / len(parts)),
    )


def _behind_link(model: Any, margin: Parts) -> Parts:
    """From the margin's scale to the outcome's."""
    if isinstance(model, BoostedRegressor):
        scaled = margin.times(model._scale)
        return Parts(scaled.values, scaled.base + model._centre)
    if not (is_classifier(model) or _objective(model) in _LOGISTIC):
        return margin
    total = margin.values.sum(axis=1)
    end = margin.base + total
    slope = np.divide(
        expit(end) - expit(margin.base), total, out=expit(end) * (1 - expit(end)), where=np.abs(total) > 1e-9
    )
    return Parts(margin.values * slope[:, None], expit(margin.base))


def _margin(model: Any, X: Any, known: Mapping[int, float]) -> Parts:
    """Contributions to the linear predictor; columns that are ``known`` have none."""
    if isinstance(model, BoostedRegressor | BoostedClassifier):
        table = model._form.apply(X)
        found = slope_parts(model._slopes, table, known)
        if model._booster is None:
            return found
        return found.plus(_tree_parts(model._booster, table, known, np.nan))
    if hasattr(model, "get_booster"):
        if _objective(model) not in (*_IDENTITY, *_LOGISTIC):
            raise _refusal(model, f" with the objective {_objective(model)}")
        return _tree_parts(model.get_booster(), X, known, model.missing)
    coef = getattr(model, "coef_", None)
    if coef is None or np.size(coef) != X.shape[1]:
        raise _refusal(model, "")
    return _linear_parts(np.ravel(coef), float(np.ravel(model.intercept_)[0]), X, known)


def _refusal(model: Any, more: str) -> CausalRecError:
    return CausalRecError(
        f"contributions of covariates are known for boosted trees of XGBoost (the default) and for linear models; "
        f"found {type(model).__name__}{more}. Use such a base learner, or permutation_importance, which takes any."
    )


def _objective(model: Any) -> str:
    if not hasattr(model, "get_booster"):
        return ""
    config = json.loads(model.get_booster().save_config())
    return str(config["learner"]["objective"]["name"])


def _linear_parts(coef: FloatArray, intercept: float, X: Any, known: Mapping[int, float]) -> Parts:
    """Around the means of these rows."""
    table = np.asarray(X, dtype=np.float64)
    means = table.mean(axis=0)
    values = coef * (table - means)
    values[:, list(known)] = 0.0
    start = intercept + float(coef @ np.array([known.get(j, mean) for j, mean in enumerate(means)]))
    return Parts(values, np.full(len(table), start))


def slope_parts(slopes: Slopes, X: Any, known: Mapping[int, float]) -> Parts:
    """Contributions to a ridge regression's linear predictor, around the means of its training."""
    n, p = X.shape
    values, base = np.zeros((n, p)), np.full(n, slopes.intercept)
    if slopes.degree == 0 or slopes.terms is None:
        return Parts(values, base)
    terms, q = slopes.terms, len(slopes.terms.columns)
    Z = terms.without_pairs().design(X)
    fixed = [int(column) in known for column in terms.columns]
    for j in range(q):
        _add(values, base, [int(terms.columns[j])] * (not fixed[j]), slopes.coef[j] * Z[:, j])
    for k, (i, j) in enumerate(terms.pairs):
        scale = slopes.coef[q + k] / terms.pair_scale[k]
        product = scale * Z[:, i] * Z[:, j]
        if i == j and not fixed[i]:  # whose mean is not zero
            product = product - scale * terms.pair_mean[k]
        else:
            base -= scale * terms.pair_mean[k]
        _add(values, base, [int(terms.columns[side]) for side in (i, j) if not fixed[side]], product)
    return Parts(values, base)


def _add(values: FloatArray, base: FloatArray, columns: list[int], amount: FloatArray) -> None:
    """Share an amount of every row between columns; where there is none it belongs to the base."""
    for column in columns:
        values[:, column] += amount / len(columns)
    if not columns:
        base += amount


def _tree_parts(booster: Any, X: Any, known: Mapping[int, float], missing: Any) -> Parts:
    import xgboost

    if known:
        booster = with_known(booster, known)
    matrix = xgboost.DMatrix(X, missing=np.nan if missing is None else missing, enable_categorical=True)
    found = booster.predict(matrix, pred_contribs=True, validate_features=False)
    if found.ndim != 2:
        raise CausalRecError(
            "contributions of covariates are not known for trees of several outputs. Fit a model of each arm "
            "(multi_output=False)."
        )
    table = np.asarray(found, dtype=np.float64)
    return Parts(table[:, :-1], table[:, -1])


def with_known(booster: Any, known: Mapping[int, float]) -> Any:
    """The same trees where some columns are known: their splits count as taken by all rows of training.

    SHAP averages over a covariate that is absent by the rows that each branch had; these counts are rewritten.
    """
    import xgboost

    model = json.loads(bytes(booster.save_raw("json")))
    trainer = model["learner"]["gradient_booster"]
    if trainer.get("name") != "gbtree":
        raise CausalRecError(f"contributions need plain trees (gbtree) here; found {trainer.get('name')}.")
    for tree in trainer["model"]["trees"]:
        _reweigh(tree, known)
    changed = xgboost.Booster()
    changed.load_model(bytearray(json.dumps(model).encode()))
    return changed


def _reweigh(tree: dict[str, Any], known: Mapping[int, float]) -> None:
    left, right = tree["left_children"], tree["right_children"]
    weight = list(tree["sum_hessian"])
    waiting = [(0, 1.0)]
    while waiting:
        node, factor = waiting.pop()
        weight[node] *= factor
        if left[node] < 0:
            continue
        column = tree["split_indices"][node]
        parts = [factor, factor]
        if column in known:
            taken = int(not known[column] < tree["split_conditions"][node])
            sides = (left[node], right[node])
            total = weight[node] / factor
            parts[taken] = factor * total / max(weight[sides[taken]], 1e-30)
            parts[1 - taken] = factor * _OTHER_SIDE
        waiting += [(left[node], parts[0]), (right[node], parts[1])]
    tree["sum_hessian"] = weight


def correlation(values: Any, contribution: FloatArray) -> float:
    """Of a covariate with its contribution, where both vary; NaN for categories."""
    if isinstance(values, pd.Series) and not pd.api.types.is_numeric_dtype(values.dtype):
        return float("nan")
    numbers = (
        values.to_numpy(dtype=np.float64, na_value=np.nan)
        if isinstance(values, pd.Series)
        else np.asarray(values, dtype=np.float64)
    )
    seen = np.isfinite(numbers)
    x, phi = numbers[seen], contribution[seen]
    if len(x) < 2 or not x.std() > 0 or not phi.std() > 1e-300:
        return float("nan")
    return float(np.corrcoef(x, phi)[0, 1])
