"""What MLflow is given: legal names, flat parameters, metrics of results, and what a run was made with."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from causalrec.results import RefutationResult, Result, SensitivityResult

_PACKAGES = (
    "causalrec",
    "numpy",
    "pandas",
    "scikit-learn",
    "xgboost",
    "duckdb",
    "pyspark",
    "dowhy",
    "econml",
    "mlflow",
)
VALUE_LIMIT, NAME_LIMIT = 6000, 250


def result_metrics(name: str, result: Result) -> dict[str, float]:
    """A result's numbers as metrics: the estimate under the name itself, the rest behind it."""
    skip: tuple[str, ...] = ("confidence_level", "k", "threshold")
    renamed = {"estimate": name, "n_obs": f"{name}_n"}
    more: dict[str, float] = {}
    if isinstance(result, RefutationResult):
        renamed = {"new_effect": name, "new_std": f"{name}_std", "estimate": f"{name}_refuted_estimate"}
        more = {f"{name}_passed": float(result.passed)}
    if isinstance(result, SensitivityResult):  # the estimate is that of the effect, logged as such
        skip = (*skip, "estimate", "ci_low", "ci_high")
    return more | {
        renamed.get(key, f"{name}_{key}"): float(value)
        for key, value in result.to_dict().items()
        if isinstance(value, int | float) and key not in skip
    }


def legal_name(name: str) -> str:
    """A name that MLflow takes for a metric, a parameter or a tag.

    Examples
    --------
    >>> legal_name("ndcg@10")
    'ndcg_at_10'
    """
    # A slash is legal but makes a path of the name, and not every path is.
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in name.replace("@", "_at_"))[:NAME_LIMIT]


def text_tags(values: Mapping[str, Any]) -> dict[str, str]:
    """Tags or parameters with names and lengths that MLflow takes."""
    return {legal_name(key): cut(str(value)) for key, value in values.items()}


def cut(text: str) -> str:
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 1]}…"


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots.

    Examples
    --------
    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that shape results."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit() -> str | None:
    """The commit of the working directory, with ``+`` when files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return None


def environment_tags() -> dict[str, str]:
    commit = git_commit()
    versions = {f"version.{k}": v for k, v in package_versions().items()}
    return {**versions, "python": sys.version.split()[0], **({"git_commit": commit} if commit else {})}
