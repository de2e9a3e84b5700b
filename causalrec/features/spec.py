"""What a feature is: a frozen declaration, hashed by content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol, Self

from causalrec._validation import list_some, nearest
from causalrec.exceptions import ColumnError, ConfigError, TimeError

OPERATIONS = ("count", "sum", "mean", "min", "max", "first", "last", "n_unique", "recency", "std")
OUTCOME_OPERATIONS = ("count", "sum", "mean", "min", "max", "n_unique")
_NO_COLUMN = ("count", "recency")
_CALLED_ELSEWHERE = {"avg": "mean", "average": "mean", "stddev": "std", "nunique": "n_unique", "distinct": "n_unique"}
_LONGEST = 2**62  # beyond it t - w leaves 64 bits
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_window(window: str) -> int:
    """Length of a window in microseconds.

    Raises
    ------
    TimeError
        For anything but a positive whole number and one of s, m, h, d, w; or beyond 146,000 years.

    Examples
    --------
    >>> parse_window("30d")
    2592000000000
    """
    match = re.fullmatch(r"([0-9]+)([smhdw])", str(window))
    if not match or int(match[1]) == 0:
        raise TimeError(f"window is {window!r}; expected a positive whole number and a unit s, m, h, d or w, as '30d'.")
    length = int(match[1]) * _UNITS[match[2]] * 1_000_000
    if length > _LONGEST:
        raise TimeError(f"window {window!r} is longer than 64 bits of microseconds; leave it out for all time.")
    return length


def check_name(name: str) -> None:
    """Raise :class:`ConfigError` unless a declaration's name can name a directory."""
    if not re.fullmatch(r"[^\W_][\w\- ]*", str(name)):
        raise ConfigError(f"feature set name {name!r}: expected letters, digits, '_' and '-': it names a directory.")


def check_feature_names(names: Sequence[str], *, where: str) -> None:
    """Raise :class:`ConfigError` where features cannot be told apart, or from the columns that queries use inside."""
    inside = [name for name in names if name.startswith("__")]
    if inside:
        raise ConfigError(
            f"{where}: the name {inside[0]!r} starts with '__', as columns of the queries do; take another."
        )
    labels = [name.lower() for name in names]
    doubled = sorted({x for x in labels if labels.count(x) > 1})
    if doubled:
        raise ConfigError(
            f"{where}: the name {doubled[0]!r} appears twice (SQL does not tell upper and lower case apart); give "
            "name= to one of them."
        )


def as_tuple(values: Any, *, where: str) -> tuple[Any, ...]:
    """A sequence as a tuple; a text, which is a sequence of letters, is refused with :class:`ConfigError`."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{where} is {values!r}; expected a tuple.")
    return tuple(values)


def _sql_by_name(values: Any, *, where: str) -> dict[str, str]:
    """A mapping of names to SQL, copied; :class:`ConfigError` for anything else."""
    texts = isinstance(values, Mapping) and all(
        isinstance(text, str) and text.strip() for text in (*values.keys(), *values.values())
    )
    if not texts:
        raise ConfigError(f'{where} is {values!r}; expected names and the SQL of each, as {{"amount": "price * n"}}.')
    return dict(values)


def content_hash(values: Mapping[str, Any]) -> str:
    """sha256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Declaration(Protocol):
    """What every kind of declaration has: :class:`FeatureSet`, or features of the calendar or of attributes."""

    @property
    def name(self) -> str:
        """What it is called; it names a directory too."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that the spine must have beside its time; none where all rows of a time are alike."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column names in order."""

    @property
    def spec_hash(self) -> str:
        """sha256 of the declaration: any change of meaning changes it."""

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain values."""


@dataclass(frozen=True)
class PlainDeclaration:
    """A declaration to plain values and back, and the hash of these."""

    kind: ClassVar[str]

    @property
    def spec_hash(self) -> str:
        """sha256 of the declaration: any change of meaning changes it."""
        return content_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain values."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values, as read from JSON. Raises :class:`ConfigError` for unknown keys."""
        try:
            return cls(**{key: value for key, value in cls._parsed(values).items() if key != "kind"})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{cls.kind} features cannot be built from {dict(values)!r}: {error}.") from error

    @classmethod
    def _parsed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return values


@dataclass(frozen=True)
class Aggregation:
    """One windowed aggregate of events, such as purchases of the last 30 days.

    ===============  =======================================================================================
    count            events, or those where the condition holds; 0 without any
    sum              of the values that are not null; 0 without any
    mean, min, max   of the values that are not null; null without any
    std              of a sample, with n - 1; null below two values
    first, last      the earliest and the latest value that is not null, by time; null without any
    n_unique         distinct values, null not among them; 0 without any
    recency          days, with their fraction, since the latest event (where the condition holds); null without
    ===============  =======================================================================================

    A sum of integers is an integer; where one leaves 64 bits, the query fails with an error that names the feature: sum
    a derived column ``CAST(x AS DOUBLE)`` then. A mean is a float and has no such bounds.

    Parameters
    ----------
    op : one of count, sum, mean, min, max, first, last, n_unique, recency, std
    column : str, optional
        Column of the events; none for count and recency.
    window : str, optional
        ``"30d"``, ``"90m"``, …; all time without it.
    where : str, optional
        SQL condition on the columns of the events; of SQL that every engine you use understands.
    name : str, optional
        Name of the feature; made from the rest by default.

    Examples
    --------
    >>> Aggregation("sum", "revenue", "30d").label
    'revenue_sum_30d'
    """

    op: str
    column: str | None = None
    window: str | None = None
    where: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.op not in OPERATIONS:
            meant = _CALLED_ELSEWHERE.get(str(self.op).lower(), str(self.op))
            raise ConfigError(
                f"op is {self.op!r}; expected one of {list_some(OPERATIONS, 20)}.{nearest(meant, OPERATIONS)}"
            )
        if (self.column is None) != (self.op in _NO_COLUMN):
            needs = "takes no column" if self.op in _NO_COLUMN else "needs a column"
            raise ColumnError(f"op {self.op!r} {needs}; found column={self.column!r}.")
        if self.window is not None:
            parse_window(self.window)

    @property
    def label(self) -> str:
        """The feature's column name."""
        if self.name:
            return self.name
        condition = re.sub(r"\W+", "_", self.where).strip("_").lower() if self.where else None
        parts = (self.column or "events", self.op, self.window or "all", condition)
        return "_".join(p for p in parts if p)


@dataclass(frozen=True)
class FeatureSet(PlainDeclaration):
    """Aggregates of one event table by the same keys; see :class:`causalrec.features.FeatureStore`.

    Parameters
    ----------
    name : str
        Names a directory too.
    keys : tuple of str
        Columns whose events belong together.
    source : str
        The event table, by the name under which the engine knows it.
    time_column : str
        When an event happened.
    aggregations : tuple of Aggregation
    order_by : tuple of str, optional
        Breaks ties between events of equal time for first and last (nulls come first); the other columns break what
        ties remain, so that a result does not depend on the order of rows. First and last skip nulls.
    derived : mapping of str to str, optional
        Columns made from those of the events by SQL, to be used like them: ``{"amount": "price * quantity"}``.
    computed : mapping of str to str, optional
        Features made from the aggregations by SQL: ``{"ctr": "clicks / NULLIF(views, 0)"}``.

    Raises
    ------
    ConfigError
        For a name that is no plain directory name, no keys or aggregations, names of features that appear twice.

    Examples
    --------
    >>> FeatureSet("user", ("user_id",), "events", "event_time", (Aggregation("count", window="3d"),)).feature_names
    ('events_count_3d',)
    """

    kind: ClassVar[str] = "events"

    name: str
    keys: tuple[str, ...]
    source: str
    time_column: str
    aggregations: tuple[Aggregation, ...]
    order_by: tuple[str, ...] = field(default=())
    # A mapping has no hash; two sets that differ only here are told apart by ==.
    derived: Mapping[str, str] = field(default_factory=dict, hash=False)
    computed: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        for part in ("keys", "aggregations", "order_by"):
            object.__setattr__(self, part, as_tuple(getattr(self, part), where=f"feature set {self.name!r}: {part}"))
        if not self.keys or not self.aggregations:
            raise ConfigError(f"feature set {self.name!r} needs at least one key and one aggregation.")
        for part in ("derived", "computed"):
            object.__setattr__(
                self, part, _sql_by_name(getattr(self, part), where=f"feature set {self.name!r}: {part}")
            )
        check_feature_names(self.feature_names, where=f"feature set {self.name!r}")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column names in order: the aggregations, then what is computed from them."""
        return (*(a.label for a in self.aggregations), *self.computed)

    @classmethod
    def _parsed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, "aggregations": tuple(Aggregation(**a) for a in values["aggregations"])}
