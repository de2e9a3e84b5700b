"""Channels: the credit that rules give them, and beside it what they caused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import check_columns, list_some, nearest
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError
from causalrec.journeys.credit import RULES, credit
from causalrec.journeys.exposures import Exposures, exposures
from causalrec.observational import METHODS, ObservationalStudy
from causalrec.pipelines.progress import Advance
from causalrec.results import AdjustedEffect, AttributionResult, CreditResult
from causalrec.results.base import written_interval

_ESTIMAND = "att"
_VALUE, _SINCE = "value_before", ("days_since_touch", "days_since_conversion")


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

    For every channel the users touched in the period are compared with the others as an observational study. The
    covariates are what is known strictly before the period: touches of each channel and conversions, as log(1 + n), the
    days since the last of each (without any, as many as anybody has), and columns of ``users``. The outcomes are the
    conversions of the window after it. The effect on a touched user (att) times the touched users is what the channel
    caused. The rules share out the same outcomes among the same touches.

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


def run_credit(
    data: Any,
    *,
    engine: Engine,
    conversions: Any = None,
    event_type: str = "event_type",
    conversion: str = "purchase",
    channel: str = "channel",
    rules: Sequence[str] = RULES,
    **options: Any,
) -> CreditResult:
    """Credit by rules from files: of touches and conversions, or of one log that has both.

    Parameters
    ----------
    data : path or table
        Touches; or, without ``conversions``, a log whose rows of type ``conversion`` are conversions and whose others
        are touches where they have a channel.
    engine : Engine
    conversions : path or table, optional
    event_type, conversion, channel : str
        The log's column of types, the type of a conversion, and the column of channels.
    rules, **options
        As in :func:`causalrec.journeys.credit`.

    Raises
    ------
    CausalRecError
        One of its children, as :func:`causalrec.journeys.credit`; :class:`ColumnError` for a log without the columns.
    """
    with _both(engine, data, conversions, event_type, conversion, channel) as (touches, made):
        return credit(touches, made, rules=rules, channel=channel, engine=engine, **options)


def run_attribution(
    data: Any,
    *,
    start: Any,
    end: Any,
    engine: Engine,
    conversions: Any = None,
    event_type: str = "event_type",
    conversion: str = "purchase",
    channel: str = "channel",
    **options: Any,
) -> AttributionResult:
    """What channels caused, from files: of touches and conversions, or of one log that has both.

    ``start`` and ``end`` are the period; the other parameters are those of :func:`run_credit` and
    :func:`compare_attribution`, and so are the errors.
    """
    with _both(engine, data, conversions, event_type, conversion, channel) as (touches, made):
        return compare_attribution(touches, made, period=(start, end), channel=channel, engine=engine, **options)


@contextmanager
def _both(
    engine: Engine, data: Any, conversions: Any, event_type: str, conversion: str, channel: str
) -> Iterator[tuple[Any, Any]]:
    """Touches and conversions: as they are given, or the parts of one log under names that are forgotten afterwards."""
    if conversions is not None:
        yield data, conversions
        return
    log, touches, made = (f"attribution_{uuid.uuid4().hex[:12]}" for _ in range(3))
    q = engine.dialect.quote
    try:
        engine.register(log, data)
        check_columns(engine.columns(log), [event_type, channel], where="the log")
        converted = f"COALESCE({q(event_type)} = {engine.dialect.literal(conversion)}, FALSE)"
        engine.create_view(made, f"SELECT * FROM {q(log)} WHERE {converted}")
        engine.create_view(touches, f"SELECT * FROM {q(log)} WHERE NOT {converted} AND {q(channel)} IS NOT NULL")
        yield touches, made
    finally:
        for name in (touches, made, log):
            engine.drop(name)


def shown_credit(result: CreditResult) -> tuple[str, pd.DataFrame]:
    """A caption and the table for a person: channels, and conversions by rule."""
    frame = result.to_frame()[["channel", *result.rules]]
    table = frame.rename(columns={r: r.replace("_", " ") for r in result.rules})
    for rule in table.columns[1:]:
        table[rule] = [f"{x:,.1f}" for x in table[rule]]
    return f"conversions credited, of {result.n_conversions:,}; {result.counted}", table


def shown_attribution(result: AttributionResult) -> tuple[str, pd.DataFrame]:
    """A caption and the table for a person: channels, what they caused, and what rules credit."""
    table = pd.DataFrame({"channel": result.channels, "users touched": result.touched})
    interval = zip(result.incremental, result.ci_low, result.ci_high, strict=True)
    table["caused"] = [written_interval(*map(float, numbers)) for numbers in interval]
    if result.truth is not None:
        table["truth"] = result.truth.round(1)
    table["plain difference"] = result.naive.round(1)
    for k, rule in enumerate(result.rules):
        table[rule.replace("_", " ")] = [f"{x:,.1f}" for x in result.credit[:, k]]
    first, last = (t.removesuffix(" 00:00:00") for t in (result.period_end, result.outcome_end))
    return f"{result.outcome} of {result.n_users:,} users, {first} to {last}", table


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
    frame = _tamed(seen)
    varied = [c for c in seen.before if frame[c].nunique(dropna=False) > 1]
    return (*varied, *(f"touched_{c}" for c in seen.channels if adjust_for_others and len(seen.channels) > 1))


def _tamed(seen: Exposures) -> pd.DataFrame:
    """Counts as log(1 + n), values likewise beside their mean: a few users with very much would rule linear models.

    Who has no touch or conversion, which the counts say, has the largest number of days since the last.
    """
    made = {c: np.log1p(seen.frame[c]) for c in seen.counts}
    if _VALUE in seen.before:
        past = seen.frame[_VALUE]
        made[_VALUE] = np.arcsinh(past / (past.abs().mean() or 1.0))
    for since in _SINCE:
        made[since] = seen.frame[since].fillna(seen.frame[since].max()).fillna(0.0)
    return seen.frame.assign(**made)


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
        last_conversion=str(seen.last_conversion),
    )  # fmt: skip


def _difference(y: Any, touched: Any) -> float:
    """Mean of the touched less that of the others; NaN where an arm is empty."""
    if touched.all() or not touched.any():
        return float("nan")
    return float(y[touched].mean() - y[~touched].mean())
