"""Is there anything to compare? What flexible models of the propensity do not notice by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from causalrec._typing import FloatArray, IntArray
from causalrec._validation import check_covariates, list_some
from causalrec.exceptions import OverlapError

_BY_CHANCE = 1e-3  # a level that chance leaves in one arm more seldom than this is not there by chance


def check_separation(score: FloatArray, treatment: IntArray) -> None:
    """Raise :class:`OverlapError` where every treated unit has a higher score, out of fold, than every control unit.

    Boosted trees never say 0 or 1, so that weights alone do not show it.
    """
    if score[treatment == 1].min() > score[treatment == 0].max():
        raise OverlapError(
            "the covariates separate treated from control units perfectly: every propensity of the treated, out of "
            "fold, is higher than every one of the controls. There is nothing to compare; remove the covariate that "
            "decides the treatment, or restrict the data to where both occur."
        )


def check_levels(X: Any, treatment: IntArray, estimand: str) -> None:
    """Raise :class:`OverlapError` for levels of categories and 0/1 columns that an arm lacks and needs.

    For the att controls must be there, for the atc treated units, for the ate both. A level whose few units may well
    be in one arm by chance alone passes: at the share p of that arm, m units are with probability p^m.
    """
    share = float(treatment.mean())
    alone = []
    for name, level, place in _levels(X):
        n_treated, n = int(treatment[place].sum()), len(place)
        lacking = {0: "treated" if estimand != "att" else "", n: "control" if estimand != "atc" else ""}.get(n_treated)
        if lacking and (share if n_treated else 1 - share) ** n < _BY_CHANCE:
            alone.append(f"{name}={level} ({n} units, no {lacking})")
    if alone:
        raise OverlapError(
            f"levels that only one arm has: {list_some(alone)}. These units have no comparison: drop them, or merge "
            "the level with another."
        )


def _levels(X: Any) -> Iterator[tuple[str, Any, IntArray]]:
    """Column, level and its rows, of categories, text, booleans and 0/1 numbers; missing values are no level."""
    X = check_covariates(X)
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and not _zero_one(column):
            continue
        codes, levels = pd.factorize(column)
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(levels) + 1))
        for k in sorted(range(len(levels)), key=lambda k: str(levels[k])):
            yield str(name), levels[k], order[edges[k] : edges[k + 1]]


def _zero_one(column: pd.Series) -> bool:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return bool(((values == 0) | (values == 1) | np.isnan(values)).all())
