"""The store behind the runs: an SQLite file that is whole or absent, and MLflow's pages on it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from causalrec.exceptions import MissingExtraError, StoreError

_SQLITE = "sqlite:///"
_BUSY_SECONDS = 20


def resolve_uri(uri: str) -> str:
    """An SQLite path made absolute, so that the store does not move with the working directory."""
    return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).absolute()}" if uri.startswith(_SQLITE) else uri


def sqlite_file(resolved: str) -> Path | None:
    return Path(resolved.removeprefix(_SQLITE).partition("?")[0]) if resolved.startswith(_SQLITE) else None


def prepare_sqlite(file: Path) -> None:
    """Make a fresh store whole or not at all, and refuse one that cannot be written.

    MLflow retries a file that it cannot open for minutes; its first start runs dozens of migrations in place, so that
    two processes at once break them and an interrupted one leaves a store that no version opens.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _create_sqlite(file)
        with contextlib.closing(sqlite3.connect(file, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StoreError(f"{file} cannot be written as an SQLite store: {why}. Choose another tracking.uri.") from error


def _create_sqlite(file: Path) -> None:
    import mlflow

    scratch = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        scratch.touch()  # an unwritable place is found here and not by MLflow's retries
        mlflow.MlflowClient(tracking_uri=f"{_SQLITE}{scratch}").search_experiments(max_results=1)
        try:
            os.link(scratch, file)
        except FileExistsError:
            return  # another process was first, and its store is whole too
        except OSError:  # a file system without hard links
            scratch.rename(file)
    finally:
        for left in (scratch, scratch.with_name(f"{scratch.name}-journal")):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def serve_ui(uri: str, *, host: str, port: int) -> None:
    """Run the MLflow UI on a store until it is interrupted.

    Raises
    ------
    MissingExtraError
        When MLflow is not installed.
    StoreError
        When there is no such store, the port is taken, or the UI stops by itself.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError("mlflow is not installed; install it with: pip install 'causalrec[tracking]'")
    resolved = resolve_uri(uri)
    file = sqlite_file(resolved)
    if file is not None and not file.is_file():
        raise StoreError(
            f"there is no store at {file}; train a run first (causalrec train), or name another store with --uri."
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:  # MLflow would stop without a word, and with exit code 0
        raise StoreError(f"cannot listen on {host}, port {port}: {error}. Name another one with --port.") from error
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", resolved,
               "--host", host, "--port", str(port), "--workers", "1"]  # fmt: skip
    # Without the processes that MLflow starts for jobs that we have none of, and leaves behind when it ends.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # Away from the working directory, where an old ./mlruns would be taken for the store.
    with tempfile.TemporaryDirectory() as elsewhere:
        process = subprocess.Popen(command, cwd=elsewhere, env=environment, start_new_session=True)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _stop(process)
            return
    if code != 0:
        raise StoreError(f"the MLflow UI ended by itself with code {code}; its lines above say why.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, which would go on holding the port."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
    process.wait()
