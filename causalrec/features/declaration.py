"""Declarations in YAML: where the tables are, and the features that they give."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from causalrec._schema import Section, suggest, validated
from causalrec._validation import list_some
from causalrec._yaml import at_hand, find_yaml, read_mapping
from causalrec.engines import Engine
from causalrec.exceptions import CausalRecError, ConfigError, EngineError
from causalrec.features.attributes import AttributeFeatures
from causalrec.features.calendar import CalendarFeatures
from causalrec.features.spec import Aggregation, Declaration, FeatureSet

_FOLDER = "features"  # of the configs
_ALL_TIME = "all"
# The key that tells the kind of a declaration, and what may stand beside it.
_KIND_BY_KEY = MappingProxyType(
    {"aggregations": "events", "attributes": "attributes", "tiers": "attributes", "calendar": "calendar"}
)
_BESIDE = MappingProxyType(
    {"events": ("keys", "source", "derived", "computed"), "attributes": ("keys", "source", "prefix"), "calendar": ()}
)


@dataclass(frozen=True)
class Source:
    """Where a table is: files, a table of the engine under another name, or, with neither, under this one."""

    name: str
    paths: tuple[Path, ...] = ()
    table: str | None = None

    def register(self, engine: Engine) -> None:
        """Make the table known to the engine by this name."""
        if self.paths:
            engine.register(self.name, self.paths[0] if len(self.paths) == 1 else list(self.paths))
        elif self.table is not None and self.table != self.name:
            table = ".".join(map(engine.dialect.quote, self.table.split(".")))
            engine.create_view(self.name, f"SELECT * FROM {table}")
        else:
            self._check_known(engine)

    def _check_known(self, engine: Engine) -> None:
        try:
            engine.columns(self.name)
        except EngineError as error:
            raise ConfigError(
                f"source {self.name!r} has no path, and the engine has no such table: {error} Give its path: or table:."
            ) from error


@dataclass(frozen=True)
class FeatureDeclarations:
    """What a file declares; see :func:`read_features`.

    Attributes
    ----------
    sources : mapping of str to Source
    sets : tuple of declarations
        :class:`FeatureSet`, :class:`CalendarFeatures` and :class:`AttributeFeatures`, in the file's order.
    """

    sources: Mapping[str, Source]
    sets: tuple[Declaration, ...]

    def __getitem__(self, name: str) -> Declaration:
        """A declaration by its name. Raises :class:`ConfigError` for one that is not there."""
        known = {each.name: each for each in self.sets}
        if name not in known:
            raise ConfigError(f"no features named {name!r} are declared.{suggest(name, known)}")
        return known[name]

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self.sets)

    def chosen(self, names: Collection[str] = ()) -> tuple[Declaration, ...]:
        """The declarations of these names; all of them without."""
        return tuple(self[name] for name in dict.fromkeys(names)) or self.sets

    def register(self, engine: Engine, names: Collection[str] = ()) -> None:
        """Make the tables of these declarations known to the engine; of all of them without names.

        Raises
        ------
        DatasetError, EngineError, ConfigError
            For files that are missing or cannot be read, and tables that the engine does not know.
        """
        for source in self._needed(names):
            source.register(engine)

    def paths(self, names: Collection[str] = ()) -> tuple[Path, ...]:
        """The files that these declarations read; those of all of them without names."""
        return tuple(path for source in self._needed(names) for path in source.paths)

    def _needed(self, names: Collection[str]) -> list[Source]:
        needed = (getattr(each, "source", None) for each in self.chosen(names))
        return [self.sources[name] for name in dict.fromkeys(needed) if name is not None]


def read_features(path: str | Path) -> FeatureDeclarations:
    """Read declarations from a YAML file; paths in it start from the working directory, as in configs.

    A bare name such as ``"marketplace"`` that is no file stands for a declaration that comes with causalrec.

    ``sources`` says where each table is (``path``: a Parquet or CSV file or directory, or a list of files; ``table``: a
    table that the engine knows, such as Spark's ``shop.orders``) and how its events stand in time (``time_column``,
    by default ``event_time``; ``order_by``; ``derived``). ``features`` holds declarations by name, and what stands in
    one tells its kind: ``aggregations`` (a :class:`FeatureSet`), ``attributes`` or ``tiers``
    (:class:`AttributeFeatures`), ``calendar`` (:class:`CalendarFeatures`).

    A list of windows stands for an aggregation each, ``all`` for all time; to a name of theirs the window is added.

    Raises
    ------
    ConfigError
        For a file that is missing or no YAML, a key or source that is unknown (the nearest known one is named), and
        for what the declarations themselves refuse.
    TimeError, ColumnError
        As the declarations raise them.

    Examples
    --------
    >>> import tempfile
    >>> text = '''
    ... sources:
    ...   events: {path: events.parquet}
    ... features:
    ...   customer:
    ...     keys: user_id
    ...     source: events
    ...     aggregations:
    ...       - {op: count, where: "event_type = 'click'", window: [7d, 30d], name: clicks}
    ...   when: {calendar: {parts: [hour, weekday]}}
    ... '''
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     file = Path(directory) / "features.yaml"
    ...     _ = file.write_text(text)
    ...     declared = read_features(file)
    >>> [each.feature_names for each in declared]
    [('clicks_7d', 'clicks_30d'), ('hour', 'weekday')]
    """
    file = find_yaml(Path(path), _FOLDER)
    raw = read_mapping(
        file, what="feature declarations", sections="`sources:` and `features:`", hint=lambda: at_hand(file, _FOLDER)
    )
    document = validated(_Document, raw, where=str(file))
    sources = {name: _source(name, section) for name, section in document.sources.items()}
    sets = []
    for name, section in document.features.items():
        with _located(f"{file}: features.{name}"):
            sets.append(_declaration(name, section, document.sources))
    return FeatureDeclarations(MappingProxyType(sources), tuple(sets))


def _source(name: str, section: _SourceSection) -> Source:
    return Source(name, tuple(path.expanduser() for path in section.path), section.table)


def _declaration(name: str, section: _FeaturesSection, sources: Mapping[str, _SourceSection]) -> Declaration:
    if section.calendar is not None:
        return CalendarFeatures(name, **section.calendar.model_dump())
    source_name = str(section.source)
    if source_name not in sources:
        raise ConfigError(f"there is no source {source_name!r}.{suggest(source_name, sources)}")
    source = sources[source_name]
    if section.kinds == {"attributes"}:
        return AttributeFeatures(
            name=name,
            keys=section.keys,
            source=source_name,
            columns=section.attributes,
            tiers=section.tiers,
            prefix=section.prefix,
        )
    return FeatureSet(
        name=name,
        keys=section.keys,
        source=source_name,
        time_column=source.time_column,
        aggregations=tuple(each for one in section.aggregations for each in one.aggregations()),
        order_by=source.order_by,
        derived={**source.derived, **section.derived},
        computed=section.computed,
    )


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Say of an error where in the file it arose."""
    try:
        yield
    except CausalRecError as error:
        raise type(error)(f"{where}: {error}") from error


def _listed(value: object) -> object:
    """One entry as a list of one."""
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _SourceSection(Section):
    path: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = ()
    table: str | None = None
    time_column: str = "event_time"
    order_by: Texts = ()
    derived: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_in_one_place(self) -> _SourceSection:
        if self.path and self.table is not None:
            raise ValueError("path and table are both given; a source is in one place. Drop one of them")
        return self


class _AggregationSection(Section):
    op: str
    column: str | None = None
    window: Texts = (_ALL_TIME,)
    where: str | None = None
    name: str | None = None

    def aggregations(self) -> Iterator[Aggregation]:
        """An aggregation for each window."""
        for window in self.window:
            name = f"{self.name}_{window}" if self.name and len(self.window) > 1 else self.name
            length = None if window == _ALL_TIME else window
            yield Aggregation(self.op, self.column, length, self.where, name)


class _CalendarSection(Section):
    parts: Texts = ()
    holidays: tuple[Any, ...] = ()
    time_zone: str = "UTC"
    hemisphere: str = "north"
    prefix: str = ""


class _FeaturesSection(Section):
    keys: Texts = ()
    source: str | None = None
    aggregations: tuple[_AggregationSection, ...] = ()
    derived: dict[str, str] = Field(default_factory=dict)
    computed: dict[str, str] = Field(default_factory=dict)
    attributes: Texts = ()
    tiers: dict[str, Any] = Field(default_factory=dict)
    prefix: str = ""
    calendar: _CalendarSection | None = None

    @property
    def kinds(self) -> set[str]:
        """The kinds of declaration that the keys given speak of."""
        return {_KIND_BY_KEY[key] for key in self.model_fields_set if key in _KIND_BY_KEY}

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> _FeaturesSection:
        if len(self.kinds) != 1:
            found = [key for key in _KIND_BY_KEY if key in self.model_fields_set]
            raise ValueError(
                f"expected one of aggregations, attributes (or tiers) and calendar; found {list_some(found) or 'none'}"
            )
        (kind,) = self.kinds
        allowed = [*_BESIDE[kind], *(key for key, of in _KIND_BY_KEY.items() if of == kind)]
        stray = sorted(self.model_fields_set - set(allowed))
        if stray:
            raise ValueError(f"{stray[0]!r} has no place here; features of {kind} take {list_some(allowed)}")
        if kind == "calendar" and self.calendar is None:
            raise ValueError("calendar is empty; write calendar: {} for its usual parts")
        if kind != "calendar" and not (self.keys and self.source):
            raise ValueError("keys and source are needed: whose features they are, and the table that has them")
        return self


class _Document(Section):
    sources: dict[str, _SourceSection] = Field(default_factory=dict)
    features: Annotated[dict[str, _FeaturesSection], Field(min_length=1)]
