"""What looking early does to false alarms, on the user's own values: experiments without an effect, by lot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import stats

from causalrec._resampling import Progress, draw_in_blocks
from causalrec._typing import FloatArray, IntArray, RandomState
from causalrec._validation import check_alternative, check_confidence_level
from causalrec.abtest.estimation.estimates import Estimate
from causalrec.abtest.inference import Inference
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.moments import Moments
from causalrec.results import PeekingResult

Methods: TypeAlias = Mapping[str, Inference | Sequence[Inference]] | Sequence[Inference]


def simulate_peeking(
    values: Any,
    names: Sequence[str],
    estimate: Callable[[Moments, Moments], Estimate],
    methods: Methods,
    *,
    looks: Sequence[int],
    weights: tuple[float, float] = (0.5, 0.5),
    n_simulations: int = 1_000,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    confidence_level: float = 0.95,
    metric: str = "metric",
    rng: RandomState = None,
    progress: Progress | None = None,
) -> PeekingResult:
    """Split the units by lot again and again, look at each split as its units come in, and count false alarms so far.

    No arm has an effect, so each alarm is a false one. Units come in the order of the rows, and each goes to treatment
    with its designed share.

    Parameters
    ----------
    values : array-like of shape (n_units, p)
        A row per unit of randomisation, in the order of arrival: the columns that the estimate needs.
    names : sequence of str, length p
    estimate : callable
        From the moments of control and of treatment (over ``names``) to an estimate. An ``OutcomeError``, or no
        variance, is no alarm.
    methods : mapping of names to Inference, or sequence of Inference
        A mapping may give a sequence instead, with an inference for each look, as group-sequential tests need.
    looks : sequence of int
        Units of both arms at each look, rising, at most n_units.
    weights : pair of floats
        Designed shares of control and treatment, in any scale.
    n_simulations : int
    alpha : float
        In (0, 1).
    alternative : {"two-sided", "greater", "less"}
    confidence_level : float
        Of the exact binomial intervals (Clopper and Pearson 1934) of the rates.
    metric : str
        For the result.
    rng : int or Generator, optional
    progress : callable, optional
        Called with the simulations done and those asked for.

    Raises
    ------
    OutcomeError
        For missing or infinite values.
    TreatmentError
        For weights that are not two positive numbers.
    CausalRecError
        For another shape, looks that do not rise within 1 to n_units, no method, a method that has not as many
        inferences as there are looks, an ``alpha`` or a level outside (0, 1), or an unknown ``alternative``.

    Examples
    --------
    >>> from causalrec.abtest import AlwaysValid, FixedHorizon
    >>> from causalrec.abtest.estimation.estimates import difference
    >>> from causalrec.abtest.estimation.scores import Names, Stratum
    >>> def mean(control, treatment):
    ...     return difference([Stratum("", control, treatment)], Names("spend", "A", "B"))
    >>> spend = np.random.default_rng(0).exponential(10, size=(2_000, 1))
    >>> found = simulate_peeking(spend, ["value"], mean, [FixedHorizon(), AlwaysValid(2_000)], metric="spend",
    ...                          looks=range(100, 2_001, 100), n_simulations=200, rng=1)
    >>> [f"{share:.1%}" for share in found.false_alarm_rate[:, -1]]
    ['24.0%', '0.0%']
    """
    check_confidence_level(confidence_level)
    check_alternative(alternative)
    if not 0 < alpha < 1:
        raise CausalRecError(f"alpha is {alpha}; expected a number in (0, 1), such as 0.05.")
    arrivals = _Arrivals.of(values, names, looks, weights)
    ways = _by_look(methods, len(arrivals.looks))
    sums = draw_in_blocks(arrivals.treated_sums, n_simulations, width=int(arrivals.looks[-1]), rng=rng,
                          progress=progress)  # fmt: skip
    counts = np.zeros((len(ways), len(arrivals.looks)), dtype=np.int64)
    totals = arrivals.totals()
    for treated in sums:
        found = [
            _distance(estimate, arrivals.moments(both - part), arrivals.moments(part))
            for both, part in zip(totals, treated, strict=True)
        ]
        for row, way in enumerate(ways.values()):
            first = _first_alarm(found, way, alpha, alternative)
            if first is not None:
                counts[row, first:] += 1
    low, high = _exact_interval(counts, n_simulations, confidence_level)
    return PeekingResult(
        metric=metric, alpha=alpha, alternative=alternative, n_looks=len(arrivals.looks), n_simulations=n_simulations,
        n_obs=int(arrivals.looks[-1]), confidence_level=confidence_level, methods=tuple(ways), looks=arrivals.looks,
        false_alarm_rate=counts / n_simulations, ci_low=low, ci_high=high,
    )  # fmt: skip


class _Arrivals(NamedTuple):
    """Columns, centred, and their products, in the order of arrival; how many are there at each look."""

    columns: FloatArray
    names: tuple[str, ...]
    centre: FloatArray
    looks: IntArray
    share: float
    pairs: tuple[IntArray, IntArray]

    @classmethod
    def of(cls, values: Any, names: Sequence[str], looks: Sequence[int], weights: tuple[float, float]) -> _Arrivals:
        array = np.asarray(values, dtype=np.float64)
        everybody = Moments.from_array(array, names)
        at = np.asarray(list(looks), dtype=np.int64)
        if not (at.size and at[0] >= 1 and at[-1] <= len(array) and (np.diff(at) > 0).all()):
            raise CausalRecError(
                f"looks are {list(looks)[:8]}; expected rising numbers of units from 1 to {len(array):,}, that of the "
                "rows."
            )
        if len(weights) != 2 or not all(math.isfinite(w) and w > 0 for w in weights):
            raise TreatmentError(
                f"weights are {weights}; expected two positive numbers, control first, such as (0.9, 0.1)."
            )
        i, j = pairs = np.triu_indices(array.shape[1])
        centred = array - everybody.mean  # so that products of sums do not swallow the variances
        columns = np.column_stack([np.ones(len(array)), centred, centred[:, i] * centred[:, j]])
        return cls(columns, everybody.names, everybody.mean, at, float(weights[1] / sum(weights)), pairs)

    def segments(self) -> list[slice]:
        """Those who came between two looks."""
        return [slice(a, b) for a, b in pairwise([0, *self.looks.tolist()])]

    def treated_sums(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Sums over the treated so far, of shape (size, looks, columns)."""
        treated = rng.random((size, int(self.looks[-1])), dtype=np.float32) < np.float32(self.share)
        parts = [treated[:, part].astype(np.float64) @ self.columns[part] for part in self.segments()]
        return np.cumsum(np.stack(parts, axis=1), axis=1)

    def totals(self) -> FloatArray:
        """Sums over both arms so far, of shape (looks, columns)."""
        return np.cumsum([self.columns[part].sum(axis=0) for part in self.segments()], axis=0)

    def moments(self, sums: FloatArray) -> Moments:
        """Of an arm, from its sums."""
        p = len(self.names)
        n = round(sums[0])
        mean = sums[1 : p + 1] / max(n, 1)
        products = np.zeros((p, p))
        products[self.pairs] = products.T[self.pairs] = sums[p + 1 :]
        products -= n * np.outer(mean, mean)
        np.fill_diagonal(products, np.maximum(products.diagonal(), 0.0))
        return Moments(n, self.names, self.centre + mean, products)


class _Found(NamedTuple):
    """An estimate and its distance from no effect, NaN where there is none."""

    estimate: Estimate | None
    distance: float


def _distance(estimate: Callable[[Moments, Moments], Estimate], control: Moments, treatment: Moments) -> _Found:
    try:
        found = estimate(control, treatment)
    except OutcomeError:  # too few units yet
        return _Found(None, math.nan)
    variance = found.variance if math.isnan(found.null_variance) else found.null_variance
    return _Found(found, found.effect / math.sqrt(variance) if variance > 0 else math.nan)


def _first_alarm(found: Sequence[_Found], way: Sequence[Inference], alpha: float, alternative: str) -> int | None:
    """The look at which a method first rejects."""
    two_sided = alternative == "two-sided"
    for look, ((estimate, distance), inference) in enumerate(zip(found, way, strict=True)):
        towards = abs(distance) if two_sided else -distance if alternative == "less" else distance
        if estimate is not None and towards > inference.critical(estimate, alpha, two_sided=two_sided):
            return look
    return None


def _by_look(methods: Methods, n_looks: int) -> dict[str, list[Inference]]:
    named = methods if isinstance(methods, Mapping) else {method.name: method for method in methods}
    ways = {
        name: list(method) if isinstance(method, Sequence) else [method] * n_looks for name, method in named.items()
    }
    if not ways or len(named) < len(methods):
        raise CausalRecError(
            f"methods are {list(named)}; expected at least one, each with a name of its own. Pass a mapping from names "
            "to inferences."
        )
    for name, way in ways.items():
        if len(way) != n_looks:
            raise CausalRecError(f"method {name!r} has {len(way)} inferences for {n_looks} looks; give one for each.")
    return ways


def _exact_interval(counts: IntArray, n: int, confidence_level: float) -> tuple[FloatArray, FloatArray]:
    """Clopper and Pearson's."""
    tail = (1 - confidence_level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(counts > 0, stats.beta.ppf(tail, counts, n - counts + 1), 0.0)
        high = np.where(counts < n, stats.beta.isf(tail, counts + 1, n - counts), 1.0)
    return low, high
