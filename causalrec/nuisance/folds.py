"""Folds of cross-fitting: even in every arm, and whole groups together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import IntArray
from causalrec._validation import check_length, list_some
from causalrec.exceptions import CausalRecError, TreatmentError

_TRAINING_ROWS = 2  # of every arm, for a model; outside every fold where there are folds


def check_groups(groups: Any, *, n_rows: int, name: str = "groups", least: int = 2) -> IntArray | None:
    """Groups as codes 0..g-1 of shape (n,), or None; ``least`` is how many there must be.

    Raises
    ------
    CausalRecError
        For missing values, another length, or too few groups.
    """
    if groups is None:
        return None
    values = pd.Series(np.asarray(groups) if not isinstance(groups, pd.Series) else groups)
    check_length(len(values), n_rows, name=name)
    codes, known = pd.factorize(values)
    if (codes < 0).any():
        raise CausalRecError(
            f"{name}: {int((codes < 0).sum())} of {n_rows} values are missing. Every row belongs to a group, such as "
            "its user; give rows without one a value of their own."
        )
    if len(known) < least:
        only = list_some(known[:1])
        raise CausalRecError(f"{name} holds the one value {only}; folds and errors need two groups or more.")
    return codes.astype(np.int64)


def make_folds(
    codes: IntArray,
    n_folds: int,
    *,
    labels: Sequence[object] | None = None,
    groups: IntArray | None = None,
    random_state: int = 0,
) -> IntArray:
    """A fold of 0..n_folds-1 for every row, at random and of even size within each arm.

    Parameters
    ----------
    codes : int array of shape (n,)
        Arms as 0..k-1.
    n_folds : int
        2 or more.
    labels : sequence, optional
        Names of the arms, for messages.
    groups : int array of shape (n,), optional
        Rows of one group stay together; groups that hold the same arms are spread evenly.
    random_state : int

    Raises
    ------
    CausalRecError
        For fewer than two folds.
    TreatmentError
        When an arm would have fewer than two rows outside some fold.

    Examples
    --------
    >>> np.bincount(make_folds(np.zeros(10, dtype=int), 3)).tolist()
    [4, 3, 3]
    """
    n_folds = check_n_folds(n_folds)
    rng = np.random.default_rng(random_state)
    if groups is None:
        folds = _dealt(codes, n_folds, rng)
    else:
        folds = _dealt(_arms_of_groups(codes, groups), n_folds, rng)[groups]
    table = np.bincount(codes * n_folds + folds, minlength=(int(codes.max()) + 1) * n_folds).reshape(-1, n_folds)
    check_training_rows(table, range(len(table)) if labels is None else labels)
    return folds


def _dealt(kinds: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """Deal the units of each kind over the folds in random order; kinds follow on one another, so all stays even."""
    order = rng.permutation(len(kinds))
    order = order[np.argsort(kinds[order], kind="stable")]
    folds = np.empty(len(kinds), dtype=np.int64)
    folds[order] = np.arange(len(kinds)) % n_folds
    return folds


def _arms_of_groups(codes: IntArray, groups: IntArray) -> IntArray:
    """A number for each group that says which arms it holds."""
    pairs = np.unique(np.column_stack([groups, codes]), axis=0)
    kinds = np.zeros(int(groups.max()) + 1, dtype=np.int64)
    np.add.at(kinds, pairs[:, 0], 2 ** np.minimum(pairs[:, 1], 60))
    return kinds


def check_n_folds(n_folds: Any) -> int:
    """Return a whole number of folds, 2 or more."""
    if not isinstance(n_folds, int | np.integer) or isinstance(n_folds, bool) or n_folds < 2:
        raise CausalRecError(f"n_folds is {n_folds!r}; cross-fitting needs a whole number of 2 or more.")
    return int(n_folds)


def check_training_rows(table: IntArray, labels: Sequence[object]) -> None:
    """Raise where an arm has fewer than two rows outside a fold; ``table`` counts rows by arm and fold."""
    outside = table.sum(axis=1, keepdims=True) - table
    if (outside < _TRAINING_ROWS).any():
        arm = int(np.argmin(outside.min(axis=1)))
        raise TreatmentError(
            f"arm {labels[arm]!r} has {int(table[arm].sum())} rows, of which {int(outside[arm].min())} lie outside one "
            f"of {table.shape[1]} folds; the models need {_TRAINING_ROWS} there. Collect more, drop the arm, or use a "
            "learner without cross-fitting, such as the T-learner."
        )


def check_arm_rows(counts: Mapping[Any, int]) -> None:
    """Raise where an arm has too few rows for a model; ``counts`` are rows by the arm's label."""
    for label, n in counts.items():
        if n < _TRAINING_ROWS:
            raise TreatmentError(
                f"arm {label!r} has {n} row; a model needs at least {_TRAINING_ROWS}. Drop the arm, or collect more."
            )
