"""A placebo: what an estimator finds where the treatment is permuted, and so has no effect."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from causalrec._typing import IntArray
from causalrec.exceptions import CausalRecError
from causalrec.results import RefutationResult

MEANING = "Passing shows that the estimator finds nothing where nothing is, not that the covariates suffice."


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
    for i, seed in enumerate(np.random.SeedSequence(random_state).spawn(n_simulations)):
        draws[i] = estimate_fn(np.random.default_rng(seed).permutation(treatment))
        if progress is not None:
            progress(i + 1, n_simulations)
    low, high = np.quantile(draws, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    mean, error = float(draws.mean()), float(draws.std(ddof=1)) / math.sqrt(n_simulations)
    # Without spread (an outcome that never varies, say) there is no t: zero is hit, or it is missed.
    pvalue = float(2 * stats.t.sf(abs(mean) / error, n_simulations - 1)) if error > 0 else float(mean == 0)
    # Counts of equal effects must not hang on the last bit of a sum.
    as_far = int((np.abs(draws) >= abs(estimate) * (1 - 1e-12)).sum())
    return RefutationResult(
        kind="placebo_treatment", estimate=estimate, std_error=std_error, expected=0.0, new_effect=mean,
        new_std=float(draws.std(ddof=1)),
        ci_low=float(low), ci_high=float(high), pvalue=pvalue, estimate_pvalue=(1 + as_far) / (1 + n_simulations),
        confidence_level=confidence_level, n_simulations=n_simulations, method=method, meaning=MEANING, draws=draws,
    )  # fmt: skip
