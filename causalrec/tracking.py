"""Runs in MLflow: a parent run per command, a child run per stage. Tracking never stops a run.

Once the store fails, the tracker says so, turns itself off, and every later call does nothing.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from causalrec.results import Result

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
_PARAM_LIMIT, _METRIC_LIMIT, _VALUE_LIMIT = 100, 1000, 6000
_F = TypeVar("_F", bound=Callable[..., Any])


def _guarded(method: _F) -> _F:
    """Turn a failing store into a message and silence; results are on disk in any case."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        tracker = self if isinstance(self, Tracker) else self.tracker
        if not tracker.active:
            return None
        try:
            with _quiet():
                return method(self, *args, **kwargs)
        except Exception as error:
            tracker.fail(error)
            return None

    return call  # type: ignore[return-value]


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow and alembic print every migration and hint; none of it is about the user's data."""
    import mlflow  # noqa: F401 - sets its loggers up, so that what is set below holds

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Tracker:
    """A parent run and its stages; made by :meth:`open`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.active = False
        self.failure: str | None = None
        self.top = Stage(self)
        self._client: Any = None
        self._experiment = ""
        self._say = say

    @classmethod
    @contextmanager
    def open(
        cls,
        *,
        uri: str,
        experiment: str,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        enabled: bool = True,
        say: Callable[[str], None] = warnings.warn,
    ) -> Iterator[Tracker]:
        """Open a parent run; it ends FINISHED, FAILED (with the error as a tag) or, when interrupted, KILLED."""
        tracker = cls(say)
        with tracker._ending(tracker.top):
            if enabled:
                tracker._start(uri, experiment, run_name, params, tags)
            yield tracker

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """A child run for a stage."""
        stage = Stage(self)
        with self._ending(stage):
            stage.run_id = self._create(name)
            yield stage

    @property
    def run_id(self) -> str | None:
        """The parent run's id; None when tracking is off."""
        return self.top.run_id

    def fail(self, error: BaseException) -> None:
        """Turn tracking off and say why."""
        self.active = False
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        self.failure = f"tracking failed ({reason}); the run goes on and its files are kept. Check tracking.uri."
        self._say(self.failure)

    def _start(
        self, uri: str, experiment: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        self.active = True
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        self._connect(uri, experiment)
        if self.active:
            self.top.run_id = self._create(run_name, {**_environment_tags(), **tags})
            self.top.log_params(params)

    @_guarded
    def _connect(self, uri: str, experiment: str) -> None:
        import mlflow

        resolved = resolve_uri(uri)
        mlflow.set_tracking_uri(resolved)
        mlflow.set_registry_uri(resolved)
        self._client = mlflow.MlflowClient(tracking_uri=resolved, registry_uri=resolved)
        found = self._client.get_experiment_by_name(experiment)
        base = Path(resolved.removeprefix("sqlite:///")).parent if resolved.startswith("sqlite:///") else None
        location = None if base is None else (base / "mlartifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(experiment, location)

    @_guarded
    def _create(self, name: str, tags: Mapping[str, str] | None = None) -> Any:
        parent = {} if self.run_id is None else {"mlflow.parentRunId": self.run_id}
        run = self._client.create_run(self._experiment, run_name=name, tags={**(tags or {}), **parent})
        return run.info.run_id

    @contextmanager
    def _ending(self, run: Stage) -> Iterator[None]:
        started = time.perf_counter()
        status, reason = "FINISHED", ""
        try:
            yield
        except Exception as error:
            status, reason = "FAILED", f"{type(error).__name__}: {error}"[:_VALUE_LIMIT]
            raise
        except BaseException:
            status = "KILLED"
            raise
        finally:
            if run.run_id is not None:
                self._end(run.run_id, status, reason, time.perf_counter() - started)
                if not self.active:  # turned off by a failure that may have passed: try once to close the run
                    with contextlib.suppress(Exception):
                        self._client.set_terminated(run.run_id, status=status)

    @_guarded
    def _end(self, run_id: str, status: str, reason: str, seconds: float) -> None:
        # A duration is a tag: as a metric it would differ between runs that are otherwise the same.
        self._client.set_tag(run_id, "duration_seconds", f"{seconds:.1f}")
        if reason:
            self._client.set_tag(run_id, "error", reason)
        self._client.set_terminated(run_id, status=status)
        if status != "FINISHED" and run_id == self.run_id:
            self._end_orphans(run_id, status)

    def _end_orphans(self, run_id: str, status: str) -> None:
        """End children whose creation was interrupted before their id came back."""
        children = self._client.search_runs([self._experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
        for child in children:
            if child.info.status == "RUNNING":
                self._client.set_terminated(child.info.run_id, status=status)

    @_guarded
    def champion(self, name: str) -> Any:
        """The registered model's champion as (version, tags), or None."""
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):
            found = self._client.get_model_version_by_alias(name, "champion")
            return found.version, dict(found.tags)
        return None

    @_guarded
    def load_champion(self, name: str) -> Any:
        """The champion as an object with ``predict(frame)``."""
        import mlflow

        return mlflow.pyfunc.load_model(f"models:/{name}@champion")

    @_guarded
    def set_champion(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Give a version the alias ``champion`` and note on it what it won by."""
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)
        self._client.set_registered_model_alias(name, "champion", version)


class Stage:
    """A run that results are logged to."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.run_id: Any = None

    @_guarded
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Nested parameters, flattened."""
        from mlflow.entities import Param

        flat = [Param(k, str(v)[:_VALUE_LIMIT]) for k, v in flatten(params).items()]
        for start in range(0, len(flat), _PARAM_LIMIT):
            self.tracker._client.log_batch(self.run_id, params=flat[start : start + _PARAM_LIMIT])

    @_guarded
    def log_results(self, results: Mapping[str, Result]) -> None:
        """Every number of the results as a metric: ``qini``, ``qini_ci_low``, ``qini_ci_high``, ``qini_n``, …"""
        self.log_metrics({k: v for name, result in results.items() for k, v in result_metrics(name, result).items()})

    @_guarded
    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Numbers by name; what is not finite is left out, ``@`` becomes ``_at_``."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        legal = {legal_name(k): float(v) for k, v in metrics.items() if math.isfinite(float(v))}
        batch = [Metric(k, v, now, 0) for k, v in legal.items()]
        for start in range(0, len(batch), _METRIC_LIMIT):
            self.tracker._client.log_batch(self.run_id, metrics=batch[start : start + _METRIC_LIMIT])

    @_guarded
    def log_history(self, name: str, values: Sequence[float]) -> None:
        """A series, such as a score after every boosting round."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(legal_name(name), float(v), now, step) for step, v in enumerate(values)]
        for start in range(0, len(batch), _METRIC_LIMIT):
            self.tracker._client.log_batch(self.run_id, metrics=batch[start : start + _METRIC_LIMIT])

    @_guarded
    def log_figure(self, axes: Any, file: str) -> None:
        """A figure as PNG."""
        self.tracker._client.log_figure(self.run_id, axes.figure, file)

    @_guarded
    def log_frame(self, frame: pd.DataFrame, file: str) -> None:
        """A small table, shown in the UI."""
        text = frame.astype(dict.fromkeys(frame.select_dtypes("object"), str))
        self.tracker._client.log_table(self.run_id, text, file)

    @_guarded
    def log_text(self, text: str, file: str) -> None:
        """A text artifact."""
        self.tracker._client.log_text(self.run_id, text, file)

    @_guarded
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags by name."""
        for key, value in tags.items():
            self.tracker._client.set_tag(self.run_id, key, value)

    @_guarded
    def log_artifact(self, path: Path) -> None:
        """A file."""
        self.tracker._client.log_artifact(self.run_id, str(path))

    @_guarded
    def log_dataset(self, name: str, source: str, digest: str, columns: Sequence[str], rows: int | None) -> None:
        """Lineage by our digest of the whole content (MLflow's own looks at 10,000 rows)."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        schema = json.dumps({"mlflow_colspec": [{"type": "string", "name": c, "required": False} for c in columns]})
        profile = json.dumps({"num_rows": rows, "num_columns": len(columns)})
        dataset = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), schema, profile)
        tagged = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self.tracker._client.log_inputs(self.run_id, [tagged])

    @_guarded
    def log_model(
        self, scorer: Any, name: str, example: pd.DataFrame, *, requirements: Sequence[str], registered_name: str
    ) -> Any:
        """Log and register anything with ``predict(frame)`` as a pyfunc; returns the registered version.

        The signature takes any type: MLflow would refuse integers where it saw floats, and the scorer checks its
        columns itself. What each column held in training stands in the model's metadata.
        """
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.models import ModelSignature
        from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

        class Scoring(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
                return self.inner.predict(model_input)

        types = {str(c): "number" if pd.api.types.is_numeric_dtype(t) else "text" for c, t in example.dtypes.items()}
        plain = example.astype({c: "float64" if t == "number" else "object" for c, t in types.items()})
        signature = ModelSignature(
            Schema([ColSpec(AnyType(), c) for c in types]),
            Schema([ColSpec(DataType.double, c) for c in scorer.predict(plain).columns]),
        )
        with mlflow.start_run(run_id=self.run_id, nested=True):
            info = mlflow.pyfunc.log_model(
                name=name, python_model=Scoring(scorer), input_example=plain, pip_requirements=list(requirements),
                signature=signature, code_paths=[str(Path(__file__).parent)], metadata={"columns": types},
            )  # fmt: skip
        client = self.tracker._client
        # Leaving start_run ends the run; the stage ends it itself.
        client.update_run(self.run_id, status="RUNNING")
        with contextlib.suppress(MlflowException):  # it is there already
            client.create_registered_model(registered_name)
        made = client.create_model_version(registered_name, info.model_uri, self.run_id, model_id=info.model_id)
        return str(made.version)


def result_metrics(name: str, result: Result) -> dict[str, float]:
    """A result's numbers as metrics: the estimate under the name itself, the rest behind it."""
    skip = ("confidence_level", "k", "threshold")
    renamed = {"estimate": name, "n_obs": f"{name}_n"}
    return {
        renamed.get(key, f"{name}_{key}"): float(value)
        for key, value in result.to_dict().items()
        if isinstance(value, int | float) and key not in skip
    }


def legal_name(name: str) -> str:
    """A name that MLflow takes."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name.replace("@", "_at_"))


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


def resolve_uri(uri: str) -> str:
    """An SQLite path made absolute, so that the store does not move with the working directory."""
    return f"sqlite:///{Path(uri[10:]).absolute()}" if uri.startswith("sqlite:///") else uri


def git_commit() -> str | None:
    """The commit of the working directory, with ``+`` when files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return None


def _environment_tags() -> dict[str, str]:
    commit = git_commit()
    versions = {f"version.{k}": v for k, v in package_versions().items()}
    return {**versions, "python": sys.version.split()[0], **({"git_commit": commit} if commit else {})}


def serve_ui(uri: str, *, host: str, port: int) -> None:
    """Run the MLflow UI on a store until it is interrupted."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", resolve_uri(uri),
               "--host", host, "--port", str(port)]  # fmt: skip
    # Away from the working directory, where an old ./mlruns would be taken for the store.
    with tempfile.TemporaryDirectory() as elsewhere, contextlib.suppress(KeyboardInterrupt):
        subprocess.run(command, check=False, cwd=elsewhere)
