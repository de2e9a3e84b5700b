"""Channels: the credit that rules give them, and beside it what they caused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import list_some, nearest
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError
from causalrec.journeys.credit import RULES
from causalrec.journeys.exposures import Exposures, exposures
from causalrec.observational import METHODS, ObservationalStudy
from causalrec.pipelines.progress import Advance
from causalrec.results import AdjustedEffect, AttributionResult

_ESTIMAND = "att"
_VALUE = "value_before"


def compare_attribution(
    touches: Any,
    conversions: Any,
    *,
    period: tuple[Any, Any],
    outcome_window: Any = "14d",
    history: Any = None,
    users: Any = None,
    covariates: Sequence[str] = (),
    channels: Sequence[str] | None = None,
    adjust_for_others: bool = False,
    method: str = "aipw",
    options: Mapping[str, Any] | None = None,
    rules: Sequence[str] = RULES,
    half_life: Any = "7d",
    position: tuple[float, float, float] = (0.4, 0.2, 0.4),
    user: str = "user_id",
    channel: str = "channel",
    event_time: str = "event_time",
    conversion_time: str | None = None,
    order_by: str | Sequence[str] = (),
    value: str | None = None,
    truth: Mapping[str, float] | None = None,
    confidence_level: float = 0.95,
    random_state: int = 0,
    engine: Engine | None = None,
    progress: Advance | None = None,
) -> AttributionResult:
    """What each channel's touches of a period caused afterwards, and the credit that rules give for the same.

    For every channel the users touched in the period are compared with the others as an observational study: the
    covariates are what is known strictly before the period (touches of each channel and conversions, as log(1 + n),
    the days since the last of each, and columns of ``users``), the outcomes are the conversions of the window after it. The effect on a
    touched user (att) times the touched users is what the channel caused. The rules share out the same outcomes among
    the same touches.

    Parameters
    ----------
    touches, conversions, period, outcome_window, history, users, covariates, channels, rules, half_life, position
        As in :func:`causalrec.journeys.exposures`; so are the columns ``user``, ``channel``, ``event_time``,
        ``conversion_time``, ``order_by`` and ``value``. With ``value`` the outcome is the value of conversions.
    adjust_for_others : bool
        Adjust for the other channels' touches of the same period too. That is for channels that are aimed at the same
        users in ways the covariates do not show; where a channel leads to touches of another (an e-mail to a search),
        it takes that part of the channel's effect away.
    method : str
        One of :data:`causalrec.observational.METHODS` that has the att.
    options : mapping, optional
        Of the method.
    truth : mapping of channels to numbers, optional
        What is known, from a simulation or an experiment, to be shown beside.
    confidence_level : float
    random_state : int
    engine : Engine, optional
    progress : callable, optional
        Called with the channels that are done and all of them.

    Returns
    -------
    AttributionResult
        A channel whose effect cannot be estimated has NaN, and ``failures`` says why.

    Raises
    ------
    CausalRecError
        One of its children, as :func:`causalrec.journeys.exposures`; for a method that is unknown or has no att; or
        when no channel gives an estimate.

    Notes
    -----
    What it rests on stands in ``print(result)``: above all that whoever a channel touched differs from the others only
    in what the covariates say. A channel that the user comes by (a search) is the least likely to meet that. Effects
    are of one period; conversions within it are not counted, so it should be short beside the outcome window.

    Examples
    --------
    >>> from causalrec.datasets import simulate_channels
    >>> logs, truth = simulate_channels(3_000, random_state=0)
    >>> found = compare_attribution(
    ...     logs.touches, logs.conversions, period=(logs.period_start, logs.period_end), users=logs.users,
    ...     covariates=["loyalty", "device", "visits"], method="aipw_parametric", truth=truth.incremental(),
    ... )
    >>> found.channels
    ('display', 'email', 'push', 'search', 'social')
    >>> bool((found.ci_low < found.truth).all() and (found.truth < found.ci_high).all())
    True
    """
    _check_method(method)
    seen = exposures(
        touches, conversions, period=period, outcome_window=outcome_window, history=history, users=users,
        covariates=covariates, channels=channels, rules=rules, half_life=half_life, position=position, user=user,
        channel=channel, event_time=event_time, conversion_time=conversion_time, order_by=order_by, value=value,
        engine=engine,
    )  # fmt: skip
    known = _truth(truth, seen.channels)
    outcome = "conversions_after" if value is None else "value_after"
    effects: dict[str, AdjustedEffect] = {}
    failures = []
    for done, name in enumerate(seen.channels, start=1):
        try:
            effects[name] = _effect(seen, name, outcome, adjust_for_others, method, dict(options or {}),
                                    confidence_level, random_state)  # fmt: skip
        except CausalRecError as error:
            failures.append(f"{name}: {error}")
        if progress is not None:
            progress(done, len(seen.channels))
    if not effects:
        raise CausalRecError("no channel gave an estimate. " + " ".join(failures))
    return _result(seen, outcome, effects, tuple(failures), _adjusted(seen, adjust_for_others), known, confidence_level)


def _check_method(method: str) -> None:
    able = [m.name for m in METHODS.values() if _ESTIMAND in m.estimands and m.adjusts]
    if method not in able:
        raise CausalRecError(
            f"method is {method!r}; expected one that adjusts and has the att: {list_some(able, 20)}."
            f"{nearest(str(method), able)}"
        )


def _truth(truth: Mapping[str, float] | None, channels: Sequence[str]) -> dict[str, float] | None:
    if truth is None:
        return None
    missing = [c for c in channels if c not in truth]
    if missing:
        raise CausalRecError(f"truth has no number for {list_some(missing)}; found {list_some(truth)}.")
    return {c: float(truth[c]) for c in channels}


def _adjusted(seen: Exposures, adjust_for_others: bool) -> tuple[str, ...]:
    """Columns known before the period that differ between users, and those of the period if they are asked for."""
    varied = [c for c in seen.before if seen.frame[c].nunique(dropna=False) > 1]
    return (*varied, *(f"touched_{c}" for c in seen.channels if adjust_for_others and len(seen.channels) > 1))


def _tamed(seen: Exposures) -> pd.DataFrame:
    """Counts as log(1 + n), values likewise beside their mean: a few users with very much would rule linear models."""
    logs = {c: np.log1p(seen.frame[c]) for c in seen.counts}
    if _VALUE in seen.before:
        past = seen.frame[_VALUE]
        logs[_VALUE] = np.arcsinh(past / (past.abs().mean() or 1.0))
    return seen.frame.assign(**logs)


def _effect(
    seen: Exposures,
    channel: str,
    outcome: str,
    adjust_for_others: bool,
    method: str,
    options: dict[str, Any],
    confidence_level: float,
    random_state: int,
) -> AdjustedEffect:
    treatment = f"touched_{channel}"
    study = ObservationalStudy(
        _tamed(seen), treatment=treatment, outcome=outcome,
        covariates=[c for c in _adjusted(seen, adjust_for_others) if c != treatment], missing="indicator",
        confidence_level=confidence_level, random_state=random_state,
    )  # fmt: skip
    return study.estimate(method, estimand=_ESTIMAND, **options)


def _result(
    seen: Exposures,
    outcome: str,
    effects: Mapping[str, AdjustedEffect],
    failures: tuple[str, ...],
    covariates: tuple[str, ...],
    truth: Mapping[str, float] | None,
    confidence_level: float,
) -> AttributionResult:
    frame, channels = seen.frame, seen.channels
    y = frame[outcome].to_numpy(dtype=np.float64)
    touched = np.column_stack([frame[f"touched_{c}"].to_numpy(dtype=bool) for c in channels])
    sizes = touched.sum(axis=0)
    shared = seen.credit.credit if seen.credit.value is None else seen.credit.value
    rows = [seen.credit.channels.index(c) for c in channels]

    def total(name: str) -> Any:
        """A number per channel, of all its touched users."""
        return np.array([getattr(effects[c], name) if c in effects else np.nan for c in channels]) * sizes

    return AttributionResult(
        outcome="conversions" if seen.credit.value is None else "value of conversions",
        period_start=str(seen.period_start), period_end=str(seen.period_end), outcome_end=str(seen.outcome_end),
        n_users=len(frame), total=float(y.sum()), method=next(iter(effects.values())).method,
        confidence_level=confidence_level, without_touch=float(shared[-1, 0]), channels=channels,
        rules=seen.credit.rules, touched=sizes.astype(np.int64), incremental=total("estimate"),
        std_error=total("std_error"), ci_low=total("ci_low"), ci_high=total("ci_high"),
        naive=np.array([_difference(y, t) for t in touched.T]) * sizes, credit=shared[rows],
        effects=tuple(effects.values()), failures=failures, covariates=covariates,
        truth=None if truth is None else np.array([truth[c] for c in channels]),
    )  # fmt: skip


def _difference(y: Any, touched: Any) -> float:
    """Mean of the touched less that of the others; NaN where an arm is empty."""
    if touched.all() or not touched.any():
        return float("nan")
    return float(y[touched].mean() - y[~touched].mean())
