"""Learners on a Spark DataFrame: columns instead of arrays, boosted trees trained where the rows are.

The learners have the names and settings of :mod:`causalrec.uplift`; what they have fitted is a learner of that module
(``to_local``), which :func:`score_spark` brings to the rows in Arrow batches. No row comes to the driver. Executors
need causalrec and its dependencies.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import NotFittedError

from causalrec import uplift
from causalrec._validation import check_columns, list_some, optional_import
from causalrec.exceptions import ColumnError, OutcomeError
from causalrec.nuisance.fitting import effect_base, outcome_base
from causalrec.nuisance.folds import check_n_folds
from causalrec.nuisance.nuisances import FoldModels
from causalrec.nuisance.propensity import check_clip, propensity_base
from causalrec.nuisance.spark_rows import check_frame_of_learners, quoted
from causalrec.nuisance.spark_tasks import running
from causalrec.uplift._spark_batches import (
    BatchFunction,
    Stage,
    arm_outcomes,
    effects,
    stage_targets,
    struct_batches,
)
from causalrec.uplift._spark_boosting import Trainer, check_boosted, check_workers
from causalrec.uplift._spark_rows import Asked, Rows, check_fold_rows, read_rows
from causalrec.uplift.saving import without_rows
from causalrec.uplift.xlearner import XModels

_SCORES = "_causalrec_scores"


def score_spark(learner: Any, frame: Any, *, covariates: Sequence[str] | None = None, name: str = "uplift") -> Any:
    """Predict effects on a Spark DataFrame with a fitted learner, in Arrow batches on the executors.

    Parameters
    ----------
    learner : fitted learner of :mod:`causalrec.uplift`
        With any base learner. Its predictions are those of ``predict`` on the same rows in memory, to the bit.
    frame : Spark DataFrame
        Text is brought to the categories that the learner was fitted on, null is a missing value, and decimals are
        numbers.
    covariates : sequence of str, optional
        The columns of the covariates; by default those that the learner was fitted on. Needed, in their order, for a
        learner that was fitted on an array.
    name : str
        Of the new column; for more than two arms ``{name}_{arm}``, a column for each arm but control.

    Returns
    -------
    Spark DataFrame
        All columns of ``frame`` and the effects. It is computed when it is used: categories that the learner does not
        know fail then.

    Raises
    ------
    NotFittedError
        For a learner before ``fit``.
    ColumnError
        For a column that is missing, or a new one that is there already.
    """
    if not hasattr(learner, "labels_"):
        raise NotFittedError(f"this {type(learner).__name__} is not fitted yet; call fit first.")
    check_frame_of_learners(frame)
    columns = _covariates_of(learner, covariates)
    check_columns(frame.columns, columns, where="frame")
    arms = learner.labels_[1:]
    outputs = [name] if len(arms) == 1 else [f"{name}_{arm}" for arm in arms]
    if there := [output for output in outputs if output in frame.columns]:
        raise ColumnError(f"frame has a column {list_some(there)} already; drop it, or pass another name=.")
    kinds = dict(frame.dtypes)
    inputs = {c: f"CAST({quoted(c)} AS DOUBLE)" if kinds[c].startswith("decimal") else quoted(c) for c in columns}
    return _appended(frame, inputs, outputs, without_rows(learner), effects)


def _covariates_of(learner: Any, covariates: Sequence[str] | None) -> list[str]:
    names = getattr(learner, "feature_names_in_", None)
    if covariates is None:
        if names is None:
            raise ColumnError(
                f"this {type(learner).__name__} was fitted without column names; pass covariates=[…], the "
                f"{learner.n_features_in_} columns in the order of training."
            )
        return [str(n) for n in names]
    if names is not None:
        check_columns(covariates, names, where="covariates")
        return [str(n) for n in names]
    if len(covariates) != learner.n_features_in_:
        raise ColumnError(
            f"covariates names {len(covariates)} columns; the learner was fitted on {learner.n_features_in_}. Pass the "
            "same ones in the order of training."
        )
    return list(covariates)


def _appended(
    frame: Any, inputs: Mapping[str, str], outputs: Sequence[str], model: Any, function: BatchFunction
) -> Any:
    """The frame with the columns that ``function(model, table)`` makes of each batch of the inputs (SQL by name)."""
    F = optional_import("pyspark.sql.functions", extra="spark")
    context = frame.sparkSession.sparkContext
    threads = int(context.getConf().get("spark.task.cpus", "1"))
    schema = ", ".join(f"{quoted(output)} double" for output in outputs)
    run = struct_batches(context.broadcast(model), function, list(outputs), threads)
    with running(frame.sparkSession, "scoring failed"):
        # "Nondeterministic" keeps Spark from predicting once more for a filter on the result.
        score = F.arrow_udf(run, schema).asNondeterministic()
        scored = frame.withColumn(_SCORES, score(F.struct(*(F.expr(sql).alias(n) for n, sql in inputs.items()))))
    found = (F.col(f"{_SCORES}.{quoted(output)}").alias(output) for output in outputs)
    return scored.select("*", *found).drop(_SCORES)


class _SparkLearner(BaseEstimator):
    """What the learners share: checks, the fit, and the local learner that comes of it."""

    _local: ClassVar[type]
    base_learner: Any
    control: Any
    n_workers: int | None
    random_state: int

    def fit(
        self,
        frame: Any,
        *,
        outcome: str,
        treatment: str,
        covariates: Sequence[str],
        propensity: float | str | Mapping[Any, float | str] | None = None,
        sample_weight: str | None = None,
        groups: str | None = None,
    ) -> Self:
        """Fit on the rows of a Spark DataFrame; rows are kept on the executors while this runs.

        Parameters
        ----------
        frame : Spark DataFrame
        outcome : str
            A column of numbers or booleans.
        treatment : str
            A column of 0/1 or booleans, or of labels with ``control``.
        covariates : sequence of str
            Columns of numbers, booleans or text; text is a category, null and NaN are missing values.
        propensity : float, str, or mapping, optional
            Known by design: of two arms P(treated), a number or a column; of more ``{arm: number or column}``. No model
            of it is fitted then.
        sample_weight : str, optional
            A column of weights.
        groups : str, optional
            A column of what belongs together, such as the user: folds are then a seeded hash of it, whatever the order
            of the rows. Else folds are random, and the same only for the same partitions of the frame.

        Raises
        ------
        ColumnError
            For columns that are missing or of another type, or text of too many values.
        TreatmentError
            For one arm, missing values, or an arm with fewer than two rows or no weight.
        OutcomeError
            For missing or infinite outcomes, or a classifier and outcomes other than 0 and 1.
        OverlapError
            For a propensity of 0 or 1.
        EngineError
            When Spark fails, or cannot run ``n_workers`` tasks at once.
        """
        asked = Asked(outcome, treatment, tuple(covariates), propensity, sample_weight, groups)
        check_frame_of_learners(frame)
        self._check_settings()
        with running(frame.sparkSession, "the frame cannot be read"):
            rows = read_rows(frame, asked, control=self.control, n_folds=self._folds(), random_state=self.random_state)
        smallest = min(rows.n_rows)
        workers = check_workers(frame.sparkSession, self.n_workers, smallest)
        with Trainer(rows, workers) as trainer:
            models = self._fit_models(trainer)
        self._take(rows, models)
        return self

    def predict(self, frame: Any, *, name: str = "uplift") -> Any:
        """Predicted effects as a column of the frame; see :func:`score_spark`."""
        return score_spark(self.to_local(), frame, name=name)

    def to_local(self) -> Any:
        """The fitted learner of :mod:`causalrec.uplift`: for rows in memory, to be saved, or logged."""
        if not hasattr(self, "local_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first.")
        return self.local_

    def _check_settings(self) -> None:
        """Raise for base learners that cannot be trained on Spark, before a row is read."""
        for name in ("base_learner", "outcome_model", "effect_model", "propensity_model"):
            if (base := getattr(self, name, None)) is not None:
                check_boosted(base)

    @abstractmethod
    def _fit_models(self, trainer: Trainer) -> Any:
        """The models of the local learner."""

    def _folds(self) -> int:
        return 1

    def _take(self, rows: Rows, models: Any) -> None:
        settings = {k: v for k, v in self.get_params(deep=False).items() if k != "n_workers"}
        local = self._local(**settings)
        local.models_, local.labels_, local.nuisance_, local._form = models, rows.labels, None, rows.form
        local.n_features_in_, local.feature_names_in_ = rows.form.n_columns, rows.form.names
        self.local_, self.labels_ = local, rows.labels
        self.n_features_in_, self.feature_names_in_ = rows.form.n_columns, rows.form.names

    def _outcome_base(self, rows: Rows, base: Any) -> Any:
        """The model of the outcome, after checking that it can be trained on Spark."""
        if base is not None and is_classifier(base) and not rows.binary:
            raise OutcomeError(
                f"{type(base).__name__} is a classifier, but the outcome holds values other than 0 and 1. Use a "
                "regressor, or code the outcome as 0/1."
            )
        like = np.array([0.0, 1.0]) if rows.binary else np.array([0.0, 0.5])
        return outcome_base(base, like, random_state=self.random_state, n_jobs=None, holds_out=True)


class _EffectLearner(_SparkLearner):
    """What the learners share that fit models of the effect itself."""

    outcome_model: Any
    effect_model: Any
    propensity_model: Any

    def _outcome_model(self) -> Any:
        return self.base_learner if self.outcome_model is None else self.outcome_model

    def _effect_base(self) -> Any:
        own = self.base_learner if self.effect_model is None else self.effect_model
        return effect_base(own, random_state=self.random_state, n_jobs=None, holds_out=True)

    def _propensity_base(self) -> Any:
        return propensity_base(self.propensity_model, random_state=self.random_state, n_jobs=None)

    def _check_settings(self) -> None:
        super()._check_settings()
        self._effect_base()
        self._propensity_base()


class TLearner(_SparkLearner):
    """Fit one model of the outcome per arm on a Spark DataFrame; see :class:`causalrec.uplift.TLearner`.

    Parameters
    ----------
    base_learner : boosted regressor or classifier, optional
        :class:`causalrec.nuisance.BoostedRegressor` or ``BoostedClassifier``, or xgboost's ``XGBRegressor`` or
        ``XGBClassifier``; by default as on arrays. Early stopping looks at a tenth of the rows.
    control : label, optional
        The arm that effects are measured against; needed unless the treatment is 0/1.
    n_workers : int, optional
        Tasks that train one model together; by default one per 10,000 rows of the smallest arm, at most what Spark
        runs at once. They wait for one another, so dynamic allocation of executors must be off.
    random_state : int

    Attributes
    ----------
    labels_ : tuple
        Arms, control first.
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    A model of our boosted trees whose rows are few (``small`` of the base learner, 20,000) is fitted by one task, just
    as in memory. With more rows the slopes come from a sample of 200,000, and ``xgboost.spark`` trains the trees on
    all workers, until the loss of rows held out stops falling. xgboost's own estimators always go that way. Bins of
    covariates with many values, and sums of floats, differ a little with the number of workers.

    Examples
    --------
    >>> learner = TLearner(control="none")
    >>> learner.fit(frame, outcome="spend", treatment="arm", covariates=["recency", "channel"])  # doctest: +SKIP
    >>> learner.predict(frame).write.parquet("effects")  # doctest: +SKIP
    >>> in_memory = learner.to_local()  # doctest: +SKIP
    """

    _local = uplift.TLearner

    def __init__(
        self, base_learner: Any = None, *, control: object = None, n_workers: int | None = None, random_state: int = 0
    ) -> None:
        self.base_learner = base_learner
        self.control = control
        self.n_workers = n_workers
        self.random_state = random_state

    def _fit_models(self, trainer: Trainer) -> list[Any]:
        base = self._outcome_base(trainer.rows, self.base_learner)
        return [trainer.fit(base, "outcome", where=f"arm = {code}") for code in range(len(trainer.rows.labels))]


class SLearner(TLearner):
    """Fit one model of the outcome with the arm among its covariates; see :class:`causalrec.uplift.SLearner`.

    Parameters and attributes are those of :class:`TLearner`.
    """

    _local = uplift.SLearner

    def _fit_models(self, trainer: Trainer) -> list[Any]:
        base = self._outcome_base(trainer.rows, self.base_learner)
        return [trainer.fit(base, "outcome", arms=True)]


class XLearner(_EffectLearner):
    """Impute each row's effect by the other arm's model, and regress it; see :class:`causalrec.uplift.XLearner`.

    Parameters and attributes are those of :class:`TLearner`, and

    Parameters
    ----------
    outcome_model, effect_model, propensity_model : boosted models, optional
        As in :class:`causalrec.uplift.XLearner`.
    """

    _local = uplift.XLearner

    def __init__(
        self, base_learner: Any = None, *, outcome_model: Any = None, effect_model: Any = None,
        propensity_model: Any = None, control: object = None, n_workers: int | None = None, random_state: int = 0,
    ) -> None:  # fmt: skip
        self.base_learner = base_learner
        self.outcome_model = outcome_model
        self.effect_model = effect_model
        self.propensity_model = propensity_model
        self.control = control
        self.n_workers = n_workers
        self.random_state = random_state

    def _fit_models(self, trainer: Trainer) -> XModels:
        rows, base = trainer.rows, self._effect_base()
        outcome = self._outcome_base(rows, self._outcome_model())
        arms = range(len(rows.labels))
        models = [trainer.fit(outcome, "outcome", where=f"arm = {code}") for code in arms]
        frame = trainer.stage([f"mu{code}" for code in arms], (models, rows.form), arm_outcomes)
        treated = [trainer.fit(base, "outcome - mu0", frame=frame, where=f"arm = {code}") for code in arms[1:]]
        control = [trainer.fit(base, f"mu{code} - outcome", frame=frame, where="arm = 0") for code in arms[1:]]
        shares = _mean_shares(rows) if rows.known else None
        propensity = () if rows.known else _propensity_models(trainer, self._propensity_base())
        return XModels(tuple(treated), tuple(control), shares, tuple(propensity))


class _ScoreLearner(_EffectLearner):
    """What the R- and the DR-learner share: cross-fitted nuisances, and a model of the effect for each arm."""

    _target: ClassVar[Literal["dr", "r"]]
    n_folds: int
    clip: float | None

    def __init__(
        self, base_learner: Any = None, *, outcome_model: Any = None, effect_model: Any = None,
        propensity_model: Any = None, control: object = None, n_folds: int = 5, clip: float | None = None,
        n_workers: int | None = None, random_state: int = 0,
    ) -> None:  # fmt: skip
        self.base_learner = base_learner
        self.outcome_model = outcome_model
        self.effect_model = effect_model
        self.propensity_model = propensity_model
        self.control = control
        self.n_folds = n_folds
        self.clip = clip
        self.n_workers = n_workers
        self.random_state = random_state

    def _folds(self) -> int:
        return check_n_folds(self.n_folds)

    def _check_settings(self) -> None:
        super()._check_settings()
        self._folds()

    def _with_targets(self, trainer: Trainer, outputs: list[str]) -> Any:
        """The rows with what the second stage is fitted on."""
        rows = trainer.rows
        check_fold_rows(rows, self.n_folds)
        clip = check_clip(self.clip, len(rows.labels))
        outcome, propensity = self._outcome_base(rows, self._outcome_model()), self._propensity_base()
        folds = []
        for fold in range(self.n_folds):
            outside = f"fold != {fold}"
            models = [
                trainer.fit(outcome, "outcome", where=f"{outside} AND arm = {code}") for code in range(len(rows.labels))
            ]
            shares = () if rows.known else _propensity_models(trainer, propensity, outside)
            folds.append(FoldModels(tuple(models), tuple(shares)))
        stage = Stage(tuple(folds), rows.form, rows.known, clip, self._target)
        return trainer.stage(outputs, stage, stage_targets)


class RLearner(_ScoreLearner):
    """Regress outcome residuals on treatment residuals; see :class:`causalrec.uplift.RLearner`.

    Parameters and attributes are those of :class:`XLearner`, and

    Parameters
    ----------
    n_folds : int
        Of the nuisances, which are fitted on Spark: one model an arm and fold, and of the propensity unless known.
    clip : float, optional
        Least fitted probability of an arm.
    """

    _local, _target = uplift.RLearner, "r"

    def _fit_models(self, trainer: Trainer) -> list[Any]:
        base, arms = self._effect_base(), range(1, len(trainer.rows.labels))
        outputs = [f"{kind}{code}" for kind in ("target", "surprise") for code in arms]
        frame = self._with_targets(trainer, outputs)
        return [
            trainer.fit(base, f"target{code}", frame=frame, where=f"arm IN (0, {code})", weight=f"surprise{code}")
            for code in arms
        ]


class DRLearner(_ScoreLearner):
    """Regress doubly robust scores of the effect; see :class:`causalrec.uplift.DRLearner`.

    Parameters and attributes are those of :class:`RLearner`.
    """

    _local, _target = uplift.DRLearner, "dr"

    def _fit_models(self, trainer: Trainer) -> list[Any]:
        base, outputs = self._effect_base(), [f"score{code}" for code in range(1, len(trainer.rows.labels))]
        frame = self._with_targets(trainer, outputs)
        return [trainer.fit(base, output, frame=frame) for output in outputs]


def _propensity_models(trainer: Trainer, base: Any, where: str = "true") -> list[Any]:
    """Of the second arm where there are two, else of each arm against the rest, as on arrays."""
    k = len(trainer.rows.labels)
    arms = [1] if k == 2 else range(k)
    return [trainer.fit(base, f"IF(arm = {code}, 1, 0)", where=where) for code in arms]


def _mean_shares(rows: Rows) -> tuple[float, ...]:
    """The weighted mean of every arm's known propensity."""
    weight = "weight" if rows.weighted else "1"
    means = [f"SUM({weight} * e{code}) / SUM({weight}) AS e{code}" for code in range(len(rows.labels))]
    found = rows.frame.selectExpr(*means).toArrow().to_pylist()[0]
    return tuple(float(found[f"e{code}"]) for code in range(len(rows.labels)))
