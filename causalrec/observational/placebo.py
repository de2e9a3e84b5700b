"""A placebo: what an estimator finds where the treatment is permuted, and so has no effect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalrec._typing import IntArray
from causalrec.exceptions import CausalRecError
from causalrec.observational._refits import streams
from causalrec.observational._refuted import PLACEBO, draws_result
from causalrec.results import RefutationResult


def placebo_treatment(
    estimate_fn: Callable[[IntArray], float],
    treatment: IntArray,
    estimate: float,
    *,
    std_error: float = float("nan"),
    n_simulations: int = 100,
    random_state: int = 0,
    confidence_level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
    method: str = "permuted treatment",
) -> RefutationResult:
    """Estimate the effect of permuted treatments, which have none.

    Every simulation has a random stream of its own, fixed by ``random_state``. Passing means that the estimator finds
    nothing where there is nothing; it does not show that the covariates suffice.

    Parameters
    ----------
    estimate_fn : callable
        Takes a 0/1 array of shape (n,), returns an estimate.
    treatment : 0/1 array of shape (n,)
    estimate : float
        The estimate to refute, from the true treatment.
    std_error : float, optional
        Its error: a placebo effect that is small beside it does no harm.
    n_simulations : int
        At least 2; with n of them ``estimate_pvalue`` cannot fall below 1 / (n + 1).
    progress : callable, optional
        Called with the simulations done and their number.
    method : str
        For the result.

    Raises
    ------
    CausalRecError
        When there are fewer than two simulations.

    Examples
    --------
    >>> from causalrec.observational import difference_in_means
    >>> y, t = np.arange(20.0), np.arange(20) % 2
    >>> placebo = placebo_treatment(lambda p: difference_in_means(y, treatment=p).estimate, t, 1.0)
    >>> placebo.estimate_pvalue > 0.5
    True
    """
    if n_simulations < 2:
        raise CausalRecError(f"n_simulations is {n_simulations}; expected at least 2, better 100, to see a spread.")
    draws = np.empty(n_simulations)
    for i, rng in enumerate(streams(PLACEBO, random_state, n_simulations)):
        draws[i] = estimate_fn(rng.permutation(treatment))
        if progress is not None:
            progress(i + 1, n_simulations)
    return draws_result(
        PLACEBO, draws, estimate, std_error, confidence_level=confidence_level, method=method
    )  # fmt: skip
