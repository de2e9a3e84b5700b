"""Results as JSON and back, floats to the bit."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalrec._typing import FloatArray, IntArray
from causalrec.exceptions import CausalRecError
from causalrec.results.base import Result
from causalrec.results.observational import Recipe


def dump_results(results: Mapping[str, Result | Sequence[Result]]) -> str:
    """Write named results as JSON that :func:`load_results` reads back unchanged (floats to the bit).

    Examples
    --------
    >>> from causalrec.results import EffectResult
    >>> effect = EffectResult(0.5, 0.1, 0.3, 0.7, 1e-9, 0.95, 100, "Welch", "ate")
    >>> print(load_results(dump_results({"effect": effect}))["effect"])
    ate = 0.5 95% CI [0.3, 0.7], p = 1.00e-09, n = 100 (Welch)
    """
    coded = {k: _encode(v) if isinstance(v, Result) else [_encode(r) for r in v] for k, v in results.items()}
    return json.dumps(coded, indent=1, ensure_ascii=False)


def _encode(value: Any) -> Any:
    if isinstance(value, Result):
        return {"result": type(value).__name__} | {
            f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, Recipe):  # may hold models
        return None
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def load_results(text: str) -> dict[str, Any]:
    """Read results written by :func:`dump_results`: a result, or a list of results, per name.

    Raises
    ------
    CausalRecError
        For text that is not JSON, or results that this version does not know or that have other fields.
    """
    try:
        coded = json.loads(text)
    except json.JSONDecodeError as error:
        raise CausalRecError(f"the results are not JSON ({error}); expected the text of dump_results.") from error
    return {k: _decode(v) if isinstance(v, dict) else [_decode(item) for item in v] for k, v in coded.items()}


def _decode(item: Mapping[str, Any]) -> Result:
    known = {cls.__name__: cls for cls in _subclasses(Result)}
    name = item.get("result")
    if name not in known:
        raise CausalRecError(f"found a result of kind {name!r}; expected one of {', '.join(sorted(known))}.")
    cls = known[name]
    names = {f.name for f in dataclasses.fields(cls)}
    if set(item) - {"result"} != names:
        odd = sorted(names.symmetric_difference(set(item) - {"result"}))
        raise CausalRecError(
            f"{name}: the fields {', '.join(odd)} are missing or unknown. Another version of causalrec wrote this; "
            "run the stage again."
        )
    hints = typing.get_type_hints(cls)
    return cls(**{field_name: _typed(item[field_name], hints[field_name]) for field_name in names})


def _typed(value: Any, hint: Any) -> Any:
    """A JSON value as what the field declares: an empty array keeps its type, a tuple is not a list."""
    if isinstance(value, dict):
        return _decode(value)
    if not isinstance(value, list):
        return value
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_typed(item, inner) for item in value)
    kinds = {FloatArray: np.float64, IntArray: np.int64}
    return np.asarray(value, dtype=next((kinds[h] for h in (hint, *typing.get_args(hint)) if h in kinds), None))


def _subclasses(cls: type[Result]) -> list[type[Result]]:
    direct = cls.__subclasses__()
    return direct + [below for child in direct for below in _subclasses(child)]
