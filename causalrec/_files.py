"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from causalrec.exceptions import StoreError


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yield a file name beside ``path`` that takes its place at the end, or disappears if anything goes wrong.

    Missing directories above it are made. Raises :class:`StoreError` when the place cannot be written.
    """
    target = Path(path).expanduser().absolute()
    scratch = _beside(target)
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield scratch
            scratch.replace(target)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


@contextmanager
def new_directory(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a hidden directory beside ``path`` that takes its place at the end, or disappears if anything goes wrong.

    With ``replace`` a directory that is there gives way at the very end; without it, it is an error. Raises
    :class:`StoreError` when the place is taken or cannot be written.
    """
    target = Path(path).expanduser().absolute()
    if target.exists() and not replace:
        raise StoreError(f"{target} exists already; choose a new directory, or remove it first.")
    scratch, old = _beside(target), _beside(target)
    try:
        with writing(target):
            scratch.mkdir(parents=True)
            (scratch / ".probe").touch()
            (scratch / ".probe").unlink()
        yield scratch
        with writing(target):
            if replace and target.exists():
                target.replace(old)
            scratch.replace(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        raise
    finally:
        for left in (scratch, old):
            shutil.rmtree(left, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off an interrupt (Ctrl-C, or a request to end) until the block is done; for a few quick steps.

    Only the main thread is ever interrupted, so elsewhere there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        caught.append(signum)

    # A handler that was not set from Python cannot be put back: its signal is left alone.
    known = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    former = {each: handler for each, handler in known.items() if handler not in (None, signal.SIG_IGN)}
    for each in former:
        signal.signal(each, note)
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)
        for signum in caught[:1]:
            if former[signal.Signals(signum)] == signal.SIG_DFL:
                raise SystemExit(128 + signum)  # what a shell says of such an end; what is open can be put away
            signal.raise_signal(signum)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an error of the system into a :class:`StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write {target}: {reason}. Choose a place that you may write.") from error
