"""What executors compute of a batch of rows: effects, targets of a second stage, or a model that one task can fit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import clone, is_classifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import CovariateForm
from causalrec.nuisance import aipw_scores
from causalrec.nuisance.bins import Bins
from causalrec.nuisance.fitting import predict_mean
from causalrec.nuisance.linear_start import Slopes
from causalrec.nuisance.nuisances import FoldModels
from causalrec.nuisance.propensity import arm_probabilities, clip_propensity
from causalrec.nuisance.rounds import Task, assign_folds
from causalrec.uplift.rlearner import residual_target

BatchFunction: TypeAlias = Callable[[Any, pd.DataFrame], FloatArray]  # broadcast value, inputs -> (m, q)


def struct_batches(model: Any, function: BatchFunction, outputs: list[str], threads: int) -> Any:
    """An iterator of structs of inputs to structs of ``function(model.value, table)``, for an Arrow UDF.

    ``model`` is a broadcast variable, ``threads`` how many a task may use.
    """
    import pyarrow as pa

    def run(arrays: Iterator[Any]) -> Iterator[Any]:
        with threadpool_limits(limits=threads):
            for array in arrays:
                found = _apply(function, model.value, pa.RecordBatch.from_struct_array(array), len(outputs))
                yield pa.StructArray.from_arrays(found, names=outputs)

    run.__annotations__ = {"arrays": Iterator[pa.Array], "return": Iterator[pa.Array]}  # PySpark chooses by these
    return run


def with_columns(frame: Any, outputs: Sequence[str], model: Any, function: BatchFunction) -> Any:
    """The frame with the columns that ``function(model, table)`` makes of each batch of it."""
    context = frame.sparkSession.sparkContext
    value, n = context.broadcast(model), len(outputs)
    threads = int(context.getConf().get("spark.task.cpus", "1"))

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        with threadpool_limits(limits=threads):
            for batch in batches:
                found = _apply(function, value.value, batch, n)
                names = [*batch.schema.names, *outputs]
                yield pa.RecordBatch.from_arrays([*batch.columns, *found], names=names)

    kinds = [*frame.dtypes, *((output, "double") for output in outputs)]
    return frame.mapInArrow(run, ", ".join(f"{name} {kind}" for name, kind in kinds))


def in_one_task(frame: Any, function: Callable[[pd.DataFrame], Any]) -> Any:
    """What a function makes of all rows together, on one executor; the rows must fit into its memory.

    They come in the order of their values, ``held`` first: blocks arrive as executors happen to send them, and folds
    and rows held out depend on the order.
    """
    order = sorted(frame.columns, key=lambda name: name != "held")

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        table = pa.Table.from_batches(list(batches)).to_pandas()
        yield pa.RecordBatch.from_pydict({"found": pa.array([pickle.dumps(function(table))], pa.binary())})

    together = frame.repartition(1).sortWithinPartitions(*order)
    return pickle.loads(together.mapInArrow(run, "found binary").toArrow().column(0)[0].as_py())


def _apply(function: BatchFunction, model: Any, batch: Any, n_outputs: int) -> list[Any]:
    import pyarrow as pa

    found = function(model, _to_pandas(batch)) if batch.num_rows else np.empty((0, n_outputs))
    return [pa.array(np.ascontiguousarray(column)) for column in found.T]


def _to_pandas(batch: Any) -> pd.DataFrame:
    """Columns as pandas reads them; booleans among nulls become numbers among NaN."""
    import pyarrow as pa

    columns = [c.cast(pa.int8()) if pa.types.is_boolean(c.type) and c.null_count else c for c in batch.columns]
    frame: pd.DataFrame = pa.Table.from_arrays(columns, names=batch.schema.names).to_pandas()
    return frame


def effects(learner: Any, table: pd.DataFrame) -> FloatArray:
    """What a learner predicts, shape (m, k - 1)."""
    named = hasattr(learner, "feature_names_in_")
    found = learner.predict(table if named else table.to_numpy(dtype=np.float64))
    return np.asarray(found, dtype=np.float64).reshape(len(table), -1)


def covariates(table: pd.DataFrame, form: CovariateForm) -> pd.DataFrame:
    """The covariates under their names, categories among them, from the columns ``x0, x1, …`` of prepared rows."""
    columns = {}
    for i, name in enumerate(form.columns or ()):
        values = table[f"x{i}"].to_numpy(np.float32)
        kind = form.categories.get(name)
        if kind is None:
            columns[name] = pd.Series(values)
        else:
            codes = np.where(np.isnan(values), -1, values).astype(np.int64)
            columns[name] = pd.Series(pd.Categorical.from_codes(codes, dtype=kind))
    return pd.DataFrame(columns, copy=False)


@dataclass(frozen=True)
class Stage:
    """The models that leave out each fold, and what is to be made of their predictions.

    Attributes
    ----------
    folds : tuple of FoldModels
    form : CovariateForm
    known : bool
        Whether the rows bring their propensity.
    clip : float, optional
        Least fitted probability of an arm.
    target : {"dr", "r"}
        Scores of the effects of shape (m, k - 1); or targets and weights of the R-loss, (m, 2 (k - 1)).
    """

    folds: tuple[FoldModels, ...]
    form: CovariateForm
    known: bool
    clip: float | None
    target: Literal["dr", "r"]


def stage_targets(stage: Stage, table: pd.DataFrame) -> FloatArray:
    """The targets of a batch of prepared rows."""
    outcomes, propensity = _out_of_fold(stage, table)
    y, codes = table["outcome"].to_numpy(np.float64), table["arm"].to_numpy(np.int64)
    if stage.target == "dr":
        scores = aipw_scores(y, codes, outcomes, propensity)
        return np.asarray(scores[:, 1:] - scores[:, :1])
    rows: Any = SimpleNamespace(y=y, codes=codes, outcomes=outcomes, propensity=propensity, sample_weight=None)
    pairs = [residual_target(rows, arm) for arm in range(1, outcomes.shape[1])]
    return np.column_stack([*(target for target, _ in pairs), *(weight for _, weight in pairs)])


def _out_of_fold(stage: Stage, table: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Outcomes and propensities, each of shape (m, k)."""
    X, fold = covariates(table, stage.form), np.asarray(table["fold"], dtype=np.int64)
    n_arms = len(stage.folds[0].outcome)
    outcomes, propensity = np.empty((len(X), n_arms)), np.empty((len(X), n_arms))
    for j in np.unique(fold):
        rows: IntArray = np.flatnonzero(fold == j)
        part, models = X.iloc[rows], stage.folds[j]
        outcomes[rows] = np.column_stack([predict_mean(model, part) for model in models.outcome])
        if not stage.known:
            propensity[rows] = arm_probabilities([predict_mean(model, part) for model in models.propensity])
    if stage.known:
        return outcomes, table[[f"e{code}" for code in range(n_arms)]].to_numpy(np.float64)
    return outcomes, clip_propensity(propensity, stage.clip)[0]


def arm_outcomes(given: tuple[Sequence[Any], CovariateForm], table: pd.DataFrame) -> FloatArray:
    """Expected outcomes under every arm, shape (m, k), of a batch of prepared rows."""
    models, form = given
    X = covariates(table, form)
    return np.column_stack([predict_mean(model, X) for model in models])


def start_margin(given: tuple[Any, CovariateForm], table: pd.DataFrame) -> FloatArray:
    """The linear predictor that trees start from, shape (m, 1)."""
    slopes, form = given
    return np.asarray(slopes.predict(covariates(table, form))[:, None])


def tree_margin(given: tuple[Any, CovariateForm], table: pd.DataFrame) -> FloatArray:
    """What trees add to the margin that they start from, shape (m, 1)."""
    booster, form = given
    margin = booster.inplace_predict(covariates(table, form), predict_type="margin", validate_features=False)
    return np.asarray(margin, dtype=np.float64)[:, None]


def fit_whole(base: Any, form: CovariateForm, table: pd.DataFrame) -> Any:
    """A clone of ``base`` fitted in this task, on rows with a ``label`` and maybe a ``weight``."""
    y = table["label"].to_numpy(np.float64)
    weight = table["weight"].to_numpy(np.float64) if "weight" in table else None
    model = clone(base).set_params(n_jobs=1)
    model.fit(covariates(table, form), y.astype(np.int64) if is_classifier(base) else y, sample_weight=weight)
    return model.set_params(n_jobs=base.n_jobs)


def fit_start(base: Any, form: CovariateForm, centre: float, scale: float, table: pd.DataFrame) -> Any:
    """The slopes that a boosted base starts from, fitted in this task on a sample of the rows."""
    y = (table["label"].to_numpy(np.float64) - centre) / scale
    weight = table["weight"].to_numpy(np.float64) if "weight" in table else np.ones(len(y))
    task = Task(y, weight / weight.mean(), is_classifier(base))
    if not base.linear_start:
        mean = float(task.weight @ y / task.weight.sum())
        return Slopes.constant(float(logit(mean)) if task.binary else 0.0)
    model = clone(base)
    rng = np.random.default_rng(base.random_state)
    model._start(task, Bins(covariates(table, form)), None, assign_folds(task, base.n_folds, rng))
    return model._slopes
