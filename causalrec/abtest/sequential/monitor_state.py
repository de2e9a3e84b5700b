"""What a monitor keeps between looks, and the file that holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalrec._files import new_file
from causalrec._validation import list_some
from causalrec.abtest.aggregates import Aggregates
from causalrec.abtest.aggregates_json import dump_aggregates, load_aggregates
from causalrec.exceptions import CausalRecError, StoreError
from causalrec.results import MonitorResult, dump_results, load_results

_FORMAT, _VERSION = "causalrec monitor", 1
_NOT_DESIGN = ("inference", "decision")  # how an experiment would be read at its end


@dataclass(frozen=True)
class State:
    """All moments so far, the last look, which holds those before, and the digests of the data that were added."""

    cumulative: bool
    aggregates: Aggregates
    status: MonitorResult
    digests: tuple[str, ...]


def describe(experiment: Any, **options: Any) -> dict[str, Any]:
    """An experiment and how it is monitored in plain values, the same in every process.

    Examples
    --------
    >>> from causalrec.abtest import Experiment, Mean
    >>> described = describe(Experiment({"spend": Mean("spend")}, variant="arm", control="A"), stop_when="all")
    >>> described["control"], described["stop_when"]
    ('A', 'all')
    """
    design = {f.name: _plain(getattr(experiment, f.name)) for f in fields(experiment) if f.name not in _NOT_DESIGN}
    return design | {name: _plain(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value):
        held = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        return {"kind": type(value).__name__} | held
    if isinstance(value, Mapping):
        return sorted(([_plain(k), _plain(v)] for k, v in value.items()), key=lambda pair: str(pair[0]))
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return f"function {value.__module__}.{value.__qualname__}"
    return f"{type(value).__name__} {value}"


def digest_of(text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def design_digest(description: Mapping[str, Any]) -> str:
    """That of an experiment, by its description."""
    return digest_of(json.dumps(description, sort_keys=True))


def write_state(path: Path, state: State, description: Mapping[str, Any]) -> None:
    """Write all of it or nothing, so that a process that dies leaves the state before or after, never half of one."""
    held = {
        "format": _FORMAT, "version": _VERSION, "digest": design_digest(description), "experiment": description,
        "cumulative": state.cumulative, "digests": list(state.digests),
        "aggregates": json.loads(dump_aggregates(state.aggregates)),
        **json.loads(dump_results({"status": state.status})),
    }  # fmt: skip
    with new_file(path) as scratch:
        scratch.write_text(json.dumps(held, ensure_ascii=False), encoding="utf-8")


def read_state(path: Path, description: Mapping[str, Any]) -> State | None:
    """The state in a file; ``None`` where there is no file yet.

    Raises
    ------
    StoreError
        For a file that cannot be read, or holds something else.
    CausalRecError
        For the state of another experiment, with what differs.
    """
    if not path.exists():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read the monitor's state {path}: {error}. Restore it, or start a new file."
        ) from error
    if not isinstance(held, dict) or held.get("format") != _FORMAT:
        raise StoreError(f"{path} is not the state of a monitor. Give the path of one, or of a file yet to be made.")
    if held.get("version") != _VERSION:
        raise StoreError(
            f"{path} has version {held.get('version')!r} of the state; expected {_VERSION}. Read it with the causalrec "
            "that wrote it."
        )
    _check_same(path, held, description)
    return State(
        held["cumulative"], load_aggregates(json.dumps(held["aggregates"])),
        load_results(json.dumps({"status": held["status"]}))["status"], tuple(held["digests"]),
    )  # fmt: skip


def _check_same(path: Path, held: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    mine, theirs = design_digest(description), held["digest"]
    if mine == theirs:
        return
    kept = held["experiment"]
    differ = [
        name for name in {**kept, **description} if kept.get(name) != json.loads(json.dumps(description.get(name)))
    ]
    raise CausalRecError(
        f"{path} is the state of experiment {theirs}, not of this one, {mine}: they differ in {list_some(differ)}. A "
        "plan that changes while it runs is no plan: take the one that it began with, or a new file."
    )
