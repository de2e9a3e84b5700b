"""Aggregates as JSON and back, floats to the bit."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd

from causalrec.abtest.aggregates import Aggregates, Cell, Key, QuantileSummary
from causalrec.exceptions import CausalRecError
from causalrec.moments import Moments

_COUNTS = ("n_missing", "n_immature", "nested", "as_of")


def dump_aggregates(aggregates: Aggregates) -> str:
    """Aggregates as JSON that :func:`load_aggregates` reads back unchanged: a day's, to be kept or sent.

    Arms and groups may be text, numbers, truth values, times, missing, or tuples of these.

    Raises
    ------
    CausalRecError
        For an arm or a group that is something else.

    Examples
    --------
    >>> import numpy as np
    >>> cell = Cell(2, {"spend": Moments.from_array(np.array([[0.1], [0.2]]), ["value"])})
    >>> text = dump_aggregates(Aggregates({"": {("A", None): cell}}, n_rows=2))
    >>> load_aggregates(text).cells[""]["A", None].moments["spend"].mean_of("value")
    0.15000000000000002
    """
    coded = {
        "clustered": aggregates.clustered, "n_rows": int(aggregates.n_rows),
        "n_conflicting": int(aggregates.n_conflicting), "n_duplicates": int(aggregates.n_duplicates),
        **{name: {k: _plain(v) for k, v in getattr(aggregates, name).items()} for name in _COUNTS},
        "thresholds": {k: [float(x) for x in v] for k, v in aggregates.thresholds.items()},
        "cells": {name: [_coded(*pair) for pair in cells.items()] for name, cells in aggregates.cells.items()},
    }  # fmt: skip
    return json.dumps(coded, ensure_ascii=False)


def load_aggregates(text: str) -> Aggregates:
    """Read what :func:`dump_aggregates` wrote.

    Raises
    ------
    CausalRecError
        For other text.
    """
    try:
        coded = json.loads(text)
        cells = {dimension: dict(_cell(each) for each in listed) for dimension, listed in coded["cells"].items()}
        counts = {name: coded[name] for name in ("clustered", "n_rows", "n_conflicting", "n_duplicates", *_COUNTS)}
        thresholds = {k: (low, high) for k, (low, high) in coded["thresholds"].items()}
        return Aggregates(cells, thresholds=thresholds, **counts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CausalRecError(
            f"found {text[:40]!r}…, which are no aggregates ({type(error).__name__}: {error}); expected the text of "
            "dump_aggregates, of this version."
        ) from error


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _coded(key: Key, cell: Cell) -> dict[str, Any]:
    return {
        "arm": _label(key[0]), "group": _label(key[1]), "n": int(cell.n),
        "moments": {name: _moments(m) for name, m in cell.moments.items()},
        "quantiles": {
            name: [int(q.n), float(q.value), float(q.variance), bool(q.tied)] for name, q in cell.quantiles.items()
        },
    }  # fmt: skip


def _moments(moments: Moments) -> dict[str, Any]:
    return {
        "n": int(moments.n), "names": list(moments.names), "mean": moments.mean.tolist(),
        "products": moments.products.tolist(),
    }  # fmt: skip


def _cell(coded: Mapping[str, Any]) -> tuple[Key, Cell]:
    moments = {
        name: Moments(
            m["n"], tuple(m["names"]), np.array(m["mean"], dtype=np.float64),
            np.array(m["products"], dtype=np.float64).reshape(len(m["names"]), len(m["names"])),
        )
        for name, m in coded["moments"].items()
    }  # fmt: skip
    quantiles = {name: QuantileSummary(*values) for name, values in coded["quantiles"].items()}
    return (_read(coded["arm"]), _read(coded["group"])), Cell(coded["n"], moments, quantiles)


def _label(value: Hashable) -> Any:
    """An arm or a group, with its type where JSON has no such."""
    value = _plain(value)
    if value is pd.NaT or value is pd.NA:
        return {"missing": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return {"tuple": [_label(each) for each in value]}
    if isinstance(value, pd.Timestamp):
        return {"timestamp": value.isoformat()}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    raise CausalRecError(
        f"the arm or group {value!r} is of type {type(value).__name__}; expected text, a number, a truth value or a "
        "time. Convert the column first."
    )


def _read(coded: Any) -> Any:
    if not isinstance(coded, dict):
        return coded
    [(kind, value)] = coded.items()
    if kind == "tuple":
        return tuple(_read(each) for each in value)
    readers = {
        "timestamp": pd.Timestamp, "datetime": datetime.fromisoformat, "date": date.fromisoformat,
        "missing": {"NaT": pd.NaT, "<NA>": pd.NA}.__getitem__,
    }  # fmt: skip
    return readers[kind](value)
