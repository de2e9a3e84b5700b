"""What a trained run can do with a frame: the objects that are pickled, logged to MLflow and used by ``infer``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_columns
from causalrec.exceptions import ColumnError
from causalrec.ranking import Ranker
from causalrec.uplift import TLearner


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
    """Scores units: their predicted uplift and both potential outcomes."""

    model: TLearner
    spec: FrameSpec
    unit: str

    @classmethod
    def fit(cls, learner: TLearner, X: pd.DataFrame, y: Any, treatment: Any, *, unit: str) -> UpliftScorer:
        """Fit the learner on a frame and remember the frame's form."""
        spec = FrameSpec.of(X)
        return cls(learner.fit(spec.apply(X), y, treatment=treatment), spec, unit)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row per row of ``frame``: ``uplift``, ``outcome_if_control``, ``outcome_if_treated``."""
        outcomes = self.model.predict_outcomes(self.spec.apply(frame))
        return pd.DataFrame(
            {
                "uplift": outcomes[:, 1] - outcomes[:, 0],
                "outcome_if_control": outcomes[:, 0],
                "outcome_if_treated": outcomes[:, 1],
            }
        )


@dataclass(frozen=True)
class RankingScorer:
    """Scores candidates: higher comes first within a query."""

    model: Ranker
    spec: FrameSpec

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A row per row of ``frame``: ``score``."""
        return pd.DataFrame({"score": np.asarray(self.model.predict(self.spec.apply(frame)), dtype=np.float64)})
