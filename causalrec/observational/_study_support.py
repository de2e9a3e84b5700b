"""What supports a study's estimates: balance, overlap, and the other methods beside one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causalrec._threads import one_thread
from causalrec._typing import FloatArray
from causalrec._validation import list_some
from causalrec.exceptions import CausalRecError, ColumnError
from causalrec.nuisance import overlap
from causalrec.observational._study_data import StudyData
from causalrec.observational.balance import balance_table
from causalrec.observational.methods import comparable, run_method
from causalrec.results import AdjustedEffect, BalanceResult, OverlapResult


def compared_effects(
    data: StudyData, methods: Sequence[str] | None, estimand: str, options: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, AdjustedEffect], tuple[str, ...]]:
    """The effects by name, and ``"name: why"`` of methods that gave none; see :meth:`ObservationalStudy.compare`."""
    chosen = comparable(methods, estimand, options, data.routes if data.only else ())
    unused = [name for name in options if name not in chosen]
    if unused:
        raise CausalRecError(f"options name {list_some(unused)}, not compared here: {list_some(chosen, 20)}.")
    found: dict[str, AdjustedEffect] = {}
    failures = []
    for name, own in chosen.items():
        try:
            found[name] = run_method(data, name, own, dict(options.get(name, {})))
        except CausalRecError as error:
            failures.append(f"{name}: {error}")
    if not found:
        raise CausalRecError("no method gave an estimate. " + " ".join(failures))
    return found, tuple(failures)


def worst_difference(data: StudyData, effect: AdjustedEffect) -> float:
    """The largest standardised difference that an estimate leaves; NaN where it has no weights."""
    if effect.weights is None or data.X is None:
        return float("nan")
    return float(study_balance(data, effect, {"distances": False}).max_abs_smd_after)


def study_overlap(data: StudyData, effect: AdjustedEffect | None, estimand: str, model: Any) -> OverlapResult:
    """See :meth:`ObservationalStudy.overlap`."""
    if data.X is None and data.propensity is None:
        raise ColumnError("there are no covariates, and no score by which arms could lie over each other; name them.")
    score = data.score(model)
    if effect is None:
        return overlap(
            score.score, data.treatment, method=score.method, estimand=estimand, share_clipped=score.share_clipped
        )
    given = weights_of(data, effect)
    return overlap(score.score, data.treatment, method=score.method, estimand=effect.estimand, weights=given)


def study_balance(data: StudyData, effect: AdjustedEffect | None, options: dict[str, Any]) -> BalanceResult:
    if data.X is None:
        raise ColumnError("there are no covariates whose balance could be shown; name them in the study.")
    if effect is None:
        return balance_table(
            data.X, treatment=data.treatment, sample_weight=data.sample_weight, method="no adjustment", **options
        )
    given = weights_of(data, effect)
    with one_thread(data.small):
        return balance_table(
            data.X, treatment=data.treatment, weights=given, estimand=effect.estimand, method=effect.method,
            sample_weight=data.sample_weight, **options,
        )  # fmt: skip


def weights_of(data: StudyData, effect: AdjustedEffect) -> FloatArray:
    if effect.weights is None:
        raise CausalRecError(
            f"this estimate is no weighted mean of outcomes and leaves no weights to show ({effect.method}). Take one "
            "by matching, weighting or subclassification, or none for the arms as they are."
        )
    if len(effect.weights) != data.n_obs:
        raise CausalRecError(
            f"the estimate weights {len(effect.weights):,} units, the study has {data.n_obs:,}; pass an estimate of "
            "this study."
        )
    return effect.weights
