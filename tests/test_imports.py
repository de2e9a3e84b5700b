"""``import causalrec`` is light, and no public part loads what it does not need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"dowhy", "econml", "mlflow", "pyspark", "matplotlib", "xgboost", "streamlit", "plotly", "lifelines"}
LIGHT = ("results", "engines", "features", "datasets", "plots", "report")  # scikit-learn takes seconds to load
PARTS = (
    *LIGHT, "abtest", "survival", "uplift", "evaluation", "policy", "ranking", "observational", "tracking", "moments",
    "config",
)  # fmt: skip
CODE = """
import importlib, io, json, sys
found = {}
for name in %r:
    importlib.import_module(name)
    found[name] = sorted({m.split(".")[0] for m in sys.modules})
from causalrec.plots import plot_effects
from causalrec.results import EffectResult
effect = EffectResult(0.5, 0.1, 0.3, 0.7, 0.01, 0.95, 100, "Welch", "ate")
plot_effects({"main": effect}, truth=0.4).figure.savefig(io.BytesIO(), format="png")
found["a figure"] = sorted(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """The packages that are loaded after each import, one after the other in a fresh interpreter, and by a figure."""
    modules = ["causalrec", *(f"causalrec.{part}" for part in PARTS)]
    out = subprocess.run([sys.executable, "-c", CODE % modules], capture_output=True, text=True, check=True).stdout
    return {name: set(packages) for name, packages in json.loads(out).items()}


def test_the_package_alone_loads_no_third_party_package(loaded: dict[str, set[str]]) -> None:
    third = HEAVY | {"numpy", "pandas", "scipy", "sklearn", "pyarrow", "duckdb", "pydantic", "jinja2"}
    assert not loaded["causalrec"] & third


def test_public_parts_load_none_of_the_heavy_packages(loaded: dict[str, set[str]]) -> None:
    # Each is looked at after those before it: what an earlier one loads would be seen at once, and named.
    parts = {part: loaded[f"causalrec.{part}"] for part in PARTS}
    assert {part: heavy for part, packages in parts.items() if (heavy := packages & HEAVY)} == {}


def test_parts_without_models_do_not_load_scikit_learn(loaded: dict[str, set[str]]) -> None:
    assert [part for part in LIGHT if "sklearn" in loaded[f"causalrec.{part}"]] == []


def test_pyplot_is_never_loaded(loaded: dict[str, set[str]]) -> None:
    assert "matplotlib.figure" in loaded["a figure"]
    assert "matplotlib.pyplot" not in loaded["a figure"]
