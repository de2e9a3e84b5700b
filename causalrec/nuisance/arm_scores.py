"""Scores of every arm's mean outcome for each row: what evaluation and policies average."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_treatment, check_vector, check_weights
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.nuisance.folds import check_groups
from causalrec.nuisance.nuisances import Nuisances
from causalrec.nuisance.propensity import known_propensity
from causalrec.nuisance.scores import arm_code
from causalrec.results import NAN


@dataclass(frozen=True, eq=False)
class ArmScores:
    r"""Scores :math:`\Gamma_{ia}` whose mean over any group of rows is the group's mean outcome under arm a.

    Inverse-probability scores around the arms' means m (weighting the outcomes themselves would add noise that grows
    with their level), :math:`\Gamma_{ia} = m_a + 1\{t_i = a\}(y_i - m_a)/e_a`, or doubly robust ones with a model
    :math:`\mu_a(x_i)` in place of :math:`m_a` (:func:`causalrec.nuisance.aipw_scores`). Made by :func:`arm_scores`.

    Attributes
    ----------
    y : array of shape (n,)
    codes : int array of shape (n,)
        Arms as 0..k-1, control first.
    labels : tuple of k arms
    weight : array of shape (n,)
        With a mean of one over the rows that have any.
    clusters : int array of shape (n,), or None
    propensity : array of shape (n, k)
    outcomes : array of shape (n, k), or None
        Expected outcome under each arm, from models that did not see the row; None for inverse-probability scores.
    means : array of shape (k,)
        Mean outcome of each arm, by inverse-probability weighting.
    shares_estimated : bool
        Whether the propensity is the share of each arm in these rows, which brings an error of its own.
    method : str
        In words.
    """

    y: FloatArray = field(repr=False)
    codes: IntArray = field(repr=False)
    labels: tuple[Any, ...]
    weight: FloatArray = field(repr=False)
    clusters: IntArray | None = field(repr=False)
    propensity: FloatArray = field(repr=False)
    outcomes: FloatArray | None = field(repr=False)
    means: FloatArray = field(repr=False)
    shares_estimated: bool
    method: str

    @property
    def n_obs(self) -> int:
        """Rows of positive weight."""
        return len(self.y) if self.weight.strides[0] == 0 else int(np.count_nonzero(self.weight))

    def of(self, code: int) -> FloatArray:
        """Scores of one arm, shape (n,)."""
        if self.outcomes is None:
            scores = np.full(len(self.y), self.means[code])
        else:
            scores = self.outcomes[:, code].astype(np.float64, copy=True)
        rows = np.flatnonzero(self.codes == code)
        scores[rows] += (self.y[rows] - scores[rows]) / self.propensity[rows, code]
        return scores

    def table(self) -> FloatArray:
        """Scores of all arms, shape (n, k)."""
        return np.column_stack([self.of(code) for code in range(len(self.labels))])

    def effect(self, code: int) -> FloatArray:
        """Scores of the effect of an arm against control, shape (n,)."""
        return np.asarray(self.of(code) - self.of(0))

    def share_slope(self, code: int) -> FloatArray:
        """Minus the derivative of every row's score of an arm with respect to the arm's estimated share, shape (n,)."""
        own = self.codes == code
        return np.where(own, (self.y - self.means[code]) / self.propensity[:, code] ** 2, 0.0)

    def share_influence(self, code: int) -> FloatArray:
        """How far each row moves the estimated share of an arm, shape (n,)."""
        return np.asarray(self.weight * ((self.codes == code) - self.propensity[:, code]))

    def average(self, shares: FloatArray) -> tuple[float, FloatArray]:
        r"""The weighted mean of :math:`\sum_a s_{ia} \Gamma_{ia}` and its influence function.

        Parameters
        ----------
        shares : array of shape (n, k)
            How much each arm counts in a row: a policy's probabilities, or the difference of two policies'.

        Returns
        -------
        estimate : float
        influence : array of shape (n,)
            Give it to :meth:`error`; influences of estimates from the same rows add and subtract as they do.
        """
        value = np.zeros(len(self.y))
        for code in range(len(self.labels)):
            value += shares[:, code] * self.of(code)
        n = self.n_obs
        estimate = float(self.weight @ value) / n
        influence = self.weight * (value - estimate)
        if self.shares_estimated:
            for code in range(len(self.labels)):
                slope = float((self.weight * shares[:, code]) @ self.share_slope(code)) / n
                influence -= slope * self.share_influence(code)
        return estimate, influence

    def error(self, influence: FloatArray) -> float:
        """Standard error of an estimate from its influence function, by cluster where there are any."""
        return influence_error(influence, self.clusters, counts=self.weight > 0)

    def arm_code(self, arm: Any) -> int:
        """The code of an arm other than control; None is the only one of two arms (else a TreatmentError)."""
        return arm_code(arm, self.labels)


def influence_error(influence: FloatArray, clusters: IntArray | None = None, *, counts: Any = None) -> float:
    r"""The root of :math:`\sum_g (\sum_{i \in g} \psi_i)^2 \cdot G / (G - 1)` over n, rows being their own clusters.

    Parameters
    ----------
    influence : array of shape (n,)
        Of an estimate that is a mean over the rows.
    clusters : int array of shape (n,), optional
    counts : bool array of shape (n,), optional
        Rows that are there at all: those of weight zero make neither n nor G larger.

    Returns
    -------
    float, NaN for a single cluster
    """
    n = len(influence) if counts is None else int(np.count_nonzero(counts))
    if clusters is None:
        return float(np.sqrt(np.einsum("i,i", influence, influence) / (n - 1) / n)) if n > 1 else NAN
    rows = np.bincount(clusters if counts is None else clusters[counts])
    groups = int(np.count_nonzero(rows))
    sums = np.bincount(clusters, weights=influence)
    return float(np.sqrt(sums @ sums * groups / (groups - 1)) / n) if groups > 1 else NAN


def arm_scores(
    y: Any,
    treatment: Any,
    *,
    control: Any = None,
    propensity: Any = None,
    nuisance: Nuisances | None = None,
    sample_weight: Any = None,
    clusters: Any = None,
) -> ArmScores:
    """Scores of every arm's mean outcome: by inverse probability, or doubly robust with ``nuisance``.

    Parameters
    ----------
    y : array of shape (n,)
    treatment : array of shape (n,)
        0/1, or labels with ``control``.
    control : label, optional
    propensity : float, array of shape (n,) or (n, k), or mapping of arms to shares, optional
        Known by design. Without it, and without ``nuisance``, the test is taken as randomised: the share of each arm
        is estimated, and the error of that counted.
    nuisance : Nuisances, optional
        Of these very rows: their scores are used, and neither ``propensity`` nor ``control`` is needed.
    sample_weight : array of shape (n,), optional
        A row of weight zero is as good as absent. By default those of ``nuisance``, if any.
    clusters : array of shape (n,), optional
        Units within which rows depend on each other. By default the groups of ``nuisance``, if any.

    Raises
    ------
    TreatmentError
        For one arm, missing values, an arm without weight, or another treatment than that of ``nuisance``.
    OutcomeError
        For missing or infinite outcomes.
    OverlapError
        For propensities that are not strictly between 0 and 1.
    CausalRecError
        For lengths that differ, weights that are negative or all zero, missing or single clusters.

    Examples
    --------
    >>> scores = arm_scores([3.0, 1.0, 2.0, 0.0], [1, 0, 1, 0], propensity=0.5)
    >>> scores.effect(1).tolist()
    [3.0, 1.0, 1.0, 3.0]
    """
    if nuisance is not None:
        return _of_nuisances(nuisance, y, treatment, control, propensity, sample_weight, clusters)
    outcome = check_vector(y, name="y")
    n = len(outcome)
    codes, labels = check_treatment(treatment, n_rows=n, control=control)
    weight = _mean_one(sample_weight, n)
    sums = _arm_sums(codes, weight, len(labels))
    for label, total in zip(labels, sums, strict=True):
        if total == 0:
            raise TreatmentError(f"arm {label!r} has no weight, and an effect needs every arm. Check sample_weight.")
    given = propensity is not None
    found = propensity if given else dict(zip(labels, sums / sums.sum(), strict=True))
    shares = known_propensity(found, labels, n_rows=n)
    units = check_groups(clusters, n_rows=n, name="clusters", least=1)
    return ArmScores(
        y=outcome, codes=codes, labels=labels, weight=weight, clusters=units, propensity=shares,
        outcomes=None, means=_arm_means(outcome, codes, weight, shares, sums), shares_estimated=not given,
        method="inverse-probability scores around the arm means, "
        + ("known propensity" if given else "estimated share treated"),
    )  # fmt: skip


def _of_nuisances(
    nuisance: Nuisances, y: Any, treatment: Any, control: Any, propensity: Any, sample_weight: Any, clusters: Any
) -> ArmScores:
    if not isinstance(nuisance, Nuisances):
        raise CausalRecError(f"nuisance is a {type(nuisance).__name__}; expected what fit_nuisances returns.")
    n = nuisance.n_obs
    if propensity is not None:
        raise CausalRecError(
            "both nuisance and propensity are given, but the nuisances hold one. Leave propensity out."
        )
    outcome = check_vector(y, name="y", n_rows=n)
    codes, labels = check_treatment(treatment, n_rows=n, control=nuisance.labels[0] if control is None else control)
    if labels != nuisance.labels or not np.array_equal(codes, nuisance.codes):
        raise TreatmentError(
            "treatment is not the one that nuisance was fitted on. Pass the same rows in the same order, and the same "
            f"control ({nuisance.labels[0]!r})."
        )
    if not np.array_equal(outcome, nuisance.y):
        raise CausalRecError("y is not the outcome that nuisance was fitted on. Pass the same rows in the same order.")
    weight = _mean_one(nuisance.sample_weight if sample_weight is None else sample_weight, n)
    units = nuisance.groups if clusters is None else check_groups(clusters, n_rows=n, name="clusters", least=1)
    by = "known" if nuisance.propensity_known else "cross-fitted"
    return ArmScores(
        y=outcome, codes=codes, labels=labels, weight=weight,
        clusters=units, propensity=nuisance.propensity,
        outcomes=nuisance.outcomes, means=_arm_means(outcome, codes, weight, nuisance.propensity),
        shares_estimated=False, method=f"doubly robust scores, {by} propensity",
    )  # fmt: skip


def _mean_one(sample_weight: Any, n: int) -> FloatArray:
    """Weights with a mean of one over the rows that have any; without weights a one that takes no memory."""
    if sample_weight is None:
        return np.broadcast_to(np.float64(1.0), n)
    weight = check_weights(sample_weight, n_rows=n)
    return np.asarray(weight * (np.count_nonzero(weight) / weight.sum()))


def _arm_sums(codes: IntArray, weight: FloatArray, n_arms: int) -> FloatArray:
    """Weight of each arm."""
    plain = weight.strides[0] == 0  # a count then
    if plain and n_arms == 2:
        ones = float(codes.sum())
        return np.array([len(codes) - ones, ones])
    return np.bincount(codes, weights=None if plain else weight, minlength=n_arms).astype(np.float64)


def _arm_means(
    y: FloatArray, codes: IntArray, weight: FloatArray, propensity: FloatArray, sums: FloatArray | None = None
) -> FloatArray:
    """Mean outcome of each arm with weights 1 / propensity scaled to a sum of one (Hájek).

    A propensity that is the same for all cancels; ``sums`` are the arms' weights, if known already.
    """
    k = propensity.shape[1]
    if propensity.strides[0] == 0:
        total = _arm_sums(codes, weight, k) if sums is None else sums
        return np.bincount(codes, weights=y if weight.strides[0] == 0 else weight * y, minlength=k) / total
    inverse = weight / propensity[np.arange(len(y)), codes]
    return np.bincount(codes, weights=inverse * y, minlength=k) / np.bincount(codes, weights=inverse, minlength=k)
