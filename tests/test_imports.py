"""``import causalrec`` is light, and no public part loads what it does not need."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"dowhy", "econml", "mlflow", "pyspark", "matplotlib", "xgboost", "streamlit", "plotly", "lifelines"}
PARTS = (
    "abtest", "survival", "uplift", "evaluation", "policy", "ranking", "observational", "features", "engines",
    "datasets", "plots", "report", "tracking", "results", "moments", "config",
)  # fmt: skip


def loaded_by(*modules: str) -> dict[str, set[str]]:
    """The top-level packages that are loaded after each import, one after the other in a fresh interpreter."""
    code = (
        "import importlib, json, sys\nfound = {}\n"
        f"for name in {list(modules)!r}:\n"
        "    importlib.import_module(name)\n"
        "    found[name] = sorted({m.split('.')[0] for m in sys.modules})\n"
        "print(json.dumps(found))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name: set(packages) for name, packages in json.loads(out).items()}


def test_the_package_alone_loads_no_third_party_package() -> None:
    loaded = loaded_by("causalrec")["causalrec"]
    assert not loaded & (HEAVY | {"numpy", "pandas", "scipy", "sklearn", "pyarrow", "duckdb", "pydantic", "jinja2"})


def test_public_parts_load_none_of_the_heavy_packages() -> None:
    found = loaded_by(*(f"causalrec.{part}" for part in PARTS))
    # Each is looked at after those before it: what an earlier one loads would be seen at once, and named.
    assert {part: heavy for part, packages in found.items() if (heavy := packages & HEAVY)} == {}


def test_parts_without_models_do_not_load_scikit_learn() -> None:
    found = loaded_by(*(f"causalrec.{p}" for p in ("results", "engines", "features", "datasets", "plots", "report")))
    assert "sklearn" not in set().union(*found.values())
