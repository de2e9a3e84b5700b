"""Fitted models as plain files: JSON for settings and form, ``.npy`` for arrays, ``.ubj`` for XGBoost's trees.

Reading runs no code from the files: classes are looked up among those of causalrec and XGBoost's estimators, and
estimators of other packages are kept by skops, which refuses types that nobody named as trusted. What fits into none of
these, such as EconML's estimators, is pickled only where that is asked for, in writing and again in reading.
"""

from __future__ import annotations

import importlib
import json
import math
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalrec._validation import list_some, optional_import
from causalrec.exceptions import CausalRecError, MissingExtraError, StoreError

FORMAT = 1
_FILE = "object.json"
# Whose classes (never functions) may be inside an estimator that skops keeps, beside those that skops knows itself: it
# leaves out parts of scikit-learn that are written in C, such as the trees of forests.
_TRUSTED = ("causalrec.", "lightgbm.", "sklearn.", "xgboost.")
_TOO_TANGLED = ("econml.",)  # for skops, which takes minutes and gigabytes before it fails


def write_object(
    obj: Any, directory: Path, *, about: Mapping[str, Any] | None = None, allow_pickle: bool = False
) -> None:
    """Write an object into an existing, empty directory.

    Parameters
    ----------
    obj : object
        Of a class of causalrec, or an estimator of XGBoost or scikit-learn's kind, with whatever such objects hold:
        numbers, text, containers, arrays, categories, boosters, and one another.
    about : mapping, optional
        What a person who opens the directory wants to know; JSON, not used for reading.
    allow_pickle : bool
        Whether a part that plain files cannot hold becomes a pickle.

    Raises
    ------
    StoreError
        Naming the part that plain files cannot hold, where pickles are not allowed.
    MissingExtraError
        When a part needs skops and it is not installed.
    """
    root = _Writer(directory, allow_pickle).node(obj, where=type(obj).__name__)
    text = {"format": FORMAT, "class": _path_of(type(obj)), **(about or {}), "object": root}
    (directory / _FILE).write_text(json.dumps(text, indent=1, ensure_ascii=False), encoding="utf-8")


def read_object(directory: Path, *, trusted: Collection[str] = (), allow_pickle: bool = False) -> Any:
    """Read what :func:`write_object` wrote, to the bit.

    Parameters
    ----------
    trusted : names of types, optional
        Types of other packages that skops may build, beside those that it knows.
    allow_pickle : bool
        Whether to load pickles, which can run any code: only for files of people whom you trust.

    Raises
    ------
    StoreError
        When there is nothing of the kind, a newer version wrote it, a file is damaged, or a part is not trusted.
    """
    file = directory / _FILE
    if not file.is_file():
        raise StoreError(f"{directory} holds no saved model: it has no {_FILE}. Give a directory made by saving one.")
    try:
        text = json.loads(file.read_text(encoding="utf-8"))
        written = text["format"]
        if written > FORMAT:
            raise StoreError(
                f"{directory} was saved in format {written}; this version of causalrec reads up to {FORMAT}. Update it."
            )
        return _Reader(directory, tuple(trusted), allow_pickle).value(text["object"])
    except CausalRecError:
        raise
    except Exception as error:  # whatever a damaged file breaks: numpy, XGBoost, skops and JSON each in its own way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise StoreError(f"{directory}: a file is damaged ({reason}). Save the model again.") from error


class _Writer:
    """Turns values into JSON nodes, and big ones into files beside it; an object met twice is written once."""

    def __init__(self, directory: Path, allow_pickle: bool) -> None:
        self.directory = directory
        self.allow_pickle = allow_pickle
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no id is used again while writing
        self.n_files = 0

    def node(self, value: Any, *, where: str) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) is list:
            return [self.node(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self.node(item, where=f"{where}[{i}]") for i, item in enumerate(value)]}
        if type(value) is dict:
            pairs = [[self.node(k, where=where), self.node(v, where=f"{where}[{k!r}]")] for k, v in value.items()]
            return {"dict": pairs}
        if isinstance(value, np.generic):
            return {"scalar": str(value.dtype), "value": self.node(value.item(), where=where)}
        if isinstance(value, pd.CategoricalDtype):
            return {"categories": self._index(value.categories, where), "ordered": bool(value.ordered)}
        return self._shared(value, where)

    def _shared(self, value: Any, where: str) -> Any:
        if id(value) in self.seen:
            return {"same": self.seen[id(value)]}
        number = self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        return {"id": number, **self._big(value, where)}

    def _big(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if _is_booster(value):
            name = self._new_file("booster", "ubj")
            value.save_model(self.directory / name)
            threads = json.loads(value.save_config())["learner"]["generic_param"].get("nthread", "0")
            return {"booster": name, "nthread": int(threads)}
        cls = type(value)
        if _is_ours(cls):
            return {"object": _path_of(cls), "state": self.node(_state(value), where=where)}
        tangled = cls.__module__.startswith(_TOO_TANGLED)
        if not tangled and hasattr(value, "get_params") and hasattr(value, "fit"):
            return self._estimator(value, where)
        if self.allow_pickle:
            name = self._new_file("pickle", "pkl")
            (self.directory / name).write_bytes(pickle.dumps(value))
            return {"pickle": name, "class": _path_of(cls)}
        raise StoreError(
            f"{where} is a {_path_of(cls)}, which plain files cannot hold; expected numbers, text, arrays, and "
            "estimators of causalrec, XGBoost or scikit-learn. Replace it, such as a generator by its seed, or pass "
            "allow_pickle=True here and in loading: whoever loads a pickle must trust who made it."
        )

    def _array(self, value: Any, where: str) -> dict[str, Any]:
        if value.dtype.kind == "O":
            items = [self.node(item, where=f"{where}[{i}]") for i, item in enumerate(value.ravel().tolist())]
            return {"objects": items, "shape": list(value.shape)}
        name = self._new_file("array", "npy")
        np.save(self.directory / name, value, allow_pickle=False)
        return {"array": name}

    def _index(self, index: pd.Index, where: str) -> dict[str, Any]:
        items = [self.node(item, where=f"{where}, a category") for item in index.tolist()]
        return {"values": items, "dtype": str(index.dtype)}

    def _estimator(self, value: Any, where: str) -> dict[str, Any]:
        try:
            skops = optional_import("skops.io", extra="tracking")
        except MissingExtraError as error:
            raise MissingExtraError(
                f"{where} is a {_path_of(type(value))}, which is saved by skops, and that is not installed; install it "
                "with: pip install skops. Boosted bases need none."
            ) from error
        name = self._new_file("estimator", "skops")
        try:
            skops.dump(value, self.directory / name)
        except Exception as error:  # skops fails in the terms of the part that it does not know
            raise StoreError(f"{where} is a {_path_of(type(value))}, which skops cannot save: {error}") from error
        return {"estimator": name, "class": _path_of(type(value))}

    def _new_file(self, stem: str, ending: str) -> str:
        self.n_files += 1
        return f"{stem}_{self.n_files:03d}.{ending}"


class _Reader:
    """Turns nodes back into values."""

    def __init__(self, directory: Path, trusted: tuple[str, ...], allow_pickle: bool) -> None:
        self.directory = directory
        self.trusted = trusted
        self.allow_pickle = allow_pickle
        self.known: dict[int, Any] = {}

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "same" in node:
            return self.known[node["same"]]
        if "id" in node:
            return self._shared(node)
        if "float" in node:
            return float(node["float"])
        if "tuple" in node:
            return tuple(self.value(item) for item in node["tuple"])
        if "dict" in node:
            return {self.value(k): self.value(v) for k, v in node["dict"]}
        if "scalar" in node:
            return np.dtype(node["scalar"]).type(self.value(node["value"]))
        categories = node["categories"]
        index = pd.Index([self.value(item) for item in categories["values"]], dtype=categories["dtype"])
        return pd.CategoricalDtype(index, ordered=node["ordered"])

    def _shared(self, node: dict[str, Any]) -> Any:
        if "object" in node:
            cls = _class_at(node["object"])
            made: Any = object.__new__(cls)
            self.known[node["id"]] = made
            _restore(made, self.value(node["state"]))
            return made
        made = self.known[node["id"]] = self._big(node)
        return made

    def _big(self, node: dict[str, Any]) -> Any:
        if "array" in node:
            return np.load(self.directory / node["array"], allow_pickle=False)
        if "objects" in node:
            flat = np.empty(len(node["objects"]), dtype=object)
            for i, item in enumerate(node["objects"]):
                flat[i] = self.value(item)
            return flat.reshape(node["shape"])
        if "booster" in node:
            import xgboost

            booster = xgboost.Booster(model_file=self.directory / node["booster"])
            if node["nthread"]:
                booster.set_param({"nthread": node["nthread"]})
            return booster
        if "pickle" in node:
            return self._pickled(self.directory / node["pickle"], node["class"])
        return self._estimator(self.directory / node["estimator"], node["class"])

    def _pickled(self, file: Path, name: str) -> Any:
        if not self.allow_pickle:
            raise StoreError(
                f"{file} is the pickle of a {name}, and loading one can run any code. If you trust who saved it, pass "
                "allow_pickle=True."
            )
        return pickle.loads(file.read_bytes())

    def _estimator(self, file: Path, name: str) -> Any:
        skops = optional_import("skops.io", extra="tracking")
        unknown = skops.get_untrusted_types(file=file)
        odd = [t for t in unknown if t not in self.trusted and not _is_known_class(t)]
        if odd:
            raise StoreError(
                f"{file} holds a {name} with types that reading would run code of: {list_some(odd)}. If you trust who "
                "saved it, name them: trusted=[…]."
            )
        return skops.load(file, trusted=unknown)


def _state(value: Any) -> dict[str, Any]:
    """The attributes of an object, as it gives them away for pickling."""
    state = value.__getstate__()
    if isinstance(state, tuple):  # of a class with slots: a dictionary, or None, and the slots
        state = {k: v for part in state if part for k, v in part.items()}
    return dict(state or {})


def _restore(made: Any, state: dict[str, Any]) -> None:
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    for name, value in state.items():
        object.__setattr__(made, name, value)  # past the lock of a frozen dataclass


def _path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_booster(value: Any) -> bool:
    return _path_of(type(value)) == "xgboost.core.Booster"


def _is_ours(cls: type) -> bool:
    """Classes whose attributes are written one by one: ours, and XGBoost's estimators."""
    return cls.__module__.startswith("causalrec.") or (
        cls.__module__ == "xgboost.sklearn" and cls.__name__.startswith("XGB")
    )


def _is_known_class(path: str) -> bool:
    return path.startswith(_TRUSTED) and isinstance(_found_at(path), type)


def _class_at(path: str) -> type:
    found = _found_at(path) if path.startswith(("causalrec.", "xgboost.sklearn.")) else None
    if not isinstance(found, type) or not _is_ours(found):
        raise StoreError(f"found a saved {path}, which this version of causalrec does not know. Save the model again.")
    return found


def _found_at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
