"""The next experiment, from what control of the last one shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrec._validation import list_some
from causalrec.abtest.aggregates import ALL, Aggregates, Cell
from causalrec.abtest.comparisons import covariates_of
from causalrec.abtest.estimation.estimates import TIED_QUANTILE
from causalrec.abtest.estimation.scores import Names, Stratum, is_clustered, score_strata
from causalrec.abtest.metrics import Mean, Metric, Proportion, Quantile, Ratio, Retention
from causalrec.abtest.power.power import solve_power
from causalrec.exceptions import CausalRecError, OutcomeError, TreatmentError
from causalrec.results import PowerResult

if TYPE_CHECKING:
    from causalrec.abtest.experiment import Experiment


def solve_power_of(
    experiment: Experiment, aggregates: Aggregates, shares: Mapping[Any, float], wanted: Mapping[str, Any]
) -> tuple[PowerResult, ...]:
    """A design for each metric; see :meth:`Experiment.solve_power`. Without ``shares`` the arms are equal."""
    cells = [cell for (arm, _), cell in aggregates.cells[ALL].items() if arm == experiment.control]
    if not cells:
        raise TreatmentError(f"control {experiment.control!r} has no units; a design needs its mean and variance.")
    options: dict[str, Any] = {"alpha": 1 - experiment.confidence_level}
    if not {"ratio", "n_arms", "weights"} & set(wanted):
        by_arm = shares or dict.fromkeys(aggregates.arms, 1.0)
        if not by_arm.get(experiment.control, 0) > 0:
            raise TreatmentError(
                f"control {experiment.control!r} has no share among {list_some(by_arm)}; give SampleRatio its weight, "
                "or weights= here."
            )
        others = [share for arm, share in by_arm.items() if arm != experiment.control and share > 0]
        options["weights"] = (by_arm[experiment.control], *others)
    found = []
    for name, metric in experiment.metrics.items():
        if not isinstance(metric, Metric):
            continue
        known: dict[str, Any] = {"metric": name}
        if "alternative" not in wanted:
            known["hypothesis"] = metric.hypothesis or experiment.hypothesis
        known |= baseline_of(name, metric, cells)
        try:
            found.append(solve_power(**{**options, **known, **wanted}))
        except CausalRecError as error:
            raise CausalRecError(f"{name}: {error}") from error
    return tuple(found)


def baseline_of(name: str, metric: Metric, cells: list[Cell]) -> dict[str, Any]:
    """What a design needs to know of a metric, from the cells of control: level, spread, what covariates take, test.

    Cells of several strata are taken as one: what post-stratification takes away comes on top.

    Raises
    ------
    OutcomeError
        For too few units, a metric that does not vary, or a quantile that many units share.
    """
    if isinstance(metric, Quantile):
        [summary] = [cell.quantiles[name] for cell in cells]
        if summary.tied:
            raise OutcomeError(f"{name}: {TIED_QUANTILE}, so no size can be planned for the quantile.")
        return {"mean": summary.value, "std": math.sqrt(summary.variance * summary.n), "method": "normal"}
    moments = reduce(lambda a, b: a.merge(b), (cell.moments[name] for cell in cells))
    covariates = covariates_of(metric)
    names = Names(name, "control", "control")
    arm, _, [cell] = score_strata([Stratum(None, moments, moments)], names, len(covariates))
    variance = cell.control.covariance * moments.n
    if not variance[0, 0] > 0:
        raise OutcomeError(f"{name}: every value of control is the same; a design needs a metric that varies.")
    found: dict[str, Any] = {"mean": arm.value, "std": math.sqrt(variance[0, 0])}
    if isinstance(metric, Proportion | Retention):
        adjusted = bool(covariates) or len(cells) > 1
        if is_clustered(moments, len(covariates)):
            found["method"] = "normal"
        else:
            found = {"proportion": arm.value, "method": "unpooled" if adjusted or _is_unpooled(metric) else "pooled"}
    elif isinstance(metric, Mean | Ratio) and metric.method == "z":
        found["method"] = "normal"
    if covariates:
        theta = np.linalg.lstsq(variance[1:, 1:], variance[1:, 0], rcond=1e-10)[0]
        found["variance_reduction"] = float(np.clip(theta @ variance[1:, 0] / variance[0, 0], 0, 1 - 1e-12))
    return found


def _is_unpooled(metric: Proportion | Retention) -> bool:
    """Whether the test of a proportion takes each arm's own variance, not that of no effect."""
    if isinstance(metric, Retention):
        return False
    return metric.method in ("newcombe", "agresti-caffo") or (metric.method == "wald" and not metric.pooled)
