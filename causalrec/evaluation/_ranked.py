"""Units in the order of a score: what every ranking metric is computed on.

An influence function says how far each unit moves an estimate; the standard error is the root of the sum of its
squares (of its sums by cluster) over n (:func:`causalrec.nuisance.influence_error`). Metrics give theirs in the order
of the score; :meth:`Ranked.by_row` puts one back into the order of the caller's rows, where those of several scorers
may be subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_vector, list_some
from causalrec.evaluation._sorting import BLOCK, falling_order
from causalrec.exceptions import CausalRecError, OutcomeError
from causalrec.nuisance.arm_scores import ArmScores, influence_error

# Share of the units on either side of a cut over which the slope of the gain curve is taken.
_WINDOW = 0.05


@dataclass(frozen=True, eq=False)
class Ranked:
    """Units of positive weight sorted by predicted uplift, best first; arrays are made when first asked for.

    Attributes
    ----------
    scores : ArmScores
        Of the caller's rows.
    code : int
        Of the arm that is compared with control in ``scores``.
    score : array
        Predictions of the caller's rows.
    order : int array of shape (n,)
        The caller's rows, best first.
    tied : bool
        Whether any predictions may be equal.
    """

    scores: ArmScores = field(repr=False)
    code: int
    score: FloatArray = field(repr=False)
    order: IntArray = field(repr=False)
    tied: bool

    @property
    def n(self) -> int:
        """Units of positive weight: the population."""
        return len(self.order)

    @property
    def doubly_robust(self) -> bool:
        """Whether the scores hold models of the outcome."""
        return self.scores.outcomes is not None

    @cached_property
    def uplift(self) -> FloatArray:
        """Predictions, falling, shape (n,)."""
        return self.score[self.order]

    @cached_property
    def y(self) -> FloatArray:
        """Outcome, shape (n,)."""
        return self.scores.y[self.order]

    @cached_property
    def arm(self) -> IntArray:
        """1 for the arm, 0 for control, -1 for any other, which counts in the population only; shape (n,)."""
        codes = self.scores.codes[self.order]
        k = len(self.scores.labels)
        if k == 2:
            return codes
        name = np.full(k, -1, dtype=np.int64)
        name[[0, self.code]] = 0, 1
        return name[codes]

    @cached_property
    def weight(self) -> FloatArray:
        """Weights with a mean of one, shape (n,)."""
        weight = self.scores.weight
        return weight[: self.n] if self.unweighted else weight[self.order]

    @property
    def unweighted(self) -> bool:
        """Whether no weights were given: all are one."""
        return self.scores.weight.strides[0] == 0

    @cached_property
    def clusters(self) -> IntArray | None:
        """Cluster of each unit, shape (n,), or None."""
        return None if self.scores.clusters is None else self.scores.clusters[self.order]

    def propensity(self, arm: int) -> Any:
        """P(arm) of the arm (1) or of control (0): a float where it is the same for all, else of shape (n,)."""
        column = self.scores.propensity[:, self.code if arm == 1 else 0]
        return float(column[0]) if column.strides[0] == 0 else column[self.order]

    def mean(self, arm: int) -> float:
        """Mean outcome of the arm (1) or of control (0), by inverse-probability weighting."""
        return float(self.scores.means[self.code if arm == 1 else 0])

    @cached_property
    def gamma(self) -> FloatArray:
        """Scores of the effect, shape (n,)."""
        return self._effect()[self.order]

    def gamma_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """``gamma`` in pieces that stay in the processor's cache, each with its first place."""
        effect = self._effect()
        for start in range(0, self.n, BLOCK):
            yield start, effect[self.order[start : start + BLOCK]]

    def _effect(self) -> FloatArray:
        """Scores of the effect in the order of the caller's rows."""
        scores = self.scores
        if self.doubly_robust or scores.propensity.strides[0] != 0:
            return scores.effect(self.code)
        # The same from tables of k numbers: no array of (n, k), and one pass.
        factor = np.zeros(len(scores.labels))
        factor[self.code], factor[0] = 1 / self.propensity(1), -1 / self.propensity(0)
        shift = self.mean(1) - self.mean(0) - factor * scores.means
        effect = np.empty(len(scores.y))
        for start in range(0, len(effect), BLOCK):
            rows = slice(start, start + BLOCK)
            codes, out = scores.codes[rows], effect[rows]
            np.multiply(factor[codes], scores.y[rows], out=out)
            out += shift[codes]
        return effect

    @cached_property
    def group_end(self) -> IntArray:
        """Index of the last unit of every group of equal predictions."""
        return group_ends(self.uplift) if self.tied else np.arange(self.n)

    @property
    def constant(self) -> bool:
        """Whether all predictions are equal: the score says nothing."""
        return bool(self.score[self.order[0]] == self.score[self.order[-1]])

    @cached_property
    def group_size(self) -> IntArray:
        """Units in every group of equal predictions."""
        return np.diff(self.group_end, prepend=-1)

    def at_ends(self, by_unit: FloatArray) -> FloatArray:
        """The values of the last units of the groups of equal predictions."""
        return by_unit[self.group_end] if self.tied else by_unit

    def spread(self, by_group: FloatArray) -> FloatArray:
        """A value per group of equal predictions as one per unit, shape (n,)."""
        return np.repeat(by_group, self.group_size) if self.tied else by_group

    @cached_property
    def cumulative_weight(self) -> FloatArray:
        """Weight at or above each unit, shape (n,)."""
        return np.arange(1.0, self.n + 1) if self.unweighted else np.cumsum(self.weight)

    @cached_property
    def rank(self) -> FloatArray:
        """Mid-rank as a share in (0, 1), shape (n,); equal predictions share it."""
        if self.unweighted and not self.tied:
            rank = np.arange(0.5, self.n)
            rank /= self.n
            return rank
        return mid_ranks(self.cumulative_weight, self.group_end)

    @cached_property
    def share_terms(self) -> list[tuple[FloatArray, FloatArray]]:
        """Slope and influence, each of shape (n,), of every estimated share that ``gamma`` depends on.

        The slope is minus the derivative of every unit's gamma with respect to the share, the influence how far each
        unit moves the share. Two arms have one share to estimate; none where the propensity is known.
        """
        if not self.scores.shares_estimated:
            return []
        w, arm = self.weight, self.arm
        e = [self.propensity(0), self.propensity(1)]
        if len(self.scores.labels) == 2:
            gap = self.gamma - (self.mean(1) - self.mean(0))  # residual / e, of either sign
            return [(gap * np.array([-1 / e[0], 1 / e[1]])[arm], w * np.array([-e[1], 1 - e[1]])[arm])]
        residual = [(self.y - self.mean(a)) * (arm == a) / e[a] ** 2 for a in (0, 1)]
        return [(sign * residual[a], w * ((arm == a) - e[a])) for a, sign in ((1, 1.0), (0, -1.0))]

    def by_row(self, influence: FloatArray) -> FloatArray:
        """An influence function in the order of the caller's rows, zero for those without weight."""
        rows = np.zeros(len(self.scores.y))
        rows[self.order] = influence
        return rows

    def error(self, influence: FloatArray) -> float:
        """Standard error of an estimate from its influence function, by cluster where there are any."""
        return influence_error(influence, self.clusters)


def rank_units(scores: ArmScores, uplift: Any, *, arm: Any = None) -> Ranked:
    """Sort units by predicted uplift.

    Parameters
    ----------
    scores : ArmScores
    uplift : array of shape (n,) or (n, k - 1), or frame or mapping with a column for each arm other than control
        Predicted effects; of a table the column of the arm is taken, by name where it has names.
    arm : label, optional
        The arm that is compared with control; needed where there are more than two arms.

    Raises
    ------
    OutcomeError
        For an outcome that never varies, or predictions that are missing or infinite.
    TreatmentError
        For an unknown arm, or none where there are several.
    CausalRecError
        For predictions of another shape.
    """
    code = scores.arm_code(arm)
    score = _finite(_column(uplift, code, scores.labels), len(scores.y))
    first = float(scores.y[0])
    if (scores.y[:BLOCK] == first).all() and (scores.y == first).all():
        raise OutcomeError(
            f"y is {first:g} in all {len(scores.y)} rows, so no unit can gain more than another. Check that it is the "
            "outcome you mean."
        )
    order, tied = falling_order(score)
    if scores.n_obs < len(order):
        order = order[scores.weight[order] > 0]
    return Ranked(scores, code, score, order, tied)


def _finite(uplift: Any, n_rows: int) -> FloatArray:
    """Predictions as a finite vector; a plain array is not copied, since nothing writes to it."""
    plain = isinstance(uplift, np.ndarray) and uplift.dtype == np.float64 and uplift.shape == (n_rows,)
    if plain and n_rows and np.isfinite(uplift.min()) and np.isfinite(uplift.max()):
        vector: FloatArray = uplift
        return vector
    return check_vector(uplift, name="uplift", n_rows=n_rows)


def _column(uplift: Any, code: int, labels: tuple[Any, ...]) -> Any:
    """The predictions of an arm: a vector, or its column of a table, by name where the table has names."""
    named = uplift if isinstance(uplift, Mapping) else getattr(uplift, "columns", None)
    if named is not None and len(named) > 1:
        names, arms = list(named), list(labels[1:])
        if set(names) == set(arms):
            return uplift[labels[code]]
        if names != list(range(len(arms))):  # the columns of a frame that was given none have numbers
            raise CausalRecError(
                f"uplift has the columns {list_some(names)}; expected one for each arm other than control: "
                f"{list_some(arms)}."
            )
    shape = np.shape(uplift)
    if len(shape) != 2 or shape[1] == 1:
        return uplift
    if shape[1] != len(labels) - 1:
        raise CausalRecError(
            f"uplift has shape {shape}; expected one value per row, or a column for each of the {len(labels) - 1} arms "
            "other than control."
        )
    return np.asarray(uplift)[:, code - 1]


def effect_at_cut(ranked: Ranked, q: FloatArray) -> FloatArray:
    """Slope of the gain curve around each share q; straight across ties, so row order does not matter."""
    return slope_at(*gain_path(ranked), q, ranked.n)


def slope_at(share: FloatArray, path: FloatArray, q: FloatArray, n: int) -> FloatArray:
    """Slope of a path of sums over n units around each share q."""
    low, high = cut_window(q, n)
    rise = np.interp(high, share, path) - np.interp(low, share, path)
    return np.asarray(rise / (high - low))


def cut_window(q: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """The shares between which the slope around each share q is taken."""
    reach = max(_WINDOW, 1 / n)
    return np.maximum(q - reach, 0.0), np.minimum(q + reach, 1.0)


def group_ends(uplift: FloatArray) -> IntArray:
    """Index of the last unit of every group of equal predictions, the predictions being sorted."""
    return np.flatnonzero(np.append(uplift[1:] != uplift[:-1], True))


def mid_ranks(cumulative_weight: FloatArray, ends: IntArray) -> FloatArray:
    """Mid-rank as a share in (0, 1), shape (n,); equal predictions share it."""
    above = cumulative_weight[ends]
    middle = above.copy()
    middle[1:] += above[:-1]
    middle /= 2 * above[-1]
    return np.repeat(middle, np.diff(ends, prepend=-1)) if len(ends) < len(cumulative_weight) else middle


def gain_path(ranked: Ranked) -> tuple[FloatArray, FloatArray]:
    """Share q and gain C(q) at the origin and at the end of every group of equal predictions."""
    running = np.cumsum(ranked.weight * ranked.gamma)
    share, gain = ranked.at_ends(ranked.cumulative_weight), ranked.at_ends(running)
    return np.append(0.0, share) / ranked.n, np.append(0.0, gain) / ranked.n
