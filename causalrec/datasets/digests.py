"""Digests by content: the same data, the same digest, on any day and machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from causalrec.exceptions import DatasetError


def frame_digest(frame: pd.DataFrame) -> str:
    """sha256 of a frame's column names, types and values in their row order; the index does not count.

    Examples
    --------
    >>> frame_digest(pd.DataFrame({"a": [1]})) == frame_digest(pd.DataFrame({"a": [2]}))
    False
    """
    digest = hashlib.sha256(repr([(str(c), str(t)) for c, t in frame.dtypes.items()]).encode())
    for position in range(frame.shape[1]):
        digest.update(np.ascontiguousarray(pd.util.hash_pandas_object(frame.iloc[:, position], index=False)).tobytes())
    return digest.hexdigest()


def file_digest(path: str | Path) -> str:
    """sha256 of a file, or of the names and contents of the files below a directory.

    Raises :class:`DatasetError` when there is nothing to read.
    """
    target = Path(path)
    if target.is_file():
        with target.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(p for p in target.rglob("*") if p.is_file())
    if not files:
        raise DatasetError(f"{target} does not exist or holds no file. Check the path.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(target).as_posix()}:{file_digest(file)}\n".encode())
    return digest.hexdigest()
