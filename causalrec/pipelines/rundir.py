"""Run directories: complete or absent.

A run is built by :func:`causalrec._files.new_directory`, so an interrupted one leaves nothing that could be taken for
a result.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from causalrec.config import RunConfig, RunSettings, load_config
from causalrec.exceptions import StoreError
from causalrec.pipelines.scoring import Scorer, load_scorer, save_scorer
from causalrec.results import Result, SegmentRule, dump_results, load_results

FIGURES, SEGMENTS = "figures", "segments.json"
_TRAIN = "train"


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run below ``path``."""

    path: Path

    @property
    def id(self) -> str:
        """The directory's name: UTC time, config name and a random suffix."""
        return self.path.name

    def config(self) -> RunConfig:
        """The resolved config that the run was made with."""
        return load_config(self.path / "config.yaml")

    def info(self) -> dict[str, Any]:
        """What ``run.json`` records: versions, data digests, tracking ids, notes."""
        return dict(json.loads((self.path / "run.json").read_text(encoding="utf-8")))

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        self._text("run.json", json.dumps(info, indent=1, default=str))

    def write_config(self, config: RunSettings) -> None:
        """Write the resolved config."""
        self._text("config.yaml", config.to_yaml())

    def write_results(self, results: Mapping[str, Result | Sequence[Result]]) -> None:
        """Write named results as JSON."""
        self._text("results.json", dump_results(results))

    def results(self) -> dict[str, Any]:
        """Read the named results back."""
        return load_results((self.path / "results.json").read_text(encoding="utf-8"))

    def model_path(self, name: str) -> Path:
        """Where the files of a model are."""
        return self.path / "models" / name

    def write_model(self, name: str, model: Scorer) -> None:
        """Write a model as files under ``models/``."""
        save_scorer(model, self.model_path(name))

    def model(self, name: str) -> Any:
        """Load a model of this run, or None when the run has none of that name.

        Where it needed a pickle (a causal forest), loading can run code: open only runs that you trust.
        """
        target = self.model_path(name)
        return load_scorer(target) if target.exists() else None

    def exists(self) -> bool:
        """Whether there is such a run, or such a part of one, and it is complete."""
        return (self.path / "run.json").is_file()

    def write_segments(self, rule: SegmentRule) -> None:
        """Write the rule that finds segments among new units, as JSON."""
        self._text(SEGMENTS, json.dumps(rule.to_dict(), indent=1))

    def segments(self) -> SegmentRule | None:
        """The rule that finds segments among new units, or None when there is none."""
        file = self.path / SEGMENTS
        return SegmentRule.from_dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def write_figures(self, figures: Mapping[str, bytes]) -> None:
        """Write PNGs by name under ``figures/``, numbered: names may be alike or long."""
        (self.path / FIGURES).mkdir()
        for i, (name, png) in enumerate(figures.items(), start=1):
            (self.path / FIGURES / f"{i:02d}_{name[:60]}.png").write_bytes(png)

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a frame as Parquet, e.g. ``holdout/uplift``."""
        target = self.path / f"{name}.parquet"
        target.parent.mkdir(exist_ok=True)
        frame.to_parquet(target, index=False)

    def frame(self, name: str) -> pd.DataFrame | None:
        """Read a frame of this run, or None when the run has none of that name."""
        target = self.path / f"{name}.parquet"
        return pd.read_parquet(target) if target.exists() else None

    def _text(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")


def new_run_path(output_dir: Path, name: str) -> Path:
    """A fresh path that sorts by time: ``runs/20260102T030405_name_a1b2c3``."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return output_dir / f"{stamp}_{name}_{secrets.token_hex(3)}"


def newest_run(output_dir: Path, name: str | None = None) -> RunDirectory:
    """The newest complete run below ``output_dir``, of the config ``name`` if given.

    Raises
    ------
    StoreError
        When there is none; the message says how to train one.
    """
    for path in sorted((p for p in output_dir.glob("[!.]*_*") if (p / "run.json").is_file()), reverse=True):
        run = RunDirectory(path)
        if run.info()["command"] == _TRAIN and (name is None or run.config().name == name):
            return run
    of_name = f" of config {name!r}" if name else ""
    remedy = f"causalrec train --config {name}" if name else "causalrec train"
    raise StoreError(f"no trained run{of_name} in {output_dir}{os.sep}; train one first: {remedy}")


def open_run(path: Path) -> RunDirectory:
    """A trained run by its directory; a :class:`StoreError` when it is not a complete one."""
    if not (path / "run.json").is_file():
        raise StoreError(
            f"{path} is not a complete run: it has no run.json. Give a directory made by `causalrec train`."
        )
    run = RunDirectory(path)
    command = run.info()["command"]
    if command != _TRAIN:
        raise StoreError(f"{path} was made by `causalrec {command}`; give a directory made by `causalrec train`.")
    return run
