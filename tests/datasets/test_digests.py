"""Digests change with the content, and with nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalrec.datasets import file_digest, frame_digest
from causalrec.exceptions import DatasetError

FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, 1.5], "c": ["x", "y", None]})


@pytest.mark.parametrize(
    "changed",
    [
        FRAME.assign(a=[1, 2, 4]),
        FRAME.assign(b=[0.5, np.nan, 1.5 + 1e-15]),
        FRAME.assign(c=["x", "y", "z"]),
        FRAME.iloc[::-1],
        FRAME.iloc[:2],
        FRAME.iloc[:0],
        FRAME.assign(a=FRAME["a"].astype("int32")),
        FRAME.assign(a=FRAME["a"].astype("float64")),
        FRAME.assign(c=FRAME["c"].astype("category")),
        FRAME.rename(columns={"a": "A"}),
        FRAME[["b", "a", "c"]],
    ],
    ids=["int", "float", "text", "order", "rows", "empty", "int32", "as float", "as category", "name", "columns"],
)
def test_any_change_of_a_frame_shows(changed: pd.DataFrame) -> None:
    assert frame_digest(changed) != frame_digest(FRAME)


def test_a_copy_and_another_index_do_not() -> None:
    assert frame_digest(FRAME.copy()) == frame_digest(FRAME.set_index(pd.Index([7, 8, 9]))) == frame_digest(FRAME)


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"x" * 3_000_000)
    assert file_digest(file) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert file_digest(str(file)) == file_digest(file)


def test_digest_of_a_directory_covers_names_and_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        (directory / "day=1").mkdir(parents=True)
        (directory / "day=1" / "part.csv").write_text("a\n1\n")
        (directory / "b.csv").write_text("b\n")
    same = file_digest(first)
    assert file_digest(second) == same
    (second / "b.csv").rename(second / "c.csv")
    assert file_digest(second) != same
    (second / "c.csv").rename(second / "b.csv")
    (second / "day=1" / "part.csv").write_text("a\n2\n")
    assert file_digest(second) != same


def test_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetError, match="does not exist or holds no file"):
            file_digest(path)
