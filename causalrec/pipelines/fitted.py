"""What a fitted learner is made of, as results: boosting curves and chosen sizes, importances of covariates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec.nuisance import BoostedClassifier, BoostedRegressor, Nuisances
from causalrec.nuisance.fitting import MeanModel
from causalrec.pipelines.scoring import UpliftScorer
from causalrec.results import NAN, BoostingCurveResult, ImportanceResult
from causalrec.uplift import SLearner, StackedLearner, TLearner
from causalrec.uplift.xlearner import XModels

_ARMS = ("control", "treated")


@dataclass(frozen=True)
class Part:
    """A fitted base model, and what it models."""

    model: Any
    name: str
    part: str = ""


def parts_of(learner: Any) -> list[Part]:
    """The base models of a learner of two arms, and those of its nuisances."""
    found = list(_own_parts(learner))
    seen = {id(part.model) for part in found}
    nuisance = getattr(learner, "nuisance_", None)
    if nuisance is not None:
        found += [part for part in _nuisance_parts(nuisance) if id(part.model) not in seen]
    return found


def _own_parts(learner: Any, prefix: str = "") -> Iterator[Part]:
    models = learner.models_
    if isinstance(learner, StackedLearner):
        for name, each in models.items():
            yield from _own_parts(each, f"{name}: ")
    elif isinstance(learner, SLearner):
        yield from _spread(models[0], f"{prefix}outcome")
    elif isinstance(learner, TLearner):
        for arm, model in zip(_ARMS, models, strict=True):
            yield from _spread(model, f"{prefix}outcome, {arm}")
    elif isinstance(models, XModels):
        yield from _spread(models.of_treated[0], f"{prefix}effect, from the treated")
        yield from _spread(models.of_control[0], f"{prefix}effect, from control")
    elif isinstance(models, list):
        yield from _spread(models[0], f"{prefix}effect")


def _spread(model: Any, name: str) -> Iterator[Part]:
    if isinstance(model, MeanModel):
        for k, each in enumerate(model.models, start=1):
            yield Part(each, name, f"fold {k}")
    else:
        yield Part(model, name)


def _nuisance_parts(nuisance: Nuisances) -> Iterator[Part]:
    for k, fold in enumerate(nuisance.models, start=1):
        for arm, model in zip(_ARMS, fold.outcome, strict=True):
            yield Part(model, f"outcome, {arm}", f"fold {k}")
        for model in fold.propensity[-1:]:
            yield Part(model, "propensity", f"fold {k}")


def boosting_curves(parts: Sequence[Part], learner: str) -> BoostingCurveResult | None:
    """The boosted ones among the models, with what they chose; None where there is none."""
    boosted = [p for p in parts if isinstance(p.model, BoostedRegressor | BoostedClassifier)]
    if not boosted:
        return None
    trees = np.array([p.model.best_n_estimators_ for p in boosted], dtype=np.int64)
    curves = [_Curve.of(p.model) for p in boosted]
    chosen = np.array([curve.at(int(t)) for curve, t in zip(curves, trees, strict=True)])
    starts = np.array([curve.validation[0] if len(curve.trees) else NAN for curve in curves])
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(starts > 0, 1 - chosen[:, 1] / starts, NAN)
    return BoostingCurveResult(
        learner=learner, n_models=len(boosted), median_trees=float(np.median(trees)), most_trees=int(trees.max()),
        model=np.array([p.name for p in boosted]), part=np.array([p.part for p in boosted]),
        loss=np.array([curve.loss for curve in curves]), trees=trees,
        depth=np.array([p.model.best_max_depth_ for p in boosted], dtype=np.int64),
        train=chosen[:, 0], validation=chosen[:, 1], gain=gain,
        curve_model=np.repeat(np.arange(len(boosted)), [len(curve.trees) for curve in curves]),
        curve_round=np.concatenate([curve.trees for curve in curves]),
        curve_train=np.concatenate([curve.train for curve in curves]),
        curve_validation=np.concatenate([curve.validation for curve in curves]),
    )  # fmt: skip


def curve_series(result: BoostingCurveResult) -> dict[str, list[tuple[int, float]]]:
    """Points (trees, loss) of the curves by a name each, for tracking."""
    found = {}
    for k in np.unique(result.curve_model):
        rows = result.of_model(int(k))
        at = result.curve_round[rows].tolist()
        name = " ".join(filter(None, (str(result.model[k]), str(result.part[k])))).replace(",", "").replace(":", "")
        for part, values in (("train", result.curve_train), ("validation", result.curve_validation)):
            found[f"loss {name} {part}"] = list(zip(at, values[rows].tolist(), strict=True))
    return found


def importances(scorer: UpliftScorer, learner: str) -> ImportanceResult | None:
    """Importances of the covariates, the highest first; None where the base models have none."""
    try:
        raw = np.asarray(scorer.model.feature_importances_, dtype=np.float64)
    except AttributeError:
        return None
    if scorer.encoding is not None:
        by_source = pd.Series(raw).groupby(scorer.encoding.sources()).sum()
        raw = np.asarray(by_source.reindex(list(scorer.spec.columns)), dtype=np.float64)
    shares: FloatArray = np.asarray(raw / (raw.sum() or 1.0), dtype=np.float64)
    order = np.argsort(-shares, kind="stable")
    return ImportanceResult(
        model=learner, what="outcome" if hasattr(scorer.model, "predict_outcomes") else "effect",
        method="mean over the base models", n_covariates=len(shares), n_used=int((shares > 0).sum()),
        covariate=np.array(scorer.spec.columns)[order], importance=shares[order],
    )  # fmt: skip


@dataclass(frozen=True)
class _Curve:
    loss: str
    trees: IntArray
    train: FloatArray
    validation: FloatArray

    @classmethod
    def of(cls, model: Any) -> _Curve:
        """What a boosted model watched; of equal length, NaN where it did not."""
        found = {part: next(iter(series.items())) for part, series in model.evals_result_.items()}
        trees = np.asarray(model.evals_rounds_ if found else [], dtype=np.int64)
        curves = [np.full(len(trees), NAN) for _ in range(2)]
        for curve, part in zip(curves, ("train", "validation"), strict=True):
            values = found[part][1] if part in found else []
            curve[: len(values)] = values
        return cls(next(iter(found.values()))[0] if found else "", trees, *curves)

    def at(self, trees: int) -> tuple[float, float]:
        """Both losses at a size."""
        here = np.flatnonzero(self.trees == trees)
        return (float(self.train[here[0]]), float(self.validation[here[0]])) if len(here) else (NAN, NAN)
