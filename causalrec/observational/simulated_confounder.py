"""Hidden causes of known strength, made up from what is left of treatment and outcome, and then adjusted for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError
from causalrec.observational._changes import Change, Draw
from causalrec.observational._fast_refits import fast_refits
from causalrec.observational._outcomes import make_design
from causalrec.observational._refits import refit
from causalrec.observational._refuted import RANDOM_CAUSE, check_recipe
from causalrec.observational._study_data import StudyData
from causalrec.observational.design import as_design
from causalrec.observational.partial_r2 import sensitivity_ols
from causalrec.results import AdjustedEffect, SimulatedConfounderResult

STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
_MOST = 0.99  # of the treatment: a cause that explains all of it leaves nothing to compare


def hidden_cause(left: FloatArray, r2_treatment: float, r2_outcome: float, noise: FloatArray) -> FloatArray:
    r"""A variable that explains given shares of treatment and outcome, and nothing that is explained already.

    With orthonormal t̂ (what is left of the treatment), ŷ (of the outcome given the treatment too) and noise ẑ it is
    :math:`a\,\hat t + \sqrt{1 - a^2}\,(b\,\hat y + \sqrt{1 - b^2}\,\hat z)`, a² and b² being the partial R² of
    treatment and outcome with it: those of Cinelli and Hazlett (2020, JRSS B 82, section 4), so that a regression that
    adjusts for it loses exactly the bias that they give.

    Parameters
    ----------
    left : array of shape (n, 2)
        t̂ and ŷ.
    r2_treatment, r2_outcome : float
        In [0, 1), and [0, 1].
    noise : array of shape (n,)
        ẑ.

    Returns
    -------
    array of shape (n,)
        With mean square 1.

    Examples
    --------
    >>> e = np.eye(4)
    >>> hidden_cause(e[:, :2], 0.25, 0.0, e[:, 2]).round(6).tolist()
    [1.0, 0.0, 1.732051, 0.0]
    """
    rest = np.sqrt(r2_outcome) * left[:, 1] + np.sqrt(1 - r2_outcome) * noise
    return np.asarray((np.sqrt(r2_treatment) * left[:, 0] + np.sqrt(1 - r2_treatment) * rest) * np.sqrt(len(noise)))


def simulate_confounder(
    data: StudyData,
    effect: AdjustedEffect,
    *,
    names: tuple[str, str] = ("treatment", "y"),
    strengths: Sequence[float] = STRENGTHS,
    benchmarks: Sequence[str] | None = None,
    n_simulations: int = 5,
    n_jobs: int = 1,
    random_state: int = 0,
) -> SimulatedConfounderResult:
    """The estimate beside hidden causes of every pair of strengths; see :meth:`ObservationalStudy.simulate_confounder`.

    Raises
    ------
    CausalRecError
        For an estimate that cannot be made again, no covariates, weights or clusters, and strengths outside [0, 1).
    """
    recipe = check_recipe(effect, data)
    grid = _strengths(strengths)
    if data.X is None:
        raise CausalRecError("there are no covariates beside which a hidden cause could be adjusted for; name some.")
    if data.sample_weight is not None:
        raise CausalRecError("a hidden cause of known strength is for units without sample weights.")
    if not isinstance(n_simulations, int | np.integer) or n_simulations < 2:
        raise CausalRecError(f"n_simulations is {n_simulations!r}; expected 2 or more hidden causes of each strength.")
    basis = _Basis(data, np.sign(effect.estimate) or 1.0)
    fast = fast_refits(data, effect, recipe, RANDOM_CAUSE)

    def at(d: float, y: float) -> tuple[float, float]:
        found = refit(
            data, recipe, basis.draw(d, y), "hidden_cause", n_simulations=int(n_simulations),
            random_state=random_state, n_jobs=n_jobs, fast=fast,
        ).effects  # fmt: skip
        return float(found.mean()), float(found.std(ddof=1))

    table = np.array([[at(d, y) for d in grid] for y in grid])
    named, r2_d, r2_y = _benchmarks(data, benchmarks)
    beside = [at(min(d, _MOST), min(y, 1.0))[0] for d, y in zip(r2_d, r2_y, strict=True)]
    return SimulatedConfounderResult(
        treatment=names[0], outcome=names[1], estimand=effect.estimand, method=effect.method, estimate=effect.estimate,
        std_error=effect.std_error, tipping=_tipping(grid, np.diag(table[:, :, 0]), effect.estimate),
        n_simulations=int(n_simulations), strengths=grid, effect=table[:, :, 0], spread=table[:, :, 1],
        benchmark=np.array(named, dtype=str), r2_treatment=r2_d, r2_outcome=r2_y,
        benchmark_effect=np.array(beside, dtype=np.float64),
    )  # fmt: skip


def _strengths(strengths: Sequence[float]) -> FloatArray:
    grid = np.unique(np.asarray(strengths, dtype=np.float64))
    if len(grid) < 2 or not (grid >= 0).all() or not (grid < 1).all():
        raise CausalRecError(
            f"strengths are {list_some(strengths)}; expected two or more shares from 0 to below 1, such as 0.1."
        )
    return grid


class _Basis:
    """What is left of treatment and outcome, and the columns that noise must not lie in."""

    def __init__(self, data: StudyData, sign: float) -> None:
        matrix, names = as_design(data.X)
        Z = make_design(matrix, names).Z
        self._taken = np.linalg.qr(np.column_stack([Z, data.treatment, data.y]))[0]
        q = Z.shape[1]
        t, y = self._taken[:, q], self._taken[:, q + 1]
        self.left = np.column_stack([_along(t, data.treatment), sign * _along(y, data.y)])

    def draw(self, r2_treatment: float, r2_outcome: float) -> Draw:
        """Hidden causes of a strength: their noise is all that differs."""

        def drawn(rng: np.random.Generator) -> Change:
            noise = rng.normal(size=len(self.left))
            noise -= self._taken @ (self._taken.T @ noise)
            noise /= np.linalg.norm(noise)
            return Change(covariate=hidden_cause(self.left, r2_treatment, r2_outcome, noise))

        return drawn


def _along(direction: FloatArray, values: FloatArray | IntArray) -> FloatArray:
    return direction if float(direction @ values) >= 0 else -direction


def _benchmarks(data: StudyData, wanted: Sequence[str] | None) -> tuple[list[str], FloatArray, FloatArray]:
    """Covariates, and what a cause as strong as each explains; none that a regression cannot tell from others."""
    columns: list[Any] = list(data.X.columns) if hasattr(data.X, "columns") else []
    if wanted is not None:
        unknown = [name for name in wanted if name not in columns]
        if unknown:
            raise CausalRecError(f"benchmarks name {list_some(unknown)}; expected some of {list_some(columns, 20)}.")
    named, found = [], []
    for name in columns if wanted is None else wanted:
        try:
            one = sensitivity_ols(data.X, data.y, treatment=data.treatment, benchmarks=[name], kd=1.0)
        except CausalRecError:
            if wanted is not None:
                raise
            continue
        named.append(str(name))
        found.append((float(one.r2_treatment[0]), float(one.r2_outcome[0])))
    shares = np.array(found, dtype=np.float64).reshape(-1, 2)
    return named, shares[:, 0], shares[:, 1]


def _tipping(grid: FloatArray, effects: FloatArray, estimate: float) -> float:
    """Where the estimate, followed along equal strengths, reaches zero; NaN if it does not."""
    signed = effects * (np.sign(estimate) or 1.0)
    beyond = np.flatnonzero(signed <= 0)
    if not len(beyond):
        return float("nan")
    k = int(beyond[0])
    if k == 0:
        return float(grid[0])
    share = signed[k - 1] / (signed[k - 1] - signed[k])
    return float(grid[k - 1] + share * (grid[k] - grid[k - 1]))
