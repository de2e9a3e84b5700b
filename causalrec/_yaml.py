"""YAML as configs need it: no key twice, 1e-3 is a number, and single keys replaced by ``a.b=value``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from causalrec.exceptions import ConfigError


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without its silence about a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """The counterpart of :class:`Loader`: it puts in quotes what that one would not read as text."""


# PyYAML follows YAML 1.1, in which 1e-3 is text.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
for _each in (Loader, Dumper):
    _each.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, on one line; PyYAML takes several."""
    mark = getattr(error, "problem_mark", None)
    parts = [text for text in (getattr(error, "context", None), getattr(error, "problem", None)) if text]
    text = ", ".join(parts) or " ".join(str(error).split())
    return text if mark is None else f"{text} (line {mark.line + 1}, column {mark.column + 1})"


# In an installed package and in a checkout.
_SHIPPED = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


def find_yaml(path: Path, folder: str = "") -> Path:
    """A path as it is; a bare name that is no file stands for one of a folder of ``configs``, here or shipped."""
    if path.exists() or path.parent != Path() or path.suffix:
        return path
    places = (place / folder for place in (Path("configs"), *_SHIPPED))
    return next((file for place in places if (file := place / f"{path}.yaml").is_file()), path)


def at_hand(file: Path, folder: str = "", wanted: Callable[[Path], bool] = lambda _: True) -> str:
    """The ``wanted`` files beside one that is not there, and names of those that are shipped, for the message."""
    places = dict.fromkeys([Path("configs") / folder, file if file.is_dir() else file.parent])
    beside = [p.as_posix() for place in places for p in sorted(place.glob("*.yaml")) if wanted(p)]
    shipped = {p.stem for place in _SHIPPED for p in (place / folder).glob("*.yaml") if wanted(p)}
    beside += sorted(shipped - {Path(b).stem for b in beside})
    return f" Those at hand: {', '.join(dict.fromkeys(beside))}." if beside else ""


def has_keys(file: Path, *keys: str) -> bool:
    """Whether a file is a YAML mapping with all these keys."""
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(raw, dict) and all(key in raw for key in keys)


def read_mapping(file: Path, *, what: str, sections: str, hint: Callable[[], str] = str) -> dict[str, Any]:
    """The mapping in a YAML file; ``what`` it is and its usual ``sections`` stand in the messages.

    Raises
    ------
    ConfigError
        For a file that is missing (with ``hint``), or holds something else.
    """
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)
    except (FileNotFoundError, IsADirectoryError) as error:
        found = "is a directory" if file.is_dir() else "does not exist"
        raise ConfigError(f"{what} {file} {found}; expected a YAML file.{hint()}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {file} cannot be read: {error}. Expected a YAML file in UTF-8.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} {file} cannot be read as YAML: {yaml_problem(error)}.") from error
    if not isinstance(raw, dict):
        found = "is empty" if raw is None else f"holds a {type(raw).__name__}"
        raise ConfigError(f"{what} {file} {found}; expected a mapping of sections such as {sections}.")
    return raw


def overridden(raw: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of ``raw`` with one key replaced; nothing is changed in place, as YAML anchors share nodes."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override!r} is not of the form key=value, such as --set data.options.n_users=50000.")
    try:
        value = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override!r}: the value cannot be read as YAML: {yaml_problem(error)}. Put text with signs in "
            "double quotes inside single ones: --set 'description=\"a: b\"'."
        ) from error
    return dict(_replaced(raw, parts, value, override))


def _replaced(node: Any, parts: Sequence[str], value: Any, override: str) -> Any:
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    if isinstance(node, list):
        if not part.isdecimal() or int(part) >= len(node):
            raise ConfigError(
                f"--set {override!r}: {part!r} picks no entry of a list of {len(node)}; expected a number from 0 to "
                f"{len(node) - 1}, or replace the whole list: key=[…]."
            )
        return [_replaced(each, rest, value, override) if i == int(part) else each for i, each in enumerate(node)]
    if node is not None and not isinstance(node, dict):
        raise ConfigError(f"--set {override!r}: there are no keys such as {part!r} below the single value {node!r}.")
    known = node or {}
    return {**known, part: _replaced(known.get(part), rest, value, override)}
