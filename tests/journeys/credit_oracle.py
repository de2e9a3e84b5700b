"""Credit by the definitions, one conversion and one touch after the other: slow, and nothing like the code."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pandas as pd

NONE = "(none)"


def preceding(touches: pd.DataFrame, user: Any, at: pd.Timestamp, window: pd.Timedelta | None) -> list[tuple]:
    """Time and channel of the touches that count, from the first to the last; equal times by order, then channel."""
    if pd.isna(user) or pd.isna(at):
        return []
    found = []
    for row in touches.to_dict("records"):
        if pd.isna(row["user_id"]) or pd.isna(row["event_time"]) or row["user_id"] != user:
            continue
        if row["event_time"] >= at or (window is not None and row["event_time"] < at - window):
            continue
        step = row.get("step")
        order = (0, 0) if step is None or pd.isna(step) else (1, step)
        found.append((row["event_time"], order, str(row["channel"])))
    return [(time, channel) for time, _, channel in sorted(found)]


def weights(rule: str, times: list[pd.Timestamp], at: pd.Timestamp, half_life: pd.Timedelta, position) -> list[float]:
    m = len(times)
    if rule == "first_touch":
        return [1.0] + [0.0] * (m - 1)
    if rule == "last_touch":
        return [0.0] * (m - 1) + [1.0]
    if rule == "linear":
        return [1 / m] * m
    if rule == "time_decay":
        ages = [(at - t) / half_life for t in times]
        raw = [2.0 ** (min(ages) - age) if min(ages) - age > -1000 else 0.0 for age in ages]
        return [w / math.fsum(raw) for w in raw]
    first, between, last = position
    if m == 1:
        return [1.0]
    if m == 2:
        return [0.5, 0.5] if first + last == 0 else [first / (first + last), last / (first + last)]
    return [first] + [between / (m - 2)] * (m - 2) + [last]


def by_conversion(touches, conversions, rule, *, window, half_life, position=(0.4, 0.2, 0.4)) -> list[dict[str, float]]:
    """For each conversion in turn the share of each channel."""
    shares = []
    for row in conversions.to_dict("records"):
        known = preceding(touches, row["user_id"], row["event_time"], window)
        share: dict[str, float] = defaultdict(float)
        if not known:
            share[NONE] = 1.0
        else:
            times = [t for t, _ in known]
            for (_, channel), weight in zip(
                known, weights(rule, times, row["event_time"], half_life, position), strict=True
            ):
                share[channel] += weight
        shares.append(dict(share))
    return shares


def totals(touches, conversions, rule, *, value: str | None = None, **settings) -> dict[str, float]:
    """Credit by channel: conversions, or their values."""
    found: dict[str, list[float]] = defaultdict(list)
    times = [1.0] * len(conversions) if value is None else conversions[value].tolist()
    for share, size in zip(by_conversion(touches, conversions, rule, **settings), times, strict=True):
        for channel, weight in share.items():
            found[channel].append(weight * size)
    return {channel: math.fsum(parts) for channel, parts in found.items()}
