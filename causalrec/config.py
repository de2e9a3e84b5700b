"""One YAML per run, turned into a frozen and validated :class:`RunConfig`.

Unknown keys are refused at every depth and the nearest known key is named. ``--set a.b=value``
on the command line replaces single keys before validation.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict, is_typeddict  # pydantic takes that of typing only from Python 3.12 on

from causalrec._validation import list_some, nearest
from causalrec._yaml import Dumper, Loader, overridden, yaml_problem
from causalrec.datasets import list_datasets, simulate_marketplace
from causalrec.engines import LocalEngine, SparkEngine
from causalrec.exceptions import ConfigError
from causalrec.features import Aggregation, CandidateSpec, parse_window

# Inside an installed package; in a checkout beside it.
_SHIPPED = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
Operation = Literal["count", "sum", "mean", "min", "max", "first", "last", "n_unique", "recency", "std"]


def _window(text: str) -> str:
    parse_window(text)
    return text


def _arm(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("expected the name or the number of an arm; put words such as no and on, and dates, in quotes")
    return value


def _check_options(options: Collection[object], known: Collection[str], *, key: str) -> None:
    """Refuse keys of a free section that whatever takes them does not know."""
    unknown = [str(option) for option in options if option not in known]
    if unknown:
        raise ValueError(f"unknown key '{key}.{unknown[0]}'.{_expected(unknown[0], known)} Remove or rename it.")


def _expected(name: str, known: Collection[str]) -> str:
    return nearest(name, known) or (f" Expected one of {list_some(sorted(known), 20)}." if known else " It takes none.")


Fraction = Annotated[float, Field(gt=0, lt=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Window = Annotated[str, AfterValidator(_window)]
Arm = Annotated[str | int, BeforeValidator(_arm)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineConfig(_Section):
    """Where tables are read and features computed."""

    name: Literal["local", "spark"] = "local"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_are_known(self) -> EngineConfig:
        engine = {"local": LocalEngine, "spark": SparkEngine}[self.name]
        _check_options(self.options, inspect.signature(engine).parameters, key="engine.options")
        return self


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

    @model_validator(mode="after")
    def _source_and_options_are_known(self) -> DataConfig:
        known = ["marketplace", "files", *list_datasets()]
        if self.source not in known:
            raise ValueError(f"there is no source {self.source!r}.{_expected(self.source, known)}")
        if self.source == "marketplace":
            _check_options(self.options, inspect.signature(simulate_marketplace).parameters, key="data.options")
        if self.source == "files":
            _check_options(self.options, (), key="data.options")
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

    @model_validator(mode="after")
    def _can_be_computed(self) -> AggregationConfig:
        Aggregation(**self.model_dump())
        return self


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
        if self.op is not None:
            Aggregation(self.op, self.column, self.window, self.where)
        elif self.where is not None:
            raise ValueError("where applies to an outcome from events; it needs op and window")
        return self


class DesignConfig(_Section):
    """Units, who was treated, and what came of it: an experiment or a campaign."""

    table: str
    unit: str
    treatment: str
    control: Arm
    treated: Arm | None = None
    time: str | None = None
    join: str | None = None
    outcomes: dict[str, OutcomeConfig] = Field(min_length=1)
    covariates: tuple[str, ...] = ()
    use_features: bool = True
    randomised: bool
    expected_share: Fraction | None = None
    on_conflict: Literal["raise", "drop"] = "raise"

    @model_validator(mode="after")
    def _roles_differ(self) -> DesignConfig:
        if self.treated is not None and self.treated == self.control:
            raise ValueError(f"treated and control are both {self.control!r}; an effect needs two arms")
        columns = {outcome.column or name for name, outcome in self.outcomes.items() if outcome.op is None}
        for role, taken in (("unit", {self.unit}), ("treatment", {self.treatment}), ("outcome", columns)):
            both = sorted(taken.intersection(self.covariates))
            if both:
                raise ValueError(f"covariates hold {both[0]!r}, which is the {role}; covariates are what came before")
        return self


class SplitConfig(_Section):
    """Shares of units by a hash of their id: held out from training, and, of the others, those that judge it."""

    test_share: Fraction = 0.3
    validation_share: Fraction = 0.3


@with_config(ConfigDict(extra="forbid"))
class UpliftParams(TypedDict, total=False):
    """Settings of :class:`causalrec.uplift.TLearner`."""

    n_estimators: Positive
    max_depth: Natural
    learning_rate: Annotated[float, Field(gt=0)]
    min_child_weight: Annotated[float, Field(ge=0)]
    n_jobs: Annotated[int, Field(strict=True, ge=-1)]


@with_config(ConfigDict(extra="forbid"))
class RankerParams(UpliftParams, total=False):
    """Settings of :class:`causalrec.ranking.Ranker`."""

    early_stopping_rounds: Positive


class RankerConfig(_Section):
    """The ranker: candidates, time split and XGBoost settings."""

    enabled: bool = True
    k: Positive = 10
    horizon: Window = "7d"
    train_cutoffs: Positive = 3
    popularity_window: Window = "7d"
    target: Literal["any", "purchase"] = "any"
    candidates: dict[str, Any] = Field(default_factory=dict)
    params: RankerParams = Field(default_factory=RankerParams)

    @model_validator(mode="after")
    def _candidates_are_known(self) -> RankerConfig:
        known = set(CandidateSpec.__dataclass_fields__) - {"horizon"}  # ranker.horizon, which spaces the cutoffs too
        _check_options(self.candidates, known, key="ranker.candidates")
        return self


class UpliftConfig(_Section):
    """The uplift model: which outcome of the experiment, and XGBoost settings."""

    enabled: bool = True
    outcome: str | None = None
    top_share: Fraction = 0.1
    params: UpliftParams = Field(default_factory=UpliftParams)


class AverageEffectConfig(_Section):
    """The average effect of the campaign, or of the experiment where there is no campaign."""

    enabled: bool = True
    outcome: str | None = None
    estimand: Literal["ate", "att", "atc"] = "ate"
    method: Literal["propensity_matching", "doubly_robust", "difference_in_means"] | None = None
    cross_check: bool = True
    n_placebo: Annotated[int, Field(strict=True, ge=20)] = 100


class ABTestConfig(_Section):
    """The A/B test of the experiment."""

    enabled: bool = True
    metrics: tuple[str, ...] | None = None
    srm_threshold: Fraction = 0.001


class RunConfig(_Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    description: str = ""
    seed: Natural = 7
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
                raise ValueError(
                    f"{key} names {unknown[0]!r}, not an outcome of its table.{_expected(unknown[0], design.outcomes)}"
                )
        return self

    def to_yaml(self) -> str:
        """The resolved config as YAML, every default written out; :func:`load_config` reads it back unchanged."""
        return str(yaml.dump(self.model_dump(mode="json"), Dumper=Dumper, sort_keys=False, allow_unicode=True))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, replace the keys given as ``a.b=value``, and validate.

    A bare name such as ``"hillstrom"`` that is no file stands for a config that comes with causalrec. Values of
    overrides are YAML: ``split.test_share=0.2``, ``abtest.metrics=[visit, spend]``, ``campaign=null``,
    ``experiment.control="no"``. A number picks an entry of a list: ``features.user.0.window=3d``.

    Raises
    ------
    ConfigError
        When the file is missing or not YAML, a key is unknown (with the nearest known
        one) or given twice, or a value is not allowed (with what is).
    """
    file = _find(Path(path))
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)
    except (FileNotFoundError, IsADirectoryError) as error:
        found = "is a directory" if file.is_dir() else "does not exist"
        places = dict.fromkeys([Path("configs"), file if file.is_dir() else file.parent])
        beside = [p.as_posix() for place in places for p in sorted(place.glob("*.yaml"))]
        beside += sorted({p.stem for place in _SHIPPED for p in place.glob("*.yaml")} - {Path(b).stem for b in beside})
        hint = f" Those at hand: {', '.join(dict.fromkeys(beside))}." if beside else ""
        raise ConfigError(f"config file {file} {found}; expected a YAML file.{hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {file} cannot be read: {error}. Expected a YAML file in UTF-8.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {file} cannot be read as YAML: {yaml_problem(error)}.") from error
    if not isinstance(raw, dict):
        found = "is empty" if raw is None else f"holds a {type(raw).__name__}"
        raise ConfigError(f"config file {file} {found}; expected a mapping of sections such as `name:` and `data:`.")
    for override in overrides:
        raw = overridden(raw, override)
    return parse_config(raw, where=str(file))


def _find(path: Path) -> Path:
    """A path as it is; a bare name that is no file stands for a config that comes with causalrec."""
    if path.exists() or path.parent != Path() or path.suffix:
        return path
    places = (Path("configs"), *_SHIPPED)
    return next((file for place in places if (file := place / f"{path}.yaml").is_file()), path)


def parse_config(raw: Mapping[str, Any], *, where: str = "config") -> RunConfig:
    """Validate a mapping; see :func:`load_config`."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(f"{where}: {' '.join(lines)}") from error


_WORDS = {
    "model_type": "expected a mapping of keys",
    "dict_type": "expected a mapping of keys",
    "tuple_type": "expected a list",
    "path_type": "expected a path",
    "invalid_key": "expected a word as the key; put numbers, and words such as no and on, in quotes",
}


def _explain(item: Any) -> str:
    """One sentence for one of pydantic's errors."""
    location = [str(part) for part in item["loc"] if part != "[key]"]
    where, kind, found = ".".join(location), item["type"], item["input"]
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if kind == "extra_forbidden":
        return f"unknown key {where!r}.{_expected(location[-1], _known_keys(item['loc'][:-1]))} Remove or rename it."
    if kind == "missing":
        return f"{where!r} is missing."
    if message.startswith("unknown key") or not where:
        return message if message.endswith((".", "?")) else f"{message}."
    if isinstance(found, dict) and kind == "value_error":
        return f"{where!r}: {message}" if message.endswith((".", "?")) else f"{where!r}: {message}."
    plain = found is None or isinstance(found, str | int | float | bool)
    shown = f"found {found!r}" if plain else f"found a {type(found).__name__}"
    return f"{where!r}: {_WORDS.get(kind, message).removesuffix('.')} ({shown})."


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """The keys of the section at a location, found by walking the models."""
    annotation: Any = RunConfig
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
