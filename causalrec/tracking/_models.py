"""Models in MLflow: directories of plain files, and the function that reads them; nothing is pickled."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import optional_import
from causalrec.exceptions import StoreError

_PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "xgboost")
_LEARNERS = "causalrec.uplift.saving"


def log_learner(
    directory: str | Path, example: Any, *, name: str = "learner", registered_name: str | None = None
) -> Any:
    """Log a saved learner to MLflow as a pyfunc, in the active run or one of its own.

    The model consists of the files that :func:`causalrec.uplift.save_learner` wrote, this package's code, a signature,
    an input example and pinned requirements. ``mlflow.pyfunc.load_model`` gives the same predictions to the bit: a
    frame with a column ``uplift``, or ``uplift_<arm>`` for each arm but control where there are more than two.

    Parameters
    ----------
    directory : path
        Made by ``save_learner``.
    example : frame or array of shape (m, p)
        A few rows of covariates, as ``predict`` takes them; they are stored with the model.
    name : str
    registered_name : str, optional
        Register the model under this name.

    Returns
    -------
    mlflow's ModelInfo; ``info.model_uri`` is what ``mlflow.pyfunc.load_model`` takes.

    Raises
    ------
    StoreError
        When the directory holds no learner.
    MissingExtraError
        Without MLflow (``pip install 'causalrec[tracking]'``).
    """
    mlflow = optional_import("mlflow", extra="tracking")
    rows = example.head(5) if hasattr(example, "head") else np.asarray(example)[:5]
    parts = model_parts(Path(directory), _LEARNERS, rows.to_pandas() if hasattr(rows, "to_pandas") else rows)
    return mlflow.pyfunc.log_model(name=name, registered_model_name=registered_name, **parts)


def model_parts(directory: Path, loader: str, example: Any) -> dict[str, Any]:
    """The arguments of ``mlflow.pyfunc.log_model`` for a directory that a module's ``_load_pyfunc`` reads.

    The signature of a frame takes any type: MLflow would refuse integers where it saw floats, and the model checks
    its columns itself. What each column held stands in the model's metadata.
    """
    if not directory.is_dir():
        raise StoreError(f"{directory} is no directory; expected one that a model was saved in.")
    model = importlib.import_module(loader)._load_pyfunc(str(directory))  # by name, as MLflow calls it
    plain, kinds = plain_example(example)
    found = {
        "loader_module": loader, "data_path": str(directory), "code_paths": [str(Path(__file__).parents[1])],
        "signature": _signature(plain, kinds, model.predict(plain)), "input_example": plain,
        "pip_requirements": requirements(directory),
    }  # fmt: skip
    return found if kinds is None else {**found, "metadata": {"columns": kinds}}


def plain_example(example: Any) -> tuple[Any, dict[str, str] | None]:
    """Rows in the types that JSON keeps, numbers and text, and the kind of every column of a frame."""
    if not isinstance(example, pd.DataFrame):
        return np.asarray(example), None
    kinds = {str(c): "number" if pd.api.types.is_numeric_dtype(t) else "text" for c, t in example.dtypes.items()}
    types = {c: "float64" if kinds[str(c)] == "number" else "object" for c in example.columns}
    return example.astype(types), kinds


def requirements(directory: Path) -> list[str]:
    """The packages that reading and predicting take, at the versions that are installed."""
    text = (directory / "object.json").read_text(encoding="utf-8") if (directory / "object.json").is_file() else ""
    wanted = [*_PACKAGES, *(["skops"] if any(directory.rglob("*.skops")) else [])]
    wanted += [package for package in ("econml", "lightgbm") if f'"{package}.' in text]
    return [f"{package}=={metadata.version(package)}" for package in wanted]


def _signature(example: Any, kinds: Mapping[str, str] | None, output: pd.DataFrame) -> Any:
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    if kinds is None:
        return infer_signature(example, output)
    return ModelSignature(
        Schema([ColSpec(AnyType(), c) for c in kinds]), Schema([ColSpec(DataType.double, c) for c in output.columns])
    )


def thinned(curves: Mapping[str, Sequence[tuple[int, float]]], limit: int) -> list[tuple[str, float, int]]:
    """Points (name, value, step) of several series of (step, value), evenly thinned to at most ``limit``.

    The first and the last of each series are kept.

    Examples
    --------
    >>> thinned({"loss": [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.5), (4, 0.25)]}, 3)
    [('loss', 3.0, 0), ('loss', 1.0, 2), ('loss', 0.25, 4)]
    """
    longest = max(map(len, curves.values()), default=1)
    points: list[tuple[str, float, int]] = []
    for stride in range(1, longest + 1):
        points = []
        for name, series in curves.items():
            kept = sorted({*range(0, len(series), stride), len(series) - 1} - {-1})
            points += [(name, float(series[i][1]), int(series[i][0])) for i in kept]
        if len(points) <= limit:
            break
    return points[:limit]
