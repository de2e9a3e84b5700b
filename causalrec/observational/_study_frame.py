"""The frame that a study is given: its columns, and what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from causalrec._validation import check_columns, check_not_empty, list_some
from causalrec.exceptions import ColumnError


def columns_of(frame: Any) -> list[Any]:
    if not isinstance(frame, pd.DataFrame) and not hasattr(frame, "to_pandas"):
        lazy = " Collect it first." if hasattr(frame, "collect_schema") else ""
        raise ColumnError(
            f"frame is of type {type(frame).__name__}; expected a pandas, Polars or Arrow frame.{lazy} For arrays "
            "there is estimate_ate, for Spark causalrec.observational.spark."
        )
    columns = frame.column_names if hasattr(frame, "column_names") else frame.columns
    check_columns(columns, [], where="frame")
    return list(columns)


def pandas_of(frame: Any, columns: list[str]) -> pd.DataFrame:
    found = frame[columns] if isinstance(frame, pd.DataFrame) else frame.select(columns).to_pandas()
    check_not_empty(len(found), where="frame")
    return found


def check_roles(columns: Sequence[str], roles: dict[str, str | None], covariates: Sequence[str]) -> None:
    named = [c for c in roles.values() if c is not None] + list(covariates)
    apart = [roles["treatment"], roles["outcome"], *covariates]  # clusters may be a covariate too: a shop, say
    doubled = sorted({str(c) for c in apart if apart.count(c) > 1})
    if doubled:
        raise ColumnError(f"columns {list_some(doubled)} are named twice among treatment, outcome and covariates.")
    check_columns(columns, named, where="frame")
