"""The boundary for tables: the same SQL text on DuckDB in this process and on Spark."""

from __future__ import annotations

import inspect
from typing import Any

from causalrec._validation import list_some, nearest
from causalrec.engines.base import Dialect, Engine, Kind
from causalrec.engines.local import LocalEngine
from causalrec.engines.moments import collect_moments
from causalrec.engines.spark import SparkEngine
from causalrec.exceptions import EngineError

__all__ = ["Dialect", "Engine", "Kind", "LocalEngine", "SparkEngine", "collect_moments", "open_engine"]


def open_engine(name: str = "local", **options: Any) -> Engine:
    """Open an engine by name: ``"local"`` (DuckDB in this process) or ``"spark"``; options as its class takes them.

    Raises :class:`EngineError` for an unknown name, or options that the engine does not take.

    Examples
    --------
    >>> with open_engine("local", threads=1) as engine:
    ...     int(engine.collect("SELECT 6 * 7 AS answer")["answer"].iloc[0])
    42
    """
    known: dict[str, Any] = {"local": LocalEngine, "spark": SparkEngine}
    if name not in known:
        raise EngineError(f"engine {name!r} is unknown; expected one of {list_some(known)}.{nearest(name, known)}")
    try:
        inspect.signature(known[name]).bind(**options)
    except TypeError as error:
        raise EngineError(f"engine {name!r} does not take these options: {error}") from error
    engine: Engine = known[name](**options)
    return engine
