"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of the public data sets, or a skip that says how to get them."""
    path = Path(os.environ.get("CAUSALREC_DATA_DIR", REPO.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"public data sets are not at {path}; set CAUSALREC_DATA_DIR")
    return path
