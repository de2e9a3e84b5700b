"""What a policy gives to whom, in one form: how likely each arm is for each row."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_length, list_some
from causalrec.exceptions import CausalRecError, TreatmentError
from causalrec.results import AllocationResult

_SUM_TOLERANCE = 1e-6


def policy_shares(policy: Any, labels: tuple[Any, ...], *, n_rows: int, name: str = "policy") -> FloatArray:
    """The probability of every arm in every row under a policy, shape (n, k).

    Parameters
    ----------
    policy : label, array of shape (n,) or (n, k), data frame, or AllocationResult
        One label: that arm for everybody. Of shape (n,): each row's arm, by label; where labels are names, codes
        0..k-1 too (control is 0); of two arms also the probability of the second. Of shape (n, k): probabilities of
        the arms in the order of ``labels``, or columns of a frame that are named by them.
    labels : tuple of k arms, control first
    n_rows : int
    name : str
        For messages.

    Raises
    ------
    TreatmentError
        For arms that are not among ``labels``, and missing values.
    CausalRecError
        For another shape, and probabilities that are negative or do not sum to one.

    Examples
    --------
    >>> policy_shares(["mail", "none"], ("none", "mail"), n_rows=2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    >>> policy_shares("mail", ("none", "mail"), n_rows=1).tolist()
    [[0.0, 1.0]]
    >>> policy_shares([0.25], (0, 1), n_rows=1).tolist()
    [[0.75, 0.25]]
    """
    k = len(labels)
    if isinstance(policy, AllocationResult):
        policy = _of_plan(policy, labels, name)
    if isinstance(policy, Hashable) and policy in labels:
        shares = np.zeros((1, k))
        shares[0, labels.index(policy)] = 1.0
        return np.broadcast_to(shares, (n_rows, k))
    if hasattr(policy, "to_pandas"):
        policy = policy.to_pandas()
    if isinstance(policy, pd.DataFrame) and policy.shape[1] > 1:
        policy = _of_frame(policy, labels, name)
    if np.ndim(policy) == 2 and np.shape(policy)[1] > 1:
        return _probabilities(policy, labels, n_rows, name)
    if np.ndim(policy) == 0:
        raise TreatmentError(
            f"{name} is {policy!r}, which is no arm; expected one of {list_some(labels)}, or a column."
        )
    values = pd.Series(policy if np.ndim(policy) == 1 else np.ravel(policy)).reset_index(drop=True)
    check_length(len(values), n_rows, name=name)
    if values.isna().any():
        raise TreatmentError(
            f"{name}: {int(values.isna().sum())} of {n_rows} values are missing. Give everyone an arm."
        )
    return _of_column(values, labels, name)


def _of_frame(policy: pd.DataFrame, labels: tuple[Any, ...], name: str) -> FloatArray:
    if len(set(policy.columns)) < policy.shape[1] or set(policy.columns) != set(labels):
        raise TreatmentError(
            f"{name} is a frame with the columns {list_some(policy.columns)}; expected one for each of the arms "
            f"{list_some(labels)}, by name. Pass an array to go by position."
        )
    return policy[list(labels)].to_numpy()


def _of_plan(plan: AllocationResult, labels: tuple[Any, ...], name: str) -> FloatArray:
    """The probabilities of an allocation, with a column for every arm of the test."""
    strange = [arm for arm in plan.arm if arm not in labels]
    if strange:
        raise TreatmentError(
            f"{name} gives {list_some(strange)}, but the arms are {list_some(labels)}. Name the arms in allocate, and "
            "pass the test's control= there."
        )
    table = np.zeros((plan.n_obs, len(labels)))
    table[:, [labels.index(arm) for arm in plan.arm]] = plan.probabilities()
    return table


def _probabilities(policy: Any, labels: tuple[Any, ...], n_rows: int, name: str) -> FloatArray:
    try:
        table = np.asarray(policy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CausalRecError(f"{name} has two dimensions, but not of numbers; expected probabilities.") from error
    if table.shape[1] != len(labels):
        raise CausalRecError(
            f"{name} has shape {table.shape}; expected ({n_rows}, {len(labels)}), a probability for each of the arms "
            f"{list_some(labels)}, in this order."
        )
    check_length(len(table), n_rows, name=name)
    off = ~((table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) <= _SUM_TOLERANCE))
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise CausalRecError(
            f"{name}: {int(off.sum())} of {n_rows} rows are not probabilities that sum to one (row {row}: "
            f"{list_some(table[row].tolist())}). Give P(arm) of every arm, control included."
        )
    return table


def _of_column(values: pd.Series, labels: tuple[Any, ...], name: str) -> FloatArray:
    found, uniques = pd.factorize(values)
    arms = list(uniques)
    named = not any(isinstance(label, int | float | np.number | np.bool_) for label in labels)
    if all(arm in labels for arm in arms):
        return _one_of(np.array([labels.index(arm) for arm in arms], dtype=np.int64)[found], len(labels))
    numbers = all(isinstance(arm, int | float | np.number | np.bool_) for arm in arms)
    if numbers and len(labels) == 2 and (named or labels == (0, 1)) and all(0 <= arm <= 1 for arm in arms):
        second = values.to_numpy(dtype=np.float64)
        return np.column_stack([1 - second, second])
    if numbers and named and all(arm in range(len(labels)) for arm in arms):
        return _one_of(np.array([int(arm) for arm in arms], dtype=np.int64)[found], len(labels))
    strange = [arm for arm in arms if arm not in labels]
    raise TreatmentError(f"{name} gives {list_some(strange)}, but the arms are {list_some(labels)}. Use their names.")


def _one_of(codes: IntArray, k: int) -> FloatArray:
    shares = np.zeros((len(codes), k))
    shares[np.arange(len(codes)), codes] = 1.0
    return shares
