"""Validation of what people write in YAML: pydantic's models, and errors that a person can act on."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import is_typeddict  # pydantic takes typed dicts of typing only from Python 3.12 on

from causalrec._validation import list_some, nearest
from causalrec.exceptions import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Built = TypeVar("Built")

Fraction = Annotated[float, Field(gt=0, lt=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Threads = Annotated[int, Field(strict=True, ge=-1)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A frozen mapping whose keys are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def validated(model: type[Model], raw: Mapping[str, Any], *, where: str) -> Model:
    """Build a model; raises :class:`ConfigError` with one sentence for each key that is unknown, missing or wrong."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: {' '.join(_explain(model, item) for item in error.errors())}") from error


def built(cls: type[Built], options: Mapping[str, Any]) -> Built:
    """Make a dataclass of a mapping; its own fields are the known keys, and their types are checked.

    Raises
    ------
    ValueError
        With a sentence for each key that is unknown, missing or wrong, and what the class itself refuses.
    """
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in options:
        if key not in known:
            raise ValueError(f"there is no key {str(key)!r}.{suggest(str(key), known)} Remove or rename it.")
    try:
        return TypeAdapter(cls).validate_python(dict(options))
    except ValidationError as error:
        # A union complains once for each of its types; the first is enough.
        first = {item["loc"][:1]: item for item in reversed(error.errors())}
        items = [{**item, "loc": loc} for loc, item in reversed(first.items())]
        raise ValueError(" ".join(_explain(BaseModel, item) for item in items)) from error


def suggest(name: str, known: Collection[str]) -> str:
    """``" Did you mean 'x'?"``, else the known names, for the end of a message."""
    return nearest(name, known) or (f" Expected one of {list_some(sorted(known), 20)}." if known else " It takes none.")


def check_options(options: Collection[object], known: Collection[str], *, key: str) -> None:
    """Refuse keys of a free section that whatever takes them does not know."""
    unknown = [str(option) for option in options if option not in known]
    if unknown:
        raise ValueError(f"unknown key '{key}.{unknown[0]}'.{suggest(unknown[0], known)} Remove or rename it.")


_WORDS = {
    "model_type": "expected a mapping of keys",
    "dict_type": "expected a mapping of keys",
    "tuple_type": "expected a list",
    "path_type": "expected a path",
    "invalid_key": "expected a word as the key; put numbers, and words such as no and on, in quotes",
}


def _explain(model: type[BaseModel], item: Any) -> str:
    """One sentence for one of pydantic's errors."""
    location = [str(part) for part in item["loc"] if part != "[key]"]
    where, kind, found = ".".join(location), item["type"], item["input"]
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if kind == "extra_forbidden":
        known = _known_keys(model, item["loc"][:-1])
        return f"unknown key {where!r}.{suggest(location[-1], known)} Remove or rename it."
    if kind == "missing":
        return f"{where!r} is missing."
    if message.startswith("unknown key") or not where:
        return message if message.endswith((".", "?")) else f"{message}."
    if isinstance(found, dict) and kind == "value_error":
        return f"{where!r}: {message}" if message.endswith((".", "?")) else f"{where!r}: {message}."
    plain = found is None or isinstance(found, str | int | float | bool)
    shown = f"found {found!r}" if plain else f"found a {type(found).__name__}"
    return f"{where!r}: {_WORDS.get(kind, message).removesuffix('.')} ({shown})."


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys of the section at a location below a model."""
    annotation: Any = model
    for part in location:
        options = _options(annotation)
        fields = next((found for each in options if (found := _fields(each)) is not None), None)
        if fields is not None:
            annotation = fields.get(str(part))
        else:  # the values of a dict or a tuple of models
            annotation = next((typing.get_args(o)[-1 if typing.get_origin(o) is dict else 0] for o in options), None)
    return list(next((found for each in _options(annotation) if (found := _fields(each)) is not None), ()))


def _options(annotation: Any) -> list[Any]:
    """``X`` of ``X | None`` or ``X``, once more than one where there is a choice."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return [part for part in parts if part is not types.NoneType]


def _fields(annotation: Any) -> dict[str, Any] | None:
    """Key names and annotations of a model or a typed dict, else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    return dict(annotation.__annotations__) if is_typeddict(annotation) else None
