"""One thread of linear algebra where the work is small, or where others use the cores."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


def one_thread(small: bool = True, *, only_blas: bool = False) -> AbstractContextManager[Any]:
    """Keep BLAS and OpenMP (or BLAS alone) to one thread while the work is small; change nothing otherwise.

    More threads gain nothing there, and cost tens of times as much where the cores are shared: they wait spinning.
    """
    limits: AbstractContextManager[Any] = _libraries().limit(
        limits=1 if small else None, user_api="blas" if only_blas else None
    )
    return limits


@cache
def _libraries() -> Any:
    """The libraries whose threads can be limited; looking for them takes 10 ms."""
    return ThreadpoolController()
