"""What it costs to look more than once: the largest and the expected size of a sequential test, look by look."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from causalrec._typing import FloatArray
from causalrec.abtest.bayes.bayesian import Bayesian
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.hypotheses import Equivalence, Hypothesis, Superiority
from causalrec.abtest.inference import FixedHorizon, Inference
from causalrec.abtest.sequential.bounds import exit_probabilities
from causalrec.exceptions import CausalRecError
from causalrec.results import PowerResult

_MOST = 40.0  # times the units of one look


@dataclass(frozen=True)
class LooksPlan:
    """The looks of a sequential test with equal steps, as it is planned.

    Attributes
    ----------
    method : str
        The inference's name.
    n_obs : tuple of int
        Units in all arms at each look; the last is the maximum.
    bound : tuple of float
        Standard errors from the null beyond which the test stops with an answer.
    stopped, stopped_null : tuple of float
        Probability of having stopped so, by each look: for the effect that matters, and for none.
    expected, expected_null : float
        Expected units, likewise.
    """

    method: str
    n_obs: tuple[int, ...]
    bound: tuple[float, ...]
    stopped: tuple[float, ...]
    stopped_null: tuple[float, ...]
    expected: float
    expected_null: float


def plan_looks(
    inference: Inference, fixed: PowerResult, hypothesis: Hypothesis, shares: tuple[float, ...], *,
    alpha: float, power: float, n_looks: int,
) -> LooksPlan | None:  # fmt: skip
    """The looks that reach the power of a fixed design; None for one look, for
    beliefs, which have no error rate, and for two questions at once.

    The estimate is taken as normal, as it is in both families of sequential tests: its standardised values at the looks
    are those of a Brownian motion whose drift is the effect's (Jennison and Turnbull 2000, chapter 3).

    Parameters
    ----------
    inference : Inference
    fixed : PowerResult
        The design of one look at the end, at ``alpha`` with ``power``.
    hypothesis : Hypothesis
    shares : tuple of float
        Of the arms, control first.
    alpha, power : float
    n_looks : int

    Raises
    ------
    CausalRecError
        Where even forty times the units of the fixed design do not reach the power.
    """
    if isinstance(inference, FixedHorizon | Bayesian) or isinstance(hypothesis, Equivalence):
        return None
    two_sided = hypothesis == Superiority("two-sided")
    fractions = np.arange(1, n_looks + 1) / n_looks
    drift = float(ndtri(power) - ndtri(alpha / 2 if two_sided else alpha))

    def bounds(factor: float) -> tuple[float, ...]:
        sizes = factor * fixed.n_obs * fractions
        return tuple(_bound(inference, fractions[: k + 1], n, shares, alpha, two_sided) for k, n in enumerate(sizes))

    def stops(factor: float, strength: float = 1.0) -> FloatArray:
        upper = bounds(factor)
        lower = tuple(-math.inf for _ in upper)
        exits = exit_probabilities(
            fractions.tolist(), upper, lower, strength * drift * math.sqrt(factor), two_sided=two_sided
        )
        return np.cumsum(exits.rejected)

    factor = _factor(lambda f: float(stops(f)[-1]) - power)
    n_obs = tuple(math.ceil(n) for n in factor * fixed.n_obs * fractions)
    stopped, null = stops(factor), stops(factor, 0.0)
    return LooksPlan(
        inference.name, n_obs, bounds(factor), tuple(stopped.tolist()), tuple(null.tolist()),
        _expected(n_obs, stopped), _expected(n_obs, null),
    )  # fmt: skip


def _bound(
    inference: Inference, fractions: FloatArray, n_obs: float, shares: tuple[float, ...], alpha: float, two_sided: bool
) -> float:
    """Of one look, after those before it."""
    planned = any(f.name == "fractions" for f in fields(inference))  # type: ignore[arg-type]
    at = replace(inference, fractions=tuple(fractions.tolist())) if planned else inference  # type: ignore[type-var]
    pair = shares[0] + min(shares[1:])
    n0, n1 = (max(2, round(n_obs * share / pair)) for share in (shares[0], min(shares[1:])))
    estimate = Estimate(0.0, 0.0, 1 / n0, 1 / n1, 0.0, math.inf, n0, n1, "planned")
    return float(at.critical(estimate, alpha, two_sided=two_sided))


def _factor(short: Callable[[float], float]) -> float:
    """How many times the fixed design's units the maximum is; ``short`` is the power less the one that is wanted."""
    if short(_MOST) < 0:
        raise CausalRecError(
            f"{_MOST:g} times the units of a test with one look do not reach the power with these looks. Tune the "
            "inference for more units (n_tuning), or plan fewer looks."
        )
    return float(brentq(short, 1 - 1e-9, _MOST, xtol=1e-5)) if short(1 - 1e-9) < 0 else 1.0


def _expected(n_obs: tuple[int, ...], stopped: FloatArray) -> float:
    """Units at each look times the probability that it is the last."""
    last = np.diff(np.append(0.0, stopped))
    last[-1] = 1 - stopped[-2] if len(stopped) > 1 else 1.0
    return float(np.asarray(n_obs) @ last)
