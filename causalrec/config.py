"""One YAML per run, turned into a frozen and validated :class:`RunConfig`.

Unknown keys are refused and the nearest known key is named. ``--set a.b=value``
on the command line replaces single keys before validation.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from causalrec._validation import nearest
from causalrec.exceptions import ConfigError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Window = Annotated[str, Field(pattern=r"^\d+(s|m|h|d|w)$")]
Operation = Literal["count", "sum", "mean", "min", "max", "first", "last", "n_unique", "recency", "std"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineConfig(_Section):
    """Where tables are read and features computed."""

    name: Literal["local", "spark"] = "local"
    options: dict[str, Any] = Field(default_factory=dict)


class TrackingConfig(_Section):
    """Where runs are recorded; the experiment is named after the config unless said otherwise."""

    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None


class DataConfig(_Section):
    """The tables of a run: the simulated marketplace, a public data set by name, or the user's files."""

    source: str = "marketplace"
    path: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    tables: dict[str, Path] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tables_belong_to_files(self) -> DataConfig:
        if bool(self.tables) != (self.source == "files"):
            raise ValueError("give data.tables (name: path) with data.source: files, and only then")
        return self


class EventsConfig(_Section):
    """The event log and its columns."""

    table: str = "events"
    user: str = "user_id"
    item: str = "item_id"
    time: str = "event_time"
    event_type: str = "event_type"


class AggregationConfig(_Section):
    """One windowed feature; see :class:`causalrec.features.Aggregation`."""

    op: Operation
    column: str | None = None
    window: Window | None = None
    where: str | None = None
    name: str | None = None


class FeaturesConfig(_Section):
    """Features by entity, all as of the time they are asked, and where they are kept."""

    directory: Path = Path("feature_store")
    user: tuple[AggregationConfig, ...] = ()
    item: tuple[AggregationConfig, ...] = ()
    user_item: tuple[AggregationConfig, ...] = ()


class OutcomeConfig(_Section):
    """An outcome: a column of the table, or an aggregate of the events in ``[time, time + window)``.

    ``kind: proportion`` is a 0/1 outcome; of an aggregate it says whether it is above zero.
    """

    kind: Literal["proportion", "mean"]
    column: str | None = None
    op: Literal["count", "sum", "mean", "min", "max", "n_unique"] | None = None
    window: Window | None = None
    where: str | None = None
    truth: str | None = None

    @model_validator(mode="after")
    def _window_needs_op(self) -> OutcomeConfig:
        if (self.op is None) != (self.window is None):
            raise ValueError("an outcome from events needs both op and window; one from a column neither")
        return self


class DesignConfig(_Section):
    """Units, who was treated, and what came of it: an experiment or a campaign."""

    table: str
    unit: str
    treatment: str
    control: str | int
    treated: str | int | None = None
    time: str | None = None
    join: str | None = None
    outcomes: dict[str, OutcomeConfig] = Field(min_length=1)
    covariates: tuple[str, ...] = ()
    use_features: bool = True
    randomised: bool
    expected_share: Fraction | None = None
    on_conflict: Literal["raise", "drop"] = "raise"


class SplitConfig(_Section):
    """How many units are held out, by a hash of their id."""

    test_share: Fraction = 0.3
    folds: Annotated[int, Field(ge=2, le=20)] = 3


class RankerConfig(_Section):
    """The ranker: candidates, time split and XGBoost settings."""

    enabled: bool = True
    k: Annotated[int, Field(ge=1)] = 10
    horizon: Window = "7d"
    train_cutoffs: Annotated[int, Field(ge=1)] = 3
    popularity_window: Window = "7d"
    target: Literal["any", "purchase"] = "any"
    candidates: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class UpliftConfig(_Section):
    """The uplift model: which outcome of the experiment, and XGBoost settings."""

    enabled: bool = True
    outcome: str | None = None
    top_share: Fraction = 0.1
    params: dict[str, Any] = Field(default_factory=dict)


class AverageEffectConfig(_Section):
    """The average effect of the campaign, or of the experiment where there is no campaign."""

    enabled: bool = True
    outcome: str | None = None
    estimand: Literal["ate", "att", "atc"] = "ate"
    method: Literal["propensity_matching", "doubly_robust", "difference_in_means"] | None = None
    cross_check: bool = True
    n_placebo: Annotated[int, Field(ge=20)] = 100


class ABTestConfig(_Section):
    """The A/B test of the experiment."""

    enabled: bool = True
    metrics: tuple[str, ...] | None = None
    srm_threshold: Fraction = 0.001


class RunConfig(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 7
    confidence_level: Fraction = 0.95
    output_dir: Path = Path("runs")
    engine: EngineConfig = EngineConfig()
    tracking: TrackingConfig = TrackingConfig()
    data: DataConfig = DataConfig()
    events: EventsConfig | None = None
    features: FeaturesConfig = FeaturesConfig()
    experiment: DesignConfig | None = None
    campaign: DesignConfig | None = None
    split: SplitConfig = SplitConfig()
    ranker: RankerConfig = RankerConfig()
    uplift: UpliftConfig = UpliftConfig()
    average_effect: AverageEffectConfig = AverageEffectConfig()
    abtest: ABTestConfig = ABTestConfig()

    @model_validator(mode="after")
    def _outcomes_exist(self) -> RunConfig:
        for design, wanted, key in (
            (self.experiment, [self.uplift.outcome], "uplift.outcome"),
            (self.experiment, list(self.abtest.metrics or ()), "abtest.metrics"),
            (self.campaign or self.experiment, [self.average_effect.outcome], "average_effect.outcome"),
        ):
            unknown = [name for name in wanted if design is not None and name and name not in design.outcomes]
            if unknown and design is not None:
                hint = nearest(unknown[0], design.outcomes)
                raise ValueError(f"{key} names {unknown[0]!r}, not an outcome of its table.{hint}")
        return self

    def to_yaml(self) -> str:
        """The resolved config as YAML, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, replace the keys given as ``a.b=value``, and validate.

    Raises
    ------
    ConfigError
        When the file is missing or not YAML, a key is unknown (with the nearest known
        one), or a value is not allowed (with what is).
    """
    file = Path(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        beside = sorted(p.as_posix() for p in Path("configs").glob("*.yaml"))
        hint = f" Those at hand: {', '.join(beside)}." if beside else ""
        raise ConfigError(f"config file {file} does not exist; expected a YAML file.{hint}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"config file {file} cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"config file {file} holds {type(raw).__name__}; expected a mapping of sections.")
    for override in overrides:
        _apply_override(raw, override)
    return parse_config(raw, where=str(file))


def parse_config(raw: Mapping[str, Any], *, where: str = "config") -> RunConfig:
    """Validate a mapping; see :func:`load_config`."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override!r} is not of the form key=value, such as --set data.options.n_users=50000.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value cannot be read as YAML: {error}") from error
    node = raw
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {part!r} is a single value, it has no keys below it.")
        node = child
    node[parts[-1]] = value


def _explain(item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    where = ".".join(location)
    message = item["msg"].removeprefix("Value error, ")
    if not where:
        return message
    if item["type"] == "extra_forbidden":
        return f"unknown key {where!r}.{nearest(location[-1], _known_keys(item['loc'][:-1]))} Remove or rename it."
    if item["type"] == "missing":
        return f"{where!r} is missing"
    found = item["input"]
    shown = f" (found {found!r})" if isinstance(found, str | int | float | bool) else ""
    return f"{where!r}: {message}{shown}"


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """The keys of the section at a location, found by walking the models."""
    annotation: Any = RunConfig
    for part in location:
        model = _model_in(annotation)
        if model is not None and isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
    model = _model_in(annotation)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``Model``, ``Model | None``, ``tuple[Model, ...]`` or ``dict[str, Model]``."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for arg in typing.get_args(annotation) if (m := _model_in(arg)) is not None), None)
