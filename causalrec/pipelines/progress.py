"""What a run tells while it works: the stage, how far it is, and lines worth reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, int], None]


class Reporter(Protocol):
    """Told of stages and notes; the command line draws them, a notebook may ignore them."""

    def stage(self, title: str) -> AbstractContextManager[Advance]:
        """Enter a stage; yields ``advance(done, total)``."""
        ...

    def note(self, text: str) -> None:
        """Say one line that the user should read."""
        ...


class SilentReporter:
    """Says nothing."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        """Enter a stage."""
        yield lambda done, total: None  # noqa: ARG005

    def note(self, text: str) -> None:
        """Drop a note."""
