"""Files and directories are whole or absent, and a failed replacement keeps what was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalrec._files import new_directory, new_file
from causalrec.exceptions import StoreError


def names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()}


def write_directory(target: Path, text: str, raised: type[BaseException] | None = None) -> None:
    with new_directory(target, replace=True) as scratch:
        (scratch / "file").write_text(text)
        if raised is not None:
            raise raised


def write_file(target: Path, text: str, raised: type[BaseException] | None = None) -> None:
    with new_file(target) as scratch:
        scratch.write_text(text)
        if raised is not None:
            raise raised


@pytest.mark.parametrize("write", [write_directory, write_file])
@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_goes_wrong_nothing_is_left(write: type, raised: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(raised):
        write(tmp_path / "deep" / "a", "half", raised)
    assert names(tmp_path / "deep") == set()


@pytest.mark.parametrize("write", [write_directory, write_file])
def test_replacement_is_whole_and_a_failed_one_keeps_the_former(write: type, tmp_path: Path) -> None:
    def text() -> str:
        target = tmp_path / "a"
        return (target / "file" if target.is_dir() else target).read_text()

    write(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", "new", KeyboardInterrupt)
    assert text() == "old"
    write(tmp_path / "a", "new")
    assert text() == "new"
    assert names(tmp_path) == {"a"}


@pytest.mark.parametrize("write", [write_directory, write_file])
def test_a_place_that_cannot_be_written_is_named_with_the_remedy(write: type, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file/a: .* Choose a place"):
        write(tmp_path / "file" / "a", "text")
    assert names(tmp_path) == {"file"}


def test_a_directory_is_not_replaced_unasked(tmp_path: Path) -> None:
    write_directory(tmp_path / "a", "old")
    with pytest.raises(StoreError, match="exists already"), new_directory(tmp_path / "a"):
        pass
