"""Boosted trees of ``xgboost.spark``, trained where the rows are, as the base models that the learners have locally."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier

from causalrec._validation import CovariateForm, optional_import
from causalrec.exceptions import CausalRecError, EngineError
from causalrec.nuisance.boosting import is_boosted
from causalrec.nuisance.fitting import Constant
from causalrec.nuisance.linear_start import clearly_positive
from causalrec.nuisance.rounds import Curve, Task
from causalrec.nuisance.spark_tasks import running
from causalrec.nuisance.tables import arm_names
from causalrec.uplift._spark_batches import (
    BatchFunction,
    fit_start,
    fit_whole,
    in_one_task,
    start_margin,
    tree_margin,
    with_columns,
)
from causalrec.uplift._spark_rows import Rows

_ROWS_PER_WORKER = 10_000
_NOT_FOR_WORKERS = ("n_jobs", "nthread", "enable_categorical", "feature_types", "missing", "n_estimators", "verbosity")
_SLOPE_ROWS = 200_000
_REFIT_ROWS = 100_000
_HELD_OUT = 0.1


def check_boosted(base: Any) -> None:
    """Raise where a base learner cannot be trained on Spark."""
    if not is_boosted(base):
        raise CausalRecError(
            f"{type(base).__name__} cannot be trained on Spark; expected BoostedRegressor, BoostedClassifier, or "
            "xgboost's XGBRegressor or XGBClassifier. Fit any other learner on a sample in memory, and score the whole "
            "frame with score_spark."
        )


def check_workers(session: Any, n_workers: int | None, n_rows: int) -> int:
    """Tasks that train one model together: as asked, else one per 10,000 rows, at most what run at once.

    Raises
    ------
    EngineError
        For more tasks than run at once: they wait for one another, so none would ever start.
    """
    slots = _slots(session)
    if n_workers is None:
        return max(1, min(slots, n_rows // _ROWS_PER_WORKER))
    if not isinstance(n_workers, int | np.integer) or isinstance(n_workers, bool) or n_workers < 1:
        raise CausalRecError(f"n_workers is {n_workers!r}; expected a whole number of 1 or more.")
    if n_workers > slots:
        raise EngineError(
            f"n_workers is {n_workers}, but this Spark runs {slots} tasks at once, and those that train a model must "
            f"run together. Pass n_workers={slots} or less, or start Spark with more executors or cores."
        )
    return int(n_workers)


def _slots(session: Any) -> int:
    """Tasks that Spark runs at once now."""
    context = session.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().resourceProfileFromId(0)
    return max(1, int(context.maxNumConcurrentTasks(profile)))


@dataclass(frozen=True)
class Facts:
    """What is known of the rows that a model is trained on."""

    n: int
    low: float
    high: float
    mean: float
    deviation: float
    weight: float  # the mean weight


class Trainer:
    """Trains base models on the rows of one frame, which executors keep until the end of its context.

    Parameters
    ----------
    rows : Rows
    n_workers : int
        Tasks that train a model together.
    """

    def __init__(self, rows: Rows, n_workers: int) -> None:
        self.rows = rows
        self.n_workers = n_workers
        self._kept: list[Any] = []

    def __enter__(self) -> Self:
        self._keep(self.rows.frame)
        return self

    def __exit__(self, *_: object) -> None:
        while self._kept:
            self._kept.pop().unpersist()

    def _keep(self, frame: Any) -> Any:
        self._kept.append(frame.persist())
        return frame

    def stage(self, outputs: Sequence[str], model: Any, function: BatchFunction) -> Any:
        """The rows with the columns that ``function(model, table)`` makes of each batch."""
        with running(self.rows.frame.sparkSession, "training failed"):
            return self._keep(with_columns(self.rows.frame, outputs, model, function))

    def fit(
        self,
        base: Any,
        target: str,
        *,
        frame: Any = None,
        where: str = "true",
        weight: str | None = None,
        arms: bool = False,
    ) -> Any:
        """A fitted clone of ``base``.

        Parameters
        ----------
        base : boosted regressor or classifier
        target : str
            The outcome of training, in Spark's SQL.
        frame : Spark DataFrame, optional
            The rows, maybe with more columns; those of ``rows`` by default.
        where : str
            The rows to train on, in Spark's SQL.
        weight : str, optional
            In Spark's SQL; multiplied with the rows' own weights.
        arms : bool
            Whether an indicator of each arm but control stands behind the covariates, as the S-learner has it.
        """
        rows, form = self.rows, _with_arms(self.rows) if arms else self.rows.form
        own = ["weight"] if rows.weighted else []
        parts = [*own, f"({weight})"] if weight is not None else own
        p, codes = len(rows.features), range(1, len(rows.labels)) if arms else ()
        columns = [
            *rows.features, *(f"CAST(IF(arm = {code}, 1, 0) AS FLOAT) AS x{p + code - 1}" for code in codes),
            f"CAST({target} AS DOUBLE) AS label", *([f"{' * '.join(parts)} AS weight"] if parts else []), "held",
        ]  # fmt: skip
        data = (rows.frame if frame is None else frame).where(where).selectExpr(*columns)
        with running(data.sparkSession, "training failed"):
            facts = _facts(data, weighted=bool(parts))
            if is_classifier(base) and facts.low == facts.high:
                return Constant(facts.low)
            if not hasattr(base, "_fit_bins"):
                return self._xgboost(base, data, form)
            if facts.n <= base.small or facts.low == facts.high:
                return in_one_task(data, partial(fit_whole, base, form))
            return self._boosted(base, data, form, facts)

    def _xgboost(self, base: Any, data: Any, form: CovariateForm) -> Any:
        """XGBoost's own estimators: trees alone."""
        settings = _settings(base)
        early = settings.get("early_stopping_rounds") is not None
        ready = data.withColumn("held", data["held"] < _HELD_OUT) if early else data.drop("held")
        booster = self._train(ready, form, settings)[0]
        model = clone(base)
        model.load_model(booster.save_raw("ubj"))
        return model

    def _boosted(self, base: Any, data: Any, form: CovariateForm, facts: Facts) -> Any:
        """Ours on many rows: slopes from a sample, trees on what they miss until rows held out say stop."""
        binary = is_classifier(base)
        model = _unfitted(base, form, (0.0, 1.0) if binary else (facts.mean, facts.deviation))
        share = _SLOPE_ROWS / facts.n
        sample = data.sample(fraction=share, seed=base.random_state) if share < 1 else data
        model._slopes = in_one_task(sample, partial(fit_start, base, form, model._centre, model._scale))
        ready = self._keep(_scaled(data, model, form, facts))
        mean = np.array([1 - facts.mean, facts.mean]) if binary else np.ones(2)
        task = Task(np.array([0.0, 1.0]), mean, binary, model._centre, model._scale)
        settings = _own_settings(model, task, facts.n)
        booster, history = self._train(ready, form, settings)
        curve = _curve(history, _start_loss(ready, binary=binary))
        if base.early_stopping and curve.lowest:
            curve.worth = _worth(ready.where("held"), (booster[: curve.lowest], form), binary=binary)
        rounds = curve.best if base.early_stopping else len(curve.train) - 1
        if rounds and base.early_stopping and facts.n <= _REFIT_ROWS:
            again = {**settings, "n_estimators": rounds, "early_stopping_rounds": None}
            booster = self._train(ready.drop("held"), form, again)[0]
        self._kept.pop().unpersist()
        model._keep(curve, rounds, model._depth(facts.n), task)
        model._tree_unit *= len(task.y) / facts.n  # the task above stands for all rows
        model._booster = booster[:rounds] if rounds else None
        return model

    def _train(self, data: Any, form: CovariateForm, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A booster, with the losses of every round."""
        spark = optional_import("xgboost.spark", extra="spark")
        names = list(form.columns or ())
        estimator = spark.SparkXGBRegressor(
            features_col=[f"x{i}" for i in range(len(names))], label_col="label",
            weight_col="weight" if "weight" in data.columns else None,
            feature_types=["c" if name in form.categories else "q" for name in names],
            num_workers=self.n_workers, force_repartition=True, verbose=False,
            validation_indicator_col="held" if "held" in data.columns else None,
            **{name: value for name, value in settings.items() if value is not None},
        )  # fmt: skip
        model = estimator.fit(data)
        booster, summary = model.get_booster(), model.training_summary
        booster.feature_names = names
        return booster, {"train": summary.train_objective_history, "held": summary.validation_objective_history}


def _with_arms(rows: Rows) -> CovariateForm:
    """The form of the covariates with the S-learner's indicators behind them."""
    names = list(rows.form.columns or ())
    names += arm_names(pd.DataFrame(columns=names), len(rows.labels))
    return CovariateForm(len(names), tuple(names), rows.form.categories)


def _facts(data: Any, *, weighted: bool) -> Facts:
    """Number of rows, range and moments of the labels that have weight."""
    w, seen = ("weight", "IF(weight > 0, label, NULL)") if weighted else ("1", "label")
    row = data.selectExpr(
        "COUNT(*) AS n", f"MIN({seen}) AS low", f"MAX({seen}) AS high", f"SUM({w} * label) / SUM({w}) AS mean",
        f"AVG({w}) AS weight",
    ).toArrow().to_pylist()[0]  # fmt: skip
    square = f"SUM({w} * power(label - {row['mean']!r}D, 2)) / SUM({w}) AS square"
    variance = data.selectExpr(square).toArrow().to_pylist()[0]["square"]
    return Facts(**row, deviation=math.sqrt(variance))


def _loss(margin: str, *, binary: bool) -> str:
    """Squared error or log-loss of a row with this margin, in Spark's SQL."""
    if binary:
        return f"ln(1 + exp(-abs({margin}))) + greatest({margin}, 0D) - label * {margin}"
    return f"power(label - {margin}, 2)"


def _start_loss(data: Any, *, binary: bool) -> dict[str, float]:
    """Mean loss before the first tree, of rows trained on and of rows held out."""
    w = "weight" if "weight" in data.columns else "1D"
    loss = _loss("margin", binary=binary)
    if "held" not in data.columns:
        data = data.selectExpr("*", "false AS held")
    found = data.selectExpr(
        *(
            f"try_divide(SUM(IF({rows}, {w} * ({loss}), 0D)), SUM(IF({rows}, {w}, 0D))) AS {name}"
            for name, rows in (("train", "NOT held"), ("held", "held"))
        )
    )
    return dict(found.toArrow().to_pylist()[0])


def _worth(held: Any, given: tuple[Any, CovariateForm], *, binary: bool) -> bool:
    """Whether the trees lower the loss of rows held out by more than chance, as :func:`clearly_less` has it."""
    w = "weight" if "weight" in held.columns else "1D"
    gains = with_columns(held, ["trees"], given, tree_margin).selectExpr(
        f"{w} AS w", f"({_loss('margin', binary=binary)}) - ({_loss('(margin + trees)', binary=binary)}) AS gain"
    )
    names = ("ww", "wwg", "wwgg", "w", "wg")
    sums = ("w * w", "w * w * gain", "w * w * gain * gain", "w", "w * gain")
    columns = (f"SUM({value}) AS {name}" for name, value in zip(names, sums, strict=True))
    row = gains.selectExpr(*columns).toArrow().to_pylist()[0]
    return row["w"] is not None and clearly_positive(*(row[name] for name in names))


def _curve(history: dict[str, Any], start: dict[str, float]) -> Curve:
    """Mean losses from no tree on; XGBoost's root of a mean square is squared."""
    parts = {}
    for part, losses in history.items():
        ((metric, values),) = losses.items() if losses else (("none", []),)
        parts[part] = [start[part], *(v**2 if metric == "rmse" else v for v in values)] if values else []
    return Curve(parts["train"], parts["held"])


def _unfitted(base: Any, form: CovariateForm, moments: tuple[float, float]) -> Any:
    """A clone that knows its covariates, and the centre and scale of its outcome."""
    model = clone(base)
    model._form, model.n_features_in_, model.feature_names_in_ = form, form.n_columns, form.names
    model._centre, model._scale = moments
    if is_classifier(base):
        model.classes_ = np.array([0, 1])
    return model


def _scaled(data: Any, model: Any, form: CovariateForm, facts: Facts) -> Any:
    """The rows with the margin that trees start from, a scaled outcome, weights of mean 1, and who is held out."""
    share = model._held_out(facts.n) / facts.n
    columns = [c for c in data.columns if c not in ("label", "weight", "held")]
    columns += ["margin", f"(label - {model._centre!r}D) / {model._scale!r}D AS label"]
    columns += [f"held < {share!r}D AS held"] if model.early_stopping else []
    columns += [f"weight / {facts.weight!r}D AS weight"] if "weight" in data.columns else []
    return with_columns(data, ["margin"], (model._slopes, form), start_margin).selectExpr(*columns)


def _own_settings(model: Any, task: Task, n_rows: int) -> dict[str, Any]:
    """The settings of our estimators on many rows as those of ``xgboost.spark``."""
    params = model._params(task, model._depth(n_rows), n_rows, small=False)
    early = model.early_stopping
    return {
        **{name: value for name, value in params.items() if name not in _NOT_FOR_WORKERS},
        "n_estimators": model._rounds(False),
        "base_margin_col": "margin",
        "eval_metric": "logloss" if task.binary else "rmse",
        "early_stopping_rounds": model._wait() if early else None,
    }


def _settings(base: Any) -> dict[str, Any]:
    """The settings of XGBoost's estimators as those of ``xgboost.spark``."""
    found = {k: v for k, v in base.get_xgb_params().items() if k not in _NOT_FOR_WORKERS and v is not None}
    for name in ("n_estimators", "early_stopping_rounds", "eval_metric"):
        if (value := getattr(base, name, None)) is not None:
            found[name] = value
    if is_classifier(base):
        found["objective"] = "binary:logistic"  # SparkXGBClassifier is this, after a look for more classes
    return found
