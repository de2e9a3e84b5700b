r"""What is gained along one or more paths of steps, and the joint covariance of the gains at any points of them.

At a spend b the rule takes every step whose slope is above a threshold :math:`\lambda_b`. With :math:`G_i` and
:math:`C_i` the score gained and the money spent in row i then, the gain is the mean of G where the mean of C is b. The
threshold is estimated, as the population's b is meant and not the sample's, so a row counts with

.. math:: \psi_i = w_i \{G_i - \rho_b C_i - (E[G] - \rho_b b)\},

where :math:`\rho_b` is the gain per spend at the threshold: the slope of the curve there (the influence function of a
gain at a quantile; Sverdrup, Wu, Athey and Wager 2023, arXiv 2306.11979, theorem 2). Estimated shares of the arms bring
a further term each, as in :meth:`causalrec.nuisance.ArmScores.average`.

Steps that are always taken together form an atom. Every influence function is a linear combination of a few vectors
over the rows (score and spend of each atom, the weights, the shares), so their inner products, summed by cluster first,
give all errors and covariances without a loop over points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from causalrec._typing import FloatArray, IntArray
from causalrec.nuisance import ArmScores
from causalrec.policy._path import Path
from causalrec.results import NAN

# Share of all spend on either side of a point over which the slope of the curve is taken.
_WINDOW = 0.05
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ScoredPath:
    """A path and what its steps gain by the scores.

    Attributes
    ----------
    path : Path
    delta : array of shape (s,)
        Score gained by each step.
    factor : array of shape (n,), or None
        By which scores of outcomes were multiplied; None is 1.
    """

    path: Path
    delta: FloatArray = field(repr=False)
    factor: FloatArray | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class Gains:
    """Gains at points of one or more paths.

    Attributes
    ----------
    gain : array of shape (p, m)
    covariance : array of shape (p m, p m)
        First all points of the first path, then those of the next.
    """

    gain: FloatArray = field(repr=False)
    covariance: FloatArray = field(repr=False)

    def contrast(self, coefficients: FloatArray) -> tuple[float, float]:
        """A linear combination of the gains, coefficients of shape (p, m), with its standard error."""
        flat = coefficients.ravel()
        variance = float(flat @ self.covariance @ flat)
        return float(flat @ self.gain.ravel()), float(np.sqrt(max(variance, 0.0)))

    @property
    def error(self) -> FloatArray:
        """Standard errors, shape (p, m)."""
        return np.asarray(np.sqrt(np.maximum(np.diag(self.covariance), 0.0)).reshape(self.gain.shape))


def grid(path: Path, points: int) -> FloatArray:
    """Zero and where groups of equal slopes end: all of them, or ``points`` that are even over the path."""
    if len(path.spend) <= points:
        return np.asarray(np.r_[0.0, path.spend])
    near = np.searchsorted(path.spend, np.linspace(0, path.total, points + 1)[1:] * (1 - _ROUNDING))
    return np.asarray(np.r_[0.0, path.spend[np.unique(near)]])


def score_steps(path: Path, table: FloatArray) -> FloatArray:
    """Score gained by each step, from scores of the arms of shape (n, k)."""
    return np.asarray(table[path.unit, path.after] - table[path.unit, path.before])


def gains_at(scores: ArmScores, walks: Sequence[ScoredPath], at: FloatArray) -> Gains:
    """Gains at spends ``at`` (rising, from 0) along each path, with their covariance, by cluster if there are any."""
    cuts = [_atoms(walk.path, at) for walk in walks]
    parts = [_path_part(scores, walk, *cut, at) for walk, cut in zip(walks, cuts, strict=True)]
    moment = _moments(scores, walks, [cut[0] for cut in cuts])
    wide = len(moment)
    rest = wide - sum(2 * cut[1].shape[1] for cut in cuts)
    rows, start = [], 0
    for gain, own, shared in parts:
        block = np.zeros((len(gain), wide))
        block[:, start : start + own.shape[1]] = own
        block[:, wide - rest :] = shared
        rows.append(block)
        start += own.shape[1]
    stacked = np.vstack(rows)
    return Gains(np.array([gain for gain, _, _ in parts]), stacked @ moment @ stacked.T * _scale(scores))


def _scale(scores: ArmScores) -> float:
    """What makes a sum of squared influences a variance, as :func:`causalrec.nuisance.arm_scores.influence_error`."""
    there = scores.weight > 0
    n = int(np.count_nonzero(there))
    units = n if scores.clusters is None else int(np.count_nonzero(np.bincount(scores.clusters[there])))
    return units / (units - 1) / n**2 if units > 1 else NAN


def _atoms(path: Path, at: FloatArray) -> tuple[IntArray, FloatArray]:
    """The atom of every step that is ever taken, and the share of each atom taken at each point, shape (m, atoms)."""
    groups = len(path.spend)
    full = np.searchsorted(path.spend, at * (1 + _ROUNDING), side="right")
    before = np.r_[0.0, path.spend]
    after = np.r_[path.spend, np.inf]
    part = np.where(full < groups, (at - before[full]) / (after[full] - before[full]), 0.0)
    part = np.where(part > 1e-9, part, 0.0)
    bounds = np.unique(np.r_[0, full, (full + 1)[part > 0]])
    taken = (bounds[None, 1:] <= full[:, None]).astype(np.float64)
    taken += np.where(bounds[None, :-1] == full[:, None], part[:, None], 0.0)
    steps = np.r_[0, path.end + 1][bounds]
    return np.repeat(np.arange(len(bounds) - 1), np.diff(steps)), taken


def _path_part(
    scores: ArmScores, walk: ScoredPath, atom: IntArray, taken: FloatArray, at: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gains at the points, and the influence functions' coefficients: of the path's atoms, and of what all share."""
    path, n, count = walk.path, scores.n_obs, taken.shape[1]
    s = len(atom)
    unit = path.unit[:s]
    weight = scores.weight[unit]
    gain = taken @ _sums(atom, weight * walk.delta[:s], count) / n
    spend = taken @ _sums(atom, weight * path.run[:s], count) / n
    rate = _marginal(scores, walk, at)
    shared = [rate * spend - gain]
    if scores.shares_estimated:
        times = weight if walk.factor is None else weight * walk.factor[unit]
        for code in range(len(scores.labels)):
            moved = times * scores.share_slope(code)[unit]
            moved *= (path.after[:s] == code).astype(np.float64) - (path.before[:s] == code)
            shared.append(-(taken @ _sums(atom, moved, count)) / n)
    return gain, np.hstack([taken, -rate[:, None] * taken]), np.column_stack(shared)


def _sums(atom: IntArray, values: FloatArray, count: int) -> FloatArray:
    return np.asarray(np.bincount(atom, weights=values, minlength=count), dtype=np.float64)


def _marginal(scores: ArmScores, walk: ScoredPath, at: FloatArray) -> FloatArray:
    """Gain per spend around each point; zero from the end on, where no money is missing and no threshold estimated."""
    path = walk.path
    if not len(path.spend):
        return np.zeros(len(at))
    gain = np.cumsum(scores.weight[path.unit] * walk.delta)[path.end] / scores.n_obs
    spend, gain = np.r_[0.0, path.spend], np.r_[0.0, gain]
    reach = max(_WINDOW * path.total, path.total / len(path.spend))
    low, high = np.clip(at - reach, 0.0, path.total), np.clip(at + reach, 0.0, path.total)
    rise = np.interp(high, spend, gain) - np.interp(low, spend, gain)
    inside = at < path.total * (1 - _ROUNDING)
    return np.asarray(np.divide(rise, high - low, out=np.zeros(len(at)), where=inside))


def _moments(scores: ArmScores, walks: Sequence[ScoredPath], atoms: Sequence[IntArray]) -> FloatArray:
    """Inner products, over rows or clusters, of every path's atoms' scores and spends, the weights and the shares."""
    groups = None if scores.clusters is None else scores.clusters
    n_groups = len(scores.y) if groups is None else int(groups.max()) + 1
    columns = [scores.weight]
    if scores.shares_estimated:
        columns += [scores.share_influence(code) for code in range(len(scores.labels))]
    if groups is not None:
        columns = [_sums(groups, column, n_groups) for column in columns]
    shared = np.column_stack(columns)
    blocks = []
    for walk, atom in zip(walks, atoms, strict=True):
        unit, count = walk.path.unit[: len(atom)], (int(atom[-1]) + 1 if len(atom) else 0)
        row, weight = unit if groups is None else groups[unit], scores.weight[unit]
        for values in (walk.delta[: len(atom)], walk.path.run[: len(atom)]):
            blocks.append(sparse.csr_array((weight * values, (row, atom)), shape=(n_groups, count)))
    ends = np.cumsum([0, *(block.shape[1] for block in blocks)])
    found = np.empty((ends[-1] + shared.shape[1],) * 2)
    found[ends[-1] :, ends[-1] :] = shared.T @ shared
    for i, one in enumerate(blocks):  # one product at a time: side by side they would be copied
        turned = one.T.tocsr()
        mine = slice(ends[i], ends[i + 1])
        found[mine, ends[-1] :] = turned @ shared
        found[ends[-1] :, mine] = found[mine, ends[-1] :].T
        for j in range(i + 1):
            other = slice(ends[j], ends[j + 1])
            found[mine, other] = (turned @ blocks[j]).toarray()
            found[other, mine] = found[mine, other].T
    return found
