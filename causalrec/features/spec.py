"""What a feature is: a frozen declaration, hashed by content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from causalrec._validation import list_some, nearest
from causalrec.exceptions import ColumnError, ConfigError, TimeError

OPERATIONS = ("count", "sum", "mean", "min", "max", "first", "last", "n_unique", "recency", "std")
OUTCOME_OPERATIONS = ("count", "sum", "mean", "min", "max", "n_unique")
_NO_COLUMN = ("count", "recency")
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
    match = re.fullmatch(r"(\d+)([smhdw])", str(window))
    if not match or int(match[1]) == 0:
        raise TimeError(f"window is {window!r}; expected a positive whole number and a unit s, m, h, d or w, as '30d'.")
    length = int(match[1]) * _UNITS[match[2]] * 1_000_000
    if length > _LONGEST:
        raise TimeError(f"window {window!r} is longer than 64 bits of microseconds; leave it out for all time.")
    return length


@dataclass(frozen=True)
class Aggregation:
    """One windowed aggregate of events, such as purchases of the last 30 days.

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
            raise ConfigError(
                f"op is {self.op!r}; expected one of {list_some(OPERATIONS, 20)}.{nearest(self.op, OPERATIONS)}"
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
class FeatureSet:
    """Aggregates of one event table by the same keys; see :class:`causalrec.features.FeatureStore`.

    ``order_by`` breaks ties between events of equal time for first and last (nulls come first); the other columns
    break what ties remain, so that a result does not depend on the order of rows. First and last skip nulls.

    Raises
    ------
    ConfigError
        For a name that is no plain directory name, no keys or aggregations, names of features that appear twice.

    Examples
    --------
    >>> FeatureSet("user", ("user_id",), "events", "event_time", (Aggregation("count", window="3d"),)).feature_names
    ('events_count_3d',)
    """

    name: str
    keys: tuple[str, ...]
    source: str
    time_column: str
    aggregations: tuple[Aggregation, ...]
    order_by: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for part in ("keys", "aggregations", "order_by"):
            values = getattr(self, part)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise ConfigError(f"feature set {self.name!r}: {part} is {values!r}; expected a tuple.")
            object.__setattr__(self, part, tuple(values))
        if not re.fullmatch(r"[^\W_][\w\- ]*", self.name):
            raise ConfigError(
                f"feature set name {self.name!r}: expected letters, digits, '_' and '-': it names a directory."
            )
        if not self.keys or not self.aggregations:
            raise ConfigError(f"feature set {self.name!r} needs at least one key and one aggregation.")
        labels = [a.label.lower() for a in self.aggregations]
        doubled = sorted({x for x in labels if labels.count(x) > 1})
        if doubled:
            raise ConfigError(
                f"feature set {self.name!r}: the name {doubled[0]!r} appears twice (SQL does not tell upper and lower "
                "case apart); give name= to one of them."
            )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(a.label for a in self.aggregations)

    @property
    def spec_hash(self) -> str:
        """sha256 of the declaration: any change of meaning changes it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The declaration as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSet:
        """Build from plain values, as read from YAML or JSON. Raises :class:`ConfigError` for unknown keys."""
        try:
            aggregations = tuple(Aggregation(**a) for a in values["aggregations"])
            return cls(**{**values, "aggregations": aggregations})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"a feature set cannot be built from {values!r}: {error}.") from error
