"""Linear and weighted estimates from sums of products, which changes of the data move by a little algebra.

All is about the matrix A = [Z, y] of a standardised design (intercept first) beside the outcome. Its products within
each arm, A'WA, hold regressions by arm and on main effects; a subset takes some rows away from them, one more
covariate borders them, and another treatment deals the total out anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import linalg

from causalrec._typing import FloatArray, IntArray
from causalrec.observational._changes import Change
from causalrec.observational._outcomes import make_design
from causalrec.observational._study_data import StudyData
from causalrec.observational.design import as_design

_CLEAR = 1e-2  # a Cholesky pivot of standardised columns above this leaves twelve digits of a solution
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Table:
    """The units of a study as one matrix.

    Attributes
    ----------
    A : array of shape (n, q + 1)
        The design, intercept first, and the outcome, centred: no estimate here minds.
    weight : array of shape (n,), or None
        None where all are 1.
    treatment : 0/1 array of shape (n,)
    moments : (array, array), each of shape (q + 1, q + 1)
        A'WA of the controls and of the treated.
    """

    A: FloatArray
    weight: FloatArray | None
    treatment: IntArray
    moments: tuple[FloatArray, FloatArray]

    @property
    def Z(self) -> FloatArray:  # noqa: N802
        """The design, shape (n, q)."""
        return self.A[:, :-1]

    @property
    def y(self) -> FloatArray:
        """The centred outcome."""
        return self.A[:, -1]

    @property
    def total(self) -> FloatArray:
        """A'WA of all."""
        return self.moments[0] + self.moments[1]

    def weights_of(self, change: Change) -> FloatArray:
        """How often each unit counts, shape (n,): its weight, and how often it is among the rows of a change."""
        own = np.ones(len(self.A)) if self.weight is None else self.weight
        if change.rows is None:
            return own
        return own * np.bincount(change.rows, minlength=len(self.A))


def make_table(data: StudyData, *, adjusts: bool = True) -> Table:
    """The study's units; without the covariates where the method does not adjust for them."""
    weight, n = data.sample_weight, data.n_obs
    if adjusts and data.X is not None:
        matrix, names = as_design(data.X)
        Z = make_design(matrix, names, None if weight is None else weight > 0).Z
    else:
        Z = np.ones((n, 1))
    A = np.column_stack([Z, data.y - data.y.mean()])
    arms = [gram(A, np.flatnonzero(data.treatment == arm), weight) for arm in (0, 1)]
    return Table(A, weight, data.treatment, (arms[0], arms[1]))


def gram(A: FloatArray, rows: IntArray, weight: FloatArray | None) -> FloatArray:
    """A'WA over some rows."""
    part = A[rows]
    return np.asarray(part.T @ part if weight is None else (part * weight[rows][:, None]).T @ part)


def changed_moments(table: Table, change: Change) -> tuple[FloatArray, FloatArray]:
    """A'WA of controls and treated after a change of treatment, covariate or rows; a covariate stands last."""
    if change.treatment is not None:
        few = int(change.treatment.sum() * 2 <= len(change.treatment))  # the smaller arm; the other is the rest
        one = gram(table.A, np.flatnonzero(change.treatment == few), table.weight)
        rest = table.total - one
        return (rest, one) if few else (one, rest)
    if change.covariate is not None:
        return bordered(table, change.covariate)
    if change.rows is not None and change.repeated:
        times = table.weights_of(change)
        used = [np.flatnonzero((times > 0) & (table.treatment == arm)) for arm in (0, 1)]
        return gram(table.A, used[0], times), gram(table.A, used[1], times)
    if change.rows is not None:
        out = np.ones(len(table.A), dtype=bool)
        out[change.rows] = False
        less = [gram(table.A, np.flatnonzero(out & (table.treatment == arm)), table.weight) for arm in (0, 1)]
        return table.moments[0] - less[0], table.moments[1] - less[1]
    return table.moments


def bordered(table: Table, covariate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The products with one more column."""
    z = covariate if table.weight is None else covariate * table.weight
    treated = table.treatment == 1
    parts = np.column_stack([np.where(treated, 0.0, z), np.where(treated, z, 0.0)])
    across, own = table.A.T @ parts, covariate @ parts
    found = [np.block([[m, across[:, [k]]], [across[:, k], own[k]]]) for k, m in enumerate(table.moments)]
    return found[0], found[1]


class Split(NamedTuple):
    """Products of a design Z and an outcome y: Z'Z, Z'y."""

    ZZ: FloatArray
    Zy: FloatArray


def split(moments: FloatArray, q: int) -> Split:
    """The outcome is column ``q`` of the products; all others are the design."""
    others = np.delete(np.arange(len(moments)), q)
    return Split(moments[np.ix_(others, others)], moments[others, q])


def solve(ZZ: FloatArray, right: FloatArray) -> FloatArray | None:
    """(Z'Z)^-1 right; None where columns are too near to collinear for products to tell."""
    size = np.sqrt(np.maximum(np.diag(ZZ), 1e-300))
    try:
        factor = linalg.cholesky(ZZ / size / size[:, None])
    except linalg.LinAlgError:
        return None
    if np.diag(factor).min() < _CLEAR:
        return None
    scaled = (right.T / size).T
    return np.asarray((linalg.cho_solve((factor, False), scaled).T / size).T)


# --- estimates --------------------------------------------------------------------------------------------------------


def main_effect(ZZ: FloatArray, Zy: FloatArray, Zt: FloatArray, ty: FloatArray) -> FloatArray:
    """Coefficients of k treatments, each alone beside the design: Frisch, Waugh and Lovell's.

    (t'y - t'Z (Z'Z)^-1 Z'y) / (t't - t'Z (Z'Z)^-1 Z't), with t't = 1't, for t is 0/1 and the design's first column 1.

    Parameters
    ----------
    ZZ : array of shape (q, q), Zy : of shape (q,), Zt : of shape (q, k), ty : of shape (k,)

    Returns
    -------
    array of shape (k,)
        NaN where the products cannot tell.
    """
    found = solve(ZZ, np.column_stack([Zy, Zt]))
    if found is None:
        return np.full(len(ty), NAN)
    rest = Zt[0] - np.einsum("ij,ij->j", Zt, found[:, 1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rest > _CLEAR**2 * Zt[0], (ty - Zt.T @ found[:, 0]) / rest, NAN)


def by_arms(moments: tuple[FloatArray, FloatArray], q: int, estimand: str) -> float:
    """The effect by a regression in each arm that needs one (Lin 2013), over the estimand's units."""
    found = arm_regressions(moments, q, estimand)
    return NAN if found is None else found[1][0] - found[0][0]


def arm_regressions(
    moments: tuple[FloatArray, FloatArray], q: int, estimand: str
) -> list[tuple[float, FloatArray]] | None:
    """Mean prediction over the estimand's units, and coefficients, of the controls' and the treated's regressions.

    An arm whose own units are asked for has the mean of its outcomes, and coefficients that say the same.
    """
    total = {"ate": moments[0] + moments[1], "att": moments[1], "atc": moments[0]}[estimand]
    units = np.delete(total[0], q) / total[0, 0]
    found = []
    for arm in (0, 1):
        products = split(moments[arm], q)
        if (estimand, arm) in (("att", 1), ("atc", 0)):
            coef: FloatArray | None = np.zeros(len(units))
            coef[0] = products.Zy[0] / products.ZZ[0, 0]  # type: ignore[index]
        else:
            coef = solve(products.ZZ, products.Zy)
        if coef is None:
            return None
        found.append((float(units @ coef), coef))
    return found
