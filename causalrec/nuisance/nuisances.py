"""Outcome models and the propensity, cross-fitted once and shared by learners, effects, losses and policies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from causalrec._typing import BoolArray, FloatArray, IntArray
from causalrec._validation import CovariateForm, check_confidence_level, check_length
from causalrec.exceptions import CausalRecError, OverlapError
from causalrec.nuisance.crossfit import FoldModels as FoldModels
from causalrec.nuisance.crossfit import Held, Recipe, finish_propensity, fit_outside
from causalrec.nuisance.fitting import SharedCovariates, predict_mean
from causalrec.nuisance.folds import check_groups, make_folds
from causalrec.nuisance.propensity import Calibrator, clip_propensity, predict_arms
from causalrec.nuisance.scores import (
    Estimand,
    aipw_scores,
    arm_code,
    average_of_scores,
    effect_influence,
    effect_result,
)
from causalrec.nuisance.support import overlap
from causalrec.results import EffectResult, OverlapResult


@dataclass(frozen=True, eq=False)
class Nuisances:
    """What is expected of every row under each arm, and how likely each arm was, from models that did not see the row.

    Made by :func:`fit_nuisances`. Hand it to any learner, to losses, and to whatever needs doubly robust scores: the
    models are fitted once.

    Attributes
    ----------
    y : array of shape (n,)
    codes : int array of shape (n,)
        Arms as 0..k-1, control first; ``labels[codes]`` are their names.
    labels : tuple of k arms
    sample_weight : array of shape (n,), or None
    groups : int array of shape (n,), or None
        Rows of one group lie in one fold, and are a cluster in errors.
    fold : int array of shape (n,)
    outcomes : array of shape (n, k)
        Expected outcome under each arm, out of fold.
    propensity : array of shape (n, k)
        P(arm given X): as known by design, or out of fold, after calibration and clipping.
    propensity_known : bool
    share_clipped : float
        Share of rows whose propensity was clipped.
    models : tuple of one :class:`FoldModels` per fold
    """

    y: FloatArray = field(repr=False)
    codes: IntArray = field(repr=False)
    labels: tuple[Any, ...]
    sample_weight: FloatArray | None = field(repr=False)
    groups: IntArray | None = field(repr=False)
    fold: IntArray = field(repr=False)
    outcomes: FloatArray = field(repr=False)
    propensity: FloatArray = field(repr=False)
    propensity_known: bool
    share_clipped: float
    models: tuple[FoldModels, ...] = field(repr=False)
    calibrator: Calibrator | None = field(repr=False)
    recipe: Recipe = field(repr=False)
    form: CovariateForm = field(repr=False)
    _cache: dict[Any, Any] = field(repr=False, default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}  # covariates and what can be fitted again do not travel

    @property
    def n_obs(self) -> int:
        """Rows."""
        return len(self.y)

    @property
    def n_folds(self) -> int:
        """Folds that hold rows."""
        return len(self.models)

    @property
    def scores(self) -> FloatArray:
        """Doubly robust (AIPW) scores of the mean outcome under each arm, shape (n, k)."""
        return aipw_scores(self.y, self.codes, self.outcomes, self.propensity)

    @property
    def mean_outcome(self) -> FloatArray:
        """Expected outcome given X alone, Σ_a e_a μ_a, shape (n,)."""
        return np.asarray(np.einsum("ij,ij->i", self.propensity, self.outcomes))

    def effect_scores(self) -> FloatArray:
        """Doubly robust scores of each arm's effect against control, shape (n, k - 1)."""
        scores = self.scores
        return np.asarray(scores[:, 1:] - scores[:, :1])

    def average_effect(
        self,
        estimand: Estimand = "ate",
        *,
        arm: Any = None,
        clusters: Any = None,
        confidence_level: float = 0.95,
    ) -> EffectResult:
        """The average effect of an arm against control by augmented inverse probability weighting.

        Parameters
        ----------
        estimand : {"ate", "att", "atc"}
            Over all rows, over those of this arm, or over the control rows.
        arm : label, optional
            Needed where there are more than two arms.
        clusters : array of shape (n,), optional
            Rows that are not independent, such as those of one user; the groups of the folds by default.
        confidence_level : float

        Raises
        ------
        TreatmentError
            For an unknown arm, or none where there are several.
        CausalRecError
            For another estimand.
        """
        level = check_confidence_level(confidence_level)
        if estimand not in ("ate", "att", "atc"):
            raise CausalRecError(f"estimand is {estimand!r}; expected one of 'ate', 'att', 'atc'.")
        code = self.arm_code(arm)
        units = self.groups if clusters is None else check_groups(clusters, n_rows=self.n_obs)
        numerator, denominator = effect_influence(
            self.y, self.codes, self.outcomes, self.propensity, arm=code, estimand=estimand
        )
        estimate, error = average_of_scores(numerator, denominator, weight=self.sample_weight, clusters=units)
        return effect_result(
            estimate, error, confidence_level=level, n_obs=self.n_obs, method=self._method(units), estimand=estimand
        )

    def average_effects(self, estimand: Estimand = "ate", **options: Any) -> tuple[EffectResult, ...]:
        """:meth:`average_effect` of every arm but control, in the order of ``labels[1:]``."""
        return tuple(self.average_effect(estimand, arm=arm, **options) for arm in self.labels[1:])

    def _method(self, clusters: IntArray | None) -> str:
        by = "known propensity" if self.propensity_known else "propensity cross-fitted"
        clipped = f", clipped in {self.share_clipped:.2%} of rows" if self.share_clipped else ""
        grouped = "" if clusters is None else f", clustered by {len(np.unique(clusters)):,} groups"
        return f"AIPW, {self.n_folds} folds, {by}{clipped}{grouped}"

    def arm_code(self, arm: Any) -> int:
        """The code of an arm other than control; None is the only one of two arms."""
        return arm_code(arm, self.labels)

    def overlap(self, arm: Any = None) -> OverlapResult:
        """Histograms of the propensity of an arm against control, among the units of both."""
        code = self.arm_code(arm)
        rows = (self.codes == 0) | (self.codes == code)
        share = self.propensity[rows, code] / (self.propensity[rows, 0] + self.propensity[rows, code])
        method = "known propensity" if self.propensity_known else "cross-fitted propensity"
        arms = (self.codes[rows] == code).astype(np.int64)
        return overlap(share, arms, method=method, share_clipped=self.share_clipped)

    def predict_outcomes(self, X: Any) -> FloatArray:
        """Expected outcome under each arm at new covariates, shape (m, k): the mean of the folds' models."""
        X = self.form.apply(X)
        total = np.zeros((X.shape[0], len(self.labels)))
        for fold in self.models:
            total += np.column_stack([predict_mean(model, X) for model in fold.outcome])
        return total / self.n_folds

    def predict_propensity(self, X: Any) -> FloatArray:
        """P(arm given X) at new covariates, shape (m, k): the mean of the folds' models.

        Raises
        ------
        OverlapError
            When the propensity is known for the rows of training, differs between them, and so has no model.
        """
        X = self.form.apply(X)
        if self.propensity_known:
            first = self.propensity[:1]
            if (self.propensity != first).any():
                raise OverlapError(
                    "the propensity is known row by row and no model of it is fitted, so it is unknown at new "
                    "covariates. Use the design's probabilities of those rows."
                )
            return np.broadcast_to(first, (X.shape[0], len(self.labels)))
        mean: FloatArray = np.mean([predict_arms(fold.propensity, X) for fold in self.models], axis=0)
        if self.calibrator is not None:
            mean = self.calibrator.apply(mean)
        return clip_propensity(mean, self.recipe.clip)[0]

    def covariates(self, X: Any) -> SharedCovariates:
        """The covariates of the fit, prepared once; the last ones are kept as long as the same object comes."""
        if isinstance(X, SharedCovariates):
            self._cache["covariates"] = X
        held: SharedCovariates | None = self._cache.get("covariates")
        if held is None or (held is not X and held.source is not X):
            held = self._cache["covariates"] = SharedCovariates(X)
        check_length(held.n_rows, self.n_obs, name="X")
        return held

    def leaving_out(self, fold: int, X: Any) -> Nuisances:
        """The nuisances of the rows outside a fold, from models that saw neither that fold nor the row.

        A second stage that is fitted on these has not seen the fold in any way: the usual out-of-fold nuisances of
        other rows come from models that did see it. The models leave out two folds each and serve both; they are
        fitted when first asked for and kept.

        Parameters
        ----------
        fold : int
        X : the covariates of the fit

        Raises
        ------
        TreatmentError
            When there are two folds, and the other one is too small to be split in two.
        """
        shared = self.covariates(X)
        if ("outside", fold) not in self._cache:
            self._cache["outside", fold] = self._outside(fold, shared)
        found: Nuisances = self._cache["outside", fold]
        return found

    def _outside(self, fold: int, shared: SharedCovariates) -> Nuisances:
        rows = np.flatnonzero(self.fold != fold)
        inner = self._inner_folds(fold, rows)
        outcomes = np.empty((self.n_obs, len(self.labels)))
        raw = np.empty_like(outcomes)
        models = []
        for other in np.unique(inner[rows]):
            inside = inner == other
            pair = self._pair(fold, int(other), inside, shared)
            outcomes[inside] = pair.outcomes[inside[pair.rows]]
            if not self.propensity_known:
                raw[inside] = pair.propensity[inside[pair.rows]]
            models.append(pair.models)
        part = self.take(rows)
        propensity, clipped, calibrator = part.propensity, 0.0, None
        if not self.propensity_known:
            propensity, clipped, calibrator = finish_propensity(
                raw[rows], self.codes[rows], inner[rows], part.sample_weight, self.recipe
            )
        return replace(
            part, fold=inner[rows], outcomes=outcomes[rows], propensity=propensity, share_clipped=clipped,
            calibrator=calibrator, models=tuple(models), _cache={},
        )  # fmt: skip

    def _inner_folds(self, fold: int, rows: IntArray) -> IntArray:
        """The folds of the rows outside a fold; a single one that is left is split in two, numbered from 2."""
        if self.n_folds > 2:
            return self.fold
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        inner = np.full(self.n_obs, fold)
        inner[rows] = 2 + make_folds(self.codes[rows], 2, labels=self.labels, groups=groups)
        return inner

    def _pair(self, fold: int, other: int, inside: BoolArray, shared: SharedCovariates) -> Held:
        key = ("pair", min(fold, other), max(fold, other))
        if key not in self._cache:
            away = (self.fold == fold) | inside
            self._cache[key] = fit_outside(
                shared, self.recipe, self.y, self.codes, len(self.labels), self.sample_weight, away
            )
        held: Held = self._cache[key]
        return held

    def save(self, directory: str | Path) -> Path:
        """Write all to a new directory of plain files; :func:`causalrec.nuisance.load_nuisances` reads it back.

        Raises
        ------
        StoreError
            When the directory exists, or cannot be written.
        """
        from causalrec.nuisance.saving import save_nuisances

        return save_nuisances(self, directory)

    def take(self, rows: IntArray) -> Nuisances:
        """The same for some rows."""

        def pick(values: Any) -> Any:
            return None if values is None else values[rows]

        return replace(
            self, y=self.y[rows], codes=self.codes[rows], sample_weight=pick(self.sample_weight),
            groups=pick(self.groups), fold=self.fold[rows], outcomes=self.outcomes[rows],
            propensity=self.propensity[rows], _cache={},
        )  # fmt: skip
