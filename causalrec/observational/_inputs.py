"""What estimators of an outcome share: their checked inputs, and the result at their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import (
    check_confidence_level,
    check_treatment,
    check_two_arms,
    check_vector,
    check_weights,
)
from causalrec.exceptions import TreatmentError
from causalrec.nuisance.folds import check_groups
from causalrec.observational._errors import adjusted_effect, clustered_by, sandwich_error
from causalrec.results import AdjustedEffect


@dataclass(frozen=True, eq=False)
class Sample:
    """Outcome and treatment of the units, with what their errors need; see :func:`read_sample`."""

    y: FloatArray
    treatment: IntArray
    labels: tuple[Any, ...]
    weight: FloatArray
    weighted: bool
    clusters: IntArray | None
    level: float

    @property
    def n_obs(self) -> int:
        """Units, those of weight zero too."""
        return len(self.y)

    def arm(self, code: int) -> str:
        """An arm in a message: its role, and its label where it is not 0/1."""
        name = ("control", "treated")[code]
        return name if self.labels == (0, 1) else f"{name} ({self.labels[code]!r})"

    def units(self, estimand: str) -> FloatArray:
        """The weight of each unit among those that the estimand is of, shape (n,): it sums to 1."""
        share = self.weight * asked(self.treatment, estimand)
        return np.asarray(share / share.sum())

    def error(self, influence: FloatArray) -> float:
        """The standard error by :func:`sandwich_error`; units of weight zero are none."""
        used = self.weight > 0
        return sandwich_error(influence[used], None if self.clusters is None else self.clusters[used])

    def suffix(self) -> str:
        """What ``method`` says of weights and clusters."""
        weighted = ", weighted by sample_weight" if self.weighted else ""
        return weighted + clustered_by(None if self.clusters is None else self.clusters[self.weight > 0])

    def effect(
        self,
        estimate: float,
        std_error: float,
        *,
        method: str,
        estimand: str,
        weights: FloatArray | None = None,
        **rest: Any,
    ) -> AdjustedEffect:
        """The result; without ``weights`` all units of weight above zero count."""
        used = self.weight > 0
        sizes = {
            "n_treated": int((used & (self.treatment == 1)).sum()),
            "n_control": int((used & (self.treatment == 0)).sum()),
            "n_obs": int(used.sum()),
        }
        return adjusted_effect(
            estimate, std_error, treatment=self.treatment, confidence_level=self.level,
            method=method + self.suffix(), estimand=estimand, weights=weights, **{**sizes, **rest},
        )  # fmt: skip


def asked(treatment: IntArray, estimand: str) -> IntArray:
    """1 for units that the ate, att or atc is of, else 0; shape (n,)."""
    if estimand == "ate":
        return np.ones_like(treatment)
    return treatment if estimand == "att" else 1 - treatment


def read_sample(
    y: Any,
    *,
    treatment: Any,
    control: Any = None,
    sample_weight: Any = None,
    clusters: Any = None,
    confidence_level: float = 0.95,
    what: str,
    n_rows: int | None = None,
    smallest: int = 2,
) -> Sample:
    """Check outcome, treatment, weights and clusters.

    Raises
    ------
    TreatmentError
        For more than two arms, or an arm with fewer than ``smallest`` units of weight above zero: the noise of a single
        one cannot be told from its effect.
    OutcomeError, CausalRecError
        For missing values, other lengths, negative weights.
    """
    outcome = check_vector(y, name="y", n_rows=n_rows)
    codes, labels = check_treatment(treatment, n_rows=len(outcome), control=control)
    check_two_arms(labels, what=what)
    sample = Sample(
        outcome, codes, labels, check_weights(sample_weight, n_rows=len(outcome)), sample_weight is not None,
        check_groups(clusters, n_rows=len(outcome)), check_confidence_level(confidence_level),
    )  # fmt: skip
    for code in (0, 1):
        rows = codes == code
        n_used = int((sample.weight[rows] > 0).sum())
        if n_used < smallest:
            of_weight = " of a weight above zero" if int(rows.sum()) > n_used else ""
            raise TreatmentError(
                f"the {sample.arm(code)} arm has {n_used} unit{'s' * (n_used != 1)}{of_weight}; {what} needs at least "
                f"{smallest}. Check the filter{' and sample_weight' if of_weight else ''}."
            )
    return sample
