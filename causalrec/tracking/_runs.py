"""The runs themselves. Once the store fails, the tracker says so, turns itself off, and later calls do nothing."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from causalrec._validation import optional_import
from causalrec.exceptions import CausalRecError, StoreError
from causalrec.results import Result
from causalrec.tracking._models import model_parts, thinned
from causalrec.tracking._names import cut, environment_tags, flatten, legal_name, result_metrics, text_tags
from causalrec.tracking._store import prepare_sqlite, resolve_uri, sqlite_file

_PARAM_LIMIT, _METRIC_LIMIT = 100, 1000
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
    optional_import("mlflow", extra="tracking")  # sets its loggers up, so that what is set below holds

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
        self._uri = ""
        self._experiment = ""
        self._session = uuid.uuid4().hex
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
        remedy = "" if isinstance(error, CausalRecError) else " Check tracking.uri."
        self.failure = f"tracking failed ({reason.rstrip('.')}); the run goes on and its files are kept.{remedy}"
        self._say(self.failure)

    def _start(
        self, uri: str, experiment: str, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        self.active = True
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of a server that is down: 7 take minutes
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        self._connect(uri, experiment)
        if self.active:
            self.top.run_id = self._create(run_name, {**environment_tags(), **tags})
            self.top.log_params(params)

    @_guarded
    def _connect(self, uri: str, experiment: str) -> None:
        import mlflow
        from mlflow.exceptions import MlflowException

        self._uri = resolve_uri(uri)
        file = sqlite_file(self._uri)
        if file is not None:
            prepare_sqlite(file)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            location = None if file is None else (file.parent / "mlartifacts").as_uri()
            try:
                self._experiment = self._client.create_experiment(experiment, location)
            except MlflowException:
                found = self._client.get_experiment_by_name(experiment)
                if found is None:  # not made by another process at this moment
                    raise
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise StoreError(
                    f"the experiment {experiment!r} is deleted; restore it with `mlflow experiments restore "
                    f"--experiment-id {found.experiment_id}`, or name another one in tracking.experiment"
                )
            self._experiment = found.experiment_id

    @contextmanager
    def _as_default(self) -> Iterator[None]:
        """Point MLflow's own functions at this store, and back at the caller's after."""
        import mlflow

        tracking = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        registry = mlflow.get_registry_uri() if tracking is not None else None
        mlflow.set_tracking_uri(self._uri)
        mlflow.set_registry_uri(self._uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(tracking)
            mlflow.set_registry_uri(None if registry == tracking else registry)
            if registry is None or registry == tracking:
                os.environ.pop("MLFLOW_REGISTRY_URI", None)  # which MLflow sets but never takes back

    @_guarded
    def _create(self, name: str, tags: Mapping[str, str] | None = None) -> Any:
        own = {"causalrec.session": self._session}
        if self.run_id is not None:
            own["mlflow.parentRunId"] = self.run_id
        run = self._client.create_run(self._experiment, run_name=name, tags={**text_tags(tags or {}), **own})
        return run.info.run_id

    @contextmanager
    def _ending(self, run: Stage) -> Iterator[None]:
        started = time.perf_counter()
        status, reason = "FINISHED", ""
        try:
            yield
        except Exception as error:
            status, reason = "FAILED", f"{type(error).__name__}: {error}"
            raise
        except BaseException:
            status = "KILLED"
            raise
        finally:
            if run.run_id is not None:
                self._end(run.run_id, status, reason, time.perf_counter() - started)
                if not self.active:  # turned off by a failure that may have passed: try once to close the run
                    with contextlib.suppress(Exception), _quiet():
                        self._client.set_terminated(run.run_id, status=status)
            if run is self.top and status != "FINISHED":
                self._end_lost(status)

    @_guarded
    def _end(self, run_id: str, status: str, reason: str, seconds: float) -> None:
        # A duration is a tag: as a metric it would differ between runs that are otherwise the same.
        self._client.set_tag(run_id, "duration_seconds", f"{seconds:.1f}")
        if reason:
            self._client.set_tag(run_id, "error", cut(reason))
        self._client.set_terminated(run_id, status=status)

    @_guarded
    def _end_lost(self, status: str) -> None:
        """End runs whose creation was interrupted before their id came back."""
        if not self._experiment:
            return
        mine = f"tags.`causalrec.session` = '{self._session}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment], mine):
            self._client.set_terminated(run.info.run_id, status=status)

    @_guarded
    def champion(self, name: str) -> Any:
        """The registered model's champion as (version, tags), or None."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version_by_alias(name, "champion")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model, no alias
                raise
            return None
        return str(found.version), dict(found.tags)

    @_guarded
    def load_champion(self, name: str) -> Any:
        """The champion as an object with ``predict(frame)``, which raises where the champion's files are gone.

        None only when tracking is off or fails: lost files are no fault of the store.
        """
        import mlflow
        from mlflow.exceptions import MlflowException

        try:
            with self._as_default():
                return mlflow.pyfunc.load_model(f"models:/{name}@champion")
        except (MlflowException, OSError, ImportError) as error:
            self._client.get_model_version_by_alias(name, "champion")  # the store itself must answer
            return _Unloadable(name, error)

    @_guarded
    def tag_version(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Note something on a registered version, such as how it did beside the champion."""
        self._tag_version(name, version, tags)

    @_guarded
    def set_champion(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Give a version the alias ``champion`` and note on it what it won by."""
        self._tag_version(name, version, tags)
        self._client.set_registered_model_alias(name, "champion", version)

    def _tag_version(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        for key, value in text_tags(tags).items():
            self._client.set_model_version_tag(name, version, key, value)


class _Unloadable:
    """A registered model whose files cannot be loaded; using it says so."""

    def __init__(self, name: str, reason: BaseException) -> None:
        self._name, self._reason = name, reason

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:  # noqa: ARG002 - the signature of a model
        raise StoreError(f"the champion of {self._name} cannot be loaded: {self._reason}") from self._reason


class Stage:
    """A run that results are logged to."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.run_id: str | None = None

    @_guarded
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Nested parameters, flattened."""
        from mlflow.entities import Param

        flat = [Param(k, v) for k, v in text_tags(flatten(params)).items()]
        for start in range(0, len(flat), _PARAM_LIMIT):
            self.tracker._client.log_batch(self.run_id, params=flat[start : start + _PARAM_LIMIT])

    @_guarded
    def log_results(self, results: Mapping[str, Result]) -> None:
        """Every number of the results as a metric: ``qini``, ``qini_ci_low``, ``qini_ci_high``, ``qini_n``, …"""
        self.log_metrics({k: v for name, result in results.items() for k, v in result_metrics(name, result).items()})

    @_guarded
    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Numbers by name; what is not finite is left out, ``@`` becomes ``_at_``."""
        self._log_points([(name, float(value), 0) for name, value in metrics.items()])

    @_guarded
    def log_history(self, name: str, values: Sequence[float]) -> None:
        """A series, such as a score after every boosting round; what is not finite is left out."""
        self._log_points([(name, float(value), step) for step, value in enumerate(values)])

    @_guarded
    def log_curves(self, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Several series of (step, value) in one batch, such as losses by trees; thinned where one cannot hold all."""
        self._log_points(thinned(curves, _METRIC_LIMIT))

    def _log_points(self, points: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(legal_name(name), value, now, step) for name, value, step in points if math.isfinite(value)]
        for start in range(0, len(batch), _METRIC_LIMIT):
            self.tracker._client.log_batch(self.run_id, metrics=batch[start : start + _METRIC_LIMIT])

    @_guarded
    def log_figure(self, axes: Any, file: str) -> None:
        """A figure as PNG."""
        self.tracker._client.log_figure(self.run_id, axes.figure, file)

    @_guarded
    def log_picture(self, png: bytes, file: str) -> None:
        """A picture that is drawn already, such as ``figures/curve.png``."""
        with tempfile.TemporaryDirectory() as place:
            scratch = Path(place) / Path(file).name
            scratch.write_bytes(png)
            self.tracker._client.log_artifact(self.run_id, str(scratch), str(Path(file).parent))

    @_guarded
    def log_frame(self, frame: pd.DataFrame, file: str) -> None:
        """A small table, shown in the UI."""
        plain = {c for c, t in frame.dtypes.items() if pd.api.types.is_numeric_dtype(t)}
        text = frame.assign(**{c: frame[c].map(str, na_action="ignore") for c in frame.columns if c not in plain})
        self.tracker._client.log_table(self.run_id, text, file)

    @_guarded
    def log_text(self, text: str, file: str) -> None:
        """A text artifact."""
        self.tracker._client.log_text(self.run_id, text, file)

    @_guarded
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags by name."""
        for key, value in text_tags(tags).items():
            self.tracker._client.set_tag(self.run_id, key, value)

    @_guarded
    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """A file, or all of a directory; below ``folder`` where one is named."""
        log = self.tracker._client.log_artifacts if path.is_dir() else self.tracker._client.log_artifact
        log(self.run_id, str(path), folder)

    @_guarded
    def log_dataset(
        self, name: str, source: str, digest: str, columns: Sequence[str], rows: int | None, *, context: str
    ) -> None:
        """Lineage by our digest of the whole content (MLflow's own looks at 10,000 rows)."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        schema = json.dumps({"mlflow_colspec": [{"type": "string", "name": c, "required": False} for c in columns]})
        profile = json.dumps({"num_rows": rows, "num_columns": len(columns)})
        dataset = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), schema, profile)
        tagged = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        self.tracker._client.log_inputs(self.run_id, [tagged])

    @_guarded
    def log_model(self, directory: Path, name: str, example: pd.DataFrame, *, loader: str, registered_name: str) -> Any:
        """Log and register a directory of plain files as a pyfunc; returns the registered version.

        ``loader`` names the module whose ``_load_pyfunc(directory)`` gives an object with ``predict(frame)``.
        """
        import mlflow

        parts = model_parts(directory, loader, example)
        with self.tracker._as_default():
            with mlflow.start_run(run_id=self.run_id, nested=True):
                info = mlflow.pyfunc.log_model(name=name, **parts)
            # Leaving start_run ends the run; the stage ends it itself.
            self.tracker._client.update_run(self.run_id, status="RUNNING")
            return self._register(registered_name, info)

    def _register(self, name: str, info: Any) -> str:
        from mlflow.exceptions import MlflowException

        client = self.tracker._client
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(client.create_model_version(name, info.model_uri, self.run_id, model_id=info.model_id).version)
