"""The order of scores, fast: one sort of integers instead of an indirect one."""

from __future__ import annotations

import numpy as np

from causalrec._typing import FloatArray, IntArray

_SMALL = 4096  # below it the plain sort is as fast
BLOCK = 16_384
_FEW = 100  # one in so many
_MOST = np.int64(2**63 - 1)


def falling_order(score: FloatArray) -> tuple[IntArray, bool]:
    """Rows by falling score, in any order where scores are equal, and whether any are.

    Read as integers, floats keep their order, so a score's leading bits and the row's number fit into one integer
    each, and integers are sorted in place, which is faster than an indirect sort. Scores that differ only in the bits
    left out stand next to each other then, and are put right; where they are many, the indirect sort it is.

    Parameters
    ----------
    score : array of shape (n,), finite

    Returns
    -------
    order : int array of shape (n,)
    tied : bool

    Examples
    --------
    >>> order, tied = falling_order(np.array([0.5, 2.0, 0.5]))
    >>> order.tolist(), tied
    ([1, 0, 2], True)
    """
    n = len(score)
    if n < _SMALL:
        return _indirect(score, np.argsort(-score, kind="stable"))
    bits = int(n - 1).bit_length()
    mask = np.int64(2**bits - 1)
    key, within = np.empty(n, dtype=np.int64), np.arange(BLOCK)
    for start in range(0, n, BLOCK):  # blocks stay in the processor's cache
        part = key[start : start + BLOCK]
        part[:] = _falling_integers(score[start : start + BLOCK])
        part &= ~mask
        part |= start  # a multiple of BLOCK, itself a power of two
        part |= within[: len(part)]
    key.sort()
    same = np.concatenate([
        np.flatnonzero((key[at + 1 : at + BLOCK + 1] ^ key[at : at + BLOCK][: n - 1 - at]) <= mask) + at
        for at in range(0, n - 1, BLOCK)
    ])  # fmt: skip
    key &= mask  # the rows
    if len(same) == 0:
        return key, False
    if len(same) > n // _FEW:
        found = score[key]
        wrong = bool((found[1:] > found[:-1]).any())
        return _indirect(score, np.argsort(-score) if wrong else key)
    return key, _put_right(key, score, same)


def _falling_integers(score: FloatArray) -> IntArray:
    """Integers that rise as the scores fall."""
    key = (0.0 - score).view(np.int64)  # never -0.0, whose bits are others
    rest = key >> 63
    rest &= _MOST
    key ^= rest  # negative floats rise where their bits fall
    return key


def _indirect(score: FloatArray, order: IntArray) -> tuple[IntArray, bool]:
    found = score[order]
    return order, bool((found[1:] == found[:-1]).any())


def _put_right(order: IntArray, score: FloatArray, same: IntArray) -> bool:
    """Sort, in place, the runs of rows of the ``same`` leading bits as the next; whether any scores are equal."""
    begins = np.diff(same, prepend=same[0] - 2) > 1
    first, size = same[begins], np.diff(np.flatnonzero(np.append(begins, True))) + 1
    run = np.repeat(np.arange(len(first)), size)
    places = np.repeat(first - np.append(0, np.cumsum(size)[:-1]), size) + np.arange(size.sum())
    rows = order[places]
    rows = rows[np.lexsort((-score[rows], run))]
    order[places] = rows
    found = score[rows]
    return bool(((found[1:] == found[:-1]) & (run[1:] == run[:-1])).any())
