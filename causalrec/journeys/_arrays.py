"""Sorted arrays instead of SQL, for frames in memory alone: the same answers in a fraction of the time.

Logs that are already in this process are arrays, and the questions here are those of one sort: a key and a time make
one whole number, numbers are sorted once, and neighbours are compared. SQL has no such number, and pays for windows
over each user. The text of :mod:`causalrec.journeys._links` and :mod:`causalrec.journeys.sessions` stays what these
functions must equal, and what files, named tables, clusters and keys of other types than integers and text go by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray, IntArray

Choice: TypeAlias = Callable[[IntArray, IntArray], IntArray]

_BITS = 63  # of a number that is not below zero
_SEEN_BITS = 26  # of the table of codes that are looked for
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads codes (Knuth, volume 3, section 6.4)


@dataclass(frozen=True)
class Events:
    """Events that have all keys and a time: codes and times of shape (n,), and their places in the frame."""

    code: IntArray
    time: IntArray
    place: IntArray


def argsort_whole(values: IntArray) -> IntArray:
    """The stable order of whole numbers that are not below zero.

    Each number's first bits and its place go into one number, because sorting numbers is several times faster than
    sorting places by them; places whose first bits are the same are then put in order among themselves.

    Examples
    --------
    >>> argsort_whole(np.array([5, 2, 5, 0])).tolist()
    [3, 1, 0, 2]
    """
    n = len(values)
    if n < 2:
        return np.arange(n)
    bits = (n - 1).bit_length()
    shift = max(0, int(values.max()).bit_length() + bits - _BITS)
    packed = values >> shift
    packed <<= bits
    packed |= np.arange(n)
    packed.sort()
    order = packed & ((1 << bits) - 1)
    if shift:
        packed >>= bits
        same = packed[1:] == packed[:-1]
        near = np.flatnonzero(np.append(same, False) | np.append(False, same))
        run = order[near]
        order[near] = run[np.argsort(values[run], kind="stable")]
    return order


def fuse(codes: Sequence[IntArray], times: Sequence[IntArray]) -> list[IntArray]:
    """One whole number for each event that sorts as its code and then its time do, the same scale for several tables.

    Where code and time do not fit into 63 bits together, their ranks go in.

    Examples
    --------
    >>> fuse([np.array([0, 1])], [np.array([7, 9])])[0].tolist()
    [0, 5]
    """
    if not any(map(len, codes)):
        return [np.zeros(0, dtype=np.int64) for _ in codes]
    low = min(int(t.min()) for t in times if len(t))
    span = max(int(t.max()) for t in times if len(t)) - low + 1
    n_codes = max(int(c.max()) for c in codes if len(c)) + 1
    if n_codes * span >= 2**_BITS:
        times, span = _ranks(times)
        low = 0
        if n_codes * span >= 2**_BITS:
            codes, _ = _ranks(codes)
    return [code * span + (time - low) for code, time in zip(codes, times, strict=True)]


def _ranks(parts: Sequence[IntArray]) -> tuple[list[IntArray], int]:
    """Dense ranks from 0 over several arrays, and how many there are."""
    values = np.concatenate(parts)
    low = int(values.min())
    order = argsort_whole(values - low) if int(values.max()) - low < 2**_BITS else np.argsort(values, kind="stable")
    ordered = values[order]
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.cumsum(np.append(0, ordered[1:] != ordered[:-1]))
    return np.split(rank, np.cumsum([len(p) for p in parts])[:-1]), int(rank[order[-1]]) + 1


def key_codes(keys: Sequence[Sequence[Any]]) -> list[IntArray] | None:
    """For each table the codes of its rows, equal where all keys are, and -1 where one is null.

    Parameters
    ----------
    keys : sequence over keys of sequences over tables of Arrow arrays

    Returns
    -------
    list of int arrays, or None where a key is neither whole numbers nor text.

    Examples
    --------
    >>> import pyarrow as pa
    >>> [c.tolist() for c in key_codes([[pa.chunked_array([["a", None]]), pa.chunked_array([["b", "a"]])]])]
    [[0, -1], [1, 0]]
    """
    codes: list[IntArray] = []
    size = 1
    for columns in keys:
        coded = _one_key(columns)
        if coded is None:
            return None
        more, n = coded
        if size * n >= 2**_BITS:
            (codes, size), (more, n) = _dense(codes), _dense(more)
        codes = [_joined_codes(a, b, n) for a, b in zip(codes, more, strict=True)] if codes else more
        size *= n
    return codes


def _joined_codes(first: IntArray, second: IntArray, n: int) -> IntArray:
    joined = first * n + second
    unknown = (first < 0) | (second < 0)
    if unknown.any():
        joined[unknown] = -1
    return joined


def _one_key(columns: Sequence[Any]) -> tuple[list[IntArray], int] | None:
    """Codes of one key, and a number above all of them."""
    import pyarrow as pa
    import pyarrow.types as pat

    columns = [c.cast(c.type.value_type) if pat.is_dictionary(c.type) else c for c in columns]
    if all(pat.is_integer(c.type) and c.type != pa.uint64() for c in columns):
        return _whole_key([c.cast(pa.int64()) for c in columns])
    if all(pat.is_string(c.type) or pat.is_large_string(c.type) or pat.is_string_view(c.type) for c in columns):
        return _coded([c.cast(pa.large_string()) for c in columns])
    return None


def _whole_key(columns: Sequence[Any]) -> tuple[list[IntArray], int]:
    """Whole numbers less the smallest, where they are not spread too far."""
    import pyarrow.compute as pc

    ends = [end.as_py() for c in columns for end in pc.min_max(c).values() if end.is_valid]
    low, size = min(ends, default=0), max(ends, default=0) - min(ends, default=0) + 1
    if size >= 2 ** (_BITS - 22):  # a time would not fit beside it
        return _coded(columns)
    return [_filled(pc.subtract(c, low)) for c in columns], size


def _coded(columns: Sequence[Any]) -> tuple[list[IntArray], int]:
    """Places in the list of all values."""
    import pyarrow as pa

    parts = [chunk for c in columns for chunk in c.chunks]
    coded = pa.chunked_array(parts, type=columns[0].type).dictionary_encode()
    codes = _filled(pa.chunked_array([c.indices for c in coded.chunks], type=pa.int32()))
    n = max((len(c.dictionary) for c in coded.chunks), default=0)
    return np.split(codes, np.cumsum([len(c) for c in columns])[:-1]), max(n, 1)


def _filled(column: Any) -> IntArray:
    """Whole numbers of an Arrow array, -1 where it is null."""
    import pyarrow.compute as pc

    filled = pc.fill_null(column, -1) if column.null_count else column
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def _dense(codes: Sequence[IntArray]) -> tuple[list[IntArray], int]:
    """The same with as few numbers as there are codes."""
    values = np.concatenate(codes)
    dense, known = pd.factorize(values)
    return np.split(np.where(values < 0, -1, dense), np.cumsum([len(c) for c in codes])[:-1]), len(known) + 1


def latest_before(later: Events, earlier: Events, tolerance: int | None, *, strict: bool, last_of: Choice) -> IntArray:
    """For each later event the index of the latest earlier one of its code at or before its time; -1 where none is.

    Parameters
    ----------
    tolerance : int or None
        In the unit of times; exactly this still counts.
    strict : bool
        Whether the same time does not count.
    last_of : function
        Of indices of earlier events and the number of the tie that each is in, from 0 on and ascending; gives the
        event to take of each tie.

    Examples
    --------
    >>> later, earlier = (Events(np.zeros(2, int), np.array(t), np.arange(2)) for t in ([5, 9], [4, 6]))
    >>> latest_before(later, earlier, 2, strict=False, last_of=lambda events, tie: events).tolist()
    [0, -1]
    """
    asked = _asked(later.code, earlier.code)
    code, time = (earlier.code, earlier.time) if asked is None else (earlier.code[asked], earlier.time[asked])
    if not len(code) or not len(later.code):
        return np.full(len(later.code), -1, dtype=np.int64)
    value, own = fuse([later.code, code], [later.time, time])
    order, turn = argsort_whole(own), argsort_whole(value)
    own, value = own[order], value[turn]
    end = np.searchsorted(own, value, side="left" if strict else "right")
    rows = np.flatnonzero(end)
    end, turn = end[rows], turn[rows]
    found = order[end - 1]
    near = code[found] == later.code[turn]
    if tolerance is not None:
        near &= later.time[turn] - time[found] <= tolerance
    end, turn, found = end[near], turn[near], found[near]
    tied = (end > 1) & (own[end - 1] == own[end - 2])
    if tied.any():
        found[tied] = _of_ties(own, order, end[tied], asked, last_of)
        if asked is not None:
            found[~tied] = asked[found[~tied]]
    elif asked is not None:
        found = asked[found]
    places = np.full(len(later.code), -1, dtype=np.int64)
    places[turn] = found
    return places


def _asked(later: IntArray, earlier: IntArray) -> IntArray | None:
    """Which earlier events may have the code of a later one: all that do and few others; None for most of them."""
    if not len(later) or not len(earlier):
        return None
    bits = min(_SEEN_BITS, (8 * len(later)).bit_length())
    seen = np.zeros(2**bits, dtype=bool)
    seen[_mixed(later, bits)] = True
    kept = seen[_mixed(earlier, bits)]
    return np.flatnonzero(kept) if np.count_nonzero(kept) < 0.8 * len(kept) else None


def _mixed(codes: IntArray, bits: int) -> IntArray:
    """Codes spread over ``bits`` bits."""
    mixed = codes.view(np.uint64) * _MIX
    mixed >>= np.uint64(64 - bits)
    return mixed.view(np.int64)


def _of_ties(own: IntArray, order: IntArray, end: IntArray, asked: IntArray | None, last_of: Choice) -> IntArray:
    """The event to take for each of the ends of ties in the sorted numbers ``own``."""
    ends, tie = np.unique(end, return_inverse=True)
    starts = np.searchsorted(own, own[ends - 1], side="left")
    sizes = ends - starts
    number = np.repeat(np.arange(len(ends)), sizes)
    inside = np.arange(len(number)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members = order[np.repeat(starts, sizes) + inside]
    return last_of(members if asked is None else asked[members], number)[tie]


@dataclass(frozen=True)
class Sessions:
    """Sessions in the order of codes and times.

    Attributes
    ----------
    session : int array of shape (n,)
        Of each event, from 0.
    number, event : int array of shape (sessions,)
        Each session's number within its code, from 1, and one of its events.
    """

    session: IntArray
    number: IntArray
    event: IntArray


def number_sessions(code: IntArray, time: IntArray, gap: int) -> Sessions:
    """Put events into sessions: a new one starts with a code, and after a pause longer than the gap.

    Examples
    --------
    >>> found = number_sessions(np.array([0, 0, 1, 0]), np.array([0, 30, 0, 61]), 30)
    >>> found.session.tolist(), found.number.tolist()
    ([0, 0, 2, 1], [1, 2, 1])
    """
    (value,) = fuse([code], [time])
    order = argsort_whole(value)
    ordered, when = code[order], time[order]
    first = _starts(ordered[1:] != ordered[:-1], len(order))
    new = first.copy()
    new[1:] |= when[1:] - when[:-1] > gap
    starts = np.flatnonzero(new)
    session = np.empty(len(order), dtype=np.int64)
    session[order] = np.cumsum(new) - 1
    count = np.arange(len(starts))
    number = count - np.maximum.accumulate(np.where(first[starts], count, 0)) + 1
    return Sessions(session, number, order[starts])


def _starts(changes: BoolArray, n: int) -> BoolArray:
    """Whether each of n begins something: the first does."""
    starts = np.ones(n, dtype=bool)
    starts[1:] = changes
    return starts
