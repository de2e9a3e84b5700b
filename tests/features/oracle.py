"""What every feature must be, as a loop that a child could check, and how near an engine must come to it.

Nothing here is shared with the package but the declaration itself: times are whole microseconds, tables are lists of
rows, numbers are added as fractions, and SQL texts are paired by hand with the Python functions that they stand for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pandas as pd

from causalrec.features import FeatureSet

Row = dict[str, Any]
Meaning = Mapping[str, Callable[[Row], Any]]

SECOND = 1_000_000
LENGTHS = {"s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND, "w": 7 * 86_400 * SECOND}


@dataclass(frozen=True)
class Answer:
    """The value, and the size of what was added up to get it."""

    value: Any
    size: float = 0.0


def answers(
    events: Sequence[Row], asked: Sequence[Row], features: FeatureSet, meaning: Meaning, *, ahead: bool = False
) -> list[dict[str, Answer]]:
    """The features of every row that asks. Times are under ``time_column`` and ``event_time``, in microseconds."""
    derived = dict(getattr(features, "derived", {}))
    log = [{**e, **{name: meaning[sql](e) for name, sql in derived.items()}} for e in events]
    return [_answer(log, row, features, meaning, ahead) for row in asked]


def _answer(log: list[Row], row: Row, features: FeatureSet, meaning: Meaning, ahead: bool) -> dict[str, Answer]:
    now = row["event_time"]
    found: dict[str, Answer] = {}
    for a in features.aggregations:
        seen = []
        for event in log:
            if event[features.time_column] is None:
                continue
            if any(event[k] is None or row[k] is None or event[k] != row[k] for k in features.keys):
                continue
            if not _inside(event[features.time_column], now, a.window, ahead):
                continue
            if a.where is not None and meaning[a.where](event) is not True:
                continue
            if a.column is not None and event[a.column] is None:
                continue
            seen.append(event)
        seen.sort(key=lambda e: _rank(e, features))
        found[a.label] = _value(a.op, [e[a.column] if a.column else 1 for e in seen], seen, features, now)
    for name, sql in dict(getattr(features, "computed", {})).items():
        found[name] = Answer(meaning[sql]({k: v.value for k, v in found.items()}))
    return found


def _inside(then: int, now: int, window: str | None, ahead: bool) -> bool:
    if window is None:
        return then < now
    number, unit = re.fullmatch(r"(\d+)([smhdw])", window).groups()  # type: ignore[union-attr]
    width = int(number) * LENGTHS[unit]
    return now <= then < now + width if ahead else now - width <= then < now


def _rank(event: Row, features: FeatureSet) -> list[Any]:
    """By time, then the order columns, then all columns as they stand; nulls first, NaN last."""
    columns = [features.time_column, *features.order_by, *event]
    return [(0, False, 0) if event[c] is None else (1, _is_nan(event[c]), event[c]) for c in columns]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _value(op: str, values: list[Any], seen: list[Row], features: FeatureSet, now: int) -> Answer:
    if op == "count":
        return Answer(len(values))
    if op == "n_unique":
        return Answer(len({"NaN" if _is_nan(v) else v for v in values}))
    if op == "sum" and not values:
        return Answer(0)
    if not values or (op == "std" and len(values) == 1):
        return Answer(None)
    if op == "recency":
        return Answer((now - max(e[features.time_column] for e in seen)) / LENGTHS["d"])
    if op in ("min", "max"):  # NaN counts as the largest number
        ranked = sorted(values, key=lambda v: (_is_nan(v), v))
        return Answer(ranked[0 if op == "min" else -1])
    if op in ("first", "last"):
        return Answer(values[0 if op == "first" else -1])
    return _added_up(op, values)


def _added_up(op: str, values: list[Any]) -> Answer:
    strange = [v for v in values if isinstance(v, float) and not math.isfinite(v)]
    if strange:
        return Answer(math.nan if op == "std" else sum(strange))
    exact = [Fraction(v) for v in values]
    size, n = float(max(map(abs, exact))), len(exact)
    total, whole = sum(exact, Fraction(0)), all(isinstance(v, int) for v in values)
    if op == "sum":
        return Answer(int(total) if whole else float(total), size * n)
    if op == "mean":
        return Answer(float(total / n), size)
    variance = sum(((v - total / n) ** 2 for v in exact), Fraction(0)) / (n - 1)
    return Answer(_root(variance), float(max(abs(v - total / n) for v in exact)))


def _root(value: Fraction) -> float:
    """The square root of a fraction that may be far beyond what a float can hold."""
    if value == 0:
        return 0.0
    shift = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(value / Fraction(4) ** shift), shift)


# A double carries a rounding of 2^-53 of itself, and adding up n of them in any order one of n * 2^-53 of their sizes.
# Windows in these tests hold fewer than 2^10 events, so this is all that cancellation permits beside 1e-9 relative.
ROUNDING = 2.0**-43


def agree(found: pd.DataFrame, expected: Sequence[Mapping[str, Answer]], rounding: float = ROUNDING) -> None:
    """Whole numbers, text and nulls exactly; others to 1e-9 of themselves or to the rounding of what was added up."""
    assert len(found) == len(expected)
    for name in expected[0] if expected else ():
        for i, (got, want) in enumerate(zip(found[name].tolist(), (e[name] for e in expected), strict=True)):
            assert _same(got, want, rounding), f"{name}, row {i}: found {got!r}, expected {want.value!r}"


def _same(got: Any, want: Answer, rounding: float) -> bool:
    value = want.value
    if value is None or _is_nan(value):
        return bool(pd.isna(got))
    if pd.isna(got):
        return False
    if isinstance(value, Decimal) or (isinstance(value, float) and math.isfinite(value)):
        value = float(value)  # decimals come as floats
        return abs(float(got) - value) <= max(1e-9 * abs(value), rounding * want.size)
    return bool(got == value)
