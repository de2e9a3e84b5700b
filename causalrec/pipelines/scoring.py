"""What a trained run can do with a frame: the objects that are saved, logged to MLflow and used by ``infer``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._objects import read_object, write_object
from causalrec._validation import check_columns
from causalrec.exceptions import ColumnError
from causalrec.pipelines.encoding import Encoding
from causalrec.ranking import Ranker
from causalrec.uplift.base import UpliftLearner
from causalrec.uplift.saving import without_rows

LOADER = __name__  # the module whose _load_pyfunc MLflow calls


def as_text(values: pd.Series) -> pd.Series:
    """Values as text, missing ones as None; whole numbers that a reader made floats (for a gap) are whole again."""
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    return values.astype("string").astype(object).where(values.notna(), None)


@dataclass(frozen=True)
class FrameSpec:
    """The columns that a model was fitted on, so that any batch is brought into the same form."""

    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, X: pd.DataFrame) -> FrameSpec:
        """The form of a training frame."""
        levels = {
            c: tuple(map(str, X[c].cat.categories)) for c in X.columns if isinstance(X[c].dtype, pd.CategoricalDtype)
        }
        return cls(tuple(X.columns), levels)

    def unseen(self, frame: pd.DataFrame) -> dict[str, int]:
        """How many values of a categorical column training never saw, by column; only where there are some."""
        counts = {
            column: int((frame[column].notna() & ~as_text(frame[column]).isin(levels)).sum())
            for column, levels in self.categories.items()
        }
        return {column: n for column, n in counts.items() if n}

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Pick and code the columns; a level that training never saw counts as missing (see :meth:`unseen`).

        Raises
        ------
        ColumnError
            When a column is missing, or is not numeric though it was in training.
        """
        check_columns(frame.columns, self.columns, where="the batch to score")
        coded = {}
        for column in self.columns:
            values = frame[column]
            if column in self.categories:
                text = as_text(values)
                known = text.where(text.isin(self.categories[column]), None)
                coded[column] = pd.Series(pd.Categorical(known, categories=list(self.categories[column])))
            else:
                try:
                    coded[column] = values.astype("float64").reset_index(drop=True)
                except (TypeError, ValueError) as error:
                    raise ColumnError(f"the batch to score: column {column!r} must be numeric: {error}.") from error
        return pd.DataFrame(coded)


@dataclass(frozen=True)
class UpliftScorer:
    """Scores units: their predicted uplift and, by learners that model outcomes, both potential outcomes.

    ``encoding`` makes numbers of the frame where the learner knows nothing else. ``baseline`` models the outcome
    without treatment where the learner itself does not.
    """

    model: UpliftLearner
    spec: FrameSpec
    unit: str
    encoding: Encoding | None = None
    baseline: Any = None

    @classmethod
    def of(cls, learner: UpliftLearner, X: pd.DataFrame, *, unit: str, encode: bool = False) -> UpliftScorer:
        """A scorer for a learner that is yet to be fitted, with the form of the training frame."""
        spec = FrameSpec.of(X)
        return cls(learner, spec, unit, Encoding.of(spec.apply(X)) if encode else None)

    def covariates(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame's covariates in the form that the learner knows."""
        X = self.spec.apply(frame)
        return X if self.encoding is None else self.encoding.apply(X)

    def without_rows(self) -> UpliftScorer:
        """The same without the training rows that the learner's nuisances hold."""
        return replace(self, model=without_rows(self.model))

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row per row of ``frame``: ``uplift``, and ``outcome_if_control`` and ``outcome_if_treated`` where known.

        S- and T-learners model the outcome under each arm; the others model the effect alone, and their nuisances, if
        they have any, bring the outcome without treatment.
        """
        X = self.covariates(frame)
        found = {"uplift": np.asarray(self.model.predict(X), dtype=np.float64)}
        if hasattr(self.model, "predict_outcomes"):
            outcomes = self.model.predict_outcomes(X)
            found |= {"outcome_if_control": outcomes[:, 0], "outcome_if_treated": outcomes[:, 1]}
        elif self.baseline is not None:
            found["outcome_if_control"] = self.baseline.predict(X)
        return pd.DataFrame(found)


@dataclass(frozen=True)
class RankingScorer:
    """Scores candidates: higher comes first within a query."""

    model: Ranker
    spec: FrameSpec

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row per row of ``frame``: ``score``."""
        return pd.DataFrame({"score": np.asarray(self.model.predict(self.spec.apply(frame)), dtype=np.float64)})


Scorer = UpliftScorer | RankingScorer


def save_scorer(scorer: Scorer, directory: Path) -> None:
    """Write a scorer into a new directory: plain files, and pickles where a part (an EconML estimator) needs one."""
    directory.mkdir(parents=True)
    about = {"columns": list(scorer.spec.columns), "model": type(scorer.model).__name__}
    write_object(scorer, directory, about=about, allow_pickle=True)


def load_scorer(directory: Path) -> Scorer:
    """Read a scorer. A pickle in it can run any code when loaded: open only runs that you trust."""
    found: Scorer = read_object(directory, allow_pickle=True)
    return found


def _load_pyfunc(path: str) -> Scorer:
    """What ``mlflow.pyfunc`` calls to load a registered model."""
    return load_scorer(Path(path))
