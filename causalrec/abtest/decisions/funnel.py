"""Funnels: how many units of each arm get how far, and at which step arms part."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_confidence_level, list_some
from causalrec.abtest._proportions import wilson_limits
from causalrec.abtest.aggregates import ALL
from causalrec.abtest.experiment import Experiment
from causalrec.abtest.inference import upper_quantile
from causalrec.abtest.metrics import Proportion
from causalrec.abtest.multiplicity import adjust_pvalues
from causalrec.abtest.proportions import two_proportion_test
from causalrec.exceptions import OutcomeError, TreatmentError
from causalrec.results import NAN, FunnelResult


def funnel(
    counts: Mapping[Any, Sequence[int]], steps: Sequence[str], *, control: Hashable, confidence_level: float = 0.95
) -> FunnelResult:
    """Follow the units of each arm through the steps of a funnel.

    Shares have Wilson's (1927) interval; differences from control have Newcombe's (1998, method 10), which fits small
    shares, and p-values that agree with it, corrected by Holm over all steps and arms. Shares of the first step compare
    randomised units if the first step is the assignment. Those of the step before do not: they show where arms part.

    Parameters
    ----------
    counts : mapping of arm to sequence of int
        Units that reached each step and all before it; :func:`funnel_counts` has them from a table.
    steps : sequence of str
        Two or more, first to last.
    control : label
    confidence_level : float

    Raises
    ------
    TreatmentError
        For one arm only, or an unknown control.
    OutcomeError
        For counts that are not whole numbers, rise from one step to the next, or are not one per step, and for an arm
        with fewer than two units.

    Examples
    --------
    >>> found = funnel({"A": [9800, 3100, 410], "B": [9750, 3320, 505]}, ["visit", "basket", "order"], control="A")
    >>> print(f"{found.effect[1, 2]:.4f} [{found.effect_low[1, 2]:.4f}, {found.effect_high[1, 2]:.4f}]")
    0.0100 [0.0040, 0.0159]
    """
    check_confidence_level(confidence_level)
    arms = _arms(counts, control)
    table = np.array([_checked(arm, counts[arm], steps) for arm in arms], dtype=np.int64)
    shape = table.shape
    first, previous = np.repeat(table[:, :1], shape[1], axis=1), np.roll(table, 1, axis=1)
    quantile = upper_quantile((1 - confidence_level) / 2)
    of_all, of_previous = _shares(table, first, quantile), _shares(table, previous, quantile, start=1)
    effect, pvalue = _effects(table, first, confidence_level)
    step_effect, step_pvalue = _effects(table, previous, confidence_level)
    return FunnelResult(
        arm=tuple(map(str, arms)), step=tuple(map(str, steps)), confidence_level=float(confidence_level),
        n_obs=int(table[:, 0].sum()), method="Wilson and Newcombe intervals, Holm over arms and steps", count=table,
        of_all=of_all[0], of_all_low=of_all[1], of_all_high=of_all[2], of_previous=of_previous[0],
        of_previous_low=of_previous[1], of_previous_high=of_previous[2], effect=effect[0], effect_low=effect[1],
        effect_high=effect[2], pvalue=pvalue, adjusted=np.asarray(adjust_pvalues(pvalue, "holm")),
        step_effect=step_effect[0], step_effect_low=step_effect[1], step_effect_high=step_effect[2],
        step_adjusted=np.asarray(adjust_pvalues(step_pvalue, "holm")),
    )  # fmt: skip


def funnel_counts(
    table: Any, steps: Sequence[str], *, variant: str, control: Hashable, unit: str | None = None, **more: Any
) -> dict[Any, list[int]]:
    """Count the units of each arm that got to each step and all before it; everybody assigned comes first.

    Parameters
    ----------
    table : table
        A row per unit; whatever :meth:`Experiment.collect` reads.
    steps : sequence of str
        0/1 or boolean columns whose names are words, first step after the assignment to last.
    variant, control, unit
        As of :class:`Experiment`; **more are others of its parameters, such as ``where``.

    Returns
    -------
    dict of arm to list of int
        One more count than there are steps.

    Raises
    ------
    CausalRecError
        A child of it, as of :func:`collect`.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"arm": list("AABB"), "basket": [1, 0, 1, 1], "order": [1, 1, 0, 1]})
    >>> funnel_counts(frame, ["basket", "order"], variant="arm", control="A")
    {'A': [2, 1, 1], 'B': [2, 2, 1]}
    """
    metrics, reached = {}, "1 = 1"
    for step in steps:  # those who skipped a step do not count at later ones
        metrics[step] = Proportion(step, where=reached)
        reached += f" AND CAST({step} AS INTEGER) = 1"
    aggregates = Experiment(metrics, variant=variant, control=control, unit=unit, **more).collect(table)
    found: dict[Any, list[int]] = {}
    for arm in aggregates.arms:
        cell = aggregates.cells[ALL][arm, None]
        moments = [cell.moments.get(step) for step in steps]
        found[arm] = [cell.n, *(0 if m is None or not m.n else round(float(m.mean[0]) * m.n) for m in moments)]
    return found


def _arms(counts: Mapping[Any, Sequence[int]], control: Hashable) -> list[Any]:
    if control not in counts or len(counts) < 2:
        raise TreatmentError(
            f"counts are of the arms {list_some(counts)} and control is {control!r}; expected the control and one or "
            "more other arms."
        )
    return [control, *(arm for arm in counts if arm != control)]


def _checked(arm: object, counts: Sequence[int], steps: Sequence[str]) -> FloatArray:
    found = np.asarray(counts, dtype=np.float64)
    if len(steps) < 2 or found.shape != (len(steps),):
        raise OutcomeError(
            f"arm {arm!r} has {found.size} counts and there are {len(steps)} steps; expected two or more steps and a "
            "count for each."
        )
    if not (np.isfinite(found).all() and (found == np.floor(found)).all() and (found >= 0).all() and found[0] >= 2):
        raise OutcomeError(
            f"arm {arm!r} has the counts {list_some(found.tolist(), 8)}; expected whole numbers >= 0, the first >= 2."
        )
    if (np.diff(found) > 0).any():
        at = int(np.argmax(np.diff(found) > 0))
        raise OutcomeError(
            f"arm {arm!r}: {found[at]:,.0f} units reached {steps[at]!r} and {found[at + 1]:,.0f} {steps[at + 1]!r}; "
            "expected no more than before. Count only units that took all steps before, as funnel_counts does."
        )
    return found


def _shares(count: IntArray, base: IntArray, quantile: float, *, start: int = 0) -> FloatArray:
    """Share, lower and upper limit, shape (3, arms, steps); NaN before ``start`` and where the base is empty."""
    found = np.full((3, *count.shape), NAN)
    for i, k in np.ndindex(count.shape):
        n = int(base[i, k])
        if k >= start and n > 0:
            found[:, i, k] = (count[i, k] / n, *wilson_limits(float(count[i, k]), n, quantile))
    found[1:, :, 0] = np.where(start == 0, 1.0, NAN)
    return found


def _effects(count: IntArray, base: IntArray, confidence_level: float) -> tuple[FloatArray, FloatArray]:
    """Difference of shares from control with its interval, shape (3, arms, steps), and the p-value."""
    found, pvalue = np.full((3, *count.shape), NAN), np.full(count.shape, NAN)
    for i in range(1, count.shape[0]):
        for k in range(1, count.shape[1]):
            (x0, x1), (n0, n1) = count[[0, i], k].tolist(), base[[0, i], k].tolist()
            if min(n0, n1) < 2 or (x0 == 0 and x1 == 0) or (x0 == n0 and x1 == n1):
                continue
            test = two_proportion_test(x0, n0, x1, n1, method="newcombe", confidence_level=confidence_level)
            found[:, i, k] = test.estimate, test.ci_low, test.ci_high
            pvalue[i, k] = test.pvalue
    return found, pvalue
