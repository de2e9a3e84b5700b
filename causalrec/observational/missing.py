"""Missing covariates: left out with their rows, marked by an indicator, or filled by the middle; never in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from causalrec._typing import BoolArray
from causalrec._validation import list_some, nearest
from causalrec.exceptions import CausalRecError, ColumnError

MISSING = ("error", "drop", "indicator", "impute")
_LEVEL = "(missing)"


def check_missing(missing: str) -> str:
    """Return one of ``error``, ``drop``, ``indicator``, ``impute``."""
    if missing not in MISSING:
        raise CausalRecError(
            f"missing is {missing!r}; expected one of {list_some(MISSING)}.{nearest(str(missing), MISSING)}"
        )
    return missing


def complete_rows(frame: pd.DataFrame) -> BoolArray:
    """Which rows have no missing value, shape (n,)."""
    return np.asarray(~frame.isna().any(axis=1).to_numpy(dtype=bool))


def complete_covariates(
    frame: pd.DataFrame, covariates: Sequence[str], *, missing: str = "indicator"
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Fill the missing covariates of a frame, and say so; the frame is not changed.

    Parameters
    ----------
    frame : DataFrame
    covariates : sequence of str
    missing : {"indicator", "impute", "error"}
        ``"indicator"``: numbers become 0 beside an indicator column, categories a level of their own. With the
        indicator the filled value carries no information of its own (Rosenbaum and Rubin 1984, JASA 79, section 3:
        balance on the pattern of missing values too). It needs that treatment depends on a covariate only where
        this was seen. ``"impute"``: the mean of numbers, the most frequent level of categories (the first in order
        among equals), without indicator; what an error makes of the filled values is not counted.

    Returns
    -------
    frame, covariates (with the indicators), and a note for each column that had gaps

    Raises
    ------
    ColumnError
        For missing values where ``missing`` is ``"error"``, and for a column without any value.

    Examples
    --------
    >>> frame = pd.DataFrame({"age": [20.0, None, 40.0]})
    >>> filled, covariates, notes = complete_covariates(frame, ["age"])
    >>> filled["age"].tolist(), covariates, notes
    ([20.0, 0.0, 40.0], ('age', 'age_missing'), ('age: 1 missing value set to 0, with the indicator age_missing',))
    """
    check_missing(missing)
    gaps = {c: frame[c].isna().to_numpy(dtype=bool) for c in covariates}
    gaps = {c: gap for c, gap in gaps.items() if gap.any()}
    if gaps and missing in ("error", "drop"):
        raise missing_error(gaps, len(frame))
    empty = [c for c, gap in gaps.items() if gap.all()]
    if empty:
        raise ColumnError(f"covariates {list_some(empty)} have no value at all; leave them out.")
    frame, used, notes = frame.copy(deep=False), list(covariates), []
    for column, gap in gaps.items():
        number = _is_number(frame[column])
        filled, how = (_filled_number if number else _filled_level)(frame[column], missing)
        frame[column] = filled
        note = f"{column}: {_count(gap)} {how}"
        if number and missing == "indicator":
            indicator = _free(f"{column}_missing", frame.columns)
            frame[indicator] = gap.astype("int64")
            used.append(indicator)
            note += f", with the indicator {indicator}"
        notes.append(note)
    return frame, tuple(used), tuple(notes)


def missing_error(gaps: dict[str, BoolArray], n_rows: int) -> ColumnError:
    """The error that names columns, counts and the ways out."""
    counted = ", ".join(f"{c!r} ({int(gap.sum()):,})" for c, gap in list(gaps.items())[:8])
    rows = int(np.any(list(gaps.values()), axis=0).sum())
    return ColumnError(
        f"covariates {counted} have missing values, in {rows:,} of {n_rows:,} rows. Pass missing='indicator' (a level "
        "or an indicator of their own), 'drop' (complete rows only) or 'impute' (mean or most frequent level); the "
        "result says how many."
    )


def _count(gap: BoolArray) -> str:
    n = int(gap.sum())
    return f"{n:,} missing value{'s' if n > 1 else ''}"


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not isinstance(column.dtype, pd.CategoricalDtype)


def _filled_number(column: pd.Series, missing: str) -> tuple[pd.Series, str]:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    fill = 0.0 if missing == "indicator" else float(np.nanmean(values))
    filled = pd.Series(np.where(np.isnan(values), fill, values), index=column.index, name=column.name)
    return filled, "set to 0" if missing == "indicator" else f"set to the mean, {fill:.6g}"


def _filled_level(column: pd.Series, missing: str) -> tuple[pd.Series, str]:
    levels = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype(str).where(column.notna())
    levels = levels.astype("category")
    if missing == "impute":
        counts = levels.value_counts(sort=False)
        common = counts.index[int(np.argmax(counts.to_numpy()))]
        return levels.fillna(common), f"set to the most frequent level, {common!r}"
    own = _free(_LEVEL, levels.cat.categories)
    return levels.cat.add_categories(own).fillna(own), "as a level of their own"


def _free(name: str, taken: Iterable[object]) -> str:
    """The name, with as many underscores behind it as keep it apart from those taken."""
    known = set(taken)
    while name in known:
        name += "_"
    return name
